"""File permissions: with ``private = true`` in ``[workspace]`` of ``skinkit.toml``, only the owner can read outputs.

Files are then made with mode 0600 and folders with 0700, regardless of the umask of the user's shell: artifacts,
unfinished work, temporary files, exports, and what worker processes write.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

OWNER_ALONE = 0o077
"""The umask that denies all access to other users."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def umask() -> int:
    """This process's umask."""
    now = os.umask(OWNER_ALONE)
    os.umask(now)
    return now


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Put the umask back afterwards."""
    before = umask()
    try:
        yield
    finally:
        os.umask(before)


def keep_private(artifacts: Path) -> None:
    """Make this process, and workers it starts from now on, write files that only the owner can read.

    Existing artifacts are closed once; the mode of their folder then marks that this was done.
    """
    os.umask(OWNER_ALONE)
    if artifacts.is_dir() and open_to_others(artifacts):
        for folder, _, names in os.walk(artifacts, topdown=False):
            for name in names:
                close(Path(folder, name))
            close(Path(folder))


def open_to_others(path: Path) -> bool:
    """Whether other users of the machine have any permission on the file or folder."""
    return bool(path.lstat().st_mode & _OTHERS)


def close(path: Path) -> None:
    """Remove all permissions of other users on a file or folder; the target of a link is not changed."""
    mode = path.lstat().st_mode
    if not stat.S_ISLNK(mode) and mode & _OTHERS:
        path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
