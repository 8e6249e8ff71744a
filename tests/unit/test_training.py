"""The training loop: same batches and views whatever the source, equal bytes from equal input, and honest history."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from braintransfer import claims, study, training
from braintransfer.errors import BadInput
from braintransfer.machine import Machine
from braintransfer.network import build_classifier, build_unet, normalise
from braintransfer.pretrain import training_rows
from braintransfer.provenance import project_root, write_manifest
from braintransfer.store import StoreWriter, open_store
from braintransfer.training import (
    BATCHES,
    LOSSES,
    Schedule,
    batch_order,
    first_batches,
    fit,
    held_out_performance,
    held_out_pictures,
    segmentation_batch,
    segmentation_loss,
    start_at_prior,
)
from braintransfer.transfer import start_from

ENCODER = "tf_efficientnet_lite0"
MACHINE = Machine("cpu", "fp32", True, 1)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def slices() -> tuple[np.ndarray, np.ndarray]:
    """Dark discs on bright noise: (40, 64, 64) pictures and masks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    masks = np.stack([(y - rng.integers(16, 48)) ** 2 + (x - rng.integers(16, 48)) ** 2 < 144 for _ in range(40)])
    images = 170 - 110 * masks + rng.normal(0, 12, masks.shape)
    return images.clip(0, 255).astype(np.uint8), masks.astype(np.uint8)


