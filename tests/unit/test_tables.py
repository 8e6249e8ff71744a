"""Promises of the tables: right people, right pairs, honest words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from braintransfer import claims, study, tables
from braintransfer.errors import BadInput
from braintransfer.near_duplicates import LOOKS
from braintransfer.provenance import project_root, write_manifest


def made_up_results(cells: dict[tuple[str, str], np.ndarray], metric: str = "dice", arm: str = "main") -> pd.DataFrame:
    """Made-up long results: (source, target) -> values (subjects, seeds)."""
    rows: list[dict[str, Any]] = []
    for (source, target), values in cells.items():
        domain, task = study.domain_task(source)
        for i, row in enumerate(values):
            for seed, value in enumerate(row):
                rows.append(
                    {
                        "profile": "made-up",
                        "arm": arm,
                        "encoder": "none",
                        "source": source,
                        "domain": domain,
                        "task": task,
                        "target": target,
                        "subject": f"p{i}",
                        "fold": i % 2,
                        "seed": seed,
                        "n_train": 4,
                        "n_source": 10,
                        "metric": metric,
                        "class": "",
                        "value": value,
                    }
                )
    return pd.DataFrame(rows)[list(study.RESULT_COLUMNS)]


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0.5, 0.2, (9, 3))


def test_a_mean_stands_with_its_interval_and_its_people(noise: np.ndarray) -> None:
    row = tables.accuracy_table(made_up_results({("scratch", "stroke"): noise})).iloc[0]
    assert row["mean"] == pytest.approx(noise.mean())
    assert row["lower"] < row["mean"] < row["upper"]
    assert (row["n"], row["seeds"], row["left_out"]) == (9, 3, 0)


def test_a_person_without_a_value_is_left_out_and_counted(noise: np.ndarray) -> None:
    noise[4, 1] = math.nan
    summary = tables.accuracy_table(made_up_results({("scratch", "stroke"): noise}))
    assert (summary.iloc[0]["n"], summary.iloc[0]["left_out"]) == (8, 1)
    assert "[n = 8]" in tables.for_reading(summary, "stroke").iloc[0]["Dice"]


def test_a_person_of_whom_nothing_is_known_does_not_vanish_from_the_count(noise: np.ndarray) -> None:
    noise[2] = math.nan
    assert tables.accuracy_table(made_up_results({("scratch", "stroke"): noise})).iloc[0]["left_out"] == 1


def test_another_arm_never_enters_the_main_table(noise: np.ndarray) -> None:
    main = made_up_results({("scratch", "stroke"): noise})
    other = made_up_results({("scratch", "stroke"): noise + 5}, arm="scratch_long")
    row = tables.accuracy_table(pd.concat([main, other])).iloc[0]
    assert row["mean"] == pytest.approx(noise.mean())


def test_a_difference_is_paired_by_person_and_seed(noise: np.ndarray) -> None:
    tiny = np.random.default_rng(1).normal(0, 0.001, noise.shape)
    results = made_up_results({("mri-segmentation", "stroke"): noise + 0.1 + tiny, ("imagenet", "stroke"): noise})
    shuffled = results.sample(frac=1, random_state=0)
    row = tables.difference_table(shuffled).iloc[0]
    assert row["mean"] == pytest.approx(0.1, abs=0.002)
    assert row["upper"] - row["lower"] < 0.02, "people's spread must cancel in a paired difference"


def test_only_people_and_seeds_that_both_sources_have_are_compared(noise: np.ndarray) -> None:
    results = made_up_results({("mri-segmentation", "ms"): noise, ("imagenet", "ms"): noise[:6, :2]})
    row = tables.difference_table(results).iloc[0]
    assert (row["n"], row["seeds"]) == (6, 2)


def test_an_interval_over_zero_is_never_called_a_win() -> None:
    assert tables.in_words(-0.01, 0.2) == "no evidence for a difference"
    assert tables.in_words(0.0, 0.2) == "no evidence for a difference"
    assert tables.in_words(0.01, 0.2) == "higher"
    assert tables.in_words(-0.2, -0.01) == "lower"
    assert "cannot" in tables.in_words(math.nan, math.nan)


def test_numbers_are_written_for_people() -> None:
    assert tables.with_interval(0.62, 0.55, 0.69) == "0.62 (0.55 to 0.69)"
    assert tables.with_interval(-0.011, -0.02, 0.0001, 3) == "−0.011 (−0.020 to 0.0001)"
    assert tables.with_interval(0.62, math.nan, math.nan) == "0.62 (no interval)"
    assert tables.with_interval(math.nan, math.nan, math.nan) == "–"
    assert tables.number(-0.001) == "0.00"


def test_one_seed_gives_a_mean_but_no_interval(noise: np.ndarray) -> None:
    summary = tables.accuracy_table(made_up_results({("scratch", "anatomy"): noise[:, :1]}))
    assert "no interval" in tables.for_reading(summary, "anatomy").iloc[0]["Dice"]


def test_nothing_is_bold_and_sources_keep_the_studys_order(noise: np.ndarray) -> None:
    cells = {(source, "stroke"): noise + k / 10 for k, source in enumerate(reversed(study.SOURCES))}
    table = tables.for_reading(tables.accuracy_table(made_up_results(cells)), "stroke")
    assert list(table["source"]) == [tables.SOURCE_TITLES[s] for s in study.SOURCES]
    assert "*" not in table.to_csv()


def test_detection_is_shown_for_lesions_only(noise: np.ndarray) -> None:
    cells = {("scratch", target): noise for target in study.TARGETS}
    table = tables.detection_table(made_up_results(cells, metric="lesion_sensitivity"))
    assert set(table["target"]) == {"stroke", "ms"}


def test_the_source_table_has_the_controls_and_imagenets_ratio() -> None:
    record = {"source": "mri-segmentation", "data set": "made up", "kind": "simulated", "images": 1200, "groups": 20}
    table = tables.source_data_table([record]).set_index("source")
    assert list(table.index) == ["scratch", "imagenet", "mri-segmentation"]
    assert table.loc["mri-segmentation", "ImageNet is larger by"] == "1,068"
    assert table.loc["imagenet", "images"] == 1_281_167


def test_an_unknown_source_is_refused_in_one_line() -> None:
    with pytest.raises(BadInput, match="unknown source nature"):
        tables.source_data_table([{"source": "nature", "images": 1}])


def test_a_baseline_has_its_mean_over_people() -> None:
    rows = [
        {"target": "ms", "baseline": "empty", "subject": f"p{k}", "metric": "dice", "class": "", "value": v}
        for k, v in enumerate((0.0, 0.2))
    ]
    table = tables.baselines_table(pd.DataFrame(rows))
    assert (table.iloc[0]["source"], table.iloc[0]["mean"], table.iloc[0]["n"]) == ("empty", pytest.approx(0.1), 2)


def test_results_are_read_as_they_were_written(tmp_path: Path, noise: np.ndarray) -> None:
    noise[0, 0] = math.nan
    made_up_results({("scratch", "ms"): noise}).to_csv(tmp_path / "results.csv", index=False)
    read = tables.read_results(tmp_path / "results.csv")
    assert (read["class"] == "").all() and (read["domain"] == "").all()
    assert read["value"].isna().sum() == 1
    with pytest.raises(BadInput, match="is missing"):
        tables.read_results(tmp_path / "nothing.csv")


def test_a_table_survives_being_written(tmp_path: Path, noise: np.ndarray) -> None:
    table = tables.accuracy_table(made_up_results({("scratch", "ms"): noise}))
    table.to_csv(tmp_path / "accuracy.csv", index=False)
    again = tables.read_table(tmp_path / "accuracy.csv")
    assert tables.for_reading(again, "ms").equals(tables.for_reading(table, "ms"))


# ------------------------------------------------------------------------------------------------------------ controls
def test_a_control_stands_beside_the_same_source_person_by_person(noise: np.ndarray) -> None:
    main = made_up_results({("mri-segmentation", "stroke"): noise, ("scratch", "stroke"): noise - 0.1})
    shuffled = made_up_results({("mri-segmentation", "stroke"): noise - 0.05}, arm="shuffled_masks")
    few = made_up_results({("scratch", "stroke"): noise[::-1] - 0.3}, arm="labels_2").assign(n_train=2)
    table = tables.arms_table(pd.concat([few, main, shuffled]))
    assert table["arm"].tolist() == ["shuffled_masks", "labels_2"] and table["n_train"].tolist() == [4, 2]
    first, second = table.to_dict("records")
    assert first["difference"] == pytest.approx(-0.05) and first["difference_upper"] < 0
    assert second["difference"] == pytest.approx(-0.2) and second["difference_lower"] < -0.2
    assert (first["n"], first["seeds"]) == (9, 3)
    assert tables.arms_for_reading(table, "stroke")["in words"].iloc[0] == "lower"


def test_a_replicate_that_did_not_learn_is_not_judged_and_its_pictures_are_counted(noise: np.ndarray) -> None:
    main = made_up_results({("mri-segmentation", "stroke"): noise})
    arms = [
        made_up_results({("mri-segmentation", "stroke"): noise - 0.05}, arm=name).assign(n_source=n)
        for name, n in (("shuffled_masks", 2000), ("replicate_good", 1540), ("replicate_bad", 577))
    ]
    table = tables.arms_table(pd.concat([main, *arms])).assign(learned=["", "no", ""])
    assert table["arm"].tolist() == ["shuffled_masks", "replicate_bad", "replicate_good"]
    shown = tables.arms_for_reading(table, "stroke")
    assert shown["in words"].tolist() == ["lower", tables.unjudged(["it"]), "lower"]
    assert shown["its pictures"].tolist() == ["2,000", "577", "1,540"]
    beside = tables.arms_for_reading(table, "stroke", {"mri-segmentation"})["in words"]
    assert beside.tolist()[::2] == [tables.unjudged(["its main arm"])] * 2, "nor beside a main arm that did not learn"


def test_as_many_pairs_as_a_search_looks_at_are_called_or_more() -> None:
    rows = [["picture", "a", "train", "b", "test", 900, found, 0.95, "", "leak", ""] for found in (LOOKS, LOOKS - 1)]
    columns = ["kind", "A", "part A", "B", "part B", "compared", "found", "nearest", "names", "verdict", "why"]
    said = [tables.leaks_for_reading(pd.DataFrame([row], columns=columns))["pictures"].iloc[0] for row in rows]
    assert said == [f"{LOOKS} or more of 900", f"{LOOKS - 1} of 900"]


def test_a_seed_without_a_value_for_anybody_leaves_the_others(noise: np.ndarray) -> None:
    noise[:, 2] = math.nan
    row = tables.accuracy_table(made_up_results({("scratch", "stroke"): noise})).iloc[0]
    assert (row["n"], row["seeds"]) == (9, 2) and row["mean"] == pytest.approx(noise[:, :2].mean())


def test_a_difference_says_whether_it_holds_once_corrected_for_their_number(noise: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    shift = {"mri-segmentation": 0.0, "imagenet": -9.0, "natural-segmentation": -0.35}
    cells = {(s, "stroke"): noise + k + rng.normal(0, 0.2, noise.shape) for s, k in shift.items()}
    cells |= {
        (s, "stroke"): noise + rng.normal(0, 0.2, noise.shape) for s in study.SOURCES if (s, "stroke") not in cells
    }
    table = tables.difference_table(made_up_results(cells)).set_index("B")
    raw = {b: r["adjusted_p"] for b, r in table.iterrows()}
    assert raw["imagenet"] < 0.05 and 0.05 < raw["natural-segmentation"] <= 1
    assert table.loc["natural-segmentation", "lower"] > 0, "alone it would look like a difference"
    shown = tables.differences_for_reading(table.reset_index(), "stroke").set_index("compared with")
    assert shown.loc["ImageNet", ["in words", "also after Holm"]].tolist() == ["higher", "yes"]
    assert shown.loc["natural · segmentation", ["in words", "also after Holm"]].tolist() == ["higher", "no"]


def test_differences_in_which_seeds_only_repeat_each_other_are_counted() -> None:
    rng = np.random.default_rng(1)
    people, rest = rng.normal(0, 1, (12, 1)), rng.normal(0, 0.3, (12, 3))
    alike = people + rest - rest.mean(axis=0)  # every seed has the same mean
    cells = {
        ("mri-segmentation", "stroke"): np.zeros((12, 3)),
        ("imagenet", "stroke"): alike,
        ("scratch", "stroke"): alike + np.array([-0.5, 0.0, 0.5]),
    }
    table = tables.difference_table(made_up_results(cells))
    assert tables.seeds_alike(table) == 1 and tables.seeds_alike(table[table["B"] == "imagenet"]) == 1


def test_sensitivity_is_compared_at_one_number_of_false_positives() -> None:
    """A source that only marks more finds more at the fixed threshold, and no more at equal numbers."""
    marks = {"scratch": (40.0, 20.0, 10.0), "imagenet": (20.0, 10.0, 5.0), "mri-segmentation": (9.0, 8.0, 7.0)}
    froc = pd.DataFrame(
        [
            {"target": "ms", "source": source, "threshold": t, "sensitivity": found, "fp_per_scan": fp}
            for source, fps in marks.items()
            for t, fp, found in zip((0.3, 0.5, 0.7), fps, (fps[0] / 100, fps[1] / 100, fps[2] / 100), strict=True)
        ]
    ).astype(str)
    table = tables.sensitivity_at_equal_false_positives(froc, "ms")
    assert table.columns[-1] == "sensitivity at 10.0 false positives a scan"
    assert table["sensitivity at threshold .5"].tolist() == ["0.20", "0.10", "0.08"]
    assert table["sensitivity at 10.0 false positives a scan"].tolist() == ["0.10", "0.10", "–"]


def test_nothing_is_said_of_a_source_that_did_not_learn_its_task(noise: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    bad = "natural-classification"
    cells = {(s, "stroke"): noise - 0.3 * (s == bad) + rng.normal(0, 0.01, noise.shape) for s in study.SOURCES}
    results = made_up_results(cells)
    said = tables.differences_for_reading(tables.difference_table(results), "stroke", {bad}).set_index("compared with")
    assert (
        said.loc["natural · classification", "in words"] == "not judged: natural · classification did not learn enough"
    )
    assert not said.drop(index="natural · classification")["in words"].str.contains("not judged").any()
    effects = tables.factorial_for_reading(tables.factorial_table(results), "stroke", {bad})
    touched = effects["in words"].str.contains("not judged")
    assert touched.tolist() == [True, True, True, False, True, True, False]


def test_a_control_is_held_against_what_its_question_asks_for(noise: np.ndarray) -> None:
    rng = np.random.default_rng(5)

    def near(shift: float) -> np.ndarray:
        return noise + shift + rng.normal(0, 0.01, noise.shape)

    main = {
        ("scratch", "stroke"): near(0),
        ("imagenet", "stroke"): near(0.2),
        ("mri-segmentation", "stroke"): near(0.1),
    }
    parts = [
        made_up_results(main),
        made_up_results({("scratch", "stroke"): near(0.2)}, arm="scratch_long"),
        made_up_results({("mri-segmentation", "stroke"): near(0.06)}, arm="shuffled_masks"),
        made_up_results({("scratch", "stroke"): near(-0.4), ("imagenet", "stroke"): near(-0.1)}, arm="labels_2"),
        made_up_results({("scratch", "stroke"): near(-0.1)}, arm="frozen_random"),
    ]
    table = tables.pairs_table(pd.concat(parts))
    found = {(r["A_arm"], r["A"], r["B_arm"], r["B"]): r["mean"] for r in table.to_dict("records")}
    assert found == {
        ("main", "imagenet", "scratch_long", "scratch"): pytest.approx(0, abs=0.02),
        ("main", "mri-segmentation", "scratch_long", "scratch"): pytest.approx(-0.1, abs=0.02),
        ("shuffled_masks", "mri-segmentation", "main", "scratch"): pytest.approx(0.06, abs=0.02),
        ("labels_2", "imagenet", "labels_2", "scratch"): pytest.approx(0.3, abs=0.02),
    }
    shown = tables.pairs_for_reading(table, "stroke", {"mri-segmentation"})
    assert shown["A − B"].iloc[0] == "MRI · segmentation, shuffled masks − random weights (scratch)"
    assert shown["in words"].iloc[0] == "higher", "shuffled masks are not there to be learned"
    assert shown["in words"].str.contains("not judged").tolist() == [False, False, True, False]


def test_whether_an_arm_learned_is_said_by_the_rule_of_the_gate() -> None:
    rules = claims.load(project_root() / "notebooks" / "claims.yaml")
    good, bad = {"dice": 0.6, "all_foreground": 0.3}, {"dice": 0.4, "all_foreground": 0.31}
    found = {"size_0.1/mri-segmentation": {0: good}, "replicate_x/mri-segmentation": {0: good, 1: bad}}
    assert claims.unlearned(rules, found) == {"replicate_x/mri-segmentation"}
    found |= {"mri-segmentation": {0: bad}, "shuffled_masks/mri-segmentation": {0: bad}}
    gone = claims.unlearned(rules, found)
    assert gone == {"mri-segmentation", "replicate_x/mri-segmentation"}, "shuffled masks are not there to be learned"
    arms = ("main", "labels_2", "scratch_long", "size_0.1", "replicate_x", "shuffled_masks")
    names = [claims.encoder_name(arm, "scratch" if arm == "scratch_long" else "mri-segmentation") for arm in arms]
    assert [name in gone for name in names] == [True, True, False, False, True, False]


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"recipe": "clinic_lesions", "kind": "semisynthetic", "simulated": False}, "semi-synthetic"),
        ({"recipe": "composited_semisynthetic_views", "kind": "images", "simulated": False}, "real"),
        ({"recipe": "street_collages", "kind": "composited", "simulated": False}, "composited"),
        ({"recipe": "phantoms", "kind": "volumes", "simulated": True}, "simulated"),
        ({"recipe": "phantoms", "kind": "simulated"}, "simulated"),
        # stores from before the kind was written down
        ({"recipe": "semisynthetic_ms", "simulated": False}, "semi-synthetic"),
        ({"recipe": "composited_imagenette", "simulated": False}, "composited"),
        ({"recipe": "malf", "simulated": False}, "real"),
    ],
)
def test_what_a_data_set_is_stands_in_its_recipes_kind_not_in_words_of_its_name(
    facts: dict[str, Any], kind: str
) -> None:
    assert tables.data_kind(facts) == kind


def test_the_data_of_replicates_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    facts = {"recipe": "camvid", "title": "Streets", "images": 701, "images_validation": 124, "groups": 4, "group_means": "drive",
             "classes": {"": 701}, "licence": "CC BY-NC"}  # fmt: skip
    for name in ("natural", "replicate_camvid"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        write_manifest(folder, stage="prepare", key="k", parameters={}, code="", inputs={}, facts=facts)
    results = pd.DataFrame({"arm": ["main", "replicate_camvid"], "n_source": [2000, 577]})
    (row,) = tables.replicate_data_table(tmp_path, results).to_dict("records")
    assert (row["arm"], row["images"], row["held out"], row["groups"]) == ("replicate camvid", 577, 124, 4)
    assert (row["group is"], row["classes"]) == ("drive", 0)


def test_a_control_without_its_main_arm_has_no_difference(noise: np.ndarray) -> None:
    row = tables.arms_table(made_up_results({("scratch", "stroke"): noise}, arm="scratch_long")).iloc[0]
    assert row["mean"] == pytest.approx(noise.mean()) and math.isnan(row["difference"]) and row["n"] == 0


def test_domain_and_task_effects_that_were_put_in_are_found(noise: np.ndarray) -> None:
    cells = {
        (source, "stroke"): noise + 0.2 * source.startswith("mri") + 0.1 * source.endswith("-segmentation")
        for source in study.PRETRAINED_HERE
    }
    found = tables.factorial_table(made_up_results(cells))
    assert len(found) == 7 and set(found["n"]) == {9}
    effect = dict(zip(found["contrast"], found["mean"], strict=True))
    assert effect["mri - natural"] == pytest.approx(0.2)
    assert effect["classification - segmentation"] == pytest.approx(-0.1)
    interactions = found[found["kind"] == "interaction"]["mean"]
    assert len(interactions) == 3 and np.abs(interactions).max() < 1e-12
    del cells["mri-classification", "stroke"]
    assert tables.factorial_table(made_up_results(cells)).empty
