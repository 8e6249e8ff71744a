"""From the patterns and tables of a recipe to the files of a data set: who, which scan, where."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from braintransfer.errors import BadInput
from braintransfer.recipes.schema import Recipe, SubjectTable, load_recipe
from braintransfer.untrusted import name_of_one

_FIELD = re.compile(r"\{(\w+)\}")
_PAIR = re.compile(r"\.img(\.gz|\.bz2)?$")
FIELDS = ("subject", "session", "site", "scan", "sample", "label", "group", "part")


@dataclass(frozen=True)
class ScanFiles:
    """Where one scan of one person lies; `mask` and `brain` are None where the recipe has no such pattern.

    `more_masks` are further masks of the same scan; all together are its reference.
    """

    subject: str
    scan: str
    site: str
    age: float | None
    image: Path
    mask: Path | None
    brain: Path | None
    more_masks: tuple[Path, ...] = ()
    #: What the table of people calls it, before `volume.person` gave it another name.
    named: str = ""


def match_files(root: Path, pattern: str) -> list[tuple[Path, dict[str, str]]]:
    """Files under `root` that fit a pattern such as `{subject}/anat/{subject}_T1w.nii.gz`, with what the fields stood for.

    A field that comes twice must read the same both times. Sorted by path; hidden files are left out. BadInput for an unknown
    field, and for links to files that are not here, as DataLad leaves them before a `get`.
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
    found, dangling = [], []
    for path in sorted(root.glob(_FIELD.sub("*", pattern))):
        match = whole.fullmatch(path.relative_to(root).as_posix())
        if not match or path.name.startswith("."):
            continue
        if path.is_file():
            found.append((path, match.groupdict()))
        elif path.is_symlink():
            dangling.append(path.relative_to(root).as_posix())
    if dangling:
        raise BadInput(
            f"{root}: {some(dangling)}: a link to a file that is not here; fetch it (`datalad get`, `git annex get`), or take it out"
        )
    return found


def fill(pattern: str, fields: dict[str, str]) -> str:
    """A pattern with its fields filled in. BadInput for a field that `fields` lacks."""
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
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not a text table ({error}); save it as UTF-8") from error
    absent = [c for c in needed if c and c not in header]
    if absent and len(header) == 1:
        named = {"\t": "tabs", ",": "commas"}.get(separator, repr(separator))
        raise BadInput(
            f"{path}: no {named} between its columns ({header[0]!r} reads as one); separate them so, or set `separator` in the recipe"
        )
    if absent:
        raise BadInput(
            f"{path}: column {absent[0]} is missing, there are {', '.join(header)}; mend the table or the recipe"
        )
    return rows


def number_in(text: str) -> float | None:
    """The number that a table says; None where it says none (n/a, nan, inf).

    The oldest stand in tables without names as "90+", "89+" or "> 89": that is read as the number, so that they count as old.
    """
    try:
        number = float(re.sub(r"^(>=|>|\u2265)\s*|\s*\+$", "", text.strip()))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def masks_of(recipe: Recipe, root: Path, fields: dict[str, str]) -> tuple[Path | None, tuple[Path, ...]]:
    """The mask of a scan (None without a pattern; it may be missing), and further ones that are there."""
    mask = root / fill(recipe.patterns.mask, fields) if recipe.patterns.mask else None
    pattern = fill(recipe.patterns.more_masks, fields)
    return mask, tuple(other for other, _ in match_files(root, pattern) if other != mask) if pattern else ()


def with_headers(paths: Iterable[Path]) -> list[Path]:
    """The files, and those that belong to them: Analyze (and a NIfTI pair) keeps shape and byte order in a file of its own."""
    paths = list(paths)
    return paths + [p.with_name(_PAIR.sub(r".hdr\1", p.name)) for p in paths if _PAIR.search(p.name)]


def people_of(recipe: Recipe, root: Path) -> dict[str, dict[str, str]]:
    """Rows of the recipe's table of people, by scan where it has a scan column, else by person; empty without a table."""
    table: SubjectTable | None = recipe.people
    if table is None:
        return {}
    rows = read_table(root / table.file, table.separator, [table.subject, table.scan, table.age, table.site])
    return {row[table.scan or table.subject]: row for row in rows}


