"""What a run costs: estimated from its plan and the machine's measured rate, and added up from the manifests of what ran."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from braintransfer import study
from braintransfer.plan import Stage
from braintransfer.provenance import read_manifest
from braintransfer.settings import Profile

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
                kind = load_recipe(p["recipe"], None).kind
            except Exception:  # a recipe of the reader's own, beside data that are not named here
                kind = "volumes"
            if p["role"] == "source":
                seconds += p["images"] * (SIMULATED_PICTURE if kind == "simulated" else PREPARE[kind])
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
