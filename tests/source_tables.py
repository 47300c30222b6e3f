"""Folders of photos and tables, and the cases that a source reads from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skinkit.data import read_cases
from skinkit.data.cases import Listing
from skinkit.workspace import Cohort


def photo(path: Path, seed: int = 0) -> Path:
    """A small photograph of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def table(path: Path, header: str, *rows: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join([header, *rows]) + "\n").encode(encoding))
    return path


def cohort(root: Path, source: str = "folder", role: str = "development", **options: Any) -> Cohort:
    return Cohort("h", role, source, root, options)


def listed(root: Path, source: str = "folder", role: str = "development", **options: Any) -> Listing:
    return read_cases(cohort(root, source, role, **options))
