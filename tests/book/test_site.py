"""Promises of the built book as people meet it: in a real browser, from disk, without a network."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
import yaml
from browser import Chromium
from made_up import ROOT, a_project, a_run

from braintransfer import book, cost, tables
from braintransfer.book import javascript, origins, pages, pdf
from braintransfer.book.runs import StagePage, read_run
from braintransfer.errors import BadInput
from braintransfer.provenance import read_manifest

SITE, FIRST_PAGE, PICTURE = 60e6, 1e6, 60_000  # bytes; of a page and of a picture as they are sent, compressed
#: Pictures of many small pictures, which no fewer bytes would show.
LARGER = {"simulators_pictures.png", "simulators_t1.png"}
#: One page of every kind.
KINDS = (
    "index",
    "results/demo/index",
    "results/demo/turn",
    "results/demo/provenance",
    "stages/demo/targets/stroke-imagenet",
    "proof_metrics",
    "background",
    "metrics",
    "glossary",
    "data",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, which npm fetches for the tests alone."""
    here = ROOT / "node_modules" / "axe-core" / "axe.min.js"
    if not here.is_file():
        work = tmp_path_factory.mktemp("npm") / "work"
        _, why = javascript.install(ROOT, work, dev=True)
        if why:
            pytest.skip(f"needs axe-core: {why}")
        here = work / "node_modules" / "axe-core" / "axe.min.js"
    return here.read_text(encoding="utf-8")


def own_pages(html: Path) -> list[Path]:
    return [p for p in sorted(html.rglob("*.html")) if html / "_static" not in p.parents]


def wrong(browser: Chromium) -> list[str]:
    """What the pages opened so far complained about or asked of others; forgotten once told."""
    outside = [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))]
    found = [*outside, *browser.problems]
    browser.requests.clear()
    browser.problems.clear()
    return found


# ------------------------------------------------------------------------------------------------------- in the browser
def shown_as(browser: Chromium, width: int, scheme: str) -> None:
    """Turn the open page to another width and colour scheme, as a reader does whose screen or evening changes."""
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.wait(
        f"(document.documentElement.dataset.theme ?? '{scheme}') === '{scheme}' && window.innerWidth === {width}", 20
    )


def test_every_page_opens_cleanly_on_screen_and_phone_in_light_and_dark(html: Path, browser: Chromium) -> None:
    """Every page is loaded as a light screen and turned into the other three; one of each kind is loaded as a dark phone, too."""
    found = {}
    loads = [(page, 1280) for page in own_pages(html)] + [(html / f"{kind}.html", 390) for kind in KINDS]
    for page, loaded in loads:
        browser.open(page, loaded, dark=loaded < 500)
        said = []
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "dark"), (390, "light")):
            shown_as(browser, width, scheme)
            wide = browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            said += [f"wider than a window of {width} by {wide} pixels"] if wide > 0 else []
        if said := said + wrong(browser):
            found[f"{page.relative_to(html)} loaded at {loaded}"] = said
    assert found == {}


#: Of each table on a page: whether it is wider than its place, and whether it says so there.
TABLES = (
    "[...document.querySelectorAll('.pst-scrollable-table-container')].filter((b) => b.offsetHeight).map((b) => "
    "[b.scrollWidth > b.clientWidth + 1, (b.querySelector('.wide-hint') ?? b.parentElement.querySelector(':scope > .wide-hint'))?.offsetHeight > 0, "
    "b.querySelector('table').classList.contains('numbers'), b.tabIndex])"
)


def test_tables_of_results_fit_a_screen_and_a_wider_one_says_that_it_goes_on(html: Path, browser: Chromium) -> None:
    wide = {1280: 0, 390: 0}
    for page in own_pages(html):
        if "wide" not in page.read_text(encoding="utf-8"):
            continue
        browser.open(page, 1280)
        for width in (1280, 390, 1280):
            shown_as(browser, width, "light")
            with contextlib.suppress(TimeoutError):  # the assertion below says which page
                browser.wait(
                    f"{TABLES}.every(([scrolls, says, numbers, tab]) => scrolls === says && says === (tab === 0))", 10
                )
            for scrolls, says, numbers, tab in browser.run(TABLES):
                assert scrolls == says == (tab == 0), (page, width, scrolls, says, tab)
                own = "results" in page.parts
                assert not (scrolls and numbers and own and width == 1280), f"{page}: numbers are cut at {width}"
                wide[width] += scrolls
    assert (
        wide[390] > 5
        and (html / "results" / "demo" / "anatomy.html").read_text(encoding="utf-8").count("part 3 of") == 2
    )


