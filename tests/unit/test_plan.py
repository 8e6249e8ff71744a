"""The study as a table: all cells, what waits for what, and that a name which is none is refused."""

from __future__ import annotations

import pytest

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.plan import cells_of, parse_cells, stages
from braintransfer.settings import profile_names, read_profile


def test_there_are_eight_sources_three_targets_and_24_cells() -> None:
    assert len(study.SOURCES) == 8 and len(study.TARGETS) == 3
    assert len(cells_of(read_profile("demo"))) == 24


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_gives_a_whole_graph(name: str) -> None:
    profile = read_profile(name)
    every = stages(profile, f"runs/{name}", "", cells_of(profile))
    folders = [s.folder for s in every]
    assert len(set(folders)) == len(folders)
    for k, stage in enumerate(every):
        assert set(stage.after) <= set(folders[:k]), f"{stage.title} waits for something that comes later or never"
    main = [s for s in every if s.parameters.get("arm") == "main"]
    assert sum(s.name == "finetune" for s in main) == 24
    assert sum(s.name.startswith("pretrain") for s in main) == 6


def test_the_demo_needs_at_most_forty_kernels_and_three_seeds() -> None:
    demo = read_profile("demo")
    assert len(stages(demo, "runs/demo", "", cells_of(demo))) <= 40
    assert len(demo.seeds) >= 3


@pytest.mark.parametrize("name", profile_names())
def test_the_audit_waits_for_all_data_and_the_comparison_for_the_audit(name: str) -> None:
    profile = read_profile(name)
    every = stages(profile, f"runs/{name}", "", cells_of(profile))
    audit = next(s for s in every if s.name == "audit")
    assert set(audit.after) == {s.folder for s in every if s.name == "prepare"}
    assert "audit" in next(s for s in every if s.name == "compare").after


def test_only_some_cells_need_only_what_they_use() -> None:
    tiny = read_profile("tiny")
    every = stages(tiny, "runs/tiny", "", parse_cells(tiny, "stroke:scratch,stroke:mri-segmentation"))
    assert [s.folder for s in every] == [
        "data/mri", "data/stroke", "audit", "sources/main/mri-segmentation",
        "targets/main/stroke/scratch", "targets/main/stroke/mri-segmentation", "compare",
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["stroke", "stroke:imagnet", "brain:scratch", ":", "stroke:scratch,"])
def test_a_cell_that_is_none_is_refused_with_what_there_is(word: str) -> None:
    with pytest.raises(BadInput, match="TARGET:SOURCE"):
        parse_cells(read_profile("tiny"), word)


def test_nothing_but_the_source_differs_between_the_cells_of_a_target() -> None:
    demo = read_profile("demo")
    cells = [s for s in stages(demo, "runs/demo", "", cells_of(demo)) if s.name == "finetune"]
    for target in study.TARGETS:
        same = [
            {k: v for k, v in s.parameters.items() if k != "source"} for s in cells if s.parameters["target"] == target
        ]
        assert len(same) == 8 and all(p == same[0] for p in same)


def test_the_tasks_of_a_domain_are_trained_alike_on_the_same_images() -> None:
    demo = read_profile("demo")
    made = [s for s in stages(demo, "runs/demo", "", cells_of(demo)) if s.name.startswith("pretrain")]
    for domain in study.DOMAINS:
        same = [s for s in made if s.parameters["domain"] == domain]
        assert len(same) == 3 and all(s.parameters == same[0].parameters and s.after == same[0].after for s in same)


def test_one_seed_makes_streams_that_do_not_share_numbers() -> None:
    names = ["weights", "order", "augmentation", "simulation", "split", "subset"]
    assert len({study.stream_seed(seed, name) for seed in range(5) for name in names}) == 30
    assert study.stream(3, "order").integers(1 << 60) == study.stream(3, "order").integers(1 << 60)
