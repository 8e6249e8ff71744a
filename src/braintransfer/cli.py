"""The door: `braintransfer run | status | verify | book | doctor | data | predict`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout

from braintransfer import plan, study
from braintransfer.errors import BadInput
from braintransfer.provenance import (
    MANIFEST,
    atomic_write_text,
    broken_output,
    content_digest,
    in_project,
    project_root,
    read_manifest,
    sha256_file,
)
from braintransfer.settings import PROOFS, Profile, profile_names, read_profile

ERROR_FILE = "error.txt"
RUNNING_FILE = ".running"
#: Seconds a stage takes until this run has measured one of its kind; only for the "to go" of the progress line.
FIRST_GUESS = {"prepare": 20.0, "audit": 15.0, "pretrain": 60.0, "finetune": 45.0, "compare": 60.0}


class Door(click.Group):
    """Every BadInput leaves as one line on stderr and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BadInput as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except OSError as error:
            if error.errno == 28:
                click.echo(
                    f"error: no space left for {error.filename or 'the run'}; free some and repeat the command",
                    err=True,
                )
                ctx.exit(2)
            raise


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


def die_with_parent() -> None:
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
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# ------------------------------------------------------------------------------------------------------------------ run
@main.command()
@click.option("--profile", default="demo", show_default=True, help="a name in notebooks/profiles, or a YAML file")
@click.option("--data", default="", help="folder of data sets; not needed for built-in data")
@click.option("--jobs", default=0, help="stages at a time (default: one a core, at most 8)")
@click.option("--only", default="", help="cells TARGET:SOURCE or TARGET:SOURCE:ARM, or whole arms, instead of all")
@click.option("--dry-run", is_flag=True, help="print what would be done, and do nothing")
def run(profile: str, data: str, jobs: int, only: str, dry_run: bool) -> None:
    """Run the stages of a profile that are not done yet."""
    chosen = read_profile(profile)
    cells = plan.parse_cells(chosen, only)
    data = _check_data(chosen, data, cells)
    if jobs < 0:
        raise BadInput(f"--jobs {jobs}: give 1 or more (or leave it out: one a core)")
    jobs = jobs or max(1, min(8, os.cpu_count() or 1))
    relative = f"runs/{chosen.name}"
    folder = project_root() / relative
    every = plan.stages(chosen, relative, data, cells)
    todo = [s for s in every if not _up_to_date(folder, s)]
    click.echo(
        f"{chosen.title}: {len(every)} stages, {len(every) - len(todo)} already there; {jobs} at a time; results in {relative}"
    )
    if dry_run:
        for stage in todo:
            click.echo(f"  would {stage.title}  ->  {relative}/{stage.folder}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < 2 * 2**30:
        raise BadInput(f"less than 2 GB free at {folder}; free some space or put `runs` on another disk, then repeat")
    with _only_run(folder):
        _measure(folder, chosen.encoder, jobs)
        code = _engine(profile, relative, data, only, jobs, folder, every)
    if code == 0:
        click.echo(f"done: {relative}/results.csv; read it with `braintransfer book --profile {profile}`")
    sys.exit(code)


def _check_data(profile: Profile, data: str, cells: list[plan.Cell]) -> str:
    """Are the sets of these cells there, can they fill them, and do no two hold the same people? The folder, absolute."""
    from braintransfer import recipes

    targets = {t for t, _, _ in cells}
    # where a source's pictures come from: its domain's set, or that of a replicate
    sources = {
        (arm if arm in profile.arms and profile.arms[arm].data else study.domain_task(s)[0], s)
        for _, s, arm in cells
        if study.domain_task(s)[0]
    }
    domains = {place for place, _ in sources}

    root = in_project(data).resolve() if data else None
    if root is not None and not root.is_dir():
        raise BadInput(f"no data folder at {root}; give an existing one with --data (make: DATA=)")
    wanted = {name: d.recipe for name, d in profile.sources.items() if name in domains}
    wanted |= {name: arm.data.recipe for name, arm in profile.arms.items() if arm.data and name in domains}
    wanted |= {name: d.recipe for name, d in profile.targets.items() if name in targets}
    wanted |= {name: d.recipe for name, d in profile.showcase.items() if d.target in targets}
    for name in dict.fromkeys(wanted.values()):
        missing = recipes.missing(recipes.load_recipe(name, root), root)
        if missing:
            raise BadInput(missing)
    used = {cell: recipes.load_recipe(name, root) for cell, name in wanted.items()}
    for place, source in sorted(sources):
        used[place].must_fill(source)
    recipes.refuse_overlaps(used, root)
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
            f"measuring the machine failed: {done.stderr.strip().splitlines()[-1:] or 'no message'}; try `braintransfer doctor`"
        )
    click.echo(f"  {(folder / 'machine.json').read_text(encoding='utf-8').strip()}" if done.stdout else "")


