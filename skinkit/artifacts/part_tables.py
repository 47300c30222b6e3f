"""Part tables of an unfinished artifact, and how their rows become one table.

A part table's name ends in the SHA-256 of its bytes, and the table holds the SHA-256 of every file of its rows: a run
that resumes uses only rows and files that are as they were written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from skinkit.artifacts.files import write_atomic
from skinkit.artifacts.tables import declared_types, opened_table, parquet_bytes, rows_to_arrow
from skinkit.errors import InputError
from skinkit.schemas import Schema

if TYPE_CHECKING:
    import pyarrow as pa


class StoredRow(NamedTuple):
    """The position of a row on disk, with its outcome.

    Attributes:
        source: a part table or the finished artifact's table.
        group: its row group.
        row: the row in that group.
        status: its outcome.
        files: its files, relative to the artifact's folder.
        reason: why it is not ok.
    """

    source: Path
    group: int
    row: int
    status: str | None
    files: tuple[str, ...]
    reason: str | None = None


class OldRow(NamedTuple):
    """A row of an earlier run.

    Attributes:
        stored: its position and outcome.
        fingerprint: hash of what it was made from.
        hashes: files of a row of a part table -> SHA-256 when it was written; empty of other tables.
    """

    stored: StoredRow
    fingerprint: str | None
    hashes: Mapping[str, str]


_HASHES = "skinkit.files"
"""Key of a part table's metadata: for each row, its files and their SHA-256."""
_SUM = re.compile(r"-([0-9a-f]{64})\.parquet$")


def write_part(
    folder: Path,
    number: int,
    label: str,
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    hashes: Sequence[Mapping[str, str]],
) -> Path:
    """Write a part table and return its path.

    Args:
        folder: of the part tables.
        number: its place among them; later tables override earlier ones.
        label: part of its name.
        schema: of the rows.
        rows: what it holds.
        hashes: file -> SHA-256 for each of them.
    """
    data = parquet_bytes(rows_to_arrow(schema, rows), {_HASHES: json.dumps([*map(dict, hashes)])})
    path = folder / f"{number:08d}-{label}-{hashlib.sha256(data).hexdigest()}.parquet"
    write_atomic(path, data)
    return path


def sha256_of_part(part: Path) -> str:
    """The SHA-256 in a part table's name.

    Raises:
        InputError: it has none, because an older version wrote it.
    """
    found = _SUM.search(part.name)
    if found is None:
        raise InputError(f"{part} has no checksum", "a part table of this version", "run the same command again")
    return found[1]


def stored_rows(table: Path, schema: Schema, sha256: str) -> dict[tuple[Any, ...], OldRow]:
    """Key -> position, outcome, fingerprint and files of every row of a table on disk; other values are not read.

    Raises:
        InputError: the table has another SHA-256, or cannot be read.
    """
    columns = [*schema.key, "fingerprint", "status", "reason", *schema.files]
    rows = {}
    with opened_table(table, sha256) as file:
        hashes = json.loads((file.metadata.metadata or {}).get(_HASHES.encode(), b"[]"))
        present = [name for name in columns if name in file.schema_arrow.names]
        for group in range(file.num_row_groups if set(schema.key) <= set(present) else 0):
            for index, row in enumerate(file.read_row_group(group, columns=present).to_pylist()):
                files = tuple(row[name] for name in schema.files if row.get(name))
                stored = StoredRow(table, group, index, row.get("status"), files, row.get("reason"))
                of_row = hashes[index] if hashes else {}
                rows[tuple(row[name] for name in schema.key)] = OldRow(stored, row.get("fingerprint"), of_row)
    return rows


def contents(table: Path, schema: Schema, sha256: str = "") -> Iterator[tuple[Hashable, Hashable]]:
    """Key and content (fingerprint, status and reason) of every row of a table on disk, in order.

    Raises:
        InputError: the table has another SHA-256, or cannot be read.
    """
    with opened_table(table, sha256) as file:
        names = [name for name in ("fingerprint", "status", "reason") if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            columns = file.read_row_group(group, columns=[*schema.key, *names]).to_pydict()
            keys = zip(*(columns[name] for name in schema.key), strict=True)
            yield from zip(keys, zip(*(columns[name] for name in names), strict=True), strict=True)


def common_layout(schema: Schema, sources: Iterable[Path]) -> pa.Schema:
    """Declared columns, then other columns in order of first occurrence, with types that fit all sources."""
    import pyarrow as pa

    declared = declared_types(schema)
    filled: dict[str, list[pa.DataType]] = {}
    empty: dict[str, list[pa.DataType]] = {}
    names: dict[str, None] = {}
    count = 0
    for source in sources:
        count += 1
        with opened_table(source) as file:
            meta = file.metadata
            groups = [meta.row_group(index) for index in range(meta.num_row_groups)]
            for place, column in enumerate(file.schema_arrow):
                if column.name in declared:
                    continue
                names[column.name] = None
                counts = [group.column(place).statistics for group in groups]
                has_values = any(
                    c is None or (c.null_count or 0) < g.num_rows for c, g in zip(counts, groups, strict=True)
                )
                (filled if has_values else empty).setdefault(column.name, []).append(column.type)
    undeclared = {name: _common_type(filled.get(name, []), empty.get(name, []), count) for name in names}
    return pa.schema([pa.field(name, type_) for name, type_ in {**declared, **undeclared}.items()])


def _common_type(filled: Sequence[pa.DataType], empty: Sequence[pa.DataType], count: int) -> pa.DataType:
    """The type of a column over ``count`` tables, some of which lack it: the type it would have in one table."""
    import pyarrow as pa

    kinds = set(filled)
    if not kinds:
        return pa.float64() if pa.float64() in empty else pa.string()
    if kinds == {pa.bool_()} or (kinds == {pa.int64()} and len(filled) == count):
        return filled[0]
    return pa.float64() if kinds <= {pa.bool_(), pa.int64(), pa.float64()} else pa.string()


def collected(rows: Sequence[StoredRow], layout: pa.Schema) -> pa.Table:
    """Rows from several tables, in the order of the positions; adjacent rows are read together."""
    import pyarrow as pa

    tables: dict[tuple[Path, int], pa.Table] = {}
    pieces = []
    start = 0
    for end in range(1, len(rows) + 1):
        first, last = rows[start], rows[end - 1]
        if end < len(rows) and rows[end][:3] == (last.source, last.group, last.row + 1):
            continue
        place = (first.source, first.group)
        if place not in tables:
            tables[place] = _laid_out(first.source, first.group, layout)
        pieces.append(tables[place].slice(first.row, end - start))
        start = end
    return pa.concat_tables(pieces).combine_chunks() if pieces else layout.empty_table()


def _laid_out(source: Path, group: int, layout: pa.Schema) -> pa.Table:
    """A row group with the columns and types of a layout."""
    import pyarrow as pa

    with opened_table(source) as file:
        table = file.read_row_group(group, use_threads=False)
    columns = []
    for field in layout:
        column = table.column(field.name) if field.name in table.column_names else pa.nulls(len(table), field.type)
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=layout)
