"""What a model is: the shapes that estimators and networks have, and how a network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


DIAGNOSIS, LESION = "diagnosis", "lesion"
"""What networks answer."""
SEEN = "seen"
"""What they make of the pictures, where that is asked for."""


UNCERTAINTIES = ("variance", "entropy", "mutual_information")
"""What a network may answer beside its diagnosis: the mean over classes of the variance over passes, the entropy of the
mean probability, and how much of it the passes disagree about (both in nats)."""


class Fitted(Protocol):
    """An estimator fitted on one fold."""

    def predict(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n, classes) log-probabilities, before calibration."""

    def contributions(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What each input column adds to each class's score.

        Returns:
            input name -> (n, classes, columns), and ``bias`` -> (n, classes, 1). Summed over all of them they are the
            scores whose softmax is the prediction.
        """

    def save(self, folder: Path) -> None:
        """Write it; no pickle."""


class Embedder(Protocol):
    """A network that is not trained; a ``torch.nn.Module`` from uint8 (n, side, side, 3) to float32 (n, width)."""

    def prepare(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) of any size -> uint8 (side, side, 3); runs in the decoding thread."""

    def __call__(self, images: Any) -> Any:
        """uint8 tensor (n, side, side, 3) -> float32 tensor (n, width)."""


@dataclass(frozen=True)
class Augment:
    """How training pictures are varied; photo, lesion mask and truth mask move together.

    Attributes:
        flips: mirror each axis with probability 1/2.
        rotation_deg: turned by up to so many degrees, either way.
        scale: size factor, drawn between these two.
        shift: moved by up to this share of the side.
        brightness: factor drawn from 1 - b to 1 + b; of contrast and saturation likewise.
        contrast: see brightness.
        saturation: see brightness.
        hue: channels are mixed by a rotation of up to this share of the colour circle.
        channels: factor of red, green and blue apart, drawn from 1 - c to 1 + c.
        blur: widest standard deviation of a Gaussian blur, as a share of the side; half of the photos are blurred.
        sharpness: half of the photos are sharpened by up to this factor of what a small blur takes away.
        noise: largest standard deviation of Gaussian noise on the pixels, 0 to 1; half of the photos get some.
    """

    flips: bool = True
    rotation_deg: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    channels: float = 0.0
    blur: float = 0.0
    sharpness: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one optimiser.

    The network is told its name before it begins (``Network.enter``), and begins it with the best weights of the
    phase before.

    Attributes:
        name: of the phase.
        epochs: at most so many.
        batch: cases per step.
        steps: per epoch; 0 sees every training case once.
        optimiser: ``adam``, ``adamw`` or ``sgd``.
        learning_rate: at its highest.
        rates: beginning of a parameter's name -> its own highest rate; the longest beginning that fits counts.
        schedule: ``constant``, ``cosine`` (to ``final_rate``, stepwise), ``one_cycle`` (up over the first
            ``warm_up`` share of the steps, then down along a cosine) or ``plateau`` (a tenth each time that the
            validation score, without validation rows the loss, was not better for more than ``plateau`` epochs).
        final_rate: where ``cosine`` and ``one_cycle`` end, and below which ``plateau`` never falls, for the highest of
            the rates; the others in proportion.
        warm_up: share of the steps that ``one_cycle`` climbs.
        momentum: of ``sgd``.
        weight_decay: as the optimiser has it.
        clip: largest gradient norm; 0 for none.
        patience: stop after so many epochs without a better validation score; 0 for never.
        candidates: share of the phase's last epochs among which the one with the best validation score is kept. Few
            validation rows make scores jump, and an early epoch, at a high rate, may win by chance.
        averaged: share of the phase's last steps whose weights are averaged into the final ones; 0 for none, and then
            the epoch with the best validation score is kept.
        augment: how pictures are varied.
        balanced: share of each epoch's draws in which every stratum (class, or what the training was told) comes
            equally often; the others draw the rows as they are.
        plateau: epochs without a better score that ``plateau`` bears.
        snapshot_every: let the network look at the validation rows for ``Network.snapshot`` after so many epochs, and
            after the last; 0 for never.
    """

    name: str
    epochs: int
    batch: int = 16
    steps: int = 0
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    rates: Mapping[str, float] = field(default_factory=dict)
    schedule: str = "constant"
    final_rate: float = 0.0
    warm_up: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 0.0
    patience: int = 0
    candidates: float = 1.0
    averaged: float = 0.0
    augment: Augment = field(default_factory=Augment)
    balanced: float = 0.0
    plateau: int = 10
    snapshot_every: int = 0


@dataclass(frozen=True)
class Sizes:
    """What a network is built for.

    Attributes:
        answers: class codes in order, or ``("lesion",)``.
        columns: width of ``attributes`` and ``radiomics``, where it reads them.
        class_counts: training cases per class; empty for segmenters.
        attributes: the attribute behind each column of ``attributes``.
        unknown: what stands in each column of ``attributes`` where nothing is known of a case; empty for zeros.
    """

    answers: tuple[str, ...]
    columns: Mapping[str, int] = field(default_factory=dict)
    class_counts: tuple[int, ...] = ()
    attributes: tuple[str, ...] = ()
    unknown: tuple[float, ...] = ()


class Network(Protocol):
    """A ``torch.nn.Module`` trained step by step; normalises its pictures itself."""

    def start(self, state: Mapping[str, Any], source: str) -> str:
        """Take over pretrained weights and say in words which; those that do not fit raise :class:`InputError`."""

    def phases(self) -> tuple[Phase, ...]:
        """How it is trained."""

    def enter(self, phase: str) -> None:
        """Get ready for a phase: freeze what is not trained in it, switch branches. Twice is the same as once."""

    def loss(self, batch: Mapping[str, Any]) -> Any:
        """One number to make small, in training mode."""

    def answer(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What inference uses: the plain forward pass, or the mean over several."""

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One forward pass: answer's name -> logits."""
