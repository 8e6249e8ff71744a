"""The figures of the proof by simulated worlds: what the intervals cover, and how often the rules err and decide."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd

from braintransfer.figures.base import CLASS_COLOURS, COLOURS, FALSE, STYLE, Drawing, new_figure
from braintransfer.proofs.worlds import MARGIN, NOTHING, QUANTITIES
from braintransfer.provenance import project_root

#: The marks of the four spreads; they are no sources, so the colours are those of tissue classes and mistakes.
_MARKS = {
    "people": ("o", CLASS_COLOURS["wm"]),
    "mixed": ("s", CLASS_COLOURS["csf"]),
    "seeds": ("^", FALSE),
    "chance": ("D", COLOURS["scratch"]),
}
_CLAIMS = {"claim 1": ("o", COLOURS["imagenet"]), "claim 2": ("s", CLASS_COLOURS["wm"]), "claim 3": ("^", FALSE)}


def coverage_figure(coverage: pd.DataFrame) -> Drawing:
    """Coverage of every 95 % interval; coverage: `worlds.coverage_table`."""
    sizes = [("5 seeds", coverage["seeds"] == 5), ("3 seeds", (coverage["seeds"] == 3) & (coverage["people"] > 6))]
    sizes.append(("6 people, 3 seeds", coverage["people"] == 6))
    figure, axes = new_figure(6.2, 6.4)
    axis = axes[0, 0]
    labels: list[str] = []
    with matplotlib.rc_context(STYLE):
        axis.axvspan(93, 97, color="#dddddd", zorder=0)
        axis.axvline(95, color="#555555", linewidth=1)
        for i, quantity in enumerate(QUANTITIES):
            for j, (size, rows) in enumerate(sizes):
                y = len(labels)
                labels.append(f"{quantity}\n{size}" if j == 0 else size)
                for offset, (spread, (mark, colour)) in zip(np.linspace(-0.27, 0.27, 4), _MARKS.items(), strict=True):
                    here = coverage[rows & (coverage["interval of"] == quantity) & (coverage["spread by"] == spread)]
                    name = spread if i == j == 0 else None
                    place = np.full(len(here), y + offset)
                    axis.scatter(here["95 % covers"], place, s=20, marker=mark, color=colour, label=name, zorder=3)
        axis.set_yticks(range(len(labels)), labels, fontsize=9)
        axis.set_ylim(len(labels) - 0.4, -0.6)
        axis.set_xlabel("worlds whose interval holds the truth (%)")
        figure.legend(loc="outside lower center", ncols=4, title="spread made by")
    five = coverage[coverage["seeds"] == 5]["95 % covers"]
    three = coverage[sizes[1][1]]["95 % covers"]
    six = coverage[coverage["people"] == 6]["95 % covers"]
    worlds = int(coverage["worlds"].min())
    ranges = (
        f"{five.min():.1f} to {five.max():.1f} % with 5 seeds, {three.min():.1f} to {three.max():.1f} % with 3 seeds, "
        f"{six.min():.1f} to {six.max():.1f} % with 6 people and 3 seeds"
    )
    error = 100 * np.sqrt(0.95 * 0.05 / worlds)
    caption = (
        f"Coverage of the 95 % interval in simulated worlds, {worlds} a point (standard error {error:.2f}). A point is a "
        f"target ({', '.join(str(n) for n in sorted(set(coverage[coverage['seeds'] == 5]['people']), reverse=True))} people) and a "
        f"spread. Grey: 95 ± 2 %. Range: {ranges}."
    )
    return Drawing(figure, caption, f"Points along fifteen rows, most within or right of a grey band: {ranges}.")


def rules_figure(rules: pd.DataFrame) -> Drawing:
    """How often the rules call a claim supported where it is false, and how often where it is true.

    rules: `worlds.rules_table` of the study's worlds.
    """
    figure, axes = new_figure(6.2, 6.4, 2, 1, height_ratios=(1, 1.4))
    level, power = axes[:, 0]
    worst = {}
    with matplotlib.rc_context(STYLE):
        level.axvline(5, color="#555555", linewidth=1)
        rows = [(question, claim) for question in (NOTHING, MARGIN) for claim in _CLAIMS]
        for y, (question, claim) in enumerate(rows):
            share = rules.loc[rules["question"] == question, f"{claim} supported"]
            worst[question, claim] = float(share.max())
            mark, colour = _CLAIMS[claim]
            level.scatter(share, np.linspace(y - 0.25, y + 0.25, len(share)), s=20, marker=mark, color=colour, zorder=3)
        level.set_yticks(range(len(rows)), [f"{question}: {claim}" for question, claim in rows], fontsize=9)
        level.set_ylim(len(rows) - 0.4, -0.6)
        level.set_xlim(-0.3, max(6.0, max(worst.values()) + 0.5))
        level.set_xlabel('"supported" though it is false (% of worlds)')
        curve = rules[rules["difference"].notna()]
        for claim, (mark, colour) in _CLAIMS.items():
            sign = -1 if claim == "claim 2" else 1
            for kind, line in (("bounded", "-"), ("normal", ":")):
                here = curve[curve["scores"] == kind]
                here = here.assign(x=sign * here["difference"]).sort_values("x")
                name = claim if kind == "bounded" else None
                power.plot(here["x"], here[f"{claim} supported"], line, marker=mark, color=colour, label=name)
        power.axhline(5, color="#555555", linewidth=1)
        power.set_xlabel("true difference A minus B (margins)")
        power.set_ylabel('"supported" (% of worlds)')
        power.set_ylim(-3, 103)
        power.legend(loc="center left", fontsize=9)
    equal = curve[(curve["difference"] == 0) & (curve["scores"] == "bounded")].iloc[0]
    words = ", ".join(f"{claim} {equal[f'{claim} supported']:.0f} %" for claim in _CLAIMS)
    highest = ", ".join(f"{claim} {worst[MARGIN, claim]:.1f} %" for claim in _CLAIMS)
    nothing = max(worst[NOTHING, claim] for claim in _CLAIMS)
    caption = (
        f"Error and power of the three rules in simulated worlds, 5 seeds unless the table says otherwise. Above: a point is "
        f"a world in which the claim is false; the line is 5 %. Where no source does anything: at most {nothing:.1f} %. One "
        f"difference at the margin: at most {highest}. Below: spread by people and seeds, solid bounded and dotted "
        f"normal scores. All pre-trained sources equal: {words}."
    )
    return Drawing(
        figure,
        caption,
        f"Above, points at most {nothing:.1f} % where nothing works and {highest} at the margin. Below, curves that rise "
        f"with the true difference for claims 1 and 3 and peak at zero for claim 2; at zero: {words}.",
    )


def committed_coverage() -> Drawing:
    """The coverage figure of the committed table."""
    return coverage_figure(pd.read_csv(project_root() / "book" / "proof" / "claims_coverage.csv"))


def committed_rules() -> Drawing:
    """The figure of the rules of the committed table."""
    return rules_figure(pd.read_csv(project_root() / "book" / "proof" / "claims_rules.csv"))
