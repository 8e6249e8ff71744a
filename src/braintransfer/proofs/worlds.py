"""Simulated worlds whose truth is known: how often do the intervals hold it, and how often does each claim's rule err?

Every interval and every verdict here comes from `statistics.mean_interval` and `claims.judge` themselves, not from a
copy: a world is a set of scores, judged as those of a run would be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pandas as pd
from scipy import optimize, special

from braintransfer import claims, study
from braintransfer.statistics import at_level, mean_interval

#: People that are tested on each target.
SIZES = {"stroke": 72, "ms": 27, "anatomy": 17}
SEEDS = 5
#: Half-width of the 95 % interval of a paired difference of two sources pre-trained here, with these people and 5 seeds.
HALF_WIDTHS = {"stroke": 0.020, "ms": 0.027, "anatomy": 0.006}
#: True differences at which coverage is measured: the margins of the plan.
MARGINS = {"stroke": 0.03, "ms": 0.05, "anatomy": 0.01, "lesion_sensitivity": 0.10}
#: Who makes the spread: shares of people, seeds and the rest in the variance of a mean paired difference at 5 seeds.
SPREADS = {
    "people": (0.70, 0.00, 0.30),
    "mixed": (0.45, 0.25, 0.30),
    "seeds": (0.10, 0.80, 0.10),
    "chance": (0.00, 0.00, 1.00),
}
#: ImageNet and random weights are one set of weights, so their seeds differ by fine-tuning alone: half the variance.
FINETUNING_SHARE = 0.5
#: Mean and SD of people's scores from random weights, for normal scores.
LEVELS = {"stroke": (0.50, 0.28), "ms": (0.40, 0.20), "anatomy": (0.80, 0.05)}
#: The same on the logit scale, for bounded scores.
LOGITS = {
    ("stroke", "dice"): (0.2, 1.7),
    ("ms", "dice"): (-0.5, 1.0),
    ("anatomy", "miou"): (1.5, 0.35),
    ("stroke", "lesion_sensitivity"): (-0.2, 1.7),
    ("ms", "lesion_sensitivity"): (-0.3, 1.2),
}
#: A bounded Dice below this is 0: a lesion that is hardly touched is missed altogether.
MISSED = 0.10
#: Mean number of lesions a person: geometric, at least 1, so that many people have one or two.
LESIONS = {"stroke": 2.5, "ms": 12.0}
KINDS = ("normal", "bounded")
SMALL = "size_0.1/mri-segmentation"
NAMES = (*study.SOURCES, SMALL)
DETECTION = "lesion_sensitivity"


@dataclass(frozen=True)
class Design:
    """What a profile tests: people and folds of each target, and seeds."""

    people: Mapping[str, int]
    folds: Mapping[str, int]
    seeds: int


DESIGNS = {
    "open": Design(SIZES, {"stroke": 3, "ms": 3, "anatomy": 4}, SEEDS),
    # one of two folds of the people with stroke
    "reference": Design({"stroke": 36, "ms": 27, "anatomy": 17}, {"stroke": 1, "ms": 3, "anatomy": 2}, 3),
}
REFERENCE = DESIGNS["reference"]

Row = dict[str, str | int | float]
Effects = Mapping[tuple[str, str, str], float]  # (target, metric, name) -> true mean above that of scratch


@cache
def components(target: str, spread: str) -> tuple[float, float, float]:
    """SDs (person, seed, rest) of a paired difference with the shares of `spread` whose intervals are as wide on average
    as `HALF_WIDTHS[target]`, for `SIZES[target]` people and 5 seeds, normal scores.
    """
    n, s = SIZES[target], SEEDS
    parts = [math.sqrt(share * count) for share, count in zip(SPREADS[spread], (n, s, n * s), strict=True)]
    rng = study.stream(0, f"components {target} {spread}")
    halves = []
    for _ in range(500):
        d = parts[0] * rng.standard_normal((n, 1)) + parts[1] * rng.standard_normal((1, s))
        found = mean_interval(d + parts[2] * rng.standard_normal((n, s)))
        halves.append((found.upper - found.lower) / 2)
    # an interval scales with its table, so one step is enough
    person, seed, rest = (part * HALF_WIDTHS[target] / float(np.mean(halves)) for part in parts)
    return person, seed, rest


def _seed_share(name: str) -> float:
    return FINETUNING_SHARE if name in study.CONTROLS else 1.0


def _score(metric: str, logit: np.ndarray) -> np.ndarray:
    value = special.expit(logit)
    return np.where(value < MISSED, 0.0, value) if metric == "dice" else value


_NORMAL = special.ndtri((np.arange(4000) + 0.5) / 4000)


def _expected(metric: str, middle: float, sd: float) -> float:
    return float(_score(metric, middle + sd * _NORMAL).mean())


def _logit_sd(target: str, metric: str, spread: str, scale: float, name: str) -> float:
    """SD of everything that moves a logit: the person, the seed that all sources share, and the source's own part."""
    person, seed, rest = (scale * c for c in components(target, spread))
    own = (person**2 + _seed_share(name) * seed**2 + rest**2) / 2
    return math.sqrt(LOGITS[target, metric][1] ** 2 + seed**2 + own)


