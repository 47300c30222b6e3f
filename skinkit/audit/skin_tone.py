"""The tone of the skin around a lesion, from its photo: individual typology angle, for subgroups by tone.

It is measured on the outer eighth of the photo, which is skin in most photos, and depends on the light: of phone photos
it says less of a person than the Fitzpatrick type that a table states.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from skinkit.console import Console
from skinkit.images.decode import decode
from skinkit.images.encode import resize
from skinkit.images.lab import tone_of, typology_angle
from skinkit.images.pixels import read_bytes
from skinkit.workers import map_cases

ANGLE, TONE = "ita_deg", "ita_group"
"""Columns: the angle in degrees, and its group (``skinkit.images.lab.TONES``)."""
_LONGER_PX = 512
_POOL_FROM = 200


def toned(images: pd.DataFrame, root: Path, *, jobs: int = 1, console: Console | None = None) -> pd.DataFrame:
    """The images with :data:`ANGLE` and :data:`TONE`; null where a file cannot be read or shows too little skin.

    Args:
        images: with ``image_id`` and ``image_path``.
        root: folder of the paths.
        jobs: processes.
        console: shows the progress.
    """
    have = images[images["image_path"].notna()]
    items = [{"image_id": i, "path": str(root / p)} for i, p in zip(have["image_id"], have["image_path"], strict=True)]
    workers = jobs if len(items) >= _POOL_FROM else 0
    rows = map_cases(measure, items, key=("image_id",), jobs=workers, console=console, label="reading skin tones")
    angles = {row["image_id"]: row[ANGLE] for row in rows if row["status"] == "ok"}
    angle = pd.Series([angles.get(name) for name in images["image_id"]], index=images.index, dtype="float64")
    out = images.assign(**{ANGLE: angle})
    out[TONE] = [tone_of(value) for value in angle]
    return out


def measure(item: Mapping[str, Any]) -> dict[str, Any]:
    """The typology angle of one photo.

    Args:
        item: with ``image_id`` and ``path``.

    Raises:
        CaseError: the file is not a picture.
    """
    rgb, _ = decode(read_bytes(Path(item["path"])))
    scale = min(1.0, _LONGER_PX / max(rgb.shape[:2]))
    small = resize(rgb, (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))))
    return {"image_id": item["image_id"], ANGLE: typology_angle(small), "status": "ok"}
