"""How well coded values separate each class from the rest, out of fold: arrays in, AUROCs out.

A row is scored with the share of positives among the training rows of its level (target encoding), so that any
relation is found, not only a monotone one. Folds keep patients together; a level that no training row has is scored
with the training rows' own share. Rows of a fold share a few distinct scores, so that an AUROC costs one count of
(fold, level, class), whatever the number of targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.stats.distributions import normal_tail, ranks
from skinkit.stats.metrics import Bools, Floats, area_of_counts

FOLDS = 5
FEWEST_CLUSTERS = 3
"""Patients that a class and its rest need; with fewer no fold can learn it and be tested."""
_SMOOTHING = 1.0
_STEPS = 2000

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Separation:
    """Rows with their classes, targets and folds.

    Attributes:
        label: (n,) class of each row, 0 to K - 1.
        targets: (K, T) whether a class is a positive of a target.
        cluster: (n,) patient of each row, 0 to C - 1.
        fold: (n,) fold of each row; patients are kept together.
    """

    label: Codes
    targets: Bools
    cluster: Codes
    fold: Codes

    @staticmethod
    def of(label: Codes, targets: Bools, cluster: npt.NDArray[np.str_], *, seed: int = 0) -> Separation:
        """Rows dealt to folds, patients of the rarest class first, so that each class is in as many folds as it can."""
        patient = np.unique(cluster, return_inverse=True)[1].astype(np.int64)
        n_patients = int(patient.max(initial=-1)) + 1
        frequency = np.bincount(label, minlength=len(targets))
        rarest = np.full(n_patients, np.iinfo(np.int64).max)
        np.minimum.at(rarest, patient, frequency[label])
        order = np.random.default_rng(seed).permutation(n_patients)
        order = order[np.argsort(rarest[order], kind="stable")]
        dealt = np.empty(n_patients, dtype=np.int64)
        dealt[order] = np.arange(n_patients) % FOLDS
        return Separation(label, targets, patient, dealt[patient])

    def rows(self, chosen: npt.NDArray[np.int64]) -> Separation:
        """The same for some of the rows, with their folds."""
        return Separation(self.label[chosen], self.targets, self.cluster[chosen], self.fold[chosen])

    @cached_property
    def positive(self) -> Bools:
        """(n, T) positives of each target."""
        return self.targets[self.label]

    @cached_property
    def n_patients(self) -> npt.NDArray[np.int64]:
        """(T, 2) patients with a positive row, and with another one."""
        sides = [
            [len(np.unique(self.cluster[mask])) for mask in (self.positive[:, t], ~self.positive[:, t])]
            for t in range(self.targets.shape[1])
        ]
        return np.array(sides, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def _base(self) -> Codes:
        return self.fold * len(self.targets) + self.label

    def of_levels(self, codes: Codes, levels: int) -> Floats:
        """(T,) AUROC of a category whose levels are 0 to ``levels`` - 1."""
        k = len(self.targets)
        counts = np.bincount(self._base * levels + codes, minlength=FOLDS * k * levels).reshape(FOLDS, k, levels)
        total = counts.sum(axis=1, dtype=np.float64)  # (F, L)
        hits = np.einsum("fkl,kt->flt", counts.astype(np.float64), self.targets.astype(np.float64))
        learnt, learnt_hits = total.sum(axis=0) - total, hits.sum(axis=0) - hits
        prior = learnt_hits.sum(axis=1, keepdims=True) / np.maximum(learnt.sum(axis=1), 1)[:, None, None]
        score = (learnt_hits + _SMOOTHING * prior) / (learnt + _SMOOTHING)[..., None]
        return _areas(score, hits, total)

    def of_ranks(self, values: Floats) -> Floats:
        """(T,) AUROC of a number as a score, in the direction above 0.5; NaN counts as the median."""
        known = np.isfinite(values)
        if not known.any():
            return np.full(self.targets.shape[1], 0.5)
        rank = ranks(np.where(known, values, np.median(values[known])))
        n_positive = self.positive.sum(axis=0)
        pairs = n_positive * (len(rank) - n_positive)
        above = rank @ self.positive - n_positive * (n_positive + 1) / 2
        area: Floats = np.divide(above, pairs, out=np.full(len(pairs), 0.5), where=pairs > 0)
        return np.maximum(area, 1 - area)

    def of_presence(self, present: npt.NDArray[np.float32]) -> Floats:
        """(T,) AUROC of many flags together, by naive Bayes.

        Args:
            present: (n, flags) 1 where a row has the flag, such as a word.
        """
        score = np.zeros(self.positive.shape)
        y = self.positive.astype(np.float32)
        for number in range(FOLDS):
            train, test = self.fold != number, self.fold == number
            n_positive = y[train].sum(axis=0)
            hits = present[train].T @ y[train]
            others = present[train].sum(axis=0)[:, None] - hits
            p, q = (hits + 0.5) / (n_positive + 1), (others + 0.5) / (train.sum() - n_positive + 1)
            score[test] = present[test] @ np.log(p / q) + ((1 - present[test]) @ np.log((1 - p) / (1 - q)))
        return np.array([_of_scores(score[:, t], y[:, t]) for t in range(y.shape[1])])

    def of_columns(self, columns: Floats, target: int) -> float:
        """AUROC of many columns together for one target, by a ridge logistic regression."""
        from skinkit.stats.cross_fit import out_of_fold

        y = self.positive[:, target]
        return _of_scores(out_of_fold(columns, y, self.fold), y)

    def chance(self, auroc: Floats) -> Floats:
        """(T,) one-sided p value of such an AUROC without any relation, as if every patient had one row per side.

        The larger of the normal approximation of the rank-sum test and the probability of a perfect separation, which
        no p value of so few patients can go below.
        """
        from scipy.special import gammaln

        a, b = self.n_patients[:, 0].astype(float), self.n_patients[:, 1].astype(float)
        pairs = np.maximum(a * b, 1)
        p = normal_tail((auroc - 0.5) / np.sqrt((a + b + 1) / (12 * pairs)))
        perfect = np.exp(gammaln(a + 1) + gammaln(b + 1) - gammaln(a + b + 1))
        limited: Floats = np.maximum(p, perfect)
        return limited


def _areas(score: Floats, hits: Floats, total: Floats) -> Floats:
    """(T,) AUROC from cells: (F, L, T) scores and positives, (F, L) rows."""
    targets = score.shape[2]
    place = np.minimum((score * _STEPS).astype(np.int64), _STEPS) + np.arange(targets) * (_STEPS + 1)
    size = targets * (_STEPS + 1)
    positives = np.bincount(place.ravel(), hits.ravel(), size).reshape(targets, -1)
    rows = np.bincount(place.ravel(), np.broadcast_to(total[..., None], score.shape).ravel(), size).reshape(targets, -1)
    return _ranked(positives, rows)


def _of_scores(score: Floats, positive: npt.NDArray[Any]) -> float:
    """AUROC of the scores of rows; 0.5 where a side is empty."""
    value, place = np.unique(score, return_inverse=True)
    return float(_ranked(np.bincount(place, positive, len(value)), np.bincount(place, minlength=len(value))))


def _ranked(positives: npt.NDArray[Any], rows: npt.NDArray[Any]) -> Floats:
    """(...,) AUROC from positives and all rows at each score, (..., scores) in ascending order; 0.5 without a side."""
    area = area_of_counts(positives.astype(np.float64), rows.astype(np.float64) - positives)
    return np.asarray(np.nan_to_num(area, nan=0.5))


def joint(codes: Sequence[tuple[Codes, int]]) -> tuple[Codes, int]:
    """The combinations of several codes that occur, as one code."""
    out, levels = codes[0]
    for more, of in codes[1:]:
        out, levels = out * of + more, levels * of
        if levels > len(out):
            values, out = np.unique(out, return_inverse=True)
            levels = len(values)
    return out.astype(np.int64), levels
