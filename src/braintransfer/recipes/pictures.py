"""Pictures of a source, one after another: from folders, or photographs composited from other photographs."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.recipes.picture_sets import DrawnObjects, PictureFiles, picture_files
from braintransfer.recipes.readable import LeftOut, drawn, refuse
from braintransfer.recipes.samples import SourceImage
from braintransfer.recipes.schema import MaskValues, Recipe
from braintransfer.recipes.splitting import HELD_OUT
from braintransfer.untrusted import MOST_PIXELS

#: Formats that are only decoded: to show EPS, Pillow would start a program.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
#: What Pillow raises on a picture that is torn or forged.
TORN = (OSError, SyntaxError, ValueError, OverflowError, MemoryError, struct.error, Image.DecompressionBombError)


def _check_pixels(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"its header says {image.width} x {image.height} pixels")


def read_picture(path: Path) -> np.ndarray:
    """A picture as uint8 (H, W) or (H, W, 3). BadInput, one line, when it is missing, torn or no picture."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_pixels(image)
            image.load()
            grey = image.mode in ("L", "1", "I", "F", "I;16")
            if image.mode in ("I", "F", "I;16"):
                raise BadInput(f"{path}: picture has {image.mode} pixels, not 8 bits; save it with 8 bits a channel")
            return np.asarray(image.convert("L" if grey else "RGB"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: picture is missing; get the whole set, or take it out of the table") from error
    except UnidentifiedImageError as error:
        raise BadInput(f"{path}: not a picture; download it again or take it out") from error
    except TORN as error:
        raise BadInput(f"{path}: picture is torn ({error}); download it again or take it out") from error


def read_picture_mask(path: Path, values: MaskValues, shape: tuple[int, int]) -> np.ndarray:
    """A mask as uint8 (H, W), 0 background and 1 object. BadInput for another size than `shape` or unexpected values."""
    mask = _read_values(path, values, shape)
    if values.threshold is not None:
        return (mask > values.threshold).astype(np.uint8)
    known = {*values.foreground, *values.background, *values.ignore}
    odd = sorted({int(v) for v in np.unique(mask)} - known)
    if odd:
        shown = ", ".join(map(str, odd[:5]))
        raise BadInput(
            f"{path}: mask holds unexpected values {shown}; expected {sorted(known)}, or set `mask_values: {{threshold: 127}}` "
            "in the recipe for masks saved as 0/255"
        )
    return np.isin(mask, values.foreground).astype(np.uint8)


def _read_values(path: Path, values: MaskValues, shape: tuple[int, int]) -> np.ndarray:
    """The values of a mask (H, W); those of a mask in colour are the numbers of its colours."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_pixels(image)
            image.load()
            if values.colours:
                mask = np.asarray(image.convert("RGB"))
            else:
                mask = np.asarray(image if image.mode in ("L", "P", "1", "I") else image.convert("L"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: mask is missing; get the whole set, or take its sample out of the table") from error
    except TORN as error:
        raise BadInput(f"{path}: mask is torn or no picture ({error}); download it again or take it out") from error
    if mask.shape[:2] != shape:
        raise BadInput(
            f"{path}: mask is {mask.shape[1]} x {mask.shape[0]}, its picture {shape[1]} x {shape[0]}; mend the pair"
        )
    return _colour_numbers(path, mask, values) if values.colours else mask


def _colour_numbers(path: Path, mask: np.ndarray, values: MaskValues) -> np.ndarray:
    code = np.array([65536, 256, 1])
    known = np.array(values.colours) @ code
    pixels = mask.astype(np.int64) @ code
    order = np.argsort(known)
    number = order[np.minimum(np.searchsorted(known, pixels, sorter=order), len(known) - 1)]
    strange = mask[known[number] != pixels]
    if len(strange):
        shown = ", ".join(str(tuple(int(c) for c in colour)) for colour in np.unique(strange, axis=0)[:3])
        raise BadInput(f"{path}: mask holds colours {shown} that `mask_values.colours` lacks; get the mask again")
    return number


def draw_mask(path: Path, drawn: DrawnObjects, shape: tuple[int, int]) -> np.ndarray:
    """The mask of a picture (H, W) uint8 from the outlines of its objects, all objects 1. BadInput for another `shape`.

    Polygons are filled with their edge, so a mask may be a pixel wider than one of COCO's own tools.
    """
    if drawn.shape != shape:
        raise BadInput(
            f"{path}: picture is {shape[1]} x {shape[0]}, its annotations say {drawn.shape[1]} x {drawn.shape[0]}; "
            "get the picture again"
        )
    canvas = Image.new("L", (shape[1], shape[0]))
    pen = ImageDraw.Draw(canvas)
    runs = np.zeros(shape, np.uint8)
    for outline in drawn.outlines:
        if isinstance(outline, np.ndarray):
            if len(outline) > 2:  # far outside is as good as a little outside, and a pen that goes there takes for ever
                near = np.clip(np.nan_to_num(outline), -max(shape), 2 * max(shape))
                pen.polygon([(float(x), float(y)) for x, y in near], fill=1, outline=1)
            continue
        counts = outline["counts"]
        if (
            not isinstance(counts, np.ndarray)
            or (counts < 0).any()
            or int(counts.sum(dtype=np.int64)) != shape[0] * shape[1]
        ):
            raise BadInput(
                f"{path}: the runs of its annotation are packed or do not fit; export them as lists of numbers"
            )
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        runs |= flat.reshape(shape[1], shape[0]).T.astype(np.uint8)
    return np.asarray(canvas) | runs


def read_mask_of(recipe: Recipe, files: PictureFiles, shape: tuple[int, int]) -> np.ndarray:
    """The mask of one picture as uint8 (H, W), zeros where the set has none. BadInput as `read_picture_mask`."""
    if files.drawn is not None:
        return draw_mask(files.image, files.drawn, shape)
    if files.mask is None:
        return np.zeros(shape, np.uint8)
    return read_picture_mask(files.mask, recipe.mask_values, shape)


def label_of(recipe: Recipe, files: PictureFiles, shape: tuple[int, int]) -> str:
    """The class of one picture; where objects are numbered, that of the object with the most pixels."""
    if files.objects is None or files.mask is None:
        return files.label
    objects = _read_values(files.objects, MaskValues(), shape)
    values = _read_values(files.mask, recipe.mask_values, shape)
    inside = np.isin(values, recipe.mask_values.foreground) & (objects > 0)
    if not inside.any():
        raise BadInput(f"{files.objects}: picture has no object, so no class; take its sample out of the list")
    largest = objects == np.bincount(objects[inside]).argmax()
    value = int(np.bincount(values[largest & inside]).argmax())
    return recipe.classes.get(str(value), str(value))


def _square(array: np.ndarray, size: int, smooth: bool = True) -> np.ndarray:
    """The central square, resized to `size`, antialiased."""
    height, width = array.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = array[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(cut)
    return np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize((size, size), Image.Resampling.BILINEAR))


def stretched(image: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Grey values with two percentiles of those above 0 drawn out to 1..255; what is 0 stays 0. uint8 in, uint8 out."""
    above = image[image > 0]
    if above.size == 0:
        return image
    low, high = np.percentile(above, percentiles)
    scaled = 1 + (image.astype(np.float32) - low) * (254 / max(float(high - low), 1.0))
    return np.where(image > 0, np.clip(np.round(scaled), 1, 255), 0).astype(np.uint8)


def read_source_image(recipe: Recipe, files: PictureFiles, size: int) -> SourceImage:
    """One picture with its mask, both as squares of `size` pixels; a mask of zeros where the set has none."""
    image = read_picture(files.image)
    shape = (image.shape[0], image.shape[1])
    mask, label = read_mask_of(recipe, files, shape), label_of(recipe, files, shape)
    if recipe.stretch is not None:
        image = stretched(image, recipe.stretch)
    small = (_square(mask * np.uint8(255), size) > 127).astype(np.uint8)
    return SourceImage(files.group, files.sample, _square(image, size), small, label)


def folder_images(
    recipe: Recipe, data_root: Path | str | None, n: int, size: int, seed: int, left_out: LeftOut | None = None
) -> Iterator[SourceImage]:
    """`n` pictures of the set drawn with `seed` (0: all), in the set's own order; square, `size` pixels.

    Bad ones are all refused at once or, with `left_out`, named to it and replaced (`readable.drawn`).
    """
    files = picture_files(recipe, data_root, left_out)
    order = study.stream(seed, "which-images").permutation(len(files))
    yield from drawn(recipe.name, order, n, lambda i, _: [read_source_image(recipe, files[i], size)], left_out)


def composited_images(
    recipe: Recipe, photographs: Recipe, data_root: Path | str | None, n: int, size: int, seed: int,
    validation_share: float = 0.15, left_out: LeftOut | None = None,
) -> Iterator[SourceImage]:  # fmt: skip
    """`n` composites, of which the last `validation_share` come from held-out photographs only.

    Each takes two photographs of different classes; photographs come round before any is used again. The subject is
    `train/<number>` or `val/<number>`, so that the split of parts keeps photographs apart. Where the recipe names grounds, one of
    those lies behind, and they are no classes. A bad photograph is refused together with all other bad ones of the set or, with
    `left_out`, named to it and used nowhere; the composites are as many all the same.
    """
    from braintransfer.simulate.scenes import composite

    files = picture_files(photographs, data_root, left_out)
    parts = {"train": [f for f in files if f.group.split("/")[0] not in HELD_OUT]}
    parts["val"] = [f for f in files if f.group.split("/")[0] in HELD_OUT]
    assert recipe.composite is not None
    grounds = set(recipe.composite.grounds)
    if unknown := grounds - {f.label for f in files} - set(photographs.classes.values()):
        raise BadInput(
            f"recipe {recipe.name}: composite: grounds: {', '.join(sorted(unknown))}: no class of {photographs.name} is called so"
        )
    held_out = max(1, round(validation_share * n))
    number, bad = 0, set[Path]()
    for part, count in (("train", n - held_out), ("val", held_out)):
        if not _enough(parts[part], grounds):
            raise BadInput(
                f"recipe {recipe.name}: photographs of {photographs.name} need two classes in `{part}`, not all of them "
                "grounds; get the set"
            )
        rng = study.stream(seed, f"composite-{part}")
        rounds = _pairs(parts[part], rng, grounds)
        for _ in range(count):
            photos: list[np.ndarray] = []
            while len(photos) < 2:
                chosen = next(rounds)
                if any(f.image in bad for f in chosen):
                    continue
                photos = _photographs(chosen, bad, files, left_out)
                if not photos and not _enough(parts[part], grounds, bad):
                    raise BadInput(
                        f"recipe {recipe.name}: {len(bad)} photographs of {photographs.name} cannot be read, and what is left in "
                        f"`{part}` has no two classes, not all of them grounds; get the set again"
                    )
            photos = [np.repeat(p[..., None], 3, axis=2) if p.ndim == 2 else p for p in photos]
            image, mask, label = composite(rng, photos, [f.label for f in chosen], size, sorted(grounds))
            yield SourceImage(f"{part}/{number:05d}", f"{number:05d}", image, mask, label)
            number += 1


def _enough(files: Sequence[PictureFiles], grounds: Collection[str], bad: Collection[Path] = ()) -> bool:
    """Whether pairs can be made of those that are not bad: two classes, one that may lie in front and one for behind."""
    front = {f.label for f in files if f.label not in grounds and f.image not in bad}
    behind = {f.label for f in [f for f in files if f.label in grounds] or files if f.image not in bad}
    return bool(front and behind) and len(front | behind) > 1


def _photographs(
    chosen: Sequence[PictureFiles], bad: set[Path], files: Sequence[PictureFiles], left_out: LeftOut | None
) -> list[np.ndarray]:
    """The photographs (H, W) or (H, W, 3), uint8; none where one is bad, which then stands in `bad` and is named to `left_out`.

    Without `left_out`, BadInput on all bad ones of `files`.
    """
    photos, said = _read_all(chosen)
    if said and left_out is None:
        refuse(list(_read_all(files, keep=False)[1].values()), f"{len(files)} photographs")
    for path, sentence in said.items():
        bad.add(path)
        if left_out is not None:
            left_out(sentence)
    return [] if said else photos


def _read_all(files: Sequence[PictureFiles], keep: bool = True) -> tuple[list[np.ndarray], dict[Path, str]]:
    photos, said = [], {}
    for f in files:
        try:
            photo = read_picture(f.image)
        except BadInput as error:
            said[f.image] = str(error)
        else:
            photos += [photo] if keep else []
    return photos, said


def _pairs(
    files: list[PictureFiles], rng: np.random.Generator, grounds: Collection[str]
) -> Iterator[tuple[PictureFiles, PictureFiles]]:
    """Endless pairs of photographs of different classes, what lies in front and what lies behind.

    Each photograph that may lie in front does so once a round.
    """
    front = [f for f in files if f.label not in grounds]
    behind = [f for f in files if f.label in grounds] or files
    while True:
        for i in rng.permutation(len(front)):
            first = front[i]
            second = first
            while second.label == first.label:
                second = behind[int(rng.integers(len(behind)))]
            yield first, second
