"""Semi-synthetic lesions beside real ones, and how well a plain classifier tells patches of the two apart.

The measurements of masks are those of `realism`; here stand those of the picture in and around a lesion. People come
from the stores of the null check: the same people, masks and drawing that its networks learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import ks_2samp, rankdata, t

from braintransfer import recipes, volumes
from braintransfer.errors import BadInput
from braintransfer.figures.base import HIT, STYLE, Drawing, new_figure
from braintransfer.proofs import realism
from braintransfer.proofs.realism import SMALLEST_MM3
from braintransfer.provenance import files_digest, project_root
from braintransfer.recipes.files import scan_files
from braintransfer.recipes.scans import read_subject_scan
from braintransfer.simulate.lesions import (
    EVERY_NEIGHBOUR,
    Contrast,
    insert_ms,
    insert_stroke,
    local_white_matter,
    white_matter_of,
)
from braintransfer.store import Store
from braintransfer.study import stream, stream_seed

#: Sets that this proof reads.
NEEDED = ("semisynthetic_stroke", "semisynthetic_ms", "open_ms_data")
#: Real and drawn scans are compared on one grid: mm, rows and columns.
PATCH_MM, PATCH_SIZE = 1.5, (160, 128)
#: The tissue around a lesion is the white matter up to so many mm from its edge; the nearest mm are its soft border.
NEAR_MM, FAR_MM = 2.0, 8.0
#: Distances to the mask's edge (mm, inside negative) whose mean T1 makes the profile.
EDGES = np.arange(-5.0, 8.5, 1.0)
#: A person with hundreds of lesions shall not outweigh the others.
LESIONS_EACH = 40
FEATURES = ("mean", "spread", "rim", "step", "grain", "edge")
BOOTSTRAPS, PERMUTATIONS = 500, 39
Report = Callable[[str], None]


@dataclass(frozen=True)
class Person:
    """One person's T1 on the common grid, white matter about 1: t1, brain, mask (X, Y, Z)."""

    name: str
    t1: np.ndarray
    brain: np.ndarray
    mask: np.ndarray


def need_data(root: Path | None) -> Path:
    """The folder of data sets. BadInput, one line, when none is given or one of the sets is not in it."""
    if root is None:
        raise BadInput(
            "this proof needs real scans and masks: give the folder that holds ds002748, open_ms_data and lesion_masks "
            "as `data` (braintransfer prove lesions --data DIR)"
        )
    for name in NEEDED:
        gap = recipes.missing(recipes.load_recipe(name, root), root)
        if gap:
            raise BadInput(gap)
    return root


def inputs(root: Path) -> dict[str, str]:
    """Digest of every file that each set gives to this proof."""
    return {n: files_digest(recipes.input_files(recipes.load_recipe(n, root), root), root) for n in NEEDED}


# -------------------------------------------------------------------------------------------------------------- people
def on_common_grid(name: str, t1: np.ndarray, affine: np.ndarray, brain: np.ndarray, mask: np.ndarray) -> Person:
    """A scan brought to `PATCH_MM` by the study's own preparation and to 8 bits, as a network would see it."""
    volume, inside, lesion = realism.on_working_grid(t1, affine, brain, mask.astype(np.uint8), 1, PATCH_MM, PATCH_SIZE)
    return Person(name, volumes.to_uint8(volume, inside).astype(np.float32), inside, lesion > 0)


def real_ms(root: Path) -> Iterator[Person]:
    """The people of open_ms_data whose T1 is there."""
    recipe = recipes.load_recipe("open_ms_data", root)
    for files in scan_files(recipe, root):
        scan = read_subject_scan(recipe, files)
        yield on_common_grid(scan.subject, scan.image.data, scan.image.affine, scan.brain, scan.mask)


