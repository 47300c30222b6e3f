"""Multinomial logistic regression, class-balanced and solved exactly whatever the number of columns.

(1) p = softmax(W u + b)
(2) min over W, b:  1/2 |W|^2 - C sum_i w_i n/(K n_{y_i}) log p_{y_i}(u_i)         class-balanced log loss
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skinkit.stats.metrics import Floats

NEVER = -1e4
"""Score of a class that had no training row."""


def balanced_regression(
    u: Floats, labels: np.ndarray, n_classes: int, c: float, weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Solve eq. 2: (K, columns) weights and (K,) biases; the bias of a class without a row is :data:`NEVER`.

    Args:
        u: (n, columns).
        labels: (n,) class indices.
        n_classes: K.
        c: C; smaller is a stronger penalty.
        weights: (n,) w, at least 0; 1 by default. Classes are balanced by their rows, whatever these weigh.
    """
    (solution,) = _path(u, labels, n_classes, [c], weights, "balanced")
    return solution


def balanced_path(
    u: Floats, labels: np.ndarray, n_classes: int, penalties: Sequence[float], weights: Floats
) -> list[tuple[Floats, Floats]]:
    """Solve eq. 2 for several C, where classes are balanced by the weight of their rows.

    Arguments and answers as of :func:`balanced_regression`, one for each of ``penalties``.
    """
    by_class = np.bincount(labels, weights, minlength=n_classes)
    balance = by_class.sum() / (np.count_nonzero(by_class) * by_class[labels])
    return _path(u, labels, n_classes, penalties, weights * balance, None)


def _path(
    u: Floats, labels: np.ndarray, n_classes: int, penalties: Sequence[float], weights: Floats | None, balance: Any
) -> list[tuple[Floats, Floats]]:
    """With fewer rows than columns the problem is solved in the span of the rows, where the optimum lies.

    The penalty is rotation-invariant; that is several times faster, and is prepared once for all C.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    solutions = []
    with threadpool_limits(1):  # the same sums in the same order on any number of cores
        back = None
        if len(u) < u.shape[1] and u.any():  # columns that are all 0 span nothing
            power, directions = np.linalg.eigh(u @ u.T)
            kept = power > power[-1] * 1e-12
            root = np.sqrt(power[kept])
            back = (directions[:, kept] / root).T @ u  # orthonormal rows that span u
            u = directions[:, kept] * root
        for c in penalties:
            regression = LogisticRegression(C=c, class_weight=balance, max_iter=5000).fit(u, labels, weights)
            coefficients = regression.coef_ if back is None else regression.coef_ @ back
            solutions.append(_completed(coefficients, regression.intercept_, regression.classes_, n_classes))
    return solutions


def _completed(coefficients: Floats, intercepts: Floats, present: np.ndarray, n_classes: int) -> tuple[Floats, Floats]:
    """scikit-learn's solution with a row for every class."""
    if len(present) == 2:  # scikit-learn gives two classes one row
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight, bias = np.zeros((n_classes, coefficients.shape[1])), np.full(n_classes, NEVER)
    weight[present], bias[present] = coefficients, intercepts
    return weight, bias


def log_softmax(scores: Floats) -> Floats:
    """(n, K) scores -> log-probabilities of eq. 1."""
    out: Floats = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    return out


def log_probabilities(scores: Floats) -> Floats:
    """(n, K) scores -> log-probabilities of eq. 1, finite where a class never occurred."""
    return log_softmax(np.maximum(scores, NEVER))
