"""The one network of the study: a U-Net on a named encoder; the same encoder with a classifier; what goes into them."""

from __future__ import annotations

import functools
import hashlib

from braintransfer import torchvision_ops  # noqa: F401  must come before whatever imports torchvision

# isort: split
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import initialization
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional

from braintransfer import study
from braintransfer.errors import BadInput

#: Outputs of the decoder's five steps, coarse to fine. Over half of a training step's time is the encoder's whatever
#: stands here. Narrower last steps (16, 8) are a sixth faster, but then the rare third class of the anatomy target often
#: died in training on simulated people; these keep it alive.
DECODER_CHANNELS = (64, 48, 32, 24, 16)
CHANNELS = 3
#: A counter of BatchNorm that nothing here uses (its momentum is fixed) and that public weights lack: never stored,
#: never loaded, no part of a digest, 0 at the start of every fine-tuning.
COUNTER = "num_batches_tracked"
#: Pixels 0..255 -> about -1..1, for every source and every target: what the public ImageNet weights were trained with.
NORMALISATION = "(x-127)/128"


def normalise(images: Tensor) -> Tensor:
    """Pictures as a network takes them: (B, H, W) or (B, H, W, 3) uint8 -> (B, 3, H, W) float32, (x - 127) / 128.

    A grey picture (a T1 slice) stands in all three channels.
    """
    channels_first = images.permute(0, 3, 1, 2) if images.ndim == 4 else images.unsqueeze(1)
    return normalise_unit(channels_first.float() / 255)


def normalise_unit(images: Tensor) -> Tensor:
    """As `normalise`, from pictures (B, C, H, W) float in 0..1 with C 1 or 3."""
    scaled = images * (255 / 128) - 127 / 128
    return scaled.expand(-1, CHANNELS, -1, -1) if images.shape[1] == 1 else scaled


class Classifier(nn.Module):
    """The study's encoder, global average pooling and a head, one linear layer: (B, 3, H, W) -> logits (B, classes).

    hidden: with a layer of that many in between, as the contrastive task has it.
    """

    def __init__(self, encoder: nn.Module, features: int, classes: int, encoder_name: str, hidden: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = (
            nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))
            if hidden
            else nn.Linear(features, classes)
        )
        self.encoder_name: str = encoder_name

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images)[-1].mean(dim=(2, 3)))


def build_unet(
    encoder: str, outputs: int, seed: int, decoder_channels: tuple[int, ...] = DECODER_CHANNELS
) -> nn.Module:
    """A U-Net: (B, 3, H, W) float32 (`normalise`) -> (B, outputs, H, W); H and W are multiples of 32.

    encoder: a timm name. Encoder and decoder take their first values from two streams of `seed`, so that the decoder's
    depend neither on what the encoder drew nor on what is loaded into it: they are the same bytes for every source.
    BadInput for an encoder that timm does not know.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.stream_seed(seed, "encoder weights"))
        try:
            network = smp.Unet(
                f"tu-{encoder}", encoder_weights=None, in_channels=CHANNELS, classes=outputs,
                decoder_channels=decoder_channels,
            )  # fmt: skip
        except (KeyError, RuntimeError) as error:
            raise _unknown(encoder, error) from None
        torch.manual_seed(study.stream_seed(seed, "decoder weights"))
        initialization.initialize_decoder(network.decoder)
        initialization.initialize_head(network.segmentation_head)
    network.encoder_name = encoder
    _quicken(network.encoder)
    return network


def build_classifier(encoder: str, classes: int, seed: int, hidden: int = 0) -> Classifier:
    """The same encoder, first values included, under a linear classifier: (B, 3, H, W) -> logits (B, classes).

    hidden: with a hidden layer of that many.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.stream_seed(seed, "encoder weights"))
        try:
            body = smp.encoders.get_encoder(f"tu-{encoder}", in_channels=CHANNELS, depth=5, weights=None)
        except (KeyError, RuntimeError) as error:
            raise _unknown(encoder, error) from None
        torch.manual_seed(study.stream_seed(seed, "decoder weights"))
        network = Classifier(body, body.out_channels[-1], classes, encoder, hidden)
    _quicken(body)
    return network


