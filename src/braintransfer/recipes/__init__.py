"""Data sets as recipes: one YAML each, and the few loaders that they name. The door to this package."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from braintransfer.errors import BadInput
from braintransfer.recipes.checking import check, input_files, list_recipes, missing
from braintransfer.recipes.downloads import get
from braintransfer.recipes.files import refuse_overlaps
from braintransfer.recipes.matlab import matlab_images
from braintransfer.recipes.people import refuse_shared_people, refuse_too_few, who_is_there
from braintransfer.recipes.pictures import composited_images, folder_images
from braintransfer.recipes.quality import write_quality_page
from braintransfer.recipes.readable import LeftOut, refuse
from braintransfer.recipes.samples import SourceImage, SubjectScan
from braintransfer.recipes.scans import folder_scans
from braintransfer.recipes.schema import Recipe, load_recipe
from braintransfer.recipes.slices import lesion_slices, slice_images
from braintransfer.recipes.splitting import block_split, source_split

__all__ = [
    "Recipe", "SourceImage", "SubjectScan", "block_split", "check", "get", "images", "input_files", "list_recipes",
    "load_recipe", "missing", "refuse_overlaps", "refuse_shared_people", "refuse_too_few", "scans", "source_split", "who_is_there", "write_quality_page",
]  # fmt: skip


def images(
    recipe: Recipe, data_root: Path | str | None, n: int, size: int, seed: int, left_out: LeftOut | None = None
) -> Iterator[SourceImage]:
    """`n` pictures of a source (0: all there are), square with `size` pixels a side; the same for the same `seed`.

    Each has a group (`subject`), a mask of 0/1 and a class. Bad files are refused all at once; with `left_out` they are named to it,
    and others take their place, so that there are `n` all the same. BadInput when too few can be read, or when the recipe is
    not a set of pictures.
    """
    if recipe.kind == "images":
        yield from folder_images(recipe, data_root, n, size, seed, left_out)
    elif recipe.kind == "slices":
        yield from (matlab_images if recipe.matlab else slice_images)(recipe, data_root, n, size, seed, left_out)
    elif recipe.kind == "composited" and recipe.composite is not None:
        photographs = load_recipe(recipe.composite.photographs, data_root)
        yield from composited_images(recipe, photographs, data_root, n, size, seed, left_out=left_out)
    elif recipe.kind == "simulated" and recipe.generator in ("natural", "mri"):
        from braintransfer import simulate

        generate = simulate.simulated_natural if recipe.generator == "natural" else simulate.simulated_mri
        yield from generate(n, size, seed)
    elif recipe.kind == "semisynthetic" and recipe.slices is not None:
        yield from lesion_slices(recipe, scans(recipe, data_root, 0, seed, left_out=left_out), n, size, seed)
    else:
        raise BadInput(
            f"recipe {recipe.name} ({recipe.kind}) gives scans, not pictures; choose another for this source"
        )


def scans(
    recipe: Recipe,
    data_root: Path | str | None,
    limit: int,
    seed: int,
    spacing: float = 2.0,
    contrast: str | float | None = None,
    left_out: LeftOut | None = None,
    report: Callable[[str], None] | None = None,
) -> Iterator[SubjectScan]:
    """The scans of `limit` people of a target (0: everybody), each on its own grid; the same for the same `seed`.

    `spacing` (mm) is that of simulated scans only; `contrast` ("real", "demo" or a number; 1.0 for the null check) that
    of inserted lesions only. Bad files are refused all at once; with `left_out` they are left out and named to it.
    `report` gets a line where people cannot be drawn evenly over age. BadInput when the recipe holds pictures.
    """
    if recipe.kind == "volumes":
        yield from folder_scans(recipe, data_root, limit, seed, left_out, report)
    elif recipe.kind == "semisynthetic" and recipe.lesions is not None:
        from braintransfer.recipes import screening
        from braintransfer.recipes.semisynthetic import semisynthetic_scans

        background = load_recipe(recipe.lesions.background, data_root)
        libraries = [
            (library, load_recipe(library.recipe, data_root).root(data_root) / library.folder)
            for library in recipe.lesions.libraries
        ]
        chosen = recipe.lesions.contrast if contrast is None else contrast
        if left_out is not None:
            background, libraries = screening.usable(background, libraries, data_root, left_out)
            made = semisynthetic_scans(recipe, background, libraries, data_root, 0, seed, chosen)  # type: ignore[arg-type]
            yield from itertools.islice(made, limit or None)
            return
        try:
            yield from semisynthetic_scans(recipe, background, libraries, data_root, limit, seed, chosen)  # type: ignore[arg-type]
        except BadInput:
            refuse(screening.unreadable(background, libraries, data_root), f"the files of {recipe.name}")
            raise
    elif recipe.kind == "simulated" and recipe.generator in ("stroke", "ms", "anatomy"):
        from braintransfer import simulate

        drawn = "demo" if contrast is None else contrast
        yield from simulate.simulated_target(recipe.generator, limit, spacing, seed, drawn)  # type: ignore[arg-type]
    else:
        raise BadInput(
            f"recipe {recipe.name} ({recipe.kind}) gives pictures, not scans; choose another for this target"
        )
