"""A vision transformer with a linear head: what masked pretraining is fine-tuned as, from the huge to the tiny.

Paper:
    A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021.
    Fine-tuning: K. He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, sec. 4 and table 9. As
    teacher and student: F. Filho et al., "DerMAE: Improving skin lesion classification through conditioned latent
    diffusion and MAE distillation", arXiv:2602.19848, 2026. Mixing: H. Zhang et al., "mixup", ICLR 2018.

Idea:
    What a masked autoencoder (mae) has learnt about photos without labels is turned to classes: its decoder is gone,
    one linear layer reads the mean of the patches, and the lower a block lies the slower it forgets. A large one
    teaches a small one (--teacher), which runs on a phone.

Equations:
    (1) h = LN(ViT([c + e_0; W_e x_i + b_e + e_i]))                                      e: positions; c: class token
    (2) f = mean over patches of h_i
    (3) z = W f + b,   p = softmax(z)
    (4) x~ = s x + (1 - s) x_j,   L = s H(z~, y) + (1 - s) H(z~, y_j)      s ~ Beta(m, m), j: another case of the batch
    (5) H = sum_i w_i a_{y_i} CE(z_i, y_i) / sum_i w_i a_{y_i}             w: of a synthetic photo; a: of a class
    (6) rate of block l of L: the rate times decay^(L + 1 - l); of what comes before the blocks times decay^(L + 1)

Shapes:
    image (n, 3, S, S), 0 to 1; h (n, 1 + N, D), N = (S / patch)^2; f (n, D); z (n, K).

    preset  network               S    patch  N    D, blocks, heads  parameters but for eq. 3
    h14     vit_huge_patch14      224  14     256  1280, 32, 16      630,764,800
    b16     vit_base_patch16      224  16     196  768, 12, 12       85,798,656
    s16     deit_small_patch16    224  16     196  384, 12, 6        21,665,664
    ti16    deit_tiny_patch16     224  16     196  192, 12, 3        5,524,416
    quick   vit_patch8_192x6x3    64   8      64   192, 6, 3         2,719,296
    quick_student  vit_patch8_128x6x4  64  8  64   128, 6, 4         1,223,040

Departures:
    LN comes before the mean of eq. 2, with the weights it was pretrained with; He's is new and comes after it. Weight
    decay also holds for biases and norms. Photos are flipped, turned, enlarged and recoloured in place of RandAugment.
    Of DerMAE the abstract could be read, which gives no recipe. Ours: the teachers h14 and b16 mix photos (0.4), leave
    out more blocks (0.2) and count synthetic photos half; the smaller ones, which are taught, mix nothing, because a
    teacher answers for photos as they are. All of quick is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import nn

from skinkit.errors import ConfigError
from skinkit.models.parts.losses import cross_entropies
from skinkit.models.parts.photo_classifier import PhotoConfig, PooledClassifier
from skinkit.models.parts.protocol import COHORT, POSSIBLE, TRUTH, Augment, Presets, Sizes
from skinkit.models.parts.recipe import Augmented, PhotoRecipe
from skinkit.models.parts.vision_transformer import Checkpointing, PlainViT, drop_paths, plain_vit, refuse_other_grid
from skinkit.schemas import SYNTHETIC_COHORT

_QUICK: dict[str, Any] = {
    "side_px": 64,
    "recipe": {"epochs": 20, "batch": 32, "most_steps": 150, "learning_rate": 5e-4, "candidates": 0.5},
}
"""What the two small sizes share."""


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options of the vision transformer."""

    backbone: PlainViT = "timm/deit_small_patch16_224"
    recipe: Annotated[PhotoRecipe, "how it is trained"] = PhotoRecipe(
        epochs=50,
        batch=64,
        learning_rate=2.5e-4,
        weight_decay=0.05,
        schedule="one_cycle",
        warm_up=0.1,
        label_smoothing=0.1,
        layer_decay=0.75,
    )
    augment: Augmented = Augment(
        rotation_deg=45.0, largest_scale=1.3, shift=0.1, brightness=0.15, contrast=0.15, saturation=0.15
    )
    drop_path: Annotated[float, "share of the cases for which the last block is left out in training"] = 0.1
    mixup: Annotated[float, "m of eq. 4; 0 mixes nothing"] = 0.0
    synthetic_weight: Annotated[float, "w of eq. 5, of the images of --synthetic; 1 counts them as real ones"] = 1.0
    checkpointing: Checkpointing = False


