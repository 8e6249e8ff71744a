"""Coverage-guided fuzzing of the readers of files that others made.

    python tests/robustness/fuzz.py --seconds 600 [--seed 0] [READER ...]

A file is changed a little, at random, and read. One that reaches a line of a reader that no file reached before is kept and
changed further. Each must be read, or refused with BadInput; anything else, a file that takes more than `SLOW` seconds
or one that needs more than `MOST_MB` is a finding: it is named, and kept in the folder `fuzz-findings`.
"""

from __future__ import annotations

import argparse
import gzip
import io
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import hostile
import numpy as np
from PIL import Image

from braintransfer import transfer, volumes
from braintransfer.errors import BadInput
from braintransfer.provenance import write_manifest
from braintransfer.recipes import downloads, matlab, pictures
from braintransfer.recipes.files import read_table
from braintransfer.recipes.picture_sets import picture_files
from braintransfer.recipes.schema import load_recipe
from braintransfer.store import open_store

SLOW, MOST_MB = 10.0, 400
#: Whose lines count: ours, and those of the readers in Python that ours lean on.
TRACED = ("/braintransfer/", "/nibabel/", "/yaml/", "/PIL/", "/numpy/lib/", "tarfile.py", "zipfile.py")
INTERESTING = [
    0,
    1,
    2,
    4,
    16,
    127,
    128,
    255,
    256,
    348,
    32767,
    32768,
    65535,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
]


@dataclass(frozen=True)
class Reader:
    """A name, some good files, where one lies in a folder, and what reads it there."""

    name: str
    seeds: tuple[bytes, ...]
    file: str
    read: Callable[[Path], object]
    prepare: Callable[[Path], object] = field(default=lambda folder: None)
    packed: bool = False


@dataclass(frozen=True)
class Finding:
    """A file that was neither read nor refused."""

    reader: str
    what: str
    content: bytes


# ------------------------------------------------------------------------------------------------------------- readers
def _saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, kind)
    return buffer.getvalue()


def _hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["i"], file["m"], file["l"] = np.ones((8, 8)), np.ones((8, 8)), np.ones(1)
        file["p"] = np.array([65], np.uint16)
    return buffer.getvalue()


def _store(name: str) -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return ((hostile.whole_store(Path(folder)) / name).read_bytes(),)


def _open_store(folder: Path) -> object:
    write_manifest(folder / "store", stage="prepare", key="k", parameters={}, code="c", inputs={})
    return open_store(folder / "store")


def _pictures_of(folder: Path) -> object:
    made = hostile.recipe_of(folder, kind="images", patterns={"image": ["{sample}.jpg"], "coco": "all.json"})
    return [pictures.read_source_image(made, item, 32) for item in picture_files(made, folder)]


def _one_picture(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "a.jpg").write_bytes(_saved("PNG"))


def _mine(folder: Path) -> None:
    (folder / "mine").mkdir()


