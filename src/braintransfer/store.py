"""The slice store: a data set as memory-mapped uint8 slices, a table of who and where, and splits written once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintransfer.errors import BadInput
from braintransfer.provenance import atomic_write_json, atomic_write_text, content_digest, read_manifest
from braintransfer.untrusted import MOST_VOXELS, name_of_one

COLUMNS = ["subject", "scan", "site", "slice", "label", "foreground"]


def may_be_shown(facts: Mapping[str, Any]) -> bool:
    """Whether the licence lets pictures of a data set be shown. facts: of its store, whose `publish` the recipe says."""
    return facts.get("publish") in ("pictures", "volumes")


class TestSubjectsLocked(RuntimeError):
    """Someone tried to open test subjects before the final scoring."""

    __test__ = False  # not a pytest class


class StoreWriter:
    """Writes a store slice by slice, so that a data set of any size needs the memory of one scan.

    shape: (H, W) for grey slices or (H, W, 3) for colour pictures; masks are always (H, W).
    """

    def __init__(self, path: Path, shape: Sequence[int]) -> None:
        self.path = path
        self.shape = tuple(shape)
        path.mkdir(parents=True, exist_ok=True)
        self._images = self._start("images.npy", self.shape)
        self._masks = self._start("masks.npy", self.shape[:2])
        self._rows: list[dict[str, Any]] = []
        self._scans: dict[str, dict[str, Any]] = {}

    def _start(self, name: str, shape: tuple[int, ...]) -> Any:
        file = (self.path / name).open("wb+")
        self._header(file, shape, 0)
        return file

    @staticmethod
    def _header(file: Any, shape: tuple[int, ...], n: int) -> None:
        # NumPy pads its header so that the first axis can grow in place: the same number of bytes for every n
        file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
        np.lib.format.write_array_header_1_0(file, header)

    def add(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        *,
        subject: str,
        scan: str,
        site: str = "",
        slices: Sequence[int] | None = None,
        label: str = "",
        geometry: Mapping[str, Any] | None = None,
    ) -> None:
        """Append slices of one scan (or one picture): images (n, H, W[, 3]) uint8, masks (n, H, W) uint8.

        slices: index of each slice in the working grid. geometry: JSON-able facts about the scan (grids, age, notes).
        """
        if images.shape[1:] != self.shape or masks.shape != (len(images), *self.shape[:2]):
            raise ValueError(
                f"{scan}: slices {images.shape} and masks {masks.shape} do not fit a store of {self.shape}"
            )
        if images.dtype != np.uint8 or masks.dtype != np.uint8:
            raise ValueError(f"{scan}: a store holds uint8, not {images.dtype} and {masks.dtype}")
        self._images.write(np.ascontiguousarray(images).tobytes())
        self._masks.write(np.ascontiguousarray(masks).tobytes())
        foreground = (masks > 0).sum(axis=(1, 2))
        for k in range(len(images)):
            place = k if slices is None else int(slices[k])
            row = {"subject": subject, "scan": scan, "site": site, "slice": place, "label": label}
            self._rows.append({**row, "foreground": int(foreground[k])})
        if geometry is not None:
            self._scans[scan] = dict(geometry)

    def finish(self, splits: Mapping[str, Any]) -> pd.DataFrame:
        """Close the arrays and write tables and splits. The stage's manifest, which makes it a store, comes after."""
        for file, shape in ((self._images, self.shape), (self._masks, self.shape[:2])):
            self._header(file, shape, len(self._rows))
            file.close()
        table = pd.DataFrame(self._rows, columns=COLUMNS)
        atomic_write_text(self.path / "slices.csv", table.to_csv(index=False, lineterminator="\n"))
        atomic_write_json(self.path / "scans.json", self._scans)
        atomic_write_json(self.path / "splits.json", splits)
        return table


