"""Promises of the figures that turn: from disk, without a network, with the keyboard, on a phone; a picture where they cannot."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import Chromium
from made_up import ROOT, SHOWN, a_project, a_scan, made_up_results
from PIL import Image

from braintransfer import book, evaluate, figures, finetune, interactive, metrics, pack, predict, tables, volumes
from braintransfer import overlaps as counting
from braintransfer.book.javascript import fetch_niivue
from braintransfer.book.pages import PageMaker
from braintransfer.interactive import ShownScan
from braintransfer.machine import Machine
from braintransfer.provenance import write_manifest, write_table
from braintransfer.store import open_store

PAGE = "results/demo/turn.html"
LIMIT = 2_000_000  # bytes of a page's volumes


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="module")
def scan(html: Path) -> ShownScan:
    """The one scan that the made-up run may show."""
    root = html.parents[1]
    results = tables.read_results(root / "runs" / "demo" / "results.csv")
    (found,) = interactive.shown_scans(root / "runs" / "demo", results, root / "_build" / "predictions")
    return found


def data_of(html: Path, page: str, widget: str) -> dict[str, Any]:
    """What a page hands to one of its figures."""
    text = (html / page).read_text(encoding="utf-8")
    found = re.search(rf'data-widget="{widget}"><script type="application/json">(.*?)</script>', text, re.S)
    assert found, f"{page} has no {widget}"
    data: dict[str, Any] = json.loads(found[1])
    return data


def stage(widget: str) -> str:
    return f"document.querySelector('[data-widget={widget}]')"


def start(browser: Chromium, page: Path, widget: str, width: int = 1280, *, dark: bool = False) -> str:
    """Open the page, scroll to one figure, wait until it has started; returns how it stands: live or still."""
    browser.open(page, width, dark=dark)
    browser.run(f"{stage(widget)}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    browser.wait(f"{stage(widget)}.dataset.state !== undefined")
    return str(browser.run(f"{stage(widget)}.dataset.state"))


def choose(browser: Chromium, widget: str, label: str, value: str) -> None:
    """Pick from a labelled list as a reader does."""
    browser.run(
        f"(() => {{ const box = [...{stage(widget)}.querySelectorAll('.turn-choice')]"
        f".find((b) => b.querySelector('label').textContent === {label!r}).querySelector('select');"
        f"box.value = {value!r}; box.dispatchEvent(new Event('change')); }})()"
    )


def nothing_wrong(browser: Chromium) -> None:
    outside = [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert outside == [] and browser.problems == []


# ------------------------------------------------------------------------------------------------------- what they do
def test_a_person_can_be_followed_through_all_sources(html: Path, browser: Chromium) -> None:
    assert start(browser, html / PAGE, "ranking") == "live"
    rows = f"[...{stage('ranking')}.querySelectorAll('li')].map((li) => li.dataset.source + li.textContent)"
    before = browser.run(rows)
    assert len(before) == len(SHOWN)
    choose(browser, "ranking", "Target", "ms")
    choose(browser, "ranking", "Metric", "fp_per_scan")
    assert browser.run(rows) != before
    choose(browser, "ranking", "Person", "made-up-2")
    assert browser.run(f"{stage('ranking')}.querySelectorAll('.turn-chosen').length") == len(SHOWN)
    target = next(t for t in data_of(html, PAGE, "ranking")["targets"] if t["name"] == "ms")
    shown = next(m for m in target["metrics"] if m["name"] == "fp_per_scan")
    said = browser.run(f"{stage('ranking')}.querySelector('.turn-said').textContent")
    for row in shown["rows"]:
        assert f"{tables.SOURCE_TITLES[row['source']]} {row['points'][2]:.2f}" in said
    choose(browser, "ranking", "Person", "")
    point = browser.run(
        f"(() => {{ const r = {stage('ranking')}.querySelector('[data-person=made-up-1]').getBoundingClientRect();"
        "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=point[0], y=point[1])
    assert browser.run(f"{stage('ranking')}.querySelector('.turn-said').textContent").startswith("made-up-1: ")
    nothing_wrong(browser)


def test_slices_move_with_the_keyboard_and_layers_switch(html: Path, browser: Chromium) -> None:
    assert start(browser, html / PAGE, "slices") == "live"
    canvas = f"{stage('slices')}.querySelector('canvas')"
    picture, words = f"{canvas}.toDataURL()", f"{canvas}.getAttribute('aria-label')"
    seen = [browser.run(picture)]
    first = browser.run(words)
    browser.run(f"{stage('slices')}.querySelector('input[type=range]').focus()")
    browser.press("ArrowRight")
    assert browser.run(words) != first
    browser.press("ArrowLeft")
    assert browser.run(words) == first and browser.run(picture) == seen[0]
    for k in range(4):  # scan, reference, A, B
        browser.run(f"{stage('slices')}.querySelectorAll('.turn-tick input')[{k}].click()")
        seen.append(browser.run(picture))
    assert len(set(seen)) == 5, "switching a layer off changes the picture"
    choose(browser, "slices", "Source B", "scratch")
    browser.wait(f"{stage('slices')}.textContent.includes('B: {tables.SOURCE_TITLES['scratch']}')")
    nothing_wrong(browser)


def test_the_browser_shows_the_scan_as_every_figure_does(html: Path, browser: Chromium, scan: ShownScan) -> None:
    """What it unpacks and draws is the slice of the volume, number by number: the subject's right on the left."""
    start(browser, html / PAGE, "slices")
    for k in (1, 2, 3):  # only the scan is left
        browser.run(f"{stage('slices')}.querySelectorAll('.turn-tick input')[{k}].click()")
    drawn = browser.run(
        f"(() => {{ const c = {stage('slices')}.querySelector('canvas'), d = c.getContext('2d');"
        "const rows = []; for (let y = 2; y < c.height; y += 5) { const line = d.getImageData(0, y, c.width, 1).data;"
        "const row = []; for (let x = 2; x < c.width; x += 5) row.push(line[4 * x]); rows.push(row); } return rows; })()"
    )
    expected = volumes.to_slices(scan.image)[scan.centre[2]].astype(float)
    below = slice(6, None)  # the letters R and L stand in the upper corners
    assert np.abs(np.array(drawn) - expected)[below].max() <= 2
    assert np.abs(np.array(drawn)[:, ::-1] - expected)[below].max() > 30, "the two sides differ"