class Tiny(nn.Module):
    """Something to train that costs nothing."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer = nn.Conv2d(3, outputs, 3, padding=1)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.rand(p.shape, generator=generator) - 0.5)

    def forward(self, images):
        return self.layer(images)


def train(
    network, slices, *, seed=0, schedule=None, report=lambda line: None, make_batch=segmentation_batch, checkpoint=None,
    belongs_to="",
):  # fmt: skip
    schedule = schedule or Schedule(4, 4, crop=32)
    order = batch_order(slices[1].any((1, 2)), schedule.steps, schedule.batch, study.stream(seed, "order"))
    return fit(
        network, lambda rows: (slices[0][rows], slices[1][rows]), order, make_batch, segmentation_loss,
        schedule=schedule, machine=MACHINE, seed=study.stream_seed(seed, "augmentation"), report=report,
        checkpoint=checkpoint, belongs_to=belongs_to,
    )  # fmt: skip


def values(network: nn.Module) -> str:
    total = hashlib.sha256()
    for value in network.state_dict().values():
        total.update(value.contiguous().numpy().tobytes())
    return total.hexdigest()


# ------------------------------------------------------------------------------- what a deliberate mistake must not pass
STILL = Schedule(1, 8, crop=64, augmentation=0)


def test_the_three_tasks_of_a_source_see_the_same_views(slices):
    """Not in the first batch alone: what a task does to its views must not move the stream that draws them."""

    def read(rows):
        return slices[0][rows], slices[1][rows], np.arange(4)

    schedule, order = Schedule(3, 4, crop=32), np.arange(12).reshape(3, 4)
    of_task = [list(first_batches(3, read, order, BATCHES[task], schedule, MACHINE, 2)) for task in study.TASKS]
    for (classified, labels), (segmented, masks), (corrupted, original) in zip(*of_task, strict=True):
        assert torch.equal(classified, segmented) and torch.equal(segmented, original)
        assert not torch.equal(corrupted, original)
        assert labels.tolist() == [0, 1, 2, 3] and masks.shape == (4, 32, 32)
    assert not torch.equal(of_task[0][0][0], of_task[0][1][0])


@pytest.mark.parametrize("steps", [1, 2, 7, 150])
def test_the_rate_warms_up_and_falls_towards_nothing(steps):
    schedule = Schedule(steps, 8, learning_rate=0.01)
    rates = [schedule.rate(step) for step in range(steps)]
    assert all(0 < rate <= 0.01 for rate in rates)
    top = int(np.argmax(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    if steps == 150:
        assert rates[0] < 0.002 and top == schedule.warmup_steps
        assert max(rates) == pytest.approx(0.01) and rates[-1] < 1e-4


def test_every_mask_stays_with_its_own_picture(slices):
    read = ((slices[1][:8] * 255).astype(np.uint8), slices[1][:8])
    inputs, masks = segmentation_batch(read, torch.Generator().manual_seed(0), STILL, MACHINE)
    assert torch.equal((inputs[:, 0] > 0).long(), masks)


def test_the_loop_is_plain_adamw_at_the_rates_of_the_history(slices):
    """Written out: fresh gradients each step, clipped, at the schedule's rate."""
    schedule = Schedule(6, 4, crop=32)
    network, plain = Tiny(), Tiny().train()
    history = train(network, slices, schedule=schedule)
    order = batch_order(slices[1].any((1, 2)), 6, 4, study.stream(0, "order"))
    generator = torch.Generator().manual_seed(study.stream_seed(0, "augmentation"))
    adam = torch.optim.AdamW(plain.parameters(), weight_decay=schedule.weight_decay, fused=True)
    for step, rows in enumerate(order):
        inputs, masks = segmentation_batch((slices[0][rows], slices[1][rows]), generator, schedule, MACHINE)
        gradients = torch.autograd.grad(segmentation_loss(plain(inputs), masks), list(plain.parameters()))
        for parameter, gradient in zip(plain.parameters(), gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(plain.parameters(), training.MAX_NORM)
        adam.param_groups[0]["lr"] = schedule.rate(step)
        adam.step()
    for mine, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert history.learning_rates == tuple(schedule.rate(step) for step in range(6))


class Normed(Tiny):
    """With a BatchNorm layer, whose statistics training has to leave and evaluation has to use."""

    def __init__(self) -> None:
        super().__init__()
        self.norm: Any = nn.BatchNorm2d(2, momentum=0.5)

    def forward(self, images):
        return self.norm(super().forward(images))


def test_a_training_leaves_its_batch_statistics_and_evaluation_leaves_them_alone(slices):
    network = Normed()
    train(network, slices, schedule=Schedule(12, 8, crop=32))
    left = network.norm.running_mean.clone(), network.norm.running_var.clone()
    inputs, _ = segmentation_batch(
        (slices[0], slices[1]), torch.Generator().manual_seed(0), Schedule(1, 40, crop=32), MACHINE
    )
    with torch.no_grad():
        before_norm = network.layer(inputs)
    assert torch.allclose(left[0], before_norm.mean((0, 2, 3)), atol=0.1)
    assert torch.allclose(left[1], before_norm.var((0, 2, 3)), rtol=0.5, atol=0.02)
    whole = training.outputs(network, slices[0][:8], MACHINE)
    alone = torch.cat([training.outputs(network, slices[0][k : k + 1], MACHINE) for k in range(8)])
    torch.testing.assert_close(whole, alone)
    assert torch.equal(left[0], network.norm.running_mean) and torch.equal(left[1], network.norm.running_var)


def test_evaluation_normalises_as_training_does(slices):
    read = (slices[0][:8], slices[1][:8])
    inputs, _ = segmentation_batch(read, torch.Generator().manual_seed(0), STILL, MACHINE)
    evaluated = training.outputs(nn.Identity(), slices[0][:8], MACHINE)
    for view, picture in zip(inputs, evaluated, strict=True):  # a view without any strength may still be mirrored
        assert torch.allclose(view, picture, atol=1e-4) or torch.allclose(view, picture.flip(-1), atol=1e-4)


def test_a_source_trains_on_its_training_pictures_alone(tmp_path):
    writer = StoreWriter(tmp_path, (8, 8))
    for k in range(6):
        writer.add(np.full((2, 8, 8), k, np.uint8), np.zeros((2, 8, 8), np.uint8), subject=f"g{k}", scan=f"g{k}")
    parts = {"train": ["g0", "g1", "g3"], "validation": ["g2", "g5"], "dropped": ["g4"]}
    writer.finish(parts)
    write_manifest(tmp_path, stage="prepare", key="k", parameters={}, code="", inputs={})
    store = open_store(tmp_path)
    assert set(store.slices["subject"].to_numpy()[training_rows(store, 0, 0)]) == set(parts["train"])
    few = [training_rows(store, 4, seed) for seed in (0, 0, 1)]
    assert set(store.slices["subject"].to_numpy()[few[0]]) <= set(parts["train"]) and len(few[0]) == 4
    assert few[0].tolist() == few[1].tolist() != few[2].tolist()


# ------------------------------------------------------------------------------------------------------ order of rows
def test_the_order_of_batches_is_the_seeds_alone():
    foreground = np.arange(50) % 5 == 0
    first, second, other = (batch_order(foreground, 20, 8, study.stream(s, "order")) for s in (0, 0, 1))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert first.shape == (20, 8) and first.min() >= 0 and first.max() < 50


def test_most_of_every_batch_shows_the_target():
    foreground = np.zeros(200, bool)
    foreground[[3, 50, 120]] = True
    order = batch_order(foreground, 30, 8, study.stream(0, "order"))
    assert (foreground[order].sum(axis=1) >= 6).all() and foreground[order].mean() < 0.8


@pytest.mark.parametrize("shown", [True, False])
def test_every_row_comes_once_before_any_comes_again(shown):
    order = batch_order(np.full(24, shown), 6, 8, study.stream(0, "order")).ravel()
    assert sorted(order[:24]) == sorted(order[24:48]) == list(range(24))


def test_nothing_to_train_on_is_refused():
    with pytest.raises(BadInput, match="no rows to train on"):
        batch_order(np.zeros(0, bool), 1, 1, study.stream(0, "order"))


# ------------------------------------------------------------------------------------------------------------ fairness
def test_a_segmentation_starts_at_how_often_each_class_is_seen_whatever_the_source(slices):
    schedule = Schedule(4, 4, crop=32)
    order = batch_order(slices[1].any((1, 2)), 4, 4, study.stream(0, "order"))
    shown, biases = [], []

    def read(rows):
        return slices[0][rows], slices[1][rows]

    def recorded(*arguments):
        inputs, masks = segmentation_batch(*arguments)
        shown.append(masks)
        return inputs, masks

    for source in ("scratch", "imagenet"):
        network: Any = build_unet(ENCODER, 2, 0)
        start_from(network, source)
        start_at_prior(network, first_batches(4, read, order, recorded, schedule, MACHINE, 7))
        biases.append(network.segmentation_head[0].bias.detach().clone())
    assert torch.equal(*biases)
    share = (torch.cat(shown) > 0).double().mean()
    assert float(biases[0].double().softmax(0)[1]) == pytest.approx(float(share), abs=1e-3)


def test_every_source_sees_the_same_views_in_the_same_order(slices):
    """What the network is shown is recorded for three kinds of start and has to agree to the byte."""
    seen = {}
    for source in ("scratch", "imagenet", "own weights"):
        network = build_unet(ENCODER, 2, 0)
        if source == "own weights":
            network = build_unet(ENCODER, 2, 9)
        else:
            start_from(network, source)
        digest = hashlib.sha256()

        def recorded(*arguments, digest=digest):
            inputs, targets = segmentation_batch(*arguments)
            digest.update(inputs.contiguous().numpy().tobytes() + targets.numpy().tobytes())
            return inputs, targets

        train(network, slices, schedule=Schedule(2, 2, crop=32), make_batch=recorded)
        seen[source] = digest.hexdigest()
    assert len(set(seen.values())) == 1


def test_training_draws_from_no_random_state_but_its_seeds(slices):
    results = set()
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        np.random.seed(disturbance)
        network = Tiny()
        train(network, slices)
        results.add(values(network))
    assert len(results) == 1


# ------------------------------------------------------------------------------------------------------------ the loop
def test_equal_input_gives_equal_bytes(slices):
    results = []
    for _ in range(2):
        network = build_unet(ENCODER, 2, 0)
        history = train(network, slices, schedule=Schedule(3, 4, crop=64))
        results.append((values(network), history.losses))
    assert results[0] == results[1]


class Stopped(Exception):
    pass


def stopped_after(steps):
    """A way to make batches that ends the training, as a kill would, when so many have been made."""
    made = []

    def make(*given):
        made.append(1)
        if len(made) > steps:
            raise Stopped
        return segmentation_batch(*given)

    return make


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_training_that_is_stopped_goes_on_and_ends_in_the_same_bytes(slices, tmp_path, monkeypatch, after):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    schedule = Schedule(steps=6, batch=4, crop=32)
    straight, path = build_unet(ENCODER, 2, 0), tmp_path / "training.safetensors"
    said: list[str] = []
    history = train(straight, slices, schedule=schedule)
    with pytest.raises(Stopped):
        train(build_unet(ENCODER, 2, 0), slices, schedule=schedule, make_batch=stopped_after(after), checkpoint=path)
    left = stopped_after(6 - after)
    again = build_unet(ENCODER, 2, 0)
    went_on = train(again, slices, schedule=schedule, make_batch=left, checkpoint=path, report=said.append)
    assert said[0] == f"  goes on after step {after} of 6"
    assert values(again) == values(straight)
    assert went_on.losses == history.losses
    assert 0 < went_on.earlier < went_on.seconds, "its time counts from its first step, as its pictures do"
    # at the end it is written down as well, so that a kill while scoring costs no training
    whole = build_unet(ENCODER, 2, 0)
    train(whole, slices, schedule=schedule, make_batch=stopped_after(0), checkpoint=path)
    assert values(whole) == values(straight)


def test_a_checkpoint_of_another_training_or_a_torn_one_is_not_taken_up(slices, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    path, schedule = tmp_path / "training.safetensors", Schedule(steps=3, batch=4, crop=32)
    train(build_unet(ENCODER, 2, 1), slices, schedule=schedule, checkpoint=path)
    straight, mine = build_unet(ENCODER, 2, 0), build_unet(ENCODER, 2, 0)
    train(straight, slices, schedule=schedule)
    train(mine, slices, schedule=schedule, checkpoint=path)
    assert values(mine) == values(straight)
    path.write_bytes(path.read_bytes()[:1000])
    again = build_unet(ENCODER, 2, 0)
    train(again, slices, schedule=schedule, checkpoint=path)
    assert values(again) == values(straight)


def test_a_checkpoint_is_not_taken_up_after_an_edit_of_code_or_pictures(slices, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "training.safetensors"
    said: list[str] = []
    with pytest.raises(Stopped):
        train(Tiny(), slices, make_batch=stopped_after(2), checkpoint=path, belongs_to="as it was")
    inverted, straight, mine = (255 - slices[0], slices[1]), Tiny(), Tiny()
    train(straight, inverted)
    train(mine, inverted, checkpoint=path, belongs_to="with other pictures", report=said.append)
    assert not any("goes on" in line for line in said)
    assert values(mine) == values(straight)


def test_rows_that_lie_on_the_device_give_the_same_training(slices, tmp_path, monkeypatch):
    """Here the device is the CPU; what is kept on a GPU is put there by the same lines. Stopped half-way, too."""
    plain, held, again = Tiny(), Tiny(), Tiny()
    train(plain, slices)
    monkeypatch.setattr(training, "_fits", lambda read, order, machine: True)
    monkeypatch.setattr(training, "TAKEN", 3)
    train(held, slices)
    assert values(held) == values(plain)
    monkeypatch.setenv("BRAINTRANSFER_CHECKPOINT_SECONDS", "0")

    def stop(line: str) -> None:
        if "step    2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Tiny(), slices, report=stop, checkpoint=tmp_path / "training.safetensors")
    train(again, slices, checkpoint=tmp_path / "training.safetensors")
    assert values(again) == values(plain)


def test_rows_are_kept_on_a_gpu_where_they_fit_and_never_on_a_cpu(slices, monkeypatch):
    order, gpu = np.array([[0, 1], [1, 2]]), Machine("cuda", "bf16", True, 1)
    needed = 3 * 2 * 64 * 64

    def read(rows):
        return slices[0][rows], slices[1][rows]

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(needed / training.RESIDENT), 0))
    assert training._fits(read, order, gpu) and not training._fits(read, order, MACHINE)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(needed / training.RESIDENT) - 4, 0))
    assert not training._fits(read, order, gpu)


