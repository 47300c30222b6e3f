"""The only pixel I/O: decode safely, hash, resize, encode.

Whatever a camera, a phone or a hospital archive wrote becomes one thing: ``uint8 (H, W, 3)`` RGB, upright. The content
decides the type, never the file name. What cannot be decoded *completely* is a :class:`CaseError` with one of these
reasons; nothing is ever half-decoded in silence.

    image_missing         no such file, a link to nothing, or a folder, pipe or device of that name
    image_empty           zero bytes
    image_changed         the file was written to while it was read
    image_truncated       the file ends before its picture does
    image_unreadable      not a picture, or a damaged one
    image_unsupported     a picture of a kind that cannot be turned into RGB
    image_too_large       more than 100 megapixels or 1 GiB
    image_multiframe      an animation or a multi-frame DICOM
    image_without_pixels  a DICOM object without pixel data

Flags say what was done on the way: ``first_page`` (multi-page TIFF), ``alpha_on_white``, ``cmyk``, ``sixteen_bit``,
``float_scaled``. Colour profiles are not applied: the numbers in the file are the numbers measured.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import os
import re
import stat
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, _imaging

from skinkit.errors import NO_CASE_TO_BLAME, CaseError
from skinkit.file_names import as_text, on_disk

MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
_STRIP_PIXELS = 1 << 20
"""Pixels that are worked on at once in floating point, which takes 8 bytes for each."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")
"""Pillow's names of what is read. Nothing else is opened: Pillow hands some kinds (EPS) to other programs."""
_JPEG = ("JPEG", "MPO")  # MPO is how Pillow calls a JPEG with further previews behind the photo
_SIZES_MAY_LIE = ("BMP", "TIFF")  # their decoders notice missing pixels themselves
_ANIMATED = ("GIF", "WEBP", "PNG")
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
# What Pillow's and pydicom's parsers raise on damaged bytes. MemoryError and KeyboardInterrupt are not among them.
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    NotImplementedError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip
_OTHER_KINDS = {
    b"%PDF": "a PDF document", b"8BPS": "a Photoshop document", b"PK\x03\x04": "a ZIP or Office file",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000", b"\xff\x0a": "JPEG XL",
    b"<svg": "SVG", b"II\xbc\x01": "JPEG XR",
}  # fmt: skip

Array = np.ndarray[Any, Any]


# --------------------------------------------------------------------------------------------------- reading


def read_rgb(path: Path) -> Array:
    """The picture as uint8 (H, W, 3), upright.

    Raises:
        CaseError: it cannot be decoded completely; the reasons stand at the top of this module.
    """
    return read_image(path)[0]


def read_image(path: Path) -> tuple[Array, tuple[str, ...]]:
    """The picture as uint8 (H, W, 3), upright, and the flags of what was done to it; checked thoroughly.

    Raises:
        CaseError: as :func:`read_rgb`.
    """
    return decode(read_bytes(path), thorough=True)


def read_luma(path: Path, *, sha256: str = "") -> Array:
    """ITU-R 601 luma of the picture as uint8 (H, W), upright: ``grey(read_rgb(path))``, without RGB in between.

    Args:
        path: the file.
        sha256: hash of a file that was read thoroughly before; bytes that still have it are known to be complete and
            are not decoded a second time.

    Raises:
        CaseError: as :func:`read_rgb`.
    """
    data = read_bytes(path)
    return luma(data, complete=bool(sha256) and hashlib.sha256(data).hexdigest() == sha256)


def luma(data: bytes, *, complete: bool = False) -> Array:
    """ITU-R 601 luma of the bytes of an image file, as :func:`read_luma`; ``complete`` as in :func:`decode`."""
    if is_dicom(data):
        return grey(_dicom_rgb(data, []))
    with _opened(data, [], complete=complete) as image:
        if image.format in _JPEG and not complete and _stops_early(data, image):
            raise CaseError("image_truncated", "the JPEG ends before its picture does")
        turn = _orientation(image)
        if image.mode in ("L", "RGB") and not image.has_transparency_data:
            return _upright(np.asarray(image if image.mode == "L" else image.convert("L")), turn)
        return grey(_upright(_to_rgb(image, []), turn))


