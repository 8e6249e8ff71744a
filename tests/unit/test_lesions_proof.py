"""The proof of semi-synthetic lesions finds a trace that was put in, and says nothing where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from braintransfer import claims, recipes
from braintransfer.errors import BadInput
from braintransfer.proofs import lesions, null_check
from braintransfer.proofs.lesions import FEATURES, Person
from braintransfer.provenance import project_root
from braintransfer.simulate.lesions import insert_ms, insert_stroke

RULE = claims.load(project_root() / "notebooks" / "claims.yaml").gates.null_contrast
PROOF = project_root() / "book" / "proof"


def phantom(seed: int, level: float = 1.0) -> Person:
    """A ball of noisy white matter in a darker shell, with 12 small lesions of brightness `level`."""
    rng = np.random.default_rng(seed)
    axis = np.arange(64) - 31.5
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    brain = radius < 28
    t1 = np.where(radius < 22, 200.0, 120.0) + 6 * rng.standard_normal(brain.shape)
    t1 = np.where(radius < 25, t1, 60 + 6 * rng.standard_normal(brain.shape))
    mask = np.zeros(brain.shape, bool)
    for x in (22, 30, 38):
        for y in (24, 38):
            for z in (24, 38):
                mask[x : x + 3, y : y + 3, z : z + 3] = True
    t1[mask] *= level
    return Person(f"p{seed}", np.where(brain, t1, 0).astype(np.float32), brain, mask)


def table(name: str, shift: float, seed: int, people: int = 8, first: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    person = np.repeat([f"{name}-{k + first}" for k in range(people)], 6)
    return pd.DataFrame({"person": person, **{f: rng.normal(shift, 1, len(person)) for f in FEATURES}})


# ---------------------------------------------------------------------------------------------------------- measures
def test_contrast_is_measured_in_sds_of_the_tissue_around() -> None:
    found = lesions.patches(phantom(0, 0.8))
    assert len(found) == 12
    assert found["mean"].mean() == pytest.approx(0.8, abs=0.01)
    # 40 darker where the tissue's SD is 6
    assert found["contrast"].mean() == pytest.approx(-40 / 6, rel=0.1)
    assert abs(lesions.patches(phantom(0))["contrast"].mean()) < 0.5


def test_the_edge_profile_steps_at_the_edge() -> None:
    profile = lesions.edge_profile(phantom(1, 0.7))
    middles = (lesions.EDGES[1:] + lesions.EDGES[:-1]) / 2
    assert np.nanmean(profile[middles < 0]) == pytest.approx(0.7, abs=0.03)
    assert np.nanmean(profile[(middles > 0) & (middles < 4)]) == pytest.approx(1, abs=0.03)


def test_a_mirrored_mask_lies_on_the_other_side_and_off_the_lesions() -> None:
    person = phantom(2)
    one = person.mask.copy()
    one[32:] = False
    found = lesions.mirrored(Person("p", person.t1, person.brain, one)).mask
    assert found.any() and not (found & one).any()
    np.testing.assert_array_equal(found, one[::-1])


# -------------------------------------------------------------------------------------------------------- told apart
def test_the_area_under_the_curve_counts_ties_half() -> None:
    truth = np.array([False, False, True, True])
    assert lesions.auc(np.array([0.0, 1, 2, 3]), truth) == 1
    assert lesions.auc(np.zeros(4), truth) == 0.5
    assert lesions.auc(np.array([0.0, 2, 1, 3]), truth) == 0.75


def test_alike_patches_are_not_told_apart_and_different_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesions, "PERMUTATIONS", 9)
    alike = lesions.told_apart(table("a", 0, 0), table("b", 0, 1), 0)
    assert alike["lower"] < 0.5 < alike["upper"] and alike["auc"] < alike["level"] + 0.1
    apart = lesions.told_apart(table("a", 0, 0), table("b", 2, 1), 0)
    assert apart["lower"] > 0.9 and apart["auc"] > apart["level"]


def test_a_person_is_never_in_training_and_test() -> None:
    """Each person has a point of their own, so few that a plane parts them: with one patch of a person seen, all are known."""
    both = pd.concat([table("a", 0, 0, people=3), table("b", 0, 1, people=3)], ignore_index=True)
    both[list(FEATURES)] = np.repeat(np.random.default_rng(3).normal(0, 1, (6, len(FEATURES))), 6, axis=0)
    truth = both["person"].str.startswith("b").to_numpy()
    assert lesions.auc(lesions.held_out(both, truth), truth) < 0.8
    leaking = both.assign(person=[str(k % 6) for k in range(len(both))])
    assert lesions.auc(lesions.held_out(leaking, truth), truth) == 1, "this data would show a leak"


def test_a_drawing_that_smooths_is_found_and_one_that_changes_nothing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrast stays 1.0: only the grain inside the mask gives the artefact away."""
    from scipy import ndimage

    monkeypatch.setattr(lesions, "PERMUTATIONS", 1)
    people = [phantom(k) for k in range(6)]
    untouched = pd.concat([lesions.patches(p) for p in people])
    nothing = lesions.told_apart(untouched, untouched.copy(), 0)
    assert nothing["auc"] == 0.5
    smooth = [Person(p.name, np.where(p.mask, ndimage.uniform_filter(p.t1, 3), p.t1), p.brain, p.mask) for p in people]
    artefact = lesions.told_apart(untouched, pd.concat([lesions.patches(p) for p in smooth]), 0)
    assert artefact["auc"] > RULE.artefact_auc


