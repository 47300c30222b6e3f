"""ISIC 2019 as an external cohort of a PAD-UFES-20 model: 5,000 images, metadata drawn (B. Wang et al. 2026).

The archive is that of ``isic-2019``. Dermatofibroma and vascular lesions, which PAD-UFES-20 lacks, are left out. The
paper calls its numbers stratified, but they are not in proportion to the archive: ``counts = "paper"`` (the default)
uses them as printed, ``counts = "proportional"`` keeps the archive's shares. HAM10000 is part of ISIC 2019, so this
cohort and one of ``ham10000-pad`` may share images. :mod:`skinkit.data.drawn_cohorts` describes how metadata are drawn.
"""

from __future__ import annotations

from dataclasses import replace

from skinkit.data.drawn_cohorts import OPTIONS
from skinkit.data.isic_2019 import SOURCE as ISIC_2019
from skinkit.data.source import Draw

PUBLISHED = {
    "actinic_keratosis": 298,
    "basal_cell_carcinoma": 1177,
    "melanoma": 428,
    "nevus": 2325,
    "squamous_cell_carcinoma": 82,
    "benign_keratosis": 690,
}

SOURCE = replace(
    ISIC_2019,
    name="isic-2019-pad",
    title="ISIC 2019, drawn by class, with metadata of PAD-UFES-20 drawn for it",
    options={**OPTIONS, "counts": "paper: as printed; proportional: the archive's shares"},
    draw=Draw(n=5000, diagnoses=tuple(PUBLISHED), published=PUBLISHED),
)
