"""The null check of semi-synthetic lesions: set in without contrast, they must not be learnable.

The study's own preparation, network and fine-tuning, twice: lesions with contrast 1.0 (the reference is there, the
picture is as it was) and, to show that so small a training can learn at all, with the real contrast.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintransfer import baselines, claims, recipes
from braintransfer.finetune import finetune
from braintransfer.machine import FILE, load_or_measure
from braintransfer.prepare import fill_target
from braintransfer.provenance import (
    code_hash,
    digest,
    files_digest,
    is_done,
    project_root,
    stage_key,
    write_manifest,
)
from braintransfer.settings import FinetuneSettings, PrepareSettings
from braintransfer.simulate.lesions import Contrast
from braintransfer.statistics import mean_interval
from braintransfer.store import Store, open_store

RECIPES = {"stroke": "semisynthetic_stroke", "ms": "semisynthetic_ms"}
#: Folder of a run -> contrast of the lesions in it. (pandas would read "null" as a missing value.)
CONTRASTS: dict[str, Contrast] = {"without": 1.0, "real": "real"}
SOURCES = ("scratch", "imagenet")
SEEDS = (0, 1)
#: Small and fixed: two cores finish in a quarter of an hour. One fold of three; its other people train.
GRID: dict[str, Any] = {"size": [128, 96], "spacing": 2.0, "folds": 3, "n_validation": 2}
TRAINING: dict[str, Any] = {"steps": 120, "batch": 8, "learning_rate": 0.003, "crop": 64, "augmentation": 0.3}
COLUMNS = ["target", "contrast", "what", "seed", "subject", "dice"]
Report = Callable[[str], None]


def recipe_with(name: str, root: Path, contrast: Contrast) -> recipes.Recipe:
    """A semi-synthetic recipe with another contrast; who gets which mask, and so the reference, stays the same."""
    recipe = recipes.load_recipe(name, root)
    assert recipe.lesions is not None
    return recipe.model_copy(update={"lesions": recipe.lesions.model_copy(update={"contrast": contrast})})


def fill_store(run: Path, target: str, contrast: Contrast, root: Path, people: int, seed: int, report: Report) -> Store:
    """The slice store of `people` semi-synthetic people in `run`/data/`target`: made by the study's own preparation."""
    settings = PrepareSettings(
        dataset=target, recipe=RECIPES[target], role="target", target=target, data=str(root), subjects=people, seed=seed,
        read_from=str(run), write_to=str(run), profile="proof", **GRID,
    )  # fmt: skip
    recipe = recipe_with(settings.recipe, root, contrast)
    inputs = {
        "recipe": digest(recipe.model_dump(mode="json")),
        "files": files_digest(recipes.input_files(recipe, root), root),
    }
    code, parameters = code_hash(project_root() / "notebooks" / "prepare.ipynb"), settings.model_dump()
    key = stage_key("prepare", parameters, code, inputs)
    if not is_done(settings.folder, key):
        facts = fill_target(settings, recipe, report)
        facts |= {"dataset": target, "recipe": recipe.name, "simulated": False, "contrast": contrast}
        write_manifest(
            settings.folder, stage="prepare", key=key, parameters=parameters, code=code, inputs=inputs, facts=facts,
            device="cpu",
        )  # fmt: skip
    return open_store(settings.folder)


