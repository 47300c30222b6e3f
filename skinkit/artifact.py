"""An artifact is a folder: ``table.parquet``, files, and ``manifest.json`` written last.

Its *recipe* is what decides the result: kind, schema version, stage and its VERSION, the configuration, and the
identities of its inputs. Its *identity* is the recipe plus the hashes of its files. An artifact is stale when the
recipe it would get now differs from the one it has.

Work goes to ``NAME.partial`` (part tables; a row's files land before its row), which a rerun resumes: a row is kept
when its fingerprint is what it would get now. Rows stay on the disk until the end: the final table is put together from
the part tables, sorted, a few thousand rows at a time, so that memory does not grow with them. Then two renames (old to
``NAME.previous``, new to ``NAME``), and readers fall back to ``NAME.previous`` if a crash fell between them. Files and
folders are on the disk, not only in the system's memory, before they take the place of others.

A share of the rows (``--shard i/n``) is worked out by a process of its own, at the same time as the others, and left in
``NAME.partial``; the next plain run finds all of them there and joins them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from numbers import Integral, Real
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, overload

from skinkit import __version__, row_dates
from skinkit.errors import UNUSABLE, BusyError, InputError
from skinkit.schemas import FAILED, OK, UNSETTLED, Schema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

TABLE = "table.parquet"
MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
_FLUSH_ROWS = 256
_FLUSH_SECONDS = 2.0
_ROWS_AT_ONCE = 1024
"""Rows of the final table that are held in memory together; also its row groups."""


def digest(value: object) -> str:
    """SHA-256 of a JSON-able value, the same for equal values whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees all of it or none."""
    with written_whole(path) as stream:
        stream.write(data)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name once it is complete and on the disk.

    Raises:
        InputError: it cannot be written; what was there before is still there.
    """
    # Not the process's number: two machines that share a disk may have the same one.
    temporary = path.with_name(f".{path.stem[:64]}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {_WHY.get(error.errno or 0, error.strerror or error)}",
            "room and permission to write; finished artifacts are untouched",
            "free some space, or see to the disk, and run the same command again: it goes on where it stopped",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it has its name by now, or the disk that it was on is gone
            temporary.unlink(missing_ok=True)


_WHY = {**UNUSABLE, errno.ENOENT: "its folder is gone"}


def _settle_folders(root: Path) -> None:
    """Have the names of all files below a folder on the disk; the files themselves are there already."""
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        _settle_folder(folder)


def _settle_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such thing
            raise
    finally:
        os.close(number)


# ---------------------------------------------------------------------------------------------------- tables


def arrow_schema(schema: Schema, frame: pd.DataFrame) -> pa.Schema:
    """The Arrow schema of a table: declared types first, then the undeclared columns of the frame in order."""
    import pyarrow as pa

    fields = [pa.field(name, type_) for name, type_ in _declared(schema).items()]
    fields += [pa.field(str(name), _inferred(frame[name])) for name in frame.columns if name not in schema.names]
    return pa.schema(fields)


def _declared(schema: Schema) -> dict[str, pa.DataType]:
    import pyarrow as pa

    types: dict[str, pa.DataType] = {
        "string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
    }  # fmt: skip
    return {column.name: types[column.type] for column in schema.columns}


def _inferred(series: pd.Series) -> pa.DataType:
    import pandas as pd
    import pyarrow as pa

    if pd.api.types.is_bool_dtype(series):
        return pa.bool_()
    if pd.api.types.is_integer_dtype(series):
        return pa.int64()
    if pd.api.types.is_numeric_dtype(series):
        return pa.float64()
    present = series.dropna()
    if len(present) and all(isinstance(value, bool) for value in present):
        return pa.bool_()
    if len(present) and all(isinstance(value, (int, float)) for value in present):
        return pa.float64()
    return pa.string()


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
    """Rows as an Arrow table, in their order: declared columns first, then the others as they first come."""
    import pyarrow as pa

    declared = _declared(schema)
    arrays = {}
    for name in dict.fromkeys([*declared, *(name for row in rows for name in row)]):
        values = [row.get(name) for row in rows]
        arrays[name] = _array(values, declared.get(name) or _type_of(values))
    return pa.table(arrays)


def _array(values: Sequence[Any], type_: pa.DataType) -> pa.Array[Any]:
    """Python values as an Arrow array, put together from its buffers: pyarrow's own way would load pandas for it."""
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
    """(n,) bool as Arrow packs it: eight to a byte, the first in the lowest bit."""
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(values, bitorder="little").data)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    """The Arrow type of an undeclared column; the same as :func:`_inferred` finds in a frame."""
    import pyarrow as pa

    if set(map(type, values)) == {float}:
        return pa.float64()
    known = [value for value in values if not _unknown(value)]
    kinds = {_kind(kind) for kind in set(map(type, known))}
    if not kinds:
        return pa.string() if all(value is None for value in values) else pa.float64()
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds == {"int"} and len(known) == len(values):
        return pa.int64()
    return pa.string() if "string" in kinds else pa.float64()


