"""Promises of targets on disk: every layout loads as it is, nothing is mirrored or mixed, and bad files are named all at once."""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

import fakes
import fakes_targets
import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation
from refusals import refused, said

from braintransfer import metrics, recipes, study, volumes
from braintransfer.errors import BadInput
from braintransfer.recipes.files import scan_files
from braintransfer.recipes.schema import Recipe, Slices, every_recipe
from braintransfer.settings import TargetData

NAMES = sorted(fakes_targets.LAYOUTS)
#: How a volume may be turned on disk: the same for a scan and its masks, whatever their headers say.
TURNS = {
    "as it is": [(0, 1), (1, 1), (2, 1)],
    "upside down": [(2, -1), (0, 1), (1, -1)],
    "sideways": [(1, -1), (2, 1), (0, 1)],
}
TINY = """
name: mine
title: Mine
kind: volumes
licence: mine
access: {how: own}
patterns: {image: ["{subject}_T1.nii.gz"], mask: "{subject}_mask.nii.gz"}
cells: [stroke]
"""


def recipe_of(name: str, root: Path) -> Recipe:
    """The recipe called `name`; of a template the copy that its user makes."""
    bundled = {r.name: r for r in every_recipe()}[name]
    if not bundled.template:
        return recipes.load_recipe(name, root)
    (root / "recipes").mkdir(exist_ok=True)
    text = (
        bundled.file.read_text(encoding="utf-8").replace(f"name: {name}", "name: my_set").replace("template: true", "")
    )
    (root / "recipes" / "my_set.yaml").write_text(text, encoding="utf-8")
    return recipes.load_recipe("my_set", root)


def mine(root: Path, extra: str = "") -> Recipe:
    (root / "recipes").mkdir(exist_ok=True)
    (root / "recipes" / "mine.yaml").write_text(TINY + extra, encoding="utf-8")
    return recipes.load_recipe("mine", root)


def phantom(root: Path, subject: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One person's T1 and lesion mask for `mine`; the T1 and the mask as stored."""
    t1, _, brain = fakes.head(fakes_targets.SHAPE, seed)
    mask = (fakes_targets.lesion(seed) & brain).astype(np.uint8)
    fakes.save(root / "mine" / f"{subject}_T1.nii.gz", t1, np.eye(4))
    fakes.save(root / "mine" / f"{subject}_mask.nii.gz", mask, np.eye(4))
    return t1, mask


# ------------------------------------------------------------------------------------------------ every recipe


def test_every_target_on_disk_has_a_fake() -> None:
    cells = {*study.TARGETS, "showcase"}
    targets = {r.name for r in every_recipe() if r.kind == "volumes" and cells & set(r.cells)}
    assert targets == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_people_labels_and_nothing_else(tmp_path: Path, name: str) -> None:
    expected = fakes_targets.LAYOUTS[name](tmp_path)
    recipe = recipe_of(name, tmp_path)
    found = {item.scan: item for item in recipes.scans(recipe, tmp_path, 0, 0)}
    assert {scan: item.subject for scan, item in found.items()} == {
        scan: person for scan, (person, _) in expected.items()
    }
    for scan, item in found.items():
        assert np.array_equal(item.mask, expected[scan][1]), scan
        assert item.image.data.max() < fakes_targets.OTHER  # no other contrast, no other copy
        assert item.brain.any() and item.brain.mean() < 0.6  # the skull is off
        assert not (item.mask[~item.brain]).any()
    assert recipes.missing(recipe, tmp_path) == "" and recipes.check(recipe, tmp_path) == []
    read = recipes.input_files(recipe, tmp_path)
    for files in scan_files(recipe, tmp_path):
        assert {p for p in (files.image, files.mask, *files.more_masks) if p is not None} <= set(read)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_equal_to_the_reference_scores_1(tmp_path: Path, name: str, turn: str) -> None:
    expected = fakes_targets.LAYOUTS[name](tmp_path)
    orientation = np.array(TURNS[turn])
    for path in tmp_path.rglob("*.nii*"):
        if not path.name.startswith("._"):
            image = nib.Nifti1Image.from_filename(path, mmap=False)
            turned = image.as_reoriented(orientation)
            nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), path)
    recipe = recipe_of(name, tmp_path)
    target = next(cell if cell in study.TARGETS else "ms" for cell in recipe.cells)
    classes = study.CLASSES[target]
    for item in recipes.scans(recipe, tmp_path, 0, 0):
        assert np.array_equal(item.mask, apply_orientation(expected[item.scan][1], orientation))
        spacing = item.image.spacing
        grid = volumes.working_grid(item.image, item.brain, float(spacing.min()), (96, 96))
        working = volumes.from_slices(
            volumes.to_slices(volumes.labels_to_grid(item.mask, item.image.affine, grid, len(classes)))
        )
        sure = np.stack([working == k for k in range(len(classes) + 1)]).astype(np.float32)
        back = volumes.from_grid(sure, grid, item.mask.shape, item.image.affine).argmax(axis=0).astype(np.uint8)
        alike = np.allclose(spacing, spacing.min())
        for prediction, exact in ((item.mask, True), (back, alike)):
            rows = metrics.score_volume(
                prediction, item.mask, tuple(map(float, spacing)), classes, detect=target in study.DETECTED
            )
            overlaps = [
                r["value"] for r in rows if r["metric"] in ("dice", "iou", "miou", "lesion_sensitivity", "lesion_f1")
            ]
            assert overlaps and (min(overlaps) == 1 if exact else min(overlaps) > 0.75), (item.scan, overlaps)


