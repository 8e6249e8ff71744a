"""The slides: one self-contained page from the cells of the masters that are marked as slides. It needs no network and no script of others."""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt

from braintransfer.course.copies import drawing, masters, tags, with_pictures

STYLE = """
html { scroll-snap-type: y mandatory; font: 1.35rem/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { margin: 0; }
section { box-sizing: border-box; min-height: 100vh; padding: 5vh 8vw; scroll-snap-align: start; display: flex; flex-direction: column;
  justify-content: center; border-bottom: 1px solid #ddd; }
section > * { max-width: 60rem; margin-block: .35em; }
h1 { font-size: 2.4rem; color: #0b4f6c; } h2 { font-size: 2rem; color: #0b4f6c; } h3 { font-size: 1.6rem; color: #8a3b00; }
section.exercise { background: #fdf6ee; font-size: 1.15rem; }
img { max-height: 48vh; max-width: 100%; object-fit: contain; align-self: flex-start; background: #fff; }
code { background: #f1f1f1; padding: 0 .2em; overflow-wrap: anywhere; } pre { background: #f1f1f1; padding: .6em; overflow: auto; }
footer { font-size: .8rem; color: #555; }
@media print { html { font-size: 13pt; } section { page-break-after: always; min-height: auto; border: 0; } img { max-height: 9cm; } }
@page { size: A4 landscape; margin: 1cm; }
"""
#: Arrow keys and space go one slide on or back; without it the wheel and the page keys do.
SCRIPT = """
addEventListener("keydown", event => {
  const step = {ArrowRight: 1, ArrowDown: 1, " ": 1, PageDown: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1}[event.key];
  if (!step) return;
  const slides = [...document.querySelectorAll("section")];
  const here = slides.findIndex(s => s.getBoundingClientRect().bottom > innerHeight / 3);
  const next = slides[here + step];
  if (next) { event.preventDefault(); next.scrollIntoView(); }
});
"""
FOOTER = "For teaching and research. Not for clinical use. Brains in Labs 1 to 3 are simulated."

#: Below each exercise: a slide has no room for what the cells before it print and draw.
ELSEWHERE = '<p><em>What this exercise points to (a picture, "above", a table, a cell) is in the notebook.</em></p>\n'


def _inside(name: str) -> str:
    """A drawing's PNG as an address that holds the picture itself."""
    return f"data:image/png;base64,{base64.b64encode(drawing(name).png()).decode()}"


def deck(root: Path, title: str = "Transfer learning on brain MRI: two lessons") -> str:
    """The slides of all masters as one HTML page."""
    # HTML inside a master is shown as text; a picture's data may stand in its address
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.validateLink = lambda url: True  # type: ignore[method-assign]
    slides = []
    for master in masters(root):
        for cell in nbformat.read(master, as_version=4).cells:
            if cell.metadata.get("slideshow", {}).get("slide_type") == "slide":
                kind = ' class="exercise"' if "exercise" in tags(cell) else ""
                body = markdown.render(with_pictures(_plain_formulas(cell.source), _inside))
                body += ELSEWHERE if kind else ""
                slides.append(f"<section{kind}>\n{body}<footer>{escape(FOOTER)}</footer>\n</section>")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{chr(10).join(slides)}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _plain_formulas(text: str) -> str:
    """Displayed formulas go: the sentence above each says the same, and a script for formulas would come from elsewhere."""
    return re.sub(r"\$\$.+?\$\$\n*", "", text, flags=re.DOTALL)
