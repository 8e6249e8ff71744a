"""Which sets are there, and what is missing, doubled, misaligned or mislabelled in one: plain sentences, all at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from braintransfer.errors import BadInput
from braintransfer.provenance import sha256_bytes
from braintransfer.recipes.files import how_to_get, match_files, people_of, scan_files, with_headers
from braintransfer.recipes.matlab import check_matlab, matlab_files
from braintransfer.recipes.picture_sets import disagreements, list_files, picture_files
from braintransfer.recipes.pictures import label_of, read_mask_of, read_picture
from braintransfer.recipes.readable import LeftOut, same_pictures
from braintransfer.recipes.scans import read_subject_scan, refuse_missing
from braintransfer.recipes.schema import Library, Recipe, every_recipe, load_recipe
from braintransfer.recipes.slices import check_slices, slice_inputs
from braintransfer.volumes import read_mask


def list_recipes(data_root: Path | str | None = None) -> list[dict[str, str]]:
    """Rows of name, title, kind, licence, size, access, cells and `present` (present, missing, built-in or template)."""
    rows = []
    for recipe in every_recipe(data_root):
        if recipe.kind == "simulated":
            present = "built-in"
        elif recipe.template and recipe.bundled:
            present = "template"
        else:
            present = "missing" if missing(recipe, data_root) else "present"
        rows.append(
            {
                "name": recipe.name, "title": recipe.title, "kind": recipe.kind, "licence": recipe.licence,
                "size": recipe.access.size, "access": recipe.access.how, "cells": " ".join(recipe.cells), "present": present,
            }
        )  # fmt: skip
    return rows


def needed_sets(recipe: Recipe, data_root: Path | str | None) -> list[tuple[Recipe, Library | None]]:
    """The sets of files that a recipe stands on: itself, or the photographs, backgrounds and libraries that it names."""
    if recipe.kind == "simulated":
        return []
    if recipe.composite is not None:
        return [(load_recipe(recipe.composite.photographs, data_root), None)]
    if recipe.lesions is not None:
        libraries = [(load_recipe(x.recipe, data_root), x) for x in recipe.lesions.libraries]
        return [(load_recipe(recipe.lesions.background, data_root), None), *libraries]
    if recipe.kind == "masks":
        return [(recipe, Library(recipe=recipe.name, pattern=recipe.patterns.mask))]
    return [(recipe, None)]


def missing(recipe: Recipe, data_root: Path | str | None, left_out: LeftOut | None = None) -> str:
    """One line that says what is not there at all and how to get it; empty when the set can be started on.

    With `left_out`, single files that are missing are named to it and do not count.
    """
    for part, library in needed_sets(recipe, data_root):
        if data_root is None:
            return f"recipe {recipe.name} needs a folder of data sets; give it with --data (make: DATA=)"
        folder = part.root(data_root) / (library.folder if library else "")
        pattern = library.pattern if library else ""
        if not folder.is_dir() or (pattern and not match_files(folder, pattern)):
            return f"{folder}: data of {recipe.name} is missing; {how_to_get(part)}"
        if library is None:
            try:
                _files(part, data_root, left_out)
                if part.kind == "volumes" and left_out is None:
                    refuse_missing(part.root(data_root), scan_files(part, data_root))
            except BadInput as error:
                return str(error)
    return ""


def _files(recipe: Recipe, data_root: Path | str | None, left_out: LeftOut | None = None) -> list[Path]:
    root = recipe.root(data_root)
    if recipe.kind == "images":
        pictures = picture_files(recipe, data_root, left_out)
        return list_files(recipe, root) + [p for f in pictures for p in (f.image, f.mask, f.objects) if p is not None]
    if recipe.matlab is not None:
        return [path for _, path in matlab_files(recipe, data_root)]
    if recipe.kind == "slices":
        return slice_inputs(recipe, data_root, left_out)
    tables = [root / recipe.people.file] if recipe.people is not None else []
    scans = scan_files(recipe, data_root)
    return tables + with_headers(p for f in scans for p in (f.image, f.mask, f.brain, *f.more_masks) if p is not None)


def input_files(recipe: Recipe, data_root: Path | str | None, left_out: LeftOut | None = None) -> list[Path]:
    """Every file that the recipe reads (all masks of its libraries too), sorted; empty for simulated sets.

    With `left_out`, what is missing is named to it and left out.
    """
    found: set[Path] = set()
    for part, library in needed_sets(recipe, data_root):
        if library is None:
            found.update(_files(part, data_root, left_out))
        else:
            masks = match_files(part.root(data_root) / library.folder, library.pattern)
            found.update(with_headers(path for path, _ in masks))
    return sorted(found)


def check(recipe: Recipe, data_root: Path | str | None) -> list[str]:
    """Walk a set and say in plain sentences what is wrong with it, every bad file at once; empty when all is well."""
    sentences: list[str] = []
    for part, library in needed_sets(recipe, data_root):
        try:
            if library is not None:
                sentences += _check_library(part, library, data_root)
            elif part.kind == "images":
                sentences += _check_pictures(part, data_root)
            elif part.matlab is not None:
                sentences += check_matlab(part, data_root)
            elif part.kind == "slices":
                sentences += check_slices(part, data_root)
            else:
                sentences += _check_scans(part, data_root)
        except BadInput as error:  # the walk itself could not start
            sentences.append(str(error))
    return list(dict.fromkeys(sentences))


def _check_scans(recipe: Recipe, data_root: Path | str | None) -> list[str]:
    files = scan_files(recipe, data_root)
    sentences: list[str] = []
    have = {f.scan for f in files} | {f.subject for f in files} | {f.named for f in files}
    root = recipe.root(data_root)
    for name in people_of(recipe, root):
        if name not in have and not recipe.only:
            sentences.append(
                f"{root}: {name} stands in the table of people but has no scan; get it, or take the row out"
            )
    pictures: dict[str, list[str]] = {}
    for f in files:
        try:
            item = read_subject_scan(recipe, f)
        except BadInput as error:
            sentences.append(str(error))
            continue
        pictures.setdefault(sha256_bytes(item.image.data.tobytes()), []).append(f.scan)
        if f.mask is not None and not item.mask.any():
            sentences.append(f"{f.mask}: mask is empty (no labelled voxel); leave the scan out if it should not be")
        labelled = int((item.mask > 0).sum())
        outside = int(((item.mask > 0) & ~item.brain).sum())
        if labelled and outside > 0.1 * labelled:
            sentences.append(
                f"{f.mask}: {100 * outside / labelled:.0f} % of the labelled voxels lie outside the brain; misaligned?"
            )
    return sentences + same_pictures(root, pictures, "scans ")


def _check_pictures(recipe: Recipe, data_root: Path | str | None) -> list[str]:
    sentences: list[str] = []
    files = picture_files(recipe, data_root, sentences.append)
    root = recipe.root(data_root)
    sentences += _doubled(f.image.relative_to(root).as_posix() for f in files)
    sentences += disagreements(recipe, root, files)
    seen: dict[str, list[tuple[str, str]]] = {}
    for f in files:
        try:
            image = read_picture(f.image)
            shape = (image.shape[0], image.shape[1])
            read_mask_of(recipe, f, shape)
            label = label_of(recipe, f, shape)
        except BadInput as error:
            sentences.append(str(error))
            continue
        name = f.group if f.group.endswith(f.sample) else f"{f.group}/{f.sample}"
        seen.setdefault(sha256_bytes(np.ascontiguousarray(image).tobytes()), []).append((name, label))
    for alike in seen.values():
        labels = sorted({label for _, label in alike})
        names = " and ".join(name for name, _ in alike)
        if len(labels) > 1:
            sentences.append(
                f"{root}: {names} are the same picture with classes {' and '.join(labels)}; keep the right one"
            )
        elif len(alike) > 1:
            sentences.append(f"{root}: {names} are the same picture; keep one")
    return sentences


def _check_library(recipe: Recipe, library: Library, data_root: Path | str | None) -> list[str]:
    folder = recipe.root(data_root) / library.folder
    found = match_files(folder, library.pattern)
    if not found:
        return [f"{folder}: no lesion mask fits {library.pattern}; {how_to_get(recipe)}"]
    sentences = []
    masks: dict[str, list[str]] = {}
    for path, _ in found:
        try:
            mask = read_mask(path, values={0, 1})
        except BadInput as error:
            sentences.append(str(error))
            continue
        if mask.any():
            same = sha256_bytes(mask.tobytes())
            masks.setdefault(same, []).append(path.relative_to(folder).as_posix())
        else:
            sentences.append(f"{path}: mask is empty; take it out")
    return sentences + same_pictures(folder, masks)


def _doubled(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    twice = []
    for name in names:
        if name in seen:
            twice.append(f"sample {name} is there twice; keep one")
        seen.add(name)
    return twice