@cache
def _shift(target: str, metric: str, spread: str, scale: float, name: str, effect: float) -> float:
    """What to add to the logits of `name` so that its true mean lies exactly `effect` above that of scratch."""
    middle = LOGITS[target, metric][0]
    base = _expected(metric, middle, _logit_sd(target, metric, spread, scale, "scratch"))
    sd = _logit_sd(target, metric, spread, scale, name)
    return float(optimize.brentq(lambda x: _expected(metric, middle + x, sd) - base - effect, -8.0, 8.0, xtol=1e-6))


@cache
def _scale(target: str, spread: str) -> float:
    """How much wider the spread must be on the logit scale to give `HALF_WIDTHS[target]` in bounded scores."""
    metric, found = study.HEADLINE[target], 1.0 / 0.15
    pair = ("mri-segmentation", "natural-segmentation")
    for _ in range(4):
        rng = study.stream(0, f"scale {target} {spread}")
        drawn = _bounded(rng, target, metric, spread, found, dict.fromkeys(pair, 0.0), SIZES[target], SEEDS, 150)
        halves = [mean_interval(d) for d in drawn[pair[0]] - drawn[pair[1]]]
        found *= HALF_WIDTHS[target] / float(np.mean([(h.upper - h.lower) / 2 for h in halves]))
    return found


def _own(rng: np.random.Generator, parts: Sequence[float], name: str, shape: tuple[int, int, int]) -> np.ndarray:
    """One source's own deviations (worlds, n, s); two sources' differ by a table with the SDs `parts`."""
    worlds, n, s = shape
    person, seed, rest = (part / math.sqrt(2) for part in parts)
    found = rest * rng.standard_normal(shape)
    found += person * rng.standard_normal((worlds, n, 1))
    found += seed * math.sqrt(_seed_share(name)) * rng.standard_normal((worlds, 1, s))
    return found


def _bounded(
    rng: np.random.Generator,
    target: str,
    metric: str,
    spread: str,
    scale: float,
    effects: Mapping[str, float],
    n: int,
    s: int,
    worlds: int,
) -> dict[str, np.ndarray]:
    middle, sd = LOGITS[target, metric]
    parts = [scale * c for c in components(target, spread)]
    people = middle + sd * rng.standard_normal((worlds, n, 1)) + parts[1] * rng.standard_normal((worlds, 1, s))
    lesions = rng.geometric(1 / LESIONS[target], size=(worlds, n, 1)) if metric == DETECTION else None
    found = {}
    for name, effect in effects.items():
        logit = people + _shift(target, metric, spread, scale, name, effect)
        values = _score(metric, logit + _own(rng, parts, name, (worlds, n, s)))
        found[name] = values if lesions is None else rng.binomial(lesions, values) / lesions
    return found