def test_no_table_leaves_its_sheet_of_paper(html: Path, browser: Chromium) -> None:
    for name in ("anatomy", "stroke", "claims", "detection"):
        browser.open(html / "results" / "demo" / f"{name}.html", 673)  # A4 between its margins
        browser.ask("Emulation.setEmulatedMedia", media="print")
        over = browser.run(
            "[...document.querySelectorAll('.bd-article table')].map((t) => t.getBoundingClientRect().right - "
            "document.querySelector('.bd-article').getBoundingClientRect().right).filter((over) => over > 1)"
        )
        assert over == [], name
        assert browser.run("[...document.querySelectorAll('.wide-hint')].filter((p) => p.offsetHeight).length") == 0


def test_the_search_finds_the_page(html: Path, browser: Chromium) -> None:
    page = html / "search.html"
    browser.open(page)
    for words, expected in (
        ("calibration", "metrics"),
        ("prior map", "glossary"),
        ("papermill", "reproduce"),
    ):
        browser.ask("Page.navigate", url=f"{page.resolve().as_uri()}?q={words.replace(' ', '+')}")
        browser.wait("document.querySelectorAll('#search-results li a').length > 0", 30)
        browser.wait("/found|finished/.test(document.querySelector('.search-summary')?.textContent ?? '')", 30)
        found = browser.run("[...document.querySelectorAll('#search-results li a')].map((a) => a.getAttribute('href'))")
        assert any(f"{expected}.html" in href for href in found), (words, found)
    assert wrong(browser) == []
    browser.ask("Page.navigate", url=f"{page.resolve().as_uri()}?q=zzyzxzz")
    browser.wait("/did not match/.test(document.querySelector('#search-results')?.textContent ?? '')", 30)


RULES = (
    "color-contrast", "heading-order", "page-has-heading-one", "empty-heading", "image-alt", "link-name", "button-name",
    "label", "select-name", "html-has-lang", "document-title", "svg-img-alt", "input-image-alt", "list", "listitem",
)  # fmt: skip


def complaints(browser: Chromium) -> list[str]:
    """What axe-core finds on the open page, rule by rule, with the first places."""
    # colours are judged as they stay, not half-way through a change
    browser.run("document.head.insertAdjacentHTML('beforeend', '<style>*, *::before, *::after "
                "{ transition: none !important; animation: none !important; }</style>')")  # fmt: skip
    options = {"runOnly": {"type": "rule", "values": RULES}, "resultTypes": ["violations"]}
    found = browser.run(f"axe.run(document, {json.dumps(options)}).then((r) => r.violations.map((v) => "
                        "v.id + ': ' + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 120) + ' ' + "
                        "(n.any[0]?.message ?? '')).join(' | ')))")  # fmt: skip
    return list(found)


@pytest.mark.parametrize("dark", [False, True])
def test_headings_are_in_order_and_everything_can_be_read(html: Path, browser: Chromium, axe: str, dark: bool) -> None:
    """axe-core: contrast, headings, names of links, buttons and pictures; every page in light, one of each kind in dark."""
    found = {}
    for page in [html / f"{kind}.html" for kind in KINDS] if dark else own_pages(html):
        browser.open(page, 1280, dark=dark)
        browser.run(axe)
        said = complaints(browser)
        if said:
            found[page.relative_to(html).as_posix()] = said
    assert found == {}


def test_the_check_of_contrast_sees_grey_on_grey(tmp_path: Path, browser: Chromium, axe: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<html lang="en"><head><title>x</title></head><body><h1>x</h1><h3 style="color:#999;background:#aaa">Hard to read</h3></body></html>'
    )
    browser.open(page)
    browser.run(axe)
    assert {said.partition(":")[0] for said in complaints(browser)} == {"color-contrast", "heading-order"}


