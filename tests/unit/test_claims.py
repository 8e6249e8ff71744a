"""The rules of claims.yaml do what they say, word by word, and what was not run is never weighed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from braintransfer import claims, study
from braintransfer.errors import BadInput
from braintransfer.statistics import at_level, p_below, paired_difference

RULES_FILE = Path(__file__).parents[2] / "notebooks" / "claims.yaml"
RULES = claims.load(RULES_FILE)
METRICS = {"stroke": ("dice", "lesion_sensitivity"), "ms": ("dice", "lesion_sensitivity"), "anatomy": ("miou",)}
CONTRACT = ["claim", "target", "A", "B", "metric", "estimate", "lower", "upper", "margin"]
CONTRACT += ["n_subjects", "n_seeds", "verdict", "gates"]
GOOD = {
    "classification": {"accuracy": 0.9, "chance": 0.3},
    "segmentation": {"dice": 0.8, "all_foreground": 0.3},
    "selfsupervised": {"restoration_error": 10.0, "mean_image_error": 30.0},
}

Shift = Mapping[tuple[str, str, str], float]  # (target, source, metric) -> difference from the other sources


def learned(seeds: int = 3, arms: tuple[str, ...] = ("main", "size_0.1")) -> dict[str, dict[int, dict[str, Any]]]:
    found = {}
    for source in study.PRETRAINED_HERE:
        for arm in arms:
            name = source if arm == "main" else f"{arm}/{source}"
            found[name] = {k: dict(GOOD[study.domain_task(source)[1]]) for k in range(seeds)}
    return found


def cells(
    shift: Shift | None = None, *, n: int = 24, s: int = 3, noise: float = 0.004, seed: int = 0, gain: float = 0.2
) -> dict[claims.Key, claims.Cell]:
    """A study where every pre-trained source lies `gain` above scratch, but for `shift`; the small arm is there too."""
    rng = np.random.default_rng(seed)
    people = tuple(f"p{i:02d}" for i in range(n))
    found = {}
    for target, metrics in METRICS.items():
        for metric in metrics:
            base = 0.4 + 0.1 * rng.normal(size=(n, 1))
            arms = [("main", source) for source in study.SOURCES] + [("size_0.1", "mri-segmentation")]
            for arm, source in arms:
                name = source if arm == "main" else f"{arm}/{source}"
                extra = (shift or {}).get((target, name, metric), 0.0) + (0.0 if source == "scratch" else gain)
                values = base + extra + noise * rng.normal(size=(n, s))
                found[arm, source, target, metric] = claims.Cell(people, tuple(range(s)), values)
    return found


def judged(world: Mapping[claims.Key, claims.Cell], **evidence: Any) -> claims.Evaluation:
    return claims.judge(RULES, world, replace(claims.Evidence(learned()), **evidence))


def verdict(found: claims.Evaluation, claim: str, target: str = "") -> str:
    (summary,) = [c for c in found.summary if c["claim"] == claim]
    return summary["targets"][target]["verdict"] if target else summary["verdict"]


def reason(found: claims.Evaluation, claim: str, target: str = "") -> str:
    (summary,) = [c for c in found.summary if c["claim"] == claim]
    return str(summary["targets"][target]["reason"] if target else summary["reason"])


def contrast(found: claims.Evaluation, claim: str, target: str, b: str) -> dict[str, Any]:
    (row,) = [c for c in found.contrasts if (c["claim"], c["target"], c["B"]) == (claim, target, b)]
    return row


def as_table(world: Mapping[claims.Key, claims.Cell]) -> pd.DataFrame:
    rows = []
    for (arm, source, target, metric), cell in world.items():
        domain, task = study.domain_task(source)
        for i, subject in enumerate(cell.subjects):
            for k, seed in enumerate(cell.seeds):
                rows.append(
                    (
                        "t",
                        arm,
                        "e",
                        source,
                        domain,
                        task,
                        target,
                        subject,
                        0,
                        seed,
                        8,
                        100,
                        metric,
                        "",
                        cell.values[i, k],
                    )
                )
    return pd.DataFrame(rows, columns=study.RESULT_COLUMNS)


def without(world: dict[claims.Key, claims.Cell], *sources: str, arm: str = "main") -> dict[claims.Key, claims.Cell]:
    return {key: cell for key, cell in world.items() if key[0] != arm or key[1] not in sources}


# ------------------------------------------------------------------------------------------------------- the rules


def test_the_committed_rules_are_those_of_the_plan() -> None:
    assert RULES.margin == {
        "anatomy": {"miou": 0.01},
        "stroke": {"dice": 0.03},
        "ms": {"dice": 0.05},
        "detection": {"lesion_sensitivity": 0.1},
    }
    assert (RULES.common.noninferiority_alpha, RULES.common.equivalence_alpha, RULES.common.min_subjects) == (
        0.025,
        0.05,
        12,
    )
    others = set(study.PRETRAINED_HERE) - {"mri-segmentation"} | {"imagenet"}
    assert RULES.claim1.A.source == "mri-segmentation" and {b.source for b in RULES.claim1.B} == others
    assert len(RULES.claim1.B) * len(RULES.claim1.targets) == 18
    assert RULES.claim2.A.source == "imagenet" and RULES.claim2.targets == ("stroke", "ms")
    assert (RULES.claim3.A.source, RULES.claim3.A.images) == ("mri-segmentation", 0.1)
    assert set(RULES.gates.assay.sources) == set(study.PRETRAINED_HERE) | {"imagenet"}
    assert RULES.gates.assay.divided_by == 7
    for target, metric in study.HEADLINE.items():
        assert claims.metric_and_margin(RULES, RULES.claim1, target)[0] == metric


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("claim1", "supported"), "mostly"),
        (("claim1", "not_supported"), claims.BETTER_OR_OUTSIDE),
        (("claim1", "A"), "mri-segmentatoin"),
        (("claim1", "surprise"), 1),
        (("claim2", "metric"), "lesion_f1"),
        (("common", "equivalence_alpha"), 0.1),
        (("common", "interval"), "bootstrap"),
        (("margin", "stroke"), {"dice": 0.03, "iou": 0.03}),
        (("margin", "heart"), {"dice": 0.03}),
        (("gates", "range"), None),
    ],
)
def test_a_rule_that_nobody_wrote_code_for_is_refused_in_one_line(
    tmp_path: Path, where: tuple[str, str], value: Any
) -> None:
    rules = yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))
    rules[where[0]][where[1]] = value
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(rules), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        claims.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_or_torn_rules_are_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.yaml").write_text("common: {interval: [", encoding="utf-8")
    for path in (tmp_path / "none.yaml", tmp_path / "torn.yaml"):
        with pytest.raises(BadInput):
            claims.load(path)


# --------------------------------------------------------------------------------------------------------- claim 1


def test_claim_1_is_supported_when_all_18_lower_bounds_clear_the_margin() -> None:
    found = judged(cells())
    rows = [c for c in found.contrasts if c["claim"] == "claim1"]
    assert len(rows) == 18 and {c["verdict"] for c in rows} == {"supported"}
    assert all(c["lower"] > -c["margin"] and c["lower"] < c["estimate"] < c["upper"] for c in rows)
    assert verdict(found, "claim1") == "supported"


def test_a_little_lower_is_still_similar_and_more_than_the_margin_is_not() -> None:
    for shortfall, expected in ((0.02, "supported"), (0.045, "not_supported")):
        found = judged(cells({("stroke", "mri-segmentation", "dice"): -shortfall}))
        assert contrast(found, "claim1", "stroke", "imagenet")["verdict"] == expected
        assert verdict(found, "claim1") == verdict(found, "claim1", "stroke") == expected
        assert verdict(found, "claim1", "ms") == "supported"


def test_one_better_source_on_one_target_sinks_claim_1() -> None:
    found = judged(cells({("anatomy", "natural-selfsupervised", "miou"): 0.03}))
    assert verdict(found, "claim1") == "not_supported"
    (reason,) = [c["reason"] for c in found.summary if c["claim"] == "claim1"]
    assert "natural-selfsupervised on anatomy" in reason
    bad = [c["B"] for c in found.contrasts if c["claim"] == "claim1" and c["verdict"] == "not_supported"]
    assert bad == ["natural-selfsupervised"]


def test_a_wide_interval_decides_nothing() -> None:
    found = judged(cells(noise=0.3, gain=0.5))
    assert verdict(found, "claim1") == "inconclusive"


def test_not_supported_takes_holm_over_all_contrasts() -> None:
    # Search a shift whose own p-value is below .025 but not below .025 / 18: one contrast alone would have decided.
    for step in range(200):
        world = cells({("stroke", "imagenet", "dice"): 0.03 + 0.0001 * step}, noise=0.01)
        a, b = (world["main", source, "stroke", "dice"] for source in ("mri-segmentation", "imagenet"))
        interval = claims.difference(a, b)
        assert interval is not None
        p = p_below(interval, -0.03)
        if 0.025 / 6 < p < 0.02:
            break
    else:
        pytest.fail("no such shift")
    assert interval.upper < -0.03
    found = judged(world)
    assert contrast(found, "claim1", "stroke", "imagenet")["verdict"] == "inconclusive"
    assert verdict(found, "claim1") == verdict(found, "claim1", "stroke") == "inconclusive"


def test_higher_than_lists_the_sources_that_holm_leaves() -> None:
    found = judged(cells({("ms", "natural-classification", "dice"): -0.1}))
    (summary,) = [c for c in found.summary if c["claim"] == "claim1"]
    assert "natural-classification" in summary["targets"]["ms"]["higher_than"]
    assert "imagenet" not in summary["targets"]["ms"]["higher_than"]


# ----------------------------------------------------------------------------------------------------------- gates


def test_doing_nothing_is_not_similar() -> None:
    found = judged(cells(gain=0.0))
    assert {c["gates"]["assay"]["passed"] for c in found.contrasts if c["claim"] == "claim1"} == {False}
    assert [verdict(found, name) for name in ("claim1", "claim2", "claim3")] == ["inconclusive"] * 3


def test_a_target_without_assay_is_inconclusive_and_spares_the_others() -> None:
    flat = {("ms", source, "dice"): -0.2 for source in study.SOURCES if source != "scratch"}
    found = judged(cells(flat))
    assert verdict(found, "claim1", "ms") == "inconclusive" and verdict(found, "claim1", "stroke") == "supported"
    assert verdict(found, "claim1") == "inconclusive"


def test_a_gate_that_failed_also_silences_not_supported() -> None:
    flat = {("ms", source, "dice"): -0.2 for source in study.SOURCES if source != "scratch"}
    flat["ms", "mri-segmentation", "dice"] = -0.5
    found = judged(cells(flat))
    assert verdict(found, "claim1", "ms") == verdict(found, "claim1") == "inconclusive"


def test_the_assay_takes_a_seventh_of_the_level() -> None:
    # natural-classification alone lies above scratch, by so much that .025 is passed and .025 / 7 is not
    for step in range(300):
        shift = {("stroke", "natural-classification", "dice"): 0.0001 * step}
        world = cells(shift, gain=0.0, noise=0.01, seed=3)
        gate = claims._assay(claims._Case(RULES, world, claims.Evidence()), "stroke", "dice")
        interval = claims.difference(
            world["main", "natural-classification", "stroke", "dice"], world["main", "scratch", "stroke", "dice"]
        )
        assert interval is not None
        if gate.passed:
            assert claims.p_above(interval, 0) <= 0.025 / 7
            return
        assert claims.p_above(interval, 0) > 0.025 / 7
    pytest.fail("the assay never passed")


@pytest.mark.parametrize(
    ("task", "figures", "expected"),
    [
        ("classification", {"accuracy": 0.45, "chance": 0.30}, True),
        ("classification", {"accuracy": 0.40, "chance": 0.30}, False),
        ("segmentation", {"dice": 0.61, "all_foreground": 0.50}, True),
        ("segmentation", {"dice": 0.60, "all_foreground": 0.50}, False),
        ("selfsupervised", {"restoration_error": 7.9, "mean_image_error": 10.0}, True),
        ("selfsupervised", {"restoration_error": 8.0, "mean_image_error": 10.0}, False),
        ("selfsupervised", {"restoration_error": 7.9}, None),
        ("selfsupervised", {"accuracy": 0.05, "chance": 0.01}, False),  # taught by contrast
        ("selfsupervised", {"accuracy": 0.90, "chance": 0.01}, True),
        ("classification", {"accuracy": float("nan"), "chance": 0.3}, None),
    ],
)
def test_a_source_has_learned_only_above_its_trivial_rival(
    task: str, figures: dict[str, float], expected: bool | None
) -> None:
    assert claims.source_has_learned(RULES.gates.source_learned, task, figures) is expected


def test_one_seed_that_did_not_learn_closes_the_gate_and_names_itself() -> None:
    evidence = learned()
    evidence["natural-segmentation"][2]["dice"] = 0.35
    found = judged(cells(), learned=evidence)
    gate = contrast(found, "claim1", "stroke", "imagenet")["gates"]["source_learned"]
    assert not gate["passed"] and "natural-segmentation seed 2" in gate["reason"]
    assert verdict(found, "claim1") == "inconclusive"
    assert verdict(found, "claim2") == "supported"  # it does not use that source


def test_a_gate_without_evidence_has_failed_as_not_run() -> None:
    evidence = learned()
    del evidence["mri-segmentation"]
    gate = contrast(judged(cells(), learned=evidence), "claim1", "ms", "imagenet")["gates"]["source_learned"]
    assert not gate["passed"] and gate["reason"].startswith("not run") and "mri-segmentation" in gate["reason"]
    partly = learned()
    del partly["mri-segmentation"][1]
    gate = contrast(judged(cells(), learned=partly), "claim1", "ms", "imagenet")["gates"]["source_learned"]
    assert not gate["passed"] and "mri-segmentation seed 1" in gate["reason"]


def test_seeds_read_back_from_json_are_still_seeds() -> None:
    evidence = json.loads(json.dumps(learned()))
    assert verdict(judged(cells(), learned=evidence), "claim1") == "supported"


def test_semisynthetic_targets_need_the_null_check() -> None:
    asked = frozenset({"stroke"})
    found = judged(cells(), semisynthetic=asked)
    assert contrast(found, "claim2", "stroke", "mri-segmentation")["gates"]["null_contrast"] == {
        "passed": False, "reason": "not run"
    }  # fmt: skip
    assert verdict(found, "claim2", "stroke") == "inconclusive" and verdict(found, "claim2", "ms") == "supported"
    for dice, auc, expected in ((0.05, 0.55, "supported"), (0.05, 0.56, "inconclusive"), (0.06, 0.5, "inconclusive")):
        check = {"stroke": {"dice": dice, "prior_map_dice": 0.03, "artefact_auc": auc}}
        assert verdict(judged(cells(), semisynthetic=asked, null_checks=check), "claim2", "stroke") == expected


def test_the_null_check_says_on_how_many_people_it_stands_and_how_sure_it_is() -> None:
    bare: dict[str, float] = {"dice": 0.0439, "prior_map_dice": 0.0274, "artefact_auc": 0.5}
    limits, tested = {"lower": -0.0406, "upper": 0.0738}, {"people": 6, "seeds": 2}
    plain = "without contrast: Dice 0.044 (prior map 0.027), artefact AUC 0.500"
    sure = "; difference +0.017 (-0.041 to +0.074), +0.02 allowed"
    for more, said in (
        ({}, plain),
        (tested, f"{plain}; 6 people x 2 seeds"),
        (limits | tested, f"{plain}{sure}; 6 people x 2 seeds"),
        (
            limits | tested | {"steps": 120, "batch": 8, "spacing": 2.0},
            f"{plain}{sure}; 6 people x 2 seeds, trained 120 x 8 at 2 mm",
        ),
    ):
        found = judged(cells(), semisynthetic=frozenset({"stroke"}), null_checks={"stroke": bare | more})
        gate = contrast(found, "claim2", "stroke", "mri-segmentation")["gates"]["null_contrast"]
        assert gate == {"passed": True, "reason": said}


def test_a_floor_or_a_ceiling_in_detection_closes_the_lesion_targets() -> None:
    low = {("ms", s, "lesion_sensitivity"): -0.5 for s in study.SOURCES}
    found = judged(cells(low))
    assert not contrast(found, "claim1", "ms", "imagenet")["gates"]["range"]["passed"]
    assert verdict(found, "claim2", "ms") == verdict(found, "claim1", "ms") == "inconclusive"
    assert verdict(found, "claim1", "anatomy") == verdict(found, "claim2", "stroke") == "supported"


def test_eleven_people_are_too_few_and_twelve_are_enough() -> None:
    assert verdict(judged(cells(n=12)), "claim1") == "supported"
    found = judged(cells(n=11))
    assert verdict(found, "claim1") == "inconclusive"
    assert contrast(found, "claim1", "ms", "imagenet")["gates"]["min_subjects"]["reason"].startswith("11 people")


# --------------------------------------------------------------------------------------------------------- claim 2


def sensitivity(stroke: float, ms: float) -> Shift:
    return {("stroke", "imagenet", "lesion_sensitivity"): stroke, ("ms", "imagenet", "lesion_sensitivity"): ms}


@pytest.mark.parametrize(
    ("stroke", "ms", "expected"),
    [
        (0.0, 0.0, "supported"),
        (-0.05, 0.05, "supported"),  # inside the margin on both, better on one only
        (0.05, 0.05, "not_supported"),  # inside the margin, but consistently better
        (0.20, 0.0, "not_supported"),  # wholly outside on one
        (-0.20, 0.0, "not_supported"),
        (0.10, 0.0, "inconclusive"),  # the interval straddles the margin
        (-0.10, 0.0, "inconclusive"),
    ],
)
def test_claim_2_is_comparable_but_not_consistently_higher(stroke: float, ms: float, expected: str) -> None:
    world = cells(sensitivity(stroke, ms), noise=0.02, n=30)
    # centre both contrasts exactly, so that the examples do not hang on the noise
    for target, value in (("stroke", stroke), ("ms", ms)):
        key = ("main", "imagenet", target, "lesion_sensitivity")
        other = world["main", "mri-segmentation", target, "lesion_sensitivity"].values
        cell = world[key]
        world[key] = replace(cell, values=cell.values - (cell.values - other).mean() + value)
    found = judged(world)
    assert verdict(found, "claim2") == expected
    row = contrast(found, "claim2", "stroke", "mri-segmentation")
    assert row["A"] == "imagenet" and row["estimate"] == pytest.approx(stroke) and row["margin"] == 0.10


def test_claim_2_shows_the_90_percent_interval() -> None:
    world = cells(noise=0.05)
    a, b = (world["main", s, "ms", "lesion_sensitivity"] for s in ("imagenet", "mri-segmentation"))
    wide = claims.difference(a, b)
    assert wide is not None
    narrow = claims.at_level(wide, 0.90)
    row = contrast(judged(world), "claim2", "ms", "mri-segmentation")
    assert (row["lower"], row["upper"]) == (pytest.approx(narrow.lower), pytest.approx(narrow.upper))
    assert row["lower"] > wide.lower


# --------------------------------------------------------------------------------------------------------- claim 3


def test_claim_3_weighs_the_tenth_arm_against_all_images() -> None:
    found = judged(cells())
    rows = [c for c in found.contrasts if c["claim"] == "claim3"]
    assert [(c["A"], c["B"]) for c in rows] == [("mri-segmentation@size_0.1", "natural-classification")] * 3
    assert verdict(found, "claim3") == "supported"
    worse = judged(cells({("stroke", "size_0.1/mri-segmentation", "dice"): -0.1}))
    assert verdict(worse, "claim3") == "not_supported" and verdict(worse, "claim1") == "supported"


def test_claim_3_needs_a_comparator_that_beats_scratch() -> None:
    lame = {("ms", "natural-classification", "dice"): -0.2}
    found = judged(cells(lame))
    assert verdict(found, "claim3", "ms") == verdict(found, "claim3") == "inconclusive"
    assert verdict(found, "claim3", "stroke") == "supported"


def test_claim_3_says_which_of_its_two_conditions_failed() -> None:
    lame = {("ms", "natural-classification", "dice"): -0.2}
    found = judged(cells(lame))
    assert reason(found, "claim3", "ms") == "natural-classification does not beat random weights on ms"
    assert reason(found, "claim3") == reason(found, "claim3", "ms")
    # on stroke the interval straddles the margin, so that both have failed somewhere
    world = cells(lame)
    key, other = ("size_0.1", "mri-segmentation"), ("main", "natural-classification")
    near, far = world[*key, "stroke", "dice"], world[*other, "stroke", "dice"]
    world[*key, "stroke", "dice"] = replace(near, values=near.values - (near.values - far.values).mean() - 0.03)
    both = judged(world)
    straddles = "intervals do not clear the margin: natural-classification on stroke"
    assert reason(both, "claim3", "stroke") == f"1 of 1 {straddles}"
    assert reason(both, "claim3") == f"1 of 3 {straddles}; {reason(both, 'claim3', 'ms')}"
    assert verdict(both, "claim3") == verdict(both, "claim3", "ms") == "inconclusive"


def test_claim_3_without_its_arm_is_not_run() -> None:
    found = judged(without(cells(), "mri-segmentation", arm="size_0.1"))
    rows = [c for c in found.contrasts if c["claim"] == "claim3"]
    assert {c["verdict"] for c in rows} == {"not run"} and verdict(found, "claim3") == "not run"
    assert all(c["estimate"] is None and c["n_subjects"] == 0 for c in rows)
    assert verdict(found, "claim1") == "supported"


def test_the_small_arm_is_found_by_its_share() -> None:
    world = {(("size_0.10" if k[0] == "size_0.1" else k[0]), *k[1:]): v for k, v in cells().items()}
    evidence = {name.replace("size_0.1/", "size_0.10/"): value for name, value in learned().items()}
    assert verdict(judged(world, learned=evidence), "claim3") == "supported"
    other = {(("size_0.5" if k[0] == "size_0.1" else k[0]), *k[1:]): v for k, v in cells().items()}
    assert verdict(judged(other), "claim3") == "not run"


# ---------------------------------------------------------------------------------------------------- partial runs


@pytest.mark.parametrize("gone", [("scratch",), ("imagenet",), ("mri-segmentation",), study.SOURCES])
def test_a_partial_run_says_not_run_and_never_stops(gone: tuple[str, ...]) -> None:
    world = without(cells(), *gone)
    found = judged(world, learned={})
    assert len(found.contrasts) == 18 + 2 + 3
    if "mri-segmentation" in gone:
        assert {verdict(found, name) for name in ("claim1", "claim2")} == {"not run"}
    if gone == ("imagenet",):
        assert verdict(found, "claim1") == verdict(found, "claim2") == "not run"
        assert contrast(found, "claim1", "ms", "imagenet")["verdict"] == "not run"
    if gone == ("scratch",):
        gate = contrast(found, "claim1", "ms", "imagenet")["gates"]["assay"]
        assert gate == {"passed": False, "reason": "not run"} and verdict(found, "claim1") == "inconclusive"


def test_an_empty_table_is_a_run_in_which_nothing_was_run() -> None:
    empty = pd.DataFrame(columns=study.RESULT_COLUMNS)
    found = claims.evaluate(RULES, empty, {}, simulated=False)
    assert {c["verdict"] for c in found.contrasts} == {"not run"}
    json.dumps([found.contrasts, found.summary], allow_nan=False)


def test_one_seed_gives_an_estimate_and_no_verdict() -> None:
    found = judged(cells(s=1), learned=learned(1))
    row = contrast(found, "claim1", "ms", "imagenet")
    assert row["estimate"] is not None and row["lower"] is None and row["n_seeds"] == 1
    assert row["verdict"] == verdict(found, "claim1") == "inconclusive"


# ------------------------------------------------------------------------------------------------------- the table


def test_contrasts_have_the_keys_of_the_contract_and_are_plain_json() -> None:
    found = claims.evaluate(RULES, as_table(cells(n=13)), learned(), simulated=False, semisynthetic=())
    for row in found.contrasts:
        assert list(row) == CONTRACT
        assert set(row["gates"]) == {"assay", "source_learned", "null_contrast", "range", "min_subjects"}
    assert json.loads(json.dumps(found.contrasts, allow_nan=False)) == found.contrasts
    assert json.loads(json.dumps(found.summary, allow_nan=False)) == found.summary
    assert found.contrasts == judged(cells(n=13)).contrasts


def test_people_are_paired_by_name_not_by_row() -> None:
    table = as_table(cells())
    plain = claims.evaluate(RULES, table, learned(), simulated=False, semisynthetic=())
    shuffled = claims.evaluate(
        RULES, table.sample(frac=1, random_state=1), learned(), simulated=False, semisynthetic=()
    )
    assert shuffled == plain
    # someone whom only one source has seen is no pair
    seen = (table["source"] == "imagenet") & (table["subject"] == "p00") & (table["metric"] == "dice")
    lonely = table[seen].assign(subject="x99", value=0.0)
    more = pd.concat([table, lonely])
    found = claims.evaluate(RULES, more, learned(), simulated=False, semisynthetic=())
    assert contrast(found, "claim1", "ms", "imagenet")["n_subjects"] == 24
    assert contrast(found, "claim1", "ms", "imagenet") == contrast(plain, "claim1", "ms", "imagenet")


def test_rows_of_single_classes_and_of_other_arms_do_not_leak_in() -> None:
    table = as_table(cells())
    noise = table[table["arm"] == "main"]
    classes = noise.assign(**{"class": "gm", "value": 99.0})
    control = noise.assign(arm="shuffled_masks", value=-99.0)
    plain = claims.evaluate(RULES, table, learned(), simulated=False, semisynthetic=())
    more = claims.evaluate(RULES, pd.concat([table, classes, control]), learned(), simulated=False, semisynthetic=())
    assert more == plain
    read_back = table.assign(**{"class": np.nan})  # as pandas reads an empty field
    assert claims.evaluate(RULES, read_back, learned(), simulated=False, semisynthetic=()) == plain


def test_a_person_with_an_empty_reference_is_left_out_everywhere() -> None:
    table = as_table(cells())
    table.loc[(table["subject"] == "p03") & (table["target"] == "ms"), "value"] = np.nan
    found = claims.evaluate(RULES, table, learned(), simulated=False, semisynthetic=())
    assert contrast(found, "claim1", "ms", "imagenet")["n_subjects"] == 23
    assert contrast(found, "claim1", "stroke", "imagenet")["n_subjects"] == 24


def test_two_encoders_are_not_mixed() -> None:
    table = as_table(cells())
    both = pd.concat([table, table.assign(encoder="other", value=0.0)])
    with pytest.raises(ValueError, match="several encoders"):
        claims.evaluate(RULES, both, learned(), simulated=False)
    one = claims.evaluate(RULES, both, learned(), simulated=False, semisynthetic=(), encoder="e")
    assert one == claims.evaluate(RULES, table, learned(), simulated=False, semisynthetic=())


def test_a_simulated_run_prints_illustrations_and_never_a_verdict() -> None:
    world = without(cells(), "mri-segmentation", arm="size_0.1")
    found = claims.evaluate(RULES, as_table(world), learned(), simulated=True)
    said = [c["verdict"] for c in found.contrasts + found.summary]
    said += [t["verdict"] for c in found.summary for t in c["targets"].values()]
    assert all(v.startswith("illustration: the rule would say ") for v in said)
    assert verdict(found, "claim1") == "illustration: the rule would say supported"
    assert "not run" in verdict(found, "claim3")
    choices = claims.robustness(RULES, as_table(world), learned(), simulated=True, margin_factors=(1.0,))
    assert choices["verdict"].str.startswith("illustration: the rule would say ").all()


ILLUSTRATED = "illustration: the rule would say supported"


def test_a_partly_simulated_run_is_an_illustration_where_it_is_simulated() -> None:
    table, invented = as_table(cells()), {"stroke", "ms"}
    found = claims.evaluate(RULES, table, learned(), simulated=invented)
    assert [verdict(found, name) for name in RULES.claims] == [ILLUSTRATED] * 3, "each has a simulated target"
    assert verdict(found, "claim1", "stroke") == verdict(found, "claim3", "ms") == ILLUSTRATED
    assert verdict(found, "claim1", "anatomy") == verdict(found, "claim3", "anatomy") == "supported"
    for row in found.contrasts:
        assert row["verdict"] == ("supported" if row["target"] == "anatomy" else ILLUSTRATED)
    choices = claims.robustness(RULES, table, learned(), simulated=invented, margin_factors=(1.0,))
    plain = choices[~choices["verdict"].str.startswith("illustration")]
    assert set(plain["target"]) == {"anatomy"} and set(plain["claim"]) == {"claim1", "claim3"}


def test_simulated_anatomy_leaves_the_claim_on_lesions_its_verdict() -> None:
    found = claims.evaluate(RULES, as_table(cells()), learned(), simulated={"anatomy"}, semisynthetic=())
    assert verdict(found, "claim2") == verdict(found, "claim1", "stroke") == "supported"
    assert verdict(found, "claim1") == ILLUSTRATED
    # real lesions still owe the null check
    owed = claims.evaluate(RULES, as_table(cells()), learned(), simulated={"anatomy"})
    assert verdict(owed, "claim2") == "inconclusive"


def test_a_simulated_source_makes_an_illustration_of_what_it_is_weighed_in() -> None:
    invented = {source for source in study.PRETRAINED_HERE if source.startswith("natural")}
    found = claims.evaluate(RULES, as_table(cells()), learned(), simulated=invented, semisynthetic=())
    assert verdict(found, "claim1") == verdict(found, "claim1", "ms") == verdict(found, "claim3") == ILLUSTRATED
    assert verdict(found, "claim2") == "supported", "neither ImageNet nor MRI segmentation is simulated"
    assert contrast(found, "claim1", "ms", "natural-segmentation")["verdict"] == ILLUSTRATED
    assert contrast(found, "claim1", "ms", "imagenet")["verdict"] == "supported"
    tenth = claims.evaluate(RULES, as_table(cells()), learned(), simulated={"mri-segmentation"}, semisynthetic=())
    assert contrast(tenth, "claim3", "ms", "natural-classification")["verdict"] == ILLUSTRATED


def test_real_runs_owe_the_null_check_unless_they_say_otherwise() -> None:
    table = as_table(cells())
    owed = claims.evaluate(RULES, table, learned(), simulated=False)
    assert verdict(owed, "claim2") == "inconclusive" and verdict(owed, "claim1", "anatomy") == "supported"


def test_each_fold_has_its_own_difference() -> None:
    table = as_table(cells())
    table["fold"] = (table["subject"] >= "p10").astype(int)
    # in the second fold, ImageNet is better on MS; nobody of that fold was tested for stroke from the tenth
    late, imagenet = table["fold"] == 1, (table["source"] == "imagenet") & (table["metric"] == "dice")
    table.loc[late & imagenet & (table["target"] == "ms"), "value"] += 0.3
    found = claims.differences_by_fold(
        RULES, table[~(late & (table["arm"] == "size_0.1") & (table["target"] == "stroke"))]
    )
    assert list(found.columns) == ["claim", "target", "A", "B", "metric", "fold", "n", "seeds", "difference"]
    assert len(found) == 2 * (18 + 2 + 3) - 1 and set(found["n"]) == {10, 14} and set(found["seeds"]) == {3}
    moved = found[(found["claim"] == "claim1") & (found["target"] == "ms") & (found["B"] == "imagenet")]
    assert moved["fold"].tolist() == [0, 1] and moved["difference"].tolist() == pytest.approx([0, -0.3], abs=0.01)
    whole = claims.evaluate(RULES, table, learned(), simulated=False)
    estimate = contrast(whole, "claim1", "ms", "imagenet")["estimate"]
    assert (moved["difference"] * moved["n"]).sum() / 24 == pytest.approx(estimate)
    assert claims.differences_by_fold(RULES, pd.DataFrame(columns=study.RESULT_COLUMNS)).empty


# ------------------------------------------------------------------------------------------------------ robustness


def test_robustness_tries_every_choice_and_marks_the_planned_one() -> None:
    world = cells({("stroke", "mri-segmentation", "dice"): -0.025})
    for (arm, source, target, metric), cell in list(world.items()):
        twin = claims.TWINS[metric]
        world[arm, source, target, twin] = cell
    table = as_table(world)
    lenient = table.assign(value=table["value"].where(table["source"] != "mri-segmentation", 0.7))
    choices = claims.robustness(
        RULES, table, learned(), semisynthetic=(), margin_factors=(0.5, 1.0, 2.0), rescored={"other rule": lenient}
    )
    one = choices[(choices["claim"] == "claim1") & (choices["target"] == "stroke")]
    assert len(one) == 2 * 2 * 3 * 2 and one["planned"].sum() == 2
    assert (one["gates"] == "kept").sum() == 2 * 2 * 3
    planned = one[(one["scoring"] == "as planned") & (one["gates"] == "kept")].set_index(["metric", "margin_factor"])[
        "verdict"
    ]
    assert planned["headline", 1.0] == planned["headline", 2.0] == "supported"
    assert planned["headline", 0.5] == planned["twin", 0.5] == "not_supported"
    assert choices[choices["planned"]].groupby(["claim", "target", "gates"]).size().eq(1).all()


def test_a_rescoring_of_one_metric_asks_only_the_claims_that_hang_on_it() -> None:
    world = as_table(cells())
    sensitivity = world[world["metric"] == "lesion_sensitivity"].assign(value=0.3)
    choices = claims.robustness(RULES, world, learned(), semisynthetic=(), rescored={"threshold 0.9": sensitivity})
    again = choices[choices["scoring"] == "threshold 0.9"]
    assert set(again["claim"]) == {"claim2"} and set(again["metric"]) == {"headline"}
    # nothing beats random weights there, so the gate closes; the intervals alone are equal to the last digit
    assert set(again.loc[again["gates"] == "kept", "verdict"]) == {"inconclusive"}
    assert set(again.loc[again["gates"] == "left aside", "verdict"]) == {"supported"}


def test_a_rescoring_that_lacks_a_cell_is_never_mixed_with_the_planned_scores() -> None:
    world = as_table(cells())
    lenient = world[(world["metric"] == "dice") & (world["target"] != "anatomy")].assign(value=0.9)
    lacking = lenient[~((lenient["target"] == "ms") & (lenient["source"] == "scratch"))]
    of = [
        claims.robustness(RULES, world, learned(), semisynthetic=(), rescored={"other": table})
        for table in (lenient, lacking)
    ]
    on_ms = [one[(one["scoring"] == "other") & (one["target"] == "ms")] for one in of]
    assert set(on_ms[0].loc[on_ms[0]["gates"] == "kept", "verdict"]) == {"inconclusive"}, (
        "equal everywhere: no gate opens"
    )
    planned = of[1][(of[1]["scoring"] == "as planned") & (of[1]["target"] == "ms") & (of[1]["metric"] == "headline")]
    asked = on_ms[1].merge(planned, on=["claim", "metric", "margin_factor", "gates"])
    assert len(asked) and (asked["verdict_x"] == asked["verdict_y"]).all(), "MS stays as planned"


def test_leaving_the_gates_aside_changes_no_interval_and_says_what_they_held_back() -> None:
    world = cells({("stroke", "mri-segmentation", "dice"): -0.2})
    kept = claims.judge(RULES, world, claims.Evidence())
    aside = claims.judge(RULES, world, claims.Evidence(), gated=False)
    assert [r["lower"] for r in kept.contrasts] == [r["lower"] for r in aside.contrasts]
    assert verdict(kept, "claim1", "stroke") == "inconclusive" and verdict(aside, "claim1", "stroke") == "not_supported"


def test_the_other_choice_changes_metric_and_margin_and_nothing_else() -> None:
    other = claims.other_choice(RULES, twin=True, margin_factor=2)
    assert claims.metric_and_margin(other, other.claim1, "anatomy") == ("dice", 0.02)
    assert claims.metric_and_margin(other, other.claim1, "ms") == ("iou", 0.1)
    assert claims.metric_and_margin(other, other.claim2, "ms") == ("lesion_f1", 0.2)
    assert other.gates == RULES.gates and RULES.margin["ms"] == {"dice": 0.05}


# ----------------------------------------------------------------------------------------------------- error rates


def test_a_world_in_which_no_source_does_anything_supports_nothing() -> None:
    supported = {"claim1": 0, "claim2": 0, "claim3": 0}
    draws = 120
    for draw in range(draws):
        found = judged(cells(gain=0.0, noise=0.05, n=27, seed=draw))
        for name in supported:
            supported[name] += verdict(found, name) == "supported"
    assert max(supported.values()) <= 0.05 * draws


def test_a_shortfall_of_exactly_the_margin_is_rarely_called_similar() -> None:
    draws, supported = 120, 0
    for draw in range(draws):
        shift = {("stroke", "mri-segmentation", "dice"): -0.03}
        supported += verdict(judged(cells(shift, noise=0.02, seed=draw)), "claim1", "stroke") == "supported"
    assert supported <= 0.05 * draws


def test_the_lower_end_of_the_95_percent_interval_decides_what_is_similar() -> None:
    """One-sided at 2.5 %: not at 5 %, and not at half of it either."""
    d = np.random.default_rng(0).normal(0.0, 0.05, (24, 3))
    interval = paired_difference(d)
    side = claims.Side(source="mri-segmentation")
    for slack, holds in ((1e-6, True), (-1e-6, False)):
        margin = -interval.lower + slack
        contrast = claims._Contrast("claim1", "stroke", side, side, "dice", margin, interval, True)
        assert claims._holds(contrast, RULES.claim1, RULES.common) is holds
    # equivalence: both ends of the 90 % interval
    inner = at_level(interval, 0.90)
    for slack, holds in ((1e-6, True), (-1e-6, False)):
        margin = max(-inner.lower, inner.upper) + slack
        contrast = claims._Contrast("claim2", "stroke", side, side, "dice", margin, interval, True)
        assert claims._holds(contrast, RULES.claim2, RULES.common) is holds
