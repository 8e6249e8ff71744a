"""Simulated brains, lesions and masses beside real ones: the same measurements of both, and distances with limits.

A *measurement* is one row of a long table: data set, quantity, person, value. Real and simulated sets go through the same
functions, on grids of the same spacing where a value depends on it. The limits stood in this file before the first
distance was computed; they say how far off a picture may be and still teach the same lesson, not what can be reached.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import norm, wasserstein_distance
from skimage.measure import marching_cubes, mesh_surface_area

from braintransfer import recipes, simulate, volumes
from braintransfer.errors import BadInput
from braintransfer.figures.base import HIT, STYLE, Drawing, new_figure
from braintransfer.provenance import files_digest, project_root
from braintransfer.recipes.files import match_files, scan_files
from braintransfer.recipes.scans import read_subject_scan
from braintransfer.simulate import brains, lesions, shapes
from braintransfer.simulate.tumours import TYPES
from braintransfer.study import stream

#: How two sets of values are set apart. linear: Wasserstein distance in the quantity's unit (the mean shift that turns
#: one distribution into the other). factor: the same on logarithms, given as a factor (1 = equal). mix: share of the
#: values that would have to change class.
Scale = Literal["linear", "factor", "mix"]

#: Data sets that this proof reads.
REAL = ("malf", "ds002748", "open_ms_data", "lesymap", "soop", "brain_tumour_t1ce")
#: The demo's own and working spacing in mm, and the working grid's rows and columns.
OWN_MM, WORKING_MM, SIZE = 1.5, 2.0, (128, 96)
#: Smallest lesion that counts (mm³), as in the study's detection metric.
SMALLEST_MM3 = 3.0
#: Shapes are measured of lesions between these volumes (mL): grids decide on smaller ones, and larger ones fill a territory.
SHAPE_ML = (1.0, 50.0)
#: Strokes drawn into each simulated person.
STROKES_EACH = 4
HALVINGS = 200


@dataclass(frozen=True)
class Quantity:
    """One measured quantity. `limit`: the largest distance that counts as alike, in `unit` or as a factor."""

    part: str
    what: str
    unit: str
    limit: float
    scale: Scale = "linear"


WM = "of white matter"
QUANTITIES: dict[str, Quantity] = {
    "cortex": Quantity("T1", "cortex, median", WM, 0.05),
    "thalamus": Quantity("T1", "thalamus, median", WM, 0.05),
    "caudate": Quantity("T1", "caudate, median", WM, 0.05),
    "putamen": Quantity("T1", "putamen, median", WM, 0.05),
    "ventricle": Quantity("T1", "ventricle, median", WM, 0.10),
    "spread_cortex": Quantity("T1", "spread inside cortex", WM, 0.03),
    "spread_white": Quantity("T1", "spread inside white matter", WM, 0.03),
    "noise": Quantity("T1", "fine grain in white matter", WM, 0.02),
    "bias": Quantity("T1", "uneven brightness (SD of a quadratic fit)", WM, 0.02),
    "ml_brain": Quantity("Volumes", "brain", "mL", 1.15, "factor"),
    "ml_grey": Quantity("Volumes", "grey matter", "mL", 1.15, "factor"),
    "ml_white": Quantity("Volumes", "white matter", "mL", 1.15, "factor"),
    "ml_ventricle": Quantity("Volumes", "ventricles", "mL", 1.5, "factor"),
    "ml_ventricle_young": Quantity("Volumes", "ventricles, under 40 years", "mL", 1.5, "factor"),
    # Added after the first look at volumes, with the limit of the two rows above.
    "ml_ventricle_old": Quantity("Volumes", "ventricles, 40 years and over", "mL", 1.5, "factor"),
    "ms_count": Quantity("MS", "lesions a person", "lesions", 1.5, "factor"),
    "ms_volume": Quantity("MS", "volume of a lesion", "mm³", 1.5, "factor"),
    "ms_volume_large": Quantity("MS", "volume of a lesion of 64 mm³ or more", "mm³", 1.5, "factor"),
    "ms_load": Quantity("MS", "load a person", "mL", 1.5, "factor"),
    "ms_contrast": Quantity("MS", "lesion against local white matter", "ratio", 0.05),
    "stroke_volume": Quantity("Stroke", "volume", "mL", 1.5, "factor"),
    "stroke_pieces": Quantity("Stroke", "pieces", "pieces", 1.0),
    "stroke_side": Quantity("Stroke", "share on the main side", "share", 0.05),
    "stroke_compact": Quantity("Stroke", "compactness (a ball is 1)", "ratio", 0.10),
    "stroke_smooth": Quantity("Stroke", "smoothness of the surface (a ball is 1)", "ratio", 0.10),
    "mass_area": Quantity("Masses", "area, share of the picture", "share", 1.5, "factor"),
    "mass_of_head": Quantity("Masses", "area, share of the head", "share", 1.5, "factor"),
    "head_area": Quantity("Masses", "head, share of the picture", "share", 0.10),
    "mass_bright": Quantity("Masses", "brightness against the head's median", "ratio", 0.20),
    "mass_mirror": Quantity("Masses", "likeness of left and right half (planes)", "correlation", 0.10),
    "mass_type": Quantity("Masses", "three types: meningioma, glioma, pituitary", "share", 0.10, "mix"),
}  # fmt: skip
#: Slices of real and simulated brains told apart by a classifier: the area under its ROC curve that would count as alike.
TOLD_APART = 0.75


@dataclass(frozen=True)
class Pair:
    """A quantity of a real and a simulated set. set_from_it: the simulator was set from this very set or from scans like it.

    Agreement then shows that the drawing keeps what it was told, not that it would be right elsewhere. not_aimed_at: why the
    simulator is not meant to match this set; such a pair is measured and shown, and counts neither as met nor as missed.
    """

    quantity: str
    real: str
    simulated: str
    set_from_it: bool
    not_aimed_at: str = ""


DEMO = "the demo draws large and dark lesions only, so that two cores learn something"
ATLAS = "volumes follow ATLAS"
ACUTE = "acute, often in several places; the simulation draws one artery on one side"
#: Rows whose numbers the simulator was never given.
UNSEEN = ("spread_white", "noise", "stroke_pieces", "stroke_side", "mass_mirror")
PAIRS: list[Pair] = [
    *(Pair(name, "malf", "anatomy", name not in UNSEEN) for name in list(QUANTITIES)[:9]),
    Pair("noise", "ds002748", "anatomy", False),
    Pair("bias", "ds002748", "anatomy", True),
    *(Pair(name, "malf", "anatomy", True) for name in QUANTITIES if name.startswith("ml_")),
    *(Pair(name, "open_ms_data", "MS as measured", True) for name in ("ms_count", "ms_volume", "ms_load", "ms_contrast")),
    *(Pair(name, "open_ms_data", "MS as in the demo", False, DEMO) for name in ("ms_count", "ms_volume")),
    Pair("ms_volume_large", "open_ms_data", "MS as in the demo", True),
    *(Pair(name, "open_ms_data", "MS as in the demo", False, DEMO) for name in ("ms_load", "ms_contrast")),
    Pair("stroke_volume", "ATLAS log-normal", "stroke", True),
    Pair("stroke_volume", "lesymap", "stroke", False, ATLAS),
    *(Pair(n, "lesymap", "stroke", n not in UNSEEN) for n in list(QUANTITIES) if n.startswith("stroke_") and n != "stroke_volume"),
    Pair("stroke_volume", "soop", "stroke", False, ATLAS),
    *(Pair(name, "soop", "stroke", False, ACUTE) for name in ("stroke_pieces", "stroke_side")),
    *(Pair(name, "soop", "stroke", True) for name in ("stroke_compact", "stroke_smooth")),
    *(Pair(n, "brain_tumour_t1ce", "masses", n not in UNSEEN) for n in QUANTITIES if n.startswith(("mass_", "head_"))),
]  # fmt: skip

#: Columns of a measurement table.
COLUMNS = ["set", "quantity", "person", "value"]
Row = tuple[str, str, str, float]
Report = Callable[[str], None]


def need_data(root: Path | None) -> Path:
    """The folder of data sets. BadInput, one line, when none is given or one of `REAL` is not in it."""
    if root is None:
        raise BadInput(
            "this proof needs real scans: give the folder that holds "
            f"{', '.join(REAL[:3])}, lesion_masks and {REAL[-1]} as `data` (braintransfer prove simulators --data DIR)"
        )
    for name in REAL:
        recipe = recipes.load_recipe(name, root)
        missing = "" if recipe.kind == "masks" else recipes.missing(recipe, root)
        if recipe.kind == "masks" and not _mask_files(name, root):
            missing = f"{recipe.root(root)}: no mask of {name}; see `braintransfer data get {name}`"
        if missing:
            raise BadInput(missing)
    return root


def inputs(root: Path) -> dict[str, str]:
    """Digest of every file that each real data set gives to this proof."""
    found = {}
    for name in REAL:
        recipe = recipes.load_recipe(name, root)
        masks = recipe.kind == "masks" or name == "open_ms_data"
        paths = set(_mask_files(name, root)) if masks else set()
        paths |= set() if recipe.kind == "masks" else set(recipes.input_files(recipe, root))
        found[name] = files_digest(paths, root)
    return found


def _mask_files(name: str, root: Path) -> list[Path]:
    recipe = recipes.load_recipe(name, root)
    assert recipe.patterns.mask is not None
    return [path for path, _ in match_files(recipe.root(root), recipe.patterns.mask)]


# ------------------------------------------------------------------------------------------------------- measurements
def _robust_sd(values: np.ndarray) -> float:
    """Half the distance of the 16th and 84th percentile: the standard deviation of a normal distribution."""
    low, high = np.percentile(values, [15.87, 84.13])
    return float(high - low) / 2


#: Tissues of `t1_measures`, in the order of their labels 1, 2 ...
TISSUES = ("ventricle", "cortex", "thalamus", "caudate", "putamen", "white")


def grain_and_bias(t1: np.ndarray, brain: np.ndarray, spacing: float) -> dict[str, float]:
    """`noise` and `bias` of one scan (X, Y, Z), relative to white matter, inside its brightest Otsu class (no labels needed).

    noise: robust SD of voxel minus the mean of its 3 x 3 x 3 neighbourhood, where all of that is white matter; texture
    counts as well. bias: SD over white matter of a quadratic fit (ten terms) to the logarithm of intensity.
    """
    white = lesions.white_matter_of(t1, brain)
    level = float(np.median(t1[white]))
    deep = ndimage.binary_erosion(white, np.ones((3, 3, 3), bool))
    fine = (t1 - ndimage.uniform_filter(t1, 3))[deep] / level
    place = np.argwhere(deep) * spacing / 60.0
    x, y, z = (place - place.mean(0)).T
    terms = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], 1)
    height = np.log(np.clip(t1[deep] / level, 0.5, 2))
    fit = terms @ np.linalg.lstsq(terms, height, rcond=None)[0]
    return {"noise": _robust_sd(fine), "bias": float(fit.std())}


def t1_measures(t1: np.ndarray, brain: np.ndarray, tissue: np.ndarray, spacing: float) -> dict[str, float]:
    """Medians and spreads of one scan's tissues relative to its white matter, and `grain_and_bias`.

    t1 (X, Y, Z) float32 in any unit; brain bool; tissue uint8, 0 none, else an index into `TISSUES` plus 1. `spacing`: mm.
    """
    level = float(np.median(t1[tissue == TISSUES.index("white") + 1]))
    values = {name: t1[tissue == k] / level for k, name in enumerate(TISSUES, 1)}
    found = {name: float(np.median(values[name])) for name in TISSUES[:-1]}
    found |= {f"spread_{name}": _robust_sd(values[name]) for name in ("cortex", "white")}
    return found | grain_and_bias(t1, brain, spacing)


def on_working_grid(t1: np.ndarray, affine: np.ndarray, brain: np.ndarray, labels: np.ndarray, classes: int, spacing: float, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """T1, brain and labels brought to a working grid by the study's own preparation: (X, Y, Z) each, before 8 bits."""
    scan = volumes.Scan(t1, affine, np.linalg.norm(affine[:3, :3], axis=0), Path("scan"))
    grid = volumes.working_grid(scan, brain, spacing, size)
    inside = volumes.labels_to_grid(brain.astype(np.uint8), affine, grid, 1) > 0
    return volumes.to_grid(t1, affine, grid), inside, volumes.labels_to_grid(labels, affine, grid, classes)


