"""Figures of the controls: how far each arm moves the score, domain and task apart, and few labelled people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib
import pandas as pd

from braintransfer import tables
from braintransfer.figures.base import (
    COLOURS,
    STYLE,
    Drawing,
    count_axis,
    kind_words,
    marker,
    mean_and_interval,
    new_figure,
    rows_of_target,
    short_title,
    source_legend,
)
from braintransfer.study import HEADLINE, SOURCES, TARGETS
from braintransfer.tables import METRIC_TITLES, SOURCE_TITLES, TARGET_TITLES, number, people_words, seeds_words

#: One colour a kind of effect; none of them stands for a source.
EFFECT_COLOURS = {"domain": "#009e73", "task": "#cc79a7", "interaction": "#8f6bb3"}
#: One look a run, in the order of the runs; repeated where there are more.
_RUN_LOOKS = (
    ("#222222", "o"),
    ("#777777", "s"),
    ("#222222", "D"),
    ("#777777", "^"),
    ("#222222", "v"),
    ("#777777", "P"),
)


def _forest(
    axis: Any, place: float, row: Mapping[str, Any], names: tuple[str, str, str], hollow: bool = False, **style: Any
) -> None:
    mean, low, high = (float(row[name]) for name in names)
    if math.isfinite(low) and math.isfinite(high):
        axis.plot([low, high], [place, place], color=style["color"], linewidth=2.6, solid_capstyle="round", zorder=3)
    rim = {"markerfacecolor": "white", "markeredgecolor": style["color"]} if hollow else {"markeredgecolor": "white"}
    axis.plot([mean], [place], markersize=7, zorder=4, linestyle="none", **rim, **style)


def _finish(axis: Any, labels: list[str], words: str) -> None:
    axis.axvline(0, color="#333333", linewidth=1)
    axis.set_yticks(range(len(labels)), labels, fontsize=8.5)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.locator_params(axis="x", nbins=6)  # more would run into each other
    axis.set_xlabel(words)


def _at_most(table: pd.DataFrame) -> str:
    """ "at most 36 people and 3 seeds", from the columns n and seeds of a table."""
    n, seeds = (int(table[name].max()) if len(table) else 0 for name in ("n", "seeds"))
    return f"at most {people_words(n)} and {seeds_words(seeds)}"


def arms_figure(arms: pd.DataFrame, target: str, kinds: Mapping[str, str]) -> Drawing:
    """One row a control and source: arm minus main arm on the headline metric, with the interval of the difference.

    arms: `tables.arms_table`. The label arms have a figure of their own (`labels_figure`) and stay out. Hollow marks are not
    judged: the encoders of that arm did not learn their own task.
    """
    metric = HEADLINE[target]
    part = arms[(arms["target"] == target) & (arms["metric"] == metric) & ~arms["arm"].str.startswith("labels_")]
    rows = part.to_dict("records")
    figure, axes = new_figure(6.4, 0.36 * max(len(rows), 1) + 1.2)
    axis = axes[0, 0]
    labels, spoken = [], []
    with matplotlib.rc_context(STYLE):
        for place, row in enumerate(rows):
            source = str(row["source"])
            names = ("difference", "difference_lower", "difference_upper")
            gone = row.get("learned") == "no"
            _forest(axis, place, row, names, color=COLOURS[source], marker=marker(source), hollow=gone)
            labels.append(f"{tables.arm_title(str(row['arm']))} · {short_title(source)}")
            mean, low, high = (float(row[name]) for name in names)
            said = tables.with_interval(mean, low, high, 3)
            spoken.append(f"{labels[-1]}: {said}{' (not judged)' if gone else ''}")
        _finish(axis, labels, f"difference in {METRIC_TITLES[metric]}, control minus main arm")
        axis.set_title(TARGET_TITLES[target])
    hollow = any(row.get("learned") == "no" for row in rows)
    caption = (
        f"Controls on {tables.TARGET_WORDS[target]}. {kind_words(kinds, target)}. Mark and bar: mean difference from the same "
        f"source in the main arm and its 95 % interval over {_at_most(part)}. Left of zero the control is lower."
        f"{' Hollow: not judged, as its encoders did not learn their own task far enough.' if hollow else ''}"
    )
    return Drawing(figure, caption, f"Differences with intervals. {'; '.join(spoken)}.", part)


def factorial_figure(factorial: pd.DataFrame, kinds: Mapping[str, str]) -> Drawing:
    """Domain, task and interaction, one panel a target, on its headline metric. factorial: `tables.factorial_table`."""
    factorial = factorial[factorial["metric"] == factorial["target"].map(HEADLINE)]
    present = [t for t in TARGETS if (factorial["target"] == t).any()]
    figure, axes = new_figure(6.6, 2.5 * max(len(present), 1) + 0.4, rows=max(len(present), 1))
    spoken = []
    with matplotlib.rc_context(STYLE):
        for axis, target in zip(axes[:, 0], present, strict=False):
            part = factorial[factorial["target"] == target]
            labels = []
            for place, row in enumerate(part.to_dict("records")):
                kind = str(row["kind"])
                style: dict[str, Any] = {
                    "color": EFFECT_COLOURS[kind],
                    "marker": {"domain": "D", "task": "o"}.get(kind, "s"),
                }
                _forest(axis, place, row, ("mean", "lower", "upper"), **style)
                contrast = short_title(tables.contrast_title(str(row["contrast"])))
                labels.append(f"{kind}: {contrast}")
                said = tables.with_interval(float(row["mean"]), float(row["lower"]), float(row["upper"]), 3)
                spoken.append(f"{TARGET_TITLES[target]}, {labels[-1]}: {said}")
            _finish(axis, labels, f"difference in {METRIC_TITLES[HEADLINE[target]]}")
            axis.set_title(TARGET_TITLES[target])
    where = "; ".join(dict.fromkeys(kind_words(kinds, t) for t in present))
    caption = (
        f"Domain, task and their interaction: contrasts of the six pre-trained sources. {where}. Mark and bar: estimate and 95 % "
        f"interval over {_at_most(factorial)}. Each domain stands here for one data set, which its three tasks share; no interval "
        "covers that choice."
    )
    return Drawing(figure, caption, f"{'; '.join(spoken)}.", factorial)


def runs_figure(differences: pd.DataFrame) -> Drawing:
    """The same differences between starts in several runs, one panel a target. differences: `tables.runs_table`.

    What a run cannot judge (`said`) stays out.
    """
    judged = differences[differences["said"] == ""]
    names = list(dict.fromkeys(differences["run"]))
    present = [t for t in TARGETS if (judged["target"] == t).any()]
    most = max((len(judged[judged["target"] == t]) for t in present), default=1)
    figure, axes = new_figure(6.6, (0.34 * most + 0.9) * max(len(present), 1) + 0.4, rows=max(len(present), 1))
    spoken = []
    with matplotlib.rc_context(STYLE):
        for axis, target in zip(axes[:, 0], present, strict=False):
            labels: list[str] = []
            for a, b in tables.ASKED_FIRST:
                part = judged[(judged["target"] == target) & (judged["A"] == a) & (judged["B"] == b)]
                for row in part.to_dict("records"):
                    colour, mark = _RUN_LOOKS[names.index(row["run"]) % len(_RUN_LOOKS)]
                    _forest(axis, len(labels), row, ("mean", "lower", "upper"), color=colour, marker=mark)
                    labels.append(f"{short_title(a)} − {short_title(b)}, {row['run']}")
                    said = tables.with_interval(float(row["mean"]), float(row["lower"]), float(row["upper"]), 3)
                    spoken.append(f"{TARGET_TITLES[target]}, {labels[-1]}: {said}")
            _finish(axis, labels, f"difference in {METRIC_TITLES[HEADLINE[target]]}")
            axis.set_title(TARGET_TITLES[target])
    caption = (
        f"The same differences between starts in {len(names)} runs on real scans. Mark and bar: mean and 95 % interval over "
        f"{_at_most(judged)}; right of zero, the first start is better. A mark's shape stands for its run."
    )
    return Drawing(figure, caption, f"{'; '.join(spoken)}.", judged)


def labels_figure(results: pd.DataFrame, kinds: Mapping[str, str]) -> Drawing:
    """Headline accuracy against the number of labelled people (logarithmic), one line a source: main and `labels_<n>` arms."""
    few = results[results["arm"].str.startswith("labels_")]
    present = [t for t in TARGETS if (few["target"] == t).any()]
    figure, axes = new_figure(6.2, 2.4 * max(len(present), 1) + 0.6, rows=max(len(present), 1))
    spoken, drawn = [], []
    with matplotlib.rc_context(STYLE):
        for axis, target in zip(axes[:, 0], present, strict=False):
            metric = HEADLINE[target]
            shown = [s for s in SOURCES if ((few["target"] == target) & (few["source"] == s)).any()]
            kept = results[(results["target"] == target) & results["source"].isin(shown)]
            kept = kept[(kept["arm"] == "main") | kept["arm"].str.startswith("labels_")]
            for step, source in enumerate(shown):
                cell = kept[kept["source"] == source]
                points = []
                for (arm, n_train), _ in cell.groupby(["arm", "n_train"]):
                    summary = tables.summarise(cell, [metric], targets=[target], arm=str(arm))
                    points.append((int(n_train), rows_of_target(summary, target, metric)[source]))
                points.sort(key=lambda p: p[0])
                places = [n * 1.03 ** (step - (len(shown) - 1) / 2) for n, _ in points]
                means = [p["mean"] for _, p in points]
                axis.plot(places, means, color=COLOURS[source], marker=marker(source), markeredgecolor="white",
                          markersize=7, linewidth=1.6, label=SOURCE_TITLES[source])  # fmt: skip
                for place, (n, p) in zip(places, points, strict=True):
                    axis.plot([place, place], [p["lower"], p["upper"]], color=COLOURS[source], linewidth=2, alpha=0.7)
                    spoken.append(f"{TARGET_TITLES[target]}, {SOURCE_TITLES[source]}, {n} people: {number(p['mean'])}")
                    cell_of = {"target": target, "metric": metric, "source": source, "people": n}
                    drawn.append(cell_of | mean_and_interval(p))
            count_axis(axis, sorted({int(n) for n in kept["n_train"]}))
            axis.set_title(f"{TARGET_TITLES[target]} ({METRIC_TITLES[metric]})")
        axes[-1, 0].set_xlabel("labelled people to learn from (logarithmic)")
        source_legend(figure, axes)
    where = "; ".join(dict.fromkeys(kind_words(kinds, t) for t in present))
    caption = (
        f"Accuracy against the number of labelled people. {where}. Mark and bar: mean and 95 % interval over people and seeds. "
        "The largest number is the main arm. The steps of training are the same everywhere, so fewer people are seen more often."
    )
    return Drawing(figure, caption, ". ".join(spoken) + ".", pd.DataFrame(drawn))
