"""DICOM photographs as RGB: photometric interpretations, palettes and windows."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skinkit.artifacts.file_names import as_text, on_disk
from skinkit.errors import CaseError
from skinkit.images.colour import srgb_array
from skinkit.images.dicom_codecs import StoredPixels, stored_pixels
from skinkit.images.pixels import (
    DAMAGE,
    MAX_PIXELS,
    SQUARE,
    Array,
    bits_of,
    by_strips,
    check_size,
    grey_to_rgb,
    read_bytes,
)


# ------------------------------------------------------------------------------------------------------- DICOM
def is_dicom(data: bytes) -> bool:
    """Whether the bytes are a DICOM file's, with the 128-byte preamble or (older archives) without."""
    if data[128:132] == b"DICM":
        return True
    return data[:2] in (b"\x02\x00", b"\x08\x00") and data[2:4] in (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x16\x00")


def _dicom_dataset(data: bytes) -> Any:
    """The pydicom data set of a DICOM file's bytes.

    Raises:
        CaseError: ``image_unreadable`` where it cannot be parsed.
    """
    import pydicom

    with _quiet_dicom():
        try:
            _check_inflated(data)
            return pydicom.dcmread(io.BytesIO(data), force=True)
        except _dicom_damage() as error:
            raise _damaged_dicom(error) from None


_DEFLATED = b"1.2.840.10008.1.2.1.99"


def _check_inflated(data: bytes) -> None:
    """Refuse a deflated data set larger than the image limit, before pydicom inflates all of it.

    The data set follows the file meta information, whose first element is its length (PS3.10, 7.1).
    """
    if data[128:132] != b"DICM" or _DEFLATED not in data[:1024]:
        return
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for start in range(144 + int.from_bytes(data[140:144], "little"), len(data), 1 << 16):
        size += len(unpacker.decompress(data[start : start + (1 << 16)]))
        if size > _MAX_INFLATED:
            raise CaseError("image_too_large", f"a deflated DICOM object of more than {_MAX_INFLATED} bytes")


_MAX_INFLATED = 6 * MAX_PIXELS
"""Bytes of the largest accepted picture, three channels of 16 bits."""


def dicom_tag(path: Path, keyword: str) -> str:
    """The text of one tag of a DICOM file's header, empty where it is absent.

    Raises:
        CaseError: the file is not DICOM, or cannot be read.
    """
    import pydicom

    path = on_disk(path)
    if not path.is_file():  # a pipe keeps its reader waiting
        raise CaseError("image_missing", f"{as_text(path.name)} is not a file")
    try:
        with path.open("rb") as stream:
            head = stream.read(1024)
    except OSError as error:
        raise CaseError("image_unreadable", f"{as_text(path.name)}: {error.strerror}") from None
    if not is_dicom(head):
        raise CaseError("image_unreadable", f"{as_text(path.name)} is no DICOM file")
    with _quiet_dicom():
        try:
            if _DEFLATED in head:
                _check_inflated(read_bytes(path))
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=[keyword])
            return str(header.get(keyword) or "").strip()
        except _dicom_damage() as error:
            raise _damaged_dicom(error) from None


def _dicom_damage() -> tuple[type[Exception], ...]:
    """Exceptions that pydicom raises on damaged bytes, when parsing or on first access to an element."""
    from pydicom import errors

    return (*DAMAGE, errors.InvalidDicomError, errors.BytesLengthException)


def _damaged_dicom(error: Exception) -> CaseError:
    text = str(error)
    cut = "less than expected" in text or "truncated" in text.lower()
    # Report only the type of the error: pydicom's message may quote the header, and so the patient.
    return CaseError("image_truncated" if cut else "image_unreadable", f"DICOM: {type(error).__name__}")


