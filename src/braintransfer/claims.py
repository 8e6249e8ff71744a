"""The three claims, weighed by the rules of `notebooks/claims.yaml` and nothing else.

`load` reads the rules, `evaluate` applies them to a results table, `robustness` asks how far a verdict hangs on
choices. A contrast is A minus B, paired by person and seed. What was not run is said to be not run; it never raises.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.statistics import Interval, at_level, holm, p_above, p_below, paired_difference
from braintransfer.untrusted import read_yaml

NOT_RUN = "not run"

ALL_NONINFERIOR = "all lower bounds > -margin and assay on all"
ALL_EQUIVALENT = "all 90 % intervals inside ±margin and not better on all"
ALL_NONINFERIOR_TO_WORKING = "all lower bounds > -margin and B beats scratch on all"
ANY_INFERIOR = "any upper bound < -margin (Holm)"
BETTER_OR_OUTSIDE = "better on all, or any 90 % interval wholly outside ±margin (Holm)"


# ------------------------------------------------------------------------------------------------------- the rules


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _known(*names: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"'{value}' is not known; allowed: {'; '.join(names)}")
        return value

    return AfterValidator(check)


Share = Annotated[float, Field(gt=0, lt=1)]
SourceName = Annotated[str, _known(*study.SOURCES)]
TargetName = Annotated[str, _known(*study.TARGETS)]


class Common(_Strict):
    interval: Literal["two_way_satterthwaite"]
    noninferiority_alpha: Share
    equivalence_alpha: Share
    min_subjects: Annotated[int, Field(ge=2)]
    verdicts: tuple[Literal["supported"], Literal["not_supported"], Literal["inconclusive"]]
    simulated: Literal["illustration"]

    @model_validator(mode="after")
    def _ninety_percent(self) -> Common:
        if self.equivalence_alpha != 0.05:
            raise ValueError("equivalence_alpha must be 0.05, since the phrases of the claims say 90 %")
        return self


class Assay(_Strict):
    sources: tuple[SourceName, ...]
    against: SourceName
    alpha: Share
    divided_by: Annotated[int, Field(ge=1)]


class SourceLearned(_Strict):
    accuracy_above_chance: Share
    dice_above_all_foreground: Share
    error_below_share_of_mean_image: Share


class NullContrast(_Strict):
    dice_above_prior_map: Share
    artefact_auc: Share


class Range(_Strict):
    metric: str
    lowest: Share
    highest: Share


class Gates(_Strict):
    assay: Assay
    source_learned: SourceLearned
    null_contrast: NullContrast
    range: Range


class Side(_Strict):
    """One side of a contrast: a source, and the share of its images when that is not all of them."""

    source: SourceName
    images: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def name(self) -> str:
        return self.source if self.images == 1 else f"{self.source}@size_{self.images:g}"


def _as_side(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


OneSide = Annotated[Side, BeforeValidator(_as_side)]


class Claim(_Strict):
    says: str
    A: OneSide
    B: Annotated[tuple[OneSide, ...], BeforeValidator(_as_list), Field(min_length=1)]
    targets: Annotated[tuple[TargetName, ...], Field(min_length=1)]
    metric: str  # "headline": the metric that `margin` names for the target
    supported: Annotated[str, _known(ALL_NONINFERIOR, ALL_EQUIVALENT, ALL_NONINFERIOR_TO_WORKING)]
    not_supported: Annotated[str, _known(ANY_INFERIOR, BETTER_OR_OUTSIDE)]
    per_target: bool = True
    steps: Literal["equal"] = "equal"

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source that the claim weighs."""
        return (self.A.source, *(side.source for side in self.B))

    @model_validator(mode="after")
    def _pairs(self) -> Claim:
        if (self.supported == ALL_EQUIVALENT) != (self.not_supported == BETTER_OR_OUTSIDE):
            raise ValueError("supported and not_supported must both speak of ±margin, or neither")
        return self


Margin = Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]


