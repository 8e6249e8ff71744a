"""Everything that a run finished, side by side: one long table, the baselines, the claims, and what the book shows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintransfer import baselines, claims, evaluate, metrics, study, tables
from braintransfer.errors import BadInput
from braintransfer.plan import Cell, cell_of, encoders_of
from braintransfer.provenance import (
    MANIFEST,
    atomic_write_json,
    code_hash,
    content_digest,
    digest,
    in_project,
    is_done,
    only_writer,
    project_root,
    read_manifest,
    sha256_file,
    stage_key,
    write_manifest,
    write_table,
)
from braintransfer.settings import CompareSettings, profile_of
from braintransfer.statistics import paired_difference, pooled_values
from braintransfer.store import open_store

#: Scores of the baselines, in the folder of the comparison.
BASELINE_SCORES = "baseline_scores.csv"


@dataclass(frozen=True)
class Comparison:
    """What the compare stage found: `results` has every metric, one row a person, fold, seed and metric."""

    folder: Path
    results: pd.DataFrame
    baselines: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    claims: list[dict[str, Any]]
    facts: dict[str, Any]
    key: str
    code: str
    inputs: dict[str, str]
    seconds: float


_CELL = ["arm", "encoder", "source", "target"]


def rows_of(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The trainings of a cell or a source: their folders and manifests, those alone that its own manifest names.

    What another plan left beside them is none of it. Where the whole is not finished, every training that is. BadInput when a
    training is not the one that was named.
    """
    places = sorted(path.parent for path in folder.rglob(f"seed-*/{MANIFEST}"))
    rows = {place: row for place in places if (row := read_manifest(place)) is not None}
    whole = read_manifest(folder)
    if whole is None:
        return list(rows.items())
    named = {folder / name: key for name, key in whole["inputs"].items()}
    for place, key in named.items():
        if rows.get(place, {}).get("key") != key:
            raise BadInput(f"{place} is not what {folder / MANIFEST} names; repeat `braintransfer run`")
    return [(place, row) for place, row in rows.items() if place in named]


def read_cell(settings: CompareSettings, target: str, source: str, arm: str = "main") -> pd.DataFrame:
    """Scores of one finished cell as rows of the results table; several scans of a person are averaged."""
    folder = settings.inputs / "targets" / arm / target / source
    domain, task = study.domain_task(source)
    frames = []
    for place, manifest in rows_of(folder):
        text = {"subject": str, "scan": str, "metric": str, "class": str}
        scores = pd.read_csv(place / "scores.csv", dtype=text, keep_default_na=False, na_values={"value": [""]})
        # a person with a scan that has no value keeps the others' mean; with none it stays NaN
        people = scores.groupby(["subject", "metric", "class"], sort=True, dropna=False)["value"].mean().reset_index()
        parameters = manifest["parameters"]
        frames.append(
            people.assign(
                profile=settings.profile,
                arm=arm,
                encoder=parameters["encoder"],
                source=source,
                domain=domain,
                task=task,
                target=target,
                fold=parameters["fold"],
                seed=parameters["seed"],
                n_train=manifest["n_train"],
                n_source=_n_source(settings, source, arm, parameters["seed"]),
            )  # fmt: skip
        )
    if not frames:
        raise BadInput(f"{folder} holds no finished row; fine-tune {target} from {source} first")
    return pd.concat(frames, ignore_index=True)[study.RESULT_COLUMNS]


def _n_source(settings: CompareSettings, source: str, arm: str, seed: int) -> int:
    if source == "scratch":
        return 0
    if source == "imagenet":
        return study.IMAGENET_IMAGES
    arm = study.encoder_arm(arm)
    manifest = read_manifest(settings.inputs / "sources" / arm / source / f"seed-{seed}")
    if manifest is None:
        raise BadInput(f"the encoder {source} seed {seed} of {settings.inputs} has no manifest; pre-train it again")
    return int(manifest["n_images"])


