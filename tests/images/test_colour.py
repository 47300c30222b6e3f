"""Photos whose numbers are not sRGB become sRGB, by the profile in the file; a bad profile changes nothing."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import COLORANTS, Pixels, dicom, encoded, icc_of_inks, icc_profile, picture, srgb_of
from PIL import Image

from skinkit.images import decode, encode
from skinkit.images.colour import MAX_PROFILE_BYTES

P3, ADOBE, SAME = COLORANTS


def colours() -> Pixels:
    """Colours of skin and lesions, and the corners of the cube that sRGB holds too."""
    rows = [(211, 166, 141), (120, 70, 50), (60, 45, 40), (180, 90, 95), (0, 0, 0), (255, 255, 255), (128, 128, 128)]
    return np.repeat(np.array([rows], np.uint8), 4, axis=0)


@pytest.mark.parametrize(("name", "flag"), [(P3, "converted_from_p3"), (ADOBE, "converted_from_adobe_rgb")])
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_a_profile_is_applied(name: str, flag: str, kind: str, options: dict[str, Any]) -> None:
    rgb, flags = decode.decode(encoded(colours(), kind, icc_profile=icc_profile(name), **options))
    assert np.abs(rgb.astype(int) - srgb_of(colours(), name)).max() <= 1
    assert flags == (flag,)


def test_a_colour_by_hand() -> None:
    """Adobe RGB (120, 70, 50): linear (0.1906, 0.0583, 0.0278), XYZ (0.1323, 0.0975, 0.0280), sRGB (135, 68, 45)."""
    one = np.full((2, 2, 3), (120, 70, 50), np.uint8)
    rgb, _ = decode.decode(encoded(one, "PNG", icc_profile=icc_profile(ADOBE)))
    assert np.abs(rgb[0, 0].astype(int) - (135, 68, 45)).max() <= 1


def test_a_jpeg_is_converted_once_and_its_luma_too(tmp_path: Path) -> None:
    data = encoded(picture(), "JPEG", quality=95, icc_profile=icc_profile(P3))
    plain, _ = decode.decode(encoded(picture(), "JPEG", quality=95))
    rgb, flags = decode.decode(data, thorough=True)
    assert np.abs(rgb.astype(int) - srgb_of(plain, P3)).max() <= 1
    assert flags == ("converted_from_p3",)
    (tmp_path / "a.jpg").write_bytes(data)
    np.testing.assert_array_equal(decode.read_luma(tmp_path / "a.jpg"), encode.grey(rgb))


def test_srgb_under_any_name_changes_nothing() -> None:
    from PIL import ImageCms

    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb, flags = decode.decode(encoded(picture(), "PNG", icc_profile=usual))
    np.testing.assert_array_equal(rgb, picture())
    assert flags == ()


def test_modes_with_a_profile() -> None:
    alpha = np.full((*colours().shape[:2], 1), 255, np.uint8)
    alpha[0, 0] = 0
    rgb, flags = decode.decode(encoded(np.dstack([colours(), alpha]), "PNG", icc_profile=icc_profile(P3)))
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert np.abs(rgb[1:].astype(int) - srgb_of(colours(), P3)[1:]).max() <= 1
    assert flags == ("converted_from_p3", "alpha_on_white")
    few = Image.fromarray(colours()).quantize(16)
    rgb, _ = decode.decode(encoded(few, "PNG", icc_profile=icc_profile(P3)))
    assert np.abs(rgb.astype(int) - srgb_of(np.asarray(few.convert("RGB")), P3)).max() <= 1
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for profile in (icc_profile(P3), icc_profile("grey", space=b"GRAY")):
        rgb, flags = decode.decode(encoded(grey, "PNG", icc_profile=profile))
        assert np.abs(rgb[:, :, 1].astype(int) - srgb_of(np.dstack([grey] * 3), SAME)[:, :, 1]).max() <= 1
        assert flags[0].startswith("converted_from_")


def test_inks_are_converted_by_their_profile() -> None:
    inks = np.zeros((1, 3, 4), np.uint8)
    inks[0, 1, 3], inks[0, 2, 0] = 255, 255  # paper, black, cyan
    rgb, flags = decode.decode(encoded(Image.fromarray(inks, "CMYK"), "TIFF", icc_profile=icc_of_inks()))
    assert flags == ("cmyk", "converted_from_cmyk_profile")
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert rgb[0, 1].max() <= 2
    assert np.abs(rgb[0, 2].astype(int) - 198).max() <= 2  # L* 80: Y 0.567, sRGB 0.776


def broken_profiles() -> dict[str, bytes]:
    whole = icc_profile(P3)
    black = bytearray(whole)
    for letter in (b"rXYZ", b"gXYZ", b"bXYZ"):  # every colour becomes black
        at = whole.index(letter)
        start = int.from_bytes(whole[at + 4 : at + 8], "big") + 8
        black[start : start + 12] = bytes(12)
    return {
        "no profile": b"no profile" * 9,
        "cut": whole[:200],
        "zeros": bytes(600),
        "of another space": whole.replace(b"mntrRGB ", b"mntrCMYK"),
        "of other colours": icc_of_inks(),
        "black": bytes(black),
        "enormous": icc_profile(P3, comment=MAX_PROFILE_BYTES),
    }


@pytest.mark.parametrize("name", broken_profiles())
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_bad_profile_is_passed_over_with_a_flag(kind: str, name: str) -> None:
    options = {"quality": 95} if kind == "JPEG" else {}
    plain, _ = decode.decode(encoded(picture(), kind, **options))
    rgb, flags = decode.decode(encoded(picture(), kind, icc_profile=broken_profiles()[name], **options), thorough=True)
    np.testing.assert_array_equal(rgb, plain)
    assert flags == ("profile_ignored",)


def test_a_profile_in_pieces_of_which_one_is_missing() -> None:
    data = encoded(picture(), "JPEG", icc_profile=icc_profile(P3, comment=100_000))
    first = data.index(b"ICC_PROFILE") - 4
    length = int.from_bytes(data[first + 2 : first + 4], "big") + 2
    _, flags = decode.decode(data[:first] + data[first + length :])
    assert flags == ("profile_ignored",)


def test_a_profile_that_is_a_bomb() -> None:
    plain = encoded(picture(), "PNG")
    body = b"icc\0\0" + zlib.compress(bytes(80_000_000), 9)
    chunk = len(body).to_bytes(4, "big") + b"iCCP" + body + zlib.crc32(b"iCCP" + body).to_bytes(4, "big")
    rgb, flags = decode.decode(plain[:33] + chunk + plain[33:])
    np.testing.assert_array_equal(rgb, picture())
    assert flags == ("profile_ignored",)


def test_dicom_with_a_profile() -> None:
    rgb, flags = decode.decode(dicom(colours(), ICCProfile=icc_profile(P3)))
    assert np.abs(rgb.astype(int) - srgb_of(colours(), P3)).max() <= 1
    assert flags == ("converted_from_p3",)
    rgb, flags = decode.decode(dicom(colours(), ICCProfile=b"none"))
    np.testing.assert_array_equal(rgb, colours())
    assert flags == ("profile_ignored",)
