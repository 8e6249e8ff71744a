"""Tiny made-up MRI sources in exactly the layouts of the real ones, written by code: nothing of the real ones is in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fakes
import h5py
import nibabel as nib
import numpy as np
from skimage.measure import find_contours

from braintransfer import recipes
from braintransfer.recipes.schema import recipe_files

#: Voxels as wide as a picture's pixels at `SIZE` and the recipes' 224 mm, so that nothing is interpolated.
SPACING, SIZE = 7.0, 32
SHAPE = (26, 30, 24)
DECOY = b"not a volume: whoever reads this file mixes series"


def affine(axes: str = "RAS", spacing: float = SPACING) -> np.ndarray:
    """Voxel to world with the stored axes running towards `axes`, around the middle of a volume of `SHAPE` (RAS)."""
    plain = np.diag([spacing] * 3 + [1.0])
    plain[:3, 3] = -spacing * (np.array(SHAPE) - 1) / 2
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(axes))
    )
    return plain @ nib.orientations.inv_ornt_aff(turn, SHAPE)


def stored(volume: np.ndarray, axes: str) -> np.ndarray:
    """A RAS volume as it is stored with its axes towards `axes`."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(axes))
    )
    return nib.orientations.apply_orientation(volume, turn)


def save(path: Path, volume: np.ndarray, axes: str = "RAS") -> None:
    fakes.save(path, stored(volume, axes), affine(axes))


