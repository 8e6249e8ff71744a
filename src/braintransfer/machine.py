"""How this machine computes: device, precision, memory format and threads, measured once a run and read ever after."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import platform
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from braintransfer.errors import BadInput
from braintransfer.provenance import atomic_write_text, sealed

FILE = "machine.json"
#: The expected choice stands unless another one is faster by this factor: noise must not change a run's numbers.
CLEARLY_FASTER = 1.15
#: A way whose first step takes this many times the best one's is not timed further.
HOPELESS = 3.0


@dataclass(frozen=True)
class Machine:
    """device: "cpu" or "cuda". precision: "fp32" or "bf16" (autocast).

    channels_last: memory format of network and input. threads: CPU threads of one process.
    """

    device: str = "cpu"
    precision: str = "fp32"
    channels_last: bool = False
    threads: int = 1

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which a network runs forward."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def place(self, network: nn.Module) -> nn.Module:
        """`network` on the device, in the memory format."""
        network = network.to(self.device)
        return network.to(memory_format=torch.channels_last) if self.channels_last else network  # type: ignore[call-overload]

    def arrange(self, batch: torch.Tensor) -> torch.Tensor:
        """A batch (B, C, H, W) on the device, in the memory format."""
        batch = batch.to(self.device, non_blocking=True)
        return batch.contiguous(memory_format=torch.channels_last) if self.channels_last else batch


def keep_memory() -> None:
    """Let this process keep the memory that a training step frees, for the next step to take (glibc only).

    By default every large block goes back to the system and is faulted in again page by page: 4,000 to 12,000 faults and
    about a tenth of the time of a step on a CPU. Peak memory is the same.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # another system, another allocator
    mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, the most that it takes
    mallopt(-1, 512 * 2**20)  # M_TRIM_THRESHOLD


def describe_device() -> str:
    """What networks would be trained on here, for a person to read."""
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return f"cuda ({torch.cuda.get_device_name(0)}, {memory:.0f} GB)"
    return f"cpu ({platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"


def optimiser(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW as every stage uses it. Fused: 6 ms a step on a CPU where the usual one takes 20."""
    return torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)


def measure(
    encoder: str, batch: int = 8, crop: int = 64, threads: int | None = None
) -> tuple[Machine, dict[str, float]]:
    """Time training steps of the study's network in each precision and memory format: the choice, and images/s of each.

    A few seconds (at most about 15). On a CPU fp32 with channels_last is expected to win, on a GPU bf16 with
    channels_last; the expected way stays unless another one is 15 % faster.
    """
    keep_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    expected = "bf16" if device == "cuda" else "fp32"
    precisions = (expected, "fp32" if expected == "bf16" else "bf16")
    ways = [Machine(device, p, last, threads) for p in precisions for last in (True, False)]
    best: dict[Machine, float] = {}
    steps = {}
    for way in ways:
        if way.precision != expected and not way.channels_last and ways[ways.index(way) - 1] not in steps:
            continue  # bf16 was hopeless already: a CPU without bf16 instructions emulates it
        step = _training_step(way, encoder, batch, crop)
        first = min(_seconds(step, way), _seconds(step, way)) if way.precision == expected else _seconds(step, way)
        if best and first > HOPELESS * min(best.values()):
            best[way] = first
            continue
        best[way], steps[way] = first, step
    for _ in range(5):  # in turns, so that a busy moment hits all alike
        for way, step in steps.items():
            best[way] = min(best[way], _seconds(step, way))
    winner = min(best, key=lambda way: best[way])
    choice = winner if best[ways[0]] > CLEARLY_FASTER * best[winner] else ways[0]
    return choice, {_name(way): round(batch / seconds, 1) for way, seconds in best.items()}


def _name(way: Machine) -> str:
    return f"{way.precision}{' channels_last' if way.channels_last else ''}"


def _training_step(way: Machine, encoder: str, batch: int, crop: int) -> Any:
    from braintransfer.network import build_unet

    network = way.place(build_unet(encoder, 2, 0)).train()
    inputs = way.arrange(torch.zeros(batch, 3, crop, crop))
    truth = torch.zeros(batch, crop, crop, dtype=torch.long, device=way.device)
    adam = optimiser(network, 1e-4, 0.0)

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        with way.autocast():
            logits = network(inputs)
        functional.cross_entropy(logits.float(), truth).backward()
        adam.step()

    return step


def _seconds(step: Any, way: Machine) -> float:
    if way.device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if way.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def load_or_measure(run: Path, *, encoder: str = "tf_efficientnet_lite0", threads: int | None = None) -> Machine:
    """How the run in folder `run` computes: read from its machine.json, or measured now and written there atomically.

    From here on this process uses that many threads, as equal results need an equal number, and keeps freed memory
    (`keep_memory`). BadInput when machine.json
    is torn, or names a GPU that is not there.
    """
    path = run / FILE
    if not path.is_file():
        machine, rates = measure(encoder, threads=threads)
        facts = {
            "encoder": encoder,
            "images_per_second": rates,
            "torch": torch.__version__,
            "measured_on": describe_device(),
        }
        if not path.is_file():  # another stage may have been quicker: then its choice counts
            atomic_write_text(path, sealed({**dataclasses.asdict(machine), **facts}))
    machine = _read(path)
    keep_memory()
    torch.set_num_threads(machine.threads)
    return machine


def _read(path: Path) -> Machine:
    again = "delete it, and the next stage measures again"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        machine = Machine(**{field.name: values[field.name] for field in dataclasses.fields(Machine)})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{path}: not readable ({type(error).__name__}); {again}") from None
    good = machine.device in ("cpu", "cuda") and machine.precision in ("fp32", "bf16")
    good = good and type(machine.threads) is int and machine.threads >= 1 and type(machine.channels_last) is bool
    if not good:
        raise BadInput(f"{path}: device, precision, channels_last or threads is not a possible one; {again}")
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"{path}: begun on a GPU, and there is none here; go on where there is one, or {again}")
    return machine