def drawn(store: Store, root: Path, seed: int, contrast: Contrast | None) -> Iterator[Person]:
    """The people of a store of the null check (made with `seed`), with lesions of `contrast` at their masks; None: untouched.

    The reference in the store says where; drawn anew with the stream that the recipe took, so equal to it voxel for voxel.
    """
    recipe = recipes.load_recipe(str(store.facts["recipe"]), root)
    assert recipe.lesions is not None
    background = recipes.load_recipe(recipe.lesions.background, root)
    files = {f.scan: f for f in scan_files(background, root)}
    insert = insert_stroke if recipe.lesions.kind == "stroke" else insert_ms
    lesion_seed = stream_seed(seed, recipe.name)
    for name in store.scans:
        scan = read_subject_scan(background, files[name])
        mask = np.asarray(nib.nifti1.load(store.path / "references" / f"{name}_mask.nii.gz").dataobj) > 0
        t1 = scan.image.data
        if contrast is not None:
            x, y, z = (float(s) for s in scan.image.spacing)
            t1 = insert(t1, scan.brain, mask, stream(lesion_seed, f"insert:{name}"), (x, y, z), contrast)
        yield on_common_grid(scan.subject, t1, scan.image.affine, scan.brain, mask)


def mirrored(person: Person) -> Person:
    """The same scan with the mask on the other side: the same kind of place, without a lesion where the mask was one-sided."""
    middle = np.argwhere(person.brain)[:, 0]
    flipped = np.roll(person.mask[::-1], int(middle.min() + middle.max()) - (len(person.mask) - 1), axis=0)
    return Person(person.name, person.t1, person.brain, flipped & person.brain & ~person.mask)


# ----------------------------------------------------------------------------------------------------------- measures
def patches(person: Person, avoid: np.ndarray | None = None) -> pd.DataFrame:
    """One row a lesion of at least `SMALLEST_MM3` (`LESIONS_EACH` at most): person, contrast, mm3, then `FEATURES`.

    contrast: (lesion mean - mean of the white matter around it) / SD of that tissue. Features, in parts of that mean:
    mean and spread (SD) inside; rim: mean within 2 mm outside; step: rim minus mean; grain: robust SD of a voxel minus its
    neighbourhood; edge: mean gradient at the mask's border. Lesions without 20 voxels of white matter around are left out.
    avoid: further voxels that are not tissue around (lesions, where the mask is not theirs).
    """
    steps = np.full(3, PATCH_MM)
    white = white_matter_of(person.t1, person.brain) & ~person.mask
    if avoid is not None:
        white &= ~avoid
    gradient = np.sqrt(sum(np.square(g) for g in np.gradient(person.t1))) / PATCH_MM
    fine = person.t1 - ndimage.uniform_filter(person.t1, 3)
    labelled, count = ndimage.label(person.mask, EVERY_NEIGHBOUR)
    sizes = np.bincount(labelled.ravel(), minlength=count + 1)[1:] * PATCH_MM**3
    kept = np.flatnonzero(sizes >= SMALLEST_MM3 - 1e-3)
    kept = np.sort(stream(0, f"proof/lesions/{person.name}").permutation(kept)[:LESIONS_EACH])
    boxes = ndimage.find_objects(labelled)
    margin = int(np.ceil(FAR_MM / PATCH_MM))
    rows = []
    for k in kept:
        box = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in boxes[k])
        inside = labelled[box] == k + 1
        distance = ndimage.distance_transform_edt(~inside, sampling=steps)
        around = white[box] & (distance > NEAR_MM) & (distance <= FAR_MM)
        if around.sum() < 20:
            continue
        t1 = person.t1[box]
        level, spread = float(t1[around].mean()), float(t1[around].std())
        ring = (distance > 0) & (distance <= NEAR_MM) & person.brain[box] & ~person.mask[box]
        border = inside & ~ndimage.binary_erosion(inside)
        mean = float(t1[inside].mean())
        rim = float(t1[ring].mean()) if ring.any() else level
        grain = realism._robust_sd(fine[box][inside])
        found = [mean, float(t1[inside].std()), rim, rim - mean, grain, float(gradient[box][border].mean())]
        rows.append([person.name, (mean - level) / max(spread, 1e-6), float(sizes[k]), *(v / level for v in found)])
    return pd.DataFrame(rows, columns=["person", "contrast", "mm3", *FEATURES])


