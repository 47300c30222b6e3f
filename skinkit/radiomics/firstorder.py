"""First-order statistics: the distribution of the grey levels X(1..Np) in the lesion, independent of position.

Zwanenburg et al. 2020, Radiology 295(2), doi:10.1148/radiol.2020191145, section "intensity-based statistics"; equations
as numbered by the PyRadiomics documentation of ``radiomics.firstorder``. Kurtosis is not the excess: 3 for a normal
distribution, IBSI's value + 3.

8-bit images go through their histogram, from which every feature follows exactly; other images through NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

(
    PERCENTILE_10,
    PERCENTILE_90,
    ENERGY,
    ENTROPY,
    INTERQUARTILE_RANGE,
    KURTOSIS,
    MAXIMUM,
    MEAN_ABSOLUTE_DEVIATION,
    MEAN,
    MEDIAN,
    MINIMUM,
    RANGE,
    ROBUST_MEAN_ABSOLUTE_DEVIATION,
    ROOT_MEAN_SQUARED,
    SKEWNESS,
    TOTAL_ENERGY,
    UNIFORMITY,
    VARIANCE,
) = range(18)

EPSILON = float(np.spacing(1.0))
"""Added inside every logarithm, 2.2e-16; only noticeable for rare levels."""


@kernel
def from_histogram(histogram: NDArray[np.int64], levels: NDArray[np.int64], f: NDArray[np.float64]) -> None:
    """The 18 features of an 8-bit lesion.

    Args:
        histogram: (256,) pixels of each grey value v.
        levels: (256,) discretised level of each grey value; 0 below the minimum, non-decreasing.
        f: (18,) receives the features.
    """
    count, total, energy = 0, 0, 0
    minimum, maximum = -1, -1
    for v in range(256):
        if histogram[v]:
            minimum = v if minimum < 0 else minimum
            maximum = v
            count += histogram[v]
            total += histogram[v] * v
            energy += histogram[v] * v * v
    mean = total / count
    f[MINIMUM], f[MAXIMUM], f[RANGE] = minimum, maximum, maximum - minimum
    f[MEAN] = mean  # 8.  1/Np sum X
    f[ENERGY] = energy  # 1.  sum X^2
    f[TOTAL_ENERGY] = energy  # 2.  the same, as a pixel has area 1
    f[ROOT_MEAN_SQUARED] = np.sqrt(energy / count)  # 14.  sqrt(1/Np sum X^2)

    second, third, fourth, deviation = 0.0, 0.0, 0.0, 0.0  # central moments mu_2, mu_3, mu_4 and mean |X - mean|
    for v in range(minimum, maximum + 1):
        d = v - mean
        second += histogram[v] * d**2
        third += histogram[v] * d**3
        fourth += histogram[v] * d**4
        deviation += histogram[v] * abs(d)
    second, third, fourth = second / count, third / count, fourth / count
    f[VARIANCE] = second  # 18.
    f[MEAN_ABSOLUTE_DEVIATION] = deviation / count  # 12.
    flat = minimum == maximum
    f[SKEWNESS] = 0.0 if flat else third / second**1.5  # 16.  mu_3 / sigma^3
    f[KURTOSIS] = 0.0 if flat else fourth / second**2  # 17.  mu_4 / sigma^4

    p10, p90 = _percentile(histogram, count, 0.10), _percentile(histogram, count, 0.90)
    f[PERCENTILE_10], f[PERCENTILE_90] = p10, p90  # 5., 6.
    f[INTERQUARTILE_RANGE] = _percentile(histogram, count, 0.75) - _percentile(histogram, count, 0.25)  # 10.
    low, high = _ranked(histogram, (count - 1) // 2), _ranked(histogram, count // 2)
    f[MEDIAN] = (low + high) / 2  # 9.

    inner, inner_total = 0, 0  # 13.  mean absolute deviation of the pixels within [P10, P90]
    for v in range(minimum, maximum + 1):
        if p10 <= v <= p90:
            inner += histogram[v]
            inner_total += histogram[v] * v
    robust = 0.0
    for v in range(minimum, maximum + 1):
        if p10 <= v <= p90:
            robust += histogram[v] * abs(v - inner_total / inner)
    f[ROBUST_MEAN_ABSOLUTE_DEVIATION] = robust / inner  # 0 / 0 = NaN: no pixel within

    entropy, uniformity, v = 0.0, 0.0, minimum
    while v <= maximum:  # one round per level
        level, members = levels[v], 0
        while v <= maximum and levels[v] == level:
            members += histogram[v]
            v += 1
        p = members / count
        entropy -= p * np.log2(p + EPSILON)  # 3.  -sum p log2(p + eps)
        uniformity += p * p  # 19.  sum p^2
    f[ENTROPY], f[UNIFORMITY] = entropy, uniformity


@kernel
def _ranked(histogram: NDArray[np.int64], rank: int) -> int:
    """The pixel of this rank, counted from 0 in ascending order."""
    below, v = histogram[0], 0
    while below <= rank:
        v += 1
        below += histogram[v]
    return v


@kernel
def _percentile(histogram: NDArray[np.int64], count: int, q: float) -> float:
    """Linear interpolation between the two closest ranks, rounded as NumPy rounds it (Hyndman and Fan 1996, type 7)."""
    place = (count - 1) * q
    rank = int(np.floor(place))
    t = place - rank
    low, high = _ranked(histogram, rank), _ranked(histogram, min(rank + 1, count - 1))
    return low + (high - low) * t if t < 0.5 else high - (high - low) * (1 - t)


def from_values(x: NDArray[np.float64], members: NDArray[np.int64]) -> NDArray[np.float64]:
    """The 18 features of a lesion of any real grey values.

    Args:
        x: (Np,) grey values of the lesion.
        members: pixels of each discretised level.
    """
    f = np.empty(18)
    p = members / members.sum()
    p10, p25, p75, p90 = np.percentile(x, (10, 25, 75, 90))
    mean = x.mean()
    f[PERCENTILE_10], f[PERCENTILE_90], f[INTERQUARTILE_RANGE] = p10, p90, p75 - p25
    f[MINIMUM], f[MAXIMUM], f[RANGE] = x.min(), x.max(), x.max() - x.min()
    f[MEAN], f[MEDIAN] = mean, np.median(x)
    f[ENERGY] = f[TOTAL_ENERGY] = (x**2).sum()
    f[ROOT_MEAN_SQUARED] = np.sqrt(f[ENERGY] / len(x))
    f[ENTROPY], f[UNIFORMITY] = -(p * np.log2(p + EPSILON)).sum(), (p**2).sum()
    f[MEAN_ABSOLUTE_DEVIATION] = np.abs(x - mean).mean()
    inner = x[(x >= p10) & (x <= p90)]
    f[ROBUST_MEAN_ABSOLUTE_DEVIATION] = np.abs(inner - inner.mean()).mean() if len(inner) else np.nan
    f[VARIANCE] = x.std() ** 2
    second, third, fourth = ((x - mean) ** 2).mean(), ((x - mean) ** 3).mean(), ((x - mean) ** 4).mean()
    f[SKEWNESS], f[KURTOSIS] = (third / second**1.5, fourth / second**2) if second else (0.0, 0.0)
    return f
