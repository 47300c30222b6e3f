"""Visually aware, metadata-guided attention over several scales (Pundhir 2022).

Paper:
    A. Pundhir, S. Agarwal, S. Dadhich and B. Raman, "Visually Aware Metadata-Guided Supervision for Improved Skin
    Lesion Classification Using Deep Learning", 2022: the comparator "Visual" of DermaCalibra (Diagnostics 16(4), 630,
    2026). Attention by dot product with the global vector: S. Jetley et al., "Learn to pay attention", ICLR 2018.

Idea:
    Metadata scale the photo's global vector. That vector then asks the earlier, finer maps of the backbone where
    something like it is to be seen, and what it finds at each scale is classified together with it.

Equations:
    (1) F_1 .. F_4: layers 1 to 4 of ResNet-50,   g = GAP(F_4) * MLP(M)
    (2) X_s = W_s F_s + b_s at every place, with a border of two places of zeros about F_s;   s = 1, 2, 3
    (3) v_s = sum_i softmax_i(X_s,i . g) X_s,i
    (4) p = softmax(MLP_o [v_1; v_2; v_3; g])
    (5) L = sum_i w_{y_i} l(p_i, y_i) / sum_i w_{y_i},   w_c = N / n_c                l: cross-entropy, n_c: cases of c

Shapes:
    image (n, 3, S, S), 0 to 1; F_s (n, 256 2^(s-1), S/2^(s+1), S/2^(s+1)); attributes M (n, a); MLP: a -> 512 -> 2048;
    g, v_s (n, 2048); MLP_o: 8192 -> 2048 -> 512 -> K; p (n, K). With 81 columns and 6 classes: 46.1 million parameters.

Departures:
    Known of it are the sizes, dropout, class weights, the plateau schedule and the number of parameters; the optimiser
    and its rates are those of DermaCalibra. A squeeze-and-excitation block on F_4 would make it 46.6 million and is
    left out. The MLPs have BatchNorm and ReLU in MLP and ReLU in MLP_o.
    X_s is never written down: X_i . g = F_i . (W^T g) + b . g, the last term is the same for every place and leaves
    the softmax alone, and since the weights add up to 1, v = W (sum_i a_i F_i) + b. At layer 1 of a photo of 224 px
    that saves 3600 places of 2048 numbers. The border is kept: zeros that take part in eq. 3, with the bias for a
    score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from torch import nn

from skinkit.models.parts.backbone import Maps
from skinkit.models.parts.mlp import classifier_mlp, metadata_mlp
from skinkit.models.parts.photo_classifier import PhotoClassifier, PhotoConfig
from skinkit.models.parts.protocol import Presets, Sizes
from skinkit.models.parts.recipe import LIVE, QUICK, PhotoRecipe, merged

_BORDER = 2


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options of the network; the defaults are the paper's, where it is known."""

    recipe: Annotated[PhotoRecipe, "how it is trained"] = replace(
        PhotoConfig.recipe, schedule="plateau", class_weights="inverse"
    )
    metadata_dropout: Annotated[float, "of the MLP of eq. 1"] = 0.2
    dropout: Annotated[float, "of the MLP of eq. 4"] = 0.4


class Pundhir(PhotoClassifier):
    """Eqs. 1 to 5.

    Attributes:
        metadata: MLP of eq. 1.
        attention: eqs. 2 and 3, one for each of layers 1 to 3.
        output: MLP_o of eq. 4.
    """

    TASK = "classify"
    READS = ("image", "attributes")
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {"visual": {}, "quick": merged(QUICK, LIVE)}
    ATTRIBUTES_FOR = "the attention of Pundhir 2022"

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        *earlier, width = self.backbone.widths
        self.metadata = metadata_mlp(self.columns, width, config.metadata_dropout)
        self.attention = nn.ModuleList(Attention(channels, width) for channels in earlier)
        self.output = classifier_mlp((1 + len(earlier)) * width, width, len(sizes.answers), config.dropout)

    def keep(self, maps: Maps) -> Maps:
        """F_1 to F_3, and the pooled F_4."""
        return (*maps[:-1], maps[-1].mean((2, 3)))

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 1 to 4: ``diagnosis`` (n, K) logits of what :meth:`encode` answers and attributes (n, a)."""
        *earlier, pooled = self.unpacked(seen)
        g = pooled * self.metadata(self.attributes(batch))
        attended = [attend(maps, g) for attend, maps in zip(self.attention, earlier, strict=True)]
        return {"diagnosis": self.output(torch.cat([*attended, g], 1))}


class Attention(nn.Module):
    """Eqs. 2 and 3 for one layer.

    Args:
        channels: of its maps.
        width: of g.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)

    def forward(self, maps: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """(n, width) v of maps (n, channels, h, w) and g (n, width)."""
        height, width = maps.shape[2:]
        places = maps.flatten(2)
        scores = ((g @ self.project.weight)[:, None] @ places)[:, 0]
        border = (height + 2 * _BORDER) * (width + 2 * _BORDER) - height * width
        # The border's places all have the score 0: together they count as one of them times their number.
        beside = scores.new_full((len(scores), 1), float(border)).log()
        weights = torch.softmax(torch.cat([scores, beside], 1), 1)[:, :-1]
        return self.project((places @ weights[:, :, None])[:, :, 0])  # type: ignore[no-any-return]


MODEL = Pundhir
