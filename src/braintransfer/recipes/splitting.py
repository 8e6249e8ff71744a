"""What of a source is held out to see whether it learned: whole groups, whole runs of blocks, or the set's own parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.recipes.schema import Recipe

Parts = tuple[list[str], list[str], list[str]]

#: Folder names that mean "held out".
HELD_OUT = ("val", "validation", "valid", "test")
#: So many ways of holding out runs of blocks are drawn; the one whose classes are most like the whole set's is kept.
BLOCK_DRAWS = 200

#: Group -> how many of its pictures are of each class.
Classes = Mapping[str, Mapping[str, int]]


def source_split(
    recipe: Recipe, groups: Sequence[str], validation_share: float, seed: int, classes: Classes | None = None
) -> Parts:
    """Groups for training, for validation, and those that belong to neither (block splits only); each in sorted order.

    classes: for block splits, so that the part held out has about the whole set's classes.
    BadInput where nothing would be left to train or to validate on.
    """
    unique = sorted(set(groups))
    if recipe.split.method == "block":
        train, validation, dropped = block_split(unique, validation_share, seed, classes=classes)
    elif recipe.split.method == "part":
        validation = [g for g in unique if g.split("/")[0] in HELD_OUT]
        train, dropped = sorted(set(unique) - set(validation)), []
    else:
        order = study.stream(seed, f"source-split:{recipe.name}").permutation(len(unique))
        count = max(1, round(validation_share * len(unique)))
        validation = sorted(unique[i] for i in order[:count])
        train, dropped = sorted(set(unique) - set(validation)), []
    if not train or not validation:
        raise BadInput(
            f"recipe {recipe.name}: {len(unique)} groups ({recipe.group_means}) leave nothing to "
            f"{'train' if not train else 'validate'} on; use more images"
        )
    return train, validation, dropped


def block_split(
    groups: Sequence[str], validation_share: float, seed: int, runs: int = 5, classes: Classes | None = None
) -> Parts:
    """Hold out whole runs of neighbouring blocks, with one block dropped on each side of a run.

    For slices without person ids, numbered in order: a person's slices may cross a block's border, never two. The sorted
    blocks are cut into `runs` equal stretches and one run is drawn inside each, so that sets sorted by class have every
    class in both parts. Five runs can still be of one class mostly, and then naming the commonest class is right far more
    often than in training. So with `classes` the best of `BLOCK_DRAWS` draws is kept: that whose largest difference of a
    class's share from the whole set's is smallest. Returns (train, validation, dropped). With few blocks there are fewer runs.
    """
    unique = sorted(set(groups))
    rng = study.stream(seed, "block-split")
    # A run with its two dropped neighbours must leave at least half of its stretch to train on.
    runs = max(1, min(runs, len(unique) // 8))
    counts = _class_counts(unique, classes)
    best, closest = _draw_runs(len(unique), runs, validation_share, rng), np.inf
    if counts is not None:
        for _ in range(BLOCK_DRAWS):
            part = _draw_runs(len(unique), runs, validation_share, rng)
            held_out = counts[part == "validation"].sum(axis=0)
            apart = np.abs(held_out / max(1, held_out.sum()) - counts.sum(axis=0) / counts.sum()).max()
            if apart < closest:
                best, closest = part, apart
    train, validation, dropped = (
        [unique[i] for i in np.flatnonzero(best == name)] for name in ("train", "validation", "dropped")
    )
    return train, validation, dropped


def _class_counts(groups: Sequence[str], classes: Classes | None) -> np.ndarray | None:
    """Pictures of each class, one row a group; None where nothing is known of them."""
    names = sorted({name for group in (classes or {}).values() for name in group})
    if classes is None or not names:
        return None
    return np.array([[classes.get(group, {}).get(name, 0) for name in names] for group in groups], dtype=float)


def _draw_runs(n: int, runs: int, validation_share: float, rng: np.random.Generator) -> np.ndarray:
    """Which part each of `n` blocks belongs to, for one draw."""
    part = np.full(n, "train", dtype=object)
    for stretch in np.array_split(np.arange(n), runs):
        length = max(1, round(validation_share * len(stretch)))
        start = int(stretch[0]) + int(rng.integers(0, max(1, len(stretch) - length + 1)))
        part[start : start + length] = "validation"
    for i in np.flatnonzero(part == "validation"):
        for neighbour in (i - 1, i + 1):
            if 0 <= neighbour < n and part[neighbour] == "train":
                part[neighbour] = "dropped"
    return part
