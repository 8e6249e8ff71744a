"""Baselines and scoring on a little store whose answer is known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braintransfer import evaluate, study, volumes
from braintransfer.baselines import BASELINES, fit_thresholds, score_baselines
from braintransfer.provenance import write_manifest
from braintransfer.store import Store, StoreWriter, open_store, target_folds
from braintransfer.volumes import Scan


def lesion_store(folder: Path) -> Store:
    """Six bright balls with a dark cube in each, always at the same place, on scans of another orientation and spacing."""
    writer = StoreWriter(folder, (32, 32))
    (folder / "references").mkdir(parents=True)
    affine = np.array([[-2.0, 0, 0, 30], [0, 0, 2.0, -30], [0, 2.0, 0, -30], [0, 0, 0, 1]])
    place = np.indices((30, 30, 30)) - 15
    brain = (place**2).sum(axis=0) < 12**2
    mask = np.zeros(brain.shape, np.uint8)
    mask[16:21, 10:15, 12:18] = 1
    for person in range(6):
        rng = np.random.default_rng(person)
        data = np.where(brain, 100 + rng.normal(0, 3, brain.shape), 0).astype(np.float32)
        data[mask > 0] -= 60
        scan = Scan(data, affine, np.array([2.0, 2, 2]), Path("x"))
        grid = volumes.working_grid(scan, brain, 2.0, (32, 32))
        inside = volumes.labels_to_grid(brain.astype(np.uint8), affine, grid, 1) > 0
        image = volumes.to_uint8(volumes.to_grid(data, affine, grid), inside)
        own = {"shape": list(brain.shape), "affine": affine.tolist(), "spacing": [2.0, 2.0, 2.0]}
        writer.add(
            volumes.to_slices(image), volumes.to_slices(volumes.labels_to_grid(mask, affine, grid, 1)),
            subject=f"p{person}", scan=f"p{person}", geometry={"grid": asdict(grid), "own": own},
        )  # fmt: skip
        for kind, array in (("mask", mask), ("brain", brain.astype(np.uint8))):
            nib.save(nib.Nifti1Image(array, affine), folder / "references" / f"p{person}_{kind}.nii.gz")
    writer.finish(target_folds([f"p{i}" for i in range(6)], folds=2, n_validation=1, rng=study.stream(0, "split")))
    write_manifest(
        folder, stage="prepare", key="k", parameters={}, code="c", inputs={}, facts={"title": "cubes", "spacing": 2.0}
    )
    return open_store(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return lesion_store(tmp_path_factory.mktemp("store"))


def value(rows: list[dict[str, object]], name: str, metric: str) -> list[float]:
    return [float(str(r["value"])) for r in rows if r["baseline"] == name and r["metric"] == metric]


def test_baselines_do_what_their_names_say(store: Store) -> None:
    rows = score_baselines(store, "stroke", 0, 2)
    assert {r["baseline"] for r in rows} == set(BASELINES)
    assert value(rows, "empty", "dice") == [0, 0, 0]
    assert min(value(rows, "ceiling", "dice")) == 1.0, (
        "same spacing: nothing is lost on the way to the working grid and back"
    )
    assert min(value(rows, "prior_map", "dice")) > 0.9, "the cube is always at the same place"
    assert min(value(rows, "threshold", "dice")) > 0.9, "the cube is much darker than the rest"


def test_baselines_never_see_test_people_while_they_are_fitted(store: Store) -> None:
    from braintransfer.store import TestSubjectsLocked

    with pytest.raises(TestSubjectsLocked):
        fit_thresholds(store, store.subjects("test", 0), 0, 1)


def test_a_prediction_equal_to_the_reference_scores_one_and_a_mirrored_one_does_not(store: Store) -> None:
    truth, brain = evaluate.reference(store, "p0")
    soft = np.stack([truth == 0, truth == 1]).astype(np.float32)
    scores = {r["metric"]: r["value"] for r in evaluate.score(store, "p0", "stroke", truth, soft)}
    assert scores["dice"] == scores["lesion_sensitivity"] == scores["lesion_f1"] == scores["miou"] == 1.0
    assert scores["brier"] == 0.0
    mirrored = {r["metric"]: r["value"] for r in evaluate.score(store, "p0", "stroke", truth[::-1], soft)}
    assert mirrored["dice"] < 0.5


def test_slices_predicted_on_the_working_grid_land_where_they_belong(store: Store) -> None:
    with store.final_scoring():
        rows = store.rows(["p0"])
        _, masks = store.load(rows)
    slices = store.slices["slice"].to_numpy()[rows]
    shown = masks.any(axis=(1, 2))
    soft = np.stack([masks[shown] == 0, masks[shown] == 1], axis=1).astype(np.float32)
    labels = evaluate.labels_from(evaluate.own_grid_probabilities(store, "p0", slices[shown], soft))
    truth, _ = evaluate.reference(store, "p0")
    assert (labels == truth).all(), "slices that were not predicted are background, the others lie in their place"


def test_the_example_slice_is_the_one_with_the_largest_reference(store: Store) -> None:
    rows = store.rows(["p0"])
    row = evaluate.example_row(store, rows)
    assert store.slices["foreground"].iloc[row] == store.slices["foreground"].iloc[rows].max()
