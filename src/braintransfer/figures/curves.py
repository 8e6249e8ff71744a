"""Learning curves of every stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from braintransfer.figures.base import (
    COLOURS,
    STYLE,
    Drawing,
    kind_words,
    marker,
    new_figure,
    source_legend,
)
from braintransfer.study import SOURCES, TARGETS, TASKS
from braintransfer.tables import SOURCE_TITLES, TARGET_TITLES, number, seeds_words


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
        else [t for t in TASKS if part["source"].str.endswith(f"-{t}").any()]
    )
    groups = groups or [""]
    figure, axes = new_figure(6.2, 2.5 * len(groups) + 0.6, rows=len(groups))
    ends, drawn = [], []
    with matplotlib.rc_context(STYLE):
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
                own = {"stage": stage, "target": group if stage == "finetune" else "", "source": source}
                drawn.append(smooth.rename("loss").reset_index().assign(**own))
                ends.append(
                    f"{TARGET_TITLES.get(group, group)} from {SOURCE_TITLES[source]} ends at "
                    f"{number(float(smooth.iloc[-1]))}"
                )
            axis.set_title(TARGET_TITLES.get(group, group.replace("selfsupervised", "self-supervised")))
            axis.set_ylabel("training loss")
        axes[-1, 0].set_xlabel("training step")
        source_legend(figure, axes)
    what = "fine-tuning on each target" if stage == "finetune" else "pre-training, one panel a task"
    where = sorted({kind_words(kinds, t) for t in groups}) if stage == "finetune" else []
    seeds = part["seed"].nunique()
    caption = (
        f"Learning curves of {what}: training loss, mean over {'folds and ' if stage == 'finetune' else ''}{seeds_words(seeds)}, smoothed over a "
        "twenty-fifth of the steps. "
        + (f"{'; '.join(where)}. " if where else "Losses of different tasks have different units. ")
        + "A lower training loss is not a better score on what the network has not seen."
    )
    data = pd.concat(drawn, ignore_index=True) if drawn else None
    return Drawing(figure, caption, f"Loss falls with training. {'; '.join(ends)}.", data)
