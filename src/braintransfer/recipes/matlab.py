"""Pictures of a source in MATLAB's v7.3 files (HDF5): slice, mask, class and person in one file, orientation checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from braintransfer import study, volumes
from braintransfer.errors import BadInput
from braintransfer.provenance import sha256_bytes
from braintransfer.recipes.files import how_to_get, match_files
from braintransfer.recipes.readable import LeftOut, drawn, same_pictures
from braintransfer.recipes.samples import SourceImage
from braintransfer.recipes.schema import Recipe
from braintransfer.untrusted import MOST_PIXELS

#: Half of a border's points must lie this near to the mask's edge, in pixels.
NEAR_EDGE = 2.0


@dataclass(frozen=True)
class MatlabSlice:
    """One slice: `image` float32 (H, W), `mask` bool (H, W); `turned` tells that the file held both transposed."""

    person: str
    label: str
    image: np.ndarray
    mask: np.ndarray
    turned: bool


def matlab_files(recipe: Recipe, data_root: Path | str | None) -> list[tuple[str, Path]]:
    """Names and paths of the slices, by number where names are numbers. BadInput when there are none."""
    root = recipe.root(data_root)
    assert recipe.matlab is not None
    if not root.is_dir():
        raise BadInput(f"{root}: folder of {recipe.name} is missing; {how_to_get(recipe)}")
    found: dict[str, Path] = {}
    for pattern in recipe.patterns.image:
        for path, fields in match_files(root, pattern):
            name = fields.get("sample", path.stem)
            if name in recipe.matlab.exclude:
                continue
            if name in found:
                raise BadInput(f"{path}: slice {name} is there already as {found[name]}; keep one of them")
            found[name] = path
    if not found:
        raise BadInput(f"{root}: no slice fits {' or '.join(recipe.patterns.image)}; {how_to_get(recipe)}")
    return sorted(found.items(), key=lambda item: (item[0].zfill(12), item[0]))


def read_matlab_slice(recipe: Recipe, path: Path) -> MatlabSlice:
    """One slice in the orientation that its tumour border tells. BadInput, one line, for a file that is torn, lacks a field,
    or whose border lies on the mask's edge in neither order of its axes."""
    fields = recipe.matlab
    assert fields is not None
    try:
        import h5py
    except ImportError as error:
        raise BadInput(f"{path}: reading MATLAB v7.3 files needs h5py; install it with `pip install h5py`") from error
    if not path.is_file():
        raise BadInput(f"{path}: slice is missing; get the whole set")
    try:
        with h5py.File(path, "r") as file:
            # HDF5 lists MATLAB's columns first: what is read is the transpose of the matrix.
            image, mask = (_numbers(file, name).T for name in (fields.image, fields.mask))
            values = _numbers(file, fields.label).ravel()
            person = _text(_numbers(file, fields.person))
            border = _numbers(file, fields.border).astype(float).ravel() if fields.border else None
    except KeyError as error:
        raise BadInput(f"{path}: {' '.join(str(error.args[0]).split())}; is it a slice of {recipe.name}?") from error
    except (OSError, AttributeError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise BadInput(f"{path}: not a whole MATLAB v7.3 file ({error}); download it again") from error
    if image.ndim != 2 or mask.shape != image.shape:
        raise BadInput(f"{path}: image {image.shape} and mask {mask.shape} are no pair; download it again")
    if values.size != 1 or str(int(values[0])) not in recipe.classes:
        raise BadInput(
            f"{path}: class {values[:3].tolist()} is not one of {', '.join(recipe.classes)}; download it again"
        )
    if not person:
        raise BadInput(
            f"{path}: names no person ({fields.person}); get the files that do, or people leak between parts"
        )
    odd = set(np.unique(mask).tolist()) - {0, 1}
    if odd:
        raise BadInput(f"{path}: mask holds {sorted(odd)[:3]}, expected 0 and 1; download it again")
    if not mask.any():
        raise BadInput(f"{path}: mask is empty; take the slice out")
    label = recipe.classes[str(int(values[0]))]
    turned = border is not None and is_transposed(mask > 0, border, path)
    if turned:
        image, mask = image.T, mask.T
    return MatlabSlice(person, label, image.astype(np.float32), mask > 0, turned)


def _numbers(file: Any, name: str) -> np.ndarray:
    """The numbers of a field that lie in this very file: links and outside storage could bring in any file of the reader's."""
    place = file
    for part in name.strip("/").split("/"):
        link = place.get(part, getlink=True)
        if link is not None and type(link).__name__ != "HardLink":
            raise ValueError(f"{name} is a link")
        place = place[part]
    if place.external or place.is_virtual:
        raise ValueError(f"{name} lies in another file")
    if place.size > MOST_PIXELS or place.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {place.shape} of {place.dtype}")
    return np.asarray(place[()])


def _text(value: Any) -> str:
    """MATLAB's text as HDF5 keeps it: numbers of characters; "" for what is no text."""
    codes = np.asarray(value).ravel()
    return "".join(chr(int(c)) for c in codes if c).strip() if codes.dtype.kind in "ui" else ""


def is_transposed(mask: np.ndarray, border: np.ndarray, path: Path) -> bool:
    """Whether a mask (H, W) is the transpose of what its border says: x1, y1, x2, y2 ... with x a column, y a row, from 1.

    A border that fits both ways (a tumour symmetric about the diagonal) counts as right. BadInput for one that fits neither.
    """
    if border.size < 6 or border.size % 2 or not np.isfinite(border).all():
        raise BadInput(f"{path}: border is no list of points ({border.size} numbers); download it again")
    x, y = border.reshape(-1, 2).T - 1
    # The outermost pixels inside and the first ones outside: an outline lies between them.
    edge = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
    away = ndimage.distance_transform_edt(~edge)
    apart = [float(np.median(_at(away, *place))) for place in ((y, x), (x, y))]
    if min(apart) > NEAR_EDGE:
        raise BadInput(
            f"{path}: the tumour's border is {min(apart):.0f} pixels off the mask's edge whichever way it is turned; "
            "image, mask and border do not belong together: download it again"
        )
    return apart[1] < apart[0] and apart[0] > NEAR_EDGE


def _at(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values at points; a point beyond the picture counts as far away."""
    r, c = np.rint(rows).astype(int), np.rint(columns).astype(int)
    inside = (r >= 0) & (r < values.shape[0]) & (c >= 0) & (c < values.shape[1])
    result = np.full(len(r), float(sum(values.shape)))
    result[inside] = values[r[inside], c[inside]]
    return result


def matlab_images(
    recipe: Recipe, data_root: Path | str | None, n: int, size: int, seed: int, left_out: LeftOut | None = None
) -> Iterator[SourceImage]:
    """`n` slices of the set drawn with `seed` (0: all), in the set's own order; square, `size` pixels, one file at a time.

    Bad ones are all refused at once or, with `left_out`, named to it and replaced (`readable.drawn`).
    """
    files = matlab_files(recipe, data_root)

    def read(i: int, _: list[int]) -> list[SourceImage]:
        name, path = files[i]
        item = read_matlab_slice(recipe, path)
        image = volumes.to_uint8(_resized(item.image, size), _resized((item.image > 0).astype(np.float32), size) > 0.5)
        mask = (_resized(item.mask.astype(np.float32), size) > 0.5).astype(np.uint8)
        return [SourceImage(item.person, name, image, mask, item.label)]

    order = study.stream(seed, "which-images").permutation(len(files))
    yield from drawn(recipe.name, order, n, read, left_out)


def _resized(array: np.ndarray, size: int) -> np.ndarray:
    """A picture float32 (H, W), filled up with 0 to a square around its centre, resized to `size`, antialiased."""
    side = max(array.shape)
    above = [(side - n) // 2 for n in array.shape]
    pad = [(a, side - n - a) for a, n in zip(above, array.shape, strict=True)]
    square = np.pad(array, pad)
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR))


def check_matlab(recipe: Recipe, data_root: Path | str | None) -> list[str]:
    """What is wrong with a set of MATLAB slices, in plain sentences, every bad file at once; empty when all is well."""
    sentences, turned = [], []
    labels: dict[str, set[str]] = {}
    pictures: dict[str, list[str]] = {}
    for name, path in matlab_files(recipe, data_root):
        try:
            item = read_matlab_slice(recipe, path)
        except BadInput as error:
            sentences.append(str(error))
            continue
        labels.setdefault(item.person, set()).add(item.label)
        pictures.setdefault(sha256_bytes(item.image.tobytes()), []).append(name)
        if item.turned:
            turned.append(name)
    root = recipe.root(data_root)
    if turned:
        sentences.append(
            f"{root}: {len(turned)} slices ({turned[0]} first) hold image and mask transposed, by their border; they are turned when read"
        )
    sentences += [
        f"{root}: person {person} has slices of {' and '.join(sorted(kinds))}; one of them is mislabelled"
        for person, kinds in sorted(labels.items())
        if len(kinds) > 1
    ]
    return sentences + same_pictures(root, pictures, "slices ")
