"""Our metrics beside other people's programs and beside the rules re-derived in a plain way, on random and nasty masks.

The plain rules work on Python sets of voxel coordinates, breadth-first search and whole-number arithmetic. They share
no line with `braintransfer.metrics`. They are slow and meant to be read beside the rule as it was published.
"""

from __future__ import annotations

import math
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from scipy import ndimage

from braintransfer import metrics
from braintransfer.figures.base import FALSE, HIT, MISSED, Drawing, new_figure
from braintransfer.provenance import peak_memory_mb

Voxel = tuple[int, ...]
Piece = set[Voxel]
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
#: What a whole 256 x 256 x 180 scan may cost.
LIMIT_SECONDS, LIMIT_MB = 5.0, 1500.0


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


# ------------------------------------------------------------------------------------------------- random, nasty masks


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


# ------------------------------------------------------------------------------------------- the rules, the plain way


def voxels(mask: np.ndarray) -> Piece:
    """The coordinates of a mask's foreground."""
    return {tuple(int(v) for v in at) for at in np.argwhere(mask)}


def neighbours(connectivity: int) -> list[Voxel]:
    """The 6, 18 or 26 steps to a neighbour: those that move along at most one, two or three axes."""
    most = {6: 1, 18: 2, 26: 3}[connectivity]
    return [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= most]


def pieces(foreground: Piece, connectivity: int) -> list[Piece]:
    """Connected pieces by breadth-first search."""
    steps, left, found = neighbours(connectivity), set(foreground), []
    while left:
        start = left.pop()
        piece, queue = {start}, deque([start])
        while queue:
            x, y, z = queue.popleft()
            for dx, dy, dz in steps:
                there = (x + dx, y + dy, z + dz)
                if there in left:
                    left.remove(there)
                    piece.add(there)
                    queue.append(there)
        found.append(piece)
    return found


@lru_cache(maxsize=8)
def _sets(case: Case) -> tuple[Piece, Piece]:
    return voxels(case.pred), voxels(case.truth)


@lru_cache(maxsize=8)
def _pieces(case: Case, connectivity: int) -> tuple[list[Piece], list[Piece]]:
    pred, truth = _sets(case)
    return pieces(pred, connectivity), pieces(truth, connectivity)


def _mm3(spacing: Spacing) -> Fraction:
    """A voxel's volume without rounding: 1.4 means 14/10."""
    return math.prod((Fraction(str(size)) for size in spacing), start=Fraction(1))


def _union(parts: list[Piece]) -> Piece:
    return set().union(*parts)


def _rates(n_truth: int, n_pred: int, n_detected: int, n_true: int) -> tuple[float, float, float]:
    if n_truth == 0:
        return math.nan, math.nan, math.nan
    if n_pred == 0:
        return n_detected / n_truth, math.nan, 0.0
    # the harmonic mean of a/b and c/d is 2ac / (ad + bc)
    below = n_detected * n_pred + n_true * n_truth
    return n_detected / n_truth, n_true / n_pred, 2 * n_detected * n_true / below if below else 0.0


def plain_overlap(case: Case) -> tuple[float, float]:
    """Dice and IoU, counted on sets."""
    pred, truth = _sets(case)
    if not truth:
        return math.nan, math.nan
    return 2 * len(pred & truth) / (len(pred) + len(truth)), len(pred & truth) / len(pred | truth)


def plain_mean_iou(case: Case) -> float:
    scores = []
    for label in CLASSES:
        pred, truth = voxels(case.pred_labels == label), voxels(case.truth_labels == label)
        if pred | truth:
            scores.append(len(pred & truth) / len(pred | truth))
    return math.fsum(scores) / len(scores) if scores else math.nan


