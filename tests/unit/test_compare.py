"""What becomes of a cell's scores before they are compared."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from braintransfer import study
from braintransfer.compare import read_cell
from braintransfer.provenance import write_manifest
from braintransfer.settings import CompareSettings


def cell(run: Path) -> pd.DataFrame:
    """Fold 1, seed 2 of one cell: person a with two scans, b with one that has no value, c with one of two."""
    folder = run / "targets" / "main" / "ms" / "scratch" / "fold-1" / "seed-2"
    folder.mkdir(parents=True)
    rows = [("a", "a1", 0.2), ("a", "a2", 0.6), ("b", "b1", math.nan), ("c", "c1", 0.5), ("c", "c2", math.nan)]
    table = pd.DataFrame(
        [(p, s, "dice", "", v) for p, s, v in rows], columns=["subject", "scan", "metric", "class", "value"]
    )
    table.to_csv(folder / "scores.csv", index=False)
    parameters = {"encoder": "e", "fold": 1, "seed": 2}
    write_manifest(folder, stage="finetune", key="k", parameters=parameters, code="c", inputs={}, n_train=4)
    return read_cell(CompareSettings(read_from=str(run), write_to=str(run), cells=["ms:scratch"]), "ms", "scratch")


def test_a_person_is_one_row_however_many_scans(tmp_path: Path) -> None:
    found = cell(tmp_path)
    assert list(found.columns) == study.RESULT_COLUMNS
    assert found["subject"].tolist() == ["a", "b", "c"]
    assert found["value"].tolist()[::2] == pytest.approx([0.4, 0.5]) and math.isnan(found["value"][1])


def test_a_row_says_its_own_fold_and_seed(tmp_path: Path) -> None:
    found = cell(tmp_path)
    assert set(found["fold"]) == {1} and set(found["seed"]) == {2} and set(found["n_train"]) == {4}
    assert set(found["n_source"]) == {0} and set(found["domain"]) == {""}
