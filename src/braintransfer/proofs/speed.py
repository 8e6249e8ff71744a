"""How fast the training loop is: beside what the network alone takes, beside other people's loops, and as things grow; and how
fast scans are prepared for it."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from braintransfer import recipes, study
from braintransfer.augment import Strength, augment
from braintransfer.errors import BadInput
from braintransfer.machine import Machine, _seconds, keep_memory, optimiser
from braintransfer.network import build_unet
from braintransfer.prepare import prepare
from braintransfer.proofs.faults import copy_project
from braintransfer.proofs.loaders import LOADERS, Slices
from braintransfer.provenance import MANIFEST, peak_memory_mb, project_root, write_manifest
from braintransfer.settings import PrepareSettings
from braintransfer.store import Store, StoreWriter, open_store
from braintransfer.training import (
    PRIOR_BATCHES,
    Schedule,
    _learn,
    _State,
    batch_order,
    first_batches,
    fit,
    outputs,
    segmentation_batch,
    segmentation_loss,
    start_at_prior,
)

ENCODER = "tf_efficientnet_lite0"
CLASSES = len(study.CLASSES["anatomy"])
#: One fine-tuning of the demo: what all contenders do.
SCHEDULE = Schedule(steps=120, batch=8, crop=64, augmentation=0.3)
#: Steps before the clock starts: the first ones fill caches and start workers.
WARM_UP = 10
OURS = "this study"
#: Turns of the loop and of the bare network in `ceiling_table`, and steps in each.
BLOCK = 15


def machine_here(threads: int = 0) -> Machine:
    """Plain fp32 in channels_last on the CPU, what a CPU run expects, with that many threads (0: all cores)."""
    machine = Machine("cpu", "fp32", True, threads or os.cpu_count() or 1)
    torch.set_num_threads(machine.threads)
    keep_memory()
    return machine


def demo_store(run: Path) -> Store:
    """The built-in people of the anatomy target, prepared in the folder `run` (once)."""
    settings = PrepareSettings(
        profile="proof", read_from=str(run), write_to=str(run), dataset="anatomy", recipe="simulated_anatomy", role="target",
        target="anatomy", data="", spacing=2.0, size=[128, 96], subjects=14, folds=2, n_validation=3, n_test=6, seed=1,
    )  # fmt: skip
    return prepare(settings, report=lambda _: None)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _fresh(*asked: object, **around: str) -> Any:
    """What `main` answers in a process of its own. around: more environment for it. BadInput, its last line, when it stops."""
    command = [sys.executable, "-m", "braintransfer.proofs.speed", *map(str, asked)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **around})
    if done.returncode:
        raise BadInput((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def _training_rows(store: Store) -> np.ndarray:
    return store.rows(store.training_subset(0, 0, 4), fold=0)


# ------------------------------------------------------------------------------------------------ the loop and its ceiling
def ceiling_table(store: Store, crops: tuple[int, ...] = (64, 96, 192), rounds: int = 15) -> pd.DataFrame:
    """The study's loop beside the same network on one batch that lies ready: samples/s of each, and their ratio.

    Both take turns in one process, so that a busy moment of the machine hits both. The bare network does forward, loss,
    backward, clipping and optimiser step; the loop also reads from the store, draws views and keeps its losses.
    """
    rows = []
    for crop in crops:
        machine = machine_here()
        schedule = Schedule(steps=BLOCK, batch=8, crop=crop, augmentation=0.3)
        read, order = _reader(store, schedule)
        fixed = segmentation_batch(read(order[0]), torch.Generator().manual_seed(0), schedule, machine)
        network = build_unet(ENCODER, CLASSES + 1, 0)
        quiet: dict[str, Any] = {"schedule": schedule, "machine": machine, "seed": 0, "report": lambda _: None}

        def loop(
            make: Any, network: nn.Module = network, order: np.ndarray = order, read: Any = read, quiet: Any = quiet
        ) -> float:
            return fit(network, read, order, make, segmentation_loss, **quiet).seconds / BLOCK

        def bare(*_: Any, fixed: Any = fixed) -> tuple[Tensor, Tensor]:
            return fixed

        loop(bare), loop(segmentation_batch)
        times = [(loop(bare), loop(segmentation_batch)) for _ in range(rounds)]
        alone, whole = (median(t[k] for t in times) for k in (0, 1))
        rows.append(
            {
                "crop (px)": crop,
                "network alone (samples/s)": round(schedule.batch / alone, 1),
                "the study's loop (samples/s)": round(schedule.batch / whole, 1),
                "loop / network alone": round(median(a / b for a, b in times), 3),
                "lowest turn": round(min(a / b for a, b in times), 3),
            }
        )
    return pd.DataFrame(rows)


def _reader(store: Store, schedule: Schedule) -> tuple[Callable[[np.ndarray], tuple[np.ndarray, ...]], np.ndarray]:
    rows = _training_rows(store)
    shown = store.slices["foreground"].to_numpy()[rows] > 0
    order = batch_order(shown, schedule.steps, schedule.batch, study.stream(0, "order"))
    return (lambda chosen: store.load(rows[chosen], fold=0)), order


def views_table(sizes: tuple[int, ...] = (64, 96, 192), batch: int = 16, repeats: int = 20) -> pd.DataFrame:
    """CPU-milliseconds that one random view takes, with bending: the median of `repeats` batches, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for size in sizes:
        images = torch.rand(batch, 1, size, size)
        masks = (torch.rand(batch, size, size) > 0.9).to(torch.uint8)
        generator, seconds = torch.Generator().manual_seed(0), []
        for _ in range(repeats + 3):
            start = time.process_time()
            augment(images, masks, generator, size, focus=1.0)
            seconds.append(time.process_time() - start)
        rows.append({"view (px)": size, "CPU-ms a view": round(1000 * median(seconds[3:]) / batch, 2)})
    torch.set_num_threads(threads)
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------ beside the hardware
#: Batches that a training step is timed with, by device; side of a view in pixels; side of the matrices of the peak.
BATCHES = {"cpu": (8, 32), "cuda": (16, 64, 256)}
VIEW, MATRIX = 96, 2048


