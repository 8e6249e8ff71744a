"""A SLURM of one node on this machine, set up in a folder and taken down again."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

#: What has to be installed (Debian: slurmctld slurmd slurm-client munge).
NEEDED = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo", "munged")

CONFIGURATION = """ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
MinJobAge=120
KillWait=2
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 Gres=gpu:2
PartitionName=cpu Nodes={host} Default=YES State=UP MaxTime=INFINITE
PartitionName=gpu Nodes={host} State=UP MaxTime=INFINITE
"""


def _sbin(name: str) -> str:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or ""


def missing() -> list[str]:
    return [name for name in NEEDED if not _sbin(name)]


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Slurm:
    """Its daemons run in the foreground as children of this process; `stop` ends just these, by their own ids."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        host = socket.gethostname().split(".")[0]
        values = {"host": host, "ports": _free_ports(2), "user": getpass.getuser(), "folder": folder}
        (folder / "slurm.conf").write_text(CONFIGURATION.format(**values), encoding="utf-8")
        # two devices that exist and are nothing: SLURM hands them out, and no network finds a GPU there
        (folder / "gres.conf").write_text("Name=gpu File=/dev/tty[0-1]\n", encoding="utf-8")
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        # the plugin takes SLURM's variables from a job before it calls srun, which then looks in /etc
        srun = folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {_sbin("srun")} "$@"\n', encoding="utf-8")
        srun.chmod(0o755)
        path = f"{srun.parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        munge = [f"--{name}={self.folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "log-file")]
        munge += [
            f"--key-file={self.folder}/munge.key",
            f"--seed-file={self.folder}/munge.seed",
            "--force",
            "--foreground",
        ]
        self._begin(_sbin("munged"), *munge)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._begin(_sbin("slurmctld"), "-D", "-i")
        self._begin(_sbin("slurmd"), "-D")
        self._wait(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), "the node")

    def _begin(self, *command: str) -> None:
        log = (self.folder / f"{Path(command[0]).name}.out").open("wb")
        environment = {**os.environ, **self.environment}
        self.daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))

    def _wait(self, ready, what: str) -> None:
        deadline = time.time() + 120
        while not ready():
            ended = [d.args[0] for d in self.daemons if d.poll() is not None]  # type: ignore[index]
            assert not ended and time.time() < deadline, f"{what} did not start ({ended}); logs in {self.folder}"
            time.sleep(0.5)

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **self.environment})
        return done.stdout

    def jobs(self) -> list[str]:
        """Ids of what waits or runs."""
        return self.ask("squeue", "-h", "-o", "%i").split()

    def stop(self) -> None:
        if self.jobs():
            self.ask("scancel", *self.jobs())
            deadline = time.time() + 60
            while self.jobs() and time.time() < deadline:
                time.sleep(0.5)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
