"""U-Net on a pretrained encoder, by segmentation-models-pytorch.

Paper:
    O. Ronneberger, P. Fischer and T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI
    2015, doi 10.1007/978-3-319-24574-4_28. Averaged weights: P. Izmailov et al., "Averaging Weights Leads to Wider
    Optima and Better Generalization", UAI 2018, arXiv:1803.05407.

Idea:
    An encoder that has seen ImageNet knows what the picture shows, at five sizes from half to a thirty-second of it. A
    decoder goes back up and takes in each size on its way, so that the outline comes out as sharp as it went in. The
    weights of the last part of training are averaged, and the answer is the mean over the four mirrored photos.

Equations:
    (1) F_0 = x, F_1 .. F_5 = encoder(x)                                   F_l: side / 2^l
    (2) D_5 = F_5,   D_{l-1} = ReLU BN conv ReLU BN conv [up(D_l); F_{l-1}]      F_0 is left out
    (3) z = conv(D_0),   p = sigmoid(z)
    (4) L = BCE(z, t) + Dice(z, t), or NR(z, t)                            skinkit.models.parts.losses
    (5) p' = 1/4 sum over mirrors m of m p(m x)

Shapes:
    image (n, 3, S, S), 0 to 1; F_1 .. F_5 of an EfficientNet-Lite0 have 16, 24, 40, 112 and 320 channels, D_4 .. D_0
    have w, w/2, w/4, w/8 and w/16, at least 16, with w = ``decoder``; z, p, t (n, S, S).

Departures:
    Padded instead of cropped convolutions, batch normalisation and a pretrained encoder instead of the paper's own;
    up(.) repeats pixels. The layers of F_1 .. F_k, k = ``frozen_stages``, keep their weights, which saves a third of a
    step. Photos are stretched to a square. Of the thresholded mask only the largest component is kept and its holes are
    filled: one photo shows one lesion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import segmentation_models_pytorch as smp
import torch

from skinkit.errors import ConfigError, InputError, did_you_mean
from skinkit.models.parts import losses, recipe
from skinkit.models.parts.backbone import load_timm, register_normalisation, timm_normalisation
from skinkit.models.parts.protocol import Augment, Phase, Sizes
from skinkit.models.parts.recipe import Augmented, Recipe, Threshold
from skinkit.models.parts.segmenter import SegmentationNetwork
from skinkit.models.parts.weights import IMAGENET_MEAN, IMAGENET_SD, PUBLIC, TIMM, load_into

_HEAD = ("fc.", "classifier.")
_OF_TIMM = "tu-"
"""Begins segmentation-models-pytorch's names of timm's networks."""
_SMALLEST_STEP_PX = 32
_NARROWEST = 16
_SIZES = 5
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


@dataclass(frozen=True)
class Config:
    """Options of the U-Net; the defaults are meant for two processor cores, the preset ``large`` for a GPU."""

    encoder: Annotated[str, "any encoder of segmentation-models-pytorch; of timm's networks tu-NAME"] = (
        "tu-tf_efficientnet_lite0"
    )
    side_px: Annotated[int, "photos are resized to this square, pixels; a multiple of 32"] = 224
    decoder: Annotated[int, "width w of the decoder's first stage; halved at each further one"] = 128
    loss: Annotated[Literal["bce_dice", "noise_robust"], "eq. 4"] = "bce_dice"
    recipe: Annotated[Recipe, "how it is trained; the learning rate is the decoder's"] = Recipe(
        epochs=6, steps=100, weight_decay=0.01, schedule="one_cycle", warm_up=0.15, clip=1.0, averaged=0.3
    )
    encoder_rate: Annotated[float, "learning rate of the encoder, at its highest"] = 3e-4
    frozen_stages: Annotated[
        int, "lowest of the encoder's five sizes whose weights are left as they are; its BatchNorm statistics learn"
    ] = 2
    augment: Augmented = Augment(
        rotation_deg=180.0,
        smallest_scale=0.7,
        largest_scale=1.4,
        shift=0.1,
        brightness=0.25,
        contrast=0.25,
        saturation=0.25,
        hue=0.02,
    )
    mirrored: Annotated[bool, "answer with the mean over the four mirrored photos"] = True
    threshold: Threshold = 0.5


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "encoder": "resnet18",
        "side_px": 192,
        "frozen_stages": 0,
        "recipe": {"epochs": 18, "steps": 100},
    },
    "large": {
        "encoder": "resnet34",
        "side_px": 384,
        "decoder": 256,
        "frozen_stages": 0,
        "recipe": {"epochs": 60, "steps": 0},
    },
}


class UNet(SegmentationNetwork):
    """Eqs. 1 to 5.

    Args:
        config: options.
        sizes: not needed: it answers one lesion.

    Raises:
        ConfigError: an unknown encoder, a side that cannot be halved five times, or no such share of it to freeze.
    """

    TASK = "segment"
    READS = ("image",)
    CONFIG = Config
    PRESETS = PRESETS
    FORMER: ClassVar[Mapping[str, tuple[str, ...]]] = {"flips": ("mirrored",)}

    mean: torch.Tensor
    sd: torch.Tensor

    @classmethod
    def default_weights(cls, config: Config) -> str:
        """Weights of the encoder's name."""
        return _timm_name(config) or config.encoder

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        known = smp.encoders.get_encoder_names()
        of_timm = _timm_name(config)
        if config.encoder not in known and not of_timm:
            raise ConfigError(f"encoder {config.encoder!r}", did_you_mean(config.encoder, known), "name one of these")
        if config.side_px < _SMALLEST_STEP_PX or config.side_px % _SMALLEST_STEP_PX:
            raise ConfigError(
                f"side_px = {config.side_px}", f"a multiple of {_SMALLEST_STEP_PX}", "256 and 384 are common"
            )
        if not 0 <= config.frozen_stages <= _SIZES:
            raise ConfigError(f"frozen_stages = {config.frozen_stages}", f"0 to {_SIZES}", "correct the setting")
        self.config = config
        mean, sd = timm_normalisation(of_timm) if of_timm else (IMAGENET_MEAN, IMAGENET_SD)
        self.net = self._built()
        register_normalisation(self, mean, sd)

    def _built(self) -> Any:
        """Eqs. 1 to 3: a module with an ``encoder``, from normalised photos (n, 3, S, S) to (n, 1, S, S) logits."""
        widths = tuple(max(_NARROWEST, self.config.decoder >> level) for level in range(_SIZES))
        return smp.Unet(self.config.encoder, encoder_weights=None, decoder_channels=widths)

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over the encoder from ImageNet weights under its library's names; their classes are left out.

        Raises:
            InputError: they are of another network; names it where it is known.
        """
        try:
            if of_timm := _timm_name(self.config):
                load_timm(self.net.encoder.model, of_timm, self.config.side_px, state, f"{source} is no {of_timm}")
            else:
                load_into(self.net.encoder, state, source, without=_HEAD)
        except InputError as error:
            other = _encoder_of(state)
            if other is None or other == self.config.encoder:
                raise
            raise InputError(
                f"{source} holds a {other}",
                f"the encoder {self.config.encoder}",
                f"give --settings encoder={other}, or the weights of {self.config.encoder}",
            ) from error
        return f"{self.config.encoder} of {source} as the encoder; the decoder from random numbers"

    def phases(self) -> tuple[Phase, ...]:
        """One phase, the encoder more slowly than the decoder."""
        return (recipe.phase("all", self.config, rates={"net.encoder.": self.config.encoder_rate}),)

    def enter(self, phase: str) -> None:
        """The layers of the encoder's lowest sizes rest."""
        self.net.encoder.requires_grad_(True)
        for parameter in self._below(self.config.frozen_stages):
            parameter.requires_grad_(False)

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 4."""
        logits = self._logits(batch["image"]).float()
        chosen = {"bce_dice": losses.bce_dice, "noise_robust": losses.noise_robust}[self.config.loss]
        return chosen(logits, batch["truth_mask"])

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass: ``lesion`` (n, side, side), logits."""
        return {"lesion": self._logits(batch["image"])}

    def answer(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eq. 5, as logits; a single pass without ``mirrored``."""
        if not self.config.mirrored:
            return self.forward(batch)
        image = batch["image"]
        passes = [self._logits(image.flip(axes)).float().sigmoid().flip(axes) for axes in _MIRRORS]
        return {"lesion": torch.logit(torch.stack(passes).mean(dim=0), eps=1e-6)}

    def _below(self, sizes: int) -> list[torch.nn.Parameter]:
        """The encoder's weights that F_1 .. F_sizes depend on; by their gradients, so that any encoder will do."""
        if not sizes:
            return []
        encoder: Any = self.net.encoder
        parameters = list(encoder.parameters())
        encoder.eval()  # its BatchNorm statistics are left alone
        with torch.enable_grad():
            features = encoder(self.mean.new_zeros(1, 3, _SMALLEST_STEP_PX, _SMALLEST_STEP_PX))[sizes]
            gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
        encoder.train(self.training)
        return [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]

    def _logits(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net((image - self.mean) / self.sd)[:, 0]
        return logits


def _timm_name(config: Config) -> str:
    """``timm/NAME`` of an encoder ``tu-NAME``; empty for the others."""
    return TIMM + config.encoder.removeprefix(_OF_TIMM) if config.encoder.startswith(_OF_TIMM) else ""


def _encoder_of(state: Mapping[str, torch.Tensor]) -> str | None:
    """Which encoder with public weights a state dict belongs to."""
    for name in sorted(
        {weights.backbone for weights in PUBLIC.values()}.intersection(smp.encoders.get_encoder_names())
    ):
        with torch.device("meta"):
            own = smp.encoders.get_encoder(name, weights=None).state_dict()
        if all(key in state and state[key].shape == value.shape for key, value in own.items() if value.ndim):
            return name
    return None


MODEL = UNet
