"""The measurements that simulated and real data share: each finds what was put into a phantom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braintransfer import recipes, simulate
from braintransfer.errors import BadInput
from braintransfer.proofs import realism
from braintransfer.proofs.realism import PAIRS, QUANTITIES, Scale
from braintransfer.provenance import project_root

ONE = np.ones(3)


def ball(radius_mm: float, spacing: float) -> np.ndarray:
    n = int(np.ceil((radius_mm + 4) / spacing)) * 2 + 1
    axis = (np.arange(n) - n // 2) * spacing
    return axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= radius_mm**2


# ------------------------------------------------------------------------------------------------------------ distances
def test_a_distance_is_the_shift_or_the_factor_that_was_put_in() -> None:
    values = np.exp(np.random.default_rng(0).normal(2, 1, 500))
    for scale, nothing in (("linear", 0.0), ("factor", 1.0), ("mix", 0.0)):
        assert realism.distance(values, values, scale) == pytest.approx(nothing)  # type: ignore[arg-type]
    assert realism.distance(values, values + 3, "linear") == pytest.approx(3)
    assert realism.distance(values, values * 2.5, "factor") == pytest.approx(2.5)
    assert realism.distance(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), "mix") == pytest.approx(0.5)


def test_halves_are_split_by_person() -> None:
    """Lesions of one person are alike: halves of people lie further apart than halves of lesions."""
    rng = np.random.default_rng(1)
    people = np.repeat([f"p{k}" for k in range(12)], 30)
    values = np.repeat(rng.normal(0, 1, 12), 30) + rng.normal(0, 0.1, 360)
    single = np.array([str(k) for k in range(360)])
    by_person = realism.between_halves(values, people, "linear", np.random.default_rng(2))
    by_value = realism.between_halves(values, single, "linear", np.random.default_rng(2))
    assert by_person > 2 * by_value > 0


@pytest.mark.parametrize("scale", ["linear", "factor", "mix"])
def test_too_few_values_have_no_halves(scale: Scale) -> None:
    assert np.isnan(realism.between_halves(np.array([1.0, 2.0]), np.array(["a", "b"]), scale, np.random.default_rng(0)))


def test_every_quantity_is_compared_and_has_a_limit() -> None:
    assert {pair.quantity for pair in PAIRS} == set(QUANTITIES)
    for quantity in QUANTITIES.values():
        assert quantity.limit > (1 if quantity.scale == "factor" else 0)


def test_a_comparison_says_no_when_the_simulation_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realism, "HALVINGS", 3)
    rng = np.random.default_rng(3)
    rows = []
    for pair in PAIRS:
        name, real_set, simulated_set = pair.quantity, pair.real, pair.simulated
        for chosen, factor in ((real_set, 1.0), (simulated_set, 1.0 if QUANTITIES[name].part == "MS" else 9.0)):
            values = factor * np.exp(0.01 * rng.standard_normal(400))
            if QUANTITIES[name].scale == "mix":
                values = np.round(values)
            rows += [(chosen, name, f"{chosen}-{k}", v) for k, v in enumerate(values)]
    measured = pd.DataFrame(rows, columns=realism.COLUMNS)
    # A simulated set that stands in several pairs was drawn several times: the same numbers, so nothing changes.
    table = realism.compare(measured, 0)
    assert table.loc[table["part"] == "MS", "within"].all()
    assert not table.loc[table["part"] != "MS", "within"].any()
    said = list(realism.summary(table))
    assert any("MS: 5 of 5" in line for line in said)
    assert said[-1] == "All: 5 of 35 aimed at are within their limit; 8 more are not aimed at"
    drawing = realism.distributions_figure("MS", realism.curves(measured))
    assert "lesions a person: median open_ms_data 1.0" in drawing.alt


# ---------------------------------------------------------------------------------------------------------- measurements
@pytest.fixture(scope="module")
def phantom() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A brain of slabs: six tissues of known brightness, white matter half of it. T1, brain, tissue."""
    tissue = np.zeros((64, 64, 64), np.uint8)
    tissue[2:-2, 2:-2, 2:-2] = 6
    for k, start in zip(range(1, 6), range(2, 32, 6), strict=True):
        tissue[2:-2, 2:-2, start : start + 6] = k
    level = np.array([0, 0.3, 0.6, 0.8, 0.7, 0.75, 1.0])[tissue]
    return (500 * level).astype(np.float32), tissue > 0, tissue


