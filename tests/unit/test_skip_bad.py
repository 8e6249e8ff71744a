"""Promises on bad files: all named at once, or left out, named and, where pictures are drawn, replaced by others."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakes
import fakes_natural
import fakes_sources
import numpy as np
import pytest
from click.testing import CliRunner
from refusals import refused

from braintransfer import cli, compare, plan, recipes, volumes
from braintransfer.prepare import prepare
from braintransfer.provenance import project_root, write_manifest
from braintransfer.recipes import readable, registration, screening, semisynthetic
from braintransfer.settings import CompareSettings, PrepareSettings, read_profile
from braintransfer.store import Store


def prepared(recipe: str, data: Path, run: str, said: list[str] | None = None, **parameters: Any) -> Store:
    where = str(data / run)
    values: dict[str, Any] = {"size": [32, 32], "dataset": recipe, "recipe": recipe, "data": str(data), "spacing": 4.0}
    settings = PrepareSettings(profile="test", read_from=where, write_to=where, **values | parameters)
    return prepare(settings, report=(said if said is not None else []).append)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


@dataclass(frozen=True)
class Source:
    """A made-up source, the files of it that are spoiled, how many pictures are asked for, and how they are spoiled."""

    make: Callable[[Path], Any]
    files: tuple[str, ...]
    images: int
    spoil: Callable[[Path], None] = torn


def _bids(root: Path) -> None:
    fakes_sources.made("bids_masks", root)


SOURCES = {
    "brain_tumour_t1ce": Source(fakes.tumours, ("images/0003.jpg", "masks/0050.png"), 60),
    "camvid": Source(fakes.camvid, ("images/0001TP_00001.jpg", "masks/Seq05VD_00002.png"), 9, Path.unlink),
    "composited_imagenette": Source(
        fakes.class_folders,
        ("train/n01440764/ILSVRC2012_train_n01440764_001.JPEG", "val/n03888257/ILSVRC2012_val_n03888257_000.JPEG"), 40,
    ),
    "imagenette": Source(
        fakes.class_folders,
        ("train/n01440764/ILSVRC2012_train_n01440764_001.JPEG", "val/n03888257/ILSVRC2012_val_n03888257_000.JPEG"), 15,
    ),
    "coco2017": Source(fakes_natural.coco2017, ("val2017/000000000139.jpg",), 2, Path.unlink),
    "brain_tumour_mat": Source(fakes_sources.brain_tumour_mat, ("2.mat", "8.mat"), 6),
    "brats2021": Source(
        fakes_sources.brats2021, ("BraTS2021_00002/BraTS2021_00002_t1.nii.gz",), 14,
    ),
    "bids_masks": Source(
        _bids, ("derivatives/masks/sub-02/anat/sub-02_label-lesion_mask.nii.gz",), 14, Path.unlink
    ),
}  # fmt: skip
FOLDERS = {"composited_imagenette": "imagenette", "coco2017": "coco"}


def spoiled(name: str, data: Path) -> list[Path]:
    source = SOURCES[name]
    source.make(data)
    paths = [data / FOLDERS.get(name, name) / file for file in source.files]
    for path in paths:
        source.spoil(path)
    return paths


@pytest.mark.parametrize("name", SOURCES)
def test_bad_pictures_are_all_named_at_once_in_one_line(name: str, tmp_path: Path) -> None:
    bad = spoiled(name, tmp_path)
    # all that there are, so that every bad one is among them
    images = SOURCES[name].images if name.startswith("composited") else 0
    recipe = recipes.load_recipe(name, tmp_path)
    refused(lambda: list(recipes.images(recipe, tmp_path, images, 32, 0)), *(str(path) for path in bad))


@pytest.mark.parametrize(
    "name", [name for name in SOURCES if name != "coco2017"]
)  # its one held-out picture is the bad one
def test_bad_pictures_are_left_out_named_and_replaced(name: str, tmp_path: Path) -> None:
    SOURCES[name].make(tmp_path)
    images = SOURCES[name].images
    whole = prepared(name, tmp_path, "whole", role="source", images=images)
    asked = prepared(name, tmp_path, "asked", role="source", images=images, skip_bad=True)
    assert whole.facts["left_out"] == asked.facts["left_out"] == [] and whole.digest == asked.digest
    bad = [tmp_path / FOLDERS.get(name, name) / file for file in SOURCES[name].files]
    for path in bad:
        SOURCES[name].spoil(path)
    said: list[str] = []
    store = prepared(name, tmp_path, "skipped", said, role="source", images=images, skip_bad=True)
    assert len(store.slices) == images == store.facts["images"]
    assert not store.slices.duplicated(["subject", "scan"]).any()
    left_out = store.facts["left_out"]
    # which pictures are drawn hangs on the seed: a bad one that nobody asked for is not missed
    assert left_out and len(left_out) == len(set(left_out)) <= len(bad)
    for sentence in left_out:
        assert any(path.name in sentence for path in bad) and str(tmp_path) not in sentence
        assert f"  left out: {sentence}" in said


@pytest.mark.parametrize("name", ["brain_tumour_t1ce", "brats2021", "camvid"])
def test_too_few_readable_pictures_stop_the_stage_and_it_says_why(name: str, tmp_path: Path) -> None:
    spoiled(name, tmp_path)
    recipe = recipes.load_recipe(name, tmp_path)
    there = {"brain_tumour_t1ce": 72, "brats2021": 24, "camvid": 11}[name]
    refused(
        lambda: prepared(name, tmp_path, "run", role="source", images=there, skip_bad=True),
        f"recipe {recipe.name}: {there} images asked for",
        "ask for fewer",
    )


def test_what_can_be_read_is_drawn_as_if_nothing_were_bad(tmp_path: Path) -> None:
    recipe = recipes.load_recipe("brain_tumour_t1ce")
    fakes.tumours(tmp_path)
    before = [i.scan for i in recipes.images(recipe, tmp_path, 40, 16, 3)]
    for name in before[5:8]:
        torn(tmp_path / "brain_tumour_t1ce" / "images" / f"{name}.jpg")
    after = [i.scan for i in recipes.images(recipe, tmp_path, 40, 16, 3, list[str]().append)]
    assert [s for s in after if s in before] == [s for s in before if s not in before[5:8]]
    assert len(set(after)) == 40 and not set(after) & set(before[5:8])


def test_photographs_that_leave_one_class_stop_the_composites(tmp_path: Path) -> None:
    folder = fakes.class_folders(tmp_path)
    recipe = recipes.load_recipe("composited_imagenette")
    for path in (folder / "val").rglob("*.JPEG"):
        if "n01440764" not in path.name:
            torn(path)
    refused(
        lambda: list(recipes.images(recipe, tmp_path, 20, 24, 0, list[str]().append)),
        "cannot be read",
        "`val`",
        "two classes",
    )
    for path in (folder / "train" / "n03888257").glob("*.JPEG"):  # the only ground
        torn(path)
    refused(lambda: list(recipes.images(recipe, tmp_path, 20, 24, 0, list[str]().append)), "cannot be read", "`train`")


def test_a_set_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    folder = fakes.tumours(tmp_path)
    for path in folder.glob("images/*.jpg"):
        torn(path)
    recipe = recipes.load_recipe("brain_tumour_t1ce")
    refused(lambda: list(recipes.images(recipe, tmp_path, 0, 16, 0, list[str]().append)), "no picture can be read")
    message = refused(lambda: list(recipes.images(recipe, tmp_path, 0, 16, 0)), "72 of 72")
    assert all(path.name in message for path in folder.glob("images/*.jpg"))


def test_check_names_each_missing_picture_and_looks_at_the_others(tmp_path: Path) -> None:
    bad = spoiled("camvid", tmp_path)
    torn(tmp_path / "camvid" / "masks" / "0016E5_00000.png")
    sentences = recipes.check(recipes.load_recipe("camvid"), tmp_path)
    for name in (*(p.name for p in bad), "0016E5_00000.png"):
        assert sum(name in sentence for sentence in sentences) >= 1, (name, sentences)


def test_the_door_starts_a_set_with_missing_pictures_only_where_they_may_be_left_out(tmp_path: Path) -> None:
    spoiled("camvid", tmp_path)
    recipe = recipes.load_recipe("camvid")
    assert "0001TP_00001.jpg" in recipes.missing(recipe, tmp_path)
    assert recipes.missing(recipe, tmp_path, list[str]().append) == ""


def test_the_door_names_missing_masks_of_a_target_unless_they_may_be_left_out(tmp_path: Path) -> None:
    folder = fakes.malf(tmp_path)
    (folder / "1000_classified.nii.gz").unlink()
    (folder / "1128_mask.nii.gz").unlink()
    text = (project_root() / "notebooks" / "profiles" / "tiny.yaml").read_text(encoding="utf-8")
    few = "folds: 2, run_folds: [0], n_train: 1, n_validation: 0}"  # the fake set has three people
    text, changed = re.subn(r"(recipe: simulated_anatomy), .*", rf"\1, {few}", text)
    assert changed == 1
    for name, code in (("malf", 2), ("malf, skip_bad: true", 0)):
        (tmp_path / "mine.yaml").write_text(text.replace("simulated_anatomy", name), encoding="utf-8")
        arguments = ["run", "--profile", str(tmp_path / "mine.yaml"), "--data", str(tmp_path), "--dry-run"]
        told = CliRunner().invoke(cli.main, arguments)
        assert told.exit_code == code, told.output
        if code:
            assert told.output.count("\n") == 1
            assert "1000_classified.nii.gz" in told.output and "1128_mask.nii.gz" in told.output


# ------------------------------------------------------------------------------------------------ semi-synthetic targets


@pytest.fixture
def lesion_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Backgrounds and masks; alignment is replaced by matching centres, since phantoms are no brains."""
    fakes.bids(tmp_path, people=4)
    fakes.lesion_masks(tmp_path)
    fakes.open_ms_data(tmp_path)

    def centred(scan: volumes.Scan, brain: np.ndarray) -> registration.Alignment:
        middle = np.argwhere(brain).mean(axis=0)
        world = scan.affine[:3, :3] @ middle + scan.affine[:3, 3]
        matrix = np.diag([6.0, 6.0, 6.0, 1.0])
        matrix[:3, 3] = np.array([0, -18, 10]) - 6 * world
        return registration.Alignment(matrix, 1.0)

    for module in (semisynthetic, screening):
        monkeypatch.setattr(module, "align_to_template", centred)
    return tmp_path


