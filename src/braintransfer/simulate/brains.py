"""Simulated T1 brains: the MNI152 template of nilearn's wheel, bent into persons and re-coloured with measured contrasts.

All these brains are one brain, bent. Coordinates called *template mm* are MNI152 world coordinates (x right, y anterior,
z superior). Tissue contrasts (medians relative to white matter) were measured on 12 real T1 scans.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

Prior = Literal["target", "source"]

#: Soft tissue maps of the template and of every person, in this order. `texture` is what the template's T1 shows beyond
#: its tissue mixture; sulcal CSF is what is left of `brain`.
CHANNELS = ("brain", "ventricle", "cortex", "thalamus", "caudate", "putamen", "white", "texture")
GREY = ("cortex", "thalamus", "caudate", "putamen")

#: Median intensity relative to white matter, and its spread between persons. Grey matter: half way between the medians of 12
#: real scans (.58 .80 .68 .77) and those inside malf's own labels at 1 mm (.63 .86 .72 .82).
CONTRAST: dict[str, tuple[float, float]] = {
    "cortex": (0.605, 0.035),
    "thalamus": (0.83, 0.03),
    "caudate": (0.70, 0.035),
    "putamen": (0.795, 0.03),
    "ventricle": (0.31, 0.11),
}


#: Standard deviation of the cortex's own unevenness, relative to white matter.
CORTEX_TEXTURE = 0.055
#: Size of people's brains against the template's, along one axis, and its log-normal spread.
BRAIN_SCALE, BRAIN_SCALE_SPREAD = 0.9, 0.03


@dataclass(frozen=True)
class Template:
    """The template cropped to the brain: `maps` float32 (X, Y, Z, 8) in the order of `CHANNELS`, RAS, 1 mm.

    `origin`: template mm of voxel (0, 0, 0). `pull`: (X/3, Y/3, Z/3, 3) unit-peak vectors towards the ventricles.
    """

    maps: np.ndarray
    near_brain: np.ndarray
    origin: np.ndarray
    pull: np.ndarray


@dataclass(frozen=True)
class Anatomy:
    """One person before the scanner, canonical RAS: soft maps, labels and where each voxel lies in the template.

    maps: float32 (number of brain voxels, 8), in the order of `brain`'s true voxels; labels: uint8, 0 none, 1 ventricular CSF, 2 grey, 3 white (sulcal CSF is 0 inside `brain`);
    template_mm: (X, Y, Z, 3) float32; spacing: mm, isotropic.
    """

    maps: np.ndarray
    labels: np.ndarray
    brain: np.ndarray
    template_mm: np.ndarray
    spacing: float
    age: float


@dataclass(frozen=True)
class Brain:
    """One simulated scan, all arrays (X, Y, Z) on one grid with `affine` (voxel to world mm, RAS world).

    t1: float32, 0 outside `brain` unless a scalp was asked for; wm_level: intensity of white matter in `t1`.
    """

    t1: np.ndarray
    labels: np.ndarray
    brain: np.ndarray
    affine: np.ndarray
    wm_level: float
    notes: dict[str, object] = field(default_factory=dict)


def _read(name: str) -> tuple[np.ndarray, np.ndarray]:
    # Read from the wheel's folder without importing nilearn, which alone costs seconds.
    folder = importlib.resources.files("nilearn") / "datasets" / "data"
    with importlib.resources.as_file(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") as path:
        image = nib.load(path)
        return np.asarray(image.dataobj).astype(np.float32) / 255, np.asarray(image.affine)  # type: ignore[attr-defined]


Axes = tuple[np.ndarray, np.ndarray, np.ndarray]


def _ellipsoid(mm: Axes, centre: tuple[float, float, float], axes: tuple[float, float, float]) -> np.ndarray:
    """Soft membership (1 inside, 0 outside, about 2 mm between) of an ellipsoid and its mirror image.

    mm: template mm along the three axes, broadcastable float32.
    """
    x, y, z = (np.abs(mm[0]) - centre[0]) / axes[0], (mm[1] - centre[1]) / axes[1], (mm[2] - centre[2]) / axes[2]
    radius = np.sqrt(x * x + y * y + z * z)
    return np.clip((1 - radius) * (min(axes) / 2) + 0.5, 0, 1)


def _ventricle_region(mm: Axes) -> np.ndarray:
    """Where CSF of the template counts as ventricular: boxes around the horns, third and fourth ventricle.

    Boxes, since in the template the ventricles run into the cisterns without a wall.
    """
    x, y, z = np.abs(mm[0]), mm[1], mm[2]
    body = (x < 30) & (y > -45) & (y < 36) & (z > 1) & (z < 33)
    body &= ~((x < 2.5) & ((y > 20) | (z > 24)))  # the gap between the hemispheres
    body &= ~((x < 20) & (y < -28) & (z < 16))  # quadrigeminal cistern
    atrium = (x > 18) & (x < 40) & (y > -60) & (y < -22) & (z > -8) & (z < 26)
    temporal = (x > 25) & (x < 40) & (y > -42) & (y < -6) & (z > -24) & (z < 0)
    third = (x < 5) & (y > -29) & (y < 4) & (z > -12) & (z < 13)
    fourth = (x < 13) & (y > -54) & (y < -33) & (z > -46) & (z < -20)
    return body | atrium | temporal | third | fourth


def _brain_stem_region(mm: Axes) -> np.ndarray:
    """Midbrain, pons and medulla as ellipsoids: the template calls them half grey, manual labels call them white."""
    stem = _ellipsoid(mm, (0, -22, -11), (14, 11, 12))
    stem = np.maximum(stem, _ellipsoid(mm, (0, -25, -33), (18, 17, 16)))
    return np.maximum(stem, _ellipsoid(mm, (0, -40, -55), (12, 13, 22)))


@lru_cache(maxsize=1)
def template() -> Template:
    """The template with its maps; read and derived once per process (a few seconds).

    Deep nuclei have no map in the wheel. Thalamus, caudate and putamen are approximated by mirrored ellipsoids around their
    MNI positions, within what the grey-matter map there allows; the brain stem is white, as in manual labels.
    """
    t1, affine = _read("t1")
    corners = [np.flatnonzero((t1 > 0).any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    low = np.array([max(int(c[0]) - 3, 0) for c in corners])
    box = tuple(slice(a, int(c[-1]) + 4) for a, c in zip(low, corners, strict=True))
    t1, grey, white = t1[box], _read("gm")[0][box], _read("wm")[0][box]
    brain = (ndimage.uniform_filter((t1 > 0).astype(np.float32), 5) > 0.5) | (t1 > 0)
    origin = (affine[:3, 3] + low).astype(np.float32)
    mm = np.ix_(*(np.arange(n, dtype=np.float32) + o for n, o in zip(t1.shape, origin, strict=True)))

    fluid = np.clip(1 - grey - white, 0, 1) * brain
    # The maps are averages of 152 persons and blurred; a power sharpens them towards what one person shows.
    sharp = [p * np.sqrt(p) for p in (fluid, grey, white)]
    total = np.maximum(sharp[0] + sharp[1] + sharp[2], 1e-6) / brain.clip(1e-6)
    fluid, grey, white = (p / total for p in sharp)
    stem = _brain_stem_region(mm)
    white, grey = white + stem * grey, (1 - stem) * grey

    tissue = brain * (1 - fluid)
    ventricle = fluid * _ventricle_region(mm)
    thalamus = np.maximum(_ellipsoid(mm, (11, -17, 7), (10, 13, 9)), _ellipsoid(mm, (16, -27, 6), (8, 8, 8))) * tissue
    # Caudate: the head beside the frontal horn, the body arching backwards above the thalamus.
    shape = np.maximum(_ellipsoid(mm, (13, 13, 5), (8, 13, 12)), _ellipsoid(mm, (16, -2, 19), (6, 16, 6)))
    caudate = shape * np.clip(grey * 1.5, 0, 1) * tissue
    putamen = _ellipsoid(mm, (25.5, 3, 2), (8.5, 19, 12)) * np.clip(grey * 1.6, 0, 1) * tissue
    thalamus *= 1 - caudate
    putamen *= 1 - np.clip(caudate + thalamus, 0, 1)
    deep = np.clip(caudate + thalamus + putamen, 0, 1)
    scale = np.clip(tissue - deep, 0, 1) / np.maximum((white + grey), 1e-6)
    white, cortex = white * scale, grey * scale

    level = float(np.median(t1[white > 0.95]))
    # Medians of the template's own T1 inside each map.
    own = {"ventricle": 0.31, "cortex": 0.75, "thalamus": 0.87, "caudate": 0.82, "putamen": 0.86, "white": 1.0}
    named = dict(ventricle=ventricle, cortex=cortex, thalamus=thalamus, caudate=caudate, putamen=putamen, white=white)
    mixture = sum((own[name] * named[name] for name in own), 0.31 * (fluid - ventricle))
    texture = np.clip(t1 / level - mixture, -0.15, 0.15) * tissue
    slow = ndimage.gaussian_filter(ndimage.uniform_filter(texture, 3)[::3, ::3, ::3], 2)
    named["texture"] = texture - draw_out(slow[None], texture.shape)[0]
    named["brain"] = ndimage.uniform_filter(brain.astype(np.float32), 3)  # a soft edge interpolates smoothly
    maps = np.stack([named[name] for name in CHANNELS], -1).astype(np.float32)

    coarse = ndimage.gaussian_filter(ndimage.uniform_filter(ventricle, 3)[::3, ::3, ::3], 2)
    pull = np.stack(np.gradient(coarse), -1)
    return Template(maps, named["brain"] > 0, origin, (pull / np.abs(pull).max()).astype(np.float32))


def _interpolate(volume: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """Linear interpolation of (X, Y, Z, C) at voxel positions (N, 3), zero outside; float32 (N, C).

    Channels last, so that one look-up in memory serves all of them: several times faster than channel by channel.
    """
    shape = torch.tensor(volume.shape[:3])
    rows = torch.from_numpy(volume).view(-1, volume.shape[3])
    position = torch.from_numpy(np.ascontiguousarray(voxel))
    inside = ((position >= 0) & (position <= shape - 1)).all(1, keepdim=True)
    position = torch.minimum(position.clamp(min=0), shape - 1.001)
    corner = position.floor()
    part = position - corner
    index = corner.long()
    flat = (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[:, 2]
    steps = (int(shape[1] * shape[2]), int(shape[2]), 1)
    result = torch.zeros(len(voxel), volume.shape[3])
    for bits in np.ndindex(2, 2, 2):
        weight = torch.ones(len(voxel), 1)
        for axis, bit in enumerate(bits):
            share = part[:, axis : axis + 1]
            weight = weight * (share if bit else 1 - share)
        offset = sum(bit * step for bit, step in zip(bits, steps, strict=True))
        result.addcmul_(torch.index_select(rows, 0, flat + offset), weight)
    return (result * inside).numpy()


def draw_out(field_: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A coarse (C, x, y, z) field drawn out linearly to (C, *shape)."""
    tensor = torch.from_numpy(np.ascontiguousarray(field_, dtype=np.float32))[None]
    return torch.nn.functional.interpolate(tensor, size=shape, mode="trilinear", align_corners=True)[0].numpy()


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], spacing: float, scale: float, channels: int = 1
) -> np.ndarray:
    """Smooth random field (channels, *shape), standard deviation about 1, correlated over about `scale` mm."""
    step = scale / 2
    coarse = tuple(max(int(np.ceil(n * spacing / step)), 2) + 1 for n in shape)
    noise = rng.standard_normal((channels, *coarse)).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, (0, *(1.2,) * len(shape)), mode="reflect")
    return draw_out(noise / max(float(noise.std()), 1e-6), shape)


