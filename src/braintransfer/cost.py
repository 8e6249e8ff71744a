"""What a run costs: estimated from its plan and the machine's measured rate, and added up from the manifests of what ran."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.plan import Stage, cells_of, stages
from braintransfer.provenance import MANIFEST, read_manifest
from braintransfer.settings import Profile, profile_of, read_profile

#: Views of 64 px that a thread of a processor trains on in a second, until the machine has been measured.
ASSUMED_RATE = 60.0
#: A classifier has no decoder: part of the time that a U-Net takes. Evaluating: part of the time of training on as many pixels.
#: All as measured in the demo and in a cut on real scans, on two processor threads.
CLASSIFIER, EVALUATION = 0.55, 0.25
#: Seconds: a kernel with its imports and figures; the metrics of a scan; a scan or picture to prepare, by kind of recipe.
KERNEL, METRICS = 8.0, 1.0
PREPARE = {"volumes": 0.6, "semisynthetic": 3.0, "simulated": 1.4, "images": 0.005, "composited": 0.005, "slices": 0.1}
SIMULATED_PICTURE = 0.02
AUDIT, COMPARE = 8.0, 45.0
#: Millimetres of brain from top to bottom: so many slices has a scan.
BRAIN_HEIGHT = 140.0
#: People that a set holds where neither the profile nor a store says so.
ASSUMED_PEOPLE = 50
#: What a cluster is asked for: so many times the estimate, and minutes on top, as its nodes may be slower and start slowly.
SLACK, SLACK_MINUTES = 3.0, 20
#: Megabytes of the default encoder's file, and of a whole network.
ENCODER_MB, NETWORK_MB = 13.0, 17.0


def measured_rate(run: Path) -> float:
    """Views of 64 px a second of the way that the run in folder `run` computes; ASSUMED_RATE until it was measured."""
    try:
        values = json.loads((run / "machine.json").read_text(encoding="utf-8"))
        way = f"{values['precision']}{' channels_last' if values['channels_last'] else ''}"
        return float(values["images_per_second"][way])
    except (OSError, ValueError, KeyError, TypeError):
        return ASSUMED_RATE


def _people(profile: Profile, target: str) -> tuple[int, int]:
    """People of a target, and tested in one fold."""
    data = profile.targets[target]  # type: ignore[index]
    people = data.subjects or ASSUMED_PEOPLE
    return people, data.n_test or max(1, people // data.folds)


def estimate(profile: Profile, every: Sequence[Stage], rate: float = ASSUMED_RATE) -> pd.DataFrame:
    """Seconds of one device and megabytes of disk for each stage of a plan. Columns folder, stage, seconds, disk_mb.

    rate: views of 64 px a second in training (`measured_rate`). An estimate: pixels times what a pixel took where this was
    measured, plus what every stage needs to start.
    """
    from braintransfer.recipes import load_recipe

    rows = []
    pixels = profile.size[0] * profile.size[1]
    slices = BRAIN_HEIGHT / profile.spacing
    for stage in every:
        p = stage.parameters
        seconds, disk = KERNEL, 0.5
        if stage.name == "prepare":
            try:
                recipe = load_recipe(p["recipe"], None)
                kind, per_scan = recipe.kind, recipe.slices.per_scan if recipe.slices is not None else 1
            except Exception:  # a recipe of the reader's own, beside data that are not named here
                kind, per_scan = "volumes", 1
            if p["role"] == "source":
                # lesions are set into whole scans, of which each gives some pictures
                each = PREPARE[kind] / per_scan if kind == "semisynthetic" else PREPARE[kind]
                seconds += p["images"] * (SIMULATED_PICTURE if kind == "simulated" else each)
                disk += p["images"] * p["size"][0] * p["size"][1] * 4 / 1e6
            else:
                people = p.get("subjects", 0) or (ASSUMED_PEOPLE if p["role"] == "target" else 5)
                seconds += people * PREPARE[kind]
                disk += people * (slices * pixels * 2 / 1e6 + 0.2)
        elif stage.name.startswith("pretrain"):
            views = len(p["seeds"]) * p["steps"] * p["batch"] * (p["crop"] / 64) ** 2
            seconds += views / rate * (CLASSIFIER if stage.name.endswith("classification") else 1)
            disk += len(p["seeds"]) * ENCODER_MB
        elif stage.name == "finetune":
            networks = len(p["seeds"]) * len(p["folds"])
            tried = len(study.TUNED_RATES) * len(p["folds"]) if p["arm"] == "tuned_rate" else 0
            views = p["steps"] * p["batch"] * (p["crop"] / 64) ** 2
            tested = _people(profile, p["target"])[1]
            scoring = tested * (slices * pixels / 64**2 * EVALUATION / rate + METRICS)
            seconds += (networks + tried) * views / rate + networks * scoring
            disk += NETWORK_MB + networks * tested * pixels * 3 / 1e6
        else:
            seconds += AUDIT if stage.name == "audit" else COMPARE
        rows.append(
            {"folder": stage.folder, "stage": stage.name.partition("_")[0], "seconds": seconds, "disk_mb": disk}
        )
    return pd.DataFrame(rows, columns=["folder", "stage", "seconds", "disk_mb"])


def minutes_to_ask(profile: Profile, every: Sequence[Stage], rate: float = ASSUMED_RATE) -> dict[str, int]:
    """Minutes to ask a cluster for, by kind of stage (prepare, pretrain ...): those of its longest one, with slack."""
    longest = estimate(profile, every, rate).groupby("stage")["seconds"].max()
    return {str(kind): int(SLACK * seconds / 60) + SLACK_MINUTES for kind, seconds in longest.items()}


def planned(run: Path) -> dict[str, float]:
    """Seconds that the profile of a finished run would be given beforehand, by folder; empty where that profile is not here."""
    try:
        profile = profile_of(run, str(json.loads((run / "run.json").read_text(encoding="utf-8"))["profile"]))
    except (OSError, ValueError, KeyError, TypeError, BadInput):
        return {}
    every = stages(profile, run.as_posix(), "", cells_of(profile))
    estimated = estimate(profile, every, measured_rate(run))
    return dict(zip(estimated["folder"], estimated["seconds"], strict=True))


def in_words(estimated: pd.DataFrame, jobs: int, rate: float, measured: bool) -> str:
    """One line: device-hours, how long with so many stages at a time, and disk."""
    seconds, disk = float(estimated["seconds"].sum()), float(estimated["disk_mb"].sum())
    longest = float(estimated["seconds"].max()) if len(estimated) else 0.0
    wall = max(seconds / max(jobs, 1), longest)
    said = "measured on this machine" if measured else "assumed: this machine is measured when the run begins"
    return (
        f"about {_hours(seconds)} of a device, {_hours(wall)} with {jobs} at a time, {disk / 1000:.1f} GB of disk "
        f"({rate:.0f} views of 64 px a second, {said})"
    )


def _hours(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --------------------------------------------------------------------------------------------------------- what it took
def manifests(run: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Folder (from the run's on) and manifest of everything that is done in a run."""
    for path in sorted(run.rglob("manifest.json")):
        manifest = read_manifest(path.parent)
        if manifest is not None:
            yield path.parent.relative_to(run).as_posix(), manifest


