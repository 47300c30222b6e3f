"""ISIC 2016: 900 training and 379 test images labelled benign or malignant.

As downloaded: ``ISBI2016_ISIC_Part3_<Part>_Data/*.jpg`` and ``ISBI2016_ISIC_Part3_<Part>_GroundTruth.csv``, a table of
two columns without headings, with masks of Part 1 if they are unpacked (or ``Part3B``, which has both). These files
lack age, sex, site and the exact diagnosis: put the ISIC archive's own export of the collection (``metadata.csv``)
beside them. Without it a malignant lesion is a melanoma, as the challenge defines it, and a benign one has no exact
diagnosis: it is predicted, but neither trained on nor scored.
"""

from __future__ import annotations

import re

from skinkit.data.isic_archive import COLUMNS, EXPORTS, VALUES, with_our_headings
from skinkit.data.source import Arrangement, Dialect, Source, TableRow

MALIGNANT = "malignant"
_LABELS = {"benign": "0", "malignant": "1"}


def _part(name: str, task: str) -> Arrangement:
    return Arrangement(
        name.lower(),
        tables=(f"**/ISBI2016_ISIC_{task}_{name}_GroundTruth.csv",),
        optional=EXPORTS,
        images=(f"**/ISBI2016_ISIC_{task}_{name}_Data/**/*.jpg",),
        masks=(
            f"**/ISBI2016_ISIC_Part1_{name}_GroundTruth/**/{{stem}}_Segmentation.png",
            f"**/ISBI2016_ISIC_{task}_{name}_Data/**/{{stem}}_Segmentation.png",
        ),
    )


def _labelled(rows: list[TableRow]) -> list[TableRow]:
    """Bring the labels together: the training table has benign or malignant, the test table 0 or 1."""
    out = []
    for number, cells in with_our_headings(rows):
        word = cells.get(MALIGNANT, "").casefold()
        if re.match(r"ISIC_\d", cells["image"], re.IGNORECASE):  # skip an added header line
            out.append(TableRow(number, {**cells, MALIGNANT: _LABELS.get(word, word)}))
    return out


SOURCE = Source(
    name="isic-2016",
    title="ISIC 2016, dermoscopic images called benign or malignant",
    citation=(
        "D. Gutman et al., Skin Lesion Analysis toward Melanoma Detection: A Challenge at ISBI 2016, hosted by the "
        "International Skin Imaging Collaboration, 2016, arXiv:1605.01397"
    ),
    licence="CC0 1.0",
    parts=tuple(_part(name, task) for task in ("Part3", "Part3B") for name in ("Training", "Test")),
    columns=COLUMNS,
    one_hot=(MALIGNANT,),
    values=VALUES,
    constants={"modality": "dermoscopic"},
    id_space="isic",
    dialect=Dialect(headings=("image", MALIGNANT)),
    rows=_labelled,
)
