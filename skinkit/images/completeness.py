"""Whether a file holds its whole picture: magic numbers, JPEG markers, PNG checksums, flat corners."""

from __future__ import annotations

import io
import re
import zlib

from PIL import Image

from skinkit.images.colour import IGNORED
from skinkit.images.pixels import INVERSE, Array, row_strips, upright

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")
"""Pillow's names of the formats that are read. No other is opened: Pillow passes some (EPS) to other programs."""
JPEG = ("JPEG", "MPO")  # MPO is how Pillow calls a JPEG with further previews behind the photo


# ----------------------------------------------------------------------------------------- complete or truncated
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


_MAGIC = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP", b"BM": "BMP", b"II*\x00": "TIFF", b"MM\x00*": "TIFF"}


def format_of(data: bytes) -> str:
    """The format by the file's first bytes, or an empty string."""
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), "")


def is_cut(data: bytes, format_: str) -> bool:
    """Whether the file's own structure shows that bytes are missing at its end."""
    if format_ in JPEG:
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
    """Offset of the end-of-image marker of the first picture, or -1 without one."""
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


_LARGEST_PNG_NOTE = 1 << 20
"""Bytes of a profile or of XMP that Pillow unpacks; it refuses files with more."""
_PNG_NOTES = (b"tEXt", b"zTXt", b"iTXt")
_PNG_PICTURE = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
"""Chunks that decide what is seen, though a decoder may leave them out."""
_XMP = b"XML:com.adobe.xmp\0"
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(=['\"]|>)([1-8])")


def png_without_notes(data: bytes, flags: list[str]) -> bytes:
    """A PNG without text and without notes whose checksum is wrong, so that neither keeps its picture from being read.

    Of XMP the orientation is kept. A file that is no PNG, or one without such chunks, is answered as it is.

    Args:
        data: the whole file.
        flags: receives ``profile_ignored`` for an ICC profile of more than a megabyte or with a wrong checksum, and
            ``metadata_damaged`` for other chunks with one.
    """
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    kept: list[bytes] = []
    view, at, copied = memoryview(data), 8, 0
    while at + 12 <= len(data):
        name, end = data[at + 4 : at + 8], at + 8 + int.from_bytes(data[at : at + 4], "big")
        instead: bytes | None = None
        optional = bool(name[:1].islower()) and name not in _PNG_PICTURE
        if optional and zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            instead = b""
            if end + 4 <= len(data):
                flags.append(IGNORED if name == b"iCCP" else "metadata_damaged")
        elif name in _PNG_NOTES:
            instead = _orientation_note(data[at + 8 : end]) if name == b"iTXt" else b""
        elif name == b"iCCP" and _unpacked(data[at + 8 : end].partition(b"\0")[2][1:], _LARGEST_PNG_NOTE) is None:
            instead = b""
            flags.append(IGNORED)
        if instead is not None:
            kept += [data[copied:at], instead]
            copied = end + 4
        at = end + 4
    return b"".join([*kept, data[copied:]]) if kept else data


def _orientation_note(text: bytes) -> bytes:
    """An ``iTXt`` chunk with the orientation alone that XMP states; empty where it states none."""
    if not text.startswith(_XMP):
        return b""
    packed = text[len(_XMP) : len(_XMP) + 1] == b"\1"
    body = text[len(_XMP) + 2 :].split(b"\0", 2)[-1]
    unpacked = _unpacked(body, 64 * _LARGEST_PNG_NOTE) if packed else body
    found = _XMP_ORIENTATION.search(unpacked or b"")
    if not found:
        return b""
    content = b"iTXt" + _XMP + b'\0\0\0\0tiff:Orientation="' + found[2] + b'"'
    return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


def _unpacked(packed: bytes, most: int) -> bytes | None:
    """What zlib data unpack to; None where that is more than ``most`` bytes or the data are damaged."""
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(packed, most)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else plain


def checksums_fit(data: bytes) -> bool:
    """Whether the checksum of every pixel chunk of a PNG is correct; Pillow checks the other critical ones."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT" and zlib.crc32(view[at + 4 : end]) != int.from_bytes(
            view[end : end + 4], "big"
        ):
            return False
        at = end + 4
    return True


def corner_is_flat(rgb: Array, turn: int) -> bool:
    """Whether the last decoded corner has a single colour: a decoder that runs out of data repeats the last one."""
    corner = upright(rgb, INVERSE[turn])[-4:, -4:].reshape(-1, 3)
    return not (corner != corner[0]).any()


def stops_early(data: bytes, image: Image.Image) -> bool:
    """Whether a JPEG has its end marker but too little data before it, which the decoder does not report.

    The file is decoded again with noise inserted before the end marker, which a complete picture never reads. (A
    progressive JPEG cut exactly between two scans and closed by an end marker is a complete, coarser JPEG.)
    """
    end = _jpeg_end(data)
    padded = data[:end] + b"\x5a\xa5\x33" * 4096 + data[end:]
    with Image.open(io.BytesIO(padded), formats=FORMATS) as again:
        again.load()
        strips = row_strips(image.width, image.height)
        boxes = [(0, rows.start, image.width, rows.stop) for rows in strips]
        return any(image.crop(box).tobytes() != again.crop(box).tobytes() for box in boxes)
