"""Lesions of all test people, counted by stricter and stricter rules: from the networks that a run kept, or as they were counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintransfer import tables
from braintransfer.provenance import digest, read_manifest, sha256_file, write_table
from braintransfer.store import Store, open_store
from braintransfer.study import DETECTED, SOURCES, TARGETS

#: The overlap that a lesion needs to count as found; the first stands for "one voxel".
OVERLAPS = (1e-9, *(k / 20 for k in range(1, 21)))
#: What is counted at each of them in one scan.
COUNTS = ("lesions", "found", "predicted", "true", "f1")
#: What is drawn against them: column of a table with rates -> its title.
RATES = {"f1": "lesion F1", "sensitivity": "lesion sensitivity", "precision": "lesion precision"}
#: How a person is shown: one of the test people, or one of those that get no mean and no verdict.
TESTED, ONE_BY_ONE = "tested", "one by one"
COLUMNS = ("target", "kind", "shown", "subject", "scan", "source", "overlap", *COUNTS)
#: Where a run that is kept in the book has its `count`.
FILE = "compare/overlap.csv.gz"
NETWORK = "network.safetensors"


# ------------------------------------------------------------------------------------------------- who is tried, by what
@dataclass(frozen=True)
class TestSet:
    """A data set of a run on whose people its kept networks are tried.

    networks: source -> where its network is, or was before the run went on elsewhere; all of one fold and seed.
    """

    __test__ = False  # no class of tests

    store: Store
    target: str
    networks: Mapping[str, Path]

    @property
    def here(self) -> dict[str, Path]:
        """The networks whose files are there."""
        return {source: path for source, path in self.networks.items() if path.is_file()}

    @property
    def showcase(self) -> bool:
        return self.store.path.name != self.target

    @property
    def fold_and_seed(self) -> tuple[int, int]:
        fold, seed = (int(part.rpartition("-")[2]) for part in next(iter(self.networks.values())).parts[-3:-1])
        return fold, seed

    @property
    def people(self) -> list[str]:
        """Those whom the networks never met: the test people of their fold, or all that are shown one by one."""
        return self.store.subjects("test") if self.showcase else self.store.subjects("test", self.fold_and_seed[0])

    def scans(self, subject: str) -> list[str]:
        return list(dict.fromkeys(self.store.slices.loc[self.store.slices["subject"] == subject, "scan"].astype(str)))

    def counts_file(self, source: str) -> Path:
        """Where counts of a network are put, beside it; the name tells data and network, so that no older ones are read."""
        path = self.networks[source]
        sha = sha256_file(path) if path.is_file() else _left_behind(path.parent)
        return path.with_name(f"overlap-{self.store.path.name}-{digest([sha, self.store.digest, OVERLAPS])[:12]}.csv")


def _left_behind(folder: Path) -> str:
    """The hash of the network of a row whose weights did not travel; empty where it had none."""
    return str(((read_manifest(folder) or {}).get("outputs") or {}).get(NETWORK, ""))


def test_sets(run: Path) -> Iterator[TestSet]:
    """The data sets of a run whose people can be tried: its targets, then the sets whose people are shown one by one."""
    for name in [*TARGETS, *sorted(p.name for p in (run / "data").glob("*") if p.name not in TARGETS)]:
        manifest = read_manifest(run / "data" / name)
        made = {} if manifest is None else manifest.get("parameters", {})
        if made.get("role") in ("target", "showcase") and (run / "data" / name / "images.npy").is_file():
            networks = _networks(run, made["target"])
            if networks:
                yield TestSet(open_store(run / "data" / name), made["target"], networks)


test_sets.__test__ = False  # type: ignore[attr-defined]


def _networks(run: Path, target: str) -> dict[str, Path]:
    first: dict[str, Path] = {}
    for source in SOURCES:
        rows = sorted((run / "targets" / "main" / target / source).glob("fold-*/seed-*"))
        kept = [row / NETWORK for row in rows if (row / NETWORK).is_file() or _left_behind(row)]
        if kept and all(p.parts[-3:-1] == kept[0].parts[-3:-1] for p in first.values()):
            first[source] = kept[0]
    return first


def predicted(
    run: Path, own: TestSet, sources: Sequence[str], scans: Sequence[str], cache: Path
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each scan: labels (source, n, H, W) of its slices, and lesion counts (source, overlap, COUNTS) in its own grid.

    No counts for anatomy. cache: folder for what the networks said before.
    """
    from braintransfer import evaluate, metrics, predict
    from braintransfer.machine import Machine
    from braintransfer.training import slice_probabilities

    store = own.store
    weights = {source: sha256_file(path) for source, path in own.here.items() if source in sources}

    @remembered
    def network(source: str) -> Any:
        return predict.read_network(run, source, own.target).network

    for scan in scans:
        path = cache / f"{digest(weights | {'store': store.digest, 'scan': scan, 'rules': OVERLAPS})}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as kept:
                yield kept["labels"], kept["counts"]
            continue
        rows = np.flatnonzero((store.slices["scan"] == scan).to_numpy())
        with store.final_scoring():
            images, _ = store.load(rows)
        truth, _ = evaluate.reference(store, scan)
        spacing = tuple(store.scans[scan]["own"]["spacing"])
        places = store.slices["slice"].to_numpy()[rows]
        labels, counts = [], []
        for source in sources:
            per_slice = slice_probabilities(network(source), images, Machine())
            labels.append(evaluate.labels_from(per_slice.transpose(1, 0, 2, 3)))
            if own.target in DETECTED:
                found = evaluate.labels_from(evaluate.own_grid_probabilities(store, scan, places, per_slice)) > 0
                rules = metrics.detect_by_overlap(found, truth > 0, spacing, OVERLAPS)
                counts.append([[r.n_truth, r.n_detected, r.n_pred, r.n_true_pred, r.f1] for r in rules])
        made = np.stack(labels), np.array(counts, dtype=float)
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, labels=made[0], counts=made[1])
        part.replace(path)
        yield made


