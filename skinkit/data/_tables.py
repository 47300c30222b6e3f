"""Read a table as text: CSV, TSV, XLSX or Parquet; an error names file, row and column."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinkit.data import Dialect, TableRow
from skinkit.errors import ConfigError, InputError, did_you_mean

ENCODINGS = (
    "utf-8", "utf-8-sig", "utf-16", "gb18030", "gbk", "big5", "latin-1", "cp1252", "shift_jis", "euc-kr",
)  # fmt: skip
_NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "nat", "#n/a"})
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        path: the file.
        columns: its column names in order.
        rows: its rows, numbered as an editor or spreadsheet numbers them.
        repeated: column names that stand there more than once; only the first counts.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    repeated: frozenset[str] = frozenset()

    def require(self, column: str, why: str, fix: str = "") -> None:
        """Refuse a table without that column, or with two of that name.

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
            (hint or "correct the column's name").replace("\t", "\\t"),
        )


def read(path: Path, dialect: Dialect) -> Table:
    """A table by the kind its extension says.

    Raises:
        InputError: absent, of another kind, or not readable as described.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"no table {path}", "the table of the cohort", "correct its name")
    if suffix in (".xlsx", ".xlsm"):
        return _from_lines(path, _xlsx(path, dialect), dialect.headings)
    if suffix in (".parquet", ".pq"):
        return _from_lines(path, _parquet(path, dialect), dialect.headings)
    if suffix in (".xls", ".ods", ".mdb", ".sav", ".dta"):
        raise InputError(f"{path} is a {suffix} file", "CSV, TSV, XLSX or Parquet", "save it as XLSX or CSV (UTF-8)")
    return _from_lines(path, _delimited(path, dialect), dialect.headings)


def is_missing(text: str, dialect: Dialect) -> bool:
    """Whether a cell says that nothing is known."""
    return text.casefold() in _NOTHING or text in dialect.missing


def _from_lines(path: Path, lines: Iterable[tuple[int, Sequence[str]]], headings: Sequence[str] = ()) -> Table:
    header: list[str] | None = None
    rows: list[TableRow] = []
    repeated: frozenset[str] = frozenset()
    for number, cells in lines:
        if not any(cells):
            continue
        if header is None and len(cells) == len(headings):
            header = list(headings)
        if header is None:
            header = [" ".join(cell.split()) for cell in cells]
            repeated = frozenset(name for name in header if name and header.count(name) > 1)
            continue
        surplus = [cell for cell in cells[len(header) :] if cell]
        if surplus:
            raise InputError(
                f"{path}, row {number}: {len(cells)} cells under {len(header)} columns; the first too many is "
                f"{surplus[0]!r}",
                "as many cells as columns",
                "a decimal comma or a comma in a text must stand in quotes, or the delimiter is another one",
            )
        named: dict[str, str] = {}
        for name, cell in zip(header, cells, strict=False):
            if name:
                named.setdefault(name, cell)
        rows.append(TableRow(number, {**dict.fromkeys(filter(None, header), ""), **named}))
    if header is None:
        raise InputError(f"{path} is empty", "a header line and one row per image or exam", "export the table again")
    return Table(path, tuple(dict.fromkeys(filter(None, header))), tuple(rows), repeated)


def _delimited(path: Path, dialect: Dialect) -> Iterable[tuple[int, Sequence[str]]]:
    data = path.read_bytes()
    if data[:4] == b"PK\x03\x04":
        raise InputError(f"{path} is a ZIP or Excel file", "text", "name it .xlsx, or save it as CSV")
    encoding = "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        guess = guess_encoding(data)
        raise InputError(
            f"{path}, row {line}: byte 0x{data[error.start]:02x} is not {dialect.encoding}",
            f"text in {dialect.encoding}",
            f'set encoding = "{guess}"' if guess != dialect.encoding else "save the table as UTF-8",
        ) from None
    sign = dialect.delimiter or ("\t" if path.suffix.lower() in (".tsv", ".tab") else ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
    before = 0
    try:
        for cells in reader:
            yield before + 1, [cell.strip() for cell in cells]
            before = reader.line_num
    except csv.Error as error:
        raise InputError(f"{path}, row {before + 1}: {error}", "a table of text", "export the table again") from None


def _xlsx(path: Path, dialect: Dialect) -> Iterable[tuple[int, Sequence[str]]]:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on styles and validations that do not matter here
        try:
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
            raise InputError(f"{path}: {error}", "an XLSX file", "save it again as XLSX, or as CSV (UTF-8)") from None
        try:
            if dialect.sheet and dialect.sheet not in book.sheetnames:
                raise InputError(
                    f"{path}: no sheet {dialect.sheet!r}", did_you_mean(dialect.sheet, book.sheetnames), "correct sheet"
                )
            sheet = book[dialect.sheet] if dialect.sheet else book.worksheets[0]
            lines = [
                (number, [_text(value, dialect) for value in cells])
                for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1)
            ]
        finally:
            book.close()
    return lines


def _parquet(path: Path, dialect: Dialect) -> Iterable[tuple[int, Sequence[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: {error}", "a Parquet file", "write it again") from None
    yield 1, [str(name) for name in table.column_names]
    for number, row in enumerate(table.to_pylist(), start=2):
        yield number, [_text(value, dialect) for value in row.values()]


def _text(value: Any, dialect: Dialect) -> str:
    """A typed cell as the text a person would have written in this dialect."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time() else value.isoformat(sep=" ")
    if isinstance(value, float):
        text = str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        return text.replace(".", dialect.decimal)
    return str(value).strip()


