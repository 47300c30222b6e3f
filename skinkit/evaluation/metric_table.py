"""All metrics of one set of predictions with their intervals: :class:`ScoredCases` in, rows of the metrics table out.

Definitions beyond those of ``skinkit.stats.metrics``
-----------------------------------------------
* Averages over classes are always named. ``macro`` is the plain mean, ``weighted`` the mean weighted by the number of
  cases, both over the classes *present* in the truth; ``micro`` pools all (case, class) decisions.
* Balanced accuracy: macro sensitivity of the most probable class. In averages the precision of a class that is never
  predicted counts 0.
* Accuracy of a class: (TP + TN) / N. It is high for any rare class, so it is reported per class, for comparison with
  papers, and never averaged.
* MCC: Matthews' coefficient, of all classes in Gorodkin's form (2004); NaN where only one class is true or called.
* Brier score: mean over cases of sum over classes (p - y)^2, 0 to 2; for malignancy (p - y)^2, 0 to 1.
* ``..._raw``: the same metric of the malignancy before calibration.
* PPV and NPV at a prevalence pi: se pi / (se pi + (1 - sp)(1 - pi)) and sp (1 - pi) / (sp (1 - pi) + (1 - se) pi).
* Set coverage: share of cases whose prediction set holds the true class; set size: classes in it.
* No estimate: the note says why (``stats.notes``): ``undefined`` (nothing to divide by), ``too_few`` (fewer than
  ``minimum`` cases in what a metric divides by), ``separable`` or ``beyond_bounds`` (calibration slope and intercept).
* Averages over classes at frozen thresholds are given only where every class that occurs has a threshold (``micro``:
  every class); over some of the classes they would not be averages.
* Intervals are those of ``skinkit.stats.intervals``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.stats.calibration import Recalibration
from skinkit.stats.intervals import (
    NONE,
    UNSEEN,
    LeaveOut,
    bounded_interval,
    ece_interval,
    effective_patients,
    fixed_rate_interval,
    loss_interval,
    patients_of,
    positive_interval,
    proportion_interval,
    unbounded_interval,
)
from skinkit.stats.metrics import (  # fmt: skip
    ALL,
    EPS,
    EXACT_INTERVAL,
    MALIGNANT,
    MINIMUM_N,
    NO_INTERVAL,
    PAUC,
    Bools,
    Floats,
    Ints,
    Ranking,
    once,
    ratio,
    weighted_ece,
)
from skinkit.stats.notes import MINIMUM_PATIENTS, NOTES, TOO_FEW, TOO_FEW_PATIENTS, UNDEFINED

PROPORTIONS = ("sensitivity", "specificity", "precision", "ppv", "npv", "accuracy", "prevalence", "set_coverage")
AREAS = {"auroc": 1.0, "average_precision": 1.0, PAUC: 0.2}
"""Areas under curves and their maxima."""
UNBOUNDED = ("calibration_slope", "calibration_intercept")
LARGEST = {"brier": {ALL: 2.0, MALIGNANT: 1.0}}
"""Largest losses of a case."""


@dataclass(frozen=True)
class ScoredCases:
    """Predictions and truth as arrays.

    Attributes:
        classes: class codes, in the order of the probability columns.
        truth: (n,) class indices.
        probability: (n, classes).
        cluster: (n,) patient of each case.
        malignant: (classes,) which classes are malignant; None leaves every malignancy metric out.
        malignancy: (n,) probability of malignancy.
        called: (n,) called malignant after the veto.
        veto: the veto's threshold.
        veto_source: source of the threshold.
        thresholds: class code -> (threshold, source) frozen beforehand; one threshold, or (n,) if the cases were
            predicted by models with different thresholds.
        raw: (n,) probability of malignancy before calibration.
        sets: (n, classes) prediction sets.
        prevalence: prevalence of malignancy where the model is used; NaN if not stated.
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
    raw: Floats | None = None
    sets: Bools | None = None
    prevalence: float = float("nan")

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: Bools | Ints) -> ScoredCases:
        """The predictions of some of the cases."""
        chosen: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value[rows]
            for name in ("truth", "probability", "cluster", "malignancy", "called", "raw", "sets")
        }
        thresholds = {
            name: (np.broadcast_to(np.asarray(value), len(self))[rows], source)
            for name, (value, source) in (self.thresholds or {}).items()
        }
        return replace(self, **chosen, thresholds=thresholds)

    @property
    def predicted(self) -> Ints:
        """(n,) most probable class; the first one of ties."""
        return np.argmax(self.probability, axis=1) if len(self) else np.zeros(0, dtype=np.int64)

    @property
    def is_malignant(self) -> Bools:
        """(n,) whether the true class is malignant."""
        assert self.malignant is not None
        return self.malignant[self.truth]


