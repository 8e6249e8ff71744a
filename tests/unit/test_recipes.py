"""Promises of recipes: nobody leaks, nothing is guessed, and a bad set says in plain words what to mend."""

from __future__ import annotations

import functools
import hashlib
import http.server
import tarfile
import threading
import zipfile
from pathlib import Path

import fakes
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from refusals import said

from braintransfer import recipes, study, tables, volumes
from braintransfer.errors import BadInput
from braintransfer.prepare import prepare
from braintransfer.recipes import downloads, pictures, registration, semisynthetic
from braintransfer.recipes.files import match_files, number_in
from braintransfer.recipes.schema import CELLS, MaskValues, Slices, every_recipe
from braintransfer.recipes.slices import SHOWS
from braintransfer.settings import PrepareSettings

TINY_SET = """
name: mine
title: Mine
kind: volumes
licence: mine
access: {how: own}
patterns: {image: ["{subject}_T1.nii.gz"]}
"""


# ------------------------------------------------------------------------------------------------ recipes as data


def test_every_bundled_recipe_is_complete() -> None:
    for recipe in every_recipe():
        assert recipe.file.stem == recipe.name
        assert recipe.cells and set(recipe.cells) <= set(CELLS)
        if not recipe.template:
            assert recipe.traps and recipe.citation and recipe.licence
            assert recipe.simulated == (recipe.kind == "simulated")
            assert recipe.access.how == "built-in" or recipe.access.steps


def test_every_cell_of_the_study_has_a_recipe_built_in_and_on_disk() -> None:
    for simulated in (True, False):
        filled = {cell for recipe in every_recipe() if recipe.simulated == simulated for cell in recipe.cells}
        assert filled >= set(study.PRETRAINED_HERE) | set(study.TARGETS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TINY_SET + "colour: red\n", ["unknown key `colour`"]),
        (TINY_SET.replace("image:", "imgae:"), ["unknown key `patterns.imgae`"]),
        (TINY_SET.replace("licence: mine\n", ""), ["`licence` is missing"]),
        (TINY_SET.replace("kind: volumes", "kind: movies"), ["`kind`"]),
        (TINY_SET + "cells: [mri-dreams]\n", ["mri-dreams", "anatomy"]),
        (
            TINY_SET.replace("kind: volumes", "kind: simulated\ngenerator: ms\nsimulated: false"),
            ["kind simulated and `simulated: false`", "take `simulated` out"],
        ),
        ("name: mine\n  - broken: [", ["YAML"]),
        ("- a\n- b\n", ["`name`"]),
    ],
)
def test_a_recipe_that_is_wrong_names_its_file_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        recipes.load_recipe("mine", tmp_path)
    said(error, "mine.yaml", *words)