def hardware_table(
    batches: Mapping[str, Sequence[int]] = BATCHES, matrix: int = MATRIX, turns: int = 5
) -> pd.DataFrame:
    """How much of the device a training step uses: samples/s, and its arithmetic beside that of one large matrix product.

    On the GPU where there is one, else on all threads of the CPU, in fp32 and bf16. Arithmetic is three times what
    `FlopCounterMode` counts forward: backward is twice forward, and it takes the backward of depthwise convolutions for dense
    ones. The peak is the fastest of `turns` products of square matrices of that precision, in turns with the steps. "Device
    idle": the part of a step in which no kernel ran, which only a GPU can tell.
    """
    device = _device()
    rows = []
    for precision in ("fp32", "bf16"):
        machine = dataclasses.replace(machine_here(), device=device, precision=precision)
        square = torch.rand(
            matrix, matrix, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32
        )
        for batch in batches[device]:
            step, forward = _whole_step(machine, batch)
            with FlopCounterMode(display=False) as counted:
                forward()
            times = [(_seconds(step, machine), _seconds(lambda m=square: m @ m, machine)) for _ in range(turns + 1)][1:]  # type: ignore[misc]
            seconds, product = (min(t[k] for t in times) for k in (0, 1))
            rate, peak = 3 * counted.get_total_flops() / seconds / 1e9, 2 * matrix**3 / product / 1e9
            rows.append(
                {
                    "device": device,
                    "precision": precision,
                    "batch": batch,
                    "training (samples/s)": round(batch / seconds, 1),
                    "GFLOP/s": round(rate, 1),
                    "GFLOP/s of a matrix product": round(peak, 1),
                    "share of it": round(rate / peak, 3),
                    "device idle": "" if device == "cpu" else round(_idle(step, machine), 3),
                }
            )
    return pd.DataFrame(rows)


def _whole_step(
    machine: Machine, batch: int, compiled: Mapping[str, Any] | None = None
) -> tuple[Callable[[], None], Callable[[], Tensor]]:
    """A training step of the study's network on one batch that lies on the device (forward, loss, backward, clipping, optimiser),
    and its forward alone. compiled: what `torch.compile` is told; None leaves the network as it is."""
    schedule = Schedule(steps=1_000_000, batch=batch, crop=VIEW)
    network = machine.place(build_unet(ENCODER, CLASSES + 1, 0)).train()
    forward = network if compiled is None else torch.compile(network, **compiled)
    state = _State(network, forward, optimiser(network, 1e-4, 0.01), torch.Generator(machine.device))
    inputs = machine.arrange(torch.rand(batch, 3, VIEW, VIEW))
    targets = torch.zeros(batch, VIEW, VIEW, dtype=torch.int64, device=machine.device)

    def step() -> None:
        _learn(state, inputs, targets, segmentation_loss, schedule, machine)

    return step, partial(forward, inputs)