Key = tuple[str, str, str, str]
"""(class, average, decision_rule, metric)"""

PARTS = ("areas", "argmax", "frozen", "calibration", "malignant", "sets")
"""Families of metrics."""


@dataclass(frozen=True)
class Replicated:
    """Every metric of some predictions, and its jackknife replicates.

    Attributes:
        table: the metrics.
        point: key -> estimate, and the number of cases it divides by.
        replicates: key -> (groups,) its value without each patient or group of patients.
        left_out: how they are left out.
    """

    table: MetricTable
    point: Mapping[Key, tuple[float, int]]
    replicates: Mapping[Key, Floats]
    left_out: LeaveOut

    def note(self, key: Key, minimum: int) -> str | None:
        """Why a figure has no estimate, of ``stats.notes``; None where it has one."""
        estimate, support = self.point.get(key, (np.nan, 0))
        if not support:
            return UNDEFINED
        if support < minimum:
            return TOO_FEW
        return self.table.why_nan(key) if np.isnan(estimate) else None


def replicated(scored: ScoredCases, left_out: LeaveOut, parts: Sequence[str] = PARTS) -> Replicated:
    """Compute these families of metrics on the cases, and without each patient."""
    table = MetricTable(scored)
    point = {key: (float(value[0]), int(n)) for key, value, n in table.values(once(len(scored)), parts)}
    replicates: dict[Key, list[Floats]] = {key: [] for key in point}
    for weights in left_out.weights(scored.cluster, len(scored.classes)):
        for key, value, _ in table.values(weights, parts):
            replicates[key].append(value)
    joined = {key: np.concatenate(v) if v else np.zeros(0) for key, v in replicates.items()}
    return Replicated(table, point, joined, left_out)


def measure(
    scored: ScoredCases,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    minimum: int = MINIMUM_N,
) -> list[dict[str, Any]]:
    """Every metric of some predictions with its interval, as rows of the metrics table; see :func:`rows_of`."""
    if not len(scored):
        return []
    return rows_of(replicated(scored, LeaveOut(scored.cluster, seed, draws=bootstrap)), minimum)


def rows_of(metrics: Replicated, minimum: int = MINIMUM_N) -> list[dict[str, Any]]:
    """Rows of the metrics table.

    Args:
        metrics: estimates and replicates.
        minimum: smallest denominator of a metric; for AUROCs, of positives and of negatives.

    Returns:
        Rows with class, average, decision_rule, metric, estimate, lower, upper, n, n_positive, n_clusters, threshold,
        threshold_source and note (of ``stats.notes``: no estimate; ``too_few_patients``: no interval, because fewer
        than ``MINIMUM_PATIENTS`` are behind the figure; ``no_interval``: undefined without one of the patients;
        ``exact_interval``: binomial, because the figure is at an end of its range).
    """
    table = metrics.table
    n_clusters = len(np.unique(table.s.cluster))
    rows = []
    for key, (estimate, _) in metrics.point.items():
        class_, average, rule, metric = key
        note = metrics.note(key, minimum)
        lower = upper = float("nan")
        if note is None and len(metrics.replicates[key]):
            lower, upper, note = table.interval(key, estimate, metrics.replicates[key], metrics.left_out)
        threshold, source = table.threshold(key)
        rows.append(
            {
                "class": class_,
                "average": average,
                "decision_rule": rule,
                "metric": metric,
                "estimate": float("nan") if note in NOTES else estimate,
                "lower": lower,
                "upper": upper,
                "n": len(table.s),
                "n_positive": table.n_positive(class_),
                "n_clusters": n_clusters,
                "threshold": threshold,
                "threshold_source": source,
                "note": note,
            }
        )
    return rows


