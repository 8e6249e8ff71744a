"""Promises of MRI sources made of volumes: people stay whole, series never mix, and slices are the same however a scan is stored."""

from __future__ import annotations

import gc
import importlib
import sys
import weakref
from pathlib import Path
from typing import Any

import fakes
import fakes_sources
import h5py
import nibabel as nib
import numpy as np
import pytest
from fakes_sources import DECOY, SIZE, SOURCES, made
from PIL import Image
from refusals import refused

from braintransfer import recipes, volumes
from braintransfer.recipes import matlab, slices
from braintransfer.recipes.files import scan_files
from braintransfer.recipes.samples import SourceImage
from braintransfer.recipes.schema import ClassOf, Slices, every_recipe

#: The package has a function of this name.
SCANS = importlib.import_module("braintransfer.recipes.scans")
VOLUMES = [name for name in SOURCES if name != "brain_tumour_mat"]


def pictures(recipe: recipes.Recipe, root: Path, n: int = 0, seed: int = 0) -> list[SourceImage]:
    return list(recipes.images(recipe, root, n, SIZE, seed))


# ------------------------------------------------------------------------------------------------ every set


def test_every_mri_source_of_volumes_has_a_fake() -> None:
    assert {r.name for r in every_recipe() if r.kind == "slices" and not r.template} <= set(SOURCES)
    assert {"bids_masks", "bids_visits"} == set(SOURCES) - {r.name for r in every_recipe()}  # two uses of the template


@pytest.mark.parametrize("name", SOURCES)
def test_each_set_gives_its_people_classes_and_masks(tmp_path: Path, name: str) -> None:
    fake, recipe = SOURCES[name], made(name, tmp_path)
    items = pictures(recipe, tmp_path)
    # every millimetre, from the top of the cortex on, made smaller
    bright, lit, brightest = (50, 0.02, 240) if name == "malf_source" else (100, 0.05, 255)
    assert len(items) == len({i.scan for i in items}) == fake.pictures
    assert {i.subject for i in items} == fake.people and {i.label for i in items} == fake.classes
    for item in items:
        assert item.image.shape == item.mask.shape == (SIZE, SIZE)
        assert item.image.dtype == item.mask.dtype == np.uint8
        assert item.image.max() > bright and (item.image > 0).mean() > lit
        assert set(np.unique(item.mask)) <= {0, 1}
    for person in fake.people:  # values are clipped by the whole scan's
        assert max(i.image.max() for i in items if i.subject == person) >= brightest
    assert any(i.mask.any() for i in items) == fake.masks
    assert recipes.check(recipe, tmp_path) == []


@pytest.mark.parametrize("name", SOURCES)
def test_cells_are_those_that_classes_and_masks_fill(tmp_path: Path, name: str) -> None:
    fake, recipe = SOURCES[name], made(name, tmp_path)
    can = {"mri-classification": len(fake.classes) > 1, "mri-segmentation": fake.masks, "mri-selfsupervised": True}
    assert set(recipe.cells) == {cell for cell, able in can.items() if able}
    for cell, able in can.items():
        if able:
            recipe.must_fill(cell)
        else:
            refused(lambda cell=cell: recipe.must_fill(cell), recipe.name, f"not {cell}", "choose another")


@pytest.mark.parametrize("name", SOURCES)
def test_people_not_slices_nor_sessions_are_what_is_split(tmp_path: Path, name: str) -> None:
    recipe = made(name, tmp_path)
    items = pictures(recipe, tmp_path)
    for seed in range(5):
        train, validation, dropped = recipes.source_split(recipe, [i.subject for i in items], 0.3, seed)
        assert not set(train) & set(validation) and not dropped
        assert set(train) | set(validation) == SOURCES[name].people


@pytest.mark.parametrize(
    ("name", "person", "scans"),
    [("oasis1", "OAS1_0003", 2), ("brats2023", "BraTS-GLI-00002", 2), ("bids_visits", "sub-02", 2)],
)
def test_sessions_of_a_person_are_one_group(tmp_path: Path, name: str, person: str, scans: int) -> None:
    items = pictures(made(name, tmp_path), tmp_path)
    assert len({i.scan.split("/")[0] for i in items if i.subject == person}) == scans


