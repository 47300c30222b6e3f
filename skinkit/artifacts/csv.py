"""Tables as CSV that a spreadsheet opens without executing formulas, in the encodings hospitals use.

A text that a spreadsheet would interpret as a formula is prefixed with an apostrophe (OWASP, "CSV Injection"); numbers,
including negative ones, stay numbers.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skinkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

ENCODINGS = ("utf-8", "utf-8-sig", "gb18030")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def cell(value: Any) -> str:
    """One value as text: empty for unknown, words for true and false, formulas disarmed."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not isinstance(value, str):
        return text
    text = text.replace("\0", "")
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def escaped(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose texts and column names a spreadsheet does not execute as formulas."""
    escaped = frame.copy()
    for name in frame.select_dtypes(exclude=["number", "bool"]):
        escaped[name] = [cell(value) if isinstance(value, str) else value for value in frame[name]]
    return escaped.rename(columns=lambda name: cell(str(name)))


def lines(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, crlf: bool = False) -> Iterable[str]:
    """The header and every row, each with its line end; a cell that contains a line break is quoted."""
    for values in (columns, *([row.get(name) for name in columns] for row in rows)):
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\r\n").writerow([cell(value) for value in values])  # quotes both signs
        yield stream.getvalue() if crlf else stream.getvalue().removesuffix("\r\n") + "\n"


def encoded(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], encoding: str = "utf-8", *, crlf: bool = False
) -> bytes:
    """A table as the bytes of a CSV file.

    Args:
        columns: names and order of the columns.
        rows: values by column; a column that a row lacks is empty.
        encoding: of :data:`ENCODINGS`; ``utf-8-sig`` starts with the byte order mark by which Excel recognises UTF-8.
        crlf: use Windows line ends.

    Raises:
        InputError: naming the row with a character that the encoding lacks; characters are never replaced.
    """
    marked = b"\xef\xbb\xbf" if encoding == "utf-8-sig" else b""
    plain = encoding.removesuffix("-sig")
    parts = [marked]
    for number, line in enumerate(lines(columns, rows, crlf=crlf)):
        try:
            parts.append(line.encode(plain))
        except UnicodeEncodeError as error:
            sign, row = line[error.start], rows[number - 1] if number else {}
            named = next((name for name in columns if sign in str(row.get(name))), "")
            raise InputError(
                f"row {number} of the table, column {named!r}: U+{ord(sign):04X} cannot be written as {encoding}",
                f"characters that {encoding} can represent",
                "choose another --encoding, or rename the file or id that holds it",
            ) from None
    return b"".join(parts)
