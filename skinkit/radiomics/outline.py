"""The outline of a lesion, 64 cells at a time; the same numbers as :func:`skinkit.radiomics.shape2d.trace`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.bitmask import count_bits, differing, lowest_bit
from skinkit.radiomics.byte_plane import ORIGIN
from skinkit.radiomics.compiled import kernel
from skinkit.radiomics.shape2d import DIAGONAL, ONE_CORNER, SIDE, THREE_CORNERS

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel
def trace(
    plane: NDArray[np.uint8], height: int, stride: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cells (4,), sums (6,), first and last columns (h + 2,): see :func:`skinkit.radiomics.shape2d.trace`.

    Args:
        plane: ranks, laid out by :func:`skinkit.radiomics.byte_plane.lay_out`.
        height: rows of the lesion's box.
        stride: bytes from row to row.
    """
    cells, sums = np.zeros(4, dtype=np.int64), np.zeros(6, dtype=np.int64)
    first, last = np.full(height + 2, -1, dtype=np.int64), np.full(height + 2, -1, dtype=np.int64)
    outside = ORIGIN  # the border above the lesion: a row of zeros to compare with
    for y in range(height + 1):
        start = -1
        for column in range(0, stride, 64):
            place = ORIGIN + y * stride + column
            # Bit b: is the pixel of column + b in the lesion? Those to its right, below, and below to the right?
            a, b = differing(plane, place, outside), differing(plane, place + 1, outside)
            c, d = differing(plane, place + stride, outside), differing(plane, place + stride + 1, outside)
            odd, diagonal = a ^ b ^ c ^ d, ~(a ^ d) & ~(b ^ c) & (a ^ b)
            crossed = (a | b | c | d) & ~(a & b & c & d)
            three = odd & ((a & b) | (c & d))
            cells[THREE_CORNERS] += count_bits(three)
            cells[ONE_CORNER] += count_bits(odd & ~three)
            cells[DIAGONAL] += count_bits(diagonal)
            cells[SIDE] += count_bits(crossed & ~odd & ~diagonal)
            edges = a ^ b  # between x and x + 1: a run of the lesion begins or ends
            while edges:
                x = column + lowest_bit(edges)
                edges &= edges - np.uint64(1)
                if start < 0:
                    start = x + 1
                else:
                    _add_run(sums, y, start, x)
                    if first[y] < 0:
                        first[y] = start
                    last[y] = x
                    start = -1
    return cells, sums, first, last


@kernel
def _add_run(sums: NDArray[np.int64], y: int, first: int, last: int) -> None:
    """Add the pixels first ... last of row y to the sums of 1, y, x, y^2, x^2 and x y."""
    n = last - first + 1
    x = n * (first + last) // 2
    xx = (last * (last + 1) * (2 * last + 1) - (first - 1) * first * (2 * first - 1)) // 6
    for k, amount in enumerate((n, y * n, x, y * y * n, xx, x * y)):
        sums[k] += amount
