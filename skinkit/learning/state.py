"""The state of a training: its job, its progress and the tensors a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from skinkit.learning.examples import Examples
from skinkit.learning.rows import Replay
from skinkit.models.parts.protocol import Network, Objective

Score = Callable[[Mapping[str, np.ndarray], npt.NDArray[np.int64]], Mapping[str, float]]
"""The network's answers on validation rows, name -> (rows, ...), and these rows -> figures by name. The first decides;
higher is better. A figure called ``validation_loss`` is drawn with the losses."""

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingJob:
    """What one call of :func:`fit` was asked for."""

    examples: Examples
    train: tuple[int, ...]
    validation: tuple[int, ...]
    score: Score
    seed: int
    device: str
    precision: str
    folder: Path
    label: str
    identity: str
    strata: tuple[int, ...] = ()
    scored_by_loss: bool = False
    objective: Objective = field(default_factory=Objective)
    replay: Replay | None = None


@dataclass
class Progress:
    """How far training is; what a checkpoint holds.

    Attributes:
        phase: which one, from 0.
        epoch: finished epochs of it.
        since_best: epochs since the last better one.
        averaged: steps in the average.
        best_epoch: of this phase, 0 for none yet.
        best_score: its score.
        history: rows.
        snapshots: what the network kept.
        done: whether all phases are over.
        best: best weights of this phase.
        average: mean of the weights so far.
        optimiser: the optimiser's tensors, to be taken over when the phase is resumed.
    """

    phase: int = 0
    epoch: int = 0
    since_best: int = 0
    averaged: int = 0
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False
    best: State = field(default_factory=dict)
    average: State = field(default_factory=dict)
    optimiser: State = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """Everything but tensors."""
        names = ("phase", "epoch", "since_best", "averaged", "best_epoch", "best_score", "history", "snapshots", "done")
        return {name: getattr(self, name) for name in names}


OWN = ("phase", "epoch", "learning_rate", "train_loss", "seconds", "kept")
VALIDATION_LOSS = "validation_loss"


def deciding(row: Mapping[str, Any]) -> float:
    """The figure of an epoch that decides, higher is better: the first of its scores, else minus a loss."""
    name = next((name for name in row if name not in OWN), "train_loss")
    return -float(row[name]) if name in (VALIDATION_LOSS, "train_loss") else float(row[name])


# -------------------------------------------------------------------------------------------------------- devices
def as_module(network: Network) -> Any:
    """The network as the ``torch.nn.Module`` it is."""
    return network
