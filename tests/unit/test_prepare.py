"""Every data set that a recipe describes goes through `prepare` and comes out as a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes_natural
import fakes_sources
import fakes_targets
import nibabel as nib
import numpy as np
import pytest

from braintransfer import recipes, study
from braintransfer.errors import BadInput
from braintransfer.prepare import prepare
from braintransfer.settings import PrepareSettings
from braintransfer.store import Store


def prepared(recipe: str, data: Path, said: list[str] | None = None, **parameters: Any) -> Store:
    run = str(data / "run")
    settings = PrepareSettings(
        profile="test", read_from=run, write_to=run, dataset=recipe, recipe=recipe, data=str(data), spacing=4.0, **parameters
    )  # fmt: skip
    return prepare(settings, report=(said if said is not None else []).append)


@pytest.mark.parametrize("name", fakes_sources.SOURCES)
def test_slices_of_volumes_become_the_store_of_a_source(name: str, tmp_path: Path) -> None:
    recipe = fakes_sources.made(name, tmp_path)
    store = prepared(recipe.name, tmp_path, role="source", images=3, size=[32, 32])
    assert len(store.slices) == 3 and store.shape == (32, 32)
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
    item = next(iter(recipes.scans(recipe, tmp_path, 0, 0)))
    kept = nib.nifti1.load(store.path / "references" / f"{item.scan}_mask.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(kept.dataobj), item.mask)


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
