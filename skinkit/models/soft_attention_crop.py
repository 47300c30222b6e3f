"""Soft attention on a photo and the lesion cut out of it: two pictures where a case has one photo.

Paper:
    None of its own: the network is that of ``soft_attention`` (Omeroglu et al. 2023), which reads a clinical and a
    dermoscopic photo of a lesion.

Idea:
    Data sets such as PAD-UFES-20 have one photo of a lesion. The whole photo shows where on the skin it lies; a second
    picture, cut out around the outline of the workspace's segmenter, shows its details.

Equations:
    (1) b = smallest square around m, its side times 1.4, within the photo        m: the outline, 0 or 1
    (2) x_p = x in S pixels,   x_c = x within b in S pixels
    (3) p_t of eqs. 1 to 8 of soft_attention, with x_p for the clinical and x_c for the dermoscopic photo

Shapes:
    image (n, 3, R, R), 0 to 1, and mask (n, R, R): R = ``side_px``, S = ``seen_px``; attributes (n, a).

Departures:
    Ours. The photo is read in more pixels (R) than the networks see (S), so that a small lesion is cut out of them and
    not enlarged from few. A photo whose outline failed is cut nowhere: both pictures are the whole photo. Grad-CAM
    shows the whole photo's network; the attention over the crop is laid back to its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.errors import ConfigError
from skinkit.models import soft_attention
from skinkit.models.parts.backbone import SMALLEST_SIDE_PX
from skinkit.models.parts.protocol import Presets
from skinkit.models.parts.recipe import merged

_MARGIN = 1.4
"""Side of the square of eq. 1, over that of the smallest one around the outline."""


@dataclass(frozen=True)
class Config(soft_attention.Config):
    """Options of the network."""

    side_px: Annotated[int, "R: photos are read as this square, pixels"] = 448
    seen_px: Annotated[int, "S: side of the two pictures that the networks see, pixels"] = 299
    fusion: Annotated[
        Literal["hybrid", "concat", "photo", "crop"],
        "hybrid: three branches; concat: both pictures side by side, and the metadata; or one picture alone",
    ] = "hybrid"  # type: ignore[assignment]


class SoftAttentionCrop(soft_attention.SoftAttentionNetwork):
    """Eqs. 1 to 3."""

    TASK = "classify"
    READS = ("image", "mask", "attributes")
    CONFIG = Config  # type: ignore[assignment]
    PHOTOS = ("photo", "crop")
    PRESETS: ClassVar[Presets] = {
        name: merged(values, {"side_px": 336, "seen_px": 224}) if name == "quick" else values
        for name, values in soft_attention.SoftAttentionNetwork.PRESETS.items()
    }

    def picture(self, image: torch.Tensor) -> torch.Tensor:
        """x_p of eq. 2."""
        _check(self.config)
        side = self.config.seen_px
        return functional.interpolate(image, size=(side, side), mode="bilinear", antialias=True)

    def pictures(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, 3 or 6, S, S) what is read of x_p and x_c."""
        image, views = batch["image"], self._views(self.config)
        parts = [self.picture(image)] if "photo" in views else []
        if "crop" in views:
            parts.append(cut(image, boxes(batch["mask"]), self.config.seen_px))
        return torch.cat(parts, 1)

    def blocks(self) -> Mapping[str, nn.Module]:
        """The layer of the whole photo; maps of the crop alone lie elsewhere than the photo."""
        both = self.config.fusion not in self.PHOTOS
        return {} if self.config.fusion == "crop" else {"image": self.first_last if both else self.last}

    def attention_maps(self, batch: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Over the photo: the whole one's, and in the place of the crop its mean with the crop's.

        Where the crop is read alone, 0 around it.
        """
        alphas = self.alphas(batch)
        side = batch["image"].shape[-1]
        whole = crop = None
        if "photo" in alphas:
            whole = functional.interpolate(alphas["photo"][:, None], size=(side, side), mode="bilinear")[:, 0]
        if "crop" in alphas:
            shares = boxes(batch["mask"])
            crop, inside = (laid_back(maps, shares, side) for maps in (alphas["crop"], torch.ones_like(alphas["crop"])))
            whole = crop if whole is None else torch.where(inside > 0, (whole + crop) / 2, whole)
        return {} if whole is None else {"image": whole}

    def heat_layers(self) -> Mapping[str, tuple[str, nn.Module]]:
        """``photo``, where it is read."""
        layers = self.blocks()
        return {"photo": ("image", layers["image"])} if layers else {}


def boxes(mask: torch.Tensor) -> torch.Tensor:
    """(n, 4) b of eq. 1 of masks (n, R, R), 0 to 1: left, top, right, bottom as shares of the side."""
    inside = mask >= 0.5
    side = mask.shape[-1]
    lines = [inside.any(dim) for dim in (1, 2)]  # columns and rows with lesion
    first = torch.stack([line.int().argmax(1) for line in lines], 1).float()
    last = torch.stack([side - line.flip(1).int().argmax(1) for line in lines], 1).float()
    empty = ~inside.flatten(1).any(1)[:, None]
    first, last = torch.where(empty, 0.0, first), torch.where(empty, float(side), last)
    length = ((last - first).amax(1, keepdim=True) * _MARGIN).clamp(max=side)
    start = ((first + last - length) / 2).clamp(min=0).minimum(side - length)
    return torch.cat([start, start + length], 1) / side


def cut(image: torch.Tensor, shares: torch.Tensor, side_px: int) -> torch.Tensor:
    """(n, 3, side_px, side_px) x_c of eq. 2 of photos (n, 3, R, R) and their boxes (n, 4)."""
    out = []
    for photo, (left, top, right, bottom) in zip(
        image, (shares * image.shape[-1]).round().long().tolist(), strict=True
    ):
        part = photo[None, :, top : max(bottom, top + 1), left : max(right, left + 1)]
        out.append(functional.interpolate(part, size=(side_px, side_px), mode="bilinear", antialias=True))
    return torch.cat(out)


def laid_back(maps: torch.Tensor, shares: torch.Tensor, side_px: int) -> torch.Tensor:
    """(n, side_px, side_px) maps of crops (n, h, w) in their boxes (n, 4), and 0 around them."""
    out = maps.new_zeros(len(maps), side_px, side_px)
    places = (shares * side_px).round().long().tolist()
    for whole, part, (left, top, right, bottom) in zip(out, maps, places, strict=True):
        size = max(bottom, top + 1) - top, max(right, left + 1) - left
        seen = functional.interpolate(part[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        whole[top : top + size[0], left : left + size[1]] = seen
    return out


def _check(config: Config) -> None:
    if not SMALLEST_SIDE_PX <= config.seen_px <= config.side_px:
        raise ConfigError(
            f"seen_px = {config.seen_px} of side_px = {config.side_px}",
            f"at least {SMALLEST_SIDE_PX} and at most side_px",
            "use --settings seen_px=224",
        )


MODEL = SoftAttentionCrop
