"""ISIC 2019: 25,331 dermoscopic images in eight classes, from HAM10000, BCN20000 and MSK.

As downloaded: ``ISIC_2019_Training_Input/*.jpg``, ``ISIC_2019_Training_Metadata.csv`` and
``ISIC_2019_Training_GroundTruth.csv``; the same for ``Test``. A table with metadata and a column ``diagnosis`` merged
(``ISIC_2019_Training_merged.csv``) is read as well. The class ``UNK`` has no diagnosis. Ages are in steps of
five years and 0 means unknown, as in HAM10000.
"""

from __future__ import annotations

from skinkit.data.source import Arrangement, Source

LABELS = {
    "NV": "nevus",
    "MEL": "melanoma",
    "BCC": "basal_cell_carcinoma",
    "BKL": "benign_keratosis",
    "AK": "actinic_keratosis",
    "SCC": "squamous_cell_carcinoma",
    "VASC": "vascular_lesion",
    "DF": "dermatofibroma",
    "UNK": "",
}
UNKNOWN_AGES = {"0.0": "", "0": ""}
SITES = {"anterior torso": "torso", "lateral torso": "torso", "posterior torso": "torso"}
COLUMNS = {
    "image": "image",
    "lesion_id": "lesion_id",
    "diagnosis": "diagnosis",
    "age_years": "age_approx",
    "sex": "sex",
    "site": "anatom_site_general",
}
"""Canonical column -> column of the metadata table."""


def _part(name: str) -> Arrangement:
    return Arrangement(
        name.lower(),
        tables=(f"**/ISIC_2019_{name}_Metadata.csv", f"**/ISIC_2019_{name}_GroundTruth.csv"),
        images=(f"**/ISIC_2019_{name}_Input/**/*", "images/**/*"),
    )


SOURCE = Source(
    name="isic-2019",
    title="ISIC 2019, dermoscopic images in eight classes",
    citation=(
        "P. Tschandl et al., Scientific Data 5, 180161, 2018; N. Codella et al., arXiv:1710.05006, 2017; "
        "C. Hernández-Pérez et al., BCN20000: Dermoscopic Lesions in the Wild, Scientific Data 11, 641, 2024"
    ),
    licence="CC BY-NC 4.0",
    parts=(
        _part("Training"),
        _part("Test"),
        Arrangement(
            "training",
            tables=("**/ISIC_2019_Training_merged.csv",),
            images=("**/ISIC_2019_Training_Input/**/*", "images/**/*"),
        ),
    ),
    columns=COLUMNS,
    required=("image", "age_years"),
    one_hot=("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"),
    values={"diagnosis": LABELS, "age_years": UNKNOWN_AGES, "site": SITES},
    constants={"modality": "dermoscopic"},
    id_space="isic",
)
