"""Pictures of a source cut from volumes: a few slices a scan, by a rule that the recipe states, one volume in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from braintransfer import study, volumes
from braintransfer.errors import BadInput
from braintransfer.provenance import sha256_bytes
from braintransfer.recipes.files import (
    fill,
    how_to_get,
    masks_of,
    match_files,
    number_in,
    people_of,
    read_table,
    some,
    with_headers,
)
from braintransfer.recipes.readable import LeftOut, drawn, refuse, same_pictures
from braintransfer.recipes.samples import SourceImage, SubjectScan
from braintransfer.recipes.scans import read_brain, read_labelled
from braintransfer.recipes.schema import ClassOf, Recipe

#: What each plane sees as x (right), y (up in the picture) and z (from slice to slice), in rows of the world's x, y and z.
PLANES = {"axial": np.eye(4), "coronal": np.eye(4)[[0, 2, 1, 3]]}
#: A slice counts as empty when it holds less brain than this share of the scan's fullest slice.
EMPTY = 0.05
#: A lesion shows on a slice when it covers at least this share of the picture: about as much as the smallest tumours of
#: brain_tumour_t1ce.
SHOWS = 0.001


@dataclass(frozen=True)
class SliceFiles:
    """Where one scan of one person lies; `label` is its class, None where each slice has its own (or the set has none).

    `more_masks` are further masks of the same scan; all together mark the object.
    """

    person: str
    scan: str
    label: str | None
    image: Path
    mask: Path | None
    brain: Path | None
    more_masks: tuple[Path, ...] = ()

    @property
    def masks(self) -> tuple[Path, ...]:
        """All masks of the scan; empty where the set has none."""
        return tuple(p for p in (self.mask, *self.more_masks) if p is not None)


def slice_files(recipe: Recipe, data_root: Path | str | None, left_out: LeftOut | None = None) -> list[SliceFiles]:
    """Every scan that the image patterns find and that has a class, sorted by person and scan.

    Whose a scan is stands in the table of people, else in its name. Scans whose class is empty in the table are left out, and
    with `one_scan` a person's further ones. BadInput when the folder is missing, nothing fits, a scan is found twice or has no
    row, or files are missing beside scans (all at once; with `left_out` these scans are named to it instead).
    """
    root, rule = recipe.root(data_root), recipe.slices
    assert rule is not None
    if not root.is_dir():
        raise BadInput(f"{root}: folder of {recipe.name} is missing; {how_to_get(recipe)}")
    rows = _class_rows(rule.class_of, root) if rule.class_of is not None and rule.class_of.table else {}
    people, table = people_of(recipe, root), recipe.people
    found: dict[str, SliceFiles] = {}
    strangers, absent, fits = dict[str, list[str]](), [], 0
    for pattern in recipe.patterns.image:
        for path, fields in match_files(root, pattern):
            fits += 1
            if table is None:
                person = fill(recipe.volume.person or "{subject}", fields)
                scan = f"{person}_{fields['session']}" if fields.get("session") else person
            else:
                scan = fill("{scan}" if table.scan else "{subject}", fields)
                if scan not in people:
                    strangers.setdefault(table.file, []).append(scan)
                    continue
                person = people[scan][table.subject]
            if scan in found:
                raise BadInput(f"{path}: scan {scan} is there already as {found[scan].image}; keep one of them")
            try:
                label = _label(rule.class_of, fields, rows, recipe.classes)
            except KeyError:
                assert rule.class_of is not None
                strangers.setdefault(rule.class_of.table, []).append(fill(rule.class_of.key, fields))
                continue
            if label == "":
                continue
            mask, others = masks_of(recipe, root, fields)
            named = recipe.patterns.brain in ("nonzero", "head")
            brain = None if named else root / fill(recipe.patterns.brain, fields)
            gone = [
                f"{p}: missing beside its scan; get it, or take the scan out"
                for p in (mask, brain)
                if p is not None and not p.is_file()
            ]
            absent += gone
            if gone and left_out is not None:
                left_out(gone[0])
            else:
                found[scan] = SliceFiles(person, scan, label, path, mask, brain, others)
    for file, names in strangers.items():
        how = "" if table is not None and file == table.file else " (with an empty class to leave them out)"
        raise BadInput(
            f"{root / file}: no row for {some(sorted(names))}, whose scans are there; add the rows{how}, or take the scans out"
        )
    if left_out is None:
        refuse(absent, f"the files of {fits} scans of {recipe.name}")
    if not found:
        why = f"{fits} scans, none with a class" if fits else f"no scan fits {' or '.join(recipe.patterns.image)}"
        raise BadInput(f"{root}: {why}; {how_to_get(recipe)}")
    scans = sorted(found.values(), key=lambda f: (f.person, f.scan))
    return [f for k, f in enumerate(scans) if not (rule.one_scan and k and scans[k - 1].person == f.person)]


def _class_rows(of: ClassOf, root: Path) -> dict[str, str]:
    rows = read_table(root / of.table, of.separator, [of.row, of.column])
    return {row[of.row]: row[of.column] for row in rows}


def _label(of: ClassOf | None, fields: dict[str, str], rows: dict[str, str], names: dict[str, str]) -> str | None:
    """The class of a scan; "" where it has none, None where classes are not by scan. KeyError without a row."""
    if of is None or of.mask is not None:
        return None
    if of.field:
        value = fields[of.field]
    else:
        key = fill(of.key, fields)
        # Spreadsheets write the number 002 as 2.
        value = rows[str(int(key))] if key not in rows and key.isdigit() else rows[key]
    if value.lower() in ("", "n/a", "nan"):
        return ""
    if not of.groups:
        return names.get(value, value)
    number = number_in(value)
    if number is None:
        return ""
    return next((name for name, (low, high) in of.groups.items() if low <= number < high), "")


def read_slice_scan(recipe: Recipe, files: SliceFiles) -> tuple[volumes.Scan, np.ndarray, np.ndarray]:
    """One scan with its mask (bool, False where the set has none) and its brain (bool; the head where skulls are on).

    All (X, Y, Z) on the scan's own grid, whose affine leads to the recipe's plane: the third world axis runs from slice
    to slice. BadInput as `read_labelled` and `read_brain`.
    """
    rule = recipe.slices
    assert rule is not None
    scan, mask = read_labelled(recipe, files.image, files.masks)
    brain = head_of(scan.data) if recipe.patterns.brain == "head" else read_brain(recipe, scan, files.brain)
    turned = volumes.Scan(scan.data, PLANES[rule.plane] @ scan.affine, scan.spacing, scan.path)
    return turned, mask > 0, brain


def head_of(data: np.ndarray) -> np.ndarray:
    """The head in a scan with its skull on, as bool (X, Y, Z): the largest piece brighter than a tenth of the 99th percentile.

    Holes (air, bone) are filled in planes of all three axes, so that no slice is full of them where the neck is cut.
    """
    pieces, n = ndimage.label(data > 0.1 * np.percentile(data, 99))
    if not n:
        return np.zeros(data.shape, bool)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    head = pieces == sizes.argmax()
    for axis in range(3):
        for plane in np.moveaxis(head, axis, 0):
            plane[...] = ndimage.binary_fill_holes(plane)
    return head


def chosen_slices(recipe: Recipe, brain: np.ndarray, spacing: float, path: Path) -> list[int]:
    """Indices along z of the slices that the recipe's rule takes from a scan on its working grid, top first.

    brain: bool (X, Y, Z) on that grid. Those between `below_top_mm` that are not empty, `per_scan` of them, evenly spread.
    BadInput for a scan with fewer.
    """
    rule = recipe.slices
    assert rule is not None
    area = brain.sum(axis=(0, 1))
    there = np.flatnonzero(area > EMPTY * area.max())
    below = (there.max() - there) * spacing
    low, high = rule.below_top_mm
    usable = there[(below >= low - 1e-6) & (below <= high + 1e-6)][::-1]
    if len(usable) < rule.per_scan:
        raise BadInput(
            f"{path}: {len(usable)} slices hold brain between {low:g} and {high:g} mm below its top at {spacing:.3g} mm, "
            f"{rule.per_scan} are wanted; lower `per_scan`, widen `below_top_mm` in the recipe, or use larger pictures"
        )
    return _evenly(usable, rule.per_scan)


def _evenly(places: np.ndarray, n: int) -> list[int]:
    """`n` of the places, evenly spread over them; all of them when there are fewer."""
    n = min(n, len(places))
    return [int(places[int(k)]) for k in (np.arange(n) + 0.5) * len(places) / max(n, 1)]


@dataclass(frozen=True)
class _Cut:
    """A scan cut into slices: pictures and masks (Z, side, side) uint8, the brain (X, Y, Z) bool on the same grid, and its mm."""

    images: np.ndarray
    masks: np.ndarray
    brain: np.ndarray
    spacing: float


def _cut(recipe: Recipe, scan: volumes.Scan, mask: np.ndarray, brain: np.ndarray, size: int) -> _Cut:
    """mask, brain: bool (X, Y, Z) on the scan's own grid. Slices are as fine as they are close; `_smaller` brings them to `size`."""
    rule = recipe.slices
    assert rule is not None
    spacing = rule.between_mm or rule.field_mm / size
    side = round(rule.field_mm / spacing)
    grid = volumes.working_grid(scan, brain, spacing, (side, side))
    inside = volumes.labels_to_grid(brain.astype(np.uint8), scan.affine, grid, 1) > 0
    image = volumes.to_uint8(volumes.to_grid(scan.data, scan.affine, grid), inside)
    marked = volumes.labels_to_grid(mask.astype(np.uint8), scan.affine, grid, 1)
    return _Cut(volumes.to_slices(image), volumes.to_slices(marked), inside, spacing)


