"""Every stage run for real, by papermill, in the tiny profile: what the study promises of its results."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from projects import ROOT, door, make_project

from braintransfer import metrics, pack, reference, study
from braintransfer.book.runs import read_run
from braintransfer.errors import BadInput
from braintransfer.network import build_unet
from braintransfer.provenance import project_root, read_manifest, sha256_file, write_manifest
from braintransfer.settings import STAGES
from braintransfer.transfer import start_from

FEW = "stroke:scratch,stroke:mri-segmentation"


def results(run: Path) -> pd.DataFrame:
    text = {name: str for name in ("source", "domain", "task", "target", "subject", "metric", "class")}
    return pd.read_csv(run / "results.csv", dtype=text, keep_default_na=False, na_values={"value": [""]})


# ------------------------------------------------------------------------------------------------------------ what comes out
def test_all_24_cells_have_scores_of_every_test_person(tiny: Path) -> None:
    table = results(tiny)
    assert list(table.columns) == study.RESULT_COLUMNS
    assert {(t, s) for t, s in zip(table["target"], table["source"], strict=True)} == {
        (t, s) for t in study.TARGETS for s in study.SOURCES
    }
    for target in study.TARGETS:
        test = json.loads((tiny / "data" / target / "splits.json").read_text(encoding="utf-8"))["folds"][0]["test"]
        for source in study.SOURCES:
            cell = table[
                (table["target"] == target) & (table["source"] == source) & (table["metric"] == study.HEADLINE[target])
            ]
            assert sorted(cell[cell["class"] == ""]["subject"]) == sorted(test)


def test_results_are_sorted_plain_and_say_how_much_each_source_saw(tiny: Path) -> None:
    raw = (tiny / "results.csv").read_bytes()
    assert b"\r" not in raw
    table = results(tiny)
    keys = [table[k].astype(str) if table[k].dtype == object else table[k] for k in study.KEY_COLUMNS]
    order = pd.concat(keys, axis=1)
    assert order.equals(order.sort_values(study.KEY_COLUMNS, kind="stable").reset_index(drop=True))
    seen = table.groupby("source")["n_source"].unique().map(list)
    assert seen["scratch"] == [0] and seen["imagenet"] == [1281167]
    for source in study.PRETRAINED_HERE:
        assert 0 < seen[source][0] <= 48
    controls = table[table["source"].isin(study.CONTROLS)]
    assert set(controls["domain"]) == {""} == set(controls["task"])
    assert set(table[table["class"] != ""]["target"]) <= {"anatomy"}


def test_everything_stands_in_the_long_table(tiny: Path) -> None:
    table = pd.read_csv(tiny / "all.csv.gz", keep_default_na=False)
    metrics = [
        "dice",
        "iou",
        "miou",
        "lesion_sensitivity",
        "lesion_precision",
        "lesion_f1",
        "fp_per_scan",
        "volume_error_ml",
        "volume_error_abs_ml",
        "fp_volume_ml",
        "surface_dice_2mm",
        "hd95_mm",
        "brier",
        "ece",
    ]
    assert set(table["metric"]) == set(metrics)
    assert not set(table[table["target"] == "anatomy"]["metric"]) & set(study.HEADLINE_METRICS[2:]), (
        "no lesions in anatomy"
    )


def test_the_rules_of_the_claims_stand_in_every_manifest(tiny: Path) -> None:
    rules = sha256_file(ROOT / "notebooks" / "claims.yaml")
    for path in tiny.rglob("manifest.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["claims"] == rules, path


def test_detection_is_shown_as_a_curve_too(tiny: Path) -> None:
    curve = pd.read_csv(tiny / "compare" / "froc.csv")
    assert {(t, s) for t, s in zip(curve["target"], curve["source"], strict=True)} == {
        (t, s) for t in study.DETECTED for s in study.SOURCES
    }
    assert sorted(set(curve["threshold"])) == [0.1, 0.3, 0.5, 0.7, 0.9]
    sensitivity = pd.read_csv(tiny / "all.csv.gz", keep_default_na=False)
    at_half = curve[(curve["threshold"] == 0.5) & (curve["target"] == "ms") & (curve["source"] == "scratch")]
    cell = sensitivity[
        (sensitivity["target"] == "ms")
        & (sensitivity["source"] == "scratch")
        & (sensitivity["metric"] == "lesion_sensitivity")
    ]
    assert float(at_half["sensitivity"].iloc[0]) == pytest.approx(pd.to_numeric(cell["value"]).mean(), abs=1e-4)


def test_the_robustness_of_the_claims_asks_every_threshold_and_rule(tiny: Path) -> None:
    choices = pd.read_csv(tiny / "compare" / "robustness.csv")
    asked = choices.groupby("claim")["scoring"].unique().map(set)
    thresholds = {f"threshold {t}" for t in (0.1, 0.3, 0.7, 0.9)}
    assert asked["claim1"] == {"as planned", "all people pooled", *thresholds}
    assert asked["claim2"] == asked["claim1"] | {metrics.HALF, metrics.MSSEG, metrics.ATLAS}


def test_every_source_is_loaded_whole_and_scratch_loads_nothing(tiny: Path) -> None:
    for path in sorted(tiny.glob("targets/main/*/*/fold-0/seed-0/manifest.json")):
        report = json.loads(path.read_text(encoding="utf-8"))["weights"]
        source = path.parts[-4]
        assert report["source"] == source
        if source == "scratch":
            assert report["loaded"] == 0
        else:
            assert report["loaded"] > 200 and not report["missing"] and not report["mismatched"]


def test_no_two_sources_start_from_the_same_encoder(tiny: Path) -> None:
    shas = {}
    for source in study.SOURCES:
        manifest = read_manifest(tiny / "targets" / "main" / "stroke" / source / "fold-0" / "seed-0")
        assert manifest is not None
        shas[source] = manifest["weights"]["sha256"]
    assert len(set(shas.values())) == len(study.SOURCES), shas


def test_simulated_data_pass_the_audit_and_planted_duplicates_are_found(tiny: Path) -> None:
    leaks = pd.read_csv(tiny / "audit" / "leaks.csv", keep_default_na=False)
    assert set(leaks["verdict"]) == {"apart"}
    assert {"subject", "session", "picture"} == set(leaks["kind"])
    planted = pd.read_csv(tiny / "audit" / "planted.csv")
    assert (planted["found"] == planted["planted"]).all(), planted[planted["found"] < planted["planted"]]


def test_nothing_but_the_encoders_start_differs_between_sources(tiny: Path) -> None:
    table = pd.read_csv(tiny / "compare" / "fairness.csv", keep_default_na=False)
    fine = table[table["training"] == "fine-tuning"]
    assert set(fine["of"]) == set(study.TARGETS) and set(fine["sources"]) == {len(study.SOURCES)}
    assert set(table.loc[table["item"] == "encoder at the start", "verdict"]) == {"differs"}
    assert set(table.loc[table["item"] != "encoder at the start", "verdict"]) == {"equal"}
    assert set(table.loc[table["training"] == "pre-training", "of"]) == set(study.DOMAINS)


def test_the_three_tasks_of_a_domain_used_the_same_images(tiny: Path) -> None:
    for domain in study.DOMAINS:
        seen = set()
        for task in study.TASKS:
            manifest = read_manifest(tiny / "sources" / "main" / f"{domain}-{task}" / "seed-0")
            assert manifest is not None
            seen.add((manifest["inputs"]["store"], manifest["n_images"], manifest["samples"]))
        assert len(seen) == 1


def test_executed_notebooks_read_well(tiny: Path) -> None:
    notebooks = sorted(p for p in tiny.rglob("*.ipynb"))
    assert len(notebooks) == 5 + 1 + 6 + 24 + 1
    for path in notebooks:
        book = nbformat.read(path, as_version=4)
        code = [c for c in book.cells if c.cell_type == "code"]
        assert all(c.execution_count for c in code), path
        outputs = [o for c in code for o in c.outputs]
        assert not [o for o in outputs if o.output_type == "error"], path
        pictures = [o for o in outputs if "image/png" in o.get("data", {})]
        assert pictures, f"{path} shows no picture"
        assert max(len(c.source.splitlines()) for c in code) <= 25
        text = json.dumps(book)
        assert str(Path.home()) not in text.replace(str(tiny), ""), "a home path in an executed notebook"


def test_progress_says_which_stage_how_many_are_left_and_how_long(tiny: Path, project: Path) -> None:
    lines = (project / "progress.txt").read_text(encoding="utf-8")
    assert re.search(r"\[ ?\d+/37\] fine-tune stroke from imagenet: \d+ s · \d+ left, about .* to go", lines)
    assert "all done after" in lines


def test_the_engine_never_works_on_more_than_it_may(tmp_path: Path) -> None:
    """Snakemake 9.10 to 9.16 count a stage that is ready alone as none: here they would start two at a time with one core."""
    (tmp_path / "Snakefile").write_text(
        'rule all:\n    input: "1", "2", "3"\n'
        'rule first:\n    output: "0"\n    shell: "touch 0"\n'
        'rule later:\n    input: "0"\n    output: "{k,[1-3]}"\n'
        '    shell: "mkdir held && sleep 1 && rmdir held && touch {output}"\n',
        encoding="utf-8",
    )
    done = door(tmp_path, "engine", "--", "--cores", "1", "--nolock", "--keep-going")
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_simulated_run_prints_illustrations_and_never_a_verdict(tiny: Path) -> None:
    contrasts = json.loads((tiny / "compare" / "claims.json").read_text(encoding="utf-8"))
    assert {c["claim"] for c in contrasts} >= {"claim1", "claim2"}
    for contrast in contrasts:
        keys = {
            "claim",
            "target",
            "A",
            "B",
            "metric",
            "estimate",
            "lower",
            "upper",
            "margin",
            "n_subjects",
            "n_seeds",
            "verdict",
            "gates",
        }
        assert keys <= set(contrast)
        assert contrast["verdict"].startswith("illustration:") or contrast["verdict"] == "not run"
    assert json.loads((tiny / "run.json").read_text(encoding="utf-8"))["simulated"] is True


# --------------------------------------------------------------------------------------------------- again, and after harm
def test_a_finished_run_is_not_done_again(tiny: Path, project: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in tiny.rglob("manifest.json")}
    again = door(project, "run", "--profile", "tiny", "--jobs", "2")
    assert again.returncode == 0, again.stderr
    assert "37 already there" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in tiny.rglob("manifest.json")} == before


def test_verify_walks_every_link(tiny: Path, project: Path) -> None:
    assert door(project, "verify", "tiny").returncode == 0


@pytest.fixture(scope="module")
def undisturbed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the whole run's stages of two cells, for tests that change things; only the comparison is made anew."""
    folder = make_project(tmp_path_factory.mktemp("undisturbed"))
    copy = folder / "runs" / "tiny"
    for part in ("data", "audit", "targets/main/stroke/scratch", "targets/main/stroke/mri-segmentation"):
        shutil.copytree(tiny / part, copy / part)
    shutil.copytree(tiny / "sources" / "main" / "mri-segmentation", copy / "sources" / "main" / "mri-segmentation")
    shutil.copy(tiny / "machine.json", copy)  # measured once
    done = door(folder, "run", "--profile", "tiny", "--only", FEW)
    assert done.returncode == 0, done.stderr
    return folder


