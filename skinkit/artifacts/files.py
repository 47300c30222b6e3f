"""Atomic writes that are flushed to disk and renamed into place; SHA-256 of values and files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from skinkit.artifacts.locks import unheld
from skinkit.errors import UNUSABLE, BusyError, ConfigError, InputError

TEMPORARY = re.compile(r"\..{0,64}\.[0-9a-f]{16}\.tmp", re.DOTALL)
"""Name of a file that is being written, or that a killed run left."""


def digest(value: object) -> str:
    """SHA-256 of a JSON-serialisable value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(value: Any) -> bytes:
    """A JSON value with its own checksum, for files that no manifest describes."""
    plain = json.loads(json.dumps(value, ensure_ascii=False))
    return json.dumps({"sha256": digest(plain), "value": plain}, ensure_ascii=False).encode()


def unsealed(data: bytes) -> Any:
    """The value of :func:`sealed`.

    Raises:
        ValueError: it is not JSON with a checksum, or no longer what was written.
    """
    found = json.loads(data)
    if not isinstance(found, dict) or found.get("sha256") != digest(found.get("value")):
        raise ValueError("not as it was written")
    return found["value"]


def json_values(value: Any) -> Any:
    """Values for JSON, recursively: arrays and NumPy numbers as Python's own, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): json_values(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(one) for one in value]
    if hasattr(value, "tolist"):
        return json_values(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes, *, outside: bool = False) -> None:
    """Write a file atomically: readers, also after a crash, see all of it or none.

    Args:
        path: the file.
        data: its content.
        outside: as of :func:`written_whole`.
    """
    with written_whole(path, outside=outside) as stream:
        stream.write(data)


@contextlib.contextmanager
def written_whole(path: Path, *, outside: bool = False) -> Iterator[IO[bytes]]:
    """A file to write that is renamed to its final name once it is complete and flushed.

    Args:
        path: the file.
        outside: it goes to a folder that is not skinkit's, which must be there, and where a killed run may leave
            nothing: the file has no name until it is complete, and what a run left that was killed between naming and
            renaming it, or on a file system where every file has a name, is removed by the next one.

    Raises:
        InputError: it cannot be written; an existing file is unchanged.
        ConfigError: the file is one of :func:`keeping`.
    """
    _refuse_kept(path)
    temporary = path
    try:
        if outside:
            _remove_unfinished(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as open_file:
            while temporary == path:
                # Not the process id: two machines that share a disk may use the same one.
                name = path.with_name(f".{path.stem[:64]}.{secrets.token_hex(8)}.tmp")
                stream = open_file.enter_context(_opened_outside(name) if outside else name.open("wb"))
                if outside or _claimed(stream, name):
                    temporary = name
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if outside and not temporary.exists():
                # With a folder it is linkat(2), which takes the file and not the link to it.
                os.link(f"{_OPEN_FILES}/{stream.fileno()}", temporary, src_dir_fd=stream.fileno())
            os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {_WHY.get(error.errno or 0, error.strerror or error)}",
            "room and permission to write; finished artifacts are untouched",
            "free some space or repair the disk, then run the same command again: it resumes where it stopped",
        ) from error
    finally:
        if temporary != path:
            with contextlib.suppress(OSError):  # already renamed, or its disk is gone
                temporary.unlink(missing_ok=True)


_kept: set[Path] = set()


@contextlib.contextmanager
def keeping(paths: Collection[Path]) -> Iterator[None]:
    """Meanwhile this process replaces none of these files, which somebody else wrote."""
    added = {_place(path) for path in paths} - _kept
    _kept.update(added)
    try:
        yield
    finally:
        _kept.difference_update(added)


def _refuse_kept(path: Path) -> None:
    if _kept and _place(path) in _kept:
        raise ConfigError(
            f"{path} is a file that skinkit did not write, or that was changed since",
            "a new file, or one as skinkit wrote it",
            "move or rename it, or name another folder; then run the same command again",
        )


def _place(path: Path) -> Path:
    """Where a name is, whatever it is a link to."""
    return path.parent.resolve() / path.name


def _claimed(stream: IO[bytes], path: Path) -> bool:
    """Lock a temporary file while it is written, so that nobody sweeps it; False if that just happened."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError:  # no locks here: then nobody can take it for left over either
        return True
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


_WHY = {**UNUSABLE, errno.ENOENT: "its folder is gone"}
_OPEN_FILES = "/proc/self/fd"
_NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


def _opened_outside(temporary: Path) -> IO[bytes]:
    """A new file without a name, or with this one where the file system has no others; locked while it is written."""
    stream: IO[bytes] | None = None
    if os.path.isdir(_OPEN_FILES):
        try:
            stream = os.fdopen(os.open(temporary.parent, os.O_TMPFILE | os.O_RDWR, 0o666), "w+b")
        except OSError as error:
            if error.errno not in _NO_NAMELESS_FILES:
                raise
    stream = stream or temporary.open("x+b")
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return stream


def _remove_unfinished(path: Path) -> None:
    """Remove temporary files of a path that no process is writing."""
    for left in path.parent.glob(f".{glob.escape(path.stem[:64])}.{'[0-9a-f]' * 16}.tmp"):
        with contextlib.suppress(OSError, BusyError), unheld(left):
            left.unlink()


def _settle_folders(root: Path) -> None:
    """Flush the directory entries below a folder to the disk; the files are flushed already."""
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        settle_folder(folder)


def settle_folder(folder: Path) -> None:
    """Flush the names of the files in a folder to the disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do not support it
            raise
    finally:
        os.close(number)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a finished folder to its final name, in two renames; the caller must hold the lock of ``path``.

    Args:
        partial: the complete new folder, including its manifest.
        path: its final name; an existing folder becomes ``NAME.previous`` first, where readers find it meanwhile.
    """
    previous = path.with_name(path.name + ".previous")
    _settle_folders(partial)
    if path.exists():
        if previous.exists():
            shutil.rmtree(previous)
        os.rename(path, previous)
    os.rename(partial, path)
    settle_folder(path.parent)
    shutil.rmtree(previous, ignore_errors=True)  # files still open on another machine are removed next time


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
