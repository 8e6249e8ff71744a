"""Intervals and rules keep their promises in small simulated worlds, and the proof would notice if they did not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braintransfer import claims, statistics, study
from braintransfer.proofs import drawings, worlds
from braintransfer.settings import read_profile

ROOT = Path(__file__).parents[2]
RULES = claims.load(ROOT / "notebooks" / "claims.yaml")
PAIR = ("mri-segmentation", "natural-segmentation")


def covers(quantity: str, target: str, spread: str, s: int = 5, draws: int = 300) -> float:
    return float(worlds.coverage_of(quantity, target, spread, worlds.SIZES[target], s, draws)["95 % covers"])


def broken(world: worlds.World, draws: int) -> str:
    (row,) = worlds.rules_table(RULES, round(draws / world.weight), chosen=[world]).to_dict("records")
    return str(row["broken"])


# -------------------------------------------------------------------------------------------------------- the worlds


@pytest.mark.parametrize("target", study.TARGETS)
@pytest.mark.parametrize("kind", worlds.KINDS)
def test_the_spread_gives_the_half_widths_of_the_plan(target: str, kind: str) -> None:
    metric, n = study.HEADLINE[target], worlds.SIZES[target]
    for spread in worlds.SPREADS:
        rng = np.random.default_rng(0)
        drawn = worlds.draw(rng, target, metric, kind, spread, dict.fromkeys(PAIR, 0.0), n, 5, 150)
        found = [statistics.mean_interval(d) for d in drawn[PAIR[0]] - drawn[PAIR[1]]]
        half = float(np.mean([(each.upper - each.lower) / 2 for each in found]))
        assert half == pytest.approx(worlds.HALF_WIDTHS[target], rel=0.1), spread


@pytest.mark.parametrize(("target", "metric"), [*study.HEADLINE.items(), ("stroke", worlds.DETECTION)])
@pytest.mark.parametrize("kind", worlds.KINDS)
def test_the_true_difference_is_the_one_that_was_asked_for(target: str, metric: str, kind: str) -> None:
    effects = {"imagenet": 0.06, "mri-segmentation": 0.01, "scratch": 0.0}
    rng = np.random.default_rng(1)
    drawn = worlds.draw(rng, target, metric, kind, "seeds", effects, worlds.SIZES[target], 5, 1500)
    for name in ("mri-segmentation", "scratch"):
        means = (drawn["imagenet"] - drawn[name]).mean(axis=(1, 2))
        assert abs(means.mean() - (0.06 - effects[name])) < 4 * means.std() / math.sqrt(len(means))
    means = drawn["scratch"].mean(axis=(1, 2))
    truth = worlds.true_mean(target, metric, kind, "seeds")
    assert abs(means.mean() - truth) < 4 * means.std() / math.sqrt(len(means))


def test_bounded_scores_stay_in_range_and_lesions_are_counted_one_by_one() -> None:
    rng = np.random.default_rng(2)
    dice = worlds.draw(rng, "stroke", "dice", "bounded", "mixed", {"scratch": 0.0}, 72, 5, 40)["scratch"]
    assert dice.min() >= 0 and dice.max() <= 1
    assert 0.01 < (dice == 0).mean() < 0.3 and not ((dice > 0) & (dice < worlds.MISSED)).any()
    found = worlds.draw(rng, "stroke", worlds.DETECTION, "normal", "mixed", {"scratch": 0.0}, 72, 5, 40)["scratch"]
    assert 0.1 < (found == 0).mean() < 0.6 and 0.1 < (found == 1).mean() < 0.6
    # with few lesions a person most scores are halves, thirds and the like
    assert np.isin(np.round(found * 60) / 60, found.round(12)).any() and len(np.unique(found)) < found.size / 20


def test_imagenet_has_no_pretraining_to_vary() -> None:
    rng = np.random.default_rng(3)
    names = ("mri-segmentation", "imagenet", "scratch")
    drawn = worlds.draw(rng, "stroke", "dice", "normal", "seeds", dict.fromkeys(names, 0.0), 72, 5, 2000)
    common = sum(drawn.values()) / 3
    spread = {name: float((drawn[name] - common).mean(axis=1).var()) for name in names}
    assert spread["imagenet"] == pytest.approx(spread["scratch"], rel=0.1)
    assert spread["imagenet"] < 0.85 * spread["mri-segmentation"]


def test_an_unknown_kind_of_world_is_refused() -> None:
    with pytest.raises(ValueError, match="kind"):
        worlds.draw(np.random.default_rng(0), "ms", "dice", "cauchy", "mixed", {"scratch": 0.0}, 27, 5, 1)


# ------------------------------------------------------------------------------------------------------ the intervals


@pytest.mark.parametrize("quantity", list(worlds.QUANTITIES))
def test_intervals_cover_the_truth_at_the_studys_own_size(quantity: str) -> None:
    for target, spread in (("stroke", "seeds"), ("ms", "mixed")):
        # 95 - 2, less three standard errors at 300 worlds
        assert covers(quantity, target, spread) >= 93 - 3.8


def test_an_interval_that_ignored_the_seeds_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def people_alone(values: np.ndarray) -> tuple[float, float]:
        means = values.mean(axis=1)
        return float(means.var(ddof=1) / len(means)), len(means) - 1.0

    monkeypatch.setattr(statistics, "_variance_of_mean", people_alone)
    for quantity in ("difference, normal", "difference, bounded"):
        assert covers(quantity, "stroke", "seeds") < 80


def test_folds_make_an_interval_too_short_and_one_fold_most() -> None:
    covers = {sd: worlds.fold_coverage("reference", "stroke", sd, 400)["95 % covers"] for sd in (0.0, 0.4)}
    several = worlds.fold_coverage("reference", "ms", 0.4, 400)["95 % covers"]
    assert float(covers[0.4]) < 87 < float(several) and float(covers[0.0]) > 91


def test_the_designs_are_those_of_their_profiles() -> None:
    for name, design in worlds.DESIGNS.items():
        profile = read_profile(name)
        assert design.seeds == len(profile.seeds)
        assert design.folds == {target: len(of.run_folds) for target, of in profile.targets.items()}
        for target in study.DETECTED:  # the profiles leave open how many people have anatomy
            of = profile.targets[target]
            assert design.people[target] == of.subjects * len(of.run_folds) // of.folds


def test_the_same_seed_gives_the_same_worlds_and_another_gives_others() -> None:
    rows = [worlds.coverage_of("difference, bounded", "ms", "mixed", 27, 3, 60, seed) for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


# ---------------------------------------------------------------------------------------------------------- the rules


def test_where_no_source_does_anything_no_claim_is_supported() -> None:
    for world in worlds.null_worlds():
        if (world.spread, world.seeds) == ("mixed", 5):
            assert broken(world, 120) == ""


def test_a_gate_that_let_everything_pass_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_assay", lambda *_: claims.Gate(True, "open"))
    (world,) = [w for w in worlds.null_worlds() if (w.kind, w.spread) == ("bounded", "people")]
    assert "claim 1 supported" in broken(world, 60) and "claim 2 supported" in broken(world, 60)


MARGIN_WORLDS = [w for w in worlds.margin_worlds(RULES) if (w.kind, w.spread, w.seeds) == ("bounded", "seeds", 5)]


def test_a_shortfall_of_the_margin_is_rarely_called_similar() -> None:
    assert len(MARGIN_WORLDS) == 3
    for world in MARGIN_WORLDS:
        assert broken(world, 120) == ""


def test_supported_by_the_upper_end_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_the_upper_end(contrast: claims._Contrast, claim: claims.Claim, common: claims.Common) -> bool:
        return contrast.interval is not None and contrast.interval.upper > -contrast.margin

    monkeypatch.setattr(claims, "_holds", by_the_upper_end)
    for world in MARGIN_WORLDS:
        assert "claim 1 supported" in broken(world, 40) and "claim 3 supported" in broken(world, 40)


def test_refusing_without_holm_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    (world,) = [w for w in worlds.power_worlds(RULES) if w.difference == -1 and w.kind == "normal"]
    assert "refused" not in broken(world, 120)
    monkeypatch.setattr(claims, "holm", list)
    assert "claim 1 refused" in broken(world, 120)


def test_a_closed_gate_silences_claims_that_would_else_be_supported() -> None:
    for world in worlds.gate_worlds(RULES):
        assert broken(world, 20) == ""
    said = worlds.verdicts(RULES, worlds.World("", "", worlds.equal_world(RULES), "bounded"), 40)
    assert said["claim2", "", "supported"] > 0.5 and said["claim3", "", "supported"] > 0.3


def test_power_grows_with_the_true_difference() -> None:
    power = []
    for own in (-0.5, 0.0, 0.5):
        world = worlds.World("", str(own), worlds.equal_world(RULES, own=own), "bounded")
        power.append(worlds.verdicts(RULES, world, 40).get(("claim1", "", "supported"), 0.0))
    assert power[0] < 0.1 < power[1] < 0.9 < power[2]


def test_a_promise_has_room_for_chance_and_none_when_it_is_never() -> None:
    assert worlds.kept(0.05, 0.05, 2000) and worlds.kept(0.06, 0.05, 2000) and not worlds.kept(0.07, 0.05, 2000)
    assert worlds.kept(0.0, 0.0, 20) and not worlds.kept(0.05, 0.0, 20)


def test_the_worlds_of_the_reference_run_ask_all_questions_at_its_size() -> None:
    found = worlds.reference_worlds(RULES)
    assert {w.question for w in found} == {worlds.NOTHING, worlds.MARGIN, worlds.POWER}
    assert all((w.sizes, w.seeds) == (worlds.REFERENCE.people, 3) for w in found)
    (world,) = [w for w in found if w.question == worlds.POWER and w.difference == 0 and w.kind == "bounded"]
    (cells,) = worlds._cells(world, np.random.default_rng(0), 1)
    assert cells["main", "imagenet", "stroke", "dice"].values.shape == (36, 3)


def test_every_world_of_the_study_has_its_own_name_and_stream() -> None:
    drawn = [*worlds.study_worlds(RULES), *worlds.reference_worlds(RULES)]
    names = [(w.title, w.kind, w.spread, w.seeds, tuple(w.sizes.values())) for w in drawn]
    assert len(set(names)) == len(names)
    assert {
        **{target: RULES.margin[target][metric] for target, metric in study.HEADLINE.items()},
        **RULES.margin["detection"],
    } == worlds.MARGINS


# ------------------------------------------------------------------------------------------------ the committed tables


def committed(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "book" / "proof" / f"{name}.csv")


def test_the_committed_coverage_is_what_the_code_gives() -> None:
    table = committed("claims_coverage")
    chosen = table[(table["people"] == 17) & (table["spread by"] == "seeds")]
    assert len(chosen) == 8
    for row in chosen.to_dict("records")[:4]:
        key = (row["interval of"], row["target"], row["spread by"], row["people"], row["seeds"], row["worlds"])
        again = worlds.coverage_of(*key)
        # the last bits of exp differ between machines
        assert again["95 % covers"] == pytest.approx(row["95 % covers"], abs=0.1)
        assert again["half-width"] == pytest.approx(row["half-width"], rel=0.01)


def test_the_committed_rules_are_those_of_the_worlds() -> None:
    table = committed("claims_rules")
    asked = [(w.title, w.kind, w.spread, w.seeds) for w in worlds.study_worlds(RULES)]
    assert list(table[["world", "scores", "spread by", "seeds"]].itertuples(index=False, name=None)) == asked
    # what the page says of them
    nothing = table[table["question"] == worlds.NOTHING]
    assert nothing[[f"claim {k} supported" for k in (1, 2, 3)]].to_numpy().max() <= 5


def test_the_committed_tables_of_the_reference_run_are_what_the_code_gives() -> None:
    rules, asked = committed("claims_rules_reference"), worlds.reference_worlds(RULES)
    rows = rules[["world", "scores", "spread by", "seeds"]].itertuples(index=False, name=None)
    assert list(rows) == [(w.title, w.kind, w.spread, w.seeds) for w in asked]
    for row in committed("claims_folds").to_dict("records")[::6]:
        again = worlds.fold_coverage(row["profile"], row["target"], row["SD of folds"], row["worlds"])
        assert again["95 % covers"] == pytest.approx(row["95 % covers"], abs=0.1)
    coverage = committed("claims_coverage_reference")
    assert set(coverage.loc[coverage["target"] == "stroke", "people"]) == {36} and set(coverage["seeds"]) == {3}
    planned = committed("claims_coverage")
    same = planned[(planned["seeds"] == 3) & planned["people"].isin([27, 17])]
    both = coverage.merge(same, on=["interval of", "target", "people", "seeds", "spread by"])
    assert len(both) == len(same) and both["95 % covers_x"].to_numpy() == pytest.approx(both["95 % covers_y"], abs=0.1)


def test_the_figures_say_their_numbers() -> None:
    coverage, rules = committed("claims_coverage"), committed("claims_rules")
    for drawing, table in (
        (drawings.coverage_figure(coverage), coverage),
        (drawings.rules_figure(rules), rules),
    ):
        assert len(drawing.caption) > 100 and drawing.alt
        drawing.figure.draw_without_rendering()
        assert not table.empty
    lowest = coverage.loc[coverage["seeds"] == 5, "95 % covers"].min()
    assert f"{lowest:.1f} to" in drawings.coverage_figure(coverage).caption