def test_the_viewer_draws_and_moves(html: Path, browser: Chromium) -> None:
    if not (html / "turn" / "niivue.umd.js").is_file():
        pytest.skip("needs npm and its registry, which NiiVue comes from")
    assert start(browser, html / PAGE, "viewer") == "live"
    browser.wait(f"{stage('viewer')}.querySelector('.turn-said').textContent.startsWith('At ')")
    browser.picture(html.parent / "viewer.png", whole=False)
    x, y, width, height = browser.run(
        f"(() => {{ const r = {stage('viewer')}.querySelector('canvas').getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height]; })()"
    )
    with Image.open(html.parent / "viewer.png") as whole:
        shown = np.asarray(whole.convert("L").crop((int(x), int(max(y, 0)), int(x + width), int(y + height))))
    assert (shown > 60).mean() > 0.05 and len(np.unique(shown)) > 30, "a scan is drawn"
    said = browser.run(f"{stage('viewer')}.querySelector('.turn-said').textContent")
    browser.run(f"{stage('viewer')}.querySelector('canvas').focus()")
    browser.press("PageUp")
    browser.press("ArrowLeft")
    assert browser.run(f"{stage('viewer')}.querySelector('.turn-said').textContent") != said
    nothing_wrong(browser)


def counts_shown(browser: Chromium, half: str) -> list[list[str]]:
    """The rows of one half of the overlap figure: a source and its cells."""
    rows = f"{stage('detection')}.querySelectorAll('[data-half={half}] tbody tr')"
    found = browser.run(
        f"[...{rows}].map((r) => [r.dataset.source, ...[...r.cells].slice(1).map((c) => c.textContent)])"
    )
    return list(found)