def _idle(step: Callable[[], None], machine: Machine, steps: int = 20) -> float:
    """The part of `steps` training steps in which the GPU ran no kernel, as PyTorch's profiler adds them up."""

    def several() -> None:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()

    seconds = _seconds(several, machine)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        several()
    busy = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
    return max(0.0, 1 - busy / seconds)


# --------------------------------------------------------------------------------------------------------------- compiling
#: How the network may be compiled, by device: what `torch.compile` is told. "reduce-overhead" records steps as CUDA graphs.
COMPILED: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {"compiled": {}},
    "cuda": {"compiled": {}, "compiled, steps recorded as CUDA graphs": {"mode": "reduce-overhead"}},
}
#: Steps until a compiled network is as fast as it gets: it is compiled in the first, and recorded in the next ones.
SETTLING = 3


def compiling_table(ways: Mapping[str, Mapping[str, Any]] | None = None, turns: int = 40) -> pd.DataFrame:
    """Whether compiling the network pays: training steps (batches of 8 views) of the compiled one and of the one as it is, in turns.

    On the GPU where there is one (in bf16), else on all threads of the CPU (in fp32). ways: name -> what `torch.compile` is told.
    Each is tried in two processes, the second of which finds what the first compiled, as the notebooks of a study would. "pays after
    (steps)": when the second process has won back its start; "never" where the median of the ratios is not above 1; the reason where
    that way is not possible here (no C++ compiler, no Triton).
    """
    device = _device()
    rows = []
    for name, told in (COMPILED[device] if ways is None else ways).items():
        row: dict[str, Any] = {"network": name, "device": device}
        try:
            with tempfile.TemporaryDirectory(prefix="braintransfer-speed-") as cache:
                (first, *_), (again, plain, compiled, ratio) = (
                    _fresh("compiling", json.dumps(told), turns, TORCHINDUCTOR_CACHE_DIR=cache) for _ in range(2)
                )
            ratio = round(ratio, 3)
            row |= {
                "first three steps (s)": round(first, 1),
                "in a second process (s)": round(again, 1),
                "then a step (ms)": round(1000 * compiled, 1),
                "a step as it is (ms)": round(1000 * plain, 1),
                "beside as it is": ratio,
                "pays after (steps)": f"{again / (plain * (1 - 1 / ratio)):.0f}" if ratio > 1 else "never",
            }
        except BadInput as reason:
            row["pays after (steps)"] = f"not possible here: {reason}"
        rows.append(row)
    return pd.DataFrame(rows)


def _compile_once(told: Mapping[str, Any], turns: int) -> tuple[float, float, float, float]:
    """Seconds of a compiled network's first steps, medians of a later step as it is and compiled, and the median of their ratios."""
    device = _device()
    machine = dataclasses.replace(machine_here(), device=device, precision="bf16" if device == "cuda" else "fp32")
    plain, compiled = (_whole_step(machine, SCHEDULE.batch, way)[0] for way in (None, told))
    first = sum(_seconds(compiled, machine) for _ in range(SETTLING))
    _seconds(plain, machine)
    times = [(_seconds(plain, machine), _seconds(compiled, machine)) for _ in range(turns)]
    alone, quick = (median(t[k] for t in times) for k in (0, 1))
    return first, alone, quick, median(a / b for a, b in times)


