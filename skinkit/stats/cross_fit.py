"""How well scores separate two groups: as they are, or fitted out of fold by a small logistic regression.

Fitted scores always come from rows outside the training folds, folds are grouped by patient, and intervals resample
patients. Used by the shortcut audit and by the comparison of two cohorts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skinkit.stats.metrics import Bools, Floats, Ranking, cluster_weights, percentile_interval

FOLDS = 5
FEWEST_CLUSTERS = 4
RIDGE = 10.0
"""A handful of standardised columns, some of them nearly copies of each other."""
_FEW_VALUES = 256


@dataclass(frozen=True)
class Area:
    """An AUROC with its interval.

    Attributes:
        auroc: as ranked; below 0.5 where low scores go with the positives.
        lower: of the 95 % percentile interval over resampled clusters.
        upper: of the same.
        se: standard deviation of the replicates.
        n: rows with a score.
        n_positive: positives among them.
        n_clusters: clusters among them.
    """

    auroc: float
    lower: float
    upper: float
    se: float
    n: int
    n_positive: int
    n_clusters: int

    @property
    def oriented(self) -> Area:
        """The AUROC of the negated score where it lies below 0.5."""
        if not self.auroc < 0.5:
            return self
        return Area(1 - self.auroc, 1 - self.upper, 1 - self.lower, self.se, self.n, self.n_positive, self.n_clusters)

    @property
    def p(self) -> float:
        """Two-sided p value of AUROC 0.5, from the normal approximation with the bootstrap's standard deviation."""
        from scipy.stats import norm

        if np.isnan(self.auroc):
            return float("nan")
        distance = abs(self.auroc - 0.5)
        if not self.se > 0:
            return 0.0 if distance > 0 else 1.0
        return float(2 * norm.sf(distance / self.se))


def areas(
    scores: Sequence[Floats], positive: Bools, cluster: npt.NDArray[np.str_], *, bootstrap: int, seed: int
) -> list[Area]:
    """The AUROC of each score over the rows where it is known.

    Args:
        scores: each (n,), NaN where unknown.
        positive: (n,).
        cluster: (n,) patient of each row.
        bootstrap: replicates; every score uses the same draws.
        seed: of the bootstrap.
    """
    # Many cues are identical; each distinct score is measured once.
    distinct = {score.tobytes(): score for score in scores}
    weighted = {key: _Weighted(score, positive) for key, score in distinct.items()}
    parts: dict[bytes, list[Floats]] = {key: [] for key in distinct}
    for weights in cluster_weights(cluster, bootstrap, seed):
        for key, measured in weighted.items():
            parts[key].append(measured(weights))
    by_score: dict[bytes, Area] = {}
    for key, measured in weighted.items():
        rows = measured.rows
        replicates = np.concatenate(parts[key]) if parts[key] else np.zeros(0)
        lower, upper = percentile_interval(replicates)
        valid = replicates[~np.isnan(replicates)]
        se = float(valid.std(ddof=1)) if len(valid) > 1 else float("nan")
        counts = int(rows.sum()), int(positive[rows].sum()), len(np.unique(cluster[rows]))
        by_score[key] = Area(float(measured(np.ones((1, len(positive))))[0]), lower, upper, se, *counts)
    return [by_score[score.tobytes()] for score in scores]


class _Weighted:
    """The AUROC of one score under any weights of the cases: (replicates, n) -> (replicates,)."""

    def __init__(self, score: Floats, positive: Bools) -> None:
        self.rows = ~np.isnan(score)
        values, place = np.unique(score[self.rows], return_inverse=True)
        self._table: Floats | None = None
        if len(values) <= _FEW_VALUES:
            # Weight of negatives and positives at each value is a matrix product.
            self._table = np.zeros((int(self.rows.sum()), 2 * len(values)))
            self._table[np.arange(len(place)), 2 * place + positive[self.rows]] = 1.0
        else:
            self._ranking = Ranking(score[self.rows], positive[self.rows])

    def __call__(self, weights: Floats) -> Floats:
        own = weights[:, self.rows]
        if self._table is None:
            return self._ranking.areas(own)[0]
        counts = own @ self._table
        negatives, positives = counts[:, ::2], counts[:, 1::2]
        below = np.cumsum(negatives, axis=1) - 0.5 * negatives
        pairs = negatives.sum(axis=1) * positives.sum(axis=1)
        out: Floats = np.full(len(weights), np.nan)
        np.divide((positives * below).sum(axis=1), pairs, out=out, where=pairs > 0)
        return out


