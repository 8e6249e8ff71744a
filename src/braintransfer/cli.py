"""The door: `braintransfer run | status | verify | book | course | doctor | data | predict`."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout

from braintransfer import cost, devices, plan, study
from braintransfer.errors import BadInput
from braintransfer.provenance import (
    LEFT,
    MANIFEST,
    WHERE,
    atomic_write_text,
    broken_output,
    broken_seal,
    content_digest,
    digest,
    files_digest,
    in_project,
    project_root,
    read_manifest,
    scrubbed,
    sealed,
    sha256_file,
)
from braintransfer.settings import (
    PROOFS,
    RUN_PROFILE,
    Profile,
    profile_file,
    profile_names,
    read_parameters,
    read_profile,
)
from braintransfer.untrusted import read_yaml

ERROR_FILE = "error.txt"
RUNNING_FILE = ".running"
#: What a stage's notebook is called after the stage's name while it runs, and after it failed.
PART = ".ipynb.part.ipynb"
#: Snakemake's profile for a cluster.
SLURM = "notebooks/slurm"


class Door(click.Group):
    """Every BadInput leaves as one line on stderr and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BadInput as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except BrokenPipeError:
            raise  # who read along has seen enough (`| head`); click ends quietly
        except OSError as error:
            what = str(error.filename or "the run")
            said = f"no space left for {what}; free some" if error.errno == errno.ENOSPC else ""
            said = said or f"{what}: {error.strerror or error}; mend that"
            click.echo(f"error: {BadInput(said)}, then repeat the command", err=True)
            ctx.exit(2)


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Re-run the study: where should a network learn before it is asked to segment brain MRI?"""


def _run_folder(name: str) -> Path:
    """A run by its name or path."""
    path = Path(name)
    if not path.is_dir():
        path = project_root() / "runs" / name
    if not path.is_dir():
        raise BadInput(f"no run at {name}; start one with `braintransfer run --profile {name}`")
    return path


def die_with_parent(end: Callable[[], None] = lambda: os._exit(1)) -> None:
    """End this process when the one that started it is gone, so that nothing writes behind a rerun's back."""
    parent = os.getppid()

    def gone() -> bool:
        if os.name == "posix":
            return os.getppid() != parent
        import psutil

        return not psutil.pid_exists(parent)

    def watch() -> None:
        while not gone():
            time.sleep(0.5)
        end()

    threading.Thread(target=watch, daemon=True).start()


# ------------------------------------------------------------------------------------------------------------------ run
@main.command()
@click.option("--profile", default="demo", show_default=True, help="a name in notebooks/profiles, or a YAML file")
@click.option("--data", default="", help="folder of data sets; not needed for built-in data")
@click.option("--jobs", default=0, help="stages at a time (default: one a core, at most 8; on a cluster its profile's)")
@click.option("--only", default="", help="cells TARGET:SOURCE[:ARM] or whole arms instead of all, or just: data")
@click.option("--per-device", default=1, show_default=True, help="stages that may share a GPU")
@click.option("--spread", default=1, show_default=True, help="GPUs (or processes, without) for one pre-training")
@click.option("--slurm", is_flag=True, help="send the stages to a cluster, as notebooks/slurm/config.yaml says")
@click.option("--dry-run", is_flag=True, help="print what would be done, and do nothing")
def run(
    profile: str, data: str, jobs: int, only: str, per_device: int, spread: int, slurm: bool, dry_run: bool
) -> None:
    """Run the stages of a profile that are not done yet."""
    chosen = read_profile(profile)
    if profile.endswith((".yaml", ".yml")):
        profile = str(Path(profile).resolve())  # the engine works in the project's folder, not in this one
    cells = plan.cells_of(chosen) if only == plan.DATA else plan.parse_cells(chosen, only)
    data = _check_data(chosen, data, cells)
    if jobs < 0:
        raise BadInput(f"--jobs {jobs}: give 1 or more (or leave it out: one a core)")
    for value, option in ((per_device, "--per-device"), (spread, "--spread")):
        if value < 1:
            raise BadInput(f"{option} {value}: give 1 or more")
    jobs = jobs or (
        int(read_yaml(project_root() / SLURM / "config.yaml").get("jobs", 16))
        if slurm
        else max(1, min(8, os.cpu_count() or 1))
    )
    relative = f"runs/{chosen.name}"
    folder = project_root() / relative
    every = plan.asked(chosen, relative, data, only)
    if dry_run:
        left = _say_what_is_left(chosen, folder, every, jobs, dry_run)
        rate = cost.measured_rate(folder)
        planned = cost.estimate(chosen, left, rate)
        for stage, seconds in zip(left, planned["seconds"], strict=True):
            click.echo(f"  would {stage.title}  ->  {relative}/{stage.folder}  (about {_clock(seconds)})")
        if left:
            click.echo(cost.in_words(planned, jobs, rate, (folder / "machine.json").is_file()))
        return
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < 2 * 2**30:
        raise BadInput(f"less than 2 GB free at {folder}; free some space or put `runs` on another disk, then repeat")
    with _only_run(folder):
        atomic_write_text(folder / RUN_PROFILE, profile_file(profile).read_text(encoding="utf-8"))
        _say_what_is_left(chosen, folder, every, jobs, dry_run)
        if not slurm:  # there, the first stage measures the node that it is given
            _measure(folder, chosen.encoder, jobs)
        planned = cost.estimate(chosen, every, cost.measured_rate(folder))
        guesses = dict(zip(planned["folder"], planned["seconds"], strict=True))
        where = _on_cluster(jobs, spread) if slurm else _here(jobs, per_device, spread)
        code = _engine(profile, relative, data, only, jobs, folder, every, guesses, where)
    if code == 0:
        took = cost.cost_table(folder)["hours"].sum()
        click.echo(
            f"planned {sum(guesses.values()) / 3600:.2f} device-hours, took {took:.2f} in training, scoring and data"
        )
        if only != plan.DATA:
            click.echo(f"done: {relative}/results.csv; read it with `braintransfer book --profile {profile}`")
    sys.exit(code)


