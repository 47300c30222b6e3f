"""Read a table as text: CSV, TSV, XLSX or Parquet; an error names file, row and column.

Damage by a spreadsheet or an export is an error, never repaired by guessing: an unclosed quote, a truncated last row,
merged cells, a formula without its cached result, text in another encoding than the configured one.
"""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import io
import math
import re
import struct
import unicodedata
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple

from skinkit.data.source import Dialect, TableRow
from skinkit.data.words import UNITS, visible
from skinkit.errors import ConfigError, InputError, did_you_mean

ENCODINGS = (
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "gbk", "big5", "latin-1", "cp1252",
    "shift_jis", "euc-kr",
)  # fmt: skip
_NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "nat", "#n/a"})
_OTHER_KINDS = {
    b"PK\x03\x04": ("a ZIP or Excel file", "name it .xlsx, or save it as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Excel file (.xls)", "save it as XLSX or CSV (UTF-8)"),
    b"<": ("an HTML or XML page", "open it in a spreadsheet and save it as XLSX or CSV (UTF-8)"),
    b"%PDF": ("a PDF document", "export the table itself"),
    b"{\rtf": ("a text document", "export the table as CSV (UTF-8)"),
    b"\x1f\x8b": ("a compressed file", "unpack it"),
    b"PAR1": ("a Parquet file", "name it .parquet"),
    b"SQLite format 3": ("a database", "export the table as CSV (UTF-8)"),
    b"\xff\xd8\xff": ("a photo", "name the table"),
    b"\x89PNG": ("a picture", "name the table"),
}
"""First bytes of files often misnamed .csv -> (what the file is, the fix)."""
_MOST_ABOVE = 25
"""Rows among which the headings, below title lines, are looked for."""
_ROWS_AT_ONCE = 1024
_LARGEST_BOOK = 1 << 30
"""Largest unpacked size of an XLSX file, in bytes."""
# Exceptions that openpyxl's parsers raise on damaged files.
_BOOK_DAMAGE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, SyntaxError, ArithmeticError, EOFError, RuntimeError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        path: the file.
        columns: its column names in order.
        rows: its rows, numbered as an editor or spreadsheet numbers them.
        repeated: column names that occur more than once; the first occurrence is used.
        heading_rows: numbers of the rows that hold the headings.
        sheet: the sheet that was read.
        notes: what was not read: other sheets, hidden rows.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    repeated: frozenset[str] = frozenset()
    heading_rows: tuple[int, ...] = ()
    sheet: str = ""
    notes: tuple[str, ...] = ()

    def require(self, column: str, why: str, fix: str = "") -> None:
        """Raise an error unless the column exists exactly once.

        Raises:
            InputError: the column is absent or repeated.
        """
        if column in self.repeated:
            raise InputError(
                f"{self.path}: two columns are called {column!r}", f"one, {why}", "rename one of them in the table"
            )
        if column in self.columns:
            return
        single = self.columns[0] if len(self.columns) == 1 else ""
        other = [sign for sign in _DELIMITERS if sign in single]
        hint = f'the delimiter looks like a {_DELIMITERS[other[0]]}: set delimiter = "{other[0]}"' if other else fix
        raise InputError(
            f"{self.path}: no column {column!r}",
            f"{why}; {did_you_mean(column, self.columns)}",
            (hint or "correct the column's name, or set heading_rows if the headings are in another row").replace(
                "\t", "\\t"
            ),
        )


