"""Masks drawn by people: which values of a file are the lesion.

Programs write masks in many ways, and nothing in a file says which. The rules are tried in this order, and none of them
depends on the largest value of the file:

1. One level: the whole picture is lesion where it is not 0. Two levels: the higher one is the lesion.
2. Floating point up to 1: above 0.5. (Whole numbers in floating point are read as integers.)
3. Values of the upper half of the range (128 to 255 of 8 bits) beside others: a soft mask, cut at the middle.
4. At most 16 levels of the lower half of which some form regions: labels. One must be chosen (:attr:`Reading.label`).
5. Anything else of the lower half is noise, and the mask is empty.

A mask that holds all four corners and leaves a hole is probably inverted and refused unless :attr:`Reading.polarity`
says how it is meant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skinkit.artifacts.file_names import as_text
from skinkit.errors import CaseError, listed
from skinkit.images.decode import SIXTEEN_BIT, opened, orientation_of
from skinkit.images.dicom import dicom_stored, is_dicom
from skinkit.images.encode import grey
from skinkit.images.mask_reading import AS_DRAWN, Reading
from skinkit.images.pixels import Array, read_bytes, upright

MOST = 0.9
"""Share of the photo from which a drawn mask is flagged ``fills_frame``."""
_MOST_LABELS = 16
_SAME_ASPECT = 1.05
_SMALLEST_HOLE = 1e-4
"""Share of the photo from which a hole can be the lesion of an inverted mask."""
_SAME_HUE = 0.95
"""Cosine from which two colours, seen from the background's, are shades of one."""


@dataclass(frozen=True)
class DrawnMask:
    """The file of a mask drawn by a person, and how its values are read."""

    path: Path
    reading: Reading = AS_DRAWN

    def read(self, size: tuple[int, int]) -> Array:
        """Bool (H, W) at a photo's (width, height); raises as :func:`read_drawn_mask`."""
        return read_drawn_mask(self.path, size, self.reading)[0]

    def __str__(self) -> str:
        return f"{self.path}" if self.reading == AS_DRAWN else f"{self.path} {self.reading}"


def read_drawn_mask(
    path: Path, size: tuple[int, int] | None = None, reading: Reading = AS_DRAWN, *, sha256: str = ""
) -> tuple[Array, tuple[str, ...]]:
    """A lesion mask as bool (H, W), and its flags.

    Args:
        path: a picture in any format of :func:`skinkit.images.decode.read_rgb`.
        size: (width, height) of the photo it belongs to. A mask that differs only in scale is resized (nearest).
        reading: which values are the lesion, where the file alone does not say.
        sha256: hash that the file had when it was first read.

    Raises:
        CaseError: the reasons of :func:`skinkit.images.decode.read_rgb` with ``mask_`` for ``image_``,
            ``mask_changed`` where the hash differs, ``mask_empty``, ``mask_labels``, ``mask_inverted`` or
            ``mask_size_mismatch``.
    """
    flags: list[str] = []
    try:
        data = read_bytes(path)
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise CaseError("image_changed", f"{as_text(path.name)} is not the file that was ingested")
        values, full = _values(data, reading, flags)
    except CaseError as error:
        raise CaseError(error.reason.replace("image_", "mask_", 1), error.detail) from None
    mask = _lesion(values, full, reading, flags)
    if not reading.polarity and _looks_inverted(mask):
        raise CaseError(
            "mask_inverted", "the mask holds all four corners and leaves a hole, so the skin is probably drawn"
        )
    mask = at_size(mask, size, flags)
    if not mask.any():
        raise CaseError("mask_empty", "the mask has no lesion pixel")
    if mask.mean() > MOST:
        flags.append("fills_frame")
    return mask, tuple(dict.fromkeys(flags))


def at_size(mask: Array, size: tuple[int, int] | None, flags: list[str]) -> Array:
    """A mask (H, W) resized to (width, height) where only the scale differs.

    Raises:
        CaseError: ``mask_size_mismatch``.
    """
    height, width = mask.shape
    if size is None or size == (width, height):
        return mask
    # The rescaled height must agree within one pixel of the coarser picture, which means little for a tiny one.
    across, down = width * size[1], height * size[0]
    if abs(across - down) > max(width, height, *size) or max(across, down) > _SAME_ASPECT * min(across, down):
        raise CaseError("mask_size_mismatch", f"mask is {width} x {height}, image is {size[0]} x {size[1]}")
    flags.append("mask_scaled")
    resized: Array = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return resized


