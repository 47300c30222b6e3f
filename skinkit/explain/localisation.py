"""Whether a heatmap lies on the lesion: energy, pointing game and overlap, beside what chance gives.

With H the heatmap (h, w), at least 0, and M the lesion a person outlined, as a set of pixels,

    energy      sum of H over M / sum of H                                     Wang et al., Score-CAM, CVPRW 2020
    pointing    1 where H is strongest at a pixel of M, else 0                 Zhang et al., ECCV 2016
    iou         |T and M| / |T or M|, T the pixels where H > max(H) / 2

Two maps that know nothing of the photo are measured in the same way: a uniform one, of which all three (pointing on
average) are the lesion's share of the photo, and a centred ellipse of the lesion's area with the photo's proportions,
because a lesion mostly lies in the middle of its photo.

A heatmap that is the same whatever the network learnt explains nothing. :func:`shuffled` puts the numbers of every
weight tensor in a random order; the map of that network should be unlike the first (rank correlation near 0).

Source of the test: J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, which draws weights anew; in
another order they keep their distribution, so that the activations stay in range.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.explain.shapley import inside_share, points_inside
from skinkit.images.masks import agreement, centred_ellipse, from_centre
from skinkit.stats.intervals import mean_interval
from skinkit.stats.metrics import Floats

Mask = npt.NDArray[np.bool_]
FIGURES = ("energy", "pointing", "iou")
UNIFORM, ELLIPSE = CHANCE = ("uniform", "ellipse")
"""The maps that know nothing."""
ALIKE = 0.5
"""Rank correlation, of either sign, from which the map of shuffled weights depends on that of the learnt ones."""


def measured(heat: Floats, mask: Mask) -> dict[str, float]:
    """:data:`FIGURES` of a heatmap (h, w) and the lesion (h, w); NaN where the heatmap is empty."""
    energy, pointing = inside_share(heat, mask), points_inside(heat, mask)
    if energy is None or pointing is None:
        return dict.fromkeys(FIGURES, np.nan)
    return {"energy": energy, "pointing": float(pointing), "iou": agreement(heat > heat.max() / 2, mask)["iou"]}


def by_chance(mask: Mask) -> dict[str, dict[str, float]]:
    """Map of :data:`CHANCE` -> its :data:`FIGURES`."""
    return {
        UNIFORM: dict.fromkeys(FIGURES, float(mask.mean())),
        ELLIPSE: measured(ellipse_map(mask), mask),
    }


def ellipse_map(mask: Mask) -> Floats:
    """(h, w) 1 in the centred ellipse of the mask's area, 0 elsewhere; highest at the centre, the strongest place."""
    heat = centred_ellipse(mask.shape, int(mask.sum())).astype(np.float64)
    heat[np.unravel_index(from_centre(mask.shape).argmin(), mask.shape)] *= 1.0 + 1e-9
    return heat


def likeness(heat: Floats, other: Floats) -> float | None:
    """Spearman's rank correlation of two maps of one shape, -1 to 1; None where one is the same everywhere."""
    from scipy.stats import spearmanr

    if np.ptp(heat) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(heat.ravel(), other.ravel()).statistic)


def shuffled(network: Any, seed: int = 0) -> Any:
    """A copy of a network with the numbers of each weight tensor in a random order; buffers stay."""
    import torch

    other = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other


def summarised(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over cases with 95 % intervals over patients, and how far maps of networks lie above chance.

    Args:
        rows: ``case_id``, ``group_id``, ``map``, ``chance`` (whether it knows nothing) and :data:`FIGURES`.

    Returns:
        Rows with ``map``, ``figure``, ``n`` and ``empty`` (cases without any heat); where there is heat ``estimate``,
        ``lower`` and ``upper``, and of maps of networks also ``above``: map of :data:`CHANCE` -> the same of the mean
        difference over the same cases.
    """
    import pandas as pd

    table = pd.DataFrame(rows)
    blind = {name: table[table["map"] == name].set_index("case_id") for name in CHANCE}
    summary = []
    for name, of in table.groupby("map", sort=False):
        part = of.set_index("case_id")
        for figure in FIGURES:
            values = part[figure].to_numpy(dtype=float)
            there = ~np.isnan(values)
            row: dict[str, Any] = {"map": str(name), "figure": figure, "n": int(there.sum())}
            row["empty"] = len(values) - row["n"]
            if row["n"]:
                cluster = part["group_id"].to_numpy(dtype=str)[there]
                row |= mean_interval(values[there], cluster)
                if not of["chance"].iloc[0]:
                    other = {key: those.loc[part.index[there], figure].to_numpy(float) for key, those in blind.items()}
                    row["above"] = {
                        key: mean_interval(values[there] - blindly, cluster, lowest=-1.0)
                        for key, blindly in other.items()
                    }
            summary.append(row)
    return summary


def alike(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rank correlation of maps of shuffled weights with the learnt ones.

    Args:
        rows: as :func:`summarised` takes them; those of shuffled weights have ``likeness`` (of :func:`likeness`),
            those of others not.

    Returns:
        Rows with ``map``, ``n`` and ``empty`` (cases without a correlation, because a map is empty); where there is one
        ``estimate``, ``lower`` and ``upper``; and ``collapses``: whether the whole interval lies within
        :data:`ALIKE` of 0, False where not, None where there are too few cases.
    """
    import pandas as pd

    table = pd.DataFrame([row for row in rows if "likeness" in row])
    answers = []
    for name, of in table.groupby("map", sort=False):
        known = of[of["likeness"].notna()]
        answer: dict[str, Any] = {"map": str(name), "n": len(known), "empty": len(of) - len(known), "collapses": None}
        if len(known):
            answer |= mean_interval(known["likeness"].to_numpy(float), known["group_id"].to_numpy(str), lowest=-1.0)
            if not np.isnan(answer["lower"]):
                answer["collapses"] = bool(max(-answer["lower"], answer["upper"]) < ALIKE)
        answers.append(answer)
    return answers
