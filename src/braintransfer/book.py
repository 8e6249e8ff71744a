"""The book: check every executed notebook, assemble the pages that exist, have jupyter-book build them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import numpy as np
import pandas as pd
import yaml

from braintransfer import figures, near_duplicates, tables
from braintransfer.errors import BadInput
from braintransfer.proofs import drawings as proof_drawings
from braintransfer.provenance import read_manifest
from braintransfer.study import DETECTED, DOMAINS, HEADLINE, SOURCES, TARGETS

#: What stands beside every simulated result (and what the demo must say about its MS lesions).
SIMULATED_SENTENCES = (
    "In this demo ImageNet had 1.28 million photographs and the others a minute of small pictures: the ranking "
    "shows the budget, "
    "not which source is best.",
    "All these brains are one brain, bent: anatomy is easier and the MRI sources closer to the targets than in "
    "any hospital.",
    "In three real patients 44 % of MS lesions are nearly as bright as white matter on T1.",
)
SIMULATED_MS = (
    "Simulated MS lesions are at least 64 mm³ and clearly darker than white matter (.45 to .75 of it). Real ones "
    "are mostly "
    "smaller and paler."
)
RESULT_PAGES = (
    "data",
    "stroke",
    "ms",
    "anatomy",
    "detection",
    "claims",
    "curves",
    "examples",
    "samples",
    "baselines",
    "audit",
)
GROUPS = {
    "data": "Data",
    "audit": "Leak audit",
    "sources": "Pre-training",
    "targets": "Fine-tuning",
    "compare": "Comparison",
}
#: An SVG above this many bytes is shown as PNG; the SVG can still be had from its link.
LARGEST_SVG = 120_000


class BuildFailed(RuntimeError):
    """jupyter-book found something wrong: one line with the first complaint and the place of the whole log."""


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
        if self.group == "targets" and len(parts) >= 2:
            target, source = parts[-2:]
            return f"{tables.TARGET_TITLES.get(target, target)} from {tables.SOURCE_TITLES.get(source, source)}"
        if self.group == "sources":
            return f"Pre-training: {tables.SOURCE_TITLES.get(parts[-1], parts[-1])}"
        if self.group == "data":
            return f"Data: {' '.join(parts)}"
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
        return f"Reference run: {name}" if self.reference else f"Your run: {name}"

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
    return Run(
        slug=re.sub(r"[^A-Za-z0-9-]+", "-", slug),
        folder=folder,
        reference=reference,
        facts={"profile": folder.name, **tables.read_json(folder / "run.json", {})},
        kinds=tables.target_kinds(folder),
        results=tables.read_results(results_file) if results_file.is_file() else None,
        tables={
            p.stem: tables.read_table(p)
            for p in sorted(folder.glob("compare/*.csv")) + sorted(folder.glob("audit/*.csv"))
        },
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
    """The runs to show, the one for the first page first: real before simulated, reference before the reader's own."""
    own = [p for p in (root / "runs").glob("*") if p.is_dir() and p.name != "proof" and profile in (None, p.name)]
    own = sorted(own, key=_last_change)[-1:]
    if profile is not None and not own and not (root / "notebooks" / "profiles" / f"{profile}.yaml").is_file():
        raise BadInput(
            f"no run and no profile '{profile}': neither runs/{profile} nor notebooks/profiles/{profile}.yaml is there"
        )
    kept = sorted(p for p in (root / "book" / "reference").glob("*") if p.is_dir()) if reference else []
    runs = [read_run(p, reference=True) for p in kept] + [read_run(p, reference=False) for p in own]
    runs = [r for r in runs if r.results is not None or r.stages]
    return sorted(runs, key=lambda r: (r.results is None, r.simulated, not r.reference, r.slug))


# ------------------------------------------------------------------------------------------------- pieces of the pages
def _figure_block(drawn: Mapping[str, str], label: str, *, width: str = "100%", place: str = "figures") -> str:
    links = (
        f"Get it as {{download}}`SVG <{place}/{drawn['name']}.svg>`, {{download}}`PNG <{place}/{drawn['name']}.png>`."
    )
    made = f" {drawn['made']}" if drawn.get("made") else ""
    return (
        f":::{{figure}} {place}/{drawn['file']}\n:name: fig-{label}\n:alt: {_one_line(drawn['alt'])}\n:width: "
        f"{width}\n\n"
        f"{_one_line(drawn['caption'])}{made} {links}\n:::\n"
    )