def lesion_volumes(mask: np.ndarray, voxel_mm3: float) -> np.ndarray:
    """Volumes in mm³ of a mask's 26-connected pieces of at least `SMALLEST_MM3`, unsorted."""
    labelled, _ = ndimage.label(mask, lesions.EVERY_NEIGHBOUR)
    found = np.bincount(labelled.ravel())[1:] * voxel_mm3
    return found[found >= SMALLEST_MM3 - 1e-3]


def ms_measures(mask: np.ndarray, voxel_mm3: float) -> dict[str, list[float]]:
    """Number, volumes (mm³) and load (mL) of one person's lesions."""
    found = lesion_volumes(mask, voxel_mm3)
    large = found[found >= shapes.MS_DEMO_MM3 - 1e-3]
    return {
        "ms_count": [float(len(found))],
        "ms_volume": found.tolist(),
        "ms_volume_large": large.tolist(),
        "ms_load": [float(mask.sum() * voxel_mm3 / 1000)],
    }


def lesion_contrasts(t1: np.ndarray, brain: np.ndarray, mask: np.ndarray, spacing: np.ndarray) -> list[float]:
    """Mean intensity of every lesion of at least `SMALLEST_MM3` relative to the white matter around it, lesions left out."""
    level = lesions.local_white_matter(t1, lesions.white_matter_of(t1, brain), spacing, without=mask)
    labelled, _ = ndimage.label(mask, lesions.EVERY_NEIGHBOUR)
    sizes = np.bincount(labelled.ravel())[1:]
    sums = np.bincount(labelled.ravel(), (t1 / level).ravel())[1:]
    kept = sizes * float(np.prod(spacing)) >= SMALLEST_MM3 - 1e-3
    return (sums[kept] / sizes[kept]).tolist()