def read_mask(path: Path, size: tuple[int, int] | None = None, *, sha256: str = "") -> Array:
    """A lesion mask as bool (H, W): more than half of the file's largest value is lesion.

    Args:
        path: a picture of any kind :func:`read_rgb` reads; transparent pixels are background.
        size: (width, height) of the image it belongs to. A mask that differs in scale alone is resized (nearest).
        sha256: hash that the file had when it was written or first read.

    Raises:
        CaseError: the reasons of :func:`read_rgb` with ``mask_`` for ``image_``, or ``mask_size_mismatch``; a file
            that has another hash is ``mask_changed``.
    """
    try:
        data = read_bytes(path)
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise CaseError("image_changed", f"{as_text(path.name)} is not the file that was written")
        values = _mask_values(data)
    except CaseError as error:
        raise CaseError(error.reason.replace("image_", "mask_", 1), error.detail) from None
    mask = _upper_half(values)
    height, width = mask.shape
    if size is None or size == (width, height):
        return mask
    # Only the scale may differ: the other side, scaled, must come out within one pixel of the coarser picture.
    if abs(width * size[1] - height * size[0]) > max(width, height, *size):
        raise CaseError("mask_size_mismatch", f"mask is {width} x {height}, image is {size[0]} x {size[1]}")
    resized: Array = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return resized


