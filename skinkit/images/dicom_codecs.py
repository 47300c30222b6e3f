"""Pixels of a DICOM object as they are stored: transfer syntaxes, and what colours the compressed data really hold.

The header of a compressed object often states colours that its data do not have. The data decide where they can
(PS3.5 8.2, A.4.1): a JPEG by Adobe's marker, by JFIF, by the letters of its components, and because subsampled chroma
cannot be RGB; JPEG 2000 because its own component transform is undone by the decoder. Else the header decides.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from skinkit.errors import CaseError
from skinkit.images.pixels import Array

_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")


class StoredPixels(NamedTuple):
    """Pixels of a DICOM object before anything is done for display.

    Attributes:
        values: (H, W), or (H, W, 3) RGB.
        photometric: their photometric interpretation; RGB where three components were stored as YBR.
        bits: of a value.
    """

    values: Array
    photometric: str
    bits: int


_PIXEL_MODULE = (
    "SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated",
    "PixelRepresentation", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
)  # fmt: skip


def stored_pixels(dataset: Any) -> StoredPixels:
    """The pixels of a data set's one frame.

    Raises:
        CaseError: ``image_unsupported``: no decoder for the transfer syntax, or for these data in it.
    """
    from pydicom.dataset import Dataset
    from pydicom.encaps import get_frame
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
    photometric, bits = str(dataset.PhotometricInterpretation), int(dataset.BitsStored)
    colour = int(dataset.SamplesPerPixel) == 3
    if colour and syntax in (*_JPEG, *_JPEG_LOSSLESS, *_JPEG_2000):
        compressed = get_frame(dataset.PixelData, 0, number_of_frames=1)
        photometric = _true_colours(compressed, photometric)
        if syntax in _JPEG and bits == 8:
            size = int(dataset.Columns), int(dataset.Rows)
            return StoredPixels(_by_pillow(compressed, photometric, size), "RGB", 8)
    # A decoder gets no attribute that it might act on: it would convert, invert or rescale.
    plain = Dataset()
    plain.file_meta = dataset.file_meta
    for keyword in _PIXEL_MODULE:
        if keyword in dataset:
            plain[keyword] = dataset[keyword]
    by_pairs = photometric == "YBR_FULL_422" and not syntax.is_encapsulated
    plain.PhotometricInterpretation = photometric if by_pairs else "RGB" if colour else "MONOCHROME2"
    unused = 0 if syntax.is_encapsulated else max(int(dataset.get("HighBit") or 0) + 1 - bits, 0)  # below the value
    plain.BitsStored, plain.HighBit = bits + unused, bits + unused - 1
    values = _values(plain, decoder) >> unused
    if colour and photometric in ("YBR_FULL", "YBR_FULL_422"):
        return StoredPixels(_rgb_of_ybr((values >> max(bits - 8, 0)).astype(np.uint8)), "RGB", 8)
    return StoredPixels(values, "RGB" if photometric in ("YBR_ICT", "YBR_RCT") else photometric, bits)


def _values(plain: Any, decoder: Any) -> Array:
    """Stored values by pydicom's decoders, else by SimpleITK's GDCM."""
    if decoder.is_available:
        try:
            values: Array = decoder.as_array(plain, raw=True)[0]
        except (NotImplementedError, RuntimeError, ValueError):
            # Pillow has no JPEG of 12 bits, and of JPEG 2000 no colours deeper than 8.
            if not plain.file_meta.TransferSyntaxUID.is_encapsulated or int(plain.BitsStored) <= 8:
                raise
        else:
            return values
    return _by_gdcm(plain)


def _by_gdcm(plain: Any) -> Array:
    """Stored values decoded by SimpleITK's GDCM: JPEG lossless, JPEG-LS, JPEG of 12 bits, deep colours of JPEG 2000."""
    import SimpleITK

    sitk: Any = SimpleITK
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.dcm"
        plain.save_as(file, enforce_file_format=True)
        loud = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.GlobalWarningDisplayOff()
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        try:
            values: Array = sitk.GetArrayFromImage(reader.Execute())[0]
        except RuntimeError:
            name = plain.file_meta.TransferSyntaxUID.name
            raise CaseError("image_unsupported", f"DICOM transfer syntax {name} could not be decoded") from None
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(loud)
    return values


# ------------------------------------------------------------------------------------------------------ colours
def _true_colours(data: bytes, header: str) -> str:
    """The photometric interpretation of three compressed components, as the data have it, else as the header says."""
    if data[:2] != b"\xff\xd8":
        at = data.find(b"\xff\x52")  # coding style default (ISO 15444-1, A.6.1): the ninth byte is the transform
        return "RGB" if at >= 0 and data[at + 8 : at + 9] == b"\x01" else header
    jfif, adobe, components = _jpeg_facts(data)
    if len(components) != 3:
        return header
    if len({sampling for _, sampling in components}) > 1:
        return "YBR_FULL"
    if adobe >= 0:
        return "RGB" if adobe == 0 else "YBR_FULL"
    if jfif:
        return "YBR_FULL"
    if bytes(name for name, _ in components) in (b"RGB", b"rgb"):
        return "RGB"
    return "RGB" if header in ("RGB", "YBR_ICT", "YBR_RCT") else "YBR_FULL"


def _jpeg_facts(data: bytes) -> tuple[bool, int, list[tuple[int, int]]]:
    """Whether there is a JFIF marker, Adobe's transform or -1, and (name, sampling factors) of the components."""
    jfif, adobe, at = False, -1, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if marker == 0xE0 and body.startswith(b"JFIF\0"):
            jfif = True
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return jfif, adobe, [(body[6 + 3 * k], body[7 + 3 * k]) for k in range((len(body) - 6) // 3)]
        at += 2 + max(length, 2)
    return jfif, adobe, []


def _by_pillow(data: bytes, photometric: str, size: tuple[int, int]) -> Array:
    """A JPEG of three components and 8 bits as RGB, converted from YCbCr only if that is what it holds."""
    jfif, adobe, components = _jpeg_facts(data)
    # libjpeg converts by the markers, else by the components' names.
    converts = adobe == 1 or (adobe < 0 and (jfif or bytes(name for name, _ in components) != b"RGB"))
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if image.size != size or image.mode != "RGB":
            raise CaseError("image_unreadable", "the JPEG inside the DICOM object has another size or colours")
        if converts and photometric == "RGB":
            image.draft("YCbCr", image.size)  # the components as they are
        image.load()
        values = np.asarray(image)
    return values if converts or photometric == "RGB" else _rgb_of_ybr(values)


def _rgb_of_ybr(values: Array) -> Array:
    """uint8 (H, W, 3) RGB of YBR_FULL (PS3.3 C.7.6.3.1.2), which is the YCbCr of JFIF."""
    height, width = values.shape[:2]
    return np.asarray(Image.frombytes("YCbCr", (width, height), values.tobytes()).convert("RGB"))
