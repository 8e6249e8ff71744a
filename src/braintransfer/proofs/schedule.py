"""How long is long enough: validation scores of schedules from a quarter to twice the length that a profile fixes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from braintransfer import finetune, study
from braintransfer.figures.base import COLOURS, STYLE, Drawing, count_axis, marker, new_figure, source_legend
from braintransfer.machine import load_or_measure
from braintransfer.network import build_unet
from braintransfer.provenance import atomic_write_json, digest, project_root
from braintransfer.settings import FinetuneSettings, Profile
from braintransfer.store import open_store
from braintransfer.tables import METRIC_TITLES, SOURCE_TITLES, TARGET_TITLES, number

#: The fastest and the slowest start that need no pre-training.
SOURCES = ("scratch", "imagenet")
#: Lengths, as parts of the profile's own.
LENGTHS = (0.25, 0.5, 1.0, 2.0)
COLUMNS = ["target", "source", "share", "steps", "seed", "subject", "metric", "value"]


def schedule_table(
    run: Path, profile: Profile, seeds: Sequence[int], folder: Path, code: str, report: Callable[[str], None] = print
) -> pd.DataFrame:
    """Headline score of each validation person of fold 0, one row a target, source, length and seed (`COLUMNS`).

    run: a run folder whose target stores are there; test people stay shut. seeds: such as the run does not use. Finished
    trainings are kept in `folder` and read again. BadInput when a store is missing.
    """
    rows: list[dict[str, Any]] = []
    for target, data in profile.targets.items():
        store = open_store(run / "data" / target)
        machine = load_or_measure(run, encoder=profile.encoder)
        people = store.subjects("validation", 0)
        for share in LENGTHS:
            steps = max(1, round(share * profile.finetune.steps))
            for source in SOURCES:
                for seed in seeds:
                    training = profile.finetune.model_dump() | {"steps": steps}
                    settings = FinetuneSettings(
                        source=source, target=target, encoder=profile.encoder, seeds=[seed], folds=[0], n_train=data.n_train,
                        read_from=str(run), write_to=str(folder), **training,
                    )  # fmt: skip
                    same = settings.model_dump(exclude={"read_from", "write_to"})
                    path, key = folder / f"{target}-{source}-{steps}-{seed}.json", digest([same, store.digest, code])
                    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
                    if kept.get("key") != key:
                        report(f"{target} from {source}, {steps} steps, seed {seed}")
                        kept = {"key": key, "people": _reached(settings, store, machine, people, seed)}
                        atomic_write_json(path, kept)
                    place = {"target": target, "source": source, "share": share, "steps": steps, "seed": seed}
                    metric = study.HEADLINE[target]
                    rows += [{**place, "subject": s, "metric": metric, "value": v} for s, v in kept["people"].items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _reached(settings: FinetuneSettings, store: Any, machine: Any, people: list[str], seed: int) -> dict[str, float]:
    network = build_unet(settings.encoder, len(study.CLASSES[settings.target]) + 1, seed)
    finetune.train(network, settings, None, store, machine, 0, seed, lambda line: None)
    scores = finetune.score_people(network, settings.target, store, people, machine, 0).scores
    mine = scores[(scores["metric"] == study.HEADLINE[settings.target]) & (scores["class"] == "")]
    return {str(s): float(v) for s, v in mine.groupby("subject")["value"].mean().items()}


def lengths_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over validation people and seeds, one row a target and source, one column a length, and the last gain.

    scores: `schedule_table`. The gain is that of the profile's own length against half of it, and of twice against once.
    """
    rows = []
    for (target, source), of in scores.groupby(["target", "source"], sort=False):
        at = of.groupby("share")["value"].mean()
        steps = of.groupby("share")["steps"].first()
        rows.append(
            {
                "Target": TARGET_TITLES[str(target)],
                "Source": SOURCE_TITLES[str(source)],
                "Metric": METRIC_TITLES[study.HEADLINE[str(target)]],
                **{f"{n} steps": number(float(at[share]), 3) for share, n in steps.items()},
                "once minus half": number(float(at[1.0] - at[0.5]), 3),
                "twice minus once": number(float(at[2.0] - at[1.0]), 3),
                "People x seeds": f"{of['subject'].nunique()} x {of['seed'].nunique()}",
            }
        )
    return pd.DataFrame(rows)


def schedule_figure(scores: pd.DataFrame, chosen: Mapping[str, int] | int) -> Drawing:
    """Validation score against the length of the schedule, one panel a target; the profile's own length is marked."""
    targets = [t for t in study.TARGETS if (scores["target"] == t).any()]
    figure, axes = new_figure(6.2, 2.2 * max(len(targets), 1) + 0.6, rows=max(len(targets), 1), sharex=True)
    spoken = []
    with matplotlib.rc_context(STYLE):
        for axis, target in zip(axes[:, 0], targets, strict=False):
            for source in SOURCES:
                cell = scores[(scores["target"] == target) & (scores["source"] == source)]
                for _, one in cell.groupby(["subject", "seed"]):
                    one = one.sort_values("steps")
                    axis.plot(one["steps"], one["value"], color=COLOURS[source], linewidth=0.7, alpha=0.35)
                mean = cell.groupby("steps")["value"].mean()
                axis.plot(mean.index, mean, color=COLOURS[source], marker=marker(source), markeredgecolor="white",
                          linewidth=2.4, markersize=7, label=SOURCE_TITLES[source])  # fmt: skip
                said = ", ".join(f"{n} steps {number(v, 3)}" for n, v in mean.items())
                spoken.append(f"{TARGET_TITLES[target]}, {SOURCE_TITLES[source]}: {said}")
            own = chosen if isinstance(chosen, int) else chosen[target]
            axis.axvline(own, color="#333333", linestyle="--", linewidth=1)
            count_axis(axis, sorted(scores["steps"].unique()))
            axis.set_title(f"{TARGET_TITLES[target]} ({METRIC_TITLES[study.HEADLINE[target]]})")
        axes[-1, 0].set_xlabel("steps of fine-tuning (logarithmic)")
        source_legend(figure, axes)
    caption = (
        "Validation score against the length of the schedule, each length trained anew with its own falling rate. Thin: one "
        "person; thick: mean. Dashed: the length that the study uses. Real and semi-synthetic data; no test person of that fold is in it."
    )
    return Drawing(figure, caption, ". ".join(spoken) + ".")


def committed_figure() -> Drawing:
    """`schedule_figure` of the table that lies in the book."""
    scores = pd.read_csv(project_root() / "book" / "proof" / "schedule.csv")
    own = scores[scores["share"] == 1.0]
    return schedule_figure(scores, {str(t): int(n) for t, n in own.groupby("target")["steps"].first().items()})