SPOILED = {
    "semisynthetic_stroke": (
        "ds002748/sub-02/anat/sub-02_T1w.nii.gz",
        "lesion_masks/lesymap/Subject_002.nii.gz",
        "lesion_masks/soop/bwsrsub-1011_lesion.nii.gz",
    ),
    "semisynthetic_ms": (
        "ds002748/sub-03/anat/sub-03_T1w.nii.gz",
        f"open_ms_data/cross_sectional/MNI/patient04/{fakes.MS_MASK}",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_bad_backgrounds_and_masks_are_all_named_at_once(name: str, lesion_world: Path) -> None:
    for file in SPOILED[name]:
        torn(lesion_world / file)
    recipe = recipes.load_recipe(name)
    refused(lambda: list(recipes.scans(recipe, lesion_world, 0, 0)), *(str(lesion_world / f) for f in SPOILED[name]))


def test_bad_backgrounds_and_masks_are_left_out_and_named(lesion_world: Path) -> None:
    name, files = "semisynthetic_stroke", SPOILED["semisynthetic_stroke"]
    parameters: dict[str, Any] = {"role": "showcase", "target": "stroke", "size": [64, 64], "subjects": 4, "seed": 3}
    whole = prepared(name, lesion_world, "whole", **parameters)
    asked = prepared(name, lesion_world, "asked", **parameters, skip_bad=True)
    assert whole.digest == asked.digest and whole.facts["left_out"] == asked.facts["left_out"] == []
    for file in files:
        torn(lesion_world / file)
    said: list[str] = []
    store = prepared(name, lesion_world, "skipped", said, **parameters, skip_bad=True)
    assert set(store.scans) == {"sub-01", "sub-03", "sub-04"} and store.facts["people"] == 3
    used = {scan["notes"]["mask"] for scan in store.scans.values()}
    assert len(used) == 3 and not used & {"lesymap/Subject_002", "soop/bwsrsub-1011_lesion"}
    assert len(store.facts["left_out"]) == len(files)
    for sentence, file in zip(store.facts["left_out"], files, strict=True):
        assert sentence.startswith(file) and f"  left out: {sentence}" in said


def test_a_bad_mask_in_a_folder_of_its_own_is_left_out_and_no_other(lesion_world: Path) -> None:
    for file in SPOILED["semisynthetic_ms"]:
        torn(lesion_world / file)
    recipe = recipes.load_recipe("semisynthetic_ms")
    assert recipe.lesions is not None
    library = recipe.lesions.libraries[0]
    root = lesion_world / "open_ms_data" / library.folder
    left_out: list[str] = []
    people, [(usable, _)] = screening.usable(
        recipes.load_recipe("ds002748"), [(library, root)], lesion_world, left_out.append
    )
    assert people.only == ("sub-01", "sub-02", "sub-04")
    masks = semisynthetic.survey(usable, root, np.random.default_rng(0))
    names = {mask.path.parent.name for mask in masks}
    assert len(names) == 26 and not names & {"patient04", "patient07", "patient19", "patient26"}
    for sentence, file in zip(left_out, SPOILED["semisynthetic_ms"], strict=True):
        assert file in sentence


def test_a_background_that_cannot_be_aligned_is_left_out(lesion_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aligned = screening.align_to_template

    def fails(scan: volumes.Scan, brain: np.ndarray) -> registration.Alignment:
        if "sub-04" in scan.path.name:
            raise recipes.BadInput(f"{scan.path}: alignment to MNI152 failed")
        return aligned(scan, brain)

    monkeypatch.setattr(screening, "align_to_template", fails)
    left_out: list[str] = []
    items = list(
        recipes.scans(recipes.load_recipe("semisynthetic_stroke"), lesion_world, 0, 0, left_out=left_out.append)
    )
    assert {i.subject for i in items} == {"sub-01", "sub-02", "sub-03"}
    assert len(left_out) == 1 and "sub-04" in left_out[0] and "alignment" in left_out[0]


def test_where_no_background_is_left_the_set_is_refused(lesion_world: Path) -> None:
    for path in (lesion_world / "ds002748").rglob("*.nii.gz"):
        torn(path)
    recipe = recipes.load_recipe("semisynthetic_ms")
    refused(lambda: list(recipes.scans(recipe, lesion_world, 0, 0, left_out=list[str]().append)), "every scan is bad")


# ------------------------------------------------------------------------------------------------ what a reader sees


def test_the_table_of_what_was_left_out_holds_sources_targets_and_replicates(tmp_path: Path) -> None:
    for name, sentences in (("ms", ["a is torn"]), ("mri", ["b is torn", "c is missing"]), ("replicate_pets", ["d"])):
        facts = {"left_out": sentences}
        write_manifest(
            tmp_path / "data" / name, stage="prepare", key="k", parameters={}, code="c", inputs={}, facts=facts
        )
    cells = [
        ("ms", "scratch", "main"),
        ("ms", "mri-segmentation", "main"),
        ("ms", "natural-segmentation", "replicate_pets"),
    ]
    settings = CompareSettings(read_from=str(tmp_path), write_to=str(tmp_path), cells=[":".join(c) for c in cells])
    table = compare._skipped(settings, cells)
    assert table.columns.tolist() == ["target", "why"]
    assert table.to_numpy().tolist() == [
        ["ms", "a is torn"], ["mri", "b is torn"], ["mri", "c is missing"], ["replicate_pets", "d"],
    ]  # fmt: skip


def test_a_failed_stage_shows_each_bad_file_on_a_line_of_its_own() -> None:
    message = refused(lambda: readable.refuse(["a.png: torn", "b.png: missing"], "9 files of mine"))
    assert cli._a_line_each(message).splitlines() == [
        "2 of 9 files of mine are bad:", "  a.png: torn", "  b.png: missing",
    ]  # fmt: skip
    assert cli._a_line_each("only one thing") == "only one thing"


def test_a_refusal_never_grows_without_end() -> None:
    bad = [f"{n}.png: torn" for n in range(readable.MOST_NAMED + 7)]
    message = refused(lambda: readable.refuse(bad, "a set"), f"{len(bad)} of a set", "and 7 more")
    assert bad[-1] not in message


def test_a_profile_says_for_each_set_whether_bad_files_may_be_left_out() -> None:
    profile = read_profile("open")
    mri = profile.sources["mri"].model_copy(update={"skip_bad": True})
    asked = profile.model_copy(update={"sources": {**profile.sources, "mri": mri}})
    stages = {s.folder: s for s in plan.stages(asked, "runs/x", "", plan.cells_of(asked)) if s.name == "prepare"}
    assert stages["data/mri"].parameters["skip_bad"] and not stages["data/natural"].parameters["skip_bad"]
