"""How well scores separate two groups: as they are, or fitted out of fold by a small logistic regression.

Fitted scores always come from rows outside the training folds, folds are grouped by patient, and intervals are over
patients (``stats.intervals``). Used by the shortcut audit and by the comparison of two cohorts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skinkit.stats.intervals import LeaveOut, bounded_interval, bounded_p, effective_patients, patients_of
from skinkit.stats.metrics import Bools, Floats, Ranking, area_of_counts

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
        lower: of the 95 % interval over patients; NaN for too few of them.
        upper: of the same.
        p: two-sided, of AUROC 0.5 (Student's t; for an AUROC of 0 or 1 the sign test of the rarer side's patients); NaN
            for too few patients.
        n: rows with a score.
        n_positive: positives among them.
        n_clusters: clusters among them.
        n_rarer: clusters of the rarer side.
    """

    auroc: float
    lower: float
    upper: float
    p: float
    n: int
    n_positive: int
    n_clusters: int
    n_rarer: int

    @property
    def oriented(self) -> Area:
        """The AUROC of the negated score where it lies below 0.5."""
        if not self.auroc < 0.5:
            return self
        return replace(self, auroc=1 - self.auroc, lower=1 - self.upper, upper=1 - self.lower)


def areas(scores: Sequence[Floats], positive: Bools, cluster: npt.NDArray[np.str_], *, seed: int) -> list[Area]:
    """The AUROC of each score over the rows where it is known.

    Args:
        scores: each (n,), NaN where unknown.
        positive: (n,).
        cluster: (n,) patient of each row.
        seed: of the groups of many patients.
    """
    # Many cues are identical; each distinct score is measured once.
    distinct = {score.tobytes(): score for score in scores}
    weighted = {key: _Weighted(score, positive) for key, score in distinct.items()}
    parts: dict[bytes, list[Floats]] = {key: [] for key in distinct}
    for weights in LeaveOut(cluster, seed).weights(cluster):
        for key, measured in weighted.items():
            parts[key].append(measured(weights))
    by_score: dict[bytes, Area] = {}
    for key, measured in weighted.items():
        known = measured.rows
        sides = (known & positive, known & ~positive)
        area = float(measured(np.ones((1, len(positive))))[0])
        left_out = np.concatenate(parts[key]) if parts[key] else np.zeros(0)
        of_sides = [patients_of(cluster, side) for side in sides]  # a patient with rows of both counts twice
        rarer, effective = min(of_sides), effective_patients(cluster, *sides)
        lower, upper = bounded_interval(area, left_out, rarer, effective=effective)
        by_score[key] = Area(
            auroc=area,
            lower=lower,
            upper=upper,
            p=float("nan") if np.isnan(lower) else _p(area, left_out, effective, rarer, sum(of_sides)),
            n=int(known.sum()),
            n_positive=int(sides[0].sum()),
            n_clusters=patients_of(cluster, known),
            n_rarer=rarer,
        )
    return [by_score[score.tobytes()] for score in scores]


def _p(area: float, left_out: Floats, effective: float, rarer: int, dealt: int) -> float:
    """P of AUROC 0.5: no smaller than that of the most extreme of all ways to deal the rarer side out to patients."""
    from scipy.special import comb

    least = min(1.0, 2 / float(comb(dealt, rarer)))
    return least if area in (0.0, 1.0) else max(least, bounded_p(area, left_out, effective))


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
        return area_of_counts(counts[:, 1::2], counts[:, ::2])


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
    seed: int,
) -> tuple[float, float, float]:
    """AUROC over pairs of the same stratum only: the AUROC with the stratum held constant, with interval.

    Args:
        score: (n,).
        positive: (n,).
        stratum: (n,).
        cluster: (n,).
        seed: of the groups of many patients.
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

    left_out = [pooled(weights) for weights in LeaveOut(cluster, seed).weights(cluster)]
    area, sides = float(pooled(np.ones((1, len(score))))[0]), (positive, ~positive)
    ends = bounded_interval(
        area,
        np.concatenate(left_out) if left_out else np.zeros(0),
        patients_of(cluster, *sides),
        effective=effective_patients(cluster, *sides),
    )
    return area, *ends


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