def said(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def test_a_stricter_rule_finds_no_more_lesions(html: Path, browser: Chromium) -> None:
    """In one person, and in the mean over all test people beside it; both follow the one slider."""
    assert start(browser, html / PAGE, "detection") == "live"
    data = data_of(html, PAGE, "detection")
    (target,) = data["targets"]
    person = target["people"][target["first"]]

    def check(k: int) -> tuple[list[int], list[float]]:
        for source, lesions, _, f1 in counts_shown(browser, "one"):
            row = person["rows"][source]
            assert lesions == f"{row['found'][k]} of {row['lesions']}" and f1 == said(row["f1"][k])
        for source, f1, sensitivity, _ in counts_shown(browser, "all"):
            mean = target["means"][source]
            assert f1.startswith(said(mean["f1"][k])) and sensitivity.startswith(said(mean["sensitivity"][k]))
        assert len(counts_shown(browser, "all")) == len(counts_shown(browser, "one")) == len(SHOWN)
        return (
            [row["found"][k] for row in person["rows"].values()],
            [mean["sensitivity"][k] for mean in target["means"].values()],
        )

    at_ten = check(data["overlaps"].index(0.1))
    heading = f"{stage('detection')}.querySelector('[data-half=all] .turn-heading').textContent"
    assert browser.run(heading) == f"All {target['n']} test people: mean lesion F1"
    browser.run(f"{stage('detection')}.querySelector('input[type=range]').focus()")
    for _ in range(5):
        browser.press("ArrowRight")
    stricter = check(data["overlaps"].index(0.35))
    assert all(b <= a for a, b in zip(at_ten[0], stricter[0], strict=True))
    assert all(b <= a for a, b in zip(at_ten[1], stricter[1], strict=True))
    other = next(p["name"] for p in target["people"] if p["name"] != person["name"])
    choose(browser, "detection", "One person", other)
    assert other in browser.run(f"{stage('detection')}.querySelector('[data-half=one]').textContent")
    drawn = f"{stage('detection')}.querySelector('[data-half=all] polyline').getAttribute('points')"
    means = next(iter(target["means"].values()))
    for rate in ("sensitivity", "f1"):
        choose(browser, "detection", "Drawn", rate)
        shown = [round((206 - float(point.partition(",")[2])) / 198, 2) for point in browser.run(drawn).split()]
        expected = [round(v, 2) for v in means[rate] if v is not None]
        assert np.allclose(shown, expected, atol=0.011), rate
    nothing_wrong(browser)


# ------------------------------------------------------------------------------------------- for everybody, everywhere
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_pages_that_turn_fit_the_screen(html: Path, browser: Chromium, width: int, dark: bool) -> None:
    for page in (PAGE, "results/demo/index.html"):
        browser.open(html / page, width, dark=dark)
        for k in range(browser.run("document.querySelectorAll('.turn-stage').length")):
            browser.run(f"document.querySelectorAll('.turn-stage')[{k}].scrollIntoView({{behavior: 'instant'}})")
            browser.wait(f"document.querySelectorAll('.turn-stage')[{k}].dataset.state !== undefined")
        assert browser.run("document.documentElement.dataset.theme") == ("dark" if dark else "light")
        assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), page
    nothing_wrong(browser)


def test_every_control_says_what_it_is(html: Path, browser: Chromium) -> None:
    for widget in ("ranking", "slices", "detection"):
        start(browser, html / PAGE, widget)
        nameless = browser.run(
            f"[...{stage(widget)}.querySelectorAll('select, input')].filter((c) => !c.labels.length || !c.labels[0].textContent.trim()).length"
        )
        assert nameless == 0, widget
        silent = browser.run(
            f"[...{stage(widget)}.querySelectorAll('canvas')].filter((c) => !c.getAttribute('aria-label')).length"
        )
        assert silent == 0, widget


def test_a_cell_of_the_grid_opens_its_notebook(html: Path) -> None:
    page = html / "results" / "demo" / "index.html"
    text = page.read_text(encoding="utf-8")
    cells = re.findall(r'<a class="turn-cell" href="([^"]+)" aria-label="([^"]+)"', text)
    assert [label.partition(":")[0] for _, label in cells] == ["Stroke lesions from ImageNet"], "the one executed cell"
    opened = (page.parent / cells[0][0]).resolve()
    assert opened == html / "stages" / "demo" / "targets" / "stroke-imagenet.html" and opened.is_file()
    assert text.count('class="turn-cell"') == 3 * len(SHOWN)