def dice_scores(
    folder: Path, targets: Iterable[str], root: Path, people: int, seed: int, report: Report = print
) -> pd.DataFrame:
    """Dice of the test people of fold 0: every network, and the prior map of the same training people.

    Stores and networks lie in `folder`/without and `folder`/real; what is there already is read. Columns: `COLUMNS`; `what`
    is a source or "prior_map". The prior map has no seed.
    """
    rows: list[list[Any]] = []
    load_or_measure(folder, encoder=FinetuneSettings.model_fields["encoder"].default)
    for target in targets:
        for name, contrast in CONTRASTS.items():
            run = folder / name
            run.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / FILE, run / FILE)  # measured once: both must compute alike
            store = fill_store(run, target, contrast, root, people, seed, report)
            for found in baselines.score_baselines(store, target, 0, 0):
                if found["baseline"] == "prior_map" and found["metric"] == "dice":
                    rows.append([target, name, "prior_map", -1, found["subject"], found["value"]])
            for source in SOURCES:
                report(f"{target}, contrast {contrast}, {source}")
                settings = FinetuneSettings(
                    source=source, target=target, seeds=list(SEEDS), folds=[0], read_from=str(run), write_to=str(run),
                    profile="proof", **TRAINING,
                )  # fmt: skip
                for row in finetune(settings, report):
                    dice = row.scores[row.scores["metric"] == "dice"]
                    rows += [[target, name, source, row.seed, s, v] for s, v in zip(dice["subject"], dice["value"], strict=True)]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def by_person(scores: pd.DataFrame, target: str, contrast: str, what: str) -> np.ndarray:
    """Dice (people, seeds), people in sorted order; the prior map has one column."""
    part = scores[(scores["target"] == target) & (scores["contrast"] == contrast) & (scores["what"] == what)]
    return part.pivot_table(index="subject", columns="seed", values="dice", sort=True).to_numpy(float)


def compare_dice(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a target, contrast and source: mean Dice, the prior map's, and their difference with its 95 % interval."""
    rows = []
    for target, contrast, source in scores.loc[scores["what"] != "prior_map", COLUMNS[:3]].drop_duplicates().to_numpy():
        dice = by_person(scores, target, contrast, source)
        prior = by_person(scores, target, contrast, "prior_map")
        apart = mean_interval(dice - prior)
        rows.append(
            {
                "target": target, "contrast": contrast, "source": source, "people": len(dice), "seeds": dice.shape[1],
                "dice": float(dice.mean()), "prior_map_dice": float(prior.mean()), "difference": apart.estimate,
                "lower": apart.lower, "upper": apart.upper,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def verdict(compared: pd.DataFrame, artefact_auc: dict[str, float], rules: claims.NullContrast) -> dict[str, Any]:
    """Target -> what the gate `null_contrast` asks for, and whether it holds. JSON-able.

    dice: of the source that reached most without contrast. passed: as claims.yaml says. can_learn: with the real contrast
    some source does exceed the prior map by more than the margin; where it does not, a pass shows nothing and the
    verdict is "inconclusive".
    """
    found: dict[str, Any] = {}
    for target, rows in compared.groupby("target", sort=False):
        null, real = (rows[rows["contrast"] == name] for name in ("without", "real"))
        best, learned = null.loc[null["dice"].idxmax()], real.loc[real["dice"].idxmax()]
        auc = artefact_auc[str(target)]
        margin = rules.dice_above_prior_map
        passed = bool(best["dice"] <= best["prior_map_dice"] + margin and auc <= rules.artefact_auc)
        can_learn = bool(learned["dice"] > learned["prior_map_dice"] + margin)
        found[str(target)] = {
            "dice": float(best["dice"]), "prior_map_dice": float(best["prior_map_dice"]), "artefact_auc": auc,
            "dice_with_contrast": float(learned["dice"]), "passed": passed, "can_learn": can_learn,
            "verdict": "fails" if not passed else "passes" if can_learn else "inconclusive",
            "people": int(best["people"]), "seeds": int(best["seeds"]),
        }  # fmt: skip
    return found


def for_reading(compared: pd.DataFrame, found: dict[str, Any]) -> pd.DataFrame:
    """The table of the book: every cell is text."""
    rows = []
    for _, row in compared.iterrows():
        null = row["contrast"] == "without"
        gate = found[row["target"]]
        rows.append(
            {
                "Target": row["target"], "Contrast": "1.0" if null else "real", "Source": row["source"],
                "Dice": f"{row['dice']:.3f}", "Prior map": f"{row['prior_map_dice']:.3f}",
                "Difference (95 % interval)": f"{row['difference']:+.3f} ({row['lower']:+.3f} to {row['upper']:+.3f})",
                "Test people x seeds": f"{row['people']} x {row['seeds']}",
                "Artefact AUC": f"{gate['artefact_auc']:.2f}" if null else "",
                "Verdict of the target": gate["verdict"] if null else "",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
