"""A run that goes on elsewhere: what its finished trainings found in one small file, without weights, scans or pictures."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from braintransfer import finetune, overlaps, study
from braintransfer.errors import BadInput
from braintransfer.evaluate import example_row
from braintransfer.plan import cells_of
from braintransfer.provenance import (
    LEFT,
    atomic_write_bytes,
    atomic_write_text,
    project_root,
    read_manifest,
    sealed,
    sha256_bytes,
)
from braintransfer.recipes.downloads import unpack as unpack_archive
from braintransfer.settings import Profile, profile_of
from braintransfer.store import Store, open_store

#: Outputs that do not travel: weights, and whatever shows a scan or a photograph. (Executed notebooks are no outputs.)
STAYS = (".safetensors", ".npz", ".png", ".svg")
#: Of slices of people only what a network made of them travels; scan and reference come from the data on the other side.
EXAMPLES = ("examples.npz", "showcase.npz")
PREDICTIONS = ".predictions.npz"
#: The parts of a run that are trained, in the order in which one needs the other.
TRAINED = ("sources", "targets")
#: Zip files hold times; equal runs shall be equal bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def pack(run: Path, archive: Path, report: Callable[[str], None] = print) -> Path:
    """Write what the run's finished trainings found to `archive` (a zip file): scores, curves, lesion counts by
    every rule, manifests, hashes.

    Encoders stay behind, so a source is packed once all cells that its profile makes of it are done; until then it is trained
    again on the other side: to the same bytes on the same kind of processor, while on another its finished cells are trained again,
    too. The machine's measured way of computing travels too. BadInput when nothing is done.
    """
    content: dict[str, bytes] = {}
    rows = 0
    for folder, manifest in _finished(run, profile_of(run, run.name)):
        rows += folder.name.startswith("seed-")
        files = [folder / "manifest.json", *(folder / name for name in manifest["outputs"])]
        for path in files:
            if path.suffix not in STAYS:
                content[path.relative_to(run).as_posix()] = path.read_bytes()
            elif path.name in EXAMPLES and folder.relative_to(run).parts[0] == "targets":
                content[path.with_suffix(PREDICTIONS).relative_to(run).as_posix()] = _predictions(path)
    if not content:
        raise BadInput(f"{run}: nothing is trained yet; there is nothing to pack")
    # counting lesions by other rules takes the networks, which stay behind
    for path in overlaps.keep_counts(run, project_root() / "_build" / "predictions", report):
        content[path.relative_to(run).as_posix()] = path.read_bytes()
    content["machine.json"] = (run / "machine.json").read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name in sorted(content):
            file.writestr(zipfile.ZipInfo(name, _DATE), content[name], zipfile.ZIP_DEFLATED, 9)
    atomic_write_bytes(archive, buffer.getvalue())
    report(f"{archive}: {rows} trainings, {len(buffer.getvalue()) / 1e6:.1f} MB")
    return archive


def _finished(run: Path, profile: Profile) -> Iterator[tuple[Path, dict[str, Any]]]:
    for part in TRAINED:
        for path in sorted((run / part).rglob("manifest.json")):
            manifest = read_manifest(path.parent)
            parts = path.parent.relative_to(run).parts
            # what came without its weights goes on without them: there is nothing here to train its other cells from either
            if manifest is not None and (
                part == "targets" or LEFT in manifest or _used_up(run, profile, parts[1], parts[2])
            ):
                yield path.parent, manifest


def _used_up(run: Path, profile: Profile, arm: str, source: str) -> bool:
    """True when every cell that starts from this encoder is done, and with it the source itself."""
    cells = [c for c in cells_of(profile) if c[1] == source and study.encoder_arm(c[2]) == arm]
    places = [run / "sources" / arm / source, *(run / "targets" / c[2] / c[0] / source for c in cells)]
    return all(read_manifest(place) is not None for place in places)


def _predictions(path: Path) -> bytes:
    with np.load(path, allow_pickle=False) as data:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, subjects=data["subjects"], predictions=data["predictions"])
    return buffer.getvalue()


def unpack(archive: Path, run: Path, report: Callable[[str], None] = print) -> None:
    """Put what `pack` wrote into a run whose data is prepared: `braintransfer run` then does the rest.

    Manifests say what was left behind. BadInput when the data is not there or not the same, or when `run` has trained already.
    """
    if (run / "sources").is_dir() or (run / "targets").is_dir():
        raise BadInput(f"{run} holds trainings already; unpack into a run with nothing but its data")
    if not (run / "data").is_dir():
        raise BadInput(
            f"{run} has no data yet; prepare it first: `braintransfer run --profile {run.name} --only data`, with --data FOLDER "
            "where the profile reads real scans"
        )
    # beside the run until all of it has been found whole: a refused archive leaves nothing behind, and cannot touch the data
    with tempfile.TemporaryDirectory(dir=run, prefix=".unpack-") as temporary:
        inside = Path(temporary) / "run"
        unpack_archive(archive, inside)
        n = _made_whole(inside, run, archive)
        for name in (*TRAINED, "machine.json"):
            if (inside / name).exists():
                (inside / name).replace(run / name)
    report(f"{run}: {n} finished stages and rows; `braintransfer run --profile {run.name}` does the rest")


def _made_whole(inside: Path, run: Path, archive: Path) -> int:
    """Complete what was unpacked to `inside` with the data of `run`, and say in each manifest what is missing; their number."""
    stores: dict[str, Store] = {}
    manifests = sorted(
        (p for part in TRAINED for p in (inside / part).rglob("manifest.json")),
        # rows before their stage, sources before targets: each is newer than what it was made from
        key=lambda p: (TRAINED.index(p.relative_to(inside).parts[0]), -len(p.parts), p.as_posix()),
    )
    for path in manifests:
        manifest = read_manifest(path.parent)
        if manifest is None:
            raise BadInput(f"{archive}: {path.relative_to(inside)} is torn; pack the run again")
        for name in set(EXAMPLES) & set(manifest["outputs"]):
            short = (path.parent / name).with_suffix(PREDICTIONS)
            if short.is_file():
                _with_scans(short, path.parent / name, run, manifest, stores)
        gone = sorted(name for name in manifest["outputs"] if not (path.parent / name).is_file())
        atomic_write_text(path, sealed(manifest | {LEFT: gone}))
        os.utime(path)
    return len(manifests)


def _with_scans(short: Path, path: Path, run: Path, manifest: dict[str, Any], stores: dict[str, Store]) -> None:
    """Put scan and reference beside the predictions in `short`, and write the file that the training had written."""
    parameters = manifest["parameters"]
    name = parameters["showcase"] if path.name == "showcase.npz" else parameters["target"]
    if name not in stores:
        stores[name] = open_store(run / "data" / name)
    store = stores[name]
    with np.load(short, allow_pickle=False) as data:
        predicted = dict(zip(data["subjects"].tolist(), data["predictions"], strict=True))
    examples = []
    with store.final_scoring():
        for subject, prediction in predicted.items():
            slices = store.slices[store.slices["subject"] == subject]
            if slices.empty:
                raise BadInput(f"{store.path} has no {subject}, whom the packed run tested; it is not the same data")
            first = slices["scan"].iloc[0]
            row = example_row(store, slices.index[slices["scan"] == first].to_numpy())
            images, masks = store.load(np.array([row]))
            examples.append({"subject": subject, "image": images[0], "reference": masks[0], "prediction": prediction})
    finetune.save_examples(path, examples)
    if sha256_bytes(path.read_bytes()) != manifest["outputs"][path.name]:
        raise BadInput(
            f"{store.path} is not the data that the packed run used: {path.name} of {parameters['source']} comes out different; "
            "prepare it with that run's profile and versions"
        )
    short.unlink()
