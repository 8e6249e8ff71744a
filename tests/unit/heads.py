"""Made-up pictures for the audit's tests: slices of heads of different people, and photographs that fill their frame."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SHAPE = (56, 48)


def head_slices(person: int, n: int = 10) -> np.ndarray:
    """`n` slices (n, 56, 48) uint8 of one head on black: folds of its own in a rim, larger towards the middle."""
    rng = np.random.default_rng(1000 + person)
    folds = ndimage.gaussian_filter(rng.normal(size=(n, *SHAPE)), (1.2, 2.2, 2.2))
    folds = folds / folds.std() * 45 + 130
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    slices = []
    for k in range(n):
        grow = 0.6 + 0.4 * np.sin(np.pi * k / (n - 1))
        far = np.hypot((rows - 27.5) / (25 * grow), (columns - 23.5) / (rng.uniform(18, 22) * grow))
        grain = rng.normal(0, 3, SHAPE)
        slices.append(np.where(far < 1, np.clip(folds[k] + 25 * (far > 0.85) + grain, 21, 255), 0))
    return np.stack(slices).astype(np.uint8)


def photographs(n: int, size: int = 64, seed: int = 0) -> np.ndarray:
    """(n, size, size, 3) uint8 colour textures from edge to edge."""
    rng = np.random.default_rng(seed)
    waves = ndimage.gaussian_filter(rng.normal(size=(n, size, size, 3)), (0, 4, 4, 0.7))
    return np.clip(waves / waves.std() * 50 + 125, 0, 255).astype(np.uint8)