# -------------------------------------------------------------------------------------------- values to lesion
def _lesion(values: Array, full: int, reading: Reading, flags: list[str]) -> Array:
    """The lesion by the rules of this module's docstring.

    Args:
        values: (H, W) whole numbers, or floating point.
        full: the largest value that the file's kind can hold; 1 for floating point.
        reading: label and polarity.
        flags: receives ``mask_soft``.
    """
    values, full = _whole_numbers(values, full)
    levels = _levels(values)
    if reading.label is not None:
        if reading.label not in levels:
            raise CaseError("mask_labels", f"no label {reading.label}; the mask has {_counted(values, levels)}")
        chosen: Array = values == reading.label
        return chosen
    middle = 0.5 if values.dtype.kind == "f" else (full + 1) // 2
    if len(levels) == 1:
        light = values > 0
    elif len(levels) == 2:
        light = values == levels[1]
    elif levels[-1] >= middle:
        light = values > middle if values.dtype.kind == "f" else values >= middle
        flags.append("mask_soft")
    else:
        raise _neither(values, levels)
    return ~light if reading.polarity == "dark" else light


def _whole_numbers(values: Array, full: int) -> tuple[Array, int]:
    """Floating point as integers where it holds whole numbers above 1; other values beyond 0 to 1 are refused."""
    if values.dtype.kind != "f":
        return values, full
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 1 < high <= 0xFFFFFFFF and not (values % 1).any():
        return values.astype(np.int64), full_range(int(high))
    # Bicubic resampling of a mask of 0 and 1 goes beyond both.
    if low >= -0.5 and high <= 1.5:
        return values, full
    if low >= 0 and 128 <= high <= 255:
        return np.rint(values).astype(np.uint8), 255
    raise CaseError("mask_unsupported", f"fractions from {low:g} to {high:g}; expected 0 to 1")


def full_range(largest: int) -> int:
    """The largest value of 8, 16 or 32 bits, by the fewest that hold a value; a file in more bits than it needs."""
    return next(full for full in (0xFF, 0xFFFF, 0xFFFFFFFF) if largest <= full)


