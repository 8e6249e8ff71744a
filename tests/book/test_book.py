"""Promises of the book: nothing broken is shown, nothing is loaded from outside, simulated is called simulated.

The run that is shown here is made up in a temporary folder: its numbers are random and mean nothing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from made_up import ROOT, SUMMARY, a_project, a_run, an_executed_notebook, made_up_results

from braintransfer import book, claims, study, tables
from braintransfer.book import runs, words
from braintransfer.book.pages import PageMaker
from braintransfer.errors import BadInput


# --------------------------------------------------------------------------------------------- what is never put in
def _error(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[-1].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])]


def _not_run(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[-1].execution_count = None


def _other_parameters(notebook: nbformat.NotebookNode) -> None:
    notebook.metadata["papermill"]["parameters"]["seed"] = 7


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (_error, "cell 4 ended with ValueError"),
        (_not_run, "cell 4 did not run"),
        (_other_parameters, "ran with seed = 7"),
    ],
)
def test_a_broken_notebook_is_refused_before_anything_is_built(
    tmp_path: Path, breaks: Callable[[Any], None], said: str
) -> None:
    root = a_project(tmp_path)
    path = an_executed_notebook(root / "runs" / "demo" / "targets" / "main" / "ms" / "scratch")
    notebook = nbformat.read(path, as_version=4)
    breaks(notebook)
    nbformat.write(notebook, path)
    with pytest.raises(BadInput, match=said) as refused:
        book.build(root, "demo")
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)
    assert not (root / "_build" / "html").exists()


def test_a_notebook_without_its_manifest_is_refused(tmp_path: Path) -> None:
    root = a_project(tmp_path)
    path = an_executed_notebook(root / "runs" / "demo" / "data" / "mri", "prepare")
    manifest = path.with_name("manifest.json")
    manifest.write_text(manifest.read_text().replace("prepare", "compare"))
    with pytest.raises(BadInput, match="belongs to the stage 'compare'"):
        book.build(root, "demo")
    manifest.write_text(manifest.read_text().replace('"done"', '"torn"'))
    with pytest.raises(BadInput, match="no manifest.json with status done"):
        book.build(root, "demo")
    manifest.unlink()
    with pytest.raises(BadInput, match="no manifest.json with status done"):
        book.build(root, "demo")


def test_a_stage_under_way_is_not_shown(tmp_path: Path) -> None:
    path = an_executed_notebook(tmp_path / "targets" / "main" / "ms" / "scratch")
    path.with_name("manifest.json").unlink()
    path.rename(path.with_name("finetune.ipynb.part.ipynb"))
    assert book.executed_stages(tmp_path) == []


def test_a_profile_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no run and no profile 'dmeo'"):
        book.find_runs(a_project(tmp_path), "dmeo", True)


# ------------------------------------------------------------------------------------------------------ the first page
def test_a_fresh_clone_says_how_to_fill_the_book(tmp_path: Path) -> None:
    root = a_project(tmp_path)
    pages = book.assemble(root, book.find_runs(root, "demo", True), root / "_build" / "source")
    assert pages[0] == "index" and "results/none/index" in pages
    assert not [page for page in pages if page.startswith("stages/")]
    source = root / "_build" / "source"
    for page in pages:
        assert (source / f"{page}.md").is_file() or (source / f"{page}.ipynb").is_file(), page
    for page in ("index", "results/none/index"):
        assert "No run yet: `make study` fills this page" in (root / "_build" / "source" / f"{page}.md").read_text(
            encoding="utf-8"
        )


def test_a_run_without_the_cells_of_the_answer_says_so(tmp_path: Path) -> None:
    root = a_project(tmp_path)
    run = root / "runs" / "demo"
    run.mkdir(parents=True)
    results = made_up_results()
    results[results["source"] == "scratch"].to_csv(run / "results.csv", index=False)
    book.assemble(root, book.find_runs(root, None, True), root / "_build" / "source")
    page = (root / "_build" / "source" / "index.md").read_text(encoding="utf-8")
    assert "does not hold the cells" in page and "No run yet" not in page


@pytest.mark.parametrize(
    ("verdict", "simulated", "heading", "sentence"),
    [
        ("inconclusive", False, "What this run can say", "The rules decide **none of the three claims** from this run: claim 1 is inconclusive"),
        ("not_supported", False, "The answer", "What the rules say: claim 1 is not supported"),
        ("illustration: the rule would say supported", False, "What this run can say", "claim 1 gets no verdict, as some of its data are simulated"),
        ("illustration: the rule would say supported", True, "What this run can say", "none of the three claims gets a verdict"),
    ],
)  # fmt: skip
def test_an_answer_is_announced_only_where_the_rules_decide(
    tmp_path: Path, verdict: str, simulated: bool, heading: str, sentence: str
) -> None:
    root = a_project(tmp_path)
    run = a_run(root)
    (run / "compare" / "claims_summary.json").write_text(json.dumps([{"claim": "claim1", "verdict": verdict}]))
    (run / "run.json").write_text(json.dumps({"profile": "demo", "simulated": simulated}))
    (found,) = book.find_runs(root, "demo", True)
    page = PageMaker(root, root / "_build" / "source", [found]).environment.get_template("templates/index.md")
    text = page.render(first=found, partial=found, overview="", proven=False, claims_page=True, beside=False)
    assert re.findall(r"^## (.*)", text, re.M)[0] == heading and sentence in text
    fresh = page.render(first=None, partial=None, overview="", proven=False, claims_page=False, beside=False)
    assert "## No answer yet" in fresh


def test_the_reasons_of_the_rules_are_said_in_titles() -> None:
    shown = words.claims_summary([SUMMARY])
    assert shown is not None
    said = " ".join(shown.to_numpy().ravel())
    for raw in ("_", "@", "scratch:", "imagenet", "mri-", "natural-", "assay", "min subjects", "stroke,", " ms"):
        assert raw not in said, raw
    assert shown["claim, on"].tolist() == ["1, all its targets", "1, stroke lesions", "1, MS lesions"]
    for sentence in (
        "a gate failed on stroke lesions, MS lesions",
        "pre-training helps: no source beats random weights (scratch) at 0.025 / 7; nearest: ImageNet (one-sided p = 0.032)",
        "natural · classification (seeds 0, 1), MRI · segmentation, 10 % of the images (seed 1)",
        "null check: not run; room for differences: mean lesion sensitivity 0.077, outside [0.15, 0.9]",
        "beyond the margin: MRI · segmentation − ImageNet on MS lesions",
    ):
        assert sentence in said
    kept = tables.read_json(ROOT / "book" / "reference" / "open_cut" / "compare" / "claims_summary.json", [])
    assert not re.search(r"_|@|(?:mri|natural)-\w|imagenet|selfsupervised", words.claims_summary(kept).to_csv())  # type: ignore[union-attr]
    gates = {gate.partition(":")[0] for c in kept for t in c["targets"].values() for gate in t["gates_failed"]}
    assert gates and gates <= set(words.GATES)


def test_an_answer_says_where_its_difference_does_not_outlast_the_correction(tmp_path: Path) -> None:
    run = runs.read_run(a_run(a_project(tmp_path)), reference=False)
    table = run.tables["differences"]
    table[["mean", "lower", "upper", "adjusted_p"]] = [-0.1, -0.2, -0.05, 0.2]
    assert all("by this interval alone, not after Holm's correction for this target's" in s for s in words.answers(run))
    table["adjusted_p"] = 0.01
    assert not any("alone" in s for s in words.answers(run)) and "lower with MRI" in words.answers(run)[0]


def test_a_real_run_is_held_beside_the_papers_findings(tmp_path: Path) -> None:
    run = runs.read_run(a_run(a_project(tmp_path)), reference=False)
    assert words.beside_the_paper(run) == [], "simulated"
    run.facts["simulated"] = False

    def contrast(claim: str, b: str, target: str, lower: float | None, upper: float | None) -> dict[str, Any]:
        return {"claim": claim, "A": "x", "B": b, "target": target, "lower": lower, "upper": upper, "margin": 0.03}

    run.contrasts[:] = [
        contrast("claim1", "imagenet", "stroke", -0.2, -0.04),
        contrast("claim1", "imagenet", "ms", -0.029, 0.5),
        contrast("claim1", "mri-classification", "ms", -0.04, 0.01),
        contrast("claim1", "natural-segmentation", "ms", None, None),
        contrast("claim2", "mri-segmentation", "stroke", 0.04, 0.1),
        contrast("claim2", "mri-segmentation", "ms", -0.02, 0.02),
    ]
    one, two = words.beside_the_paper(run)
    assert (
        "lower by more than the margin**, against the abstract, than after ImageNet on stroke lesions. It is higher or similar"
        in one
    )
    assert (
        "beside that after ImageNet on MS lesions. It is open beside that after MRI · classification on MS lesions"
        in one
        and "natural" not in one
    )
    assert (
        "is beyond the margin of that after MRI · segmentation on stroke lesions. It is comparable to that after MRI"
        in two
    )
    run.contrasts[:] = [contrast("claim3", "imagenet", "stroke", -0.2, -0.04)]
    assert words.beside_the_paper(run) == []


def test_real_results_come_before_simulated_ones(tmp_path: Path) -> None:
    root = a_project(tmp_path)
    a_run(root)
    kept = root / "book" / "reference" / "open"
    kept.mkdir(parents=True)
    shutil.copyfile(root / "runs" / "demo" / "results.csv", kept / "results.csv")
    (kept / "run.json").write_text(
        json.dumps(
            {"simulated": False, "kinds": {"anatomy": "real", "ms": "semi-synthetic", "stroke": "semi-synthetic"}}
        )
    )
    assert [run.slug for run in book.find_runs(root, None, True)] == ["reference-open", "demo"]
    small = shutil.copytree(kept, kept.with_name("a_cut"))
    results = pd.read_csv(small / "results.csv", keep_default_na=False)
    results[results["seed"] == 0].to_csv(small / "results.csv", index=False)
    slugs = [run.slug for run in book.find_runs(root, None, True)]
    assert slugs == ["reference-open", "reference-a-cut", "demo"], "the larger of the book's runs is its answer"
    assert [run.slug for run in book.find_runs(root, None, False)] == ["demo"]


def test_runs_on_real_scans_stand_side_by_side(tmp_path: Path) -> None:
    root = a_project(tmp_path)
    a_run(root)
    source, kept = root / "_build" / "source", root / "book" / "reference" / "open"
    kept.mkdir(parents=True)
    results = pd.read_csv(root / "runs" / "demo" / "results.csv", keep_default_na=False)
    results.to_csv(kept / "results.csv", index=False)
    (kept / "run.json").write_text(json.dumps({"profile": "open", "title": "A | title", "simulated": False}))
    assert list(words.real_runs(book.find_runs(root, None, True))) == ["open"], (
        "a simulated run is not set beside a real one"
    )
    other = shutil.copytree(kept, kept.with_name("other"))
    few = results[(results["source"] != "imagenet") | (results["target"] != "ms")]
    few[few["source"] != "mri-segmentation"].to_csv(other / "results.csv", index=False)
    (other / "run.json").write_text(json.dumps({"profile": "other", "simulated": False}))
    pages = book.assemble(root, book.find_runs(root, None, True), source)
    assert "results/beside" in pages and "results/beside" in (source / "index.md").read_text(encoding="utf-8")
    shown = pd.read_csv(source / "results" / "tables" / "answers.csv")
    asked = tables.difference_table(tables.read_results(kept / "results.csv"), "imagenet")
    said = asked[(asked["target"] == "stroke") & (asked["B"] == "scratch")].iloc[0]
    first = shown[
        shown["target"].str.startswith("Stroke") & shown["difference"].str.startswith("ImageNet − random")
    ].iloc[0]
    assert first["open"].startswith(tables.number(said["mean"], 3)) and first["open"].endswith(f"[n = {said['n']}]")
    assert first["other"] == first["open"], "the same people and scores, the same answer"
    assert set(shown.loc[shown["difference"].str.contains("MRI"), "other"]) == {"–"}
    assert set(shown.loc[shown["target"].str.startswith("MS"), "other"]) == {"–"}


# ------------------------------------------------------------------------------------------------------ the built book
def words_of(page: Path) -> str:
    """What a page says, without its tags."""
    article = page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", article)).split())


def own_pages(html: Path) -> list[Path]:
    static = html / "_static"  # holds a template of the theme
    return [p for p in sorted(html.rglob("*.html")) if static not in p.parents]


def test_the_first_page_is_a_page_and_no_redirect(html: Path) -> None:
    text = (html / "index.html").read_text(encoding="utf-8")
    assert "http-equiv" not in text.lower().replace("x-ua-compatible", "")
    assert "Which pre-training helps brain MRI segmentation?" in text
    assert re.search(r"gave a Dice of [\d.]+ \(−?[\d.]+ to [\d.]+\)", text), "the answer with its interval"


def test_no_page_loads_anything_from_outside(html: Path) -> None:
    assert len(own_pages(html)) > 20
    assert book.outside_loads(html) == []
    for path in html.rglob("*.html"):
        # a picture's own bytes may spell anything
        text = re.sub(r"data:image/png;base64,[\w+/=]+", "", path.read_text(encoding="utf-8")).lower()
        for word in ("mathjax", "require.min.js", "unpkg.com", "jsdelivr", "cdnjs", "googleapis", "shields.io"):
            assert word not in text, f"{path.name} names {word}"


def test_the_check_for_outside_loads_sees_them(tmp_path: Path) -> None:
    for tag in (
        '<script src="https://a.example/x.js"></script>',
        '<link rel="stylesheet" href="//a.example/x.css">',
        '<img src="http://a.example/x.png">',
        '<img srcset="x.png 1x, https://a.example/y.png 2x">',
        '<iframe src="https://a.example"></iframe>',
        '<style>@import url("https://a.example/x.css");</style>',
        '<p style="background: url(https://a.example/x.png)"></p>',
        '<script>load("https://a.example/thebe.js")</script>',
    ):
        (tmp_path / "page.html").write_text(f"<html><body>{tag}</body></html>")
        assert len(book.outside_loads(tmp_path)) == 1, tag
    (tmp_path / "page.html").write_text(
        '<a href="https://a.example">read</a><link rel="canonical" href="https://a.example"><img src="x.png">'
    )
    assert book.outside_loads(tmp_path) == []
    (tmp_path / "x.css").write_text("@font-face { src: url('https://a.example/x.woff2') }")
    assert len(book.outside_loads(tmp_path)) == 1


def test_every_page_says_that_it_is_not_for_clinical_use(html: Path) -> None:
    for path in own_pages(html):
        assert "not for clinical use" in path.read_text(encoding="utf-8").lower(), path


def test_everything_simulated_has_its_badge_and_its_sentences(html: Path) -> None:
    for page in (
        "index",
        *(f"results/demo/{p}" for p in ("index", "stroke", "ms", "anatomy", "detection", "claims", "samples")),
    ):
        text = re.sub(r"\s+", " ", (html / f"{page}.html").read_text(encoding="utf-8"))
        assert "Simulated data" in text, page
        for sentence in book.SIMULATED_SENTENCES:
            assert sentence in text, (page, sentence)
    assert "Simulated data" in (html / "stages/demo/targets/stroke-imagenet.html").read_text(encoding="utf-8")
    assert "illustration: the rule would say inconclusive" in (html / "results/demo/claims.html").read_text(
        encoding="utf-8"
    )


class _Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.alts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.alts.append(dict(attrs).get("alt") or "")


def test_every_picture_has_an_alternative_text_that_says_something(html: Path) -> None:
    seen = 0
    for path in own_pages(html):
        parser = _Pictures()
        parser.feed(path.read_text(encoding="utf-8"))
        for alt in parser.alts:
            seen += 1
            assert len(alt) > 20 and not re.search(r"\.(png|svg)$", alt), (path, alt)
    assert seen > 8


def test_no_raw_name_stands_on_the_page_of_the_claims(html: Path) -> None:
    text = (html / "results" / "demo" / "claims.html").read_text(encoding="utf-8")
    article = re.sub(r"<[^>]*>", " ", re.search(r'<article class="bd-article">(.*?)</article>', text, re.S)[1])  # type: ignore[index]
    assert "MRI · segmentation, 10 % of the images" in article
    for raw in (
        "mri-segmentation",
        "natural-classification",
        "imagenet",
        "lesion_",
        "source_learned",
        "assay",
        "@size",
    ):
        assert raw not in article, raw


def test_the_page_of_the_claims_says_them_before_it_judges_them(html: Path) -> None:
    rules = claims.load(ROOT / "notebooks" / "claims.yaml")
    text = re.sub(r"\s+", " ", (html / "results" / "demo" / "claims.html").read_text(encoding="utf-8")).replace(
        "’", "'"
    )
    places = [text.index(claim.says) for claim in rules.claims.values()]
    assert places == sorted(places) and places[-1] < text.index("<table")


def test_the_first_page_leads_to_the_story_to_own_data_and_to_the_course(html: Path) -> None:
    text = (html / "index.html").read_text(encoding="utf-8")
    article = re.search(r'<article class="bd-article">(.*?)</article>', text, re.S)[1]  # type: ignore[index]
    for page in ("background", "add_a_dataset", "reproduce", "course/index", "design", "results/demo/claims"):
        assert f'href="{page}.html' in article, page


def test_a_baseline_has_no_interval_and_no_cell_says_so(html: Path) -> None:
    rows = [{"target": "ms", "baseline": "empty", "subject": "p", "metric": "dice", "class": "", "value": 0.0}]
    shown = words.baselines_for_reading(tables.baselines_table(pd.DataFrame(rows)), "ms")
    assert shown.iloc[0]["Dice"] == "0.00"


def test_controls_stand_beside_what_their_question_asks_for(html: Path) -> None:
    text = words_of(html / "results" / "demo" / "controls.html")
    assert "more than training longer? ImageNet − random weights (scratch), three times longer" in text
    assert (
        "does it help with so few labelled people? ImageNet, 1 labelled person − random weights (scratch), 1 labelled person"
        in text
    )
    assert "from malf MRI · segmentation" in text and "not judged: it did not learn enough" in text
    assert "not judged: MRI · segmentation did not learn enough" in text, "nor against random weights"
    assert "Shuffled masks keep the pictures" in text and "contrastive" not in text.lower()


def test_a_run_says_first_what_longer_fine_tuning_gives_random_weights(html: Path, tmp_path: Path) -> None:
    for page in (html / "index.html", html / "results" / "demo" / "index.html"):
        assert "Fine-tuning longer instead: random weights, fine-tuned three times longer, end above" in words_of(page)
    folder = a_run(tmp_path)
    pairs = pd.read_csv(folder / "compare" / "pairs.csv")
    longer = (pairs["B_arm"] == "scratch_long") & (pairs["target"] == "ms")
    assert set(pairs.loc[longer, "A"]) == {"imagenet", "mri-segmentation"}
    pairs.loc[longer, ["lower", "upper"]] = [-0.2, -0.1]
    pairs.loc[longer & (pairs["A"] == "imagenet"), ["lower", "upper"]] = [0.1, 0.2]
    pairs.to_csv(folder / "compare" / "pairs.csv", index=False)
    run = runs.read_run(folder, reference=False)
    assert "above 1 of 2 and below 1 (ImageNet) on MS lesions" in words.trained_longer(run)
    kept = replace(run, tables={**run.tables, "pairs": pairs[~(pairs["B_arm"] == "scratch_long")]})
    assert words.trained_longer(kept) == ""


def test_a_run_says_how_far_another_data_set_moves_the_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.read_run(a_run(tmp_path), reference=False)
    assert words.other_sets(run) == "", "its one replicate did not learn"
    arms = run.tables["arms"]
    malf = (arms["arm"] == "replicate_malf") & (arms["metric"] == arms["target"].map(study.HEADLINE))
    bounds = ["difference", "difference_lower", "difference_upper"]
    assert malf.any()
    run.tables["arms"] = learned = arms.assign(learned="")
    learned.loc[malf, bounds] = (-0.04, -0.07, 0.01)
    one = learned[malf].iloc[:1].assign(arm="replicate_camvid", learned="no")
    run.tables["arms"] = pd.concat([learned, one])
    said = words.other_sets(run)
    assert (
        f"(malf) moves the estimated score by at most 0.040, in {malf.sum()} comparisons, whose intervals reach from"
        in said
    )
    assert "from −0.070 to 0.010. Every interval holds zero. Not" in said
    assert said.endswith("as not every encoder learned its own task far enough: camvid.")
    with monkeypatch.context() as patch:
        patch.setattr(words, "unlearned", lambda run: {"mri-segmentation"})
        assert words.other_sets(run).startswith(
            "With malf in the place of MRI · segmentation, which did not learn enough in the main arm, the score moves by at most 0.040: that"
        )
    learned.loc[malf & (learned["target"] == "stroke"), bounds] = (0.05, 0.01, 0.09)
    run.tables["arms"] = learned
    assert words.other_sets(run).endswith("to 0.090. Intervals that leave out zero: from malf on stroke lesions.")


def test_a_run_says_which_controls_it_lacks_in_whole_or_in_part(tmp_path: Path) -> None:
    run = runs.read_run(a_run(tmp_path), reference=False)
    run.facts["profile"] = "reference"
    assert run.results is not None
    one = run.results[(run.results["arm"] == "main") & (run.results["source"] == "scratch")]
    several = pd.concat(
        [one.assign(arm="labels_2"), one[one["target"] == "ms"].assign(arm="labels_4"), one.assign(arm="scratch_long")]
    )
    said = words.arms_missing(replace(run, results=several))
    assert "; 2 labelled people, for ImageNet and MRI · segmentation;" in said
    assert "4 labelled people, for random weights (scratch) on stroke lesions, ImageNet and MRI · segmentation;" in said
    assert "shuffled masks;" in said and "three times longer" not in said


def test_a_contrast_is_shown_fold_by_fold_where_there_are_several(html: Path) -> None:
    text = words_of(html / "results" / "demo" / "claims.html")
    assert "1 MS lesions MRI · segmentation − ImageNet 0.010 (2 people) −0.020 (2 people)" in text
    assert "0.010 (2 people) –" not in text, "a target of one fold has nothing to compare"


def test_a_run_says_of_how_many_people_it_draws_those_to_learn_from() -> None:
    run = runs.read_run(ROOT / "book" / "reference" / "reference", reference=True)
    assert words.drawn_from(run) == (
        " from those that the fold has: 16 of 28 for stroke lesions, 12 of 14 for MS lesions, 4 of 5 or 6 for brain anatomy"
    )
    assert "After Holm's correction for their number none of these are told apart" in words.what_to_notice(
        run, "stroke"
    )


def test_a_source_that_did_not_learn_is_named_on_every_page_that_would_judge_it(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    learned = pd.read_csv(folder / "compare" / "learned.csv")
    assert words.unlearned(runs.read_run(folder, reference=False)) == {"replicate_malf/mri-segmentation"}
    learned.loc[
        (learned["source"] == "mri-segmentation") & (learned["measure"] == "dice") & (learned["seed"] == 1), "value"
    ] = "0.31"
    learned.to_csv(folder / "compare" / "learned.csv", index=False)
    run = runs.read_run(folder, reference=False)
    assert words.unlearned(run) == {"mri-segmentation", "replicate_malf/mri-segmentation"}
    said = words.what_to_notice(run, "stroke")
    assert "Not judged:** MRI · segmentation did not learn its own task far enough" in words.unlearned_words(run)
    assert "1 sources" not in said and "compared with" not in said, "what did not learn is not compared"


def test_a_run_says_which_starts_it_does_not_have(tmp_path: Path) -> None:
    run = runs.read_run(a_run(tmp_path), reference=False)
    gone = "natural · classification; natural · segmentation; natural · self-supervised; MRI · classification; MRI · self-supervised"
    assert words.not_run(run) == f"Not in this run: {gone}." and words.not_run(run) in words.badge(run, "ms")
    assert run.results is not None
    few = run.results[(run.results["target"] != "ms") | (run.results["source"] != "scratch")]
    assert words.not_run(replace(run, results=few)).startswith(
        "Not in this run: random weights (scratch) on MS lesions; "
    )
    without = replace(run, results=run.results[run.results["target"] != "ms"])
    assert words.not_run(without) == f"Not in this run: MS lesions; {gone}."


def test_a_run_is_never_called_what_a_mask_is_called(html: Path) -> None:
    """ "Reference" is the right mask; the run that comes with the book is its own run."""
    for path in own_pages(html):
        text = re.sub(r"<[^>]*>", " ", path.read_text(encoding="utf-8"))
        assert not re.search(r"\breference[- ](run|study|scores)\b", text, re.I), path
    (kept,) = (run for run in book.find_runs(ROOT, None, True) if run.slug == "reference-open-cut")
    assert kept.title.startswith("The book's own run: ")


def test_the_page_of_costs_says_where_the_time_went(html: Path) -> None:
    text = (html / "results" / "demo" / "cost.html").read_text(encoding="utf-8")
    assert "Where the time went" in text and "everything else: start of kernels" in text


def test_figures_and_tables_are_numbered(html: Path) -> None:
    for path in (html / "results" / "demo").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        captions = re.findall(r"<(?:figcaption|caption)>(.*?)</(?:figcaption|caption)>", text, re.S)
        assert all(re.search(r"(Figure|Table) \d+", caption) for caption in captions), path
    assert "<math" in (html / "metrics.html").read_text(encoding="utf-8")


def test_a_warning_fails_the_build_and_leaves_the_old_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = a_project(tmp_path)
    (root / "_build" / "html").mkdir(parents=True)
    (root / "_build" / "html" / "index.html").write_text("the old book")

    def two_lines(_root: Path, _runs: list[book.Run], source: Path, _report: Callable[[str], None]) -> list[str]:
        (source / "extra").mkdir(parents=True)
        (source / "index.md").write_text("# A page\n\nSee {doc}`a-page-that-is-not-there`.\n")
        (source / "_toc.yml").write_text("format: jb-book\nroot: index\n")
        (source / "references.bib").touch()
        return ["index"]

    monkeypatch.setattr(book, "assemble", two_lines)
    with pytest.raises(book.BuildFailed, match="a-page-that-is-not-there"):
        book.build(root, "demo", report=lambda line: None)
    assert (root / "_build" / "html" / "index.html").read_text() == "the old book"
