"""A page to look at a data set by eye: a row a person or picture, the mask's outline over the picture, numbers beside it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image
from scipy import ndimage

from braintransfer.errors import BadInput
from braintransfer.provenance import atomic_write_text
from braintransfer.recipes.checking import needed_sets
from braintransfer.recipes.files import ScanFiles, match_files, scan_files
from braintransfer.recipes.matlab import matlab_files, read_matlab_slice
from braintransfer.recipes.picture_sets import PictureFiles, picture_files
from braintransfer.recipes.pictures import label_of, read_mask_of, read_picture
from braintransfer.recipes.scans import read_subject_scan
from braintransfer.recipes.schema import Recipe
from braintransfer.recipes.slices import SliceFiles, read_slices, slice_files
from braintransfer.volumes import read_mask, read_scan, to_uint8

#: Side of a small picture, pixels; rows of a page where no number is given.
SIDE, ROWS = 160, 60
#: The outline of the classes 1, 2, 3 and further: colours that colour-blind people tell apart, on black and on white.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167))
_STYLE = (
    "body{font:15px/1.4 sans-serif;margin:1.5em auto;max-width:70em;padding:0 1em;color:#222;background:#fff}"
    "table{border-collapse:collapse}td{border-top:1px solid #ccc;padding:.5em;vertical-align:top}"
    "img{display:inline-block;margin-right:4px;background:#000}th{text-align:left}.bad{color:#a40000}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}td{border-color:#444}.bad{color:#ff8080}}"
)


@dataclass(frozen=True)
class _Row:
    name: str
    pictures: tuple[np.ndarray, ...]
    numbers: tuple[str, ...]
    problem: str = ""


def write_quality_page(
    recipe: Recipe, data_root: Path | str | None, target: Path, sentences: Sequence[str] = (), rows: int = ROWS
) -> Path:
    """Write one self-contained HTML file on a set and the sets that it stands on; returns its path.

    At most `rows` rows a set, spread evenly over it. `sentences`: what `check` found, said at the top.
    """
    parts = [_heading(recipe, sentences)]
    for part, library in needed_sets(recipe, data_root):
        try:
            if library is not None:
                folder = part.root(data_root) / library.folder
                found: Sequence[Any] = [path for path, _ in match_files(folder, library.pattern)]
            elif part.kind == "volumes":
                found = scan_files(part, data_root)
            elif part.kind == "images":
                found = picture_files(part, data_root, _passed_over)
            elif part.matlab is not None:
                found = matlab_files(part, data_root)
            else:
                found = slice_files(part, data_root, _passed_over)
        except BadInput as error:
            parts.append(f"<h2>{html.escape(part.title)}</h2><p class=bad>{html.escape(str(error))}</p>")
            continue
        chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(rows, len(found))).astype(int))]
        shown = f"All {len(found)} are shown." if len(chosen) == len(found) else (
            f"{len(chosen)} of {len(found)} are shown, spread evenly."
        )  # fmt: skip
        body = "\n".join(_html_row(_row(part, item)) for item in chosen)
        parts.append(f"<h2>{html.escape(part.title)}</h2><p>{shown}</p><table>{body}</table>")
    atomic_write_text(target, "\n".join([*parts, "</body></html>\n"]))
    return target


def _heading(recipe: Recipe, sentences: Sequence[str]) -> str:
    title = html.escape(f"{recipe.name}: {recipe.title}")
    keep = (
        "" if recipe.publish != "numbers" else " Pictures of this set may not be published: keep this page to yourself."
    )
    how = (
        "Slices are shown as a network sees them, the person's right on the left."
        if recipe.kind == "slices" and recipe.matlab is None
        else "Scans are shown through the middle of their mask (of the brain where there is none), left is the person's left: "
        "axial, coronal, sagittal."
    )
    found = "".join(f"<li class=bad>{html.escape(s)}</li>" for s in sentences) or "<li>Nothing was found to mend.</li>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><h1>{title}</h1>'
        f"<p>Licence: {html.escape(recipe.licence)}.{keep} The outline is the edge of the mask: orange for class 1, light blue, "
        f"green and pink for the next. {how}</p><ul>{found}</ul>"
    )


def _passed_over(_: str) -> None:
    """A file that is missing: `check` has named it, and what is there is shown all the same."""


def _row(recipe: Recipe, item: Any) -> _Row:
    try:
        if isinstance(item, ScanFiles):
            return _scan_row(recipe, item)
        if isinstance(item, PictureFiles):
            image = read_picture(item.image)
            shape = (image.shape[0], image.shape[1])
            mask, label = read_mask_of(recipe, item, shape), label_of(recipe, item, shape)
            return _picture_row(f"{item.group} {item.sample}", image, mask, label)
        if isinstance(item, SliceFiles):
            return _slices_row(recipe, item)
        if isinstance(item, tuple):
            found = read_matlab_slice(recipe, item[1])
            row = _picture_row(
                f"{found.person} {item[0]}", to_uint8(found.image, found.image > 0), found.mask, found.label
            )
            return replace(row, numbers=(*row.numbers, "turned, as its border says")) if found.turned else row
        return _library_row(item)
    except BadInput as error:
        name = (
            item[0]
            if isinstance(item, tuple)
            else getattr(item, "scan", "") or getattr(item, "sample", "") or item.name
        )
        return _Row(name, (), (), str(error))


def _picture_row(name: str, image: np.ndarray, mask: np.ndarray, label: str) -> _Row:
    numbers: tuple[str, ...] = (
        f"class {label}" if label else "no class",
        f"{image.shape[1]} x {image.shape[0]} pixels",
    )
    if mask.any():
        numbers += (f"object {100 * mask.mean():.0f} % of the picture",)
    return _Row(name, (_outlined(image, mask),), numbers)


def _slices_row(recipe: Recipe, files: SliceFiles) -> _Row:
    """The first, the middle and the last of the slices that are taken from a scan."""
    assert recipe.slices is not None
    wanted = np.unique(np.linspace(0, recipe.slices.per_scan - 1, 3).astype(int))
    items = read_slices(recipe, files, SIDE, [int(k) for k in wanted])
    classes = " / ".join(dict.fromkeys(i.label for i in items if i.label))
    numbers = (
        f"person {files.person}",
        f"class {classes}" if classes else "no class",
        f"{len(items)} of its {recipe.slices.per_scan} slices, top first",
        f"object {100 * float(np.mean([i.mask.mean() for i in items])):.0f} % of the picture",
    )
    return _Row(files.scan, tuple(_outlined(i.image, i.mask) for i in items), numbers)


def _scan_row(recipe: Recipe, files: ScanFiles) -> _Row:
    item = read_subject_scan(recipe, files)
    millilitres = float(np.prod(item.image.spacing)) / 1000
    volumes = [
        f"label {k}: {(item.mask == k).sum() * millilitres:.2f} mL" for k in range(1, int(item.mask.max(initial=0)) + 1)
    ]
    numbers = (
        f"person {item.subject}" + (f", {item.age:g} years" if item.age is not None else "") + (f", site {item.site}" if item.site else ""),
        f"{' x '.join(map(str, item.mask.shape))} voxels",
        f"{' x '.join(f'{s:.3g}' for s in item.image.spacing)} mm",
        f"orientation {''.join(nib.aff2axcodes(item.image.affine))}",
        f"brain {item.brain.sum() * millilitres:.0f} mL",
        *(volumes or ["no label"]),
        *(f"{key.replace('_', ' ')}: {value}" for key, value in item.notes.items()),
    )  # fmt: skip
    return _Row(item.scan, _planes(item.image.data, item.mask, item.brain, item.image.affine), numbers)


def _library_row(path: Path) -> _Row:
    scan, mask = read_scan(path), read_mask(path)
    ones = np.ones(mask.shape, bool)
    millilitres = float(mask.astype(bool).sum() * np.prod(scan.spacing) / 1000)
    numbers = (
        f"{' x '.join(map(str, mask.shape))} voxels",
        f"orientation {''.join(nib.aff2axcodes(scan.affine))}",
        f"lesion {millilitres:.2f} mL in {ndimage.label(mask)[1]} pieces",
    )
    return _Row(path.name, _planes((mask > 0) * np.float32(120), mask, ones, scan.affine), numbers)


def _planes(data: np.ndarray, mask: np.ndarray, brain: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, ...]:
    """Three planes with outlines, in RAS, through the middle of the mask: upright, the person's left on the left."""
    turn = nib.io_orientation(affine)
    data, mask, brain = (nib.apply_orientation(a, turn) for a in (data, mask, brain.astype(np.uint8)))
    where = np.argwhere(mask if mask.any() else brain)
    x, y, z = (int(m) for m in np.median(where, axis=0)) if len(where) else (n // 2 for n in data.shape)
    low, high = np.percentile(data[brain > 0] if brain.any() else data, (0.5, 99.5))
    grey = (np.clip((data - low) / max(float(high - low), 1e-6), 0, 1) * 255).astype(np.uint8)
    cuts = ((slice(None), slice(None), z), (slice(None), y, slice(None)), (x, slice(None), slice(None)))
    return tuple(_outlined(grey[c].T[::-1], mask[c].T[::-1]) for c in cuts)


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8, at most SIDE pixels a side, with the edge of each class one pixel wide."""
    scale = SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture = np.array(
        Image.fromarray(np.ascontiguousarray(image)).convert("RGB").resize(size, Image.Resampling.BILINEAR)
    )
    for k in range(1, int(mask.max(initial=0)) + 1):
        part = Image.fromarray((mask == k).astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
        inside = np.asarray(part) > 127
        if not inside.any() and (mask == k).any():  # smaller than a pixel of the small picture: shown all the same
            inside = np.asarray(part) > 0
        picture[inside & ~ndimage.binary_erosion(inside)] = COLOURS[(k - 1) % len(COLOURS)]
    return picture


def _html_row(row: _Row) -> str:
    name = html.escape(row.name)
    if row.problem:
        return f"<tr><th>{name}</th><td colspan=2 class=bad>{html.escape(row.problem)}</td></tr>"
    pictures = "".join(
        f'<img src="data:image/png;base64,{_png(p)}" width={p.shape[1]} height={p.shape[0]} alt="{name}">'
        for p in row.pictures
    )
    return f"<tr><th>{name}</th><td>{pictures}</td><td>{'<br>'.join(map(html.escape, row.numbers))}</td></tr>"


def _png(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