def read(path: Path, dialect: Dialect, expected: Collection[str] = ()) -> Table:
    """Read a table in the format of its extension.

    Args:
        path: the file.
        dialect: how it is written.
        expected: columns by which the row of headings, and the sheet, are found below a title or beside others.

    Raises:
        InputError: the file is absent, of another format, or does not match the dialect.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"no table {path}", "the table of the cohort", "correct its name")
    if suffix in (".xlsx", ".xlsm"):
        sheet = _xlsx(path, dialect, expected)
        return replace(_from_lines(path, sheet.lines, dialect, expected), sheet=sheet.name, notes=sheet.notes)
    if suffix in (".parquet", ".pq"):
        return _from_lines(path, _parquet(path, dialect), dialect, expected)
    if suffix in (".xls", ".ods", ".mdb", ".sav", ".dta"):
        raise InputError(f"{path} is a {suffix} file", "CSV, TSV, XLSX or Parquet", "save it as XLSX or CSV (UTF-8)")
    return _from_lines(path, _delimited(path, dialect), dialect, expected)


def is_missing(text: str, dialect: Dialect) -> bool:
    """Whether a cell stands for a missing value."""
    return text.casefold() in _NOTHING or text in dialect.missing


Line = tuple[int, Sequence[str]]


def _from_lines(path: Path, lines: Iterable[Line], dialect: Dialect, expected: Collection[str]) -> Table:
    filled = (line for line in lines if any(line[1]))
    first = list(islice(filled, max(_MOST_ABOVE, *dialect.heading_rows, 0)))
    if not first:
        raise InputError(f"{path} is empty", "a header line and one row per image or exam", "export the table again")
    at: tuple[int, ...] = ()
    if len(first[0][1]) == len(dialect.headings):
        header = list(dialect.headings)
    else:
        at = _heading_rows(path, first, dialect, expected)
        header = _headings([cells for number, cells in first if number in at])
    repeated = frozenset(name for name, times in Counter(header).items() if name and times > 1)
    rows: list[TableRow] = []
    for number, cells in chain(first, filled):
        if at and number <= max(at):
            continue
        if len(header) > 1 and list(cells) == header:
            continue  # a repeated header, from two exports that were concatenated
        surplus = [cell for cell in cells[len(header) :] if cell]
        if surplus:
            raise InputError(
                f"{path}, row {number}: {len(cells)} cells under {len(header)} columns; the first surplus cell is "
                f"{surplus[0]!r}",
                "as many cells as columns",
                "put cells that contain a comma in quotes, or set the delimiter or heading_rows",
            )
        named: dict[str, str] = {}
        for name, cell in zip(header, cells, strict=False):
            if name:
                named.setdefault(name, cell)
        rows.append(TableRow(number, {**dict.fromkeys(filter(None, header), ""), **named}))
    return Table(path, tuple(dict.fromkeys(filter(None, header))), tuple(rows), repeated, at)


def _heading_rows(path: Path, first: Sequence[Line], dialect: Dialect, expected: Collection[str]) -> tuple[int, ...]:
    """Numbers of the rows that hold the headings: as set, by the columns expected, or else by their look.

    Raises:
        InputError: a row of ``heading_rows`` is empty.
    """
    numbers = [number for number, _ in first]
    if dialect.heading_rows:
        if absent := [number for number in dialect.heading_rows if number not in numbers]:
            raise InputError(
                f"{path}, row {absent[0]}: empty", "headings, as heading_rows says", "correct heading_rows"
            )
        return dialect.heading_rows
    if expected:
        fitting = [_fitting(cells, expected) for _, cells in first]
        return (numbers[fitting.index(max(fitting))],)
    filled = [sum(map(bool, cells)) for _, cells in first]
    start = next((i for i, n in enumerate(filled) if n >= min(2, max(filled)) and n >= 0.6 * max(filled)), 0)
    if start + 1 < len(first) and _complete_each_other(first[start][1], first[start + 1][1]):
        return numbers[start], numbers[start + 1]
    return (numbers[start],)


def _fitting(cells: Sequence[str], expected: Collection[str]) -> int:
    """How many of the expected columns a row names."""
    return len({re.sub(r"[ \r\n]+", " ", visible(cell)) for cell in cells} & {*expected})


def _complete_each_other(upper: Sequence[str], lower: Sequence[str]) -> bool:
    """Whether two rows are headings together: each has words where the other has none, and neither a number."""
    pairs = list(zip_longest(upper, lower, fillvalue=""))
    words = not any(re.search(r"\d", cell) for pair in pairs for cell in pair)
    return words and any(u and not low for u, low in pairs) and any(low and not u for u, low in pairs)


def _headings(lines: Sequence[Sequence[str]]) -> list[str]:
    """The names of the columns; of several rows, an upper name holds for the columns to its right that have none."""
    rows = [[re.sub(r"[ \r\n]+", " ", visible(cell)) for cell in cells] for cells in lines]
    *above, last = rows
    width = max(map(len, rows))
    names = [""] * width
    for row in above:
        over = ""
        for column in range(width):
            own = row[column] if column < len(row) else ""
            below = last[column] if column < len(last) else ""
            over = own or (over if below else "")
            names[column] = " ".join(filter(None, (names[column], over)))
    return [" ".join(filter(None, pair)) for pair in zip_longest(names, last, fillvalue="")]


def _delimited(path: Path, dialect: Dialect) -> Iterator[tuple[int, Sequence[str]]]:
    data = path.read_bytes()
    for magic, (kind, fix) in _OTHER_KINDS.items():
        if data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(magic):
            raise InputError(f"{path} is {kind}", "a table of text", fix)
    text = _decoded(path, data, dialect.encoding)
    hint = re.match(r"sep=(.)[ ;,\t]*\r?\n", text, re.IGNORECASE)  # Excel's line that declares the delimiter
    text = text[hint.end() :] if hint else text
    usual = hint[1] if hint else "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    sign = dialect.delimiter or usual
    above = 1 if hint else 0
    # Without strict, an unclosed quote would swallow every following row.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
    before, width, cells = 0, 0, list[str]()
    try:
        for cells in reader:
            width = width or len(cells)
            yield above + before + 1, [visible(cell) for cell in cells]
            before = reader.line_num
    except csv.Error as error:
        raise InputError(
            f"{path}, row {above + before + 1}: {error}",
            "cells whose quotes are closed",
            'add the missing quote; write a quote inside a cell twice ("")',
        ) from None
    # Spreadsheets omit empty cells at the end of a row; a short row that also lacks its newline was truncated.
    if 0 < len(cells) < width and not text.endswith(("\n", "\r")):
        raise InputError(
            f"{path}, row {above + before}: the file ends after {len(cells)} of {width} cells",
            "a complete table",
            "export or copy it again; if nothing is missing, add a newline at its end",
        )


def _decoded(path: Path, data: bytes, encoding: str) -> str:
    """The bytes of a table as text.

    Raises:
        InputError: they are not valid in this encoding, or clearly in another one.
    """
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        guess = guess_encoding(data)
        raise InputError(
            f"{path}, row {line}: byte 0x{data[error.start]:02x} is not {encoding}",
            f"text in {encoding}",
            f'set encoding = "{guess}"' if guess != encoding else "save the table as UTF-8",
        ) from None
    if (at := text.find("\0")) >= 0:
        guess = guess_encoding(data)
        raise InputError(
            f"{path}, row {text.count(chr(10), 0, at) + 1}: a NUL byte",
            "text",
            f'set encoding = "{guess}"' if guess.startswith("utf-16") else "export the table again",
        )
    if _is_utf8_after_all(data, encoding):
        raise InputError(
            f"{path} is UTF-8, but encoding is {encoding}", "the encoding of the table", 'set encoding = "utf-8"'
        )
    return text


def _is_utf8_after_all(data: bytes, encoding: str) -> bool:
    """Whether bytes that decode in a legacy encoding are UTF-8: by the byte order mark or by multi-byte characters.

    Some two-byte sequences of Chinese encodings are also valid UTF-8, so only three-byte characters count there.
    """
    if encoding.startswith("utf"):
        return False
    if data.startswith(b"\xef\xbb\xbf"):
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    runs = rb"[\xc2-\xdf][\x80-\xbf]" if encoding in ("latin-1", "cp1252") else rb"[\xe0-\xef][\x80-\xbf]{2}"
    return re.search(runs, data) is not None


class _Sheet(NamedTuple):
    """The rows of a sheet, its name, and what was not read."""

    lines: list[Line]
    name: str
    notes: tuple[str, ...]


def _xlsx(path: Path, dialect: Dialect, expected: Collection[str]) -> _Sheet:
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(member.file_size for member in packed.infolist()) > _LARGEST_BOOK:
                raise InputError(
                    f"{path} unpacks to more than {_LARGEST_BOOK} bytes", "a table", "export the sheet as CSV (UTF-8)"
                )
        # Opened here, because openpyxl does not close a file that it fails to parse.
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")  # about styles and validations, which are not read
            return _sheet(path, stream, dialect, expected)
    except _BOOK_DAMAGE as error:
        raise InputError(
            f"{path}: {type(error).__name__}: {error}", "an XLSX file", "save it again as XLSX, or as CSV (UTF-8)"
        ) from None


def _sheet(path: Path, stream: IO[bytes], dialect: Dialect, expected: Collection[str]) -> _Sheet:
    """The rows of the sheet.

    Raises:
        InputError: there is no such sheet, several may be meant, or it holds merged cells or formulas without their
            results.
    """
    import openpyxl

    book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
    try:
        sheet: Any = _chosen_sheet(path, book, dialect, expected)
        others = [f"{other.title!r}{_STATES.get(other.sheet_state, '')}" for other in book.worksheets if other != sheet]
        notes = [f"sheet {sheet.title!r} is read; not read: {', '.join(others)}"] if others else []
        sheet.reset_dimensions()  # the size recorded in the file may be wrong
        lines: list[Line] = [
            (number, [_cell_text(cell, dialect) for cell in cells])
            for number, cells in enumerate(sheet.iter_rows(), start=1)
        ]
        formulas, merged, hidden = _beside_the_cells(path, sheet._worksheet_path)
    finally:
        book.close()
    filled = [line for line in lines if any(line[1])][:_MOST_ABOVE]
    header = max(_heading_rows(path, filled, dialect, expected)) if filled else 0
    for area in merged:
        if int(re.sub(r"\D", "", area.rpartition(":")[2])) > header:
            raise InputError(
                f"{path}: the cells {area} are merged",
                "a value in every cell; of merged cells only the first has one",
                "unmerge them and write the value in each row",
            )
    if formulas:
        stream.seek(0)
        _refuse_open_formulas(path, stream, sheet.title, lines)
    unread = {number for number, cells in lines if number in hidden and any(cells)}
    if unread and not dialect.hidden_rows:
        lines = [line for line in lines if line[0] not in unread]
        notes.append(f"{len(unread)} hidden rows are not read; hidden_rows = true reads them")
    return _Sheet(lines, sheet.title, tuple(notes))


_STATES = {"hidden": " (hidden)", "veryHidden": " (hidden)"}


def _chosen_sheet(path: Path, book: Any, dialect: Dialect, expected: Collection[str]) -> Any:
    """The sheet that is named, else the visible one that has the columns expected, else the first visible one."""
    if dialect.sheet:
        if dialect.sheet not in book.sheetnames:
            raise InputError(
                f"{path}: no sheet {dialect.sheet!r}", did_you_mean(dialect.sheet, book.sheetnames), "correct sheet"
            )
        return book[dialect.sheet]
    visible_ones = [sheet for sheet in book.worksheets if sheet.sheet_state not in _STATES]
    if not visible_ones:
        raise InputError(
            f"{path}: every sheet is hidden: {', '.join(book.sheetnames)}", "a visible sheet", "name it as sheet"
        )
    fitting = {}
    for sheet in visible_ones if expected and len(visible_ones) > 1 else ():
        sheet.reset_dimensions()
        rows = islice(sheet.iter_rows(values_only=True), _MOST_ABOVE)
        fitting[sheet.title] = max((_fitting([str(v or "") for v in cells], expected) for cells in rows), default=0)
    most = max(fitting.values(), default=0)
    meant = [title for title, n in fitting.items() if n == most and most]
    if len(meant) > 1:
        raise InputError(
            f"{path}: the sheets {', '.join(map(repr, meant))} have these columns",
            "one sheet",
            f'name it: sheet = "{meant[0]}"',
        )
    return book[meant[0]] if meant else visible_ones[0]


def _cell_text(cell: Any, dialect: Dialect) -> str:
    """A cell of a sheet as text; a whole number as its format shows it, such as 00007."""
    value = cell.value
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value and float(value).is_integer():
        shown = _zeros(int(value), str(cell.number_format))
        if shown:
            return shown
    return _text(value, dialect)


def _zeros(value: int, number_format: str) -> str:
    """A number in a format of zeros and literals, such as 00000, "P"000 or 000-00; empty for other formats.

    >>> _zeros(7, "00000"), _zeros(7, '"P"000'), _zeros(12345, "000-00"), _zeros(7, "0.00")
    ('00007', 'P007', '123-45', '')
    """
    pieces = re.findall(r'"([^"]*)"|\\(.)|(0)|([-/ ])|(.)', number_format.partition(";")[0], re.DOTALL)
    places = sum(bool(zero) for _, _, zero, _, _ in pieces)
    if value < 0 or places == 0 or len(pieces) < 2 or any(other for *_, other in pieces):
        return ""
    digits = str(value).zfill(places)
    left = iter([digits[: len(digits) - places + 1], *digits[len(digits) - places + 1 :]])
    return "".join(next(left) if zero else quoted or escaped or plain for quoted, escaped, zero, plain, _ in pieces)


_FORMULA = re.compile(rb"<(?:\w+:)?f[\s>/]")
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\b[^>]*\bref=\"([A-Z]+\d+:[A-Z]+\d+)\"")
_HIDDEN = re.compile(rb"<(?:\w+:)?row\b(?=[^>]*\bhidden=\"(?:1|true)\")[^>]*\br=\"(\d+)\"")
_LONGEST_TAG = 1000


def _beside_the_cells(path: Path, member: str) -> tuple[bool, list[str], set[int]]:
    """Whether a sheet holds formulas, its merged areas and its hidden rows, none of which read-only mode exposes."""
    formulas, merged, hidden, rest = False, dict[str, None](), set[int](), b""
    with zipfile.ZipFile(path) as packed, packed.open(member.lstrip("/")) as stream:
        while piece := stream.read(1 << 20):
            rest += piece
            formulas = formulas or _FORMULA.search(rest) is not None
            merged |= dict.fromkeys(area.decode() for area in _MERGED.findall(rest))
            hidden |= set(map(int, _HIDDEN.findall(rest)))
            rest = rest[-_LONGEST_TAG:]
    return formulas, list(merged), hidden


def _refuse_open_formulas(
    path: Path, stream: IO[bytes], sheet: str, lines: Sequence[tuple[int, Sequence[str]]]
) -> None:
    """Refuse formulas without a cached result, as in a file that no spreadsheet has saved since a program wrote it."""
    import openpyxl
    from openpyxl.utils import get_column_letter

    book = openpyxl.load_workbook(stream, read_only=True)
    try:
        rows: Any = book[sheet]
        rows.reset_dimensions()
        for (number, texts), cells in zip(lines, rows.iter_rows(values_only=True), strict=False):
            for column, (text, cell) in enumerate(zip(texts, cells, strict=False), start=1):
                if not text and str(cell or "").startswith("="):
                    raise InputError(
                        f"{path}, row {number}, column {get_column_letter(column)}: a formula without its result",
                        "values",
                        "open the file in a spreadsheet and save it, or paste the values",
                    )
    finally:
        book.close()


def _parquet(path: Path, dialect: Dialect) -> Iterable[tuple[int, Sequence[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 1
    try:
        with pq.ParquetFile(path) as file:
            yield number, [str(name) for name in file.schema_arrow.names]
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                # By column rather than to_pylist(): dictionaries would merge two columns of the same name.
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield number, [_text(value, dialect) for value in row]
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: {error}", "a Parquet file", "write it again") from None


def _text(value: Any, dialect: Dialect) -> str:
    """A typed cell as text in this dialect."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time() else value.isoformat(sep=" ")
    if isinstance(value, float):
        text = str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        return text.replace(".", dialect.decimal)
    return visible(str(value))


