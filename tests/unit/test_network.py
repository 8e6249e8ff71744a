"""The network: same start for every source, the same pictures in, and depthwise layers that are only faster."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from braintransfer import network as networks
from braintransfer import torchvision_ops
from braintransfer.errors import BadInput
from braintransfer.network import (
    Conv2dSame,
    SmallMapDepthwise,
    SmallMapDepthwiseSame,
    build_classifier,
    build_unet,
    digest,
    normalise,
    normalise_unit,
)

ENCODER = "tf_efficientnet_lite0"


def test_torchvision_is_whole_beside_any_build_of_torch():
    """Imported, and its operator known: the real one, or the declaration where its compiled part does not load."""
    import torchvision.ops

    assert callable(torchvision.ops.nms) and torch.ops.torchvision.nms is not None
    assert (torchvision_ops.DECLARED is None) == torchvision.extension._has_ops()


def test_the_same_seed_builds_the_same_bytes_and_another_seed_others():
    first, second, other = (build_unet(ENCODER, 2, seed) for seed in (0, 0, 1))
    for encoder in (True, False):
        assert digest(first, encoder=encoder) == digest(second, encoder=encoder)
        assert digest(first, encoder=encoder) != digest(other, encoder=encoder)


def test_the_decoder_does_not_depend_on_what_the_encoder_drew(monkeypatch):
    plain = build_unet(ENCODER, 4, 3)
    seeds = networks.study.stream_seed
    monkeypatch.setattr(
        networks.study, "stream_seed", lambda seed, name: seeds(seed + 50 * (name == "encoder weights"), name)
    )
    moved = build_unet(ENCODER, 4, 3)
    assert digest(plain, encoder=True) != digest(moved, encoder=True)
    assert digest(plain, encoder=False) == digest(moved, encoder=False)


def test_every_pretraining_task_starts_from_the_same_encoder():
    assert digest(build_unet(ENCODER, 3, 5), encoder=True) == digest(build_classifier(ENCODER, 7, 5), encoder=True)


def test_building_leaves_the_random_state_of_the_caller_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    build_unet(ENCODER, 2, 0)
    assert torch.equal(torch.rand(3), expected)


def test_outputs_have_the_promised_shapes():
    pictures = normalise(torch.zeros(2, 64, 96, dtype=torch.uint8))
    with torch.inference_mode():
        assert build_unet(ENCODER, 4, 0).eval()(pictures).shape == (2, 4, 64, 96)
        assert build_classifier(ENCODER, 5, 0).eval()(pictures).shape == (2, 5)


def test_an_unknown_encoder_is_refused_in_one_line():
    for build in (lambda: build_unet("resnet_of_nobody", 2, 0), lambda: build_classifier("resnet_of_nobody", 2, 0)):
        with pytest.raises(BadInput, match="encoder = 'resnet_of_nobody'") as caught:
            build()
        assert "\n" not in str(caught.value)


def test_grey_and_colour_pictures_are_normalised_alike():
    pixels = torch.from_numpy(np.arange(256, dtype=np.uint8).reshape(1, 16, 16))
    expected = (pixels.float() - 127) / 128
    grey = normalise(pixels)
    assert grey.shape == (1, 3, 16, 16)
    for channel in range(3):
        torch.testing.assert_close(grey[:, channel], expected, atol=1e-6, rtol=0)
    colour = normalise(pixels.unsqueeze(-1).expand(-1, -1, -1, 3))
    assert torch.equal(colour, grey)
    assert torch.equal(normalise_unit(pixels.float().unsqueeze(1) / 255), grey)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("channels", "size", "kernel"), [(8, (2, 2), 5), (6, (2, 3), 3), (4, (4, 4), 5), (4, (6, 5), 5), (4, (9, 9), 5)]
)
def test_the_fast_depthwise_layer_computes_what_the_plain_one_does(channels, size, kernel, stride):
    torch.manual_seed(0)
    if stride == 1:
        plain = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
    else:
        plain = Conv2dSame(channels, channels, kernel, stride=stride, groups=channels, bias=False)
    fast = copy.deepcopy(plain)
    fast.__class__ = SmallMapDepthwise if stride == 1 else SmallMapDepthwiseSame
    results = []
    for layer in (plain, fast):
        picture = torch.arange(3 * channels * size[0] * size[1], dtype=torch.float32).view(3, channels, *size).sin()
        picture.requires_grad_()
        result = layer(picture)
        (result**2).sum().backward()
        results.append((result, picture.grad, layer.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_encoder_has_fast_depthwise_layers_under_its_own_names():
    import timm

    unet: Any = build_unet(ENCODER, 2, 0)
    assert sum(isinstance(layer, SmallMapDepthwise) for layer in unet.modules()) == 12
    assert sum(isinstance(layer, SmallMapDepthwiseSame) for layer in unet.modules()) == 4
    ours = {name.removeprefix("model.") for name in unet.encoder.state_dict()}
    assert ours <= set(timm.create_model(ENCODER).state_dict())
