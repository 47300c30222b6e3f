"""Tables of Markdown pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_MOST_DIGITS = 9


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a bar inside a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def digits_of(lower: float | None, upper: float | None, digits: int = 3) -> int | None:
    """Decimals, at least so many, that tell the ends of an interval apart; None where there is none.

    An interval without width is none: it would claim certainty.

    >>> digits_of(-0.02, 0.03), digits_of(0.0001, 0.0004), digits_of(0.5, 0.5), digits_of(None, None)
    (3, 4, None, None)
    """
    if lower is None or upper is None or not upper > lower:
        return None
    return min(max(digits, -math.floor(math.log10(upper - lower))), _MOST_DIGITS)


def with_interval(
    row: Mapping[str, Any], name: str = "estimate", *, digits: int = 3, signed: bool = False, none: str = ""
) -> str:
    """A figure with its interval: ``0.812 (0.790 to 0.834)``; a dash if unknown.

    Args:
        row: the figure under ``name``, its interval under ``lower`` and ``upper``.
        name: key of the figure.
        digits: decimals.
        signed: show a plus.
        none: why there is no interval, for its place; empty to say nothing.
    """
    value, lower, upper = (row.get(key) for key in (name, "lower", "upper"))
    if value is None:
        return "-"
    needed = digits_of(lower, upper, digits)
    form = f"{'+' if signed else ''}.{digits if needed is None else needed}f"
    ends = f" ({lower:{form}} to {upper:{form}})" if needed is not None else f" ({none})" if none else ""
    return f"{value:{form}}{ends}"


def p_holm(row: Mapping[str, Any]) -> str:
    """The corrected p value of a row; a dash where there is none."""
    return "-" if row["p_holm"] is None else f"{row['p_holm']:.3g}"
