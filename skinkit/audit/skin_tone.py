"""The tone of the skin around a lesion, from its photo: individual typology angle, for subgroups by tone.

It is measured on the outer eighth of the photo, which is skin in most photos, and depends on the light: of phone photos
it says less of a person than the Fitzpatrick type that a table states.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from skinkit.images.encode import shrunk
from skinkit.images.lab import tone_of, typology_angle
from skinkit.images.pixels import Array

ANGLE, TONE = "ita_deg", "ita_group"
"""Columns: the angle in degrees, and its group (``skinkit.images.lab.TONES``)."""
VERSION = 1
"""Of :func:`measure`: to be raised whenever the same photo would get another angle, so that no kept one is used."""
_LONGER_PX = 512


def toned(images: pd.DataFrame, of: pd.Series) -> pd.DataFrame:
    """The images with :data:`ANGLE` and :data:`TONE`.

    Args:
        images: n rows.
        of: angles of some of them, under their index.
    """
    out = images.assign(**{ANGLE: of.reindex(images.index).astype("float64")})
    out[TONE] = [tone_of(value) for value in out[ANGLE]]
    return out


def measure(rgb: Array) -> dict[str, Any]:
    """The typology angle of one photo, uint8 (H, W, 3)."""
    return {ANGLE: typology_angle(shrunk(rgb, _LONGER_PX))}