def test_what_is_simulated_need_not_be_said_twice(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    for kind, added, simulated in (
        ("simulated", "generator: ms", True),
        ("volumes", "", False),
        ("volumes", "simulated: true", True),  # phantoms that another program made
    ):
        text = TINY_SET.replace("kind: volumes", f"kind: {kind}\n{added}")
        (tmp_path / "recipes" / "mine.yaml").write_text(text, encoding="utf-8")
        assert recipes.load_recipe("mine", tmp_path).simulated == simulated


def test_a_users_recipe_is_found_beside_the_data(tmp_path: Path) -> None:
    t1, _, _ = fakes.head((20, 22, 18), 0)
    for name, place in (("one", tmp_path / "recipes" / "one.yaml"), ("two", tmp_path / "two" / "recipe.yaml")):
        fakes.save(tmp_path / name / "p1_T1.nii.gz", t1, np.eye(4))
        place.parent.mkdir(exist_ok=True)
        place.write_text(TINY_SET.replace("name: mine", f"name: {name}"), encoding="utf-8")
        recipe = recipes.load_recipe(name, tmp_path)
        assert [s.subject for s in recipes.scans(recipe, tmp_path, 0, 0)] == ["p1"]
    (tmp_path / "recipes" / "again.yaml").write_text(TINY_SET.replace("name: mine", "name: malf"), encoding="utf-8")
    with pytest.raises(BadInput) as error:
        recipes.load_recipe("malf", tmp_path)
    said(error, "two recipes", "again.yaml")


def test_unknown_names_templates_and_wrong_kinds_say_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        recipes.load_recipe("nothing_like_it")
    said(error, "malf")
    with pytest.raises(BadInput) as error:
        recipes.load_recipe("bids_t1w")
    said(error, "template", "bids_t1w.yaml")
    with pytest.raises(BadInput):
        next(recipes.images(recipes.load_recipe("malf"), tmp_path, 1, 8, 0))
    with pytest.raises(BadInput):
        next(recipes.scans(recipes.load_recipe("imagenette"), tmp_path, 1, 0))


def test_a_field_that_comes_twice_reads_the_same(tmp_path: Path) -> None:
    for name in ("sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-2_T1w.nii", "sub-2/anat/.hidden_T1w.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = match_files(tmp_path, "{subject}/anat/{subject}_T1w.nii")
    assert [fields for _, fields in found] == [{"subject": "sub-1"}]


def test_lists_say_what_is_there(tmp_path: Path) -> None:
    fakes.malf(tmp_path)
    present = {row["name"]: row["present"] for row in recipes.list_recipes(tmp_path)}
    assert present["malf"] == "present" and present["camvid"] == "missing"
    assert present["simulated_ms"] == "built-in" and present["bids_t1w"] == "template"
    assert recipes.missing(recipes.load_recipe("malf"), tmp_path) == ""
    assert "camvid" in recipes.missing(recipes.load_recipe("camvid"), tmp_path)
    assert "lesymap" in recipes.missing(recipes.load_recipe("semisynthetic_stroke"), fakes.bids(tmp_path).parent)
    assert recipes.missing(recipes.load_recipe("malf"), None)


# ------------------------------------------------------------------------------------------------ scans


def test_malf_gives_people_not_scans(tmp_path: Path) -> None:
    fakes.malf(tmp_path)
    recipe = recipes.load_recipe("malf", tmp_path)
    items = list(recipes.scans(recipe, tmp_path, 0, 0))
    assert sorted((s.subject, s.scan) for s in items) == [
        ("OAS1_0061", "1000"), ("OAS1_0083", "1128"), ("OAS1_0101", "1003"), ("OAS1_0101", "1023"),
    ]  # fmt: skip
    assert {s.scan: s.age for s in items}["1128"] == 90
    for item in items:
        assert (
            set(np.unique(item.mask)) == {0, 1, 2, 3} and item.mask.shape == item.image.data.shape == item.brain.shape
        )
        assert not (item.mask[~item.brain]).any()
    assert len(recipes.input_files(recipe, tmp_path)) == 13


def test_fewer_people_keep_all_their_scans_and_span_the_ages(tmp_path: Path) -> None:
    fakes.malf(tmp_path)
    recipe = recipes.load_recipe("malf", tmp_path)
    for seed in range(4):
        chosen = list(recipes.scans(recipe, tmp_path, 2, seed))
        assert len({s.subject for s in chosen}) == 2
        if "OAS1_0101" in {s.subject for s in chosen}:
            assert {"1003", "1023"} <= {s.scan for s in chosen}
        again = [s.scan for s in recipes.scans(recipe, tmp_path, 2, seed)]
        assert again == [s.scan for s in chosen]


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("41", 41.0), ("35.8", 35.8), ("90+", 90.0), ("89+", 89.0), ("> 89", 89.0), (">89", 89.0), (">= 90", 90.0), ("\u2265 90", 90.0),
        ("90 +", 90.0),
        ("n/a", None), ("", None), ("nan", None), ("NaN", None), ("inf", None), ("-inf", None), ("1e999", None), ("+", None), ("old", None),
    ],
)  # fmt: skip
def test_only_a_finite_number_is_an_age_and_the_oldest_count_as_old(text: str, age: float | None) -> None:
    assert number_in(text) == age


def test_people_are_drawn_over_all_ages_with_the_oldest_written_as_90_and_more(tmp_path: Path) -> None:
    table = fakes.malf(tmp_path) / "participants.tsv"
    recipe = recipes.load_recipe("malf", tmp_path)
    text = table.read_text(encoding="utf-8")
    said_of: dict[str, list[str]] = {}
    drawn = {}
    for oldest in ("90", "90+", "nan", "n/a"):
        table.write_text(text.replace("\t90\n", f"\t{oldest}\n"), encoding="utf-8")
        said_of[oldest] = []
        drawn[oldest] = [
            [s.scan for s in recipes.scans(recipe, tmp_path, 2, seed, report=said_of[oldest].append)]
            for seed in range(6)
        ]
    assert drawn["90+"] == drawn["90"] and drawn["nan"] == drawn["n/a"] != drawn["90"]
    assert said_of["90"] == said_of["90+"] == []
    (line,) = set(said_of["nan"])
    assert "no age of OAS1_0083" in line and "evenly over age" in line and "\n" not in line


def test_open_ms_patients_are_the_three_and_keep_negative_voxels(tmp_path: Path) -> None:
    fakes.open_ms_data(tmp_path, with_t1=(3, 7, 19, 26))
    shown = list(recipes.scans(recipes.load_recipe("open_ms_patients"), tmp_path, 0, 0))
    assert [s.subject for s in shown] == ["patient07", "patient19", "patient26"]
    assert (shown[0].image.data[shown[0].brain] < 0).any()
    everybody = recipes.load_recipe("open_ms_data")
    assert len(list(recipes.scans(everybody, tmp_path, 0, 0))) == 4


