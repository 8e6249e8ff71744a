"""Promises of reading and resampling: nothing is shifted, mirrored or lost, and a bad file names itself."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import json
from pathlib import Path

import fakes
import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from braintransfer import volumes
from braintransfer.errors import BadInput


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def scan_of(data: np.ndarray, affine: np.ndarray) -> volumes.Scan:
    return volumes.Scan(data.astype(np.float32), affine, np.linalg.norm(affine[:3, :3], axis=0), Path("phantom"))


def phantom(seed: int, shear: bool, anisotropic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Labels of an asymmetric head and an affine: random rotation, spacing, shear and storage order; 1 lies on the right."""
    rng = np.random.default_rng(seed)
    shape = np.array([48, 58, 44])
    spacing = np.ones(3) * rng.uniform(0.8, 1.6) * (rng.uniform(0.8, 1.25, 3) if anisotropic else 1)
    affine = np.eye(4)
    sheared = np.eye(3)
    if shear:
        sheared[np.triu_indices(3, 1)] = rng.uniform(-0.05, 0.05, 3)
    turn = Rotation.from_euler("xyz", rng.uniform(-0.3, 0.3, 3)).as_matrix()
    affine[:3, :3] = turn @ sheared @ np.diag(spacing)
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    c = (shape - 1) / 2
    labels = np.zeros(shape, np.uint8)
    for index, centre, radii in (
        (2, c, shape * 0.42),
        (1, c + [9, 3, 0], (8, 11, 7)),
        (3, c - [8, -6, 4], (5, 4, 6)),
    ):
        labels[fakes.ellipsoid(tuple(shape), tuple(centre), tuple(radii))] = index
    stored = np.column_stack([rng.permutation(3), rng.choice([-1, 1], 3)])
    return apply_orientation(labels, stored), affine @ inv_ornt_aff(stored, labels.shape)


@pytest.mark.parametrize("seed", range(0, 12, 2))
def test_labels_come_back_from_the_grid_whatever_orientation_spacing_and_shear(seed: int) -> None:
    labels, affine = phantom(seed, shear=seed >= 8, anisotropic=seed >= 4)
    scan = scan_of(labels, affine)
    grid = volumes.working_grid(scan, labels > 0, float(scan.spacing.min()), (88, 80))
    assert grid.outside == 0
    assert grid.shape[:2] == (80, 88)
    working = volumes.labels_to_grid(labels, affine, grid, 3)
    back = volumes.from_grid(np.stack([working == k for k in range(4)]).astype(np.float32), grid, labels.shape, affine)
    assert np.allclose(back.sum(axis=0), 1, atol=1e-5)
    for index in (1, 2, 3):
        assert dice(back.argmax(axis=0) == index, labels == index) > 0.97
    if seed < 4:  # same spacing, no shear: nothing is interpolated
        assert np.array_equal(back.argmax(axis=0), labels)


@pytest.mark.parametrize("seed", range(0, 12, 2))
def test_left_stays_left_in_grid_and_slices(seed: int) -> None:
    labels, affine = phantom(seed, shear=seed >= 8, anisotropic=seed >= 4)
    scan = scan_of(labels, affine)
    grid = volumes.working_grid(scan, labels > 0, 1.5, (64, 64))
    working = volumes.labels_to_grid(labels, affine, grid, 3)
    x = [np.argwhere(working == k)[:, 0].mean() for k in (1, 3)]
    assert x[0] > x[1] + 5  # RAS: the structure on the right has the larger x
    slices = volumes.to_slices(working)
    columns = [np.argwhere(slices == k)[:, 2].mean() for k in (1, 3)]
    assert columns[0] < columns[1] - 5  # radiological: the subject's right on the picture's left
    rows = [np.argwhere(slices == k)[:, 1].mean() for k in (1, 3)]
    y = [np.argwhere(working == k)[:, 1].mean() for k in (1, 3)]
    assert (rows[0] < rows[1]) == (y[0] > y[1])  # front at the top
    assert np.array_equal(volumes.from_slices(slices), working)


