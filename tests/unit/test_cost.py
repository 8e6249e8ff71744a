"""What a run is said to cost follows from its plan, and what it took from its manifests."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from braintransfer import cost, plan, tables
from braintransfer.provenance import write_manifest
from braintransfer.settings import Profile, profile_names, read_profile


def planned(profile: Profile, rate: float = 60.0) -> pd.DataFrame:
    return cost.estimate(profile, plan.stages(profile, "runs/x", "", plan.cells_of(profile)), rate)


@pytest.mark.parametrize("name", profile_names())
def test_every_stage_of_every_profile_has_a_price(name: str) -> None:
    table = planned(read_profile(name))
    assert (table["seconds"] > 0).all() and (table["disk_mb"] > 0).all() and table["folder"].is_unique


def test_twice_the_steps_or_half_the_rate_is_twice_the_training() -> None:
    demo = read_profile("demo")
    longer = demo.model_copy(update={"pretrain": demo.pretrain.model_copy(update={"steps": 2 * demo.pretrain.steps})})
    once, twice, slow = (
        table[table["stage"] == "pretrain"]["seconds"] - cost.KERNEL
        for table in (planned(demo), planned(longer), planned(demo, 30.0))
    )
    assert list(twice / once) == pytest.approx([2.0] * 6) and list(slow / once) == pytest.approx([2.0] * 6)


def test_an_arm_costs_what_its_people_seeds_and_steps_cost() -> None:
    reference = read_profile("reference")
    table = planned(reference).set_index("folder")["seconds"]
    assert table["targets/scratch_long/ms/scratch"] > 1.8 * table["targets/main/ms/scratch"]
    assert table["targets/labels_1/ms/scratch"] == pytest.approx(table["targets/main/ms/scratch"])


def test_the_rate_is_the_one_that_the_run_measured(tmp_path: Path) -> None:
    assert cost.measured_rate(tmp_path) == cost.ASSUMED_RATE
    rates = {"fp32": 10.0, "fp32 channels_last": 20.0, "bf16": 30.0}
    facts = {"precision": "fp32", "channels_last": True, "images_per_second": rates}
    (tmp_path / "machine.json").write_text(json.dumps(facts))
    assert cost.measured_rate(tmp_path) == 20.0
    assert "20 views" in cost.in_words(planned(read_profile("tiny"), 20.0), 2, 20.0, True)


def test_what_a_run_took_is_added_up_once_and_stands_beside_what_was_planned(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_manifest(
            tmp_path / "sources" / "main" / "mri-segmentation" / f"seed-{seed}", stage="pretrain_segmentation", key="k",
            parameters={}, code="c", inputs={}, seconds=1800, samples=10, device="cpu", precision="fp32",
        )  # fmt: skip
    write_manifest(
        tmp_path / "sources" / "main" / "mri-segmentation", stage="pretrain_segmentation", key="k", parameters={}, code="c",
        inputs={}, seconds=3600, samples=20, device="cpu", precision="fp32",
    )  # fmt: skip
    row = cost.cost_table(tmp_path, {"sources/main/mri-segmentation": 7200.0}).iloc[0]
    assert (row["stage"], row["arm"], row["runs"], row["hours"], row["samples"]) == ("pretrain", "main", 2, 1.0, 20)
    assert row["planned_hours"] == 2.0
    assert cost.cost_table(tmp_path)["planned_hours"].isna().all()


def a_finetuning(run: Path, took: float | None, **seconds: float) -> None:
    """A cell of two trainings, each of these seconds; took: those of its notebook."""
    cell = run / "targets" / "main" / "ms" / "scratch"
    for folder in (cell / "fold-0" / "seed-0", cell / "fold-0" / "seed-1", cell):
        write_manifest(folder, stage="finetune", key="k", parameters={}, code="c", inputs={}, outputs=[], **seconds)
    if took is not None:
        executed = {"cells": [], "metadata": {"papermill": {"duration": took}}}
        (cell / "finetune.ipynb").write_text(json.dumps(executed), encoding="utf-8")


def split_of(run: Path) -> dict[str, float]:
    split = cost.split_table(cost.manifests(run), cost.walls(run))
    return dict(zip(split["what"], split["seconds"], strict=True))


def test_the_parts_of_a_run_add_up_to_its_time_and_each_second_is_counted_once(tmp_path: Path) -> None:
    a_finetuning(tmp_path, 260.0, seconds=100.0, seconds_training=60.0, seconds_predicting=25.0, seconds_measuring=5.0)
    write_manifest(
        tmp_path / "data" / "ms", stage="prepare", key="k", parameters={}, code="c", inputs={}, outputs=[], seconds=7.0
    )
    found = split_of(tmp_path)
    assert found["fine-tuning: training steps"] == 120.0 and found["fine-tuning: predicting the test people"] == 50.0
    assert found["fine-tuning: measuring the predictions"] == 10.0
    assert found["fine-tuning: reading scans and weights, writing"] == 20.0 and found["preparing the data"] == 7.0
    assert found[cost.ELSE] == 60.0, "what the notebook took beyond its two trainings"
    assert sum(found.values()) == 260.0 + 7.0
    shown = tables.split_for_reading(cost.split_table(cost.manifests(tmp_path), cost.walls(tmp_path)))
    assert shown.loc[shown["what"] == "fine-tuning: training steps", "share"].item() == "45 %"
    split = cost.split_table(cost.manifests(tmp_path), cost.walls(tmp_path))
    assert cost.over_compute(split) == pytest.approx((260 + 7) / 170)


def test_what_was_not_recorded_has_no_row(tmp_path: Path) -> None:
    a_finetuning(tmp_path / "kept", None, seconds=100.0, seconds_training=60.0)
    found = split_of(tmp_path / "kept")
    assert cost.ELSE not in found and "fine-tuning: predicting the test people" not in found
    assert math.isnan(cost.over_compute(cost.split_table(cost.manifests(tmp_path / "kept"))))
    assert found["fine-tuning: reading scans and weights, writing"] == 80.0
    a_finetuning(tmp_path / "resumed", 50.0, seconds=100.0, seconds_training=60.0)
    assert cost.ELSE not in split_of(tmp_path / "resumed"), "its notebook ran only the last part"


def test_a_plan_grows_with_what_is_planned_and_takes_the_rate_of_the_run(tmp_path: Path) -> None:
    def plans(rate: float, *sizes: int) -> pd.DataFrame:
        way = {"precision": "fp32", "channels_last": False, "images_per_second": {"fp32": rate}}
        (tmp_path / "machine.json").write_text(json.dumps(way), encoding="utf-8")
        return pd.DataFrame(cost.planning(tmp_path, *sizes)).set_index("plan")

    once, longer = plans(50, 1000, 10, 3, 30, 3), plans(50, 1000, 10, 3, 60, 6)
    assert once.loc["photographs", "disk_gb"] == pytest.approx(1000 * 224 * 224 * 4 / 1e9)
    read = 1000 * cost.PREPARE["images"] / 3600
    seen = [table.loc["photographs", "hours"] - read for table in (once, longer)]
    assert seen[1] == pytest.approx(2 * seen[0])
    assert longer.loc["cohorts", "hours"] == once.loc["cohorts", "hours"]
    more = plans(50, 2000, 20, 6, 30, 3)
    assert list(more["hours"] / once["hours"]) == pytest.approx([2.0] * 3)
    assert plans(100, 1000, 10, 3, 30, 3).loc["slices", "hours"] < 0.6 * once.loc["slices", "hours"]


def test_a_cluster_is_asked_for_more_time_than_the_longest_stage_of_a_kind_should_take() -> None:
    reference = read_profile("reference")
    every = plan.stages(reference, "runs/x", "", plan.cells_of(reference))
    asked, table = cost.minutes_to_ask(reference, every), planned(reference)
    assert set(asked) == {"prepare", "audit", "pretrain", "finetune", "compare"}
    assert all(60 * asked[kind] > 2.9 * seconds for kind, seconds in zip(table["stage"], table["seconds"], strict=True))