# ---------------------------------------------------------------------------------------------------- beside other loops
def contend(name: str, workers: int, run: Path, steps: int, started: float) -> dict[str, Any]:
    """One fine-tuning cell from process start to score, fed by `name`. started: `time.time()` when the process was begun."""
    schedule = dataclasses.replace(SCHEDULE, steps=steps)
    machine = machine_here()
    store = open_store(run / "data" / "anatomy")
    network = build_unet(ENCODER, CLASSES + 1, 0)
    marks: list[float] = []
    if name == OURS:
        read, order = _reader(store, schedule)
        make_batch: Any = segmentation_batch
    else:
        rows = _training_rows(store)
        images, masks = store.load(rows, fold=0)
        strength = Strength().times(schedule.augmentation)
        slices = Slices(images, masks, schedule.steps, schedule.batch, schedule.crop, 0, workers, strength)
        batches = LOADERS[name].batches(slices)
        read, order = (lambda _: ()), np.zeros((schedule.steps, schedule.batch), np.int64)

        def make_batch(*_: Any) -> tuple[Tensor, Tensor]:
            inputs, targets = next(batches)
            return machine.arrange(inputs), targets

    def marked(*of: Any) -> tuple[Tensor, Tensor]:
        made = make_batch(*of)
        marks.append(time.time())
        return made

    _start_alike(network, store, machine)
    if name.startswith("segmentation-models-pytorch"):
        _smp_training(network, machine, marked, schedule)
    else:
        fit(
            network,
            read,
            order,
            marked,
            segmentation_loss,
            schedule=schedule,
            machine=machine,
            seed=0,
            report=lambda _: None,
        )
    trained = time.time()
    score = _held_out_dice(network, store, machine)
    ended = time.time()
    return {
        "first batch": marks[0] - started,
        "samples/s": (schedule.steps - WARM_UP) * schedule.batch / (trained - marks[WARM_UP]),
        "whole cell": ended - started,
        "peak MB": peak_memory_mb(),
        "Dice": score,
    }


def _start_alike(network: nn.Module, store: Store, machine: Machine) -> None:
    """Every contender begins at the prior that the study begins at."""
    read, order = _reader(store, SCHEDULE)
    start_at_prior(network, first_batches(PRIOR_BATCHES, read, order, segmentation_batch, SCHEDULE, machine, 0))


def _smp_training(
    network: nn.Module, machine: Machine, batch: Callable[[], tuple[Tensor, Tensor]], schedule: Schedule
) -> None:
    """The loop of that library's examples, with Lightning left out: multi-class Dice loss, Adam, a cosine."""
    import segmentation_models_pytorch as smp

    loss = smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, from_logits=True)
    network = machine.place(network).train()
    adam = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, schedule.steps)
    for _ in range(schedule.steps):
        images, masks = batch()
        adam.zero_grad()
        loss(network(images), masks).backward()
        adam.step()
        cosine.step()


def _held_out_dice(network: nn.Module, store: Store, machine: Machine) -> float:
    """Mean over validation people and classes of Dice on the working grid."""
    scores = []
    for person in store.subjects("validation"):
        images, masks = store.load(store.rows([person], fold=0), fold=0)
        predicted = outputs(network, images, machine).argmax(1).numpy()
        for k in range(1, CLASSES + 1):
            both = ((predicted == k) & (masks == k)).sum()
            scores.append(2 * both / max(1, (predicted == k).sum() + (masks == k).sum()))
    return float(np.mean(scores))


def in_a_process(name: str, workers: int, run: Path, steps: int = SCHEDULE.steps) -> dict[str, Any]:
    """`contend` in a fresh process. BadInput when it stops."""
    try:
        return dict(_fresh(name, workers, run, steps, repr(time.time())))
    except BadInput as reason:
        raise BadInput(f"{name} with {workers} workers stopped: {reason}") from None


def contenders() -> tuple[list[str], list[str]]:
    """Names of those that can run here, ours first, and a sentence about each that cannot."""
    there = [OURS, *(name for name, loader in LOADERS.items() if loader.version)]
    absent = [f"{name} is not installed ({', '.join(x.packages)})" for name, x in LOADERS.items() if not x.version]
    return there, absent


def side_by_side_table(run: Path, rounds: int, report: Callable[[str], None] = print) -> pd.DataFrame:
    """The same cell by each contender, `rounds` times in turns, a fresh process each: medians.

    Every contender may use the whole machine: others with and without worker processes, and the faster way counts.
    """
    demo_store(run)
    names, _ = contenders()
    ways = [(n, w) for n in names for w in ((0,) if n == OURS else (0, os.cpu_count() or 1))]
    found: dict[tuple[str, int], list[dict[str, Any]]] = {way: [] for way in ways}
    for turn in range(rounds):
        for name, workers in ways:
            found[name, workers].append(in_a_process(name, workers, run))
            report(
                f"turn {turn + 1} of {rounds}: {name}, {workers} workers: {found[name, workers][-1]['samples/s']:.0f} samples/s"
            )
    rows = []
    ours = _medians(found[OURS, 0])
    for name in names:
        workers, best = max(
            ((w, _medians(found[n, w])) for n, w in ways if n == name), key=lambda item: float(item[1]["samples/s"])
        )
        loader = LOADERS.get(name)
        rows.append(
            {
                "loop": name if loader is None else f"{name} {loader.version}",
                "worker processes": workers,
                "training (samples/s)": round(best["samples/s"], 1),
                "beside ours": round(best["samples/s"] / ours["samples/s"], 2),
                "first batch after (s)": round(best["first batch"], 1),
                "whole cell (s)": round(best["whole cell"], 1),
                "peak memory, workers apart (MB)": round(best["peak MB"]),
                "held-out Dice": round(best["Dice"], 3),
            }
        )
    return pd.DataFrame(rows)


