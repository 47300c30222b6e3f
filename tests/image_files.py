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
