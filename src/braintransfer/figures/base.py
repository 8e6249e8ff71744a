"""What every figure shares: colours, style, and a drawing that carries its caption and alternative text."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from braintransfer.provenance import atomic_write_bytes, atomic_write_json
from braintransfer.study import CLASS_TITLES, SOURCES
from braintransfer.tables import SOURCE_TITLES, source_title

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
STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a name in the data may hold a dollar sign
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


#: Bytes that a picture of a page should not exceed.
LARGEST_PNG = 60_000


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption (can be read alone) and its alternative text (says what there is to see, with numbers).

    data: the numbers that it draws, one row a mark; None for a picture. As the last line of a notebook cell it shows itself,
    with the alternative text in the output's metadata.
    """

    figure: Figure
    caption: str
    alt: str
    data: pd.DataFrame | None = None

    def png(self) -> bytes:
        """The figure as a small PNG: 256 colours, or fewer where it would be larger than LARGEST_PNG.

        Colours are chosen to cover all that occur: chosen by how often they do, a legend's few would become their neighbours.
        """
        from PIL import Image

        raw = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            _freeze(self.figure)
            self.figure.savefig(raw, format="png", dpi=120)
        picture = Image.open(raw).convert("RGB")
        for colours in (256, 128, 64, 24):
            small = io.BytesIO()
            picture.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
                small, format="png", optimize=True
            )
            if small.tell() <= LARGEST_PNG:
                break
        return small.getvalue()

    def svg(self) -> bytes:
        """The figure as SVG without date or random names: equal figures are equal bytes."""
        raw = io.BytesIO()
        with matplotlib.rc_context(STYLE):
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
    """Write `name.svg`, `name.png`, `name.json` (caption, alt) and, of a figure with data, `name.csv` into `folder`."""
    atomic_write_bytes(folder / f"{name}.svg", drawing.svg())
    atomic_write_bytes(folder / f"{name}.png", drawing.png())
    if drawing.data is not None:
        text = drawing.data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        atomic_write_bytes(folder / f"{name}.csv", text.encode("utf-8"))
    atomic_write_json(folder / f"{name}.json", {"caption": drawing.caption, "alt": drawing.alt})


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def marker(source: str) -> str:
    return MARKERS.get(source, MARKERS.get(source.partition("-")[2], "o"))


def kind_words(kinds: Mapping[str, str], target: str) -> str:
    return KIND_TITLES.get(kinds.get(target, ""), kinds.get(target, "")) or "Kind of data not stated"


def rows_of_target(summary: pd.DataFrame, target: str, metric: str) -> dict[str, dict[str, Any]]:
    part = summary[(summary["target"] == target) & (summary["metric"] == metric) & (summary["class"] == "")]
    return {str(row["source"]): {str(k): v for k, v in row.items()} for row in part.to_dict("records")}


def mean_and_interval(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row of `tables.summarise`."""
    return {name: row[name] for name in ("mean", "lower", "upper")}


#: What is shortened in a label.
_SHORT = {
    "random weights (scratch)": "random weights",
    "classification": "class.",
    "segmentation": "segm.",
    "self-supervised": "self-sup.",
    "natural": "nat.",
    " of the images": "",
}


def short_title(name: str) -> str:
    """The title of a source, of a side of a claim or of a contrast, short enough for a label: "MRI · segm."."""
    title = source_title(name)
    for long, short in _SHORT.items():
        title = title.replace(long, short)
    return title


def count_axis(axis: Axes, counts: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """A logarithmic horizontal axis with a tick at each of these counts and nowhere else."""
    axis.set_xscale("log")
    axis.set_xticks(counts, labels or [f"{n:g}" for n in counts])
    axis.minorticks_off()


def source_legend(figure: Figure, axes: np.ndarray) -> None:
    """One legend below all axes, the sources that any of them shows in the order of the study."""
    handles = {h.get_label(): h for axis in axes.flat for h in axis.get_legend_handles_labels()[0]}
    shown = [handles[SOURCE_TITLES[s]] for s in SOURCES if SOURCE_TITLES[s] in handles]
    figure.legend(handles=shown, loc="outside lower center", ncols=2, fontsize=9)


def overlay_legend(figure: Figure, classes: Sequence[str]) -> None:
    """What the colours of `pictures.overlay` mean: hits and misses of one class, or the classes."""
    keys = [
        Patch(color=HIT, label="found"),
        Patch(color=FALSE, label="marked wrongly"),
        Patch(color=MISSED, label="missed"),
    ]
    if len(classes) > 1:
        keys = [Patch(color=CLASS_COLOURS[c], label=CLASS_TITLES[c]) for c in classes]
    figure.legend(handles=keys, loc="outside lower center", ncols=3, fontsize=9)
