"""Intervals cover what they promise, missing values are counted, and contrasts are what their names say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from braintransfer import statistics
from braintransfer.study import PRETRAINED_HERE


def world(rng: np.random.Generator, n: int, s: int, subject: float, seed: float, rest: float) -> np.ndarray:
    """Differences (n, s) with mean 0."""
    return subject * rng.normal(size=(n, 1)) + seed * rng.normal(size=(1, s)) + rest * rng.normal(size=(n, s))


def test_the_two_way_interval_is_the_one_worked_by_hand() -> None:
    d = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 7.0]])
    # grand mean 4; subject means 1.5, 4.5, 6; seed means 3, 5
    # MS_subject = 2 (6.25 + .25 + 4) / 2 = 10.5; MS_seed = 3 (1 + 1) / 1 = 6
    # rest: .5 -.5 | -.5 .5 | 0 0 -> SS 1, MS_rest = 1 / 2
    total = 10.5 + 6 - 0.5
    df = total**2 / (10.5**2 / 2 + 6**2 / 1 + 0.5**2 / 2)
    half = stats.t.ppf(0.975, df) * math.sqrt(total / 6)
    found = statistics.paired_difference(d)
    assert (found.estimate, found.n_subjects, found.n_seeds) == (4.0, 3, 2)
    assert found.df == pytest.approx(df)
    assert (found.lower, found.upper) == (pytest.approx(4 - half), pytest.approx(4 + half))
    assert found.method == "two_way_satterthwaite" and found.reason == ""


def test_a_negative_seed_variance_falls_back_to_the_subjects_alone() -> None:
    # the seeds agree better than the rest allows: the interval is that of the subjects' means
    d = np.array([[0.0, 2.0], [3.0, 1.0], [4.0, 6.0], [9.0, 7.0]])
    means = d.mean(axis=1)
    half = stats.t.ppf(0.975, 3) * means.std(ddof=1) / 2
    found = statistics.mean_interval(d)
    assert found.df == 3 and (found.lower, found.upper) == (
        pytest.approx(means.mean() - half),
        pytest.approx(means.mean() + half),
    )


def test_no_interval_is_narrower_than_that_of_the_negative_estimate() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        n, s = int(rng.integers(2, 9)), int(rng.integers(2, 5))
        d = rng.normal(size=(n, s))
        mean, rows, columns = d.mean(), d.mean(1), d.mean(0)
        a, b = s * rows.var(ddof=1), n * columns.var(ddof=1)
        e = ((d - rows[:, None] - columns + mean) ** 2).sum() / ((n - 1) * (s - 1))
        found = statistics.mean_interval(d)
        assert found.standard_error**2 >= max(a + b - e, a, b) / (n * s) - 1e-12
        assert min(n, s) - 1 <= found.df <= (n - 1) * (s - 1) + n + s
        assert found.lower < found.estimate < found.upper


def test_the_interval_follows_shifts_scales_and_the_order_of_people() -> None:
    rng = np.random.default_rng(2)
    d = world(rng, 9, 3, 1, 0.5, 1)
    plain = statistics.mean_interval(d)
    moved = statistics.mean_interval(-3 * d[::-1, [2, 0, 1]] + 10)
    assert moved.lower == pytest.approx(10 - 3 * plain.upper) and moved.upper == pytest.approx(10 - 3 * plain.lower)
    assert moved.df == pytest.approx(plain.df)


@pytest.mark.parametrize(("n", "s"), [(17, 5), (27, 5), (72, 5), (7, 3)])
@pytest.mark.parametrize("spread", [(1.0, 0.0, 1.0), (1.0, 0.3, 1.0), (0.3, 0.3, 1.0), (1.0, 1.0, 0.5)])
def test_95_percent_intervals_cover_the_truth(n: int, s: int, spread: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(7)
    draws = 1200
    inside = 0
    for _ in range(draws):
        found = statistics.paired_difference(world(rng, n, s, *spread))
        inside += found.lower <= 0 <= found.upper
    # standard error of the share: .006
    assert 0.92 <= inside / draws <= 0.995


def test_bootstrap_over_subjects_alone_undercovers_when_seeds_differ() -> None:
    # the reason why it is only a sensitivity analysis; if this fails the book's sentence about it is wrong
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        _, lower, upper = statistics.bootstrap_interval(world(rng, 27, 3, 1, 0.5, 1), draws=300, rng=rng)
        inside += lower <= 0 <= upper
    assert inside / 200 < 0.80


def test_one_seed_or_one_subject_gives_a_mean_and_no_limits() -> None:
    for table, word in ((np.ones((5, 1)), "one seed"), (np.ones((1, 5)), "one subject"), (np.ones((1, 1)), "one")):
        found = statistics.mean_interval(table)
        assert found.estimate == 1.0 and word in found.reason
        assert math.isnan(found.lower) and math.isnan(found.upper) and math.isnan(found.df)
        assert math.isnan(statistics.p_above(found, 0))


def test_subjects_without_values_are_dropped_and_counted() -> None:
    rng = np.random.default_rng(4)
    d = rng.normal(size=(6, 3))
    holed = np.insert(d, 2, np.nan, axis=0)
    found, plain = statistics.mean_interval(holed), statistics.mean_interval(d)
    assert (found.n_subjects, found.n_dropped, found.missing, found.reason) == (6, 1, (), "")
    assert (found.lower, found.upper) == (plain.lower, plain.upper)


def test_a_missing_cell_is_named() -> None:
    d = np.random.default_rng(5).normal(size=(6, 3))
    d[4, 1] = np.nan
    found = statistics.mean_interval(d)
    assert found.missing == ((4, 1),) and "(4, 1)" in found.reason
    assert (found.n_subjects, found.n_dropped) == (5, 1)


def test_a_seed_that_was_not_run_costs_no_people() -> None:
    d = np.random.default_rng(6).normal(size=(6, 4))
    d[:, 2] = np.nan
    found = statistics.mean_interval(d)
    assert (found.n_subjects, found.n_seeds, found.n_dropped, found.missing) == (6, 3, 0, ())
    assert "seeds without any value: 2" in found.reason


def test_nothing_at_all_is_no_number_and_no_crash() -> None:
    for table in (np.empty((0, 3)), np.empty((3, 0)), np.full((3, 2), np.nan)):
        found = statistics.mean_interval(table)
        assert math.isnan(found.estimate) and found.n_subjects == 0 and found.reason


def test_equal_differences_have_an_interval_without_width() -> None:
    found = statistics.paired_difference(np.full((8, 3), 0.1))
    assert found.estimate == found.lower == found.upper == pytest.approx(0.1)
    assert (statistics.p_above(found, 0), statistics.p_above(found, 0.2)) == (0.0, 1.0)
    assert (statistics.p_below(found, 0), statistics.p_below(found, 0.2)) == (1.0, 0.0)


def test_pooled_values_have_the_mean_of_the_pooled_ratio_and_its_spread_over_people() -> None:
    rng = np.random.default_rng(3)
    size = rng.lognormal(1, 1, (400, 1))
    found = size * rng.uniform(0.2, 0.8, (400, 2))
    values = statistics.pooled_values(found, np.broadcast_to(size, found.shape))
    assert values.mean(axis=0) == pytest.approx(found.sum(axis=0) / size.sum())
    drawn = rng.integers(0, 400, (4000, 400))
    spread = (found[drawn, 0].sum(axis=1) / size[drawn, 0].sum(axis=1)).std()
    assert values[:, 0].std(ddof=1) / 20 == pytest.approx(spread, rel=0.05)


def test_who_has_no_score_is_in_no_sum() -> None:
    found, size = np.array([[1.0], [np.nan], [3.0]]), np.array([[4.0], [4.0], [4.0]])
    values = statistics.pooled_values(found, size)
    assert np.isnan(values).ravel().tolist() == [False, True, False] and np.nanmean(values) == pytest.approx(0.5)
    assert np.isnan(statistics.pooled_values(np.zeros((2, 1)), np.zeros((2, 1)))).all()
    with pytest.raises(ValueError, match="differ in shape"):
        statistics.pooled_values(np.zeros((2, 1)), np.zeros((3, 1)))


def test_one_sided_p_values_agree_with_the_limits() -> None:
    rng = np.random.default_rng(8)
    for _ in range(100):
        found = statistics.paired_difference(world(rng, 12, 3, 1, 0.2, 1) + rng.normal())
        bound = rng.normal()
        assert (statistics.p_above(found, bound) < 0.025) == (found.lower > bound)
        assert (statistics.p_below(found, bound) < 0.025) == (found.upper < bound)
        inner = statistics.at_level(found, 0.90)
        assert found.lower < inner.lower < inner.upper < found.upper
        assert (statistics.p_above(found, bound) < 0.05) == (inner.lower > bound)


def test_wrong_tables_are_refused() -> None:
    for bad in (np.zeros(3), np.zeros((2, 2, 2)), np.full((2, 2), np.inf)):
        with pytest.raises(ValueError):
            statistics.mean_interval(bad)
    with pytest.raises(ValueError, match="level"):
        statistics.mean_interval(np.zeros((2, 2)), level=95)


def test_holm_adjusts_as_published() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert statistics.holm([]) == []


def test_a_test_that_was_not_run_still_counts_in_the_family() -> None:
    adjusted = statistics.holm([0.01, math.nan, 0.02])
    assert adjusted[0] == pytest.approx(0.03) and adjusted[2] == pytest.approx(0.04) and math.isnan(adjusted[1])


def test_holm_keeps_the_family_wise_error() -> None:
    rng = np.random.default_rng(9)
    wrong = sum(min(statistics.holm(list(rng.random(18)))) <= 0.05 for _ in range(2000))
    assert wrong / 2000 < 0.07


def six(rng: np.random.Generator, effect: dict[str, float], n: int = 20, s: int = 4) -> dict[str, np.ndarray]:
    people, seeds = rng.normal(size=(n, 1)), rng.normal(size=(1, s))
    return {source: people + seeds + effect[source] + 0.01 * rng.normal(size=(n, s)) for source in PRETRAINED_HERE}


def test_factorial_contrasts_find_the_effects_that_were_put_in() -> None:
    value = {"classification": 0.0, "segmentation": 0.3, "selfsupervised": 0.1}
    effect = {}
    for source in PRETRAINED_HERE:
        domain, task = source.split("-")
        effect[source] = value[task] + (0.5 if domain == "mri" else 0.0)
        if source == "mri-segmentation":
            effect[source] += 0.2
    found = {c.name: c for c in statistics.factorial(six(np.random.default_rng(0), effect))}
    expected = {
        "mri - natural": 0.5 + 0.2 / 3,
        "classification - segmentation": -0.3 - 0.1,
        "classification - selfsupervised": -0.1,
        "segmentation - selfsupervised": 0.2 + 0.1,
        "(classification - segmentation) in mri - in natural": -0.2,
        "(classification - selfsupervised) in mri - in natural": 0.0,
        "(segmentation - selfsupervised) in mri - in natural": 0.2,
    }
    assert set(found) == set(expected)
    for name, truth in expected.items():
        assert found[name].interval.estimate == pytest.approx(truth, abs=0.01), name
        assert found[name].interval.upper - found[name].interval.lower < 0.05
    assert {c.kind for c in found.values()} == {"domain", "task", "interaction"}


def test_factorial_weights_cancel_what_people_and_seeds_share() -> None:
    for kind, _, weights in statistics.factorial_weights():
        assert sum(weights.values()) == pytest.approx(0)
        if kind == "interaction":
            for domain in ("mri", "natural"):
                assert sum(w for s, w in weights.items() if s.startswith(domain)) == pytest.approx(0)


def test_the_factorial_needs_six_sources_and_leaves_the_controls_out() -> None:
    cells = six(np.random.default_rng(1), dict.fromkeys(PRETRAINED_HERE, 0.0))
    with_controls = cells | {"imagenet": np.full((20, 4), 99.0), "scratch": np.full((20, 4), -99.0)}
    assert statistics.factorial(with_controls) == statistics.factorial(cells)
    with pytest.raises(ValueError, match="mri-segmentation"):
        statistics.factorial({k: v for k, v in cells.items() if k != "mri-segmentation"})


def test_the_bootstrap_sees_a_plain_effect_and_repeats_itself() -> None:
    d = np.random.default_rng(10).normal(size=(30, 3)) + 1.0
    estimate, lower, upper = statistics.bootstrap_interval(d)
    assert 0 < lower < estimate < upper and statistics.bootstrap_interval(d) == (estimate, lower, upper)
    assert estimate == pytest.approx(statistics.mean_interval(d).estimate)