_MEASURE = (
    "import sys; from pathlib import Path; from braintransfer.machine import load_or_measure; "
    "print(load_or_measure(Path(sys.argv[1]), encoder=sys.argv[2], threads=int(sys.argv[3])))"
)


def _engine(profile: str, relative: str, data: str, only: str, jobs: int, folder: Path, every: list[plan.Stage]) -> int:
    for stage in every:
        for name in (ERROR_FILE, RUNNING_FILE):
            (folder / stage.folder / name).unlink(missing_ok=True)
    log = folder / "snakemake.log"
    command = [
        sys.executable, "-m", "braintransfer.cli", "engine", "--", "-s", str(project_root() / "notebooks" / "Snakefile"),
        "--directory", str(project_root()), "--cores", str(jobs), "--rerun-triggers", "mtime", "params", "--rerun-incomplete",
        "--keep-going", "--nolock", "--config", f"profile={profile}", f"run={relative}", f"data={data}", f"only={only}",
    ]  # fmt: skip
    gpus = _gpus()
    if gpus:
        command += ["--resources", f"gpu={gpus}"]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=project_root())
        try:
            _show_progress(process, folder, every, jobs)
        except KeyboardInterrupt:
            process.wait()
            click.echo("\nstopped; what is done stays done: repeat the command to go on", err=True)
            return 1
    if process.returncode == 0:
        return 0
    errors = [(s, folder / s.folder / ERROR_FILE) for s in every]
    found = [(s, json.loads(p.read_text(encoding="utf-8"))) for s, p in errors if p.is_file()]
    for stage, error in found:
        click.echo(f"error: {stage.title}: {error['message']}", err=True)
    if not found:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        click.echo(f"error: the engine stopped: {' '.join(tail)} (see {log})", err=True)
    click.echo("what is done stays done: repeat the command to go on", err=True)
    return 2 if found and all(e["bad_input"] for _, e in found) else 1


def _gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([d for d in visible.split(",") if d.strip()])
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _up_to_date(folder: Path, stage: plan.Stage) -> bool:
    manifest = read_manifest(folder / stage.folder)
    return manifest is not None and manifest.get("code") == plan.code_of(stage.notebook)


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _show_progress(process: subprocess.Popen[bytes], folder: Path, every: list[plan.Stage], jobs: int) -> None:
    """One line whenever a stage is done, and one in between when nothing is for half a minute."""
    start = spoke = time.time()
    before = {s.folder: _manifest_time(folder, s) for s in every}
    announced: set[str] = set()
    seen: dict[str, list[float]] = {}
    total = len(every)

    def left() -> tuple[int, float]:
        waiting = [s for s in every if not _up_to_date(folder, s)]
        seconds = 0.0
        for stage in waiting:
            kind = stage.name.split("_")[0]
            took = seen.get(kind)
            guess = sum(took) / len(took) if took else FIRST_GUESS[kind]
            marker = folder / stage.folder / RUNNING_FILE
            with contextlib.suppress(OSError):
                guess = max(guess - (time.time() - marker.stat().st_mtime), 5.0)
            seconds += guess
        return len(waiting), seconds / min(jobs, max(len(waiting), 1))

    while True:
        ended = process.poll() is not None
        for stage in every:
            now = _manifest_time(folder, stage)
            if now is None or now == before[stage.folder] or stage.folder in announced:
                continue
            announced.add(stage.folder)
            manifest = read_manifest(folder / stage.folder) or {}
            took = float(manifest.get("wall_seconds") or manifest.get("seconds") or 0)
            seen.setdefault(stage.name.split("_")[0], []).append(took)
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
    die_with_parent()
    from snakemake.cli import main as snakemake

    snakemake(list(arguments))


@main.command(hidden=True)
@click.option("--profile", required=True)
@click.option("--run", "relative", required=True)
@click.option("--data", default="")
@click.option("--only", default="")
@click.argument("folder")
def stage(profile: str, relative: str, data: str, only: str, folder: str) -> None:
    """Execute one stage's notebook with papermill; done means that it wrote its manifest."""
    die_with_parent()
    chosen = read_profile(profile)
    every = plan.stages(chosen, relative, data, plan.parse_cells(chosen, only))
    found = [s for s in every if s.folder == folder]
    if not found:
        raise BadInput(f"profile {profile} has no stage {folder}; see `braintransfer status --profile {profile}`")
    sys.exit(execute(found[0], in_project(relative)))


