"""Photos made worse in known ways, to measure whether the quality checks find it and name the reason.

Each kind has a strength from 0 (nothing) to 1; the same seed gives the same photo. Hair is that of
``skinkit.learning.meta_domains``; the rest is here, because there one strength means either of two faults.

    blur    Gaussian, 0.4 to 1.6 % of the longer side    motion    a straight move of 2 to 6 % of the longer side
    dark    linear light x 0.3 to 0.04                  bright    linear light x 2 to 5, clipped
    glare   one to five white highlights                 cast      red, green or blue x 0.8 to 0.3 in linear light
    far     the photo shrunk to 0.5 to 0.15 of its side, skin around it
    cropped the lesion cut through by the frame          jpeg      quality 20 to 3

Sources: the ranges are ours; corruptions at fixed strengths: D. Hendrycks and T. Dietterich, ICLR 2019.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from skinkit.images.lab import LINEAR
from skinkit.learning.meta_domains import shown_through

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Seen = tuple[Bytes, Mask | None]
REASONS: Mapping[str, str] = {
    "blur": "focus", "motion": "motion", "dark": "exposure", "bright": "exposure", "glare": "glare", "cast": "cast",
    "far": "framing", "cropped": "framing", "jpeg": "compression", "hair": "hair",
}  # fmt: skip
"""Kind -> the check that has to find it; clipping counts as exposure."""
DEGRADATIONS = tuple(REASONS)


def degraded(rgb: Bytes, mask: Mask | None, kind: str, strength: float, seed: Sequence[int] | int) -> Seen:
    """A photo made worse, and its lesion where that moves.

    Args:
        rgb: (H, W, 3).
        mask: (H, W) lesion, where it is known.
        kind: of :data:`DEGRADATIONS`.
        strength: 0 to 1; 0 leaves the photo as it is.
        seed: of its random numbers.
    """
    if strength <= 0:
        return rgb, mask
    return _KINDS[kind](rgb, mask, min(strength, 1.0), np.random.default_rng(seed))


def _blur(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    sigma = (0.004 + 0.012 * strength) * max(rgb.shape[:2])
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(sigma))), mask


def _motion(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    from scipy.ndimage import shift

    length, turn = (0.02 + 0.04 * strength) * max(rgb.shape[:2]), rng.uniform(0, math.pi)
    moved = np.zeros(rgb.shape, dtype=np.float32)
    steps = np.linspace(-0.5, 0.5, max(3, round(length))) * length
    for by in steps:
        at = (by * math.sin(turn), by * math.cos(turn), 0)
        moved += shift(rgb.astype(np.float32), at, order=1, mode="nearest") / len(steps)
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8), mask


def _lit(rgb: Bytes, factor: npt.ArrayLike) -> Bytes:
    """Linear light times a factor, clipped."""
    light = np.clip(LINEAR[rgb] * factor, 0, 1)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    out: Bytes = np.rint(255 * coded).astype(np.uint8)
    return out


def _dark(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    return _lit(rgb, 0.3 * (0.04 / 0.3) ** strength), mask


def _bright(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    return _lit(rgb, 2 + 3 * strength), mask


def _glare(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width]
    where = np.argwhere(mask) if mask is not None and mask.any() else np.array([[height // 2, width // 2]])
    light = np.zeros((height, width))
    for _ in range(round(1 + 4 * strength)):
        cy, cx = where[int(rng.integers(len(where)))] + rng.normal(0, 0.05, 2) * (height, width)
        radius = rng.uniform(0.03, 0.04 + 0.05 * strength) * max(height, width)
        light += 1.5 * np.exp(-((np.hypot(y - cy, x - cx) / radius) ** 2) / 2)
    share = np.clip(light, 0, 1)[..., None]
    out: Bytes = np.rint(rgb * (1 - share) + 255 * share).astype(np.uint8)
    return out, mask


def _cast(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    factor = np.ones(3)
    factor[int(rng.integers(3))] = 0.8 - 0.5 * strength
    return _lit(rgb, factor), mask


def _far(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    height, width = rgb.shape[:2]
    scale = 0.5 - 0.35 * strength
    size = max(1, round(width * scale)), max(1, round(height * scale))
    place = (width - size[0]) // 2, (height - size[1]) // 2
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    skin = np.median(border, axis=0)
    around = np.clip(np.rint(skin + rng.normal(0, 3, rgb.shape)), 0, 255).astype(np.uint8)
    out = Image.fromarray(around)
    rim = Image.new("L", size, 0)
    inset = max(1, min(size) // 12)
    rim.paste(255, (inset, inset, size[0] - inset, size[1] - inset))
    small = Image.fromarray(rgb).resize(size, Image.Resampling.BOX)
    out.paste(small, place, rim.filter(ImageFilter.GaussianBlur(inset / 2)))
    if mask is None:
        return np.asarray(out), None
    moved = np.zeros_like(mask)
    shrunk = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    moved[place[1] : place[1] + size[1], place[0] : place[0] + size[0]] = shrunk
    return np.asarray(out), moved


def _cropped(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    """The frame ends inside of the lesion, at 0.2 to 0.6 of its width or height."""
    height, width = rgb.shape[:2]
    rows = np.flatnonzero(mask.any(1)) if mask is not None and mask.any() else np.array([height // 4, 3 * height // 4])
    columns = np.flatnonzero(mask.any(0)) if mask is not None and mask.any() else np.array([width // 4, 3 * width // 4])
    share, side = 0.2 + 0.4 * strength, int(rng.integers(4))
    top, left = int(rows[0] + share * (rows[-1] - rows[0])), int(columns[0] + share * (columns[-1] - columns[0]))
    bottom, right = int(rows[-1] - share * (rows[-1] - rows[0])), int(columns[-1] - share * (columns[-1] - columns[0]))
    ends = [(top, height, 0, width), (0, bottom + 1, 0, width), (0, height, left, width), (0, height, 0, right + 1)]
    y0, y1, x0, x1 = ends[side]
    return np.ascontiguousarray(rgb[y0:y1, x0:x1]), None if mask is None else np.ascontiguousarray(mask[y0:y1, x0:x1])


def _jpeg(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    sink = io.BytesIO()
    Image.fromarray(rgb).save(sink, "JPEG", quality=round(20 - 17 * strength))
    return np.asarray(Image.open(io.BytesIO(sink.getvalue())).convert("RGB")), mask


def _hair(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    return shown_through(rgb, "hair", strength, int(rng.integers(2**31)), mask)


_KINDS: Mapping[str, Callable[[Bytes, Mask | None, float, np.random.Generator], Seen]] = {
    "blur": _blur, "motion": _motion, "dark": _dark, "bright": _bright, "glare": _glare, "cast": _cast, "far": _far,
    "cropped": _cropped, "jpeg": _jpeg, "hair": _hair,
}  # fmt: skip