def test_bids_people_have_ages_and_no_masks(tmp_path: Path) -> None:
    fakes.bids(tmp_path)
    items = list(recipes.scans(recipes.load_recipe("ds002748"), tmp_path, 0, 0))
    assert [(s.subject, s.age) for s in items] == [("sub-01", None), ("sub-02", 22.0), ("sub-03", 23.0)]
    assert not any(s.mask.any() for s in items) and all(s.brain.any() for s in items)


def test_bids_sessions_of_a_person_stay_together(tmp_path: Path) -> None:
    t1, labels, _ = fakes.head((20, 22, 18), 0)
    root = tmp_path / "two_visits"
    for session in ("ses-1", "ses-2"):
        fakes.save(root / "sub-01" / session / "anat" / f"sub-01_{session}_T1w.nii.gz", t1, np.eye(4))
    text = TINY_SET.replace("mine", "two_visits").replace(
        "{subject}_T1.nii.gz", "{subject}/{session}/anat/{subject}_{session}_T1w.nii.gz"
    )
    (root / "recipe.yaml").write_text(text, encoding="utf-8")
    items = list(recipes.scans(recipes.load_recipe("two_visits", tmp_path), tmp_path, 0, 0))
    assert [(s.subject, s.scan) for s in items] == [("sub-01", "sub-01_ses-1"), ("sub-01", "sub-01_ses-2")]


@pytest.mark.parametrize("orientation", ["LPS", "ARI", "SLA"])
def test_a_prediction_equal_to_the_reference_comes_back_whole(tmp_path: Path, orientation: str) -> None:
    folder = fakes.malf(tmp_path)
    for path in folder.glob("*.nii.gz"):
        image = nib.Nifti1Image.from_filename(path)
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(orientation)
        )
        nib.save(image.as_reoriented(turn), path)
    for item in recipes.scans(recipes.load_recipe("malf"), tmp_path, 0, 0):
        grid = volumes.working_grid(item.image, item.brain, 1.0, (40, 36))
        working = volumes.labels_to_grid(item.mask, item.image.affine, grid, 3)
        sure = np.stack([working == k for k in range(4)]).astype(np.float32)
        back = volumes.from_grid(sure, grid, item.mask.shape, item.image.affine).argmax(axis=0)
        assert np.array_equal(back, item.mask)


