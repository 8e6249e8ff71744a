"""A profile spelled out: every stage with its folder, parameters and what it waits for. Snakemake and the door read it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.provenance import WHERE, code_hash, digest, project_root
from braintransfer.settings import Profile, SourceData, read_parameters


@cache
def code_of(notebook: Path) -> str:
    """`code_hash`, asked once a notebook."""
    return code_hash(notebook)


@dataclass(frozen=True)
class Stage:
    """One notebook execution: `name` is the notebook, `folder` (relative to the run) is what it fills."""

    name: str
    folder: str
    title: str
    parameters: dict[str, Any]
    after: tuple[str, ...]

    @property
    def notebook(self) -> Path:
        return project_root() / "notebooks" / f"{self.name}.ipynb"

    @property
    def fingerprint(self) -> str:
        """Changes when the stage's code or parameters do: Snakemake redoes it then, and only then."""
        return digest([code_of(self.notebook), {k: v for k, v in self.parameters.items() if k not in WHERE}])


#: Target, source and arm of one cell.
Cell = tuple[str, str, str]


def cell_name(cell: Cell) -> str:
    """ "stroke:imagenet" for the main arm, "stroke:imagenet:labels_4" for another."""
    return ":".join(cell if cell[2] != "main" else cell[:2])


def cell_of(name: str) -> Cell:
    """The cell that `cell_name` calls so. BadInput when there can be none of that name."""
    parts = name.split(":")
    target, source, arm = (*parts, "main")[:3] if len(parts) in (2, 3) else ("", "", "main")
    with contextlib.suppress(ValueError):  # an arm that there is not
        if target in study.TARGETS and source in study.arm(arm).sources:
            return target, source, arm
    raise BadInput(f"{name!r} is no cell; write TARGET:SOURCE, or TARGET:SOURCE:ARM")


def cells_of(profile: Profile) -> list[Cell]:
    """All that a profile asks for: the 24 cells of the main arm, then those of its other arms."""
    main = [(target, source, "main") for target in study.TARGETS for source in study.SOURCES]
    return main + [(t, s, name) for name, arm in profile.arms.items() for t in arm.targets for s in arm.sources]


def parse_cells(profile: Profile, only: str | None) -> list[Cell]:
    """Cells of `profile` from words "stroke:imagenet" (main arm), "stroke:imagenet:labels_4" or a whole arm, "main"; all when
    empty. BadInput for what is not in the profile.
    """
    every = cells_of(profile)
    if not only:
        return every
    chosen: set[Cell] = set()
    arms = list(dict.fromkeys(arm for _, _, arm in every))
    for word in (w.strip() for w in only.split(",")):
        found = [c for c in every if word in (cell_name(c), c[2])]
        if not found:
            raise BadInput(
                f"--only {word!r}: write TARGET:SOURCE, TARGET:SOURCE:ARM or ARM, with a target of {', '.join(study.TARGETS)}, "
                f"a source of {', '.join(study.SOURCES)} and an arm of {profile.name} ({', '.join(arms)})"
            )
        chosen |= set(found)
    return [cell for cell in every if cell in chosen]


#: What `--only` calls the data of all cells, without training anything.
DATA = "data"


def asked(profile: Profile, run: str, data: str, only: str = "") -> list[Stage]:
    """The stages that `--only` asks for: those of its cells (`parse_cells`), or, for the word "data", what prepares all data."""
    if only != DATA:
        return stages(profile, run, data, parse_cells(profile, only))
    return [stage for stage in stages(profile, run, data, cells_of(profile)) if stage.name == "prepare"]


def stages(profile: Profile, run: str, data: str, cells: Sequence[Cell]) -> list[Stage]:
    """Every stage that these cells need, in an order that respects what waits for what."""
    common = {"profile": profile.name, "read_from": run, "write_to": run}
    made = _data_stages(profile, common, data, cells)
    # of the whole profile, as the audit looks at all data that the run holds
    only_for = {arm: list(of.targets) for arm, of in profile.arms.items() if of.data is not None}
    before = tuple(stage.folder for stage in made)
    made.append(Stage("audit", "audit", "search all data for leaks", {**common, "only_for": only_for}, before))
    made += [_pretraining(profile, common, arm, source) for arm, source in encoders_of(cells)]
    trained = [_finetuning(profile, common, cell) for cell in cells]
    ends = {**common, "cells": [cell_name(cell) for cell in cells]}
    made += [*trained, Stage("compare", "compare", "compare all", ends, ("audit", *(s.folder for s in trained)))]
    for stage in made:
        read_parameters(stage.name, stage.parameters)
    return made