def _smaller(array: np.ndarray, size: int) -> np.ndarray:
    """A square picture brought to `size` pixels, antialiased, as photographs are."""
    if len(array) == size:
        return array.copy()
    return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.BILINEAR))


def _smaller_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask of 0/1 the same way: half covered counts."""
    return mask.copy() if len(mask) == size else (_smaller(mask * np.uint8(255), size) > 127).astype(np.uint8)


def read_slices(recipe: Recipe, files: SliceFiles, size: int, wanted: list[int] | None = None) -> list[SourceImage]:
    """The slices of one scan, or those of `wanted` (numbers from 0 to `per_scan` - 1): square, `size` pixels, `field_mm` wide.

    Brought to RAS, resampled, cropped around the brain and clipped as targets are; front (coronal: top) up, the person's
    right on the picture's left. Nothing of the volume outlives the call.
    """
    rule = recipe.slices
    assert rule is not None
    cut = _cut(recipe, *read_slice_scan(recipe, files), size)
    places = chosen_slices(recipe, cut.brain, cut.spacing, files.image)
    found = []
    for number in range(rule.per_scan) if wanted is None else wanted:
        k = places[number]
        image, mask = _smaller(cut.images[k], size), _smaller_mask(cut.masks[k], size)
        label = files.label or ""
        if rule.class_of is not None and rule.class_of.mask is not None:
            label = rule.class_of.mask[int(mask.any())]
        found.append(SourceImage(files.person, f"{files.scan}/{number:02d}", image, mask, label))
    return found


def slice_images(
    recipe: Recipe, data_root: Path | str | None, n: int, size: int, seed: int, left_out: LeftOut | None = None
) -> Iterator[SourceImage]:
    """`n` slices drawn with `seed` from all that the rule takes (0: all), scan by scan; each volume is read once.

    Which slices are drawn hangs on the list of files alone. Bad scans are all refused at once or, with `left_out`, named to it
    and their slices replaced by others (`readable.drawn`). BadInput when there are fewer than `n`.
    """
    files = slice_files(recipe, data_root, left_out)
    rule = recipe.slices
    assert rule is not None
    order = study.stream(seed, "which-images").permutation(rule.per_scan * len(files))

    def read(which: int, wanted: list[int]) -> list[SourceImage]:
        return read_slices(recipe, files[which], size, wanted)

    yield from drawn(recipe.name, order, n, read, left_out, rule.per_scan)


def lesion_slices(recipe: Recipe, people: Iterable[SubjectScan], n: int, size: int, seed: int) -> Iterator[SourceImage]:
    """`n` slices drawn with `seed` (0: all) from those of semi-synthetic people that show the lesion, person by person.

    A slice shows it when `SHOWS` of the picture does. Of each person at most `per_scan`, evenly spread over the lesion. All are
    kept as small pictures before the draw, one volume at a time. BadInput when there are fewer than `n`.
    """
    rule = recipe.slices
    assert rule is not None
    found = []
    for person in people:
        cut = _cut(recipe, person.image, person.mask > 0, person.brain, size)
        masks = [_smaller_mask(mask, size) for mask in cut.masks]
        shows = np.array([k for k in range(len(masks))[::-1] if masks[k].mean() >= SHOWS], dtype=int)  # top first
        for number, k in enumerate(_evenly(shows, rule.per_scan)):
            image = _smaller(cut.images[k], size)
            found.append(SourceImage(person.subject, f"{person.scan}/{number:02d}", image, masks[k], ""))
    if n > len(found):
        raise BadInput(f"recipe {recipe.name}: {n} images asked for, {len(found)} are there; ask for fewer")
    kept = np.sort(study.stream(seed, "which-images").permutation(len(found))[: n or len(found)])
    yield from (found[i] for i in kept)


def check_slices(recipe: Recipe, data_root: Path | str | None, size: int = 128) -> list[str]:
    """What is wrong with a set of volumes as a source, in plain sentences, every bad file at once; empty when all is well."""
    sentences: list[str] = []
    pictures: dict[str, list[str]] = {}
    for files in slice_files(recipe, data_root, sentences.append):
        try:
            items = read_slices(recipe, files, size)
        except BadInput as error:
            sentences.append(str(error))
            continue
        by_slice = recipe.slices is not None and recipe.slices.class_of is not None and recipe.slices.class_of.mask
        if files.masks and not by_slice and not any(i.mask.any() for i in items):
            sentences.append(f"{files.masks[0]}: mask is empty on all slices taken; misaligned, or leave the scan out")
        images, masks = (np.stack([getattr(i, name) for i in items]) for name in ("image", "mask"))
        pictures.setdefault(sha256_bytes(images.tobytes()), []).append(files.scan)
        outside = float((images[masks > 0] == 0).mean()) if masks.any() else 0.0
        if outside > 0.1:
            sentences.append(
                f"{files.masks[0]}: {100 * outside:.0f} % of its object lie outside the brain; misaligned?"
            )
    return sentences + same_pictures(recipe.root(data_root), pictures, "scans ")


def slice_inputs(recipe: Recipe, data_root: Path | str | None, left_out: LeftOut | None = None) -> list[Path]:
    """Every file that a set of volumes as a source reads, its tables of people and classes too."""
    of = recipe.slices.class_of if recipe.slices is not None else None
    named = [recipe.people.file if recipe.people is not None else "", of.table if of is not None else ""]
    tables = [recipe.root(data_root) / name for name in dict.fromkeys(named) if name]
    scans = slice_files(recipe, data_root, left_out)
    return tables + with_headers(p for f in scans for p in (f.image, *f.masks, f.brain) if p is not None)
