"""One writer per artifact: kernel locks and their holders."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from skinkit.errors import BusyError, InputError

ENDING = ".lock"
_MOMENT_S = 0.1
"""How long to wait for a run that holds a lock only to see whether it is left over."""


# ------------------------------------------------------------------------------------------------------ lock
@contextlib.contextmanager
def lock(path: Path, *, shared: bool = False, wait_s: float = 0) -> Iterator[None]:
    """Hold the writer's lock of an artifact.

    The kernel releases the lock when its holder dies, so a lock file left by a crash does no harm. Its content (host,
    process, time) is used only in the error message.

    Args:
        path: the artifact's folder.
        shared: share the lock with other shared holders, such as the shares of one artifact.
        wait_s: seconds to wait for another holder.

    Raises:
        BusyError: another process holds it.
        InputError: the file system has no locks.
    """
    name = path.with_name(f".{path.name}{ENDING}")
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    stream = _locked(name, path, how, time.monotonic() + max(wait_s, _MOMENT_S))
    try:
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        stream.flush()
        yield
    finally:
        with contextlib.suppress(OSError):  # the last of several holders removes the file
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            name.unlink(missing_ok=True)
        stream.close()


def writer_of(path: Path) -> str | None:
    """Who is writing an artifact now, in words; None without a writer. Takes no lock, so it delays no writer.

    A writer on another machine is detected by its lock file only, which may be left over from a crash there.
    """
    name = path.with_name(f".{path.name}{ENDING}")
    try:
        holder, inode = name.read_text(encoding="utf-8"), name.stat().st_ino
    except FileNotFoundError:
        return None
    elsewhere = f" on {socket.gethostname()} " not in holder
    return holder or "another process" if inode in locked_files() or elsewhere else None


def locked_files() -> frozenset[int]:
    """Inodes of the files that processes of this machine have locked."""
    locks = Path("/proc/locks")
    lines = locks.read_text(encoding="utf-8").splitlines() if locks.exists() else []
    return frozenset(int(line.split()[-3].rpartition(":")[2]) for line in lines)


@contextlib.contextmanager
def unheld(file: Path) -> Iterator[None]:
    """Hold the lock of a file that a process may have left behind.

    Raises:
        BusyError: a process has locked it, or has just replaced it.
        OSError: it cannot be opened or locked.
    """
    number = os.open(file, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(number), file.stat()):
            raise BlockingIOError
        yield
    except BlockingIOError:
        raise BusyError(f"{file} is in use", "a file without a writer", "wait for its writer") from None
    finally:
        os.close(number)


def _opener(name: str, flags: int) -> int:
    """Open a lock file, but never what a link points to: it would be emptied.

    Raises:
        InputError: it is a symbolic link.
    """
    try:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(
            f"{name} is a symbolic link", "a file that skinkit wrote, or nothing", "remove that link"
        ) from None


def _locked(name: Path, path: Path, how: int, deadline: float) -> IO[str]:
    """The lock file of an artifact, open and locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream: IO[str] = open(name, "a+", encoding="utf-8", opener=_opener)  # noqa: SIM115 - the caller closes it
        try:
            fcntl.flock(stream, how | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(stream.fileno()), name.stat()):
                return stream
            stream.close()  # the holder removed it between our opening and locking it
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