def compactness(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Radius of gyration of a ball of the mask's volume over the mask's own: 1 for a ball, below for anything else."""
    points = np.argwhere(mask) * spacing
    own = float(np.square(points - points.mean(0)).sum(1).mean()) + float(np.square(spacing).sum()) / 12
    radius = (3 * len(points) * float(np.prod(spacing)) / (4 * np.pi)) ** (1 / 3)
    return float(np.sqrt(0.6 * radius**2 / own))


def smoothness(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Surface of a ball of the mask's volume over the mask's own (sphericity), after smoothing by 1.5 mm on any grid.

    The smoothing takes the steps of the voxels away, so that grids of 1 and 1.5 mm can be compared.
    """
    soft = ndimage.gaussian_filter(np.pad(mask, 6).astype(np.float32), 1.5 / spacing)
    if not (soft > 0.5).any():
        return float("nan")
    corners, faces, _, _ = marching_cubes(soft, 0.5, spacing=tuple(float(s) for s in spacing))
    volume = float((soft > 0.5).sum() * np.prod(spacing))
    return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / mesh_surface_area(corners, faces))


def stroke_measures(mask: np.ndarray, spacing: np.ndarray, side: np.ndarray) -> dict[str, list[float]]:
    """Volume (mL), pieces, share on the main side and shape of one stroke mask (X, Y, Z); `side` < 0 left, > 0 right.

    Shape is that of the largest piece, for strokes within `SHAPE_ML` alone.
    """
    voxel = float(np.prod(spacing))
    volume = float(mask.sum() * voxel / 1000)
    left, right = (float((side[mask] < 0).sum()), float((side[mask] > 0).sum()))
    found = {
        "stroke_volume": [volume],
        "stroke_pieces": [float(max(len(lesion_volumes(mask, voxel)), 1))],
        "stroke_side": [max(left, right) / max(left + right, 1.0)],
    }
    if SHAPE_ML[0] <= volume <= SHAPE_ML[1]:
        labelled, _ = ndimage.label(mask, lesions.EVERY_NEIGHBOUR)
        largest = labelled == np.bincount(labelled.ravel())[1:].argmax() + 1
        largest = largest[ndimage.find_objects(largest.astype(np.uint8))[0]]
        found |= {"stroke_compact": [compactness(largest, spacing)], "stroke_smooth": [smoothness(largest, spacing)]}
    return found


