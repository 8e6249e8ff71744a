"""Hostile files and parameters, made by code: each asks a reader to run, follow, write or allocate something.

A case is `make`, which writes the file into a folder, and `act`, which has the project read it. Payloads would touch a canary.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import nibabel as nib
import numpy as np
import torch
import yaml
from safetensors.torch import save

from braintransfer import plan, predict, settings, transfer, volumes
from braintransfer.provenance import write_manifest
from braintransfer.recipes import downloads, matlab, pictures
from braintransfer.recipes.files import read_table, scan_files
from braintransfer.recipes.picture_sets import _read_devkit, picture_files
from braintransfer.recipes.schema import MaskValues, Recipe, load_recipe
from braintransfer.store import StoreWriter, open_store

CANARY = "canary"
DEEP = 100_000
BOMB = 300 * 2**20  # bytes that a bomb grows to; a reader that believes it needs more memory than a test allows


@dataclass(frozen=True)
class Case:
    """One hostile input. make: folder -> nothing. act: folder -> whatever; it must end in BadInput. says: part of its line."""

    name: str
    make: Callable[[Path], object]
    act: Callable[[Path], object]
    says: str = ""


class Evil:
    """Touches the canary when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.folder / CANARY}",)


def evil_pickle(folder: Path) -> bytes:
    return pickle.dumps(Evil(folder))


