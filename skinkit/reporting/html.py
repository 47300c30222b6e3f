"""Blocks of HTML packed into pages that open offline under a strict content security policy.

A page has one style sheet, whose hash is in the policy, pictures as data, and no script. No page exceeds the size
limit: blocks that do not fit go to the next page, and a block larger than a page is replaced by a sentence that names
the location of its content.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from skinkit import __version__
from skinkit.errors import ConfigError
from skinkit.reporting.words import Words

_TEMPLATES = Path(__file__).parent / "templates"
LARGEST_MB = 20.0
SMALLEST_MB = 0.2
_NAVIGATION_BYTES = 4096  # for page numbers and contents, in addition to an empty page
_POLICY = "default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
_LINK = re.compile(r'href="#([a-z][a-z0-9-]*)"')
_PLACE = "\ue000"
_LINK_GROWTH = len("page-9999.html")


@cache
def environment() -> Environment:
    """The templates; all values are escaped, an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, words: Words, **values: Any) -> Markup:
    """A template as safe markup; ``t`` provides its texts."""
    return Markup(environment().get_template(template).render(t=words, **values))


def with_set_name(words: Words, key: str, name: str, **values: str) -> Markup:
    """A text whose ``{set}`` is the name of a malignant set, in a type of its own."""
    text = str(escape(words(key, set=_PLACE, **values)))
    return Markup(text.replace(_PLACE, str(Markup('<span class="set-name">{}</span>').format(name))))


def data_uri(picture: bytes) -> str:
    """A JPEG or PNG as a ``data:`` URL."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


@dataclass(frozen=True)
class Block:
    """A part of a page that is kept on one page.

    Attributes:
        html: the markup.
        anchor: id of its first element, if it is a link target.
        title: its title in the contents; empty leaves it out.
        instead: replacement if it is larger than a page.
    """

    html: Markup
    anchor: str = ""
    title: str = ""
    instead: Markup | str = ""

    @property
    def weight(self) -> int:
        """Bytes on a page, including room for page names in links."""
        return len(self.html.encode()) + _LINK_GROWTH * len(_LINK.findall(self.html)) + 1


@dataclass(frozen=True)
class Page:
    """A finished page."""

    name: str
    title: str
    data: bytes


def page_name(index: int) -> str:
    """File name of the page with that index from 0."""
    return "index.html" if index == 0 else f"page-{index + 1}.html"


def checked_limit(megabytes: float) -> int:
    """The page limit in bytes.

    Raises:
        ConfigError: outside the allowed range.
    """
    if not SMALLEST_MB <= megabytes <= LARGEST_MB:
        raise ConfigError(
            f"page_mb = {megabytes:g}",
            f"{SMALLEST_MB:g} to {LARGEST_MB:g} megabytes",
            "give --page-mb a value in that range",
        )
    return int(megabytes * 1_000_000)


def compose(blocks: Sequence[Block], *, title: str, words: Words, limit_bytes: int, kind: str) -> list[Page]:
    """Pages of at most ``limit_bytes`` that hold the blocks in order.

    Args:
        blocks: the content.
        title: of the document.
        words: the language.
        limit_bytes: largest page.
        kind: class of the body: ``research`` or ``clinic``.
    """
    contents = [(block.anchor, block.title) for block in blocks if block.title]
    empty = len(_page("", title, words, kind, 9999, 9999, contents).encode()) + _LINK_GROWTH * len(contents)
    pages = _packed(blocks, limit_bytes - empty - _NAVIGATION_BYTES)
    places = {block.anchor: index for index, page in enumerate(pages) for block in page if block.anchor}
    finished = []
    for index, page in enumerate(pages):
        content = Markup("\n").join(block.html for block in page)
        listed = contents if index == 0 else []
        text = _page(content, title, words, kind, index, len(pages), listed)
        data = _linked(text, places, index).encode()
        if len(data) > limit_bytes:
            raise ConfigError(
                f"page {index + 1} came out at {len(data)} bytes", f"at most {limit_bytes}", "raise --page-mb"
            )
        finished.append(Page(page_name(index), title, data))
    return finished


def _packed(blocks: Sequence[Block], room: int) -> list[list[Block]]:
    pages: list[list[Block]] = [[]]
    used = 0
    for block in blocks:
        fitting = block if block.weight <= room else Block(Markup(block.instead), block.anchor, block.title)
        if used + fitting.weight > room and pages[-1]:
            pages.append([])
            used = 0
        pages[-1].append(fitting)
        used += fitting.weight
    return pages


def _linked(text: str, places: Mapping[str, int], current: int) -> str:
    """Add the page name to links whose anchor is on another page."""

    def target(match: re.Match[str]) -> str:
        index = places.get(match[1], current)
        return match[0] if index == current else f'href="{page_name(index)}#{match[1]}"'

    return _LINK.sub(target, text)


def _page(
    content: str, title: str, words: Words, kind: str, index: int, pages: int, contents: Sequence[tuple[str, str]]
) -> str:
    sheet = stylesheet(words)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    numbers = [(n + 1, page_name(n)) for n in range(pages)] if 1 < pages < 9999 else []
    return render(
        "page.html",
        words,
        policy=_POLICY.format(digest=digest),
        stylesheet=Markup(sheet),
        title=title,
        kind=kind,
        content=content,
        index=index,
        pages=pages,
        numbers=_around(numbers, index),
        contents=contents,
        version=__version__,
    )


def _around(numbers: Sequence[tuple[int, str]], index: int) -> list[tuple[int, str]]:
    """The first, the last and the nearest pages, to limit the number of links."""
    return [entry for n, entry in enumerate(numbers) if n in (0, len(numbers) - 1) or abs(n - index) <= 6]


@cache
def _sheet() -> str:
    return (_TEMPLATES / "page.css").read_text(encoding="utf-8")


def stylesheet(words: Words) -> str:
    """The style sheet, with the sentence printed on every sheet of paper."""
    sentence = words("research_only").replace("\\", "").replace('"', "").replace("<", "")
    return "\n" + _sheet().replace("RESEARCH_ONLY", sentence).strip() + "\n"
