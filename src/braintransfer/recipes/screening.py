"""Which people and lesion masks of a semi-synthetic set can be used, found out before any is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from braintransfer.errors import BadInput
from braintransfer.recipes.files import match_files, scan_files
from braintransfer.recipes.readable import LeftOut
from braintransfer.recipes.registration import align_to_template
from braintransfer.recipes.scans import read_subject_scan
from braintransfer.recipes.schema import Library, Recipe
from braintransfer.volumes import read_mask

Libraries = Sequence[tuple[Library, Path]]


def unreadable(background: Recipe, libraries: Libraries, data_root: Path | str | None) -> list[str]:
    """A sentence on every scan of the background and every mask of the libraries that cannot be read."""
    sentences: list[str] = []
    _people(background, data_root, sentences.append, align=False)
    for library, root in libraries:
        _usable(library, root, sentences.append)
    return sentences


def usable(
    background: Recipe, libraries: Libraries, data_root: Path | str | None, left_out: LeftOut
) -> tuple[Recipe, list[tuple[Library, Path]]]:
    """The background and the libraries without what is bad, which is named to `left_out`; as they were where nothing is.

    A scan counts as bad too when it cannot be aligned to the template. BadInput when none is left.
    """
    good = _people(background, data_root, left_out, align=True)
    if not good:
        raise BadInput(
            f"recipe {background.name}: every scan is bad and left out; see `braintransfer data check {background.name}`"
        )
    return background.model_copy(update={"only": tuple(good)}), [
        (_usable(library, root, left_out), root) for library, root in libraries
    ]


def _people(background: Recipe, data_root: Path | str | None, left_out: LeftOut, align: bool) -> list[str]:
    good = []
    for files in scan_files(background, data_root):
        try:
            person = read_subject_scan(background, files)
            if align:
                align_to_template(person.image, person.brain)
        except BadInput as error:
            left_out(str(error))
        else:
            good.append(files.subject)
    return good


def _usable(library: Library, root: Path, left_out: LeftOut) -> Library:
    """The library with its unreadable masks excluded, each by a part of its path that no other mask has."""
    paths = [path for path, _ in match_files(root, library.pattern)]
    parts = {path: path.relative_to(root).parts for path in paths}
    words = []
    for path in paths:
        if set(parts[path]) & set(library.exclude):
            continue
        try:
            read_mask(path, values={0, 1})
        except BadInput as error:
            own = [w for w in parts[path] if sum(w in p for p in parts.values()) == 1]
            if not own:
                raise
            left_out(str(error))
            words.append(own[0])
    return library.model_copy(update={"exclude": (*library.exclude, *words)})
