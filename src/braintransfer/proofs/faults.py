"""Interruptions: a small run is killed, starved of disk and damaged at random moments; the same command must then finish it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.provenance import (
    MANIFEST,
    atomic_write_text,
    broken_output,
    files_digest,
    project_root,
    read_manifest,
    sha256_file,
)

#: The run: one target from two sources, of which one has to be trained first.
PROFILE = "tiny"
ONLY = "stroke:scratch,stroke:mri-segmentation"
#: Its stages in the order of the plan; some run side by side.
STAGES = (
    "data/mri", "data/stroke", "audit", "sources/main/mri-segmentation", "targets/main/stroke/scratch",
    "targets/main/stroke/mri-segmentation", "compare",
)  # fmt: skip
#: What can happen, in turn, and the first stage during which it can: before, there is nothing of the kind to harm.
KINDS = {
    "driver killed": 0,
    "stopped between write and rename": 0,
    "array truncated": 1,
    "kernel killed": 0,
    "disk full": 0,
    "manifest truncated": 1,
    "stage killed": 0,
    "file unreadable": 1,
    "checkpoint truncated": 4,
    "engine killed": 0,
}
#: Files that the harm may choose from.
HARMED = {"array truncated": ".npy", "checkpoint truncated": ".safetensors", "manifest truncated": MANIFEST}
#: Results that must be the same bytes as in the run that nobody disturbed.
EQUAL = ("results.csv", "all.csv.gz", "*.npy", "*.safetensors", "scores.csv", "splits.json")
TIME_LIMIT = 3600
COLUMNS = ["fault", "during", "where", "first ended with", "then with", "results", "finished before", "done again"]
_HOOK = """import os, signal, sys
_log, _at = os.environ.get("FAULTS_RENAMES", ""), os.environ.get("FAULTS_STOP_AT", "")
def _seen(event, arguments):
    if event == "os.rename":
        target = os.fsdecode(arguments[1])
        if _at and target.endswith(_at):
            os.kill(os.getpid(), signal.SIGKILL)
        if _log:
            with open(_log, "a") as file:
                file.write(target + "\\n")
if _log or _at:
    sys.addaudithook(_seen)
