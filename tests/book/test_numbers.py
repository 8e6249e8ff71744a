"""Promises of the proof pages: their numbers are pulled from the tables, and words that hang on a number are still true."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from made_up import ROOT

from braintransfer import claims, cost, study, tables
from braintransfer.book.kept import Kept, short
from braintransfer.book.pages import PageMaker
from braintransfer.book.runs import read_run
from braintransfer.errors import BadInput
from braintransfer.proofs import speed, worlds

PAGES = sorted(path.stem for path in (ROOT / "book").glob("proof_*.md"))
KEPT = Kept(ROOT / "book" / "proof")
NULL = claims.load(ROOT / "notebooks" / "claims.yaml").gates.null_contrast
#: What looks like a result: a count out of others, a decimal number, thousands, a share in percent.
_TYPED = re.compile(
    r"(?<![\w.])(?:\d[\d,]* of (?:the |these )?\d[\d,]*|\d*\.\d+|\d{1,3}(?:,\d{3})+|\d+ %)"  # longest first
)
#: What a page may type, with the reason. Settings come from the code, so that a page that types another one fails.
ALLOWED: dict[str, dict[str, tuple[str, ...]]] = {
    "proof_claims": {
        "the promises of an interval and of the rules": ("95 %", "93 %", "97 %", "90 %", "2 %", "2.5", "5 %"),
        "settings of the worlds: half-widths": tuple(short(half, 3) for half in worlds.HALF_WIDTHS.values()),
        "settings of the worlds: who makes the spread": ("70 %", "45 %", "25 %", "80 %"),
        "settings of the worlds: a Dice that becomes 0": (short(worlds.MISSED),),
    },
    "proof_lesions": {
        "spacing of the grid and depth in a lesion, mm": ("1.5",),
        "guessing": (".5",),
        "the contrast that changes nothing": ("1.0",),
        "limits of the null check": (short(NULL.dice_above_prior_map), short(NULL.artefact_auc)),
    },
    "proof_metrics": {
        "thresholds of other people's rules": ("70 %", "65 %", ".5"),
    },
    "proof_simulators": {
        "history: the first measurement was not kept": ("19 of these 35",),
        "in no kept table: quantiles that the simulator was set from, and the two real sets told apart": (".91", ".99"),
        "guessing": (".5",),
    },
    "proof_speed": {
        "size of a made-up source": ("200,000",),
        "rows of a matrix": (f"{speed.MATRIX:,}",),
        "in no kept table: the first two runs of the ceiling": (".962", ".919", ".967", ".975", ".998", ".993"),
        "in no kept table: an earlier run of the loops": ("1.03", ".8"),
        "in no kept table: bf16 beside fp32 in four runs": (".98", "1.22"),
        "in no kept table: two shorter trials of the compiled network": ("1.018", ".984"),
    },
}


def typed(text: str) -> list[str]:
    """Numbers that look like results and stand in the prose of a template itself, a table's caption included."""
    text = re.sub(r"\{\{ proof_table\((.*?)\) \}\}\n", lambda call: " ".join(re.findall(r'"([^"]*)"', call[1])), text)
    return _TYPED.findall(re.sub(r"\{\{.*?\}\}|\{%.*?%\}|`[^`\n]*`", "x", text, flags=re.DOTALL))


def rendered(root: Path, page: str) -> str:
    """A page without its figures and tables."""
    environment = PageMaker(root, root / "_build" / "source", []).environment
    environment.globals |= {"drawing": lambda name: "", "proof_table": lambda name, caption: caption}
    return re.sub(r"\s+", " ", environment.get_template(f"{page}.md").render())


@pytest.mark.parametrize("page", PAGES)
def test_a_result_on_a_proof_page_is_pulled_and_not_typed(page: str) -> None:
    found = set(typed((ROOT / "book" / f"{page}.md").read_text(encoding="utf-8")))
    allowed = {number for numbers in ALLOWED.get(page, {}).values() for number in numbers}
    assert not found - allowed, f"{page} types numbers that its tables hold: {sorted(found - allowed)}"
    assert not allowed - found, f"{page} no longer types {sorted(allowed - found)}: no need to allow it"


