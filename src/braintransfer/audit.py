"""The leak audit: every data set of a run searched for people, sessions, sites, masks and pictures on both sides."""

from __future__ import annotations

import io
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from braintransfer.errors import BadInput
from braintransfer.near_duplicates import CHUNK, COARSE, DISGUISES, LIMIT, Pictures, fingerprints, search
from braintransfer.provenance import (
    MANIFEST,
    atomic_write_bytes,
    code_hash,
    only_writer,
    project_root,
    read_manifest,
    stage_key,
    write_manifest,
    write_table,
)
from braintransfer.settings import AuditSettings
from braintransfer.store import Store, may_be_shown, open_store

COLUMNS = ["kind", "A", "part A", "B", "part B", "compared", "found", "nearest", "names", "verdict", "why"]
#: A pixel above LIT (of 255) shows something. Slices with less than SMALL of what the fullest slice of their set shows are
#: left out: the tops of all brains look alike.
LIT, SMALL = 20, 0.2
#: Pictures of each set that are planted again in disguise, to see whether the search finds them.
PLANTED = 24
#: Share of a source's validation pictures that may have a near-duplicate in training where nobody's name is known: the tumour
#: slices hold a few people twice, far apart. What it decides is whether the source learned, not what a target scores.
FEW = 0.05


# ------------------------------------------------------------------------------------------------------------ the stores
@dataclass(frozen=True)
class _Set:
    """A store with its role (source | target | showcase), its fingerprints, and which slices show enough to be told apart."""

    store: Store
    name: str
    role: str
    target: str
    prints: np.ndarray = field(repr=False)
    clear: np.ndarray = field(repr=False)

    @property
    def people(self) -> set[str]:
        return set(self.store.slices["subject"])

    @property
    def folds(self) -> list[dict[str, set[str]]]:
        """Names of people (of a source: groups) by part, one dictionary a fold; a source has one."""
        folds = self.store.splits.get("folds", [self.store.splits])
        return [{part: set(fold.get(part, [])) for part in ("train", "validation", "test")} for fold in folds]

    def rows(self, people: set[str]) -> np.ndarray:
        """Rows of these people's pictures, without those that show too little."""
        return np.flatnonzero(self.store.slices["subject"].isin(people).to_numpy() & self.clear)

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        # Of test people too, or nothing could be said of them. Nothing is learned from what is read here.
        with self.store.final_scoring():
            return self.store.load(rows)[0]

    def at(self, rows: np.ndarray) -> Pictures:
        return Pictures(self.prints[rows], lambda some: self.pictures(rows[some]))

    def named(self, row: int) -> str:
        line = self.store.slices.iloc[row]
        return f"{self.name} {line['scan']}" + ("" if self.role == "source" else f" slice {line['slice']}")


def _read(folder: Path) -> _Set:
    store = open_store(folder)
    parameters = (read_manifest(folder) or {})["parameters"]
    n = len(store.slices)
    prints, clear = np.zeros((n, COARSE**2 - 1), np.int8), np.ones(n, bool)
    found = _Set(store, folder.name, parameters["role"], parameters["target"], prints, clear)
    shown = np.zeros(n)
    for start in range(0, n, CHUNK):
        rows = np.arange(start, min(start + CHUNK, n))
        images = found.pictures(rows)
        prints[rows] = fingerprints(images)
        shown[rows] = (images > LIT).reshape(len(rows), -1).mean(axis=1)
    clear[:] = shown >= SMALL * shown.max()
    return found


def person(subject: str) -> str:
    """Whose scan a name stands for: "sub-07_ses-2" and "07_ses-1" are 07, "OAS1_0061_MR2" is oas1_0061."""
    name = subject.lower().removeprefix("sub-")
    oasis = re.search(r"oas(\d)_?(\d{4})", name)
    if oasis:
        return f"oas{oasis[1]}_{oasis[2]}"
    return re.sub(r"[_-](ses(sion)?[-_]?\w+|mr\d+|(scan|visit|tp)[-_]?\d+)$", "", name) or name


