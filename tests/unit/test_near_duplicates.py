"""Near-duplicate pictures: known again in every disguise, and two people are never one."""

from __future__ import annotations

import numpy as np
import pytest
from heads import head_slices, photographs

from braintransfer.near_duplicates import DISGUISES, LIMIT, Pictures, fingerprints, nearest, search, similarity


def pictures(images: np.ndarray) -> Pictures:
    return Pictures(fingerprints(images), images.__getitem__)


HEADS = np.concatenate([head_slices(person) for person in range(6)])
PHOTOGRAPHS = photographs(24)


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize(("images", "framed"), [(HEADS, False), (PHOTOGRAPHS, True)], ids=["heads", "photographs"])
def test_a_picture_is_known_again_in_every_disguise(images: np.ndarray, framed: bool, disguise: str) -> None:
    planted = np.stack([DISGUISES[disguise](image) for image in images])
    assert not np.array_equal(planted, images)
    original, copy, similar = search(pictures(images), pictures(planted), framed=framed)
    found = copy[(original == copy) & (similar >= LIMIT)]
    assert sorted(set(found)) == list(range(len(images))), "a planted picture was not found"


def test_a_picture_is_known_again_in_two_disguises_at_once() -> None:
    planted = np.stack([DISGUISES["mirrored"](DISGUISES["a tenth brighter"](image)) for image in HEADS])
    original, copy, similar = search(pictures(HEADS), pictures(planted))
    assert (original == copy).all() and len(copy) == len(HEADS) and similar.min() >= LIMIT


def test_two_people_are_no_near_duplicates() -> None:
    for person in range(5):
        _, _, similar = search(pictures(head_slices(person)), pictures(head_slices(person + 1)))
        assert len(similar) and similar.max() < LIMIT


def test_a_picture_and_its_mirror_image_are_one_and_a_turned_one_is_another() -> None:
    one = HEADS[5:6]
    assert similarity(fingerprints(one), fingerprints(one[:, :, ::-1]))[0, 0] == pytest.approx(1, abs=1e-5)
    assert similarity(fingerprints(one), fingerprints(one[:, ::-1]))[0, 0] < LIMIT


def test_a_fingerprint_is_143_bytes_and_blind_to_place_and_light() -> None:
    small = np.pad(HEADS[5:6] // 2, ((0, 0), (7, 1), (0, 9)))
    prints = fingerprints(np.concatenate([HEADS[5:6], HEADS[20:21]])), fingerprints(small)
    assert prints[0].shape == (2, 143) and prints[0].dtype == np.int8
    alike = similarity(*prints)[:, 0]
    assert alike[0] > 0.97 > LIMIT > alike[1]


def test_the_search_in_pieces_finds_what_the_search_at_once_finds() -> None:
    a, b = fingerprints(HEADS[:30]), fingerprints(HEADS[30:])
    whole, pieces = nearest(a, b), nearest(a, b, chunk=7)
    assert np.allclose(whole[0], pieces[0]) and (whole[1] == pieces[1]).all()
    assert np.allclose(whole[0], similarity(a, b).max(axis=0))


def test_empty_pictures_resemble_nothing() -> None:
    black = np.zeros((1, 40, 30), np.uint8)
    assert not fingerprints(black).any()
    assert similarity(fingerprints(black), fingerprints(HEADS[:3])).max() == 0
