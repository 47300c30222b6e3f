"""Whether a file holds its whole picture: magic numbers, JPEG markers, PNG checksums, flat corners."""

from __future__ import annotations

import io
import re
import zlib

from PIL import Image

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


def checksums_fit(data: bytes) -> bool:
    """Whether the checksum of every pixel chunk of a PNG is correct; Pillow checks the other chunks."""
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