def _table_block(name: str, label: str, caption: str, shown: str = "") -> str:
    """The directive of tables/`name`.csv, shown from another file of that folder where the page wants other spaces."""
    return (
        f":::{{csv-table}} {_one_line(caption)}\n:name: tab-{label.replace('_', '-')}\n:file: tables/{shown or name}.csv\n"
        f":header-rows: 1\n:class: wide\n:::\n\n{{download}}`This table as CSV <tables/{name}.csv>`\n"
    )


def _one_line(text: str) -> str:
    return " ".join(text.replace("*", "\\*").split()).replace(" %", "\u00a0%")


def _describe(folder: Path, name: str) -> dict[str, str]:
    words = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    svg = folder / f"{name}.svg"
    photographic = name.startswith(("examples_", "showcase_", "montage_", "pairs"))
    best = f"{name}.svg" if not photographic and svg.is_file() and svg.stat().st_size <= LARGEST_SVG else f"{name}.png"
    return {"name": name, "file": best, "caption": words["caption"], "alt": words["alt"]}


def _csv_text(frame: pd.DataFrame) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows([["" if v is None else v for v in row] for row in frame.itertuples(index=False)])
    return buffer.getvalue()


class PageMaker:
    """Writes the pages of one book: renders templates with the pieces (`figure`, `table`, `badge`) they may call."""

    def __init__(self, root: Path, source: Path, runs: list[Run]) -> None:
        self.root, self.source, self.runs = root, source, runs
        loader = jinja2.FileSystemLoader(root / "book")
        self.environment = jinja2.Environment(
            loader=loader,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701 -- Markdown, not HTML
        )
        self.environment.globals.update(
            runs=runs,
            source_titles=tables.SOURCE_TITLES,
            target_titles=tables.TARGET_TITLES,
            metric_titles=tables.METRIC_TITLES,
            headline=HEADLINE,
            detected=DETECTED,
            targets=TARGETS,
            sources=SOURCES,
            drawing=self.drawing,
            badge=badge,
            number=tables.number,
            answers=answers,
            what_to_notice=what_to_notice,
            proof_table=self.proof_table,
        )

    def render(self, template: str, page: str, **values: Any) -> None:
        path = self.source / f"{page}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.environment.get_template(template).render(**values), encoding="utf-8", newline="\n")

    def drawing(self, name: str, width: str = "100%") -> str:
        """A figure that belongs to no run (network, worked example ...), drawn once, as a figure directive."""
        folder = self.source / "figures"
        if not (folder / f"{name}.json").is_file():
            figures.save(_DRAWINGS[name](), folder, name)
        return _figure_block(_describe(folder, name), name.replace("_", "-"), width=width)

    def proof_table(self, name: str, caption: str) -> str:
        """A table of book/proof/`name`.csv, as a run of its proof left it there."""
        place = self.source / "tables"
        place.mkdir(parents=True, exist_ok=True)
        kept = self.root / "book" / "proof" / f"{name}.csv"
        if not kept.is_file():
            raise BadInput(
                f"{kept} is missing; run `braintransfer prove` and copy its table there, or take its page out"
            )
        shutil.copyfile(kept, place / kept.name)
        return _table_block(name, f"proof-{name}", caption)

    def run_pages(self, run: Run) -> None:
        """Every results page of a run for which there is something to show."""
        here = self.source / "results" / run.slug
        for name in _draw(run, here / "figures"):
            run.drawn[name] = _describe(here / "figures", name)
            stage = _stage_of(run, name)
            if stage is not None:
                link = f"/stages/{run.slug}/{stage.group}/{stage.page}"
                run.drawn[name]["made"] = f"Made from {{doc}}`this stage <{link}>`."
        pieces = {
            "run": run,
            "figure": lambda name, width="100%": (
                _figure_block(run.drawn[name], f"{run.slug}-{name.replace('_', '-')}", width=width)
                if name in run.drawn
                else ""
            ),
            "table": lambda name, frame, caption: self._table(run, here, name, frame, caption),
            "data": run.tables,
            "reading": tables.for_reading,
            "differences": tables.differences_for_reading,
            "sizes": _sizes(run),
            "kind": kind_of,
            "one_by_one": one_by_one,
            "learned": _learned,
            "leaks_frame": tables.leaks_for_reading,
            "planted_frame": tables.planted_for_reading,
            "near": near_duplicates,
            "fair_frame": tables.fairness_for_reading,
            "sources_frame": _sources,
            "source_sets": _source_sets,
            "targets_frame": _targets,
            "contrasts": _contrasts(run.contrasts),
            "summary": _claims_summary(tables.read_json(run.folder / "compare" / "claims_summary.json", None)),
        }
        pages = [p for p in RESULT_PAGES if run.results is not None and _worth_a_page(run, p)]
        for page in pages:
            template = f"templates/{'target' if page in TARGETS else page}.md"
            self.render(template, f"results/{run.slug}/{page}", target=page, **pieces)
        self.render("templates/run.md", f"results/{run.slug}/index", pages=pages, **pieces)

    def _table(self, run: Run, here: Path, name: str, frame: pd.DataFrame | None, caption: str) -> str:
        if frame is None or not len(frame):
            return "*Not in this run.*\n"
        folder = here / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        text = _csv_text(frame)
        (folder / f"{name}.csv").write_text(text, encoding="utf-8", newline="\n")
        # on the page a line may break between a name's words, but not inside "0.62 (0.55 to 0.69)"
        unbroken = re.sub(r"[−\d.]+ \([^()\n]* to [^()\n]*\)", lambda found: found[0].replace(" ", "\u00a0"), text)
        (folder / f"{name}.shown.csv").write_text(unbroken, encoding="utf-8", newline="\n")
        return _table_block(name, f"{run.slug}-{name}", caption, shown=f"{name}.shown")

    def stage_pages(self, run: Run) -> None:
        """The executed notebooks of a run as pages, grouped, with an overview of what ran."""
        groups = {g: [s for s in run.stages if s.group == g] for g in GROUPS}
        for group, stages in groups.items():
            for stage in stages:
                path = self.source / "stages" / run.slug / group / f"{stage.page}.ipynb"
                path.parent.mkdir(parents=True, exist_ok=True)
                nbformat.write(_as_page(stage, run), path)
            if stages:
                self.render(
                    "templates/stage_group.md",
                    f"stages/{run.slug}/{group}/index",
                    run=run,
                    title=GROUPS[group],
                    stages=stages,
                )
        kept = [g for g in GROUPS if groups[g]]
        self.render(
            "templates/stages.md",
            f"stages/{run.slug}/index",
            run=run,
            groups=[(g, GROUPS[g], len(groups[g])) for g in kept],
        )


