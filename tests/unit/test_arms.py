"""Each arm of the study changes what it says, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_baselines import lesion_store

from braintransfer import compare, finetune, pack, pretrain, study
from braintransfer.errors import BadInput
from braintransfer.machine import FILE
from braintransfer.network import build_unet, digest
from braintransfer.pretext import contrastive_loss, retrieved
from braintransfer.provenance import LEFT, atomic_write_json, read_manifest, write_manifest
from braintransfer.settings import CompareSettings, FinetuneSettings, PretrainSettings, read_profile
from braintransfer.store import StoreWriter, open_store
from braintransfer.transfer import add_decoder, encoder_state, load_encoder, match_moments, start_from

ENCODER = "tf_efficientnet_lite0"
TRAINED: dict[str, Any] = {"steps": 1, "batch": 2, "crop": 32, "learning_rate": 0.001, "seeds": [0]}


def source_store(folder: Path, n: int = 12) -> None:
    """Coloured squares, each with a mask of its own."""
    rng = np.random.default_rng(0)
    writer = StoreWriter(folder, (32, 32, 3))
    for k in range(n):
        image, mask = rng.integers(0, 255, (1, 32, 32, 3)).astype(np.uint8), np.zeros((1, 32, 32), np.uint8)
        mask[0, : k + 2, : k + 3] = 1
        writer.add(image, mask, subject=f"p{k}", scan=f"p{k}", slices=[k], label=f"class {k % 2}")
    people = [f"p{k}" for k in range(n)]
    writer.finish({"train": people[:8], "validation": people[8:], "dropped": []})
    write_manifest(folder, stage="prepare", key="k", parameters={}, code="c", inputs={}, facts={"spacing": 1.0})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a domain's pictures and a target of six people, and all sources of the domain pre-trained."""
    folder = tmp_path_factory.mktemp("run")
    lesion_store(folder / "data" / "stroke")
    for name in ("natural", "replicate_squares"):
        source_store(folder / "data" / name)
    atomic_write_json(folder / FILE, {"device": "cpu", "precision": "fp32", "channels_last": True, "threads": 1})
    for task in study.TASKS:
        pretrain.pretrain(task, pretraining(folder), print)
    return folder


def pretraining(run: Path, arm: str = "main", **changed: Any) -> PretrainSettings:
    given = {"domain": "natural", "arm": arm, "read_from": str(run), "write_to": str(run), **TRAINED}
    return PretrainSettings(**{**given, **changed})


def finetuning(run: Path, arm: str, source: str = "scratch") -> FinetuneSettings:
    return FinetuneSettings(
        source=source, target="stroke", arm=arm, folds=[0], read_from=str(run), write_to=str(run), **TRAINED
    )


def start(run: Path, arm: str, source: str) -> tuple[torch.nn.Module, Path | None]:
    """The network of a cell just before its first step."""
    settings = finetuning(run, arm, source)
    network, weights = build_unet(ENCODER, 2, 0), finetune.encoder_file(settings, 0)
    start_from(network, source, weights)
    finetune._apply_arm(network, settings, weights, 0)
    return network, weights


@pytest.mark.parametrize(
    ("arm", "source"),
    [
        ("shuffled_masks", "natural-segmentation"), ("contrastive", "natural-selfsupervised"),
        ("grey_natural", "natural-classification"), ("size_0.5", "natural-segmentation"),
        ("replicate_squares", "natural-segmentation"), ("frozen_random", "scratch"), ("scratch_long", "scratch"),
        ("moment_matched", "natural-segmentation"), ("decoder_transfer", "natural-selfsupervised"),
        ("labels_1", "natural-segmentation"), ("tuned_rate", "natural-classification"),
    ],
)  # fmt: skip
def test_every_arm_runs_from_its_pictures_to_scores(run: Path, arm: str, source: str) -> None:
    if study.arm(arm).pretrains:
        dataset = arm if arm.startswith("replicate") else ""
        rows = pretrain.pretrain(source.partition("-")[2], pretraining(run, arm, dataset=dataset))
        assert rows[0].manifest["parameters"]["arm"] == arm and rows[0].learned["n"] == 4
    cells = finetune.finetune(finetuning(run, arm, source))
    assert len(cells[0].scores) and cells[0].folder.parts[-5] == arm
    assert finetune.finetune(finetuning(run, arm, source), report=lambda line: None)[0].manifest == cells[0].manifest