@pytest.mark.parametrize("name", SOURCES)
def test_no_other_series_is_read(tmp_path: Path, name: str) -> None:
    recipe = made(name, tmp_path)
    decoys = {p for p in tmp_path.rglob("*") if p.is_file() and p.read_bytes() == DECOY}
    read = set(recipes.input_files(recipe, tmp_path))
    assert read and all(p.is_file() for p in read) and not read & decoys
    assert decoys or name == "brain_tumour_mat"


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_seed_takes_the_same_slices(tmp_path: Path, name: str) -> None:
    recipe = made(name, tmp_path)
    total = SOURCES[name].pictures
    few = pictures(recipe, tmp_path, total // 2 + 1)
    again = pictures(recipe, tmp_path, total // 2 + 1)
    assert [i.scan for i in few] == [i.scan for i in again] and len({i.scan for i in few}) == total // 2 + 1
    assert all(
        np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask) for a, b in zip(few, again, strict=True)
    )
    everything = {i.scan: i for i in pictures(recipe, tmp_path)}
    assert all(np.array_equal(i.image, everything[i.scan].image) and i.label == everything[i.scan].label for i in few)
    others = [[i.scan for i in pictures(recipe, tmp_path, total // 2 + 1, seed)] for seed in range(1, 5)]
    assert any(o != [i.scan for i in few] for o in others)
    refused(lambda: pictures(recipe, tmp_path, total + 1), f"{total + 1} images", f"{total} are there")


# ------------------------------------------------------------------------------------------------ volumes


@pytest.mark.parametrize("axes", ["RAS", "LPS", "ARI", "SLA"])
@pytest.mark.parametrize("name", [n for n in VOLUMES if SOURCES[n].axes])
def test_another_orientation_gives_the_same_slices(tmp_path: Path, name: str, axes: str) -> None:
    recipe = made(name, tmp_path)
    before = pictures(recipe, tmp_path)
    for path in recipes.input_files(recipe, tmp_path):
        if path.name.endswith(".nii.gz"):
            image = nib.Nifti1Image.from_filename(path)
            turn = nib.orientations.ornt_transform(
                nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
            )
            nib.save(image.as_reoriented(turn), path)
    after = pictures(recipe, tmp_path)
    for a, b in zip(before, after, strict=True):
        assert (a.scan, a.label) == (b.scan, b.label)
        assert np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask)


@pytest.mark.parametrize(
    ("name", "seed", "object_value"),
    [("oasis1", 0, 3), ("neurite_oasis", 1, 3), ("neurite_oasis_2d", 1, 3), ("bids_masks", 0, 3)],
)
def test_slices_are_the_scan_s_own_and_label_values_map(
    tmp_path: Path, name: str, seed: int, object_value: int
) -> None:
    t1, labels, brain = fakes.head(fakes_sources.SHAPE, seed)
    if name == "neurite_oasis_2d":  # coronal: from slice to slice along y, top of the head up
        t1, labels, brain = (v.transpose(0, 2, 1) for v in (t1, labels, brain))
    own = {}
    whole = volumes.to_uint8(t1.astype(np.float32), brain)
    planes = [fakes_sources.SHAPE[1] // 2] if name == "neurite_oasis_2d" else range(fakes_sources.SHAPE[2])
    for k in planes:
        seen, mask = (volumes.to_slices(v)[k] for v in (brain, (labels == object_value).astype(np.uint8)))
        if seen.any():
            rows, columns = (np.flatnonzero(seen.any(axis=a)) for a in (1, 0))
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            if name == "neurite_oasis_2d":
                whole = volumes.to_uint8(t1[:, :, k : k + 1].astype(np.float32), brain[:, :, k : k + 1])
                own[k] = (volumes.to_slices(whole)[0][box], mask[box])
            else:
                own[k] = (volumes.to_slices(whole)[k][box], mask[box])
    recipe = made(name, tmp_path)
    items = [i for i in pictures(recipe, tmp_path) if i.subject == min(SOURCES[name].people)]
    found = []
    for item in items:
        rows, columns = (np.flatnonzero((item.image > 0).any(axis=a)) for a in (1, 0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        found += [
            k for k, (image, mask) in own.items()
            if image.shape == item.image[box].shape and np.array_equal(item.mask[box], mask)
            and np.abs(image.astype(int) - item.image[box]).max() <= 1
        ]  # fmt: skip
    assert len(found) == len(items) and found == sorted(found, reverse=True)  # top first


@pytest.mark.parametrize("name", ["brats2021", "brats2023"])
def test_the_class_is_whether_the_slice_shows_any_part_of_the_tumour(tmp_path: Path, name: str) -> None:
    recipe = made(name, tmp_path)
    items = pictures(recipe, tmp_path)
    for item in items:
        assert item.label == ("tumour on the slice" if item.mask.any() else "no tumour on the slice")
    parts = {1, 2, 4 if name == "brats2021" else 3}
    assert {k for k, v in recipe.labels.items() if v == 1} == parts
    for path in tmp_path.rglob("*seg.nii.gz"):  # a label that belongs to the other year
        image = nib.Nifti1Image.from_filename(path)
        labels = np.asarray(image.dataobj)
        nib.save(nib.Nifti1Image(np.where(labels == 1, 7 - max(parts), labels).astype(np.uint8), image.affine), path)
    refused(lambda: pictures(recipe, tmp_path), "unexpected values", str(7 - max(parts)))


def test_somebody_scanned_twice_gives_no_more_pictures_than_others(tmp_path: Path) -> None:
    recipe = made("malf_source", tmp_path)
    found = slices.slice_files(recipe, tmp_path)
    assert [(f.person, f.scan) for f in found] == [("OAS1_0061", "1000"), ("OAS1_0083", "1128"), ("OAS1_0101", "1003")]
    assert recipe.slices is not None
    both = recipe.model_copy(update={"slices": recipe.slices.model_copy(update={"one_scan": False})})
    assert [f.scan for f in slices.slice_files(both, tmp_path) if f.person == "OAS1_0101"] == ["1003", "1023"]
    assert tmp_path / "malf" / "participants.tsv" in recipes.input_files(recipe, tmp_path)


def test_a_scan_without_a_row_in_the_table_of_people_is_refused(tmp_path: Path) -> None:
    recipe = made("malf_source", tmp_path)
    table = tmp_path / "malf" / "participants.tsv"
    table.write_text(table.read_text(encoding="utf-8").replace("1023\t", "9999\t"), encoding="utf-8")
    refused(lambda: slices.slice_files(recipe, tmp_path), "participants.tsv", "no row for 1023", "add the rows, or")


def test_slices_closer_than_a_pixel_is_wide_are_cut_that_fine_and_made_smaller(tmp_path: Path) -> None:
    recipe = made("neurite_oasis", tmp_path)
    files = slices.slice_files(recipe, tmp_path)[0]
    closer = recipe.model_copy(update={"slices": Slices(between_mm=3.5)})
    fine, small = slices.read_slices(recipe, files, 2 * SIZE), slices.read_slices(closer, files, SIZE)
    assert len(fine) == len(small) == 8
    for a, b in zip(fine, small, strict=True):
        assert np.array_equal(
            np.asarray(Image.fromarray(a.image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)), b.image
        )
        assert set(np.unique(b.mask)) <= {0, 1} and b.mask.sum() == pytest.approx(a.mask.sum() / 4, rel=0.1)
    same = recipe.model_copy(update={"slices": Slices(between_mm=224 / SIZE)})
    plain = slices.read_slices(recipe, files, SIZE)
    assert all(
        np.array_equal(a.image, b.image) for a, b in zip(plain, slices.read_slices(same, files, SIZE), strict=True)
    )
    assert any(not np.array_equal(a.image, b.image) for a, b in zip(plain, small, strict=True))


def test_slices_lie_where_the_rule_says(tmp_path: Path) -> None:
    recipe = made("neurite_oasis", tmp_path)
    brain = np.zeros((4, 4, 60), bool)
    brain[:, :, 10:50] = True
    at = slices.chosen_slices(recipe, brain, 2.5, Path("x"))
    below = [(49 - k) * 2.5 for k in at]
    assert len(set(at)) == 8 and min(below) >= 30 and max(below) <= 97.5
    assert max(np.diff(below)) - min(np.diff(below)) <= 2.5


def test_empty_slices_are_not_taken(tmp_path: Path) -> None:
    recipe = made("neurite_oasis", tmp_path)
    brain = np.zeros((10, 10, 60), bool)
    brain[:, :, 10:50] = True
    brain[:, :, 20:33] = False
    brain[0, 0, 25] = True  # a speck
    assert not {*slices.chosen_slices(recipe, brain, 2.5, Path("x"))} & {*range(20, 33)}
    brain[:, :, 12:34] = False
    refused(lambda: slices.chosen_slices(recipe, brain, 2.5, Path("x.nii")), "x.nii", "8 are wanted", "per_scan")


def test_one_volume_is_in_memory_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = made("brats2023", tmp_path)
    alive: list[weakref.ref] = []
    most = 0
    real = volumes.read_scan

    def watched(*arguments: Any) -> volumes.Scan:
        nonlocal most
        scan = real(*arguments)
        gc.collect()
        alive.append(weakref.ref(scan.data))
        most = max(most, sum(r() is not None for r in alive))
        return scan

    monkeypatch.setattr(SCANS, "read_scan", watched)
    source = recipes.images(recipe, tmp_path, 0, SIZE, 0)
    next(source)
    assert len(alive) == 1  # a generator: nothing is read before it is asked for
    kept = list(source)
    assert len(alive) == 4 and most == 1
    assert all(i.image.base is None and i.mask.base is None for i in kept)  # no view keeps a volume


def test_each_volume_is_read_once_and_only_if_a_slice_of_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = made("brats2023", tmp_path)
    read: list[Path] = []
    real = volumes.read_scan

    def watched(path: Path, *how: Any) -> volumes.Scan:
        read.append(path)
        return real(path, *how)

    monkeypatch.setattr(SCANS, "read_scan", watched)
    drawn = pictures(recipe, tmp_path, 3)
    assert drawn and len(read) == len(set(read)) == len({i.scan.split("/")[0] for i in drawn})


def test_people_without_a_class_are_left_out_and_without_a_row_refused(tmp_path: Path) -> None:
    recipe = made("oasis1", tmp_path)
    table = tmp_path / "oasis1" / "oasis_cross-sectional.csv"
    text = table.read_text(encoding="utf-8")
    assert "OAS1_0044" in text and "OAS1_0044" not in {i.subject for i in pictures(recipe, tmp_path)}
    table.write_text("\n".join(line for line in text.splitlines() if "OAS1_0042" not in line), encoding="utf-8")
    refused(lambda: pictures(recipe, tmp_path), "oasis_cross-sectional.csv", "no row for OAS1_0042_MR1")
    table.write_text(text.replace("CDR", "Rating"), encoding="utf-8")
    refused(lambda: pictures(recipe, tmp_path), "column CDR is missing")


def test_ages_make_groups_with_borders_that_belong_upwards() -> None:
    of = ClassOf(table="t.csv", row="id", column="AGE", groups={"young": (0, 40), "old": (40, 130)})
    rows = {"2": "40", "003": "39.9", "4": "n/a", "5": "unknown", "6": "131"}
    rows |= {"7": "90+", "8": "> 89", "9": "inf", "10": "nan"}
    labels = [
        slices._label(of, {"subject": s}, rows, {}) for s in ("002", "003", "004", "005", "006", "7", "8", "9", "10")
    ]
    assert labels == ["old", "young", "", "", "", "old", "old", "", ""]


@pytest.mark.parametrize("key", ["channel", "threshold", "same_voxels", "more_masks"])
def test_slices_obey_every_key_that_whole_scans_do(tmp_path: Path, key: str) -> None:
    recipe = made("bids_masks", tmp_path)
    before = pictures(recipe, tmp_path)
    masks = sorted(tmp_path.rglob("*_label-lesion_mask.nii.gz"))
    values: dict[str, Any] = {"channel": 1, "threshold": 0.5, "same_voxels": True, "more_masks": None}
    for path in sorted(tmp_path.rglob("*[0-9]_T1w.nii.gz")) if key == "channel" else masks:
        image = nib.Nifti1Image.from_filename(path, mmap=False)
        data, affine = np.asarray(image.dataobj), image.affine
        if key == "channel":
            fakes.save(path, np.stack([data[::-1] + 7, data], axis=-1), affine)
        elif key == "threshold":
            fakes.save(path, np.where(data, 0.7, 0.3).astype(np.float32), affine)
        elif key == "same_voxels":
            fakes.save(path, data, affine @ np.diag([-1.0, 1, 1, 1]))
        else:  # one half of each in a file of its own
            front = np.arange(data.shape[1])[None, :, None] > data.shape[1] / 2
            fakes.save(path, data * front, affine)
            fakes.save(path.with_name(path.name.replace("_mask", "_mask2")), data * ~front, affine)
    if key == "more_masks":
        with_key = recipe.model_copy(
            update={
                "patterns": recipe.patterns.model_copy(
                    update={"more_masks": recipe.patterns.mask.replace("_mask.", "_mask*.")}
                )
            }
        )
        assert sum("_mask2" in p.name for p in recipes.input_files(with_key, tmp_path)) == 3
        assert any(i.mask.sum() < b.mask.sum() for i, b in zip(pictures(recipe, tmp_path), before, strict=True))
    else:
        with_key = recipe.model_copy(update={"volume": recipe.volume.model_copy(update={key: values[key]})})
        said = {"channel": "volume.channel", "threshold": "volume.threshold", "same_voxels": "different affines"}[key]
        refused(lambda: pictures(recipe, tmp_path), said)
    after = pictures(with_key, tmp_path)
    for a, b in zip(before, after, strict=True):
        assert a.scan == b.scan and np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask)
    assert recipes.check(with_key, tmp_path) == []


def test_a_head_is_no_brain_in_slices_either(tmp_path: Path) -> None:
    recipe = made("neurite_oasis", tmp_path)
    for path in tmp_path.rglob("aligned_*.nii.gz"):
        if path.read_bytes() != DECOY:
            image = nib.Nifti1Image.from_filename(path, mmap=False)
            wide = image.affine @ np.diag([1.3, 1.3, 1.3, 1.0])
            fakes.save(path, np.asarray(image.dataobj), wide)
    refused(lambda: pictures(recipe, tmp_path), "aligned_norm.nii.gz", "mL, more than any has", "strip the skull")


def test_every_missing_mask_is_named_at_once(tmp_path: Path) -> None:
    recipe = made("brats2021", tmp_path)
    for number in (0, 2):
        (tmp_path / "brats2021" / f"BraTS2021_{number:05d}" / f"BraTS2021_{number:05d}_seg.nii.gz").unlink()
    refused(lambda: pictures(recipe, tmp_path), "00000_seg", "00002_seg", "2 of the files", "missing beside its scan")


def test_check_names_every_bad_scan(tmp_path: Path) -> None:
    recipe = made("neurite_oasis", tmp_path)
    folder = tmp_path / "neurite_oasis"
    torn = folder / "OASIS_OAS1_0001_MR1" / "aligned_norm.nii.gz"
    torn.write_bytes(torn.read_bytes()[:300])
    empty = folder / "OASIS_OAS1_0002_MR1" / "aligned_seg4.nii.gz"
    image = nib.Nifti1Image.from_filename(empty)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), empty)
    sentences = recipes.check(recipe, tmp_path)
    assert len(sentences) == 2
    assert any("0001_MR1" in s and "torn" in s for s in sentences)
    assert any("0002_MR1" in s and "mask is empty" in s for s in sentences)


def test_check_finds_scans_that_are_doubled_or_off_their_masks(tmp_path: Path) -> None:
    recipe = made("neurite_oasis", tmp_path)
    folder = tmp_path / "neurite_oasis"
    first, second, third = (folder / f"OASIS_OAS1_{k:04d}_MR1" for k in (1, 2, 5))
    for name in ("aligned_norm.nii.gz", "aligned_seg4.nii.gz"):
        (second / name).write_bytes((first / name).read_bytes())
    image = nib.Nifti1Image.from_filename(third / "aligned_seg4.nii.gz")
    nib.save(
        nib.Nifti1Image(np.roll(np.asarray(image.dataobj), 8, axis=0), image.affine), third / "aligned_seg4.nii.gz"
    )
    sentences = recipes.check(recipe, tmp_path)
    assert len(sentences) == 2, sentences
    assert sum("OAS1_0001_1 and OAS1_0002_1 are the same picture" in s for s in sentences) == 1
    assert sum("0005_MR1" in s and "lie outside the brain; misaligned?" in s for s in sentences) == 1


def test_a_scan_that_fits_twice_is_refused(tmp_path: Path) -> None:
    recipe = made("oasis1", tmp_path)
    first = next((tmp_path / "oasis1").glob("disc1/OAS1_0001_MR1"))
    second = tmp_path / "oasis1" / "disc2" / "OAS1_0001_MR1"
    for path in first.rglob("*"):
        if path.is_file():
            fakes_sources.decoy(second / path.relative_to(first))
    refused(lambda: pictures(recipe, tmp_path), "OAS1_0001_1 is there already", "keep one")


@pytest.mark.parametrize(
    ("of", "words"),
    [("{}", "give one of"), ("{field: site, mask: [a, b]}", "give one of"), ("{table: t.csv}", "`row`")],
)
def test_a_class_from_nowhere_or_two_places_is_refused(tmp_path: Path, of: str, words: str) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\nkind: slices\nlicence: mine\naccess: {how: own}\n"
        f'patterns: {{image: ["{{subject}}.nii"]}}\nslices: {{class_of: {of}}}\n', encoding="utf-8"
    )  # fmt: skip
    refused(lambda: recipes.load_recipe("mine", tmp_path), "slices.class_of", words)


def test_the_head_holds_the_brain_and_no_air(tmp_path: Path) -> None:
    t1, brain = fakes_sources.head_on(3)
    head = slices.head_of(t1.astype(np.float32))
    assert head[brain].all() and not head[[0, -1]][:, [0, -1]].any() and 0.3 < head.mean() < 0.7


def test_real_scans_give_slices_full_of_brain_and_tissue(data_root: Path) -> None:
    if not (data_root / "malf").is_dir():
        pytest.skip("needs malf")
    plain = recipes.load_recipe("malf", data_root)
    files = [
        slices.SliceFiles(f.subject, f.scan, None, f.image, f.mask, f.brain) for f in scan_files(plain, data_root)[:3]
    ]
    recipe = plain.model_copy(update={"kind": "slices", "slices": Slices(), "labels": {1: 0, 2: 0, 3: 1}})
    for scan in files:
        items = slices.read_slices(recipe, scan, 160)
        assert len(items) == 8
        fullest = max((i.image > 0).mean() for i in items)
        for item in items:
            # 224 mm wide; the lowest slices hold cerebellum and temporal poles only
            assert fullest / 5 < (item.image > 0).mean() < 0.5
            white = item.image[item.mask > 0]
            assert 0.05 < len(white) / (item.image > 0).sum() < 0.65
            assert white.mean() > 1.15 * item.image[(item.image > 0) & (item.mask == 0)].mean()


# ------------------------------------------------------------------------------------------------ MATLAB files


def test_a_transposed_matlab_slice_is_found_turned_and_counted(tmp_path: Path) -> None:
    recipe = made("brain_tumour_mat", tmp_path)
    path = tmp_path / "brain_tumour_mat" / "5.mat"
    mask = fakes_sources.matlab_slice(path, "MR017260F", 2, 5)
    right = matlab.read_matlab_slice(recipe, path)
    assert np.array_equal(right.mask, mask) and not right.turned
    fakes_sources.matlab_slice(path, "MR017260F", 2, 5, transposed=True)
    turned = matlab.read_matlab_slice(recipe, path)
    assert turned.turned and np.array_equal(turned.mask, mask) and np.array_equal(turned.image, right.image)
    (sentence,) = recipes.check(recipe, tmp_path)
    assert "1 slices (5 first)" in sentence and "transposed" in sentence and "turned when read" in sentence


def test_the_fake_of_the_tumour_files_is_as_their_owners_lay_them_out(tmp_path: Path) -> None:
    """MATLAB v7.3 as public readers of the set describe it: HDF5 after 512 bytes, columns first, text as numbers of characters."""
    path = tmp_path / "1.mat"
    mask = fakes_sources.matlab_slice(path, "MR017260F", 2, 1)
    with h5py.File(path, "r") as file:
        assert file.userblock_size == 512 and set(file) == {"cjdata"}
        data = file["cjdata"]
        points = data["tumorBorder"].shape[1]
        assert {name: (field.shape, field.dtype.str) for name, field in data.items()} == {
            "PID": ((9, 1), "<u2"), "image": ((64, 64), "<i2"), "label": ((1, 1), "<f8"),
            "tumorBorder": ((1, points), "<f8"), "tumorMask": ((64, 64), "|u1"),
        }  # fmt: skip
        assert np.array_equal(data["tumorMask"][()].T > 0, mask) and not np.array_equal(data["tumorMask"][()] > 0, mask)
        x, y = data["tumorBorder"][0].reshape(-1, 2).T
    rows, columns = np.nonzero(mask)
    assert (x.min(), x.max()) == (columns.min() + 0.5, columns.max() + 1.5)  # x is the column, counted from 1
    assert (y.min(), y.max()) == (rows.min() + 0.5, rows.max() + 1.5)


def test_a_border_that_fits_neither_way_is_refused(tmp_path: Path) -> None:
    recipe = made("brain_tumour_mat", tmp_path)
    path = tmp_path / "brain_tumour_mat" / "3.mat"
    fakes_sources.matlab_slice(path, "MR017260F", 2, 3, shift=15)
    refused(lambda: pictures(recipe, tmp_path), "3.mat", "whichever way")


def test_matlab_slices_carry_person_label_and_mask_in_place(tmp_path: Path) -> None:
    recipe = made("brain_tumour_mat", tmp_path)
    items = pictures(recipe, tmp_path)
    assert [i.scan for i in items] == [str(k) for k in range(1, 10)]  # by number, and no file of folds
    assert {i.subject for i in items if i.label == "glioma"} == {"MR017260F"}
    for item in items:
        assert item.image[item.mask > 0].mean() > 1.5 * item.image[(item.mask == 0) & (item.image > 0)].mean()
        rows, columns = np.nonzero(item.mask)
        assert rows.mean() < SIZE / 2 < columns.mean()  # up and on the right, as drawn


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("label", np.array([[4.0]]), "class [4.0]"),
        ("PID", np.array([0, 0], np.uint64), "names no person"),
        ("tumorMask", np.full((64, 64), 2, np.uint8), "mask holds [2]"),
        ("tumorMask", np.zeros((64, 64), np.uint8), "mask is empty"),
        ("tumorMask", np.zeros((32, 64), np.uint8), "no pair"),
        ("tumorBorder", np.ones((1, 5)), "no list of points"),
        ("image", None, "image"),
    ],
)
def test_a_bad_matlab_file_says_what_is_wrong(tmp_path: Path, field: str, value: np.ndarray | None, words: str) -> None:
    recipe = made("brain_tumour_mat", tmp_path)
    with h5py.File(tmp_path / "brain_tumour_mat" / "2.mat", "r+") as file:
        del file["cjdata"][field]
        if value is not None:
            file["cjdata"][field] = value
    refused(lambda: pictures(recipe, tmp_path), "2.mat", words)
    assert sum("2.mat" in s for s in recipes.check(recipe, tmp_path)) == 1


def test_an_old_matlab_file_and_a_missing_reader_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = made("brain_tumour_mat", tmp_path)
    (tmp_path / "brain_tumour_mat" / "1.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(2000))
    refused(lambda: pictures(recipe, tmp_path), "1.mat", "v7.3")
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(lambda: pictures(recipe, tmp_path), "h5py", "pip install h5py")


def test_a_doubled_matlab_slice_is_reported(tmp_path: Path) -> None:
    recipe = made("brain_tumour_mat", tmp_path)
    folder = tmp_path / "brain_tumour_mat"
    (folder / "7.mat").write_bytes((folder / "6.mat").read_bytes())
    (sentence,) = recipes.check(recipe, tmp_path)
    assert "slices 6 and 7 are the same picture" in sentence


def test_a_person_of_two_tumour_types_is_reported(tmp_path: Path) -> None:
    recipe = made("brain_tumour_mat", tmp_path)
    fakes_sources.matlab_slice(tmp_path / "brain_tumour_mat" / "6.mat", "MR017260F", 3, 6)
    assert any("MR017260F has slices of glioma and pituitary" in s for s in recipes.check(recipe, tmp_path))
