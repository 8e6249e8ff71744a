"""Which GPU a stage works on: one of its own, held by a lock file for as long as the stage runs."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from braintransfer.errors import BadInput
from braintransfer.provenance import user_name


def found() -> list[str]:
    """The GPUs that may be used here: those of CUDA_VISIBLE_DEVICES, or else all by number. Empty without any."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        # CUDA too sees nothing after the first name that is no device
        return list(itertools.takewhile(lambda n: n.isdigit() or n.startswith(("GPU-", "MIG-")), names))
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(k) for k in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]


@contextmanager
def held(n: int, per_device: int = 1) -> Iterator[list[str]]:
    """`n` different GPUs that no more than `per_device` stages of this user work on; waits until so many are free.

    The locks lie in the machine's folder for temporary files, so that two runs at once do not meet on a GPU either, and end
    with the process that holds them. Inside a SLURM job its GPUs are its own already. Empty where there is no GPU.
    """
    names = found()
    if not names or "SLURM_JOB_ID" in os.environ:
        yield names
        return
    if n > len(names):
        raise BadInput(f"one training is to be spread over {n} GPUs, but there are {len(names)} here; ask for fewer")
    folder = Path(tempfile.gettempdir()) / f"braintransfer-{user_name()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # a second stage comes to a GPU only when each has one
    places = [(name, FileLock(folder / f"gpu-{name}.{k}.lock")) for k in range(per_device) for name in names]
    taken: dict[str, FileLock] = {}
    while True:
        for name, lock in places:
            if len(taken) < n and name not in taken:
                try:
                    lock.acquire(timeout=0)
                    taken[name] = lock
                except Timeout:
                    continue
        if len(taken) == n:
            break
        # all or none: two stages that hold one each and wait for a second would wait for ever
        for lock in taken.values():
            lock.release()
        taken.clear()
        time.sleep(0.2 + 0.3 * random.random())
    try:
        yield list(taken)
    finally:
        for lock in taken.values():
            lock.release()
