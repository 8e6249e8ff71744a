"""One training over several devices of a machine: the same batches and the same result to rounding, by PyTorch's DDP."""

from __future__ import annotations

import copyreg
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braintransfer import torchvision_ops  # noqa: F401  must come before whatever imports torchvision

# isort: split
import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch import distributed as torch_distributed

from braintransfer.errors import BadInput
from braintransfer.machine import keep_memory


def asked() -> int:
    """Over how many devices a training is to be spread (on a CPU: processes); the door's `--spread` says so."""
    value = os.environ.get("BRAINTRANSFER_SPREAD", "1")
    if not value.isdigit() or int(value) < 1:
        raise BadInput(f"BRAINTRANSFER_SPREAD = {value!r}: must be a number of devices, 1 or more")
    return int(value)


@dataclass(frozen=True)
class Team:
    """The processes that share a training, as one of them (`rank`, from 0) sees them.

    Every process draws the whole batch, so that views and their order are those of one process, and runs the network on its
    part of it. The outputs are gathered before the loss, which may look at the whole batch (soft Dice, contrastive); gradients
    are averaged by DDP.
    """

    size: int = 1
    rank: int = 0
    accelerator: Any = None

    def over(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """`network` as a function of a whole batch; its BatchNorm layers see the whole batch too."""
        if self.size == 1:
            return network
        wrapped = self.accelerator.prepare_model(synchronised(network))

        def forward(inputs: Tensor) -> Tensor:
            length = len(inputs) // self.size
            part = inputs[self.rank * length : (self.rank + 1) * length]
            return _Gathered.apply(wrapped(part), self.size, self.rank)

        return forward


class _Gathered(torch.autograd.Function):
    """All parts of a batch below each other. Backward: one's own part, times their number, as DDP takes the mean."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, size: int, rank: int) -> Tensor:
        ctx.size, ctx.rank = size, rank
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(size)]
        torch_distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.chunk(ctx.size)[ctx.rank] * ctx.size, None, None


# ------------------------------------------------------------------------------------------------------------ BatchNorm
def synchronised(network: nn.Module) -> nn.Module:
    """`network`, its BatchNorm layers seeing the batches of all processes. Parameters and their names stay what they are.

    On GPUs these are PyTorch's own layers (timm's, where the activation is part of the layer); PyTorch has none for CPUs,
    so there it is the few lines below, which tests hold against plain BatchNorm on the whole batch.
    """
    if next(network.parameters()).device.type != "cpu":
        return convert_sync_batchnorm(network)
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = _GlobalNorm
        elif type(layer) is BatchNormAct2d:
            layer.__class__ = _GlobalNormAct
    return network


class _Summed(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum over all of them as well."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        torch_distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        torch_distributed.all_reduce(total)
        return total


def _normalised(layer: nn.BatchNorm2d, inputs: Tensor) -> Tensor:
    """What `layer` makes of its part (B, C, H, W) of a batch in training. All parts are equally large."""
    assert layer.running_mean is not None and layer.running_var is not None and layer.momentum is not None
    wide = inputs if inputs.dtype == torch.float64 else inputs.float()
    n = wide.numel() // wide.shape[1] * torch_distributed.get_world_size()
    mean = _Summed.apply(wide.sum(dim=(0, 2, 3))) / n
    centred = wide - mean[:, None, None]
    # not from the mean of squares: that loses digits where the mean is large
    variance = _Summed.apply(centred.square().sum(dim=(0, 2, 3))) / n
    with torch.no_grad():
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * n / (n - 1), layer.momentum)
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.add_(1)
    scale = layer.weight * (variance + layer.eps).rsqrt()
    return (centred * scale[:, None, None] + layer.bias[:, None, None]).to(inputs.dtype)


class _GlobalNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return _normalised(self, input) if self.training else super().forward(input)


class _GlobalNormAct(BatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(_normalised(self, x))) if self.training else super().forward(x)


# ------------------------------------------------------------------------------------------------------------ processes
def launch(size: int, work: Callable[[Team], None], *, device: str = "cpu", threads: int = 1) -> None:
    """Call `work` in `size` fresh processes of this machine that know of each other; process k has GPU k.

    work: any function, its closure included; what it returns is lost. BadInput of one of them is raised here.
    """
    try:
        import accelerate  # noqa: F401
        import cloudpickle
    except ImportError:
        raise BadInput(
            f"a training over {size} devices needs accelerate; python -m pip install -c constraints.txt -e '.[devices]'"
        ) from None
    from braintransfer.store import Store, open_store

    if device == "cuda" and torch.cuda.device_count() < size:
        raise BadInput(
            f"a training over {size} devices: there are {torch.cuda.device_count()} GPUs here; ask for fewer"
        )
    # a store's arrays stay on disk: what goes to the other process is where they lie
    copyreg.pickle(Store, lambda store: (open_store, (store.path,)))  # type: ignore[arg-type]
    # they meet at a file, not at a port: one that is looked for and let go may be another training's a moment later
    meeting = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    what = (size, (Path(meeting.name) / "meeting").as_uri(), device, threads, cloudpickle.dumps(work))
    try:
        # fresh processes, not forks: a GPU that is in use and a thread that waits survive no fork
        torch.multiprocessing.start_processes(_begin, what, nprocs=size, start_method="spawn")
    except torch.multiprocessing.ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        name, _, message = last.partition(": ")
        if name.endswith("BadInput"):
            raise BadInput(message) from None
        raise
    finally:
        meeting.cleanup()


def _begin(rank: int, size: int, meeting: str, device: str, threads: int, work: bytes) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on this machine, whatever its name resolves to
    import cloudpickle
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # BatchNorm's statistics are equal in all processes as it is
    options = DistributedDataParallelKwargs(broadcast_buffers=False)
    # accelerate would meet at a port; it takes the group that is there
    backend = "nccl" if device == "cuda" else "gloo"
    torch_distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=size)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", kwargs_handlers=[options])
    torch.set_num_threads(threads)
    keep_memory()
    cloudpickle.loads(work)(Team(size, rank, accelerator))
    accelerator.end_training()


def fit(size: int, *what: Any, checkpoint: Path | None, report: Callable[[str], None], **options: Any) -> Any:
    """`training.fit` by `size` processes. Their last checkpoint brings the network here, as it is after the last step."""
    from braintransfer import training

    schedule, machine = options["schedule"], options["machine"]
    if schedule.batch % size:
        raise BadInput(f"batch = {schedule.batch} cannot be dealt out to {size} devices; take a multiple of {size}")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint or Path(folder) / "training.safetensors"

        def work(team: Team) -> None:
            def say(line: str) -> None:
                if team.rank == 0:
                    print(line, flush=True)

            found = training.fit(*what, checkpoint=path, report=say, team=team, **options)
            if team.rank == 0:
                (Path(folder) / "earlier").write_text(str(found.earlier), encoding="ascii")

        launch(size, work, device=machine.device, threads=machine.threads)
        history = training.fit(*what, checkpoint=path, report=lambda line: None, team=Team(), **options)
        earlier = float((Path(folder) / "earlier").read_text(encoding="ascii"))
    report(f"  {size} devices, {schedule.batch // size} pictures of each batch on each")
    return dataclasses.replace(history, seconds=earlier + time.perf_counter() - start, earlier=earlier)
