"""ISIC 2017: 2,000 training, 150 validation and 600 test images of melanoma, seborrheic keratosis and nevus.

As downloaded: ``ISIC-2017_<Part>_Data/*.jpg`` with ``ISIC-2017_<Part>_Data_metadata.csv`` (age and sex) and
``ISIC-2017_<Part>_Part3_GroundTruth.csv``; masks of Part 1 if they are unpacked. An image of neither labelled class is
a nevus. None of these files has the site: put the ISIC archive's own export of the collection (``metadata.csv``)
beside them.
"""

from __future__ import annotations

from skinkit.data.isic_archive import COLUMNS, EXPORTS, VALUES, with_our_headings
from skinkit.data.source import Arrangement, Source, TableRow

NAMED = ("melanoma", "seborrheic_keratosis")


def _part(name: str) -> Arrangement:
    return Arrangement(
        name.lower().removesuffix("_v2"),
        tables=(f"**/ISIC-2017_{name}_Part3_GroundTruth.csv",),
        optional=(f"**/ISIC-2017_{name}_Data_metadata.csv", *EXPORTS),
        images=(f"**/ISIC-2017_{name}_Data/**/*.jpg",),
        masks=(f"**/ISIC-2017_{name}_Part1_GroundTruth/**/{{stem}}_segmentation.png",),
    )


def _labelled(rows: list[TableRow]) -> list[TableRow]:
    """Add nevus, the class without a column of its own."""
    out = []
    for number, cells in with_our_headings(rows):
        labels = [cells[name] for name in NAMED if cells.get(name)]
        rest = {"nevus": "0" if any(float(text) > 0.5 for text in labels) else "1"} if len(labels) == len(NAMED) else {}
        out.append(TableRow(number, {**cells, **rest}))
    return out


SOURCE = Source(
    name="isic-2017",
    title="ISIC 2017, dermoscopic images in three classes",
    citation=(
        "N. Codella et al., Skin Lesion Analysis Toward Melanoma Detection: A Challenge at the 2017 International "
        "Symposium on Biomedical Imaging (ISBI), hosted by the International Skin Imaging Collaboration, "
        "arXiv:1710.05006"
    ),
    licence="CC0 1.0",
    parts=(_part("Training"), _part("Validation"), _part("Test_v2")),
    columns=COLUMNS,
    one_hot=(*NAMED, "nevus"),
    values=VALUES,
    constants={"modality": "dermoscopic"},
    id_space="isic",
    rows=_labelled,
)
