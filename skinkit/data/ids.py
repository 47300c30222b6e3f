"""Ids of patients and lesions as tables spell them: which spellings are one id, and which may be.

Width, blanks, kinds of dashes and invisible characters never distinguish two patients: such spellings are one id. Case,
leading zeros, ``.0``, a separator between letters and digits, and dates that a spreadsheet made of ids (3-1 became
2024-03-01) may or may not: such ids are listed, and a person settles them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skinkit.data import words
from skinkit.errors import listed

SAME, DIFFERENT = "same", "different"
_DASHES = re.compile("[\u00ad\u2010-\u2015\u2212\u2043\ufe58\ufe63\uff0d]")
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mrz|mai|okt|dez"
_DATE = re.compile(
    rf"\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?:[ t]0?0:00.*)?"
    rf"|\d{{1,2}}[-. /]{{1,2}}(?:{_MONTHS})[a-z]*\.?(?:[-. /]\d{{2,4}})?"
    rf"|(?:{_MONTHS})[a-z]*[-. /]\d{{1,4}}|\d{{1,2}}月\d{{1,2}}日?",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"[^\W\d_]{2,}(?:-[^\W\d_]+)?,? +(?:[^\W\d_][.\w'-]* *)+\d*|[^\W\d_]{2,}, *[^\W\d_]\.?|[\u4e00-\u9fff·]{2,4}"
)
_NO_NAME = re.compile(
    r"\b(?:patient|case|subject|person|proband|control|no|nr|id|number|lesion|group)\b|患者|病例|病人", re.IGNORECASE
)


def one_spelling(text: str) -> str:
    """An id without what never distinguishes two: width, runs of blanks, kinds of dashes.

    >>> one_spelling("Ｐ１"), one_spelling("A\u20117"), one_spelling("B  2")
    ('P1', 'A-7', 'B 2')
    """
    plain = text if text.isascii() else unicodedata.normalize("NFKC", _DASHES.sub("-", text))
    return " ".join(plain.split())


def is_unknown(text: str) -> bool:
    """Whether an id is a word for unknown, or holds no letter and no digit."""
    return words.plain(text) in words.UNKNOWN or not re.search(r"[^\W_]", text)


def unsettled(ids: Iterable[str | None]) -> list[tuple[str, ...]]:
    """Ids that are perhaps one, in groups; a group of one looks like a date that a spreadsheet made of an id.

    Args:
        ids: ids in one spelling; repeats and None are passed over.

    >>> unsettled(["7", "007", "7.0", "8", "P-1", "p1", "1-1", "11"])
    [('007', '7', '7.0'), ('P-1', 'p1')]
    """
    every = sorted({*filter(None, ids)})
    alike: dict[str, list[str]] = defaultdict(list)
    for each in every:
        alike[_likeness(each)].append(each)
    groups = [tuple(same) for same in alike.values() if len(same) > 1]
    dates = [each for each in every if any(_DATE.fullmatch(part) for part in each.split("|"))]
    return groups + ([(each,) for each in dates] if len(dates) < len(every) else [])


def _likeness(text: str) -> str:
    folded = re.sub(r"\.0+(?=$|\|)", "", text.casefold())
    folded = re.sub(r"(?<=[^\W\d_])[-_. /]+(?=\d)|(?<=\d)[-_. /]+(?=[^\W\d_])", "", folded)
    return re.sub(r"(?<!\d)0+(?=\d)", "", " ".join(folded.split()))


def joined(ids: Iterable[str | None]) -> dict[str, str]:
    """Id -> the shortest of the spellings that are perhaps one, for those that have several."""
    return {
        each: min(same, key=lambda one: (len(one), one)) for same in unsettled(ids) if len(same) > 1 for each in same
    }


def look_like_names(ids: Iterable[str | None]) -> bool:
    """Whether most ids look like names of people.

    >>> look_like_names(["Ada Lovelace", "Hopper, G."]), look_like_names(["Patient 1", "P 2"])
    (True, False)
    """
    every = {*filter(None, ids)}
    named = sum(bool(_NAME.fullmatch(each) and not _NO_NAME.search(each)) for each in every)
    return 2 * named > len(every)


def as_recorded(groups: Mapping[str, Sequence[Sequence[str]]], *, private: bool) -> dict[str, Any]:
    """What a manifest records of unsettled ids: their number, and the ids unless they are private."""
    return {
        name: {"n": len(same), "ids": [] if private else [list(each) for each in same]}
        for name, same in groups.items()
        if same
    }


def reported(name: str, record: Mapping[str, Any]) -> str:
    """Unsettled ids in words: ``2 patient ids are perhaps one: ...``."""
    shown = [" = ".join(map(repr, each)) if len(each) > 1 else f"{each[0]!r} (a date?)" for each in record["ids"]]
    return f"{record['n']} {name.removesuffix('_id')} ids are written in several ways{': ' if shown else ''}" + (
        listed(shown) if shown else ""
    )