def test_quick_resampling_is_scipys() -> None:
    rng = np.random.default_rng(3)
    data = rng.random((20, 22, 18)).astype(np.float32)
    own, new = np.diag([1.3, 1.0, 1.1, 1.0]), np.diag([1.0, 1.2, 0.7, 1.0])
    own[:3, 3], new[:3, 3] = (3, 4, 5), (-1, 2, 8)
    matrix = np.linalg.inv(own) @ new
    for outside in (0.0, 1.0):
        expected = affine_transform(
            data, matrix[:3, :3], matrix[:3, 3], output_shape=(30, 20, 25), order=1, mode="grid-constant", cval=outside
        )
        got = volumes.resample(data, own, (30, 20, 25), new, outside=outside, antialias=False)
        assert np.allclose(got, expected, atol=1e-5)


def test_downsampling_smooths_and_keeps_the_mean() -> None:
    checker = (np.indices((40, 40, 40)).sum(axis=0) % 2 * 100).astype(np.float32)
    new = np.diag([3.0, 3.0, 3.0, 1.0])
    new[:3, 3] = 9
    coarse = volumes.resample(checker, np.eye(4), (7, 7, 7), new)
    assert np.abs(coarse - 50).max() < 5  # without smoothing a checkerboard would alias to 0 or 100


def test_beyond_the_grid_is_background() -> None:
    labels, affine = phantom(0, False, False)
    scan = scan_of(labels, affine)
    grid = volumes.working_grid(scan, labels > 0, 1.5, (24, 20))
    assert grid.outside > 0
    sure = np.zeros((2, *grid.shape), np.float32)
    sure[1] = 1
    back = volumes.from_grid(sure, grid, labels.shape, affine)
    assert (back[0] == 1).any() and (back[1] > 0.99).any()
    assert np.allclose(back.sum(axis=0), 1)


def test_a_grid_survives_json() -> None:
    labels, affine = phantom(9, True, True)
    grid = volumes.working_grid(scan_of(labels, affine), labels > 0, 1.4, (64, 64))
    assert volumes.grid_from(json.loads(json.dumps(dataclasses.asdict(grid)))) == grid
    assert grid.spacing == pytest.approx(1.4)


def test_uint8_keeps_background_and_brain_apart() -> None:
    data = np.linspace(-50, 400, 1000).reshape(10, 10, 10)
    brain = np.zeros(data.shape, bool)
    brain[2:8] = True
    result = volumes.to_uint8(data, brain)
    assert (result[~brain] == 0).all() and result[brain].min() == 1 and result[brain].max() == 255


def test_brain_holds_negative_values_and_no_holes() -> None:
    t1, _, brain = fakes.head((30, 34, 28), 0)
    data = t1.astype(np.float32)
    data[14, 16, 13] = -5
    data[15, 16, 13] = 0
    data[0, 0, 0] = 3  # a speck far away
    assert np.array_equal(volumes.brain_of(data), brain)


# ------------------------------------------------------------------------------------------------ bad files


@pytest.fixture
def good(tmp_path: Path) -> Path:
    t1, _, _ = fakes.head((20, 22, 18), 0)
    return fakes.save(tmp_path / "good.nii.gz", t1, fakes.las(t1.shape))


