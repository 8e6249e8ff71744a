"""Pictures that are nearly the same: a perceptual hash, a search by it, and a closer look at what it found."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

#: Cosines a side of the two fingerprints: the coarse one is compared for all pairs, the fine one for what is left.
COARSE, FINE = 12, 24
#: A row or column belongs to the box of a picture when it holds more than this share of the light of the brightest one.
EDGE = 0.1
#: Share of the box over which a picture fades out towards its edge, so that what a small move brings in or out counts little.
FADE = 0.1
#: Similarity from which two pictures are looked at more closely, and from which they are near-duplicates.
SUSPECT, LIMIT = 0.90, 0.90
#: As many suspects of a comparison are looked at, the nearest first; and as many pictures are read at a time.
LOOKS, CHUNK = 200, 256
#: Shifts of the box, rows and columns in pixels and growth as a share. Nudges are tried in the closer look, as the boxes of two
#: versions of a picture may differ by as much; moves are tried where the frame is the box, which follows no move.
NUDGES = np.array(list(itertools.product((-0.7, 0.0, 0.7), (-0.7, 0.0, 0.7), (-0.02, 0.0, 0.02))))
MOVES = np.array(list(itertools.product((-2.0, 0.0, 2.0), (-2.0, 0.0, 2.0), (0.0,))))  # the fifth is none


def fingerprints(
    images: np.ndarray, cosines: int = COARSE, *, moved: np.ndarray | None = None, framed: bool = False
) -> np.ndarray:
    """Perceptual hashes: (N, H, W[, 3]) uint8 -> (N, cosines ** 2 - 1) int8, cosine terms of each picture in its own box.

    The box makes them blind to place and size, the division by their spread to brightness and contrast. The terms keep
    their size: by their signs alone, the usual 63 bits, two people are nearer than one picture saved twice.
    moved: (N, 3) rows and columns (pixels) by which each box is shifted, and the share by which it grows. framed: the
    whole frame is the box.
    """
    grey = images.astype(np.float32)
    if images.ndim == 4:
        grey = grey @ np.array([0.299, 0.587, 0.114], np.float32)
    shift = np.zeros((len(grey), 3)) if moved is None else moved
    light = (np.ones(grey.shape[:2]), np.ones(grey.shape[::2])) if framed else (grey.sum(axis=2), grey.sum(axis=1))
    down, across = (_basis(light[k], cosines, shift[:, [k]], shift[:, [2]]) for k in (0, 1))
    grey = grey - grey.mean(axis=(1, 2), keepdims=True)
    terms = (down @ grey @ across.transpose(0, 2, 1)).reshape(len(grey), -1)[:, 1:]
    terms *= _orders(cosines)[0]  # terms fall about as 1 / frequency: now each counts alike
    spread = np.sqrt((terms**2).mean(axis=1, keepdims=True))
    return np.rint(np.clip(terms / np.maximum(spread, 1e-6), -2, 2) * 63).astype(np.int8)


def _basis(light: np.ndarray, cosines: int, moved: np.ndarray, grown: np.ndarray) -> np.ndarray:
    """(N, cosines, size) float32: cosines across the box of each picture, faded at its ends. light: (N, size) sums."""
    n = light.shape[1]
    low, high = _start(light), n - 1 - _start(light[:, ::-1])
    x = (np.arange(n) + moved - (low + high) / 2) / ((high - low) * (1 + grown)) + 0.5
    fade = np.sin(np.pi / 2 * np.clip(np.minimum(x, 1 - x) / FADE, 0, 1))
    return (np.cos(np.pi * np.arange(cosines)[:, None] * x[:, None]) * fade[:, None]).astype(np.float32)


def _start(light: np.ndarray) -> np.ndarray:
    """(N, 1): where the light first exceeds EDGE of its largest value, between two pixels; -0.5 where it does so at once."""
    enough = EDGE * light.max(axis=1, keepdims=True)
    first = (light > enough).argmax(axis=1)[:, None]
    before, after = (np.take_along_axis(light, np.maximum(first - k, 0), axis=1) for k in (1, 0))
    return np.where(first > 0, first - 1 + (enough - before) / np.maximum(after - before, 1e-6), -0.5)


@functools.cache
def _orders(cosines: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each term: its frequency, and -1 where mirroring left and right changes its sign."""
    down, across = np.divmod(np.arange(1, cosines**2), cosines)
    return np.hypot(down, across).astype(np.float32), np.where(across % 2 == 1, -1, 1).astype(np.float32)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) float32 of two sets of fingerprints: 1 for equal pictures or mirror images, about 0 for unrelated ones."""
    left, right = _unit(a), _unit(b)
    return np.maximum(left @ right.T, (left * _mirror(left)) @ right.T)


def _unit(prints: np.ndarray) -> np.ndarray:
    return np.float32(prints) / np.maximum(np.linalg.norm(np.float32(prints), axis=1, keepdims=True), 1)


def _mirror(prints: np.ndarray) -> np.ndarray:
    return _orders(round((prints.shape[1] + 1) ** 0.5))[1]


def nearest(a: np.ndarray, b: np.ndarray, chunk: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """For each fingerprint of `b` its nearest in `a`: similarity (m,) float32 and row of `a` (m,) int64.

    Memory is that of two chunks whatever the sizes.
    """
    best, which = np.full(len(b), -1, np.float32), np.zeros(len(b), np.int64)
    for i, j in itertools.product(range(0, len(a), chunk), range(0, len(b), chunk)):
        alike = similarity(a[i : i + chunk], b[j : j + chunk])
        rows, here = alike.argmax(axis=0), alike.max(axis=0)
        better = here > best[j : j + chunk]
        best[j : j + chunk][better] = here[better]
        which[j : j + chunk][better] = i + rows[better]
    return best, which


def closer(a: np.ndarray, b: np.ndarray, moved: np.ndarray, *, framed: bool = False) -> np.ndarray:
    """Similarity (N,) of pictures a and b, pair by pair, in fine terms and with the best of the small NUDGES.

    a, b: (N, H, W[, 3]) uint8, of two sizes if need be. moved: (N, 3) where the search found b to lie, as in `fingerprints`.
    """
    told = _resolved(a) & _resolved(b)
    fixed = _unit(fingerprints(a, FINE, framed=framed) * told)
    best = np.full(len(a), -1, np.float32)
    for nudge in NUDGES:
        other = _unit(fingerprints(b, FINE, moved=moved + nudge, framed=framed) * told)
        best = np.maximum(best, np.maximum((fixed * other).sum(axis=1), (fixed * _mirror(fixed) * other).sum(axis=1)))
    return best


def _resolved(images: np.ndarray) -> np.ndarray:
    """(N, FINE ** 2 - 1) bool: the fine terms with at least three pixels and a half to a wave in each picture's box."""
    bright = images.max(axis=3) if images.ndim == 4 else images
    terms = np.divmod(np.arange(1, FINE**2), FINE)
    told = np.ones((len(images), FINE**2 - 1), bool)
    for axis, term in ((2, terms[0]), (1, terms[1])):
        light = bright.sum(axis=axis, dtype=np.float32)
        side = light.shape[1] - 1 - _start(light[:, ::-1]) - _start(light)
        told &= term[None] <= np.maximum(2 * side / 3.5, COARSE)
    return told


