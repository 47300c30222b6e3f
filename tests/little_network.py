"""A little network.

Paper:
    None.
Idea:
    One convolution and one layer.
Equations:
    (1) z = W [GAP(conv(x)); q] + b
Shapes:
    image (n, 3, S, S), mask (n, S, S), attributes (n, a) -> (n, K)
Departures:
    None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import nn

from skinkit.errors import InputError
from skinkit.models import Network, Phase, Sizes
from skinkit.models.parts.protocol import Presets


@dataclass(frozen=True)
class Config:
    """Options of the little network."""

    side_px: Annotated[int, "side, pixels"] = 8


class Little(Network, nn.Module):
    """Eq. 1: all that the contract asks of a classifier, and no more."""

    TASK = "classify"
    READS = ("image", "mask", "attributes")
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {"quick": {"side_px": 16}}

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.last = nn.Conv2d(4, 6, 3, padding=1)
        self.output = nn.Linear(6 + sizes.columns["attributes"], len(sizes.answers))
        self.register_buffer("reference_embedding", torch.zeros(6))

    @classmethod
    def default_weights(cls, config: Config) -> str:
        return "resnet50"

    def start(self, state: Any, source: str) -> str:
        if "last.weight" not in state:
            raise InputError(f"{source} has no 'last.weight'", "weights of a little network", "give others")
        return "nothing"

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("image", 1, rates={"output.": 1e-2}), Phase("all", 2))

    def enter(self, phase: str) -> None:
        self.last.requires_grad_(phase == "all")

    def loss(self, batch: Any) -> Any:
        return nn.functional.cross_entropy(self(batch)["diagnosis"], batch["class"])

    def encode(self, batch: Any) -> Any:
        return torch.relu(self.last(torch.cat([batch["image"], batch["mask"][:, None]], 1))).mean((2, 3))

    def head(self, seen: Any, batch: Any) -> Any:
        return {"diagnosis": self.output(torch.cat([seen, batch["attributes"]], 1))}

    def forward(self, batch: Any) -> Any:
        return self.head(self.encode(batch), batch)


class Outline(Network, nn.Module):
    """The same for a segmenter."""

    TASK = "segment"
    READS = ("image",)
    CONFIG = Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 1, 3, padding=1)

    @classmethod
    def default_weights(cls, config: Config) -> str:
        return "resnet50"

    def start(self, state: Any, source: str) -> str:
        raise InputError(f"{source} is of another network", "none: it starts from random numbers", "give none")

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("all", 1),)

    def loss(self, batch: Any) -> Any:
        return nn.functional.binary_cross_entropy_with_logits(self(batch)["lesion"], batch["truth_mask"])

    def forward(self, batch: Any) -> Any:
        return {"lesion": self.net(batch["image"])[:, 0]}

    @staticmethod
    def mask_of(probability: Any, config: Config) -> Any:
        return probability > 0.5


MODEL = Little