@pytest.mark.parametrize("insert", [insert_ms, insert_stroke])
def test_contrast_one_changes_no_voxel(insert) -> None:  # type: ignore[no-untyped-def]
    person = phantom(4)
    rng = np.random.default_rng(0)
    same = insert(person.t1, person.brain, person.mask, rng, (1.5, 1.5, 1.5), 1.0)
    np.testing.assert_array_equal(same, person.t1)
    dark = insert(person.t1, person.brain, person.mask, rng, (1.5, 1.5, 1.5), 0.6)
    assert dark[person.mask].mean() < 0.8 * person.t1[person.mask].mean()


# ----------------------------------------------------------------------------------------------------------- verdict
def compared(null: float, real: float, prior: float = 0.1) -> pd.DataFrame:
    rows = [
        ("without", "scratch", 0.05),
        ("without", "imagenet", null),
        ("real", "scratch", 0.08),
        ("real", "imagenet", real),
    ]
    scores = [
        ["stroke", contrast, source, seed, person, dice]
        for contrast, source, dice in rows
        for seed in (0, 1)
        for person in "abc"
    ]
    scores += [["stroke", c, "prior_map", -1, person, prior] for c in ("without", "real") for person in "abc"]
    return null_check.compare_dice(pd.DataFrame(scores, columns=null_check.COLUMNS))


@pytest.mark.parametrize(
    ("null", "real", "auc", "expected"),
    [
        (0.12, 0.40, 0.55, "passes"),
        (0.13, 0.40, 0.50, "fails"),  # learnable without contrast
        (0.10, 0.40, 0.56, "fails"),  # the drawing leaves a trace
        (0.10, 0.11, 0.50, "inconclusive"),  # nothing was learned with contrast either
    ],
)
def test_the_verdict_follows_the_rule_of_the_claims(null: float, real: float, auc: float, expected: str) -> None:
    found = null_check.verdict(compared(null, real), {"stroke": auc}, RULE)["stroke"]
    assert found["verdict"] == expected
    assert found["dice"] == pytest.approx(null), "the source that reached most counts"
    assert found["passed"] == (expected != "fails")
    json.dumps(found)


def test_the_prior_map_is_compared_person_by_person() -> None:
    scores = [["ms", "without", "scratch", s, p, v + 0.3] for s in (0, 1) for p, v in (("a", 0.1), ("b", 0.5))]
    scores += [["ms", "without", "prior_map", -1, p, v] for p, v in (("b", 0.5), ("a", 0.1))]
    row = null_check.compare_dice(pd.DataFrame(scores, columns=null_check.COLUMNS)).iloc[0]
    assert row["difference"] == pytest.approx(0.3) and row["upper"] - row["lower"] < 1e-6


# ------------------------------------------------------------------------------------------------------------- doors
def test_without_data_one_line_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give the folder that holds ds002748") as error:
        lesions.need_data(None)
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput):
        lesions.need_data(tmp_path)


def test_the_committed_verdict_follows_from_the_committed_scores() -> None:
    kept = json.loads((PROOF / "lesions_null_check.json").read_text(encoding="utf-8"))
    found = null_check.compare_dice(pd.read_csv(PROOF / "lesions_null_dice.csv"))
    again = null_check.verdict(found, {t: v["artefact_auc"] for t, v in kept.items()}, RULE)
    for target, verdict in again.items():
        assert kept[target]["verdict"] == verdict["verdict"]
        for name in ("dice", "prior_map_dice"):
            assert kept[target][name] == pytest.approx(verdict[name], abs=1e-5)


def test_the_committed_pictures_are_small_and_have_words() -> None:
    assert (PROOF / "lesions_pictures.png").stat().st_size <= 60_000
    for draw in (lesions.pictures_figure, lesions.profile_figure, lesions.null_figure):
        drawing = draw()
        assert len(drawing.alt) > 60 and len(drawing.png()) <= 200_000


# --------------------------------------------------------------------------------------------------------- real data
def test_lesions_drawn_again_are_those_of_the_recipe(data_root: Path, tmp_path: Path) -> None:
    """Voxel for voxel, with contrast and without; and contrast 1.0 is the person's own scan."""
    recipe = recipes.load_recipe("semisynthetic_stroke", data_root)
    seed = lesions.stream_seed(1, recipe.name)
    scan = next(iter(recipes.scans(recipe, data_root, 1, seed)))
    (tmp_path / "references").mkdir()
    image = nib.Nifti1Image(scan.mask, scan.image.affine)
    nib.save(image, tmp_path / "references" / f"{scan.scan}_mask.nii.gz")

    class Kept:
        facts = {"recipe": recipe.name}
        scans: dict[str, dict[str, object]] = {scan.scan: {}}
        path = tmp_path

    again = next(lesions.drawn(Kept(), data_root, 1, "real"))  # type: ignore[arg-type]
    same = lesions.on_common_grid(scan.subject, scan.image.data, scan.image.affine, scan.brain, scan.mask)
    np.testing.assert_array_equal(again.t1, same.t1)
    np.testing.assert_array_equal(again.mask, same.mask)
    null, untouched = (next(lesions.drawn(Kept(), data_root, 1, c)) for c in (1.0, None))  # type: ignore[arg-type]
    np.testing.assert_array_equal(null.t1, untouched.t1)
    assert (again.t1 != untouched.t1).any()