def _unknown(encoder: str, error: Exception) -> BadInput:
    reason = " ".join(str(error).strip("'\"").split())[:160]
    return BadInput(f"encoder = {encoder!r} cannot be built ({reason}); take a name that timm.list_models() shows")


def digest(network: nn.Module, *, encoder: bool) -> str:
    """SHA-256 of all values inside the encoder (True) or outside it (False): names, shapes and bytes, no counters."""
    total = hashlib.sha256()
    for name, value in network.state_dict().items():
        if name.startswith("encoder.") == encoder and not name.endswith(COUNTER):
            total.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
            total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


# ------------------------------------------------------------------------------------- depthwise layers on small maps
class SmallMapDepthwise(nn.Conv2d):
    """A depthwise convolution that trains fast on a CPU where the map is no larger than the kernel.

    There every output place sees (nearly) every input place, so the layer is one small matrix a channel. PyTorch's own
    backward takes 7-10 ms for such a layer (1152 channels, 2 x 2, batch 8), this one 0.6 ms; together a third of a step
    with 64 px crops. Values agree to rounding; parameters and their names are those of nn.Conv2d.
    """

    def forward(self, input: Tensor) -> Tensor:
        small = _by_matrix(self, input)
        return super().forward(input) if small is None else small


class SmallMapDepthwiseSame(Conv2dSame):
    """The same for timm's strided layers, which pad as TensorFlow does ("SAME")."""

    def forward(self, input: Tensor) -> Tensor:
        small = _by_matrix(self, input)
        return super().forward(input) if small is None else small


def _by_matrix(layer: nn.Conv2d, input: Tensor) -> Tensor | None:
    """A depthwise layer's output as one matrix a channel, or None where that is not faster."""
    kernel, stride = int(layer.kernel_size[0]), int(layer.stride[0])
    height, width = input.shape[2:]
    down, across = -(-height // stride), -(-width // stride)
    if not layer.training or height * width * down * across > kernel**4 or input.device.type != "cpu":
        return None
    batch, channels = input.shape[:2]
    reach = _reach(kernel, stride, height, width).to(layer.weight.dtype)
    taps = layer.weight.reshape(channels, kernel**2).t()
    matrices = (reach @ taps).view(height * width, down * across, channels)  # from, to, channel
    rows = input.permute(0, 2, 3, 1).reshape(batch, height * width, 1, channels)
    return (rows * matrices).sum(dim=1).view(batch, down, across, channels).permute(0, 3, 1, 2)


@functools.cache
def _reach(kernel: int, stride: int, height: int, width: int) -> Tensor:
    """(places from * places to, kernel * kernel): 1 where that tap of a "SAME"-padded kernel joins the two places."""
    places = pad_same(torch.eye(height * width).view(-1, 1, height, width), [kernel, kernel], [stride, stride])
    single = torch.eye(kernel * kernel).view(-1, 1, kernel, kernel)
    joined = functional.conv2d(places, single, stride=stride)  # from, tap, height, width
    return joined.flatten(2).transpose(1, 2).reshape(-1, kernel * kernel)


def _quicken(encoder: nn.Module) -> None:
    """Let the encoder's depthwise layers be the fast ones above, with the parameters that they have."""
    for layer in encoder.modules():
        if not isinstance(layer, nn.Conv2d) or layer.bias is not None or layer.dilation != (1, 1):
            continue
        size = layer.kernel_size
        if not layer.groups == layer.in_channels == layer.out_channels > 1 or size[0] != size[1] or size[0] % 2 == 0:
            continue
        if type(layer) is nn.Conv2d and layer.stride == (1, 1) and layer.padding == (size[0] // 2, size[0] // 2):
            layer.__class__ = SmallMapDepthwise
        elif type(layer) is Conv2dSame and layer.stride[0] == layer.stride[1]:
            layer.__class__ = SmallMapDepthwiseSame
