"""Grey level size zones: how many zones of j connected pixels of level i there are.

Thibault et al. 2009, Texture indexes and gray level size zone matrix: application to cell nuclei classification, PRIP.
Equations as numbered by the PyRadiomics documentation of ``radiomics.glszm``; all eight neighbours connect.

    P(i, j)  zones of level i and size j; Nz their number, p = P / Nz;  Np pixels
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.compiled import kernel
from skinkit.radiomics.firstorder import EPSILON

if TYPE_CHECKING:
    from numpy.typing import NDArray

(
    GRAY_LEVEL_NON_UNIFORMITY,
    GRAY_LEVEL_NON_UNIFORMITY_NORMALIZED,
    GRAY_LEVEL_VARIANCE,
    HIGH_GRAY_LEVEL_ZONE_EMPHASIS,
    LARGE_AREA_EMPHASIS,
    LARGE_AREA_HIGH_GRAY_LEVEL_EMPHASIS,
    LARGE_AREA_LOW_GRAY_LEVEL_EMPHASIS,
    LOW_GRAY_LEVEL_ZONE_EMPHASIS,
    SIZE_ZONE_NON_UNIFORMITY,
    SIZE_ZONE_NON_UNIFORMITY_NORMALIZED,
    SMALL_AREA_EMPHASIS,
    SMALL_AREA_HIGH_GRAY_LEVEL_EMPHASIS,
    SMALL_AREA_LOW_GRAY_LEVEL_EMPHASIS,
    ZONE_ENTROPY,
    ZONE_PERCENTAGE,
    ZONE_VARIANCE,
) = range(16)

_SMALL = 256


@kernel
def list_zones(plane: NDArray[np.int32], pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank - 1 and size of every zone, by flood fill.

    Args:
        plane: (h + 2, w + 2) ranks from 1, 0 outside the lesion and in the border.
        pixels: of the lesion.
    """
    todo = plane.copy()
    waiting = np.empty((pixels, 2), dtype=np.int64)
    ranks, sizes = np.empty(pixels, dtype=np.int64), np.empty(pixels, dtype=np.int64)
    zones = 0
    for y in range(1, plane.shape[0] - 1):
        for x in range(1, plane.shape[1] - 1):
            if todo[y, x] == 0:
                continue
            rank, size, depth = todo[y, x], 0, 1
            todo[y, x] = 0
            waiting[0] = y, x
            while depth:
                depth -= 1
                cy, cx = waiting[depth]
                size += 1
                for ny in range(cy - 1, cy + 2):
                    for nx in range(cx - 1, cx + 2):
                        if todo[ny, nx] == rank:
                            todo[ny, nx] = 0
                            waiting[depth] = ny, nx
                            depth += 1
            ranks[zones], sizes[zones] = rank - 1, size
            zones += 1
    return ranks[:zones], sizes[:zones]


@kernel
def tabulate(ranks: NDArray[np.int64], sizes: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """(n, 3) the entries of P that are not 0, as rank - 1, size and count, in ascending order of size.

    Most zones are small, so sizes below :data:`_SMALL` are counted in a table; the few others are sorted.

    Args:
        ranks: (Nz,) rank - 1 of each zone's level.
        sizes: (Nz,) pixels of each zone.
        size: K, the number of ranks.
    """
    table = np.zeros((_SMALL, size), dtype=np.int64)
    large = np.empty(len(sizes), dtype=np.int64)
    larger = 0
    for zone in range(len(sizes)):
        if sizes[zone] < _SMALL:
            table[sizes[zone], ranks[zone]] += 1
        else:
            large[larger] = sizes[zone] * size + ranks[zone]
            larger += 1
    entries = np.empty((len(sizes), 3), dtype=np.int64)
    used = 0
    for j in range(1, _SMALL):
        for i in range(size):
            if table[j, i]:
                entries[used] = i, j, table[j, i]
                used += 1
    ordered = np.sort(large[:larger])
    for k in range(larger):
        if k and ordered[k] == ordered[k - 1]:
            entries[used - 1, 2] += 1
        else:
            entries[used] = ordered[k] % size, ordered[k] // size, 1
            used += 1
    return entries[:used]


@kernel
def features(entries: NDArray[np.int64], values: NDArray[np.float64], f: NDArray[np.float64]) -> None:
    """The 16 features.

    Args:
        entries: (n, 3) rank - 1, size and count, in ascending order of size.
        values: (K,) level of each rank.
        f: (16,) receives the features.
    """
    number, pixels = 0.0, 0.0
    for k in range(len(entries)):
        number += entries[k, 2]
        pixels += entries[k, 1] * entries[k, 2]
    f[:] = 0.0
    of_level, of_size, mean_size = np.zeros(len(values)), 0.0, pixels / number
    for k in range(len(entries)):
        i, j, count = entries[k]
        p, level2, size2 = count / number, values[i] ** 2, float(j) ** 2
        of_level[i] += count
        of_size = of_size + count if k and j == entries[k - 1, 1] else float(count)
        if k + 1 == len(entries) or j != entries[k + 1, 1]:
            f[SIZE_ZONE_NON_UNIFORMITY] += of_size**2 / number  # 5.  sum_j (sum_i P)^2 / Nz
        f[SMALL_AREA_EMPHASIS] += p / size2  # 1.  sum P / j^2 / Nz
        f[LARGE_AREA_EMPHASIS] += p * size2  # 2.  sum P j^2 / Nz
        f[ZONE_VARIANCE] += p * (j - mean_size) ** 2  # 9.  sum p (j - mu)^2, mu = Np / Nz
        f[ZONE_ENTROPY] -= p * np.log2(p + EPSILON)  # 10.  -sum p log2(p + eps)
        f[LOW_GRAY_LEVEL_ZONE_EMPHASIS] += p / level2  # 11.  sum P / i^2 / Nz
        f[HIGH_GRAY_LEVEL_ZONE_EMPHASIS] += p * level2  # 12.  sum P i^2 / Nz
        f[SMALL_AREA_LOW_GRAY_LEVEL_EMPHASIS] += p / (level2 * size2)  # 13.  sum P / (i^2 j^2) / Nz
        f[SMALL_AREA_HIGH_GRAY_LEVEL_EMPHASIS] += p * level2 / size2  # 14.  sum P i^2 / j^2 / Nz
        f[LARGE_AREA_LOW_GRAY_LEVEL_EMPHASIS] += p * size2 / level2  # 15.  sum P j^2 / i^2 / Nz
        f[LARGE_AREA_HIGH_GRAY_LEVEL_EMPHASIS] += p * size2 * level2  # 16.  sum P i^2 j^2 / Nz
    f[SIZE_ZONE_NON_UNIFORMITY_NORMALIZED] = f[SIZE_ZONE_NON_UNIFORMITY] / number  # 6.  ... / Nz^2
    f[ZONE_PERCENTAGE] = number / pixels  # 7.  Nz / Np
    mean_level = 0.0
    for i in range(len(values)):
        mean_level += of_level[i] / number * values[i]
        f[GRAY_LEVEL_NON_UNIFORMITY] += of_level[i] ** 2 / number  # 3.  sum_i (sum_j P)^2 / Nz
        f[GRAY_LEVEL_NON_UNIFORMITY_NORMALIZED] += (of_level[i] / number) ** 2  # 4.  ... / Nz^2
    for i in range(len(values)):
        f[GRAY_LEVEL_VARIANCE] += of_level[i] / number * (values[i] - mean_level) ** 2  # 8.  sum p (i - mu)^2