def zeros_gz(n: int, start: bytes = b"") -> bytes:
    """gzip of `start` and then n zero bytes, without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = [packer.compress(start)]
    block = bytes(2**20)
    out += [packer.compress(block) for _ in range(n // len(block))]
    return b"".join([*out, packer.flush()])


# ------------------------------------------------------------------------------------------------------ weight files
def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


PLAN = {"encoder": "tf_efficientnet_lite0", "channels": 3, "normalisation": "(x-127)/128", "source": "mri-segmentation",
        "n_images": 1, "task": "segmentation", "arm": "main", "seed": 0}  # fmt: skip


def with_plan(plan: Any) -> bytes:
    text = plan if isinstance(plan, str) else json.dumps(plan)
    return save({"a": torch.zeros(1)}, {"format": transfer.FORMAT, "plan": text})


def evil_checkpoint(folder: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weights": Evil(folder)}, buffer)
    return buffer.getvalue()


def encoder(name: str, content: Callable[[Path], bytes], says: str = "") -> Case:
    return Case(
        f"encoder: {name}",
        lambda folder: (folder / "encoder.safetensors").write_bytes(content(folder)),
        lambda folder: transfer.load_encoder(folder / "encoder.safetensors"),
        says or "encoder.safetensors",
    )


def one(dtype: str, shape: list[int], offsets: list[int]) -> bytes:
    return safetensors({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, b"\0" * 8)


ENCODERS = [
    encoder("a pickle that runs a command", evil_pickle),
    encoder("a PyTorch checkpoint that runs a command", evil_checkpoint),
    encoder("a header of 2^63 bytes", lambda _: safetensors({}, length=2**63 - 1)),
    encoder("a header longer than the file", lambda _: safetensors({}, length=90_000_000)),
    encoder("a header that is no JSON", lambda _: safetensors(b"{'a': __import__('os')}")),
    encoder("a header nested a hundred thousand deep", lambda _: safetensors(b'{"a":' * DEEP)),
    encoder("a tensor beyond the end of the file", lambda _: one("F32", [2], [0, 2**40])),
    encoder("a tensor with negative place", lambda _: one("F32", [2], [-8, 0])),
    encoder("a shape whose product overflows", lambda _: one("F32", [2**40, 2**40], [0, 8])),
    encoder("an unknown type of number", lambda _: one("PYOBJECT", [1], [0, 8])),
    encoder("a plan that is no JSON", lambda _: with_plan("__import__('os').system('touch canary')")),
    encoder("a plan nested a hundred thousand deep", lambda _: with_plan("[" * DEEP)),
    encoder("a plan with a key of its own", lambda _: with_plan(PLAN | {"__class__": "x"})),
    encoder("an empty file", lambda _: b""),
]


def network(name: str, content: Callable[[Path], bytes], says: str = "not a network of this study") -> Case:
    place = Path("targets/main/stroke/scratch/fold-0/seed-0")

    def make(folder: Path) -> None:
        (folder / place).mkdir(parents=True)
        (folder / place / "network.safetensors").write_bytes(content(folder))

    return Case(f"network: {name}", make, lambda folder: predict.read_network(folder, "scratch", "stroke"), says)


def kept_network(**changes: str) -> Callable[[Path], bytes]:
    header = {"encoder": "tf_efficientnet_lite0", "outputs": "2", "spacing": "2.0", "size": "64x64"} | changes
    return lambda _: save({"a": torch.zeros(1)}, header)


NETWORKS = [
    network("an encoder that would be downloaded", kept_network(encoder="hf-hub:someone/model")),
    network("an encoder with a path", kept_network(encoder="../../somewhere")),
    network("a thousand million outputs", kept_network(outputs="1000000000")),
    network("pictures of a million pixels a side", kept_network(size="1000000x1000000")),
    network("a grid of a thousand millionth of a millimetre", kept_network(spacing="1e-9")),
    network("a spacing that is no number", kept_network(spacing="nan")),
    network("no header", lambda _: save({"a": torch.zeros(1)})),
    network("a pickle that runs a command", evil_pickle),
]


# ------------------------------------------------------------------------------------------------------ slice stores
def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + text + data


def shaped(shape: str, descr: str = "'|u1'") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", b"\0" * 64)


def whole_store(folder: Path) -> Path:
    path = folder / "store"
    writer = StoreWriter(path, (32, 32))
    affine = np.eye(4).tolist()
    facts = {"own": {"shape": [32, 32, 2], "affine": affine, "spacing": [1, 1, 1]},
             "grid": {"shape": [32, 32, 2], "affine": affine, "outside": 0}}  # fmt: skip
    for name in ("a", "b", "c"):
        pictures = np.zeros((2, 32, 32), np.uint8)
        writer.add(pictures, pictures, subject=name, scan=name, geometry=facts)
    writer.finish({"folds": [{"train": ["a"], "validation": ["b"], "test": ["c"], "order": [["a"]]}], "stratum": {}})
    return path


def store(name: str, file: str, content: Callable[[Path], bytes], says: str = "store") -> Case:
    """A store whose manifest agrees with the hostile file: whoever forges one forges the other too."""

    def make(folder: Path) -> None:
        path = whole_store(folder)
        (path / file).write_bytes(content(folder))
        write_manifest(path, stage="prepare", key="k", parameters={}, code="c", inputs={})

    return Case(f"store: {name}", make, lambda folder: open_store(folder / "store"), says)


def evil_array(folder: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil(folder)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def scans_json(**changes: Any) -> bytes:
    grid = {"shape": [32, 32, 2], "affine": np.eye(4).tolist(), "spacing": [1, 1, 1]} | changes
    return json.dumps({"a": {"own": grid, "grid": grid}}).encode()


def torn_manifest(name: str, text: str) -> Case:
    def make(folder: Path) -> None:
        (whole_store(folder) / "manifest.json").write_text(text, encoding="utf-8")

    return Case(f"manifest: {name}", make, lambda folder: open_store(folder / "store"), "no finished slice store")


STORES = [
    store("an array with an object that runs a command", "images.npy", evil_array),
    store("an array of 2^60 bytes in a small file", "images.npy", lambda _: shaped("(1048576, 1048576, 1048576)")),
    store("an array whose size overflows", "images.npy", lambda _: shaped(f"({2**62}, {2**62}, 4)")),
    store("an array of negative size", "masks.npy", lambda _: shaped("(-1, 32, 32)")),
    store("an array whose header is code", "images.npy", lambda f: shaped(f"__import__('os').system('touch {f / CANARY}')")),
    store("an array header of 4 GB", "images.npy", lambda _: npy("{}", version=(2, 0), length=2**32 - 1)),
    store("an array of records", "images.npy", lambda _: shaped("(1,)", "[('a', '|O'), ('b', '<f8')]")),
    store("a zip archive called an array", "images.npy", lambda _: archive_bytes({"images.npy": b"x"})),
    store("masks of another size than pictures", "masks.npy", lambda _: shaped("(1, 8, 8)")),
    store("splits nested a hundred thousand deep", "splits.json", lambda _: b"[" * DEEP),
    store("splits without parts", "splits.json", lambda _: b'{"folds": [{"train": "a"}]}'),
    store("splits that name no people", "splits.json", lambda _: b'{"train": [{"a": 1}], "validation": []}'),
    store("a scan of 10^15 voxels", "scans.json", lambda _: scans_json(shape=[100_000, 100_000, 100_000])),
    store("a scan of a negative number of voxels", "scans.json", lambda _: scans_json(shape=[-1, 32, 2])),
    store("a scan with a path for a name", "scans.json", lambda _: b'{"../../canary": {}}'),
    store("a grid without end", "scans.json", lambda _: scans_json(affine=[[1e999] * 4] * 4)),
    store("a table with another number of rows", "slices.csv", lambda _: b"subject,scan,site,slice,label,foreground\n"),
    torn_manifest("outputs that are a list", '{"status": "done", "outputs": ["images.npy"]}'),
    torn_manifest("nested a hundred thousand deep", '{"status": ' * DEEP),
]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- volumes
def header(**fields: Any) -> bytes:
    """352 bytes of NIfTI-1 with these fields set to these values, whatever they are."""
    made = nib.Nifti1Header()
    made.set_data_shape((4, 4, 4))
    made.set_data_dtype(np.int16)
    made["magic"] = b"n+1"
    made["vox_offset"] = 352
    made["srow_x"], made["srow_y"], made["srow_z"] = [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]
    made["sform_code"] = 1
    for name, value in fields.items():
        made[name] = value
    return made.binaryblock + b"\0\0\0\0"


BODY = np.arange(64, dtype="<i2").tobytes()


def volume(name: str, content: Callable[[Path], bytes], file: str = "scan.nii", says: str = "scan.") -> Case:
    return Case(
        f"volume: {name}",
        lambda folder: (folder / file).write_bytes(content(folder)),
        lambda folder: volumes.read_scan(folder / file),
        says,
    )


def far_apart(folder: Path) -> object:
    scan = volumes.read_scan(folder / "scan.nii")
    return volumes.working_grid(scan, scan.data > 0, 0.5, (1024, 1024))


LAUGHS_XML = (
    b'<?xml version="1.0"?><!DOCTYPE GIFTI [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + k, b"&%c;" % (97 + k) * 10) for k in range(12))
    + b']><GIFTI Version="1.0" NumberOfDataArrays="1"><MetaData><MD><Name>&m;</Name></MD></MetaData></GIFTI>'
)
HUGE = [3, 32767, 32767, 32767, 1, 1, 1, 1]
NOTES = header(vox_offset=2**30)[:-4] + b"\1\0\0\0"
VOLUMES = [
    volume("32767 voxels a side in a small file", lambda _: header(dim=HUGE) + BODY),
    volume("32767 voxels a side, compressed", lambda _: gzip.compress(header(dim=HUGE) + BODY), "scan.nii.gz"),
    volume("seven axes of 32767", lambda _: header(dim=[7] + [32767] * 7) + BODY),
    volume("a negative side", lambda _: header(dim=[3, -4, 4, 4, 1, 1, 1, 1]) + BODY),
    volume("more axes than there can be", lambda _: header(dim=[200, 4, 4, 4, 1, 1, 1, 1]) + BODY),
    volume("a negative number of axes", lambda _: header(dim=[-7, 4, 4, 4, 1, 1, 1, 1]) + BODY),
    volume("no voxels", lambda _: header(dim=[3, 0, 4, 4, 1, 1, 1, 1]) + BODY),
    volume("a thousand volumes in one file", lambda _: header(dim=[4, 4, 4, 4, 1000, 1, 1, 1]) + BODY),
    volume("voxels that start before the file", lambda _: header(vox_offset=-1000) + BODY),
    volume("voxels that start at infinity", lambda _: header(vox_offset=np.inf) + BODY),
    volume("voxels that start nowhere", lambda _: header(vox_offset=np.nan) + BODY),
    volume("voxels that start after a gigabyte", lambda _: zeros_gz(BOMB, NOTES), "scan.nii.gz"),
    volume("a note of negative length before a bomb",
           lambda _: zeros_gz(BOMB, header(vox_offset=4096)[:-4] + b"\1\0\0\0" + struct.pack("<ii", -100, 4)), "scan.nii.gz"),
    volume("a note of two gigabytes before a bomb",
           lambda _: zeros_gz(BOMB, header(vox_offset=4096)[:-4] + b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 4)),
           "scan.nii.gz"),
    volume("a bomb: 8000 million zeros", lambda _: zeros_gz(BOMB, header(dim=[3, 2000, 2000, 2000, 1, 1, 1, 1])), "scan.nii.gz"),
    volume("an unknown type of number", lambda _: header(datatype=9999) + BODY),
    volume("colours instead of numbers", lambda _: header(datatype=128, bitpix=24) + BODY * 3),
    volume("complex numbers", lambda _: header(datatype=32, bitpix=64) + BODY * 8),
    volume("an affine without numbers", lambda _: header(srow_x=[np.nan] * 4) + BODY),
    volume("voxels of 10^30 mm", lambda _: header(srow_x=[1e30, 0, 0, 0]) + BODY),
    volume("voxels of 10^-30 mm", lambda _: header(srow_x=[1e-30, 0, 0, 0]) + BODY),
    volume("a volume at 10^30 mm", lambda _: header(srow_x=[1, 0, 0, 1e30]) + BODY),
    volume("half a compressed file", lambda _: gzip.compress(header() + BODY)[:100], "scan.nii.gz"),
    volume("not compressed, but called so", lambda _: header(), "scan.nii.gz"),
    volume("a pickle that runs a command", evil_pickle),
    volume("an array with an object that runs a command", evil_array),
    volume("a surface with entities that multiply", lambda _: LAUGHS_XML, "scan.gii"),
    volume("FreeSurfer's format with 2^31 voxels a side",
           lambda _: struct.pack(">7ih", 1, 2**31 - 1, 2**31 - 1, 2**31 - 1, 1, 4, 0, 0) + b"\0" * 300, "scan.mgh"),
    volume("Analyze with 32767 voxels a side", lambda _: header(dim=HUGE, magic=b"ni1"), "scan.hdr"),
    Case("volume: a head of a kilometre", lambda f: (f / "scan.nii").write_bytes(
        header(dim=[3, 64, 1, 1, 1, 1, 1, 1], srow_x=[99, 0, 0, 0]) + BODY), far_apart, "mm long"),
]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ pictures
def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    every = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in every)
    return b"\x89PNG\r\n\x1a\n" + body


def postscript(folder: Path) -> bytes:
    lines = [
        "%!PS-Adobe-3.0 EPSF-3.0",
        "%%BoundingBox: 0 0 10 10",
        f"(%pipe%touch {folder / CANARY}) (w) file",
        "showpage",
    ]
    return "\n".join([*lines, "%%EOF", ""]).encode()


def tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 2**31 - 1)]  # fmt: skip
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    return b"II*\0" + struct.pack("<I", 8) + body


def picture(name: str, content: Callable[[Path], bytes], says: str = "picture") -> Case:
    return Case(
        f"picture: {name}",
        lambda folder: (folder / "a.png").write_bytes(content(folder)),
        lambda folder: pictures.read_picture(folder / "a.png"),
        says,
    )


PICTURES = [
    picture("60000 pixels a side in a small file", lambda _: png(60_000, 60_000)),
    picture("9000 pixels a side in a small file", lambda _: png(9_000, 9_000)),
    picture("a bomb in its text", lambda _: png(8, 8, (b"zTXt", b"k\0\0" + zlib.compress(bytes(2**27))))),
    picture("PostScript that runs a command", postscript),
    picture("TIFF of 2^31 pixels a side", lambda _: tiff(2**31 - 1, 2**31 - 1)),
    picture("TIFF that points beyond its end", lambda _: tiff(5000, 5000)),
    picture("a pickle that runs a command", evil_pickle),
    Case("picture: a mask of 60000 pixels a side", lambda f: (f / "m.png").write_bytes(png(60_000, 60_000)),
         lambda f: pictures.read_picture_mask(f / "m.png", MaskValues(), (60_000, 60_000)), "mask"),
]  # fmt: skip


# ----------------------------------------------------------------------------------------------------- MATLAB and HDF5
TUMOURS = Recipe.model_validate({
    "name": "tumours", "title": "t", "kind": "slices", "licence": "l", "access": {"how": "own"}, "classes": {"1": "a"},
    "patterns": {"image": ["{sample}.mat"]}, "matlab": {"image": "i", "mask": "m", "label": "l", "person": "p"},
})  # fmt: skip


def hdf5(name: str, image: Callable[[Any, Path], object]) -> Case:
    def make(folder: Path) -> None:
        (folder / "secret.bin").write_bytes(b"s" * 4096)
        with h5py.File(folder / "other.mat", "w") as other:
            other["i"] = np.ones((8, 8))
        with h5py.File(folder / "a.mat", "w") as file:
            image(file, folder)
            file["m"], file["l"], file["p"] = np.ones((8, 8)), np.ones(1), np.array([65], np.uint16)

    return Case(f"MATLAB: {name}", make, lambda f: matlab.read_matlab_slice(TUMOURS, f / "a.mat"), "a.mat")


def _link(file: Any, folder: Path) -> None:
    file["i"] = h5py.ExternalLink(str(folder / "other.mat"), "i")


def _outside(file: Any, folder: Path) -> None:
    file.create_dataset("i", (64, 64), "u1", external=[(str(folder / "secret.bin"), 0, 4096)])


def _virtual(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((8, 8), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.mat"), "i", (8, 8))
    file.create_virtual_dataset("i", layout)


MATLAB = [
    hdf5("a link to another file", _link),
    hdf5("numbers that lie in any file of the reader's", _outside),
    hdf5("numbers put together from other files", _virtual),
    hdf5("10^12 numbers that were never written", lambda f, _: f.create_dataset("i", (10**6, 10**6), "f8", chunks=(100, 100))),
    hdf5("text for a picture", lambda f, _: f.create_dataset("i", (8, 8), h5py.string_dtype())),
    hdf5("a folder for a picture", lambda f, _: f.create_group("i")),
    hdf5("a link to itself", lambda f, _: f.__setitem__("i", h5py.SoftLink("/i"))),
    Case("MATLAB: a pickle that runs a command", lambda f: (f / "a.mat").write_bytes(evil_pickle(f)),
         lambda f: matlab.read_matlab_slice(TUMOURS, f / "a.mat"), "a.mat"),
    Case("MATLAB: a development kit of forged sizes", lambda f: kit(f, b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack(
        "<II", 14, 2**31 - 1) + b"\xff" * 64), lambda f: _read_devkit(f), "development kit"),
    Case("MATLAB: a development kit with a bomb", lambda f: kit(f, b"MATLAB 5.0".ljust(124) + b"\0\1IM" + compressed_matrix()),
         lambda f: _read_devkit(f), "development kit"),
]  # fmt: skip


def kit(folder: Path, content: bytes) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "meta.mat").write_bytes(content)


def compressed_matrix() -> bytes:
    packed = zlib.compress(struct.pack("<II", 14, 2**31 - 8) + bytes(2**20))
    return struct.pack("<II", 15, len(packed)) + packed


# ------------------------------------------------------------------------------------------- tables, annotations, recipes
def recipe_of(place: Path, **changes: Any) -> Recipe:
    values = {"name": "mine", "title": "t", "kind": "volumes", "licence": "l", "access": {"how": "own"},
              "patterns": {"image": ["{subject}.nii"]}} | changes  # fmt: skip
    (place / "mine").mkdir(exist_ok=True)
    (place / "mine" / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_recipe("mine", place)


def recipe(name: str, says: str = "recipe.yaml", text: str | bytes = "", **changes: Any) -> Case:
    def make(folder: Path) -> None:
        (folder / "mine").mkdir()
        content = text if isinstance(text, bytes) else text.replace("CANARY", str(folder / CANARY)).encode()
        (folder / "mine" / "recipe.yaml").write_bytes(content)

    if text:
        return Case(f"recipe: {name}", make, lambda folder: load_recipe("mine", folder), says)
    return Case(f"recipe: {name}", lambda folder: None, lambda folder: recipe_of(folder, **changes), says)


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 8))


def named_scan(folder: Path) -> object:
    (folder / "mine").mkdir()
    (folder / "mine" / "p1.nii").write_bytes(header() + BODY)
    return scan_files(recipe_of(folder, volume={"person": "../../canary_{subject}"}), folder)


def coco(name: str, content: bytes) -> Case:
    def act(folder: Path) -> object:
        made = recipe_of(folder, kind="images", patterns={"image": ["{sample}.jpg"], "coco": "all.json"})
        (folder / "mine" / "a.jpg").write_bytes(png(8, 8))
        (folder / "mine" / "all.json").write_bytes(content)
        return [pictures.read_source_image(made, item, 32) for item in picture_files(made, folder)]

    return Case(f"annotations: {name}", lambda folder: None, act, "")


def drawn(**changes: Any) -> bytes:
    image = {"id": 1, "file_name": "a.jpg", "width": 8, "height": 8}
    item = {"image_id": 1, "category_id": 1, "area": 1, "iscrowd": 0, "segmentation": [[0, 0, 8, 0, 8, 8]]} | changes
    return json.dumps({"categories": [{"id": 1, "name": "x"}], "images": [image], "annotations": [item]}).encode()


def table(name: str, content: bytes) -> Case:
    return Case(f"table: {name}", lambda f: (f / "t.csv").write_bytes(content),
                lambda f: read_table(f / "t.csv", ",", ["subject"]), "t.csv")  # fmt: skip


TEXTS = [
    recipe("a tag that runs a command", text="name: mine\ntitle: !!python/object/apply:os.system ['touch CANARY']\n"),
    recipe("a tag that makes an object", text="name: mine\ntitle: !!python/name:os.system\n"),
    recipe("anchors that multiply", "anchors", text="name: mine\n" + LAUGHS),
    recipe("an anchor that holds itself", "anchors", text="name: mine\ntitle: &a [*a]\n"),
    recipe("lists ten thousand deep", "deep", text="name: mine\ntitle: " + "[" * 10_000),
    recipe("a number of five thousand digits", text="name: mine\nfolder: " + "9" * 5000),
    recipe("two megabytes", "larger", text="name: mine\n" + "#" * 2**21),
    recipe("no text", text=b"\xff\xfe\0\0name"),
    recipe("a folder above the data", "folder", folder="../../etc"),
    recipe("a folder from the root", "folder", folder="/etc"),
    recipe("a folder of the reader's home", "folder", folder="~/.ssh"),
    recipe("a pattern that leads out", "patterns", patterns={"image": ["../*/{subject}.nii"]}),
    recipe("a mask that leads out", "patterns", patterns={"image": ["{subject}.nii"], "mask": "a/../../{subject}.nii"}),
    recipe("a table that leads out", "people", people={"file": "../../participants.tsv"}),
    recipe("a download from this machine's disk", "url", access={"how": "open", "files": [{"url": "file:///etc/passwd", "md5": "0"}]}),
    recipe("a download that is called ..", "access.files", access={"how": "open", "files": [{"url": "https://example.org/..", "md5": "0"}]}),
    recipe("a class whose name is a list", "classes", classes={"a": ["b"]}),
    Case("recipe: people whose names are paths", lambda folder: None, named_scan, "name of a file"),
    coco("nested a hundred thousand deep", b"[" * DEEP),
    coco("runs that overflow", drawn(segmentation={"counts": [2**40, 1], "size": [8, 8]})),
    coco("runs of negative length", drawn(segmentation={"counts": [-8, 72], "size": [8, 8]})),
    coco("outlines without end", drawn(segmentation=[[0, 0, 1e39, 0, 8, "x"]])),
    table("a field of a megabyte", b"subject\n" + b"x" * 2**20 + b"\n"),
    table("bytes that are no text", b"subject\n\xff\xfe\xfd\n"),
]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ archives
def archive_bytes(files: dict[str, bytes], links: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16 if links else 0o644 << 16
            packed.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tar_bytes(*members: tarfile.TarInfo, content: bytes = b"", mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as packed:  # type: ignore[call-overload]
        for member in members:
            member.size = len(content) if member.isreg() else 0
            packed.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("zeros", "w", force_zip64=True) as file,
    ):
        for _ in range(BOMB // 2**20):
            file.write(bytes(2**20))
    return buffer.getvalue()


def tar_with(kind: bytes, size: int) -> bytes:
    """The head of a member of some kind that says how large it is; what follows are zeros."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def archive(name: str, file: str, content: Callable[[], bytes], says: str = "") -> Case:
    return Case(
        f"archive: {name}",
        lambda folder: (folder / file).write_bytes(content()),
        lambda folder: downloads.unpack(folder / file, folder / "out" / "in"),
        says or file,
    )


