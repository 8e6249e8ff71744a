"""How a predicted mask is scored against its reference: overlap, lesions found, surfaces, volumes, calibration.

Every function takes whole volumes `(X, Y, Z)` in the scan's own grid and returns plain Python numbers. Masks are
boolean or whole-number arrays (0 = background); `spacing` is the voxel's size in mm along the three axes. An input
that cannot be scored raises a ValueError of one line. NaN means "not defined for this subject": the tables count
these, and never fill them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

#: Slack against rounding: a component of exactly the smallest volume is a lesion, a surface at exactly 2 mm is near.
_VOLUME_SLACK_MM3 = 1e-3
_DISTANCE_SLACK_MM = 1e-6

_RANK = {6: 1, 18: 2, 26: 3}

LESION_METRICS = ("lesion_sensitivity", "lesion_precision", "lesion_f1", "fp_per_scan")

#: Rules beside the primary one of when a lesion counts as found (`by_other_rules`), and how often a scan is scored
#: at other thresholds: names of these ways to score in tables.
MSSEG, ATLAS, HALF = "rule of MSSEG-2016", "rule of ATLAS", "overlap of half"
AT_THRESHOLD = "threshold "


# ---------------------------------------------------------------------------------------------------------- input


def _labels(array: Any, name: str) -> np.ndarray:
    """`array` as a 3-D boolean or integer array; floats pass only if they are whole numbers (as NIfTI reads them)."""
    array = np.asarray(array)
    if array.ndim != 3:
        raise ValueError(f"{name} has {array.ndim} dimensions {array.shape}; give one volume (X, Y, Z)")
    if array.dtype.kind == "f":
        if not np.array_equal(array, np.rint(array)) or not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are no labels (fractions or NaN); threshold it first")
        array = array.astype(np.int32)
    elif array.dtype.kind not in "bui":
        raise ValueError(f"{name} is an array of {array.dtype}; give a boolean or integer mask")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        raise ValueError(f"{name} holds negative labels; background is 0 and labels count from 1")
    return array


def _same_shape(first: np.ndarray, second: np.ndarray, names: str) -> None:
    if first.shape != second.shape:
        raise ValueError(f"{names} differ in shape, {first.shape} and {second.shape}; bring both to the same grid")


def _masks(pred: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    pred, truth = _labels(pred, "pred"), _labels(truth, "truth")
    _same_shape(pred, truth, "pred and truth")
    return pred.astype(bool, copy=False), truth.astype(bool, copy=False)


def _spacing(spacing: Any) -> tuple[float, float, float]:
    values = np.asarray(spacing, dtype=float).ravel()
    if values.shape != (3,) or not np.isfinite(values).all() or (values <= 0).any():
        raise ValueError(f"spacing must be three positive numbers in mm, not {spacing!r}")
    return float(values[0]), float(values[1]), float(values[2])


def _probability(array: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {shape}")
    if array.dtype.kind != "f":
        raise ValueError(f"{name} is an array of {array.dtype}; give floats between 0 and 1")
    # the comparison is false for NaN too
    if array.size and not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise ValueError(f"{name} leaves [0, 1] or holds NaN; give probabilities")
    return array


def _box(mask: np.ndarray, margin: Sequence[int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
    """The bounding box of a boolean volume, `margin` voxels wider, clipped to the volume; empty for an empty mask."""
    plane = np.asarray(mask.any(axis=2))
    lines = (plane.any(axis=1), plane.any(axis=0), mask.reshape(-1, mask.shape[2]).any(axis=0))
    slices = []
    for line, extra in zip(lines, margin, strict=True):
        at = np.flatnonzero(line)
        if not at.size:
            return slice(0, 0), slice(0, 0), slice(0, 0)
        slices.append(slice(max(int(at[0]) - extra, 0), int(at[-1]) + 1 + extra))
    return slices[0], slices[1], slices[2]


# -------------------------------------------------------------------------------------------------------- overlap


def _dice(both: int, n_pred: int, n_truth: int) -> float:
    return 2 * both / (n_pred + n_truth) if n_truth else math.nan


def _iou(both: int, n_pred: int, n_truth: int) -> float:
    return both / (n_pred + n_truth - both) if n_truth else math.nan


def _counts(pred: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    return int(np.count_nonzero(pred & truth)), int(np.count_nonzero(pred)), int(np.count_nonzero(truth))


def dice(pred: Any, truth: Any) -> float:
    """Dice coefficient 2|P & T| / (|P| + |T|) (Dice 1945) of two masks `(X, Y, Z)`.

    An empty reference gives NaN whatever was predicted; a non-empty one with an empty prediction gives 0.
    """
    return _dice(*_counts(*_masks(pred, truth)))


def iou(pred: Any, truth: Any) -> float:
    """Intersection over union (Jaccard) of two masks `(X, Y, Z)`; NaN and 0 as for `dice`."""
    return _iou(*_counts(*_masks(pred, truth)))


def _mean_iou(counts: Iterable[tuple[int, int, int]]) -> float:
    each = [both / (n_pred + n_truth - both) for both, n_pred, n_truth in counts if n_pred + n_truth]
    return float(np.mean(each)) if each else math.nan


def _class_counts(pred: np.ndarray, truth: np.ndarray, classes: Sequence[int]) -> list[tuple[int, int, int]]:
    return [_counts(pred == label, truth == label) for label in classes]


def mean_iou(pred: Any, truth: Any, classes: Iterable[int]) -> float:
    """Mean IoU over the foreground labels `classes` of two label volumes `(X, Y, Z)`.

    A class in neither volume is skipped, one in the prediction only counts 0; NaN when no class is left. ValueError for
    classes that are no whole numbers above 0.
    """
    pred, truth = _labels(pred, "pred"), _labels(truth, "truth")
    _same_shape(pred, truth, "pred and truth")
    wanted = list(dict.fromkeys(classes)) if isinstance(classes, Iterable) else []
    if not wanted or any(int(label) != label or label < 1 for label in wanted):
        raise ValueError(f"classes must be foreground labels such as (1, 2, 3), not {classes!r}")
    return _mean_iou(_class_counts(pred, truth, [int(label) for label in wanted]))


# -------------------------------------------------------------------------------------------------------- lesions


@dataclass(frozen=True)
class LesionDetection:
    """How many lesions were found. Rates are NaN where they are not defined (see `detect_lesions`).

    n_truth: reference lesions; n_pred: predicted lesions that count, true or false; n_ignored: predicted lesions that
    touch only reference specks; n_detected: reference lesions found; n_true_pred: predicted lesions that are true.
    """

    n_truth: int
    n_pred: int
    n_ignored: int
    n_detected: int
    n_true_pred: int
    sensitivity: float
    precision: float
    f1: float


def _harmonic(sensitivity: float, precision: float) -> float:
    both = sensitivity + precision
    return 2 * sensitivity * precision / both if both > 0 else 0.0


def _rates(n_truth: int, n_pred: int, n_detected: int, n_true_pred: int) -> tuple[float, float, float]:
    if not n_truth:
        return math.nan, math.nan, math.nan
    sensitivity = n_detected / n_truth
    if not n_pred:
        return sensitivity, math.nan, 0.0
    precision = n_true_pred / n_pred
    return sensitivity, precision, _harmonic(sensitivity, precision)


@dataclass(frozen=True)
class _Components:
    """Connected components on the common bounding box: label per voxel, voxels per label (label 0 = none, size 0)."""

    labels: np.ndarray
    sizes: np.ndarray


def _components(mask: np.ndarray, connectivity: int) -> _Components:
    if connectivity not in _RANK:
        raise ValueError(f"connectivity must be 6, 18 or 26, not {connectivity!r}")
    labels, n = ndimage.label(mask, ndimage.generate_binary_structure(3, _RANK[connectivity]))
    sizes = np.bincount(labels[mask], minlength=n + 1)
    return _Components(labels, sizes)


def _component_pair(pred: Any, truth: Any, connectivity: int) -> tuple[_Components, _Components]:
    pred, truth = _masks(pred, truth)
    box = _box(pred | truth)
    return _components(pred[box], connectivity), _components(truth[box], connectivity)


def _match(
    pred: _Components, truth: _Components, voxel_mm3: float, min_volume_mm3: float, overlap: float
) -> LesionDetection:
    pred_lesion = pred.sizes * voxel_mm3 >= min_volume_mm3 - _VOLUME_SLACK_MM3
    truth_lesion = truth.sizes * voxel_mm3 >= min_volume_mm3 - _VOLUME_SLACK_MM3
    pred_lesion[0] = truth_lesion[0] = False

    # Only voxels in both masks matter: everything below runs over these, never over lesions x voxels.
    shared = np.flatnonzero((pred.labels.ravel() > 0) & (truth.labels.ravel() > 0))
    p, t = pred.labels.ravel()[shared], truth.labels.ravel()[shared]
    n_p, n_t = len(pred.sizes), len(truth.sizes)
    pred_sizes, truth_sizes = np.maximum(pred.sizes, 1), np.maximum(truth.sizes, 1)
    in_lesions = np.bincount(p[truth_lesion[t]], minlength=n_p) / pred_sizes
    in_reference = np.bincount(p, minlength=n_p) / pred_sizes
    true = pred_lesion & (in_lesions >= overlap)
    ignored = pred_lesion & ~true & (in_reference >= overlap)
    covered = np.bincount(t[true[p]], minlength=n_t) / truth_sizes
    detected = truth_lesion & (covered >= overlap)

    n_truth, n_ignored, n_true = int(truth_lesion.sum()), int(ignored.sum()), int(true.sum())
    n_pred, n_detected = int(pred_lesion.sum()) - n_ignored, int(detected.sum())
    return LesionDetection(n_truth, n_pred, n_ignored, n_detected, n_true, *_rates(n_truth, n_pred, n_detected, n_true))


def _detection_rule(min_volume_mm3: float, overlap: float) -> None:
    if not (math.isfinite(min_volume_mm3) and min_volume_mm3 >= 0):
        raise ValueError(f"min_volume_mm3 must be 0 or more, not {min_volume_mm3!r}")
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap must lie above 0 and at most at 1, not {overlap!r}; for 'one voxel' give 1e-9")


def detect_lesions(
    pred: Any,
    truth: Any,
    spacing: Sequence[float],
    connectivity: int = 26,
    min_volume_mm3: float = 3.0,
    overlap: float = 0.1,
) -> LesionDetection:
    """Which reference lesions were found, and which predicted ones are true (the study's primary rule).

    Components (6-, 18- or 26-connected) of at least `min_volume_mm3` - 0.001 mm3 are lesions, smaller ones specks. A
    predicted lesion is *true* when at least the share `overlap` of its voxels lies in reference lesions; *ignored*
    when it is not true but at least that share lies in the reference, specks counted; else *false*. A reference
    lesion is detected when at least that share of its voxels is covered by true predicted lesions. Predicted specks
    count nowhere. n_pred = true + false. No reference lesion: all rates NaN. No predicted lesion: sensitivity 0,
    precision NaN, F1 0.
    """
    _detection_rule(min_volume_mm3, overlap)
    voxel_mm3 = math.prod(_spacing(spacing))
    return _match(*_component_pair(pred, truth, connectivity), voxel_mm3, min_volume_mm3, overlap)


def detect_by_overlap(
    pred: Any,
    truth: Any,
    spacing: Sequence[float],
    overlaps: Sequence[float],
    connectivity: int = 26,
    min_volume_mm3: float = 3.0,
) -> list[LesionDetection]:
    """`detect_lesions` by each of `overlaps`, in the order given; lesions are labelled once."""
    for overlap in overlaps:
        _detection_rule(min_volume_mm3, overlap)
    voxel_mm3 = math.prod(_spacing(spacing))
    pair = _component_pair(pred, truth, connectivity)
    return [_match(*pair, voxel_mm3, min_volume_mm3, overlap) for overlap in overlaps]


def detect_at(
    probabilities: Any,
    truth: Any,
    spacing: Sequence[float],
    thresholds: Sequence[float],
    connectivity: int = 26,
    min_volume_mm3: float = 3.0,
    overlap: float = 0.1,
) -> list[LesionDetection]:
    """`detect_lesions` of one scan at each of `thresholds`, in the order given; the reference is labelled once.

    probabilities: (X, Y, Z) float, the lesion's channel; a voxel is predicted when its probability is *above* the threshold.
    """
    _detection_rule(min_volume_mm3, overlap)
    truth = _labels(truth, "truth").astype(bool, copy=False)
    probabilities = _probability(probabilities, truth.shape, "probabilities")
    voxel_mm3 = math.prod(_spacing(spacing))
    points = []
    if len(thresholds):
        box = _box(truth | (probabilities > min(thresholds)))
        truth, probabilities = truth[box], probabilities[box]
        reference = _components(truth, connectivity)
        for threshold in thresholds:
            found = _components(probabilities > threshold, connectivity)
            points.append(_match(found, reference, voxel_mm3, min_volume_mm3, overlap))
    return points


def froc(
    probabilities: Any, truth: Any, spacing: Sequence[float], thresholds: Sequence[float], **rule: Any
) -> list[tuple[float, float, float]]:
    """Free-response curve of one scan: `[(threshold, lesion sensitivity, false positives), ...]` in the order given.

    The same input as `detect_at`. Average the points of many scans at equal thresholds.
    """
    found = detect_at(probabilities, truth, spacing, thresholds, **rule)
    return [
        (float(t), score.sensitivity, float(score.n_pred - score.n_true_pred))
        for t, score in zip(thresholds, found, strict=True)
    ]


# ------------------------------------------------------------------ lesion rules of two challenges, second opinions


def _msseg_found(own: np.ndarray, other: np.ndarray, n: int, m: int, sizes: tuple[np.ndarray, np.ndarray]) -> int:
    """How many of `n` lesions the other mask's `m` find; own, other: labels (0 = none) of every foreground voxel."""
    own_size, other_size = sizes
    inside = (own > 0) & (other > 0)
    pair, count = np.unique(own[inside].astype(np.int64) * (m + 1) + other[inside], return_counts=True)
    row, column = pair // (m + 1), pair % (m + 1)
    total = np.bincount(row, weights=count, minlength=n + 1)
    # outside *all* lesions, not only outside this one
    within = np.bincount(other[inside], minlength=m + 1)
    outside = (other_size - within) / np.maximum(other_size, 1)
    # the largest contributor first, until 65 % of the shared voxels are explained; ties: the neater one first
    order = np.lexsort((outside[column], -count, row))
    row, column, count = row[order], column[order], count[order]
    running = np.cumsum(count) - count
    first = np.searchsorted(row, row)
    before = (running - running[first]) / total[row]
    too_far = (before < 0.65) & (outside[column] > 0.70)
    spoiled = np.bincount(row[too_far], minlength=n + 1) > 0
    found = (total / np.maximum(own_size, 1) > 0.10) & ~spoiled
    return int(found[1:].sum())


def msseg_lesions(
    pred: Any, truth: Any, spacing: Sequence[float], connectivity: int = 6, min_volume_mm3: float = 3.0
) -> LesionDetection:
    """Lesion detection by the rule of MSSEG-2016 (Commowick et al. 2018, doi:10.1038/s41598-018-31911-7).

    Components of *more* than `min_volume_mm3` are lesions. A lesion is found when more than 10 % of it is covered
    and, of the predicted lesions that cover it, taken from the largest share until 65 % of the covered voxels are
    explained, none has more than 70 % of its voxels outside the reference lesions. Precision is the same with the
    masks exchanged. Rates where a mask is empty as in `detect_lesions`; n_ignored is always 0.
    """
    _detection_rule(min_volume_mm3, 1)
    voxel_mm3 = math.prod(_spacing(spacing))
    parts = []
    for mask in _component_pair(pred, truth, connectivity):
        keep = mask.sizes * voxel_mm3 > min_volume_mm3 + _VOLUME_SLACK_MM3
        renumber = np.where(keep, np.cumsum(keep), 0)
        parts.append((renumber[mask.labels].ravel(), np.concatenate([[0], mask.sizes[keep]])))
    (p, p_size), (t, t_size) = parts
    some = np.flatnonzero((p > 0) | (t > 0))
    p, t, n_pred, n_truth = p[some], t[some], len(p_size) - 1, len(t_size) - 1
    n_detected = _msseg_found(t, p, n_truth, n_pred, (t_size, p_size))
    n_true = _msseg_found(p, t, n_pred, n_truth, (p_size, t_size))
    return LesionDetection(n_truth, n_pred, 0, n_detected, n_true, *_rates(n_truth, n_pred, n_detected, n_true))


def atlas_lesion_f1(pred: Any, truth: Any, connectivity: int = 6) -> float:
    """Lesion F1 by the rule of the ATLAS v2.0 challenge: one shared voxel finds a lesion, no size filter.

    tp and fn are reference components with and without a predicted voxel, fp predicted components without a reference
    voxel; F1 = tp / (tp + (fp + fn) / 2), and 1 when both masks are empty.
    """
    return _touched_f1(*_touched(*_component_pair(pred, truth, connectivity)))


def _touched_f1(tp: int, fp: int, fn: int) -> float:
    return tp / (tp + (fp + fn) / 2) if tp + fp + fn else 1.0


def _touched(pred: _Components, truth: _Components) -> tuple[int, int, int]:
    """Reference components with a predicted voxel; predicted ones without a reference voxel; reference ones without any."""
    shared = (pred.labels > 0) & (truth.labels > 0)
    tp = np.unique(truth.labels[shared]).size
    return tp, len(pred.sizes) - 1 - np.unique(pred.labels[shared]).size, len(truth.sizes) - 1 - tp


def by_other_rules(pred: Any, truth: Any, spacing: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Lesion sensitivity and F1 of one scan by rules that others use: name of the rule -> the two rates.

    HALF: `detect_lesions` with half of a lesion to be covered. MSSEG: `msseg_lesions`. ATLAS: `atlas_lesion_f1`, its sensitivity
    being the share of reference components with a predicted voxel (NaN without any).
    """
    half = detect_lesions(pred, truth, spacing, overlap=0.5)
    msseg = msseg_lesions(pred, truth, spacing)
    tp, fp, fn = _touched(*_component_pair(pred, truth, 6))
    touched = tp / (tp + fn) if tp + fn else math.nan
    return {
        HALF: (half.sensitivity, half.f1),
        MSSEG: (msseg.sensitivity, msseg.f1),
        ATLAS: (touched, _touched_f1(tp, fp, fn)),
    }


# -------------------------------------------------------------------------------------------------------- volumes


def volume_error_ml(pred: Any, truth: Any, spacing: Sequence[float]) -> float:
    """Predicted minus reference volume in mL (negative: too little was predicted); the absolute error is its `abs`."""
    _, n_pred, n_truth = _counts(*_masks(pred, truth))
    return (n_pred - n_truth) * math.prod(_spacing(spacing)) / 1000


def fp_volume_ml(pred: Any, truth: Any, spacing: Sequence[float]) -> float:
    """Predicted volume outside the reference in mL; defined for an empty reference too, where `dice` is not."""
    both, n_pred, _ = _counts(*_masks(pred, truth))
    return (n_pred - both) * math.prod(_spacing(spacing)) / 1000


# ------------------------------------------------------------------------------------------------------- surfaces


def _surface(mask: np.ndarray) -> np.ndarray:
    """Foreground voxels with a background voxel across one of six faces; beyond the volume's rim all is background."""
    inside = mask.copy()
    for axis in range(3):
        here, ahead = [slice(None)] * 3, [slice(None)] * 3
        here[axis], ahead[axis] = slice(1, None), slice(None, -1)
        inside[tuple(here)] &= mask[tuple(ahead)]
        inside[tuple(ahead)] &= mask[tuple(here)]
        here[axis], ahead[axis] = slice(None, 1), slice(-1, None)
        inside[tuple(here)] = False
        inside[tuple(ahead)] = False
    return mask & ~inside


def _near_offsets(spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """About a hundred voxel steps by growing distance in mm, whole distance classes only: (n, 3) steps and distances.

    A face neighbour is never nearer than the smallest spacing, so a cube of that reach holds every step below `reach`.
    """
    reach = 2.3 * max(spacing)
    steps = [np.arange(-n, n + 1) for n in (min(int(reach / s), 6) for s in spacing)]
    reach = min(reach, *((len(step) // 2 + 1) * s for step, s in zip(steps, spacing, strict=True)))
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    distance = np.sqrt(((grid * spacing) ** 2).sum(axis=1))
    keep = distance < reach - _DISTANCE_SLACK_MM
    order = np.argsort(distance[keep], kind="stable")
    return grid[keep][order], distance[keep][order]


def _distances(
    start: np.ndarray, surface: np.ndarray, points: np.ndarray, spacing: tuple[float, float, float]
) -> np.ndarray:
    """Distance in mm from each voxel of `start` (n, 3) to the nearest of `points` (m, 3), the voxels of `surface`.

    Near ones (the most, in a fair prediction) are looked up step by step, the rest in a k-d tree: exact in both ways.
    """
    steps, step_mm = _near_offsets(spacing)
    pad = np.abs(steps).max(axis=0)
    room = np.pad(surface, [(int(p), int(p)) for p in pad])
    stride = np.array([room.shape[1] * room.shape[2], room.shape[2], 1])
    flat = room.ravel()
    left = (start + pad) @ stride
    who = np.arange(len(start))
    result = np.empty(len(start))
    for step, mm in zip(steps @ stride, step_mm, strict=True):
        hit = flat[left + step]
        if hit.any():
            result[who[hit]] = mm
            left, who = left[~hit], who[~hit]
            if not len(who):
                return result
    result[who] = cKDTree(points * spacing, balanced_tree=False).query(start[who] * np.asarray(spacing))[0]
    return result


def surface_distances(pred: Any, truth: Any, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm between the surface voxels of two masks: prediction to reference, and reference to prediction.

    A surface voxel is a foreground voxel with a background voxel (or the volume's edge) across one of its six faces;
    distances run between voxel centres. Two empty arrays when either mask is empty.
    """
    return _surface_distances(*_masks(pred, truth), _spacing(spacing))


def _surface_distances(
    pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    # One voxel wider where there is room, so that only the volume's own edge counts as an edge.
    box = _box(pred | truth, (1, 1, 1))
    surfaces = [_surface(pred[box]), _surface(truth[box])]
    # flatnonzero is several times faster than argwhere on booleans
    points = [np.stack(np.unravel_index(np.flatnonzero(surface), surface.shape), axis=1) for surface in surfaces]
    if not len(points[0]) or not len(points[1]):
        return np.empty(0), np.empty(0)
    return (
        _distances(points[0], surfaces[1], points[1], spacing),
        _distances(points[1], surfaces[0], points[0], spacing),
    )


def _surface_dice(there: np.ndarray, back: np.ndarray, tolerance_mm: float) -> float:
    """Of distances that both exist."""
    near = np.count_nonzero(there <= tolerance_mm + _DISTANCE_SLACK_MM)
    near += np.count_nonzero(back <= tolerance_mm + _DISTANCE_SLACK_MM)
    return float(near / (len(there) + len(back)))


def _hd95(there: np.ndarray, back: np.ndarray) -> float:
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def surface_dice(pred: Any, truth: Any, spacing: Sequence[float], tolerance_mm: float = 2.0) -> float:
    """Share of both masks' surface voxels that lie within `tolerance_mm` of the other's surface (Nikolov et al. 2021).

    Voxel surfaces as in `surface_distances`, each voxel with the same weight (Nikolov weighs surface elements by
    area). An empty reference gives NaN, an empty prediction of a non-empty one 0.
    """
    if not tolerance_mm >= 0:
        raise ValueError(f"tolerance_mm must be 0 or more, not {tolerance_mm!r}")
    pred, truth = _masks(pred, truth)
    there, back = _surface_distances(pred, truth, _spacing(spacing))
    if not len(there):
        return 0.0 if truth.any() else math.nan
    return _surface_dice(there, back, tolerance_mm)


def hd95(pred: Any, truth: Any, spacing: Sequence[float]) -> float:
    """The 95 % Hausdorff distance in mm: the larger of the two directed 95th percentiles of `surface_distances`.

    Percentiles are interpolated linearly. NaN when either mask is empty: an empty prediction is counted, not scored.
    """
    there, back = surface_distances(pred, truth, spacing)
    return _hd95(there, back) if len(there) else math.nan


# ---------------------------------------------------------------------------------------------------- calibration


def _shifted_or(into: np.ndarray, mask: np.ndarray, axis: int, by: int) -> None:
    """into |= mask moved by +-`by` voxels along `axis`."""
    if by >= mask.shape[axis]:
        return
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, mask.shape[axis] - by), slice(by, None)
    into[tuple(high)] |= mask[tuple(low)]
    into[tuple(low)] |= mask[tuple(high)]


def _within(mask: np.ndarray, spacing: tuple[float, float, float], mm: float) -> np.ndarray:
    """Voxels whose centre lies at most `mm` from a voxel centre of `mask`: an exact ball, made of line segments."""

    def reach(rest: float, size: float) -> int:
        return int(math.sqrt(max(rest, 0.0)) / size + _DISTANCE_SLACK_MM)

    result = np.zeros_like(mask)
    squared = mm * mm
    lines = [mask]  # lines[k]: mask widened by k voxels along z
    for k in range(1, reach(squared, spacing[2]) + 1):
        lines.append(lines[-1].copy())
        _shifted_or(lines[-1], mask, 2, k)
    for i in range(reach(squared, spacing[0]) + 1):
        rest = squared - (i * spacing[0]) ** 2
        disc = lines[reach(rest, spacing[2])].copy()
        for j in range(1, reach(rest, spacing[1]) + 1):
            _shifted_or(disc, lines[reach(rest - (j * spacing[1]) ** 2, spacing[2])], 1, j)
        _shifted_or(result, disc, 0, i)
    return result


def _calibration_sample(
    probability: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], brain: np.ndarray | None, mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels (float) of the brain voxels within `mm` of the reference or with p > .01."""
    counted = probability > 0.01
    box = _box(truth, [int(mm / size) + 1 for size in spacing])
    counted[box] |= _within(truth[box], spacing, mm)
    if brain is not None:
        counted &= brain
    return np.clip(probability[counted].astype(float), 0, 1), truth[counted].astype(float)


def _brier(p: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((p - y) ** 2)) if len(p) else math.nan


def _ece(p: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    if not len(p):
        return math.nan
    at = np.minimum((p * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(at, weights=p - y, minlength=bins)).sum() / len(p))


def _calibrated(
    score: Callable[[np.ndarray, np.ndarray], float], probability: Any, truth: Any, spacing: Any, brain: Any
) -> float:
    truth = _labels(truth, "truth").astype(bool, copy=False)
    probability = _probability(probability, truth.shape, "probability")
    return score(*_calibration_sample(probability, truth, _spacing(spacing), _brain(brain, truth), 5.0))


def _brain(brain: Any, like: np.ndarray) -> np.ndarray | None:
    if brain is None:
        return None
    brain = _labels(brain, "brain")
    _same_shape(brain, like, "brain and truth")
    return brain.astype(bool, copy=False)


def brier(probability: Any, truth: Any, spacing: Sequence[float], brain: Any = None) -> float:
    """Brier score: mean (p - y)^2 over the brain voxels within 5 mm of the reference or with p > .01 (0 is best).

    probability: (X, Y, Z) float of one foreground class; truth: that class's mask; brain: mask, everything if None.
    Far, surely empty voxels are left out, or every network would look perfect. NaN when no voxel is left.
    """
    return _calibrated(_brier, probability, truth, spacing, brain)


def ece(probability: Any, truth: Any, spacing: Sequence[float], brain: Any = None) -> float:
    """Expected calibration error (Naeini 2015) of the foreground probability over the voxels of `brier`, 15 equal bins:
    sum over bins of (share of voxels) x |mean p - share of foreground|. NaN when no voxel is left.
    """
    return _calibrated(_ece, probability, truth, spacing, brain)


# ------------------------------------------------------------------------------------------------- a whole scan


def _over_classes(values: list[float], in_reference: list[bool], metric: str) -> float:
    """The mean over foreground classes. What a missing reference leaves undefined is skipped; a class that is in the
    reference and not in the prediction has no HD95, and then the mean has none either (skipping it would reward it).
    """
    if metric in ("volume_error_ml", "volume_error_abs_ml", "fp_volume_ml"):
        return float(np.mean(values))
    if metric in ("brier", "ece"):
        values = [value for value in values if not math.isnan(value)]
    else:
        values = [value for value, there in zip(values, in_reference, strict=True) if there]
    return float(np.mean(values)) if values else math.nan


def score_volume(
    pred: Any,
    truth: Any,
    spacing: Sequence[float],
    classes: tuple[str, ...],
    probabilities: Any = None,
    brain: Any = None,
    detect: bool = False,
) -> list[dict[str, Any]]:
    """All metrics of one scan as rows `{"metric", "class", "value"}`.

    pred, truth: (X, Y, Z) label volumes, label k + 1 = classes[k]; probabilities: (len(classes) + 1, X, Y, Z) float
    with the background first, or None (then no Brier and ECE rows); brain: mask (X, Y, Z) or None; detect: lesion
    rows too. With one class every row has class "". With several, each class has its rows and class "" is their mean.
    `miou` and the lesion rows (all foreground together) stand once. ValueError, one line, for labels without a class.
    """
    pred, truth = _labels(pred, "pred"), _labels(truth, "truth")
    _same_shape(pred, truth, "pred and truth")
    size_mm = _spacing(spacing)
    brain = _brain(brain, truth)
    n = len(classes)
    for name, volume in (("pred", pred), ("truth", truth)):
        if volume.size and int(volume.max()) > n:
            known = ", ".join(classes)
            raise ValueError(f"{name} holds label {int(volume.max())}, but there are only {n} classes: {known}")
    if probabilities is not None:
        probabilities = _probability(probabilities, (n + 1, *truth.shape), "probabilities")

    voxel_ml = math.prod(size_mm) / 1000
    whole_pred, whole_truth = pred, truth
    box = _box((pred > 0) | (truth > 0), (1, 1, 1))
    pred, truth = pred[box], truth[box]
    rows: list[dict[str, Any]] = []
    table: dict[str, list[float]] = {}
    counts = []
    for label in range(1, n + 1):
        p, t = pred == label, truth == label
        both, n_pred, n_truth = _counts(p, t)
        counts.append((both, n_pred, n_truth))
        there, back = _surface_distances(p, t, size_mm)
        values = {
            "dice": _dice(both, n_pred, n_truth),
            "iou": _iou(both, n_pred, n_truth),
            "volume_error_ml": (n_pred - n_truth) * voxel_ml,
            "volume_error_abs_ml": abs(n_pred - n_truth) * voxel_ml,
            "fp_volume_ml": (n_pred - both) * voxel_ml,
            "surface_dice_2mm": _surface_dice(there, back, 2.0) if len(there) else (0.0 if n_truth else math.nan),
            "hd95_mm": _hd95(there, back) if len(there) else math.nan,
        }
        if probabilities is not None:
            sample = _calibration_sample(probabilities[label], whole_truth == label, size_mm, brain, 5.0)
            values |= {"brier": _brier(*sample), "ece": _ece(*sample)}
        for metric, value in values.items():
            table.setdefault(metric, []).append(value)

    in_reference = [n_truth > 0 for _, _, n_truth in counts]
    for metric, each in table.items():
        if n > 1:
            rows += [{"metric": metric, "class": name, "value": v} for name, v in zip(classes, each, strict=True)]
        mean = each[0] if n == 1 else _over_classes(each, in_reference, metric)
        rows.append({"metric": metric, "class": "", "value": mean})
    rows.append({"metric": "miou", "class": "", "value": _mean_iou(counts)})
    if detect:
        lesions = detect_lesions(whole_pred > 0, whole_truth > 0, size_mm)
        found = (lesions.sensitivity, lesions.precision, lesions.f1, float(lesions.n_pred - lesions.n_true_pred))
        rows += [{"metric": m, "class": "", "value": v} for m, v in zip(LESION_METRICS, found, strict=True)]
    return rows
