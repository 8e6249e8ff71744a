"""The tables of the book: results in long form become means with intervals, one row a source."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintransfer import statistics
from braintransfer.claims import encoder_name
from braintransfer.errors import BadInput
from braintransfer.near_duplicates import LOOKS
from braintransfer.provenance import read_manifest
from braintransfer.study import (
    ARMS,
    CLASS_TITLES,
    DETECTED,
    DOMAINS,
    HEADLINE,
    IMAGENET_IMAGES,
    PRETRAINED_HERE,
    RESULT_COLUMNS,
    SOURCES,
    TARGETS,
    TASKS,
)
from braintransfer.study import arm as arm_called

#: How sources, targets and metrics are called in the book. The same words stand in figures, tables and prose.
SOURCE_TITLES = {
    "scratch": "random weights (scratch)",
    "imagenet": "ImageNet",
    "natural-classification": "natural · classification",
    "natural-segmentation": "natural · segmentation",
    "natural-selfsupervised": "natural · self-supervised",
    "mri-classification": "MRI · classification",
    "mri-segmentation": "MRI · segmentation",
    "mri-selfsupervised": "MRI · self-supervised",
}
TARGET_TITLES = {"stroke": "Stroke lesions", "ms": "MS lesions", "anatomy": "Brain anatomy"}
#: The same inside a sentence.
TARGET_WORDS = {"stroke": "stroke lesions", "ms": "MS lesions", "anatomy": "brain anatomy"}
METRIC_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "miou": "mIoU",
    "lesion_sensitivity": "lesion sensitivity",
    "lesion_precision": "lesion precision",
    "lesion_f1": "lesion F1",
    "fp_per_scan": "false positives a scan",
    "volume_error_ml": "volume error (mL)",
    "volume_error_abs_ml": "absolute volume error (mL)",
    "fp_volume_ml": "false-positive volume (mL)",
    "surface_dice_2mm": "surface Dice at 2 mm",
    "hd95_mm": "HD95 (mm)",
    "brier": "Brier score",
    "ece": "calibration error",
}
#: The stages of a run, in its order.
STAGE_TITLES = {
    "prepare": "data",
    "audit": "leak audit",
    "pretrain": "pre-training",
    "finetune": "fine-tuning",
    "compare": "comparison",
}
#: Data sets inside a sentence; another one is called by its name.
SET_TITLES = {"natural": "natural pictures", "mri": "MRI slices", **TARGET_WORDS}
BASELINE_TITLES = {
    "empty": "empty prediction",
    "threshold": "one intensity threshold",
    "prior_map": "prior map",
    "ceiling": "resolution ceiling",
}
DETECTION_METRICS = ("lesion_sensitivity", "lesion_precision", "lesion_f1", "fp_per_scan")
SUMMARY_COLUMNS = ("target", "source", "metric", "class", "mean", "lower", "upper", "n", "seeds", "left_out")
_TEXT_COLUMNS = ("profile", "arm", "encoder", "source", "domain", "task", "target", "subject", "metric", "class")


def read_results(path: Path) -> pd.DataFrame:
    """`results.csv` or `all.csv.gz` of a run, text columns as text (an empty class is "", never NaN).

    BadInput when the file is missing, unreadable or lacks a column.
    """
    if not path.is_file():
        raise BadInput(f"{path} is missing; finish the run first: braintransfer status")
    try:
        frame = pd.read_csv(
            path, dtype={name: str for name in _TEXT_COLUMNS}, keep_default_na=False, na_values={"value": [""]}
        )
    except (ValueError, OSError) as error:
        raise BadInput(f"{path} cannot be read as CSV ({error}); run the compare stage again") from None
    missing = [name for name in RESULT_COLUMNS if name not in frame.columns]
    if missing:
        raise BadInput(f"{path} lacks the column {missing[0]}; run the compare stage again")
    return frame


def subject_by_seed(
    results: pd.DataFrame, source: str, target: str, metric: str, class_: str = "", arm: str = "main"
) -> pd.DataFrame:
    """Values of one cell: one row a subject, one column a seed; a subject tested in several folds is averaged."""
    cell = results[
        (results["arm"] == arm)
        & (results["source"] == source)
        & (results["target"] == target)
        & (results["metric"] == metric)
        & (results["class"] == class_)
    ]
    return cell.groupby(["subject", "seed"])["value"].mean().unstack("seed")


def _complete(values: pd.DataFrame) -> np.ndarray:
    # The estimator needs a value for each subject and seed; subjects without (an empty reference, or nothing
    # predicted where precision is asked) are left out and counted. A seed that has none for anybody is left out as a whole.
    return values.dropna(axis=1, how="all").dropna(axis=0, how="any").to_numpy(dtype=float)


def _paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> statistics.Interval | None:
    """The difference of two cells over the people and seeds that both have; None where they share none."""
    complete = _complete(ours - theirs) if not (ours.empty or theirs.empty) else np.empty((0, 0))
    return statistics.paired_difference(complete) if complete.size else None


def _summary_row(target: str, source: str, metric: str, class_: str, values: pd.DataFrame) -> dict[str, Any]:
    complete = _complete(values)
    row: dict[str, Any] = {"target": target, "source": source, "metric": metric, "class": class_}
    if complete.size == 0:
        return row | {
            "mean": math.nan,
            "lower": math.nan,
            "upper": math.nan,
            "n": 0,
            "seeds": complete.shape[1],
            "left_out": len(values),
        }
    interval = statistics.mean_interval(complete)
    return row | {
        "mean": float(interval.estimate),
        "lower": float(interval.lower),
        "upper": float(interval.upper),
        "n": complete.shape[0],
        "seeds": complete.shape[1],
        "left_out": len(values) - complete.shape[0],
    }


def summarise(
    results: pd.DataFrame, metrics: Sequence[str], *, targets: Iterable[str] = TARGETS, arm: str = "main"
) -> pd.DataFrame:
    """Mean and 95 % interval of every source, target, metric and class that `results` holds.

    Columns: target, source, metric, class, mean, lower, upper, n (subjects), seeds, left_out (subjects without a value
    in some seed). Rows follow the study's order. Intervals: `statistics.mean_interval` (two-way random effects).
    """
    wanted = results[(results["arm"] == arm) & results["metric"].isin(metrics)]
    cells: dict[Any, pd.DataFrame] = dict(iter(wanted.groupby(["target", "source", "metric", "class"], sort=True)))
    rows = [
        _summary_row(target, source, metric, key[3], subject_by_seed(cells[key], source, target, metric, key[3], arm))
        for target in targets
        for source in SOURCES
        for metric in metrics
        for key in cells
        if key[:3] == (target, source, metric)
    ]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def accuracy_table(results: pd.DataFrame, arm: str = "main") -> pd.DataFrame:
    """Segmentation accuracy (Dice, IoU, mIoU, surface Dice; whichever is there), all targets and sources."""
    return summarise(results, ("dice", "iou", "miou", "surface_dice_2mm"), arm=arm)


def detection_table(results: pd.DataFrame, arm: str = "main") -> pd.DataFrame:
    """Lesion detection on stroke and ms: sensitivity first, always beside precision, F1 and false positives."""
    return summarise(results, DETECTION_METRICS, targets=DETECTED, arm=arm)


SECONDARY_METRICS = ("volume_error_ml", "volume_error_abs_ml", "fp_volume_ml", "hd95_mm")


def secondary_table(results: pd.DataFrame, arm: str = "main") -> pd.DataFrame:
    """Volume error, false-positive volume and HD95, all targets and sources.

    Not Brier score and ECE: each network chooses by its own p > .01 which voxels count, so a mean over them ranks nothing.
    """
    return summarise(results, SECONDARY_METRICS, arm=arm)


def _figures(interval: statistics.Interval) -> dict[str, float]:
    """The columns of a table that hold an interval."""
    return {
        "mean": interval.estimate, "lower": interval.lower, "upper": interval.upper, "n": interval.n_subjects,
        "seeds": interval.n_seeds,
    }  # fmt: skip


DIFFERENCE_COLUMNS = ("target", "metric", "A", "B", "mean", "lower", "upper", "n", "seeds", "adjusted_p", "df")


def difference_table(results: pd.DataFrame, reference: str = "mri-segmentation", arm: str = "main") -> pd.DataFrame:
    """Paired differences `reference` minus each other source on each target's headline metric.

    Columns: DIFFERENCE_COLUMNS. Only subjects and seeds that both sources have. adjusted_p: two-sided, Holm's correction over
    the other sources of the target; NaN without an interval. df: degrees of freedom of the interval.
    """
    rows = []
    for target in TARGETS:
        metric = HEADLINE[target]
        ours = subject_by_seed(results, reference, target, metric, arm=arm)
        found = {}
        for source in SOURCES:
            theirs = subject_by_seed(results, source, target, metric, arm=arm)
            interval = _paired(ours, theirs) if source != reference else None
            if interval is not None:
                found[source] = interval
        p_values = [min(2 * min(statistics.p_above(i, 0), statistics.p_below(i, 0)), 1.0) for i in found.values()]
        for (source, interval), p in zip(found.items(), statistics.holm(p_values), strict=True):
            rows.append(
                {
                    "target": target,
                    "metric": metric,
                    "A": reference,
                    "B": source,
                    **_figures(interval),
                    "adjusted_p": p,
                    "df": interval.df,
                }
            )
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))


ARM_COLUMNS = (
    "arm", "target", "source", "metric", "n_train", "n_source", "mean", "lower", "upper", "difference",
    "difference_lower", "difference_upper", "n", "seeds",
)  # fmt: skip


def arms_table(results: pd.DataFrame) -> pd.DataFrame:
    """Every cell of an arm other than main, beside the same source of the main arm, on the metrics that decide.

    difference: arm minus main, paired by person and seed, with its 95 % interval; n, seeds: those of the difference.
    Rows in the order of `study.ARMS`, then the families; then targets, sources, metrics.
    """
    rows = []
    names = sorted(set(results["arm"]) - {"main"}, key=_arm_order)
    for name in names:
        of_arm = results[results["arm"] == name]
        for target in TARGETS:
            for source in SOURCES:
                cell = of_arm[(of_arm["target"] == target) & (of_arm["source"] == source)]
                for metric in [HEADLINE[target], *(["lesion_sensitivity"] if target in DETECTED else [])]:
                    own = subject_by_seed(cell, source, target, metric, arm=name)
                    if own.empty:
                        continue
                    interval = _paired(own, subject_by_seed(results, source, target, metric))
                    rows.append(
                        _summary_row(target, source, metric, "", own)
                        | {
                            "arm": name,
                            "n_train": int(cell["n_train"].max()),
                            "n_source": int(cell["n_source"].max()),
                            "difference": interval.estimate if interval else math.nan,
                            "difference_lower": interval.lower if interval else math.nan,
                            "difference_upper": interval.upper if interval else math.nan,
                            "n": interval.n_subjects if interval else 0,
                            "seeds": interval.n_seeds if interval else 0,
                        }
                    )
    return pd.DataFrame(rows, columns=list(ARM_COLUMNS))


PAIR_COLUMNS = ("question", "A_arm", "A", "B_arm", "B", "target", "metric", "mean", "lower", "upper", "n", "seeds")
#: The kind of an arm -> its question, where the same source of the main arm is not what answers it.
_ASKED = {
    "scratch_long": "more than training longer?",
    "shuffled_masks": "does it help only to have seen such pictures?",
    "moment_matched": "does the scale of the weights help, without the features?",
    "size": "do so few pictures help?",
    "replicate": "does the other set help?",
    "labels": "does it help with so few labelled people?",
}


def pairs_table(results: pd.DataFrame) -> pd.DataFrame:
    """The paired differences that answer what the controls are there to ask, on each target's headline metric.

    Columns: PAIR_COLUMNS; A minus B, each in an arm of its own, with its 95 % interval over the people and seeds that both have.
    A is the arm's source and B random weights: those of the main arm, or with so many labelled people those of the same arm. For
    random weights that were trained longer, A is each source of the main arm.
    """
    having = set(zip(results["arm"], results["source"], strict=True))
    rows = []
    for name in sorted({arm for arm, _ in having} - {"main"}, key=_arm_order):
        kind = arm_called(name).kind
        if kind not in _ASKED:
            continue
        ours = "main" if kind == "scratch_long" else name
        theirs = name if kind in ("scratch_long", "labels") else "main"
        others = [
            source for source in SOURCES if source != "scratch" and {(ours, source), (theirs, "scratch")} <= having
        ]
        for target in TARGETS:
            metric = HEADLINE[target]
            plain = subject_by_seed(results, "scratch", target, metric, arm=theirs)
            for source in others:
                interval = _paired(subject_by_seed(results, source, target, metric, arm=ours), plain)
                if interval is not None:
                    sides = {"A_arm": ours, "A": source, "B_arm": theirs, "B": "scratch"}
                    of = {"question": _ASKED[kind], **sides, "target": target, "metric": metric}
                    rows.append({**of, **_figures(interval)})
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def _arm_order(name: str) -> tuple[int, float, str]:
    known = arm_called(name)
    families = [a.name for a in ARMS] + ["size", "labels", "replicate"]
    return families.index(known.kind), known.number, name


def factorial_table(results: pd.DataFrame) -> pd.DataFrame:
    """Domain, task and interaction on each target: contrasts of the six pre-trained cells, a person and seed at a time.

    Columns: target, metric, kind, contrast, mean, lower, upper, n, seeds. Only people and seeds that all six have; a target
    that lacks one of the six is left out. Scratch and ImageNet stand outside.
    """
    rows = []
    for target in TARGETS:
        for metric in [HEADLINE[target], *(["lesion_sensitivity"] if target in DETECTED else [])]:
            cells = {source: subject_by_seed(results, source, target, metric) for source in PRETRAINED_HERE}
            if any(cell.empty for cell in cells.values()):
                continue
            seeds = sorted(set.intersection(*(set(cell.columns) for cell in cells.values())))
            whole = [cell[seeds].dropna(axis=0, how="any") for cell in cells.values()]
            people = sorted(set.intersection(*(set(cell.index) for cell in whole)))
            if not seeds or not people:
                continue
            same = {source: cell.loc[people, seeds].to_numpy() for source, cell in cells.items()}
            for contrast in statistics.factorial(same):
                rows.append(
                    {
                        "target": target, "metric": metric, "kind": contrast.kind, "contrast": contrast.name,
                        "mean": float(contrast.interval.estimate), "lower": float(contrast.interval.lower),
                        "upper": float(contrast.interval.upper), "n": len(people), "seeds": len(seeds),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows, columns=["target", "metric", "kind", "contrast", "mean", "lower", "upper", "n", "seeds"])


def unjudged(sources: Iterable[str]) -> str:
    """Said in place of what an interval allows to say, where an encoder did not learn its own task."""
    return f"not judged: {' and '.join(source_title(s) for s in sources)} did not learn enough"


def arms_for_reading(arms: pd.DataFrame, target: str, unlearned: Collection[str] = ()) -> pd.DataFrame:
    """The controls of a target in words: what was changed, for which source, and how far it moved the score.

    A row whose encoders did not learn their own task (`learned` is "no") says nothing of its pictures, and is not judged;
    nor is one beside a main arm that did not. unlearned: as in `differences_for_reading`.
    """
    part = arms[(arms["target"] == target) & (arms["metric"] == HEADLINE[target])]
    metric = METRIC_TITLES[HEADLINE[target]]

    def said(r: Mapping[str, Any]) -> str:
        if r.get("learned") == "no":
            return unjudged(["it"])
        if r["source"] in unlearned:
            return unjudged(["its main arm"])
        return in_words(r["difference_lower"], r["difference_upper"])

    return pd.DataFrame(
        [
            {
                "control": arm_title(str(r["arm"])),
                "source": SOURCE_TITLES[str(r["source"])],
                "its pictures": "–" if r["arm"] == "moment_matched" else f"{int(r['n_source']):,}",
                metric: with_interval(r["mean"], r["lower"], r["upper"]),
                "minus the main arm": with_interval(r["difference"], r["difference_lower"], r["difference_upper"], 3),
                "in words": said(r),
                "people": r["n"],
            }
            for r in part.to_dict("records")
        ]
    )


def pairs_for_reading(pairs: pd.DataFrame, target: str, unlearned: Collection[str] = ()) -> pd.DataFrame:
    """What the controls are there to ask (`pairs_table`), in words. unlearned: as in `differences_for_reading`."""
    rows = []
    for r in pairs[pairs["target"] == target].to_dict("records"):
        sides = [(str(r[f"{side}_arm"]), str(r[side])) for side in ("A", "B")]
        gone = [source for arm, source in sides if encoder_name(arm, source) in unlearned]
        rows.append(
            {
                "question": r["question"],
                "A − B": " − ".join(", ".join(filter(None, (SOURCE_TITLES[s], arm_title(a)))) for a, s in sides),
                f"difference in {METRIC_TITLES[str(r['metric'])]}": with_interval(r["mean"], r["lower"], r["upper"], 3),
                "in words": unjudged(gone) if gone else in_words(r["lower"], r["upper"]),
                "people": r["n"],
            }
        )
    return pd.DataFrame(rows)


def factorial_for_reading(factorial: pd.DataFrame, target: str, unlearned: Collection[str] = ()) -> pd.DataFrame:
    """Domain, task and interaction on a target's headline metric, in words. unlearned: as in `differences_for_reading`."""
    part = factorial[(factorial["target"] == target) & (factorial["metric"] == HEADLINE[target])]
    weights = {name: given for _, name, given in statistics.factorial_weights()}
    rows = []
    for r in part.to_dict("records"):
        gone = [s for s in PRETRAINED_HERE if s in unlearned and weights.get(str(r["contrast"]), {}).get(s)]
        rows.append(
            {
                "effect": r["kind"],
                "contrast": contrast_title(str(r["contrast"])),
                f"difference in {METRIC_TITLES[HEADLINE[target]]}": with_interval(r["mean"], r["lower"], r["upper"], 3),
                "in words": unjudged(gone) if gone else in_words(r["lower"], r["upper"]),
                "people": r["n"],
                "seeds": r["seeds"],
            }
        )
    return pd.DataFrame(rows)


