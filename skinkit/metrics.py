"""Metrics of classifiers and masks, with patient-bootstrap intervals: arrays in, numbers out.

Every metric is computed on *weighted* cases. The point estimate weights each case once; a bootstrap replicate weights
it by how often its patient was drawn, so one pass over scores that were sorted once serves any number of replicates.

Definitions
-----------
* AUROC: probability that a random positive scores above a random negative, ties counting half (Hanley & McNeil 1982).
* Average precision: sum over distinct scores of (recall gained) x (precision there); no interpolation.
* Averages over classes are always named. ``macro`` is the plain mean, ``weighted`` the mean weighted by the number of
  cases, both over the classes *present* in the truth; ``micro`` pools all (case, class) decisions.
* Balanced accuracy: macro sensitivity of the most probable class. In averages the precision of a class that is never
  predicted counts 0.
* Brier score: mean over cases of sum over classes (p - y)^2, 0 to 2; for malignancy (p - y)^2, 0 to 1.
* ECE: mean over cases of |accuracy - confidence| per bin, ``ECE_BINS`` equal-width bins (Guo et al. 2017).
* Interval: 95 % percentile interval over replicates that draw clusters (patients) with replacement (Efron 1979).
  Replicates in which a metric is undefined are skipped; with fewer than ``VALID_SHARE`` of them left there is none.
  A proportion that is 0 or 1 in every replicate gets the exact binomial interval (Clopper & Pearson 1934) with the
  clusters behind it as trials, and the note ``exact_interval``: 0 of 26 is not 0 for certain.
* Fewer than ``minimum`` cases in what a class metric divides by: the estimate is null and its note ``insufficient_n``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
_EPS = float(np.finfo(np.float64).eps)

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
        drawn = weights[:, self.case]
        both = np.add.reduceat(drawn, self.start, axis=1)
        positives = np.add.reduceat(drawn * self.positive, self.start, axis=1)
        return positives, both - positives

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """AUROC and average precision of each replicate; NaN where a side is empty.

        Args:
            weights: (replicates, cases).
        """
        positives, negatives = self.counts(weights)
        above = np.cumsum(positives, axis=1)
        total, rest = positives.sum(axis=1), negatives.sum(axis=1)
        auroc = _ratio((negatives * (above - 0.5 * positives)).sum(axis=1), total * rest)
        called = above + np.cumsum(negatives, axis=1)
        precision = np.divide(above, called, out=np.zeros_like(above), where=called > 0)
        ap = _ratio((positives * precision).sum(axis=1), total)
        return auroc, np.where(rest > 0, ap, np.nan)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    out: Floats = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _once(n: int) -> Floats:
    return np.ones((1, n))


def auroc(score: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Area under the ROC curve, ties counting one half; NaN where a side is empty."""
    ranking = Ranking(score, positive)
    return float(ranking.areas(_once(len(ranking.case)))[0][0])


