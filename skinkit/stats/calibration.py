"""Calibration of probabilities: measures of it, and methods that improve it.

Temperature scaling is ``metrics.fit_temperature``; this module has isotonic regression, the shift to another
prevalence, calibration slope and intercept, reliability diagrams and conformal prediction sets. Every fit uses a
fold's validation rows and is stored as plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.stats.intervals import proportion_interval
from skinkit.stats.metrics import Bools, Floats, once
from skinkit.stats.notes import BEYOND_BOUNDS, SEPARABLE, UNDEFINED

LOGIT_CLIP = 1e-6
RELIABILITY_BINS = 10
_STEEPEST = 10.0  # a slope or intercept beyond it says no more than that the fit ran away


# ------------------------------------------------------------------------------------------- slope and intercept


def log_odds(probability: npt.ArrayLike) -> Floats:
    """ln(p / (1 - p)), with p kept within ``LOGIT_CLIP`` of 0 and 1."""
    p = np.clip(np.asarray(probability, dtype=np.float64), LOGIT_CLIP, 1 - LOGIT_CLIP)
    odds: Floats = np.log(p / (1 - p))
    return odds


class Recalibration:
    """Calibration slope and intercept of one probability, for any weights.

    The slope b is that of the logistic regression ``logit P(y) = a + b logit(p)``: 1 is right, below 1 the
    probabilities are too extreme. The intercept is calibration in the large, a of ``logit P(y) = a + logit(p)``: 0 is
    right, above 0 the probabilities are too low on the whole. NaN where :meth:`why_nan` says so.

    Args:
        probability: (n,) of the positive class.
        positive: (n,) truth.

    Source: Cox, Biometrika 1958; Van Calster et al., BMC Medicine 2019.
    """

    def __init__(self, probability: npt.ArrayLike, positive: npt.ArrayLike) -> None:
        self._x = log_odds(probability)
        self._y = np.asarray(positive, dtype=np.float64)
        whole = once(len(self._x))
        self._start = {free: self._fitted(whole, free, self._searched(free), 20)[0] for free in (False, True)}

    def _searched(self, free: bool) -> Floats:
        """Starting values near the optimum: far from it Newton's steps oscillate for extreme probabilities."""
        from scipy.optimize import minimize

        def loss(line: Floats) -> tuple[float, Floats]:
            eta = line[0] + (line[1] if free else 1.0) * self._x
            rest = _expit(eta) - self._y
            value = float(np.mean(np.logaddexp(0, eta) - self._y * eta))
            return value, np.array([rest.mean(), (rest @ self._x) / len(rest) if free else 0.0])

        if not 0 < self._y.sum() < len(self._y) or (free and np.ptp(self._x) == 0):
            return np.full(2, np.nan)
        optimum = minimize(loss, np.array([0.0, 0.0]), jac=True, method="BFGS")
        return np.array([optimum.x[0], optimum.x[1] if free else 1.0])

    def values(self, weights: Floats) -> tuple[Floats, Floats]:
        """Slope and intercept of each replicate of (replicates, n) weights."""
        # Replicates begin where the whole table ends, so few steps are enough.
        intercept = self._fitted(weights, False, self._start[False], 4)[:, 0]
        slope = self._fitted(weights, True, self._start[True], 4)[:, 1]
        return np.where(self._separated(weights), np.nan, slope), intercept

    def why_nan(self, *, slope: bool) -> str:
        """Why the slope, or the intercept, of the whole table is NaN: a note of ``stats.notes``."""
        if not 0 < self._y.sum() < len(self._y) or (slope and np.ptp(self._x) == 0):
            return UNDEFINED
        if slope and self._separated(once(len(self._x)))[0]:
            return SEPARABLE
        return BEYOND_BOUNDS

    def _separated(self, w: Floats) -> Bools:
        """(replicates,) whether a cut parts both sides, ties at it apart: then no slope maximises the likelihood.

        Source: Albert & Anderson, Biometrika 1984.
        """
        ends = []
        for side in (self._y > 0, self._y <= 0):
            drawn = w[:, side] > 0
            lowest = np.where(drawn, self._x[side], np.inf).min(axis=1, initial=np.inf)
            ends.append((lowest, np.where(drawn, self._x[side], -np.inf).max(axis=1, initial=-np.inf)))
        (low, high), (low_rest, high_rest) = ends
        separated: Bools = (low >= high_rest) | (low_rest >= high)
        return separated

    def _fitted(self, w: Floats, free: bool, start: Floats, steps: int) -> Floats:
        """(replicates, 2) intercept and slope by Newton's method; the slope stays where it is unless it is ``free``."""
        positives, total = w @ self._y, w.sum(axis=1)
        defined = (positives > 0) & (positives < total)
        line = np.repeat(start[None, :], len(w), axis=0)
        moved = np.full(len(w), np.inf)
        if not defined.any() or np.isnan(start).any():
            return np.full_like(line, np.nan)
        for _ in range(steps):
            step = self._step(w, line, free)
            step *= np.minimum(1, 2 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-12))
            line = line + step
            moved = np.abs(step).max(axis=1) / np.maximum(1, np.abs(line).max(axis=1))
            if moved[defined].max() < 1e-6:
                break
        settled = defined & (moved < 1e-2) & (np.abs(line) < _STEEPEST).all(axis=1)
        return np.where(settled[:, None], line, np.nan)

    def _step(self, w: Floats, line: Floats, free: bool) -> Floats:
        shared = bool((line == line[0]).all())
        mu = _expit((line[:1] if shared else line) @ np.stack([np.ones_like(self._x), self._x]))
        rest, spread = self._y - mu, mu * (1 - mu)

        def moment(values: Floats, power: int) -> Floats:
            # Where all replicates stand at the same line, as they do at first, one product does for all of them.
            if shared:
                product: Floats = w @ (values[0] * self._x**power)
                return product
            summed: Floats = np.einsum("rn,rn,n->r", w, values, self._x**power)
            return summed

        g0, h00 = moment(rest, 0), moment(spread, 0)
        if not free:
            return np.stack([g0 / np.maximum(h00, 1e-12), np.zeros_like(g0)], axis=1)
        g1, h01, h11 = moment(rest, 1), moment(spread, 1), moment(spread, 2)
        det = np.maximum(h00 * h11 - h01**2, 1e-12)
        return np.stack([(h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det], axis=1)


def _expit(x: Floats) -> Floats:
    from scipy.special import expit

    value: Floats = expit(x)
    return value


# -------------------------------------------------------------------------------------------------- prevalence


def shift_malignancy(malignancy: npt.ArrayLike, source: float, target: float) -> Floats:
    """The probability of malignancy where its prevalence is ``target`` instead of ``source``.

    Bayes' rule, for classes that look the same in both places: the odds are multiplied by
    (target / (1 - target)) / (source / (1 - source)).

    Source: Saerens, Latinne & Decaestecker, Neural Computation 2002, eq. 4.
    """
    m = np.asarray(malignancy, dtype=np.float64)
    up, down = target / source, (1 - target) / (1 - source)
    shifted: Floats = m * up / (m * up + (1 - m) * down)
    return shifted


def shift_classes(probability: npt.ArrayLike, malignant: Bools, source: float, target: float) -> Floats:
    """Class probabilities where the prevalence of malignancy is ``target``; the mix within either group is kept.

    Args:
        probability: (n, classes).
        malignant: (classes,).
        source: prevalence the probabilities are calibrated for.
        target: prevalence to shift to.
    """
    factor = np.where(malignant, target / source, (1 - target) / (1 - source))
    weighted = np.asarray(probability, dtype=np.float64) * factor
    shifted: Floats = weighted / weighted.sum(axis=1, keepdims=True)
    return shifted


# ------------------------------------------------------------------------------------------------- reliability


def reliability(
    probability: Floats, positive: Bools, cluster: npt.NDArray[Any], bins: int = RELIABILITY_BINS
) -> list[dict[str, float | int | None]]:
    """Bins of equal numbers of cases: mean probability against the observed share, with its interval.

    Args:
        probability: (n,) of the positive class.
        positive: (n,) truth.
        cluster: (n,) patient.
        bins: at most so many; fewer where there are under 5 cases a bin, and tied probabilities share one.
    """
    wanted = max(1, min(bins, len(probability) // 5))
    cuts = np.linspace(0, 1, wanted + 1)[1:-1]
    edges: Floats = np.unique(np.quantile(probability, cuts)) if len(probability) else np.zeros(0)
    place = np.searchsorted(edges, probability, side="right")
    member = place[:, None] == np.arange(len(edges) + 1)
    bin_rows: list[dict[str, float | int | None]] = []
    for b in np.flatnonzero(member.any(axis=0)):
        rows = member[:, b]
        observed = float(positive[rows].mean())
        lower, upper = proportion_interval(positive, rows, cluster)
        bin_rows.append(
            {
                "predicted": float(probability[rows].mean()),
                "observed": observed,
                "lower": None if math.isnan(lower) else lower,
                "upper": None if math.isnan(upper) else upper,
                "n": int(rows.sum()),
            }
        )
    return bin_rows


# ---------------------------------------------------------------------------------------------------- isotonic


@dataclass(frozen=True)
class Isotonic:
    """A non-decreasing map of each class's probability, one class against the rest, then normalised to sum to 1.

    Attributes:
        x: per class, the probabilities at which its map has a knot, increasing.
        y: per class, the share observed there.

    Source: Zadrozny & Elkan, KDD 2002.
    """

    x: tuple[tuple[float, ...], ...]
    y: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, probability: npt.ArrayLike, labels: npt.ArrayLike) -> Isotonic:
        """Fit on (n, classes) probabilities and (n,) class indices; a class without a case keeps its probability."""
        from sklearn.isotonic import IsotonicRegression

        p, truth = np.asarray(probability, dtype=np.float64), np.asarray(labels)
        xs: list[tuple[float, ...]] = []
        ys: list[tuple[float, ...]] = []
        for k in range(p.shape[1]):
            hit = truth == k
            if not hit.any() or hit.all():
                xs.append((0.0, 1.0))
                ys.append((0.0, 1.0))
                continue
            fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p[:, k], hit.astype(float))
            xs.append(tuple(map(float, fitted.X_thresholds_)))
            ys.append(tuple(map(float, fitted.y_thresholds_)))
        return cls(tuple(xs), tuple(ys))

    def apply(self, probability: npt.ArrayLike) -> Floats:
        """(n, classes) mapped probabilities; a row that maps to nothing but zeros stays as it is."""
        p = np.asarray(probability, dtype=np.float64)
        mapped = np.stack([np.interp(p[:, k], self.x[k], self.y[k]) for k in range(p.shape[1])], axis=1)
        total = mapped.sum(axis=1, keepdims=True)
        return np.where(total > 0, mapped / np.where(total > 0, total, 1), p)

    def as_dict(self) -> dict[str, list[list[float]]]:
        """Plain values for JSON."""
        return {"x": [list(part) for part in self.x], "y": [list(part) for part in self.y]}

    @classmethod
    def from_dict(cls, knots: Mapping[str, Sequence[Sequence[float]]]) -> Isotonic:
        """The inverse of :meth:`as_dict`."""
        return cls(*(tuple(tuple(map(float, part)) for part in knots[side]) for side in "xy"))


# --------------------------------------------------------------------------------------------------- conformal


def conformal_level(probability: npt.ArrayLike, labels: npt.ArrayLike, coverage: float) -> float:
    """The probability from which a class enters the prediction set, so that sets hold the truth at least so often.

    Split conformal prediction with the score 1 - p(true class): the level is 1 minus the ceil((n + 1) coverage)-th
    smallest of n scores. With no more than 1 / (1 - coverage) rows it is 0, and every class is in the set.

    Args:
        probability: (n, classes) of rows the model was not fitted on.
        labels: (n,) class indices.
        coverage: wanted, from 0.5 to below 1.

    Source: Sadinle, Lei & Wasserman, JASA 2019 (least ambiguous set-valued classifiers).
    """
    p, truth = np.asarray(probability, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    n = len(truth)
    if n <= 1 / (1 - coverage):
        return 0.0
    scores = np.sort(1 - p[np.arange(n), truth])
    return float(1 - scores[math.ceil((n + 1) * coverage) - 1])


def prediction_sets(probability: npt.ArrayLike, level: float) -> Bools:
    """(n, classes): the classes with at least this probability, and the most probable one in any case."""
    p = np.asarray(probability, dtype=np.float64)
    chosen: Bools = p >= level - 1e-12
    if len(p):
        chosen[np.arange(len(p)), p.argmax(axis=1)] = True
    return chosen


def set_of(names: Sequence[str], members: npt.ArrayLike) -> str:
    """A prediction set as text: class codes separated by commas."""
    return ",".join(name for name, inside in zip(names, np.asarray(members, dtype=bool), strict=True) if inside)


def parse_sets(texts: Sequence[Any], names: Sequence[str]) -> Bools:
    """(n, classes) from texts such as ``MEL,NEV``; codes that are no class are left out."""
    index = {name: k for k, name in enumerate(names)}
    inside = np.zeros((len(texts), len(names)), dtype=bool)
    for row, text in enumerate(texts):
        for part in str(text or "").split(","):
            if part.strip() in index:
                inside[row, index[part.strip()]] = True
    return inside
