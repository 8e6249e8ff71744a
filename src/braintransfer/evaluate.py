"""From a network's probabilities to scores: whole volumes, in each scan's own grid, against the untouched reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from braintransfer import metrics, study, volumes
from braintransfer.errors import BadInput
from braintransfer.store import Store

#: A voxel with a larger probability is predicted; and where the free-response curve is sampled.
THRESHOLD = 0.5
FROC_THRESHOLDS = (0.1, 0.3, THRESHOLD, 0.7, 0.9)


def grid_of(store: Store, scan: str) -> volumes.Grid:
    """The working grid on which a scan's slices lie."""
    return volumes.grid_from(store.scans[scan]["grid"])


def own_grid_probabilities(store: Store, scan: str, slices: np.ndarray, per_slice: np.ndarray) -> np.ndarray:
    """Probabilities of the slices that were predicted, as a volume (C + 1, X, Y, Z) in the scan's own grid.

    slices: (n,) their places in the working grid; everything else is background.
    """
    own = store.scans[scan]["own"]
    return volume_in_own_grid(grid_of(store, scan), slices, per_slice, tuple(own["shape"]), np.array(own["affine"]))


def volume_in_own_grid(
    grid: volumes.Grid, slices: np.ndarray, per_slice: np.ndarray, shape: tuple[int, ...], affine: np.ndarray
) -> np.ndarray:
    """Slice predictions (n, C + 1, H, W) as a volume (C + 1, X, Y, Z) of the scan with this shape and affine."""
    n_classes, height, width = per_slice.shape[1:]
    stack = np.zeros((n_classes, grid.shape[2], height, width), dtype=np.float32)
    stack[0] = 1.0
    stack[:, slices] = per_slice.transpose(1, 0, 2, 3)
    working = np.stack([volumes.from_slices(channel) for channel in stack])
    return volumes.from_grid(working, grid, shape, affine)


def labels_from(probabilities: np.ndarray) -> np.ndarray:
    """Labels uint8 from probabilities (C + 1, ...): one foreground class at threshold .5, several by the largest."""
    if len(probabilities) == 2:
        return (probabilities[1] > THRESHOLD).astype(np.uint8)
    return probabilities.argmax(axis=0).astype(np.uint8)


def reference(store: Store, scan: str) -> tuple[np.ndarray, np.ndarray]:
    """Reference labels (uint8) and brain (bool) of a scan, (X, Y, Z) in its own grid."""
    arrays = []
    for kind in ("mask", "brain"):
        path = store.path / "references" / f"{scan}_{kind}.nii.gz"
        try:
            arrays.append(volumes.read_mask(path))
        except BadInput as error:
            raise BadInput(f"{error}: delete {store.path} and run `prepare` again") from None
    return arrays[0], arrays[1] > 0


def score(
    store: Store, scan: str, target: str, prediction: np.ndarray, probabilities: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Every metric of one scan: prediction uint8 (X, Y, Z) and, if there are any, probabilities, in its own grid."""
    truth, brain = reference(store, scan)
    return metrics.score_volume(
        prediction, truth, tuple(store.scans[scan]["own"]["spacing"]), study.CLASSES[target],
        probabilities=probabilities, brain=brain, detect=target in study.DETECTED,
    )  # fmt: skip


def score_otherwise(
    store: Store, scan: str, probabilities: np.ndarray
) -> tuple[list[dict[str, float]], list[dict[str, Any]]]:
    """What thresholds and rules make of one scan with lesions, in its own grid: the free-response curve, and scores.

    The curve: sensitivity and fp_per_scan at each of FROC_THRESHOLDS. The scores: one row a scoring and metric, at each threshold
    but the study's own (Dice, IoU, lesion sensitivity, lesion F1), and by each of `metrics.by_other_rules` (the latter two).
    """
    truth, lesion = reference(store, scan)[0] > 0, 1 - probabilities[0]
    spacing = tuple(store.scans[scan]["own"]["spacing"])
    found = metrics.detect_at(lesion, truth, spacing, FROC_THRESHOLDS)
    curve, scores = [], dict(metrics.by_other_rules(lesion > THRESHOLD, truth, spacing))
    rows: list[dict[str, Any]] = []
    for threshold, of in zip(FROC_THRESHOLDS, found, strict=True):
        curve.append(
            {"threshold": threshold, "sensitivity": of.sensitivity, "fp_per_scan": float(of.n_pred - of.n_true_pred)}
        )
        if threshold != THRESHOLD:
            name = f"{metrics.AT_THRESHOLD}{threshold:g}"
            scores[name] = (of.sensitivity, of.f1)
            rows += [
                {"scoring": name, "metric": metric, "value": overlap(lesion > threshold, truth)}
                for metric, overlap in (("dice", metrics.dice), ("iou", metrics.iou))
            ]
    for name, rates in scores.items():
        for metric, value in zip(("lesion_sensitivity", "lesion_f1"), rates, strict=True):
            rows.append({"scoring": name, "metric": metric, "value": value})
    return curve, rows


def example_row(store: Store, rows: np.ndarray) -> int:
    """The row to show of a scan: the slice with the largest reference area, the middle one if the reference is empty."""
    area = store.slices["foreground"].to_numpy()[rows]
    return int(rows[area.argmax()] if area.max() > 0 else rows[len(rows) // 2])
