"""Simulated data: what the generators promise, with the tolerances they promise it to."""

from __future__ import annotations

import hashlib
from dataclasses import astuple
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from braintransfer.simulate import simulated_mri, simulated_natural, simulated_target
from braintransfer.simulate.brains import CHANNELS, CONTRAST, Anatomy, finish, render, simulate_anatomy
from braintransfer.simulate.lesions import (
    EVERY_NEIGHBOUR,
    MS_SPLIT_MM3,
    draw_ms_contrast,
    insert_ms,
    insert_stroke,
    local_white_matter,
    white_matter_of,
)
from braintransfer.simulate.scenes import (
    GROUNDS,
    HELD_OUT,
    MAX_VISIBLE,
    MIN_VISIBLE,
    PHOTOGRAPHS,
    composite,
    strip_columns,
)
from braintransfer.simulate.shapes import (
    MS_DEMO_MM3,
    draw_ms_volumes,
    draw_stroke_volume,
    ms_lesions,
    stroke_lesion,
    territory,
)
from braintransfer.simulate.tumours import TYPES

MM = 2.5
SPACING = (MM, MM, MM)


@pytest.fixture(scope="module")
def person() -> Anatomy:
    return simulate_anatomy(np.random.default_rng(7), MM)


@pytest.fixture(scope="module")
def picture(person: Anatomy) -> np.ndarray:
    return render(np.random.default_rng(8), person)[0]


def fingerprint(samples: object) -> str:
    digest = hashlib.sha256()
    for sample in samples:  # type: ignore[attr-defined]
        for value in vars(sample).values():
            parts = astuple(value) if hasattr(value, "affine") else (value,)
            for part in parts:
                digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()


def scan(t1: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(nib.Nifti1Image(t1, affine)).dataobj)


