"""A run's figures with sliders, for JupyterLab: controls of ipywidgets, pictures of matplotlib."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import matplotlib
import numpy as np
import pandas as pd

from braintransfer import figures, interactive, overlaps, tables
from braintransfer.errors import BadInput
from braintransfer.figures.scores import accuracy_figure
from braintransfer.interactive import LAYER_COLOURS, ShownScan
from braintransfer.overlaps import OVERLAPS
from braintransfer.provenance import in_project
from braintransfer.study import CLASSES, DETECTED, HEADLINE, HEADLINE_METRICS, SOURCES, TARGETS
from braintransfer.volumes import to_slices


class FinishedRun:
    """What the widgets show of a run folder, the reader's own or one that the book keeps.

    results: long form. kinds: target -> kind of data. scans: people whose licence lets their scan be shown, with what every
    source predicts; empty where the run kept no networks. overlaps: `overlaps.count`, maybe empty.
    """

    def __init__(self, folder: str | Path) -> None:
        """BadInput when the folder holds no finished run."""
        self.folder = in_project(folder)
        if not (self.folder / "results.csv").is_file():
            raise BadInput(
                f"{self.folder} holds no finished run (no results.csv); name another folder, or finish it: braintransfer run"
            )
        self.results = tables.read_results(self.folder / "results.csv")
        self.kinds = tables.target_kinds(self.folder)
        self.scans = interactive.shown_scans(self.folder, self.results, in_project("_build/predictions"))
        kept = self.folder / overlaps.FILE
        predictions = in_project("_build/predictions")
        self.overlaps = overlaps.read(kept) if kept.is_file() else overlaps.count(self.folder, predictions)


def _panel(controls: Mapping[str, Any], draw: Callable[..., figures.Drawing]) -> ipywidgets.VBox:
    """Controls above a picture and its words; both are drawn anew whenever a control's value changes.

    draw: takes the controls' values by their names. The box's children: the controls' box, the picture, the words.
    """
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()
    drawn: dict[str, Any] = {}

    def redraw(change: Any = None) -> None:
        asked = {name: control.value for name, control in controls.items()}
        if asked == drawn:  # one choice may move several controls
            return
        drawn.update(asked)
        drawing = draw(**asked)
        picture.value = drawing.png()
        words.value = f"<p>{html.escape(drawing.caption)}</p><p>{html.escape(drawing.alt)}</p>"

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([ipywidgets.HBox(list(controls.values())), picture, words])


def _nothing(words: str) -> ipywidgets.VBox:
    return ipywidgets.VBox([ipywidgets.HTML(f"<p>{html.escape(words)}</p>")])


def _slider(words: str, labels: Sequence[Any], value: Any) -> ipywidgets.SelectionSlider:
    return ipywidgets.SelectionSlider(options=labels, value=value, description=words, continuous_update=False)


# ------------------------------------------------------------------------------------------------------------- ranking
def ranking(run: FinishedRun) -> ipywidgets.VBox:
    """Every source on one target and metric: mean, 95 % interval, every person; one person can be ringed in all rows.

    Controls: target, metric, person.
    """
    main = run.results[(run.results["arm"] == "main") & (run.results["class"] == "")]
    present = [t for t in TARGETS if (main["target"] == t).any()]
    target = ipywidgets.Dropdown(options=[(tables.TARGET_TITLES[t], t) for t in present], description="target")
    metric = ipywidgets.Dropdown(description="metric")
    person = ipywidgets.Dropdown(description="person")

    def choices(change: Any = None) -> None:
        own = main[main["target"] == target.value]
        order = [HEADLINE[target.value], *(m for m in HEADLINE_METRICS if m != HEADLINE[target.value])]
        metric.options = [(tables.METRIC_TITLES[m], m) for m in order if (own["metric"] == m).any()]
        person.options = [("nobody", ""), *((s, s) for s in sorted(own["subject"].unique()))]
        metric.value, person.value = metric.options[0][1], ""

    def draw(target: str, metric: str, person: str) -> figures.Drawing:
        drawing = accuracy_figure(main, target, run.kinds, metric)
        return _ringed(drawing, main, target, metric, person) if person else drawing

    choices()
    target.observe(choices, "value")  # before the panel's own: what can be chosen follows the target
    return _panel({"target": target, "metric": metric, "person": person}, draw)


def _ringed(drawing: figures.Drawing, main: pd.DataFrame, target: str, metric: str, person: str) -> figures.Drawing:
    """The same figure with one person's point ringed in every row, where `accuracy_figure` put it, and its values in words."""
    axis = drawing.figure.axes[0]
    there = [s for s in SOURCES if not tables.subject_by_seed(main, s, target, metric).empty]
    spoken = []
    for place, source in enumerate(there):
        points = tables.subject_by_seed(main, source, target, metric).mean(axis=1).dropna().sort_index()
        if person in points.index:
            rank, n = points.index.get_loc(person), len(points)
            height = place + (np.linspace(-0.28, 0.28, n)[rank] if n > 1 else 0)
            axis.scatter([points[person]], [height], s=90, facecolors="none", edgecolors="black", zorder=6)
            spoken.append(f"{tables.SOURCE_TITLES[source]} {tables.number(float(points[person]))}")
    return figures.Drawing(drawing.figure, drawing.caption, f"{person} (ringed): {'; '.join(spoken) or 'not tested'}.")