def _kind(type_: type) -> str:
    if type_.__name__ in ("bool", "bool_"):  # Python's and NumPy's
        return "bool"
    if issubclass(type_, Integral):
        return "int"
    return "float" if issubclass(type_, Real) else "string"


def _unknown(value: Any) -> bool:
    """Whether a value is None, NaN, or one of pandas' own marks; the only ones that do not equal themselves."""
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    with written_whole(path) as stream, contextlib.ExitStack() as open_writer:
        writer = None
        for batch in batches:
            if writer is None:
                # Measurements hardly repeat: a dictionary of them takes time, memory and a sixth more disk.
                repeating: Any = [field.name for field in batch.schema if not pa.types.is_floating(field.type)]
                writer = pq.ParquetWriter(
                    stream, batch.schema, compression="zstd", store_schema=False, use_dictionary=repeating
                )
                open_writer.enter_context(writer)
            writer.write_table(batch, row_group_size=_ROWS_AT_ONCE)


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
    """(n,) str or None. Equal texts are one object: names of models and classes stand in every row."""
    import numpy as np

    encoded = values.combine_chunks().dictionary_encode()
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    found: np.ndarray[Any, Any] = texts[encoded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)]
    return found


class LazyRows(Sequence[dict[str, Any]]):
    """Plain rows, each made as it is asked for: :meth:`row` says how, and ``__len__`` how many there are."""

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


class Rows(LazyRows):
    """A table as plain rows with None for unknown.

    The table stays in Arrow's memory, a tenth of what as many dictionaries take, and pandas is not loaded.
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
        for batch in self.table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from batch.to_pylist()


@contextlib.contextmanager
def opened_table(path: Path, sha256: str = "") -> Iterator[pq.ParquetFile]:
    """A Parquet table to read from.

    Args:
        path: the file.
        sha256: hash that its bytes must have, where it is known.

    Raises:
        InputError: it is absent, torn, no Parquet table, or not the one it should be.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fix = "remove the artifact's folder and rerun its stage"
    try:
        # Opened once: what is read is what was hashed, even if another run replaces the artifact meanwhile.
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


# ---------------------------------------------------------------------------------------------------- recipe


@dataclass(frozen=True)
class Recipe:
    """Everything that decides an artifact's content.

    Attributes:
        kind: artifact kind, for example ``masks``.
        schema_version: version of its table schema.
        stage: the stage that makes it.
        stage_version: that stage's VERSION.
        config: the configuration that affects the result, as plain values.
        inputs: input name -> identity of that artifact or digest of that source.
    """

    kind: str
    schema_version: int
    stage: str
    stage_version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "kind": self.kind,
            "schema_version": self.schema_version,
            "stage": self.stage,
            "stage_version": self.stage_version,
            "config": dict(self.config),
            "inputs": dict(self.inputs),
        }

    @property
    def id(self) -> str:
        """Hash of the recipe."""
        return digest(self.as_dict())

    def fingerprint(self, *parts: object) -> str:
        """Hash of one row's own inputs under this recipe; the identities of whole input tables do not enter."""
        return digest([self.kind, self.schema_version, self.stage, self.stage_version, dict(self.config), parts])[:32]


