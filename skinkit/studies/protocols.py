"""How published studies divided their images, reproduced draw by draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

TUNING_SHARE = 0.25
"""Share of the development images that Wang et al. 2024 tune on."""
METABLOCK_FOLDS, METABLOCK_SEED, HALVES_SEED = 5, 8, 42
LEFT_OUT_FILE = "left_out.csv"
"""Cases of development cohorts that are in no part, beside a split and beside the models trained on it."""
HALF = "half"
"""Column of the halves A and B of MetaBlock's test set."""


def tuning_rows(labels: Sequence[str], share: float = TUNING_SHARE, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Which images are tuned on: a share of each class, drawn by image, whoever's images they are.

    Args:
        labels: (n,) class of every image; each class has two or more.
        share: of the images, 0 to 1.
        seed: of the drawing, which the paper does not tell.

    Returns:
        (n,) true where tuned on; the rest is trained on.

    Source: Wang et al., Scientific Reports 14, 2024: 24,288 of 32,384 images for training, 8,096 for tuning.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedShuffleSplit

    chosen: npt.NDArray[np.bool_] = np.zeros(len(labels), dtype=bool)
    _, tuning = next(StratifiedShuffleSplit(1, test_size=share, random_state=seed).split(chosen, labels))
    chosen[tuning] = True
    return chosen


def metablock_folds(labels: Sequence[str]) -> pd.DataFrame:
    """The folders of MetaBlock over the whole table of PAD-UFES-20, in its order.

    Six folds by image, stratified; the last one is the test set, and the rest is divided in five anew. The test set is
    halved, stratified by class, as DermaCalibra does for the test it calls region-stratified.

    Args:
        labels: (n,) the diagnosis of every row of ``metadata.csv``.

    Returns:
        (n,) rows of ``folder`` (1 to 5, or 0 for the test set) and ``half`` (``A``, ``B`` or null).

    Source: Pacheco & Krohling, IEEE JBHI 25(9), 2021; Wang et al., Diagnostics 16(4), 630, 2026.
    """
    import numpy as np
    import pandas as pd
    from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

    y = np.array(labels, dtype=object)
    outer = StratifiedKFold(METABLOCK_FOLDS + 1, shuffle=True, random_state=METABLOCK_SEED)
    rest, test = list(outer.split(y, y))[-1]
    folders, halves = np.zeros(len(y), dtype=int), np.full(len(y), None, dtype=object)
    inner = StratifiedKFold(METABLOCK_FOLDS, shuffle=True, random_state=METABLOCK_SEED)
    for folder, (_, chosen) in enumerate(inner.split(rest, y[rest]), start=1):
        folders[rest[chosen]] = folder
    halving = StratifiedShuffleSplit(1, test_size=0.5, random_state=HALVES_SEED)
    for name, half in zip("AB", next(halving.split(test, y[test])), strict=True):
        halves[test[half]] = name
    return pd.DataFrame({"folder": folders, HALF: halves})