class Waits(TorchDispatchMode):
    """Notes each copy between the host and the device; a GPU is waited for at one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        places = {t.device.type for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)}
        if len(places) > 1:
            self.seen.append(str(func))
        return out


class MadeThere(TorchFunctionMode):
    """Notes each tensor made of Python numbers on a device: it is made here and copied."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.tensor and torch.device((kwargs or {}).get("device") or "cpu").type != "cpu":
            self.seen.append("torch.tensor")
        return func(*args, **(kwargs or {}))


class Elsewhere(Machine):
    """A device that only keeps account of shapes, so that a step can be followed where no GPU is."""

    def autocast(self):
        return contextlib.nullcontext()


@pytest.mark.parametrize("task", ["classification", "segmentation", "selfsupervised", "contrastive", "fine-tuning"])
def test_a_training_step_never_waits_for_its_device(task):
    machine = Elsewhere("meta", "fp32", True, 1)
    outputs = {"classification": 10, "segmentation": 2, "selfsupervised": 3, "contrastive": 16, "fine-tuning": 2}[task]
    whole = task in ("classification", "contrastive")
    network = build_classifier(ENCODER, outputs, 0) if whole else build_unet(ENCODER, outputs, 0)
    network = machine.place(network).train()
    state = training._State(
        network, network, torch.optim.AdamW(network.parameters(), foreach=True), torch.Generator().manual_seed(0)
    )
    rows = tuple(torch.zeros(size, dtype=torch.uint8, device="meta") for size in ((4, 96, 96), (4, 96, 96), (4,)))
    make_batch = BATCHES.get(task, segmentation_batch)
    schedule = Schedule(3, 4, crop=64)
    for step in range(3):
        with Waits() as waits, MadeThere(waits.seen):
            inputs, targets = make_batch(rows, state.generator, schedule, machine)
            training._learn(state, inputs, targets, LOSSES.get(task, segmentation_loss), schedule, machine)
        if step:  # the first brings the constants of a view
            assert waits.seen == []
    assert inputs.device.type == "meta" and len(state.losses) == 3


