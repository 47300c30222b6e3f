"""Grey level run lengths: how many runs of j pixels of level i lie along each of four angles.

Galloway 1975, Computer Graphics and Image Processing 4(2), doi:10.1016/S0146-664X(75)80008-6; Chu et al. 1990,
doi:10.1016/0167-8655(90)90112-F. Equations as numbered by the PyRadiomics documentation of ``radiomics.glrlm``: every
feature per angle, then the mean over angles.

    P(i, j)  runs of level i and length j; Nr their number, p = P / Nr;  Np pixels
    An angle counts only when one of its lines holds two pixels of the lesion, adjacent or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.compiled import kernel
from skinkit.radiomics.firstorder import EPSILON
from skinkit.radiomics.glcm import ANGLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

(
    GRAY_LEVEL_NON_UNIFORMITY,
    GRAY_LEVEL_NON_UNIFORMITY_NORMALIZED,
    GRAY_LEVEL_VARIANCE,
    HIGH_GRAY_LEVEL_RUN_EMPHASIS,
    LONG_RUN_EMPHASIS,
    LONG_RUN_HIGH_GRAY_LEVEL_EMPHASIS,
    LONG_RUN_LOW_GRAY_LEVEL_EMPHASIS,
    LOW_GRAY_LEVEL_RUN_EMPHASIS,
    RUN_ENTROPY,
    RUN_LENGTH_NON_UNIFORMITY,
    RUN_LENGTH_NON_UNIFORMITY_NORMALIZED,
    RUN_PERCENTAGE,
    RUN_VARIANCE,
    SHORT_RUN_EMPHASIS,
    SHORT_RUN_HIGH_GRAY_LEVEL_EMPHASIS,
    SHORT_RUN_LOW_GRAY_LEVEL_EMPHASIS,
) = range(16)


@kernel
def count_runs(plane: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """(4, K, longest) runs by angle, rank and length - 1.

    Args:
        plane: (h + 2, w + 2) ranks from 1, 0 outside the lesion and in the border.
        size: K, the number of ranks.
    """
    runs = np.zeros((4, size, max(plane.shape)), dtype=np.int64)
    for y in range(1, plane.shape[0] - 1):
        for x in range(1, plane.shape[1] - 1):
            rank = plane[y, x]
            if rank == 0:
                continue
            for angle, (dy, dx) in enumerate(ANGLES):
                if plane[y - dy, x - dx] == rank:
                    continue  # the run began before this pixel
                length = 1
                while plane[y + length * dy, x + length * dx] == rank:
                    length += 1
                runs[angle, rank - 1, length - 1] += 1
    return runs


@kernel
def angles_that_count(runs: NDArray[np.int64], plane: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(4,) whether any line along each angle holds two pixels of the lesion, adjacent or not.

    Args:
        runs: (4, K, L) runs by angle, rank and length - 1.
        plane: (h + 2, w + 2) 0 outside the lesion and in the border.
    """
    height, width = plane.shape
    counted = np.zeros(4, dtype=np.bool_)
    for angle, (dy, dx) in enumerate(ANGLES):
        if runs[angle, :, 1:].any():
            counted[angle] = True
            continue
        held = np.zeros(2 * height + width, dtype=np.int64)
        for y in range(height):
            for x in range(width):
                if plane[y, x]:
                    line = height + dy * x - dx * y  # the same for every pixel of a line
                    held[line] += 1
                    counted[angle] |= held[line] == 2
    return counted


@kernel
def features(
    runs: NDArray[np.int64], counted: NDArray[np.bool_], values: NDArray[np.float64], f: NDArray[np.float64]
) -> None:
    """The 16 features, means over the angles that count.

    Args:
        runs: (4, K, L) runs by angle, rank and length - 1.
        counted: (4,) which angles count, as :func:`angles_that_count` says.
        values: (K,) level of each rank.
        f: (16,) receives the features.
    """
    f[:] = 0.0
    for angle in range(4):
        if counted[angle]:
            _of_angle(runs[angle], values, f)
    f /= counted.sum()  # 0 / 0 = NaN


@kernel
def _of_angle(runs: NDArray[np.int64], values: NDArray[np.float64], f: NDArray[np.float64]) -> None:
    """Add the 16 features of one angle."""
    of_level, of_length = np.zeros(len(values)), np.zeros(runs.shape[1])
    number = float(runs.sum())
    short_low, short_high, long_low, long_high, entropy = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(runs.shape[0]):
        for j in range(runs.shape[1]):
            if runs[i, j]:
                count, level2, length2 = float(runs[i, j]), values[i] ** 2, float(j + 1) ** 2
                of_level[i] += count
                of_length[j] += count
                short_low += count / (level2 * length2)
                short_high += count * level2 / length2
                long_low += count * length2 / level2
                long_high += count * length2 * level2
                entropy -= count / number * np.log2(count / number + EPSILON)
    f[SHORT_RUN_LOW_GRAY_LEVEL_EMPHASIS] += short_low / number  # 13.  sum P / (i^2 j^2) / Nr
    f[SHORT_RUN_HIGH_GRAY_LEVEL_EMPHASIS] += short_high / number  # 14.  sum P i^2 / j^2 / Nr
    f[LONG_RUN_LOW_GRAY_LEVEL_EMPHASIS] += long_low / number  # 15.  sum P j^2 / i^2 / Nr
    f[LONG_RUN_HIGH_GRAY_LEVEL_EMPHASIS] += long_high / number  # 16.  sum P i^2 j^2 / Nr
    f[RUN_ENTROPY] += entropy  # 10.  -sum p log2(p + eps)

    squares, low, high, mean = 0.0, 0.0, 0.0, 0.0
    for i in range(len(values)):
        squares += of_level[i] ** 2
        low += of_level[i] / values[i] ** 2
        high += of_level[i] * values[i] ** 2
        mean += of_level[i] / number * values[i]
    f[GRAY_LEVEL_NON_UNIFORMITY] += squares / number  # 3.  sum_i (sum_j P)^2 / Nr
    f[GRAY_LEVEL_NON_UNIFORMITY_NORMALIZED] += squares / number**2  # 4.  ... / Nr^2
    f[LOW_GRAY_LEVEL_RUN_EMPHASIS] += low / number  # 11.  sum P / i^2 / Nr
    f[HIGH_GRAY_LEVEL_RUN_EMPHASIS] += high / number  # 12.  sum P i^2 / Nr
    for i in range(len(values)):
        f[GRAY_LEVEL_VARIANCE] += of_level[i] / number * (values[i] - mean) ** 2  # 8.  sum p (i - mu)^2

    squares, short, long, mean, pixels = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(len(of_length)):
        length = float(j + 1)
        squares += of_length[j] ** 2
        short += of_length[j] / length**2
        long += of_length[j] * length**2
        mean += of_length[j] / number * length
        pixels += of_length[j] * length
    f[RUN_LENGTH_NON_UNIFORMITY] += squares / number  # 5.  sum_j (sum_i P)^2 / Nr
    f[RUN_LENGTH_NON_UNIFORMITY_NORMALIZED] += squares / number**2  # 6.  ... / Nr^2
    f[SHORT_RUN_EMPHASIS] += short / number  # 1.  sum P / j^2 / Nr
    f[LONG_RUN_EMPHASIS] += long / number  # 2.  sum P j^2 / Nr
    f[RUN_PERCENTAGE] += number / pixels  # 7.  Nr / Np
    for j in range(len(of_length)):
        f[RUN_VARIANCE] += of_length[j] / number * (j + 1 - mean) ** 2  # 9.  sum p (j - mu)^2