def cost_for_reading(cost: pd.DataFrame) -> pd.DataFrame:
    """What a run took (`cost.cost_table`), as a reader meets it, in the order of the stages."""
    order = list(STAGE_TITLES)
    known = cost.sort_values(
        "stage", key=lambda names: [order.index(n) if n in order else -1 for n in names], kind="stable"
    )
    return pd.DataFrame(
        [
            {
                "stage": STAGE_TITLES.get(r["stage"], r["stage"]),
                "arm": r["arm"] if isinstance(r["arm"], str) and r["arm"] else "–",
                "runs": r["runs"],
                "planned device-hours": number(float(r["planned_hours"])),
                "device-hours": number(float(r["hours"])),
                "samples": f"{int(r['samples']):,}",
                "peak memory (GB)": number(float(r["peak_memory_gb"]), 1),
                "device": r["device"],
            }
            for r in known.to_dict("records")
        ]
    )


def split_for_reading(split: pd.DataFrame) -> pd.DataFrame:
    """Where the time went (`cost.split_table`), as a reader meets it: hours, and the share of all that is listed."""
    whole = float(split["seconds"].sum())
    return pd.DataFrame(
        [
            {
                "what": r["what"],
                "device-hours": number(float(r["seconds"]) / 3600, 3),
                "share": f"{100 * float(r['seconds']) / whole:.0f} %" if whole else "–",
            }
            for r in split.to_dict("records")
        ]
    )