def test_a_wait_for_the_device_is_noticed():
    there, seen = torch.ones(3, device="meta"), []
    for make in (lambda: torch.ones(3).to("meta"), lambda: torch.tensor([1.0, 2.0, 3.0], device="meta")):
        with Waits() as waits, MadeThere(waits.seen):
            there + make()
        seen.append(len(waits.seen))
    assert seen == [1, 1]
    # this device has no values, so it cannot answer
    for asked in (lambda: there.sum().item(), lambda: there[there > 0]):
        with pytest.raises((RuntimeError, NotImplementedError)):
            asked()


def test_another_seed_gives_another_network(slices):
    first, second = Tiny(), Tiny()
    train(first, slices, seed=0)
    train(second, slices, seed=1)
    assert values(first) != values(second)


def test_a_network_learns_to_segment_and_its_batch_statistics_serve_evaluation(slices):
    """Too few steps for the whole network from random weights, so it starts from public ones."""
    network = build_unet(ENCODER, 2, 0)
    start_from(network, "imagenet")
    history = train(network, slices, schedule=Schedule(40, 8, learning_rate=3e-3, crop=32))
    assert np.mean(history.losses[-5:]) < 0.7 * np.mean(history.losses[:5])
    learned = held_out_performance(
        "segmentation", network, slices[0], slices[1], np.zeros(40, int), machine=MACHINE, mean_image=slices[0].mean(0)
    )
    assert learned["dice"] > 0.6 and learned["learned"] is True