def _say_what_is_left(
    profile: Profile, folder: Path, every: list[plan.Stage], jobs: int, dry_run: bool
) -> list[plan.Stage]:
    """The stages to do, after a line that counts them and one for each finished stage that is whole no longer.

    Without `dry_run` the manifest of the latter is taken away, and with it what cannot be overwritten: so it is done again.
    """
    left = []
    for stage in every:
        harm = _harm(folder / stage.folder, stage, take_away=not dry_run)
        for sentence in harm:
            click.echo(f"not whole any more: {sentence}; {stage.title} is done again")
        if harm or not _up_to_date(folder, stage):
            left.append(stage)
            if not dry_run:  # the engine's own record of what a manifest was made from may have been lost in a kill
                (folder / stage.folder / MANIFEST).unlink(missing_ok=True)
    done = len(every) - len(left)
    click.echo(
        f"{profile.title}: {len(every)} stages, {done} already there; {jobs} at a time; results in runs/{profile.name}"
    )
    return left


def _harm(place: Path, stage: plan.Stage, take_away: bool) -> list[str]:
    """What is wrong with the finished rows of a stage and with itself, one sentence each; empty when all is whole."""
    harm = []
    for path in sorted(place.rglob(MANIFEST)):
        manifest = read_manifest(path.parent)
        broken = f"{path} is torn" if manifest is None else broken_output(path.parent, manifest)
        if broken is None and path.parent == place and (place / f"{stage.name}{PART}").is_file():
            broken = (
                f"{place / stage.name}.ipynb was cut short"  # killed after the manifest, before the last cell was shown
            )
        if broken is not None:
            harm.append(broken)
        if broken is not None and take_away:
            for output in (path.parent / name for name in (manifest or {}).get("outputs", {})):
                if place in output.parents and ".." not in output.parts and not os.access(output, os.R_OK | os.W_OK):
                    output.unlink(missing_ok=True)
            path.unlink()
    if harm and take_away:
        (place / MANIFEST).unlink(missing_ok=True)
    return harm


def _check_data(profile: Profile, data: str, cells: list[plan.Cell]) -> str:
    """Are the sets of these cells there, can they fill them, and do no two hold the same people? The folder, absolute."""
    from braintransfer import recipes

    targets = {t for t, _, _ in cells}
    # where a source's pictures come from: its domain's set, or that of a replicate
    places = {
        (t, s, arm): arm if arm in profile.arms and profile.arms[arm].data else study.domain_task(s)[0]
        for t, s, arm in cells
        if study.domain_task(s)[0]
    }
    sources = {(place, s) for (_, s, _), place in places.items()}
    domains = {place for place, _ in sources}

    root = in_project(data).resolve() if data else None
    if root is not None and not root.is_dir():
        raise BadInput(f"no data folder at {root}; give an existing one with --data (make: DATA=)")
    pictures = profile.sources | {name: arm.data for name, arm in profile.arms.items() if arm.data}
    wanted = {name: d.recipe for name, d in pictures.items() if name in domains}
    wanted |= {name: d.recipe for name, d in profile.targets.items() if name in targets}
    wanted |= {name: d.recipe for name, d in profile.showcase.items() if d.target in targets}
    forgiving = {name for part in (pictures, profile.targets) for name, d in part.items() if d.skip_bad}
    for cell, name in wanted.items():
        missing = recipes.missing(
            recipes.load_recipe(name, root), root, (lambda _: None) if cell in forgiving else None
        )
        if missing:
            raise BadInput(missing)
    used = {cell: recipes.load_recipe(name, root) for cell, name in wanted.items()}
    for place, source in sorted(sources):
        used[place].must_fill(source)
    for target in sorted(targets):
        used[target].must_mark(target, len(study.CLASSES[target]))
        recipes.refuse_too_few(target, profile.targets[target], used[target], root)
    if any(s == "imagenet" for _, s, _ in cells):
        study.imagenet_file(profile.encoder)
    recipes.refuse_overlaps(used, root)
    recipes.refuse_shared_people(sorted({(place, t) for (t, _, _), place in places.items()}), used, root)
    return str(root) if root else ""


