"""95 % intervals over patients: estimates and their leave-one-patient-out values in, lower and upper ends out.

Cases of one patient resemble each other, so patients are the sampling unit, never cases. An interval needs at least
``MINIMUM_PATIENTS`` of them: in the denominator of a proportion, on the rarer side of a ranking, in the rarest class of
an average over classes. With fewer there is no interval and no verdict (note ``too_few_patients``).

Method
------
* **Standard error**: the jackknife over patients (Quenouille 1956; with few clusters less biased downwards than the
  sandwich or bootstrap variance: MacKinnon, Nielsen & Webb, Journal of Applied Econometrics 2023). Above ``GROUPS``
  patients, random groups of them are left out (delete-a-group jackknife, Kott, Journal of Official Statistics 2001).
* **Degrees of freedom**: Satterthwaite's (Biometrics 1946), from the kurtosis of the patients' contributions. The
  variance of a sample variance of m values with excess kurtosis k is s^4 (2 / (m - 1) + k / m); a chi-square of
  2 / (2 / (m - 1) + k / m) degrees has it too. If few patients make up the standard error, because a class is rare,
  because a patient has many photos or because errors are few, the degrees are few and the interval is wide.
* **Bounded figures** (proportions, areas under curves, averages of them, Brier score, MCC): Wilson's score interval
  (JASA 1927) with Student's t instead of the normal quantile and with as many trials as give the standard error, as
  Korn & Graubard (Survey Methodology 1998) do for clustered proportions. For the AUROC: Newcombe, Statistics in
  Medicine 2006; Kottas, Kuss & Zapf, BMC Medical Research Methodology 2014.
* **At an end of the range** the standard error is 0: the exact binomial interval (Clopper & Pearson, Biometrika 1934)
  with Kish's effective number of patients as trials, (sum n)^2 / sum n^2 for patients with n cases.
* **Unbounded figures**: estimate +- t standard errors; positive ones on the log scale.
* **ECE** (a sum of absolute values that noise raises): inversion of a test, see :func:`ece_interval`.
* **Sensitivity at a fixed specificity**: the variation of the threshold joins that of the sensitivity, see
  :func:`fixed_rate_interval`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from skinkit.stats.distributions import student_quantile, student_tail
from skinkit.stats.metrics import ECE_BINS, LEVEL, ROUNDING, Bools, Floats, Ints, Ranking, once, ratio
from skinkit.stats.notes import MINIMUM_PATIENTS

GROUPS = 500
"""Most sets of patients that are left out in turn."""

NONE = (float("nan"), float("nan"))
FEWEST_ERRORS = 3
"""Fewest patients with an error behind the interval of an unbounded loss."""
UNSEEN = 0.25
"""How much of a patient like none that was seen, all right or all wrong, counts in the variance of a bounded figure."""
_TAIL = (1 + LEVEL) / 2
_CHUNK_CELLS = 4_000_000  # weights (times classes) held at once, 32 MB


# ------------------------------------------------------------------------------------------------ leaving one out


class LeaveOut:
    """Weights that leave out each patient in turn; above ``GROUPS`` patients, random groups of patients.

    Args:
        cluster: (n,) patient of each case, any sortable values.
        seed: of the draws and of the groups.
        draws: of noise, for :func:`ece_interval`; 0 leaves no patient out, and there are no intervals.
    """

    def __init__(self, cluster: npt.ArrayLike, seed: int = 0, *, draws: int = 1) -> None:
        self.names = np.unique(np.asarray(cluster))
        self.draws, self.seed = draws, seed
        m = len(self.names)
        self.group: Ints = np.random.default_rng(seed).permutation(m) % GROUPS if m > GROUPS else np.arange(m)
        self.groups = min(m, GROUPS) if draws else 0

    def weights(self, cluster: npt.ArrayLike, width: int = 1) -> Iterator[Floats]:
        """0 for the cases left out, 1 for the others: (some groups, cases) at a time.

        Args:
            cluster: (n,) patient of each case, among those of the constructor.
            width: numbers the caller makes of each weight; bounds the size of a chunk.
        """
        if not self.groups:
            return
        group = self.group[np.searchsorted(self.names, np.asarray(cluster))]
        step = max(1, _CHUNK_CELLS // max(len(group) * width, 1))
        for begin in range(0, self.groups, step):
            left_out = np.arange(begin, min(begin + step, self.groups))
            yield (group != left_out[:, None]).astype(np.float64)


def patients_of(cluster: npt.ArrayLike, *sides: Bools) -> int:
    """Patients with a case, or the fewest with a case on one of the sides (each (n,))."""
    names = np.asarray(cluster)
    return min((len(np.unique(names[side])) for side in sides), default=len(np.unique(names)))


def effective_patients(cluster: npt.ArrayLike, *sides: Bools) -> float:
    """Kish's effective number of patients, of the side with the fewest; that of patients if all have as many cases.

    Source: Kish, Survey Sampling, 1965.
    """
    names = np.asarray(cluster)
    sizes = [np.unique(names[side], return_counts=True)[1] for side in sides or (np.ones(len(names), dtype=bool),)]
    return min(float(n.sum() ** 2 / (n**2).sum()) if len(n) else 0.0 for n in sizes)


class Spread(NamedTuple):
    """Standard error and its degrees of freedom."""

    error: float
    degrees: float

    @property
    def quantile(self) -> float:
        """Student's t."""
        return student_quantile(_TAIL, self.degrees)

    def p_of(self, difference: float) -> float:
        """Two-sided p of this difference from 0, by Student's t."""
        return 2 * float(student_tail(abs(difference) / self.error, self.degrees))