def test_check_lists_every_bad_scan_at_once(tmp_path: Path) -> None:
    folder = fakes.malf(tmp_path)
    recipe = recipes.load_recipe("malf")
    assert recipes.check(recipe, tmp_path) == []
    (folder / "1000_SS.nii.gz").write_bytes((folder / "1000_SS.nii.gz").read_bytes()[:-500])
    (folder / "1003_mask.nii.gz").unlink()
    labels = nib.Nifti1Image.from_filename(folder / "1128_classified.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(labels.dataobj) * 3, labels.affine), folder / "1128_classified.nii.gz")
    with (folder / "participants.tsv").open("a", encoding="utf-8") as file:
        file.write("2000\tOAS1_9999\tF\t30\n")
    sentences = recipes.check(recipe, tmp_path)
    for word in ("1000_SS.nii.gz", "1003_mask.nii.gz", "1128_classified.nii.gz", "2000"):
        assert sum(word in s for s in sentences) == 1, sentences
    with pytest.raises(BadInput) as error:
        list(recipes.scans(recipe, tmp_path, 0, 0))
    said(error, "1003_mask.nii.gz", "missing")


def test_check_finds_doubled_scans_and_strangers(tmp_path: Path) -> None:
    folder = fakes.malf(tmp_path)
    for kind in ("SS", "classified", "mask"):
        (folder / f"1128_{kind}.nii.gz").write_bytes((folder / f"1000_{kind}.nii.gz").read_bytes())
    assert any("1000 and 1128 are the same picture" in s for s in recipes.check(recipes.load_recipe("malf"), tmp_path))
    for kind in ("SS", "classified", "mask"):
        (folder / f"9999_{kind}.nii.gz").write_bytes((folder / f"1000_{kind}.nii.gz").read_bytes())
    assert any("no row for 9999" in s for s in recipes.check(recipes.load_recipe("malf"), tmp_path))


def test_a_scan_with_its_skull_on_is_refused(tmp_path: Path) -> None:
    folder = fakes.bids(tmp_path)
    noise = np.random.default_rng(0).integers(1, 200, (60, 60, 60)).astype(np.uint8)
    fakes.save(folder / "sub-01" / "anat" / "sub-01_T1w.nii.gz", noise, np.eye(4))
    assert any("strip the skull" in s for s in recipes.check(recipes.load_recipe("ds002748"), tmp_path))


# ------------------------------------------------------------------------------------------------ pictures


def test_tumour_slices_come_with_label_mask_and_block(tmp_path: Path) -> None:
    fakes.tumours(tmp_path)
    recipe = recipes.load_recipe("brain_tumour_t1ce")
    items = list(recipes.images(recipe, tmp_path, 20, 32, 0))
    assert len({i.scan for i in items}) == 20
    for item in items:
        assert item.image.shape == item.mask.shape == (32, 32) and item.image.dtype == item.mask.dtype == np.uint8
        assert set(np.unique(item.mask)) == {0, 1} and item.subject.startswith("block-")
        assert item.image[item.mask > 0].mean() > item.image[item.mask == 0].mean()
    assert [i.scan for i in recipes.images(recipe, tmp_path, 20, 32, 0)] == [i.scan for i in items]
    assert [i.scan for i in recipes.images(recipe, tmp_path, 20, 32, 1)] != [i.scan for i in items]
    assert recipes.check(recipe, tmp_path) == []
    with pytest.raises(BadInput) as error:
        next(recipes.images(recipe, tmp_path, 10_000, 32, 0))
    said(error, "72 are there")


def test_camvid_masks_are_things_that_move_and_void_is_background(tmp_path: Path) -> None:
    fakes.camvid(tmp_path)
    items = list(recipes.images(recipes.load_recipe("camvid"), tmp_path, 0, 36, 0))
    assert len(items) == 12 and {i.subject for i in items} == {"0001TP", "0006R0", "0016E5", "Seq05VD"}
    assert items[0].image.shape == (36, 36, 3) and items[0].mask[20, 18] == 1 and not items[0].mask[:8].any()


def test_class_folders_are_split_by_their_own_parts(tmp_path: Path) -> None:
    fakes.class_folders(tmp_path)
    recipe = recipes.load_recipe("imagenette")
    items = list(recipes.images(recipe, tmp_path, 0, 24, 0))
    assert {i.label for i in items} == {"tench", "English springer", "parachute"}
    train, validation, dropped = recipes.source_split(recipe, [i.subject for i in items], 0.15, 0)
    assert len(train) == 12 and len(validation) == 6 and not dropped
    assert all(g.startswith("val/") for g in validation)


def test_no_photograph_is_in_training_and_validation_composites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.class_folders(tmp_path)
    recipe = recipes.load_recipe("composited_imagenette")
    read: list[Path] = []
    real = pictures.read_picture

    def watched(path: Path) -> np.ndarray:
        read.append(path)
        return real(path)

    monkeypatch.setattr(pictures, "read_picture", watched)
    used: dict[str, set[Path]] = {"train": set(), "val": set()}
    subjects = []
    for item in recipes.images(recipe, tmp_path, 20, 24, 0):
        assert item.image.shape == (24, 24, 3) and item.mask.shape == (24, 24) and set(np.unique(item.mask)) <= {0, 1}
        used[item.subject.split("/")[0]] |= set(read)
        subjects.append(item.subject)
        read.clear()
    assert all("train" in p.parts for p in used["train"]) and all("val" in p.parts for p in used["val"])
    train, validation, _ = recipes.source_split(recipe, subjects, 0.15, 0)
    assert (len(train), len(validation)) == (17, 3)


def test_what_only_lies_behind_is_no_class_and_must_be_a_class_of_the_photographs(tmp_path: Path) -> None:
    fakes.class_folders(tmp_path)
    recipe = recipes.load_recipe("composited_imagenette")
    assert recipe.composite is not None and "parachute" in recipe.composite.grounds
    assert {i.label for i in recipes.images(recipe, tmp_path, 20, 24, 0)} == {"tench", "English springer"}
    wrong = recipe.model_copy(update={"composite": recipe.composite.model_copy(update={"grounds": ("chruch",)})})
    with pytest.raises(BadInput, match="chruch"):
        list(recipes.images(wrong, tmp_path, 20, 24, 0))


@pytest.mark.parametrize("share", [0.1, 0.15, 0.3])
def test_held_out_blocks_have_no_neighbour_in_training(share: float) -> None:
    groups = [f"block-{i:03d}" for i in range(124)]
    for seed in range(20):
        train, validation, dropped = recipes.block_split(groups, share, seed)
        assert sorted(train + validation + dropped) == groups
        number = {g: i for i, g in enumerate(groups)}
        near = {number[v] + step for v in validation for step in (-1, 1)}
        assert not near & {number[g] for g in train}
        assert abs(len(validation) - share * 124) < 6 and len(dropped) <= 10
    assert recipes.block_split(groups, share, 1) == recipes.block_split(list(reversed(groups)) * 2, share, 1)
    assert recipes.block_split(groups, share, 1) != recipes.block_split(groups, share, 2)


def test_blocks_sorted_by_class_leave_every_class_on_both_sides(tmp_path: Path) -> None:
    fakes.tumours(tmp_path, blocks=60, each=1)
    recipe = recipes.load_recipe("brain_tumour_t1ce")
    items = list(recipes.images(recipe, tmp_path, 0, 16, 0))
    for seed in range(5):
        train, validation, _ = recipes.source_split(recipe, [i.subject for i in items], 0.15, seed)
        for part in (train, validation):
            assert {i.label for i in items if i.subject in part} == {"meningioma", "pituitary", "glioma"}


@pytest.mark.parametrize("seed", range(10))
def test_the_blocks_held_out_have_about_the_whole_sets_classes(seed: int) -> None:
    # as in the tumour set: sorted by type, so that three of five runs may be of the commonest
    kinds = ["meningioma"] * 28 + ["glioma"] * 9 + ["pituitary"] * 37 + ["glioma"] * 49
    classes = {f"block-{i:03d}": {kind: 25} for i, kind in enumerate(kinds)}
    whole = {kind: kinds.count(kind) / len(kinds) for kind in kinds}

    def apart(split: tuple[list[str], list[str], list[str]]) -> float:
        held_out = [kinds[int(group[-3:])] for group in split[1]]
        return max(abs(held_out.count(kind) / len(held_out) - share) for kind, share in whole.items())

    chosen = recipes.block_split(list(classes), 0.15, seed, classes=classes)
    assert apart(chosen) < 0.06 and apart(chosen) <= apart(recipes.block_split(list(classes), 0.15, seed))
    number = {group: i for i, group in enumerate(classes)}
    assert not {number[v] + step for v in chosen[1] for step in (-1, 1)} & {number[group] for group in chosen[0]}


def test_check_lists_every_bad_picture_at_once(tmp_path: Path) -> None:
    folder = fakes.tumours(tmp_path, blocks=4)
    torn = folder / "images" / "0001.jpg"
    torn.write_bytes(torn.read_bytes()[:200])
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(folder / "masks" / "0002.png")
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(folder / "masks" / "0003.png")
    (folder / "images" / "0004.jpg").write_bytes(b"not a picture")
    (folder / "images" / "0006.jpg").write_bytes((folder / "images" / "0005.jpg").read_bytes())
    recipe = recipes.load_recipe("brain_tumour_t1ce")
    sentences = recipes.check(recipe, tmp_path)
    for word in ("0001.jpg: picture is torn", "mask is 40 x 30", "unexpected values 255", "0004.jpg: not a picture"):
        assert sum(word in s for s in sentences) == 1, sentences
    assert any("block-001/0005 and block-001/0006 are the same" in s for s in sentences)
    (folder / "masks" / "0007.png").unlink()
    for act in (lambda: recipes.check(recipe, tmp_path)[0], lambda: str(_raised(recipe, tmp_path))):
        assert "masks/0007.png" in act() and "samples.csv" in act()


def _raised(recipe: recipes.Recipe, root: Path) -> BadInput:
    with pytest.raises(BadInput) as error:
        list(recipes.images(recipe, root, 0, 16, 0))
    return error.value


def test_masks_of_255_need_a_threshold(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[0, 100], [200, 255]], np.uint8)).save(path)
    assert pictures.read_picture_mask(path, MaskValues(threshold=127), (2, 2)).tolist() == [[0, 0], [1, 1]]
    with pytest.raises(BadInput) as error:
        pictures.read_picture_mask(path, MaskValues(), (2, 2))
    said(error, "threshold")


