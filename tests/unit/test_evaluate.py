"""From slice predictions to scores: every voxel comes back to its place, and a score is that of the whole volume."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from braintransfer import evaluate, metrics, volumes
from braintransfer.store import Store


def axes(shape: tuple[int, int, int], spacing: float = 1.0) -> volumes.Grid:
    """A working grid in RAS that is also the scan's own grid."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    fields = {"shape": list(shape), "affine": affine.tolist(), "outside": 0}
    return volumes.grid_from(json.loads(json.dumps(fields)))


def test_one_voxel_comes_back_to_its_own_place() -> None:
    """Right-front-upper of the middle: mirrored, flipped or shifted it would lie somewhere else."""
    grid = axes((8, 10, 6))
    labels = np.zeros(grid.shape, np.uint8)
    labels[6, 7, 4] = 1
    shown = np.array([2, 3, 4])
    picked = volumes.to_slices(labels)[shown]
    soft = np.stack([picked == 0, picked == 1], axis=1).astype(np.float32)
    back = evaluate.volume_in_own_grid(grid, shown, soft, grid.shape, grid.matrix)
    assert np.argwhere(evaluate.labels_from(back)).tolist() == [[6, 7, 4]]
    assert np.allclose(back.sum(axis=0), 1)


def test_a_lesion_is_what_is_more_likely_than_not_and_a_class_the_likeliest() -> None:
    p = np.array([0.2, 0.31, 0.49, 0.51, 0.69, 0.8], np.float32).reshape(6, 1, 1)
    assert evaluate.labels_from(np.stack([1 - p, p])).ravel().tolist() == [0, 0, 0, 1, 1, 1]
    several = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1) * 0.4 + 0.15
    assert evaluate.labels_from(several).ravel().tolist() == [0, 1, 2, 3]


@pytest.fixture
def blobs(tmp_path: Path) -> tuple[np.ndarray, np.ndarray, Store]:
    """A prediction that misses one slice and adds another, its reference of two blobs, and the store: a scan "s" of uneven spacing."""
    truth = np.zeros((12, 14, 10), np.uint8)
    truth[2:6, 3:8, 2:5] = 1
    truth[8:10, 9:12, 6:8] = 1
    prediction = np.zeros_like(truth)
    prediction[2:6, 4:8, 2:4] = 1
    prediction[3:5, 4:6, 8] = 1
    affine = np.diag([0.8, 1.1, 3.0, 1.0])
    (tmp_path / "references").mkdir()
    for kind in ("mask", "brain"):
        nib.save(nib.Nifti1Image(truth, affine), tmp_path / "references" / f"s_{kind}.nii.gz")
    own = {"shape": list(truth.shape), "affine": affine.tolist(), "spacing": [0.8, 1.1, 3.0]}
    scans = {"s": {"grid": asdict(axes((12, 14, 10))), "own": own}}
    empty = np.zeros((0, 1, 1), np.uint8)
    return prediction, truth, Store(tmp_path, None, scans, {}, {}, empty, empty)  # type: ignore[arg-type]


@pytest.fixture
def scored(blobs: tuple[np.ndarray, np.ndarray, Store]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Prediction, reference and every score of `blobs`."""
    prediction, truth, store = blobs
    rows = evaluate.score(store, "s", "stroke", prediction)
    return prediction, truth, {row["metric"]: row["value"] for row in rows}


def test_a_score_is_that_of_the_whole_volume(scored: tuple[np.ndarray, np.ndarray, dict[str, Any]]) -> None:
    prediction, truth, found = scored
    both = int((prediction & truth).sum())
    assert found["dice"] == pytest.approx(2 * both / (int(prediction.sum()) + int(truth.sum())))
    per_slice = [metrics.dice(prediction[..., k : k + 1], truth[..., k : k + 1]) for k in range(10)]
    assert abs(found["dice"] - float(np.nanmean(per_slice))) > 0.05, "an example in which the difference shows"


def test_volumes_are_counted_in_the_scans_own_voxels(scored: tuple[np.ndarray, np.ndarray, dict[str, Any]]) -> None:
    prediction, truth, found = scored
    voxel_ml = 0.8 * 1.1 * 3.0 / 1000
    assert found["volume_error_ml"] == pytest.approx((int(prediction.sum()) - int(truth.sum())) * voxel_ml)
    assert found["fp_volume_ml"] == pytest.approx(4 * voxel_ml)


def test_lesions_are_scored_at_other_thresholds_and_by_other_rules_too(
    blobs: tuple[np.ndarray, np.ndarray, Store],
) -> None:
    prediction, truth, store = blobs
    bold = truth.astype(bool) | prediction.astype(bool)
    lesion = np.where(prediction > 0, np.float32(0.8), np.where(bold, np.float32(0.4), np.float32(0)))
    curve, rows = evaluate.score_otherwise(store, "s", np.stack([1 - lesion, lesion]))
    found = {(row["scoring"], row["metric"]): row["value"] for row in rows}
    assert [point["threshold"] for point in curve] == list(evaluate.FROC_THRESHOLDS)
    assert [point["sensitivity"] for point in curve] == [1.0, 1.0, 0.5, 0.5, 0.0]
    assert [point["fp_per_scan"] for point in curve] == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert found["threshold 0.3", "dice"] == metrics.dice(bold, truth) and found["threshold 0.9", "iou"] == 0.0
    assert found["threshold 0.3", "lesion_f1"] == pytest.approx(0.8)
    planned = metrics.by_other_rules(prediction, truth, (0.8, 1.1, 3.0))
    assert {name: (found[name, "lesion_sensitivity"], found[name, "lesion_f1"]) for name in planned} == planned
    assert not any(scoring == "threshold 0.5" for scoring, _ in found), "that is the study's own"
