"""Why a figure has no estimate, four reasons that must not be taken for each other, and why it has no interval.

``undefined``        what the figure divides by is empty, or there is one kind of case only
``too_few``          it is defined, but on fewer cases than asked for
``separable``        the scores separate both sides without an error, so that a regression's coefficient does not exist
``beyond_bounds``    a fit whose optimum lies outside the range in which it means something
``too_few_patients`` it has an estimate, but too few patients for an interval or a verdict (``stats.intervals``)
"""

from __future__ import annotations

UNDEFINED, TOO_FEW, SEPARABLE, BEYOND_BOUNDS = NOTES = ("undefined", "too_few", "separable", "beyond_bounds")
MINIMUM_PATIENTS = 8
"""Fewest patients behind an interval or a verdict."""
TOO_FEW_PATIENTS = "too_few_patients"
INSUFFICIENT = "insufficient_n"
"""The one note of older versions, which did not distinguish these."""

_WORDS = {
    UNDEFINED: "undefined",
    TOO_FEW: "too few cases",
    SEPARABLE: "separable",
    BEYOND_BOUNDS: "beyond bounds",
    TOO_FEW_PATIENTS: "too few patients",
}
SENTENCES = {
    UNDEFINED: "undefined: no such case, no such call, or only one kind of case, so there is nothing to divide by",
    TOO_FEW: "too few cases: defined, but on fewer cases than --minimum",
    SEPARABLE: "separable: the scores separate both sides without an error, so no such coefficient exists",
    BEYOND_BOUNDS: "beyond bounds: the fit lies outside the range in which it means something",
    TOO_FEW_PATIENTS: (
        f"too few patients: no interval and no verdict stands on fewer than {MINIMUM_PATIENTS} patients behind a figure"
    ),
}


def words_of(note: str | None) -> str:
    """A note in a few words, for a cell of a table."""
    return _WORDS.get(note or "", "no estimate")