def _upper_half(values: Array) -> Array:
    """Where values exceed half of the largest, (H, W) bool; nowhere in a picture without any."""
    largest = values.max() if values.size else 0
    if largest <= 0:
        return np.zeros(values.shape, dtype=bool)
    # Whole numbers stay what they are: compared with a fraction, each would become a float first.
    exceeds: Array = values > (largest // 2 if values.dtype.kind == "u" else largest / 2)
    return exceeds


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


def decode(data: bytes, *, thorough: bool = False, complete: bool = False) -> tuple[Array, tuple[str, ...]]:
    """Bytes of an image file as uint8 (H, W, 3), upright, and the flags of what was done.

    Args:
        data: the whole file.
        thorough: decode every JPEG twice, to be sure that data before a forged or misplaced end marker are complete;
            otherwise that is done where the last corner looks as if they were not.
        complete: these very bytes were read before, so their end need not be looked for.

    Raises:
        CaseError: as :func:`read_rgb`.
    """
    flags: list[str] = []
    if is_dicom(data):
        return _dicom_rgb(data, flags), tuple(flags)
    with _opened(data, flags, complete=complete) as image:
        turn = _orientation(image)
        rgb = _upright(_to_rgb(image, flags), turn)
        if complete:
            return rgb, tuple(flags)
        if image.format in _JPEG and (thorough or _corner_is_flat(rgb, turn)) and _stops_early(data, image):
            raise CaseError("image_truncated", "the JPEG ends before its picture does")
    return rgb, tuple(flags)


@contextmanager
def _opened(data: bytes, flags: list[str], *, complete: bool = False) -> Iterator[Image.Image]:
    """A loaded Pillow image; Pillow's errors become reasons and its warnings stay inside.

    Args:
        data: the whole file.
        flags: what was done is added here.
        complete: the file is known to be complete, so its end need not be looked for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _check_size(*_webp_canvas(data))  # whose decoder takes its memory when it is opened
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(*image.size)
                frames = getattr(image, "n_frames", 1)
                if frames > 1 and image.format in _ANIMATED:
                    raise CaseError("image_multiframe", f"an animation of {frames} frames")
                if frames > 1 and image.format == "TIFF":
                    flags.append("first_page")
                if not complete and image.format not in _SIZES_MAY_LIE and _is_cut(data, str(image.format)):
                    raise CaseError("image_truncated", f"the {image.format} file ends too early")
                if not complete and image.format == "PNG" and not _checksums_fit(data):
                    raise CaseError("image_unreadable", "the PNG's pixels are not those its checksum was made of")
                if image.format == "TIFF":
                    _quiet_libtiff()
                sixteen = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
                image.load()
                if sixteen:
                    flags.append("sixteen_bit")
                yield image
        except Image.DecompressionBombError:
            raise CaseError("image_too_large", f"more than {MAX_PIXELS} pixels") from None
        except UnidentifiedImageError:
            raise _unidentified(data) from None
        except _DAMAGE as error:
            cut = "truncated" in str(error).lower() or isinstance(error, EOFError) or _is_cut(data, _kind(data))
            reason = "image_truncated" if cut else "image_unreadable"
            raise CaseError(reason, f"{type(error).__name__}: {error}"[:200]) from None


@cache
def _quiet_libtiff() -> None:
    """Keep libtiff from writing to stderr by itself, between the lines of the log; Pillow raises what it says."""
    library = ctypes.CDLL(_imaging.__file__)  # which finds the functions of the libraries it is linked with
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        if hasattr(library, name):
            getattr(library, name)(None)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise CaseError("image_too_large", f"{width} x {height} pixels; the limit is {MAX_PIXELS}")


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height that an extended WebP file declares (RFC 9649, 2.7); (0, 0) of anything else."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X":
        return 0, 0
    return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1


def _unidentified(data: bytes) -> CaseError:
    head = data[:32]
    for magic, kind in _OTHER_KINDS.items():
        if head.lstrip().startswith(magic):
            return CaseError("image_unsupported", f"the file is {kind}")
    if head[4:8] == b"ftyp":
        return CaseError("image_unsupported", "the file is HEIC, AVIF or a video; export it as JPEG or PNG")
    kind = _kind(data)
    if _is_cut(data, kind):
        return CaseError("image_truncated", f"the {kind} file ends too early")
    if kind == "TIFF":
        return CaseError("image_unsupported", "a TIFF of a kind that is not read, or a damaged one")
    return CaseError("image_unreadable", "the content is no image that is known")


# ----------------------------------------------------------------------------------------- complete or truncated

_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


_MAGIC = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP", b"BM": "BMP", b"II*\x00": "TIFF", b"MM\x00*": "TIFF"}


def _kind(data: bytes) -> str:
    """What the first bytes promise, or an empty string."""
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), "")


def _is_cut(data: bytes, format_: str) -> bool:
    """Whether the file's own structure says that bytes are missing at its end."""
    if format_ in _JPEG:
        return _jpeg_end(data) < 0
    if format_ == "PNG":
        return b"IEND" not in data
    if format_ == "WEBP":
        return len(data) < 12 or len(data) < int.from_bytes(data[4:8], "little") + 8
    if format_ == "BMP":
        return len(data) < int.from_bytes(data[2:6], "little")
    if format_ == "TIFF":
        return len(data) < int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big") + 6
    return False


def _jpeg_end(data: bytes) -> int:
    """Offset of the end-of-image marker of the first picture, or -1 where it never comes."""
    at = 2
    while match := _JPEG_MARKER.search(data, at):
        marker, at = data[match.end() - 1], match.end()
        if marker == 0xD9:
            return match.start()
        if marker in (0x01, 0xD8):
            continue
        # A segment with a length: skip it, so that a thumbnail inside does not count. Entropy-coded data follow SOS.
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return -1


def _checksums_fit(data: bytes) -> bool:
    """Whether every chunk of pixels in a PNG has the checksum that stands behind it; Pillow looks at the others."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT" and zlib.crc32(view[at + 4 : end]) != int.from_bytes(
            view[end : end + 4], "big"
        ):
            return False
        at = end + 4
    return True


def _corner_is_flat(rgb: Array, turn: int) -> bool:
    """Whether the last corner to be decoded is one colour: a decoder short of data repeats the last one it had."""
    corner = _upright(rgb, _INVERSE[turn])[-4:, -4:].reshape(-1, 3)
    return not (corner != corner[0]).any()


def _stops_early(data: bytes, image: Image.Image) -> bool:
    """Whether a JPEG has its end marker but too little data before it, of which the decoder says nothing.

    Decoded once more with noise put before the end marker: a complete picture does not read it. (A progressive JPEG cut
    exactly between two scans and given an end marker is a complete, coarser JPEG.)
    """
    end = _jpeg_end(data)
    padded = data[:end] + b"\x5a\xa5\x33" * 4096 + data[end:]
    with Image.open(io.BytesIO(padded), formats=FORMATS) as again:
        again.load()
        strips = _strips(image.width, image.height)
        boxes = [(0, rows.start, image.width, rows.stop) for rows in strips]
        return any(image.crop(box).tobytes() != again.crop(box).tobytes() for box in boxes)


# ------------------------------------------------------------------------------------------------ modes to RGB


def _to_rgb(image: Image.Image, flags: list[str]) -> Array:
    if image.mode in _SIXTEEN_BIT or image.mode in ("I", "F"):
        return _grey_to_rgb(_eight_bit(np.asarray(image), flags))
    if image.mode == "LAB":
        raise CaseError("image_unsupported", "a picture in CIE L*a*b*")
    if image.mode == "CMYK":
        flags.append("cmyk")
        if image.format in _JPEG and "adobe" not in image.info:
            # Pillow takes every CMYK JPEG for one of Adobe's, whose values are inverted; without their marker they
            # are not.
            image = Image.merge("CMYK", [band.point(lambda v: 255 - v) for band in image.split()])
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if int(np.asarray(rgba.getchannel("A")).min()) < 255:
            flags.append("alpha_on_white")
            rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return np.asarray(rgba.convert("RGB"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _eight_bit(values: Array, flags: list[str]) -> Array:
    """Grey values of 16 or 32 bits or floating point as uint8.

    16 bits keep their high byte (65535 -> 255), as Pillow does with 16-bit colour. Floating point in 0..1, 0..255 or
    0..65535 is scaled by that range; whole numbers of 32 bits likewise.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    low, high = _range(values)
    if low < 0 or high > 0xFFFFFFFF:
        raise CaseError("image_unsupported", f"grey values from {low:g} to {high:g}; expected 0 to 1, 255 or 65535")
    ranges = (1.0, 255.0, 65535.0, float(0xFFFFFFFF)) if values.dtype.kind == "f" else (255.0, 65535.0, 2.0**31 - 1)
    full = next(limit for limit in ranges if high <= limit)
    flags.append("float_scaled" if values.dtype.kind == "f" else "sixteen_bit")

    def scaled(part: Array) -> Array:
        share: Array = np.nan_to_num(part.astype(np.float64), nan=0.0, posinf=full, neginf=0.0) / full
        return share

    return _by_strips(scaled, values)


def _strips(width: int, height: int) -> Iterator[slice]:
    """Rows of a picture, a million pixels or so at a time."""
    step = max(1, _STRIP_PIXELS // max(1, width))
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


def _range(values: Array) -> tuple[float, float]:
    """Smallest and largest finite value; 0 and 0 where there is none."""
    ends = [0.0, 0.0]
    seen = False
    for rows in _strips(values.shape[1], values.shape[0]):
        known = values[rows][np.isfinite(values[rows])]
        if known.size:
            low, high = float(known.min()), float(known.max())
            ends = [min(ends[0], low), max(ends[1], high)] if seen else [low, high]
            seen = True
    return ends[0], ends[1]


def _by_strips(share: Callable[[Array], Array], values: Array) -> Array:
    """(H, W) values as uint8, each strip by a function to 0..1: floating point takes eight times the memory."""
    out = np.empty(values.shape[:2], dtype=np.uint8)
    for rows in _strips(values.shape[1], values.shape[0]):
        out[rows] = np.rint(share(values[rows]) * 255)
    return out


def _grey_to_rgb(values: Array) -> Array:
    return np.repeat(values[:, :, np.newaxis], 3, axis=2)


def _mask_values(data: bytes) -> Array:
    """Grey values of a mask, in whatever range the file has them."""
    if is_dicom(data):
        return grey(_dicom_rgb(data, []))
    with _opened(data, []) as image:
        turn = _orientation(image)
        if image.mode == "F":
            return _upright(np.nan_to_num(np.asarray(image)), turn)
        if image.mode in _SIXTEEN_BIT or image.mode == "I":
            return _upright(np.asarray(image), turn)
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            on_black = Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba)
            return _upright(np.asarray(on_black.convert("L")), turn)
        if image.mode == "L":
            return _upright(np.asarray(image), turn)
        return _upright(np.asarray(image.convert("RGB").convert("L")), turn)


# ------------------------------------------------------------------------------------------------- orientation

_INVERSE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 of a loaded image; 1 where there is none or it is damaged."""
    try:
        value = image.getexif().get(0x0112, 1)
    except _DAMAGE:
        return 1
    return value if value in _INVERSE else 1


def _upright(pixels: Array, orientation: int) -> Array:
    """Turn (H, W) or (H, W, 3) pixels by an EXIF orientation (Exif 2.3, table 6, tag 274)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


# ------------------------------------------------------------------------------------------------------- DICOM


def is_dicom(data: bytes) -> bool:
    """Whether these bytes begin a DICOM file, with the 128-byte preamble or (older archives) without."""
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
    """Refuse a deflated data set that is larger than any picture may be, before pydicom unpacks it whole.

    The data set begins behind the file's own header, whose length is its first element (PS3.10, 7.1).
    """
    if data[128:132] != b"DICM" or _DEFLATED not in data[:1024]:
        return
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for start in range(144 + int.from_bytes(data[140:144], "little"), len(data), 1 << 16):
        size += len(unpacker.decompress(data[start : start + (1 << 16)]))
        if size > _MAX_INFLATED:
            raise CaseError("image_too_large", f"a deflated DICOM object of more than {_MAX_INFLATED} bytes")


_MAX_INFLATED = 6 * MAX_PIXELS
"""Bytes of the largest picture, three channels of 16 bits."""


def dicom_tag(path: Path, keyword: str) -> str:
    """The text of one tag of a DICOM file's header, empty where it is not there.

    Raises:
        CaseError: the file is no DICOM, or cannot be read.
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
    """What pydicom raises on damaged bytes, at once or when an element is first looked at."""
    from pydicom import errors

    return (*_DAMAGE, errors.InvalidDicomError, errors.BytesLengthException)


def _damaged_dicom(error: Exception) -> CaseError:
    text = str(error)
    cut = "less than expected" in text or "truncated" in text.lower()
    # Only the kind of error is told: pydicom's words may quote the header, and so the patient.
    return CaseError("image_truncated" if cut else "image_unreadable", f"DICOM: {type(error).__name__}")


@contextmanager
def _quiet_dicom() -> Iterator[None]:
    """Keep pydicom's remarks on unusual headers off the screen: they quote values of the patient."""
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


def _dicom_rgb(data: bytes, flags: list[str]) -> Array:
    """The one frame of a DICOM object as uint8 RGB (PS3.3 C.7.6.3, C.11.1, C.11.2)."""
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
            _check_size(int(dataset.Columns), int(dataset.Rows))
            return _dicom_shown(dataset, *_dicom_pixels(dataset, data), flags)
        except Image.DecompressionBombError:  # the picture inside is larger than the header says
            raise CaseError("image_too_large", f"more than {MAX_PIXELS} pixels") from None
        except _dicom_damage() as error:
            raise _damaged_dicom(error) from None


def _dicom_pixels(dataset: Any, data: bytes) -> tuple[Array, str]:
    """Stored values (H, W) or (H, W, 3) and their photometric interpretation; YBR becomes RGB."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in dataset.file_meta:  # an old archive's file without a header
        implicit = bool(dataset.original_encoding[0])
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise CaseError("image_unsupported", f"DICOM transfer syntax {syntax.name}") from None
    if decoder.is_available:
        values, meta = decoder.as_array(dataset, raw=False)
        return values, str(meta["photometric_interpretation"])
    return _dicom_pixels_by_gdcm(data, dataset, str(syntax.name))


def _dicom_pixels_by_gdcm(data: bytes, dataset: Any, syntax: str) -> tuple[Array, str]:
    """Stored values decoded by SimpleITK's GDCM: JPEG lossless and JPEG-LS, which pydicom alone cannot."""
    import SimpleITK

    sitk: Any = SimpleITK
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.dcm"
        file.write_bytes(data)
        loud = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.GlobalWarningDisplayOff()
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        try:
            values = sitk.GetArrayFromImage(reader.Execute())[0]
        except RuntimeError:
            raise CaseError("image_unsupported", f"DICOM transfer syntax {syntax} could not be decoded") from None
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(loud)
    if values.ndim == 3:
        return values, "RGB"
    # GDCM has applied the rescale already: undo it, so that both ways go on from stored values.
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return np.rint((values - intercept) / slope).astype(np.int64), str(dataset.PhotometricInterpretation)


def _dicom_shown(dataset: Any, values: Array, photometric: str, flags: list[str]) -> Array:
    """Stored values as they are to be shown: palette, rescale and window applied, 8 bits."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

    stored = int(dataset.get("BitsStored") or 8)
    if photometric in ("MONOCHROME1", "MONOCHROME2"):
        signed = int(dataset.get("PixelRepresentation") or 0) == 1
        ends = np.array([-(1 << stored - 1), (1 << stored - 1) - 1] if signed else [0, (1 << stored) - 1])
        by_table = bool(dataset.get("VOILUTSequence"))
        if by_table:
            low, high = 0.0, float((1 << int(dataset.VOILUTSequence[0].LUTDescriptor[2])) - 1)
        elif dataset.get("WindowWidth") not in (None, ""):
            low, high = _window(dataset)
        elif dataset.get("ModalityLUTSequence"):
            low, high = 0.0, float((1 << int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])) - 1)
        else:
            low, high = sorted(apply_modality_lut(ends, dataset).astype(np.float64).tolist())

        def share(part: Array) -> Array:
            shown = apply_modality_lut(part, dataset)
            shown = apply_voi_lut(shown, dataset, prefer_lut=True) if by_table else shown
            white: Array = np.clip((shown.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
            return 1 - white if photometric == "MONOCHROME1" else white

        if stored > 8:
            flags.append("sixteen_bit")
        return _grey_to_rgb(_by_strips(share, values))
    if photometric == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        stored = values.dtype.itemsize * 8
    elif photometric not in ("RGB", "YBR_ICT", "YBR_RCT") or values.ndim != 3 or values.shape[2] != 3:
        raise CaseError("image_unsupported", f"DICOM photometric interpretation {photometric}")
    if stored > 8:
        flags.append("sixteen_bit")
    return np.ascontiguousarray(values[:, :, :3] >> max(stored - 8, 0)).astype(np.uint8)


def _window(dataset: Any) -> tuple[float, float]:
    """The values shown black and white by the first window (PS3.3 C.11.2.1.2)."""
    from pydicom.multival import MultiValue

    def first(value: Any) -> float:
        return float(value[0] if isinstance(value, MultiValue) else value)

    centre, width = first(dataset.WindowCenter), first(dataset.WindowWidth)
    if dataset.get("VOILUTFunction") == "LINEAR_EXACT":
        return centre - width / 2, centre + width / 2
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


# ------------------------------------------------------------------------------------------- pixels to pixels


def grey(rgb: Array) -> Array:
    """ITU-R 601 luma as uint8 (H, W), exactly Pillow's ``L``: (19595 R + 38470 G + 7471 B + 32768) >> 16."""
    return np.asarray(Image.fromarray(rgb).convert("L"))


def resize(rgb: Array, size: tuple[int, int]) -> Array:
    """Pixels (uint8 or bool) at another (width, height): bilinear with antialiasing, nearest for masks."""
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


# ---------------------------------------------------------------------------------------------- names and hashes

_SLUG_LENGTH = 80
_SAFE = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{_SLUG_LENGTH - 1}}}")


