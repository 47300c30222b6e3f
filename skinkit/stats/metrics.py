"""Metrics of classifiers and masks, and patient-bootstrap intervals: arrays in, numbers out.

Every metric is computed on *weighted* cases. The point estimate weights each case once; a bootstrap replicate weights
it by how often its patient was drawn, so one pass over sorted scores serves any number of replicates.
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

Intervals
---------
Replicates draw clusters (patients) with replacement (Efron 1979). Those in which a metric is undefined are skipped;
with fewer than ``VALID_SHARE`` of them left there is no interval.

* A proportion of cases (sensitivity, precision, ...): Wilson's score interval (1927) with as many trials as would give
  the bootstrap's standard error; at 0 or 1 the exact binomial one (Clopper & Pearson 1934) with the clusters as trials:
  0 of 26 is not 0 for certain.
* AUROC, average precision, pAUC: on the log-odds scale, bootstrap standard error, Student's t with (clusters of the
  rarer side - 1) degrees.
* ECE: percentiles mirrored at the estimate (the basic bootstrap), because noise raises the estimate, and in the
  replicates once more.
* Everything else: percentiles of the replicates, for a class and for malignancy widened about the estimate as Student's
  t with (clusters of the rarer side - 1) degrees asks for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ECE_BINS = 15
MINIMUM_N = 5
VALID_SHARE = 0.9
LEVEL = 0.95
_CHUNK_CELLS = 4_000_000  # weights (times classes) held at once, 32 MB
_Z = 1.959963984540054
_ROUND = 1e-9
EPS = float(np.finfo(np.float64).eps)

FIXED = (0.95, 0.9)
"""Specificities at which sensitivity is reported, and the reverse."""
PAUC = "pauc_above_80_sensitivity"
ALL, MALIGNANT = "all", "malignant"
"""What stands in the column ``class`` beside class codes: averages over classes, malignant against benign."""

INSUFFICIENT = "insufficient_n"
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
            figures[f"sensitivity_at_{100 * share:.0f}_specificity"] = _best(hits, alarms <= 1 - share + _ROUND)
            figures[f"specificity_at_{100 * share:.0f}_sensitivity"] = _best(1 - alarms, hits >= share - _ROUND)
        return {name: np.where(np.isnan(auroc), np.nan, value) for name, value in figures.items()}


def _best(rate: Floats, allowed: Bools) -> Floats:
    """The largest rate at an allowed threshold; 0 where only calling nobody is allowed."""
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

    It lies half-way between two neighbouring scores, so that it does not hang on one case; of equally good ones the
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


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature T > 0 that minimises the log loss of ``softmax(logits / T)``.

    The loss is convex in 1/T, so the minimum within 0.05 <= T <= 20 is the only one. Without a case, T is 1.

    Args:
        logits: (n, classes) logits or log-probabilities; -inf is read as ln(1e-12).
        labels: (n,) class indices.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    z = np.maximum(np.asarray(logits, dtype=np.float64), np.log(1e-12))
    y = np.asarray(labels, dtype=np.int64)
    if not len(y):
        return 1.0

    def loss(log_t: float) -> float:
        scaled = z / np.exp(log_t)
        top = scaled.max(axis=1)
        return float(np.mean(top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - scaled[np.arange(len(y)), y]))

    optimum = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(optimum.x))


def expected_calibration_error(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = ECE_BINS) -> float:
    """Mean |accuracy - confidence| over equal-width bins, weighted by the cases in each."""
    p, hit = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    return float(weighted_ece(once(len(p)), p, hit, bins)[0])


def weighted_ece(weights: Floats, confidence: Floats, correct: Floats, bins: int = ECE_BINS) -> Floats:
    """:func:`expected_calibration_error` of each replicate of (replicates, cases) weights."""
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


# ---------------------------------------------------------------------------------------------------- bootstrap


class Resamples:
    """Bootstrap draws of clusters with replacement, as many as there are; shared by all tables of these clusters.

    Args:
        cluster: (n,) cluster of each case, any sortable values.
        replicates: how many draws.
        seed: same seed, same draws, whatever the order of the cases.
    """

    def __init__(self, cluster: npt.ArrayLike, replicates: int, seed: int) -> None:
        self.names = np.unique(np.asarray(cluster))
        clusters = len(self.names)
        self.counts = np.zeros((replicates if clusters else 0, clusters), dtype=np.uint16)
        generator = np.random.default_rng(seed)
        step = max(1, _CHUNK_CELLS // max(clusters, 1))
        for begin in range(0, len(self.counts), step):
            part = self.counts[begin : begin + step]
            part[:] = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=len(part))

    def weights(self, cluster: npt.ArrayLike, width: int = 1) -> Iterator[Floats]:
        """How often each case's cluster was drawn, (some replicates, cases) at a time.

        Args:
            cluster: (n,) cluster of each case, among those drawn.
            width: numbers the caller makes of each weight; bounds the size of a chunk.
        """
        index = np.searchsorted(self.names, np.asarray(cluster))
        step = max(1, _CHUNK_CELLS // max(len(index) * width, 1))
        for begin in range(0, len(self.counts), step):
            yield self.counts[begin : begin + step, index].astype(np.float64)


def cluster_weights(cluster: npt.ArrayLike, replicates: int, seed: int, width: int = 1) -> Iterator[Floats]:
    """Bootstrap weights of one table; see :class:`Resamples`."""
    return Resamples(cluster, replicates, seed).weights(cluster, width)


def percentile_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """The 95 % percentile interval of replicates; (NaN, NaN) where fewer than ``VALID_SHARE`` of them are defined."""
    valid = _valid(values)
    if valid is None:
        return float("nan"), float("nan")
    lower, upper = np.quantile(valid, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(lower), float(upper)


def widened_interval(estimate: float, replicates: npt.ArrayLike, clusters: int) -> tuple[float, float]:
    """The percentile interval, widened about the estimate as few clusters ask for.

    Percentiles are as narrow as a normal distribution with the variance of the sample; both are too little for m
    clusters, by sqrt(m / (m - 1)) and by Student's t over the normal quantile.

    Args:
        estimate: the figure.
        replicates: its bootstrap replicates.
        clusters: m, those of the rarer side.

    Source: Hesterberg, The American Statistician 2015, section 4.3.
    """
    from scipy.stats import t

    lower, upper = percentile_interval(replicates)
    m = max(clusters, 3)
    factor = float(t.ppf((1 + LEVEL) / 2, m - 1)) / _Z * float(np.sqrt(m / (m - 1)))
    return estimate - factor * (estimate - lower), estimate + factor * (upper - estimate)


def mirrored_interval(estimate: float, replicates: npt.ArrayLike) -> tuple[float, float]:
    """The basic bootstrap interval of a figure that noise raises and that cannot be below 0.

    Source: Davison & Hinkley, Bootstrap Methods and their Application, 1997, eq. 5.6.
    """
    lower, upper = percentile_interval(replicates)
    return max(2 * estimate - upper, 0.0), max(2 * estimate - lower, 0.0)


def extreme_interval(proportion: float, n: int) -> tuple[float, float]:
    """The exact 95 % binomial interval of 0 or n successes in n trials.

    Source: Clopper & Pearson, Biometrika 1934; at the ends it is 1 - (alpha/2)^(1/n).
    """
    reach = 1 - ((1 - LEVEL) / 2) ** (1 / n)
    return (0.0, reach) if proportion == 0 else (1 - reach, 1.0)


def proportion_interval(proportion: float, replicates: npt.ArrayLike, cases: int, clusters: int) -> tuple[float, float]:
    """The 95 % interval of a proportion of clustered cases; (NaN, NaN) where too few replicates are defined.

    Wilson's interval with the trials n that give the bootstrap's standard error, p(1-p)/n = SE^2, at most the cases.

    Args:
        proportion: 0 to 1.
        replicates: its bootstrap replicates.
        cases: what it divides by.
        clusters: clusters these cases are of.
    """
    valid = _valid(replicates)
    if valid is None:
        return float("nan"), float("nan")
    if proportion in (0.0, 1.0):
        return extreme_interval(proportion, clusters)
    spread = float(valid.var())
    trials = min(proportion * (1 - proportion) / spread, cases) if spread > 0 else cases
    z2 = _Z**2 / trials
    middle = (proportion + z2 / 2) / (1 + z2)
    reach = _Z * float(np.sqrt(proportion * (1 - proportion) / trials + z2 / (4 * trials))) / (1 + z2)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def area_interval(area: float, replicates: npt.ArrayLike, clusters: int, largest: float = 1.0) -> tuple[float, float]:
    """The 95 % interval of an AUROC; (NaN, NaN) where too few replicates are defined.

    On the log-odds scale with the bootstrap's standard error. An AUROC of 0 or 1 gets the exact binomial interval.

    Args:
        area: 0 to ``largest``.
        replicates: its bootstrap replicates.
        clusters: clusters of the rarer side; one less are Student's degrees of freedom.
        largest: what a perfect score has.
    """
    from scipy.special import expit, logit
    from scipy.stats import t

    valid = _valid(replicates)
    if valid is None:
        return float("nan"), float("nan")
    share = min(area / largest, 1.0)
    if share < _ROUND or share > 1 - _ROUND:
        lower, upper = extreme_interval(round(share), clusters)
        return largest * lower, largest * upper
    reach = float(t.ppf((1 + LEVEL) / 2, max(clusters - 1, 1)) * valid.std() / largest / (share * (1 - share)))
    return largest * float(expit(logit(share) - reach)), largest * float(expit(logit(share) + reach))


def _valid(replicates: npt.ArrayLike) -> Floats | None:
    """The defined replicates, or None where they are fewer than ``VALID_SHARE``."""
    values = np.asarray(replicates, dtype=np.float64)
    valid: Floats = values[~np.isnan(values)]
    return valid if len(values) and len(valid) >= VALID_SHARE * len(values) else None
