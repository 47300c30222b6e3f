"""Multinomial logistic regression, class-balanced and solved exactly whatever the number of columns, or weighted.

(1) p = softmax(W u + b)
(2) min over W, b:  1/2 |W|^2 - C sum_i w_i n/(K n_{y_i}) log p_{y_i}(u_i)         class-balanced log loss
(3) min over W, b:  1/2 |W|^2 - C sum_i w_i log p_{y_i}(u_i)                       weighted log loss
"""

from __future__ import annotations

import numpy as np

from skinkit.stats.metrics import Floats

NEVER = -1e4
"""Score of a class that had no training row."""


def balanced_regression(
    u: Floats, labels: np.ndarray, n_classes: int, c: float, weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Solve eq. 2: (K, columns) weights and (K,) biases; the bias of a class without a row is :data:`NEVER`.

    With fewer rows than columns it is solved in the span of the rows: the optimum lies there, because the penalty is
    rotation-invariant, and that is several times faster.

    Args:
        u: (n, columns).
        labels: (n,) class indices.
        n_classes: K.
        c: C; smaller is a stronger penalty.
        weights: (n,) w, at least 0; 1 by default. Classes are balanced by their rows, whatever these weigh.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # the same sums in the same order on any number of cores
        back = None
        if len(u) < u.shape[1]:
            power, directions = np.linalg.eigh(u @ u.T)
            kept = power > power[-1] * 1e-12
            root = np.sqrt(power[kept])
            back = (directions[:, kept] / root).T @ u  # orthonormal rows that span u
            u = directions[:, kept] * root
        regression = LogisticRegression(C=c, class_weight="balanced", max_iter=5000).fit(u, labels, weights)
        coefficients, intercepts = regression.coef_, regression.intercept_
        if back is not None:
            coefficients = coefficients @ back
    return _completed(coefficients, intercepts, regression.classes_, n_classes, NEVER)


def weighted_regression(
    u: Floats, labels: np.ndarray, n_classes: int, c: float, weights: Floats
) -> tuple[Floats, Floats]:
    """Solve eq. 3: (K, columns) weights and (K,) biases, both 0 for a class without a row.

    Args:
        u: (n, columns).
        labels: (n,) class indices.
        n_classes: K.
        c: C; smaller is a stronger penalty.
        weights: (n,) w, at least 0.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    if len(np.unique(labels)) < 2:
        return np.zeros((n_classes, u.shape[1])), np.zeros(n_classes)
    with threadpool_limits(1):
        regression = LogisticRegression(C=c, max_iter=5000).fit(u, labels, sample_weight=weights)
    return _completed(regression.coef_, regression.intercept_, regression.classes_, n_classes, 0.0)


def _completed(
    coefficients: Floats, intercepts: Floats, present: np.ndarray, n_classes: int, absent: float
) -> tuple[Floats, Floats]:
    """scikit-learn's solution with a row for every class; ``absent`` is the bias of those without a training row."""
    if len(present) == 2:  # scikit-learn gives two classes one row
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight, bias = np.zeros((n_classes, coefficients.shape[1])), np.full(n_classes, absent)
    weight[present], bias[present] = coefficients, intercepts
    return weight, bias


def log_probabilities(scores: Floats) -> Floats:
    """(n, K) scores -> log-probabilities of eq. 1, finite where a class never occurred."""
    z = np.maximum(scores, NEVER)
    out: Floats = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    return out