def scan_files(recipe: Recipe, data_root: Path | str | None) -> list[ScanFiles]:
    """Every scan that the image patterns find, with its person; sorted by person and scan.

    BadInput when the folder is missing, nothing fits, a scan is not in the table of people, or two scans have one name: one would
    be written over the other, and two people taken for one.
    """
    root = recipe.root(data_root)
    if not root.is_dir():
        raise BadInput(f"{root}: folder of {recipe.name} is missing; {how_to_get(recipe)}")
    rows, table = people_of(recipe, root), recipe.people
    found, strangers = [], []
    for image_pattern in recipe.patterns.image:
        for path, fields in match_files(root, image_pattern):
            named = fields.get("scan") or fields.get("subject") or path.name.split(".")[0]
            row = rows.get(named) if table and table.scan else rows.get(fields.get("subject", named))
            if table and row is None:
                strangers.append(named)
                continue
            subject = row[table.subject] if table and row else fields.get("subject", named)
            before = named if table and table.scan else fields.get("subject", named)
            if recipe.volume.person:
                subject = named = fill(recipe.volume.person, fields)
            if recipe.only and subject not in recipe.only:
                continue
            more = [] if fields.get("scan") else [fields[f] for f in ("session", "sample") if fields.get(f)]
            scan = "_".join([named, *more])
            try:  # a scan's name becomes that of a file
                name_of_one(scan)
            except ValueError as error:
                raise BadInput(f"{path}: {scan!r} {error}; mend `volume.person` in the recipe, or rename it") from None
            site = fields.get("site") or (row[table.site] if table and row and table.site else "")
            if recipe.volume.sites and site not in recipe.volume.sites:
                continue
            age = number_in(row[table.age]) if table and row and table.age else None
            mask, others = masks_of(recipe, root, fields)
            brain = None if recipe.patterns.brain == "nonzero" else root / fill(recipe.patterns.brain, fields)
            found.append(ScanFiles(subject, scan, site, age, path, mask, brain, others, before))
    if strangers:
        raise BadInput(
            f"{root / (table.file if table else '')}: no row for {some(strangers)}, whose scans are there; "
            "add the rows, or take the scans out"
        )
    if not found:
        where = f" in site {' or '.join(recipe.volume.sites)}" if recipe.volume.sites else ""
        raise BadInput(f"{root}: no scan fits {' or '.join(recipe.patterns.image)}{where}; {how_to_get(recipe)}")
    found.sort(key=lambda f: (f.subject, f.scan))
    _refuse_doubled(recipe, root, found)
    return found


def _refuse_doubled(recipe: Recipe, root: Path, found: Sequence[ScanFiles]) -> None:
    paths: dict[str, list[str]] = {}
    for f in found:
        paths.setdefault(f.scan, []).append(f.image.relative_to(root).as_posix())
    twice = {scan: where for scan, where in paths.items() if len(where) > 1}
    if not twice:
        return
    scan, where = next(iter(twice.items()))
    more = f", and {len(twice) - 1} more such names" if len(twice) > 1 else ""
    fields = dict.fromkeys(f for pattern in recipe.patterns.image for f in _FIELD.findall(pattern))
    person = "_".join(f"{{{f}}}" for f in fields if f not in ("session", "sample"))
    raise BadInput(
        f"{root}: {len(where)} scans are called {scan} ({', '.join(where[:2])}){more}; if they are of different people, tell them apart "
        f'with `volume: {{person: "{person}"}}` in the recipe, else keep one'
    )


def some(names: list[str], show: int = 4) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:show]) + (f" and {len(names) - show} more" if len(names) > show else "")


def refuse_overlaps(used: Mapping[str, Recipe], data_root: Path | str | None) -> None:
    """BadInput, one line, when two cells of a run use different sets that hold some of the same people.

    used: cell -> recipe. Which sets share people stands in `overlaps` of one of the two. Where it names sites, only
    scans of these sites count: they are looked for on disk. What a recipe is made of (backgrounds, libraries) counts too.
    """
    said = []
    for (cell, one), (other_cell, other) in itertools.combinations(used.items(), 2):
        for a, b in itertools.product(_made_of(one, data_root), _made_of(other, data_root)):
            sites = [s for x, y in ((a, b), (b, a)) if y.name in x.overlaps for s in _shared_sites(x, y, data_root)]
            if sites:
                where = f" ({', '.join(s for s in sites if s)})" if any(sites) else ""
                said.append(
                    f"{cell} ({one.name}) and {other_cell} ({other.name}): {a.name} and {b.name} hold the same people{where}"
                )
    if said:
        raise BadInput(f"{'; '.join(dict.fromkeys(said))}; use one set for both, or another for one of them")


def _made_of(recipe: Recipe, data_root: Path | str | None) -> list[Recipe]:
    names = [recipe.composite.photographs] if recipe.composite else []
    if recipe.lesions is not None:
        names += [recipe.lesions.background, *(library.recipe for library in recipe.lesions.libraries)]
    return [recipe, *(load_recipe(name, data_root) for name in names)]


def _shared_sites(recipe: Recipe, other: Recipe, data_root: Path | str | None) -> list[str]:
    """Sites of `recipe` on disk whose people are in `other` too; [""] where the recipe names no sites."""
    sites = recipe.overlaps[other.name]
    if not sites:
        return [""]
    if data_root is None or not recipe.root(data_root).is_dir():
        return list(sites)
    there = {f.site for f in scan_files(recipe, data_root)}
    return [site for site in sites if site in there]


def how_to_get(recipe: Recipe) -> str:
    """One clause that says how to get a set."""
    if recipe.access.how == "own":
        return "put your files there, or mend `folder` and `patterns` in the recipe"
    return f"see `braintransfer data get {recipe.name} --data DATA`" + (
        f" ({recipe.access.url})" if recipe.access.url else ""
    )