@dataclass(frozen=True)
class Artifact:
    """A finished artifact on disk, opened for reading."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Hash of recipe and files."""
        return str(self.manifest["identity"])

    @property
    def recipe_id(self) -> str:
        """Hash of the recipe it was made with."""
        return str(self.manifest["recipe_id"])

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe as plain values."""
        recipe: Mapping[str, Any] = self.manifest["recipe"]
        return recipe

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration it was made with."""
        config: Mapping[str, Any] = self.recipe["config"]
        return config

    @property
    def installed(self) -> Mapping[str, Any] | None:
        """Of a model that came in a pack: where from, and what it asks for (``skinkit.model_pack``); else None."""
        installed: Mapping[str, Any] | None = self.manifest.get("installed")
        return installed

    @property
    def info(self) -> Mapping[str, Any]:
        """What the stage recorded beside the identity (timings, notes, counts)."""
        info: Mapping[str, Any] = self.manifest.get("info", {})
        return info

    def table(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The artifact's table.

        Raises:
            InputError: it is damaged, or another run has put a new artifact in this one's place meanwhile.
        """
        return read_table(self.path / TABLE, columns, sha256=self._table_sha256)

    @property
    def _table_sha256(self) -> str:
        return str(self.manifest["files"].get(TABLE, ""))

    def rows(self, columns: Sequence[str] | None = None) -> Rows:
        """The artifact's table as plain rows, read piece by piece in one thread: several take memory of their own."""
        import pyarrow as pa

        wanted = list(columns) if columns else None
        with opened_table(self.path / TABLE, self._table_sha256) as file:
            groups = range(file.num_row_groups)
            pieces = [file.read_row_group(group, columns=wanted, use_threads=False) for group in groups]
            return Rows(pa.concat_tables(pieces) if pieces else file.schema_arrow.empty_table())

    def dates(self) -> list[row_dates.Dating]:
        """Since when each row has been as it is, in the order of the table; all alike where that was not kept."""
        if (self.path / row_dates.FILE).is_file():
            return row_dates.from_json(self.json(row_dates.FILE))
        made = self.manifest["made"]
        with opened_table(self.path / TABLE) as file:
            return [row_dates.Dating(str(made["at"]), str(made.get("run", "")), str(made["skinkit"]))] * (
                file.metadata.num_rows
            )

    def json(self, name: str) -> Any:
        """A JSON file of the artifact.

        Raises:
            InputError: it is absent, torn or no JSON.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError) as error:
            raise InputError(
                f"{self.path / name} cannot be read ({error})",
                "a JSON file written by skinkit",
                "remove the artifact's folder and rerun its stage",
            ) from None


def exists(path: Path) -> bool:
    """Whether a finished artifact (or its predecessor, after a crash between the two renames) is there."""
    return _settled(path) is not None


def _settled(path: Path) -> Path | None:
    # A writer may be between its two renames: then the old one was just there, and the new one will be in a moment.
    for candidate in (path, path.with_name(path.name + ".previous"), path):
        if (candidate / MANIFEST).is_file():
            return candidate
    return None


def open_artifact(path: Path, fix: str = "run the stage that makes it") -> Artifact:
    """Open a finished artifact.

    Raises:
        InputError: it is absent, torn, or written by a newer skinkit.
    """
    place = _settled(path)
    if place is None:
        raise InputError(f"no artifact at {path}", "a folder with table.parquet and manifest.json", fix)
    try:
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        version = int(manifest["manifest_version"])
        if version <= MANIFEST_VERSION:
            _check_entries(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{place / MANIFEST} cannot be read ({error})", "a manifest written by skinkit", f"remove {place} and {fix}"
        ) from None
    if version > MANIFEST_VERSION:
        raise InputError(
            f"{place} has manifest version {version}",
            f"version {MANIFEST_VERSION} or older",
            "use the newer skinkit that wrote it, or another workspace",
        )
    return Artifact(place, manifest)


_ENTRIES = {
    "identity": str,
    "recipe_id": str,
    "recipe": dict,
    "files": dict,
    "counts": dict,
    "info": dict,
    "made": dict,
}
_OF_RECIPE = {"kind": str, "schema_version": int, "stage": str, "stage_version": int, "config": dict, "inputs": dict}


def _check_entries(manifest: Mapping[str, Any]) -> None:
    """Refuse a manifest that lacks what is read of it everywhere.

    Raises:
        ValueError: naming the first entry that is absent or of another type.
    """
    for entries, where in ((_ENTRIES, manifest), (_OF_RECIPE, manifest.get("recipe", {}))):
        for name, kind in entries.items():
            if not isinstance(where.get(name), kind):
                raise ValueError(f"{name} is {where.get(name)!r:.60}")


# ------------------------------------------------------------------------------------------------------ lock


@contextlib.contextmanager
def lock(path: Path, *, shared: bool = False, wait_s: float = 0) -> Iterator[None]:
    """Hold the writer's lock of an artifact.

    The kernel drops the lock when its holder dies, so a lock file left by a crash is never in the way; what it says
    (host, process, since when) only serves the message.

    Args:
        path: the artifact's folder.
        shared: with others that hold it so too, as the shares of one artifact do.
        wait_s: seconds to wait for another holder.

    Raises:
        BusyError: another process holds it.
        InputError: the file system has no locks.
    """
    name = path.with_name(f".{path.name}.lock")
    stream = _locked(name, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + wait_s)
    try:
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        stream.flush()
        yield
    finally:
        with contextlib.suppress(OSError):  # others hold it too, and the last of them removes it
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            name.unlink(missing_ok=True)
        stream.close()


def writer_of(path: Path) -> str | None:
    """Who is writing an artifact now, in words; None where nobody is. It takes no lock, so it is in nobody's way.

    Of a writer on another machine only its lock file is seen, which a crash there may have left.
    """
    name = path.with_name(f".{path.name}.lock")
    try:
        told, inode = name.read_text(encoding="utf-8"), name.stat().st_ino
    except FileNotFoundError:
        return None
    locks = Path("/proc/locks")
    elsewhere = f" on {socket.gethostname()} " not in told
    held = locks.exists() and any(line.split()[-3].endswith(f":{inode}") for line in locks.read_text().splitlines())
    return told or "another process" if held or elsewhere else None


def _locked(name: Path, path: Path, how: int, deadline: float) -> IO[str]:
    """The lock file of an artifact, open and locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream: IO[str] = name.open("a+", encoding="utf-8")
        try:
            fcntl.flock(stream, how | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(stream.fileno()), name.stat()):
                return stream
            stream.close()  # its holder removed it between our opening and locking it
        except FileNotFoundError:
            stream.close()
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            stream.close()
            if time.monotonic() >= deadline:
                raise BusyError(
                    f"{path} is being written by {holder}",
                    "no other writer of this artifact",
                    "wait for it to end and rerun; readers and other artifacts are not affected",
                ) from None
            time.sleep(0.05)
        except OSError as error:
            stream.close()
            raise InputError(
                f"{name} cannot be locked: {error.strerror}",
                "a file system with locks; without them two runs could write the same artifact",
                "mount it with locks (Lustre: option flock; NFS: lockd running), or put the workspace elsewhere",
            ) from None


# --------------------------------------------------------------------------------------------------- builder


@dataclass
class Counts:
    """Outcomes of one build."""

    total: int = 0
    kept: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    newly_failed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "rows": self.total,
            "kept": self.kept,
            "made": self.total - self.kept,
            **self.by_status,
            "newly_failed": self.newly_failed,
        }


