"""Promises of the figures: every person is drawn, captions can be read alone, colours stay apart."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from PIL import Image

from braintransfer import figures, study, tables

KINDS = {"stroke": "semi-synthetic", "ms": "simulated", "anatomy": "real"}


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    """Made-up results: every source and target, 5 people, 2 seeds."""
    rng = np.random.default_rng(0)
    rows = []
    for source, target, person, seed in itertools.product(study.SOURCES, study.TARGETS, range(5), range(2)):
        domain, task = study.domain_task(source)
        size = {"scratch": 0, "imagenet": study.IMAGENET_IMAGES}.get(source, 100)
        key = {
            "profile": "made-up",
            "arm": "main",
            "encoder": "none",
            "source": source,
            "domain": domain,
            "task": task,
            "target": target,
            "subject": f"p{person}",
            "fold": 0,
            "seed": seed,
            "n_train": 4,
            "n_source": size,
            "class": "",
        }
        metrics = ["dice", "miou", *(["lesion_sensitivity", "fp_per_scan"] if target in study.DETECTED else [])]
        rows += [{**key, "metric": metric, "value": person / 5 + rng.uniform(0, 0.1)} for metric in metrics]
    return pd.DataFrame(rows)[list(study.RESULT_COLUMNS)]


def test_every_person_is_a_point(results: pd.DataFrame) -> None:
    drawing = figures.accuracy_figure(results, "stroke", KINDS)
    dots = [c for c in drawing.figure.axes[0].collections if isinstance(c, PathCollection)]
    assert sum(len(np.asarray(c.get_offsets())) for c in dots) == len(study.SOURCES) * 5


def test_a_size_that_one_source_has_alone_stands_at_its_number(results: pd.DataFrame) -> None:
    fewer = results[results["source"] == "mri-segmentation"].assign(arm="size_0.25", n_source=25)
    drawing = figures.samples_figure(pd.concat([results, fewer]), KINDS)
    marks = {x for line in drawing.figure.axes[0].lines for x in np.unique(line.get_xdata())}
    assert {25, study.IMAGENET_IMAGES} <= marks and len([x for x in marks if 60 < x < 160]) == len(
        study.PRETRAINED_HERE
    )
    assert "A line joins the sizes of one source" in drawing.caption
    assert "A line joins" not in figures.samples_figure(results, KINDS).caption


def test_a_caption_can_be_read_alone(results: pd.DataFrame) -> None:
    for target, words in (("stroke", "Semi-synthetic"), ("ms", "Simulated"), ("anatomy", "Real scans")):
        caption = figures.accuracy_figure(results, target, KINDS).caption
        assert words in caption and "5 people tested, 2 seeds" in caption and "95 % interval" in caption


def test_the_alternative_text_holds_the_numbers(results: pd.DataFrame) -> None:
    row = tables.summarise(results, ["dice"], targets=["ms"]).set_index("source").loc["mri-segmentation"]
    said = tables.with_interval(row["mean"], row["lower"], row["upper"])
    assert f"MRI · segmentation {said}" in figures.accuracy_figure(results, "ms", KINDS).alt
    assert said in figures.overview_figure(results, KINDS).alt


def test_the_first_pages_picture_explains_its_own_words(results: pd.DataFrame) -> None:
    """What the book explains only later is said in the caption: sources, tasks, scores, seeds, interval, lines."""
    rows = [{"target": t, "baseline": "ceiling", "subject": "p", "metric": study.HEADLINE[t], "class": "", "value": 0.9}
            for t in study.TARGETS]  # fmt: skip
    caption = figures.overview_figure(results, KINDS, tables.baselines_table(pd.DataFrame(rows))).caption
    for word, meaning in (
        ("random weights", "starting from different sources"), ("classification", "name what a picture shows"),
        ("segmentation", "outline it"), ("self-supervised", "restore damaged pictures"), ("Dice", "1 where both are equal"),
        ("seeds", "repetitions with other random numbers"), ("95 % interval", "hold the true mean in 95 of 100"),
        ("dashed", "the best score that the grid"),
    ):  # fmt: skip
        assert word in caption and meaning in caption, word
    assert "ceiling" not in caption and "prior map" not in caption and "fine-tuning" not in caption


RAW = ("mri-", "natural-", "selfsupervised", "imagenet", "claim1", "_", "@")


def test_no_raw_name_stands_in_a_figure_of_the_claims(results: pd.DataFrame) -> None:
    contrast = {"claim": "claim1", "target": "ms", "A": "mri-segmentation@size_0.1", "B": "imagenet",
                "estimate": 0.1, "lower": 0.0, "upper": 0.2, "margin": 0.05, "n_subjects": 9, "n_seeds": 2}  # fmt: skip
    drawing = figures.claims_figure([contrast], KINDS)
    assert "MS lesions: 9 people tested, 2 seeds" in drawing.caption
    labels = [t.get_text() for t in drawing.figure.axes[0].get_yticklabels()]
    labels.append(drawing.figure.axes[0].get_title(loc="left"))
    assert labels == ["ImageNet", "Claim 1, MS lesions: MRI · segm., 10 % minus"]
    choices = pd.DataFrame(
        [
            {
                "claim": "claim1",
                "target": t,
                "scoring": "as planned",
                "gates": "kept",
                "verdict": "inconclusive",
                "planned": True,
            }
            for t in ("all", "ms")
        ]
    )
    labels += [t.get_text() for t in figures.robustness_figure(choices, KINDS).figure.axes[0].get_yticklabels()]
    assert labels[2:] == ["claim 1, all targets", "claim 1, MS lesions"]
    assert not [label for label in labels if any(raw in label for raw in RAW)]


def test_every_source_has_its_own_colour_and_its_domains_hue() -> None:
    assert set(figures.COLOURS) == set(study.SOURCES)
    for source, colour in figures.COLOURS.items():
        red, _, blue = to_rgb(colour)
        assert {"natural": red > blue, "mri": blue > red}.get(study.domain_task(source)[0], red == blue)


def test_domains_stay_apart_for_the_colour_blind() -> None:
    # Viénot 1999, linear RGB: protanopia and deuteranopia
    for matrix in (
        [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    ):
        seen = {
            s: np.clip(np.array(matrix) @ np.array(to_rgb(c)) ** 2.2, 0, 1) ** (1 / 2.2)
            for s, c in figures.COLOURS.items()
        }
        for a, b in itertools.combinations(study.PRETRAINED_HERE, 2):
            if study.domain_task(a)[0] != study.domain_task(b)[0]:
                assert np.abs(seen[a] - seen[b]).max() > 0.15, (a, b)


def test_equal_figures_are_equal_bytes(results: pd.DataFrame) -> None:
    first, second = (figures.accuracy_figure(results, "ms", KINDS).svg() for _ in range(2))
    assert first == second


def test_examples_are_chosen_by_rule(results: pd.DataFrame) -> None:
    people = [f"p{k}" for k in range(5)]
    assert figures.choose_examples(results, "stroke", people) == {"good": "p4", "median": "p2", "bad": "p0"}
    assert figures.choose_examples(results, "stroke", ["p1"]) == {"good": "p1"}
    assert figures.choose_examples(results, "stroke", []) == {}


def test_a_missed_a_false_and_a_found_pixel_look_different() -> None:
    image = np.full((2, 2), 100, np.uint8)
    picture = figures.overlay(image, np.array([[1, 1], [0, 0]]), np.array([[1, 0], [1, 0]]), ("lesion",))
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3).round(3)}) == 4


def test_a_figure_in_a_notebook_carries_its_alternative_text() -> None:
    data, metadata = figures.overlap_figure()._repr_mimebundle_()
    assert "Dice 0.375" in metadata["image/png"]["alt"] and data["image/png"].startswith("iVBOR")


def test_all_figures_of_a_run_are_drawn_from_its_files(tmp_path: Path, results: pd.DataFrame) -> None:
    run = tmp_path / "run"
    run.mkdir()
    results.to_csv(run / "results.csv", index=False)
    cell = run / "targets" / "main" / "ms" / "scratch" / "fold-0" / "seed-0"
    cell.mkdir(parents=True)
    pd.DataFrame({"step": [0, 1, 2], "loss": [3.0, 2.0, 1.0]}).to_csv(cell / "history.csv", index=False)
    pictures = np.zeros((2, 16, 12), np.uint8)
    np.savez(
        cell / "examples.npz",
        subjects=np.array(["p0", "p3"]),
        images=pictures,
        references=pictures,
        predictions=pictures,
    )
    contrast = {
        "claim": "claim1",
        "target": "ms",
        "A": "mri-segmentation",
        "B": "imagenet",
        "estimate": 0.1,
        "lower": 0.0,
        "upper": 0.2,
        "margin": 0.05,
        "n_subjects": 4,
        "n_seeds": 2,
    }
    (run / "compare").mkdir()
    (run / "compare" / "claims.json").write_text(json.dumps([contrast, {**contrast, "estimate": None}]))
    names = figures.write_figures(run, tmp_path / "out", KINDS)
    expected = {
        "overview",
        "accuracy_stroke",
        "accuracy_ms",
        "accuracy_anatomy",
        "detection_stroke",
        "detection_ms",
        "samples",
        "claims",
        "curves_finetune",
        "examples_ms_good",
        "examples_ms_median",
    }
    assert set(names) == expected
    for name in names:
        assert (tmp_path / "out" / f"{name}.svg").stat().st_size and (tmp_path / "out" / f"{name}.png").stat().st_size
        words = json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8"))
        assert words["caption"] and words["alt"]


def test_the_numbers_that_a_figure_draws_can_be_taken_away(results: pd.DataFrame, tmp_path: Path) -> None:
    """One row a mark: each person's mean over seeds, then the mean over people with the limits of its interval."""
    drawing = figures.accuracy_figure(results, "ms", KINDS)
    figures.save(drawing, tmp_path, "accuracy_ms")
    drawn = pd.read_csv(tmp_path / "accuracy_ms.csv").set_index(["source", "drawn"])
    people = drawn.loc[("imagenet", "person")]
    cell = results[(results["source"] == "imagenet") & (results["target"] == "ms") & (results["metric"] == "dice")]
    own = cell.groupby("subject")["value"].mean()
    assert people["subject"].tolist() == own.index.tolist() and np.allclose(people["value"], own, rtol=1e-5)
    row = tables.summarise(results, ["dice"], targets=["ms"]).set_index("source").loc["imagenet"]
    mean = drawn.loc[[("imagenet", "mean")]].iloc[0]
    assert np.allclose(
        mean[["value", "lower", "upper"]].astype(float), row[["mean", "lower", "upper"]].astype(float), rtol=1e-4
    )


