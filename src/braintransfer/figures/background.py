"""The pictures of the background chapter: each idea on small data made on the spot, each number computed where it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import ndimage, special

from braintransfer import metrics
from braintransfer.figures.base import (
    CLASS_COLOURS,
    COLOURS,
    FALSE,
    HIT,
    MISSED,
    STYLE,
    Drawing,
    new_figure,
    overlay_legend,
)
from braintransfer.figures.pictures import mosaic, overlay
from braintransfer.statistics import mean_interval
from braintransfer.study import stream

SEED = 0
#: Side of the surroundings that the smallest network sees, in pixels, and after how many steps it is looked at.
PATCH, STEPS = 9, (0, 10, 1000)
#: Overlaps that a lesion must reach to count; the first stands for "one voxel".
RULES = ((1e-9, "one pixel is enough"), (0.1, "a tenth"), (0.5, "half"))


# ----------------------------------------------------------------------------------------------- what a network learns
@cache
def _person(index: int, spacing_mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A simulated person without lesion: T1 uint8, white matter bool, brain bool, each (Z, H, W), the right on the left."""
    from braintransfer.simulate.brains import render, simulate_anatomy
    from braintransfer.volumes import to_slices, to_uint8

    rng = stream(SEED, f"background/person/{index}")
    person = simulate_anatomy(rng, spacing_mm)
    t1, _ = render(rng, person)
    return tuple(to_slices(v) for v in (to_uint8(t1, person.brain), person.labels == 3, person.brain))  # type: ignore[return-value]


