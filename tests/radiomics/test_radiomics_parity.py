"""The compiled engine against PyRadiomics, and its fast path against its plain loops, on images and masks of all kinds.

Tolerance against PyRadiomics: 1e-9 relative or 1e-12 absolute on every feature, NaN where it has NaN. What is known to
differ is PyRadiomics' own rounding, listed in ``docs/radiomics.md`` and in :func:`tolerated` below.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skinkit.radiomics import byte_plane as bytes_
from skinkit.radiomics import (
    change_events,
    compare,
    engine,
    extract,
    glcm,
    gldm,
    glrlm,
    glszm,
    neighbourhoods,
    ngtdm,
    outline,
    shape2d,
)
from skinkit.radiomics.discretise import Binning, levels_of_bytes, ranked_levels
from skinkit.radiomics.names import FEATURE_NAMES
from skinkit.radiomics.refusal import RadiomicsRefusal

PARITY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
TWINS = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

Mask = NDArray[np.bool_]
Image = NDArray[Any]


def lesion_mask(rng: np.random.Generator, height: int, width: int, kind: str) -> Mask:
    """A mask of one kind, never empty."""
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), dtype=bool)
    if kind == "noise":
        mask = rng.random((height, width)) < rng.uniform(0.05, 0.98)
    elif kind == "ellipse":
        mask = ((y - height / 2) / height) ** 2 + ((x - width / 2) / width) ** 2 < rng.uniform(0.02, 0.24)
    elif kind == "ring":
        r2 = ((y - height / 2) / height) ** 2 + ((x - width / 2) / width) ** 2
        mask = (r2 < 0.22) & (r2 > 0.05)
    elif kind == "blobs":
        for _ in range(4):
            cy, cx = rng.integers(height), rng.integers(width)
            mask |= (y - cy) ** 2 + (x - cx) ** 2 <= rng.integers(1, 12)
    elif kind == "border":
        mask[rng.integers(height) :, rng.integers(width) :] = True
    elif kind == "all but one pixel":
        mask[:] = True
        mask[rng.integers(height), rng.integers(width)] = False
    elif kind == "few pixels":
        mask[rng.integers(0, height, 4), rng.integers(0, width, 4)] = True
    elif kind == "oblique line":
        mask = np.eye(height, width, dtype=bool)[:: rng.choice([-1, 1])]
    elif kind == "checkerboard":
        mask = (y + x) % 2 == 0
    mask[height // 2, width // 2] = True
    return mask


def grey_image(rng: np.random.Generator, height: int, width: int, kind: str) -> Image:
    """An 8-bit image of one kind; "float" is no 8-bit image."""
    y, x = np.mgrid[:height, :width]
    smooth = 128 + 90 * np.sin(y / 9 + rng.uniform(0, 6)) * np.cos(x / 7) + rng.normal(0, 6, (height, width))
    images = {
        "noise": rng.integers(0, 256, (height, width)),
        "smooth": np.clip(smooth, 0, 255),
        "flat": np.full((height, width), rng.integers(256)),
        "two levels": rng.integers(0, 2, (height, width)) * rng.integers(1, 256),
        "rare level": np.where(rng.random((height, width)) < 0.02, 240, rng.integers(100, 124, (height, width))),
        "stripes": np.repeat(rng.integers(0, 256, (height, 1)), width, axis=1),
        "gaps": rng.choice([0, 60, 250], (height, width)),
        "ramp": (3 * y + 5 * x) % 256,
    }
    image: Image = smooth / 3.7 - 20 if kind == "float" else images[kind].astype(np.uint8)
    return image


MASK_KINDS = (
    "noise",
    "ellipse",
    "ring",
    "blobs",
    "border",
    "all but one pixel",
    "few pixels",
    "oblique line",
    "checkerboard",
)
IMAGE_KINDS = ("noise", "smooth", "flat", "two levels", "rare level", "stripes", "gaps", "ramp", "float")
BIN_WIDTHS = (25.0, 10.0, 7.3, 1.0, 0.5, 64.0, 300.0)


@st.composite
def lesions(draw: st.DrawFn, largest: int = 40, images: tuple[str, ...] = IMAGE_KINDS) -> tuple[Image, Mask]:
    """An image and a mask, of kinds and sizes that hypothesis chooses."""
    height, width = draw(st.integers(2, largest)), draw(st.integers(2, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = lesion_mask(rng, height, width, draw(st.sampled_from(MASK_KINDS)))
    return grey_image(rng, height, width, draw(st.sampled_from(images))), mask


def tolerated(name: str, fast: float, reference: float, span: float) -> bool:
    """PyRadiomics' own rounding noise.

    Args:
        name: of the feature.
        fast: our value.
        reference: PyRadiomics' value.
        span: highest level less lowest.
    """
    if name.endswith(("_MinorAxisLength", "_Elongation")):
        return fast == 0  # all pixels on one oblique line
    if name.endswith("_ClusterShade"):  # a sum of cubes that cancel
        return abs(fast - reference) <= 1e-14 * (2 * span) ** 3
    return False


def outcome(image: Image, mask: Mask, engine: str, **options: Any) -> dict[str, float] | str:
    """The features, or the reason of a refusal."""
    try:
        return extract(image, mask, engine=engine, **options)
    except RadiomicsRefusal as refusal:
        return refusal.reason


def assert_parity(image: Image, mask: Mask, **options: Any) -> None:
    """Same refusal, or same names and values."""
    fast, reference = (outcome(image, mask, engine, **options) for engine in ("fast", "pyradiomics"))
    if isinstance(fast, str) or isinstance(reference, str):
        assert fast == reference
        return
    assert list(fast) == list(reference)
    inside = image[mask]
    span = float(inside.max() - inside.min()) / options.get("bin_width", 25.0) + 1
    for name, value in fast.items():
        expected = reference[name]
        if math.isnan(value) and math.isnan(expected):
            continue
        if math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12) or tolerated(name, value, expected, span):
            continue
        pytest.fail(f"{name}: {value!r}, PyRadiomics has {expected!r}")


@pytest.mark.pyradiomics
@PARITY
@given(lesion=lesions(), bin_width=st.sampled_from(BIN_WIDTHS))
def test_parity_with_pyradiomics(lesion: tuple[Image, Mask], bin_width: float) -> None:
    assert_parity(*lesion, bin_width=bin_width)


@pytest.mark.pyradiomics
@PARITY
@given(lesion=lesions(), bin_count=st.sampled_from((1, 2, 8, 32)))
def test_parity_with_a_bin_count(lesion: tuple[Image, Mask], bin_count: int) -> None:
    assert_parity(*lesion, bin_count=bin_count)


@pytest.mark.pyradiomics
@PARITY
@given(lesion=lesions(largest=5), bin_width=st.sampled_from(BIN_WIDTHS))
def test_parity_on_tiny_lesions(lesion: tuple[Image, Mask], bin_width: float) -> None:
    assert_parity(*lesion, bin_width=bin_width)


@pytest.mark.pyradiomics
@pytest.mark.parametrize("kind", MASK_KINDS)
def test_parity_on_every_kind_of_mask_at_lesion_size(kind: str) -> None:
    rng = np.random.default_rng(4)
    assert_parity(grey_image(rng, 150, 210, "smooth"), lesion_mask(rng, 150, 210, kind))


@pytest.mark.pyradiomics
@pytest.mark.parametrize("image", ["noise", "smooth"])
def test_parity_with_hundreds_of_levels(image: str) -> None:
    rng = np.random.default_rng(5)
    assert_parity(grey_image(rng, 60, 70, image), lesion_mask(rng, 60, 70, "ellipse"), bin_width=1.0)


@pytest.mark.pyradiomics
def test_sixteen_bit_and_integer_valued_float_images() -> None:
    rng = np.random.default_rng(6)
    mask = lesion_mask(rng, 40, 40, "ellipse")
    deep = rng.integers(0, 4000, (40, 40)).astype(np.uint16)
    assert_parity(deep, mask)
    grey = grey_image(rng, 40, 40, "smooth")
    assert extract(grey.astype(np.float64), mask) == extract(grey, mask)
    outside = np.where(mask, grey, np.nan)  # what lies outside does not matter
    assert extract(outside, mask) == extract(grey, mask)


@TWINS
@given(lesion=lesions(largest=150, images=IMAGE_KINDS[:-1]), bin_width=st.sampled_from(BIN_WIDTHS[:4]))
def test_the_fast_path_counts_what_the_plain_loops_count(lesion: tuple[Image, Mask], bin_width: float) -> None:
    grey, mask = lesion
    binning = Binning(bin_width)
    plain, values, members = ranked_levels(grey, mask, binning)
    assume(values[-1] <= 255)  # more do not fit into bytes
    histogram, minimum, maximum = bytes_.histogram_of(grey, mask)
    np.testing.assert_array_equal(histogram, np.bincount(grey[mask], minlength=256))
    thresholds, ranks_values, ranks_members = bytes_.ranks_of(histogram, levels_of_bytes(binning, minimum, maximum))
    np.testing.assert_array_equal(ranks_values, values)
    np.testing.assert_array_equal(ranks_members, members)
    plane, height, stride = bytes_.lay_out(grey, mask, thresholds)
    np.testing.assert_array_equal(bytes_.as_rows(plane, stride)[:, : grey.shape[1] + 2], plain)

    for fast, slow in zip(outline.trace(plane, height, stride), shape2d.trace(plain), strict=True):
        np.testing.assert_array_equal(fast, slow)
    pairs, runs = change_events.count_pairs_and_runs(plane, height, stride, members)
    slow_pairs, slow_runs = glcm.count_pairs(plain, len(values)), glrlm.count_runs(plain, len(values))
    np.testing.assert_array_equal(pairs, slow_pairs)
    np.testing.assert_array_equal(runs, slow_runs[:, :, : runs.shape[2]])
    assert not slow_runs[:, :, runs.shape[2] :].any()
    np.testing.assert_array_equal(
        glrlm.angles_that_count(runs, bytes_.as_rows(plane, stride)), glrlm.angles_that_count(slow_runs, plain)
    )
    zones, slow_zones = change_events.list_zones(plane, height, stride), glszm.list_zones(plain, int(mask.sum()))
    np.testing.assert_array_equal(glszm.tabulate(*zones, len(values)), glszm.tabulate(*slow_zones, len(values)))
    dependences, differences = neighbourhoods.count_dependences_and_differences(
        plane, bytes_.with_values(plane, values), stride, members
    )
    np.testing.assert_array_equal(dependences, gldm.count_dependences(plain, len(values)))
    np.testing.assert_allclose(differences, ngtdm.sum_differences(plain, values), rtol=1e-12)


def test_the_whole_fast_path_equals_the_plain_path_on_a_large_lesion() -> None:
    rng = np.random.default_rng(7)
    grey, mask = grey_image(rng, 1200, 1100, "smooth"), lesion_mask(rng, 1200, 1100, "ellipse")
    fast = engine.measure_bytes(grey, mask, Binning())
    assert fast is not None
    np.testing.assert_allclose(fast, engine.measure_plainly(grey, mask, Binning()), rtol=1e-10, atol=1e-12)


def real_lesions(folder: Path, pattern: str, count: int) -> list[tuple[str, Image, Mask]]:
    """Colour images with their masks, in order of their names."""
    from skinkit.images.decode import read_rgb
    from skinkit.images.drawn_masks import read_drawn_mask

    lesions_ = []
    for mask_path in sorted(folder.glob(pattern)):
        stem = mask_path.stem.removesuffix("_mask").removesuffix("_segmentation")
        photos = sorted((folder / "images").glob(f"{stem}.*"))
        if photos:
            rgb = read_rgb(photos[0])
            lesions_.append((stem, rgb, read_drawn_mask(mask_path, (rgb.shape[1], rgb.shape[0]))[0]))
        if len(lesions_) == count:
            break
    return lesions_


@pytest.mark.pyradiomics
@pytest.mark.real
@pytest.mark.parametrize(("folder", "pattern"), [("isic/seg", "masks/*"), ("pad", "masks/*")])
def test_parity_on_real_lesions(real_data: Path, folder: str, pattern: str) -> None:
    found = real_lesions(real_data / folder, pattern, 12)
    assert len(found) == 12
    for index, (name, rgb, mask) in enumerate(found):
        channels = (("grey",), ("red", "lab_a"), ("blue",))[index % 3]
        differences = compare(
            rgb, mask, channels=channels, bin_width=BIN_WIDTHS[index % 4], relative=1e-9, absolute=1e-12
        )
        assert differences == [], name


@pytest.mark.pyradiomics
def test_names_are_those_of_pyradiomics_in_its_order() -> None:
    import SimpleITK as sitk  # noqa: N813

    from skinkit.radiomics.reference import _extractor

    rng = np.random.default_rng(8)
    volume = sitk.GetImageFromArray(rng.integers(0, 256, (1, 20, 20)).astype(np.float64))
    mask = sitk.GetImageFromArray(np.pad(np.ones((1, 9, 9), dtype=np.uint8), ((0, 0), (5, 6), (5, 6))))
    assert tuple(_extractor(Binning()).execute(volume, mask)) == FEATURE_NAMES
