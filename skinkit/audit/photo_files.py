"""The files of a cohort's photos, read once each, for what is measured in them beside the lesion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from skinkit.console import Console
from skinkit.images.decode import decode
from skinkit.images.pixels import Array, read_bytes
from skinkit.workers import map_cases

_POOL_FROM = 200
"""Files below which starting processes costs more than it saves."""


def measured(
    measure: Callable[[Array], dict[str, Any]],
    images: pd.DataFrame,
    root: Path,
    columns: Sequence[str],
    *,
    label: str,
    jobs: int = 1,
    console: Console | None = None,
) -> pd.DataFrame:
    """(n, columns) of the images, in their order and under their index; null where no file can be read.

    Args:
        measure: photo, uint8 (H, W, 3) -> the columns; it is sent to other processes.
        images: with ``image_path``.
        root: folder of the paths.
        columns: that are kept of what is measured.
        label: what the progress is called.
        jobs: processes.
        console: shows the progress.
    """
    paths = enumerate(images["image_path"])
    items = [{"place": place, "path": str(root / path)} for place, path in paths if isinstance(path, str)]
    workers = jobs if len(items) >= _POOL_FROM else 0
    rows = map_cases(partial(_measured, measure), items, key=("place",), jobs=workers, console=console, label=label)
    table = pd.DataFrame([row for row in rows if row["status"] == "ok"], columns=["place", *columns])
    return table.set_index("place").reindex(range(len(images))).set_axis(images.index)


def _measured(measure: Callable[[Array], dict[str, Any]], item: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one photo.

    Raises:
        CaseError: the file is not a picture.
    """
    rgb, _ = decode(read_bytes(Path(item["path"])))
    return {"place": item["place"], **measure(rgb), "status": "ok"}