# ------------------------------------------------------------------------------------------------------------- its files
class _Links(HTMLParser):
    """The addresses that a page points to, and the names that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.to: list[str] = []
        self.names: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.to.append(value)
            elif name == "id" and value:
                self.names.add(value)


def broken_links(html: Path) -> list[str]:
    """ "page: address" for every address inside the book whose file or place is not there."""
    pages = {page: _Links(page) for page in own_pages(html)}
    broken = []
    for page, links in pages.items():
        for address in links.to:
            if re.match(r"[a-z]+:|//", address):
                continue
            path, _, name = address.partition("#")
            path = unquote(path.partition("?")[0])
            target = (page.parent / path).resolve() if path else page
            known = pages.get(target)
            if not target.is_file() or (name and known and unquote(name) not in known.names):
                broken.append(f"{page.relative_to(html).as_posix()}: {address}")
    return broken


def test_every_link_leads_to_a_page_and_a_place_that_are_there(html: Path) -> None:
    assert broken_links(html.resolve()) == []


def test_the_check_of_links_sees_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="b.html">b</a><a href="#here">a</a><a href="#there">a</a></p>'
    )
    assert broken_links(tmp_path) == ["a.html: b.html", "a.html: #there"]


def test_the_book_is_small(html: Path) -> None:
    assert sum(p.stat().st_size for p in html.rglob("*") if p.is_file()) < SITE
    sent = {p.name: len(gzip.compress(p.read_bytes())) for p in (html / "_images").iterdir()}
    large = {name: size for name, size in sent.items() if size > PICTURE}
    assert set(large) <= LARGER, large
    first = html / "index.html"
    loaded = {
        first,
        *((html / a.partition("?")[0]) for a in _Links(first).to if re.search(r"[.](css|js|svg|png)(\\?|$)", a)),
    }
    assert len(loaded) > 8
    assert sum(len(gzip.compress(p.read_bytes())) for p in loaded if p.is_file()) < FIRST_PAGE


def test_every_figure_and_every_table_of_results_can_be_taken_away(html: Path) -> None:
    for page in (html / "results" / "demo").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for figure in re.findall(r"<figure class=\"align-default\".*?</figure>", text, re.S):
            assert re.search(r'href="[^"]+\.svg" *>?', figure) and ".png" in figure, page
        # a figure of scores comes with its numbers; the pictures of people have none
        for drawn in re.findall(
            r'href="([^"]+/(?:overview|accuracy_\w+|detection_\w+|factorial|claims|samples))\.svg"', text
        ):
            assert f"/{drawn.rpartition('/')[2]}.csv" in text, (page, drawn)
        tables_here = len(re.findall(r'<table class="[^"]*wide', text)) - len(re.findall(r"part [2-9]\d* of", text))
        assert len(re.findall(r'href="[^"]+\.csv"', text)) >= tables_here, page
    assert list((html / "_downloads").rglob("results.csv"))


def test_every_figure_of_a_run_leads_to_where_its_numbers_come_from(html: Path) -> None:
    seen = 0
    for page in (html / "results" / "demo").glob("*.html"):
        for caption in re.findall(r"<figcaption>(.*?)</figcaption>", page.read_text(encoding="utf-8"), re.S):
            made = re.search(r'Made from <a [^>]*href="([^"#]+)"', caption)
            assert made and (page.parent / made[1]).is_file(), (page, caption)
            seen += 1
    assert seen > 12


def test_a_figure_leads_to_its_own_stage_where_the_book_shows_it(tmp_path: Path) -> None:
    run = read_run(a_run(a_project(tmp_path)), reference=False)
    run.stages[:] = [StagePage(run.folder / f / "x.ipynb", Path(f), {}) for f in ("data/ms", "audit", "compare")]
    assert pages._made_from(run, "montage_ms") == "Made from {doc}`this stage </stages/demo/data/ms>`."
    assert pages._made_from(run, "pairs") == "Made from {doc}`this stage </stages/demo/audit/x>`."
    for figure in ("overview", "accuracy_ms", "ranking"):
        assert pages._made_from(run, figure) == "Made from {doc}`this stage </stages/demo/compare/x>`."
    assert "provenance" in pages._made_from(run, "montage_stroke"), "no stage of these scans is shown"


def test_no_picture_shows_tex_as_text(html: Path) -> None:
    pictures = list((html / "_images").glob("*.svg"))
    assert len(pictures) > 8
    assert [p.name for p in pictures if "mathdefault" in p.read_text(encoding="utf-8")] == []


# ------------------------------------------------------------------------------------------- where the numbers come from
def assembled(root: Path, page: str) -> str:
    return (root / "_build" / "source" / f"{page}.md").read_text(encoding="utf-8")


def test_a_cell_of_a_table_can_be_walked_back_to_its_stage_and_its_data(html: Path) -> None:
    """The page's own steps, followed in the run: rows of results.csv, line of the stage, its manifest."""
    run = html.parents[1] / "runs" / "demo"
    page = (html / "results" / "demo" / "provenance.html").read_text(encoding="utf-8")
    results = tables.read_results(run / "results.csv")
    walk = origins.example(results)
    assert walk is not None and walk["said"] in page.replace("\u00a0", " ")
    rows = results[
        (results["target"] == walk["target"]) & (results["source"] == walk["source"]) & (results["arm"] == "main")
        & (results["metric"] == walk["metric"]) & (results["class"] == "")
    ]  # fmt: skip
    assert len(rows) == walk["rows"] and f"There are {len(rows)} of them" in page
    mean = rows.groupby("subject")["value"].mean().mean()
    assert walk["said"].startswith(tables.number(float(mean)))
    folder = run / "targets" / "main" / "stroke" / "imagenet"
    manifest = read_manifest(folder)
    assert manifest is not None
    line = re.search(r"<tr[^>]*>(?:(?!</tr>).)*targets/main/stroke/imagenet.*?</tr>", page, re.S)
    assert line and manifest["key"][: origins.SHORT] in line[0] and manifest["code"][: origins.SHORT] in line[0]
    assert 'href="../../stages/demo/targets/stroke-imagenet.html"' in line[0]


