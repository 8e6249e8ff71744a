"""From a trained network to scores: whole volumes, brought back to each scan's own grid, against the untouched reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from braintransfer import metrics, study, volumes
from braintransfer.errors import BadInput
from braintransfer.machine import Machine
from braintransfer.store import Store
from braintransfer.training import outputs

#: Where the free-response curve is sampled; the study itself decides at .5.
FROC_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def slice_probabilities(network: nn.Module, images: np.ndarray, machine: Machine) -> np.ndarray:
    """Class probabilities (n, C + 1, H, W) float32 of uint8 slices (n, H, W); the network in evaluation mode."""
    return torch.softmax(outputs(network, images, machine), dim=1).numpy()


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
        return (probabilities[1] > 0.5).astype(np.uint8)
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


def detection_curve(store: Store, scan: str, probabilities: np.ndarray) -> list[dict[str, float]]:
    """Free-response curve of one scan: sensitivity and false positives at each of FROC_THRESHOLDS, in its own grid."""
    truth, _ = reference(store, scan)
    spacing = tuple(store.scans[scan]["own"]["spacing"])
    points = metrics.froc(1 - probabilities[0], truth > 0, spacing, FROC_THRESHOLDS)
    return [{"threshold": t, "sensitivity": s, "fp_per_scan": f} for t, s, f in points]


def example_row(store: Store, rows: np.ndarray) -> int:
    """The row to show of a scan: the slice with the largest reference area, the middle one if the reference is empty."""
    area = store.slices["foreground"].to_numpy()[rows]
    return int(rows[area.argmax()] if area.max() > 0 else rows[len(rows) // 2])
