"""Figures of results: accuracy, detection, pre-training samples, claims."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from braintransfer import tables
from braintransfer.claims import POOLED
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
from braintransfer.metrics import AT_THRESHOLD, ATLAS, HALF, MSSEG
from braintransfer.study import HEADLINE, SOURCES, TARGETS
from braintransfer.tables import METRIC_TITLES, SOURCE_TITLES, TARGET_TITLES, number, people_words, seeds_words


# ------------------------------------------------------------------------------------------- accuracy, source by source
def _dots(
    axis: Axes, results: pd.DataFrame, summary: pd.DataFrame, target: str, metric: str, baselines: pd.DataFrame | None
) -> dict[str, dict[str, Any]]:
    """One row a source: every subject's point (mean over seeds), the mean and its 95 % interval."""
    rows = rows_of_target(summary, target, metric)
    results = results[(results["target"] == target) & (results["metric"] == metric)]
    shown = [source for source in SOURCES if source in rows]
    for place, source in enumerate(shown):
        colour, row = COLOURS[source], rows[source]
        points = tables.subject_by_seed(results, source, target, metric).mean(axis=1).dropna().sort_index()
        row["points"] = points
        # jitter by rank in name order, the same for every source, so that a person stands at one height in all rows
        height = place + (np.linspace(-0.28, 0.28, len(points)) if len(points) > 1 else 0)
        axis.scatter(
            points, height, s=13, color=colour, alpha=0.55, linewidths=0, zorder=2, rasterized=len(points) > 30
        )
        if math.isfinite(row["lower"]) and math.isfinite(row["upper"]):
            axis.plot(
                [row["lower"], row["upper"]],
                [place, place],
                color="white",
                linewidth=6,
                solid_capstyle="round",
                zorder=3,
            )
            axis.plot(
                [row["lower"], row["upper"]],
                [place, place],
                color=colour,
                linewidth=3,
                solid_capstyle="round",
                zorder=4,
            )
        if math.isfinite(row["mean"]):
            axis.plot(
                [row["mean"]],
                [place],
                marker=marker(source),
                markersize=9,
                color=colour,
                markeredgecolor="white",
                zorder=5,
            )
    axis.set_yticks(range(len(shown)), [SOURCE_TITLES[source] for source in shown])
    axis.set_ylim(len(shown) - 0.45, -0.55)
    axis.grid(axis="y", visible=False)
    if baselines is not None and len(baselines):
        marks = rows_of_target(baselines, target, metric)
        for name, style in (("prior_map", ":"), ("threshold", "-."), ("ceiling", "--")):
            if name in marks and math.isfinite(marks[name]["mean"]):
                axis.axvline(
                    marks[name]["mean"],
                    color="#555555",
                    linestyle=style,
                    linewidth=1.2,
                    zorder=1,
                    label=tables.BASELINE_TITLES[name],
                )
    return rows


def _drawn(rows: Mapping[str, Mapping[str, Any]], target: str, metric: str) -> pd.DataFrame:
    """What `_dots` drew, one row a mark: every person's point, then the mean with its interval."""
    marks: list[dict[str, Any]] = []
    for source in [s for s in SOURCES if s in rows]:
        where, row = {"target": target, "metric": metric, "source": source}, rows[source]
        people = [{"drawn": "person", "subject": person, "value": value} for person, value in row["points"].items()]
        mean = {"drawn": "mean", "subject": "", "value": row["mean"], "lower": row["lower"], "upper": row["upper"]}
        marks += [where | mark for mark in [*people, mean]]
    columns = ["target", "metric", "source", "drawn", "subject", "value", "lower", "upper"]
    return pd.DataFrame(marks, columns=columns)


def _top(metric: str) -> float:
    """The highest value that a score can have; the lowest is 0."""
    return math.inf if metric == "fp_per_scan" else 1.0


def _limits(axis: Axes, metric: str) -> None:
    """No axis goes beyond the values that a score can have; a bar that does is cut there."""
    (low, high), top = axis.get_xlim(), _top(metric)
    rim = 0.02 * min(high, top)
    axis.set_xlim(max(low, -rim), min(high, top + rim))


