"""Pages of the book from templates: the pieces that a template may call, a run's pages, its notebooks as pages."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import numpy as np
import pandas as pd
import yaml

from braintransfer import audit, cost, figures, interactive, near_duplicates, overlaps, tables
from braintransfer.book import origins, words
from braintransfer.book.javascript import NIIVUE, fetch_niivue
from braintransfer.book.kept import Kept, short
from braintransfer.book.runs import GROUPS, Run, StagePage
from braintransfer.figures import background
from braintransfer.proofs import drawings as proof_drawings
from braintransfer.reference import MANIFESTS, packed
from braintransfer.study import DETECTED, DOMAINS, HEADLINE, SOURCES, TARGETS, arm
from braintransfer.untrusted import as_markdown

RESULT_PAGES = (
    "turn",
    "data",
    "stroke",
    "ms",
    "anatomy",
    "detection",
    "claims",
    "curves",
    *(f"examples-{target}" for target in TARGETS),
    "samples",
    "factorial",
    "controls",
    "baselines",
    "audit",
    "cost",
    "provenance",
)
#: An SVG above so many bytes, as it is and as it is sent (compressed), is shown as PNG; the SVG can still be had from its link.
LARGEST_SVG, LARGEST_SENT = 120_000, 60_000
#: Characters that stand side by side in a table where the text is narrowest on a screen (1280 pixels) and on a sheet of paper, and
#: those that the rim of a column takes. A wider table is shown as several below each other, each with the first column; its CSV
#: stays whole.
WIDEST, RIM = 104.0, 2.5
#: "(0.55 to 0.69)" and "(no interval)", which stand below their number where room is short.
_INTERVAL = re.compile(r"\([^()\n]* to [^()\n]*\)|\(no interval\)")
_INTERVAL_SHOWN = re.compile(_INTERVAL.pattern.replace(" ", "\u00a0"))
#: In these, in "[n = 7]", "6 of 6" and "(≥ 0.98)" no line may break.
_UNBROKEN = re.compile(rf"{_INTERVAL.pattern}|\[n = [^\n\]]*\]|\b\d{{1,3}} of \d{{1,3}}\b|\(≥ [\d.]+\)")


#: What a whole cell of a kept table may be, and how a reader meets it.
_TITLES = {**tables.SOURCE_TITLES, **tables.TARGET_TITLES}


# ------------------------------------------------------------------------------------------------- pieces of the pages
def figure_block(drawn: Mapping[str, str], label: str, *, width: str = "100%", place: str = "figures") -> str:
    """The directive of a figure that lies in `place`, with links to get it."""
    made = f" {drawn['made']}" if drawn.get("made") else ""
    return (
        f":::{{figure}} {place}/{drawn['file']}\n:name: fig-{label}\n:alt: {words.unbroken(drawn['alt'])}\n:width: "
        f"{width}\n\n"
        f"{words.one_line(drawn['caption'])}{made} {_links(drawn, place)}\n:::\n"
    )


def _links(drawn: Mapping[str, str], place: str) -> str:
    """Where a figure's files are had."""
    files = ["svg", "png", *(["csv"] if drawn.get("numbers") else [])]
    links = ", ".join(f"{{download}}`{kind.upper()} <{place}/{drawn['name']}.{kind}>`" for kind in files)
    return f"[Get it as {links}.]{{.on-screen}}"


def turn_block(name: str, still: Mapping[str, str] | None, label: str, caption: str, made: str = "") -> str:
    """The directive of turn/`name`.html; still: the picture that stands in for it, as `figure_block` takes it; made: from which stages."""
    links = (f" {made}" if made else "") + (f" {_links(still, 'figures')}" if still else "")
    shown = f":still: figures/{still['file']}\n:alt: {words.unbroken(still['alt'])}\n" if still else ""
    return f":::{{turn}} turn/{name}.html\n:name: fig-{label}\n{shown}\n{words.one_line(caption)}{links}\n:::\n"


def _table_block(label: str, caption: str, name: str, look: str = "wide") -> str:
    """The directive of tables/`name`.csv; look: its classes in the style sheet."""
    return (
        f":::{{csv-table}} {words.one_line(caption)}\n:name: tab-{label.replace('_', '-')}\n:file: tables/{name}.csv\n"
        f":header-rows: 1\n:class: {look}\n:::\n"
    )


