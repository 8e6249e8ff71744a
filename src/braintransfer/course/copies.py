"""Masters into copies: what a learner gets, what an instructor gets, the grading sheet, all from the notebooks in MASTERS.

A master is a notebook whose cells carry tags: `exercise` (its question, with the facts for the grading sheet in the metadata),
`hint`, `answer` (code whose lines between `### BEGIN SOLUTION` and `### END SOLUTION` are the solution; lines that start with
`# learner: ` there are what a learner sees instead), `check`, and `solution` (for instructors only).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd
import yaml
from nbformat import NotebookNode

from braintransfer import figures
from braintransfer.errors import BadInput
from braintransfer.figures.background import DRAWINGS

BEGIN, END, LEARNER = "### BEGIN SOLUTION", "### END SOLUTION", "# learner: "
#: What a learner finds where the solution was, unless the master says something else.
OPEN = "...  # your answer"
#: Where the masters are. The learner's copies stand one folder up, for those who open the repository in Binder or Colab.
MASTERS = Path("book", "course", "masters")
#: Levels of Bloom's taxonomy, as revised by Anderson and Krathwohl (2001), from low to high.
LEVELS = ("remember", "understand", "apply", "analyse", "evaluate", "create")
#: The tags that every exercise has once, in this order.
PARTS = ("exercise", "hint", "answer", "check", "solution")
#: Drawings of the book that a master may show, as `![](drawing:NAME)`.
PICTURES: dict[str, Callable[[], figures.Drawing]] = {
    "network": figures.network_figure,
    "overlap": figures.overlap_figure,
    **DRAWINGS,
}
PICTURE = re.compile(r"!\[[^\]]*\]\(drawing:(\w+)\)")
#: The line of the first code cell that says where Colab finds the project.
REPOSITORY = 'REPOSITORY = ""'
SOLVED = "*This is the instructor's copy: it holds the solutions. Do not hand it out.*"


@dataclass(frozen=True)
class Exercise:
    """One exercise as the grading sheet has it."""

    number: int
    lab: str
    title: str
    level: str
    points: int
    minutes: int
    misconception: str


def masters(root: Path) -> list[Path]:
    """The master notebooks of the project at `root`, in the order in which they are taught. BadInput when there is none."""
    found = sorted((root / MASTERS).glob("lab*.ipynb"))
    if not found:
        raise BadInput(f"{root / MASTERS}: no master notebook (lab*.ipynb) there; take a complete copy of the project")
    return found


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def exercises(master: Path) -> list[Exercise]:
    """The exercises of one master. BadInput when one lacks a part, or a fact for the grading sheet."""
    notebook = nbformat.read(master, as_version=4)
    found, parts = [], [(part, cell) for cell in notebook.cells for part in PARTS if part in tags(cell)]
    if [part for part, _ in parts] != list(PARTS) * (len(parts) // len(PARTS)) or len(parts) % len(PARTS):
        raise BadInput(f"{master}: each exercise needs cells tagged {', '.join(PARTS)}, in this order")
    for part, cell in parts:
        if part != "exercise":
            continue
        facts = cell.metadata.get("course", {})
        heading = re.match(r"#+ Exercise (\d+)\. (.+)", cell.source)
        if (
            heading is None
            or facts.get("level") not in LEVELS
            or not {"points", "minutes", "misconception"} <= set(facts)
        ):
            raise BadInput(
                f"{master}: cell {cell.id} needs a heading '### Exercise N. Title' and level ({', '.join(LEVELS)}), points, "
                "minutes and misconception in its metadata"
            )
        found.append(
            Exercise(
                int(heading[1]), master.stem, heading[2].strip(), facts["level"], facts["points"], facts["minutes"],
                facts["misconception"],
            )
        )  # fmt: skip
    return found


def sheet(root: Path) -> pd.DataFrame:
    """The grading sheet: one row an exercise, in order, with an empty column for the points that were given."""
    rows = [
        {
            "Exercise": e.number, "Lab": e.lab.partition("_")[0].removeprefix("lab"), "Title": e.title, "Level": e.level,
            "Minutes": e.minutes, "Points": e.points, "Given": "",
        }
        for master in masters(root) for e in exercises(master)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def misconceptions(root: Path) -> pd.DataFrame:
    """What students commonly believe, and the exercise that shows otherwise."""
    rows = [
        {"What students often believe": e.misconception, "Shown by": f"Exercise {e.number}: {e.title}"}
        for master in masters(root)
        for e in exercises(master)
    ]
    return pd.DataFrame(rows)


def _without_solution(source: str) -> str:
    kept: list[str] = []
    inside, shown = False, False
    for line in source.splitlines():
        stripped = line.lstrip()
        indent = line[: len(line) - len(stripped)]
        if stripped == BEGIN:
            inside, shown, where = True, False, indent
        elif stripped == END:
            inside = False
            if not shown:
                kept.append(f"{where}{OPEN}")
        elif inside and stripped.startswith(LEARNER):
            kept.append(indent + stripped.removeprefix(LEARNER))
            shown = True
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def _with_solution(source: str) -> str:
    lines = [line for line in source.splitlines() if line.strip() not in (BEGIN, END)]
    return "\n".join(line for line in lines if not line.lstrip().startswith(LEARNER))


def _folded(source: str) -> str:
    """A hint that opens when it is clicked: in Jupyter, in Colab and in the book."""
    return f"<details>\n<summary>Hint</summary>\n\n{source.strip()}\n\n</details>"


@cache
def drawing(name: str) -> figures.Drawing:
    """A drawing of the book by its name. BadInput for a name that there is not."""
    if name not in PICTURES:
        raise BadInput(f"drawing:{name}: there is no such drawing; there are {', '.join(PICTURES)}")
    return PICTURES[name]()


def with_pictures(text: str, address: Callable[[str], str]) -> str:
    """Text with the address of each `drawing:NAME`, and the drawing's own alternative text."""
    return PICTURE.sub(lambda found: f"![{drawing(found[1]).alt}]({address(found[1])})", text)


