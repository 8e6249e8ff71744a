"""The rules of the metrics written a second time, in a plain way: sets of voxels, breadth-first search, whole numbers.

They share no line with `braintransfer.metrics`. They are slow and meant to be read beside the rule as it was published.
"""

from __future__ import annotations

import math
from collections import deque
from fractions import Fraction
from functools import lru_cache
from itertools import product

import numpy as np

from braintransfer.proofs.masks import CLASSES, Case, Spacing, Voxel

Piece = set[Voxel]


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
def sets_of(case: Case) -> tuple[Piece, Piece]:
    return voxels(case.pred), voxels(case.truth)


@lru_cache(maxsize=8)
def pieces_of(case: Case, connectivity: int) -> tuple[list[Piece], list[Piece]]:
    pred, truth = sets_of(case)
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


def overlap(case: Case) -> tuple[float, float]:
    """Dice and IoU, counted on sets."""
    pred, truth = sets_of(case)
    if not truth:
        return math.nan, math.nan
    return 2 * len(pred & truth) / (len(pred) + len(truth)), len(pred & truth) / len(pred | truth)


def mean_iou(case: Case) -> float:
    scores = []
    for label in CLASSES:
        pred, truth = voxels(case.pred_labels == label), voxels(case.truth_labels == label)
        if pred | truth:
            scores.append(len(pred & truth) / len(pred | truth))
    return math.fsum(scores) / len(scores) if scores else math.nan


def detection(case: Case) -> tuple[float, ...]:
    """The primary rule: 26-connected, 3 mm3, one tenth. The fields of `metrics.LesionDetection`, in its order."""
    predicted, reference = pieces_of(case, 26)
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


def msseg(case: Case, outside_of: str = "all", ties: str = "neat", capped: bool = False) -> tuple[float, ...]:
    """MSSEG-2016 (Commowick et al. 2018): the fields of `metrics.LesionDetection`.

    What the rule leaves open is a parameter. outside_of: a contributing piece is too far out when it leaves "all"
    lesions of the reference, or "this" one. ties: of two equal contributors the "neat" or the "messy" one is tried
    first. capped: look at no more contributors than the other mask's lesions plus one, as the organisers' program does.
    """
    predicted, reference = pieces_of(case, 6)
    voxel = _mm3(case.spacing)
    # three cubic millimetres themselves are too small, within the thousandth that forgives rounding
    pred = [piece for piece in predicted if len(piece) * voxel > 3 + Fraction(1, 1000)]
    truth = [piece for piece in reference if len(piece) * voxel > 3 + Fraction(1, 1000)]
    n_detected = _msseg_found(truth, pred, outside_of, ties, len(truth) + 1 if capped else None)
    n_true = _msseg_found(pred, truth, outside_of, ties, len(pred) + 1 if capped else None)
    return (len(truth), len(pred), 0, n_detected, n_true, *_rates(len(truth), len(pred), n_detected, n_true))


def atlas(case: Case, connectivity: int = 6) -> float:
    """ATLAS: a reference piece with one predicted voxel is found, a predicted one without a reference voxel is false."""
    pred, truth = sets_of(case)
    predicted, reference = pieces_of(case, connectivity)
    tp = sum(1 for piece in reference if piece & pred)
    fn = len(reference) - tp
    fp = sum(1 for piece in predicted if not piece & truth)
    return 2 * tp / (2 * tp + fp + fn) if reference or predicted else 1.0


def volumes(case: Case) -> tuple[float, float]:
    """Signed volume error and false-positive volume in mL."""
    pred, truth = sets_of(case)
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
    for mask in sets_of(case):
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


def surface_dice(case: Case) -> float:
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


def hd95(case: Case) -> float:
    there, back = ([math.sqrt(d) / _UNIT for d in squared] for squared in _squared(case))
    return max(_percentile95(there), _percentile95(back)) if there else math.nan


@lru_cache(maxsize=8)
def counted(case: Case) -> tuple[np.ndarray, np.ndarray]:
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


def brier(case: Case) -> float:
    p, y = counted(case)
    return math.fsum((a - b) ** 2 for a, b in zip(p.tolist(), y.tolist(), strict=True)) / len(p) if len(p) else math.nan


def ece(case: Case) -> float:
    """15 bins [k/15, (k+1)/15); the last one holds 1 too."""
    p, y = counted(case)
    if not len(p):
        return math.nan
    bins: list[list[tuple[float, int]]] = [[] for _ in range(15)]
    for a, b in zip(p.tolist(), y.tolist(), strict=True):
        bins[min(math.floor(Fraction(a) * 15), 14)].append((a, b))
    gaps = [abs(math.fsum(a for a, _ in held) - sum(b for _, b in held)) for held in bins]
    return math.fsum(gaps) / len(p)
