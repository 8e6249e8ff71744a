"""One cell of the study: a source's encoder, fine-tuned on a target for every fold and seed, and scored on test people."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from braintransfer import evaluate, study
from braintransfer.errors import BadInput
from braintransfer.fairness import BATCHES, training_facts
from braintransfer.machine import Machine, load_or_measure
from braintransfer.network import build_unet, digest
from braintransfer.provenance import (
    CHECKPOINT,
    atomic_write_bytes,
    atomic_write_json,
    code_hash,
    is_done,
    only_writer,
    project_root,
    read_manifest,
    sha256_file,
    stage_key,
    start_anew,
    write_manifest,
    write_table,
)
from braintransfer.provenance import digest as digest_of
from braintransfer.settings import FinetuneSettings
from braintransfer.store import Store, open_store
from braintransfer.training import (
    PRIOR_BATCHES,
    History,
    Schedule,
    batch_order,
    first_batches,
    fit,
    segmentation_batch,
    segmentation_loss,
    slice_probabilities,
    start_at_prior,
)
from braintransfer.transfer import LoadReport, add_decoder, match_moments, start_from, weight_file

SCORE_COLUMNS = ["subject", "scan", "metric", "class", "value"]
CURVE_COLUMNS = ["subject", "scan", "threshold", "sensitivity", "fp_per_scan"]
OTHERWISE_COLUMNS = ["subject", "scan", "scoring", "metric", "value"]


@dataclass(frozen=True)
class Row:
    """One trained network of the study: where its results lie and what they are."""

    folder: Path
    fold: int
    seed: int
    history: pd.DataFrame
    scores: pd.DataFrame
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """What one network reached on some people: every metric, of lesions the free-response curve and the scores by other
    thresholds and rules (`evaluate.score_otherwise`), one slice a person, and the seconds that its predictions took."""

    scores: pd.DataFrame
    curve: pd.DataFrame
    otherwise: pd.DataFrame
    examples: list[dict[str, Any]]
    seconds_predicting: float


def encoder_file(settings: FinetuneSettings, seed: int) -> Path | None:
    """The weights that this source starts from, the main arm's unless the arm pre-trains its own; None for the two controls."""
    if settings.source in study.CONTROLS:
        return None
    arm = study.encoder_arm(settings.arm)
    return settings.inputs / "sources" / arm / settings.source / f"seed-{seed}" / "encoder.safetensors"


def finetune(settings: FinetuneSettings, report: Callable[[str], None] = print) -> list[Row]:
    """Fill every row (fold, seed) of this cell that is not there yet; rows that are done are read."""
    store = open_store(settings.inputs / "data" / settings.target)
    shown = open_store(settings.inputs / "data" / settings.showcase) if settings.showcase else None
    machine = load_or_measure(settings.run, encoder=settings.encoder)
    for fold in settings.folds:
        if fold >= len(store.splits["folds"]):
            raise BadInput(
                f"folds = {settings.folds}: {store.path} has {len(store.splits['folds'])} folds, counted from 0"
            )
    rows = []
    with only_writer(settings.folder):
        for fold in settings.folds:
            for seed in settings.seeds:
                rows.append(_row(settings, store, shown, machine, fold, seed, report))
    return rows


