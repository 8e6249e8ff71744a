"""The lowest, the pinned and the newest packages that pyproject.toml allows, each on another Python.

A quarter of an hour each and some gigabytes, so only where asked: BRAINTRANSFER_VERSIONS=1, or =lowest, =pinned, =newest for one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ASKED = os.environ.get("BRAINTRANSFER_VERSIONS", "")
WAYS = {"lowest": "3.11", "pinned": "3.12", "newest": "3.13"}
#: Not of interest here, or asking for what is not installed: the course and the proofs run the same code for much longer.
LEFT_OUT = ("test_course.py", "test_worlds.py", "test_environment.py")
NOT_COPIED = (".*", "__pycache__", "_build", "build", "runs", "node_modules", "*.egg-info")

if not ASKED:
    pytest.skip("BRAINTRANSFER_VERSIONS=1 makes three environments and runs these", allow_module_level=True)
pytestmark = pytest.mark.timeout(7200)


def lowest() -> Iterator[str]:
    """Each direct requirement at the lower end of its range."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["test"]:
        requirement = Requirement(line)
        low = next(s.version for s in requirement.specifier if s.operator in (">=", "=="))
        yield f"{requirement.name}=={low}"


def interpreter(version: str) -> str:
    """Python of this version: by the name it has on the PATH, or asked of pyenv."""
    found = shutil.which(f"python{version}")
    works = found and subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0
    if not works and shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], check=True, capture_output=True, text=True).stdout.strip()
        found = next((str(p) for p in sorted(Path(root).glob(f"versions/{version}.*/bin/python"))), None)
        works = bool(found)
    if not works or found is None:
        pytest.skip(f"no Python {version} here")
    return found


@pytest.mark.parametrize("which", [way for way in WAYS if ASKED in ("1", way)])
def test_the_study_runs_and_the_units_hold_with_these_versions(which: str, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([interpreter(WAYS[which]), "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    constraints = {"lowest": tmp_path / "lowest.txt", "pinned": ROOT / "constraints.txt"}.get(which)
    if which == "lowest":
        (tmp_path / "lowest.txt").write_text("\n".join(lowest()) + "\n", encoding="utf-8")
    project = tmp_path / "project"  # where the build may leave its traces
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(*NOT_COPIED))
    asked = ["-c", str(constraints)] if constraints else []
    install = [str(python), "-m", "pip", "install", "-q", *asked, "-e", f"{project}[test]"]
    done = subprocess.run(install, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | {"PYTHONNOUSERSITE": "1"}
    left_out = [f"--ignore=tests/unit/{name}" for name in LEFT_OUT]
    units = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit", *left_out],
        cwd=project, env=env, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert units.returncode == 0, units.stdout[-5000:]
    for command in (
        ["run", "--profile", "tiny", "--only", "stroke:scratch,stroke:mri-segmentation"],
        ["verify", "runs/tiny"],
        ["book", "--profile", "tiny"],
    ):
        stage = subprocess.run(
            [environment / "bin" / "braintransfer", *command], cwd=project, env=env, check=False, capture_output=True, text=True
        )  # fmt: skip
        assert stage.returncode == 0, (stage.stdout + stage.stderr)[-5000:]
