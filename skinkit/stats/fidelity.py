"""How much of a set of images another set covers, in features.

    (1) r_k(x)      distance of x to its k-th nearest neighbour in its own set
    (2) precision   share of the synthetic images within r_k of some real one
    (3) recall      share of the real images within r_k of some synthetic one

Source: T. Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019.
"""

from __future__ import annotations

import numpy as np

from skinkit.stats.metrics import Floats

NEIGHBOURS = 3


def precision_recall(real: Floats, synthetic: Floats, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Eqs. 2 and 3 of features (n, width) and (m, width); NaN where a set has not more than k."""
    if min(len(real), len(synthetic)) <= k:
        return float("nan"), float("nan")
    between = _distances(real, synthetic)
    precision = (between <= _radii(real, k)[:, None]).any(axis=0).mean()
    recall = (between <= _radii(synthetic, k)[None]).any(axis=1).mean()
    return float(precision), float(recall)


def _radii(x: Floats, k: int) -> Floats:
    """Eq. 1; the point itself is the nearest."""
    return np.partition(_distances(x, x), k, axis=1)[:, k]


def _distances(a: Floats, b: Floats) -> Floats:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    out: Floats = np.sqrt(np.maximum(squares, 0))
    return out