def test_colours_are_those_of_the_figures(html: Path) -> None:
    for widget in ("ranking", "detection"):
        for source in data_of(html, PAGE, widget)["sources"]:
            assert source["colour"] == figures.COLOURS[source["name"]] and source["marker"] == figures.marker(
                source["name"]
            )


# --------------------------------------------------------------------------------------------------- where they cannot
def test_a_picture_stays_where_the_viewer_cannot_be_loaded(html: Path, browser: Chromium) -> None:
    browser.open(html / PAGE)
    browser.ask("Network.setBlockedURLs", urls=["*niivue*"])
    browser.run(f"{stage('viewer')}.scrollIntoView({{behavior: 'instant'}})")
    browser.wait(f"{stage('viewer')}.dataset.state !== undefined")
    assert browser.run(f"{stage('viewer')}.dataset.state") == "still"
    assert "picture" in browser.run(f"{stage('viewer')}.textContent")
    assert browser.run(f"{stage('viewer')}.closest('figure').querySelector('.turn-still').offsetHeight") > 50
    browser.problems.clear()
    browser.requests.clear()


def test_without_node_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    (tmp_path / "package-lock.json").write_text("{}")
    said: list[str] = []
    without = fetch_niivue(tmp_path, tmp_path / "turn", said.append)
    assert without == "there was no Node.js" and not (tmp_path / "turn").exists()
    assert len(said) == 1 and "picture instead" in said[0]
    assert f'"without":"{without}"' in interactive.scans_stage("viewer", [], [], "", without)


def test_the_packages_are_pinned_and_name_no_registry() -> None:
    wanted = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["dependencies"]
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert lock["packages"][""]["dependencies"] == wanted
    for name, package in lock["packages"].items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name


# ------------------------------------------------------------------------------------------------------ what they hold
def test_only_volumes_whose_licence_allows_it_are_shown(tmp_path: Path) -> None:
    for publish in ("numbers", "pictures"):
        a_scan(tmp_path / publish, publish)
        assert interactive.shown_scans(tmp_path / publish, made_up_results(), tmp_path / "cache") == []
    counted = counting.count(tmp_path / "numbers", tmp_path / "cache")
    assert len(counted), "counts are numbers, which every licence allows"


def test_volumes_are_small(html: Path) -> None:
    scans = [scan["file"] for scan in data_of(html, PAGE, "slices")["scans"]]
    assert scans and sum((html / "turn" / file).stat().st_size for file in scans) < LIMIT
    assert (html / PAGE).stat().st_size < LIMIT / 4


def overlaps(html: Path) -> pd.DataFrame:
    """The table behind the overlap figure, as the book counted it."""
    root = html.parents[1]
    return counting.count(root / "runs" / "demo", root / "_build" / "predictions")


def test_every_test_person_stands_behind_the_means_and_is_scored_as_in_the_study(html: Path) -> None:
    """At the study's own rule each person's rates are those that fine-tuning writes; a mean leaves out who has none."""
    run = html.parents[1] / "runs" / "demo"
    store = open_store(run / "data" / "ms")
    people = store.subjects("test", 0)
    table = overlaps(html)
    assert len(people) > 1 and sorted(table["subject"].unique()) == people
    assert set(table["source"]) == set(SHOWN) and table["overlap"].nunique() == len(counting.OVERLAPS)
    names = {"lesion_f1": "f1", "lesion_sensitivity": "sensitivity", "lesion_precision": "precision"}
    each = counting.rates(table).set_index(["source", "overlap", "subject"])
    means = counting.mean_rates(table, "ms").set_index(["source", "overlap"])
    for source in SHOWN:
        with store.final_scoring():
            network = predict.read_network(run, source, "ms").network
            scores = finetune.score_people(network, "ms", store, people, Machine()).scores
        for metric, name in names.items():
            written = scores[scores["metric"] == metric].set_index("subject")["value"]
            ours = each.loc[(source, 0.1), name]
            assert np.allclose(ours.loc[people], written.loc[people], equal_nan=True), (source, metric)
            mean, n = means.loc[(source, 0.1), [name, f"n_{name}"]]
            assert n == written.notna().sum() and (n == 0 or np.isclose(mean, written.mean()))


