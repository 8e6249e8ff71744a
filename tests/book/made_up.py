"""A made-up run and the book that is built from it. Its numbers are random and mean nothing."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
from safetensors.torch import save_file
from test_baselines import lesion_store

from braintransfer import figures, study, tables
from braintransfer.network import build_unet
from braintransfer.provenance import atomic_write_json, read_manifest

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("scratch", "imagenet", "mri-segmentation")


def a_project(root: Path) -> Path:
    """The book's prose and settings in an empty project, without the book's own run and without another."""
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("reference"))
    for name in ("_config.yml", "_toc.yml", "package.json", "package-lock.json"):
        shutil.copyfile(ROOT / name, root / name)
    (root / "notebooks" / "profiles").mkdir(parents=True)
    (root / "notebooks" / "profiles" / "demo.yaml").touch()
    return root


def an_executed_notebook(folder: Path, stage: str = "finetune") -> Path:
    """An executed stage with its manifest; both made up."""
    folder.mkdir(parents=True)
    code = nbformat.v4.new_code_cell("picture", execution_count=2)
    data, metadata = figures.overlap_figure()._repr_mimebundle_()
    code.outputs = [nbformat.v4.new_output("display_data", data=data, metadata=metadata)]
    parameters = nbformat.v4.new_code_cell("seed: int = 0", execution_count=1, metadata={"tags": ["parameters"]})
    cells = [
        nbformat.v4.new_markdown_cell("# A question?\n\nSome $x^2$."),
        parameters,
        nbformat.v4.new_markdown_cell("## Result"),
        code,
    ]
    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"papermill": {"parameters": {"seed": 0}, "duration": 7.5}}
    )
    nbformat.write(notebook, folder / f"{stage}.ipynb")
    manifest = {
        "status": "done",
        "stage": stage,
        "key": "0" * 64,
        "code": "1" * 64,
        "parameters": {"seed": 0},
        "outputs": {},
        "seconds": 1.0,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder / f"{stage}.ipynb"


def made_up_results() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for source, target, person, seed in itertools.product(SHOWN, study.TARGETS, range(4), range(2)):
        domain, task = study.domain_task(source)
        key = {
            "profile": "demo",
            "arm": "main",
            "encoder": "none",
            "source": source,
            "domain": domain,
            "task": task,
            "target": target,
            "subject": f"made-up-{person}",
            "fold": 0,
            "seed": seed,
            "n_train": 2,
            "n_source": 10 * len(task),
            "class": "",
        }
        metrics = ("dice", "miou", *(tables.DETECTION_METRICS if target in study.DETECTED else ()))
        rows += [{**key, "metric": metric, "value": rng.uniform()} for metric in metrics]
    return pd.DataFrame(rows)[list(study.RESULT_COLUMNS)]


def made_up_arms(main: pd.DataFrame) -> pd.DataFrame:
    """Rows of controls, of every kind that a page words in another way."""
    asked = [("scratch_long", "scratch"), ("shuffled_masks", "mri-segmentation"), ("size_0.1", "mri-segmentation"),
             ("replicate_malf", "mri-segmentation"), ("labels_1", "scratch"), ("labels_1", "imagenet")]  # fmt: skip
    frames = []
    for k, (arm, source) in enumerate(asked):
        rows = main[main["source"] == source]
        moved = rows["value"] * (0.8 - 0.1 * k)
        frames.append(rows.assign(arm=arm, value=moved, n_train=1 if arm == "labels_1" else 2))
    return pd.concat(frames, ignore_index=True)


def with_everything(results: pd.DataFrame) -> pd.DataFrame:
    """The results and further metrics of them, with classes and numbers that need much room: as many as a run has."""
    rng = np.random.default_rng(1)
    dice = results[results["metric"] == "dice"]
    more = []
    for metric in ("iou", "surface_dice_2mm", "volume_error_ml", "fp_volume_ml", "hd95_mm"):
        scale = 100.0 if metric.endswith(("_ml", "_mm")) else 1.0
        for class_ in ("", *study.CLASSES["anatomy"]):
            rows = dice if not class_ else dice[dice["target"] == "anatomy"]
            values = scale * rng.uniform(-1, 1, len(rows))
            more.append(rows.assign(**{"metric": metric, "class": class_, "value": values}))
    return pd.concat([results, *more], ignore_index=True)


#: What `claims.evaluate` sums up, with a sentence of every kind.
SUMMARY = {
    "claim": "claim1",
    "verdict": "inconclusive",
    "reason": "a gate failed on stroke, ms",
    "targets": {
        "stroke": {
            "verdict": "inconclusive",
            "reason": "a gate failed on stroke",
            "gates_failed": [
                "assay: no source beats scratch at 0.025 / 7; nearest: imagenet (one-sided p = 0.032)",
                "source_learned: did not learn its own task: natural-classification seed 0, natural-classification seed 1, "
                "mri-segmentation@size_0.1 seed 1",
                "null_contrast: not run",
                "range: mean lesion_sensitivity 0.077, outside [0.15, 0.9]",
                "min_subjects: 4 people, at least 12 wanted",
            ],
        },
        "ms": {"verdict": "not_supported", "reason": "beyond the margin: mri-segmentation - imagenet on ms"},
    },
}


def a_run(root: Path) -> Path:
    """A small made-up run of the demo: three sources, three targets, two executed notebooks."""
    run = root / "runs" / "demo"
    (run / "compare").mkdir(parents=True)
    main = made_up_results()
    results = pd.concat([main, made_up_arms(main)], ignore_index=True)
    results.to_csv(run / "results.csv", index=False)
    made = tables.comparison_tables(pd.concat([with_everything(main), made_up_arms(main)], ignore_index=True))
    made["arms"] = made["arms"].assign(learned=["no" if arm == "replicate_malf" else "" for arm in made["arms"]["arm"]])
    made["learned"] = pd.DataFrame(
        [
            {"source": source, "seed": seed, "measure": name, "value": value}
            for source, dice in (("mri-segmentation", 0.6), ("replicate_malf/mri-segmentation", 0.3))
            for seed in range(2)
            for name, value in (("dice", dice), ("all_foreground", 0.3), ("learned", dice > 0.5), ("n", 9))
        ]
    )
    for name, table in made.items():
        table.to_csv(run / "compare" / f"{name}.csv", index=False)
    contrast = {
        "claim": "claim1",
        "target": "stroke",
        "A": "mri-segmentation",
        "B": "imagenet",
        "metric": "dice",
        "estimate": 0.01,
        "lower": -0.1,
        "upper": 0.12,
        "margin": 0.03,
        "n_subjects": 4,
        "n_seeds": 2,
        "verdict": "illustration: the rule would say inconclusive",
        "gates": {"assay": {"passed": False, "reason": "made up"}},
    }
    by_fold = [
        {"claim": "claim1", "target": target, "A": "mri-segmentation", "B": "imagenet", "metric": "dice", "fold": fold,
         "n": 2, "seeds": 2, "difference": 0.01 - 0.03 * fold}
        for target, folds in (("stroke", 1), ("ms", 2))
        for fold in range(folds)
    ]  # fmt: skip
    pd.DataFrame(by_fold).to_csv(run / "compare" / "contrasts_by_fold.csv", index=False)
    tenth = {**contrast, "claim": "claim3", "A": "mri-segmentation@size_0.1", "B": "natural-classification"}
    (run / "compare" / "claims.json").write_text(json.dumps([contrast, tenth]))
    illustrated = {**SUMMARY, "verdict": "illustration: the rule would say inconclusive"}
    (run / "compare" / "claims_summary.json").write_text(json.dumps([illustrated]))
    (run / "run.json").write_text(json.dumps({"profile": "demo", "title": "Made up for a test", "simulated": True}))
    an_executed_notebook(run / "targets" / "main" / "stroke" / "imagenet")
    an_executed_notebook(run / "data" / "natural", "prepare")
    a_scan(run)
    return run


def a_scan(run: Path, publish: str = "volumes") -> None:
    """Six tiny scans with one cube as MS lesion in the run's store, and networks of three sources that learned nothing."""
    folder = run / "data" / "ms"
    lesion_store(folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    manifest["parameters"] = {"role": "target", "target": "ms"}
    manifest["facts"] |= {"publish": publish, "simulated": True, "citation": "made up for a test", "licence": "none"}
    atomic_write_json(folder / "manifest.json", manifest)
    header = {"encoder": "tf_efficientnet_lite0", "outputs": "2", "spacing": "2.0", "size": "32x32"}
    for k, source in enumerate(SHOWN):
        kept = run / "targets" / "main" / "ms" / source / "fold-0" / "seed-0"
        kept.mkdir(parents=True, exist_ok=True)
        weights = build_unet("tf_efficientnet_lite0", 2, k).state_dict()
        save_file({name: value.contiguous() for name, value in weights.items()}, kept / "network.safetensors", header)
