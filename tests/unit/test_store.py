"""The slice store: what is written comes back, test people stay shut, and a torn store says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.provenance import write_manifest
from braintransfer.store import Store, StoreWriter, TestSubjectsLocked, open_store, target_folds


def make_store(folder: Path, people: int = 9, folds: int = 3) -> Store:
    """A finished little store: two scans of person 0, one of each other, three slices a scan."""
    rng = np.random.default_rng(0)
    writer = StoreWriter(folder, (8, 6))
    for person in range(people):
        for scan in range(2 if person == 0 else 1):
            images = np.full((3, 8, 6), person + 1, np.uint8)
            masks = rng.integers(0, 2, (3, 8, 6)).astype(np.uint8)
            writer.add(
                images, masks, subject=f"p{person}", scan=f"p{person}s{scan}", slices=[4, 5, 6], geometry={"age": 30}
            )
    names = [f"p{person}" for person in range(people)]
    writer.finish(target_folds(names, folds=folds, n_validation=1, rng=study.stream(0, "split")))
    write_manifest(folder, stage="prepare", key="k", parameters={}, code="c", inputs={}, facts={"title": "little"})
    return open_store(folder)


def test_slices_come_back_as_they_were_written(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    rows = store.rows(["p3"])
    with store.final_scoring():
        images, masks = store.load(rows)
    assert images.shape == (3, 8, 6) and (images == 4).all()
    assert list(store.slices["slice"].iloc[rows]) == [4, 5, 6]
    assert [int(m.sum()) for m in masks] == list(store.slices["foreground"].iloc[rows])


def test_the_arrays_are_plain_numpy_files(tmp_path: Path) -> None:
    make_store(tmp_path)
    assert np.load(tmp_path / "images.npy", mmap_mode="r", allow_pickle=False).shape == (30, 8, 6)


def test_a_subject_never_crosses_the_split(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    seen: list[str] = []
    for fold in store.splits["folds"]:
        parts = [set(fold[p]) for p in ("train", "validation", "test")]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert set().union(*parts) == {f"p{i}" for i in range(9)}
        seen += fold["test"]
    assert sorted(seen) == sorted({f"p{i}" for i in range(9)}), "each person is tested exactly once"


def test_test_people_stay_shut_until_the_final_scoring(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    test = store.subjects("test", 1)
    with pytest.raises(TestSubjectsLocked):
        store.rows(test, fold=1)
    with pytest.raises(TestSubjectsLocked):
        store.load(store.rows(test), fold=1)
    with pytest.raises(TestSubjectsLocked):
        store.load(store.rows(store.subjects("train", 1)))
    store.load(store.rows(store.subjects("train", 1), fold=1), fold=1)
    with store.final_scoring():
        store.load(store.rows(test, fold=1), fold=1)
    with pytest.raises(TestSubjectsLocked):
        store.load(store.rows(test), fold=1)


def test_training_subsets_are_nested_and_belong_to_their_seed(tmp_path: Path) -> None:
    store = make_store(tmp_path, people=30)
    for seed in range(3):
        assert store.training_subset(0, seed, 2) == store.training_subset(0, seed, 8)[:2]
    assert store.training_subset(0, 0, 0) != store.training_subset(0, 1, 0)
    assert set(store.training_subset(0, 0, 0)) == set(store.subjects("train", 0))
    with pytest.raises(BadInput, match="n_train = 99"):
        store.training_subset(0, 0, 99)


def test_every_training_set_of_four_holds_an_older_person() -> None:
    people = [f"y{i}" for i in range(11)] + [f"o{i}" for i in range(6)]
    strata = ["under 30"] * 11 + ["over 45"] * 6
    for seed in range(20):
        splits = target_folds(people, folds=4, n_validation=3, rng=study.stream(seed, "split"), strata=strata)
        for fold in splits["folds"]:
            for order in fold["order"]:
                assert any(s.startswith("o") for s in order[:4])
            assert any(s.startswith("o") for s in fold["test"])


def test_every_part_of_a_fold_holds_small_and_large_lesions() -> None:
    from braintransfer.prepare import _strata

    loads = [0.1 * 1.4**k for k in range(26)]
    strata = _strata("stroke", [{"lesion_ml": ml} for ml in loads])
    assert strata is not None and strata[0] == "small" and strata[-1] == "large"
    people = [f"p{k}" for k in range(26)]
    for seed in range(10):
        for fold in target_folds(people, folds=3, n_validation=2, rng=study.stream(seed, "s"), strata=strata, n_test=6)[
            "folds"
        ]:
            for part in (fold["test"], fold["order"][0][:6]):
                assert {strata[people.index(s)] for s in part} == {"small", "medium", "large"}


def test_sites_stay_together_where_a_set_has_sites() -> None:
    people = [f"p{i}" for i in range(12)]
    sites = [f"site{i % 4}" for i in range(12)]
    for fold in target_folds(people, folds=2, n_validation=1, rng=study.stream(0, "split"), sites=sites)["folds"]:
        tested = {sites[people.index(s)] for s in fold["test"]}
        trained = {sites[people.index(s)] for s in fold["train"]}
        assert not tested & trained


def test_too_few_people_for_the_folds_is_said_in_one_line() -> None:
    with pytest.raises(BadInput, match="too few for 3 folds"):
        target_folds(["a", "b", "c"], folds=3, n_validation=2, rng=study.stream(0, "split"))


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "slices.csv", "splits.json"])
def test_a_torn_store_names_itself(tmp_path: Path, name: str) -> None:
    make_store(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="run `prepare` again"):
        open_store(tmp_path)


def test_a_store_without_a_manifest_is_no_store(tmp_path: Path) -> None:
    make_store(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(BadInput, match="no finished slice store"):
        open_store(tmp_path)


def test_a_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, (8, 6))
    with pytest.raises(ValueError, match="do not fit"):
        writer.add(np.zeros((1, 8, 7), np.uint8), np.zeros((1, 8, 7), np.uint8), subject="a", scan="a")
    with pytest.raises(ValueError, match="uint8"):
        writer.add(np.zeros((1, 8, 6)), np.zeros((1, 8, 6), np.uint8), subject="a", scan="a")
