"""Parameters and profiles: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
import yaml
from click.testing import CliRunner

from braintransfer.cli import main
from braintransfer.errors import BadInput
from braintransfer.provenance import project_root
from braintransfer.settings import STAGES, notebook_parameters, profile_names, read_parameters, read_profile

GOOD = {
    "source": "mri-segmentation", "target": "stroke", "seeds": [0], "folds": [0], "steps": 2, "batch": 2,
    "learning_rate": 0.001, "crop": 32,
}  # fmt: skip


def literals(stage: str) -> dict[str, object]:
    """What the parameters cell of a stage's notebook binds."""
    book = nbformat.read(project_root() / "notebooks" / f"{stage}.ipynb", as_version=4)
    cell = next(c for c in book.cells if "parameters" in c.metadata.get("tags", []))
    names: dict[str, object] = {}
    exec(cell.source, names)
    return {k: v for k, v in names.items() if not k.startswith("__")}


@pytest.mark.parametrize("stage", STAGES)
def test_the_parameters_cell_of_every_stage_is_valid_and_complete(stage: str) -> None:
    settings = read_parameters(stage, literals(stage))
    assert set(literals(stage)) == set(type(settings).model_fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sede": 3}, "unknown name 'sede' (did you mean seeds?)"),
        ({"steps": "fifty"}, "steps = 'fifty'"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"steps": True}, "not true or false"),
        ({"source": "mri-segmentaton"}, "did you mean mri-segmentation?"),
        ({"target": "tumour"}, "must be one of stroke, ms, anatomy"),
        ({"crop": 50}, "multiple of 32"),
        ({"learning_rate": -1.0}, "greater than 0"),
        ({"seeds": []}, "at least 1 item"),
        ({"seeds": [1, 1]}, "twice"),
        ({"profile": "../../etc"}, "letters, digits"),
    ],
)
def test_a_bad_parameter_is_refused_in_one_line_that_names_it(change: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_parameters("finetune", {**GOOD, **change})
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "finetune.ipynb" in str(refused.value)


def test_settings_are_frozen() -> None:
    settings = read_parameters("finetune", GOOD)
    with pytest.raises(Exception, match="frozen"):
        settings.steps = 3


def test_names_injected_by_papermill_are_seen_and_unknown_ones_refused() -> None:
    cells = ["", "\n".join(f"{k} = {v!r}" for k, v in GOOD.items()), "sede = 3", "settings = ..."]
    with pytest.raises(BadInput, match="unknown name 'sede'"):
        notebook_parameters("finetune", {**GOOD, "sede": 3, "In": cells, "quit": None})
    assert notebook_parameters("finetune", {**GOOD, "In": [*cells[:2], cells[3]], "quit": None}).steps == 2


def test_every_profile_is_valid_and_names_its_file() -> None:
    assert {"tiny", "demo", "open"} <= set(profile_names())
    for name in profile_names():
        assert read_profile(name).name == name


def test_an_unknown_profile_says_which_there_are() -> None:
    with pytest.raises(BadInput, match="unknown profile 'dmo'; there are: .*demo"):
        read_profile("dmo")


def test_a_profile_error_points_to_file_and_key(tmp_path: Path) -> None:
    text = yaml.safe_load((project_root() / "notebooks" / "profiles" / "tiny.yaml").read_text(encoding="utf-8"))
    text["targets"]["stroke"]["folds"] = "two"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    with pytest.raises(BadInput, match="mine.yaml: targets.stroke.folds = 'two'"):
        read_profile(str(path))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("folds", 1, "nobody would be left to test on"),
        ("n_train", 9, "6 people in 2 folds: 3 to test, 1 to validate"),
        ("encoder", "resnet50", "no ImageNet weights for encoder = resnet50"),
    ],
)
def test_what_a_run_cannot_do_is_said_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object, said: str
) -> None:
    text = yaml.safe_load((project_root() / "notebooks" / "profiles" / "tiny.yaml").read_text(encoding="utf-8"))
    (text if key in text else text["targets"]["stroke"])[key] = value
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(text), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["run", "--profile", "mine.yaml", "--dry-run"])
    assert done.exit_code == 2 and done.output.count("\n") == 1 and said in done.output


def test_the_defaults_of_the_notebooks_are_the_demo_profile() -> None:
    demo = read_profile("demo")
    for stage in ("pretrain_classification", "pretrain_segmentation", "pretrain_selfsupervised"):
        given = literals(stage)
        assert {
            k: given[k] for k in ("steps", "batch", "learning_rate", "crop", "augmentation")
        } == demo.pretrain.model_dump()
        assert given["images"] == demo.source_images
        assert given["seeds"] == demo.seeds and given["encoder"] == demo.encoder
    given = literals("finetune")
    assert {
        k: given[k] for k in ("steps", "batch", "learning_rate", "crop", "augmentation")
    } == demo.finetune.model_dump()
    assert given["n_train"] == demo.targets["stroke"].n_train
    given = literals("prepare")
    assert given["size"] == demo.size and given["spacing"] == demo.spacing
    assert given["subjects"] == demo.targets["stroke"].subjects
