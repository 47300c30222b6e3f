"""Two photos: a small network that reads the clinical and the dermoscopic photo of a case and answers several tasks.

Paper:
    None.

Idea:
    Each photo has a branch of its own; what both see is joined with the metadata. Each task has a layer of its own.

Equations:
    (1) f_v = GAP(ReLU(W_v * x_v))      v: clinical, dermoscopic
    (2) p_t = softmax(W_t [f_c; f_d; a])    t: task
    (3) L = mean over tasks of the cross-entropy of the rows whose truth is known

Shapes:
    image_clinical, image_dermoscopic (n, 3, S, S), attributes a (n, columns) -> p_t (n, K_t).

Departures:
    None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from skinkit.errors import InputError
from skinkit.models import Augment, Network, Phase, Sizes
from skinkit.models.parts import recipe
from skinkit.models.parts.losses import cross_entropy_of_known
from skinkit.models.parts.recipe import Augmented, ClassifierRecipe

VIEWS = ("clinical", "dermoscopic")


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    side_px: Annotated[int, "photos are resized to this square, pixels"] = 32
    width: Annotated[int, "channels of each branch"] = 8
    recipe: Annotated[ClassifierRecipe, "how it is trained"] = ClassifierRecipe(epochs=3, batch=8, learning_rate=1e-2)
    augment: Augmented = Augment(rotation_deg=10, brightness=0.1)


class TwoPhotos(Network, nn.Module):
    """Eqs. 1 to 3."""

    TASK = "classify"
    READS = ("image_clinical", "image_dermoscopic", "attributes")
    CONFIG = Config
    TASKS = True

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        for view in VIEWS:
            self.add_module(view, nn.Sequential(nn.Conv2d(3, config.width, 5, stride=4), nn.ReLU()))
        columns = sizes.columns.get("attributes", 0)
        self.output = nn.Linear(2 * config.width + columns, len(sizes.answers))
        self.tasks = nn.ModuleDict(
            {name: nn.Linear(2 * config.width + columns, len(c)) for name, c in sizes.tasks.items()}
        )
        self.register_buffer("reference_embedding", torch.zeros(2 * config.width))

    @classmethod
    def default_weights(cls, config: Config) -> str:
        return "resnet18"

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        raise InputError(f"{source} holds weights", "none: this network starts from random numbers", "--weights none")

    def phases(self) -> tuple[Phase, ...]:
        return (recipe.phase("all", self.config),)

    def blocks(self) -> Mapping[str, nn.Module]:
        return {f"image_{view}": self.get_submodule(view) for view in VIEWS}

    def encode(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([self.get_submodule(view)(batch[f"image_{view}"]).mean((2, 3)) for view in VIEWS], 1)

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        joined = torch.cat([seen, batch["attributes"]], 1)
        return {"diagnosis": self.output(joined), **{name: layer(joined) for name, layer in self.tasks.items()}}

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self.head(self.encode(batch), batch)

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        answers = self(batch)
        losses = [recipe.cross_entropy(self.config, answers["diagnosis"].float(), batch["class"])]
        losses += [cross_entropy_of_known(answers[name].float(), batch[f"class__{name}"]) for name in self.tasks]
        return torch.stack(losses).mean()


MODEL = TwoPhotos
