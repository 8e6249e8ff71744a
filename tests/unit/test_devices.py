"""Stages that train at the same time: which GPU does each see? The GPUs are made up: nothing here asks CUDA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from braintransfer import devices
from braintransfer.errors import BadInput

# `braintransfer stage` with its notebook replaced by a note of what it sees, and when
RECORDER = """
import json, os, sys, time
from pathlib import Path
from braintransfer import cli

def note(stage, run):
    seen = {"sees": os.environ.get("CUDA_VISIBLE_DEVICES"), "spread": os.environ.get("BRAINTRANSFER_SPREAD")}
    seen["from"] = time.time()
    time.sleep(1.5)
    (Path(os.environ["NOTES"]) / f"{os.getpid()}.json").write_text(json.dumps({**seen, "to": time.time()}))
    return 0

cli.execute = note
cli.main()
"""


def stages_at_once(tmp_path: Path, n: int, visible: str, needs: int = 1, **environment: str) -> list[dict]:
    folder = "sources/main/mri-segmentation"
    command = [
        sys.executable,
        "-c",
        RECORDER,
        "stage",
        "--profile",
        "tiny",
        "--run",
        "runs/tiny",
        "--devices",
        str(needs),
    ]
    (tmp_path / "notes").mkdir()
    around = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "TMPDIR": str(tmp_path), "NOTES": str(tmp_path / "notes")}
    around.pop("SLURM_JOB_ID", None)
    started = [subprocess.Popen([*command, folder], env={**around, **environment}) for _ in range(n)]
    assert [process.wait(300) for process in started] == [0] * n
    return [json.loads(path.read_text()) for path in (tmp_path / "notes").iterdir()]


def most_at_once(notes: list[dict], device: str) -> int:
    on = [note for note in notes if device in note["sees"].split(",")]
    return max((sum(o["from"] <= note["from"] < o["to"] for o in on) for note in on), default=0)


def test_each_stage_has_a_device_of_its_own_and_all_are_used(tmp_path: Path) -> None:
    notes = stages_at_once(tmp_path, 5, "0,GPU-ab12")
    assert {note["sees"] for note in notes} == {"0", "GPU-ab12"}
    assert most_at_once(notes, "0") == most_at_once(notes, "GPU-ab12") == 1


def test_two_share_a_device_only_where_asked(tmp_path: Path) -> None:
    notes = stages_at_once(tmp_path, 3, "3", BRAINTRANSFER_PER_DEVICE="2")
    assert most_at_once(notes, "3") == 2


def test_a_spread_training_has_all_its_devices_to_itself(tmp_path: Path) -> None:
    notes = stages_at_once(tmp_path, 3, "0,1,2", needs=2)
    assert all(len(set(note["sees"].split(","))) == 2 and note["spread"] == "2" for note in notes)
    assert max(most_at_once(notes, device) for device in "012") == 1


@pytest.mark.parametrize(
    ("visible", "names"),
    [("0,2", ["0", "2"]), ("", []), ("-1", []), ("1,-1,0", ["1"]), ("NoDevFiles", []), ("MIG-a, 1", ["MIG-a", "1"])],
)
def test_devices_are_read_as_cuda_reads_them(visible: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.found() == names


def test_a_cluster_has_chosen_already_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(BadInput, match="spread over 2 GPUs, but there are 1"), devices.held(2):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with devices.held(1) as first, devices.held(1) as second:
        assert first == second == ["1"]