def test_kept_counts_read_as_they_were_counted(html: Path, tmp_path: Path) -> None:
    table = overlaps(html)
    write_table(tmp_path / counting.FILE, table)
    read = counting.read(tmp_path / counting.FILE)
    pd.testing.assert_frame_equal(read, table, check_dtype=False, rtol=1e-5)
    assert interactive.detection(read) == interactive.detection(table)


def test_counts_travel_with_a_packed_run_though_its_networks_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = a_project(tmp_path / "here")
    shutil.copyfile(ROOT / "notebooks" / "profiles" / "demo.yaml", root / "notebooks" / "profiles" / "demo.yaml")
    monkeypatch.chdir(root)
    run, there = root / "runs" / "demo", tmp_path / "there" / "demo"
    a_scan(run)
    (run / "machine.json").write_text("{}")
    for source in SHOWN:
        row = run / "targets" / "main" / "ms" / source / "fold-0" / "seed-0"
        write_manifest(row, stage="finetune", key="k", parameters={}, code="c", inputs={})
    before = counting.count(run, tmp_path / "cache")
    pack.pack(run, tmp_path / "demo.zip", lambda line: None)
    shutil.copytree(run / "data", there / "data")
    pack.unpack(tmp_path / "demo.zip", there, lambda line: None)
    assert not list(there.rglob("network.safetensors"))
    after = counting.count(there, tmp_path / "no-cache")
    assert len(after) == len(before) > 0
    pd.testing.assert_frame_equal(after, before, check_dtype=False, rtol=1e-5)
    assert interactive.shown_scans(there, made_up_results(), tmp_path / "no-cache") == []
    # another network in its place: what was counted of the old one is not taken for it
    row = run / "targets" / "main" / "ms" / "scratch" / "fold-0" / "seed-0"
    shutil.copyfile(
        row.parents[2] / "imagenet" / "fold-0" / "seed-0" / "network.safetensors", row / "network.safetensors"
    )
    anew = counting.count(run, tmp_path / "cache").set_index("source")[list(counting.COUNTS)]
    assert anew.loc["scratch"].to_numpy().tolist() == anew.loc["imagenet"].to_numpy().tolist()
    assert before.set_index("source").loc["scratch", "predicted"].tolist() != anew.loc["scratch", "predicted"].tolist()


def test_a_run_of_one_rule_says_that_there_is_nothing_to_slide(tmp_path: Path) -> None:
    root = a_project(tmp_path)
    run = root / "runs" / "demo"
    (run / "compare").mkdir(parents=True)
    made_up_results().to_csv(run / "results.csv", index=False)
    (found,) = book.find_runs(root, None, True)
    PageMaker(root, root / "_build" / "source", [found]).run_pages(found)
    page = (root / "_build" / "source" / "results" / "demo" / "turn.md").read_text(encoding="utf-8")
    assert "by one rule only, an overlap of 10 %" in page and "turn/detection.html" not in page


def test_the_curve_is_that_of_the_masks(html: Path, scan: ShownScan) -> None:
    """At the study's own rule the counts are those of the shown masks, put back into the scan's own grid by their affine."""
    store = open_store(html.parents[1] / "runs" / "demo" / "data" / "ms")
    truth, _ = evaluate.reference(store, scan.subject)
    turn = np.linalg.inv(scan.affine) @ np.array(store.scans[scan.subject]["own"]["affine"])
    places = np.rint(np.tensordot(turn[:3, :3], np.indices(truth.shape), 1) + turn[:3, 3, None, None, None]).astype(int)
    shape = np.array(scan.image.shape)[:, None, None, None]
    inside = ((places >= 0) & (places < shape)).all(axis=0)
    x, y, z = np.clip(places, 0, shape - 1)
    table = overlaps(html)
    table = table[table["scan"] == scan.subject]
    for source, mask in scan.predictions.items():
        rule = metrics.detect_lesions((mask[x, y, z] > 0) & inside, truth > 0, (2.0, 2.0, 2.0))
        row = table[(table["source"] == source) & (table["overlap"] == 0.1)].iloc[0]
        assert (row["lesions"], row["found"], row["predicted"]) == (rule.n_truth, rule.n_detected, rule.n_pred)
    assert int(table["found"].max()) > 0, "some source touches the lesion, or this proves nothing"
