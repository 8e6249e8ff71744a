"""One training over two processes: what it promises beside the same training in one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from braintransfer import distributed, study
from braintransfer.errors import BadInput
from braintransfer.machine import Machine
from braintransfer.network import build_unet
from braintransfer.training import Schedule, batch_order, fit, segmentation_batch, segmentation_loss

from timm.layers import BatchNormAct2d  # isort: skip  # torchvision must come by way of our package

pytest.importorskip("accelerate", reason='pip install -e ".[devices]"')

MACHINE = Machine("cpu", "fp32", True, 1)
SCHEDULE = Schedule(steps=4, batch=4, crop=32, learning_rate=0.001)


def train(network, *, checkpoint=None, steps=None, double=False):
    """The same few steps on discs; stops as a kill would before step `steps`. double: in float64, where rounding is small."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    masks = np.stack([(y - rng.integers(16, 48)) ** 2 + (x - rng.integers(16, 48)) ** 2 < 144 for _ in range(16)])
    images = (170 - 110 * masks + rng.normal(0, 12, masks.shape)).clip(0, 255).astype(np.uint8)
    order = batch_order(np.ones(16, bool), SCHEDULE.steps, SCHEDULE.batch, study.stream(0, "order"))
    made = []

    def make(*given):
        made.append(1)
        if steps is not None and len(made) > steps:
            raise RuntimeError("stopped")
        inputs, truth = segmentation_batch(*given)
        return (inputs.double() if double else inputs), truth

    return fit(
        network, lambda rows: (images[rows], masks[rows].astype(np.uint8)), order, make, loss_of(double),
        schedule=SCHEDULE, machine=MACHINE, seed=1, report=lambda line: None, checkpoint=checkpoint,
    )  # fmt: skip


def loss_of(double):
    def dice_of_the_whole_batch(logits, masks):
        p, truth = logits.softmax(1)[:, 1], masks.double()
        dice = 2 * (p * truth).sum() / (p.sum() + truth.sum())
        return nn.functional.cross_entropy(logits, masks) + 1 - dice

    return dice_of_the_whole_batch if double else segmentation_loss


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINTRANSFER_SPREAD", "2")


def test_batchnorm_sees_the_whole_batch(tmp_path: Path) -> None:
    """Outputs, running statistics and gradients of two processes with half a batch each are those of plain BatchNorm."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 3, 5, 4, dtype=torch.float64, generator=generator) * 3 + 100
    wanted = torch.randn(6, 3, 5, 4, dtype=torch.float64, generator=generator)

    def network():
        return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), BatchNormAct2d(3, inplace=False)).double()

    torch.manual_seed(3)
    plain = network()
    start = {name: value.clone() for name, value in plain.state_dict().items()}
    outputs = plain(inputs)
    ((outputs - wanted) ** 2).sum().backward()
    path = tmp_path / "of_rank_1.pt"

    def work(team):
        mine = network()
        mine.load_state_dict(start)
        forward = team.over(mine)  # held: DDP's averaging ends with it
        both = forward(inputs)
        ((both - wanted) ** 2).sum().backward()
        if team.rank == 1:
            gradients = [p.grad for p in mine.parameters()]
            torch.save({"outputs": both.detach(), "state": mine.state_dict(), "gradients": gradients}, path)

    distributed.launch(2, work)
    got = torch.load(path, weights_only=True)
    torch.testing.assert_close(got["outputs"], outputs.detach())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(got["state"][name], value)
    assert not torch.equal(got["state"]["1.running_mean"], start["1.running_mean"])
    for mine, parameter in zip(got["gradients"], plain.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-6, atol=1e-9)


def test_two_processes_end_where_one_does(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study's network, in float64: what is left is rounding, and a loss of the whole batch is no mean of its parts."""
    shared = build_unet("tf_efficientnet_lite0", 2, 0).double()
    begun = {name: value.clone() for name, value in shared.state_dict().items()}
    history = train(shared, double=True)
    monkeypatch.setenv("BRAINTRANSFER_SPREAD", "1")
    alone = build_unet("tf_efficientnet_lite0", 2, 0).double()
    expected = train(alone, double=True)
    assert history.losses[:2] == pytest.approx(expected.losses[:2], rel=1e-10)
    # from step to step rounding grows a thousandfold: AdamW takes whole steps where a gradient is nearly nothing
    assert history.losses == pytest.approx(expected.losses, rel=1e-5)
    moved, apart = [], []
    for name, value in alone.named_parameters():
        moved.append((value - begun[name]).norm())
        apart.append((value - shared.state_dict()[name]).norm())
    ratio = float(torch.stack(apart).norm() / torch.stack(moved).norm())
    print(f"apart, as a share of the way that the weights went: {ratio:.2g}")
    assert ratio < 0.02


def test_a_shared_training_that_is_stopped_goes_on_shared_or_alone(
    two: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINTRANSFER_CHECKPOINT_SECONDS", "0")
    straight = build_unet("tf_efficientnet_lite0", 2, 0)
    history = train(straight)
    path = tmp_path / "training.safetensors"
    with pytest.raises(Exception, match="stopped"):
        train(build_unet("tf_efficientnet_lite0", 2, 0), checkpoint=path, steps=2)
    kept = path.read_bytes()
    again = build_unet("tf_efficientnet_lite0", 2, 0)
    went_on = train(again, checkpoint=path, steps=2)
    assert went_on.losses == history.losses
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), straight.state_dict().values(), strict=True)
    )
    path.write_bytes(kept)
    monkeypatch.setenv("BRAINTRANSFER_SPREAD", "1")
    alone = train(build_unet("tf_efficientnet_lite0", 2, 0), checkpoint=path, steps=2)
    assert alone.losses[:2] == history.losses[:2]
    # the next batch through the same weights; after that AdamW makes much of little where a gradient is nearly nothing
    assert alone.losses[2] == pytest.approx(history.losses[2], rel=1e-4)


def test_a_batch_that_cannot_be_dealt_out_and_nonsense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINTRANSFER_SPREAD", "3")
    with pytest.raises(BadInput, match="batch = 4 cannot be dealt out to 3 devices"):
        train(nn.Conv2d(3, 2, 1))
    monkeypatch.setenv("BRAINTRANSFER_SPREAD", "two")
    with pytest.raises(BadInput, match="BRAINTRANSFER_SPREAD = 'two'"):
        train(nn.Conv2d(3, 2, 1))
