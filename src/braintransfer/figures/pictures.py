"""Figures that show pictures: a data set, and one person with every source's prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from braintransfer import tables
from braintransfer.figures.base import (
    CLASS_COLOURS,
    FALSE,
    HIT,
    KIND_TITLES,
    MISSED,
    STYLE,
    Drawing,
    new_figure,
    overlay_legend,
    short_title,
)
from braintransfer.study import CLASSES, HEADLINE, SOURCES, TASKS
from braintransfer.tables import METRIC_TITLES, SOURCE_TITLES, TARGET_TITLES, number


def mosaic(
    pictures: Sequence[np.ndarray], titles: Sequence[str], columns: int, title_lines: int, letters: float = 9
) -> tuple[Figure, Axes, list[tuple[int, int]]]:
    """Pictures (H, W, 3) in 0..1 with a title each, as one image in one axis (ten axes would take ten times as long).

    letters: height of the titles in points, on a page 7 inches wide. Returns the figure, its axis in pixel coordinates, and the upper left corner (row, column) of each picture.
    """
    height, width = pictures[0].shape[:2] if len(pictures) else (1, 1)
    rows = max(math.ceil(len(pictures) / columns), 1)
    inches = 7.0
    gap = max(width // 24, 1)
    point = (columns * (width + gap)) / (inches * 72)  # pixels of the mosaic in one typographic point
    head = int((letters + 2) * point * title_lines + 5 * point)
    canvas = np.ones((rows * (height + head + gap), columns * (width + gap) - gap, 3))
    figure, axes = new_figure(inches, inches * canvas.shape[0] / canvas.shape[1] + 0.35)
    axis: Axes = axes[0, 0]
    corners = []
    with matplotlib.rc_context(STYLE):
        for k, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
            top, left = (k // columns) * (height + head + gap) + head, (k % columns) * (width + gap)
            canvas[top : top + height, left : left + width] = np.clip(picture, 0, 1)
            corners.append((top, left))
            place = left + width / 2, top - 3 * point
            axis.text(*place, title, ha="center", va="bottom", fontsize=letters, linespacing=1.1)
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


def overlay(image: np.ndarray, reference: np.ndarray, prediction: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
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


def _head(layers: Sequence[np.ndarray], margin: int = 3) -> tuple[slice, slice]:
    """The box around all that is not empty in any of the layers (H, W), so that no room goes to the black around a head."""
    there = np.any([layer > 0 for layer in layers], axis=0)
    spans = [np.flatnonzero(there.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (
        slice(max(int(s[0]) - margin, 0), int(s[-1]) + 1 + margin) if s.size else slice(None) for s in spans
    )
    return rows, columns


def examples_figure(
    examples: Mapping[str, Mapping[str, Example]],
    target: str,
    subject: str,
    scores: Mapping[str, float],
    why: str,
    kind: str,
) -> Drawing:
    """One person: the scan, the reference and each source's prediction (ten panels), a row each for none, natural and MRI.

    scores: source -> the person's score on the whole volume, written under the source's name. why: the words that say
    how this person was chosen. kind: "simulated" | "semi-synthetic" | "real".
    """
    classes = CLASSES[target]
    metric = METRIC_TITLES[HEADLINE[target]]
    having = [source for source in SOURCES if subject in examples.get(source, {})]
    box = _head([layer for source in having for layer in examples[source][subject]])
    shown = {}
    for source in having:
        image, reference, prediction = (layer[box] for layer in examples[source][subject])
        shown[source] = image, reference, prediction
    image, reference, _ = shown[having[0]]
    blank = ("", np.ones_like(reference, dtype=float)[..., None].repeat(3, axis=2))
    panels = [("scan", image[..., None].repeat(3, axis=2) / 255.0)]
    panels.append(("reference", overlay(image, reference, reference, classes)))
    for source in SOURCES:
        title = f"{short_title(source)}\n{number(scores.get(source, math.nan))}"
        panels.append((title, overlay(*shown[source], classes)) if source in shown else blank)
        if source.endswith(
            TASKS[-1]
        ):  # of four columns: a domain's tasks stand in one row, a task's domains below each other
            panels.append(blank)
    figure = mosaic([picture for _, picture in panels], [title for title, _ in panels], 4, title_lines=2, letters=11)[0]
    with matplotlib.rc_context(STYLE):
        overlay_legend(figure, classes)
    caption = (
        f"{TARGET_TITLES[target]}: {why}. {KIND_TITLES.get(kind, kind)}. One axial slice, the subject's right on "
        "the left, seed 0; "
        f"under each name the {metric} of the whole volume, mean over seeds."
        + (" The reference is drawn in the colour of what is found." if len(classes) == 1 else "")
    )
    spoken = "; ".join(f"{SOURCE_TITLES[s]} {number(scores.get(s, math.nan))}" for s in having)
    return Drawing(
        figure,
        caption,
        f"The same slice in {len(having) + 2} panels: scan, reference, predictions. {metric}: {spoken}.",
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
    figure, axis, corners = mosaic(pictures, titles, columns=min(columns, max(n, 1)), title_lines=1)
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
