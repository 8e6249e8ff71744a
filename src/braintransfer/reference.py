"""What of a finished run is kept in the book, and an encoder made ready to be published: scores, tables, cost; never a scan."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintransfer import cost, figures, overlaps, study, tables
from braintransfer.errors import BadInput
from braintransfer.provenance import (
    WHERE,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    digest,
    project_root,
    read_manifest,
    sha256_file,
    write_table,
)
from braintransfer.store import may_be_shown

#: All manifests of a kept run, in its folder.
MANIFESTS = "manifests.jsonl.gz"
#: Points of a training curve that are kept: each the mean of the steps up to it.
CURVE_POINTS = 40


def slim(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest without places on the machine and without its long list of files: their hashes become one, weights keep theirs."""
    outputs = manifest.get("outputs", {})
    weights = {name: sha for name, sha in outputs.items() if name.endswith("encoder.safetensors")}
    parameters = {k: v for k, v in manifest.get("parameters", {}).items() if k not in WHERE}
    return {
        **manifest,
        "parameters": parameters,
        "outputs": {"files": len(outputs), "digest": digest(outputs), **weights},
    }


def packed(manifests: Iterable[tuple[str, dict[str, Any]]]) -> bytes:
    """Folders and their slim manifests as gzipped lines of JSON; equal manifests are equal bytes."""
    lines = [json.dumps({"folder": name, **manifest}, sort_keys=True) for name, manifest in manifests]
    return gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)


def keep(run: Path, folder: Path, report: Callable[[str], None] = print) -> Path:
    """Copy what the book needs of the finished run `run` to `folder` (`book/reference/<name>`), small and without a scan.

    Scores, tables of the comparison and of the leak audit, lesion counts by rule, training curves (thinned), the example slices that the rule picks (where
    the licence lets pictures be shown), every manifest with its hashes, the cost, and a card for each encoder. An older copy at
    `folder` is replaced when the new one is whole. BadInput when the comparison is not finished.
    """
    if read_manifest(run / "compare") is None:
        raise BadInput(f"{run}: its comparison is not finished; repeat `braintransfer run`")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name in ("results.csv", "all.csv.gz", "run.json", "machine.json"):
        _copy(run / name, part / name)
    for pattern in ("compare/*.csv", "compare/*.json", "audit/*.csv"):
        for path in sorted(run.glob(pattern)):
            if path.name != "manifest.json":
                _copy(path, part / path.relative_to(run))
    for path in sorted(run.glob("data/*/manifest.json")):
        manifest = read_manifest(path.parent)
        if manifest is not None:
            atomic_write_json(part / path.relative_to(run), slim(manifest))
    for pattern in ("sources/*/*/seed-*/history.csv", "targets/main/*/*/fold-*/seed-*/history.csv"):
        for path in sorted(run.glob(pattern)):
            write_table(part / path.relative_to(run), _thinned(pd.read_csv(path)))
    _keep_examples(run, part)
    overlap = overlaps.count(run, project_root() / "_build" / "predictions", report)
    if len(overlap):
        write_table(part / overlaps.FILE, overlap)
    atomic_write_bytes(part / MANIFESTS, packed((name, slim(manifest)) for name, manifest in cost.manifests(run)))
    write_table(part / "cost.csv", cost.cost_table(run, cost.planned(run)))
    write_table(part / "split.csv", cost.split_table(cost.manifests(run), cost.walls(run)))
    for path in sorted(run.glob("sources/main/*/manifest.json")):
        source = path.parent.name
        atomic_write_text(part / "cards" / f"{source}.md", model_card(run, source))
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    part.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
    files = [p for p in folder.rglob("*") if p.is_file()]
    report(f"{folder}: {len(files)} files, {sum(p.stat().st_size for p in files) / 1e6:.1f} MB")
    return folder


def _copy(source: Path, to: Path) -> None:
    if not source.is_file():
        raise BadInput(f"{source} is missing; repeat `braintransfer run`")
    atomic_write_bytes(to, source.read_bytes())


