"""A checklist of a reporting standard as blocks of a page and as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from skinkit.reporting.facts import FactSheet
from skinkit.reporting.html import Block, render
from skinkit.reporting.phrasing import Teller
from skinkit.reporting.research import ReportContext
from skinkit.reporting.standards import FILLED, PART, PERSON, Item, Standard
from skinkit.reporting.words import plain

_MOST_FACTS = 40


@dataclass(frozen=True)
class Checklist:
    """One standard over one study.

    Attributes:
        standard: the items.
        context: evidence and words.
    """

    standard: Standard
    context: ReportContext

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Number, section, requirement, status (filled, part, person) and facts with their sources."""
        sheet = FactSheet(self.context)
        return [self._row(item, sheet) for item in self.standard.items]

    def _row(self, item: Item, sheet: FactSheet) -> dict[str, Any]:
        facts = sheet.facts(*item.facts)
        status = PERSON if not facts else FILLED if item.complete else PART
        return {
            "number": item.number,
            "section": self.context.words(f"standard.section.{item.section}"),
            "asks": item.asks[self.context.words.lang],
            "status": status,
            "facts": [{"text": plain(text), "source": source} for text, source in facts],
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``checklist.json``."""
        counts = {status: sum(row["status"] == status for row in self.rows) for status in (FILLED, PART, PERSON)}
        return {
            "standard": self.standard.title,
            "citation": self.standard.citation,
            "model": self.context.model.name,
            "counts": counts,
            "items": self.rows,
        }

    def blocks(self) -> Iterator[Block]:
        """The page: an introduction, then a table per section."""
        words, counts = self.context.words, self.as_dict()["counts"]
        html = render(
            "checklist_head.html",
            words,
            untrained=Teller(words, self.context.model).untrained(),
            citation=self.standard.citation,
            about=words("standard.about", model=self.context.model.name),
            counts=words("standard.counts", **counts),
        )
        yield Block(html, "checklist", self.standard.title)
        for section, rows in groupby(self.rows, key=lambda row: str(row["section"])):
            printed = [
                {**row, "facts": row["facts"][:_MOST_FACTS], "to_do": words(f"standard.{row['status']}")}
                for row in rows
            ]
            yield Block(render("checklist.html", words, section=section, rows=printed))
