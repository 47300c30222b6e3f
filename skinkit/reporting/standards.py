"""Checklists of reporting standards: the requirement of each item, and the facts of the pipeline that answer it.

One file per standard in ``checklists/*.toml``. Items are numbered as in the published checklists; their wording is our
own and shorter. Read the standard itself before submitting: the page only fills in what the pipeline has recorded.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from skinkit.reporting.words import LANGUAGES

CHECKLISTS = Path(__file__).parent / "checklists"
STANDARDS = tuple(sorted(file.stem for file in CHECKLISTS.glob("*.toml")))
"""Names on the command line."""
PERSON, PART, FILLED = "person", "part", "filled"


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Attributes:
        number: as published.
        section: key of the texts ``standard.section.*``.
        asks: language -> its requirement.
        facts: names of facts of :mod:`skinkit.reporting.facts` that answer it.
        complete: whether those facts answer it fully; otherwise a person must complete them.
    """

    number: str
    section: str
    asks: Mapping[str, str]
    facts: tuple[str, ...]
    complete: bool


@dataclass(frozen=True)
class Standard:
    """A checklist.

    Attributes:
        title: its name.
        citation: where it was published.
        items: in order.
    """

    title: str
    citation: str
    items: tuple[Item, ...]


@cache
def load_standard(name: str) -> Standard:
    """The checklist of one of :data:`STANDARDS`."""
    table = tomllib.loads((CHECKLISTS / f"{name}.toml").read_text(encoding="utf-8"))
    items = [
        Item(
            number=item["number"],
            section=item["section"],
            asks={lang: item[lang] for lang in LANGUAGES},
            facts=tuple(item.get("facts", ())),
            complete=item.get("complete", False),
        )
        for item in table["items"]
    ]
    return Standard(table["title"], table["citation"], tuple(items))
