"""A project of its own to run the study in, and the door to it as a user would type it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make_project(folder: Path) -> Path:
    """A copy of what a project needs to run: notebooks, prose and configuration, but no run of anybody's."""
    for name in ("notebooks", "book"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "reference"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def door(project: Path, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """`braintransfer ARGUMENTS` in `project`, as a user would type it."""
    return subprocess.run(
        [sys.executable, "-m", "braintransfer.cli", *arguments],
        cwd=project, capture_output=True, text=True, timeout=timeout, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
