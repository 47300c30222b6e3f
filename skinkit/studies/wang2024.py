"""Wang et al. 2024: photo, lesion mask, radiomic signature and metadata in one ResNet-50; its split as code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skinkit.errors import InputError
from skinkit.studies.reading import read_study
from skinkit.studies.study import PublishedSplit

if TYPE_CHECKING:
    import pandas as pd

TUNING_SHARE = 0.25
"""8,096 of the 32,384 development images."""
TUNING, TRAINING = 1, 2


def paper_folders(labels: Sequence[str], share: float = TUNING_SHARE, seed: int = 0) -> pd.DataFrame:
    """Tuning images, drawn by image within each class whatever their patient; there is no test set.

    Args:
        labels: (n,) class of every image; each class has two or more.
        share: tuned on, 0 to 1.
        seed: of the drawing, which the paper does not print.

    Returns:
        (n,) rows of ``folder``: 1 is tuned on, 2 trained on.

    Raises:
        InputError: a class has one image.

    Source: Wang et al., Scientific Reports 14, 2024: 24,288 of 32,384 images for training, 8,096 for tuning.
    """
    import numpy as np
    import pandas as pd
    from sklearn.model_selection import StratifiedShuffleSplit

    rarest, n = min(Counter(labels).items(), key=lambda item: item[1])
    if n < 2:
        raise InputError(
            f"class {rarest} has one case",
            "two cases of every class, one on either side",
            "add cases, or leave the class out with --classes FILE",
        )
    folders = np.full(len(labels), TRAINING)
    _, tuning = next(StratifiedShuffleSplit(1, test_size=share, random_state=seed).split(folders, labels))
    folders[tuning] = TUNING
    return pd.DataFrame({"folder": folders})


STUDY = read_study(
    __file__,
    [
        PublishedSplit(
            "paper",
            "Wang 2024",
            paper_folders,
            validation=TUNING_SHARE,
            overlap="ISIC 2019 holds HAM10000, the images of ISIC 2018",
        )
    ],
)
