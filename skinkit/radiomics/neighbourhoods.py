"""Dependence and tone in one pass over the eight neighbours of each pixel.

Whole rows are compared with their neighbours, and only pixels with a neighbour at another level are visited; the others
have dependence 8 and tone difference 0. The kernel gives the same numbers as the plain loops in
``gldm.py`` and ``ngtdm.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.bitmask import differing, lowest_bit
from skinkit.radiomics.byte_plane import ORIGIN
from skinkit.radiomics.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COMMON = 840
"""Least common multiple of 1 ... 8: differences from a mean over n neighbours are whole multiples of 1 / 840."""

_COUNT = 43
"""A packed counter holds a sum of such multiples in bits 0 ... 42 and, from this bit on, their number."""

_EMPTIED_EVERY = 1 << 20
"""Pixels after which packed counters are emptied: with 8-bit levels neither half can overflow before."""


@kernel
def count_dependences_and_differences(
    plane: NDArray[np.uint8],
    levels: NDArray[np.uint8],
    stride: int,
    members: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Dependences (K, 9) by rank and number of alike neighbours; the sums of differences s_i (K,) by rank.

    Args:
        plane: ranks, laid out by :func:`skinkit.radiomics.byte_plane.lay_out`.
        levels: the same plane with the level itself in place of its rank.
        stride: bytes from row to row.
        members: (K,) pixels of each rank.
    """
    size = len(members)
    shares = np.zeros(9, dtype=np.int64)
    for n in range(1, 9):
        shares[n] = _COMMON // n
    first = ORIGIN + stride
    alike, inside, total = _look_around(plane, levels, stride)
    packed = np.zeros((size + 1) * 9, dtype=np.int64)
    dependences, differences = np.zeros((size + 1, 9), dtype=np.int64), np.zeros(size + 1, dtype=np.int64)
    pixels = len(total)
    for chunk in range(0, pixels, 64):
        mixed = differing(alike, chunk, pixels)
        while mixed:
            x = chunk + lowest_bit(mixed)
            mixed &= mixed - np.uint64(1)
            difference = abs(np.int64(levels[first + x]) * inside[x] - total[x]) * shares[inside[x]]
            packed[plane[first + x] * 9 + alike[x]] += difference + (1 << _COUNT)
        if chunk % _EMPTIED_EVERY == 0 or chunk + 64 == pixels:
            for rank in range(1, size + 1):
                for neighbours in range(8):
                    dependences[rank, neighbours] += packed[rank * 9 + neighbours] >> _COUNT
                    differences[rank] += packed[rank * 9 + neighbours] & ((1 << _COUNT) - 1)
                    packed[rank * 9 + neighbours] = 0
    for rank in range(1, size + 1):
        dependences[rank, 8] = members[rank - 1] - dependences[rank, :8].sum()
    return dependences[1:].copy(), differences[1:] / _COMMON


@kernel
def _look_around(
    plane: NDArray[np.uint8], levels: NDArray[np.uint8], stride: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16]]:
    """For each pixel of the lesion's rows: neighbours of its rank, neighbours in the lesion, the sum of their levels.

    Pixels outside the lesion get 8 equal neighbours, so that they are skipped; 64 eights are appended for the
    comparison.
    """
    pixels = len(plane) - ORIGIN - 64 - 2 * stride
    alike = np.full(pixels + 64, 8, dtype=np.uint8)
    inside, total = np.empty(pixels, dtype=np.uint8), np.empty(pixels, dtype=np.uint16)
    n1, n2, n3 = _three(plane, ORIGIN, pixels)
    n4, n0, n5 = _three(plane, ORIGIN + stride, pixels)
    n6, n7, n8 = _three(plane, ORIGIN + 2 * stride, pixels)
    for x in range(pixels):
        rank = n0[x]
        same = (
            np.uint8(n1[x] == rank)
            + np.uint8(n2[x] == rank)
            + np.uint8(n3[x] == rank)
            + np.uint8(n4[x] == rank)
            + np.uint8(n5[x] == rank)
            + np.uint8(n6[x] == rank)
            + np.uint8(n7[x] == rank)
            + np.uint8(n8[x] == rank)
        )
        alike[x] = same if rank else 8
        inside[x] = (
            np.uint8(n1[x] != 0)
            + np.uint8(n2[x] != 0)
            + np.uint8(n3[x] != 0)
            + np.uint8(n4[x] != 0)
            + np.uint8(n5[x] != 0)
            + np.uint8(n6[x] != 0)
            + np.uint8(n7[x] != 0)
            + np.uint8(n8[x] != 0)
        )
    l1, l2, l3 = _three(levels, ORIGIN, pixels)
    l4, _, l5 = _three(levels, ORIGIN + stride, pixels)
    l6, l7, l8 = _three(levels, ORIGIN + 2 * stride, pixels)
    for x in range(pixels):
        total[x] = (
            np.uint16(l1[x])
            + np.uint16(l2[x])
            + np.uint16(l3[x])
            + np.uint16(l4[x])
            + np.uint16(l5[x])
            + np.uint16(l6[x])
            + np.uint16(l7[x])
            + np.uint16(l8[x])
        )
    return alike, inside, total


@kernel
def _three(
    plane: NDArray[np.uint8], start: int, pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels from one before the start, from the start, and from one after it."""
    return plane[start - 1 : start - 1 + pixels], plane[start : start + pixels], plane[start + 1 : start + 1 + pixels]
