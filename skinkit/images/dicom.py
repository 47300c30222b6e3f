"""DICOM photographs as RGB: transfer syntaxes, photometric interpretations and windows."""

from __future__ import annotations

import io
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skinkit.artifacts.file_names import as_text, on_disk
from skinkit.errors import CaseError
from skinkit.images.pixels import DAMAGE, MAX_PIXELS, Array, by_strips, check_size, grey_to_rgb, read_bytes


# ------------------------------------------------------------------------------------------------------- DICOM
def is_dicom(data: bytes) -> bool:
    """Whether the bytes are a DICOM file's, with the 128-byte preamble or (older archives) without."""
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
    """Refuse a deflated data set larger than the image limit, before pydicom inflates all of it.

    The data set follows the file meta information, whose first element is its length (PS3.10, 7.1).
    """
    if data[128:132] != b"DICM" or _DEFLATED not in data[:1024]:
        return
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for start in range(144 + int.from_bytes(data[140:144], "little"), len(data), 1 << 16):
        size += len(unpacker.decompress(data[start : start + (1 << 16)]))
        if size > _MAX_INFLATED:
            raise CaseError("image_too_large", f"a deflated DICOM object of more than {_MAX_INFLATED} bytes")


_MAX_INFLATED = 6 * MAX_PIXELS
"""Bytes of the largest accepted picture, three channels of 16 bits."""


def dicom_tag(path: Path, keyword: str) -> str:
    """The text of one tag of a DICOM file's header, empty where it is absent.

    Raises:
        CaseError: the file is not DICOM, or cannot be read.
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
    """Exceptions that pydicom raises on damaged bytes, when parsing or on first access to an element."""
    from pydicom import errors

    return (*DAMAGE, errors.InvalidDicomError, errors.BytesLengthException)


def _damaged_dicom(error: Exception) -> CaseError:
    text = str(error)
    cut = "less than expected" in text or "truncated" in text.lower()
    # Report only the type of the error: pydicom's message may quote the header, and so the patient.
    return CaseError("image_truncated" if cut else "image_unreadable", f"DICOM: {type(error).__name__}")


@contextmanager
def _quiet_dicom() -> Iterator[None]:
    """Suppress pydicom's warnings about unusual headers, which quote the patient's values."""
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


def dicom_rgb(data: bytes, flags: list[str]) -> Array:
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
            check_size(int(dataset.Columns), int(dataset.Rows))
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
    """Stored values for display: palette, rescale and window applied, 8 bits."""
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
            display = apply_modality_lut(part, dataset)
            display = apply_voi_lut(display, dataset, prefer_lut=True) if by_table else display
            white: Array = np.clip((display.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
            return 1 - white if photometric == "MONOCHROME1" else white

        if stored > 8:
            flags.append("sixteen_bit")
        return grey_to_rgb(by_strips(share, values))
    if photometric == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        stored = values.dtype.itemsize * 8
    elif photometric not in ("RGB", "YBR_ICT", "YBR_RCT") or values.ndim != 3 or values.shape[2] != 3:
        raise CaseError("image_unsupported", f"DICOM photometric interpretation {photometric}")
    if stored > 8:
        flags.append("sixteen_bit")
    return np.ascontiguousarray(values[:, :, :3] >> max(stored - 8, 0)).astype(np.uint8)


def _window(dataset: Any) -> tuple[float, float]:
    """The values that the first window shows as black and as white (PS3.3 C.11.2.1.2)."""
    from pydicom.multival import MultiValue

    def first(value: Any) -> float:
        return float(value[0] if isinstance(value, MultiValue) else value)

    centre, width = first(dataset.WindowCenter), first(dataset.WindowWidth)
    if dataset.get("VOILUTFunction") == "LINEAR_EXACT":
        return centre - width / 2, centre + width / 2
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
