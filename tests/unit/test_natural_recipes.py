"""Promises of the sets of photographs: each is read in exactly its own layout, and what is wrong with one is said."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import fakes_natural
import numpy as np
import pytest
from fakes_natural import NATURAL, SHAPE
from PIL import Image
from refusals import refused

from braintransfer import recipes
from braintransfer.recipes.picture_sets import picture_files
from braintransfer.recipes.pictures import label_of, read_mask_of
from braintransfer.recipes.schema import every_recipe


def test_every_natural_set_of_pictures_has_a_fake() -> None:
    natural = {
        r.name for r in every_recipe()
        if r.kind == "images" and not r.template and any(c.startswith("natural") for c in r.cells)
    }  # fmt: skip
    assert natural == set(NATURAL)


@pytest.mark.parametrize("name", NATURAL)
def test_each_set_is_read_whole_with_its_classes_groups_and_masks(tmp_path: Path, name: str) -> None:
    fake, recipe = NATURAL[name], recipes.load_recipe(name)
    fake.make(tmp_path)
    items = list(recipes.images(recipe, tmp_path, 0, 36, 0))
    assert len(items) == fake.pictures == len({(i.subject, i.scan) for i in items})
    assert {i.label for i in items} == fake.classes
    assert len({i.subject for i in items}) == fake.groups
    for item in items:
        assert item.image.shape == (36, 36, 3) and item.image.dtype == item.mask.dtype == np.uint8
        assert set(np.unique(item.mask)) <= {0, 1} and item.mask.any() == (fake.inside is not None)
    assert recipes.check(recipe, tmp_path) == []
    assert recipes.missing(recipe, tmp_path) == ""
    assert all(path.is_file() for path in recipes.input_files(recipe, tmp_path))
    if "natural-classification" in recipe.cells:
        assert "" not in fake.classes
    if "natural-segmentation" in recipe.cells:
        assert fake.inside is not None


@pytest.mark.parametrize("name", [n for n, fake in NATURAL.items() if fake.inside is not None])
def test_a_mask_is_the_object_pixel_by_pixel_in_its_own_picture(tmp_path: Path, name: str) -> None:
    fake, recipe = NATURAL[name], recipes.load_recipe(name)
    fake.make(tmp_path)
    first = picture_files(recipe, tmp_path)[0]
    assert np.array_equal(read_mask_of(recipe, first, SHAPE), fake.inside)
    # The square that a network sees: a prediction equal to the mask scores 1 there, where the object itself is.
    item = next(recipes.images(recipe, tmp_path, 0, 36, 0))
    assert np.array_equal(item.mask, fake.inside[:, 6:42])


@pytest.mark.parametrize("name", NATURAL)
def test_no_group_is_in_training_and_held_out(tmp_path: Path, name: str) -> None:
    fake, recipe = NATURAL[name], recipes.load_recipe(name)
    fake.make(tmp_path)
    subjects = [f.group for f in picture_files(recipe, tmp_path)]
    train, validation, dropped = recipes.source_split(recipe, subjects, 0.15, 0)
    assert not set(train) & set(validation) and not dropped and {*train, *validation} == set(subjects)
    if recipe.split.method == "part":
        assert len(validation) == fake.held_out


# ------------------------------------------------------------------------------------------------ ImageNet


def test_imagenet_in_class_folders_needs_no_development_kit(tmp_path: Path) -> None:
    fakes_natural.imagenet1k(tmp_path, sorted_val=True)
    files = picture_files(recipes.load_recipe("imagenet1k"), tmp_path)
    assert Counter(f.label for f in files) == {"n01440764": 5, "n02012849": 4, "n03126707": 4}


def test_imagenet_validation_pictures_take_their_class_from_the_kit(tmp_path: Path) -> None:
    folder = fakes_natural.imagenet1k(tmp_path)
    recipe = recipes.load_recipe("imagenet1k")
    labels = {f.image.name: f.label for f in picture_files(recipe, tmp_path) if f.image.parent.name == "val"}
    assert list(labels.values()) == [
        "tench, Tinca tinca", "crane (n03126707)", "crane (n02012849)", "tench, Tinca tinca",
    ]  # fmt: skip
    truth = folder / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("2\n3\n", encoding="ascii")
    refused(lambda: picture_files(recipe, tmp_path), "00000003.JPEG", "1 to 2")
    truth.with_name("meta.mat").unlink()
    refused(lambda: picture_files(recipe, tmp_path), "00000001.JPEG", "development kit")
    truth.with_name("meta.mat").write_bytes(b"no MATLAB file" * 20)
    refused(lambda: picture_files(recipe, tmp_path), "ILSVRC2012_devkit_t12", "unpack it again")


def test_composites_of_imagenet_keep_its_two_cranes_apart(tmp_path: Path) -> None:
    fakes_natural.imagenet1k(tmp_path)
    items = list(recipes.images(recipes.load_recipe("composited_imagenet1k"), tmp_path, 20, 24, 0))
    assert len(items) == 20 and {i.label for i in items} <= NATURAL["imagenet1k"].classes
    assert {i.subject.split("/")[0] for i in items} == {"train", "val"}


# ------------------------------------------------------------------------------------------------ class of the largest object


def test_the_class_is_that_of_the_largest_object_not_of_the_most_pixels(tmp_path: Path) -> None:
    fakes_natural.voc2012(tmp_path)
    recipe = recipes.load_recipe("voc2012")
    first = picture_files(recipe, tmp_path)[0]
    assert first.mask is not None
    values = np.asarray(Image.open(first.mask))
    assert (values == 15).sum() > (values == 13).sum() and label_of(recipe, first, SHAPE) == "horse"


def test_a_crowd_is_in_the_mask_and_never_gives_the_class(tmp_path: Path) -> None:
    fakes_natural.coco2017(tmp_path)
    files = picture_files(recipes.load_recipe("coco2017"), tmp_path)
    assert [f.sample for f in files] == ["000000000009", "000000000034", "000000000036", "000000000139"]
    assert {f.label for f in files} == {"dog"}  # of the crowd (area 5000) it would be person


def test_outlines_of_a_big_annotation_file_stay_small(tmp_path: Path) -> None:
    folder = fakes_natural.coco2017(tmp_path)
    path = folder / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    long = {**content["annotations"][0], "segmentation": [[float(k % 48) + 0.25 for k in range(400)]]}
    content["annotations"] += [long] * 2000
    path.write_text(json.dumps(content), encoding="utf-8")
    size = path.stat().st_size
    tracemalloc.start()
    picture_files(recipes.load_recipe("coco2017"), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * size  # the text itself, and little more; plain lists of numbers make it ten times


# ------------------------------------------------------------------------------------------------ sets that are wrong


def _worded(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_check_finds_pets_under_the_wrong_class_doubled_or_twice_in_the_list(tmp_path: Path) -> None:
    folder = fakes_natural.oxford_iiit_pet(tmp_path)
    recipe = recipes.load_recipe("oxford_iiit_pet")
    _worded(folder / "annotations" / "list.txt", "Abyssinian_101 1 1 1", "Abyssinian_101 5 1 1\nbeagle_116 5 2 4")
    (folder / "images" / "Abyssinian_101.jpg").write_bytes((folder / "images" / "Abyssinian_100.jpg").read_bytes())
    sentences = recipes.check(recipe, tmp_path)
    for words in (
        "Abyssinian_101 (beagle)",
        "beagle_116 listed twice",
        "same picture with classes Abyssinian and beagle",
    ):
        assert sum(words in s for s in sentences) == 1, sentences
    (folder / "annotations" / "list.txt").write_text("Abyssinian_100 1\n", encoding="utf-8")
    refused(lambda: picture_files(recipe, tmp_path), "list.txt", "line 1", "4 columns")


def test_a_trimap_with_a_value_of_its_own_is_named(tmp_path: Path) -> None:
    folder = fakes_natural.oxford_iiit_pet(tmp_path)
    fakes_natural.save(folder / "annotations" / "trimaps" / "beagle_116.png", np.zeros(SHAPE, np.uint8))
    (sentence,) = recipes.check(recipes.load_recipe("oxford_iiit_pet"), tmp_path)
    assert "beagle_116.png" in sentence and "unexpected values 0" in sentence


def test_ade_pictures_and_its_list_must_agree(tmp_path: Path) -> None:
    folder = fakes_natural.ade20k(tmp_path)
    recipe = recipes.load_recipe("ade20k")
    (folder / "images" / "training" / "ADE_train_00000002.jpg").unlink()
    (sentence,) = recipes.check(recipe, tmp_path)
    assert "ADE_train_00000002 listed, but no such picture" in sentence
    _worded(folder / "sceneCategories.txt", "ADE_val_00000001 street\n", "")
    refused(lambda: picture_files(recipe, tmp_path), "sceneCategories.txt", "no row for", "ADE_val_00000001.jpg")


def test_an_unknown_colour_is_named(tmp_path: Path) -> None:
    folder = fakes_natural.camvid_original(tmp_path)
    odd = np.full((*SHAPE, 3), (1, 2, 3), np.uint8)
    fakes_natural.save(folder / "LabeledApproved_full" / "0016E5_00390_L.png", odd)
    (sentence,) = recipes.check(recipes.load_recipe("camvid_original"), tmp_path)
    assert "0016E5_00390_L.png" in sentence and "(1, 2, 3)" in sentence


def test_coco_says_what_is_missing_torn_or_of_another_size(tmp_path: Path) -> None:
    folder = fakes_natural.coco2017(tmp_path)
    recipe = recipes.load_recipe("coco2017")
    path = folder / "annotations" / "instances_val2017.json"
    _worded(path, '"height": 36', '"height": 63')
    (sentence,) = recipes.check(recipe, tmp_path)
    assert "000000000139.jpg" in sentence and "48 x 63" in sentence
    _worded(path, '"counts": [', '"counts": "packed", "was": [')
    _worded(path, '"height": 63', '"height": 36')
    (sentence,) = recipes.check(recipe, tmp_path)
    assert "packed" in sentence
    (folder / "val2017" / "000000000139.jpg").unlink()
    refused(lambda: picture_files(recipe, tmp_path), "val2017/000000000139.jpg", "missing")
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    refused(lambda: picture_files(recipe, tmp_path), "instances_val2017.json", "download it again")
    path.write_text("{}", encoding="utf-8")
    refused(lambda: picture_files(recipe, tmp_path), "instances_val2017.json")
    for file in (folder / "annotations").glob("instances*"):
        file.unlink()
    refused(lambda: picture_files(recipe, tmp_path), "no annotation file")
