"""LightGBM on the signature alone, and exact Shapley values of its log odds.

The trees see no photo and no metadata: they show what the signature alone contributes. With z the scores of eq. 1 in
``skinkit.models.lightgbm`` for the two sides *positive* and *rest*,

    (1) log odds = z_positive - z_rest = base + sum_f phi_f

where phi_f are exact TreeSHAP values (``shap.TreeExplainer``; Lundberg et al., Nature Machine Intelligence 2, 2020).
Both sides weigh the same in training, so log odds of 0 mean *as likely as not in a world with as many positives as
others*.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.models import lightgbm
from skinkit.models.parts.protocol import Labelled
from skinkit.signature.selection import Bools
from skinkit.stats.metrics import Floats


@dataclass(frozen=True)
class SplitRows:
    """Rows of one part of a split.

    Attributes:
        x: (n, features), NaN where unknown.
        positive: (n,).
    """

    x: Floats
    positive: Bools


@dataclass(frozen=True)
class Explained:
    """Log odds of some rows, taken apart.

    Attributes:
        base: what every row starts from.
        phi: (n, features) what each feature adds.
    """

    base: float
    phi: Floats

    @property
    def log_odds(self) -> Floats:
        """(n,) eq. 1."""
        total: Floats = self.base + self.phi.sum(axis=1)
        return total


def explain(train: SplitRows, validation: SplitRows, shown: npt.ArrayLike, *, seed: int = 0) -> Explained:
    """Fit on the training rows, stop by the validation rows, and take the log odds of other rows apart.

    Args:
        train: both classes must occur.
        validation: decide how many trees are kept; may be empty.
        shown: (n, features) rows that were not learnt from.
        seed: of the trees.
    """
    learnt, held_back = (Labelled(_batch(rows.x), rows.positive.astype(np.int64)) for rows in (train, validation))
    fitted = lightgbm.Trees.fit(lightgbm.Config(), learnt, held_back, n_classes=2, seed=seed)
    parts = _tree_explainer(fitted.booster)(np.asarray(shown, dtype=np.float64))
    base, phi = (values[..., 1] - values[..., 0] for values in (parts.base_values, parts.values))
    return Explained(float(base[0]), phi)


def _tree_explainer(booster: Any) -> Any:
    """SHAP's explainer of trees. SHAP imports its plots too, which use calls that Matplotlib is about to withdraw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        import shap
    return shap.TreeExplainer(booster)


def _batch(x: Floats) -> dict[str, Floats]:
    return {"attributes": np.zeros((len(x), 0)), "radiomics": x}


def most_typical(phi: Floats, candidates: Bools) -> int:
    """The candidate whose contributions are nearest to the candidates' median contributions."""
    rows = np.flatnonzero(candidates)
    centre = np.median(phi[rows], axis=0)
    return int(rows[np.argmin(((phi[rows] - centre) ** 2).sum(axis=1))])
