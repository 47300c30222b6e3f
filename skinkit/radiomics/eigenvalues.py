"""The second largest eigenvalue of a small, nearly symmetric matrix.

Francis' QR iteration: reduce to Hessenberg form, then shift, rotate, deflate. Golub and Van Loan, Matrix Computations,
4th edition, algorithms 7.4.2 and 7.5.1. Written out because LAPACK through SciPy costs a tenth of a second to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skinkit.radiomics.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNIT = float(np.finfo(np.float64).eps)
_SWEEPS = 100


@kernel
def second_largest_eigenvalue(matrix: NDArray[np.float64]) -> float:
    """By real part; NaN where the iteration does not settle.

    Args:
        matrix: (n, n), n > 1, whose eigenvalues are real but for rounding; it is overwritten.
    """
    _reduce_to_hessenberg(matrix)
    first, second = -np.inf, -np.inf
    last, sweeps = len(matrix) - 1, 0
    while last >= 0:
        start = last  # of the trailing block that nothing couples to the rows above it
        while start > 0 and abs(matrix[start, start - 1]) > _UNIT * (
            abs(matrix[start - 1, start - 1]) + abs(matrix[start, start])
        ):
            start -= 1
        if start >= last - 1:  # a block of one or two rows gives its eigenvalues
            low, high = matrix[last, last], -np.inf
            if start < last:
                low, high = _eigenvalues_of_two(matrix, last)
            for eigenvalue in (low, high):
                if eigenvalue > first:
                    first, second = eigenvalue, first
                elif eigenvalue > second:
                    second = eigenvalue
            last, sweeps = start - 1, 0
            continue
        if sweeps == _SWEEPS:
            return np.nan
        sweeps += 1
        low, high = _eigenvalues_of_two(matrix, last)
        corner = matrix[last, last]
        _sweep(matrix, start, last, low if abs(low - corner) < abs(high - corner) else high)  # Wilkinson's shift
    return second


@kernel
def _eigenvalues_of_two(h: NDArray[np.float64], last: int) -> tuple[float, float]:
    """Real parts of the eigenvalues of the two trailing rows, ascending."""
    a, b, c, d = h[last - 1, last - 1], h[last - 1, last], h[last, last - 1], h[last, last]
    middle, half = (a + d) / 2, (a - d) / 2
    root = np.sqrt(max(half * half + b * c, 0.0))
    return middle - root, middle + root


@kernel
def _reduce_to_hessenberg(h: NDArray[np.float64]) -> None:
    """Householder reflections 1 - 2 v v' / v'v make everything below the first subdiagonal zero."""
    n = len(h)
    v = np.empty(n)
    for k in range(n - 2):
        norm2 = 0.0
        for i in range(k + 1, n):
            v[i] = h[i, k]
            norm2 += v[i] * v[i]
        norm = np.sqrt(norm2)
        if norm == 0:
            continue
        head = v[k + 1]
        v[k + 1] += norm if head >= 0 else -norm
        scale = 1 / (norm2 + norm * abs(head))  # 2 / v'v
        for j in range(k, n):
            dot = 0.0
            for i in range(k + 1, n):
                dot += v[i] * h[i, j]
            for i in range(k + 1, n):
                h[i, j] -= scale * dot * v[i]
        for i in range(n):
            dot = 0.0
            for j in range(k + 1, n):
                dot += v[j] * h[i, j]
            for j in range(k + 1, n):
                h[i, j] -= scale * dot * v[j]
        for i in range(k + 2, n):
            h[i, k] = 0.0


@kernel
def _sweep(h: NDArray[np.float64], start: int, last: int, shift: float) -> None:
    """One QR step, H - shift = Q R, then R Q + shift, by rotations in rows and columns start to last."""
    n = last + 1
    cosines, sines = np.empty(n), np.empty(n)
    for k in range(start, n):
        h[k, k] -= shift
    for k in range(start, last):
        radius = np.sqrt(h[k, k] ** 2 + h[k + 1, k] ** 2)
        cosines[k], sines[k] = (h[k, k] / radius, h[k + 1, k] / radius) if radius else (1.0, 0.0)
        for j in range(k, n):
            upper, lower = h[k, j], h[k + 1, j]
            h[k, j] = cosines[k] * upper + sines[k] * lower
            h[k + 1, j] = cosines[k] * lower - sines[k] * upper
    for k in range(start, last):
        for i in range(start, min(k + 2, last) + 1):
            left, right = h[i, k], h[i, k + 1]
            h[i, k] = cosines[k] * left + sines[k] * right
            h[i, k + 1] = cosines[k] * right - sines[k] * left
    for k in range(start, n):
        h[k, k] += shift