def test_the_history_tells_what_happened(slices):
    lines: list[str] = []
    schedule = Schedule(16, 4, crop=32)
    history = train(Tiny(), slices, schedule=schedule, report=lines.append)
    frame = history.to_frame()
    assert list(frame.columns) == ["step", "loss", "learning_rate"] and frame["step"].tolist() == list(range(1, 17))
    assert history.samples == 64 and history.seconds > 0 and 50 < history.peak_memory_mb < 100_000
    assert len(lines) == training.REPORTS and "step   16/16" in lines[-1] and "loss" in lines[-1]
    assert np.isfinite(frame["loss"]).all()


def test_a_loss_that_is_not_finite_stops_with_the_step_and_what_to_do(slices):
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        return segmentation_loss(outputs, targets) * (float("nan") if len(calls) >= 3 else 1)

    schedule = Schedule(8, 2, crop=32)
    order = batch_order(np.ones(40, bool), 8, 2, study.stream(0, "order"))
    with pytest.raises(BadInput, match="loss became nan at step 3 of 8 .*lower learning_rate") as caught:
        fit(Tiny(), lambda r: (slices[0][r], slices[1][r]), order, segmentation_batch, loss,
            schedule=schedule, machine=MACHINE, seed=0, report=lambda line: None)  # fmt: skip
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------------------------- losses
def test_the_segmentation_loss_is_lowest_for_the_truth():
    masks = torch.zeros(2, 16, 16, dtype=torch.long)
    masks[:, 4:9, 4:9] = 1
    truth = torch.nn.functional.one_hot(masks, 2).permute(0, 3, 1, 2).float() * 20
    flipped, undecided = truth.flip(1), torch.zeros_like(truth)
    losses = [float(segmentation_loss(logits, masks)) for logits in (truth, undecided, flipped)]
    assert losses[0] < 0.01 and losses[0] < losses[1] < losses[2]


