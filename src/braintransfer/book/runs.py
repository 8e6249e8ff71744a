"""A run folder as the book reads it: its executed notebooks, checked, its results and its tables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from braintransfer import cost, overlaps, tables
from braintransfer.book.origins import manifests_of
from braintransfer.errors import BadInput
from braintransfer.provenance import read_manifest
from braintransfer.study import DOMAINS, SOURCES, TARGETS

GROUPS = {
    "data": "Data",
    "audit": "Leak audit",
    "sources": "Pre-training",
    "targets": "Fine-tuning",
    "compare": "Comparison",
}


@dataclass(frozen=True)
class StagePage:
    """One executed notebook and what its manifest says. `folder` is relative to the run."""

    notebook: Path
    folder: Path
    manifest: dict[str, Any]

    @property
    def group(self) -> str:
        return self.folder.parts[0]

    @property
    def page(self) -> str:
        """Name of the page below its group: "natural", "main-stroke-imagenet" -> "stroke-imagenet"."""
        parts = [p for p in self.folder.parts[1:] if p != "main"]
        return "-".join(parts) or self.notebook.stem

    @property
    def title(self) -> str:
        parts = [p for p in self.folder.parts[1:] if p != "main"]
        of_arm = "".join(f", {tables.arm_title(p)}" for p in parts[: {"targets": -2, "sources": -1}.get(self.group, 0)])
        if self.group == "targets" and len(parts) >= 2:
            target, source = parts[-2:]
            return f"{tables.TARGET_TITLES.get(target, target)} from {tables.SOURCE_TITLES.get(source, source)}{of_arm}"
        if self.group == "sources":
            return f"Pre-training: {tables.SOURCE_TITLES.get(parts[-1], parts[-1])}{of_arm}"
        if self.group == "data":
            return f"Data: {' '.join(tables.set_title(part) for part in parts)}"
        if self.group == "audit":
            return "Leak audit of all data"
        return "Comparison of all sources"


@dataclass(frozen=True)
class Run:
    """One run folder as the book reads it."""

    slug: str
    folder: Path
    reference: bool
    facts: dict[str, Any]
    kinds: dict[str, str]
    results: pd.DataFrame | None
    tables: dict[str, pd.DataFrame]
    contrasts: list[dict[str, Any]]
    stages: list[StagePage]
    drawn: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        return bool(self.facts.get("simulated", "simulated" in self.kinds.values()))

    @property
    def title(self) -> str:
        name = self.facts.get("title") or self.facts.get("profile") or self.folder.name
        return f"The book's own run: {name}" if self.reference else f"Your run: {name}"

    @property
    def networks(self) -> int:
        """How many networks of the main arm stand behind its results."""
        if self.results is None:
            return 0
        main = self.results[self.results["arm"] == "main"]
        return len(main.drop_duplicates(["source", "target", "fold", "seed"]))

    @property
    def note(self) -> str:
        return str(self.facts.get("size_note") or self.facts.get("note") or "")

    @property
    def present(self) -> list[str]:
        """Targets with results in the main arm."""
        if self.results is None:
            return []
        main = self.results[self.results["arm"] == "main"]
        return [t for t in TARGETS if (main["target"] == t).any()]


# -------------------------------------------------------------------------------------------------------------- checks
def check_notebook(path: Path) -> dict[str, Any]:
    """The manifest beside an executed notebook. BadInput unless the notebook ran whole and the manifest is its own.

    papermill calls every cell "completed" even when the kernel was killed, so the manifest, which the last cell writes,
    is part of the proof; and jupyter-book would build a notebook with an error in it without a word.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat has no common error class
        raise BadInput(f"{path}: not a readable notebook ({type(error).__name__}); run its stage again") from None
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                raise BadInput(
                    f"{path}: cell {number} ended with {output.get('ename')}: {output.get('evalue')}; mend it and "
                    "run the stage again"
                )
        if cell.get("execution_count") is None:
            raise BadInput(f"{path}: cell {number} did not run; run the stage again")
    manifest = read_manifest(path.parent)
    if manifest is None:
        raise BadInput(
            f"{path}: no manifest.json with status done beside it, so its stage did not finish; run it again"
        )
    if manifest.get("stage") != path.stem:
        raise BadInput(
            f"{path}: the manifest beside it belongs to the stage {manifest.get('stage')!r}; run the stage again"
        )
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    for name, value in manifest.get("parameters", {}).items():
        if name in given and given[name] != value:
            raise BadInput(
                f"{path}: ran with {name} = {given[name]!r}, but its manifest says {value!r}; run the stage again"
            )
    return manifest


