"""Photo and metadata side by side: the plain fusion that others must beat.

Paper:
    A. G. C. Pacheco and R. A. Krohling, "The impact of patient clinical information on automated skin cancer
    detection", Computers in Biology and Medicine 116, 2020, doi 10.1016/j.compbiomed.2019.103545, joins them so; the
    comparators of DermaCalibra (Diagnostics 16(4), 630, 2026) hold it as well. Backbone: K. He et al., "Deep Residual
    Learning for Image Recognition", CVPR 2016, doi 10.1109/CVPR.2016.90.

Idea:
    The photo becomes one vector, the metadata another, and one linear layer weighs both. Trained without attributes it
    is the backbone alone, and the difference of the two is what metadata are worth.

Equations:
    (1) f = GAP(F)                                                                   F: the backbone's last maps
    (2) h = ReLU(BN(W_m M + b_m))
    (3) p = softmax(W_o Drop([f; h]) + b_o)

Shapes:
    image (n, 3, S, S), 0 to 1; F (n, 2048, S/32, S/32); f (n, 2048); attributes M (n, a); h (n, 256); p (n, K).

Departures:
    The width of h and the dropout are ours. The paper first makes f narrower, by a factor it tunes; here eq. 3 weighs
    both at their own width. The recipe is that of DermaCalibra, the same for every comparator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import nn

from skinkit.models.parts.photo_classifier import PhotoConfig, PooledClassifier
from skinkit.models.parts.protocol import Presets, Sizes
from skinkit.models.parts.recipe import QUICK


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options of the concatenation."""

    hidden: Annotated[int, "width of h in eq. 2"] = 256
    dropout: Annotated[float, "Drop of eq. 3"] = 0.0


class Concat(PooledClassifier):
    """Eqs. 1 to 3.

    Attributes:
        metadata: eq. 2; None where there is no attribute.
        output: eq. 3.
    """

    TASK = "classify"
    READS = ("image", "attributes")
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {"dermacalibra": {}, "quick": QUICK}

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = self.backbone.widths[-1]
        self.metadata = (
            nn.Sequential(nn.Linear(self.columns, config.hidden), nn.BatchNorm1d(config.hidden), nn.ReLU())
            if self.columns
            else None
        )
        joined = width + (config.hidden if self.columns else 0)
        self.output = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(joined, len(sizes.answers)))

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 2 and 3: ``diagnosis`` (n, K) logits of f (n, 2048) and attributes (n, a)."""
        if self.metadata is None:
            return {"diagnosis": self.output(seen)}
        return {"diagnosis": self.output(torch.cat([seen, self.metadata(self.attributes(batch))], 1))}


MODEL = Concat