@dataclass(frozen=True)
class Store:
    """A finished store, opened for reading. Arrays stay on disk; only the rows asked for are read."""

    path: Path
    slices: pd.DataFrame
    scans: dict[str, dict[str, Any]]
    splits: dict[str, Any]
    facts: dict[str, Any]
    _images: np.ndarray = field(repr=False)
    _masks: np.ndarray = field(repr=False)
    _open: dict[str, bool] = field(default_factory=lambda: {"test": False}, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one picture: (H, W) or (H, W, 3)."""
        return tuple(self._images.shape[1:])

    @property
    def digest(self) -> str:
        """Digest of everything that the store holds."""
        return content_digest(self.path)

    @contextmanager
    def final_scoring(self) -> Iterator[None]:
        """Only inside this block may test subjects be read."""
        self._open["test"] = True
        try:
            yield
        finally:
            self._open["test"] = False

    def rows(self, subjects: Sequence[str], *, fold: int | None = None) -> np.ndarray:
        """Rows (int64) of these subjects, in store order. Raises TestSubjectsLocked for test subjects of `fold`."""
        wanted = set(subjects)
        if fold is not None and not self._open["test"]:
            locked = wanted & set(self.splits["folds"][fold]["test"])
            if locked:
                raise TestSubjectsLocked(f"{self.path.name}: {sorted(locked)[0]} is a test subject of fold {fold}")
        return np.flatnonzero(self.slices["subject"].isin(wanted).to_numpy())

    def load(self, rows: np.ndarray, *, fold: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images (n, H, W[, 3]) and masks (n, H, W) of these rows, uint8, copied into memory.

        A target's store wants the fold, and refuses its test subjects outside `final_scoring`.
        """
        if "folds" in self.splits and not self._open["test"]:
            if fold is None:
                raise TestSubjectsLocked(
                    f"{self.path.name}: say which fold is being trained, so that its test people stay shut"
                )
            test = set(self.splits["folds"][fold]["test"])
            touched = set(self.slices["subject"].to_numpy()[rows]) & test
            if touched:
                raise TestSubjectsLocked(f"{self.path.name}: {sorted(touched)[0]} is a test subject of fold {fold}")
        return self._images[rows], self._masks[rows]

    def subjects(self, part: str, fold: int = 0) -> list[str]:
        """Subjects of `part` (train | validation | test) of a target's fold, or of a source (train | validation)."""
        return list(self.splits["folds"][fold][part] if "folds" in self.splits else self.splits[part])

    def training_subset(self, fold: int, seed: int, n: int) -> list[str]:
        """The first `n` training subjects in the order that belongs to `seed`; 0 takes all. Subsets are nested in n."""
        order = self.splits["folds"][fold]["order"]
        chosen = order[seed % len(order)]
        if n > len(chosen):
            raise BadInput(
                f"{self.path}: n_train = {n}, but fold {fold} has {len(chosen)} training subjects; ask for fewer"
            )
        return list(chosen[:n] if n else chosen)


def open_store(path: Path) -> Store:
    """Open a finished store. BadInput, one line, when it is missing, torn or not what its manifest says."""
    manifest = read_manifest(path)
    if manifest is None:
        raise BadInput(
            f"no finished slice store at {path}; make it with `braintransfer run` or `papermill notebooks/prepare.ipynb`"
        )
    try:
        images = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
        masks = np.load(path / "masks.npy", mmap_mode="r", allow_pickle=False)
        slices = pd.read_csv(
            path / "slices.csv", dtype={"subject": str, "scan": str, "site": str, "label": str}, keep_default_na=False
        )
        scans = json.loads((path / "scans.json").read_text(encoding="utf-8"))
        splits = json.loads((path / "splits.json").read_text(encoding="utf-8"))
        _check_splits(splits)
        _check_scans(scans)
    except Exception as error:  # whatever a torn or forged file makes its reader raise
        raise BadInput(
            f"{path}: the slice store is torn ({error}); delete this folder and run `prepare` again"
        ) from None
    if not len(images) == len(masks) == len(slices) or images.dtype != np.uint8 or masks.shape[1:] != images.shape[1:3]:
        raise BadInput(
            f"{path}: images, masks and slices.csv do not fit together; delete this folder and run `prepare` again"
        )
    return Store(path, slices, scans, splits, manifest.get("facts", {}), images, masks)


def _check_splits(splits: dict[str, Any]) -> None:
    """ValueError, TypeError or KeyError unless these are the splits of a target or of a source."""
    folds = splits.get("folds", [splits])
    parts = [part for fold in folds for name in ("train", "validation", "test") for part in fold.get(name, [])]
    wanted = ("train", "validation", "test", "order") if "folds" in splits else ("train", "validation")
    if not folds or any(not isinstance(fold[name], list) for fold in folds for name in wanted):
        raise ValueError("splits.json names no parts")
    if any(not isinstance(part, str) for part in parts):
        raise ValueError("splits.json holds what is no name")


def _check_scans(scans: dict[str, dict[str, Any]]) -> None:
    """ValueError, TypeError or KeyError unless every grid is one that a scan can have."""
    for name, facts in scans.items():
        name_of_one(name)
        for grid in (facts[key] for key in ("own", "grid") if key in facts):
            shape, affine = grid["shape"], np.asarray(grid["affine"], dtype=float)
            if len(shape) != 3 or any(type(n) is not int or n < 1 for n in shape) or math.prod(shape) > MOST_VOXELS:
                raise ValueError(f"scans.json gives {name} the shape {shape}")
            if affine.shape != (4, 4) or not np.isfinite(affine).all():
                raise ValueError(f"scans.json gives {name} no affine")


# -------------------------------------------------------------------------------------------------------------- splits
def target_folds(
    subjects: Sequence[str],
    *,
    folds: int,
    n_validation: int,
    rng: np.random.Generator,
    strata: Sequence[Any] | None = None,
    sites: Sequence[str] | None = None,
    n_test: int = 0,
    orders: int = 16,
) -> dict[str, Any]:
    """K folds by subject: train, validation, test, and one order of the training subjects for each seed.

    strata: one value a subject (an age group, say); every part and every prefix of an order mixes them as evenly as it
    can. sites: subjects of one site stay together when there are at least as many sites as folds.
    n_test: keep only so many test subjects of a fold (0: all); the rest takes no part in that fold.
    """
    subjects = [str(s) for s in subjects]
    if len(set(subjects)) != len(subjects):
        raise ValueError("each subject must be named once")
    kinds = [str(s) for s in strata] if strata is not None else [""] * len(subjects)
    stratum = dict(zip(subjects, kinds, strict=True))
    whole_sites = sites is not None and len(set(sites)) >= max(folds, 2)
    assigned: dict[str, int] = {}
    if whole_sites and sites is not None:
        names = sorted(set(sites))
        rng.shuffle(names)
        site_of = dict(zip(subjects, sites, strict=True))
        by_size = sorted(names, key=lambda n: -sum(site_of[s] == n for s in subjects))
        load = [0] * folds
        for name in by_size:
            fold = int(np.argmin(load))
            members = [s for s in subjects if site_of[s] == name]
            assigned.update(dict.fromkeys(members, fold))
            load[fold] += len(members)
    else:
        k = 0
        for kind in sorted(set(kinds)):
            members = sorted(s for s in subjects if stratum[s] == kind)
            rng.shuffle(members)
            for subject in members:
                assigned[subject] = k % folds
                k += 1
    result = []
    for fold in range(folds):
        test = sorted(s for s in subjects if assigned[s] == fold) if folds > 1 else []
        rest = _mixed([s for s in subjects if s not in set(test)], stratum, rng)
        validation, train = sorted(rest[:n_validation]), sorted(rest[n_validation:])
        if folds > 1 and (not train or not test):
            raise BadInput(
                f"{len(subjects)} subjects are too few for {folds} folds with {n_validation} for validation; give more subjects or fewer folds"
            )
        if n_test:
            test = sorted(_mixed(test, stratum, rng)[:n_test])
        order = [_mixed(train, stratum, rng) for _ in range(orders)]
        result.append({"train": train, "validation": validation, "test": test, "order": order})
    return {"folds": result, "stratum": stratum if strata is not None else {}}


def _mixed(subjects: Sequence[str], stratum: Mapping[str, str], rng: np.random.Generator) -> list[str]:
    """The subjects shuffled so that every prefix holds the strata in their proportions (the rarest comes early)."""
    groups = {}
    for kind in sorted({stratum[s] for s in subjects}):
        members = sorted(s for s in subjects if stratum[s] == kind)
        rng.shuffle(members)
        groups[kind] = members
    places = []
    for kind, members in groups.items():
        # a stratum's i-th of m members stands at (i + 1/2) / m of the way; rarer ones first among equals
        places += [((i + 0.5) / len(members), len(members), kind, s) for i, s in enumerate(members)]
    return [s for *_, s in sorted(places)]