def one_line(error: pytest.ExceptionInfo[BadInput], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_singleton_axes_are_dropped(tmp_path: Path) -> None:
    t1, _, _ = fakes.head((20, 22, 18), 0)
    path = fakes.save(tmp_path / "s.nii.gz", t1[..., None], np.eye(4))
    assert volumes.read_scan(path).data.shape == (20, 22, 18)


def test_big_endian_analyze_is_read(tmp_path: Path) -> None:
    t1, _, _ = fakes.head((20, 22, 18), 0)
    header = nib.AnalyzeHeader(endianness=">")
    nib.save(nib.AnalyzeImage(t1, np.diag([2.0, 1.0, 1.0, 1.0]), header), tmp_path / "a.img")
    scan = volumes.read_scan(tmp_path / "a.img", stored_axes="LAS")
    assert np.array_equal(scan.data, t1) and scan.data.dtype == np.float32


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage])
def test_left_and_right_of_analyze_are_not_guessed(tmp_path: Path, kind: type[nib.AnalyzeImage]) -> None:
    t1, _, _ = fakes.head((20, 22, 18), 0)
    nib.save(kind(t1, None), tmp_path / "a.img")
    with pytest.raises(BadInput) as error:
        volumes.read_scan(tmp_path / "a.img")
    one_line(error, "a.img", "does not say which way is left or up", "Analyze keeps no orientation", "stored_axes")
    for axes in ("LAS", "RAS"):
        assert nib.aff2axcodes(volumes.read_scan(tmp_path / "a.img", stored_axes=axes).affine) == tuple(axes)


def test_a_pair_whose_header_says_it_is_believed(tmp_path: Path) -> None:
    t1, _, _ = fakes.head((20, 22, 18), 0)
    nib.save(nib.Nifti1Pair(t1, fakes.las(t1.shape)), tmp_path / "a.img")
    assert nib.aff2axcodes(volumes.read_scan(tmp_path / "a.img").affine) == ("L", "A", "S")


def test_what_is_compressed_is_read_or_called_so(tmp_path: Path, good: Path) -> None:
    raw, scan = gzip.decompress(good.read_bytes()), volumes.read_scan(good)
    empty = np.zeros((64, 64, 64), np.uint8)  # 260 kB that bzip2 makes a few hundred bytes
    empty[30, 30, 30] = 1
    for name, content in (("t1", raw), ("mask", nib.Nifti1Image(empty, np.eye(4)).to_bytes())):
        (tmp_path / f"{name}.nii.bz2").write_bytes(bz2.compress(content))
    assert np.array_equal(volumes.read_scan(tmp_path / "t1.nii.bz2").data, scan.data)
    assert np.array_equal(volumes.read_mask(tmp_path / "mask.nii.bz2"), empty)
    (tmp_path / "torn.nii.bz2").write_bytes(bz2.compress(raw)[:-200])
    with pytest.raises(BadInput) as error:
        volumes.read_scan(tmp_path / "torn.nii.bz2")
    one_line(error, "torn.nii.bz2", "torn or truncated")
    for ending in (".zst", ".xz"):
        (tmp_path / f"t1.nii{ending}").write_bytes(b"packed")
        with pytest.raises(BadInput) as error:
            volumes.read_scan(tmp_path / f"t1.nii{ending}")
        one_line(error, f"t1.nii{ending}", f"packed as {ending}", "unpack it, or save it as .nii.gz")
        assert "download" not in str(error.value)


def test_a_compressed_volume_holds_no_more_than_its_bytes_can_stand_for(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((512, 512, 512))
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    for name, pack in (("forged.nii.gz", gzip.compress), ("forged.nii.bz2", bz2.compress)):
        (tmp_path / name).write_bytes(pack(header.binaryblock + bytes(4)))
        with pytest.raises(BadInput) as error:
            volumes.read_scan(tmp_path / name)
        one_line(error, name, "512 x 512 x 512 voxels, more than the file can hold")


def test_scattered_nan_becomes_background(tmp_path: Path) -> None:
    t1 = fakes.head((20, 22, 18), 0)[0].astype(np.float32)
    t1[t1 == 0] = np.nan
    scan = volumes.read_scan(fakes.save(tmp_path / "n.nii.gz", t1, np.eye(4)))
    assert np.isfinite(scan.data).all() and scan.data[0, 0, 0] == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.ones((8, 8, 8, 3), np.int16) * np.arange(3, dtype=np.int16), "4-D"),
        (np.zeros((8, 8, 8), np.int16), "empty"),
        (np.full((8, 8, 8), np.nan, np.float32), "NaN"),
        (np.ones((8, 8), np.int16), "2-D"),
        (np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "not plain numbers"),
    ],
)
def test_a_scan_that_is_none_says_so(tmp_path: Path, data: np.ndarray, words: str) -> None:
    path = fakes.save(tmp_path / "bad.nii.gz", data, np.eye(4))
    with pytest.raises(BadInput) as error:
        volumes.read_scan(path)
    one_line(error, "bad.nii.gz", words)