@contextlib.contextmanager
def _only_run(folder: Path) -> Iterator[None]:
    # a driver that was killed leaves stages behind that end by themselves within seconds: wait that long
    lock = FileLock(folder / ".run.lock")
    try:
        lock.acquire(timeout=5)
    except Timeout:
        raise BadInput(f"{folder} is locked: another `braintransfer run` works on it; wait for it or stop it") from None
    try:
        yield
    finally:
        lock.release()


def _measure(folder: Path, encoder: str, jobs: int) -> None:
    if (folder / "machine.json").is_file():
        return
    click.echo("measuring this machine once (precision, memory layout) ...")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    command = [sys.executable, "-c", _MEASURE, str(folder), encoder, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BadInput(
            f"measuring the machine failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}; try `braintransfer doctor`"
        )
    click.echo(f"  {(folder / 'machine.json').read_text(encoding='utf-8').strip()}" if done.stdout else "")


_MEASURE = (
    "import sys; from pathlib import Path; from braintransfer.machine import load_or_measure; "
    "print(load_or_measure(Path(sys.argv[1]), encoder=sys.argv[2], threads=int(sys.argv[3])))"
)


def _engine(
    profile: str,
    relative: str,
    data: str,
    only: str,
    jobs: int,
    folder: Path,
    every: list[plan.Stage],
    guesses: dict[str, float],
    where: list[str],
) -> int:
    """where: the engine's arguments that say on which machines and devices (`_here`, `_on_cluster`)."""
    for stage in every:
        for name in (ERROR_FILE, RUNNING_FILE):
            (folder / stage.folder / name).unlink(missing_ok=True)
    log = folder / "snakemake.log"
    command = [
        sys.executable, "-m", "braintransfer.cli", "engine", "--", "-s", str(project_root() / "notebooks" / "Snakefile"),
        "--directory", str(project_root()), *where, "--rerun-triggers", "mtime", "params",
        # a manifest is written last and whole: where one is, the stage is done, whatever was killed around it
        "--ignore-incomplete", "--keep-going", "--nolock", "--config", f"profile={profile}", f"run={relative}",
        f"data={json.dumps(data)}", f"only={json.dumps(only)}",  # the engine reads them as YAML: a path may hold `: ` or ` #`
    ]  # fmt: skip
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=project_root())
        try:
            _show_progress(process, folder, every, jobs, guesses)
        except KeyboardInterrupt:
            process.wait()
            click.echo("\nstopped; what is done stays done: repeat the command to go on", err=True)
            return 1
    if process.returncode == 0:
        return 0
    errors = [(s, folder / s.folder / ERROR_FILE) for s in every]
    found = [(s, json.loads(p.read_text(encoding="utf-8"))) for s, p in errors if p.is_file()]
    for stage, error in found:
        click.echo(f"error: {stage.title}: {_a_line_each(error['message'])}", err=True)
    if not found:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        click.echo(f"error: the engine stopped: {' '.join(tail)} (see {log})", err=True)
    click.echo("what is done stays done: repeat the command to go on", err=True)
    return 2 if found and all(e["bad_input"] for _, e in found) else 1


def _here(jobs: int, per_device: int, spread: int) -> list[str]:
    """Arguments of the engine for this machine. The engine counts GPUs; which one a stage gets is `devices.held`'s to say."""
    os.environ["BRAINTRANSFER_PER_DEVICE"] = str(per_device)  # the stages inherit it
    places = len(devices.found()) * per_device
    spread_over = ["--set-resources", f"pretrain:gpu={spread}"] if spread > 1 else []
    return ["--cores", str(jobs), *(["--resources", f"gpu={places}"] if places else []), *spread_over]


def _on_cluster(jobs: int, spread: int) -> list[str]:
    """Arguments of the engine for a SLURM cluster. BadInput where there is none."""
    if shutil.which("sbatch") is None:
        raise BadInput("--slurm: no sbatch here; log in to the cluster, or leave the option out to run on this machine")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        raise BadInput('--slurm: its plugin is missing; python -m pip install -c constraints.txt -e ".[slurm]"')
    if spread > 1:
        raise BadInput(
            f"--spread {spread}: on a cluster, write `gpu: {spread}` below `pretrain` in {SLURM}/config.yaml"
        )
    return ["--profile", str(project_root() / SLURM), "--jobs", str(jobs)]