def test_every_arm_has_sources_and_a_sentence_and_an_unknown_one_is_refused() -> None:
    for known in study.ARMS:
        assert known.says and set(known.sources) <= set(study.SOURCES)
    for wrong in ("label_4", "labels_0", "labels_x", "size_1", "size_0", "replicate_", "mian"):
        with pytest.raises(ValueError, match="there are main"):
            study.arm(wrong)


def test_an_arm_for_another_source_is_refused(run: Path) -> None:
    with pytest.raises(BadInput, match="arm contrastive is not for natural-segmentation"):
        pretrain.pretrain("segmentation", pretraining(run, "contrastive"))


def test_shuffled_masks_are_all_there_and_none_lies_on_its_own_picture(run: Path) -> None:
    store = open_store(run / "data" / "natural")
    rows = store.rows(store.subjects("train"))
    plain, shuffled = (pretrain.pictures_of(store, arm, rows, 0) for arm in ("main", "shuffled_masks"))
    (images, own), (same, others) = plain.load(rows), shuffled.load(rows)
    assert (images == same).all() and not (own == others).all(axis=(1, 2)).any()
    assert sorted(m.tobytes() for m in own) == sorted(m.tobytes() for m in others)
    held_out = store.rows(store.subjects("validation"))
    assert (shuffled.load(held_out)[1] == plain.load(held_out)[1]).all()


def test_grey_pictures_keep_their_brightness_and_lose_their_colour(run: Path) -> None:
    store = open_store(run / "data" / "natural")
    rows = np.arange(4)
    grey = pretrain.pictures_of(store, "grey_natural", rows, 0).load(rows)[0]
    colour = store.load(rows)[0].astype(float)
    assert grey.shape == (4, 32, 32)
    assert np.abs(grey - (0.299 * colour[..., 0] + 0.587 * colour[..., 1] + 0.114 * colour[..., 2])).max() <= 0.5


def test_a_frozen_encoder_keeps_its_weights_while_the_decoder_learns(run: Path) -> None:
    before, _ = start(run, "frozen_random", "scratch")
    kept = {name: value.clone() for name, value in before.named_parameters()}
    settings = finetuning(run, "frozen_random")
    store = open_store(run / "data" / "stroke")
    machine = finetune.load_or_measure(run)
    network = build_unet(ENCODER, 2, 0)
    finetune.train(network, settings, None, store, machine, 0, 0, print)
    for name, value in network.named_parameters():
        assert torch.equal(value, kept[name]) == name.startswith("encoder."), name


def test_matched_moments_leave_scale_and_spread_and_no_feature(run: Path) -> None:
    plain, _ = start(run, "main", "imagenet")
    matched, _ = start(run, "moment_matched", "imagenet")
    compared = 0
    for (name, own), drawn in zip(encoder_state(plain).items(), encoder_state(matched).values(), strict=True):
        if name.endswith("weight") and own.numel() > 2000:
            assert abs(float(own.std() / drawn.std()) - 1) < 0.15 and not torch.allclose(own, drawn)
            assert abs(float(torch.corrcoef(torch.stack([own.flatten(), drawn.flatten()]))[0, 1])) < 0.15
            compared += 1
    assert compared > 10
    again, _ = start(run, "main", "imagenet")
    match_moments(again, 1)
    assert digest(again, encoder=True) != digest(matched, encoder=True)