def test_a_table_without_its_columns_says_which(tmp_path: Path) -> None:
    folder = fakes.tumours(tmp_path, blocks=2)
    text = (folder / "samples.csv").read_text(encoding="utf-8").replace("sample,label,group", "sample,label,person")
    (folder / "samples.csv").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        list(recipes.images(recipes.load_recipe("brain_tumour_t1ce"), tmp_path, 0, 16, 0))
    said(error, "samples.csv", "group", "person")


# ------------------------------------------------------------------------------------------------ semi-synthetic


@pytest.fixture
def lesion_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Backgrounds and masks; alignment is replaced by matching centres, since phantoms are no brains."""
    fakes.bids(tmp_path, people=3)
    fakes.lesion_masks(tmp_path)
    fakes.open_ms_data(tmp_path)

    def centred(scan: volumes.Scan, brain: np.ndarray) -> registration.Alignment:
        middle = np.argwhere(brain).mean(axis=0)
        world = scan.affine[:3, :3] @ middle + scan.affine[:3, 3]
        matrix = np.diag([6.0, 6.0, 6.0, 1.0])
        matrix[:3, 3] = np.array([0, -18, 10]) - 6 * world
        return registration.Alignment(matrix, 1.0)

    monkeypatch.setattr(semisynthetic, "align_to_template", centred)
    return tmp_path


def test_a_person_and_a_mask_make_one_subject_and_none_comes_twice(lesion_world: Path) -> None:
    recipe = recipes.load_recipe("semisynthetic_stroke")
    items = list(recipes.scans(recipe, lesion_world, 0, 0))
    assert len({s.subject for s in items}) == len(items) == 3
    assert len({s.notes["mask"] for s in items}) == 3
    for item in items:
        assert item.mask.any() and not item.mask[~item.brain].any()
        assert item.notes["mask"] not in ("soop/bwsrsub-1012_lesion", "soop/bwsrsub-1013_lesion")  # cut; two-sided
    first = list(recipes.scans(recipe, lesion_world, 2, 0))
    assert [s.notes for s in first] == [s.notes for s in items[:2]]
    assert all(np.array_equal(a.image.data, b.image.data) for a, b in zip(first, items, strict=False))
    with pytest.raises(BadInput):
        list(recipes.scans(recipe, lesion_world, 40, 0))


def our_lesions(lesion_world: Path) -> recipes.Recipe:
    """A user's own recipe of lesions set in, from sets of their own."""
    (lesion_world / "ds002748").rename(lesion_world / "our_controls")
    (lesion_world / "lesion_masks" / "lesymap").rename(lesion_world / "our_masks")
    own = {
        "our_controls": "kind: volumes\npatterns: {image: ['{subject}/anat/{subject}_T1w.nii.gz']}\ncells: [background]",
        "our_masks": "kind: masks\npatterns: {mask: '{sample}.nii.gz'}\ncells: [lesion-masks]",
        "our_lesions": "kind: semisynthetic\nlesions: {kind: stroke, background: our_controls, libraries: [{recipe: our_masks}]}\n"
        "cells: [stroke]",
    }
    (lesion_world / "recipes").mkdir()
    for name, text in own.items():
        (lesion_world / "recipes" / f"{name}.yaml").write_text(
            f"name: {name}\ntitle: Ours\nlicence: ours\naccess: {{how: own}}\n{text}\n", encoding="utf-8"
        )
    return recipes.load_recipe("our_lesions", lesion_world)


