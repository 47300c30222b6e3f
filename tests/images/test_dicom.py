"""DICOM: every photometric interpretation x transfer syntax x depth, against values worked out here."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pydicom
import pytest
from image_files import Pixels, dicom, dicom_dataset, encoded, saved
from PIL import Image
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from skinkit.errors import CaseError
from skinkit.images import decode

WIDTH, HEIGHT = 24, 16
PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def greys(bits: int) -> Pixels:
    """(16, 24) values over the whole range of a depth, of its type."""
    values = np.linspace(0, (1 << bits) - 1, WIDTH * HEIGHT).round().astype(np.uint16 if bits > 8 else np.uint8)
    return values.reshape(HEIGHT, WIDTH)


def colours(bits: int = 8) -> Pixels:
    """(16, 24, 3) smooth colours over the whole range of a depth."""
    full = (1 << bits) - 1
    x, y = np.meshgrid(np.linspace(0, full, WIDTH), np.linspace(0, full, HEIGHT))
    return np.stack([x, y, full - x], axis=2).astype(np.uint16 if bits > 8 else np.uint8)


def lossless_jpeg(values: Pixels, compressor: str = "JPEG") -> bytes:
    """A frame in JPEG lossless (or JPEG2000), written by GDCM."""
    import tempfile

    import SimpleITK

    sitk: Any = SimpleITK
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.SetFileName(file.name)
        writer.Execute(sitk.GetImageFromArray(values, isVector=values.ndim == 3))
        return get_frame(pydicom.dcmread(file.name).PixelData, 0, number_of_frames=1)


def without(data: bytes, marker: int) -> bytes:
    """A JPEG without the segment of a marker."""
    at = data.index(bytes([0xFF, marker]))
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def numbered(data: bytes, frame: int = 0xC0) -> bytes:
    """A JPEG with components 1, 2, 3 instead of R, G, B; ``frame`` is its marker of a frame."""
    out = bytearray(data)
    for marker, first, step in ((frame, 10, 3), (0xDA, 5, 2)):
        at = out.index(bytes([0xFF, marker]))
        for k in range(3):
            out[at + first + step * k] = k + 1
    return bytes(out)


def bare_lossless_jpeg(values: Pixels) -> bytes:
    """Three components in JPEG lossless, of which nothing says what colours they are."""
    return numbered(without(lossless_jpeg(values), 0xEE), 0xC3)


def jpeg_2000(values: Pixels, transform: int = 1) -> bytes:
    """A frame in lossless JPEG 2000, with or without its component transform."""
    return encoded(Image.fromarray(values), "JPEG2000", no_jp2=True, irreversible=False, mct=transform)


FRAMES: dict[UID, Callable[[Pixels], bytes]] = {JPEGLosslessSV1: lossless_jpeg, JPEG2000Lossless: jpeg_2000}


def with_frame(values: Pixels, photometric: str, syntax: UID, frame: bytes, **elements: Any) -> bytes:
    """An object whose frame is compressed already."""
    dataset = dicom_dataset(values, photometric, **elements)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    return saved(dataset)


def in_syntax(values: Pixels, photometric: str, syntax: UID, **elements: Any) -> bytes:
    """An object of these stored values in a transfer syntax."""
    if syntax in FRAMES:
        return with_frame(values, photometric, syntax, FRAMES[syntax](values), **elements)
    dataset = dicom_dataset(values, photometric, **elements)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
        return saved(dataset)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR = "OB" if values.itemsize == 1 else "OW"
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = values.astype(values.dtype.newbyteorder(">")).tobytes()
    return saved(dataset)


SYNTAXES = pytest.mark.parametrize("syntax", [*PLAIN, RLELossless, *FRAMES], ids=lambda uid: uid.name[:30])


# ---------------------------------------------------------------------------------------------------- grey values


@SYNTAXES
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_grey_values(photometric: str, bits: int, syntax: UID) -> None:
    white = greys(bits) / ((1 << bits) - 1)
    expected = np.rint((1 - white if photometric == "MONOCHROME1" else white) * 255)
    rgb, flags = decode.decode(in_syntax(greys(bits), photometric, syntax, bits=bits))
    for channel in range(3):
        np.testing.assert_array_equal(rgb[:, :, channel], expected)
    assert flags == (("sixteen_bit",) if bits > 8 else ())


@SYNTAXES
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_rescale_and_window_are_applied_once(photometric: str, syntax: UID) -> None:
    """Rescaled to -100 ... 410; the exact window shows 55 as black and 255 as white."""
    window = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 155, "WindowWidth": 200}
    window["VOILUTFunction"] = "LINEAR_EXACT"
    white = ((greys(8) * 2.0 - 100 - 55) / 200).clip(0, 1)
    expected = np.rint((1 - white if photometric == "MONOCHROME1" else white) * 255)
    rgb, _ = decode.decode(in_syntax(greys(8), photometric, syntax, **window))
    np.testing.assert_array_equal(rgb[:, :, 1], expected)


def jpeg_ls_of_zeros(width: int, height: int) -> bytes:
    """JPEG-LS of a black picture, by hand: every line is a run of the value before it (ISO 14495-1, A.7.1)."""
    steps, bits, place = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4, 4, 5, 5, 6, 6, 7, 7, 8, 9], "", 0
    for _ in range(height):
        left = width
        while left > 0:
            bits += "1"
            place, left = (place + 1, left - (1 << steps[place])) if left >= 1 << steps[place] else (place, 0)
    data = bytearray()
    while bits:
        size = 7 if data and data[-1] == 0xFF else 8  # a zero bit follows a byte of ones
        data.append(int(bits[:size].ljust(size, "0"), 2))
        bits = bits[size:]
    frame = b"\xff\xf7" + struct.pack(">HBHHBBBB", 11, 8, height, width, 1, 1, 0x11, 0)
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 0, 0)
    return b"\xff\xd8" + frame + scan + bytes(data) + b"\xff\xd9"


@pytest.mark.parametrize(("photometric", "shown"), [("MONOCHROME1", 255), ("MONOCHROME2", 0)])
def test_jpeg_ls_is_inverted_once(photometric: str, shown: int) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    rgb, _ = decode.decode(with_frame(values, photometric, JPEGLSLossless, jpeg_ls_of_zeros(WIDTH, HEIGHT)))
    assert rgb.shape == (HEIGHT, WIDTH, 3)
    assert (rgb == shown).all()


def test_sigmoid_by_hand() -> None:
    """Centre 100, width 50: 1 / (1 + exp(-4 (x - 100) / 50)) is 0.018, 0.119, 0.5, 0.881 and 1."""
    values = np.array([[50, 75, 100, 125, 250]], np.uint8)
    rgb, _ = decode.decode(dicom(values, "MONOCHROME2", WindowCenter=100, WindowWidth=50, VOILUTFunction="SIGMOID"))
    assert rgb[0, :, 0].tolist() == [5, 30, 128, 225, 255]


@pytest.mark.parametrize(
    "half", [{"WindowWidth": 80}, {"WindowCenter": 40}, {"WindowCenter": 40, "WindowWidth": 0},
             {"WindowCenter": "", "WindowWidth": 80}],
)  # fmt: skip
def test_half_a_window_is_none(half: dict[str, Any]) -> None:
    rgb, _ = decode.decode(dicom(greys(8), "MONOCHROME2", **half))
    np.testing.assert_array_equal(rgb[:, :, 0], greys(8))


def test_ten_bits_in_sixteen_without_a_window() -> None:
    """The header states sixteen bits, but no value needs more than ten (twelve), and no window says so."""
    for bits in (10, 12):
        rgb, flags = decode.decode(dicom(greys(bits), "MONOCHROME2"))
        np.testing.assert_array_equal(rgb[:, :, 0], np.rint(greys(bits) / ((1 << bits) - 1) * 255))
        assert flags == ("sixteen_bit", "fewer_bits")
        rgb, flags = decode.decode(dicom(colours(bits)))
        np.testing.assert_array_equal(rgb, colours(bits) >> (bits - 8))
        assert flags == ("sixteen_bit", "fewer_bits")


def test_a_segmented_palette() -> None:
    """One linear segment of 255 further steps after a first of one value (PS3.3 C.7.9.2)."""
    up = np.array([0, 1, 0, 1, 255, 65535], "<u2").tobytes()
    down = np.array([0, 1, 65535, 1, 255, 0], "<u2").tobytes()
    elements: dict[str, Any] = {}
    for name, data in (("Red", up), ("Green", down), ("Blue", up)):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"Segmented{name}PaletteColorLookupTableData"] = data
    rgb, _ = decode.decode(dicom(greys(8), "PALETTE COLOR", **elements))
    assert np.abs(rgb[:, :, 0].astype(int) - greys(8)).max() <= 1
    assert np.abs(rgb[:, :, 1].astype(int) - (255 - greys(8).astype(int))).max() <= 1


def test_values_in_the_upper_bits() -> None:
    """Ten bits that begin at the highest of sixteen (ACR-NEMA), and an overlay in the bits above a value."""
    values = greys(10)
    expected = np.rint(values / 1023 * 255)
    rgb, _ = decode.decode(dicom(values << 6, "MONOCHROME2", bits=10, HighBit=15))
    np.testing.assert_array_equal(rgb[:, :, 0], expected)
    rgb, _ = decode.decode(dicom(values | 0x8000, "MONOCHROME2", bits=10))
    np.testing.assert_array_equal(rgb[:, :, 0], expected)


# ------------------------------------------------------------------------------------------------------- palettes


def palette(bits: int, first: int = 0, *, packed: bool = False, entries: int = 256) -> dict[str, Any]:
    """Red rises, green falls, blue is constant, in words or (``packed``) bytes."""
    steps = np.linspace(0, 255, entries).astype(np.uint16)
    made: dict[str, Any] = {}
    for name, table in (("Red", steps), ("Green", steps[::-1]), ("Blue", steps * 0 + 77)):
        words = table * 257 if bits == 16 else table
        made[f"{name}PaletteColorLookupTableDescriptor"] = [entries, first, bits]
        made[f"{name}PaletteColorLookupTableData"] = words.astype("u1" if packed else "<u2").tobytes()
    return made


@SYNTAXES
@pytest.mark.parametrize(("bits", "packed"), [(16, False), (8, False), (8, True)])
def test_palettes_by_their_descriptor(bits: int, packed: bool, syntax: UID) -> None:
    tables = palette(bits, packed=packed)
    if syntax == ExplicitVRBigEndian and not packed:
        for name, value in tables.items():
            tables[name] = np.frombuffer(value, "<u2").astype(">u2").tobytes() if name.endswith("Data") else value
    rgb, _ = decode.decode(in_syntax(greys(8), "PALETTE COLOR", syntax, **tables))
    np.testing.assert_array_equal(rgb[:, :, 0], greys(8))
    np.testing.assert_array_equal(rgb[:, :, 1], 255 - greys(8))
    assert (rgb[:, :, 2] == 77).all()


def test_indices_outside_a_palette_take_its_ends() -> None:
    values = np.array([[0, 9, 10, 11, 13, 14, 255]], np.uint8)
    rgb, _ = decode.decode(dicom(values, "PALETTE COLOR", **palette(16, 10, entries=4)))
    assert rgb[0, :, 0].tolist() == [0, 0, 0, 85, 255, 255, 255]


def test_eight_bits_under_a_descriptor_of_sixteen() -> None:
    tables = palette(8)
    tables |= {name: [256, 0, 16] for name in tables if name.endswith("Descriptor")}
    rgb, _ = decode.decode(dicom(greys(8), "PALETTE COLOR", **tables))
    np.testing.assert_array_equal(rgb[:, :, 0], greys(8))


# -------------------------------------------------------------------------------------------------------- colours


def ybr(rgb: Pixels) -> Pixels:
    """YBR_FULL of 8-bit RGB, by the equations of PS3.3 C.7.6.3.1.2."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.rint(rgb @ matrix.T + [0, 128, 128]).clip(0, 255).astype(np.uint8)


