"""The page of a study as HTML: its Markdown, with the figures beside it inside, so that one file opens offline.

Every second-level heading begins a section of the contents. Pictures are taken from the page's folder and the folders
beside it; of others the description stays. HTML in the Markdown is shown as text.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from mdurl import decode

from skinkit.reporting.html import Block, compose, data_uri
from skinkit.reporting.words import Words

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def study_page(markdown: str, folder: Path) -> bytes:
    """The HTML of one page, however large.

    Args:
        markdown: begins with a first-level heading, which is the title.
        folder: that the pictures' links start from.
    """
    title, _, rest = markdown.lstrip().removeprefix("#").partition("\n")
    blocks = [_block(section, place, folder) for place, section in enumerate(_sections(_MARKDOWN.parse(rest)))]
    (page,) = compose(blocks, title=title.strip(), words=Words("en"), limit_bytes=sys.maxsize, kind="research")
    return page.data


def _sections(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The tokens, parted before every second-level heading."""
    section: list[Token] = []
    for token in tokens:
        if token.type == "heading_open" and token.tag == "h2" and section:
            yield section
            section = []
        section.append(token)
    yield section


def _block(tokens: Sequence[Token], place: int, folder: Path) -> Block:
    title, anchor = "", f"part-{place}"
    for number, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            title = "".join(child.content for child in tokens[number + 1].children or ())
            token.attrSet("id", anchor)
        for child in token.children or ():
            if child.type == "image":
                _embed(child, folder)
    html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    # A wide table scrolls by itself, so that the page does not.
    html = html.replace("<table>", '<div class="scroll"><table class="dense">').replace("</table>", "</table></div>")
    return Block(Markup(html), anchor if title else "", title)


def _embed(image: Token, folder: Path) -> None:
    """Put a picture's bytes in the place of its link, or its description where there is no such picture."""
    file = (folder / decode(str(image.attrGet("src")))).resolve()
    if file.is_relative_to(folder.parent.resolve()) and file.is_file():
        if file.suffix == ".svg":
            image.attrSet("src", f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}")
        else:
            image.attrSet("src", data_uri(file.read_bytes()))
        image.attrSet("class", "figure")
    else:
        image.type = "text"
