"""MetaBlock: metadata decide which features of the photo count.

Paper:
    A. G. C. Pacheco and R. A. Krohling, "An attention-based mechanism to combine images and metadata in deep learning
    models applied to skin cancer classification", IEEE Journal of Biomedical and Health Informatics 25(9), 2021, doi
    10.1109/JBHI.2021.3062002.

Idea:
    Like the gates of an LSTM: one function of the metadata scales groups of features, a second one shifts them, and a
    sigmoid lets through what both agree on.

Equations:
    (1) V = GAP(F), read as 64 maps of 32                                            F: the backbone's last maps
    (2) f = BN(W_f M + b_f),   g = BN(W_g M + b_g)                                   one number per map
    (3) V' = sigmoid(tanh(V * f) + g)
    (4) p = softmax(W_o V' + b_o)

Shapes:
    image (n, 3, S, S), 0 to 1; F (n, 2048, S/32, S/32); V (n, 64, 32); attributes M (n, a); f, g (n, 64, 1); p (n, K).
    With ResNet-50, 81 columns and 6 classes: 23.53 million parameters.

Departures:
    None in eqs. 1 to 4; with a narrower backbone the 64 maps are shorter. The recipe is that of DermaCalibra
    (Diagnostics 16(4), 630, 2026), the same for every comparator, and not the paper's own.
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
    """Options of MetaBlock."""

    maps: Annotated[int, "maps V is read as in eq. 1"] = 64


class MetaBlock(PooledClassifier):
    """Eqs. 1 to 4.

    Attributes:
        scale: f of eq. 2.
        shift: g of eq. 2.
        output: eq. 4.
    """

    TASK = "classify"
    READS = ("image", "attributes")
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {"dermacalibra": {}, "quick": QUICK}
    ATTRIBUTES_FOR = "MetaBlock"

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        n = config.maps
        as_maps(self.reference_embedding[None], n)
        self.scale = nn.Sequential(nn.Linear(self.columns, n), nn.BatchNorm1d(n))
        self.shift = nn.Sequential(nn.Linear(self.columns, n), nn.BatchNorm1d(n))
        self.output = nn.Linear(self.backbone.widths[-1], len(sizes.answers))

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 2 to 4: ``diagnosis`` (n, K) logits of V (n, 2048) and attributes (n, a)."""
        m, v = self.attributes(batch), as_maps(seen, self.config.maps)
        f, g = self.scale(m)[:, :, None], self.shift(m)[:, :, None]
        gated = torch.sigmoid(torch.tanh(v * f) + g)  # eq. 3
        return {"diagnosis": self.output(gated.flatten(1))}


MODEL = MetaBlock
