"""Two-dimensional shape: area, perimeter, diameter and axes of the lesion, independent of its grey levels.

Equations as numbered by the PyRadiomics documentation of ``radiomics.shape2D``, pixel spacing 1. Its mesh is that of
marching squares (Lorensen and Cline 1987, doi:10.1145/37402.37422, in two dimensions): a cell between four pixel
centres is cut halfway between pixels that differ, and two diagonal pixels are two corners, not one band.

    A  mesh area;  C  mesh perimeter;  lambda  variances of the pixel centres along the principal axes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

(
    ELONGATION,
    MAJOR_AXIS_LENGTH,
    MAXIMUM_DIAMETER,
    MESH_SURFACE,
    MINOR_AXIS_LENGTH,
    PERIMETER,
    PERIMETER_SURFACE_RATIO,
    PIXEL_SURFACE,
    SPHERICITY,
) = range(9)


ONE_CORNER, THREE_CORNERS, SIDE, DIAGONAL = range(4)
"""Kinds of cells that the outline crosses: 1 or 3 of the four pixels in the lesion, 2 side by side, 2 diagonal."""


@kernel
def trace(
    plane: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Measurements of a lesion from which its shape features are computed.

    Args:
        plane: (h + 2, w + 2) 0 outside the lesion and in the border.

    Returns:
        cells: (4,) how many cells of each kind the outline crosses.
        sums: (6,) of 1, y, x, y^2, x^2 and x y over the pixels.
        first: (h + 2,) first column of each row; -1 where the row is empty.
        last: (h + 2,) last column of each row; -1 where the row is empty.
    """
    height, width = plane.shape
    cells, sums = np.zeros(4, dtype=np.int64), np.zeros(6, dtype=np.int64)
    first, last = np.full(height, -1, dtype=np.int64), np.full(height, -1, dtype=np.int64)
    for y in range(height - 1):
        for x in range(width - 1):
            a, b = plane[y, x] != 0, plane[y, x + 1] != 0
            c, d = plane[y + 1, x] != 0, plane[y + 1, x + 1] != 0
            corners = int(a) + int(b) + int(c) + int(d)
            cells[ONE_CORNER] += corners == 1
            cells[THREE_CORNERS] += corners == 3
            cells[DIAGONAL] += corners == 2 and a == d
            cells[SIDE] += corners == 2 and a != d
            if a:
                for k, power in enumerate((1, y, x, y * y, x * x, x * y)):
                    sums[k] += power
                last[y] = x
                if first[y] < 0:
                    first[y] = x
    return cells, sums, first, last


@kernel
def features(
    cells: NDArray[np.int64],
    sums: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    f: NDArray[np.float64],
) -> None:
    """The 9 features from the measurements of :func:`trace`; ``f`` (9,) receives them."""
    # A cell whose four pixels all lie inside has area 1, half of them 1/2. Counting 1/4 for every pixel in a cell, and
    # so 1 for every pixel, is 1/8 too much for one corner, 1/8 too little for three, 1/4 too much for a diagonal.
    area = sums[0] + (cells[THREE_CORNERS] - cells[ONE_CORNER]) / 8 - cells[DIAGONAL] / 4
    corners_cut = cells[ONE_CORNER] + cells[THREE_CORNERS] + 2 * cells[DIAGONAL]
    perimeter = cells[SIDE] + corners_cut * np.sqrt(0.5)
    minor, major = _variances(sums)
    f[MESH_SURFACE] = area  # 1.  A
    f[PIXEL_SURFACE] = sums[0]  # 2.
    f[PERIMETER] = perimeter  # 3.  C
    f[PERIMETER_SURFACE_RATIO] = perimeter / area  # 4.  C / A
    f[SPHERICITY] = 2 * np.sqrt(np.pi * area) / perimeter  # 5.  2 sqrt(pi A) / C
    f[MAXIMUM_DIAMETER] = _diameter(first, last)  # 7.
    f[MAJOR_AXIS_LENGTH] = 4 * np.sqrt(major)  # 8.  4 sqrt(lambda_major)
    f[MINOR_AXIS_LENGTH] = 4 * np.sqrt(minor)  # 9.  4 sqrt(lambda_minor)
    f[ELONGATION] = np.sqrt(minor / major)  # 10.  sqrt(lambda_minor / lambda_major)