def test_an_axis_ends_where_scores_do_and_the_caption_says_what_is_cut(results: pd.DataFrame) -> None:
    far = results.assign(value=np.where(results["seed"] == 0, results["value"], 0.0))
    for drawing in (figures.accuracy_figure(far, "ms", KINDS), figures.detection_figure(far, "ms", KINDS)):
        low, high = drawing.figure.axes[0].get_xlim()
        assert low >= -0.03 and high <= 1.03 and "Bars are cut" in drawing.caption
    assert figures.detection_figure(far, "ms", KINDS).figure.axes[1].get_xlim()[0] > -0.2
    steady = results.assign(value=0.5 + results["value"] / 10)
    assert "Bars are cut" not in figures.accuracy_figure(steady, "ms", KINDS).caption


def test_a_task_that_no_source_was_trained_on_has_no_empty_panel() -> None:
    steps = [
        {"stage": "pretrain", "source": f"{domain}-{task}", "target": "", "seed": 0, "step": k, "loss": 1 / (k + 1)}
        for domain in study.DOMAINS
        for task in ("classification", "segmentation")
        for k in range(4)
    ]
    drawing = figures.learning_curves_figure(pd.DataFrame(steps), "pretrain", KINDS)
    assert [axis.get_title(loc="left") for axis in drawing.figure.axes] == ["classification", "segmentation"]
    assert all(axis.lines for axis in drawing.figure.axes)


