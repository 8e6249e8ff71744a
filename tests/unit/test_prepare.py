"""Every data set that a recipe describes goes through `prepare` and comes out as a store."""

from __future__ import annotations

import gc
import importlib
import re
import weakref
from pathlib import Path
from typing import Any

import fakes
import fakes_natural
import fakes_sources
import fakes_targets
import nibabel as nib
import numpy as np
import pytest

from braintransfer import recipes, study, volumes
from braintransfer.errors import BadInput
from braintransfer.prepare import prepare
from braintransfer.settings import PrepareSettings
from braintransfer.store import Store


def prepared(recipe: str, data: Path, said: list[str] | None = None, **parameters: Any) -> Store:
    run = str(data / "run")
    settings = PrepareSettings(
        profile="test", read_from=run, write_to=run, dataset=recipe, recipe=recipe, data=str(data), **{"spacing": 4.0, **parameters}
    )  # fmt: skip
    return prepare(settings, report=(said if said is not None else []).append)


@pytest.mark.parametrize("name", fakes_sources.SOURCES)
def test_slices_of_volumes_become_the_store_of_a_source(name: str, tmp_path: Path) -> None:
    recipe = fakes_sources.made(name, tmp_path)
    count = min(6, fakes_sources.SOURCES[name].pictures)  # of more than one person, whichever slices the seed draws
    store = prepared(recipe.name, tmp_path, role="source", images=count, size=[32, 32])
    assert len(store.slices) == count and store.shape == (32, 32)
    assert store.facts["recipe"] == recipe.name and not store.facts["simulated"]


@pytest.mark.parametrize("name", fakes_natural.NATURAL)
def test_photographs_become_the_store_of_a_source(name: str, tmp_path: Path) -> None:
    fake = fakes_natural.NATURAL[name]
    fake.make(tmp_path)
    store = prepared(name, tmp_path, role="source", images=fake.pictures, size=[32, 32])
    assert len(store.slices) == fake.pictures and store.shape == (32, 32, 3)
    assert set(store.slices["label"]) == fake.classes
    assert not set(store.subjects("train")) & set(store.subjects("validation"))


TARGETS = [n for n in fakes_targets.LAYOUTS if n not in ("bids_t1w", "msd_folder")]  # two templates


