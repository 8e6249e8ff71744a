"""The self-supervised tasks: restoring a picture whose patches were blanked or moved; telling its views from others'."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Side of a patch in pixels, and shares of the patches that are blanked and that change places.
PATCH = 8
MASKED = 0.25
SHUFFLED = 0.25
#: A blanked patch is mid-grey: 0 after normalisation, and unlike the black around a brain.
BLANK = 127 / 255


def corrupt(images: Tensor, generator: torch.Generator, patch: int = PATCH) -> tuple[Tensor, Tensor]:
    """Blank a quarter of the patches, let another quarter change places: (corrupted like images, changed (B, 1, h, w)).

    images: (B, C, h, w) float32 in 0..1, h and w multiples of `patch` (ValueError otherwise). generator: on the same
    device. Each shuffled patch moves to the next one's place around a random ring, so none stays where it was.
    changed: bool, True in blanked and moved patches. The idea follows context encoders (Pathak et al. 2016,
    doi:10.1109/CVPR.2016.278) and patch swapping in medical images (Chen et al. 2019, doi:10.1016/j.media.2019.101539).
    """
    batch, channels, height, width = images.shape
    if height % patch or width % patch:
        raise ValueError(f"pictures of {height} x {width} cannot be cut into patches of {patch} pixels")
    down, across = height // patch, width // patch
    n = down * across
    n_masked, n_shuffled = round(n * MASKED), round(n * SHUFFLED)
    patches = images.view(batch, channels, down, patch, across, patch).permute(0, 2, 4, 1, 3, 5).reshape(batch, n, -1)
    order = torch.rand(batch, n, generator=generator, device=images.device).argsort(dim=1)
    masked, ring = order[:, :n_masked], order[:, n_masked : n_masked + n_shuffled]

    source = torch.arange(n, device=images.device).repeat(batch, 1)
    source.scatter_(1, ring, ring.roll(1, dims=1))
    result = patches.gather(1, source.unsqueeze(2).expand_as(patches))
    blank = torch.zeros(batch, n, dtype=torch.bool, device=images.device).scatter_(1, masked, True)
    result = result.masked_fill(blank.unsqueeze(2), BLANK)
    corrupted = (
        result.view(batch, down, across, channels, patch, patch)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(batch, channels, height, width)
    )
    changed = blank.scatter(1, ring, True) if n_shuffled > 1 else blank
    whole = changed.view(batch, 1, down, 1, across, 1).expand(-1, -1, -1, patch, -1, patch)
    return corrupted, whole.reshape(batch, 1, height, width)


def restoration_loss(restored: Tensor, original: Tensor) -> Tensor:
    """Mean absolute difference over the whole picture: what was not touched has to be recognised as such, too.

    restored, original: (B, C, h, w), normalised as the network's input.
    """
    return functional.l1_loss(restored, original)


def restoration_error(restored: Tensor, original: Tensor, changed: Tensor) -> float:
    """Mean absolute difference inside the changed patches, in the units of the pictures. changed: (B, 1, h, w) bool."""
    where = changed.expand_as(original)
    return float((restored - original).abs()[where].mean())


#: How sharply the contrastive task tells near from far. SimCLR's own choice for small batches and few steps.
TEMPERATURE = 0.5


def contrastive_loss(embeddings: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Normalised temperature-scaled cross-entropy: each view should know the other view of its picture among all others.

    embeddings: (2 B, D), rows i and B + i of one picture. Chen et al. 2020 (SimCLR), arXiv:2002.05709.
    """
    unit = functional.normalize(embeddings.float(), dim=1)
    likeness = unit @ unit.t() / temperature
    likeness = likeness.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), float("-inf"))
    partner = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
    return functional.cross_entropy(likeness, partner)


def retrieved(embeddings: Tensor) -> Tensor:
    """Which second view is nearest to each first one: (B,) int64 from (2 B, D); right where it is 0, 1, ..., B - 1."""
    first, second = functional.normalize(embeddings.float(), dim=1).chunk(2)
    return (first @ second.t()).argmax(dim=1)
