"""Agreement of masks with manual segmentations: mean and median of IoU and Dice, with intervals over patients.

The thresholded IoU counts an image below 0.65 as 0, as a mask that would be drawn again (the rule of the ISIC 2018
challenge: N. Codella et al., "Skin Lesion Analysis Toward Melanoma Detection 2018", arXiv:1902.03368).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.evaluation.markdown import with_interval
from skinkit.stats.intervals import NONE, mean_interval, patients_of, proportion_interval
from skinkit.stats.metrics import Floats
from skinkit.stats.notes import MINIMUM_PATIENTS, TOO_FEW_PATIENTS, words_of

FIGURES = ("iou", "dice")
THRESHOLD = 0.65
"""IoU below which a mask counts as wrong."""


def overlap(values: Mapping[str, npt.ArrayLike], cluster: npt.ArrayLike) -> dict[str, dict[str, float]]:
    """Mean and median of some figures over images, with 95 % intervals over patients; NaN for too few of them.

    Args:
        values: figure -> (n,), 0 to 1.
        cluster: (n,) patient of each image.

    Returns:
        ``<figure>_mean`` and ``<figure>_median`` -> ``estimate``, ``lower`` and ``upper``; for the figure ``iou`` also
        ``iou_thresholded``.
    """
    out = {}
    for name, per_image in values.items():
        x = np.asarray(per_image, dtype=np.float64)
        out[f"{name}_mean"] = mean_interval(x, cluster)
        if name == "iou":
            out["iou_thresholded"] = mean_interval(np.where(x >= THRESHOLD, x, 0.0), cluster)
        lower, upper = _median_interval(x, cluster)
        out[f"{name}_median"] = {"estimate": float(np.median(x)), "lower": lower, "upper": upper}
    return out


def difference(
    ours: Mapping[str, npt.ArrayLike], theirs: Mapping[str, npt.ArrayLike], cluster: npt.ArrayLike
) -> dict[str, dict[str, float]]:
    """Mean of ours minus theirs over the same images, with 95 % intervals over patients.

    Args:
        ours: figure -> (n,), 0 to 1.
        theirs: the same of other masks.
        cluster: (n,) patient of each image.

    Returns:
        ``<figure>_mean``, and for ``iou`` also ``iou_thresholded``, -> ``estimate``, ``lower`` and ``upper``.
    """
    out = {}
    for name in ours:
        a, b = (np.asarray(side[name], dtype=np.float64) for side in (ours, theirs))
        out[f"{name}_mean"] = mean_interval(a - b, cluster, lowest=-1.0)
        if name == "iou":
            a, b = (np.where(x >= THRESHOLD, x, 0.0) for x in (a, b))
            out["iou_thresholded"] = mean_interval(a - b, cluster, lowest=-1.0)
    return out


def _median_interval(x: Floats, cluster: npt.ArrayLike) -> tuple[float, float]:
    """The values between which half of the images may lie below.

    Source: Woodruff, JASA 1952.
    """
    if patients_of(cluster) < MINIMUM_PATIENTS:
        return NONE
    ends = proportion_interval(x <= np.median(x), np.ones(len(x), dtype=bool), cluster)
    lower, upper = np.quantile(x, [min(ends[0], 0.5), max(ends[1], 0.5)])
    return float(lower), float(upper)


def text_of(figures: Mapping[str, Mapping[str, Any]], name: str, *, signed: bool = False) -> str:
    """Mean and median of one figure as text, and the thresholded mean where there is one; ``signed`` shows a plus."""
    called = {"iou": "IoU", "dice": "Dice"}.get(name, name)
    parts = []
    for how in ("mean", "median", "thresholded"):
        if f"{name}_{how}" not in figures:
            continue
        figure = with_interval(figures[f"{name}_{how}"], signed=signed, none=words_of(TOO_FEW_PATIENTS))
        parts.append(f"{how} {figure}")
    return f"{called} {', '.join(parts)}"
