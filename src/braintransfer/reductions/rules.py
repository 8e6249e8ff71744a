"""The rules of the records: what becomes of a file of a public download."""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from PIL import Image

from braintransfer.errors import BadInput
from braintransfer.recipes.matlab import read_matlab_slice
from braintransfer.recipes.pictures import read_picture
from braintransfer.recipes.scans import check_brain
from braintransfer.recipes.schema import load_recipe
from braintransfer.reductions import Reduction
from braintransfer.volumes import brain_of, read_scan

Rows = list[dict[str, str]]
Made = Iterator[tuple[str, bytes]]

#: Of the scans: voxel size in mm, and the percentile of the brain that becomes 255.
SPACING_MM, BRIGHTEST = 1.4, 99.8
#: Slices of a block, which stands for a person where ids are missing.
BLOCK = 25


def sources(record: Reduction, rows: Rows, download: Path) -> dict[str, Path]:
    """File of the set -> the file of the download that it is made of; files that are written from the record have none."""
    if record.rule == "tumours":
        return _slices(rows, download)
    names = [row["file"] for row in rows if row["file"] not in record.written]
    folders = [download, *(download / folder for folder in record.inside)]
    folder = next((f for f in folders if any((f / name).is_file() for name in names)), folders[-1])
    return {name: folder / name for name in names}


def _slices(rows: Rows, download: Path) -> dict[str, Path]:
    """images/NNNN.jpg and masks/NNNN.png -> N.mat, or the two 8-bit pictures where there is no .mat."""
    mats = {p.stem: p for folder in (".", "brainTumorDataPublic_*") for p in download.glob(f"{folder}/*.mat")}
    found = {}
    for row in rows:
        number = Path(row["file"]).stem.lstrip("0")
        if row["file"].startswith("images/"):
            found[row["file"]] = download / "images" / f"{number}.png"
        elif row["file"].startswith("masks/"):
            found[row["file"]] = download / "masks" / f"{number}_mask.png"
        if row["file"] in found and (mats or not (download / "images").is_dir()):
            found[row["file"]] = mats.get(number, download / f"{number}.mat")
    return found


def _copy(record: Reduction, rows: Rows, sources: Mapping[str, Path], remark: Callable[[str], None]) -> Made:
    for row in rows:
        file = row["file"]
        yield file, record.written[file].encode() if file in record.written else sources[file].read_bytes()


def _squares(record: Reduction, rows: Rows, sources: Mapping[str, Path], remark: Callable[[str], None]) -> Made:
    for row in rows:
        picture = Image.fromarray(read_picture(sources[row["file"]])).convert("RGB")
        yield row["file"], _jpeg(picture, record)


def _jpeg(picture: Image.Image, record: Reduction) -> bytes:
    buffer = io.BytesIO()
    small = picture.resize((record.size, record.size), Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=record.quality)
    return buffer.getvalue()


def _tumours(record: Reduction, rows: Rows, sources: Mapping[str, Path], remark: Callable[[str], None]) -> Made:
    lines = ["sample,label,group"]
    for row in rows:
        sample = Path(row["file"]).stem
        if not row["file"].startswith("images/"):
            continue
        mask_file = f"masks/{sample}.png"
        image, mask = _read_slice(sources[row["file"]], sources[mask_file], row["label"])
        yield row["file"], _jpeg(Image.fromarray(image), record)
        buffer = io.BytesIO()
        small = Image.fromarray(mask).resize((record.size, record.size), Image.Resampling.NEAREST)
        small.save(buffer, "PNG", optimize=True)
        yield mask_file, buffer.getvalue()
        lines.append(f"{sample},{row['label']},block-{int(sample) // BLOCK:03d}")
    yield "samples.csv", "".join(f"{line}\r\n" for line in lines).encode()


def _read_slice(image_file: Path, mask_file: Path, label: str) -> tuple[np.ndarray, np.ndarray]:
    """A slice and its mask of 0 and 1, both uint8 (H, W), rows and columns as in the owners' matrix."""
    if image_file.suffix != ".mat":
        image, mask = read_picture(image_file).T, read_picture(mask_file).T
        if image.ndim != 2 or mask.shape != image.shape:
            raise BadInput(f"{image_file}: picture and mask are no grey pair; get the copy again")
        return np.ascontiguousarray(image), np.ascontiguousarray(mask > 127).astype(np.uint8)
    found = read_matlab_slice(load_recipe("brain_tumour_mat"), image_file)
    if found.label != label:
        raise BadInput(f"{image_file}: shows a {found.label}, where the record has a {label}; get the archives again")
    # the reader turns a slice by its border; what is wanted is the file's own matrix
    image, mask = (a.T if found.turned else a for a in (found.image.astype(float), found.mask))
    low, high = float(image.min()), float(image.max())
    scaled = np.floor((image - low) / max(high - low, 1.0) * 255)
    return np.ascontiguousarray(scaled).astype(np.uint8), np.ascontiguousarray(mask).astype(np.uint8)


def _scans(record: Reduction, rows: Rows, sources: Mapping[str, Path], remark: Callable[[str], None]) -> Made:
    apart = []
    for row in rows:
        path = sources[row["file"]]
        if not row["shape"]:
            yield row["file"], path.read_bytes()
            continue
        with path.open("rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() == row["public_md5"]:
                raise BadInput(f"{path}: is the public scan with its skull; strip it, and write 0 outside the brain")
        scan = read_scan(path)
        check_brain(scan, brain_of(scan.data))
        small = _on_grid(scan.data, scan.affine, row)
        millilitres = int(np.count_nonzero(np.asarray(small.dataobj))) * SPACING_MM**3 / 1000
        apart.append(millilitres / float(row["brain_ml"]) - 1)
        yield row["file"], _nifti(small)
    apart = [100 * abs(a) for a in apart]
    remark(
        f"{len(apart)} scans, each on the grid of the record; brain volumes are {np.median(apart):.1f} % apart "
        f"(median; at most {max(apart):.1f} %)"
    )


def _on_grid(data: np.ndarray, affine: np.ndarray, row: Mapping[str, str]) -> nib.Nifti1Image:
    """A skull-stripped scan (X, Y, Z) at the points of the record's grid, as uint8. BadInput when no brain lies there."""
    shape = tuple(int(n) for n in row["shape"].split())
    grid = np.diag([SPACING_MM] * 3 + [1.0])
    grid[:3, 3] = [float(x) for x in row["origin"].split()]
    values = resample_from_to(nib.Nifti1Image(data, affine), (shape, grid), order=1).get_fdata()
    inside = values[values > 0]
    if inside.size == 0:
        raise BadInput(f"{row['file']}: no brain lies on the grid of the record; keep the scan in its own space")
    scaled = np.rint(values * (255 / np.percentile(inside, BRIGHTEST)))
    return nib.Nifti1Image(np.clip(scaled, 0, 255).astype(np.uint8), grid)


def _nifti(image: nib.Nifti1Image) -> bytes:
    """The bytes that nibabel writes to a .nii.gz."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0, filename="") as file:
        file.write(image.to_bytes())
    return buffer.getvalue()


RULES: dict[str, Callable[[Reduction, Rows, Mapping[str, Path], Callable[[str], None]], Made]] = {
    "copy": _copy, "squares": _squares, "tumours": _tumours, "scans": _scans,
}  # fmt: skip