def draw(
    rng: np.random.Generator,
    target: str,
    metric: str,
    kind: str,
    spread: str,
    effects: Mapping[str, float],
    n: int,
    s: int,
    worlds: int,
) -> dict[str, np.ndarray]:
    """Scores (worlds, n, s) of each source in `effects` (name -> its true mean above that of scratch).

    score = person + seed + effect + the source's own person, seed and rest parts. kind "normal": just that. "bounded":
    the sum is a logit, the score lies in 0..1, and a Dice below `MISSED` is 0. Lesion sensitivity is always bounded:
    k of a person's lesions found. In every kind the true means are exact, up to a grid of 4,000 quantiles.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if kind == "bounded" or metric == DETECTION:
        return _bounded(rng, target, metric, spread, _scale(target, spread), effects, n, s, worlds)
    middle, sd = LEVELS[target]
    parts = components(target, spread)
    people = middle + sd * rng.standard_normal((worlds, n, 1)) + parts[1] * rng.standard_normal((worlds, 1, s))
    return {name: people + effect + _own(rng, parts, name, (worlds, n, s)) for name, effect in effects.items()}


def true_mean(target: str, metric: str, kind: str, spread: str) -> float:
    """The true mean of scratch over people and seeds."""
    if kind == "normal" and metric != DETECTION:
        return LEVELS[target][0]
    sd = _logit_sd(target, metric, spread, _scale(target, spread), "scratch")
    return _expected(metric, LOGITS[target, metric][0], sd)


# -------------------------------------------------------------------------------------------------------- coverage

#: What an interval is asked for: words -> (kind, is it lesion detection, the two names of a difference or one name).
QUANTITIES: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    "difference, normal": ("normal", False, ("mri-segmentation", "natural-segmentation")),
    "difference, bounded": ("bounded", False, ("mri-segmentation", "natural-segmentation")),
    "difference to ImageNet, bounded": ("bounded", False, ("mri-segmentation", "imagenet")),
    "detection difference": ("bounded", True, ("imagenet", "mri-segmentation")),
    "one source's mean, bounded": ("bounded", False, ("scratch",)),
}


def coverage_of(quantity: str, target: str, spread: str, n: int, s: int, worlds: int, seed: int = 0) -> Row:
    """How often (in percent) the 95 % and the 90 % interval hold the truth, and on which side the 95 % one misses it.

    A difference has a true value of one margin, so that skewed scores do not cancel.
    """
    kind, detection, names = QUANTITIES[quantity]
    metric = DETECTION if detection else study.HEADLINE[target]
    margin = MARGINS[metric if detection else target]
    effects = {name: margin if i == 0 and len(names) == 2 else 0.0 for i, name in enumerate(names)}
    truth = margin if len(names) == 2 else true_mean(target, metric, kind, spread)
    rng = study.stream(seed, f"coverage {quantity} {target} {spread} {n} {s}")
    inside95 = inside90 = above = below = 0
    half = 0.0
    for count in _batches(worlds):
        drawn = draw(rng, target, metric, kind, spread, effects, n, s, count)
        tables = drawn[names[0]] - drawn[names[1]] if len(names) == 2 else drawn[names[0]]
        for table in tables:
            wide = mean_interval(table)
            narrow = at_level(wide, 0.90)
            above += wide.lower > truth
            below += wide.upper < truth
            inside95 += wide.lower <= truth <= wide.upper
            inside90 += narrow.lower <= truth <= narrow.upper
            half += (wide.upper - wide.lower) / 2
    return {
        "interval of": quantity,
        "target": target,
        "people": n,
        "seeds": s,
        "spread by": spread,
        "worlds": worlds,
        "half-width": float(f"{half / worlds:.3g}"),
        "95 % covers": _percent(inside95 / worlds),
        "wholly above": _percent(above / worlds),
        "wholly below": _percent(below / worlds),
        "90 % covers": _percent(inside90 / worlds),
    }


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _batches(worlds: int, size: int = 250) -> Iterator[int]:
    for start in range(0, worlds, size):
        yield min(size, worlds - start)


def coverage_table(worlds: int, seed: int = 0, design: Design | None = None) -> pd.DataFrame:
    """`coverage_of` for every quantity, target and spread with 5 and with 3 seeds, and for 6 people with 3 seeds.

    With `design`: for its people and seeds alone.
    """
    rows = []
    for quantity, (_, detection, _) in QUANTITIES.items():
        for target, people in SIZES.items():
            if detection and target not in study.DETECTED:
                continue
            sizes = ((people, 5), (people, 3), (6, 3))
            for n, s in sizes if design is None else ((design.people[target], design.seeds),):
                rows += [coverage_of(quantity, target, spread, n, s, worlds, seed) for spread in SPREADS]
    return pd.DataFrame(rows)


#: SDs of a paired difference where folds matter, in SDs of a person; all of a fold share what its training people did to it.
FOLD_WORLD = {"SD of people": 1.0, "SD of seeds": 0.4, "SD of the rest": 1.0}
FOLD_SDS = (0.0, 0.2, 0.4)


def fold_coverage(profile: str, target: str, fold_sd: float, worlds: int, seed: int = 0) -> Row:
    """How often (in percent) the 95 % interval holds the truth where folds move a difference, which no interval knows."""
    design = DESIGNS[profile]
    n, folds, s = design.people[target], design.folds[target], design.seeds
    person, by_seed, rest = FOLD_WORLD.values()
    rng = study.stream(seed, f"folds {profile} {target} {fold_sd:g}")
    inside = 0
    for count in _batches(worlds):
        d = person * rng.standard_normal((count, n, 1)) + by_seed * rng.standard_normal((count, 1, s))
        d += rest * rng.standard_normal((count, n, s))
        d += fold_sd * rng.standard_normal((count, folds, 1))[:, np.arange(n) % folds]
        found = [mean_interval(table) for table in d]
        inside += sum(each.lower <= 0 <= each.upper for each in found)
    row: Row = {"profile": profile, "target": target, "people": n, "folds": folds, "seeds": s, **FOLD_WORLD}
    return row | {"SD of folds": fold_sd, "worlds": worlds, "95 % covers": _percent(inside / worlds)}


def folds_table(worlds: int, seed: int = 0) -> pd.DataFrame:
    """`fold_coverage` for every profile of `DESIGNS`, target and SD of folds."""
    return pd.DataFrame(
        [
            fold_coverage(profile, target, fold_sd, worlds, seed)
            for profile in DESIGNS
            for target in SIZES
            for fold_sd in FOLD_SDS
        ]
    )


def error_of(share: float, worlds: int) -> float:
    """Monte-Carlo standard error of a share counted over `worlds`."""
    return math.sqrt(max(share * (1 - share), 1 / (4 * worlds)) / worlds)


# ----------------------------------------------------------------------------------------------------------- rules

GOOD = {
    "classification": {"accuracy": 0.9, "chance": 0.3},
    "segmentation": {"dice": 0.8, "all_foreground": 0.3},
    "selfsupervised": {"restoration_error": 10.0, "mean_image_error": 30.0},
}


def learned(seeds: int) -> dict[str, dict[int, dict[str, float]]]:
    """Evidence that every encoder learned its own task, every seed: figures beside those of the trivial rival."""
    names = {**{source: source for source in study.PRETRAINED_HERE}, SMALL: "mri-segmentation"}
    return {name: {k: dict(GOOD[study.domain_task(source)[1]]) for k in range(seeds)} for name, source in names.items()}


@dataclass(frozen=True)
class World:
    """One kind of world and what a rule may do in it.

    effects: true means above scratch; what is not named is 0. supported, refused: claim -> the largest share of worlds
    in which the rule may say "supported" / "not_supported" there. alone: claim -> targets whose own "supported" is
    under the same promise. evidence: what the gates are told. weight: share of the worlds asked for that are drawn.
    difference: by how many margins mri-segmentation lies above every other pre-trained source in accuracy; ImageNet's
    detection then lies as many margins below that of mri-segmentation.
    """

    question: str
    title: str
    effects: Effects
    kind: str = "normal"
    spread: str = "mixed"
    seeds: int = SEEDS
    sizes: Mapping[str, int] = field(default_factory=lambda: SIZES)
    supported: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, float] = field(default_factory=dict)
    alone: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    evidence: claims.Evidence | None = None
    weight: float = 1.0
    difference: float | None = None


def _cells(world: World, rng: np.random.Generator, worlds: int) -> Iterator[dict[claims.Key, claims.Cell]]:
    drawn = {}
    for target, n in world.sizes.items():
        for metric in (study.HEADLINE[target], *((DETECTION,) if target in study.DETECTED else ())):
            effects = {name: world.effects.get((target, metric, name), 0.0) for name in NAMES}
            drawn[target, metric] = draw(rng, target, metric, world.kind, world.spread, effects, n, world.seeds, worlds)
    people = {target: tuple(f"p{i:02d}" for i in range(n)) for target, n in world.sizes.items()}
    seeds = tuple(range(world.seeds))
    for w in range(worlds):
        found = {}
        for (target, metric), scores in drawn.items():
            for name, values in scores.items():
                arm, source = name.split("/") if "/" in name else ("main", name)
                found[arm, source, target, metric] = claims.Cell(people[target], seeds, values[w])
        yield found


def verdicts(rules: claims.Rules, world: World, worlds: int, seed: int = 0) -> dict[tuple[str, str, str], float]:
    """(claim, target or "" for the whole claim, verdict) -> share of `worlds` draws in which `claims.judge` says so."""
    evidence = world.evidence or claims.Evidence(learned(world.seeds))
    sizes = "" if world.sizes == SIZES else f" {world.sizes}"
    rng = study.stream(seed, f"world {world.title} {world.kind} {world.spread} {world.seeds}{sizes}")
    count: dict[tuple[str, str, str], int] = {}
    for batch in _batches(worlds):
        for cells in _cells(world, rng, batch):
            for claim in claims.judge(rules, cells, evidence).summary:
                said = {"": claim["verdict"]} | {t: found["verdict"] for t, found in claim["targets"].items()}
                for target, verdict in said.items():
                    key = (claim["claim"], target, verdict)
                    count[key] = count.get(key, 0) + 1
    return {key: n / worlds for key, n in count.items()}


ALL_CLAIMS = ("claim1", "claim2", "claim3")
#: The targets of each claim, in the order of the table's columns.
OWN_TARGETS = {"claim1": study.TARGETS, "claim2": study.DETECTED, "claim3": study.TARGETS}
PRETRAINED = tuple(name for name in NAMES if name != "scratch")
NOTHING, MARGIN, POWER, GATES = "nothing works", "at the margin", "power", "gates"
#: What 95 ± 2 % leaves to one side of an interval beyond its nominal share.
ROOM = 0.01


def _effects(
    rules: claims.Rules, accuracy: Mapping[str, float], detection: Mapping[str, float]
) -> dict[tuple[str, str, str], float]:
    """Margins above scratch of each name, in accuracy on every target and in lesion sensitivity, as true effects."""
    found: dict[tuple[str, str, str], float] = {}
    for target, metric in study.HEADLINE.items():
        margin = rules.margin[target][metric]
        found |= {(target, metric, name): value * margin for name, value in accuracy.items()}
    for target in study.DETECTED:
        margin = rules.margin["detection"][DETECTION]
        found |= {(target, DETECTION, name): value * margin for name, value in detection.items()}
    return found


def equal_world(
    rules: claims.Rules, gain: float = 2.0, own: float = 0.0, imagenet: float = 0.0
) -> dict[tuple[str, str, str], float]:
    """All pre-trained sources `gain` margins above scratch; mri-segmentation (both sizes) `own` margins above the rest.

    `imagenet`: its sensitivity above that of the other pre-trained sources, in margins.
    """
    accuracy = dict.fromkeys(PRETRAINED, gain) | {"mri-segmentation": gain + own, SMALL: gain + own}
    return _effects(rules, accuracy, dict.fromkeys(PRETRAINED, 2.0) | {"imagenet": 2.0 + imagenet})


def margin_world(rules: claims.Rules, target: str, detection: Mapping[str, float]) -> dict[tuple[str, str, str], float]:
    """One contrast of claim 1 and one of claim 3 lie at exactly minus the margin on `target`, all others well clear.

    That is the truth under which a rule that asks for *all* bounds errs most often: nothing else stands in its way.
    detection: target -> ImageNet's sensitivity above that of mri-segmentation, in margins.
    """
    accuracy = dict.fromkeys(PRETRAINED, 2.0) | {"mri-segmentation": 3.0, SMALL: 3.0}
    found = _effects(rules, accuracy, dict.fromkeys(PRETRAINED, 2.0))
    metric = study.HEADLINE[target]
    found[target, metric, "imagenet"] = 4.0 * rules.margin[target][metric]
    found[target, metric, SMALL] = 1.0 * rules.margin[target][metric]
    for place, value in detection.items():
        found[place, DETECTION, "imagenet"] = (2.0 + value) * rules.margin["detection"][DETECTION]
    return found


def null_worlds() -> list[World]:
    """No source does anything: every one equals scratch. No claim may be supported more than 5 % of the time."""
    rare = dict.fromkeys(ALL_CLAIMS, 0.05)
    sizes = [*((spread, SEEDS) for spread in SPREADS), ("mixed", 3), ("seeds", 3)]
    return [
        World(NOTHING, "every source equals scratch", {}, kind, spread, seeds, supported=rare, alone=OWN_TARGETS)
        for kind in KINDS
        for spread, seeds in sizes
    ]


def margin_worlds(rules: claims.Rules) -> list[World]:
    """Just too low to be similar: what the rules may call similar is their own level."""
    least, less = rules.common.noninferiority_alpha + ROOM, rules.common.equivalence_alpha + ROOM
    settings = [(kind, spread, SEEDS) for kind in KINDS for spread in ("mixed", "seeds")]
    found = []
    for target, detection, words in (
        ("stroke", {"stroke": 1.0}, "ImageNet's detection one higher on stroke"),
        ("ms", {"ms": -1.0}, "ImageNet's detection one lower on MS"),
        ("anatomy", {"stroke": 1.0, "ms": 1.0}, "ImageNet's detection one higher on both"),
    ):
        level = {"claim1": least, "claim2": less, "claim3": least}
        # better on both is no error where it is true
        refused = level if len(detection) == 1 else {"claim1": least, "claim3": least}
        alone = {"claim1": (target,), "claim2": tuple(detection), "claim3": (target,)}
        title = f"one comparator one margin higher on {_title(target)}; {words}"
        found += [
            World(
                MARGIN,
                title,
                margin_world(rules, target, detection),
                kind,
                spread,
                seeds,
                supported=level,
                refused=refused,
                alone=alone,
            )
            for kind, spread, seeds in [*settings, ("bounded", "seeds", 3)]
        ]
    return found


def _title(target: str) -> str:
    return "MS" if target == "ms" else target


def power_worlds(rules: claims.Rules) -> list[World]:
    """Pre-training helps: how often is each claim supported, and refused, at several true differences?"""
    least, less = rules.common.noninferiority_alpha + ROOM, rules.common.equivalence_alpha + ROOM
    true = {"claim1": least, "claim2": less, "claim3": least}
    found = []
    for kind in KINDS:
        for own in (-1.5, -1.0, -0.5, -0.25, 0.0, 0.5, 1.0):
            title = f"MRI segmentation {own:+g} margins from the rest" if own else "all pre-trained sources equal"
            if own:
                title += f", ImageNet's detection {-own:+g}"
            # a lower MRI segmentation goes with a higher detection of ImageNet, on both targets
            supported = {"claim1": least, "claim3": least} if own <= -1 else {}
            supported |= {"claim2": less} if abs(own) >= 1 else {}
            refused = {"claim1": least, "claim3": least} if own >= -1 else {}
            refused |= {"claim2": less} if 0 <= own <= 1 else {}
            effects = equal_world(rules, own=own, imagenet=-own)
            found.append(
                World(POWER, title, effects, kind, supported=supported, refused=refused, weight=0.5, difference=own)
            )
        for spread, seeds in (("people", SEEDS), ("seeds", SEEDS), ("mixed", 3)):
            title = "all pre-trained sources equal"
            found.append(World(POWER, title, equal_world(rules), kind, spread, seeds, refused=true, weight=0.5))
        title = "all pre-trained sources equal, one margin above scratch"
        found.append(World(POWER, title, equal_world(rules, gain=1.0), kind, refused=true, weight=0.5))
    return found


def gate_worlds(rules: claims.Rules) -> list[World]:
    """All pre-trained sources are equal and better than scratch, but a gate is closed: no claim may say anything."""
    equal = equal_world(rules)
    floor = equal | {(t, DETECTION, name): -0.38 for t in study.DETECTED for name in NAMES}
    bare = {target: {"dice": 0.30, "prior_map_dice": 0.05, "artefact_auc": 0.80} for target in study.DETECTED}
    failed = learned(SEEDS)
    for name in ("mri-segmentation", SMALL):
        failed[name][0]["dice"] = failed[name][0]["all_foreground"]
    seen = claims.Evidence(learned(SEEDS), bare, frozenset(study.DETECTED))
    six = dict.fromkeys(study.TARGETS, 6)
    never = dict.fromkeys(ALL_CLAIMS, 0.0)
    lesions = {"claim2": 0.0}
    return [
        World(
            GATES, title, effects, "bounded", seeds=seeds, sizes=sizes, supported=never, refused=refused,
            evidence=evidence, weight=0.1,
        )
        for title, effects, evidence, seeds, sizes, refused in (
            ("one seed of MRI segmentation did not learn", equal, claims.Evidence(failed), SEEDS, SIZES, never),
            ("lesions without contrast are found", equal, seen, SEEDS, SIZES, lesions),
            ("hardly a lesion is found", floor, None, SEEDS, SIZES, lesions),
            ("6 people and 3 seeds, as in the demo", equal, None, 3, six, never),
        )
    ]  # fmt: skip


def study_worlds(rules: claims.Rules) -> list[World]:
    """The worlds of the proof, with the promise that the rules have to keep in each."""
    return [*null_worlds(), *margin_worlds(rules), *power_worlds(rules), *gate_worlds(rules)]


def reference_worlds(rules: claims.Rules) -> list[World]:
    """The null, margin and power worlds with 5 seeds once more, with the people and seeds of `REFERENCE`, half as often."""
    planned = [*null_worlds(), *margin_worlds(rules), *power_worlds(rules)]
    return [
        replace(world, sizes=REFERENCE.people, seeds=REFERENCE.seeds, weight=world.weight / 2)
        for world in planned
        if world.seeds == SEEDS
    ]


def kept(share: float, limit: float, worlds: int) -> bool:
    """Is a share at most `limit`, with room for three Monte-Carlo standard errors? A limit of 0 leaves none."""
    return share <= limit + (3 * error_of(limit, worlds) if limit else 0.0)


def rules_table(rules: claims.Rules, worlds: int, seed: int = 0, chosen: Sequence[World] = ()) -> pd.DataFrame:
    """One row a world: how often (in percent) each claim is "supported", refused ("not_supported"), and each target's.

    "difference" is `World.difference`, empty where it has no single one. "claim 1 targets" holds the percentages "supported" of the targets' own verdicts, as stroke/MS/anatomy. `broken`
    names the promises of the world that were not kept; it is empty where all were.
    """
    rows = []
    for world in chosen or study_worlds(rules):
        draws = max(20, round(worlds * world.weight))
        said = verdicts(rules, world, draws, seed)
        row: Row = {"question": world.question, "world": world.title, "scores": world.kind}
        row |= {"spread by": world.spread, "seeds": world.seeds, "worlds": draws}
        row["difference"] = math.nan if world.difference is None else world.difference
        broken = []
        for claim in ALL_CLAIMS:
            yes, no = (said.get((claim, "", verdict), 0.0) for verdict in ("supported", "not_supported"))
            own = {target: said.get((claim, target, "supported"), 0.0) for target in OWN_TARGETS[claim]}
            short = claim.replace("claim", "claim ")
            row |= {f"{short} supported": _percent(yes), f"{short} refused": _percent(no)}
            row[f"{short} targets"] = "/".join(f"{100 * share:.0f}" for share in own.values())
            for share in (yes, *(own[target] for target in world.alone.get(claim, ()))):
                if not kept(share, world.supported.get(claim, 1.0), draws):
                    broken.append(f"{short} supported {100 * share:.1f}")
            if not kept(no, world.refused.get(claim, 1.0), draws):
                broken.append(f"{short} refused {100 * no:.1f}")
        rows.append(row | {"broken": "; ".join(broken)})
    return pd.DataFrame(rows)
