"""Masks as people and programs write them: which values are the lesion, and which masks are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import dicom, encoded
from PIL import Image

from skinkit.errors import CaseError
from skinkit.images.drawn_masks import read_drawn_mask
from skinkit.images.mask_reading import Reading

WIDTH, HEIGHT = 60, 40
Pixels = np.ndarray[Any, Any]


def lesion() -> Pixels:
    """A rectangle of 20 x 30 pixels."""
    truth = np.zeros((HEIGHT, WIDTH), dtype=bool)
    truth[10:30, 20:50] = True
    return truth


def ruler() -> Pixels:
    """A line one pixel wide, apart from the lesion."""
    truth = np.zeros((HEIGHT, WIDTH), dtype=bool)
    truth[35, 5:55] = True
    return truth


def soft_edge(low: float = 0.25, high: float = 0.75) -> Pixels:
    """Shares: 1 in the lesion, ``high`` in its first and ``low`` in its last row."""
    shares = lesion().astype(np.float64)
    shares[10, 20:50], shares[29, 20:50] = high, low
    return shares


def read(tmp_path: Path, data: bytes, **options: Any) -> tuple[Pixels, tuple[str, ...]]:
    file = tmp_path / "mask"
    file.write_bytes(data)
    return read_drawn_mask(file, (WIDTH, HEIGHT), **options)


def reason(tmp_path: Path, data: bytes, **options: Any) -> str:
    with pytest.raises(CaseError) as caught:
        read(tmp_path, data, **options)
    return caught.value.reason


def tiff(values: Pixels) -> bytes:
    return encoded(Image.fromarray(values), "TIFF")


# ------------------------------------------------------------------------------------------------- two levels


def two_levels() -> dict[str, bytes]:
    truth = lesion()
    byte = truth.astype(np.uint8)
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    dark_first = Image.frombytes("P", (WIDTH, HEIGHT), (1 - byte).tobytes())
    dark_first.putpalette([255, 255, 255, 0, 0, 0])
    return {
        "0 and 255": encoded(byte * 255, "PNG"),
        "0 and 1": encoded(byte, "PNG"),
        "1 and 2": encoded(byte + 1, "PNG"),
        "3 and 7": encoded(byte * 4 + 3, "PNG"),
        "200 and 255": encoded(byte * 55 + 200, "PNG"),
        "palette whose first colour is white": encoded(dark_first, "PNG"),
        "one bit": encoded(Image.fromarray(truth), "PNG"),
        "16 bits, 0 and 1": encoded(Image.fromarray(truth.astype(np.uint16)), "PNG"),
        "16 bits, 0 and 255": encoded(Image.fromarray(truth.astype(np.uint16) * 255), "PNG"),
        "16 bits, 0 and 65535": tiff(truth.astype(np.uint16) * 65535),
        "32 bits": tiff(truth.astype(np.int32) * 70_000),
        "floating point, 0 and 1": tiff(truth.astype(np.float32)),
        "floating point, 0 and 0.2": tiff(truth.astype(np.float32) * np.float32(0.2)),
        "floating point, 0 and 255": tiff(truth.astype(np.float32) * 255),
        "red on black": encoded(np.dstack([byte * 255, byte * 0, byte * 0]), "PNG"),
        "blue on black": encoded(np.dstack([byte * 0, byte * 0, byte * 255]), "PNG"),
        "alpha of white": encoded(np.dstack([black + 255, byte * 255]), "PNG"),
        "alpha of black": encoded(np.dstack([black, byte * 255]), "PNG"),
        "alpha of red": encoded(np.dstack([black + np.uint8([255, 0, 0]), byte * 255]), "PNG"),
        "alpha of black, grey": encoded(Image.fromarray(np.dstack([byte * 0, byte * 255]), "LA"), "PNG"),
        "white on black, alpha of zeros": encoded(np.dstack([*[byte * 255] * 3, byte * 0]), "PNG"),
        "DICOM": dicom(byte, "MONOCHROME2"),
        "DICOM of 16 bits, 0 and 1": dicom(truth.astype(np.uint16), "MONOCHROME2"),
        "DICOM of one bit": dicom(
            np.packbits(truth.ravel(), bitorder="little")[np.newaxis],
            "MONOCHROME2",
            bits=1,
            BitsAllocated=1,
            Rows=HEIGHT,
            Columns=WIDTH,
        ),
        "DICOM of 12 bits, 0 and 4095": dicom(truth.astype(np.uint16) * 4095, "MONOCHROME2", bits=12),
        "DICOM of 16 bits with a window": dicom(
            truth.astype(np.uint16), "MONOCHROME2", WindowCenter=2000, WindowWidth=400
        ),
        "DICOM, lowest is white": dicom((1 - byte) * 255, "MONOCHROME1"),
    }


@pytest.mark.parametrize("name", two_levels())
def test_of_two_levels_the_higher_is_the_lesion(name: str, tmp_path: Path) -> None:
    mask, _ = read(tmp_path, two_levels()[name])
    np.testing.assert_array_equal(mask, lesion())


def test_a_cut_out_photo_is_read_by_its_alpha(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    mask, flags = read(tmp_path, encoded(np.dstack([colours, lesion().astype(np.uint8) * 255]), "PNG"))
    np.testing.assert_array_equal(mask, lesion())
    assert flags == ("mask_of_alpha",)


# -------------------------------------------------------------------------------------------------- soft masks


def test_a_soft_mask_is_cut_in_the_middle_of_its_range(tmp_path: Path) -> None:
    upper = lesion()
    upper[29, 20:50] = False  # a quarter is less than half, three quarters are more
    shares = soft_edge()
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[:, :, 0] = shares * 255
    kinds = {
        "8 bits": encoded((shares * 255).astype(np.uint8), "PNG"),
        "16 bits": tiff((shares * 65535).astype(np.uint16)),
        "8 bits in 16": tiff((shares * 255).astype(np.uint16)),
        "floating point": tiff(shares.astype(np.float32)),
        "floating point of 8 bits": tiff((shares * 255).astype(np.float32)),
        "red": encoded(red, "PNG"),
        "alpha": encoded(np.dstack([red * 0, (shares * 255).astype(np.uint8)]), "PNG"),
        "DICOM of 16 bits": dicom((shares * 65535).astype(np.uint16), "MONOCHROME2"),
    }
    for name, data in kinds.items():
        mask, flags = read(tmp_path, data)
        np.testing.assert_array_equal(mask, upper, err_msg=name)
        assert "mask_soft" in flags, name
    shades = np.zeros((HEIGHT, WIDTH), np.uint8)
    shades[10:30, 20:50] = 128
    shades[10, 20:50], shades[29, 20:50] = 127, 255
    assert read(tmp_path, encoded(shades, "PNG"))[0].sum() == 19 * 30  # 128 is lesion, 127 is not


def test_the_threshold_is_not_relative_to_the_largest_value(tmp_path: Path) -> None:
    shares = soft_edge()
    shares[12:20, 25:40] = 0.6
    shares[0, 0] = 0.01
    mask, _ = read(tmp_path, encoded((shares * 250).astype(np.uint8), "PNG"))
    assert mask[15, 30]
    assert not mask[29, 30]
    dim = (shares * 150).astype(np.uint8)  # 0.6 of it is 90, more than half of 150
    assert not read(tmp_path, encoded(dim, "PNG"))[0][15, 30]


def test_a_jpeg_mask_is_soft(tmp_path: Path) -> None:
    grey = lesion().astype(np.uint8) * 255
    colour = np.dstack([grey, grey * 0, grey * 0])
    for data in (encoded(grey, "JPEG", quality=95), encoded(colour, "JPEG", quality=95)):
        np.testing.assert_array_equal(read(tmp_path, data)[0], lesion())


# ------------------------------------------------------------------------------------------------------ labels


def test_labels_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    values = lesion().astype(np.uint8) + np.uint8(2) * ruler()
    with pytest.raises(CaseError) as caught:
        read(tmp_path, encoded(values, "PNG"))
    assert caught.value.reason == "mask_labels"
    assert "1 (600 px), 2 (50 px)" in caught.value.detail
    for label, region in ((1, lesion()), (2, ruler())):
        np.testing.assert_array_equal(read(tmp_path, encoded(values, "PNG"), reading=Reading(label))[0], region)
    assert reason(tmp_path, encoded(values, "PNG"), reading=Reading(3)) == "mask_labels"


def test_labels_of_every_kind_of_file(tmp_path: Path) -> None:
    values = lesion().astype(np.uint8) + np.uint8(2) * ruler()
    indexed = Image.frombytes("P", (WIDTH, HEIGHT), values.tobytes())
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 255, 0])
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[values]
    kinds = {
        "16 bits": tiff(values.astype(np.uint16)),
        "32 bits": tiff(values.astype(np.int32)),
        "floating point": tiff(values.astype(np.float32)),
        "palette": encoded(indexed, "PNG"),
        "colours": encoded(colours, "PNG"),
        "DICOM": dicom(values, "MONOCHROME2"),
        "DICOM of 16 bits": dicom(values.astype(np.uint16), "MONOCHROME2"),
    }
    for name, data in kinds.items():
        assert reason(tmp_path, data) == "mask_labels", name
        label = 0xFF0000 if name == "colours" else 1
        np.testing.assert_array_equal(read(tmp_path, data, reading=Reading(label))[0], lesion(), err_msg=name)


def test_several_colours_of_a_lossy_file_are_not_taken_for_one_lesion(tmp_path: Path) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[5:20, 5:25], values[22:38, 30:55] = 1, 2
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[values]
    assert reason(tmp_path, encoded(colours, "JPEG", quality=90)) == "mask_unsupported"


# ------------------------------------------------------------------------------------------------- empty masks


@pytest.mark.parametrize("highest", [2, 3, 9, 40, 100])
def test_noise_below_the_middle_is_an_empty_mask(highest: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(highest).integers(0, highest + 1, (HEIGHT, WIDTH), dtype=np.uint8)
    assert reason(tmp_path, encoded(noise, "PNG")) == "mask_empty"
    assert reason(tmp_path, tiff(noise.astype(np.uint16))) == "mask_empty"


def test_sparse_and_uneven_noise_is_an_empty_mask(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for shares in ((0.97, 0.02, 0.01), (0.2, 0.6, 0.2)):
        noise = chance.choice(np.arange(3, dtype=np.uint8), (HEIGHT * 4, WIDTH * 4), p=shares)
        assert reason(tmp_path, encoded(noise, "PNG")) == "mask_empty", shares
    assert reason(tmp_path, encoded(np.zeros((HEIGHT, WIDTH), np.uint8), "PNG")) == "mask_empty"
    faint = np.random.default_rng(1).random((HEIGHT, WIDTH)).astype(np.float32) * np.float32(0.4)
    assert reason(tmp_path, tiff(faint)) == "mask_empty"
    assert reason(tmp_path, tiff((soft_edge() * 0.4).astype(np.float32))) == "mask_empty"
    assert reason(tmp_path, tiff(faint * 10)) == "mask_unsupported"


# ------------------------------------------------------------------------------- inverted and covering masks


def test_a_mask_of_the_skin_is_refused_and_read_when_asked(tmp_path: Path) -> None:
    inverted = encoded((~lesion()).astype(np.uint8) * 255, "PNG")
    assert reason(tmp_path, inverted) == "mask_inverted"
    np.testing.assert_array_equal(read(tmp_path, inverted, reading=Reading(polarity="dark"))[0], lesion())
    np.testing.assert_array_equal(read(tmp_path, inverted, reading=Reading(polarity="light"))[0], ~lesion())
    soft = encoded(255 - (soft_edge() * 255).astype(np.uint8), "PNG")
    assert reason(tmp_path, soft) == "mask_inverted"
    assert read(tmp_path, soft, reading=Reading(polarity="dark"))[0].sum() == 19 * 30
    at_the_edge = np.zeros((HEIGHT, WIDTH), bool)
    at_the_edge[8:30, :35] = True
    assert reason(tmp_path, encoded(~at_the_edge, "PNG")) == "mask_inverted"


def test_a_mask_that_covers_most_of_the_photo_is_measured_and_flagged(tmp_path: Path) -> None:
    most = np.ones((HEIGHT, WIDTH), bool)
    most[:5, :5] = most[-5:, -9:] = False
    notched = np.ones((HEIGHT, WIDTH), bool)
    notched[15:20, -3:] = False  # holds all corners, but the rest lies at the edge
    for mask in (most, notched):
        found, flags = read(tmp_path, encoded(mask, "PNG"))
        np.testing.assert_array_equal(found, mask)
        assert flags == ("fills_frame",)
    assert read(tmp_path, encoded(lesion(), "PNG"))[1] == ()


# --------------------------------------------------------------------------------------------------- the size


def half(width: int, height: int) -> bytes:
    mask = np.zeros((height, width), bool)
    mask[:, width // 2 :] = True
    return encoded(mask, "PNG")


@pytest.mark.parametrize(
    ("mask", "photo"),
    [
        ((60, 40), (120, 80)),
        ((60, 40), (91, 60)),
        ((600, 450), (200, 150)),
        ((1000, 667), (600, 400)),
        ((3, 2), (60, 40)),
    ],
)
def test_a_mask_of_another_scale_is_resized(mask: tuple[int, int], photo: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "mask.png"
    file.write_bytes(half(*mask))
    found, flags = read_drawn_mask(file, photo)
    assert found.shape == (photo[1], photo[0])
    assert found[:, -1].all()
    assert not found[:, 0].any()
    assert flags == ("mask_scaled",)


@pytest.mark.parametrize(
    ("mask", "photo"),
    [((2, 1), (30, 20)), ((4, 3), (30, 20)), ((40, 60), (60, 40)), ((60, 20), (60, 40)), ((60, 44), (60, 40)),
     ((1, 1), (60, 40)), ((3, 2), (3000, 1500))],
)  # fmt: skip
def test_a_mask_of_another_shape_is_refused(mask: tuple[int, int], photo: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "mask.png"
    file.write_bytes(half(*mask))
    with pytest.raises(CaseError) as caught:
        read_drawn_mask(file, photo)
    assert caught.value.reason == "mask_size_mismatch"


def test_a_turned_mask_is_set_upright_and_flagged(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    grey = lesion()[::-1, ::-1].astype(np.uint8) * 255
    mask, flags = read(tmp_path, encoded(grey, "PNG", exif=exif))
    np.testing.assert_array_equal(mask, lesion())
    assert flags == ("mask_turned",)


def test_a_mask_that_is_not_there_or_another_one(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="mask_missing"):
        read_drawn_mask(tmp_path / "no.png")
    assert reason(tmp_path, half(60, 40), sha256="0" * 64) == "mask_changed"
