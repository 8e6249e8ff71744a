"""The one training loop of all stages: same batches, views, schedule and optimiser whatever the source or task."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from braintransfer import distributed
from braintransfer.augment import Strength, augment
from braintransfer.errors import BadInput
from braintransfer.machine import Machine, optimiser
from braintransfer.network import normalise, normalise_unit
from braintransfer.pretext import contrastive_loss, corrupt, restoration_error, restoration_loss, retrieved
from braintransfer.provenance import atomic_write_bytes, peak_memory_mb
from braintransfer.study import stream_seed
from braintransfer.transfer import weight_file

#: Share of a fine-tuning batch taken from slices that show the target, and of crops laid over it where a slice shows it.
#: Chosen on small trials with simulated people of a seed that no run uses (120 steps of 8): with halves of both, before the last
#: layer began at the prior, MS from random weights stayed at Dice 0. A quarter of each batch comes from any slice.
FOREGROUND_SHARE = 0.75
FOCUS = 1.0
#: Gradients longer than this are shortened to it (as nnU-Net does): a guard, seldom at work.
MAX_NORM = 12.0
#: How often a training writes down where it is; BRAINTRANSFER_CHECKPOINT_SECONDS says otherwise.
CHECKPOINT_SECONDS = 120.0
#: Lines of progress a training.
REPORTS = 8
#: Share of a GPU's free memory that the rows of a training may take; of more, each step brings its own.
RESIDENT = 0.25
#: Rows brought to a GPU at a time.
TAKEN = 256
#: Batches on which the classes are counted before a segmentation starts.
PRIOR_BATCHES = 8

#: Arrays of a store's rows (images, masks[, labels]), or such tensors on the device.
Rows = tuple[np.ndarray | Tensor, ...]
Read = Callable[[np.ndarray], tuple[np.ndarray, ...]]
MakeBatch = Callable[[Rows, torch.Generator, "Schedule", Machine], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a network learns. crop: side of a training view in pixels.

    augmentation: 0 to 1, how far views stray, as a share of `augment.Strength`. A short training has no time for all of it:
    on eight simulated people of a seed that no run uses, 120 steps of 8 from random weights gave stroke a Dice of .11 at .3 and of
    .06 at full strength (one training seed; on MS .10 and .09).
    The default rate is one for all sources, from a small trial on simulated people (mostly one seed, 120 steps of 8): on
    stroke from random weights 3e-3 gave more than 1e-3 and 6e-3, from public weights more than 1e-2. It is not the best
    everywhere: a toy with blobs liked 1e-2 best, and MS from public weights 1e-3. The arm `tuned_rate` asks that question.
    """

    steps: int
    batch: int
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup_steps: int = 5
    crop: int = 64
    augmentation: float = 1.0

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ...: linear warm-up, then a cosine that reaches 0 right after the last step."""
        warmup = min(self.warmup_steps, self.steps // 2)
        if step < warmup:
            return self.learning_rate * (step + 1) / (warmup + 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup)))


@dataclass(frozen=True)
class History:
    """What happened in a training. losses, learning_rates: one a step. samples: pictures shown, repeats counted.

    seconds: of all its steps, also of those before it was stopped and taken up again; earlier: of these alone.
    """

    losses: tuple[float, ...]
    learning_rates: tuple[float, ...]
    seconds: float
    samples: int
    peak_memory_mb: float
    earlier: float = 0

    def to_frame(self) -> pd.DataFrame:
        """Columns step (from 1), loss, learning_rate: nothing of time or machine in it."""
        steps = np.arange(1, len(self.losses) + 1)
        return pd.DataFrame({"step": steps, "loss": self.losses, "learning_rate": self.learning_rates})


def batch_order(
    foreground: np.ndarray, steps: int, batch: int, rng: np.random.Generator, foreground_share: float = FOREGROUND_SHARE
) -> np.ndarray:
    """Which rows each step sees: (steps, batch) int64, from the stream `order` of a seed.

    foreground: (N,) bool, rows that show the target. At least `foreground_share` of each batch (rounded up) are such
    rows, the others any rows; each kind comes in random rounds, all of it before any of it again. With all rows or none
    in the foreground, one kind is left.
    """
    if not len(foreground):
        raise BadInput("no rows to train on; ask for more training people or pictures")
    everything = _rounds(np.arange(len(foreground)), rng)
    shown = np.flatnonzero(foreground)
    if len(shown) in (0, len(foreground)):
        return np.array([[next(everything) for _ in range(batch)] for _ in range(steps)], dtype=np.int64)
    n_shown = math.ceil(batch * foreground_share)
    targets = _rounds(shown, rng)
    rows = [
        [next(targets) for _ in range(n_shown)] + [next(everything) for _ in range(batch - n_shown)]
        for _ in range(steps)
    ]
    return np.array(rows, dtype=np.int64)


def _rounds(values: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(values).tolist()


# ------------------------------------------------------------------------------------------------------------- batches
def _on_device(values: np.ndarray | Tensor, machine: Machine) -> Tensor:
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(np.ascontiguousarray(values)).to(machine.device, non_blocking=True)


def resident(read: Read, order: np.ndarray, device: str) -> Callable[[int], Rows]:
    """All rows of a training brought to the device once: step (from 0) -> that step's rows of each array, as tensors there.

    A batch that comes from the host's memory makes the host wait for the GPU; one that lies there already does not.
    """
    rows, place = np.unique(order, return_inverse=True)
    places = torch.from_numpy(place.reshape(order.shape)).to(device)
    held: list[Tensor] = []
    for start in range(0, len(rows), TAKEN):
        for number, values in enumerate(read(rows[start : start + TAKEN])):
            part = torch.from_numpy(np.ascontiguousarray(values))
            if not start:
                held.append(torch.empty(len(rows), *part.shape[1:], dtype=part.dtype, device=device))
            held[number][start : start + len(part)] = part
    return lambda step: tuple(values[places[step]] for values in held)


def _fits(read: Read, order: np.ndarray, machine: Machine) -> bool:
    """Whether a GPU is there, and all rows of the training take no more than a share of what is free of its memory."""
    if machine.device != "cuda":
        return False
    row = sum(np.asarray(values).nbytes for values in read(order[0, :1]))
    return row * len(np.unique(order)) <= RESIDENT * torch.cuda.mem_get_info()[0]


def _views(
    read: Rows, generator: torch.Generator, schedule: Schedule, machine: Machine, focus: float
) -> tuple[Tensor, Tensor]:
    """Augmented pictures (B, C, crop, crop) in 0..1 and masks (B, crop, crop) from what a store gives (uint8)."""
    images, masks = _on_device(read[0], machine), _on_device(read[1], machine)
    channels_first = images.permute(0, 3, 1, 2) if images.ndim == 4 else images.unsqueeze(1)
    strength = Strength().times(schedule.augmentation)
    return augment(channels_first.float() / 255, masks, generator, schedule.crop, focus=focus, strength=strength)


def segmentation_batch(
    read: Rows,
    generator: torch.Generator,
    schedule: Schedule,
    machine: Machine,
    focus: float = FOCUS,
) -> tuple[Tensor, Tensor]:
    """read: (images, masks, ...) uint8 -> network input (B, 3, crop, crop), labels (B, crop, crop) int64."""
    images, masks = _views(read, generator, schedule, machine, focus)
    return machine.arrange(normalise_unit(images)), masks


def classification_batch(
    read: Rows, generator: torch.Generator, schedule: Schedule, machine: Machine
) -> tuple[Tensor, Tensor]:
    """read: (images, masks, labels) -> network input (B, 3, crop, crop), class numbers (B,) int64."""
    images, _ = _views(read, generator, schedule, machine, 0.0)
    return machine.arrange(normalise_unit(images)), _on_device(read[2], machine).long()


def restoration_batch(
    read: Rows, generator: torch.Generator, schedule: Schedule, machine: Machine
) -> tuple[Tensor, Tensor]:
    """read: (images, ...) -> corrupted network input and what it should be restored to, both (B, 3, crop, crop)."""
    images, _ = _views(read, generator, schedule, machine, 0.0)
    # a copy of the stream, or the damage would move it and this task alone would go on with other views
    corrupted, _ = corrupt(images, generator.clone_state())
    return machine.arrange(normalise_unit(corrupted)), machine.arrange(normalise_unit(images))


def two_views_batch(
    read: Rows, generator: torch.Generator, schedule: Schedule, machine: Machine
) -> tuple[Tensor, Tensor]:
    """read: (images, ...) -> two views of each picture below each other (2 B, 3, crop, crop), and their pictures' numbers."""
    views = torch.cat([_views(read, generator, schedule, machine, 0.0)[0] for _ in range(2)])
    return machine.arrange(normalise_unit(views)), torch.arange(len(views) // 2, device=machine.device).repeat(2)


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy plus one minus soft Dice, the latter over the whole batch, mean over the foreground classes.

    logits: (B, 1 + classes, H, W); masks: (B, H, W) int64, 0 background. Soft Dice: Milletari et al. 2016,
    doi:10.1109/3DV.2016.79.
    """
    logits = logits.float()
    log_p = functional.log_softmax(logits, dim=1)
    p = log_p.exp()[:, 1:]
    truth = functional.one_hot(masks, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].to(p.dtype)
    overlap = (p * truth).sum(dim=(0, 2, 3))
    dice = (2 * overlap + 1) / (p.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3)) + 1)
    return functional.nll_loss(log_p, masks) + 1 - dice.mean()


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (B, classes) against class numbers (B,)."""
    return functional.cross_entropy(logits.float(), labels)


#: What a pre-training task learns from. The three main tasks see the same views of the same pictures in the same order.
BATCHES: dict[str, MakeBatch] = {
    "classification": classification_batch,
    "segmentation": partial(segmentation_batch, focus=0.0),
    "selfsupervised": restoration_batch,
    "contrastive": two_views_batch,
}
LOSSES: dict[str, Loss] = {
    "classification": classification_loss,
    "segmentation": segmentation_loss,
    "selfsupervised": lambda restored, original: restoration_loss(restored.float(), original),
    "contrastive": lambda embeddings, _: contrastive_loss(embeddings),
}


def first_batches(
    n: int,
    read: Read,
    order: np.ndarray,
    make_batch: MakeBatch,
    schedule: Schedule,
    machine: Machine,
    seed: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The first n batches of a training, drawn once more as `fit` draws them. seed: of the views, as there."""
    generator = torch.Generator(machine.device).manual_seed(seed)
    for rows in order[:n]:
        yield make_batch(read(rows), generator, schedule, machine)


def start_at_prior(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set the bias of a U-Net's last layer so that it begins with how often each class fills a pixel of a training view.

    batches: the first PRIOR_BATCHES of the training (`first_batches`), so the bias follows from the seed and the target alone and
    is the same for every source. Without it a short training spends its steps on learning that lesions are rare, and from
    random weights some seeds never get further (Lin et al. 2017, doi:10.1109/ICCV.2017.324, do so for rare objects).
    """
    head: Any = network.segmentation_head
    bias = head[0].bias
    counts = torch.zeros(len(bias), dtype=torch.float64)
    for _, masks in batches:
        counts += torch.bincount(masks.flatten().cpu(), minlength=len(bias)).double()
    with torch.no_grad():
        bias.copy_(((counts + 1) / (counts + 1).sum()).log())


# ---------------------------------------------------------------------------------------------------------------- loop
@dataclass
class _State:
    """All that changes during a training, in one place: what a checkpoint holds."""

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    adam: torch.optim.AdamW
    generator: torch.Generator
    step: int = 0
    seconds: float = 0
    losses: list[Tensor] = field(default_factory=list)


def fit(
    network: nn.Module,
    read: Read,
    order: np.ndarray,
    make_batch: MakeBatch,
    loss: Loss,
    *,
    schedule: Schedule,
    machine: Machine,
    seed: int,
    report: Callable[[str], None] = print,
    checkpoint: Path | None = None,
    belongs_to: str = "",
    team: distributed.Team | None = None,
) -> History:
    """Train `network` in place for the whole schedule; weights and BatchNorm statistics are what the last step leaves.

    read: rows -> arrays of a store (images, masks[, labels]). order: (steps, batch) rows (`batch_order`). seed: of the
    views (`study.stream_seed(seed, "augmentation")`). AdamW; gradients are clipped to norm 12; one line every eighth.
    checkpoint: a file that holds the state of this training every CHECKPOINT_SECONDS and at its end, so that the same call goes on
    where it was stopped; the caller deletes it when what follows is done. belongs_to: the key of the stage that trains
    (`provenance.stage_key`): with other code, pictures or parameters the file is not taken up.
    On a GPU the rows are brought there once (`resident`), where they fill no more than RESIDENT of what is free.
    team: the processes that share this training, given to each of them; without, it is spread over as many devices as are
    asked for (`distributed.asked`), usually one.
    On a CPU with the same number of threads, equal input gives equal bytes, stopped in between or not. BadInput when the loss
    is not finite.
    """
    if order.shape != (schedule.steps, schedule.batch):
        raise ValueError(f"order is {order.shape}, the schedule {(schedule.steps, schedule.batch)}")
    if team is None and (devices := distributed.asked()) > 1:
        return distributed.fit(
            devices, network, read, order, make_batch, loss,
            schedule=schedule, machine=machine, seed=seed, report=report, checkpoint=checkpoint, belongs_to=belongs_to,
        )  # fmt: skip
    network = machine.place(network).train()
    state = _State(
        network,
        network,
        optimiser(network, schedule.learning_rate, schedule.weight_decay),
        torch.Generator(machine.device).manual_seed(seed),
    )
    every = max(1, math.ceil(schedule.steps / REPORTS))
    key = ""
    if checkpoint is not None:
        key = _key(state, order, schedule, machine, seed, belongs_to)
        if _take_up(state, checkpoint, key):
            report(f"  goes on after step {state.step} of {schedule.steps}")
    if team is not None:
        state.forward = team.over(network)
    writes, pause = checkpoint is not None and (team is None or team.rank == 0), _checkpoint_seconds()
    begun, earlier, start, saved = state.step, state.seconds, time.perf_counter(), time.perf_counter()
    take = resident(read, order, machine.device) if _fits(read, order, machine) else lambda step: read(order[step])
    while state.step < schedule.steps:
        batch = make_batch(take(state.step), state.generator, schedule, machine)
        _learn(state, *batch, loss, schedule, machine)
        if state.step % every == 0 or state.step == schedule.steps:
            # the only place that waits for a GPU
            _check_finite(state, every, schedule)
            report(_progress(state, every, schedule, time.perf_counter() - start, begun))
        state.seconds = earlier + time.perf_counter() - start
        if checkpoint is not None and writes and time.perf_counter() - saved >= pause:
            _put_down(state, checkpoint, key)
            saved = time.perf_counter()
    if checkpoint is not None and writes and begun < state.step:
        _put_down(state, checkpoint, key)
    rates = tuple(schedule.rate(step) for step in range(schedule.steps))
    losses = tuple(torch.stack(state.losses).tolist())
    return History(losses, rates, state.seconds, order.size, peak_memory_mb(), earlier)


def _checkpoint_seconds() -> float:
    value = os.environ.get("BRAINTRANSFER_CHECKPOINT_SECONDS", "")
    try:
        return float(value) if value else CHECKPOINT_SECONDS
    except ValueError:
        raise BadInput(f"BRAINTRANSFER_CHECKPOINT_SECONDS = {value!r}: must be a number of seconds") from None


def _key(state: _State, order: np.ndarray, schedule: Schedule, machine: Machine, seed: int, stage: str) -> str:
    """What a checkpoint must belong to: the stage, the first weights, the order of all batches, schedule, views and machine."""
    total = hashlib.sha256(np.ascontiguousarray(order).tobytes())
    for name, value in state.network.state_dict().items():
        total.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    frozen = [name for name, value in state.network.named_parameters() if not value.requires_grad]
    total.update(repr((stage, schedule, machine, seed, frozen)).encode())
    return total.hexdigest()


def _put_down(state: _State, path: Path, key: str) -> None:
    """Write all of `state` as one safetensors file, whole or not at all."""
    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    for number, moments in state.adam.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value for name, value in moments.items()}
    tensors["generator"] = state.generator.get_state()
    tensors["losses"] = torch.stack(state.losses)
    header = {"key": key, "step": str(state.step), "seconds": f"{state.seconds:.3f}"}
    atomic_write_bytes(path, weight_file(tensors, header))


def _take_up(state: _State, path: Path, key: str) -> bool:
    """Bring `state` to where the checkpoint left it; False (and nothing changed) where there is none of this very training."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("key") != key:
                return False
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError):
        return False  # none yet, or torn: the training begins anew
    state.network.load_state_dict({k.removeprefix("network."): v for k, v in held.items() if k.startswith("network.")})
    moments: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in state.adam.param_groups for p in group["params"]]
    for name, value in held.items():
        if name.startswith("adam."):
            _, number, what = name.split(".")
            like = parameters[int(number)]
            # laid out as the weights are: the fused optimiser walks both in memory's order
            moments.setdefault(int(number), {})[what] = value if not value.ndim else torch.empty_like(like).copy_(value)
    state.adam.load_state_dict({**state.adam.state_dict(), "state": moments})
    state.generator.set_state(held["generator"])
    state.losses = list(held["losses"].to(next(state.network.parameters()).device).unbind())
    state.step, state.seconds = int(header["step"]), float(header["seconds"])
    return True


def _learn(state: _State, inputs: Tensor, targets: Tensor, loss: Loss, schedule: Schedule, machine: Machine) -> None:
    for group in state.adam.param_groups:
        group["lr"] = schedule.rate(state.step)
    state.adam.zero_grad(set_to_none=True)
    with machine.autocast():
        outputs = state.forward(inputs)
    value = loss(outputs, targets)
    value.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), MAX_NORM)
    state.adam.step()
    state.losses.append(value.detach())
    state.step += 1


def _check_finite(state: _State, every: int, schedule: Schedule) -> None:
    latest = torch.stack(state.losses[-every:])
    bad = (~torch.isfinite(latest)).nonzero()
    if len(bad):
        step = state.step - len(latest) + int(bad[0]) + 1
        raise BadInput(
            f"the loss became {float(latest[int(bad[0])])} at step {step} of {schedule.steps} "
            f"(learning_rate = {schedule.learning_rate:g}); look for broken pictures, or take a lower learning_rate"
        )


def _progress(state: _State, every: int, schedule: Schedule, seconds: float, begun: int = 0) -> str:
    mean = float(torch.stack(state.losses[-every:]).mean())
    done = state.step - begun
    left = seconds / done * (schedule.steps - state.step)
    rate = done * schedule.batch / seconds
    return f"  step {state.step:>4}/{schedule.steps}  loss {mean:.3f}  {rate:.0f} pictures/s  {left:.0f} s left"


# ------------------------------------------------------------------------------------------------ held-out performance
def outputs(network: nn.Module, images: np.ndarray | Tensor, machine: Machine, batch: int = 16) -> Tensor:
    """What the network says, evaluating, of uint8 pictures or of normalised ones: (n, ...) float32 on the CPU."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            inputs = part if isinstance(part, Tensor) else normalise(torch.from_numpy(np.ascontiguousarray(part)))
            with machine.autocast():
                parts.append(network(machine.arrange(inputs)).float().cpu())
    return torch.cat(parts)


def slice_probabilities(network: nn.Module, images: np.ndarray, machine: Machine) -> np.ndarray:
    """Class probabilities (n, C + 1, H, W) float32 of uint8 slices (n, H, W); the network in evaluation mode."""
    return torch.softmax(outputs(network, images, machine), dim=1).numpy()


def _corrupted(images: np.ndarray, of: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures with a fixed corruption for looking at the restoration: corrupted, original (normalised), changed."""
    tensor = torch.from_numpy(np.ascontiguousarray(images[of]))
    unit = (tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor.unsqueeze(1)).float() / 255
    corrupted, changed = corrupt(unit, torch.Generator().manual_seed(stream_seed(0, "held-out corruption")))
    return normalise_unit(corrupted), normalise_unit(unit), changed


def held_out_views(images: np.ndarray) -> Tensor:
    """Two fixed views of each picture (n, H, W[, 3]) uint8, full strength, nothing cut away: (2 n, 3, H, W) normalised."""
    generator = torch.Generator().manual_seed(stream_seed(0, "held-out views"))
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    unit = (tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor.unsqueeze(1)).float() / 255
    nothing = torch.zeros(len(unit), *unit.shape[2:], dtype=torch.uint8)
    return torch.cat([normalise_unit(augment(unit, nothing, generator, unit.shape[-1])[0]) for _ in range(2)])


def held_out_performance(
    task: str,
    network: nn.Module,
    images: np.ndarray,
    masks: np.ndarray,
    labels: np.ndarray,
    *,
    machine: Machine,
    mean_image: np.ndarray,
) -> dict[str, Any]:
    """Did a source learn its own task? On whole held-out pictures; the rule of the gate `source_learned`.

    images: (n, H, W[, 3]) uint8. masks: (n, H, W) uint8. labels: (n,) class numbers. mean_image: (H, W[, 3]) 0..255, of
    the training pictures.
    classification: accuracy > chance + .10, chance being the share of the commonest class.
    segmentation: dice (mean over pictures with foreground) > all_foreground (calling every pixel foreground) + .10.
    selfsupervised: restoration_error (mean absolute, 0..255, in the changed patches) < .8 x mean_image_error there.
    contrastive (an arm): accuracy of finding a picture's other view among all second views > chance (1 / n) + .10.
    Keys: those, `learned` (bool), `task`, `n`.
    """
    if not len(images):
        raise BadInput("no held-out pictures to judge the source by; ask for more pictures in prepare")
    base: dict[str, Any] = {"task": task, "n": len(images)}
    if task == "classification":
        correct = float((outputs(network, images, machine).argmax(1).numpy() == labels).mean())
        chance = float(np.bincount(labels).max() / len(labels))
        return {**base, "accuracy": correct, "chance": chance, "learned": correct > chance + 0.10}
    if task == "segmentation":
        truth = masks > 0
        shown = truth.any(axis=(1, 2))
        predicted = (outputs(network, images, machine).argmax(1) > 0).numpy()
        size = truth.sum(axis=(1, 2))
        overlap = 2 * (predicted & truth).sum(axis=(1, 2)) / np.maximum(1, predicted.sum(axis=(1, 2)) + size)
        everything = 2 * size / (truth[0].size + size)
        dice, trivial = (float(v[shown].mean()) if shown.any() else 0.0 for v in (overlap, everything))
        return {**base, "dice": dice, "all_foreground": trivial, "learned": dice > trivial + 0.10}
    if task == "contrastive":
        found = retrieved(outputs(network, held_out_views(images), machine)).numpy()
        correct, chance = float((found == np.arange(len(images))).mean()), 1 / len(images)
        return {**base, "accuracy": correct, "chance": chance, "learned": correct > chance + 0.10}
    if task != "selfsupervised":
        raise ValueError(f"no such task: {task}")
    corrupted, original, changed = _corrupted(images)
    mean = normalise(torch.from_numpy(np.ascontiguousarray(mean_image))[None])
    error = 128 * restoration_error(outputs(network, corrupted, machine), original, changed)
    trivial = 128 * restoration_error(mean.expand_as(original), original, changed)
    return {**base, "restoration_error": error, "mean_image_error": trivial, "learned": error < 0.8 * trivial}


def held_out_pictures(task: str, network: nn.Module, images: np.ndarray, *, machine: Machine) -> dict[str, np.ndarray]:
    """What to show of a source's result, for pictures (n, H, W[, 3]) uint8.

    classification: `probabilities` (n, classes) float32; segmentation: `predictions` (n, H, W) uint8; selfsupervised:
    `corrupted` and `restored`, uint8 in the shape of images; contrastive: `views` and `found`, the second view that is nearest.
    """
    if task == "classification":
        return {"probabilities": torch.softmax(outputs(network, images, machine), 1).numpy()}
    if task == "segmentation":
        return {"predictions": outputs(network, images, machine).argmax(1).numpy().astype(np.uint8)}
    if task == "contrastive":
        views = held_out_views(images)
        first, second = (_as_picture(part, images) for part in views.chunk(2))
        return {"views": first, "found": second[retrieved(outputs(network, views, machine)).numpy()]}
    corrupted, _, _ = _corrupted(images)
    return {
        "corrupted": _as_picture(corrupted, images),
        "restored": _as_picture(outputs(network, corrupted, machine), images),
    }


def _as_picture(normalised: Tensor, like: np.ndarray) -> np.ndarray:
    pixels = (normalised * 128 + 127).round().clamp(0, 255).to(torch.uint8).numpy()
    return pixels[:, 0] if like.ndim == 3 else pixels.transpose(0, 2, 3, 1)
