"""Grey level co-occurrence: how often level i and level j are neighbours, at each of four angles.

Haralick et al. 1973, IEEE Transactions on Systems, Man, and Cybernetics 3(6), doi:10.1109/TSMC.1973.4309314;
Zwanenburg et al. 2020, doi:10.1148/radiol.2020191145. Equations as numbered by the PyRadiomics documentation of
``radiomics.glcm``: distance 1, symmetric, every feature per angle, then the mean over angles that have a pair.

    p(i, j)  share of the pairs with levels i and j; p_x(i) = sum_j p(i, j), which is also p_y
    p_+(k)   share with i + j = k;  p_-(k) share with |i - j| = k
    mu = sum_i i p_x(i);  HX, HXY, HXY1, HXY2 entropies in bits
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.compiled import kernel
from skinkit.radiomics.eigenvalues import second_largest_eigenvalue
from skinkit.radiomics.firstorder import EPSILON

if TYPE_CHECKING:
    from numpy.typing import NDArray

(
    AUTOCORRELATION,
    CLUSTER_PROMINENCE,
    CLUSTER_SHADE,
    CLUSTER_TENDENCY,
    CONTRAST,
    CORRELATION,
    DIFFERENCE_AVERAGE,
    DIFFERENCE_ENTROPY,
    DIFFERENCE_VARIANCE,
    ID,
    IDM,
    IDMN,
    IDN,
    IMC1,
    IMC2,
    INVERSE_VARIANCE,
    JOINT_AVERAGE,
    JOINT_ENERGY,
    JOINT_ENTROPY,
    MCC,
    MAXIMUM_PROBABILITY,
    SUM_AVERAGE,
    SUM_ENTROPY,
    SUM_SQUARES,
) = range(24)

ANGLES = ((0, 1), (1, 0), (1, 1), (1, -1))
"""(rows, columns) from a pixel to its neighbour; the opposite four are the same pairs, seen from the other end."""

_NEARLY_INDEPENDENT = 1e-5


@kernel
def count_pairs(plane: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """(4, K, K) ordered pairs of neighbours by angle and ranks.

    Args:
        plane: (h + 2, w + 2) ranks from 1, 0 outside the lesion and in the border.
        size: K, the number of ranks.
    """
    pairs = np.zeros((4, size, size), dtype=np.int64)
    for y in range(1, plane.shape[0] - 1):
        for x in range(1, plane.shape[1] - 1):
            if plane[y, x]:
                for angle, (dy, dx) in enumerate(ANGLES):
                    if plane[y + dy, x + dx]:
                        pairs[angle, plane[y, x] - 1, plane[y + dy, x + dx] - 1] += 1
    return pairs


@kernel
def features(pairs: NDArray[np.int64], values: NDArray[np.float64], f: NDArray[np.float64]) -> bool:
    """The 24 features, means over angles.

    Args:
        pairs: (4, K, K) ordered pairs.
        values: (K,) level of each rank, ascending.
        f: (24,) receives the features.

    Returns:
        Whether IMC 2 and MCC depend on rounding and must come from :func:`nearly_independent`.
    """
    size = len(values)
    by_angle = np.zeros((4, 24))
    angles, doubtful = 0, False
    p, px = np.empty((size, size)), np.empty(size)
    for angle in range(4):
        total = 2 * pairs[angle].sum()
        if total == 0:
            continue
        for i in range(size):
            px[i] = 0.0
            for j in range(size):
                p[i, j] = (pairs[angle, i, j] + pairs[angle, j, i]) / total
                px[i] += p[i, j]
        doubtful |= _of_angle(p, px, values, by_angle[angles])
        angles += 1
    f[:] = np.nan
    if angles:
        for k in range(24):
            f[k] = by_angle[:angles, k].sum() / angles
    if size == 1:
        f[MCC] = 1.0
    return doubtful and size > 1


@kernel
def _of_angle(
    p: NDArray[np.float64], px: NDArray[np.float64], values: NDArray[np.float64], f: NDArray[np.float64]
) -> bool:
    """Add the 24 features of one angle; whether its IMC 2 or MCC depends on rounding."""
    size, highest = len(values), int(values[-1])
    p_sum, p_difference = np.zeros(2 * highest + 1), np.zeros(highest)
    mu, variance, hx = 0.0, 0.0, 0.0
    for i in range(size):
        mu += values[i] * px[i]
        hx -= px[i] * np.log2(px[i] + EPSILON)
    for i in range(size):
        variance += (values[i] - mu) ** 2 * px[i]
    hxy, hxy1, hxy2, covariance = 0.0, 0.0, 0.0, 0.0
    for i in range(size):
        for j in range(size):
            li, lj, pij = values[i], values[j], p[i, j]
            log_independent = np.log2(px[i] * px[j] + EPSILON)
            hxy2 -= px[i] * px[j] * log_independent
            if pij == 0:
                continue
            p_sum[int(li + lj)] += pij
            p_difference[int(abs(li - lj))] += pij
            hxy -= pij * np.log2(pij + EPSILON)
            hxy1 -= pij * log_independent
            covariance += pij * (li - mu) * (lj - mu)
            f[AUTOCORRELATION] += pij * li * lj  # 1.  sum p i j
            f[CLUSTER_PROMINENCE] += pij * (li + lj - 2 * mu) ** 4  # 3.  sum (i + j - mu_x - mu_y)^4 p
            f[CLUSTER_SHADE] += pij * (li + lj - 2 * mu) ** 3  # 4.  ... ^3
            f[CLUSTER_TENDENCY] += pij * (li + lj - 2 * mu) ** 2  # 5.  ... ^2
            f[CONTRAST] += pij * (li - lj) ** 2  # 6.  sum (i - j)^2 p
            f[JOINT_ENERGY] += pij**2  # 11.  sum p^2
            f[MAXIMUM_PROBABILITY] = max(f[MAXIMUM_PROBABILITY], pij)  # 21.  max p
    f[JOINT_AVERAGE] = mu  # 2.  sum p i
    f[SUM_SQUARES] = variance  # 24.  sum (i - mu_x)^2 p
    f[CORRELATION] = covariance / (variance + EPSILON) if variance else 1.0  # 7.  sum (i - mu)(j - mu) p / sigma^2
    f[JOINT_ENTROPY] = hxy  # 12.  -sum p log2(p + eps)
    f[IMC1] = (hxy - hxy1) / hx if hx else 0.0  # 13.  (HXY - HXY1) / max(HX, HY)
    information = hxy2 - hxy
    f[IMC2] = np.sqrt(1 - np.exp(-2 * information)) if information else 0.0  # 14.  sqrt(1 - e^(-2 (HXY2 - HXY)))
    for k in range(highest):
        pk = p_difference[k]
        f[DIFFERENCE_AVERAGE] += k * pk  # 8.  sum k p_-
        f[DIFFERENCE_ENTROPY] -= pk * np.log2(pk + EPSILON)  # 9.  -sum p_- log2(p_- + eps)
        f[ID] += pk / (1 + k)  # 18.  sum p_- / (1 + k)
        f[IDM] += pk / (1 + k**2)  # 15.  sum p_- / (1 + k^2)
        f[IDMN] += pk / (1 + (k / highest) ** 2)  # 17.  sum p_- / (1 + (k / Ng)^2)
        f[IDN] += pk / (1 + k / highest)  # 19.  sum p_- / (1 + k / Ng)
        if k:
            f[INVERSE_VARIANCE] += pk / k**2  # 20.  sum over k > 0 of p_- / k^2
    for k in range(highest):
        f[DIFFERENCE_VARIANCE] += (k - f[DIFFERENCE_AVERAGE]) ** 2 * p_difference[k]  # 10.
    for k in range(2, 2 * highest + 1):
        f[SUM_AVERAGE] += k * p_sum[k]  # 22.  sum k p_+
        f[SUM_ENTROPY] -= p_sum[k] * np.log2(p_sum[k] + EPSILON)  # 23.  -sum p_+ log2(p_+ + eps)
    second = _second_eigenvalue(p, px)
    f[MCC] = np.sqrt(second)  # 16.  square root of the second largest eigenvalue of Q
    return information < _NEARLY_INDEPENDENT or not second > _NEARLY_INDEPENDENT


@kernel
def _second_eigenvalue(p: NDArray[np.float64], px: NDArray[np.float64]) -> float:
    """Of Q(i, j) = sum_k p(i, k) p(j, k) / (p_x(i) p_x(k) + eps), scaled by sqrt(p_x(i) / p_x(j)).

    The scaling keeps the eigenvalues and makes Q symmetric except for eps, hence well conditioned.
    """
    present = np.flatnonzero(px)
    size = len(present)
    q = np.zeros((size, size))
    for i in range(size):
        a = present[i]
        for j in range(size):
            b = present[j]
            for k in present:
                q[i, j] += p[a, k] * p[b, k] / (px[a] * px[k] + EPSILON)
            q[i, j] *= np.sqrt(px[a] / px[b])
    return second_largest_eigenvalue(q) if size > 1 else 0.0


def nearly_independent(pairs: NDArray[np.int64], f: NDArray[np.float64]) -> None:
    """IMC 2 and MCC where neighbours are nearly independent at some angle.

    There HXY2 - HXY and the second eigenvalue are zero except for rounding, whose sign decides between a number near 0
    and NaN, which leaves that angle out of the mean. The expressions below round as in PyRadiomics.

    Args:
        pairs: (4, K, K) ordered pairs, without the ranks that have no pixel.
        f: (24,) the features to correct.
    """
    p = np.moveaxis(pairs + pairs.transpose(0, 2, 1), 0, -1).astype(np.float64)
    p = np.ascontiguousarray(p[:, :, p.sum((0, 1)) > 0])[np.newaxis]  # (1, K, K, angles)
    p /= p.sum((1, 2))[:, np.newaxis, np.newaxis, :]
    px, py = p.sum(2, keepdims=True), p.sum(1, keepdims=True)
    hxy = -np.sum(p * np.log2(p + EPSILON), (1, 2))
    hxy2 = -np.sum((px * py) * np.log2(px * py + EPSILON), (1, 2))
    q = sum(
        (p[:, :, None, k, :] * p[:, None, :, k, :]) / (px[:, :, None, 0, :] * py[:, None, :, k, :] + EPSILON)
        for k in range(p.shape[1])
    )
    with np.errstate(invalid="ignore"):
        imc2 = np.where(hxy2 == hxy, 0.0, (1 - np.e ** (-2 * (hxy2 - hxy))) ** 0.5)
        eigenvalues = np.linalg.eigvals(np.asarray(q).transpose(0, 3, 1, 2))
        eigenvalues.sort()  # by real, then imaginary part
        mcc = np.sqrt(eigenvalues[:, :, -2])
    f[IMC2], f[MCC] = _mean_of_numbers(imc2), _mean_of_numbers(mcc)


def _mean_of_numbers(angles: NDArray[np.generic]) -> float:
    """The mean of the values that are not NaN; NaN without any."""
    numbers = angles[~np.isnan(angles)]
    return float(numbers.mean().real) if len(numbers) else float("nan")