# -------------------------------------------------------------------------------------------------- single cells


class UnreadableError(ValueError):
    """A cell that is not what its column should hold."""


class WrongDecimalError(ValueError):
    """A number written with the other decimal sign."""


_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)


def number(text: str, decimal: str) -> float:
    """A number written with this decimal sign.

    Raises:
        WrongDecimalError: it is written with the other one.
        UnreadableError: it is no number.
    """
    text = text.strip()
    other = "," if decimal == "." else "."
    plain = text.replace(decimal, ".") if text.count(decimal) <= 1 else text
    if other not in text and _NUMBER.fullmatch(plain):
        return float(plain)
    if re.fullmatch(rf"[+-]?\d+{re.escape(other)}\d+", text):
        raise WrongDecimalError(text)
    raise UnreadableError(text)


_AGE_YEARS = re.compile(
    r"(?P<n>\d+(?:[.,]\d+)?)\s*(?:岁|周岁|歳|y|yr|yrs|year|years|years old|jahre|ans|años|anos|anni)\.?"
    r"(?:\s*(?P<m>\d{1,2})\s*(?:个?月|m|months?))?",
    re.IGNORECASE,
)
_AGE_SHORT = re.compile(
    r"(?P<n>\d+(?:[.,]\d+)?)\s*(?P<unit>个?月|周|星期|天|日|mo|months?|weeks?|days?|[mwd])", re.IGNORECASE
)
_PER_YEAR = {"m": 12.0, "月": 12.0, "w": 52.1775, "周": 52.1775, "星": 52.1775, "d": 365.25, "天": 365.25, "日": 365.25}


def age_years(text: str, decimal: str) -> float:
    """An age in years from ``58``, ``58岁``, ``58 years``, ``058Y``, ``3岁6月`` or ``18M``.

    Raises:
        WrongDecimalError: a number with the other decimal sign.
        UnreadableError: something else.
    """
    text = text.strip()
    if match := _AGE_YEARS.fullmatch(text):
        return round(number(match["n"], decimal) + (int(match["m"]) / 12 if match["m"] else 0.0), 2)
    if match := _AGE_SHORT.fullmatch(text):
        unit = match["unit"].lower().removeprefix("个")[0]
        return round(number(match["n"], decimal) / _PER_YEAR[unit], 2)
    return number(text, decimal)


_PLAIN_DATES = (
    re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?:[T ].*)?"),
    re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})"),
    re.compile(r"(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})日?.*"),
)


def date(text: str, date_format: str) -> dt.date:
    """A date in the given format, or written year first.

    Raises:
        UnreadableError: neither.
    """
    text = text.strip()
    try:
        if date_format:
            return dt.datetime.strptime(text, date_format).date()
        for form in _PLAIN_DATES:
            if match := form.fullmatch(text):
                return dt.date(int(match["y"]), int(match["m"]), int(match["d"]))
    except ValueError:
        pass
    raise UnreadableError(text)


# ------------------------------------------------------------------------------------------------------- guesses


def guess_encoding(data: bytes) -> str:
    """The encoding a table most likely has: UTF-8 where it is valid, GB18030 where its high bytes come in pairs."""
    if data.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return "utf-8"
    # In Chinese text the bytes above 127 stand in pairs; in European text nearly each stands alone.
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", data)]
    paired = sum(run for run in runs if run % 2 == 0)
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return "latin-1"
    return "gb18030" if paired >= 0.6 * sum(runs) else "latin-1"


def guess_delimiter(text: str) -> str:
    """The sign that cuts most lines into the same number of cells, more than one."""
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
    """Refuse encodings that are not known.

    Raises:
        ConfigError: with the closest known one.
    """
    if name.lower() not in ENCODINGS:
        raise ConfigError(f"encoding {name!r} in {where}", did_you_mean(name, ENCODINGS), "use one of these")