def _rotation(angles: np.ndarray) -> np.ndarray:
    a, b, c = angles
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def sample_anatomy(template_mm: np.ndarray, spacing: float, age: float) -> Anatomy:
    """The anatomy seen when each voxel looks at `template_mm` (X, Y, Z, 3) of the template."""
    base = template()
    voxel = (template_mm - base.origin).reshape(-1, 3)
    shape = base.maps.shape[:3]
    nearest = (voxel + 0.5).astype(np.int32)  # cuts towards zero; what lies outside is sorted out next
    inside = ((nearest >= 0) & (nearest < np.array(shape, np.int32))).all(1)
    flat = (nearest[:, 0] * shape[1] + nearest[:, 1]) * shape[2] + nearest[:, 2]
    # Only voxels that look at the brain are interpolated: most of the box is air.
    seen = np.flatnonzero(base.near_brain.ravel()[np.where(inside, flat, 0)] & inside)
    rows = _interpolate(base.maps, voxel[seen])
    held = rows[:, 0] > 0.5
    rows, seen = rows[held], seen[held]
    grey = rows[:, 2] + rows[:, 3] + rows[:, 4] + rows[:, 5]
    sulcal = rows[:, 0] - grey - rows[:, 1] - rows[:, 6]
    labels, brain = np.zeros(len(voxel), np.uint8), np.zeros(len(voxel), bool)
    labels[seen] = np.stack([sulcal, rows[:, 1], grey, rows[:, 6]]).argmax(0)
    brain[seen] = True
    grid = template_mm.shape[:3]
    return Anatomy(rows, labels.reshape(grid), brain.reshape(grid), template_mm, spacing, age)