# -------------------------------------------------------------------------------------------------- single cells


class UnreadableError(ValueError):
    """A cell that cannot be parsed as the type of its column."""


class WrongDecimalError(ValueError):
    """A number written with the other decimal sign."""


_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)


def number(text: str, decimal: str) -> float:
    """A number written with this decimal sign.

    Raises:
        WrongDecimalError: it is written with the other one.
        UnreadableError: it is not a number.
    """
    text = unicodedata.normalize("NFKC", text).strip()  # full-width ５４ becomes 54
    other = "," if decimal == "." else "."
    plain = text.replace(decimal, ".") if text.count(decimal) <= 1 else text
    if other not in text and _NUMBER.fullmatch(plain) and math.isfinite(float(plain)):
        return float(plain)
    if re.fullmatch(rf"[+-]?\d+{re.escape(other)}\d+", text):
        raise WrongDecimalError(text)
    raise UnreadableError(text)


_AGE_YEARS = re.compile(
    r"(?P<n>\d+(?:[.,]\d+)?)\s*(?:岁|周岁|歳|y|yr|yrs|year|years|years old|jahre|ans|años|anos|anni)\.?"
    r"(?:\s*(?P<m>\d{1,2})\s*(?:个?月|m|months?))?",
    re.IGNORECASE,
)
_AGE_OTHER = re.compile(r"(?P<n>\d+(?:[.,]\d+)?)\s*(?P<unit>[^\W\d_]{2,}|[月周天日])", re.IGNORECASE)
_AGE_DICOM = re.compile(r"(?P<n>\d{3})(?P<unit>[DWMY])")
_DICOM_UNITS = {"D": "days", "W": "weeks", "M": "months", "Y": "years"}


