"""The cache folder of compiled kernels, and the lock that lets one process compile them.

Compiling takes many seconds, loading a compiled kernel milliseconds. The folder is the first writable one of
``NUMBA_CACHE_DIR``, ``SKINKIT_CACHE_DIR``, the user's cache (``XDG_CACHE_HOME``, else ``~/.cache``) and the system's
temporary folder; without one, kernels are not cached. numba's cache files are pickles, the one exception to skinkit's
rule against them, so the folder must belong to this user alone (mode 0700).

numba detects changes in a kernel's own file, but not in the files of kernels it calls. The folder's name therefore
contains a digest of all kernel sources and of numba's version. This module does not import numba.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def cache_folder() -> Path | None:
    """The folder of compiled kernels, created if necessary; None if no candidate is writable."""
    named = [os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("SKINKIT_CACHE_DIR")]
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "skinkit"
    places = [*(Path(place) for place in named if place), user, Path(tempfile.gettempdir()) / f"skinkit-{os.getuid()}"]
    for place in places:
        if _private(place) and _private(place / f"kernels-{_digest()}"):
            return place / f"kernels-{_digest()}"
    return None


def _private(folder: Path) -> bool:
    """Create the folder; whether it belongs to this user, is writable and closed to others."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            return False
        folder.chmod(0o700)
        with tempfile.TemporaryFile(dir=folder):  # a read-only or full disk shows only when written
            return True
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return False


@cache
def _digest() -> str:
    content = hashlib.sha256(version("numba").encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        content.update(source.name.encode() + source.read_bytes())
    return content.hexdigest()[:16]


def compile_once(name: str, call_all: Callable[[], object], announce: Callable[[str], None] | None = None) -> None:
    """Let one process on this machine compile a set of kernels, while the others wait for its cache files.

    Args:
        name: of the set; a stamp file of that name in the cache marks it as complete.
        call_all: calls every kernel of the set, which compiles it.
        announce: called with a message before compiling.
    """
    if name in _settled:
        return
    _settled.add(name)  # so that the calls in call_all go ahead
    folder = cache_folder()
    if folder is None or (folder / f"{name}.compiled").exists():
        return
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the system when this process ends, however it ends
        if (folder / f"{name}.compiled").exists():
            return
        if announce:
            announce("compiling the radiomics kernels, once on this machine (half a minute)")
        call_all()
        (folder / f"{name}.compiled").touch()


_settled: set[str] = set()
"""Sets that this process has already checked."""