def _row(
    settings: FinetuneSettings, store: Store, shown: Store | None, machine: Machine, fold: int, seed: int,
    report: Callable[[str], None],
) -> Row:  # fmt: skip
    folder = settings.folder / f"fold-{fold}" / f"seed-{seed}"
    weights = encoder_file(settings, seed)
    if weights is not None and not weights.is_file():
        raise BadInput(
            f"no encoder at {weights}; pre-train {settings.source} first (braintransfer run, or its notebook)"
        )
    inputs = {"store": store.digest, "encoder": sha256_file(weights) if weights else settings.source}
    if shown is not None:
        inputs["showcase"] = shown.digest
    code = code_hash(project_root() / "notebooks" / "finetune.ipynb")
    parameters = {**settings.model_dump(), "fold": fold, "seed": seed}
    if settings.arm == "tuned_rate":
        inputs["rates"] = ", ".join(f"{rate:g}" for rate in study.TUNED_RATES)
    key = stage_key("finetune", parameters, code, inputs)
    if is_done(folder, key):
        report(f"fold {fold} seed {seed}: already done")
        return _read_row(folder, fold, seed)
    report(f"fold {fold} seed {seed}")
    start_anew(folder)
    start = time.perf_counter()
    n_classes = len(study.CLASSES[settings.target])
    if settings.arm == "tuned_rate":
        settings = _with_rate(settings, _tuned_rate(settings, store, machine, fold, report))
    network = build_unet(settings.encoder, n_classes + 1, seed)
    loaded, history, common = train(
        network, settings, weights, store, machine, fold, seed, report, folder / CHECKPOINT, key
    )
    trained = time.perf_counter()
    with store.final_scoring():
        tested = score_people(network, settings.target, store, store.subjects("test", fold), machine)
    predicting = tested.seconds_predicting
    if shown is not None:
        with shown.final_scoring():
            seen = score_people(network, settings.target, shown, shown.subjects("test"), machine)
        predicting += seen.seconds_predicting
        write_table(folder / "showcase.csv", seen.scores)
        save_examples(folder / "showcase.npz", seen.examples)
    write_table(folder / "scores.csv", tested.scores)
    if settings.target in study.DETECTED:
        write_table(folder / "froc.csv", tested.curve)
        write_table(folder / "otherwise.csv", tested.otherwise)
    write_table(folder / "history.csv", history.to_frame())
    save_examples(folder / "examples.npz", tested.examples)
    if fold == settings.folds[0] and seed == settings.seeds[0]:
        _save_network(folder / "network.safetensors", network, settings, n_classes)
    write_manifest(
        folder, stage="finetune", key=key, parameters=parameters, code=code, inputs=inputs,
        weights=loaded.as_dict(), common=common, device=machine.device, precision=machine.precision, threads=machine.threads,
        seconds=round(history.earlier + time.perf_counter() - start, 1), seconds_training=round(history.seconds, 1),
        seconds_predicting=round(predicting, 1), seconds_measuring=round(time.perf_counter() - trained - predicting, 1),
        samples=history.samples,
        n_train=len(store.training_subset(fold, seed, settings.n_train)), test_people=store.subjects("test", fold),
    )  # fmt: skip
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return _read_row(folder, fold, seed)


def train(
    network: torch.nn.Module, settings: FinetuneSettings, weights: Path | None, store: Store, machine: Machine, fold: int,
    seed: int, report: Callable[[str], None], checkpoint: Path | None = None, belongs_to: str = "",
) -> tuple[LoadReport, History, dict[str, Any]]:  # fmt: skip
    """Fine-tune `network` in place on the training people of `fold`: what was loaded, what happened, and what is common to sources.

    weights: the encoder's file, None for the two controls. checkpoint, belongs_to: as in `training.fit`. BadInput without a training slice.
    """
    people = store.training_subset(fold, seed, settings.n_train)
    rows = store.rows(people, fold=fold)
    if not len(rows):
        raise BadInput(f"{store.path}: the training people {people} have no slice; run `prepare` again")
    foreground = store.slices["foreground"].to_numpy()[rows] > 0
    schedule = Schedule(
        settings.steps, settings.batch, settings.learning_rate, crop=settings.crop, augmentation=settings.augmentation
    )
    order = batch_order(foreground, schedule.steps, schedule.batch, study.stream(seed, "order"))
    views = study.stream_seed(seed, "augmentation")

    def read(chosen: np.ndarray) -> tuple[np.ndarray, ...]:
        return store.load(rows[chosen], fold=fold)

    # first all that every source has in common, then the source: the report's digest covers the former
    batches = list(first_batches(PRIOR_BATCHES, read, order, segmentation_batch, schedule, machine, views))
    start_at_prior(network, batches)
    loaded = start_from(network, settings.source, weights)
    _apply_arm(network, settings, weights, seed)
    common = training_facts(batches[:BATCHES], order, schedule, machine)
    common |= {"outside": digest(network, encoder=False), "people": people, "store": store.digest}
    common["start"] = digest(network, encoder=True)
    history = fit(
        network, read, order, segmentation_batch, segmentation_loss, schedule=schedule, machine=machine, seed=views,
        report=report, checkpoint=checkpoint, belongs_to=belongs_to,
    )  # fmt: skip
    return loaded, history, common