def test_lesions_that_a_user_sets_in_count_as_semi_synthetic_whatever_the_set_is_called(lesion_world: Path) -> None:
    recipe, run = our_lesions(lesion_world), str(lesion_world / "run")
    settings = PrepareSettings(
        profile="test", read_from=run, write_to=run, dataset="stroke", recipe=recipe.name, role="showcase",
        target="stroke", data=str(lesion_world), size=[64, 64], spacing=4.0,
    )  # fmt: skip
    facts = prepare(settings, report=lambda _: None).facts
    assert tables.data_kind(facts) == "semi-synthetic" and facts["drawn_by"]
    assert tables.target_kinds(lesion_world / "run") == {"stroke": "semi-synthetic"}


def test_lesions_can_be_set_into_anybodys_scans_from_anybodys_masks(lesion_world: Path) -> None:
    recipe = our_lesions(lesion_world)
    assert recipes.missing(recipe, lesion_world) == "" and recipes.check(recipe, lesion_world) == []
    items = list(recipes.scans(recipe, lesion_world, 0, 0))
    assert {i.subject for i in items} == {"sub-01", "sub-02", "sub-03"} and all(i.mask.any() for i in items)
    assert len({i.notes["mask"] for i in items}) == 3 and all(
        str(i.notes["mask"]).startswith("our_masks/") for i in items
    )


def test_slices_of_a_source_show_the_lesion_and_nobody_gives_more_than_the_rule_says(lesion_world: Path) -> None:
    recipe = recipes.load_recipe("semisynthetic_stroke_source")
    recipe.must_fill("mri-segmentation")
    assert recipe.lesions == recipes.load_recipe("semisynthetic_stroke").lesions
    recipe = recipe.model_copy(
        update={"slices": Slices(between_mm=1.4, field_mm=44.8, per_scan=3)}
    )  # phantoms are small
    items = list(recipes.images(recipe, lesion_world, 0, 16, 0))
    people = {s.subject: s for s in recipes.scans(recipe, lesion_world, 0, 0)}
    assert {i.subject for i in items} <= set(people) and len({i.scan for i in items}) == len(items) > 3
    assert max(sum(i.subject == name for i in items) for name in people) == 3
    for item in items:
        assert item.image.shape == item.mask.shape == (16, 16) and item.label == ""
        assert item.mask.mean() >= SHOWS and item.image[item.mask > 0].max() > 0
    few = list(recipes.images(recipe, lesion_world, 3, 16, 0))
    everything = {i.scan: i for i in items}
    assert len(few) == 3 and all(np.array_equal(i.image, everything[i.scan].image) for i in few)
    with pytest.raises(BadInput) as error:
        list(recipes.images(recipe, lesion_world, len(items) + 1, 16, 0))
    said(error, f"{len(items) + 1} images asked for", f"{len(items)} are there")
    with pytest.raises(BadInput) as error:  # the target's recipe says nothing of slices
        list(recipes.images(recipes.load_recipe("semisynthetic_stroke"), lesion_world, 1, 16, 0))
    said(error, "gives scans, not pictures")


