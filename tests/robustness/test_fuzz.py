"""A short turn of the fuzzer in every run of the tests; for a long one see fuzz.py."""

from __future__ import annotations

import random

import fuzz
import pytest

EVERY = fuzz.readers()


@pytest.mark.parametrize("name", EVERY)
def test_files_changed_at_random_are_read_or_refused(name: str) -> None:
    findings, done, lines = fuzz.fuzz(EVERY[name], random.Random(0), executions=150)
    assert done == 150 and lines > 10
    assert not findings, [(f.what, f.content[:200]) for f in findings]


def test_the_fuzzer_finds_what_is_planted_and_follows_new_lines() -> None:
    def fragile(folder: fuzz.Path) -> None:
        data = (folder / "a").read_bytes()
        if data[:1] != b"a":
            raise fuzz.BadInput("no")
        if len(data) > 6:
            raise KeyError("planted")

    reader = fuzz.Reader("fragile", (b"abcd",), "a", fragile)
    findings, done, _ = fuzz.fuzz(reader, random.Random(0), executions=300)
    assert [f.what for f in findings] == ["KeyError: 'planted'"] and done == 300