def _apply_arm(network: torch.nn.Module, settings: FinetuneSettings, weights: Path | None, seed: int) -> None:
    """What an arm changes about the network that is about to be fine-tuned."""
    if settings.arm == "frozen_random":
        # the weights stay; BatchNorm goes on to count, or the layers above would see numbers of any size
        network.encoder.requires_grad_(False)
    elif settings.arm == "moment_matched":
        match_moments(network, seed)
    elif settings.arm == "decoder_transfer" and weights is not None:
        add_decoder(network, settings.source, weights.with_name("decoder.safetensors"))


def _with_rate(settings: FinetuneSettings, rate: float) -> FinetuneSettings:
    return settings.model_copy(update={"learning_rate": rate})


def _tuned_rate(
    settings: FinetuneSettings, store: Store, machine: Machine, fold: int, report: Callable[[str], None]
) -> float:
    """The one of TUNED_RATES with which the first seed reaches most on this fold's validation people; kept for all seeds."""
    seed, folder = settings.seeds[0], settings.folder / f"fold-{fold}"
    weights = encoder_file(settings, seed)
    code = code_hash(project_root() / "notebooks" / "finetune.ipynb")
    people = store.subjects("validation", fold)
    if not people:
        raise BadInput(
            f"arm tuned_rate: fold {fold} of {settings.target} has no validation people; ask for some in prepare"
        )
    metric = study.HEADLINE[settings.target]
    reached = {}
    for rate in study.TUNED_RATES:
        path = folder / f"rate-{rate:g}.json"
        same = settings.model_dump(exclude={"seeds", "folds", "read_from", "write_to"})
        key = digest_of([same, seed, fold, rate, code, store.digest, sha256_file(weights) if weights else ""])
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if kept.get("key") != key:
            report(f"fold {fold} rate {rate:g}, judged on {len(people)} validation people")
            network = build_unet(settings.encoder, len(study.CLASSES[settings.target]) + 1, seed)
            train(network, _with_rate(settings, rate), weights, store, machine, fold, seed, report)
            scores = score_people(network, settings.target, store, people, machine, fold).scores
            value = scores[(scores["metric"] == metric) & (scores["class"] == "")]["value"].mean()
            kept = {"key": key, "rate": rate, "metric": metric, "validation": float(value)}
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write_json(path, kept)
        reached[rate] = kept["validation"]
    best = max(reached, key=lambda rate: reached[rate])
    report(
        f"fold {fold}: rate {best:g} (validation {metric} {', '.join(f'{r:g}: {v:.3f}' for r, v in reached.items())})"
    )
    return best


def score_people(
    network: torch.nn.Module, target: str, store: Store, people: list[str], machine: Machine, fold: int | None = None
) -> Scored:
    """Score `network` on whole scans of `people`, in each scan's own grid.

    fold: that of which they are validation people; without it they are test people, inside the store's `final_scoring`.
    """
    table: list[dict[str, Any]] = []
    curve: list[dict[str, Any]] = []
    otherwise: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    seconds = 0.0
    by_scan = store.slices.groupby("scan", sort=False).indices
    scan_of = store.slices.drop_duplicates("scan")[["subject", "scan"]]
    for subject, scan in scan_of[scan_of["subject"].isin(people)].itertuples(index=False):
        rows = np.asarray(by_scan[scan])
        images, masks = store.load(rows, fold=fold)
        slices = store.slices["slice"].to_numpy()[rows]
        start = time.perf_counter()
        per_slice = slice_probabilities(network, images, machine)
        seconds += time.perf_counter() - start
        probabilities = evaluate.own_grid_probabilities(store, scan, slices, per_slice)
        labels = evaluate.labels_from(probabilities)
        table += [
            {"subject": subject, "scan": scan, **row}
            for row in evaluate.score(store, scan, target, labels, probabilities)
        ]
        if target in study.DETECTED:
            points, rows_otherwise = evaluate.score_otherwise(store, scan, probabilities)
            curve += [{"subject": subject, "scan": scan, **point} for point in points]
            otherwise += [{"subject": subject, "scan": scan, **row} for row in rows_otherwise]
        k = int(np.flatnonzero(rows == evaluate.example_row(store, rows))[0])
        predicted = evaluate.labels_from(per_slice[k])
        examples.append({"subject": subject, "image": images[k], "reference": masks[k], "prediction": predicted})
    return Scored(
        pd.DataFrame(table, columns=SCORE_COLUMNS), pd.DataFrame(curve, columns=CURVE_COLUMNS),
        pd.DataFrame(otherwise, columns=OTHERWISE_COLUMNS), examples, seconds,
    )  # fmt: skip


