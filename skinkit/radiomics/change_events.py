"""Co-occurrence, runs and zones from the places where the level changes.

Along a line, levels are mostly constant. Comparing 64 pixels with their predecessors at once gives a word whose bits
mark the changes, and only those are visited. A change from level a to level b gives

- a pair (a, b) of neighbours, where both are inside the lesion;
- the end of a run of a, whose length is the distance to the line's previous change.

Pairs of equal neighbours need no visit: a run of n pixels holds n - 1 of them, so their number for level a is its
pixels minus its runs. The kernels give the same numbers as the loops in ``glcm.py``, ``glrlm.py`` and ``glszm.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.bitmask import count_bits, differing, lowest_bit
from skinkit.radiomics.byte_plane import ORIGIN
from skinkit.radiomics.compiled import kernel
from skinkit.radiomics.glcm import ANGLES

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel
def count_pairs_and_runs(
    plane: NDArray[np.uint8], height: int, stride: int, members: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (4, K, K) by angle and ranks, runs (4, K, L) by angle, rank and length - 1.

    Args:
        plane: ranks, laid out by :func:`skinkit.radiomics.byte_plane.lay_out`.
        height: rows of the lesion's box.
        stride: bytes from row to row.
        members: (K,) pixels of each rank.
    """
    size = len(members)
    pairs = np.zeros((4, size + 1, size + 1), dtype=np.int64)  # row and column 0: outside
    runs = np.zeros((4, size + 1, max(height + 2, stride) + 1), dtype=np.int32)
    last_change = np.empty(2 * (height + 2) + stride, dtype=np.int32)
    for angle, (dy, dx) in enumerate(ANGLES):
        pairs_here, runs_here = pairs[angle], runs[angle]
        back = dy * stride + dx
        last_change[:] = 0
        for y in range(1, height + 2):  # the border below the lesion ends the runs that reach it
            row = ORIGIN + y * stride
            line_of_first = height + 2 - dx * y  # lines are numbered so that a line keeps its number from row to row
            for chunk in range(row, row + stride, 64):
                changes = differing(plane, chunk, chunk - back)
                while changes:
                    place = chunk + lowest_bit(changes)
                    changes &= changes - np.uint64(1)
                    before, after = plane[place - back], plane[place]
                    line = line_of_first + dy * (place - row)
                    position = y if dy else place - row
                    pairs_here[before, after] += 1
                    runs_here[before, position - last_change[line]] += 1
                    last_change[line] = position
    longest = 1
    for angle in range(4):
        for rank in range(1, size + 1):
            number = 0
            for length in range(1, runs.shape[2]):
                if runs[angle, rank, length]:
                    number += runs[angle, rank, length]
                    longest = max(longest, length)
            pairs[angle, rank, rank] = members[rank - 1] - number
    return pairs[:, 1:, 1:].copy(), runs[:, 1:, 1 : longest + 1].astype(np.int64)


@kernel
def list_zones(plane: NDArray[np.uint8], height: int, stride: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank - 1 and size of every zone: horizontal runs, joined where they touch a run of their level in the row above.

    Union-find with path halving (Tarjan and van Leeuwen 1984, doi:10.1145/62.2160); one run represents its zone.

    Args:
        plane: ranks, laid out by :func:`skinkit.radiomics.byte_plane.lay_out`.
        height: rows of the lesion's box.
        stride: bytes from row to row.
    """
    bound = 1
    for chunk in range(ORIGIN + stride, ORIGIN + (height + 1) * stride, 64):
        bound += count_bits(differing(plane, chunk, chunk - 1))
    starts, ends = np.empty(bound, dtype=np.int32), np.empty(bound, dtype=np.int32)  # first column, last column + 1
    ranks, parents = np.empty(bound, dtype=np.uint8), np.empty(bound, dtype=np.int32)
    sizes = np.zeros(bound, dtype=np.int64)  # of the zone, where a run is its zone's root
    above, current, runs = 0, 0, 0  # first run of the row above, first run of this row, runs so far
    for y in range(1, height + 1):
        row = ORIGIN + y * stride
        above, current = current, runs
        start = 0
        for chunk in range(row, row + stride, 64):
            changes = differing(plane, chunk, chunk - 1)
            while changes:
                place = chunk + lowest_bit(changes)
                changes &= changes - np.uint64(1)
                starts[runs], ends[runs], ranks[runs] = start, place - row, plane[place - 1]
                runs += ranks[runs] != 0  # what lies outside is overwritten
                start = place - row
        touching = above
        for run in range(current, runs):
            zone = run
            parents[run] = run
            while touching < current and ends[touching] < starts[run]:
                touching += 1
            other = touching
            while other < current and starts[other] <= ends[run]:
                if ranks[other] == ranks[run]:
                    root = _root(parents, other)
                    parents[zone] = root
                    if zone not in (run, root):  # this run joins two zones
                        sizes[root] += sizes[zone]
                        sizes[zone] = 0
                    zone = root
                other += 1
            sizes[zone] += ends[run] - starts[run]
    zones = np.flatnonzero(sizes)
    return ranks[zones].astype(np.int64) - 1, sizes[zones]


@kernel
def _root(parents: NDArray[np.int32], run: int) -> int:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run
