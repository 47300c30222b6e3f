"""The public functions: names, channels, refusals, comparison, and where compiled kernels go."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from skinkit.errors import ConfigError, InputError
from skinkit.radiomics import compare, extract, feature_names, reference, warm_up
from skinkit.radiomics.discretise import Binning
from skinkit.radiomics.lesion import CHANNELS, split_channels
from skinkit.radiomics.names import FEATURE_NAMES
from skinkit.radiomics.refusal import RadiomicsRefusal

Mask = NDArray[np.bool_]


@pytest.fixture
def rgb() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.fixture
def mask() -> Mask:
    y, x = np.mgrid[:30, :40]
    return np.asarray((y - 14) ** 2 + (x - 20) ** 2 < 120)


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout.strip()


def test_there_are_102_names() -> None:
    counts = {kind: sum(f"_{kind}_" in name for name in FEATURE_NAMES) for kind in
              ("shape2D", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")}  # fmt: skip
    assert list(counts.values()) == [9, 18, 24, 16, 16, 14, 5]
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == 102


def test_other_channels_have_no_shape_and_a_prefix() -> None:
    names = feature_names(("grey", "red"))
    assert names[:102] == FEATURE_NAMES
    assert names[102] == "red_original_firstorder_10Percentile"
    assert len(names) == 102 + 93


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, skinkit.radiomics; print(sorted({'numpy', 'numba', 'torch', 'radiomics'} & set(sys.modules)))"
    assert python(code) == "[]"


def test_measuring_needs_no_torch() -> None:
    code = (
        "import sys, numpy; sys.modules['torch'] = None\n"
        "from skinkit.radiomics import extract\n"
        "print(extract(numpy.eye(3, dtype=numpy.uint8), numpy.eye(3))['original_firstorder_Mean'])"
    )
    assert python(code) == "1.0"


def test_features_come_in_the_order_of_the_names(rgb: NDArray[np.uint8], mask: Mask) -> None:
    features = extract(rgb, mask, channels=("lab_b", "grey", "green"))
    assert tuple(features) == feature_names(("lab_b", "grey", "green"))
    assert all(type(value) is float for value in features.values())


def test_grey_is_what_pil_calls_l(rgb: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(split_channels(rgb, ("grey",))["grey"], np.asarray(Image.fromarray(rgb).convert("L")))


def test_single_channels(rgb: NDArray[np.uint8], mask: Mask) -> None:
    features = extract(rgb, mask, channels=("blue",))
    assert features["blue_original_firstorder_Mean"] == pytest.approx(rgb[:, :, 2][mask].mean())


def test_lab_of_known_colours() -> None:
    colours = {  # sRGB -> CIE L*a*b*, D65
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (119, 119, 119): (50.03, 0, 0),
    }
    rgb = np.array([list(colours)], dtype=np.uint8)
    planes = split_channels(rgb, ("lab_l", "lab_a", "lab_b"))
    for index, (lightness, a, b) in enumerate(colours.values()):
        found = [int(planes[name][0, index]) for name in ("lab_l", "lab_a", "lab_b")]
        assert found == [round(lightness * 2.55), round(a + 128), round(b + 128)]


def refused_masks() -> dict[str, Mask]:
    masks = {reason: np.zeros((8, 9), dtype=bool) for reason in ("mask_empty", "mask_single_pixel", "mask_line")}
    masks["mask_single_pixel"][3, 4] = True
    masks["mask_line"][3, 2:7] = True
    return {**masks, "mask_full_frame": np.ones((8, 9), dtype=bool), "mask_size_mismatch": np.eye(8, dtype=bool)}


@pytest.mark.pyradiomics
@pytest.mark.parametrize("reason", sorted(refused_masks()))
def test_refusals_are_those_of_pyradiomics(reason: str) -> None:
    grey, mask = np.arange(72, dtype=np.uint8).reshape(8, 9), refused_masks()[reason]
    for engine in ("fast", "pyradiomics"):
        with pytest.raises(RadiomicsRefusal) as refused:
            extract(grey, mask, engine=engine)
        assert refused.value.reason == reason
    with pytest.raises((ValueError, RuntimeError)):  # PyRadiomics itself, asked without our checks
        reference.measure(grey, mask, Binning())


def test_a_column_is_a_line_and_a_corner_is_not() -> None:
    grey, mask = np.arange(72, dtype=np.uint8).reshape(8, 9), np.zeros((8, 9), dtype=bool)
    mask[2:6, 8] = True
    with pytest.raises(RadiomicsRefusal, match="mask_line"):
        extract(grey, mask)
    mask[5, 7] = True
    assert extract(grey, mask)["original_shape2D_PixelSurface"] == 5


def test_nan_inside_the_lesion_is_refused() -> None:
    grey, mask = np.ones((8, 9)), np.eye(8, 9, dtype=bool)
    grey[4, 4] = np.nan
    with pytest.raises(RadiomicsRefusal, match="image_not_finite"):
        extract(grey, mask)


def test_bins_far_too_narrow_are_refused() -> None:
    grey, mask = np.random.default_rng(3).uniform(0, 1e6, (90, 90)), np.ones((90, 90), dtype=bool)
    mask[0, 0] = False
    with pytest.raises(RadiomicsRefusal, match="too_many_levels"):
        extract(grey, mask, bin_width=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "fats"}, "did you mean 'fast'"),
        ({"channels": ("gray",)}, "did you mean 'grey'"),
        ({"bin_width": 0}, "positive"),
        ({"bin_width": float("nan")}, "positive"),
        ({"bin_count": 0}, "positive"),
    ],
)
def test_wrong_options_say_what_would_be_right(
    rgb: NDArray[np.uint8], mask: Mask, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        extract(rgb, mask, **options)  # type: ignore[arg-type]
    assert words in str(error.value)


def test_wrong_images_say_what_would_be_right(rgb: NDArray[np.uint8], mask: Mask) -> None:
    with pytest.raises(InputError, match="float64"):
        extract(rgb / 255, mask)
    with pytest.raises(ConfigError) as error:
        extract(rgb[:, :, 0], mask, channels=("red",))
    assert "grey" in error.value.found


def test_a_mask_may_hold_any_number_and_arrays_may_be_strided_or_read_only(rgb: NDArray[np.uint8], mask: Mask) -> None:
    expected = extract(rgb, mask)
    assert extract(rgb, mask.astype(np.uint8) + 1) == expected  # of two values the higher
    labels = mask.astype(np.uint8)
    labels[0, :2] = 2
    with pytest.raises(RadiomicsRefusal, match="mask_labels"):
        extract(rgb, labels)
    assert extract(rgb, mask.astype(np.uint8) * 255) == expected
    frozen = rgb.copy()
    frozen.flags.writeable = False
    assert extract(frozen, mask) == expected
    twice = np.repeat(np.repeat(rgb, 2, axis=0), 2, axis=1)
    assert extract(twice[::2, ::2], np.asfortranarray(mask)) == expected


@pytest.mark.pyradiomics
def test_compare_lists_what_differs(rgb: NDArray[np.uint8], mask: Mask) -> None:
    assert compare(rgb, mask, relative=1e-9, absolute=1e-12) == []
    rounding = compare(rgb, mask, relative=0, absolute=0)
    assert rounding, "with no tolerance at all, sums in another order show"
    assert [d.difference for d in rounding] == sorted((d.difference for d in rounding), reverse=True)
    assert all(d.name in FEATURE_NAMES and d.difference == abs(d.fast - d.reference) for d in rounding)


@pytest.mark.pyradiomics
def test_known_noise_of_pyradiomics_is_no_difference() -> None:
    grey = np.random.default_rng(2).integers(0, 256, (400, 450), dtype=np.uint8)
    line = np.eye(400, 450, dtype=bool)
    assert compare(grey, line) == []
    assert extract(grey, line)["original_shape2D_MinorAxisLength"] == 0


def test_warm_up_is_repeatable_and_covers_every_channel(rgb: NDArray[np.uint8], mask: Mask) -> None:
    messages: list[str] = []
    warm_up(messages.append)
    warm_up(messages.append)
    assert len(messages) <= 1
    assert len(extract(rgb, mask, channels=CHANNELS)) == 102 + 6 * 93


WHERE = "from skinkit.radiomics.kernel_cache import cache_folder; print(cache_folder())"


def test_kernels_are_cached_in_a_private_folder(tmp_path: Path) -> None:
    folder = Path(python(WHERE, NUMBA_CACHE_DIR="", SKINKIT_CACHE_DIR=str(tmp_path / "mine")))
    assert folder.parent == tmp_path / "mine"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder = Path(python(WHERE, NUMBA_CACHE_DIR="", SKINKIT_CACHE_DIR="", XDG_CACHE_HOME=str(tmp_path / "xdg")))
    assert folder.parent == tmp_path / "xdg" / "skinkit"


def test_without_a_home_kernels_are_cached_in_the_temporary_folder(tmp_path: Path) -> None:
    nowhere = "/dev/null/nowhere"
    environment = {"NUMBA_CACHE_DIR": "", "SKINKIT_CACHE_DIR": nowhere, "XDG_CACHE_HOME": nowhere}
    folder = Path(python(WHERE, **environment, TMPDIR=str(tmp_path)))
    assert folder.parent == tmp_path / f"skinkit-{os.getuid()}"


@pytest.mark.slow
def test_two_processes_compile_once(tmp_path: Path) -> None:
    code = (
        "import time, numpy\nfrom skinkit.radiomics import extract\nbegan = time.process_time()\n"
        "extract(numpy.eye(3, dtype=numpy.uint8), numpy.eye(3))\nprint(time.process_time() - began)"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": "", "SKINKIT_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    seconds = sorted(float(process.communicate(timeout=500)[0]) for process in started)
    assert seconds[0] < seconds[1] / 3, "the second process must load what the first compiled"