@contextmanager
def _quiet_dicom() -> Iterator[None]:
    """Suppress pydicom's warnings about unusual headers, which quote the patient's values."""
    import logging

    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def dicom_rgb(data: bytes, flags: list[str]) -> Array:
    """The one frame of a DICOM object as uint8 RGB (PS3.3 C.7.6.3, C.11.1, C.11.2)."""
    with _frame(data) as (dataset, stored):
        rgb = _dicom_shown(dataset, stored, flags)
        profile = None if stored.photometric.startswith("MONOCHROME") else dataset.get("ICCProfile")
        return srgb_array(rgb, bytes(profile), flags) if profile else rgb


def dicom_stored(data: bytes) -> Array:
    """The stored values of the one frame, (H, W), without window; a colour object as uint8 RGB (H, W, 3).

    The values of MONOCHROME1, which shows the highest as black, are counted from the other end.
    """
    with _frame(data) as (dataset, stored):
        if not stored.photometric.startswith("MONOCHROME"):
            return _dicom_shown(dataset, stored, [])
        _refuse_oblong(dataset)
        if stored.photometric == "MONOCHROME1":
            return np.asarray(((1 << stored.bits) - 1 - stored.values.astype(np.int64)).clip(min=0))
        return np.asarray(stored.values.clip(min=0))


@contextmanager
def _frame(data: bytes) -> Iterator[tuple[Any, StoredPixels]]:
    """Data set and stored pixels; pydicom's errors, here and in the block, are reasons."""
    dataset = _dicom_dataset(data)
    with _quiet_dicom():
        try:
            if "PixelData" not in dataset:
                if b"\xe0\x7f\x10\x00" in data:  # the tag is there, but its value is not complete
                    raise CaseError("image_truncated", "the DICOM file ends inside its pixel data")
                raise CaseError("image_without_pixels", "a DICOM object without pixel data")
            frames = int(dataset.get("NumberOfFrames") or 1)
            if frames > 1:
                raise CaseError("image_multiframe", f"a DICOM object of {frames} frames")
            check_size(int(dataset.Columns), int(dataset.Rows))
            yield dataset, stored_pixels(dataset)
        except Image.DecompressionBombError:  # the picture inside is larger than the header says
            raise CaseError("image_too_large", f"more than {MAX_PIXELS} pixels") from None
        except _dicom_damage() as error:
            raise _damaged_dicom(error) from None


def _dicom_shown(dataset: Any, stored: StoredPixels, flags: list[str]) -> Array:
    """Stored values for display: palette, or rescale and window; 8 bits."""
    _refuse_oblong(dataset)
    values, photometric, bits = stored
    if photometric in ("MONOCHROME1", "MONOCHROME2") and values.ndim == 2:
        if bits > 8:
            flags.append("sixteen_bit")
        return grey_to_rgb(_grey_shown(dataset, values, photometric, bits, flags))
    if photometric == "PALETTE COLOR" and values.ndim == 2:
        return _palette_shown(dataset, values)
    if photometric != "RGB" or values.ndim != 3 or values.shape[2] != 3:
        raise CaseError("image_unsupported", f"DICOM photometric interpretation {photometric}")
    if bits > 8:
        flags.append("sixteen_bit")
    if bits == 16 and (fewer := bits_of(int(values.max(initial=0)), bits)) < bits:
        flags.append("fewer_bits")
        bits = fewer
    return np.ascontiguousarray(values >> max(bits - 8, 0)).astype(np.uint8)


def _refuse_oblong(dataset: Any) -> None:
    """Refuse pixels that are not square: shapes would be measured wrongly, and masks are drawn on either grid."""
    for keyword in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        value = dataset.get(keyword)
        if value is None or isinstance(value, str) or len(value) != 2:
            continue
        down, across = (float(part) for part in value)
        if down > 0 and across > 0 and abs(down / across - 1) > SQUARE:
            raise CaseError("image_unsupported", f"pixels of {down:g}:{across:g} (height:width), which are not square")


