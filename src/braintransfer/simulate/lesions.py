"""Lesions: random shapes for simulated brains, and the one way in which a lesion mask darkens a T1, simulated or real.

A lesion voxel is drawn as a mixture of the tissue that was there and fluid, so that contrast 1.0 leaves the picture as it
was, voxel for voxel, and a soft edge needs no smoothing of the scan.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from braintransfer.simulate.brains import Anatomy, draw_out, sample_anatomy, smooth_noise

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
MS_DEMO_MM3 = 64.0
STROKE_CORE = (0.3, 0.5)
STROKE_RIM = (0.6, 0.8)
#: log-normal lesion volumes: MS in mm³ (30 real masks), stroke in mL (ATLAS).
MS_MU, MS_SIGMA = 2.89, 1.62
#: The scattered lesions alone; with the confluent ones the spread is MS_SIGMA.
MS_SCATTERED_SIGMA = 1.5
STROKE_MEDIAN_ML, STROKE_SIGMA = 5.0, 1.5
TERRITORIES = {"MCA": 0.75, "PCA": 0.15, "ACA": 0.10}

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
    lesion relative to local white matter. 1.0 returns the input voxel for voxel. white_matter: boolean map where known,
    else estimated from `t1` inside `brain`. Raises ValueError when the grids differ.
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
    inside = np.bincount(labelled.ravel(), softness.ravel(), minlength=count + 1)[1:] / sizes
    # The soft edge takes from the mean inside the mask; the strength gives it back, as far as there is more than fluid.
    strength = np.minimum((1 - drawn) / (1 - FLUID) / inside, 1.25)
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


def draw_ms_volumes(rng: np.random.Generator, demo: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """One person's lesion volumes in mm³: (scattered lesions, confluent ones around the ventricles).

    Numbers of 30 real masks: 17-392 lesions, median 79; volume log-normal (2.89, 1.62); load 14 mL (median), correlated with
    the number (.74). Independent log-normal lesions alone would give 5 mL: in the real masks the rest lies in one to three
    large confluent lesions, and so it does here. demo: only lesions of at least 64 mm³, and so fewer of them.
    """
    common, own = rng.standard_normal(2)
    count = int(np.clip(round(79 * np.exp(0.9 * common)), 17, 392))
    volumes = np.minimum(np.exp(rng.normal(MS_MU, MS_SCATTERED_SIGMA, count)), 3000.0)
    load = float(np.clip(14_000 * np.exp(1.3 * (0.74 * common + 0.67 * own)), 500, 52_000))
    rest = load - float(volumes.sum())
    pieces = rng.dirichlet([2.0, 1.0, 0.5]) * rest if rest > 500 else np.zeros(0)
    if demo:
        volumes = volumes[volumes >= MS_DEMO_MM3]
        # A person keeps enough lesions to learn and to count from.
        while len(volumes) < 6:
            more = np.exp(rng.normal(MS_MU, MS_SCATTERED_SIGMA, 64))
            volumes = np.append(volumes, more[(more >= MS_DEMO_MM3) & (more < 3000)][: 6 - len(volumes)])
    return volumes, pieces[pieces > (MS_DEMO_MM3 if demo else 100.0)]


def _part_with(mask: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """The 26-connected part of `mask` that holds voxel `seed`."""
    labelled, count = ndimage.label(mask, EVERY_NEIGHBOUR)
    return mask if count <= 1 else labelled == labelled[seed]


def _smallest(score: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Boolean: the `count` allowed voxels of least score."""
    values = score[allowed]
    chosen = np.zeros(score.shape, bool)
    if count >= len(values):
        return allowed.copy()
    chosen[allowed] = values <= np.partition(values, count - 1)[count - 1]
    return chosen


def _coarse_distance(mask: np.ndarray, spacing: float) -> np.ndarray:
    """Distance in mm to `mask`, (X, Y, Z): measured on every second voxel, fine enough to place lesions by."""
    coarse = ndimage.distance_transform_edt(~mask[::2, ::2, ::2], sampling=2 * spacing).astype(np.float32)
    doubled = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return ndimage.uniform_filter(doubled[tuple(slice(n) for n in mask.shape)], 3)


