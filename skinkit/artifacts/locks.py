"""One writer per artifact: kernel locks and their holders."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from skinkit.errors import BusyError, InputError


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
    name = path.with_name(f".{path.name}.lock")
    stream = _locked(name, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + wait_s)
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
    name = path.with_name(f".{path.name}.lock")
    try:
        holder, inode = name.read_text(encoding="utf-8"), name.stat().st_ino
    except FileNotFoundError:
        return None
    locks = Path("/proc/locks")
    elsewhere = f" on {socket.gethostname()} " not in holder
    held = locks.exists() and any(line.split()[-3].endswith(f":{inode}") for line in locks.read_text().splitlines())
    return holder or "another process" if held or elsewhere else None


def _locked(name: Path, path: Path, how: int, deadline: float) -> IO[str]:
    """The lock file of an artifact, open and locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream: IO[str] = name.open("a+", encoding="utf-8")
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
