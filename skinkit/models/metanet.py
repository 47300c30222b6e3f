"""MetaNet: metadata switch features of the photo on and off.

Paper:
    W. Li, J. Zhuang, R. Wang, J. Zhang and W.-S. Zheng, "Fusing metadata and dermoscopy images for skin disease
    diagnosis", ISBI 2020, doi 10.1109/ISBI45749.2020.9098645; in the form that Pacheco and Krohling compare MetaBlock
    with (IEEE Journal of Biomedical and Health Informatics 25(9), 2021, doi 10.1109/JBHI.2021.3062002).

Idea:
    A small network of the metadata answers one number between 0 and 1 for each group of features, and multiplies it.

Equations:
    (1) V = GAP(F), read as 32 maps of 8 x 8                                         F: the backbone's last maps
    (2) a = sigmoid(W_2 ReLU(W_1 M + b_1) + b_2)                                     1 x 1 convolutions of M, 64 wide
    (3) p = softmax(W_o (a * V) + b_o)

Shapes:
    image (n, 3, S, S), 0 to 1; F (n, 2048, S/32, S/32); V (n, 32, 64); attributes M (n, a); a (n, 32, 1); p (n, K).
    With ResNet-50, 81 columns and 6 classes: 23.53 million parameters.

Departures:
    A 1 x 1 convolution of a single place is a linear layer, and is written as one. With a narrower backbone the 32 maps
    are smaller. The recipe is that of DermaCalibra (Diagnostics 16(4), 630, 2026), the same for every comparator, and
    not the paper's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import nn

from skinkit.models.parts.photo_classifier import PhotoConfig, PooledClassifier, as_maps
from skinkit.models.parts.protocol import Presets, Sizes
from skinkit.models.parts.recipe import QUICK


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options of MetaNet."""

    hidden: Annotated[int, "width between W_1 and W_2 in eq. 2"] = 64
    maps: Annotated[int, "maps V is read as in eq. 1"] = 32


class MetaNet(PooledClassifier):
    """Eqs. 1 to 3.

    Attributes:
        gate: eq. 2.
        output: eq. 3.
    """

    TASK = "classify"
    READS = ("image", "attributes")
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {"dermacalibra": {}, "quick": QUICK}
    ATTRIBUTES_FOR = "MetaNet"

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        as_maps(self.reference_embedding[None], config.maps)
        self.gate = nn.Sequential(
            nn.Linear(self.columns, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.maps), nn.Sigmoid()
        )
        self.output = nn.Linear(self.backbone.widths[-1], len(sizes.answers))

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 2 and 3: ``diagnosis`` (n, K) logits of V (n, 2048) and attributes (n, a)."""
        a = self.gate(self.attributes(batch))[:, :, None]
        return {"diagnosis": self.output((a * as_maps(seen, self.config.maps)).flatten(1))}


MODEL = MetaNet
