"""Discretisation: grey values X become levels 1, 2, ... of a fixed width, in bins equally spaced from 0.

    level = floor(X / width) - floor(min X / width) + 1

This is not IBSI's fixed bin size, whose bins start at the lesion's minimum. Edges are computed as in PyRadiomics
(``radiomics.imageoperations.getBinEdges``), so that a value on an edge falls into the same bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from skinkit.errors import ConfigError
from skinkit.radiomics.refusal import RadiomicsRefusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_LEVELS = 4096
"""Most levels; more would need gigabytes for four square matrices of this size."""


@dataclass(frozen=True)
class Binning:
    """How grey values become levels.

    Attributes:
        width: grey levels per bin.
        count: number of bins between the lesion's minimum and maximum; if set, the width is ignored.
    """

    width: float = 25.0
    count: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.width < float("inf"):
            raise ConfigError(f"bin width {self.width}", "a positive number of grey levels", "25 is PyRadiomics' own")
        if self.count is not None and self.count < 1:
            raise ConfigError(f"bin count {self.count}", "a positive number of bins", "leave it out to use a width")

    def edges(self, minimum: float, maximum: float) -> NDArray[np.float64]:
        """Ascending bin edges; the level of X is the number of edges <= X."""
        if self.count is not None:
            edges = np.histogram_bin_edges(np.array([minimum, maximum]), self.count)
            edges[-1] += 1  # the maximum belongs to the last bin
            return edges
        low = minimum - minimum % self.width
        return np.arange(low, maximum + 2 * self.width, self.width)


@lru_cache(maxsize=1024)
def levels_of_bytes(binning: Binning, minimum: int, maximum: int) -> NDArray[np.int64]:
    """(256,) level of every 8-bit grey value between minimum and maximum; 0 elsewhere."""
    values = np.arange(256)
    levels = np.digitize(values, binning.edges(float(minimum), float(maximum)))
    levels[(values < minimum) | (values > maximum)] = 0
    return levels.astype(np.int64)


def ranked_levels(
    grey: NDArray[np.generic], mask: NDArray[np.bool_], binning: Binning
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]:
    """Discretise any real image into any number of levels.

    Levels without a pixel are left out: the plane holds ranks, and ``values`` the original level of each rank.

    Args:
        grey: (h, w) the lesion's box.
        mask: (h, w) the lesion.
        binning: how grey values become levels.

    Returns:
        plane: (h + 2, w + 2) rank of each pixel's level, from 1; 0 outside the lesion and in the border around it.
        values: (K,) level of each rank, ascending.
        members: (K,) pixels of each rank.

    Raises:
        RadiomicsRefusal: ``too_many_levels``.
    """
    x = grey[mask].astype(np.float64)
    levels = np.digitize(x, binning.edges(x.min(), x.max()))
    values, ranks, members = np.unique(levels, return_inverse=True, return_counts=True)
    if len(values) > MOST_LEVELS:
        raise RadiomicsRefusal("too_many_levels", f"{len(values)} grey levels, at most {MOST_LEVELS}: use wider bins")
    plane = np.zeros((grey.shape[0] + 2, grey.shape[1] + 2), dtype=np.int32)
    plane[1:-1, 1:-1][mask] = ranks + 1
    return plane, values.astype(np.float64), members
