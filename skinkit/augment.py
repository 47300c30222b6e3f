"""Varied training pictures: a whole batch is moved and recoloured at once, on the device it lies on.

Photo, lesion mask and truth mask go through one and the same resampling, so they stay on one another. What a movement
brings in from outside the square is the picture mirrored at its border, in all of them alike: the lesion's mirror image
is lesion in the mask, too, which zeros in its place would deny.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from skinkit.models import Augment

if TYPE_CHECKING:
    import torch

_MOVED = ("image", "mask", "truth_mask")
_LUMA = (0.299, 0.587, 0.114)
# RGB -> YIQ (NTSC): hue is the angle in the plane of I and Q, luma stays.
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def augment(batch: Mapping[str, torch.Tensor], how: Augment, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """A batch whose pictures are varied, each case in its own way.

    Args:
        batch: ``image`` float32 (n, 3, side, side), 0 to 1; ``mask`` and ``truth_mask`` (n, side, side), where there
            are; all else passes through.
        how: what is varied, and how far.
        generator: on the CPU; decides everything, so the same state gives the same batch.

    Returns:
        The same names and shapes. Where nothing is to be done they are the same tensors.
    """
    return _recoloured(_moved(dict(batch), how, generator), how, generator)


# ------------------------------------------------------------------------------------------------------- movement


def _moved(batch: dict[str, torch.Tensor], how: Augment, generator: torch.Generator) -> dict[str, torch.Tensor]:
    import torch

    names = [name for name in _MOVED if name in batch]
    if not names:
        return batch
    n = len(batch[names[0]])
    if not (how.rotation_deg or how.shift or tuple(how.scale) != (1.0, 1.0)):
        return _flipped(batch, names, torch.rand(n, 2, generator=generator) < 0.5) if how.flips else batch
    layers = [batch[name] if batch[name].ndim == 4 else batch[name][:, None] for name in names]
    stack = torch.cat(layers, dim=1)
    matrix = _matrices(n, how, generator).to(stack.device)
    grid = torch.nn.functional.affine_grid(matrix, list(stack.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(stack, grid, padding_mode="reflection", align_corners=False)
    parts = torch.split(moved, [layer.shape[1] for layer in layers], dim=1)
    for name, part in zip(names, parts, strict=True):
        batch[name] = part if batch[name].ndim == 4 else part[:, 0]
    if "mask" in names:
        batch["mask"] = (batch["mask"] >= 0.5).to(batch["mask"].dtype)
    return batch


def _flipped(batch: dict[str, torch.Tensor], names: list[str], which: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mirrored without resampling; ``which`` (n, 2) says who is, along the height and along the width."""
    import torch

    for name in names:
        for axis in (-2, -1):
            chosen = which[:, axis].to(batch[name].device)
            chosen = chosen.reshape(-1, *[1] * (batch[name].ndim - 1))
            batch[name] = torch.where(chosen, batch[name].flip(axis), batch[name])
    return batch


def _matrices(n: int, how: Augment, generator: torch.Generator) -> torch.Tensor:
    """(n, 2, 3): from a place in the new picture to the place in the old one, in coordinates from -1 to 1."""
    import torch

    drawn = torch.rand(n, 6, generator=generator)
    angle = (2 * drawn[:, 0] - 1) * math.radians(how.rotation_deg)
    smallest, largest = how.scale
    zoom = 1 / (smallest + (largest - smallest) * drawn[:, 1])
    shift = (2 * drawn[:, 2:4] - 1) * 2 * how.shift
    flip = torch.where((drawn[:, 4:6] < 0.5) & how.flips, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [torch.stack([cos, -sin], 1) * flip[:, :1], torch.stack([sin, cos], 1) * flip[:, 1:]]
    return torch.cat([torch.stack(rows, 1), shift[:, :, None]], dim=2)


# -------------------------------------------------------------------------------------------------------- colours


def _recoloured(batch: dict[str, torch.Tensor], how: Augment, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Brightness, contrast, saturation and hue as one affine map of the colours of each photo, then cut to 0 to 1."""
    import torch

    if "image" not in batch or not (how.brightness or how.contrast or how.saturation or how.hue):
        return batch
    image = batch["image"]
    drawn = 2 * torch.rand(len(image), 4, generator=generator) - 1
    reach = torch.tensor([how.brightness, how.contrast, how.saturation, 2 * math.pi * how.hue])
    brightness, contrast, saturation, turn = (drawn * reach).unbind(1)
    luma = torch.tensor(_LUMA)
    matrix = _hue_turned(turn)
    grey = luma.expand(3, 3)
    matrix = (grey + (1 + saturation)[:, None, None] * (torch.eye(3) - grey)) @ matrix
    matrix = matrix * ((1 + brightness) * (1 + contrast))[:, None, None]
    # Contrast turns about the photo's mean luma, which hue and saturation leave alone.
    means = image.mean(dim=(2, 3)).float() @ luma.to(image.device)
    offset = means * ((1 + brightness) * -contrast).to(image.device)
    pixels = image.permute(0, 2, 3, 1).flatten(1, 2)
    coloured = torch.baddbmm(
        offset[:, None, None].expand(-1, 1, 3), pixels, matrix.transpose(1, 2).to(image.device)
    ).clamp_(0, 1)
    batch["image"] = coloured.reshape(image.shape[0], *image.shape[2:], 3).permute(0, 3, 1, 2)
    return batch


def _hue_turned(turn: torch.Tensor) -> torch.Tensor:
    """(n, 3, 3): RGB with its hue turned by (n,) radians."""
    import torch

    yiq = torch.tensor(_YIQ)
    cos, sin = torch.cos(turn), torch.sin(turn)
    one, zero = torch.ones_like(turn), torch.zeros_like(turn)
    rows = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).reshape(-1, 3, 3)
    turned: torch.Tensor = torch.linalg.inv(yiq) @ rows @ yiq
    return turned