def unpack_little(folder: Path) -> None:
    """As `unpack` does, with little allowed: the real limit is two hundred thousand files, too many for a test."""
    with mock.patch.object(downloads, "MOST_AT_LEAST", 2**20):
        downloads.unpack(folder / "a.tar.gz", folder / "out" / "in")


OUT = "../../../canary"
ARCHIVES = [
    archive("zip, a path upwards", "a.zip", lambda: archive_bytes({OUT: b"x"}), "leave the folder"),
    archive("zip, a path from the root", "a.zip", lambda: archive_bytes({"/tmp/canary": b"x"}), "leave the folder"),
    archive("zip, a path of Windows", "a.zip", lambda: archive_bytes({"..\\..\\canary": b"x"}), "leave the folder"),
    archive("zip, a drive of Windows", "a.zip", lambda: archive_bytes({"C:\\canary": b"x"}), "leave the folder"),
    archive("zip, a link", "a.zip", lambda: archive_bytes({"a": b"/etc/passwd"}, links=True), "link"),
    archive("zip, a bomb", "a.zip", zip_bomb, "unpacks to more"),
    archive("zip, cut in half", "a.zip", lambda: archive_bytes({"a": bytes(1000)})[:60]),
    archive("tar, a path upwards", "a.tar", lambda: tar_bytes(member(OUT), content=b"x"), "leave the folder"),
    archive("tar, a path from the root", "a.tar", lambda: tar_bytes(member("/tmp/canary"), content=b"x"), "leave the folder"),
    archive("tar, a link and a file through it", "a.tar",
            lambda: tar_bytes(member("a", tarfile.SYMTYPE, "/tmp"), member("a/canary"), content=b"x"), "link"),
    archive("tar, a hard link", "a.tar", lambda: tar_bytes(member("a", tarfile.LNKTYPE, "/etc/passwd")), ""),
    archive("tar, a device", "a.tar", lambda: tar_bytes(member("a", tarfile.CHRTYPE)), "link"),
    archive("tar, a pipe that would never end", "a.tar", lambda: tar_bytes(member("a", tarfile.FIFOTYPE)), "link"),
    archive("tar, a file that says 8 GB", "a.tar", lambda: tar_with(tarfile.REGTYPE, 8 * 2**30 - 1)),
    archive("tar.gz, a bomb", "a.tar.gz", lambda: zeros_gz(BOMB, tar_with(tarfile.REGTYPE, BOMB)), "unpacks to more"),
    archive("tar.gz, a bomb in the notes", "a.tar.gz", lambda: zeros_gz(BOMB, tar_with(tarfile.XHDTYPE, BOMB))),
    archive("tar.gz, a bomb in a long name", "a.tar.gz", lambda: zeros_gz(BOMB, tar_with(tarfile.GNUTYPE_LONGNAME, BOMB))),
    archive("tar.bz2, a bomb in the notes", "a.tar.bz2",
            lambda: bz2.compress(tar_with(tarfile.XHDTYPE, BOMB) + bytes(64 * 2**20))),
    Case("archive: tar.gz, many empty files", lambda f: (f / "a.tar.gz").write_bytes(
        gzip.compress(tar_with(tarfile.REGTYPE, 0) * 4000)), unpack_little, "unpacks to more"),
    archive("tar, a negative size", "a.tar", lambda: tar_with(tarfile.REGTYPE, 0).replace(b"00000000000\0", b"\xff" * 12, 1)),
    archive("neither tar nor zip", "a.tar", lambda: b"#!/bin/sh\ntouch canary\n"),
]  # fmt: skip