def _unpack(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        downloads.unpack(folder / "archive", Path(out) / "in")


def _recipe() -> bytes:
    return b"name: mine\ntitle: t\nkind: volumes\nlicence: l\naccess: {how: own}\npatterns:\n  image: ['{subject}.nii']\nlabels: {1: 1}\n"


def readers() -> dict[str, Reader]:
    tars = tuple(hostile.tar_bytes(hostile.member(n), content=b"x" * 600) for n in ("a/b", "x" * 150))
    store_parts = [
        Reader(f"store {name}", _store(name), f"store/{name}", _open_store, hostile.whole_store)
        for name in ("images.npy", "scans.json", "splits.json", "slices.csv")
    ]
    every = [
        Reader("volume", (hostile.header() + hostile.BODY,), "a.nii", lambda f: volumes.read_scan(f / "a.nii")),
        Reader("packed volume", (hostile.header() + hostile.BODY,), "a.nii.gz", lambda f: volumes.read_scan(f / "a.nii.gz"), packed=True),
        Reader("mask", (hostile.header() + hostile.BODY,), "a.nii", lambda f: volumes.read_mask(f / "a.nii")),
        Reader("picture", (_saved("PNG"), _saved("JPEG"), _saved("TIFF"), _saved("GIF")), "a.png", lambda f: pictures.read_picture(f / "a.png")),
        Reader("MATLAB", (_hdf5(),), "a.mat", lambda f: matlab.read_matlab_slice(hostile.TUMOURS, f / "a.mat")),
        Reader("encoder", (hostile.with_plan(hostile.PLAN),), "a.safetensors", lambda f: transfer.load_encoder(f / "a.safetensors")),
        Reader("recipe", (_recipe(),), "mine/recipe.yaml", lambda f: load_recipe("mine", f), _mine),
        Reader("annotations", (hostile.drawn(),), "mine/all.json", _pictures_of, _one_picture),
        Reader("table", (b"subject,age\np1,30\np2,\n",), "t.csv", lambda f: read_table(f / "t.csv", ",", ["subject"])),
        Reader("archive", (hostile.archive_bytes({"a/b": b"x" * 99}), *tars, gzip.compress(tars[0])), "archive", _unpack),
        *store_parts,
    ]  # fmt: skip
    return {reader.name: reader for reader in every}


# ------------------------------------------------------------------------------------------------------------ mutation
def changed(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The content with one to eight small changes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 2:
            width = rng.choice((1, 2, 4, 8))
            value = rng.choice(INTERESTING) * rng.choice((1, 1, 1, -1)) & (256**width - 1)
            data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 3:
            del data[at : at + rng.choice((1, 4, 16, 64))]
        elif kind == 4:
            data[at:at] = data[at : at + rng.choice((1, 4, 16, 64))]
        elif kind == 5:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            data[at : at + 32] = other[start : start + 32]
        else:
            data[at:at] = rng.choice(
                (b"[", b"{", b'"', b"\0", b"../", b"-1", b"1e999", b"&a *a ", b"!!python/name:os ")
            )
    return bytes(data[:100_000])


class Lines:
    """The lines of the traced files that were reached while it was on."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self._traced: dict[str, bool] = {}

    def __enter__(self) -> None:
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in self._traced:
            self._traced[name] = any(part in name for part in TRACED)
        return self._line if self._traced[name] else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.seen.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


def _peak_kb() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def fuzz(
    reader: Reader, rng: random.Random, *, executions: int = 0, seconds: float = 0.0
) -> tuple[list[Finding], int, int]:
    """Findings (one of a kind), how many files were read, and how many lines they reached."""
    findings: dict[str, Finding] = {}
    corpus, reached = list(reader.seeds), Lines()
    start, done = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place)
        reader.prepare(folder)
        while done < executions if executions else time.monotonic() - start < seconds:
            content = corpus[done] if done < len(reader.seeds) else changed(rng.choice(corpus), corpus, rng)
            (folder / reader.file).write_bytes(gzip.compress(content, 1) if reader.packed else content)
            before, kb, began, what = len(reached.seen), _peak_kb(), time.monotonic(), ""
            try:
                with reached:
                    reader.read(folder)
            except BadInput as error:
                what = "" if str(error).isprintable() else "a line that steers the terminal"
            except Exception as error:
                what = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            if time.monotonic() - began > SLOW:
                what = f"took more than {SLOW:.0f} s"
            if _peak_kb() - kb > MOST_MB * 1024:
                what = f"needed more than {MOST_MB} MB"
            if what:
                findings.setdefault(what.split(":")[0], Finding(reader.name, what, content))
            if len(reached.seen) > before and done >= len(reader.seeds):
                corpus.append(content)
            done += 1
    return list(findings.values()), done, len(reached.seen)


def main() -> int:
    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing of the readers.")
    parser.add_argument("--seconds", type=float, default=600, help="in all, shared by the readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("readers", nargs="*", help="all, where none is named")
    given = parser.parse_args()
    every = readers()
    unknown = [name for name in given.readers if name not in every]
    if unknown:
        parser.error(f"no reader {unknown[0]}; there are: {', '.join(every)}")
    chosen = [every[name] for name in given.readers or every]
    bad = 0
    for reader in chosen:
        found, done, lines = fuzz(reader, random.Random(given.seed), seconds=given.seconds / len(chosen))
        print(f"{reader.name:<20}{done:>7} files, {lines:>5} lines reached, {len(found)} findings", flush=True)
        for number, finding in enumerate(found):
            Path("fuzz-findings").mkdir(exist_ok=True)
            kept = Path("fuzz-findings") / f"{reader.name.replace(' ', '-')}-{number}"
            kept.write_bytes(finding.content)
            print(f"  {finding.what}  ({kept})")
        bad += len(found)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
