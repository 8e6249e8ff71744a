"""What a stage's notebook shows of its own execution: pictures of a store, curves, results, and the manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from braintransfer import figures, study
from braintransfer.errors import BadInput
from braintransfer.figures import COLOURS, FALSE, HIT, Drawing
from braintransfer.provenance import read_manifest
from braintransfer.store import Store
from braintransfer.tables import METRIC_TITLES, SOURCE_TITLES, TARGET_TITLES, column_title, data_kind, number
from braintransfer.untrusted import as_markdown

if TYPE_CHECKING:
    from torch import nn  # the audit starts without torch


# ---------------------------------------------------------------------------------------------------------------- stores
def store_figure(store: Store, people: Sequence[str] | None = None, n: int = 12) -> Drawing:
    """`n` evenly taken pictures of a store with their masks outlined; of a target, slices that hold foreground."""
    table = store.slices
    target = "folds" in store.splits
    if people is None:
        people = store.subjects("train") if target else store.subjects("train") + store.subjects("validation")
    people = people or store.subjects("test")
    chosen = table[table["subject"].isin(set(people))]
    if target:
        best = chosen.sort_values("foreground", ascending=False, kind="stable").drop_duplicates("scan").sort_index()
        chosen = best if len(best) else chosen
    rows = chosen.index.to_numpy()[np.linspace(0, len(chosen) - 1, min(n, len(chosen))).astype(int)]
    with store.final_scoring():  # only pictures of the people asked for; a showcase has nobody else
        images, masks = store.load(rows)
    titles = [str(t) for t in table["subject" if target else "label"].iloc[rows]]
    return figures.montage_figure(images, masks, titles, store.facts["title"], data_kind(store.facts))


def store_table(store: Store) -> pd.DataFrame:
    """How many people (or groups), scans and pictures are in each part of each fold, and how many show foreground."""
    rows = []
    folds = store.splits.get("folds", [store.splits])
    for fold, parts in enumerate(folds):
        for part in ("train", "validation", "test", "dropped"):
            names = parts.get(part)
            if not names:
                continue
            of = store.slices[store.slices["subject"].isin(names)]
            rows.append(
                {
                    "fold": fold if "folds" in store.splits else "",
                    "part": part,
                    "people or groups": len(names),
                    "scans": of["scan"].nunique(),
                    "pictures": len(of),
                    "with foreground": int((of["foreground"] > 0).sum()),
                }  # fmt: skip
            )
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------------------------------------------- training
def parameters_table(network: nn.Module) -> pd.DataFrame:
    """Numbers of weights in each part of a network."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    return pd.DataFrame(
        {"part": [*parts, "together"], "weights": [f"{n:,}" for n in (*parts.values(), sum(parts.values()))]}
    )