def welch_degrees(variances: Sequence[float], spreads: Sequence[Spread]) -> float:
    """Degrees of freedom of a difference between independent figures.

    Args:
        variances: of every figure; larger than ``spreads`` say where a floor was set.
        spreads: with the degrees of freedom of every figure.

    Source: Welch, Biometrika 1947.
    """
    parts = sum(v**2 / s.degrees for v, s in zip(variances, spreads, strict=True))
    return sum(variances) ** 2 / max(parts, 1e-300)


def jackknife(estimate: float, left_out: npt.ArrayLike) -> Spread | None:
    """Standard error and degrees of freedom of a figure; None where it is undefined without one of the patients.

    Args:
        estimate: the figure.
        left_out: (groups,) the figure without each patient; equal to ``estimate`` where he does not contribute.
    """
    change = np.asarray(left_out, dtype=np.float64) - estimate
    if not len(change) or not np.isfinite(change).all():
        return None
    change = np.where(np.abs(change) < 1e-14, 0.0, change)
    m = int((change != 0).sum())
    if m < 2:
        return Spread(float(np.abs(change).max()), 1.0)
    change = change[change != 0]
    square = float((change**2).sum())
    # Excess kurtosis over m is this less 3 / m; a sample's may be negative by chance.
    excess = max(float((change**4).sum()) / square**2 - 3 / m, 0.0)
    return Spread(float(np.sqrt(square * (m - 1) / m)), max(2 / (2 / (m - 1) + excess), 1.0))


# ---------------------------------------------------------------------------------------------------- intervals


def exact_interval(share: float, trials: float) -> tuple[float, float]:
    """The exact 95 % binomial interval of 0 or all successes in some trials: 1 - (alpha/2)^(1/n) wide.

    Source: Clopper & Pearson, Biometrika 1934.
    """
    reach = 1 - (1 - _TAIL) ** (1 / max(trials, 1e-9))
    return (0.0, reach) if share < 0.5 else (1 - reach, 1.0)


def bounded_interval(
    estimate: float,
    left_out: npt.ArrayLike,
    patients: int,
    *,
    effective: float | None = None,
    cases: float = np.inf,
    lowest: float = 0.0,
    highest: float = 1.0,
) -> tuple[float, float]:
    """The interval of a figure with a lowest and a highest value; (NaN, NaN) for too few patients.

    Args:
        estimate: the figure.
        left_out: (groups,) the figure without each patient.
        patients: behind it, on the rarer side.
        effective: Kish's number of them, the trials at an end of the range; by default ``patients``.
        cases: what a proportion divides by; it counts as no more independent trials than these.
        lowest: end of the range.
        highest: end of the range.
    """
    spread = jackknife(estimate, left_out)
    if patients < MINIMUM_PATIENTS or spread is None or np.isnan(estimate):
        return NONE
    width = highest - lowest
    share = min(max((estimate - lowest) / width, 0.0), 1.0)
    few = float(patients if effective is None else effective)
    if share < ROUNDING or share > 1 - ROUNDING:
        lower, upper = exact_interval(share, few)
    else:
        most = share * (1 - share)
        variance = (spread.error / width) ** 2 + UNSEEN * most / few**2
        lower, upper = wilson_interval(share, min(most / variance, cases), spread.quantile)
    return lowest + width * lower, lowest + width * upper


