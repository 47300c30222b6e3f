"""Flags of rows, and their counts: what was done to a picture or a cell that a person may want to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping


def count_flags(cells: Iterable[object]) -> dict[str, int]:
    """Flag -> rows that have it, the most frequent first.

    Args:
        cells: of a column ``flags``: names joined by commas, or a null value.
    """
    return dict(
        Counter(flag for cell in cells if isinstance(cell, str) for flag in cell.split(",") if flag).most_common()
    )


def flags_text(counts: Mapping[str, int]) -> str:
    """The counts for a terminal.

    >>> flags_text({"turned": 1200, "cmyk": 1})
    'turned 1,200, cmyk 1'
    """
    return ", ".join(f"{flag} {n:,}" for flag, n in counts.items())