@SYNTAXES
@pytest.mark.parametrize(("photometric", "bits"), [("RGB", 8), ("YBR_FULL", 8), ("RGB", 12), ("RGB", 16)])
def test_three_components(photometric: str, bits: int, syntax: UID) -> None:
    values = ybr(colours()) if photometric == "YBR_FULL" else colours(bits)
    if syntax in FRAMES and photometric == "YBR_FULL":
        frame = jpeg_2000(values, transform=0) if syntax == JPEG2000Lossless else bare_lossless_jpeg(values)
        data = with_frame(values, photometric, syntax, frame)
    elif syntax == JPEG2000Lossless and bits > 8:  # Pillow writes no deep colours
        data = with_frame(values, photometric, syntax, lossless_jpeg(values, "JPEG2000"), bits=bits)
    else:
        data = in_syntax(values, photometric, syntax, bits=bits)
    rgb, _ = decode.decode(data)
    expected = colours(bits) >> (bits - 8)
    assert np.abs(rgb.astype(int) - expected).max() <= (2 if photometric == "YBR_FULL" else 0)


def test_colours_by_planes_and_by_pairs() -> None:
    rgb, _ = decode.decode(
        saved(_with_pixels(dicom_dataset(colours(), PlanarConfiguration=1), colours().transpose(2, 0, 1).tobytes()))
    )
    np.testing.assert_array_equal(rgb, colours())
    pairs = np.repeat(colours()[:, ::2], 2, axis=1)  # two pixels share their chroma, here all of their colour
    values = ybr(pairs)
    body = np.stack([values[:, ::2, 0], values[:, 1::2, 0], values[:, ::2, 1], values[:, ::2, 2]], axis=2)
    rgb, _ = decode.decode(saved(_with_pixels(dicom_dataset(pairs, "YBR_FULL_422"), body.tobytes())))
    assert np.abs(rgb.astype(int) - pairs).max() <= 2