def _levels(values: Array) -> Array:
    """The different values, in ascending order."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return np.flatnonzero(np.bincount(values.ravel()))
    return np.unique(values)


def _neither(values: Array, levels: Array) -> CaseError:
    """Why a mask without the higher values of its range cannot be used: labels, or noise."""
    inside = [level for level in levels.tolist() if level != 0]
    if (
        values.dtype.kind != "f"
        and len(inside) <= _MOST_LABELS
        and any(_forms_region(values == level) for level in inside)
    ):
        return CaseError("mask_labels", f"the mask has {_counted(values, inside)}; say which is the lesion")
    return CaseError("mask_empty", f"values from {levels[0]:g} to {levels[-1]:g} form no region: noise")


def _counted(values: Array, levels: Sequence[Any] | Array) -> str:
    """Labels with their numbers of pixels."""
    counted = ((int(level), int((values == level).sum())) for level in levels[: _MOST_LABELS + 1] if level != 0)
    return "labels " + listed((f"{level} ({n:,} px)" for level, n in counted), most=_MOST_LABELS)


def _forms_region(mask: Array) -> bool:
    """Whether pixels of a level touch others of it more often than scattered ones would.

    Of the four neighbours of a pixel, scattered pixels that cover a share p of the picture have p of their own kind, a
    solid region nearly all and a line one pixel wide a half. A third of the way from p to 1 decides.
    """
    area = int(mask.sum())
    if area < 2:
        return False
    touching = int((mask[:, 1:] & mask[:, :-1]).sum()) + int((mask[1:] & mask[:-1]).sum())
    by_chance = area / mask.size
    return touching / (2 * area) - by_chance >= (1 - by_chance) / 3


def _looks_inverted(mask: Array) -> bool:
    """Whether a mask holds all four corners and leaves a hole: off the frame, or in the middle ninth of the picture."""
    if not mask[:: max(1, mask.shape[0] - 1), :: max(1, mask.shape[1] - 1)].all() or mask.all():
        return False
    height, width = mask.shape
    if not mask[height // 3 : height - height // 3, width // 3 : width - width // 3].all():
        hole: Array = ~mask
        return bool(hole.sum() >= max(4, _SMALLEST_HOLE * mask.size))
    from scipy import ndimage

    labels, _ = ndimage.label(~mask)
    sizes = np.bincount(labels.ravel())
    sizes[[0, *np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))]] = 0
    return bool(sizes.max() >= max(4, _SMALLEST_HOLE * mask.size))


# ---------------------------------------------------------------------------------------------- files to values
def _values(data: bytes, reading: Reading, flags: list[str]) -> tuple[Array, int]:
    """The values of a mask, (H, W) upright, and the largest value that they could have."""
    if is_dicom(data):
        stored = dicom_stored(data)
        return _of_colours(stored, reading) if stored.ndim == 3 else (stored, full_range(int(stored.max())))
    with opened(data, []) as image:
        turn = orientation_of(image)
        if turn != 1:
            flags.append("mask_turned")
        if image.mode == "F":
            return upright(np.nan_to_num(np.asarray(image)), turn), 1
        if image.mode in SIXTEEN_BIT or image.mode == "I":
            values = np.maximum(np.asarray(image), 0)
            return upright(values, turn), full_range(int(values.max()))
        if image.has_transparency_data:
            values, full = _of_alpha(np.asarray(image.convert("RGBA")), flags)
            return upright(values, turn), full
        if image.mode in ("L", "1"):
            return upright(np.asarray(image.convert("L")), turn), 255
        colours = np.asarray(image.convert("RGB"))
        if image.mode == "P" and not _is_grey(colours) and len(_levels(np.asarray(image))) > 2:
            return upright(np.asarray(image), turn), 0xFFFFFFFF  # labels: their colours are for the eye
        values, full = _of_colours(colours, reading)
        return upright(values, turn), full


def _is_grey(rgb: Array) -> bool:
    return not (rgb[:, :, 1:] != rgb[:, :, :1]).any()


def _of_alpha(rgba: Array, flags: list[str]) -> tuple[Array, int]:
    """Values of a mask with transparency: colours on black, or alpha where the colours do not mark the lesion."""
    rgb, alpha = rgba[:, :, :3], rgba[:, :, 3]
    if not alpha.any() or (alpha == 255).all():
        return _of_colours(rgb)
    if len(np.unique(_codes(rgb)[alpha >= 128])) == 2:
        return _of_colours(np.where(alpha[:, :, np.newaxis] >= 128, rgb, np.uint8(0)))
    flags.append("mask_of_alpha")
    return alpha, 255


def _of_colours(rgb: Array, reading: Reading = AS_DRAWN) -> tuple[Array, int]:
    """Values of a coloured mask: its grey, the strength of its one colour, or labels written 0xRRGGBB.

    Raises:
        CaseError: ``mask_unsupported`` for a picture of many colours.
    """
    if _is_grey(rgb):
        return np.ascontiguousarray(rgb[:, :, 0]), 255
    codes = _codes(rgb)
    found, counts = np.unique(codes, return_counts=True)
    if reading.label is not None:
        return codes, 0xFFFFFFFF
    if len(found) == 2:
        both = np.array([[(int(code) >> shift) & 0xFF for shift in (16, 8, 0)] for code in found], np.uint8)
        first_is_lighter = int(grey(both[np.newaxis])[0, 0]) > int(grey(both[np.newaxis])[0, 1])
        return (codes == found[0 if first_is_lighter else 1]).astype(np.uint8) * np.uint8(255), 255
    few = len(found) <= _MOST_LABELS + 1
    if not few:  # colours of a lossy file, in steps of 32
        codes = _codes(rgb & 0xE0 | 0x10)
        found, counts = np.unique(codes, return_counts=True)
    background = 0 if few and found[0] == 0 else int(found[counts.argmax()])
    if _several_hues(codes, found[counts >= (1 if few else codes.size / 100)], background):
        if few:
            return codes, 0xFFFFFFFF
        raise CaseError("image_unsupported", "a picture of several colours, not a mask")
    dark = max(background >> shift & 0xFF for shift in (16, 8, 0)) < 128
    return (rgb.max(axis=2) if dark else grey(rgb)), 255


def _codes(rgb: Array) -> Array:
    """Colours as int32 0xRRGGBB, (H, W)."""
    red, green, blue = (rgb[:, :, channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _several_hues(codes: Array, found: Array, background: int) -> bool:
    """Whether regions have colours that are not shades between the background and one other colour."""
    regions = [int(code) for code in found if code != background and _forms_region(codes == code)]
    shifts = np.array([16, 8, 0])
    towards = (np.array(regions, np.int64)[:, np.newaxis] >> shifts & 0xFF) - (np.int64(background) >> shifts & 0xFF)
    lengths = np.linalg.norm(towards, axis=1)
    towards = towards[lengths > 64] / lengths[lengths > 64, np.newaxis]
    return len(towards) > 1 and bool((towards @ towards.T).min() < _SAME_HUE)
