"""How networks learn: options, phases, augmentation and loss that the papers' files share.

A model's ``Config`` names the options it has, in its own order, because the order of the fields is the order in
``model.json``. The types here carry the help text::

    batch: Batch = 8
    optimiser: Optimiser = "sgd"

:func:`phase` and :func:`augment` read whichever of these options a ``Config`` has.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as functional

from skinkit.errors import ConfigError
from skinkit.models.parts.backbone import SMALLEST_SIDE_PX
from skinkit.models.parts.protocol import Augment, Phase

# ------------------------------------------------------------------------------------------------------- options
Epochs = Annotated[int, "epochs of training, each followed by a score on the validation rows"]
Steps = Annotated[int, "steps per epoch; 0 sees every photo once"]
Batch = Annotated[int, "cases per step"]
Optimiser = Annotated[Literal["sgd", "adam", "adamw"], "how steps are taken"]
Schedule = Annotated[Literal["constant", "cosine", "one_cycle"], "course of the learning rate"]
Momentum = Annotated[float, "of sgd"]
WeightDecay = Annotated[float, "penalty on the weights"]
Patience = Annotated[int, "stop a phase after so many epochs without a better validation score; 0 for never"]
Averaged = Annotated[
    float, "share of the last steps whose weights are averaged; 0 keeps the epoch with the best validation score"
]
ClassWeights = Annotated[
    Literal["inverse", "square_root", "none"], "weight of a class: N / (K n), its square root, or 1"
]
LabelSmoothing = Annotated[float, "share of the label spread over all classes"]
Flips = Annotated[bool, "mirror training photos along either axis"]
Rotation = Annotated[float, "turn training photos by up to this much"]
SmallestScale = Annotated[float, "size factor of training photos, lower end"]
LargestScale = Annotated[float, "size factor of training photos, upper end"]
Shift = Annotated[float, "move training photos by up to this share of the side"]
ColourJitter = Annotated[float, "vary brightness, contrast and saturation by up to this share"]
Threshold = Annotated[float, "probability from which on a pixel is lesion"]

_COLOURS = {"brightness": "colour_jitter", "contrast": "colour_jitter", "saturation": "colour_jitter"}
_AUGMENT = {
    **{name: name for name in ("flips", "rotation_deg", "shift", "hue", "blur", "sharpness", "noise")},
    **_COLOURS,
    "channels": "channel_jitter",
}
"""Field of :class:`Augment` -> the option it is set by."""


# ------------------------------------------------------------------------------------------------------- presets
FINE_TUNING: dict[str, Any] = {
    "epochs": 14,
    "batch": 16,
    "optimiser": "adamw",
    "learning_rate": 1e-4,
    "head_learning_rate": 1e-3,
    "weight_decay": 0.01,
    "schedule": "one_cycle",
    "final_rate": 0.0,
    "patience": 0,
    "class_weights": "square_root",
    "label_smoothing": 0.05,
    "dropped": 0.15,
    "flips": True,
    "largest_scale": 1.3,
    "shift": 0.1,
    "colour_jitter": 0.15,
    "mirrored": True,
}
"""How a network with ImageNet weights learns from a thousand photos on two processor cores."""

QUICK: dict[str, Any] = {
    **FINE_TUNING,
    "frozen_stages": 2,
    "epochs": 6,
    "candidates": 0.5,
    "final_epochs": 6,
    "class_weights": "none",
    "logit_adjustment": 1.0,
    "rotation_deg": 45.0,
}
"""What the preset ``quick`` is of DermaCalibra and each of its comparators, so that they learn alike."""


# ------------------------------------------------------------------------------------------------ phases and loss
def augment(config: Any, **fixed: Any) -> Augment:
    """How training pictures vary: what the options say, and what is fixed."""
    fields = {field: getattr(config, option) for field, option in _AUGMENT.items() if hasattr(config, option)}
    if hasattr(config, "smallest_scale"):
        fields["scale"] = (config.smallest_scale, config.largest_scale)
    return Augment(**{**fields, **fixed})


def phase(name: str, epochs: int, config: Any, **fixed: Any) -> Phase:
    """A phase: each of its fields as the option of the same name says, and what is fixed."""
    names = [field.name for field in dataclasses.fields(Phase) if field.name not in ("name", "epochs", "augment")]
    fields = {field: getattr(config, field) for field in names if hasattr(config, field)}
    return Phase(name, epochs, **{**fields, "augment": augment(config), **fixed})


def cross_entropy(
    config: Any, logits: torch.Tensor, truth: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean cross-entropy of (n, K) logits, weighted by class, with the labels smoothed as ``config`` says."""
    return functional.cross_entropy(logits, truth, class_weights, label_smoothing=config.label_smoothing)


def check_side(side_px: int) -> None:
    """Raise :class:`ConfigError` where a side cannot be halved five times."""
    if side_px < SMALLEST_SIDE_PX:
        raise ConfigError(f"side_px = {side_px}", f"at least {SMALLEST_SIDE_PX} pixels", "use 128 or 224")


@torch.no_grad()
def move_towards(typical: torch.Tensor, steps_seen: torch.Tensor, encoded: torch.Tensor) -> None:
    """Move a running mean, in place, towards the mean of a batch: a plain mean at first, then over about 100 steps.

    Args:
        typical: (width,) the running mean, a view of it where the batch has less.
        steps_seen: () how many batches were seen; counted up.
        encoded: (n, ...) of the batch.
    """
    steps_seen += 1
    typical += (encoded.float().mean(0).flatten() - typical) / steps_seen.clamp(max=100)