def edge_profile(person: Person) -> np.ndarray:
    """Mean T1 relative to local white matter in the bins of `EDGES` (mm from the mask's edge), NaN where no voxel is."""
    white = white_matter_of(person.t1, person.brain)
    relative = person.t1 / local_white_matter(person.t1, white, (PATCH_MM,) * 3, without=person.mask)
    steps = np.full(3, PATCH_MM)
    # Half a voxel: the edge runs between the last voxel inside and the first outside.
    outer = ndimage.distance_transform_edt(~person.mask, sampling=steps) - PATCH_MM / 2
    inner = ndimage.distance_transform_edt(person.mask, sampling=steps) - PATCH_MM / 2
    distance = np.where(person.mask, -inner, outer)
    used = person.brain & (person.mask | white)
    place = np.digitize(distance[used], EDGES) - 1
    good = (place >= 0) & (place < len(EDGES) - 1)
    total = np.bincount(place[good], relative[used][good], minlength=len(EDGES) - 1)
    count = np.bincount(place[good], minlength=len(EDGES) - 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def profiles(groups: dict[str, list[Person]]) -> pd.DataFrame:
    """Mean profile over people and its 95 % interval (t), where three have a value: set, mm, mean, lower, upper, people."""
    rows = []
    for name, people in groups.items():
        each = np.stack([edge_profile(p) for p in people])
        for k, values in enumerate(each.T):
            values = values[np.isfinite(values)]
            if len(values) >= 3:
                middle = float(values.mean())
                half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
                rows.append([name, (EDGES[k] + EDGES[k + 1]) / 2, middle, middle - half, middle + half, len(values)])
    return pd.DataFrame(rows, columns=["set", "mm", "mean", "lower", "upper", "people"])


#: what -> (unit, whether on logarithms)
QUANTITIES = {
    "contrast": ("SD of the white matter around", False),
    "volume of a lesion": ("mm³", True),
    "lesions a person": ("lesions", True),
    "load a person": ("mL", True),
}


def measured(people: list[Person], lesions: pd.DataFrame) -> dict[str, np.ndarray]:
    """Values of each of `QUANTITIES`; volumes and counts are of all lesions, contrast of those in `lesions`."""
    masks = [realism.ms_measures(p.mask, PATCH_MM**3) for p in people]
    return {
        "contrast": lesions["contrast"].to_numpy(),
        "volume of a lesion": np.concatenate([m["ms_volume"] for m in masks]),
        "lesions a person": np.concatenate([m["ms_count"] for m in masks]),
        "load a person": np.concatenate([m["ms_load"] for m in masks]),
    }


def distributions(real: dict[str, np.ndarray], made: dict[str, np.ndarray], n_real: int, n_made: int) -> pd.DataFrame:
    """Real and drawn side by side: medians and quartiles, Wasserstein's distance (a factor on logarithms) and KS, with n."""
    rows = []
    for what, (unit, logarithmic) in QUANTITIES.items():
        a, b = real[what], made[what]
        apart = realism.distance(a, b, "factor" if logarithmic else "linear")
        rows.append(
            {
                "What": what, "Unit": unit, "Real: median (quartiles)": _quartiles(a, n_real),
                "Semi-synthetic: median (quartiles)": _quartiles(b, n_made),
                "Wasserstein": ("× " if logarithmic else "") + realism.number(apart),
                "Kolmogorov-Smirnov": realism.number(float(ks_2samp(a, b).statistic)),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _quartiles(values: np.ndarray, people: int) -> str:
    low, middle, high = (_signed(float(v)) for v in np.percentile(values, [25, 50, 75]))
    return f"{middle} ({low} to {high}); n = {len(values)} of {people}"


def _signed(value: float) -> str:
    return ("−" if value < 0 else "") + realism.number(abs(value))


# ------------------------------------------------------------------------------------------------------- told apart
def auc(score: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half (Mann and Whitney)."""
    n = int(truth.sum())
    rank = rankdata(score)
    return float((rank[truth].sum() - n * (n + 1) / 2) / max(n * (len(truth) - n), 1))


def held_out(table: pd.DataFrame, truth: np.ndarray) -> np.ndarray:
    """Score of each patch by a logistic regression on `FEATURES` that never saw a patch of its person."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, person = table[list(FEATURES)].to_numpy(float), table["person"].to_numpy(str)
    score = np.zeros(len(values))
    for name in np.unique(person):
        out = person == name
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=200))
        model.fit(values[~out], truth[~out])
        score[out] = model.decision_function(values[out])
    # A person's two identical patches must tie; the last bits of a sum may differ.
    return np.round(score, 9)


def told_apart(one: pd.DataFrame, other: pd.DataFrame, seed: int) -> dict[str, float]:
    """AUC of a classifier that tells the patches of `other` from those of `one`, a person left out at a time.

    lower, upper: percentiles 2.5 and 97.5 over people drawn again (each class its own), scores as they are. level: the 95th
    percentile when labels are shuffled, whole people at a time where the sets are of different people, else within people.
    """
    table = pd.concat([one, other], ignore_index=True)
    truth = np.r_[np.zeros(len(one), bool), np.ones(len(other), bool)]
    person = table["person"].to_numpy(str)
    score = held_out(table, truth)
    rng = stream(seed, "proof/told-apart")
    paired = bool(set(one["person"]) & set(other["person"]))
    members = {n: np.flatnonzero(person == n) for n in np.unique(person)}
    groups = [list(members)] if paired else [sorted(set(one["person"])), sorted(set(other["person"]))]
    again = []
    for _ in range(BOOTSTRAPS):
        rows = np.concatenate([members[n] for g in groups for n in rng.choice(g, len(g))])
        again.append(auc(score[rows], truth[rows]))
    chance = []
    for _ in range(PERMUTATIONS):
        mixed = truth.copy()
        if paired:
            for rows in members.values():
                mixed[rows] = rng.permutation(truth[rows])
        else:
            order = rng.permutation(list(members))
            chosen = set(order[: len(groups[1])])
            mixed = np.array([p in chosen for p in person])
        chance.append(auc(held_out(table, mixed), mixed))
    lower, upper = np.percentile(again, [2.5, 97.5])
    return {
        "auc": auc(score, truth), "lower": float(lower), "upper": float(upper), "level": float(np.percentile(chance, 95)),
        "patches_one": len(one), "patches_other": len(other), "people_one": one["person"].nunique(),
        "people_other": other["person"].nunique(),
    }  # fmt: skip


@dataclass(frozen=True)
class Groups:
    """Real people, and those of the stores: name of a set -> people. See `gather`."""

    people: dict[str, list[Person]]
    patches: dict[str, pd.DataFrame]


def gather(stores: dict[str, Store], root: Path, seed: int, report: Report = print) -> Groups:
    """Everybody on the common grid, and the patches of their lesions.

    Sets: "real ms", "mirrored ms" (real people, mask on the other side), and for each store "<target>" (real contrast),
    "null <target>" (contrast 1.0) and "untouched <target>" (nothing set in).
    """
    people = {"real ms": list(real_ms(root))}
    for target, store in stores.items():
        for name, contrast in (("", "real"), ("null ", 1.0), ("untouched ", None)):
            people[f"{name}{target}"] = list(drawn(store, root, seed, contrast))  # type: ignore[arg-type]
        report(f"{target}: {len(people[target])} people drawn three times")
    found = {name: pd.concat([patches(p) for p in group]) for name, group in people.items()}
    found["mirrored ms"] = pd.concat([patches(mirrored(p), avoid=p.mask) for p in people["real ms"]])
    return Groups(people, found)


#: (what is told apart, one set, the other set)
PAIRS = (
    ("real lesions from semi-synthetic ones", "real ms", "ms"),
    ("the two scanners: no lesion on either side", "mirrored ms", "untouched ms"),
    ("real lesions from the other side of the same brain", "mirrored ms", "real ms"),
    ("semi-synthetic MS lesions from the same place untouched", "untouched ms", "ms"),
    ("semi-synthetic stroke lesions from the same place untouched", "untouched stroke", "stroke"),
    ("MS lesions of contrast 1.0 from the same place untouched", "untouched ms", "null ms"),
    ("stroke lesions of contrast 1.0 from the same place untouched", "untouched stroke", "null stroke"),
)


def tell_apart(groups: Groups, seed: int, report: Report = print) -> pd.DataFrame:
    """`told_apart` of every pair of `PAIRS`: pair, one, other, then what it returns."""
    rows = []
    for pair, one, other in PAIRS:
        found = told_apart(groups.patches[one], groups.patches[other], seed)
        rows.append({"pair": pair, "one": one, "other": other, **found})
        report(f"{pair}: {found['auc']:.3f}")
    return pd.DataFrame(rows)


def artefact_auc(apart: pd.DataFrame) -> dict[str, float]:
    """Target -> AUC of lesions without contrast against the same place untouched: what the drawing itself leaves behind."""
    rows = apart[apart["other"].str.startswith("null ")]
    return {str(o).removeprefix("null "): float(v) for o, v in zip(rows["other"], rows["auc"], strict=True)}


# ------------------------------------------------------------------------------------------------------------- to read
def apart_for_reading(apart: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Told apart": apart["pair"],
            "AUC (95 % interval)": [f"{a:.2f} ({lo:.2f} to {hi:.2f})" for a, lo, hi in zip(apart["auc"], apart["lower"], apart["upper"], strict=True)],
            "Shuffled labels, 95 %": [f"{v:.2f}" for v in apart["level"]],
            "Patches": [f"{a} and {b}" for a, b in zip(apart["patches_one"], apart["patches_other"], strict=True)],
            "People": [f"{a} and {b}" for a, b in zip(apart["people_one"], apart["people_other"], strict=True)],
        }
    )  # fmt: skip


def profile_figure(table: pd.DataFrame | None = None) -> Drawing:
    """T1 across a lesion's edge, real and semi-synthetic. `table`: `profiles`; None reads the book's own."""
    import matplotlib

    if table is None:
        table = pd.read_csv(project_root() / "book" / "proof" / "lesions_profile.csv")
    looks = {"real ms": ("#000000", "-"), "ms": ("#2070b4", "--"), "stroke": ("#cc5a0a", ":")}
    titles = {"real ms": "real MS", "ms": "semi-synthetic MS", "stroke": "semi-synthetic stroke"}
    figure, axes = new_figure(7.0, 3.8)
    axis, words = axes[0, 0], []
    with matplotlib.rc_context(STYLE):
        for name, (colour, style) in looks.items():
            part = table[table["set"] == name]
            n = int(part["people"].max())
            axis.plot(
                part["mm"], part["mean"], color=colour, linestyle=style, linewidth=2, label=f"{titles[name]}, n = {n}"
            )
            axis.fill_between(part["mm"], part["lower"], part["upper"], color=colour, alpha=0.12, linewidth=0)
            value = [float(part.loc[part["mm"] == mm, "mean"].iloc[0]) for mm in (-1.5, 1.5)]
            words.append(f"{titles[name]}: {value[0]:.2f} at 1.5 mm inside the edge, {value[1]:.2f} at 1.5 mm outside")
        axis.axvline(0, color="#767676", linewidth=1)
        axis.set_ylim(0.2, 1.2)
        axis.set_xlabel("distance to the edge of the mask (mm; inside is negative)", fontsize=10)
        axis.set_ylabel("T1 against white matter around", fontsize=10)
        axis.legend(fontsize=9, loc="lower right")
    caption = (
        "T1 across the edge of lesions, relative to the white matter around them: mean over people and 95 % interval (it may leave "
        "the frame). Outside the mask only white matter counts. Semi-synthetic: real anatomy, real lesion shapes, simulated contrast."
    )
    return Drawing(figure, caption, f"Three curves over the distance to the mask's edge. {'; '.join(words)}.")


def null_figure(scores: pd.DataFrame | None = None) -> Drawing:
    """Dice of every test person without and with contrast, beside the prior map. None reads the book's own."""
    import matplotlib

    if scores is None:
        scores = pd.read_csv(project_root() / "book" / "proof" / "lesions_null_dice.csv")
    targets = list(dict.fromkeys(scores["target"]))
    figure, axes = new_figure(6.4, 3.6, 1, len(targets), sharey=True)
    words = []
    order = [("without", "scratch"), ("without", "imagenet"), ("real", "scratch"), ("real", "imagenet")]
    with matplotlib.rc_context(STYLE):
        for axis, target in zip(axes[0], targets, strict=True):
            part = scores[scores["target"] == target]
            prior = float(part.loc[(part["what"] == "prior_map") & (part["contrast"] == "without"), "dice"].mean())
            axis.axhline(prior, color="#767676", linestyle="--", linewidth=1.2)
            means = []
            for k, (contrast, source) in enumerate(order):
                values = (
                    part[(part["contrast"] == contrast) & (part["what"] == source)].groupby("subject")["dice"].mean()
                )
                axis.plot(
                    np.full(len(values), k),
                    values,
                    "o",
                    color="#2070b4" if contrast == "real" else "#cc5a0a",
                    alpha=0.55,
                )
                axis.plot([k - 0.25, k + 0.25], [values.mean()] * 2, color="#000000", linewidth=2)
                means.append(
                    f"{source}, {'no contrast' if contrast == 'without' else 'real contrast'} {values.mean():.3f}"
                )
            axis.set_xticks(
                range(4),
                [
                    f"{'random' if s == 'scratch' else 'ImageNet'},\n{'none' if c == 'without' else 'real'}"
                    for c, s in order
                ],
                fontsize=9,
            )
            axis.set_title({"ms": "MS", "stroke": "Stroke"}[target], fontsize=11)
            words.append(f"{target}: prior map {prior:.3f}; {'; '.join(means)}")
        axes[0, 0].set_ylabel("Dice", fontsize=10)
        figure.supxlabel("started from, and contrast of the lesions", fontsize=10)
    n = scores.loc[scores["what"] != "prior_map"].groupby("target")["subject"].nunique().max()
    caption = (
        f"The null check: Dice of {n} test people a target (points: mean of two seeds; bars: means), trained from random or "
        "ImageNet weights. Orange: lesions without contrast (1.0), which change nothing in the picture. Blue: the real contrast. Dashed: the prior map of the training people, which knows places alone."
    )
    return Drawing(figure, caption, f"Points of Dice a person. {'. '.join(words)}.")


PICTURE_ROWS = ("real MS", "semi-\nsynthetic\nMS", "semi-\nsynthetic\nstroke")


def contact_sheet(groups: Groups) -> np.ndarray:
    """Three people of each of `PICTURE_ROWS`, the slice with most lesion, outlined: uint8 (H, W, 3). ds002748 and open_ms_data alone."""
    rows = []
    for name in ("real ms", "ms", "stroke"):
        people = sorted(groups.people[name], key=lambda p: -int(p.mask.sum()))
        # The middle of the loads: neither the emptiest nor the fullest.
        middle = max((len(people) - 3) // 2, 0)
        rows.append(np.concatenate([_picture(p) for p in people[middle : middle + 3]], 1))
    return np.concatenate(rows, 0)


def _picture(person: Person) -> np.ndarray:
    image, mask = volumes.to_slices(person.t1.astype(np.uint8)), volumes.to_slices(person.mask)
    k = int(mask.sum((1, 2)).argmax())
    picture = np.repeat(image[k][..., None], 3, -1)
    picture[ndimage.binary_dilation(mask[k]) & ~mask[k]] = [int(HIT[c : c + 2], 16) for c in (1, 3, 5)]
    return picture[8:-8, 8:-8]


def pictures_figure(sheet: np.ndarray | None = None) -> Drawing:
    """The contact sheet with its rows named. None reads the book's own."""
    from PIL import Image

    if sheet is None:
        sheet = np.asarray(Image.open(project_root() / "book" / "proof" / "lesions_pictures.png").convert("RGB"))
    caption = (
        "Axial T1 slices with most lesion, on one scale, lesions outlined. From the top: three people with MS (Lesjak et al. 2017, CC BY 4.0); three people of OpenNeuro "
        "ds002748 (CC0) with real MS masks set in; three more with real stroke masks (LESYMAP, SOOP). Semi-synthetic: real anatomy, real lesion "
        "shapes, simulated contrast."
    )
    alt = (
        "Nine brain slices in three rows, lesions outlined. Real MS lesions are pale and lie beside the ventricles; semi-synthetic "
        "ones lie there too; semi-synthetic strokes are dark, on one side."
    )
    return realism.sheet_figure(sheet, PICTURE_ROWS, caption, alt)
