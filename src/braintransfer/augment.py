"""Random views of pictures and masks, a whole batch at a time and on whatever device the batch lies."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Strength:
    """How far a view may stray: degrees, factors, and parts of the crop (elastic) or of the 0..1 range (the others)."""

    rotation: float = 10.0
    scale: float = 1.15
    elastic: float = 0.02
    gamma: float = 1.25
    contrast: float = 1.15
    brightness: float = 0.04
    bias: float = 0.15
    noise: float = 0.025

    def times(self, share: float) -> Strength:
        """The same kinds of change, each `share` (0 to 1) as far."""
        angle, bend = self.rotation * share, self.elastic * share
        scale, gamma, contrast = (1 + (top - 1) * share for top in (self.scale, self.gamma, self.contrast))
        return Strength(
            angle, scale, bend, gamma, contrast, self.brightness * share, self.bias * share, self.noise * share
        )


def augment(
    images: Tensor,
    masks: Tensor,
    generator: torch.Generator,
    crop: int,
    *,
    focus: float = 0.0,
    strength: Strength | None = None,
) -> tuple[Tensor, Tensor]:
    """Random crops, bent, turned, mirrored and re-lit: (B, C, crop, crop) float32 in 0..1 and (B, crop, crop) int64.

    images: (B, C, h, w) float32 in 0..1. masks: (B, h, w) integer labels. generator: on the same device.
    focus: share of the crops that are laid over a random foreground pixel, where there is one.
    Crop, turn, scale, mirror and elastic bend are one sampling of the original, linear for images, nearest for masks,
    at the very same places. How many random numbers are drawn depends on B and crop alone, never on what the pictures
    show, so equal seeds give equal views whatever the network or its source is.
    """
    strength = strength or Strength()
    batch, _, height, width = images.shape
    device = images.device
    # one row of numbers a sample: 0 turn, 1 scale, 2 mirror, 3-4 place, 5 focus?, 6 which pixel, 7 gamma, 8 contrast,
    # 9 brightness, 10 noise level, 11-12 place inside a focused crop
    u = torch.rand(batch, 13, generator=generator, device=device)
    bend = torch.rand(batch, 2, 5, 5, generator=generator, device=device) * 2 - 1
    light = torch.rand(batch, 1, 3, 3, generator=generator, device=device) * 2 - 1
    grain = torch.randn(batch, 1, crop, crop, generator=generator, device=device)

    places = _places(u, bend, _centres(u, masks, crop, focus), crop, (height, width), strength)
    views = functional.grid_sample(images, places, mode="bilinear", padding_mode="reflection", align_corners=False)
    labels = functional.grid_sample(
        masks.unsqueeze(1).to(images.dtype), places, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return _relight(views, u, light, grain, strength), labels.squeeze(1).long()


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _centres(u: Tensor, masks: Tensor, crop: int, focus: float) -> Tensor:
    """Where each crop's middle lies, (B, 2) as x, y in pixels; the crop stays inside a picture that is large enough."""
    height, width = masks.shape[1:]
    size = _constant((width, height), u.device)
    margin = torch.minimum(torch.full_like(size, crop), size) / 2
    centres = margin + u[:, 3:5] * (size - 2 * margin) - 0.5
    if focus > 0:
        pixel, any_there = _foreground_pixel(u[:, 6], masks > 0)
        found = pixel.to(u.dtype) + (u[:, 11:13] - 0.5) * (crop / 2)
        found = torch.minimum(torch.maximum(found, margin - 0.5), size - margin - 0.5)
        chosen = (u[:, 5] < focus) & any_there
        centres = torch.where(chosen.unsqueeze(1), found, centres)
    return centres