def executed_stages(run: Path) -> list[StagePage]:
    """All executed notebooks of a run folder, checked, in the order of GROUPS."""
    found = []
    for group in GROUPS:
        for path in (run / group).rglob("*.ipynb"):
            inside = path.relative_to(run)
            # x.ipynb.part.ipynb is a stage under way, or one that failed and kept its notebook to look at
            if ".part" not in path.suffixes and not any(part.startswith(".") for part in inside.parts):
                found.append(StagePage(path, inside.parent, check_notebook(path)))
    return sorted(found, key=_study_order)


def _study_order(stage: StagePage) -> tuple[Any, ...]:
    known = [*TARGETS, *DOMAINS, *SOURCES]
    places = tuple(known.index(p) if p in known else -1 for p in stage.folder.parts[1:])
    return (list(GROUPS).index(stage.group), places, stage.folder.parts)


# ------------------------------------------------------------------------------------------------------------- reading
def read_run(folder: Path, *, reference: bool) -> Run:
    """A run folder with everything that the book shows of it; checks its notebooks on the way."""
    slug = f"reference-{folder.name}" if reference else folder.name
    results_file = folder / "results.csv"
    files = [
        *sorted(folder.glob("compare/*.csv")),
        *sorted(folder.glob("audit/*.csv")),
        *folder.glob("cost.csv"),
        *folder.glob("split.csv"),
    ]
    kept = {p.stem: tables.read_table(p) for p in files}
    if (folder / overlaps.FILE).is_file():
        kept["overlap"] = overlaps.read(folder / overlaps.FILE)
    if "cost" not in kept and len(took := cost.cost_table(folder, cost.planned(folder))):
        kept["cost"] = took
    if "split" not in kept and len(went := cost.split_table(manifests_of(folder), cost.walls(folder))):
        kept["split"] = went
    return Run(
        slug=re.sub(r"[^A-Za-z0-9-]+", "-", slug),
        folder=folder,
        reference=reference,
        facts={"profile": folder.name, **tables.read_json(folder / "run.json", {})},
        kinds=tables.target_kinds(folder),
        results=tables.read_results(results_file) if results_file.is_file() else None,
        tables=kept,
        contrasts=[c for c in tables.read_json(folder / "compare" / "claims.json", []) if isinstance(c, dict)],
        stages=executed_stages(folder),
    )


def _last_change(run: Path) -> tuple[float, str]:
    times = [
        p.stat().st_mtime
        for pattern in ("results.csv", "*/*/manifest.json", "*/*/*/manifest.json")
        for p in run.glob(pattern)
    ]
    return max(times, default=0.0), run.name


def find_runs(root: Path, profile: str | None, reference: bool) -> list[Run]:
    """The runs to show, the one for the first page first: real before simulated, the book's before the reader's, large before small."""
    own = [p for p in (root / "runs").glob("*") if p.is_dir() and p.name != "proof" and profile in (None, p.name)]
    own = sorted(own, key=_last_change)[-1:]
    if profile is not None and not own and not (root / "notebooks" / "profiles" / f"{profile}.yaml").is_file():
        raise BadInput(
            f"no run and no profile '{profile}': neither runs/{profile} nor notebooks/profiles/{profile}.yaml is there"
        )
    kept = sorted(p for p in (root / "book" / "reference").glob("*") if p.is_dir()) if reference else []
    runs = [read_run(p, reference=True) for p in kept] + [read_run(p, reference=False) for p in own]
    runs = [r for r in runs if r.results is not None or r.stages]
    return sorted(runs, key=lambda r: (r.results is None, r.simulated, not r.reference, -r.networks, r.slug))