def test_check_finds_masks_that_are_doubled_or_empty(lesion_world: Path) -> None:
    folder = lesion_world / "lesion_masks" / "lesymap"
    recipe = recipes.load_recipe("lesymap")
    assert recipes.check(recipe, lesion_world) == []
    (folder / "Subject_003.nii.gz").write_bytes((folder / "Subject_001.nii.gz").read_bytes())
    mask = nib.nifti1.load(folder / "Subject_002.nii.gz")
    fakes.save(folder / "Subject_002.nii.gz", np.zeros(mask.shape, np.float32), mask.affine)
    sentences = recipes.check(recipe, lesion_world)
    assert len(sentences) == 2 and "Subject_002.nii.gz: mask is empty" in sentences[0]
    assert "Subject_001.nii.gz and Subject_003.nii.gz are the same picture" in sentences[1]


def test_masks_of_the_shown_patients_are_never_drawn(lesion_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipes.load_recipe("semisynthetic_ms")
    assert recipe.lesions is not None
    library = recipe.lesions.libraries[0]
    usable = semisynthetic.survey(library, lesion_world / "open_ms_data" / library.folder, study.stream(0, "x"))
    names = {m.path.parent.name for m in usable}
    assert len(names) == 27 and not names & {"patient07", "patient19", "patient26"}


def test_contrast_one_changes_no_voxel_and_no_mask(lesion_world: Path) -> None:
    recipe = recipes.load_recipe("semisynthetic_stroke")
    plain = {s.subject: s for s in recipes.scans(recipes.load_recipe("ds002748"), lesion_world, 0, 0)}
    null = list(recipes.scans(recipe, lesion_world, 0, 0, contrast=1.0))
    real = list(recipes.scans(recipe, lesion_world, 0, 0))
    for a, b in zip(null, real, strict=True):
        assert a.subject == b.subject and np.array_equal(a.mask, b.mask)
        assert np.array_equal(a.image.data, plain[a.subject].image.data)
        assert b.image.data[b.mask > 0].mean() < a.image.data[a.mask > 0].mean()


def test_a_mirrored_mask_lies_on_the_other_side(lesion_world: Path) -> None:
    scan = volumes.Scan(np.ones((46, 55, 46), np.float32), np.diag([4.0, 4.0, 4.0, 1.0]), np.full(3, 4.0), Path("x"))
    scan.affine[:3, 3] = [-90, -125, -71]
    path = lesion_world / "lesion_masks" / "lesymap" / "Subject_001.nii.gz"
    here = registration.Alignment(np.eye(4), 1.0)
    left, right = (semisynthetic.place(semisynthetic.LesionMask(path, 1.0, m), scan, here) for m in (False, True))
    x = [float((np.argwhere(m) @ scan.affine[:3, :3].T + scan.affine[:3, 3])[:, 0].mean()) for m in (left, right)]
    assert x[0] < -20 and x[1] == pytest.approx(-x[0], abs=1.5)
    assert abs(int(left.sum()) - int(right.sum())) <= 0.2 * left.sum()


def test_alignment_finds_a_moved_and_shrunk_template(monkeypatch: pytest.MonkeyPatch) -> None:
    data, affine = registration._template()
    turn = np.eye(4)
    turn[:3, :3] = 0.88 * np.array([[1, 0, 0], [0, np.cos(0.15), -np.sin(0.15)], [0, np.sin(0.15), np.cos(0.15)]])
    turn[:3, 3] = [5, -20, 12]
    own = turn @ affine  # the template's voxels, said to lie elsewhere
    scan = volumes.Scan(data, own, np.linalg.norm(own[:3, :3], axis=0), Path("moved"))
    found = registration.align_to_template(scan, data > 10)
    points = np.array([[x, y, z, 1.0] for x in (-50, 50) for y in (-80, 50) for z in (-30, 60)])
    apart = np.linalg.norm((points @ turn.T @ found.scan_to_template.T - points)[:, :3], axis=1)
    assert apart.max() < 4 and found.overlap > 0.95
    monkeypatch.setattr(registration, "TILTS", (0.0,))
    with pytest.raises(BadInput) as error:
        registration.align_to_template(volumes.Scan(data[:8], own, scan.spacing, Path("half")), data[:8] >= 0)
    said(error, "half", "alignment")


# ------------------------------------------------------------------------------------------------ simulated


def test_simulated_recipes_answer_like_real_ones() -> None:
    item = next(recipes.images(recipes.load_recipe("simulated_mri"), None, 4, 48, 0))
    assert item.image.shape[:2] == item.mask.shape == (48, 48) and item.label
    scan = next(recipes.scans(recipes.load_recipe("simulated_stroke"), None, 1, 0, spacing=4.0))
    assert scan.mask.any() and scan.mask.shape == scan.image.data.shape and scan.brain.any()
    assert recipes.input_files(recipes.load_recipe("simulated_ms"), None) == []
    assert recipes.check(recipes.load_recipe("simulated_ms"), None) == []
    groups = [i.subject for i in recipes.images(recipes.load_recipe("simulated_natural"), None, 8, 32, 0)]
    train, validation, _ = recipes.source_split(recipes.load_recipe("simulated_natural"), groups, 0.15, 0)
    assert train and validation


# ------------------------------------------------------------------------------------------------ downloads


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "mirror" / "set.tar.gz"
    path.parent.mkdir()
    (tmp_path / "p1_T1.nii.gz").write_bytes(bytes(range(256)) * 4000)
    with tarfile.open(path, "w:gz") as packed:
        packed.add(tmp_path / "p1_T1.nii.gz", "top/p1_T1.nii.gz")
    return path


def own_recipe(root: Path, url: str, checksum: str) -> recipes.Recipe:
    (root / "recipes").mkdir(parents=True, exist_ok=True)
    text = TINY_SET.replace("{how: own}", f"{{how: open, files: [{{url: '{url}', sha256: '{checksum}', strip: 1}}]}}")
    (root / "recipes" / "mine.yaml").write_text(text, encoding="utf-8")
    return recipes.load_recipe("mine", root)


def test_get_unpacks_from_a_mirror_and_refuses_a_wrong_checksum(tmp_path: Path, archive: Path) -> None:
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    root = tmp_path / "data"
    recipe = own_recipe(root, "https://example.org/set.tar.gz", "0" * 64)
    with pytest.raises(BadInput) as error:
        recipes.get(recipe, root, archive.parent)
    said(error, "set.tar.gz", "sha256")
    assert archive.is_file() and not (root / "mine").exists()
    recipes.get(own_recipe(root, "https://example.org/set.tar.gz", right), root, archive.parent)
    assert (root / "mine" / "p1_T1.nii.gz").read_bytes() == (tmp_path / "p1_T1.nii.gz").read_bytes()


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """A file server that knows byte ranges, as real ones do."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])
        type(self).starts.append(start)

    def log_message(self, *_: object) -> None:
        pass

    starts: list[int] = []


def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path, archive: Path) -> None:
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Ranges, directory=str(archive.parent))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        root = tmp_path / "data"
        url = f"http://127.0.0.1:{server.server_address[1]}/set.tar.gz"
        recipe = own_recipe(root, url, hashlib.sha256(archive.read_bytes()).hexdigest())
        part = root / ".downloads" / "set.tar.gz.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(archive.read_bytes()[:100])
        recipes.get(recipe, root)
        assert _Ranges.starts[-1] == 100 and (root / "mine" / "p1_T1.nii.gz").is_file() and not part.exists()
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(BadInput) as error:
        downloads.fetch(url, tmp_path / "again.tar.gz")
    said(error, "no connection", "--mirror")


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt"])
def test_no_archive_writes_outside_its_folder(tmp_path: Path, name: str) -> None:
    packed = tmp_path / "evil.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("good.txt", "good")
        file.writestr(name, "evil")
    with pytest.raises(BadInput) as error:
        downloads.unpack(packed, tmp_path / "in" / "set")
    said(error, "evil")
    assert not list(tmp_path.rglob("evil.txt")) and not (tmp_path / "in" / "set").exists()


def test_links_and_torn_archives_are_refused(tmp_path: Path, archive: Path) -> None:
    packed = tmp_path / "link.tar"
    with tarfile.open(packed, "w") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    with pytest.raises(BadInput) as error:
        downloads.unpack(packed, tmp_path / "set")
    said(error, "link")
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(BadInput):
        downloads.unpack(torn, tmp_path / "set")


def test_without_a_checksum_the_steps_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes.get(recipes.load_recipe("malf"), tmp_path)
    out = capsys.readouterr().out
    assert "1. Get the R package" in out and str(tmp_path / "malf") in out and not (tmp_path / "malf").exists()