def plain_detection(case: Case) -> tuple[float, ...]:
    """The primary rule: 26-connected, 3 mm3, one tenth. The fields of `metrics.LesionDetection`, in its order."""
    predicted, reference = _pieces(case, 26)
    smallest = Fraction(3) - Fraction(1, 1000)
    lesions = [piece for piece in reference if len(piece) * _mm3(case.spacing) >= smallest]
    candidates = [piece for piece in predicted if len(piece) * _mm3(case.spacing) >= smallest]
    lesion_voxels, reference_voxels = _union(lesions), _union(reference)
    true, ignored, false = [], [], []
    for piece in candidates:
        if 10 * len(piece & lesion_voxels) >= len(piece):
            true.append(piece)
        elif 10 * len(piece & reference_voxels) >= len(piece):
            ignored.append(piece)
        else:
            false.append(piece)
    covering = _union(true)
    detected = [piece for piece in lesions if 10 * len(piece & covering) >= len(piece)]
    counts = len(lesions), len(true) + len(false), len(ignored), len(detected), len(true)
    return (*counts, *_rates(counts[0], counts[1], counts[3], counts[4]))


def _msseg_found(own: list[Piece], others: list[Piece], outside_of: str, ties: str, most: int | None) -> int:
    everything = _union(own)
    found = 0
    for lesion in own:
        # (voxels shared with this lesion, voxels outside, size) of every piece that touches it
        touching = []
        for other in others:
            shared = len(other & lesion)
            if shared:
                outside = len(other - (everything if outside_of == "all" else lesion))
                touching.append((shared, outside, len(other)))
        covered = sum(shared for shared, _, _ in touching)
        if 10 * covered <= len(lesion):
            continue
        neat_first = 1 if ties == "neat" else -1
        touching.sort(key=lambda t: (-t[0], neat_first * Fraction(t[1], t[2])))
        explained, good = 0, True
        for k, (shared, outside, size) in enumerate(touching):
            if 20 * explained >= 13 * covered or (most is not None and k >= most):  # 65 % are 13 of 20
                break
            if 10 * outside > 7 * size:
                good = False
                break
            explained += shared
        found += good
    return found


def plain_msseg(case: Case, outside_of: str = "all", ties: str = "neat", capped: bool = False) -> tuple[float, ...]:
    """MSSEG-2016 (Commowick et al. 2018): the fields of `metrics.LesionDetection`.

    What the rule leaves open is a parameter. outside_of: a contributing piece is too far out when it leaves "all"
    lesions of the reference, or "this" one. ties: of two equal contributors the "neat" or the "messy" one is tried
    first. capped: look at no more contributors than the other mask's lesions plus one, as the organisers' program does.
    """
    predicted, reference = _pieces(case, 6)
    voxel = _mm3(case.spacing)
    # three cubic millimetres themselves are too small, within the thousandth that forgives rounding
    pred = [piece for piece in predicted if len(piece) * voxel > 3 + Fraction(1, 1000)]
    truth = [piece for piece in reference if len(piece) * voxel > 3 + Fraction(1, 1000)]
    n_detected = _msseg_found(truth, pred, outside_of, ties, len(truth) + 1 if capped else None)
    n_true = _msseg_found(pred, truth, outside_of, ties, len(pred) + 1 if capped else None)
    return (len(truth), len(pred), 0, n_detected, n_true, *_rates(len(truth), len(pred), n_detected, n_true))


def plain_atlas(case: Case, connectivity: int = 6) -> float:
    """ATLAS: a reference piece with one predicted voxel is found, a predicted one without a reference voxel is false."""
    pred, truth = _sets(case)
    predicted, reference = _pieces(case, connectivity)
    tp = sum(1 for piece in reference if piece & pred)
    fn = len(reference) - tp
    fp = sum(1 for piece in predicted if not piece & truth)
    return 2 * tp / (2 * tp + fp + fn) if reference or predicted else 1.0


def plain_volumes(case: Case) -> tuple[float, float]:
    """Signed volume error and false-positive volume in mL."""
    pred, truth = _sets(case)
    voxel_ml = _mm3(case.spacing) / 1000
    return float((len(pred) - len(truth)) * voxel_ml), float(len(pred - truth) * voxel_ml)


#: Spacings have at most four decimals: in units of .1 micrometre all squared distances are whole numbers.
_UNIT = 10_000


def _whole(spacing: Spacing) -> np.ndarray:
    return np.array([int(Fraction(str(size)) * _UNIT) for size in spacing], dtype=np.int64)


