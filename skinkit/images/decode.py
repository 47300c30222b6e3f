"""Decoding photos and masks safely.

Every supported file becomes upright RGB, ``uint8 (H, W, 3)``. The content decides the type, never the file name. A file
that cannot be decoded *completely* raises :class:`CaseError` with one of these reasons:

    image_missing         no such file, a broken link, or a folder, pipe or device of that name
    image_empty           zero bytes
    image_changed         the file was written to while it was read
    image_truncated       the file ends before its picture does
    image_unreadable      not a picture, or a damaged one
    image_unsupported     a picture that cannot be converted to RGB
    image_too_large       more than 100 megapixels or 1 GiB
    image_multiframe      an animation or a multi-frame DICOM
    image_without_pixels  a DICOM object without pixel data

Flags record conversions: ``first_page`` (multi-page TIFF), ``alpha_on_white``, ``cmyk``, ``sixteen_bit``,
``float_scaled``. Colour profiles are not applied: features are measured on the numbers in the file.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, _imaging

from skinkit.artifacts.file_names import as_text
from skinkit.errors import CaseError
from skinkit.images.completeness import FORMATS, JPEG, checksums_fit, corner_is_flat, format_of, is_cut, stops_early
from skinkit.images.dicom import dicom_rgb, is_dicom
from skinkit.images.encode import grey
from skinkit.images.pixels import (
    DAMAGE,
    INVERSE,
    MAX_PIXELS,
    Array,
    by_strips,
    check_size,
    finite_range,
    grey_to_rgb,
    read_bytes,
    upright,
)

_SIZES_MAY_LIE = ("BMP", "TIFF")  # their decoders notice missing pixels themselves
_ANIMATED = ("GIF", "WEBP", "PNG")
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_OTHER_KINDS = {
    b"%PDF": "a PDF document", b"8BPS": "a Photoshop document", b"PK\x03\x04": "a ZIP or Office file",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000", b"\xff\x0a": "JPEG XL",
    b"<svg": "SVG", b"II\xbc\x01": "JPEG XR",
}  # fmt: skip


# --------------------------------------------------------------------------------------------------- reading
def read_rgb(path: Path) -> Array:
    """The picture as uint8 (H, W, 3), upright.

    Raises:
        CaseError: it cannot be decoded completely, for a reason in this module's docstring.
    """
    return read_image(path)[0]


def read_image(path: Path) -> tuple[Array, tuple[str, ...]]:
    """The picture as uint8 (H, W, 3), upright, and the flags of its conversions; completeness is checked thoroughly.

    Raises:
        CaseError: as :func:`read_rgb`.
    """
    return decode(read_bytes(path), thorough=True)


def read_luma(path: Path, *, sha256: str = "") -> Array:
    """ITU-R 601 luma of the picture as uint8 (H, W), upright: ``grey(read_rgb(path))``, without RGB in between.

    Args:
        path: the file.
        sha256: hash from an earlier thorough read; bytes with this hash are complete and are not decoded twice.

    Raises:
        CaseError: as :func:`read_rgb`.
    """
    data = read_bytes(path)
    return luma(data, complete=bool(sha256) and hashlib.sha256(data).hexdigest() == sha256)


def luma(data: bytes, *, complete: bool = False) -> Array:
    """ITU-R 601 luma of the bytes of an image file, as :func:`read_luma`; ``complete`` as in :func:`decode`."""
    if is_dicom(data):
        return grey(dicom_rgb(data, []))
    with _opened(data, [], complete=complete) as image:
        if image.format in JPEG and not complete and stops_early(data, image):
            raise CaseError("image_truncated", "the JPEG ends before its picture does")
        turn = _orientation(image)
        if image.mode in ("L", "RGB") and not image.has_transparency_data:
            return upright(np.asarray(image if image.mode == "L" else image.convert("L")), turn)
        return grey(upright(_to_rgb(image, []), turn))


def read_mask(path: Path, size: tuple[int, int] | None = None, *, sha256: str = "") -> Array:
    """A lesion mask as bool (H, W): more than half of the file's largest value is lesion.

    Args:
        path: a picture in any format of :func:`read_rgb`; transparent pixels are background.
        size: (width, height) of the image it belongs to. A mask that differs only in scale is resized (nearest).
        sha256: hash that the file had when it was written or first read.

    Raises:
        CaseError: the reasons of :func:`read_rgb` with ``mask_`` for ``image_``, ``mask_size_mismatch``, or
            ``mask_changed`` where the hash differs.
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
    # Only the scale may differ: the rescaled height must agree within one pixel of the coarser picture.
    if abs(width * size[1] - height * size[0]) > max(width, height, *size):
        raise CaseError("mask_size_mismatch", f"mask is {width} x {height}, image is {size[0]} x {size[1]}")
    resized: Array = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return resized


