"""Hashes and manifests: what counts as done, what is redone, and that nothing is written by halves."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch

from braintransfer import provenance
from braintransfer.errors import BadInput
from braintransfer.provenance import (
    atomic_write_text,
    code_hash,
    content_digest,
    in_project,
    is_done,
    only_writer,
    project_root,
    stage_key,
    write_manifest,
    write_table,
)


def finished(folder: Path, key: str = "k") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.csv").write_text("1\n", encoding="utf-8")
    write_manifest(folder, stage="s", key=key, parameters={}, code="c", inputs={})
    return folder


def test_a_stage_is_done_only_with_its_own_key_and_whole_outputs(tmp_path: Path) -> None:
    folder = finished(tmp_path / "s")
    assert is_done(folder, "k")
    assert not is_done(folder, "other")
    (folder / "a.csv").write_text("2\n", encoding="utf-8")
    assert not is_done(folder, "k")
    (folder / "a.csv").unlink()
    assert not is_done(folder, "k")


def test_a_stage_that_begins_anew_leaves_nothing_of_its_earlier_version(tmp_path: Path) -> None:
    def done(folder: Path, *names: str) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x", encoding="utf-8")
        provenance.write_manifest(folder, stage="prepare", key="k", parameters={}, code="c", inputs={})

    done(tmp_path / "seed-0", "scores.csv")
    others = ("training.safetensors", "prepare.ipynb", "stage.log")
    done(tmp_path, "references/a_mask.nii.gz", "showcase.csv", *others)
    provenance.start_anew(tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == sorted((*others, "seed-0/manifest.json", "seed-0/scores.csv")), "a deeper stage and its files stay"


def test_a_half_written_manifest_is_none(tmp_path: Path) -> None:
    folder = finished(tmp_path / "s")
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text(text[: len(text) // 2], encoding="utf-8")
    assert not is_done(folder, "k")
    with pytest.raises(BadInput, match="not finished"):
        content_digest(folder)


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(provenance.os, "fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        atomic_write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_run_lies_does_not_change_a_key_but_a_parameter_does() -> None:
    here = stage_key("s", {"write_to": "a", "steps": 1}, "c", {})
    assert here == stage_key("s", {"write_to": "b", "steps": 1}, "c", {})
    assert here != stage_key("s", {"write_to": "a", "steps": 2}, "c", {})
    assert here != stage_key("s", {"write_to": "a", "steps": 1}, "other", {})


def edited(tmp_path: Path, change: str, kind: str) -> str:
    book = nbformat.read(project_root() / "notebooks" / "finetune.ipynb", as_version=4)
    cell = next(
        c for c in reversed(book.cells) if c.cell_type == kind and "parameters" not in c.metadata.get("tags", [])
    )
    cell.source += change
    nbformat.write(book, tmp_path / "finetune.ipynb")
    return code_hash(tmp_path / "finetune.ipynb")


def test_prose_and_comments_never_retrain_but_code_does(tmp_path: Path) -> None:
    before = code_hash(project_root() / "notebooks" / "finetune.ipynb")
    assert edited(tmp_path, "\nMore words.", "markdown") == before
    assert edited(tmp_path, "\n# a comment", "code") == before
    assert edited(tmp_path, "\nx = 1", "code") != before


def test_the_code_hash_follows_imports_but_not_docstrings_or_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "braintransfer"
    shutil.copytree(Path(provenance.__file__).parent, package)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    notebook = project_root() / "notebooks" / "finetune.ipynb"
    before = code_hash(notebook)

    def after(name: str, old: str, new: str) -> str:
        path = package / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        changed = code_hash(notebook)
        path.write_text(text, encoding="utf-8")
        return changed

    first_line = (package / "metrics.py").read_text(encoding="utf-8").splitlines()[0]
    assert after("metrics.py", first_line, first_line.replace('"""', '"""Other words. ', 1)) == before
    assert after("figures/base.py", "import", "x = 1\nimport") == before
    assert after("statistics.py", "import", "x = 1\nimport") == before
    imports = "from __future__ import annotations"
    for name in ("metrics.py", "volumes.py", "augment.py", "transfer.py", "store.py"):
        assert after(name, imports, f"{imports}\nx = 1") != before, f"{name} is part of fine-tuning"
    assert after("simulate/brains.py", imports, f"{imports}\nx = 1") == before, (
        "the simulator is no part of fine-tuning"
    )


def test_equal_tables_are_equal_bytes_also_compressed(tmp_path: Path) -> None:
    frame = pd.DataFrame({"b": ["y", "x"], "value": [1 / 3, float("nan")]})
    for name in ("t.csv", "t.csv.gz"):
        write_table(tmp_path / f"1{name}", frame, sort_by=["b"])
        write_table(tmp_path / f"2{name}", frame.iloc[::-1], sort_by=["b"])
        assert (tmp_path / f"1{name}").read_bytes() == (tmp_path / f"2{name}").read_bytes()
    assert (tmp_path / "1t.csv").read_bytes() == b"b,value\nx,\ny,0.333333\n"


def test_a_second_writer_of_a_folder_is_told_so(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(BadInput, match="another process"), only_writer(tmp_path, wait_s=0.2):
        pass


def test_paths_start_at_the_project_wherever_a_notebook_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    root = project_root()
    monkeypatch.chdir(root / "notebooks")
    assert in_project("runs/demo") == root / "runs" / "demo"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the variables are for x86 processors")
def test_a_manifest_names_the_instructions_that_a_training_computed_with() -> None:
    command = [
        sys.executable,
        "-c",
        "import torch; from braintransfer import provenance as p; print(p.versions()['instructions'])",
    ]
    told = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert subprocess.check_output(command, env=told, text=True).strip() == "AVX2, oneDNN at most AVX2"
    plain = {k: v for k, v in os.environ.items() if k not in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")}
    assert subprocess.check_output(command, env=plain, text=True).strip() == torch.backends.cpu.get_cpu_capability()
