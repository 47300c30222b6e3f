"""Parquet tables: the schema of a frame, writing in groups of rows, reading with a checked hash."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from numbers import Integral, Real
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

from skinkit.artifacts.files import written_whole
from skinkit.errors import InputError
from skinkit.schemas import Schema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq


TABLE = "table.parquet"
ROWS_AT_ONCE = 1024
"""Rows per row group of the final table, which are held in memory together."""


# ---------------------------------------------------------------------------------------------------- tables
def arrow_schema(schema: Schema, frame: pd.DataFrame) -> pa.Schema:
    """The Arrow schema of a table: declared types first, then the undeclared columns of the frame in order."""
    import pyarrow as pa

    fields = [pa.field(name, type_) for name, type_ in declared_types(schema).items()]
    fields += [pa.field(str(name), _type_of_series(frame[name])) for name in frame.columns if name not in schema.names]
    return pa.schema(fields)


def declared_types(schema: Schema) -> dict[str, pa.DataType]:
    """Column name -> Arrow type, as the schema declares them."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {
        "string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
    }  # fmt: skip
    return {column.name: types[column.type] for column in schema.columns}


def _type_of_series(series: pd.Series) -> pa.DataType:
    """The Arrow type of an undeclared column of a frame: that of its dtype, else that of its values."""
    import pandas as pd
    import pyarrow as pa

    # By dtype first: the values of an empty column or of nullable integers do not determine the type.
    if pd.api.types.is_bool_dtype(series):
        return pa.bool_()
    if pd.api.types.is_integer_dtype(series):
        return pa.int64()
    if pd.api.types.is_numeric_dtype(series):
        return pa.float64()
    return _type_of([None if pd.isna(value) else value for value in series])


def to_arrow(schema: Schema, frame: pd.DataFrame) -> pa.Table:
    """A frame as an Arrow table with the declared types, sorted by the key; missing columns become null."""
    import pandas as pd
    import pyarrow as pa

    frame = frame.reindex(columns=[*schema.names, *(c for c in frame.columns if c not in schema.names)])
    if len(frame):
        frame = frame.sort_values(list(schema.key), kind="stable", na_position="first")
    layout = arrow_schema(schema, frame)
    arrays = []
    for column in layout:
        values = [None if pd.isna(value) else value for value in frame[column.name].tolist()]
        if pa.types.is_string(column.type):
            values = [None if value is None else str(value) for value in values]
        elif pa.types.is_integer(column.type):
            values = [None if value is None else int(value) for value in values]
        arrays.append(pa.array(values, type=column.type))
    return pa.Table.from_arrays(arrays, schema=layout)


def rows_to_arrow(schema: Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table, in their order: declared columns, then others in order of first occurrence."""
    import pyarrow as pa

    declared = declared_types(schema)
    arrays = {}
    for name in dict.fromkeys([*declared, *(name for row in rows for name in row)]):
        values = [row.get(name) for row in rows]
        arrays[name] = _array(values, declared.get(name) or _type_of(values))
    return pa.table(arrays)


def _array(values: Sequence[Any], type_: pa.DataType) -> pa.Array[Any]:
    """Python values as an Arrow array built from buffers, because pyarrow's converter imports pandas."""
    import numpy as np
    import pyarrow as pa

    unknown = [_unknown(value) for value in values]
    buffers = [_bits(~np.array(unknown, dtype=np.bool_)) if any(unknown) else None]
    if pa.types.is_string(type_):
        texts = [b"" if missing else str(value).encode() for value, missing in zip(values, unknown, strict=True)]
        offsets = np.array([0, *accumulate(map(len, texts))], dtype=np.int32)
        buffers += [pa.py_buffer(offsets.data), pa.py_buffer(b"".join(texts))]
    else:
        plain = [0 if missing else value for value, missing in zip(values, unknown, strict=True)]
        filled = np.array(plain, dtype=type_.to_pandas_dtype())
        buffers.append(_bits(filled) if pa.types.is_boolean(type_) else pa.py_buffer(filled.data))
    return pa.Array.from_buffers(type_, len(values), buffers)


def _bits(values: np.ndarray[Any, Any]) -> pa.Buffer:
    """(n,) bool in Arrow's bit packing: eight per byte, least significant bit first."""
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(values, bitorder="little").data)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    """The Arrow type of an undeclared column by its values: null if unknown; text if any value is text."""
    import pyarrow as pa

    if set(map(type, values)) == {float}:
        return pa.float64()
    present = [value for value in values if not _unknown(value)]
    kinds = {_kind(kind) for kind in set(map(type, present))}
    if not kinds:
        return pa.string() if all(value is None for value in values) else pa.float64()
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds == {"int"} and len(present) == len(values):
        return pa.int64()
    return pa.string() if "string" in kinds else pa.float64()


