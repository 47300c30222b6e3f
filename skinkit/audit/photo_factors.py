"""Properties of a photo that differ between dermoscopes and phones and are not the lesion: light, blur, tone, size.

brightness   mean L* of the photo, 0 to 100
contrast     standard deviation of L*
blur         minus the logarithm of the variance of the Laplacian of L*, at 256 px
hue          angle of the mean colour in a*, b*, degrees
ita          individual typology angle of the border, degrees
frame        how much darker the corners are than the middle, in L*
resolution   logarithm of the shorter side, pixels
area         share of the photo that is lesion, where an outline is known
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skinkit.audit.photo_files import measured
from skinkit.console import Console
from skinkit.images.encode import shrunk
from skinkit.images.lab import to_lab, typology_angle
from skinkit.images.pixels import Array

FACTORS = ("brightness", "contrast", "blur", "hue", "ita", "frame", "resolution")
AREA = "area"
_LONGER_PX = 256


def factors_of(images: pd.DataFrame, root: Path, *, jobs: int = 1, console: Console | None = None) -> pd.DataFrame:
    """(n, :data:`FACTORS`) of the images, in their order; null where a file cannot be read.

    Args:
        images: with ``image_path``.
        root: folder of the paths.
        jobs: processes.
        console: shows the progress.
    """
    how: dict[str, Any] = {"label": "measuring photos", "jobs": jobs, "console": console}
    return measured(measure, images, root, FACTORS, **how).astype("float64")


def measure(rgb: Array) -> dict[str, Any]:
    """The properties of one photo, uint8 (H, W, 3)."""
    from scipy.ndimage import laplace

    height, width = rgb.shape[:2]
    small = shrunk(rgb, _LONGER_PX, least_px=8)
    lab = to_lab(small)
    light, colour = lab[..., 0], lab[..., 1:].mean(axis=(0, 1))
    h, w = (max(1, side // 8) for side in light.shape)
    ends = [(y, x) for y in (slice(h), slice(-h, None)) for x in (slice(w), slice(-w, None))]
    corners = np.concatenate([light[y, x].ravel() for y, x in ends])
    middle = light[3 * h : -3 * h, 3 * w : -3 * w]
    return {
        "brightness": float(light.mean()),
        "contrast": float(light.std()),
        "blur": float(-np.log(laplace(light).var() + 1e-3)),
        "hue": float(np.degrees(np.arctan2(colour[1], colour[0]))),
        "ita": typology_angle(small),
        "frame": float(middle.mean() - corners.mean()) if middle.size else float("nan"),
        "resolution": float(np.log(min(height, width))),
    }
