"""What no network is needed for: a prior map, one intensity threshold, an empty prediction, and the resolution ceiling.

Each is fitted on the training people only and scored like a network: whole volumes, in the scan's own grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from braintransfer import evaluate, study
from braintransfer.store import Store

BASELINES = {
    "empty": "empty prediction",
    "threshold": "one intensity threshold",
    "prior_map": "prior map of the training people",
    "ceiling": "resolution ceiling (the reference through the working grid)",
}
#: Side of the cube on which brains are averaged: each brain's bounding box is stretched to it.
LATTICE = 48


def _scans(store: Store, people: list[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Subject, scan and rows of every scan of these people."""
    table = store.slices[store.slices["subject"].isin(people)]
    for (subject, scan), rows in table.groupby(["subject", "scan"], sort=True).indices.items():
        yield subject, scan, table.index.to_numpy()[rows]


def _box(images: np.ndarray) -> tuple[slice, ...]:
    """Bounding box of the brain (intensity above 0) in a stack (Z, H, W)."""
    filled = images > 0
    spans = []
    for axis in range(3):
        hit = np.flatnonzero(filled.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, filled.shape[axis]))
    return tuple(spans)


def _stretch(stack: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(C, Z, H, W) float resampled to (C, *shape), trilinear."""
    tensor = torch.from_numpy(np.ascontiguousarray(stack))[None].float()
    return torch.nn.functional.interpolate(tensor, size=tuple(shape), mode="trilinear", align_corners=False)[0].numpy()


def _one_hot(masks: np.ndarray, n_classes: int) -> np.ndarray:
    return np.stack([masks == k for k in range(n_classes + 1)]).astype(np.float32)


def prior_map(store: Store, people: list[str], fold: int, n_classes: int) -> np.ndarray:
    """How often each class lies at each place of the brain's bounding box: (C + 1, 48, 48, 48), mean over people."""
    total, n = np.zeros((n_classes + 1, LATTICE, LATTICE, LATTICE), np.float32), 0
    for _, _, rows in _scans(store, people):
        images, masks = store.load(rows, fold=fold)
        box = _box(images)
        total += _stretch(_one_hot(masks, n_classes)[(slice(None), *box)], (LATTICE,) * 3)
        n += 1
    return total / max(n, 1)


def _soft_dice(counts: np.ndarray) -> np.ndarray:
    hit, predicted, truth = counts
    return 2 * hit / np.maximum(predicted + truth, 1)


def fit_thresholds(store: Store, people: list[str], fold: int, n_classes: int) -> list[tuple[int, int]]:
    """An intensity window [low, high] of 0..255 for each class, chosen on the training people.

    One lesion class: everything in the brain below (or above) one cut, whichever gives the larger pooled Dice.
    Several classes: cuts that lie halfway between the classes' medians, in the order of these medians.
    """
    inside = np.zeros((n_classes + 1, 256))
    for _, _, rows in _scans(store, people):
        images, masks = store.load(rows, fold=fold)
        for k in range(n_classes + 1):
            inside[k] += np.bincount(images[(masks == k) & (images > 0)], minlength=256)
    if n_classes == 1:
        lesion, brain = inside[1], inside.sum(axis=0)
        below = _soft_dice(np.stack([lesion.cumsum(), brain.cumsum(), np.full(256, lesion.sum())]))
        above = _soft_dice(np.stack([lesion[::-1].cumsum(), brain[::-1].cumsum(), np.full(256, lesion.sum())]))
        if below.max() >= above.max():
            return [(1, int(below.argmax()))]
        return [(255 - int(above.argmax()), 255)]
    medians = [int(np.searchsorted(inside[k + 1].cumsum(), inside[k + 1].sum() / 2)) for k in range(n_classes)]
    ranked = np.argsort(medians)
    windows = [(0, 0)] * n_classes
    low = 1
    for place, k in enumerate(ranked):
        last = place == n_classes - 1
        high = 255 if last else (medians[k] + medians[ranked[place + 1]]) // 2
        windows[int(k)] = (low, high)
        low = high + 1
    return windows


def best_cut(store: Store, prior: np.ndarray, people: list[str], fold: int) -> float:
    """The probability above which a lesion prior map predicts lesion: the one with the largest pooled training Dice."""
    cuts = np.linspace(0.02, 0.98, 49)
    counts = np.zeros((3, len(cuts)))
    for _, _, rows in _scans(store, people):
        images, masks = store.load(rows, fold=fold)
        box = _box(images)
        here = _stretch(prior, tuple(s.stop - s.start for s in box))[1]
        brain, truth = images[box] > 0, masks[box] == 1
        for c, cut in enumerate(cuts):
            predicted = (here > cut) & brain
            counts[:, c] += [(predicted & truth).sum(), predicted.sum(), truth.sum()]
    return float(cuts[_soft_dice(counts).argmax()])


def score_baselines(store: Store, target: str, fold: int, n_train: int, seed: int = 0) -> list[dict[str, Any]]:
    """Scores of the four baselines on the test people of a fold: rows with baseline, subject, scan, metric, class, value."""
    n_classes = len(study.CLASSES[target])
    people = store.training_subset(fold, seed, n_train)
    prior = prior_map(store, people, fold, n_classes)
    cut = best_cut(store, prior, people, fold) if n_classes == 1 else 0.0
    windows = fit_thresholds(store, people, fold, n_classes)
    rows_out: list[dict[str, Any]] = []
    with store.final_scoring():
        for subject, scan, rows in _scans(store, store.subjects("test", fold)):
            images, masks = store.load(rows)
            slices = store.slices["slice"].to_numpy()[rows]
            box, brain = _box(images), images > 0
            by_name = {"empty": np.zeros_like(masks), "ceiling": masks}
            threshold = np.zeros_like(masks)
            for k, (low, high) in enumerate(windows):
                threshold[brain & (images >= low) & (images <= high)] = k + 1
            by_name["threshold"] = threshold
            here = _stretch(prior, tuple(s.stop - s.start for s in box))
            placed = np.zeros_like(masks)
            placed[box] = here[1] > cut if n_classes == 1 else here.argmax(axis=0)
            by_name["prior_map"] = np.where(brain, placed, 0).astype(np.uint8)
            for name in BASELINES:
                soft = _one_hot(by_name[name], n_classes).transpose(1, 0, 2, 3)
                labels = evaluate.labels_from(evaluate.own_grid_probabilities(store, scan, slices, soft))
                rows_out += [
                    {"baseline": name, "subject": subject, "scan": scan, **row}
                    for row in evaluate.score(store, scan, target, labels)
                ]
    return rows_out