def simulate_anatomy(rng: np.random.Generator, spacing_mm: float, prior: Prior = "target") -> Anatomy:
    """One person: affine (scale, rotation within 15 degrees, shear .012), smooth warp, ventricles of their age.

    The template is larger than people are: the common scale is .9, log-normal with a spread of 3 %, and each axis varies by
    4 % more. The "source" prior bends more and coarser. The grid is cut to the brain with 4 mm around it, 18 mm with the "source" prior (skull and scalp).
    """
    base = template()
    head = np.array(base.maps.shape[:3])
    age = float(rng.uniform(20, 80))
    # Not within 20 %, as the plan of the study had it: that gave brains of 1930 mL (quartiles 1433 to 2407), where the people
    # of malf have 1390 mL (1303 to 1467) and thirty of ds002748 1378 mL (1306 to 1455).
    scale = BRAIN_SCALE * np.exp(rng.normal(0, BRAIN_SCALE_SPREAD)) * rng.uniform(0.96, 1.04, 3)
    shear = np.eye(3) + np.triu(rng.normal(0, 0.012, (3, 3)), 1)
    forward = _rotation(np.deg2rad(rng.uniform(-15, 15, 3))) @ shear @ np.diag(scale)
    extent = (head - 6) / 2
    # An ellipsoid with the head's half-axes, turned: half-width along each world axis.
    half = np.sqrt(((forward * extent) ** 2).sum(1)) + 15  # heads are fuller than ellipsoids, and bent
    shape = tuple(int(n) for n in np.ceil(2 * half / spacing_mm))
    # Every third voxel is enough: what bends the head is smooth, and what turns it is linear.
    coarse = tuple(-(-n // 3) + 1 for n in shape)
    axes = [np.linspace(-0.5, 0.5, m) * (n - 1) * spacing_mm for m, n in zip(coarse, shape, strict=True)]
    world = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    mm = (world @ np.linalg.inv(forward).T + base.origin + (head - 1) / 2).astype(np.float32)
    large, small = (2.1, 0.75) if prior == "target" else (2.9, 0.5)
    for size, scale_mm in ((large, 32), (small, 12)):
        mm += size * np.moveaxis(smooth_noise(rng, coarse, 3 * spacing_mm, scale_mm, 3), 0, -1)
    # Sampling nearer to the ventricle than one stands makes the ventricle larger.
    mm += np.float32(_ventricle_growth(rng, age)) * _interpolate(
        base.pull, ((mm - base.origin) / 3).reshape(-1, 3)
    ).reshape(mm.shape)
    mm = np.ascontiguousarray(np.moveaxis(draw_out(np.moveaxis(mm, -1, 0), shape), 0, -1))
    return _cut(sample_anatomy(mm, spacing_mm, age), 4.0 if prior == "target" else 18.0)


def _ventricle_growth(rng: np.random.Generator, age: float) -> float:
    """By how many mm the walls of the ventricles are pushed outwards at `age`: the same until 35, 1.5 mm more a decade after.

    From 17 mL (median) in people of malf under 40 to 38 mL in those above; a millimetre makes ventricles an eighth larger.
    """
    return float(np.clip(rng.normal(0.7 + 0.15 * max(age - 35, 0), 1.8), -2, 9))


def _cut(person: Anatomy, margin_mm: float) -> Anatomy:
    """The person on a grid just `margin_mm` wider than the brain on every side (padded with air where need be)."""
    margin = int(np.ceil(margin_mm / person.spacing))
    places = [np.flatnonzero(person.brain.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(int(p[0]), int(p[-1]) + 1) for p in places)
    labels, brain = (np.pad(v[box], margin) for v in (person.labels, person.brain))
    mm = np.pad(person.template_mm[box], [(margin, margin)] * 3 + [(0, 0)], mode="reflect", reflect_type="odd")
    return replace(person, labels=labels, brain=brain, template_mm=mm)


def _levels(rng: np.random.Generator, prior: Prior) -> dict[str, float]:
    spread = 1.0 if prior == "target" else 1.8
    levels = {name: float(rng.normal(mean, spread * sd)) for name, (mean, sd) in CONTRAST.items()}
    levels["ventricle"] = float(np.clip(levels["ventricle"], 0.1, 0.5))
    levels["cortex"] = float(np.clip(levels["cortex"], 0.45, 0.75))
    return {**levels, "white": 1.0}


def render(
    rng: np.random.Generator, person: Anatomy, prior: Prior = "target", scalp: bool = False
) -> tuple[np.ndarray, dict[str, object]]:
    """The T1 of a person relative to white matter (float32, white matter about 1), and what was drawn for it.

    Tissue levels are corrected until the *medians inside the labels* meet the drawn contrast, since partial volume moves
    them. Then gamma, resolution, bias field and noise. `scalp` adds skull and scalp around the brain.
    """
    wanted = _levels(rng, prior)
    sulcal_level = float(np.clip(rng.normal(wanted["ventricle"], 0.04), 0.1, 0.5))
    tissues = [*CONTRAST, "white"]
    inside = person.brain
    stack = np.ascontiguousarray(person.maps[:, [CHANNELS.index(name) for name in tissues]].T)
    sulcal = np.clip(person.maps[:, 0] - stack.sum(0), 0, 1)
    texture = person.maps[:, -1] + 0.012 * smooth_noise(rng, inside.shape, person.spacing, 5)[0][inside]
    # The template's cortex is an average and too even: thickness and myelin vary from gyrus to gyrus (spread as in malf).
    texture += CORTEX_TEXTURE * stack[0] * smooth_noise(rng, inside.shape, person.spacing, 6)[0][inside]
    owner = stack.argmax(0)
    owner[sulcal > stack.max(0)] = -1

    blur = rng.uniform(0.25, 0.5, 3) if prior == "target" else rng.uniform(0.2, 0.6, 3)
    blur[rng.integers(3)] *= rng.uniform(1.0, 1.6)
    image = np.zeros(inside.shape, np.float32)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), blur, truncate=3)
    levels = dict(wanted)
    # The median over a label mixes in its neighbours: two corrections bring it to the drawn contrast.
    for _ in range(3):
        image[inside] = (
            np.array([levels[name] for name in tissues], np.float32) @ stack + sulcal_level * sulcal + texture
        )
        blurred = (ndimage.gaussian_filter(image, blur, truncate=3) / np.maximum(weight, 0.3))[inside]
        medians = {name: float(np.median(blurred[owner == k])) for k, name in enumerate(tissues)}
        for name in CONTRAST:
            levels[name] = float(np.clip(levels[name] + wanted[name] - medians[name] / medians["white"], 0.05, 1.1))
    gamma = float(rng.uniform(0.95, 1.06) if prior == "target" else rng.uniform(0.75, 1.3))
    image[inside] = np.clip(blurred / medians["white"], 0.02, 2) ** gamma
    if scalp:
        image = _with_scalp(rng, image, person)
    amplitude = float(rng.uniform(0.03, 0.12) if prior == "target" else rng.uniform(0.03, 0.16))
    image *= np.exp(amplitude * smooth_noise(rng, image.shape, person.spacing, 90)[0])
    sigma = float(rng.uniform(0.015, 0.045) if prior == "target" else rng.uniform(0.01, 0.06))
    noise = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), 0.45)
    seen = image > 0
    image[seen] = np.abs(image[seen] + sigma * noise[seen] / noise.std())
    drawn: dict[str, object] = {f"contrast_{name}": round(wanted[name], 3) for name in CONTRAST}
    return image, {**drawn, "gamma": round(gamma, 3), "bias": round(amplitude, 3), "noise": round(sigma, 3)}