def test_the_segmentation_loss_is_that_of_its_formula():
    logits = torch.tensor([[[[0.0, 2.0]], [[1.0, -1.0]], [[0.5, 0.0]]]])
    masks = torch.tensor([[[1, 0]]])
    p = torch.softmax(logits, 1)[0, :, 0]
    cross = -(p[1, 0].log() + p[0, 1].log()) / 2
    dice = [(2 * p[1, 0] + 1) / (p[1].sum() + 1 + 1), torch.tensor(1.0) / (p[2].sum() + 1)]
    expected = cross + 1 - (dice[0] + dice[1]) / 2
    torch.testing.assert_close(segmentation_loss(logits, masks), expected)


# ------------------------------------------------------------------------------------------------ did a source learn?
class Answer(nn.Module):
    """Says the same whatever it is shown, or what `say` makes of it."""

    def __init__(self, say) -> None:
        super().__init__()
        self.say = say

    def forward(self, images):
        return self.say(images)


def performance(task, say, slices, labels=None):
    labels = np.arange(40) % 4 if labels is None else labels
    return held_out_performance(
        task,
        Answer(say),
        slices[0],
        slices[1],
        labels,
        machine=Machine(),
        mean_image=slices[0].mean(0, dtype=np.float32),
    )


def test_answering_the_commonest_class_is_not_learning(slices):
    labels = np.array([0] * 20 + [1, 2] * 10)
    constant = performance("classification", lambda x: torch.tensor([1.0, 0, 0]).expand(len(x), 3), slices, labels)
    assert (constant["accuracy"], constant["chance"], constant["learned"]) == (0.5, 0.5, False)


def test_calling_everything_foreground_is_not_learning(slices):
    def everything(x):
        return torch.stack([torch.zeros_like(x[:, 0]), torch.ones_like(x[:, 0])], 1)

    def dark(x):
        return torch.stack([x[:, 0], -x[:, 0]], 1)

    trivial, good = performance("segmentation", everything, slices), performance("segmentation", dark, slices)
    assert trivial["dice"] == pytest.approx(trivial["all_foreground"]) and not trivial["learned"]
    assert good["dice"] > 0.9 and good["learned"]


def test_leaving_a_picture_as_it_is_or_showing_the_mean_is_not_restoring(slices):
    untouched = performance("selfsupervised", lambda x: x, slices)
    assert not untouched["learned"] and untouched["restoration_error"] > 0
    mean = torch.from_numpy((slices[0].mean(0) - 127) / 128).float()
    mean_shown = performance("selfsupervised", lambda x: mean.expand(len(x), 3, -1, -1), slices)
    assert mean_shown["restoration_error"] == pytest.approx(mean_shown["mean_image_error"], rel=1e-3)
    assert not mean_shown["learned"]