"""


@dataclass(frozen=True)
class Fault:
    """What happens (a name of KINDS), during which stage, and when or where: `moment` and `place` are numbers in [0, 1)."""

    number: int
    kind: str
    stage: str
    moment: float
    place: float


def faults(repeats: int, seed: int) -> list[Fault]:
    """`repeats` faults, the kinds in turn; stage, moment and place are drawn from the stream `faults` of `seed`."""
    rng = study.stream(seed, "faults")
    names = list(KINDS)
    chosen = []
    for number in range(repeats):
        kind = names[number % len(names)]
        stage = STAGES[int(rng.integers(KINDS[kind], len(STAGES)))]
        chosen.append(Fault(number, kind, stage, float(rng.random()), float(rng.random())))
    return chosen


def copy_project(source: Path, to: Path, *folders: str) -> None:
    """A project in `to` with these folders of `source`, and the files by which one is known."""
    for name in folders:
        shutil.copytree(source / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(source / name, to / name)


class Laboratory:
    """A copy of the project with a run that nobody disturbs; disturbed runs start from the stages that it had finished."""

    def __init__(self, folder: Path) -> None:
        self.source, self.hook = folder / "project", folder / "hook"
        self.log = folder / "renames.txt"
        if not self.source.is_dir():
            part = folder / "project.part"
            shutil.rmtree(part, ignore_errors=True)
            copy_project(project_root(), part, "src", "notebooks", "book/proof")
            part.rename(self.source)
        self.hook.mkdir(exist_ok=True)
        (self.hook / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")

    @property
    def run(self) -> Path:
        return self.source / "runs" / PROFILE

    def command(self) -> list[str]:
        # root may read everything: to meet a file that it may not read, it gives up that power
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if _is_root() else []
        given = ["run", "--profile", PROFILE, "--only", ONLY, "--jobs", "2"]
        return [*prefix, sys.executable, "-m", "braintransfer.cli", *given]

    def start(self, project: Path, **variables: str) -> subprocess.Popen[bytes]:
        """The same command as ever, in `project`; what it says goes to said.txt there."""
        environment = {
            **os.environ, **variables, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(self.hook), str(self.source / "src")]),
        }  # fmt: skip
        with (project / "said.txt").open("ab") as said:
            return subprocess.Popen(
                self.command(), cwd=project, stdout=said, stderr=said, env=environment, start_new_session=True
            )

    def undisturbed(self) -> None:
        """Run once to the end, noting every rename. Goes on where an earlier call was stopped."""
        if self.start(self.source, FAULTS_RENAMES=str(self.log)).wait(TIME_LIMIT) != 0:
            raise BadInput(f"without any fault the run does not finish; see {self.source / 'said.txt'}")

    def renames(self, stage: str) -> list[str]:
        """Where files of a stage are renamed to, from the run's folder on, in order."""
        mark = f"runs/{PROFILE}/"
        lines = self.log.read_text(encoding="utf-8").splitlines()
        inside = [line.partition(mark)[2] for line in lines if mark in line]
        return [line for line in dict.fromkeys(inside) if line.startswith(f"{stage}/")]

    def seconds(self, stage: str) -> float:
        """How long the stage's notebook took in the run that nobody disturbed."""
        (notebook,) = (self.run / stage).glob("*.ipynb")
        return float(json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"])

    def begin(self, project: Path, stage: str) -> None:
        """Lay a project out as the run would have left it just before `stage`, times of files included."""
        copy_project(self.source, project, "notebooks", "book")
        shutil.copytree(self.source / ".snakemake" / "metadata", project / ".snakemake" / "metadata")
        run = project / "runs" / PROFILE
        run.mkdir(parents=True, exist_ok=True)
        shutil.copy2(self.run / "machine.json", run / "machine.json")
        for before in STAGES[: STAGES.index(stage)]:
            shutil.copytree(self.run / before, run / before)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("setpriv") is not None


# -------------------------------------------------------------------------------------------------------------- faults
def _processes(driver: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """The processes of a run by what they are: driver, engine, stage, kernel (one of each, where there are several)."""
    found = {"driver": psutil.Process(driver.pid)}
    for process in found["driver"].children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            kinds = {"braintransfer.cli engine": "engine", "braintransfer.cli stage": "stage", "ipykernel": "kernel"}
            for mark, kind in kinds.items():
                if mark in words and "/bin/sh" not in words:
                    found[kind] = process
    return found


def _wait_for_moment(lab: Laboratory, fault: Fault, run: Path, driver: subprocess.Popen[bytes]) -> float:
    """Wait until the stage has been at work for its share of what it took undisturbed. Returns the seconds since its start."""
    marker, wait = run / fault.stage / ".running", fault.moment * lab.seconds(fault.stage)
    started = 0.0
    while driver.poll() is None:
        with contextlib.suppress(OSError):
            started = started or marker.stat().st_mtime
        if started and time.time() - started >= wait:
            break
        time.sleep(0.02)
    return time.time() - started if started else 0.0


def _kill(lab: Laboratory, fault: Fault, run: Path, driver: subprocess.Popen[bytes]) -> str:
    after = _wait_for_moment(lab, fault, run, driver)
    wanted = fault.kind.split(" ")[0]
    wanted = wanted if wanted in ("engine", "stage", "kernel") else "driver"
    while driver.poll() is None:
        with contextlib.suppress(psutil.Error):
            process = _processes(driver).get(wanted)
            if process is not None:
                process.kill()
                return f"after {after:.1f} s"
        time.sleep(0.02)
    return "the run had ended"


def _finished(run: Path) -> dict[str, int]:
    """Finished rows and stages of a run, by folder, with the time of their manifest: whole, and their notebook shown."""
    found = {}
    for path in sorted(run.rglob(MANIFEST)):
        manifest = read_manifest(path.parent)
        if manifest is None or broken_output(path.parent, manifest) is not None:
            continue
        name = path.parent.relative_to(run).as_posix()
        cut = list(path.parent.glob("*.part.ipynb")) or not list(path.parent.glob("*.ipynb"))
        if name not in STAGES or not cut:
            found[name] = path.stat().st_mtime_ns
    return found


def _damage(fault: Fault, run: Path) -> tuple[str, str]:
    """Truncate one finished file, or make it unreadable. Returns what was done, and the stage or row that it belongs to."""
    ending = HARMED.get(fault.kind, "")
    candidates = []
    for folder in _finished(run):
        manifest = read_manifest(run / folder) or {"outputs": {}}
        names = (
            [MANIFEST]
            if ending == MANIFEST
            else [n for n in manifest["outputs"] if n.endswith(ending) and ".." not in n]
        )
        candidates += [(folder, run / folder / name) for name in names]
    folder, path = candidates[int(fault.place * len(candidates))]
    where = path.relative_to(run).as_posix()
    if fault.kind == "file unreadable":
        path.chmod(0)
        return where, folder
    size = path.stat().st_size
    length = int(fault.moment * size)
    os.truncate(path, length)
    return f"{where}, {length} of {size} bytes left", folder


@contextlib.contextmanager
def _small_disk(folder: Path, wanted: bool) -> Iterator[Callable[[bool], None]]:
    """`folder` on a disk of its own, in memory, that can be made full (True) and large again (False)."""
    if not wanted:
        yield lambda full: None
        return

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)

    def resize(full: bool) -> None:
        used = shutil.disk_usage(folder).used
        mount(f"remount,size={max(used, 4096)}" if full else "remount,size=4g")

    folder.mkdir(parents=True)
    mount("size=4g")
    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _end(project: Path) -> None:
    """Wait until nothing of a run is alive, as must be by itself within seconds once its driver is gone."""
    deadline = time.time() + 300
    while any(_works_in(process, project) for process in psutil.process_iter()):
        if time.time() > deadline:
            raise BadInput(f"processes of the run in {project} outlive their driver by five minutes; end them")
        time.sleep(0.2)


def _works_in(process: psutil.Process, project: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return Path(process.cwd()) == project.resolve()
    return False


def try_fault(lab: Laboratory, fault: Fault, project: Path) -> dict[str, Any]:
    """Disturb one run in `project` (made, and removed again), repeat its command, and say what came of it: a row of the table."""
    shutil.rmtree(project, ignore_errors=True)
    run = project / "runs" / PROFILE
    with _small_disk(project / "runs", fault.kind == "disk full") as disk:
        lab.begin(project, fault.stage)
        variables = {}
        if fault.kind == "stopped between write and rename":
            renames = lab.renames(fault.stage)
            where = renames[int(fault.place * len(renames))]
            variables["FAULTS_STOP_AT"] = f"runs/{PROFILE}/{where}"
        driver = lab.start(project, **variables)
        harmed = ""
        if fault.kind == "disk full":
            where = f"after {_wait_for_moment(lab, fault, run, driver):.1f} s"
            disk(True)
        elif not variables:
            where = _kill(lab, fault, run, driver)
        ended = driver.wait(TIME_LIMIT)
        disk(False)
        if fault.kind in HARMED or fault.kind == "file unreadable":
            _end(project)
            where, harmed = _damage(fault, run)
        before = _finished(run)
        before.pop(harmed, None)  # a file that nobody may read: root could
        again = lab.start(project).wait(TIME_LIMIT)
        after = _finished(run)
        differs = "" if again else _first_difference(lab.run, run)
        # what hangs on a damaged stage is shown again, but no network is trained again that was whole
        shown = _dependents(harmed)
        redone = [name for name, when in before.items() if after.get(name) != when and name not in shown]
        equal = again == 0 and not differs
        row: dict[str, Any] = {
            "fault": fault.kind, "during": fault.stage, "where": where,
            "first ended with": "kill" if ended < 0 else str(ended), "then with": str(again),
            "results": "equal" if equal else "not equal", "finished before": len(before), "done again": len(redone),
        }  # fmt: skip
        if again or not equal or redone:
            row["where"] += (
                f" | again: {', '.join(redone)} | {(project / 'said.txt').read_text(encoding='utf-8')[-800:]}"
            )
        for path in run.rglob("*"):
            path.chmod(0o700)
    shutil.rmtree(project)
    return row


def _first_difference(undisturbed: Path, run: Path) -> str:
    """The first file of the results whose bytes are not those of the undisturbed run, or ""."""
    for pattern in EQUAL:
        for path in sorted(undisturbed.rglob(pattern)):
            other = run / path.relative_to(undisturbed)
            if not other.is_file() or sha256_file(path) != sha256_file(other):
                return other.relative_to(run).as_posix()
    return ""


def _dependents(harmed: str) -> set[str]:
    """Stages whose notebooks may be shown again after `harmed` (a stage or a row) was done again."""
    if not harmed:
        return set()
    first = next(k for k, stage in enumerate(STAGES) if harmed == stage or harmed.startswith(f"{stage}/"))
    later = {"data/mri": (2, 3, 5, 6), "data/stroke": (2, 4, 5, 6), "sources/main/mri-segmentation": (5, 6)}
    return {STAGES[first], *(STAGES[k] for k in later.get(STAGES[first], (6,) if first < 6 else ()))}


def two_at_once(lab: Laboratory, project: Path) -> dict[str, Any]:
    """Start two runs of one folder together: one must finish, the other end with 2 and one line that says why."""
    shutil.rmtree(project, ignore_errors=True)
    stage = STAGES[-2]
    lab.begin(project, stage)
    both = [lab.start(project) for _ in range(2)]
    codes = sorted(driver.wait(TIME_LIMIT) for driver in both)
    said = (project / "said.txt").read_text(encoding="utf-8")
    locked = [line for line in said.splitlines() if line.startswith("error: ") and "is locked" in line]
    equal = sha256_file(project / "runs" / PROFILE / "results.csv") == sha256_file(lab.run / "results.csv")
    shutil.rmtree(project)
    return {
        "fault": "two runs at once", "during": stage, "where": f"{len(locked)} said that the folder is locked",
        "first ended with": str(codes[1]), "then with": str(codes[0]), "results": "equal" if equal else "not equal",
        "finished before": STAGES.index(stage), "done again": 0,
    }  # fmt: skip


def fault_table(folder: Path, repeats: int, seed: int, report: Callable[[str], None] = print) -> pd.DataFrame:
    """`repeats` faults and two runs at once, one row each (columns: COLUMNS). Goes on where an earlier call was stopped.

    folder: where the copy of the project and the disturbed runs lie meanwhile; named after the code, removed at the end.
    BadInput when the run does not even finish undisturbed.
    """
    root = project_root()
    code = files_digest([*(root / "src").rglob("*.py"), *(root / "notebooks").rglob("*.*")], root)
    place = folder / f"work-{code[:12]}"
    for other in folder.glob("work-*"):
        if other != place:
            shutil.rmtree(other)
    place.mkdir(parents=True, exist_ok=True)
    lab = Laboratory(place)
    lab.undisturbed()
    rows = []
    chosen = faults(repeats, seed)
    for k, fault in enumerate([*chosen, None], 1):
        name = "two" if fault is None else f"{seed}-{fault.number}"
        kept = place / f"row-{name}.json"
        if not kept.is_file():
            project = place / "disturbed"
            if fault is not None and fault.kind == "disk full" and not _is_root():
                row = asdict(fault) | {"where": "not possible here: needs the right to mount a disk"}
                row = {name: row.get(name, "") for name in COLUMNS} | {"fault": fault.kind, "during": fault.stage}
            else:
                row = two_at_once(lab, project) if fault is None else try_fault(lab, fault, project)
            atomic_write_text(kept, json.dumps(row))
        row = json.loads(kept.read_text(encoding="utf-8"))
        rows.append(row)
        report(
            f"{k:>2}/{len(chosen) + 1}  {row['fault']}, {row['during']}: {row['results']}, {row['done again']} done again"
        )
    shutil.rmtree(place)
    return pd.DataFrame(rows, columns=COLUMNS)
