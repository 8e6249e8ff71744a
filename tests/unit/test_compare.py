"""What becomes of a cell's scores before they are compared."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from test_baselines import lesion_store

from braintransfer import compare, metrics, reference, study
from braintransfer.compare import read_cell
from braintransfer.errors import BadInput
from braintransfer.provenance import content_digest, write_manifest
from braintransfer.settings import CompareSettings
from braintransfer.store import StoreWriter, open_store


def cell(run: Path) -> pd.DataFrame:
    """Fold 1, seed 2 of one cell: person a with two scans, b with one that has no value, c with one of two."""
    folder = run / "targets" / "main" / "ms" / "scratch" / "fold-1" / "seed-2"
    folder.mkdir(parents=True)
    rows = [("a", "a1", 0.2), ("a", "a2", 0.6), ("b", "b1", math.nan), ("c", "c1", 0.5), ("c", "c2", math.nan)]
    table = pd.DataFrame(
        [(p, s, "dice", "", v) for p, s, v in rows], columns=["subject", "scan", "metric", "class", "value"]
    )
    table.to_csv(folder / "scores.csv", index=False)
    parameters = {"encoder": "e", "fold": 1, "seed": 2}
    write_manifest(folder, stage="finetune", key="k", parameters=parameters, code="c", inputs={}, n_train=4)
    return read_cell(CompareSettings(read_from=str(run), write_to=str(run), cells=["ms:scratch"]), "ms", "scratch")


def test_a_person_is_one_row_however_many_scans(tmp_path: Path) -> None:
    found = cell(tmp_path)
    assert list(found.columns) == study.RESULT_COLUMNS
    assert found["subject"].tolist() == ["a", "b", "c"]
    assert found["value"].tolist()[::2] == pytest.approx([0.4, 0.5]) and math.isnan(found["value"][1])


def test_a_row_says_its_own_fold_and_seed(tmp_path: Path) -> None:
    found = cell(tmp_path)
    assert set(found["fold"]) == {1} and set(found["seed"]) == {2} and set(found["n_train"]) == {4}
    assert set(found["n_source"]) == {0} and set(found["domain"]) == {""}


@pytest.mark.parametrize(
    ("drawn_by", "can_learn", "counts"),
    [("now", True, True), ("otherwise", True, False), ("now", False, False), ("", True, False)],
)
def test_a_null_check_counts_only_for_the_lesions_it_was_made_with_and_where_it_could_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: str, can_learn: bool, counts: bool
) -> None:
    kept = {"dice": 0.05, "prior_map_dice": 0.04, "artefact_auc": 0.5, "drawn_by": "now", "can_learn": can_learn}
    (tmp_path / "runs" / "proof" / "lesions").mkdir(parents=True)
    path = tmp_path / "runs" / "proof" / "lesions" / "null_check.json"
    path.write_text(json.dumps({"ms": kept}), encoding="utf-8")
    monkeypatch.setattr(compare, "project_root", lambda: tmp_path)
    writer = StoreWriter(tmp_path / "data" / "ms", (8, 8))
    writer.add(np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8), subject="a", scan="a")
    writer.finish({"folds": [{"train": ["a"], "validation": [], "test": [], "order": [["a"]]}]})
    facts = {"drawn_by": drawn_by}
    write_manifest(tmp_path / "data" / "ms", stage="prepare", key="k", parameters={}, code="c", inputs={}, facts=facts)
    settings = CompareSettings(read_from=str(tmp_path), write_to=str(tmp_path), cells=["ms:scratch"])
    expected = {"ms": {"dice": 0.05, "prior_map_dice": 0.04, "artefact_auc": 0.5}} if counts else {}
    assert compare.null_checks(settings, ["ms"]) == expected


# ------------------------------------------------------------------------------------------- a whole little comparison


def training(run: Path, source: str, fold: int, seed: int, value: float, key: str = "k") -> Path:
    """One finished training of stroke: everyone who is tested in that fold reaches `value`."""
    place = run / "targets" / "main" / "stroke" / source / f"fold-{fold}" / f"seed-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    people = open_store(run / "data" / "stroke").subjects("test", fold)
    scores = {"dice": value, "lesion_sensitivity": value, "volume_error_ml": 0.0}
    rows = [(p, p, metric, "", score) for p in people for metric, score in scores.items()]
    pd.DataFrame(rows, columns=["subject", "scan", "metric", "class", "value"]).to_csv(
        place / "scores.csv", index=False
    )
    curve = [(p, p, threshold, value * k, 0.0) for p in people for k, threshold in ((1.0, 0.5), (0.5, 0.9))]
    columns = ["subject", "scan", "threshold", "sensitivity", "fp_per_scan"]
    pd.DataFrame(curve, columns=columns).to_csv(place / "froc.csv", index=False)
    rows = [
        (p, p, scoring, metric, value * k)
        for p in people
        for k, scoring, metric in ((0.5, "threshold 0.9", "dice"), (0.25, metrics.MSSEG, "lesion_sensitivity"))
    ]
    pd.DataFrame(rows, columns=["subject", "scan", "scoring", "metric", "value"]).to_csv(
        place / "otherwise.csv", index=False
    )
    parameters = {"encoder": "e", "fold": fold, "seed": seed}
    write_manifest(
        place,
        stage="finetune",
        key=key,
        parameters=parameters,
        code="c",
        inputs={},
        n_train=2,
        common={"start": source},
    )
    return place


def cell_manifest(run: Path, source: str, rows: dict[str, str]) -> None:
    folder = run / "targets" / "main" / "stroke" / source
    write_manifest(folder, stage="finetune", key=str(rows), parameters={}, code="c", inputs=rows, outputs=[])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Stroke from two sources, fold 0 and two seeds, and what another plan left: a third seed and a second fold."""
    lesion_store(tmp_path / "data" / "stroke")
    write_manifest(tmp_path / "audit", stage="audit", key="a", parameters={}, code="c", inputs={}, outputs=[])
    for source, value in (("scratch", 0.2), ("imagenet", 0.4)):
        for seed in (0, 1):
            training(tmp_path, source, 0, seed, value)
        training(tmp_path, source, 0, 2, 0.9, "of another plan")
        training(tmp_path, source, 1, 0, 0.9, "of another plan")
        cell_manifest(tmp_path, source, {"fold-0/seed-0": "k", "fold-0/seed-1": "k"})
    return tmp_path


