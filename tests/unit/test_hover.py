"""Promises of the glossary: where a term is used, its definition can be read without leaving the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sphinx.application import Sphinx

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGE = (
    "# Page\n\nA {term}`fold`, many {term}`folds <fold>`, an [outside link](https://example.org) and {doc}`glossary`.\n"
)
GLOSSARY = (
    "# Glossary\n\n:::{glossary}\nfold\n  One way to split & test.\n\n  See {doc}`index`.\n\nseed\n  A number.\n:::\n"
)


def test_a_term_carries_the_first_paragraph_of_its_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BOOK / "_ext"))
    (tmp_path / "index.md").write_text(PAGE + "\n```{toctree}\nglossary\n```\n")
    (tmp_path / "glossary.md").write_text(GLOSSARY)
    settings = {"extensions": ["myst_parser", "hover"], "myst_enable_extensions": ["colon_fence"]}
    app = Sphinx(tmp_path, None, tmp_path / "out", tmp_path / "out", "html", settings, status=None, warning=None)
    app.build()
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    said = re.findall(r'href="glossary.html#term-fold" data-definition="([^"]*)"', page)
    assert said == ["One way to split &amp; test."] * 2
    assert page.count("data-definition") == 2 and 'title="One' not in page