def _thinned(history: pd.DataFrame) -> pd.DataFrame:
    block = max(1, len(history) // CURVE_POINTS)
    number = np.minimum(np.arange(len(history)) // block, max(len(history) // block - 1, 0))
    grouped = history.groupby(number)
    return grouped.mean().assign(step=grouped["step"].max())[list(history.columns)]


def _keep_examples(run: Path, part: Path) -> None:
    results = tables.read_results(run / "results.csv")
    for target in study.TARGETS:
        if _may_be_shown(run, target):
            having = figures.read_examples(run, target)
            people = sorted({subject for found in having.values() for subject in found})
            chosen = set(figures.choose_examples(results, target, people).values())
            for path in sorted(run.glob(f"targets/main/{target}/*/fold-*/seed-0/examples.npz")):
                _keep_arrays(path, part / path.relative_to(run), chosen)
    for path in sorted(run.glob("targets/main/*/*/fold-*/seed-*/showcase.*")):
        dataset = (read_manifest(path.parent) or {}).get("parameters", {}).get("showcase", "")
        if path.suffix == ".csv" or _may_be_shown(run, dataset):
            _copy(path, part / path.relative_to(run))


def _may_be_shown(run: Path, dataset: str) -> bool:
    manifest = read_manifest(run / "data" / dataset)
    return manifest is not None and may_be_shown(manifest.get("facts", {}))


def _keep_arrays(source: Path, to: Path, subjects: set[str]) -> None:
    with np.load(source, allow_pickle=False) as data:
        rows = [k for k, s in enumerate(data["subjects"]) if str(s) in subjects]
        if not rows:
            return
        kept = {name: data[name][rows] for name in data.files}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kept)  # type: ignore[arg-type]
    atomic_write_bytes(to, buffer.getvalue())


# ----------------------------------------------------------------------------------------------------------- encoders
def model_card(run: Path, source: str, arm: str = "main") -> str:
    """A card for the encoders of a source, in Markdown: what they saw, what they reached, how to load them, what they are not for.

    Everything in it is read from manifests. BadInput when the source is not finished.
    """
    place = run / "sources" / arm / source
    seeds = [m for p in sorted(place.glob("seed-*/manifest.json")) if (m := read_manifest(p.parent)) is not None]
    if not seeds or read_manifest(place) is None:
        raise BadInput(f"{place}: this source is not finished; repeat `braintransfer run`")
    first = seeds[0]
    parameters = first["parameters"]
    dataset = parameters.get("dataset") or parameters["domain"]
    facts = (read_manifest(run / "data" / dataset) or {}).get("facts", {})
    task = parameters["source"].partition("-")[2]
    rows = []
    for manifest in seeds:
        reached = ", ".join(
            f"{name.replace('_', ' ')} {value:.3f}"
            for name, value in manifest["learned"].items()
            if isinstance(value, float)
        )
        verdict = (
            "learned its task" if manifest["learned"].get("learned") else "did not learn its task by the study's rule"
        )
        sha = next((v for k, v in manifest["outputs"].items() if k.endswith("encoder.safetensors")), "")
        rows.append(f"| {manifest['parameters']['seed']} | {reached} | {verdict} | `{sha[:16]}` |")
    kind = tables.data_kind(facts)
    return f"""# Encoder {source} ({parameters["encoder"]})

An encoder of the study *Domain- and task-specific transfer learning for brain MRI segmentation*, run `{parameters["profile"]}`, arm
`{arm}`. Pre-trained by {task.replace("selfsupervised", "self-supervision")} on {kind} data; only the encoder is kept.

| | |
| --- | --- |
| Network | timm `{parameters["encoder"]}`, three input channels, pixels 0..255 as (x − 127) / 128 |
| Data | {facts.get("title", dataset)} ({kind}) |
| Licence of the data | {facts.get("licence", "not stated")} |
| Source of the data | {facts.get("citation", "not stated")} |
| Unique training pictures | {first["n_images"]:,}; the whole set has {facts.get("groups", "?")} groups (a group: {facts.get("group_means", "not stated")}) |
| Classes | {len(facts.get("classes", {}))} |
| Training | {parameters["steps"]:,} steps of {parameters["batch"]} pictures ({first["samples"]:,} seen, repeats counted), AdamW, \
learning rate {parameters["learning_rate"]:g}, crops of {parameters["crop"]} pixels |
| Machine | {first["device"]}, {first["precision"]}, {sum(m["seconds"] for m in seeds) / 3600:.2f} device-hours for {len(seeds)} seeds |

| seed | held out | | encoder.safetensors, SHA-256 begins |
| --- | --- | --- | --- |
{chr(10).join(rows)}

**Use.** `braintransfer.transfer.start_from(network, "{source}", path)` puts it into a U-Net of `braintransfer.network.build_unet` and
counts every tensor; any other program can read the file with `safetensors`.

**Limits.** Small pictures, one data set, a short training: made to compare starting points, not to be the best encoder. It has seen
no person of the targets' test sets. Not for clinical use. The terms of the data bind whoever shares or uses the weights.
"""


def release(run: Path, source: str, folder: Path) -> Path:
    """The encoders of a source in a new folder, ready for an archive that gives DOIs: weights, card, manifests, checksums.

    BadInput when the source is not finished, when its weights are elsewhere (a run that was unpacked), or `folder` holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty; name a new folder")
    card = model_card(run, source)
    seeds = sorted(p.parent for p in (run / "sources" / "main" / source).glob("seed-*/manifest.json"))
    for seed in seeds:
        if not (seed / "encoder.safetensors").is_file():
            raise BadInput(
                f"{seed}: its weights stayed on the machine that trained them; release them there, or train it again"
            )
    atomic_write_text(folder / "README.md", card)
    sums = []
    for seed in seeds:
        name = f"{source}-{seed.name}"
        _copy(seed / "encoder.safetensors", folder / f"{name}.safetensors")
        atomic_write_json(folder / f"{name}.json", read_manifest(seed))
        sums += [f"{sha256_file(folder / f'{name}{end}')}  {name}{end}" for end in (".safetensors", ".json")]
    _copy(project_root() / "CITATION.cff", folder / "CITATION.cff")
    atomic_write_text(folder / "SHA256SUMS", "\n".join(sums) + "\n")
    return folder
