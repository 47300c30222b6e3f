"""Memory that networks free is kept for what they compute next."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of ``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` in glibc's malloc.h."""


@cache
def keep_freed() -> bool:
    """Let the C library keep what is freed; says whether it does.

    By default glibc returns every large block to the system and asks for it again in the next layer, whose pages the
    system then has to clear: a fifth of the time of a training step on a processor. Results do not depend on it.
    Elsewhere than on glibc nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(_MMAP_THRESHOLD, 1 << 30)) and bool(libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1))
    return False