def mean_interval(
    values: Floats, cluster: npt.ArrayLike, *, lowest: float = 0.0, highest: float = 1.0
) -> dict[str, float]:
    """``estimate``, the mean over cases of a figure with a lowest and a highest value, and its ``lower`` and ``upper``.

    Args:
        values: (n,) of each case.
        cluster: (n,) patient of each case.
        lowest: end of the range.
        highest: end of the range.
    """
    mean = float((once(len(values)) @ values)[0] / len(values))
    _, left_out = ratios_left_out(values, np.ones(len(values)), cluster)
    effective = effective_patients(cluster)
    ends = bounded_interval(mean, left_out, patients_of(cluster), effective=effective, lowest=lowest, highest=highest)
    return {"estimate": mean, "lower": ends[0], "upper": ends[1]}


def bounded_p(estimate: float, left_out: npt.ArrayLike, effective: float, null: float = 0.5) -> float:
    """Two-sided p value of a figure between 0 and 1 against ``null``, by the standard error of its interval.

    Args:
        estimate: the figure.
        left_out: (groups,) the figure without each patient.
        effective: Kish's number of patients of the rarer side; at 0 and 1 all of them agree by chance.
        null: the figure if nothing were there.
    """
    spread = jackknife(estimate, left_out)
    if spread is None or np.isnan(estimate):
        return float("nan")
    if estimate < ROUNDING or estimate > 1 - ROUNDING:
        return float(min(1.0, 2 * (1 - null if estimate < 0.5 else null) ** effective))
    error = np.sqrt(spread.error**2 + UNSEEN * estimate * (1 - estimate) / effective**2)
    return Spread(error, spread.degrees).p_of(estimate - null)


