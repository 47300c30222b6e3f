"""Importing this module loads the compiled kernels, for processes that are forked once it is done.

What is loaded stays for good, so it is kept out of the garbage collector's way: a worker that went over it would copy
it page by page (see ``gc.freeze`` in Python's documentation).
"""

from __future__ import annotations

import gc

gc.disable()

import numpy as np  # noqa: E402

from skinkit.radiomics import extract  # noqa: E402

extract(np.zeros((4, 4), dtype=np.uint8), np.eye(4, dtype=np.bool_))

gc.freeze()
gc.enable()
