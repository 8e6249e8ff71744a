"""The study as a table: all cells, what waits for what, and that a name which is none is refused."""

from __future__ import annotations

import re
from pathlib import Path

import fakes
import fakes_natural
import fakes_sources
import fakes_targets
import pytest
from click.testing import CliRunner

from braintransfer import cost, recipes, study
from braintransfer.cli import main
from braintransfer.errors import BadInput
from braintransfer.plan import cells_of, parse_cells, stages
from braintransfer.provenance import project_root
from braintransfer.recipes.checking import needed_sets
from braintransfer.recipes.schema import load_recipe
from braintransfer.settings import Profile, profile_names, read_profile


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


def replicates(**images: int) -> Profile:
    """The tiny profile with a replicate of the MRI source for each name; its targets are stroke and ms."""
    tiny = read_profile("tiny").model_dump()
    of = {"sources": ["mri-segmentation"], "targets": ["stroke", "ms"]}
    arms = {f"replicate_{name}": {**of, "data": {"recipe": "simulated_mri", "images": n}} for name, n in images.items()}
    return Profile.model_validate({**tiny, "arms": arms})


def test_a_replicate_trains_on_as_many_pictures_as_the_main_arm_or_on_all_of_a_smaller_set() -> None:
    tiny = read_profile("tiny")
    most, used = tiny.sources["mri"].images, tiny.source_images
    assert most > used + 1
    profile = replicates(large=most, small=used)
    every = stages(profile, "runs/tiny", "", cells_of(profile))
    asked = {s.folder: s.parameters["images"] for s in every if s.name == "pretrain_segmentation"}
    assert asked["sources/replicate_large/mri-segmentation"] == asked["sources/main/mri-segmentation"] == used
    assert asked["sources/replicate_small/mri-segmentation"] == 0
    with pytest.raises(ValueError, match=f"replicate_odd.data.images is {used + 1}; give at most source_images"):
        replicates(odd=used + 1)


def test_the_audit_knows_which_targets_a_replicate_is_for_whatever_cells_are_asked_for() -> None:
    profile = replicates(small=10)
    for cells in (cells_of(profile), parse_cells(profile, "anatomy:scratch")):
        audit = next(s for s in stages(profile, "runs/tiny", "", cells) if s.name == "audit")
        assert audit.parameters["only_for"] == {"replicate_small": ["stroke", "ms"]}


def test_a_replicate_of_a_target_s_own_people_is_refused_before_anything_runs(tmp_path: Path) -> None:
    fakes.malf(tmp_path)
    text = (project_root() / "notebooks" / "profiles" / "tiny.yaml").read_text(encoding="utf-8")
    assert "simulated_anatomy" in text and "arms:" not in text
    # the fake set has three people
    few = "recipe: malf, folds: 2, run_folds: [0], n_train: 1, n_validation: 0}"
    text = re.sub(r"recipe: simulated_anatomy, .*", few, text)
    arm = "arms:\n  replicate_malf: {sources: [mri-segmentation], targets: [TARGET], data: {recipe: malf_source, images: 8}}\n"
    for target, code in (("stroke", 0), ("anatomy", 2)):
        (tmp_path / "mine.yaml").write_text(f"{text}\n{arm.replace('TARGET', target)}", encoding="utf-8")
        told = CliRunner().invoke(
            main, ["run", "--profile", str(tmp_path / "mine.yaml"), "--data", str(tmp_path), "--dry-run"]
        )
        assert told.exit_code == code, told.output
        if code:
            assert "replicate_malf (malf_source) and anatomy (malf) hold the same people" in told.output
            assert told.output.count("\n") == 1


# ------------------------------------------------------------------------------------------------ the profile `paper`


def test_a_dry_run_of_paper_looks_for_every_set_and_mask_and_says_what_it_would_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the fakes hold a few people each, and its encoder's weights come with an extra
    monkeypatch.setattr(recipes, "refuse_too_few", lambda *of: None)
    monkeypatch.setattr(study, "imagenet_file", lambda encoder: Path())

    def dry_run() -> tuple[int, str]:
        told = CliRunner().invoke(main, ["run", "--profile", "paper", "--data", str(tmp_path), "--dry-run"])
        return told.exit_code, told.output

    for make in (
        fakes_natural.imagenet1k, fakes_natural.coco2017, fakes_sources.brats2021, fakes_targets.atlas_r2, fakes_targets.mslesseg, fakes_targets.mindboggle101,
    ):  # fmt: skip
        code, said = dry_run()
        assert code == 2 and said.count("\n") == 1 and "braintransfer data get" in said
        make(tmp_path)
    code, said = dry_run()
    paper = read_profile("paper")
    assert code == 0 and said.count("  would ") == len(stages(paper, "runs/paper", "", cells_of(paper)))
    assert re.search(r"about [\d.]+ h of a device, .* of disk", said)
    (tmp_path / "ATLAS_2" / "brain_masks" / "sub-r001s002.nii.gz").unlink()
    code, said = dry_run()
    assert code == 2 and said.count("\n") == 1 and "sub-r001s002.nii.gz" in said and "mri_synthstrip" in said


def test_the_book_says_where_to_ask_for_what_paper_reads_and_how_long_it_takes() -> None:
    text = (project_root() / "book" / "reproduce.md").read_text(encoding="utf-8")
    section = text.partition("## At the scale of the paper")[2].partition("\n## ")[0]
    paper = read_profile("paper")
    used = [d.recipe for part in (paper.sources, paper.targets) for d in part.values()]
    used += [arm.data.recipe for arm in paper.arms.values() if arm.data is not None]
    for recipe in (part for name in used for part, _ in needed_sets(load_recipe(name), None)):
        row = next((line for line in section.splitlines() if f"`{recipe.name}`" in line), "")
        assert f"]({recipe.access.url})" in row, recipe.name
    said = re.search(r"about ([\d,]+) hours", section)
    hours = cost.estimate(paper, stages(paper, "runs/paper", "", cells_of(paper)))["seconds"].sum() / 3600
    assert said is not None and float(said[1].replace(",", "")) == pytest.approx(hours, rel=0.05)


def test_one_seed_makes_streams_that_do_not_share_numbers() -> None:
    names = ["weights", "order", "augmentation", "simulation", "split", "subset"]
    assert len({study.stream_seed(seed, name) for seed in range(5) for name in names}) == 30
    assert study.stream(3, "order").integers(1 << 60) == study.stream(3, "order").integers(1 << 60)