def test_tissue_medians_are_relative_to_white_matter(phantom: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    found = realism.t1_measures(*phantom, 2.0)
    wanted = {"ventricle": 0.3, "cortex": 0.6, "thalamus": 0.8, "caudate": 0.7, "putamen": 0.75}
    assert {k: found[k] for k in wanted} == pytest.approx(wanted)
    assert found["spread_white"] == found["noise"] == 0 and found["bias"] == pytest.approx(0, abs=1e-6)


def test_noise_and_uneven_brightness_are_told_apart(phantom: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    t1, brain, _ = phantom
    rng = np.random.default_rng(0)
    noisy = t1 * (1 + 0.03 * rng.standard_normal(t1.shape, dtype=np.float32))
    # Along x, a ramp whose standard deviation over white matter is .04.
    ramp = np.linspace(-1, 1, 64, dtype=np.float32)[:, None, None] * np.float32(0.04 * np.sqrt(3) * 64 / 60)
    bent = t1 * np.exp(ramp)
    assert realism.grain_and_bias(noisy, brain, 2.0)["noise"] == pytest.approx(0.03, rel=0.08)
    assert realism.grain_and_bias(noisy, brain, 2.0)["bias"] < 0.004
    assert realism.grain_and_bias(bent, brain, 2.0)["bias"] == pytest.approx(0.04, rel=0.1)
    assert realism.grain_and_bias(bent, brain, 2.0)["noise"] < 0.003


def test_specks_are_no_lesions_and_volumes_are_in_mm3() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[2:4, 2:4, 2:4] = True  # eight voxels
    mask[4, 4, 4] = True  # hangs on by a corner
    mask[10, 10, 10:12] = True  # two voxels: 2 mm³ at 1 mm, 6.75 at 1.5
    assert realism.lesion_volumes(mask, 1.0).tolist() == [9.0]
    assert sorted(realism.lesion_volumes(mask, 3.375)) == [6.75, 9 * 3.375]
    found = realism.ms_measures(mask, 27.0)
    assert found["ms_count"] == [2.0] and found["ms_load"] == [pytest.approx(11 * 27 / 1000)]
    assert found["ms_volume_large"] == [9 * 27.0]


def test_a_lesion_contrast_is_against_the_white_matter_around_it(
    phantom: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    t1, brain, _ = phantom
    bent = t1 * np.linspace(0.8, 1.2, 64, dtype=np.float32)[:, None, None]
    mask = np.zeros_like(brain)
    for x in (12, 50):
        mask[x : x + 4, 30:34, 46:50] = True
    bent[mask] *= 0.7
    for found in realism.lesion_contrasts(bent, brain, mask, ONE * 2):
        assert found == pytest.approx(0.7, abs=0.03)
    assert len(realism.lesion_contrasts(bent, brain, mask, ONE * 2)) == 2


@pytest.mark.parametrize("spacing", [1.0, 1.5])
def test_a_ball_is_compact_and_smooth_on_every_grid(spacing: float) -> None:
    assert realism.compactness(ball(12, spacing), ONE * spacing) == pytest.approx(1, abs=0.01)
    assert realism.smoothness(ball(12, spacing), ONE * spacing) == pytest.approx(1, abs=0.04)


def test_a_rod_is_less_compact_and_a_ragged_ball_less_smooth() -> None:
    rod = np.zeros((60, 12, 12), bool)
    rod[2:58, 3:9, 3:9] = True
    assert realism.compactness(rod, ONE) < 0.6
    rng = np.random.default_rng(0)
    ragged = ball(12, 1.0) & ~np.kron(rng.uniform(size=(9, 9, 9)) < 0.3, np.ones((4, 4, 4))).astype(bool)[:33, :33, :33]
    assert realism.smoothness(ragged, ONE) < realism.smoothness(ball(12, 1.0), ONE) - 0.2


def test_a_stroke_is_measured_by_side_pieces_and_volume() -> None:
    mask = np.zeros((60, 30, 30), bool)
    mask[5:15, 5:15, 5:15] = True
    mask[50:55, 5:15, 5:15] = True
    side = np.broadcast_to(np.arange(60)[:, None, None] - 30.0, mask.shape)
    found = realism.stroke_measures(mask, ONE, side)
    assert found["stroke_volume"] == [1.5] and found["stroke_pieces"] == [2.0]
    assert found["stroke_side"] == [pytest.approx(2 / 3)]
    assert found["stroke_compact"][0] > 0.95  # of the larger piece alone
    assert "stroke_compact" not in realism.stroke_measures(mask, ONE * 0.5, side), "under 1 mL the grid decides"


def test_a_mass_is_measured_against_picture_and_head() -> None:
    image = np.zeros((80, 80), np.uint8)
    image[20:60, 20:60] = 100
    mask = np.zeros_like(image)
    mask[30:40, 30:40] = 1
    image[mask > 0] = 150
    found = realism.mass_measures(image, mask, 2)
    assert found["mass_area"] == pytest.approx(100 / 6400) and found["mass_of_head"] == pytest.approx(100 / 1600)
    assert found["head_area"] == 0.25 and found["mass_bright"] == pytest.approx(1.5) and found["mass_type"] == 2
    assert found["mass_mirror"] < 0.95


# -------------------------------------------------------------------------------------------------------- told apart
def _slices(name: str, shift: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    people = np.repeat([f"{name}-{k}" for k in range(10)], 8)
    values = rng.normal(shift, 1, (80, len(realism.FEATURES)))
    return pd.DataFrame({"set": name, "person": people, **dict(zip(realism.FEATURES, values.T, strict=True))})


def test_alike_slices_are_not_told_apart_and_different_ones_are() -> None:
    assert 0.35 < realism.told_apart(_slices("a", 0, 0), _slices("b", 0, 1), 0) < 0.65
    assert realism.told_apart(_slices("a", 0, 0), _slices("b", 2, 1), 0) > 0.95


def test_knowing_a_person_does_not_help_to_tell_sets_apart() -> None:
    """Every person has an own value: with a person's slices in training and test this would be told apart perfectly."""
    one, other = _slices("a", 0, 0), _slices("b", 0, 1)
    own = np.random.default_rng(5).permutation(20)
    for frame, part in ((one, own[:10]), (other, own[10:])):
        frame[list(realism.FEATURES)] = np.repeat(part, 8)[:, None] + 0.01 * frame[list(realism.FEATURES)].to_numpy()
    assert realism.told_apart(one, other, 0) < 0.8


# ---------------------------------------------------------------------------------------------------------------- doors
def test_without_data_one_line_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give the folder that holds malf") as error:
        realism.need_data(None)
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="malf"):
        realism.need_data(tmp_path)


def test_the_measured_brains_are_those_of_the_anatomy_target() -> None:
    _, tissue, person, _ = realism.simulated_brain(0, 3)
    scan = next(iter(simulate.simulated_target("anatomy", 1, realism.OWN_MM, 3)))
    assert np.bincount(scan.mask.ravel()).tolist()[1:] == np.bincount(person.labels.ravel()).tolist()[1:]
    grey = np.isin(tissue, [realism.TISSUES.index(n) + 1 for n in ("cortex", "thalamus", "caudate", "putamen")])
    np.testing.assert_array_equal(grey, person.labels == 2)
    np.testing.assert_array_equal(tissue == 1, person.labels == 1)


def test_pictures_ship_only_of_sets_whose_licence_allows_it() -> None:
    """The contact sheet reads these two sets; all others give numbers."""
    source = Path(realism.__file__).read_text(encoding="utf-8")
    body = source.split("def contact_sheet")[1].split("\ndef ")[0]
    shown = [name for name in realism.REAL if f'"{name}"' in body]
    assert shown == ["ds002748", "open_ms_data"]
    for name in shown:
        assert recipes.load_recipe(name, None).publish in ("pictures", "volumes")


def test_the_table_in_the_book_has_the_limits_of_this_code() -> None:
    kept = pd.read_csv(project_root() / "book" / "proof" / "simulators.csv", dtype=str, keep_default_na=False)
    assert len(kept) == len(PAIRS) + 2
    for pair, (_, row) in zip(PAIRS, kept.iterrows(), strict=False):
        quantity = QUANTITIES[pair.quantity]
        assert (row["What"], row["Real set"], row["Simulated set"]) == (quantity.what, pair.real, pair.simulated)
        assert row["Why not aimed at"] == pair.not_aimed_at
        assert row["Limit"].removeprefix("× ") == realism.number(quantity.limit)
        distance = float(row["Distance"].removeprefix("× "))
        if pair.not_aimed_at:
            assert row["Within?"] == "not aimed at"
        elif abs(distance / quantity.limit - 1) > 0.01:  # printed with three digits
            assert row["Within?"] == ("yes" if distance < quantity.limit else "no")
    for part in ("T1", "Volumes", "MS", "Stroke", "Masses"):
        assert "median" in realism.distributions_figure(part).alt


# ------------------------------------------------------------------------------------------------------------ real data
def test_real_masks_hold_what_the_ms_simulator_was_set_from(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 people, 17 to 392 lesions (specks of under 3 mm³ among them), load 14 mL (median)."""
    files = realism._mask_files
    monkeypatch.setattr(realism, "scan_files", lambda recipe, root: [])
    monkeypatch.setattr(realism, "_mask_files", lambda name, root: files(name, root) if name == "open_ms_data" else [])
    found = realism.measure_lesions(data_root, lambda _: None)
    ms = found[found["set"] == "open_ms_data"]
    counts = ms[ms["quantity"] == "ms_count"]["value"]
    assert len(counts) == 30 and counts.max() <= 392
    assert ms[ms["quantity"] == "ms_load"]["value"].median() == pytest.approx(14, abs=1)


def test_the_real_folder_is_accepted(data_root: Path) -> None:
    assert realism.need_data(data_root) == data_root