def age_years(text: str, decimal: str, per_year: float = 1.0) -> float:
    """An age in years from ``58``, ``58岁``, ``58 years``, ``3岁6月``, ``18 months``, or DICOM's ``058Y`` and ``018M``.

    A letter that may be a sex (``58M``, ``62F``, ``45 w``) makes it unreadable.

    Args:
        text: the cell.
        decimal: decimal sign.
        per_year: how many of the column's unit are a year, for numbers without a unit of their own.

    Raises:
        WrongDecimalError: a number with the other decimal sign.
        UnreadableError: something else.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    if match := _AGE_DICOM.fullmatch(text):
        return round(float(match["n"]) / UNITS["age_years"][_DICOM_UNITS[match["unit"]]], 2)
    if match := _AGE_YEARS.fullmatch(text):
        return round(number(match["n"], decimal) + (int(match["m"]) / 12 if match["m"] else 0.0), 2)
    if (match := _AGE_OTHER.fullmatch(text)) and match["unit"].casefold() in UNITS["age_years"]:
        return round(number(match["n"], decimal) / UNITS["age_years"][match["unit"].casefold()], 2)
    value = number(text, decimal)
    return value if per_year == 1.0 else round(value / per_year, 2)


_PLAIN_DATES = (
    re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?:[T ].*)?"),
    re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})"),
    re.compile(r"(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})日?.*"),
)


def date(text: str, date_format: str) -> dt.date:
    """A date in the given format, or year first.

    Raises:
        UnreadableError: neither.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    if date_format:
        with contextlib.suppress(ValueError):
            return dt.datetime.strptime(text, date_format).date()
    try:
        for form in _PLAIN_DATES:  # as a spreadsheet's true dates are written, whatever the format of its text dates
            if match := form.fullmatch(text):
                return dt.date(int(match["y"]), int(match["m"]), int(match["d"]))
    except ValueError:
        pass
    raise UnreadableError(text)