def copy_of(master: NotebookNode, *, instructor: bool, repository: str = "") -> NotebookNode:
    """The learner's or the instructor's copy of a master: a new notebook, without outputs. repository: what Colab installs."""
    copy = nbformat.v4.new_notebook(metadata=dict(master.metadata))
    for cell in master.cells:
        own = tags(cell)
        if "solution" in own and not instructor:
            continue
        new = NotebookNode(cell)
        source = cell.source
        if "answer" in own:
            source = _with_solution(source) if instructor else _without_solution(source)
        elif "hint" in own:
            source = _folded(source)
        elif "solution" in own:
            source = f"> **Solution.** {source.strip()}".replace("\n", "\n> ")
        source = with_pictures(source, "pictures/{}.png".format).replace(REPOSITORY, f'REPOSITORY = "{repository}"')
        metadata = {"tags": sorted(own)} if own else {}
        new = (
            nbformat.v4.new_code_cell(source, id=cell.id, metadata=metadata)
            if cell.cell_type == "code"
            else nbformat.v4.new_markdown_cell(source, id=cell.id, metadata=metadata)
        )
        copy.cells.append(new)
    if instructor:
        heading, _, rest = copy.cells[0].source.partition("\n")
        copy.cells[0].source = f"{heading}\n\n{SOLVED}\n{rest}"
    return copy


def write_plain(path: Path, text: str) -> None:
    """Write a text that others may read, with the same line ends everywhere."""
    path.write_text(text, encoding="utf-8", newline="\n")


def _write(root: Path, to: Path, instructor: bool) -> list[Path]:
    (to / "pictures").mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    repository = (settings.get("repository") or {}).get("url") or ""
    written = []
    for master in masters(root):
        exercises(master)
        notebook = nbformat.read(master, as_version=4)
        for name in {name for cell in notebook.cells for name in PICTURE.findall(cell.source)}:
            (to / "pictures" / f"{name}.png").write_bytes(drawing(name).png())
        copy = copy_of(notebook, instructor=instructor, repository=repository)
        write_plain(to / master.name, nbformat.writes(copy) + "\n")
        written.append(to / master.name)
    return written


def write_copies(root: Path, to: Path, *, instructor: bool = False) -> list[Path]:
    """Write a copy of every master, and the pictures that it shows, into the folder `to`; returns the notebooks.

    BadInput when `to` is the masters' own folder, or holds a copy already: a learner's answers may stand in it.
    """
    sources = masters(root)
    if to.resolve() == sources[0].parent.resolve():
        raise BadInput(f"--to {to}: that is where the masters are; give another folder")
    there = [to / master.name for master in sources if (to / master.name).exists()]
    if there:
        raise BadInput(f"{there[0]} is there already, perhaps with answers in it; give --to a new folder")
    return _write(root, to, instructor)


def renew(root: Path) -> list[Path]:
    """Write the learner's copies in the repository anew, after a master was changed; returns the notebooks."""
    return _write(root, (root / MASTERS).parent, instructor=False)


def write_pages(root: Path, source: Path) -> None:
    """What the book's pages of the course need, into `source`/course: the learner's copies, their pictures, the guide's tables."""
    here = source / "course"
    _write(root, here, instructor=False)
    kept = {path.stem: path.read_text(encoding="utf-8") for path in sorted((root / "book" / "course").glob("*.csv"))}
    made = {"sheet": sheet(root).drop(columns="Given"), "misconceptions": misconceptions(root)}
    texts = kept | {name: frame.to_csv(index=False, lineterminator="\n") for name, frame in made.items()}
    (here / "tables").mkdir()
    for name, text in texts.items():
        write_plain(here / "tables" / f"{name}.csv", text)


def execute(notebooks: list[Path], report: Callable[[str], None] = print) -> pd.DataFrame:
    """Run copies in place, one after the other; returns what each lab said last about itself.

    lab; seconds from start to end; computing: processor seconds, all cores together, which other work on the machine changes
    little; MB: the most memory of its kernel. papermill's error when a cell fails.
    """
    from braintransfer import kernels

    rows = []
    for path in notebooks:
        report(f"{path.name} ...")
        kernels.execute(path, path, {}, path.parent)
        said = re.findall(
            r"took (\d+) s so far, (\d+) s of processor time \(all cores together\), and at most (\d+) MB",
            printed(nbformat.read(path, as_version=4)),
        )
        if not said:
            raise BadInput(f"{path}: its last cell must be so_far(); see the other labs")
        seconds, computing, memory = (int(number) for number in said[-1])
        rows.append({"lab": path.stem, "seconds": seconds, "computing": computing, "MB": memory})
        report(f"{path.name}: {seconds} s, {computing} s of processor time, {memory} MB")
    return pd.DataFrame(rows)


def printed(notebook: NotebookNode) -> str:
    """Everything that an executed notebook has printed."""
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.get("outputs", [])]
    return "\n".join(o["text"] for o in outputs if o.get("output_type") == "stream" and o.get("name") == "stdout")


def expected(notebooks: list[Path]) -> pd.DataFrame:
    """What the checks of executed instructor's copies said: one row an exercise."""
    rows = []
    for path in notebooks:
        for line in printed(nbformat.read(path, as_version=4)).splitlines():
            said = re.match(r"Exercise (\d+), right\. (.+)", line)
            if said:
                rows.append({"Exercise": int(said[1]), "What the check says": said[2]})
    return pd.DataFrame(rows)
