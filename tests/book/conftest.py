"""The one book that these tests build."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import a_project, a_run

from braintransfer import book


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the book built from a made-up run."""
    root = a_project(tmp_path_factory.mktemp("project"))
    a_run(root)
    index = book.build(root, "demo", report=lambda line: None)
    assert index == root / "_build" / "html" / "index.html"
    return index.parent