def _data_stages(profile: Profile, common: dict[str, Any], data: str, cells: Sequence[Cell]) -> list[Stage]:
    """Preparing the pictures of sources (a domain's, a replicate's own), the people of targets, and those who are shown."""
    made: list[Stage] = []

    def prepare(dataset: str, title: str, **parameters: Any) -> None:
        of_all = {"dataset": dataset, "data": data, "spacing": profile.spacing, "seed": profile.seed}
        made.append(Stage("prepare", f"data/{dataset}", title, {**common, **of_all, **parameters}, ()))

    encoders = encoders_of(cells)
    replicates = {arm: of for arm, _ in encoders if (of := _own_data(profile, arm)) is not None}
    wanted = {study.domain_task(source)[0] for arm, source in encoders if arm not in replicates}
    size = [profile.source_size, profile.source_size]
    for dataset, of in [*((d, profile.sources[d]) for d in study.DOMAINS if d in wanted), *replicates.items()]:
        prepare(
            dataset, f"images of {dataset}", recipe=of.recipe, role="source", images=of.images, skip_bad=of.skip_bad,
            size=size,
        )  # fmt: skip
    targets = [t for t in study.TARGETS if any(t == target for target, _, _ in cells)]
    for target in targets:
        to = profile.targets[target]
        prepare(
            target, f"people of {target}", recipe=to.recipe, role="target", target=target, subjects=to.subjects,
            folds=to.folds, n_validation=to.n_validation, n_test=to.n_test, skip_bad=to.skip_bad,
            size=profile.size,
        )  # fmt: skip
    for name, show in profile.showcase.items():
        if show.target in targets:
            prepare(
                name, f"people shown for {show.target}", recipe=show.recipe, role="showcase", target=show.target,
                size=profile.size,
            )  # fmt: skip
    return made


def _own_data(profile: Profile, arm: str) -> SourceData | None:
    """The data set that a replicate has in its source's place; None for every other arm."""
    return profile.arms[arm].data if arm in profile.arms else None


def _pretraining(profile: Profile, common: dict[str, Any], arm: str, source: str) -> Stage:
    domain, task = study.domain_task(source)
    kind, replicate = study.arm(arm), _own_data(profile, arm)
    images = max(1, round(kind.number * profile.source_images)) if kind.kind == "size" else profile.source_images
    if replicate is not None and replicate.images <= profile.source_images:
        images = 0  # it has no more: all that are not held out
    dataset = arm if replicate is not None else ""
    parameters = {
        **common, "domain": domain, "arm": arm, "dataset": dataset, "encoder": profile.encoder,
        "seeds": _seeds(profile, arm), "images": images, **profile.pretrain.model_dump(),
    }  # fmt: skip
    title, after = f"pre-train {source}{_of(arm)}", (f"data/{dataset or domain}",)
    return Stage(f"pretrain_{task}", f"sources/{arm}/{source}", title, parameters, after)


def _finetuning(profile: Profile, common: dict[str, Any], cell: Cell) -> Stage:
    target, source, arm = cell
    data_of, kind = profile.targets[target], study.arm(arm)
    shown = [name for name, show in profile.showcase.items() if show.target == target and arm == "main"]
    training = profile.finetune.model_dump()
    if kind.kind == "scratch_long":
        training["steps"] *= study.LONGER
    parameters = {
        **common, "source": source, "target": target, "arm": arm, "encoder": profile.encoder,
        "seeds": _seeds(profile, arm), "folds": data_of.run_folds,
        "n_train": int(kind.number) if kind.kind == "labels" else data_of.n_train,
        "showcase": shown[0] if shown else "", **training,
    }  # fmt: skip
    after = [f"data/{target}", *(f"data/{name}" for name in shown)]
    if study.domain_task(source)[0]:
        after.append(f"sources/{study.encoder_arm(arm)}/{source}")
    title = f"fine-tune {target} from {source}{_of(arm)}"
    return Stage("finetune", f"targets/{arm}/{target}/{source}", title, parameters, tuple(after))


def _of(arm: str) -> str:
    return "" if arm == "main" else f" ({arm})"


def _seeds(profile: Profile, arm: str) -> list[int]:
    of = profile.arms.get(arm)
    return profile.seeds if of is None or of.seeds is None else of.seeds


def encoders_of(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Arm and source of every encoder that has to be trained for these cells, the main arm's first."""
    needed = {(study.encoder_arm(arm), source) for _, source, arm in cells if study.domain_task(source)[0]}
    arms = ["main", *dict.fromkeys(arm for _, _, arm in cells if arm != "main")]
    return [(arm, source) for arm in arms for source in study.SOURCES if (arm, source) in needed]