@kernel
def _variances(sums: NDArray[np.int64]) -> tuple[float, float]:
    """Variances along the minor and the major axis: the eigenvalues of the covariance matrix."""
    n, sy, sx, syy, sxx, sxy = sums
    cy, cx = sy // n, sx // n  # sums about a pixel near the centre stay small enough to be exact
    my, mx = (sy - n * cy) / n, (sx - n * cx) / n
    yy = (syy - 2 * cy * sy + n * cy * cy) / n - my * my
    xx = (sxx - 2 * cx * sx + n * cx * cx) / n - mx * mx
    xy = (sxy - cy * sx - cx * sy + n * cy * cx) / n - my * mx
    major = (yy + xx + np.hypot(yy - xx, 2 * xy)) / 2
    determinant = yy * xx - xy * xy
    collinear = determinant < 1e-14 * yy * xx  # all pixels on one line: what is left is rounding
    return 0.0 if collinear else determinant / major, major


@kernel
def _diameter(first: NDArray[np.int64], last: NDArray[np.int64]) -> float:
    """Largest distance between two vertices of the mesh, which lie halfway between pixels that differ.

    Its ends are corners of the convex hull, so only the outermost vertices to the left and to the right count: beside
    the first and last pixel of a row, and between two rows whose first (last) pixels differ. In half pixels.
    """
    rows = len(first)
    left_y, left_x = np.empty(2 * rows, dtype=np.int64), np.empty(2 * rows, dtype=np.int64)
    right_y, right_x = np.empty(2 * rows, dtype=np.int64), np.empty(2 * rows, dtype=np.int64)
    lefts, rights = 0, 0
    for y in range(rows):
        if first[y] >= 0:
            lefts = _extend_hull(left_y, left_x, lefts, 2 * y, 2 * first[y] - 1, 1)
            rights = _extend_hull(right_y, right_x, rights, 2 * y, 2 * last[y] + 1, -1)
        if y + 1 < rows and first[y] != first[y + 1]:
            empty = min(first[y], first[y + 1]) < 0
            outer = max(first[y], first[y + 1]) if empty else min(first[y], first[y + 1])
            lefts = _extend_hull(left_y, left_x, lefts, 2 * y + 1, 2 * outer, 1)
        if y + 1 < rows and last[y] != last[y + 1]:
            rights = _extend_hull(right_y, right_x, rights, 2 * y + 1, 2 * max(last[y], last[y + 1]), -1)
    longest = 0
    for a in range(lefts):
        for b in range(rights):
            dy, dx = left_y[a] - right_y[b], left_x[a] - right_x[b]
            longest = max(longest, dy * dy + dx * dx)
    return float(np.sqrt(longest)) / 2


@kernel
def _extend_hull(ys: NDArray[np.int64], xs: NDArray[np.int64], used: int, y: int, x: int, side: int) -> int:
    """Append a point below all others to one side of a convex hull and drop points now inside it (Andrew 1979).

    Args:
        ys: rows of the hull's points.
        xs: columns of the hull's points.
        used: number of points in use.
        y: row of the new point.
        x: column of the new point.
        side: 1 for the left side, -1 for the right.

    Returns:
        Number of points now in use.
    """
    while used > 1:
        by, bx = ys[used - 1], xs[used - 1]
        if side * ((bx - xs[used - 2]) * (y - by) - (x - bx) * (by - ys[used - 2])) < 0:
            break  # the last point lies outside the line that would pass it by
        used -= 1
    ys[used], xs[used] = y, x
    return used + 1
