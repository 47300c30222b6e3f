"""Mask R-CNN with a ResNet-50 and a feature pyramid, by torchvision.

Paper:
    K. He, G. Gkioxari, P. Dollar and R. Girshick, "Mask R-CNN", ICCV 2017, doi 10.1109/ICCV.2017.322; feature pyramid:
    T.-Y. Lin et al., CVPR 2017, doi 10.1109/CVPR.2017.106. For skin lesions: Z. Wang et al., "Radiomic and deep
    learning analysis of dermoscopic images for skin lesion pattern decoding", Scientific Reports 14, 2024, PMC11347612.

Idea:
    First find the lesion as an object, then draw its outline inside the box that was found, at a resolution that fits
    the box: a small lesion is drawn as finely as a large one.

Equations:
    (1) P_2 .. P_6 = pyramid(ResNet-50(x))                                             P_l: side / 2^l
    (2) boxes b_i, scores s_i = heads(align(P, proposals(P)))
    (3) m_i = sigmoid(mask head(align(P, b_i)))   28 x 28, drawn into b_i
    (4) p = m_j with j = argmax s_i; 0 where nothing was found
    (5) L = L_objectness + L_proposal + L_class + L_box + L_mask                       cross-entropies and L1 of boxes

Shapes:
    image (n, 3, S, S), 0 to 1; P_l (n, 256, S / 2^l, S / 2^l); m_i (28, 28); p (n, S, S). 43.9 million parameters.

Departures:
    The paper says COCO weights, "minor modifications" and 44 million parameters; this is torchvision's first version
    with two classes, background and lesion. Its BatchNorm is frozen, as in torchvision, and what lies below ``trained``
    stages too. Each connected region of a truth mask is one lesion, so that two lesions of a photo do not become one
    large box. Boxes are computed in float32, whatever the precision asked for: in bfloat16 they would be off by pixels.
    Of the thresholded mask only the largest component is kept and its holes are filled. The defaults, which are the
    preset ``wang2024``, are the paper's; flips and colour are varied, of which it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from scipy import ndimage
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from skinkit.errors import ConfigError, InputError
from skinkit.models.parts import recipe
from skinkit.models.parts.protocol import Augment, Phase, SidePx, Sizes
from skinkit.models.parts.recipe import Augmented, Recipe, Threshold
from skinkit.models.parts.segmenter import SegmentationNetwork
from skinkit.models.parts.weights import load_into

_PREDICTORS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.")
_COCO_CLASSES = 91
_BATCH_NORM_EPS = 1e-5
_SMALLEST_SIDE_PX = 64
_SPECK = 0.1
"""Regions of a truth mask below this share of its largest are slips of the pen."""
_OLDER_NAMES = (
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"^(rpn\.head\.conv)\.(weight|bias)$"), r"\1.0.0.\2"),
)
_OLDER_MASK_HEAD = re.compile(r"^roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)$")


@dataclass(frozen=True)
class Config:
    """Options of Mask R-CNN; the defaults are the paper's."""

    side_px: SidePx = 512
    recipe: Annotated[Recipe, "how it is trained"] = Recipe(
        epochs=100, steps=200, batch=8, optimiser="adam", learning_rate=1e-5
    )
    trained: Annotated[int, "stages of the ResNet that are trained, from the top: 0 to 5"] = 3
    rois: Annotated[int, "boxes per photo that the heads learn from"] = 512
    proposals: Annotated[int, "boxes per photo that are proposed to the heads"] = 1000
    augment: Augmented = Augment(brightness=0.1, contrast=0.1, saturation=0.1)
    score: Annotated[float, "a box below this score is nothing found"] = 0.05
    threshold: Threshold = 0.5


PRESETS: dict[str, dict[str, Any]] = {
    "wang2024": {  # the paper's, line by line; its best epoch was 86
        "side_px": 512,
        "recipe": {
            "optimiser": "adam",
            "learning_rate": 1e-5,
            "schedule": "constant",
            "batch": 8,
            "epochs": 100,
            "steps": 200,
            "patience": 0,
        },
    },
    "quick": {
        "side_px": 256,
        "recipe": {
            "epochs": 4,
            "steps": 0,
            "optimiser": "adamw",
            "learning_rate": 2e-4,
            "schedule": "one_cycle",
            "clip": 5.0,
        },
        "trained": 2,
        "rois": 64,
        "proposals": 300,
    },
}


