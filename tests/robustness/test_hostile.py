"""Nobody let in: every hostile input ends in one line and exit code 2; nothing of it is run, written or allocated."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import click
import hostile
import pytest
from click.testing import CliRunner, Result

from braintransfer import cli

#: Megabytes that a refusal may need on top of what the test itself holds.
MOST_MB = 120
ROOT = Path(__file__).resolve().parents[2]


def _status(name: str) -> int:
    """A line of /proc/self/status in kB (Linux); 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _peak_mb_of(act: click.Command) -> tuple[Result, float]:
    """What the door says to a command, and by how many megabytes the peak of this process rose above its start."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5", encoding="ascii")
    before = _status("VmRSS")
    result = CliRunner().invoke(act, [])
    return result, (_status("VmHWM") - before) / 1024


def through_the_door(case: hostile.Case, folder: Path) -> tuple[Result, float]:
    door = cli.Door("door", invoke_without_command=True)

    @door.result_callback()
    def _nothing(*_: object) -> None: ...

    @door.command("act")
    def _act() -> None:
        case.act(folder)

    @click.command()
    def call() -> None:
        door.main(["act"], standalone_mode=True)

    return _peak_mb_of(call)


def test_there_are_enough_cases_of_every_kind() -> None:
    names = [case.name for case in hostile.CASES]
    assert len(set(names)) == len(names) >= 60
    assert {name.split(":")[0] for name in names} >= {
        "encoder",
        "store",
        "volume",
        "recipe",
        "archive",
        "parameter",
        "profile",
    }


@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: case.name)
def test_a_hostile_input_is_refused_in_one_line(
    case: hostile.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    case.make(folder)
    monkeypatch.chdir(folder)
    made = {p for p in tmp_path.rglob("*")}
    refused, megabytes = through_the_door(case, folder)
    said = refused.output.rstrip("\n")
    assert refused.exit_code == 2, (said, refused.exception)
    assert said.startswith("error: ") and said.isprintable() and case.says in said, said
    assert len(said) < 3000, "a line that nobody can read"
    assert megabytes < MOST_MB, said
    found = [
        p for p in tmp_path.rglob("*") if p not in made and p.name not in ("out", "mine", "recipe.yaml", "all.json")
    ]
    assert not [p for p in found if p.suffix not in (".nii", ".jpg")], found
    assert not Path("/tmp/canary").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    "word", ["x; touch canary", "$(touch canary)", "$(shell touch canary)", "a'b; touch canary", '"; touch canary; "']
)
def test_make_hands_a_word_on_as_it_was_typed(word: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", ".venv/.installed"):
        (tmp_path / name).touch()
    stub = tmp_path / ".venv" / "bin" / "braintransfer"
    stub.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\" >> said.txt\n", encoding="utf-8")
    stub.chmod(0o755)
    # words given to the make that runs the tests are none of this one's
    alone = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")}
    command = ["make", "study", f"PROFILE={word}", f"DATA={word}"]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "said.txt").read_text(encoding="utf-8").splitlines()
    assert said == ["run", "--profile", word, "--data", word, "book", "--profile", word]
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("words", hostile.COMMANDS, ids=lambda words: " ".join(words))
def test_a_hostile_word_on_the_command_line_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("notebooks", "_config.yml"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)  # type: ignore[operator]
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(cli.main, words)
    assert said.exit_code == 2, (said.output, said.exception)
    assert said.output.startswith("error: ") and said.output.rstrip("\n").isprintable(), said.output
    assert not list(tmp_path.rglob("*canary*")) and not (tmp_path / "runs").exists()