def history_figure(histories: Mapping[str, pd.DataFrame], source: str) -> Drawing:
    """Training loss against step, one thin line a history and their mean in the source's colour."""
    figure, axes = figures.new_figure(6.2, 2.9)
    axis = axes[0, 0]
    curves = [h.set_index("step")["loss"] for h in histories.values()]
    with matplotlib.rc_context(figures.STYLE):
        for curve in curves:
            smooth = curve.rolling(max(len(curve) // 25, 1), min_periods=1, center=True).mean()
            axis.plot(smooth.index, smooth, color=COLOURS[source], linewidth=1, alpha=0.45)
        mean = pd.concat(curves, axis=1).mean(axis=1)
        mean = mean.rolling(max(len(mean) // 25, 1), min_periods=1, center=True).mean()
        axis.plot(mean.index, mean, color=COLOURS[source], linewidth=2.4)
        axis.set_xlabel("training step")
        axis.set_ylabel("training loss")
        axis.set_title(SOURCE_TITLES[source])
    caption = f"Training loss, smoothed; thin lines: {', '.join(histories)}; thick line: their mean."
    return Drawing(
        figure,
        caption,
        f"Loss from {number(float(mean.iloc[0]))} to {number(float(mean.iloc[-1]))} in {len(mean)} steps.",
    )


def learned_table(rows: Sequence[Any]) -> pd.DataFrame:
    """What each seed reached on held-out pictures."""
    return pd.DataFrame(
        [
            {"seed": r.seed, **{k: round(v, 3) if isinstance(v, float) else v for k, v in r.learned.items()}}
            for r in rows
        ]
    )


def pretext_figure(path: Path, task: str, source: str) -> Drawing:
    """Held-out pictures with what the network makes of them (arrays of `examples.npz` of a pre-training seed)."""
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    images, n = arrays["images"], min(6, len(arrays["images"]))
    task = "contrastive" if "views" in arrays else task
    below = {"selfsupervised": ("corrupted", "restored", "images"), "contrastive": ("views", "found")}.get(task, ())
    rows = max(1, len(below))
    figure, axes = figures.new_figure(7.0, 1.45 * rows + 0.35, rows=rows, columns=n)
    with matplotlib.rc_context(figures.STYLE):
        for axis in axes.flat:
            axis.axis("off")
        for k in range(n):
            top = axes[0, k]
            top.imshow(images[k], cmap="gray", vmin=0, vmax=255)
            if task == "classification":
                truth, named = (
                    str(arrays["names"][arrays["labels"][k]]),
                    str(arrays["names"][arrays["probabilities"][k].argmax()]),
                )
                mark = "right" if truth == named else f"is {truth}"
                top.set_title(f"{named}\n({mark})", fontsize=8, fontweight="normal", loc="center")
            elif task == "segmentation":
                _outline(top, arrays["references"][k], HIT)
                _outline(top, arrays["predictions"][k], FALSE)
            for axis, name in zip(axes[:, k], below, strict=False):
                axis.clear()
                axis.axis("off")
                axis.imshow(arrays[name][k], cmap="gray", vmin=0, vmax=255)
                if k == 0:
                    title = {"images": "as it is", "views": "a view", "found": "nearest other view"}.get(name, name)
                    axis.set_title(title, fontsize=9, fontweight="normal", loc="left")
        if task == "segmentation":
            keys = [Patch(color=HIT, label="reference"), Patch(color=FALSE, label="network")]
            figure.legend(handles=keys, loc="outside lower center", ncols=2, fontsize=9)
    what = {
        "classification": "with the class that the network names",
        "segmentation": "with the reference outline and the network's",
        "selfsupervised": "damaged, restored, and as they are",
        "contrastive": "in one view, and the second view that the network finds nearest",
    }[task]
    caption = f"Held-out pictures {what}. {SOURCE_TITLES[source]}, first seed."
    return Drawing(figure, caption, f"{n} held-out pictures {what}.")


def _outline(axis: Any, mask: np.ndarray, colour: str) -> None:
    if mask.any() and not mask.all():
        axis.contour(mask > 0, levels=[0.5], colors=[colour], linewidths=1.3)


# ------------------------------------------------------------------------------------------------------------ fine-tuning
def loaded_table(rows: Sequence[Any]) -> pd.DataFrame:
    """The weight-loading report of each row: tensors loaded, missing and mismatched."""
    kept = ("loaded", "missing", "mismatched", "unexpected")
    table = []
    for row in rows:
        report = row.manifest["weights"]
        counts = {k: report[k] if isinstance(report[k], int) else len(report[k]) for k in kept if k in report}
        table.append({"fold": row.fold, "seed": row.seed, "source": SOURCE_TITLES[report["source"]], **counts})
    return pd.DataFrame(table)


def cell_figure(path: Path, source: str, target: str) -> Drawing:
    """Test people of one row, one slice each: the reference beside the prediction (arrays of `examples.npz`)."""
    with np.load(path, allow_pickle=False) as data:
        subjects, images, truths, guesses = (data[k] for k in ("subjects", "images", "references", "predictions"))
    n = min(6, len(subjects))
    classes = study.CLASSES[target]
    figure, axes = figures.new_figure(7.0, 2 * 7.0 / n * images.shape[1] / images.shape[2] + 0.7, rows=2, columns=n)
    with matplotlib.rc_context(figures.STYLE):
        for axis in axes.flat:
            axis.axis("off")
        for k in range(n):
            axes[0, k].imshow(figures.overlay(images[k], truths[k], truths[k], classes))
            axes[1, k].imshow(figures.overlay(images[k], truths[k], guesses[k], classes))
            axes[0, k].set_title(str(subjects[k]), fontsize=8, fontweight="normal", loc="center")
        figures.overlay_legend(figure, classes)
    caption = f"{TARGET_TITLES[target]} from {SOURCE_TITLES[source]}: reference (top) and prediction (bottom) of {n} test people, first row."
    return Drawing(figure, caption, f"{n} test people, one slice each, reference above prediction.")


def cell_table(rows: Sequence[Any]) -> pd.DataFrame:
    """The main metrics of each test person, mean over folds and seeds, and their mean over people in the last line."""
    everything = pd.concat([row.scores.assign(seed=row.seed) for row in rows])
    metrics = [m for m in study.HEADLINE_METRICS if m in set(everything["metric"])]
    table = everything[(everything["class"] == "") & everything["metric"].isin(metrics)]
    wide = table.pivot_table(index="subject", columns="metric", values="value", aggfunc="mean", dropna=False)[metrics]
    wide.loc["mean"] = wide.mean()
    shown = wide.map(lambda v: number(v) if math.isfinite(v) else "–").rename(
        columns={m: column_title(m, "") for m in metrics}
    )
    return shown.rename_axis(None, axis=1).reset_index()


def manifest_table(folder: Path) -> pd.DataFrame:
    """The manifest in a few lines: what a reader needs to check this stage."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise BadInput(f"{folder} has no manifest; the stage is not finished")
    facts = {
        "stage": manifest["stage"],
        "code": manifest["code"][:16],
        "inputs": ", ".join(f"{k} {v[:12]}" for k, v in sorted(manifest["inputs"].items())) or "none",
        "outputs": f"{len(manifest['outputs'])} files",
        "device": f"{manifest.get('device', 'cpu')}, {manifest.get('precision', 'no training')}",
        "seconds": str(manifest.get("seconds", "")),
        "peak memory": f"{manifest['peak_memory_mb']} MiB",
        "versions": ", ".join(
            f"{k} {v}" for k, v in manifest["versions"].items() if k in ("python", "torch", "timm", "nibabel")
        ),
    }
    return pd.DataFrame({"what": list(facts), "value": list(facts.values())})


# ---------------------------------------------------------------------------------------------------------------- audit
def pairs_figure(pairs: Sequence[Any], limit: float, n: int = 6) -> Drawing:
    """The pictures of different sides that are most alike, pair by pair; only sets whose licence lets pictures be shown."""
    shown = sorted((p for p in pairs if p.publish), key=lambda p: -p.similarity)[:n]
    figure, axes = figures.new_figure(7.0, 3.6 if shown else 1.0, rows=2 if shown else 1, columns=max(len(shown), 1))
    with matplotlib.rc_context(figures.STYLE):
        for axis in axes.flat:
            axis.axis("off")
        for k, pair in enumerate(shown):
            for axis, image, side in zip(axes[:, k], pair.images, pair.sides, strict=True):
                axis.imshow(image, cmap="gray", vmin=0, vmax=255)
                axis.set_title(side.replace(", ", "\n"), fontsize=8, fontweight="normal", loc="center")
            axes[1, k].text(0.5, -0.06, number(pair.similarity), transform=axes[1, k].transAxes, ha="center", va="top")
        if not shown:
            axes[0, 0].text(0.5, 0.5, "no picture of these data sets may be shown", ha="center", va="center")
    caption = (
        f"Of each two sides the two pictures that are most alike, the {len(shown)} nearest of {len(pairs)} comparisons. Below, "
        f"how alike they are; near-duplicates reach {number(limit)}."
    )
    spoken = "; ".join(f"{p.names[0]} and {p.names[1]} {number(p.similarity)}" for p in shown)
    return Drawing(figure, caption, f"Pairs of pictures, one above the other. {spoken or 'No picture may be shown'}.")


# -------------------------------------------------------------------------------------------------------------- compare
def claims_table(contrasts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The contrasts behind the claims, one a line."""
    rows = [
        {
            "claim": c["claim"],
            "target": c["target"],
            "A": c["A"],
            "B": c["B"],
            "metric": METRIC_TITLES.get(c["metric"], c["metric"]),
            "A − B (interval)": "–"
            if not isinstance(c.get("estimate"), int | float)
            else f"{number(c['estimate'], 3)} ({number(_finite(c['lower']), 3)} to {number(_finite(c['upper']), 3)})",
            "margin": c["margin"],
            "n": c["n_subjects"],
            "seeds": c["n_seeds"],
            "verdict": c["verdict"],
        }  # fmt: skip
        for c in contrasts
    ]
    return pd.DataFrame(rows)


def _finite(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def kind_note(facts: Mapping[str, Any]) -> str:
    """One line of Markdown that says what a run's numbers stand on."""
    kinds = ", ".join(f"{TARGET_TITLES[t]}: {figures.KIND_TITLES[k].lower()}" for t, k in facts["kinds"].items())
    return f"**{facts['title']}.** {facts['size_note']} {kinds}. Not for clinical use."


class Gallery:
    """Saved figures of a run, shown one below the other when it is the last line of a notebook cell."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.paths = [folder / f"{name}.png" for name in names]

    def _ipython_display_(self) -> None:
        import json

        from IPython.display import Image, display

        for path in self.paths:
            text = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            display(Image(filename=str(path), alt=text["alt"]), metadata={"image/png": {"alt": text["alt"]}})
            display(Caption(text["caption"]))


class Caption:
    """A figure's caption as a paragraph below it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_markdown_(self) -> str:
        return f"*{as_markdown(self.text)}*"
