"""An artifact is a folder: ``table.parquet``, files, and ``manifest.json`` written last.

Its *recipe* is what decides the result: kind, schema version, stage and its VERSION, the configuration, and the
identities of its inputs. Its *identity* is the recipe plus the hashes of its files. An artifact is stale when the
recipe it would get now differs from the one it has.

Work goes to ``NAME.partial`` (part tables; a row's files land before its row), which a rerun resumes: a row is kept
when its fingerprint is what it would get now. The final table is sorted and written once; then two renames (old to
``NAME.previous``, new to ``NAME``), and readers fall back to ``NAME.previous`` if a crash fell between them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from skinkit import __version__
from skinkit.errors import BusyError, InputError
from skinkit.schemas import Schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TABLE = "table.parquet"
MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
_FLUSH_ROWS = 64
_FLUSH_SECONDS = 2.0


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


# ---------------------------------------------------------------------------------------------------- tables


def arrow_schema(schema: Schema, frame: pd.DataFrame) -> pa.Schema:
    """The Arrow schema of a table: declared types first, then the undeclared columns of the frame in order."""
    import pyarrow as pa

    types = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    fields = [pa.field(column.name, types[column.type]) for column in schema.columns]
    fields += [pa.field(str(name), _inferred(frame[name])) for name in frame.columns if name not in schema.names]
    return pa.schema(fields)


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


def write_table(path: Path, schema: Schema, frame: pd.DataFrame) -> None:
    """Write a table with declared types; the same rows always give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(to_arrow(schema, frame), sink, compression="zstd", store_schema=False)
    write_atomic(path, sink.getvalue().to_pybytes())


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table as a frame: strings with None for unknown, numbers with NaN, integers nullable."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(columns) if columns else None)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path} cannot be read ({error})",
            "a Parquet table written by skinkit",
            "remove the artifact's folder and rerun its stage",
        ) from None
    series: dict[str, pd.Series] = {}
    for column in table.schema:
        values = table.column(column.name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            series[column.name] = pd.Series(values.to_pylist(), dtype=object)
        elif pa.types.is_integer(column.type):
            series[column.name] = pd.Series(values.to_pylist(), dtype="Int64")
        elif pa.types.is_boolean(column.type):
            series[column.name] = pd.Series(values.to_pylist(), dtype="boolean")
        else:
            series[column.name] = values.to_pandas()
    return pd.DataFrame(series)


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
    def info(self) -> Mapping[str, Any]:
        """What the stage recorded beside the identity (timings, notes, counts)."""
        info: Mapping[str, Any] = self.manifest.get("info", {})
        return info

    def table(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The artifact's table."""
        return read_table(self.path / TABLE, columns)

    def json(self, name: str) -> Any:
        """A JSON file of the artifact."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))


def exists(path: Path) -> bool:
    """Whether a finished artifact (or its predecessor, after a crash between the two renames) is there."""
    return _settled(path) is not None


def _settled(path: Path) -> Path | None:
    for candidate in (path, path.with_name(path.name + ".previous")):
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
        version, _ = int(manifest["manifest_version"]), manifest["identity"]
    except (ValueError, KeyError, TypeError) as error:
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


# ------------------------------------------------------------------------------------------------------ lock


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the writer's lock of an artifact.

    The kernel drops the lock when its holder dies, so a lock file left by a crash is never in the way; what it says
    (host, process, since when) only serves the message.

    Raises:
        BusyError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name}.lock")
    stream: IO[str] = name.open("a+", encoding="utf-8")
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise BusyError(
                f"{path} is being written by {holder}",
                "no other writer of this artifact",
                "wait for it to end and rerun; readers and other artifacts are not affected",
            ) from None
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        stream.flush()
        yield
    finally:
        stream.close()


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
    """

    def __init__(
        self, path: Path, schema: Schema, recipe: Recipe, *, retry_failed: bool = False, watch: str | None = None
    ) -> None:
        self.path = path
        self.schema = schema
        self.recipe = recipe
        self.retry_failed = retry_failed
        self.watch = watch
        self.partial = path.with_name(path.name + ".partial")
        self.counts = Counts()
        self._started = time.monotonic()
        self._rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._buffer: list[dict[str, Any]] = []
        self._flushed = time.monotonic()
        self._known_failures: set[tuple[Any, ...]] = set()
        self._stack = contextlib.ExitStack()
        self._done = False

    def __enter__(self) -> Builder:
        if self.path.exists() and not (self.path / MANIFEST).is_file():
            raise InputError(
                f"{self.path} is a folder without a manifest",
                "an artifact written by skinkit, or nothing",
                "move that folder away; skinkit never replaces what it did not write",
            )
        self._stack.enter_context(lock(self.path))
        self.partial.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._done and self._buffer:
                # What was computed before an interruption is not lost.
                with contextlib.suppress(OSError):
                    self._flush()
        finally:
            self._stack.close()

    # -- case by case

    def clear(self) -> None:
        """Remove what a killed run left, for stages that make their table at once."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)

    def plan(self, fingerprints: Mapping[tuple[Any, ...], str]) -> list[tuple[Any, ...]]:
        """Say which rows the table will have; get back the keys still to be made.

        Args:
            fingerprints: key -> fingerprint of the row as it would be made now.

        Returns:
            Keys to compute, in the given order. Kept rows come from the unfinished run and from the finished
            artifact; their files are linked into place.
        """
        self._fingerprints = dict(fingerprints)
        partial, finished = self._old_rows()
        self._known_failures = {k for k, row in [*finished.items(), *partial.items()] if row.get("status") == "failed"}
        todo: list[tuple[Any, ...]] = []
        for key, fingerprint in self._fingerprints.items():
            row = partial.get(key)
            if row is not None and self._reusable(row, fingerprint, self.partial):
                self._rows[key] = row
                continue
            row = finished.get(key)
            old = _settled(self.path)
            if row is not None and old is not None and self._reusable(row, fingerprint, old):
                for name in self._files_of(row):
                    link_or_copy(old / name, self.partial / name)
                self._rows[key] = row
                continue
            todo.append(key)
        self.counts.kept = len(self._rows)
        return todo

    @property
    def rows(self) -> Mapping[tuple[Any, ...], Mapping[str, Any]]:
        """The rows kept or added so far, by key, for stages that make rows out of rows."""
        return self._rows

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one finished row; its files must already lie under :attr:`partial`."""
        values = dict(row)
        key = tuple(values[name] for name in self.schema.key)
        values["fingerprint"] = self._fingerprints[key]
        values.setdefault("status", "ok")
        if values["status"] == "failed" and (key not in self._known_failures or self.retry_failed):
            self.counts.newly_failed += 1
        self._rows[key] = values
        self._buffer.append(values)
        if len(self._buffer) >= _FLUSH_ROWS or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        import pandas as pd

        parts = self.partial / "parts"
        name = f"{time.time_ns():020d}-{os.getpid()}.parquet"
        write_table(parts / name, self.schema, pd.DataFrame(self._buffer))
        self._buffer.clear()
        self._flushed = time.monotonic()

    def _old_rows(self) -> tuple[dict[tuple[Any, ...], dict[str, Any]], dict[tuple[Any, ...], dict[str, Any]]]:
        partial: dict[tuple[Any, ...], dict[str, Any]] = {}
        for part in sorted((self.partial / "parts").glob("*.parquet")):
            try:
                partial.update(self._records(read_table(part)))
            except InputError:
                part.unlink()  # torn by a power cut: its rows are made again
        finished: dict[tuple[Any, ...], dict[str, Any]] = {}
        if exists(self.path):
            old = open_artifact(self.path)
            if old.recipe["schema_version"] == self.schema.version:
                finished = self._records(old.table())
        return partial, finished

    def _records(self, frame: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
        if not set(self.schema.key) <= set(frame.columns):
            return {}
        frame = frame.astype(object).where(frame.notna(), None)
        return {tuple(row[name] for name in self.schema.key): row for row in frame.to_dict("records")}  # type: ignore[misc]

    def _files_of(self, row: Mapping[str, Any]) -> list[str]:
        return [row[name] for name in self.schema.files if row.get(name)]

    def _reusable(self, row: Mapping[str, Any], fingerprint: str, folder: Path) -> bool:
        if row.get("fingerprint") != fingerprint or (self.retry_failed and row.get("status") == "failed"):
            return False
        return all((folder / name).is_file() for name in self._files_of(row))

    # -- the end

    def finish(
        self,
        frame: pd.DataFrame | None = None,
        *,
        info: Mapping[str, Any] | None = None,
        sources: Mapping[str, Any] | None = None,
        beside: Sequence[str] = (),
    ) -> Artifact:
        """Write the sorted table and the manifest, and put the new folder in place of the old one.

        Args:
            frame: the whole table, where the stage did not work row by row.
            info: recorded beside the identity.
            sources: what outside the workspace was read, for the record.
            beside: files under :attr:`partial` that do not enter the identity.
        """
        import pandas as pd

        if frame is None:
            rows = [self._rows[key] for key in self._fingerprints]
            frame = pd.DataFrame(rows, columns=None if rows else list(self.schema.names))
        self.counts.total = len(frame)
        if "status" in frame:
            self.counts.by_status = {str(k): int(v) for k, v in frame["status"].value_counts().sort_index().items()}
        write_table(self.partial / TABLE, self.schema, frame)
        shutil.rmtree(self.partial / "parts", ignore_errors=True)
        self._sweep(frame)
        files = {
            str(file.relative_to(self.partial)): file_sha256(file)
            for file in sorted(self.partial.rglob("*"))
            if file.is_file() and file.name != MANIFEST
        }
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
                "seconds": round(time.monotonic() - self._started, 3),
                "skinkit": __version__,
                "commit": commit(),
                "python": platform.python_version(),
                "libraries": library_versions(),
                "platform": platform.platform(),
            },
        }
        write_atomic(self.partial / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
        previous = self.path.with_name(self.path.name + ".previous")
        if self.path.exists():
            shutil.rmtree(previous, ignore_errors=True)
            os.rename(self.path, previous)
        os.rename(self.partial, self.path)
        shutil.rmtree(previous, ignore_errors=True)
        self._done = True
        return Artifact(self.path, manifest)

    def _sweep(self, frame: pd.DataFrame) -> None:
        """Remove what no row names: temporary files of a killed writer, files of rows that are gone."""
        for stray in self.partial.rglob(".*.tmp"):
            stray.unlink()
        if not self.schema.files:
            return
        named = {str(v) for c in self.schema.files if c in frame for v in frame[c].dropna()}
        folders = {str(Path(name).parts[0]) for name in named if "/" in name}
        for folder in folders:
            for file in (self.partial / folder).rglob("*"):
                if file.is_file() and str(file.relative_to(self.partial)) not in named:
                    file.unlink()


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
    """Names of files whose content no longer is what the manifest says (missing ones included)."""
    bad = []
    for name, expected in {**artifact.manifest["files"], **artifact.manifest.get("beside", {})}.items():
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
