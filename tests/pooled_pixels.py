"""Pooled pixels: a small classifier on the backbone of ``masked_pixels``.

Paper:
    None.

Idea:
    The mean of the maps tells the classes apart.

Equations:
    (1) p = softmax(W_o GAP(h))

Shapes:
    image (n, 3, S, S) -> p (n, K).

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

from skinkit.models import Augment, Sizes
from skinkit.models.parts import recipe
from skinkit.models.parts.recipe import Augmented, ClassifierRecipe


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    side_px: Annotated[int, "photos are resized to this square, pixels"] = 16
    recipe: Annotated[ClassifierRecipe, "how it is trained"] = ClassifierRecipe(epochs=2, batch=8, learning_rate=1e-2)
    augment: Augmented = Augment()


class PooledPixels(masked_pixels.MaskedPixels):
    """Eq. 1; it starts from the backbone of either pretraining."""

    TASK = "classify"
    CONFIG = Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        nn.Module.__init__(self)  # nothing that fills in
        self.config = config
        self.backbone = masked_pixels.backbone()
        self.output = nn.Linear(8, len(sizes.answers))
        self.register_buffer("reference_embedding", torch.zeros(8))

    @classmethod
    def default_weights(cls, config: Config) -> str:
        return "resnet18"

    @property
    def last(self) -> nn.Module:
        return self.backbone

    def encode(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.backbone(batch["image"]).mean((2, 3))

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"diagnosis": self.output(seen)}

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self.head(self.encode(batch), batch)

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return recipe.cross_entropy(self.config, self(batch)["diagnosis"].float(), batch["class"])


MODEL = PooledPixels
