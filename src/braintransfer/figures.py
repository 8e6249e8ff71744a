"""The figures of the book: no global state, each with a caption and an alternative text that hold its numbers."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from braintransfer import tables
from braintransfer.provenance import atomic_write_bytes, atomic_write_json
from braintransfer.study import CLASS_TITLES, CLASSES, DETECTED, HEADLINE, SOURCES, TARGETS
from braintransfer.tables import METRIC_TITLES, SOURCE_TITLES, TARGET_TITLES, number

#: One hue a domain (natural orange, MRI blue), one shade a task, grey for scratch, black for ImageNet. Orange and blue
#: stay apart for every common kind of colour blindness; the marker says the task once more.
COLOURS = {
    "scratch": "#767676",
    "imagenet": "#000000",
    "natural-classification": "#f08a24",
    "natural-segmentation": "#8c3002",
    "natural-selfsupervised": "#cc5a0a",
    "mri-classification": "#5aa0d0",
    "mri-segmentation": "#08306b",
    "mri-selfsupervised": "#2070b4",
}
MARKERS = {"classification": "o", "segmentation": "s", "selfsupervised": "^", "scratch": "X", "imagenet": "D"}
#: Okabe and Ito's colours for hits and misses in pictures.
HIT, FALSE, MISSED = "#56b4e9", "#d55e00", "#f0e442"
CLASS_COLOURS = {"csf": "#56b4e9", "gm": "#e69f00", "wm": "#009e73", "lesion": HIT}

KIND_TITLES = {
    "simulated": "Simulated data",
    "semi-synthetic": "Semi-synthetic: real anatomy, real lesion shapes, simulated contrast",
    "composited": "Composited from real photographs",
    "real": "Real scans",
}
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "braintransfer",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption (can be read alone) and its alternative text (says what there is to see, with numbers).

    As the last line of a notebook cell it shows itself, with the alternative text in the output's metadata.
    """

    figure: Figure
    caption: str
    alt: str

    def png(self) -> bytes:
        """The figure as a small PNG (256 colours)."""
        from PIL import Image

        raw = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            _freeze(self.figure)
            self.figure.savefig(raw, format="png", dpi=120)
        small = io.BytesIO()
        Image.open(raw).convert("RGB").quantize(256).save(small, format="png")
        return small.getvalue()

    def svg(self) -> bytes:
        """The figure as SVG without date or random names: equal figures are equal bytes."""
        raw = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            _freeze(self.figure)
            self.figure.savefig(raw, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
        return raw.getvalue()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def _freeze(figure: Figure) -> None:
    # The layout is found once: finding it again for each file format would double the time of every figure.
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def save(drawing: Drawing, folder: Path, name: str) -> None:
    """Write `name.svg`, `name.png` and `name.json` (caption, alt) into `folder`."""
    atomic_write_bytes(folder / f"{name}.svg", drawing.svg())
    atomic_write_bytes(folder / f"{name}.png", drawing.png())
    atomic_write_json(folder / f"{name}.json", {"caption": drawing.caption, "alt": drawing.alt})


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, np.ndarray]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def marker(source: str) -> str:
    return MARKERS.get(source, MARKERS.get(source.partition("-")[2], "o"))


def _people(n: int) -> str:
    return f"{n} person" if n == 1 else f"{n} people"


def _seeds(n: int) -> str:
    return f"{n} seed" if n == 1 else f"{n} seeds"


def _kind(kinds: Mapping[str, str], target: str) -> str:
    return KIND_TITLES.get(kinds.get(target, ""), kinds.get(target, "")) or "Kind of data not stated"


def _of_target(summary: pd.DataFrame, target: str, metric: str) -> dict[str, dict[str, Any]]:
    part = summary[(summary["target"] == target) & (summary["metric"] == metric) & (summary["class"] == "")]
    return {str(row["source"]): {str(k): v for k, v in row.items()} for row in part.to_dict("records")}


# ------------------------------------------------------------------------------------------- accuracy, source by source
def _dots(
    axis: Axes, results: pd.DataFrame, summary: pd.DataFrame, target: str, metric: str, baselines: pd.DataFrame | None
) -> dict[str, dict[str, Any]]:
    """One row a source: every subject's point (mean over seeds), the mean and its 95 % interval."""
    rows = _of_target(summary, target, metric)
    results = results[(results["target"] == target) & (results["metric"] == metric)]
    shown = [source for source in SOURCES if source in rows]
    for place, source in enumerate(shown):
        colour, row = COLOURS[source], rows[source]
        points = tables.subject_by_seed(results, source, target, metric).mean(axis=1).dropna().sort_index()
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
        marks = _of_target(baselines, target, metric)
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


def _limits(axis: Axes) -> None:
    low, high = axis.get_xlim()
    axis.set_xlim(max(low, -0.02), min(high, 1.02))