# --------------------------------------------------------------------------------------------------------------- slices
def slices(run: FinishedRun) -> ipywidgets.VBox:
    """One test person's scan, slice by slice, with the outlines of the reference and of two sources, each to switch on and off.

    Controls: scan, slice, reference, a, b (the two sources; "" for none). Slices are counted from the feet up.
    """
    if not run.scans:
        return _nothing(
            "This run has no scan to show: it kept no networks, or the licences of its data sets allow no volume to be shown."
        )
    scan = ipywidgets.Dropdown(options=[(s.title, k) for k, s in enumerate(run.scans)], description="scan")
    place = ipywidgets.IntSlider(description="slice", continuous_update=False)
    reference = ipywidgets.Checkbox(True, description="reference")
    chosen = {"a": ipywidgets.Dropdown(description="source A"), "b": ipywidgets.Dropdown(description="source B")}

    def choices(change: Any = None) -> None:
        shown = run.scans[scan.value]
        place.max, place.value = shown.image.shape[2] - 1, shown.centre[2]
        having = [s for s in SOURCES if s in shown.predictions]
        for k, box in enumerate(chosen.values()):
            box.options = [("none", ""), *((tables.SOURCE_TITLES[s], s) for s in having)]
            box.value = shown.first[k] if k < len(shown.first) else ""

    def draw(scan: int, place: int, reference: bool, a: str, b: str) -> figures.Drawing:
        return slice_figure(run.scans[scan], place, reference, a, b)

    choices()
    scan.observe(choices, "value")
    return _panel({"scan": scan, "place": place, "reference": reference, **chosen}, draw)


def slice_figure(scan: ShownScan, place: int, reference: bool = True, a: str = "", b: str = "") -> figures.Drawing:
    """One axial slice (counted from the feet up) with outlines; the subject's right is on the left."""
    place = min(place, scan.image.shape[2] - 1)
    figure, axes = figures.new_figure(4.6, 5.2)
    axis = axes[0, 0]
    layers = [("reference", "reference", scan.reference)] if reference else []
    layers += [
        (name, f"{name}: {tables.SOURCE_TITLES[s]}", scan.predictions[s])
        for name, s in (("A", a), ("B", b))
        if s in scan.predictions
    ]
    with matplotlib.rc_context(figures.STYLE):
        axis.imshow(to_slices(scan.image)[place], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        for name, words, volume in layers:
            own = to_slices(volume)[place]
            for value in range(1, len(CLASSES[scan.target]) + 1):
                if (own == value).any():
                    axis.contour(own == value, levels=[0.5], colors=[LAYER_COLOURS[name]], linewidths=1.4)
            axis.plot([], [], color=LAYER_COLOURS[name], label=words)
        axis.axis("off")
        if layers:
            figure.legend(loc="outside lower center", ncols=1, fontsize=9)
    metric = tables.METRIC_TITLES[HEADLINE[scan.target]]
    scores = "; ".join(
        f"{tables.SOURCE_TITLES[s]} {tables.number(scan.scores.get(s, math.nan))}"
        for s in (a, b)
        if s in scan.predictions
    )
    caption = f"{scan.title}, slice {place}. {scan.kind}. The subject's right is on the left."
    areas = "; ".join(f"{words} {int((to_slices(v)[place] > 0).sum())} pixels" for _, words, v in layers)
    return figures.Drawing(
        figure,
        caption,
        f"In this slice: {areas or 'no outlines'}. {metric} of the whole volume: {scores or 'none chosen'}.",
    )


# ------------------------------------------------------------------------------------------------------------- overlap
def overlap(run: FinishedRun) -> ipywidgets.VBox:
    """Lesion F1 of the same masks under stricter and stricter rules; a line stands at the rule that is chosen.

    Controls: who (a target's test people together, or one person), asked (the overlap that a lesion needs to count as found, 0 to
    1; 0 stands for one voxel).
    """
    table = run.overlaps
    if not len(table):
        return _nothing("This run has no lesion counts by rule: they are made from networks that it kept.")
    choices = []
    for target in [t for t in DETECTED if (table["target"] == t).any()]:
        own, title = table[table["target"] == target], tables.TARGET_TITLES[target]
        n = own.loc[own["shown"] == overlaps.TESTED, "subject"].nunique()
        choices += [(f"{title}: all {n} test people", (target, ""))] if n else []
        choices += [(f"{title}: {s}", (target, s)) for s in sorted(own["subject"].unique())]
    who = ipywidgets.Dropdown(options=choices, description="who")
    steps = [(f"{100 * o:.0f} %" if o > 0.001 else "one voxel", round(o, 2)) for o in OVERLAPS]
    asked = _slider("overlap", steps, 0.1)

    def draw(who: tuple[str, str], asked: float) -> figures.Drawing:
        target, subject = who
        own = table[table["target"] == target]
        drawing = interactive.overlap_figure(own, subject)
        with matplotlib.rc_context(figures.STYLE):
            drawing.figure.axes[0].axvline(100 * asked, color="#555555", linestyle="--", linewidth=1.2)
        here = own[np.isclose(own["overlap"], asked)]
        if subject:
            counted = [
                f"{tables.SOURCE_TITLES[str(r['source'])]} {r['found']:.0f} of {r['lesions']:.0f} lesions, F1 {tables.number(r['f1'])}"
                for r in here[here["subject"] == subject].to_dict("records")
            ]
        else:
            counted = [
                f"{tables.SOURCE_TITLES[str(r['source'])]} {', '.join(f'{title} {tables.number(r[name])}' for name, title in overlaps.RATES.items())}"
                for r in overlaps.mean_rates(here, target).to_dict("records")
            ]
        return figures.Drawing(drawing.figure, drawing.caption, f"At {100 * asked:.0f} %: {'; '.join(counted)}.")

    return _panel({"who": who, "asked": asked}, draw)
