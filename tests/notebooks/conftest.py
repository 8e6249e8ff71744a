"""The tiny study, run once for all stage tests: through the door, by papermill, in a project of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import door, make_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def tiny(project: Path) -> Path:
    """The run folder of the whole tiny study: all 24 cells."""
    done = door(project, "run", "--profile", "tiny", "--jobs", "2")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (project / "progress.txt").write_text(done.stdout, encoding="utf-8")
    return project / "runs" / "tiny"