def _spoken(rows: Mapping[str, Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{SOURCE_TITLES[s]} {tables.with_interval(rows[s]['mean'], rows[s]['lower'], rows[s]['upper'])}"
        for s in SOURCES
        if s in rows
    )


def _sizes(rows: Mapping[str, Mapping[str, Any]]) -> str:
    if not rows:
        return "nobody tested"
    people, seeds = (max(int(r[name]) for r in rows.values()) for name in ("n", "seeds"))
    return f"{_people(people)} tested, {_seeds(seeds)}"


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
    figure, axes = _figure(6.2, 3.9)
    axis = axes[0, 0]
    with matplotlib.rc_context(_STYLE):
        rows = _dots(axis, results, summary, target, metric, baselines)
        axis.set_xlabel(METRIC_TITLES[metric])
        if metric != "fp_per_scan":
            _limits(axis)
        if axis.get_legend_handles_labels()[0]:
            figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    title = METRIC_TITLES[metric]
    lines = (
        " Dotted, dash-dotted and dashed lines: prior map, one threshold, resolution ceiling."
        if axis.get_legend_handles_labels()[0]
        else ""
    )
    caption = (
        f"{TARGET_TITLES[target]}: {title} after fine-tuning from each source. {_kind(kinds, target)}; {_sizes(rows)}. "
        "Small points: one person each, mean over seeds. Large mark and bar: mean and its 95 % interval over "
        f"people and seeds.{lines}"
    )
    return Drawing(
        figure, caption, f"{TARGET_TITLES[target]}, mean {title} with 95 % interval by source: {_spoken(rows)}."
    )


def overview_figure(results: pd.DataFrame, kinds: Mapping[str, str], baselines: pd.DataFrame | None = None) -> Drawing:
    """The answer in one picture: all targets, all sources, headline metric."""
    present = [target for target in TARGETS if (results["target"] == target).any()]
    figure, axes = _figure(6.2, 2.75 * max(len(present), 1), rows=max(len(present), 1))
    alts, sizes = [], []
    with matplotlib.rc_context(_STYLE):
        for axis, target in zip(axes[:, 0], present, strict=False):
            metric = HEADLINE[target]
            summary = tables.summarise(results, [metric], targets=[target])
            rows = _dots(axis, results, summary, target, metric, baselines)
            axis.set_title(f"{TARGET_TITLES[target]} ({METRIC_TITLES[metric]})")
            _limits(axis)
            alts.append(f"{TARGET_TITLES[target]}, {METRIC_TITLES[metric]}: {_spoken(rows)}.")
            sizes.append(
                f"{tables.TARGET_WORDS[target]}: {_sizes(rows)} "
                f"({_kind(kinds, target)[0].lower()}{_kind(kinds, target)[1:]})"
            )
    lines = (
        " Vertical lines: prior map (dotted), one threshold (dash-dotted), resolution ceiling (dashed)."
        if baselines is not None and len(baselines)
        else ""
    )
    sentence = "; ".join(sizes)
    sentence = sentence[:1].upper() + sentence[1:]
    caption = (
        f"Accuracy on each target after fine-tuning from each source. {sentence}. Small points: one person each, "
        "mean over "
        "seeds. Large mark and bar: mean and its 95 % interval over people and seeds. Orange: natural images; "
        f"blue: MRI.{lines}"
    )
    return Drawing(figure, caption, "Mean and 95 % interval by source. " + " ".join(alts))


def detection_figure(results: pd.DataFrame, target: str, kinds: Mapping[str, str]) -> Drawing:
    """Lesion detection on one target: sensitivity (primary) above false positives a scan."""
    figure, axes = _figure(6.2, 6.6, rows=2)
    spoken = []
    rows: dict[str, dict[str, Any]] = {}
    with matplotlib.rc_context(_STYLE):
        for axis, metric in zip(axes[:, 0], ("lesion_sensitivity", "fp_per_scan"), strict=True):
            summary = tables.summarise(results, [metric], targets=[target])
            found = _dots(axis, results, summary, target, metric, None)
            rows = rows or found
            axis.set_title(METRIC_TITLES[metric])
            spoken.append(f"{METRIC_TITLES[metric]}: {_spoken(found)}")
        _limits(axes[0, 0])
    caption = (
        f"{TARGET_TITLES[target]}: share of lesions found in each person (above) and false positives a scan (below). "
        f"{_kind(kinds, target)}; {_sizes(rows)}. Lesions are 26-connected, at least 3 mm³; found means at least "
        "10 % covered. "
        "Small points: one person each, mean over seeds. Large mark and bar: mean and its 95 % interval."
    )
    return Drawing(figure, caption, f"{TARGET_TITLES[target]}, lesion detection by source. {'. '.join(spoken)}.")


def froc_figure(froc: pd.DataFrame, target: str, kinds: Mapping[str, str]) -> Drawing:
    """Sensitivity against false positives a scan as the threshold moves.

    froc: columns target, source, threshold, sensitivity, fp_per_scan (means over subjects and seeds).
    """
    figure, axes = _figure(6.2, 4.6)
    axis = axes[0, 0]
    part = froc[froc["target"] == target]
    with matplotlib.rc_context(_STYLE):
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
        axis.set_xlabel("false positives a scan")
        axis.set_ylabel("lesion sensitivity")
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    caption = (
        f"{TARGET_TITLES[target]}: lesion sensitivity against false positives a scan (FROC). "
        f"{_kind(kinds, target)}. Each mark is one "
        "probability threshold; means over people and seeds. The study's own threshold is .5."
    )
    return Drawing(
        figure,
        caption,
        f"One rising curve a source. Thresholds from {part['threshold'].min():g} to {part['threshold'].max():g}.",
    )


# ---------------------------------------------------------------------------------------------------- learning curves
def read_histories(run: Path, arm: str = "main") -> pd.DataFrame:
    """All `history.csv` of a run: columns stage (pretrain | finetune), source, target, fold, seed, step, loss.

    A history has the columns step and loss (others are left alone); its place in the folders says the rest.
    """
    frames = []
    for path in sorted((run / "sources" / arm).glob("*/seed-*/history.csv")):
        frames.append(
            _history(path).assign(
                stage="pretrain", source=path.parts[-3], target="", fold=0, seed=_tail(path.parts[-2])
            )
        )
    for path in sorted((run / "targets" / arm).glob("*/*/fold-*/seed-*/history.csv")):
        frames.append(
            _history(path).assign(
                stage="finetune",
                source=path.parts[-4],
                target=path.parts[-5],
                fold=_tail(path.parts[-3]),
                seed=_tail(path.parts[-2]),
            )
        )
    columns = ["stage", "source", "target", "fold", "seed", "step", "loss"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _history(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path)
    return frame if "step" in frame else frame.assign(step=np.arange(len(frame)))


def _tail(name: str) -> int:
    return int(name.rpartition("-")[2])


def learning_curves_figure(histories: pd.DataFrame, stage: str, kinds: Mapping[str, str]) -> Drawing:
    """Training loss against step, mean over folds and seeds, smoothed; `stage` is "pretrain" or "finetune"."""
    part = histories[histories["stage"] == stage]
    groups = (
        [t for t in TARGETS if (part["target"] == t).any()]
        if stage == "finetune"
        else ["classification", "segmentation", "selfsupervised"]
    )
    groups = groups or [""]
    figure, axes = _figure(6.2, 2.5 * len(groups) + 0.6, rows=len(groups))
    ends = []
    with matplotlib.rc_context(_STYLE):
        for axis, group in zip(axes[:, 0], groups, strict=True):
            for source in SOURCES:
                lines = part[part["source"] == source]
                lines = (
                    lines[lines["target"] == group]
                    if stage == "finetune"
                    else lines[lines["source"].str.endswith(f"-{group}")]
                )
                if lines.empty:
                    continue
                curve = lines.groupby("step")["loss"].mean()
                smooth = curve.rolling(max(len(curve) // 25, 1), min_periods=1, center=True).mean()
                axis.plot(smooth.index, smooth, color=COLOURS[source], linewidth=1.8, label=SOURCE_TITLES[source])
                axis.plot(smooth.index[-1], smooth.iloc[-1], marker=marker(source), color=COLOURS[source], markersize=6)
                ends.append(
                    f"{TARGET_TITLES.get(group, group)} from {SOURCE_TITLES[source]} ends at "
                    f"{number(float(smooth.iloc[-1]))}"
                )
            axis.set_title(TARGET_TITLES.get(group, group.replace("selfsupervised", "self-supervised")))
            axis.set_ylabel("training loss")
        axes[-1, 0].set_xlabel("training step")
        handles = {h.get_label(): h for axis in axes[:, 0] for h in axis.get_legend_handles_labels()[0]}
        figure.legend(
            handles=[handles[SOURCE_TITLES[s]] for s in SOURCES if SOURCE_TITLES[s] in handles],
            loc="outside lower center",
            ncols=2,
            fontsize=9,
        )
    what = "fine-tuning on each target" if stage == "finetune" else "pre-training, one panel a task"
    where = sorted({_kind(kinds, t) for t in groups}) if stage == "finetune" else []
    seeds = part["seed"].nunique()
    caption = (
        f"Learning curves of {what}: training loss, mean over folds and {_seeds(seeds)}, smoothed over a "
        "twenty-fifth of the steps. "
        + (f"{'; '.join(where)}. " if where else "Losses of different tasks have different units. ")
        + "A lower training loss is not a better score on people the network has not seen."
    )
    return Drawing(figure, caption, f"Loss falls with training. {'; '.join(ends)}.")


def samples_figure(results: pd.DataFrame, kinds: Mapping[str, str]) -> Drawing:
    """Headline accuracy against the number of unique pre-training images (log axis; scratch at the left edge)."""
    kept = results[(results["arm"] == "main") | results["arm"].str.startswith("size_")]
    present = [t for t in TARGETS if (kept["target"] == t).any()]
    figure, axes = _figure(6.2, 2.6 * max(len(present), 1) + 0.6, rows=max(len(present), 1))
    sizes = sorted({int(n) for n in kept["n_source"] if n > 0})
    zero = (sizes[0] if sizes else 10) / 4
    spoken = []
    with matplotlib.rc_context(_STYLE):
        for axis, target in zip(axes[:, 0], present, strict=False):
            metric = HEADLINE[target]
            for source in SOURCES:
                cell = kept[(kept["source"] == source) & (kept["target"] == target)]
                points = []
                for (arm, n_source), _ in cell.groupby(["arm", "n_source"]):
                    row = _of_target(
                        tables.summarise(cell, [metric], targets=[target], arm=str(arm)), target, metric
                    ).get(source)
                    if row and math.isfinite(row["mean"]):
                        points.append((int(n_source), row))
                for step, (n_source, row) in enumerate(sorted(points, key=lambda p: p[0])):
                    # sources with equal sizes are moved apart by a few per cent so that none hides another
                    place = (n_source or zero) * 1.09 ** (
                        SOURCES.index(source) - 4.5 if n_source and source != "imagenet" else 0
                    )
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
            axis.set_xscale("log")
            axis.set_title(f"{TARGET_TITLES[target]} ({METRIC_TITLES[metric]})")
            ticks = [zero, *[10**e for e in range(1, 8) if zero < 10**e <= 2e6]]
            axis.set_xticks(ticks, ["0", *[f"{t:,}" for t in ticks[1:]]])
            axis.minorticks_off()
        axes[-1, 0].set_xlabel("unique pre-training images (logarithmic)")
        handles = {h.get_label(): h for axis in axes[:, 0] for h in axis.get_legend_handles_labels()[0]}
        figure.legend(
            handles=[handles[SOURCE_TITLES[s]] for s in SOURCES if SOURCE_TITLES[s] in handles],
            loc="outside lower center",
            ncols=2,
            fontsize=9,
        )
    where = "; ".join(dict.fromkeys(_kind(kinds, t) for t in present))
    caption = (
        f"Accuracy against the number of unique pre-training images. {where}. Mark and bar: mean and its 95 % "
        "interval over people and "
        "seeds. Sources of equal size are drawn side by side. The axis is logarithmic; random weights stand at 0. "
        "ImageNet differs from the others in much besides its size."
    )
    return Drawing(figure, caption, ". ".join(spoken) + ".")


def claims_figure(contrasts: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> Drawing:
    """The contrasts of `claims.json` as a forest: estimate, interval, margin; entries without estimate stay out."""
    rows = [c for c in contrasts if isinstance(c.get("estimate"), int | float) and math.isfinite(c["estimate"])]
    figure, axes = _figure(6.4, 0.34 * max(len(rows), 1) + 1.3)
    axis = axes[0, 0]
    labels, spoken = [], []
    with matplotlib.rc_context(_STYLE):
        for place, c in enumerate(rows):
            colour = COLOURS.get(str(c["B"]), "#333333")
            low, high = (float(v) if isinstance(v, int | float) else math.nan for v in (c.get("lower"), c.get("upper")))
            margin = c.get("margin")
            if isinstance(margin, int | float):
                axis.plot(
                    [-margin, margin], [place, place], color="#d9d9d9", linewidth=9, solid_capstyle="butt", zorder=1
                )
            axis.plot([low, high], [place, place], color=colour, linewidth=2.5, solid_capstyle="round", zorder=3)
            axis.plot(
                c["estimate"],
                place,
                marker=marker(str(c["B"])),
                color=colour,
                markersize=7,
                markeredgecolor="white",
                zorder=4,
            )
            labels.append(f"{c['claim']} · {c['target']} · {_short(str(c['A']))} − {_short(str(c['B']))}")
            spoken.append(f"{labels[-1]}: {tables.with_interval(float(c['estimate']), low, high, 3)}")
        axis.axvline(0, color="#333333", linewidth=1)
        axis.set_yticks(range(len(rows)), labels, fontsize=8)
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("difference in the metric named in the table")
    where = "; ".join(dict.fromkeys(_kind(kinds, str(c["target"])) for c in rows if str(c["target"]) in kinds))
    caption = (
        "Every contrast of the three claims: A minus B with its interval (95 %; claim 2: 90 %). "
        f"{where + '. ' if where else ''}Grey band: the margin that was "
        "fixed before the first score. To the right of zero A is higher."
    )
    return Drawing(figure, caption, "Differences with intervals. " + "; ".join(spoken) + ".")


VERDICT_COLOURS = {"supported": "#009e73", "inconclusive": "#bdbdbd", "not supported": "#d55e00", "not run": "#ececec"}


def robustness_figure(choices: pd.DataFrame, kinds: Mapping[str, str]) -> Drawing:
    """In which share of the analysis choices each verdict holds, one bar a claim and target.

    choices: `claims.robustness` (columns claim, target, verdict, planned, one row a choice); an illustration counts as
    the verdict that it illustrates. A dot marks what the rules as committed give.
    """
    plain = choices["verdict"].str.replace("illustration: the rule would say ", "").str.replace("_", " ")
    plain = plain.where(plain.isin(list(VERDICT_COLOURS)), "not run")
    table = choices.assign(verdict=plain)
    bars = list(table.groupby(["claim", "target"], sort=False))
    figure, axes = _figure(6.2, 0.34 * max(len(bars), 1) + 1.3)
    axis = axes[0, 0]
    labels, spoken = [], []
    with matplotlib.rc_context(_STYLE):
        for place, ((claim, target), part) in enumerate(bars):
            left = 0.0
            said = []
            for verdict, colour in VERDICT_COLOURS.items():
                share = float((part["verdict"] == verdict).mean())
                if share:
                    axis.barh(place, share, left=left, color=colour, edgecolor="white", height=0.7, zorder=2)
                    said.append(f"{verdict} {share:.0%}")
                    if (part.loc[part["planned"].astype(str) == "True", "verdict"] == verdict).any():
                        axis.plot(left + share / 2, place, marker="o", color="black", markersize=5, zorder=3)
                left += share
            labels.append(f"{claim} · {'all targets' if target == 'all' else TARGET_TITLES.get(target, target)}")
            spoken.append(f"{labels[-1]}: {', '.join(said)}")
        axis.set_yticks(range(len(bars)), labels)
        axis.set_ylim(len(bars) - 0.4, -0.6)
        axis.set_xlim(0, 1)
        axis.set_xlabel("share of the analysis choices")
        if choices["verdict"].str.startswith("illustration").any():
            axis.set_title("Illustration, not a verdict")
        axis.grid(axis="y", visible=False)
        keys = [Patch(color=colour, label=verdict) for verdict, colour in VERDICT_COLOURS.items()]
        figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=9)
    n = int(table.groupby(["claim", "target"]).size().max()) if len(table) else 0
    where = "; ".join(dict.fromkeys(_kind(kinds, t) for t in TARGETS if t in kinds))
    caption = (
        f"How far the answer to each claim hangs on our choices: share of {n} choices (scoring, metric, half, planned or "
        f"double margin) in which each verdict holds. {where}. Dot: the rules as fixed. On simulated data these are "
        "illustrations, not verdicts."
    )
    return Drawing(figure, caption, f"One bar a claim and target. {'; '.join(spoken)}.")


def _short(source: str) -> str:
    return (
        source.replace("classification", "class.")
        .replace("segmentation", "segm.")
        .replace("selfsupervised", "self-sup.")
        .replace("natural", "nat.")
    )


# ------------------------------------------------------------------------------------------------------------ pictures
def _mosaic(
    pictures: Sequence[np.ndarray], titles: Sequence[str], columns: int, title_lines: int
) -> tuple[Figure, Axes, list[tuple[int, int]]]:
    """Pictures (H, W, 3) in 0..1 with a title each, as one image in one axis (ten axes would take ten times as long).

    Returns the figure, its axis in pixel coordinates, and the upper left corner (row, column) of each picture.
    """
    height, width = pictures[0].shape[:2] if len(pictures) else (1, 1)
    rows = max(math.ceil(len(pictures) / columns), 1)
    inches = 7.0
    gap = max(width // 24, 1)
    point = (columns * (width + gap)) / (inches * 72)  # pixels of the mosaic in one typographic point
    head = int(11 * point * title_lines + 5 * point)
    canvas = np.ones((rows * (height + head + gap), columns * (width + gap) - gap, 3))
    figure, axes = _figure(inches, inches * canvas.shape[0] / canvas.shape[1] + 0.35)
    axis: Axes = axes[0, 0]
    corners = []
    with matplotlib.rc_context(_STYLE):
        for k, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
            top, left = (k // columns) * (height + head + gap) + head, (k % columns) * (width + gap)
            canvas[top : top + height, left : left + width] = np.clip(picture, 0, 1)
            corners.append((top, left))
            axis.text(left + width / 2, top - 3 * point, title, ha="center", va="bottom", fontsize=9, linespacing=1.1)
        axis.imshow(canvas, interpolation="nearest")
        axis.axis("off")
    return figure, axis, corners


Example = tuple[np.ndarray, np.ndarray, np.ndarray]


def read_examples(
    run: Path, target: str, arm: str = "main", seed: int = 0, name: str = "examples"
) -> dict[str, dict[str, Example]]:
    """Example slices: source -> subject -> (image, reference, prediction), each (H, W) uint8, radiological display.

    Reads `fold-*/seed-<seed>/<name>.npz` (examples: test people; showcase: people shown one by one) with the arrays
    subjects (n,) text, images, references, predictions (n, H, W).
    """
    found: dict[str, dict[str, Example]] = {}
    for source in SOURCES:
        for path in sorted((run / "targets" / arm / target / source).glob(f"fold-*/seed-{seed}/{name}.npz")):
            with np.load(path, allow_pickle=False) as data:
                for k, subject in enumerate(data["subjects"]):
                    found.setdefault(source, {})[str(subject)] = (
                        data["images"][k],
                        data["references"][k],
                        data["predictions"][k],
                    )
    return found


#: Which examples are shown: the people at these percentiles of the mean score over all sources.
EXAMPLE_RULE = {"good": 90, "median": 50, "bad": 10}


def choose_examples(results: pd.DataFrame, target: str, available: Sequence[str]) -> dict[str, str]:
    """Good, median and bad subject: nearest to the 90th, 50th, 10th percentile of the mean over sources and seeds.

    Only subjects in `available` (with example slices) are candidates; the percentiles are those of the candidates.
    Fewer than three candidates give fewer examples: nobody is shown twice.
    """
    cell = results[
        (results["arm"] == "main")
        & (results["target"] == target)
        & (results["metric"] == HEADLINE[target])
        & (results["class"] == "")
    ]
    scores = cell[cell["subject"].isin(list(available))].groupby("subject")["value"].mean().dropna().sort_index()
    chosen: dict[str, str] = {}
    for name, percentile in EXAMPLE_RULE.items():
        left = scores.drop(list(chosen.values()))
        if len(left):
            aim = float(np.percentile(scores, percentile))
            chosen[name] = str((left - aim).abs().idxmin())
    return chosen


def _overlay(image: np.ndarray, reference: np.ndarray, prediction: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """RGB (H, W, 3) in 0..1. One class: hit, false, missed in three colours. Several: the classes predicted."""
    grey = np.repeat(image[..., None].astype(float) / 255, 3, axis=2)
    layers: list[tuple[np.ndarray, str]]
    if len(classes) == 1:
        truth, guess = reference > 0, prediction > 0
        layers = [(truth & guess, HIT), (guess & ~truth, FALSE), (truth & ~guess, MISSED)]
    else:
        layers = [(prediction == k + 1, CLASS_COLOURS[name]) for k, name in enumerate(classes)]
    for where, colour in layers:
        grey[where] = 0.35 * grey[where] + 0.65 * np.array(to_rgb(colour))
    return grey


def person_scores(results: pd.DataFrame, target: str, subject: str) -> dict[str, float]:
    """The headline score of one person by source, mean over seeds (NaN where there is none)."""
    scores = {}
    results = results[(results["target"] == target) & (results["subject"] == subject)]
    for source in SOURCES:
        values = tables.subject_by_seed(results, source, target, HEADLINE[target])
        scores[source] = float(values.loc[subject].mean()) if subject in values.index else math.nan
    return scores


def examples_figure(
    examples: Mapping[str, Mapping[str, Example]],
    target: str,
    subject: str,
    scores: Mapping[str, float],
    why: str,
    kind: str,
) -> Drawing:
    """One person: the scan, the reference and each source's prediction side by side (ten panels).

    scores: source -> the person's score on the whole volume, written under the source's name. why: the words that say
    how this person was chosen. kind: "simulated" | "semi-synthetic" | "real".
    """
    classes = CLASSES[target]
    metric = METRIC_TITLES[HEADLINE[target]]
    having = [source for source in SOURCES if subject in examples.get(source, {})]
    image, reference, _ = examples[having[0]][subject]
    panels: list[tuple[str, str, np.ndarray]] = [("scan", "", np.repeat(image[..., None] / 255.0, 3, axis=2))]
    panels.append(("reference", "", _overlay(image, reference, reference, classes)))
    for source in having:
        panels.append(
            (_short(source), number(scores.get(source, math.nan)), _overlay(*examples[source][subject], classes))
        )
    titles = [f"{name}\n{score_text}" if score_text else name for name, score_text, _ in panels]
    figure = _mosaic([picture for _, _, picture in panels], titles, columns=5, title_lines=2)[0]
    with matplotlib.rc_context(_STYLE):
        if len(classes) == 1:
            keys = [
                Patch(color=HIT, label="hit"),
                Patch(color=FALSE, label="false"),
                Patch(color=MISSED, label="missed"),
            ]
        else:
            keys = [Patch(color=CLASS_COLOURS[c], label=CLASS_TITLES[c]) for c in classes]
        figure.legend(handles=keys, loc="outside lower center", ncols=3, fontsize=9)
    caption = (
        f"{TARGET_TITLES[target]}: {why}. {KIND_TITLES.get(kind, kind)}. One axial slice, the subject's right on "
        "the left, seed 0; "
        f"under each name the {metric} of the whole volume, mean over seeds."
    )
    spoken = "; ".join(f"{SOURCE_TITLES[s]} {number(scores.get(s, math.nan))}" for s in having)
    return Drawing(
        figure, caption, f"The same slice in {len(panels)} panels: scan, reference, predictions. {metric}: {spoken}."
    )


def montage_figure(
    images: np.ndarray, masks: np.ndarray, titles: Sequence[str], what: str, kind: str, columns: int = 6
) -> Drawing:
    """Pictures of a data set with the outline of their masks.

    images: (N, H, W) or (N, H, W, 3) uint8; masks: (N, H, W) uint8; titles: N short texts ("" for none).
    what: the data set in words; kind: "simulated" | "semi-synthetic" | "real".
    """
    n = len(images)
    pictures = [
        image / 255.0 if image.ndim == 3 else np.repeat(image[..., None] / 255.0, 3, axis=2) for image in images
    ]
    figure, axis, corners = _mosaic(pictures, titles, columns=min(columns, max(n, 1)), title_lines=1)
    for mask, (top, left) in zip(masks, corners, strict=True):
        for value in sorted(set(np.unique(mask).tolist()) - {0}):
            colour = (
                MISSED
                if mask.max() == 1
                else (CLASS_COLOURS["csf"], CLASS_COLOURS["gm"], CLASS_COLOURS["wm"])[(int(value) - 1) % 3]
            )
            height, width = mask.shape
            x, y = np.arange(width) + left, np.arange(height) + top
            axis.contour(x, y, (mask == value).astype(float), levels=[0.5], colors=[colour], linewidths=1.0)
    share = float((masks > 0).mean()) if n else 0.0
    caption = (
        f"{what}. {KIND_TITLES.get(kind, kind)}. {n} pictures, evenly taken from the set; the line is the outline "
        "of the mask."
    )
    named = ", ".join(dict.fromkeys(t for t in titles if t))
    return Drawing(
        figure,
        caption,
        f"{n} pictures with outlined masks, which cover {share:.0%} of the area on "
        f"average{': ' + named if named else ''}.",
    )


# ------------------------------------------------------------------------------------------------------------ drawings
def _box(
    axis: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, text_colour: str = "white"
) -> None:
    axis.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.08", facecolor=colour, edgecolor="none"
        )
    )
    axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=text_colour, fontsize=10)


def network_figure(encoder: str = "tf_efficientnet_lite0") -> Drawing:
    """The network: what is transferred (encoder) and what starts alike in every source (decoder, head)."""
    figure, axes = _figure(6.2, 4.0)
    axis = axes[0, 0]
    with matplotlib.rc_context(_STYLE):
        axis.axis("off")
        axis.set_xlim(0, 10)
        axis.set_ylim(-0.2, 6.6)
        for k in range(5):
            y, width = 5.0 - k * 1.0, 3.3 - k * 0.5
            left, right = 0.5 + k * 0.25, 6.2 + k * 0.25
            _box(axis, left, y, width, 0.62, f"1/{2 ** (k + 1)}", COLOURS["mri-segmentation"])
            if k < 4:
                _box(axis, right, y, width, 0.62, f"1/{2 ** (k + 1)}", COLOURS["scratch"])
                axis.annotate(
                    "",
                    (right - 0.08, y + 0.31),
                    (left + width + 0.08, y + 0.31),
                    arrowprops={"arrowstyle": "->", "color": "#555555"},
                )
        axis.annotate(
            "",
            (6.2 + 0.8, 1.95),
            (3.1, 1.25),
            arrowprops={"arrowstyle": "->", "color": "#555555", "connectionstyle": "arc3,rad=0.25"},
        )
        axis.text(2.1, 6.2, "encoder: transferred", ha="center", fontweight="bold", color=COLOURS["mri-segmentation"])
        axis.text(7.85, 6.2, "decoder and head: same start", ha="center", fontweight="bold", color="#555555")
        axis.text(5.0, 5.5, "copied across", ha="center", fontsize=9, color="#555555")
        axis.text(0.5, 0.2, "slice in, three equal channels", fontsize=9, color="#333333")
        axis.text(9.5, 0.2, "one map a class out", ha="right", fontsize=9, color="#333333")
    caption = (
        f"The network, a U-Net on the encoder {encoder}. Boxes are stages with their resolution as a fraction of "
        "the input. Only the encoder "
        "(blue) comes from a source; decoder and head (grey) start with the same values, drawn from the seed, "
        "whatever the source."
    )
    return Drawing(
        figure,
        caption,
        "Five encoder stages from one half to one thirty-second of the input on the left, four decoder stages on "
        "the right, joined by arrows.",
    )


def overlap_figure() -> Drawing:
    """A worked example of Dice and IoU on 40 + 40 pixels."""
    truth = np.zeros((10, 16), bool)
    guess = np.zeros_like(truth)
    truth[2:7, 2:10] = True
    guess[4:9, 5:13] = True
    both = int((truth & guess).sum())
    dice = 2 * both / int(truth.sum() + guess.sum())
    iou = both / int((truth | guess).sum())
    figure, axes = _figure(6.2, 3.9)
    axis = axes[0, 0]
    with matplotlib.rc_context(_STYLE):
        axis.axis("off")
        axis.set_xlim(0, 16)
        axis.set_ylim(9.6, 1)
        axis.set_aspect("equal")
        for y, x in zip(*np.nonzero(truth | guess), strict=True):
            colour = HIT if truth[y, x] and guess[y, x] else MISSED if truth[y, x] else FALSE
            axis.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white"))
        keys = [
            Patch(color=HIT, label=f"hit ({both})"),
            Patch(color=MISSED, label=f"missed ({int(truth.sum()) - both})"),
            Patch(color=FALSE, label=f"false ({int(guess.sum()) - both})"),
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=3)
    caption = (
        f"Dice and IoU on a made-up example. The reference has {int(truth.sum())} pixels (hit and missed), the "
        f"prediction {int(guess.sum())} (hit and false); they "
        f"share {both}. Dice = 2 · {both} / ({int(truth.sum())} + {int(guess.sum())}) = {dice:.3f}. IoU = {both} "
        f"/ {int((truth | guess).sum())} = {iou:.3f}."
    )
    return Drawing(
        figure, caption, f"Two overlapping rectangles of 40 pixels that share {both}: Dice {dice:.3f}, IoU {iou:.3f}."
    )


def colours_figure() -> Drawing:
    """The key to colours and markers that every figure uses."""
    figure, axes = _figure(6.2, 2.1)
    axis = axes[0, 0]
    with matplotlib.rc_context(_STYLE):
        axis.axis("off")
        handles = [
            Line2D(
                [],
                [],
                color=COLOURS[s],
                marker=marker(s),
                linewidth=3,
                markersize=9,
                markeredgecolor="white",
                label=SOURCE_TITLES[s],
            )
            for s in SOURCES
        ]
        axis.legend(handles=handles, loc="center", ncols=2, fontsize=11)
    caption = (
        "Colours and marks of the eight sources, the same in every figure: orange for natural images, blue for MRI, "
        "one shade a task, grey for random weights, black for ImageNet."
    )
    return Drawing(figure, caption, "A key with eight entries: " + ", ".join(SOURCE_TITLES[s] for s in SOURCES) + ".")


# --------------------------------------------------------------------------------------------------------------- files
def comparison_figures(
    results: pd.DataFrame,
    kinds: Mapping[str, str],
    *,
    baselines: pd.DataFrame | None = None,
    contrasts: Sequence[Mapping[str, Any]] = (),
    froc: pd.DataFrame | None = None,
    robustness: pd.DataFrame | None = None,
    histories: pd.DataFrame | None = None,
    examples: Mapping[str, Mapping[str, Mapping[str, Example]]] | None = None,
    showcase: pd.DataFrame | None = None,
    showcase_examples: Mapping[str, Mapping[str, Mapping[str, Example]]] | None = None,
) -> dict[str, Callable[[], Drawing]]:
    """Every figure of a run that can be drawn from what is given, by file name, each as a call that draws it.

    kinds: target -> "simulated" | "semi-synthetic" | "real". baselines: `tables.baselines_table`.
    contrasts: `claims.json`. histories: `read_histories`. examples, showcase_examples: target -> `read_examples`.
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
            plan[f"froc_{target}"] = partial(froc_figure, froc, target, kinds)
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

    Reads results.csv, compare/{baselines,froc,robustness}.csv, compare/claims.json, history.csv, examples.npz, as far as there.
    """
    results = tables.read_results(run / "results.csv")
    compare = run / "compare"
    plan = comparison_figures(
        results,
        kinds,
        baselines=tables.read_table(compare / "baselines.csv") if (compare / "baselines.csv").is_file() else None,
        contrasts=tables.read_json(compare / "claims.json", []),
        froc=pd.read_csv(compare / "froc.csv", keep_default_na=False) if (compare / "froc.csv").is_file() else None,
        robustness=tables.read_table(compare / "robustness.csv") if (compare / "robustness.csv").is_file() else None,
        histories=read_histories(run),
        examples={target: read_examples(run, target) for target in TARGETS},
        showcase=tables.read_showcase(run),
        showcase_examples={target: read_examples(run, target, name="showcase") for target in TARGETS},
    )
    for name, draw in plan.items():
        save(draw(), folder, name)
    return list(plan)
