"""Late fusion: the weighted mean of what other trained models answer.

Paper:
    None. The log-linear pool of opinions is that of C. Genest and J. V. Zidek, "Combining Probability Distributions: A
    Critique and an Annotated Bibliography", Statistical Science 1(1), 1986, doi 10.1214/ss/1177013825.

Idea:
    Models that err on different cases are better together. No model is trained again: only a weight of each is fitted,
    on cases that none of them has learnt from.

Equations:
    (1) log p = log softmax(sum_m w_m log p_m)                 m: members; w_m >= 0, sum_m w_m = 1
    (2) equal: w_m = 1 / M
    (3) fitted: min over w of the class-balanced log loss, sum_i n/(K n_{y_i}) (- log p_{y_i}(x_i)) / n
    (4) q = prod_m q_m^w_m                                     q_m: class shares for which p_m holds; q: those for p

Shapes:
    members (n, M K) log-probabilities, one member after the other -> p (n, K).

Departures:
    A fold learns eq. 3 from one half of its validation rows, divided by patient, and is calibrated on the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np

from skinkit.artifacts.files import write_atomic
from skinkit.models.parts.inputs import by_member, member_contributions
from skinkit.models.parts.protocol import MEMBERS, Estimator, Labelled
from skinkit.stats.metrics import Floats
from skinkit.stats.regression import log_probabilities


@dataclass(frozen=True)
class Config:
    """Options of the fusion."""

    weights: Annotated[Literal["equal", "fitted"], "of the members: eq. 2 or eq. 3"] = "equal"


@dataclass(frozen=True)
class LateFusion(Estimator):
    """A fitted fusion.

    Attributes:
        weights: (M,) w of eq. 1.
        n_classes: K.
    """

    TASK = "classify"
    READS = (MEMBERS,)
    CONFIG = Config

    weights: Floats
    n_classes: int

    @classmethod
    def fit(cls, config: Config, train: Labelled, validation: Labelled, *, n_classes: int, seed: int) -> Self:
        """Eq. 2 or 3; neither validation rows nor a seed are needed."""
        answers = by_member(train.inputs[MEMBERS], n_classes)
        equal = np.full(answers.shape[1], 1 / answers.shape[1])
        return cls(equal if config.weights == "equal" else _fitted(answers, train.labels), n_classes)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of :meth:`save`."""
        about = json.loads((folder / "late_fusion.json").read_text(encoding="utf-8"))
        return cls(np.array(about["weights"], dtype=np.float64), int(about["n_classes"]))

    def save(self, folder: Path) -> None:
        """``late_fusion.json``."""
        about = {"weights": self.weights.tolist(), "n_classes": self.n_classes}
        write_atomic(folder / "late_fusion.json", json.dumps(about, indent=1).encode())

    def predict(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, K) log-probabilities, eq. 1."""
        return log_probabilities(np.einsum("m,nmk->nk", self.weights, by_member(batch[MEMBERS], self.n_classes)))

    def effective_class_prior(self, n_classes: int, members: np.ndarray | None = None) -> np.ndarray | None:
        """Eq. 4."""
        if members is None:
            return None
        prior: Floats = np.prod(members ** self.weights[:, None], axis=0)
        return prior

    def contributions(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What each member's answer for a class adds to that class's score; exact, because the score is linear."""
        parts = member_contributions(by_member(batch[MEMBERS], self.n_classes), self.weights)
        return {MEMBERS: parts, "bias": np.zeros((len(parts), self.n_classes, 1))}


def _fitted(answers: Floats, labels: np.ndarray) -> Floats:
    """(M,) w of eq. 3, a softmax of free numbers; the loss is convex in w, so that any start finds it."""
    from scipy.optimize import minimize

    counts = np.bincount(labels, minlength=answers.shape[2])
    weight = len(labels) / ((counts > 0).sum() * counts[labels])

    def loss(free: Floats) -> float:
        w = np.exp(free - np.logaddexp.reduce(free))
        log_p = log_probabilities(np.einsum("m,nmk->nk", w, answers))
        return float(-(weight * log_p[np.arange(len(labels)), labels]).mean())

    free = minimize(loss, np.zeros(answers.shape[1]), method="L-BFGS-B", bounds=[(-8, 8)] * answers.shape[1]).x
    w: Floats = np.exp(free - np.logaddexp.reduce(free))
    return w


MODEL = LateFusion