def compared(run: Path, *sources: str) -> compare.Comparison:
    cells = [f"stroke:{source}" for source in sources or ("scratch", "imagenet")]
    settings = CompareSettings(read_from=str(run), write_to=str(run), cells=cells)
    found = compare.compare(settings, lambda line: None)
    compare.finish(settings, found)
    return found


def test_rows_that_another_plan_left_are_no_results(run: Path) -> None:
    found = compared(run)
    assert set(found.results["seed"]) == {0, 1} and set(found.results["fold"]) == {0}
    assert set(found.baselines["fold"]) == {0}
    curve = pd.read_csv(found.folder / "froc.csv").set_index(["threshold", "source"])["sensitivity"]
    assert curve[0.5].to_dict() == {"scratch": pytest.approx(0.2), "imagenet": pytest.approx(0.4)}
    assert set(pd.read_csv(found.folder / "fairness.csv")["seed"]) == {0, 1}


def test_a_comparison_asks_how_far_the_claims_hang_on_thresholds_rules_and_pooling(run: Path) -> None:
    choices = pd.read_csv(compared(run).folder / "robustness.csv")
    assert set(choices["scoring"]) == {"as planned", "all people pooled", "threshold 0.9", metrics.MSSEG}
    assert set(choices.loc[choices["scoring"] == metrics.MSSEG, "claim"]) == {"claim2"}
    assert set(choices.loc[choices["scoring"] == "threshold 0.9", "claim"]) == {"claim1", "claim3"}
    settings = CompareSettings(read_from=str(run), write_to=str(run), cells=["stroke:imagenet"])
    found = compare.compare(settings, lambda line: None)
    others = compare.rescored(settings, [("stroke", "imagenet", "main")], found.results, found.baselines)
    assert set(others["threshold 0.9"]["value"].round(9)) == {0.2}
    assert set(others[metrics.MSSEG]["value"].round(9)) == {0.1}
    pooled = others["all people pooled"].groupby("metric")["value"].mean()
    assert pooled["dice"] == pytest.approx(0.4) and pooled["iou"] == pytest.approx(0.25)
    assert pooled["lesion_sensitivity"] == pytest.approx(0.4)


