"""What the pages of a run say: sentences that are counted from its results, and its tables as a reader meets them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from braintransfer import claims, figures, overlaps, tables
from braintransfer.book.origins import manifests_of
from braintransfer.book.runs import Run
from braintransfer.errors import BadInput
from braintransfer.provenance import project_root
from braintransfer.settings import profile_of
from braintransfer.study import HEADLINE, SOURCES, TARGETS, domain_task
from braintransfer.tables import people_words, seeds_words
from braintransfer.untrusted import as_markdown

#: What stands beside every simulated result (and what the demo must say about its MS lesions).
SIMULATED_SENTENCES = (
    "In this demo ImageNet had 1.28 million photographs and the others a minute of small pictures: the ranking "
    "shows the budget, "
    "not which source is best.",
    "All these brains are one brain, bent: anatomy is easier and the MRI sources closer to the targets than in "
    "any hospital.",
    "Many real MS lesions are nearly as bright as white matter on T1.",
)
SIMULATED_MS = (
    "Simulated MS lesions are large, and clearly darker than white matter. Real ones are mostly smaller and paler."
)


def one_line(text: str) -> str:
    """Text for a directive's line: one line, without markup, no break before a percent sign."""
    return unbroken(as_markdown(text))


def unbroken(text: str) -> str:
    """One line, no break before a percent sign."""
    return " ".join(text.split()).replace(" %", "\u00a0%")


def badge(run: Run, target: str | None = None) -> str:
    """The note that stands above simulated and semi-synthetic numbers; empty for real scans."""
    kinds = [run.kinds.get(target, "")] if target else [run.kinds.get(t, "") for t in TARGETS]
    parts = []
    if "simulated" in kinds or (run.simulated and not any(kinds)):
        ms = target in (None, "ms") and run.kinds.get("ms", "simulated") == "simulated"
        text = [*SIMULATED_SENTENCES, *([SIMULATED_MS] if ms else [])]
        parts.append(
            ":::{admonition} Simulated data\n:class: warning simulated\n"
            + "\n".join(f"- {s}" for s in text)
            + "\n:::\n"
        )
    if "semi-synthetic" in kinds:
        which = [
            tables.TARGET_TITLES[t] for t in TARGETS if run.kinds.get(t) == "semi-synthetic" and target in (None, t)
        ]
        parts.append(
            f":::{{admonition}} Semi-synthetic: {' and '.join(which)}\n:class: warning simulated\nReal anatomy, "
            "real lesion shapes, simulated "
            "contrast. The lesions were never in these people, so results need not hold for patients.\n:::\n"
        )
    about = " ".join(filter(None, (as_markdown(run.note), not_run(run))))
    if about:
        parts.append(f":::{{admonition}} About this run\n:class: note\n{about}\n:::\n")
    return "\n".join(parts)


def not_run(run: Run) -> str:
    """A sentence that names the targets that the run does not have, and the cells of its main arm on the others; empty where none."""
    if run.results is None:
        return ""
    main = run.results[run.results["arm"] == "main"]
    having = set(zip(main["target"], main["source"], strict=True))
    gone = {s: [t for t in run.present if (t, s) not in having] for s in SOURCES}
    words = [tables.TARGET_WORDS[t] for t in TARGETS if t not in run.present]
    words += [
        tables.SOURCE_TITLES[source]
        + ("" if len(on) == len(run.present) else f" on {_listed([tables.TARGET_WORDS[t] for t in on])}")
        for source, on in gone.items()
        if on
    ]
    return f"Not in this run: {'; '.join(words)}." if words else ""


def kind_of(run: Run, target: str) -> str:
    """The words for a target's data at the end of a caption: "Simulated data." """
    words = figures.KIND_TITLES.get(run.kinds.get(target, ""), "")
    return f"{words}." if words else ""


def baselines_for_reading(summary: pd.DataFrame, target: str) -> pd.DataFrame:
    """`tables.for_reading` of baselines. None has an interval, which the caption says once and no cell again."""
    return tables.for_reading(summary, target).replace(r" \(no interval\)", "", regex=True)


