"""Neighbouring grey tone differences: how far pixels of level i are from the mean level of their neighbours.

Amadasun and King 1989, IEEE Transactions on Systems, Man, and Cybernetics 19(5), doi:10.1109/21.44046. Equations as in
the PyRadiomics documentation of ``radiomics.ngtdm``: all eight neighbours that lie in the lesion count, and a pixel
without one has difference 0.

    n_i  pixels of level i, p_i = n_i / N;  s_i sum over them of |i - mean level of the neighbours|;  K levels in use
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUSYNESS, COARSENESS, COMPLEXITY, CONTRAST, STRENGTH = range(5)


@kernel
def sum_differences(plane: NDArray[np.int32], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) the sums s_i by rank.

    Args:
        plane: (h + 2, w + 2) ranks from 1, 0 outside the lesion and in the border.
        values: (K,) level of each rank.
    """
    s = np.zeros(len(values))
    for y in range(1, plane.shape[0] - 1):
        for x in range(1, plane.shape[1] - 1):
            rank = plane[y, x]
            if rank == 0:
                continue
            total, neighbours = -values[rank - 1], -1  # the pixel is found among its neighbours
            for ny in range(y - 1, y + 2):
                for nx in range(x - 1, x + 2):
                    if plane[ny, nx]:
                        total += values[plane[ny, nx] - 1]
                        neighbours += 1
            if neighbours:
                s[rank - 1] += abs(values[rank - 1] - total / neighbours)
    return s


@kernel
def features(
    members: NDArray[np.int64], s: NDArray[np.float64], values: NDArray[np.float64], f: NDArray[np.float64]
) -> None:
    """The 5 features.

    Args:
        members: (K,) pixels n_i of each rank, none of them 0.
        s: (K,) the sums s_i.
        values: (K,) level of each rank.
        f: (5,) receives the features.
    """
    pixels, size = float(members.sum()), len(values)
    p = members / pixels
    ps = (p * s).sum()
    differences, products, complexity, strength = 0.0, 0.0, 0.0, 0.0
    for a in range(size):
        for b in range(size):
            i, j = values[a], values[b]
            products += p[a] * p[b] * (i - j) ** 2
            differences += abs(i * p[a] - j * p[b])
            complexity += abs(i - j) * (p[a] * s[a] + p[b] * s[b]) / (p[a] + p[b])
            strength += (p[a] + p[b]) * (i - j) ** 2
    f[COARSENESS] = 1 / ps if ps else 1e6  # 1 / sum p_i s_i
    # 1 / (K (K - 1)) sum_ij p_i p_j (i - j)^2 * sum_i s_i / N
    f[CONTRAST] = products * s.sum() / pixels / (size * (size - 1)) if size > 1 else 0.0
    f[BUSYNESS] = ps / differences if differences else 0.0  # sum p_i s_i / sum_ij |i p_i - j p_j|
    f[COMPLEXITY] = complexity / pixels  # 1 / N sum_ij |i - j| (p_i s_i + p_j s_j) / (p_i + p_j)
    f[STRENGTH] = strength / s.sum() if s.sum() else 0.0  # sum_ij (p_i + p_j) (i - j)^2 / sum_i s_i
