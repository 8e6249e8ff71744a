"""From the patterns and tables of a recipe to the files of a data set: who, which scan, where."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from braintransfer.errors import BadInput
from braintransfer.recipes.schema import Recipe, SampleTable, SubjectTable

_FIELD = re.compile(r"\{(\w+)\}")
FIELDS = ("subject", "session", "site", "scan", "sample", "label", "group", "part")


@dataclass(frozen=True)
class ScanFiles:
    """Where one scan of one person lies; `mask` and `brain` are None where the recipe has no such pattern."""

    subject: str
    scan: str
    site: str
    age: float | None
    image: Path
    mask: Path | None
    brain: Path | None


@dataclass(frozen=True)
class PictureFiles:
    """Where one picture lies, its class and the group that it is split by."""

    group: str
    sample: str
    label: str
    image: Path
    mask: Path | None


def match_files(root: Path, pattern: str) -> list[tuple[Path, dict[str, str]]]:
    """Files under `root` that fit a pattern such as `{subject}/anat/{subject}_T1w.nii.gz`, with what the fields stood for.

    A field that comes twice must read the same both times. Sorted by path; hidden files are left out.
    """
    unknown = [f for f in _FIELD.findall(pattern) if f not in FIELDS]
    if unknown:
        raise BadInput(f"pattern {pattern}: unknown field {{{unknown[0]}}}; allowed are {', '.join(FIELDS)}")
    expression, seen = "", set()
    for piece in re.split(r"(\{\w+\}|\*)", pattern):
        if piece == "*":
            expression += "[^/]*"
        elif _FIELD.fullmatch(piece):
            name = piece[1:-1]
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        else:
            expression += re.escape(piece)
    whole = re.compile(expression)
    found = []
    for path in sorted(root.glob(_FIELD.sub("*", pattern))):
        match = whole.fullmatch(path.relative_to(root).as_posix())
        if match and path.is_file() and not path.name.startswith("."):
            found.append((path, match.groupdict()))
    return found


def _fill(pattern: str, fields: dict[str, str]) -> str:
    missing = [f for f in _FIELD.findall(pattern) if f not in fields]
    if missing:
        raise BadInput(f"pattern {pattern}: {{{missing[0]}}} does not stand in the image pattern; use the same fields")
    return _FIELD.sub(lambda m: fields[m.group(1)], pattern)


def read_table(path: Path, separator: str, needed: list[str]) -> list[dict[str, str]]:
    """Rows of a table with a header line. BadInput when it is missing, not text, or lacks a column of `needed`."""
    if not path.is_file():
        raise BadInput(f"{path}: table is missing; get the whole set, or mend the recipe")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=separator)
            header = reader.fieldnames or []
            rows = [{k: (v or "").strip() for k, v in row.items() if k is not None} for row in reader]
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a text table ({error.reason}); save it as UTF-8") from error
    absent = [c for c in needed if c and c not in header]
    if absent:
        raise BadInput(
            f"{path}: column {absent[0]} is missing, there are {', '.join(header)}; mend the table or the recipe"
        )
    return rows


def _age(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # BIDS writes n/a


def people_of(recipe: Recipe, root: Path) -> dict[str, dict[str, str]]:
    """Rows of the recipe's table of people, by scan where it has a scan column, else by person; empty without a table."""
    table: SubjectTable | None = recipe.people
    if table is None:
        return {}
    rows = read_table(root / table.file, table.separator, [table.subject, table.scan, table.age, table.site])
    return {row[table.scan or table.subject]: row for row in rows}