def _up_to_date(folder: Path, stage: plan.Stage) -> bool:
    manifest = read_manifest(folder / stage.folder)
    if manifest is None or manifest.get("code") != plan.code_of(stage.notebook):
        return False
    made_with = manifest.get("parameters", {})
    return all(made_with.get(name) == value for name, value in stage.parameters.items() if name not in WHERE)


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _show_progress(
    process: subprocess.Popen[bytes], folder: Path, every: list[plan.Stage], jobs: int, guesses: dict[str, float]
) -> None:
    """One line whenever a stage is done, and one in between when nothing is for half a minute.

    guesses: folder -> seconds that a stage was planned to take. What is left is guessed from these, times how far off they
    were for the stages of the same kind that are done, also earlier, or that have been at work for longer than planned.
    """
    start = spoke = time.time()
    before = {s.folder: _manifest_time(folder, s) for s in every}
    announced: set[str] = set()
    seen: dict[str, list[tuple[float, float]]] = {}
    total = len(every)

    def note(stage: plan.Stage) -> float:
        """Seconds that a finished stage took, which are remembered beside its guess."""
        manifest = read_manifest(folder / stage.folder) or {}
        took = float(manifest.get("wall_seconds") or manifest.get("seconds") or 0)
        if took:
            seen.setdefault(_kind(stage), []).append((took, guesses[stage.folder]))
        return took

    def left() -> tuple[int, float]:
        waiting = [s for s in every if not _up_to_date(folder, s)]
        worked = {s.folder: _age(folder / s.folder / RUNNING_FILE) for s in waiting}
        took = {kind: list(pairs) for kind, pairs in seen.items()}
        for stage in waiting:
            if worked[stage.folder] > guesses[stage.folder]:
                took.setdefault(_kind(stage), []).append((worked[stage.folder], guesses[stage.folder]))
        off = {kind: sum(t for t, _ in pairs) / sum(g for _, g in pairs) for kind, pairs in took.items()}
        seconds = sum(max(off.get(_kind(s), 1.0) * guesses[s.folder] - worked[s.folder], 5.0) for s in waiting)
        return len(waiting), seconds / min(jobs, max(len(waiting), 1))

    for stage in every:
        if _up_to_date(folder, stage):
            note(stage)

    while True:
        ended = process.poll() is not None
        for stage in every:
            now = _manifest_time(folder, stage)
            if now is None or now == before[stage.folder] or stage.folder in announced:
                continue
            announced.add(stage.folder)
            took = note(stage)
            n, to_go = left()
            ahead = f"{n} left, about {_clock(to_go)} to go" if n else f"all done after {_clock(time.time() - start)}"
            click.echo(f"[{total - n:>2}/{total}] {stage.title}: {_clock(took)} · {ahead}")
            spoke = time.time()
        if ended:
            return
        if time.time() - spoke > 30:
            running = [s.title for s in every if (folder / s.folder / RUNNING_FILE).is_file()]
            n, to_go = left()
            click.echo(f"        at work: {', '.join(running) or 'starting'} · {n} left, about {_clock(to_go)} to go")
            spoke = time.time()
        time.sleep(0.3)


def _kind(stage: plan.Stage) -> str:
    return stage.name.split("_")[0]


def _age(path: Path) -> float:
    """Seconds since the file at `path` was written; 0 where there is none."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _manifest_time(folder: Path, stage: plan.Stage) -> float | None:
    try:
        return (folder / stage.folder / MANIFEST).stat().st_mtime
    except OSError:
        return None


# ------------------------------------------------------------------------------------------- what the engine calls back
@main.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def engine(arguments: tuple[str, ...]) -> None:
    """Snakemake, ending when the door does."""
    # jobs on a cluster do not end with this process: interrupted, Snakemake cancels them
    if "--profile" in arguments:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
        die_with_parent(lambda: os.kill(os.getpid(), signal.SIGINT))
    else:
        die_with_parent()
    from snakemake.cli import main as snakemake

    snakemake(list(arguments))


@main.command(hidden=True)
@click.option("--profile", required=True)
@click.option("--run", "relative", required=True)
@click.option("--data", default="")
@click.option("--only", default="")
@click.option("--devices", "n", default=0, help="GPUs of its own; 0 takes what is there and holds none")
@click.argument("folder")
def stage(profile: str, relative: str, data: str, only: str, n: int, folder: str) -> None:
    """Execute one stage's notebook with papermill; done means that it wrote its manifest."""
    die_with_parent()
    chosen = read_profile(profile)
    every = plan.asked(chosen, relative, data, only)
    found = [s for s in every if s.folder == folder]
    if not found:
        raise BadInput(f"profile {profile} has no stage {folder}; see `braintransfer status --profile {profile}`")
    if n == 0:
        sys.exit(execute(found[0], in_project(relative)))
    with devices.held(n, int(os.environ.get("BRAINTRANSFER_PER_DEVICE", "1"))) as names:
        if names:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
        os.environ["BRAINTRANSFER_SPREAD"] = str(n)  # the notebook's kernel inherits it: `distributed.asked`
        code = execute(found[0], in_project(relative))
    sys.exit(code)