class VisionTransformer(PooledClassifier):
    """Eqs. 1 to 6.

    Attributes:
        output: eq. 3.
        row_weights: (cohorts,) w of eq. 5.
    """

    TASK = "classify"
    READS = ("image",)
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {
        "h14": {
            "backbone": "timm/vit_huge_patch14_224.mae",
            "drop_path": 0.2,
            "mixup": 0.4,
            "synthetic_weight": 0.5,
            "checkpointing": True,
        },
        "b16": {
            "backbone": "timm/vit_base_patch16_224.mae",
            "drop_path": 0.2,
            "mixup": 0.4,
            "synthetic_weight": 0.5,
        },
        "s16": {},
        "ti16": {"backbone": "timm/deit_tiny_patch16_224"},
        "quick": {**_QUICK, "backbone": "timm/vit_patch8_192x6x3"},
        "quick_student": {**_QUICK, "backbone": "timm/vit_patch8_128x6x4"},
    }

    row_weights: torch.Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        if not (0 <= config.drop_path < 1 and config.mixup >= 0 and 0 < config.synthetic_weight <= 1):
            raise ConfigError(
                f"drop_path = {config.drop_path}, mixup = {config.mixup}, synthetic_weight = {config.synthetic_weight}",
                "drop_path from 0 to below 1, mixup of at least 0, synthetic_weight above 0 to 1",
                "correct the settings",
            )
        vit = plain_vit(self.backbone)
        vit.set_grad_checkpointing(config.checkpointing)
        drop_paths(vit, config.drop_path)
        self.output = nn.Linear(self.backbone.widths[-1], len(sizes.answers))
        synthetic = torch.tensor([name.startswith(SYNTHETIC_COHORT) for name in sizes.cohorts], dtype=torch.bool)
        self.register_buffer("row_weights", torch.where(synthetic, config.synthetic_weight, 1.0), persistent=False)

    @classmethod
    def synthetic_weight(cls, config: Config) -> float:
        """W of eq. 5."""
        return config.synthetic_weight

    @classmethod
    def mixed(cls, config: Config) -> bool:
        """With eq. 4."""
        return config.mixup > 0

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over the backbone of a pretraining, or public weights.

        Raises:
            InputError: they are another network's, of other patches or of photos of another side.
        """
        refuse_other_grid(self.backbone, state, source)
        return super().start(state, source)

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 5, of mixed photos eq. 4."""
        if not self.training or not self.config.mixup:
            return super().loss(batch)
        mixed, partners, share = _mixed(batch, self.config.mixup)
        logits = self(mixed)["diagnosis"]
        of_partners = {name: batch[name][partners] for name in (TRUTH, POSSIBLE, COHORT) if name in batch}
        return share * self.weighted(logits, batch) + (1 - share) * self.weighted(logits, of_partners)

    def weighted(self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 5 of logits (n, K)."""
        if COHORT not in batch or bool((self.row_weights == 1).all()):
            return super().weighted(logits, batch)
        truth, adjusted = batch[TRUTH], logits.float() + self.adjustment
        smoothing = self.config.recipe.label_smoothing
        losses = cross_entropies(adjusted, truth, self.class_weights, smoothing, batch.get(POSSIBLE))
        w = self.row_weights[batch[COHORT]]
        return (w * losses).sum() / (w * self.class_weights[truth]).sum()

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eq. 3: ``diagnosis`` (n, K) logits of f (n, D)."""
        return {"diagnosis": self.output(seen)}


def _mixed(batch: Mapping[str, torch.Tensor], m: float) -> tuple[Mapping[str, torch.Tensor], torch.Tensor, float]:
    """A batch of photos mixed by eq. 4, the number of each case's partner, and s."""
    image = batch["image"]
    share = float(torch.distributions.Beta(m, m).sample())
    partners = torch.randperm(len(image)).to(image.device)
    return {"image": share * image + (1 - share) * image[partners]}, partners, share


MODEL = VisionTransformer
