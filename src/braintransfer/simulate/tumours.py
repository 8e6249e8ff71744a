"""Enhancing masses on slices of simulated brains: the MRI pre-training source, with type and mask.

Three types after the three most common in contrast-enhanced T1 collections: `extra-axial` (meningioma-like: round, even, bright,
on the surface), `infiltrating` (glioma-like: ragged bright rim, dark core, dark oedema around it that is not in the mask) and
`central` (pituitary-like: at the sella, between the temporal poles). Contrast, artefacts and bending come from the "source"
prior of `brains`, wider than that of the targets, and most of these heads have skull and scalp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from braintransfer.simulate.brains import render, simulate_anatomy, smooth_noise
from braintransfer.study import stream

if TYPE_CHECKING:
    from braintransfer.recipes.samples import SourceImage

TYPES = ("extra-axial", "infiltrating", "central")
#: How often each type comes: half way between equal parts and the 3064 real slices of `brain_tumour_t1ce` (.23 .47 .30), on which
#: half of all answers would be right without looking. From that set the brightness of the masses (against the median of the
#: head around: 1.5, 1.0, 1.4), their sizes and the field of view were set as well.
SHARES = (0.28, 0.40, 0.32)
PLANES = ("axial", "coronal", "sagittal")
#: Position of the sella in template mm; the mass grows upwards from it.
SELLA = (0.0, 3.0, -26.0)
#: Radius in mm, from log-uniform limits.
RADII = {"extra-axial": (8.0, 26.0), "infiltrating": (8.5, 24.0), "central": (5.0, 12.0)}


@dataclass(frozen=True)
class Head:
    """One simulated person for slicing: `t1` (white matter about 1) and `brain`, canonical RAS (X, Y, Z) on one grid.

    places: type -> flat indices of the voxels where the middle of such a mass may lie; "falx" is the extra-axial place
    between the hemispheres. extent_mm: the head's three sides, with its scalp.
    """

    t1: np.ndarray
    brain: np.ndarray
    places: dict[str, np.ndarray]
    spacing: float
    extent_mm: tuple[float, float, float]


def simulate_head(rng: np.random.Generator, spacing_mm: float) -> Head:
    """A head of the "source" prior; skull and scalp in four of five.

    Masses sit on the supratentorial surface or beside the falx, deep in a hemisphere's white matter, or at the sella.
    """
    person = simulate_anatomy(rng, spacing_mm, "source")
    t1, _ = render(rng, person, "source", scalp=bool(rng.uniform() < 0.8))
    depth = ndimage.distance_transform_edt(person.brain, sampling=spacing_mm)
    x, y, z = (person.template_mm[..., axis] for axis in range(3))
    from_sella = np.square(person.template_mm - np.array(SELLA, np.float32)).sum(-1)
    fits = {
        "extra-axial": person.brain & (depth < 4) & (z > -15),
        "falx": person.brain & (np.abs(x) < 6) & (np.abs(x) > 3) & (z > 30),
        "infiltrating": (person.labels == 3) & (depth > 12) & (np.abs(x) > 14) & (z > -20) & ((z > 0) | (y > -40)),
        "central": from_sella == from_sella.min(),
    }
    sides = [np.flatnonzero((t1 > 0.3).any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    x_mm, y_mm, z_mm = (float(s[-1] - s[0] + 1) * spacing_mm for s in sides)
    places = {name: np.flatnonzero(fit) for name, fit in fits.items()}
    return Head(t1, person.brain, places, spacing_mm, (x_mm, y_mm, z_mm))


def _centre(rng: np.random.Generator, head: Head, kind: str) -> np.ndarray:
    """A voxel (3,) where the middle of a mass of this type may lie."""
    where = "falx" if kind == "extra-axial" and rng.uniform() < 0.15 else kind
    place = np.array(np.unravel_index(int(rng.choice(head.places[where])), head.brain.shape))
    return place + rng.normal(0, 1, 3).round().astype(int) if kind == "central" else place


def _plane(volume: np.ndarray, plane: str, index: int) -> np.ndarray:
    """One slice as a picture: axial and coronal in radiological display, sagittal facing left; upright rows."""
    if plane == "axial":
        return volume[:, :, index].T[::-1, ::-1]
    if plane == "coronal":
        return volume[:, index].T[::-1, ::-1]
    return volume[index].T[::-1, ::-1]


def _fit(picture: np.ndarray, size: int, field_mm: float, spacing: float, order: int) -> np.ndarray:
    """A slice resampled to (size, size) pixels that show `field_mm`, centred; 0 beyond its edge."""
    step = field_mm / size / spacing
    middle = [(n - 1) / 2 for n in picture.shape]
    axes = [(np.arange(size) - (size - 1) / 2) * step + m for m in middle]
    return ndimage.map_coordinates(picture, np.meshgrid(*axes, indexing="ij"), order=order, mode="constant", cval=0)


def _mass(
    rng: np.random.Generator,
    kind: str,
    tissue: np.ndarray,
    inside: np.ndarray,
    centre: np.ndarray,
    radius: float,
    spacing: float,
) -> tuple[np.ndarray, np.ndarray]:
    """A mass painted on a slice: (picture, mask), both (H, W). tissue: white matter about 1; inside: where a mass may be."""
    rows, columns = np.ogrid[: tissue.shape[0], : tissue.shape[1]]
    dy, dx = (rows - centre[0]) * spacing, (columns - centre[1]) * spacing
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(-0.25, 0.25))
    if kind == "central":  # taller than wide once it has left the sella
        turn, stretch = rng.uniform(-0.15, 0.15), np.exp(rng.uniform(0.0, 0.25))
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    ragged = {"extra-axial": 0.10, "infiltrating": 0.28, "central": 0.07}[kind]
    rough = smooth_noise(rng, (1, *tissue.shape), spacing, max(radius, 8))[0, 0]
    fine = smooth_noise(rng, (1, *tissue.shape), spacing, 5)[0, 0]
    distance = np.hypot(along * stretch, across / stretch) * (1 + ragged * np.clip(rough, -2, 2)) + ragged * 4 * fine
    alpha = np.clip((radius - distance) / 1.5 + 0.5, 0, 1) * ndimage.gaussian_filter(inside.astype(np.float32), 0.5)
    # Raggedness may pinch off islands; a mass here is one piece.
    pieces, count = ndimage.label(alpha > 0.5)
    if count > 1:
        largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
        alpha = alpha * ndimage.binary_dilation(largest, iterations=2) * ~((pieces > 0) & ~largest)
    mask = (alpha > 0.5) & inside

    picture = tissue.copy()
    texture = 0.05 * fine + 0.04 * rng.standard_normal(tissue.shape)
    if kind == "infiltrating":
        # Oedema: wider than the mass, along white matter, never brighter than it; outside the mask.
        spread = np.clip((radius * rng.uniform(1.3, 1.9) - distance) / 6, 0, 1) * inside
        picture *= 1 - 0.28 * spread * np.clip(picture / 0.9, 0, 1)
        core = np.clip((radius * rng.uniform(0.45, 0.8) - distance * (1 + 0.15 * fine)) / 2 + 0.5, 0, 1)
        rim, dark = rng.uniform(0.8, 1.25), rng.uniform(0.2, 0.45)
        filled = rim + 0.15 * rough + (dark - rim - 0.15 * rough) * core
    elif kind == "extra-axial":
        filled = rng.uniform(0.85, 1.25) * (1 + 0.05 * rough)
        # A thin dark cleft between mass and brain.
        cleft = np.exp(-np.square((distance - radius - 1.0) / 1.0)) * inside
        picture *= 1 - 0.25 * cleft
    else:
        filled = rng.uniform(0.85, 1.2) * (1 + 0.08 * rough)
        if rng.uniform() < 0.3:  # a cystic part
            shift = radius * rng.uniform(0.1, 0.4, 2)
            cyst = np.clip((radius * rng.uniform(0.25, 0.45) - np.hypot(dx - shift[0], dy - shift[1])) / 2 + 0.5, 0, 1)
            filled = filled + (0.35 - filled) * cyst
    return picture + alpha * (filled + texture - picture), mask


def _pushed(picture: np.ndarray, centre: np.ndarray, radius: float, strength: float) -> np.ndarray:
    """The slice with its tissue pushed away from `centre` (mass effect): radial, fading over one and a half radii (voxels)."""
    rows, columns = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in picture.shape), indexing="ij")
    dy, dx = rows - centre[0], columns - centre[1]
    away = np.hypot(dy, dx) + 1e-3
    shift = strength * radius * (away / radius) * np.exp(-np.square(away / (1.5 * radius)))
    return ndimage.map_coordinates(
        picture, [rows - shift * dy / away, columns - shift * dx / away], order=1, mode="nearest"
    )


def tumour_slice(rng: np.random.Generator, size: int, head: Head) -> tuple[np.ndarray, np.ndarray, str]:
    """One slice of `head` with one mass: image uint8 (size, size), mask uint8 0/1 (never empty), type.

    Type by `SHARES`, planes equally likely. The field of view is .92 to 1.15 of the head's longer side in that plane.
    """
    while True:
        kind, plane = str(rng.choice(TYPES, p=SHARES)), str(rng.choice(PLANES))
        axis = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
        place = _centre(rng, head, kind)
        low, high = RADII[kind]
        radius = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        # The slice cuts the ball somewhere within its inner 70 %.
        off = radius * rng.uniform(-0.7, 0.7)
        index = int(round(place[axis] + off / head.spacing))
        if not 0 <= index < head.t1.shape[axis]:
            continue
        seen = float(np.sqrt(radius**2 - off**2))
        across = [a for a in range(3) if a != axis]
        # Rows run down the second remaining axis, columns along the first, both reversed: see `_plane`.
        shape = head.t1.shape
        centre = np.array([shape[across[1]] - 1 - place[across[1]], shape[across[0]] - 1 - place[across[0]]], float)
        tissue = _plane(head.t1, plane, index).astype(np.float32)
        brain = _plane(head.brain, plane, index)
        if brain.sum() * head.spacing**2 < 2500:
            continue
        if kind == "central":
            # The sella lies below the brain: the mass fills it and rises between the temporal lobes.
            centre[0] -= 0.2 * seen / head.spacing if plane != "axial" else 0.0
            inside = ndimage.binary_closing(np.pad(brain, 12), iterations=max(int(12 / head.spacing), 1))[
                12:-12, 12:-12
            ]
            rows, columns = np.ogrid[: brain.shape[0], : brain.shape[1]]
            inside |= np.hypot(rows - centre[0], columns - centre[1]) * head.spacing < 1.3 * radius
        elif kind == "extra-axial":
            inside = ndimage.binary_dilation(brain, iterations=max(int(2 / head.spacing), 1))
        else:
            inside = brain
        radius_px = seen / head.spacing
        tissue = _pushed(tissue, centre, radius_px, rng.uniform(0.15, 0.4))
        picture, mask = _mass(rng, kind, tissue, inside, centre, seen, head.spacing)

        field = max(head.extent_mm[a] for a in across) * rng.uniform(0.92, 1.15)
        image = _fit(picture, size, field, head.spacing, 1)
        target = _fit(mask.astype(np.float32), size, field, head.spacing, 1) > 0.5
        if target.sum() < 12:
            continue
        image = image + rng.normal(0, rng.uniform(0, 0.02), image.shape) * (image > 0.02)
        top = np.percentile(image[image > 0.05], 99.7)
        return np.clip(np.rint(image / top * 255), 0, 255).astype(np.uint8), target.astype(np.uint8), kind


def simulated_mri(n: int, size: int, seed: int) -> Iterator[SourceImage]:
    """`n` slices with masses, `size` px, from 8 to 40 simulated persons (about 40 slices each); subject = that person.

    Pictures come person by person; those of one person differ in slice, plane and mass. The grid of the heads is as fine as
    the pictures ask, between 1.2 and 2.4 mm.
    """
    from braintransfer.recipes.samples import SourceImage

    persons = int(np.clip(n // 40, 8, 40))
    spacing = float(np.clip(200 / size, 1.2, 2.4))
    shares = [n // persons + (k < n % persons) for k in range(persons)]
    for k, share in enumerate(shares):
        if not share:
            continue
        rng = stream(seed, f"simulation/mri/{k}")
        head = simulate_head(rng, spacing)
        for index in range(share):
            image, mask, kind = tumour_slice(rng, size, head)
            yield SourceImage(f"sim-head-{k + 1:02d}", f"head-{k + 1:02d}-slice-{index + 1:03d}", image, mask, kind)
