"""Tables of Markdown pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a bar inside a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def with_interval(row: Mapping[str, Any], name: str = "estimate", *, digits: int = 3, signed: bool = False) -> str:
    """A figure with its interval: ``0.812 (0.790 to 0.834)``; a dash if unknown.

    Args:
        row: the figure under ``name``, its interval under ``lower`` and ``upper``.
        name: key of the figure.
        digits: decimals.
        signed: show a plus.
    """
    value, lower, upper = (row.get(key) for key in (name, "lower", "upper"))
    if value is None:
        return "-"
    form = f"{'+' if signed else ''}.{digits}f"
    ends = f" ({lower:{form}} to {upper:{form}})" if lower is not None and upper is not None else ""
    return f"{value:{form}}{ends}"