def execute(stage: plan.Stage, run: Path, *, aloud: bool = False) -> int:
    """Run a stage's notebook into its folder. 0 done, 2 bad input, 1 anything else; the reason goes to error.txt.

    aloud: what the notebook prints is shown while it runs.
    """
    from papermill.exceptions import PapermillExecutionError

    from braintransfer import kernels

    folder = run / stage.folder
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{stage.name}.ipynb"
    # papermill chooses a file format by the name's ending; it writes in place after every cell, so: a part, then rename
    working = folder / f"{stage.name}{PART}"
    (folder / RUNNING_FILE).write_text(str(os.getpid()), encoding="utf-8")
    (folder / ERROR_FILE).unlink(missing_ok=True)  # of an attempt before this one
    with contextlib.suppress(OSError, ValueError, KeyError):
        threads = str(json.loads((run / "machine.json").read_text(encoding="utf-8"))["threads"])
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = threads
    message, bad_input = "", False
    try:
        kernels.execute(stage.notebook, working, stage.parameters, project_root(), aloud=aloud)
        if read_manifest(folder) is None:
            raise RuntimeError(f"the notebook ended without a manifest; look at {working}")
        executed = scrubbed(json.loads(working.read_text(encoding="utf-8")), str(stage.parameters.get("data") or ""))
        atomic_write_text(working, sealed(executed))
        working.replace(output)
    except BadInput as error:
        message, bad_input = str(error), True
    except PapermillExecutionError as error:
        bad_input = error.ename == "BadInput"
        message = (
            " ".join(str(error.evalue).split())
            if bad_input
            else f"{error.ename}: {error.evalue} (cell {error.cell_index}, {working})"
        )
    except kernels.LostCell as error:
        message = str(error)
    except Exception as error:  # a kernel that died, a full disk: whatever it is, say it in one line
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if "kernel died" in message.lower():
            message = "its kernel died, most likely out of memory; use fewer --jobs or a smaller batch, then repeat"
        if "No space left" in message:
            message, bad_input = f"no space left at {folder}; free some and repeat the command", True
    finally:
        (folder / RUNNING_FILE).unlink(missing_ok=True)
    if message:
        with contextlib.suppress(BadInput, OSError):
            atomic_write_text(folder / ERROR_FILE, json.dumps({"message": message, "bad_input": bad_input}))
        click.echo(f"error: {stage.title}: {_a_line_each(message)}", err=True)
        return 2 if bad_input else 1
    return 0


def _a_line_each(message: str) -> str:
    """A stage's error as it is shown: where it names several bad files, each on a line of its own."""
    from braintransfer.recipes.readable import ARE_BAD, BETWEEN

    head, bad, files = message.partition(ARE_BAD)
    return f"{head}{bad.rstrip()}\n  {files.replace(BETWEEN, chr(10) + '  ')}" if bad else message


# --------------------------------------------------------------------------------------------------------------- others
@main.command()
@click.argument("run_name", metavar="RUN")
@click.argument("archive", type=click.Path(path_type=Path))
def pack(run_name: str, archive: Path) -> None:
    """Write what the trainings of RUN found to ARCHIVE (zip), small and without a scan, to go on elsewhere."""
    from braintransfer import pack as packing

    packing.pack(_run_folder(run_name), archive, click.echo)


