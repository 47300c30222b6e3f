"""Tails and quantiles of Student's t and the normal distribution, and ranks: what ``scipy.stats`` says, to the bit.

``scipy.stats`` takes longer to load than most commands to run; these come from ``scipy.special`` alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def student_tail(t: npt.ArrayLike, degrees: npt.ArrayLike) -> Any:
    """P(T > t) of Student's t; NaN where ``degrees`` is not above 0. A number of numbers, an array of arrays."""
    from scipy.special import stdtr

    return stdtr(np.asarray(degrees, dtype=np.float64), -np.asarray(t, dtype=np.float64))


def student_quantile(p: float, degrees: float) -> float:
    """The t that Student's t with these degrees of freedom stays below with probability ``p``."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, p))


def normal_tail(z: npt.ArrayLike) -> Any:
    """P(Z > z) of the standard normal distribution. A number of numbers, an array of arrays."""
    from scipy.special import ndtr

    return ndtr(-np.asarray(z, dtype=np.float64))


def normal_quantile(p: float) -> float:
    """The z that the standard normal distribution stays below with probability ``p``."""
    from scipy.special import ndtri

    return float(ndtri(p))


def ranks(values: npt.ArrayLike) -> Floats:
    """(n,) ranks from 1; equal values share their mean rank. ``values`` (n,) hold no NaN."""
    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    mean: Floats = np.cumsum(count) - (count - 1) / 2
    return mean[place]
