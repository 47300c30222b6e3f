"""Properties of a photo's file other than the lesion: size, format, JPEG quality, EXIF, dark borders.

They are not medical, but can reveal the origin of a photo and, through it, the diagnosis.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, UnidentifiedImageError

from skinkit.console import Console
from skinkit.errors import CaseError
from skinkit.images.completeness import FORMATS
from skinkit.images.dicom import is_dicom
from skinkit.images.pixels import MAX_PIXELS, read_bytes
from skinkit.workers import map_cases

NUMBERS = ("width_px", "height_px", "aspect", "bytes_per_pixel", "jpeg_quality", "dark_border", "corner_darkness")
CATEGORIES = ("file_format", "camera", "exif")

_POOL_FROM = 200
_SMALL_PX = 64
_BORDER_PX = 4
_DARK = 24
_MAKE, _MODEL = 271, 272
# Table K.1 of ITU-T T.81, luminance, in natural order; libjpeg scales it with its quality setting.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


def traced(
    images: pd.DataFrame, root: Path, *, most: int, jobs: int = 1, seed: int = 0, console: Console | None = None
) -> pd.DataFrame:
    """The images with the properties of their files; null for files that were not read.

    Args:
        images: with ``image_id`` and ``image_path``.
        root: folder of the paths.
        most: largest number of files to read, sampled at random from more; 0 reads none.
        jobs: processes.
        seed: of the sampling.
        console: shows the progress.
    """
    have = images[images["image_path"].notna()]
    chosen = have.sample(most, random_state=seed) if len(have) > most else have
    items = [
        {"image_id": i, "path": str(root / p)} for i, p in zip(chosen["image_id"], chosen["image_path"], strict=True)
    ]
    workers = jobs if len(items) >= _POOL_FROM else 0
    rows = map_cases(trace, items, key=("image_id",), jobs=workers, console=console, label="reading files")
    names = [*NUMBERS, *CATEGORIES]
    table = pd.DataFrame([row for row in rows if row["status"] == "ok"], columns=["image_id", *names])
    table = table.astype(dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(CATEGORIES, object))
    beside = images.drop(columns=names, errors="ignore")
    joined = beside.merge(table, on="image_id", how="left")
    joined.index = images.index
    return joined


def trace(item: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of one file.

    Args:
        item: with ``image_id`` and ``path``.

    Returns:
        image_id, the columns of :data:`NUMBERS` and :data:`CATEGORIES` (null where they do not apply), status.

    Raises:
        CaseError: the file is not a picture.
    """
    data = read_bytes(Path(item["path"]))
    row: dict[str, Any] = {"image_id": item["image_id"], **dict.fromkeys((*NUMBERS, *CATEGORIES)), "status": "ok"}
    if is_dicom(data):
        return {**row, "file_format": "DICOM"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return row | _of_image(image, len(data))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CaseError("image_unreadable", type(error).__name__) from None


def _of_image(image: Image.Image, size: int) -> dict[str, Any]:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise CaseError("image_too_large", f"more than {MAX_PIXELS} pixels")
    exif = image.getexif()
    camera = " ".join(str(exif.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL)).strip()
    tables = getattr(image, "quantization", None)
    row = {
        "width_px": width,
        "height_px": height,
        "aspect": width / height,
        "bytes_per_pixel": size / (width * height),
        "jpeg_quality": jpeg_quality(tables[min(tables)]) if tables else None,
        "file_format": image.format,
        "camera": camera or None,
        "exif": "present" if len(exif) else "absent",
    }
    # A JPEG is decoded at about an eighth of its size: a phone photo of 12 megapixels takes 30 ms instead of 150.
    image.draft("RGB", (_SMALL_PX, _SMALL_PX))
    grey = np.asarray(image.convert("L").resize((_SMALL_PX, _SMALL_PX), Image.Resampling.BOX), dtype=np.float64)
    return row | {"dark_border": _dark_border(grey), "corner_darkness": _corner_darkness(grey)}


def _dark_border(grey: npt.NDArray[np.float64]) -> float:
    """Share of a frame 1/16 wide that is nearly black."""
    inner = grey[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX]
    return float(((grey < _DARK).sum() - (inner < _DARK).sum()) / (grey.size - inner.size))


def _corner_darkness(grey: npt.NDArray[np.float64]) -> float:
    """Vignetting: how much darker the four corners are than the middle, from 0 (not darker) to 1."""
    side = _SMALL_PX // 8
    ends = (slice(side), slice(-side, None))
    corners = np.concatenate([grey[y, x].ravel() for y in ends for x in ends])
    middle = grey[_SMALL_PX // 4 : -_SMALL_PX // 4, _SMALL_PX // 4 : -_SMALL_PX // 4].mean()
    return float(np.clip(1 - corners.mean() / max(middle, 1.0), 0, 1))


def jpeg_quality(table: npt.ArrayLike) -> int:
    """The libjpeg quality, 1 to 100, with the nearest luminance table, also for tables of other encoders.

    Args:
        table: the 64 quantisation steps of the first table, in any order.
    """
    steps = np.sort(np.asarray(table, dtype=np.int64))
    return int(np.abs(_quality_tables() - steps).sum(axis=1).argmin()) + 1


@cache
def _quality_tables() -> npt.NDArray[np.int64]:
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None]
    return np.sort(np.clip((np.array(_LUMINANCE) * scale + 50) // 100, 1, 255), axis=1)
