"""The decorator that compiles a kernel with numba, or loads it from the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba
from numba.core import config

from skinkit.radiomics.kernel_cache import cache_folder

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def kernel(function: Kernel) -> Kernel:
    """Compile a function on its first call, without the GIL and with IEEE division by zero."""
    folder = cache_folder()
    before = vars(config)["CACHE_DIR"]
    vars(config)["CACHE_DIR"] = str(folder or "")  # numba reads it here, and fails when it finds no writable place
    try:
        return cast("Kernel", numba.njit(cache=folder is not None, error_model="numpy", nogil=True)(function))
    finally:
        vars(config)["CACHE_DIR"] = before
