"""From scans or pictures on disk (or simulated ones) to a slice store with splits: the work of the `prepare` stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import nibabel as nib
import numpy as np

from braintransfer import recipes, study, volumes
from braintransfer.errors import BadInput
from braintransfer.provenance import (
    code_hash,
    digest,
    files_digest,
    is_done,
    only_writer,
    project_root,
    stage_key,
    start_anew,
    write_manifest,
)
from braintransfer.recipes.files import some
from braintransfer.recipes.semisynthetic import drawn_by
from braintransfer.settings import PrepareSettings
from braintransfer.store import Store, StoreWriter, open_store, target_folds

#: Share of a source's groups (people, photographs, blocks) that is held out to see whether it learned.
VALIDATION_SHARE = 0.15
#: Voxel size of simulated scans in parts of the working grid's: as in life, a scan is finer than what the network sees.
OWN_SPACING = 0.75
#: Share of a brain that the slices of a target may lose at their rim; what lies there can only be missed.
MOST_CUT = 0.005


def prepare(settings: PrepareSettings, report: Callable[[str], None] = print) -> Store:
    """Make the slice store of `settings.dataset`, or open it when this very store is there already."""
    recipe = recipes.load_recipe(settings.recipe, settings.data_root)
    # what is missing is named where it would be read
    files = recipes.input_files(recipe, settings.data_root, (lambda _: None) if settings.skip_bad else None)
    inputs = {
        "recipe": digest(recipe.model_dump(mode="json")),
        "files": files_digest(files, settings.data_root) if files and settings.data_root else "built-in",
    }
    code = code_hash(project_root() / "notebooks" / "prepare.ipynb")
    parameters = settings.model_dump()
    key = stage_key("prepare", parameters, code, inputs)
    with only_writer(settings.folder):
        if is_done(settings.folder, key):
            report(f"{settings.dataset}: already prepared")
            return open_store(settings.folder)
        start = time.perf_counter()
        start_anew(settings.folder)
        fill = _fill_source if settings.role == "source" else fill_target
        facts = fill(settings, recipe, report)
        facts |= {
            "dataset": settings.dataset,
            "recipe": recipe.name,
            "kind": recipe.kind,
            "title": recipe.title,
            "licence": recipe.licence,
            "citation": recipe.citation,
            "simulated": recipe.simulated,
            "publish": recipe.publish,
        }
        write_manifest(
            settings.folder, stage="prepare", key=key, parameters=parameters, code=code, inputs=inputs,
            facts=facts, seconds=round(time.perf_counter() - start, 1), device="cpu",
        )  # fmt: skip
    return open_store(settings.folder)


def _progress(report: Callable[[str], None], what: str) -> Callable[[int], None]:
    last = time.perf_counter()

    def tick(n: int) -> None:
        nonlocal last
        if time.perf_counter() - last > 5:
            last = time.perf_counter()
            report(f"  {n} {what} so far")

    return tick


def _fill_source(settings: PrepareSettings, recipe: recipes.Recipe, report: Callable[[str], None]) -> dict[str, Any]:
    height, width = settings.size
    writer: StoreWriter | None = None
    labels: dict[str, int] = {}
    subjects: dict[str, dict[str, int]] = {}
    n = 0
    tick = _progress(report, "images")
    if height != width:
        raise BadInput(f"size = {settings.size}: the pictures of a source are square; give the same number twice")
    left_out: list[str] = []
    bad = _noting(left_out, settings, report) if settings.skip_bad else None
    seed = study.stream_seed(settings.seed, recipe.name)
    for item in recipes.images(recipe, settings.data_root, settings.images, height, seed, bad):
        if writer is None:
            writer = StoreWriter(settings.folder, item.image.shape)
        writer.add(
            item.image[None], item.mask[None], subject=item.subject, scan=item.scan, slices=[n], label=item.label
        )
        labels[item.label] = labels.get(item.label, 0) + 1
        of_group = subjects.setdefault(item.subject, {})
        of_group[item.label] = of_group.get(item.label, 0) + 1
        n += 1
        tick(n)
    if writer is None or n < 2:
        raise BadInput(
            f"recipe {recipe.name}: found {n} images in {settings.data_root}; see `braintransfer data check {recipe.name}`"
        )
    train, validation, dropped = recipes.source_split(recipe, list(subjects), VALIDATION_SHARE, settings.seed, subjects)
    table = writer.finish({"train": train, "validation": validation, "dropped": dropped})
    counts = table.groupby("subject").size()
    report(f"{settings.dataset}: {n} images, {len(subjects)} groups, {len(labels)} classes")
    return {
        "images": n,
        "images_train": int(counts.reindex(train).sum()),
        "images_validation": int(counts.reindex(validation).sum()),
        "groups": len(subjects),
        "group_means": recipe.group_means,
        "classes": dict(sorted(labels.items())),
        "left_out": left_out,
    }


def _noting(left_out: list[str], settings: PrepareSettings, report: Callable[[str], None]) -> Callable[[str], None]:
    """Keeps what is said of each file that is left out, with paths from the data folder on, and shows it."""

    def note(sentence: str) -> None:
        left_out.append(sentence.replace(f"{settings.data_root}/", ""))
        report(f"  left out: {left_out[-1]}")

    return note


def fill_target(settings: PrepareSettings, recipe: recipes.Recipe, report: Callable[[str], None]) -> dict[str, Any]:
    """Write arrays, tables, splits and references of a target's store, all but its manifest; returns the manifest's facts."""
    height, width = settings.size
    classes = study.CLASSES[settings.target]
    writer = StoreWriter(settings.folder, (height, width))
    references = settings.folder / "references"
    references.mkdir(parents=True, exist_ok=True)
    people: dict[str, dict[str, Any]] = {}
    cut = 0
    tick = _progress(report, "scans")
    seed = study.stream_seed(settings.seed, recipe.name)
    left_out: list[str] = []
    bad = _noting(left_out, settings, report) if settings.skip_bad else None
    spacing = OWN_SPACING * settings.spacing
    for n, item in enumerate(
        recipes.scans(recipe, settings.data_root, settings.subjects, seed, spacing, left_out=bad, report=report), 1
    ):
        grid = volumes.working_grid(item.image, item.brain, settings.spacing, (height, width))
        brain = volumes.labels_to_grid(item.brain.astype(np.uint8), item.image.affine, grid, 1) > 0
        image = volumes.to_uint8(volumes.to_grid(item.image.data, item.image.affine, grid), brain)
        mask = volumes.labels_to_grid(item.mask, item.image.affine, grid, len(classes))
        cut += grid.outside
        share = grid.outside / max(int(item.brain.sum()), 1)
        if share > MOST_CUT:
            small = volumes.size_for(item.image, item.brain, settings.spacing)
            raise BadInput(
                f"{item.image.path}: {share:.1%} of the brain does not fit on slices of {height} x {width} at {settings.spacing:g} mm; "
                f"set `size` to at least {list(small)} in the profile, or a coarser `spacing`"
            )
        shown = np.flatnonzero(brain.any(axis=(0, 1)))
        volume_ml = float(np.prod(item.image.spacing)) / 1000
        writer.add(
            volumes.to_slices(image)[shown], volumes.to_slices(mask)[shown],
            subject=item.subject, scan=item.scan, site=item.site, slices=[int(k) for k in shown],
            geometry={
                "grid": asdict(grid),
                "own": {"shape": list(item.mask.shape), "affine": item.image.affine.tolist(), "spacing": [float(s) for s in item.image.spacing]},
                "age": item.age,
                "reference_ml": {name: round(float((item.mask == k + 1).sum()) * volume_ml, 4) for k, name in enumerate(classes)},
                "notes": item.notes,
            },
        )  # fmt: skip
        for kind, array in (("mask", item.mask), ("brain", item.brain.astype(np.uint8))):
            nib.save(
                nib.Nifti1Image(array.astype(np.uint8), item.image.affine), references / f"{item.scan}_{kind}.nii.gz"
            )
        person = people.setdefault(item.subject, {"age": item.age, "site": item.site, "scans": 0, "lesion_ml": 0.0})
        person["scans"] += 1
        person["lesion_ml"] += float((item.mask > 0).sum()) * volume_ml
        tick(n)
    if not people:
        raise BadInput(
            f"recipe {recipe.name}: found no scan in {settings.data_root}; see `braintransfer data check {recipe.name}`"
        )
    splits = _target_splits(settings, people, report)
    table = writer.finish(splits)
    report(f"{settings.dataset}: {len(people)} people, {len(writer._scans)} scans, {len(table)} slices")
    return {
        "people": len(people),
        "scans": len(writer._scans),
        "slices": len(table),
        "brain_voxels_outside_grid": cut,
        "left_out": left_out,
        # which null check speaks for these lesions
        "drawn_by": drawn_by(recipe) if recipe.lesions is not None else "",
        "spacing": settings.spacing,
    }


def _target_splits(
    settings: PrepareSettings, people: dict[str, dict[str, Any]], report: Callable[[str], None]
) -> dict[str, Any]:
    names = list(people)
    if settings.role == "showcase":
        return {"folds": [{"train": [], "validation": [], "test": names, "order": [[]]}]}
    sites = [people[n]["site"] for n in names]
    strata = _strata(settings.target, [people[n] for n in names])
    if strata is None:
        unknown = some([n for n in names if people[n]["age"] is None])
        report(
            f"{settings.dataset}: no age of {unknown}, so folds are not balanced by age; write it into the table of people"
        )
    return target_folds(
        names, folds=settings.folds, n_validation=settings.n_validation, n_test=settings.n_test,
        rng=study.stream(settings.seed, f"split:{settings.dataset}"),
        strata=strata, sites=sites if all(sites) else None,
    )  # fmt: skip


def _strata(target: str, people: list[dict[str, Any]]) -> list[str] | None:
    """What the parts of a fold are balanced by: thirds of the lesion load, or age for anatomy; None where it is unknown.

    Loads spread over three orders of magnitude. Unbalanced, one fold of six may hold nothing but the smallest lesions.
    """
    if target == "anatomy":
        ages = [p["age"] for p in people]
        if any(a is None for a in ages):
            return None
        return ["under 30" if a < 30 else "over 45" if a > 45 else "30 to 45" for a in ages]
    ranks = np.argsort(np.argsort([p["lesion_ml"] for p in people], kind="stable"), kind="stable")
    return [("small", "medium", "large")[3 * int(r) // len(people)] for r in ranks]
