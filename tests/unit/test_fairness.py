"""The fairness audit: what sources share is recorded as it was, and any item in which two of them differ is named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heads import SHAPE, head_slices
from torch import nn

from braintransfer import finetune, training
from braintransfer.compare import _ALIKE, _ALIKE_TASKS, fairness
from braintransfer.errors import BadInput
from braintransfer.fairness import BATCHES, training_facts
from braintransfer.machine import Machine
from braintransfer.network import build_unet
from braintransfer.plan import Cell
from braintransfer.provenance import write_manifest
from braintransfer.settings import CompareSettings, FinetuneSettings
from braintransfer.store import Store, StoreWriter, TestSubjectsLocked, open_store
from braintransfer.training import Schedule, fit, segmentation_batch, segmentation_loss

SCHEDULE = Schedule(steps=5, batch=2, crop=32)
IMAGES = np.concatenate([head_slices(k) for k in range(2)])
MASKS = (IMAGES > 150).astype(np.uint8)
ORDER = np.random.default_rng(0).permutation(20)[:10].reshape(5, 2)


def read(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    return IMAGES[rows], MASKS[rows], rows % 3


def facts(**changed: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"read": read, "order": ORDER, "make_batch": segmentation_batch, "schedule": SCHEDULE}
    made |= {"machine": Machine(), "seed": 7} | changed
    seen = made.pop("seen", (0, 1))
    batches = training.first_batches(BATCHES, **made)
    return training_facts(batches, made["order"], made["schedule"], made["machine"], seen)


# ------------------------------------------------------------------------------------------------------------- recorded
def test_the_recorded_views_are_the_bytes_that_the_network_is_trained_on() -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watched(*given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(segmentation_batch(*given))
        return seen[-1]

    fit(
        nn.Conv2d(3, 2, 1), read, ORDER, watched, segmentation_loss, schedule=SCHEDULE, machine=Machine(), seed=7,
        report=lambda line: None,
    )  # fmt: skip
    total = hashlib.sha256()
    for batch in seen[:BATCHES]:
        for part in batch:
            total.update(f"{tuple(part.shape)} {part.dtype}\n".encode() + part.contiguous().numpy().tobytes())
    assert facts()["views"] == total.hexdigest()


@pytest.mark.parametrize(
    ("item", "changed"),
    [
        ("order", {"order": ORDER[::-1]}),
        ("order", {"order": np.concatenate([ORDER[:4], ORDER[4:] * 0])}),
        ("views", {"seed": 8}),
        ("views", {"order": ORDER[::-1]}),
        ("views", {"read": lambda rows: (IMAGES[rows], MASKS[rows] * 0)}),
        ("views", {"read": lambda rows: (IMAGES[rows] ^ 1, MASKS[rows])}),
        ("views", {"schedule": Schedule(steps=5, batch=2, crop=32, augmentation=0.5)}),
        ("augmentation", {"schedule": Schedule(steps=5, batch=2, crop=32, augmentation=0.5)}),
        ("steps", {"schedule": Schedule(steps=6, batch=2, crop=32)}),
        ("learning_rate", {"schedule": Schedule(steps=5, batch=2, crop=32, learning_rate=1e-3)}),
        ("threads", {"machine": Machine(threads=2)}),
        ("precision", {"machine": Machine(precision="bf16")}),
    ],
)  # fmt: skip
def test_whatever_differs_is_recorded_as_different(item: str, changed: dict[str, Any]) -> None:
    assert facts() == facts()
    assert facts(**changed)[item] != facts()[item]


def test_the_three_tasks_of_a_domain_see_the_same_views() -> None:
    seen = {"classification": (0,), "segmentation": (0,), "selfsupervised": (1,)}
    recorded = {task: facts(make_batch=training.BATCHES[task], seen=part) for task, part in seen.items()}
    assert len({r["views"] for r in recorded.values()}) == 1 == len({r["order"] for r in recorded.values()})
    assert recorded["classification"]["views"] == recorded["segmentation"]["views"]


def test_recording_leaves_the_random_numbers_of_the_training_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    facts()
    assert torch.equal(before, torch.get_rng_state())


# --------------------------------------------------------------------------------------------------------------- compared
CELLS: list[Cell] = [("stroke", s, "main") for s in ("scratch", "imagenet", "mri-segmentation", "mri-classification")]
COMMON = {key: f"{key} of all" for key in _ALIKE if key != "code"}


def write_run(run: Path, changed: dict[str, dict[str, Any]] | None = None) -> CompareSettings:
    """Manifests of four cells (two seeds) and two sources. changed: source (or source + " source") -> other facts."""
    changed = changed or {}
    for _, source, _ in CELLS:
        for seed in (0, 1):
            other = changed.get(source, {}) if seed == 1 else {}
            write_manifest(
                run / "targets" / "main" / "stroke" / source / "fold-0" / f"seed-{seed}", stage="finetune", key="k",
                parameters={"fold": 0, "seed": seed}, code=str(other.get("code", "c")),
                inputs={}, common=COMMON | {"start": f"weights of {source}"} | other,
            )  # fmt: skip
            if source.startswith("mri"):
                write_manifest(
                    run / "sources" / "main" / source / f"seed-{seed}", stage="pretrain", key="k", parameters={"seed": seed},
                    code=source, inputs={}, common=COMMON | (changed.get(f"{source} source", {}) if seed == 1 else {}),
                )  # fmt: skip
    return CompareSettings(read_from=str(run), write_to=str(run), cells=["stroke:scratch"])


def test_a_fair_run_agrees_on_every_item_and_no_two_sources_start_alike(tmp_path: Path) -> None:
    table, breach = fairness(write_run(tmp_path), CELLS)
    assert breach == ""
    assert len(table) == 2 * (len(_ALIKE) + 1) + 2 * len(_ALIKE_TASKS)
    assert set(table.loc[table["item"] == "encoder at the start", "verdict"]) == {"differs"}
    assert set(table.loc[table["item"] != "encoder at the start", "verdict"]) == {"equal"}
    assert set(table.loc[table["training"] == "fine-tuning", "sources"]) == {4}


@pytest.mark.parametrize("item", _ALIKE)
def test_an_item_that_one_source_has_otherwise_is_named(tmp_path: Path, item: str) -> None:
    table, breach = fairness(write_run(tmp_path, {"mri-segmentation": {item: "another"}}), CELLS)
    assert (
        breach
        == f"fine-tuning of stroke, fold 0, seed 1: the {_ALIKE[item]} is not the same for scratch and mri-segmentation"
    )
    assert list(table.loc[table["verdict"] == "unequal", "item"]) == [_ALIKE[item]]


@pytest.mark.parametrize("item", _ALIKE_TASKS)
def test_an_item_that_one_task_of_a_domain_has_otherwise_is_named(tmp_path: Path, item: str) -> None:
    _, breach = fairness(write_run(tmp_path, {"mri-classification source": {item: "another"}}), CELLS)
    assert (
        breach
        == f"pre-training of mri, seed 1: the {_ALIKE_TASKS[item]} is not the same for mri-classification and mri-segmentation"
    )


def test_two_sources_that_start_from_one_encoder_are_named(tmp_path: Path) -> None:
    _, breach = fairness(write_run(tmp_path, {"mri-segmentation": {"start": "weights of imagenet"}}), CELLS)
    assert (
        breach
        == "fine-tuning of stroke, fold 0, seed 1: the encoder at the start is the same for imagenet and mri-segmentation"
    )


def test_a_training_that_did_not_record_what_it_shares_is_refused(tmp_path: Path) -> None:
    settings = write_run(tmp_path)
    path = tmp_path / "targets" / "main" / "stroke" / "scratch" / "fold-0" / "seed-0" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["common"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match="does not say what it shares"):
        fairness(settings, CELLS)


# ------------------------------------------------------------------------------------------------------- test people shut
def target_store(folder: Path, order: list[str]) -> Store:
    writer = StoreWriter(folder, SHAPE)
    for k in range(4):
        images = head_slices(k, 4)
        writer.add(images, (images > 150).astype(np.uint8), subject=f"p-{k}", scan=f"p-{k}")
    fold = {"train": ["p-0", "p-1"], "validation": ["p-2"], "test": ["p-3"], "order": [order]}
    writer.finish({"folds": [fold]})
    write_manifest(folder, stage="prepare", key="k", parameters={}, code="", inputs={})
    return open_store(folder)


def tuned(store: Store) -> dict[str, Any]:
    settings = FinetuneSettings(
        source="scratch", target="stroke", seeds=[0], folds=[0], steps=1, batch=2, learning_rate=0.001, crop=32
    )
    network = build_unet(settings.encoder, 2, 0)
    return finetune.train(network, settings, None, store, Machine(), 0, 0, lambda line: None)[2]


def test_fine_tuning_opens_nobody_but_its_training_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: set[str] = set()
    load = Store.load

    def watched(self: Store, rows: np.ndarray, *, fold: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        opened.update(self.slices["subject"].to_numpy()[rows])
        assert not self._open["test"], "test people were open while a network was trained"
        return load(self, rows, fold=fold)

    monkeypatch.setattr(Store, "load", watched)
    common = tuned(target_store(tmp_path, ["p-0", "p-1"]))
    assert opened and opened <= {"p-0", "p-1"} == set(common["people"])
    assert len(common["outside"]) == 64 and common["steps"] == 1


def test_fine_tuning_that_reaches_for_a_test_person_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(TestSubjectsLocked, match="p-3 is a test subject of fold 0"):
        tuned(target_store(tmp_path, ["p-0", "p-3"]))
