"""What a prediction rests on: contributions of attributes, heatmaps over the photo, and how much of them is lesion.

Contributions are in log odds of *positive against the rest*, where positive is a class or the malignant classes. With
scores z (their softmax is the prediction), P the positive classes and N the others,

    (1) s = logsumexp_{c in P} z_c - logsumexp_{c in N} z_c                     log odds
    (2) v_c = softmax_P(z)_c on P,  -softmax_N(z)_c on N                        ds/dz_c
    (3) contribution of an input = sum_c v_c * (what it adds to z_c)

With one class on each side eq. 3 splits s exactly; otherwise it splits s up to the entropies of v on both sides, which
stay in the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def log_odds(scores: Floats, positive: Mask) -> float:
    """Log odds of the positive classes against the others, eq. 1.

    Args:
        scores: (classes,) logits or log-probabilities.
        positive: (classes,) which count; both sides must have one.
    """
    return float(np.logaddexp.reduce(scores[positive]) - np.logaddexp.reduce(scores[~positive]))


def margin_weights(scores: Floats, positive: Mask) -> Floats:
    """How much each class's score moves the log odds, eq. 2; sums to 1 over the positive and to -1 over the others."""
    weights = np.empty_like(scores)
    for side, sign in ((positive, 1.0), (~positive, -1.0)):
        e = np.exp(scores[side] - scores[side].max())
        weights[side] = sign * e / e.sum()
    return weights


def ranked(names: Iterable[str], contributions: Iterable[float], values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Contributions of columns summed per attribute, strongest first; attributes that add nothing are left out.

    Args:
        names: attribute of each column.
        contributions: what each column adds.
        values: attribute -> value of the case, shown beside it.
    """
    sums: dict[str, float] = {}
    for name, contribution in zip(names, contributions, strict=True):
        sums[name] = sums.get(name, 0.0) + float(contribution)
    order = sorted((name for name, total in sums.items() if total), key=lambda name: (-abs(sums[name]), name))
    return [{"attribute": name, "value": values.get(name), "contribution": sums[name]} for name in order]


def grad_cam(module: torch.nn.Module, layer: torch.nn.Module, images: torch.Tensor) -> Floats:
    """Grad-CAM of the module's one output at a layer, positive support only.

    Args:
        module: (n, ...) images -> one number.
        layer: inside it; answers (m, channels, h, w).
        images: input.

    Returns:
        (m, h, w), at least 0.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017; computed by captum.
    """
    from captum.attr import LayerGradCam

    heat = LayerGradCam(module, layer).attribute(images, relu_attributions=True)
    out: Floats = heat[:, 0].detach().double().cpu().numpy()
    return out


def occlusion_cells(mask: Mask, cells: int) -> list[Mask]:
    """The lesion cut by a grid over its bounding box; the parts that are not empty, together the mask.

    Args:
        mask: (H, W).
        cells: cells along each side of the bounding box.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    row_edges = np.unique(np.linspace(rows[0], rows[-1] + 1, cells + 1).round().astype(int))
    column_edges = np.unique(np.linspace(columns[0], columns[-1] + 1, cells + 1).round().astype(int))
    parts = []
    for top, bottom in pairwise(row_edges):
        for left, right in pairwise(column_edges):
            part = np.zeros_like(mask)
            part[top:bottom, left:right] = mask[top:bottom, left:right]
            if part.any():
                parts.append(part)
    return parts


def occlusion_of_mask(mask: Mask, cells: int, score: Callable[[Mask], float | None]) -> Floats:
    """How much the score falls when one part of the lesion is not measured, painted on that part.

    Args:
        mask: (H, W) lesion.
        cells: cells along each side of its bounding box.
        score: of a mask; None where what is left cannot be measured.

    Returns:
        (H, W), at least 0: parts without which the score rises are 0.
    """
    heat = np.zeros(mask.shape)
    whole = score(mask)
    if whole is None:
        return heat
    for part in occlusion_cells(mask, cells):
        without = score(mask & ~part)
        if without is not None:
            heat[part] = max(0.0, whole - without)
    return heat


def inside_share(heat: Floats, mask: Mask) -> float | None:
    """Share of the heatmap's energy inside the mask, 0 to 1; None where the heatmap is empty."""
    total = float(heat.sum())
    return float(heat[mask].sum()) / total if total > 0 else None


def as_grey(heat: Floats) -> npt.NDArray[np.uint8]:
    """A heatmap as 8 bits, 255 where it is strongest."""
    strongest = heat.max(initial=0.0)
    if strongest <= 0:
        return np.zeros(heat.shape, np.uint8)
    out: npt.NDArray[np.uint8] = np.rint(heat / strongest * 255).astype(np.uint8)
    return out


def enlarged(heat: Floats, size: tuple[int, int]) -> Floats:
    """A small heatmap at the image's own size, (width, height), interpolated bilinearly."""
    from PIL import Image

    picture = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float64)