def _grey_shown(dataset: Any, values: Array, photometric: str, bits: int, flags: list[str]) -> Array:
    """Monochrome values as uint8 (PS3.3 C.11.1, C.11.2)."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    ends = np.array([-(1 << bits - 1), (1 << bits - 1) - 1] if signed else [0, (1 << bits) - 1])
    by_table, window = bool(dataset.get("VOILUTSequence")), _window(dataset)
    if by_table:
        low, high = 0.0, float((1 << int(dataset.VOILUTSequence[0].LUTDescriptor[2])) - 1)
    elif window is not None:
        low, high = window
    elif dataset.get("ModalityLUTSequence"):
        low, high = 0.0, float((1 << int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])) - 1)
    else:
        if bits == 16 and not signed and (fewer := bits_of(int(values.max(initial=0)), bits)) < bits:
            flags.append("fewer_bits")  # nothing says that the other bits are not used
            ends = np.array([0, (1 << fewer) - 1])
        low, high = sorted(apply_modality_lut(ends, dataset).astype(np.float64).tolist())
    sigmoid = window is not None and not by_table and dataset.get("VOILUTFunction") == "SIGMOID"

    def share(part: Array) -> Array:
        display = apply_modality_lut(part, dataset)
        display = apply_voi_lut(display, dataset, prefer_lut=True) if by_table else display
        linear = (display.astype(np.float64) - low) / max(high - low, 1e-12)
        # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - centre) / width))
        white: Array = 1 / (1 + np.exp(np.clip(-4 * (linear - 0.5), -50, 50))) if sigmoid else np.clip(linear, 0, 1)
        return 1 - white if photometric == "MONOCHROME1" else white

    return by_strips(share, values)


def _palette_shown(dataset: Any, values: Array) -> Array:
    """Indices as the colours of their palette (PS3.3 C.7.6.3.1.5, C.7.9), by the bits its descriptor states."""
    from pydicom.pixels.processing import apply_color_lut

    descriptor = [int(value) for value in dataset.RedPaletteColorLookupTableDescriptor]
    entries, bits = (descriptor[0] & 0xFFFF) or 1 << 16, descriptor[2]
    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        colours = apply_color_lut(np.arange(entries, dtype=np.uint16) + descriptor[1], dataset)
    else:
        colours = np.stack([_palette(dataset, name, entries, bits) for name in ("Red", "Green", "Blue")], axis=1)
    first = descriptor[1] - (1 << 16 if descriptor[1] > 0x7FFF and int(dataset.PixelRepresentation) == 1 else 0)
    # Some write 8 bits under a descriptor of 16, or fill the high byte under one of 8.
    deep = colours.max(initial=0) > 255
    table = (colours >> 8 if deep else colours).astype(np.uint8)
    return np.ascontiguousarray(table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)])


def _palette(dataset: Any, colour: str, entries: int, bits: int) -> Array:
    """One colour of a palette, (entries,): bytes where the data have no more than one for an entry, else words."""
    data = dataset[f"{colour}PaletteColorLookupTableData"].value
    if not isinstance(data, bytes):  # words that pydicom has read
        return np.atleast_1d(np.asarray(data, dtype=np.uint16))[:entries]
    little = dataset.original_encoding[1] is not False
    kind = "u1" if bits <= 8 and len(data) < 2 * entries else "<u2" if little else ">u2"
    table = np.frombuffer(data, dtype=kind)[:entries].astype(np.uint16)
    if len(table) < entries:
        raise CaseError("image_truncated", "the DICOM palette ends too early")
    return table


def _window(dataset: Any) -> tuple[float, float] | None:
    """The values that the first window shows as black and as white (PS3.3 C.11.2.1.2); None without a whole one."""
    from pydicom.multival import MultiValue

    ends = [dataset.get("WindowCenter"), dataset.get("WindowWidth")]
    ends = [(value[0] if value else None) if isinstance(value, MultiValue) else value for value in ends]
    if any(value is None or value == "" for value in ends):
        return None
    centre, width = (float(value) for value in ends)
    if width <= 0:
        return None
    if dataset.get("VOILUTFunction") in ("LINEAR_EXACT", "SIGMOID"):
        return centre - width / 2, centre + width / 2
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
