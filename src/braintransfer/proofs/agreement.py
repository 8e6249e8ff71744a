"""Our metrics beside other people's programs and beside the plain rules: one table, and what a whole scan costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from braintransfer import metrics
from braintransfer.proofs import plain_rules
from braintransfer.proofs.masks import CLASSES, Case
from braintransfer.provenance import peak_memory_mb

#: What a whole 256 x 256 x 180 scan may cost.
LIMIT_SECONDS, LIMIT_MB = 5.0, 1500.0


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
    p, _ = plain_rules.counted(case)
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
        Comparison("Dice, IoU", _PLAIN, _overlap, plain_rules.overlap),
        Comparison("mIoU", _PLAIN, _mean_iou, plain_rules.mean_iou),
        Comparison("lesion detection, all 8 fields", _PLAIN, detection, plain_rules.detection),
        Comparison("MSSEG-2016 lesions, all 8 fields", _PLAIN, _msseg, plain_rules.msseg),
        Comparison("ATLAS lesion F1", _PLAIN, atlas, plain_rules.atlas),
        Comparison("ATLAS lesion F1, 26-connected", _PLAIN, lambda c: atlas(c, 26), lambda c: plain_rules.atlas(c, 26)),
        Comparison("volume error, false-positive volume", _PLAIN, volumes, plain_rules.volumes),
        Comparison("surface Dice 2 mm", _PLAIN, _surface_dice, plain_rules.surface_dice),
        Comparison("HD95", _PLAIN, _hd95, plain_rules.hd95),
        Comparison("Brier score", _PLAIN, _brier, plain_rules.brier),
        Comparison("ECE", _PLAIN, _ece, plain_rules.ece, _off_the_edges, _EDGES),
        Comparison(
            "MSSEG-2016 lesions, all 8 fields", "outside this lesion instead of outside all", _msseg,
            lambda c: plain_rules.msseg(c, outside_of="this"), never,
            "a piece over two lesions lies partly outside each; the organisers' program counts as we do",
        ),
        Comparison(
            "MSSEG-2016 lesions, all 8 fields", "equal contributors, the messy one first", _msseg,
            lambda c: plain_rules.msseg(c, ties="messy"), never, "the rule does not order equal contributors",
        ),
        Comparison(
            "MSSEG-2016 lesions, all 8 fields", "contributors capped as in the organisers' program", _msseg,
            lambda c: plain_rules.msseg(c, capped=True), never,
            "its loop ends after as many contributors as the own mask has lesions, plus one; the rule has no such end",
        ),
        Comparison(
            "ATLAS lesion F1", "26-connected instead of 6-connected", atlas, lambda c: plain_rules.atlas(c, 26), never,
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
        p, y = plain_rules.counted(case)
        return float(brier_score_loss(y, p, pos_label=1)) if len(p) else math.nan

    def ece(case: Case) -> float:
        p, y = plain_rules.counted(case)
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
        p, y = plain_rules.counted(case)
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
        predicted, reference = plain_rules.pieces_of(case, 26)
        copies = {frozenset(piece) for piece in predicted} & {frozenset(piece) for piece in reference}
        alone = [piece for piece in predicted + reference if frozenset(piece) not in copies]
        shared = plain_rules.sets_of(case)[0] & plain_rules.sets_of(case)[1]
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


def _measure(kind: str) -> dict[str, Any]:
    pred, truth, probabilities, names = _scan(kind)
    spacing, overlaps = (1.0, 1.0, 1.0), (1e-9, 0.1, 0.25, 0.5)
    before, start, cpu = peak_memory_mb(), time.perf_counter(), time.process_time()
    # the brain mask is the whole volume: the most voxels that calibration can count
    metrics.score_volume(pred, truth, spacing, names, probabilities, np.ones(SHAPE, bool), detect=True)
    metrics.msseg_lesions(pred, truth, spacing)
    metrics.atlas_lesion_f1(pred, truth)
    metrics.detect_by_overlap(pred, truth, spacing, overlaps)
    seconds, cpu, peak = time.perf_counter() - start, time.process_time() - cpu, peak_memory_mb()
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
