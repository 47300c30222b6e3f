"""A checklist of a reporting standard as blocks of a page and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from skinkit.evaluation.markdown import markdown_table
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
            "asks": item.asks.get(self.context.words.lang) or item.asks["en"],
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

    def markdown(self) -> str:
        """The same as Markdown, with a column to write in and one for the page of the manuscript."""
        words, counts = self.context.words, self.as_dict()["counts"]
        header = [words(f"standard.{name}") for name in ("item", "asks", "facts", "answer", "page")]
        parts = [
            f"# {words('standard.title', standard=self.standard.title)}",
            Teller(words, self.context.model).untrained(),
            self.standard.citation,
            words("standard.about", model=self.context.model.name),
            words("standard.counts", **counts),
        ]
        for section, rows in groupby(self.rows, key=lambda row: str(row["section"])):
            lines = [[row["number"], row["asks"], _facts(row), words(f"standard.{row['status']}"), ""] for row in rows]
            parts += [f"## {section}", markdown_table(header, [[_on_a_line(cell) for cell in line] for line in lines])]
        parts.append(words("research_only"))
        return "\n\n".join(part for part in parts if part) + "\n"

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


def _facts(row: Mapping[str, Any]) -> str:
    return "; ".join(f"{fact['text']} [{fact['source']}]" for fact in row["facts"])


def _on_a_line(cell: str) -> str:
    """A cell of a Markdown table: on one line, and its brackets no HTML."""
    return " ".join(cell.split()).replace("<", "&lt;")