def _cut(rows: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    """A sentence for the caption where an interval is longer than what `_limits` shows of it."""
    over = any(row["lower"] < 0 or row["upper"] > _top(metric) for row in rows.values())
    return " Bars are cut where no score can lie." if over else ""


def _spoken(rows: Mapping[str, Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{SOURCE_TITLES[s]} {tables.with_interval(rows[s]['mean'], rows[s]['lower'], rows[s]['upper'])}"
        for s in SOURCES
        if s in rows
    )


def _sizes(rows: Iterable[Mapping[str, Any]]) -> str:
    """ "36 people tested, 3 seeds": the most of any of these rows of `tables.summarise`."""
    counts = [(int(row["n"]), int(row["seeds"])) for row in rows]
    if not counts:
        return "nobody tested"
    people, seeds = (max(column) for column in zip(*counts, strict=True))
    return f"{people_words(people)} tested, {seeds_words(seeds)}"


def _sized(target: str, kinds: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> str:
    """ "stroke lesions: 36 people tested, 3 seeds (semi-synthetic)", one part of a caption over several targets."""
    words = kind_words(kinds, target)
    return f"{tables.TARGET_WORDS[target]}: {_sizes(rows)} ({words[:1].lower()}{words[1:]})"


def _sentence(parts: Sequence[str]) -> str:
    said = "; ".join(parts)
    return said[:1].upper() + said[1:]


def accuracy_figure(
    results: pd.DataFrame,
    target: str,
    kinds: Mapping[str, str],
    metric: str | None = None,
    baselines: pd.DataFrame | None = None,
) -> Drawing:
    """Accuracy on one target by source: each subject's point (mean over seeds), mean and 95 % interval.

    results: long form (`tables.read_results`). kinds: target -> "simulated" | "semi-synthetic" | "real".
    metric: the target's headline metric when None. baselines: `tables.baselines_table`, drawn as lines.
    """
    metric = metric or HEADLINE[target]
    summary = tables.summarise(results, [metric], targets=[target])
    figure, axes = new_figure(6.2, 3.9)
    axis = axes[0, 0]
    with matplotlib.rc_context(STYLE):
        rows = _dots(axis, results, summary, target, metric, baselines)
        axis.set_xlabel(METRIC_TITLES[metric])
        _limits(axis, metric)
        if axis.get_legend_handles_labels()[0]:
            figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    title = METRIC_TITLES[metric]
    cut = _cut(rows, metric)
    lines = (
        " Dotted, dash-dotted and dashed lines: prior map, one threshold, resolution ceiling."
        if axis.get_legend_handles_labels()[0]
        else ""
    )
    caption = (
        f"{TARGET_TITLES[target]}: {title} after fine-tuning from each source. {kind_words(kinds, target)}; {_sizes(rows.values())}. "
        "Small points: one person each, mean over seeds. Large mark and bar: mean and its 95 % interval over "
        f"people and seeds.{cut}{lines}"
    )
    alt = f"{TARGET_TITLES[target]}, mean {title} with 95 % interval by source: {_spoken(rows)}."
    return Drawing(figure, caption, alt, _drawn(rows, target, metric))


def overview_figure(results: pd.DataFrame, kinds: Mapping[str, str], baselines: pd.DataFrame | None = None) -> Drawing:
    """The answer in one picture: all targets, all sources, headline metric."""
    present = [target for target in TARGETS if (results["target"] == target).any()]
    figure, axes = new_figure(6.2, 2.75 * max(len(present), 1), rows=max(len(present), 1))
    alts, sizes, drawn, cut = [], [], [], ""
    with matplotlib.rc_context(STYLE):
        for axis, target in zip(axes[:, 0], present, strict=False):
            metric = HEADLINE[target]
            summary = tables.summarise(results, [metric], targets=[target])
            rows = _dots(axis, results, summary, target, metric, baselines)
            axis.set_title(f"{TARGET_TITLES[target]} ({METRIC_TITLES[metric]})")
            _limits(axis, metric)
            alts.append(f"{TARGET_TITLES[target]}, {METRIC_TITLES[metric]}: {_spoken(rows)}.")
            drawn.append(_drawn(rows, target, metric))
            cut = cut or _cut(rows, metric)
            sizes.append(_sized(target, kinds, rows.values()))
    lines = (
        " Vertical lines: what needs no network, marking where lesions or tissue usually are (dotted) or what is darker or brighter "
        "than one limit (dash-dotted), and the best score that the grid of the pictures allows (dashed)."
        if baselines is not None and len(baselines)
        else ""
    )
    words = [tables.TARGET_WORDS[t] for t in present] or ["nothing"]
    panels = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    caption = (
        f"How well one and the same network outlines {panels}, one panel each, after starting from different sources, one a row: "
        "random weights, ImageNet (photographs, a public network), or a training on natural pictures or on brain MRI in which it "
        "learned to name what a picture shows (classification), to outline it (segmentation) or to restore damaged pictures "
        "(self-supervised). Further right is better: a score (Dice, or mIoU for tissue) is 0 where the outline shares nothing with "
        "the one that it should be, and 1 where both are equal. Small points: one test person each, the mean over seeds, which are "
        "repetitions with other random numbers. Large mark and bar: the mean, and its 95 % interval, a range made to hold the true "
        f"mean in 95 of 100 such studies.{cut} {_sentence(sizes)}. Orange: natural pictures; blue: MRI.{lines}"
    )
    data = pd.concat(drawn, ignore_index=True) if drawn else None
    return Drawing(figure, caption, "Mean and 95 % interval by source. " + " ".join(alts), data)


def detection_figure(results: pd.DataFrame, target: str, kinds: Mapping[str, str]) -> Drawing:
    """Lesion detection on one target: sensitivity (primary) above false positives a scan."""
    figure, axes = new_figure(6.2, 6.6, rows=2)
    spoken, drawn, cut = [], [], ""
    rows: dict[str, dict[str, Any]] = {}
    with matplotlib.rc_context(STYLE):
        for axis, metric in zip(axes[:, 0], ("lesion_sensitivity", "fp_per_scan"), strict=True):
            summary = tables.summarise(results, [metric], targets=[target])
            found = _dots(axis, results, summary, target, metric, None)
            rows = rows or found
            drawn.append(_drawn(found, target, metric))
            _limits(axis, metric)
            cut = cut or _cut(found, metric)
            axis.set_title(METRIC_TITLES[metric])
            spoken.append(f"{METRIC_TITLES[metric]}: {_spoken(found)}")
    caption = (
        f"{TARGET_TITLES[target]}: share of lesions found in each person (above) and false positives a scan (below). "
        f"{kind_words(kinds, target)}; {_sizes(rows.values())}. Lesions are pieces of at least 3 mm³ that hang together over faces, edges "
        "or corners; one is found when at least 10 % of it is covered by true predicted lesions. "
        f"Small points: one person each, mean over seeds. Large mark and bar: mean and its 95 % interval.{cut}"
    )
    alt = f"{TARGET_TITLES[target]}, lesion detection by source. {'. '.join(spoken)}."
    return Drawing(figure, caption, alt, pd.concat(drawn, ignore_index=True))


def froc_figure(froc: pd.DataFrame, results: pd.DataFrame, target: str, kinds: Mapping[str, str]) -> Drawing:
    """Sensitivity against false positives a scan as the threshold moves.

    froc: columns target, source, threshold, sensitivity, fp_per_scan (means over subjects and seeds). results: long form,
    which tells how many people and seeds these are means of.
    """
    metric = "lesion_sensitivity"
    sizes = _sizes(rows_of_target(tables.summarise(results, [metric], targets=[target]), target, metric).values())
    figure, axes = new_figure(6.2, 4.6)
    axis = axes[0, 0]
    part = froc[froc["target"] == target]
    with matplotlib.rc_context(STYLE):
        for source in SOURCES:
            line = part[part["source"] == source].sort_values("threshold")
            if len(line):
                axis.plot(
                    line["fp_per_scan"],
                    line["sensitivity"],
                    color=COLOURS[source],
                    marker=marker(source),
                    markersize=4,
                    label=SOURCE_TITLES[source],
                )
        axis.set_xscale("symlog", linthresh=1)
        low, high = axis.get_xlim()
        ticks = [t for t in (0, 0.5, *(m * 10**e for e in range(5) for m in (1, 2, 5))) if low <= t <= high]
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])  # by name: powers of ten alone may leave one tick
        axis.minorticks_off()
        axis.set_xlabel("false positives a scan")
        axis.set_ylabel("lesion sensitivity")
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    caption = (
        f"{TARGET_TITLES[target]}: lesion sensitivity against false positives a scan (FROC). "
        f"{kind_words(kinds, target)}; {sizes}. Each mark is one "
        "probability threshold; means over people and seeds. The study's own threshold is .5."
    )
    return Drawing(
        figure,
        caption,
        f"One rising curve a source. Thresholds from {part['threshold'].min():g} to {part['threshold'].max():g}.",
        part,
    )


def samples_figure(results: pd.DataFrame, kinds: Mapping[str, str]) -> Drawing:
    """Headline accuracy against the number of unique pre-training images (log axis; scratch at the left edge)."""
    kept = results[(results["arm"] == "main") | results["arm"].str.startswith("size_")]
    present = [t for t in TARGETS if (kept["target"] == t).any()]
    figure, axes = new_figure(6.2, 2.6 * max(len(present), 1) + 0.6, rows=max(len(present), 1))
    sizes = sorted({int(n) for n in kept["n_source"] if n > 0})
    zero = (sizes[0] if sizes else 10) / 4
    spoken, drawn, sizes_of, joined = [], [], [], ""
    with matplotlib.rc_context(STYLE):
        for axis, target in zip(axes[:, 0], present, strict=False):
            metric = HEADLINE[target]
            tested: list[dict[str, Any]] = []
            sharing = kept[kept["target"] == target].groupby("n_source")["source"].nunique()
            for source in SOURCES:
                cell = kept[(kept["source"] == source) & (kept["target"] == target)]
                points = []
                for (arm, n_source), _ in cell.groupby(["arm", "n_source"]):
                    row = rows_of_target(
                        tables.summarise(cell, [metric], targets=[target], arm=str(arm)), target, metric
                    ).get(source)
                    if row and math.isfinite(row["mean"]):
                        points.append((int(n_source), row))
                        tested.append(row)
                places = []
                for step, (n_source, row) in enumerate(sorted(points, key=lambda p: p[0])):
                    # sources with equal sizes are moved apart by a few per cent so that none hides another
                    place = (n_source or zero) * 1.09 ** (SOURCES.index(source) - 4.5 if sharing[n_source] > 1 else 0)
                    places.append((place, row["mean"]))
                    axis.plot(
                        [place, place],
                        [row["lower"], row["upper"]],
                        color=COLOURS[source],
                        linewidth=2.2,
                        solid_capstyle="round",
                    )
                    axis.plot(
                        place,
                        row["mean"],
                        marker=marker(source),
                        color=COLOURS[source],
                        markersize=7,
                        linestyle="none",
                        label=SOURCE_TITLES[source] if not step else None,
                        markeredgecolor="white",
                    )
                    spoken.append(
                        f"{TARGET_TITLES[target]}, {SOURCE_TITLES[source]}, {n_source:,} images: {number(row['mean'])}"
                    )
                    cell_of = {"target": target, "metric": metric, "source": source, "images": n_source}
                    drawn.append(cell_of | mean_and_interval(row))
                if len(places) > 1:
                    axis.plot(*zip(*places, strict=True), color=COLOURS[source], linewidth=1, zorder=1)
                    joined = " A line joins the sizes of one source."
            sizes_of.append(_sized(target, kinds, tested))
            axis.set_title(f"{TARGET_TITLES[target]} ({METRIC_TITLES[metric]})")
            ticks = [zero, *[10**e for e in range(1, 8) if zero < 10**e <= 2e6]]
            count_axis(axis, ticks, ["0", *[f"{t:,}" for t in ticks[1:]]])
        axes[-1, 0].set_xlabel("unique pre-training images (logarithmic)")
        source_legend(figure, axes)
    caption = (
        f"Accuracy against the number of unique pre-training images. {_sentence(sizes_of)}. Mark and bar: mean and its 95 % interval over people and "
        f"seeds. Sources of equal size are drawn side by side.{joined} The axis is logarithmic; random weights stand at 0. "
        "ImageNet differs from the others in much besides its size."
    )
    return Drawing(figure, caption, ". ".join(spoken) + ".", pd.DataFrame(drawn))


def claims_figure(contrasts: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> Drawing:
    """The contrasts of `claims.json` as a forest: estimate, interval, margin; entries without estimate stay out."""
    rows = [c for c in contrasts if isinstance(c.get("estimate"), int | float) and math.isfinite(c["estimate"])]
    panels: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for c in rows:
        panels.setdefault((str(c["claim"]), str(c["target"]), str(c["A"])), []).append(c)
    heights = [len(part) + 1.6 for part in panels.values()] or [2.6]
    figure, axes = new_figure(6.4, 0.29 * sum(heights) + 0.4, rows=len(heights), height_ratios=heights)
    spoken = []
    with matplotlib.rc_context(STYLE):
        for axis, ((claim, target, a), part) in zip(axes[:, 0], panels.items(), strict=False):
            for place, c in enumerate(part):
                colour = COLOURS.get(str(c["B"]), "#333333")
                low, high = (
                    float(v) if isinstance(v, int | float) else math.nan for v in (c.get("lower"), c.get("upper"))
                )
                margin = c.get("margin")
                if isinstance(margin, int | float):
                    axis.barh(place, 2 * margin, left=-margin, height=0.7, color="#d9d9d9", zorder=1)
                axis.plot([low, high], [place, place], color=colour, linewidth=2.5, solid_capstyle="round", zorder=3)
                style = {"marker": marker(str(c["B"])), "color": colour, "markersize": 7, "markeredgecolor": "white"}
                axis.plot(c["estimate"], place, zorder=4, **style)
                said = tables.with_interval(float(c["estimate"]), low, high, 3)
                spoken.append(f"{_claim(claim)}, {target}, {short_title(a)} − {short_title(str(c['B']))}: {said}")
            title = f"{_claim(claim)}, {tables.TARGET_WORDS.get(target, target)}: {short_title(a)} minus"
            axis.set_title(title[0].upper() + title[1:], fontsize=10.5)
            axis.axvline(0, color="#333333", linewidth=1)
            axis.set_yticks(range(len(part)), [tables.source_title(str(c["B"])) for c in part], fontsize=9.5)
            axis.tick_params(axis="x", labelsize=9.5)
            axis.set_ylim(len(part) - 0.4, -0.6)
            axis.grid(axis="y", visible=False)
    sizes = {t: [{"n": c["n_subjects"], "seeds": c["n_seeds"]} for c in rows if c["target"] == t] for t in TARGETS}
    where = _sentence([_sized(target, kinds, counts) for target, counts in sizes.items() if counts])
    caption = (
        "Every contrast of the three claims: the source in the title minus the one in the row, in the metric of the target, with "
        "its interval (95 %; claim 2: 90 %). Each panel has its own scale. "
        f"{where + '. ' if where else ''}Grey band: the margin that was "
        "fixed before the first score. To the right of zero the source in the title is higher."
    )
    told = ("claim", "target", "metric", "A", "B", "estimate", "lower", "upper", "margin")
    data = pd.DataFrame([{name: c.get(name) for name in told} for c in rows], columns=list(told))
    return Drawing(figure, caption, "Differences with intervals. " + "; ".join(spoken) + ".", data)


def _claim(name: object) -> str:
    """ "claim1" -> "claim 1"."""
    return str(name).replace("claim", "claim ")


VERDICT_COLOURS = {"supported": "#009e73", "inconclusive": "#bdbdbd", "not supported": "#d55e00", "not run": "#ececec"}


#: What `claims.robustness` says of the gates -> title of its panel.
_GATES = {"kept": "by the rules", "left aside": "by the intervals alone"}


def robustness_figure(choices: pd.DataFrame, kinds: Mapping[str, str]) -> Drawing:
    """In which share of the analysis choices each verdict holds, one bar a claim and target; with and without the gates.

    choices: `claims.robustness` (columns claim, target, gates, scoring, verdict, planned, one row a choice); an illustration
    counts as the verdict that it illustrates. A dot marks what the rules as committed give.
    """
    plain = choices["verdict"].str.replace("illustration: the rule would say ", "").str.replace("_", " ")
    table = choices.assign(verdict=plain.where(plain.isin(list(VERDICT_COLOURS)), "not run"))
    bars = dict.fromkeys(zip(table["claim"], table["target"], strict=True))
    words = {"all": "all targets", **tables.TARGET_WORDS}
    labels = [f"{_claim(claim)}, {words.get(target, target)}" for claim, target in bars]
    figure, axes = new_figure(7.4, 0.34 * max(len(bars), 1) + 1.5, columns=2)
    spoken = []
    with matplotlib.rc_context(STYLE):
        for axis, (gates, title) in zip(axes[0], _GATES.items(), strict=True):
            for place, ((claim, target), label) in enumerate(zip(bars, labels, strict=True)):
                part = table[(table["claim"] == claim) & (table["target"] == target) & (table["gates"] == gates)]
                left = 0.0
                said = []
                for verdict, colour in VERDICT_COLOURS.items() if len(part) else ():
                    share = float((part["verdict"] == verdict).mean())
                    if share:
                        axis.barh(place, share, left=left, color=colour, edgecolor="white", height=0.7, zorder=2)
                        said.append(f"{verdict} {share:.0%}")
                        if (part.loc[part["planned"].astype(str) == "True", "verdict"] == verdict).any():
                            axis.plot(left + share / 2, place, marker="o", color="black", markersize=5, zorder=3)
                    left += share
                spoken.append(f"{label}, {title}: {', '.join(said)}")
            axis.set_yticks(range(len(bars)), labels if axis is axes[0, 0] else [])
            axis.set_ylim(len(bars) - 0.4, -0.6)
            axis.set_xlim(0, 1)
            axis.set_xlabel("share of the choices")
            axis.set_title(title)
            axis.grid(axis="y", visible=False)
        illustrated = bool(choices["verdict"].str.startswith("illustration").any())
        if illustrated:
            figure.suptitle("Illustration, not a verdict", fontsize=11)
        keys = [Patch(color=colour, label=verdict) for verdict, colour in VERDICT_COLOURS.items()]
        figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=9)
    where = "; ".join(dict.fromkeys(kind_words(kinds, t) for t in TARGETS if t in kinds))
    caption = (
        f"How far the answer to each claim hangs on our choices: in which share of {_ways(table)} each verdict holds. Tried were "
        f"{_scorings(table)}the second metric (IoU or Dice; F1 for sensitivity) and half and double the margin. Left: by the "
        "rules, where a failed gate makes a target inconclusive. Right: what the intervals alone would say, gates left aside, "
        f"which is no verdict. {where}. Dot: the choice fixed beforehand."
        f"{' On simulated data these are illustrations.' if illustrated else ''}"
    )
    return Drawing(figure, caption, f"One bar a claim and target. {'; '.join(spoken)}.", table)


def _ways(choices: pd.DataFrame) -> str:
    """ "12 ways to judge", or "12 (claim 2: 21) ways to judge" where a claim was asked in more ways than the others."""
    n = choices[choices["gates"] == "kept"].groupby(["claim", "target"]).size().groupby("claim").max()
    most = int(n.mode().iloc[0])
    others = [f"{_claim(claim)}: {count}" for claim, count in n.items() if count != most]
    return f"{most} ({', '.join(others)}) ways to judge" if others else f"{most} ways to judge"


#: Rules of detection as a caption names them.
_RULES = {MSSEG: "MSSEG-2016's", ATLAS: "ATLAS's, one voxel", HALF: "half of it covered"}


def _scorings(choices: pd.DataFrame) -> str:
    """What `compare.rescored` tried, in words that end with a comma; "" where it tried nothing."""
    names = [str(name) for name in choices["scoring"].unique()]
    words = "one sum over all people instead of the mean over them, " if POOLED in names else ""
    thresholds = [name.removeprefix(AT_THRESHOLD) for name in names if name.startswith(AT_THRESHOLD)]
    words += f"lesions at the thresholds {', '.join(thresholds)} beside 0.5, " if thresholds else ""
    rules = [said for name, said in _RULES.items() if name in names]
    return words + (f"other rules of when a lesion is found ({'; '.join(rules)}), " if rules else "")
