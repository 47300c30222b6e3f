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

Flags record conversions: ``turned`` (by EXIF), ``first_page`` or ``largest_page`` (TIFF), ``alpha_on_white``,
``alpha_ignored``, ``cmyk``, ``sixteen_bit``, ``fewer_bits``, ``metadata_damaged``,
``float_scaled``, ``converted_from_...`` and ``profile_ignored`` (``skinkit.images.colour``).
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, _imaging

from skinkit.artifacts.file_names import as_text
from skinkit.errors import CaseError
from skinkit.images.colour import IGNORED, to_srgb
from skinkit.images.completeness import (
    FORMATS,
    JPEG,
    checksums_fit,
    corner_is_flat,
    format_of,
    is_cut,
    png_without_notes,
    stops_early,
)
from skinkit.images.dicom import dicom_rgb, is_dicom
from skinkit.images.encode import grey
from skinkit.images.pixels import (
    DAMAGE,
    INVERSE,
    MAX_PIXELS,
    SQUARE,
    Array,
    bits_of,
    by_strips,
    check_size,
    finite_range,
    read_bytes,
    upright,
)

_SIZES_MAY_LIE = ("BMP", "TIFF")  # their decoders notice missing pixels themselves
_ANIMATED = ("GIF", "WEBP", "PNG")
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
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
    with opened(data, [], complete=complete) as image:
        if image.format in JPEG and not complete and stops_early(data, image):
            raise CaseError("image_truncated", "the JPEG ends before its picture does")
        turn = orientation_of(image)
        if image.mode in ("L", "RGB") and not image.has_transparency_data and not image.info.get("icc_profile"):
            return upright(np.asarray(image if image.mode == "L" else image.convert("L")), turn)
        return grey(upright(_to_rgb(image, [], data), turn))


def read_mask(path: Path, *, sha256: str = "") -> Array:
    """A mask that skinkit wrote, as bool (H, W): 128 and more is lesion.

    Masks drawn by people are read by :func:`skinkit.images.drawn_masks.read_drawn_mask`.

    Args:
        path: a grey picture.
        sha256: hash that the file had when it was written.

    Raises:
        CaseError: the reasons of :func:`read_rgb` with ``mask_`` for ``image_``; ``mask_changed`` where the hash
            differs.
    """
    try:
        data = read_bytes(path)
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise CaseError("image_changed", f"{as_text(path.name)} is not the file that was written")
        mask: Array = luma(data) >= 128
    except CaseError as error:
        raise CaseError(error.reason.replace("image_", "mask_", 1), error.detail) from None
    return mask


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
    with opened(data, flags, complete=complete) as image:
        turn = orientation_of(image)
        rgb = upright(_to_rgb(image, flags, data), turn)
        if turn != 1:
            flags.append("turned")
        if _is_oblong(image):
            flags.append("pixels_not_square")
        if complete:
            return rgb, tuple(flags)
        if image.format in JPEG and (thorough or corner_is_flat(rgb, turn)) and stops_early(data, image):
            raise CaseError("image_truncated", "the JPEG ends before its picture does")
    return rgb, tuple(flags)


@contextmanager
def opened(data: bytes, flags: list[str], *, complete: bool = False) -> Iterator[Image.Image]:
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
            data = png_without_notes(data, flags)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                check_size(*image.size)
                frames = getattr(image, "n_frames", 1)
                if frames > 1 and image.format in _ANIMATED:
                    raise CaseError("image_multiframe", f"an animation of {frames} frames")
                if image.format == "TIFF":
                    flags.extend(_largest_page(image, frames))
                    check_size(*image.size)
                if not complete and image.format not in _SIZES_MAY_LIE and is_cut(data, str(image.format)):
                    raise CaseError("image_truncated", f"the {image.format} file ends too early")
                if not complete and image.format == "PNG" and not checksums_fit(data):
                    raise CaseError("image_unreadable", "the PNG's pixels are not those its checksum was made of")
                if image.format == "TIFF":
                    _quiet_libtiff()
                page, sixteen = image.tell(), any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
                image.load()
                if sixteen:
                    flags.append("sixteen_bit")
                if not image.info.get("icc_profile") and image.format in JPEG and b"ICC_PROFILE\0" in data:
                    flags.append(IGNORED)  # a piece of it is missing
                if sixteen and image.mode in ("RGB", "RGBA", "LA"):
                    _lift_low_values(image, data, page, flags)
                yield image
        except Image.DecompressionBombError:
            raise CaseError("image_too_large", f"more than {MAX_PIXELS} pixels") from None
        except UnidentifiedImageError:
            raise _unidentified(data) from None
        except DAMAGE as error:
            cut = "truncated" in str(error).lower() or isinstance(error, EOFError) or is_cut(data, format_of(data))
            reason = "image_truncated" if cut else "image_unreadable"
            raise CaseError(reason, f"{type(error).__name__}: {error}"[:200]) from None


def _largest_page(image: Image.Image, pages: int) -> list[str]:
    """Turn a TIFF to its largest page, the first of equal ones, and say what was done; transparency masks do not count.

    Raises:
        CaseError: ``image_unsupported``: a larger picture lies in a sub-directory, which is not read.
    """
    sizes = []
    for page in range(pages):
        image.seek(page)
        tags = image.tag_v2  # type: ignore[attr-defined]
        sizes.append(0 if int(tags.get(_SUBFILE, 0)) & _IS_MASK else image.width * image.height)
    largest = sizes.index(max(sizes))
    image.seek(largest)
    parts = image.tag_v2.get(_SUB_DIRECTORIES, ())  # type: ignore[attr-defined]
    for offset in parts if isinstance(parts, tuple) else (parts,):
        width, height = _directory_size(image.fp, int(offset), image.tag_v2._endian)  # type: ignore[attr-defined]
        if width * height > sizes[largest]:
            raise CaseError("image_unsupported", f"the picture of {width} x {height} is in a sub-directory of the TIFF")
    return [] if pages == 1 else ["largest_page" if largest else "first_page"]


