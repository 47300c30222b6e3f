"""The fast path's image: ranks of 8-bit lesions in rows of bytes that can be read 64 at a time.

A plane is one row of bytes: ``ORIGIN`` bytes, then h + 2 rows of ``stride`` bytes (a multiple of 64), then 64 more.
Pixel (y, x) of the lesion's box is at row y + 1, column x + 1; everything else is 0, so that neighbours need no check
for the border.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORIGIN = 64


@kernel
def histogram_of(grey: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int, int]:
    """(256,) pixels of the lesion by grey value; its lowest and highest grey value.

    Four tables are used in turn, because incrementing the same counter repeatedly stalls the processor.

    Args:
        grey: (h, w).
        mask: (h, w).
    """
    height, width = grey.shape
    counts = np.zeros((4, 512), dtype=np.int32)
    first, second, third, fourth = counts
    row = np.empty(width, dtype=np.uint16)
    for y in range(height):
        values, inside = grey[y], mask[y]
        for x in range(width):
            row[x] = values[x] | np.uint16(inside[x]) << 8  # values outside the lesion are counted below 256
        for quarter in range(width // 4):
            x = 4 * quarter
            first[row[x]] += 1
            second[row[x + 1]] += 1
            third[row[x + 2]] += 1
            fourth[row[x + 3]] += 1
        for x in range(width // 4 * 4, width):
            first[row[x]] += 1
    histogram = np.zeros(256, dtype=np.int64)
    minimum, maximum = -1, -1
    for v in range(256):
        histogram[v] = first[256 + v] + second[256 + v] + third[256 + v] + fourth[256 + v]
        if histogram[v]:
            minimum = v if minimum < 0 else minimum
            maximum = v
    return histogram, minimum, maximum


@kernel
def ranks_of(
    histogram: NDArray[np.int64], levels: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]:
    """The levels that have a pixel.

    Args:
        histogram: (256,) pixels of the lesion by grey value.
        levels: (256,) level of each grey value, non-decreasing.

    Returns:
        thresholds: (K,) the lowest grey value of each level, so that a rank is the number of thresholds not above it.
        values: (K,) the levels.
        members: (K,) pixels of each.
    """
    thresholds = np.empty(256, dtype=np.uint8)
    values, members = np.empty(256), np.empty(256, dtype=np.int64)
    size = 0
    for v in range(256):
        if histogram[v] == 0:
            continue
        if size == 0 or levels[v] != values[size - 1]:
            thresholds[size], values[size], members[size] = v, levels[v], 0
            size += 1
        members[size - 1] += histogram[v]
    return thresholds[:size], values[:size], members[:size]


@kernel
def lay_out(
    grey: NDArray[np.uint8], mask: NDArray[np.bool_], thresholds: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], int, int]:
    """The plane of ranks, the rows of the lesion (h) and the bytes from row to row (stride).

    Args:
        grey: (h, w).
        mask: (h, w).
        thresholds: (K,) lowest grey value of each rank.
    """
    height, width = grey.shape
    stride = (width + 2 + 63) // 64 * 64  # the lesion, a border on either side, rounded up
    plane = np.zeros(ORIGIN + (height + 2) * stride + 64, dtype=np.uint8)
    for y in range(height):
        start = ORIGIN + (y + 1) * stride + 1
        ranks, values, inside = plane[start : start + width], grey[y], mask[y]
        for threshold in thresholds:
            for x in range(width):
                ranks[x] += np.uint8(values[x] >= threshold)
        for x in range(width):
            ranks[x] *= np.uint8(inside[x])
    return plane, height, stride


@kernel
def as_rows(plane: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """(h + 2, stride) the same bytes, row by row."""
    return plane[ORIGIN:-64].reshape((-1, stride))


@kernel
def with_values(plane: NDArray[np.uint8], values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The plane with levels instead of ranks; the same plane if every level occurs.

    Args:
        plane: ranks.
        values: (K,) level of each rank, below 256.
    """
    if values[-1] == len(values):
        return plane
    level_of = np.zeros(256, dtype=np.uint8)
    level_of[1 : len(values) + 1] = values.astype(np.uint8)
    levels = np.empty_like(plane)
    for k in range(len(plane)):
        levels[k] = level_of[plane[k]]
    return levels