def test_pooled_scores_are_the_ratios_of_all_voxels_and_all_lesions_together() -> None:
    rng = np.random.default_rng(0)
    rows, empty = [], []
    sums: dict[tuple[str, int], list[tuple[int, float, float, float]]] = {}
    lesions: dict[str, dict[str, float]] = {}
    for target, classes in (("stroke", [""]), ("anatomy", ["csf", "gm", "wm"])):
        for k, name in enumerate(classes):
            for person in "abcde":
                truth = float(rng.lognormal(2, 1))
                empty.append((target, person, "empty", "volume_error_ml", name, -truth))
                lesions.setdefault(target, {})[person] = float(rng.integers(1, 40))
                for seed in (0, 1):
                    found, both = (truth * rng.uniform(0.1, 0.9), truth * rng.uniform(1, 3))
                    sums.setdefault((target, seed), []).append((k, found, both, truth))
                    score = {"dice": 2 * found / (both + truth), "volume_error_ml": both - truth}
                    score["lesion_sensitivity"] = rng.integers(0, 2) / lesions[target][person]
                    rows += [(target, person, seed, metric, name, value) for metric, value in score.items()]
    # someone without a lesion: what is marked there counts, though there is no Dice
    empty.append(("stroke", "f", "empty", "volume_error_ml", "", -0.0))
    lesions["stroke"]["f"] = 0
    for seed in (0, 1):
        sums["stroke", seed].append((0, 0.0, 9.0, 0.0))
        nothing = {"dice": math.nan, "volume_error_ml": 9.0, "lesion_sensitivity": math.nan}
        rows += [("stroke", "f", seed, metric, "", value) for metric, value in nothing.items()]
    results = pd.DataFrame(rows, columns=["target", "subject", "seed", "metric", "class", "value"])
    results = results.assign(arm="main", encoder="e", source="scratch")
    simple = pd.DataFrame(empty, columns=["target", "subject", "baseline", "metric", "class", "value"])
    pooled = compare._pooled(results, simple, {"stroke": lesions["stroke"]})
    means = pooled.groupby(["target", "metric", "seed"])["value"].mean()
    for (target, seed), parts in sums.items():
        each = [np.array([p[1:] for p in parts if p[0] == k]).sum(axis=0) for k in sorted({p[0] for p in parts})]
        assert means[target, "dice", seed] == pytest.approx(np.mean([2 * f / (b + t) for f, b, t in each]))
        overlap = np.mean([f / (b + t - f) for f, b, t in each])
        assert means[target, "miou" if target == "anatomy" else "iou", seed] == pytest.approx(overlap)
    share = results[(results["metric"] == "lesion_sensitivity") & (results["target"] == "stroke")]
    n = share["subject"].map(lesions["stroke"])
    detected = (share["value"] * n).groupby(share["seed"]).sum() / n.groupby(share["seed"]).sum()
    assert means["stroke", "lesion_sensitivity"].to_dict() == pytest.approx(detected.to_dict())


def test_data_that_were_prepared_again_after_the_leak_audit_are_refused(run: Path) -> None:
    now = content_digest(run / "data" / "stroke")
    for digest in (now, "of other pictures"):
        inputs = {"data/stroke": digest}
        write_manifest(run / "audit", stage="audit", key="a", parameters={}, code="c", inputs=inputs, outputs=[])
        if digest == now:
            compared(run)
    refused(lambda: compared(run), str(run / "data" / "stroke"), "repeat the audit")


def test_a_row_that_is_not_the_one_its_cell_names_is_refused(run: Path) -> None:
    place = training(run, "imagenet", 0, 1, 0.9, "of another plan")
    refused(lambda: compared(run), str(place), "repeat `braintransfer run`")


def test_a_seed_of_an_encoder_that_another_plan_left_has_not_learned_for_it(tmp_path: Path) -> None:
    source = tmp_path / "sources" / "main" / "mri-segmentation"
    for seed, key in ((0, "k"), (1, "of another plan")):
        write_manifest(
            source / f"seed-{seed}", stage="pretrain", key=key, parameters={"seed": seed}, code="c", inputs={},
            learned={"dice": 0.5},
        )  # fmt: skip
    write_manifest(source, stage="pretrain", key="s", parameters={}, code="c", inputs={"seed-0": "k"}, outputs=[])
    settings = CompareSettings(read_from=str(tmp_path), write_to=str(tmp_path), cells=["ms:mri-segmentation"])
    found = compare.learned(settings, [("ms", "mri-segmentation", "main")])
    assert found == {"mri-segmentation": {0: {"dice": 0.5}}}


def test_a_smaller_comparison_leaves_no_table_or_figure_of_a_larger_one(run: Path) -> None:
    folder = run / "compare"
    left = [
        folder / "factorial.csv",
        folder / "arms.csv",
        folder / "figures" / "old.png",
        folder / "figures" / "old.json",
    ]
    (folder / "figures").mkdir(parents=True)
    for path in left:
        path.write_text("old")
    write_manifest(folder, stage="compare", key="larger", parameters={}, code="c", inputs={})
    compared(run, "imagenet")
    assert not any(path.exists() for path in left)
    listed = set(json.loads((folder / "manifest.json").read_text())["outputs"])
    assert {"accuracy.csv", "claims.json", "contrasts_by_fold.csv"} <= listed
    assert not listed & {path.relative_to(folder).as_posix() for path in left}


