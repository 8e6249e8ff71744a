"""One cell of the study: each fold has its own people, each seed its own streams, each source its own start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_baselines import lesion_store

from braintransfer import finetune, transfer
from braintransfer.machine import FILE, Machine
from braintransfer.network import build_unet, digest
from braintransfer.provenance import atomic_write_json
from braintransfer.settings import FinetuneSettings
from braintransfer.store import Store, open_store
from braintransfer.transfer import EncoderPlan, save_encoder

ENCODER = "tf_efficientnet_lite0"
MACHINE = Machine("cpu", "fp32", True, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that holds a target of six people in two folds, and two encoders of one source."""
    folder = tmp_path_factory.mktemp("run")
    lesion_store(folder / "data" / "stroke")
    atomic_write_json(folder / FILE, {"device": "cpu", "precision": "fp32", "channels_last": True, "threads": 1})
    for seed in (0, 1):
        plan = EncoderPlan(ENCODER, 3, "(x-127)/128", "mri-segmentation", 12, "segmentation", "main", seed)
        path = folder / "sources" / "main" / "mri-segmentation" / f"seed-{seed}" / "encoder.safetensors"
        path.parent.mkdir(parents=True)
        save_encoder(path, build_unet(ENCODER, 2, 50 + seed), plan)
    return folder


def settings(run: Path, **changed: Any) -> FinetuneSettings:
    given = {"source": "scratch", "target": "stroke", "seeds": [0], "folds": [0], "steps": 1, "batch": 2, "crop": 32}
    return FinetuneSettings(**{**given, "learning_rate": 0.001, "read_from": str(run), "write_to": str(run), **changed})


def common(run: Path, fold: int = 0, seed: int = 0, source: str = "scratch") -> dict[str, Any]:
    """What a training of one step records of itself."""
    chosen = settings(run, source=source)
    network = build_unet(ENCODER, 2, seed)
    weights = finetune.encoder_file(chosen, seed)
    store = open_store(run / "data" / "stroke")
    return finetune.train(network, chosen, weights, store, MACHINE, fold, seed, lambda line: None)[2]


def test_each_fold_trains_on_its_own_people(run: Path) -> None:
    store = open_store(run / "data" / "stroke")
    people = [set(common(run, fold)["people"]) for fold in (0, 1)]
    assert people[0] != people[1]
    assert people == [set(store.subjects("train", fold)) for fold in (0, 1)]


def test_each_seed_has_its_own_order_and_views(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert common(run, seed=0)["order"] == common(run, seed=0)["order"] != common(run, seed=1)["order"]
    monkeypatch.setattr(finetune, "batch_order", lambda *given: np.zeros((1, 2), dtype=np.int64))
    monkeypatch.setattr(Store, "training_subset", lambda self, fold, seed, n: self.subjects("train", fold))
    assert common(run, seed=0)["order"] == common(run, seed=1)["order"]
    assert common(run, seed=0)["views"] == common(run, seed=0)["views"] != common(run, seed=1)["views"]


def test_a_source_starts_from_its_own_encoder_of_the_same_seed(run: Path) -> None:
    for seed in (0, 1):
        assert common(run, seed=seed, source="mri-segmentation")["start"] == digest(
            build_unet(ENCODER, 2, 50 + seed), encoder=True
        )
        assert common(run, seed=seed)["start"] == digest(build_unet(ENCODER, 2, seed), encoder=True)
    imagenet = build_unet(ENCODER, 2, 0)
    transfer.start_from(imagenet, "imagenet")
    assert common(run, source="imagenet")["start"] == digest(imagenet, encoder=True)


def test_a_cell_scores_the_test_people_of_its_fold_with_a_network_of_its_seed(run: Path) -> None:
    threads = torch.get_num_threads()
    rows = finetune.finetune(settings(run, folds=[0, 1], seeds=[0, 1]), report=lambda line: None)
    torch.set_num_threads(threads)
    store = open_store(run / "data" / "stroke")
    assert [(row.fold, row.seed) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for row in rows:
        assert set(row.scores["subject"]) == set(store.subjects("test", row.fold))
        assert not set(row.scores["subject"]) & set(row.manifest["common"]["people"])
    starts = {row.seed: row.manifest["common"]["start"] for row in rows}
    assert starts == {seed: digest(build_unet(ENCODER, 2, seed), encoder=True) for seed in (0, 1)}