@lru_cache(maxsize=8)
def _squared(case: Case) -> tuple[list[int], list[int]]:
    """Squared distances from each surface voxel to the other surface, by trying all pairs, in whole units, sorted."""
    surfaces = []
    for mask in _sets(case):
        edge = [v for v in mask if any((v[0] + x, v[1] + y, v[2] + z) not in mask for x, y, z in neighbours(6))]
        surfaces.append(np.array(sorted(edge), dtype=np.int64).reshape(-1, 3) * _whole(case.spacing))
    if not len(surfaces[0]) or not len(surfaces[1]):
        return [], []
    results = []
    for one, other in (surfaces, surfaces[::-1]):
        nearest: list[int] = []
        for start in range(0, len(one), 500):
            step = one[start : start + 500, None, :] - other[None, :, :]
            nearest += (step * step).sum(axis=2).min(axis=1).tolist()
        results.append(sorted(nearest))
    return results[0], results[1]


def plain_surface_dice(case: Case) -> float:
    there, back = _squared(case)
    if not there:
        return 0.0 if case.truth.any() else math.nan
    near = sum(d <= (2 * _UNIT) ** 2 for d in there + back)
    return near / (len(there) + len(back))


def _percentile95(sorted_values: list[float]) -> float:
    place = Fraction(95, 100) * (len(sorted_values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(sorted_values) - 1)
    return sorted_values[low] + float(place - low) * (sorted_values[high] - sorted_values[low])


def plain_hd95(case: Case) -> float:
    there, back = ([math.sqrt(d) / _UNIT for d in squared] for squared in _squared(case))
    return max(_percentile95(there), _percentile95(back)) if there else math.nan


@lru_cache(maxsize=8)
def _counted(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of the brain voxels within 5 mm of the reference or with p > .01."""
    size, shape = _whole(case.spacing), np.array(case.truth.shape)
    reach = [int(5 * _UNIT // s) for s in size]
    near = np.zeros(case.truth.shape, bool)
    lesion = np.argwhere(case.truth)
    for step in product(*(range(-r, r + 1) for r in reach)):
        if sum((int(s) * k) ** 2 for s, k in zip(size, step, strict=True)) <= (5 * _UNIT) ** 2:
            there = lesion + step
            there = there[((there >= 0) & (there < shape)).all(axis=1)]
            near[tuple(there.T)] = True
    chosen = (near | (case.probability > 0.01)) & case.brain
    return case.probability[chosen], case.truth[chosen].astype(int)


def plain_brier(case: Case) -> float:
    p, y = _counted(case)
    return math.fsum((a - b) ** 2 for a, b in zip(p.tolist(), y.tolist(), strict=True)) / len(p) if len(p) else math.nan


def plain_ece(case: Case) -> float:
    """15 bins [k/15, (k+1)/15); the last one holds 1 too."""
    p, y = _counted(case)
    if not len(p):
        return math.nan
    bins: list[list[tuple[float, int]]] = [[] for _ in range(15)]
    for a, b in zip(p.tolist(), y.tolist(), strict=True):
        bins[min(math.floor(Fraction(a) * 15), 14)].append((a, b))
    gaps = [abs(math.fsum(a for a, _ in held) - sum(b for _, b in held)) for held in bins]
    return math.fsum(gaps) / len(p)


# ------------------------------------------------------------------------------------------------------ the comparisons


@dataclass(frozen=True)
class Comparison:
    """One row of the table. ours, theirs: value or values of a case; same: where both mean the same by definition."""

    metric: str
    against: str
    ours: Callable[[Case], Any]
    theirs: Callable[[Case], Any]
    same: Callable[[Case], bool] = lambda case: True
    why: str = ""
    tolerance: float = 1e-9


def _fields(found: metrics.LesionDetection) -> tuple[float, ...]:
    return tuple(vars(found).values())


def _overlap(case: Case) -> tuple[float, float]:
    return metrics.dice(case.pred, case.truth), metrics.iou(case.pred, case.truth)


def _mean_iou(case: Case) -> float:
    return metrics.mean_iou(case.pred_labels, case.truth_labels, CLASSES)


def _msseg(case: Case) -> tuple[float, ...]:
    return _fields(metrics.msseg_lesions(case.pred, case.truth, case.spacing))


def _brier(case: Case) -> float:
    return metrics.brier(case.probability, case.truth, case.spacing, case.brain)


def _ece(case: Case) -> float:
    return metrics.ece(case.probability, case.truth, case.spacing, case.brain)


def _surface_dice(case: Case) -> float:
    return metrics.surface_dice(case.pred, case.truth, case.spacing)


def _hd95(case: Case) -> float:
    return metrics.hd95(case.pred, case.truth, case.spacing)


def _reference(case: Case) -> bool:
    return bool(case.truth.any())


def _both(case: Case) -> bool:
    return bool(case.truth.any() and case.pred.any())


def _off_the_edges(case: Case) -> bool:
    """No counted probability lies on an inner edge of the 15 bins, as near as single precision can tell."""
    p, _ = _counted(case)
    place = p * 15
    return not bool(((np.abs(place - np.rint(place)) < 5e-6) & (p > 1e-6) & (p < 1 - 1e-6)).any())


_PLAIN = "the rule re-derived"
_EDGES = "a probability lies on the edge of a bin: rounding decides which bin it is in"


def plain_comparisons() -> list[Comparison]:
    """Against the rules of this module; the last rows are readings of the challenges' rules that we did not take."""

    def atlas(case: Case, connectivity: int = 6) -> float:
        return metrics.atlas_lesion_f1(case.pred, case.truth, connectivity)

    def volumes(case: Case) -> tuple[float, float]:
        args = case.pred, case.truth, case.spacing
        return metrics.volume_error_ml(*args), metrics.fp_volume_ml(*args)

    def detection(case: Case) -> tuple[float, ...]:
        return _fields(metrics.detect_lesions(case.pred, case.truth, case.spacing))

    def never(case: Case) -> bool:
        return False

    return [
        Comparison("Dice, IoU", _PLAIN, _overlap, plain_overlap),
        Comparison("mIoU", _PLAIN, _mean_iou, plain_mean_iou),
        Comparison("lesion detection, all 8 fields", _PLAIN, detection, plain_detection),
        Comparison("MSSEG-2016 lesions, all 8 fields", _PLAIN, _msseg, plain_msseg),
        Comparison("ATLAS lesion F1", _PLAIN, atlas, plain_atlas),
        Comparison("ATLAS lesion F1, 26-connected", _PLAIN, lambda c: atlas(c, 26), lambda c: plain_atlas(c, 26)),
        Comparison("volume error, false-positive volume", _PLAIN, volumes, plain_volumes),
        Comparison("surface Dice 2 mm", _PLAIN, _surface_dice, plain_surface_dice),
        Comparison("HD95", _PLAIN, _hd95, plain_hd95),
        Comparison("Brier score", _PLAIN, _brier, plain_brier),
        Comparison("ECE", _PLAIN, _ece, plain_ece, _off_the_edges, _EDGES),
        Comparison(
            "MSSEG-2016 lesions, all 8 fields", "outside this lesion instead of outside all", _msseg,
            lambda c: plain_msseg(c, outside_of="this"), never,
            "a piece over two lesions lies partly outside each; the organisers' program counts as we do",
        ),
        Comparison(
            "MSSEG-2016 lesions, all 8 fields", "equal contributors, the messy one first", _msseg,
            lambda c: plain_msseg(c, ties="messy"), never, "the rule does not order equal contributors",
        ),
        Comparison(
            "MSSEG-2016 lesions, all 8 fields", "contributors capped as in the organisers' program", _msseg,
            lambda c: plain_msseg(c, capped=True), never,
            "its loop ends after as many contributors as the own mask has lesions, plus one; the rule has no such end",
        ),
        Comparison(
            "ATLAS lesion F1", "26-connected instead of 6-connected", atlas, lambda c: plain_atlas(c, 26), never,
            "the organisers' program has versions with either",
        ),
    ]  # fmt: skip


def sklearn_comparisons() -> list[Comparison]:
    """Against scikit-learn, which knows voxels as samples and no space."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss, f1_score, jaccard_score

    def overlap(case: Case) -> tuple[float, float]:
        flat = case.truth.ravel(), case.pred.ravel()
        return f1_score(*flat, zero_division=np.nan), jaccard_score(*flat, zero_division=0)

    def mean_iou(case: Case) -> float:
        truth, pred = case.truth_labels.ravel(), case.pred_labels.ravel()
        there = np.setdiff1d(np.union1d(truth, pred), [0])
        return float(jaccard_score(truth, pred, labels=there, average="macro")) if len(there) else math.nan

    def brier(case: Case) -> float:
        p, y = _counted(case)
        return float(brier_score_loss(y, p, pos_label=1)) if len(p) else math.nan

    def ece(case: Case) -> float:
        p, y = _counted(case)
        if not len(p):
            return math.nan
        seen, said = calibration_curve(y, p, n_bins=15, pos_label=1)
        counts = np.bincount(np.searchsorted(np.linspace(0, 1, 16)[1:-1], p))  # as calibration_curve sorts them
        return float(np.abs(seen - said) @ counts[counts > 0] / len(p))

    name = f"scikit-learn {metadata.version('scikit-learn')}"
    return [
        Comparison("Dice, IoU", name, _overlap, overlap, _reference, "empty reference: 0 there, not defined here"),
        Comparison("mIoU", name, _mean_iou, mean_iou),
        Comparison("Brier score", name, _brier, brier),
        Comparison("ECE", name, _ece, ece, _off_the_edges, _EDGES),
    ]


def monai_comparisons() -> list[Comparison]:
    """Against MONAI, which computes in single precision."""
    import torch
    from monai.metrics.calibration import CalibrationErrorMetric
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.meaniou import compute_iou
    from monai.metrics.surface_dice import compute_surface_dice

    def pair(case: Case) -> tuple[Any, Any]:
        return torch.tensor(case.pred)[None, None].float(), torch.tensor(case.truth)[None, None].float()

    def overlap(case: Case) -> tuple[float, float]:
        return float(compute_dice(*pair(case))), float(compute_iou(*pair(case)))

    def mean_iou(case: Case) -> float:
        one_hot = [
            torch.tensor(np.stack([labels == k for k in (0, *CLASSES)]))[None].float()
            for labels in (case.pred_labels, case.truth_labels)
        ]
        return float(torch.nanmean(compute_iou(*one_hot, include_background=False)))

    def invents_no_class(case: Case) -> bool:
        return set(np.unique(case.pred_labels)) <= set(np.unique(case.truth_labels)) | {0}

    def not_invented(case: Case) -> bool:
        return bool(case.truth.any() or not case.pred.any())

    def surface_dice(case: Case) -> float:
        return float(compute_surface_dice(*pair(case), [2.0], include_background=True, spacing=case.spacing))

    def hd95(case: Case) -> float:
        far = compute_hausdorff_distance(*pair(case), include_background=True, percentile=95, spacing=case.spacing)
        return float(far)

    def ece(case: Case) -> float:
        p, y = _counted(case)
        if not len(p):
            return math.nan
        error = CalibrationErrorMetric(num_bins=15, include_background=True, calibration_reduction="expected")
        return float(torch.nanmean(error(torch.tensor(p)[None, None].float(), torch.tensor(y)[None, None].float())))

    empty = "empty reference under a prediction: 0 there, not defined here"
    name = f"MONAI {metadata.version('monai')}"
    return [
        Comparison("Dice, IoU", name, _overlap, overlap, tolerance=1e-6),
        Comparison(
            "mIoU", name, _mean_iou, mean_iou, invents_no_class,
            "a class in the prediction only: skipped there, 0 here", tolerance=1e-6,
        ),
        Comparison("surface Dice 2 mm", name, _surface_dice, surface_dice, not_invented, empty, tolerance=1e-6),
        Comparison("HD95", name, _hd95, hd95, tolerance=1e-4),
        Comparison("ECE", name, _ece, ece, _off_the_edges, _EDGES, tolerance=1e-5),
    ]  # fmt: skip


def panoptica_comparisons() -> list[Comparison]:
    """Against panoptica, which pairs lesions one to one by their IoU."""
    from panoptica import (
        ConnectedComponentsInstanceApproximator,
        InputType,
        Metric,
        NaiveThresholdMatching,
        Panoptica_Evaluator,
        disable_citation_reminder,
    )

    disable_citation_reminder()
    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(),
        instance_matcher=NaiveThresholdMatching(matching_threshold=0.5),
        instance_metrics=[Metric.IOU],
        global_metrics=[],
    )

    @lru_cache(maxsize=4)
    def result(case: Case) -> Any:
        return evaluator.evaluate(case.pred.astype(np.uint8), case.truth.astype(np.uint8), verbose=False)["ungrouped"]

    def ours(case: Case) -> metrics.LesionDetection:
        return metrics.detect_lesions(case.pred, case.truth, case.spacing, min_volume_mm3=0)

    def counts(case: Case) -> tuple[float, float]:
        found = ours(case)
        return found.n_truth, found.n_pred + found.n_ignored

    def all_or_nothing(case: Case) -> bool:
        """Every piece has an exact copy in the other mask or shares no voxel with it."""
        predicted, reference = _pieces(case, 26)
        copies = {frozenset(piece) for piece in predicted} & {frozenset(piece) for piece in reference}
        alone = [piece for piece in predicted + reference if frozenset(piece) not in copies]
        shared = _sets(case)[0] & _sets(case)[1]
        return _both(case) and not any(piece & shared for piece in alone)

    def distances(case: Case) -> tuple[np.ndarray, np.ndarray]:
        return metrics.surface_distances(case.pred, case.truth, case.spacing)

    def their_way(case: Case) -> tuple[float, float]:
        """Our distances: shares averaged over the two surfaces, and one percentile of both together."""
        there, back = distances(case)
        if not len(there):
            return math.nan, math.nan
        near = [np.count_nonzero(d <= 2 + 1e-6) / len(d) for d in (there, back)]
        return float(np.mean(near)), float(np.percentile(np.concatenate([there, back]), 95))

    def surfaces(case: Case) -> tuple[float, float]:
        spacing: dict[str, Any] = {"voxelspacing": case.spacing}
        return (
            float(Metric.NSD(case.truth, case.pred, threshold=2 + 1e-6, **spacing)),
            float(Metric.HD95(case.truth, case.pred, **spacing)),
        )

    def overlap(case: Case) -> tuple[float, float]:
        return float(Metric.DSC(case.truth, case.pred)), float(Metric.IOU(case.truth, case.pred))

    def guarded(score: Callable[[Case], tuple[float, float]]) -> Callable[[Case], tuple[float, float]]:
        return lambda case: score(case) if _both(case) else (math.nan, math.nan)

    name = f"panoptica {metadata.version('panoptica')}"
    return [
        Comparison("Dice, IoU", name, _overlap, overlap, _reference, "empty reference: 0 there, not defined here"),
        Comparison(
            "lesions counted in both masks", name, counts,
            lambda c: (float(result(c).n_ref_instances), float(result(c).n_pred_instances)),
        ),
        Comparison(
            "lesion F1 without a smallest volume", name, lambda c: ours(c).f1, lambda c: float(result(c).rq),
            all_or_nothing, "pairs lesions one to one at IoU .5 there; one tenth of either mask here",
        ),
        Comparison("surface distances, summed up as there", name, guarded(their_way), guarded(surfaces)),
        Comparison(
            "surface Dice 2 mm, HD95", name, lambda c: (_surface_dice(c), _hd95(c)), guarded(surfaces),
            lambda c: False,
            "the two surfaces' shares are averaged there, their voxels pooled here; one percentile of all distances "
            "there, the larger of two here",
        ),
    ]  # fmt: skip


def comparisons() -> tuple[list[Comparison], list[str]]:
    """All comparisons that this environment can make, and a line for each program that is not installed."""
    made, absent = [*plain_comparisons(), *sklearn_comparisons()], []
    for module, build in (("monai", monai_comparisons), ("panoptica", panoptica_comparisons)):
        if find_spec(module):
            made += build()
        else:
            absent.append(f"{module} is not installed: its rows are missing")
    return made, absent


def _difference(ours: Any, theirs: Any) -> float:
    """The largest difference of the values; infinite where one is a number and the other is not."""
    largest = 0.0
    for one, other in zip(np.atleast_1d(ours), np.atleast_1d(theirs), strict=True):
        if math.isnan(one) and math.isnan(other):
            continue
        gap = abs(float(one) - float(other))
        largest = max(largest, math.inf if math.isnan(gap) else gap)
    return largest


def agreement_table(made: list[Comparison], masks: Iterator[Case]) -> pd.DataFrame:
    """Every comparison on every mask: how many disagree where both mean the same, and where definitions differ."""
    same: list[list[float]] = [[] for _ in made]
    other: list[list[float]] = [[] for _ in made]
    kinds: list[set[str]] = [set() for _ in made]
    for case in masks:
        for k, comparison in enumerate(made):
            gap = _difference(comparison.ours(case), comparison.theirs(case))
            if comparison.same(case):
                same[k].append(gap)
                if gap > comparison.tolerance:
                    kinds[k].add(case.kind)
            else:
                other[k].append(gap)
    rows = []
    for comparison, alike, apart, where in zip(made, same, other, kinds, strict=True):
        rows.append(
            {
                "metric": comparison.metric,
                "compared with": comparison.against,
                "masks": len(alike),
                "disagree": sum(gap > comparison.tolerance for gap in alike),
                "largest difference": max(alike) if alike else math.nan,
                "where": ", ".join(sorted(where)),
                "masks, other definition": len(apart),
                "other value there": sum(gap > comparison.tolerance for gap in apart),
                "why": comparison.why,
            }
        )
    return pd.DataFrame(rows)


# ----------------------------------------------------------------------------------------------------- speed and memory

SHAPE = (256, 256, 180)


def _scan(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """pred, truth (uint8), probabilities (float32, background first) of one whole scan."""
    rng = np.random.default_rng(0)
    names: tuple[str, ...] = ("lesion",)
    truth, pred = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    if kind in ("stroke", "three tissues", "thousands of lesions"):
        coarse = ndimage.zoom(rng.normal(size=(33, 33, 24)).astype(np.float32), 8, order=1)[:256, :256, :180]
        brain = (slice(30, 226), slice(20, 236), slice(10, 170))
        if kind == "stroke":
            truth[brain] = coarse[brain] > 1.3
            pred = np.roll(truth, 2, axis=0)
        elif kind == "three tissues":
            names = ("csf", "gm", "wm")
            truth[brain] = 1 + np.digitize(coarse[brain], [-0.3, 0.3])
            pred = np.roll(truth, 1, axis=1)
        else:
            truth[::5, ::5, ::5] = truth[1::5, ::5, ::5] = truth[2::5, ::5, ::5] = 1
            pred = truth & (rng.random(SHAPE, dtype=np.float32) < 0.9)
    elif kind == "noise in both":
        truth, pred = ((rng.random(SHAPE, dtype=np.float32) < 0.1).astype(np.uint8) for _ in range(2))
    elif kind == "empty reference, full prediction":
        pred[:] = 1
    elif kind == "two voxels in opposite corners":
        truth[0, 0, 0] = pred[-1, -1, -1] = 1
    probabilities = np.stack([(pred == k) * np.float32(0.8) + np.float32(0.05) for k in range(len(names) + 1)])
    return pred, truth, probabilities, names


SCANS = (
    "stroke",
    "three tissues",
    "thousands of lesions",
    "noise in both",
    "empty reference, full prediction",
    "two voxels in opposite corners",
)


def _peak_mb() -> float:
    """Peak memory of this process alone: where Linux tells it, without what the parent had before this one started."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return peak_memory_mb()


def _measure(kind: str) -> dict[str, Any]:
    pred, truth, probabilities, names = _scan(kind)
    spacing, overlaps = (1.0, 1.0, 1.0), (1e-9, 0.1, 0.25, 0.5)
    before, start, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    # the brain mask is the whole volume: the most voxels that calibration can count
    metrics.score_volume(pred, truth, spacing, names, probabilities, np.ones(SHAPE, bool), detect=True)
    metrics.msseg_lesions(pred, truth, spacing)
    metrics.atlas_lesion_f1(pred, truth)
    metrics.lesion_f1_by_overlap(pred, truth, spacing, overlaps)
    seconds, cpu, peak = time.perf_counter() - start, time.process_time() - cpu, _peak_mb()
    lesions = int(ndimage.label(truth > 0, np.ones((3, 3, 3)))[1])
    return {
        "scan": kind,
        "reference lesions": lesions,
        "CPU seconds": round(cpu, 2),
        "seconds on the clock": round(seconds, 2),
        "peak MB, inputs included": round(peak),
        "MB before scoring": round(before),
    }


def speed_table() -> pd.DataFrame:
    """Seconds and peak memory of all metrics on whole scans of 256 x 256 x 180 voxels, a fresh process for each."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        return pd.DataFrame(list(pool.map(_measure, SCANS)))