def test_the_decoder_comes_along_whole_and_the_head_does_not(run: Path) -> None:
    plain, _ = start(run, "main", "natural-segmentation")
    both, weights = start(run, "decoder_transfer", "natural-segmentation")
    assert weights is not None
    kept, _ = load_encoder(weights.with_name("decoder.safetensors"))
    decoder: Any = both.decoder
    assert all(torch.equal(decoder.state_dict()[name], value) for name, value in kept.items())
    assert digest(plain, encoder=True) == digest(both, encoder=True)
    heads = [{k: v for k, v in n.named_parameters() if k.startswith("segmentation_head")} for n in (plain, both)]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    with pytest.raises(BadInput, match="not the decoder"):
        add_decoder(build_unet(ENCODER, 2, 0), "natural-segmentation", weights)


def test_the_rate_is_picked_on_validation_people_and_kept_for_every_seed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = finetuning(run, "tuned_rate", "imagenet").model_copy(update={"seeds": [0, 1]})
    store, seen = open_store(run / "data" / "stroke"), []

    def score(network: Any, target: str, store: Any, people: list[str], machine: Any, fold: int | None = None) -> Any:
        seen.append(people)
        rows = [("p", "p", "dice", "", 0.9 if len(seen) == 2 else 0.1)]
        none = finetune.pd.DataFrame()
        return finetune.Scored(finetune.pd.DataFrame(rows, columns=finetune.SCORE_COLUMNS), none, none, [], 0.0)

    monkeypatch.setattr(finetune, "score_people", score)
    machine = finetune.load_or_measure(run)
    assert finetune._tuned_rate(settings, store, machine, 0, print) == study.TUNED_RATES[1]
    assert len(seen) == len(study.TUNED_RATES) and all(people == store.subjects("validation", 0) for people in seen)
    assert finetune._tuned_rate(settings, store, machine, 0, print) == study.TUNED_RATES[1]
    assert len(seen) == len(study.TUNED_RATES)  # kept, not tried again


def test_the_contrastive_task_wants_the_other_view_and_nothing_else() -> None:
    views = torch.eye(6)[:4]
    assert contrastive_loss(torch.cat([views, views])) < contrastive_loss(torch.cat([views, views.roll(1, 0)]))
    assert retrieved(torch.cat([views, views.roll(1, 0)])).tolist() == [1, 2, 3, 0]


def test_fewer_pictures_are_a_part_of_all_and_are_counted(run: Path) -> None:
    store = open_store(run / "data" / "natural")
    half = pretrain.pretrain("segmentation", pretraining(run, "size_0.5", images=4))[0].manifest
    assert half["n_images"] == 4
    assert set(pretrain.training_rows(store, 4, 0)) < set(pretrain.training_rows(store, 0, 0))
    assert (read_manifest(run / "sources" / "main" / "natural-segmentation" / "seed-0") or {})["n_images"] == 8


def test_a_replicate_says_how_many_pictures_it_was_trained_on_and_whether_it_learned(run: Path) -> None:
    arm, source = "replicate_squares", "natural-segmentation"
    for images, used in ((0, 8), (5, 5)):
        settings = pretraining(run, arm, dataset=arm, images=images)
        row = pretrain.pretrain("segmentation", settings)[0]
        assert row.manifest["n_images"] == used
    pretrain.finish_source("segmentation", settings, [row])
    finetune.finetune(finetuning(run, arm, source))
    asked = CompareSettings(read_from=str(run), write_to=str(run), cells=[f"stroke:{source}:{arm}"])
    assert set(compare.read_cell(asked, "stroke", source, arm)["n_source"]) == {5}
    figures = compare.learned(asked, [("stroke", source, arm)])[f"{arm}/{source}"][0]
    assert {"dice", "all_foreground", "learned"} <= set(figures)


def test_a_source_that_came_without_its_weights_is_packed_again(tmp_path: Path) -> None:
    """It has cells that are not done, so with weights it would have to stay."""
    folder = tmp_path / "sources" / "main" / "mri-segmentation"
    folder.mkdir(parents=True)
    made = {"status": "done", "outputs": {}, "inputs": {}, "parameters": {}}
    profile = read_profile("reference")
    for manifest, packed in ((made, []), ({**made, LEFT: ["encoder.safetensors"]}, [folder])):
        (folder / "manifest.json").write_text(json.dumps(manifest))
        assert [found for found, _ in pack._finished(tmp_path, profile)] == packed