def cost_table(run: Path, planned: Mapping[str, float] | None = None) -> pd.DataFrame:
    """What a run took: one row a stage and arm. Columns stage, arm, runs, planned_hours, hours, samples, peak_memory_gb, device.

    hours: of the device (one process of a CPU, or a GPU) summed over stages, with whatever else the machine did at the time.
    samples: pictures shown in training, repeats counted. planned: folder -> seconds (`estimate`); empty where nothing was planned.
    """
    rows = []
    planned = planned or {}
    for folder, manifest in manifests(run):
        parts = folder.split("/")
        trained = "seed-" in parts[-1]
        stage = "/".join(parts[: {"sources": 3, "targets": 4}.get(parts[0], 2)])
        # a source's or cell's own manifest repeats its rows
        if parts[0] in ("sources", "targets") and not trained:
            continue
        rows.append(
            {
                "stage": str(manifest["stage"]).partition("_")[0],
                "arm": parts[1] if trained else "",
                "of": stage,
                "hours": float(manifest.get("seconds", 0)) / 3600,
                "samples": int(manifest.get("samples", 0)),
                "peak_memory_gb": float(manifest.get("peak_memory_mb", 0)) / 1024,
                "device": f"{manifest.get('device', '')} {manifest.get('precision', '')}".strip(),
            }
        )
    columns = ["stage", "arm", "runs", "planned_hours", "hours", "samples", "peak_memory_gb", "device"]
    frame = pd.DataFrame(rows)
    if frame.empty:
        return pd.DataFrame(columns=columns)
    kept = frame.groupby(["stage", "arm", "device"], sort=True, as_index=False).agg(
        runs=("hours", "size"), hours=("hours", "sum"), samples=("samples", "sum"),
        peak_memory_gb=("peak_memory_gb", "max"), of=("of", lambda names: sorted(set(names))),
    )  # fmt: skip
    kept["planned_hours"] = [
        sum(planned[name] for name in names) / 3600 if all(name in planned for name in names) else float("nan")
        for names in kept["of"]
    ]
    return kept[columns].round(3)


