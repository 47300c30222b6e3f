"""Class decoder: a small network that turns a class and noise into a picture.

Paper:
    None.

Idea:
    A layer draws a small picture for a class and a vector of noise; trained, it draws the mean photo of the class.

Equations:
    (1) x = up(sigmoid(W [e_c; z] + b)),   z ~ N(0, 1)        e_c: one-hot class
    (2) L = mean (x - photo)^2

Shapes:
    class (n,), z (n, 8) -> 8 x 8 places -> image (n, 3, S, S).

Departures:
    None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.models import Augment, Generator, Network, Phase, Sizes
from skinkit.models.parts import recipe
from skinkit.models.parts.recipe import Augmented, Recipe
from skinkit.models.parts.weights import load_into

NOISE, PLACES = 8, 8


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    side_px: Annotated[int, "side of the squares it reads and writes, pixels"] = 16
    recipe: Annotated[Recipe, "how it is trained"] = Recipe(epochs=2, batch=8, learning_rate=1e-2)
    augment: Augmented = Augment()


class ClassDecoder(Generator, Network, nn.Module):
    """Eqs. 1 and 2."""

    TASK = "generate"
    READS = ("image",)
    CONFIG = Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.n_classes = config, len(sizes.answers)
        self.decoder = nn.Linear(self.n_classes + NOISE, 3 * PLACES * PLACES)

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        load_into(self.decoder, state, source)
        return f"the decoder of {source}"

    def phases(self) -> tuple[Phase, ...]:
        return (recipe.phase("all", self.config),)

    def draw(self, labels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Eq. 1."""
        joined = torch.cat([functional.one_hot(labels, self.n_classes).float(), noise], 1)
        small = self.decoder(joined).sigmoid().reshape(-1, 3, PLACES, PLACES)
        return functional.interpolate(small, size=self.config.side_px, mode="bilinear")

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        noise = torch.randn(len(batch["class"]), NOISE, device=batch["image"].device)
        return functional.mse_loss(self.draw(batch["class"], noise), batch["image"])

    def synthesise(self, labels: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        noise = torch.stack([torch.randn(NOISE, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        device = self.decoder.weight.device
        images = self.draw(torch.tensor(list(labels), device=device), noise.to(device))
        return (images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()


MODEL = ClassDecoder