# ---------------------------------------------------------------------------------------------------------------- counts
def count(run: Path, cache: Path, report: Callable[[str], None] = lambda line: None) -> pd.DataFrame:
    """Lesions counted by every rule of OVERLAPS, in all people whom the kept networks never met.

    One row a scan, source and overlap, with COLUMNS: kind is that of the data, shown is TESTED (the test people of the networks'
    fold) or ONE_BY_ONE. Only numbers, so no licence forbids them. A source whose network is gone and was not counted before
    (`keep_counts`) is left out; empty where there is none. cache: folder for what the networks predicted.
    """
    found = [
        table
        for own in test_sets(run)
        if own.target in DETECTED
        for table in _counts_of(run, own, cache, report).values()
    ]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(COLUMNS))


def keep_counts(run: Path, cache: Path, report: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Put the counts of each network beside it, for a run that goes on where its weights do not; the files, new and old."""
    files = []
    for own in test_sets(run):
        for source, table in _counts_of(run, own, cache, report).items() if own.target in DETECTED else ():
            files.append(own.counts_file(source))
            if not files[-1].is_file():
                write_table(files[-1], table)
    return files


def _counts_of(run: Path, own: TestSet, cache: Path, report: Callable[[str], None]) -> dict[str, pd.DataFrame]:
    """source -> its rows of `count`: read where they lie beside the network, counted where only the network is there."""
    files = {source: own.counts_file(source) for source in own.networks}
    missing = [source for source in own.here if not files[source].is_file()]
    made: dict[str, list[dict[str, Any]]] = {source: [] for source in missing}
    what = {
        "target": own.target,
        "kind": tables.data_kind(own.store.facts),
        "shown": ONE_BY_ONE if own.showcase else TESTED,
    }
    if missing:
        scans = [(subject, scan) for subject in own.people for scan in own.scans(subject)]
        report(f"counting the lesions of {len(scans)} scans of {own.store.path.name} by {len(OVERLAPS)} rules")
        counted = predicted(run, own, missing, [scan for _, scan in scans], cache)
        for (subject, scan), (_, counts) in zip(scans, counted, strict=True):
            for source, by_rule in zip(missing, counts.tolist(), strict=True):
                where = what | {"subject": subject, "scan": scan, "source": source}
                for overlap, values in zip(OVERLAPS, by_rule, strict=True):
                    made[source].append(where | {"overlap": round(overlap, 2)} | dict(zip(COUNTS, values, strict=True)))
    return {
        source: read(files[source]) if source not in made else pd.DataFrame(made[source], columns=list(COLUMNS))
        for source in own.networks
        if source in made or files[source].is_file()
    }


def read(path: Path) -> pd.DataFrame:
    """A table that `count` made, from its file."""
    text = ("target", "kind", "shown", "subject", "scan", "source")
    return pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values={"f1": [""]})


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """RATES of each person, source and overlap of `count`, the mean over a person's scans; NaN where not defined.

    Columns target, shown, subject, source, overlap and RATES. As `metrics.detect_lesions` defines them: all NaN without a
    lesion, precision NaN without a predicted one.
    """
    lesions, predicted = table["lesions"].where(table["lesions"] > 0), table["predicted"].where(table["predicted"] > 0)
    each = table.assign(sensitivity=table["found"] / lesions, precision=(table["true"] / predicted).where(lesions > 0))
    keys = ["target", "shown", "subject", "source", "overlap"]
    return each.groupby(keys, sort=False, as_index=False)[list(RATES)].mean()


def mean_rates(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """Mean of each of RATES over the test people of a target, by source and overlap, and over how many (`n_f1` and so on)."""
    own = rates(table[(table["target"] == target) & (table["shown"] == TESTED)])
    grouped = own.groupby(["source", "overlap"], sort=False)[list(RATES)]
    return grouped.mean().join(grouped.count().add_prefix("n_")).reset_index()
