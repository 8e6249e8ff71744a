"""Promises of the book's prose: what it lists is what the code has, and its definitions fit on a note."""

from __future__ import annotations

import re
from pathlib import Path

from braintransfer.study import ARMS, arm

BOOK = Path(__file__).resolve().parents[2] / "book"


def test_every_arm_is_explained_on_the_design_page_and_every_one_explained_is_an_arm() -> None:
    table = (BOOK / "design.md").read_text(encoding="utf-8").partition(":name: tab-arms")[2].partition(":::")[0]
    listed = re.findall(r"^`(\w[\w.]*)`", table, re.MULTILINE)
    assert {a.name for a in ARMS} <= set(listed)
    for name in listed:
        assert arm(name + "set" if name.endswith("_") else name).says


def test_every_term_of_the_glossary_has_one_definition_short_enough_for_a_note() -> None:
    entries = re.findall(r"^(\S.*)\n  (\S.*)$", (BOOK / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    terms = [term.lower() for term, _ in entries]
    assert len(terms) > 60 and len(set(terms)) == len(terms)
    too_long = [term for term, said in entries if len(said) > 170]
    assert not too_long, f"a note under the mouse has no room for them: {too_long}"
