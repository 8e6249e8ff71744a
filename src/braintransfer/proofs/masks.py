"""Random and nasty masks on which metrics are put to the test: pairs of a prediction and its reference."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.colors import ListedColormap
from scipy import ndimage

from braintransfer.figures.base import FALSE, HIT, MISSED, Drawing, new_figure

Voxel = tuple[int, ...]
Spacing = tuple[float, float, float]

#: mm along the three axes: equal sides, thick slices, sizes at which a few voxels make exactly 2 or 3 mm or mm3
SPACINGS: tuple[Spacing, ...] = (
    (1.0, 1.0, 1.0),
    (1.4, 1.4, 1.4),
    (2.0, 2.0, 2.0),
    (0.5, 0.5, 0.5),
    (1.0, 1.0, 3.0),
    (0.9375, 0.9375, 5.0),
    (3.0, 0.5, 2.0),
    (0.8, 1.25, 3.0),
)
CLASSES = (1, 2, 3, 4)  # of the label volumes; 4 is never there


@dataclass(frozen=True, eq=False)
class Case:
    """One prediction and its reference. pred, truth, brain: (X, Y, Z) bool; probability: float; labels: 0 to 3."""

    kind: str
    pred: np.ndarray
    truth: np.ndarray
    spacing: Spacing
    probability: np.ndarray
    brain: np.ndarray
    pred_labels: np.ndarray
    truth_labels: np.ndarray


def _blobs(rng: np.random.Generator, shape: Voxel) -> np.ndarray:
    field = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.6, 1.6))
    return field > np.quantile(field, rng.uniform(0.6, 0.97))


def _rods(rng: np.random.Generator, shape: Voxel, longest: int) -> np.ndarray:
    """Rods of 1 to `longest` voxels, one to four voxels apart: lesions around the smallest volume that counts."""
    mask = np.zeros(shape, bool)
    for y, z in product(range(0, shape[1], 3), range(0, shape[2], 3)):
        x = int(rng.integers(0, 3))
        while x < shape[0]:
            length = int(rng.integers(1, longest + 1))
            mask[x : x + length, y, z] = rng.random() < 0.8
            x += length + int(rng.integers(1, 4))
    return mask


def _noisy(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    return mask ^ (rng.random(mask.shape) < rng.choice([0.01, 0.05, 0.2]))


def _shifted(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    return np.roll(mask, rng.integers(-2, 3, 3), (0, 1, 2))


def _one_voxel(rng: np.random.Generator, shape: Voxel) -> tuple[np.ndarray, np.ndarray]:
    pred, truth = np.zeros(shape, bool), np.zeros(shape, bool)
    at = np.array([rng.integers(0, size) for size in shape])
    step = rng.integers(-1, 2, 3) * int(rng.choice([0, 1, 1, 1, 9]))
    truth[tuple(at)] = pred[tuple(np.clip(at + step, 0, np.array(shape) - 1))] = True
    return pred, truth


def _borders(rng: np.random.Generator, shape: Voxel) -> tuple[np.ndarray, np.ndarray]:
    masks = []
    for _ in range(2):
        mask = np.ones(shape, bool)
        mask[1:-1, 1:-1, 1:-1] = False
        corner = tuple(slice(0, int(n)) if rng.random() < 0.5 else slice(-int(n), None) for n in rng.integers(1, 6, 3))
        other = np.zeros(shape, bool)
        other[corner] = True
        masks.append(mask if rng.random() < 0.3 else other)
    return masks[0], masks[1]


def _exact_tenth(rng: np.random.Generator, shape: Voxel) -> tuple[np.ndarray, np.ndarray]:
    """10 of the prediction's 100 voxels lie in the reference, or one voxel more or less."""
    pred, truth = np.zeros(shape, bool), np.zeros(shape, bool)
    truth[0, :10, 0] = True
    pred[0, :10, :10] = True
    kind = rng.integers(0, 3)
    if kind == 1:
        pred[1, 0, 9] = True
    elif kind == 2:
        truth[0, 9, 0] = False
    return (pred, truth) if rng.random() < 0.5 else (truth, pred)