def _look(frame: pd.DataFrame) -> str:
    """Classes of a table: "numbers" hold intervals, which get a line of their own where "two-lines" says so; "paths" are long names."""
    texts = [[str(cell) for cell in frame.iloc[:, k]] for k in range(len(frame.columns))]
    held = [any(map(_INTERVAL.search, cells)) for cells in texts]
    look = ["wide"]
    if any(held):
        look.append("numbers")
        # the first column takes what its names want, where there is any room
        whole = sum(
            max(map(len, cells)) + RIM if has or not k else _narrowest(str(frame.columns[k]), cells)
            for k, (cells, has) in enumerate(zip(texts, held, strict=True))
        )
        look += ["two-lines"] if whole > WIDEST else []
    return " ".join([*look, "paths"] if any(cell.count("/") > 1 for cell in texts[0]) else look)


def _narrowest(title: str, cells: Iterable[Any]) -> float:
    """Characters that a column needs at least: its longest piece in which no line breaks. A title is bold."""

    def longest(text: str) -> int:
        held = _UNBROKEN.sub(lambda found: found[0].replace(" ", "\u00a0"), text)
        return max((len(piece) for piece in re.split(r"[ \n]|(?<=[-/])", held)), default=0)

    return max(1.1 * longest(title), *(float(longest(str(cell))) for cell in cells)) + RIM


def side_by_side(frame: pd.DataFrame) -> list[list[int]]:
    """Which columns to show in which part, so that no part is wider than WIDEST: those that name a row lead each of them.

    What belongs together ("Dice", "Dice, grey matter" ...) stays together where it can. One part where no few columns name a row.
    """
    everything = list(range(len(frame.columns)))
    width = [_narrowest(str(name), frame.iloc[:, k]) for k, name in enumerate(frame.columns)]
    names = next((everything[:n] for n in (1, 2, 3) if not frame.iloc[:, :n].duplicated().any()), everything)
    room = WIDEST - sum(width[k] for k in names)
    if sum(width) <= WIDEST or room < WIDEST / 3:
        return [everything]
    groups: list[list[int]] = []
    for k in everything[len(names) :]:
        same = groups and _family(frame, groups[-1][0]) == _family(frame, k)
        groups = [*groups[:-1], [*groups[-1], k]] if same else [*groups, [k]]
    parts: list[list[int]] = [[]]
    for group in groups:
        fits = sum(width[k] for k in group) <= room
        for piece in [group] if fits else [[k] for k in group]:
            if parts[-1] and sum(width[k] for k in parts[-1] + piece) > room:
                parts.append([])
            parts[-1] += piece
    if len(parts) > 1 and len(parts[-1]) == 1 < len(parts[-2]):  # no part for the number of people alone
        parts[-1].insert(0, parts[-2].pop())
    return [[*names, *part] for part in parts]


def _family(frame: pd.DataFrame, column: int) -> str:
    """What a column is of: "Dice" for "Dice, grey matter"."""
    return str(frame.columns[column]).partition(",")[0]


def _csv_link(name: str) -> str:
    return f"\n[{{download}}`This table as CSV <tables/{name}.csv>`]{{.on-screen}}\n"


def _describe(folder: Path, name: str) -> dict[str, str]:
    told = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    svg = folder / f"{name}.svg"
    photographic = name.startswith(("examples_", "showcase_", "montage_", "pairs", "turn_slices", "turn_planes"))
    drawn = svg.read_bytes() if svg.is_file() and not photographic else b""
    small = 0 < len(drawn) <= LARGEST_SVG and len(gzip.compress(drawn)) <= LARGEST_SENT
    best = f"{name}.svg" if small else f"{name}.png"
    numbers = "yes" if (folder / f"{name}.csv").is_file() else ""
    return {"name": name, "file": best, "caption": told["caption"], "alt": told["alt"], "numbers": numbers}