@pytest.mark.parametrize("name", TARGETS)
def test_scans_become_the_store_of_a_target_with_their_references_untouched(name: str, tmp_path: Path) -> None:
    fakes_targets.LAYOUTS[name](tmp_path)
    recipe = recipes.load_recipe(name, tmp_path)
    target = next((c for c in recipe.cells if c in study.TARGETS), "ms")
    store = prepared(name, tmp_path, role="showcase", target=target, size=[64, 64])
    assert store.scans and store.facts["left_out"] == []
    for item in recipes.scans(recipe, tmp_path, 0, 0):
        kept = nib.nifti1.load(store.path / "references" / f"{item.scan}_mask.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(kept.dataobj), item.mask)
        zooms = [float(z) for z in nib.nifti1.load(item.image.path).header.get_zooms()[:3]]
        facts = store.scans[item.scan]
        assert facts["own"]["spacing"] == pytest.approx(zooms) and facts["own"]["shape"] == list(item.mask.shape)
        for number, class_name in enumerate(study.CLASSES[target], 1):
            millilitres = float((item.mask == number).sum()) * float(np.prod(zooms)) / 1000
            assert facts["reference_ml"][class_name] == pytest.approx(millilitres, abs=1e-3)
    with store.final_scoring():
        images, _ = store.load(np.arange(len(store.slices)))
    assert images.any(axis=(1, 2)).all()  # slices without brain are not kept


def test_one_scan_is_in_memory_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        t1, labels, _ = fakes.head((24, 28, 22), number)
        for kind, data in (("T1w", t1), ("label-lesion_mask", (labels == 1).astype(np.uint8))):
            fakes.save(tmp_path / "mine" / f"p{number}_{kind}.nii.gz", data, np.eye(4))
    (tmp_path / "mine" / "recipe.yaml").write_text(
        "name: mine\ntitle: Mine\nkind: volumes\nlicence: mine\naccess: {how: own}\ncells: [ms]\n"
        'patterns: {image: ["{subject}_T1w.nii.gz"], mask: "{subject}_label-lesion_mask.nii.gz"}\n',
        encoding="utf-8",
    )
    module = importlib.import_module("braintransfer.recipes.scans")  # the package has a function of this name
    alive: list[weakref.ref] = []
    most, real = 0, volumes.read_scan

    def watched(*arguments: Any) -> volumes.Scan:
        nonlocal most
        gc.collect()
        most = max(most, sum(r() is not None for r in alive))
        scan = real(*arguments)
        alive.append(weakref.ref(scan.data))
        return scan

    monkeypatch.setattr(module, "read_scan", watched)
    parameters: dict[str, Any] = {"role": "showcase", "target": "ms", "size": [64, 64]}
    store = prepared("mine", tmp_path, **parameters)
    assert len(store.scans) == len(alive) == 6 and most <= 1

    def never(*_: Any) -> volumes.Scan:
        raise AssertionError("a set that is prepared is read again")

    monkeypatch.setattr(module, "read_scan", never)
    said: list[str] = []
    again = prepared("mine", tmp_path, said, **parameters)
    assert again.digest == store.digest and said == ["mine: already prepared"]


def test_a_transposed_copy_of_a_tumour_slice_gives_the_same_store(tmp_path: Path) -> None:
    digests = []
    for transposed in (False, True):
        root = tmp_path / str(transposed)
        recipe = fakes_sources.made("brain_tumour_mat", root)
        for number, (person, label) in ((2, ("100360", 1)), (5, ("MR017260F", 2))):
            path = root / "brain_tumour_mat" / f"{number}.mat"
            fakes_sources.matlab_slice(path, person, label, number, transposed=transposed)
        assert len(recipes.check(recipe, root)) == (1 if transposed else 0)
        store = prepared(recipe.name, root, role="source", images=9, size=[32, 32])
        assert set(store.slices["subject"]) == {"100360", "MR017260F", "96956", "112649"}
        digests.append(store.digest)
    assert digests[0] == digests[1]


def test_a_bad_scan_stops_the_stage_or_is_left_out_and_named(tmp_path: Path) -> None:
    fakes_targets.LAYOUTS["msseg2016"](tmp_path)
    recipe = recipes.load_recipe("msseg2016", tmp_path)
    torn = next(p for p in recipes.input_files(recipe, tmp_path) if p.name.endswith(".nii.gz"))
    torn.write_bytes(torn.read_bytes()[:200])
    parameters: dict[str, Any] = {"role": "showcase", "target": "ms", "size": [64, 64]}
    with pytest.raises(BadInput, match=torn.name):
        prepared("msseg2016", tmp_path, **parameters)
    said: list[str] = []
    store = prepared("msseg2016", tmp_path, said, skip_bad=True, **parameters)
    (sentence,) = store.facts["left_out"]
    assert torn.name in sentence and str(tmp_path) not in sentence
    assert any("left out" in line for line in said)
    assert len(store.scans) == 2


@pytest.mark.parametrize(("oldest", "told"), [("90+", False), ("n/a", True)])
def test_folds_that_no_age_balances_are_said(tmp_path: Path, oldest: str, told: bool) -> None:
    table = fakes.malf(tmp_path) / "participants.tsv"
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("\t90\n", f"\t{oldest}\n"), encoding="utf-8")
    said: list[str] = []
    parameters: dict[str, Any] = {"role": "target", "target": "anatomy", "folds": 3, "n_validation": 1}
    prepared("malf", tmp_path, said, size=[64, 64], **parameters)
    lines = [line for line in said if "not balanced by age" in line]
    assert len(lines) == told and all("no age of OAS1_0083" in line for line in lines)


def test_a_brain_that_does_not_fit_on_the_slices_stops_the_stage_and_says_what_would(tmp_path: Path) -> None:
    fakes_targets.LAYOUTS["msseg2016"](tmp_path)
    parameters: dict[str, Any] = {"role": "showcase", "target": "ms", "spacing": 0.5}
    with pytest.raises(
        BadInput,
        match=r"of the brain does not fit on slices of 32 x 32 at 0.5 mm; set `size` to at least \[(\d+), (\d+)\]",
    ) as error:
        prepared("msseg2016", tmp_path, size=[32, 32], **parameters)
    size = [int(n) for n in re.findall(r"\[(\d+), (\d+)\]", str(error.value))[0]]
    assert len(prepared("msseg2016", tmp_path, size=size, **parameters).scans) == 3
