"""Varied training pictures: a whole batch is moved and recoloured at once, on the device it lies on.

Photo, lesion mask and truth mask go through one and the same resampling, so they stay on one another. What a movement
brings in from outside the square is the picture mirrored at its border, in all of them alike: the lesion's mirror image
is lesion in the mask, too, which zeros in its place would deny.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from skinkit.data import views
from skinkit.learning.meta_domains import shown_through
from skinkit.models.parts.protocol import COHORT, META_DOMAIN, META_DOMAINS, Augment

if TYPE_CHECKING:
    import torch

_TOGETHER = (("image", "mask", "truth_mask"), *((name,) for name in views.NAMED))
"""Pictures that stay on one another; each further view of a case varies by itself."""
_LUMA = (0.299, 0.587, 0.114)
# RGB -> YIQ (NTSC): hue is the angle in the plane of I and Q, luma stays.
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def augment(
    batch: Mapping[str, torch.Tensor], how: Augment, generator: torch.Generator, *, copies: int = 1
) -> dict[str, torch.Tensor]:
    """A batch whose pictures are varied, each case in its own way.

    Args:
        batch: ``image`` and ``image_<view>`` float32 (n, 3, side, side), 0 to 1; ``mask`` and ``truth_mask`` (n, side,
            side), which go with ``image``; all else passes through.
        how: what is varied, and how far.
        generator: on the CPU; decides everything, so the same state gives the same batch.
        copies: of each case, one block after the other; they get different meta-domains, where there are enough.

    Returns:
        The same names and shapes, and ``meta_domain`` int64 (n,) of the first photo where there are meta-domains. Where
        nothing is to be done they are the same tensors.
    """
    out = dict(batch)
    for together in _TOGETHER:
        names, photo = [name for name in together if name in out], together[0]
        if how.meta_domains and photo in out:
            out = _taken_otherwise(out, names, how, generator, copies)
        if names:
            out = _moved(out, names, how, generator)
        if photo in out:
            out[photo] = _textured(_recoloured(out[photo], how, generator), how, generator)
    return out


# ---------------------------------------------------------------------------------------------------- meta-domains


def _taken_otherwise(
    batch: dict[str, torch.Tensor], names: list[str], how: Augment, generator: torch.Generator, copies: int
) -> dict[str, torch.Tensor]:
    """Some of the photos, the first of these names, as one meta-domain each would show them; masks move along.

    It is done photo by photo on the CPU, in 8 bits, as for photos whose loss is measured (``skinkit corrupt``).
    """
    import numpy as np
    import torch

    domains, (photo, *masks) = how.ways(), names
    draws = torch.rand(len(batch[photo]), 3, generator=generator).tolist()
    seeds = torch.randint(1 << 31, (len(draws),), generator=generator).tolist()
    out = {name: batch[name].clone() for name in names}
    cohorts = batch[COHORT].tolist() if COHORT in batch else [0] * len(draws)
    shown, cases = [len(META_DOMAINS) + cohort for cohort in cohorts], len(draws) // copies
    for row, ((whether, which, strength), seed) in enumerate(zip(draws, seeds, strict=True)):
        if whether >= how.meta_share:
            continue
        taken = {shown[other] for other in range(row % cases, row, cases)}
        left = [name for name in domains if META_DOMAINS.index(name) not in taken] or domains
        rgb = (batch[photo][row].float() * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        lesion = batch[masks[0]][row].cpu().numpy() >= 0.5 if masks else None
        if lesion is not None and lesion.all():  # the outline failed: nobody knows what is skin
            lesion = None
        domain, amount = left[int(which * len(left))], strength * how.meta_strength
        shown[row] = META_DOMAINS.index(domain)
        seen, moved = shown_through(rgb, domain, amount, seed, lesion)
        out[photo][row] = torch.from_numpy(np.array(seen)).permute(2, 0, 1).to(out[photo]) / 255
        if moved is not lesion:
            for name in masks:
                inside = batch[name][row].cpu().numpy() >= 0.5
                there = shown_through(rgb, domain, amount, seed, inside)[1]
                out[name][row] = torch.from_numpy(np.array(there)).to(out[name])
    if photo == views.IMAGE:
        out[META_DOMAIN] = torch.tensor(shown, device=batch[photo].device)
    return {**batch, **out}


# ------------------------------------------------------------------------------------------------------- movement


def _moved(
    batch: dict[str, torch.Tensor], names: list[str], how: Augment, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """The pictures of these names moved together."""
    import torch

    n = len(batch[names[0]])
    if not (how.rotation_deg or how.shift or (how.smallest_scale, how.largest_scale) != (1.0, 1.0)):
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

    draws = torch.rand(n, 6, generator=generator)
    angle = (2 * draws[:, 0] - 1) * math.radians(how.rotation_deg)
    smallest, largest = how.smallest_scale, how.largest_scale
    zoom = 1 / (smallest + (largest - smallest) * draws[:, 1])
    shift = (2 * draws[:, 2:4] - 1) * 2 * how.shift
    flip = torch.where((draws[:, 4:6] < 0.5) & how.flips, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [torch.stack([cos, -sin], 1) * flip[:, :1], torch.stack([sin, cos], 1) * flip[:, 1:]]
    return torch.cat([torch.stack(rows, 1), shift[:, :, None]], dim=2)


# -------------------------------------------------------------------------------------------------------- colours


def _recoloured(image: torch.Tensor, how: Augment, generator: torch.Generator) -> torch.Tensor:
    """Brightness, contrast, saturation and hue as one affine map of the colours of each photo, then cut to 0 to 1."""
    import torch

    if not (how.brightness or how.contrast or how.saturation or how.hue or how.channels):
        return image
    draws = 2 * torch.rand(len(image), 4, generator=generator) - 1
    reach = torch.tensor([how.brightness, how.contrast, how.saturation, 2 * math.pi * how.hue])
    brightness, contrast, saturation, turn = (draws * reach).unbind(1)
    luma = torch.tensor(_LUMA)
    matrix = _hue_turned(turn)
    grey = luma.expand(3, 3)
    matrix = (grey + (1 + saturation)[:, None, None] * (torch.eye(3) - grey)) @ matrix
    matrix = matrix * ((1 + brightness) * (1 + contrast))[:, None, None]
    if how.channels:
        apart = 1 + how.channels * (2 * torch.rand(len(image), 3, generator=generator) - 1)
        matrix = apart[:, :, None] * matrix
    # Contrast turns about the photo's mean luma, which hue and saturation leave alone.
    means = image.mean(dim=(2, 3)).float() @ luma.to(image.device)
    offset = means * ((1 + brightness) * -contrast).to(image.device)
    pixels = image.permute(0, 2, 3, 1).flatten(1, 2)
    coloured = torch.baddbmm(
        offset[:, None, None].expand(-1, 1, 3), pixels, matrix.transpose(1, 2).to(image.device)
    ).clamp_(0, 1)
    out: torch.Tensor = coloured.reshape(image.shape[0], *image.shape[2:], 3).permute(0, 3, 1, 2)
    return out


def _hue_turned(turn: torch.Tensor) -> torch.Tensor:
    """(n, 3, 3): RGB with its hue turned by (n,) radians."""
    import torch

    yiq = torch.tensor(_YIQ)
    cos, sin = torch.cos(turn), torch.sin(turn)
    one, zero = torch.ones_like(turn), torch.zeros_like(turn)
    rows = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).reshape(-1, 3, 3)
    turned: torch.Tensor = torch.linalg.inv(yiq) @ rows @ yiq
    return turned


# ------------------------------------------------------------------------------------------------------- textures


def _textured(image: torch.Tensor, how: Augment, generator: torch.Generator) -> torch.Tensor:
    """Blur, sharpening and noise, each of half of the photos, then cut to 0 to 1."""
    import torch

    if not (how.blur or how.sharpness or how.noise):
        return image
    n = len(image)
    draws = torch.rand(n, 6, generator=generator)
    done = (draws[:, :3] < 0.5).to(image.dtype)  # which of the three a photo gets
    amount = (done * draws[:, 3:]).to(image.device)
    if how.blur:
        image = _blurred(image, amount[:, 0] * how.blur * image.shape[-1])
    if how.sharpness:
        taken = image - _blurred(image, torch.ones(n, device=image.device))
        image = image + (amount[:, 1] * how.sharpness)[:, None, None, None] * taken
    if how.noise:
        noise = torch.randn(image.shape, generator=generator).to(image)
        image = image + (amount[:, 2] * how.noise)[:, None, None, None] * noise
    return image.clamp(0, 1)


def _blurred(image: torch.Tensor, sd: torch.Tensor) -> torch.Tensor:
    """(n, 3, side, side) under a Gaussian of (n,) standard deviations in pixels; 0 leaves a photo as it is."""
    import torch

    widest = float(sd.max())
    if widest <= 0:
        return image
    reach = min(max(1, math.ceil(3 * widest)), image.shape[-1] - 1)
    offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sd.float().clamp(min=1e-3)[:, None]) ** 2)  # sd near 0: one pixel alone
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(image.dtype)
    n, channels, height, width = image.shape
    kernels = weights.repeat_interleave(channels, dim=0)
    for size, padding in (((1, -1), (reach, reach, 0, 0)), ((-1, 1), (0, 0, reach, reach))):
        padded = torch.nn.functional.pad(image, padding, mode="reflect").flatten(0, 1)[None]
        filters = kernels.reshape(n * channels, 1, *size)
        image = torch.nn.functional.conv2d(padded, filters, groups=n * channels).reshape(n, channels, height, width)
    return image
