"""Promises of `braintransfer data reduce`: from a public download to what the book's own run read, and an honest word on it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import fakes
import fakes_sources
import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from refusals import refused

from braintransfer import recipes, reductions
from braintransfer.cli import main
from braintransfer.recipes.matlab import read_matlab_slice
from braintransfer.recipes.schema import load_recipe
from braintransfer.reductions import rules

Rows = list[dict[str, str]]


def door(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", "reduce", *arguments])


def said(result: Result) -> str:
    """What a refused command says from its error on; click 8.1 mixes that with what it printed before."""
    return result.output.partition("error: ")[2]


def small(monkeypatch: pytest.MonkeyPatch, name: str, rows: Rows, **changes: Any) -> reductions.Reduction:
    """The record of `name` with a table of our own, for the door too."""
    record = reductions.load_reduction(name).model_copy(update=changes)
    monkeypatch.setattr(reductions, "rows_of", lambda _: rows)
    monkeypatch.setattr(reductions, "load_reduction", lambda _: record)
    return record


def expecting(rows: Rows, folder: Path) -> str:
    """Fill the hashes of what lies in `folder` into the rows; returns its listing."""
    hashes = {row["file"]: hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest() for row in rows}
    for row in rows:
        row["sha256"] = hashes[row["file"]][: reductions.DIGITS]
    return reductions.listing(hashes)


def row(file: str, **columns: str) -> dict[str, str]:
    return {"file": file, "sha256": "0" * reductions.DIGITS, **columns}


# ------------------------------------------------------------------------------------------------ the records


@pytest.mark.parametrize("name", reductions.reduction_names())
def test_a_record_names_every_file_once_and_says_how_it_was_made(name: str) -> None:
    record = reductions.load_reduction(name)
    rows = reductions.rows_of(record)
    files = [r["file"] for r in rows]
    assert record.name == name and len(set(files)) == len(files) and set(record.written) <= set(files)
    assert all(len(r["sha256"]) == reductions.DIGITS and int(r["sha256"], 16) >= 0 for r in rows)
    assert len(record.listing) == 64 and record.made and record.download
    for recipe in record.recipes:
        assert reductions.load_reduction(recipe).name == name
    said = "\n".join(reductions.described(record))
    assert all(sentence in said for sentence in (*record.made, *record.unknown)) and f"{len(rows)} files" in said


def test_the_reference_runs_sets_all_have_a_record() -> None:
    from braintransfer.recipes.checking import needed_sets
    from braintransfer.settings import read_profile

    profile = read_profile("reference")
    used = [d.recipe for part in (profile.sources, profile.targets, profile.showcase) for d in part.values()]
    parts = {part.name for name in used for part, _ in needed_sets(load_recipe(name), None)}
    assert parts and {reductions.load_reduction(part).name for part in parts} == set(reductions.reduction_names())


def test_what_is_known_is_said_without_a_download() -> None:
    result = door("ds002748")
    words = " ".join(result.output.split())
    assert result.exit_code == 0 and "not known: What stripped the skulls." in words and "1.4 mm" in words


def test_a_set_made_of_others_names_them_and_another_is_refused() -> None:
    result = door("semisynthetic_ms", "--from", "a", "--to", "b")
    assert result.exit_code == 2 and "made of ds002748, open_ms_data" in said(result)
    result = door("coco2017")
    assert result.exit_code == 2 and "reads no such set" in said(result) and said(result).count("\n") == 1


# ------------------------------------------------------------------------------------------------ files that are copied


def copied(tmp_path: Path) -> tuple[Path, Rows]:
    fakes.malf(tmp_path / "made")
    inside = tmp_path / "download" / "inst" / "extdata"
    shutil.copytree(tmp_path / "made" / "malf", inside)
    (inside / "participants.tsv").unlink()
    rows = [row(p.name) for p in sorted((tmp_path / "made" / "malf").glob("*"))]
    return tmp_path / "download", rows


def test_copied_files_are_equal_wherever_they_lie_in_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download, rows = copied(tmp_path)
    table = (tmp_path / "made" / "malf" / "participants.tsv").read_text(encoding="utf-8")
    listing = expecting(rows, tmp_path / "made" / "malf")
    small(monkeypatch, "malf", rows, written={"participants.tsv": table}, listing=listing)
    for number, place in enumerate((download, download / "inst" / "extdata")):
        to = tmp_path / f"data-{number}"
        result = door("malf", "--from", str(place), "--to", str(to))
        assert result.exit_code == 0 and f"all {len(rows)} files are those" in result.output
        assert recipes.check(load_recipe("malf"), to) == []


def test_what_differs_is_counted_and_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download, rows = copied(tmp_path)
    rows = [r for r in rows if r["file"] != "participants.tsv"]
    small(monkeypatch, "malf", rows, written={}, listing=expecting(rows, tmp_path / "made" / "malf"))
    rows[2]["sha256"] = "0" * reductions.DIGITS
    result = door("malf", "--from", str(download), "--to", str(tmp_path / "data"))
    last = result.output.splitlines()[-1]
    assert result.exit_code == 0 and rows[2]["file"] in last
    assert f"{len(rows) - 1} of {len(rows)} files are those" in last and "1 differ" in last


def test_files_that_agree_in_sixteen_digits_only_are_not_called_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download, rows = copied(tmp_path)
    rows = [r for r in rows if r["file"] != "participants.tsv"]
    expecting(rows, tmp_path / "made" / "malf")
    record = small(monkeypatch, "malf", rows, written={}, listing="0" * 64)
    assert len(reductions.reduce(record, download, tmp_path / "data").differing) == len(rows)


def test_what_is_missing_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download, rows = copied(tmp_path)
    small(monkeypatch, "malf", [r for r in rows if r["file"] != "participants.tsv"], written={})
    gone = sorted((download / "inst" / "extdata").glob("*_SS.nii.gz"))[1:]
    for path in gone:
        path.unlink()
    result = door("malf", "--from", str(download), "--to", str(tmp_path / "data"))
    assert result.exit_code == 2 and said(result).count("\n") == 1
    assert f"{len(gone)} of {len(rows) - 1} files of malf missing" in said(result) and gone[0].name in said(result)
    assert not (tmp_path / "data").exists()


def test_a_set_that_is_there_already_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download, rows = copied(tmp_path)
    record = small(monkeypatch, "malf", rows)
    mine = tmp_path / "data" / "malf" / "1000_SS.nii.gz"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    refused(lambda: reductions.reduce(record, download, tmp_path / "data"), "there already", "--to")
    assert mine.read_bytes() == b"mine"
    for arguments in (["--from", str(download)], ["--to", str(tmp_path)], ["--from", "no", "--to", "where"]):
        result = door("malf", *arguments)
        assert result.exit_code == 2 and said(result).count("\n") == 1


def test_a_bad_file_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fakes.class_folders(tmp_path / "download", "imagenette2-160")
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.JPEG"))
    (folder / files[3]).write_bytes(b"no picture")
    record = small(monkeypatch, "imagenette", [row(f) for f in files])
    refused(lambda: reductions.reduce(record, tmp_path / "download", tmp_path / "data"), files[3], "not a picture")
    assert list((tmp_path / "data").iterdir()) == []


# ------------------------------------------------------------------------------------------------ pictures


def test_photographs_become_squares_and_those_not_listed_stay_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fakes.class_folders(tmp_path / "download", "imagenette2-160", size=150)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.JPEG"))
    Image.open(folder / files[0]).convert("L").save(folder / files[0], format="JPEG")
    record = small(monkeypatch, "imagenette", [row(f) for f in files[:-2]])
    outcome = reductions.reduce(record, tmp_path / "download", tmp_path / "data")
    made = tmp_path / "data" / "imagenette"
    assert outcome.files == len(files) - 2
    assert sorted(p.relative_to(made).as_posix() for p in made.rglob("*.JPEG")) == files[:-2]
    for file in files[:-2]:
        with Image.open(made / file) as picture:
            assert picture.size == (128, 128) and picture.mode == "RGB" and picture.format == "JPEG"


def test_slices_come_out_equal_from_matlab_files_and_from_8_bit_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mats = fakes_sources.brain_tumour_mat(tmp_path)
    pictures = tmp_path / "pictures"
    (pictures / "images").mkdir(parents=True)
    (pictures / "masks").mkdir()
    rows = [row("samples.csv", label="")]
    recipe = load_recipe("brain_tumour_mat")
    for number in range(1, 10):
        found = read_matlab_slice(recipe, mats / f"{number}.mat")
        rows += [row(f"images/{number:04d}.jpg", label=found.label), row(f"masks/{number:04d}.png", label="")]
        low, high = found.image.min(), found.image.max()
        grey = np.floor((found.image.astype(float) - low) / (high - low) * 255).astype(np.uint8)
        Image.fromarray(np.ascontiguousarray(grey.T)).save(pictures / "images" / f"{number}.png")
        Image.fromarray(np.ascontiguousarray(found.mask.T).astype(np.uint8) * 255).save(
            pictures / "masks" / f"{number}_mask.png"
        )
    record = small(monkeypatch, "brain_tumour_t1ce", rows)
    for number, download in enumerate((mats, pictures)):
        reductions.reduce(record, download, tmp_path / f"data-{number}")
    one, other = (tmp_path / f"data-{number}" / "brain_tumour_t1ce" for number in range(2))
    for r in rows:
        assert (one / r["file"]).read_bytes() == (other / r["file"]).read_bytes(), r["file"]
    with Image.open(one / "images" / "0004.jpg") as picture:
        assert picture.size == (200, 200) and picture.mode == "L"
    tumours = load_recipe("brain_tumour_t1ce")
    assert recipes.missing(tumours, tmp_path / "data-0") == ""
    items = list(recipes.images(tumours, tmp_path / "data-0", 0, 64, 0))
    assert len(items) == 9 and {i.subject for i in items} == {"block-000"} and all(i.mask.any() for i in items)
    first = read_matlab_slice(recipe, mats / "1.mat").mask
    seen = np.argwhere(items[0].mask).mean(axis=0) / 64
    np.testing.assert_allclose(
        seen, np.argwhere(first).mean(axis=0) / first.shape, atol=0.03
    )  # upright, not transposed


def test_a_slice_of_another_class_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mats = fakes_sources.brain_tumour_mat(tmp_path)
    rows = [row("images/0003.jpg", label="pituitary"), row("masks/0003.png", label="")]
    record = small(monkeypatch, "brain_tumour_t1ce", rows)
    refused(lambda: reductions.reduce(record, mats, tmp_path / "data"), "3.mat", "glioma", "pituitary")


# ------------------------------------------------------------------------------------------------ scans


def stripped(tmp_path: Path) -> tuple[Path, Rows]:
    """A skull-stripped scan of 0.9 x 0.9 x 1 mm, tilted, and a row with a grid of 1.4 mm around it."""
    t1, _, brain = fakes.head((60, 66, 58), 3)
    turn = np.deg2rad(8)
    affine = np.diag([0.9, 0.9, 1.0, 1.0])
    affine[:3, :3] = (
        np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]]) @ affine[:3, :3]
    )
    affine[:3, 3] = [-27.0, -29.0, -25.0]
    download = tmp_path / "ds002748"
    file = "sub-01/anat/sub-01_T1w.nii.gz"
    fakes.save(download / file, (t1 * 7).astype(np.int16), affine)
    (download / "participants.tsv").write_text("participant_id\tage\nsub-01\t39\n", encoding="utf-8")
    millilitres = brain.sum() * 0.81 / 1000
    grid = {"shape": "40 46 45", "origin": "-28.0 -34.0 -30.0"}
    rows = [
        row("participants.tsv", shape="", origin="", brain_ml="", public_md5=""),
        row(file, **grid, brain_ml=f"{millilitres:.1f}", public_md5="0" * 32),
    ]
    return download, rows


def test_scans_come_out_on_the_records_grid_whatever_stripped_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download, rows = stripped(tmp_path)
    record = small(monkeypatch, "ds002748", rows)
    result = door("ds002748", "--from", str(download), "--to", str(tmp_path / "data"))
    assert result.exit_code == 0 and "1 scans, each on the grid of the record" in result.output
    made = nib.nifti1.load(tmp_path / "data" / record.name / rows[1]["file"])
    values = np.asarray(made.dataobj)
    assert made.shape == (40, 46, 45) and values.dtype == np.uint8
    np.testing.assert_allclose(made.affine[:3, 3], [-28, -34, -30])
    np.testing.assert_allclose(np.diag(made.affine), [1.4, 1.4, 1.4, 1], rtol=1e-6)
    assert values.max() == 255 and 0.001 < (values[values > 0] == 255).mean() < 0.02
    (scan,) = recipes.scans(load_recipe("ds002748"), tmp_path / "data", 0, 0)
    before = recipes.scans(load_recipe("ds002748"), tmp_path, 0, 0)
    apart = [
        s.image.affine[:3, :3] @ np.argwhere(s.brain).mean(axis=0) + s.image.affine[:3, 3] for s in (scan, *before)
    ]
    np.testing.assert_allclose(apart[0], apart[1], atol=0.5)  # the brain lies where it lay, in mm


def test_a_scan_with_its_skull_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download, rows = stripped(tmp_path)
    record = small(monkeypatch, "ds002748", rows)
    path = download / rows[1]["file"]
    rows[1]["public_md5"] = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    refused(lambda: reductions.reduce(record, download, tmp_path / "data"), path.name, "strip it")
    rows[1]["public_md5"] = "0" * 32
    fakes.save(path, np.random.default_rng(0).integers(1, 9, (60, 60, 60)).astype(np.int16), np.eye(4))
    refused(lambda: reductions.reduce(record, download, tmp_path / "data"), path.name, "strip the skull")


def test_a_scan_that_was_moved_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download, rows = stripped(tmp_path)
    record = small(monkeypatch, "ds002748", rows)
    rows[1]["origin"] = "500 0 0"
    refused(lambda: reductions.reduce(record, download, tmp_path / "data"), "sub-01", "in its own space")


def test_a_rule_for_every_word_that_a_record_may_say() -> None:
    assert set(rules.RULES) == {reductions.load_reduction(name).rule for name in reductions.reduction_names()}