def head_on(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """T1 with scalp and noise in the air (int16), and the brain (bool)."""
    t1, _, brain = fakes.head(SHAPE, seed)
    centre = tuple((n - 1) / 2 for n in SHAPE)
    whole = fakes.ellipsoid(SHAPE, centre, tuple(0.49 * n for n in SHAPE))
    skull = fakes.ellipsoid(SHAPE, centre, tuple(0.45 * n for n in SHAPE))
    noise = np.random.default_rng(seed).integers(0, 5, SHAPE)
    return np.where(brain, t1, np.where(whole & ~skull, 150, noise)).astype(np.int16), brain


def decoy(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(DECOY)


def _analyze(path: Path, volume: np.ndarray, kind: str) -> None:
    """Big-endian Analyze, four axes of which the last is 1, no orientation kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = nib.AnalyzeHeader(endianness=">")
    header.set_data_dtype(np.dtype(kind))
    header.set_data_shape((*volume.shape, 1))
    header.set_zooms((SPACING, SPACING, SPACING, 1))
    nib.AnalyzeImage(volume[..., None].astype(kind), None, header).to_filename(path)


def oasis1(root: Path) -> Path:
    """Two discs; five people, one of them in two sessions and one without CDR; masks in FSL_SEG."""
    folder = root / "oasis1"
    lines = ["ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay"]
    sessions = [(1, 1, 1, "0"), (1, 3, 1, "0.5"), (1, 3, 2, "0.5"), (2, 42, 1, "1"), (2, 43, 1, "0.0"), (2, 44, 1, "")]
    for seed, (disc, number, session, rating) in enumerate(sessions):
        name = f"OAS1_{number:04d}_MR{session}"
        t1, labels, _ = fakes.head(SHAPE, seed)
        stem = f"{name}_mpr_n{3 + seed % 2}_anon"
        place = folder / f"disc{disc}" / name
        t88 = place / "PROCESSED" / "MPRAGE" / "T88_111"
        _analyze(t88 / f"{stem}_111_t88_masked_gfc.img", stored(t1, "LAS"), ">i2")
        decoy(t88 / f"{stem}_111_t88_gfc.img")
        decoy(place / "PROCESSED" / "MPRAGE" / "SUBJ_111" / f"{stem}_sbj_111.img")
        decoy(place / "RAW" / f"{name}_mpr-1_anon.img")
        _analyze(place / "FSL_SEG" / f"{stem}_111_t88_masked_gfc_fseg.img", stored(labels, "LAS"), ">i2")
        lines.append(f"{name},F,R,70,2,3,29,{rating},1344,0.743,1.306,N/A")
    (folder / "oasis_cross-sectional.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def ixi(root: Path) -> Path:
    """Four people of three hospitals, skulls on, T2 beside T1; a table with numbers as ids, of whom one has no age."""
    folder = root / "ixi"
    people = [(2, "Guys", 828, 35.8), (12, "HH", 1211, 38.8), (35, "IOP", 873, 66.1), (41, "Guys", 706, None)]
    lines = [
        'IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,WEIGHT,ETHNIC_ID,MARITAL_ID,OCCUPATION_ID,QUALIFICATION_ID,DOB,DATE_AVAILABLE,STUDY_DATE,AGE'
    ]
    for number, site, session, age in people:
        stem = f"IXI{number:03d}-{site}-{session:04d}"
        save(folder / f"{stem}-T1.nii.gz", head_on(number)[0], "PSR")
        decoy(folder / f"{stem}-T2.nii.gz")
        decoy(folder / f"{stem}-PD.nii.gz")
        lines.append(f"{number},2,164,58,1,4,1,5,1970-01-01,1,2005-11-25,{'' if age is None else age}")
    (folder / "IXI.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _copied_template(root: Path, name: str, changes: dict[str, str]) -> None:
    """The template as a person copies it beside their data, with a name of its own."""
    text = next(f for f, _ in recipe_files() if f.stem == "bids_t1w_source").read_text(encoding="utf-8")
    for old, new in (
        {"name: bids_t1w_source": f"name: {name}", "folder: my_source": "", "template: true": ""} | changes
    ).items():
        assert old in text
        text = text.replace(old, new)
    (root / "recipes").mkdir(exist_ok=True)
    (root / "recipes" / f"{name}.yaml").write_text(text, encoding="utf-8")


def _bids(folder: Path, scans: list[tuple[str, str, str]]) -> None:
    lines: dict[str, str] = {"participant_id": "participant_id\tage\tgroup"}
    for seed, (person, session, group) in enumerate(scans):
        t1, labels, _ = fakes.head(SHAPE, seed)
        parts = Path(person, session, "anat")
        stem = "_".join(p for p in (person, session) if p)
        save(folder / parts / f"{stem}_T1w.nii.gz", t1, "LAS")
        decoy(folder / parts / f"{stem}_ce-gadolinium_T1w.nii.gz")
        decoy(folder / parts / f"{stem}_T2w.nii.gz")
        mask = (labels == 3).astype(np.uint8)
        save(folder / "derivatives" / "masks" / parts / f"{stem}_label-lesion_mask.nii.gz", mask, "LAS")
        lines[person] = f"{person}\t30\t{group}"
    (folder / "participants.tsv").write_text("\n".join(lines.values()) + "\n", encoding="utf-8")


def bids_masks(root: Path) -> Path:
    """The template as it is: people without sessions, masks in derivatives."""
    _bids(
        root / "bids_masks",
        [("sub-01", "", "control"), ("sub-02", "", "patient"), ("sub-03", "", "n/a"), ("sub-04", "", "patient")],
    )
    _copied_template(root, "bids_masks", {})
    return root / "bids_masks"


def bids_visits(root: Path) -> Path:
    """Some people in two sessions, no masks asked for."""
    _bids(
        root / "bids_visits",
        [("sub-01", "", "control"), ("sub-02", "ses-1", "patient"), ("sub-02", "ses-2", "patient")],
    )
    mask = '  mask: "derivatives/masks/{subject}/anat/{subject}_label-lesion_mask.nii.gz"\n'
    _copied_template(root, "bids_visits", {mask: "", "mri-segmentation, mri-selfsupervised]": "mri-selfsupervised]"})
    return root / "bids_visits"


def _glioma(seed: int, enhancing: int) -> tuple[np.ndarray, np.ndarray]:
    """T1, and labels 1, 2 and `enhancing` in a ball high on the left."""
    t1, _, _ = fakes.head(SHAPE, seed)
    labels = np.zeros(SHAPE, np.uint8)
    centre = (9, 16, 15)
    for value, radius in ((2, 4.5), (enhancing, 3.2), (1, 2.0)):
        labels[fakes.ellipsoid(SHAPE, centre, (radius, radius, radius))] = value
    return t1, labels


def brats2021(root: Path) -> Path:
    folder = root / "brats2021"
    for number in (0, 2, 3):
        name = f"BraTS2021_{number:05d}"
        t1, labels = _glioma(number, 4)
        save(folder / name / f"{name}_t1.nii.gz", t1, "LPS")
        save(folder / name / f"{name}_seg.nii.gz", labels, "LPS")
        for other in ("t1ce", "t2", "flair"):
            decoy(folder / name / f"{name}_{other}.nii.gz")
    return folder


def brats2023(root: Path) -> Path:
    """Two visits of the second person."""
    folder = root / "brats2023"
    for number, visit in ((0, 0), (2, 0), (2, 1), (5, 0)):
        name = f"BraTS-GLI-{number:05d}-{visit:03d}"
        t1, labels = _glioma(10 * number + visit, 3)
        save(folder / name / f"{name}-t1n.nii.gz", t1, "LPS")
        save(folder / name / f"{name}-seg.nii.gz", labels, "LPS")
        for other in ("t1c", "t2w", "t2f"):
            decoy(folder / name / f"{name}-{other}.nii.gz")
    return folder


def _tissues(labels: np.ndarray) -> np.ndarray:
    """The phantom's classes as seg4 numbers them: 1 cortex, 2 subcortical grey, 3 white, 4 CSF."""
    return np.choose(labels, [0, 4, 1, 3]).astype(np.int16)


def neurite_oasis(root: Path) -> Path:
    folder = root / "neurite_oasis"
    for number in (1, 2, 5):
        place = folder / f"OASIS_OAS1_{number:04d}_MR1"
        t1, labels, _ = fakes.head(SHAPE, number)
        save(place / "aligned_norm.nii.gz", (t1 / 150).astype(np.float32), "LIA")
        save(place / "aligned_seg4.nii.gz", _tissues(labels), "LIA")
        for other in ("aligned_orig", "aligned_seg35", "orig", "norm", "seg4", "seg35"):
            decoy(place / f"{other}.nii.gz")
    for text in ("subjects.txt", "seg4_labels.txt", "seg35_labels.txt"):
        (folder / text).write_text("\n", encoding="utf-8")
    return folder


def neurite_oasis_2d(root: Path) -> Path:
    """One coronal slice a person, its header without orientation."""
    folder = root / "neurite_oasis_2d"
    for number in (1, 2, 5):
        place = folder / f"OASIS_OAS1_{number:04d}_MR1"
        t1, labels, _ = fakes.head(SHAPE, number)
        middle = SHAPE[1] // 2
        for name, volume in (("slice_norm", (t1 / 150).astype(np.float32)), ("slice_seg4", _tissues(labels))):
            one = stored(volume, "LIA")[:, :, middle : middle + 1]
            fakes.save(place / f"{name}.nii.gz", one, np.diag([SPACING, SPACING, SPACING, 1.0]))
        decoy(place / "slice_orig.nii.gz")
        decoy(place / "slice_seg24.nii.gz")
    return folder


def malf_source(root: Path) -> Path:
    """Three people, one scanned twice, in slices of 1 mm that are coarse inside; the merged labels are read, not all structures."""
    folder = root / "malf"
    shape = (SHAPE[0], SHAPE[1], 160)
    turned = np.diag([-SPACING, SPACING, 1.0, 1.0])  # LAS
    turned[:3, 3] = [SPACING * (shape[0] - 1) / 2, -SPACING * shape[1] / 2, -shape[2] / 2]
    lines = ["scan\tsubject\tsex\tage"]
    people = [("1000", "OAS1_0061"), ("1003", "OAS1_0101"), ("1023", "OAS1_0101"), ("1128", "OAS1_0083")]
    for seed, (scan, person) in enumerate(people):
        t1, labels, brain = fakes.head(shape, seed)
        for kind, data in (("SS", t1), ("classified", labels), ("mask", brain.astype(np.uint8))):
            fakes.save(folder / f"{scan}_{kind}.nii.gz", data[::-1], turned)
        decoy(folder / f"{scan}_glm.nii.gz")
        lines.append(f"{scan}\t{person}\tF\t20")
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def nfbs(root: Path) -> Path:
    folder = root / "NFBS_Dataset"
    for seed, person in enumerate(("A00028185", "A00028352", "A00032875")):
        t1, brain = head_on(seed)
        stem = f"sub-{person}_ses-NFB3_T1w"
        save(folder / person / f"{stem}.nii.gz", t1, "PSR")
        save(folder / person / f"{stem}_brainmask.nii.gz", brain.astype(np.uint8), "PSR")
        decoy(folder / person / f"{stem}_brain.nii.gz")
    return folder


def matlab_slice(
    path: Path, person: str, label: int, seed: int, side: int = 64, transposed: bool = False, shift: float = 0.0
) -> np.ndarray:
    """One file of the figshare set (MATLAB v7.3: HDF5 after 512 bytes); returns the mask as MATLAB shows it.

    `transposed` stores image and mask the other way round, as some copies do; the border stays. `shift` moves the border.
    """
    rng = np.random.default_rng(seed)
    scale = side / 64
    mask = np.zeros((side, side), bool)
    top, left = int((8 + rng.integers(0, 4)) * scale), int((36 + rng.integers(0, 6)) * scale)
    mask[top : top + int(7 * scale), left : left + int(12 * scale)] = True
    inside = fakes.ellipsoid((side, side), (side / 2, side / 2), (0.45 * side, 0.4 * side))
    image = np.where(inside, rng.integers(100, 400, (side, side)), 0).astype(np.int16)
    image[mask] += 900
    rows, columns = find_contours(mask.astype(float), 0.5)[0].T
    border = np.column_stack([columns + 1 + shift, rows + 1 + shift]).reshape(1, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        data = file.create_group("cjdata")
        # MATLAB's columns come first in HDF5: a matrix is written as its transpose.
        data["image"] = image if transposed else image.T
        data["tumorMask"] = (mask if transposed else mask.T).astype(np.uint8)
        data["label"] = np.array([[float(label)]])
        data["PID"] = np.array([[ord(c)] for c in person], np.uint16)
        data["tumorBorder"] = border
    return mask


def brain_tumour_mat(root: Path) -> Path:
    """Nine slices of four people, one of 32 pixels among those of 64; the owners' file of folds beside them."""
    folder = root / "brain_tumour_mat"
    people = [
        ("100360", 1),
        ("100360", 1),
        ("MR017260F", 2),
        ("MR017260F", 2),
        ("MR017260F", 2),
        ("96956", 3),
        ("96956", 3),
    ]
    people += [("112649", 1), ("112649", 1)]
    for number, (person, label) in enumerate(people, 1):
        matlab_slice(folder / f"{number}.mat", person, label, number, 32 if number == 4 else 64)
    with h5py.File(folder / "cvind.mat", "w", userblock_size=512) as file:
        file["cvind"] = np.ones((1, 9))
    return folder


@dataclass(frozen=True)
class Fake:
    """A made-up set, and what comes of it: people, pictures, classes; `axes` of its volumes where their headers are believed."""

    make: Callable[[Path], Path]
    people: frozenset[str]
    pictures: int
    classes: frozenset[str]
    masks: bool
    axes: bool = True


SHOWS = frozenset({"no tumour on the slice", "tumour on the slice"})
SOURCES = {
    "oasis1": Fake(
        oasis1, frozenset({"OAS1_0001", "OAS1_0003", "OAS1_0042", "OAS1_0043"}), 40,
        frozenset({"no dementia (CDR 0)", "dementia (CDR 0.5 or more)"}), True, axes=False,
    ),
    "ixi": Fake(
        ixi, frozenset({"IXI002", "IXI012", "IXI035", "IXI041"}), 16,
        frozenset({"Guy's Hospital (Philips 1.5 T)", "Hammersmith Hospital (Philips 3 T)", "Institute of Psychiatry (GE 1.5 T)"}), False,
    ),
    "ixi_age": Fake(ixi, frozenset({"IXI002", "IXI012", "IXI035"}), 12, frozenset({"under 40", "60 and over"}), False),
    "bids_masks": Fake(bids_masks, frozenset({"sub-01", "sub-02", "sub-04"}), 24, frozenset({"control", "patient"}), True),
    "bids_visits": Fake(bids_visits, frozenset({"sub-01", "sub-02"}), 24, frozenset({"control", "patient"}), False),
    "brain_tumour_mat": Fake(
        brain_tumour_mat, frozenset({"100360", "MR017260F", "96956", "112649"}), 9,
        frozenset({"meningioma", "glioma", "pituitary"}), True, axes=False,
    ),
    "brats2021": Fake(brats2021, frozenset({f"BraTS2021_{k:05d}" for k in (0, 2, 3)}), 24, SHOWS, True),
    "brats2023": Fake(brats2023, frozenset({f"BraTS-GLI-{k:05d}" for k in (0, 2, 5)}), 32, SHOWS, True),
    # turned as the others are; with fifty times their voxels it is turned in no test
    "malf_source": Fake(
        malf_source, frozenset({"OAS1_0061", "OAS1_0083", "OAS1_0101"}), 216, frozenset({""}), True, axes=False
    ),
    "neurite_oasis": Fake(neurite_oasis, frozenset({f"OAS1_{k:04d}" for k in (1, 2, 5)}), 24, frozenset({""}), True),
    "neurite_oasis_2d": Fake(
        neurite_oasis_2d, frozenset({f"OAS1_{k:04d}" for k in (1, 2, 5)}), 3, frozenset({""}), True, axes=False
    ),
    "nfbs": Fake(nfbs, frozenset({"A00028185", "A00028352", "A00032875"}), 24, frozenset({""}), True),
}  # fmt: skip


def made(name: str, root: Path) -> recipes.Recipe:
    """The fake set `name` under `root`, and its recipe."""
    SOURCES[name].make(root)
    return recipes.load_recipe(name, root)
