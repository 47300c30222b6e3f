"""Photo times metadata, with super-resolution as a second task (Khurshid 2024).

Paper:
    M. Khurshid, M. Vatsa and R. Singh, "Optimizing Skin Lesion Classification via Multimodal Data and Auxiliary Task
    Integration", 2024, arXiv:2402.10454. Sub-pixel convolution: W. Shi et al., "Real-Time Single Image and Video
    Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016, doi 10.1109/CVPR.2016.207.

Idea:
    A network that has to draw the photo at twice its size must keep the fine detail that distinguishes lesions. So the
    network that classifies a small photo also learns to enlarge it; in use it answers the classes alone.

Equations:
    (1) x = the photo y at half its size,   F_1 .. F_4: stages of the backbone on x
    (2) v = GAP(F_4) * MLP(M)
    (3) p = softmax(W_o v + b_o)
    (4) y^ = up(x) + shuffle(W_u ReLU(C sum_s up(W_s F_s)))                            C: 3 x 3 convolution
    (5) L = 0.5 L_wce + 1.0 L_SR,   L_SR = mean |y - y^|
    (6) L_wce = sum_i w_{y_i} l(p_i, y_i) / sum_i w_{y_i},   w_c = N / (K n_c)        l: cross-entropy, n_c: cases of c

Shapes:
    image y (n, 3, S, S), 0 to 1; x (n, 3, S/2, S/2); attributes M (n, a); MLP: a -> 512 -> 2048; v (n, 2048); the
    stages meet 64 channels wide at S/8; W_u answers 3 x 8 x 8 channels there, shuffled to (n, 3, S, S); p (n, K).

Departures:
    The paper gives eq. 2 without the widths of its metadata encoder, eq. 5 with its weights, and the factor 2; the
    widths, the drawing part (eq. 4) and the absolute error in L_SR are ours. It tries several backbones; ResNet-50 is
    the default here because every comparator has it. The photo is loaded at 448 px so that the backbone sees 224. The
    recipe is otherwise that of DermaCalibra (Diagnostics 16(4), 630, 2026), the same for every comparator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.errors import ConfigError
from skinkit.models.parts.backbone import SMALLEST_SIDE_PX, Maps
from skinkit.models.parts.mlp import metadata_mlp
from skinkit.models.parts.photo_classifier import PhotoConfig, PooledClassifier
from skinkit.models.parts.protocol import Presets, Sizes
from skinkit.models.parts.recipe import LIVE, QUICK, PhotoRecipe, merged

_FINEST = 8
"""Places of F_1 lie so many pixels of y apart."""


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options of the network; the defaults are the paper's, where it reports them."""

    side_px: Annotated[int, "photos are resized to this square, pixels; the network sees it at half its side"] = 448
    recipe: Annotated[PhotoRecipe, "how it is trained"] = replace(PhotoConfig.recipe, class_weights="inverse")
    class_share: Annotated[float, "weight of L_wce in eq. 5"] = 0.5
    detail_share: Annotated[float, "weight of L_SR in eq. 5; 0 leaves the second task out"] = 1.0
    drawing_width: Annotated[int, "channels in which the stages meet in eq. 4"] = 64


class Khurshid(PooledClassifier):
    """Eqs. 1 to 6.

    Attributes:
        metadata: MLP of eq. 2.
        output: eq. 3.
        draw: eq. 4; None where ``detail_share`` is 0.
    """

    TASK = "classify"
    READS = ("image", "attributes")
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {"khurshid2024": {}, "quick": merged(QUICK, LIVE)}
    ATTRIBUTES_FOR = "the fusion of Khurshid 2024"

    def __init__(self, config: Config, sizes: Sizes) -> None:
        step = 2 * SMALLEST_SIDE_PX
        if config.side_px < step or config.side_px % step:
            raise ConfigError(f"side_px = {config.side_px}", f"a multiple of {step} pixels", "use 320 or 448")
        super().__init__(config, sizes)
        width = self.backbone.widths[-1]
        self.metadata = metadata_mlp(self.columns, width)
        self.output = nn.Linear(width, len(sizes.answers))
        if config.detail_share and self.backbone.strides[0] * 2 != _FINEST:
            raise ConfigError(
                f"backbone {config.backbone}, whose finest maps lie {self.backbone.strides[0]} pixels apart",
                f"a pyramid from {_FINEST // 2} pixels on, for eq. 4",
                "use a convolutional network or a Swin, or detail_share=0",
            )
        self.draw = Drawing(self.backbone.widths, config.drawing_width) if config.detail_share else None

    def picture(self, image: torch.Tensor) -> torch.Tensor:
        """(n, 3, S/2, S/2) x of eq. 1."""
        return functional.avg_pool2d(image, 2)

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 2 and 3: ``diagnosis`` (n, K) logits of GAP(F_4) (n, 2048) and attributes (n, a)."""
        return {"diagnosis": self.output(seen * self.metadata(self.attributes(batch)))}

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eqs. 5 and 6."""
        c, x = self.config, self.picture(batch["image"])
        maps = self.backbone(x)
        loss: torch.Tensor = c.class_share * self.weighted(self.head(self.remembered(maps), batch)["diagnosis"], batch)
        if self.draw is not None:
            loss = loss + c.detail_share * functional.l1_loss(self.draw(x, maps).float(), batch["image"])
        return loss


class Drawing(nn.Module):
    """Eq. 4.

    Args:
        widths: channels of the stages.
        width: channels in which they meet.
    """

    def __init__(self, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in widths)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, 3 * _FINEST**2, 1)
        # It begins with the photo enlarged by plain interpolation and learns what that lacks.
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor, maps: Maps) -> torch.Tensor:
        """(n, 3, 2 s, 2 s) of photos x (n, 3, s, s) and the stages' maps."""
        size = maps[0].shape[2:]
        parts = [
            functional.interpolate(lateral(m), size=size, mode="bilinear", align_corners=False)
            for lateral, m in zip(self.lateral, maps, strict=True)
        ]
        detail = functional.pixel_shuffle(self.out(functional.relu(self.mix(torch.stack(parts).sum(0)))), _FINEST)
        plain = functional.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=False)
        return plain + detail


MODEL = Khurshid
