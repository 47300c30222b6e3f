"""Which features tell classes apart: one-vs-rest Welch tests, Holm's correction, and no feature that repeats another.

Wang et al. 2024 (PMC11347612) name a univariate t-test and nine features; class pairing, alpha, correction and
redundancy are unsaid there and chosen here.

With means m, variances s^2 and counts n of a class (1) and all others (2):

    (1) t = (m1 - m2) / sqrt(s1^2/n1 + s2^2/n2)                                        Welch, Biometrika 1947
    (2) freedom = (s1^2/n1 + s2^2/n2)^2 / ((s1^2/n1)^2/(n1-1) + (s2^2/n2)^2/(n2-1))    Welch-Satterthwaite
    (3) d = (m1 - m2) / sqrt(((n1-1) s1^2 + (n2-1) s2^2) / (n1 + n2 - 2))              Cohen's d
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata
from scipy.stats import t as student

from skinkit.stats.cross_fit import holm
from skinkit.stats.metrics import Floats

Bools = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.str_]

_MOST_MISSING = 0.5


@dataclass(frozen=True)
class SignatureRule:
    """How a signature is chosen.

    Attributes:
        limit: features at most.
        alpha: significance level after Holm's correction.
        max_correlation: largest absolute Spearman r with a better-ranked feature.
    """

    limit: int = 9
    alpha: float = 0.05
    max_correlation: float = 0.9


@dataclass(frozen=True)
class Tests:
    """Every feature tested for every class; arrays are (features, classes), NaN where a test could not be made.

    Attributes:
        classes: classes, sorted.
        n: (classes,) rows of each class.
        statistic: eq. 1.
        freedom: eq. 2.
        p: two-sided p.
        p_holm: the same after Holm's correction over all features and classes.
        difference: mean of the class minus mean of the others, in the feature's own unit.
        effect: eq. 3.
    """

    classes: Strings
    n: npt.NDArray[np.int64]
    statistic: Floats
    freedom: Floats
    p: Floats
    p_holm: Floats
    difference: Floats
    effect: Floats

    @property
    def best(self) -> npt.NDArray[np.int64]:
        """(features,) the class with the smallest p."""
        columns: npt.NDArray[np.int64] = np.argmin(np.where(np.isnan(self.p), np.inf, self.p), axis=1)
        return columns

    @property
    def tested(self) -> Bools:
        """(features,) whether any class could be tested."""
        return np.asarray((~np.isnan(self.p)).any(axis=1), dtype=np.bool_)

    def table(self, features: Sequence[str]) -> pd.DataFrame:
        """One row per feature and class that was tested."""
        rows, columns = np.nonzero(~np.isnan(self.p))
        return pd.DataFrame(
            {
                "feature": np.asarray(features, dtype=object)[rows],
                "class": self.classes[columns].astype(object),
                "n": self.n[columns],
                "statistic": self.statistic[rows, columns],
                "freedom": self.freedom[rows, columns],
                "p": self.p[rows, columns],
                "p_holm": self.p_holm[rows, columns],
                "mean_difference": self.difference[rows, columns],
                "cohens_d": self.effect[rows, columns],
            }
        )


@dataclass(frozen=True)
class Choice:
    """What became of every feature.

    Attributes:
        tests: the tests it rests on.
        order: features by p, best first; those that could not be tested are left out.
        kept: features of the signature, best first.
        reason: (features,) why a feature was dropped; None where it was kept.
        repeats: (features,) the kept feature that a dropped one repeats.
    """

    tests: Tests
    order: list[int]
    kept: list[int]
    reason: list[str | None]
    repeats: list[int | None]

    def table(self, features: Sequence[str]) -> pd.DataFrame:
        """One row per feature, as in the schema of signatures but for the fold."""
        everyone = np.arange(len(features))
        tests, best, tested = self.tests, self.tests.best, self.tests.tested
        rank: list[int | None] = [None] * len(features)
        for place, i in enumerate(self.order, start=1):
            rank[i] = place

        def of_best(values: Floats) -> Floats:
            return np.where(tested, values[everyone, best], np.nan)

        return pd.DataFrame(
            {
                "feature": list(features),
                "statistic": of_best(tests.statistic),
                "best_class": _strings([str(tests.classes[best[i]]) if tested[i] else None for i in everyone]),
                "p": of_best(tests.p),
                "p_holm": of_best(tests.p_holm),
                "rank": pd.array(rank, dtype="Int64"),
                "selected": [i in self.kept for i in everyone],
                "drop_reason": _strings(self.reason),
                "correlated_with": _strings([None if k is None else features[k] for k in self.repeats]),
            }
        )


def choose(x: npt.ArrayLike, labels: Strings, features: Sequence[str], rule: SignatureRule) -> Choice:
    """Choose the signature from some rows.

    Args:
        x: (n, features), NaN where a feature is unknown.
        labels: (n,) class of each row.
        features: their names; they decide only between equal p and equal t.
        rule: limit, alpha and largest correlation.
    """
    x = np.asarray(x, dtype=np.float64)
    x = np.where(np.isfinite(x), x, np.nan)
    missing, constant = _unusable(x)
    tests = welch(x, labels, missing | constant)
    best = tests.best
    p, p_holm, t = (a[np.arange(len(best)), best] for a in (tests.p, tests.p_holm, tests.statistic))
    # With many cases p underflows to 0 for several features: the larger |t| goes first, then the name.
    order = sorted(np.flatnonzero(tests.tested).tolist(), key=lambda i: (float(p[i]), -abs(float(t[i])), features[i]))
    reason: list[str | None] = ["missing" if lost else "constant" for lost in missing]
    repeats: list[int | None] = [None] * len(reason)
    correlation = Spearman(x)
    kept: list[int] = []
    for i in order:
        reason[i] = None
        if p_holm[i] > rule.alpha:
            reason[i] = "not_significant"
            continue
        like = next((k for k in kept if abs(correlation(k, i)) > rule.max_correlation), None)
        if like is not None:
            reason[i], repeats[i] = "correlated", like
        elif len(kept) >= rule.limit:
            reason[i] = "beyond_limit"
        else:
            kept.append(i)
    return Choice(tests, order, kept, reason, repeats)


def welch(x: Floats, labels: Strings, without: Bools | None = None) -> Tests:
    """Eqs. 1 to 3 of each class against all others.

    Args:
        x: (n, features), NaN where unknown.
        labels: (n,).
        without: (features,) features that are not tested and do not count in Holm's correction.

    A test needs two known values on either side, and some variance.
    """
    classes, counts = np.unique(labels, return_counts=True)
    shape = (x.shape[1], len(classes))
    statistic, freedom, p, difference, effect = (np.full(shape, np.nan) for _ in range(5))
    for column, name in enumerate(classes):
        (n1, m1, v1), (n2, m2, v2) = (_moments(x[rows]) for rows in (labels == name, labels != name))
        good = (n1 >= 2) & (n2 >= 2) & (v1 + v2 > 0)
        if without is not None:
            good &= ~without
        n1, m1, v1, n2, m2, v2 = (a[good] for a in (n1, m1, v1, n2, m2, v2))
        e1, e2 = v1 / n1, v2 / n2
        t = (m1 - m2) / np.sqrt(e1 + e2)  # eq. 1
        df = (e1 + e2) ** 2 / (e1**2 / (n1 - 1) + e2**2 / (n2 - 1))  # eq. 2
        statistic[good, column], freedom[good, column] = t, df
        p[good, column] = 2 * student.sf(np.abs(t), df)
        difference[good, column] = m1 - m2
        effect[good, column] = (m1 - m2) / np.sqrt(((n1 - 1) * v1 + (n2 - 1) * v2) / (n1 + n2 - 2))  # eq. 3
    return Tests(classes, counts, statistic, freedom, p, holm(p), difference, effect)


def _moments(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Count, mean and variance of the known values of each column."""
    n = (~np.isnan(values)).sum(axis=0).astype(np.float64)
    mean = np.nansum(values, axis=0) / np.maximum(n, 1)
    variance = np.nansum((values - mean) ** 2, axis=0) / np.maximum(n - 1, 1)
    return n, mean, variance


