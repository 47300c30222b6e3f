"""Alike pixels: a small encoder for which two varied copies of a photo are alike.

Paper:
    None; the idea is that of Chen et al. 2020, A Simple Framework for Contrastive Learning of Visual Representations.

Idea:
    What stays the same when a photo is turned and recoloured is what it shows.

Equations:
    (1) u = W_o GAP(h)      h: the maps of the backbone of ``masked_pixels``; the loss is the objective's

Shapes:
    image (n, 3, S, S) -> embedding u (n, 8).

Departures:
    None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import masked_pixels
import torch
from torch import nn

from skinkit.models import Augment, Network, Phase, Sizes
from skinkit.models.parts import recipe
from skinkit.models.parts.objectives import Contrastive
from skinkit.models.parts.recipe import Augmented, Recipe
from skinkit.models.parts.weights import load_into


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    side_px: Annotated[int, "photos are resized to this square, pixels"] = 16
    recipe: Annotated[Recipe, "how it is trained"] = Recipe(epochs=3, batch=8, learning_rate=1e-2)
    augment: Augmented = Augment(rotation_deg=90, brightness=0.2)
    objective: Annotated[Contrastive, "what training makes small"] = Contrastive(temperature=0.5)


class AlikePixels(Network, nn.Module):
    """Eq. 1."""

    TASK = "pretrain"
    READS = ("image",)
    CONFIG = Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.backbone = masked_pixels.backbone()
        self.output = nn.Linear(8, 8)

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        load_into(self.backbone, state, source)
        return f"the backbone of {source}"

    def phases(self) -> tuple[Phase, ...]:
        return (recipe.phase("all", self.config),)

    def objective(self) -> Contrastive:
        return self.config.objective

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"embedding": self.output(self.backbone(batch["image"]).mean((2, 3)))}

    def backbone_state(self) -> dict[str, torch.Tensor]:
        return self.backbone.state_dict()


MODEL = AlikePixels
