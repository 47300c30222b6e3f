"""One photo: a small network that reads a photo and attributes and answers several tasks.

Paper:
    None.

Idea:
    What one convolution sees is joined with the metadata; each task has a layer of its own.

Equations:
    (1) f = GAP(ReLU(W * x))
    (2) p_t = softmax(W_t [f; a])    t: task

Shapes:
    image (n, 3, S, S), attributes a (n, columns) -> p_t (n, K_t).

Departures:
    None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
import two_photos
from torch import nn

from skinkit.models import Augment, Sizes
from skinkit.models.parts.recipe import Augmented, ClassifierRecipe


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    side_px: Annotated[int, "photos are resized to this square, pixels"] = 32
    recipe: Annotated[ClassifierRecipe, "how it is trained"] = ClassifierRecipe(epochs=4, batch=8, learning_rate=3e-2)
    augment: Augmented = Augment()


class OnePhoto(two_photos.TwoPhotos):
    """Eqs. 1 and 2; its mean over passes of a fixed dropout gives a variance."""

    READS = ("image", "attributes")
    CONFIG = Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        nn.Module.__init__(self)  # none of the branches of two photos
        self.config = config
        self.last = nn.Sequential(nn.Conv2d(3, 12, 5, stride=2), nn.ReLU(), nn.Conv2d(12, 24, 5, stride=2), nn.ReLU())
        columns = sizes.columns.get("attributes", 0)
        self.output = nn.Linear(24 + columns, len(sizes.answers))
        self.tasks = nn.ModuleDict({name: nn.Linear(24 + columns, len(c)) for name, c in sizes.tasks.items()})
        self.register_buffer("reference_embedding", torch.zeros(24))

    def blocks(self) -> Mapping[str, nn.Module]:
        return {"image": self.last}

    def encode(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.last(batch["image"]).mean((2, 3))

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        logits = super().head(seen, batch)
        return logits if self.training else {**logits, "variance": seen.var(1)}


MODEL = OnePhoto