def test_the_manifests_of_a_kept_run_hang_together(tmp_path: Path) -> None:
    """What is kept with the book: each training's data is found by its content, each cell and source by its key."""
    kept = ROOT / "book" / "reference" / "open_cut"
    found = dict(origins.manifests_of(kept))
    content = {m["outputs"]["digest"] for f, m in found.items() if f.startswith("data/")}
    keys = {m["key"] for m in found.values()}
    trained = [m for f, m in found.items() if "/seed-" in f]
    assert len(trained) > 30 and all(m["inputs"]["store"] in content for m in trained)
    gathered = [m for f, m in found.items() if f.startswith("targets/") and "/seed-" not in f]
    assert len(gathered) == 24 and all(set(m["inputs"].values()) <= keys for m in gathered)
    shown = origins.table(found.items(), "data", "sources", "targets", "audit", "compare")
    assert len(shown) == len(found) and (shown["key"].str.len() == origins.SHORT).all()
    folders = shown["folder"].tolist()
    stages = [re.sub(r"(/fold-\d+)?/seed-\d+$", "", f) for f in folders]
    assert all(folders.index(s) <= k for k, s in enumerate(stages)), "a stage stands above its trainings"


def test_manifests_that_cannot_be_read_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifests.jsonl.gz").write_bytes(gzip.compress(b"not json"))
    with pytest.raises(BadInput, match="keep the run again") as refused:
        origins.manifests_of(tmp_path)
    assert "\n" not in str(refused.value)


def test_hashes_of_a_run_read_alike_before_and_after_it_is_kept(html: Path) -> None:
    run = html.parents[1] / "runs" / "demo"
    live = origins.manifests_of(run)
    assert [folder for folder, _ in live] == [folder for folder, _ in cost.manifests(run)] and len(live) > 2


# ---------------------------------------------------------------------------------------------------------- launch buttons
@pytest.fixture(scope="module")
def launch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch", ROOT / "book" / "_ext" / "launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_button_leads_to_a_notebook_of_the_repository(launch: ModuleType) -> None:
    notebook = launch.notebook_of("results/demo/stroke", Path("stroke.md"))
    assert (ROOT / notebook).is_file()
    assert launch.notebook_of("course/first", Path("first.ipynb")) == "book/course/first.ipynb"
    assert (
        launch.notebook_of("stages/demo/targets/stroke", Path("stroke.ipynb"))
        == launch.notebook_of("data", Path("data.md"))
        == ""
    )
    found = launch.addresses("https://github.com/owner/name.git", "main", notebook)
    assert found == {
        "Binder": f"https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/{notebook}",
        "Colab": f"https://colab.research.google.com/github/owner/name/blob/main/{notebook}",
    }
    elsewhere = launch.addresses("https://git.example.org/owner/name", "main", notebook)
    assert (
        list(elsewhere) == ["Binder"] and "git/https%3A%2F%2Fgit.example.org%2Fowner%2Fname/main" in elsewhere["Binder"]
    )
    assert launch.addresses("", "main", notebook) == {}


