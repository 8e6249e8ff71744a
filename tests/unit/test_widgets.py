"""Sliders for JupyterLab: every control changes what is drawn, and what is drawn is the run's own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import SHOWN, a_project, a_run
from PIL import Image

from braintransfer import overlaps as counting
from braintransfer import tables, widgets
from braintransfer.errors import BadInput


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A made-up run with one scan and three networks that learned nothing."""
    root = a_project(tmp_path_factory.mktemp("project"))
    (root / "_build").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield widgets.FinishedRun(a_run(root))


def controls(panel: Any) -> dict[str, Any]:
    return {control.description: control for control in panel.children[0].children}


def moves(panel: Any, name: str, value: Any) -> bool:
    """Whether giving a control another value draws another picture; checks that going back draws the first one again."""
    control, picture = controls(panel)[name], panel.children[1]
    before, first = bytes(picture.value), control.value
    assert before.startswith(b"\x89PNG")
    control.value = value
    after = bytes(picture.value)
    control.value = first
    assert bytes(picture.value) == before
    return bool(after != before)


def test_a_person_is_followed_through_all_sources(run: widgets.FinishedRun) -> None:
    panel = widgets.ranking(run)
    assert moves(panel, "metric", "miou") and moves(panel, "person", "made-up-2")
    controls(panel)["person"].value = "made-up-2"
    for source in SHOWN:
        mean = tables.subject_by_seed(run.results, source, "stroke", "dice").mean(axis=1)["made-up-2"]
        assert f"{tables.SOURCE_TITLES[source]} {tables.number(float(mean))}" in panel.children[2].value
    controls(panel)["target"].value = "anatomy"
    assert controls(panel)["person"].value == "" and "lesion_f1" not in dict(controls(panel)["metric"].options).values()


def test_every_layer_of_a_scan_can_be_moved_and_switched(run: widgets.FinishedRun) -> None:
    panel = widgets.slices(run)
    place = controls(panel)["slice"].value
    assert moves(panel, "slice", place + 1)
    assert moves(panel, "reference", False)
    assert moves(panel, "source A", "") and moves(panel, "source B", "")


def test_the_picture_is_the_slice_of_the_scan(run: widgets.FinishedRun) -> None:
    """Without outlines it shows the very slice that the book shows: the brightest place is where the volume has it."""
    (scan,) = run.scans
    x, y, z = scan.centre
    drawing = widgets.slice_figure(scan, z, reference=False)
    shown = np.asarray(drawing.figure.axes[0].images[0].get_array())
    assert np.array_equal(shown, scan.image[::-1, ::-1, z].T), "the subject's right on the left, front at the top"
    assert f"slice {z}" in drawing.caption
    with Image.open(io.BytesIO(drawing.png())) as picture:
        assert min(picture.size) > 200


def test_a_stricter_rule_moves_the_line_and_the_counts(run: widgets.FinishedRun) -> None:
    panel = widgets.overlap(run)
    assert moves(panel, "overlap", 0.5)
    controls(panel)["overlap"].value = 0.1
    table = run.overlaps[np.isclose(run.overlaps["overlap"], 0.1)]
    for row in counting.mean_rates(table, "ms").to_dict("records"):
        said = f"{tables.SOURCE_TITLES[row['source']]} lesion F1 {tables.number(row['f1'])}"
        assert said in panel.children[2].value, "first all test people together"
    for title, (_, subject) in controls(panel)["who"].options:
        if subject:
            controls(panel)["who"].value = dict(controls(panel)["who"].options)[title]
            for row in table[table["subject"] == subject].to_dict("records"):
                said = f"{tables.SOURCE_TITLES[row['source']]} {row['found']:.0f} of {row['lesions']:.0f} lesions"
                assert said in panel.children[2].value
    assert table["subject"].nunique() == len(controls(panel)["who"].options) - 1


def test_a_run_without_networks_says_what_it_cannot_show(run: widgets.FinishedRun, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "results.csv").write_bytes((run.folder / "results.csv").read_bytes())
    shown = widgets.FinishedRun(bare)
    assert "no scan to show" in widgets.slices(shown).children[0].value
    assert "no lesion counts" in widgets.overlap(shown).children[0].value
    assert len(widgets.ranking(shown).children) == 3


def test_a_folder_without_results_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no finished run") as refused:
        widgets.FinishedRun(tmp_path)
    assert "\n" not in str(refused.value)