def learned(settings: CompareSettings, cells: list[Cell]) -> dict[str, dict[int, dict[str, Any]]]:
    """What each encoder trained here reached on held-out pictures, for the gate source_learned: source -> seed -> figures.

    Encoders of another arm than main stand under "<arm>/<source>".
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for arm, source in encoders_of(cells):
        name = claims.encoder_name(arm, source)
        for _, manifest in rows_of(settings.inputs / "sources" / arm / source):
            found.setdefault(name, {})[int(manifest["parameters"]["seed"])] = manifest["learned"]
    return found


#: What may not differ between the sources of a training: a name in its recorded facts -> what it is called in fairness.csv.
_ALIKE = {
    "order": "order of the batches", "views": "first four batches as seen", "steps": "steps", "batch": "batch size",
    "learning_rate": "learning rate", "weight_decay": "weight decay", "warmup_steps": "warm-up steps", "crop": "crop",
    "augmentation": "augmentation", "device": "device", "precision": "precision", "channels_last": "memory format",
    "threads": "threads", "store": "data set", "people": "training people", "outside": "decoder and head at the start",
    "code": "code",
}  # fmt: skip
#: The tasks of a domain have networks and code of their own, and no people.
_ALIKE_TASKS = {k: v for k, v in _ALIKE.items() if k not in ("people", "outside", "code")}
#: What an arm changes on purpose, beside the encoder that it starts from.
_CHANGED = {
    "labels": ("people", "order", "views", "outside"),  # the head starts with how often a class is seen
    "scratch_long": ("steps", "order"),
    "tuned_rate": ("learning_rate",),
    "decoder_transfer": ("outside",),
    "contrastive": ("views",),
    "size": ("order", "views"),
    "grey_natural": ("views",),
    "shuffled_masks": ("views",),
    "replicate": ("order", "views", "store"),
}
#: What must differ: the bytes of the encoder that a fine-tuning starts from (files differ by their headers alone).
_START = "start"


def fairness(settings: CompareSettings, cells: list[Cell]) -> tuple[pd.DataFrame, str]:
    """Did nothing but the encoder's start differ? A row for each training and item, and one line on the first breach or "".

    Fine-tuning: all sources of a target, fold and seed agree on everything but the encoder, which no two may share.
    Pre-training: the tasks of a domain, seed by seed. Every other arm is held beside the main arm, but for what it changes
    on purpose. Columns: arm, training, of, fold, seed, item, sources, verdict.
    """
    rows, breach = [], ""
    main = _trainings(settings, [cell for cell in cells if cell[2] == "main"])
    for arm in dict.fromkeys(arm for _, _, arm in cells):
        changed = _CHANGED.get(study.arm(arm).kind, ())
        for place, own in (main if arm == "main" else _trainings(settings, [c for c in cells if c[2] == arm])).items():
            training, of, fold, seed = place
            # an arm's change is made in one of the two trainings; the other must be as in the main arm
            here = changed if (training == "pre-training") == study.arm(arm).pretrains else ()
            found = own if arm == "main" else own | {f"{s} of main": f for s, f in main.get(place, {}).items()}
            alike = {
                key: item for key, item in (_ALIKE_TASKS, _ALIKE)[training == "fine-tuning"].items() if key not in here
            }
            if training == "fine-tuning" and arm == "main":
                alike[_START] = "encoder at the start"
            for key, item in alike.items() if len(found) > 1 else ():
                verdict, wrong = _weighed(key, found)
                where = {"arm": arm, "training": training, "of": of, "fold": fold, "seed": seed}
                rows.append({**where, "item": item, "sources": len(found), "verdict": verdict})
                if wrong and not breach:
                    said = f"{training} of {of}{f', fold {fold}' if fold else ''}, seed {seed}"
                    said += "" if arm == "main" else f", arm {arm}"
                    same = "the same for" if key == _START else "not the same for"
                    breach = f"{said}: the {item} is {same} {wrong[0]} and {wrong[1]}"
    columns = ["arm", "training", "of", "fold", "seed", "item", "sources", "verdict"]
    return pd.DataFrame(rows, columns=columns), breach


def _weighed(key: str, found: dict[str, dict[str, Any]]) -> tuple[str, tuple[str, ...]]:
    """The verdict on one item of trainings that should agree (on the encoder's start: differ), and the first two that do not."""
    names, values = list(found), [facts.get(key) for facts in found.values()]
    for i, value in enumerate(values):
        first = values.index(value)
        if key == _START and first != i:
            return "twice", (names[first], names[i])
        if key != _START and value != values[0]:
            return "unequal", (names[0], names[i])
    return "differs" if key == _START else "equal", ()


#: What one training is of: fine-tuning or pre-training, target or domain, fold, seed.
_Place = tuple[str, str, str, int]


def _trainings(settings: CompareSettings, cells: list[Cell]) -> dict[_Place, dict[str, dict[str, Any]]]:
    """What each training of these cells recorded, those of one arm: place -> source -> facts."""
    found: dict[_Place, dict[str, dict[str, Any]]] = {}
    folders = [("fine-tuning", t, s, settings.inputs / "targets" / arm / t / s) for t, s, arm in cells]
    for arm, source in encoders_of(cells):
        if all(arm == of for _, _, of in cells):
            folders.append(
                ("pre-training", study.domain_task(source)[0], source, settings.inputs / "sources" / arm / source)
            )
    for training, of, source, folder in folders:
        for place, manifest in rows_of(folder):
            if "common" not in manifest:
                path = place / MANIFEST
                raise BadInput(f"{path} does not say what it shares; delete {place}, repeat `braintransfer run`")
            facts = manifest["common"] | {"code": manifest["code"]}
            fold = str(manifest["parameters"].get("fold", ""))
            found.setdefault((training, of, fold, int(manifest["parameters"]["seed"])), {})[source] = facts
    return found


#: What the gate says of a null check beside its figures, where the check says it.
_SIZE = ("people", "seeds", "steps", "batch", "spacing")


def null_checks(settings: CompareSettings, targets: list[str]) -> dict[str, dict[str, float]]:
    """Target -> what the null check of the very lesions in its store found (`braintransfer prove lesions`), for the gate.

    This project's own check counts first, else the book's. A target is missing where there is none, where the lesions were
    drawn in another way, or where so small a training did not learn them with their contrast either. lower, upper: the 95 %
    interval of its difference from the prior map, from the scores beside it.
    """
    own = project_root() / "runs" / "proof" / "lesions" / "null_check.json"
    path = own if own.is_file() else project_root() / "book" / "proof" / "lesions_null_check.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = {}
    for target in targets:
        drawn_by = open_store(settings.inputs / "data" / target).facts.get("drawn_by")
        check = kept.get(target, {})
        if drawn_by and check.get("drawn_by") == drawn_by and check["can_learn"]:
            found[target] = {name: check[name] for name in ("dice", "prior_map_dice", "artefact_auc")}
            found[target] |= {name: check[name] for name in _SIZE if name in check}
            found[target] |= _null_interval(path.with_name("lesions_null_dice.csv"), target)
    return found


def _null_interval(path: Path, target: str) -> dict[str, float]:
    """Limits of the difference from the prior map without contrast, of the source that reached most; empty without scores."""
    if not path.is_file():
        return {}
    scores = pd.read_csv(path)
    scores = scores[(scores["target"] == target) & (scores["contrast"] == "without")]
    dice = {what: part.pivot(index="subject", columns="seed", values="dice") for what, part in scores.groupby("what")}
    prior = dice.pop("prior_map").to_numpy()
    best = max(dice.values(), key=lambda table: table.to_numpy().mean())
    apart = paired_difference(best.to_numpy() - prior)
    if math.isnan(apart.lower):
        return {}
    # as this is an input of the comparison, it may not hang on the last bits of a machine
    return {"lower": round(apart.lower, 4), "upper": round(apart.upper, 4)}


def compare(settings: CompareSettings, report: Callable[[str], None] = print) -> Comparison:
    """Prove the cells fair, gather them, score the baselines, weigh the claims; write results.csv, claims.json and tables."""
    start, cells = time.perf_counter(), [cell_of(name) for name in settings.cells]
    inputs = {}
    for name, (target, source, arm) in zip(settings.cells, cells, strict=True):
        manifest = read_manifest(settings.inputs / "targets" / arm / target / source)
        if manifest is None:
            raise BadInput(
                f"{target} from {source} ({arm}) is not finished in {settings.inputs}; run it first (braintransfer run)"
            )
        inputs[name] = manifest["key"]
    rules = in_project(settings.claims)
    if not rules.is_file():
        raise BadInput(f"no claims at {rules}; give the path of a claims.yaml")
    inputs["claims"] = sha256_file(rules)
    checked = read_manifest(settings.inputs / "audit")
    if checked is None:
        raise BadInput(f"the leak audit of {settings.inputs} is not finished; run it first (braintransfer run)")
    for name, audited in checked["inputs"].items():
        place = settings.inputs / name
        if read_manifest(place) and content_digest(place) != audited:
            raise BadInput(f"{place} was prepared again after the leak audit; repeat the audit (braintransfer run)")
    inputs["audit"] = checked["key"]
    targets = list(dict.fromkeys(t for t, _, _ in cells))
    unlearnable = null_checks(settings, targets)
    inputs["null_checks"] = digest(unlearnable)
    code = code_hash(project_root() / "notebooks" / "compare.ipynb")
    key = stage_key("compare", settings.model_dump(), code, inputs)
    folder = settings.folder
    with only_writer(folder):
        alike, breach = fairness(settings, cells)
        _clear(folder, BASELINE_SCORES if is_done(folder, key) else "")
        write_table(folder / "fairness.csv", alike)
        if breach:
            raise BadInput(f"{breach}; delete both in {settings.inputs} and repeat `braintransfer run` on one machine")
        results = pd.concat([read_cell(settings, *cell) for cell in cells], ignore_index=True)
        report(
            f"{len(cells)} cells, {len(results.drop_duplicates(['arm', 'source', 'target', 'fold', 'seed']))} networks, {len(results)} scores"
        )
        write_table(settings.run / "all.csv.gz", results, sort_by=study.KEY_COLUMNS)
        headline = results[results["metric"].isin(study.HEADLINE_METRICS)]
        write_table(settings.run / "results.csv", headline, sort_by=study.KEY_COLUMNS)
        results = tables.read_results(settings.run / "all.csv.gz")
        facts = _facts(settings, cells)
        simple = _baselines(settings, cells, folder / BASELINE_SCORES, report)
        known = learned(settings, cells)
        real_or_not: dict[str, Any] = {
            "simulated": _simulated(facts),
            "semisynthetic": {t for t, k in facts["kinds"].items() if k == "semi-synthetic"},
            "null_checks": unlearnable,
        }
        weighed = claims.evaluate(claims.load(rules), results, known, **real_or_not)
        atomic_write_json(folder / "claims.json", weighed.contrasts)
        atomic_write_json(folder / "claims_summary.json", weighed.summary)
        atomic_write_json(settings.run / "run.json", facts)
        made = tables.comparison_tables(results, simple, settings.run)
        if "arms" in made:
            gone = claims.unlearned(claims.load(rules), known)
            names = map(claims.encoder_name, made["arms"]["arm"], made["arms"]["source"])
            made["arms"] = made["arms"].assign(learned=["no" if name in gone else "" for name in names])
        for name, table in made.items():
            write_table(folder / f"{name}.csv", table)
        write_table(folder / "contrasts_by_fold.csv", claims.differences_by_fold(claims.load(rules), results))
        curves = _of_networks(settings, cells, "froc.csv", ["threshold"], ["sensitivity", "fp_per_scan"])
        write_table(folder / "froc.csv", _froc(curves))
        write_table(folder / "learned.csv", _learned_table(known))
        write_table(folder / "skipped.csv", _skipped(settings, cells))
        others = rescored(settings, cells, results, simple)
        choices = claims.robustness(claims.load(rules), results, known, rescored=others, **real_or_not)
        write_table(folder / "robustness.csv", choices)
    seconds = round(time.perf_counter() - start, 1)
    return Comparison(folder, results, simple, made, weighed.contrasts, facts, key, code, inputs, seconds)


def _skipped(settings: CompareSettings, cells: list[Cell]) -> pd.DataFrame:
    """What `skip_bad` left out when the data of these cells were prepared, one row a file, with the reason.

    Columns: target (or, for a source's pictures, their domain or the arm of a replicate) and why.
    """
    domains = [study.domain_task(source)[0] for _, source, _ in cells if source not in study.CONTROLS]
    names = [*(target for target, _, _ in cells), *domains, *(arm for _, _, arm in cells)]
    rows = [
        {"target": name, "why": sentence}
        for name in dict.fromkeys(names)
        for sentence in ((read_manifest(settings.inputs / "data" / name) or {}).get("facts", {}).get("left_out", []))
    ]
    return pd.DataFrame(rows, columns=["target", "why"])


def _of_networks(
    settings: CompareSettings, cells: list[Cell], file: str, by: list[str], values: list[str]
) -> pd.DataFrame:
    """A table that each network with lesions left, of all of them: a row a network, person and `by`, means over a person's scans.

    Rows without that file (of a version that did not write it) are left out.
    """
    frames = []
    for target, source, arm in cells:
        folder = settings.inputs / "targets" / arm / target / source
        for place, manifest in rows_of(folder) if target in study.DETECTED else ():
            if (place / file).is_file():
                of = {name: manifest["parameters"][name] for name in ("encoder", "seed")}
                frame = pd.read_csv(place / file, dtype={"subject": str})
                frames.append(frame.assign(arm=arm, source=source, target=target, **of))
    keys = [*_CELL, "seed", "subject", *by]
    if not frames:
        return pd.DataFrame(columns=[*keys, *values])
    return pd.concat(frames).groupby(keys, sort=True)[values].mean().reset_index()


def _froc(curves: pd.DataFrame) -> pd.DataFrame:
    """Sensitivity and false positives of the main arm by target, source and threshold: means over people and seeds."""
    keys, values = ["target", "source", "threshold"], ["sensitivity", "fp_per_scan"]
    people = curves[curves["arm"] == "main"].groupby([*keys, "subject"], sort=True)[values].mean()
    return people.groupby(level=keys, sort=True)[values].mean().reset_index()


def rescored(
    settings: CompareSettings, cells: list[Cell], results: pd.DataFrame, simple: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """The same networks scored in other ways, for `claims.robustness`: name -> rows like `results`, of some metrics alone.

    claims.POOLED: overlap and sensitivity over all voxels and lesions of all people instead of the mean over people
    (`statistics.pooled_values`; several scans of a person were averaged before). "threshold 0.3", "rule of ATLAS" and so on:
    of lesions, at another threshold than .5 and by other rules (`evaluate.score_otherwise`). simple: scores of the baselines.
    """
    people = results[results["target"].isin(study.DETECTED)].groupby("target")["subject"].unique()
    lesions = {str(target): _n_lesions(settings, str(target), of) for target, of in people.items()}
    found = {claims.POOLED: _pooled(results, simple, lesions)}
    otherwise = _of_networks(settings, cells, "otherwise.csv", ["scoring", "metric"], ["value"])
    return found | {str(name): rows.assign(**{"class": ""}) for name, rows in otherwise.groupby("scoring")}


def _n_lesions(settings: CompareSettings, target: str, people: Collection[str]) -> dict[str, float]:
    """Reference lesions of these people of a target, the mean over a person's scans."""
    store = open_store(settings.inputs / "data" / target)
    scans = store.slices.loc[store.slices["subject"].isin(people), ["subject", "scan"]].drop_duplicates()
    counts: dict[str, list[int]] = {}
    for subject, scan in scans.itertuples(index=False):
        truth = evaluate.reference(store, scan)[0] > 0
        found = metrics.detect_lesions(truth, truth, tuple(store.scans[scan]["own"]["spacing"]))
        counts.setdefault(str(subject), []).append(found.n_truth)
    return {subject: sum(each) / len(each) for subject, each in counts.items()}


def _pooled(results: pd.DataFrame, simple: pd.DataFrame, lesions: dict[str, dict[str, float]]) -> pd.DataFrame:
    """dice, iou, miou and lesion_sensitivity of `results` as `pooled_values`; classes are pooled one by one, then averaged.

    A reference's volume is what the empty prediction lacks; the prediction's, that and its volume error. lesions: target ->
    person -> number.
    """
    missed = simple[(simple["baseline"] == "empty") & (simple["metric"] == "volume_error_ml")]
    truth = -missed.groupby(["target", "subject", "class"])["value"].mean()
    frames = []
    for of, cell in results.groupby(_CELL, sort=False):
        target = of[-1]
        made: dict[str, list[pd.DataFrame]] = {}
        several = len(study.CLASSES[target]) > 1
        for name, part in cell[(cell["class"] != "") == several].groupby("class"):
            wide = part.pivot_table(index="subject", columns=["metric", "seed"], values="value", dropna=False)
            reference = truth.reindex([(target, subject, name) for subject in wide.index]).to_numpy()[:, None]
            both = 2 * reference + wide["volume_error_ml"]
            # a person without this class shares nothing, and what was marked there counts; there Dice is not defined
            shared = (wide["dice"] * both / 2).mask(np.broadcast_to(reference == 0, both.shape), 0 * both)
            for metric, top, bottom in (("dice", 2 * shared, both), ("iou", shared, both - shared)):
                made.setdefault(metric, []).append(pd.DataFrame(pooled_values(top, bottom), top.index, top.columns))
        if target in lesions:
            found = cell[cell["metric"] == "lesion_sensitivity"].pivot_table(
                index="subject", columns="seed", values="value"
            )
            n = np.broadcast_to([[lesions[target][subject]] for subject in found.index], found.shape)
            made["lesion_sensitivity"] = [pd.DataFrame(pooled_values(found * n, n), found.index, found.columns)]
        if several:
            made["miou"] = made.pop("iou")
        for metric, tables_of in made.items():
            mean = sum(tables_of) / len(tables_of)
            rows = (
                mean.rename_axis("subject").melt(ignore_index=False, var_name="seed", value_name="value").reset_index()
            )
            frames.append(rows.assign(metric=metric, **{"class": ""}, **dict(zip(_CELL, of, strict=True))))
    return pd.concat(frames, ignore_index=True)


def _learned_table(found: dict[str, dict[int, dict[str, Any]]]) -> pd.DataFrame:
    rows = [
        {"source": source, "seed": seed, "measure": name, "value": value}
        for source, seeds in found.items()
        for seed, figures in seeds.items()
        for name, value in figures.items()
        if isinstance(value, int | float)
    ]
    return pd.DataFrame(rows, columns=["source", "seed", "measure", "value"])


def _baselines(settings: CompareSettings, cells: list[Cell], path: Path, report: Callable[[str], None]) -> pd.DataFrame:
    """Scores of the four baselines on the test people of every fold that was run, one row a person and metric.

    They stand in `path`; what stands there already is read. n_train is that of the main arm, where it is compared.
    """
    text = {"target": str, "baseline": str, "subject": str, "metric": str, "class": str}
    if path.is_file():
        return pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"value": [""]})
    rows = []
    for target in dict.fromkeys(t for t, _, _ in cells):
        store = open_store(settings.inputs / "data" / target)
        here = [(source, arm) for t, source, arm in cells if t == target]
        main = [cell for cell in here if cell[1] == "main"] or here
        used = [m for s, arm in main for _, m in rows_of(settings.inputs / "targets" / arm / target / s)]
        for fold in sorted({m["parameters"]["fold"] for m in used}):
            n_train = min(m["n_train"] for m in used if m["parameters"]["fold"] == fold)
            for row in baselines.score_baselines(store, target, fold, n_train):
                rows.append({"target": target, "fold": fold, **row})
        report(f"baselines of {target} scored")
    frame = pd.DataFrame(rows)
    keys = ["target", "fold", "baseline", "subject", "metric", "class"]
    frame = frame.groupby(keys, sort=True, dropna=False)["value"].mean().reset_index()
    write_table(path, frame)
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"value": [""]})


