"""How networks learn: recipes that a model's ``Config`` nests, presets, phases and loss that the papers' files share.

    recipe: Annotated[PhotoRecipe, "how it is trained"] = PhotoRecipe(epochs=150, batch=8)
    augment: Annotated[Augment, "how training photos vary"] = Augment(flips=False)

On the command line a nested setting is ``--settings recipe.epochs=5``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as functional

from skinkit.errors import ConfigError
from skinkit.models.parts.backbone import SMALLEST_SIDE_PX, Backbone
from skinkit.models.parts.losses import cross_entropies
from skinkit.models.parts.protocol import Augment, Phase
from skinkit.options import Help

Threshold = Annotated[float, "probability from which on a pixel is lesion"]
Augmented = Annotated[Augment, "how training photos vary"]


# ------------------------------------------------------------------------------------------------------- recipes
@dataclass(frozen=True)
class Recipe:
    """How a network is trained; every network takes all of it."""

    epochs: Annotated[int, "most epochs, each followed by a score on the validation rows"] = 60
    steps: Annotated[int, "steps per epoch; 0 sees every photo once"] = 0
    most_steps: Annotated[
        int,
        Help(
            "most steps per epoch, where steps is 0: of more photos it sees a random part; 0 for no limit",
            if_given=True,
        ),
    ] = 0
    batch: Annotated[int, "cases per step"] = 16
    optimiser: Annotated[Literal["sgd", "adam", "adamw"], "optimiser"] = "adamw"
    learning_rate: Annotated[float, "at its highest"] = 1e-3
    momentum: Annotated[float, "of sgd"] = 0.9
    beta2: Annotated[float, Help("of adam and adamw: how long squared gradients are remembered", if_given=True)] = 0.999
    weight_decay: Annotated[float, "penalty on the weights"] = 0.0
    schedule: Annotated[Literal["constant", "cosine", "one_cycle", "plateau"], "course of the learning rate"] = (
        "constant"
    )
    final_rate: Annotated[float, "learning rate at the end of cosine and one_cycle, lowest of plateau"] = 0.0
    warm_up: Annotated[float, "share of the steps in which one_cycle climbs"] = 0.3
    plateau: Annotated[int, "epochs without a better validation score before plateau takes a tenth of the rate"] = 10
    clip: Annotated[float, "largest gradient norm; 0 for none"] = 0.0
    patience: Annotated[int, "stop a phase after so many epochs without a better validation score; 0 for never"] = 0
    candidates: Annotated[float, "share of the last epochs among which the best on the validation rows is kept"] = 1.0
    averaged: Annotated[
        float, "share of the last steps whose weights are averaged; 0 keeps the epoch with the best validation score"
    ] = 0.0
    ema: Annotated[
        float,
        Help(
            "the final weights are a moving mean over steps, which keeps this share of itself, such as 0.999; 0: none",
            if_given=True,
        ),
    ] = 0.0
    balanced: Annotated[
        float,
        "share of the draws in which every class (of a segmenter: every cohort and modality) comes equally often",
    ] = 0.0
    most_repeats: Annotated[
        float,
        Help(
            "with balanced: no row comes more than so many times as often as if all came equally often; 0: no limit",
            if_given=True,
        ),
    ] = 0.0
    synthetic_share: Annotated[
        float,
        Help(
            "with --synthetic: share of an epoch's draws that are synthetic images, beside every photo once; 0.5: as "
            "many as photos; 1: no photo at all; 0: every image once, as if it were a photo",
            if_given=True,
        ),
    ] = 0.0

    def strata(self) -> str:
        """What comes equally often in balanced draws: the classes, or what a segmenter has in their place."""
        return "class"


@dataclass(frozen=True)
class ClassifierRecipe(Recipe):
    """How a network that reads photos and tables is trained."""

    head_learning_rate: Annotated[float, "of all that is not backbone, at its highest; 0 for the backbone's"] = 0.0
    class_weights: Annotated[
        Literal["inverse", "square_root", "none"], "weight of a class: N / (K n), its square root, or 1"
    ] = "none"
    label_smoothing: Annotated[float, "share of the label spread over all classes"] = 0.0
    dropped: Annotated[float, "share of training cases whose tables are all hidden"] = 0.0
    balanced_by: Annotated[
        Literal["class", "cohort"],
        Help("what comes equally often in balanced draws: the classes, or the cohorts", if_given=True),
    ] = "class"

    def strata(self) -> str:
        """``balanced_by``."""
        return self.balanced_by


@dataclass(frozen=True)
class PhotoRecipe(ClassifierRecipe):
    """How :class:`skinkit.models.parts.photo_classifier.PhotoClassifier` is trained."""

    frozen_stages: Annotated[
        int,
        "lowest stages of the backbone, of four, whose weights are left as they are; 4 trains the head alone",
    ] = 0
    frozen_statistics: Annotated[
        bool, "these stages also keep the BatchNorm statistics that they came with; else these follow the photos"
    ] = False
    cached_views: Annotated[
        int,
        "views of each training photo for which the frozen stages are run, once, so that a step costs what the stages "
        "above them cost (they keep their statistics); 0 shows a new view in every epoch",
    ] = 0
    layer_decay: Annotated[
        float,
        Help(
            "rate of each block of a ViT, or stage of another backbone, as a share of the rate of the one above it; "
            "the highest has this share of the backbone's; 1: all alike",
            if_given=True,
        ),
    ] = 1.0
    head_epochs: Annotated[int, "epochs first in which all but the backbone learns; 0 for none"] = 0
    costs: Annotated[str, "further weights of classes, for example MEL=2,SCC=2; 1 for those not named"] = ""
    logit_adjustment: Annotated[
        float,
        "tau: the loss sees the logits plus tau times the log of the class frequencies; 1 answers as if all classes "
        "were equally frequent, 0 as frequent as they are",
    ] = 0.0
    dropped_block: Annotated[float, "share of training cases whose patient block is hidden"] = 0.0
    snapshot_every: Annotated[int, "keep importances and heatmaps after so many epochs; 0 for never"] = 0
    final_epochs: Annotated[
        int,
        "where the split has one fold: epochs of a second training, from the beginning and on all rows, for other "
        "cohorts; 0 for none",
    ] = 0


# ------------------------------------------------------------------------------------------------------- presets
def merged(*presets: Mapping[str, Any]) -> dict[str, Any]:
    """Presets on top of one another, later ones winning, those of ``recipe`` and ``augment`` setting by setting."""
    out: dict[str, Any] = {}
    for preset in presets:
        for name, value in preset.items():
            out[name] = {**out.get(name, {}), **value} if isinstance(value, Mapping) else value
    return out


FINE_TUNING: dict[str, Any] = {
    "mirrored": True,
    "recipe": {
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
    },
    "augment": {
        "flips": True,
        "largest_scale": 1.3,
        "shift": 0.1,
        "brightness": 0.15,
        "contrast": 0.15,
        "saturation": 0.15,
    },
}
"""How a network with ImageNet weights learns from a thousand photos on two processor cores."""

QUICK = merged(
    FINE_TUNING,
    {
        "backbone": "timm/tf_efficientnet_lite0",
        "turned": True,
        "recipe": {
            "frozen_stages": 3,
            "frozen_statistics": True,
            "cached_views": 8,
            "epochs": 12,
            "candidates": 0.5,
            "final_epochs": 12,
            "class_weights": "none",
            "logit_adjustment": 1.0,
        },
        "augment": {"rotation_deg": 45.0},
    },
)
"""What the preset ``quick`` is of DermaCalibra and each of its comparators, so that they learn alike: few epochs on a
backbone whose weights are installed."""
LIVE: dict[str, Any] = {"recipe": {"cached_views": 0}}
"""On top of :data:`QUICK` for a network that reads more of its frozen stages than is kept of them."""


# ------------------------------------------------------------------------------------------------ phases and loss
def phase(name: str, config: Any, **fixed: Any) -> Phase:
    """A phase as the nested ``recipe`` and ``augment`` of a ``Config`` say, and what is fixed."""
    names = {field.name for field in dataclasses.fields(Phase)}
    shared = {name: value for name, value in vars(config.recipe).items() if name in names}
    return Phase(name, **{**shared, "augment": config.augment, **fixed})


def check(config: Any) -> None:
    """Refuse a side that cannot be halved five times, no epoch, and a batch too small for BatchNorm.

    Raises:
        ConfigError: one of these.
    """
    if config.side_px < SMALLEST_SIDE_PX:
        raise ConfigError(f"side_px = {config.side_px}", f"at least {SMALLEST_SIDE_PX} pixels", "use 128 or 224")
    epochs, batch = config.recipe.epochs, config.recipe.batch
    if epochs < 1 or batch < 2:
        raise ConfigError(
            f"recipe.epochs = {epochs}, recipe.batch = {batch}",
            "at least 1 epoch and a batch of at least 2",
            "correct the settings",
        )
    if not 0 <= config.recipe.beta2 < 1:
        raise ConfigError(f"recipe.beta2 = {config.recipe.beta2}", "0 to below 1", "0.95 forgets sooner than 0.999")
    if not 0 <= config.recipe.ema < 1 or (config.recipe.ema and config.recipe.averaged):
        raise ConfigError(
            f"recipe.ema = {config.recipe.ema}, recipe.averaged = {config.recipe.averaged}",
            "0 to below 1, and one of the two alone",
            "ema=0.999 averages over about the last 1,000 steps",
        )
    if config.recipe.most_repeats and not (config.recipe.most_repeats >= 1 and config.recipe.balanced):
        raise ConfigError(
            f"recipe.most_repeats = {config.recipe.most_repeats}, recipe.balanced = {config.recipe.balanced}",
            "0, or 1 or more where draws are balanced",
            "balanced=1 with most_repeats=10 draws rare classes up to 10 times as often",
        )
    if not 0 <= config.recipe.synthetic_share <= 1:
        found = f"recipe.synthetic_share = {config.recipe.synthetic_share}"
        raise ConfigError(found, "a share from 0 to 1", "0.5 draws as many synthetic images as photos")


def layer_rates(backbone: Backbone, rate: float, decay: float) -> dict[str, float]:
    """Name of each parameter of a backbone -> its highest rate: ``rate`` after the last block, and falling below it.

    Block l of L, from 1, learns at rate decay^(L + 1 - l), and what comes before the first at rate decay^(L + 1).

    Source: H. Bao et al., "BEiT", ICLR 2022; K. He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR
    2022, table 9.
    """
    layers = backbone.layers()
    above = range(len(layers) - 1, -1, -1)
    return {name: rate * decay**n for names, n in zip(layers, above, strict=True) for name in names}


def cross_entropy(
    config: Any,
    logits: torch.Tensor,
    truth: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    possible: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean cross-entropy of (n, K) logits, weighted by class, with the labels smoothed as ``config`` says.

    Classes that are not ``possible`` (n, K) are left out of a row's softmax (``skinkit.models.parts.losses``, eq. 5).
    """
    smoothing = config.recipe.label_smoothing
    if possible is None:
        return functional.cross_entropy(logits, truth, class_weights, label_smoothing=smoothing)
    losses = cross_entropies(logits, truth, class_weights, smoothing, possible)
    return losses.mean() if class_weights is None else losses.sum() / class_weights[truth].sum()


@torch.no_grad()
def move_towards(mean: torch.Tensor, steps_seen: torch.Tensor, encoded: torch.Tensor) -> None:
    """Move a running mean, in place, towards the mean of a batch: a plain mean at first, then over about 100 steps.

    Args:
        mean: (width,) the running mean, a view of it where the batch has less.
        steps_seen: () how many batches were seen; counted up.
        encoded: (n, ...) of the batch.
    """
    steps_seen += 1
    mean += (encoded.float().mean(0).flatten() - mean) / steps_seen.clamp(max=100)
