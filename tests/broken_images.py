"""A corpus of image files as hospitals have them: sound ones of every kind, odd ones and broken ones, made here.

Every kind says what must come of it: the pixels it shows, or the reasons it may be refused with. No two show the same
picture, so that none is left out of a cohort as another's duplicate.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from image_files import TURNS, dicom, dicom_dataset, encoded, png_16, saved
from PIL import Image, ImageCms, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGBaseline8Bit, RLELossless

Pixels = np.ndarray[Any, Any]
WIDTH, HEIGHT = 96, 72
TRUNCATED, UNREADABLE, UNSUPPORTED = "image_truncated", "image_unreadable", "image_unsupported"
TOO_LARGE, SEVERAL = "image_too_large", "image_multiframe"


@dataclass(frozen=True)
class Kind:
    """One file.

    Attributes:
        data: its bytes.
        pixels: what it shows, upright (H, W, 3); None where any pixels will do.
        tolerance: mean difference of pixels that lossy coding may make.
        reasons: with which it may be refused; empty where it must be shown.
        shown_too: whether any pixels will do as well as a reason.
    """

    data: bytes
    pixels: Pixels | None = None
    tolerance: float = 0.0
    reasons: tuple[str, ...] = ()
    shown_too: bool = False


def lesion(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """A photo of a dark spot on skin, another one for each seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    a, b = rng.uniform(0.15, 0.3, 2) * (width, height)
    inside = ((columns - width * rng.uniform(0.4, 0.6)) / a) ** 2 + ((rows - height * rng.uniform(0.4, 0.6)) / b) ** 2
    photo = np.array([215.0, 170.0, 145.0]) + rng.normal(0, 5, (height, width, 1)) + 12 * (columns / width)[..., None]
    photo[inside <= 1] = np.array([90.0, 60.0, 50.0]) + rng.normal(0, 14, (int((inside <= 1).sum()), 1))
    return photo.clip(0, 255).astype(np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_chunk(png: bytes, more: bytes) -> bytes:
    """A PNG with one more chunk right behind its header."""
    return png[:33] + more + png[33:]


def _wrong(name: bytes, data: bytes) -> bytes:
    """A chunk whose checksum is not its own."""
    return chunk(name, data)[:-4] + b"\0\1\2\3"


def _wrong_header() -> bytes:
    png = encoded(lesion(1), "PNG")
    return patched(png, 29, b"\0\1\2\3")


def png_header(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """The beginning of a PNG file."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


def jpeg_frame(data: bytes) -> int:
    """Where the frame header (SOF) of a JPEG begins."""
    at = 2
    while not (0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC)):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def with_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = jpeg_frame(data) + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """Bytes with others written over them."""
    return data[:at] + new + data[at + len(new) :]


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment right behind its start."""
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def exif(**tags: Any) -> Image.Exif:
    """EXIF data of numbered tags, ``t274=6``."""
    made = Image.Exif()
    for name, value in tags.items():
        made[int(name[1:])] = value
    return made


class Corpus(dict[str, Kind]):
    """Kinds by name."""

    def shown(self, name: str, make: Callable[[Pixels], bytes], tolerance: float = 0.0) -> None:
        """A file that must be decoded to the picture it was made of."""
        rgb = lesion(len(self))
        self[name] = Kind(make(rgb), rgb, tolerance)

    def refused(self, name: str, data: bytes, *reasons: str) -> None:
        """A file that must be refused for one of these reasons."""
        self[name] = Kind(data, reasons=reasons)

    def seed(self) -> int:
        """Of a picture that no other kind shows."""
        return len(self)


@cache
def corpus() -> Corpus:
    """Every kind."""
    kinds = Corpus()
    _ordinary(kinds)
    _odd(kinds)
    _turned(kinds)
    _damaged(kinds)
    _bombs(kinds)
    _foreign(kinds)
    _dicom(kinds)
    return kinds


def must_be_refused(kind: Kind) -> bool:
    """Whether there is nothing to show."""
    return kind.pixels is None and bool(kind.reasons) and not kind.shown_too


def _ordinary(kinds: Corpus) -> None:
    kinds.shown("jpeg", lambda rgb: encoded(rgb, "JPEG", quality=95), 3)
    kinds.shown("jpeg progressive", lambda rgb: encoded(rgb, "JPEG", quality=95, progressive=True), 3)
    kinds.shown("jpeg 4:4:4", lambda rgb: encoded(rgb, "JPEG", quality=95, subsampling=0), 3)
    kinds.shown("jpeg restarts", lambda rgb: encoded(rgb, "JPEG", quality=95, restart_marker_rows=1), 3)
    kinds.shown("jpeg cmyk adobe", lambda rgb: encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=95), 4)
    kinds.shown("png", lambda rgb: encoded(rgb, "PNG"))
    kinds.shown("png palette", lambda rgb: encoded(Image.fromarray(rgb).quantize(256), "PNG"), 4)
    kinds.shown("png alpha opaque", lambda rgb: encoded(Image.fromarray(rgb).convert("RGBA"), "PNG"))
    kinds.shown("png 16 bits", lambda rgb: png_16(rgb.astype(np.uint16) * 257))
    kinds.shown("tiff", lambda rgb: encoded(rgb, "TIFF"))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"):
        kinds.shown(f"tiff {compression}", lambda rgb, c=compression: encoded(rgb, "TIFF", compression=c))
    kinds.shown("tiff cmyk", lambda rgb: encoded(Image.fromarray(rgb).convert("CMYK"), "TIFF"), 4)
    kinds.shown("webp", lambda rgb: encoded(rgb, "WEBP", lossless=True))
    kinds.shown("webp lossy", lambda rgb: encoded(rgb, "WEBP", quality=95), 6)
    kinds.shown("webp alpha", lambda rgb: encoded(Image.fromarray(rgb).convert("RGBA"), "WEBP", lossless=True))
    kinds.shown("gif", lambda rgb: encoded(Image.fromarray(rgb).quantize(256), "GIF"), 4)
    kinds.shown("bmp", lambda rgb: encoded(rgb, "BMP"))
    kinds.shown("bmp palette", lambda rgb: encoded(Image.fromarray(rgb).quantize(256), "BMP"), 4)
    kinds.shown("bmp run lengths", _run_lengths, 4)
    kinds.shown("jpeg icc broken", lambda rgb: encoded(rgb, "JPEG", quality=95, icc_profile=b"no profile" * 9), 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kinds.shown("png icc", lambda rgb: encoded(rgb, "PNG", icc_profile=profile))
    kinds.shown(
        "jpeg exif broken", lambda rgb: encoded(rgb, "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), 3
    )
    kinds.shown("jpeg trailing garbage", lambda rgb: encoded(rgb, "JPEG", quality=95) + os.urandom(5000), 3)
    kinds.shown("jpeg twice", lambda rgb: encoded(rgb, "JPEG", quality=95) + encoded(255 - rgb, "JPEG", quality=95), 3)
    kinds.shown(
        "mpo",
        lambda rgb: encoded(
            Image.fromarray(rgb), "MPO", quality=95, save_all=True, append_images=[Image.fromarray(255 - rgb)]
        ),
        3,
    )
    kinds.shown(
        "tiff pages",
        lambda rgb: encoded(Image.fromarray(rgb), "TIFF", save_all=True, append_images=[Image.fromarray(255 - rgb)]),
    )
    kinds.shown("jpeg comment of 64 kB", lambda rgb: encoded(rgb, "JPEG", quality=95, comment=b"x" * 65_000), 3)


def _grey(rgb: Pixels) -> Pixels:
    return np.repeat(rgb[:, :, :1], 3, axis=2)


def _odd(kinds: Corpus) -> None:
    def grey(name: str, make: Callable[[Pixels], bytes], tolerance: float = 0.0) -> None:
        rgb = _grey(lesion(kinds.seed()))
        kinds[name] = Kind(make(rgb[:, :, 0]), rgb, tolerance)

    grey("jpeg grey", lambda g: encoded(g, "JPEG", quality=95), 3)
    grey("png grey", lambda g: encoded(g, "PNG"))
    grey("png grey 16 bits", lambda g: png_16(g[:, :, None].astype(np.uint16) * 257))
    grey("tiff 16 bits", lambda g: encoded(Image.fromarray(g.astype(np.uint16) * 257), "TIFF"))
    grey("tiff float", lambda g: encoded(Image.fromarray(g.astype(np.float32)), "TIFF"), 1)
    grey("tiff white is zero", _white_is_zero)
    two = (lesion(kinds.seed())[:, :, :1] > 150).repeat(3, axis=2)
    kinds["png 1 bit"] = Kind(encoded(Image.fromarray(two[:, :, 0]), "PNG"), two.astype(np.uint8) * 255)
    half = lesion(kinds.seed())
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, : WIDTH // 2] = 0
    on_white = half.copy()
    on_white[:, : WIDTH // 2] = 255
    kinds["png half transparent"] = Kind(encoded(np.dstack([half, alpha]), "PNG"), on_white)
    rgb = lesion(kinds.seed())
    kinds["png tRNS"] = Kind(encoded(rgb, "PNG", transparency=tuple(int(v) for v in rgb[0, 0])), rgb, 40)
    rgb = lesion(kinds.seed())
    kinds["png interlaced"] = Kind(_interlaced(rgb), rgb)
    for name, width, height in (("1x1", 1, 1), ("1x30000", 1, 30_000), ("30000x1", 30_000, 1), ("2x2", 2, 2)):
        rgb = lesion(kinds.seed(), width, height)
        kinds[f"png {name}"] = Kind(encoded(rgb, "PNG"), rgb)
    flat = np.full((HEIGHT, WIDTH, 3), 37, np.uint8)
    kinds["png one colour"] = Kind(encoded(flat, "PNG"), flat)
    kinds["png all black"] = Kind(encoded(flat * 0, "PNG"), flat * 0)
    noisy = np.random.default_rng(9).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    kinds["png noise"] = Kind(encoded(noisy, "PNG"), noisy)
    kinds.refused("tiff lab", encoded(Image.new("LAB", (40, 30)), "TIFF"), UNSUPPORTED)
    negative = Image.fromarray(np.linspace(-5, 5, 600, dtype=np.float32).reshape(20, 30))
    kinds.refused("tiff negative", encoded(negative, "TIFF"), UNSUPPORTED)
    not_numbers = Image.fromarray(np.full((20, 30), np.nan, dtype=np.float32))
    kinds["tiff not a number"] = Kind(encoded(not_numbers, "TIFF"), np.zeros((20, 30, 3), np.uint8))
    ycck = encoded(Image.fromarray(lesion(kinds.seed())).convert("CMYK"), "JPEG", quality=95)
    kinds["jpeg ycck"] = Kind(patched(ycck, ycck.index(b"Adobe") + 11, b"\x02"))
    frames = [Image.fromarray(lesion(900)), Image.fromarray(lesion(901))]
    for name in ("GIF", "PNG", "WEBP"):
        kinds.refused(
            f"animated {name.lower()}", encoded(frames[0], name, save_all=True, append_images=frames[1:]), SEVERAL
        )


def _white_is_zero(grey: Pixels) -> bytes:
    data = bytearray(encoded(255 - grey, "TIFF"))
    at = data.index(struct.pack("<HHII", 262, 3, 1, 1))
    data[at + 8] = 0
    return bytes(data)


def _run_lengths(rgb: Pixels) -> bytes:
    """A BMP compressed as RLE8: pairs of a count and a colour, from the last row to the first."""
    few = Image.fromarray(rgb).quantize(256)
    plain = encoded(few, "BMP")
    start = int.from_bytes(plain[10:14], "little")
    rows = np.asarray(few)[::-1]
    packed = b"".join(b"".join(bytes((1, value)) for value in row.tolist()) + b"\0\0" for row in rows) + b"\0\1"
    head = patched(plain[:start], 30, struct.pack("<II", 1, len(packed)))
    return patched(head, 2, struct.pack("<I", start + len(packed))) + packed


def _interlaced(rgb: Pixels) -> bytes:
    """An Adam7 PNG, written by hand: Pillow does not write one."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    lines = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in rgb[y::dy, x::dx] if row.size)
    header = struct.pack(">IIBBBBB", rgb.shape[1], rgb.shape[0], 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _turned(kinds: Corpus) -> None:
    for orientation, turn in TURNS.items():
        rgb = lesion(kinds.seed())
        data = encoded(rgb, "JPEG", quality=95, exif=exif(t274=orientation))
        kinds[f"jpeg turned {orientation}"] = Kind(data, np.ascontiguousarray(turn(rgb)), 3)
    for value in (0, 9, 65_535):
        kinds.shown(
            f"jpeg orientation {value}", lambda rgb, v=value: encoded(rgb, "JPEG", quality=95, exif=exif(t274=v)), 3
        )
    kinds.shown("jpeg orientation text", lambda rgb: encoded(rgb, "JPEG", quality=95, exif=exif(t271="6")), 3)
    # An EXIF block whose next directory is itself.
    loop = b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\x01\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    kinds.shown("jpeg exif loop", lambda rgb: with_segment(encoded(rgb, "JPEG", quality=95), 0xE1, loop), 3)
    huge = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + b"\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff\0\0\0\0" * 40
    kinds.shown("jpeg exif of 65535 tags", lambda rgb: with_segment(encoded(rgb, "JPEG", quality=95), 0xE1, huge), 3)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><not closed tiff:Orientation='"
    kinds.shown("jpeg xmp broken", lambda rgb: with_segment(encoded(rgb, "JPEG", quality=95), 0xE1, xmp), 3)


def sound_files(rgb: np.ndarray) -> dict[str, bytes]:
    """A photo in every kind of file that is read."""
    return {
        "jpeg": encoded(rgb, "JPEG", quality=90),
        "progressive": encoded(rgb, "JPEG", quality=90, progressive=True),
        "png": encoded(rgb, "PNG"),
        "tiff": encoded(rgb, "TIFF"),
        "tiff lzw": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "webp": encoded(rgb, "WEBP"),
        "gif": encoded(Image.fromarray(rgb).quantize(256), "GIF"),
        "bmp": encoded(rgb, "BMP"),
        "dicom": dicom(rgb),
    }


def _damaged(kinds: Corpus) -> None:
    noisy = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name, data in sound_files(noisy).items():
        for tenth in range(1, 10):
            kinds.refused(f"{name} cut at {tenth}0 %", data[: len(data) * tenth // 10], TRUNCATED, UNREADABLE)
    kinds.refused("empty", b"", "image_empty", UNREADABLE)
    kinds.refused("zeros", bytes(20_000), UNREADABLE)
    kinds.refused("one byte", b"\xff", UNREADABLE, TRUNCATED)
    kinds.refused("jpeg start only", b"\xff\xd8", UNREADABLE, TRUNCATED)
    kinds.refused("jpeg start and end", b"\xff\xd8\xff\xd9", UNREADABLE, TRUNCATED)
    jpeg = encoded(lesion(kinds.seed()), "JPEG", quality=90)
    frame = jpeg_frame(jpeg)
    kinds.refused("jpeg of 12 bits", patched(jpeg, frame + 4, b"\x0c"), UNREADABLE, UNSUPPORTED, TRUNCATED)
    kinds.refused("jpeg lossless", patched(jpeg, frame, b"\xff\xc3"), UNREADABLE, UNSUPPORTED, TRUNCATED)
    kinds.refused("jpeg hierarchical", patched(jpeg, frame, b"\xff\xc5"), UNREADABLE, UNSUPPORTED, TRUNCATED)
    kinds.refused("jpeg of no height", with_size(jpeg, WIDTH, 0), UNREADABLE, TRUNCATED)
    kinds.refused("jpeg of no width", with_size(jpeg, 0, HEIGHT), UNREADABLE, TRUNCATED)
    kinds.refused("jpeg that claims more rows", with_size(jpeg, WIDTH, HEIGHT * 3), TRUNCATED)
    kinds.refused("jpeg without tables", _without(jpeg, 0xDB), UNREADABLE, TRUNCATED)
    kinds.refused("jpeg of 200 components", patched(jpeg, frame + 9, b"\xc8"), UNREADABLE, TRUNCATED)
    kinds.refused("jpeg end too early", jpeg[: len(jpeg) * 2 // 3] + b"\xff\xd9", TRUNCATED)
    arithmetic = patched(jpeg, frame, b"\xff\xc9")  # decoded where libjpeg can, though to another picture
    kinds["jpeg arithmetic"] = Kind(arithmetic, reasons=(UNREADABLE, UNSUPPORTED, TRUNCATED), shown_too=True)
    png = encoded(lesion(kinds.seed()), "PNG")
    kinds.refused("png wrong checksum", patched(png, png.index(b"IDAT") + 40, b"\x00\xff\x00\xff"), UNREADABLE)
    kinds.refused("png without data", png_header(20, 20) + chunk(b"IEND", b""), UNREADABLE, TRUNCATED)
    short = png_header(60, 50) + chunk(b"IDAT", zlib.compress(bytes(500))) + chunk(b"IEND", b"")
    kinds.refused("png too little data", short, TRUNCATED, UNREADABLE)
    kinds.refused("png of bit depth 7", png_header(9, 9, 7) + chunk(b"IEND", b""), UNREADABLE)
    kinds.refused("png of no size", png_header(0, 0) + chunk(b"IEND", b""), UNREADABLE)
    kinds.refused("png palette missing", png_header(9, 9, 8, 3) + chunk(b"IEND", b""), UNREADABLE, TRUNCATED)
    tiff = encoded(lesion(kinds.seed()), "TIFF")
    first = int.from_bytes(tiff[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(tiff[first : first + 2], "little")
    rgb = lesion(kinds.seed())
    cyclic = encoded(rgb, "TIFF")
    kinds["tiff pages in a circle"] = Kind(patched(cyclic, after, struct.pack("<I", first)), rgb, reasons=(UNREADABLE,))
    kinds.refused("tiff directory outside", patched(tiff, 4, b"\xf0\xff\xff\x7f"), TRUNCATED, UNREADABLE, UNSUPPORTED)
    kinds.refused("tiff of no entries", patched(tiff, first, b"\0\0"), UNREADABLE, UNSUPPORTED)
    bmp = encoded(lesion(kinds.seed()), "BMP")
    kinds.refused("bmp of negative width", patched(bmp, 18, struct.pack("<i", -40)), UNREADABLE, TRUNCATED, TOO_LARGE)
    kinds.refused("bmp of 3 bits", patched(bmp, 28, b"\x03\0"), UNREADABLE)


def _without(jpeg: bytes, marker: int) -> bytes:
    at = jpeg.index(bytes([0xFF, marker]))
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


def _bombs(kinds: Corpus) -> None:
    jpeg = encoded(lesion(1), "JPEG")
    kinds.refused("bomb jpeg", with_size(jpeg, 65_500, 65_500), TOO_LARGE)
    kinds.refused("bomb jpeg just over", with_size(jpeg, 10_001, 10_000), TOO_LARGE)
    body = chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    kinds.refused("bomb png", png_header(60_000, 60_000) + body, TOO_LARGE)
    kinds.refused("bomb png 2^31", png_header(2**31 - 1, 2**31 - 1) + body, TOO_LARGE)
    kinds.refused("bomb tiff", _tiff_of(50_000, 50_000), TOO_LARGE)
    kinds.refused("bomb gif", b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b";", TOO_LARGE, UNREADABLE)
    kinds.refused("bomb bmp", patched(encoded(lesion(1), "BMP"), 18, struct.pack("<ii", 60_000, 60_000)), TOO_LARGE)
    canvas = struct.pack("<I", 0)[:4] + (16_383).to_bytes(3, "little") * 2
    kinds.refused(
        "bomb webp", b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + canvas, TOO_LARGE
    )
    packed = zlib.compress(bytes(50_000_000), 9)
    bombs = {
        "text": chunk(b"zTXt", b"Comment\0\0" + packed),
        "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
        "profile": chunk(b"iCCP", b"icc\0\0" + packed),
    }
    for name, note in bombs.items():  # which need not be unpacked to see the picture
        kinds.shown(f"bomb png {name}", lambda rgb, c=note: with_chunk(encoded(rgb, "PNG"), c))
    kinds.shown("png wrong checksum of a text", lambda rgb: with_chunk(encoded(rgb, "PNG"), _wrong(b"tEXt", b"a\0b")))
    kinds.shown(
        "png wrong checksum of XMP", lambda rgb: with_chunk(encoded(rgb, "PNG"), _wrong(b"iTXt", b"a\0\0\0\0\0b"))
    )
    kinds.refused("png wrong checksum of its header", _wrong_header(), UNREADABLE)
    info = PngImagePlugin.PngInfo()
    info.add_text("x", "y" * 100_000, zip=True)
    kinds.shown("png long text", lambda rgb: encoded(rgb, "PNG", pnginfo=info))


def _tiff_of(width: int, height: int) -> bytes:
    entries = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1))
    entries = (*entries, (278, 4, height), (279, 4, 100))
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + struct.pack("<I", 0) + bytes(200)


def _foreign(kinds: Corpus) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "text")
    icon, jp2 = io.BytesIO(), io.BytesIO()
    Image.fromarray(lesion(1)).save(icon, "ICO")
    Image.fromarray(lesion(1)).save(jp2, "JPEG2000")
    others = {
        "html": b"<!DOCTYPE html><html><body>404 not found</body></html>",
        "text": b"this is no picture",
        "json": b'{"error": "login"}',
        "zip": packed.getvalue(),
        "pdf": b"%PDF-1.7\n1 0 obj\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60),
        "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(60),
        "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(60),
        "jpeg 2000": jp2.getvalue(),
        "jpeg xl": b"\xff\x0a" + bytes(60),
        "psd": b"8BPS\0\x01" + bytes(60),
        "ico": icon.getvalue(),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "ppm": b"P6 2 2 255\n" + bytes(12),
        "elf": b"\x7fELF\x02\x01\x01" + bytes(60),
        "thumbs": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    }
    for name, data in others.items():
        kinds.refused(f"{name} named as a photo", data, UNSUPPORTED, UNREADABLE)


def _dicom(kinds: Corpus) -> None:
    kinds.shown("dicom", dicom)
    kinds.shown("dicom rle", lambda rgb: _compressed(rgb, RLELossless))
    kinds.shown("dicom jpeg", _dicom_jpeg, 4)
    kinds.shown("dicom planes", _planes)
    for syntax, name in ((ExplicitVRBigEndian, "big endian"), (DeflatedExplicitVRLittleEndian, "deflated")):
        kinds.shown(f"dicom {name}", lambda rgb, s=syntax: _in_syntax(rgb, s))
    for name, sign in (("MONOCHROME1", -1), ("MONOCHROME2", 1)):
        rgb = _grey(lesion(kinds.seed()))
        kinds[f"dicom {name}"] = Kind(dicom(rgb[:, :, 0] if sign > 0 else 255 - rgb[:, :, 0], name), rgb)
    kinds["dicom palette"] = _palette(kinds.seed())
    rgb = lesion(1)
    bare = dicom_dataset(rgb)
    del bare.PixelData
    kinds.refused("dicom without pixels", saved(bare), "image_without_pixels")
    kinds.refused("dicom frames", dicom(np.stack([rgb, rgb]), NumberOfFrames=2), SEVERAL)
    kinds.refused("dicom bomb", dicom(rgb, Rows=60_000, Columns=60_000), TOO_LARGE)
    kinds.refused("dicom of no rows", dicom(rgb, Rows=0), UNREADABLE, TRUNCATED)
    kinds.refused("dicom more rows than pixels", dicom(rgb, Rows=HEIGHT * 2), UNREADABLE, TRUNCATED)
    kinds.refused("dicom of 7 bits", dicom(rgb, BitsAllocated=7), UNREADABLE, UNSUPPORTED)
    kinds.refused("dicom of unknown colours", dicom(rgb, "NONSENSE"), UNREADABLE, UNSUPPORTED)
    for keyword in ("Rows", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation"):
        lacking = dicom_dataset(rgb)
        lacking["PixelData"].VR = "OB"
        delattr(lacking, keyword)
        kinds.refused(f"dicom without {keyword}", saved(lacking), UNREADABLE, UNSUPPORTED)
    garbage = dicom_dataset(rgb)
    garbage.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    garbage.PixelData = encapsulate([b"\xff\xd8\xff\xf7" + bytes(200)])
    garbage["PixelData"].is_undefined_length = True
    known = str(JPEGBaseline8Bit).encode()
    for name, ending in (("jpeg", b"50"), ("jpeg-ls", b"80"), ("jpeg 2000", b"90"), ("unknown", b"49")):
        syntax = known[:-2] + ending
        kinds.refused(f"dicom {name} of garbage", saved(garbage).replace(known, syntax), UNSUPPORTED, UNREADABLE)
    inner = dicom_dataset(rgb)
    inner.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    inner.PixelData = encapsulate([with_size(encoded(rgb, "JPEG"), 65_500, 65_500)])
    inner["PixelData"].is_undefined_length = True
    kinds.refused("dicom with a jpeg bomb", saved(inner), TOO_LARGE, UNREADABLE)
    kinds.refused("dicom deflated bomb", _deflated_bomb(), TOO_LARGE)
    nested = dicom_dataset(rgb)
    deep = Dataset()
    for _ in range(150):
        outer = Dataset()
        outer.ReferencedSeriesSequence = DicomSequence([deep])
        deep = outer
    nested.ReferencedSeriesSequence = DicomSequence([deep])
    kinds["dicom nested"] = Kind(saved(nested), rgb, reasons=(UNREADABLE,))
    kinds.refused("dicom head only", bytes(128) + b"DICM", UNREADABLE, "image_without_pixels", TRUNCATED)
    kinds.refused("dicom head and noise", bytes(128) + b"DICM" + os.urandom(3000), UNREADABLE, TRUNCATED,
                 "image_without_pixels", UNSUPPORTED)  # fmt: skip


def _compressed(rgb: Pixels, syntax: UID) -> bytes:
    dataset = dicom_dataset(rgb)
    dataset.compress(syntax)
    return saved(dataset)


def _dicom_jpeg(rgb: Pixels) -> bytes:
    dataset = dicom_dataset(rgb, "YBR_FULL_422")
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([encoded(rgb, "JPEG", quality=95)])
    dataset["PixelData"].is_undefined_length = True
    return saved(dataset)


def _planes(rgb: Pixels) -> bytes:
    dataset = dicom_dataset(rgb, PlanarConfiguration=1)
    dataset.PixelData = np.ascontiguousarray(rgb.transpose(2, 0, 1)).tobytes()
    return saved(dataset)


def _in_syntax(rgb: Pixels, syntax: UID) -> bytes:
    dataset = dicom_dataset(rgb)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR = "OB"
    return saved(dataset)


def _palette(seed: int) -> Kind:
    few = Image.fromarray(lesion(seed)).quantize(64)
    colours = np.zeros((256, 3), np.uint8)
    given = np.array(few.getpalette(), np.uint8).reshape(-1, 3)
    colours[: len(given)] = given
    tables = {}
    for index, name in enumerate(("Red", "Green", "Blue")):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = (colours[:, index].astype("<u2") * 257).tobytes()
    return Kind(dicom(np.asarray(few), "PALETTE COLOR", **tables), np.asarray(few.convert("RGB")))


def _deflated_bomb() -> bytes:
    """A gigabyte of zeros in a megabyte: one flushed block of 16 MiB, 64 times."""
    small = _in_syntax(lesion(1), DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(small[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return small[:start] + block * 64 + b"\x03\x00"


# ------------------------------------------------------------------------------------------------- odd file names

NAMES = (
    "new\nline.png", "quote\"'`.png", "emoji \U0001f9d1\u200d\u2695\ufe0f.png", "-rf.png", "--help.png",
    "x" * 251 + ".png",
    "病" * 83 + ".png", "escape\x1b[2J\x07.png", "right\u202egnp.png", "caf\u00e9.png", "cafe\u0301.png", "TWIN.png",
    "twin.png", "space .png", " .png", "100%.png", "{stem}.png", "star*.png", "[a].png", "#hash.png", "a,b;c.png",
    "back\\slash.png", "<script>alert(1).png", "~.png", "row-2.png", "=1+1.png", "CON.png", "\u200bzero.png",
    "tab\tname.png", "1.png.png", "\ufffdE9.png", "nul%00.png", "very.many.dots.png",
)  # fmt: skip
RAW_NAMES = (b"caf\xe9.png", "病人甲.png".encode("gb18030"), b"\xff\xfe\x80.png", b"half\xe7\x97.png")


def odd_names(folder: Path) -> list[Path]:
    """A sound photo under every odd name, each another picture."""
    folder.mkdir(parents=True)
    made = []
    for seed, name in enumerate([*(name.encode() for name in NAMES), *RAW_NAMES], start=2000):
        path = folder / os.fsdecode(name)
        path.write_bytes(encoded(lesion(seed), "PNG"))
        made.append(path)
    return made


def odd_files(folder: Path, outside: Path) -> dict[str, str]:
    """Things that are no files but are called photos: relative name -> reason; empty where a photo is found behind.

    Args:
        folder: made here, below the cohort's.
        outside: a photo that is written there, elsewhere, and linked to.
    """
    folder.mkdir(parents=True)
    outside.write_bytes(encoded(lesion(3000), "PNG"))
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "one.png").symlink_to("other.png")
    (folder / "other.png").symlink_to("one.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "linked.png").symlink_to(outside)
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "PIPE0001")
    with socket.socket(socket.AF_UNIX) as listener:
        inside = os.open(folder, os.O_RDONLY)  # a socket's path has at most 107 bytes
        listener.bind(f"/proc/self/fd/{inside}/socket.png")
        os.close(inside)
    (folder / "folder.png").mkdir()
    (folder / "folder.png" / "inside.png").write_bytes(encoded(lesion(3001), "PNG"))
    (folder / "line\nend").mkdir()
    (folder / "line\nend" / "inside.png").write_bytes(encoded(lesion(3002), "PNG"))
    (folder / "same.png").write_bytes(encoded(lesion(3003), "PNG"))
    (folder / "same.bmp").write_bytes(encoded(lesion(3004), "BMP"))
    (folder / "same.png.png").write_bytes(encoded(lesion(3005), "PNG"))
    gone = ("itself.png", "one.png", "other.png", "dangling.png", "zero.png", "pipe.png", "socket.png")
    shown = (
        "linked.png", "folder.png/inside.png", "line\nend/inside.png", "same.png", "same.bmp", "same.png.png",
    )  # fmt: skip
    return {**dict.fromkeys(gone, "image_missing"), **dict.fromkeys(shown, "")}