def baselines_table(baselines: pd.DataFrame) -> pd.DataFrame:
    """Mean of each baseline over subjects: trivial predictions (floor) and the resolution ceiling (roof).

    baselines: long form with columns baseline, target, subject, metric, class, value (no seed: nothing is trained).
    Returns the columns of `summarise` with the baseline's name as `source`.
    """
    rows = []
    for target in TARGETS:
        for baseline in BASELINE_TITLES:
            cell = baselines[(baselines["target"] == target) & (baselines["baseline"] == baseline)]
            for (metric, class_), values in cell.groupby(["metric", "class"], sort=False):
                matrix = values.groupby("subject")[["value"]].mean()
                rows.append(_summary_row(target, baseline, str(metric), str(class_), matrix))
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def sizes_table(results: pd.DataFrame, arm: str = "main") -> pd.DataFrame:
    """How much stands behind each target: people tested, people trained on, folds, seeds, sources."""
    main = results[results["arm"] == arm]
    rows = []
    for target in TARGETS:
        cell = main[main["target"] == target]
        if len(cell):
            train = sorted({int(n) for n in cell["n_train"]})
            rows.append(
                {
                    "target": target,
                    "people tested": cell["subject"].nunique(),
                    "people trained on": " to ".join(dict.fromkeys((str(train[0]), str(train[-1])))),
                    "folds": cell["fold"].nunique(),
                    "seeds": cell["seed"].nunique(),
                    "sources": cell["source"].nunique(),
                }
            )
    return pd.DataFrame(rows, columns=["target", "people tested", "people trained on", "folds", "seeds", "sources"])