def _simulated(facts: dict[str, Any]) -> set[str]:
    """The targets and sources of `_facts` whose pictures are simulated."""
    domains = [domain for domain, kind in facts["source_kinds"].items() if kind == "simulated"]
    sources = {source for source in study.PRETRAINED_HERE if study.domain_task(source)[0] in domains}
    return sources | {target for target, kind in facts["kinds"].items() if kind == "simulated"}


def _facts(settings: CompareSettings, cells: list[Cell]) -> dict[str, Any]:
    """What run.json says about a run: its title, size and what its numbers stand on.

    kinds: target -> kind of its data; source_kinds: domain -> kind of the pictures behind its encoders (of a replicate's
    set there is no verdict); simulated: all targets are.
    """
    try:
        profile = profile_of(settings.inputs, settings.profile)
        title, note = profile.title, profile.size_note
    except BadInput:
        title, note = settings.profile, "Run by hand."
    kinds, source_kinds = {}, {}
    for target in dict.fromkeys(t for t, _, _ in cells):
        manifest = read_manifest(settings.inputs / "data" / target)
        if manifest is None:
            raise BadInput(f"{settings.inputs / 'data' / target} is not finished; prepare it again")
        kinds[target] = tables.data_kind(manifest["facts"])
    own = {study.domain_task(source)[0] for arm, source in encoders_of(cells) if study.arm(arm).kind != "replicate"}
    for domain in sorted(own):
        manifest = read_manifest(settings.inputs / "data" / domain)
        if manifest is not None:
            source_kinds[domain] = tables.data_kind(manifest["facts"])
    return {
        "profile": settings.profile, "title": title, "size_note": note, "kinds": kinds, "source_kinds": source_kinds,
        "simulated": all(kind == "simulated" for kind in kinds.values()),
    }  # fmt: skip


def _written(folder: Path) -> list[Path]:
    """The tables and figures of the comparison in `folder`."""
    kinds = (".csv", ".json", ".svg", ".png")
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix in kinds and p.name != MANIFEST]


def _clear(folder: Path, keep: str) -> None:
    """Take away what an earlier comparison left, which may have had more cells; its manifest first. keep: a file's name."""
    for path in (folder / MANIFEST, *_written(folder)):
        if path.name != keep:
            path.unlink(missing_ok=True)


def finish(settings: CompareSettings, found: Comparison) -> Path:
    """Write the manifest of the comparison, after its last figure."""
    shared = ["../results.csv", "../all.csv.gz", "../run.json"]
    own = [path.relative_to(found.folder).as_posix() for path in _written(found.folder)]
    write_manifest(
        found.folder, stage="compare", key=found.key, parameters=settings.model_dump(), code=found.code, inputs=found.inputs,
        outputs=[*shared, *own], device="cpu", seconds=found.seconds,
    )  # fmt: skip
    return found.folder / MANIFEST
