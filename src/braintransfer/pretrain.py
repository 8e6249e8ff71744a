"""One source of the study: an encoder trained on a domain by classification, segmentation or self-supervision."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from braintransfer import study, training
from braintransfer.errors import BadInput
from braintransfer.fairness import BATCHES, training_facts
from braintransfer.machine import Machine, load_or_measure
from braintransfer.network import CHANNELS, NORMALISATION, build_classifier, build_unet
from braintransfer.provenance import (
    CHECKPOINT,
    atomic_write_bytes,
    atomic_write_json,
    code_hash,
    is_done,
    only_writer,
    project_root,
    read_manifest,
    stage_key,
    start_anew,
    write_manifest,
    write_table,
)
from braintransfer.settings import PretrainSettings
from braintransfer.store import Store, open_store
from braintransfer.transfer import EncoderPlan, save_decoder, save_encoder

#: Brightness of red, green and blue (ITU-R BT.601, as Pillow's "L").
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
#: Held-out pictures kept for the result picture of a stage.
SHOWN = 8


@dataclass(frozen=True)
class Pictures:
    """A source's pictures as its arm shows them. masks_of: row -> row whose mask stands beside it."""

    store: Store
    masks_of: np.ndarray
    grey: bool

    def load(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures (n, H, W[, 3]) and masks (n, H, W), uint8."""
        images, masks = self.store.load(rows)
        if (self.masks_of[rows] != rows).any():
            masks = self.store.load(self.masks_of[rows])[1]
        if self.grey and images.ndim == 4:
            images = (images @ GREY).round().astype(np.uint8)
        return images, masks


def pictures_of(store: Store, arm: str, rows: np.ndarray, seed: int) -> Pictures:
    """What the arm does to the training pictures `rows`: their masks shuffled among them, their colour taken, or nothing.

    Shuffled masks go once around a random ring, so that no picture keeps its own. Held-out pictures keep theirs.
    """
    masks_of = np.arange(len(store.slices))
    if arm == "shuffled_masks":
        ring = study.stream(seed, "shuffled masks").permutation(rows)
        masks_of[ring] = np.roll(ring, 1)
    return Pictures(store, masks_of, arm == "grey_natural")


@dataclass(frozen=True)
class SourceRow:
    """One pre-trained encoder: where it lies, how it learned, and whether it did."""

    folder: Path
    seed: int
    history: pd.DataFrame
    learned: dict[str, Any]
    manifest: dict[str, Any]


def class_names(store: Store) -> list[str]:
    """Class names of a source, in the order of their numbers."""
    return sorted(store.slices["label"].unique())


#: Hidden layer and embedding of the contrastive task (after SimCLR, smaller).
PROJECTION = (256, 64)


def source_network(task: str, encoder: str, n_classes: int, seed: int) -> nn.Module:
    """The network of a pre-training task: the study's encoder with a classifier, or with a decoder of 2 or 3 outputs.

    classification: logits (B, classes); segmentation: logits (B, 2, H, W); selfsupervised: restored picture (B, 3, H, W);
    contrastive: embeddings (B, 64).
    """
    if task == "classification":
        return build_classifier(encoder, n_classes, seed)
    if task == "contrastive":
        return build_classifier(encoder, PROJECTION[1], seed, hidden=PROJECTION[0])
    return build_unet(encoder, {"segmentation": 2, "selfsupervised": 3}[task], seed)


def pretrain(task: str, settings: PretrainSettings, report: Callable[[str], None] = print) -> list[SourceRow]:
    """Train every seed of this source that is not there yet; those that are done are read."""
    store = open_store(settings.store)
    machine = load_or_measure(settings.run, encoder=settings.encoder)
    with only_writer(settings.folder(task)):
        return [_row(task, settings, store, machine, seed, report) for seed in settings.seeds]


def training_rows(store: Store, images: int, seed: int) -> np.ndarray:
    """Rows of the unique training pictures: all, or a nested random part of `images` that depends on the seed only."""
    rows = store.rows(store.subjects("train"))
    if images > len(rows):
        raise BadInput(
            f"images = {images}, but {store.path} has {len(rows)} training pictures; ask for fewer (0 takes all)"
        )
    return np.sort(study.stream(seed, "subset").permutation(rows)[:images]) if images else rows


def _row(
    task: str, settings: PretrainSettings, store: Store, machine: Machine, seed: int, report: Callable[[str], None]
) -> SourceRow:
    source = settings.source(task)
    folder = settings.folder(task) / f"seed-{seed}"
    name = f"pretrain_{task}"
    code = code_hash(project_root() / "notebooks" / f"{name}.ipynb")
    parameters = {**settings.model_dump(), "source": source, "seed": seed}
    inputs = {"store": store.digest}
    key = stage_key(name, parameters, code, inputs)
    if is_done(folder, key):
        report(f"seed {seed}: already done")
        return _read_row(folder, seed)
    report(f"seed {seed}")
    start_anew(folder)
    start = time.perf_counter()
    labels = store.slices["label"].map({n: i for i, n in enumerate(class_names(store))}).to_numpy()
    # what is learned; for the gates and the notebook it stays the self-supervised task
    goal = "contrastive" if settings.arm == "contrastive" else task
    network = source_network(goal, settings.encoder, len(class_names(store)), seed)
    rows = training_rows(store, settings.images, seed)
    pictures = pictures_of(store, settings.arm, rows, seed)
    schedule = training.Schedule(
        settings.steps, settings.batch, settings.learning_rate, crop=settings.crop, augmentation=settings.augmentation
    )
    # every picture is as likely as any other, in all three tasks and in the same order
    order = training.batch_order(np.ones(len(rows), bool), schedule.steps, schedule.batch, study.stream(seed, "order"))
    views = study.stream_seed(seed, "augmentation")

    def read(chosen: np.ndarray) -> tuple[np.ndarray, ...]:
        return (*pictures.load(rows[chosen]), labels[rows[chosen]])

    batches = list(
        training.first_batches(training.PRIOR_BATCHES, read, order, training.BATCHES[goal], schedule, machine, views)
    )
    if task == "segmentation":
        training.start_at_prior(network, batches)
    # of the three tasks only the pictures can be alike, for the self-supervised one as they were before the damage
    seen = (1,) if task == "selfsupervised" else (0,)
    common = training_facts(batches[:BATCHES], order, schedule, machine, seen)
    common["store"] = store.digest
    history = training.fit(
        network, read, order, training.BATCHES[goal], training.LOSSES[goal],
        schedule=schedule, machine=machine, seed=views, report=report, checkpoint=folder / CHECKPOINT, belongs_to=key,
    )  # fmt: skip
    held_out = store.rows(store.subjects("validation"))
    learned = training.held_out_performance(
        goal, network, *pictures.load(held_out), labels[held_out], machine=machine, mean_image=_mean(pictures, rows)
    )
    report("  held out: " + ", ".join(f"{k} {v:.3f}" for k, v in learned.items() if isinstance(v, float)))
    n_images = len(rows)
    plan = EncoderPlan(
        encoder=settings.encoder, channels=CHANNELS, normalisation=NORMALISATION, source=source, n_images=n_images, task=task,
        arm=settings.arm, seed=seed,
    )  # fmt: skip
    save_encoder(folder / "encoder.safetensors", network, plan)
    if hasattr(network, "decoder"):
        save_decoder(folder / "decoder.safetensors", network, plan)
    write_table(folder / "history.csv", history.to_frame())
    atomic_write_json(folder / "learned.json", learned)
    _save_pictures(folder / "examples.npz", goal, network, pictures, held_out, labels, machine)
    write_manifest(
        folder, stage=name, key=key, parameters=parameters, code=code, inputs=inputs, device=machine.device,
        precision=machine.precision, threads=machine.threads,
        seconds=round(history.earlier + time.perf_counter() - start, 1),
        seconds_training=round(history.seconds, 1), samples=history.samples, n_images=n_images, learned=learned,
        common=common,
    )  # fmt: skip
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return _read_row(folder, seed)


def _mean(pictures: Pictures, rows: np.ndarray) -> np.ndarray:
    """Mean picture (H, W[, 3]) float32 of at most 512 training pictures."""
    return pictures.load(rows[:: max(1, len(rows) // 512)])[0].mean(axis=0, dtype=np.float32)


def _save_pictures(
    path: Path,
    task: str,
    network: nn.Module,
    pictures: Pictures,
    rows: np.ndarray,
    labels: np.ndarray,
    machine: Machine,
) -> None:
    chosen = rows[np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int)]
    images, masks = pictures.load(chosen)
    made = training.held_out_pictures(task, network, images, machine=machine)
    names = np.array(class_names(pictures.store), dtype=np.str_)
    arrays: dict[str, Any] = {
        "images": images,
        "references": masks,
        "labels": labels[chosen],
        "names": names,
        **made,
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    atomic_write_bytes(path, buffer.getvalue())


def _read_row(folder: Path, seed: int) -> SourceRow:
    manifest = read_manifest(folder)
    if manifest is None:
        raise BadInput(f"{folder}: its manifest vanished; run the stage again")
    return SourceRow(folder, seed, pd.read_csv(folder / "history.csv"), manifest["learned"], manifest)


def finish_source(task: str, settings: PretrainSettings, rows: list[SourceRow]) -> Path:
    """Write the manifest of the whole source, after its last seed."""
    folder = settings.folder(task)
    name = f"pretrain_{task}"
    code = code_hash(project_root() / "notebooks" / f"{name}.ipynb")
    parameters = settings.model_dump()
    inputs = {f"seed-{r.seed}": r.manifest["key"] for r in rows}
    summary = {"n_images": rows[0].manifest["n_images"], "learned": {str(r.seed): r.learned for r in rows}}
    atomic_write_json(folder / "source.json", summary)
    write_manifest(
        folder, stage=name, key=stage_key(name, parameters, code, inputs), parameters=parameters, code=code, inputs=inputs,
        outputs=["source.json"], device=rows[0].manifest["device"], precision=rows[0].manifest["precision"],
        samples=sum(r.manifest["samples"] for r in rows), seconds=round(sum(r.manifest["seconds"] for r in rows), 1),
    )  # fmt: skip
    return folder / "manifest.json"
