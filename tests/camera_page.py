"""The photo page in headless Chromium, with a fake camera that shows given pictures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_page import browser
from PIL import Image, ImageFilter

PHONE, LAPTOP = (390, 844), (1366, 768)
_FRAMES = 8


def skin(seed: int = 0, size: tuple[int, int] = (1280, 960), radius: float = 0.2) -> Image.Image:
    """A drawn lesion on textured skin that passes the checks; radius is a share of the height."""
    rng = np.random.default_rng(seed)
    width, height = size
    coarse = Image.fromarray(rng.integers(0, 256, (height // 24, width // 24), dtype=np.uint8))
    slow = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=float)[..., None] / 255 - 0.5
    fine = np.asarray(
        Image.fromarray(rng.integers(0, 256, (height // 3, width // 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        ),
        dtype=float,
    )[..., None]
    pixels = np.array([206.0, 166.0, 146.0]) + 16 * slow + 0.22 * (fine - 128)
    y, x = np.mgrid[:height, :width]
    angle = np.arctan2(y - height / 2, x - width / 2)
    edge = radius * height * (1 + 0.1 * np.sin(3 * angle + seed) + 0.05 * np.sin(7 * angle))
    inside = np.hypot(x - width / 2, y - height / 2) < edge
    pixels[inside] = np.array([112.0, 74.0, 58.0]) + 0.8 * (pixels[inside] - [206.0, 166.0, 146.0])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def film(file: Path, picture: Image.Image) -> None:
    """Make the camera show this picture: a film of JPEG frames that Chromium reads anew whenever it is opened."""
    sink = io.BytesIO()
    picture.convert("RGB").save(sink, "JPEG", quality=95)
    file.write_bytes(sink.getvalue() * _FRAMES)


def blurred(picture: Image.Image) -> Image.Image:
    """One that the checks refuse."""
    return picture.filter(ImageFilter.GaussianBlur(14))


@contextlib.contextmanager
def chromium(camera: Path) -> Iterator[Any]:
    """A playwright browser whose camera plays a film; skips, loudly, without Chromium."""
    path = browser()
    sync = pytest.importorskip("playwright.sync_api", reason="NO PLAYWRIGHT: pip install playwright")
    arguments = [
        "--no-sandbox",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]
    with sync.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=path, args=arguments)
        try:
            yield opened
        finally:
            opened.close()
