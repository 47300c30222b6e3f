"""Importing this module loads the compiled kernels, for processes that are forked once it is done.

The loaded objects are permanent, so they are frozen for the garbage collector: a collection in a forked worker would
copy them page by page (see ``gc.freeze`` in Python's documentation).
"""

from __future__ import annotations

import gc

gc.disable()

import numpy as np  # noqa: E402

from skinkit.radiomics import extract  # noqa: E402

extract(np.zeros((4, 4), dtype=np.uint8), np.eye(4, dtype=np.bool_))

gc.freeze()
gc.enable()