@main.command()
@click.argument("archive", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("run_name", metavar="RUN")
def unpack(archive: Path, run_name: str) -> None:
    """Put what `pack` wrote into RUN, whose data is prepared (`run --only data`), so that `run` does the rest."""
    from braintransfer import pack as packing

    packing.unpack(archive, project_root() / "runs" / run_name, click.echo)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", default="", help="what it is called in the book (default: the run's own name)")
def keep(folder: Path, name: str) -> None:
    """Keep a finished run in the book: scores, tables, cost and cards into book/reference/NAME; no scan, no weights."""
    from braintransfer import reference

    run = in_project(str(folder))
    called = name or run.name
    if Path(called).name != called or called.startswith("."):
        raise BadInput(f"--name {called!r}: give a plain name, without slashes")
    reference.keep(run, project_root() / "book" / "reference" / called, click.echo)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("source", type=click.Choice(study.PRETRAINED_HERE))
@click.argument("to", type=click.Path(path_type=Path))
def release(folder: Path, source: str, to: Path) -> None:
    """Put a source's encoders with card, manifests and checksums into the folder TO, ready for an archive."""
    from braintransfer import reference

    click.echo(f"{reference.release(in_project(str(folder)), source, to)}: read its README.md before you upload it")


@main.command()
@click.option("--profile", default="demo", show_default=True)
def status(profile: str) -> None:
    """Which stages of a run are done, at work, failed or still to do."""
    chosen = read_profile(profile)
    folder = project_root() / "runs" / chosen.name
    counts: dict[str, int] = {}
    for stage in plan.stages(chosen, f"runs/{chosen.name}", "", plan.cells_of(chosen)):
        place = folder / stage.folder
        manifest = read_manifest(place)
        if manifest:
            state = f"done in {_clock(float(manifest.get('seconds', 0)))}"
        elif (place / RUNNING_FILE).is_file():
            state = "at work, or killed while it was"
        elif (place / ERROR_FILE).is_file():
            state = "failed: " + json.loads((place / ERROR_FILE).read_text(encoding="utf-8"))["message"]
        else:
            rows = len(list(place.glob("**/manifest.json")))
            state = f"to do ({rows} of its rows are there)" if rows else "to do"
        counts[state.split(" ")[0].strip(":,")] = counts.get(state.split(" ")[0].strip(":,"), 0) + 1
        click.echo(f"{stage.title:<50} {state}")
    click.echo(", ".join(f"{n} {state}" for state, n in counts.items()))


@main.command()
@click.argument("run_name", metavar="RUN")
@click.option("--data", "data_folder", default="", help="folder of data sets, to hash the scans too")
def verify(run_name: str, data_folder: str) -> None:
    """Recompute every hash of a run, from results back to inputs, and name the first link that does not hold."""
    folder = _run_folder(run_name)
    data = _data_root(data_folder)
    backwards = ["compare", "targets", "sources", "audit", "data"]
    manifests = sorted(
        (p for p in folder.rglob(MANIFEST) if p.relative_to(folder).parts[0] in backwards),
        key=lambda p: (backwards.index(p.relative_to(folder).parts[0]), p.as_posix()),
    )
    if not manifests:
        raise BadInput(f"{folder} holds no finished stage; run it first")
    for path in manifests:
        problem = _broken_link(folder, path.parent, data)
        if problem:
            click.echo(f"broken: {BadInput(problem)}", err=True)
            sys.exit(1)
    machine = folder / "machine.json"
    problem = broken_seal(machine) if machine.is_file() else None
    if problem:
        click.echo(f"broken: {problem}", err=True)
        sys.exit(1)
    click.echo(f"{len(manifests)} stages and rows hold, from results back to inputs")


def _broken_link(run: Path, folder: Path, data: Path | None) -> str | None:
    manifest = read_manifest(folder)
    if manifest is None:
        return f"{folder / MANIFEST} is torn"
    notebooks = [path for path in folder.glob("*.ipynb") if PART not in path.name]
    for path in (folder / MANIFEST, *notebooks):
        problem = broken_seal(path)
        if problem:
            return problem
    problem = broken_output(folder, manifest)
    if problem:
        return problem
    try:
        return _broken_input(run, folder, manifest, data)
    except (BadInput, KeyError, ValueError) as error:
        return f"{folder / MANIFEST}: {error}"


def _broken_input(run: Path, folder: Path, manifest: dict[str, Any], data: Path | None) -> str | None:
    from braintransfer import recipes

    parameters = manifest["parameters"]
    for name, recorded in manifest["inputs"].items():
        now = None
        if name in ("recipe", "files"):
            with contextlib.suppress(*(() if data else (BadInput,))):  # a recipe that lies beside the data
                recipe = recipes.load_recipe(parameters["recipe"], data)
                if name == "recipe":
                    now = digest(recipe.model_dump(mode="json"))
                elif data and recorded != "built-in":
                    unread = (lambda _: None) if parameters.get("skip_bad") else None
                    now = files_digest(recipes.input_files(recipe, data, unread), data)
        elif name == "claims":
            now = sha256_file(in_project(parameters["claims"]))
        elif name == "null_checks":
            from braintransfer.compare import null_checks

            settings = read_parameters("compare", {**parameters, "read_from": str(run), "write_to": str(run)})
            targets = dict.fromkeys(plan.cell_of(cell)[0] for cell in settings.cells)
            now = digest(null_checks(settings, list(targets)))
        elif name == "store":
            place = parameters.get("target") or parameters.get("dataset") or parameters.get("domain")
            now = content_digest(run / "data" / place)
        elif name.startswith("data/"):
            now = content_digest(run / name)
        elif name == "audit":
            now = (read_manifest(run / name) or {}).get("key", "missing")
        elif name == "showcase":
            now = content_digest(run / "data" / parameters["showcase"])
        elif name == "encoder" and recorded not in study.CONTROLS:
            encoder = (
                run
                / "sources"
                / study.encoder_arm(parameters["arm"])
                / parameters["source"]
                / f"seed-{parameters['seed']}"
                / "encoder.safetensors"
            )
            trained = read_manifest(encoder.parent) or {}
            now = "missing"
            if encoder.is_file():
                now = sha256_file(encoder)
            elif encoder.name in trained.get(LEFT, ()):  # packed elsewhere: the encoder itself stayed there
                now = trained["outputs"][encoder.name]
        elif name.startswith(("fold-", "seed-")):
            now = (read_manifest(folder / name) or {}).get("key", "missing")
        elif ":" in name and manifest["stage"] == "compare":
            target, source, arm = plan.cell_of(name)
            now = (read_manifest(run / "targets" / arm / target / source) or {}).get("key", "missing")
        if now is not None and now != recorded:
            return f"{folder / MANIFEST} was made from another '{name}' than the run now holds"
    return None


@main.command()
@click.option("--profile", default=None, help="the run to show beside the book's own (default: the newest)")
@click.option("--pdf", is_flag=True, help="print it to _build/book.pdf as well (needs Chromium)")
def book(profile: str | None, pdf: bool) -> None:
    """Build the book at _build/html/index.html from prose, the book's own run and finished ones."""
    from braintransfer.book import BuildFailed, build

    if profile and profile.endswith((".yaml", ".yml")):
        profile = read_profile(profile).name
    try:
        page = build(project_root(), profile, pdf=pdf)
    except BuildFailed as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo(f"the book: {page}")


@main.command()
@click.option(
    "--to", type=click.Path(path_type=Path), help="a new folder for the copies (default: renew those in book/course)"
)
@click.option("--instructor", is_flag=True, help="with the solutions and the grading sheet")
@click.option("--execute", is_flag=True, help="run the instructor's copies too, and note what came out (some minutes)")
def course(to: Path | None, instructor: bool, execute: bool) -> None:
    """Copies of the course's notebooks and its slides: a learner's, or with --instructor one that holds the solutions."""
    from braintransfer.course import copies, deck

    if execute and not instructor:
        raise BadInput("--execute runs the instructor's copies; give --instructor too")
    root = project_root()
    if to is None:
        if instructor:
            raise BadInput("--instructor: give a folder with --to; solutions do not belong into book/course")
        renewed = copies.renew(root)
        click.echo(f"{renewed[0].parent}: {len(renewed)} notebooks for learners, renewed")
        return
    notebooks = copies.write_copies(root, to, instructor=instructor)
    copies.write_plain(to / "slides.html", deck.deck(root))
    if instructor:
        copies.write_plain(to / "grading.csv", copies.sheet(root).to_csv(index=False, lineterminator="\n"))
    if execute:
        timing = copies.execute(notebooks, click.echo)
        for name, frame in (("timing", timing), ("expected", copies.expected(notebooks))):
            copies.write_plain(to / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    click.echo(
        f"{to}: {len(notebooks)} notebooks for {'instructors, with solutions' if instructor else 'learners'}, and slides.html"
    )


@main.command()
@click.argument("names", nargs=-1)
@click.option("--data", default="", help="folder of data sets; only `simulators` and `lesions` need it")
@click.option("--repeats", default=0, help="how much (masks, worlds ...) instead of the notebook's own number")
def prove(names: tuple[str, ...], data: str, repeats: int) -> None:
    """Prove the study's own tools again: each proof is a notebook; its table goes to runs/proof/NAME."""
    from papermill.inspection import inspect_notebook

    for name in names:
        if name not in PROOFS:
            raise BadInput(f"no proof '{name}'; there are: {', '.join(PROOFS)}")
    if repeats < 0:
        raise BadInput(f"--repeats {repeats}: give 1 or more (or leave it out)")
    run = project_root() / "runs" / "proof"
    code = 0
    for name in names or tuple(PROOFS):
        stage = f"prove_{name}"
        defaults = inspect_notebook(str(project_root() / "notebooks" / f"{stage}.ipynb"))
        given: dict[str, Any] = {"profile": "proof", "read_from": "runs/proof", "write_to": "runs/proof"}
        given |= {"data": str(in_project(data).resolve()) if data else "", "repeats": repeats or None}
        parameters = {key: value for key, value in given.items() if key in defaults and value is not None}
        click.echo(f"{PROOFS[name]} ...")
        code = max(code, execute(plan.Stage(stage, name, f"prove {name}", parameters, ()), run, aloud=True))
        if code == 0:
            click.echo(f"  runs/proof/{name}")
    sys.exit(code)


@main.command()
def doctor() -> None:
    """Look at this machine: versions, device, memory, disk, and what the study needs to find."""
    import importlib.metadata
    import platform

    import psutil

    from braintransfer import machine, transfer

    problems = []

    def line(name: str, value: str, good: bool = True) -> None:
        click.echo(f"{'ok  ' if good else 'LOOK'} {name}: {value}")
        if not good:
            problems.append(name)

    version = sys.version_info
    line("Python", platform.python_version(), (3, 11) <= version[:2] <= (3, 13))
    for package in (
        "torch",
        "torchvision",
        "timm",
        "segmentation-models-pytorch",
        "nibabel",
        "papermill",
        "snakemake",
        "jupyter-book",
    ):
        try:
            line(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            line(package, "not installed; run `make environment`", False)
    line("device", machine.describe_device())
    line("cores", str(os.cpu_count()))
    free = psutil.virtual_memory().available / 2**30
    line("memory free", f"{free:.1f} GB", free > 3)
    root = project_root()
    disk = shutil.disk_usage(root).free / 2**30
    line("disk free", f"{disk:.0f} GB at {root}", disk > 4)
    try:
        line(
            "ImageNet weights",
            f"{len(transfer.imagenet_encoder_state('tf_efficientnet_lite0'))} tensors of tf_efficientnet_lite0",
        )
    except BadInput as error:
        line("ImageNet weights", str(error), False)
    line("profiles", ", ".join(profile_names()))
    if problems:
        raise BadInput(f"look at: {', '.join(problems)}")


@main.group()
def data() -> None:
    """Data sets: what there is, what is missing, how to get it."""


def _data_root(folder: str) -> Path | None:
    root = in_project(folder).resolve() if folder else None
    if root is not None and not root.is_dir():
        raise BadInput(f"no data folder at {root}; give an existing one with --data")
    return root


@data.command("list")
@click.option("--data", "folder", default="", help="folder of data sets")
def data_list(folder: str) -> None:
    """Every recipe: is it there, how is it had, how big is it, whose is it, and which cells of the study it can fill."""
    from braintransfer import recipes

    rows = recipes.list_recipes(_data_root(folder))
    for row in rows:
        size = f", {row['size']}" if row["size"] else ""
        click.echo(f"{row['name']:<28}{row['present']}")
        use = f"for {row['cells'].replace(' ', ', ')}"
        for line in (row["title"], f"{row['access']}{size}; licence: {row['licence']}", use):
            indent = {"initial_indent": "    ", "subsequent_indent": "      "}
            click.echo(textwrap.fill(line, 100, break_on_hyphens=False, **indent))  # type: ignore[arg-type]
    there = sum(row["present"] == "present" for row in rows)
    click.echo(
        f"{len(rows)} recipes, {there} with their files here; see `braintransfer data get NAME --data DATA` for the others"
    )


@data.command("check")
@click.argument("name")
@click.option("--data", "folder", default="", help="folder of data sets")
@click.option("--page", default="", help="where the page of pictures goes (default: runs/quality/NAME.html)")
@click.option("--rows", default=60, show_default=True, help="people or pictures on the page at most")
def data_check(name: str, folder: str, page: str, rows: int) -> None:
    """Walk a data set, say what is missing, doubled, misaligned or mislabelled, and make a page to look at it by eye."""
    from braintransfer import recipes

    if rows < 1:
        raise BadInput(f"--rows {rows}: give 1 or more")
    root = _data_root(folder)
    recipe = recipes.load_recipe(name, root)
    sentences = recipes.check(recipe, root)
    for sentence in sentences:
        click.echo(sentence)
    if recipe.kind != "simulated" and root is not None and not recipes.missing(recipe, root, lambda _: None):
        target = Path(page) if page else project_root() / "runs" / "quality" / f"{recipe.name}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        click.echo(f"to look at: {recipes.write_quality_page(recipe, root, target, sentences, rows)}")
    if sentences:
        raise BadInput(f"{name}: {len(sentences)} thing(s) to mend, listed above")
    click.echo(f"{name}: all there, readable and in agreement{recipes.who_is_there(recipe, root)}")


@data.command("get")
@click.argument("name")
@click.option("--data", "folder", required=True, help="folder of data sets")
@click.option("--mirror", default="", help="folder that holds the downloads already (no network then)")
def data_get(name: str, folder: str, mirror: str) -> None:
    """Download an open data set, or say how to ask for it."""
    from braintransfer import recipes

    root = in_project(folder)
    root.mkdir(parents=True, exist_ok=True)
    recipes.get(recipes.load_recipe(name, root), root, Path(mirror) if mirror else None)


@data.command("reduce")
@click.argument("name")
@click.option("--from", "download", default="", help="folder of the public download (without: say what is known)")
@click.option("--to", "folder", default="", help="folder of data sets to write into")
def data_reduce(name: str, download: str, folder: str) -> None:
    """Make a set that the book's own run read from its public download, and say whether all files are the same."""
    from braintransfer import reductions

    record = reductions.load_reduction(name)
    if not download and not folder:
        for line in reductions.described(record):
            click.echo(textwrap.fill(line, 100, subsequent_indent="        ", break_on_hyphens=False))
        return
    if not download or not folder:
        raise BadInput("give both --from (the download) and --to (a folder of data sets)")
    source, root = in_project(download).resolve(), in_project(folder).resolve()
    if not source.is_dir():
        raise BadInput(f"no folder at {source}; give that of the download with --from")
    with click.progressbar(length=len(reductions.rows_of(record)), label=record.name) as bar:
        outcome = reductions.reduce(record, source, root, bar.update)
    for remark in outcome.remarks:
        click.echo(f"{record.name}: {remark}")
    click.echo(outcome.sentence(record.name))


@main.command()
@click.argument("run_name", metavar="RUN")
@click.argument("scans", metavar="SCAN...", nargs=-1, required=True)
@click.option("--source", default="imagenet", show_default=True, help="where the encoder learned")
@click.option("--target", required=True, help="what to find: stroke, ms or anatomy")
@click.option(
    "--brain",
    default="",
    help="where a scan's brain mask lies, as brains/{scan}.nii.gz (default: what is not 0 is brain)",
)
@click.option("--out", default="", help="folder for the masks (default: predictions, in the run's folder)")
def predict(run_name: str, scans: tuple[str, ...], source: str, target: str, brain: str, out: str) -> None:
    """Masks for your own T1 scans, each in its scan's own grid. Not for clinical use.

    The network is that of the first fold and seed: the only one that a run keeps.
    """
    from braintransfer.predict import predict_scan, read_network
    from braintransfer.recipes.files import fill

    for value, allowed, option in ((source, study.SOURCES, "--source"), (target, study.TARGETS, "--target")):
        if value not in allowed:
            raise BadInput(f"{option} {value}: must be one of {', '.join(allowed)}")
    run = _run_folder(run_name)
    network = read_network(run, source, target)
    click.echo(f"network: {network.path.relative_to(run)}, fine-tuned on {network.n_train} people")
    place = Path(out) if out else run / "predictions"
    place.mkdir(parents=True, exist_ok=True)
    paths = {Path(scan).name.removesuffix(".gz").removesuffix(".nii"): Path(scan) for scan in scans}
    if len(paths) < len(scans):
        raise BadInput(
            "two of these scans have one name, and so would their masks; call `predict` for each, with an --out of its own"
        )
    for stem, path in paths.items():
        mask = place / f"{stem}_{target}_{source}.nii.gz"
        found = predict_scan(network, path, mask, Path(fill(brain, {"scan": stem})) if brain else None)
        click.echo(f"{mask}: {', '.join(f'{name} {ml:.1f} mL' for name, ml in found.items())}")
    click.echo("not for clinical use")


if __name__ == "__main__":
    main()