def test_missing_empty_truncated_and_foreign_files_say_so(tmp_path: Path, good: Path) -> None:
    cases = {"missing": None, "empty": b"", "torn": good.read_bytes()[:-900], "text": b"hello" * 100}
    cases["stub"] = gzip.compress(gzip.decompress(good.read_bytes())[:300])
    for name, content in cases.items():
        path = tmp_path / f"{name}.nii.gz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadInput) as error:
            volumes.read_scan(path)
        one_line(error, path.name)
        with pytest.raises(BadInput):
            volumes.read_mask(path)


@pytest.mark.parametrize("broken", ["nan", "zero"])
def test_an_impossible_affine_says_so(tmp_path: Path, broken: str) -> None:
    t1, _, _ = fakes.head((20, 22, 18), 0)
    image = nib.Nifti1Image(t1, np.eye(4))
    affine = np.diag([1.0, 1.0, np.nan if broken == "nan" else 0.0, 1.0])
    image.header["sform_code"] = 1
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = affine[row]
    raw = image.header.binaryblock + bytes(4) + t1.tobytes(order="F")
    path = tmp_path / "affine.nii"
    path.write_bytes(raw)
    with pytest.raises(BadInput) as error:
        volumes.read_scan(path)
    one_line(error, "affine.nii", "affine")


def test_masks_must_fit_their_scan(tmp_path: Path, good: Path) -> None:
    scan = volumes.read_scan(good)
    labels = (scan.data > 80).astype(np.uint8)
    shifted = scan.affine.copy()
    shifted[0, 3] += 0.01
    for name, data, affine, words in (
        ("shape", labels[:-1], scan.affine, ("(19, 22, 18)", "(20, 22, 18)")),
        ("affine", labels, shifted, ("0.01 mm", "0.001 allowed")),
        ("values", labels * np.uint8(7), scan.affine, ("7 (",)),
        ("fraction", labels * np.float32(0.4), scan.affine, ("0.4", "probabilities")),
        ("nan", np.where(labels, np.nan, 0).astype(np.float32), scan.affine, ("NaN",)),
    ):
        path = fakes.save(tmp_path / f"{name}.nii.gz", data, affine)
        with pytest.raises(BadInput) as error:
            volumes.read_mask(path, scan, labels={1: 1})
        one_line(error, path.name, *words)
    near = scan.affine.copy()
    near[0, 3] += 5e-4
    path = fakes.save(tmp_path / "near.nii.gz", labels.astype(np.float32), near)
    assert np.array_equal(volumes.read_mask(path, scan, labels={1: 1}), labels)


def test_labels_are_mapped_and_negative_or_ignored_ones_too(tmp_path: Path) -> None:
    data = np.array([0, 1, 2, -1, 300], np.int16).reshape(5, 1, 1) * np.ones((5, 4, 4), np.int16)
    path = fakes.save(tmp_path / "m.nii.gz", data, np.eye(4))
    mask = volumes.read_mask(path, labels={1: 3, 2: 1, -1: 0, 300: 2})
    assert mask[:, 0, 0].tolist() == [0, 3, 1, 0, 2]
    path = fakes.save(tmp_path / "zero.nii.gz", np.zeros((4, 4, 4), np.uint8), np.eye(4))
    assert not volumes.read_mask(path, labels={1: 1}).any()
