"""A profile spelled out: every stage with its folder, parameters and what it waits for. Snakemake and the door read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.provenance import code_hash, digest, project_root
from braintransfer.settings import Profile, read_parameters


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
        where = ("read_from", "write_to", "data")
        return digest([code_of(self.notebook), {k: v for k, v in self.parameters.items() if k not in where}])


def parse_cells(only: str | None) -> list[tuple[str, str]]:
    """Cells (target, source) from "stroke:imagenet,ms:scratch"; all 24 when empty. BadInput for unknown names."""
    every = [(target, source) for target in study.TARGETS for source in study.SOURCES]
    if not only:
        return every
    cells = []
    for word in only.split(","):
        target, colon, source = word.strip().partition(":")
        if not colon or target not in study.TARGETS or source not in study.SOURCES:
            raise BadInput(
                f"--only {word.strip()!r}: write TARGET:SOURCE with a target of {', '.join(study.TARGETS)} "
                f"and a source of {', '.join(study.SOURCES)}"
            )
        cells.append((target, source))
    return [cell for cell in every if cell in cells]


def stages(profile: Profile, run: str, data: str, cells: Sequence[tuple[str, str]]) -> list[Stage]:
    """Every stage that these cells need, in an order that respects what waits for what."""
    common = {"profile": profile.name, "read_from": run, "write_to": run}
    made: list[Stage] = []
    sources = [s for s in study.SOURCES if any(s == source for _, source in cells)]
    targets = [t for t in study.TARGETS if any(t == target for target, _ in cells)]
    domains = [d for d in study.DOMAINS if any(study.domain_task(s)[0] == d for s in sources)]

    def prepare(dataset: str, title: str, **parameters: Any) -> None:
        everything = {
            **common,
            "dataset": dataset,
            "data": data,
            "spacing": profile.spacing,
            "seed": profile.seed,
            **parameters,
        }
        made.append(Stage("prepare", f"data/{dataset}", title, everything, ()))

    for domain in domains:
        of = profile.sources[domain]
        size = [profile.source_size, profile.source_size]
        prepare(domain, f"images of {domain}", recipe=of.recipe, role="source", images=of.images, size=size)
    for target in targets:
        to = profile.targets[target]
        prepare(
            target, f"people of {target}", recipe=to.recipe, role="target", target=target, subjects=to.subjects,
            folds=to.folds, n_validation=to.n_validation, n_test=to.n_test, skip_bad=to.skip_bad,
            size=profile.size,
        )  # fmt: skip
    shows = {name: show for name, show in profile.showcase.items() if show.target in targets}
    for name, show in shows.items():
        prepare(
            name,
            f"people shown for {show.target}",
            recipe=show.recipe,
            role="showcase",
            target=show.target,
            size=profile.size,
        )

    made.append(Stage("audit", "audit", "search all data for leaks", common, tuple(stage.folder for stage in made)))

    for source in sources:
        domain, task = study.domain_task(source)
        if not domain:
            continue
        parameters = {
            **common,
            "domain": domain,
            "encoder": profile.encoder,
            "seeds": profile.seeds,
            "images": profile.source_images,
            **profile.pretrain.model_dump(),
        }
        made.append(
            Stage(f"pretrain_{task}", f"sources/main/{source}", f"pre-train {source}", parameters, (f"data/{domain}",))
        )

    for target, source in cells:
        of_target = [name for name, show in shows.items() if show.target == target]
        data_of = profile.targets[target]
        parameters = {
            **common, "source": source, "target": target, "encoder": profile.encoder, "seeds": profile.seeds,
            "folds": data_of.run_folds, "n_train": data_of.n_train, "showcase": of_target[0] if of_target else "",
            **profile.finetune.model_dump(),
        }  # fmt: skip
        after = [f"data/{target}", *(f"data/{name}" for name in of_target)]
        if study.domain_task(source)[0]:
            after.append(f"sources/main/{source}")
        made.append(
            Stage(
                "finetune",
                f"targets/main/{target}/{source}",
                f"fine-tune {target} from {source}",
                parameters,
                tuple(after),
            )
        )

    names = [f"{target}:{source}" for target, source in cells]
    before = ("audit", *(f"targets/main/{target}/{source}" for target, source in cells))
    made.append(Stage("compare", "compare", "compare all", {**common, "cells": names}, before))
    for stage in made:
        read_parameters(stage.name, stage.parameters)
    return made
