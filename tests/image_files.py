"""Image files for tests: pictures, and their bytes as PNG, JPEG, TIFF or DICOM."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

Pixels = np.ndarray[Any, Any]


def picture(width: int = 83, height: int = 61) -> Pixels:
    """A picture whose every corner and channel differs."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8)


def noise(width: int = 64, height: int = 48) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | Pixels, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(sink, kind, **options)
    return sink.getvalue()


def png_16(values: Pixels) -> bytes:
    """A 16-bit PNG of (H, W, 1 to 4) values, written by hand: Pillow cannot write colour at 16 bits."""
    height, width, channels = values.shape
    lines = b"".join(b"\0" + values[y].astype(">u2").tobytes() for y in range(height))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


def dicom_dataset(values: Pixels, photometric: str = "RGB", *, bits: int = 0, **elements: Any) -> Dataset:
    """A DICOM object of these stored values."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("1.2.3.4")
    dataset.PatientName = "Private^Person"
    dataset.AccessionNumber = "A77"
    dataset.Rows, dataset.Columns = values.shape[:2] if values.ndim < 4 else values.shape[1:3]
    dataset.SamplesPerPixel = 3 if values.ndim >= 3 and values.shape[-1] == 3 else 1
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = values.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.PixelData = values.tobytes()
    return dataset


def dicom(values: Pixels, photometric: str = "RGB", *, bits: int = 0, **elements: Any) -> bytes:
    return saved(dicom_dataset(values, photometric, bits=bits, **elements))


def saved(dataset: Dataset) -> bytes:
    sink = io.BytesIO()
    dataset.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


# ------------------------------------------------------------------------------------------------- colour profiles

COLORANTS = {
    "Display P3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
    "Adobe RGB (1998)": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
    "sRGB again": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
}
"""X, Y, Z (D50) of full red, green and blue."""
GAMMA = 563 / 256


def icc_profile(name: str, *, space: bytes = b"RGB ", comment: int = 0) -> bytes:
    """An ICC profile (version 2) of the colorants of a name, or a grey one, with the tone curve x ** GAMMA.

    Args:
        name: of :data:`COLORANTS`; the description.
        space: ``RGB `` or ``GRAY``.
        comment: bytes of a private tag.
    """

    def fixed(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(GAMMA * 256)) + b"\0\0"
    text = name.encode() + b"\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": described, b"wtpt": fixed(0.9642, 1, 0.8249)}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for letter, colorant in zip(b"rgb", COLORANTS[name], strict=True):
            tags[bytes([letter]) + b"XYZ"], tags[bytes([letter]) + b"TRC"] = fixed(*colorant), curve
    if comment:
        tags[b"priv"] = b"data" + bytes(4) + bytes(comment)
    return _icc(space, b"XYZ ", tags)


def icc_of_inks() -> bytes:
    """A CMYK profile: no ink is white, and each ink, black most, takes lightness away (CIELAB, two grid points)."""
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0])
    table += b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9)) + bytes(range(256)) * 4
    for inks in np.ndindex(2, 2, 2, 2):
        lightness = max(0, 100 - 20 * sum(inks[:3]) - 100 * inks[3])
        table += bytes([round(lightness * 2.55), 128, 128])
    return _icc(b"CMYK", b"Lab ", {b"A2B0": table + bytes(range(256)) * 3, b"wtpt": b"XYZ " + bytes(16)})


def _icc(space: bytes, between: bytes, tags: dict[bytes, bytes]) -> bytes:
    body, table, start = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = bytes(8) + b"\x02\x10\0\0" + kind + space + between
    header = head.ljust(36, b"\0") + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    whole = header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def srgb_of(rgb: Pixels, name: str) -> Pixels:
    """uint8 (..., 3) sRGB of numbers in the colours of :func:`icc_profile`, by the matrices (float64)."""
    linear = (rgb / 255.0) ** GAMMA @ np.array(COLORANTS[name])
    to_linear = np.array([[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540],
                          [0.0719453, -0.2289914, 1.4052427]])  # fmt: skip
    light = (linear @ to_linear.T).clip(0, 1)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(coded * 255).astype(np.uint8)
