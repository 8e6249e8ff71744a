"""Every package that is asked for stands in CONTRIBUTING.md with a reason and its licence, and nothing else does."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: What a classifier or an old licence field says, and the beginning of the SPDX names that may stand for it.
SAYS = {"BSD": "BSD", "MIT": "MIT", "Apache": "Apache-2.0", "Python Software Foundation": "PSF"}
#: Licences that ask nothing of whoever uses the project but to be named.
PERMISSIVE = re.compile(r"^(MIT(-CMU)?|BSD-[23]-Clause|Apache-2\.0|PSF-2\.0)( OR (MIT|BSD-[23]-Clause|Apache-2\.0))*$")


def listed() -> dict[str, tuple[str, str]]:
    """Package -> reason and licence, from the table."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| package | why it is here | licence |\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]
    assert len({row[0] for row in rows}) == len(rows), "a package is listed twice"
    return {canonicalize_name(name): (why, licence) for name, why, licence in rows}


def wanted() -> set[str]:
    every = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    return {canonicalize_name(Requirement(line).name) for line in every}


def test_every_dependency_is_listed_with_a_reason_and_a_licence() -> None:
    table = listed()
    assert set(table) == wanted(), "the table in CONTRIBUTING.md and pyproject.toml differ"
    for name, (why, licence) in table.items():
        assert len(why.split()) >= 1 and PERMISSIVE.match(licence), f"{name}: {why!r}, {licence!r}"


def test_the_listed_licence_is_what_the_installed_package_says() -> None:
    checked = 0
    for name, (_, licence) in listed().items():
        try:
            about: Any = metadata.metadata(name)
        except metadata.PackageNotFoundError:  # of an extra that is not installed
            continue
        expression = about.get("License-Expression")
        if expression:
            parts = re.split(r" AND | OR | WITH ", expression)
            assert any(part in licence for part in parts), f"{name}: {expression}, listed as {licence}"
            checked += 1
            continue
        stated = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or [] if c.startswith("License")]
        stated += (about.get("License") or "").splitlines()[:1]
        said = {spdx for text in stated for word, spdx in SAYS.items() if word in text}
        if said:
            assert any(licence.startswith(spdx) for spdx in said), f"{name}: {stated}, listed as {licence}"
            checked += 1
    assert checked >= 30
