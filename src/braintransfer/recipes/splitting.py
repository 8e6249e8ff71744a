"""What of a source is held out to see whether it learned: whole groups, whole runs of blocks, or the set's own parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.recipes.schema import Recipe

Parts = tuple[list[str], list[str], list[str]]

#: Folder names that mean "held out".
HELD_OUT = ("val", "validation", "valid", "test")


def source_split(recipe: Recipe, groups: Sequence[str], validation_share: float, seed: int) -> Parts:
    """Groups for training, for validation, and those that belong to neither (block splits only); each in sorted order.

    BadInput where nothing would be left to train or to validate on.
    """
    unique = sorted(set(groups))
    if recipe.split.method == "block":
        train, validation, dropped = block_split(unique, validation_share, seed)
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


def block_split(groups: Sequence[str], validation_share: float, seed: int, runs: int = 5) -> Parts:
    """Hold out whole runs of neighbouring blocks, with one block dropped on each side of a run.

    For slices without person ids, numbered in order: a person's slices may cross a block's border, never two. The sorted
    blocks are cut into `runs` equal stretches and one run is drawn inside each, so that sets sorted by class have every
    class in both parts. Returns (train, validation, dropped). With few blocks there are fewer runs.
    """
    unique = sorted(set(groups))
    rng = study.stream(seed, "block-split")
    # A run with its two dropped neighbours must leave at least half of its stretch to train on.
    runs = max(1, min(runs, len(unique) // 8))
    part = np.full(len(unique), "train", dtype=object)
    for stretch in np.array_split(np.arange(len(unique)), runs):
        length = max(1, round(validation_share * len(stretch)))
        start = int(stretch[0]) + int(rng.integers(0, max(1, len(stretch) - length + 1)))
        part[start : start + length] = "validation"
    for i in np.flatnonzero(part == "validation"):
        for neighbour in (i - 1, i + 1):
            if 0 <= neighbour < len(unique) and part[neighbour] == "train":
                part[neighbour] = "dropped"
    train, validation, dropped = (
        [unique[i] for i in np.flatnonzero(part == name)] for name in ("train", "validation", "dropped")
    )
    return train, validation, dropped
