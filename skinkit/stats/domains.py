"""How far two domains lie apart in features, and what of a gap between them goes with which property of the photos.

    (1) Frechet distance   |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))            means m and covariances S
    (2) MMD^2              mean k(a, a') + mean k(b, b') - 2 mean k(a, b), k(x, y) = exp(-|x - y|^2 / (2 s^2)),
                           unbiased, s: median distance of all pairs
    (3) proxy A-distance   2 (1 - 2 e)                                     e: error of a linear classifier of domains
    (4) weights            p(b | x) / p(a | x) n_a / n_b                   of a's cases, so that x is spread as in b

Sources: D. Dowson and B. Landau, Journal of Multivariate Analysis 12, 1982 (1); A. Gretton et al., JMLR 13, 2012, eq. 3
(2); S. Ben-David et al., NeurIPS 2006 (3); S. Bickel et al., ICML 2007 (4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.stats.metrics import Floats
from skinkit.stats.regression import log_softmax

_LARGEST_WEIGHT = 20.0
"""Of eq. 4, over their mean: beyond it a few cases would stand for all."""


def frechet_distance(a: Floats, b: Floats) -> float:
    """Eq. 1 of features (n, width) and (m, width)."""
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0)).sum()
    apart = float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum())
    return float(apart + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * shared)


def mmd2(a: Floats, b: Floats) -> float:
    """Eq. 2 of features (n, width) and (m, width); around 0, and below it by chance, where nothing differs."""
    every = np.concatenate([a, b])
    squares = (every**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * every @ every.T, 0)
    kernel = np.exp(-distances / (2 * np.median(distances[np.triu_indices(len(every), 1)])))
    n, m = len(a), len(b)
    within = [
        (block.sum() - np.trace(block)) / (k * (k - 1)) for block, k in ((kernel[:n, :n], n), (kernel[n:, n:], m))
    ]
    return float(within[0] + within[1] - 2 * kernel[:n, n:].mean())


def domain_log_odds(
    x: Floats, domain: npt.NDArray[np.bool_], groups: npt.ArrayLike, *, folds: int = 5, seed: int = 0
) -> Floats:
    """(n,) log odds of the second domain by a linear classifier that has not seen the case's group.

    Args:
        x: (n, width) features.
        domain: (n,) whether a case is of the second one.
        groups: (n,) patients.
        folds: of the cross-validation; fewer where a domain has fewer patients.
        seed: of the folds.

    Raises:
        ValueError: a domain has fewer than two patients.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names, out = np.asarray(groups), np.zeros(len(x))
    folds = min(folds, *(len(np.unique(names[side])) for side in (domain, ~domain)))
    if folds < 2:
        raise ValueError("a domain with fewer than two patients")
    divided = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, test in divided.split(x, domain, names):
        model: Any = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
        out[test] = model.fit(x[train], domain[train]).decision_function(x[test])
    return out


def proxy_a_distance(log_odds: Floats, domain: npt.NDArray[np.bool_]) -> float:
    """Eq. 3, -2 to 2, of what :func:`domain_log_odds` answers; both domains count alike."""
    wrong = (log_odds > 0) != domain
    error = (wrong[domain].mean() + wrong[~domain].mean()) / 2
    return float(2 * (1 - 2 * error))


def matched_weights(
    a: Floats, b: Floats, classes: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
) -> Floats:
    """(n,) eq. 4 of the cases of a: factors (n, k) and (m, k); of mean 1, and all 1 without factors.

    Args:
        a: factors of the cases that are weighted.
        b: of those they are to be like.
        classes: (n,) and (m,); where given, every class counts alike in both, so that another mix of classes is not
            taken for another spread of a factor that differs between classes.
    """
    if not a.shape[1]:
        return np.ones(len(a))
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    both = np.concatenate([a, b])
    curved = np.concatenate([both, (both - both.mean(axis=0)) ** 2], axis=1)
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    counted = np.ones(len(both)) if classes is None else np.concatenate([_class_shares(of) for of in classes])
    model.fit(curved, np.arange(len(both)) >= len(a), logisticregression__sample_weight=counted)
    weights = np.exp(np.clip(model.decision_function(curved[: len(a)]), -20, 20))
    weights /= weights.mean()
    for _ in range(20):
        weights = np.minimum(weights, _LARGEST_WEIGHT)
        weights /= weights.mean()
    out: Floats = weights
    return out


def _class_shares(labels: npt.NDArray[np.int64]) -> Floats:
    """(n,) weights by which every class counts alike; of mean 1."""
    counts = np.bincount(labels)
    weights: Floats = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return weights


def regression_towards(
    u: Floats, labels: npt.NDArray[np.int64], c: float, weight: Floats, bias: Floats
) -> tuple[Floats, Floats]:
    """A class-balanced regression that starts from another and is drawn back to it.

    min over W, b:  1/2 |W - W0|^2 - C sum_i n/(K n_{y_i}) log softmax(W u_i + b)_{y_i}

    Args:
        u: (n, columns).
        labels: (n,) class indices.
        c: C; smaller stays closer to W0.
        weight: (K, columns) W0.
        bias: (K,) where b starts; classes without a row keep W0 and b, and count for nothing meanwhile.

    Source: the penalty is that of X. Li et al., "Explicit inductive bias for transfer learning", ICML 2018, eq. 5.
    """
    from scipy.optimize import minimize

    counts = np.bincount(labels, minlength=len(bias))
    each = (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[labels]
    one_hot, start = np.eye(len(bias))[labels], np.concatenate([weight.ravel(), bias])
    size, absent = weight.size, counts == 0

    def loss(values: Floats) -> tuple[float, Floats]:
        w, b = values[:size].reshape(weight.shape), values[size:]
        z = np.where(absent, -np.inf, u @ w.T + b)
        log_p = log_softmax(z)
        apart = each[:, None] * (np.exp(log_p) - one_hot)
        total = 0.5 * ((w - weight) ** 2).sum() - c * (each * log_p[np.arange(len(u)), labels]).sum()
        of_bias = np.where(absent, 0.0, c * apart.sum(axis=0))
        return float(total), np.concatenate([((w - weight) + c * apart.T @ u).ravel(), of_bias])

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return found[:size].reshape(weight.shape), found[size:]
