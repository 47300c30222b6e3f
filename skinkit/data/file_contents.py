"""What the files of a cohort contain, hashed once: a file that was touched, copied or moved is still the same file.

``file_contents.json`` lies beside the cases, outside their identity: path -> stamp and SHA-256. The stamp is a hash of
size and modification time; where it is the recorded one, the file is not read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from skinkit.artifacts.artifact import MANIFEST
from skinkit.artifacts.file_names import on_disk
from skinkit.artifacts.files import digest, sealed, unsealed, write_atomic
from skinkit.errors import CaseError

FILE = "file_contents.json"
_OF_SHARE = "file_contents.{}.json"
_ANY = "file_contents*.json"
_STAMP_SIGNS = 16


class Content(NamedTuple):
    """One file: a stamp of its size and modification time, and the SHA-256 of its bytes, None where unreadable."""

    stamp: str
    sha256: str | None


Contents = Mapping[str, Content]
"""Path relative to the cohort's folder -> content."""


def read(*folders: Path) -> dict[str, Content]:
    """What was recorded in these folders, by shares of a run too; later ones win."""
    out: dict[str, Content] = {}
    for file in (file for folder in folders for file in sorted(folder.glob(_ANY))):
        try:
            out |= {str(path): Content(*map(str, value)) for path, value in _recorded(file).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            continue  # absent or damaged: its files are read again
    return out


def _recorded(file: Path) -> dict[str, list[str]]:
    """The values of a record that is as it was written.

    Raises:
        OSError, ValueError, TypeError, AttributeError: it is not.
    """
    data = file.read_bytes()
    try:
        values: dict[str, list[str]] = unsealed(data)
    except ValueError:  # of an older version, which wrote no checksum into it: the manifest has one
        manifest = json.loads((file.parent / MANIFEST).read_bytes())
        if manifest["beside"].get(file.name) != hashlib.sha256(data).hexdigest():
            raise
        values = json.loads(data)
    return values


def write(folder: Path, contents: Contents, share: str = "") -> None:
    """Record the files that could be read.

    Args:
        folder: of the artifact.
        contents: of all files, or of those of a share.
        share: name of the share; the record of all files replaces those of shares.
    """
    values = {path: list(content) for path, content in sorted(contents.items()) if content.sha256}
    data = sealed(values)
    if share:
        write_atomic(folder / _OF_SHARE.format(share), data)
        return
    write_atomic(folder / FILE, data)
    for file in folder.glob(_OF_SHARE.format("*")):
        file.unlink()


def of_files(
    root: Path,
    paths: Iterable[str],
    known: Contents,
    *,
    jobs: int = 1,
    progress: Callable[[int], AbstractContextManager[Callable[[], None]]] | None = None,
) -> dict[str, Content]:
    """The content of these files; those with a new stamp are read.

    Args:
        root: the cohort's folder.
        paths: relative to it.
        known: what was recorded before.
        jobs: files read at once.
        progress: shows how many files have been read of so many.
    """
    stamps = {path: _stamp(on_disk(root / path)) for path in dict.fromkeys(paths)}
    out = {path: known[path] for path, stamp in stamps.items() if path in known and known[path].stamp == stamp}
    fresh = [path for path in stamps if path not in out]

    def hashed() -> Iterator[tuple[str, str | None]]:
        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            yield from zip(fresh, pool.map(lambda path: _sha256(on_disk(root / path)), fresh), strict=True)

    if progress is None or not fresh:
        return out | {path: Content(stamps[path], sha256) for path, sha256 in hashed()}
    with progress(len(fresh)) as tick:
        for path, sha256 in hashed():
            out[path] = Content(stamps[path], sha256)
            tick()
    return out


def unchanged(root: Path, paths: Iterable[str], known: Contents) -> bool:
    """Whether these are the recorded files with the recorded contents, whatever their times say."""
    paths = set(paths)
    if not paths <= known.keys():
        return False
    now = of_files(root, paths, known)
    return all(content.sha256 == known[path].sha256 for path, content in now.items())


def _stamp(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return ""
    return digest([status.st_size, status.st_mtime_ns])[:_STAMP_SIGNS]


def _sha256(file: Path) -> str | None:
    from skinkit.images.pixels import read_bytes

    try:
        return hashlib.sha256(read_bytes(file)).hexdigest()
    except CaseError:  # a pipe, too large, not there, ...: its row says why
        return None
