"""Promises of the watch over kernels: a lost cell does not stop a run for ever, and a cell that waits is let wait."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest

from braintransfer import kernels

LOSE = """
from pathlib import Path
from IPython import get_ipython

async def swallow(*request):
    "A kernel that gets a cell and never answers."

if len(list(Path().glob("begun-*"))) < {times}:
    Path(f"begun-{{len(list(Path().glob('begun-*')))}}").touch()
    get_ipython().kernel.shell_handlers["execute_request"] = swallow
"""


def _notebook(folder: Path, *cells: str) -> Path:
    path = folder / "stage.ipynb"
    written = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    written.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(written, path)
    return path


def test_a_notebook_whose_kernel_lost_a_cell_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "PATIENCE", 4.0)
    notebook = _notebook(tmp_path, LOSE.format(times=1), "Path('done').touch()")
    kernels.execute(notebook, tmp_path / "out.ipynb", {}, tmp_path)
    assert (tmp_path / "done").is_file() and len(list(tmp_path.glob("begun-*"))) == 1
    assert capsys.readouterr().err.count("stood idle for 4 s with a cell to do; begun again") == 1


def test_kernels_that_lose_their_cells_again_and_again_are_given_up_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "PATIENCE", 4.0)
    monkeypatch.setattr(kernels, "TRIES", 2)
    notebook = _notebook(tmp_path, LOSE.format(times=9), "Path('done').touch()")
    with pytest.raises(
        kernels.LostCell, match="stage.ipynb: the kernel stood idle for 4 s with a cell to do, 2 times; repeat"
    ):
        kernels.execute(notebook, tmp_path / "out.ipynb", {}, tmp_path)
    assert len(list(tmp_path.glob("begun-*"))) == 2 and not (tmp_path / "done").exists()


def test_a_cell_that_waits_for_something_is_let_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "PATIENCE", 2.0)
    monkeypatch.setattr(kernels, "TRIES", 1)
    kernels.execute(_notebook(tmp_path, "import time; time.sleep(9)"), tmp_path / "out.ipynb", {}, tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="sockets that are files")
def test_a_kernel_is_spoken_to_at_a_door_of_its_own_that_is_gone_afterwards(tmp_path: Path) -> None:
    """Ports that are looked for beforehand may be another kernel's when it begins: the one dies, or waits for what goes elsewhere."""
    look = """
import json
from IPython import get_ipython
from pathlib import Path
file = get_ipython().kernel.config["IPKernelApp"]["connection_file"]
Path("door.json").write_text(Path(file).read_text())
"""
    kernels.execute(_notebook(tmp_path, look), tmp_path / "out.ipynb", {}, tmp_path)
    door = json.loads((tmp_path / "door.json").read_text(encoding="utf-8"))
    assert door["transport"] == "ipc" and Path(door["ip"]).is_absolute() and not Path(door["ip"]).parent.exists()
    assert not list(tmp_path.glob("kernel*"))
