"""A decoder with an ASPP bottleneck and dual attention gates: eqs. 2 to 7 of ``skinkit.models.deep_unet``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as functional
from torch import nn

Gates = Literal["dual", "spatial", "channel", "none"]
_RATES = (1, 2, 4)
_REDUCTION = 8
_LAST = 16


class Decoder(nn.Module):
    """From maps of several sizes, each half as large as the one before, to logits of twice the finest.

    Args:
        finer: channels of the maps, the finest first.
        deepest: of the coarsest maps, half as large as the last of ``finer``.
        width: w of eq. 6.
        aspp: eq. 2; else a 1x1 convolution.
        gates: eqs. 3 to 5, or one of the two factors.
        dropout: Drop of eq. 2.

    Attributes:
        bottom: eq. 2.
        gates: eqs. 3 to 5, the coarsest first.
        stages: eq. 6, the coarsest first.
        output: eq. 7.
    """

    def __init__(
        self, finer: Sequence[int], deepest: int, width: int, *, aspp: bool, gates: Gates, dropout: float
    ) -> None:
        super().__init__()
        skips = finer[::-1]
        widths = [width, *(max(_LAST, width >> level) for level in range(len(skips)))]
        self.bottom: nn.Module = Aspp(deepest, width, dropout) if aspp else convolution(deepest, width, 1)
        self.gates = nn.ModuleList(Gate(x, g, gates) for x, g in zip(skips, widths, strict=False))
        joined = [g + x for x, g in zip(skips, widths, strict=False)]
        self.stages = nn.ModuleList(twice(i, o) for i, o in zip(joined, widths[1:], strict=True))
        self.stages.append(twice(widths[-1], _LAST))
        self.output = nn.Conv2d(_LAST, 1, 1)

    def decoded(self, finer: Sequence[torch.Tensor], deepest: torch.Tensor) -> torch.Tensor:
        """(n, 1, 2h, 2w) logits of maps (n, channels, h, w), the finest first, and the coarsest."""
        d = self.bottom(deepest)
        for stage, gate, skip in zip(self.stages, self.gates, reversed(finer), strict=False):
            g = doubled(d)
            d = stage(torch.cat([g, gate(skip, g)], 1))
        out: torch.Tensor = self.output(self.stages[-1](doubled(d)))
        return out


class Aspp(nn.Module):
    """Eq. 2.

    Args:
        channels: of F_5.
        width: of B.
        dropout: Drop.
    """

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [convolution(channels, width, 1), *(convolution(channels, width, 3, rate) for rate in _RATES)]
        )
        # Of one place there is no variance in a batch of one: without BatchNorm.
        self.whole = nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU())
        self.joined = convolution((len(self.branches) + 1) * width, width, 1)
        self.drop = nn.Dropout2d(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) -> (n, width, h, w)."""
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        out: torch.Tensor = self.drop(self.joined(torch.cat([*(branch(x) for branch in self.branches), whole], 1)))
        return out


class Gate(nn.Module):
    """Eqs. 3 to 5.

    Args:
        channels: of F.
        asking: of g.
        kind: ``dual``, ``spatial`` or ``channel``; ``none`` lets F pass.
    """

    def __init__(self, channels: int, asking: int, kind: str) -> None:
        super().__init__()
        half, few = max(1, channels // 2), max(1, (channels + asking) // _REDUCTION)
        self.kind = kind
        if kind in ("dual", "spatial"):
            self.of_skip = nn.Conv2d(channels, half, 1, bias=False)
            self.of_asking = nn.Conv2d(asking, half, 1)
            self.places = nn.Conv2d(half, 1, 1)
        if kind in ("dual", "channel"):
            self.squeeze = nn.Linear(channels + asking, few)
            self.excite = nn.Linear(few, channels)

    def forward(self, skip: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """F' of F (n, channels, h, w) and g (n, asking, h, w)."""
        out = skip
        if self.kind in ("dual", "spatial"):
            out = out * torch.sigmoid(self.places(functional.relu(self.of_skip(skip) + self.of_asking(g))))
        if self.kind in ("dual", "channel"):
            pooled = torch.cat([skip.mean((2, 3)), g.mean((2, 3))], 1)
            out = out * torch.sigmoid(self.excite(functional.relu(self.squeeze(pooled))))[:, :, None, None]
        return out


def convolution(channels: int, width: int, size: int, rate: int = 1) -> nn.Module:
    """ReLU BN conv of eq. 2, of the same height and width."""
    conv = nn.Conv2d(channels, width, size, padding=rate * (size // 2), dilation=rate, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


def twice(channels: int, width: int) -> nn.Module:
    """C_3 C_3 of eq. 6."""
    return nn.Sequential(convolution(channels, width, 3), convolution(width, width, 3))


def doubled(maps: torch.Tensor) -> torch.Tensor:
    """up(.) of eqs. 3 and 6: twice the height and width, bilinear."""
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