def _with_pixels(dataset: Any, data: bytes) -> Any:
    dataset.PixelData = data
    return dataset


@pytest.mark.parametrize("header", ["RGB", "YBR_RCT", "YBR_ICT", "YBR_FULL", "YBR_FULL_422"])
def test_the_transform_of_jpeg_2000_is_undone_once_whatever_the_header_says(header: str) -> None:
    rgb, _ = decode.decode(with_frame(colours(), header, JPEG2000Lossless, jpeg_2000(colours())))
    np.testing.assert_array_equal(rgb, colours())


@cache
def jpegs() -> dict[str, tuple[bytes, str]]:
    """Frames of a JPEG and the only header that is needed to read them right; empty where none is."""
    full = encoded(colours(), "JPEG", quality=100, subsampling=0)
    halved = encoded(colours(), "JPEG", quality=100, subsampling=2)
    as_rgb = encoded(colours(), "JPEG", quality=100, subsampling=0, keep_rgb=True)
    adobe = b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + bytes([0, 100, 0, 0, 0, 0])
    bare = without(full, 0xE0)
    return {
        "jfif": (full, ""),
        "jfif, halved": (halved, ""),
        "bare, halved": (without(halved, 0xE0), ""),
        "adobe 1": (bare[:2] + adobe + b"\1" + bare[2:], ""),
        "adobe 0": (as_rgb, ""),
        "adobe 0, numbered": (numbered(as_rgb), ""),
        "letters": (without(as_rgb, 0xEE), ""),
        "bare": (bare, "YBR_FULL_422"),
        "bare of rgb": (numbered(without(as_rgb, 0xEE)), "RGB"),
    }