def fold_of(positive: Bools, cluster: npt.NDArray[np.str_], *, seed: int, folds: int = FOLDS) -> npt.NDArray[np.int64]:
    """A fold for every row: clusters stay together, those with a positive are dealt out first; -1 where too few are.

    Args:
        positive: (n,).
        cluster: (n,).
        seed: of the shuffling.
        folds: at most; fewer where a side has fewer clusters.
    """
    names, index = np.unique(cluster, return_inverse=True)
    with_positive = np.bincount(index, positive, len(names)) > 0
    with_negative = np.bincount(index, ~positive, len(names)) > 0
    rarest = int(min(with_positive.sum(), with_negative.sum()))
    if rarest < FEWEST_CLUSTERS:
        return np.full(len(positive), -1)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(~with_positive[order], kind="stable")]
    dealt = np.empty(len(names), dtype=np.int64)
    dealt[order] = np.arange(len(names)) % min(folds, rarest)
    return dealt[index]


def out_of_fold(columns: Floats, positive: Bools, fold: npt.NDArray[np.int64]) -> Floats:
    """Out-of-fold scores of a ridge logistic regression; all NaN if there are no folds.

    The mean score of the training rows is subtracted from each fold's scores. Without signal a fold would otherwise
    predict its training prevalence, which is low where the held-out prevalence is high, and pool to an AUROC below 0.5.

    Args:
        columns: (n, p), unknown values already filled in.
        positive: (n,).
        fold: (n,) of :func:`fold_of`.

    Returns:
        (n,) log odds less their mean over the fold's training rows.
    """
    scores = np.full(len(columns), np.nan)
    if not columns.shape[1] or (len(fold) and fold.min() < 0):
        return scores
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        mean, spread = columns[train].mean(axis=0), columns[train].std(axis=0)
        varied = spread > 0
        scaled = (columns[:, varied] - mean[varied]) / spread[varied]
        log_odds = scaled @ logistic(scaled[train], positive[train])
        scores[test] = log_odds[test] - log_odds[train].mean()
    return scores


def logistic(x: Floats, positive: Bools, *, ridge: float = RIDGE, steps: int = 50) -> Floats:
    """Coefficients of a logistic regression with an intercept that is left out, by Newton's method: (p,).

    Args:
        x: (n, p) standardised columns.
        positive: (n,).
        ridge: weight of half the squared coefficients in the log likelihood.
        steps: at most.
    """
    whole = np.hstack([x, np.ones((len(x), 1))])
    penalty = np.diag(np.r_[np.full(x.shape[1], ridge), 1e-9])
    w = np.zeros(whole.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(whole @ w, -30, 30)))
        slope = whole.T @ (positive - p) - penalty @ w
        step = np.linalg.solve((whole * (p * (1 - p))[:, None]).T @ whole + penalty, slope)
        largest = np.abs(step).max()
        w += step * min(1.0, 5.0 / max(largest, 1e-12))
        if largest < 1e-6:
            break
    return w[:-1]


def area_within(
    score: Floats,
    positive: Bools,
    stratum: npt.NDArray[np.int64],
    cluster: npt.NDArray[np.str_],
    *,
    bootstrap: int,
    seed: int,
) -> tuple[float, float, float]:
    """AUROC over pairs of the same stratum only: the AUROC with the stratum held constant, with interval.

    Args:
        score: (n,).
        positive: (n,).
        stratum: (n,).
        cluster: (n,).
        bootstrap: replicates.
        seed: of the bootstrap.
    """
    parts = [np.flatnonzero(stratum == value) for value in np.unique(stratum)]
    rankings = [(Ranking(score[rows], positive[rows]), rows) for rows in parts]

    def pooled(weights: Floats) -> Floats:
        above = np.zeros(len(weights))
        pairs = np.zeros(len(weights))
        for ranking, rows in rankings:
            positives, negatives = ranking.counts(weights[:, rows])
            higher = np.cumsum(positives, axis=1)
            above += (negatives * (higher - 0.5 * positives)).sum(axis=1)
            pairs += positives.sum(axis=1) * negatives.sum(axis=1)
        out: Floats = np.divide(above, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
        return out

    replicates = [pooled(weights) for weights in cluster_weights(cluster, bootstrap, seed)]
    lower, upper = percentile_interval(np.concatenate(replicates) if replicates else np.zeros(0))
    return float(pooled(np.ones((1, len(score))))[0]), lower, upper


def holm(p: npt.ArrayLike) -> Floats:
    """Holm's step-down correction of p values over all tests; NaN stays NaN and does not count.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    values = np.asarray(p, dtype=np.float64)
    flat = values.ravel()
    tested = np.flatnonzero(~np.isnan(flat))
    order = tested[np.argsort(flat[tested], kind="stable")]
    out = np.full(flat.shape, np.nan)
    raised = flat[order] * (len(order) - np.arange(len(order)))
    out[order] = np.minimum(np.maximum.accumulate(raised), 1) if len(order) else raised
    return out.reshape(values.shape)