def mass_measures(image: np.ndarray, mask: np.ndarray, kind: int) -> dict[str, float]:
    """One source picture: image uint8 (H, W), mask (H, W) 0/1, kind 0 meningioma-like, 1 glioma-like, 2 pituitary-like.

    The head is what is brighter than 20 of 255, its holes filled. Left and right are the two halves of the head's own box.
    """
    head = ndimage.binary_fill_holes(image > 20)
    inside = head & (image > 20) & (mask == 0)
    rows, columns = (np.flatnonzero(head.any(axis=axis)) for axis in (1, 0))
    box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(float)
    return {
        "mass_area": float(mask.mean()),
        "mass_of_head": float(mask.sum() / head.sum()),
        "head_area": float(head.mean()),
        "mass_bright": float(image[mask > 0].mean() / np.median(image[inside])),
        "mass_mirror": float(np.corrcoef(box.ravel(), box[:, ::-1].ravel())[0, 1]),
        "mass_type": float(kind),
    }


def _rows(name: str, person: str, found: dict[str, list[float]] | dict[str, float]) -> Iterator[Row]:
    for quantity, values in found.items():
        for value in values if isinstance(values, list) else [values]:
            if np.isfinite(value):
                yield name, quantity, person, value


# ---------------------------------------------------------------------------------------------------- simulated people
def simulated_brain(index: int, seed: int) -> tuple[np.ndarray, np.ndarray, brains.Anatomy, np.ndarray]:
    """T1, tissue (uint8, see `TISSUES`), anatomy and affine of simulated person `index`, as the anatomy target draws it."""
    rng = stream(seed, f"simulation/anatomy/{index}")
    person = brains.simulate_anatomy(rng, OWN_MM)
    t1, _ = brains.render(rng, person)
    owner = person.maps[:, 2:6].argmax(1)  # which grey matter: brains.CHANNELS are in the order of TISSUES
    tissue = np.zeros(person.brain.shape, np.uint8)
    tissue[person.brain] = np.choose(person.labels[person.brain], [0, 1, owner + 2, len(TISSUES)])
    affine = np.diag([OWN_MM, OWN_MM, OWN_MM, 1.0])
    return t1, tissue, person, affine


def measure_simulated(repeats: int, seed: int, report: Report = print) -> pd.DataFrame:
    """Every quantity of `repeats` simulated people a target and 20 x `repeats` source pictures. Columns: `COLUMNS`."""
    rows: list[Row] = []
    voxel = OWN_MM**3
    for index in range(repeats):
        t1, tissue, person, affine = simulated_brain(index, seed)
        grid = on_working_grid(t1, affine, person.brain, tissue, len(TISSUES), WORKING_MM, SIZE)
        found = t1_measures(*grid, WORKING_MM)
        ml = {name: float((person.labels == k).sum() * voxel / 1000) for k, name in ((1, "ventricle"), (2, "grey"), (3, "white"))}  # fmt: skip
        ml["brain"] = float(person.brain.sum() * voxel / 1000)
        rows += _rows("anatomy", f"sim-{index}", found | _volumes(ml, person.age))
        rng = stream(seed, f"proof/stroke/{index}")
        for _ in range(STROKES_EACH):
            mask, moved, _notes = shapes.stroke_lesion(person, rng)
            measured = stroke_measures(mask, np.full(3, OWN_MM), moved.template_mm[..., 0])
            rows += _rows("stroke", f"sim-{index}", measured)
    report(f"{repeats} simulated brains, {repeats * STROKES_EACH} strokes")
    for name, spacing, contrast in (("MS as measured", 1.0, "real"), ("MS as in the demo", OWN_MM, "demo")):
        for scan in simulate.simulated_target("ms", repeats, spacing, seed, contrast):  # type: ignore[arg-type]
            mask = scan.mask > 0
            contrasts = lesion_contrasts(scan.image.data, scan.brain, mask, scan.image.spacing)
            rows += _rows(name, scan.subject, ms_measures(mask, spacing**3) | {"ms_contrast": contrasts})
        report(f"{repeats} simulated people, {name}")
    for picture in simulate.simulated_mri(20 * repeats, 96, seed):
        kind = TYPES.index(picture.label)
        rows += _rows("masses", picture.subject, mass_measures(picture.image, picture.mask, kind))
    report(f"{20 * repeats} simulated source pictures")
    return pd.DataFrame(rows, columns=COLUMNS)


def _volumes(ml: dict[str, float], age: float | None) -> dict[str, float]:
    found = {f"ml_{name}": value for name, value in ml.items()}
    if age is not None:
        found[f"ml_ventricle_{'young' if age < 40 else 'old'}"] = ml["ventricle"]
    return found


# --------------------------------------------------------------------------------------------------------- real people
#: Labels of malf's 138 structures that make the tissues of `TISSUES`; grey matter else is "cortex", as in the simulation.
MALF_NUCLEI = {59: 3, 60: 3, 36: 4, 37: 4, 57: 5, 58: 5}


def _malf_tissue(classified: np.ndarray, structures: np.ndarray) -> np.ndarray:
    tissue = np.select([classified == 1, classified == 2, classified == 3], [1, 2, 6], 0).astype(np.uint8)
    for label, index in MALF_NUCLEI.items():
        tissue[structures == label] = index
    return tissue


