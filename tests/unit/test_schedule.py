"""The proof of the schedule's length: four lengths, validation people alone, and nothing trained twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_baselines import lesion_store

from braintransfer import finetune
from braintransfer.machine import FILE
from braintransfer.proofs import schedule
from braintransfer.provenance import atomic_write_json
from braintransfer.settings import read_profile
from braintransfer.store import open_store


def test_four_lengths_are_scored_on_validation_people_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lesion_store(tmp_path / "data" / "stroke")
    atomic_write_json(tmp_path / FILE, {"device": "cpu", "precision": "fp32", "channels_last": True, "threads": 1})
    tiny = read_profile("tiny")
    profile = tiny.model_copy(update={"targets": {"stroke": tiny.targets["stroke"]}})
    said: list[str] = []
    scores = schedule.schedule_table(tmp_path, profile, [1000], tmp_path / "kept", "code", said.append)
    store = open_store(tmp_path / "data" / "stroke")
    assert set(scores["subject"]) == set(store.subjects("validation", 0)) and len(said) == 6
    assert set(scores["steps"]) == {1, 2, 4}  # a quarter and half of two steps are one
    lengths = schedule.lengths_table(scores)
    assert len(lengths) == 2 and {"1 steps", "2 steps", "4 steps"} <= set(lengths.columns)
    monkeypatch.setattr(finetune, "train", lambda *given: pytest.fail("trained twice"))
    again = schedule.schedule_table(tmp_path, profile, [1000], tmp_path / "kept", "code", said.append)
    assert again.equals(scores) and len(said) == 6
