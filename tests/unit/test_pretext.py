"""The self-supervised task: which patches change, how, and what counts as restored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from braintransfer import recipes, training
from braintransfer.machine import Machine
from braintransfer.pretext import BLANK, corrupt, restoration_error, restoration_loss


def numbered(batch: int = 2, channels: int = 3) -> torch.Tensor:
    """Every patch of 8 x 8 has a value of its own in (0, 1)."""
    values = (torch.arange(64.0).view(8, 8) + 1) / 130
    return values.repeat_interleave(8, 0).repeat_interleave(8, 1).expand(batch, channels, 64, 64).clone()


def corner(pictures: torch.Tensor) -> torch.Tensor:
    return pictures[:, 0, ::8, ::8].flatten(1)


def test_a_quarter_is_blanked_and_a_quarter_changes_places():
    pictures = numbered()
    corrupted, changed = corrupt(pictures, torch.Generator().manual_seed(0))
    before, after, marked = corner(pictures), corner(corrupted), corner(changed)
    assert corrupted.shape == pictures.shape and changed.shape == (2, 1, 64, 64)
    for k in range(2):
        blank = (after[k] - BLANK).abs() < 1e-6
        moved = ~blank & (after[k] != before[k])
        assert int(blank.sum()) == 16 and int(moved.sum()) == 16
        assert torch.equal(blank | moved, marked[k])
        assert set(after[k][moved].tolist()) == set(before[k][moved].tolist()), "shuffled patches only change places"


def test_patches_move_as_a_whole_and_all_channels_together():
    pictures = numbered() + 0.2 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    corrupted, _ = corrupt(pictures, torch.Generator().manual_seed(0))
    known = {pictures[0, :, y : y + 8, x : x + 8].numpy().tobytes() for y in range(0, 64, 8) for x in range(0, 64, 8)}
    for y in range(0, 64, 8):
        for x in range(0, 64, 8):
            patch = corrupted[0, :, y : y + 8, x : x + 8]
            assert patch.numpy().tobytes() in known or bool(((patch - BLANK).abs() < 1e-6).all())


def test_pictures_of_a_batch_are_corrupted_differently_and_a_seed_repeats():
    first, changed = corrupt(numbered(), torch.Generator().manual_seed(0))
    again, _ = corrupt(numbered(), torch.Generator().manual_seed(0))
    assert torch.equal(first, again) and not torch.equal(changed[0], changed[1])


def test_the_original_is_left_alone():
    pictures = numbered()
    corrupt(pictures, torch.Generator().manual_seed(0))
    assert torch.equal(pictures, numbered())


def test_a_picture_that_cannot_be_cut_into_patches_is_refused():
    with pytest.raises(ValueError, match="60 x 64 cannot be cut into patches of 8"):
        corrupt(torch.zeros(1, 1, 60, 64), torch.Generator())


def test_restoring_everything_costs_nothing_and_only_changed_patches_count_as_error():
    pictures = numbered()
    corrupted, changed = corrupt(pictures, torch.Generator().manual_seed(0))
    assert float(restoration_loss(pictures, pictures)) == 0
    outside_only = torch.where(changed, pictures, pictures + 1)
    assert restoration_error(outside_only, pictures, changed) == 0
    assert restoration_error(corrupted, pictures, changed) > 0.1


class _Blur(nn.Module):
    """No network at all: a Gaussian blur of 6 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        from torchvision.transforms.functional import gaussian_blur  # after braintransfer, which mends its operators

        return gaussian_blur(pictures, [37, 37], [6.0, 6.0])


@pytest.mark.parametrize(("domain", "passes"), [("natural", True), ("mri", False)])
def test_a_blur_passes_the_bar_of_photographs_and_not_that_of_slices(domain: str, passes: bool) -> None:
    """What the page on the tasks says of its bars, on the built-in pictures."""
    recipe = recipes.load_recipe(f"simulated_{domain}", None)
    pictures = np.stack([item.image for item in recipes.images(recipe, None, 40, 64, 0)])
    nothing = np.zeros(pictures.shape[:3], np.uint8)
    found = training.held_out_performance(
        "selfsupervised",
        _Blur(),
        pictures,
        nothing,
        nothing[:, 0, 0],
        machine=Machine(),
        mean_image=pictures.mean(axis=0),
    )
    assert found["learned"] == passes
    assert passes or found["restoration_error"] > found["mean_image_error"]