def surroundings(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """What the smallest network sees: for each pixel of `brain` the PATCH x PATCH pixels around it and a 1, (n, 82)."""
    inside = image[brain].astype(float)
    relative = np.where(brain, (image - np.median(inside)) / inside.std(), 0.0)
    views = np.lib.stride_tricks.sliding_window_view(np.pad(relative, PATCH // 2), (PATCH, PATCH))[brain]
    return np.column_stack([views.reshape(len(views), -1), np.ones(len(views))])


def learned_weights(inputs: np.ndarray, answers: np.ndarray, steps: Sequence[int]) -> list[np.ndarray]:
    """Weights of a logistic regression after each of so many steps of gradient descent from small random ones."""
    weights: np.ndarray = stream(SEED, "background/weights").normal(0, 0.05, (inputs.shape[1],))
    rate = 4 / np.linalg.eigvalsh(inputs.T @ inputs / len(inputs))[-1]
    kept = []
    for step in range(max(steps) + 1):
        if step in steps:
            kept.append(weights.copy())
        weights -= rate * inputs.T @ (special.expit(inputs @ weights) - answers) / len(answers)
    return kept


def learning_figure() -> Drawing:
    """The smallest network learns white matter from one person: its map after a few steps, there and in a new person."""
    slices = []
    for index in (1, 2):
        images, white, brains = _person(index, 2.0)
        middle = int(white.sum((1, 2)).argmax())
        slices.append((images[middle], white[middle], brains[middle]))
    size = [max(image.shape[axis] for image, _, _ in slices) for axis in (0, 1)]
    weights = learned_weights(surroundings(slices[0][0], slices[0][2]), slices[0][1][slices[0][2]], STEPS)
    pictures, titles, scores = [], [], []
    for (image, white, brain), who in zip(slices, ("learned from", "a new person"), strict=True):
        guesses = [np.zeros_like(white) for _ in weights]
        for guess, w in zip(guesses, weights, strict=True):
            guess[brain] = surroundings(image, brain) @ w > 0
        dices = [metrics.dice(guess[None], white[None]) for guess in guesses]
        scores.append(dices)
        pictures += [_centred(np.repeat(image[..., None] / 255.0, 3, axis=2), size)]
        pictures += [_centred(overlay(image, white, guess, ("lesion",)), size) for guess in (white, *guesses)]
        titles += [who, "white matter", *[f"{s:,} steps\nDice {d:.2f}" for s, d in zip(STEPS, dices, strict=True)]]
    figure = mosaic(pictures, titles, columns=5, title_lines=2)[0]
    with matplotlib.rc_context(STYLE):
        overlay_legend(figure, ("lesion",))
    words = [", ".join(f"{d:.2f}" for d in dices) for dices in scores]
    after = ", ".join(f"{s:,}" for s in STEPS)
    caption = (
        f"The smallest network that learns something: {PATCH * PATCH + 1} numbers, which weigh the {PATCH} x {PATCH} pixels around "
        f"each pixel. It learns white matter from one slice of one simulated person (above) and is tried on another one "
        f"(below). Dice after {after} steps: {words[0]} where it learned, {words[1]} in the new person. Simulated scans, 2 mm."
    )
    alt = (
        f"Two rows of five pictures: a brain slice, its white matter, and what the network marks after {after} steps. The marks "
        f"come to fit: Dice {words[0]} above and {words[1]} below."
    )
    return Drawing(figure, caption, alt)


def _centred(picture: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The picture (H, W, 3) in the middle of black of `size`."""
    gaps = [(whole - part) for whole, part in zip(size, picture.shape, strict=False)]
    return np.pad(picture, [(gap // 2, gap - gap // 2) for gap in gaps] + [(0, 0)] * (picture.ndim - 2))


# ------------------------------------------------------------------------------------------------------ domain and task
def tasks_figure() -> Drawing:
    """One picture of each domain, and what each of the three tasks asks of it."""
    import torch

    from braintransfer.pretext import MASKED, SHUFFLED, corrupt
    from braintransfer.simulate import simulated_mri, simulated_natural

    pictures, titles, labels = [], [], []
    # of a few, the picture whose object is largest: easy to see on a phone
    samples = {
        domain: max(list(some), key=lambda sample: int((sample.mask > 0).sum()))
        for domain, some in (("natural", simulated_natural(16, 96, SEED)), ("MRI", simulated_mri(3, 96, SEED)))
    }
    for domain, sample in samples.items():
        image = sample.image if sample.image.ndim == 3 else np.repeat(sample.image[..., None], 3, axis=2)
        image = image / 255.0
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        damaged = corrupt(tensor, torch.Generator().manual_seed(SEED))[0][0].permute(1, 2, 0).numpy()
        mask = np.repeat((sample.mask > 0).astype(float)[..., None], 3, axis=2)
        pictures += [image, image, mask, damaged]
        labels.append(f"“{sample.label}”")
        titles += [f"{domain} image", f"classification:\n{labels[-1]}", "segmentation:\nthis mask"]
        titles.append("self-supervised:\nrestore this")
    figure = mosaic(pictures, titles, columns=4, title_lines=2)[0]
    caption = (
        "Two domains (rows) and three tasks (columns). Classification asks for one word, segmentation for a mask, and the "
        f"self-supervised task for the whole picture from a damaged copy, in which {100 * MASKED:.0f} % of the patches are grey and "
        f"{100 * SHUFFLED:.0f} % have changed places. Above a composited photograph, below a simulated head with a mass. The photographs come "
        "with scikit-image and scikit-learn, china.jpg and flower.jpg under CC BY 2.0 (on Flickr: danielbuechele, vultilion)."
    )
    alt = (
        f"Above a photograph pasted into another, below a head slice with a mass; beside each its class, {labels[0]} and "
        f"{labels[1]}, its mask, and a copy with grey and displaced patches."
    )
    return Drawing(figure, caption, alt)


# --------------------------------------------------------------------------------------------------------- why few cases
def outside_shares(n: int, groups: int = 500) -> np.ndarray:
    """Share of 1,000 new stroke volumes outside the range of the `n` people learned from, for so many groups of `n`."""
    from braintransfer.simulate.shapes import draw_stroke_volume

    rng = stream(SEED, f"background/few/{n}")
    coming = np.sort([draw_stroke_volume(rng) for _ in range(1000)])
    seen = np.sort([[draw_stroke_volume(rng) for _ in range(n)] for _ in range(groups)], axis=1)
    inside = np.searchsorted(coming, seen[:, -1], "right") - np.searchsorted(coming, seen[:, 0])
    return 1 - inside / len(coming)


def few_figure() -> Drawing:
    """How many of the people to come lie outside of what a few training people showed: stroke volumes."""
    sizes = (2, 4, 8, 16, 32)
    shares = [100 * outside_shares(n) for n in sizes]
    figure, axes = new_figure(6.2, 2.9)
    axis = axes[0, 0]
    with matplotlib.rc_context(STYLE):
        for n, share in zip(sizes, shares, strict=True):
            axis.plot([n, n], np.percentile(share, (10, 90)), color="#aaaaaa", linewidth=5, solid_capstyle="butt")
            axis.plot(n, share.mean(), "o", color="black", markersize=7, zorder=3)
        axis.plot(np.arange(2, 33), 200 / np.arange(3, 34), color="#555555", linewidth=1.2, linestyle="--", zorder=2)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.minorticks_off()
        axis.set_ylim(0, 100)
        axis.set_xlabel("people learned from")
        axis.set_ylabel("new people outside (%)")
    means = ", ".join(f"{share.mean():.0f} % after {n}" for n, share in zip(sizes, shares, strict=True))
    low, high = np.percentile(shares[1], (10, 90))
    caption = (
        f"Few people show little of how people differ. How many new people have a stroke that is smaller or larger than all that were "
        f"learned from: on average {means} (dots). Grey bars hold 8 of 10 groups; for 4 people {low:.0f} to {high:.0f} %. "
        "Dashed: 2 in n + 1, which holds for any quantity. Simulated stroke volumes, 500 groups a size."
    )
    return Drawing(figure, caption, f"Dots with bars that fall as more people are learned from: {means}.")


# ------------------------------------------------------------------------------------------- pre-training and fine-tuning
KNOTS = np.linspace(0, 2 * np.pi, 40)
CURVE = np.linspace(0, 2 * np.pi, 200)
#: Where the four labelled points of the target lie.
LABELLED = np.array([0.7, 1.6, 4.2, 5.5])


def bumps(x: np.ndarray) -> np.ndarray:
    """Features of the one-line network: 40 smooth bumps along the axis, (len(x), 40)."""
    return np.exp(-0.5 * ((x[:, None] - KNOTS) / 0.35) ** 2)


def target_curve(x: np.ndarray) -> np.ndarray:
    """The made-up target: what is to be learned from four points."""
    return np.sin(x) + 0.4 * np.sin(2 * x)


def fine_tuned(start: np.ndarray, steps: int = 200) -> np.ndarray:
    """The 40 weights after `steps` of gradient descent on the four labelled points, from `start`."""
    inputs, answers = bumps(LABELLED), target_curve(LABELLED)
    weights = start.copy()
    rate = 1 / np.linalg.eigvalsh(inputs @ inputs.T)[-1]
    for _ in range(steps):
        weights -= rate * inputs.T @ (inputs @ weights - answers)
    return weights


def starts() -> dict[str, np.ndarray]:
    """Where fine-tuning may begin: zeros, or weights that fit a related or an unrelated source."""

    def fit(y: np.ndarray) -> np.ndarray:
        inputs = bumps(CURVE)
        solved: np.ndarray = np.linalg.solve(inputs.T @ inputs + 1e-3 * np.eye(len(KNOTS)), inputs.T @ y)
        return solved

    return {
        "no pre-training": np.zeros(len(KNOTS)),
        "related source": fit(0.8 * np.sin(CURVE + 0.15) + 0.3 * np.sin(2 * CURVE)),
        "unrelated source": fit(np.cos(3 * CURVE)),
    }


def starts_figure() -> Drawing:
    """Fine-tuning in one dimension: the same four points and steps from three starts."""
    figure, axes = new_figure(6.8, 2.9, 1, 3, sharey=True)
    colours = (COLOURS["scratch"], CLASS_COLOURS["wm"], FALSE)
    errors = {}
    with matplotlib.rc_context(STYLE):
        for axis, (name, start), colour in zip(axes[0], starts().items(), colours, strict=True):
            after = bumps(CURVE) @ fine_tuned(start)
            errors[name] = float(np.sqrt(np.mean((after - target_curve(CURVE)) ** 2)))
            axis.plot(CURVE, target_curve(CURVE), color="#555555", linewidth=1.2, linestyle="--")
            axis.plot(CURVE, bumps(CURVE) @ start, color=colour, linewidth=1.2, linestyle=":")
            axis.plot(CURVE, after, color=colour, linewidth=2.2)
            axis.plot(LABELLED, target_curve(LABELLED), "o", color="black", markersize=5)
            axis.set_title(f"{name}\nerror {errors[name]:.2f}", fontsize=10)
            axis.set_xticks([])
        keys = [
            Line2D([], [], color="#555555", linestyle="--", label="the truth"),
            Line2D([], [], color="black", linestyle="", marker="o", label="labelled"),
            Line2D([], [], color="black", linestyle=":", label="start"),
            Line2D([], [], color="black", linewidth=2.2, label="fine-tuned"),
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=9)
    words = ", ".join(f"{value:.2f} ({name})" for name, value in errors.items())
    caption = (
        "Fine-tuning, on a made-up curve instead of a picture. Four labelled points, 200 steps, three starts. A start is kept where no "
        f"point says otherwise. Root mean square error of the whole curve: {words}."
    )
    return Drawing(
        figure, caption, f"Three panels with the same four points. The fine-tuned curve misses the truth by {words}."
    )


# --------------------------------------------------------------------------------------------------- overlap and detection
def discs(aim: float, radius: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Two equal discs, bool pictures, shifted so that their Dice comes as near to `aim` as whole pixels allow."""
    y, x = np.mgrid[-radius - 2 : radius + 2, -radius - 2 : 3 * radius + 2]
    pairs = [(x**2 + y**2 < radius**2, (x - shift) ** 2 + y**2 < radius**2) for shift in np.arange(0, 2 * radius, 0.25)]
    return min(pairs, key=lambda pair: abs(metrics.dice(pair[1][None], pair[0][None]) - aim))


def dice_figure() -> Drawing:
    """Dice and IoU of two discs that overlap ever better."""
    pairs = [discs(aim) for aim in (0.5, 0.7, 0.9)]
    said = [(metrics.dice(b[None], a[None]), metrics.iou(b[None], a[None])) for a, b in pairs]
    figure, axes = new_figure(6.8, 2.2, 1, 3)
    with matplotlib.rc_context(STYLE):
        for axis, (truth, guess), (dice, iou) in zip(axes[0], pairs, said, strict=True):
            axis.imshow(paint(truth, guess))
            axis.set_title(f"Dice {dice:.2f}, IoU {iou:.2f}", fontsize=10)
            axis.axis("off")
        _overlap_legend(figure)
    words = ", ".join(f"{dice:.2f} ({iou:.2f})" for dice, iou in said)
    caption = (
        "What Dice looks like. Reference and prediction are two equal discs, the prediction further and further over the "
        f"reference. Dice (IoU in brackets): {words}."
    )
    return Drawing(figure, caption, f"Three pairs of discs that overlap more and more: Dice (IoU) {words}.")


def paint(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Hits, misses and false pixels in their colours on white, (H, W, 3) in 0..1."""
    canvas = np.ones((*truth.shape, 3))
    for where, colour in ((truth & guess, HIT), (guess & ~truth, FALSE), (truth & ~guess, MISSED)):
        canvas[where] = to_rgb(colour)
    return canvas


def _overlap_legend(figure: matplotlib.figure.Figure) -> None:
    keys = [Patch(color=c, label=t) for c, t in ((HIT, "hit"), (MISSED, "missed"), (FALSE, "false"))]
    figure.legend(handles=keys, loc="outside lower center", ncols=3)


def lesion_masks() -> tuple[np.ndarray, np.ndarray]:
    """A made-up reference with six lesions and a prediction, (36, 60) bool."""
    y, x = np.mgrid[:36, :60]

    def disc(cy: int, cx: int, r: float) -> np.ndarray:
        inside: np.ndarray = (y - cy) ** 2 + (x - cx) ** 2 <= r**2
        return inside

    truth = disc(9, 9, 5) | disc(9, 28, 4) | disc(9, 48, 5) | disc(27, 9, 4) | disc(26, 29, 5) | disc(27, 51, 3)
    guess = disc(9, 10, 5) | disc(9, 33, 4) | disc(15, 49, 3) | disc(27, 9, 2) | disc(20, 35, 4) | disc(32, 43, 3)
    return truth, guess


def matched(guess: np.ndarray, truth: np.ndarray, overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels belong to found reference lesions and which to true predicted ones, as `metrics.detect_lesions` counts."""

    def kept(pieces: np.ndarray, inside: np.ndarray) -> np.ndarray:
        labels, n = ndimage.label(pieces, np.ones((3, 3)))
        good = [k for k in range(1, n + 1) if inside[labels == k].mean() >= overlap]
        return np.isin(labels, good)

    true = kept(guess, truth)
    return kept(truth, true), true


def detection(guess: np.ndarray, truth: np.ndarray, overlap: float = 0.1) -> metrics.LesionDetection:
    """The study's lesion counts on a picture: one slice of 1 mm voxels."""
    return metrics.detect_lesions(guess[..., None], truth[..., None], (1.0, 1.0, 1.0), overlap=overlap)


def _lesion_panel(axis: Axes, guess: np.ndarray, truth: np.ndarray, overlap: float) -> None:
    """Reference lesions filled (found or missed), predicted ones outlined (true in black, false in the colour of a mistake)."""
    found, true = matched(guess, truth, overlap)
    canvas = np.ones((*truth.shape, 3))
    canvas[found], canvas[truth & ~found] = to_rgb(HIT), to_rgb(MISSED)
    axis.imshow(canvas)
    for mask, colour in ((true, "black"), (guess & ~true, FALSE)):
        if mask.any():
            axis.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.8)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    for side in axis.spines.values():
        side.set(visible=True, color="#bbbbbb")


def _lesion_legend(figure: matplotlib.figure.Figure) -> None:
    keys: list[Patch | Line2D] = [
        Patch(color=HIT, label="lesion, found"),
        Patch(color=MISSED, label="lesion, missed"),
        Line2D([], [], color="black", linewidth=1.8, label="predicted, true"),
        Line2D([], [], color=FALSE, linewidth=1.8, label="predicted, false"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=2, fontsize=9)


def rules_figure() -> Drawing:
    """The same reference and prediction, counted by three overlap rules."""
    truth, guess = lesion_masks()
    figure, axes = new_figure(6.8, 2.55, 1, 3)
    said = []
    with matplotlib.rc_context(STYLE):
        for axis, (overlap, name) in zip(axes[0], RULES, strict=True):
            count = detection(guess, truth, overlap)
            _lesion_panel(axis, guess, truth, overlap)
            axis.set_title(f"{name}\nF1 {count.f1:.2f}", fontsize=10)
            said.append(f"{name}: {count.n_detected} of {count.n_truth} found, F1 {count.f1:.2f}")
        _lesion_legend(figure)
    dice = metrics.dice(guess[None], truth[None])
    words = "; ".join(said)
    caption = (
        f"One prediction, three rules. Made-up lesions; the masks are the same in all panels (Dice {dice:.2f}). The rule says "
        f"how much of a lesion must overlap to count. {words[0].upper()}{words[1:]}."
    )
    return Drawing(figure, caption, f"The same six lesions and outlines three times. {words[0].upper()}{words[1:]}.")


def probabilities() -> tuple[np.ndarray, np.ndarray]:
    """A made-up map of lesion probability and the reference with eight lesions, (36, 60) float and bool."""
    y, x = np.mgrid[:36, :60]
    truth, chance = np.zeros((36, 60), bool), np.zeros((36, 60))
    places = [
        (6, 8, 0.95),
        (7, 28, 0.85),
        (6, 50, 0.75),
        (18, 14, 0.6),
        (19, 38, 0.55),
        (30, 7, 0.4),
        (29, 27, 0.9),
        (30, 50, 0.2),
    ]
    for cy, cx, top in places:
        far = (y - cy) ** 2 + (x - cx) ** 2
        truth |= far <= 9
        chance = np.maximum(chance, top * np.exp(-far / 30))
    for cy, cx, top in [(19, 54, 0.6), (20, 26, 0.45), (31, 38, 0.4), (12, 40, 0.35)]:
        chance = np.maximum(chance, top * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 30))
    return chance, truth


def threshold_figure() -> Drawing:
    """The same network, bold or cautious: sensitivity against precision as the threshold moves."""
    chance, truth = probabilities()
    figure, axes = new_figure(6.8, 2.55, 1, 3)
    said = []
    with matplotlib.rc_context(STYLE):
        for axis, (threshold, name) in zip(axes[0], ((0.3, "bold"), (0.5, "usual"), (0.7, "cautious")), strict=True):
            guess = chance > threshold
            count = detection(guess, truth)
            _lesion_panel(axis, guess, truth, 0.1)
            axis.set_title(
                f"{name}: above {threshold}\nsens. {count.sensitivity:.2f}, prec. {count.precision:.2f}", fontsize=10
            )
            said.append(
                f"above {threshold} {count.n_detected} of {count.n_truth} lesions are found (sensitivity {count.sensitivity:.2f}) "
                f"and {count.n_true_pred} of {count.n_pred} marks are true (precision {count.precision:.2f})"
            )
        _lesion_legend(figure)
    words = "; ".join(said)
    caption = (
        "Sensitivity and precision pull against each other. A made-up network gives each pixel a probability; the threshold says from "
        f"where on it is called lesion: {words}."
    )
    return Drawing(figure, caption, f"The same eight lesions three times with fewer and fewer marks: {words}.")


# ----------------------------------------------------------------------------------------------------- people, not slices
def likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of each picture in `a` with each in `b`: (len(a), len(b)); pictures (n, H, W)."""
    rows = []
    for pictures in (a, b):
        flat = pictures.reshape(len(pictures), -1).astype(float)
        flat -= flat.mean(axis=1, keepdims=True)
        rows.append(flat / np.linalg.norm(flat, axis=1, keepdims=True))
    table: np.ndarray = rows[0] @ rows[1].T
    return table


def split_figure() -> Drawing:
    """The same slices split in two ways, and how much a test slice resembles the training slice nearest to it."""
    people = [_person(index, 4.0) for index in range(1, 7)]
    size = [max(p[0].shape[axis] for p in people) for axis in (1, 2)]
    stacks = []
    for images, _, brains in people:
        rows = np.flatnonzero(brains.sum((1, 2)) > 0.2 * brains.sum((1, 2)).max())
        rows = rows[np.linspace(0, len(rows) - 1, 20).round().astype(int)]
        stacks.append(np.stack([_centred(images[r], size) for r in rows]))
    pictures = np.concatenate(stacks)
    owner = np.repeat(np.arange(len(stacks)), [len(s) for s in stacks])
    by_slice = stream(SEED, "background/split").random(len(pictures)) < 1 / 3
    by_person = owner >= 4
    figure, axes = new_figure(6.8, 3.0, 1, 2, sharey=True)
    said = []
    with matplotlib.rc_context(STYLE):
        for axis, (name, test) in zip(axes[0], (("by slices", by_slice), ("by people", by_person)), strict=True):
            table = likeness(pictures[test], pictures[~test])
            nearest = float(table.max(axis=1).mean())
            own = float((owner[~test][table.argmax(axis=1)] == owner[test]).mean())
            both = len(set(owner[test]) & set(owner[~test]))
            grid = test.reshape(len(stacks), -1)
            axis.pcolormesh(
                grid, cmap=matplotlib.colors.ListedColormap(["#dddddd", FALSE]), edgecolors="white", linewidth=1
            )
            axis.set_title(f"{name}\nnearest training slice: r = {nearest:.2f}", fontsize=10)
            axis.set_yticks(np.arange(len(stacks)) + 0.5, [f"person {k + 1}" for k in range(len(stacks))])
            axis.set_ylim(len(stacks), 0)
            axis.set_xticks([])
            axis.set_xlabel("slices, from below to above")
            axis.grid(False)
            said.append((name, both, nearest, own))
        keys = [Patch(color="#dddddd", label="training"), Patch(color=FALSE, label="test")]
        figure.legend(handles=keys, loc="outside lower center", ncols=2)
    (_, mixed, near, own), (_, apart, far, _) = said
    words = (
        f"Split by slices, {mixed} of {len(stacks)} people stand on both sides; a test slice correlates by {near:.2f} with the training slice "
        f"most like it, which in {100 * own:.0f} % of cases shows the same person. Split by people, {apart} of {len(stacks)} do, and it is "
        f"{far:.2f}."
    )
    caption = (
        f"Why people are split and not slices. {words} Six simulated people, 20 slices each, means over the test slices. All these "
        "brains are one brain, bent, so two people are more alike here than in a hospital."
    )
    return Drawing(figure, caption, f"Two grids of six people by twenty slices, training and test coloured. {words}")


#: The made-up study that counts slices as if they were people: mean score, spread of people and of a person's slices.
TRUTH, BETWEEN, WITHIN = 0.50, 0.12, 0.08


def plain_interval(values: np.ndarray) -> tuple[float, float]:
    """The textbook 95 % interval for a mean, as if all values were independent."""
    half = special.stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def people_figure(worlds: int = 2000) -> Drawing:
    """One made-up study counted by slices and by people, and how often each interval holds the truth."""
    rng = stream(SEED, "background/people")
    people = rng.normal(TRUTH, BETWEEN, (worlds, 8, 1))
    scores = people + rng.normal(0, WITHIN, (worlds, 8, 30))
    held = []
    for counted in (scores.reshape(worlds, -1), scores.mean(axis=2)):
        limits = [plain_interval(world) for world in counted]
        held.append(float(np.mean([low <= TRUTH <= high for low, high in limits])))
    one = scores[0]
    figure, axes = new_figure(6.2, 3.2)
    axis = axes[0, 0]
    with matplotlib.rc_context(STYLE):
        for k, slices in enumerate(one):
            axis.scatter(slices, np.full(30, k) + 0.5 * (rng.random(30) - 0.5), s=7, color="#a8a8a8")
            axis.plot(slices.mean(), k, "D", color="black", markersize=6)
        rows = (("all slices", one.ravel()), ("people", one.mean(axis=1)))
        for y, (_, values) in zip((8.6, 9.6), rows, strict=True):
            low, high = plain_interval(values)
            axis.plot([low, high], [y, y], color="black", linewidth=3, solid_capstyle="butt")
            axis.plot(values.mean(), y, "o", color="black", markersize=6)
        axis.axvline(TRUTH, color=FALSE, linewidth=1.2)
        axis.set_yticks(
            [*range(8), 8.6, 9.6], [*[f"person {k + 1}" for k in range(8)], *[f"interval from {n}" for n, _ in rows]]
        )
        axis.set_ylim(10.2, -0.7)
        axis.set_xlabel("score")
    words = [f"{low:.2f} to {high:.2f}" for low, high in (plain_interval(v) for _, v in rows)]
    caption = (
        "Why people are counted and not slices. A made-up study: 8 people (diamonds) with 30 slices each (dots); the true mean "
        f"is {TRUTH:.2f} (line). As if 240 slices were independent, the 95 % interval is {words[0]}; from 8 people it is {words[1]}. "
        f"In {worlds:,} such studies the first holds the truth in {100 * held[0]:.0f} %, the second in {100 * held[1]:.0f} %."
    )
    alt = (
        f"Eight rows of dots that lie close together within a person and apart between people. Below, a short interval from slices, "
        f"{words[0]}, and a long one from people, {words[1]}. They hold the truth in {100 * held[0]:.0f} % and {100 * held[1]:.0f} % of studies."
    )
    return Drawing(figure, caption, alt)


def interval_figure(studies: int = 100) -> Drawing:
    """The study's own interval in many made-up studies: which ones hold the truth."""
    rng = stream(SEED, "background/interval")
    shape = (studies, 12, 3)
    scores = (
        TRUTH
        + rng.normal(0, BETWEEN, (studies, 12, 1))
        + rng.normal(0, 0.02, (studies, 1, 3))
        + rng.normal(0, 0.05, shape)
    )
    found = [mean_interval(table) for table in scores]
    holds = [i.lower <= TRUTH <= i.upper for i in found]
    figure, axes = new_figure(6.2, 2.9)
    axis = axes[0, 0]
    with matplotlib.rc_context(STYLE):
        for x, (i, held) in enumerate(zip(found, holds, strict=True)):
            colour = "#666666" if held else FALSE
            axis.plot([x, x], [i.lower, i.upper], color=colour, linewidth=1.6 if held else 2.6)
            axis.plot(x, i.estimate, "o" if held else "D", color=colour, markersize=3 if held else 6)
        axis.axhline(TRUTH, color="#333333", linewidth=1.2)
        axis.set_xlabel(f"{studies} repetitions of the study")
        axis.set_ylabel("mean score")
        axis.set_xticks([])
    missed = holds.count(False)
    which = "1 (a diamond) does" if missed == 1 else f"{missed} (diamonds) do"
    caption = (
        f"What a 95 % interval says. The same made-up study {studies} times, each time with 12 other people and 3 other seeds. The "
        f"true mean is {TRUTH:.2f} (line). {studies - missed} intervals hold it, {which} not. In real life there is one study, "
        "and nobody knows which kind it is."
    )
    alt = f"{studies} vertical intervals around a line: {studies - missed} cross it, {missed} lie beside it."
    return Drawing(figure, caption, alt)


#: By the name that a page calls for.
DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "background_learning": learning_figure,
    "background_tasks": tasks_figure,
    "background_few": few_figure,
    "background_starts": starts_figure,
    "background_dice": dice_figure,
    "background_threshold": threshold_figure,
    "background_rules": rules_figure,
    "background_split": split_figure,
    "background_people": people_figure,
    "background_interval": interval_figure,
}