def test_several_visits_of_a_person_never_cross_the_split(tmp_path: Path) -> None:
    fakes_targets.mslesseg(tmp_path)
    recipe = recipes.load_recipe("mslesseg", tmp_path)
    one = list(recipes.scans(recipe, tmp_path, 1, 0))
    assert len({s.subject for s in one}) == 1 and len(one) == {"P1": 2, "P2": 1}[one[0].subject]


def test_sites_come_from_folders(tmp_path: Path) -> None:
    fakes_targets.atlas_r2(tmp_path)
    items = list(recipes.scans(recipes.load_recipe("atlas_r2", tmp_path), tmp_path, 0, 0))
    assert sorted(item.site for item in items) == ["R001", "R001", "R002"]


# ------------------------------------------------------------------------------------------------ how files are stored


def test_big_endian_pairs_without_orientation_keep_their_sides(tmp_path: Path) -> None:
    t1, mask = phantom(tmp_path, "p1")
    for array, kind in ((t1, "T1"), (mask.astype(np.int16), "mask")):
        header = nib.AnalyzeHeader(endianness=">")
        nib.save(
            nib.AnalyzeImage(array[::-1], np.diag([2.0, 1.5, 1.0, 1.0]), header), tmp_path / "mine" / f"p1_{kind}.img"
        )
    raw = (tmp_path / "mine" / "p1_T1.hdr").read_bytes()
    assert raw[:4] == (348).to_bytes(4, "big")
    recipe = mine(tmp_path, "volume: {stored_axes: LAS}\n")
    recipe = recipe.model_copy(
        update={
            "patterns": recipe.patterns.model_copy(
                update={"image": ("{subject}_T1.img",), "mask": "{subject}_mask.img"}
            )
        }
    )
    (item,) = recipes.scans(recipe, tmp_path, 0, 0)
    assert nib.orientations.aff2axcodes(item.image.affine) == ("L", "A", "S")
    assert item.image.spacing.tolist() == [2.0, 1.5, 1.0]
    grid = volumes.working_grid(item.image, item.brain, 1.0, (64, 64))
    bright = volumes.to_grid(item.image.data, item.image.affine, grid)
    assert np.argwhere(bright > 120)[:, 0].mean() > grid.shape[0] / 2 + 3  # the phantom's blob lies on its right
    right = volumes.affine_of_axes("RAS", item.mask.shape, item.image.spacing)
    assert not np.allclose(right, item.image.affine)


@pytest.mark.parametrize("ending", [".img", ".img.gz"])
def test_both_files_of_a_pair_are_inputs(tmp_path: Path, ending: str) -> None:
    t1, mask = phantom(tmp_path, "p1")
    for array, kind in ((t1, "T1"), (mask, "mask")):
        (tmp_path / "mine" / f"p1_{kind}.nii.gz").unlink()
        nib.save(nib.Nifti1Pair(array, np.eye(4)), tmp_path / "mine" / f"p1_{kind}{ending}")
    recipe = mine(tmp_path)
    patterns = {"image": (f"{{subject}}_T1{ending}",), "mask": f"{{subject}}_mask{ending}"}
    of_scans = recipe.model_copy(update={"patterns": recipe.patterns.model_copy(update=patterns)})
    of_slices = of_scans.model_copy(update={"kind": "slices", "slices": Slices()})
    of_masks = recipe.model_copy(
        update={"kind": "masks", "patterns": recipe.patterns.model_copy(update={"mask": patterns["mask"]})}
    )
    everything = {p.name for p in (tmp_path / "mine").iterdir()}
    assert len(everything) == 4 and sum(".hdr" in name for name in everything) == 2
    for one, expected in (
        (of_scans, everything),
        (of_slices, everything),
        (of_masks, {n for n in everything if "mask" in n}),
    ):
        read = recipes.input_files(one, tmp_path)
        assert {p.name for p in read} == expected and all(p.is_file() for p in read)