def _with_scalp(rng: np.random.Generator, image: np.ndarray, person: Anatomy) -> np.ndarray:
    """Dark CSF and skull, bright scalp: shells around the filled head; below the skull base a rough face and neck."""
    hull = ndimage.binary_closing(np.pad(person.brain, 12), iterations=max(int(14 / person.spacing), 1))[
        12:-12, 12:-12, 12:-12
    ]
    away = ndimage.distance_transform_edt(~hull) * person.spacing
    away += 0.6 * smooth_noise(rng, image.shape, person.spacing, 20)[0]
    inner, skull, fat = rng.uniform(1, 3), rng.uniform(4, 7), rng.uniform(3, 6)
    shell = np.zeros_like(image)
    shell[away <= inner] = 0.2
    shell[(away > inner) & (away <= inner + skull)] = 0.08
    middle = np.abs(away - inner - skull / 2) < skull / 5
    shell[middle] = rng.uniform(0.1, 0.6)
    shell[(away > inner + skull) & (away <= inner + skull + fat)] = rng.uniform(0.7, 1.5)
    shell = ndimage.gaussian_filter(shell, 0.5)
    # Below the skull base there is a face in real heads, and here soft tissue of its outline with an airway.
    x, y, z = (person.template_mm[..., axis] for axis in range(3))
    shell *= np.clip((z + 45) / 15, 0, 1)
    face = _ellipsoid((x, y, z), (0, 45, -55), (48, 40, 48))
    neck = _ellipsoid((x, y, z), (0, -22, -85), (46, 48, 55))
    airway = np.maximum(
        _ellipsoid((x, y, z), (0, 42, -42), (12, 26, 13)), _ellipsoid((x, y, z), (0, 8, -80), (9, 7, 30))
    )
    soft = rng.uniform(0.35, 0.6) * (1 + 0.35 * smooth_noise(rng, image.shape, person.spacing, 12)[0])
    soft *= np.maximum(face, neck) * (1 - 0.9 * airway) * (away > inner + skull)
    shell = np.maximum(shell, ndimage.gaussian_filter(soft, 0.5))
    return np.where(person.brain, image, np.maximum(shell, 0)).astype(np.float32)


def onto_disk(
    rng: np.random.Generator, spacing: float, volumes: tuple[np.ndarray, ...]
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """RAS volumes turned into a random on-disk orientation (axes permuted and flipped), with the affine that says so."""
    shape = np.array(volumes[0].shape)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -(shape - 1) / 2 * spacing + rng.uniform(-15, 15, 3)
    orientation = np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], 1).astype(float)
    turned = tuple(np.ascontiguousarray(nib.orientations.apply_orientation(v, orientation)) for v in volumes)
    return turned, affine @ nib.orientations.inv_ornt_aff(orientation, volumes[0].shape)


def finish(
    rng: np.random.Generator, person: Anatomy, image: np.ndarray, labels: np.ndarray, notes: dict[str, object]
) -> Brain:
    """A rendered person as a scan: random intensity units, random on-disk orientation, and the affine that says so."""
    level = float(np.exp(rng.uniform(np.log(80), np.log(1500))))
    (t1, labels, brain), affine = onto_disk(rng, person.spacing, (image * level, labels, person.brain))
    return Brain(t1.astype(np.float32), labels, brain, affine, level, {**notes, "age": round(person.age, 1)})