def _kept_cell(cell: str) -> str:
    """A cell of a kept table for a reader: sources and targets by their titles, true minus signs, rounding errors to two digits."""
    if re.fullmatch(r"-?[\d.]+e-\d+", cell):
        cell = f"{float(cell):.1e}"
    return _TITLES.get(cell, re.sub(r"(?<![\w.])-(?=[\d.])|(?<=\de)-(?=\d)", "−", cell))


def _csv_text(frame: pd.DataFrame) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows([["" if v is None else v for v in row] for row in frame.itertuples(index=False)])
    return buffer.getvalue()


class PageMaker:
    """Writes the pages of one book: renders templates with the pieces (`figure`, `table`, `badge`) they may call."""

    def __init__(
        self, root: Path, source: Path, runs: list[Run], report: Callable[[str], None] = lambda line: None
    ) -> None:
        self.root, self.source, self.runs, self.report = root, source, runs, report
        self.kept = Kept(root / "book" / "proof")
        loader = jinja2.FileSystemLoader(root / "book")
        self.environment = jinja2.Environment(
            loader=loader,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701 -- Markdown, not HTML: what comes from data goes through as_markdown
        )
        self.environment.filters["as_markdown"] = as_markdown
        self.environment.globals.update(
            runs=runs,
            source_titles=tables.SOURCE_TITLES,
            target_titles=tables.TARGET_TITLES,
            metric_titles=tables.METRIC_TITLES,
            headline=HEADLINE,
            detected=DETECTED,
            secondary_metrics=tables.SECONDARY_METRICS,
            matched_frame=tables.sensitivity_at_equal_false_positives,
            targets=TARGETS,
            sources=SOURCES,
            drawing=self.drawing,
            badge=words.badge,
            number=tables.number,
            answers=words.answers,
            heading=words.heading,
            decided=words.decided,
            what_to_notice=words.what_to_notice,
            drawn_from=words.drawn_from,
            unlearned_words=words.unlearned_words,
            trained_longer=words.trained_longer,
            other_sets=words.other_sets,
            proof_table=self.proof_table,
            cell=self.kept.cell,
            column=self.kept.column,
            short=short,
            planning=lambda run, *sizes: cost.planning(root / run, *sizes),
            rate=lambda run: cost.measured_rate(root / run),
            growth=cost.growth,
            speeds=cost.speeds,
            files_a_network=cost.FILES,
            compute=cost.COMPUTE,
            repository=_repository(root),
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
        return figure_block(_describe(folder, name), name.replace("_", "-"), width=width)

    def proof_table(self, name: str, caption: str) -> str:
        """A table of book/proof/`name`.csv, as a run of its proof left it there."""
        place = self.source / "tables"
        place.mkdir(parents=True, exist_ok=True)
        kept = self.kept.file(name)
        shutil.copyfile(kept, place / kept.name)
        whole = pd.read_csv(kept, dtype=str, keep_default_na=False)
        frame = whole.loc[:, (whole != "").any()].map(_kept_cell)  # a column without a word says nothing
        return self._parts(place, name, f"proof-{name}", frame, frame, caption) + _csv_link(name)

    def run_pages(self, run: Run) -> None:
        """Every results page of a run for which there is something to show."""
        here = self.source / "results" / run.slug
        for name in _draw(run, here / "figures"):
            run.drawn[name] = _describe(here / "figures", name)
            run.drawn[name]["made"] = _made_from(run, name)
        if run.results is not None:
            (here / "tables").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.folder / "results.csv", here / "tables" / "results.csv")
        turned, gone = self._turned(run, here), words.unlearned(run)
        pages = [p for p in RESULT_PAGES if run.results is not None and _worth_a_page(run, p)]
        pieces = {
            "run": run,
            "pages": pages,
            "turned": turned,
            "turn": lambda name, still, caption: turn_block(
                name, run.drawn.get(still), f"{run.slug}-{name}", caption, _made_from(run, name)
            ),
            "figure": lambda name, width="100%": (
                figure_block(run.drawn[name], f"{run.slug}-{name.replace('_', '-')}", width=width)
                if name in run.drawn
                else ""
            ),
            "table": lambda name, frame, caption, links=None: self._table(run.slug, here, name, frame, caption, links),
            "data": run.tables,
            "reading": tables.for_reading,
            "baselines_frame": words.baselines_for_reading,
            "differences": partial(tables.differences_for_reading, unlearned=gone),
            "factorial_frame": partial(tables.factorial_for_reading, unlearned=gone),
            "arms_frame": partial(tables.arms_for_reading, unlearned=gone),
            "pairs_frame": partial(tables.pairs_for_reading, unlearned=gone),
            "arms_missing": words.arms_missing(run),
            "arm_kinds": set() if run.results is None else {arm(name).kind for name in run.results["arm"].unique()},
            "cost_frame": tables.cost_for_reading,
            "split_frame": tables.split_for_reading,
            "everything_else": cost.ELSE,
            "over_compute": cost.over_compute,
            "sizes": words.sizes_for_reading(run),
            "kind": words.kind_of,
            "counted": words.counted,
            "thresholds": sorted(set(run.tables["froc"]["threshold"]), key=float) if "froc" in run.tables else [],
            "one_by_one": words.one_by_one,
            "learned": words.learned_for_reading,
            "leaks_frame": tables.leaks_for_reading,
            "planted_frame": tables.planted_for_reading,
            "near": near_duplicates,
            "audit": audit,
            "fair_frame": tables.fairness_for_reading,
            "sources_frame": words.sources_for_reading,
            "source_sets": words.source_sets,
            "targets_frame": words.targets_for_reading,
            "contrasts": words.contrasts_for_reading(run.contrasts),
            "folds_frame": words.folds_for_reading,
            "gates": list(words.GATES.values()),
            "statements": words.statements(run),
            "beside_the_paper": words.beside_the_paper(run),
            "summary": words.claims_summary(tables.read_json(run.folder / "compare" / "claims_summary.json", None)),
        }
        for page in pages:
            kind, _, target = page.partition("-")  # "examples-ms"
            template = f"templates/{'target' if page in TARGETS else kind}.md"
            more = self._provenance(run, here) if page == "provenance" else {}
            self.render(template, f"results/{run.slug}/{page}", target=target or page, **pieces, **more)
        self.render("templates/run.md", f"results/{run.slug}/index", **pieces)

    def beside_page(self) -> None:
        """The runs on real scans side by side, where there are several."""
        real = words.real_runs(self.runs)
        having = {name: run.results for name, run in real.items() if run.results is not None}
        answered = tables.runs_table(having, {name: words.unlearned(run) for name, run in real.items()})
        if len(real) < 2 or answered.empty:
            return
        place = self.source / "results"
        figures.save(figures.runs_figure(answered), place / "figures", "beside")

        def table(name: str, frame: pd.DataFrame, caption: str, links: Mapping[str, str] | None = None) -> str:
            return self._table("beside", place, name, frame, caption, links)

        self.render(
            "templates/beside.md",
            "results/beside",
            figure=figure_block(_describe(place / "figures", "beside"), "beside"),
            table=table,
            each=words.what_runs_are(real),
            answered=tables.runs_for_reading(answered),
            links={name: f"{run.slug}/index" for name, run in real.items()},
        )

    def _provenance(self, run: Run, here: Path) -> dict[str, Any]:
        """What the page of a run's manifests says, with the files that it offers."""
        found = origins.manifests_of(run.folder)
        folder = here / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifests.jsonl.gz").write_bytes(packed(found))
        cards = sorted(run.folder.glob("cards/*.md"))
        for card in cards:
            shutil.copyfile(card, folder / f"card-{card.name}")
        return {
            "walk": origins.example(run.results),
            "data_made": origins.table(found, "data", "audit", "compare"),
            "sources_made": origins.table(found, "sources"),
            "targets_made": origins.table(found, "targets"),
            "versions": origins.versions(found),
            "claims_hashes": origins.claims_hashes(found),
            "notebooks": {s.folder.as_posix(): f"/stages/{run.slug}/{s.group}/{s.page}" for s in run.stages},
            "cards": [(card.stem, f"tables/card-{card.name}") for card in cards],
        }

    def _turned(self, run: Run, here: Path) -> list[str]:
        """Write the figures of a run that can be turned, each as a piece of HTML below `here`/turn; returns their names."""
        if run.results is None or not run.present:
            return []
        folder, extra = here / "turn", self.source / "extra" / "turn"
        folder.mkdir(parents=True, exist_ok=True)
        up = f"../../stages/{run.slug}/targets/"
        cells = {
            s.folder.parts[2:]: f"{up}{s.page}.html" for s in run.stages if s.folder.parts[:2] == ("targets", "main")
        }
        pieces = {
            "grid": interactive.grid(run.results, {(c[0], c[1]): page for c, page in cells.items() if len(c) == 2}),
            "ranking": interactive.ranking(run.results, run.kinds),
        }
        predictions = self.root / "_build" / "predictions"
        scans = interactive.shown_scans(run.folder, run.results, predictions)
        if scans:
            without = fetch_niivue(self.root, extra, self.report)
            files = [f"{run.slug}-{scan.dataset}.js" for scan in scans]
            extra.mkdir(parents=True, exist_ok=True)
            for scan, file in zip(scans, files, strict=True):
                (extra / file).write_text(interactive.scan_script(scan), encoding="utf-8")
            viewer = "" if without else NIIVUE.name
            pieces["slices"] = interactive.scans_stage("slices", scans, files)
            pieces["viewer"] = interactive.scans_stage("viewer", scans, files, viewer, without)
            self._still(run, here, "turn_slices", interactive.planes_figure(scans[0], ("axial",)))
            self._still(run, here, "turn_planes", interactive.planes_figure(scans[0]))
        counted = self._counted(run, predictions)
        if len(counted):
            pieces["detection"] = interactive.detection(counted)
            self._still(run, here, "turn_overlap", interactive.overlap_figure(counted))
            (here / "tables").mkdir(exist_ok=True)
            counted.to_csv(here / "tables" / "overlap.csv", index=False, float_format="%.6g", lineterminator="\n")
        for name, text in pieces.items():
            (folder / f"{name}.html").write_text(text, encoding="utf-8")
        return list(pieces)

    def _counted(self, run: Run, predictions: Path) -> pd.DataFrame:
        """Lesions by rule, as kept with the run or counted now; remembered in the run's tables."""
        if "overlap" not in run.tables:
            run.tables["overlap"] = overlaps.count(run.folder, predictions, lambda line: self.report(f"book: {line}"))
        return run.tables["overlap"]

    def _still(self, run: Run, here: Path, name: str, drawing: figures.Drawing) -> None:
        figures.save(drawing, here / "figures", name)
        run.drawn[name] = _describe(here / "figures", name)

    def _table(
        self, of: str, here: Path, name: str, frame: pd.DataFrame | None, caption: str,
        links: Mapping[str, str] | None = None,
    ) -> str:  # fmt: skip
        """A table and its CSV; of: what its label begins with; links: text of a cell -> the page that it opens."""
        if frame is None or not len(frame):
            return f"*Not in this run: {words.one_line(caption).partition('.')[0]}.*\n"
        folder = here / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.csv").write_text(_csv_text(frame), encoding="utf-8", newline="\n")
        pages = links or {}

        def shown(cell: Any) -> Any:
            plain = as_markdown(cell) if isinstance(cell, str) else cell
            return f"{{doc}}`{cell} <{pages[cell]}>`" if isinstance(cell, str) and cell in pages else plain

        return self._parts(folder, name, f"{of}-{name}", frame, frame.map(shown), caption) + _csv_link(name)

    def _parts(
        self, folder: Path, name: str, label: str, frame: pd.DataFrame, marked: pd.DataFrame, caption: str
    ) -> str:
        """The directives of a table, in as many parts as it needs; marked: its cells in Markdown."""
        parts = side_by_side(frame)
        blocks = []
        for k, columns in enumerate(parts, 1):
            file = f"{name}.shown{'' if len(parts) == 1 else k}"
            text = _UNBROKEN.sub(lambda found: found[0].replace(" ", "\u00a0"), _csv_text(marked.iloc[:, columns]))
            spans = _INTERVAL_SHOWN.sub(r"[\g<0>]{.interval}", text).replace("]{.interval}; ", "]{.interval} ")
            (folder / f"{file}.csv").write_text(spans, encoding="utf-8", newline="\n")
            numbered = caption if len(parts) == 1 else f"{caption} Columns, part {k} of {len(parts)}."
            look = _look(frame.iloc[:, columns])
            blocks.append(_table_block(label if k == 1 else f"{label}-part-{k}", numbered, file, look))
        return "\n".join(blocks)

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


