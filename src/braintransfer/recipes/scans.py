"""Scans of people with their references, one after another: from files on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.recipes.files import ScanFiles, scan_files, some
from braintransfer.recipes.readable import LeftOut, refuse
from braintransfer.recipes.samples import SubjectScan
from braintransfer.recipes.schema import Recipe
from braintransfer.volumes import Scan, brain_of, read_mask, read_scan

#: What fills a skull is at most about 2,000 mL; a head with its scalp has 3,000 and more.
LARGEST_ML = 2500

#: Said where a recipe names brain masks and they are not there. This project strips no skulls itself.
MAKE_BRAIN_MASKS = (
    "make it with a skull stripper, for instance `mri_synthstrip -i SCAN -m MASK` (FreeSurfer), on the scan's own grid"
)


def read_subject_scan(recipe: Recipe, files: ScanFiles) -> SubjectScan:
    """Read one scan with its mask (zeros where the set has none) and its brain, all on the scan's own grid.

    BadInput as `read_labelled` and `read_brain`.
    """
    image, mask = read_labelled(recipe, files.image, (files.mask, *files.more_masks))
    brain = read_brain(recipe, image, files.brain)
    outside = int(((mask > 0) & ~brain).sum())
    notes: dict[str, object] = {"labelled_voxels_outside_brain": outside} if outside else {}
    return SubjectScan(files.subject, files.scan, files.site, files.age, image, mask, brain, notes)


def read_labelled(recipe: Recipe, image: Path, masks: Iterable[Path | None]) -> tuple[Scan, np.ndarray]:
    """A scan with its mask as uint8 (X, Y, Z) of class indices (zeros where there is none), read as the recipe says.

    Several masks of a scan are joined: where they disagree the higher class stands. BadInput as `read_scan` and `read_mask`.
    """
    how = recipe.volume
    scan = read_scan(image, how.channel, how.stored_axes)
    mask = np.zeros(scan.data.shape, np.uint8)
    for path in masks:
        if path is not None:
            labels = recipe.labels or {1: 1}
            np.maximum(mask, read_mask(path, scan, None, labels, how.threshold, _same_voxels(recipe)), out=mask)
    return scan, mask


def read_brain(recipe: Recipe, scan: Scan, path: Path | None) -> np.ndarray:
    """The brain of a scan as bool (X, Y, Z): its mask at `path`, or what is not 0 where that is None.

    BadInput as `read_mask`, for a mask that is missing, and for one that can be no brain.
    """
    if path is None:
        brain = brain_of(scan.data)
    elif path.is_file():
        brain = read_mask(path, scan, same_voxels=_same_voxels(recipe)) > 0
    else:
        raise BadInput(f"{path}: brain mask is missing; {MAKE_BRAIN_MASKS}")
    check_brain(scan, brain)
    refuse_head(scan, brain)
    return brain


def _same_voxels(recipe: Recipe) -> bool:
    """Whether masks lie voxel on voxel, whatever headers say; where the scan's header is not asked, theirs are not either."""
    return recipe.volume.same_voxels or bool(recipe.volume.stored_axes)


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


def refuse_head(image: Scan, brain: np.ndarray) -> None:
    """BadInput for a "brain" of more than `LARGEST_ML`: a head with its skull on, in air that was set to 0 (as defacing does)."""
    millilitres = float(brain.sum() * np.prod(image.spacing) / 1000)
    if millilitres > LARGEST_ML:
        raise BadInput(
            f"{image.path}: its brain would have {millilitres:.0f} mL, more than any has; strip the skull, or give a brain mask"
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


def folder_scans(
    recipe: Recipe,
    data_root: Path | str | None,
    limit: int,
    seed: int,
    left_out: LeftOut | None = None,
    report: Callable[[str], None] | None = None,
) -> Iterator[SubjectScan]:
    """All scans of `limit` people (0: everybody), one after another.

    A bad scan stops the walk: the rest is read through, and one BadInput names every bad file. With `left_out`, a bad
    scan is left out instead and its sentence is given to `left_out`. Nothing is read when files are missing. `report` is told when
    a few unknown ages keep people from being drawn evenly over age.
    """
    found = scan_files(recipe, data_root)
    ages = {f.subject: f.age for f in found}
    names = set(chosen_people(list(ages.items()), limit, seed))
    unknown = [name for name, age in ages.items() if age is None]
    if report is not None and len(names) < len(ages) and 0 < len(unknown) < len(ages):
        report(
            f"{recipe.name}: no age of {some(unknown)}, so people are not drawn evenly over age; write it into the table"
        )
    found = [f for f in found if f.subject in names]
    if left_out is None:
        refuse_missing(recipe.root(data_root), found)
    bad: list[str] = []
    good = 0
    for files in found:
        try:
            item = read_subject_scan(recipe, files)
        except BadInput as error:
            (bad.append if left_out is None else left_out)(str(error))
            continue
        if not bad:
            good += 1
            yield item
    refuse(bad, f"{len(found)} scans of {recipe.name}")
    if not good:
        raise BadInput(
            f"recipe {recipe.name}: every scan is bad and left out; see `braintransfer data check {recipe.name}`"
        )


def refuse_missing(root: Path, found: Sequence[ScanFiles]) -> None:
    """BadInput, one line with every mask and brain mask that is not there."""
    masks = [p for f in found if (p := f.mask) is not None and not p.is_file()]
    brains = [p for f in found if (p := f.brain) is not None and not p.is_file()]
    if not masks and not brains:
        return
    listed = ", ".join(p.relative_to(root).as_posix() for p in dict.fromkeys([*masks, *brains]))
    what_to_do = ["get the whole set, or take the scans out"] if masks else []
    what_to_do += [f"brain masks: {MAKE_BRAIN_MASKS}"] if brains else []
    raise BadInput(
        f"{root}: {len(set(masks + brains))} file(s) missing beside their scans: {listed}; {'; '.join(what_to_do)}"
    )
