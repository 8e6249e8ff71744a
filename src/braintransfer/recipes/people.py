"""Whose scans a set holds, and that nobody is both in a source and in a target that its encoders are fine-tuned on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from braintransfer.errors import BadInput
from braintransfer.recipes.checking import needed_sets
from braintransfer.recipes.files import match_files, scan_files, some
from braintransfer.recipes.schema import Library, Recipe
from braintransfer.recipes.slices import slice_files
from braintransfer.settings import TargetData

#: What may tell the visits of a person apart, at the end of a name.
_VISIT = re.compile(r"[_.-][A-Za-z0-9]+$")
#: A stem with more names than this is no person but a site or a study.
MOST_VISITS = 6


def people_in(recipe: Recipe, data_root: Path | str | None) -> dict[Path, set[str]]:
    """Folder -> names of those whose scans or lesion masks the recipe reads there; no scan is opened.

    Pictures that are no scans have no people. BadInput when a folder is missing or nothing fits.
    """
    found: dict[Path, set[str]] = {}
    for part, library in needed_sets(recipe, data_root):
        if library is not None:
            names = _in_library(part.root(data_root) / library.folder, library)
        elif part.kind == "volumes":
            names = {f.subject for f in scan_files(part, data_root)}
        elif part.kind == "slices" and part.matlab is None:
            names = {f.person for f in slice_files(part, data_root, lambda _: None)}
        else:
            continue
        found.setdefault(part.root(data_root), set()).update(names)
    return found


def refuse_too_few(target: str, data: TargetData, recipe: Recipe, data_root: Path | str | None) -> None:
    """BadInput, one line, when a target's people are too few for its folds; no scan is opened.

    Where sites are kept together folds are of unequal size, and it is the store that says so.
    """
    people = data.subjects
    if recipe.kind == "volumes":
        site_of = {f.subject: f.site for f in scan_files(recipe, data_root)}
        if all(site_of.values()) and len(set(site_of.values())) >= data.folds:
            return
        people = min(len(site_of), people or len(site_of))
    tested = -(-people // data.folds)
    left = people - tested - data.n_validation
    if people and left < data.n_train:
        raise BadInput(
            f"targets.{target}: {people} people in {data.folds} folds: {tested} to test, {data.n_validation} to validate (n_validation) "
            f"and {max(left, 0)} to learn from, fewer than n_train = {data.n_train}; mend these numbers in the profile"
        )


def _in_library(root: Path, library: Library) -> set[str]:
    return {
        fields.get("sample") or fields.get("subject") or path.name
        for path, fields in match_files(root, library.pattern)
        if not set(library.exclude) & {*path.relative_to(root).parts}
    }


def who_is_there(recipe: Recipe, data_root: Path | str | None) -> str:
    """How many scans of how many people a set of scans has, to be read on: two visits that bear two names count as two people."""
    if recipe.kind != "volumes":
        return ""
    scans = Counter(f.subject for f in scan_files(recipe, data_root))
    twice = sum(n > 1 for n in scans.values())
    said = f"; {scans.total()} scans of {len(scans)} people, {twice or 'nobody'} scanned more than once"
    visits: dict[str, list[str]] = {}
    for name in scans if recipe.people is None else ():
        stem = _VISIT.sub("", name)
        if stem != name and any(c.isdigit() for c in stem):
            visits.setdefault(stem, []).append(name)
    alike = [names for names in visits.values() if 1 < len(names) <= MOST_VISITS]
    if alike:
        said += f". Are {' and '.join(sorted(alike[0])[:2])} one person? Then say so in a table (`people`): without one, each name is a person"
    return said


def refuse_shared_people(
    trained: Iterable[tuple[str, str]], used: Mapping[str, Recipe], data_root: Path | str | None
) -> None:
    """BadInput, one line, when people of a source are in a target that its encoders are fine-tuned on.

    trained: pairs of a source's and a target's cell. used: cell -> recipe. People are the same when they have one name in one
    folder; the leak audit knows them in different folders too.
    """
    said = []
    for source, target in trained:
        ours, theirs = people_in(used[source], data_root), people_in(used[target], data_root)
        both = {folder.name: sorted(ours[folder] & theirs[folder]) for folder in ours.keys() & theirs.keys()}
        named = "; ".join(f"{folder}: {some(names, 2)}" for folder, names in sorted(both.items()) if names)
        if named:
            said.append(
                f"{source} ({used[source].name}) and {target} ({used[target].name}) hold the same people ({named}), and nobody of "
                f"a source may be in its target; use another set for one of them, or take {target} out of the arm's `targets`"
            )
    if said:
        raise BadInput(" | ".join(said))
