"""Meta-domain contrast: photos of one diagnosis lie together however they were taken; a backbone to start from.

Paper:
    R. Mota et al., "Contrastive meta-domain adaptation for robust skin lesion classification across clinical and
    acquisition conditions", arXiv:2602.19857, 2026. Supervised contrast: P. Khosla et al., NeurIPS 2020; without
    labels: T. Chen et al., ICML 2020. Gradient reversal: Y. Ganin et al., JMLR 17, 2016.

Idea:
    Each photo is shown twice, as two different ways of taking it (hair, frame, blur, distance, ...) would. What is
    learnt must bring both together, and photos of the same class from other meta-domains too; photos of a class from
    the same meta-domain neither attract nor repel each other: their likeness may be that of how they were taken.

Equations:
    (1) z = g(f(x)) of length 1                     f: backbone, mean over places; g: two layers to 128
    (2) P_i = {the other view of i} + {p: y_p = y_i known, d_p != d_i}        d: meta-domain of a view
    (3) N_i = all others but {a: y_a = y_i known, d_a = d_i}, and the other view of i
    (4) L = mean over i of - 1/|P_i| sum over p in P_i of log(exp(z_i z_p / t) / sum over a in N_i of exp(z_i z_a / t))
    (5) L - lambda H(h(R f)),  H: cross-entropy of a classifier h of d behind a gradient reversal R; lambda: 0

Shapes:
    image (n, 3, S, S), 0 to 1; f (n, width); z (n, 128); batches hold both views, one block after the other.

Departures:
    Of the paper abstract and digests could be read; transforms, backbone, loss and recipe are ours. Photos without a
    diagnosis have their own other view as their only positive (NT-Xent). A view that was not changed has the
    meta-domain of its cohort. Eq. 5 is off: where classes are spread unevenly over domains it can remove what
    separates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.errors import ConfigError
from skinkit.models.parts import recipe
from skinkit.models.parts.backbone import Backbone
from skinkit.models.parts.objectives import DomainContrastive
from skinkit.models.parts.protocol import (
    META_DOMAIN,
    META_DOMAINS,
    Augment,
    Network,
    Phase,
    Presets,
    SidePx,
    Sizes,
)
from skinkit.models.parts.recipe import Augmented, Recipe

_CONTRAST = DomainContrastive()
_WIDTHS = 512, 128
"""Of g."""


@dataclass(frozen=True)
class Config:
    """Options of the pretraining."""

    backbone: Annotated[str, "f: torchvision's name, or timm/ and timm's"] = "resnet50"
    side_px: SidePx = 224
    recipe: Annotated[Recipe, "how it is trained"] = Recipe(
        epochs=100, batch=128, learning_rate=3e-4, weight_decay=1e-4, schedule="cosine"
    )
    augment: Augmented = Augment(
        smallest_scale=1.0, largest_scale=1.6, shift=0.1, rotation_deg=90.0, meta_domains="all", meta_share=1.0
    )
    frozen_stages: Annotated[int, "lowest stages of the backbone, of four, that are left as they are"] = 0
    objective: Annotated[DomainContrastive, "eqs. 2 to 4"] = _CONTRAST
    adversary: Annotated[float, "lambda of eq. 5; 0 for none"] = 0.0


class MetaContrast(Network, nn.Module):
    """Eqs. 1 to 5.

    Attributes:
        backbone: f.
        projector: g.
        adversary: h of eq. 5.
    """

    TASK = "pretrain"
    READS = ("image",)
    LABELLED = True
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {
        "mota2026": {},
        "quick": {
            "backbone": "timm/tf_efficientnet_lite0",
            "side_px": 160,
            "frozen_stages": 2,
            "recipe": {"epochs": 8, "batch": 32, "most_steps": 100},
            "augment": {"meta_strength": 0.7},
        },
    }

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        recipe.check(config)
        if not 0 <= config.frozen_stages < 4 or config.adversary < 0:
            raise ConfigError(
                f"frozen_stages = {config.frozen_stages}, adversary = {config.adversary}",
                "0 to 3 stages, and an adversary of at least 0",
                "correct the settings",
            )
        self.config = config
        self.backbone = Backbone(config.backbone, config.side_px)
        width, (hidden, out) = self.backbone.widths[-1], _WIDTHS
        self.projector = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))
        if config.adversary:
            domains = len(META_DOMAINS) + max(1, len(sizes.cohorts))
            self.adversary = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, domains))

    @classmethod
    def default_weights(cls, config: Config) -> str:
        """ImageNet weights of the backbone."""
        return config.backbone

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over public weights of the backbone."""
        return self.backbone.start(state, source)

    def phases(self) -> tuple[Phase, ...]:
        """One."""
        return (recipe.phase("all", self.config),)

    def enter(self, phase: str) -> None:
        """The lowest stages rest, where that is asked for."""
        self.backbone.requires_grad_(True)
        self.backbone.freeze(self.config.frozen_stages)

    def objective(self) -> DomainContrastive:
        """Eqs. 2 to 4, and eq. 5 beside them."""
        return self.config.objective

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``embedding`` (n, 128) z before it has length 1, and ``beside``, what eq. 5 adds to the loss."""
        f = self.backbone(batch["image"])[-1].mean((2, 3))
        out = {"embedding": self.projector(f)}
        if self.config.adversary and META_DOMAIN in batch:
            logits = self.adversary(_Reversed.apply(f))
            beside = self.config.adversary * functional.cross_entropy(logits.float(), batch[META_DOMAIN])
            out["beside"] = beside
        return out

    def backbone_state(self) -> dict[str, torch.Tensor]:
        """The backbone's weights, under its library's names."""
        return self.backbone.own_state()


class _Reversed(torch.autograd.Function):
    """The R of eq. 5: passes on what it gets, and turns the sign of the gradient."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        """The values."""
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient, reversed."""
        return -gradient


MODEL = MetaContrast
