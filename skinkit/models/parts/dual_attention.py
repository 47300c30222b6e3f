"""A decoder with an ASPP bottleneck and dual attention gates: eqs. 2 to 7 of ``skinkit.models.deep_unet``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import nn

Gates = Literal["dual", "spatial", "channel", "none"]
_RATES = (1, 2, 4)
"""Of maps of 7 x 7 and 8 x 8 places, and of every model whose weights name no others."""
_REDUCTION = 8
_LAST = 16


class Decoder(nn.Module):
    """From maps of several sizes, each half as large as the one before, to logits of twice the finest.

    Args:
        finer: channels of the maps, the finest first.
        deepest: of the coarsest maps, half as large as the last of ``finer``.
        width: w of eq. 6.
        places: along a side of the coarsest maps.
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
        self,
        finer: Sequence[int],
        deepest: int,
        width: int,
        *,
        places: int,
        aspp: bool,
        gates: Gates,
        dropout: float,
    ) -> None:
        super().__init__()
        skips = finer[::-1]
        widths = [width, *(max(_LAST, width >> level) for level in range(len(skips)))]
        self.bottom: nn.Module = Aspp(deepest, width, places, dropout) if aspp else convolution(deepest, width, 1)
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


def rates_of(places: int) -> tuple[int, ...]:
    """r_1, r_2 and r_3 of eq. 2 for maps of this many places along a side: a farther tap would fall outside of most.

    >>> rates_of(2), rates_of(8), rates_of(16)
    ((1, 1, 1), (1, 2, 4), (2, 4, 8))
    """
    widest = max(1, math.ceil(places / 2))
    return tuple(max(1, round(widest / part)) for part in (4, 2, 1))


class Aspp(nn.Module):
    """Eq. 2.

    Its rates are those that its weights were learnt with: weights that name none, with 1, 2 and 4.

    Args:
        channels: of F_5.
        width: of B.
        places: along a side of F_5.
        dropout: Drop.

    Attributes:
        rates: int64 (3,), where they are not 1, 2 and 4; saved with the weights.
    """

    rates: torch.Tensor | None

    def __init__(self, channels: int, width: int, places: int, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [convolution(channels, width, 1), *(convolution(channels, width, 3) for _ in _RATES)]
        )
        self._widen(rates_of(places))
        # Of one place there is no variance in a batch of one: without BatchNorm.
        self.whole = nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU())
        self.joined = convolution((len(self.branches) + 1) * width, width, 1)
        self.drop = nn.Dropout2d(dropout)

    def _widen(self, rates: tuple[int, ...]) -> None:
        """Convolve at these rates, and remember them."""
        _, *wide = [module for module in self.branches.modules() if isinstance(module, nn.Conv2d)]
        for conv, rate in zip(wide, rates, strict=True):
            conv.dilation = conv.padding = (rate, rate)
        self.register_buffer("rates", None if rates == _RATES else torch.tensor(rates))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *more: Any) -> None:
        learnt_with = tuple(int(rate) for rate in state.get(f"{prefix}rates", _RATES))
        if learnt_with != (_RATES if self.rates is None else tuple(self.rates.tolist())):
            self._widen(learnt_with)
        super()._load_from_state_dict(state, prefix, *more)

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


def convolution(channels: int, width: int, size: int) -> nn.Module:
    """ReLU BN conv of eq. 2, of the same height and width."""
    conv = nn.Conv2d(channels, width, size, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


def twice(channels: int, width: int) -> nn.Module:
    """C_3 C_3 of eq. 6."""
    return nn.Sequential(convolution(channels, width, 3), convolution(width, width, 3))


def doubled(maps: torch.Tensor) -> torch.Tensor:
    """up(.) of eqs. 3 and 6: twice the height and width, bilinear."""
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