def _exact_seventy(rng: np.random.Generator, shape: Voxel) -> tuple[np.ndarray, np.ndarray]:
    """Of the prediction's 10 voxels 7 lie outside the reference, or one more or less."""
    pred, truth = np.zeros(shape, bool), np.zeros(shape, bool)
    truth[:10, 0, 0] = True
    pred[:3, :3, 0] = True
    pred[0, 3, 0] = rng.random() < 0.7
    pred[1, 3, 0] = rng.random() < 0.3
    return pred, truth


def _exact_65(rng: np.random.Generator, shape: Voxel) -> tuple[np.ndarray, np.ndarray]:
    """A neat piece explains 13 of 20 shared voxels (or one less), a messy piece the other 7."""
    pred, truth = np.zeros(shape, bool), np.zeros(shape, bool)
    truth[:6, :5, 0] = True
    pred[:2, :5, 0] = pred[2, :3, 0] = True
    pred[5, :5, :5] = pred[4, 3:5, 0] = True
    pred[2, 2, 0] = rng.random() < 0.5
    return pred, truth


def _nested(rng: np.random.Generator, shape: Voxel) -> tuple[np.ndarray, np.ndarray]:
    core = _blobs(rng, shape)
    hull = np.asarray(ndimage.binary_dilation(core, iterations=int(rng.integers(1, 3))))
    return (hull, core) if rng.random() < 0.5 else (core, hull)


def _checkerboard(rng: np.random.Generator, shape: Voxel) -> tuple[np.ndarray, np.ndarray]:
    board = np.indices(shape).sum(axis=0) % 2 == 0
    return board, ~board if rng.random() < 0.3 else board & _blobs(rng, shape)


def _thousands(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((40, 40, 36), bool)
    for step in range(int(rng.integers(1, 4))):
        truth[step::4, ::3, ::3] = True
    kept = np.repeat(rng.random((10, 40, 36)) < 0.8, 4, axis=0)
    return (truth & kept) | (rng.random(truth.shape) < 0.002), truth


def _pair(kind: str, rng: np.random.Generator, shape: Voxel) -> tuple[np.ndarray, np.ndarray]:
    none, all_ = np.zeros(shape, bool), np.ones(shape, bool)
    blobs = _blobs(rng, shape)
    made: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
        "noisy copy": lambda: (_noisy(rng, blobs), blobs),
        "shifted copy": lambda: (_shifted(rng, blobs), blobs),
        "unrelated blobs": lambda: (_blobs(rng, shape), blobs),
        "perfect": lambda: (blobs, blobs.copy()),
        "single voxels": lambda: (rng.random(shape) < 0.04, rng.random(shape) < 0.04),
        "specks and small lesions": lambda: (_noisy(rng, _rods(rng, shape, 4)), _rods(rng, shape, 4)),
        "small lesions, some missed": lambda: (lambda m: (m & (rng.random(shape) < 0.8), m))(_rods(rng, shape, 6)),
        "empty reference, full prediction": lambda: (all_, none),
        "empty reference, some prediction": lambda: (blobs, none),
        "empty prediction": lambda: (none, all_ if rng.random() < 0.3 else blobs),
        "both empty": lambda: (none, none.copy()),
        "full prediction": lambda: (all_, all_.copy() if rng.random() < 0.3 else blobs),
        "one voxel each": lambda: _one_voxel(rng, shape),
        "touching borders": lambda: _borders(rng, shape),
        "exactly a tenth": lambda: _exact_tenth(rng, shape),
        "exactly 70 % outside": lambda: _exact_seventy(rng, shape),
        "exactly 65 % explained": lambda: _exact_65(rng, shape),
        "one inside the other": lambda: _nested(rng, shape),
        "checkerboard": lambda: _checkerboard(rng, shape),
        "one slice": lambda: (_noisy(rng, blobs[:, :, :1]), blobs[:, :, :1]),
        "thousands of lesions": lambda: _thousands(rng),
    }
    return made[kind]()


