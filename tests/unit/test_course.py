"""Promises of the course: copies without solutions, checks that help, labs that run, a plan that fills two lessons."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from scipy import stats

from braintransfer import metrics
from braintransfer.cli import main
from braintransfer.course import checks, copies, deck, lab
from braintransfer.errors import BadInput
from braintransfer.network import build_unet
from braintransfer.settings import read_profile
from braintransfer.statistics import mean_interval

ROOT = Path(__file__).resolve().parents[2]
COURSE = ROOT / "book" / "course"
MASTERS = copies.masters(ROOT)
EXERCISES = [e for master in MASTERS for e in copies.exercises(master)]


def _cells(path: Path, tag: str) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if tag in copies.tags(cell)]


# ------------------------------------------------------------------------------------------------------------- masters
def test_the_exercises_are_numbered_and_reach_from_recall_to_an_open_question() -> None:
    assert [e.number for e in EXERCISES] == list(range(1, len(EXERCISES) + 1)) and len(EXERCISES) >= 12
    assert set(checks.JUDGES) == {e.number for e in EXERCISES}
    assert EXERCISES[0].level == "remember" and EXERCISES[-1].level == "create"
    assert {e.level for e in EXERCISES} == set(copies.LEVELS)


@pytest.mark.parametrize("master", MASTERS, ids=lambda p: p.stem)
def test_a_master_holds_no_output_and_every_part_of_every_exercise(master: Path) -> None:
    notebook = nbformat.read(master, as_version=4)
    assert not [c for c in notebook.cells if c.cell_type == "code" and (c.outputs or c.execution_count)]
    for e, check in zip(copies.exercises(master), _cells(master, "check"), strict=True):
        assert check.source.startswith(f"check({e.number}, ")
    for answer in _cells(master, "answer"):
        assert copies.BEGIN in answer.source and copies.END in answer.source


def test_a_master_that_lacks_a_hint_is_refused(tmp_path: Path) -> None:
    notebook = nbformat.read(MASTERS[0], as_version=4)
    notebook.cells = [c for c in notebook.cells if c.get("id") != "hint-2"]
    nbformat.write(notebook, tmp_path / "lab1.ipynb")
    with pytest.raises(BadInput, match="exercise, hint, answer, check, solution"):
        copies.exercises(tmp_path / "lab1.ipynb")


# -------------------------------------------------------------------------------------------------------------- copies
def _solution_lines(master: Path) -> set[str]:
    """Lines of code that stand in solutions only."""
    found: set[str] = set()
    for cell in _cells(master, "answer"):
        for block in re.findall(rf"{copies.BEGIN}\n(.*?){copies.END}", cell.source, re.DOTALL):
            lines = [line.strip() for line in block.splitlines()]
            found |= {
                line for line in lines if not line.startswith(copies.LEARNER) and len(line) > 6 and line[-1] not in "({"
            }
    return found


@pytest.mark.parametrize("master", MASTERS, ids=lambda p: p.stem)
def test_a_learners_copy_holds_nothing_of_a_solution(tmp_path: Path, master: Path) -> None:
    text = nbformat.writes(copies.copy_of(nbformat.read(master, as_version=4), instructor=False))
    code = {line.strip() for c in nbformat.reads(text, as_version=4).cells for line in c.source.splitlines()}
    solutions = _solution_lines(master)
    assert len(solutions) > 3 and not solutions & code
    for cell in _cells(master, "solution"):
        assert cell.source[:30] not in text
    assert "SOLUTION" not in text and "learner: " not in text and copies.SOLVED not in text
    whole = nbformat.writes(copies.copy_of(nbformat.read(master, as_version=4), instructor=True))
    assert copies.SOLVED in whole and "SOLUTION" not in whole and "learner: " not in whole


def test_the_same_master_makes_both_copies_with_equal_ids_and_code_that_can_be_read() -> None:
    for master in MASTERS:
        notebook = nbformat.read(master, as_version=4)
        ids = {}
        for instructor in (False, True):
            copy = copies.copy_of(notebook, instructor=instructor)
            nbformat.validate(copy)
            for cell in copy.cells:
                if cell.cell_type == "code":
                    ast.parse(cell.source)
            ids[instructor] = {cell.id for cell in copy.cells}
        assert ids[False] == ids[True] - {c.id for c in notebook.cells if "solution" in copies.tags(c)}


def test_the_command_writes_copies_and_never_over_a_learners_answers(tmp_path: Path) -> None:
    to = tmp_path / "mine"
    done = CliRunner().invoke(main, ["course", "--to", str(to)])
    assert done.exit_code == 0, done.output
    assert {p.name for p in to.glob("*")} == {*(m.name for m in MASTERS), "pictures", "slides.html"}
    shown = {n for m in MASTERS for n in re.findall(r"\]\((pictures/\w+\.png)\)", (to / m.name).read_text("utf-8"))}
    assert shown and all((to / name).is_file() for name in shown)
    again = CliRunner().invoke(main, ["course", "--to", str(to)])
    assert again.exit_code == 2 and "perhaps with answers" in again.output
    with pytest.raises(BadInput, match="where the masters are"):
        copies.write_copies(ROOT, ROOT / copies.MASTERS)


@pytest.mark.parametrize("master", MASTERS, ids=lambda p: p.stem)
def test_the_copy_in_the_repository_is_that_of_its_master(master: Path) -> None:
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    url = (settings.get("repository") or {}).get("url") or ""
    fresh = copies.copy_of(nbformat.read(master, as_version=4), instructor=False, repository=url)
    kept = nbformat.read(COURSE / master.name, as_version=4)
    assert [c.source for c in kept.cells] == [c.source for c in fresh.cells], "run `braintransfer course`"
    assert all((COURSE / name).is_file() for c in kept.cells for name in re.findall(r"\]\((pictures/\S+)\)", c.source))


def test_the_number_beside_the_picture_of_a_hundred_studies_is_the_pictures() -> None:
    said = re.search(r"here (\d+) caught it", MASTERS[3].read_text(encoding="utf-8"))
    shown = re.search(r"(\d+) cross it", copies.drawing("background_interval").alt)
    assert said is not None and shown is not None and said[1] == shown[1]


def test_the_slides_come_from_the_masters_and_need_nothing_from_outside() -> None:
    page = deck.deck(ROOT)
    marked = [c for m in MASTERS for c in nbformat.read(m, as_version=4).cells if "slideshow" in c.metadata]
    assert page.count("<section") == len(marked) > 20
    assert (
        not re.search(r"(src|href)=[\"'](?!data:)", page)
        and "import" not in re.findall(r"<script>(.*?)</script>", page, re.S)[0]
    )
    assert all(len(alt) > 20 for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page)) and "<img " in page
    for cell in (c for m in MASTERS for c in _cells(m, "solution")):
        assert cell.source[:30] not in page


# --------------------------------------------------------------------------------------------------------------- guide
def test_the_plan_fills_two_lessons_of_90_minutes_and_gives_each_exercise_its_time() -> None:
    plan = pd.read_csv(COURSE / "plan.csv")
    for _, session in plan.groupby("Session"):
        assert session["From"].iloc[0] == 0 and session["To"].iloc[-1] == 90
        assert list(session["From"].iloc[1:]) == list(session["To"].iloc[:-1])
    planned = plan[plan["What happens"].str.startswith("Exercise")]
    numbers = planned["What happens"].str.extract(r"Exercise (\d+)")[0].astype(int)
    minutes = dict(zip(numbers, planned["To"] - planned["From"], strict=True))
    assert minutes == {e.number: e.minutes for e in EXERCISES}


def test_what_the_guide_says_came_from_an_executed_copy() -> None:
    assert list(pd.read_csv(COURSE / "expected.csv")["Exercise"]) == [e.number for e in EXERCISES]
    timing = pd.read_csv(COURSE / "timing.csv")
    assert list(timing["lab"]) == [m.stem for m in MASTERS]
    assert (timing["computing"] < 300).all() and (timing["MB"] < 2000).all()


def test_the_lab_has_a_profile_with_enough_people_for_its_curve() -> None:
    assert read_profile("course").targets["anatomy"].n_train == 8


# -------------------------------------------------------------------------------------------------------------- checks
TRUTH, GUESS = np.zeros((6, 6), bool), np.zeros((6, 6), bool)
TRUTH[1:4, 1:4], GUESS[2:5, 2:4] = True, True
SCORES = {
    name: pd.DataFrame({0: base + np.array([0.0, 0.02, 0.05]), 1: base + np.array([0.03, 0.01, 0.09])})
    for name, base in (("scratch", 0.5), ("imagenet", 0.6))
}
SCORES["mri-segmentation"] = pd.DataFrame({0: [0.55, 0.57, 0.61], 1: [0.52, 0.60, 0.66]})
CURVE = pd.DataFrame({"scratch": [0.50, 0.53, 0.58], "imagenet": [0.51, 0.57, 0.60]}, index=[1, 2, 4])
FOUND = metrics.detect_lesions(lab.lesion_masks()[1][..., None], lab.lesion_masks()[0][..., None], (1.0, 1.0, 1.0))
TABLE = pd.DataFrame({0: [0.10, 0.12, 0.05, 0.14, 0.09], 1: [-0.06, -0.02, -0.09, -0.01, -0.07]})
CONTRAST = {
    "estimate": -0.12, "lower": -0.178, "upper": -0.062, "verdict": "inconclusive",
    "gates": {"assay": {"passed": False}, "range": {"passed": True}, "min_subjects": {"passed": False}},
}  # fmt: skip
PLAN = {
    "hypothesis": "A frozen encoder outlines anatomy no worse than a thawed one.",
    "comparison": "frozen minus thawed", "metric": "Dice", "margin": "0.02", "people": "20", "seeds": "5",
    "refuted if": "the whole interval lies below -0.02",
}  # fmt: skip


class _Lab:
    """As much of a lab as exercise 4 needs."""

    @staticmethod
    def new_network() -> torch.nn.Module:
        return build_unet("tf_efficientnet_lite0", 4, 0)


@pytest.fixture(scope="module")
def masks() -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """A reference of four cubes; marks that touch two of them by a third, one by two thirds, and one in the empty."""
    truth, marks = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    for x, y, shift in ((1, 1, 2), (1, 10, 2), (10, 1, 1), (10, 10, 9)):
        truth[x : x + 3, y : y + 3, 1:4] = True
        marks[x + shift : x + shift + 3, y : y + 3, 1:4] = True
    return marks[:, :, :], truth, (2.0, 2.0, 2.0)


def _by_slices(subjects: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(len(subjects))
    n = round(share * len(subjects))
    return order[n:], order[:n]


def _by_people(subjects: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    people = rng.permutation(np.unique(subjects))
    inside = np.isin(subjects, people[: round(share * len(people))])
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def _losing(subjects: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    train, test = _by_people(subjects, share, rng)
    return train[::2], test


def _always_the_same(subjects: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return _by_people(subjects, share, np.random.default_rng(0))


def _part(network: Any) -> None:
    for layer in network.encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.requires_grad = False


def _numbers(of: Callable[[Any], Any] = lambda p: p.requires_grad) -> int:
    network: Any = _Lab.new_network()
    network.encoder.requires_grad_(False)
    return sum(p.numel() for p in network.parameters() if of(p))


def _my_dice(guess: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (guess & truth).sum() / (guess.sum() + truth.sum()))


def _over_slices(axis: int, empty: float | None) -> Callable[[np.ndarray, np.ndarray], float]:
    """The mean of each slice's Dice; empty: what a slice counts where both masks are empty, None to leave it out."""

    def mean(guess: np.ndarray, truth: np.ndarray) -> float:
        pairs = [(np.take(guess, k, axis), np.take(truth, k, axis)) for k in range(truth.shape[axis])]
        each = [_my_dice(p, t) if (p | t).any() else empty for p, t in pairs]
        return float(np.mean([value for value in each if value is not None]))

    return mean


