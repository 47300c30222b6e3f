"""Grey values, resizing, and PNG and JPEG bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from skinkit.images.pixels import Array


# ------------------------------------------------------------------------------------------- pixels to pixels
def grey(rgb: Array) -> Array:
    """ITU-R 601 luma as uint8 (H, W), exactly Pillow's ``L``: (19595 R + 38470 G + 7471 B + 32768) >> 16."""
    return np.asarray(Image.fromarray(rgb).convert("L"))


def resize(rgb: Array, size: tuple[int, int]) -> Array:
    """Pixels (uint8 or bool) resized to (width, height): bilinear with antialiasing, nearest for masks."""
    if rgb.dtype == np.bool_:
        return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.NEAREST))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))


def png_bytes(array: Array) -> bytes:
    """A PNG of a mask (bool, 0 or 255), grey (H, W) or RGB (H, W, 3) picture; the same pixels give the same bytes."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    return _encoded(array, format="PNG", compress_level=6)


def jpeg_bytes(rgb: Array, quality: int = 85) -> bytes:
    """A JPEG of an RGB picture, quality 1 to 95, without any metadata."""
    return _encoded(rgb, format="JPEG", quality=quality, optimize=True)


def _encoded(array: Array, **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(sink, **options)
    return sink.getvalue()