def test_gzipped_big_endian_nifti_reads_the_same(tmp_path: Path) -> None:
    t1, mask = phantom(tmp_path, "p1")
    before = next(iter(recipes.scans(mine(tmp_path), tmp_path, 0, 0)))
    for array, kind in ((t1, "T1"), (mask.astype(np.float32), "mask")):
        header = nib.Nifti1Header(endianness=">")
        header.set_data_dtype(array.dtype.newbyteorder(">"))
        nib.save(nib.Nifti1Image(array, np.eye(4), header), tmp_path / "mine" / f"p1_{kind}.nii.gz")
        assert gzip.decompress((tmp_path / "mine" / f"p1_{kind}.nii.gz").read_bytes())[:4] == (348).to_bytes(4, "big")
    (item,) = recipes.scans(mine(tmp_path), tmp_path, 0, 0)
    assert np.array_equal(item.image.data, before.image.data) and np.array_equal(item.mask, before.mask)


def test_of_several_volumes_only_the_named_one_is_read(tmp_path: Path) -> None:
    t1, _ = phantom(tmp_path, "p1")
    path = tmp_path / "mine" / "p1_T1.nii.gz"
    fakes.save(path, np.stack([t1 + 1000, t1, t1 + 2000], axis=-1), np.eye(4))
    with pytest.raises(BadInput) as error:
        list(recipes.scans(mine(tmp_path), tmp_path, 0, 0))
    said(error, "p1_T1", "4-D", "channel")
    (item,) = recipes.scans(mine(tmp_path, "volume: {channel: 1}\n"), tmp_path, 0, 0)
    assert np.array_equal(item.image.data, t1)
    with pytest.raises(BadInput) as error:
        list(recipes.scans(mine(tmp_path, "volume: {channel: 3}\n"), tmp_path, 0, 0))
    said(error, "p1_T1", "0 to 2, not 3")


@pytest.mark.parametrize("broken", ["probabilities", "nan"])
def test_float_masks_are_labels_unless_a_threshold_is_given(tmp_path: Path, broken: str) -> None:
    _, mask = phantom(tmp_path, "p1")
    path = tmp_path / "mine" / "p1_mask.nii.gz"
    fakes.save(path, mask * np.float32(1 - 1e-5), np.eye(4))
    (item,) = recipes.scans(mine(tmp_path), tmp_path, 0, 0)
    assert np.array_equal(item.mask, mask)
    fakes.save(path, np.where(mask, 0.7, 0.3 if broken == "probabilities" else np.nan).astype(np.float32), np.eye(4))
    with pytest.raises(BadInput) as error:
        list(recipes.scans(mine(tmp_path), tmp_path, 0, 0))
    said(error, "p1_mask", "threshold" if broken == "probabilities" else "NaN")
    recipe = mine(tmp_path, "volume: {threshold: 0.5}\n")
    if broken == "probabilities":
        (item,) = recipes.scans(recipe, tmp_path, 0, 0)
        assert np.array_equal(item.mask, mask)
    else:
        with pytest.raises(BadInput):
            list(recipes.scans(recipe, tmp_path, 0, 0))


