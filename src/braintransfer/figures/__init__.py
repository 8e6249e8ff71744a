"""The figures of the book: no global state, each with a caption and an alternative text that hold its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from braintransfer import tables
from braintransfer.figures.base import (
    CLASS_COLOURS,
    COLOURS,
    FALSE,
    HIT,
    KIND_TITLES,
    MARKERS,
    MISSED,
    STYLE,
    Drawing,
    marker,
    new_figure,
    overlay_legend,
    save,
)
from braintransfer.figures.controls import arms_figure, factorial_figure, labels_figure, runs_figure
from braintransfer.figures.curves import learning_curves_figure, read_histories
from braintransfer.figures.drawings import colours_figure, network_figure, overlap_figure
from braintransfer.figures.pictures import (
    EXAMPLE_RULE,
    Example,
    choose_examples,
    examples_figure,
    montage_figure,
    overlay,
    person_scores,
    read_examples,
)
from braintransfer.figures.scores import (
    accuracy_figure,
    claims_figure,
    detection_figure,
    froc_figure,
    overview_figure,
    robustness_figure,
    samples_figure,
)
from braintransfer.study import DETECTED, HEADLINE, TARGETS

__all__ = [
    "CLASS_COLOURS",
    "COLOURS",
    "EXAMPLE_RULE",
    "FALSE",
    "HIT",
    "KIND_TITLES",
    "MARKERS",
    "MISSED",
    "STYLE",
    "Drawing",
    "Example",
    "new_figure",
    "overlay",
    "overlay_legend",
    "accuracy_figure",
    "arms_figure",
    "choose_examples",
    "claims_figure",
    "colours_figure",
    "comparison_figures",
    "detection_figure",
    "examples_figure",
    "factorial_figure",
    "froc_figure",
    "labels_figure",
    "learning_curves_figure",
    "marker",
    "montage_figure",
    "network_figure",
    "overlap_figure",
    "overview_figure",
    "person_scores",
    "read_examples",
    "read_histories",
    "robustness_figure",
    "runs_figure",
    "samples_figure",
    "save",
    "write_figures",
]


def comparison_figures(
    results: pd.DataFrame,
    kinds: Mapping[str, str],
    *,
    baselines: pd.DataFrame | None = None,
    contrasts: Sequence[Mapping[str, Any]] = (),
    froc: pd.DataFrame | None = None,
    robustness: pd.DataFrame | None = None,
    factorial: pd.DataFrame | None = None,
    arms: pd.DataFrame | None = None,
    histories: pd.DataFrame | None = None,
    examples: Mapping[str, Mapping[str, Mapping[str, Example]]] | None = None,
    showcase: pd.DataFrame | None = None,
    showcase_examples: Mapping[str, Mapping[str, Mapping[str, Example]]] | None = None,
) -> dict[str, Callable[[], Drawing]]:
    """Every figure of a run that can be drawn from what is given, by file name, each as a call that draws it.

    kinds: target -> "simulated" | "semi-synthetic" | "real". baselines: `tables.baselines_table`.
    contrasts: `claims.json`. factorial, arms: the tables of these names. histories: `read_histories`. examples, showcase_examples: target -> `read_examples`.
    showcase: `tables.read_showcase`, people shown one by one.
    """
    plan: dict[str, Callable[[], Drawing]] = {}
    main = results[results["arm"] == "main"]
    present = [t for t in TARGETS if (main["target"] == t).any()]
    if not present:
        return plan
    plan["overview"] = partial(overview_figure, main, kinds, baselines)
    for target in present:
        plan[f"accuracy_{target}"] = partial(accuracy_figure, main, target, kinds, baselines=baselines)
        metrics = set(main.loc[main["target"] == target, "metric"])
        if target in DETECTED and {"lesion_sensitivity", "fp_per_scan"} <= metrics:
            plan[f"detection_{target}"] = partial(detection_figure, main, target, kinds)
        if froc is not None and (froc["target"] == target).any():
            plan[f"froc_{target}"] = partial(froc_figure, froc, main, target, kinds)
        having = (examples or {}).get(target, {})
        for which, subject in choose_examples(main, target, _people_in(having)).items():
            place = f"nearest to the {EXAMPLE_RULE[which]}th percentile of the mean over all sources"
            plan[f"examples_{target}_{which}"] = partial(
                examples_figure,
                having,
                target,
                subject,
                person_scores(main, target, subject),
                f"{which} example, subject {subject}, {place}",
                kinds.get(target, ""),
            )
        having = (showcase_examples or {}).get(target, {})
        for subject in _people_in(having):
            why = f"real patient {subject}, shown without interval or verdict"
            scores = _showcase_scores(showcase, target, subject)
            plan[f"showcase_{target}_{subject}"] = partial(
                examples_figure, having, target, subject, scores, why, "real"
            )
    plan["samples"] = partial(samples_figure, results, kinds)
    if factorial is not None and len(factorial):
        plan["factorial"] = partial(factorial_figure, factorial, kinds)
    if arms is not None and len(arms):
        for target in present:
            if ((arms["target"] == target) & ~arms["arm"].str.startswith("labels_")).any():
                plan[f"arms_{target}"] = partial(arms_figure, arms, target, kinds)
    if results["arm"].str.startswith("labels_").any():
        plan["labels"] = partial(labels_figure, results, kinds)
    if any(isinstance(c.get("estimate"), int | float) for c in contrasts):
        plan["claims"] = partial(claims_figure, contrasts, kinds)
    if robustness is not None and len(robustness):
        plan["robustness"] = partial(robustness_figure, robustness, kinds)
    for stage in ("pretrain", "finetune"):
        if histories is not None and (histories["stage"] == stage).any():
            plan[f"curves_{stage}"] = partial(learning_curves_figure, histories, stage, kinds)
    return plan


def _people_in(examples: Mapping[str, Mapping[str, Example]]) -> list[str]:
    return sorted({subject for found in examples.values() for subject in found})


def _showcase_scores(showcase: pd.DataFrame | None, target: str, subject: str) -> dict[str, float]:
    if showcase is None or showcase.empty:
        return {}
    table = tables.showcase_table(showcase)
    rows = table[(table["target"] == target) & (table["subject"] == subject) & (table["metric"] == HEADLINE[target])]
    return {str(s): float(v) for s, v in zip(rows["source"], rows["value"], strict=True)}


def write_figures(run: Path, folder: Path, kinds: Mapping[str, str]) -> list[str]:
    """Draw all figures of the run folder `run` into `folder`; returns their names.

    Reads results.csv, compare/{baselines,froc,robustness,factorial,arms}.csv, compare/claims.json, history.csv, examples.npz,
    as far as there.
    """
    results = tables.read_results(run / "results.csv")
    compare = run / "compare"

    def kept(name: str) -> pd.DataFrame | None:
        path = compare / f"{name}.csv"
        return tables.read_table(path) if path.is_file() else None

    plan = comparison_figures(
        results,
        kinds,
        baselines=kept("baselines"),
        contrasts=tables.read_json(compare / "claims.json", []),
        froc=pd.read_csv(compare / "froc.csv", keep_default_na=False) if (compare / "froc.csv").is_file() else None,
        robustness=kept("robustness"),
        factorial=kept("factorial"),
        arms=kept("arms"),
        histories=read_histories(run),
        examples={target: read_examples(run, target) for target in TARGETS},
        showcase=tables.read_showcase(run),
        showcase_examples={target: read_examples(run, target, name="showcase") for target in TARGETS},
    )
    for name, draw in plan.items():
        save(draw(), folder, name)
    return list(plan)
