"""The book: check every executed notebook, assemble the pages that exist, have jupyter-book build them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from braintransfer.book.outside import outside_loads
from braintransfer.book.pages import RESULT_PAGES, PageMaker, figure_block
from braintransfer.book.pdf import print_book
from braintransfer.book.runs import GROUPS, Run, executed_stages, find_runs
from braintransfer.book.words import SIMULATED_SENTENCES, answers
from braintransfer.course import copies, deck

__all__ = [
    "SIMULATED_SENTENCES",
    "BuildFailed",
    "Run",
    "assemble",
    "build",
    "executed_stages",
    "find_runs",
    "outside_loads",
]


class BuildFailed(RuntimeError):
    """jupyter-book found something wrong: one line with the first complaint and the place of the whole log."""


def assemble(root: Path, runs: list[Run], source: Path, report: Callable[[str], None] = lambda line: None) -> list[str]:
    """Write every page into `source`, fresh, and the toc that lists just these. Returns the pages in toc order."""
    shutil.rmtree(source, ignore_errors=True)
    (source / "extra").mkdir(parents=True)
    for name in ("_static", "references.bib"):
        path = root / "book" / name
        if path.is_dir():
            shutil.copytree(path, source / name)
        elif path.is_file():
            shutil.copyfile(path, source / name)
    maker = PageMaker(root, source, runs, report)
    for run in runs:
        maker.run_pages(run)
        if run.stages:
            maker.stage_pages(run)
    maker.beside_page()
    if not any(run.results is not None for run in runs):
        maker.render("templates/no_run.md", "results/none/index")
    for path in sorted((root / "book").glob("*.md")):
        maker.render(path.name, path.stem)
    if (root / "book" / "course").is_dir():
        copies.write_pages(root, source)
        (source / "extra" / "course").mkdir()
        copies.write_plain(source / "extra" / "course" / "slides.html", deck.deck(root))
        for path in sorted((root / "book" / "course").glob("*.md")):
            maker.render(f"course/{path.name}", f"course/{path.stem}")
    first = next((r for r in runs if r.results is not None and answers(r)), None)
    overview = (
        figure_block(first.drawn["overview"], "answer", place=f"results/{first.slug}/figures")
        if first and "overview" in first.drawn
        else ""
    )
    partial = next((r for r in runs if r.results is not None), None)
    there = {
        page: first is not None and _exists(source, f"results/{first.slug}/{page}") for page in ("provenance", "claims")
    }
    maker.render(
        "templates/index.md", "index", first=first, partial=partial, overview=overview, proven=there["provenance"],
        claims_page=there["claims"], beside=_exists(source, "results/beside"),
    )  # fmt: skip
    toc = _toc(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")), source, runs)
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return _pages_of(toc)


def _toc(toc: dict[str, Any], source: Path, runs: list[Run]) -> dict[str, Any]:
    """The toc with what exists: files that are there; a glob becomes one chapter a folder, in the order of the runs."""
    order = [run.slug for run in runs]
    parts = []
    for part in toc["parts"]:
        chapters = []
        for chapter in part["chapters"]:
            if "glob" in chapter:
                found = {p.parent.name: p.parent for p in source.glob(f"{chapter['glob']}.md")}
                chapters += [_chapter(found[slug], source, runs) for slug in [*order, "none"] if slug in found]
            elif _exists(source, chapter["file"]):
                chapters.append(chapter)
        if chapters:
            parts.append({**part, "chapters": chapters})
    return {"format": toc["format"], "root": toc["root"], "parts": parts}


def _exists(source: Path, page: str) -> bool:
    return (source / f"{page}.md").is_file() or (source / f"{page}.ipynb").is_file()


def _chapter(folder: Path, source: Path, runs: list[Run]) -> dict[str, Any]:
    here = folder.relative_to(source).as_posix()
    chapter: dict[str, Any] = {"file": f"{here}/index"}
    run = next((r for r in runs if r.slug == folder.name), None)
    if here.startswith("results/"):
        sections: list[dict[str, Any]] = [
            {"file": f"{here}/{p}"} for p in RESULT_PAGES if _exists(source, f"{here}/{p}")
        ]
    else:
        sections = []
        for group in GROUPS:
            stages = [s for s in run.stages if s.group == group] if run else []
            if stages:
                pages = [{"file": f"{here}/{group}/{s.page}", "title": s.title} for s in stages]
                sections.append({"file": f"{here}/{group}/index", "sections": pages})
    return {**chapter, "sections": sections} if sections else chapter


def _pages_of(toc: Any) -> list[str]:
    if isinstance(toc, list):
        return [page for item in toc for page in _pages_of(item)]
    here = [toc[k] for k in ("root", "file") if k in toc]
    return here + [page for k in ("parts", "chapters", "sections") for page in _pages_of(toc.get(k, []))]


def build(
    root: Path,
    profile: str | None = None,
    reference: bool = True,
    report: Callable[[str], None] = print,
    pdf: bool = False,
) -> Path:
    """Build the book of the project at `root`; returns `_build/html/index.html`.

    profile: show the run of this profile (None: the newest in `runs/`). reference: show `book/reference/` too.
    pdf: print it to `_build/book.pdf` as well, where a Chromium is installed.
    BadInput (before anything is built) for a notebook with an error, cells that did not run, or no manifest;
    BuildFailed for any warning of jupyter-book and for a page that would load something from outside. The book in place
    stays as it is until the new one is whole.
    """
    runs = find_runs(root, profile, reference)
    pages = assemble(root, runs, root / "_build" / "source", report)
    report(f"book: {len(pages)} pages from {len(runs)} runs; building")
    part = root / "_build" / "part"
    shutil.rmtree(part, ignore_errors=True)
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(root / "_build" / "source"),
        "--config",
        str(root / "_config.yml"),
        "--toc",
        str(root / "_build" / "source" / "_toc.yml"),
        "--path-output",
        str(part),
        "-W",
        "-n",
        "--keep-going",
        "-q",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace", check=False)
    log = root / "_build" / "book.log"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    made = part / "_build" / "html"
    if done.returncode != 0 or not (made / "index.html").is_file():
        said = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", done.stderr + done.stdout).splitlines() if line.strip()]
        first = next(
            (line for line in said if "WARNING" in line or "ERROR" in line or "rror:" in line),
            said[-1] if said else "no output",
        )
        raise BuildFailed(f"the book was not built: {first.strip()} (everything: {log})")
    outside = outside_loads(made)
    if outside:
        raise BuildFailed(f"the book would load something from outside: {outside[0]} ({len(outside)} in all)")
    html = root / "_build" / "html"
    shutil.rmtree(html, ignore_errors=True)
    made.replace(html)
    shutil.rmtree(part, ignore_errors=True)
    if pdf and (printed := print_book(html, pages, root / "_build" / "book.pdf", report)):
        report(f"book: printed to {printed}")
    return html / "index.html"