def test_a_person_fills_the_picture() -> None:
    image, reference = np.zeros((2, 40, 60), np.uint8)
    image[10:30, 20:40], reference[5, 30] = 200, 1
    found = {"scratch": {"p": (image, reference, reference)}}
    drawing = figures.examples_figure(found, "ms", "p", {"scratch": 0.5}, "why", "real")
    (shown,) = drawing.figure.axes[0].get_images()
    width = np.asarray(shown.get_array()).shape[1]
    assert width < 4 * (20 + 2 * 3 + 3), "the black around the head is cut away, but no lesion is"


def test_a_picture_made_small_keeps_the_colours_of_its_legend() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 255, (70, 60)).astype(np.uint8)
    labels = rng.choice(4, (70, 60), p=[0.1, 0.02, 0.44, 0.44]).astype(np.uint8)
    drawing = figures.examples_figure({"scratch": {"p": (image, labels, labels)}}, "anatomy", "p", {}, "why", "real")
    picture = np.asarray(Image.open(io.BytesIO(drawing.png())).convert("RGB")).astype(int)
    for colour in ("#56b4e9", "#e69f00", "#009e73"):
        off = np.abs(picture[-60:] - np.round(255 * np.array(to_rgb(colour)))).max(axis=2)
        assert off.min() <= 10, "a colour of the legend is no longer the one that was asked for"


def test_a_simulated_run_shows_illustrations_and_no_verdicts() -> None:
    verdicts = ["illustration: the rule would say supported", "illustration: the rule would say inconclusive"]
    choices = pd.DataFrame(
        {"claim": "claim1", "target": "all", "scoring": ["as planned", "all people pooled"], "gates": "kept",
         "verdict": verdicts, "planned": [True, False]}
    )  # fmt: skip
    drawing = figures.robustness_figure(choices, KINDS)
    assert drawing.figure.get_suptitle() == "Illustration, not a verdict"
    assert "share of 2 ways to judge" in drawing.caption and "one sum over all people" in drawing.caption
    assert "supported 50%, inconclusive 50%" in drawing.alt
