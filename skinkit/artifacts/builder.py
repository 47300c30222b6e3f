"""Build an artifact: rows and files go to ``NAME.partial``, which a rerun resumes, and move into place at the end.

Whatever is taken over from an earlier run, finished or not, is hashed first: the old table and its files against the
manifest, part tables and their files against the checksums that were written with them. What differs is made again,
with a warning.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import time
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from skinkit import __version__
from skinkit.artifacts import row_dates
from skinkit.artifacts.artifact import (
    MANIFEST,
    MANIFEST_VERSION,
    Artifact,
    ArtifactRecipe,
    exists,
    follows,
    manifest_bytes,
    open_artifact,
)
from skinkit.artifacts.files import digest, file_sha256, link_or_copy, put_in_place, write_atomic
from skinkit.artifacts.leftovers import refuse_links
from skinkit.artifacts.locks import lock
from skinkit.artifacts.part_tables import (
    OldRow,
    StoredRow,
    collected,
    common_layout,
    contents,
    sha256_of_part,
    stored_rows,
    write_part,
)
from skinkit.artifacts.provenance import commit, library_versions
from skinkit.artifacts.tables import (
    ROWS_AT_ONCE,
    TABLE,
    TableRows,
    opened_table,
    write_batches,
    write_table,
)
from skinkit.console import Console
from skinkit.errors import InputError, listed
from skinkit.schemas import FAILED, OK, UNSETTLED, Schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


_FLUSH_ROWS = 256
_FLUSH_SECONDS = 2.0
_PARTS = "parts"
_SHOWN = 3


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
        """Its keys: every n-th of all keys, finished or not, so that shares never overlap."""
        ordered = sorted(keys, key=lambda key: [(part is not None, part) for part in key])
        return set(ordered[self.number - 1 :: self.total])


class ShareDone(Exception):  # noqa: N818 - no error: how a stage ends that works out a share
    """A share of an artifact is complete.

    Args:
        share: the share.
        counts: outcomes of its rows.
    """

    def __init__(self, share: Share, counts: Counts) -> None:
        super().__init__(share, counts)
        self.share, self.counts = share, counts


class _Written(NamedTuple):
    """Summary of a final table.

    Attributes:
        total: rows.
        statuses: outcome of every row that has one.
        files: files that rows name, relative to the artifact's folder.
        reasons: reasons of all rows.
    """

    total: int
    statuses: list[str]
    files: set[str]
    reasons: set[str | None]


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
        share: compute only these rows; another run joins all shares.
        console: what an earlier run left damaged is reported to it.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        recipe: ArtifactRecipe,
        *,
        retry_failed: bool = False,
        watch: str | None = None,
        run: str = "",
        share: Share | None = None,
        console: Console | None = None,
    ) -> None:
        self.path = path
        self.schema = schema
        self.recipe = recipe
        self.retry_failed = retry_failed
        self.watch = watch
        self.run = run
        self.share = share
        self.console = console or Console()
        self.partial = path.with_name(path.name + ".partial")
        self.counts = Counts()
        self._started = time.monotonic()
        self._stored: dict[tuple[Any, ...], StoredRow] = {}
        self._recalled: dict[tuple[Any, ...], dict[str, Any]] | None = None
        self._buffer: list[dict[str, Any]] = []
        self._flushed = time.monotonic()
        self._fingerprints: dict[tuple[Any, ...], str] = {}
        self._known_failures: set[tuple[Any, ...]] = set()
        self._folders: dict[tuple[Any, ...], str] = {}
        self._hashes: dict[str, str] = {}
        self._sources: dict[Path, str] = {}
        self._stack = contextlib.ExitStack()
        self._done = False

    def __enter__(self) -> Builder:
        refuse_links(self.path)
        if self.path.exists() and not (self.path / MANIFEST).is_file():
            raise InputError(
                f"{self.path} is a folder without a manifest",
                "an artifact written by skinkit, or nothing",
                "move that folder away; skinkit never replaces what it did not write",
            )
        self._stack.enter_context(lock(self.path, shared=self.share is not None))
        if self.share is not None:
            self._stack.enter_context(lock(self.path.with_name(f"{self.path.name}.{self.share.slug}")))
        refuse_links(self.path)  # again under the lock, so that none is put there in between
        self.partial.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._done and self._buffer:
                # Keep rows computed before an interruption; if the disk is full they are computed again.
                with contextlib.suppress(OSError, InputError):
                    self._flush()
        finally:
            self._stack.close()

    # -- case by case

    def clear(self) -> None:
        """Remove the files of a killed run, for stages that write their table at once."""
        _ = self._old  # says where the artifact to be replaced is damaged
        shutil.rmtree(self.partial)
        self.partial.mkdir()

    def plan(
        self,
        fingerprints: Mapping[tuple[Any, ...], str],
        *,
        together: Collection[tuple[Any, ...]] = (),
        folders: Mapping[tuple[Any, ...], str] | None = None,
    ) -> list[tuple[Any, ...]]:
        """Declare the rows of the table and return the keys still to compute.

        Args:
            fingerprints: key -> current fingerprint of the row.
            together: keys of rows that are computed from other rows and belong to no share.
            folders: key -> folder whose files all belong to that row, beside those its columns name.

        Returns:
            Keys to compute, in the given order. Kept rows come from the unfinished run and from the finished
            artifact, once their table and files were hashed again; their files are linked into place.
        """
        self._fingerprints = dict(fingerprints)
        self._folders = dict(folders or {})
        if self.share is not None:
            mine = self.share.of([key for key in fingerprints if key not in together])
            self._fingerprints = {key: fingerprints[key] for key in fingerprints if key in mine}
        partial, finished = self._unfinished_rows(), self._finished_rows()
        self._known_failures = {key for key, row in finished.items() if row.stored.status == FAILED}
        place = self._old.path if self._old is not None else self.path
        todo: list[tuple[Any, ...]] = []
        damaged: dict[str, None] = {}
        for key, fingerprint in self._fingerprints.items():
            for row, folder in ((partial.get(key), self.partial), (finished.get(key), place)):
                if row is None or not self._reusable(row, fingerprint):
                    continue
                names = dict.fromkeys([*row.stored.files, *row.hashes])
                bad = [name for name in names if not _is(folder / name, row.hashes.get(name))]
                if key in self._folders and not names:
                    bad = [self._folders[key]]
                if not bad:
                    self._take_over(key, row, folder)
                    break
                damaged |= dict.fromkeys(bad)
            else:
                todo.append(key)
        if damaged:
            self.console.warn(
                f"{self.path}: {len(damaged)} files of earlier rows are missing or not as they were written "
                f"({listed(damaged, _SHOWN)}); their rows are made again"
            )
        self.counts.kept = len(self._stored)
        self._forget([key for key in todo if key in partial])
        return todo

    def leave_out(self, keys: Iterable[tuple[Any, ...]]) -> None:
        """Take planned rows back that turn out not to be needed; what was kept of them goes too."""
        for key in keys:
            del self._fingerprints[key]
            if self._stored.pop(key, None) is not None:
                self.counts.kept -= 1
                if self._recalled is not None:
                    del self._recalled[key]

    def _take_over(self, key: tuple[Any, ...], row: OldRow, folder: Path) -> None:
        """Keep a row of an earlier run whose files lie in this folder, as they were written."""
        if folder != self.partial:
            for name in row.hashes:
                link_or_copy(folder / name, self.partial / name)
        self._hashes |= row.hashes
        self._keep(key, row)

    def _keep(self, key: tuple[Any, ...], row: OldRow) -> None:
        self._stored[key] = row.stored
        # A run that was interrupted found it, and could not say so.
        if row.stored.status == FAILED and key not in self._known_failures:
            self.counts.newly_failed += 1

    def _forget(self, keys: Sequence[tuple[Any, ...]]) -> None:
        """Drop rows of the unfinished run before their files are rewritten.

        Otherwise a run killed between the two would leave the old row with the new file.
        """
        if keys:
            self._write_part([dict(zip(self.schema.key, key, strict=True)) for key in keys])

    @property
    def rows(self) -> Mapping[tuple[Any, ...], Mapping[str, Any]]:
        """The rows kept or added so far, by key, for stages that compute rows from rows; kept in memory."""
        if self._recalled is None:
            self._flush()
            self._check(stored.source for stored in self._stored.values())
            groups: dict[tuple[Path, int], list[dict[str, Any]]] = {}
            for source, group in {(stored.source, stored.group) for stored in self._stored.values()}:
                with opened_table(source) as file:
                    groups[source, group] = file.read_row_group(group).to_pylist()
            self._recalled = {
                key: groups[stored.source, stored.group][stored.row] for key, stored in self._stored.items()
            }
        return self._recalled

    def recalled(self, columns: Sequence[str] | None = None) -> TableRows:
        """The rows kept or added so far, sorted, in Arrow's memory (a tenth of the size of dictionaries)."""
        import pyarrow as pa

        self._flush()
        tables = self._sorted([key for key in self._fingerprints if key in self._stored], columns)
        return TableRows(pa.concat_tables(tables))

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one finished row; its files must already exist under :attr:`partial`."""
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
        hashes = [self._hashed_files(row) for row in self._buffer]
        part = self._write_part(self._buffer, hashes)
        for index, (row, files) in enumerate(zip(self._buffer, hashes, strict=True)):
            named = tuple(row[name] for name in self.schema.files if row.get(name))
            self._stored[self._key(row)] = StoredRow(part, 0, index, row["status"], named, row.get("reason"))
            self._hashes |= {name: sha256 for name, sha256 in files.items() if sha256}
        self._buffer.clear()

    def _key(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.schema.key)

    def _hashed_files(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Every file of a new row -> its SHA-256; empty for one that is gone, which the end of the build reports."""
        names = [row[name] for name in self.schema.files if row.get(name)]
        if folder := self._folders.get(self._key(row)):
            names += [
                file.relative_to(self.partial).as_posix()
                for file in sorted((self.partial / folder).rglob("*"))
                if file.is_file()
            ]
        return {name: file_sha256(file) if (file := self.partial / name).is_file() else "" for name in names}

    def _write_part(self, rows: Sequence[Mapping[str, Any]], hashes: Sequence[Mapping[str, str]] = ()) -> Path:
        """Write a part table; numbered, because later tables override earlier ones and clocks may jump."""
        parts = self.partial / _PARTS
        last = max((int(part.name.partition("-")[0]) for part in parts.glob("[0-9]*.parquet")), default=0)
        label = self.share.slug if self.share else "all"
        part = write_part(parts, last + 1, label, self.schema, rows, hashes or [{}] * len(rows))
        self._sources[part] = sha256_of_part(part)
        return part

    def _unfinished_rows(self) -> dict[tuple[Any, ...], OldRow]:
        """Rows of the unfinished run."""
        rows: dict[tuple[Any, ...], OldRow] = {}
        lost = []
        for part in sorted((self.partial / _PARTS).glob("[0-9]*.parquet")):
            try:
                self._sources[part] = sha256_of_part(part)
                rows |= stored_rows(part, self.schema, self._sources[part])
            except InputError:
                lost.append(part.name)
                # It may have held a second, successful try at these.
                rows = {key: row for key, row in rows.items() if row.stored.status != FAILED}
                part.unlink()
        if lost:
            self.console.warn(
                f"{self.partial}: {len(lost)} part tables are damaged or of an older version ({listed(lost, _SHOWN)}); "
                "their rows are made again"
            )
        return rows

    @cached_property
    def _old(self) -> Artifact | None:
        """The finished artifact that is to be replaced, if its manifest and table are as they were written."""
        if not exists(self.path):
            return None
        old = open_artifact(self.path)
        if old.recipe["schema_version"] != self.schema.version:
            return None
        bad = [] if follows(old) else [MANIFEST]
        bad += [] if _is(old.path / TABLE, old.manifest["files"].get(TABLE)) else [TABLE]
        if not bad:
            return old
        self.console.warn(
            f"{old.path}: {listed(bad)} is not as it was written; nothing of the old artifact is used, and all rows "
            "are made again"
        )
        return None

    def _finished_rows(self) -> dict[tuple[Any, ...], OldRow]:
        """Rows of the finished artifact, with the hashes of their files from its manifest."""
        old = self._old
        if old is None:
            return {}
        table, written = old.path / TABLE, {**old.manifest["files"], **old.manifest.get("beside", {})}
        self._sources[table] = written[TABLE]
        rows = {}
        for key, row in stored_rows(table, self.schema, written[TABLE]).items():
            folder = self._folders.get(key)
            inside = [name for name in written if folder and name.startswith(f"{folder}/")]
            rows[key] = row._replace(hashes={name: written.get(name, "") for name in (*row.stored.files, *inside)})
        return rows

    def _check(self, sources: Iterable[Path]) -> None:
        """Refuse to read rows from a table that was damaged after it was first read.

        Raises:
            InputError: naming it.
        """
        for source in dict.fromkeys(sources):
            if not _is(source, self._sources[source]):
                raise InputError(
                    f"{source} changed while rows were taken over from it",
                    "tables that nobody else writes",
                    "run the same command again: it makes the rows of a damaged table again",
                )

    def _reusable(self, row: OldRow, fingerprint: str) -> bool:
        if row.fingerprint != fingerprint or row.stored.reason in UNSETTLED:
            return False
        return not (self.retry_failed and row.stored.status == FAILED)

    def _sorted(
        self,
        chosen: Iterable[tuple[Any, ...]],
        columns: Sequence[str] | None = None,
        outcomes: Mapping[tuple[Any, ...], Mapping[str, Any]] | None = None,
    ) -> Iterator[pa.Table]:
        """Rows in the order of the final table, in batches of some thousand, with the outcomes decided at the end."""
        import pyarrow as pa

        chosen = list(chosen)
        self._check(self._stored[key].source for key in chosen)
        layout = common_layout(self.schema, dict.fromkeys(self._stored[key].source for key in chosen))
        if columns is not None:
            layout = pa.schema([field for field in layout if field.name in columns])
        keys = sorted(chosen, key=lambda key: [(part is not None, part) for part in key])
        for start in range(0, max(len(keys), 1), ROWS_AT_ONCE):
            part = keys[start : start + ROWS_AT_ONCE]
            table = collected([self._stored[key] for key in part], layout)
            updates = [(outcomes or {}).get(key, {}) for key in part]
            if any(updates):
                rows = [{**row, **more} for row, more in zip(table.to_pylist(), updates, strict=True)]
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
            info: recorded in the manifest, outside the identity.
            sources: record of the files read outside the workspace.
            beside: files under :attr:`partial` that do not enter the identity.
            outcomes: key -> declared columns of its row that depend on all rows.
        """
        written = self._write_rows(outcomes or {}) if frame is None else self._write_frame(frame)
        if written.reasons & set(UNSETTLED):
            sources = {**(sources or {}), "watch": None}  # so that the next run looks again
        self.counts.total = written.total
        self.counts.by_status = dict(sorted(Counter(written.statuses).items()))
        self._sweep(written.files)
        if self.schema.dated:
            write_atomic(self.partial / row_dates.FILE, self._dates())
            beside = (*beside, row_dates.FILE)
        manifest = self._manifest(self._file_hashes(written.files), beside, info or {}, sources or {})
        write_atomic(self.partial / MANIFEST, manifest_bytes(manifest))
        put_in_place(self.partial, self.path)
        shutil.rmtree(self.path / _PARTS, ignore_errors=True)  # not before: a run killed before its end needs them
        self._done = True
        return Artifact(self.path, manifest)

    def _write_rows(self, outcomes: Mapping[tuple[Any, ...], Mapping[str, Any]]) -> _Written:
        """Write the final table from the rows on disk."""
        self._flush()
        write_batches(self.partial / TABLE, self._sorted(self._fingerprints, outcomes=outcomes))
        rows = [self._stored[key] for key in self._fingerprints]
        statuses = [outcomes.get(key, {}).get("status", self._stored[key].status) for key in self._fingerprints]
        return _Written(
            total=len(rows),
            statuses=[str(status) for status in statuses],
            files={name for row in rows for name in row.files},
            reasons={row.reason for row in rows},
        )

    def _write_frame(self, frame: pd.DataFrame) -> _Written:
        """Write the final table from a frame."""
        write_table(self.partial / TABLE, self.schema, frame)
        return _Written(
            total=len(frame),
            statuses=[str(status) for status in frame["status"].dropna()] if "status" in frame else [],
            files={str(name) for column in self.schema.files if column in frame for name in frame[column].dropna()},
            reasons=set(frame["reason"].dropna()) if "reason" in frame else set(),
        )

    def _file_hashes(self, named: set[str]) -> dict[str, str]:
        """SHA-256 of every file of the unfinished artifact except its manifest.

        Args:
            named: files that rows name; all must exist.

        Raises:
            InputError: a file is missing.
        """
        files = [file for file in sorted(self.partial.rglob("*")) if file.is_file() and file.name != MANIFEST]
        paths = {file.relative_to(self.partial).as_posix(): file for file in files}
        paths = {name: file for name, file in paths.items() if not name.startswith(f"{_PARTS}/")}
        hashes = {name: self._hashes.get(name) or file_sha256(file) for name, file in paths.items()}
        if missing := named - hashes.keys():
            raise InputError(
                f"{len(missing)} files of {self.partial} are missing, for example {min(missing)}",
                "the files that its rows name",
                "run the same command again; no other program may remove files there during a run",
            )
        return hashes

    def _manifest(
        self, hashes: Mapping[str, str], beside: Collection[str], info: Mapping[str, Any], sources: Mapping[str, Any]
    ) -> dict[str, Any]:
        inside = {name: value for name, value in hashes.items() if name not in beside}
        return {
            "manifest_version": MANIFEST_VERSION,
            "identity": digest([self.recipe.as_dict(), inside]),
            "recipe_id": self.recipe.id,
            "recipe": self.recipe.as_dict(),
            "files": inside,
            "beside": {name: value for name, value in hashes.items() if name in beside},
            "sources": {**({} if self.watch is None else {"watch": self.watch}), **sources},
            "counts": self.counts.as_dict(),
            "info": dict(info),
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

    def finish_share(self) -> None:
        """End the build of a share, whose rows the joining run reads; does nothing in other builds.

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

    def _dates(self) -> bytes:
        """When each row last changed: carried over from the finished artifact for unchanged rows."""
        before: dict[Hashable, tuple[Hashable, row_dates.Dating]] = {}
        datings: list[row_dates.Dating] = []
        old = self._old
        if old is not None:
            datings = self._old_dates(old)
            table = contents(old.path / TABLE, self.schema, old.manifest["files"][TABLE])
            before = {key: (content, dating) for (key, content), dating in zip(table, datings, strict=False)}
        new = row_dates.now(self.run, set(datings))
        return row_dates.to_json(row_dates.carried(contents(self.partial / TABLE, self.schema), before, new))

    def _old_dates(self, old: Artifact) -> list[row_dates.Dating]:
        """When each row of the finished artifact last changed; nothing if that is damaged, so that all count as new."""
        try:
            return old.dates()
        except InputError as error:
            self.console.warn(f"{error.found}; all rows count as changed now")
            return []

    def _sweep(self, named: set[str]) -> None:
        """Remove files that no row names: temporary files of a killed writer and files of removed rows."""
        for stray in self.partial.rglob(".*.tmp"):
            stray.unlink()
        if not self.schema.files:
            return
        folders = {Path(name).parts[0] for name in named if "/" in name}
        if not named:  # no row names a folder: clean all of them
            folders = {file.name for file in self.partial.iterdir() if file.is_dir()}
        for folder in folders:
            for file in (self.partial / folder).rglob("*"):
                if file.is_file() and file.relative_to(self.partial).as_posix() not in named:
                    file.unlink()


def _is(file: Path, sha256: str | None) -> bool:
    """Whether a file is there and has this SHA-256."""
    return bool(sha256) and file.is_file() and file_sha256(file) == sha256
