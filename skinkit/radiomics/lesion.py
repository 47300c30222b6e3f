"""Inputs of the features: the lesion's bounding box, its channels, and the lesions that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from skinkit.errors import ConfigError, InputError, did_you_mean
from skinkit.images.lab import LINEAR, TO_XYZ
from skinkit.radiomics.compiled import kernel
from skinkit.radiomics.refusal import RadiomicsRefusal, refuse_unmeasurable

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS = ("grey", "red", "green", "blue", "lab_l", "lab_a", "lab_b")


def check_shapes(image: NDArray[np.generic], mask: NDArray[np.generic], channels: Sequence[str]) -> None:
    """Refuse a mask of another size; raise :class:`InputError` or :class:`ConfigError` for invalid arguments.

    Args:
        image: (H, W, 3) RGB of 8 bits, or (H, W) of any real type.
        mask: (H, W).
        channels: names from :data:`CHANNELS`.
    """
    for name in channels:
        if name not in CHANNELS:
            raise ConfigError(f"channel {name!r}", did_you_mean(name, CHANNELS), "name channels of this list")
    if image.ndim == 3 and not (image.shape[2] == 3 and image.dtype == np.uint8):
        raise InputError(
            f"an image of shape {image.shape} and type {image.dtype}",
            "(height, width, 3) RGB of type uint8, or (height, width)",
            "convert it with PIL: Image.open(FILE).convert('RGB')",
        )
    if image.ndim not in (2, 3) or image.dtype.kind not in "uifb":
        raise InputError(f"an image of shape {image.shape} and type {image.dtype}", "real numbers, 2-D", "convert it")
    if image.ndim == 2 and tuple(channels) != ("grey",):
        raise ConfigError(f"channels {', '.join(channels)} of a grey image", "a colour image", "leave 'channels' out")
    if mask.shape != image.shape[:2]:
        sizes = f"mask {mask.shape[1]}x{mask.shape[0]}" if mask.ndim == 2 else f"mask of shape {mask.shape}"
        raise RadiomicsRefusal(
            "mask_size_mismatch", f"{sizes}, image {image.shape[1]}x{image.shape[0]} (width, height)"
        )


def of_two_values(mask: NDArray[np.generic]) -> NDArray[np.bool_]:
    """A mask of any type as bool: the higher of its two values is lesion, and a single value where it is not 0.

    Raises:
        RadiomicsRefusal: ``mask_labels``, more than two values: which of them are the lesion is for the caller to say.
    """
    if mask.dtype.kind == "b" or not mask.size:
        return mask.astype(bool, copy=False)
    low, high = mask.min(), mask.max()
    if low == high:
        return np.asarray(mask != 0)
    if ((mask != low) & (mask != high)).any():
        raise RadiomicsRefusal(
            "mask_labels",
            f"values between {low} and {high}: give an array of bool, such as mask == 1 or mask >= 128",
        )
    return np.asarray(mask == high)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the lesion; refuses what PyRadiomics refuses.

    Raises:
        RadiomicsRefusal: the mask is empty, covers the frame, or is a pixel or a straight line.
    """
    top, bottom, left, right = _extent(np.ascontiguousarray(mask))
    height, width = bottom - top, right - left
    refuse_unmeasurable(height, width, whole=(height, width) == mask.shape and bool(mask.all()))
    return slice(top, bottom), slice(left, right)


@kernel
def _extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """First row, last row + 1, first column and last column + 1 of the lesion; all 0 where there is none."""
    height, width = mask.shape
    column = np.zeros(width, dtype=np.bool_)
    top, bottom, left, right = 0, 0, 0, 0
    for y in range(height):
        row, occupied = mask[y], False
        for x in range(width):
            occupied |= row[x]
            column[x] |= row[x]
        if occupied:
            top = y if bottom == 0 else top
            bottom = y + 1
    for x in range(width):
        if column[x]:
            left = x if right == 0 else left
            right = x + 1
    return top, bottom, left, right


def refuse_not_finite(grey: NDArray[np.generic], mask: NDArray[np.bool_]) -> None:
    """Refuse NaN and infinity inside the lesion."""
    if grey.dtype.kind == "f" and not np.isfinite(grey[mask]).all():
        raise RadiomicsRefusal("image_not_finite", "the image has NaN or infinity inside the mask")


def split_channels(image: NDArray[np.generic], channels: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """The named channels of an image, each (H, W), in this order; 8-bit if the image has 8 bits.

    ``grey`` is ITU-R 601 luma in fixed point, exactly what PIL calls ``L``. ``lab_*`` are CIE L*a*b* (sRGB, D65)
    rounded to 8 bits, so that one bin width suits every channel: L* * 255 / 100, a* + 128, b* + 128.

    Args:
        image: (H, W, 3) RGB of type uint8, or (H, W).
        channels: names from :data:`CHANNELS`.
    """
    if image.ndim == 2:
        return dict.fromkeys(channels, image)
    rgb = np.ascontiguousarray(image, dtype=np.uint8)
    planes: dict[str, NDArray[np.generic]] = {}
    if "grey" in channels:
        planes["grey"] = _luma(rgb)
    for index, name in enumerate(("red", "green", "blue")):
        if name in channels:
            planes[name] = np.ascontiguousarray(rgb[:, :, index])
    if not planes.keys() >= set(channels):
        planes["lab_l"], planes["lab_a"], planes["lab_b"] = _lab(rgb, LINEAR, TO_XYZ)
    return {name: planes[name] for name in channels}


@kernel
def _luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B, in fixed point with 16 bits, as PIL rounds it."""
    height, width, _ = rgb.shape
    luma = np.empty((height, width), dtype=np.uint8)
    for y in range(height):
        row, grey = rgb[y].reshape(3 * width), luma[y]
        for x in range(width):
            grey[x] = (row[3 * x] * 19595 + row[3 * x + 1] * 38470 + row[3 * x + 2] * 7471 + 32768) >> 16
    return luma


@kernel
def _lab(
    rgb: NDArray[np.uint8], linear: NDArray[np.float64], to_xyz: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """CIE 1976 L*a*b* of 8-bit sRGB, rounded to 8 bits (CIE 15:2004, section 8.2.1)."""
    height, width, _ = rgb.shape
    planes = np.empty((3, height, width), dtype=np.uint8)
    f = np.empty(3)
    for y in range(height):
        for x in range(width):
            for k in range(3):
                t = 0.0
                for c in range(3):
                    t += to_xyz[k, c] * linear[rgb[y, x, c]]
                f[k] = np.cbrt(t) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29
            scaled = (116 * f[1] - 16) * 2.55, 500 * (f[0] - f[1]) + 128, 200 * (f[1] - f[2]) + 128
            for k, value in enumerate(scaled):
                planes[k, y, x] = min(max(round(value), 0), 255)
    return planes[0], planes[1], planes[2]
