"""Remove what a photo says beside its pixels, without coding the pixels again.

A camera writes its serial number, the place and the time into a photo, some append a video or a second picture. All of
that goes; the orientation and the colour profile stay, because the picture looks otherwise without them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from skinkit.errors import CaseError

KINDS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
"""Format -> extension of the files that :func:`stripped` reads."""

_ICC = b"ICC_PROFILE\0"
_ADOBE, _JFIF = 0xEE, 0xE0
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT"))
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"ALPH", b"ICCP"))
_WEBP_EXIF, _WEBP_XMP, _WEBP_ANIMATED = 0x08, 0x04, 0x02


def kind_of(data: bytes) -> str:
    """``JPEG``, ``PNG`` or ``WEBP`` by the first bytes of a file; empty for any other."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == _PNG_HEAD:
        return "PNG"
    return "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def stripped(data: bytes, orientation: int) -> bytes:
    """The file with its pixels, colour profile and orientation alone.

    Args:
        data: a JPEG, PNG or WebP file.
        orientation: EXIF orientation, 1 to 8, that the file is to state.

    Raises:
        CaseError: ``image_unsupported``: another format. ``image_truncated``, ``image_unreadable``: its structure is
            damaged.
    """
    make = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}.get(kind_of(data))
    if make is None:
        raise CaseError("image_unsupported", "the photo is no JPEG, PNG or WebP")
    try:
        return make(data, orientation)
    except (IndexError, struct.error):
        raise CaseError("image_truncated", "the file ends before its picture does") from None


def exif_of(orientation: int) -> bytes:
    """A TIFF structure (EXIF 2.3) that states the orientation and nothing else."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


# ----------------------------------------------------------------------------------------------------- each format


def _jpeg(data: bytes, orientation: int) -> bytes:
    """ITU-T T.81, B.1: segments until the end of the image; what follows it is dropped."""
    out = [data[:2]]
    if orientation != 1:
        body = b"Exif\0\0" + exif_of(orientation)
        out.append(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise CaseError("image_unreadable", "a JPEG segment does not begin with a marker")
        marker = data[at + 1]
        if marker == 0xD9:
            return b"".join([*out, data[at : at + 2]])
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        end = at + 2 + length
        if length < 2 or end > len(data):
            raise CaseError("image_truncated", "a JPEG segment ends after the file")
        if marker == 0xDA:
            end = _end_of_scan(data, end)
        if _kept_in_jpeg(marker, data[at + 4 : at + 4 + len(_ICC)]):
            out.append(data[at:end])
        at = end


def _kept_in_jpeg(marker: int, head: bytes) -> bool:
    """Tables, frames and scans; of application segments the colour profile, JFIF's and Adobe's; no comment."""
    if marker == 0xFE:
        return False
    if 0xE0 <= marker <= 0xEF:
        own = {_JFIF: b"JFIF\0", _ADOBE: b"Adobe", 0xE2: _ICC}.get(marker)
        return own is not None and head.startswith(own)
    return True


def _end_of_scan(data: bytes, at: int) -> int:
    """Where the coded pixels end: at the next marker that is neither stuffing nor a restart."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise CaseError("image_truncated", "the JPEG ends within its pixels")
        following = data[at + 1]
        if following == 0xFF:
            at += 1
        elif following == 0 or 0xD0 <= following <= 0xD7:
            at += 2
        else:
            return at


def _png(data: bytes, orientation: int) -> bytes:
    """PNG, 3rd edition: critical chunks and those of colour; an orientation is an eXIf chunk before the pixels."""
    out, at, written = [data[:8]], 8, orientation == 1
    while True:
        length, name = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if end > len(data):
            raise CaseError("image_truncated", "a PNG chunk ends after the file")
        if name == b"IDAT" and not written:
            body = b"eXIf" + exif_of(orientation)
            out.append(struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)))
            written = True
        if name in _PNG_KEPT:
            out.append(data[at:end])
        if name == b"IEND":
            return b"".join(out)
        at = end


def _webp(data: bytes, orientation: int) -> bytes:
    """RFC 9649: the picture, its alpha and its profile; an orientation makes the file an extended one."""
    chunks = dict(_riff(data))
    if b"ANIM" in chunks or b"ANMF" in chunks:
        raise CaseError("image_multiframe", "an animation")
    head = chunks.get(b"VP8X")
    kept = [(name, body) for name, body in _riff(data) if name in _WEBP_KEPT]
    if head is None and orientation != 1:
        raise CaseError("image_unreadable", "a simple WebP file states no orientation")
    if head is not None:
        if len(head) != 10:
            raise CaseError("image_unreadable", "the head of the WebP file is damaged")
        flags = head[0] & ~(_WEBP_EXIF | _WEBP_XMP | _WEBP_ANIMATED)
        kept.insert(0, (b"VP8X", bytes([flags | (_WEBP_EXIF if orientation != 1 else 0)]) + head[1:]))
    if orientation != 1:
        kept.append((b"EXIF", exif_of(orientation)))
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for name, part in kept
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    end = min(len(data), 8 + struct.unpack("<I", data[4:8])[0])
    at = 12
    while at + 8 <= end:
        name, length = struct.unpack("<4sI", data[at : at + 8])
        if at + 8 + length > len(data):
            raise CaseError("image_truncated", "a WebP chunk ends after the file")
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
