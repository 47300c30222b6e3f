"""Metrics of classifiers and masks: arrays in, numbers out.

Every metric is computed on *weighted* cases. The point estimate weights each case once; a jackknife replicate gives the
cases of one patient no weight (``stats.intervals``). One pass over sorted scores serves any number of replicates.
The table of all metrics is built from these pieces in ``evaluation.metric_table.py``.

Definitions
-----------
* AUROC: probability that a random positive scores above a random negative, ties counting half (Hanley & McNeil 1982).
* Average precision: sum over distinct scores of (recall gained) x (precision there); no interpolation.
* pAUC above 80 % sensitivity: area between the ROC curve and the line sensitivity = 0.8, 0 to 0.2; the score of the
  ISIC 2024 challenge.
* Sensitivity at 95 % specificity: the best sensitivity of any threshold with a specificity of at least 0.95, without
  interpolation; likewise the reverse.
* ECE: mean over cases of |accuracy - confidence| per bin, ``ECE_BINS`` equal-width bins (Guo et al. 2017).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ECE_BINS = 15
MINIMUM_N = 5
LEVEL = 0.95
ROUNDING = 1e-9
"""Shares and figures that differ by less are the same."""
SIGNIFICANT = 0.05
"""A p-value below it, corrected for all that was tested, is called significant."""
EPS = float(np.finfo(np.float64).eps)

FIXED = (0.95, 0.9)
"""Specificities at which sensitivity is reported, and the reverse."""
PAUC = "pauc_above_80_sensitivity"
ALL, MALIGNANT = "all", "malignant"
"""What stands in the column ``class`` beside class codes: averages over classes, malignant against benign."""

NO_INTERVAL = "no_interval"
EXACT_INTERVAL = "exact_interval"


# ------------------------------------------------------------------------------------------------- ranked scores


class Ranking:
    """Scores sorted once, to be weighted many times.

    Args:
        score: (m,) higher means more likely positive.
        positive: (m,) truth.
        case: (m,) which case each score belongs to; by default one score a case.
    """

    def __init__(self, score: npt.ArrayLike, positive: npt.ArrayLike, case: Ints | None = None) -> None:
        values = np.asarray(score, dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        values = values[order]
        self.case: Ints = (np.arange(len(values)) if case is None else case)[order]
        self.positive: Bools = np.asarray(positive, dtype=bool)[order]
        self.start: Ints = np.flatnonzero(np.r_[True, values[1:] != values[:-1]][: len(values)])
        self.threshold: Floats = values[self.start]

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of positives and negatives at each distinct score, from the highest: two (replicates, scores)."""
        if not len(self.start):
            empty = np.zeros((len(weights), 0))
            return empty, empty
        both = weights[:, self.case]
        positives = both * self.positive
        if len(self.start) < len(self.case):
            both, positives = (np.add.reduceat(side, self.start, axis=1) for side in (both, positives))
        return positives, both - positives

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """AUROC and average precision of each replicate; NaN where a side is empty.

        Args:
            weights: (replicates, cases).
        """
        return self._areas(*self.counts(weights))

    @staticmethod
    def _areas(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
        above = np.cumsum(positives, axis=1)
        total, rest = positives.sum(axis=1), negatives.sum(axis=1)
        auroc = ratio((negatives * (above - 0.5 * positives)).sum(axis=1), total * rest)
        called = above + np.cumsum(negatives, axis=1)
        precision = np.divide(above, called, out=np.zeros_like(above), where=called > 0)
        ap = ratio((positives * precision).sum(axis=1), total)
        return auroc, np.where(rest > 0, ap, np.nan)

    def summary(self, weights: Floats) -> dict[str, Floats]:
        """All that needs no threshold, by the name of the metric: each (replicates,), NaN where a side is empty.

        Args:
            weights: (replicates, cases).
        """
        positives, negatives = self.counts(weights)
        auroc, ap = self._areas(positives, negatives)
        hits = np.cumsum(positives, axis=1) / np.maximum(positives.sum(axis=1), EPS)[:, None]
        alarms = np.cumsum(negatives, axis=1) / np.maximum(negatives.sum(axis=1), EPS)[:, None]
        figures = {"auroc": auroc, "average_precision": ap, PAUC: _partial_area(hits, alarms)}
        for share in FIXED:
            figures[f"sensitivity_at_{100 * share:.0f}_specificity"] = _best(hits, alarms <= 1 - share + ROUNDING)
            figures[f"specificity_at_{100 * share:.0f}_sensitivity"] = _best(1 - alarms, hits >= share - ROUNDING)
        return {name: np.where(np.isnan(auroc), np.nan, value) for name, value in figures.items()}


def area_of_counts(positives: Floats, negatives: Floats) -> Floats:
    """(...,) AUROC from the positives and negatives at each score, (..., scores) in ascending order; NaN without both.

    Ties count half.
    """
    below = np.cumsum(negatives, axis=-1) - 0.5 * negatives
    return ratio((positives * below).sum(axis=-1), negatives.sum(axis=-1) * positives.sum(axis=-1))


def _best(rate: Floats, allowed: Bools) -> Floats:
    """The largest rate at an allowed threshold; 0 where only a threshold that calls no case is allowed."""
    best: Floats = np.where(allowed, rate, 0.0).max(axis=1, initial=0.0)
    return best


def _partial_area(hits: Floats, alarms: Floats, above: float = 0.8) -> Floats:
    """Area between the ROC curve and the line of this sensitivity, for sensitivities above it: 0 to 1 - above.

    Args:
        hits: (replicates, scores) sensitivity from the highest threshold on, without the point (0, 0).
        alarms: 1 - specificity there.
        above: the sensitivity.

    Source: the metric of ISIC 2024 (Kurtansky et al., Scientific Data 2024), scikit-learn's partial AUC with both
    classes exchanged, unscaled.
    """
    t0, f0 = (np.concatenate([np.zeros((len(side), 1)), side[:, :-1]], axis=1) for side in (hits, alarms))
    low = np.maximum(t0, above)
    width = np.maximum(hits - low, 0)
    share = np.divide(width, hits - t0, out=np.zeros_like(width), where=width > 0)
    # Within a step the curve is a straight line: f at ``low`` lies between f0 and f1.
    area: Floats = (width * (1 - alarms + 0.5 * share * (alarms - f0))).sum(axis=1)
    return area


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, NaN where the denominator is not positive."""
    out: Floats = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def once(n: int) -> Floats:
    """The weights of the point estimate: (1, n)."""
    return np.ones((1, n))


def auroc(score: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Area under the ROC curve, ties counting one half; NaN where a side is empty."""
    ranking = Ranking(score, positive)
    return float(ranking.areas(once(len(ranking.case)))[0][0])


def average_precision(score: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Average precision; NaN where a side is empty."""
    ranking = Ranking(score, positive)
    return float(ranking.areas(once(len(ranking.case)))[1][0])


def macro_auroc(probability: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean one-vs-rest AUROC over the classes present in the truth.

    Args:
        probability: (n, classes).
        truth: (n,) class indices.
    """
    p, t = np.asarray(probability, dtype=np.float64), np.asarray(truth)
    areas = [auroc(p[:, k], t == k) for k in range(p.shape[1])]
    defined = [area for area in areas if not np.isnan(area)]
    return float(np.mean(defined)) if defined else float("nan")


def balanced_accuracy(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Mean sensitivity over the classes present in the truth (class indices, both (n,))."""
    t, p = np.asarray(truth), np.asarray(predicted)
    return float(np.mean([np.mean(p[t == k] == k) for k in np.unique(t)])) if len(t) else float("nan")


def roc_curve(score: npt.ArrayLike, positive: npt.ArrayLike) -> dict[str, list[float]]:
    """The ROC curve from (0, 0) to (1, 1): ``fpr``, ``tpr`` and ``threshold``, the first one above every score.

    Points on a straight line between their neighbours are left out; the curve is the same without them.
    """
    ranking = Ranking(score, positive)
    positives, negatives = (side[0] for side in ranking.counts(once(len(ranking.case))))
    hits, alarms = np.r_[0.0, np.cumsum(positives)], np.r_[0.0, np.cumsum(negatives)]
    keep = np.r_[True, (np.diff(hits, 2) != 0) | (np.diff(alarms, 2) != 0), True][: len(hits)]
    threshold = np.r_[ranking.threshold[:1] + 1, ranking.threshold]
    return {
        "fpr": (alarms / max(alarms[-1], 1))[keep].tolist(),
        "tpr": (hits / max(hits[-1], 1))[keep].tolist(),
        "threshold": threshold[keep].tolist(),
    }


def pr_curve(score: npt.ArrayLike, positive: npt.ArrayLike) -> dict[str, list[float]]:
    """Precision and recall at every distinct score, from the highest, beginning at recall 0."""
    ranking = Ranking(score, positive)
    positives, negatives = (side[0] for side in ranking.counts(once(len(ranking.case))))
    above = np.cumsum(positives)
    precision = above / np.maximum(above + np.cumsum(negatives), EPS)
    recall = above / max(positives.sum(), 1)
    first = precision[:1] if len(precision) else np.ones(1)
    return {
        "recall": np.r_[0.0, recall].tolist(),
        "precision": np.r_[first, precision].tolist(),
        "threshold": ranking.threshold.tolist(),
    }


def youden_threshold(score: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """The threshold t that maximises sensitivity + specificity - 1 when ``score >= t`` is called positive.

    It lies half-way between two neighbouring scores, so that it does not depend on one case; of equally good ones the
    lowest (most sensitive) is taken. NaN where a side is empty.

    Source: Youden, Cancer 1950.
    """
    ranking = Ranking(score, positive)
    positives, negatives = (side[0] for side in ranking.counts(once(len(ranking.case))))
    if not positives.sum() or not negatives.sum():
        return float("nan")
    j = np.cumsum(positives) / positives.sum() - np.cumsum(negatives) / negatives.sum()
    best = int(np.flatnonzero(np.isclose(j, j.max(), rtol=0, atol=1e-12))[-1])
    below = ranking.threshold[best + 1] if best + 1 < len(ranking.threshold) else ranking.threshold[best]
    middle = float((ranking.threshold[best] + below) / 2)
    # Between two floating-point neighbours the middle may round down to the lower one, which must stay negative.
    return middle if middle > below else float(ranking.threshold[best])


# -------------------------------------------------------------------------------------------------- calibration


def softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> Floats:
    """Probabilities of (n, classes) logits or log-probabilities divided by a temperature."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    e = np.exp(z - z.max(axis=1, keepdims=True))
    probability: Floats = e / e.sum(axis=1, keepdims=True)
    return probability


def fit_temperature(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    prior: npt.ArrayLike | None = None,
    *,
    possible: Bools | None = None,
    spread: float = math.inf,
) -> float:
    """The temperature T > 0 with which ``softmax(logits / T)`` is most likely, within 0.05 <= T <= 20.

    Logits that hold for another mix of classes (``prior``) than that of the labels are moved to the latter by Bayes'
    rule inside the likelihood: the probability of class k is proportional to exp(logit_k / T) m_k / prior_k, where m_k
    are the labels of class k. Where a temperature makes the logits right, this has the same optimum as the log loss
    with each case weighted by assumed over observed share of its class, and varies less: no case weighs much because
    its class is rare. Cases of a class whose prior is 0 are left out; a class without a label says nothing and competes
    for no case.

    Args:
        logits: (n, classes) logits or log-probabilities; -inf is read as ln(1e-12).
        labels: (n,) class indices.
        prior: (classes,) shares of the classes for which the logits hold, up to a factor; None for the labels' own.
        possible: (n, classes) classes that a case can have at all; None for all.
        spread: standard deviation of ln T before any case is seen (normal, about T = 1); infinite for the maximum
            likelihood.

    Returns:
        T; 1 where no case, or no case of a second class, determines it.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017; Prentice & Pyke, Biometrika 1979 (the
    likelihood under another mix).
    """
    from scipy.optimize import minimize_scalar

    z = np.maximum(np.asarray(logits, dtype=np.float64), np.log(1e-12))
    y = np.asarray(labels, dtype=np.int64)
    offset = np.zeros_like(z) if possible is None else np.where(possible, 0.0, -np.inf)
    if prior is not None:
        q = np.asarray(prior, dtype=np.float64)
        known = q[y] > 0
        z, y, offset = z[known], y[known], offset[known]
        counts = np.bincount(y, minlength=len(q))
        if np.count_nonzero(counts) < 2:
            return 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            offset = offset + np.where(counts > 0, np.log(counts / (q / q.sum())), -np.inf)
    if not len(y):
        return 1.0

    def loss(log_t: float) -> float:
        scaled = z / np.exp(log_t) + offset
        top = scaled.max(axis=1)
        own = scaled[np.arange(len(y)), y]
        return float(np.sum(top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - own)) + log_t**2 / spread**2 / 2

    optimum = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(optimum.x))


def weighted_ece(weights: Floats, confidence: Floats, correct: Floats, bins: int = ECE_BINS) -> Floats:
    """Expected calibration error of each replicate of (replicates, cases) weights.

    Mean |accuracy - confidence| over equal-width bins, weighted by the cases in each.
    """
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.zeros((len(confidence), bins))
    gap[np.arange(len(confidence)), place] = correct - confidence
    return ratio(np.abs(weights @ gap).sum(axis=1), weights.sum(axis=1))


# -------------------------------------------------------------------------------------------------------- masks


def dice(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Dice coefficient 2|A and B| / (|A| + |B|) of two masks; 1 where both are empty."""
    x, y = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    total = int(x.sum()) + int(y.sum())
    return 2 * int((x & y).sum()) / total if total else 1.0


def iou(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    x, y = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    union = int((x | y).sum())
    return int((x & y).sum()) / union if union else 1.0