# ------------------------------------------------------------------------------------------------------- guesses


def guess_encoding(data: bytes) -> str:
    """The most likely encoding of a table: UTF-8 if valid, GB18030 if its high bytes come in pairs."""
    if data.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = data[:1000:2].count(0), data[1:1000:2].count(0)
    if max(even, odd) > len(data[:1000]) // 5:  # every other byte of Latin text in UTF-16 is 0
        return "utf-16-le" if odd > even else "utf-16-be"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return "utf-8"
    # In GB18030 the bytes above 127 come in pairs; in Latin-1 text most of them are isolated.
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", data)]
    paired = sum(run for run in runs if run % 2 == 0)
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return "latin-1"
    return "gb18030" if paired >= 0.6 * sum(runs) else "latin-1"


def guess_delimiter(text: str) -> str:
    """The delimiter that splits most lines into the same number of cells, at least two."""
    best, score = ",", 0.0
    for sign in _DELIMITERS:
        try:
            counts = [len(cells) for cells in csv.reader(io.StringIO(text, newline=""), delimiter=sign) if cells][:200]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            agreeing = sum(count == counts[0] for count in counts) / len(counts)
            if agreeing * counts[0] > score:
                best, score = sign, agreeing * counts[0]
    return best


def check_encoding(name: str, where: str) -> None:
    """Refuse an unsupported encoding.

    Raises:
        ConfigError: naming the closest supported one.
    """
    if name.lower() not in ENCODINGS:
        raise ConfigError(f"encoding {name!r} in {where}", did_you_mean(name, ENCODINGS), "use one of these")
