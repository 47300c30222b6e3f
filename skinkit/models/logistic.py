"""Logistic regression on metadata: what is known without the photo.

Paper:
    D. R. Cox, "The regression analysis of binary sequences", Journal of the Royal Statistical Society B 20, 1958, doi
    10.1111/j.2517-6161.1958.tb00292.x; with several classes: H. Theil, "A multinomial extension of the linear logit
    model", International Economic Review 10, 1969, doi 10.2307/2525642.

Idea:
    The plainest model of a table: every column adds its share to every class. What a network with a photo gains is
    measured against what this one answers without it.

Equations:
    (1) u = [a; r]                              a: attributes, r: radiomic features where asked for; standardised
    (2) p = softmax(W u + b)
    (3) min over W, b:  1/2 |W|^2 - C sum_i n/(K n_{y_i}) log p_{y_i}(u_i)             class-balanced log loss
    (4) C = argmin over 10^-3, 10^-2.5, ..., 10^1 of the class-balanced log loss of the validation rows

Shapes:
    attributes (n, a), radiomics (n, r) -> p (n, K).

Departures:
    Eq. 4 is taken only where no C is given; without validation rows C is 0.1. Of equal losses the stronger penalty is
    taken. A class without a training row gets probability 0, and a model of no column at all answers equal shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np

from skinkit.artifacts.files import write_atomic
from skinkit.artifacts.tensors import load_tensors
from skinkit.errors import ConfigError
from skinkit.models.parts.inputs import joined, linear_contributions, widths_of
from skinkit.models.parts.protocol import Estimator, Labelled
from skinkit.stats.metrics import Floats
from skinkit.stats.regression import balanced_regression, log_probabilities

GRID = tuple(float(c) for c in 10.0 ** np.arange(-3, 1.5, 0.5))
"""C of eq. 4, the strongest penalty first."""
_UNWATCHED = 0.1


@dataclass(frozen=True)
class Config:
    """Options of the regression."""

    c: Annotated[float, "C of eq. 3, smaller is a stronger penalty; 0 chooses it on the validation rows"] = 0.0


@dataclass(frozen=True)
class Regression(Estimator):
    """A fitted regression.

    Attributes:
        weight: (K, columns) W of eq. 2.
        bias: (K,) b.
        widths: columns of each input in u, in order.
        c: C of eq. 3.
    """

    TASK = "classify"
    READS = ("attributes", "radiomics")
    CONFIG = Config
    TASKS = True
    BALANCED = True

    weight: Floats
    bias: Floats
    widths: Mapping[str, int]
    c: float

    @classmethod
    def fit(cls, config: Config, train: Labelled, validation: Labelled, *, n_classes: int, seed: int) -> Self:
        """Fit eq. 3 on the training rows; the validation rows decide only C, and no seed is needed.

        Raises:
            ConfigError: C is negative.
        """
        if config.c < 0:
            raise ConfigError(f"c = {config.c}", "0, or a positive number", "use --settings c=0.1")
        widths = widths_of(train.inputs, cls.READS)
        u, watched = joined(train.inputs, cls.READS), len(validation.labels)
        best: tuple[float, Self] | None = None
        for c in (config.c,) if config.c else GRID if watched else (_UNWATCHED,):
            fitted = cls(*_solved(u, train.labels, n_classes, c), widths, c)
            loss = _balanced_loss(fitted.predict(validation.inputs), validation.labels) if watched else 0.0
            if best is None or loss < best[0] - 1e-9:  # eq. 4
                best = loss, fitted
        assert best is not None
        return best[1]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of :meth:`save`."""
        import json

        about = json.loads((folder / "logistic.json").read_text(encoding="utf-8"))
        tensors = load_tensors(folder / "logistic.safetensors")
        return cls(tensors["weight"], tensors["bias"], about["widths"], float(about["c"]))

    def predict(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, K) log-probabilities, eq. 2."""
        return log_probabilities(joined(batch, self.READS) @ self.weight.T + self.bias)

    def contributions(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """W u taken apart by column; exact, because eq. 2 is linear in u."""
        return linear_contributions(joined(batch, self.READS), self.weight, self.bias, self.widths)

    def save(self, folder: Path) -> None:
        """``logistic.safetensors`` and ``logistic.json``."""
        import json

        from safetensors.numpy import save

        write_atomic(folder / "logistic.safetensors", save({"weight": self.weight, "bias": self.bias}))
        write_atomic(folder / "logistic.json", json.dumps({"widths": dict(self.widths), "c": self.c}).encode())


def _solved(u: Floats, labels: np.ndarray, n_classes: int, c: float) -> tuple[Floats, Floats]:
    """Eq. 3; without a column only b is left, and balanced classes are equally likely."""
    if not u.shape[1]:
        u = np.zeros((len(u), 1))
        weight, bias = balanced_regression(u, labels, n_classes, c)
        return weight[:, :0], bias
    return balanced_regression(u, labels, n_classes, c)


def _balanced_loss(log_p: Floats, labels: np.ndarray) -> float:
    """Mean over the classes present of their mean log loss."""
    own = -log_p[np.arange(len(labels)), labels]
    return float(np.mean([own[labels == k].mean() for k in np.unique(labels)]))


MODEL = Regression
