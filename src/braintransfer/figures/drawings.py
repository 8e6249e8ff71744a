"""Drawings that belong to no run: the network, a worked example, the key to colours."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from braintransfer.figures.base import COLOURS, FALSE, HIT, MISSED, STYLE, Drawing, marker, new_figure
from braintransfer.study import SOURCES
from braintransfer.tables import SOURCE_TITLES


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
    figure, axes = new_figure(6.2, 4.0)
    axis = axes[0, 0]
    with matplotlib.rc_context(STYLE):
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
        axis.text(0.5, 0.2, "in: one slice, as three equal channels", fontsize=9, color="#333333")
        axis.text(9.5, 0.2, "out: one probability map for each class", ha="right", fontsize=9, color="#333333")
    caption = (
        f"The network, a U-Net on the encoder {encoder}. A slice goes in on the left, and one probability map for each class "
        "comes out on the right. Boxes are stages with their resolution as a fraction of the input. Only the encoder "
        "(blue) comes from a source; decoder and head (grey) start with the same values, drawn from the seed, "
        "whatever the source."
    )
    return Drawing(
        figure,
        caption,
        "Five encoder stages from one half to one thirty-second of the input on the left, four decoder stages on "
        "the right, joined by arrows. In: one slice. Out: one probability map for each class.",
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
    figure, axes = new_figure(6.2, 3.9)
    axis = axes[0, 0]
    with matplotlib.rc_context(STYLE):
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
    figure, axes = new_figure(6.2, 1.3)
    axis = axes[0, 0]
    with matplotlib.rc_context(STYLE):
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
