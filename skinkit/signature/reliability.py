"""How far a feature depends on who drew the outline: the intraclass correlation of its values over the same lesions.

ICC(2,1) of Shrout & Fleiss, which is ICC(A,1) of McGraw & Wong: lesions and outlines are both samples, one outline is
used in practice, and a systematic shift between outlines counts as disagreement. With n lesions, k outlines, and the
mean squares of rows (lesions) MSR, columns (outlines) MSC and error MSE:

    (1) ICC = (MSR - MSE) / (MSR + (k - 1) MSE + k/n (MSC - MSE))

Sources: Shrout & Fleiss, Psychological Bulletin 86, 1979; McGraw & Wong, Psychological Methods 1, 1996, table 4. Below
0.5 poor, from 0.75 good, from 0.9 excellent: Koo & Li, Journal of Chiropractic Medicine 15, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.stats.intervals import NONE, LeaveOut, bounded_interval, effective_patients, patients_of
from skinkit.stats.metrics import Floats, once

GOOD = 0.75


def icc(ratings: npt.ArrayLike) -> float:
    """Eq. 1.

    Args:
        ratings: (n, k) of n lesions under k outlines, all known.
    """
    x = np.asarray(ratings, dtype=np.float64)
    return float(_icc(x, once(len(x)))[0])


def _icc(x: Floats, weights: Floats) -> Floats:
    """(replicates,) eq. 1 where lesions count as often as ``weights``, (replicates, n), say; NaN without variance."""
    x = x - x.mean()  # sums of squares of values far from 0 would lose their digits
    scale = np.abs(x).max(initial=0.0)
    x = x / scale if scale else x
    k = x.shape[1]
    n = weights.sum(axis=1)
    rows = x.mean(axis=1)
    mean = weights @ rows / n
    ss_rows = k * (weights @ rows**2 - n * mean**2)
    ss_columns = n * ((weights @ x / n[:, None] - mean[:, None]) ** 2).sum(axis=1)
    ss_total = weights @ (x**2).sum(axis=1) - n * k * mean**2
    msr, msc = ss_rows / (n - 1), ss_columns / (k - 1)
    mse = (ss_total - ss_rows - ss_columns) / ((n - 1) * (k - 1))
    under = msr + (k - 1) * mse + k / n * (msc - mse)
    out: Floats = np.full(len(n), np.nan)
    np.divide(msr - mse, under, out=out, where=under > 1e-12)
    return out


def reliability(
    tables: Sequence[pd.DataFrame],
    features: Sequence[str],
    cluster: npt.ArrayLike,
    *,
    seed: int = 0,
    good: float = GOOD,
) -> pd.DataFrame:
    """The ICC of every feature with its 95 % interval over patients; NaN for too few of them.

    Args:
        tables: the features under each outline, rows of the same lesions in the same order.
        features: their names.
        cluster: (n,) patient of each lesion.
        seed: of the groups of many patients.
        good: an ICC below it is flagged.

    Returns:
        Rows of ``feature``, ``n`` (lesions where all outlines have it), ``icc``, ``lower``, ``upper``, ``flagged``.
    """
    values = np.stack([table[list(features)].to_numpy(dtype=np.float64) for table in tables], axis=1)  # (n, k, f)
    patients = np.asarray(cluster)
    rows = []
    for column, name in enumerate(features):
        x = values[:, :, column]
        complete = np.isfinite(x).all(axis=1)
        estimate, ends = float("nan"), NONE
        if complete.sum() > 1:
            of, estimate = patients[complete], icc(x[complete])
            left_out = [_icc(x[complete], weights) for weights in LeaveOut(of, seed).weights(of)]
            ends = bounded_interval(
                estimate,
                np.concatenate(left_out) if left_out else np.zeros(0),
                patients_of(of),
                effective=effective_patients(of),
                lowest=-1.0,
            )
        lower, upper = ends
        rows.append(
            {
                "feature": name,
                "n": int(complete.sum()),
                "icc": estimate,
                "lower": lower,
                "upper": upper,
                "flagged": not estimate >= good,
            }
        )
    return pd.DataFrame(rows)