SPLIT_COLUMNS = ("what", "seconds", "of")
#: Parts of a training whose seconds its manifest records: group and name there -> what it is.
_RECORDED = {
    ("sources", "seconds_training"): "pre-training: training steps",
    ("targets", "seconds_training"): "fine-tuning: training steps",
    ("targets", "seconds_predicting"): "fine-tuning: predicting the test people",
    ("targets", "seconds_measuring"): "fine-tuning: measuring the predictions",
    ("targets", "seconds_scoring"): "fine-tuning: scoring the test people",  # both together, in manifests of older runs
}
#: Those in which a network computes.
COMPUTE = tuple(what for (_, name), what in _RECORDED.items() if name in ("seconds_training", "seconds_predicting"))
#: What is left of the seconds of a training or a stage, by the group of its folder, in the order of the work.
_REST = {
    "data": "preparing the data",
    "audit": "leak audit",
    "sources": "pre-training: reading pictures, judging the source, writing",
    "targets": "fine-tuning: reading scans and weights, writing",
    "compare": "comparison",
}
ELSE = "everything else: start of kernels, imports, pictures in the notebooks"


def walls(run: Path) -> dict[str, float]:
    """Seconds from the start of a stage's kernel to its end, by folder, as its executed notebook says; without those that do not."""
    found = {}
    for path in sorted(run.rglob("*.ipynb")):
        if ".part" in path.suffixes or not (path.parent / MANIFEST).is_file():
            continue
        try:
            ran = json.loads(path.read_text(encoding="utf-8"))["metadata"]["papermill"]
            found[path.parent.relative_to(run).as_posix()] = float(ran["duration"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def split_table(
    found: Iterable[tuple[str, Mapping[str, Any]]], took: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Where a run's time went, added up from its manifests. Columns SPLIT_COLUMNS: what, seconds of a device, of how many.

    found: folder and manifest of everything that is done. took: `walls`; what a stage took beyond what its manifests record is
    the last row, over the stages that are known to have run in one go. A row is there only where something is recorded.
    """
    seconds: dict[str, float] = {}
    counts: dict[str, int] = {}
    stages: dict[str, float] = {}

    def add(what: str, value: float) -> None:
        seconds[what], counts[what] = seconds.get(what, 0.0) + value, counts.get(what, 0) + 1

    for folder, manifest in found:
        parts = folder.split("/")
        group, trained = parts[0], parts[-1].startswith("seed-")
        whole = manifest.get("seconds")
        # a source's or cell's own manifest repeats its rows
        if (
            group not in _REST
            or not isinstance(whole, int | float)
            or (group in ("sources", "targets") and not trained)
        ):
            continue
        known = {what: manifest.get(name) for (of, name), what in _RECORDED.items() if of == group}
        recorded = {what: float(value) for what, value in known.items() if isinstance(value, int | float)}
        for what, value in recorded.items():
            add(what, value)
        add(_REST[group], max(float(whole) - sum(recorded.values()), 0.0))
        stage = "/".join(parts[: {"sources": 3, "targets": 4}.get(group, len(parts))])
        stages[stage] = stages.get(stage, 0.0) + float(whole)
    for stage, counted in stages.items():
        # a stage that was resumed took less in its last go than its manifests add up to
        if took and took.get(stage, 0.0) >= counted:
            add(ELSE, took[stage] - counted)
    # in the order of the work; what a manifest says took no time was not measured
    order = [
        w for group in _REST for w in (*(what for (of, _), what in _RECORDED.items() if of == group), _REST[group])
    ]
    rows = [(what, round(seconds[what], 1), counts[what]) for what in (*order, ELSE) if seconds.get(what)]
    return pd.DataFrame(rows, columns=list(SPLIT_COLUMNS))


def over_compute(split: pd.DataFrame) -> float:
    """All seconds of a `split_table` over those in which a network trained or predicted; NaN where predicting was not recorded."""
    seconds = dict(zip(split["what"], split["seconds"], strict=True))
    if not all(what in seconds for what in COMPUTE[1:]):
        return float("nan")
    return float(split["seconds"].sum()) / sum(seconds.get(what, 0.0) for what in COMPUTE)


# ----------------------------------------------------------------------------------------------------- at another scale
#: Files that one trained network leaves in its folder.
FILES = 8


def planning(
    run: Path, photographs: int, scans: int, cohorts: int, seen: int, seen_slices: int
) -> list[dict[str, Any]]:
    """Disk and device-hours of three larger studies. Keys plan, pictures (or networks), slices, disk_gb, hours, files.

    run: a folder with the machine.json whose rate is taken. The sizes of pictures and slices are those of the profile `paper`,
    of a cohort those of stroke in `reference`, with the default encoder. seen: times that a photograph is looked at in training.
    """
    rate, paper, reference = measured_rate(run), read_profile("paper"), read_profile("reference")
    view = (paper.pretrain.crop / 64) ** 2 / rate
    slices = int(scans * BRAIN_HEIGHT / paper.spacing)
    cells = [cell for cell in cells_of(reference) if cell[0] == "stroke" and cell[2] == "main"]
    every = stages(reference, "runs/reference", "", cells)
    of_cohort = estimate(reference, every, rate).set_index("folder")
    of_cohort = of_cohort[of_cohort.index.str.startswith(("targets/", "data/stroke"))]
    networks = cohorts * len(cells) * len(reference.seeds) * len(reference.targets["stroke"].run_folds)
    pixels = {"photographs": 4 * paper.source_size**2, "slices": 2 * paper.size[0] * paper.size[1]}
    tested = cohorts * _people(reference, "stroke")[0] * int(BRAIN_HEIGHT / reference.spacing)
    rows = [
        ("photographs", photographs, pixels["photographs"], photographs * (PREPARE["images"] + seen * view), FILES),
        ("slices", slices, pixels["slices"], scans * PREPARE["volumes"] + slices * seen_slices * view, FILES),
    ]
    table = [
        {"plan": name, "pictures": n, "slices": n, "disk_gb": n * size / 1e9, "hours": seconds / 3600, "files": files}
        for name, n, size, seconds, files in rows
    ]
    disk, seconds = cohorts * of_cohort["disk_mb"].sum() / 1e3, cohorts * of_cohort["seconds"].sum()
    return [
        *table,
        {
            "plan": "cohorts", "pictures": networks, "slices": tested, "disk_gb": disk, "hours": seconds / 3600,
            "files": FILES * networks,
        },
    ]  # fmt: skip


def growth(rows: Sequence[int] = (20_000, 200_000)) -> list[dict[str, float]]:
    """What opening a store's table costs as it grows, measured here and now. Keys rows, seconds, mb (in memory)."""
    import io
    import time

    measured = []
    for n in rows:
        text = "subject,scan,site,slice,label,foreground\n" + "".join(
            f"p{k // 140:06d},p{k // 140:06d}_t1,a,{k % 140},,{k % 97}\n" for k in range(n)
        )
        start = time.perf_counter()
        names = {name: str for name in ("subject", "scan", "site", "label")}
        table = pd.read_csv(io.StringIO(text), dtype=names, keep_default_na=False)
        seconds = time.perf_counter() - start
        measured.append({"rows": n, "seconds": seconds, "mb": table.memory_usage(deep=True).sum() / 1e6})
    return measured


def speeds() -> dict[str, float]:
    """Measured here and now: megabytes hashed a second, and pairs of pictures that the audit compares a second."""
    import hashlib
    import time

    import numpy as np

    from braintransfer.near_duplicates import COARSE, similarity

    block = bytes(32_000_000)
    start = time.perf_counter()
    hashlib.sha256(block).digest()
    hashed = len(block) / 1e6 / (time.perf_counter() - start)
    prints = np.random.default_rng(0).integers(-100, 100, (2048, COARSE**2 - 1)).astype(np.int8)
    start = time.perf_counter()
    similarity(prints, prints)
    return {"hashed_mb": hashed, "pairs": len(prints) ** 2 / (time.perf_counter() - start)}