_SUBFILE, _IS_MASK, _SUB_DIRECTORIES = 254, 4, 330
"""Tags NewSubfileType and SubIFDs of TIFF 6.0, and the bit of the former that marks a transparency mask."""


def _directory_size(stream: Any, offset: int, order: str) -> tuple[int, int]:
    """Width and height of a directory (IFD) of a TIFF; (0, 0) where it states none."""
    stream.seek(offset)
    head = stream.read(2)
    size = {256: 0, 257: 0}
    for _ in range(struct.unpack(order + "H", head)[0] if len(head) == 2 else 0):
        entry = stream.read(12)
        if len(entry) < 12:
            break
        tag, kind = struct.unpack(order + "HH", entry[:4])
        if tag in size and kind in (3, 4):
            size[tag] = struct.unpack(order + ("H" if kind == 3 else "I"), entry[8 : 10 if kind == 3 else 12])[0]
    return size[256], size[257]


def _lift_low_values(image: Image.Image, data: bytes, page: int, flags: list[str]) -> None:
    """Scale colours of 16 bits, of which Pillow keeps the high byte, where all values need fewer bits.

    Args:
        image: loaded; its pixels are replaced.
        data: the whole file.
        page: of the picture in it.
        flags: receives ``fewer_bits``.
    """
    declared = _declared_bits(image, data)
    high = np.asarray(image).astype(np.uint16)
    n_colours = high.shape[2] - (image.mode in ("RGBA", "LA"))
    if high[:, :, :n_colours].max(initial=0) >= 1 << max(min(declared, 15) - 8, 4):
        return
    with Image.open(io.BytesIO(data), formats=FORMATS) as again:
        again.seek(page)
        twin: Any = again
        swapped = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
        tiles = []
        for tile in twin.tile:
            mode, *rest = (tile.args,) if isinstance(tile.args, str) else tile.args
            other = f"{mode[:-1]}{swapped[mode[-1]]}"
            tiles.append(tile._replace(args=other if isinstance(tile.args, str) else (other, *rest)))
        twin.tile = tiles
        try:
            again.load()
        except ValueError:  # no such order in this mode: the values stay as dark as they are
            return
        colours = (high << 8 | np.asarray(again))[:, :, :n_colours]
    bits = bits_of(int(colours.max()), declared)
    if bits == 16:
        return
    flags.append("fewer_bits")
    lifted = np.asarray(image).copy()
    lifted[:, :, :n_colours] = np.rint(colours / ((1 << bits) - 1) * 255)
    image.paste(Image.fromarray(lifted, image.mode))


def _declared_bits(image: Image.Image, data: bytes) -> int:
    """Significant bits that a 16-bit file states: sBIT of PNG, MaxSampleValue of TIFF; 16 where it states none."""
    if image.format == "PNG":
        at = data.find(b"sBIT", 0, max(data.find(b"IDAT"), 0))
        return (
            min(max(data[at + 4 : at + 4 + int.from_bytes(data[at - 4 : at], "big")], default=16), 16) if at > 0 else 16
        )
    if image.format == "TIFF":
        highest = image.tag_v2.get(281, 0xFFFF)  # type: ignore[attr-defined]
        return min(int(max(highest) if isinstance(highest, tuple) else highest).bit_length(), 16)
    return 16


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
def _to_rgb(image: Image.Image, flags: list[str], data: bytes) -> Array:
    """A loaded picture as uint8 (H, W, 3) sRGB; ``data`` are its file's bytes."""
    profile = image.info.get("icc_profile") or b""
    if image.mode in SIXTEEN_BIT or image.mode in ("I", "F"):
        declared = _declared_bits(image, data)
        image = Image.fromarray(_eight_bit(np.asarray(image), flags, declared))
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
        if profile:
            rgba = Image.merge("RGBA", (*to_srgb(rgba.convert("RGB"), profile, flags).split(), rgba.getchannel("A")))
        alpha = np.asarray(rgba.getchannel("A"))
        if not alpha.any():  # written by programs that leave the alpha channel unfilled
            flags.append("alpha_ignored")
        elif alpha.min() < 255:
            flags.append("alpha_on_white")
            rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return np.asarray(rgba.convert("RGB"))
    if profile:
        image = to_srgb(image if image.mode in ("L", "CMYK") else image.convert("RGB"), profile, flags)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _eight_bit(values: Array, flags: list[str], declared: int) -> Array:
    """Grey values of 16 or 32 bits or floating point as uint8.

    16 bits keep their high byte (65535 -> 255), as Pillow does with 16-bit colour. Floating point in 0..1, 0..255 or
    0..65535 is scaled by that range; whole numbers of 32 bits likewise. ``declared`` are the significant bits that the
    file states.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        bits = bits_of(int(values.max(initial=0)), declared)
        if bits == 16:
            return (values >> 8).astype(np.uint8)
        flags.append("fewer_bits")
        return by_strips(lambda part: part / ((1 << bits) - 1), values)
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


def _is_oblong(image: Image.Image) -> bool:
    """Whether the file states another resolution across than down (pHYs of PNG, JFIF, TIFF)."""
    stated = next((image.info[key] for key in ("aspect", "dpi", "jfif_density") if image.info.get(key)), (1, 1))
    try:
        across, down = (float(value) for value in stated)
    except DAMAGE:
        return False
    return across > 0 and down > 0 and abs(across / down - 1) > SQUARE


def orientation_of(image: Image.Image) -> int:
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