def _medians(turns: list[dict[str, Any]]) -> dict[str, float]:
    return {key: median(turn[key] for turn in turns) for key in turns[0]}


# ------------------------------------------------------------------------------------------------------------- as it grows
def exponent(sizes: list[float], costs: list[float]) -> float:
    """The power with which cost grows with size: slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def growth_table(store: Store) -> pd.DataFrame:
    """What each thing costs at several sizes, and the power with which it grows."""
    machine = machine_here(1)
    measured: dict[str, tuple[str, list[tuple[float, float]]]] = {
        "training step, side of the crop (px)": ("ms", list(_step_by_crop(store, machine))),
        "training step, batch": ("ms", list(_step_by_batch(store, machine))),
        "predicting, slices": ("ms", list(_predicting(store, machine))),
        "reading a batch, pictures in the store": ("ms", []),
        "memory of reading, pictures in the store": ("MB", []),
    }
    for n in (2_000, 20_000, 200_000):
        seconds, memory = _reading(n)
        measured["reading a batch, pictures in the store"][1].append((n, 1000 * seconds))
        measured["memory of reading, pictures in the store"][1].append((n, memory))
    rows = []
    for what, (unit, points) in measured.items():
        sizes, costs = [p[0] for p in points], [p[1] for p in points]
        shown = "; ".join(f"{s:,.0f}: {c:.3g} {unit}" for s, c in points)
        rows.append({"what grows": what, "cost": shown, "grows with power": round(exponent(sizes, costs), 2)})
    return pd.DataFrame(rows)


def _step_seconds(store: Store, machine: Machine, schedule: Schedule) -> float:
    read, order = _reader(store, schedule)
    network = build_unet(ENCODER, CLASSES + 1, 0)
    quiet: dict[str, Any] = {"schedule": schedule, "machine": machine, "seed": 0, "report": lambda _: None}
    turns = [fit(network, read, order, segmentation_batch, segmentation_loss, **quiet).seconds for _ in range(3)]
    return min(turns) / schedule.steps


def _step_by_crop(store: Store, machine: Machine) -> Iterator[tuple[float, float]]:
    for crop in (64, 96, 128, 192, 256):
        yield crop, 1000 * _step_seconds(store, machine, Schedule(steps=4, batch=4, crop=crop, augmentation=0.3))


def _step_by_batch(store: Store, machine: Machine) -> Iterator[tuple[float, float]]:
    for batch in (4, 8, 16, 32):
        yield batch, 1000 * _step_seconds(store, machine, Schedule(steps=4, batch=batch, crop=64, augmentation=0.3))


def _predicting(store: Store, machine: Machine) -> Iterator[tuple[float, float]]:
    network = machine.place(build_unet(ENCODER, CLASSES + 1, 0))
    images, _ = store.load(_training_rows(store), fold=0)
    for n in (16, 32, 64, 128, 256):
        part = np.resize(images, (n, *images.shape[1:]))
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            outputs(network, part, machine)
            seconds.append(time.perf_counter() - start)
        yield n, 1000 * min(seconds)


def _reading(n: int, side: int = 64, batch: int = 16, batches: int = 200) -> tuple[float, float]:
    """Seconds a batch and private memory (MB) of reading random batches of a made-up source with `n` pictures."""
    with tempfile.TemporaryDirectory(prefix="braintransfer-speed-") as folder:
        run = Path(folder)
        pictures = np.random.default_rng(0).integers(0, 256, (1000, side, side), dtype=np.uint8)
        writer = StoreWriter(run / "store", (side, side))
        for start in range(0, n, 1000):
            part = pictures[: min(1000, n - start)]
            writer.add(part, np.zeros_like(part), subject=f"p{start}", scan=f"p{start}", label="one")
        writer.finish({"train": [f"p{s}" for s in range(0, n, 1000)], "validation": [], "dropped": []})
        write_manifest(run / "store", stage="prepare", key="made up", parameters={}, code="", inputs={})
        seconds, memory = _fresh("reading", run / "store", batch, batches)
    return seconds, memory


def _read_batches(path: Path, batch: int, batches: int) -> tuple[float, float]:
    store = open_store(path)
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(batches):
        rows = rng.integers(0, len(store.slices), batch)
        start = time.perf_counter()
        store.load(rows)
        seconds.append(time.perf_counter() - start)
    gc.collect()
    return median(seconds), _private_mb()


def _private_mb() -> float:
    """Memory of this process that is not a file's: Linux only; NaN elsewhere."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return math.nan
    line = next(x for x in status.read_text().splitlines() if x.startswith("RssAnon:"))
    return int(line.split()[1]) / 2**10