def test_a_comparison_that_is_broken_off_does_not_look_like_the_one_before(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = compared(run).folder
    with monkeypatch.context() as broken:
        broken.setattr(compare, "read_cell", lambda *_: refuse())
        with pytest.raises(BadInput):
            compared(run, "imagenet")
    assert not (folder / "manifest.json").exists() and not (folder / "claims.json").exists()


def refuse() -> None:
    raise BadInput("broken off")


def test_the_same_comparison_once_more_does_not_score_the_baselines_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compared(run)
    monkeypatch.setattr(compare.baselines, "score_baselines", lambda *_: refuse())
    pd.testing.assert_frame_equal(compared(run).baselines, first.baselines)


def test_differences_by_fold_are_kept_with_a_run(run: Path) -> None:
    scratch = {"fold-0/seed-0": "k", "fold-0/seed-1": "k"}
    for source, value in (("imagenet", 0.4), ("mri-segmentation", 0.3)):
        for fold in (0, 1):
            for seed in (0, 1):
                training(run, source, fold, seed, value + 0.2 * fold * (source == "imagenet"))
        cell_manifest(run, source, {**scratch, "fold-1/seed-0": "k", "fold-1/seed-1": "k"})
    for seed in (0, 1):
        write_manifest(
            run / "sources" / "main" / "mri-segmentation" / f"seed-{seed}", stage="pretrain", key="k",
            parameters={"seed": seed}, code="c", inputs={}, n_images=9, learned={}, common={},
        )  # fmt: skip
    found = compared(run, "imagenet", "mri-segmentation")
    (run / "machine.json").write_text("{}")
    kept = reference.keep(run, run / "kept", lambda line: None) / "compare" / "contrasts_by_fold.csv"
    assert kept.read_bytes() == (found.folder / "contrasts_by_fold.csv").read_bytes()
    table = pd.read_csv(kept)
    first = table[(table["claim"] == "claim1") & (table["B"] == "imagenet")]
    assert first["fold"].tolist() == [0, 1] and first["n"].tolist() == [3, 3]
    assert first["difference"].tolist() == pytest.approx([-0.1, -0.3])


@pytest.mark.parametrize(
    ("kinds", "simulated"),
    [
        ({"stroke": "volumes", "mri": "slices", "natural": "composited"}, set()),
        ({"stroke": "simulated", "mri": "slices", "natural": "composited"}, {"stroke"}),
        ({"stroke": "volumes", "mri": "simulated", "natural": "images"}, {"mri-segmentation"}),
    ],
)
def test_what_is_simulated_is_read_from_the_data_of_targets_and_sources(
    tmp_path: Path, kinds: dict[str, str], simulated: set[str]
) -> None:
    for name, kind in kinds.items():
        facts = {"kind": kind, "simulated": kind == "simulated"}
        folder = tmp_path / "data" / name
        write_manifest(folder, stage="prepare", key="k", parameters={}, code="c", inputs={}, outputs=[], facts=facts)
    settings = CompareSettings(read_from=str(tmp_path), write_to=str(tmp_path), cells=["stroke:mri-segmentation"])
    found = compare._facts(
        settings, [("stroke", "mri-segmentation", "main"), ("stroke", "natural-classification", "main")]
    )
    assert compare._simulated(found) & {"stroke", "mri-segmentation", "natural-classification"} == simulated
    assert found["simulated"] is (simulated == {"stroke"}) and found["source_kinds"].keys() == {"mri", "natural"}


def test_the_books_null_check_says_its_people_and_its_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = compare.project_root() / "book" / "proof"
    check = json.loads((proof / "lesions_null_check.json").read_text())["stroke"]
    folder = tmp_path / "data" / "stroke"
    facts = {"drawn_by": check["drawn_by"]}
    writer = StoreWriter(folder, (8, 8))
    writer.add(np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8), subject="a", scan="a")
    writer.finish({"folds": [{"train": ["a"], "validation": [], "test": [], "order": [["a"]]}]})
    write_manifest(folder, stage="prepare", key="k", parameters={}, code="c", inputs={}, facts=facts)
    monkeypatch.setattr(compare, "project_root", lambda: tmp_path)
    shutil.copytree(proof, tmp_path / "book" / "proof")
    settings = CompareSettings(read_from=str(tmp_path), write_to=str(tmp_path), cells=["stroke:scratch"])
    found = compare.null_checks(settings, ["stroke"])["stroke"]
    assert (found["people"], found["seeds"]) == (6, 2)
    # as the table of the proof says it
    table = pd.read_csv(proof / "lesions_null.csv").query("Target == 'stroke' and Contrast == '1.0'")
    highest = table.loc[table["Dice"].idxmax(), "Difference (95 % interval)"]
    apart = found["dice"] - found["prior_map_dice"]
    assert highest == f"{apart:+.3f} ({found['lower']:+.3f} to {found['upper']:+.3f})"
