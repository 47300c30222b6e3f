"""Reading bytes safely, and arrays of pixels worked on a strip at a time."""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from skinkit.artifacts.file_names import as_text, on_disk
from skinkit.errors import NO_CASE_TO_BLAME, CaseError

MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
SQUARE = 0.01
"""Relative difference of a pixel's sides up to which it is square."""
_STRIP_PIXELS = 1 << 20
"""Pixels converted to floating point at once, at 8 bytes each."""
# Exceptions that Pillow's and pydicom's parsers raise on damaged bytes, without MemoryError and KeyboardInterrupt.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    NotImplementedError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip

Array = np.ndarray[Any, Any]


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        CaseError: ``image_missing``, ``image_empty``, ``image_too_large``, ``image_changed`` or ``image_unreadable``
            (no permission, a failing disk).
    """
    path = on_disk(path)
    name = as_text(path.name)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before it is opened: a pipe keeps its reader waiting
            raise CaseError("image_missing", f"{name} is not a file")
        with path.open("rb") as stream:
            before = os.fstat(stream.fileno())
            if before.st_size == 0:
                raise CaseError("image_empty", f"{name} has no bytes")
            if before.st_size > MAX_BYTES:
                raise CaseError("image_too_large", f"{name} has {before.st_size} bytes")
            data = stream.read(before.st_size + 1)  # one more than there should be, to notice that it grew
            after = os.fstat(stream.fileno())
    except OSError as error:
        if error.errno in NO_CASE_TO_BLAME:
            raise
        if error.errno in _NOT_THERE:
            raise CaseError("image_missing", f"{name} is not there") from None
        if isinstance(error, PermissionError):
            raise CaseError("image_unreadable", f"{name} may not be read by this user") from None
        raise CaseError("image_unreadable", f"{name}: {error.strerror}") from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise CaseError("image_changed", f"{name} was written to while it was read; it is read again next time")
    return data


_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def check_size(width: int, height: int) -> None:
    """Raise :class:`CaseError` (``image_too_large``) beyond :data:`MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise CaseError("image_too_large", f"{width} x {height} pixels; the limit is {MAX_PIXELS}")


def row_strips(width: int, height: int) -> Iterator[slice]:
    """Slices of rows with about a million pixels each."""
    step = max(1, _STRIP_PIXELS // max(1, width))
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


def finite_range(values: Array) -> tuple[float, float]:
    """Smallest and largest finite value; (0, 0) without one."""
    ends = [0.0, 0.0]
    any_finite = False
    for rows in row_strips(values.shape[1], values.shape[0]):
        finite = values[rows][np.isfinite(values[rows])]
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            ends = [min(ends[0], low), max(ends[1], high)] if any_finite else [low, high]
            any_finite = True
    return ends[0], ends[1]


def by_strips(share: Callable[[Array], Array], values: Array) -> Array:
    """(H, W) values as uint8 by a function to 0..1, applied by strips to save the memory of a float image."""
    out = np.empty(values.shape[:2], dtype=np.uint8)
    for rows in row_strips(values.shape[1], values.shape[0]):
        out[rows] = np.rint(share(values[rows]) * 255)
    return out


def bits_of(largest: int, declared: int) -> int:
    """Bits that the values of a 16-bit file have: those stated, if all values fit, else 8, 10 or 12 where all fit.

    A file that uses less than a sixteenth of its range holds values of fewer bits that were not scaled.
    """
    if largest == 0:
        return 16
    if largest < 1 << declared < 1 << 16:
        return declared
    return next((bits for bits in (8, 10, 12) if largest < 1 << bits), 16)


def grey_to_rgb(values: Array) -> Array:
    """(H, W) -> (H, W, 3), the same value in every channel."""
    return np.repeat(values[:, :, np.newaxis], 3, axis=2)


# ------------------------------------------------------------------------------------------------- orientation
INVERSE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


def upright(pixels: Array, orientation: int) -> Array:
    """Turn (H, W) or (H, W, 3) pixels by an EXIF orientation (Exif 2.3, table 6, tag 274)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