def ms_lesions(person: Anatomy, rng: np.random.Generator, demo: bool = False) -> np.ndarray:
    """A mask (X, Y, Z) bool of MS lesions: periventricular and juxtacortical white matter, none touching another.

    Lesions smaller than half a voxel leave no voxel and are not drawn. A lesion for which no place is free is left out.
    """
    spacing = person.spacing
    voxel = spacing**3
    white = person.labels == 3
    x, y, z = (person.template_mm[..., axis] for axis in range(3))
    above = ~_below_tentorium(x, y, z)
    lateral = (person.labels == 1) & (z > -6) & ((np.abs(x) > 5) | (z > 12))
    from_ventricle = _coarse_distance(lateral, spacing)
    cortex = ndimage.uniform_filter((person.labels == 2).astype(np.float32), 3)
    allowed = (
        white | (person.labels == 2) & (ndimage.uniform_filter(white.astype(np.float32), 3) > 0.4)
    ) & person.brain
    weight = np.where(white, 0.1 + 2.0 * np.exp(-from_ventricle / 5) + 0.5 * (cortex > 0.1), 0) * np.where(
        above, 1, 0.1
    )

    scattered, confluent = draw_ms_volumes(rng, demo)
    mask = np.zeros(white.shape, bool)
    free = allowed.copy()
    rough = smooth_noise(rng, white.shape, spacing, 6)[0]
    places = np.flatnonzero(weight)
    odds = np.cumsum(weight.ravel()[places])

    def centres(count: int) -> np.ndarray:
        drawn = places[np.searchsorted(odds, rng.uniform(0, odds[-1], count))]
        return np.stack(np.unravel_index(drawn, white.shape), 1)

    def add(part: np.ndarray, corner: np.ndarray) -> None:
        box = tuple(slice(int(a), int(a) + n) for a, n in zip(corner, part.shape, strict=True))
        mask[box] |= part
        wide = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        free[wide] &= ~ndimage.binary_dilation(mask[wide], EVERY_NEIGHBOUR)

    near = np.flatnonzero(white & above & (from_ventricle < 4))
    for volume in np.sort(confluent)[::-1]:
        seed = tuple(int(i) for i in np.unravel_index(int(rng.choice(near)), white.shape))
        if not free[seed] or abs(x[seed]) <= 1:
            continue
        side = np.sign(x[seed])
        away = np.sqrt(sum((person.template_mm[..., a] - person.template_mm[seed][a]) ** 2 for a in range(3)))
        score = from_ventricle + 0.4 * away + 1.5 * rough
        score[seed] = -np.inf
        nearby = free & above & (x * side > 1)
        wanted = max(int(round(volume / voxel)), 1)
        # Pieces that do not hang together with the seed are dropped, so more voxels are asked for until the rest is enough.
        for asked in (1.0, 1.3, 1.7):
            part = _part_with(_smallest(score, nearby, int(asked * wanted)), seed)
            if part.sum() > 0.85 * wanted:
                break
        add(part, np.zeros(3, int))

    for volume in np.sort(scattered)[::-1]:
        count = int(np.ceil(volume / voxel - 1e-9)) if demo else int(round(volume / voxel))
        if count == 0:
            continue
        stretch = float(rng.uniform(1.0, 2.2))
        reach = int(np.ceil((3 * volume / (4 * np.pi)) ** (1 / 3) * 2.2 / spacing)) + 1
        best, best_corner = None, None
        for centre in centres(8):
            if not free[tuple(centre)]:
                continue
            low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, white.shape)
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            offset = np.ix_(*(np.arange(a, b, dtype=np.float32) - c for a, b, c in zip(low, high, centre, strict=True)))
            # Long axis away from the ventricle, as the veins run.
            axis = _away_from(from_ventricle, centre)
            along = axis[0] * offset[0] + axis[1] * offset[1] + axis[2] * offset[2]
            square = offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2
            score = np.sqrt(square - along**2 * (1 - 1 / stretch**2) + 1e-6) * (1 + 0.2 * np.clip(rough[box], -2, 2))
            middle = tuple(int(i) for i in centre - low)
            score[middle] = -1
            part = _part_with(_smallest(score, free[box], count), middle)
            if best is None or part.sum() > best.sum():
                best, best_corner = part, low
            if best.sum() >= count:
                break
        if best is not None and best_corner is not None and (best.sum() * voxel >= MS_DEMO_MM3 or not demo):
            add(best, best_corner)
    return mask


