"""What the scores of a few people and a few seeds say about the mean: intervals, factorial contrasts, multiplicity.

Everything starts from a table `(n subjects, s seeds)`: scores of one source, or differences of two on the same person
and seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from braintransfer.study import DOMAINS, TASKS

METHOD = "two_way_satterthwaite"


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided confidence interval.

    n_subjects, n_seeds: what the estimate stands on; n_dropped: subjects left out because some or all of their values
    are missing; missing: the (subject row, seed column) of each missing cell of a partly filled row; lower, upper,
    standard_error and df are NaN where one subject or one seed says nothing about spread, and `reason` then says so
    in words.
    """

    estimate: float
    lower: float
    upper: float
    n_subjects: int
    n_seeds: int
    df: float
    standard_error: float
    level: float = 0.95
    method: str = METHOD
    n_dropped: int = 0
    missing: tuple[tuple[int, int], ...] = ()
    reason: str = ""


def _table(values: Any) -> np.ndarray:
    # laid out in one way: sums run along memory, and pandas 2 and 3 hand over tables that lie differently
    values = np.ascontiguousarray(values, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"values must be a table (subjects, seeds), not {values.ndim}-D {values.shape}")
    if np.isinf(values).any():
        raise ValueError("values hold infinities; only numbers and NaN (missing) can be weighed")
    return values


def _complete(values: np.ndarray) -> tuple[np.ndarray, int, tuple[tuple[int, int], ...], str]:
    """The rows and columns without NaN, how many subjects were left out, the missing cells, and that in words.

    A seed that nobody has was not run and is no reason to lose the people; then a person needs every remaining seed.
    """
    gone = np.isnan(values)
    if not gone.any() and values.size:
        return values, 0, (), ""
    seeds = ~gone.all(axis=0) if values.shape[0] else np.zeros(values.shape[1], bool)
    full = ~gone[:, seeds].any(axis=1) & bool(seeds.any())
    partly = gone & ~gone.all(axis=1, keepdims=True) & seeds
    missing = tuple((int(i), int(k)) for i, k in np.argwhere(partly))
    words = []
    if missing:
        shown = ", ".join(f"({i}, {k})" for i, k in missing[:6]) + (", ..." if len(missing) > 6 else "")
        words.append(f"{len(missing)} cells (subject, seed) missing: {shown}")
    if not seeds.all() and values.shape[0] and seeds.any():
        words.append(f"seeds without any value: {', '.join(str(int(k)) for k in np.flatnonzero(~seeds))}")
    return values[full][:, seeds], int((~full).sum()), missing, "; ".join(words)


