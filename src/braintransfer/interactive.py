"""Figures that a reader turns: what a page needs of a run so that they move without a kernel and without a network."""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import nibabel as nib
import numpy as np
import pandas as pd

from braintransfer import figures, overlaps, tables
from braintransfer.figures.base import short_title, source_legend
from braintransfer.overlaps import COUNTS, RATES, TESTED, TestSet, mean_rates, rates
from braintransfer.study import CLASSES, DETECTED, HEADLINE, HEADLINE_METRICS, SOURCES, TARGETS

#: The two sources that a page shows first.
FIRST = ("mri-segmentation", "imagenet")
#: Colours of the layers on a scan. A source's own colour would vanish there: two of them are black and navy.
LAYER_COLOURS = {"reference": figures.MISSED, "A": figures.FALSE, "B": figures.HIT}
#: Empty voxels that stay around a scan and its masks when they are cropped.
MARGIN = 2


@dataclass(frozen=True)
class ShownScan:
    """One person's scan with the reference and every source's prediction, cropped to what is not empty on the working grid.

    image, reference and each of `predictions` (source -> mask): (X, Y, Z) uint8, RAS. affine: voxel to world mm, (4, 4).
    scores: source -> headline metric.
    """

    dataset: str
    target: str
    subject: str
    seed: int
    facts: Mapping[str, Any]
    affine: np.ndarray
    image: np.ndarray
    reference: np.ndarray
    predictions: Mapping[str, np.ndarray]
    scores: Mapping[str, float]

    @property
    def title(self) -> str:
        return f"{tables.TARGET_TITLES[self.target]}: {self.subject}"

    @property
    def kind(self) -> str:
        return figures.KIND_TITLES.get(tables.data_kind(self.facts), "")

    @property
    def first(self) -> list[str]:
        """The two sources to show first: FIRST, or whatever is there."""
        return sorted(self.predictions, key=lambda s: (s not in FIRST, FIRST.index(s) if s in FIRST else 0))[:2]

    @property
    def centre(self) -> tuple[int, int, int]:
        """The voxel to start at: in the axial slice with most of the reference, the marked voxel nearest to its middle."""
        there = self.reference > 0
        if not there.any():
            x, y, z = (n // 2 for n in there.shape)
            return x, y, z
        z = int(there.sum(axis=(0, 1)).argmax())
        marked = np.argwhere(there[:, :, z])
        x, y = marked[np.square(marked - marked.mean(axis=0)).sum(axis=1).argmin()].tolist()
        return x, y, z


# ------------------------------------------------------------------------------------------------------ scans of a run
def shown_scans(run: Path, results: pd.DataFrame, cache: Path) -> list[ShownScan]:
    """One test person of each data set of a run whose licence lets volumes be published; empty without kept networks.

    A target's person is the one nearest to the median over all sources (the rule of the examples), among the test people
    of the first fold; of people shown one by one it is the first. cache: folder for what the networks predicted.
    """
    found = [own for own in overlaps.test_sets(run) if own.here and own.store.facts.get("publish") == "volumes"]
    return [_shown_scan(run, own, results, cache) for own in found]


def _shown_scan(run: Path, own: TestSet, results: pd.DataFrame, cache: Path) -> ShownScan:
    from braintransfer import evaluate, volumes  # torch: only where a scan is shown

    store, target, networks = own.store, own.target, own.here
    fold, seed = own.fold_and_seed
    people = own.people
    subject = people[0] if own.showcase else figures.choose_examples(results, target, people).get("median", people[0])
    scan = own.scans(subject)[0]
    rows = np.flatnonzero((store.slices["scan"] == scan).to_numpy())
    with store.final_scoring():
        images, masks = store.load(rows)
    labels, _ = next(overlaps.predicted(run, own, list(networks), [scan], cache))
    places = store.slices["slice"].to_numpy()[rows]
    grid = evaluate.grid_of(store, scan)

    def volume(slices: np.ndarray) -> np.ndarray:
        stack = np.zeros((grid.shape[2], *slices.shape[1:]), dtype=np.uint8)
        stack[places] = slices
        return volumes.from_slices(stack)

    layers = [volume(images), volume(masks), *(volume(labels[k]) for k in range(len(networks)))]
    anything = np.any([layer > 0 for layer in layers], axis=0)
    inside = [np.flatnonzero(anything.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(max(int(i[0]) - MARGIN, 0), int(i[-1]) + 1 + MARGIN) for i in inside)
    image, reference, *predictions = (layer[box] for layer in layers)
    affine = grid.matrix.copy()
    affine[:3, 3] = (grid.matrix @ [*(s.start for s in box), 1])[:3]
    scores = (
        tables.read_showcase(run) if own.showcase else results[(results["arm"] == "main") & (results["fold"] == fold)]
    )
    at = scores[
        (scores["target"] == target) & (scores["subject"] == subject) & (scores["seed"] == seed)
        & (scores["metric"] == HEADLINE[target]) & (scores["class"] == "")
    ]  # fmt: skip
    return ShownScan(
        store.path.name, target, subject, seed, store.facts, affine, image, reference,
        dict(zip(networks, predictions, strict=True)),
        {str(s): float(v) for s, v in zip(at["source"], at["value"], strict=True)},
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- what pages read
def _stage(widget: str, data: Mapping[str, Any]) -> str:
    """The place of a figure on its page, with its data: `book/_static/turn.js` fills it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div class="turn-stage" data-widget="{widget}"><script type="application/json">{text}</script>\n'
        '<p class="turn-off">This figure moves where JavaScript is on. Here is its picture.</p></div>\n'
    )


def _sources(names: Sequence[str]) -> list[dict[str, str]]:
    """Sources as the pages' script knows them: the colours, marks and words of every other figure."""
    return [
        {"name": s, "title": tables.SOURCE_TITLES[s], "colour": figures.COLOURS[s], "marker": figures.marker(s)}
        for s in names
    ]


def _value(value: float) -> float | None:
    """A number for JSON: four digits, None where it is not defined."""
    return round(float(value), 4) if math.isfinite(value) else None


def ranking(results: pd.DataFrame, kinds: Mapping[str, str]) -> str:
    """Every target and headline metric: each source's mean, its 95 % interval and every person (mean over seeds)."""
    main = results[(results["arm"] == "main") & (results["class"] == "")]
    targets = []
    for target in [t for t in TARGETS if (main["target"] == t).any()]:
        own = main[main["target"] == target]
        people = sorted(own["subject"].unique())
        order = [HEADLINE[target], *(m for m in HEADLINE_METRICS if m != HEADLINE[target])]
        shown = []
        for metric in [m for m in order if (own["metric"] == m).any()]:
            rows = []
            for row in tables.summarise(own, [metric], targets=[target]).to_dict("records"):
                points = tables.subject_by_seed(own, row["source"], target, metric).mean(axis=1).reindex(people)
                rows.append(
                    {"source": row["source"], "n": int(row["n"]), "points": [_value(v) for v in points]}
                    | {name: _value(row[name]) for name in ("mean", "lower", "upper")}
                )
            title = tables.METRIC_TITLES[metric]
            shown.append({"name": metric, "title": title, "lower": metric == "fp_per_scan", "rows": rows})
        kind = figures.KIND_TITLES.get(kinds.get(target, ""), "")
        title = tables.TARGET_TITLES[target]
        targets.append({"name": target, "title": title, "kind": kind, "people": people, "metrics": shown})
    return _stage("ranking", {"sources": _sources(SOURCES), "targets": targets})


def grid(results: pd.DataFrame, pages: Mapping[tuple[str, str], str]) -> str:
    """The study's cells as a table: mean and interval of the headline metric; a cell opens its executed notebook.

    pages: (target, source) -> address of the notebook's page. No script is needed.
    """
    main = results[results["arm"] == "main"]
    targets = [t for t in TARGETS if (main["target"] == t).any()]
    cells = {
        (target, str(row["source"])): row
        for target in targets
        for row in tables.summarise(main, [HEADLINE[target]], targets=[target]).to_dict("records")
        if row["class"] == ""
    }
    heads = "".join(
        f'<th scope="col">{tables.TARGET_TITLES[t]}<small>{tables.METRIC_TITLES[HEADLINE[t]]}, 0 to 1</small></th>'
        for t in targets
    )
    lines = []
    for source in [s for s in SOURCES if any((t, s) in cells for t in targets)]:
        row = "".join(
            f"<td>{_cell(cells.get((t, source)), t, source, pages.get((t, source), ''))}</td>" for t in targets
        )
        lines.append(f'<tr><th scope="row">{html.escape(tables.SOURCE_TITLES[source])}</th>{row}</tr>')
    return f'<table class="turn-grid"><thead><tr><td></td>{heads}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table>\n'


def _cell(row: Mapping[str, Any] | None, target: str, source: str, page: str) -> str:
    if row is None:
        return ""
    said = tables.with_interval(row["mean"], row["lower"], row["upper"])
    colour = figures.COLOURS[source]
    drawn = '<svg viewBox="0 0 100 10" aria-hidden="true"><path d="M0 5H100" stroke="#ddd"/>'
    if math.isfinite(row["lower"]) and math.isfinite(row["upper"]):
        low, high = (100 * min(max(row[name], 0.0), 1.0) for name in ("lower", "upper"))
        drawn += f'<path d="M{low:.1f} 5H{high:.1f}" stroke="{colour}" stroke-width="2"/>'
    if math.isfinite(row["mean"]):
        drawn += f'<circle cx="{100 * min(max(row["mean"], 0.0), 1.0):.1f}" cy="5" r="3" fill="{colour}"/>'
    name, _, interval = said.partition(" ")
    inside = f"{drawn}</svg><b>{name}</b> <small>{interval}</small>"
    if not page:
        return f'<span class="turn-cell">{inside}</span>'
    label = f"{tables.TARGET_TITLES[target]} from {tables.SOURCE_TITLES[source]}: {said}. Open its notebook"
    return f'<a class="turn-cell" href="{html.escape(page)}" aria-label="{html.escape(label)}">{inside}</a>'


def scan_script(scan: ShownScan) -> str:
    """A scan with its masks as a script, which a page opened from disk may load (it may not fetch): gzipped NIfTI, base64."""
    layers = {"scan": scan.image, "reference": scan.reference, **scan.predictions}
    packed = {name: base64.b64encode(_nifti(volume, scan.affine)).decode() for name, volume in layers.items()}
    return f"(window.turnScans = window.turnScans || {{}})[document.currentScript.src] = {json.dumps(packed)};\n"


def _nifti(volume: np.ndarray, affine: np.ndarray) -> bytes:
    image = nib.Nifti1Image(np.ascontiguousarray(volume), affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0)


def scans_stage(
    widget: str, scans: Sequence[ShownScan], files: Sequence[str], viewer: str = "", without: str = ""
) -> str:
    """The slices ("slices") or the viewer ("viewer") of scans; files: address of each one's script below `turn/`.

    viewer: address of NiiVue's script there; without: why there is none.
    """
    listed = [
        {
            "file": file,
            "title": scan.title,
            "kind": scan.kind,
            "classes": len(CLASSES[scan.target]),
            "colours": [figures.CLASS_COLOURS[c] for c in CLASSES[scan.target]],
            "centre": scan.centre,
            "metric": tables.METRIC_TITLES[HEADLINE[scan.target]],
            "scores": {s: _value(v) for s, v in scan.scores.items()},
            "sources": _sources(list(scan.predictions)),
            "first": scan.first,
            "credit": f"{scan.facts.get('citation', '')}. Licence: {scan.facts.get('licence', '')}.",
        }
        for scan, file in zip(scans, files, strict=True)
    ]
    return _stage(widget, {"scans": listed, "colours": LAYER_COLOURS, "viewer": viewer, "without": without})


def detection(table: pd.DataFrame) -> str:
    """Rates against the overlap that the rule asks for, from `overlaps.count`: means over all test people, and each person."""
    targets = []
    for target in [t for t in DETECTED if (table["target"] == t).any()]:
        own = table[table["target"] == target]
        means = {
            str(source): {name: [_value(v) for v in part.sort_values("overlap")[name]] for name in RATES}
            | {f"n_{name}": [int(v) for v in part.sort_values("overlap")[f"n_{name}"]] for name in RATES}
            for source, part in mean_rates(table, target).groupby("source", sort=False)
        }
        each = rates(own).set_index(["subject", "source"]).sort_values("overlap")
        people: list[dict[str, Any]] = []
        for (subject, shown), part in own.groupby(["subject", "shown"], sort=True):
            summed = part.groupby(["source", "overlap"], sort=True)[list(COUNTS[:-1])].sum()
            counts = {
                str(source): {name: [int(v) for v in summed.loc[source, name]] for name in COUNTS[1:-1]}
                | {"lesions": int(summed.loc[source, "lesions"].iloc[0])}
                | {name: [_value(v) for v in each.loc[[(subject, source)], name]] for name in RATES}
                for source in part["source"].unique()
            }
            kind = figures.KIND_TITLES.get(str(part["kind"].iloc[0]), "")
            people.append({"name": str(subject), "shown": str(shown), "kind": kind, "rows": counts})
        # a rule shows most where there is most to count
        first = max(range(len(people)), key=lambda k: max(row["lesions"] for row in people[k]["rows"].values()))
        tested = own[own["shown"] == TESTED]
        targets.append(
            {
                "name": target, "title": tables.TARGET_TITLES[target], "n": int(tested["subject"].nunique()),
                "kind": figures.KIND_TITLES.get(str(tested["kind"].iloc[0]), "") if len(tested) else "",
                "means": means, "people": people, "first": first,
            }
        )  # fmt: skip
    stops = sorted(float(v) for v in table["overlap"].unique())
    data = {"sources": _sources(SOURCES), "overlaps": stops, "rates": RATES, "targets": targets}
    return _stage("detection", data)


# ----------------------------------------------------------------------------------- pictures that stand in for them
def planes_figure(scan: ShownScan, planes: Sequence[str] = ("axial", "coronal", "sagittal")) -> figures.Drawing:
    """The scan, the reference and the first two predictions through the middle of the reference."""
    x, y, z = scan.centre
    cuts = {
        "axial": lambda v: v[::-1, ::-1, z].T,
        "coronal": lambda v: v[::-1, y, ::-1].T,
        "sagittal": lambda v: v[x, ::-1, ::-1].T,
    }
    classes = CLASSES[scan.target]
    masks = {"scan": None, "reference": scan.reference, **{short_title(s): scan.predictions[s] for s in scan.first}}
    height = sum(cuts[p](scan.image).shape[0] for p in planes)
    wide = max(cuts[p](scan.image).shape[1] for p in planes)
    canvas = np.ones((height, wide * len(masks), 3))
    for column, mask in enumerate(masks.values()):
        top = 0
        for plane in planes:
            picture = cuts[plane](scan.image)
            shown = np.zeros_like(picture) if mask is None else cuts[plane](mask)
            truth = shown if len(classes) > 1 or mask is None else cuts[plane](scan.reference)
            rgb = figures.overlay(picture, truth, shown, classes)
            left = column * wide + (wide - picture.shape[1]) // 2
            canvas[top : top + picture.shape[0], column * wide : (column + 1) * wide] = 0
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = rgb
            top += picture.shape[0]
    figure, axes = figures.new_figure(7.0, 7.0 * height / canvas.shape[1] + 0.7)
    axis = axes[0, 0]
    with matplotlib.rc_context(figures.STYLE):
        axis.imshow(np.clip(canvas, 0, 1), interpolation="nearest")
        axis.axis("off")
        for column, name in enumerate(masks):
            axis.text((column + 0.5) * wide, -3, name, ha="center", va="bottom", fontsize=10)
        figures.overlay_legend(figure, classes)
    metric = tables.METRIC_TITLES[HEADLINE[scan.target]]
    spoken = "; ".join(f"{tables.SOURCE_TITLES[s]} {tables.number(scan.scores.get(s, math.nan))}" for s in scan.first)
    caption = (
        f"{scan.title}. {scan.kind}. {', '.join(planes).capitalize()} through the middle of the reference, the subject's "
        f"right on the left. {metric} of the whole volume, seed {scan.seed}: {spoken}."
    )
    return figures.Drawing(
        figure, caption, f"The same place in {len(masks)} panels: {', '.join(masks)}. {metric}: {spoken}."
    )


def overlap_figure(table: pd.DataFrame, subject: str = "") -> figures.Drawing:
    """Lesion F1 of each source against the overlap that the rule asks for, one panel a target of `overlaps.count`.

    The mean over all test people, or one person's own.
    """
    targets = [t for t in DETECTED if ((table["target"] == t) & ((table["subject"] == subject) | (not subject))).any()]
    figure, axes = figures.new_figure(6.2, 2.4 * len(targets) + 1.2, rows=len(targets), sharex=True)
    spoken, counted = [], []
    with matplotlib.rc_context(figures.STYLE):
        for axis, target in zip(axes[:, 0], targets, strict=True):
            own = table[(table["target"] == target) & ((table["subject"] == subject) | (not subject))]
            drawn = rates(own) if subject else mean_rates(table, target)
            for source in [s for s in SOURCES if (drawn["source"] == s).any()]:
                part = drawn[drawn["source"] == source].sort_values("overlap")
                axis.plot(
                    100 * part["overlap"], part["f1"], color=figures.COLOURS[source], label=tables.SOURCE_TITLES[source],
                    marker=figures.marker(source), markersize=4,
                )  # fmt: skip
            n = int(own.loc[own["shown"] == TESTED, "subject"].nunique())
            lesions = int(own.drop_duplicates("scan")["lesions"].sum())
            who = f"{subject}, {lesions} lesions" if subject else tables.people_words(n)
            axis.set_title(f"{tables.TARGET_TITLES[target]} ({who})")
            axis.set_ylabel("lesion F1" if subject else "mean lesion F1")
            axis.set_ylim(-0.03, 1.03)
            named = f"{tables.TARGET_WORDS[target]} ({who})"
            counted.append(named)
            spoken.append(f"{named}: from {drawn['f1'].max():.2f} at best to {drawn['f1'].min():.2f} at worst")
        axes[-1, 0].set_xlabel("overlap that a lesion needs to count (%)")
        source_legend(figure, axes)
    what = "Lesion F1 in one person" if subject else "Mean lesion F1 over all test people of the networks' fold"
    caption = (
        f"{what} by the overlap that a lesion needs to count as found, from one voxel to all of it: {'; '.join(counted)}. "
        "The masks are the same throughout; one line a source."
    )
    return figures.Drawing(figure, caption, f"Lesion F1 against the overlap asked for. {'; '.join(spoken)}.")