def test_an_edit_of_prose_redoes_nothing_and_one_of_code_only_what_depends_on_it(undisturbed: Path) -> None:
    path = undisturbed / "notebooks" / "finetune.ipynb"
    original = path.read_text(encoding="utf-8")
    before = {p: p.stat().st_mtime_ns for p in (undisturbed / "runs").rglob("manifest.json")}
    book = nbformat.reads(original, as_version=4)
    next(c for c in book.cells if c.cell_type == "markdown").source += "\n\nMore words."
    nbformat.write(book, path)
    assert door(undisturbed, "run", "--profile", "tiny", "--only", FEW).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    next(c for c in book.cells if c.cell_type == "code" and c.id == "imports").source += "\nassert True"
    nbformat.write(book, path)
    assert door(undisturbed, "run", "--profile", "tiny", "--only", FEW).returncode == 0
    redone = {
        p.parent.relative_to(undisturbed / "runs" / "tiny").parts[0]
        for p in before
        if p.stat().st_mtime_ns != before[p]
    }
    assert redone == {"targets", "compare"}
    path.write_text(original, encoding="utf-8")


def test_a_planted_leak_stops_the_run_with_2_and_names_both_sides(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "leaky"
    shutil.copytree(undisturbed, folder)
    store = folder / "runs" / "tiny" / "data" / "stroke"
    splits = json.loads((store / "splits.json").read_text(encoding="utf-8"))
    both = splits["folds"][0]["test"][0]
    splits["folds"][0]["train"].append(both)
    (store / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    # as a stage with that mistake would have written it: a store that differs from its manifest is made again
    made = json.loads((store / "manifest.json").read_text(encoding="utf-8"))
    facts = {name: made[name] for name in ("facts", "seconds", "device")}
    write_manifest(
        store,
        stage="prepare",
        key=made["key"],
        parameters=made["parameters"],
        code=made["code"],
        inputs=made["inputs"],
        **facts,
    )
    for stage in ("audit", "compare"):
        (folder / "runs" / "tiny" / stage / "manifest.json").unlink()
    ended = door(folder, "run", "--profile", "tiny", "--only", FEW)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert f"stroke {both} (train) and stroke {both} (test)" in ended.stderr
    assert read_manifest(folder / "runs" / "tiny" / "compare") is None, "compared in spite of a leak"


def test_two_runs_on_one_folder_one_works_and_the_other_says_so(undisturbed: Path) -> None:
    from filelock import FileLock

    with FileLock(undisturbed / "runs" / "tiny" / ".run.lock"):
        second = door(undisturbed, "run", "--profile", "tiny", "--only", FEW)
    assert second.returncode == 2
    assert "locked" in second.stderr


# ------------------------------------------------------------------------------------------------------------ by hand
def papermill(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600)


SMALL = ["-p", "steps", "2", "-p", "batch", "2", "-p", "crop", "32"]


def test_each_stage_runs_by_hand_with_papermill(tiny: Path, project: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out.ipynb")
    here = ["-p", "read_from", "runs/tiny", "-p", "write_to", "runs/mine"]
    calls = [
        ["prepare", "-p", "recipe", "simulated_ms", "-p", "target", "ms", "-p", "dataset", "ms", "-p", "subjects", "4",
         "-p", "folds", "2", "-p", "n_validation", "1", "-p", "spacing", "4.0", "-y", "size: [64, 64]"],
        ["pretrain_classification", "-p", "domain", "natural", "-y", "seeds: [5]", "-p", "images", "24", *SMALL],
        ["finetune", "-p", "source", "mri-segmentation", "-p", "target", "stroke", "-y", "seeds: [0]", "-p", "n_train", "2", *SMALL],
        ["audit"],
        ["compare", "-y", "cells: ['stroke:scratch', 'stroke:mri-segmentation']"],
    ]  # fmt: skip
    for stage, *parameters in calls:
        ran = papermill(project, f"notebooks/{stage}.ipynb", out, *here, *parameters)
        assert ran.returncode == 0, ran.stderr[-2000:]
    mine = project / "runs" / "mine"
    for folder in (
        "data/ms",
        "sources/main/natural-classification",
        "targets/main/stroke/mri-segmentation",
        "audit",
        "compare",
    ):
        assert read_manifest(mine / folder) is not None, folder


@pytest.mark.parametrize("stage", STAGES)
def test_papermill_with_an_unknown_name_ends_in_one_line(project: Path, tmp_path: Path, stage: str) -> None:
    ran = papermill(project, f"notebooks/{stage}.ipynb", str(tmp_path / "out.ipynb"), "-p", "sede", "3")
    assert ran.returncode == 1
    last = ran.stderr.strip().splitlines()[-1]
    assert "BadInput" in last and "unknown name 'sede'" in last and f"{stage}.ipynb" in last


def test_a_missing_encoder_is_named_with_what_to_do(tiny: Path, project: Path, tmp_path: Path) -> None:
    ran = papermill(
        project, "notebooks/finetune.ipynb", str(tmp_path / "out.ipynb"), "-p", "read_from", "runs/tiny", "-y", "seeds: [7]",
        "-p", "n_train", "2", *SMALL,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "no encoder at" in ran.stderr and "pre-train mri-segmentation first" in ran.stderr


# ------------------------------------------------------------------------------------------------------- bad input, the door
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--profile", "dmo"], "unknown profile 'dmo'"),
        (["run", "--profile", "tiny", "--only", "stroke:imagnet"], "TARGET:SOURCE"),
        (["run", "--profile", "tiny", "--data", "no/such/folder"], "no data folder at"),
        (["run", "--profile", "open"], "needs a folder of data sets"),
        (["run", "--profile", "tiny", "--jobs", "-1"], "--jobs"),
        (["verify", "nothing"], "no run at nothing"),
        (["data", "check", "no_such_set"], "no_such_set"),
        (["predict", "nothing", "a.nii.gz", "--target", "stroke"], "no run at nothing"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(project: Path, arguments: list[str], words: str) -> None:
    ended = door(project, *arguments)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert words in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr


def test_a_stage_with_bad_input_fails_with_2_and_what_is_done_stays(undisturbed: Path) -> None:
    profile = (ROOT / "notebooks" / "profiles" / "tiny.yaml").read_text(encoding="utf-8")
    mine = undisturbed / "mine.yaml"
    nobody = profile.replace("n_train: 2, n_validation: 1}", "n_train: 2, n_validation: 0}", 1)
    mine.write_text(f"{nobody}\narms: {{tuned_rate: {{sources: [scratch]}}}}\n", encoding="utf-8")
    (undisturbed / "runs" / "mine").mkdir()
    shutil.copy(undisturbed / "runs" / "tiny" / "machine.json", undisturbed / "runs" / "mine")
    ended = door(undisturbed, "run", "--profile", "mine.yaml", "--only", "stroke:scratch:tuned_rate")
    assert ended.returncode == 2
    assert "has no validation people" in ended.stderr
    assert read_manifest(undisturbed / "runs" / "mine" / "data" / "stroke") is not None


def test_dry_run_says_what_would_be_done_and_does_nothing(project: Path) -> None:
    shown = door(project, "run", "--profile", "demo", "--dry-run")
    assert shown.returncode == 0
    assert shown.stdout.count("  would ") == 37
    assert not (project / "runs" / "demo").exists()


def test_what_is_kept_of_a_run_fills_the_book_and_holds_no_scan_and_no_place(tiny: Path, tmp_path: Path) -> None:
    kept = reference.keep(tiny, tmp_path / "tiny", report=lambda line: None)
    assert sum(p.stat().st_size for p in kept.rglob("*")) < 5e6
    assert not [p for p in kept.rglob("*") if p.suffix in (".npy", ".safetensors", ".gz") and p.name.count(".") < 2]
    assert read_run(kept, reference=True).contrasts == read_run(tiny, reference=False).contrasts
    assert (kept / "results.csv").read_bytes() == (tiny / "results.csv").read_bytes()
    records = [json.loads(line) for line in gzip.decompress((kept / "manifests.jsonl.gz").read_bytes()).splitlines()]
    assert {r["stage"] for r in records} >= {"prepare", "audit", "pretrain_classification", "finetune", "compare"}
    everything = b"".join(p.read_bytes() for p in kept.rglob("*") if p.is_file() and p.suffix != ".gz")
    assert str(tiny).encode() not in everything + json.dumps(records).encode()
    cost = pd.read_csv(kept / "cost.csv").set_index("stage")
    assert cost.loc["finetune", "runs"] == 24 and cost.loc["pretrain", "samples"] == 6 * 2 * 4
    reference.keep(tiny, tmp_path / "tiny", report=lambda line: None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny"]


def test_a_released_encoder_can_be_checked_and_loaded(tiny: Path, tmp_path: Path) -> None:
    folder = reference.release(tiny, "mri-segmentation", tmp_path / "out")
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split()
        assert sha256_file(folder / name) == expected
    network = build_unet("tf_efficientnet_lite0", 2, 5)
    loaded = start_from(network, "mri-segmentation", folder / "mri-segmentation-seed-0.safetensors")
    assert loaded.loaded == loaded.expected > 200
    card = (folder / "README.md").read_text()
    assert "Unique training pictures | 24" in card and "Not for clinical use" in card
    with pytest.raises(BadInput, match="not empty"):
        reference.release(tiny, "mri-segmentation", folder)


def test_a_run_whose_weights_are_elsewhere_is_not_released(tiny: Path, tmp_path: Path) -> None:
    there = tmp_path / "run"
    shutil.copytree(tiny / "sources", there / "sources", ignore=shutil.ignore_patterns("encoder.safetensors"))
    with pytest.raises(BadInput, match=r"seed-0: its weights stayed on the machine that trained them"):
        reference.release(there, "mri-segmentation", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("publish", ["numbers", "pictures"])
def test_slices_of_people_shown_are_kept_only_where_the_licence_lets_pictures_be_shown(
    tiny: Path, tmp_path: Path, publish: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run, ignore=shutil.ignore_patterns("*.safetensors", "*.ipynb"))
    row = next(run.glob("targets/main/stroke/*/fold-0/seed-0"))
    (row / "showcase.csv").write_text("subject,scan,metric,class,value\n", encoding="utf-8")
    shutil.copy(row / "examples.npz", row / "showcase.npz")
    shown = run / "data" / "shown"
    trained, stroke = read_manifest(row), read_manifest(run / "data" / "stroke")
    assert trained is not None and stroke is not None
    for folder, manifest in (
        (row, {**trained, "parameters": {**trained["parameters"], "showcase": "shown"}}),
        (shown, {**stroke, "facts": {**stroke["facts"], "publish": publish}}),
    ):
        folder.mkdir(exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    kept = reference.keep(run, tmp_path / "kept", report=lambda line: None)
    names = {p.name for p in (kept / row.relative_to(run)).iterdir()}
    assert "showcase.csv" in names and ("showcase.npz" in names) == (publish == "pictures")


def test_a_run_keeps_its_profile_so_that_it_can_be_packed_wherever_that_came_from(tiny: Path, tmp_path: Path) -> None:
    assert (tiny / "profile.yaml").read_bytes() == (project_root() / "notebooks/profiles/tiny.yaml").read_bytes()
    run = tmp_path / "my_study"
    shutil.copytree(tiny, run)
    pack.pack(run, tmp_path / "mine.zip", report=lambda line: None)
    assert (tmp_path / "mine.zip").is_file()


def test_a_packed_run_goes_on_elsewhere_and_ends_in_the_same_results(
    tiny: Path, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = make_project(tmp_path_factory.mktemp("elsewhere"))
    archive, there = elsewhere / "tiny.zip", elsewhere / "runs" / "tiny"
    assert door(project, "pack", "tiny", str(archive)).returncode == 0
    assert archive.stat().st_size < 2e6
    with zipfile.ZipFile(archive) as packed:
        assert not [n for n in packed.namelist() if n.endswith((".safetensors", ".png", ".ipynb", "examples.npz"))]
    early = door(elsewhere, "unpack", str(archive), "tiny")
    assert early.returncode == 2 and "--only data" in early.stderr
    for part in ("data", "audit"):
        shutil.copytree(tiny / part, there / part)
    images = there / "data" / "stroke" / "images.npy"
    kept = images.read_bytes()
    np.save(images, 255 - np.load(images))
    other = door(elsewhere, "unpack", str(archive), "tiny")
    assert other.returncode == 2 and "is not the data" in other.stderr and len(other.stderr.strip().splitlines()) == 1
    assert sorted(p.name for p in there.iterdir()) == ["audit", "data"], "a refused archive leaves nothing behind"
    images.write_bytes(kept)
    shutil.copystat(tiny / "data" / "stroke" / "images.npy", images)
    assert door(elsewhere, "unpack", str(archive), "tiny").returncode == 0
    place = "targets/main/stroke/imagenet/fold-0/seed-0/examples.npz"
    assert (there / place).read_bytes() == (tiny / place).read_bytes()
    done = door(elsewhere, "run", "--profile", "tiny", "--jobs", "2")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    counted = re.search(r"(\d+) stages, (\d+) already there", done.stdout)
    assert counted and int(counted[1]) - int(counted[2]) == 1, done.stdout[:300]  # the comparison
    for name in ("results.csv", "all.csv.gz", "compare/claims.json"):
        assert (there / name).read_bytes() == (tiny / name).read_bytes(), name
    verified = door(elsewhere, "verify", "tiny")
    assert verified.returncode == 0, verified.stderr


def test_status_tells_what_is_done(tiny: Path, project: Path) -> None:
    shown = door(project, "status", "--profile", "tiny")
    assert shown.returncode == 0
    assert "37 done" in shown.stdout


# ----------------------------------------------------------------------------------------------------------------- predict
def test_predict_writes_a_mask_in_the_scans_own_grid(tiny: Path, project: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = np.zeros((60, 50, 70), np.float32)
    inside = np.indices(data.shape)
    ball = sum(((inside[a] - data.shape[a] / 2) / (data.shape[a] / 2.6)) ** 2 for a in range(3)) < 1
    data[ball] = rng.normal(100, 10, int(ball.sum()))
    affine = np.array([[0, 0, -2.5, 90], [2.4, 0, 0, -70], [0, -2.6, 0, 60], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "mine.nii.gz")
    done = door(
        project, "predict", "tiny", str(tmp_path / "mine.nii.gz"), "--source", "mri-segmentation", "--target", "anatomy"
    )
    assert done.returncode == 0, done.stderr
    assert "fine-tuned on 2 people" in done.stdout and [p.name for p in tmp_path.glob("*.nii.gz")] == ["mine.nii.gz"]
    mask = nib.nifti1.load(project / "runs" / "tiny" / "predictions" / "mine_anatomy_mri-segmentation.nii.gz")
    assert mask.shape == data.shape and np.allclose(mask.affine, affine)
    assert set(np.unique(np.asanyarray(mask.dataobj))) <= {0, 1, 2, 3}
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "mine.nii.gz").read_bytes()[:2000])
    skull = np.where(ball, data, rng.normal(30, 3, data.shape)).astype(np.float32)
    nib.save(nib.Nifti1Image(skull, affine), tmp_path / "head.nii.gz")
    nib.save(nib.Nifti1Image(ball.astype(np.uint8), affine), tmp_path / "head_brain.nii.gz")
    head = ["predict", "tiny", str(tmp_path / "head.nii.gz"), "--source", "mri-segmentation", "--target", "anatomy"]
    refused = door(project, *head)
    assert refused.returncode == 2 and "not skull-stripped" in refused.stderr
    masked = door(project, *head, "--brain", str(tmp_path / "{scan}_brain.nii.gz"), "--out", str(tmp_path / "out"))
    assert masked.returncode == 0, masked.stderr
    inside = np.asanyarray(nib.nifti1.load(tmp_path / "out" / "head_anatomy_mri-segmentation.nii.gz").dataobj)
    # at the brain's rim a working voxel takes a little of what is beyond it, and two steps of training are unsure of each voxel
    assert (inside == np.asanyarray(mask.dataobj))[ball].mean() > 0.75 and inside.any()
    torn = door(project, "predict", "tiny", str(tmp_path / "torn.nii.gz"), "--target", "anatomy")
    assert torn.returncode == 2 and "torn.nii.gz" in torn.stderr


def test_a_finished_run_can_be_turned_in_a_notebook(project: Path, tiny: Path) -> None:
    """The notebook with the sliders runs on a run as the stages leave it, and shows each of its three panels."""
    out = project / "explore.ipynb"
    papermill = [sys.executable, "-m", "papermill", "--no-progress-bar", "notebooks/explore.ipynb", str(out)]
    done = subprocess.run(
        [*papermill, "-p", "run", "runs/tiny"], cwd=project, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cells = {cell["id"]: cell for cell in nbformat.read(out, as_version=4).cells}
    state = nbformat.read(out, as_version=4).metadata.get("widgets", {}).values()
    kinds = [model["model_name"] for told in state for model in told["state"].values()]
    for name in ("ranking", "slices", "overlap"):
        assert "application/vnd.jupyter.widget-view+json" in cells[name].outputs[0]["data"], name
    assert kinds.count("ImageModel") >= 1 and "DropdownModel" in kinds