@dataclass(frozen=True)
class Pictures:
    """Pictures to be searched: their coarse fingerprints (N, 143), and how to read some of them (rows -> uint8)."""

    prints: np.ndarray = field(repr=False)
    read: Callable[[np.ndarray], np.ndarray] = field(repr=False)

    @functools.cached_property
    def framed(self) -> np.ndarray:
        """Their coarse fingerprints with the frame as the box."""
        return self.framed_and(MOVES[4])

    def framed_and(self, moved: np.ndarray) -> np.ndarray:
        """The same, all boxes shifted by `moved`."""
        parts = np.split(np.arange(len(self.prints)), range(CHUNK, len(self.prints), CHUNK))
        shifts = [np.tile(moved, (len(rows), 1)) for rows in parts]
        prints = [fingerprints(self.read(r), moved=s, framed=True) for r, s in zip(parts, shifts, strict=True)]
        return np.concatenate(prints)


def search(a: Pictures, b: Pictures, *, framed: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The suspects among all pairs, looked at closely: rows of a, rows of b, similarity (each (k,), k at least 1).

    For each picture of b only the nearest of a counts. Without any suspect the nearest pair of all is looked at, so that
    there is always one to show. framed: pictures may fill their frame, so all is done once more with the frame as their
    box and b moved by two pixels; a pair may then come twice.
    """
    found = [_look(a, b, *nearest(a.prints, b.prints), np.zeros((len(b.prints), 3)), framed=False)]
    if framed:
        passes = [nearest(a.framed, b.framed_and(move)) for move in MOVES]
        best = np.argmax([alike for alike, _ in passes], axis=0)
        alike, which = (np.choose(best, [one[k] for one in passes]) for k in (0, 1))
        found.append(_look(a, b, alike, which, MOVES[best], framed=True))
    rows_a, rows_b, similar = (np.concatenate([one[k] for one in found]) for k in range(3))
    return rows_a, rows_b, similar


def _look(
    a: Pictures, b: Pictures, alike: np.ndarray, which: np.ndarray, moved: np.ndarray, *, framed: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest LOOKS of the pairs that are suspects, looked at closely; at least one pair."""
    suspects = np.argsort(-alike, kind="stable")[: max(1, min(int((alike >= SUSPECT).sum()), LOOKS))]
    similar = closer(a.read(which[suspects]), b.read(suspects), moved[suspects], framed=framed)
    return which[suspects], suspects, similar


# ----------------------------------------------------------------------------------------------------- planted duplicates
def _saved(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def _larger(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    size = round(1.03 * width), round(1.03 * height)
    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return large[top : top + height, left : left + width]


def _moved(image: np.ndarray) -> np.ndarray:
    """Two pixels down and right; what comes in repeats the edge."""
    edges = [(2, 0), (2, 0)] + [(0, 0)] * (image.ndim - 2)
    return np.pad(image, edges, mode="edge")[: image.shape[0], : image.shape[1]]


#: Disguises under which the search has to know a picture again: name -> uint8 (H, W[, 3]) to the same.
DISGUISES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a tenth brighter": lambda image: np.clip(image * 1.1, 0, 255).astype(np.uint8),
    "moved by 2 pixels": _moved,
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "saved as JPEG, quality 60": _saved,
    "3 % larger": _larger,
}