SOURCE_DATA_COLUMNS = ("source", "data set", "kind", "images", "held out", "groups", "group is", "classes", "licence")


def source_data_table(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The data behind each source, one row a source in the study's order, the two controls filled in.

    records: one mapping a pre-trained source with the keys source, data set, kind (simulated | real), images (unique ones that
    it learns from, int), held out (int), groups of the whole set (int), "group is" (person, video, photograph, block ...),
    classes (int), licence. The last column says how many times more images ImageNet has.
    """
    known = {str(record["source"]): dict(record) for record in records}
    unknown = set(known) - set(SOURCES)
    if unknown:
        raise BadInput(f"source data: unknown source {sorted(unknown)[0]}; allowed: {', '.join(SOURCES)}")
    known.setdefault(
        "scratch",
        {name: 0 for name in ("images", "held out", "groups", "classes")} | {"data set": "none"},
    )
    known.setdefault(
        "imagenet",
        {
            "data set": "ImageNet-1k (public weights)",
            "kind": "real",
            "images": IMAGENET_IMAGES,
            "held out": 50_000,
            "groups": IMAGENET_IMAGES,
            "group is": "photograph",
            "classes": 1000,
            "licence": "weights Apache-2.0",
        },
    )
    rows = []
    for source in SOURCES:
        if source in known:
            images = int(known[source]["images"])
            ratio = f"{IMAGENET_IMAGES / images:,.0f}" if images else ""
            rows.append(
                {name: known[source].get(name, "") for name in SOURCE_DATA_COLUMNS}
                | {"source": source, "ImageNet is larger by": ratio}
            )
    return pd.DataFrame(rows, columns=[*SOURCE_DATA_COLUMNS, "ImageNet is larger by"])


def _facts(run: Path, dataset: str) -> dict[str, Any]:
    manifest = read_manifest(run / "data" / dataset)
    return dict(manifest.get("facts", {})) if manifest else {}


def data_kind(facts: Mapping[str, Any]) -> str:
    """ "simulated" | "semi-synthetic" | "composited" | "real" from the facts in the manifest of a `prepare` stage.

    By the recipe's kind. Stores and kept runs from before it was written down have the recipe's name alone, and go by that.
    """
    if facts.get("simulated") or facts.get("kind") == "simulated":
        return "simulated"
    word = str(facts.get("kind") or facts.get("recipe", "")).replace("-", "").replace("_", "")
    return "semi-synthetic" if "semisynthetic" in word else "composited" if "composited" in word else "real"


def target_kinds(run: Path) -> dict[str, str]:
    """What the numbers on each target of a run folder stand on: target -> "simulated" | "semi-synthetic" | "real".

    From `run.json` (key kinds) when it says so, else from the manifests below `data/`, else from run.json's simulated.
    """
    described = read_json(run / "run.json", {})
    if isinstance(described.get("kinds"), dict):
        return {str(k): str(v) for k, v in described["kinds"].items()}
    kinds = {}
    for target in TARGETS:
        facts = _facts(run, target)
        if facts:
            kinds[target] = data_kind(facts)
        elif "simulated" in described:
            kinds[target] = "simulated" if described["simulated"] else "real"
    return kinds


def source_records(run: Path, results: pd.DataFrame) -> list[dict[str, Any]]:
    """The records of `source_data_table` from a run's `prepare` manifests and results. A domain's tasks share one set."""
    learned_from = results[results["arm"] == "main"].groupby("source")["n_source"].max()
    records = []
    for domain in DOMAINS:
        facts = _facts(run, domain)
        if facts:
            record = {
                "data set": facts.get("title", domain),
                "kind": data_kind(facts),
                "held out": int(facts.get("images_validation", 0)),
                "groups": int(facts.get("groups", 0)),
                "group is": facts.get("group_means", ""),
                "classes": len(facts.get("classes", ())),
                "licence": facts.get("licence", ""),
            }
            sources = [f"{domain}-{task}" for task in TASKS]
            records += [{"source": s, "images": int(learned_from[s]), **record} for s in sources if s in learned_from]
    return records


def replicate_data_table(run: Path, results: pd.DataFrame) -> pd.DataFrame:
    """The data of a run's replicates: arm, title, kind, images learned from and held out, groups, classes, licence."""
    learned_from, rows = results.groupby("arm")["n_source"].max(), []
    for folder in sorted((run / "data").glob("replicate_*")):
        facts = _facts(run, folder.name) if folder.name in learned_from else {}
        if facts:
            rows.append(
                {
                    "arm": set_title(folder.name), "data set": facts.get("title", folder.name), "kind": data_kind(facts),
                    "images": int(learned_from[folder.name]), "held out": facts.get("images_validation", ""),
                    "groups": facts.get("groups", ""), "group is": facts.get("group_means", ""),
                    "classes": len([name for name in facts.get("classes", ()) if name]), "licence": facts.get("licence", ""),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def target_data_table(run: Path) -> pd.DataFrame:
    """The data behind each target of a run folder: title, kind, people, scans, slices, spacing, licence."""
    rows = []
    for target in TARGETS:
        facts = _facts(run, target)
        if facts:
            rows.append(
                {
                    "target": target,
                    "data set": facts.get("title", target),
                    "kind": data_kind(facts),
                    "people": facts.get("people", ""),
                    "scans": facts.get("scans", ""),
                    "slices": facts.get("slices", ""),
                    "working grid (mm)": facts.get("spacing", ""),
                    "licence": facts.get("licence", ""),
                }
            )
    return pd.DataFrame(rows)


def read_showcase(run: Path, arm: str = "main") -> pd.DataFrame:
    """Scores of the people that are shown one by one: columns source, target, subject, seed, metric, class, value."""
    frames = []
    for path in sorted((run / "targets" / arm).glob("*/*/fold-*/seed-*/showcase.csv")):
        text = {"subject": str, "scan": str, "metric": str, "class": str}
        frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"value": [""]})
        target, source, _, seed = path.parts[-5:-1]
        frames.append(frame.assign(source=source, target=target, seed=int(seed.rpartition("-")[2])))
    columns = ["source", "target", "subject", "seed", "metric", "class", "value"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def showcase_table(showcase: pd.DataFrame) -> pd.DataFrame:
    """One value a person, source and metric (mean over seeds): shown one by one, so no mean over people."""
    keys = ["target", "subject", "source", "metric", "class"]
    metrics = ("dice", "lesion_sensitivity", "lesion_precision", "fp_per_scan")
    return showcase[showcase["metric"].isin(metrics)].groupby(keys, as_index=False)["value"].mean()


# ------------------------------------------------------------------------------------------------------------- wording
def people_words(n: int) -> str:
    return f"{n} person" if n == 1 else f"{n} people"


def seeds_words(n: int) -> str:
    return f"{n} seed" if n == 1 else f"{n} seeds"


def source_title(name: str) -> str:
    """The title of a source, or of one side of a claim ("mri-segmentation@size_0.1"); another name stays as it is."""
    source, _, share = name.partition("@size_")
    title = SOURCE_TITLES.get(source, source)
    return f"{title}, {arm_title(f'size_{share}')}" if share else title


#: What a control is called in figures and tables; `study.ARMS` says what it does.
ARM_TITLES = {
    "main": "",
    "shuffled_masks": "shuffled masks",
    "contrastive": "contrastive task",
    "grey_natural": "without colour",
    "scratch_long": "three times longer",
    "frozen_random": "encoder frozen",
    "moment_matched": "matched moments alone",
    "decoder_transfer": "with its decoder",
    "tuned_rate": "tuned learning rate",
}


def arm_title(name: str) -> str:
    """The title of an arm, short: "shuffled masks", "4 labelled people", "10 % of the images", "from malf"; "" for the main arm."""
    known = arm_called(name)
    if known.kind == "labels":
        return people_words(int(known.number)).replace(" ", " labelled ")
    if known.kind == "size":
        return f"{100 * known.number:g} % of the images"
    if known.kind == "replicate":
        return f"from {set_title(name.partition('_')[2])}"
    return ARM_TITLES[name]


def contrast_title(name: str) -> str:
    """A contrast of `factorial_table` in words: "MRI − natural"."""
    known = {"selfsupervised": "self-supervised", " - ": " − "}
    for raw, title in known.items():
        name = name.replace(raw, title)
    return re.sub(r"\bmri\b", "MRI", name)


def set_title(name: str) -> str:
    """A data set inside a sentence: "ms_patients" -> "MS patients"."""
    return SET_TITLES.get(name, re.sub(r"\b(ms|mri)\b", lambda found: found[0].upper(), name.replace("_", " ")))


def number(value: float, digits: int = 2) -> str:
    """A number for people: "0.62", with a true minus sign; "–" where it is not defined."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def with_interval(mean: float, lower: float, upper: float, digits: int = 2) -> str:
    """ "0.62 (0.55 to 0.69)"; without limits (one seed or one person) "0.62 (no interval)".

    A limit that would read as zero, and is not, gets as many digits more as show its side.
    """
    if not math.isfinite(mean):
        return "–"
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return f"{number(mean, digits)} (no interval)"
    limits = []
    for value in (lower, upper):
        shown = digits
        while value and shown < 6 and round(value, shown) == 0:
            shown += 1
        limits.append(number(value, shown))
    return f"{number(mean, digits)} ({' to '.join(limits)})"


def column_title(metric: str, class_: str) -> str:
    title = METRIC_TITLES.get(metric, metric)
    return f"{title}, {CLASS_TITLES.get(class_, class_)}" if class_ else title


def for_reading(summary: pd.DataFrame, target: str) -> pd.DataFrame:
    """A summary as a reader meets it: one row a source, one column a metric, "0.62 (0.55 to 0.69)", and n.

    Nothing is bold: a mean whose interval overlaps another's is no winner.
    """
    part = summary[summary["target"] == target]
    rows: dict[str, dict[str, str]] = {}
    for record in part.to_dict("records"):
        source = str(record["source"])
        row = rows.setdefault(source, {"source": SOURCE_TITLES.get(source, BASELINE_TITLES.get(source, source))})
        title = column_title(str(record["metric"]), str(record["class"]))
        row[title] = with_interval(record["mean"], record["lower"], record["upper"])
        if record["left_out"]:
            row[title] += f" [n = {record['n']}]"
    sizes = part.groupby("source")["n"].max() if len(part) else {}
    for source, row in rows.items():
        row["people"] = str(int(sizes[source]))
    return pd.DataFrame(list(rows.values())).fillna("–")


def seeds_alike(differences: pd.DataFrame) -> int:
    """Of how many of these differences (`difference_table`) the seeds' part came out as none, so that they count like people alone."""
    return int((differences["df"] >= differences["n"] - 1).sum())


def differences_for_reading(differences: pd.DataFrame, target: str, unlearned: Collection[str] = ()) -> pd.DataFrame:
    """Paired differences in words: estimate with interval and what can be said from it, also once corrected for their number.

    unlearned: encoders that did not learn their own task (`claims.unlearned`), so that nothing can be said.
    """
    part = differences[differences["target"] == target]
    rows = []
    for r in part.to_dict("records"):
        gone = [str(r[side]) for side in ("A", "B") if r[side] in unlearned]
        said = unjudged(gone) if gone else in_words(r["lower"], r["upper"])
        row = {
            "compared with": SOURCE_TITLES[str(r["B"])],
            f"difference in {METRIC_TITLES[str(r['metric'])]}": with_interval(r["mean"], r["lower"], r["upper"], 3),
            "in words": said,
        }
        if "adjusted_p" in r:
            row["also after Holm"] = (
                ("yes" if r["adjusted_p"] <= 0.05 else "no") if said in ("higher", "lower") else "–"
            )
        rows.append(row | {"people": r["n"]})
    return pd.DataFrame(rows)


def sensitivity_at_equal_false_positives(froc: pd.DataFrame, target: str) -> pd.DataFrame:
    """Each source's sensitivity at the median of the sources' false positives a scan at threshold .5.

    froc: columns target, source, threshold, sensitivity, fp_per_scan. Read off the curve, straight between its thresholds; NaN where
    a source's curve does not reach so few or so many. The fixed threshold compares sources at different numbers of false
    positives, which this does not. Columns: source, its sensitivity and false positives at .5, its sensitivity at the median.
    """
    numbers = dict.fromkeys(("threshold", "sensitivity", "fp_per_scan"), float)
    part = froc[froc["target"] == target].astype(numbers)
    at_half = part[part["threshold"] == 0.5].set_index("source")
    common = float(at_half["fp_per_scan"].median())
    rows = []
    for source in (s for s in SOURCES if s in at_half.index):
        curve = part[part["source"] == source].sort_values("fp_per_scan")
        there = np.interp(common, curve["fp_per_scan"], curve["sensitivity"], left=np.nan, right=np.nan)
        own = at_half.loc[source]
        rows.append(
            {
                "source": SOURCE_TITLES[source],
                "sensitivity at threshold .5": number(own["sensitivity"]),
                "false positives a scan there": number(own["fp_per_scan"], 1),
                f"sensitivity at {number(common, 1)} false positives a scan": number(float(there)),
            }
        )
    return pd.DataFrame(rows)


#: What the book asks first of any run: each a difference between two starts.
ASKED_FIRST = (("imagenet", "scratch"), ("mri-segmentation", "scratch"), ("mri-segmentation", "imagenet"))


def runs_table(
    results: Mapping[str, pd.DataFrame], unlearned: Mapping[str, Collection[str]] | None = None
) -> pd.DataFrame:
    """The differences of ASKED_FIRST on each target's headline metric in several runs, main arms only.

    results: results tables by the run's name. unlearned: by the run's name, encoders that did not learn their own task. Columns: run,
    those of `difference_table` without the correction and df, and said: "" or why a difference cannot be judged.
    """
    found = []
    for name, frame in results.items():
        every = pd.concat([difference_table(frame, a) for a in dict.fromkeys(a for a, _ in ASKED_FIRST)])
        for a, b in ASKED_FIRST:
            gone = [side for side in (a, b) if side in (unlearned or {}).get(name, ())]
            asked = every[(every["A"] == a) & (every["B"] == b)].drop(columns=["adjusted_p", "df"])
            found.append(asked.assign(run=name, said=unjudged(gone) if gone else ""))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["run", *DIFFERENCE_COLUMNS, "said"])


def runs_for_reading(differences: pd.DataFrame) -> pd.DataFrame:
    """`runs_table` with a column for each run; "–" where a run does not have both starts."""
    names = list(dict.fromkeys(differences["run"]))
    rows = []
    for target in TARGETS:
        for a, b in ASKED_FIRST:
            part = differences[(differences["target"] == target) & (differences["A"] == a) & (differences["B"] == b)]
            held = {str(r["run"]): r for r in part.to_dict("records")}
            if held:
                metric = METRIC_TITLES[HEADLINE[target]]
                row = {
                    "target": f"{TARGET_TITLES[target]} ({metric})",
                    "difference": f"{SOURCE_TITLES[a]} − {SOURCE_TITLES[b]}",
                }
                rows.append(row | {name: _difference_and_people(held.get(name)) for name in names})
    return pd.DataFrame(rows)


def _difference_and_people(held: Mapping[Any, Any] | None) -> str:
    if held is None:
        return "–"
    return str(held["said"] or f"{with_interval(held['mean'], held['lower'], held['upper'], 3)} [n = {held['n']}]")


def in_words(lower: float, upper: float) -> str:
    """What an interval of a difference allows to say; a crossing of zero is never called a win."""
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return "cannot be said (no interval)"
    if lower > 0:
        return "higher"
    if upper < 0:
        return "lower"
    return "no evidence for a difference"


# --------------------------------------------------------------------------------------------------------------- files
def comparison_tables(
    results: pd.DataFrame, baselines: pd.DataFrame | None = None, run: Path | None = None
) -> dict[str, pd.DataFrame]:
    """Every table that the book reads from `compare/`, by file name (without .csv).

    results: long form, every metric. baselines: see `baselines_table`. run: the run folder, for the tables about its
    data and its people shown one by one.
    """
    made = {
        "accuracy": accuracy_table(results),
        "detection": detection_table(results),
        "secondary": secondary_table(results),
        "differences": difference_table(results),
        "factorial": factorial_table(results),
        "arms": arms_table(results),
        "pairs": pairs_table(results),
        "sizes": sizes_table(results),
    }
    if baselines is not None and len(baselines):
        made["baselines"] = baselines_table(baselines)
    if run is not None:
        made["sources"] = source_data_table(source_records(run, results))
        made["replicates"] = replicate_data_table(run, results)
        made["targets"] = target_data_table(run)
        made["showcase"] = showcase_table(read_showcase(run))
    return {name: table for name, table in made.items() if len(table)}


def read_json(path: Path, otherwise: Any) -> Any:
    """The value in a JSON file, or `otherwise` when there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise


_NUMBERS = (
    "mean", "lower", "upper", "value", "adjusted_p", "hours", "planned_hours", "peak_memory_gb", "seconds"
)  # fmt: skip


def read_table(path: Path) -> pd.DataFrame:
    """A table that `comparison_tables` made: means, limits and values as numbers, text as text (empty is "")."""
    frame = pd.read_csv(path, keep_default_na=False, dtype=str)
    for name in frame.columns:
        if name in _NUMBERS or name.startswith("difference"):
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
        elif name in ("n", "seeds", "left_out", "n_train", "n_source", "runs", "samples"):
            frame[name] = frame[name].astype(int)
    return frame


# -------------------------------------------------------------------------------------------------------------- audits
def _found(comparisons: pd.DataFrame) -> str:
    """How many were found, and "or more" where the search had looked at as many as it looks at."""
    more = (comparisons["kind"] == "picture") & (comparisons["found"].astype(int) >= LOOKS)
    return f"{comparisons['found'].astype(int).sum()}{' or more' if more.any() else ''}"


def leaks_for_reading(leaks: pd.DataFrame) -> pd.DataFrame:
    """leaks.csv as a reader meets it: a row for each two data sets (or one with itself), a column for each kind."""
    titles = {
        "subject": "people",
        "session": "sessions",
        "site": "sites",
        "mask": "lesion masks",
        "picture": "pictures",
    }
    rows = []
    for (a, b), part in leaks.groupby(["A", "B"], sort=False):
        first, second = set_title(str(a)), set_title(str(b))
        row = {"between": f"the parts of {first}" if a == b else f"{first} and {second}"}
        for kind, title in titles.items():
            of = part[part["kind"] == kind]
            row[title] = f"{_found(of)} of {of['compared'].astype(int).sum():,}" if len(of) else ""
        row["nearest pictures"] = f"{pd.to_numeric(part['nearest']).max():.2f}"
        row["allowed, since"] = "; ".join(dict.fromkeys(part.loc[part["verdict"] == "allowed", "why"]))
        rows.append(row)
    return pd.DataFrame(rows)


def planted_for_reading(planted: pd.DataFrame) -> pd.DataFrame:
    """planted.csv as a reader meets it: a row a disguise, a column a set: how many were found, and the least similarity."""
    cells = [f"{r.found} of {r.planted} (≥ {float(r.least):.2f})" for r in planted.itertuples()]
    sets = [set_title(str(name)) for name in planted["set"]]
    wide = planted.assign(cell=cells, set=sets).pivot(index="disguise", columns="set", values="cell")
    return wide.loc[planted["disguise"].unique()].rename_axis(None, axis=1).reset_index()


def fairness_for_reading(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    """fairness.csv as a reader meets it: an item a row, how many trainings agree on it among all their sources."""
    if frame is None or not len(frame):
        return None
    rows = []
    for (training, item), part in frame.groupby(["training", "item"], sort=False):
        right = "differs" if (part["verdict"] == "differs").any() else "equal"
        rows.append(
            {
                "training": training,
                "what": item,
                "must be": "another for each source" if right == "differs" else "the same for all sources",
                "is so in": f"{int((part['verdict'] == right).sum())} of {len(part)}",
            }
        )
    return pd.DataFrame(rows)
