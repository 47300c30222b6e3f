"""What a cell says of the diagnosis: by ICD-10 codes read as a whole, or by words, and whether without doubt.

A diagnosis that is excluded, suspected or past is no diagnosis, nor is a cell of several. The words of doubt are those
of ``words.toml``; of codes, the suffixes of ICD-10-GM (G confirmed, A excluded, V suspected, Z history; R, L and B for
the side) say the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from skinkit.data import words

_SUFFIX_DOUBTS = {"A": "excluded", "V": "suspected", "Z": "history"}
_CODE = re.compile(
    r"(?<![A-Z0-9])(?:(?P<prefix>[GAVZ])[ :.]+)?(?P<code>[A-Z]\d[0-9A](?:\.?[0-9X]{1,3}(?:X\d{3})?|\.-)?)"
    r"(?P<suffix>(?:[ ,;:/(\[\]).\-]*[GAVZRLB]){0,2}(?![A-Z0-9]|\.\s?[A-Z]))(?!\.?[A-Z0-9])"
)
_SKIN = re.compile(r"[CL]|D[0-4]")
"""Chapters of tumours and of the skin; other codes, such as I10, say nothing of a lesion."""


@dataclass(frozen=True)
class Said:
    """What a cell says of the diagnosis.

    Attributes:
        diagnosis: one of ours; empty where it is mapped to none on purpose; None where nothing certain is understood.
        doubt: ``excluded``, ``suspected``, ``history`` or ``several``; empty for none.
        named: the diagnoses that its codes stand for, whatever it says of them.
    """

    diagnosis: str | None
    doubt: str = ""
    named: frozenset[str] = frozenset()


NOTHING = Said(None)


@lru_cache(maxsize=100_000)
def doubt_of(text: str) -> str:
    """Why a text is no certain diagnosis; empty where it is one.

    >>> doubt_of("nevus, no melanoma"), doubt_of("V. a. Melanom"), doubt_of("melanoma in situ")
    ('excluded', 'suspected', '')
    """
    plain = words.plain(text)
    return next((kind for kind, pattern in words.DOUBT.items() if pattern.search(plain)), "")


def said_by_codes(text: str, icd10: Sequence[tuple[str, str]]) -> Said:
    """What the ICD-10 codes of a cell say, each read as a whole with its suffix and with the words beside it.

    Args:
        text: the cell.
        icd10: (prefix without its point, diagnosis), the longest prefix first.
    """
    upper = unicodedata.normalize("NFKC", text).upper()
    values: list[str | None] = []
    doubts: list[str] = []
    for match in _CODE.finditer(upper):
        value = _longest(match["code"], icd10)
        if value is None and not _SKIN.match(match["code"]):
            continue
        values.append(value)
        doubts += [_SUFFIX_DOUBTS[sign] for sign in re.findall("[AVZ]", f"{match['prefix'] or ''}{match['suffix']}")]
    if not values:
        return NOTHING
    rest = _CODE.sub(" ", upper).casefold()
    named = frozenset(filter(None, values))
    doubt = next(iter(doubts), "") or doubt_of(rest)
    if len({*values}) > 1 or (named and (guess(rest) or values[0]) != values[0]):
        doubt = doubt if len({*doubts}) == 1 and len(doubts) == len(values) else "several"
    return Said(None, doubt, named) if doubt else Said(values[0], "", named)


def _longest(code: str, icd10: Sequence[tuple[str, str]]) -> str | None:
    bare = code.replace(".", "").rstrip("-")
    return next((value for prefix, value in icd10 if bare.startswith(prefix)), None)


_MAY_BE = sorted(
    ((code.replace(".", ""), "|".join(diagnoses)) for code, diagnoses in words.MAY_BE.items()),
    key=lambda pair: -len(pair[0]),
)


def contradict(word: Said, code: Said, likely: str, text: str) -> bool:
    """Whether the words of a row and its codes cannot both be true.

    Args:
        word: what the words say.
        code: what the codes say.
        likely: what the words probably mean where nothing certain is understood, by :func:`guess`.
        text: the cell of the codes.
    """
    said = word.diagnosis
    if word.doubt:
        return bool(code.diagnosis)
    if said is None:
        return bool(code.diagnosis and likely and likely not in code.named)
    if not said:
        return False
    if code.doubt in ("excluded", "history"):
        return said in code.named
    if code.doubt:
        return bool(code.named - {said}) if code.doubt == "suspected" else said not in code.named
    if code.diagnosis == said:
        return False
    broad = said_by_codes(text, _MAY_BE)
    if broad.diagnosis:
        return said not in broad.diagnosis.split("|")
    return bool(code.diagnosis)


@lru_cache(maxsize=100_000)
def guess(text: str) -> str:
    """The diagnosis that a longer text probably means; empty where it says none, several, or one with a doubt.

    >>> guess("Melanoma, superficial spreading"), guess("lentigo maligna"), guess("nevus and melanoma")
    ('melanoma', '', '')
    """
    if doubt_of(text):
        return ""
    plain = words.plain(text)
    return _only((match.span(), value) for pattern, value in words.GUESSES if (match := pattern.search(plain)))


def _only(matches: Iterable[tuple[tuple[int, int], str]]) -> str:
    """The value of the first match, unless another one beside it has another value."""
    first, *others = [*matches, ((0, 0), "")]
    (start, end), value = first
    apart = {other for (begin, stop), other in others if other and (begin >= end or stop <= start)}
    return value if apart <= {value} else ""
