"""Every kind of image becomes upright 8-bit RGB, or is refused with a reason; nothing is half-decoded."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import TURNS, dicom, dicom_dataset, encoded, noise, picture, png_16, saved
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import JPEGBaseline8Bit, RLELossless

from skinkit.errors import CaseError
from skinkit.images import decode, encode, identity


def reason_of(data: bytes, *, thorough: bool = True) -> str:
    with pytest.raises(CaseError) as caught:
        decode.decode(data, thorough=thorough)
    return caught.value.reason


# ------------------------------------------------------------------------------------------------ ordinary kinds


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_lossless_kinds_keep_every_pixel(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    rgb, flags = decode.decode(encoded(picture(), kind, **options))
    np.testing.assert_array_equal(rgb, picture())
    assert rgb.dtype == np.uint8
    assert flags == ()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
def test_jpeg_is_what_pillow_makes_of_it(options: dict[str, Any]) -> None:
    data = encoded(picture(), "JPEG", quality=90, **options)
    rgb, flags = decode.decode(data, thorough=True)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(rgb, np.asarray(image))
    assert flags == ()


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(encoded(picture(), "PNG"))
    np.testing.assert_array_equal(decode.read_rgb(file), picture())


def test_grey_palette_and_two_colours() -> None:
    grey = picture()[:, :, 0]
    rgb, _ = decode.decode(encoded(grey, "PNG"))
    np.testing.assert_array_equal(rgb, np.dstack([grey] * 3))
    palette = Image.fromarray(picture()).quantize(16)
    rgb, _ = decode.decode(encoded(palette, "PNG"))
    np.testing.assert_array_equal(rgb, np.asarray(palette.convert("RGB")))
    two = Image.fromarray(grey > 100)
    rgb, _ = decode.decode(encoded(two, "PNG"))
    assert set(np.unique(rgb)) == {0, 255}


def test_alpha_is_composited_on_white_and_flagged() -> None:
    alpha = np.zeros((61, 83), dtype=np.uint8)
    alpha[:, 40:] = 255
    rgb, flags = decode.decode(encoded(np.dstack([picture(), alpha]), "PNG"))
    assert flags == ("alpha_on_white",)
    assert (rgb[:, :40] == 255).all()
    np.testing.assert_array_equal(rgb[:, 40:], picture()[:, 40:])
    opaque = np.dstack([picture(), np.full((61, 83), 255, dtype=np.uint8)])
    rgb, flags = decode.decode(encoded(opaque, "PNG"))
    np.testing.assert_array_equal(rgb, picture())
    assert flags == ()


def test_transparent_palette_becomes_white() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((0, 0), 0)
    rgb, flags = decode.decode(encoded(palette, "PNG", transparency=0))
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert rgb[1, 1].tolist() == [10, 20, 30]
    assert flags == ("alpha_on_white",)


def test_cmyk_of_jpeg_and_tiff() -> None:
    cmyk = Image.fromarray(picture()).convert("CMYK")
    expected = np.asarray(cmyk.convert("RGB")).astype(int)
    for data in (encoded(cmyk, "TIFF"), encoded(cmyk, "JPEG", quality=100)):
        rgb, flags = decode.decode(data)
        assert flags == ("cmyk",)
        assert abs(rgb.astype(int) - expected).mean() < 3


def test_cmyk_jpeg_without_adobes_marker_is_not_inverted() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    marker = data.index(b"\xff\xee")
    length = int.from_bytes(data[marker + 2 : marker + 4], "big")
    bare = data[:marker] + data[marker + 2 + length :]
    with_marker, _ = decode.decode(data)
    without, _ = decode.decode(bare)
    assert with_marker[8, 8].tolist() == [255, 0, 0]
    # The stored numbers are those Adobe inverts, so read plainly they are the opposite ink.
    assert without[8, 8].tolist() == [0, 0, 0]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_keep_their_high_byte_in_every_arrangement(channels: int) -> None:
    steps = np.array([0, 255, 256, 32768, 65279, 65280, 65535], dtype=np.uint16)
    values = np.repeat(steps[np.newaxis, :, np.newaxis], channels, axis=2)
    if channels in (2, 4):
        values[:, :, -1] = 65535
    rgb, flags = decode.decode(png_16(values))
    assert rgb[0, :, 0].tolist() == [0, 0, 1, 128, 254, 255, 255]
    assert (rgb == rgb[:, :, :1]).all()
    assert flags == ("sixteen_bit",)


def test_sixteen_bit_grey_tiff_and_png() -> None:
    values = np.array([[0, 256], [32768, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        rgb, flags = decode.decode(encoded(Image.fromarray(values), kind))
        assert rgb[:, :, 0].tolist() == [[0, 1], [128, 255]]
        assert flags == ("sixteen_bit",)


@pytest.mark.parametrize(("full", "expected"), [(1.0, [0, 128, 255]), (255.0, [0, 128, 255]), (65535.0, [0, 128, 255])])
def test_float_tiff_is_scaled_by_its_range(full: float, expected: list[int]) -> None:
    values = (np.array([[0.0, 0.5, 1.0]]) * full).astype(np.float32)
    rgb, flags = decode.decode(encoded(Image.fromarray(values), "TIFF"))
    assert rgb[0, :, 1].tolist() == expected
    assert flags == ("float_scaled",)


def test_negative_float_and_lab_are_unsupported() -> None:
    assert reason_of(encoded(Image.fromarray(np.array([[-1.0, 2.0]], dtype=np.float32)), "TIFF")) == "image_unsupported"
    assert reason_of(encoded(Image.new("LAB", (4, 4)), "TIFF")) == "image_unsupported"


# -------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_all_eight_orientations(kind: str, options: dict[str, Any], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb, _ = decode.decode(encoded(picture(), kind, exif=exif, **options))
    np.testing.assert_array_equal(rgb, TURNS[orientation](picture()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_jpeg(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, _ = decode.decode(encoded(picture(), "JPEG"), thorough=True)
    rgb, _ = decode.decode(encoded(picture(), "JPEG", exif=exif), thorough=True)
    np.testing.assert_array_equal(rgb, TURNS[orientation](plain))


def test_damaged_exif_does_not_matter() -> None:
    data = encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode.decode(data)[0].shape == (61, 83, 3)


# ------------------------------------------------------------------------------------------------ damaged images


def ends_of_segments(data: bytes) -> set[int]:
    """Where a marker segment (not a scan's data) of a JPEG ends."""
    starts = [at for at in range(len(data) - 4) if data[at] == 0xFF and data[at + 1] in (0xC4, 0xDA, 0xDB, 0xC0, 0xC2)]
    return {at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") for at in starts}


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("tail", [b"", b"\0" * 400, b"\xff\xd9"])
def test_a_truncated_jpeg_is_never_decoded(progressive: bool, tail: bytes) -> None:
    data = encoded(noise(), "JPEG", quality=90, progressive=progressive)
    # One place in each 37 bytes, from inside the header to just before the end marker.
    for place in range(2, len(data) - 2, 37):
        if progressive and tail == b"\xff\xd9" and place in ends_of_segments(data):
            continue  # whole scans and an end marker are a complete, only coarser JPEG
        reason = reason_of(data[:place] + tail)
        assert reason == "image_truncated" or (reason == "image_unreadable" and place < 700), place


def test_a_jpeg_cut_in_its_flat_lower_part_is_noticed_by_the_quick_way_too() -> None:
    data = encoded(noise(160, 160), "JPEG", quality=90)
    for share in (0.3, 0.5, 0.8):
        cut = data[: int(len(data) * share)]
        assert reason_of(cut, thorough=False) == "image_truncated"
        assert reason_of(cut + b"\xff\xd9", thorough=False) == "image_truncated"


def test_a_jpeg_with_a_thumbnail_and_a_trailer_is_complete() -> None:
    thumbnail = encoded(noise(16, 16), "JPEG")
    exif = Image.Exif()
    exif[0x927C] = thumbnail
    data = encoded(picture(), "JPEG", exif=exif) + b"motion photo" * 50
    assert decode.decode(data, thorough=True)[0].shape == (61, 83, 3)
    assert reason_of(encoded(noise(), "JPEG", exif=exif)[:-300]) == "image_truncated"


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_other_truncated_kinds_fail(kind: str, options: dict[str, Any]) -> None:
    data = encoded(noise(), kind, **options)
    reasons = {reason_of(data[:place]) for place in range(8, len(data) - 12, max(1, len(data) // 40))}
    assert reasons == {"image_truncated"}


def test_missing_empty_foreign_and_folder(tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(CaseError) as caught:
            decode.read_rgb(path)
        return caught.value.reason

    assert reason(tmp_path / "no.jpg") == "image_missing"
    assert reason(tmp_path) == "image_missing"
    (tmp_path / "empty.jpg").touch()
    assert reason(tmp_path / "empty.jpg") == "image_empty"
    for name, content, expected in (
        ("text.jpg", b"this is no picture", "image_unreadable"),
        ("a.pdf", b"%PDF-1.7 and so on", "image_unsupported"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0", "image_unsupported"),
        ("a.zip", b"PK\x03\x04" + b"\0" * 40, "image_unsupported"),
        ("zeros.jpg", b"\0" * 5000, "image_unreadable"),
    ):
        (tmp_path / name).write_bytes(content)
        assert reason(tmp_path / name) == expected
    with pytest.raises(CaseError) as caught:
        decode.read_rgb(tmp_path / "text.jpg")
    assert str(tmp_path) not in caught.value.detail


def test_a_decompression_bomb_is_not_unpacked() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    for side in (10_001, 60_000):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        assert reason_of(data) == "image_too_large"


def test_animations_fail_and_multi_page_tiff_gives_its_first_page() -> None:
    pages = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    for kind in ("GIF", "WEBP", "PNG"):
        assert reason_of(encoded(pages[0], kind, save_all=True, append_images=pages[1:])) == "image_multiframe"
    rgb, flags = decode.decode(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    np.testing.assert_array_equal(rgb, picture())
    assert flags == ("first_page",)


@settings(deadline=None)
@given(
    st.binary(max_size=300), st.sampled_from(["JPEG", "PNG", "TIFF", "BMP", "WEBP", "DICOM"]), st.integers(0, 10_000)
)
def test_damaged_bytes_give_pixels_or_a_reason(junk: bytes, kind: str, place: int) -> None:
    data = dicom(picture(16, 12)) if kind == "DICOM" else encoded(picture(16, 12), kind)
    place %= len(data)
    damaged = data[:place] + junk + data[place + len(junk) :]
    with contextlib.suppress(CaseError):  # every other exception fails
        rgb, _ = decode.decode(damaged, thorough=True)
        assert rgb.dtype == np.uint8
        assert rgb.ndim == 3


# -------------------------------------------------------------------------------------------------------- DICOM


RAMP = (np.add.outer(np.arange(16), np.arange(24)) * 6).astype(np.uint8)


def test_dicom_rgb_with_and_without_compression() -> None:
    rgb = picture(24, 16)
    np.testing.assert_array_equal(decode.decode(dicom(rgb))[0], rgb)
    dataset = dicom_dataset(rgb)
    dataset.compress(RLELossless)
    np.testing.assert_array_equal(decode.decode(saved(dataset))[0], rgb)


def test_dicom_monochrome() -> None:
    np.testing.assert_array_equal(decode.decode(dicom(RAMP, "MONOCHROME2"))[0][:, :, 0], RAMP)
    np.testing.assert_array_equal(decode.decode(dicom(RAMP, "MONOCHROME1"))[0][:, :, 2], 255 - RAMP)
    twelve, flags = decode.decode(dicom(RAMP.astype(np.uint16) * 16, "MONOCHROME2", bits=12))
    assert abs(twelve[:, :, 0].astype(int) - RAMP).max() <= 1
    assert flags == ("sixteen_bit",)
    signed, _ = decode.decode(dicom(RAMP.astype(np.int16) - 128, "MONOCHROME2", bits=8))
    np.testing.assert_array_equal(signed[:, :, 1], RAMP)


def test_dicom_rescale_and_window() -> None:
    values = np.array([[0, 100, 300, 549, 2000]], dtype=np.uint16)
    window = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 500, "WindowWidth": 1000}
    rgb, _ = decode.decode(dicom(values, "MONOCHROME2", bits=12, **window))
    # PS3.3 C.11.2.1.2 by hand: ((x - 499.5) / 999 + 0.5) * 255 for x = -100, 100, 500, 998, 3900
    assert rgb[0, :, 0].tolist() == [0, 26, 128, 255, 255]
    several = {"WindowCenter": [500, 40], "WindowWidth": [1000, 80], "VOILUTFunction": "LINEAR_EXACT"}
    rgb, _ = decode.decode(dicom(values, "MONOCHROME2", bits=12, **several))
    assert rgb[0, :, 0].tolist() == [0, 26, 76, 140, 255]


def test_dicom_palette_and_ybr() -> None:
    ramp = np.arange(256, dtype=np.uint16) * 257
    palette: dict[str, Any] = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")}
    for colour, table in (("Red", ramp), ("Green", ramp[::-1]), ("Blue", ramp)):
        palette[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    rgb, _ = decode.decode(dicom(RAMP, "PALETTE COLOR", **palette))
    np.testing.assert_array_equal(rgb[:, :, 0], RAMP)
    np.testing.assert_array_equal(rgb[:, :, 1], 255 - RAMP)
    colours = picture(24, 16)
    ybr = convert_color_space(colours, "RGB", "YBR_FULL")
    rgb, _ = decode.decode(dicom(ybr, "YBR_FULL"))
    assert abs(rgb.astype(int) - colours).max() <= 2


def test_dicom_with_jpeg_inside() -> None:
    dataset = dicom_dataset(picture(24, 16), "YBR_FULL_422")
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([encoded(picture(24, 16), "JPEG", quality=95, subsampling=0)])
    dataset["PixelData"].is_undefined_length = True
    data = saved(dataset)
    assert abs(decode.decode(data)[0].astype(int) - picture(24, 16)).mean() < 4
    for cut in (40, 200):
        assert reason_of(data[:-cut]) == "image_truncated"


@pytest.mark.parametrize("colour", [True, False])
def test_dicom_with_lossless_jpeg_inside(tmp_path: Path, colour: bool) -> None:
    import SimpleITK

    values = picture(24, 16) if colour else RAMP.astype(np.uint16) * 200
    sitk: Any = SimpleITK
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.Execute(sitk.GetImageFromArray(values, isVector=colour))
    assert "JPEG Lossless" in pydicom.dcmread(tmp_path / "a.dcm").file_meta.TransferSyntaxUID.name
    rgb = decode.read_rgb(tmp_path / "a.dcm")
    if colour:
        np.testing.assert_array_equal(rgb, values)
    else:
        np.testing.assert_array_equal(rgb[:, :, 0], np.rint(values / 65535 * 255))


def test_dicom_that_cannot_be_used() -> None:
    assert reason_of(dicom(np.stack([RAMP, RAMP]), "MONOCHROME2", NumberOfFrames=2)) == "image_multiframe"
    data = dicom(picture(24, 16))
    assert reason_of(data[:-100]) == "image_truncated"
    dataset = dicom_dataset(RAMP, "MONOCHROME2")
    del dataset.PixelData
    assert reason_of(saved(dataset)) == "image_without_pixels"
    assert reason_of(dicom(RAMP, "MONOCHROME2", Rows=40_000, Columns=40_000)) == "image_too_large"


def test_dicom_without_preamble() -> None:
    bare = Dataset()
    bare.update({element.tag: element for element in dicom_dataset(picture(24, 16))})
    for implicit in (True, False):
        sink = io.BytesIO()
        pydicom.dcmwrite(sink, bare, implicit_vr=implicit, little_endian=True)
        np.testing.assert_array_equal(decode.decode(sink.getvalue())[0], picture(24, 16))


# -------------------------------------------------------------------------------------- pixels, names and hashes


def test_grey_is_pillows_luma() -> None:
    rgb = noise()
    weighted = rgb.astype(np.int64) @ np.array([19595, 38470, 7471])
    np.testing.assert_array_equal(encode.grey(rgb), (weighted + 0x8000) >> 16)


def every_kind() -> dict[str, bytes]:
    """A file of every kind that is read, and some that are not."""
    colour, grey = picture(), picture()[:, :, 0]
    alpha = Image.fromarray(np.dstack([colour, grey]))
    palette = Image.fromarray(colour).quantize(16)
    turned = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned[f"turned {orientation}"] = encoded(colour, "JPEG", exif=exif)
    cut = encoded(noise(), "JPEG", quality=95)
    return {
        **turned,
        "JPEG": encoded(noise(), "JPEG", quality=85),
        "JPEG 4:4:4": encoded(noise(), "JPEG", subsampling=0),
        "progressive": encoded(colour, "JPEG", progressive=True),
        "grey JPEG": encoded(grey, "JPEG"),
        "CMYK JPEG": encoded(Image.fromarray(colour).convert("CMYK"), "JPEG"),
        "PNG": encoded(noise(), "PNG"),
        "grey PNG": encoded(grey, "PNG"),
        "two colours": encoded(Image.fromarray(grey > 99), "PNG"),
        "alpha": encoded(alpha, "PNG"),
        "grey alpha": encoded(alpha.convert("LA"), "PNG"),
        "one grey is transparent": encoded(grey, "PNG", transparency=7),
        "one colour is transparent": encoded(colour, "PNG", transparency=(0, 0, 0)),
        "palette": encoded(palette, "PNG"),
        "transparent palette": encoded(palette, "PNG", transparency=3),
        "16 bits": png_16((noise().astype(np.uint16) << 8) + 77),
        "16 bits grey": encoded(Image.fromarray((grey.astype(np.uint16) << 8) + 5), "TIFF"),
        "TIFF": encoded(colour, "TIFF"),
        "BMP": encoded(colour, "BMP"),
        "WEBP": encoded(colour, "WEBP"),
        "DICOM": dicom(noise()),
        "cut": cut[:-400],
        "cut, with an end marker": cut[:-400] + b"\xff\xd9",
        "text": b"no picture",
    }


@pytest.mark.parametrize("kind", every_kind())
def test_luma_is_the_grey_of_the_whole_picture_for_every_kind(kind: str, tmp_path: Path) -> None:
    data = every_kind()[kind]
    file = tmp_path / "photo"
    file.write_bytes(data)
    hashes = ["", "0" * 64]  # of a file not seen before, and of one that was another
    try:
        expected = encode.grey(decode.read_rgb(file))
    except CaseError as error:
        for known in hashes:
            with pytest.raises(CaseError, match=error.reason):
                decode.read_luma(file, sha256=known)
        return
    for known in [*hashes, hashlib.sha256(data).hexdigest()]:
        luma = decode.read_luma(file, sha256=known)
        assert luma.dtype == np.uint8
        np.testing.assert_array_equal(luma, expected)


def test_encoding_gives_the_same_bytes_and_the_same_pixels() -> None:
    mask = picture()[:, :, 0] > 100
    assert encode.png_bytes(mask) == encode.png_bytes(mask.copy())
    np.testing.assert_array_equal(decode.decode(encode.png_bytes(mask))[0][:, :, 0] == 255, mask)
    np.testing.assert_array_equal(decode.decode(encode.png_bytes(picture()))[0], picture())
    assert decode.decode(encode.jpeg_bytes(picture()))[0].shape == (61, 83, 3)


def test_resize() -> None:
    assert encode.resize(picture(), (20, 10)).shape == (10, 20, 3)
    mask = encode.resize(picture()[:, :, 0] > 100, (20, 10))
    assert mask.dtype == np.bool_


def test_hashes() -> None:
    rgb = picture()
    assert identity.pixel_sha256(rgb) == hashlib.sha256(b"83x61:" + rgb.tobytes()).hexdigest()
    assert identity.pixel_sha256(rgb) != identity.pixel_sha256(rgb[:, ::-1])
    blobs = np.asarray(Image.fromarray(noise(9, 8)).resize((180, 160), Image.Resampling.NEAREST))

    def apart(one: np.ndarray, other: np.ndarray) -> int:
        return bin(int(identity.dhash(one)[:16], 16) ^ int(identity.dhash(other)[:16], 16)).count("1")

    assert apart(blobs, np.asarray(Image.fromarray(blobs).resize((90, 80)))) <= 3
    assert apart(blobs, blobs[:, ::-1]) > 15


def test_hashes_of_turned_and_mirrored_versions_follow_from_one() -> None:
    blobs = np.asarray(Image.fromarray(noise(7, 6)).resize((180, 130), Image.Resampling.BICUBIC))
    known, whole = identity.dihedral_hashes([identity.dhash(blobs), identity.dhash(blobs)[:16]])
    assert whole.tolist() == [True, False]
    again = [
        identity.dihedral_hashes([identity.dhash(np.ascontiguousarray(version))])[0][0, 0]
        for one in (blobs, blobs.transpose(1, 0, 2))
        for version in (one, one[:, ::-1], one[::-1], one[::-1, ::-1])
    ]
    assert np.bitwise_count(known[0] ^ np.array(again)).max() <= 1
    # The published hash alone knows the versions that keep their width; equal neighbours may cost it a bit.
    assert np.bitwise_count(known[1, :4, 0] ^ np.array(again)[:4, 0]).max() <= 4
    assert identity.dihedral_hashes([])[0].shape == (0, 8, 2)


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=120), unique=True, max_size=40))
def test_slugs_are_safe_and_never_shared(ids: list[str]) -> None:
    slugs = [
        identity.slug(i.encode("utf-8", "ignore").decode()) for i in ids if i.encode("utf-8", "ignore").decode() == i
    ]
    assert len(set(slugs)) == len(slugs)
    for name in slugs:
        assert 1 <= len(name) <= 80
        assert name.isascii()
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert name[0] not in ".-"


def test_slug_leaves_good_ids_alone() -> None:
    assert identity.slug("PAT_46_881_939") == "PAT_46_881_939"
    assert identity.slug("../../etc/passwd").startswith("etc_passwd-")
    assert identity.slug("a b") != identity.slug("a_b")


# ------------------------------------------------------------------------------------- how programs write pictures


def test_the_largest_page_of_a_tiff_is_the_picture() -> None:
    small, full = Image.fromarray(noise(20, 15)), Image.fromarray(picture())
    for pages, flag in (([small, full], "largest_page"), ([full, small], "first_page"), ([full, full], "first_page")):
        for compression in ({}, {"compression": "tiff_lzw"}):
            data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], **compression)
            rgb, flags = decode.decode(data)
            np.testing.assert_array_equal(rgb, picture())
            assert flags == (flag,)
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = encoded(small, "TIFF", save_all=True, append_images=[full], exif=exif)
    assert decode.decode(turned)[0].shape == picture().shape


def test_pages_that_are_no_pictures_and_pictures_that_are_no_pages() -> None:
    """By hand: directories of 4 x 3 and 8 x 6 grey pixels; the second is a transparency mask or a sub-directory."""

    def directory(width: int, height: int, at: int, following: int, *more: tuple[int, int]) -> bytes:
        entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, at), (277, 1), (278, height)]
        entries = sorted([*entries, (279, width * height), *more])
        body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        return struct.pack("<H", len(entries)) + body + struct.pack("<I", following)

    def tiff(following: int, more_first: list[tuple[int, int]], more_second: list[tuple[int, int]]) -> bytes:
        first = directory(4, 3, 400, following, *more_first)
        data = (b"II*\0" + struct.pack("<I", 8) + first).ljust(200, b"\0")
        data = (data + directory(8, 6, 420, 0, *more_second)).ljust(400, b"\0")
        return data + bytes(range(12)).ljust(20, b"\0") + bytes(range(100, 148))

    rgb, flags = decode.decode(tiff(200, [], []))
    assert (rgb.shape, flags) == ((6, 8, 3), ("largest_page",))
    rgb, flags = decode.decode(tiff(200, [], [(254, 4)]))
    assert (rgb.shape, flags) == ((3, 4, 3), ("first_page",))
    assert reason_of(tiff(0, [(330, 200)], [])) == "image_unsupported"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_alpha_that_is_all_zero_is_no_alpha(kind: str) -> None:
    rgba = np.dstack([picture(), np.zeros((61, 83), np.uint8)])
    rgb, flags = decode.decode(bmp_with_alpha(rgba) if kind == "BMP" else encoded(rgba, kind))
    np.testing.assert_array_equal(rgb, picture())
    assert flags == ("alpha_ignored",)


def bmp_with_alpha(rgba: Any) -> bytes:
    """A BMP of version 4, whose header has a mask for the alpha channel."""
    height, width = rgba.shape[:2]
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    head = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, width * height * 4, 0, 0, 0, 0) + masks
    body = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


