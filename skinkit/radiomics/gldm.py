"""Grey level dependence: how many pixels of level i have j - 1 of their eight neighbours at the same level.

Sun and Wee 1983, Computer Vision, Graphics, and Image Processing 23(3), doi:10.1016/0734-189X(83)90032-4. Equations as
numbered by the PyRadiomics documentation of ``radiomics.gldm``, with alpha = 0; the pixel itself counts, so j >= 1.

    P(i, j)  pixels of level i and dependence j; Nz their number, which is that of the lesion's pixels; p = P / Nz
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.compiled import kernel
from skinkit.radiomics.firstorder import EPSILON

if TYPE_CHECKING:
    from numpy.typing import NDArray

(
    DEPENDENCE_ENTROPY,
    DEPENDENCE_NON_UNIFORMITY,
    DEPENDENCE_NON_UNIFORMITY_NORMALIZED,
    DEPENDENCE_VARIANCE,
    GRAY_LEVEL_NON_UNIFORMITY,
    GRAY_LEVEL_VARIANCE,
    HIGH_GRAY_LEVEL_EMPHASIS,
    LARGE_DEPENDENCE_EMPHASIS,
    LARGE_DEPENDENCE_HIGH_GRAY_LEVEL_EMPHASIS,
    LARGE_DEPENDENCE_LOW_GRAY_LEVEL_EMPHASIS,
    LOW_GRAY_LEVEL_EMPHASIS,
    SMALL_DEPENDENCE_EMPHASIS,
    SMALL_DEPENDENCE_HIGH_GRAY_LEVEL_EMPHASIS,
    SMALL_DEPENDENCE_LOW_GRAY_LEVEL_EMPHASIS,
) = range(14)


@kernel
def count_dependences(plane: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """(K, 9) pixels by rank and by number of neighbours of the same level.

    Args:
        plane: (h + 2, w + 2) ranks from 1, 0 outside the lesion and in the border.
        size: K, the number of ranks.
    """
    dependences = np.zeros((size, 9), dtype=np.int64)
    for y in range(1, plane.shape[0] - 1):
        for x in range(1, plane.shape[1] - 1):
            rank = plane[y, x]
            if rank:
                alike = -1  # the pixel is found among its neighbours
                for ny in range(y - 1, y + 2):
                    for nx in range(x - 1, x + 2):
                        alike += plane[ny, nx] == rank
                dependences[rank - 1, alike] += 1
    return dependences


@kernel
def features(dependences: NDArray[np.int64], values: NDArray[np.float64], f: NDArray[np.float64]) -> None:
    """The 14 features.

    Args:
        dependences: (K, 9) pixels by rank and by number of neighbours of the same level.
        values: (K,) level of each rank.
        f: (14,) receives the features.
    """
    number = float(dependences.sum())
    f[:] = 0.0
    of_level, of_dependence = np.zeros(len(values)), np.zeros(9)
    for i in range(len(values)):
        for d in range(9):
            p, level2, j2 = dependences[i, d] / number, values[i] ** 2, float(d + 1) ** 2
            of_level[i] += p
            of_dependence[d] += p
            f[DEPENDENCE_ENTROPY] -= p * np.log2(p + EPSILON)  # 8.  -sum p log2(p + eps)
            f[SMALL_DEPENDENCE_EMPHASIS] += p / j2  # 1.  sum P / j^2 / Nz
            f[LARGE_DEPENDENCE_EMPHASIS] += p * j2  # 2.  sum P j^2 / Nz
            f[LOW_GRAY_LEVEL_EMPHASIS] += p / level2  # 9.  sum P / i^2 / Nz
            f[HIGH_GRAY_LEVEL_EMPHASIS] += p * level2  # 10.  sum P i^2 / Nz
            f[SMALL_DEPENDENCE_LOW_GRAY_LEVEL_EMPHASIS] += p / (level2 * j2)  # 11.  sum P / (i^2 j^2) / Nz
            f[SMALL_DEPENDENCE_HIGH_GRAY_LEVEL_EMPHASIS] += p * level2 / j2  # 12.  sum P i^2 / j^2 / Nz
            f[LARGE_DEPENDENCE_LOW_GRAY_LEVEL_EMPHASIS] += p * j2 / level2  # 13.  sum P j^2 / i^2 / Nz
            f[LARGE_DEPENDENCE_HIGH_GRAY_LEVEL_EMPHASIS] += p * j2 * level2  # 14.  sum P i^2 j^2 / Nz
    mean_level, mean_dependence = 0.0, 0.0
    for i in range(len(values)):
        mean_level += of_level[i] * values[i]
        f[GRAY_LEVEL_NON_UNIFORMITY] += of_level[i] ** 2 * number  # 3.  sum_i (sum_j P)^2 / Nz
    for d in range(9):
        mean_dependence += of_dependence[d] * (d + 1)
        f[DEPENDENCE_NON_UNIFORMITY_NORMALIZED] += of_dependence[d] ** 2  # 5.  sum_j (sum_i P)^2 / Nz^2
    f[DEPENDENCE_NON_UNIFORMITY] = f[DEPENDENCE_NON_UNIFORMITY_NORMALIZED] * number  # 4.  ... / Nz
    for i in range(len(values)):
        f[GRAY_LEVEL_VARIANCE] += of_level[i] * (values[i] - mean_level) ** 2  # 6.  sum p (i - mu)^2
    for d in range(9):
        f[DEPENDENCE_VARIANCE] += of_dependence[d] * (d + 1 - mean_dependence) ** 2  # 7.  sum p (j - mu)^2
