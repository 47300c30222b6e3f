"""Grey values, resizing, and PNG and JPEG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

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


def shrunk(rgb: Array, longer_px: int, *, least_px: int = 1) -> Array:
    """Pixels with at most so many along the longer side, and at least ``least_px`` along the other."""
    height, width = rgb.shape[:2]
    scale = min(1.0, longer_px / max(height, width))
    return resize(rgb, (max(least_px, round(width * scale)), max(least_px, round(height * scale))))


def png_bytes(array: Array, text: Mapping[str, str] | None = None) -> bytes:
    """A PNG of a mask (bool, 0 or 255), grey (H, W) or RGB (H, W, 3) picture; the same pixels give the same bytes.

    Args:
        array: the picture.
        text: keyword -> what a text chunk of the file says.
    """
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if not text:
        return _encoded(array, format="PNG", compress_level=6)
    chunks = PngInfo()
    for keyword, value in text.items():
        chunks.add_text(keyword, value)
    return _encoded(array, format="PNG", compress_level=6, pnginfo=chunks)


def jpeg_bytes(rgb: Array, quality: int = 85) -> bytes:
    """A JPEG of an RGB picture, quality 1 to 95, without any metadata."""
    return _encoded(rgb, format="JPEG", quality=quality, optimize=True)


def _encoded(array: Array, **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(sink, **options)
    return sink.getvalue()