def slug(image_id: str) -> str:
    """A file stem for an id: ASCII letters, digits, '.', '_', '-', at most 80 characters.

    An id that already is one stays as it is; any other gets a hash of itself as suffix, so two ids never share a file.

    >>> slug("PAT_46_881_939"), slug("病人 1/左")
    ('PAT_46_881_939', '1-aabd998b24')
    """
    if _SAFE.fullmatch(image_id):
        return image_id
    suffix = "-" + hashlib.sha256(image_id.encode()).hexdigest()[:10]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", image_id).strip("._-")[: _SLUG_LENGTH - len(suffix)]
    return (stem or "image") + suffix


def dhash(rgb: Array) -> str:
    """64-bit difference hash, 16 hexadecimal digits: bit = a pixel of the 9 x 8 luma is brighter than its left one.

    Source: N. Krawetz, "Kind of Like That", 2013. Distances are Hamming distances of the bits.
    """
    small = np.asarray(Image.fromarray(rgb).convert("L").resize((9, 8), Image.Resampling.LANCZOS)).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def pixel_sha256(rgb: Array) -> str:
    """SHA-256 of width, height and pixels: equal for files that show exactly the same picture."""
    height, width = rgb.shape[:2]
    content = hashlib.sha256(f"{width}x{height}:".encode())
    content.update(np.ascontiguousarray(rgb).data)  # where it lies: a copy would cost as much as hashing
    return content.hexdigest()


# Pillow must refuse what is cut short, whatever another library of this process has set, and what is too large inside
# another file (a JPEG in a DICOM object); it does so at twice its limit.
ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
