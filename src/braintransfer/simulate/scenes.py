"""Composited photographs: a random shape cut from one photograph, pasted into another. Class: whose pixels; mask: where.

The shapes are of the dead-leaves family (Lee, Mumford and Huang 2001, doi:10.1023/A:1011109015675): radius with density r^-3.
Built in are the eight colour photographs that come inside the wheels of scikit-image and scikit-learn. Left out: micrographs,
fundus and phantom (medical, so not "natural"), drawings, grey pictures (their lack of colour alone would give them away) and
the right half of the motorcycle stereo pair (the same scene).
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from braintransfer.study import stream

if TYPE_CHECKING:
    from braintransfer.recipes.samples import SourceImage

#: name -> (package, folder, file); the motorcycle's file is the left picture of a stereo pair.
PHOTOGRAPHS = {
    "astronaut": ("skimage", "data", "astronaut.png"),
    "cat": ("skimage", "data", "chelsea.png"),
    "coffee": ("skimage", "data", "coffee.png"),
    "galaxies": ("skimage", "data", "hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data", "motorcycle_left.png"),
    "rocket": ("skimage", "data", "rocket.jpg"),
    "temple": ("sklearn", "datasets/images", "china.jpg"),
    "flower": ("sklearn", "datasets/images", "flower.jpg"),
}
#: Vertical strips into which each photograph is cut; a strip is the group to split by, and one of them (counted from 1) is
#: held out. The fifth is the easiest: with 900 pictures, colours alone (a random forest on quantiles) name .46-.67 of the classes
#: from the whole picture, by strip, .67 in this one, and from the mask's pixels .63-.86, .86 in this one; chance is .167. So a
#: score here says that a network learned something, not how well it would do elsewhere.
STRIPS, HELD_OUT = 6, 5
#: Photographs that only ever lie behind. Were every photograph object here and ground there, what is pasted could be told from the
#: outline alone, which takes more steps than a demo has (after 100, accuracy .16 where chance was .175). The others are the classes.
GROUNDS = ("galaxies", "temple")
#: Fewer visible pixels than this share of the picture, and the shape is drawn again: of the dead-leaves family only the
#: largest leaves remain, so that a short demo has something to learn from. Half of the picture is the most, so that there is a
#: background.
MIN_VISIBLE, MAX_VISIBLE = 0.2, 0.5
RADIUS = (0.03, 1.0)


def photographs() -> dict[str, np.ndarray]:
    """The built-in photographs: name -> uint8 (H, W, 3), read from the installed wheels, nothing downloaded."""
    found = {}
    for name, (package, folder, file) in PHOTOGRAPHS.items():
        place = importlib.resources.files(package)
        for part in folder.split("/"):
            place = place / part
        with importlib.resources.as_file(place / file) as path, Image.open(path) as picture:
            found[name] = np.asarray(picture.convert("RGB"))
    return found


def leaf(rng: np.random.Generator, size: int) -> np.ndarray:
    """One shape, (size, size) float32 from 0 to 1 with an edge about a pixel wide: MIN_VISIBLE to MAX_VISIBLE of the picture.

    Radius in RADIUS x size with density r^-3, centre anywhere; a smooth blob, an ellipse or a polygon.
    """
    rows, columns = np.ogrid[:size, :size]
    low, high = RADIUS
    while True:
        # Inverse of the distribution function of a density r^-3 between low and high.
        radius = size / np.sqrt(low**-2 - rng.uniform() * (low**-2 - high**-2))
        if np.pi * radius**2 * 1.7 < MIN_VISIBLE * size**2:
            continue  # too small whatever its shape; most leaves are
        cy, cx = rng.uniform(0, size, 2)
        dy, dx = rows - cy, columns - cx
        turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(-0.5, 0.5))
        along = (dx * np.cos(turn) + dy * np.sin(turn)) * stretch
        across = (dy * np.cos(turn) - dx * np.sin(turn)) / stretch
        kind = rng.integers(3)
        if kind == 0:
            angle = np.arctan2(across, along)
            edge = np.ones_like(angle)
            for wave in range(2, 7):
                edge += rng.normal(0, 0.35 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
            inside = np.hypot(along, across) - radius * np.maximum(edge, 0.2)
        elif kind == 1:
            inside = np.hypot(along, across) - radius
        else:
            corners = np.sort(rng.uniform(0, 2 * np.pi, 1)) + np.arange(n := int(rng.integers(3, 7))) * 2 * np.pi / n
            corners = corners + rng.uniform(-0.25, 0.25, n)
            inside = np.max([along * np.cos(c) + across * np.sin(c) for c in corners], axis=0) - 0.75 * radius
        shape = np.clip(0.5 - inside, 0, 1).astype(np.float32)
        if MIN_VISIBLE <= float((shape > 0.5).mean()) <= MAX_VISIBLE:
            return shape


def _crop(rng: np.random.Generator, photo: np.ndarray, size: int, share: tuple[float, float]) -> np.ndarray:
    """A random square of `photo`, its side a share of the shorter side, mirrored half of the time: float32 (size, size, 3)."""
    height, width = photo.shape[:2]
    side = max(int(round(min(height, width) * rng.uniform(*share))), 8)
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    square = Image.fromarray(photo[top : top + side, left : left + side]).resize(
        (size, size), Image.Resampling.BILINEAR
    )
    picture = np.asarray(square, dtype=np.float32)
    return picture[:, ::-1] if rng.uniform() < 0.5 else picture


def composite(
    rng: np.random.Generator,
    photos: Sequence[np.ndarray],
    labels: Sequence[str],
    size: int,
    grounds: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray, str]:
    """One picture: a shape of one photograph on another of a different class.

    photos: uint8 (H, W, 3) each, of any size; labels: one class each, at least two different ones (else ValueError).
    grounds: classes that only ever lie behind; with none, any class may.
    Returns image uint8 (size, size, 3), mask uint8 (size, size) 0/1, and the class of the pasted photograph. Foreground
    classes are equally likely, whatever the number of their photographs.
    """
    names = sorted(set(labels))
    objects = [name for name in names if name not in grounds]
    if len(names) < 2 or not objects:
        raise ValueError("a composite needs photographs of at least two classes, one of them no ground")
    label = objects[int(rng.integers(len(objects)))]
    others = [name for name in names if name != label and (name in grounds or not grounds)]
    behind = others[int(rng.integers(len(others)))]

    def one(name: str) -> np.ndarray:
        return photos[int(rng.choice([i for i, other in enumerate(labels) if other == name]))]

    back = _crop(rng, one(behind), size, (0.6, 1.0))
    front = _crop(rng, one(label), size, (0.6, 1.0))
    # Each layer has its own light, so that brightness tells neither the class nor the layer.
    back, front = (128 + (layer - 128) * rng.uniform(0.75, 1.1) + rng.uniform(-20, 20) for layer in (back, front))
    shape = leaf(rng, size)
    image = back + (front - back) * shape[..., None]
    image = ndimage.gaussian_filter(image, (0.4, 0.4, 0)) + rng.normal(0, 2, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), (shape > 0.5).astype(np.uint8), label


def strip_columns(width: int) -> list[slice]:
    """The columns of each strip of a photograph; eight are left out between two, as far as compression and blur reach."""
    return [slice(k * width // STRIPS + 4, (k + 1) * width // STRIPS - 4) for k in range(STRIPS)]


def simulated_natural(n: int, size: int, seed: int) -> Iterator[SourceImage]:
    """`n` composites of the built-in photographs, `size` px; subject `train/strip-k` or `val/strip-k`, strips in turn.

    Each photograph is cut into STRIPS vertical strips. All crops of one picture come from the same strip of their
    photographs, and strip HELD_OUT (one picture in six) is for validation: it shares no pixel of any photograph with the
    others. It does share the scenes: validation asks whether another part of the same eight photographs is recognised,
    not another photograph of the same thing. Picture k is the same whatever `n` is.
    """
    from braintransfer.recipes.samples import SourceImage

    pictures = photographs()
    names = list(pictures)
    strips = [[p[:, strip_columns(p.shape[1])[k]] for p in pictures.values()] for k in range(STRIPS)]
    for index in range(n):
        strip = index % STRIPS
        part = "val" if strip + 1 == HELD_OUT else "train"
        rng = stream(seed, f"simulation/natural/{index}")
        image, mask, label = composite(rng, strips[strip], names, size, GROUNDS)
        yield SourceImage(f"{part}/strip-{strip + 1}", f"composite-{index:05d}", image, mask, label)