def measure_brains(root: Path, repeats: int, report: Report = print) -> pd.DataFrame:
    """malf (tissues, volumes; the scans of a person averaged) and the first `repeats` people of ds002748 (grain, bias)."""
    recipe = recipes.load_recipe("malf", root)
    people: dict[str, list[dict[str, float]]] = {}
    for files in scan_files(recipe, root):
        scan = read_subject_scan(recipe, files)
        structures = volumes.read_mask(
            files.image.with_name(files.image.name.replace("_SS", "_glm")), scan.image, values=frozenset(range(256))
        )
        tissue = _malf_tissue(scan.mask, structures)
        grid = on_working_grid(
            scan.image.data, scan.image.affine, scan.brain, tissue, len(TISSUES), WORKING_MM, (160, 128)
        )
        voxel = float(np.prod(scan.image.spacing)) / 1000
        ml = {name: float((scan.mask == k).sum() * voxel) for k, name in ((1, "ventricle"), (2, "grey"), (3, "white"))}
        ml["brain"] = float(scan.brain.sum() * voxel)
        people.setdefault(scan.subject, []).append(t1_measures(*grid, WORKING_MM) | _volumes(ml, scan.age))
    rows: list[Row] = []
    for person, scans in people.items():
        mean = pd.DataFrame(scans).mean()
        rows += _rows("malf", person, {str(name): float(value) for name, value in mean.items()})
    report(f"malf: {len(people)} people")
    recipe = recipes.load_recipe("ds002748", root)
    for files in scan_files(recipe, root)[:repeats]:
        scan = read_subject_scan(recipe, files)
        t1, brain, _ = on_working_grid(
            scan.image.data, scan.image.affine, scan.brain, scan.mask, 1, WORKING_MM, (160, 128)
        )
        rows += _rows("ds002748", scan.subject, grain_and_bias(t1, brain, WORKING_MM))
    report("ds002748: grain and uneven brightness")
    return pd.DataFrame(rows, columns=COLUMNS)


def measure_lesions(root: Path, report: Report = print) -> pd.DataFrame:
    """The 30 MS masks (contrast of those with a T1), both stroke libraries, and quantiles of the ATLAS log-normal."""
    rows: list[Row] = []
    for path in _mask_files("open_ms_data", root):
        mask = volumes.read_mask(path, values={0, 1}) > 0
        voxel = float(abs(np.linalg.det(nib.load(path).affine[:3, :3])))  # type: ignore[attr-defined]
        rows += _rows("open_ms_data", path.parent.name, dict(ms_measures(mask, voxel)))
    recipe = recipes.load_recipe("open_ms_data", root)
    for files in scan_files(recipe, root):
        scan = read_subject_scan(recipe, files)
        contrasts = lesion_contrasts(scan.image.data, scan.brain, scan.mask > 0, scan.image.spacing)
        rows += _rows("open_ms_data", scan.subject, {"ms_contrast": contrasts})
    report("open_ms_data: masks and contrasts")
    for name in ("lesymap", "soop"):
        for path in _mask_files(name, root):
            mask = volumes.read_mask(path, values={0, 1}) > 0
            if not mask.any():
                continue
            affine = np.asarray(nib.load(path).affine)  # type: ignore[attr-defined]
            place = np.ix_(*(np.arange(n) for n in mask.shape))
            side = sum((affine[0, axis] * place[axis] for axis in range(3)), affine[0, 3])
            spacing = np.linalg.norm(affine[:3, :3], axis=0)
            rows += _rows(name, path.name.split(".")[0], stroke_measures(mask, spacing, np.asarray(side)))
        report(f"{name}: masks")
    share = (np.arange(400) + 0.5) / 400
    drawn = shapes.STROKE_MEDIAN_ML * np.exp(shapes.STROKE_SIGMA * norm.ppf(share))
    rows += [("ATLAS log-normal", "stroke_volume", f"quantile-{k}", float(v)) for k, v in enumerate(drawn)]
    return pd.DataFrame(rows, columns=COLUMNS)


def measure_masses(root: Path, seed: int, report: Report = print) -> pd.DataFrame:
    """Every slice of the contrast-enhanced set, as the study reads it at 96 px; a person is a block of 25 slices."""
    kinds = ("meningioma", "glioma", "pituitary")
    rows: list[Row] = []
    recipe = recipes.load_recipe("brain_tumour_t1ce", root)
    for picture in recipes.images(recipe, root, 0, 96, seed):
        if picture.mask.any():
            found = mass_measures(picture.image, picture.mask, kinds.index(picture.label))
            rows += _rows(recipe.name, picture.subject, found)
    report(f"{recipe.name}: {len(rows) // 6} slices")
    return pd.DataFrame(rows, columns=COLUMNS)


# ------------------------------------------------------------------------------------------------------------ distance
def distance(real: np.ndarray, simulated: np.ndarray, scale: Scale) -> float:
    """How far two samples (n,), (m,) lie apart: see `Scale`. Wasserstein's first distance; scipy.stats."""
    if scale == "mix":
        kinds = np.union1d(real, simulated)
        return float(sum(abs((real == k).mean() - (simulated == k).mean()) for k in kinds) / 2)
    if scale == "factor":
        return float(np.exp(wasserstein_distance(np.log(real), np.log(simulated))))
    return float(wasserstein_distance(real, simulated))


