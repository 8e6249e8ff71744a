"""Lesions in a T1: the one way in which a lesion mask darkens a scan, simulated or real.

A lesion voxel is drawn as a mixture of the tissue that was there and fluid, so that contrast 1.0 leaves the picture as it
was, voxel for voxel, and a soft edge needs no smoothing of the scan.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from braintransfer.simulate.brains import draw_out, smooth_noise

Contrast = Literal["real", "demo"] | float
Spacing = tuple[float, float, float] | np.ndarray

#: Intensity of fluid relative to white matter: what a lesion is mixed with.
FLUID = 0.28
#: Contrast of real MS lesions (mean inside / local white matter) at 5, 25, 50, 75 and 95 %: below and above 50 mm³.
#: Together, with 74 % small lesions, they give the measured .63 .79 .91 .95 1.01 of 135 real lesions.
QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95)
MS_SMALL = (0.70, 0.86, 0.925, 0.96, 1.02)
MS_LARGE = (0.55, 0.70, 0.79, 0.87, 0.95)
MS_SPLIT_MM3 = 50.0
MS_DEMO = (0.45, 0.75)
STROKE_CORE = (0.3, 0.5)
STROKE_RIM = (0.6, 0.8)

EVERY_NEIGHBOUR = np.ones((3, 3, 3), bool)


def white_matter_of(t1: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """A rough white-matter map, (X, Y, Z) bool: the brightest of three Otsu classes, a voxel away from the brain's edge."""
    values = t1[brain]
    low, high = np.percentile(values, [0.5, 99.5])
    threshold = threshold_multiotsu(np.clip(values, low, high), classes=3, nbins=128)[-1]
    return (t1 > threshold) & ndimage.binary_erosion(brain)


def local_white_matter(
    t1: np.ndarray, white_matter: np.ndarray, spacing: Spacing, sigma_mm: float = 8.0, without: np.ndarray | None = None
) -> np.ndarray:
    """White-matter intensity around every voxel, (X, Y, Z) float32: Gaussian mean of white-matter voxels, `without` left out.

    Where no white matter is near, the median of all of it. The field follows a bias field.
    """
    used = white_matter if without is None else white_matter & ~without
    sigma = [sigma_mm / s / 2 for s in spacing]
    middle = float(np.median(t1[used]))
    # Every second voxel is enough for so smooth a field.
    weight, total = (
        ndimage.gaussian_filter(ndimage.uniform_filter(v.astype(np.float32), 2)[::2, ::2, ::2], sigma, truncate=3)
        for v in (used, np.where(used, t1, 0))
    )
    # A little of the whole scan's median keeps the quotient steady where white matter is far.
    return draw_out(((total + 0.01 * middle) / (weight + 0.01))[None], t1.shape)[0]


def draw_ms_contrast(rng: np.random.Generator, volume_mm3: np.ndarray, contrast: Contrast) -> np.ndarray:
    """One contrast per lesion, by its volume; the quantile functions are linear between their points and clipped outside."""
    level = rng.uniform(0, 1, len(volume_mm3))
    if contrast == "demo":
        return MS_DEMO[0] + (MS_DEMO[1] - MS_DEMO[0]) * level
    if contrast != "real":
        return np.full(len(volume_mm3), float(contrast))
    small = np.interp(level, QUANTILES, MS_SMALL)
    large = np.interp(level, QUANTILES, MS_LARGE)
    return np.where(volume_mm3 < MS_SPLIT_MM3, small, large)