def execute(stage: plan.Stage, run: Path) -> int:
    """Run a stage's notebook into its folder. 0 done, 2 bad input, 1 anything else; the reason goes to error.txt."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    folder = run / stage.folder
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{stage.name}.ipynb"
    part = folder / f"{stage.name}.ipynb.part"
    (folder / RUNNING_FILE).write_text(str(os.getpid()), encoding="utf-8")
    with contextlib.suppress(OSError, ValueError, KeyError):
        threads = str(json.loads((run / "machine.json").read_text(encoding="utf-8"))["threads"])
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = threads
    message, bad_input = "", False
    try:
        # papermill chooses a file format by the name's ending; it writes in place after every cell, so: a part, then rename
        working = part.with_name(part.name + ".ipynb")
        papermill.execute_notebook(
            stage.notebook,
            working,
            parameters=stage.parameters,
            cwd=project_root(),
            progress_bar=False,
            log_output=False,
        )
        if read_manifest(folder) is None:
            raise RuntimeError(f"the notebook ended without a manifest; look at {working}")
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
        click.echo(f"error: {stage.title}: {message}", err=True)
        return 2 if bad_input else 1
    return 0


# --------------------------------------------------------------------------------------------------------------- others
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
def verify(run_name: str) -> None:
    """Recompute every hash of a run, from results back to inputs, and name the first link that does not hold."""
    folder = _run_folder(run_name)
    manifests = sorted(folder.rglob(MANIFEST), key=lambda p: (p.parts[len(folder.parts)] != "compare", p.as_posix()))
    if not manifests:
        raise BadInput(f"{folder} holds no finished stage; run it first")
    for path in manifests:
        problem = _broken_link(folder, path.parent)
        if problem:
            click.echo(f"broken: {problem}", err=True)
            sys.exit(1)
    click.echo(f"{len(manifests)} stages and rows hold, from results back to inputs")


def _broken_link(run: Path, folder: Path) -> str | None:
    manifest = read_manifest(folder)
    if manifest is None:
        return f"{folder / MANIFEST} is torn"
    problem = broken_output(folder, manifest)
    if problem:
        return problem
    parameters = manifest["parameters"]
    for name, recorded in manifest["inputs"].items():
        now = None
        if name == "store":
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
                / (parameters["arm"] if study.arm(parameters["arm"]).pretrains else "main")
                / parameters["source"]
                / f"seed-{parameters['seed']}"
                / "encoder.safetensors"
            )
            now = sha256_file(encoder) if encoder.is_file() else "missing"
        elif name.startswith(("fold-", "seed-")):
            now = (read_manifest(folder / name) or {}).get("key", "missing")
        elif ":" in name and manifest["stage"] == "compare":
            target, source, arm = (*name.split(":"), "main")[:3]
            now = (read_manifest(run / "targets" / arm / target / source) or {}).get("key", "missing")
        if now is not None and now != recorded:
            return f"{folder / MANIFEST} was made from another '{name}' than the run now holds"
    return None


@main.command()
@click.option("--profile", default=None, help="the run to show beside the reference results (default: the newest)")
def book(profile: str | None) -> None:
    """Build the book at _build/html/index.html from prose, reference results and finished runs."""
    from braintransfer.book import BuildFailed, build

    if profile and profile.endswith((".yaml", ".yml")):
        profile = read_profile(profile).name
    try:
        page = build(project_root(), profile)
    except BuildFailed as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo(f"the book: {page}")


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
        code = max(code, execute(plan.Stage(stage, name, f"prove {name}", parameters, ()), run))
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
    click.echo(f"{len(rows)} recipes, {there} with their files here; see `braintransfer data get NAME` for the others")


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
    if recipe.kind != "simulated" and root is not None and not recipes.missing(recipe, root):
        target = Path(page) if page else project_root() / "runs" / "quality" / f"{recipe.name}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        click.echo(f"to look at: {recipes.write_quality_page(recipe, root, target, sentences, rows)}")
    if sentences:
        raise BadInput(f"{name}: {len(sentences)} thing(s) to mend, listed above")
    click.echo(f"{name}: all there, readable and in agreement")


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


@main.command()
@click.argument("run_name", metavar="RUN")
@click.argument("scans", metavar="SCAN...", nargs=-1, required=True)
@click.option("--source", default="imagenet", show_default=True, help="where the encoder learned")
@click.option("--target", required=True, help="what to find: stroke, ms or anatomy")
@click.option("--out", default="", help="folder for the masks (default: beside each scan)")
def predict(run_name: str, scans: tuple[str, ...], source: str, target: str, out: str) -> None:
    """Masks for your own skull-stripped T1 scans, each in its scan's own grid. Not for clinical use."""
    from braintransfer.predict import predict_scan, read_network

    for value, allowed, option in ((source, study.SOURCES, "--source"), (target, study.TARGETS, "--target")):
        if value not in allowed:
            raise BadInput(f"{option} {value}: must be one of {', '.join(allowed)}")
    network = read_network(_run_folder(run_name), source, target)
    for scan in scans:
        path = Path(scan)
        place = Path(out) if out else path.parent
        place.mkdir(parents=True, exist_ok=True)
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        mask = place / f"{stem}_{target}_{source}.nii.gz"
        found = predict_scan(network, path, mask)
        click.echo(f"{mask}: {', '.join(f'{name} {ml:.1f} mL' for name, ml in found.items())}")
    click.echo("not for clinical use")


if __name__ == "__main__":
    main()