def _kind(type_: type) -> str:
    if type_.__name__ in ("bool", "bool_"):  # Python's and NumPy's
        return "bool"
    if issubclass(type_, Integral):
        return "int"
    return "float" if issubclass(type_, Real) else "string"


def _unknown(value: Any) -> bool:
    """Whether a value is None, NaN, or a missing value of pandas."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA is neither equal nor unequal
        return True


def write_table(path: Path, schema: Schema, frame: pd.DataFrame) -> None:
    """Write a table with declared types; the same rows always give the same bytes."""
    write_batches(path, [to_arrow(schema, frame)])


def write_batches(path: Path, batches: Iterable[pa.Table]) -> None:
    """Write tables of one layout into one Parquet file, one after the other."""
    with written_whole(path) as stream:
        _write_parquet(stream, batches)


def parquet_bytes(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """A small table as the bytes of a Parquet file, with these entries in the file's metadata."""
    stream = io.BytesIO()
    _write_parquet(stream, [table], metadata)
    return stream.getvalue()


def _write_parquet(stream: IO[bytes], batches: Iterable[pa.Table], metadata: Mapping[str, str] | None = None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as open_writer:
        writer = None
        for batch in batches:
            if writer is None:
                # Measurements rarely repeat, so dictionary encoding costs time, memory and a sixth more disk.
                repeating: Any = [field.name for field in batch.schema if not pa.types.is_floating(field.type)]
                writer = pq.ParquetWriter(
                    stream, batch.schema, compression="zstd", store_schema=False, use_dictionary=repeating
                )
                open_writer.enter_context(writer)
                if metadata:
                    writer.add_key_value_metadata(dict(metadata))
            writer.write_table(batch, row_group_size=ROWS_AT_ONCE)


def read_table(path: Path, columns: Sequence[str] | None = None, *, sha256: str = "") -> pd.DataFrame:
    """Read a Parquet table as a frame: strings with None for unknown, numbers with NaN, integers nullable.

    Raises:
        InputError: as :func:`opened_table`.
    """
    import pandas as pd
    import pyarrow as pa

    with opened_table(path, sha256) as file:
        table = file.read(columns=list(columns) if columns else None)
    series: dict[str, pd.Series] = {}
    for column in table.schema:
        values = table.column(column.name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            series[column.name] = pd.Series(_texts(values), dtype=object)
        elif pa.types.is_integer(column.type):
            series[column.name] = pd.Series(values.to_pylist(), dtype="Int64")
        elif pa.types.is_boolean(column.type):
            series[column.name] = pd.Series(values.to_pylist(), dtype="boolean")
        else:
            series[column.name] = values.to_pandas()
    return pd.DataFrame(series)


def _texts(values: pa.ChunkedArray[Any]) -> np.ndarray[Any, Any]:
    """(n,) str or None. Equal texts share one object, because names of models and classes repeat in every row."""
    import numpy as np

    encoded = values.combine_chunks().dictionary_encode()
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    column: np.ndarray[Any, Any] = texts[encoded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)]
    return column


class LazyRows(Sequence[dict[str, Any]]):
    """Plain rows, each made on access; subclasses define :meth:`row` and ``__len__``."""

    def row(self, index: int) -> dict[str, Any]:
        """The row at a place from 0."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self.row(place) for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.row(index % len(self))


class TableRows(LazyRows):
    """A table as plain rows with None for unknown.

    The table stays in Arrow's memory, a tenth of the size of dictionaries, and pandas is not imported.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def row(self, index: int) -> dict[str, Any]:
        """The row at a place from 0."""
        row: dict[str, Any] = self.table.slice(index, 1).to_pylist()[0]
        return row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(max_chunksize=ROWS_AT_ONCE):
            yield from batch.to_pylist()


@contextlib.contextmanager
def opened_table(path: Path, sha256: str = "") -> Iterator[pq.ParquetFile]:
    """A Parquet table to read from.

    Args:
        path: the file.
        sha256: expected hash of its bytes, if known.

    Raises:
        InputError: it is absent, truncated, not Parquet, or has another hash.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fix = "remove the artifact's folder and rerun its stage"
    try:
        # Opened once, so that the hashed bytes are the ones read, even if another run replaces the artifact.
        with path.open("rb") as stream:
            if sha256 and hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                raise InputError(
                    f"{path} is not the table that its manifest describes",
                    "an artifact as its stage wrote it",
                    f"rerun, if another run has just replaced it; else {fix}",
                )
            stream.seek(0)
            with pq.ParquetFile(stream) as file:
                yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} cannot be read ({error})", "a Parquet table written by skinkit", fix) from None


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries with None for every unknown value."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows


def cell_text(value: Any) -> str:
    """A cell as text, empty where it is unknown."""
    import pandas as pd

    return "" if value is None or (not isinstance(value, str) and pd.isna(value)) else str(value)