def _noise_like(t1: np.ndarray, white_matter: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise with the strength of that in the white matter of `t1` (its fine-grained part: voxel minus neighbours)."""
    drawn = ndimage.gaussian_filter(rng.standard_normal(t1.shape, dtype=np.float32), 0.45)
    fine = (t1 - ndimage.uniform_filter(t1, 3))[white_matter]
    own = drawn - ndimage.uniform_filter(drawn, 3)
    strength = 1.4826 * float(np.median(np.abs(fine - np.median(fine)))) / max(float(own.std()), 1e-9)
    return drawn * strength


def _mix(
    t1: np.ndarray,
    brain: np.ndarray,
    share: np.ndarray,
    rng: np.random.Generator,
    spacing: Spacing,
    white_matter: np.ndarray | None,
) -> np.ndarray:
    """Tissue and fluid mixed: `share` (X, Y, Z) is the part of fluid; the scan's noise is filled up where mixing damps it."""
    source = np.asarray(t1, dtype=np.float32)
    changed = (share != 0) & brain
    result = source.copy()
    if not changed.any():
        return result
    # Work in the lesions' box only; the margin holds enough white matter for the local level.
    margin = [int(np.ceil(25 / s)) for s in spacing]
    place = np.argwhere(changed)
    box = tuple(
        slice(max(int(a) - m, 0), int(b) + m + 1) for a, b, m in zip(place.min(0), place.max(0), margin, strict=True)
    )
    white = (white_matter_of(source, brain) if white_matter is None else white_matter)[box]
    inside, part, before = changed[box], share[box], source[box]
    level = local_white_matter(before, white, spacing)
    noise = _noise_like(before, white, rng)
    kept = 1 - part[inside]
    fill = np.sqrt(np.clip(1 - kept**2, 0, 1)) * noise[inside]
    result[box][inside] = kept * before[inside] + part[inside] * FLUID * level[inside] + fill
    return result


def _check(t1: np.ndarray, brain: np.ndarray, lesion: np.ndarray) -> None:
    if not t1.shape == brain.shape == lesion.shape:
        raise ValueError(f"T1 {t1.shape}, brain {brain.shape} and lesion {lesion.shape} must lie on one grid")


def insert_ms(
    t1: np.ndarray,
    brain: np.ndarray,
    lesion: np.ndarray,
    rng: np.random.Generator,
    spacing: Spacing,
    contrast: Contrast = "real",
    white_matter: np.ndarray | None = None,
) -> np.ndarray:
    """T1 with MS lesions drawn in: (X, Y, Z) float32, same grid and same intensity units as `t1`.

    t1, brain, lesion: (X, Y, Z) of one grid (any orientation); spacing: mm per voxel of the three axes.
    contrast: "real" (quantiles by lesion volume), "demo" (.45-.75), or one number for all lesions: mean intensity inside a
    lesion relative to local white matter. Tissue that is darker than that stays as it is, and 1.0 returns the input voxel
    for voxel. white_matter: boolean map where known, else estimated from `t1` inside `brain`. Raises ValueError when the
    grids differ.
    """
    _check(t1, brain, lesion)
    brain, lesion = brain.astype(bool), lesion.astype(bool) & brain.astype(bool)
    labelled, count = ndimage.label(lesion, EVERY_NEIGHBOUR)
    if not count:
        return np.asarray(t1, dtype=np.float32).copy()
    sizes = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
    drawn = draw_ms_contrast(rng, sizes * float(np.prod(spacing)), contrast)
    sigma = [0.7 / s for s in spacing]
    softness = ndimage.gaussian_filter(lesion.astype(np.float32), sigma)
    if white_matter is None:
        white_matter = white_matter_of(np.asarray(t1, dtype=np.float32), brain)
    relative = t1 / local_white_matter(t1, white_matter, spacing)
    # Tissue inside a mask is seldom all white matter, and the soft edge takes from the mean inside: the strength makes good
    # for both. Bright tissue counts as white matter and dark tissue is never brightened, or contrast 1.0 would show.
    start, reach = (
        np.bincount(labelled.ravel(), v.ravel(), minlength=count + 1)[1:] / sizes
        for v in (relative, softness * np.maximum(np.minimum(relative, 1) - FLUID, 0.1))
    )
    above_one = np.minimum((1 - drawn) / (1 - FLUID), 0)
    strength = np.maximum((np.minimum(start, 1) - drawn) / reach, above_one)
    field = np.concatenate([[0.0], strength]).astype(np.float32)[labelled]
    field *= 1 + 0.1 * smooth_noise(rng, t1.shape, float(np.mean(spacing)), 6)[0]
    share = np.minimum(ndimage.gaussian_filter(field, sigma), 0.97)
    share[np.abs(share) < 1e-4] = 0
    return _mix(t1, brain, share, rng, spacing, white_matter)


def insert_stroke(
    t1: np.ndarray,
    brain: np.ndarray,
    lesion: np.ndarray,
    rng: np.random.Generator,
    spacing: Spacing,
    contrast: Contrast = "real",
    white_matter: np.ndarray | None = None,
) -> np.ndarray:
    """T1 with a chronic stroke drawn in: core at .3-.5 of white matter, a rim of up to 3 mm at .6-.8, soft edge.

    Arguments, result and errors as in `insert_ms`; "demo" is the same as "real", a number holds for core and rim alike.
    """
    _check(t1, brain, lesion)
    brain, lesion = brain.astype(bool), lesion.astype(bool) & brain.astype(bool)
    if not lesion.any():
        return np.asarray(t1, dtype=np.float32).copy()
    if contrast in ("real", "demo"):
        core, rim = rng.uniform(*STROKE_CORE), rng.uniform(*STROKE_RIM)
    else:
        core = rim = float(contrast)
    depth = ndimage.distance_transform_edt(lesion, sampling=list(spacing))
    width = min(3.0, 0.4 * float(depth.max()))
    width_field = width * (1 + 0.4 * smooth_noise(rng, t1.shape, float(np.mean(spacing)), 10)[0])
    inner = np.clip((depth - width_field) / 1.5 + 0.5, 0, 1)
    relative = np.where(lesion, rim + (core - rim) * inner, 1)
    share = ((1 - relative) / (1 - FLUID)).astype(np.float32)
    share = np.clip(ndimage.gaussian_filter(share, [0.7 / s for s in spacing]), -1, 0.99)
    share[np.abs(share) < 1e-4] = 0
    return _mix(t1, brain, share, rng, spacing, white_matter)
