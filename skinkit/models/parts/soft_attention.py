"""Soft attention: maps weighted by places that a few learnt maps agree on. Eqs. 1 to 4 of the model soft_attention."""

from __future__ import annotations

import torch
from torch import nn


class SoftAttention(nn.Module):
    """Eqs. 1 to 4.

    Args:
        channels: d of t.
        maps: K of eq. 1.
        gamma: of eq. 4 at the beginning; with 0 the maps would get no gradient in the first step.
        rescale: multiply alpha by h w / K, so that its mean is 1.

    Attributes:
        places: W of eq. 1.
        gamma: of eq. 4.
        seen: changes nothing; alpha (n, 1, h, w) passes through it, so that heatmaps can show it.
    """

    def __init__(self, channels: int, maps: int = 16, *, gamma: float = 0.01, rescale: bool = False) -> None:
        super().__init__()
        # A 3-D convolution whose kernel is as deep as t is a 2-D one.
        self.places = nn.Conv2d(channels, maps, 3, padding=1)
        nn.init.kaiming_uniform_(self.places.weight, nonlinearity="relu")
        self.gamma = nn.Parameter(torch.tensor(float(gamma)))
        self.rescale = rescale
        self.seen = nn.Identity()

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        """(n, 1, h, w) eqs. 1 to 3 of t (n, channels, h, w); its sum over places is K."""
        n, _, h, w = t.shape
        scores = torch.relu(self.places(t)).flatten(2).float()
        return scores.softmax(2).sum(1).view(n, 1, h, w)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """O of eq. 4."""
        alpha: torch.Tensor = self.seen(self.alpha(t))
        if self.rescale:
            alpha = alpha * (alpha[0].numel() / self.places.out_channels)
        return t + self.gamma * t * alpha.to(t.dtype)
