"""Part tables of an unfinished artifact, and how their rows become one table."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from skinkit.artifacts.tables import declared_types, opened_table
from skinkit.schemas import Schema

if TYPE_CHECKING:
    import pyarrow as pa


class Stored(NamedTuple):
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
    """A row of an earlier run."""

    stored: Stored
    fingerprint: str | None


def stored_rows(table: Path, schema: Schema) -> dict[tuple[Any, ...], OldRow]:
    """Key -> position, outcome and fingerprint of every row of a table on disk; the other values are not read."""
    columns = [*schema.key, "fingerprint", "status", "reason", *schema.files]
    rows = {}
    with opened_table(table) as file:
        present = [name for name in columns if name in file.schema_arrow.names]
        for group in range(file.num_row_groups if set(schema.key) <= set(present) else 0):
            for index, row in enumerate(file.read_row_group(group, columns=present).to_pylist()):
                files = tuple(row[name] for name in schema.files if row.get(name))
                stored = Stored(table, group, index, row.get("status"), files, row.get("reason"))
                rows[tuple(row[name] for name in schema.key)] = OldRow(stored, row.get("fingerprint"))
    return rows


def contents(table: Path, schema: Schema) -> Iterator[tuple[Hashable, Hashable]]:
    """Key and content (fingerprint, status and reason) of every row of a table on disk, in order."""
    with opened_table(table) as file:
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


def collected(rows: Sequence[Stored], layout: pa.Schema) -> pa.Table:
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
