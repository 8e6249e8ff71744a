"""What all tests share: one thread a process, and where real scans lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported, and inherited by kernels: several workers with all cores each are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data",
        default=None,
        help="folder of real data sets, absolute or from the project's root (or the environment variable DATA); "
        "tests that need it are skipped without",
    )


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder of real data sets, absolute. Skips the test where none is given; one that is missing is an error."""
    given = request.config.getoption("--data") or os.environ.get("DATA")
    if not given:
        pytest.skip("needs real scans: give their folder with DATA= (make) or --data (pytest)")
    folder = (request.config.rootpath / Path(given).expanduser()).resolve()
    if not folder.is_dir():
        pytest.fail(f"--data {given}: no such folder; looked at {folder}", pytrace=False)
    return folder