def _variance_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Variance of the grand mean under value = mean + subject + seed + rest, all random, and its Satterthwaite df.

    Mean squares of the two-way table without replication give var = (MS_subject + MS_seed - MS_rest) / (n s) with df
    = (that sum)^2 / sum of MS^2/df (Satterthwaite 1946, doi:10.2307/3002019). A variance component that comes out
    negative is taken as zero: its mean square gives way to MS_rest, which never makes the variance smaller than the
    plain estimate; the df are those of what is left.
    """
    n, s = values.shape
    mean = values.mean()
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    ms_subject = s * ((rows - mean) ** 2).sum() / (n - 1)
    ms_seed = n * ((columns - mean) ** 2).sum() / (s - 1)
    rest = values - rows[:, None] - columns[None, :] + mean
    ms_rest = (rest**2).sum() / ((n - 1) * (s - 1))
    total = max(ms_subject, ms_rest) + max(ms_seed, ms_rest) - ms_rest
    # rounding alone must not look like spread
    if total <= (1e-14 * max(1.0, float(np.abs(values).max()))) ** 2:
        return 0.0, float(min(n, s) - 1)
    if ms_subject <= ms_rest and ms_seed <= ms_rest:
        df = float((n - 1) * (s - 1))
    elif ms_seed <= ms_rest:
        df = float(n - 1)
    elif ms_subject <= ms_rest:
        df = float(s - 1)
    else:
        parts = ms_subject**2 / (n - 1) + ms_seed**2 / (s - 1) + ms_rest**2 / ((n - 1) * (s - 1))
        df = max(total**2 / parts, float(min(n, s) - 1))
    return float(total / (n * s)), df


def _limits(estimate: float, standard_error: float, df: float, level: float) -> tuple[float, float]:
    if math.isnan(standard_error):
        return math.nan, math.nan
    half = float(special.stdtrit(df, (1 + level) / 2)) * standard_error
    return estimate - half, estimate + half


def mean_interval(values: Any, level: float = 0.95) -> Interval:
    """Mean of a table `(n, s)` of scores with its two-way random-effects interval: people *and* seeds are a sample.

    NaN marks what is missing. A subject without any value is dropped and counted in `n_dropped`; so is one that lacks
    some seeds, and its missing cells are named. A seed that no subject has is left out. With one subject or one seed
    the limits are NaN and `reason` says why; with no complete subject the estimate is NaN too. The limits are not
    clipped to [0, 1]. ValueError for a table that is not 2-D, infinities, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level!r}")
    table, n_dropped, missing, words = _complete(_table(values))
    n, s = table.shape
    if n == 0 or s == 0:
        reason = "; ".join(w for w in ("no subject has a value for every seed", words) if w)
        nan = math.nan
        return Interval(nan, nan, nan, 0, s, nan, nan, level, n_dropped=n_dropped, missing=missing, reason=reason)
    estimate = float(table.mean())
    variance, df = _variance_of_mean(table) if n > 1 and s > 1 else (math.nan, math.nan)
    if n == 1 or s == 1:
        one = " and ".join(name for name, count in (("one subject", n), ("one seed", s)) if count == 1)
        words = "; ".join(w for w in (f"no interval from {one}", words) if w)
    error = math.sqrt(variance)
    lower, upper = _limits(estimate, error, df, level)
    return Interval(estimate, lower, upper, n, s, df, error, level, METHOD, n_dropped, missing, words)


def pooled_values(numerator: Any, denominator: Any) -> np.ndarray:
    """Tables `(n, s)` whose ratio makes a person's score, as values whose mean is the ratio of the sums over all people.

    Per seed: value = R + (numerator - R denominator) / mean denominator, with R = sum of numerators / sum of denominators.
    Means and differences of these values, and their spread, are those of pooled ratios by linearisation (Cochran 1977,
    Sampling Techniques, 6.3), so `mean_interval` and `paired_difference` take them as they are. A person with a
    missing value is missing and in no sum; a seed whose denominators sum to zero is missing. ValueError for two shapes.
    """
    top, bottom = _table(numerator), _table(denominator)
    if top.shape != bottom.shape:
        raise ValueError(f"numerator {top.shape} and denominator {bottom.shape} differ in shape")
    gone = np.isnan(top) | np.isnan(bottom)
    top, bottom = np.where(gone, np.nan, top), np.where(gone, np.nan, bottom)
    total = np.nansum(bottom, axis=0)
    ratio = np.full(total.shape, np.nan)
    np.divide(np.nansum(top, axis=0), total, out=ratio, where=total != 0)
    people = (~gone).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(ratio + (top - ratio * bottom) * people / total)


def paired_difference(d: Any, level: float = 0.95) -> Interval:
    """Mean of d[i, k] = score of A minus score of B on subject i, seed k, `(n, s)`; estimator of `mean_interval`.

    Pair before subtracting: rows must be the same people and columns the same seeds in A and B.
    """
    return mean_interval(d, level)


