"""The list of deliberate mistakes fits today's code, and the runner tells a caught one from one that nobody notices."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from braintransfer.errors import BadInput
from braintransfer.proofs import mutations
from braintransfer.proofs.mutations import MUTATIONS, Mutation
from braintransfer.provenance import project_root

SOURCE = project_root() / "src" / "braintransfer"
FAST = next(m for m in MUTATIONS if m.name == "sign of the margin flipped")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little project: one function, and a test that checks its sign but not its size."""
    root = tmp_path_factory.mktemp("project")
    package, tests = root / "src" / "braintransfer", root / "tests" / "unit"
    package.mkdir(parents=True)
    tests.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sums.py").write_text("def double(x):\n    return 2 * x\n")
    (tests / "test_statistics.py").write_text(
        "from braintransfer.sums import double\n\n\ndef test_the_sign_stays():\n    assert double(1) > 0\n"
    )
    return root


def mistake(new: str) -> Mutation:
    return Mutation("made up", f"times {new}", "sums.py", "2 * x", new, ("statistics",))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_every_mistake_can_be_made_in_todays_source(mutation: Mutation) -> None:
    source = (SOURCE / mutation.file).read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1, f"{mutation.file}: mend the text of '{mutation.name}'"
    assert ast.dump(ast.parse(mutations.mutated(source, mutation))) != ast.dump(ast.parse(source))
    for name in mutation.tests:
        assert (project_root() / "tests" / "unit" / f"test_{name}.py").is_file()


def test_there_are_enough_mistakes_of_every_kind() -> None:
    areas = {"training", "seeds", "splits", "transfer", "back to the scan", "metrics", "statistics"}
    assert {m.area for m in MUTATIONS} == areas and len(MUTATIONS) >= 24
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS)
    assert mutations.sample(10_000) == MUTATIONS and {m.area for m in mutations.sample(14)} == areas


def test_a_mistake_that_a_test_sees_is_caught_and_one_that_none_sees_survives(quick: Path) -> None:
    lines: list[str] = []
    found = mutations.mutation_table([mistake("-2 * x"), mistake("3 * x")], lines.append, quick)
    assert found["result"].tolist() == ["caught", "survived"]
    assert found["caught by"].tolist() == ["test_statistics: the sign stays", ""]
    assert list(found.columns) == mutations.COLUMNS and len(lines) == 3
    assert (quick / "src" / "braintransfer" / "sums.py").read_text().count("2 * x") == 1, "only the copy is broken"


def test_code_that_does_not_import_is_no_catch(quick: Path) -> None:
    with mutations.project_copy(quick) as copy:
        assert mutations.run_mutation(copy, mistake("x\n\n\nraise RuntimeError")).result == "did not run"
        assert mutations.run_mutation(copy, mistake("-x")).result == "caught", "the mistake before was taken back"


def test_a_catch_counts_only_if_the_tests_pass_without_the_mistake(quick: Path) -> None:
    with mutations.project_copy(quick) as copy:
        (copy / "src" / "braintransfer" / "sums.py").write_text("def double(x):\n    return 2 * x - 9\n")
        with pytest.raises(BadInput, match="without any mistake: caught"):
            mutations.mutation_table([mistake("3 * x")], root=copy)


def test_a_text_that_is_gone_is_said_in_one_line() -> None:
    with pytest.raises(BadInput, match="stands there 0 times, not once"):
        mutations.mutated("nothing", FAST)
    with pytest.raises(BadInput, match="stands there 2 times"):
        mutations.mutated("x = 1\nx = 1", replace(FAST, old="x = 1"))


def test_a_real_mistake_in_a_copy_of_this_project_is_caught() -> None:
    with mutations.project_copy() as copy:
        assert mutations.copy_is_tested(copy)
        found = mutations.run_mutation(copy, replace(FAST, tests=("claims",)))
    assert found.result == "caught" and found.by.startswith("test_claims: ")


def test_tests_that_do_not_end_are_no_catch(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "TIME_LIMIT", 0.01)
    with mutations.project_copy(quick) as copy:
        found = mutations.run_mutation(copy, mistake("-2 * x"))
    assert (found.result, found.by) == ("did not run", "no end within 0.01 s")


def test_the_committed_table_is_about_this_list() -> None:
    table = pd.read_csv(project_root() / "book" / "proof" / "mutations.csv", keep_default_na=False)
    assert list(table["mistake"]) == [m.name for m in MUTATIONS]
    assert set(table["result"]) == {"caught"}