# -------------------------------------------------------------------------------------------------- parameters, profiles
#: What a shell, a path or a terminal would make something of.
WORDS = ("x; touch canary", "$(touch canary)", "`touch canary`", "../../canary", "/tmp/canary", "-rf", "a b", "x\ntouch canary",
         "\x1b]0;canary\x07", "x\0y", "'; touch canary; '", "")  # fmt: skip
PREPARE: dict[str, Any] = {"dataset": "stroke", "recipe": "simulated_stroke", "role": "target", "target": "stroke",
                           "size": [64, 64], "spacing": 2.0, "subjects": 3}  # fmt: skip
FINETUNE: dict[str, Any] = {"source": "scratch", "target": "stroke", "seeds": [0], "folds": [0], "steps": 1, "batch": 1,
                            "learning_rate": 0.001, "crop": 32}  # fmt: skip


def parameter(stage: str, key: str, word: Any) -> Case:
    values = {"prepare": PREPARE, "finetune": FINETUNE}[stage] | {key: word}
    act = lambda folder: settings.read_parameters(stage, values)  # noqa: E731
    return Case(f"parameter: {stage}.{key} = {word!r}", lambda folder: None, act, key)


def profile(name: str, change: Callable[[str, Path], str], says: str = "bad.yaml") -> Case:
    tiny = Path(__file__).parents[2] / "notebooks" / "profiles" / "tiny.yaml"

    def make(folder: Path) -> None:
        (folder / "bad.yaml").write_text(change(tiny.read_text(encoding="utf-8"), folder), encoding="utf-8")

    return Case(f"profile: {name}", make, lambda folder: settings.read_profile(str(folder / "bad.yaml")), says)