def test_grey_alpha_that_is_all_zero_is_no_alpha() -> None:
    grey = picture()[:, :, 0]
    rgb, flags = decode.decode(encoded(Image.fromarray(np.dstack([grey, grey * 0]), "LA"), "PNG"))
    np.testing.assert_array_equal(rgb[:, :, 0], grey)
    assert flags == ("alpha_ignored",)


def with_significant_bits(png: bytes, bits: int, channels: int) -> bytes:
    """A PNG that states its significant bits."""
    name = b"sBIT" + bytes([bits] * channels)
    return png[:33] + struct.pack(">I", channels) + name + struct.pack(">I", zlib.crc32(name)) + png[33:]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_fewer_bits_in_sixteen(bits: int, channels: int) -> None:
    full = (1 << bits) - 1
    values = np.array([[0, full // 2, full - 1, full]], np.uint16).repeat(3, axis=0)[:, :, np.newaxis]
    values = values.repeat(channels, axis=2)
    if channels in (2, 4):
        values[:, :, -1] = 65535
    expected = [round(v / full * 255) for v in (0, full // 2, full - 1, full)]
    rgb, flags = decode.decode(png_16(values))
    if channels != 2:  # of grey and alpha Pillow gives the high byte alone
        assert rgb[0, :, 0].tolist() == expected
        assert (rgb == rgb[:, :, :1]).all()
    assert "sixteen_bit" in flags
    dark = values.copy()
    dark[:, :, : max(1, channels - (channels in (2, 4)))] //= 8
    if channels in (1, 3):  # without the statement these would be taken for values of still fewer bits
        rgb, flags = decode.decode(with_significant_bits(png_16(dark), bits, channels))
        assert rgb[0, -1, 0] == round(full // 8 / full * 255)
        assert "fewer_bits" in flags


def test_significant_bits_of_scaled_values_change_nothing() -> None:
    """PNG's own rule: samples are scaled to sixteen bits, whatever sBIT says."""
    values = np.array([[0, 2048 << 4, 4095 << 4]], np.uint16)[:, :, np.newaxis].repeat(3, axis=2)
    rgb, flags = decode.decode(with_significant_bits(png_16(values), 12, 3))
    assert rgb[0, :, 1].tolist() == [0, 128, 255]
    assert flags == ("sixteen_bit",)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_twelve_bits_in_a_tiff(options: dict[str, Any]) -> None:
    values = np.array([[0, 1000, 2048, 4095]], np.uint16).repeat(2, axis=0)
    rgb, flags = decode.decode(encoded(Image.fromarray(values), "TIFF", **options))
    assert rgb[0, :, 0].tolist() == [0, 62, 128, 255]
    assert flags == ("sixteen_bit", "fewer_bits")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_flagged(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    _, flags = decode.decode(encoded(picture(), "JPEG", exif=exif))
    assert flags == (("turned",) if orientation > 1 else ())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_pixels_that_are_not_square_are_flagged(kind: str) -> None:
    assert decode.decode(encoded(picture(), kind, dpi=(300, 150)))[1] == ("pixels_not_square",)
    assert decode.decode(encoded(picture(), kind, dpi=(300, 300)))[1] == ()


def test_a_png_with_megabytes_of_text_is_read_and_turned_by_its_xmp() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("notes", "x" * 3_000_000, zip=True)
    xmp = '<x:xmpmeta><rdf:Description tiff:Orientation="3"/>' + "<!-- -->" * 500_000
    info.add_itxt("XML:com.adobe.xmp", xmp, zip=True)
    rgb, flags = decode.decode(encoded(picture(), "PNG", pnginfo=info))
    np.testing.assert_array_equal(rgb, picture()[::-1, ::-1])
    assert flags == ("turned",)


def test_a_wrong_checksum_costs_the_text_and_not_the_picture() -> None:
    plain = encoded(picture(), "PNG")
    note = struct.pack(">I", 6) + b"tEXta\0note" + b"\0\1\2\3"
    rgb, flags = decode.decode(plain[:33] + note + plain[33:])
    np.testing.assert_array_equal(rgb, picture())
    assert flags == ("metadata_damaged",)
    see_through = struct.pack(">I", 6) + b"tRNS" + bytes(6) + b"\0\1\2\3"  # what it says is seen
    assert reason_of(plain[:33] + see_through + plain[33:]) == "image_unreadable"