def _marks(subjects: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    inside = np.isin(subjects, rng.permutation(np.unique(subjects))[:3])
    return ~inside, inside


def _of_slices(subjects: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    inside = np.isin(subjects, rng.permutation(subjects)[: round(share * 12)])
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def _another_generator(subjects: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return _by_people(subjects, share, np.random.default_rng())


T_ALL = stats.t.interval(0.95, 9, TABLE.to_numpy().mean(), stats.sem(TABLE.to_numpy().ravel()))
T_PEOPLE = stats.t.interval(0.95, 4, TABLE.to_numpy().mean(), stats.sem(TABLE.mean(axis=1)))
SPREAD = 1.96 * TABLE.mean(axis=1).std()
INTERVAL = mean_interval(TABLE)
MEAN = float(TABLE.to_numpy().mean())
D = (SCORES["mri-segmentation"] - SCORES["scratch"]).to_numpy()
GAIN = (CURVE["imagenet"] - CURVE["scratch"]).to_dict()
R = {"sensitivity": 0.75, "precision": 0.5, "f1": 0.6}

#: exercise -> what else the check is given, a right answer, and wrong ones with a word that the message must hold.
CASES: dict[int, tuple[tuple[Any, ...], Any, list[tuple[Any, str]]]] = {
    1: ((), {"a", "d"}, [({"a"}, "encoder_state"), ({"a", "b", "d"}, "drawing"), ({"a", "d", "f"}, "file of weights"), ({"x"}, "letters are"), ({"a": True}, "dictionary")]),
    2: ((TRUTH, GUESS), (8 / 15, 4 / 11), [
        ((4 / 11, 8 / 15), "swapped"), ((29 / 36, 4 / 11), "background"), ((4 / 6, 4 / 11), "precision"), ((4 / 9, 0.3), "sensitivity"),
        ((53, 36), "percent"), ((4 / 15, 4 / 11), "twice"), ((8 / 15, 0.5), "union")]),
    3: ((), _my_dice, [
        (metrics.dice, "calls `metrics.dice`"), (lambda p, t: metrics.dice(p, t), "calls `metrics.dice`"),
        *((_over_slices(axis, empty), "mean over slices") for axis in range(3) for empty in (None, 0.0, 1.0, np.nan)),
        (metrics.iou, "union"), (lambda p, t: (p == t).mean(), "background"), (lambda p, t: (p & t).sum() / (p.sum() + t.sum()), "twice"),
        (lambda p, t: np.mean([2 * (p[..., k] & t[..., k]).sum() / max(1, p[..., k].sum() + t[..., k].sum()) for k in range(7)]), "slice"),
        (lambda p, t: (p & t).sum() / t.sum(), "both")]),
    5: ((), {"A": "part", "B": "nothing", "C": "all"}, [
        ({"A": "all", "B": "nothing", "C": "all"}, "strict=False"), ({"A": "part", "B": "all", "C": "all"}, "strict=False"),
        ({"A": "nothing", "B": "nothing", "C": "all"}, "do agree"), ({"A": "yes", "B": "no", "C": "all"}, "say one of")]),
    6: ((SCORES, "mri-segmentation", "scratch"), D.mean(), [
        (-D.mean(), "sign"), (D[:, 0].mean(), "one seed"), (100 * D.mean(), "percent"), (D.sum(), "sum"), (D.mean(axis=0), "one mean per seed"), ("0.05", "no number"), (0.1, "another source")]),
    7: ((CURVE, "imagenet", "scratch"), GAIN, [
        ({n: -v for n, v in GAIN.items()}, "sign"), ({n: 100 * v for n, v in GAIN.items()}, "percent"), ({4: GAIN[4]}, "each count"), (CURVE["imagenet"].to_dict(), "scores of"),
        ((CURVE["imagenet"] / CURVE["scratch"]).to_dict(), "ratios"), ((CURVE["imagenet"] - CURVE["imagenet"][1]).to_dict(), "more people")]),
    8: ((), {"a", "c", "e"}, [({"a", "b", "c", "e"}, "thirty people"), ({"a", "c", "d", "e"}, "proof"), ({"a", "c", "e", "f"}, "brains")]),
    9: ((), _by_people, [
        (_by_slices, "both sides"), (_losing, "neither side"), (_always_the_same, "shuffle"),
        (lambda s, share, rng: (np.arange(len(s)), np.array([], int)), "empty"), (_marks, "flatnonzero"),
        (lambda s, share, rng: (np.unique(s)[3:], np.unique(s)[:3]), "not names"), (_of_slices, "each person once"),
        (_another_generator, "The same `rng`")]),
    10: ((0.95, 0.45), {"leak": 0.5, "expected": 0.5}, [
        ({"leak": -0.5, "expected": 0.5}, "sign"), ({"leak": 0.95, "expected": 0.5}, "guessing"), ({"leak": 0.5, "expected": 0.45}, "long run"),
        ({"leak": 0.95 / 0.45, "expected": 0.5}, "ratio"), ({"leak": "44 %", "expected": 0.5}, "percent"), ({"leak": 0.5, "expected": 0.125}, "by lot")]),
    11: ((FOUND,), R, [
        ({**R, "sensitivity": 0.5, "precision": 0.75}, "swapped"), ({**R, "f1": "3/5"}, "without quotes"), ({"sensitivity": 0.75, "precision": 0.5}, "'f1' is missing"), ({**R, "f1": 0.625}, "harmonic"), ({**R, "sensitivity": 1}, "Sensitivity"),
        ({**R, "precision": 4 / 6}, "Precision"), ({"sensitivity": 3, "precision": 3, "f1": 3}, "shares")]),
    13: ((), {"p": "higher", "q": "cannot tell", "r": "similar", "s": "lower"}, [
        ({"p": "higher", "q": "similar", "r": "cannot tell", "s": "lower"}, "margin"), ({"p": "similar", "q": "cannot tell", "r": "higher", "s": "lower"}, "zero"),
        ({"p": "higher", "q": "cannot tell", "r": "similar", "s": "cannot tell"}, "above zero"), ({"p": "equal", "q": "lower", "r": "similar", "s": "lower"}, "say one of")]),
    14: ((TABLE,), (INTERVAL.lower, INTERVAL.upper, "seeds"), [
        ((*T_ALL, "seeds"), "another person"), ((round(INTERVAL.lower, 2), round(INTERVAL.upper, 2), "seeds"), "give three"), ((*T_PEOPLE, "seeds"), "these very seeds"), ((MEAN - SPREAD, MEAN + SPREAD, "seeds"), "spread"),
        ((-INTERVAL.upper, -INTERVAL.lower, "seeds"), "sign"), ((INTERVAL.lower, INTERVAL.upper, "people"), "columns"),
        ((MEAN - INTERVAL.standard_error, MEAN + INTERVAL.standard_error, "seeds"), "standard error")]),
    15: ((), {"a", "c", "d", "f", "g"}, [
        ({"a", "b", "c", "d", "f", "g"}, "favour"), ({"a", "d", "f", "g"}, "looked at"), ({"a", "c", "d", "f"}, "number of pictures")]),
    16: ((CONTRAST,), {"lower": -0.178, "upper": -0.062, "holds zero": False, "failed gates": {"assay", "min_subjects"}, "verdict": "inconclusive"}, [
        ({"lower": -0.178, "upper": -0.062, "holds zero": True, "failed gates": {"assay", "min_subjects"}, "verdict": "inconclusive"}, "between"),
        ({"lower": 0.062, "upper": 0.178, "holds zero": False, "failed gates": {"assay"}, "verdict": "inconclusive"}, "sign"),
        ({"lower": -0.178, "upper": -0.062, "holds zero": False, "failed gates": {"range"}, "verdict": "inconclusive"}, "passed"),
        ({"lower": -0.18, "upper": -0.06, "holds zero": False, "failed gates": {"range"}, "verdict": "inconclusive"}, "give three"),
        ({"lower": -0.178, "upper": -0.062, "holds zero": False, "failed gates": "assay, range", "verdict": "inconclusive"}, "set of names"),
        ({"lower": -0.178, "upper": -0.062, "holds zero": False, "failed gates": {"assay", "range", "min_subjects"}, "verdict": "inconclusive"}, "not all of them"),
        ({"lower": -0.178, "upper": -0.062, "holds zero": False, "failed gates": {"assay", "min_subjects"}, "verdict": "not supported"}, "weight")]),
    17: ((), {"a", "c", "e"}, [({"a", "b", "c", "e"}, "patients"), ({"a", "c", "d", "e"}, "proof"), ({"a", "c", "e", "f"}, "how long")]),
    18: ((), PLAN, [
        ({**PLAN, "margin": "small"}, "margin"), ({**PLAN, "margin": "2"}, "below 1 where"), ({**PLAN, "margin": "-0.02"}, "above 0"), ({**PLAN, "people": "1"}, "two or more"),
        ({**PLAN, "seeds": "2.5"}, "whole number"), ({**PLAN, "metric": "Dice and lesion F1"}, "one metric"), ({**PLAN, "seeds": "1"}, "luck"), ({**PLAN, "hypothesis": "transfer learning"}, "turn out wrong"),
        ({**PLAN, "metric": "accuracy"}, "metric"), ({k: v for k, v in PLAN.items() if k != "refuted if"}, "missing")]),
}  # fmt: skip


@pytest.mark.parametrize("exercise", sorted(CASES))
def test_a_check_accepts_the_solution_and_helps_with_wrong_answers(exercise: int) -> None:
    given, right, wrong = CASES[exercise]
    assert checks.judge(exercise, right, *given).right, checks.judge(exercise, right, *given).says
    assert len(wrong) >= 3
    for answer, word in wrong:
        verdict = checks.judge(exercise, answer, *given)
        assert not verdict.right and word.lower() in verdict.says.lower(), (answer, verdict.says)


def test_a_good_plan_is_accepted_in_other_words() -> None:
    for part in (
        {"metric": "Dice, over the whole volume"},
        {"metric": "lesion F1 (joins sensitivity and precision)"},
        {"comparison": "imagenet vs. scratch"},
        {"metric": "HD95", "margin": "2 mm"},
        {"metric": "absolute volume error", "margin": "3 mL"},
        {"margin": "a rater differs by 2 voxels, so 0.05"},
    ):
        verdict = checks.judge(18, {**PLAN, **part})
        assert verdict.right, (part, verdict.says)


def test_a_split_that_is_no_better_and_two_results_in_the_wrong_order_are_told_so() -> None:
    def turned(subjects: Any, share: float, rng: Any) -> Any:
        chosen = rng.permutation(np.unique(subjects))[: round(share * len(np.unique(subjects)))]
        inside = np.isin(subjects, chosen)
        return np.flatnonzero(inside), np.flatnonzero(~inside)

    assert "swapped" in checks.judge(9, turned).says
    alike = checks.judge(10, {"leak": 0.0, "expected": 0.5}, 0.92, 0.92)
    assert not alike.right and "no leak" in alike.says


def test_the_check_of_freezing_accepts_the_solution_and_helps_with_wrong_answers() -> None:
    def encoder(network: Any) -> None:
        network.encoder.requires_grad_(False)

    right = _numbers()
    assert checks.judge(4, encoder, right, _Lab).right
    total = _numbers(lambda p: True)
    for function, number, word in (
        (lambda network: None, right, "Nothing is frozen"),
        (lambda network: network.requires_grad_(False), 0, "nothing can learn"),
        (lambda network: network.decoder.requires_grad_(False), right, "other way round"),
        (_part, right, "BatchNorm"),
        (encoder, total, "all parameters"),
        (encoder, total - right, "frozen ones"),
    ):
        verdict = checks.judge(4, function, number, _Lab)
        assert not verdict.right and word in verdict.says, verdict.says


def test_the_check_of_the_rule_accepts_the_solution_and_helps_with_wrong_answers(masks: Any) -> None:
    marks, truth, spacing = masks
    lenient, strict = (metrics.detect_lesions(marks, truth, spacing, overlap=o).f1 for o in (1e-9, 0.5))
    assert lenient > strict
    right = {"lenient": lenient, "strict": strict, "dice moves": False}
    assert checks.judge(12, right, *masks).right
    for changed, word in (
        ({"lenient": strict, "strict": lenient}, "swapped"),
        ({"dice moves": True}, "voxel"),
        ({"strict": lenient}, "overlap"),
        ({"dice moves": "no"}, "True or False"),
    ):
        verdict = checks.judge(12, {**right, **changed}, *masks)
        assert not verdict.right and word in verdict.says, verdict.says


def test_an_open_or_unreadable_answer_is_told_so_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for answer in (..., None, (..., ...), {"A": ...}):
        assert "three dots" in checks.judge(2, answer, TRUTH, GUESS).says
    assert "three dots" in checks.judge(3, lambda guess, truth: ...).says
    assert "three dots" in checks.judge(9, lambda subjects, share, rng: None).says
    assert "a pair of numbers" in checks.judge(2, "a half", TRUTH, GUESS).says
    assert "IndexError" in checks.judge(3, lambda guess, truth: [guess][1]).says
    with pytest.raises(ValueError, match="no exercise 99"):
        checks.judge(99, 1)
    checks.check(99, 1)
    assert capsys.readouterr().out == "There is no exercise 99; there are 1 to 18.\n"


@pytest.mark.parametrize("exercise", sorted(checks.FORMS))
@pytest.mark.parametrize(
    "strange", ["44 %", 7, {"x": 1}, [[]], object()], ids=["text", "number", "dictionary", "list", "object"]
)
def test_an_answer_of_another_form_is_told_the_form_or_the_letters(exercise: int, strange: Any, masks: Any) -> None:
    given = masks if exercise == 12 else CASES[exercise][0]
    verdict = checks.judge(exercise, strange, *given)
    assert not verdict.right and "Error" not in verdict.says and len(verdict.says) > 20


def test_letters_may_be_written_as_a_text_and_names_in_capitals() -> None:
    assert checks.judge(1, "a, d").right and checks.judge(1, ["A", " d "]).right
    assert checks.judge(11, {"Sensitivity": 0.75, "precision": 0.5, "F1": 0.6}, FOUND).right
    assert checks.judge(10, {"leak": 0.92 - 0.48, "expected": 0.5}, 0.918, 0.482).right


def test_no_letter_of_an_answer_stands_in_the_checks() -> None:
    text = Path(checks.__file__).read_text(encoding="utf-8")
    for _, right, _ in CASES.values():
        if isinstance(right, set):
            assert str(sorted(right)) not in text and "".join(sorted(right)) not in re.findall(r'"(\w+)"', text)


# ---------------------------------------------------------------------------------------------------------------- labs
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the copies run, with one folder of data for all of them."""
    made = tmp_path_factory.mktemp("course")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.parametrize("master", MASTERS, ids=lambda p: p.stem)
def test_a_lab_runs_with_its_solutions_and_every_check_says_right(
    folder: Path, master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lab.PROFILE, "tiny")
    notebook = folder / master.name
    nbformat.write(copies.copy_of(nbformat.read(master, as_version=4), instructor=True), notebook)
    copies.execute([notebook], report=lambda line: None)
    said = copies.printed(nbformat.read(notebook, as_version=4))
    assert [int(n) for n in re.findall(r"Exercise (\d+), right", said)] == [e.number for e in copies.exercises(master)]
    assert "not yet" not in said


@pytest.mark.parametrize("master", MASTERS, ids=lambda p: p.stem)
def test_a_learners_copy_runs_before_anything_is_answered(
    folder: Path, master: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: a kernel of its own would cost as much again, and nothing in the copies is about the kernel."""
    monkeypatch.setenv(lab.PROFILE, "tiny")
    monkeypatch.chdir(folder)
    plt.switch_backend("agg")
    names: dict[str, Any] = {}
    for cell in copies.copy_of(nbformat.read(master, as_version=4), instructor=False).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{master.stem}:{cell.id}", "exec"), names)
    said = capsys.readouterr().out
    plt.close("all")
    assert said.count("not yet") == len(copies.exercises(master)) and not re.search(r"Exercise \d+, right", said)
