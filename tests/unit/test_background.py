"""Promises of the background chapter's pictures: each shows the numbers that its caption says."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex, to_rgb
from scipy import ndimage

from braintransfer.figures import background
from braintransfer.figures.base import FALSE, HIT, MISSED, Drawing


def pieces(mask: np.ndarray) -> int:
    return int(ndimage.label(mask, np.ones((3, 3)))[1])


def coloured(picture: np.ndarray, colour: str) -> np.ndarray:
    found: np.ndarray = np.isclose(picture, to_rgb(colour), atol=1e-6).all(axis=-1)
    return found


def shown(drawing: Drawing, panel: int) -> np.ndarray:
    """The picture in one panel, (H, W, 3)."""
    picture: np.ndarray = np.asarray(drawing.figure.axes[panel].images[0].get_array())
    return picture


@pytest.fixture(scope="module")
def learning() -> Drawing:
    return background.learning_figure()


def test_the_dice_of_each_brain_is_that_of_its_coloured_pixels(learning: Drawing) -> None:
    canvas = shown(learning, 0)
    redder = canvas[..., 0] - canvas[..., 2]  # grey pixels: 0; overlaid ones: .65 of what their colour has
    count = {c: np.isclose(redder, 0.65 * (to_rgb(c)[0] - to_rgb(c)[2]), atol=1e-6) for c in (HIT, FALSE, MISSED)}
    for row in range(2):
        for column in range(2, 5):
            part = tuple(
                slice(k * n // m, (k + 1) * n // m)
                for k, n, m in zip((row, column), canvas.shape, (2, 5), strict=False)
            )
            hit, false, missed = (int(count[c][part].sum()) for c in (HIT, FALSE, MISSED))
            dice = f"{2 * hit / (2 * hit + false + missed):.2f}"
            assert dice == re.findall(r"(\d\.\d\d)", learning.caption)[3 * row + column - 2]


def test_the_new_person_is_no_harder_than_the_first_as_the_text_says(learning: Drawing) -> None:
    dices = [float(d) for d in re.findall(r"(\d\.\d\d)", learning.caption)]
    assert dices[2] > dices[0] + 0.2 and abs(dices[5] - dices[2]) < 0.05


def test_the_discs_have_the_dice_and_iou_that_stand_above_them() -> None:
    drawing = background.dice_figure()
    for panel, aim in enumerate((0.5, 0.7, 0.9)):
        hit, false, missed = (int(coloured(shown(drawing, panel), c).sum()) for c in (HIT, FALSE, MISSED))
        dice, iou = 2 * hit / (2 * hit + false + missed), hit / (hit + false + missed)
        assert abs(dice - aim) < 0.005 and f"{dice:.2f} ({iou:.2f})" in drawing.caption
        assert drawing.figure.axes[panel].get_title(loc="left") == f"Dice {dice:.2f}, IoU {iou:.2f}"


def test_a_rim_costs_a_small_lesion_what_the_text_says() -> None:
    large, small = (2 * n**2 / (n**2 + (n + 2) ** 2) for n in (40, 2))
    assert f"{1 - large:.2f} {1 - small:.2f}" == "0.05 0.60"


def test_each_rule_colours_the_lesions_that_it_counts() -> None:
    truth, guess = background.lesion_masks()
    drawing = background.rules_figure()
    for panel, (overlap, _) in enumerate(background.RULES):
        count = background.detection(guess, truth, overlap)
        found, true = background.matched(guess, truth, overlap)
        assert (pieces(found), pieces(true)) == (count.n_detected, count.n_true_pred)
        assert pieces(coloured(shown(drawing, panel), HIT)) == count.n_detected
        assert pieces(coloured(shown(drawing, panel), MISSED)) == count.n_truth - count.n_detected
        assert f"{count.n_detected} of {count.n_truth} found, F1 {count.f1:.2f}" in drawing.caption


def test_a_higher_threshold_trades_sensitivity_for_precision() -> None:
    drawing = background.threshold_figure()
    found = [pieces(coloured(shown(drawing, panel), HIT)) for panel in range(3)]
    missed = [pieces(coloured(shown(drawing, panel), MISSED)) for panel in range(3)]
    said = re.findall(
        r"(\d) of 8 lesions are found \(sensitivity (\S+)\) and (\d) of (\d) marks are true \(precision (\S+)\)",
        drawing.caption,
    )
    assert [int(s[0]) for s in said] == found and [8 - f for f in found] == missed
    assert all(f"{int(s[0]) / 8:.2f} {int(s[2]) / int(s[3]):.2f}" == f"{s[1]} {s[4]}" for s in said)
    assert sorted(found, reverse=True) == found and sorted(s[4] for s in said) == [s[4] for s in said]


def test_the_errors_are_those_of_the_drawn_curves_and_the_related_source_has_the_least() -> None:
    drawing = background.starts_figure()
    errors = {}
    for axis, name in zip(drawing.figure.axes, background.starts(), strict=True):
        truth, _, after, _ = (np.asarray(line.get_ydata()) for line in axis.get_lines())
        errors[name] = float(np.sqrt(np.mean((after - truth) ** 2)))
        assert f"{errors[name]:.2f} ({name})" in drawing.caption
    assert errors["related source"] < errors["no pre-training"] < errors["unrelated source"]


def test_new_people_lie_outside_as_often_as_the_dots_and_the_formula_say() -> None:
    drawing = background.few_figure()
    dots = [line for line in drawing.figure.axes[0].get_lines() if line.get_marker() == "o"]
    for dot in dots:
        n, share = int(np.asarray(dot.get_xdata())[0]), float(np.asarray(dot.get_ydata())[0])
        assert f"{share:.0f} % after {n}" in drawing.caption and abs(share - 200 / (n + 1)) < 4


def test_a_split_by_slices_puts_everyone_on_both_sides() -> None:
    drawing = background.split_figure()
    sides = []
    for axis in drawing.figure.axes[:2]:
        mesh = next(c for c in axis.collections if isinstance(c, QuadMesh))
        test = np.asarray(mesh.get_array()).reshape(6, 20) > 0
        sides.append(int((test.any(axis=1) & ~test.all(axis=1)).sum()))
    near, far = (float(axis.get_title(loc="left").rpartition(" ")[2]) for axis in drawing.figure.axes[:2])
    assert sides == [6, 0] and near > far
    assert f"by slices, {sides[0]} of 6 people" in drawing.caption and f"{near:.2f}" in drawing.caption


def test_likeness_is_the_correlation_of_two_pictures() -> None:
    a, b = np.random.default_rng(0).random((2, 3, 5, 4))
    assert background.likeness(a, b)[1, 2] == pytest.approx(np.corrcoef(a[1].ravel(), b[2].ravel())[0, 1])


def test_slices_counted_as_people_make_an_interval_that_is_too_short() -> None:
    drawing = background.people_figure()
    held = re.search(r"truth in (\d+) %, the second in (\d+) %", drawing.caption)
    assert held is not None and int(held[1]) < 60 and abs(int(held[2]) - 95) <= 1
    drawn = [line for line in drawing.figure.axes[0].get_lines() if line.get_linewidth() == 3]
    for line in drawn:
        low, high = (float(x) for x in np.asarray(line.get_xdata()))
        assert f"{low:.2f} to {high:.2f}" in drawing.caption
    assert len(drawn) == 2


def test_the_intervals_that_miss_are_the_marked_ones_and_as_many_as_the_caption_says() -> None:
    drawing = background.interval_figure()
    lines = drawing.figure.axes[0].get_lines()
    bars = [(line, np.asarray(line.get_ydata(), float)) for line in lines if line.get_linewidth() > 1.4]
    bars = [(line, ends) for line, ends in bars if len(ends) == 2]
    missing = [line for line, ends in bars if not ends.min() <= background.TRUTH <= ends.max()]
    assert len(bars) == 100 and all(to_hex(str(line.get_color())) == FALSE for line in missing)
    assert f"{100 - len(missing)} intervals hold it, {len(missing)} " in drawing.caption


@pytest.mark.parametrize(
    "name", [n for n in background.DRAWINGS if n not in ("background_learning", "background_tasks", "background_split")]
)
def test_the_alternative_text_says_no_number_that_the_caption_does_not(name: str) -> None:
    drawing = background.DRAWINGS[name]()
    assert set(re.findall(r"\d+\.\d\d", drawing.alt)) <= set(re.findall(r"\d+\.\d\d", drawing.caption))
    assert len(drawing.alt) > 40
