"""Words hospitals use, English and Chinese, as ``words.toml`` lists them, and how words are compared."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=100_000)
def plain(text: str) -> str:
    """A word normalised for comparison: width, case and runs of spaces do not matter.

    >>> plain("  Ｄ２２ ．5 "), plain("Basal  Cell")
    ('d22 .5', 'basal cell')
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


_INVISIBLE: dict[int, str | None] = {
    **dict.fromkeys([0x00AD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    **dict.fromkeys([0x00A0, 0x2007, 0x202F, 0x3000], " "),
}


def visible(text: str) -> str:
    """A cell, heading or name without zero-width characters, and with every kind of space as a plain space.

    Ids that look the same must be equal, or one patient counts as two.

    >>> visible("\ufeffP1\u200b "), visible("A\u00a07")
    ('P1', 'A 7')
    """
    return text.strip() if text.isascii() else text.translate(_INVISIBLE).strip()


def _inverted(table: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Word -> value, of a table of value -> words."""
    return {word: value for value, words in table.items() for word in words}


_TABLE = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))

UNKNOWN = frozenset(_TABLE["unknown"])
"""Words for unknown in sex, site or diagnosis; they become null and do not count as unmapped."""

SEX = _inverted(_TABLE["sex"])
DIAGNOSES = _inverted(_TABLE["diagnoses"])
YES_NO = _inverted(_TABLE["yes_no"])
CONFIRMED = _inverted(_TABLE["confirmed_by"])
MODALITY = _inverted(_TABLE["modality"])

SITES: dict[str, tuple[str, str]] = {
    word: (entry["site"], entry.get("region", "")) for entry in _TABLE["sites"] for word in entry["words"]
}
"""Anatomical word -> (one of the six sites, PAD-UFES-20 region or empty)."""

ICD10: dict[str, str] = _TABLE["icd10"]
"""ICD-10 prefix -> diagnosis."""

ICD10_CODE = re.compile(r"[A-Z]\d{2}(?:\.?\d[0-9A-Z]*)?(?![A-Z])")
"""A code, or the code at the start of a cell (C43.9 malignant melanoma)."""

# ------------------------------------------------------------------------------------------- guesses of a draft

HEADERS: dict[str, list[str]] = _TABLE["headers"]
"""Canonical column -> its likely headers, in normal form."""

PRIVATE = re.compile("|".join(_TABLE["private"]), re.IGNORECASE)
"""Headers of probably private columns, which a draft lists as not taken."""

GUESSES = tuple((entry["pattern"], entry["diagnosis"]) for entry in _TABLE["guesses"])
"""(pattern, diagnosis) for longer texts, tried in this order; an empty diagnosis leaves the text to a person."""