def one_by_one(showcase: pd.DataFrame, target: str) -> pd.DataFrame:
    """People shown one by one: one row a source, one column a person, the target's headline metric."""
    part = showcase[
        (showcase["target"] == target) & (showcase["metric"] == HEADLINE[target]) & (showcase["class"] == "")
    ]
    wide = part.pivot_table(index="source", columns="subject", values="value", dropna=False).reindex(
        [s for s in SOURCES if s in set(part["source"])]
    )
    rows = [
        {"source": tables.SOURCE_TITLES[str(s)], **{str(p): tables.number(float(v)) for p, v in row.items()}}
        for s, row in wide.iterrows()
    ]
    return pd.DataFrame(rows)


def _count(text: str) -> str:
    return f"{int(text):,}" if text.isdigit() else text


def sources_for_reading(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    """The data behind each source as a reader meets it: titles, thousands, "20 photographs"."""
    if frame is None:
        return None
    rows = []
    for r in frame.to_dict("records"):
        groups, what = str(r.get("groups", "")), str(r.get("group is", ""))
        what = "composite of two photographs" if what.startswith("composite of") else what
        head, space, rest = what.partition(" ")  # "block of 25 neighbouring slices"
        many = head if head.endswith("s") else {"person": "people"}.get(head, f"{head}s")
        plural = what if groups == "1" else f"{many}{space}{rest}"
        rows.append(
            {
                "source": tables.SOURCE_TITLES.get(str(r["source"]), r["source"]),
                "images learned from": _count(str(r["images"])),
                "held out": _count(str(r.get("held out", ""))),
                "the whole set": f"{_count(groups)} {plural}" if what else "",
                "classes": _count(str(r["classes"])),
                "ImageNet has": f"{r['ImageNet is larger by']} times as many"
                if r.get("ImageNet is larger by") not in ("", "1", None)
                else "",
                "kind": r["kind"],
            }
        )
    return pd.DataFrame(rows)


def source_sets(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    if frame is None:
        return None
    sets = frame.loc[frame["data set"] != "none", ["data set", "kind", "licence", "source"]]
    titled = sets.assign(source=[tables.SOURCE_TITLES.get(s, s) for s in sets["source"]])
    joined = titled.groupby(["data set", "kind", "licence"], sort=False)["source"].agg("; ".join).reset_index()
    return joined.rename(columns={"source": "behind"})[["data set", "behind", "kind", "licence"]]


def targets_for_reading(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    return None if frame is None else frame.assign(target=[tables.TARGET_TITLES.get(t, t) for t in frame["target"]])


def drawn_from(run: Run) -> str:
    """ " from those that the fold has: 12 of 14 for MS lesions": how many people a training has of how many; empty where it is not known."""
    found = dict(manifests_of(run.folder))
    said = []
    for target in run.present:
        data = found.get(f"data/{target}", {})
        if data.get("parameters", {}).get("n_test", 1):  # then a fold's people are more than those tested
            continue
        trained = [m for f, m in found.items() if f.startswith(f"targets/main/{target}/") and "test_people" in m]
        rest = int(data["facts"]["people"]) - int(data["parameters"]["n_validation"])
        if pools := {rest - len(m["test_people"]) for m in trained}:
            n_train = int(trained[0]["n_train"])
            said.append(f"{n_train} of {' or '.join(map(str, sorted(pools)))} for {tables.TARGET_WORDS[target]}")
    return f" from those that the fold has: {', '.join(said)}" if said else ""


def sizes_for_reading(run: Run) -> pd.DataFrame | None:
    sizes = run.tables.get("sizes")
    if sizes is None:
        return None
    titled = sizes.assign(target=[tables.TARGET_TITLES.get(t, t) for t in sizes["target"]])
    titled.insert(1, "kind", [run.kinds.get(t, "") for t in sizes["target"]])
    return titled


#: What a source reaches, and what is reached without learning: names in learned.csv -> words. One pair a task.
_LEARNED = (
    ("accuracy", "accuracy", "chance", "the best blind guess"),
    ("dice", "Dice", "all_foreground", "everything marked"),
    ("restoration_error", "restoration error", "mean_image_error", "the mean image"),
)


def learned_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """What each source reached on held-out pictures, beside what is reached without learning, means over seeds; and how many seeds
    reached the bar of `claims.yaml`."""
    rule = claims.load(project_root() / "notebooks" / "claims.yaml").gates.source_learned
    enough = {
        name: [
            claims.source_has_learned(rule, domain_task(name.rpartition("/")[2])[1], of_seed)
            for of_seed in seeds.values()
        ]
        for name, seeds in _by_seed(frame).items()
    }
    numbers = frame.dropna(subset=["value"])  # true and false are no measures
    wide = numbers.pivot_table(index="source", columns="measure", values="value", aggfunc="mean", sort=False)
    rows = []
    for source, row in wide.iterrows():
        for reached, title, without, how in _LEARNED:
            if reached in row and pd.notna(row[reached]):
                digits = 1 if reached == "restoration_error" else 2
                rows.append(
                    {
                        "source": tables.source_title(str(source).rpartition("/")[2]),
                        "arm": str(source).rpartition("/")[0].replace("_", " ") or "main",
                        "measure": f"{title} ({'lower' if reached == 'restoration_error' else 'higher'} is better)",
                        "reached": tables.number(float(row[reached]), digits),
                        "without learning": f"{tables.number(float(row.get(without, float('nan'))), digits)}, {how}",
                        "seeds that learned enough": f"{enough[str(source)].count(True)} of {len(enough[str(source)])}",
                        "pictures": f"{row['n']:.0f}" if pd.notna(row.get("n")) else "–",
                    }
                )
    shown = pd.DataFrame(rows)
    return shown.drop(columns="arm") if len(shown) and (shown["arm"] == "main").all() else shown


def _by_seed(learned: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """learned.csv as the rules want it: encoder -> seed -> measure -> value."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (name, seed), part in learned.groupby(["source", "seed"]):
        found.setdefault(name, {})[seed] = dict(zip(part["measure"], part["value"], strict=True))
    return found


def unlearned(run: Run) -> set[str]:
    """Encoders of a run that did not learn their own task (`claims.unlearned`)."""
    frame = run.tables.get("learned")
    if frame is None:
        return set()
    return claims.unlearned(claims.load(project_root() / "notebooks" / "claims.yaml"), _by_seed(frame))


def unlearned_words(run: Run) -> str:
    """A sentence on the sources of the main arm that did not learn their own task; empty where all did."""
    gone = [tables.SOURCE_TITLES[s] for s in SOURCES if s in unlearned(run)]
    if not gone:
        return ""
    return (
        f"**Not judged:** {' and '.join(gone)} did not learn {'its' if len(gone) == 1 else 'their'} own task far enough, by the bar "
        "that was set beforehand, in the steps that every source got. So scores that start from there say nothing of that kind of pre-training."
    )


def trained_longer(run: Run) -> str:
    """What three times as many steps gave random weights, beside every start that learned its own task; empty without that arm."""
    pairs = run.tables.get("pairs")
    if pairs is None:
        return ""
    asked = (pairs["B_arm"] == "scratch_long") & ~pairs["A"].isin(unlearned(run))
    judged = " that are judged" if set(SOURCES) & unlearned(run) else ""
    said: list[str] = []
    for target in TARGETS:
        own = pairs[asked & (pairs["target"] == target) & (pairs["metric"] == HEADLINE[target])]
        if len(own):
            beaten, ahead = own["upper"] < 0, own.loc[own["lower"] > 0, "A"]
            names = f" ({', '.join(tables.SOURCE_TITLES[str(name)] for name in ahead)})" if len(ahead) else ""
            said.append(
                f"above {int(beaten.sum())} of {len(own)}{f' pre-trained starts{judged}' if not said else ''} and below {len(ahead)}{names} on "
                f"{tables.TARGET_WORDS[target]}"
            )
    if not said:
        return ""
    return (
        f"**Fine-tuning longer instead:** random weights, fine-tuned {tables.arm_title('scratch_long')}, end {'; '.join(said)}, "
        "by intervals that leave out zero. The fixed number of steps is a part of every answer here."
    )


def other_sets(run: Run) -> str:
    """How far a second data set in a source's place moved the score, and which did not learn; empty without replicates."""
    arms = run.tables.get("arms")
    if arms is None:
        return ""
    tried = arms[arms["arm"].str.startswith("replicate_") & (arms["metric"] == arms["target"].map(HEADLINE))]
    gone = tried["learned"] == "no" if "learned" in tried else pd.Series(False, index=tried.index)
    failed, held = tried[gone], tried[~gone & tried["difference"].notna()]
    beside_none = held["source"].isin(unlearned(run))
    held, mixed = held[~beside_none], held[beside_none]
    said = []
    if len(held):
        apart = held[(held["difference_lower"] > 0) | (held["difference_upper"] < 0)]
        where = _listed([f"{tables.arm_title(r.arm)} on {tables.TARGET_WORDS[r.target]}" for r in apart.itertuples()])
        low, high = held["difference_lower"].min(), held["difference_upper"].max()
        said = [
            f"**Another data set in a source's place** ({_listed(_sets(held))}) moves the estimated score by at most "
            f"{tables.number(held['difference'].abs().max(), 3)}, in {len(held)} comparisons, whose intervals reach from "
            f"{tables.number(low, 3)} to {tables.number(high, 3)}.",
            f"Intervals that leave out zero: {where}." if where else "Every interval holds zero.",
        ]
    if len(mixed):
        instead = _listed([tables.SOURCE_TITLES[s] for s in SOURCES if s in set(mixed["source"])])
        said.append(
            f"With {_listed(_sets(mixed))} in the place of {instead}, which did not learn enough in the main arm, the score moves by at most "
            f"{tables.number(mixed['difference'].abs().max(), 3)}: that is another data set and a better lesson in one."
        )
    if said and len(failed):
        said.append(f"Not judged, as not every encoder learned its own task far enough: {_listed(_sets(failed))}.")
    return " ".join(said)


def _sets(arms: pd.DataFrame) -> list[str]:
    return [tables.arm_title(name).removeprefix("from ") for name in arms["arm"].unique()]


def real_runs(runs: Iterable[Run]) -> dict[str, Run]:
    """The runs on real scans that have results, by the name of their profile; a reader's own is called so."""
    return {
        f"{run.facts['profile']}{'' if run.reference else ', yours'}": run
        for run in runs
        if run.results is not None and run.present and not run.simulated
    }


def what_runs_are(runs: Mapping[str, Run]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run": name,
            "what it is": str(run.facts.get("title", "")),
            "size": run.note,
            "networks of its main arm": run.networks,
        }
        for name, run in runs.items()
    )


def arms_missing(run: Run) -> str:
    """A sentence that names the arms that the run's profile asks for and the run does not have, whole or in part; empty where it has all."""
    try:
        asked = profile_of(run.folder, str(run.facts.get("profile", ""))).arms
    except BadInput:
        return ""
    having = set()
    if run.results is not None:
        having = set(run.results[["arm", "target", "source"]].drop_duplicates().itertuples(index=False, name=None))
    gone = []
    for name, arm in asked.items():
        without = {s: [t for t in arm.targets if (name, t, s) not in having] for s in arm.sources}
        starts = [
            tables.SOURCE_TITLES[s]
            + ("" if len(targets) == len(arm.targets) else f" on {_listed([tables.TARGET_WORDS[t] for t in targets])}")
            for s, targets in without.items()
            if targets
        ]
        if all(len(targets) == len(arm.targets) for targets in without.values()):
            gone.append(tables.arm_title(name))
        elif starts:
            gone.append(f"{tables.arm_title(name)}, for {_listed(starts)}")
    return f"Asked for in this run's profile, and not done: {'; '.join(gone)}." if gone else ""


def contrasts_for_reading(contrasts: list[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for c in contrasts:
        low, high, mean = (
            float(c[k]) if isinstance(c.get(k), int | float) else float("nan") for k in ("lower", "upper", "estimate")
        )
        a, b = (tables.source_title(str(c.get(k, ""))) for k in ("A", "B"))
        rows.append(
            {
                "claim": str(c.get("claim", "")).replace("claim", "").strip(),
                "target": tables.TARGET_TITLES.get(str(c.get("target")), c.get("target", "")),
                "A − B": f"{a} − {b}",
                "difference": tables.with_interval(mean, low, high, 3),
                "margin": f"{_margin(c.get('margin'))} {tables.METRIC_TITLES.get(str(c.get('metric')), '')}".strip(),
                "people × seeds": f"{c.get('n_subjects', '')} × {c.get('n_seeds', '')}" if c.get("n_subjects") else "–",
                "what the rule says": str(c.get("verdict", "")).replace("_", " "),
            }
        )
    return pd.DataFrame(rows)


def folds_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """The claims' contrasts fold by fold (`claims.differences_by_fold`), a column a fold; targets of one fold stay out."""
    several = frame[frame.groupby("target")["fold"].transform("nunique") > 1]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for r in several.to_dict("records"):
        claim, target, a, b = (str(r[name]) for name in ("claim", "target", "A", "B"))
        row = rows.setdefault(
            (claim, target, a, b),
            {
                "claim": claim.removeprefix("claim"),
                "target": tables.TARGET_TITLES[target],
                "A − B": f"{tables.source_title(a)} − {tables.source_title(b)}",
            },
        )
        row[f"fold {int(r['fold']) + 1}"] = f"{tables.number(float(r['difference']), 3)} ({people_words(int(r['n']))})"
    return pd.DataFrame(list(rows.values())).fillna("–")


#: The gates: their name in a claim's reasons -> how the book calls them, and what each asks.
GATES = {
    "assay": (
        "pre-training helps",
        "some pre-trained source beats random weights, at a level divided by the number of sources that are tried",
    ),
    "source_learned": ("sources learned", "each source of the claim learned its own task"),
    "null_contrast": ("null check", "semi-synthetic lesions without contrast cannot be found"),
    "range": (
        "room for differences",
        "the mean lesion sensitivity is neither so low nor so high that differences are hidden",
    ),
    "min_subjects": ("enough people", "enough people were tested"),
}
_NAMES = {**tables.SOURCE_TITLES, **tables.TARGET_WORDS, **tables.METRIC_TITLES}
_NAME = re.compile(
    rf"(?<![\w-])({'|'.join(sorted(map(re.escape, _NAMES), key=len, reverse=True))})(@size_[\d.]*\d)?(?![\w-])"
)
#: "mri-segmentation seed 0, mri-segmentation seed 1, imagenet seed 0"
_SEEDS = re.compile(r"\S+ seed \d+(?:, \S+ seed \d+)*")


def in_titles(reason: str) -> str:
    """A sentence of `claims.evaluate` as a reader meets it: titles in place of the names of gates, sources, targets and metrics."""
    gate, colon, rest = reason.partition(": ")
    if colon and gate in GATES:
        return f"{GATES[gate][0]}: {in_titles(rest)}"

    def seeds(found: re.Match[str]) -> str:
        by_source: dict[str, list[str]] = {}
        for part in found[0].split(", "):
            name, _, seed = part.partition(" seed ")
            by_source.setdefault(name, []).append(seed)
        return ", ".join(f"{n} (seed{'s' if len(s) > 1 else ''} {', '.join(s)})" for n, s in by_source.items())

    def title(found: re.Match[str]) -> str:
        return tables.source_title(found[0]) if found[2] else _NAMES[found[1]]

    return _NAME.sub(title, _SEEDS.sub(seeds, reason)).replace(" - ", " − ").replace("_", " ")


def claims_summary(found: list[dict[str, Any]] | None) -> pd.DataFrame | None:
    """Verdicts claim by claim and target by target, from what `claims.evaluate` summed up, in titles."""
    rows = []
    for claim in found or []:
        name = str(claim.get("claim", "")).replace("claim", "").strip()
        parts = claim.get("targets") or {}
        whole: list[tuple[str, dict[str, Any], list[Any]]] = [("all its targets", claim, [])]
        each = [(tables.TARGET_WORDS[t], parts[t], parts[t].get("gates_failed") or []) for t in TARGETS if t in parts]
        for on, part, failed in whole + each:
            why = "; ".join(in_titles(str(gate)) for gate in failed) or in_titles(str(part.get("reason", "")))
            said = str(part.get("verdict", "")).replace("_", " ")
            rows.append({"claim, on": f"{name}, {on}", "what the rule says": said, "why": why})
    return pd.DataFrame(rows) if rows else None


def verdicts(run: Run) -> dict[str, str]:
    """Claim ("claim1") -> what the rules say about the whole of it; empty where they were not asked."""
    found = tables.read_json(run.folder / "compare" / "claims_summary.json", [])
    return {str(claim.get("claim", "")): str(claim.get("verdict", "")) for claim in found}


def statements(run: Run) -> list[tuple[str, str]]:
    """Each claim as the rules' own file says it, and what the rules say about it; "" where they were not asked."""
    rules, found = claims.load(project_root() / "notebooks" / "claims.yaml"), verdicts(run)
    return [(claim.says, found.get(name, "").replace("_", " ")) for name, claim in rules.claims.items()]


def heading(run: Run | None) -> str:
    """The first page's heading above a run's numbers: an answer is announced only where the rules decide some claim."""
    if run is None:
        return "No answer yet"
    return "The answer" if set(verdicts(run).values()) & {"supported", "not_supported"} else "What this run can say"


def decided(run: Run) -> str:
    """One sentence: what the rules say about the claims, or why they say nothing. Empty where they were not asked."""
    found = verdicts(run)
    if not found:
        return ""
    if run.simulated:
        return "The data are simulated, so none of the three claims gets a verdict."
    said: dict[str, list[str]] = {}
    for claim, verdict in found.items():
        said.setdefault(verdict.partition(":")[0].replace(" ", "_"), []).append(claim.replace("claim", ""))
    verbs = {
        "illustration": (
            "gets no verdict, as some of its data are simulated",
            "get no verdict, as some of their data are simulated",
        ),
        "not_run": ("was not run", "were not run"),
    }
    parts = []
    for verdict, names in said.items():
        plain = verdict.replace("_", " ")
        one, many = verbs.get(verdict, (f"is {plain}", f"are {plain}"))
        parts.append(f"claim {names[0]} {one}" if len(names) == 1 else f"claims {_listed(names)} {many}")
    words = "; ".join(parts)
    some = set(said) & {"supported", "not_supported"}
    return (
        f"What the rules say: {words}."
        if some
        else f"The rules decide **none of the three claims** from this run: {words}."
    )


#: Claim -> what its sentence beside the paper begins with, and how it goes on by where the intervals lie (`_where`).
_BESIDE = {
    "claim1": (
        "Accuracy after MRI segmentation",
        {
            "below": "is **lower by more than the margin**, against the abstract, than after {}",
            "above": "is higher or similar, as there, beside that after {}",
            "across": "is open beside that after {}, where the interval allows both",
        },
    ),
    "claim2": (
        "Lesion detection after ImageNet",
        {
            "beyond": "is beyond the margin of that after {}",
            "inside": "is comparable to that after {}",
            "across": "is open beside that after {}",
        },
    ),
}


def _where(claim: str, low: float, high: float, margin: float) -> str:
    if claim == "claim1":
        return "below" if high < -margin else "above" if low > -margin else "across"
    return "inside" if -margin < low and high < margin else "beyond" if low > margin or high < -margin else "across"


def beside_the_paper(run: Run) -> list[str]:
    """What the intervals of claims 1 and 2 say beside the abstract's two findings, gates left aside; a sentence each.

    Empty for a simulated run, and where a claim's contrasts were not run. Sources that did not learn their task are left out.
    """
    gone, said = unlearned(run), []
    for claim, (begins, goes_on) in _BESIDE.items() if not run.simulated else ():
        found: dict[str, dict[str, list[str]]] = {}
        for c in run.contrasts:
            if c["claim"] == claim and c["lower"] is not None and c["B"] not in gone:
                place = _where(claim, c["lower"], c["upper"], c["margin"])
                targets = found.setdefault(place, {}).setdefault(tables.source_title(c["B"]), [])
                targets.append(tables.TARGET_WORDS[c["target"]])
        parts = [
            words.format("; ".join(f"{source} on {_listed(targets)}" for source, targets in found[place].items()))
            for place, words in goes_on.items()
            if place in found
        ]
        said += [f"{begins} {'. It '.join(parts)}."] if parts else []
    return said


def _listed(names: Sequence[str]) -> str:
    """ "1", "1 and 2", "1, 2 and 3"."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])


def _margin(value: Any) -> str:
    return tables.number(float(value)) if isinstance(value, int | float) else ""


def counted(run: Run) -> str:
    """Who and what stands behind the means of the overlap figure, in sentences; also the cells that could not be counted."""
    table = run.tables["overlap"]
    tested = table[table["shown"] == overlaps.TESTED]
    if run.results is None:
        return ""
    main = run.results[run.results["arm"] == "main"]
    parts, gone = [], []
    for target in [t for t in TARGETS if (tested["target"] == t).any()]:
        here, known = tested[tested["target"] == target], main[main["target"] == target]
        title = tables.TARGET_WORDS[target]
        parts.append(f"{here['subject'].nunique()} of the {known['subject'].nunique()} people tested for {title}")
        names = [tables.SOURCE_TITLES[s] for s in SOURCES if s in set(known["source"]) - set(here["source"])]
        gone += [f"{', '.join(names)} on {title}"] if names else []
    said = f"Behind the means stand {' and '.join(parts)}."
    return f"{said} Not counted, as their networks were not kept: {'; '.join(gone)}." if gone else said


def answers(run: Run) -> list[str]:
    """One sentence a target: what MRI segmentation gave, what ImageNet gave, and the paired difference."""
    accuracy, difference = run.tables.get("accuracy"), run.tables.get("differences")
    if accuracy is None:
        return []
    said = []
    for target in TARGETS:
        metric = HEADLINE[target]
        part = accuracy[(accuracy["target"] == target) & (accuracy["metric"] == metric) & (accuracy["class"] == "")]
        rows = {str(r["source"]): r for r in part.to_dict("records")}
        ours, theirs = rows.get("mri-segmentation"), rows.get("imagenet")
        if ours is None or theirs is None:
            continue
        title = tables.METRIC_TITLES[metric]
        words = (
            f"On **{tables.TARGET_WORDS[target]}**, starting from MRI segmentation gave "
            f"{'an' if title.startswith('m') else 'a'} {title} of "
            f"{tables.with_interval(ours['mean'], ours['lower'], ours['upper'])} and starting from ImageNet "
            f"{tables.with_interval(theirs['mean'], theirs['lower'], theirs['upper'])}"
        )
        pair = (
            pd.DataFrame()
            if difference is None
            else difference[(difference["target"] == target) & (difference["B"] == "imagenet")]
        )
        if len(pair):
            d = pair.iloc[0]
            verdict = tables.in_words(d["lower"], d["upper"])
            words += f"; the paired difference is {tables.with_interval(d['mean'], d['lower'], d['upper'], 3)}, " + {
                "higher": "higher with MRI segmentation",
                "lower": "lower with MRI segmentation",
            }.get(verdict, verdict)
            if verdict in ("higher", "lower") and d.get("adjusted_p", 0) > 0.05:
                others = int((difference["target"] == target).sum())  # type: ignore[index]
                words += f" by this interval alone, not after Holm's correction for this target's {others} comparisons"
        people = f"{people_words(ours['n'])} tested, {seeds_words(ours['seeds'])}"
        said.append(unbroken(f"{words} ({people}, 95 % intervals)") + ".")
    return said


def what_to_notice(run: Run, target: str) -> str:
    """Sentences on a target that only count: who ends above or below scratch, how many differ from MRI segmentation, how many
    intervals are narrow because seeds agree."""
    if run.results is None:
        return ""
    gone = unlearned(run)
    against = tables.difference_table(run.results[run.results["target"] == target], reference="scratch")
    own = against[(against["target"] == target) & ~against["B"].isin(gone)]
    table = run.tables.get("differences")
    pairs = pd.DataFrame(columns=["B", "lower", "upper"]) if table is None else table[table["target"] == target]
    pairs = pairs[~pairs["B"].isin({"scratch"} | gone)] if "mri-segmentation" not in gone else pairs.iloc[:0]
    said = []
    if len(own):
        above, below = (
            [tables.SOURCE_TITLES[s] for s in own.loc[sided, "B"]] for sided in (own["upper"] < 0, own["lower"] > 0)
        )
        many = f"{len(own)} sources end" if len(own) > 1 else "1 source ends"
        words = f"{len(above)} of {many} above random weights with an interval that leaves out zero"
        words += f" ({', '.join(above)})" if above else ""
        words += f", and {len(below)} below ({', '.join(below)})." if below else "."
        said.append(words if above else f"{words} That does not show that pre-training is of no use.")
        sure = int((own["adjusted_p"] <= 0.05).sum())
        if sure < len(above) + len(below):
            said.append(
                f"After Holm's correction for their number {sure or 'none'} of these {'is' if sure == 1 else 'are'} told apart from random weights."
            )
    if len(pairs):
        each = [tables.in_words(r.lower, r.upper) for r in pairs.itertuples()]
        kinds = {
            "no evidence for a difference": "there is no evidence for a difference",
            "higher": "MRI segmentation is higher",
            "lower": "MRI segmentation is lower",
            "cannot be said (no interval)": "nothing can be said, as there is no interval",
        }
        if len(each) == 1:
            said.append(f"MRI segmentation is compared with one other pre-trained source: {kinds[each[0]]}.")
        else:
            counts = {k: each.count(k) for k in kinds if k in each}
            named = {
                k: f" ({', '.join(tables.SOURCE_TITLES[b] for b, e in zip(pairs['B'], each, strict=True) if e == k)})"
                for k in ("higher", "lower")
            }
            parts = [
                f"for {n if n < len(each) else 'each'} of them {kinds[k]}{named.get(k, '')}" for k, n in counts.items()
            ]
            words = f"MRI segmentation is compared with {len(each)} other pre-trained sources: "
            said.append(f"{words}{'; '.join(parts)}.")
        if {"higher", "lower"} & set(each) and "adjusted_p" in pairs:
            left = int((pairs["adjusted_p"] <= 0.05).sum())
            said.append(
                f"Each interval stands alone here. Corrected for their number (Holm), {left if left else 'none'} of the differences of "
                f"MRI segmentation from other pre-trained sources remain{'s' if left == 1 else ''}."
            )
    ours = tables.difference_table(run.results[run.results["target"] == target])
    drawn = pd.concat([own, ours[~ours["B"].isin({"scratch"} | gone)]]) if "mri-segmentation" not in gone else own
    if alike := tables.seeds_alike(drawn):
        said.append(
            f"In {alike} of these {len(drawn)} differences the seeds happened to agree so well that their part counts as none; such an "
            "interval may be too narrow ({doc}`/statistics`)."
        )
    return " ".join(filter(None, said))
