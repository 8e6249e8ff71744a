"""Tiny made-up targets in exactly the layouts of the real sets: where each file lies, how it is stored, and what else lies there.

`LAYOUTS` names one maker a recipe. A maker writes a few scans under `root` and returns what a reader should get of each:
scan name -> (person, labels of our classes on the scan's own grid). Whatever is not the T1 of the recipe (other contrasts,
post-contrast, raw copies, other raters, other times) holds values of `OTHER` and more, so that it is seen when it mixes in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import fakes
import nibabel as nib
import numpy as np

OTHER = 5000
SHAPE = (24, 28, 22)
Expected = dict[str, tuple[str, np.ndarray]]
Maker = Callable[[Path], Expected]


def lesion(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A lesion (bool) inside the brain of `fakes.head`, at a place that `seed` says."""
    centre = np.random.default_rng(seed).uniform(0.42, 0.58, 3) * shape
    return fakes.ellipsoid(shape, tuple(centre), (2.4, 2.0, 1.8))


def skull_on(t1: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """The phantom in a head: a bright scalp at the edge of the volume."""
    return np.where(brain, t1, 60).astype(t1.dtype)


def other(path: Path, shape: tuple[int, ...] = SHAPE, affine: np.ndarray | None = None) -> Path:
    """A file that no recipe may read as T1."""
    data = np.full(shape, OTHER, np.int16)
    data[::2] += 100
    return fakes.save(path, data, fakes.las(shape) if affine is None else affine)


def stored(data: np.ndarray) -> np.ndarray:
    """RAS data as a file with `fakes.las` keeps it."""
    return data[::-1]


def lesions(
    root: Path,
    scans: Mapping[str, tuple[str, Mapping[str, object]]],
    image: str,
    mask: str,
    brain: str = "",
    others: tuple[str, ...] = (),
    suffix: str = "",
) -> Expected:
    """Scans with one lesion each: scan name -> (person, fields of the patterns)."""
    expected: Expected = {}
    for seed, (scan, (person, fields)) in enumerate(scans.items()):
        t1, _, inside = fakes.head(SHAPE, seed)
        reference = lesion(seed) & inside
        shown = skull_on(t1, inside) if brain else t1
        affine = fakes.las(SHAPE, 1.0 + 0.1 * (seed % 2))  # spacing differs within a set
        fakes.save(root / (image.format(**fields) + suffix), stored(shown), affine)
        fakes.save(root / (mask.format(**fields) + suffix), stored(reference).astype(np.float32), affine)
        if brain:
            fakes.save(root / brain.format(**fields), stored(inside).astype(np.uint8), affine)
        for name in others:
            other(root / name.format(**fields))
        expected[scan] = (person, stored(reference).astype(np.uint8))
    return expected


def atlas_r2(root: Path) -> Expected:
    names = [("R001", "sub-r001s001"), ("R001", "sub-r001s002"), ("R002", "sub-r002s001")]
    scans = {f"{s}_ses-1": (s, {"site": site, "s": s, "e": "ses-1"}) for site, s in names}
    stem = "ATLAS_2/Training/{site}/{s}/{e}/anat/{s}_{e}_space-MNI152NLin2009aSym_"
    other(root / "ATLAS_2/Testing/R003/sub-r003s001/ses-1/anat/sub-r003s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz")
    return lesions(
        root, scans, stem + "T1w.nii.gz", stem + "label-L_desc-T1lesion_mask.nii.gz", "ATLAS_2/brain_masks/{s}.nii.gz"
    )


def atlas_r1_2(root: Path) -> Expected:
    """One person with two times and three lesions in three files, one of them smoothed to fractions."""
    folder = root / "atlas_r1_2"
    expected: Expected = {}
    for seed, (part, site, subject, time) in enumerate(
        [(1, "c0001", "0004", "01"), (1, "c0001", "0004", "02"), (2, "c0010", "0001", "01")]
    ):
        name = f"{site}s{subject}t{time}"
        t1, _, inside = fakes.head(SHAPE, seed)
        stem = folder / f"standard_part{part}" / site / name / name
        fakes.save(Path(f"{stem}_t1w_stx.nii.gz"), stored(skull_on(t1, inside)), fakes.las(SHAPE))
        fakes.save(folder / "brain_masks" / f"{name}.nii.gz", stored(inside).astype(np.uint8), fakes.las(SHAPE))
        reference = np.zeros(SHAPE, bool)
        for k, ending in enumerate(["", "_1", "_2"] if time == "01" and part == 1 else [""]):
            one = lesion(10 * seed + k) & inside
            smooth = np.where(one, 0.9, 0.2).astype(np.float32)
            fakes.save(Path(f"{stem}_LesionSmooth{ending}_stx.nii.gz"), stored(smooth), fakes.las(SHAPE))
            reference |= one
        expected[f"{site}s{subject}_{time}"] = (f"{site}s{subject}", stored(reference).astype(np.uint8))
    return expected


def arc(root: Path) -> Expected:
    """The masks of the set lie on T2, those that its user made on T1; two runs in one session."""
    names = [("M2001", "1076", "tfl3", "4"), ("M2002", "1440", "tfl3p2", "5"), ("M2002", "1440", "tfl3p2", "6")]
    scans = {f"sub-{s}_ses-{e}_{r}": (f"sub-{s}", {"s": s, "e": e, "a": a, "r": r}) for s, e, a, r in names}
    inside = "sub-{s}/ses-{e}/anat/sub-{s}_ses-{e}_acq-{a}_run-{r}_T1w"
    return lesions(
        root, scans, f"ds004884/{inside}.nii.gz", f"ds004884/derivatives/lesions_on_t1/{inside}_desc-lesion_mask.nii.gz",
        f"ds004884/derivatives/lesions_on_t1/{inside}_desc-brain_mask.nii.gz",
        ("ds004884/sub-{s}/ses-{e}/anat/sub-{s}_ses-{e}_acq-spc3_run-3_T2w.nii.gz",
         "ds004884/derivatives/lesion_masks/sub-{s}/ses-{e}/anat/sub-{s}_ses-{e}_acq-spc3_run-3_T2w_desc-lesion_mask.nii.gz"),
    )  # fmt: skip


PATIENTS = {p: (p, {"s": p}) for p in ("patient07", "patient19", "patient26")}


def open_ms_data(root: Path) -> Expected:
    stem, end = "open_ms_data/cross_sectional/MNI/{s}/", "_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz"
    return lesions(
        root, PATIENTS, f"{stem}T1{end}", stem + fakes.MS_MASK,
        others=tuple(f"{stem}{name}{end}" for name in ("T1POST", "T2", "FLAIR")),
    )  # fmt: skip


def open_ms_coregistered(root: Path) -> Expected:
    stem = "open_ms_data/cross_sectional/coregistered/{s}/"
    later = "open_ms_data/longitudinal/coregistered/patient01/"
    others = (
        *(f"{stem}{n}.nii.gz" for n in ("T1WKS", "T2W", "FLAIR")),
        f"{later}study1_T1W.nii.gz",
        f"{later}gt.nii.gz",
    )
    return lesions(root, PATIENTS, stem + "T1W.nii.gz", stem + "consensus_gt.nii.gz", stem + "brainmask.nii.gz", others)


def open_ms_raw(root: Path) -> Expected:
    """consensus_gt of the raw layout is on FLAIR's grid; the one on T1 is made by the user."""
    stem, made = "open_ms_data/cross_sectional/raw/{s}/", "open_ms_data/on_t1/{s}_"
    others = tuple(f"{stem}{n}.nii.gz" for n in ("T1WKS", "T2W", "FLAIR", "consensus_gt"))
    return lesions(root, PATIENTS, stem + "T1W.nii.gz", made + "consensus_gt.nii.gz", made + "brain.nii.gz", others)


def msseg2016(root: Path) -> Expected:
    names = [
        ("Training", "Center_01", "Patient_01"),
        ("Training", "Center_07", "Patient_01"),
        ("Testing", "Center_03", "Patient_01"),
    ]
    scans = {f"{c}_{p}_{s}": (f"{c}_{p}_{s}", {"p": p, "c": c, "s": s}) for p, c, s in names}
    stem = "msseg2016/{p}/{c}/{s}/"
    others = (
        *(f"{stem}Preprocessed_Data/{n}_preprocessed.nii.gz" for n in ("GADO", "FLAIR", "T2", "DP")),
        stem + "Raw_Data/T1.nii.gz",
        *(f"{stem}Masks/ManualSegmentation_{k}.nii.gz" for k in (1, 7)),
    )
    return lesions(
        root, scans, stem + "Preprocessed_Data/T1_preprocessed.nii.gz", stem + "Masks/Consensus.nii.gz", others=others
    )


def isbi2015(root: Path, rater: int = 1) -> Expected:
    """Uncompressed, several visits, two raters that disagree."""
    visits = [("training01", "01"), ("training01", "02"), ("training02", "01")]
    scans = {f"{s}_{e}": (s, {"s": s, "e": e}) for s, e in visits}
    stem = "isbi2015/training/{s}/preprocessed/{s}_{e}_"
    return lesions(
        root, scans, stem + "mprage_pp.nii", f"isbi2015/training/{{s}}/masks/{{s}}_{{e}}_mask{rater}.nii",
        others=(*(f"{stem}{n}_pp.nii" for n in ("flair", "t2", "pd")), f"isbi2015/training/{{s}}/masks/{{s}}_{{e}}_mask{3 - rater}.nii"),
    )  # fmt: skip


def isbi2015_rater2(root: Path) -> Expected:
    return isbi2015(root, rater=2)


def mslesseg(root: Path) -> Expected:
    """The folder T1 is a time, the ending T1 a contrast."""
    scans = {f"{s}_{e}": (s, {"s": s, "e": e}) for s, e in [("P1", "T1"), ("P1", "T2"), ("P2", "T1")]}
    stem = "MSLesSeg Dataset/train/{s}/{e}/{s}_{e}_"
    return lesions(
        root, scans, stem + "T1.nii.gz", stem + "MASK.nii.gz", others=(stem + "T2.nii.gz", stem + "FLAIR.nii.gz")
    )


def shifts_ms(root: Path) -> Expected:
    """Numbers start again in every part; the people of `best` cannot be told apart and are left out."""
    places = [(1, "msseg", "train", "1"), (1, "msseg", "dev_in", "1"), (2, "ljubljana", "dev_out", "1")]
    scans = {f"{c}_{p}_{s}": (f"{c}_{p}_{s}", {"g": g, "c": c, "p": p, "s": s}) for g, c, p, s in places}
    stem = "shifts_ms/shifts_ms_pt{g}/{c}/{p}/"
    others = tuple(f"{stem}{n.lower()}/{{s}}_{n}_isovox.nii.gz" for n in ("FLAIR", "T2", "PD"))
    other(root / "shifts_ms/shifts_ms_pt2/best/train/t1/1_T1_isovox.nii.gz")
    other(root / "shifts_ms/shifts_ms_pt2/best/train/gt/1_gt_isovox.nii.gz")
    return lesions(root, scans, stem + "t1/{s}_T1_isovox.nii.gz", stem + "gt/{s}_gt_isovox.nii.gz", others=others)


# ------------------------------------------------------------------------------------------------------ anatomy


def structures(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T1, labels (0 background, 1 ventricles, 2 grey, 3 white) and brain, RAS."""
    t1, labels, brain = fakes.head(shape, seed)  # type: ignore[arg-type]
    return t1, labels, brain


def upstream(
    labels: np.ndarray, values: Mapping[int, tuple[int, ...]], left_out: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Our labels as the set's own values (each class cut into several), and ours without what the set leaves out.

    What is left out is cut from the back of the white matter, one value a row.
    """
    names = np.zeros(labels.shape, np.int16)
    for index, numbers in values.items():
        at = np.argwhere(labels == index)
        for k, number in enumerate(numbers):
            names[tuple(at[k :: len(numbers)].T)] = number
    ours = labels.astype(np.uint8)
    rows = sorted({int(y) for y in np.argwhere(labels == 3)[:, 1]})[: len(left_out)]
    for y, number in zip(rows, left_out, strict=True):
        here = labels[:, y] == 3
        names[:, y][here], ours[:, y][here] = number, 0
    return names, ours


def mrbrains13(root: Path) -> Expected:
    expected: Expected = {}
    for seed, person in enumerate(("1", "2", "3")):
        t1, labels, brain = structures(seed)
        names, ours = upstream(labels, {1: (6,), 2: (1, 2), 3: (3, 4)}, (5, 7, 8))
        folder, affine = root / "mrbrains13" / "TrainingData" / person, np.diag([-0.958, 0.958, 3.0, 1.0])
        fakes.save(folder / "T1.nii", stored(skull_on(t1, brain)), affine)
        fakes.save(folder / "LabelsForTraining.nii", stored(names), affine)
        fakes.save(root / "mrbrains13" / "brain_masks" / f"{person}.nii.gz", stored(brain).astype(np.uint8), affine)
        for name in ("T1_1mm", "T1_IR", "T2_FLAIR", "LabelsForTesting"):
            other(folder / f"{name}.nii")
        expected[person] = (person, stored(ours))
    return expected


def mrbrains18(root: Path) -> Expected:
    expected: Expected = {}
    for seed, person in enumerate(("1", "4", "070")):
        t1, labels, brain = structures(seed)
        names, ours = upstream(labels, {1: (6,), 2: (1, 2), 3: (3, 4)}, (5, 7, 8, 9, 10))
        folder, affine = root / "mrbrains18" / "training" / person, fakes.las(SHAPE)
        fakes.save(folder / "pre" / "reg_T1.nii.gz", stored(skull_on(t1, brain)), affine)
        fakes.save(folder / "segm.nii.gz", stored(names), affine)
        fakes.save(root / "mrbrains18" / "brain_masks" / f"{person}.nii.gz", stored(brain).astype(np.uint8), affine)
        for name in ("pre/T1", "pre/FLAIR", "pre/reg_IR", "pre/IR", "orig/reg_T1", "orig/T1"):
            other(folder / f"{name}.nii.gz")
        expected[person] = (person, stored(ours))
    return expected


def ibsr18(root: Path) -> Expected:
    """4-D with one volume; the header of the mask says another orientation and another place."""
    expected: Expected = {}
    for seed, person in enumerate(("IBSR_01", "IBSR_02", "IBSR_18")):
        t1, labels, _ = structures(seed)
        folder = root / "ibsr18" / "IBSR_nifti_stripped" / person
        wrong = np.diag([1.5, -0.94, 0.94, 1.0])
        wrong[:3, 3] = 70
        affine = np.diag([0.9375, 1.5, 0.9375, 1.0])
        fakes.save(folder / f"{person}_ana_strip.nii.gz", t1[..., None], affine)
        fakes.save(folder / f"{person}_segTRI_ana.nii.gz", labels[..., None], wrong)
        for name in ("ana", "seg_ana", "segTRI_fill_ana"):
            other(folder / f"{person}_{name}.nii.gz")
        expected[person] = (person, labels.astype(np.uint8))
    return expected


def mindboggle101(root: Path) -> Expected:
    expected: Expected = {}
    people = [("OASIS-TRT-20", "OASIS-TRT-20-1"), ("NKI-RS-22", "NKI-RS-22-1"), ("Extra-18", "HLN-12-1")]
    for seed, (site, person) in enumerate(people):
        t1, labels, _ = structures(seed)
        names, ours = upstream(
            labels, {1: (4, 43, 14), 2: (1003, 2003, 1035, 10, 47), 3: (2, 41, 16, 251)}, (24, 28, 60)
        )
        folder, wrong = root / "mindboggle101" / f"{site}_volumes" / person, np.diag([1.0, 1.0, 1.0, 1.0])
        fakes.save(folder / "t1weighted_brain.nii.gz", stored(t1), fakes.las(SHAPE))
        fakes.save(folder / "labels.DKT31.manual+aseg.nii.gz", stored(names).astype(np.float32), wrong)
        for name in ("t1weighted", "labels.DKT31.manual", "t1weighted_brain.MNI152", "labels.DKT31.manual+aseg.MNI152"):
            other(folder / f"{name}.nii.gz")
        expected[person] = (person, stored(ours))
    return expected


def msd_folder(root: Path) -> Expected:
    """A template: the recipe is copied beside the data. Four channels, T1 is the second; resource forks of a Mac lie about."""
    expected: Expected = {}
    folder = root / "my_set"
    for seed, person in enumerate(("BRATS_001", "BRATS_002", "BRATS_003")):
        t1, _, inside = fakes.head(SHAPE, seed)
        reference = lesion(seed) & inside
        image = np.full((*SHAPE, 4), OTHER, np.int16)
        image[..., 1] = stored(t1)
        fakes.save(folder / "imagesTr" / f"{person}.nii.gz", image, fakes.las(SHAPE))
        fakes.save(folder / "labelsTr" / f"{person}.nii.gz", stored(reference).astype(np.uint8), fakes.las(SHAPE))
        (folder / "imagesTr" / f"._{person}.nii.gz").write_bytes(b"Mac OS X")
        expected[person] = (person, stored(reference).astype(np.uint8))
    other(folder / "imagesTs" / "BRATS_004.nii.gz", (*SHAPE, 4))
    about = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "lesion"},
    }
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    return expected


