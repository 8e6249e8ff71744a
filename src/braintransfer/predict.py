"""A finished network on a user's own scan: skull-stripped T1 in, mask in the scan's own grid out. Not for clinical use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from safetensors import SafetensorError, safe_open
from torch import nn

from braintransfer import evaluate, study, volumes
from braintransfer.errors import BadInput
from braintransfer.machine import Machine
from braintransfer.network import build_unet
from braintransfer.provenance import read_manifest
from braintransfer.recipes.scans import refuse_head
from braintransfer.training import slice_probabilities
from braintransfer.untrusted import name_of_one

#: The largest side of a slice, in pixels: of a network's own, and of what is made for a brain larger than these.
LARGEST_SIDE = 1024
#: A skull-stripped head leaves at least a third of a tight box empty; a raw scan has noise everywhere.
MOST_BRAIN = 0.7


@dataclass(frozen=True)
class TrainedNetwork:
    """A fine-tuned network with what it needs to know about the grid that it was trained on; n_train: people it learned from."""

    network: nn.Module
    target: str
    spacing: float
    size: tuple[int, int]
    path: Path
    n_train: int


def read_network(run: Path, source: str, target: str) -> TrainedNetwork:
    """The network kept by the cell (target, source) of a run. BadInput when there is none or it is torn."""
    found = sorted((run / "targets" / "main" / target / source).glob("fold-*/seed-*/network.safetensors"))
    if not found:
        raise BadInput(
            f"{run} holds no trained network for {target} from {source}; run `braintransfer run --only {target}:{source}`"
        )
    try:
        with safe_open(found[0], framework="pt") as file:
            header = file.metadata()
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        height, width = (int(s) for s in header["size"].split("x"))
        spacing, outputs = float(header["spacing"]), int(header["outputs"])
        # before a network or a grid of the size that the file asks for is made
        encoder = name_of_one(header["encoder"])
        if not (
            0.5 <= spacing <= 5 and max(height, width) <= LARGEST_SIDE and outputs == len(study.CLASSES[target]) + 1
        ):
            raise ValueError(f"spacing {spacing:g}, size {height} x {width}, {outputs} outputs")
        network = build_unet(encoder, outputs, 0)
        network.load_state_dict(state)
        n_train = int((read_manifest(found[0].parent) or {}).get("n_train", 0))
        return TrainedNetwork(network, target, spacing, (height, width), found[0], n_train)
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{found[0]}: not a network of this study ({reason}); delete its folder and run the cell again"
        ) from None


def _whole_brain_grid(trained: TrainedNetwork, image: volumes.Scan, brain: np.ndarray) -> volumes.Grid:
    """A grid of the trained size, or larger where the brain (bool, own grid) is: the network is convolutional and takes any
    multiple of 32. BadInput for a brain larger than any."""
    grid = volumes.working_grid(image, brain, trained.spacing, trained.size)
    if not grid.outside:
        return grid
    (height, width), (high, wide) = trained.size, volumes.size_for(image, brain, trained.spacing)
    size = (max(height, high), max(width, wide))
    if max(size) > LARGEST_SIDE:
        raise BadInput(
            f"{image.path}: its brain needs slices of {size[0]} x {size[1]} at {trained.spacing:g} mm, more than any brain; mend its "
            "brain mask, or the spacing in its header"
        )
    return volumes.working_grid(image, brain, trained.spacing, size)


def predict_scan(trained: TrainedNetwork, scan: Path, out: Path, brain_mask: Path | None = None) -> dict[str, float]:
    """Write the mask of a scan to `out` (same shape and affine as the scan) and return mL per class.

    brain_mask: which voxels are brain, on the scan's grid, where the skull is still on. A brain larger than the slices that the
    network learned from gets larger ones. BadInput as `read_scan` and `read_mask`, and for a scan with its skull on.
    """
    image = volumes.read_scan(scan)
    brain = volumes.brain_of(image.data) if brain_mask is None else volumes.read_mask(brain_mask, image) > 0
    if brain.mean() > MOST_BRAIN:
        raise BadInput(
            f"{scan}: {brain.mean():.0%} of the voxels are not 0, so it is not skull-stripped; strip the skull, or name its brain mask"
        )
    refuse_head(image, brain)
    grid = _whole_brain_grid(trained, image, brain)
    inside = volumes.labels_to_grid(brain.astype(np.uint8), image.affine, grid, 1) > 0
    working = volumes.to_uint8(volumes.to_grid(image.data, image.affine, grid), inside)
    shown = np.flatnonzero(inside.any(axis=(0, 1)))
    machine = Machine(device="cpu", precision="fp32", channels_last=False, threads=1)
    per_slice = slice_probabilities(trained.network, volumes.to_slices(working)[shown], machine)
    probabilities = evaluate.volume_in_own_grid(grid, shown, per_slice, image.data.shape, image.affine)
    labels = evaluate.labels_from(probabilities)
    part = out.with_name(f".{out.name.removesuffix('.nii.gz')}.part.nii.gz")
    nib.save(nib.Nifti1Image(labels, image.affine), part)
    part.replace(out)
    voxel_ml = float(np.prod(image.spacing)) / 1000
    return {
        study.CLASS_TITLES[name]: float((labels == k + 1).sum()) * voxel_ml
        for k, name in enumerate(study.CLASSES[trained.target])
    }
