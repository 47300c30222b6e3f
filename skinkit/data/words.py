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
    """A word for comparison: full-width forms, upper case and spaces do not matter.

    >>> plain("  Ｄ２２ ．5 "), plain("Basal  Cell")
    ('d22 .5', 'basal cell')
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


_INVISIBLE: dict[int, str | None] = {
    **dict.fromkeys([0x00AD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    **dict.fromkeys([0x00A0, 0x2007, 0x202F, 0x3000], " "),
}


def visible(text: str) -> str:
    """A cell, heading or name without what cannot be seen: zero-width signs go, every kind of space is a space.

    Two ids that look the same must be the same: a patient would otherwise count as two.

    >>> visible("\ufeffP1\u200b "), visible("A\u00a07")
    ('P1', 'A 7')
    """
    return text.strip() if text.isascii() else text.translate(_INVISIBLE).strip()


def _inverted(table: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Word -> value, of a table of value -> words."""
    return {word: value for value, words in table.items() for word in words}


_TABLE = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))

UNKNOWN = frozenset(_TABLE["unknown"])
"""Words that mean nothing is known where sex, site or diagnosis is asked; they are null without being counted."""

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
"""A code, or the code that a cell begins with (C43.9 malignant melanoma)."""

# ------------------------------------------------------------------------------------------- guesses of a draft

HEADERS: dict[str, list[str]] = _TABLE["headers"]
"""Canonical column -> headers, in normal form, that very probably hold it."""

PRIVATE = re.compile("|".join(_TABLE["private"]), re.IGNORECASE)
"""Headers that look private: a draft names them among what is not taken."""

GUESSES = tuple((entry["pattern"], entry["diagnosis"]) for entry in _TABLE["guesses"])
"""Pattern and diagnosis that a draft guesses of a longer text, in this order; empty: leave it to a person."""