# ----------------------------------------------------------------------------------------------------------- comparisons
@dataclass(frozen=True)
class _Comparison:
    """Two sides held against each other: people of a part of A and of a part of B, one pair of sets a fold.

    allowed: kind -> why an overlap of that kind breaks no promise.
    """

    a: _Set
    part_a: str
    b: _Set
    part_b: str
    folds: list[tuple[set[str], set[str]]]
    allowed: dict[str, str] = field(default_factory=dict)


KINDS = ("subject", "session", "site", "mask", "picture")
_TWO_TARGETS = "no network of one target is tested on another"
_WHAT_TO_DO = {
    "subject": "take that person out of one of the two, or, if they are two people, give those of one set other names with "
    '`volume: {person: "clinic_{subject}"}` in its recipe',
    "session": "give all scans of a person one subject name",
    "site": "delete this data set's folder in the run, so that its splits are drawn again",
    "mask": "use each lesion mask once",
    "picture": "take one of the two out of its data set, or, if both are of one person, give both that subject's name",
}


def _comparisons(sets: Sequence[_Set], only_for: Mapping[str, Sequence[str]]) -> Iterator[_Comparison]:
    sources, targets = ([s for s in sets if s.role == role] for role in ("source", "target"))
    for one in sources:
        # blocks are dropped only where slices bear no person's name
        nameless = {"picture": "people without names: blocks are held out, a few people stand in two"}
        parts = [(f["train"], f["validation"]) for f in one.folds]
        yield _Comparison(one, "train", one, "validation", parts, nameless if one.store.splits.get("dropped") else {})
    for one in targets:
        for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
            yield _Comparison(one, a, one, b, [(f[a], f[b]) for f in one.folds], _sites_apart(one, b))
    for one, other in itertools.product(sources, [s for s in sets if s.role != "source"]):
        tested = set().union(*(f["test"] for f in other.folds))
        allowed = {"site": "people are held apart, not sites"}
        if other.target not in only_for.get(one.name, [other.target]):
            allowed = dict.fromkeys(KINDS, f"{one.name} is fine-tuned on {' and '.join(only_for[one.name])} only")
        yield _Comparison(one, "all", other, "test", [(one.people, tested)], allowed)
    for shown in (s for s in sets if s.role == "showcase"):
        for one in (t for t in targets if t.name == shown.target):
            learned = [(f["train"] | f["validation"], shown.people) for f in one.folds]
            yield _Comparison(one, "train", shown, "shown", learned, {"site": "people are held apart, not sites"})
    for one, other in itertools.combinations(targets, 2):
        yield _Comparison(one, "all", other, "all", [(one.people, other.people)], dict.fromkeys(KINDS, _TWO_TARGETS))


def _sites_apart(one: _Set, part: str) -> dict[str, str]:
    """Why a site may stand on both sides: only test people are held apart by site, and only where sites are enough."""
    sites = one.store.slices.drop_duplicates("subject")["site"]
    if part == "validation":
        return {"site": "validation people come from the sites of training"}
    enough = bool((sites != "").all()) and sites.nunique() >= max(len(one.folds), 2)
    return {} if enough else {"site": "fewer sites than folds, so people are held apart"}


def _names(kind: str, one: _Set, people: set[str]) -> dict[str, str]:
    """What of this kind may not stand on both sides, and whose it is: name -> subject."""
    if kind == "subject":
        return {subject: subject for subject in people}
    scans = one.store.slices[one.store.slices["subject"].isin(people)].drop_duplicates("scan")
    if kind == "session":  # scans of two sets may bear one number by chance
        own = {
            f"{one.name} scan {scan}": subject for scan, subject in zip(scans["scan"], scans["subject"], strict=True)
        }
        return own | {person(subject): subject for subject in people}
    if kind == "site":
        return {site: subject for site, subject in zip(scans["site"], scans["subject"], strict=True) if site}
    found = {}
    for scan, subject in zip(scans["scan"], scans["subject"], strict=True):
        mask = (one.store.scans.get(scan, {}).get("notes") or {}).get("mask")
        if mask or one.role == "showcase":  # someone shown brings an own lesion, known by the person's name
            found[str(mask or subject)] = subject
    return found


