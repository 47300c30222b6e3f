"""Deep-UNet: a U-Net with an ASPP bottleneck and dual attention gates on its skip connections.

Paper:
    Md. E. Atiq and S. A. Fattah, "Towards Explainable Skin Cancer Classification: A Dual-Network Attention Model with
    Lesion Segmentation and Clinical Metadata Fusion", arXiv:2510.17773, 2025. ASPP: L.-C. Chen et al., "Rethinking
    Atrous Convolution for Semantic Image Segmentation", arXiv:1706.05587. Attention gates: O. Oktay et al., "Attention
    U-Net: Learning Where to Look for the Pancreas", MIDL 2018, arXiv:1804.03999. Channel gates: J. Hu et al.,
    "Squeeze-and-Excitation Networks", CVPR 2018, doi 10.1109/CVPR.2018.00745.

Idea:
    The coarsest maps are read at several widths at once, so that lesions of all sizes are seen whole. What the encoder
    hands to the decoder on the way up passes a gate, which asks the coarser level twice: where to look, and for what.

Equations:
    (1) F_1 .. F_5 = encoder(x)                                                     F_l: side / 2^l
    (2) B = Drop(C_1 [C_1 F_5; C_3^a F_5; C_3^b F_5; C_3^c F_5; up(C_1 GAP F_5)])   C_k^r = ReLU BN conv, k x k, rate r
        c = side / 64, rounded up; b = c / 2 and a = c / 4, rounded and at least 1
    (3) g = up(D_l),   s = sigmoid(w_p ReLU(W_x F + W_g g)),   F = F_{l-1}          s: (1, h, w)
    (4) c = sigmoid(W_2 ReLU(W_1 [GAP F; GAP g]))                                   c: (channels, 1, 1)
    (5) F' = s c F                                                                  dual attention gate
    (6) D_5 = B,   D_{l-1} = C_3 C_3 [g; F'] for l = 5 .. 2,   D_0 = C_3 C_3 up(D_1)
    (7) z = conv(D_0),   p = sigmoid(z),   L = BCE(z, t) + Dice(z, t)               skinkit.models.parts.losses

Shapes:
    image (n, 3, S, S), 0 to 1; B (n, w, S/32, S/32), D_4 .. D_0 have w, w/2, w/4, w/8 and 16 channels, w = ``decoder``;
    z, p, t (n, S, S). With EfficientNet-B3, S = 256 and w = 256: 15.5 million parameters.

Departures:
    Of the paper only the abstract and descriptions by others could be read: it names the parts (EfficientNet-B3, ASPP,
    dual attention gates) and no shape, loss or recipe. "Dual" is taken as spatial times channel. The usual rates 6, 12
    and 18 of eq. 2 lie outside of maps of 8 x 8 places; ours reach half of them, at 224 and 256 px 1, 2 and 4. A model
    of another size that learnt before they followed it keeps those. W_1 has an eighth of the channels. ``aspp`` and
    ``gates`` leave parts out, for ablation; without both it is the decoder of eq. 6 alone. The recipe of the
    defaults is that of ``unet``, for two processor cores; the preset ``atiq2025`` is for a GPU. Averaged weights,
    mirrored photos and the largest component are as in ``unet``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from skinkit.models import unet
from skinkit.models.parts.dual_attention import Decoder, Gates


@dataclass(frozen=True)
class Config(unet.Config):
    """Options of Deep-UNet; those of ``unet``, and its own parts."""

    aspp: Annotated[bool, "eq. 2; else a 1x1 convolution"] = True
    gates: Annotated[Gates, "eqs. 3 to 5, or one of the two factors"] = "dual"
    dropout: Annotated[float, "Drop of eq. 2"] = 0.1


PRESETS: dict[str, dict[str, Any]] = {
    "atiq2025": {
        "encoder": "tu-tf_efficientnet_b3",
        "side_px": 256,
        "decoder": 256,
        "encoder_rate": 1e-4,
        "frozen_stages": 0,
        "recipe": {
            "epochs": 60,
            "steps": 0,
            "learning_rate": 3e-4,
            "weight_decay": 1e-4,
            "schedule": "cosine",
            "averaged": 0.0,
        },
        "augment": {"smallest_scale": 0.9, "largest_scale": 1.1, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
    },
}


class DeepUNet(unet.UNet):
    """Eqs. 1 to 7."""

    TASK = "segment"
    READS = ("image",)
    CONFIG = Config
    PRESETS = PRESETS
    config: Config

    def _built(self) -> nn.Module:
        return Net(smp.encoders.get_encoder(self.config.encoder, weights=None), self.config)


class Net(Decoder):
    """Eqs. 1 to 7 without the losses.

    Args:
        encoder: of segmentation-models-pytorch; answers the photo and five sizes of maps.
        config: options.

    Attributes:
        encoder: eq. 1.
    """

    def __init__(self, encoder: Any, config: Config) -> None:
        _, *finer, deepest = encoder.out_channels
        super().__init__(
            finer,
            deepest,
            config.decoder,
            places=config.side_px // 2 ** len(encoder.out_channels[1:]),
            aspp=config.aspp,
            gates=config.gates,
            dropout=config.dropout,
        )
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) normalised photos -> (n, 1, S, S) logits."""
        _, *skips, deepest = self.encoder(x)
        return self.decoded(skips, deepest)


MODEL = DeepUNet
