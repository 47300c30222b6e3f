"""What killed runs leave beside the artifacts, and its removal.

``NAME.previous`` beside a finished ``NAME``, ``NAME.installing``, ``.NAME.lock`` that nobody holds, and temporary
files whose writer is gone, also those directly in the workspace's folder. The kernel drops a lock with its holder, so
what can be locked has no writer. ``NAME.partial`` is no leftover here: the next run of its stage resumes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from skinkit.artifacts.artifact import MANIFEST
from skinkit.artifacts.files import TEMPORARY
from skinkit.artifacts.locks import ENDING, lock, locked_files, unheld, writer_of
from skinkit.artifacts.tables import TABLE
from skinkit.errors import BusyError, InputError

PREVIOUS, PARTIAL, INSTALLING = ".previous", ".partial", ".installing"
_PLACES = ("artifacts", "cache")


def leftovers(workspace: Path) -> Iterator[Path]:
    """The leftovers of a workspace, sorted. Takes no lock, so it delays no writer."""
    held = locked_files()
    for path in _candidates(workspace):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if path.name.endswith(ENDING):
                written = writer_of(path.with_name(path.name[1 : -len(ENDING)])) is not None
            elif path.is_dir():
                written = writer_of(path.with_suffix("")) is not None
            else:
                written = path.stat().st_ino in held
            if not written:
                yield path


def sweep(workspace: Path) -> int:
    """Remove the leftovers of a workspace whose writers are gone; returns how many were removed."""
    removed = 0
    for path in list(_candidates(workspace)):
        # A disk that became read-only, or a run that started meanwhile, keeps them until the next time.
        with contextlib.suppress(OSError, BusyError, InputError):
            remove(path)
            removed += 1
    return removed


def remove(path: Path) -> None:
    """Remove a leftover, unless a writer holds it; of a symbolic link the link alone.

    Raises:
        BusyError: a writer holds it.
        InputError: its file system has no locks.
        OSError: it cannot be removed.
    """
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        with lock(path.with_suffix("")):
            shutil.rmtree(path)
    else:
        with unheld(path):
            path.unlink()


def _candidates(workspace: Path) -> Iterator[Path]:
    """What may be left over, by its name and place."""
    for place in _PLACES:
        yield from _below(workspace / place)
    with contextlib.suppress(OSError):  # removed meanwhile, or closed to this user
        yield from sorted(p for p in workspace.iterdir() if TEMPORARY.fullmatch(p.name) and _is_file(p))


def _below(folder: Path) -> Iterator[Path]:
    """The same in a folder; finished artifacts are not searched, because their files number thousands."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # removed meanwhile, or closed to this user
        return
    for entry in entries:
        path = Path(entry.path)
        if not entry.is_dir(follow_symlinks=False):
            if entry.is_file(follow_symlinks=False) and is_own(entry.name):
                yield path
        elif path.name.endswith(INSTALLING):
            yield path
        elif path.name.endswith(PREVIOUS):
            if _is_finished(path.with_suffix("")):
                yield path
        elif path.name.endswith(PARTIAL):
            yield from (file for file in sorted(path.rglob(".*.tmp")) if is_own(file.name))
        elif not (path / MANIFEST).is_file():
            yield from _below(path)


def refuse_links(artifact: Path) -> None:
    """Refuse symbolic links in the place of what is written: tables of patients would end up outside.

    Raises:
        InputError: naming the link.
    """
    places = [artifact.with_name(artifact.name + end) for end in (PARTIAL, PREVIOUS, INSTALLING)]
    if places[0].is_dir() and not places[0].is_symlink():
        places += places[0].iterdir()
    for place in places:
        if place.is_symlink():
            raise InputError(
                f"{place} is a symbolic link to {place.readlink()}",
                "a folder or file that skinkit wrote there, or nothing",
                "remove that link; skinkit writes and removes nothing through it",
            )


def is_own(name: str) -> bool:
    """Whether a file of this name is a lock or a temporary file of skinkit."""
    return TEMPORARY.fullmatch(name) is not None or (name.startswith(".") and name.endswith(ENDING))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_finished(artifact: Path) -> bool:
    return (artifact / MANIFEST).is_file() and (artifact / TABLE).is_file()
