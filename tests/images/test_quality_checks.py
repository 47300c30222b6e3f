"""Quality checks of drawn photos whose faults are known, and the same numbers in a browser."""

from __future__ import annotations

import functools
import http.server
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser_page
import numpy as np
import pytest
from PIL import Image, ImageFilter

import skinkit
from skinkit.errors import ConfigError
from skinkit.images import quality, quality_checks
from skinkit.images.lab import from_lab

PHOTOS = 100
STATIC = Path(skinkit.__file__).parent / "capture" / "static"


def drawn(seed: int = 0, side: int = 300, lightness: float = 68.0) -> tuple[np.ndarray, np.ndarray]:
    """Skin with texture and a lesion in the middle, and the lesion's mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    mask = np.hypot(x, y * 1.2) < 0.22
    lab = np.empty((side, side, 3))
    less = lightness / 68  # dark skin varies less in L*
    lab[..., 0] = lightness - less * (18 * mask + rng.normal(0, 4, (side, side)))
    lab[..., 1], lab[..., 2] = 11 * min(1, less), 15 * min(1, less)
    return from_lab(lab), mask


def statuses(image: np.ndarray, mask: np.ndarray | None = None, **options: Any) -> dict[str, str]:
    return {name: check.status for name, check in quality(image, mask, **options).checks.items()}


def test_a_good_photo_passes_with_and_without_a_mask() -> None:
    image, mask = drawn(side=800)
    assert set(statuses(image).values()) == {"pass", "unknown"}
    assert quality(image).checks["framing"].status == "unknown"
    assert quality(image, mask).verdict == "pass"
    assert quality(image, mask).checks["framing"].value == pytest.approx(mask.mean())


def _faults() -> dict[str, np.ndarray]:
    image, _ = drawn()
    photo = Image.fromarray(image)
    height, width = image.shape[:2]
    glare, dark_lines = image.copy(), image.copy()
    glare[100:200, 100:200] = 250
    dark_lines[:, ::9] = dark_lines[:, 1::9] = 20
    moved = np.mean([np.roll(image, by, axis=1) for by in range(-6, 7)], axis=0).astype(np.uint8)
    sink = io.BytesIO()
    photo.filter(ImageFilter.GaussianBlur(1)).save(sink, "JPEG", quality=3)
    return {
        "focus": np.asarray(photo.filter(ImageFilter.GaussianBlur(4))),
        "motion": moved,
        "exposure": (image * 0.15).astype(np.uint8),
        "clipping": np.clip(image * 1.9, 0, 255).astype(np.uint8),
        "glare": glare,
        "cast": np.clip(image * [1.3, 1.0, 0.4], 0, 255).astype(np.uint8),
        "resolution": image[: height // 2, : width // 2],
        "compression": np.asarray(Image.open(io.BytesIO(sink.getvalue()))),
        "hair": dark_lines,
    }


@pytest.mark.parametrize("name", [name for name in quality_checks.CHECKS if name != "framing"])
def test_a_known_fault_is_found(name: str) -> None:
    found = quality(_faults()[name])
    assert found.checks[name].status == ("warn" if name == "hair" else "fail")
    assert found.checks[name].remedy in quality_checks.words("en")


def test_framing_tells_a_lesion_that_is_small_cut_off_or_everything() -> None:
    image, _ = drawn()
    masks = {key: np.zeros(image.shape[:2], dtype=bool) for key in ("framing_low", "framing_high", "framing_edge")}
    masks["framing_low"][140:160, 140:160] = True
    masks["framing_high"][8:292, 8:292] = True
    masks["framing_edge"][:150, 100:200] = True
    assert {key: quality(image, mask).checks["framing"].remedy for key, mask in masks.items()} == {k: k for k in masks}


@pytest.mark.parametrize("lightness", [75, 62, 48, 38, 28, 18])
def test_well_exposed_skin_of_every_tone_is_not_refused_for_its_light(lightness: float) -> None:
    image, _ = drawn(lightness=lightness)
    skin = "6" if lightness < 30 else None
    found = statuses(image, fitzpatrick=skin)
    assert found["exposure"] == "pass"
    assert found["clipping"] == "pass"


def test_limits_of_lightness_are_wider_for_darker_types_and_where_nothing_is_clipped() -> None:
    table = quality_checks.default_table()
    measured = dict.fromkeys((*quality_checks.CHECKS, "region_px", "contact"), None) | {"clipping": 0.1}
    for lightness, skin, clipping, status in (
        (24, None, 0.1, "fail"), (24, "5", 0.1, "pass"), (9, "6", 0.1, "fail"), (24, "4", 0.1, "fail"),
        (24, None, 0.0, "pass"), (19, None, 0.0, "fail"), (99, "5", 0.1, "pass"),
    ):  # fmt: skip
        values = measured | {"exposure": float(lightness), "clipping": clipping}
        assert quality_checks.judge(values, table, skin).checks["exposure"].status == status, (lightness, skin)


def test_a_large_photo_is_measured_at_the_scale_of_its_copy() -> None:
    image, _ = drawn(side=500)
    large = np.repeat(np.repeat(image, 3, axis=0), 3, axis=1)
    small = quality_checks.shrunk_by_area(large, 500)
    np.testing.assert_allclose(small, image)
    assert quality_checks.shrunk_by_area(image, 512).shape == image.shape


def test_area_averages_are_exact_for_sides_that_do_not_divide() -> None:
    plane = np.arange(15, dtype=np.float64).reshape(5, 3)
    expected = [(plane[0] + plane[1] + plane[2] / 2) / 2.5, (plane[2] / 2 + plane[3] + plane[4]) / 2.5]
    got = quality_checks.shrunk_by_area(np.repeat(plane, 2, axis=1)[..., None], 3)[..., 0]
    assert got.shape == (3, 3)
    np.testing.assert_allclose(quality_checks._averaged(plane, 2), expected)


def test_tiny_and_even_photos_have_unknown_checks_instead_of_errors() -> None:
    for shape in ((1, 1), (2, 40), (12, 12)):
        found = quality(np.full((*shape, 3), 128, dtype=np.uint8)).checks
        assert found["motion"].status == "unknown"
        assert found["resolution"].status == "fail"


def test_both_languages_have_every_key_and_every_remedy_is_one() -> None:
    english, chinese = quality_checks.words("en"), quality_checks.words("zh-CN")
    assert set(english) == set(chinese) >= set(quality_checks.CHECKS)
    remedies = set(english) - set(quality_checks.CHECKS)
    table = quality_checks.default_table()
    sides = {"fail_below": "low", "warn_below": "low", "fail_above": "high", "warn_above": "high"}
    named = {f"{n}_{side}" for n in quality_checks.CHECKS for key, side in sides.items() if key in table[n]}
    assert named | {"framing_edge"} == remedies


def test_a_table_that_lacks_a_constant_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        quality_checks.read_table("long_side_px = 512", "mine.toml")
    assert "mine.toml" in caught.value.found
    with pytest.raises(ConfigError):
        quality_checks.read_table("long_side_px = ", "mine.toml")


# ------------------------------------------------------------------------------------------------------- in a browser
class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests' output stays readable."""


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page of headless Chromium that has quality.js as ``window.q``."""
    chromium = browser_page.browser()
    playwright = pytest.importorskip("playwright.sync_api", reason="NO PLAYWRIGHT: pip install playwright")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(STATIC)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with playwright.sync_playwright() as driver:
            window = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            one = window.new_page()
            one.goto(f"http://127.0.0.1:{server.server_port}/quality.js")
            one.evaluate("async () => { window.q = await import('/quality.js'); }")
            yield one
            window.close()
    finally:
        server.shutdown()
        server.server_close()


_RUN = """([pixels, width, height, mask, table, skin]) => {
  const bytes = (text) => Uint8ClampedArray.from(atob(text), (c) => c.charCodeAt(0));
  const image = {data: bytes(pixels), width, height};
  return window.q.assess(image, mask === null ? null : Uint8Array.from(bytes(mask)), table, skin);
}"""


def _compare(page: Any, image: np.ndarray, mask: np.ndarray | None, skin: str | None) -> None:
    import base64

    rgba = np.dstack([image, np.full(image.shape[:2], 255, dtype=np.uint8)])
    coded = None if mask is None else base64.b64encode(mask.astype(np.uint8).tobytes()).decode()
    table = quality_checks.default_table()
    sent = [base64.b64encode(rgba.tobytes()).decode(), image.shape[1], image.shape[0], coded, table, skin]
    theirs, ours = page.evaluate(_RUN, sent), quality(image, mask, fitzpatrick=skin)
    assert theirs["verdict"] == ours.verdict
    assert list(theirs["checks"]) == list(ours.checks)
    for name, check in ours.checks.items():
        other = theirs["checks"][name]
        assert (other["status"], other["remedy"]) == (check.status, check.remedy), name
        assert (other["value"] is None) == (check.value is None), name
        if check.value is not None:
            assert other["value"] == pytest.approx(check.value, rel=1e-6, abs=1e-9), name


def test_the_browser_measures_the_same_on_drawn_photos(page: Any) -> None:
    faults = list(_faults().values())
    rng = np.random.default_rng(5)
    for at in range(PHOTOS):
        image, mask = drawn(at, side=60 + 5 * at // 4, lightness=20 + 0.6 * at)
        if at % 10 == 9:
            image = faults[at // 10 % len(faults)]
            mask = np.zeros(image.shape[:2], dtype=bool)
        if at % 25 == 0:  # larger than the scale of the checks, and not square
            image = np.repeat(np.repeat(image, 11, axis=0)[: 600 + at], 9, axis=1)
            mask = np.repeat(np.repeat(mask, 11, axis=0)[: 600 + at], 9, axis=1)
        _compare(page, image, mask if rng.random() < 0.5 else None, (None, "2", "6")[at % 3])


@pytest.mark.real
def test_the_browser_measures_the_same_on_real_photos(page: Any) -> None:
    named = os.environ.get("SKINKIT_REAL_DATA", "")
    root = Path(named) if named else Path(skinkit.__file__).parents[2] / "shared" / "data"
    files = sorted((root / "pad" / "images").glob("*.jpg"))[::10][:PHOTOS]
    if len(files) < PHOTOS:
        pytest.skip(f"NO REAL PHOTOS: {root} has no pad/images; name the folder in SKINKIT_REAL_DATA")
    for file in files:
        with Image.open(file) as photo:
            image = np.asarray(photo.convert("RGB"))
        drawn_mask = root / "pad" / "masks" / f"{file.stem}.png"
        mask = None
        if drawn_mask.is_file():
            with Image.open(drawn_mask) as photo:
                mask = np.asarray(photo.convert("L").resize(image.shape[1::-1], Image.Resampling.NEAREST)) > 127
        _compare(page, image, mask, None)


def test_a_frame_of_the_camera_has_the_checks_of_light_and_focus(page: Any) -> None:
    found = page.evaluate(
        """(table) => window.q.assessFrame(
             {data: new Uint8ClampedArray(4 * 64 * 48).fill(255), width: 64, height: 48}, table)""",
        quality_checks.default_table(),
    )
    assert found["verdict"] == "fail"
    assert {n for n, c in found["checks"].items() if c["status"] == "unknown"} >= {"hair", "compression", "resolution"}
