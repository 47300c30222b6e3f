"""Two figures of the same patients: their difference with its interval, and whether it lies within a margin.

    (1) SE and v: jackknife standard error of the difference over patients, and its degrees of freedom
        (``stats.intervals.jackknife``)
    (2) interval: difference +- t(v) SE, with Student's quantile at 97.5 %
    (3) p = 2 P(T(v) > |difference| / SE)

There is none of them with fewer than ``MINIMUM_PATIENTS`` patients m behind the figure, on the rarer side of it where
there are two. p is below 0.05 exactly where the
interval leaves out 0. With a margin, B is *not inferior* to A where the whole interval lies above -margin (on a scale
where more is better), and *equivalent* where it lies within +-margin: two one-sided tests at 2.5 % each.

A difference that is 0 whichever patient is left out has no SE. Where it is a share of cases, no case separates the
models, and the interval is what the exact binomial one allows for the share of patients that would: (4) +-(1 -
0.025^(1/m)). For other figures there is none, nor where another difference does not depend on the patients.

Sources: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 11 and 12; Schuirmann, Journal of
Pharmacokinetics and Biopharmaceutics 1987 (two one-sided tests); ICH E9, section 3.3.2 (both by the two-sided 95 %
interval).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skinkit.stats.distributions import student_quantile, student_tail
from skinkit.stats.intervals import Spread, exact_interval, jackknife
from skinkit.stats.metrics import LEVEL, ROUNDING, Floats
from skinkit.stats.notes import MINIMUM_PATIENTS


@dataclass(frozen=True)
class PairedDifference:
    """A difference of two figures of the same patients.

    Attributes:
        estimate: the difference.
        se: eq. 1; 0 where no patient makes a difference, NaN where there is none.
        lower: of eq. 2 or 4; NaN where there is no interval.
        upper: of the same.
        p: eq. 3; 1 where no patient makes a difference, NaN where there is none.
        clusters: m.
        degrees: v.
    """

    estimate: float
    se: float
    lower: float
    upper: float
    p: float
    clusters: int
    degrees: float

    @property
    def same_for_every_patient(self) -> bool:
        """Whether the difference is 0 whichever patient is left out."""
        return self.se == 0

    def p_above(self, bound: float) -> float:
        """One-sided p of a difference no larger than ``bound``; NaN where there is no test."""
        if math.isnan(self.lower):
            return math.nan
        if not self.se:  # eq. 4: the exact chance that m patients show no difference
            reach = self.estimate - bound
            return float((1 - reach) ** self.clusters) if 0 < reach < 1 else float(reach <= 0)
        return float(student_tail((self.estimate - bound) / self.se, self.degrees))


def paired_difference(
    difference: float, left_out: npt.ArrayLike, clusters: int, *, share: bool = False, unseen: float = 0.0
) -> PairedDifference:
    """Eqs. 1 to 4.

    Args:
        difference: the estimate.
        left_out: (groups,) the difference without each patient, of both figures.
        clusters: m.
        share: whether the figures are shares of cases.
        unseen: variance added for a patient like none that was seen.
    """
    values: Floats = np.asarray(left_out, dtype=np.float64)
    spread = jackknife(difference, values)
    if len(values) and np.abs(np.r_[values, difference]).max() < ROUNDING:
        enough = clusters >= MINIMUM_PATIENTS
        reach = exact_interval(0.0, clusters)[1] if share and enough else math.nan
        se, p = (0.0, 1.0) if enough else (math.nan, math.nan)
        return PairedDifference(0.0, se, -reach, reach, p, clusters, 1.0)
    if spread is None or clusters < MINIMUM_PATIENTS or not spread.error > ROUNDING:
        return PairedDifference(difference, *(math.nan,) * 4, clusters, math.nan)
    se = math.sqrt(spread.error**2 + unseen)
    far = student_quantile((1 + LEVEL) / 2, spread.degrees) * se
    p = Spread(se, spread.degrees).p_of(difference)
    return PairedDifference(difference, se, difference - far, difference + far, p, clusters, spread.degrees)


def sign_flip_p(net: npt.ArrayLike) -> float:
    """Exact two-sided p that two answers are right equally often, with patients as clusters.

    Under the null hypothesis either sign of a patient's net count is as likely; the p value is the share of all sign
    assignments with a sum as far from 0. With one case a patient it is McNemar's exact test.

    Args:
        net: (patients,) cases that one answer alone has right minus those that the other alone has right.

    Source: Fisher, The Design of Experiments, 1935, section 21; for clustered pairs Durkalski et al., Statistics in
    Medicine 2003.
    """
    from scipy.stats import binom

    counts = np.asarray(net, dtype=np.int64)
    sizes, patients = np.unique(np.abs(counts[counts != 0]), return_counts=True)
    chance: Floats = np.ones(1)  # of every sum, from the lowest
    for size, n in zip(sizes.tolist(), patients.tolist(), strict=True):
        of_size = np.zeros(2 * size * n + 1)
        of_size[:: 2 * size] = binom.pmf(np.arange(n + 1), n, 0.5)
        chance = np.convolve(chance, of_size)
    sums = np.arange(len(chance)) - len(chance) // 2
    return float(min(1.0, chance[np.abs(sums) >= abs(int(counts.sum()))].sum()))
