"""File names that are not valid UTF-8, or hold control characters, as text for tables, logs and pages.

File names are bytes; archives packed on a Chinese Windows contain GB18030 names. Each byte that is not part of valid
UTF-8 is written as U+FFFD (the replacement character) and two hexadecimal digits, and so are a U+FFFD in the name
itself and the bytes of control characters, among them line breaks: the mapping is unique and reversible.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_LOST = "\ufffd"
_ESCAPE = re.compile(rf"{_LOST}([0-9A-F]{{2}})")
_ESCAPED_BYTE = re.compile(_ESCAPE.pattern.encode())
_STRAY = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\udc80-\udcff{_LOST}]")


def as_text(name: str) -> str:
    r"""A name from the operating system (PEP 383) as valid text.

    >>> as_text("caf\udce9.jpg"), as_text("病人.jpg")
    ('caf�E9.jpg', '病人.jpg')
    """
    return _STRAY.sub(lambda stray: "".join(f"{_LOST}{byte:02X}" for byte in os.fsencode(stray[0])), name)


def on_disk(path: Path) -> Path:
    """The file path behind such a text; any other path unchanged."""
    text = str(path)
    if _LOST not in text:
        return path
    raw = os.fsdecode(_bytes_of(text))
    return Path(raw) if os.path.lexists(raw) else path


def readings(name: str) -> tuple[str, ...]:
    """The texts by which a table may name a file: its own text, and its bytes decoded as GB18030."""
    if not _ESCAPE.search(name):
        return (name,)
    try:
        return name, _bytes_of(name).decode("gb18030")
    except UnicodeDecodeError:
        return (name,)


def _bytes_of(text: str) -> bytes:
    return _ESCAPED_BYTE.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(text))
