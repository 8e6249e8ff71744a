"""The checks of the exercises: one line that says "right", or what is off and where to look. They do not hold the answers.

Numbers are computed anew from the data that the exercise was about; which letters of a list belong to the answer is kept as
hashes only. `judge` gives a `Verdict`, `check` prints it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy import special
from torch import nn

from braintransfer import metrics
from braintransfer.statistics import bootstrap_interval, mean_interval

#: How near a number must come: answers may be rounded to three places.
NEAR = 6e-4


@dataclass(frozen=True)
class Verdict:
    """right: whether the answer is; says: one or two sentences for the learner."""

    right: bool
    says: str


class _Unanswered(Exception):
    """The three dots are still there."""


class _Form(Exception):
    """The answer has another form than the question asks for; says which part."""


_LETTERS = 'a set of letters, such as {"a", "b"}'
#: The form of each answer that is no function.
FORMS = {
    1: _LETTERS,
    2: "a pair of numbers, Dice first, such as (1 / 3, 0.2)",
    5: 'a dictionary {"A": ..., "B": ..., "C": ...} of the words all, part, nothing',
    6: "one number, such as 0.012",
    7: "a dictionary, people: number, such as {1: 0.01, 2: -0.02}",
    8: _LETTERS,
    10: 'a dictionary of two numbers, {"leak": ..., "expected": ...}',
    11: 'a dictionary of three numbers, {"sensitivity": ..., "precision": ..., "f1": ...}',
    12: 'a dictionary {"lenient": number, "strict": number, "dice moves": True or False}',
    13: 'a dictionary {"p": ..., "q": ..., "r": ..., "s": ...} of the words in the question',
    14: 'two numbers and a word, such as (-0.123, 0.045, "people")',
    15: _LETTERS,
    16: 'a dictionary {"lower": number, "upper": number, "holds zero": True or False, "failed gates": a set of names, "verdict": a word}',
    17: _LETTERS,
    18: "a dictionary with the seven parts that stand in the answer's cell",
}


def check(exercise: int, *answer: Any) -> None:
    """Print whether the answer to this exercise is right, and if not, what to look at. It may be asked again and again."""
    if exercise not in JUDGES:
        print(f"There is no exercise {exercise}; there are {min(JUDGES)} to {max(JUDGES)}.")
        return
    verdict = judge(exercise, *answer)
    print(f"Exercise {exercise}, {'right' if verdict.right else 'not yet'}. {verdict.says}")


def judge(exercise: int, *answer: Any) -> Verdict:
    """What `check` prints. ValueError for an exercise that there is not."""
    if exercise not in JUDGES:
        raise ValueError(f"there is no exercise {exercise}; there are {min(JUDGES)} to {max(JUDGES)}")
    try:
        if any(_open(part) for part in answer):
            raise _Unanswered
        return JUDGES[exercise](*answer)
    except _Unanswered:
        return _no("Put your answer where the three dots are, run that cell, then this one.")
    except _Form as error:
        return _no(f"{error} Wanted: {FORMS[exercise]}.")
    except Exception as error:  # whatever a learner's function or a wrong type makes of it
        if exercise in FORMS:
            return _no(f"The answer could not be read. Wanted: {FORMS[exercise]}.")
        said = str(error).strip().splitlines()
        return _no(
            f"Your function could not be tried ({type(error).__name__}: {said[0] if said else ''}). Call it once in a cell of your own to see where it stops."
        )


def _yes(says: str) -> Verdict:
    return Verdict(True, says)


def _no(says: str) -> Verdict:
    return Verdict(False, says)


def _open(part: Any) -> bool:
    if isinstance(part, Mapping):
        return any(_open(value) for value in part.values())
    if isinstance(part, tuple | list):
        return any(_open(value) for value in part)
    return part is ... or part is None


def _near(a: float, b: float) -> bool:
    return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= NEAR


def _two_places(a: float, b: float) -> bool:
    """Right, but rounded to two places."""
    return math.isfinite(a) and math.isfinite(b) and abs(a - round(a, 2)) < 1e-9 and abs(a - b) <= 5e-3 + 1e-9


def _number(value: Any) -> float:
    if isinstance(value, str | bool):
        raise _Form(f"{value!r} is no number: write it without quotes and without a percent sign, 0.44 or 8 / 15.")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise _Form(f"One number was wanted where a {type(value).__name__} stands.") from None


def _named(answer: Any, names: Sequence[str]) -> dict[str, Any]:
    """The parts of a dictionary, whatever the case of its keys."""
    if not isinstance(answer, Mapping):
        raise _Form(f"The answer is of type {type(answer).__name__}, no dictionary.")
    given = {str(name).strip().lower(): value for name, value in answer.items()}
    missing = [name for name in names if name.lower() not in given]
    if missing:
        raise _Form(f"'{missing[0]}' is missing.")
    return {name: given[name.lower()] for name in names}


def _parts(answer: Any, n: int) -> list[Any]:
    if isinstance(answer, str | Mapping | set) or not isinstance(answer, Iterable):
        raise _Form(f"The answer is of type {type(answer).__name__}.")
    parts = list(answer)
    if len(parts) != n:
        raise _Form(f"The answer has {len(parts)} parts, not {n}.")
    return parts


# ------------------------------------------------------------------------------------------------------------- choices
def _mark(exercise: int, letter: str, chosen: bool) -> str:
    return hashlib.sha256(f"braintransfer {exercise} {letter} {chosen}".encode()).hexdigest()[:10]


#: Of each letter of the lists: the mark of how it should be, chosen or not.
MARKS = frozenset(
    [
        "01dcc49560",
        "156da8f70e",
        "1ec42f02cf",
        "305a889541",
        "3676b3fd2e",
        "3cac158fcd",
        "4bbc23afb1",
        "4f049f6fa6",
        "59911d0d68",
        "5f9c5a4368",
        "6f416854ad",
        "70132a2a09",
        "7c838c82d4",
        "7d7b96f5a2",
        "8308233dc0",
        "8380b380bb",
        "84e6619575",
        "86af7af865",
        "90f9c10434",
        "92f4451b94",
        "99d316ffb6",
        "9c8591607d",
        "a52e11200d",
        "a6dbb24e05",
        "a6f83ce66e",
        "ad4edae664",
        "bee7d25252",
        "c31c07e146",
        "cc43d19f17",
        "db98566859",
        "ddb84b0f2d",
        "e1f23c65db",
        "f0a8339d5d",
    ]
)


#: Exercises that ask for a set of letters: what to think of at each letter, and what is said when all are right.
CHOICES: dict[int, tuple[dict[str, str], str]] = {
    1: (
        {
            "a": "which part of the network turns a picture into features?",
            "b": "the drawing of the network says where its first values come from, for every source.",
            "c": "has the last layer of the source as many outputs as the target has classes, with the same meaning?",
            "d": "look at what `encoder_state` lists: are these running numbers part of the encoder or not?",
            "e": "the optimiser is made anew in `fit`. Has it seen the source?",
            "f": "does a file of weights hold pictures?",
        },
        "The encoder travels, with its BatchNorm statistics. Everything else begins anew.",
    ),
    8: (
        {
            "a": "how many seeds does a point stand on?",
            "b": "do thirty slices of one person count as thirty people?",
            "c": "who are the test people of the point at 1 and of the point at the far right?",
            "d": "is 'no difference seen', with few people and one seed, a proof that there is none?",
            "e": "compare the lists that `store.training_subset(0, seed, n)` gives for two values of n.",
            "f": "whose brains are these? Read the sentence in bold below the title of the lab.",
        },
        "The points can be compared with each other, but not with a hospital.",
    ),
    15: (
        {
            "a": "would the others have come further with those steps too?",
            "b": "it is the same for all, and was fixed before any score. Whom does it favour?",
            "c": "who has then been looked at before the final score?",
            "d": "could the people differ more than the sources?",
            "e": "does it differ between sources?",
            "f": "if the best of many test scores is taken, is it still a test?",
            "g": "if the two differ in the number of pictures as well as in the task, which of the two made the difference?",
        },
        "What differs between the sources must be the source alone, and the test people stay shut.",
    ),
    17: (
        {
            "a": "does it say what the data are, how many people and seeds, and no more?",
            "b": "can people who were drawn by a program say anything about patients?",
            "c": "is it about the tools, or about medicine? Did you see it happen?",
            "d": "an interval that holds zero: what is it not a proof of?",
            "e": "does it name the interval, and is it careful about what it does not show?",
            "f": "how many pictures had each source here, and how long did it learn?",
        },
        "Simulated data show that tools work and how wide the uncertainty is; they say nothing about patients.",
    ),
}


def _choice(exercise: int, answer: Any) -> Verdict:
    """A set of letters: for the first that stands on the wrong side, its hint."""
    hints, says = CHOICES[exercise]
    if isinstance(answer, Mapping):
        raise _Form("The answer is a dictionary.")
    if not isinstance(answer, Iterable):
        raise _Form(f"The answer is of type {type(answer).__name__}.")
    # "a, d" means the same as {"a", "d"}
    given = {letter for part in answer for letter in re.sub(r"[\s,;]", "", str(part).lower())}
    strange = sorted(given - set(hints))
    if strange:
        return _no(f"There is no {strange[0]!r} in the list; the letters are {', '.join(hints)}.")
    wrong = [letter for letter in hints if _mark(exercise, letter, letter in given) not in MARKS]
    if not wrong:
        return _yes(says)
    more = "" if len(wrong) == 1 else f" ({len(wrong)} letters are on the wrong side; this is the first.)"
    return _no(f"Think again about {wrong[0]}: {hints[wrong[0]]}{more}")


# ----------------------------------------------------------------------------------------------------- overlap, weights
def _by_hand(answer: Any, truth: np.ndarray, guess: np.ndarray) -> Verdict:
    first, second = _parts(answer, 2)
    given = (_number(first), _number(second))
    truth, guess = np.asarray(truth, bool), np.asarray(guess, bool)
    both, size, marked = int((truth & guess).sum()), int(truth.sum()), int(guess.sum())
    dice, iou = 2 * both / (size + marked), both / (size + marked - both)
    if all(abs(g - w) < 6e-3 for g, w in zip(given, (dice, iou), strict=True)):
        return _yes(f"Dice {dice:.3f}, IoU {iou:.3f}: the same overlap on two scales.")
    if any(g > 1 for g in given):
        return _no("Both lie between 0 and 1: give a share, not percent or a count.")
    if abs(given[0] - iou) < 6e-3 and abs(given[1] - dice) < 6e-3:
        return _no("The two are swapped: Dice is never smaller than IoU.")
    for value, what in (
        (float((truth == guess).mean()), "That is the share of pixels on which both agree, background included. Dice and IoU ignore the background."),
        (both / marked, "That is the share of the marked pixels that are right (precision). Dice looks at both masks."),
        (both / size, "That is the share of the reference that was found (sensitivity). Dice looks at both masks."),
        (both / (size + marked), "Dice counts the shared pixels twice above the line: once for each mask."),
        (iou, "That is the IoU; for Dice, the sum of both sizes stands below the line."),
    ):  # fmt: skip
        if abs(given[0] - value) < 6e-3:
            return _no(f"Dice: {what}")
    if abs(given[0] - dice) < 6e-3:
        return _no("Dice is right. For IoU, count the union: pixels in either mask, each once.")
    return _no("Count three numbers first: pixels in both masks, in the reference, in the guess.")


def _volumes() -> list[tuple[np.ndarray, np.ndarray]]:
    """(guess, truth): large and well marked in some slices, small and badly marked in others, empty at both ends of each axis.

    So each mean over slices is far from the Dice of the whole.
    """
    rng = np.random.default_rng(5)
    made = []
    for large in (0.5, 0.7, 0.9):
        truth = np.zeros((8, 9, 7), bool)
        truth[2:5, 2:6, 1:3] = rng.random((3, 4, 2)) < large
        guess = truth.copy()
        truth[5:7, 6:8, 4:6] = rng.random((2, 2, 2)) < 0.4
        guess[1, 1, 3] = guess[6, 7, 5] = True
        made.append((guess, truth))
    return made


def _slice_dice(guess: np.ndarray, truth: np.ndarray, axis: int) -> np.ndarray:
    """Dice of each slice across an axis, NaN where both are empty."""
    others = tuple(k for k in range(truth.ndim) if k != axis)
    sizes = guess.sum(axis=others) + truth.sum(axis=others)
    both = (guess & truth).sum(axis=others)
    return np.divide(2 * both, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)


def _volume_dice(function: Callable[..., Any]) -> Verdict:
    pairs = _volumes()
    wanted = [metrics.dice(guess, truth) for guess, truth in pairs]
    called = function is metrics.dice

    def watched(*arguments: Any, **named: Any) -> float:
        nonlocal called
        called = True
        return original(*arguments, **named)

    original = metrics.dice
    reason = (
        "a slice with 3 lesion voxels would weigh as much as one with 300, and an empty slice has no Dice. "
        "Count once, over the whole volume."
    )
    try:
        with patch.object(metrics, "dice", watched), np.errstate(all="ignore"):
            values = [function(guess.copy(), truth.copy()) for guess, truth in pairs]
    except ZeroDivisionError:
        return _no(f"It divides by 0, though no volume is empty. If you go slice by slice: {reason}")
    if any(_open(value) for value in values):
        raise _Unanswered
    if called:
        return _no("It calls `metrics.dice`. Count for yourself: what both share, and the two sizes.")
    if any(np.ndim(value) for value in values):
        return _no("It gives several numbers. One number was asked for, counted over the whole volume.")
    given = [float(value) for value in values]

    def same(other: Callable[[np.ndarray, np.ndarray], float]) -> bool:
        return all(abs(g - other(p, t)) < 1e-6 for g, (p, t) in zip(given, pairs, strict=True))

    def mean_over_slices(axis: int, empty: float | None) -> Callable[[np.ndarray, np.ndarray], float]:
        def mean(p: np.ndarray, t: np.ndarray) -> float:
            found = _slice_dice(p, t, axis)
            return float(np.nanmean(found) if empty is None else np.mean(np.nan_to_num(found, nan=empty)))

        return mean

    def mean_over_lesion(axis: int) -> Callable[[np.ndarray, np.ndarray], float]:
        others = tuple(k for k in range(3) if k != axis)
        return lambda p, t: float(_slice_dice(p, t, axis)[t.any(axis=others)].mean())

    if all(abs(g - w) < 1e-6 for g, w in zip(given, wanted, strict=True)):
        return _yes(f"On three volumes it agrees with the study's own function (the last: {wanted[-1]:.3f}).")
    if any(math.isnan(g) for g in given):
        return _no(f"It gives nan: somewhere 0 is divided by 0, as in a mean over slices; {reason}")
    means = [mean_over_slices(axis, empty) for axis in range(3) for empty in (None, 0.0, 1.0)]
    if any(same(mean) for mean in [*means, *map(mean_over_lesion, range(3))]):
        return _no(f"That is a mean over slices: {reason}")
    if same(metrics.iou):
        return _no("That is the IoU: below the line the union, for Dice the sum of both sizes.")
    if same(lambda p, t: float((p == t).mean())):
        return _no(
            "That is the share of equal voxels; it is near 1 for every small lesion, since nearly all is background."
        )
    if same(lambda p, t: metrics.dice(p, t) / 2):
        return _no("Half of what it should be: the shared voxels count twice.")
    if same(lambda p, t: float((p & t).sum() / p.sum())) or same(lambda p, t: float((p & t).sum() / t.sum())):
        return _no("Below the line stands one mask only; Dice has the sizes of both.")
    return _no(f"On the last volume it gives {given[-1]:.3f}. Try it by hand on the two small masks of exercise 2.")


def _freeze(function: Callable[[nn.Module], Any], trainable: Any, lab: Any) -> Verdict:
    network = lab.new_network()
    encoder: Any = network.encoder
    function(network)
    inside = [p.requires_grad for p in encoder.parameters()]
    outside = [p.requires_grad for name, p in network.named_parameters() if not name.startswith("encoder.")]
    if all(inside) and all(outside):
        return _no("Nothing is frozen yet: each parameter of `network.encoder` needs `requires_grad` set to False.")
    if not any(inside) and not any(outside):
        return _no("All of the network is frozen, so nothing can learn. Leave decoder and head alone.")
    if all(inside):
        return _no("The decoder is frozen, and the encoder learns: the other way round.")
    if any(inside):
        return _no(
            f"{sum(inside)} of {len(inside)} tensors of the encoder still learn (BatchNorm has weights too). Freeze all of them."
        )
    if not all(outside):
        return _no("Some tensors outside the encoder are frozen too. Walk over `network.encoder` only.")
    wanted = sum(p.numel() for p in network.parameters() if p.requires_grad)
    total = sum(p.numel() for p in network.parameters())
    if isinstance(trainable, str):
        return _no("The function is right. Give `trainable` as a number, without quotes.")
    given = int(trainable)
    if given == wanted:
        return _yes(f"{wanted:,} of {total:,} numbers learn.")
    if given == total:
        return _no(
            "The function is right. The number is that of all parameters: count those with `requires_grad` only, after freezing."
        )
    if given == total - wanted:
        return _no("The function is right. The number is that of the frozen ones: count those that still learn.")
    if given == sum(p.requires_grad for p in network.parameters()):
        return _no("The function is right. The number counts tensors: use `numel()` for the numbers in each.")
    return _no("The function is right, the number is not: sum `numel()` over the parameters with `requires_grad`.")


def _loaded(answer: Mapping[str, str]) -> Verdict:
    words = ("all", "part", "nothing")
    answer = _named(answer, ("A", "B", "C"))
    for name in ("A", "B", "C"):
        said = str(answer[name]).strip().lower()
        if said not in words:
            return _no(f"{name}: say one of {', '.join(words)}.")
        if _mark(5, f"{name} {said}", True) in MARKS:
            continue
        if said == "all":
            return _no(
                f"{name}: count the tensors that are equal to those of the source. `strict=False` complains about nothing."
            )
        if said == "nothing":
            return _no(f"{name}: some tensors do agree with the source. Count them.")
        return _no(f"{name}: 'part' means that some tensors agree and some do not. Count both.")
    return _yes(
        "One file lacked the first layer; in one no name fitted, so nothing was loaded; one was whole. All three ran without an error: only counting equal tensors tells."
    )


# --------------------------------------------------------------------------------------------------- sources and people
def _difference(answer: Any, scores: Mapping[str, pd.DataFrame], a: str, b: str) -> Verdict:
    if np.size(answer) > 1:
        return _no("That is one mean per seed, or a whole table; `.to_numpy().mean()` gives one number.")
    given = _number(answer)
    d = scores[a].to_numpy() - scores[b].to_numpy()
    wanted = float(d.mean())
    if _near(given, wanted):
        return _yes(
            f"{a} minus {b}: {wanted:+.3f}, from {len(d)} people; person by person {d.mean(axis=1).min():+.3f} to {d.mean(axis=1).max():+.3f}."
        )
    if _near(given, -wanted):
        return _no(f"The sign is turned: {a} minus {b}, so that more than zero means that {a} reached more.")
    if _near(given, float(d[:, 0].mean())):
        return _no("That is one seed only. Average over both seeds: one may have been lucky.")
    if _near(given, float(scores[a].mean().max() - scores[b].mean().max())):
        return _no("That takes the best seed of each source. A best one always looks good: use all seeds.")
    if _two_places(given, wanted):
        return _no("Right to two places; give three.")
    if _near(given / 100, wanted) or _near(given, float(scores[a].to_numpy().mean() / scores[b].to_numpy().mean())):
        return _no("A difference was asked for, in mIoU: no ratio and no percent.")
    if _near(given, float(d.sum())):
        return _no("That is the sum over people. Take the mean.")
    others = [x for x in scores if x not in (a, b)]
    if any(_near(given, float((scores[x].to_numpy() - scores[b].to_numpy()).mean())) for x in others):
        return _no(f"That is another source. Take {a} and {b}.")
    return _no(
        f"Subtract the two tables, person by person and seed by seed, then take the mean of all {d.size} numbers."
    )


def _gains(answer: Mapping[int, float], curve: pd.DataFrame, a: str, b: str) -> Verdict:
    counts = [int(n) for n in curve.index]
    given = {int(n): _number(v) for n, v in dict(answer).items()}
    wanted = {int(n): float(v) for n, v in (curve[a] - curve[b]).items()}  # type: ignore[call-overload]
    if set(given) != set(counts):
        return _no(f"One number for each count of people is asked for: {', '.join(map(str, counts))}.")
    if all(_near(given[n], wanted[n]) for n in counts):
        return _yes(f"Gain by labelled people: {', '.join(f'{n}: {wanted[n]:+.3f}' for n in counts)}.")
    if all(_near(given[n], -wanted[n]) for n in counts):
        return _no(f"The sign is turned: {a} minus {b}.")
    if all(_near(given[n] / 100, wanted[n]) for n in counts):
        return _no("Those are percent. Give shares: 0.012, not 1.2.")
    if all(_near(given[n], wanted[n]) or _two_places(given[n], wanted[n]) for n in counts):
        return _no("Right to two places; give three.")
    if all(_near(given[n], float(curve[a][n] / curve[b][n])) for n in counts):
        return _no("Those are ratios. Take differences in mIoU.")
    for source in (a, b):
        if all(_near(given[n], float(curve[source][n])) for n in counts):
            return _no(
                f"Those are the scores of {source}. The gain is the difference between the two sources at the same count."
            )
        first = float(curve[source][counts[0]])
        if all(_near(given[n], float(curve[source][n]) - first) for n in counts):
            return _no(
                "That is what more people bring to one source. Compare the two sources at the same number of people."
            )
    wrong = next(n for n in counts if not _near(given[n], wanted[n]))
    return _no(f"Look again at {wrong} {'person' if wrong == 1 else 'people'}: subtract the two columns in that row.")


# ------------------------------------------------------------------------------------------------------------- the split
def _split(function: Callable[..., Any]) -> Verdict:
    subjects = np.repeat([f"person-{k}" for k in range(12)], np.arange(3, 15))
    for seed in range(6):
        made = function(subjects.copy(), 0.25, np.random.default_rng(seed))
        if _open(made):
            raise _Unanswered
        if not isinstance(made, Sequence) or len(made) != 2:
            return _no("Return two things: the rows to learn from, then the rows for the test.")
        sides = [np.asarray(rows) for rows in made]
        if any(side.dtype == bool for side in sides):
            return _no("These are marks (True/False); `np.flatnonzero` makes rows of them.")
        if any(side.dtype.kind not in "iuf" for side in sides):
            return _no("Return row numbers, not names: which rows of `subjects` belong to the people drawn?")
        train, test = (side.astype(int) for side in sides)
        if not len(test) or not len(train):
            return _no(
                "One side is empty: with a share of .25, three of twelve people belong to the test. List each person once before you draw: `subjects` names a person once a slice."
            )
        if set(train) & set(test):
            return _no("Some rows are on both sides.")
        both = set(subjects[train]) & set(subjects[test])
        if both:
            return _no(f"{len(both)} of 12 people are on both sides. Draw people, then take all their slices.")
        if len(train) + len(test) != len(subjects):
            return _no(
                f"{len(subjects) - len(train) - len(test)} slices are on neither side. Every slice of a person goes with the person."
            )
        n = len(set(subjects[test]))
        if len(set(subjects[train])) == 3:
            return _no("The two results are swapped: the rows to learn from come first.")
        if n != 3:
            return _no(
                f"{n} of 12 people are in the test; the share .25 is that of people: three. List each person once before you draw: `subjects` names a person once a slice."
            )
        again = np.asarray(function(subjects.copy(), 0.25, np.random.default_rng(seed))[1])
        if not np.array_equal(test, again):
            return _no("The same `rng` gave two splits: draw with `rng.permutation`, not with another generator.")
    first = {tuple(np.asarray(function(subjects, 0.25, np.random.default_rng(s))[1]).tolist()) for s in range(6)}
    if len(first) == 1:
        return _no("The same people are drawn whatever `rng` is. Let `rng` shuffle the people.")
    return _yes("No person is on both sides, and nobody is lost.")


#: A broken split adds at least this much; the labs' adds four times as much.
SEEN_LEAK = 0.1


def _leak(answer: Mapping[str, float], leaky: float, honest: float) -> Verdict:
    if math.isnan(honest):
        return _no("Exercise 9 comes first: without its function nothing was measured by people.")
    leak, expected = (_number(value) for value in _named(answer, ("leak", "expected")).values())

    def near(a: float, b: float) -> bool:  # the cell above prints two places
        return abs(a - b) <= 6e-3

    if 1 < max(leak, expected) <= 100 and not near(leak, leaky / honest):
        return _no("Give shares between 0 and 1, no percent.")
    if abs(expected - 0.5) > 1e-9:
        if near(expected, honest):
            return _no(
                "'expected' is not what came out by people, but what must come out in the long run where nothing can be learned: labels were drawn by lot."
            )
        return _no(
            "'expected': the labels were drawn by lot, as many of each. How often does one guess right which of two it was?"
        )
    if leaky - honest < SEEN_LEAK:
        return _no(
            "Both splits come out alike, so no leak was measured: is the function of exercise 9 right, and does its check say so?"
        )
    if near(leak, leaky - honest) or near(leak, round(leaky, 2) - round(honest, 2)):
        return _yes(f"By slices {leaky:.2f}, by people {honest:.2f}: {leaky - honest:+.2f} from nothing but the split.")
    if near(leak, honest - leaky):
        return _no("The sign is turned: what the leak adds is 'by slices' minus 'by people'.")
    if near(leak, leaky):
        return _no(
            "That is the whole accuracy by slices. Part of it comes from guessing: subtract what came out by people."
        )
    if near(leak, leaky / honest):
        return _no("That is a ratio. Give the difference.")
    return _no("Subtract the accuracy by people from the accuracy by slices.")


# ------------------------------------------------------------------------------------------------------------- detection
def _detected(answer: Mapping[str, float], found: metrics.LesionDetection) -> Verdict:
    given = {name: _number(value) for name, value in _named(answer, ("sensitivity", "precision", "f1")).items()}
    wanted = {"sensitivity": found.sensitivity, "precision": found.precision, "f1": found.f1}
    near = {name: abs(given[name] - wanted[name]) < 6e-3 for name in wanted}
    if all(near.values()):
        return _yes(
            f"{found.n_detected} of {found.n_truth} lesions found, {found.n_true_pred} of {found.n_pred} marks true: F1 {found.f1:.2f}."
        )
    if any(v > 1 for v in given.values()):
        return _no("All three are shares between 0 and 1, not counts.")
    if abs(given["sensitivity"] - found.precision) < 6e-3 and abs(given["precision"] - found.sensitivity) < 6e-3:
        return _no(
            "Sensitivity and precision are swapped: sensitivity is of the lesions that are there, precision of the marks that were made."
        )
    if not near["sensitivity"]:
        if abs(given["sensitivity"] - found.n_detected / found.n_pred) < 6e-3:
            return _no("Sensitivity: below the line stand the lesions that are there, not the marks.")
        return _no(
            "Sensitivity: lesions found by the rule, of all lesions in the reference. Look for touching that is too little."
        )
    if not near["precision"]:
        if abs(given["precision"] - found.n_true_pred / found.n_truth) < 6e-3:
            return _no("Precision: below the line stand the marks that were made, not the lesions.")
        return _no("Precision: marks that are true by the rule, of all marks. A mark in the empty is false.")
    if abs(given["f1"] - (found.sensitivity + found.precision) / 2) < 6e-3:
        return _no("F1 is not the plain mean of the two, but their harmonic mean: 2 s p / (s + p).")
    return _no("F1: 2 s p / (s + p), with your sensitivity s and precision p.")


def _rule(answer: Mapping[str, Any], guess: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> Verdict:
    at = {o: metrics.detect_lesions(guess, truth, tuple(spacing), overlap=o) for o in (1e-9, 0.5)}
    answer = _named(answer, ("lenient", "strict", "dice moves"))
    lenient, strict, moves = _number(answer["lenient"]), _number(answer["strict"]), answer["dice moves"]
    if _near(lenient, at[0.5].f1) and _near(strict, at[1e-9].f1) and not _near(lenient, strict):
        return _no("The two are swapped: the lenient rule asks for one voxel, the strict one for half.")
    for name, given, overlap in (("lenient", lenient, 1e-9), ("strict", strict, 0.5)):
        if not _near(given, at[overlap].f1):
            if _near(given, at[overlap].sensitivity) or _near(given, at[overlap].precision):
                return _no(f"{name}: that is sensitivity or precision. F1 was asked for: the attribute `f1`.")
            if _two_places(given, at[overlap].f1):
                return _no(f"{name}: right to two places; give three.")
            return _no(
                f"{name}: call `metrics.detect_lesions(marks, reference, spacing, overlap=...)` with the overlap of the question and take `.f1`."
            )
    if not isinstance(moves, bool):
        return _no("'dice moves' is True or False.")
    if moves:
        return _no("'dice moves': look at the call of `dice`. Does it know of an overlap rule? Did a voxel change?")
    return _yes(
        f"F1 {at[1e-9].f1:.2f} and {at[0.5].f1:.2f} on the same masks, whose Dice is {metrics.dice(guess, truth):.2f} under both rules."
    )


# ------------------------------------------------------------------------------------------------------------- intervals
def _readings(answer: Mapping[str, str]) -> Verdict:
    words = ("higher", "lower", "similar", "cannot tell")
    why = {
        "p": "where does the whole interval lie, with respect to zero?",
        "q": "it holds zero. Does it also stay within the margin? If it reaches far beyond, both 'better' and 'worse' are possible.",
        "r": "it holds zero, and it is narrow. Compare both ends with the margin.",
        "s": "does any value in it lie above zero?",
    }
    answer = _named(answer, tuple(why))
    for name, hint in why.items():
        said = str(answer[name]).strip().lower()
        if said not in words:
            return _no(f"{name}: say one of {', '.join(words)}.")
        if _mark(13, f"{name} {said}", True) not in MARKS:
            return _no(f"{name}: {hint}")
    return _yes("'No evidence for a difference' and 'similar' are two things: the second needs a narrow interval.")


def _interval(answer: Any, d: Any) -> Verdict:
    first, second, third = _parts(answer, 3)
    lower, upper, more = _number(first), _number(second), str(third).strip().lower()
    table = np.asarray(d, float)
    wanted = mean_interval(table)
    flat, means = table.ravel(), table.mean(axis=1)

    def t_interval(values: np.ndarray) -> tuple[float, float]:
        half = special.stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values))
        return values.mean() - half, values.mean() + half

    def is_it(low: float, high: float) -> bool:
        return _near(lower, low) and _near(upper, high)

    if lower > upper:
        return _no("The lower end stands first.")
    if not is_it(wanted.lower, wanted.upper):
        if all(_near(g, w) or _two_places(g, w) for g, w in ((lower, wanted.lower), (upper, wanted.upper))):
            return _no("Right to two places; give three.")
        if is_it(-wanted.upper, -wanted.lower):
            return _no("The sign is turned: A minus B, as in the question.")
        if is_it(*t_interval(flat)):
            return _no("That takes each cell as another person. Two seeds of one person share the person.")
        if is_it(*t_interval(means)) or is_it(*bootstrap_interval(table)[1:]):
            return _no(
                "That is an interval over people with these very seeds. Other seeds would give another mean: use `mean_interval`."
            )
        if is_it(*t_interval(table[:, 0])):
            return _no("That is one seed only.")
        spread = 1.96 * means.std(ddof=1)
        if (
            is_it(means.mean() - spread, means.mean() + spread)
            or is_it(flat.min(), flat.max())
            or is_it(means.min(), means.max())
        ):
            return _no("That is how far people are spread, not how sure the mean is.")
        if is_it(wanted.estimate - wanted.standard_error, wanted.estimate + wanted.standard_error):
            return _no("That is plus and minus one standard error; a 95 % interval is wider.")
        return _no("Call `mean_interval` on the table of differences (people x seeds) and take `.lower` and `.upper`.")
    if more not in ("people", "seeds"):
        return _no("The third part is one word: people or seeds.")
    if _mark(14, more, True) not in MARKS:
        return _no(
            "The interval is right. For the word: compare how far the two columns' means lie apart with the interval over people, and look at `.df`."
        )
    return _yes(
        f"{wanted.estimate:+.3f} ({wanted.lower:+.3f} to {wanted.upper:+.3f}), df {wanted.df:.1f}; over people alone it would be {t_interval(means)[0]:+.3f} to {t_interval(means)[1]:+.3f}."
    )


def _claim(answer: Mapping[str, Any], contrast: Mapping[str, Any]) -> Verdict:
    answer = _named(answer, ("lower", "upper", "holds zero", "failed gates", "verdict"))
    lower, upper = _number(answer["lower"]), _number(answer["upper"])
    if not (_near(lower, contrast["lower"]) and _near(upper, contrast["upper"])):
        if _near(lower, -contrast["upper"]):
            return _no("The sign is turned: in the file, estimate = A minus B.")
        if all(_near(g, contrast[w]) or _two_places(g, contrast[w]) for g, w in ((lower, "lower"), (upper, "upper"))):
            return _no("The interval is right to two places; give three.")
        return _no("The interval is not that of the contrast in the question: check claim, target and B.")
    zero = contrast["lower"] <= 0 <= contrast["upper"]
    if not isinstance(answer["holds zero"], bool | np.bool_):
        raise _Form("'holds zero' is True or False, without quotes.")
    if bool(answer["holds zero"]) != zero:
        return _no("'holds zero': is zero between the lower and the upper end?")
    failed = {name for name, gate in contrast["gates"].items() if not gate["passed"]}
    if isinstance(answer["failed gates"], str | Mapping) or not isinstance(answer["failed gates"], Iterable):
        raise _Form("'failed gates' is a set of names, each in quotes of its own.")
    given = {str(name).strip() for name in answer["failed gates"]}
    strange = sorted(given - set(contrast["gates"]))
    if strange:
        return _no(f"'failed gates': the file has no gate {strange[0]!r}. Take the names as they stand there.")
    if given == set(contrast["gates"]):
        return _no("'failed gates': not all of them failed. Look at 'passed' of each.")
    if given == set(contrast["gates"]) - failed:
        return _no("'failed gates' lists those that were passed: take those where 'passed' is False.")
    if given != failed:
        return _no("'failed gates': look at 'passed' of each gate once more, and take those where it is False.")
    if str(answer["verdict"]).strip().lower() != contrast["verdict"]:
        return _no(
            "'verdict': what the file says. A gate that failed has more weight than an interval, however clear it looks."
        )
    return _yes(
        f"{contrast['estimate']:+.3f} ({contrast['lower']:+.3f} to {contrast['upper']:+.3f}), {len(failed)} failed gates: {contrast['verdict']}."
    )


def _plan(answer: Mapping[str, str]) -> Verdict:
    need = {
        "hypothesis": (6, "one sentence that could turn out wrong"),
        "comparison": (3, "what is compared with what; name two things"),
        "metric": (1, "one metric, fixed beforehand"),
        "margin": (
            1,
            "a number above 0, and below 1 where the metric is a share: how little still counts as similar, and why",
        ),
        "people": (1, "a whole number of test people, two or more"),
        "seeds": (1, "a whole number of seeds, one or more"),
        "refuted if": (4, "the result that would show you wrong"),
    }
    answer = _named(answer, tuple(need))
    said = {name: str(answer[name]).strip() for name in need}
    for name, (words, what) in need.items():
        if len(said[name].split()) < words:
            return _no(f"'{name}': {what}.")
    shares = ("dice", "iou", "f1", "sensitivity", "precision", "surface", "brier", "calibration")
    counts = ("false positive", "fp", "hd95", "volume error")  # a scan, in mm, in mL
    known = (*shares, *counts)
    metric = re.sub(r"\(.*?\)", "", said["metric"].lower())
    if not any(word in metric for word in known):
        return _no("'metric': name one of the book's metrics, such as Dice or lesion F1.")
    below = 1.0 if any(word in metric for word in shares) else math.inf
    found = {name: [float(n) for n in re.findall(r"-?\d*\.?\d+", said[name])] for name in ("margin", "people", "seeds")}
    if not any(0 < n < below for n in found["margin"]):
        return _no(f"'margin': {need['margin'][1]}.")
    for name, lowest in (("people", 2), ("seeds", 1)):
        if not found[name] or not found[name][0].is_integer() or found[name][0] < lowest:
            return _no(f"'{name}': {need[name][1]}.")
    several = re.split(r",|;|/| and | or |\+", metric)
    if sum(any(word in part for word in known) for part in several) > 1:
        return _no("'metric': one metric, fixed beforehand. With several, the one that pleases is chosen afterwards.")
    if not any(
        word in f" {said['comparison'].lower()} "
        for word in (" and ", " with ", " than ", " versus ", " vs ", " vs. ", " minus ", " against ", " from ")
    ):
        return _no("'comparison': say what is compared with what.")
    if found["seeds"][0] == 1:
        return _no("'seeds': with one seed nobody can tell the source from luck.")
    if said["refuted if"].lower() == said["hypothesis"].lower():
        return _no("'refuted if' repeats the hypothesis. Say which result would show it wrong.")
    return _yes("The form is complete. Whether the question is good, your teacher judges by the grading sheet.")


JUDGES: dict[int, Callable[..., Verdict]] = {
    1: partial(_choice, 1),
    2: _by_hand,
    3: _volume_dice,
    4: _freeze,
    5: _loaded,
    6: _difference,
    7: _gains,
    8: partial(_choice, 8),
    9: _split,
    10: _leak,
    11: _detected,
    12: _rule,
    13: _readings,
    14: _interval,
    15: partial(_choice, 15),
    16: _claim,
    17: partial(_choice, 17),
    18: _plan,
}