def test_a_wrong_header_is_refused_unless_the_recipe_says_so(tmp_path: Path) -> None:
    _, mask = phantom(tmp_path, "p1")
    fakes.save(tmp_path / "mine" / "p1_mask.nii.gz", mask, np.diag([-1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(BadInput) as error:
        list(recipes.scans(mine(tmp_path), tmp_path, 0, 0))
    said(error, "p1_mask", "different affines")
    (item,) = recipes.scans(mine(tmp_path, "volume: {same_voxels: true}\n"), tmp_path, 0, 0)
    assert np.array_equal(item.mask, mask)


# ------------------------------------------------------------------------------------------------ what is missing or bad


def test_missing_masks_are_all_named_at_once_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes_targets.atlas_r2(tmp_path)
    folder = tmp_path / "ATLAS_2"
    for path in [*folder.rglob("*sub-r001*lesion_mask.nii.gz"), folder / "brain_masks" / "sub-r002s001.nii.gz"]:
        path.unlink()
    monkeypatch.setattr(volumes, "_load", None)
    with pytest.raises(BadInput) as error:
        list(recipes.scans(recipes.load_recipe("atlas_r2", tmp_path), tmp_path, 0, 0))
    said(
        error,
        "3 file(s)",
        "sub-r001s001_ses-1",
        "sub-r001s002_ses-1",
        "brain_masks/sub-r002s001.nii.gz",
        "mri_synthstrip",
    )


def test_bad_files_are_named_all_at_once_or_left_out_when_asked(tmp_path: Path) -> None:
    for seed in range(4):
        phantom(tmp_path, f"p{seed}", seed)
    folder = tmp_path / "mine"
    (folder / "p1_T1.nii.gz").write_bytes(b"not a scan")
    fakes.save(folder / "p3_mask.nii.gz", np.full(fakes_targets.SHAPE, 7, np.uint8), np.eye(4))
    read = []
    with pytest.raises(BadInput) as error:
        for item in recipes.scans(mine(tmp_path), tmp_path, 0, 0):
            read.append(item.subject)
    said(error, "2 of 4", "p1_T1.nii.gz", "p3_mask.nii.gz")
    assert read == ["p0"]  # what follows a bad file is looked at, not given out
    (folder / "p2_mask.nii.gz").unlink()
    left_out: list[str] = []
    good = [s.subject for s in recipes.scans(mine(tmp_path), tmp_path, 0, 0, left_out=left_out.append)]
    assert good == ["p0"] and len(left_out) == 3
    for sentence, name in zip(left_out, ("p1_T1", "p2_mask", "p3_mask"), strict=True):
        assert name in sentence
    (folder / "p0_T1.nii.gz").write_bytes(b"")
    with pytest.raises(BadInput) as error:
        list(recipes.scans(mine(tmp_path), tmp_path, 0, 0, left_out=left_out.append))
    said(error, "every scan is bad")


# ------------------------------------------------------------------------------------------------ the same people twice


def used(root: Path, **cells: str) -> dict[str, Recipe]:
    return {cell: recipes.load_recipe(name, root) for cell, name in cells.items()}


def test_sets_that_share_people_are_refused_in_different_cells(tmp_path: Path) -> None:
    fakes_targets.shifts_ms(tmp_path)
    refuse = functools.partial(recipes.refuse_overlaps, data_root=tmp_path)
    for order in (("shifts_ms", "msseg2016"), ("msseg2016", "shifts_ms")):
        with pytest.raises(BadInput) as error:
            refuse(used(tmp_path, ms=order[0], showcase=order[1]))
        said(error, "shifts_ms", "msseg2016", "same people", "use one set for both")
    with pytest.raises(BadInput) as error:  # through the library of masks that a semi-synthetic target draws from
        refuse(used(tmp_path, ms="semisynthetic_ms", showcase="shifts_ms"))
    said(error, "open_ms_data", "ljubljana")
    refuse(used(tmp_path, stroke="arc", ms="shifts_ms", anatomy="malf"))
    refuse(used(tmp_path, ms="semisynthetic_ms", showcase="open_ms_patients"))  # the library leaves these three out


def test_an_overlap_by_site_counts_only_where_that_site_is_there(tmp_path: Path) -> None:
    fakes_targets.mindboggle101(tmp_path)
    refuse = functools.partial(recipes.refuse_overlaps, data_root=tmp_path)
    with pytest.raises(BadInput) as error:
        refuse(used(tmp_path, anatomy="mindboggle101", other="malf"))
    said(error, "OASIS-TRT-20")
    (tmp_path / "mindboggle101" / "OASIS-TRT-20_volumes").rename(tmp_path / "elsewhere")
    refuse(used(tmp_path, anatomy="mindboggle101", other="malf"))


def test_nobody_of_a_source_is_in_the_target_that_it_is_fine_tuned_on(tmp_path: Path) -> None:
    fakes.malf(tmp_path)
    fakes.bids(tmp_path)
    fakes.lesion_masks(tmp_path)
    fakes.open_ms_data(tmp_path)
    names = {
        "tissue": "malf_source", "lesions": "semisynthetic_stroke_source", "natural": "composited_imagenette",
        "stroke": "semisynthetic_stroke", "ms": "semisynthetic_ms", "anatomy": "malf", "simulated": "simulated_stroke",
    }  # fmt: skip
    cells = used(tmp_path, **names)

    def refuse(*pairs: tuple[str, str]) -> None:
        recipes.refuse_shared_people(pairs, cells, tmp_path)

    refuse(("tissue", "stroke"), ("tissue", "ms"), ("lesions", "anatomy"), ("tissue", "simulated"))
    with pytest.raises(BadInput) as error:
        refuse(("tissue", "stroke"), ("tissue", "anatomy"))
    said(error, "tissue (malf_source) and anatomy (malf)", "malf: OAS1_0061, OAS1_0083 and 1 more", "`targets`")
    for target in ("stroke", "ms"):  # other masks, but the same backgrounds
        with pytest.raises(BadInput) as error:
            refuse(("lesions", target))
        said(
            error, f"and {target} (semisynthetic_{target}) hold the same people", "ds002748: sub-01, sub-02 and 1 more"
        )
    apart = cells["anatomy"].model_copy(update={"only": ("OAS1_0061",)})
    others = cells["anatomy"].model_copy(update={"only": ("OAS1_0083",), "name": "others", "folder": "malf"})
    recipes.refuse_shared_people([("a", "b")], {"a": apart, "b": others}, tmp_path)  # one folder, other people


def test_every_overlap_names_a_recipe() -> None:
    names = {r.name for r in every_recipe()}
    for recipe in every_recipe():
        assert set(recipe.overlaps) <= names - {recipe.name}, recipe.name


# ------------------------------------------------------------------------------------------------ sets as hospitals have them
def test_two_people_of_one_name_are_refused_and_told_apart_with_a_line(tmp_path: Path) -> None:
    for k, site in enumerate(("north", "south")):
        t1, _, _ = fakes.head(fakes_targets.SHAPE, k)
        fakes.save(tmp_path / "mine" / site / "01" / "t1.nii.gz", t1, np.eye(4))
    text = TINY.replace('"{subject}_T1.nii.gz"', '"{site}/{subject}/t1.nii.gz"').replace(
        ', mask: "{subject}_mask.nii.gz"', ""
    )
    (tmp_path / "recipes").mkdir()
    file = tmp_path / "recipes" / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    line = refused(
        lambda: scan_files(recipes.load_recipe("mine", tmp_path), tmp_path),
        "2 scans are called 01", "north/01/t1.nii.gz", 'volume: {person: "{site}_{subject}"}',
    )  # fmt: skip
    assert recipes.check(recipes.load_recipe("mine", tmp_path), tmp_path) == [line]
    file.write_text(f'{text}volume: {{person: "{{site}}_{{subject}}"}}\n', encoding="utf-8")
    found = scan_files(recipes.load_recipe("mine", tmp_path), tmp_path)
    assert [(f.subject, f.site) for f in found] == [("north_01", "north"), ("south_01", "south")]


def test_the_check_counts_people_and_asks_about_visits_without_a_table(tmp_path: Path) -> None:
    for k, name in enumerate(("p01_a", "p01_b", "p02_a")):
        phantom(tmp_path, name, k)
    said_of = recipes.who_is_there(mine(tmp_path), tmp_path)
    assert "3 scans of 3 people" in said_of and "Are p01_a and p01_b one person?" in said_of
    (tmp_path / "mine" / "people.csv").write_text("scan,who\np01_a,p01\np01_b,p01\np02_a,p02\n", encoding="utf-8")
    table = 'people: {file: people.csv, separator: ",", scan: scan, subject: who}\n'
    known = mine(tmp_path, table.replace("scan: scan, ", "")), mine(tmp_path, table)
    assert recipes.who_is_there(known[1], tmp_path) == "; 3 scans of 2 people, 1 scanned more than once"
    spaces = (tmp_path / "mine" / "people.csv").read_text(encoding="utf-8").replace(",", "    ")
    (tmp_path / "mine" / "people.csv").write_text(spaces, encoding="utf-8")
    refused(lambda: scan_files(known[1], tmp_path), "no commas between its columns", "separator")


def test_people_with_a_site_in_their_names_are_not_taken_for_visits(tmp_path: Path) -> None:
    for k in range(8):
        phantom(tmp_path, f"OAS1_{k:04}", k)
    assert recipes.who_is_there(mine(tmp_path), tmp_path) == "; 8 scans of 8 people, nobody scanned more than once"


def test_people_that_a_recipe_renames_are_found_in_their_table(tmp_path: Path) -> None:
    phantom(tmp_path, "01")
    (tmp_path / "mine" / "people.csv").write_text("id\n01\n", encoding="utf-8")
    recipe = mine(
        tmp_path, 'people: {file: people.csv, separator: ",", subject: id}\nvolume: {person: "clinic_{subject}"}\n'
    )
    assert recipes.check(recipe, tmp_path) == [] and scan_files(recipe, tmp_path)[0].subject == "clinic_01"


def test_a_scan_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    phantom(tmp_path, "01")
    (tmp_path / "mine" / "02_T1.nii.gz").symlink_to(tmp_path / "annex" / "far away.nii.gz")
    refused(lambda: scan_files(mine(tmp_path), tmp_path), "02_T1.nii.gz", "datalad get")


def test_a_head_in_black_air_is_no_brain(tmp_path: Path) -> None:
    t1, mask = phantom(tmp_path, "01")
    wide = np.diag([9.5, 9.5, 9.5, 1.0])
    for name, data in (("T1", t1), ("mask", mask)):
        fakes.save(tmp_path / "mine" / f"01_{name}.nii.gz", data, wide)
    refused(
        lambda: list(recipes.scans(mine(tmp_path), tmp_path, 0, 0)),
        "01_T1.nii.gz",
        "mL, more than any has",
        "strip the skull",
    )


def test_a_header_without_orientation_is_not_guessed(tmp_path: Path) -> None:
    phantom(tmp_path, "01")
    for path in (tmp_path / "mine").glob("*.nii.gz"):
        image = nib.Nifti1Image.from_filename(path, mmap=False)
        image.header["qform_code"] = image.header["sform_code"] = 0
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
    refused(
        lambda: list(recipes.scans(mine(tmp_path), tmp_path, 0, 0)),
        "01_T1.nii.gz",
        "which way is left or up",
        "stored_axes",
    )
    (item,) = recipes.scans(mine(tmp_path, "volume: {stored_axes: LPI}\n"), tmp_path, 0, 0)
    assert nib.aff2axcodes(item.image.affine) == ("L", "P", "I")


def test_a_channel_is_asked_of_scans_that_have_several(tmp_path: Path) -> None:
    t1, mask = phantom(tmp_path, "01")
    fakes.save(tmp_path / "mine" / "02_T1.nii.gz", np.stack([t1, t1 // 2], axis=-1), np.eye(4))
    fakes.save(tmp_path / "mine" / "02_mask.nii.gz", mask, np.eye(4))
    one, two = recipes.scans(mine(tmp_path, "volume: {channel: 0}\n"), tmp_path, 0, 0)
    assert np.array_equal(one.image.data, two.image.data)


def test_a_target_wants_its_own_number_of_classes(tmp_path: Path) -> None:
    recipe = mine(tmp_path, "labels: {1: 1, 2: 2, 3: 3}\n")
    refused(lambda: recipe.must_mark("stroke", 1), "make 3 classes, and stroke has 1", "{1: 1, 2: 1, 3: 1}")
    refused(lambda: recipe.must_mark("ms", 1), "not ms")
    one = mine(tmp_path, "labels: {1: 1, 2: 1}\n")
    one.must_mark("stroke", 1)
    refused(lambda: one.must_mark("stroke", 3), "make 1 classes", "name a value of the file for each")


def test_people_that_are_too_few_are_counted_before_anything_is_trained(tmp_path: Path) -> None:
    for k in range(6):
        phantom(tmp_path, f"{k:02}", k)
    recipe = mine(tmp_path)
    asked = TargetData(recipe="mine", folds=2, run_folds=[0], n_train=2, n_validation=1)
    recipes.refuse_too_few("stroke", asked, recipe, tmp_path)
    refused(
        lambda: recipes.refuse_too_few("stroke", asked.model_copy(update={"n_train": 3}), recipe, tmp_path),
        "6 people in 2 folds", "2 to learn from", "n_train = 3",
    )  # fmt: skip