def test_pages_have_launch_buttons_only_where_the_repository_is_named(
    html: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"] == ""
    for page in own_pages(html):
        text = page.read_text(encoding="utf-8")
        assert "mybinder.org" not in text and "colab.research.google.com" not in text, page
    root = a_project(tmp_path)
    config = root / "_config.yml"
    config.write_text(config.read_text(encoding="utf-8").replace('url: ""', 'url: "https://github.com/owner/name"'))

    def two_pages(_root: Path, _runs: list[book.Run], source: Path, _report: Callable[[str], None]) -> list[str]:
        (source / "extra").mkdir(parents=True)
        (source / "results").mkdir()
        (source / "index.md").write_text("# A page\n\n## Below it\n")
        (source / "results" / "one.md").write_text("# Results\n\nA number.\n")
        (source / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n- file: results/one\n")
        (source / "references.bib").touch()
        return ["index", "results/one"]

    monkeypatch.setattr(book, "assemble", two_pages)
    built = book.build(root, "demo", report=lambda line: None).parent
    text = (built / "results" / "one.html").read_text(encoding="utf-8")
    assert "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/explore.ipynb" in text
    assert "https://colab.research.google.com/github/owner/name/blob/main/notebooks/explore.ipynb" in text
    assert "mybinder" not in (built / "index.html").read_text(encoding="utf-8")
    assert book.outside_loads(built) == []


# -------------------------------------------------------------------------------------------------------------- on paper
def test_the_whole_book_is_printed_in_its_order(html: Path, tmp_path: Path, browser: Chromium) -> None:
    toc = yaml.safe_load((html.parent / "source" / "_toc.yml").read_text(encoding="utf-8"))
    pages = book._pages_of(toc)
    whole = html / "whole.html"
    whole.write_text(pdf.one_file(html, pages), encoding="utf-8")
    try:
        assert broken_in(whole) == []
        browser.open(whole)
        order = browser.run("[...document.querySelectorAll('article')].map((a) => a.id)")
        assert order == [page.replace("/", "--") for page in pages]
        listed = browser.run("[...document.querySelectorAll('.book-contents a')].map((a) => a.hash.slice(1))")
        assert listed == order[1:], "the contents name every page once, in the book's order"
        titles = browser.run("[...document.querySelectorAll('.book-contents a')].map((a) => a.textContent)")
        stages = [title for title, page in zip(titles, pages[1:], strict=True) if page.startswith("stages/")]
        assert len(stages) > 3 and len(set(stages)) == len(stages), "a stage is found in the contents by its title"
        browser.ask("Emulation.setEmulatedMedia", media="print")
        assert (
            browser.run(
                "[...document.querySelectorAll('.turn-stage[data-widget]')].filter((e) => e.offsetHeight).length"
            )
            == 0
        )
        assert browser.run("[...document.querySelectorAll('.turn-still')].filter((e) => !e.offsetHeight).length") == 0
        assert wrong(browser) == []
    finally:
        whole.unlink()
    few = pages[:4]
    printed = pdf.print_book(html, few, tmp_path / "book.pdf", print)
    assert printed is not None and printed.stat().st_size > 50_000 and not (html / pdf.ONE_FILE).exists()
    assert printed.read_bytes().count(b"/Type /Page\n") >= len(few)


def broken_in(page: Path) -> list[str]:
    links = _Links(page)
    inside = [a for a in links.to if not re.match(r"[a-z]+:|//", a)]
    return [
        a
        for a in inside
        if (a[0] == "#" and unquote(a[1:]) not in links.names)
        or (a[0] != "#" and not (page.parent / unquote(a.partition("?")[0].partition("#")[0])).exists())
    ]


def test_without_a_browser_there_is_no_pdf_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    said: list[str] = []
    assert pdf.print_book(tmp_path, ["index"], tmp_path / "book.pdf", said.append) is None
    assert len(said) == 1 and said[0].startswith("no PDF") and not list(tmp_path.iterdir())