def _simulators(part: str = "") -> figures.Drawing:
    """A figure of the simulators' proof. Its module pulls in torch: only where its page is drawn."""
    from braintransfer.proofs import realism

    return realism.distributions_figure(part) if part else realism.pictures_figure()


def _lesions(name: str) -> figures.Drawing:
    """A figure of the proof of semi-synthetic lesions: "pictures_figure", "profile_figure" or "null_figure"."""
    from braintransfer.proofs import lesions

    drawn: figures.Drawing = getattr(lesions, name)()
    return drawn


_DRAWINGS: dict[str, Callable[[], figures.Drawing]] = {
    "network": figures.network_figure,
    "overlap": figures.overlap_figure,
    "colours": figures.colours_figure,
    "proof_coverage": proof_drawings.committed_coverage,
    "proof_rules": proof_drawings.committed_rules,
    "simulators_pictures": _simulators,
    **{f"lesions_{name}": partial(_lesions, f"{name}_figure") for name in ("pictures", "profile", "null")},
    **{
        f"simulators_{part.lower()}": partial(_simulators, part) for part in ("T1", "Volumes", "MS", "Stroke", "Masses")
    },
}


def badge(run: Run, target: str | None = None) -> str:
    """The note that stands above simulated and semi-synthetic numbers; empty for real scans."""
    kinds = [run.kinds.get(target, "")] if target else [run.kinds.get(t, "") for t in TARGETS]
    parts = []
    if "simulated" in kinds or (run.simulated and not any(kinds)):
        ms = target in (None, "ms") and run.kinds.get("ms", "simulated") == "simulated"
        text = [*SIMULATED_SENTENCES, *([SIMULATED_MS] if ms else [])]
        parts.append(
            ":::{admonition} Simulated data\n:class: warning simulated\n"
            + "\n".join(f"- {s}" for s in text)
            + "\n:::\n"
        )
    if "semi-synthetic" in kinds:
        which = [
            tables.TARGET_TITLES[t] for t in TARGETS if run.kinds.get(t) == "semi-synthetic" and target in (None, t)
        ]
        parts.append(
            f":::{{admonition}} Semi-synthetic: {' and '.join(which)}\n:class: warning simulated\nReal anatomy, "
            "real lesion shapes, simulated "
            "contrast. The lesions were never in these people.\n:::\n"
        )
    if run.note:
        parts.append(f":::{{admonition}} About this run\n:class: note\n{run.note}\n:::\n")
    return "\n".join(parts)