PARAMETERS = [parameter("prepare", "dataset", word) for word in WORDS]
PARAMETERS += [parameter("prepare", "recipe", word) for word in WORDS[:4]]
PARAMETERS += [parameter("finetune", "profile", word) for word in WORDS[:4]]
PARAMETERS += [
    parameter("finetune", "encoder", "hf-hub:someone/model"),
    parameter("finetune", "arm", "main; touch canary"),
    parameter("finetune", "steps", 10**400),
    parameter("finetune", "crop", 2**20),
    parameter("prepare", "size", [2**20, 2**20]),
    parameter("prepare", "spacing", 1e-9),
    parameter("finetune", "showcase", "../../canary"),
    profile("a tag that runs a command", lambda t, f: t + f"seed: !!python/object/apply:os.system ['touch {f / CANARY}']\n"),
    profile("anchors that multiply", lambda t, f: "\n".join(LAUGHS.splitlines()[:1]) + "\n" + t, "anchors"),
    profile("an anchor that grows when it is shown", lambda t, f: LAUGHS + t.replace("title: ", "title: *a7 #"), "anchors"),
    profile("a name that is a command", lambda t, f: t + "name: 'x; touch canary'\n", "name"),
    profile("a name that is a path", lambda t, f: t + "name: ../../canary\n", "name"),
    profile("a recipe that is a path", lambda t, f: t.replace("simulated_ms", "../../canary"), "recipe"),
    profile("an encoder to be downloaded", lambda t, f: t.replace("tf_efficientnet_lite0", "hf-hub:someone/model"), "encoder"),
    profile("a data set to show that is a path", lambda t, f: t + "showcase: {../x: {recipe: a, target: ms}}\n", "showcase"),
    Case("cells: a command", lambda f: None, lambda f: plan.parse_cells(
        settings.read_profile("tiny"), "stroke:scratch; touch canary"), "--only"),
    Case("cells: a path", lambda f: None, lambda f: plan.parse_cells(
        settings.read_profile("tiny"), "../../canary:scratch"), "--only"),
]  # fmt: skip

CASES = [*ENCODERS, *NETWORKS, *STORES, *VOLUMES, *PICTURES, *MATLAB, *TEXTS, *ARCHIVES, *PARAMETERS]

#: Words of the command line, as a user (or a script that passes on a name from elsewhere) would give them.
COMMANDS = [
    ["run", "--profile", "$(touch canary)"],
    ["run", "--profile", "../../etc/passwd"],
    ["run", "--profile", "x\ntouch canary"],
    ["run", "--profile", "tiny", "--only", "stroke:scratch; touch canary"],
    ["run", "--profile", "tiny", "--data", "$(touch canary)"],
    ["run", "--profile", "tiny", "--data", "/no/such; touch canary"],
    ["status", "--profile", "`touch canary`"],
    ["verify", "../../nowhere; touch canary"],
    ["verify", "\x1b]0;canary\x07"],
    ["book", "--profile", "../../canary"],
    ["data", "check", "../../canary"],
    ["data", "get", "$(touch canary)", "--data", "here"],
    ["prove", "metrics; touch canary"],
    ["predict", "../../nowhere", "$(touch canary)", "--target", "stroke"],
    ["predict", "tiny", "a.nii", "--target", "../../canary"],
]
