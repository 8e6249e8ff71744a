"""Promises of a trained network on a user's own scan: every voxel of the brain is looked at."""

from __future__ import annotations

from pathlib import Path

import fakes
import nibabel as nib
import numpy as np
import pytest
import torch
from refusals import refused
from torch import Tensor, nn

from braintransfer.predict import LARGEST_SIDE, TrainedNetwork, predict_scan


class Everything(nn.Module):
    """Calls every pixel a lesion, and notes which slices it was shown; as a U-Net, it takes sides in steps of 32 only."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, int]] = set()

    def forward(self, images: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        assert height % 32 == width % 32 == 0
        self.seen.add((height, width))
        return torch.tensor([-20.0, 20.0]).view(1, 2, 1, 1).expand(batch, 2, height, width)


@pytest.mark.parametrize(
    ("shape", "size", "shown"),
    [
        ((60, 90, 20), (32, 64), (96, 64)),  # brain in front and behind
        ((90, 60, 20), (64, 32), (64, 96)),  # right and left
        ((60, 90, 20), (96, 96), (96, 96)),  # it fits: as trained
    ],
)
def test_brain_beyond_the_trained_slices_is_looked_at(
    tmp_path: Path, shape: tuple[int, int, int], size: tuple[int, int], shown: tuple[int, int]
) -> None:
    t1, _, brain = fakes.head(shape, 0)
    scan = fakes.save(tmp_path / "scan.nii.gz", t1, np.diag([-1.0, 1.0, 1.0, 1.0]))
    network = Everything()
    trained = TrainedNetwork(network, "stroke", 1.0, size, tmp_path / "network.safetensors", 20)
    found = predict_scan(trained, scan, tmp_path / "mask.nii.gz")
    mask = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "mask.nii.gz").dataobj)
    assert mask[brain].all() and network.seen == {shown}
    assert sum(found.values()) >= brain.sum() / 1000


def test_a_brain_larger_than_any_is_refused_before_the_memory_is_full(tmp_path: Path) -> None:
    t1 = np.zeros((30, 30, 30), np.int16)
    t1[2:28, 14:16, 14:16] = 100
    scan = fakes.save(tmp_path / "scan.nii.gz", t1, np.diag([30.0, 1.0, 1.0, 1.0]))
    trained = TrainedNetwork(Everything(), "stroke", 0.5, (64, 64), tmp_path / "network.safetensors", 20)
    refused(
        lambda: predict_scan(trained, scan, tmp_path / "mask.nii.gz"),
        "scan.nii.gz",
        "needs slices of",
        "mend its brain mask",
    )
    assert LARGEST_SIDE * 0.5 < 26 * 30
