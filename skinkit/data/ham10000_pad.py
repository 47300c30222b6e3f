"""HAM10000 as an external cohort of a PAD-UFES-20 model: 2,000 images, metadata drawn (B. Wang et al. 2026).

The archive is that of ``ham10000``. Dermatofibroma and vascular lesions, which PAD-UFES-20 lacks, are left out; the
other classes keep their shares. HAM10000 has no squamous cell carcinoma: ``scc = "add628"`` adds the 628 of ISIC 2019,
whose archive must then be in the same folder. :mod:`skinkit.data.drawn_cohorts` describes how metadata are drawn.
"""

from __future__ import annotations

from dataclasses import replace

from skinkit.data.drawn_cohorts import OPTIONS
from skinkit.data.ham10000 import SOURCE as HAM10000
from skinkit.data.source import Draw

SOURCE = replace(
    HAM10000,
    name="ham10000-pad",
    title="HAM10000, drawn by class, with metadata of PAD-UFES-20 drawn for it",
    options={**OPTIONS, "scc": "drop (HAM10000 has none), or add628: those of ISIC 2019 below the same folder"},
    draw=Draw(
        n=2000,
        diagnoses=("actinic_keratosis", "basal_cell_carcinoma", "melanoma", "nevus", "benign_keratosis"),
    ),
)