GENERATORS: dict[str, Any] = {
    "natural": lambda n, seed: simulated_natural(n, 48, seed),
    "mri": lambda n, seed: simulated_mri(n, 48, seed),
    "stroke": lambda n, seed: simulated_target("stroke", n, 4.0, seed),
    "ms": lambda n, seed: simulated_target("ms", n, 4.0, seed),
    "anatomy": lambda n, seed: simulated_target("anatomy", n, 4.0, seed),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_one_seed_gives_the_same_bytes_and_another_seed_others(name: str) -> None:
    first = fingerprint(GENERATORS[name](2, 5))
    assert fingerprint(GENERATORS[name](2, 5)) == first
    assert fingerprint(GENERATORS[name](2, 6)) != first


@pytest.mark.parametrize("name", ["natural", "stroke", "ms", "anatomy"])
def test_fewer_subjects_are_the_first_of_more(name: str) -> None:
    more = list(GENERATORS[name](3, 1))[:2]
    assert fingerprint(GENERATORS[name](2, 1)) == fingerprint(more)


# ---------------------------------------------------------------------------------------------------------------- brains
def test_tissue_contrasts_meet_the_measured_medians() -> None:
    """Medians inside the labels, relative to white matter: each person within .07 of the contrast drawn for it (gamma moves
    it), the mean of eight within .035 of the 12 real scans', ventricle within .1 (its spread between people is .11)."""
    medians: dict[str, list[float]] = {name: [] for name in CONTRAST}
    for k in range(8):
        person = simulate_anatomy(np.random.default_rng(k), MM)
        t1, drawn = render(np.random.default_rng(k), person)
        values, labels = t1[person.brain], person.labels[person.brain]
        owner = person.maps[:, 1:7].argmax(1)
        white = np.median(values[labels == 3])
        for name in CONTRAST:
            mine = (labels == (1 if name == "ventricle" else 2)) & (owner == CHANNELS.index(name) - 1)
            medians[name].append(float(np.median(values[mine]) / white))
            assert medians[name][-1] == pytest.approx(drawn[f"contrast_{name}"], abs=0.07)
    for name, (mean, _) in CONTRAST.items():
        assert np.mean(medians[name]) == pytest.approx(mean, abs=0.1 if name == "ventricle" else 0.035)
    assert np.std(medians["ventricle"]) > 0.05


def test_a_person_has_all_tissues_in_human_proportions(person: Anatomy) -> None:
    ml = [np.sum(person.labels == k) * MM**3 / 1000 for k in (1, 2, 3)]
    assert 4 < ml[0] < 120
    assert 400 < ml[1] < 1900
    assert 250 < ml[2] < 1200
    assert not person.labels[~person.brain].any()
    assert (
        not person.brain[[0, -1]].any() and not person.brain[:, [0, -1]].any() and not person.brain[:, :, [0, -1]].any()
    )


def test_persons_differ_in_size_and_shape() -> None:
    volumes = [np.sum(simulate_anatomy(np.random.default_rng(k), 4.0).brain) for k in range(6)]
    assert max(volumes) / min(volumes) > 1.15


def test_labels_overlay_the_scan_in_every_orientation(person: Anatomy, picture: np.ndarray) -> None:
    orientations = set()
    for k in range(6):
        brain = finish(np.random.default_rng(k), person, picture, person.labels, {})
        orientations.add(nib.aff2axcodes(brain.affine))
        np.testing.assert_allclose(np.sqrt((brain.affine[:3, :3] ** 2).sum(0)), MM)
        np.testing.assert_array_equal(scan(brain.labels, brain.affine), person.labels)
        np.testing.assert_allclose(scan(brain.t1, brain.affine) / brain.wm_level, picture, rtol=1e-5)
    assert len(orientations) > 3


def test_the_template_lies_in_the_head_as_it_should(person: Anatomy) -> None:
    """Canonical axes are right, anterior, superior: template coordinates grow along them, whatever the rotation."""
    for axis in range(3):
        steps = np.diff(person.template_mm[..., axis], axis=axis)
        assert np.mean(steps > 0) > 0.99


# --------------------------------------------------------------------------------------------------------------- lesions
def test_ms_volumes_follow_the_thirty_real_masks() -> None:
    """Median 17 mm³ within a quarter, log-sd 1.62 within .15, median 79 lesions, load median 14 mL within 4."""
    people = [draw_ms_volumes(np.random.default_rng(k)) for k in range(400)]
    pooled = np.log(np.concatenate([np.concatenate(p) for p in people]))
    counts = np.array([sum(map(len, p)) for p in people])
    loads = np.array([sum(v.sum() for v in p) for p in people]) / 1000
    assert np.exp(np.median(pooled)) == pytest.approx(17, rel=0.25)
    assert pooled.std() == pytest.approx(1.62, abs=0.15)
    assert np.median(counts) == pytest.approx(79, rel=0.1)
    assert counts.min() >= 17 and counts.max() <= 395
    assert np.median(loads) == pytest.approx(14, abs=4)


def test_stroke_volumes_follow_atlas() -> None:
    volumes = np.log([draw_stroke_volume(np.random.default_rng(k)) for k in range(1000)])
    assert np.exp(np.median(volumes)) == pytest.approx(5, rel=0.15)
    assert volumes.std() == pytest.approx(1.5, abs=0.1)


def test_ms_contrast_has_the_measured_quantiles_and_depends_on_size() -> None:
    rng = np.random.default_rng(0)
    volumes = np.exp(rng.normal(2.89, 1.62, 20_000))
    drawn = draw_ms_contrast(rng, volumes, "real")
    np.testing.assert_allclose(
        np.quantile(drawn, [0.05, 0.25, 0.5, 0.75, 0.95]), [0.63, 0.79, 0.91, 0.95, 1.01], atol=0.02
    )
    assert 0.91 <= np.median(drawn[volumes < MS_SPLIT_MM3]) <= 0.95
    assert 0.78 <= np.median(drawn[volumes >= MS_SPLIT_MM3]) <= 0.80
    demo = draw_ms_contrast(rng, volumes, "demo")
    assert demo.min() >= 0.45 and demo.max() <= 0.75


@pytest.mark.parametrize("insert", [insert_ms, insert_stroke])
def test_contrast_one_changes_no_voxel(insert: object, person: Anatomy, picture: np.ndarray) -> None:
    lesion = stroke_lesion(person, np.random.default_rng(3))[0] | ms_lesions(person, np.random.default_rng(3))
    result = insert(picture, person.brain, lesion, np.random.default_rng(0), SPACING, 1.0)  # type: ignore[operator]
    assert lesion.sum() > 50
    np.testing.assert_array_equal(result, picture)


@pytest.mark.parametrize("wanted", [0.5, 0.75, 0.9])
def test_a_number_is_the_mean_contrast_of_ms_lesions_in_white_matter(
    wanted: float, person: Anatomy, picture: np.ndarray
) -> None:
    white = person.labels == 3
    lesion = ms_lesions(person, np.random.default_rng(1), demo=True) & ndimage.binary_erosion(white)
    result = insert_ms(picture, person.brain, lesion, np.random.default_rng(0), SPACING, wanted, white)
    level = local_white_matter(picture, white, SPACING)
    assert np.mean(result[lesion] / level[lesion]) == pytest.approx(wanted, abs=0.05)


def test_a_lesion_over_grey_matter_measures_as_drawn_and_is_never_brightened(
    person: Anatomy, picture: np.ndarray
) -> None:
    """Partly grey tissue under a mask is dark already: darkening it as much as white matter would make lesions too dark."""
    white = person.labels == 3
    lesion = ms_lesions(person, np.random.default_rng(2), demo=True)
    lesion &= ~ndimage.binary_erosion(white) & (person.labels > 1)
    labelled, count = ndimage.label(lesion, EVERY_NEIGHBOUR)
    level = local_white_matter(picture, white, SPACING)
    result = insert_ms(picture, person.brain, lesion, np.random.default_rng(0), SPACING, 0.7, white)
    before, after = (np.array(ndimage.mean(t / level, labelled, np.arange(1, count + 1))) for t in (picture, result))
    room = before > 0.7
    assert room.sum() > 10 and before[room].mean() < 0.93
    assert after[room].mean() == pytest.approx(0.7, abs=0.03)
    pale = insert_ms(picture, person.brain, lesion, np.random.default_rng(0), SPACING, 0.95, white)
    assert np.array(ndimage.mean(pale - picture, labelled, np.arange(1, count + 1))).max() < 0.02


def test_far_from_lesions_nothing_changes(person: Anatomy, picture: np.ndarray) -> None:
    lesion = ms_lesions(person, np.random.default_rng(1), demo=True)
    result = insert_ms(picture, person.brain, lesion, np.random.default_rng(0), SPACING, "demo")
    far = ndimage.distance_transform_edt(~lesion, sampling=SPACING) > 8
    np.testing.assert_array_equal(result[far], picture[far])
    assert np.mean(result[lesion]) < 0.85 * np.mean(picture[lesion])


def test_a_lesion_keeps_the_noise_of_the_scan() -> None:
    """Mixing with smooth fluid alone would leave a lesion visibly smoother than the brain around it."""
    white = np.ones((40, 40, 40), bool)
    noisy = (1 + 0.03 * np.random.default_rng(0).standard_normal(white.shape)).astype(np.float32)
    lesion = np.zeros_like(white)
    lesion[8:32, 8:32, 8:32] = True
    result = insert_stroke(noisy, white, lesion, np.random.default_rng(1), (1.0, 1.0, 1.0), 0.4, white)
    assert result[14:26, 14:26, 14:26].mean() == pytest.approx(0.4, abs=0.03)
    assert result[14:26, 14:26, 14:26].std() == pytest.approx(0.03, rel=0.3)


def test_a_stroke_has_a_dark_core_and_a_less_dark_rim() -> None:
    white = np.pad(np.ones((40, 40, 40), bool), 2)
    flat = white.astype(np.float32)
    lesion = np.zeros_like(white)
    lesion[12:32, 12:32, 12:32] = True
    result = insert_stroke(flat, white, lesion, np.random.default_rng(0), (1.0, 1.0, 1.0), "real", white)
    assert 0.28 < result[20:24, 20:24, 20:24].mean() < 0.52
    assert 0.5 < result[13, 18:26, 18:26].mean() < 0.9


def test_strokes_lie_on_one_side_in_one_territory_and_mostly_in_one_piece(person: Anatomy) -> None:
    pieces = []
    for k in range(16):
        lesion, moved, drawn = stroke_lesion(person, np.random.default_rng(k))
        assert lesion.any()
        x = person.template_mm[..., 0][lesion]
        assert (x > 0).all() if drawn["side"] == "right" else (x < 0).all()
        # Borders wander by a few millimetres, so nearly all of it is in the territory's mean shape.
        others = [name for name in ("ACA", "MCA", "PCA") if name != drawn["territory"]]
        shares = {
            name: float(territory(person.template_mm, str(name))[lesion].mean())
            for name in [*others, drawn["territory"]]
        }
        assert max(shares, key=lambda name: shares[name]) == drawn["territory"]
        assert not (moved.labels[lesion] == 1).any()
        pieces.append(ndimage.label(lesion, EVERY_NEIGHBOUR)[1])
    assert np.mean(np.array(pieces) == 1) >= 0.6


def test_a_large_stroke_draws_the_ventricle_towards_it(person: Anatomy) -> None:
    for k in range(60):
        lesion, moved, drawn = stroke_lesion(person, np.random.default_rng(k))
        if lesion.sum() * MM**3 / 1000 > 20 and drawn["territory"] == "MCA":
            break
    side = (person.template_mm[..., 0] > 0) if drawn["side"] == "right" else (person.template_mm[..., 0] < 0)
    target = np.argwhere(lesion).mean(0)

    def distance(labels: np.ndarray) -> float:
        return float(np.linalg.norm(np.argwhere((labels == 1) & side).mean(0) - target))

    assert distance(moved.labels) < distance(person.labels)


def test_ms_lesions_keep_apart_and_lie_in_the_brain(person: Anatomy) -> None:
    for k in range(4):
        demo = ms_lesions(person, np.random.default_rng(k), demo=True)
        pieces, count = ndimage.label(demo, EVERY_NEIGHBOUR)
        assert count >= 3
        assert np.bincount(pieces.ravel())[1:].min() * MM**3 >= MS_DEMO_MM3
        assert not demo[~person.brain].any() and not demo[person.labels == 1].any()
        assert ndimage.label(ms_lesions(person, np.random.default_rng(k)), EVERY_NEIGHBOUR)[1] > count


def test_white_matter_is_found_without_a_map(person: Anatomy, picture: np.ndarray) -> None:
    found = white_matter_of(picture, person.brain)
    assert np.mean(person.labels[found] == 3) > 0.8


def test_grids_that_differ_are_refused(person: Anatomy, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one grid"):
        insert_ms(picture, person.brain, person.brain[1:], np.random.default_rng(0), SPACING)


@pytest.mark.parametrize("target,labels", [("stroke", {0, 1}), ("ms", {0, 1}), ("anatomy", {0, 1, 2, 3})])
def test_every_simulated_person_has_a_reference(target: str, labels: set[int]) -> None:
    for sample in simulated_target(target, 3, 4.0, 0):
        assert set(np.unique(sample.mask)) == labels
        assert sample.mask.shape == sample.brain.shape == sample.image.data.shape
        assert sample.mask.dtype == np.uint8 and sample.brain.dtype == bool and sample.image.data.dtype == np.float32
        assert np.isfinite(sample.image.data).all() and not sample.image.data[~sample.brain].any()
        assert not sample.mask[~sample.brain].any()


# --------------------------------------------------------------------------------------------------------------- sources
def test_every_source_picture_has_a_label_and_a_mask() -> None:
    seen: dict[str, set[str]] = {"natural": set(), "mri": set()}
    for name, classes in (("natural", set(PHOTOGRAPHS) - set(GROUNDS)), ("mri", set(TYPES))):
        samples = list(GENERATORS[name](48, 2))
        assert len(samples) == 48 and len({s.scan for s in samples}) == 48
        for sample in samples:
            assert sample.image.dtype == sample.mask.dtype == np.uint8
            assert sample.image.shape[:2] == sample.mask.shape == (48, 48)
            assert set(np.unique(sample.mask)) == {0, 1} and sample.label in classes
            seen[name].add(sample.label)
        assert seen[name] == classes


def test_masses_enhance_and_come_from_several_persons() -> None:
    samples = list(simulated_mri(32, 64, 0))
    assert len({s.subject for s in samples}) == 8
    solid = [s for s in samples if s.label == "extra-axial"]
    brighter = [s.image[s.mask > 0].mean() > s.image[(s.mask == 0) & (s.image > 20)].mean() for s in solid]
    assert np.mean(brighter) > 0.9


def test_pasted_shapes_leave_a_background() -> None:
    shares = np.array([s.mask.mean() for s in simulated_natural(60, 48, 0)])
    assert shares.min() >= MIN_VISIBLE - 0.01 and shares.max() <= MAX_VISIBLE + 0.01
    assert np.median(shares) < (MIN_VISIBLE + MAX_VISIBLE) / 2  # density r^-3: most leaves are small


def test_held_out_composites_share_no_pixel_of_a_photograph() -> None:
    columns = strip_columns(451)
    ends = [(c.start, c.stop) for c in columns]
    assert all(a[1] + 8 <= b[0] for a, b in zip(ends, ends[1:], strict=False))
    subjects = {s.subject for s in simulated_natural(12, 32, 0)}
    assert {s for s in subjects if s.startswith("val/")} == {f"val/strip-{HELD_OUT}"}
    assert len({s.split("/")[1] for s in subjects}) == len(subjects)


def test_the_label_of_a_composite_is_the_photograph_in_the_mask() -> None:
    red, blue = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)
    red[..., 0], blue[..., 2] = 220, 220
    for k in range(10):
        image, mask, label = composite(np.random.default_rng(k), [red, blue], ["red", "blue"], 48)
        inner = ndimage.binary_erosion(mask)
        inside = image[inner].mean(0)
        assert (inside[0] > inside[2]) == (label == "red")


def test_a_ground_only_ever_lies_behind() -> None:
    photos = [np.full((40, 40, 3), value, np.uint8) for value in (0, 120, 255)]
    labels = [composite(np.random.default_rng(k), photos, ["a", "b", "sky"], 32, ["sky"])[2] for k in range(20)]
    assert set(labels) == {"a", "b"}
    with pytest.raises(ValueError, match="no ground"):
        composite(np.random.default_rng(0), photos, ["a", "b", "sky"], 32, ["a", "b", "sky"])


def test_one_class_cannot_be_composited() -> None:
    with pytest.raises(ValueError, match="two classes"):
        composite(np.random.default_rng(0), [np.zeros((9, 9, 3), np.uint8)] * 2, ["a", "a"], 32)