# ------------------------------------------------------------------------------------------------------- preparing scans
def preparing_table(
    sizes: tuple[int, ...] = (5, 20), spacing: float = 1.0, side: tuple[int, int] = (224, 192)
) -> pd.DataFrame:
    """Preparing a set of so many whole scans for slices of `side` pixels: its time, peak memory, and how long it takes again.

    The sets are made up: one simulated person with lesions, saved so many times in NIfTI, each a little brighter. spacing: mm, of
    the scans and of the slices. Each preparation is a process of its own.
    """
    person = next(recipes.scans(recipes.load_recipe("simulated_ms"), None, 1, 0, spacing=spacing))
    rows = []
    for n in sizes:
        with tempfile.TemporaryDirectory(prefix="braintransfer-speed-") as folder:
            _save_copies(person, n, Path(folder))
            (seconds, busy, memory), (again, hardly, _) = (
                _fresh("preparing", folder, spacing, *side) for _ in range(2)
            )
        rows.append(
            {
                "scans": n,
                "voxels a scan": " x ".join(map(str, person.mask.shape)),
                "scans a minute": round(60 * n / seconds, 1),
                "CPU-s a scan": round(busy / n, 2),
                "peak memory (MB)": round(memory),
                "a second time (s)": round(again, 1),
                "CPU-s of it": round(hardly, 2),
            }
        )
    return pd.DataFrame(rows)


def _save_copies(person: recipes.SubjectScan, n: int, root: Path) -> None:
    """A data folder with a set `made_up` of `n` people and its recipe."""
    (root / "made_up").mkdir()
    (root / "made_up" / "recipe.yaml").write_text(
        "name: made_up\ntitle: Made up for a measurement\nkind: volumes\nlicence: none\naccess: {how: own}\ncells: [ms]\n"
        'patterns: {image: ["{subject}_T1w.nii.gz"], mask: "{subject}_mask.nii.gz"}\n',
        encoding="utf-8",
    )
    for k in range(n):
        grey = np.round(person.image.data * (1 + k / 100)).astype(np.int16)
        for kind, data in (("T1w", grey), ("mask", person.mask)):
            nib.save(nib.Nifti1Image(data, person.image.affine), root / "made_up" / f"p{k:03d}_{kind}.nii.gz")


def _prepare_once(root: Path, spacing: float, side: tuple[int, int]) -> tuple[float, float, float]:
    """Seconds that `prepare` took by the clock and of the processor, and the peak memory of this process in MB."""
    settings = PrepareSettings(
        profile="proof", read_from=str(root / "run"), write_to=str(root / "run"), dataset="made_up", recipe="made_up",
        role="showcase", target="ms", data=str(root), spacing=spacing, size=list(side),
    )  # fmt: skip
    start, busy = time.perf_counter(), time.process_time()
    prepare(settings, report=lambda _: None)
    return time.perf_counter() - start, time.process_time() - busy, peak_memory_mb()


# -------------------------------------------------------------------------------------------------------------- whole runs
#: What a whole run may have more of -> how much of it is tried.
RUNS = {"people tested": (5, 15, 45), "sources": (1, 3, 6), "seeds": (1, 2, 4)}
STEPS = 60