def _unusable(x: Floats) -> tuple[Bools, Bools]:
    """Features unknown in more than half of the rows, and features with one value only."""
    present = ~np.isnan(x)
    missing = present.mean(axis=0) < 1 - _MOST_MISSING if len(x) else np.ones(x.shape[1], dtype=bool)
    low = np.where(present, x, np.inf).min(axis=0, initial=np.inf)
    high = np.where(present, x, -np.inf).max(axis=0, initial=-np.inf)
    return missing, ~missing & (low >= high)


class Spearman:
    """Spearman's r of two columns over the rows where both are known; ranks of complete columns are kept."""

    def __init__(self, x: Floats) -> None:
        self.x = x
        self._ranks: dict[int, Floats | None] = {}

    def __call__(self, i: int, j: int) -> float:
        """R of columns i and j."""
        a, b = self._ranked(i), self._ranked(j)
        if a is None or b is None:
            both = ~np.isnan(self.x[:, i]) & ~np.isnan(self.x[:, j])
            a, b = _unit_ranks(self.x[both, i]), _unit_ranks(self.x[both, j])
        return float(a @ b)

    def matrix(self) -> Floats:
        """(features, features); 0 where a feature is constant."""
        k = self.x.shape[1]
        r = np.eye(k)
        for i in range(k):
            for j in range(i):
                r[i, j] = r[j, i] = self(i, j)
        return r

    def _ranked(self, i: int) -> Floats | None:
        if i not in self._ranks:
            column = self.x[:, i]
            self._ranks[i] = None if np.isnan(column).any() else _unit_ranks(column)
        return self._ranks[i]


def _unit_ranks(values: Floats) -> Floats:
    """Ranks centred and scaled to length 1, so that a dot product is a correlation; zeros where all are equal."""
    ranks = np.asarray(rankdata(values), dtype=np.float64)
    centred = ranks - ranks.mean() if len(ranks) else ranks
    length = float(np.sqrt(centred @ centred))
    return centred / length if length else centred


def _strings(values: list[str | None]) -> pd.Series:
    return pd.Series(values, dtype=object)
