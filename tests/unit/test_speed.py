"""The benchmark of the loop times what it says it times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from braintransfer.augment import Strength
from braintransfer.plan import parse_cells
from braintransfer.proofs import speed
from braintransfer.proofs.loaders import LOADERS, Slices
from braintransfer.settings import Profile
from braintransfer.store import target_folds


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed")
    speed.demo_store(folder)
    return folder


def slices(workers: int = 0) -> Slices:
    masks = np.zeros((12, 80, 72), np.uint8)
    masks[:9, 20:50, 10:40] = 1
    masks[:9, 30:40, 20:30] = 3
    images = np.where(masks > 0, 200, 60).astype(np.uint8)
    return Slices(images, masks, 3, 4, 64, 0, workers, Strength().times(0.3))


@pytest.mark.parametrize("name", LOADERS)
def test_each_loop_gives_as_many_batches_of_the_same_shape_with_labels_that_fit_the_picture(name: str) -> None:
    if not LOADERS[name].version:
        pytest.skip(f"{name} wants {' and '.join(LOADERS[name].packages)}; CONTRIBUTING.md says how")
    batches = list(LOADERS[name].batches(slices()))
    assert len(batches) == 3
    for images, masks in batches:
        assert images.shape == (4, 3, 64, 64) and images.dtype == torch.float32
        assert masks.shape == (4, 64, 64) and masks.dtype == torch.int64
        assert set(masks.unique().tolist()) <= {0, 1, 3}
    seen = torch.cat([i[:, 0].flatten() for i, _ in batches])
    labels = torch.cat([m.flatten() for _, m in batches]) > 0
    assert labels.any() and not labels.all()
    assert seen[labels].mean() > seen[~labels].mean() + 0.5, "masks do not lie on their pictures"


def test_a_contender_runs_in_a_process_of_its_own_from_start_to_score(run: Path) -> None:
    found = speed.in_a_process("PyTorch + torchvision", 0, run, steps=speed.WARM_UP + 2)
    assert 0 < found["first batch"] < found["whole cell"]
    assert found["samples/s"] > 0 and found["peak MB"] > 100
    assert 0 <= found["Dice"] <= 1


def test_the_ceiling_is_the_same_network_on_a_batch_that_lies_ready(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "BLOCK", 4)
    table = speed.ceiling_table(speed.demo_store(run), crops=(32,), rounds=1)
    (row,) = table.to_dict("records")
    alone, whole, off = row["network alone (samples/s)"], row["the study's loop (samples/s)"], 0.05  # rounded to .1
    assert alone > 0
    assert (whole - off) / (alone + off) - 0.001 <= row["loop / network alone"] <= (whole + off) / (alone - off) + 0.001


def test_a_training_step_stands_beside_what_the_device_can_do() -> None:
    table = speed.hardware_table({"cpu": (2,), "cuda": (2,)}, matrix=256, turns=1)
    assert list(table["precision"]) == ["fp32", "bf16"]
    assert (table["share of it"] > 0).all() and (table["training (samples/s)"] > 0).all()
    work = table["GFLOP/s"] / (table["training (samples/s)"])
    # its encoder alone, forward and backward: 3 x 2 x .407 x (96 / 224)^2 = .45 GFLOP (its authors: 407 M multiply-adds at 224 px)
    assert work.between(0.5, 5).all() and work.max() < 1.3 * work.min()


def test_a_compiled_network_is_timed_beside_the_one_as_it_is_and_what_cannot_be_compiled_is_named() -> None:
    ways = {"only traced": {"backend": "eager"}, "by nobody": {"backend": "no-such-compiler"}}
    row, impossible = speed.compiling_table(ways, turns=1).to_dict("records")
    assert row["network"] == "only traced"
    assert row["first three steps (s)"] * 1000 > row["then a step (ms)"] > 0 and row["a step as it is (ms)"] > 0
    assert row["beside as it is"] == pytest.approx(row["a step as it is (ms)"] / row["then a step (ms)"], rel=0.02)
    assert (row["pays after (steps)"] == "never") == (row["beside as it is"] <= 1)
    assert impossible["network"] == "by nobody" and np.isnan(impossible["beside as it is"])
    said = impossible["pays after (steps)"]
    assert said.startswith("not possible here: ") and "no-such-compiler" in said


def test_a_power_is_found_from_sizes_and_costs() -> None:
    assert speed.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert speed.exponent([10, 100, 1000], [5, 5, 5]) == pytest.approx(0)


def test_reading_a_batch_does_not_read_the_store() -> None:
    seconds, memory = speed._reading(4_000, side=256, batch=4, batches=3)
    assert seconds > 0
    bare = "from braintransfer.proofs import speed; print(speed._private_mb())"
    imports = float(subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True).stdout)
    if np.isnan(imports):
        pytest.skip("this system does not tell private memory")
    assert memory < imports + 60, "a store of 260 MB was taken into memory"


def test_a_set_is_prepared_in_a_process_of_its_own_and_then_found_there() -> None:
    (row,) = speed.preparing_table(sizes=(2,), spacing=4.0, side=(64, 64)).to_dict("records")
    assert row["scans"] == 2 and row["scans a minute"] > 0 and row["peak memory (MB)"] > 100
    assert row["a second time (s)"] > 0


def test_a_run_that_is_timed_has_the_people_sources_and_seeds_asked_for() -> None:
    values, only = speed.run_of(people=5, sources=4, seeds=2)
    profile = Profile.model_validate({"name": "growing", **values})
    cells = parse_cells(profile, only)
    assert [source for _, source, _ in cells].count("mri-segmentation") == 1 and len(cells) == 4
    assert sum(source.startswith("mri") for _, source, _ in cells) == 3 and {t for t, _, _ in cells} == {"anatomy"}
    assert list(profile.seeds) == [0, 1]
    people = [f"p{k}" for k in range(profile.targets["anatomy"].subjects)]
    folds = target_folds(people, folds=2, n_validation=1, rng=np.random.default_rng(0))["folds"]
    assert len(folds[0]["test"]) == 5 and len(folds[0]["train"]) == 4