def run_of(people: int, sources: int, seeds: int, steps: int = STEPS) -> tuple[dict[str, Any], str]:
    """A profile with one simulated target, anatomy, and its cells as `run --only` takes them.

    people: tested, at least five; as many are prepared beside them, of whom four are trained on. sources: trained here, MRI
    first. steps: of each training.
    """
    schedule = {"steps": steps, "batch": 8, "learning_rate": 0.003, "crop": 64}
    people_of = {"subjects": 2 * people, "folds": 2, "run_folds": [0], "n_train": 4, "n_validation": 1}
    profile = {
        "title": "Made up for a measurement", "size_note": "Its numbers mean nothing.", "encoder": ENCODER, "seed": 0,
        "seeds": list(range(seeds)), "spacing": 3.0, "size": [96, 64], "source_size": 64, "source_images": 60,
        "sources": {domain: {"recipe": f"simulated_{domain}", "images": 100} for domain in study.DOMAINS},
        "targets": {target: {"recipe": f"simulated_{target}", **people_of} for target in study.TARGETS},
        "pretrain": schedule, "finetune": schedule,
    }  # fmt: skip
    chosen = sorted(study.PRETRAINED_HERE, key=lambda source: not source.startswith("mri"))[:sources]
    return profile, ",".join(f"anatomy:{source}" for source in chosen)


def runs_table(
    report: Callable[[str], None] = print, tried: Mapping[str, Sequence[int]] = RUNS, steps: int = STEPS
) -> pd.DataFrame:
    """Whole runs with more people, sources or seeds, one stage at a time: their time by the clock, and the largest stage's memory.

    Each is `braintransfer run` in a project of its own. Columns: what grows, cost, grows with power, each one more (s), peak
    memory (MB, of the smallest and the largest run).
    """
    measured: dict[tuple[int, int, int], tuple[float, float]] = {}
    least = {what: min(sizes) for what, sizes in tried.items()}
    rows = []
    for what, sizes in tried.items():
        seconds, memory = [], []
        for size in sizes:
            now = least | {what: size}
            asked = now["people tested"], now["sources"], now["seeds"]
            if asked not in measured:
                measured[asked] = _run_once(*run_of(*asked, steps=steps))
                report(f"{what} {size}: {measured[asked][0]:.0f} s")
            seconds.append(measured[asked][0])
            memory.append(measured[asked][1])
        rows.append(
            {
                "what grows": what,
                "cost": "; ".join(f"{n}: {cost:.0f} s" for n, cost in zip(sizes, seconds, strict=True)),
                "grows with power": round(exponent(list(sizes), seconds), 2),
                "each one more (s)": round(float(np.polyfit(sizes, seconds, 1)[0]), 2),
                "peak memory (MB)": f"{memory[0]:.0f} to {memory[-1]:.0f}",
            }
        )
    return pd.DataFrame(rows)


def _run_once(profile: dict[str, Any], only: str) -> tuple[float, float]:
    """Seconds of a whole run of a profile, and the peak memory (MB) of its largest stage. BadInput when it does not finish."""
    with tempfile.TemporaryDirectory(prefix="braintransfer-speed-") as folder:
        project = Path(folder)
        copy_project(project_root(), project, "notebooks", "book/proof")
        (project / "growing.yaml").write_text(json.dumps(profile), encoding="utf-8")
        asked = ["run", "--profile", "growing.yaml", "--only", only, "--jobs", "1"]
        command = [sys.executable, "-m", "braintransfer.cli", *asked]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise BadInput(f"a run that was to be timed did not finish: {(done.stdout + done.stderr)[-500:]}")
        manifests = [json.loads(path.read_text(encoding="utf-8")) for path in (project / "runs").rglob(MANIFEST)]
        return seconds, max(float(manifest["peak_memory_mb"]) for manifest in manifests)


def main(arguments: list[str]) -> None:
    """What the fresh processes of the tables do; the last line printed is JSON."""
    if arguments[0] == "reading":
        result: Any = _read_batches(Path(arguments[1]), int(arguments[2]), int(arguments[3]))
    elif arguments[0] == "compiling":
        try:
            result = _compile_once(json.loads(arguments[1]), int(arguments[2]))
        except Exception as error:  # the reason stands first, and below it how to debug a compiler
            sys.exit(str(error).strip().partition("\n")[0] or type(error).__name__)
    elif arguments[0] == "preparing":
        result = _prepare_once(Path(arguments[1]), float(arguments[2]), (int(arguments[3]), int(arguments[4])))
    else:
        name, workers, run, steps, started = arguments
        result = contend(name, int(workers), Path(run), int(steps), float(started))
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
