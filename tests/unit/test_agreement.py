"""Our metrics agree with rules written anew and with other programs, and the comparison would notice if they did not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braintransfer import metrics
from braintransfer.proofs import agreement, masks, plain_rules
from braintransfer.proofs.agreement import Comparison
from braintransfer.proofs.masks import KINDS, Case
from braintransfer.provenance import project_root

SHAPE = (12, 10, 8)


def case(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Case:
    empty = np.zeros(pred.shape)
    return Case("by hand", pred, truth, spacing, empty, np.ones(pred.shape, bool), pred * 1, truth * 1)


def mask(*voxels: tuple[int, int, int]) -> np.ndarray:
    made = np.zeros(SHAPE, bool)
    for voxel in voxels:
        made[voxel] = True
    return made


def rod(start: int, length: int, y: int = 0, z: int = 0) -> list[tuple[int, int, int]]:
    return [(x, y, z) for x in range(start, start + length)]


# ----------------------------------------------------------------------------------------------------------- the masks


def test_equal_seeds_give_equal_masks_and_other_seeds_others() -> None:
    one, again, other = (list(masks.cases(30, seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a.pred, b.pred) and a.spacing == b.spacing for a, b in zip(one, again, strict=True))
    assert all(np.array_equal(a.probability, b.probability) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a.pred, b.pred) for a, b in zip(one, other, strict=True))


def test_the_masks_hold_every_nasty_kind() -> None:
    made = list(masks.cases(120))
    assert {c.kind for c in made} == set(KINDS)
    assert any(not c.truth.any() and c.pred.all() for c in made), "empty reference, full prediction"
    assert any(not c.truth.any() and not c.pred.any() for c in made), "both empty"
    assert any(c.truth.sum() == 1 and c.pred.sum() == 1 for c in made), "one voxel"
    assert any(c.truth.any() and not c.pred.any() for c in made), "empty prediction"
    assert any(len(set(c.spacing)) > 1 for c in made), "unequal voxel sides"
    assert any(c.truth[0].any() and c.truth[-1].any() for c in made), "touching borders"
    assert any(1 in c.truth.shape for c in made), "one slice"
    many = [metrics.detect_lesions(c.truth, c.truth, (9, 9, 9)).n_truth for c in made if c.kind.startswith("thousands")]
    assert max(many) > 1000


# ----------------------------------------------------------------------------------------------------- the plain rules


def test_pieces_are_counted_by_hand() -> None:
    corner_chain: plain_rules.Piece = {(0, 0, 0), (1, 1, 0), (2, 2, 1)}  # an edge neighbour, then a corner neighbour
    assert [len(plain_rules.pieces(corner_chain, c)) for c in (6, 18, 26)] == [3, 2, 1]
    assert [len(plain_rules.neighbours(c)) for c in (6, 18, 26)] == [6, 18, 26]
    assert plain_rules.pieces(set(), 6) == []


def test_the_plain_primary_rule_counts_by_hand() -> None:
    truth = mask(*rod(0, 4), *rod(6, 4), (11, 9, 7))  # two lesions and a speck
    # true (on the first lesion), ignored (1 of 4 on the speck), false (nowhere), and a speck that counts nowhere
    pred = mask(*rod(1, 3), *rod(8, 4, 9, 7), *rod(0, 4, 5, 5), (6, 0, 0))
    assert plain_rules.detection(case(pred, truth)) == (2, 2, 1, 1, 1, 0.5, 0.5, 0.5)


def test_the_plain_msseg_rule_counts_by_hand() -> None:
    truth = mask(*rod(0, 10))
    neat, messy = mask(*rod(0, 3), *rod(0, 3, 1)), mask(*rod(0, 1), *[(0, y, 0) for y in range(1, 6)])
    assert plain_rules.msseg(case(neat, truth))[3] == 1
    assert plain_rules.msseg(case(messy, truth))[3] == 0  # one of ten is not more than a tenth
    assert plain_rules.msseg(case(mask(*rod(0, 2), *[(0, y, 0) for y in range(1, 7)]), truth))[3] == 0  # 75 % outside
    # a piece over two lesions: a third of it lies outside both, more than 70 % of it outside the smaller one
    two = mask(*rod(0, 8), *rod(0, 5, 4))
    bridge = mask(*rod(0, 8), *rod(0, 2, 4), *[(0, y, 0) for y in range(1, 4)])
    assert plain_rules.msseg(case(bridge, two))[3] == 2
    assert plain_rules.msseg(case(bridge, two), outside_of="this")[3] == 1


def test_the_plain_atlas_rule_counts_by_hand() -> None:
    truth, pred = mask((0, 0, 0), (1, 1, 0), *rod(6, 4)), mask((0, 0, 0), *rod(9, 3), *rod(0, 2, 9, 7))
    assert plain_rules.atlas(case(pred, truth)) == 2 / 3
    assert plain_rules.atlas(case(pred, truth), 26) == 2 / 2.5
    assert plain_rules.atlas(case(mask(), mask())) == 1.0


def test_the_plain_distances_are_measured_by_hand() -> None:
    one = case(mask(*rod(0, 2)), mask(*rod(0, 5)))
    assert plain_rules.surface_dice(one) == pytest.approx(6 / 7) and plain_rules.hd95(one) == pytest.approx(2.8)
    far = case(mask((0, 0, 0)), mask((3, 0, 0)), (0.5, 1.0, 1.0))
    assert plain_rules.hd95(far) == pytest.approx(1.5) and plain_rules.surface_dice(far) == 1.0


def test_the_plain_calibration_counts_by_hand() -> None:
    truth = mask((0, 0, 0))
    one = replace(case(truth, truth, (6.0, 6.0, 6.0)), probability=np.where(truth, 0.9, 0.0))
    assert plain_rules.brier(one) == pytest.approx(0.01) and plain_rules.ece(one) == pytest.approx(0.1)
    two = replace(one, probability=np.where(truth, 0.9, mask((9, 9, 7)) * 0.5))
    assert plain_rules.brier(two) == pytest.approx((0.01 + 0.25) / 2)
    assert plain_rules.ece(two) == pytest.approx(0.3)


# -------------------------------------------------------------------------------------------------------- the agreement


def small_cases(n: int) -> list[Case]:
    """The first `n` cases without the slowest kind, and more of those that lie exactly on a threshold."""
    made = enumerate(masks.cases(300, seed=7))
    return [c for k, c in made if (k < n and c.kind != "thousands of lesions") or c.kind.startswith("exactly")]


def agrees(made: list[Comparison], n: int) -> None:
    table = agreement.agreement_table(made, iter(small_cases(n)))
    wrong = table[table["disagree"] > 0]
    assert wrong.empty, wrong[["metric", "compared with", "disagree", "largest difference", "where"]].to_string()


def test_the_metrics_are_the_rules_written_anew() -> None:
    agrees(agreement.plain_comparisons()[:11], 50)


def test_the_metrics_are_those_of_scikit_learn() -> None:
    agrees(agreement.sklearn_comparisons(), 40)


def test_the_metrics_are_those_of_monai() -> None:
    pytest.importorskip("monai", reason="MONAI is not installed")
    agrees(agreement.monai_comparisons(), 70)


def test_the_metrics_are_those_of_panoptica() -> None:
    pytest.importorskip("panoptica", reason="panoptica is not installed")
    agrees(agreement.panoptica_comparisons(), 70)


def test_a_wrong_metric_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = small_cases(40)
    made = {c.metric: c for c in reversed(agreement.plain_comparisons())}  # the first of a name wins
    monkeypatch.setattr(metrics, "_VOLUME_SLACK_MM3", 0.3)  # one voxel of 1.4 mm counts
    monkeypatch.setattr(metrics, "_DISTANCE_SLACK_MM", 0.3)
    monkeypatch.setattr(metrics, "_iou", lambda both, n_pred, n_truth: both / max(n_pred + n_truth, 1))
    names = ["lesion detection, all 8 fields", "surface Dice 2 mm", "Dice, IoU", "HD95"]
    table = agreement.agreement_table([made[name] for name in names], iter(nasty))
    assert (table["disagree"] > 0).tolist() == [True, True, True, False]
    assert "specks and small lesions" in table["where"][0]


def test_a_number_beside_no_number_is_a_disagreement() -> None:
    one = case(mask(), mask())
    for theirs, counted in ((0.0, 1), (math.nan, 0)):
        made = [Comparison("Dice", "", lambda c: metrics.dice(c.pred, c.truth), lambda c, v=theirs: v)]  # type: ignore[misc]
        assert agreement.agreement_table(made, iter([one]))["disagree"][0] == counted


def test_where_definitions_differ_the_masks_are_counted_apart() -> None:
    made = [Comparison("x", "y", lambda c: 1.0, lambda c: 2.0, lambda c: bool(c.pred.any()), "why")]
    table = agreement.agreement_table(made, iter([case(mask((0, 0, 0)), mask()), case(mask(), mask())]))
    found = table[["masks", "disagree", "masks, other definition", "other value there"]]
    assert found.to_numpy().tolist() == [[1, 1, 1, 1]]


def test_the_figure_shows_every_kind() -> None:
    drawing = masks.masks_figure()
    titles = [axis.get_title().replace("\n", " ") for axis in drawing.figure.axes]
    assert titles == list(KINDS)
    drawing.figure.draw_without_rendering()


# ---------------------------------------------------------------------------------------------------- committed tables


def committed(name: str) -> pd.DataFrame:
    return pd.read_csv(project_root() / "book" / "proof" / f"{name}.csv", keep_default_na=False)


def test_the_committed_table_compares_every_metric_on_a_thousand_masks() -> None:
    table = committed("metrics")
    assert (table["masks"].astype(int) + table["masks, other definition"].astype(int)).min() >= 1000
    assert (table["disagree"].astype(int) == 0).all()
    assert (table.loc[table["masks, other definition"].astype(int) > 0, "why"] != "").all()
    programs = Counter(name.partition(" ")[0] for name in table["compared with"])
    assert {"scikit-learn", "MONAI", "panoptica"} <= set(programs)
    now = [(c.metric, c.against) for c in agreement.plain_comparisons()]
    assert set(now) <= set(zip(table["metric"], table["compared with"], strict=True))


def test_the_committed_speed_keeps_its_limits() -> None:
    table = committed("metrics_speed")
    assert table["scan"].tolist() == list(agreement.SCANS)
    assert table["CPU seconds"].astype(float).max() <= agreement.LIMIT_SECONDS
    assert table["peak MB, inputs included"].astype(float).max() <= agreement.LIMIT_MB