class MetricTable:
    """All metrics of one set of predictions, for any weights."""

    def __init__(self, scored: ScoredCases) -> None:
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
        self.log_loss = -np.log(np.clip(right, EPS, 1))
        frozen = scored.thresholds or {}
        self.thresholds = {
            name: (np.broadcast_to(np.asarray(frozen[name][0], dtype=np.float64), n), frozen[name][1])
            for name in scored.classes
            if name in frozen
        }
        self.malignancy = (
            _Binary(scored.malignancy, scored.is_malignant)
            if scored.malignant is not None and scored.malignancy is not None
            else None
        )
        self.raw = (
            _Binary(scored.raw, scored.is_malignant) if self.malignancy is not None and scored.raw is not None else None
        )

    def threshold(self, key: Key) -> tuple[float, str | None]:
        """The threshold behind a row and its source."""
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

    def interval(
        self, key: Key, estimate: float, replicates: Floats, left_out: LeaveOut
    ) -> tuple[float, float, str | None]:
        """The 95 % interval of a metric, and a note."""
        patients = self.clusters_behind(key)
        if patients < MINIMUM_PATIENTS:
            return *NONE, TOO_FEW_PATIENTS
        class_, _, _, metric = key
        plain = metric.removesuffix("_raw")
        lowest, highest = self._range(key)
        if plain == "ece":
            lower, upper = ece_interval(
                *self._confidence(key), self.s.cluster, draws=left_out.draws, seed=left_out.seed
            )
        elif "_at_" in metric and not metric.endswith("_at_prevalence"):
            lower, upper = self._at_fixed_rate(class_, metric)
        elif plain == "calibration_slope" and self._nearly_separable(metric):
            lower, upper = NONE
        elif plain in UNBOUNDED:
            lower, upper = unbounded_interval(estimate, replicates, patients)
        elif plain == "log_loss":
            lower, upper = positive_interval(estimate, replicates, patients)
        elif metric.endswith("_at_prevalence") and (box := self._at_prevalence_box(key)) is not None:
            lower, upper = box
        else:
            sides = self._behind(key)
            # The area above 80 % sensitivity hangs on the positives that score lowest.
            share = 0.5 if metric == PAUC else 1.0
            lower, upper = bounded_interval(
                estimate,
                replicates,
                patients,
                effective=share * effective_patients(self.s.cluster, *sides),
                cases=int(sides[0].sum()) if metric in PROPORTIONS and len(sides) == 1 else np.inf,
                lowest=lowest,
                highest=highest,
            )
        if plain in ("brier", "log_loss"):
            lower, upper = loss_interval(
                (lower, upper), *self._losses(key), self.s.cluster, LARGEST.get(plain, {}).get(class_)
            )
        if np.isnan(lower):
            return lower, upper, NO_INTERVAL
        bounded = plain not in (*UNBOUNDED, "log_loss", "ece")
        certain = bounded and any(np.isclose(estimate, end) for end in (lowest, highest))
        return lower, upper, EXACT_INTERVAL if certain else None

    def _nearly_separable(self, metric: str) -> bool:
        """Whether the scores of both sides overlap in so few patients that the slope hangs on them."""
        binary = self.raw if metric.endswith("_raw") else self.malignancy
        assert binary is not None
        overlapping = (binary.p >= binary.p[binary.y].min()) & (binary.p <= binary.p[~binary.y].max())
        return patients_of(self.s.cluster, overlapping) < MINIMUM_PATIENTS

    def _range(self, key: Key) -> tuple[float, float]:
        """The lowest and the highest value of a bounded metric."""
        class_, _, _, metric = key
        if metric == "mcc":
            return -1.0, 1.0
        if metric == "set_size":
            return 1.0, float(max(len(self.s.classes), 2))
        if metric == "brier":
            return 0.0, 2.0 if class_ == ALL else 1.0
        return 0.0, AREAS.get(metric, 1.0)

    def unseen_variance(self, key: Key, estimate: float, patients: int) -> float:
        """Variance of a bounded metric for a patient like none that was seen, as in its interval; 0 if unbounded."""
        if key[3].removesuffix("_raw") in (*UNBOUNDED, "log_loss") or np.isnan(estimate):
            return 0.0
        lowest, highest = self._range(key)
        return UNSEEN * (estimate - lowest) * (highest - estimate) / max(patients, 1) ** 2

    def _confidence(self, key: Key) -> tuple[Floats, Floats]:
        """Confidence and whether it was right, (n,) each, behind an ECE."""
        if key[0] == ALL:
            return self.s.probability.max(axis=1), (self.s.predicted == self.s.truth).astype(np.float64)
        binary = self.raw if key[3].endswith("_raw") else self.malignancy
        assert binary is not None
        return binary.p, binary.y.astype(np.float64)

    def _losses(self, key: Key) -> tuple[Floats, Bools]:
        """Loss of each case and whether its answer was wrong, (n,) each."""
        brier = key[3].startswith("brier")
        if key[0] == ALL:
            return self.brier if brier else self.log_loss, self.s.predicted != self.s.truth
        binary = self.raw if key[3].endswith("_raw") else self.malignancy
        assert binary is not None
        return (binary.p - binary.y) ** 2 if brier else binary.loss, (binary.p >= 0.5) != binary.y

    def _at_fixed_rate(self, class_: str, metric: str) -> tuple[float, float]:
        """Of the sensitivity at a fixed specificity, or the reverse."""
        rate = float(metric.split("_")[2]) / 100
        truth = self._true(class_)
        score = self.s.probability[:, self.s.classes.index(class_)] if class_ in self.s.classes else self.s.malignancy
        assert score is not None
        if metric.startswith("sensitivity"):
            return fixed_rate_interval(score, truth, self.s.cluster, rate)
        return fixed_rate_interval(-score, ~truth, self.s.cluster, rate)

    def _at_prevalence_box(self, key: Key) -> tuple[float, float] | None:
        """The range that the intervals of sensitivity and specificity allow, where one of them is 0 or 1."""
        truth, called = self.s.is_malignant, self._called(MALIGNANT, "veto")
        sides = ((truth, called), (~truth, ~called))
        if not {0.0, 1.0} & {float(right[side].mean()) for side, right in sides}:
            return None
        ends = [proportion_interval(right, side, self.s.cluster) for side, right in sides]
        # Both predictive values grow with sensitivity and with specificity.
        which = 0 if key[3].startswith("ppv") else 1
        lower, upper = (
            float(predictive_values(np.array([ends[0][i]]), np.array([ends[1][i]]), self.s.prevalence)[which][0])
            for i in (0, 1)
        )
        return lower, upper

    def _sides(self, key: Key) -> tuple[Bools, ...]:
        """The cases of a proportion's denominator, or an AUROC's positives and negatives: each (n,); else empty."""
        class_, average, rule, metric = key
        if average != "none" or metric not in (*PROPORTIONS, *AREAS):
            return ()
        if metric == "set_coverage":
            return (self._true(class_) if class_ != ALL else np.ones(len(self.s), dtype=bool),)
        if metric in ("accuracy", "prevalence"):
            return (np.ones(len(self.s), dtype=bool),)
        truth = self._true(class_)
        if metric in AREAS:
            return (truth, ~truth)
        called = self._called(class_, rule)
        counted = {"sensitivity": truth, "specificity": ~truth, "precision": called, "ppv": called, "npv": ~called}
        return (counted[metric],)

    def cases_behind(self, key: Key) -> tuple[int, ...]:
        """Numbers of an AUROC's positives and negatives, or of a proportion's denominator; else empty."""
        return tuple(int(side.sum()) for side in self._sides(key))

    def clusters_behind(self, key: Key) -> int:
        """Patients behind a figure: of a proportion's denominator, of the rarer side, of an average's rarest class."""
        return patients_of(self.s.cluster, *self._behind(key))

    def _behind(self, key: Key) -> tuple[Bools, ...]:
        """The sides, (n,) cases each, that a figure stands on; the one with the fewest patients limits it."""
        class_, average, rule, metric = key
        everyone = (np.ones(len(self.s), dtype=bool),)
        if sides := self._sides(key):
            return sides
        if average in ("macro", "weighted") or (class_ == ALL and metric == "mcc"):
            over = self.both if metric in (*AREAS, "specificity") else self.seen
            if rule == "frozen_threshold":
                over = over & np.isin(self.s.classes, list(self.thresholds))
            of = self.one_hot[:, over].T
            return (*of, *(~of if metric in (*AREAS, "specificity") else ())) or everyone
        if class_ == ALL or metric.removesuffix("_raw") in ("brier", "log_loss", "ece"):
            return everyone
        truth = self._true(class_)
        return (truth,) if metric in ("f1", "set_size") else (truth, ~truth)

    def _true(self, class_: str) -> Bools:
        if class_ in self.s.classes:
            return self.one_hot[:, self.s.classes.index(class_)]
        return self.s.is_malignant

    def _called(self, class_: str, rule: str) -> Bools:
        if rule == "veto":
            assert self.s.called is not None
            return self.s.called
        if class_ not in self.s.classes:
            assert self.s.malignant is not None
            return self.s.malignant[self.s.predicted]
        column = self.s.classes.index(class_)
        frozen = rule == "frozen_threshold"
        called = self.s.probability[:, column] >= self.thresholds[class_][0] if frozen else self.s.predicted == column
        return np.asarray(called, dtype=bool)

    def why_nan(self, key: Key) -> str:
        """Why a figure of enough cases is NaN: a note of ``stats.notes``."""
        metric = key[3].removesuffix("_raw")
        binary = self.raw if metric != key[3] else self.malignancy
        if binary is None or not metric.startswith("calibration_"):
            return UNDEFINED
        return binary.recalibration.why_nan(slope=metric == "calibration_slope")

    def n_positive(self, class_: str) -> int | None:
        """Cases of a class; None for averages."""
        if class_ in self.s.classes:
            return int(self.n_class[self.s.classes.index(class_)])
        return int(self.s.is_malignant.sum()) if class_ == MALIGNANT else None

    def values(self, w: Floats, parts: Sequence[str] = PARTS) -> Iterator[tuple[Key, Floats, float]]:
        """Metric, its value in each replicate, and its denominator in the first one."""
        seen_keys: set[Key] = set()
        families = {
            "areas": self._areas,
            "argmax": self._argmax,
            "frozen": self._frozen,
            "calibration": self._calibration,
            "malignant": self._malignant,
            "sets": self._sets,
        }
        for part in parts:
            for key, value, support in families[part](w):
                # The class set "malignancy" has a class of that name; its identical figures are reported once.
                if key not in seen_keys:
                    seen_keys.add(key)
                    yield key, value, support

    def _areas(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        n = len(self.s)
        summaries = [ranking.summary(w) for ranking in self.rankings]
        pooled = dict(zip(("auroc", "average_precision"), self.pooled.areas(w), strict=True))
        n_class = w @ self.one_hot
        for metric in summaries[0]:
            table = np.stack([one[metric] for one in summaries], axis=1)
            for c, name in enumerate(self.s.classes):
                yield (name, "none", "none", metric), table[:, c], min(self.n_class[c], n - self.n_class[c])
            if self.both.any() and metric in pooled:
                yield from self._averages("none", metric, table, n_class, self.both)
                yield (ALL, "micro", "none", metric), pooled[metric], n

    def _averages(
        self, rule: str, metric: str, table: Floats, n_class: Floats, over: Bools
    ) -> Iterator[tuple[Key, Floats, float]]:
        """Macro and weighted means of (replicates, classes) values over some classes; NaN where one is undefined."""
        n = len(self.s)
        yield (ALL, "macro", rule, metric), table[:, over].mean(axis=1), n
        yield (ALL, "weighted", rule, metric), ratio((table * n_class)[:, over].sum(1), n_class[:, over].sum(1)), n

    def _argmax(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        k = len(self.s.classes)
        matrix = (w @ self.cells).reshape(-1, k, k)
        tp = np.einsum("rkk->rk", matrix)
        n_class, called = matrix.sum(axis=2), matrix.sum(axis=1)
        total = matrix.sum(axis=(1, 2))
        yield (ALL, "none", "argmax", "accuracy"), ratio(tp.sum(axis=1), total), total[0]
        sensitivity = ratio(tp, n_class)
        yield (ALL, "macro", "argmax", "balanced_accuracy"), sensitivity[:, self.seen].mean(axis=1), total[0]
        yield (ALL, "none", "argmax", "mcc"), _gorodkin(tp, called, n_class, total), total[0]
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
        present: Bools, both: Bools,
    ) -> Iterator[tuple[Key, Floats, float]]:  # fmt: skip
        """Sensitivity, specificity, precision and F1 per class and averaged, from (replicates, classes) counts.

        Accuracy is reported per class, without averages.
        """
        rest = total[:, None] - n_class
        tn = rest - (called - tp)
        for c, name in enumerate(names):
            yield (name, "none", rule, "accuracy"), ratio(tp[:, c] + tn[:, c], total), total[0]
        tables = {
            "sensitivity": (tp, n_class, present),
            "specificity": (tn, rest, both),
            "precision": (tp, called, present),
            "f1": (2 * tp, called + n_class, present),
        }
        for metric, (above, below, over) in tables.items():
            table = ratio(above, below)
            support = n_class if metric == "f1" else below
            for c, name in enumerate(names):
                yield (name, "none", rule, metric), table[:, c], support[0, c]
            # Averages over those classes alone that happen to have a threshold would pass for averages over all.
            if over.any() and present.sum() == self.seen.sum():
                filled = np.nan_to_num(table) if metric == "precision" else table
                filled = np.where(n_class > 0, filled, np.nan) if metric in ("precision", "f1") else filled
                yield from self._averages(rule, metric, filled, n_class, over)
                if len(names) == len(self.s.classes):
                    yield (ALL, "micro", rule, metric), ratio(above.sum(axis=1), below.sum(axis=1)), total[0]

    def _calibration(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        total = w.sum(axis=1)
        confidence = self.s.probability.max(axis=1)
        hit = (self.s.predicted == self.s.truth).astype(np.float64)
        yield (ALL, "none", "none", "brier"), ratio(w @ self.brier, total), total[0]
        yield (ALL, "none", "none", "log_loss"), ratio(w @ self.log_loss, total), total[0]
        yield (ALL, "none", "none", "ece"), weighted_ece(w, confidence, hit), total[0]

    def _malignant(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        s = self.s
        if self.malignancy is None or s.malignant is None:
            return
        truth, total = s.is_malignant, w.sum(axis=1)
        positives = float((w[0] @ truth).item())
        rarer = min(positives, total[0] - positives)
        yield (MALIGNANT, "none", "none", "prevalence"), ratio(w @ truth, total), total[0]
        for metric, value in self.malignancy.ranking.summary(w).items():
            yield (MALIGNANT, "none", "none", metric), value, rarer
        for suffix, binary in (("", self.malignancy), ("_raw", self.raw)):
            for metric, value in binary.calibration(w).items() if binary is not None else ():
                support = rarer if metric.startswith("calibration") else total[0]
                yield (MALIGNANT, "none", "none", f"{metric}{suffix}"), value, support
        rules = [("argmax", s.malignant[s.predicted])]
        if s.called is not None:
            rules.append(("veto", s.called))
        for rule, called in rules:
            yield from self._binary(rule, truth, called, w)

    def _binary(self, rule: str, truth: Bools, called: Bools, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        tp, fp = w @ (truth & called), w @ (~truth & called)
        fn, tn = w @ (truth & ~called), w @ (~truth & ~called)
        sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
        positives, negatives = (tp + fn)[0], (tn + fp)[0]
        rarer = min(positives, negatives)
        figures = [
            ("sensitivity", sensitivity, positives),
            ("specificity", specificity, negatives),
            ("ppv", ratio(tp, tp + fp), (tp + fp)[0]),
            ("npv", ratio(tn, tn + fn), (tn + fn)[0]),
            ("f1", ratio(2 * tp, 2 * tp + fp + fn), positives),
            ("mcc", ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))), rarer),
            ("accuracy", ratio(tp + tn, tp + tn + fp + fn), positives + negatives),
            ("balanced_accuracy", (sensitivity + specificity) / 2, rarer),
        ]
        if rule == "veto" and not np.isnan(self.s.prevalence):
            ppv, npv = predictive_values(sensitivity, specificity, self.s.prevalence)
            figures += [("ppv_at_prevalence", ppv, rarer), ("npv_at_prevalence", npv, rarer)]
        for metric, value, support in figures:
            yield (MALIGNANT, "none", rule, metric), value, float(support)

    def _sets(self, w: Floats) -> Iterator[tuple[Key, Floats, float]]:
        if self.s.sets is None:
            return
        n = len(self.s)
        held = self.s.sets[np.arange(n), self.s.truth]
        size = self.s.sets.sum(axis=1).astype(np.float64)
        groups = [(ALL, np.ones(n, dtype=bool)), *((name, self.one_hot[:, c]) for c, name in enumerate(self.s.classes))]
        for name, inside in groups:
            total = w @ inside
            yield (name, "none", "conformal_set", "set_coverage"), ratio(w @ (held & inside), total), total[0]
            yield (name, "none", "conformal_set", "set_size"), ratio(w @ (size * inside), total), total[0]


class _Binary:
    """One probability of malignancy, for any weights."""

    def __init__(self, probability: Floats, positive: Bools) -> None:
        self.p, self.y = probability, positive
        self.ranking = Ranking(probability, positive)
        self.recalibration = Recalibration(probability, positive)
        self.loss = -np.log(np.clip(np.where(positive, probability, 1 - probability), EPS, 1))

    def calibration(self, w: Floats) -> dict[str, Floats]:
        """Metrics that depend on the probabilities, not only on their order: metric -> (replicates,)."""
        total = w.sum(axis=1)
        slope, intercept = self.recalibration.values(w)
        return {
            "brier": ratio(w @ (self.p - self.y) ** 2, total),
            "log_loss": ratio(w @ self.loss, total),
            "ece": weighted_ece(w, self.p, self.y.astype(np.float64)),
            "calibration_slope": slope,
            "calibration_intercept": intercept,
        }


def _gorodkin(tp: Floats, called: Floats, n_class: Floats, total: Floats) -> Floats:
    """Matthews' coefficient of several classes, from (replicates, classes) counts; NaN if truth or calls are constant.

    Source: Gorodkin, Computational Biology and Chemistry 2004.
    """
    right = tp.sum(axis=1)
    above = right * total - (called * n_class).sum(axis=1)
    below = (total**2 - (called**2).sum(axis=1)) * (total**2 - (n_class**2).sum(axis=1))
    return ratio(above, np.sqrt(np.maximum(below, 0)))


def predictive_values(sensitivity: Floats, specificity: Floats, prevalence: float) -> tuple[Floats, Floats]:
    """Positive and negative predictive value at a prevalence."""
    hits, alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    passed, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return ratio(hits, hits + alarms), ratio(passed, passed + missed)


def confusion_matrix(truth: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Ints:
    """Counts (classes, classes): rows are the truth, columns the most probable class."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)), 1)
    return matrix
