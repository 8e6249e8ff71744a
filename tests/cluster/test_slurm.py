"""The study on a real SLURM of one node. Takes some 20 minutes, so only where asked: BRAINTRANSFER_SLURM=1."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from projects import door, make_project
from slurm import Slurm, missing

FEW = "stroke:scratch,stroke:mri-segmentation"

if not os.environ.get("BRAINTRANSFER_SLURM"):
    pytest.skip("BRAINTRANSFER_SLURM=1 sets up a SLURM here and runs these", allow_module_level=True)
pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}"),
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake_executor_plugin_slurm") is None, reason='pip install -e ".[slurm]"'
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    before = dict(os.environ)
    try:
        slurm.start()
        os.environ |= slurm.environment
        os.environ["BRAINTRANSFER_CHECKPOINT_SECONDS"] = "3"
        yield slurm
    finally:
        slurm.stop()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cut of the tiny study, run on this machine."""
    folder = make_project(tmp_path_factory.mktemp("here"))
    done = door(folder, "run", "--profile", "tiny", "--jobs", "1", "--only", FEW)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def project_for_cluster(folder: Path, measured: Path, **pretrain: object) -> Path:
    """A project whose profile fits the one node; it takes the other run's measured precision and memory layout."""
    project = make_project(folder)
    path = project / "notebooks" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    profile["default-resources"] |= {"cpus_per_task": 1, "mem_mb": 1000}
    profile["set-resources"]["pretrain"] |= {"mem_mb": 1000, **pretrain}
    profile["set-resources"]["finetune"]["mem_mb"] = 1000
    profile |= {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 5, "latency-wait": 10}
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")
    (project / "runs" / measured.name).mkdir(parents=True)
    shutil.copy(measured / "machine.json", project / "runs" / measured.name / "machine.json")
    return project


def same_results(one: Path, other: Path) -> None:
    for name in ("results.csv", "all.csv.gz"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_the_cluster_gives_the_same_results_as_this_machine(cluster: Slurm, here: Path, tmp_path: Path) -> None:
    run = here / "runs" / "tiny"
    project = project_for_cluster(tmp_path / "project", run)
    done = door(project, "run", "--profile", "tiny", "--only", FEW, "--slurm", timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    same_results(project / "runs" / "tiny", run)
    log = (project / "runs" / "tiny" / "snakemake.log").read_text(encoding="utf-8")
    assert log.count("has been submitted with SLURM jobid") == 7, "every stage is a job of the cluster"
    assert not cluster.jobs()


def hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests that a shell runs in the background begin with it ignored


@pytest.mark.parametrize("how", ["Ctrl-C", "kill -9 of the door"])
def test_cancelling_leaves_no_job_and_the_same_command_finishes(
    cluster: Slurm, here: Path, tmp_path: Path, how: str
) -> None:
    run = here / "runs" / "tiny"
    project = project_for_cluster(tmp_path / "project", run)
    command = [sys.executable, "-m", "braintransfer.cli", "run", "--profile", "tiny", "--only", FEW, "--slurm"]
    driver = subprocess.Popen(command, cwd=project, start_new_session=True, preexec_fn=hear_interrupts)
    wait_for(lambda: bool(list((project / "runs").glob("tiny/sources/**/.running"))), driver)
    if how == "Ctrl-C":
        os.killpg(driver.pid, signal.SIGINT)
    else:
        driver.kill()
    driver.wait(300)
    wait_for(lambda: not cluster.jobs())
    assert not list((project / "runs").glob("tiny/compare/manifest.json"))
    done = door(project, *command[3:], timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    same_results(project / "runs" / "tiny", run)


@pytest.mark.parametrize("end", ["killed", "out of time"])
def test_a_job_that_ends_early_is_sent_again_and_goes_on_from_its_checkpoint(
    cluster: Slurm, slow_here: Path, tmp_path: Path, end: str
) -> None:
    run = slow_here / "runs" / "slow"
    limit = {"runtime": "1 if attempt == 1 else 30"} if end == "out of time" else {}
    project = project_for_cluster(tmp_path / "project", run, **limit)
    shutil.copy(slow_here / "slow.yaml", project / "slow.yaml")
    # what comes before is the same: only the pre-training is of interest
    shutil.copytree(run / "data", project / "runs" / "slow" / "data")
    command = [sys.executable, "-m", "braintransfer.cli", "run", "--profile", "slow.yaml", "--only", SLOW, "--slurm"]
    driver = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    source = project / "runs" / "slow" / "sources" / "main" / "mri-segmentation"
    if end == "killed":
        wait_for(lambda: (source / "seed-0" / "training.safetensors").is_file(), driver)
        (job,) = cluster.ask("squeue", "-h", "-p", "gpu", "-o", "%i").split()
        cluster.ask("scancel", "--signal=KILL", "--full", job)
    said, _ = driver.communicate(timeout=3000)
    log = (project / "runs" / "slow" / "snakemake.log").read_text(encoding="utf-8")
    assert driver.returncode == 0, said + log[-3000:]
    assert ("TIMEOUT" if end == "out of time" else "CANCELLED") in log
    notebook = (source / "pretrain_segmentation.ipynb").read_text(encoding="utf-8")
    assert "goes on after step" in notebook, "the second attempt began anew"
    same_results(project / "runs" / "slow", run)


SLOW = "stroke:mri-segmentation"


@pytest.fixture(scope="module")
def slow_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny study whose pre-training takes minutes, as SLURM counts time limits in those, on this machine."""
    folder = make_project(tmp_path_factory.mktemp("slow"))
    text = (folder / "notebooks" / "profiles" / "tiny.yaml").read_text(encoding="utf-8")
    changed = text.replace("pretrain: {steps: 2, batch: 4", "pretrain: {steps: 2500, batch: 4")
    assert changed != text
    (folder / "slow.yaml").write_text(changed, encoding="utf-8")
    done = door(folder, "run", "--profile", "slow.yaml", "--jobs", "1", "--only", SLOW)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def wait_for(what: Callable[[], bool], driver: subprocess.Popen[str] | subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.time() + 900
    while not what():
        assert driver is None or driver.poll() is None, "the run ended too early"
        assert time.time() < deadline, "waited for a quarter of an hour"
        time.sleep(0.2)