def _shared(kind: str, c: _Comparison) -> tuple[int, list[str]]:
    """How many pairs of names were compared, and those on both sides."""
    compared, found = 0, {}
    for a, b in c.folds:
        left, right = _names(kind, c.a, a), _names(kind, c.b, b)
        if kind == "mask" and c.b.role == "showcase":  # there "library/name" is met by a person's name
            left = {name.split("/")[-1]: subject for name, subject in left.items()}
        compared += len(left) * len(right)
        for name in sorted(left.keys() & right.keys()):
            if kind != "session" or left[name] != right[name]:  # one name on both sides is a shared subject
                of = "" if name in (left[name], right[name]) else f": {name}"
                found[name] = f"{c.a.name} {left[name]} ({c.part_a}) and {c.b.name} {right[name]} ({c.part_b}){of}"
    return compared, list(found.values())


@dataclass(frozen=True)
class Pair:
    """The two pictures of a comparison that are most alike. publish: the licences of both sets let them be shown."""

    sides: tuple[str, str]
    names: tuple[str, str]
    similarity: float
    images: tuple[np.ndarray, ...] = field(repr=False)
    publish: bool = False


def _near(c: _Comparison) -> tuple[int, int, Pair | None]:
    """Pairs of pictures compared, pictures of B that have a near-duplicate in A, and the pair that is most alike."""
    compared, found, best = 0, set(), (-1.0, 0, 0)
    for a, b in c.folds:
        rows_a, rows_b = c.a.rows(a), c.b.rows(b)
        if not len(rows_a) or not len(rows_b):
            continue
        compared += len(rows_a) * len(rows_b)
        i, j, similar = search(c.a.at(rows_a), c.b.at(rows_b), framed=c.b.role == "source")
        found.update(rows_b[j[similar >= LIMIT]].tolist())
        top = int(similar.argmax())
        best = max(best, (float(similar[top]), int(rows_a[i[top]]), int(rows_b[j[top]])))
    if not compared:
        return 0, 0, None
    images = tuple(s.pictures(np.array([row]))[0] for s, row in zip((c.a, c.b), best[1:], strict=True))
    names = c.a.named(best[1]), c.b.named(best[2])
    publish = all(may_be_shown(s.store.facts) for s in (c.a, c.b))
    sides = f"{c.a.name}, {c.part_a}", f"{c.b.name}, {c.part_b}"
    return compared, len(found), Pair(sides, names, best[0], images, publish)


def planted(sets: Sequence[_Set]) -> pd.DataFrame:
    """Some pictures of each set in every disguise, searched in their set: columns set, disguise, planted, found, least."""
    rows = []
    for one in sets:
        clear = np.flatnonzero(one.clear)
        originals = one.at(clear)
        chosen = np.unique(np.linspace(0, len(clear) - 1, PLANTED).round().astype(int))
        for name, disguise in DISGUISES.items():
            images = np.stack([disguise(image) for image in one.pictures(clear[chosen])])
            copies = Pictures(fingerprints(images), images.__getitem__)
            i, j, similar = search(originals, copies, framed=one.role == "source")
            right = i == chosen[j]
            alike = pd.Series(similar[right]).groupby(j[right]).max()
            found, least = int((alike >= LIMIT).sum()), float(alike.min())
            rows.append({"set": one.name, "disguise": name, "planted": len(chosen), "found": found, "least": least})
    return pd.DataFrame(rows)


# ----------------------------------------------------------------------------------------------------------------- audit
@dataclass(frozen=True)
class Audit:
    """What the audit found: a row for each kind and comparison, what was planted and found, and the nearest pictures.

    small: data set -> how many pictures show too little to be told apart, and of how many.
    """

    folder: Path
    leaks: pd.DataFrame
    planted: pd.DataFrame
    pairs: list[Pair]
    small: dict[str, tuple[int, int]]
    key: str
    code: str
    inputs: dict[str, str]
    seconds: float


