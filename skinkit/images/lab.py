"""CIE L*a*b* of sRGB pixels and back, and the individual typology angle of skin.

Sources: IEC 61966-2-1 (sRGB), CIE 15:2004 section 8.2.1 (L*a*b*), white point D65. Individual typology angle and its
six groups: A. Chardon et al., International Journal of Cosmetic Science 13, 1991.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

_CODED = np.arange(256) / 255
LINEAR = np.where(_CODED <= 0.04045, _CODED / 12.92, ((_CODED + 0.055) / 1.055) ** 2.4)
"""Linear light of an 8-bit sRGB value (IEC 61966-2-1)."""
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
TO_XYZ = TO_XYZ / TO_XYZ.sum(axis=1, keepdims=True)
"""Linear sRGB to X / Xn, Y / Yn, Z / Zn of D65, so that greys have a* = b* = 0."""
_FROM_XYZ = np.linalg.inv(TO_XYZ)
_TO_F = np.array([[0.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]) * [[116.0], [500.0], [200.0]]
_EDGE = 6 / 29
TONES = ((55.0, "very light"), (41.0, "light"), (28.0, "intermediate"), (10.0, "tan"), (-30.0, "brown"))
"""ITA in degrees above which skin has a tone; at or below the last it is dark."""
DARK = "dark"
FEWEST_PX = 64
"""Pixels of skin without which no tone is stated."""


def lightness(planes: Bytes) -> Floats:
    """(...) L* (0 to 100) of sRGB bytes (3, ...); where a* and b* are not wanted, several times faster than them."""
    out: Floats = 116 * _f(planes, 1) - 16
    return out


def mean_tint(planes: Bytes) -> Floats:
    """(2,) mean a* and b* of sRGB bytes (3, ...)."""
    x, y, z = (_f(planes, row).mean() for row in range(3))
    return np.array([500 * (x - y), 200 * (y - z)])


def _f(planes: Bytes, row: int) -> Floats:
    """f(X / Xn), f(Y / Yn) or f(Z / Zn) of CIE 15 of sRGB bytes (3, ...)."""
    t = np.zeros(planes.shape[1:])
    for plane, weight in zip(planes, TO_XYZ[row], strict=True):
        t += (weight * LINEAR)[plane]
    return _compressed(t)


def _compressed(t: Floats) -> Floats:
    """f(t) of CIE 15, the cube root above its linear part."""
    out = np.cbrt(t)
    low = t <= _EDGE**3
    out[low] = t[low] / (3 * _EDGE**2) + 4 / 29
    return out


def to_lab(rgb: Bytes) -> Floats:
    """(..., 3) L* (0 to 100), a* and b* of sRGB bytes (..., 3)."""
    f = _compressed(LINEAR[rgb] @ TO_XYZ.T)
    out: Floats = f @ _TO_F.T - [16.0, 0.0, 0.0]
    return out


def from_lab(lab: npt.ArrayLike) -> Bytes:
    """Bytes of sRGB (..., 3) of L*, a*, b*; colours beyond sRGB are cut to it."""
    f = (np.asarray(lab, dtype=np.float64) + np.array([16.0, 0.0, 0.0])) @ np.linalg.inv(_TO_F).T
    t = np.where(f > _EDGE, f**3, 3 * _EDGE**2 * (f - 4 / 29))
    linear = np.clip(t @ _FROM_XYZ.T, 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    out: Bytes = np.rint(255 * coded).astype(np.uint8)
    return out


def typology_angle(rgb: Bytes, lesion: npt.NDArray[np.bool_] | None = None) -> float:
    """ITA of the skin around a lesion in degrees; NaN where hardly any is seen.

    Skin is what lies outside of the lesion's bounding box, or on the outer eighth of the photo without one, but for
    the darkest and the lightest tenth of it: hair, shadow, ink and glare. Frames of dermoscopes (L* below 20) are none.

    Args:
        rgb: (H, W, 3).
        lesion: (H, W), where it is known.
    """
    around = np.ones(rgb.shape[:2], dtype=bool)
    if lesion is not None and lesion.any():
        rows, columns = np.flatnonzero(lesion.any(1)), np.flatnonzero(lesion.any(0))
        around[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
    else:
        height, width = rgb.shape[:2]
        around[height // 8 : height - height // 8, width // 8 : width - width // 8] = False
    pixels = to_lab(rgb[around])
    pixels = pixels[pixels[:, 0] >= 20]
    if len(pixels) < FEWEST_PX:
        return float("nan")
    low, high = np.quantile(pixels[:, 0], [0.1, 0.9])
    skin = np.median(pixels[(pixels[:, 0] >= low) & (pixels[:, 0] <= high)], axis=0)
    return float(np.degrees(np.arctan2(skin[0] - 50, skin[2])))


def tone_of(angle: Any) -> str | None:
    """The group of an ITA in degrees; None where it is not known."""
    if angle is None or angle != angle:
        return None
    return next((name for least, name in TONES if angle > least), DARK)
