"""What becomes of a cell's scores before they are compared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braintransfer import compare, study
from braintransfer.compare import read_cell
from braintransfer.provenance import write_manifest
from braintransfer.settings import CompareSettings
from braintransfer.store import StoreWriter


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


@pytest.mark.parametrize(
    ("drawn_by", "can_learn", "counts"),
    [("now", True, True), ("otherwise", True, False), ("now", False, False), ("", True, False)],
)
def test_a_null_check_counts_only_for_the_lesions_it_was_made_with_and_where_it_could_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: str, can_learn: bool, counts: bool
) -> None:
    kept = {"dice": 0.05, "prior_map_dice": 0.04, "artefact_auc": 0.5, "drawn_by": "now", "can_learn": can_learn}
    (tmp_path / "runs" / "proof" / "lesions").mkdir(parents=True)
    path = tmp_path / "runs" / "proof" / "lesions" / "null_check.json"
    path.write_text(json.dumps({"ms": kept}), encoding="utf-8")
    monkeypatch.setattr(compare, "project_root", lambda: tmp_path)
    writer = StoreWriter(tmp_path / "data" / "ms", (8, 8))
    writer.add(np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8), subject="a", scan="a")
    writer.finish({"folds": [{"train": ["a"], "validation": [], "test": [], "order": [["a"]]}]})
    facts = {"drawn_by": drawn_by}
    write_manifest(tmp_path / "data" / "ms", stage="prepare", key="k", parameters={}, code="c", inputs={}, facts=facts)
    settings = CompareSettings(read_from=str(tmp_path), write_to=str(tmp_path), cells=["ms:scratch"])
    expected = {"ms": {"dice": 0.05, "prior_map_dice": 0.04, "artefact_auc": 0.5}} if counts else {}
    assert compare.null_checks(settings, ["ms"]) == expected