def audit(settings: AuditSettings, report: Callable[[str], None] = print) -> Audit:
    """Hold every data set of the run against itself and every other; write leaks.csv, planted.csv and pairs.npz.

    BadInput, one line that names the first two that break a promise; the files are there then, to look into.
    """
    start = time.perf_counter()
    folders = [p.parent for p in sorted((settings.inputs / "data").glob("*/manifest.json")) if read_manifest(p.parent)]
    if not folders:
        raise BadInput(f"no finished data set in {settings.inputs / 'data'}; prepare one first (braintransfer run)")
    sets = [_read(folder) for folder in folders]
    inputs = {f"data/{s.name}": s.store.digest for s in sets}
    code = code_hash(project_root() / "notebooks" / "audit.ipynb")
    key = stage_key("audit", settings.model_dump(), code, inputs)
    small = {s.name: (int((~s.clear).sum()), len(s.clear)) for s in sets}
    report(
        f"{len(sets)} data sets, {sum(n for _, n in small.values())} pictures; "
        f"{sum(n for n, _ in small.values())} show too little to be told apart"
    )
    table, pairs = [], []
    for c in _comparisons(sets, settings.only_for):
        sides = {"A": c.a.name, "part A": c.part_a, "B": c.b.name, "part B": c.part_b}
        for kind in KINDS:
            most = math.nan
            if kind == "picture":
                compared, n, pair = _near(c)
                names = []
                if pair is not None:
                    pairs.append(pair)
                    most = pair.similarity
                    names = [f"{pair.names[0]} ({c.part_a}) and {pair.names[1]} ({c.part_b})"] if n else []
            else:
                compared, names = _shared(kind, c)
                n = len(names)
            if compared:
                many = c.b.role == "source" and n > FEW * len(c.b.rows(c.folds[0][1]))
                why = c.allowed.get(kind, "") if n and not many else ""
                verdict = "apart" if not n else "allowed" if why else "leak"
                table.append({"kind": kind, **sides, "compared": compared, "found": n, "nearest": most,
                              "names": "; ".join(names[:3]), "verdict": verdict, "why": why})  # fmt: skip
    leaks = pd.DataFrame(table, columns=COLUMNS)
    with only_writer(settings.folder):
        # should this one find a leak, no earlier one may speak for it
        (settings.folder / MANIFEST).unlink(missing_ok=True)
        write_table(settings.folder / "leaks.csv", leaks)
        write_table(settings.folder / "planted.csv", known := planted(sets))
        _save_pairs(settings.folder / "pairs.npz", pairs)
    broken = leaks[leaks["verdict"] == "leak"]
    if len(broken):
        first = broken.iloc[0]
        near = f" are nearly one picture ({first['nearest']:.2f}, limit {LIMIT})" if first["kind"] == "picture" else ""
        raise BadInput(
            f"leak of a {first['kind']}: {str(first['names']).split('; ')[0]}{near}; {_WHAT_TO_DO[str(first['kind'])]} "
            f"({int(broken['found'].sum())} in all, see {settings.folder / 'leaks.csv'})"
        )
    found = Audit(settings.folder, leaks, known, pairs, small, key, code, inputs, time.perf_counter() - start)
    report(f"{len(leaks)} comparisons, no leak, {found.seconds:.0f} s")
    return found


def _save_pairs(path: Path, pairs: list[Pair]) -> None:
    """The nearest pair of every comparison as plain arrays (no pickle): sides, names, similarity, and grey pictures."""
    side = max((max(image.shape[:2]) for pair in pairs for image in pair.images), default=1)

    def square(image: np.ndarray) -> np.ndarray:
        grey = image.mean(axis=2).astype(np.uint8) if image.ndim == 3 else image
        height, width = grey.shape
        top, left = (side - height) // 2, (side - width) // 2
        return np.pad(grey, ((top, side - height - top), (left, side - width - left)))

    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        sides=np.array([p.sides for p in pairs], dtype=np.str_),
        names=np.array([p.names for p in pairs], dtype=np.str_),
        similarity=np.array([p.similarity for p in pairs]),
        publish=np.array([p.publish for p in pairs]),
        images=np.array([[square(image) for image in p.images] for p in pairs], dtype=np.uint8),
    )
    atomic_write_bytes(path, buffer.getvalue())


def finish(settings: AuditSettings, found: Audit) -> Path:
    """Write the manifest of the audit, after its picture."""
    write_manifest(
        found.folder, stage="audit", key=found.key, parameters=settings.model_dump(), code=found.code, inputs=found.inputs,
        device="cpu", seconds=round(found.seconds, 1), comparisons=len(found.leaks),
        small=found.small,
    )  # fmt: skip
    return found.folder / "manifest.json"
