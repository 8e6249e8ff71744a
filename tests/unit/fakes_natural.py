"""Tiny made-up sets of photographs in exactly the layouts of the real ones, written by code: no real photograph is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fakes
import numpy as np
import scipy.io
from PIL import Image

#: A picture is this high and wide, and not square; the object lies off its centre.
SHAPE = (36, 48)


def photograph(seed: int, inside: np.ndarray | None = None) -> np.ndarray:
    """Noise (36, 48, 3) uint8, bright where the object is."""
    picture = np.random.default_rng(seed).integers(0, 90, (*SHAPE, 3), dtype=np.uint8)
    if inside is not None:
        picture[inside] += 160
    return picture


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """Boolean (36, 48), true inside a rectangle."""
    inside = np.zeros(SHAPE, bool)
    inside[top:bottom, left:right] = True
    return inside


def save(path: Path, picture: np.ndarray, palette: bool = False) -> None:
    """As the name's ending says; with `palette` as a PNG of numbers into a table of colours, as VOC's masks are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture)
    if palette:
        image.putpalette([k % 256 for k in range(768)])
        assert image.mode == "P"
    image.save(path, quality=95) if path.suffix.lower() in (".jpg", ".jpeg") else image.save(path)


def imagenet1k(root: Path, sorted_val: bool = False) -> Path:
    """Three classes, two of them called "crane"; `val` flat with the development kit, or in class folders."""
    folder = root / "imagenet"
    synsets = [
        ("n02012849", "crane"),
        ("n01440764", "tench, Tinca tinca"),
        ("n03126707", "crane"),
        ("n00001740", "entity"),
    ]
    for seed, (wnid, _) in enumerate(synsets[:3]):
        for k in range(3):
            save(folder / "train" / wnid / f"{wnid}_{10 * k + 1}.JPEG", photograph(10 * seed + k))
    truth = [2, 3, 1, 2]
    for number, place in enumerate(truth, 1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        save(folder / "val" / (synsets[place - 1][0] if sorted_val else "") / name, photograph(100 + number))
    if not sorted_val:
        data = folder / "ILSVRC2012_devkit_t12" / "data"
        data.mkdir(parents=True)
        fields = [
            ("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O"), ("children", "O"),
            ("wordnet_height", "O"), ("num_train_images", "O"),
        ]  # fmt: skip
        table = np.zeros((4, 1), dtype=fields)
        for k, (wnid, words) in enumerate(synsets):
            children = 0 if k < 3 else 3
            table[k, 0] = (k + 1, wnid, words, "a gloss", children, np.arange(children), 0, 3)
        scipy.io.savemat(data / "meta.mat", {"synsets": table})
        lines = "".join(f"{n}\n" for n in truth)
        (data / "ILSVRC2012_validation_ground_truth.txt").write_text(lines, encoding="ascii")
    return folder


def oxford_iiit_pet(root: Path) -> Path:
    """A list with # lines and no header, trimaps of 1, 2, 3, photographs that the list leaves out, stray files of a Mac."""
    folder = root / "oxford-iiit-pet"
    lines = [
        "#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids", "#SPECIES: 1:Cat 2:Dog", "#BREED ID: 1-25:Cat 1:12:Dog",
        "#All images with 1st letter as captial are cat images", "#images with small first letter are dog images",
    ]  # fmt: skip
    for k, (name, numbers) in enumerate(
        (
            ("Abyssinian_100", "1 1 1"),
            ("Abyssinian_101", "1 1 1"),
            ("american_bulldog_10", "2 2 1"),
            ("beagle_116", "5 2 4"),
        )
    ):
        inside, border = box(8, 10, 24, 26), box(6, 8, 26, 28)
        trimap = np.full(SHAPE, 2, np.uint8)
        trimap[border], trimap[inside] = 3, 1
        save(folder / "images" / f"{name}.jpg", photograph(k, inside))
        save(folder / "annotations" / "trimaps" / f"{name}.png", trimap)
        lines.append(f"{name} {numbers}")
    save(folder / "images" / "Abyssinian_102.jpg", photograph(9))  # in no list
    (folder / "images" / "Abyssinian_100.mat").write_bytes(b"MATLAB")
    (folder / "annotations" / "trimaps" / "._Abyssinian_100.png").write_bytes(b"Mac")
    with Image.open(folder / "images" / "beagle_116.jpg") as image:
        image.convert("RGBA").save(folder / "images" / "beagle_116.jpg", format="PNG")
    (folder / "annotations" / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def voc2012(root: Path) -> Path:
    """Masks with a palette and a border of 255. Two small people cover more than the one horse, which is the largest object."""
    folder = root / "VOCdevkit" / "VOC2012"
    names = ("2007_000032", "2007_000039", "2008_000002")
    for k, name in enumerate(names):
        horse, first, second = box(4, 10, 20, 24), box(4, 26, 20, 34), box(22, 10, 34, 20)
        if k == 2:
            first = second = box(0, 0, 0, 0)
        classes, objects = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        for number, (inside, value) in enumerate(((first, 15), (horse, 13), (second, 15)), 1):
            classes[inside], objects[inside] = value, number
        classes[box(20, 10, 21, 24)] = objects[box(20, 10, 21, 24)] = 255
        save(folder / "JPEGImages" / f"{name}.jpg", photograph(k, (classes > 0) & (classes < 255)))
        save(folder / "SegmentationClass" / f"{name}.png", classes, palette=True)
        save(folder / "SegmentationObject" / f"{name}.png", objects, palette=True)
    save(folder / "JPEGImages" / "2009_000001.jpg", photograph(7))  # one of the many without a mask
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, chosen in (("train", names[:2]), ("val", names[2:]), ("trainval", names)):
        (lists / f"{name}.txt").write_text("".join(f"{n}\n" for n in chosen), encoding="ascii")
    return folder


def coco2017(root: Path) -> Path:
    """Polygons in one or two pieces, a crowd as runs, a photograph with a crowd only and one without annotations."""
    folder = root / "coco"
    categories = [
        {"supercategory": "person", "id": 1, "name": "person"},
        {"supercategory": "animal", "id": 18, "name": "dog"},
    ]
    for part, numbers in (("train", (9, 25, 30, 34, 36)), ("val", (139,))):
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for number in numbers:
            name = f"{number:012d}.jpg"
            images.append({"file_name": name, "height": SHAPE[0], "width": SHAPE[1], "id": number, "license": 3})
            dog = [[10, 5, 29, 5, 29, 24, 10, 24]]
            person = [[31, 20, 36, 20, 36, 30, 31, 30], [38, 20, 41, 20, 41, 30, 38, 30]]
            crowd = box(28, 10, 34, 20).T.ravel()
            counts = np.diff(np.flatnonzero(np.diff(crowd.astype(int), prepend=2, append=2)))
            runs = {"counts": counts.tolist(), "size": list(SHAPE)}
            kinds = {25: [(runs, 1, 5000.0, 1)], 30: []}.get(
                number, [(person, 1, 90.0, 0), (dog, 18, 361.0, 0), (runs, 1, 5000.0, 1)]
            )
            for shape, category, area, iscrowd in kinds:
                annotations.append({
                    "segmentation": shape, "area": area, "iscrowd": iscrowd, "image_id": number, "bbox": [0, 0, 1, 1],
                    "category_id": category, "id": len(annotations) + 1,
                })  # fmt: skip
            save(folder / f"{part}2017" / name, photograph(number, box(5, 10, 25, 30)))
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(content), encoding="utf-8")
        (folder / "annotations" / f"captions_{part}2017.json").write_text("{}", encoding="utf-8")
    return folder


def ade20k(root: Path) -> Path:
    """Masks of 0 to 150: a wall (1) with a door in it (15), a person (13), and what is nothing of these (0)."""
    folder = root / "ADEChallengeData2016"
    scenes: list[str] = []
    for part, short, count in (("training", "train", 4), ("validation", "val", 2)):
        for k in range(1, count + 1):
            name = f"ADE_{short}_{k:08d}"
            mask = np.ones(SHAPE, np.uint8)
            mask[box(0, 0, 6, 48)], mask[box(8, 10, 24, 26)], mask[box(26, 30, 34, 40)] = 0, 15, 13
            save(folder / "images" / part / f"{name}.jpg", photograph(len(scenes), (mask == 15) | (mask == 13)))
            save(folder / "annotations" / part / f"{name}.png", mask)
            scenes.append(f"{name} {('bedroom', 'street')[k % 2]}")
    (folder / "sceneCategories.txt").write_text("\n".join(scenes) + "\n", encoding="utf-8")
    (folder / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n", encoding="utf-8")
    return folder


def camvid_original(root: Path) -> Path:
    """Frames and masks in colour, the drive before the first underscore."""
    folder = root / "camvid_original"
    for k, name in enumerate(("0001TP_006690", "0006R0_f00930", "0016E5_00390", "Seq05VD_f00000", "Seq05VD_f00030")):
        mask = np.full((*SHAPE, 3), (128, 64, 128), np.uint8)  # road
        mask[box(0, 0, 6, 48)] = (0, 0, 0)
        mask[box(8, 10, 24, 26)] = (64, 0, 128)  # a car
        save(folder / "701_StillsRaw_full" / f"{name}.png", photograph(k, box(8, 10, 24, 26)))
        save(folder / "LabeledApproved_full" / f"{name}_L.png", mask)
    return folder


@dataclass(frozen=True)
class NaturalFake:
    """What a fake must give: pictures, classes (none: ""), groups, and where objects are in its first picture (None: no masks)."""

    make: Callable[[Path], Path]
    pictures: int
    classes: frozenset[str]
    groups: int
    inside: np.ndarray | None = None
    held_out: int = 0


_ANIMAL = box(8, 10, 24, 26)
NATURAL: dict[str, NaturalFake] = {
    "imagenet1k": NaturalFake(
        imagenet1k, 13, frozenset({"tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)"}), 13, held_out=4
    ),
    "imagenette": NaturalFake(
        fakes.class_folders, 18, frozenset({"tench", "English springer", "parachute"}), 18, held_out=6
    ),
    "oxford_iiit_pet": NaturalFake(
        oxford_iiit_pet, 4, frozenset({"Abyssinian", "american_bulldog", "beagle"}), 4, _ANIMAL
    ),
    "voc2012": NaturalFake(
        voc2012, 3, frozenset({"horse"}), 3, box(4, 10, 20, 24) | box(4, 26, 20, 34) | box(22, 10, 34, 20)
    ),
    "coco2017": NaturalFake(
        coco2017,
        4,
        frozenset({"dog"}),
        4,
        box(5, 10, 25, 30) | box(20, 31, 31, 37) | box(20, 38, 31, 42) | box(28, 10, 34, 20),
        held_out=1,
    ),  # fmt: skip
    "ade20k": NaturalFake(ade20k, 6, frozenset({"bedroom", "street"}), 6, _ANIMAL | box(26, 30, 34, 40), held_out=2),
    "camvid": NaturalFake(fakes.camvid, 12, frozenset({""}), 4, box(10, 15, 30, 35)),
    "camvid_original": NaturalFake(camvid_original, 5, frozenset({""}), 4, _ANIMAL),
}