@dataclass(frozen=True)
class Share:
    """One of several shares of an artifact's rows: the ``number``-th of ``total``, counted from 1."""

    number: int
    total: int

    @property
    def slug(self) -> str:
        """Its part of a file name."""
        return f"shard-{self.number}-of-{self.total}"

    def of(self, keys: Iterable[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """Its keys: every n-th in their order, whatever is done already, so that shares never overlap."""
        ordered = sorted(keys, key=lambda key: [(part is not None, part) for part in key])
        return set(ordered[self.number - 1 :: self.total])


class ShareDone(Exception):  # noqa: N818 - no error: how a stage ends that works out a share
    """A share of an artifact is worked out.

    Args:
        share: which.
        counts: outcomes of its rows.
    """

    def __init__(self, share: Share, counts: Counts) -> None:
        super().__init__(share, counts)
        self.share, self.counts = share, counts


class _Stored(NamedTuple):
    """Where a row lies on the disk, and what is asked of it before the end.

    Attributes:
        source: a part table or the finished artifact's table.
        group: the row group there.
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


class _OldRow(NamedTuple):
    """A row of an earlier run."""

    stored: _Stored
    fingerprint: str | None


def _common_layout(schema: Schema, sources: Iterable[Path]) -> pa.Schema:
    """Declared columns, then those of the sources as they first come, of a type that holds the values of all."""
    import pyarrow as pa

    declared = _declared(schema)
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
    """The type of a column that some of ``count`` tables hold values of, as if they had been one table all along."""
    import pyarrow as pa

    kinds = set(filled)
    if not kinds:
        return pa.float64() if pa.float64() in empty else pa.string()
    if kinds == {pa.bool_()} or (kinds == {pa.int64()} and len(filled) == count):
        return filled[0]
    return pa.float64() if kinds <= {pa.bool_(), pa.int64(), pa.float64()} else pa.string()


def _collected(rows: Sequence[_Stored], layout: pa.Schema) -> pa.Table:
    """Rows out of the tables they lie in, in the order asked for; rows that lie together are taken together."""
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
    for wanted in layout:
        column = table.column(wanted.name) if wanted.name in table.column_names else pa.nulls(len(table), wanted.type)
        columns.append(column if column.type == wanted.type else column.cast(wanted.type))
    return pa.Table.from_arrays(columns, schema=layout)


class Builder:
    """Builds one artifact; use as a context manager.

    A stage that works case by case calls :meth:`plan` with the fingerprint of every row, computes the rows it gets
    back, gives each to :meth:`add` and ends with :meth:`finish`. A stage that makes its table at once calls
    :meth:`finish` with it. Leaving the block without :meth:`finish` keeps the partial work for the next run.

    Args:
        path: the artifact's folder.
        schema: its table.
        recipe: what decides its content.
        retry_failed: compute rows again that failed before.
        watch: digest of sizes and times of what is read outside the workspace.
        run: id of the run, recorded beside the identity.
        share: work out only these rows, and leave them to the run that joins all shares.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        recipe: Recipe,
        *,
        retry_failed: bool = False,
        watch: str | None = None,
        run: str = "",
        share: Share | None = None,
    ) -> None:
        self.path = path
        self.schema = schema
        self.recipe = recipe
        self.retry_failed = retry_failed
        self.watch = watch
        self.run = run
        self.share = share
        self.partial = path.with_name(path.name + ".partial")
        self.counts = Counts()
        self._started = time.monotonic()
        self._stored: dict[tuple[Any, ...], _Stored] = {}
        self._recalled: dict[tuple[Any, ...], dict[str, Any]] | None = None
        self._buffer: list[dict[str, Any]] = []
        self._flushed = time.monotonic()
        self._fingerprints: dict[tuple[Any, ...], str] = {}
        self._known_failures: set[tuple[Any, ...]] = set()
        self._hashes: dict[str, str] = {}
        self._stack = contextlib.ExitStack()
        self._done = False

    def __enter__(self) -> Builder:
        if self.path.exists() and not (self.path / MANIFEST).is_file():
            raise InputError(
                f"{self.path} is a folder without a manifest",
                "an artifact written by skinkit, or nothing",
                "move that folder away; skinkit never replaces what it did not write",
            )
        self._stack.enter_context(lock(self.path, shared=self.share is not None))
        if self.share is not None:
            self._stack.enter_context(lock(self.path.with_name(f"{self.path.name}.{self.share.slug}")))
        self.partial.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._done and self._buffer:
                # What was computed before an interruption is not lost; on a full disk its rows are made again.
                with contextlib.suppress(OSError, InputError):
                    self._flush()
        finally:
            self._stack.close()

    # -- case by case

    def clear(self) -> None:
        """Remove what a killed run left, for stages that make their table at once."""
        shutil.rmtree(self.partial)
        self.partial.mkdir()

    def plan(
        self, fingerprints: Mapping[tuple[Any, ...], str], *, together: Collection[tuple[Any, ...]] = ()
    ) -> list[tuple[Any, ...]]:
        """Say which rows the table will have; get back the keys still to be made.

        Args:
            fingerprints: key -> fingerprint of the row as it would be made now.
            together: keys of rows that are made out of other rows, and so of no share.

        Returns:
            Keys to compute, in the given order. Kept rows come from the unfinished run and from the finished
            artifact; their files are linked into place.
        """
        self._fingerprints = dict(fingerprints)
        if self.share is not None:
            mine = self.share.of([key for key in fingerprints if key not in together])
            self._fingerprints = {key: fingerprints[key] for key in fingerprints if key in mine}
        partial, finished = self._old_rows()
        self._known_failures = {key for key, row in finished.items() if row.stored.status == FAILED}
        old = _settled(self.path)
        written = open_artifact(self.path).manifest["files"] if finished else {}
        todo: list[tuple[Any, ...]] = []
        for key, fingerprint in self._fingerprints.items():
            row = partial.get(key)
            if row is not None and self._reusable(row, fingerprint, self.partial):
                self._keep(key, row)
                continue
            row = finished.get(key)
            if row is not None and old is not None and self._reusable(row, fingerprint, old):
                for name in row.stored.files:
                    link_or_copy(old / name, self.partial / name)
                    if name in written:
                        self._hashes[name] = written[name]
                self._keep(key, row)
                continue
            todo.append(key)
        self.counts.kept = len(self._stored)
        self._forget([key for key in todo if key in partial])
        return todo

    def _keep(self, key: tuple[Any, ...], row: _OldRow) -> None:
        self._stored[key] = row.stored
        # A run that was interrupted found it, and could not say so.
        if row.stored.status == FAILED and key not in self._known_failures:
            self.counts.newly_failed += 1

    def _forget(self, keys: Sequence[tuple[Any, ...]]) -> None:
        """Void rows of the unfinished run before their files are written anew.

        A run that is killed after such a file and before its row would else leave the old row with the new file.
        """
        if keys:
            rows = [dict(zip(self.schema.key, key, strict=True)) for key in keys]
            write_batches(self._next_part(), [rows_to_arrow(self.schema, rows)])

    @property
    def rows(self) -> Mapping[tuple[Any, ...], Mapping[str, Any]]:
        """The rows kept or added so far, by key, for stages that make rows out of rows: from now on all in memory."""
        if self._recalled is None:
            self._flush()
            groups: dict[tuple[Path, int], list[dict[str, Any]]] = {}
            for source, group in {(stored.source, stored.group) for stored in self._stored.values()}:
                with opened_table(source) as file:
                    groups[source, group] = file.read_row_group(group).to_pylist()
            self._recalled = {
                key: groups[stored.source, stored.group][stored.row] for key, stored in self._stored.items()
            }
        return self._recalled

    def recalled(self, columns: Sequence[str] | None = None) -> Rows:
        """The rows kept or added so far, sorted, in Arrow's memory: a tenth of what as many dictionaries take."""
        import pyarrow as pa

        self._flush()
        wanted = self._sorted([key for key in self._fingerprints if key in self._stored], columns)
        return Rows(pa.concat_tables(wanted))

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one finished row; its files must already lie under :attr:`partial`."""
        values = dict(row)
        key = tuple(values[name] for name in self.schema.key)
        values["fingerprint"] = self._fingerprints[key]
        values.setdefault("status", OK)
        if values["status"] == FAILED and (key not in self._known_failures or self.retry_failed):
            self.counts.newly_failed += 1
        if self._recalled is not None:
            self._recalled[key] = values
        self._buffer.append(values)
        if len(self._buffer) >= _FLUSH_ROWS or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        if not self._buffer:
            return
        part = self._next_part()
        write_batches(part, [rows_to_arrow(self.schema, self._buffer)])
        for index, row in enumerate(self._buffer):
            key = tuple(row[name] for name in self.schema.key)
            files = tuple(row[name] for name in self.schema.files if row.get(name))
            self._stored[key] = _Stored(part, 0, index, row["status"], files, row.get("reason"))
        self._buffer.clear()

    def _next_part(self) -> Path:
        """Where the next part table goes; counted, because later ones decide and clocks are set back."""
        parts = self.partial / "parts"
        last = max((int(part.name.partition("-")[0]) for part in parts.glob("[0-9]*.parquet")), default=0)
        return parts / f"{last + 1:08d}-{self.share.slug if self.share else 'all'}.parquet"

    def _old_rows(self) -> tuple[dict[tuple[Any, ...], _OldRow], dict[tuple[Any, ...], _OldRow]]:
        """Rows of the unfinished run and of the finished artifact."""
        partial: dict[tuple[Any, ...], _OldRow] = {}
        # The final table is there too where a run was killed just before its end.
        for part in [*self.partial.glob(TABLE), *sorted((self.partial / "parts").glob("[0-9]*.parquet"))]:
            try:
                partial.update(self._listed(part))
            except InputError:
                part.unlink()  # torn by a power cut: its rows are made again
        finished: dict[tuple[Any, ...], _OldRow] = {}
        if exists(self.path):
            old = open_artifact(self.path)
            if old.recipe["schema_version"] == self.schema.version:
                finished = self._listed(old.path / TABLE)
        return partial, finished

    def _listed(self, table: Path) -> dict[tuple[Any, ...], _OldRow]:
        """What a table on the disk holds, by key, without its values."""
        wanted = [*self.schema.key, "fingerprint", "status", "reason", *self.schema.files]
        listed = {}
        with opened_table(table) as file:
            present = [name for name in wanted if name in file.schema_arrow.names]
            for group in range(file.num_row_groups if set(self.schema.key) <= set(present) else 0):
                for index, row in enumerate(file.read_row_group(group, columns=present).to_pylist()):
                    files = tuple(row[name] for name in self.schema.files if row.get(name))
                    stored = _Stored(table, group, index, row.get("status"), files, row.get("reason"))
                    listed[tuple(row[name] for name in self.schema.key)] = _OldRow(stored, row.get("fingerprint"))
        return listed

    def _reusable(self, row: _OldRow, fingerprint: str, folder: Path) -> bool:
        if row.fingerprint != fingerprint or row.stored.reason in UNSETTLED:
            return False
        if self.retry_failed and row.stored.status == FAILED:
            return False
        return all((folder / name).is_file() for name in row.stored.files)

    def _sorted(
        self,
        chosen: Iterable[tuple[Any, ...]],
        columns: Sequence[str] | None = None,
        outcomes: Mapping[tuple[Any, ...], Mapping[str, Any]] | None = None,
    ) -> Iterator[pa.Table]:
        """Rows in the order of the final table, some thousand at a time, with what is known of them only now."""
        import pyarrow as pa

        chosen = list(chosen)
        layout = _common_layout(self.schema, dict.fromkeys(self._stored[key].source for key in chosen))
        if columns is not None:
            layout = pa.schema([field for field in layout if field.name in columns])
        keys = sorted(chosen, key=lambda key: [(part is not None, part) for part in key])
        for start in range(0, max(len(keys), 1), _ROWS_AT_ONCE):
            part = keys[start : start + _ROWS_AT_ONCE]
            table = _collected([self._stored[key] for key in part], layout)
            told = [(outcomes or {}).get(key, {}) for key in part]
            if any(told):
                rows = [{**row, **more} for row, more in zip(table.to_pylist(), told, strict=True)]
                table = pa.Table.from_pylist(rows, schema=layout)
            yield table

    # -- the end

    def finish(
        self,
        frame: pd.DataFrame | None = None,
        *,
        info: Mapping[str, Any] | None = None,
        sources: Mapping[str, Any] | None = None,
        beside: Sequence[str] = (),
        outcomes: Mapping[tuple[Any, ...], Mapping[str, Any]] | None = None,
    ) -> Artifact:
        """Write the sorted table and the manifest, and put the new folder in place of the old one.

        Args:
            frame: the whole table, where the stage did not work row by row.
            info: recorded beside the identity.
            sources: what outside the workspace was read, for the record.
            beside: files under :attr:`partial` that do not enter the identity.
            outcomes: key -> declared columns of its row that are decided only now, when all rows are known.
        """
        if frame is None:
            self._flush()
            outcomes = outcomes or {}
            write_batches(self.partial / TABLE, self._sorted(self._fingerprints, outcomes=outcomes))
            rows = [self._stored[key] for key in self._fingerprints]
            statuses = [outcomes.get(key, {}).get("status", self._stored[key].status) for key in self._fingerprints]
            named = {name for row in rows for name in row.files}
            reasons = {row.reason for row in rows}
        else:
            write_table(self.partial / TABLE, self.schema, frame)
            statuses = frame["status"].dropna().tolist() if "status" in frame else []
            named = {str(v) for c in self.schema.files if c in frame for v in frame[c].dropna()}
            reasons = set(frame["reason"].dropna()) if "reason" in frame else set()
        if reasons & set(UNSETTLED):
            sources = {**(sources or {}), "watch": None}  # so that the next run looks again
        self.counts.total = len(self._fingerprints) if frame is None else len(frame)
        self.counts.by_status = dict(sorted(Counter(map(str, statuses)).items()))
        if (self.partial / "parts").exists():
            shutil.rmtree(self.partial / "parts")
        self._sweep(named)
        if self.schema.dated:
            write_atomic(self.partial / row_dates.FILE, self._dates())
            beside = (*beside, row_dates.FILE)
        files = {name: self._hashes.get(name) or file_sha256(file) for name, file in self._files()}
        if lost := named - files.keys():
            raise InputError(
                f"{len(lost)} files of {self.partial} are gone, {min(lost)} among them",
                "the files that its rows name",
                "let nobody remove files there while skinkit works; run the same command again",
            )
        inside = {name: value for name, value in files.items() if name not in beside}
        manifest = {
            "manifest_version": MANIFEST_VERSION,
            "identity": digest([self.recipe.as_dict(), inside]),
            "recipe_id": self.recipe.id,
            "recipe": self.recipe.as_dict(),
            "files": inside,
            "beside": {name: value for name, value in files.items() if name in beside},
            "sources": {**({} if self.watch is None else {"watch": self.watch}), **(sources or {})},
            "counts": self.counts.as_dict(),
            "info": dict(info or {}),
            "made": {
                "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "run": self.run,
                "seconds": round(time.monotonic() - self._started, 3),
                "skinkit": __version__,
                "commit": commit(),
                "python": platform.python_version(),
                "libraries": library_versions(),
                "platform": platform.platform(),
            },
        }
        write_atomic(self.partial / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
        put_in_place(self.partial, self.path)
        self._done = True
        return Artifact(self.path, manifest)

    def hand_over(self) -> None:
        """End a share here: the run that joins the shares finds its rows; elsewhere nothing happens.

        Raises:
            ShareDone: this was a share.
        """
        if self.share is None:
            return
        self._flush()
        self._done = True
        statuses = Counter(str(self._stored[key].status) for key in self._fingerprints)
        self.counts.total, self.counts.by_status = len(self._fingerprints), dict(sorted(statuses.items()))
        raise ShareDone(self.share, self.counts)

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Every file of the unfinished artifact but its manifest."""
        for file in sorted(self.partial.rglob("*")):
            if file.is_file() and file.name != MANIFEST:
                yield file.relative_to(self.partial).as_posix(), file

    def _dates(self) -> bytes:
        """Since when each row has been as it is: carried over from the finished artifact where a row is the same."""
        before: dict[Hashable, tuple[Hashable, row_dates.Dating]] = {}
        datings: list[row_dates.Dating] = []
        old = open_artifact(self.path) if exists(self.path) else None
        if old is not None and old.recipe["schema_version"] == self.schema.version:
            datings = old.dates()
            rows = zip(self._contents(old.path / TABLE), datings, strict=True)
            before = {key: (content, dating) for (key, content), dating in rows}
        made = row_dates.now(self.run, set(datings))
        return row_dates.to_json(row_dates.carried(self._contents(self.partial / TABLE), before, made))

    def _contents(self, table: Path) -> Iterator[tuple[Hashable, Hashable]]:
        """Key of every row, and what it would not be the same without."""
        with opened_table(table) as file:
            names = file.schema_arrow.names
            content = [name for name in ("fingerprint", "status", "reason") if name in names]
            for group in range(file.num_row_groups):
                columns = file.read_row_group(group, columns=[*self.schema.key, *content]).to_pydict()
                keys = zip(*(columns[name] for name in self.schema.key), strict=True)
                yield from zip(keys, zip(*(columns[name] for name in content), strict=True), strict=True)

    def _sweep(self, named: set[str]) -> None:
        """Remove what no row names: temporary files of a killed writer, files of rows that are gone."""
        for stray in self.partial.rglob(".*.tmp"):
            stray.unlink()
        if not self.schema.files:
            return
        folders = {Path(name).parts[0] for name in named if "/" in name}
        if not named:  # then nothing tells which folders rows write to; such a stage writes no others
            folders = {file.name for file in self.partial.iterdir() if file.is_dir()}
        for folder in folders:
            for file in (self.partial / folder).rglob("*"):
                if file.is_file() and file.relative_to(self.partial).as_posix() not in named:
                    file.unlink()


def put_in_place(partial: Path, path: Path) -> None:
    """Let a finished folder take its name, by two renames; who holds the lock of ``path`` may call it.

    Args:
        partial: the new folder, manifest and all.
        path: its name; what lies there goes to ``NAME.previous`` first, where readers find it meanwhile.
    """
    previous = path.with_name(path.name + ".previous")
    _settle_folders(partial)
    if path.exists():
        if previous.exists():
            shutil.rmtree(previous)
        os.rename(path, previous)
    os.rename(partial, path)
    _settle_folder(path.parent)
    shutil.rmtree(previous, ignore_errors=True)  # what a reader on another machine holds open is removed next time


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the file system cannot link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        if target.samefile(source):
            return
        target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def rehash(artifact: Artifact) -> list[str]:
    """Names of files whose content no longer is what the manifest says (missing ones included).

    The manifest itself is among them where its identity does not follow from the recipe and hashes it lists. Of an
    installed model the identity is that of the files it had where it was trained.
    """
    manifest = artifact.manifest
    hashes = (artifact.installed or manifest).get("files", {})
    bad = [] if manifest["identity"] == digest([artifact.recipe, hashes]) else [MANIFEST]
    for name, expected in {**manifest["files"], **manifest.get("beside", {})}.items():
        file = artifact.path / name
        if not file.is_file() or file_sha256(file) != expected:
            bad.append(str(name))
    return bad


@cache
def commit() -> str | None:
    """The commit of skinkit's own checkout, where it runs from one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    git: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
    try:
        answer = git(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return answer.stdout.strip() or None


def library_versions(names: Iterable[str] = ()) -> dict[str, str]:
    """Installed versions of the libraries that can change a number."""
    from importlib.metadata import PackageNotFoundError, version

    chosen = tuple(names) or (
        "numpy", "pandas", "pyarrow", "pillow", "scipy", "scikit-learn", "SimpleITK", "pyradiomics", "lightgbm", "shap",
        "torch", "torchvision",
    )  # fmt: skip
    found = {}
    for name in chosen:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