def save_examples(path: Path, examples: list[dict[str, Any]]) -> None:
    """One slice a person: subjects, images, references, predictions as plain arrays (no pickle)."""
    import io

    buffer = io.BytesIO()
    first = {e["subject"]: e for e in reversed(examples)}  # a person's first scan
    chosen = [first[s] for s in sorted(first)]
    np.savez_compressed(
        buffer,
        subjects=np.array([e["subject"] for e in chosen], dtype=np.str_),
        images=np.stack([e["image"] for e in chosen]),
        references=np.stack([e["reference"] for e in chosen]),
        predictions=np.stack([e["prediction"] for e in chosen]),
    )
    atomic_write_bytes(path, buffer.getvalue())


def _save_network(path: Path, network: torch.nn.Module, settings: FinetuneSettings, n_classes: int) -> None:
    header = {
        "encoder": settings.encoder, "outputs": str(n_classes + 1), "source": settings.source, "target": settings.target,
        "spacing": str(_spacing(settings)), "size": "x".join(str(s) for s in _size(settings)),
    }  # fmt: skip
    atomic_write_bytes(path, weight_file(network.state_dict(), header))


def _spacing(settings: FinetuneSettings) -> float:
    manifest = read_manifest(settings.inputs / "data" / settings.target) or {}
    return float(manifest["facts"]["spacing"])


def _size(settings: FinetuneSettings) -> tuple[int, ...]:
    return open_store(settings.inputs / "data" / settings.target).shape[:2]


def _read_row(folder: Path, fold: int, seed: int) -> Row:
    manifest = read_manifest(folder)
    if manifest is None:
        raise BadInput(f"{folder}: its manifest vanished; run the stage again")
    text = {"subject": str, "scan": str, "metric": str, "class": str}
    scores = pd.read_csv(folder / "scores.csv", dtype=text, keep_default_na=False, na_values={"value": [""]})
    return Row(folder, fold, seed, pd.read_csv(folder / "history.csv"), scores, manifest)


def finish_cell(settings: FinetuneSettings, rows: list[Row]) -> Path:
    """Write the manifest of the whole cell, after its last row: what Snakemake and `braintransfer status` look for."""
    code = code_hash(project_root() / "notebooks" / "finetune.ipynb")
    inputs = {f"fold-{r.fold}/seed-{r.seed}": r.manifest["key"] for r in rows}
    parameters = settings.model_dump()
    summary = {
        "n_train": rows[0].manifest["n_train"],
        "rows": len(rows),
        "test_people": len(rows[0].manifest["test_people"]),
    }
    atomic_write_json(settings.folder / "cell.json", summary)
    write_manifest(
        settings.folder, stage="finetune", key=stage_key("finetune", parameters, code, inputs), parameters=parameters,
        code=code, inputs=inputs, outputs=["cell.json"], device=rows[0].manifest["device"],
        precision=rows[0].manifest["precision"], samples=sum(r.manifest["samples"] for r in rows),
        seconds=round(sum(r.manifest["seconds"] for r in rows), 1),
    )  # fmt: skip
    return settings.folder / "manifest.json"
