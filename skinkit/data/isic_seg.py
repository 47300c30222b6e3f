"""ISIC images with masks drawn by experts: the segmentation tasks of ISIC 2016, 2017 and 2018.

As downloaded: ``ISBI2016_ISIC_Part1_<Part>_Data``, ``ISIC-2017_<Part>_Data`` or ``ISIC2018_Task1-2_<Part>_Input`` with
the folder of masks (``*_GroundTruth``) beside it. Every image is a case; labels of ISIC 2017's Part 3 and its patient
data are joined where their CSV files are found. A plain arrangement is ``images/`` and ``masks/`` with the same names,
with an optional ``manifest.csv``.
"""

from __future__ import annotations

from skinkit.data.isic_2019 import COLUMNS, LABELS, SITES, UNKNOWN_AGES
from skinkit.data.source import Arrangement, Source, TableRow

_MASKS = ("**/*_GroundTruth/**/{stem}_segmentation.png", "masks/{stem}.*")


def _part(name: str) -> Arrangement:
    return Arrangement(
        name.lower().removesuffix("_v2"),
        tables=(f"**/ISIC-2017_{name}_Part3_GroundTruth.csv",),
        optional=(f"**/ISIC-2017_{name}_Data_metadata.csv",),
        images=(f"**/ISIC-2017_{name}_Data/**/*.jpg",),
    )


def _labelled(rows: list[TableRow]) -> list[TableRow]:
    """Unify the column names; an image of neither class of ISIC 2017 is a nevus."""
    out = []
    for number, cells in rows:
        named = dict(cells)
        if "image_id" in named:
            named["image"] = named["image_id"]
            named["age_approx"] = named.get("age_approximate", "")
        melanoma, keratosis = (
            named.get(name) or named.get(f"isic2017_{name}", "") for name in ("melanoma", "seborrheic_keratosis")
        )
        label = named.get("isic2019_diagnosis", "")
        if not label and melanoma and keratosis:
            label = "MEL" if float(melanoma) else "SK" if float(keratosis) else "NV"
        out.append(TableRow(number, {**named, "diagnosis": label}))
    return out


SOURCE = Source(
    name="isic-seg",
    title="ISIC 2016 to 2018, dermoscopic images with expert masks",
    citation=(
        "D. Gutman et al., Skin Lesion Analysis toward Melanoma Detection, 2016, arXiv:1605.01397; N. Codella et al., "
        "2017, arXiv:1710.05006; N. Codella et al., 2019, arXiv:1902.03368"
    ),
    licence="CC0 1.0 (ISIC 2016, 2017); CC BY-NC 4.0 (ISIC 2018)",
    parts=(
        _part("Training"),
        _part("Validation"),
        _part("Test_v2"),
        Arrangement(tables=("manifest.csv",), images=("images/**/*",)),
        Arrangement(
            images=(
                "**/ISBI2016_ISIC_Part1_*_Data/**/*.jpg",
                "**/ISIC-2017_*_Data/**/*.jpg",
                "**/ISIC2018_Task1-2_*_Input/**/*.jpg",
                "images/**/*",
            )
        ),
    ),
    masks=_MASKS,
    columns=COLUMNS,
    rows=_labelled,
    values={"diagnosis": {**LABELS, "SK": "seborrheic_keratosis"}, "age_years": UNKNOWN_AGES, "site": SITES},
    constants={"modality": "dermoscopic"},
    id_space="isic",
)
