"""Tiny made-up data sets in exactly the layouts of the real ones, written by code: nothing of the real ones is in them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

MS_T1 = "T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz"
MS_MASK = "GOLD_STANDARD_N4_noneck_reduced_winsor_regtoFLAIR_regtoMNI.nii.gz"


def ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Boolean ellipsoid; centre and radii in voxels."""
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) < 1  # type: ignore[return-value]


def head(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A RAS phantom that is not its own mirror image: T1 (int16), labels 0..3, brain. A bright blob lies on the right."""
    rng = np.random.default_rng(seed)
    c = tuple((n - 1) / 2 for n in shape)
    brain = ellipsoid(shape, c, tuple(0.42 * n for n in shape))
    white = ellipsoid(shape, c, tuple(0.3 * n for n in shape))
    ventricle = ellipsoid(shape, c, tuple(0.1 * n for n in shape))
    labels = np.zeros(shape, np.int16)
    labels[brain], labels[white], labels[ventricle] = 2, 3, 1
    t1 = np.choose(labels, [0, 30, 60, 100]).astype(np.int16)
    t1[ellipsoid(shape, (c[0] + 0.2 * shape[0], c[1], c[2]), tuple(0.08 * n for n in shape))] = 140
    return np.where(brain, t1 + rng.integers(0, 8, shape), 0).astype(np.int16), labels, brain


def save(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def las(shape: tuple[int, ...], spacing: float = 1.0) -> np.ndarray:
    """The affine of a volume stored from right to left, as malf and open_ms_data are."""
    affine = np.diag([-spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [spacing * (shape[0] - 1) / 2, -spacing * shape[1] / 2, -spacing * shape[2] / 2]
    return affine


def malf(root: Path) -> Path:
    """Three people, one scanned twice, sizes that differ."""
    people = [
        ("1000", "OAS1_0061", 20),
        ("1003", "OAS1_0101", 29),
        ("1023", "OAS1_0101", 29),
        ("1128", "OAS1_0083", 90),
    ]
    lines = ["scan\tsubject\tsex\tage"]
    for number, (scan, subject, age) in enumerate(people):
        shape = (24 + number, 28, 22)
        t1, labels, brain = head(shape, number)
        for kind, data in (("SS", t1), ("classified", labels), ("mask", brain.astype(np.uint8))):
            save(root / "malf" / f"{scan}_{kind}.nii.gz", data[::-1], las(shape))
        lines.append(f"{scan}\t{subject}\tF\t{age}")
    (root / "malf" / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "malf"


def open_ms_data(root: Path, patients: int = 30, with_t1: tuple[int, ...] = (7, 19, 26), cubic: int = 26) -> Path:
    """Masks of all patients, T1 (with negative values inside the brain) of three."""
    shape = (cubic, cubic + 4, cubic)
    rng = np.random.default_rng(5)
    for number in range(1, patients + 1):
        folder = root / "open_ms_data" / "cross_sectional" / "MNI" / f"patient{number:02d}"
        t1, _, brain = head(shape, number)
        centre = rng.uniform(0.4, 0.6, 3) * shape
        mask = ellipsoid(shape, tuple(centre), (2.2, 2.0, 1.8)) & brain
        save(folder / MS_MASK, mask.astype(np.uint8)[::-1], las(shape))
        if number in with_t1:
            image = t1.astype(np.float32)
            image[ellipsoid(shape, tuple((n - 1) / 2 for n in shape), (1.5, 1.5, 1.5))] = -4.0
            save(folder / MS_T1, image[::-1], las(shape))
    return root / "open_ms_data"


def bids(root: Path, name: str = "ds002748", people: int = 3) -> Path:
    """Skull-stripped uint8 T1w in BIDS with participants.tsv (one age is n/a)."""
    lines = ["participant_id\tage\tgender\tgroup"]
    for number in range(1, people + 1):
        shape = (22, 26, 20 + number)
        t1, _, _ = head(shape, 10 + number)
        affine = np.diag([1.4, 1.4, 1.4, 1.0])
        subject = f"sub-{number:02d}"
        save(root / name / subject / "anat" / f"{subject}_T1w.nii.gz", t1.astype(np.uint8), affine)
        lines.append(f"{subject}\t{'n/a' if number == 1 else 20 + number}\tf\tcontrol")
    (root / name / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


def class_folders(root: Path, name: str = "imagenette", size: int = 40, each: int = 4) -> Path:
    """Imagenette's folders: train and val, wnids as class folders, .JPEG names."""
    rng = np.random.default_rng(0)
    for part, count in (("train", each), ("val", 2)):
        for wnid in ("n01440764", "n02102040", "n03888257"):
            folder = root / name / part / wnid
            folder.mkdir(parents=True)
            for k in range(count):
                picture = rng.integers(0, 255, (size, size + 6, 3), dtype=np.uint8)
                Image.fromarray(picture).save(folder / f"ILSVRC2012_{part}_{wnid}_{k:03d}.JPEG", format="JPEG")
    return root / name


def tumours(root: Path, blocks: int = 24, each: int = 3) -> Path:
    """The layout of brain_tumour_t1ce: images, masks of 0/1, samples.csv with blocks sorted by class."""
    rng = np.random.default_rng(1)
    folder = root / "brain_tumour_t1ce"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    lines, number = ["sample,label,group"], 0
    for block in range(blocks):
        label = ("meningioma", "pituitary", "glioma")[3 * block // blocks]
        for _ in range(each):
            number += 1
            picture = rng.integers(20, 120, (40, 40), dtype=np.uint8)
            mask = np.zeros((40, 40), np.uint8)
            y, x = rng.integers(5, 25, 2)
            mask[y : y + 9, x : x + 7] = 1
            picture[mask > 0] = 220
            Image.fromarray(picture).save(folder / "images" / f"{number:04d}.jpg")
            Image.fromarray(mask).save(folder / "masks" / f"{number:04d}.png")
            lines.append(f"{number:04d},{label},block-{block:03d}")
    (folder / "samples.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def camvid(root: Path) -> Path:
    """Frames 4:3 with masks 0 to 11, four drives, a split column that crosses them."""
    rng = np.random.default_rng(2)
    folder = root / "camvid"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    lines = ["sample,split,group"]
    for drive in ("0001TP", "0006R0", "0016E5", "Seq05VD"):
        for k in range(3):
            sample = f"{drive}_{k:05d}"
            Image.fromarray(rng.integers(0, 255, (36, 48, 3), dtype=np.uint8)).save(folder / "images" / f"{sample}.jpg")
            mask = np.zeros((36, 48), np.uint8)
            mask[10:30, 15:35], mask[0:5], mask[5:8] = 8, 11, 3
            Image.fromarray(mask).save(folder / "masks" / f"{sample}.png")
            lines.append(f"{sample},{('train', 'val', 'test')[k]},{drive}")
    (folder / "samples.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def lesion_masks(root: Path) -> Path:
    """LESYMAP's RAS float masks on the left; SOOP's LAS uint8 masks, one at the cut, one on both sides."""
    folder = root / "lesion_masks"
    shape, affine = (46, 55, 46), np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-90, -125, -71]
    for number in range(1, 5):
        left = ellipsoid(shape, (14, 28, 24), (2 + number, 4, 4))
        save(folder / "lesymap" / f"Subject_{number:03d}.nii.gz", left.astype(np.float32), affine)
    shape = (40, 48, 34)
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [78, -112, -50]
    for name, centre, radii in (
        ("1010", (10, 28, 18), (3, 3, 3)),
        ("1011", (28, 28, 18), (2, 2, 2)),
        ("1012", (10, 28, 0), (3, 3, 3)),  # cut at the volume's edge
        ("1013", (19.5, 28, 18), (5, 3, 3)),  # on both sides
    ):
        save(
            folder / "soop" / f"bwsrsub-{name}_lesion.nii.gz", ellipsoid(shape, centre, radii).astype(np.uint8), affine
        )
    return folder