@pytest.mark.parametrize("name", jpegs())
@pytest.mark.parametrize("header", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_the_colours_of_a_jpeg_are_its_own(header: str, name: str) -> None:
    frame, needed = jpegs()[name]
    if needed and needed[:3] != header[:3]:
        pytest.skip("a header that is wrong, and nothing that tells")
    rgb, _ = decode.decode(with_frame(colours(), header, JPEGBaseline8Bit, frame))
    assert np.abs(rgb.astype(int) - colours()).mean() < (6 if "halved" in name else 2)


@pytest.mark.parametrize("header", ["RGB", "YBR_FULL"])
def test_lossless_jpeg_without_a_marker_has_the_colours_of_the_header(header: str) -> None:
    values = colours() if header == "RGB" else ybr(colours())
    rgb, _ = decode.decode(with_frame(values, header, JPEGLosslessSV1, bare_lossless_jpeg(values)))
    assert np.abs(rgb.astype(int) - colours()).max() <= (0 if header == "RGB" else 2)


# ---------------------------------------------------------------------------------------------------- pixel shape


@pytest.mark.parametrize(
    "shape",
    [{"PixelAspectRatio": [2, 1]}, {"PixelSpacing": [0.2, 0.1]}, {"ImagerPixelSpacing": [0.1, 0.2]}],
)
def test_pixels_that_are_not_square_are_refused(shape: dict[str, Any]) -> None:
    with pytest.raises(CaseError) as caught:
        decode.decode(dicom(colours(), **shape))
    assert caught.value.reason == "image_unsupported"


@pytest.mark.parametrize("shape", [{"PixelAspectRatio": [1, 1]}, {"PixelSpacing": [0.1, 0.1004]}, {"PixelSpacing": ""}])
def test_square_pixels_are_read(shape: dict[str, Any]) -> None:
    np.testing.assert_array_equal(decode.decode(dicom(colours(), **shape))[0], colours())