class MaskRCNN(SegmentationNetwork):
    """Eqs. 1 to 5.

    Args:
        config: options.
        sizes: not needed: it answers one lesion.

    Raises:
        ConfigError: a side too small for the pyramid, or a number of stages that is not there.
    """

    TASK = "segment"
    READS = ("image",)
    CONFIG = Config
    PRESETS = PRESETS

    @classmethod
    def default_weights(cls, config: Config) -> str:
        """ImageNet weights of the backbone; those of COCO are named, ``maskrcnn_resnet50_fpn``, or given as a file."""
        return "resnet50"

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        if config.side_px < _SMALLEST_SIDE_PX:
            raise ConfigError(
                f"side_px = {config.side_px}", f"{_SMALLEST_SIDE_PX} or more", "the paper's images have 512"
            )
        if not 0 <= config.trained <= 5:
            raise ConfigError(f"trained = {config.trained}", "0 to 5 stages", "3 is what torchvision trains")
        self.config = config
        self.net = TorchvisionMaskRCNN(
            resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=config.trained),
            num_classes=2,
            min_size=config.side_px,
            max_size=config.side_px,
            rpn_pre_nms_top_n_train=config.proposals,
            rpn_pre_nms_top_n_test=config.proposals,
            rpn_post_nms_top_n_train=config.proposals,
            rpn_post_nms_top_n_test=config.proposals,
            box_batch_size_per_image=config.rois,
            box_score_thresh=config.score,
            box_detections_per_img=1,
        )

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over a Mask R-CNN trained on COCO, all but its predictors, or a ResNet-50 trained on ImageNet.

        Raises:
            InputError: it is neither.
        """
        state = {_newer_name(k): v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        classes = state.get("roi_heads.box_predictor.cls_score.weight")
        if classes is not None and len(classes) == _COCO_CLASSES:
            load_into(self.net, state, f"{source} is no torchvision Mask R-CNN", without=_PREDICTORS)
            self._without_eps()
            return f"Mask R-CNN of {source}, trained on COCO; its two predictors from random numbers"
        if "layer4.2.conv3.weight" in state and "layer4.3.conv1.weight" not in state:
            load_into(self.net.backbone.body, state, f"{source} is no ResNet-50", without=("fc.",))
            return f"ResNet-50 of {source} as the backbone; pyramid and heads from random numbers"
        found = (
            f"a Mask R-CNN of {len(classes)} classes" if classes is not None else f"{next(iter(state), 'nothing')}, ..."
        )
        raise InputError(
            f"{source} holds {found}",
            f"torchvision's Mask R-CNN with the {_COCO_CLASSES} classes of COCO, or an ImageNet ResNet-50",
            "give maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth, or --weights resnet50",
        )

    def _without_eps(self) -> None:
        """COCO weights were made with BatchNorm's eps at 0; here it is 1e-5, so the variances give way by as much."""
        for module in self.net.backbone.body.modules():
            if hasattr(module, "running_var"):
                module.running_var -= _BATCH_NORM_EPS

    def phases(self) -> tuple[Phase, ...]:
        """One phase."""
        return (recipe.phase("all", self.config),)

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 5."""
        images = batch["image"]
        targets = [_target(truth) for truth in batch["truth_mask"]]
        with self._as("learner", images):
            parts = self.net(list(images.float()), targets)
        return torch.stack(list(parts.values())).sum()

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eq. 4: ``lesion`` (n, side, side), logits; far below zero outside the box."""
        images = batch["image"]
        with self._as("painter", images):
            detections = self.net(list(images.float()))
        probabilities = [
            detected["masks"][0, 0] if len(detected["masks"]) else torch.zeros_like(image[0])
            for detected, image in zip(detections, images.float(), strict=True)
        ]
        return {"lesion": torch.logit(torch.stack(probabilities), eps=1e-6)}

    @contextmanager
    def _as(self, role: Literal["learner", "painter"], images: torch.Tensor) -> Iterator[None]:
        """Torchvision's detectors answer with losses or with boxes, by their mode; the mode outside stays as it was."""
        training = self.net.training
        self.net.train(role == "learner")
        try:
            with torch.autocast(images.device.type, enabled=False):
                yield
        finally:
            self.net.train(training)


def _target(truth: torch.Tensor) -> dict[str, torch.Tensor]:
    """Boxes (k, 4) as x0, y0, x1, y1, labels (k,) of ones and masks (k, side, side) of the regions of a truth mask."""
    labels, n = ndimage.label((truth > 0.5).cpu().numpy())
    sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    kept = np.flatnonzero(sizes >= _SPECK * sizes.max()) + 1 if n else np.zeros(0, int)
    boxes = [
        (columns.start, rows.start, columns.stop, rows.stop)
        for rows, columns in (ndimage.find_objects(labels)[label - 1] for label in kept)
    ]
    masks = labels[None] == kept[:, None, None]
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32, device=truth.device).reshape(-1, 4),
        "labels": torch.ones(len(kept), dtype=torch.int64, device=truth.device),
        "masks": torch.from_numpy(masks.astype(np.uint8)).to(truth.device),
    }


def _newer_name(name: str) -> str:
    """The name torchvision uses now for a tensor of its older files."""
    for pattern, newer in _OLDER_NAMES:
        name = pattern.sub(newer, name)
    return _OLDER_MASK_HEAD.sub(lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0.{m[2]}", name)


MODEL = MaskRCNN
