"""The compiled engine: one lesion in, the 102 features out.

8-bit images take the fast path (``byte_plane``, ``outline``, ``change_events``, ``neighbourhoods``). Any other image,
and levels above 255, take the plain loops beside the equations. Both end in the same ``features`` functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from skinkit.radiomics import (
    byte_plane,
    change_events,
    firstorder,
    glcm,
    gldm,
    glrlm,
    glszm,
    neighbourhoods,
    ngtdm,
    outline,
    shape2d,
)
from skinkit.radiomics.compiled import kernel
from skinkit.radiomics.discretise import Binning, levels_of_bytes, ranked_levels
from skinkit.radiomics.kernel_cache import compile_once

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE, FIRST, GLCM, GLRLM, GLSZM, GLDM, NGTDM, END = 0, 9, 27, 51, 67, 83, 97, 102
"""Index of the first feature of each class."""


def measure(grey: NDArray[np.generic], mask: NDArray[np.bool_], binning: Binning) -> list[float]:
    """The 102 features of a lesion, in the order of the names.

    Args:
        grey: (h, w) the lesion's box, of any real type.
        mask: (h, w) the lesion.
        binning: how grey values become levels.
    """
    integers = _as_bytes(grey, mask)
    f = None if integers is None else measure_bytes(integers, mask, binning)
    return cast("list[float]", (measure_plainly(grey, mask, binning) if f is None else f).tolist())


def _as_bytes(grey: NDArray[np.generic], mask: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
    """The image as 8-bit integers, if all values inside the lesion are; else None."""
    if grey.dtype == np.uint8:
        return grey.astype(np.uint8, copy=False)
    x = grey[mask].astype(np.float64)
    if not ((x >= 0) & (x <= 255) & (x == np.floor(x))).all():
        return None
    integers = np.zeros(grey.shape, dtype=np.uint8)
    integers[mask] = x
    return integers


def measure_bytes(grey: NDArray[np.uint8], mask: NDArray[np.bool_], binning: Binning) -> NDArray[np.float64] | None:
    """The 102 features of an 8-bit image, the fast way; None where its levels do not fit into a byte.

    Args:
        grey: (h, w) the lesion's box.
        mask: (h, w) the lesion.
        binning: how grey values become levels.
    """
    grey, mask = np.ascontiguousarray(grey), np.ascontiguousarray(mask)
    histogram, minimum, maximum = byte_plane.histogram_of(grey, mask)
    levels = levels_of_bytes(binning, minimum, maximum)
    if levels[maximum] > 255:
        return None
    f = np.empty(END)
    pairs, doubtful = _measure_bytes(grey, mask, histogram, levels, f)
    if doubtful:
        glcm.nearly_independent(pairs, f[GLCM:GLRLM])
    return f


@kernel
def _measure_bytes(
    grey: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    histogram: NDArray[np.int64],
    levels: NDArray[np.int64],
    f: NDArray[np.float64],
) -> tuple[NDArray[np.int64], bool]:
    """Fill ``f`` (102,); return the pairs (4, K, K) and whether IMC 2 and MCC are ill-conditioned. One kernel."""
    thresholds, values, members = byte_plane.ranks_of(histogram, levels)
    plane, height, stride = byte_plane.lay_out(grey, mask, thresholds)

    cells, sums, first, last = outline.trace(plane, height, stride)
    shape2d.features(cells, sums, first, last, f[SHAPE:FIRST])
    firstorder.from_histogram(histogram, levels, f[FIRST:GLCM])

    pairs, runs = change_events.count_pairs_and_runs(plane, height, stride, members)
    doubtful = glcm.features(pairs, values, f[GLCM:GLRLM])
    angles = glrlm.angles_that_count(runs, byte_plane.as_rows(plane, stride))
    glrlm.features(runs, angles, values, f[GLRLM:GLSZM])

    ranks, sizes = change_events.list_zones(plane, height, stride)
    glszm.features(glszm.tabulate(ranks, sizes, len(values)), values, f[GLSZM:GLDM])

    of_values = byte_plane.with_values(plane, values)
    dependences, differences = neighbourhoods.count_dependences_and_differences(plane, of_values, stride, members)
    gldm.features(dependences, values, f[GLDM:NGTDM])
    ngtdm.features(members, differences, values, f[NGTDM:END])
    return pairs, doubtful


def measure_plainly(grey: NDArray[np.generic], mask: NDArray[np.bool_], binning: Binning) -> NDArray[np.float64]:
    """The 102 features of any real image, by plain loops over its pixels; the readable twin of the fast path.

    Args:
        grey: (h, w) the lesion's box.
        mask: (h, w) the lesion.
        binning: how grey values become levels.
    """
    tiny = np.arange(9, dtype=np.float64).reshape(3, 3)
    compile_once("plain", lambda: measure_plainly(tiny, np.eye(3, dtype=np.bool_), binning))
    plane, values, members = ranked_levels(grey, mask, binning)
    f = np.empty(END)
    shape2d.features(*shape2d.trace(plane), f[SHAPE:FIRST])
    f[FIRST:GLCM] = firstorder.from_values(grey[mask].astype(np.float64), members)
    pairs, runs = glcm.count_pairs(plane, len(values)), glrlm.count_runs(plane, len(values))
    if glcm.features(pairs, values, f[GLCM:GLRLM]):
        glcm.nearly_independent(pairs, f[GLCM:GLRLM])
    glrlm.features(runs, glrlm.angles_that_count(runs, plane), values, f[GLRLM:GLSZM])
    ranks, sizes = glszm.list_zones(plane, int(members.sum()))
    glszm.features(glszm.tabulate(ranks, sizes, len(values)), values, f[GLSZM:GLDM])
    gldm.features(gldm.count_dependences(plane, len(values)), values, f[GLDM:NGTDM])
    ngtdm.features(members, ngtdm.sum_differences(plane, values), values, f[NGTDM:END])
    return f