def _repository(root: Path) -> str:
    """Address of the project's public repository, from `_config.yml`; empty where none is named."""
    named = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")).get("repository") or {}
    return str(named.get("url") or "").strip()


def _schedule() -> figures.Drawing:
    """The figure of the schedule's proof; its module too pulls in torch."""
    from braintransfer.proofs import schedule

    return schedule.committed_figure()


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
    **background.DRAWINGS,
    "proof_coverage": proof_drawings.committed_coverage,
    "proof_rules": proof_drawings.committed_rules,
    "proof_schedule": _schedule,
    "simulators_pictures": _simulators,
    **{f"lesions_{name}": partial(_lesions, f"{name}_figure") for name in ("pictures", "profile", "null")},
    **{
        f"simulators_{part.lower()}": partial(_simulators, part) for part in ("T1", "Volumes", "MS", "Stroke", "Masses")
    },
}


def _worth_a_page(run: Run, page: str) -> bool:
    if page == "turn":
        return bool(run.present)
    if page in TARGETS:
        return page in run.present
    if page == "detection":
        return any(t in run.present for t in DETECTED) and "detection" in run.tables
    if page == "claims":
        return bool(run.contrasts)
    if page.startswith(("curves", "examples-")):
        return any(name.startswith(f"{page.replace('-', '_')}_") for name in run.drawn)
    if page == "samples":
        return "samples" in run.drawn
    if page == "controls":
        return "arms" in run.tables
    if page == "audit":
        return "leaks" in run.tables
    if page == "provenance":
        return bool(run.stages) or (run.folder / MANIFESTS).is_file()
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