def wilson_interval(share: float, trials: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a share.

    Args:
        share: 0 to 1.
        trials: how many.
        quantile: of the normal distribution or Student's t.
    """
    z2 = quantile**2 / trials
    middle = (share + z2 / 2) / (1 + z2)
    reach = quantile * float(np.sqrt(share * (1 - share) / trials + z2 / (4 * trials))) / (1 + z2)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def proportion_interval(right: Bools, of: Bools, cluster: npt.ArrayLike) -> tuple[float, float]:
    """The interval of the share of the cases ``of`` that are ``right``: (n,) each."""
    names, index = np.unique(np.asarray(cluster)[of], return_inverse=True)
    if len(names) < MINIMUM_PATIENTS:
        return NONE
    hits, n = np.bincount(index, right[of], len(names)), np.bincount(index, minlength=len(names))
    left_out = (hits.sum() - hits) / (n.sum() - n)
    effective = float(n.sum() ** 2 / (n**2).sum())
    return bounded_interval(
        float(hits.sum() / n.sum()), left_out, len(names), effective=effective, cases=float(n.sum())
    )


def unbounded_interval(estimate: float, left_out: npt.ArrayLike, patients: int) -> tuple[float, float]:
    """Estimate +- t standard errors; (NaN, NaN) for too few patients.

    Args:
        estimate: the figure.
        left_out: (groups,) the figure without each patient.
        patients: behind it, on the rarer side.
    """
    spread = jackknife(estimate, left_out)
    if patients < MINIMUM_PATIENTS or spread is None or np.isnan(estimate):
        return NONE
    reach = spread.quantile * spread.error
    return estimate - reach, estimate + reach


def positive_interval(estimate: float, left_out: npt.ArrayLike, patients: int) -> tuple[float, float]:
    """The interval of a positive figure such as the log loss, on the log scale."""
    values = np.asarray(left_out, dtype=np.float64)
    if not estimate > 0 or not (values > 0).all():
        return unbounded_interval(estimate, values, patients)
    lower, upper = unbounded_interval(float(np.log(estimate)), np.log(values), patients)
    return float(np.exp(lower)), float(np.exp(upper))


class DifferenceInterval(NamedTuple):
    """Interval of a difference and its two-sided p value."""

    lower: float
    upper: float
    p: float


def independent_difference(
    a: float, a_left_out: npt.ArrayLike, b: float, b_left_out: npt.ArrayLike, patients: int
) -> DifferenceInterval:
    """A - b, shares of different patients, by Student's t with Welch's degrees of freedom.

    Args:
        a: of one side.
        a_left_out: (groups,) without each patient.
        b: of the other.
        b_left_out: (groups,) without each patient.
        patients: behind the figures, of the side with fewer.
    """
    spreads = [jackknife(a, a_left_out), jackknife(b, b_left_out)]
    if patients < MINIMUM_PATIENTS or None in spreads or np.isnan(a - b):
        return DifferenceInterval(*NONE, float("nan"))
    known = [spread for spread in spreads if spread is not None]
    # A share that no patient contradicts is not certain: the variance after half a patient of either kind more.
    parts = [
        spread.error**2 + UNSEEN * (share + 0.5 / patients) * (1 - share + 0.5 / patients) / patients**2
        for share, spread in zip((a, b), known, strict=True)
    ]
    difference = Spread(float(np.sqrt(sum(parts))), welch_degrees(parts, known))
    reach = difference.quantile * difference.error
    return DifferenceInterval(max(a - b - reach, -1.0), min(a - b + reach, 1.0), difference.p_of(a - b))


# ----------------------------------------------------------------------------------------------------------- ECE


def ece_interval(
    confidence: Floats, correct: Floats, cluster: npt.ArrayLike, *, draws: int, seed: int = 0, bins: int = ECE_BINS
) -> tuple[float, float]:
    """The interval of the expected calibration error; (NaN, NaN) for too few patients.

    The ECE is a sum of absolute gaps, and noise in the gaps raises it, so it does not scatter about the truth. The
    interval holds every true ECE for which the estimate is not in the outer 5 % of what would be seen. True gaps are
    taken as multiples of the estimated ones; for the lower end these are shrunken by their noise (positive-part
    James-Stein), as it would be taken for signal. Noise is drawn as the residuals of clustered binary outcomes have it.
    The variance of an outcome is that of its probability, recalibrated within the bin, because a bin of a few cases
    says nothing about its own variance; one correlation holds for all pairs of cases of a patient.

    Args:
        confidence: (n,) probability of what was predicted.
        correct: (n,) whether that was true, 0 or 1.
        cluster: (n,) patient of each case.
        draws: of the noise.
        seed: of the draws.
        bins: of equal width.

    Source: test inversion, Davison & Hinkley, Bootstrap Methods and their Application, 1997, ch. 4 and section 5.6;
    bias of the ECE: Broecker, Climate Dynamics 2012.
    """
    names, index = np.unique(np.asarray(cluster), return_inverse=True)
    m, n = len(names), len(confidence)
    if m < MINIMUM_PATIENTS or not draws:
        return NONE
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    member = np.eye(bins)[place]
    gap = member.T @ (correct - confidence) / n
    inside = member.sum(axis=0)
    # One case more than were seen, as stated: a bin of one case does not estimate its share.
    share = (member.T @ correct + member.T @ confidence / np.maximum(inside, 1)) / (inside + 1)
    expected = share[place]
    variance = expected * (1 - expected)
    within = _within_patients(correct - expected, np.sqrt(variance), index)
    roots = np.zeros((m, bins))
    np.add.at(roots, (index, place), np.sqrt(variance))
    covariance = (within * roots.T @ roots + (1 - within) * np.diag(member.T @ variance)) / n**2
    # The gaps' sum, each with its sign, varies at least as much as it does between the patients.
    signs, changes = np.sign(gap), np.zeros((m, bins))
    np.add.at(changes, (index, place), correct - confidence)
    size = np.bincount(index, minlength=m)
    spread = jackknife(0.0, (changes - size[:, None] * gap) @ signs / (n - size))
    assert spread is not None
    covariance *= max(1.0, spread.error**2 / max(float(signs @ covariance @ signs), 1e-300))
    noisy = np.diag(covariance)
    observed = float(np.abs(gap).sum())
    generator = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(covariance)
    noise = generator.standard_normal((draws, bins)) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    noise *= np.sqrt(spread.degrees / generator.chisquare(spread.degrees, draws))[:, None]
    shrunken = gap * np.maximum(1 - noisy / np.maximum(gap**2, 1e-300), 0)
    total = float(np.abs(shrunken).sum())
    as_seen = gap / max(observed, 1e-300)
    way = shrunken / total if total > 0 else as_seen

    def seen(true: float, way: Floats, quantile: float) -> float:
        return float(np.quantile(np.abs(true * way + noise).sum(axis=1), quantile))

    # No ECE is below the gap on the whole, whose outcomes may be such as were not seen.
    ends = proportion_interval(correct > 0, np.ones(n, dtype=bool), cluster)
    apart = max(abs(end - float(confidence.mean())) for end in ends)
    return (
        _largest_below(lambda x: seen(x, way, _TAIL), observed),
        max(_largest_below(lambda x: seen(x, as_seen, 1 - _TAIL), observed), apart),
    )


def _within_patients(residual: Floats, scale: Floats, index: Ints) -> float:
    """Correlation of residuals over pairs of cases of one patient, 0 to 1; of a few pairs, towards 1 by one pair."""
    products = np.bincount(index, residual) ** 2 - np.bincount(index, residual**2)
    largest = np.bincount(index, scale) ** 2 - np.bincount(index, scale**2)
    most = float(largest.sum())
    return float(np.clip(products.sum() / most, 0, 1)) if most > 1e-12 else 0.0


def _largest_below(rising: Any, value: float) -> float:
    """Where a rising function on 0 to 1 reaches a value; 0 or 1 where it is above or below it throughout."""
    low, high = 0.0, 1.0
    if rising(low) >= value:
        return low
    if rising(high) <= value:
        return high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2


# ------------------------------------------------------------------------------------------------------ mean losses


def loss_interval(
    usual: tuple[float, float], loss: Floats, wrong: Bools, cluster: npt.ArrayLike, largest: float | None
) -> tuple[float, float]:
    """The interval of a mean loss, raised where errors are so rare that the loss depends on them.

    The mean is that of right answers plus the share of errors times what an error costs more. Its upper end is not
    below that of the upper end of the share of errors.

    Args:
        usual: the interval of the mean.
        loss: (n,) of each case.
        wrong: (n,) whether the answer was wrong.
        cluster: (n,) patient of each case.
        largest: loss possible; None if unbounded: without errors of ``FEWEST_ERRORS`` patients there is no interval.
    """
    erring = patients_of(cluster, wrong)
    if np.isnan(usual[0]) or (largest is None and erring < FEWEST_ERRORS):
        return NONE
    most = proportion_interval(wrong, np.ones(len(wrong), dtype=bool), cluster)[1]
    costs = [float(loss[wrong].sum()), float(wrong.sum())]
    if largest is not None:
        costs = [costs[0] + largest, costs[1] + 1]
    right = float(loss[~wrong].mean()) if not wrong.all() else 0.0
    return usual[0], max(usual[1], right + most * (costs[0] / costs[1] - right))


# ------------------------------------------------------------------------------------------------- fixed specificity


def fixed_rate_interval(
    score: npt.ArrayLike, positive: Bools, cluster: npt.ArrayLike, share: float
) -> tuple[float, float]:
    """The interval of the best sensitivity at a specificity of at least ``share``.

    (NaN, NaN) for too few patients, and where the threshold lies above all negatives: no case bounds how much higher it
    would have to be in the population. The threshold is chosen on the same cases, so its true specificity is uncertain
    too. The sensitivities at both ends of that uncertainty and the interval at the chosen threshold are put together as
    two independent sources of error. For the specificity at a fixed sensitivity, negate the scores and exchange sides.

    Args:
        score: (n,) higher means more likely positive.
        positive: (n,) truth.
        cluster: (n,) patient of each case.
        share: the specificity.

    Source: Linnet, Statistics in Medicine 1987 (threshold and sensitivity); Zou & Donner, Statistics in Medicine 2008
    (putting intervals together).
    """
    values, truth = np.asarray(score, dtype=np.float64), np.asarray(positive, dtype=bool)
    if not truth.any() or truth.all() or patients_of(cluster, truth, ~truth) < MINIMUM_PATIENTS:
        return NONE
    ranking = Ranking(values, truth)
    positives, negatives = (side[0] for side in ranking.counts(once(len(values))))
    hits = np.r_[0.0, np.cumsum(positives)] / truth.sum()
    alarms = np.r_[0.0, np.cumsum(negatives)] / (~truth).sum()
    threshold = np.r_[np.inf, ranking.threshold]

    def at(rate: float) -> int:
        return int(np.flatnonzero(alarms <= 1 - rate + ROUNDING)[-1])

    chosen = at(share)
    called = values >= threshold[chosen]
    if called[~truth].sum() == 0:
        return NONE
    low, high = proportion_interval(~called, ~truth, cluster)
    if share < low or share > high:
        low, high = min(low, share), max(high, share)
    lower, upper = proportion_interval(called, truth, cluster)
    best = float(hits[chosen])
    down, up = best - float(hits[at(high)]), float(hits[at(low)]) - best
    return (
        max(best - float(np.hypot(best - lower, down)), 0.0),
        min(best + float(np.hypot(upper - best, up)), 1.0),
    )


def ratios_left_out(above: Floats, below: Floats, cluster: npt.ArrayLike) -> tuple[float, Floats]:
    """A ratio of sums over cases, and its value without each patient: (patients,).

    Args:
        above: (n,) addends of the numerator.
        below: (n,) addends of the denominator.
        cluster: (n,) patient of each case.
    """
    _, index = np.unique(np.asarray(cluster), return_inverse=True)
    a, b = np.bincount(index, above), np.bincount(index, below)
    return float(ratio(a.sum(keepdims=True), b.sum(keepdims=True))[0]), ratio(a.sum() - a, b.sum() - b)
