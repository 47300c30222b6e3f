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
    (2) B = Drop(C_1 [C_1 F_5; C_3^1 F_5; C_3^2 F_5; C_3^4 F_5; up(C_1 GAP F_5)])   C_k^r = ReLU BN conv, k x k, rate r
    (3) g = up(D_l),   s = sigmoid(w_p ReLU(W_x F + W_g g)),   F = F_{l-1}          s: (1, h, w)
    (4) c = sigmoid(W_2 ReLU(W_1 [GAP F; GAP g]))                                   c: (channels, 1, 1)
    (5) F' = s c F                                                                  dual attention gate
    (6) D_5 = B,   D_{l-1} = C_3 C_3 [g; F'] for l = 5 .. 2,   D_0 = C_3 C_3 up(D_1)
    (7) z = conv(D_0),   p = sigmoid(z),   L = BCE(z, t) + Dice(z, t)               skinkit.models.parts.losses

Shapes:
    image (n, 3, S, S), 0 to 1; B (n, w, S/32, S/32), D_4 .. D_0 have w, w/2, w/4, w/8 and 16 channels, w = ``decoder``;
    z, p, t (n, S, S). With EfficientNet-B3, S = 256 and w = 256: 15.5 million parameters.

Departures:
    Of the paper only the abstract and what others tell of it could be read: it names the parts (EfficientNet-B3, ASPP,
    dual attention gates) and no shape, loss or recipe. "Dual" is taken as spatial times channel. The usual rates 6, 12
    and 18 of eq. 2 lie outside of maps of 8 x 8 places, hence 1, 2 and 4; W_1 has an eighth of the channels. ``aspp``
    and ``gates`` leave parts out, for ablation; without both it is the decoder of eq. 6 alone. The recipe of the
    defaults is that of ``unet``, for two processor cores; the preset ``atiq2025`` is for a GPU. Averaged weights,
    mirrored photos and the largest component are as in ``unet``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.models import unet

_RATES = (1, 2, 4)
_REDUCTION = 8
_LAST = 16


@dataclass(frozen=True)
class Config(unet.Config):
    """Options of Deep-UNet; those of ``unet``, and its own parts."""

    aspp: Annotated[bool, "eq. 2; else a 1x1 convolution"] = True
    gates: Annotated[Literal["dual", "spatial", "channel", "none"], "eqs. 3 to 5, or one of the two factors"] = "dual"
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


class Net(nn.Module):
    """Eqs. 1 to 7 without the losses.

    Args:
        encoder: of segmentation-models-pytorch; answers the photo and five sizes of maps.
        config: options.

    Attributes:
        encoder: eq. 1.
        bottom: eq. 2.
        gates: eqs. 3 to 5, the coarsest first.
        stages: eq. 6, the coarsest first.
        output: eq. 7.
    """

    def __init__(self, encoder: Any, config: Config) -> None:
        super().__init__()
        self.encoder = encoder
        _, *finer, deepest = encoder.out_channels
        skips = finer[::-1]
        w = config.decoder
        widths = [w, *(max(_LAST, w >> level) for level in range(4))]
        self.bottom: nn.Module = Aspp(deepest, w, config.dropout) if config.aspp else convolution(deepest, w, 1)
        self.gates = nn.ModuleList(Gate(x, g, config.gates) for x, g in zip(skips, widths, strict=False))
        joined = [g + x for x, g in zip(skips, widths, strict=False)]
        self.stages = nn.ModuleList(twice(i, o) for i, o in zip(joined, widths[1:], strict=True))
        self.stages.append(twice(widths[-1], _LAST))
        self.output = nn.Conv2d(_LAST, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) normalised photos -> (n, 1, S, S) logits."""
        _, *skips, deepest = self.encoder(x)
        d = self.bottom(deepest)
        for stage, gate, skip in zip(self.stages, self.gates, reversed(skips), strict=False):
            g = doubled(d)
            d = stage(torch.cat([g, gate(skip, g)], 1))
        out: torch.Tensor = self.output(self.stages[-1](doubled(d)))
        return out


class Aspp(nn.Module):
    """Eq. 2.

    Args:
        channels: of F_5.
        width: of B.
        dropout: Drop.
    """

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [convolution(channels, width, 1), *(convolution(channels, width, 3, rate) for rate in _RATES)]
        )
        # Of one place there is no variance in a batch of one: without BatchNorm.
        self.whole = nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU())
        self.joined = convolution((len(self.branches) + 1) * width, width, 1)
        self.drop = nn.Dropout2d(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) -> (n, width, h, w)."""
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        out: torch.Tensor = self.drop(self.joined(torch.cat([*(branch(x) for branch in self.branches), whole], 1)))
        return out


class Gate(nn.Module):
    """Eqs. 3 to 5.

    Args:
        channels: of F.
        asking: of g.
        kind: ``dual``, ``spatial`` or ``channel``; ``none`` lets F pass.
    """

    def __init__(self, channels: int, asking: int, kind: str) -> None:
        super().__init__()
        half, few = max(1, channels // 2), max(1, (channels + asking) // _REDUCTION)
        self.kind = kind
        if kind in ("dual", "spatial"):
            self.of_skip = nn.Conv2d(channels, half, 1, bias=False)
            self.of_asking = nn.Conv2d(asking, half, 1)
            self.places = nn.Conv2d(half, 1, 1)
        if kind in ("dual", "channel"):
            self.squeeze = nn.Linear(channels + asking, few)
            self.excite = nn.Linear(few, channels)

    def forward(self, skip: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """F' of F (n, channels, h, w) and g (n, asking, h, w)."""
        out = skip
        if self.kind in ("dual", "spatial"):
            out = out * torch.sigmoid(self.places(functional.relu(self.of_skip(skip) + self.of_asking(g))))
        if self.kind in ("dual", "channel"):
            pooled = torch.cat([skip.mean((2, 3)), g.mean((2, 3))], 1)
            out = out * torch.sigmoid(self.excite(functional.relu(self.squeeze(pooled))))[:, :, None, None]
        return out


def convolution(channels: int, width: int, size: int, rate: int = 1) -> nn.Module:
    """ReLU BN conv of eq. 2, of the same height and width."""
    conv = nn.Conv2d(channels, width, size, padding=rate * (size // 2), dilation=rate, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


def twice(channels: int, width: int) -> nn.Module:
    """C_3 C_3 of eq. 6."""
    return nn.Sequential(convolution(channels, width, 3), convolution(width, width, 3))


def doubled(maps: torch.Tensor) -> torch.Tensor:
    """up(.) of eqs. 3 and 6: twice the height and width, bilinear."""
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)


MODEL = DeepUNet