def at_level(interval: Interval, level: float) -> Interval:
    """The same estimate with the limits of another confidence level (.90 for two one-sided tests at .05)."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level!r}")
    lower, upper = _limits(interval.estimate, interval.standard_error, interval.df, level)
    return replace(interval, lower=lower, upper=upper, level=level)


def p_above(interval: Interval, bound: float) -> float:
    """One-sided p-value against "the mean is `bound` or less". NaN without an interval.

    p_above(x, b) < alpha exactly when the lower limit at level 1 - 2 alpha lies above b.
    """
    if math.isnan(interval.standard_error):
        return math.nan
    distance = interval.estimate - bound
    if interval.standard_error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(special.stdtr(interval.df, -distance / interval.standard_error))


def p_below(interval: Interval, bound: float) -> float:
    """One-sided p-value against "the mean is `bound` or more". NaN without an interval."""
    if math.isnan(interval.standard_error):
        return math.nan
    distance = bound - interval.estimate
    if interval.standard_error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(special.stdtr(interval.df, -distance / interval.standard_error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values (Holm 1979) in the order given: reject those at most alpha.

    A NaN (a test that was not run) stays NaN but counts in the family, so that a gap never makes the rest easier.
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or (p < 0).any() or (p > 1).any():
        raise ValueError("p_values must be a list of numbers between 0 and 1 (NaN where not run)")
    order = np.argsort(np.where(np.isnan(p), np.inf, p), kind="stable")
    stepped = np.where(np.isnan(p[order]), 1.0, p[order]) * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [math.nan if math.isnan(raw) else float(value) for raw, value in zip(p, adjusted, strict=True)]


# ----------------------------------------------------------------------------------------------- factorial contrasts


@dataclass(frozen=True)
class Contrast:
    """A factorial contrast: its kind, a name in words, the weight of each source, and what it came to."""

    kind: str
    name: str
    weights: Mapping[str, float]
    interval: Interval


def factorial_weights() -> list[tuple[str, str, dict[str, float]]]:
    """(kind, name, weights) of the seven contrasts of the six cells: domain, three task pairs, three interactions.

    domain: mri minus natural, mean over tasks. task: one task minus another, mean over domains. interaction: how much
    larger that task difference is in mri than in natural (no difference: domain and task add up).
    """
    natural, mri = DOMAINS
    pairs = [(a, b) for i, a in enumerate(TASKS) for b in TASKS[i + 1 :]]
    domain = {f"{d}-{t}": sign / len(TASKS) for d, sign in ((mri, 1.0), (natural, -1.0)) for t in TASKS}
    found = [("domain", f"{mri} - {natural}", domain)]
    for a, b in pairs:
        weights = {f"{d}-{t}": sign / len(DOMAINS) for d in DOMAINS for t, sign in ((a, 1.0), (b, -1.0))}
        found.append(("task", f"{a} - {b}", weights))
    for a, b in pairs:
        weights = {f"{d}-{t}": x * y for d, x in ((mri, 1.0), (natural, -1.0)) for t, y in ((a, 1.0), (b, -1.0))}
        found.append(("interaction", f"({a} - {b}) in {mri} - in {natural}", weights))
    return found


def factorial(cells: Mapping[str, Any], level: float = 0.95) -> list[Contrast]:
    """Domain, task and interaction from tables `(n, s)` of the six sources, same people and seeds in each.

    Each contrast is taken per (subject, seed) and then weighed like a paired difference. `cells` may hold further
    sources (scratch, imagenet): they stand outside. ValueError when one of the six is missing or the tables differ in
    shape.
    """
    plan = factorial_weights()
    needed = list(plan[0][2])
    absent = [source for source in needed if source not in cells]
    if absent:
        raise ValueError(f"the factorial needs all six sources; missing: {', '.join(absent)}")
    tables = {source: _table(cells[source]) for source in needed}
    if len({table.shape for table in tables.values()}) > 1:
        raise ValueError("the six tables differ in shape; keep the people and seeds that all of them have")
    found = []
    for kind, name, weights in plan:
        d = np.sum([weight * tables[source] for source, weight in weights.items()], axis=0)
        found.append(Contrast(kind, name, weights, paired_difference(d, level)))
    return found


# ------------------------------------------------------------------------- sensitivity: "these weights" only, not seeds


def bootstrap_interval(
    d: Any, level: float = 0.95, draws: int = 4000, rng: np.random.Generator | None = None
) -> tuple[float, float, float]:
    """Percentile bootstrap over subjects of the seed-averaged table: (estimate, lower, upper).

    It says what other people would give with *these* weights; seeds are not resampled, so it is too narrow as an
    interval for the method. NaN limits below two subjects.
    """
    table = _complete(_table(d))[0]
    if not table.size:
        return math.nan, math.nan, math.nan
    means = table.mean(axis=1)
    if len(means) < 2:
        return float(means.mean()), math.nan, math.nan
    rng = np.random.default_rng(0) if rng is None else rng
    resampled = means[rng.integers(0, len(means), size=(draws, len(means)))].mean(axis=1)
    lower, upper = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(means.mean()), float(lower), float(upper)