def between_halves(values: np.ndarray, people: np.ndarray, scale: Scale, rng: np.random.Generator) -> float:
    """Median distance between two random halves of one real set, split by person (by value where there are fewer than 4)."""
    names = np.unique(people) if len(np.unique(people)) >= 4 else np.arange(len(values))
    owner = people if len(np.unique(people)) >= 4 else names
    if len(names) < 4:
        return float("nan")
    found = []
    for _ in range(HALVINGS):
        one = np.isin(owner, rng.permutation(names)[: len(names) // 2])
        found.append(distance(values[one], values[~one], scale))
    return float(np.median(found))


def _of(measured: pd.DataFrame, name: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    part = measured[(measured["set"] == name) & (measured["quantity"] == quantity)]
    return part["value"].to_numpy(float), part["person"].to_numpy(str)


def compare(measured: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One row a pair of `PAIRS`: quartiles of both, distance, the real halves' distance, the limit, and whether it is kept."""
    rows = []
    for pair in PAIRS:
        name, real_set, simulated_set = pair.quantity, pair.real, pair.simulated
        quantity = QUANTITIES[name]
        (real, people), (simulated, drawn) = (_of(measured, s, name) for s in (real_set, simulated_set))
        apart = distance(real, simulated, quantity.scale)
        rng = stream(seed, f"proof/halves/{name}/{real_set}")
        rows.append(
            {
                "part": quantity.part, "quantity": name, "what": quantity.what, "unit": quantity.unit,
                "scale": quantity.scale, "real_set": real_set, "simulated_set": simulated_set,
                **_quartiles("real", real, people), **_quartiles("simulated", simulated, drawn),
                "distance": apart, "between_halves": between_halves(real, people, quantity.scale, rng),
                "limit": quantity.limit, "within": apart <= quantity.limit, "set_from_it": pair.set_from_it,
                "not_aimed_at": pair.not_aimed_at,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _quartiles(prefix: str, values: np.ndarray, people: np.ndarray) -> dict[str, float]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    counts = {"n": len(values), "people": len(np.unique(people))}
    return {f"{prefix}_{k}": v for k, v in {"q25": low, "median": middle, "q75": high, **counts}.items()}


# ------------------------------------------------------------------------------------------------- told apart, or not
FEATURES = ("q10", "q25", "q50", "q75", "q90", "grain", "edges", "area", "shape", "mirror")


def slice_features(image: np.ndarray, brain: np.ndarray) -> list[float]:
    """`FEATURES` of one 8-bit axial slice (H, W) on the working grid: brightness, texture, and the outline of the brain.

    area in cm²; shape: width over height of the brain's box; mirror: correlation of the box with its mirror image.
    """
    values = image[brain].astype(float) / 255
    fine = (image - ndimage.uniform_filter(image.astype(float), 3))[ndimage.binary_erosion(brain)] / 255
    steps = np.hypot(*np.gradient(image.astype(float)))[ndimage.binary_erosion(brain)] / 255
    rows, columns = (np.flatnonzero(brain.any(axis=axis)) for axis in (1, 0))
    box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(float)
    mirror = float(np.corrcoef(box.ravel(), box[:, ::-1].ravel())[0, 1])
    quantiles = np.percentile(values, [10, 25, 50, 75, 90]).tolist()
    area = float(brain.sum()) * (WORKING_MM / 10) ** 2
    return [*quantiles, _robust_sd(fine), float(np.median(steps)), area, len(columns) / len(rows), mirror]


def _scan_features(t1: np.ndarray, affine: np.ndarray, brain: np.ndarray) -> list[list[float]]:
    """Features of every fourth axial slice that shows at least half as much brain as the fullest."""
    volume, inside, _ = on_working_grid(t1, affine, brain, brain.astype(np.uint8), 1, WORKING_MM, (160, 128))
    image = volumes.to_slices(volumes.to_uint8(volume, inside))
    shown = volumes.to_slices(inside)
    areas = shown.sum((1, 2))
    chosen = np.flatnonzero(areas >= areas.max() / 2)[::4]
    return [slice_features(image[k], shown[k]) for k in chosen]


def measure_slices(root: Path, repeats: int, seed: int, report: Report = print) -> pd.DataFrame:
    """Slices of malf (one scan a person), of `repeats` people of ds002748 and of `repeats` simulated people.

    Columns: set, person, then `FEATURES`.
    """
    rows: list[list[object]] = []
    for name in ("malf", "ds002748"):
        recipe = recipes.load_recipe(name, root)
        files = {f.subject: f for f in reversed(scan_files(recipe, root))}
        for person in sorted(files)[:repeats]:
            scan = read_subject_scan(recipe, files[person])
            for found in _scan_features(scan.image.data, scan.image.affine, scan.brain):
                rows.append([name, person, *found])
    for index in range(repeats):
        t1, _, anatomy, affine = simulated_brain(index, seed)
        for found in _scan_features(t1, affine, anatomy.brain):
            rows.append(["simulated", f"sim-{index}", *found])
    report(f"{len(rows)} slices")
    return pd.DataFrame(rows, columns=["set", "person", *FEATURES])


def told_apart(one: pd.DataFrame, other: pd.DataFrame, seed: int) -> float:
    """Area under the ROC curve of a random forest that tells two sets of slices apart, by 5-fold cross-validation.

    A person's slices are all in one fold. 0.5: not told apart; 1: always.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    both = pd.concat([one, other])
    truth = np.r_[np.zeros(len(one)), np.ones(len(other))]
    forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=seed)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    chance = cross_val_predict(
        forest, both[list(FEATURES)].to_numpy(), truth, groups=both["person"], cv=folds, method="predict_proba"
    )
    return float(roc_auc_score(truth, chance[:, 1]))


def tell_apart(slices: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How well slices are told apart: simulated from each real set, one real set from the other, and halves of one set."""
    malf, other, simulated = (slices[slices["set"] == name] for name in ("malf", "ds002748", "simulated"))
    people = stream(seed, "proof/half").permutation(other["person"].unique())
    half = other["person"].isin(people[: len(people) // 2])
    pairs = {
        "simulated and malf": (simulated, malf),
        "simulated and ds002748": (simulated, other),
        "malf and ds002748": (malf, other),
        "two halves of ds002748": (other[half], other[~half]),
    }
    rows = [
        {
            "pair": name, "auc": told_apart(one, two, seed), "slices": f"{len(one)} and {len(two)}",
            "people": f"{one['person'].nunique()} and {two['person'].nunique()}",
        }
        for name, (one, two) in pairs.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------------- to read
def number(value: float) -> str:
    """Three significant digits, no exponent, no trailing point."""
    if not np.isfinite(value):
        return ""
    digits = max(2 - int(np.floor(np.log10(abs(value)))), 0) if value else 0
    return f"{value:.{min(digits, 4)}f}"


def for_reading(table: pd.DataFrame, apart: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """The table of the book: every cell is text."""

    def side(row: pd.Series, prefix: str) -> str:
        n, people = int(row[f"{prefix}_n"]), int(row[f"{prefix}_people"])
        count = f"n = {n}" if n == people else f"n = {n} of {people}"
        if row["scale"] == "mix":
            values = _of(measured, row["real_set" if prefix == "real" else "simulated_set"], row["quantity"])[0]
            return " / ".join(number(float((values == k).mean())) for k in range(3)) + f"; n = {n}"
        middle, low, high = (number(row[f"{prefix}_{k}"]) for k in ("median", "q25", "q75"))
        return f"{middle} ({low} to {high}); {count}"

    rows = []
    for _, row in table.iterrows():
        times = "× " if row["scale"] == "factor" else ""
        rows.append(
            {
                "Part": row["part"], "What": row["what"], "Unit": row["unit"], "Real set": row["real_set"],
                "Real: median (quartiles)": side(row, "real"), "Simulated set": row["simulated_set"],
                "Simulated: median (quartiles)": side(row, "simulated"), "Distance": times + number(row["distance"]),
                "Between halves of the real set": times + number(row["between_halves"]) if np.isfinite(row["between_halves"]) else "",
                "Limit": times + number(row["limit"]), "Within?": "not aimed at" if row["not_aimed_at"] else "yes" if row["within"] else "no",
                "Why not aimed at": row["not_aimed_at"], "Simulator set from it?": "yes" if row["set_from_it"] else "no",
            }
        )  # fmt: skip
    chance = dict(zip(apart["pair"], apart["auc"], strict=True))
    counts = dict(zip(apart["pair"], apart["slices"], strict=True))
    for name in ("malf", "ds002748"):
        auc = chance[f"simulated and {name}"]
        n_simulated, n_real = counts[f"simulated and {name}"].split(" and ")
        rows.append(
            {
                "Part": "Slices", "What": "told apart by ten features", "Unit": "area under ROC", "Real set": name,
                "Real: median (quartiles)": f"{n_real} slices", "Simulated set": "anatomy",
                "Simulated: median (quartiles)": f"{n_simulated} slices", "Distance": number(auc),
                "Between halves of the real set": number(chance["two halves of ds002748"]) if name == "ds002748" else "",
                "Limit": number(TOLD_APART), "Within?": "yes" if auc <= TOLD_APART else "no",
                "Why not aimed at": "", "Simulator set from it?": "no",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------------------------------------------- pictures
SHARES = np.linspace(0, 1, 41)
QUANTILE_COLUMNS = [f"q{share:.3f}" for share in SHARES]


def curves(measured: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of both sides of every pair, one row a side: part, what, unit, scale, sets, real, then `QUANTILE_COLUMNS`."""
    rows = []
    for pair in PAIRS:
        name, real_set, simulated_set = pair.quantity, pair.real, pair.simulated
        quantity = QUANTITIES[name]
        if quantity.scale == "mix":
            continue
        for chosen, real in ((real_set, True), (simulated_set, False)):
            values = np.quantile(_of(measured, chosen, name)[0], SHARES)
            head = [quantity.part, quantity.what, quantity.unit, quantity.scale, real_set, simulated_set, real]
            rows.append([*head, *(float(v) for v in values)])
    return pd.DataFrame(
        rows, columns=["part", "what", "unit", "scale", "real_set", "simulated_set", "real", *QUANTILE_COLUMNS]
    )


def distributions_figure(part: str, table: pd.DataFrame | None = None) -> Drawing:
    """Each quantity of a part as two cumulative curves, real and simulated. `table`: `curves`; None reads the book's own."""
    import matplotlib
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if table is None:
        table = pd.read_csv(project_root() / "book" / "proof" / "simulators_curves.csv")
    table = table[table["part"] == part]
    panels = list(table.groupby(["what", "real_set", "simulated_set"], sort=False))
    columns = 3
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(7.2, 2.4 * rows + 0.4, rows, columns)
    words = []
    with matplotlib.rc_context(STYLE):
        for axis, (key, panel) in zip(axes.ravel(), panels, strict=False):
            what, real_set, simulated_set = (str(k) for k in key)  # type: ignore[attr-defined]
            medians = {}
            for real, colour, style in ((True, "#000000", "-"), (False, "#2070b4", "--")):
                values = panel.loc[panel["real"] == real, QUANTILE_COLUMNS].to_numpy(float)[0]
                name = real_set if real else simulated_set
                axis.plot(values, SHARES, color=colour, linestyle=style, linewidth=1.8, label=name)
                medians[name] = number(float(values[len(values) // 2]))
            first = panel.iloc[0]
            if first["scale"] == "factor":
                axis.set_xscale("log")
                decades = np.ptp(np.log10(panel[QUANTILE_COLUMNS].to_numpy(float)))
                if decades < 0.5:
                    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
                else:
                    axis.xaxis.set_major_locator(LogLocator(subs=(1,) if decades > 2.3 else (1, 2, 5)))
                axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_title(textwrap.fill(what, 24), fontsize=9.5)
            axis.set_xlabel(first["unit"], fontsize=9)
            axis.tick_params(labelsize=8)
            axis.legend(fontsize=7.5, loc="best", handlelength=1.6)
            words.append(f"{what}: median {real_set} {medians[real_set]}, {simulated_set} {medians[simulated_set]}")
        for axis in axes.ravel()[len(panels) :]:
            axis.axis("off")
        for axis in axes[:, 0]:
            axis.set_ylabel("share of values below", fontsize=9)
    caption = (
        f"{part}: real (black, solid) and simulated (blue, dashed) distributions. A curve gives the share of values that lie below "
        "the one on the horizontal axis; the further apart the two curves lie, the larger the distance of the table."
    )
    return Drawing(figure, caption, f"Cumulative curves, real and simulated. {'; '.join(words)}.")


PICTURE_ROWS = (
    "real",
    "simulated",
    "real MS",
    "simulated\nMS",
)
#: Grid of the pictures: mm, rows and columns.
PICTURE_MM, PICTURE_SIZE = 1.5, (144, 112)


def _picture(t1: np.ndarray, affine: np.ndarray, brain: np.ndarray, mask: np.ndarray, off: int = 0) -> np.ndarray:
    """An axial slice (H, W, 3) uint8: the one with most lesion (plus `off`), or a bit above the middle without a lesion."""
    volume, inside, lesion = on_working_grid(t1, affine, brain, mask, 1, PICTURE_MM, PICTURE_SIZE)
    image = volumes.to_slices(volumes.to_uint8(volume, inside))
    outline = volumes.to_slices(lesion)
    heights = np.flatnonzero(volumes.to_slices(inside).any((1, 2)))
    place = int(outline.sum((1, 2)).argmax()) + off if mask.any() else int(np.quantile(heights, 0.58))
    picture = np.repeat(image[place][..., None], 3, -1)
    edge = ndimage.binary_dilation(outline[place] > 0) & (outline[place] == 0)
    picture[edge] = [int(HIT[k : k + 2], 16) for k in (1, 3, 5)]
    return picture


def contact_sheet(root: Path, seed: int) -> np.ndarray:
    """Four rows of four axial slices (see `PICTURE_ROWS`) as one picture uint8 (H, W, 3); lesions outlined.

    Only data sets whose licence lets pictures ship: ds002748 (CC0) and open_ms_data (CC BY).
    """
    recipe = recipes.load_recipe("ds002748", root)
    files = scan_files(recipe, root)
    order = stream(seed, "proof/pictures").permutation(len(files))[:4]
    scans = [read_subject_scan(recipe, files[i]) for i in order]
    real = [_picture(s.image.data, s.image.affine, s.brain, np.zeros_like(s.mask)) for s in scans]
    drawn = [simulated_brain(index, seed) for index in range(4)]
    simulated = [_picture(t1, affine, p.brain, np.zeros_like(p.labels)) for t1, _, p, affine in drawn]
    recipe = recipes.load_recipe("open_ms_data", root)
    patients = [read_subject_scan(recipe, f) for f in scan_files(recipe, root)][:3]
    ms = [_picture(s.image.data, s.image.affine, s.brain, s.mask) for s in patients]
    ms.append(_picture(patients[1].image.data, patients[1].image.affine, patients[1].brain, patients[1].mask, off=-14))
    invented = [*simulate.simulated_target("ms", 2, OWN_MM, seed, "real")]
    invented += [*simulate.simulated_target("ms", 2, OWN_MM, seed, "demo")]
    made = [_picture(s.image.data, s.image.affine, s.brain, s.mask) for s in invented]
    return np.concatenate([np.concatenate(row, 1) for row in (real, simulated, ms, made)], 0)


def sheet_figure(sheet: np.ndarray, rows: Sequence[str], caption: str, alt: str) -> Drawing:
    """A contact sheet (H, W, 3) of equally high rows, each with its name at the left."""
    import matplotlib

    height = sheet.shape[0] // len(rows)
    figure, axes = new_figure(7.4, 7.4 * sheet.shape[0] / sheet.shape[1] * 0.86)
    axis = axes[0, 0]
    with matplotlib.rc_context(STYLE):
        axis.imshow(sheet, interpolation="nearest")
        axis.grid(False)
        axis.set_xticks([])
        axis.set_yticks([height * (k + 0.5) for k in range(len(rows))], rows, fontsize=9)
        for side in axis.spines.values():
            side.set_visible(False)
    return Drawing(figure, caption, alt)


def pictures_figure(sheet: np.ndarray | None = None) -> Drawing:
    """The contact sheet with its rows named. `sheet`: `contact_sheet`; None reads the book's own."""
    from PIL import Image

    if sheet is None:
        sheet = np.asarray(Image.open(project_root() / "book" / "proof" / "simulators_pictures.png").convert("RGB"))
    caption = (
        "Real and simulated axial T1 slices, all on one scale. From the top: four people without known lesion (OpenNeuro ds002748, CC0); four simulated "
        "people; three people with MS, the second of them twice (Lesjak et al. 2017, CC BY); four simulated people with MS, two with "
        "sizes and contrasts as measured, two as the demo draws them. Lesions are outlined; MS slices are those with most lesion."
    )
    alt = (
        "Sixteen brain slices in four rows. The simulated brains resemble the real ones in outline and grey levels but all show the "
        "same folds and are grainier; real MS lesions are pale, the demo's are darker."
    )
    return sheet_figure(sheet, PICTURE_ROWS, caption, alt)


def write_sheet(sheet: np.ndarray, path: Path, colours: int = 256) -> None:
    """The contact sheet as a PNG of so many colours."""
    import io

    from PIL import Image

    from braintransfer.provenance import atomic_write_bytes

    buffer = io.BytesIO()
    Image.fromarray(sheet).quantize(colours).save(buffer, format="png", optimize=True)
    atomic_write_bytes(path, buffer.getvalue())


def summary(table: pd.DataFrame) -> Iterable[str]:
    """One sentence a part, and one of all: how many distances that were aimed at are within their limits, and which are not."""
    aimed = table[table["not_aimed_at"] == ""]
    for part, rows in aimed.groupby("part", sort=False):
        off = rows[~rows["within"]]
        names = "; ".join(f"{r['what']} ({r['real_set']}, {r['simulated_set']})" for _, r in off.iterrows())
        yield f"{part}: {len(rows) - len(off)} of {len(rows)} within their limit" + (f"; off: {names}" if names else "")
    yield (
        f"All: {int(aimed['within'].sum())} of {len(aimed)} aimed at are within their limit; "
        f"{len(table) - len(aimed)} more are not aimed at"
    )
