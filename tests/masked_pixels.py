"""Masked pixels: a small autoencoder that fills in hidden squares of a photo.

Paper:
    None; the idea is that of He et al. 2022, Masked Autoencoders Are Scalable Vision Learners.

Idea:
    What fills in a hidden part of a photo has learnt what skin and lesions look like, without a label.

Equations:
    (1) h = ReLU(W_2 * ReLU(W_1 * (m x)))        m: 0 in half of the squares of 4 pixels
    (2) L = mean of (W_o * h - x)^2 where m = 0

Shapes:
    image (n, 3, S, S) -> filled in (n, 3, S, S).

Departures:
    None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.models import Augment, Network, Phase, Sizes
from skinkit.models.parts import recipe
from skinkit.models.parts.recipe import Augmented, Recipe
from skinkit.models.parts.weights import load_into


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    side_px: Annotated[int, "photos are resized to this square, pixels"] = 16
    recipe: Annotated[Recipe, "how it is trained"] = Recipe(epochs=3, batch=8, learning_rate=1e-2)
    augment: Augmented = Augment()


def backbone() -> nn.Sequential:
    """The layers that a classifier takes over, eq. 1."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())


class MaskedPixels(Network, nn.Module):
    """Eqs. 1 and 2."""

    TASK = "pretrain"
    READS = ("image",)
    CONFIG = Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone()
        self.output = nn.Conv2d(8, 3, 1)

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        load_into(self.backbone, state, source)
        return f"the backbone of {source}"

    def phases(self) -> tuple[Phase, ...]:
        return (recipe.phase("all", self.config),)

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        image = batch["image"]
        squares = torch.rand(len(image), 1, *(side // 4 for side in image.shape[2:]), device=image.device) < 0.5
        hidden = functional.interpolate(squares.float(), image.shape[2:])
        error = (self.output(self.backbone(image * (1 - hidden))) - image).square()
        return (error * hidden).sum() / (3 * hidden.sum()).clamp(min=1)

    def backbone_state(self) -> dict[str, torch.Tensor]:
        return self.backbone.state_dict()


MODEL = MaskedPixels
