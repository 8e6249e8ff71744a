"""What the pages of a run say: sentences that are counted from its results, and its tables as a reader meets them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from braintransfer import figures, tables
from braintransfer.book.runs import Run
from braintransfer.study import HEADLINE, SOURCES, TARGETS
from braintransfer.untrusted import as_markdown

#: What stands beside every simulated result (and what the demo must say about its MS lesions).
SIMULATED_SENTENCES = (
    "In this demo ImageNet had 1.28 million photographs and the others a minute of small pictures: the ranking "
    "shows the budget, "
    "not which source is best.",
    "All these brains are one brain, bent: anatomy is easier and the MRI sources closer to the targets than in "
    "any hospital.",
    "In three real patients 44 % of MS lesions are nearly as bright as white matter on T1.",
)
SIMULATED_MS = (
    "Simulated MS lesions are at least 64 mm³ and clearly darker than white matter (.45 to .75 of it). Real ones "
    "are mostly "
    "smaller and paler."
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
    if run.note:
        parts.append(f":::{{admonition}} About this run\n:class: note\n{as_markdown(run.note)}\n:::\n")
    return "\n".join(parts)


def kind_of(run: Run, target: str) -> str:
    """The words for a target's data at the end of a caption: "Simulated data." """
    words = figures.KIND_TITLES.get(run.kinds.get(target, ""), "")
    return f"{words}." if words else ""


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
        plural = what if what.endswith("s") or groups == "1" else {"person": "people"}.get(what, f"{what}s")
        rows.append(
            {
                "source": tables.SOURCE_TITLES.get(str(r["source"]), r["source"]),
                "images": _count(str(r["images"])),
                "taken from": f"{_count(groups)} {plural}" if what else "",
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


def sizes_for_reading(run: Run) -> pd.DataFrame | None:
    sizes = run.tables.get("sizes")
    if sizes is None:
        return None
    titled = sizes.assign(target=[tables.TARGET_TITLES.get(t, t) for t in sizes["target"]])
    titled.insert(1, "kind", [run.kinds.get(t, "") for t in sizes["target"]])
    return titled


def learned_for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    numbers = frame.dropna(subset=["value"])  # true and false are no measures
    means = numbers.groupby(["source", "measure"], sort=False)["value"].mean().reset_index()
    means = means.assign(
        source=[tables.SOURCE_TITLES.get(s, s) for s in means["source"]],
        value=[tables.number(v, 3) for v in means["value"]],
    )
    return means.assign(measure=[str(m).replace("_", " ") for m in means["measure"]])


def contrasts_for_reading(contrasts: list[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for c in contrasts:
        low, high, mean = (
            float(c[k]) if isinstance(c.get(k), int | float) else float("nan") for k in ("lower", "upper", "estimate")
        )
        a, b = (tables.SOURCE_TITLES.get(str(c.get(k)), str(c.get(k, ""))) for k in ("A", "B"))
        rows.append(
            {
                "claim": str(c.get("claim", "")).replace("claim", "").strip(),
                "target": tables.TARGET_TITLES.get(str(c.get("target")), c.get("target", "")),
                "A − B": f"{a} − {b}",
                "difference": tables.with_interval(mean, low, high, 3),
                "margin": f"{c.get('margin', '')} {tables.METRIC_TITLES.get(str(c.get('metric')), '')}".strip(),
                "people x seeds": f"{c.get('n_subjects', '')} x {c.get('n_seeds', '')}",
                "what the rule says": str(c.get("verdict", "")).replace("_", " "),
            }
        )
    return pd.DataFrame(rows)


def claims_summary(found: list[dict[str, Any]] | None) -> pd.DataFrame | None:
    """Verdicts claim by claim and target by target, from what `claims.evaluate` summed up."""
    rows = []
    for claim in found or []:
        name = str(claim.get("claim", "")).replace("claim", "").strip()
        rows.append(
            {
                "claim": name,
                "on": "all its targets",
                "what the rule says": claim.get("verdict", ""),
                "why": claim.get("reason", ""),
            }
        )
        parts = claim.get("targets") or {}
        for target, part in [(t, parts[t]) for t in TARGETS if t in parts]:
            why = "; ".join(str(g) for g in part.get("gates_failed") or []) or part.get("reason", "")
            rows.append(
                {
                    "claim": name,
                    "on": tables.TARGET_TITLES.get(target, target),
                    "what the rule says": part.get("verdict", ""),
                    "why": why,
                }
            )
    frame = pd.DataFrame(rows)
    return frame.map(lambda text: str(text).replace("_", " ")) if rows else None


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
        people = (
            f"{ours['n']} people tested, {ours['seeds']} seeds"
            if ours["n"] != 1
            else f"one person tested, {ours['seeds']} seeds"
        )
        said.append(unbroken(f"{words} ({people}, 95 % intervals)") + ".")
    return said


def what_to_notice(run: Run, target: str) -> str:
    """Two sentences on a target that only count: who beats scratch, how many differ from MRI segmentation."""
    if run.results is None:
        return ""
    against = tables.difference_table(run.results[run.results["target"] == target], reference="scratch")
    own = against[against["target"] == target]
    beat = [tables.SOURCE_TITLES[s] for s in own.loc[own["upper"] < 0, "B"]]
    table = run.tables.get("differences")
    pairs = pd.DataFrame(columns=["B", "lower", "upper"]) if table is None else table[table["target"] == target]
    pairs = pairs[pairs["B"] != "scratch"]
    unclear = int(sum(tables.in_words(r.lower, r.upper) == "no evidence for a difference" for r in pairs.itertuples()))
    first = f"{len(beat)} of {len(own)} sources end above random weights with an interval that leaves out zero" + (
        f" ({', '.join(beat)})." if beat else ". That does not show that pre-training is of no use."
    )
    if not len(pairs):
        return first
    of_them = "each" if unclear == len(pairs) else "none" if unclear == 0 else str(unclear)
    return (
        f"{first} MRI segmentation is compared with {len(pairs)} other pre-trained sources: "
        f"for {of_them} of them there is no evidence for a difference."
    )