def average_precision(score: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Average precision; NaN where a side is empty."""
    ranking = Ranking(score, positive)
    return float(ranking.areas(_once(len(ranking.case)))[1][0])


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
    positives, negatives = (side[0] for side in ranking.counts(_once(len(ranking.case))))
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
    positives, negatives = (side[0] for side in ranking.counts(_once(len(ranking.case))))
    above = np.cumsum(positives)
    precision = above / np.maximum(above + np.cumsum(negatives), _EPS)
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
    positives, negatives = (side[0] for side in ranking.counts(_once(len(ranking.case))))
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

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def expected_calibration_error(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = ECE_BINS) -> float:
    """Mean |accuracy - confidence| over equal-width bins, weighted by the cases in each."""
    p, hit = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    return float(_ece(_once(len(p)), p, hit, bins)[0])


def _ece(weights: Floats, confidence: Floats, correct: Floats, bins: int = ECE_BINS) -> Floats:
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.zeros((len(confidence), bins))
    gap[np.arange(len(confidence)), place] = correct - confidence
    return _ratio(np.abs(weights @ gap).sum(axis=1), weights.sum(axis=1))


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


def cluster_weights(cluster: npt.ArrayLike, replicates: int, seed: int, width: int = 1) -> Iterator[Floats]:
    """Bootstrap weights in chunks: how often each case's cluster was drawn, (some replicates, cases) at a time.

    Args:
        cluster: (n,) cluster of each case, any hashable values.
        replicates: how many draws of as many clusters as there are, with replacement.
        seed: same seed, same draws, whatever the order of the cases.
        width: numbers the caller makes of each weight; bounds the size of a chunk.
    """
    index = np.unique(np.asarray(cluster), return_inverse=True)[1]
    clusters = int(index.max()) + 1 if len(index) else 0
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // max(len(index) * width, 1))
    for begin in range(0, replicates if clusters else 0, step):
        drawn = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=min(step, replicates - begin))
        yield drawn[:, index].astype(np.float64)


def percentile_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """The 95 % percentile interval of replicates; (NaN, NaN) where fewer than ``VALID_SHARE`` of them are defined."""
    array = np.asarray(values, dtype=np.float64)
    valid = array[~np.isnan(array)]
    if not len(array) or len(valid) < VALID_SHARE * len(array):
        return float("nan"), float("nan")
    lower, upper = np.quantile(valid, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(lower), float(upper)


def extreme_interval(proportion: float, n: int) -> tuple[float, float]:
    """The exact 95 % binomial interval of 0 or n successes in n trials.

    Source: Clopper & Pearson, Biometrika 1934; at the ends it is 1 - (alpha/2)^(1/n).
    """
    reach = 1 - ((1 - LEVEL) / 2) ** (1 / n)
    return (0.0, reach) if proportion == 0 else (1 - reach, 1.0)


# --------------------------------------------------------------------------------------------------- everything


@dataclass(frozen=True)
class Scored:
    """What is scored.

    Attributes:
        classes: class codes, in the order of the probability columns.
        truth: (n,) class indices.
        probability: (n, classes).
        cluster: (n,) patient of each case.
        malignant: (classes,) which classes are malignant; None leaves every malignancy metric out.
        malignancy: (n,) probability of malignancy.
        called: (n,) called malignant after the veto.
        veto: the veto's threshold.
        veto_source: where it came from.
        thresholds: class code -> (threshold, source) frozen beforehand; one threshold, or (n,) where the cases were
            predicted by models with thresholds of their own.
    """

    classes: tuple[str, ...]
    truth: Ints
    probability: Floats
    cluster: npt.NDArray[Any]
    malignant: Bools | None = None
    malignancy: Floats | None = None
    called: Bools | None = None
    veto: float = float("nan")
    veto_source: str | None = None
    thresholds: Mapping[str, tuple[npt.ArrayLike, str]] | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: Bools | Ints) -> Scored:
        """The same model on some of the cases."""
        return Scored(
            self.classes,
            self.truth[rows],
            self.probability[rows],
            self.cluster[rows],
            self.malignant,
            None if self.malignancy is None else self.malignancy[rows],
            None if self.called is None else self.called[rows],
            self.veto,
            self.veto_source,
            {
                name: (np.broadcast_to(np.asarray(value), len(self))[rows], source)
                for name, (value, source) in (self.thresholds or {}).items()
            },
        )

    @property
    def predicted(self) -> Ints:
        """(n,) most probable class; the first of equal ones."""
        return np.argmax(self.probability, axis=1) if len(self) else np.zeros(0, dtype=np.int64)

    @property
    def is_malignant(self) -> Bools:
        """(n,) whether the true class is malignant."""
        assert self.malignant is not None
        return self.malignant[self.truth]


Key = tuple[str, str, str, str]
"""(class, average, decision_rule, metric)"""

ALL, MALIGNANT = "all", "malignant"


def measure(scored: Scored, *, bootstrap: int = 1000, seed: int = 0, minimum: int = MINIMUM_N) -> list[dict[str, Any]]:
    """Every metric of some predictions with its interval, as rows of the metrics table.

    Args:
        scored: truth and predictions.
        bootstrap: replicates; 0 leaves the intervals out.
        seed: of the bootstrap.
        minimum: cases a class metric must divide by, positives and negatives alike where it needs both.

    Returns:
        Rows with class, average, decision_rule, metric, estimate, lower, upper, n, n_positive, n_clusters, threshold,
        threshold_source and note (``insufficient_n``: no estimate; ``no_interval``: undefined in too many replicates;
        ``exact_interval``: binomial, because the proportion is 0 or 1).
    """
    if not len(scored):
        return []
    battery = _Battery(scored)
    point = {key: (float(value[0]), int(support)) for key, value, support in battery.values(_once(len(scored)))}
    drawn: dict[Key, list[Floats]] = {key: [] for key in point}
    for weights in cluster_weights(scored.cluster, bootstrap, seed, len(scored.classes)):
        for key, value, _ in battery.values(weights):
            drawn[key].append(value)
    n_clusters = len(np.unique(scored.cluster))
    rows = []
    for key, (estimate, support) in point.items():
        class_, average, rule, metric = key
        note = INSUFFICIENT if support < minimum or np.isnan(estimate) else None
        lower = upper = float("nan")
        if note is None and bootstrap:
            lower, upper = percentile_interval(np.concatenate(drawn[key]))
            note = NO_INTERVAL if np.isnan(lower) else None
            if lower == upper and estimate in (0.0, 1.0) and (behind := battery.behind(key)) is not None:
                lower, upper = extreme_interval(estimate, len(np.unique(scored.cluster[behind])))
                note = EXACT_INTERVAL
        threshold, source = battery.threshold(key)
        rows.append(
            {
                "class": class_,
                "average": average,
                "decision_rule": rule,
                "metric": metric,
                "estimate": float("nan") if note == INSUFFICIENT else estimate,
                "lower": lower,
                "upper": upper,
                "n": len(scored),
                "n_positive": battery.n_positive(class_),
                "n_clusters": n_clusters,
                "threshold": threshold,
                "threshold_source": source,
                "note": note,
            }
        )
    return rows


class _Battery:
    """All metrics of one set of predictions, for any weights."""

    def __init__(self, scored: Scored) -> None:
        n, k = scored.probability.shape
        self.s = scored
        self.one_hot = np.eye(k, dtype=bool)[scored.truth]
        self.n_class = self.one_hot.sum(axis=0)
        self.seen = self.n_class > 0
        self.both = self.seen & (self.n_class < n)
        self.rankings = [Ranking(scored.probability[:, c], self.one_hot[:, c]) for c in range(k)]
        self.pooled = Ranking(scored.probability.ravel(), self.one_hot.ravel(), np.repeat(np.arange(n), k))
        # Which (truth, prediction) cell each case falls into, so that weights @ cells is the confusion matrix.
        self.cells = np.zeros((n, k * k))
        self.cells[np.arange(n), scored.truth * k + scored.predicted] = 1
        self.brier = ((scored.probability - self.one_hot) ** 2).sum(axis=1)
        right = scored.probability[np.arange(n), scored.truth]
        self.log_loss = -np.log(np.clip(right, _EPS, 1))
        given = scored.thresholds or {}
        self.thresholds = {
            name: (np.broadcast_to(np.asarray(given[name][0], dtype=np.float64), n), given[name][1])
            for name in scored.classes
            if name in given
        }
        self.malignancy = (
            Ranking(scored.malignancy, scored.is_malignant)
            if scored.malignant is not None and scored.malignancy is not None
            else None
        )

    def threshold(self, key: Key) -> tuple[float, str | None]:
        """The threshold behind a row and where it came from."""
        class_, average, rule, _ = key
        if rule == "veto":
            return self.s.veto, self.s.veto_source
        if rule != "frozen_threshold":
            return float("nan"), None
        if average != "none":
            sources = sorted({source for _, source in self.thresholds.values()})
            return float("nan"), ",".join(sources)
        values, source = self.thresholds[class_]
        return float(values[0] if (values == values[0]).all() else values.mean()), source

    def behind(self, key: Key) -> Bools | None:
        """Which cases a proportion counts: (n,); None for what is no proportion of cases."""
        class_, average, rule, metric = key
        if average != "none" or metric not in ("sensitivity", "specificity", "precision", "ppv", "npv", "accuracy"):
            return None
        if metric == "accuracy":
            return np.ones(len(self.s), dtype=bool)
        if class_ in self.s.classes and rule != "veto":
            column = self.s.classes.index(class_)
            truth = self.one_hot[:, column]
            called = self.s.predicted == column
            if rule == "frozen_threshold":
                called = self.s.probability[:, column] >= self.thresholds[class_][0]
        else:
            assert self.s.malignant is not None
            truth, called = self.s.is_malignant, self.s.malignant[self.s.predicted]
            if rule == "veto":
                assert self.s.called is not None
                called = self.s.called
        sides: dict[str, Bools] = {
            "sensitivity": truth,
            "specificity": ~truth,
            "precision": called,
            "ppv": called,
            "npv": ~called,
        }
        return sides[metric]

    def n_positive(self, class_: str) -> int | None:
        """Cases of a class; None for averages."""
        if class_ in self.s.classes:
            return int(self.n_class[self.s.classes.index(class_)])
        return int(self.s.is_malignant.sum()) if class_ == MALIGNANT else None

    def values(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        """Metric, its value in each replicate, and what it divides by in the first one."""
        seen_keys: set[Key] = set()
        for part in (self._areas(w), self._argmax(w), self._frozen(w), self._calibration(w), self._malignant(w)):
            for key, value, support in part:
                # The class set "malignancy" has a class of that name: the same figure, told once.
                if key not in seen_keys:
                    seen_keys.add(key)
                    yield key, value, support

    def _areas(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        n = len(self.s)
        areas = [ranking.areas(w) for ranking in self.rankings]
        pooled = self.pooled.areas(w)
        n_class = w @ self.one_hot
        for i, metric in enumerate(("auroc", "average_precision")):
            table = np.stack([area[i] for area in areas], axis=1)
            for c, name in enumerate(self.s.classes):
                yield (name, "none", "none", metric), table[:, c], min(self.n_class[c], n - self.n_class[c])
            if self.both.any():
                yield from self._averages("none", metric, table, n_class, self.both)
                yield (ALL, "micro", "none", metric), pooled[i], n

    def _averages(
        self, rule: str, metric: str, table: Floats, n_class: Floats, over: Bools
    ) -> Iterator[tuple[Key, Floats, float]]:
        """Macro and weighted means of (replicates, classes) values over some classes; NaN where one is undefined."""
        n = len(self.s)
        yield (ALL, "macro", rule, metric), table[:, over].mean(axis=1), n
        yield (ALL, "weighted", rule, metric), _ratio((table * n_class)[:, over].sum(1), n_class[:, over].sum(1)), n

    def _argmax(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        k = len(self.s.classes)
        matrix = (w @ self.cells).reshape(-1, k, k)
        tp = np.einsum("rkk->rk", matrix)
        n_class, called = matrix.sum(axis=2), matrix.sum(axis=1)
        total = matrix.sum(axis=(1, 2))
        yield (ALL, "none", "argmax", "accuracy"), tp.sum(axis=1) / total, total[0]
        sensitivity = _ratio(tp, n_class)
        yield (ALL, "macro", "argmax", "balanced_accuracy"), sensitivity[:, self.seen].mean(axis=1), total[0]
        yield from self._decisions("argmax", self.s.classes, tp, called, n_class, total, self.seen, self.both)

    def _frozen(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        if not self.thresholds:
            return
        names = tuple(self.thresholds)
        columns = [self.s.classes.index(name) for name in names]
        truth = self.one_hot[:, columns]
        called = self.s.probability[:, columns] >= np.stack([self.thresholds[name][0] for name in names], axis=1)
        yield from self._decisions(
            "frozen_threshold",
            names,
            w @ (truth & called),
            w @ called,
            w @ truth,
            w.sum(axis=1),
            self.seen[columns],
            self.both[columns],
        )

    def _decisions(
        self, rule: str, names: tuple[str, ...], tp: Floats, called: Floats, n_class: Floats, total: Floats,
        seen: Bools, both: Bools,
    ) -> Iterator[tuple[Key, Floats, float]]:  # fmt: skip
        """Sensitivity, specificity, precision and F1 per class and averaged, from (replicates, classes) counts."""
        rest = total[:, None] - n_class
        tn = rest - (called - tp)
        tables = {
            "sensitivity": (tp, n_class, seen),
            "specificity": (tn, rest, both),
            "precision": (tp, called, seen),
            "f1": (2 * tp, called + n_class, seen),
        }
        for metric, (above, below, over) in tables.items():
            table = _ratio(above, below)
            support = n_class if metric == "f1" else below
            for c, name in enumerate(names):
                yield (name, "none", rule, metric), table[:, c], support[0, c]
            if over.any():
                filled = np.nan_to_num(table) if metric == "precision" else table
                filled = np.where(n_class > 0, filled, np.nan) if metric in ("precision", "f1") else filled
                yield from self._averages(rule, metric, filled, n_class, over)
                yield (ALL, "micro", rule, metric), _ratio(above.sum(axis=1), below.sum(axis=1)), total[0]

    def _calibration(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        total = w.sum(axis=1)
        confidence = self.s.probability.max(axis=1)
        hit = (self.s.predicted == self.s.truth).astype(np.float64)
        yield (ALL, "none", "none", "brier"), w @ self.brier / total, total[0]
        yield (ALL, "none", "none", "log_loss"), w @ self.log_loss / total, total[0]
        yield (ALL, "none", "none", "ece"), _ece(w, confidence, hit), total[0]

    def _malignant(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        if self.malignancy is None:
            return
        s, total = self.s, w.sum(axis=1)
        assert s.malignancy is not None
        assert s.malignant is not None
        truth = s.is_malignant
        p = s.malignancy
        positives = w @ truth
        support = min(positives[0], total[0] - positives[0])
        areas = self.malignancy.areas(w)
        yield (MALIGNANT, "none", "none", "auroc"), areas[0], support
        yield (MALIGNANT, "none", "none", "average_precision"), areas[1], support
        yield (MALIGNANT, "none", "none", "brier"), w @ (p - truth) ** 2 / total, total[0]
        loss = -np.log(np.clip(np.where(truth, p, 1 - p), _EPS, 1))
        yield (MALIGNANT, "none", "none", "log_loss"), w @ loss / total, total[0]
        yield (MALIGNANT, "none", "none", "ece"), _ece(w, p, truth.astype(np.float64)), total[0]
        rules = [("argmax", s.malignant[s.predicted])]
        if s.called is not None:
            rules.append(("veto", s.called))
        for rule, called in rules:
            yield from self._binary(rule, truth, called, w)

    @staticmethod
    def _binary(rule: str, truth: Bools, called: Bools, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        tp, fp = w @ (truth & called), w @ (~truth & called)
        fn, tn = w @ (truth & ~called), w @ (~truth & ~called)
        sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
        positives, negatives = (tp + fn)[0], (tn + fp)[0]
        for metric, value, support in (
            ("sensitivity", sensitivity, positives),
            ("specificity", specificity, negatives),
            ("ppv", _ratio(tp, tp + fp), (tp + fp)[0]),
            ("npv", _ratio(tn, tn + fn), (tn + fn)[0]),
            ("f1", _ratio(2 * tp, 2 * tp + fp + fn), positives),
            ("accuracy", (tp + tn) / (tp + tn + fp + fn), positives + negatives),
            ("balanced_accuracy", (sensitivity + specificity) / 2, min(positives, negatives)),
        ):
            yield (MALIGNANT, "none", rule, metric), value, float(support)


def confusion_matrix(truth: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Ints:
    """Counts (classes, classes): rows are the truth, columns the most probable class."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)), 1)
    return matrix
