"""The leak audit: a planted leak of each kind is found and stops the run in one line; clean data pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from heads import SHAPE, head_slices, photographs

from braintransfer import audit as module
from braintransfer import tables
from braintransfer.audit import audit, finish, person
from braintransfer.errors import BadInput
from braintransfer.near_duplicates import DISGUISES
from braintransfer.provenance import read_manifest, write_manifest
from braintransfer.settings import AuditSettings
from braintransfer.store import StoreWriter

Scans = dict[str, tuple[str, str, np.ndarray, dict[str, Any]]]


@dataclass
class Made:
    """A data set before it is written: scan -> (subject, site, pictures, notes), and its splits."""

    role: str
    scans: Scans
    splits: dict[str, Any]
    target: str = ""
    publish: str = "pictures"
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, run: Path, name: str) -> None:
        folder = run / "data" / name
        writer = StoreWriter(folder, next(iter(self.scans.values()))[2].shape[1:])
        for scan, (subject, site, images, notes) in self.scans.items():
            masks = np.zeros(images.shape[:3], np.uint8)
            writer.add(images, masks, subject=subject, scan=scan, site=site, geometry={"notes": notes})
        for fold in self.splits.get("folds", []):
            fold["order"] = [fold["train"]]
        writer.finish(self.splits)
        parameters = {"role": self.role, "target": self.target}
        facts = {"publish": self.publish, "recipe": name, "title": name}
        write_manifest(folder, stage="prepare", key=name, parameters=parameters, code="", inputs={}, facts=facts)


def target(first: int, prefix: str = "p", sites: tuple[str, ...] = ("",)) -> Made:
    """Six people in two folds; person p-3 stands first in the test of fold 0."""
    people = [f"{prefix}-{k}" for k in range(6)]
    scans: Scans = {f"{s}_scan": (s, sites[k % len(sites)], head_slices(first + k), {}) for k, s in enumerate(people)}
    folds = [
        {"train": people[:2], "validation": people[2:3], "test": people[3:]},
        {"train": people[4:], "validation": people[3:4], "test": people[:3]},
    ]
    return Made("target", scans, {"folds": folds}, "stroke")


def world(*names: str) -> dict[str, Made]:
    """A clean run, or these sets of it: photographs, MRI pictures, two targets and someone who is shown."""
    natural: Scans = {f"{k:05d}": (f"photo-{k}", "", photographs(1, seed=k), {}) for k in range(12)}
    mri: Scans = {f"{k:04d}": (f"head-{k}", "", head_slices(50 + k, 6), {}) for k in range(6)}
    shown: Scans = {"scan-a": ("patient07", "", head_slices(70), {})}
    stroke, ms = target(10), target(20, "q")
    ms.target = "ms"
    for k, scan in enumerate(ms.scans):
        ms.scans[scan][3]["mask"] = f"library/mask{k:02d}"
    every = {
        "natural": Made("source", natural, {"train": [f"photo-{k}" for k in range(9)], "validation": ["photo-9", "photo-10"], "dropped": ["photo-11"]}),
        "mri": Made("source", mri, {"train": [f"head-{k}" for k in range(5)], "validation": ["head-5"], "dropped": []}),
        "stroke": stroke,
        "ms": ms,
        "ms_patients": Made("showcase", shown, {"folds": [{"train": [], "validation": [], "test": ["patient07"], "order": [[]]}]}, "ms"),
    }  # fmt: skip
    return {name: every[name] for name in names or every}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Made]], Any]:
    monkeypatch.setattr(module, "code_hash", lambda notebook: "code")
    monkeypatch.setattr(module, "PLANTED", 1)

    def search(made: dict[str, Made], **parameters: Any) -> Any:
        for name, data in made.items():
            data.write(tmp_path, name)
        settings = AuditSettings(read_from=str(tmp_path), write_to=str(tmp_path), **parameters)
        return audit(settings, lambda line: None)

    return search


def stopped(run: Any, made: dict[str, Made], tmp_path: Path, kind: str, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        run(made)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"leak of a {kind}: "), line
    for word in words:
        assert word in line, line
    table = pd.read_csv(tmp_path / "audit" / "leaks.csv", keep_default_na=False)
    leaks = set(table.loc[table["verdict"] == "leak", "kind"])
    assert kind in leaks <= {kind, "picture"}, "a person on both sides brings pictures along, nothing else"
    assert read_manifest(tmp_path / "audit") is None, "a stage with a leak must not count as done"


# ---------------------------------------------------------------------------------------------------------------- clean
def test_clean_data_pass_and_every_promise_was_looked_at(run: Any, tmp_path: Path) -> None:
    found = run(world())
    assert not (found.leaks["verdict"] == "leak").any()
    looked_at = {(r.kind, r.A, r.B) for r in found.leaks.itertuples()}
    for one in ("natural", "mri", "stroke", "ms"):
        assert {("subject", one, one), ("session", one, one), ("picture", one, one)} <= looked_at
    for source in ("natural", "mri"):
        for other in ("stroke", "ms", "ms_patients"):
            assert {("subject", source, other), ("picture", source, other)} <= looked_at
    assert {("subject", "ms", "ms_patients"), ("mask", "ms", "ms_patients"), ("mask", "ms", "ms")} <= looked_at
    parts = found.leaks[
        (found.leaks["A"] == "stroke") & (found.leaks["B"] == "stroke") & (found.leaks["kind"] == "picture")
    ]
    assert [*zip(parts["part A"], parts["part B"], strict=True)] == [
        ("train", "validation"),
        ("train", "test"),
        ("validation", "test"),
    ]
    assert (found.planted["found"] == found.planted["planted"]).all() and len(found.planted) == 5 * len(DISGUISES)
    finish(AuditSettings(read_from=str(tmp_path), write_to=str(tmp_path)), found)
    manifest = read_manifest(tmp_path / "audit")
    assert manifest is not None and set(manifest["inputs"]) == {f"data/{name}" for name in world()}
    shown = tables.leaks_for_reading(pd.read_csv(tmp_path / "audit" / "leaks.csv", keep_default_na=False))
    assert list(shown["between"][:2]) == ["the parts of MRI slices", "the parts of natural pictures"]
    made = world()
    made["stroke"].splits["folds"][1]["train"].append("p-0")
    stopped(run, made, tmp_path, "subject", "stroke p-0 (train)")  # nor does the audit that passed speak for it


def test_without_data_there_is_nothing_to_audit(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no finished data set"):
        audit(AuditSettings(read_from=str(tmp_path), write_to=str(tmp_path)))


# --------------------------------------------------------------------------------------------------------------- planted
@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_person_in_two_parts_of_a_fold_is_found(run: Any, tmp_path: Path, part: str) -> None:
    made = world("stroke")
    made["stroke"].splits["folds"][1][part].append("p-0")
    stopped(run, made, tmp_path, "subject", f"stroke p-0 ({part})", "stroke p-0 (test)")


def test_a_group_of_a_source_in_training_and_validation_is_found(run: Any, tmp_path: Path) -> None:
    made = world("mri")
    made["mri"].splits["train"].append("head-5")
    stopped(run, made, tmp_path, "subject", "mri head-5 (train)", "mri head-5 (validation)")


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_person_of_a_source_in_a_targets_test_is_found_by_name(run: Any, tmp_path: Path, part: str) -> None:
    made = world("mri", "stroke")
    names = made["mri"].splits[part]
    scan = next(s for s, (subject, *_) in made["mri"].scans.items() if subject == names[0])
    made["mri"].scans[scan] = ("p-4", *made["mri"].scans[scan][1:])
    names[0] = "p-4"
    stopped(run, made, tmp_path, "subject", "mri p-4", "stroke p-4 (test)")


def test_someone_shown_who_was_in_training_is_found(run: Any, tmp_path: Path) -> None:
    made = world("ms", "ms_patients")
    ms = made["ms"]
    ms.scans["q-0_scan"] = ("patient07", *ms.scans["q-0_scan"][1:])
    for fold in ms.splits["folds"]:
        for part in fold.values():
            part[:] = ["patient07" if s == "q-0" else s for s in part]
    stopped(run, made, tmp_path, "subject", "ms patient07 (train)", "ms_patients patient07 (shown)")


def renamed(made: Made, names: dict[str, str]) -> None:
    made.scans = {scan: (names.get(s, s), *rest) for scan, (s, *rest) in made.scans.items()}  # type: ignore[misc]
    for fold in made.splits.get("folds", [made.splits]):
        for part in fold:
            fold[part] = [names.get(s, s) for s in fold[part]]


@pytest.mark.parametrize(
    ("first", "second"),
    [("sub-01_ses-1", "sub-01_ses-2"), ("OAS1_0061_MR1", "OAS1_0061_MR2"), ("P7-visit1", "P7-visit2")],
)
def test_two_sessions_of_a_person_on_both_sides_are_found(run: Any, tmp_path: Path, first: str, second: str) -> None:
    made = world("stroke")
    renamed(made["stroke"], {"p-0": first, "p-3": second})
    stopped(run, made, tmp_path, "session", f"stroke {first} (train)", f"stroke {second} (test)")


def test_an_oasis_person_is_known_however_the_name_is_spelled(run: Any, tmp_path: Path) -> None:
    made = world("mri", "stroke")
    renamed(made["stroke"], {"p-3": "OAS1_0061"})
    renamed(made["mri"], {"head-1": "sub-OAS10061_ses-1"})
    stopped(run, made, tmp_path, "session", "mri sub-OAS10061_ses-1", "stroke OAS1_0061 (test)")


def test_one_scan_under_two_names_is_found(run: Any, tmp_path: Path) -> None:
    """A table that gives a scan to two people: half of its slices to a person in training, half to one in the test."""
    world("stroke")["stroke"].write(tmp_path, "stroke")
    path = tmp_path / "data" / "stroke" / "slices.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[table["subject"] == "p-3", "scan"] = "p-0_scan"
    table.to_csv(path, index=False)
    stopped(run, {}, tmp_path, "session", "stroke p-0 (train)", "stroke p-3 (test)", "p-0_scan")


def test_a_site_on_both_sides_is_found_where_sites_are_held_together(run: Any, tmp_path: Path) -> None:
    made = {"stroke": target(10, sites=("north", "south"))}
    stopped(run, made, tmp_path, "site", "(train) and stroke p-", "(test): north")


def test_a_site_on_both_sides_is_allowed_where_sites_are_fewer_than_folds(run: Any) -> None:
    made = {"stroke": target(10, sites=("north",))}
    table = run(made).leaks
    assert set(table.loc[table["kind"] == "site", "verdict"]) == {"allowed"}
    assert (table.loc[table["verdict"] == "allowed", "why"] != "").all()


def test_a_lesion_mask_on_both_sides_is_found(run: Any, tmp_path: Path) -> None:
    made = world("ms")
    made["ms"].scans["q-3_scan"][3]["mask"] = "library/mask00"
    stopped(run, made, tmp_path, "mask", "ms q-0 (train)", "ms q-3 (test)", "mask00")


def test_the_mask_of_someone_shown_in_training_is_found(run: Any, tmp_path: Path) -> None:
    made = world("ms", "ms_patients")
    made["ms"].scans["q-1_scan"][3]["mask"] = "open_ms_data/patient07"
    stopped(run, made, tmp_path, "mask", "ms q-1 (train)", "ms_patients patient07 (shown)")


def planted(into: Made, scan: str, image: np.ndarray) -> None:
    subject, site, images, notes = into.scans[scan]
    images = images.copy()
    images[4 % len(images)] = image
    into.scans[scan] = (subject, site, images, notes)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguised_picture_in_training_and_test_of_a_target_is_found(run: Any, tmp_path: Path, disguise: str) -> None:
    made = world("stroke")
    planted(made["stroke"], "p-3_scan", DISGUISES[disguise](made["stroke"].scans["p-0_scan"][2][5]))
    stopped(
        run, made, tmp_path, "picture", "stroke p-0_scan slice 5 (train)", "stroke p-3_scan slice 4 (test)", "limit 0.9"
    )


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguised_photograph_in_training_and_validation_is_found(run: Any, tmp_path: Path, disguise: str) -> None:
    made = world("natural")
    planted(made["natural"], "00009", DISGUISES[disguise](made["natural"].scans["00002"][2][0]))
    stopped(run, made, tmp_path, "picture", "natural 00002 (train)", "natural 00009 (validation)")


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("scan", ["0001", "0005"], ids=["train", "validation"])
def test_a_disguised_test_picture_in_a_source_is_found(run: Any, tmp_path: Path, disguise: str, scan: str) -> None:
    made = world("mri", "stroke")
    planted(made["mri"], scan, DISGUISES[disguise](made["stroke"].scans["p-4_scan"][2][3]))
    stopped(run, made, tmp_path, "picture", f"mri {scan} (all)", "stroke p-4_scan slice 3 (test)")


def test_a_picture_of_another_size_is_found_too(run: Any, tmp_path: Path) -> None:
    made = world("mri", "stroke")
    margin = ((0, 0), (0, 8), (8, 8))
    made["mri"].scans = {k: (s, site, np.pad(i, margin), n) for k, (s, site, i, n) in made["mri"].scans.items()}
    planted(made["mri"], "0001", np.pad(made["stroke"].scans["p-4_scan"][2][3], margin[1:]))
    stopped(run, made, tmp_path, "picture", "mri 0001 (all)", "stroke p-4_scan slice 3 (test)")


# --------------------------------------------------------------------------------------------------------------- allowed
def test_the_same_backgrounds_in_two_targets_are_listed_with_the_reason(run: Any) -> None:
    made = {"stroke": target(10), "ms": copy.deepcopy(target(10))}
    table = run(made).leaks
    across = table[(table["A"] == "ms") & (table["B"] == "stroke")].set_index("kind")
    assert across.loc["subject", "found"] == 6 and across.loc["picture", "found"] > 40
    assert set(across.loc[["subject", "picture"], "verdict"]) == {"allowed"}
    assert across.loc["picture", "why"] == "no network of one target is tested on another"


def test_people_of_a_source_in_a_target_that_it_never_meets_are_listed_with_the_reason(
    run: Any, tmp_path: Path
) -> None:
    def shared() -> dict[str, Made]:
        made = {**world("stroke", "ms"), "replicate_heads": copy.deepcopy(target(10))}
        made["replicate_heads"].role, made["replicate_heads"].target = "source", ""
        made["replicate_heads"].splits = {"train": [f"p-{k}" for k in range(5)], "validation": ["p-5"], "dropped": []}
        return made

    table = run(shared(), only_for={"replicate_heads": ["ms"]}).leaks
    across = table[(table["A"] == "replicate_heads") & (table["B"] == "stroke")].set_index("kind")
    assert across.loc["subject", "found"] == 6 and set(across.loc[["subject", "picture"], "verdict"]) == {"allowed"}
    assert across.loc["subject", "why"] == "replicate_heads is fine-tuned on ms only"
    assert set(table.loc[table["B"] == "ms", "verdict"]) == {"apart"}
    for only_for in ({}, {"replicate_heads": ["ms", "stroke"]}, {"mri": ["ms"]}):
        with pytest.raises(BadInput, match="leak of a subject: replicate_heads p-0"):
            run(shared(), only_for=only_for)


def test_a_few_people_twice_in_a_source_without_names_are_listed_and_many_stop_the_run(
    run: Any, tmp_path: Path
) -> None:
    def blocks(twice: int) -> dict[str, Made]:
        scans: Scans = {f"{k:04d}": (f"block-{k // 10:03d}", "", head_slices(80 + k)[5:6], {}) for k in range(60)}
        for k in range(twice):
            scans[f"{k:04d}"] = ("block-000", "", scans[f"{20 + k:04d}"][2], {})
        splits = {
            "train": ["block-000"],
            "dropped": ["block-001"],
            "validation": [f"block-00{k}" for k in (2, 3, 4, 5)],
        }
        return {"mri": Made("source", scans, splits)}

    table = run(blocks(2)).leaks.set_index("kind")
    assert table.loc["picture", "found"] == 2 and table.loc["picture", "verdict"] == "allowed"
    assert "without names" in table.loc["picture", "why"]
    stopped(run, blocks(3), tmp_path, "picture", "(train)", "(validation)")


def test_pictures_that_show_too_little_are_left_out_and_counted(run: Any) -> None:
    made = {"stroke": target(10)}
    speck = np.zeros(SHAPE, np.uint8)
    speck[20:30, 20:30] = 120
    for scan in made["stroke"].scans:
        planted(made["stroke"], scan, speck)
    assert run(made).small == {"stroke": (6, 60)}


def test_pairs_whose_licence_forbids_pictures_are_marked(run: Any) -> None:
    made = world("mri", "stroke")
    made["mri"].publish = "numbers"
    publish = {pair.sides: pair.publish for pair in run(made).pairs}
    assert publish[("stroke, train", "stroke, test")] is True
    assert publish[("mri, all", "stroke, test")] is False


def test_whose_scan_a_name_stands_for() -> None:
    same = ["sub-07_ses-1", "sub-07_ses-02", "sub-07", "07_ses-baseline"]
    assert {person(name) for name in same} == {"07"}
    assert {person(n) for n in ("OAS1_0061_MR1", "oas1_0061", "sub-OAS10061_ses-2")} == {"oas1_0061"}
    apart = ["sub-07", "sub-08", "block-000", "train/00001", "sim-head-01", "sim-stroke-001", "my-mri-001", "OAS1_0062"]
    assert len({person(name) for name in apart}) == len(apart)
