"""From public downloads to the files that the book's own run read: a record a data set says how, and a rule repeats it.

A record is NAME.yaml (from where, by which rule, what is not known) and NAME.csv.gz (a row a file: its name from the set's folder on,
the first 16 digits of its sha256, and what the rule needs to know of it).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from braintransfer.errors import BadInput
from braintransfer.provenance import sha256_bytes
from braintransfer.recipes.checking import needed_sets
from braintransfer.recipes.files import some
from braintransfer.recipes.schema import load_recipe
from braintransfer.untrusted import read_yaml

#: Digits of a file's sha256 that a record keeps; `listing` is over the whole ones.
DIGITS = 16


class Reduction(BaseModel):
    """How a data set that the book's own run read was made from its public download."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: Recipes that read what comes out; it lies in the folder of the first.
    recipes: tuple[str, ...]
    rule: Literal["copy", "squares", "tumours", "scans"]
    download: str
    #: Folders of the download in which its files may lie; its own is tried too.
    inside: tuple[str, ...] = ()
    #: Side of a picture in pixels, and the quality of its JPEG.
    size: int = 0
    quality: int = 0
    made: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    #: Small tables that no download holds: name -> text.
    written: dict[str, str] = {}
    #: sha256 of the lines "NAME SHA256" of all files, sorted by name.
    listing: str

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.recipes[0]


@dataclass(frozen=True)
class Outcome:
    """What a reduction gave: how many files, which of them the book's own run did not read, and remarks of the rule."""

    files: int
    differing: tuple[str, ...]
    remarks: tuple[str, ...]

    def sentence(self, name: str) -> str:
        """One line: whether all files are the same."""
        if not self.differing:
            return f"{name}: all {self.files} files are those that the book's own run read"
        return (
            f"{name}: {self.files - len(self.differing)} of {self.files} files are those that the book's own run read; "
            f"{len(self.differing)} differ ({some(list(self.differing), 2)}): runs on them are near it, not equal to it"
        )


def reduction_names() -> list[str]:
    """The data sets that have a record, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def load_reduction(name: str) -> Reduction:
    """The record that serves the recipe `name`. BadInput when there is none; for a set made of others it names those."""
    records = [Reduction.model_validate(read_yaml(Path(__file__).parent / f"{n}.yaml")) for n in reduction_names()]
    for record in records:
        if name in record.recipes:
            return record
    recipe = load_recipe(name)
    parts = [part.name for part, _ in needed_sets(recipe, None) if part.name != name]
    if parts and all(part in reduction_names() for part in parts):
        raise BadInput(f"{name} is made of {', '.join(parts)}; reduce each of them")
    raise BadInput(f"{name}: the book's own run reads no such set; there are {', '.join(reduction_names())}")


def rows_of(record: Reduction) -> list[dict[str, str]]:
    """The rows of a record's table, one a file: `file`, `sha256` (its first 16 digits) and the columns of the rule."""
    with gzip.open(Path(__file__).parent / f"{record.name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def described(record: Reduction) -> list[str]:
    """What is known of how a set was made, as lines to print."""
    lines = [f"{record.name}: {len(rows_of(record))} files", f"  from: {record.download}"]
    lines += [f"  made: {sentence}" for sentence in record.made]
    return lines + [f"  not known: {sentence}" for sentence in record.unknown]


def reduce(record: Reduction, download: Path, data_root: Path, tick: Callable[[int], None] = lambda n: None) -> Outcome:
    """Make from `download` the set as its recipe reads it below `data_root`, and compare it with what the book's own run read.

    All or nothing: a set that is there already is never touched. `tick` hears of each file. BadInput when the download lacks files,
    one cannot be read, or it is not what the rule asks for.
    """
    from braintransfer.reductions import rules

    target = load_recipe(record.name).root(data_root)
    if target.exists():
        raise BadInput(f"{target} is there already; give another folder with --to")
    rows = rows_of(record)
    sources = rules.sources(record, rows, download)
    absent = [str(path) for path in dict.fromkeys(sources.values()) if not path.is_file()]
    if absent:
        raise BadInput(
            f"{download}: {len(absent)} of {len(set(sources.values()))} files of {record.name} missing: {some(absent)}; "
            f"get {record.download}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    hashes: dict[str, str] = {}
    remarks: list[str] = []
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".reduce-") as temporary:
        made = Path(temporary) / target.name
        for file, content in rules.RULES[record.rule](record, rows, sources, remarks.append):
            place = made / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            hashes[file] = sha256_bytes(content)
            tick(1)
        made.rename(target)
    differing = [row["file"] for row in rows if hashes[row["file"]][:DIGITS] != row["sha256"]]
    if not differing and listing(hashes) != record.listing:
        differing = sorted(hashes)
    return Outcome(len(rows), tuple(differing), tuple(remarks))


def listing(hashes: dict[str, str]) -> str:
    """sha256 of the lines "NAME SHA256" of all files, sorted by name."""
    return hashlib.sha256("".join(f"{file} {hashes[file]}\n" for file in sorted(hashes)).encode()).hexdigest()
