"""The built book as one PDF: its pages one after another in one file, printed by a headless Chromium."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

#: Names under which a browser that prints may be installed.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: The one file that is printed, in the folder of the book while it is printed: its pictures are found from there.
ONE_FILE = "book-to-print.html"

_TAG = re.compile(r"<[a-zA-Z][^<>]*>")
_ADDRESS = re.compile(r'(\s)(href|src)="([^"]*)"')
_ID = re.compile(r'(\sid=")([^"]+)"')
#: In the list of pages at the side: the name of a part, or a page with its depth, address and title.
_LISTED = re.compile(
    r'<span class="caption-text">(?P<part>.*?)</span>'
    r'|<li class="toctree-l(?P<depth>\d)[^"]*"><a class="reference internal" href="(?P<page>[^"#]+)\.html">(?P<title>.*?)</a>',
    re.S,
)
_NOT_PRINTED = re.compile(r'<a class="headerlink".*?</a>|<script\b.*?</script>', re.S)


def _anchor(page: str, part: str = "") -> str:
    return f"{page.replace('/', '--')}{f'--{part}' if part else ''}"


def _article(html: Path, page: str, pages: Sequence[str]) -> str:
    """The text of a built page with addresses as seen from the book's first folder and names that no other page has."""
    text = (html / f"{page}.html").read_text(encoding="utf-8")
    found = re.search(r'<article class="bd-article">(.*?)</article>', text, re.S)
    body = _NOT_PRINTED.sub("", found[1] if found else "")
    folder = posixpath.dirname(page)

    def address(match: re.Match[str]) -> str:
        before, name, value = match.groups()
        if re.match(r"[a-z]+:|//", value):
            return match[0]
        path, _, part = value.partition("#")
        full = posixpath.normpath(posixpath.join(folder, path)) if path else f"{page}.html"
        if name == "href" and full.endswith(".html") and full.removesuffix(".html") in pages:
            return f'{before}href="#{_anchor(full.removesuffix(".html"), part)}"'
        return f'{before}{name}="{full}"'

    def tag(match: re.Match[str]) -> str:
        named = _ID.sub(lambda m: f'{m[1]}{_anchor(page, m[2])}"', match[0])
        opened = re.sub(r"^<details(?! open)", "<details open", named)  # what is folded on the screen
        return _ADDRESS.sub(address, opened).replace(' loading="lazy"', "")

    return f'<article class="bd-article" id="{_anchor(page)}">{_TAG.sub(tag, body)}</article>\n'


def _contents(first: str, pages: Sequence[str]) -> str:
    """Items of the contents: what the side of the book's first page lists, with its parts and titles, of these pages."""
    nav = re.search(r'<nav class="bd-links bd-docs-nav".*?</nav>', first, re.S)
    items, part = [], ""
    for found in _LISTED.finditer(nav[0] if nav else ""):
        if found["part"]:
            part = f'<li class="contents-part">{found["part"]}</li>'
        elif found["page"] in pages:
            items.append(
                f'{part}<li class="contents-{found["depth"]}"><a href="#{_anchor(found["page"])}">{found["title"]}</a></li>'
            )
            part = ""
    return "".join(items)


def one_file(html: Path, pages: Sequence[str]) -> str:
    """All pages of the book below `html` as one page, in this order: the first one, the contents, the rest."""
    first = (html / f"{pages[0]}.html").read_text(encoding="utf-8")
    styles = re.findall(r'<link [^>]*rel="stylesheet"[^>]*>', first)
    language = re.search(r'<html lang="([^"]+)"', first)
    articles = [_article(html, page, pages) for page in pages]
    title = re.search(r"<title>(.*?)</title>", first, re.S)
    listed = f'<nav class="book-contents"><h1>Contents</h1><ul>{_contents(first, pages)}</ul></nav>'
    return (
        f'<!DOCTYPE html>\n<html lang="{language[1] if language else "en"}" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{title[1].rpartition('&#8212;')[2].strip() if title else ''}</title>{''.join(styles)}</head>\n"
        f'<body class="whole-book"><main>{articles[0]}{listed}{"".join(articles[1:])}</main></body></html>\n'
    )


def print_book(html: Path, pages: Sequence[str], to: Path, report: Callable[[str], None]) -> Path | None:
    """Print the book in folder `html` to the file `to`; None, and one line that says why, where that cannot be done."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        report(f"no PDF: it is printed by a Chromium, and none is on the PATH (looked for {', '.join(BROWSERS)})")
        return None
    whole, part = html / ONE_FILE, to.with_name(f"{to.name}.part")
    whole.write_text(one_file(html, pages), encoding="utf-8")
    try:
        with tempfile.TemporaryDirectory() as profile:
            options = ["--headless", "--disable-gpu", "--disable-background-networking", "--no-first-run",
                       "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--disable-dev-shm-usage",
                       "--no-pdf-header-footer", "--generate-pdf-document-outline"]  # fmt: skip
            if getattr(os, "geteuid", lambda: 1)() == 0:  # its sandbox refuses the administrator
                options.append("--no-sandbox")
            done = subprocess.run(
                [browser, *options, f"--print-to-pdf={part}", whole.resolve().as_uri()],
                capture_output=True, text=True, errors="replace", timeout=600, check=False,
            )  # fmt: skip
        if done.returncode != 0 or not part.is_file() or not part.read_bytes().startswith(b"%PDF"):
            said = [line for line in done.stderr.splitlines() if line.strip()]
            report(f"no PDF: {browser} did not print it ({said[-1] if said else 'it said nothing'})")
            return None
        part.replace(to)
        return to
    except subprocess.TimeoutExpired:
        report(f"no PDF: {browser} did not end within ten minutes")
        return None
    finally:
        whole.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
