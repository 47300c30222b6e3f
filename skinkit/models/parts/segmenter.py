"""What networks that draw masks have in common: one phase, one forward pass, one region."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from skinkit.images.masks import one_region
from skinkit.models.parts.protocol import Network


class SegmentationNetwork(Network, nn.Module):
    """A network trained in one phase whose answer is its forward pass."""

    @staticmethod
    def mask_of(probability: np.ndarray, config: Any) -> np.ndarray:
        """The lesion in a map of probabilities.

        Args:
            probability: (H, W), 0 to 1.
            config: options, ``threshold`` among them.

        Returns:
            bool (H, W): the largest component at or above the threshold, without holes; all False where there is none.
        """
        return one_region(probability >= config.threshold)