def test_the_check_for_typed_results_sees_them() -> None:
    page = "{% set x = 0.1 %}\n**34 of the 35** lie {{ short(0.5) }}, .017 and 3.9 s; in 26 to 40 % of 1,212 masks, `v1.5`\n"
    assert typed(page) == ["34 of the 35", ".017", "3.9", "40 %", "1,212"]
    assert typed('{{ proof_table("a", "Error 0.34, " ~ number(x, 1) ~ ".") }}\n') == ["0.34"]


def test_a_changed_table_changes_its_page(tmp_path: Path) -> None:
    kept = tmp_path / "book" / "proof"
    kept.mkdir(parents=True)
    (tmp_path / "_config.yml").write_text("title: a book\n")
    (tmp_path / "book" / "proof_lesions.md").write_bytes((ROOT / "book" / "proof_lesions.md").read_bytes())
    for path in (ROOT / "book" / "proof").glob("lesions_*.csv"):
        (kept / path.name).write_bytes(path.read_bytes())
    assert "not told apart by these features: .56, where" in rendered(tmp_path, "proof_lesions")
    table = kept / "lesions_apart.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("0.56 (", "0.61 ("), encoding="utf-8")
    assert "not told apart by these features: .61, where" in rendered(tmp_path, "proof_lesions")


def test_a_number_is_read_as_it_stands_in_a_cell(tmp_path: Path) -> None:
    (tmp_path / "made_up.csv").write_text(
        "what,seeds,value\n"
        "contrast,5,−1.75 (-3.23 to −0.62); n = 89 of 3\n"
        'F1 in ds002748,5,"× 1.24 of 2,000"\n'
        "nothing,3,\n"
    )
    kept = Kept(tmp_path)
    contrast = {"what": "contrast"}
    assert [kept.cell("made_up", "value", contrast, n) for n in (1, 2, 3)] == ["−1.75", "−3.23", "−.62"]
    assert kept.cell("made_up", "value", contrast, 5, digits=0) == "3"
    assert kept.column("made_up", "value", {"seeds": 5}).tolist() == [-1.75, 1.24]
    assert kept.column("made_up", "value", {"what": ["F1 in ds002748", "another"]}, 2).tolist() == [2000]
    assert kept.column("made_up", ["seeds", "value"], contrast).tolist() == [5, -1.75]
    for where, column, said in (
        ({"seeds": 5}, "value", r"made_up.csv, column 'value': rows 1, 2 fit \{'seeds': 5\}, and only one should"),
        ({"seeds": 4}, "value", r"made_up.csv, column 'value': none of 3 rows fits \{'seeds': 4\}"),
        ({"seed": 5}, "value", "made_up.csv has no column 'seed'; it has what, seeds, value"),
        (contrast, "values", "made_up.csv has no column 'values'"),
        ({"what": "nothing"}, "value", "made_up.csv, column 'value', row 3: no number 1 in ''"),
        ({"what": "F1 in ds002748"}, "what", "row 2: no number 1 in 'F1 in ds002748'"),
    ):
        with pytest.raises(BadInput, match=said) as refused:
            kept.cell("made_up", column, where)
        assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match=r"other\.csv is missing"):
        kept.column("other", "value")


def test_words_that_hang_on_a_number_are_still_true() -> None:
    covers = KEPT.column("claims_coverage", "95 % covers", {"seeds": 5})
    assert covers.min() >= 93, "with 5 seeds no interval is too short"
    rows = len(KEPT.column("claims_rules", "worlds"))
    assert len(KEPT.column("claims_rules", "worlds", {"broken": ""})) == rows, "no rule had to be changed"
    for target in ("stroke", "ms"):
        verdicts = {"Target": target, "Contrast": "1.0", "Verdict of the target": "passes"}
        assert len(KEPT.column("lesions_null", "Dice", verdicts)) == 2, "both targets pass"
    difference = "Difference (95 % interval)"
    stroke = KEPT.column("lesions_null", difference, {"Target": "stroke", "Contrast": "1.0"}).max()
    assert NULL.dice_above_prior_map / 2 < stroke <= NULL.dice_above_prior_map, "stroke passes narrowly"
    real = {"Contrast": "real", "Source": "imagenet"}
    assert (KEPT.column("lesions_null", difference, real, 2) < 0).all(), "the intervals still reach below zero"
    assert KEPT.column("speed_ceiling", "loop / network alone").min() >= 0.95, "within five in a hundred"
    trained = {p: KEPT.column("speed_hardware", "training (samples/s)", {"precision": p}) for p in ("fp32", "bf16")}
    faster = trained["bf16"] / trained["fp32"]
    assert faster.min() >= 0.98 and faster.max() <= 1.22, "the range that the page gives for four runs"
    assert KEPT.column("speed_compiling", "beside as it is").max() <= 1, "compiling does not pay"
    here = KEPT.column("speed_hardware", "training (samples/s)", {"precision": "fp32", "batch": speed.SCHEDULE.batch})
    slower = KEPT.column("speed_compiling", "a step as it is (ms)") * here / 1000 / speed.SCHEDULE.batch
    assert ((slower > 1.7) & (slower < 2.3)).all(), "on a machine about half as fast"
    squares = {p: KEPT.column("speed_hardware", "GFLOP/s of a matrix product", {"precision": p}) for p in trained}
    assert (squares["bf16"] > 1.9 * squares["fp32"]).all(), "twice as fast"
    doubled = {
        source: KEPT.column("schedule_lengths", "twice minus once", {"Source": source})
        for source in (tables.SOURCE_TITLES["scratch"], tables.SOURCE_TITLES["imagenet"])
    }
    assert doubled[tables.SOURCE_TITLES["scratch"]].min() > 0.01, "no target has levelled off from random weights"
    levelled = doubled[tables.SOURCE_TITLES["imagenet"]] < 0.01
    assert list(levelled) == [True, False, False], "from ImageNet only strokes have"
    each = pd.read_csv(KEPT.folder / "schedule.csv").pivot_table(
        index=["target", "source", "subject"], columns="steps", values="value"
    )
    gained = each[900] > each[450]
    assert gained.loc[["ms", "anatomy"]].all() and not gained["stroke"].all(), (
        "every person of MS and anatomy, not of strokes"
    )
    for pair in ("real lesions from semi-synthetic ones", "the two scanners: no lesion on either side"):
        auc, shuffled = (
            KEPT.column("lesions_apart", c, {"Told apart": pair})
            for c in ("AUC (95 % interval)", "Shuffled labels, 95 %")
        )
        assert auc[0] <= shuffled[0], "not told apart"
    past = {"Within?": "no", "Part": ["T1", "Volumes", "MS", "Stroke", "Masses"]}
    only = {**past, "What": "likeness of left and right half (planes)"}
    assert len(KEPT.column("simulators", "Distance", only)) == len(KEPT.column("simulators", "Distance", past))
    rates, cells = (KEPT.column("speed_loops", column) for column in ("beside ours", "whole cell (s)"))
    assert rates[0] == 1 and (rates[1:] < 1).all() and (cells[1:] > cells[0]).all(), (
        "faster in training and to the score"
    )
    crops = {"loop": "segmentation-models-pytorch, crop alone 0.6.0"}
    assert rates[1:].max() == KEPT.column("speed_loops", "beside ours", crops)[0] > 0.9, "about as fast"
    run = ROOT / "book" / "reference" / "reference"
    found = tables.read_table(run / "compare" / "differences.csv")
    half = ((found["upper"] - found["lower"]) / 2).groupby(found["target"]).mean()
    planned = {
        t: KEPT.column(
            "claims_coverage_reference", "half-width", {"target": t, "interval of": "difference, bounded"}
        ).max()
        for t in half.index
    }
    assert [t for t in half.index if half[t] > planned[t]] == ["stroke"], "wider than planned on stroke alone"
    results = read_run(run, reference=True).results
    assert results is not None
    tested = {t: set(results.loc[results["target"] == t, "subject"]) for t in each.index.unique("target")}
    chosen = {t: set(each.loc[t].index.unique("subject")) for t in tested}
    assert not chosen["stroke"] & tested["stroke"], "on stroke nobody whom the run tests"
    assert all(chosen[t] <= tested[t] for t in ("ms", "anatomy")), "on MS and anatomy all are tested in another fold"
    whole, computing = (
        KEPT.column("speed_demo", "seconds", where).sum()
        for where in ({"what": [*pd.read_csv(KEPT.folder / "speed_demo.csv")["what"][:-1]]}, {"what": cost.COMPUTE})
    )
    assert whole <= 1.25 * computing, "the whole of the demo, a waiting core apart"


def test_what_the_readme_says_of_the_books_own_run_is_still_true() -> None:
    said = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    compare = ROOT / "book" / "reference" / "reference" / "compare"
    differences, accuracy = (tables.read_table(compare / f"{name}.csv") for name in ("differences", "accuracy"))
    for target, metric in study.HEADLINE.items():
        row = differences[
            (differences["target"] == target) & (differences["metric"] == metric) & (differences["B"] == "imagenet")
        ]
        assert list(row["A"]) == ["mri-segmentation"] and row["upper"].iloc[0] < 0, "ImageNet ends above it"
        assert (row["adjusted_p"].iloc[0] <= 0.05) == (target != "stroke"), "after correction on MS lesions and anatomy"
        cells = accuracy[(accuracy["target"] == target) & (accuracy["metric"] == metric) & (accuracy["class"] == "")]
        mean = cells.set_index("source")["mean"]
        six = mean[list(study.PRETRAINED_HERE)]
        assert six.max() - six.min() < mean["imagenet"] - six.max(), target
    assert "closer to one another than to ImageNet" in said and "above MRI segmentation on all three targets" in said
    arms = tables.read_table(compare / "arms.csv")
    arms = arms[arms["metric"] == arms["target"].map(study.HEADLINE)].set_index("arm")
    others = arms[arms.index.str.startswith("replicate_") & (arms["learned"] != "no")]
    assert set(others.index) == {"replicate_imagenette", "replicate_lesions", "replicate_malf"}
    assert others["difference"].abs().max() < 0.021 and "differ by less than .021 from it" in said
    others = others[others["source"] == "mri-segmentation"]
    arms = arms.loc[["shuffled_masks", "size_0.1", "size_0.25", "size_0.5"]]
    assert "with a tenth, a quarter or half of the pictures" in said
    both = {
        name: read_run(compare.parent.with_name(name), reference=True).results
        for name in ("reference_lite2", "reference")
    }
    leads = tables.runs_table({name: results for name, results in both.items() if results is not None})
    behind = leads[(leads["A"] == "mri-segmentation") & (leads["B"] == "imagenet")]
    assert (
        len(behind) == 2 * len(study.HEADLINE)
        and (behind["upper"] < 0).all()
        and "ends below ImageNet on all three again" in said
    )
    leads = leads[(leads["A"] == "imagenet") & (leads["B"] == "scratch")].set_index("run")
    larger, smaller = (" and ".join(short(float(lead)) for lead in leads.loc[name, "mean"]) for name in both)
    assert f"much the same: {larger} instead of {smaller} on stroke" in said.replace(", ", " and ")
    longer = read_run(compare.parent.with_name("reference_long"), reference=True).results
    assert longer is not None and set(longer["target"]) == {"stroke"}, "else the sentence has to say more"
    led = tables.runs_table({"reference_long": longer}).set_index(["A", "B"])
    above = led.loc[("imagenet", "scratch"), "mean"], -led.loc[("mri-segmentation", "imagenet"), "mean"]
    assert (
        "so far, ImageNet ends {} above random weights and {} above MRI segmentation".format(*map(short, above)) in said
    )
    near = led.loc[("mri-segmentation", "scratch")]
    assert near["lower"] < 0 < near["upper"] and "and these two are not told apart" in said
    assert len(arms) == 4 * len(study.HEADLINE)
    shuffled_or_few = arms.loc[["shuffled_masks", "size_0.1"], "difference"]
    assert shuffled_or_few.between(-0.02, 0, inclusive="neither").all()
    arms = pd.concat([arms, others])
    bounds = ["difference", "difference_lower", "difference_upper"]
    assert arms["difference"].abs().max() < 0.021 and f"One of their {len(arms)} intervals leaves out zero" in said
    apart = (arms["difference_lower"] > 0) | (arms["difference_upper"] < 0)
    assert [(arm, row["target"]) for arm, row in arms[apart].iterrows()] == [("size_0.25", "ms")]
    ends, lower, upper = (short(float(value), 3) for value in arms.loc[apart, bounds].iloc[0])
    assert f"on MS lesions a quarter ends {ends} above all of them ({lower} to {upper})" in said
    reach = arms.loc[~apart, bounds[1:]].abs().max().max()
    assert f"The other {len(arms) - 1} contain zero, and reach to −{short(reach)};" in said
    assert reach == -arms["difference_lower"].min()
    pairs = tables.read_table(compare / "pairs.csv").query("B_arm == 'scratch_long'").set_index(["target", "A"])
    for target in ("ms", "anatomy"):
        judged = [s for s in study.PRETRAINED_HERE if s != "natural-classification"]
        assert (pairs.loc[target].loc[judged, "upper"] < 0).all(), "longer training ends above all five"
    assert all(pairs.loc[(target, "imagenet"), "lower"] > 0 for target in study.DETECTED)
    assert (
        "three times longer end above all of these that learned their own task, on MS lesions and anatomy, and below ImageNet on both "
        "kinds of" in said
    )
    pairs = tables.read_table(compare / "pairs.csv").set_index(["A_arm", "target", "A"])
    few, one = pairs.loc["labels_2"], pairs.loc["labels_1"]
    for pair in (few, one):
        assert (pair["lower"][list(study.DETECTED)] < 0).all() and (pair["upper"][list(study.DETECTED)] > 0).all()
    assert "With two, or one, it is not told apart on lesions" in said
    assert (few.loc["anatomy", "lower"] > 0).all()
    assert dict(one.loc["anatomy", "lower"] > 0) == {"imagenet": True, "mri-segmentation": False}
    had = tables.read_table(compare / "sizes.csv").set_index("target")["people trained on"]
    gained = ("imagenet", "mri-segmentation")
    gains = " and ".join(short(few.loc[("anatomy", s), "mean"], 3) for s in gained)
    alone = short(one.loc[("anatomy", "imagenet"), "mean"], 3)
    assert (
        f"On anatomy both end above with two people instead of {had['anatomy']}, by {gains}, and with one ImageNet alone ({alone})"
        in said
    )
    some = {
        (arm, t, s): pairs.loc[(arm, t, s)] for arm in ("labels_8", "labels_4") for t in study.DETECTED for s in gained
    }
    assert all((row["lower"] > 0) == (place[1:] != ("stroke", "mri-segmentation")) for place, row in some.items())
    means = {place: short(row["mean"]) for place, row in some.items()}
    eight, four = ([means[(arm, t, "imagenet")] for t in study.DETECTED] for arm in ("labels_8", "labels_4"))
    assert "eight labelled people instead of {} and {} (".format(*had[list(study.DETECTED)]) in said
    assert f"({eight[0]} on stroke lesions, {eight[1]} on MS lesions), and with four ({four[0]}, {four[1]})" in said
    of_mri = [means[(arm, "ms", "mri-segmentation")] for arm in ("labels_8", "labels_4")]
    assert (
        f"on MS lesions with eight ({of_mri[0]}) and with four ({of_mri[1]}), and on stroke lesions with none" in said
    )
    decoder = tables.read_table(compare / "arms.csv").query("arm == 'decoder_transfer'")
    assert set(decoder["target"]) == set(study.HEADLINE) and (decoder["difference_lower"] < 0).all()
    assert "decoder along with its encoder shows no gain on any target" in said
    verdicts = {s["verdict"] for s in tables.read_json(compare / "claims_summary.json", [])}
    assert verdicts <= {"inconclusive", "not run"} and "None of the three claims is decided" in said
    images = tables.read_table(compare / "sources.csv").set_index("source")["images"]
    assert set(images[list(study.PRETRAINED_HERE)]) == {"2000"} and "on 2,000 pictures each" in said
    assert images["imagenet"] == str(study.IMAGENET_IMAGES) and "1.28 million photographs" in said