def bids_t1w(root: Path) -> Expected:
    """A template: scans with and without sessions."""
    stem, masks = "my_set/{s}/anat/{s}", "my_set/derivatives/lesions/{s}/anat/{s}"
    scans = {s: (s, {"s": s}) for s in ("sub-01", "sub-02")}
    (root / "my_set").mkdir()
    (root / "my_set" / "participants.tsv").write_text(
        "participant_id\tage\nsub-01\t60\nsub-02\tn/a\n", encoding="utf-8"
    )
    return lesions(
        root,
        scans,
        stem + "_T1w.nii.gz",
        masks + "_label-lesion_mask.nii.gz",
        others=(stem + "_T2w.nii.gz", stem + "_ce-gd_T1w.nii.gz"),
    )


def malf(root: Path) -> Expected:
    fakes.malf(root)
    people = {"1000": "OAS1_0061", "1003": "OAS1_0101", "1023": "OAS1_0101", "1128": "OAS1_0083"}
    labels = {scan: root / "malf" / f"{scan}_classified.nii.gz" for scan in people}
    return {s: (p, np.asarray(nib.nifti1.load(labels[s]).dataobj).astype(np.uint8)) for s, p in people.items()}


LAYOUTS: dict[str, Maker] = {
    "arc": arc, "atlas_r1_2": atlas_r1_2, "atlas_r2": atlas_r2, "bids_t1w": bids_t1w, "ibsr18": ibsr18, "isbi2015": isbi2015, "isbi2015_rater2": isbi2015_rater2,
    "malf": malf, "mindboggle101": mindboggle101, "mrbrains13": mrbrains13, "mrbrains18": mrbrains18, "msd_folder": msd_folder,
    "mslesseg": mslesseg, "msseg2016": msseg2016, "open_ms_coregistered": open_ms_coregistered, "open_ms_data": open_ms_data,
    "open_ms_patients": open_ms_data, "open_ms_raw": open_ms_raw, "shifts_ms": shifts_ms,
}  # fmt: skip
