"""Executing a notebook, with an eye on its kernel: one that waits for a cell it never got is ended, and the notebook begun again."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import papermill
import psutil
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

PATIENCE = 120.0
"""Seconds for which a kernel may be idle, by its own word and by its processor time, before its next cell counts as lost."""

TRIES = 3
"""How often a notebook is begun before its kernels are given up."""


LONGEST_DOOR = 80
"""Characters of a folder's path for sockets in it; a system takes 104 to 108 for the whole."""


class LostCell(RuntimeError):
    """A kernel stood idle although a cell had been sent to it, or its answer was lost on the way."""


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client, which otherwise waits for ever where a message between it and the kernel gets lost.

    A kernel says when it begins and ends a cell. Where it has ended one (or begun none) for `PATIENCE` seconds and neither it nor
    its children compute, nothing can come any more. A cell that waits for something, a download say, has been begun, and may wait.
    """

    doors: Path | None = None
    """A folder of this kernel's own, for the sockets on which it is spoken to."""

    _idle_since: float | None = None
    lost = False

    def create_kernel_manager(self) -> Any:
        """Let the kernel listen on files, where the system has such sockets.

        Otherwise jupyter_client looks for free ports, lets them go, and hopes that the kernel still finds them free. Where two
        stages begin at one time, one kernel may stand at the other's door: it dies, or waits for cells that go elsewhere.
        """
        manager = super().create_kernel_manager()
        if os.name == "posix" and self.doors is not None and len(str(self.doors)) < LONGEST_DOOR:
            manager.transport = "ipc"
            manager.connection_file = str(self.doors / "kernel.json")
        return manager

    def process_message(self, msg: dict[str, Any], *rest: Any, **more: Any) -> Any:
        if msg["msg_type"] == "status":
            self._idle_since = None if msg["content"]["execution_state"] == "busy" else time.monotonic()
        return super().process_message(msg, *rest, **more)

    def execute(self, **more: Any) -> Any:
        self._over = threading.Event()
        try:
            return super().execute(**more)
        except RuntimeError as error:  # nbclient finds the kernel dead
            if self.lost:
                raise LostCell(f"the kernel stood idle for {PATIENCE:.0f} s with a cell to do") from error
            raise
        finally:
            self._over.set()

    def papermill_execute_cells(self) -> None:
        self._idle_since = time.monotonic()
        threading.Thread(target=self._watch, args=(self.km.provisioner.pid,), daemon=True).start()
        super().papermill_execute_cells()

    def _watch(self, pid: int) -> None:
        """End the kernel when it is lost; its client then finds it dead within a second."""
        since, computed, looked = self._idle_since, _computed(pid), time.monotonic()
        while not self._over.wait(PATIENCE / 10):
            now, so_far = self._idle_since, _computed(pid)
            if now is None or now != since or so_far - computed > PATIENCE / 100:
                since, computed, looked = now, so_far, time.monotonic()  # at work
            elif time.monotonic() - looked > PATIENCE:
                self.lost = True
                with contextlib.suppress(psutil.Error):
                    psutil.Process(pid).kill()
                return


def _computed(pid: int) -> float:
    """Processor seconds of a process and its children until now; 0 where it is gone."""
    found = 0.0
    with contextlib.suppress(psutil.Error):
        kernel = psutil.Process(pid)
        for process in [kernel, *kernel.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                found += times.user + times.system
    return found


class Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine with the client above. A kernel is ended at once when all is written: in good order it takes 2 s."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **settings: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
            client = Client(
                nb_man,
                kernel_name=kernel_name,
                startup_timeout=settings.get("start_timeout", 60),
                stdout_file=settings.get("stdout_file"),
                shutdown_kernel="immediate",
            )
            client.doors = Path(folder)
            client.execute()


papermill_engines.register("watched", Engine)


def execute(notebook: Path, output: Path, parameters: Mapping[str, Any], cwd: Path, *, aloud: bool = False) -> None:
    """Execute a notebook with papermill into `output`; parameters: papermill's; cwd: where its cells run.

    aloud: what it prints is shown while it runs. After a lost cell it is begun again, which costs little where a stage keeps its
    finished rows; that is told on stderr. papermill's error where a cell fails; `LostCell` when `TRIES` kernels were lost, in a
    line for people.
    """
    for left in reversed(range(TRIES)):
        try:
            papermill.execute_notebook(
                notebook,
                output,
                parameters=parameters,
                cwd=cwd,
                engine_name="watched",
                progress_bar=False,
                log_output=False,
                stdout_file=sys.stdout if aloud else None,
            )
            return
        except LostCell as lost:
            if not left:
                raise LostCell(
                    f"{notebook.name}: {lost}, {TRIES} times; repeat the command, with fewer --jobs"
                ) from lost
            print(f"{notebook.name}: {lost}; begun again", file=sys.stderr)