#: Kind of mask -> how often it comes in a hundred and one cases.
KINDS = {
    "noisy copy": 10,
    "shifted copy": 8,
    "unrelated blobs": 6,
    "perfect": 3,
    "single voxels": 6,
    "specks and small lesions": 10,
    "small lesions, some missed": 8,
    "empty reference, full prediction": 2,
    "empty reference, some prediction": 2,
    "empty prediction": 3,
    "both empty": 1,
    "full prediction": 3,
    "one voxel each": 5,
    "touching borders": 6,
    "exactly a tenth": 5,
    "exactly 70 % outside": 5,
    "exactly 65 % explained": 4,
    "one inside the other": 6,
    "checkerboard": 3,
    "one slice": 4,
    "thousands of lesions": 1,
}


def _probability(rng: np.random.Generator, pred: np.ndarray) -> np.ndarray:
    kind = rng.integers(0, 5)
    if kind == 0:
        return pred.astype(float)
    if kind == 1:  # on the edges of the bins
        return rng.integers(0, 16, pred.shape) / 15
    if kind == 2:  # on both sides of .01
        return rng.choice([0.0, 0.0099, 0.01, 0.0101, 0.3], pred.shape)
    noise = rng.uniform(0, 1, pred.shape)
    return np.clip(noise * 0.5 + pred * 0.5, 0, 1) if kind == 3 else noise**8


def cases(n: int, seed: int = 0) -> Iterator[Case]:
    """`n` predictions with their references, all kinds of KINDS in turn; equal seeds give equal masks."""
    order = [kind for kind, times in KINDS.items() for _ in range(times)]
    # the first 21 cases hold each kind once, so that a short run meets all
    order = [*KINDS, *np.random.default_rng(seed).permutation(order)]
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        kind = str(order[k] if k < len(order) else order[len(KINDS) + (k - len(KINDS)) % (len(order) - len(KINDS))])
        pred, truth = _pair(
            kind, rng, (int(rng.integers(12, 17)), int(rng.integers(11, 14)), int(rng.integers(10, 12)))
        )
        axes = rng.permutation(3)
        flips = tuple(slice(None, None, int(step)) for step in rng.choice([-1, 1], 3))
        pred, truth = pred.transpose(axes)[flips].copy(), truth.transpose(axes)[flips].copy()
        bands = 1 + np.indices(pred.shape)[0] * 3 // pred.shape[0]
        moved = np.roll(bands, int(rng.integers(0, 2)), axis=0)
        brain = np.ones(pred.shape, bool) if rng.random() < 0.5 else rng.random(pred.shape) < 0.7
        spacing = SPACINGS[int(rng.integers(0, len(SPACINGS)))]
        yield Case(
            kind, pred, truth, spacing, _probability(rng, pred), brain,
            (moved * pred).astype(np.uint8), (bands * truth).astype(np.uint8),
        )  # fmt: skip


def masks_figure(seed: int = 0) -> Drawing:
    """The middle slice (along the shortest axis) of one case of each kind."""
    figure, axes = new_figure(7.2, 4.6, 3, 7)
    colours = ["#222222", FALSE, MISSED, HIT]  # neither, prediction only, reference only, both
    for axis, case in zip(axes.ravel(), cases(len(KINDS), seed), strict=True):
        both = case.pred + 2 * case.truth.astype(int)
        across = int(np.argmin(both.shape))
        # the slice that shows most
        busiest = int(np.argmax((both > 0).sum(axis=tuple(k for k in range(3) if k != across))))
        axis.imshow(np.take(both, busiest, axis=across), cmap=ListedColormap(colours), vmin=0, vmax=3)
        axis.set_title("\n".join(textwrap.wrap(case.kind, 18)), fontsize=6)
        axis.set_axis_off()
    caption = (
        f"One slice of each of the {len(KINDS)} kinds of masks. Blue: in prediction and reference. Vermilion: only in the "
        "prediction. Yellow: only in the reference. The masks are made by rules and chance; none is a person's."
    )
    return Drawing(
        figure, caption, f"{len(KINDS)} small slices of masks: blobs, rods, full, empty, one voxel, borders."
    )