def _foreground_pixel(u: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """One pixel of each foreground, all as likely: (B, 2) as x, y, and whether there was any. shown: (B, h, w) bool.

    First the row, then the place in it: running sums over whole pictures are slow.
    """
    in_row = torch.count_nonzero(shown, dim=2)
    until_row = in_row.cumsum(dim=1)
    total = until_row[:, -1:]
    wanted = (u.unsqueeze(1) * total).long().clamp(max=total - 1) + 1  # 1 ... total
    row = torch.searchsorted(until_row, wanted).clamp(max=shown.shape[1] - 1)
    wanted = wanted - (until_row - in_row).gather(1, row)
    line = shown[torch.arange(len(u), device=u.device), row.squeeze(1)]
    column = torch.searchsorted(line.long().cumsum(dim=1), wanted).clamp(max=shown.shape[2] - 1)
    return torch.cat([column, row], dim=1), total.squeeze(1) > 0


def _places(u: Tensor, bend: Tensor, centres: Tensor, crop: int, size: tuple[int, int], strength: Strength) -> Tensor:
    """Where in the original each output pixel is taken from: (B, crop, crop, 2) in grid_sample's -1..1."""
    angle = _between(u[:, 0], -1, 1) * math.radians(strength.rotation)
    zoom = torch.exp(_between(u[:, 1], -1, 1) * math.log(strength.scale))
    mirror = torch.where(u[:, 2] < 0.5, -1.0, 1.0)
    # x' = x cos - y sin, y' = x sin + y cos, with x mirrored first
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    of_x, of_y = torch.stack([cos * mirror, sin * mirror], dim=1), torch.stack([-sin, cos], dim=1)

    # The whole map is one matrix product, basis @ core @ basis.T: row and column of a pixel each stand for five weights
    # among the knots of the bend, the offset from the middle, and a one. Cheaper by far than sums over all pixels.
    step = torch.arange(crop, device=u.device, dtype=u.dtype) - (crop - 1) / 2
    basis = torch.cat(
        [_smooth_weights(bend.shape[-1], crop, u.device), step.unsqueeze(1), torch.ones_like(step).unsqueeze(1)], dim=1
    )
    core = functional.pad(bend * (strength.elastic * crop), (0, 2, 0, 2))
    core[:, :, -1, -2] = of_x
    core[:, :, -2, -1] = of_y
    core[:, :, -1, -1] = centres + 0.5
    unit = _constant((2 / size[1], 2 / size[0]), u.device).view(1, 2, 1, 1)
    core = core * unit
    core[:, :, -1, -1] -= 1
    return (basis @ core @ basis.t()).permute(0, 2, 3, 1)


# Kept on each device: to bring a number there once more, a GPU would be waited for in every step.
@functools.cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device, dtype=torch.float32)


@functools.cache
def _smooth_weights(knots: int, crop: int, device: torch.device) -> Tensor:
    """(crop, knots): how much each of `knots` evenly spread values counts at each pixel (cubic; rows sum to 1)."""
    weights = functional.interpolate(
        torch.eye(knots).view(1, knots, knots, 1), size=(crop, 1), mode="bicubic", align_corners=True
    )
    return weights.view(knots, crop).t().contiguous().to(device)


def _relight(views: Tensor, u: Tensor, light: Tensor, grain: Tensor, strength: Strength) -> Tensor:
    """Gamma, contrast, brightness, a smooth bias field and noise; colour channels share field and noise. In 0..1."""
    per_sample = u.view(len(u), -1, 1, 1, 1).unbind(1)
    gamma = torch.exp(_between(per_sample[7], -1, 1) * math.log(strength.gamma))
    contrast = torch.exp(_between(per_sample[8], -1, 1) * math.log(strength.contrast))
    brightness = _between(per_sample[9], -1, 1) * strength.brightness
    weights = _smooth_weights(light.shape[-1], grain.shape[-1], u.device)
    field = weights @ (torch.exp(light * strength.bias) * contrast) @ weights.t()
    lit = views.clamp_(min=0).pow_(gamma).mul_(field)
    return lit.addcmul_(grain, per_sample[10] * strength.noise).add_(brightness).clamp_(0, 1)