def kind_of(run: Run, target: str) -> str:
    """The words for a target's data at the end of a caption: "Simulated data." """
    words = figures.KIND_TITLES.get(run.kinds.get(target, ""), "")
    return f"{words}." if words else ""


def one_by_one(showcase: pd.DataFrame, target: str) -> pd.DataFrame:
    """People shown one by one: one row a source, one column a person, the target's headline metric."""
    part = showcase[
        (showcase["target"] == target) & (showcase["metric"] == HEADLINE[target]) & (showcase["class"] == "")
    ]
    wide = part.pivot_table(index="source", columns="subject", values="value", dropna=False).reindex(
        [s for s in SOURCES if s in set(part["source"])]
    )
    rows = [
        {"source": tables.SOURCE_TITLES[str(s)], **{str(p): tables.number(float(v)) for p, v in row.items()}}
        for s, row in wide.iterrows()
    ]
    return pd.DataFrame(rows)


def _count(text: str) -> str:
    return f"{int(text):,}" if text.isdigit() else text


def _sources(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    """The data behind each source as a reader meets it: titles, thousands, "20 photographs"."""
    if frame is None:
        return None
    rows = []
    for r in frame.to_dict("records"):
        groups, what = str(r.get("groups", "")), str(r.get("group is", ""))
        plural = what if what.endswith("s") or groups == "1" else {"person": "people"}.get(what, f"{what}s")
        rows.append(
            {
                "source": tables.SOURCE_TITLES.get(str(r["source"]), r["source"]),
                "images": _count(str(r["images"])),
                "taken from": f"{_count(groups)} {plural}" if what else "",
                "classes": _count(str(r["classes"])),
                "ImageNet has": f"{r['ImageNet is larger by']} times as many"
                if r.get("ImageNet is larger by") not in ("", "1", None)
                else "",
                "kind": r["kind"],
            }
        )
    return pd.DataFrame(rows)


def _source_sets(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    if frame is None:
        return None
    sets = frame.loc[frame["data set"] != "none", ["data set", "kind", "licence", "source"]]
    titled = sets.assign(source=[tables.SOURCE_TITLES.get(s, s) for s in sets["source"]])
    joined = titled.groupby(["data set", "kind", "licence"], sort=False)["source"].agg("; ".join).reset_index()
    return joined.rename(columns={"source": "behind"})[["data set", "behind", "kind", "licence"]]


def _targets(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    return None if frame is None else frame.assign(target=[tables.TARGET_TITLES.get(t, t) for t in frame["target"]])


def _sizes(run: Run) -> pd.DataFrame | None:
    sizes = run.tables.get("sizes")
    if sizes is None:
        return None
    titled = sizes.assign(target=[tables.TARGET_TITLES.get(t, t) for t in sizes["target"]])
    titled.insert(1, "kind", [run.kinds.get(t, "") for t in sizes["target"]])
    return titled


def _learned(frame: pd.DataFrame) -> pd.DataFrame:
    numbers = frame.dropna(subset=["value"])  # true and false are no measures
    means = numbers.groupby(["source", "measure"], sort=False)["value"].mean().reset_index()
    means = means.assign(
        source=[tables.SOURCE_TITLES.get(s, s) for s in means["source"]],
        value=[tables.number(v, 3) for v in means["value"]],
    )
    return means.assign(measure=[str(m).replace("_", " ") for m in means["measure"]])


def _contrasts(contrasts: list[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for c in contrasts:
        low, high, mean = (
            float(c[k]) if isinstance(c.get(k), int | float) else float("nan") for k in ("lower", "upper", "estimate")
        )
        a, b = (tables.SOURCE_TITLES.get(str(c.get(k)), str(c.get(k, ""))) for k in ("A", "B"))
        rows.append(
            {
                "claim": str(c.get("claim", "")).replace("claim", "").strip(),
                "target": tables.TARGET_TITLES.get(str(c.get("target")), c.get("target", "")),
                "A − B": f"{a} − {b}",
                "difference": tables.with_interval(mean, low, high, 3),
                "margin": f"{c.get('margin', '')} {tables.METRIC_TITLES.get(str(c.get('metric')), '')}".strip(),
                "people x seeds": f"{c.get('n_subjects', '')} x {c.get('n_seeds', '')}",
                "what the rule says": str(c.get("verdict", "")).replace("_", " "),
            }
        )
    return pd.DataFrame(rows)


def _claims_summary(found: list[dict[str, Any]] | None) -> pd.DataFrame | None:
    """Verdicts claim by claim and target by target, from what `claims.evaluate` summed up."""
    rows = []
    for claim in found or []:
        name = str(claim.get("claim", "")).replace("claim", "").strip()
        rows.append(
            {
                "claim": name,
                "on": "all its targets",
                "what the rule says": claim.get("verdict", ""),
                "why": claim.get("reason", ""),
            }
        )
        parts = claim.get("targets") or {}
        for target, part in [(t, parts[t]) for t in TARGETS if t in parts]:
            why = "; ".join(str(g) for g in part.get("gates_failed") or []) or part.get("reason", "")
            rows.append(
                {
                    "claim": name,
                    "on": tables.TARGET_TITLES.get(target, target),
                    "what the rule says": part.get("verdict", ""),
                    "why": why,
                }
            )
    frame = pd.DataFrame(rows)
    return frame.map(lambda text: str(text).replace("_", " ")) if rows else None


def answers(run: Run) -> list[str]:
    """One sentence a target: what MRI segmentation gave, what ImageNet gave, and the paired difference."""
    accuracy, difference = run.tables.get("accuracy"), run.tables.get("differences")
    if accuracy is None:
        return []
    said = []
    for target in TARGETS:
        metric = HEADLINE[target]
        part = accuracy[(accuracy["target"] == target) & (accuracy["metric"] == metric) & (accuracy["class"] == "")]
        rows = {str(r["source"]): r for r in part.to_dict("records")}
        ours, theirs = rows.get("mri-segmentation"), rows.get("imagenet")
        if ours is None or theirs is None:
            continue
        title = tables.METRIC_TITLES[metric]
        words = (
            f"On **{tables.TARGET_WORDS[target]}**, starting from MRI segmentation gave "
            f"{'an' if title.startswith('m') else 'a'} {title} of "
            f"{tables.with_interval(ours['mean'], ours['lower'], ours['upper'])} and starting from ImageNet "
            f"{tables.with_interval(theirs['mean'], theirs['lower'], theirs['upper'])}"
        )
        pair = (
            pd.DataFrame()
            if difference is None
            else difference[(difference["target"] == target) & (difference["B"] == "imagenet")]
        )
        if len(pair):
            d = pair.iloc[0]
            verdict = tables.in_words(d["lower"], d["upper"])
            words += f"; the paired difference is {tables.with_interval(d['mean'], d['lower'], d['upper'], 3)}, " + {
                "higher": "higher with MRI segmentation",
                "lower": "lower with MRI segmentation",
            }.get(verdict, verdict)
        people = (
            f"{ours['n']} people tested, {ours['seeds']} seeds"
            if ours["n"] != 1
            else f"one person tested, {ours['seeds']} seeds"
        )
        said.append(_one_line(f"{words} ({people}, 95 % intervals)").replace("\\*", "*") + ".")
    return said


def what_to_notice(run: Run, target: str) -> str:
    """Two sentences on a target that only count: who beats scratch, how many differ from MRI segmentation."""
    if run.results is None:
        return ""
    against = tables.difference_table(run.results[run.results["target"] == target], reference="scratch")
    own = against[against["target"] == target]
    beat = [tables.SOURCE_TITLES[s] for s in own.loc[own["upper"] < 0, "B"]]
    table = run.tables.get("differences")
    pairs = pd.DataFrame(columns=["B", "lower", "upper"]) if table is None else table[table["target"] == target]
    pairs = pairs[pairs["B"] != "scratch"]
    unclear = int(sum(tables.in_words(r.lower, r.upper) == "no evidence for a difference" for r in pairs.itertuples()))
    first = f"{len(beat)} of {len(own)} sources end above random weights with an interval that leaves out zero" + (
        f" ({', '.join(beat)})." if beat else "."
    )
    if not len(pairs):
        return first
    of_them = "each" if unclear == len(pairs) else "none" if unclear == 0 else str(unclear)
    return (
        f"{first} MRI segmentation is compared with {len(pairs)} other pre-trained sources: "
        f"for {of_them} of them there is no evidence for a difference."
    )


def _worth_a_page(run: Run, page: str) -> bool:
    if page in TARGETS:
        return page in run.present
    if page == "detection":
        return any(t in run.present for t in DETECTED) and "detection" in run.tables
    if page == "claims":
        return bool(run.contrasts)
    if page in ("curves", "examples"):
        return any(
            name.startswith((f"{page}_", "showcase_") if page == "examples" else f"{page}_") for name in run.drawn
        )
    if page == "samples":
        return "samples" in run.drawn
    if page == "audit":
        return "leaks" in run.tables
    return page == "data" or page in run.tables


def _draw(run: Run, folder: Path) -> list[str]:
    """Figures of a run: those kept in the run folder first, then whatever can be drawn from its data."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(run.folder.glob("compare/figures/*")) + sorted(run.folder.glob("audit/pairs.*")):
        if path.suffix in (".svg", ".png", ".json"):
            shutil.copyfile(path, folder / path.name)
    if run.results is not None:
        figures.write_figures(run.folder, folder, run.kinds)
    for dataset in (*DOMAINS, *TARGETS):
        drawing = _montage(run, dataset)
        if drawing is not None:
            figures.save(drawing, folder, f"montage_{dataset}")
    return sorted(p.stem for p in folder.glob("*.json"))


def _stage_of(run: Run, figure: str) -> StagePage | None:
    """The stage to which a figure's numbers go back: a data set's own, or else the comparison."""
    folder = Path("data", figure.removeprefix("montage_")) if figure.startswith("montage_") else Path("compare")
    folder = Path("audit") if figure == "pairs" else folder
    return next((s for s in run.stages if s.folder == folder), None)


def _montage(run: Run, dataset: str, n: int = 12) -> figures.Drawing | None:
    """Pictures of a slice store, training rows only; None where there is no store or its licence forbids pictures."""
    from braintransfer.store import open_store

    if not (run.folder / "data" / dataset / "images.npy").is_file():
        return None
    store = open_store(run.folder / "data" / dataset)
    if store.facts.get("publish") not in ("pictures", "volumes"):
        return None
    people = store.subjects("train", 0)
    rows = store.rows(people, fold=0) if "folds" in store.splits else store.rows(people)
    rows = rows[store.slices["foreground"].to_numpy()[rows] > 0]
    if not len(rows):
        return None
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, n).round().astype(int))]
    images, masks = store.load(rows, fold=0) if "folds" in store.splits else store.load(rows)
    titles = [str(store.slices["label"].iloc[r]) for r in rows]
    return figures.montage_figure(
        images, masks, titles, str(store.facts.get("title", dataset)), tables.data_kind(store.facts)
    )


def _as_page(stage: StagePage, run: Run) -> nbformat.NotebookNode:
    """An executed notebook as a page: a note under its title, an alternative text for every picture, no widgets."""
    notebook = nbformat.read(stage.notebook, as_version=4)
    m = stage.manifest
    facts = [f"stage `{stage.notebook.stem}` of the run `{run.facts.get('profile', run.slug)}`"]
    if isinstance(m.get("seconds"), int | float):
        facts.append(f"{m['seconds']:.0f} s")
    if m.get("device"):
        facts.append(f"on {m['device']}" + (f" in {m['precision']}" if m.get("precision") else ""))
    facts.append(f"code `{str(m.get('code', ''))[:8]}`")
    simulated = run.simulated or "simulated" in run.kinds.values()
    note = (":::{admonition} Simulated data\n:class: warning simulated\n" if simulated else ":::{note}\n") + (
        f"{'Made from simulated data. ' if simulated else ''}Executed by papermill: {', '.join(facts)}. Where its "
        f"files are: `{stage.folder.as_posix()}`.\n:::"
    )
    first = next(
        (k for k, c in enumerate(notebook.cells) if c.cell_type == "markdown" and c.source.lstrip().startswith("# ")),
        None,
    )
    if first is None:
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"# {stage.title}"))
        first = 0
    heading, _, rest = notebook.cells[first].source.lstrip().partition("\n")
    notebook.cells[first].source = f"{heading}\n\n{note}\n{rest}"
    for cell in notebook.cells:
        for output in cell.get("outputs", []) if cell.cell_type == "code" else []:
            data = output.get("data", {})
            if any(kind.startswith("image/") for kind in data):
                words = next(
                    (v["alt"] for v in output.get("metadata", {}).values() if isinstance(v, dict) and v.get("alt")), ""
                )
                shown = cell.metadata.setdefault("mystnb", {}).setdefault("image", {})
                shown.setdefault("alt", _one_line(words) or f"Picture made by the code above, in: {stage.title}")
                shown.setdefault("width", "100%")
    notebook.metadata.setdefault("language_info", {"name": "python"})
    notebook.metadata.pop("widgets", None)
    return notebook


# --------------------------------------------------------------------------------------------------------------- build
def assemble(root: Path, runs: list[Run], source: Path) -> list[str]:
    """Write every page into `source`, fresh, and the toc that lists just these. Returns the pages in toc order."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in ("_static", "references.bib"):
        path = root / "book" / name
        if path.is_dir():
            shutil.copytree(path, source / name)
        elif path.is_file():
            shutil.copyfile(path, source / name)
    maker = PageMaker(root, source, runs)
    for run in runs:
        maker.run_pages(run)
        if run.stages:
            maker.stage_pages(run)
    if not any(run.results is not None for run in runs):
        maker.render("templates/no_run.md", "results/none/index")
    for path in sorted((root / "book").glob("*.md")):
        maker.render(path.name, path.stem)
    first = next((r for r in runs if r.results is not None and answers(r)), None)
    overview = (
        _figure_block(first.drawn["overview"], "answer", place=f"results/{first.slug}/figures")
        if first and "overview" in first.drawn
        else ""
    )
    partial = next((r for r in runs if r.results is not None), None)
    maker.render("templates/index.md", "index", first=first, partial=partial, overview=overview)
    toc = _toc(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")), source, runs)
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return _pages_of(toc)


def _toc(toc: dict[str, Any], source: Path, runs: list[Run]) -> dict[str, Any]:
    """The toc with what exists: files that are there; a glob becomes one chapter a folder, in the order of the runs."""
    order = [run.slug for run in runs]
    parts = []
    for part in toc["parts"]:
        chapters = []
        for chapter in part["chapters"]:
            if "glob" in chapter:
                found = {p.parent.name: p.parent for p in source.glob(f"{chapter['glob']}.md")}
                chapters += [_chapter(found[slug], source, runs) for slug in [*order, "none"] if slug in found]
            elif _exists(source, chapter["file"]):
                chapters.append(chapter)
        if chapters:
            parts.append({**part, "chapters": chapters})
    return {"format": toc["format"], "root": toc["root"], "parts": parts}


def _exists(source: Path, page: str) -> bool:
    return (source / f"{page}.md").is_file() or (source / f"{page}.ipynb").is_file()


def _chapter(folder: Path, source: Path, runs: list[Run]) -> dict[str, Any]:
    here = folder.relative_to(source).as_posix()
    chapter: dict[str, Any] = {"file": f"{here}/index"}
    run = next((r for r in runs if r.slug == folder.name), None)
    if here.startswith("results/"):
        sections: list[dict[str, Any]] = [
            {"file": f"{here}/{p}"} for p in RESULT_PAGES if _exists(source, f"{here}/{p}")
        ]
    else:
        sections = []
        for group in GROUPS:
            stages = [s for s in run.stages if s.group == group] if run else []
            if stages:
                pages = [{"file": f"{here}/{group}/{s.page}", "title": s.title} for s in stages]
                sections.append({"file": f"{here}/{group}/index", "sections": pages})
    return {**chapter, "sections": sections} if sections else chapter


def _pages_of(toc: Any) -> list[str]:
    if isinstance(toc, list):
        return [page for item in toc for page in _pages_of(item)]
    here = [toc[k] for k in ("root", "file") if k in toc]
    return here + [page for k in ("parts", "chapters", "sections") for page in _pages_of(toc.get(k, []))]


def build(
    root: Path, profile: str | None = None, reference: bool = True, report: Callable[[str], None] = print
) -> Path:
    """Build the book of the project at `root`; returns `_build/html/index.html`.

    profile: show the run of this profile (None: the newest in `runs/`). reference: show `book/reference/` too.
    BadInput (before anything is built) for a notebook with an error, cells that did not run, or no manifest;
    BuildFailed for any warning of jupyter-book and for a page that would load something from outside. The book in place
    stays as it is until the new one is whole.
    """
    runs = find_runs(root, profile, reference)
    pages = assemble(root, runs, root / "_build" / "source")
    report(f"book: {len(pages)} pages from {len(runs)} runs; building")
    part = root / "_build" / "part"
    shutil.rmtree(part, ignore_errors=True)
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(root / "_build" / "source"),
        "--config",
        str(root / "_config.yml"),
        "--toc",
        str(root / "_build" / "source" / "_toc.yml"),
        "--path-output",
        str(part),
        "-W",
        "-n",
        "--keep-going",
        "-q",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace", check=False)
    log = root / "_build" / "book.log"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    made = part / "_build" / "html"
    if done.returncode != 0 or not (made / "index.html").is_file():
        said = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", done.stderr + done.stdout).splitlines() if line.strip()]
        first = next(
            (line for line in said if "WARNING" in line or "ERROR" in line or "rror:" in line),
            said[-1] if said else "no output",
        )
        raise BuildFailed(f"the book was not built: {first.strip()} (everything: {log})")
    outside = outside_loads(made)
    if outside:
        raise BuildFailed(f"the book would load something from outside: {outside[0]} ({len(outside)} in all)")
    html = root / "_build" / "html"
    shutil.rmtree(html, ignore_errors=True)
    made.replace(html)
    shutil.rmtree(part, ignore_errors=True)
    return html / "index.html"


# ------------------------------------------------------------------------------------------------------- outside loads
_CSS_LOAD = re.compile(r"""(?:@import\s+(?:url\()?|url\()\s*['"]?\s*((?:https?:)?//[^'")\s]+)""")
_LOADING_LINKS = {
    "stylesheet",
    "preload",
    "prefetch",
    "modulepreload",
    "icon",
    "shortcut",
    "manifest",
    "dns-prefetch",
    "preconnect",
}


class _Loads(HTMLParser):
    """Collects what a browser would fetch from another place while it draws the page (not links to click)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and not set(given.get("rel", "").split()) & _LOADING_LINKS:
            return
        names = ["href"] if tag == "link" else [] if tag == "a" else ["src", "srcset", "data", "poster"]
        names += ["xlink:href", "href"] if tag in ("image", "use") else []
        for name in names:
            self.found += (
                re.findall(r"(?:https?:)?//[^\s,'\"]+", given.get(name, "").strip())
                if _remote(given.get(name, ""))
                else []
            )
        self.found += _CSS_LOAD.findall(given.get("style", ""))
        self._inside = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.found += _CSS_LOAD.findall(data)
        elif self._inside == "script":
            self.found += re.findall(r"https?://[^\s'\"<>`]+\.js\b", data)


def _remote(value: str) -> bool:
    return any(re.match(r"\s*(?:https?:)?//", piece) for piece in value.split(","))


def outside_loads(html: Path) -> list[str]:
    """ "page: address" for everything that a page or style sheet below `html` would fetch from another server."""
    found = []
    for path in sorted(html.rglob("*.html")):
        parser = _Loads()
        parser.feed(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(html).as_posix()}: {address}" for address in parser.found]
    for path in sorted(html.rglob("*.css")):
        found += [
            f"{path.relative_to(html).as_posix()}: {a}"
            for a in _CSS_LOAD.findall(path.read_text(encoding="utf-8", errors="replace"))
        ]
    return found
