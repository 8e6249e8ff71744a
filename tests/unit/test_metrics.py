"""Scores mean what the definitions say: hand-counted examples, brute force beside the fast way, random masks."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import ndimage

from braintransfer import metrics

MM = (1.0, 1.0, 1.0)
SHAPE = (12, 10, 8)


def volume(*boxes: tuple[slice, slice, slice], shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


def cube(x: int, y: int, z: int, size: int = 2) -> tuple[slice, slice, slice]:
    return slice(x, x + size), slice(y, y + size), slice(z, z + size)


def rod(start: int, length: int, y: int = 0, z: int = 0) -> tuple[slice, slice, slice]:
    return slice(start, start + length), slice(y, y + 1), slice(z, z + 1)


def random_pair(seed: int, shape: tuple[int, int, int] = (9, 8, 7)) -> tuple[np.ndarray, np.ndarray]:
    """Blobs, salt, full, empty and single-voxel masks in turn."""
    rng = np.random.default_rng(seed)

    def one() -> np.ndarray:
        kind = rng.integers(0, 6)
        if kind == 0:
            return rng.random(shape) > 0.5
        if kind == 1:
            return rng.random(shape) > 0.95
        if kind == 2:
            return np.zeros(shape, bool)
        if kind == 3:
            return np.ones(shape, bool)
        smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.2)
        return smooth > np.quantile(smooth, 0.7)

    truth = one()
    pred = (truth ^ (rng.random(shape) > 0.9)) if rng.random() < 0.5 else one()
    return pred, truth


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, abs_tol=1e-12)


# --------------------------------------------------------------------------------------------------------- overlap


def test_dice_and_iou_are_the_hand_counted_fractions() -> None:
    truth, pred = volume(rod(0, 4)), volume(rod(2, 6))  # 4 and 6 voxels, 2 shared
    assert metrics.dice(pred, truth) == pytest.approx(2 * 2 / 10)
    assert metrics.iou(pred, truth) == pytest.approx(2 / 8)


def test_an_empty_reference_has_no_dice_whatever_the_prediction() -> None:
    for pred in (volume(), volume(rod(0, 3)), np.ones(SHAPE, bool)):
        assert math.isnan(metrics.dice(pred, volume()))
        assert math.isnan(metrics.iou(pred, volume()))


def test_an_empty_prediction_of_a_real_lesion_scores_zero() -> None:
    assert metrics.dice(volume(), volume(rod(0, 3))) == 0.0
    assert metrics.iou(volume(), volume(rod(0, 3))) == 0.0


def test_mean_iou_skips_absent_classes_and_punishes_invented_ones() -> None:
    truth, pred = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    truth[0:4, 0, 0], pred[2:6, 0, 0] = 1, 1  # IoU 2/6
    pred[0, 5, 5] = 3  # class 3 is only predicted: 0; class 2 is nowhere: skipped
    assert metrics.mean_iou(pred, truth, (1, 2)) == pytest.approx(1 / 3)
    assert metrics.mean_iou(pred, truth, [1, 2, 3]) == pytest.approx(1 / 6)
    assert math.isnan(metrics.mean_iou(pred, truth, (2,)))


def test_background_is_no_class_of_the_mean_iou() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    for classes in ((0, 1), (), 3):
        with pytest.raises(ValueError, match="foreground labels"):
            metrics.mean_iou(labels, labels, classes)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------------- lesions


def test_a_found_lesion_a_missed_one_and_a_false_one_are_counted() -> None:
    truth = volume(cube(0, 0, 0), cube(6, 6, 0))
    pred = volume(cube(1, 0, 0), cube(0, 6, 5))
    found = metrics.detect_lesions(pred, truth, MM)
    assert found == metrics.LesionDetection(2, 2, 0, 1, 1, 0.5, 0.5, 0.5)


def test_exactly_the_asked_overlap_is_enough_and_one_voxel_less_is_not() -> None:
    # 10 of 100 predicted voxels lie in the reference of 10 voxels
    shape = (40, 10, 10)
    truth = volume((slice(0, 1), slice(0, 10), slice(0, 1)), shape=shape)
    pred = volume((slice(0, 1), slice(0, 10), slice(0, 10)), shape=shape)
    assert metrics.detect_lesions(pred, truth, MM).n_true_pred == 1
    pred[1, 0, 0] = True  # now 10 of 101
    found = metrics.detect_lesions(pred, truth, MM)
    assert (found.n_true_pred, found.n_detected, found.n_pred) == (0, 0, 1)


def test_only_true_predictions_detect_a_lesion() -> None:
    # A huge false blob covers the whole lesion: fewer than a tenth of its own voxels are right, so nothing is found.
    truth = volume(cube(0, 0, 0))
    pred = np.ones(SHAPE, bool)
    found = metrics.detect_lesions(pred, truth, MM)
    assert (found.n_true_pred, found.n_detected) == (0, 0)
    assert (found.sensitivity, found.precision, found.f1) == (0.0, 0.0, 0.0)


def test_many_small_true_predictions_may_leave_a_lesion_undetected() -> None:
    truth = volume((slice(0, 10), slice(0, 10), slice(0, 8)))
    pred = volume(rod(0, 4))  # wholly right, but 4 of 800 voxels
    found = metrics.detect_lesions(pred, truth, MM)
    assert (found.n_true_pred, found.n_detected) == (1, 0)
    assert (found.sensitivity, found.precision, found.f1) == (0.0, 1.0, 0.0)


def test_the_smallest_lesion_is_three_cubic_millimetres_despite_rounding() -> None:
    three, two = volume(rod(0, 3)), volume(rod(0, 2))
    assert metrics.detect_lesions(three, three, MM).n_truth == 1
    assert metrics.detect_lesions(two, two, MM).n_truth == 0
    # three voxels of .9999^3 mm3 make 2.9991: just within the thousandth; at .999 they are a speck
    assert metrics.detect_lesions(three, three, (0.9999,) * 3).n_truth == 1
    assert metrics.detect_lesions(three, three, (0.999,) * 3).n_truth == 0
    assert metrics.detect_lesions(three, three, (0.9999,) * 3).n_pred == 1
    assert metrics.detect_lesions(three, three, (0.999,) * 3).n_pred == 0


def test_at_1_4_mm_the_smallest_lesion_is_two_voxels() -> None:
    one, two = volume(rod(0, 1)), volume(rod(0, 2))
    assert metrics.detect_lesions(one, one, (1.4,) * 3).n_truth == 0
    assert metrics.detect_lesions(two, two, (1.4,) * 3).n_truth == 1


def test_voxel_volume_comes_from_all_three_spacings() -> None:
    one = volume(rod(0, 1))
    assert metrics.detect_lesions(one, one, (1.0, 1.0, 3.0)).n_truth == 1
    assert metrics.detect_lesions(one, one, (0.5, 2.0, 2.9)).n_truth == 0


def test_a_prediction_on_a_reference_speck_is_ignored_and_one_nowhere_is_false() -> None:
    truth = volume(cube(0, 0, 0), rod(5, 1, 5, 5))  # a lesion and a speck of one voxel
    pred = volume(cube(0, 0, 0), rod(5, 4, 5, 5), rod(0, 4, 9, 7))
    found = metrics.detect_lesions(pred, truth, MM)
    assert found == metrics.LesionDetection(1, 2, 1, 1, 1, 1.0, 0.5, 2 / 3)


def test_predicted_specks_count_nowhere() -> None:
    truth = volume(cube(0, 0, 0))
    pred = volume(rod(0, 2), rod(8, 1, 8, 7))
    found = metrics.detect_lesions(pred, truth, MM)
    assert (found.n_pred, found.n_ignored, found.n_detected, found.sensitivity, found.f1) == (0, 0, 0, 0.0, 0.0)
    assert math.isnan(found.precision)


def test_rates_without_lesions_follow_the_contract() -> None:
    lesion, nothing = volume(cube(0, 0, 0)), volume()
    no_truth = metrics.detect_lesions(lesion, nothing, MM)
    assert (no_truth.n_truth, no_truth.n_pred) == (0, 1)
    assert all(math.isnan(v) for v in (no_truth.sensitivity, no_truth.precision, no_truth.f1))
    no_pred = metrics.detect_lesions(nothing, lesion, MM)
    assert no_pred.sensitivity == 0.0 and math.isnan(no_pred.precision) and no_pred.f1 == 0.0
    only_speck = metrics.detect_lesions(lesion, volume(rod(0, 1)), MM)  # the reference holds no lesion
    assert math.isnan(only_speck.sensitivity) and only_speck.n_ignored == 1


def test_connectivity_decides_what_is_one_lesion() -> None:
    mask = volume(cube(0, 0, 0), cube(2, 2, 0), cube(4, 4, 2))  # an edge neighbour, then a corner neighbour
    assert [metrics.detect_lesions(mask, mask, MM, connectivity=c).n_truth for c in (6, 18, 26)] == [3, 2, 1]


def slow_detection(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]) -> tuple[int, ...]:
    """The contract word by word, lesion by lesion."""
    structure = np.ones((3, 3, 3))
    labelled = [ndimage.label(mask, structure) for mask in (pred, truth)]
    voxel = math.prod(spacing)
    predicted, reference = (
        [c for c in (labels == k for k in range(1, n + 1)) if c.sum() * voxel >= 3.0 - 1e-3] for labels, n in labelled
    )
    lesions = np.any(reference, axis=0) if reference else np.zeros_like(truth)
    true = [c for c in predicted if (c & lesions).sum() / c.sum() >= 0.1]
    rest = [c for c in predicted if (c & lesions).sum() / c.sum() < 0.1]
    ignored = [c for c in rest if (c & truth).sum() / c.sum() >= 0.1]
    covering = np.any(true, axis=0) if true else np.zeros_like(truth)
    detected = [c for c in reference if (c & covering).sum() / c.sum() >= 0.1]
    return len(reference), len(predicted) - len(ignored), len(ignored), len(detected), len(true)


def test_the_fast_detection_is_the_word_by_word_one_on_random_masks() -> None:
    for seed in range(150):
        rng = np.random.default_rng(seed)
        shape = (14, 11, 9)
        cut = rng.choice([0.8, 1.2, 1.6, 2.0])
        field = ndimage.gaussian_filter(rng.normal(size=shape), 0.8)
        truth = field / field.std() > cut
        pred = (field / field.std() + rng.normal(size=shape) * 0.6) > cut
        spacing = tuple(float(v) for v in rng.choice([0.7, 1.0, 1.5, 3.0], 3))
        got = metrics.detect_lesions(pred, truth, spacing)  # type: ignore[arg-type]
        counts = (got.n_truth, got.n_pred, got.n_ignored, got.n_detected, got.n_true_pred)
        assert counts == slow_detection(pred, truth, spacing), seed  # type: ignore[arg-type]


def test_lesion_counts_survive_flips_and_added_background() -> None:
    for seed in range(40):
        pred, truth = random_pair(seed)
        plain = metrics.detect_lesions(pred, truth, MM), metrics.msseg_lesions(pred, truth, MM)
        flipped = pred[::-1, :, ::-1], truth[::-1, :, ::-1]
        padded = np.pad(pred, 2), np.pad(truth, 2)
        for p, t in (flipped, padded):
            again = metrics.detect_lesions(p, t, MM), metrics.msseg_lesions(p, t, MM)
            for one, other in zip(plain, again, strict=True):
                values = zip(vars(one).values(), vars(other).values(), strict=True)
                assert all(same(a, b) for a, b in values), seed


def test_msseg_asks_for_more_than_a_tenth_and_for_neat_predictions() -> None:
    truth = volume((slice(0, 5), slice(0, 2), slice(0, 4)))  # 40 voxels
    exactly = volume(rod(0, 4))  # 4 of 40 are a tenth, not more
    assert metrics.msseg_lesions(exactly, truth, MM).n_detected == 0
    more = volume(rod(0, 5))
    assert metrics.msseg_lesions(more, truth, MM).n_detected == 1
    # 12 voxels inside, 27 outside: .692 is allowed; one more outside: exactly .7; two more: too far
    tail = volume((slice(0, 3), slice(1, 2), slice(0, 4)), (slice(0, 3), slice(2, 5), slice(0, 3)))
    assert metrics.msseg_lesions(tail, truth, MM).n_detected == 1
    tail[3, 2, 0] = True
    assert metrics.msseg_lesions(tail, truth, MM).n_detected == 1
    tail[4, 2, 0] = True
    assert metrics.msseg_lesions(tail, truth, MM).n_detected == 0


def test_msseg_forgives_a_small_messy_contributor_after_65_percent() -> None:
    truth = volume((slice(0, 10), slice(0, 1), slice(0, 1)), (slice(0, 10), slice(1, 2), slice(0, 1)))  # 20 voxels
    neat = volume(rod(0, 7), rod(0, 7, 1))  # 14 of the shared voxels, all inside
    messy = volume((slice(9, 10), slice(0, 1), slice(0, 8)))  # 1 inside, 7 outside: 88 % outside
    assert metrics.msseg_lesions(neat | messy, truth, MM).n_detected == 1
    assert metrics.msseg_lesions(messy, truth, MM).n_detected == 0


def test_msseg_lesions_are_larger_than_three_cubic_millimetres() -> None:
    three, four = volume(rod(0, 3)), volume(rod(0, 4))
    assert metrics.msseg_lesions(three, three, MM).n_truth == 0
    assert metrics.msseg_lesions(four, four, MM).f1 == 1.0


def test_atlas_needs_one_voxel_face_neighbours_and_no_size() -> None:
    truth = volume(rod(0, 1), rod(1, 1, 1), rod(6, 4))  # two diagonal voxels are two lesions
    pred = volume(rod(0, 1), rod(9, 3), rod(0, 2, 9, 7))
    # found: the first voxel and the rod (one shared voxel); missed: the second voxel; false: the far rod
    assert metrics.atlas_lesion_f1(pred, truth) == pytest.approx(2 / (2 + (1 + 1) / 2))
    assert metrics.atlas_lesion_f1(volume(), volume()) == 1.0
    assert metrics.atlas_lesion_f1(pred, volume()) == 0.0
    assert metrics.atlas_lesion_f1(volume(), truth) == 0.0


def test_each_other_rule_finds_what_it_says() -> None:
    truth = volume(rod(0, 8), rod(6, 1, 4, 4), rod(4, 8, 9, 7))
    pred = volume(rod(0, 3), rod(6, 1, 4, 4))  # three eighths of the first, all of a speck, nothing of the last
    found = metrics.by_other_rules(pred, truth, MM)
    assert found[metrics.HALF][0] == 0.0, "less than half of the first is covered"
    assert found[metrics.MSSEG][0] == metrics.msseg_lesions(pred, truth, MM).sensitivity
    assert found[metrics.ATLAS] == (pytest.approx(2 / 3), metrics.atlas_lesion_f1(pred, truth))
    primary = metrics.detect_lesions(pred, truth, MM)
    assert primary.sensitivity == 0.5 and primary.f1 == pytest.approx(2 / 3)
    nothing = metrics.by_other_rules(pred, volume(), MM)
    assert all(math.isnan(sensitivity) for sensitivity, _ in nothing.values())


def test_the_overlap_curve_falls_and_holds_the_primary_rule() -> None:
    rng = np.random.default_rng(3)
    field = ndimage.gaussian_filter(rng.normal(size=(30, 30, 30)), 1.5)
    truth, pred = field > 0.25, ndimage.shift(field, (1, 1, 0), order=1) > 0.25
    overlaps = (1e-9, 0.1, 0.5, 0.9)
    found = metrics.detect_by_overlap(pred, truth, MM, overlaps)
    assert found == [metrics.detect_lesions(pred, truth, MM, overlap=o) for o in overlaps]
    f1 = [rule.f1 for rule in found]
    assert f1 == sorted(f1, reverse=True) and f1[0] > f1[-1]


def test_froc_trades_false_lesions_for_found_ones() -> None:
    truth = volume(cube(0, 0, 0), cube(6, 6, 0))
    p = np.zeros(SHAPE, np.float32)
    p[cube(0, 0, 0)], p[cube(6, 6, 0)], p[cube(0, 6, 5)] = 0.9, 0.4, 0.3
    assert metrics.froc(p, truth, MM, (0.2, 0.35, 0.5, 0.95)) == [
        (0.2, 1.0, 1.0),
        (0.35, 1.0, 0.0),
        (0.5, 0.5, 0.0),
        (0.95, 0.0, 0.0),
    ]
    nothing = metrics.froc(p, volume(), MM, (0.2,))
    assert math.isnan(nothing[0][1]) and nothing[0][2] == 3.0


# -------------------------------------------------------------------------------------------- volumes and surfaces


def test_volume_errors_are_signed_and_in_millilitres() -> None:
    truth, pred = volume(cube(0, 0, 0)), volume(rod(0, 3))  # 8 and 3 voxels, 2 shared
    assert metrics.volume_error_ml(pred, truth, (10, 10, 10)) == pytest.approx(-5.0)
    assert metrics.fp_volume_ml(pred, truth, (10, 10, 10)) == pytest.approx(1.0)
    assert metrics.fp_volume_ml(pred, volume(), (10, 10, 10)) == pytest.approx(3.0)


def slow_distances(a: np.ndarray, b: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    structure = ndimage.generate_binary_structure(3, 1)
    surface_a, surface_b = (m & ~ndimage.binary_erosion(m, structure) for m in (a, b))
    return ndimage.distance_transform_edt(~surface_b, sampling=spacing)[surface_a]


def test_surface_distances_equal_a_distance_transform_on_random_masks() -> None:
    for seed in range(120):
        pred, truth = random_pair(seed, (13, 11, 9))
        rng = np.random.default_rng(seed)
        spacing = tuple(float(v) for v in rng.choice([0.4, 0.9, 1.0, 1.5, 5.0], 3))
        there, back = metrics.surface_distances(pred, truth, spacing)  # type: ignore[arg-type]
        if not pred.any() or not truth.any():
            assert not len(there) and not len(back)
            continue
        np.testing.assert_allclose(np.sort(there), np.sort(slow_distances(pred, truth, spacing)), atol=1e-9)  # type: ignore[arg-type]
        np.testing.assert_allclose(np.sort(back), np.sort(slow_distances(truth, pred, spacing)), atol=1e-9)  # type: ignore[arg-type]


def test_far_apart_surfaces_have_their_true_distance() -> None:
    shape = (120, 20, 20)
    pred, truth = volume(rod(0, 1), shape=shape), volume(rod(100, 1), shape=shape)
    assert metrics.hd95(pred, truth, (1.5, 1, 1)) == pytest.approx(150.0)
    assert metrics.surface_dice(pred, truth, (1.5, 1, 1)) == 0.0


def test_surface_dice_counts_two_millimetres_as_near() -> None:
    one, two_on, three_on = volume(rod(0, 1)), volume(rod(2, 1)), volume(rod(3, 1))
    assert metrics.surface_dice(two_on, one, MM) == 1.0
    assert metrics.surface_dice(three_on, one, MM) == 0.0
    assert metrics.surface_dice(two_on, one, (1.01, 1, 1)) == 0.0
    # a rod of 5 against its first 2 voxels: 2 there; 0, 0, 1, 2, 3 back, of which the last is far
    assert metrics.surface_dice(volume(rod(0, 2)), volume(rod(0, 5)), MM) == pytest.approx(6 / 7)


def test_hd95_is_the_larger_directed_percentile() -> None:
    # back: 0, 0, 1, 2, 3 mm; the 95th percentile lies at .8 between the last two
    assert metrics.hd95(volume(rod(0, 2)), volume(rod(0, 5)), MM) == pytest.approx(2.8)
    assert metrics.hd95(volume(rod(0, 5)), volume(rod(0, 2)), MM) == pytest.approx(2.8)


def test_surface_scores_of_empty_masks_follow_the_contract() -> None:
    lesion, nothing = volume(cube(3, 3, 3)), volume()
    assert metrics.surface_dice(nothing, lesion, MM) == 0.0
    assert math.isnan(metrics.surface_dice(lesion, nothing, MM))
    assert math.isnan(metrics.hd95(nothing, lesion, MM)) and math.isnan(metrics.hd95(lesion, nothing, MM))


# ----------------------------------------------------------------------------------------------------- calibration


def test_calibration_looks_only_near_the_reference_or_where_something_was_said() -> None:
    shape = (30, 30, 30)
    truth = volume(rod(15, 1, 15, 15), shape=shape)
    p = np.zeros(shape, np.float32)
    p[0, 0, 0] = 0.5  # far away, but above .01
    p[0, 0, 29] = 0.02  # so is this
    p[29, 29, 29] = 0.005  # far away and silent
    grid = np.stack(np.meshgrid(*[np.arange(30) - 15] * 3, indexing="ij"))
    n = int((np.sqrt((grid**2).sum(0)) <= 5).sum()) + 2
    assert metrics.brier(p, truth, MM) == pytest.approx((1 + 0.25 + 0.0004) / n)
    brain = np.ones(shape, bool)
    brain[0, 0, 0] = False
    assert metrics.brier(p, truth, MM, brain) == pytest.approx(1.0004 / (n - 1))


def test_the_five_millimetres_are_a_ball_in_every_spacing() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mask = rng.random((11, 10, 9)) > 0.99
        spacing = tuple(float(v) for v in rng.choice([0.8, 1.0, 1.4, 2.0, 6.0], 3))
        expected = (
            ndimage.distance_transform_edt(~mask, sampling=spacing) <= 5 + 1e-9 if mask.any() else np.zeros_like(mask)
        )
        np.testing.assert_array_equal(metrics._within(mask, spacing, 5.0), expected)  # type: ignore[arg-type]


def test_ece_is_the_gap_between_said_and_seen() -> None:
    shape = (10, 10, 1)
    truth = np.zeros(shape, bool)
    truth[:7] = True  # 70 of 100
    said = np.full(shape, 0.9)
    assert metrics.ece(said, truth, MM) == pytest.approx(0.2)
    said[7:] = 0.1  # two bins: .9 said and 1 seen on 70, .1 said and 0 seen on 30
    assert metrics.ece(said, truth, MM) == pytest.approx(0.1)
    assert metrics.ece(truth.astype(float), truth, MM) == 0.0


def test_calibration_of_nothing_is_undefined() -> None:
    assert math.isnan(metrics.brier(np.zeros(SHAPE), volume(), MM))
    assert math.isnan(metrics.ece(np.zeros(SHAPE), volume(), MM))


# ---------------------------------------------------------------------------------------------------- a whole scan


def table_of(rows: list[dict]) -> dict[tuple[str, str], float]:
    found = {(row["metric"], row["class"]): row["value"] for row in rows}
    assert len(found) == len(rows), "a row stands twice"
    return found


def test_a_lesion_scan_has_one_row_a_metric() -> None:
    truth, pred = volume(cube(0, 0, 0)).astype(np.uint8), volume(cube(1, 0, 0)).astype(np.uint8)
    p = np.stack([1 - pred, pred]).astype(np.float32)
    found = table_of(metrics.score_volume(pred, truth, MM, ("lesion",), p, np.ones(SHAPE, bool), detect=True))
    assert {metric for metric, _ in found} == {
        "dice", "iou", "miou", "lesion_sensitivity", "lesion_precision", "lesion_f1", "fp_per_scan", "volume_error_ml",
        "volume_error_abs_ml", "fp_volume_ml", "surface_dice_2mm", "hd95_mm", "brier", "ece",
    }  # fmt: skip
    assert {class_ for _, class_ in found} == {""}
    assert all(type(value) is float for value in found.values())
    assert found["dice", ""] == metrics.dice(pred, truth)
    assert found["miou", ""] == found["iou", ""] == metrics.iou(pred, truth)
    assert found["surface_dice_2mm", ""] == metrics.surface_dice(pred, truth, MM)
    assert found["hd95_mm", ""] == metrics.hd95(pred, truth, MM)
    assert found["brier", ""] == metrics.brier(p[1], truth, MM)
    assert found["ece", ""] == metrics.ece(p[1], truth, MM)


def test_false_lesions_are_counted_where_the_reference_is_empty() -> None:
    pred = volume(cube(0, 0, 0), cube(6, 6, 0)).astype(np.uint8)
    found = table_of(metrics.score_volume(pred, np.zeros(SHAPE, np.uint8), MM, ("lesion",), detect=True))
    assert found["fp_per_scan", ""] == 2.0
    assert found["fp_volume_ml", ""] == pytest.approx(0.016)
    assert math.isnan(found["dice", ""]) and math.isnan(found["lesion_sensitivity", ""])
    assert found["miou", ""] == 0.0  # the class is in the prediction only


def test_a_tissue_scan_has_a_row_a_class_and_their_mean() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, SHAPE).astype(np.uint8)
    pred = np.where(rng.random(SHAPE) < 0.3, rng.integers(0, 4, SHAPE), truth).astype(np.uint8)
    found = table_of(metrics.score_volume(pred, truth, MM, ("csf", "gm", "wm")))
    for label, name in enumerate(("csf", "gm", "wm"), 1):
        assert found["dice", name] == metrics.dice(pred == label, truth == label)
        assert found["hd95_mm", name] == metrics.hd95(pred == label, truth == label, MM)
    assert found["dice", ""] == pytest.approx(np.mean([found["dice", c] for c in ("csf", "gm", "wm")]))
    assert found["miou", ""] == pytest.approx(metrics.mean_iou(pred, truth, (1, 2, 3)))
    assert ("miou", "csf") not in found and ("lesion_f1", "") not in found and ("brier", "") not in found


def test_forgetting_a_class_never_improves_the_mean_hd95() -> None:
    truth, pred = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    truth[cube(0, 0, 0)], truth[cube(6, 6, 0)] = 1, 2
    pred[cube(0, 0, 0)] = 1
    found = table_of(metrics.score_volume(pred, truth, MM, ("a", "b")))
    assert found["hd95_mm", "a"] == 0.0 and math.isnan(found["hd95_mm", "b"]) and math.isnan(found["hd95_mm", ""])
    assert found["dice", ""] == 0.5 and found["surface_dice_2mm", ""] == 0.5


def test_overlap_scores_stay_in_their_bounds_and_keep_their_laws() -> None:
    for seed in range(150):
        pred, truth = random_pair(seed)
        d, j = metrics.dice(pred, truth), metrics.iou(pred, truth)
        if not truth.any():
            assert math.isnan(d) and math.isnan(j)
            continue
        assert 0 <= j <= d <= 1
        assert d == pytest.approx(2 * j / (1 + j))
        assert same(d, metrics.dice(pred[::-1], truth[::-1])) and same(
            d, metrics.dice(np.pad(pred, 1), np.pad(truth, 1))
        )
        if pred.any():
            assert same(d, metrics.dice(truth, pred))
            assert same(metrics.hd95(pred, truth, MM), metrics.hd95(truth, pred, MM))
            assert 0 <= metrics.surface_dice(pred, truth, MM) <= 1
        better = pred | (truth & (np.random.default_rng(seed).random(truth.shape) > 0.5))
        assert metrics.dice(better, truth) >= d
        assert metrics.dice(truth, truth) == 1.0 and metrics.hd95(truth, truth, MM) == 0.0
        assert metrics.surface_dice(truth, truth, MM) == 1.0


def test_labels_and_booleans_and_whole_floats_score_alike() -> None:
    pred, truth = random_pair(5)
    expected = metrics.detect_lesions(pred, truth, MM)
    for kind in (np.uint8, np.int64, np.float32):
        assert metrics.dice(pred.astype(kind), truth.astype(kind)) == metrics.dice(pred, truth)
        assert metrics.detect_lesions(pred.astype(kind) * 2, truth.astype(kind), MM) == expected


# -------------------------------------------------------------------------------------------------------- properties


def numbers(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], p: np.ndarray) -> list[float]:
    """Every metric of one mask pair, one after the other."""
    args = pred, truth, spacing
    return [
        metrics.dice(pred, truth),
        metrics.iou(pred, truth),
        *vars(metrics.detect_lesions(*args)).values(),
        *vars(metrics.msseg_lesions(*args)).values(),
        metrics.atlas_lesion_f1(pred, truth),
        metrics.volume_error_ml(*args),
        metrics.fp_volume_ml(*args),
        metrics.surface_dice(*args),
        metrics.hd95(*args),
        metrics.brier(p, truth, spacing),
        metrics.ece(p, truth, spacing),
    ]


def close(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(
        (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
        for a, b in zip(one, other, strict=True)
    )


def test_turning_and_flipping_the_head_changes_no_metric() -> None:
    spacing = (0.8, 1.5, 3.0)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        pred, truth = random_pair(seed)
        p = rng.random(truth.shape)
        plain = numbers(pred, truth, spacing, p)
        axes = tuple(int(axis) for axis in rng.permutation(3))
        flips = tuple(slice(None, None, int(step)) for step in rng.choice([-1, 1], 3))
        turned = [np.transpose(volume, axes)[flips] for volume in (pred, truth, p)]
        size = (spacing[axes[0]], spacing[axes[1]], spacing[axes[2]])
        assert close(numbers(turned[0], turned[1], size, turned[2]), plain), seed


def test_cutting_away_empty_background_changes_no_metric() -> None:
    spacing = (0.8, 1.5, 3.0)
    for seed in range(40):
        pred, truth = random_pair(seed)
        p = np.where(pred, 0.8, 0.0)
        # room enough for the 5 mm around the reference
        around = [(8, 8), (5, 5), (3, 3)]
        pred, truth, p = (np.pad(volume, around) for volume in (pred, truth, p))
        outer = [np.pad(volume, [(3, 0), (1, 2), (0, 4)]) for volume in (pred, truth, p)]
        assert close(numbers(pred, truth, spacing, p), numbers(outer[0], outer[1], spacing, outer[2])), seed


def test_swapping_the_masks_swaps_or_keeps_what_it_should() -> None:
    asymmetric = 0
    for seed in range(60):
        pred, truth = random_pair(seed)
        if not pred.any() or not truth.any():
            continue
        there, back = metrics.msseg_lesions(pred, truth, MM), metrics.msseg_lesions(truth, pred, MM)
        assert (there.n_truth, there.n_pred, there.n_detected, there.n_true_pred) == (
            back.n_pred, back.n_truth, back.n_true_pred, back.n_detected,
        )  # fmt: skip
        if there.n_truth and there.n_pred:
            assert same(there.sensitivity, back.precision) and same(there.f1, back.f1)
        assert same(metrics.surface_dice(pred, truth, MM), metrics.surface_dice(truth, pred, MM))
        assert same(metrics.iou(pred, truth), metrics.iou(truth, pred))
        assert same(metrics.volume_error_ml(pred, truth, MM), -metrics.volume_error_ml(truth, pred, MM))
        asymmetric += metrics.detect_lesions(pred, truth, MM).f1 != metrics.detect_lesions(truth, pred, MM).f1
    assert asymmetric > 0  # the primary rule asks different things of the two masks


def test_every_score_stays_in_its_bounds() -> None:
    for seed in range(80):
        pred, truth = random_pair(seed)
        p = np.random.default_rng(seed).random(truth.shape) ** 4
        for found in (metrics.detect_lesions(pred, truth, MM), metrics.msseg_lesions(pred, truth, MM)):
            assert 0 <= found.n_detected <= found.n_truth and 0 <= found.n_true_pred <= found.n_pred
            rates = found.sensitivity, found.precision, found.f1
            assert all(math.isnan(rate) or 0 <= rate <= 1 for rate in rates)
            if found.n_truth and found.n_pred:
                assert min(rates[:2]) - 1e-12 <= found.f1 <= max(rates[:2]) + 1e-12
        assert 0 <= metrics.atlas_lesion_f1(pred, truth) <= 1
        false_ml = metrics.fp_volume_ml(pred, truth, MM)
        assert (
            0 <= false_ml <= pred.sum() / 1000 + 1e-12 and false_ml >= metrics.volume_error_ml(pred, truth, MM) - 1e-12
        )
        brier, ece = metrics.brier(p, truth, MM), metrics.ece(p, truth, MM)
        # a mean gap within bins is never larger than the mean gap, nor that than the root mean square
        assert 0 <= ece <= math.sqrt(brier) + 1e-12 <= 1 + 1e-9
        far = metrics.hd95(pred, truth, (1, 2, 3))
        assert math.isnan(far) or 0 <= far <= math.dist((0, 0, 0), np.array(truth.shape) * (1, 2, 3))


def test_renaming_the_labels_changes_no_metric() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        pred, truth = rng.integers(0, 4, (2, *SHAPE))
        names = np.array([0, *rng.permutation([1, 2, 3])])
        assert same(metrics.mean_iou(names[pred], names[truth], (1, 2, 3)), metrics.mean_iou(pred, truth, (3, 2, 1)))
        mask, other = pred > 0, truth > 0
        # of a lesion mask only zero and not zero count, also when each lesion has its own number
        assert metrics.detect_lesions(names[pred], names[truth], MM) == metrics.detect_lesions(mask, other, MM)
        assert metrics.hd95(names[pred], names[truth], MM) == metrics.hd95(mask, other, MM)


def test_a_right_voxel_never_harms_overlap_and_a_wrong_one_never_helps() -> None:
    for seed in range(80):
        rng = np.random.default_rng(seed)
        pred, truth = random_pair(seed)
        if not truth.any():
            continue
        better, worse = (
            pred | (truth & (rng.random(truth.shape) < 0.3)),
            pred | (~truth & (rng.random(truth.shape) < 0.3)),
        )
        for score in (metrics.dice, metrics.iou):
            assert score(worse, truth) <= score(pred, truth) <= score(better, truth)
        assert metrics.fp_volume_ml(worse, truth, MM) >= metrics.fp_volume_ml(pred, truth, MM)
        assert same(metrics.fp_volume_ml(better, truth, MM), metrics.fp_volume_ml(pred, truth, MM))


def test_a_far_false_lesion_costs_precision_alone_and_a_missed_one_filled_in_helps() -> None:
    for seed in range(40):
        pred, truth = (np.pad(mask, ((0, 8), (0, 0), (0, 0))) for mask in random_pair(seed))
        far = np.zeros_like(pred)
        far[-3:, :3, :3] = True
        plain = metrics.detect_lesions(pred, truth, MM)
        false = metrics.detect_lesions(pred | far, truth, MM)
        assert (false.n_pred, false.n_true_pred, false.n_detected) == (
            plain.n_pred + 1,
            plain.n_true_pred,
            plain.n_detected,
        )
        missed = metrics.detect_lesions(pred, truth | far, MM)
        found = metrics.detect_lesions(pred | far, truth | far, MM)
        assert found.n_detected == missed.n_detected + 1 and found.sensitivity > missed.sensitivity
        assert found.f1 > missed.f1


def test_a_wider_tolerance_and_a_stricter_overlap_move_scores_one_way() -> None:
    for seed in range(40):
        pred, truth = random_pair(seed)
        if not pred.any() or not truth.any():
            continue
        near = [metrics.surface_dice(pred, truth, MM, mm) for mm in (0, 0.5, 1, 2, 5, 50)]
        assert near == sorted(near) and near[-1] == 1.0
        found = [metrics.detect_lesions(pred, truth, MM, overlap=share) for share in (1e-9, 0.1, 0.5, 1.0)]
        for field in ("n_detected", "n_true_pred"):
            counts = [getattr(one, field) for one in found]
            assert counts == sorted(counts, reverse=True)
        lesions = [metrics.detect_lesions(pred, truth, MM, min_volume_mm3=mm3).n_truth for mm3 in (0, 2, 3, 10, 1e6)]
        assert lesions == sorted(lesions, reverse=True) and lesions[-1] == 0


def test_twice_the_voxel_side_is_twice_the_distance_and_eight_times_the_volume() -> None:
    for seed in range(40):
        pred, truth = random_pair(seed)
        one, two = (0.8, 1.5, 3.0), (1.6, 3.0, 6.0)
        assert close([2 * metrics.hd95(pred, truth, one)], [metrics.hd95(pred, truth, two)])
        assert same(metrics.surface_dice(pred, truth, one, 2.0), metrics.surface_dice(pred, truth, two, 4.0))
        for volume in (metrics.volume_error_ml, metrics.fp_volume_ml):
            assert close([8 * volume(pred, truth, one)], [volume(pred, truth, two)])
        small = metrics.detect_lesions(pred, truth, one, min_volume_mm3=5)
        large = metrics.detect_lesions(pred, truth, two, min_volume_mm3=40)
        assert close([*vars(small).values()], [*vars(large).values()])


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.dice(np.zeros((3, 3, 3), bool), np.zeros((3, 3, 4), bool)),
        lambda: metrics.dice(np.zeros((3, 3), bool), np.zeros((3, 3), bool)),
        lambda: metrics.dice(np.full((3, 3, 3), 0.5), np.ones((3, 3, 3), bool)),
        lambda: metrics.dice(np.full((3, 3, 3), np.nan), np.ones((3, 3, 3), bool)),
        lambda: metrics.iou(np.ones((3, 3, 3), complex), np.ones((3, 3, 3), bool)),
        lambda: metrics.iou(np.full((3, 3, 3), -1), np.ones((3, 3, 3), bool)),
        lambda: metrics.detect_lesions(volume(), volume(), (1, 1, -1)),
        lambda: metrics.detect_lesions(volume(), volume(), (1, 1)),
        lambda: metrics.hd95(volume(), volume(), (1, math.nan, 1)),
        lambda: metrics.detect_lesions(volume(), volume(), MM, connectivity=8),
        lambda: metrics.detect_lesions(volume(), volume(), MM, overlap=0),
        lambda: metrics.detect_lesions(volume(), volume(), MM, min_volume_mm3=-1),
        lambda: metrics.brier(np.full(SHAPE, 1.5), volume(), MM),
        lambda: metrics.brier(np.full(SHAPE, np.nan), volume(), MM),
        lambda: metrics.froc(np.zeros((2, *SHAPE)), volume(), MM, (0.5,)),
        lambda: metrics.score_volume(np.full(SHAPE, 2), np.full(SHAPE, 1), MM, ("lesion",)),
        lambda: metrics.score_volume(volume(), volume(), MM, ("lesion",), np.zeros((3, *SHAPE))),
        lambda: metrics.score_volume(volume(), volume(), MM, ("lesion",), None, np.zeros((2, 2, 2), bool)),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------------- speed


def test_thousands_of_lesions_take_no_longer_than_a_few() -> None:
    rng = np.random.default_rng(0)
    shape = (100, 100, 80)
    truth = np.zeros(shape, bool)
    truth[::4, ::4, ::4] = truth[1::4, ::4, ::4] = truth[2::4, ::4, ::4] = True  # 12,500 rods of three voxels
    pred = truth & (rng.random(shape) > 0.1)
    start = time.process_time()
    found = metrics.detect_lesions(pred, truth, MM)
    metrics.msseg_lesions(pred, truth, (2, 2, 2))
    metrics.atlas_lesion_f1(pred, truth)
    assert found.n_truth == 12_500
    assert time.process_time() - start < 3.0


def test_a_whole_brain_is_scored_in_well_under_a_second() -> None:
    rng = np.random.default_rng(0)
    shape = (130, 155, 125)
    labels = np.digitize(ndimage.zoom(rng.normal(size=(22, 26, 21)), 6, order=1)[:130, :155, :125], [-0.6, 0, 0.6])
    truth = np.zeros(shape, np.uint8)
    truth[15:115, 15:140, 15:110] = labels[15:115, 15:140, 15:110]
    pred = np.roll(truth, 1, axis=0)
    p = np.stack([(pred == k) * 0.7 + 0.05 for k in range(4)]).astype(np.float32)
    start = time.process_time()
    metrics.score_volume(pred, truth, (1.5,) * 3, ("csf", "gm", "wm"), p, truth > 0, detect=True)
    assert (
        time.process_time() - start < 2.0
    )  # .4 s on a quiet core; the limit catches a slow algorithm, not a busy machine
