"""Losses. Of segmenters, z are logits, t the truth between 0 and 1, p = sigmoid(z), sums over the pixels of one image.

(1) BCE(z, t)  = mean over pixels of -t log p - (1 - t) log(1 - p)
(2) Dice(z, t) = 1 - (2 sum p t + s) / (sum p + sum t + s), mean over images
    F. Milletari et al., "V-Net", 3DV 2016, doi 10.1109/3DV.2016.79, with plain sums below the line; s = 1 lets an
    image without a lesion be answered rightly.
(3) NR(z, t)   = sum |p - t|^g / (sum p^2 + sum t^2 + s), mean over images
    G. Wang et al., "A Noise-Robust Framework for Automatic Segmentation of COVID-19 Pneumonia Lesions From CT
    Images", IEEE TMI 39(8), 2020, doi 10.1109/TMI.2020.3000314, eq. 3. g = 2 is a Dice loss; g = 1 is an L1 loss,
    which a few wrong outlines move less.

Of classifiers, f logits, a weights of the classes, y the true class, p its probability:

(4) focal(f, y) = a_y (1 - p)^gamma (-log p)
    T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, doi 10.1109/ICCV.2017.324.
(5) CE(f, y)    = - (1 - e) a_y log p_y - e / |P| sum over k in P of a_k log p_k,   p = softmax of f over P
    P are the classes that the row's cohort can have, e the share of the label that is smoothed. What is not in P gets
    no gradient. With all classes in P it is torch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skinkit.models.parts.protocol import UNKNOWN

if TYPE_CHECKING:
    import torch

SMOOTH = 1.0
"""s of the equations, pixels."""


def bce_dice(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Sum of eq. 1 and eq. 2.

    Args:
        logits: (n, side, side).
        truth: (n, side, side), 0 to 1.

    Returns:
        A scalar.
    """
    return _bce(logits, truth) + dice(logits.sigmoid(), truth)


def dice(probability: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Eq. 2 of (n, side, side), as a scalar."""
    both = (probability * truth).sum(dim=(1, 2))
    total = probability.sum(dim=(1, 2)) + truth.sum(dim=(1, 2))
    return (1 - (2 * both + SMOOTH) / (total + SMOOTH)).mean()


def noise_robust(logits: torch.Tensor, truth: torch.Tensor, g: float = 1.5) -> torch.Tensor:
    """Eq. 3, with a fifth of eq. 1, which keeps its slope where the prediction is far off.

    Args:
        logits: (n, side, side).
        truth: (n, side, side), 0 to 1.
        g: between 1 and 2.

    Returns:
        A scalar.
    """
    p = logits.sigmoid()
    off = ((p - truth).abs() ** g).sum(dim=(1, 2))
    size = (p * p).sum(dim=(1, 2)) + (truth * truth).sum(dim=(1, 2))
    return (off / (size + SMOOTH)).mean() + 0.2 * _bce(logits, truth)


def _bce(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)


def masked(logits: torch.Tensor, possible: torch.Tensor | None) -> torch.Tensor:
    """Logits (..., n, K), minus infinity where ``possible`` (n, K) is False; as they are without it."""
    return logits if possible is None else logits.masked_fill(~possible, float("-inf"))


def cross_entropies(
    logits: torch.Tensor,
    truth: torch.Tensor,
    weights: torch.Tensor | None = None,
    smoothing: float = 0.0,
    possible: torch.Tensor | None = None,
) -> torch.Tensor:
    """(n,) eq. 5.

    Args:
        logits: (n, K).
        truth: (n,) int64, each a possible class.
        weights: (K,) a; None for ones.
        smoothing: e, 0 to 1.
        possible: (n, K) bool, P of each row; None for all classes.
    """
    from torch.nn import functional

    if possible is None:
        return functional.cross_entropy(logits, truth, weights, reduction="none", label_smoothing=smoothing)
    a = logits.new_ones(logits.shape[1]) if weights is None else weights
    log_p = masked(logits, possible).log_softmax(1)
    own = -a[truth] * log_p.gather(1, truth[:, None])[:, 0]
    others = -(a * log_p.masked_fill(~possible, 0.0)).sum(1) / possible.sum(1)
    return (1 - smoothing) * own + smoothing * others


def focal(
    logits: torch.Tensor,
    truth: torch.Tensor,
    alpha: torch.Tensor,
    focusing: float,
    smoothing: float = 0.0,
    possible: torch.Tensor | None = None,
) -> torch.Tensor:
    """(n,) eq. 4 of (n, K) logits; with smoothed labels eq. 5 stands for -log p, and p is over P as there."""
    entropy = cross_entropies(logits, truth, None, smoothing, possible)
    p = masked(logits, possible).softmax(1).gather(1, truth[:, None])[:, 0]
    return alpha[truth] * (1 - p) ** focusing * entropy


def cross_entropy_of_known(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the rows whose truth is known, as a scalar; 0 where no row's is.

    Args:
        logits: (n, classes).
        truth: (n,) int64, -1 where unknown.
    """
    from torch.nn import functional

    summed = functional.cross_entropy(logits, truth, ignore_index=UNKNOWN, reduction="sum")
    return summed / (truth != UNKNOWN).sum().clamp(min=1)
