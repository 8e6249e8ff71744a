"""A few interruptions in every run of the tests; `braintransfer prove faults` tries fifty."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from braintransfer.proofs import faults
from braintransfer.provenance import project_root

FEW = 2
#: With this seed they come late, while two networks are trained and in the comparison: the stages before need not run once more.
LATE = 1


def test_the_faults_are_drawn_beforehand_and_every_kind_comes_up() -> None:
    drawn = faults.faults(50, 0)
    assert drawn == faults.faults(50, 0) and drawn[:FEW] == faults.faults(FEW, 0)
    assert {f.kind for f in drawn} == set(faults.KINDS) and {f.stage for f in drawn} == set(faults.STAGES)
    assert all(faults.STAGES.index(f.stage) >= faults.KINDS[f.kind] for f in drawn)


@pytest.mark.timeout(3600)
def test_an_interrupted_run_finishes_with_equal_results_and_does_nothing_twice(tmp_path: Path) -> None:
    assert all(faults.STAGES.index(f.stage) >= 4 for f in faults.faults(FEW, LATE))
    table = faults.fault_table(tmp_path, FEW, LATE)
    assert list(table["fault"]) == [*list(faults.KINDS)[:FEW], "two runs at once"]
    assert set(table["results"]) == {"equal"} and set(table["done again"]) == {0}, table.to_string()
    assert set(table["then with"]) == {"0"} and table["first ended with"].iloc[-1] == "2"
    assert not list(tmp_path.iterdir()), "nothing stays behind"


def test_the_harness_sees_a_difference_and_knows_what_may_be_shown_again(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    (good / "results.csv").write_text("a\n1\n")
    assert faults._first_difference(good, good) == ""
    shutil.copytree(good, bad)
    (bad / "results.csv").write_text("a\n2\n")
    assert faults._first_difference(good, bad) == "results.csv"
    assert faults._dependents("") == set()
    assert faults._dependents("sources/main/mri-segmentation/seed-0") == {*faults.STAGES[3:4], *faults.STAGES[5:]}
    assert "targets/main/stroke/scratch/fold-0/seed-0" not in faults._dependents("data/stroke"), (
        "networks are not retrained"
    )


def test_the_committed_table_holds_what_the_page_says() -> None:
    table = pd.read_csv(project_root() / "book" / "proof" / "faults.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == faults.COLUMNS and table["fault"].iloc[-1] == "two runs at once"
    assert set(table["results"]) == {"equal"} and set(table["done again"]) == {"0"} and set(table["then with"]) == {"0"}