def better_and_better(task, share, slices, labels):
    """What is said of all pictures in order: nothing of the task known at share 0, all of it at 1."""
    images, masks = slices
    if task == "classification":
        right = np.where(np.arange(len(labels)) < round(share * len(labels)), labels, (labels + 1) % 4)
        return torch.eye(4)[torch.from_numpy(right)]
    if task == "segmentation":
        rows = np.arange(masks.shape[1])[None, :, None] >= round(share * masks.shape[1])
        return torch.eye(2)[torch.from_numpy(((masks > 0) | rows).astype(int))].permute(0, 3, 1, 2)
    mixed = share * images.astype(np.float32) + (1 - share) * images.mean(0)
    return ((torch.from_numpy(mixed) - 127) / 128).float()[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize("task", ["classification", "segmentation", "selfsupervised"])
def test_the_gate_of_the_claims_and_the_training_agree_on_who_has_learned(task, slices):
    rule = claims.load(project_root() / "notebooks" / "claims.yaml").gates.source_learned
    labels, said = np.arange(40) % 4, []
    for share in np.arange(0, 1.01, 0.025):
        answers = iter(better_and_better(task, share, slices, labels).split(16))
        found = performance(task, lambda x, answers=answers: next(answers), slices, labels)
        said.append(found["learned"])
        assert claims.source_has_learned(rule, task, found) is said[-1], found
    assert said == sorted(said) and set(said) == {False, True}, "from some share on it has learned"


@pytest.mark.parametrize("task", ["classification", "segmentation", "selfsupervised"])
@pytest.mark.parametrize("colour", [False, True])
def test_each_pretraining_task_runs_from_pictures_to_held_out_result(slices, task, colour):
    images = np.repeat(slices[0][..., None], 3, axis=3) if colour else slices[0]
    labels = np.arange(40) % 4
    network: nn.Module = (
        build_classifier(ENCODER, 4, 0)
        if task == "classification"
        else build_unet(ENCODER, {"segmentation": 2, "selfsupervised": 3}[task], 0)
    )
    schedule = Schedule(2, 4, crop=32)
    order = batch_order(np.ones(40, bool), 2, 4, study.stream(0, "order"))
    history = fit(
        network, lambda r: (images[r], slices[1][r], labels[r]), order, BATCHES[task], LOSSES[task],
        schedule=schedule, machine=MACHINE, seed=0, report=lambda line: None,
    )  # fmt: skip
    assert len(history.losses) == 2
    part = slice(0, 4)
    learned = held_out_performance(
        task, network, images[part], slices[1][part], labels[part], machine=MACHINE, mean_image=images.mean(0)
    )
    assert learned["task"] == task and learned["n"] == 4 and isinstance(learned["learned"], bool)
    pictures = held_out_pictures(task, network, images[part], machine=MACHINE)
    shapes = {name: array.shape for name, array in pictures.items()}
    assert (
        shapes
        == {
            "classification": {"probabilities": (4, 4)},
            "segmentation": {"predictions": (4, 64, 64)},
            "selfsupervised": {"corrupted": images[part].shape, "restored": images[part].shape},
        }[task]
    )


def test_another_number_of_threads_changes_nothing_but_the_rounding(slices) -> None:
    """What two machines may differ by, at the first batch: in double precision nothing (1e-8 of the gradient's length), in single
    precision the loss by 1e-5 and the gradient by a fiftieth of its length. From there on a training multiplies rounding, so no
    promise is made of its last bits.
    """
    images, masks = normalise(torch.from_numpy(slices[0][:8])), torch.from_numpy(slices[1][:8]).long()

    def first(threads: int, precision: torch.dtype) -> tuple[float, torch.Tensor]:
        torch.set_num_threads(threads)
        network = build_unet(ENCODER, 2, 0).to(precision).train()
        loss = functional.cross_entropy(network(images.to(precision)), masks)
        loss.backward()
        return loss.item(), torch.cat([p.grad.double().flatten() for p in network.parameters() if p.grad is not None])

    for precision, of_loss, of_gradient in ((torch.float64, 1e-12, 1e-8), (torch.float32, 1e-5, 2e-2)):
        loss, gradient = first(1, precision)
        for threads in (2, 3):
            other, turned = first(threads, precision)
            assert other == pytest.approx(loss, rel=of_loss)
            apart = float((turned - gradient).norm() / gradient.norm())
            assert apart < of_gradient