def scan_files(recipe: Recipe, data_root: Path | str | None) -> list[ScanFiles]:
    """Every scan that the image patterns find, with its person; sorted by person and scan.

    BadInput when the folder is missing, nothing fits, or a scan is not in the table of people.
    """
    root = recipe.root(data_root)
    if not root.is_dir():
        raise BadInput(f"{root}: folder of {recipe.name} is missing; {how_to_get(recipe)}")
    rows, table = people_of(recipe, root), recipe.people
    found, strangers = [], []
    for pattern in recipe.patterns.image:
        for path, fields in match_files(root, pattern):
            named = fields.get("scan") or fields.get("subject") or path.name.split(".")[0]
            row = rows.get(named) if table and table.scan else rows.get(fields.get("subject", named))
            if table and row is None:
                strangers.append(named)
                continue
            subject = row[table.subject] if table and row else fields.get("subject", named)
            if recipe.only and subject not in recipe.only:
                continue
            scan = named if fields.get("scan") or not fields.get("session") else f"{named}_{fields['session']}"
            site = fields.get("site") or (row[table.site] if table and row and table.site else "")
            age = _age(row[table.age]) if table and row and table.age else None
            mask = root / _fill(recipe.patterns.mask, fields) if recipe.patterns.mask else None
            brain = None if recipe.patterns.brain == "nonzero" else root / _fill(recipe.patterns.brain, fields)
            found.append(ScanFiles(subject, scan, site, age, path, mask, brain))
    if strangers:
        raise BadInput(
            f"{root / (table.file if table else '')}: no row for {_some(strangers)}, whose scans are there; "
            "add the rows, or take the scans out"
        )
    if not found:
        raise BadInput(f"{root}: no scan fits {' or '.join(recipe.patterns.image)}; {how_to_get(recipe)}")
    return sorted(found, key=lambda f: (f.subject, f.scan))


def picture_files(recipe: Recipe, data_root: Path | str | None) -> list[PictureFiles]:
    """Every picture of an image set: from its table of samples, or from folders that are its classes.

    BadInput when the folder is missing, nothing fits, or samples of the table have no picture (all are counted).
    """
    root = recipe.root(data_root)
    if not root.is_dir():
        raise BadInput(f"{root}: folder of {recipe.name} is missing; {how_to_get(recipe)}")
    if recipe.samples is not None:
        return _from_table(recipe, recipe.samples, root)
    found = []
    for pattern in recipe.patterns.image:
        for path, fields in match_files(root, pattern):
            sample = fields.get("sample", path.stem)
            label = recipe.classes.get(fields.get("label", ""), fields.get("label", ""))
            group = fields.get("group") or sample
            if recipe.split.method == "part":
                group = f"{fields.get('part', '')}/{group}"
            mask = root / _fill(recipe.patterns.mask, fields) if recipe.patterns.mask else None
            found.append(PictureFiles(group, sample, label, path, mask))
    if not found:
        raise BadInput(f"{root}: no picture fits {' or '.join(recipe.patterns.image)}; {how_to_get(recipe)}")
    return found


def _from_table(recipe: Recipe, table: SampleTable, root: Path) -> list[PictureFiles]:
    rows = read_table(root / table.file, table.separator, [table.sample, table.label, table.group])
    found, absent = [], []
    for row in rows:
        fields = {"sample": row[table.sample], "label": row.get(table.label, ""), "group": row.get(table.group, "")}
        image = root / _fill(recipe.patterns.image[0], fields)
        mask = root / _fill(recipe.patterns.mask, fields) if recipe.patterns.mask else None
        absent += [p.relative_to(root).as_posix() for p in (image, mask) if p is not None and not p.is_file()]
        label = recipe.classes.get(fields["label"], fields["label"])
        found.append(PictureFiles(fields["group"] or fields["sample"], fields["sample"], label, image, mask))
    if absent:
        raise BadInput(
            f"{root}: {_some(absent)} named in {table.file} but missing; get the whole set, or take the rows out"
        )
    if not found:
        raise BadInput(f"{root / table.file}: names no sample; get the whole set")
    return found


def _some(names: list[str], show: int = 4) -> str:
    return ", ".join(names[:show]) + (f" and {len(names) - show} more" if len(names) > show else "")


def how_to_get(recipe: Recipe) -> str:
    """One clause that says how to get a set."""
    if recipe.access.how == "own":
        return "put your files there, or mend `folder` and `patterns` in the recipe"
    return f"see `braintransfer data get {recipe.name}`" + (f" ({recipe.access.url})" if recipe.access.url else "")