def _made_from(run: Run, figure: str) -> str:
    """The sentence that leads from a figure to the stage that its numbers come from; "" where the book has neither it nor its trail."""
    stage = _stage_of(run, figure)
    if stage is not None:
        return f"Made from {{doc}}`this stage </stages/{run.slug}/{stage.group}/{stage.page}>`."
    if run.results is not None and _worth_a_page(run, "provenance"):
        return f"Made from {{doc}}`these stages </results/{run.slug}/provenance>`."
    return ""


def _montage(run: Run, dataset: str, n: int = 12) -> figures.Drawing | None:
    """Pictures of a slice store, training rows only; None where there is no store or its licence forbids pictures."""
    from braintransfer.store import may_be_shown, open_store

    if not (run.folder / "data" / dataset / "images.npy").is_file():
        return None
    store = open_store(run.folder / "data" / dataset)
    if not may_be_shown(store.facts):
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
    facts = [f"stage `{stage.notebook.stem}` of the run {as_markdown(str(run.facts.get('profile', run.slug)))}"]
    if isinstance(m.get("seconds"), int | float):
        facts.append(f"{m['seconds']:.0f} s")
    if m.get("device"):
        facts.append(as_markdown(f"on {m['device']}" + (f" in {m['precision']}" if m.get("precision") else "")))
    facts.append(f"code `{str(m.get('code', ''))[:8]}`")
    simulated = run.simulated or "simulated" in run.kinds.values()
    note = (":::{admonition} Simulated data\n:class: warning simulated\n" if simulated else ":::{note}\n") + (
        f"**{as_markdown(stage.title)}.** {'Made from simulated data. ' if simulated else ''}Executed by papermill: "
        f"{', '.join(facts)}. Where its files are: `{stage.folder.as_posix()}`.\n:::"
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
                alt = next(
                    (v["alt"] for v in output.get("metadata", {}).values() if isinstance(v, dict) and v.get("alt")), ""
                )
                shown = cell.metadata.setdefault("mystnb", {}).setdefault("image", {})
                shown.setdefault("alt", words.unbroken(alt) or f"Picture made by the code above, in: {stage.title}")
                shown.setdefault("width", "100%")
    notebook.metadata.setdefault("language_info", {"name": "python"})
    notebook.metadata.pop("widgets", None)
    return notebook
