"""Scans of people with their references, one after another: from files on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.recipes.files import ScanFiles, scan_files
from braintransfer.recipes.samples import SubjectScan
from braintransfer.recipes.schema import Recipe
from braintransfer.volumes import Scan, brain_of, read_mask, read_scan


def read_subject_scan(recipe: Recipe, files: ScanFiles) -> SubjectScan:
    """Read one scan with its mask (zeros where the set has none) and its brain, all on the scan's own grid."""
    image = read_scan(files.image)
    mask = np.zeros(image.data.shape, np.uint8)
    if files.mask is not None:
        mask = read_mask(files.mask, image, labels=recipe.labels or {1: 1})
    brain = brain_of(image.data) if files.brain is None else read_mask(files.brain, image) > 0
    check_brain(image, brain)
    outside = int(((mask > 0) & ~brain).sum())
    notes: dict[str, object] = {"labelled_voxels_outside_brain": outside} if outside else {}
    return SubjectScan(files.subject, files.scan, files.site, files.age, image, mask, brain, notes)


def check_brain(image: Scan, brain: np.ndarray) -> None:
    """BadInput for a brain mask that cannot be one: none, or nearly the whole box (a scan that is not skull-stripped)."""
    millilitres = float(brain.sum() * np.prod(image.spacing) / 1000)
    if not brain.any():
        raise BadInput(f"{image.path}: no brain found; check `brain` in the recipe")
    if brain.mean() > 0.9 and brain.size > 50**3:
        raise BadInput(
            f"{image.path}: the background is not 0 ({millilitres:.0f} mL would be brain); strip the skull, "
            "or give a brain mask with `brain` in the recipe"
        )


def chosen_people(people: Sequence[tuple[str, float | None]], limit: int, seed: int) -> list[str]:
    """`limit` people (0: all) drawn with `seed`, in sorted order; where all ages are known, spread evenly over age."""
    names = sorted({name for name, _ in people})
    if not limit or limit >= len(names):
        return names
    rng = study.stream(seed, "which-people")
    ages = {name: age for name, age in people}
    if all(age is not None for age in ages.values()):
        by_age = sorted(names, key=lambda name: (ages[name], name))
        places = (np.arange(limit) + rng.random()) * len(names) / limit
        return sorted(by_age[int(p)] for p in places)
    return sorted(names[i] for i in rng.permutation(len(names))[:limit])


def folder_scans(recipe: Recipe, data_root: Path | str | None, limit: int, seed: int) -> Iterator[SubjectScan]:
    """All scans of `limit` people (0: everybody), one after another. BadInput that names every missing file at once."""
    found = scan_files(recipe, data_root)
    names = set(chosen_people([(f.subject, f.age) for f in found], limit, seed))
    found = [f for f in found if f.subject in names]
    missing = [p for f in found for p in (f.mask, f.brain) if p is not None and not p.is_file()]
    if missing:
        shown = ", ".join(str(p) for p in missing[:4])
        raise BadInput(
            f"{shown}: {len(missing)} file(s) missing beside their scans; get the whole set, or take the scans out"
        )
    for files in found:
        yield read_subject_scan(recipe, files)
