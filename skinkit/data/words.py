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
_ESCAPED = re.compile("_x00[01][0-9A-F]_|_x007F_")
"""How Excel writes a control character into a file, such as _x000D_ for a line end."""


def visible(text: str) -> str:
    """A cell, heading or name without zero-width characters, and with every kind of space as a plain space.

    Ids that look the same must be equal, or one patient counts as two.

    >>> visible("\ufeffP1\u200b "), visible("A\u00a07")
    ('P1', 'A 7')
    """
    text = _ESCAPED.sub(" ", text) if "_x00" in text else text
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

UNSURE: dict[str, dict[str, list[str]]] = _TABLE["unsure"]
"""Column -> word -> words beside which it says nothing."""

UNITS: dict[str, dict[str, float]] = {
    kind: {name: float(per) for per, names in units.items() for name in names}
    for kind, units in _TABLE["units"].items()
}
"""Quantity -> unit -> how many of it are one of ours."""

UNCLEAR_UNITS: dict[str, list[str]] = _TABLE["unclear_units"]
"""Quantity -> letters in brackets of a heading that may be a unit."""

PLUS, MINUS = frozenset({"+", "(+)", "++", "+++"}), frozenset({"-", "−", "–", "—"})
"""Signs for yes and no."""

SITES: dict[str, tuple[str, str]] = {
    word: (entry["site"], entry.get("region", "")) for entry in _TABLE["sites"] for word in entry["words"]
}
"""Anatomical word -> (one of the six sites, PAD-UFES-20 region or empty)."""


def diagnosis(text: str) -> str:
    """The diagnosis that a whole cell names, with blanks or hyphens between its words; empty for none.

    >>> diagnosis("Basal-cell-carcinoma"), diagnosis("no melanoma")
    ('basal_cell_carcinoma', '')
    """
    bare = plain(text)
    return DIAGNOSES.get(bare) or DIAGNOSES.get(" ".join(bare.replace("-", " ").split()), "")


ICD10: dict[str, str] = _TABLE["icd10"]
"""ICD-10 prefix -> diagnosis."""

MAY_BE: dict[str, list[str]] = _TABLE["icd10_may_be"]
"""ICD-10 prefix -> diagnoses that it may stand for."""

DOUBT = {kind: re.compile("|".join(patterns), re.IGNORECASE) for kind, patterns in _TABLE["doubt"].items()}
"""Reason -> what makes a diagnosis doubtful, in normal form, in the order in which the reasons are tried."""


def heading(name: str) -> str:
    """A heading normalised for comparison: no unit in brackets, no punctuation, no spaces."""
    bare = re.sub(r"[(（\[].*?[)）\]]", "", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r"[\s_\-.:：/]+", "_", bare).strip("_")


def unit_of(kind: str, heading: str) -> set[str]:
    """The units that a heading names: in brackets, or as its last word.

    >>> unit_of("age_years", "Age (months)"), unit_of("length", "diameter_cm"), unit_of("age_years", "年龄(月)")
    ({'months'}, {'cm'}, {'月'})
    """
    text = plain(heading)
    bracketed = re.findall(r"[(\[]([^)\]]*)[)\]]", text)
    last = re.split(r"[\s_/,;:.\-]+", re.sub(r"[(\[][^)\]]*[)\]]", " ", text).strip())
    tokens = {token for part in bracketed for token in re.split(r"[\s/,;:.\-]+", part)}
    tokens |= {last[-1]} if len(last) > 1 else set()
    tokens |= {name for name in UNITS[kind] if not name.isascii() and len(name) > 1 and last[-1].endswith(name)}
    asked = {part.strip() for part in bracketed} & {*UNCLEAR_UNITS[kind]}
    return {token for token in tokens if token in UNITS[kind]} | asked


# ------------------------------------------------------------------------------------------- guesses of a draft

HEADERS: dict[str, list[str]] = _TABLE["headers"]
"""Canonical column -> its likely headers, in normal form."""

KEPT = frozenset(_TABLE["kept"])
"""Headers of columns that a draft keeps as they are."""

PRIVATE = re.compile("|".join(_TABLE["private"]), re.IGNORECASE)
"""Headers of probably private columns, which a draft lists as not taken."""

GUESSES = tuple((re.compile(entry["pattern"]), entry["diagnosis"]) for entry in _TABLE["guesses"])
"""(pattern, diagnosis) for longer texts, tried in this order; an empty diagnosis leaves the text to a person."""
