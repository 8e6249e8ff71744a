"""Lesion shapes of simulated people: masks of MS lesions and of strokes, with volumes and places like measured ones.

How a mask darkens a scan is in `lesions`, which serves real masks too.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.stats import norm

from braintransfer.simulate.brains import Anatomy, sample_anatomy, smooth_noise
from braintransfer.simulate.lesions import EVERY_NEIGHBOUR

#: Smallest MS lesion of the demo: a third of real ones leave no voxel at 2 mm.
MS_DEMO_MM3 = 64.0
#: log-normal lesion volumes: MS in mm³ (30 real masks), stroke in mL (ATLAS).
MS_MU, MS_SIGMA = 2.89, 1.62
#: Load (mL) of the 30 masks at 0, 25, 50, 75 and 100 %.
MS_LOADS = (0.32, 1.8, 13.9, 28.2, 52.2)
#: The scattered lesions alone; with the confluent ones the spread is MS_SIGMA.
MS_SCATTERED_SIGMA = 1.5
STROKE_MEDIAN_ML, STROKE_SIGMA = 5.0, 1.5
#: Shape of strokes: log-normal spread of the three axes' lengths, and how far the edge wanders, in radii of the stroke, on
#: two scales (also in radii). Set so that shapes are about as compact and as smooth as those of LESYMAP and SOOP.
STROKE_STRETCH = 0.3
STROKE_ROUGHNESS = {1.2: 0.5, 0.5: 0.5}
TERRITORIES = {"MCA": 0.75, "PCA": 0.15, "ACA": 0.10}


def draw_ms_volumes(rng: np.random.Generator, demo: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """One person's lesion volumes in mm³: (scattered lesions, confluent ones around the ventricles).

    Numbers of 30 real masks: 17-392 lesions, median 79; volume log-normal (2.89, 1.62); load 14 mL (median, see
    `MS_LOADS`), correlated with the number (.74). Independent log-normal lesions alone would give 5 mL: in the real masks
    the rest lies in one to three large confluent lesions, and so it does here. A person of little load has no large lesion.
    demo: only lesions of at least 64 mm³, and so fewer of them.
    """
    common, own = rng.standard_normal(2)
    count = int(np.clip(round(79 * np.exp(0.9 * common)), 17, 392))
    share = float(norm.cdf(0.74 * common + 0.67 * own))
    load = 1000 * float(np.exp(np.interp(share, np.linspace(0, 1, 5), np.log(MS_LOADS))))
    volumes = np.minimum(np.exp(rng.normal(MS_MU, MS_SCATTERED_SIGMA, count)), min(3000.0, load / 5))
    rest = load - float(volumes.sum())
    volumes *= min(load / float(volumes.sum()), 1.0)
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

    tissue = region & (person.labels > 1)
    if volume < 1.5:  # small strokes are mostly lacunes: deep white matter and nuclei
        deep = tissue & (_coarse_distance(person.labels == 1, spacing) < 15)
        tissue = deep if deep.sum() > 50 else tissue
    places = np.flatnonzero(tissue)

    def grow(size: int) -> np.ndarray:
        start = np.array(np.unravel_index(int(rng.choice(places)), region.shape))
        radius = (3 * size / (4 * np.pi)) ** (1 / 3) * spacing
        turned = np.linalg.qr(rng.standard_normal((3, 3)))[0] * np.exp(rng.normal(0, STROKE_STRETCH, 3))
        offset = [
            (np.arange(n, dtype=np.float32) - c) * spacing / radius for n, c in zip(region.shape, start, strict=True)
        ]
        x, y, z = np.ix_(*offset)
        square = sum(np.square(x * a + y * b + z * c) for a, b, c in turned.T)
        score = np.sqrt(square, dtype=np.float32)
        for part, strength in STROKE_ROUGHNESS.items():
            scale = max(part * radius, 4 * spacing)
            score += strength * smooth_noise(rng, region.shape, spacing, scale)[0]
        seed = tuple(int(i) for i in start)
        score[seed] = -np.inf
        # Islands are dropped, so more voxels are asked for until what hangs together with the start is enough.
        for asked in (1.0, 1.3, 1.7, 2.2, 3.0):
            grown = _part_with(_smallest(score, region, int(asked * size)), seed)
            if grown.sum() > 0.9 * size:
                break
        return _part_with(_smallest(score, grown, size), seed)

    mask = grow(count)
    mask = (mask | ndimage.binary_fill_holes(mask)) & region
    if rng.uniform() < 0.125:
        mask |= grow(max(int(count * rng.uniform(0.05, 0.25)), 2))
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
