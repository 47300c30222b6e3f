"""ISIC 2018 Task 3: HAM10000 as training part, 193 validation and 1,512 test images with labels only.

As downloaded: ``ISIC2018_Task3_<Part>_Input/*.jpg`` and ``ISIC2018_Task3_<Part>_GroundTruth/*.csv``, with
``ISIC2018_Task3_Training_LesionGroupings.csv`` for the training part. A folder that holds several parts needs ``part``
in the cohort's table of ``skinkit.toml``. Age, sex and site of the test part are in the table of the same name at
Harvard Dataverse (columns of HAM10000, ``dx`` for the label), or in the ISIC archive's own export (``metadata.csv``),
which is read if it is beside the challenge's files.
"""

from __future__ import annotations

from skinkit.data.ham10000 import SOURCE as HAM10000
from skinkit.data.isic_archive import COLUMNS, EXPORTS, VALUES, with_our_headings
from skinkit.data.source import Arrangement, Source, TableRow


def _part(name: str) -> Arrangement:
    return Arrangement(
        name.lower(),
        tables=(f"**/ISIC2018_Task3_{name}_GroundTruth.csv",),
        optional=(f"**/ISIC2018_Task3_{name}_LesionGroupings.csv", *EXPORTS),
        images=(f"**/ISIC2018_Task3_{name}_Input/**/*", "images/**/*"),
    )


def _labelled(rows: list[TableRow]) -> list[TableRow]:
    """Prefer the challenge's label to the archive's finer diagnosis."""
    return [TableRow(number, {"dx": "", **cells}) for number, cells in with_our_headings(rows)]


SOURCE = Source(
    name="isic-2018-task3",
    title="ISIC 2018 Task 3, dermoscopic images in seven classes",
    citation=(
        "N. Codella et al., Skin Lesion Analysis Toward Melanoma Detection 2018: A Challenge Hosted by the "
        f"International Skin Imaging Collaboration, 2019, arXiv:1902.03368; {HAM10000.citation}"
    ),
    licence="CC BY-NC 4.0",
    parts=(
        _part("Test"),
        _part("Validation"),
        _part("Training"),
        Arrangement("test", tables=("labels.csv",), images=("images/**/*",)),
    ),
    columns={**COLUMNS, "diagnosis": "dx"},
    one_hot=("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"),
    values=VALUES,
    constants={"modality": "dermoscopic"},
    id_space="isic",
    rows=_labelled,
)
