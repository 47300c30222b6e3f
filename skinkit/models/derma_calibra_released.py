"""DermaCalibra as its authors' code computes it, which differs from the paper.

Paper:
    B. Wang, Q. Niu, C. She, J. Zhang, W. Gao and L. Liu, "DermaCalibra: A Robust and Explainable Multimodal Framework
    for Skin Lesion Diagnosis via Bayesian Uncertainty and Dynamic Modulation", Diagnostics 16(4), 630, 2026,
    PMC12938916; the code released with it. ``skinkit.models.derma_calibra`` follows the paper's equations.

Idea:
    Metadata scale the channels of the photo's last maps twice. The pooled result attends to the metadata and to the
    maps of each earlier stage, and all of it together is classified.

Equations:
    (1) F_1 .. F_4 = layers 1 to 4 of ResNet-50 (x),   e = MLP(M)
    (2) s = sigmoid(SE(GAP(F_4))) sigmoid(G M) / (softplus(D M) + 1e-6),   F' = s * F_4         by channel; G, D: MLPs
    (3) F'' = F' + F' * sigmoid(W e),   z = GAP(F'')                                           by channel; W: an MLP
    (4) v_4 = z + attention(query z, key e, value e)                                           one key: softmax = 1
    (5) v_s = sum over places j of softmax_j(z . P_sj) P_sj,   P_s = padded 1 x 1 convolution of F_s,   s = 1, 2, 3
    (6) f = MLP_o([v_4; v_1; v_2; v_3])
    (7) L = mean_i alpha_{y_i} (1 - p_i)^gamma (-log p_i)                                      p_i: of the true class

Shapes:
    image (n, 3, S, S), 0 to 1; F_s (n, 256 to 2048, S/4 to S/32, ...); attributes M (n, a); e, z, v (n, 2048);
    f (n, K). With 81 columns and 6 classes: 72.1 million parameters.

Departures:
    Where v_4 takes its photo from is our choice: z plus the attention. The code calls D M an uncertainty; it is not
    sampled, and the loss knows none. The answer of the attention in eq. 4 does not depend on the photo. The border that
    the padding of eq. 5 adds, zeros and bias, is attended to as well. alpha is 2 for melanoma and squamous cell
    carcinoma and 1 for the others. No attribute is hidden in training. The rest of the recipe is that of
    ``derma_calibra``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.errors import ConfigError
from skinkit.models.parts.backbone import Maps
from skinkit.models.parts.class_weights import rare_class_weights
from skinkit.models.parts.losses import focal
from skinkit.models.parts.mlp import classifier_mlp, metadata_mlp
from skinkit.models.parts.photo_classifier import PhotoClassifier, PhotoConfig
from skinkit.models.parts.protocol import POSSIBLE, Presets, Sizes
from skinkit.models.parts.recipe import PhotoRecipe


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options of the network; the defaults are the code's."""

    recipe: Annotated[PhotoRecipe, "how it is trained"] = replace(PhotoConfig.recipe, snapshot_every=10)
    heads: Annotated[int, "heads of eq. 4"] = 8
    head_dropout: Annotated[float, "of MLP_o in eq. 6"] = 0.3
    focusing: Annotated[float, "gamma of eq. 7; 0 for plain cross-entropy"] = 2.0
    rare_weight: Annotated[float, "alpha of melanoma and squamous cell carcinoma in eq. 7"] = 2.0


class Released(PhotoClassifier):
    """Eqs. 1 to 7.

    Attributes:
        squeeze_excite: SE of eq. 2.
        gate: G of eq. 2.
        divisor: D of eq. 2.
        metadata: MLP of eq. 1.
        modulation: W of eq. 3.
        cross_attention: eq. 4.
        projections: P_1 to P_3 of eq. 5.
        output: MLP_o of eq. 6.
    """

    TASK = "classify"
    READS = ("image", "attributes")
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {"released": {}}
    ATTRIBUTES_FOR = "DermaCalibra's released code"
    HEATMAP = "gfa"

    alpha: torch.Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        *earlier, width = self.backbone.widths
        if config.heads < 1 or width % config.heads:
            raise ConfigError(f"heads = {config.heads}", f"a number that divides {width}", "give --settings heads=8")
        self.squeeze_excite = nn.Sequential(
            nn.Linear(width, width // 16, bias=False), nn.ReLU(), nn.Linear(width // 16, width, bias=False)
        )
        self.gate = nn.Sequential(nn.Linear(self.columns, 64), nn.ReLU(), nn.Linear(64, width))
        self.divisor = nn.Sequential(nn.Linear(self.columns, 64), nn.ReLU(), nn.Linear(64, width))
        self.metadata = metadata_mlp(self.columns, width, 0.1)
        self.modulation = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.cross_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.projections = nn.ModuleList(nn.Conv2d(channels, width, 1, padding=2) for channels in earlier)
        self.output = classifier_mlp(4 * width, width, len(sizes.answers), config.head_dropout)
        alpha = rare_class_weights(config.rare_weight, sizes) * self.class_weights
        self.register_buffer("alpha", alpha, persistent=False)

    @property
    def loss_weights(self) -> torch.Tensor:
        """(K,) alpha of eq. 7."""
        return self.alpha

    def keep(self, maps: Maps) -> Maps:
        """Layers 1 to 4."""
        return maps

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 7."""
        f = self(batch)["diagnosis"].float() + self.adjustment
        c = self.config
        return focal(f, batch["class"], self.alpha, c.focusing, c.recipe.label_smoothing, batch.get(POSSIBLE)).mean()

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 2 to 6: ``diagnosis`` (n, K) logits."""
        *earlier, maps = self.unpacked(seen)
        attributes = self.attributes(batch)
        gates = torch.sigmoid(self.squeeze_excite(maps.mean((2, 3)))) * torch.sigmoid(self.gate(attributes))
        maps = maps * (gates / (functional.softplus(self.divisor(attributes)) + 1e-6))[..., None, None]  # eq. 2
        e = self.metadata(attributes)
        maps = maps + maps * torch.sigmoid(self.modulation(e))[..., None, None]  # eq. 3
        pooled = maps.mean((2, 3))
        vectors = [pooled + self.crossed(pooled, e)]
        for project, stage in zip(self.projections, earlier, strict=True):  # eq. 5
            places = project(stage).flatten(2)  # (n, 2048, places), the border of zeros (and bias) among them
            weights = torch.softmax((pooled[:, None] @ places)[:, 0], 1)
            vectors.append((places @ weights[..., None])[..., 0])
        return {"diagnosis": self.output(torch.cat(vectors, 1))}

    def crossed(self, pooled: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """(n, 2048) of the attention in eq. 4: one key, so the same whatever ``pooled`` (n, 2048) is."""
        key = e[:, None]
        out: torch.Tensor = self.cross_attention(pooled[:, None], key, key, need_weights=False)[0][:, 0]
        return out


MODEL = Released
