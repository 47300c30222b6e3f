"""DermaCalibra (Wang et al. 2026): phone photo and 81 columns of metadata; the folders of MetaBlock as code.

Its tables are not at hand as tables: the numbers are those its text prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skinkit.studies.reading import read_study
from skinkit.studies.study import PublishedSplit, SourceTable

if TYPE_CHECKING:
    import pandas as pd

METABLOCK_FOLDS, METABLOCK_SEED, HALVES_SEED = 5, 8, 42


def metablock_folders(labels: Sequence[str], share: float = 0.0, seed: int = METABLOCK_SEED) -> pd.DataFrame:
    """The folders of MetaBlock over the whole table of PAD-UFES-20, in its order.

    Six folds by image, stratified; the last one is the test set, and the rest is divided in five anew. The test set is
    halved, stratified by class, as DermaCalibra does for the test it calls region-stratified.

    Args:
        labels: (n,) the diagnosis of every row of ``metadata.csv``.
        share: not used: each of the five folders validates one fold.
        seed: not used: the published one is :data:`METABLOCK_SEED`.

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
    return pd.DataFrame({"folder": folders, "half": halves})


STUDY = read_study(
    __file__,
    [
        PublishedSplit(
            "metablock",
            "PAD-UFES-20",
            metablock_folders,
            folds=(1, METABLOCK_FOLDS),
            seed=METABLOCK_SEED,
            over=SourceTable("pad-ufes-20", "PAD-UFES-20", "img_id", "patient_id", "lesion_id", "diagnostic"),
        )
    ],
)
