"""Agreement of masks with manual segmentations: mean and median of IoU and Dice, with intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.stats.metrics import Floats, Resamples, once, percentile_interval

FIGURES = ("iou", "dice")


def overlap(
    values: Mapping[str, npt.ArrayLike], cluster: npt.ArrayLike, *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Mean and median of some figures over images, with 95 % percentile intervals over resampled patients.

    Args:
        values: figure -> (n,), 0 to 1.
        cluster: (n,) patient of each image.
        bootstrap: replicates; every figure uses the same draws of patients.
        seed: of the draws.

    Returns:
        ``<figure>_mean`` and ``<figure>_median`` -> ``estimate``, ``lower`` and ``upper``.
    """
    resamples = Resamples(cluster, bootstrap, seed)
    out = {}
    for name, per_image in values.items():
        x = np.asarray(per_image, dtype=np.float64)
        for how, statistic in (("mean", _mean), ("median", _median)):
            replicates = [statistic(x, weights) for weights in resamples.weights(cluster)]
            lower, upper = percentile_interval(np.concatenate(replicates) if replicates else np.zeros(0))
            out[f"{name}_{how}"] = {"estimate": float(statistic(x, once(len(x)))[0]), "lower": lower, "upper": upper}
    return out


def text_of(figures: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Mean and median of one figure as text."""
    called = {"iou": "IoU", "dice": "Dice"}.get(name, name)
    parts = []
    for how in ("mean", "median"):
        one = figures[f"{name}_{how}"]
        interval = f" ({one['lower']:.3f} to {one['upper']:.3f})" if one["lower"] == one["lower"] else ""
        parts.append(f"{how} {one['estimate']:.3f}{interval}")
    return f"{called} {', '.join(parts)}"


def _mean(x: Floats, weights: Floats) -> Floats:
    mean: Floats = (weights @ x) / weights.sum(axis=1)
    return mean


def _median(x: Floats, weights: Floats) -> Floats:
    """(replicates,) weighted median: each value is repeated as often as its weight."""
    order = np.argsort(x, kind="stable")
    so_far = np.cumsum(weights[:, order], axis=1)
    half = so_far[:, -1:] / 2
    middle: Floats = (x[order][np.argmax(so_far >= half, axis=1)] + x[order][np.argmax(so_far > half, axis=1)]) / 2
    return middle
