"""Which features separate classes: one-vs-rest Welch tests, Holm's correction, and no feature that repeats another.

Wang et al. 2024 (PMC11347612) name a univariate t-test and nine features; class pairing, alpha, correction and
redundancy are unsaid there and chosen here.

Photos of one patient are alike, so patients are what is counted. For every patient the mean of its photos of a class
(1) and of its other photos (2) is taken. With means m, variances s^2 and counts n of these patient means, and c the sum
of products of their deviations over the patients who have both, divided by sqrt(n1 (n1-1) n2 (n2-1)):

    (1) t = (m1 - m2) / sqrt(s1^2/n1 + s2^2/n2 - 2 c)
    (2) freedom = (s1^2/n1 + s2^2/n2)^2 / ((s1^2/n1)^2/(n1-1) + (s2^2/n2)^2/(n2-1)), at most patients - 1
    (3) d = (m1 - m2) / sqrt(((n1-1) v1 + (n2-1) v2) / (n1 + n2 - 2))

with v the variance of the photos, patients weighing the same. With one photo a patient this is Welch's t-test and
Cohen's d; with every patient on both sides it is the paired t-test. A class needs :data:`FEWEST_PATIENTS` patients on
either side.

Sources: Welch, Biometrika 1947; Donner & Klar, Design and Analysis of Cluster Randomization Trials, 2000, section 7.2
(the unweighted test of cluster means).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.stats.cross_fit import holm
from skinkit.stats.distributions import ranks, student_tail
from skinkit.stats.metrics import Floats

Bools = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.str_]

_MOST_MISSING = 0.5
_NOTHING = 1e-20
FEWEST_PATIENTS = 4
"""Patients on either side for which a feature is tested: below, the t distribution is no guide to small p."""


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
        n_clusters: (classes,) patients with such a row.
        statistic: eq. 1.
        freedom: eq. 2.
        p: two-sided p.
        p_holm: the same after Holm's correction over all features and classes.
        difference: mean of the class minus mean of the others, in the feature's own unit.
        effect: eq. 3.
    """

    classes: Strings
    n: npt.NDArray[np.int64]
    n_clusters: npt.NDArray[np.int64]
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
                "n_clusters": self.n_clusters[columns],
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


def choose(
    x: npt.ArrayLike, labels: Strings, cluster: npt.ArrayLike, features: Sequence[str], rule: SignatureRule
) -> Choice:
    """Choose the signature from some rows.

    Args:
        x: (n, features), NaN where a feature is unknown.
        labels: (n,) class of each row.
        cluster: (n,) patient of each row.
        features: their names; they decide only between equal p and equal t.
        rule: limit, alpha and largest correlation.
    """
    x = np.asarray(x, dtype=np.float64)
    x = np.where(np.isfinite(x), x, np.nan)
    missing, constant = _unusable(x)
    tests = welch(x, labels, cluster, missing | constant)
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


def welch(x: Floats, labels: Strings, cluster: npt.ArrayLike, without: Bools | None = None) -> Tests:
    """Eqs. 1 to 3 of each class against all others.

    Args:
        x: (n, features), NaN where unknown.
        labels: (n,).
        cluster: (n,) patient of each row.
        without: (features,) features that are not tested and do not count in Holm's correction.

    A test needs :data:`FEWEST_PATIENTS` patients with a known value on either side, and some variance between them.
    """
    classes, counts = np.unique(labels, return_counts=True)
    names, patient = np.unique(np.asarray(cluster), return_inverse=True)
    shape = (x.shape[1], len(classes))
    statistic, freedom, p, difference, effect = (np.full(shape, np.nan) for _ in range(5))
    n_clusters = np.array([len(np.unique(patient[labels == name])) for name in classes], dtype=np.int64)
    for column, name in enumerate(classes):
        one, rest = (_Side(x[rows], patient[rows], len(names)) for rows in (labels == name, labels != name))
        variance = ((one.deviation - rest.deviation) ** 2).sum(axis=0)
        v1, v2 = ((side.deviation**2).sum(axis=0) for side in (one, rest))
        good = (np.minimum(one.n, rest.n) >= FEWEST_PATIENTS) & (variance > _NOTHING * (v1 + v2))
        if without is not None:
            good &= ~without
        n1, n2, v1, v2 = (a[good] for a in (one.n, rest.n, v1, v2))
        gap = one.mean[good] - rest.mean[good]
        t = gap / np.sqrt(variance[good])  # eq. 1
        df = (v1 + v2) ** 2 / (v1**2 / (n1 - 1) + v2**2 / (n2 - 1))  # eq. 2
        df = np.minimum(df, (one.known | rest.known).sum(axis=0)[good] - 1)
        statistic[good, column], freedom[good, column] = t, df
        p[good, column] = 2 * student_tail(np.abs(t), df)
        difference[good, column] = gap
        pooled = ((n1 - 1) * one.spread[good] + (n2 - 1) * rest.spread[good]) / (n1 + n2 - 2)
        effect[good, column] = np.divide(gap, np.sqrt(pooled), out=np.full(len(gap), np.nan), where=pooled > 0)  # eq. 3
    return Tests(classes, counts, n_clusters, statistic, freedom, p, holm(p), difference, effect)


class _Side:
    """The patients of one side of a test.

    Args:
        x: (rows, features) of this side, NaN where unknown.
        patient: (rows,) index of each row's patient.
        patients: of both sides.

    Attributes:
        known: (patients, features) whether the patient has a known value here.
        n: (features,) such patients.
        mean: (features,) mean over them of their means.
        deviation: (patients, features) of the patient's mean from ``mean``, scaled so that the sum of squares is s^2/n.
        spread: (features,) variance of the rows about ``mean``, every patient weighing the same.
    """

    def __init__(self, x: Floats, patient: npt.NDArray[np.int64], patients: int) -> None:
        order = np.argsort(patient, kind="stable")
        x, patient = x[order], patient[order]
        start = np.flatnonzero(np.r_[True, patient[1:] != patient[:-1]][: len(patient)])
        here = ~np.isnan(x)
        counts, sums = np.zeros((patients, x.shape[1])), np.zeros((patients, x.shape[1]))
        if len(start):
            counts[patient[start]] = np.add.reduceat(here.astype(np.float64), start, axis=0)
            sums[patient[start]] = np.add.reduceat(np.where(here, x, 0.0), start, axis=0)
        self.known: Bools = counts > 0
        self.n = self.known.sum(axis=0)
        means = sums / np.maximum(counts, 1)
        self.mean = means.sum(axis=0) / np.maximum(self.n, 1)
        self.deviation = np.where(self.known, means - self.mean, 0.0) / np.sqrt(np.maximum(self.n * (self.n - 1), 1))
        weights = here / np.maximum(counts, 1)[patient] / np.maximum(self.n, 1)
        squares = (weights * np.where(here, x - self.mean, 0.0) ** 2).sum(axis=0)
        self.spread = squares / np.maximum(1 - (weights**2).sum(axis=0), 1e-12)


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
    rank = ranks(values)
    centred = rank - rank.mean() if len(rank) else rank
    length = float(np.sqrt(centred @ centred))
    return centred / length if length else centred


def _strings(values: list[str | None]) -> pd.Series:
    return pd.Series(values, dtype=object)