def _upper_half(values: Array) -> Array:
    """Pixels that exceed half of the largest value, (H, W) bool; none where all values are 0."""
    largest = values.max() if values.size else 0
    if largest <= 0:
        return np.zeros(values.shape, dtype=bool)
    # Compare integers with an integer: a fractional threshold would convert every pixel to float.
    exceeds: Array = values > (largest // 2 if values.dtype.kind == "u" else largest / 2)
    return exceeds


def decode(data: bytes, *, thorough: bool = False, complete: bool = False) -> tuple[Array, tuple[str, ...]]:
    """Bytes of an image file as uint8 (H, W, 3), upright, and the flags of its conversions.

    Args:
        data: the whole file.
        thorough: decode every JPEG twice, to detect missing data before a forged or misplaced end marker; otherwise
            only where the last corner has a single colour.
        complete: the file is known to be complete, so that check is skipped.

    Raises:
        CaseError: as :func:`read_rgb`.
    """
    flags: list[str] = []
    if is_dicom(data):
        return dicom_rgb(data, flags), tuple(flags)
    with _opened(data, flags, complete=complete) as image:
        turn = _orientation(image)
        rgb = upright(_to_rgb(image, flags), turn)
        if complete:
            return rgb, tuple(flags)
        if image.format in JPEG and (thorough or corner_is_flat(rgb, turn)) and stops_early(data, image):
            raise CaseError("image_truncated", "the JPEG ends before its picture does")
    return rgb, tuple(flags)


@contextmanager
def _opened(data: bytes, flags: list[str], *, complete: bool = False) -> Iterator[Image.Image]:
    """A loaded Pillow image; Pillow's errors become reasons, its warnings are suppressed.

    Args:
        data: the whole file.
        flags: receives the flags of conversions.
        complete: the file is known to be complete, so that check is skipped.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check_size(*_webp_canvas(data))  # whose decoder takes its memory when it is opened
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                check_size(*image.size)
                frames = getattr(image, "n_frames", 1)
                if frames > 1 and image.format in _ANIMATED:
                    raise CaseError("image_multiframe", f"an animation of {frames} frames")
                if frames > 1 and image.format == "TIFF":
                    flags.append("first_page")
                if not complete and image.format not in _SIZES_MAY_LIE and is_cut(data, str(image.format)):
                    raise CaseError("image_truncated", f"the {image.format} file ends too early")
                if not complete and image.format == "PNG" and not checksums_fit(data):
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
        except DAMAGE as error:
            cut = "truncated" in str(error).lower() or isinstance(error, EOFError) or is_cut(data, format_of(data))
            reason = "image_truncated" if cut else "image_unreadable"
            raise CaseError(reason, f"{type(error).__name__}: {error}"[:200]) from None


@cache
def _quiet_libtiff() -> None:
    """Keep libtiff from writing to stderr, into the log; Pillow raises its errors anyway."""
    library = ctypes.CDLL(_imaging.__file__)  # which finds the functions of the libraries it is linked with
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        if hasattr(library, name):
            getattr(library, name)(None)


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height declared by an extended WebP file (RFC 9649, 2.7); (0, 0) for any other file."""
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
    kind = format_of(data)
    if is_cut(data, kind):
        return CaseError("image_truncated", f"the {kind} file ends too early")
    if kind == "TIFF":
        return CaseError("image_unsupported", "a TIFF of a kind that is not read, or a damaged one")
    return CaseError("image_unreadable", "the content is no image that is known")


# ------------------------------------------------------------------------------------------------ modes to RGB
def _to_rgb(image: Image.Image, flags: list[str]) -> Array:
    if image.mode in _SIXTEEN_BIT or image.mode in ("I", "F"):
        return grey_to_rgb(_eight_bit(np.asarray(image), flags))
    if image.mode == "LAB":
        raise CaseError("image_unsupported", "a picture in CIE L*a*b*")
    if image.mode == "CMYK":
        flags.append("cmyk")
        if image.format in JPEG and "adobe" not in image.info:
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
    low, high = finite_range(values)
    if low < 0 or high > 0xFFFFFFFF:
        raise CaseError("image_unsupported", f"grey values from {low:g} to {high:g}; expected 0 to 1, 255 or 65535")
    ranges = (1.0, 255.0, 65535.0, float(0xFFFFFFFF)) if values.dtype.kind == "f" else (255.0, 65535.0, 2.0**31 - 1)
    full = next(limit for limit in ranges if high <= limit)
    flags.append("float_scaled" if values.dtype.kind == "f" else "sixteen_bit")

    def scaled(part: Array) -> Array:
        share: Array = np.nan_to_num(part.astype(np.float64), nan=0.0, posinf=full, neginf=0.0) / full
        return share

    return by_strips(scaled, values)


def _mask_values(data: bytes) -> Array:
    """Grey values of a mask, in the file's own range."""
    if is_dicom(data):
        return grey(dicom_rgb(data, []))
    with _opened(data, []) as image:
        turn = _orientation(image)
        if image.mode == "F":
            return upright(np.nan_to_num(np.asarray(image)), turn)
        if image.mode in _SIXTEEN_BIT or image.mode == "I":
            return upright(np.asarray(image), turn)
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            on_black = Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba)
            return upright(np.asarray(on_black.convert("L")), turn)
        if image.mode == "L":
            return upright(np.asarray(image), turn)
        return upright(np.asarray(image.convert("RGB").convert("L")), turn)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 of a loaded image; 1 where it is absent or damaged."""
    try:
        value = image.getexif().get(0x0112, 1)
    except DAMAGE:
        return 1
    return value if value in INVERSE else 1


# Pillow must refuse what is cut short, whatever another library of this process has set, and what is too large inside
# another file (a JPEG in a DICOM object); it does so at twice its limit.
ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
