"""A dual network that outlines nothing: its decoder answers far below zero everywhere, and does not learn.

Paper:
    None.

Idea:
    What a joint outline that failed does to a prediction.

Equations:
    Those of dual_network, with z = -20.

Shapes:
    As dual_network.

Departures:
    None.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from skinkit.models import Sizes
from skinkit.models.dual_network import Config, DualNetwork


class NoOutline(DualNetwork):
    """Z = -20."""

    TASK = "classify"
    READS = ("image", "mask", "attributes")
    CONFIG = Config

    def __init__(self, config: Any, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        if config.joint:
            nn.init.zeros_(self.outline.output.weight)
            nn.init.constant_(self.outline.output.bias, -20.0)


MODEL = NoOutline
