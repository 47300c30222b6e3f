"""Which features say the same: Spearman's correlation within and between the categories of PyRadiomics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.signature.selection import Spearman
from skinkit.stats.metrics import Floats


def category(feature: str) -> str:
    """``firstorder`` of ``original_firstorder_Mean``; ``red firstorder`` of ``red_original_firstorder_Mean``."""
    channel, _, rest = feature.partition("original_")
    return f"{channel.rstrip('_')} {rest.partition('_')[0]}".strip()


def kind(feature: str) -> str:
    """``intensity``, ``shape`` or ``texture``, the three groups that Wang et al. 2024 speak of."""
    name = category(feature).rpartition(" ")[2]
    return {"firstorder": "intensity", "shape2D": "shape"}.get(name, "texture")


def extremes(x: npt.ArrayLike, features: Sequence[str], far: float = 2.5) -> dict[str, float]:
    """Kind of feature -> share of values more than ``far`` standard deviations from their feature's mean.

    Args:
        x: (n, features), NaN where unknown; constant features are left out.
        features: names.
        far: in standard deviations. A normal distribution has 1.2 % beyond 2.5.
    """
    values = np.asarray(x, dtype=np.float64)
    spread = np.nanstd(values, axis=0)
    z = np.abs(values - np.nanmean(values, axis=0))[:, spread > 0] / spread[spread > 0]
    kinds = np.array([kind(name) for name in features])[spread > 0]
    return {
        name: float((z[:, kinds == name] > far).sum() / np.isfinite(z[:, kinds == name]).sum())
        for name in ("intensity", "shape", "texture")
        if (kinds == name).any()
    }


def correlations(x: npt.ArrayLike) -> Floats:
    """(features, features) Spearman's r over the rows (n, features) where both features are known."""
    values = np.asarray(x, dtype=np.float64)
    return Spearman(np.where(np.isfinite(values), values, np.nan)).matrix()


def between_categories(r: Floats, features: Sequence[str], high: float = 0.9) -> pd.DataFrame:
    """Pairs of different features, counted by category.

    Args:
        r: (features, features).
        features: names.
        high: a pair above it repeats itself.

    Returns:
        Rows of ``a``, ``b`` (equal: within a category), ``pairs``, ``median_abs_r`` and ``share_high``.
    """
    kinds = np.array([category(name) for name in features])
    names = list(dict.fromkeys(kinds.tolist()))
    upper = np.triu(np.ones_like(r, dtype=bool), 1)
    rows = []
    for i, a in enumerate(names):
        for b in names[i:]:
            of = np.logical_or(np.outer(kinds == a, kinds == b), np.outer(kinds == b, kinds == a)) & upper
            if of.any():
                pairs = np.abs(r[of])
                rows.append(
                    {
                        "a": a,
                        "b": b,
                        "pairs": len(pairs),
                        "median_abs_r": float(np.median(pairs)),
                        "share_high": float((pairs > high).mean()),
                    }
                )
    return pd.DataFrame(rows)