class Rules(_Strict):
    """All of `claims.yaml`. margin: target -> {metric: margin}; `detection` holds those of the lesion metrics."""

    common: Common
    margin: dict[Annotated[str, _known(*study.TARGETS, "detection")], Margin]
    gates: Gates
    claim1: Claim
    claim2: Claim
    claim3: Claim

    @model_validator(mode="after")
    def _every_margin(self) -> Rules:
        for claim in self.claims.values():
            for target in claim.targets:
                metric_and_margin(self, claim, target)
        return self

    @property
    def claims(self) -> dict[str, Claim]:
        return {"claim1": self.claim1, "claim2": self.claim2, "claim3": self.claim3}


def metric_and_margin(rules: Rules, claim: Claim, target: str) -> tuple[str, float]:
    """The metric that decides `claim` on `target`, and its margin. ValueError when the rules give none."""
    if claim.metric == "headline":
        each = rules.margin.get(target, {})
        if len(each) != 1:
            raise ValueError(f"margin.{target} must name exactly one metric")
        return next(iter(each.items()))
    margin = rules.margin.get("detection", {}).get(claim.metric)
    if margin is None:
        raise ValueError(f"margin.detection names no margin for {claim.metric}")
    return claim.metric, margin


def load(path: Path | str) -> Rules:
    """Read and check `claims.yaml`. BadInput, one line, for a missing file, bad YAML, or a rule that is not known."""
    try:
        return Rules.model_validate(read_yaml(Path(path)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInput(f"{path}: {where}: {first['msg']}; mend it, or take back the committed file") from None


# ------------------------------------------------------------------------------------------------------ the scores


@dataclass(frozen=True)
class Cell:
    """Scores of one arm, source, target and metric: values (subjects, seeds), NaN where missing."""

    subjects: tuple[str, ...]
    seeds: tuple[int, ...]
    values: np.ndarray


#: arm, source, target, metric
Key = tuple[str, str, str, str]


def cells_of(
    results: pd.DataFrame, encoder: str | None = None, metrics: Collection[str] | None = None
) -> dict[Key, Cell]:
    """The results table as cells, whole-scan rows (class "") only; a person tested in several folds is averaged.

    Only the `metrics` named, or all of them.

    ValueError for missing columns, and for more than one encoder when `encoder` does not say which.
    """
    needed = ["arm", "encoder", "source", "target", "subject", "seed", "metric", "class", "value"]
    absent = [column for column in needed if column not in results.columns]
    if absent:
        raise ValueError(f"the results table lacks the columns {', '.join(absent)}")
    rows = results[results["class"].isna() | (results["class"] == "")]
    if metrics is not None:
        rows = rows[rows["metric"].isin(list(metrics))]
    known = sorted(rows["encoder"].dropna().astype(str).unique())
    if encoder is None and len(known) > 1:
        raise ValueError(f"the results hold several encoders ({', '.join(known)}); say which one to weigh")
    if encoder is not None:
        rows = rows[rows["encoder"] == encoder]
    found: dict[Key, Cell] = {}
    for key, part in rows.groupby(["arm", "source", "target", "metric"], sort=False, observed=True):
        wide = part.pivot_table(index="subject", columns="seed", values="value", aggfunc="mean", dropna=False)
        arm, source, target, metric = (str(k) for k in key)
        subjects, seeds = tuple(str(s) for s in wide.index), tuple(int(k) for k in wide.columns)
        found[arm, source, target, metric] = Cell(subjects, seeds, wide.to_numpy(dtype=float))
    return found


def difference(a: Cell | None, b: Cell | None) -> Interval | None:
    """`paired_difference` of two cells on the people and seeds that both have; None when they share none."""
    if a is None or b is None:
        return None
    if a.subjects == b.subjects and a.seeds == b.seeds:
        d = a.values - b.values
    else:
        people, seeds = sorted(set(a.subjects) & set(b.subjects)), sorted(set(a.seeds) & set(b.seeds))
        if not people or not seeds:
            return None
        first, second = (
            c.values[np.ix_([c.subjects.index(p) for p in people], [c.seeds.index(k) for k in seeds])] for c in (a, b)
        )
        d = first - second
    interval = paired_difference(d)
    return None if math.isnan(interval.estimate) else interval


# -------------------------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True)
class Evidence:
    """What the gates ask for beside the scores.

    learned: source -> seed -> figures on held-out pictures: {"accuracy", "chance"}, {"dice", "all_foreground"} or
    {"restoration_error", "mean_image_error"}; encoders of another arm under "<arm>/<source>". null_checks: target ->
    {"dice", "prior_map_dice", "artefact_auc"} of lesions inserted without contrast, and where known {"lower", "upper"} of
    the difference, {"people", "seeds"} tested and {"steps", "batch", "spacing"} trained with. semisynthetic: targets that
    need that.
    """

    learned: Mapping[str, Mapping[Any, Mapping[str, Any]]] = field(default_factory=dict)
    null_checks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    semisynthetic: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Gate:
    passed: bool
    reason: str


@dataclass(frozen=True)
class _Case:
    """Everything that a verdict may look at. `intervals` remembers differences that several rules ask for."""

    rules: Rules
    cells: Mapping[Key, Cell]
    evidence: Evidence
    intervals: dict[tuple[Key, Key], Interval | None] = field(default_factory=dict)

    def difference(self, a: Key, b: Key) -> Interval | None:
        if (a, b) not in self.intervals:
            self.intervals[a, b] = difference(self.cells.get(a), self.cells.get(b))
        return self.intervals[a, b]


def _arm(case: _Case, side: Side) -> str:
    """The arm that holds `side`: main, or the size_<share> arm whose number is its share of the images."""
    if side.images == 1:
        return "main"
    for arm in sorted({key[0] for key in case.cells}):
        try:
            if arm.startswith("size_") and math.isclose(float(arm.removeprefix("size_")), side.images, rel_tol=1e-3):
                return arm
        except ValueError:
            continue
    return f"size_{side.images:g}"


def _assay(case: _Case, target: str, metric: str) -> Gate:
    rule = case.rules.gates.assay
    p, reason = {}, NOT_RUN
    for source in rule.sources:
        interval = case.difference(("main", source, target, metric), ("main", rule.against, target, metric))
        if interval is None:
            continue
        if math.isnan(interval.standard_error):
            reason = interval.reason
        else:
            p[source] = p_above(interval, 0)
    if not p:
        return Gate(False, reason)
    best = min(p, key=lambda source: p[source])
    level = f"{rule.alpha:g} / {rule.divided_by}"
    if p[best] <= rule.alpha / rule.divided_by:
        return Gate(True, f"{best} beats {rule.against} at {level} (one-sided p = {p[best]:.2g})")
    return Gate(False, f"no source beats {rule.against} at {level}; nearest: {best} (one-sided p = {p[best]:.2g})")


def source_has_learned(rule: SourceLearned, task: str, figures: Mapping[str, Any]) -> bool | None:
    """Did one encoder learn its own task? None when the figures do not say.

    A self-supervised encoder that was taught by contrast has an accuracy and its chance, and is asked for these.
    """

    def number(name: str) -> float:
        value = figures.get(name)
        return float(value) if isinstance(value, int | float | np.floating) else math.nan

    if task == "classification" or (task == "selfsupervised" and "accuracy" in figures):
        left, right = number("accuracy"), number("chance") + rule.accuracy_above_chance
    elif task == "segmentation":
        left, right = number("dice"), number("all_foreground") + rule.dice_above_all_foreground
    else:
        left, right = -number("restoration_error"), -rule.error_below_share_of_mean_image * number("mean_image_error")
    if math.isnan(left) or math.isnan(right):
        return None
    # a limit met to the last bit is not passed: the rules say "above" and "below"
    return left > right + 1e-12


def encoder_name(arm: str, source: str) -> str:
    """What the encoder is called that an arm fine-tunes: the source's name, before it "<arm>/" where the arm has its own."""
    own = study.encoder_arm(arm)
    return source if own == "main" else f"{own}/{source}"


#: Arms whose encoders are not meant to learn the task that their source is named after.
NOT_TO_LEARN = ("shuffled_masks",)


def unlearned(rules: Rules, learned: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> set[str]:
    """Encoders (`encoder_name`) that did not learn their own task in some seed, though they were meant to. learned: see `Evidence`."""
    gone = set()
    for name, seeds in learned.items():
        arm, _, source = name.rpartition("/")
        task = study.domain_task(source)[1]
        said = [source_has_learned(rules.gates.source_learned, task, figures) for figures in seeds.values()]
        if arm not in NOT_TO_LEARN and False in said:
            gone.add(name)
    return gone


def _learned(case: _Case, claim: Claim) -> Gate:
    failed, missing, n = [], [], 0
    for side in (claim.A, *claim.B):
        if side.source in study.CONTROLS:
            continue
        arm = _arm(case, side)
        used = {k for key, cell in case.cells.items() if key[:2] == (arm, side.source) for k in cell.seeds}
        known = case.evidence.learned.get(encoder_name(arm, side.source), {})
        figures = {int(seed): value for seed, value in known.items()}
        for seed in sorted(used):
            n += 1
            task = study.domain_task(side.source)[1]
            passed = source_has_learned(case.rules.gates.source_learned, task, figures.get(seed, {}))
            if passed is None:
                missing.append(f"{side.name} seed {seed}")
            elif not passed:
                failed.append(f"{side.name} seed {seed}")
        if not used:
            missing.append(side.name)
    if failed:
        return Gate(False, f"did not learn its own task: {', '.join(failed)}")
    if missing:
        return Gate(False, f"{NOT_RUN}: {', '.join(missing)}")
    return Gate(True, f"all {n} encoders learned their own task")


def _null_contrast(case: _Case, target: str) -> Gate:
    if target not in case.evidence.semisynthetic:
        return Gate(True, "not asked: the lesions are not semi-synthetic")
    rule, found = case.rules.gates.null_contrast, case.evidence.null_checks.get(target, {})
    dice, prior, auc = (float(found.get(name, math.nan)) for name in ("dice", "prior_map_dice", "artefact_auc"))
    if math.isnan(dice) or math.isnan(prior) or math.isnan(auc):
        return Gate(False, NOT_RUN)
    passed = dice <= prior + rule.dice_above_prior_map + 1e-12 and auc <= rule.artefact_auc + 1e-12
    reason = f"without contrast: Dice {dice:.3f} (prior map {prior:.3f}), artefact AUC {auc:.3f}"
    if {"lower", "upper"} <= found.keys():
        reason += f"; difference {dice - prior:+.3f} ({found['lower']:+.3f} to {found['upper']:+.3f})"
        reason += f", {rule.dice_above_prior_map:+g} allowed"
    if {"people", "seeds"} <= found.keys():
        reason += f"; {found['people']:g} people x {found['seeds']:g} seeds"
    if {"steps", "batch", "spacing"} <= found.keys():
        reason += f", trained {found['steps']:g} x {found['batch']:g} at {found['spacing']:g} mm"
    return Gate(passed, reason)


def _range(case: _Case, target: str) -> Gate:
    if target not in study.DETECTED:
        return Gate(True, "not asked: no lesions to detect")
    rule = case.rules.gates.range
    means = []
    for source in study.SOURCES:
        cell = case.cells.get(("main", source, target, rule.metric))
        if cell is not None and not np.isnan(cell.values).all():
            means.append(float(np.nanmean(cell.values)))
    if not means:
        return Gate(False, NOT_RUN)
    mean = float(np.mean(means))
    inside = rule.lowest <= mean <= rule.highest
    where = "within" if inside else "outside"
    return Gate(inside, f"mean {rule.metric} {mean:.3f}, {where} [{rule.lowest:g}, {rule.highest:g}]")


def _enough_people(case: _Case, contrasts: Sequence[_Contrast]) -> Gate:
    n = [c.interval.n_subjects for c in contrasts if c.interval is not None]
    if not n:
        return Gate(False, NOT_RUN)
    least = case.rules.common.min_subjects
    return Gate(min(n) >= least, f"{min(n)} people, at least {least} wanted")


# -------------------------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True)
class _Contrast:
    claim: str
    target: str
    a: Side
    b: Side
    metric: str
    margin: float
    interval: Interval | None
    works: bool  # B beats scratch here; True where the rule does not ask


def _contrasts(case: _Case, name: str, claim: Claim) -> list[_Contrast]:
    found = []
    for target in claim.targets:
        metric, margin = metric_and_margin(case.rules, claim, target)
        for side in claim.B:
            key_a, key_b = ((_arm(case, s), s.source, target, metric) for s in (claim.A, side))
            interval = case.difference(key_a, key_b)
            works = True
            if claim.supported == ALL_NONINFERIOR_TO_WORKING:
                against = case.difference(key_b, ("main", "scratch", target, metric))
                # NaN (one seed) compares as false
                works = against is not None and p_above(against, 0) <= case.rules.common.noninferiority_alpha
            found.append(_Contrast(name, target, claim.A, side, metric, margin, interval, works))
    return found


def _holds(contrast: _Contrast, claim: Claim, common: Common) -> bool:
    """Does this contrast do its part for `supported`? False too where there is no interval."""
    if contrast.interval is None:
        return False
    if claim.supported == ALL_EQUIVALENT:
        inner = at_level(contrast.interval, 1 - 2 * common.equivalence_alpha)
        return inner.lower > -contrast.margin and inner.upper < contrast.margin
    lower = at_level(contrast.interval, 1 - 2 * common.noninferiority_alpha).lower
    return lower > -contrast.margin and contrast.works


def _better(contrast: _Contrast, common: Common) -> bool:
    """A is higher than B: the one-sided test at noninferiority_alpha, the lower end of the 95 % interval above zero."""
    return contrast.interval is not None and p_above(contrast.interval, 0) <= common.noninferiority_alpha


def _against(contrasts: Sequence[_Contrast], claim: Claim, common: Common) -> list[bool]:
    """Which contrasts alone speak for `not_supported`, Holm over all that are given (those not run count too)."""
    p = []
    for c in contrasts:
        if c.interval is None:
            p.append(math.nan)
        elif claim.not_supported == ANY_INFERIOR:
            p.append(p_below(c.interval, -c.margin))
        else:
            p.append(min(p_above(c.interval, c.margin), p_below(c.interval, -c.margin)))
    alpha = common.noninferiority_alpha if claim.not_supported == ANY_INFERIOR else common.equivalence_alpha
    return [adjusted <= alpha for adjusted in holm(p)]


def _verdict(
    contrasts: Sequence[_Contrast], valid: Mapping[str, bool], claim: Claim, common: Common
) -> tuple[str, str]:
    """The rule over `contrasts`: (verdict, reason). valid: target -> all of its gates passed."""
    missing = [c for c in contrasts if c.interval is None]
    if missing:
        return NOT_RUN, f"{len(missing)} of {len(contrasts)} contrasts not run"
    closed = [target for target in dict.fromkeys(c.target for c in contrasts) if not valid[target]]
    against = [c for c, bad in zip(contrasts, _against(contrasts, claim, common), strict=True) if bad]
    against = [c for c in against if valid[c.target]]
    if against:
        named = ", ".join(f"{c.a.name} - {c.b.name} on {c.target}" for c in against)
        return "not_supported", f"beyond the margin: {named}"
    better = [_better(c, common) for c in contrasts]
    # "consistently" needs more than one place to be consistent in
    if claim.not_supported == BETTER_OR_OUTSIDE and not closed and all(better) and len(contrasts) > 1:
        return "not_supported", f"{claim.A.name} is better on all: {', '.join(c.target for c in contrasts)}"
    if closed:
        return "inconclusive", f"a gate failed on {', '.join(closed)}"
    unsure = [c for c in contrasts if not _holds(c, claim, common)]
    if unsure:
        why, wide = [], [c for c in unsure if not _holds(replace(c, works=True), claim, common)]
        if wide:
            named = ", ".join(f"{c.b.name} on {c.target}" for c in wide[:4]) + (", ..." if len(wide) > 4 else "")
            why.append(f"{len(wide)} of {len(contrasts)} intervals do not clear the margin: {named}")
        why += [f"{c.b.name} does not beat random weights on {c.target}" for c in unsure if not c.works]
        return "inconclusive", "; ".join(why)
    return "supported", f"all {len(contrasts)} intervals clear the margin"


def _number(value: float) -> float | None:
    # JSON has no NaN
    return None if math.isnan(value) else float(value)


def _row(contrast: _Contrast, claim: Claim, common: Common, verdict: str, gates: Mapping[str, Gate]) -> dict[str, Any]:
    level = 1 - 2 * (common.equivalence_alpha if claim.supported == ALL_EQUIVALENT else common.noninferiority_alpha)
    interval = None if contrast.interval is None else at_level(contrast.interval, level)
    return {
        "claim": contrast.claim,
        "target": contrast.target,
        "A": contrast.a.name,
        "B": contrast.b.name,
        "metric": contrast.metric,
        "estimate": None if interval is None else _number(interval.estimate),
        "lower": None if interval is None else _number(interval.lower),
        "upper": None if interval is None else _number(interval.upper),
        "margin": contrast.margin,
        "n_subjects": 0 if interval is None else interval.n_subjects,
        "n_seeds": 0 if interval is None else interval.n_seeds,
        "verdict": verdict,
        "gates": {name: {"passed": gate.passed, "reason": gate.reason} for name, gate in gates.items()},
    }


@dataclass(frozen=True)
class Evaluation:
    """contrasts: what `claims.json` holds, one dict a contrast. summary: one dict a claim, with its targets inside."""

    contrasts: list[dict[str, Any]]
    summary: list[dict[str, Any]]


def _judge_claim(case: _Case, name: str, claim: Claim, gated: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    common = case.rules.common
    contrasts = _contrasts(case, name, claim)
    of = {target: [c for c in contrasts if c.target == target] for target in claim.targets}
    learned = _learned(case, claim)
    gates = {
        target: {
            "assay": _assay(case, target, here[0].metric),
            "source_learned": learned,
            "null_contrast": _null_contrast(case, target),
            "range": _range(case, target),
            "min_subjects": _enough_people(case, here),
        }
        for target, here in of.items()
    }
    valid = {target: not gated or all(gate.passed for gate in each.values()) for target, each in gates.items()}

    rows = []
    for c, bad in zip(contrasts, _against(contrasts, claim, common), strict=True):
        if c.interval is None:
            verdict = NOT_RUN
        elif not valid[c.target]:
            verdict = "inconclusive"
        else:
            verdict = "not_supported" if bad else "supported" if _holds(c, claim, common) else "inconclusive"
        rows.append(_row(c, claim, common, verdict, gates[c.target]))

    verdict, reason = _verdict(contrasts, valid, claim, common)
    summary: dict[str, Any] = {"claim": name, "says": claim.says, "verdict": verdict, "reason": reason}
    summary["targets"] = {}
    for target, here in of.items() if claim.per_target else ():
        verdict, reason = _verdict(here, valid, claim, common)
        failed = [f"{gate}: {found.reason}" for gate, found in gates[target].items() if not found.passed]
        # superiority: Holm over the comparators of this target
        p = holm([math.nan if c.interval is None else p_above(c.interval, 0) for c in here])
        higher = [c.b.name for c, each in zip(here, p, strict=True) if each <= common.noninferiority_alpha]
        summary["targets"][target] = {
            "verdict": verdict,
            "reason": reason,
            "gates_failed": failed,
            "higher_than": higher,
        }
    return rows, summary


def judge(rules: Rules, cells: Mapping[Key, Cell], evidence: Evidence, *, gated: bool = True) -> Evaluation:
    """Apply the rules to cells: the plain verdicts `supported`, `not_supported`, `inconclusive` and `not run`.

    The core without a table, quick enough to be simulated thousands of times. gated: False leaves the gates aside, so that
    the intervals alone decide.
    """
    case = _Case(rules, cells, evidence)
    contrasts, summary = [], []
    for name, claim in rules.claims.items():
        rows, whole = _judge_claim(case, name, claim, gated)
        contrasts += rows
        summary.append(whole)
    return Evaluation(contrasts, summary)


def as_illustration(verdict: str) -> str:
    """The words for a simulated run, which gets no verdict."""
    if verdict == NOT_RUN:
        return f"illustration: the rule would say nothing ({NOT_RUN})"
    return f"illustration: the rule would say {verdict}"


def _names(simulated: bool | Collection[str]) -> frozenset[str]:
    return frozenset(simulated if not isinstance(simulated, bool) else study.TARGETS if simulated else ())


def _said(verdict: str, stands_on: Collection[str], simulated: frozenset[str]) -> str:
    """A verdict as it may be said: an illustration where a target or a source that it stands on is simulated."""
    return verdict if simulated.isdisjoint(stands_on) else as_illustration(verdict)


def evaluate(
    rules: Rules,
    results: pd.DataFrame,
    learned: Mapping[str, Mapping[Any, Mapping[str, Any]]],
    simulated: bool | Collection[str],
    *,
    null_checks: Mapping[str, Mapping[str, float]] | None = None,
    semisynthetic: Collection[str] | None = None,
    encoder: str | None = None,
) -> Evaluation:
    """Weigh the three claims on a results table in long form (the contract's columns; `class` "" or NaN = whole scan).

    learned, null_checks, semisynthetic: see `Evidence`. Where `semisynthetic` is None, stroke and ms count as
    semi-synthetic unless they are simulated. simulated: the targets and sources whose pictures are simulated, or True for
    all targets. What stands on one of them reads "illustration: the rule would say ...": a contrast and a target's verdict
    by that target and the sources weighed there, a whole claim by any of its targets and sources. Sources, seeds or arms
    that were not run give "not run". ValueError for missing columns or an unnamed one of several encoders.
    """
    invented = _names(simulated)
    if semisynthetic is None:
        semisynthetic = set(study.DETECTED) - invented
    evidence = Evidence(learned, null_checks or {}, frozenset(semisynthetic))
    found = judge(rules, cells_of(results, encoder, _metrics(rules)), evidence)
    for row in found.contrasts:
        pair = (row[side].partition("@")[0] for side in "AB")
        row["verdict"] = _said(row["verdict"], (row["target"], *pair), invented)
    for whole in found.summary:
        claim = rules.claims[whole["claim"]]
        whole["verdict"] = _said(whole["verdict"], (*claim.targets, *claim.sources), invented)
        for target, own in whole["targets"].items():
            own["verdict"] = _said(own["verdict"], (target, *claim.sources), invented)
    return found


def differences_by_fold(rules: Rules, results: pd.DataFrame, encoder: str | None = None) -> pd.DataFrame:
    """Every contrast of the claims once more, a fold at a time: people of one fold share their training people.

    Means over the fold's people and over seeds, without interval: they show whether a difference hangs on one fold. Columns:
    claim, target, A, B, metric, fold, n (people), seeds, difference. Contrasts and folds that were not run have no row.
    """
    rows = []
    for fold, part in results.groupby("fold", sort=True):
        case = _Case(rules, cells_of(part, encoder, _metrics(rules)), Evidence())
        contrasts = [c for name, claim in rules.claims.items() for c in _contrasts(case, name, claim)]
        for place, c in enumerate(contrasts):
            if c.interval is not None:
                found = (c.interval.n_subjects, c.interval.n_seeds, c.interval.estimate)
                rows.append((place, c.claim, c.target, c.a.name, c.b.name, c.metric, fold, *found))
    columns = ["place", "claim", "target", "A", "B", "metric", "fold", "n", "seeds", "difference"]
    return pd.DataFrame(rows, columns=columns).sort_values(["place", "fold"], ignore_index=True).drop(columns="place")


def _metrics(rules: Rules) -> set[str]:
    named = {metric for each in rules.margin.values() for metric in each} | {rules.gates.range.metric}
    return named | {TWINS[metric] for metric in named if metric in TWINS}


# ------------------------------------------------------------------------------------------------------ robustness

#: The same question with another metric: the other overlap measure, and F1 in the place of sensitivity.
TWINS = {"dice": "iou", "iou": "dice", "miou": "dice", "lesion_sensitivity": "lesion_f1"}

#: One of the other ways to score (`compare.rescored`), as a table calls it: the sum over all people.
POOLED = "all people pooled"


def other_choice(rules: Rules, *, twin: bool = False, margin_factor: float = 1.0) -> Rules:
    """The same rules with every margin times `margin_factor` and, with `twin`, each metric replaced by its twin."""
    margin = {
        place: {TWINS.get(metric, metric) if twin else metric: value * margin_factor for metric, value in each.items()}
        for place, each in rules.margin.items()
    }
    update: dict[str, Any] = {"margin": margin}
    for name, claim in rules.claims.items():
        if twin and claim.metric != "headline":
            update[name] = claim.model_copy(update={"metric": TWINS.get(claim.metric, claim.metric)})
    return rules.model_copy(update=update)


def _whole(other: dict[Key, Cell], planned: Mapping[Key, Cell]) -> dict[Key, Cell]:
    """Of cells scored in another way those whose target and metric were scored so in every cell: never two ways in one contrast."""
    absent = {key[2:] for key in planned.keys() - other.keys()}
    return {key: cell for key, cell in other.items() if key[2:] not in absent}


def robustness(
    rules: Rules,
    results: pd.DataFrame,
    learned: Mapping[str, Mapping[Any, Mapping[str, Any]]],
    *,
    margin_factors: Sequence[float] = (0.5, 1.0, 2.0),
    rescored: Mapping[str, pd.DataFrame] | None = None,
    null_checks: Mapping[str, Mapping[str, float]] | None = None,
    semisynthetic: Collection[str] | None = None,
    encoder: str | None = None,
    simulated: bool | Collection[str] = False,
) -> pd.DataFrame:
    """Every verdict under every combination of choices: scoring x metric (headline or twin) x margin x gates.

    rescored: name -> results table of the same networks scored with another detection rule, threshold, or pooling;
    each is one more level of `scoring` beside "as planned". It may hold some metrics alone: the others stay as planned
    for the gates, and of the claims only those are asked whose metric it holds; a target and metric that lacks a cell of `results`
    is left out. Columns: claim, target ("all" = the whole claim),
    scoring, metric, margin_factor, gates ("kept", or "left aside": what the intervals alone would say, no verdict), verdict
    (an illustration as in `evaluate`), planned (True for the choice of claims.yaml, gates kept or left aside).
    """
    invented = _names(simulated)
    if semisynthetic is None:
        semisynthetic = set(study.DETECTED) - invented
    evidence = Evidence(learned, null_checks or {}, frozenset(semisynthetic))
    rows = []
    as_planned = cells_of(results, encoder, _metrics(rules))
    for scoring, table in {"as planned": None, **(rescored or {})}.items():
        other = {} if table is None else _whole(cells_of(table, encoder, _metrics(rules)), as_planned)
        cells, held = as_planned | other, {(target, metric) for _, _, target, metric in other}
        for twin in (False, True):
            for factor in margin_factors:
                choice = other_choice(rules, twin=twin, margin_factor=factor)
                asked = {
                    name for name, claim in choice.claims.items()
                    if table is None or any((t, metric_and_margin(choice, claim, t)[0]) in held for t in claim.targets)
                }  # fmt: skip
                if not asked:
                    continue
                metric = "twin" if twin else "headline"
                planned = table is None and not twin and factor == 1
                for gates in ("kept", "left aside"):
                    found = judge(choice, cells, evidence, gated=gates == "kept")
                    for claim in (c for c in found.summary if c["claim"] in asked):
                        verdicts = {"all": claim["verdict"]} | {t: v["verdict"] for t, v in claim["targets"].items()}
                        of = rules.claims[claim["claim"]]
                        for target, verdict in verdicts.items():
                            on = of.targets if target == "all" else (target,)
                            said = _said(verdict, (*on, *of.sources), invented)
                            rows.append((claim["claim"], target, scoring, metric, factor, gates, said, planned))
    columns = ["claim", "target", "scoring", "metric", "margin_factor", "gates", "verdict", "planned"]
    return pd.DataFrame(rows, columns=columns)
