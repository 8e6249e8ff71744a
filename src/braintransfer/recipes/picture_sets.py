"""From the patterns, lists and annotation files of a recipe to the pictures of a set: which file, class, group and mask."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from braintransfer.errors import BadInput
from braintransfer.recipes.files import fill, how_to_get, match_files, read_table, some
from braintransfer.recipes.readable import LeftOut, refuse
from braintransfer.recipes.schema import Recipe, SampleTable
from braintransfer.recipes.splitting import HELD_OUT

Outline = np.ndarray | dict[str, Any]


@dataclass(frozen=True)
class DrawnObjects:
    """The objects of one picture as an annotation file gives them, for a picture of `shape` (H, W).

    An outline is a polygon, float32 (n, 2) of x and y in pixels, or `{"counts": [...], "size": [H, W]}`: runs of 0 and 1 in
    turn, column by column.
    """

    shape: tuple[int, int]
    outlines: tuple[Outline, ...]


@dataclass(frozen=True)
class PictureFiles:
    """Where one picture lies, its class and the group that it is split by.

    `label` is "" where the class is that of the largest object in `objects`. The mask is a file or is drawn.
    """

    group: str
    sample: str
    label: str
    image: Path
    mask: Path | None = None
    objects: Path | None = None
    drawn: DrawnObjects | None = field(default=None, compare=False, repr=False)


def picture_files(recipe: Recipe, data_root: Path | str | None, left_out: LeftOut | None = None) -> list[PictureFiles]:
    """Every picture of an image set, in the set's own order.

    The pictures are those of COCO's annotation files, where the recipe has them; of the table of samples, where it gives
    all that the picture's pattern asks for; else those that fit the patterns. BadInput when the folder is missing, nothing
    fits, or pictures and lists do not agree (all that disagree are counted); with `left_out`, pictures that a list names and
    that are missing are named to it and left out instead.
    """
    root = recipe.root(data_root)
    if not root.is_dir():
        raise BadInput(f"{root}: folder of {recipe.name} is missing; {how_to_get(recipe)}")
    table = recipe.samples
    if recipe.patterns.coco:
        return _from_coco(recipe, root, left_out)
    if table is not None and set(re.findall(r"\{(\w+)\}", recipe.patterns.image[0])) <= {"sample", "label", "group"}:
        return _from_table(recipe, table, root, left_out)
    return _from_patterns(recipe, table, root)


def list_files(recipe: Recipe, root: Path) -> list[Path]:
    """The tables and annotation files that say what the pictures are."""
    files = [root / recipe.samples.file] if recipe.samples is not None else []
    files += [path for path, _ in match_files(root, recipe.patterns.coco)] if recipe.patterns.coco else []
    devkit = _devkit_files(root / recipe.devkit) if recipe.devkit else ()
    return files + [path for path in devkit if path.is_file()]


def sample_rows(table: SampleTable, root: Path) -> list[dict[str, str]]:
    """Rows of a table of pictures, with or without a header line. BadInput when it is missing or lacks a column."""
    path = root / table.file
    if not table.columns:
        return read_table(path, table.separator, [table.sample, table.label, table.group])
    if not path.is_file():
        raise BadInput(f"{path}: list is missing; get the whole set, or mend the recipe")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a text table ({error.reason}); save it as UTF-8") from error
    rows = [line.split(table.separator if table.separator.strip() else None) for line in lines]
    short = [k for k, row in enumerate(rows, 1) if row and not row[0].startswith("#") and len(row) < len(table.columns)]
    if short:
        raise BadInput(f"{path}: line {short[0]} has fewer than {len(table.columns)} columns; get the list again")
    return [dict(zip(table.columns, row, strict=False)) for row in rows if row and not row[0].startswith("#")]


# ------------------------------------------------------------------------------------------------ tables and patterns


def _from_table(recipe: Recipe, table: SampleTable, root: Path, left_out: LeftOut | None = None) -> list[PictureFiles]:
    found, absent = [], []
    rows = sample_rows(table, root)
    for row in rows:
        fields = {"sample": row[table.sample], "label": row.get(table.label, ""), "group": row.get(table.group, "")}
        item = _picture(recipe, root, root / fill(recipe.patterns.image[0], fields), fields, fields["label"])
        needed = (item.image, item.mask, item.objects)
        gone = [
            f"{p}: named in {table.file} but missing; get it, or take the row out"
            for p in needed
            if p is not None and not p.is_file()
        ]
        absent += gone
        if gone and left_out is not None:
            left_out(gone[0])
        else:
            found.append(item)
    if left_out is None:
        refuse(absent, f"the files of {len(rows)} pictures of {recipe.name}")
    if not found and rows:
        raise BadInput(f"{root}: no picture of {table.file} is there; get the whole set")
    if not found:
        raise BadInput(f"{root / table.file}: names no sample; get the whole set")
    return found


def _from_patterns(recipe: Recipe, table: SampleTable | None, root: Path) -> list[PictureFiles]:
    rows = {row[table.sample]: row for row in sample_rows(table, root)} if table else {}
    names, truth = _read_devkit(root / recipe.devkit) if recipe.devkit else ({}, [])
    found, strangers = [], []
    for pattern in recipe.patterns.image:
        for path, fields in match_files(root, pattern):
            label = fields.get("label", "")
            if table:
                row = rows.get(fields.get("sample", path.stem))
                if row is None:
                    strangers.append(path.relative_to(root).as_posix())
                    continue
                label = row.get(table.label, label)
                fields["group"] = row.get(table.group, "") or fields.get("group", "")
            if recipe.devkit and "label" not in fields:
                label = _numbered(path, fields.get("sample", ""), truth, root / recipe.devkit)
            found.append(_picture(recipe, root, path, fields, names.get(label, label)))
    if strangers:
        raise BadInput(
            f"{root / (table.file if table else '')}: no row for {some(strangers)}, whose pictures are there; "
            "add the rows, or take the pictures out"
        )
    if not found:
        raise BadInput(f"{root}: no picture fits {' or '.join(recipe.patterns.image)}; {how_to_get(recipe)}")
    return found


def _picture(recipe: Recipe, root: Path, image: Path, fields: dict[str, str], label: str) -> PictureFiles:
    sample = fields.get("sample", image.stem)
    group = fields.get("group") or sample
    if fields.get("group") and recipe.samples is None:
        sample = f"{group}_{sample}"  # the same number may stand in every group
    if recipe.split.method == "part":
        group = f"{fields.get('part', '')}/{group}"
    mask, objects = (root / fill(p, fields) if p else None for p in (recipe.patterns.mask, recipe.patterns.objects))
    return PictureFiles(group, sample, recipe.classes.get(label, label), image, mask, objects)


# ------------------------------------------------------------------------------------------------ ImageNet's development kit


def _devkit_files(devkit: Path) -> tuple[Path, Path]:
    return devkit / "data" / "meta.mat", devkit / "data" / "ILSVRC2012_validation_ground_truth.txt"


def _read_devkit(devkit: Path) -> tuple[dict[str, str], list[str]]:
    """Class folder -> name of the class, and the class folder of each validation picture in order; empty without the kit.

    Two classes are called "crane": where a name comes twice its code is added.
    """
    meta, truth = _devkit_files(devkit)
    if not meta.is_file():
        return {}, []
    try:
        synsets = scipy.io.loadmat(meta, squeeze_me=True)["synsets"]
        leaves = [s for s in np.atleast_1d(synsets) if int(s["num_children"]) == 0]
        folder = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in leaves}
        words = {str(s["WNID"]): str(s["words"]) for s in leaves}
        numbers = [int(line) for line in truth.read_text(encoding="ascii").split()] if truth.is_file() else []
        validation = [folder[number] for number in numbers]
    except (KeyError, ValueError, TypeError, OSError, OverflowError, MemoryError, MatReadError, zlib.error) as error:
        raise BadInput(f"{devkit}: not ImageNet's development kit ({error}); unpack it again") from error
    times = Counter(words.values())
    return {code: name if times[name] == 1 else f"{name} ({code})" for code, name in words.items()}, validation


def _numbered(path: Path, sample: str, truth: list[str], devkit: Path) -> str:
    """The class of validation picture number `sample`, counted from 1."""
    if not truth:
        raise BadInput(
            f"{path}: lies in no class folder, and {devkit} with the classes of validation pictures is missing; "
            "unpack ImageNet's development kit there, or sort the pictures into class folders"
        )
    if not sample.isdigit() or not 1 <= int(sample) <= len(truth):
        raise BadInput(f"{path}: the development kit has classes of pictures 1 to {len(truth)} only; mend the name")
    return truth[int(sample) - 1]


# ------------------------------------------------------------------------------------------------ COCO's annotation files


def _from_coco(recipe: Recipe, root: Path, left_out: LeftOut | None = None) -> list[PictureFiles]:
    """Pictures with at least one whole object; the class is that of the largest, a crowd counts for the mask only."""
    files = match_files(root, recipe.patterns.coco)
    if not files:
        raise BadInput(f"{root}: no annotation file fits {recipe.patterns.coco}; {how_to_get(recipe)}")
    found, absent = [], []
    for path_of_list, fields in files:
        try:
            # Outlines shrink as they are read: as plain lists those of the training set would take gigabytes.
            content = json.loads(path_of_list.read_text(encoding="utf-8"), object_hook=_shrunk)
            names = {c["id"]: c["name"] for c in content["categories"]}
            objects: dict[int, list[dict[str, Any]]] = {}
            for item in content["annotations"]:
                objects.setdefault(item["image"], []).append(item)
            for image in sorted(content["images"], key=lambda i: i["file_name"]):
                whole = [o for o in objects.get(image["id"], []) if not o["crowd"]]
                if not whole:
                    continue
                largest = max(whole, key=lambda o: o["area"])
                named = fields | {"sample": Path(image["file_name"]).stem}
                path = root / fill(recipe.patterns.image[0], named)
                if not path.is_file():
                    absent.append(f"{path}: named in the annotations but missing; get it")
                    if left_out is not None:
                        left_out(absent[-1])
                        continue
                outlines = tuple(part for o in objects[image["id"]] for part in o["outlines"])
                drawn = DrawnObjects((image["height"], image["width"]), outlines)
                plain = _picture(recipe, root, path, named, names[largest["category"]])
                found.append(PictureFiles(plain.group, plain.sample, plain.label, path, drawn=drawn))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise BadInput(
                f"{path_of_list}: not COCO's annotations of objects ({type(error).__name__}: {error}); download it again"
            ) from error
    if left_out is None:
        refuse(absent, f"{len(found)} pictures of {recipe.name}")
    if not found:
        what = "no picture that they name is there" if absent else "the annotations name no object"
        raise BadInput(f"{root}: {what}; get the whole set")
    return found


def _shrunk(value: dict[str, Any]) -> dict[str, Any]:
    """An annotation without what is not needed, its outlines as arrays; other things as they are."""
    if "counts" in value and isinstance(value["counts"], list):
        return {"counts": np.asarray(value["counts"], np.int32), "size": value["size"]}
    if "segmentation" not in value:
        return value
    shapes = value["segmentation"]
    outlines = [shapes] if isinstance(shapes, dict) else [np.asarray(s, np.float32).reshape(-1, 2) for s in shapes]
    return {
        "image": value["image_id"], "category": value["category_id"], "area": float(value["area"]),
        "crowd": bool(value.get("iscrowd", 0)), "outlines": outlines,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ what check asks


def disagreements(recipe: Recipe, root: Path, files: list[PictureFiles]) -> list[str]:
    """Sentences on lists that do not agree with the pictures, or with themselves; what `picture_files` lets pass."""
    sentences = []
    table = recipe.samples
    if table is not None:
        place = root / table.file
        rows = sample_rows(table, root)
        twice = [name for name, n in Counter(row[table.sample] for row in rows).items() if n > 1]
        if twice:
            sentences.append(f"{place}: {some(twice)} listed twice; keep one row of each")
        unlabelled = [row[table.sample] for row in rows if table.label and not row.get(table.label)]
        if unlabelled:
            sentences.append(f"{place}: {some(unlabelled)} without a class; fill it in, or take the rows out")
        there = {f.sample for f in files}
        gone = [row[table.sample] for row in rows if row[table.sample] not in there]
        if gone:
            sentences.append(f"{place}: {some(gone)} listed, but no such picture; get it, or take the row out")
        if table.label_in_name:
            odd = [f"{f.sample} ({f.label})" for f in files if not f.sample.startswith(f"{f.label}_")]
            if odd:
                sentences.append(f"{place}: {some(odd)}: the class is not that of the file's name; mend the list")
    if recipe.split.method == "part" and not any(f.group.split("/")[0] in HELD_OUT for f in files):
        sentences.append(f"{root}: no folder named {' or '.join(HELD_OUT)} holds pictures; nothing could be held out")
    return sentences