def _away_from(distance: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Unit vector (3,) along which `distance` grows at a voxel."""
    steps = []
    for axis in range(3):
        up, down = centre.copy(), centre.copy()
        up[axis] = min(up[axis] + 3, distance.shape[axis] - 1)
        down[axis] = max(down[axis] - 3, 0)
        steps.append(float(distance[tuple(up)] - distance[tuple(down)]))
    vector = np.array(steps)
    size = float(np.linalg.norm(vector))
    return vector / size if size > 0 else np.array([0.0, 0.0, 1.0])


def _below_tentorium(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Cerebellum and brain stem, roughly: below a roof that falls from the midline, behind y = -8 (template mm)."""
    return (z < -10 - 0.25 * np.abs(x)) & (y < -34) | (z < -8) & (y < -8) & (np.abs(x) < 16)


def territory(template_mm: np.ndarray, name: str) -> np.ndarray:
    """Boolean map of one arterial territory, both sides, from template mm (..., 3). A rough box-and-plane model.

    ACA: the medial strip up to 16 mm from the midline in front of y = -50, and the top. PCA: occipital lobe behind y = -60
    below z = 28, medial and lower temporal lobe, thalamus. MCA: the other supratentorial brain.
    """
    x, y, z = np.abs(template_mm[..., 0]), template_mm[..., 1], template_mm[..., 2]
    below = _below_tentorium(x, y, z)
    thalamus = ((x - 11) / 11) ** 2 + ((y + 18) / 14) ** 2 + ((z - 7) / 10) ** 2 < 1
    posterior = ((y < -60) & (z < 28) & (x < 48)) | ((z < -4) & (y < -12) & (x < 40)) | thalamus
    anterior = ((x < 16) & (y > -50) & ((z > 18) | (y > 22))) | ((x < 26) & (z > 58) & (y > -50))
    if name == "PCA":
        return posterior & ~below
    if name == "ACA":
        return anterior & ~posterior & ~below
    return ~anterior & ~posterior & ~below


def draw_stroke_volume(rng: np.random.Generator) -> float:
    """A stroke's volume in mL: log-normal, median 5 mL, sigma 1.5 (ATLAS), held between .05 and 200 mL."""
    return float(np.clip(STROKE_MEDIAN_ML * np.exp(rng.normal(0, STROKE_SIGMA)), 0.05, 200))


def stroke_lesion(person: Anatomy, rng: np.random.Generator) -> tuple[np.ndarray, Anatomy, dict[str, object]]:
    """A stroke mask (X, Y, Z) bool, the person with the ventricle drawn towards it, and what was drawn.

    Volume from `draw_stroke_volume`, cut at 85 % of the territory; one side, one territory; one component, in one person of
    eight a second, smaller one.
    """
    spacing = person.spacing
    voxel_ml = spacing**3 / 1000
    name = str(rng.choice(list(TERRITORIES), p=list(TERRITORIES.values())))
    side = float(rng.choice([-1, 1]))
    # Borders of territories wander by some millimetres from person to person and from gyrus to gyrus.
    wander = 3.5 * np.moveaxis(smooth_noise(rng, person.brain.shape, spacing, 18, 3), 0, -1)
    region = territory(person.template_mm + wander, name) & (side * person.template_mm[..., 0] > 2)
    region &= person.brain & (person.labels != 1)
    volume = draw_stroke_volume(rng)
    count = int(min(max(round(volume / voxel_ml), 2), 0.85 * region.sum()))
    noise = 0.8 * smooth_noise(rng, region.shape, spacing, 24)[0] + 0.5 * smooth_noise(rng, region.shape, spacing, 8)[0]

    tissue = region & (person.labels > 1)
    if volume < 1.5:  # small strokes are mostly lacunes: deep white matter and nuclei
        deep = tissue & (_coarse_distance(person.labels == 1, spacing) < 15)
        tissue = deep if deep.sum() > 50 else tissue
    places = np.flatnonzero(tissue)
    stretch = rng.uniform(0.7, 1.5, 3)

    def grow(start: np.ndarray, size: int) -> np.ndarray:
        radius = (3 * size / (4 * np.pi)) ** (1 / 3)
        offset = [(np.arange(n) - c) * s for n, c, s in zip(region.shape, start, stretch, strict=True)]
        square = np.square(offset[0])[:, None, None] + np.square(offset[1])[:, None] + np.square(offset[2])
        part = _smallest((np.sqrt(square) + 0.45 * radius * noise).astype(np.float32), region, size)
        part[tuple(start)] = True
        return _part_with(part, tuple(int(i) for i in start))

    def start() -> np.ndarray:
        return np.array(np.unravel_index(int(rng.choice(places)), region.shape))

    # Pinched-off pieces are dropped, so a few starts are tried for the one that keeps the drawn volume.
    parts = [grow(start(), count)]
    while parts[-1].sum() < 0.8 * count and len(parts) < 4:
        parts.append(grow(start(), count))
    mask = max(parts, key=lambda part: int(part.sum()))
    mask = (mask | ndimage.binary_fill_holes(mask)) & region
    if rng.uniform() < 0.125:
        mask |= grow(start(), max(int(count * rng.uniform(0.05, 0.25)), 2))
    drawn = _draw_ventricle(person, mask, side)
    mask &= drawn.brain & (drawn.labels != 1)
    return mask, drawn, {"territory": name, "side": "right" if side > 0 else "left", "drawn_ml": round(volume, 2)}


def _draw_ventricle(person: Anatomy, lesion: np.ndarray, side: float) -> Anatomy:
    """The lateral ventricle of the lesion's side drawn towards it (ex vacuo): up to 7 mm, less when small or far away."""
    ventricle = np.argwhere(
        (person.labels == 1) & (side * person.template_mm[..., 0] > 3) & (person.template_mm[..., 2] > -5)
    )
    where = np.argwhere(lesion)
    volume = len(where) * person.spacing**3 / 1000
    if not len(ventricle) or volume < 1:
        return person
    middle = where.mean(0)
    gaps = np.linalg.norm((ventricle - middle) * person.spacing, axis=1)
    near = ventricle[gaps.argmin()]
    direction = (middle - near) / max(np.linalg.norm(middle - near), 1e-6)
    reach = 12.0
    # How far the lesion's edge is, not its middle: a large lesion pulls even when centred at the convexity.
    edge = float(np.min(np.linalg.norm((where - near) * person.spacing, axis=1)))
    shift = min(2.5 * np.log1p(volume / 2), 7.0) * np.exp(-edge / 20)
    square = sum(
        np.square((np.arange(n) - c) * person.spacing).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, c) in enumerate(zip(lesion.shape, near, strict=True))
    )
    amount = (shift * np.exp(-square / (2 * reach**2))).astype(np.float32)
    mm = person.template_mm
    # Mean step of template mm per mm of this grid: columns are the derivatives along the three axes.
    ends = [np.take(mm, -1, axis).mean((0, 1)) - np.take(mm, 0, axis).mean((0, 1)) for axis in range(3)]
    jacobian = np.stack([e / ((n - 1) * person.spacing) for e, n in zip(ends, lesion.shape, strict=True)], 1)
    moved = mm - amount[..., None] * (jacobian @ direction).astype(np.float32)
    return sample_anatomy(moved.astype(np.float32), person.spacing, person.age)
