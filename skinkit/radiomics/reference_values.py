"""A synthetic lesion and its features by PyRadiomics 3.0.1, to check that an installation computes the same numbers.

The picture is computed from integers only, so that it is the same on every machine.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinkit.radiomics import extract

VALUES = Path(__file__).with_name("known_values.json")
TOLERANCE = 1e-6
"""Largest difference, as a share of the value (or absolute, below 1)."""
HEIGHT, WIDTH = 48, 64


def lesion() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture (48, 64) and its mask: a mottled, lopsided ellipse on a ramp."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = 9 * (columns - 30) ** 2 + 16 * (rows - 25) ** 2 + 5 * (columns - 30) * (rows - 25) < 4200
    mottled = (rows * 37 + columns * 53 + (rows * columns) // 7) % 97
    picture = np.where(inside, 40 + mottled, 150 + columns + (rows * 3) % 11)
    return picture.astype(np.uint8), inside


def differing(engine: str) -> list[tuple[str, float, float]]:
    """Features of the lesion on which an engine differs: name, stored value, measured value.

    Args:
        engine: ``fast`` or ``pyradiomics``.
    """
    stored: dict[str, float] = json.loads(VALUES.read_text(encoding="utf-8"))
    measured = extract(*lesion(), engine=engine)
    values = {name: measured.get(name, math.nan) for name in stored}
    return [
        (name, value, values[name])
        for name, value in stored.items()
        if not abs(values[name] - value) <= TOLERANCE * max(1.0, abs(value))
    ]
