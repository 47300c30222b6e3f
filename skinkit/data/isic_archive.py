"""Tables of the ISIC archive, whose column names differ between the challenges and the archive's own export.

``isic-archive`` itself is any collection as ``isic-cli`` downloads it: ``metadata.csv`` beside the images.

Only the export (``metadata.csv`` of a downloaded collection) has age, sex, site and the exact diagnosis of ISIC 2016,
2017 and the test part of 2018. Older exports use ``name`` and ``meta.clinical.*``, newer ones ``isic_id`` and the
diagnosis in up to five columns from coarse to fine, of which the third is the usual name.
"""

from __future__ import annotations

from skinkit.data.ham10000 import LABELS as HAM_LABELS
from skinkit.data.ham10000 import LOCALIZATIONS
from skinkit.data.isic_2019 import SITES as TORSO
from skinkit.data.isic_2019 import UNKNOWN_AGES
from skinkit.data.source import Arrangement, Source, TableRow

EXPORTS = ("**/metadata.csv", "**/*challenge-20*_metadata*.csv")
"""File name of the archive's export of a collection."""

_HEADINGS = {
    "image": ("image", "isic_id", "image_id", "image_name", "name"),
    "patient_id": ("patient_id", "patient", "meta.clinical.patient_id"),
    "lesion_id": ("lesion_id", "meta.clinical.lesion_id"),
    "diagnosis": ("diagnosis", "meta.clinical.diagnosis", "dx", "diagnosis_3"),
    "age_approx": ("age_approx", "age_approximate", "meta.clinical.age_approx", "age"),
    "sex": ("sex", "meta.clinical.sex"),
    "site": (
        "site", "anatom_site_general", "anatom_site_general_challenge", "meta.clinical.anatom_site_general",
        "anatom_site_1", "localization",
    ),
    "fitzpatrick": ("fitzpatrick_skin_type", "meta.clinical.fitzpatrick_skin_type"),
    "image_type": ("image_type", "meta.acquisition.image_type"),
    "confirmed_by": ("confirmed_by", "diagnosis_confirm_type", "meta.clinical.diagnosis_confirm_type", "dx_type"),
}  # fmt: skip

COLUMNS = {
    "image": "image",
    "patient_id": "patient_id",
    "lesion_id": "lesion_id",
    "diagnosis": "diagnosis",
    "age_years": "age_approx",
    "sex": "sex",
    "site": "site",
    "confirmed_by": "confirmed_by",
}
"""Canonical column -> heading after :func:`with_our_headings`."""

DIAGNOSES = {
    **HAM_LABELS,
    **dict.fromkeys(
        ("melanoma, nos", "melanoma invasive", "melanoma in situ", "melanoma metastasis", "malignant"), "melanoma"
    ),
    **dict.fromkeys(("nevus, nos", "blue nevus", "nevus, spitz", "nevus, combined", "nevus, congenital"), "nevus"),
    **dict.fromkeys(
        ("squamous cell carcinoma, nos", "squamous cell carcinoma, invasive", "squamous cell carcinoma in situ"),
        "squamous_cell_carcinoma",
    ),
    "basal cell carcinoma": "basal_cell_carcinoma",
    "squamous cell carcinoma": "squamous_cell_carcinoma",
    "actinic keratosis": "actinic_keratosis",
    "solar or actinic keratosis": "actinic_keratosis",
    "seborrheic keratosis": "seborrheic_keratosis",
    # The class 'benign keratosis' of the challenges holds these; the archive does not say which lentigo 'NOS' is.
    **dict.fromkeys(
        (
            "pigmented benign keratosis",
            "lichenoid keratosis",
            "lichen planus-like keratosis",
            "lichen planus like keratosis",
            "lentigo nos",
        ),
        "benign_keratosis",
    ),
    "solar lentigo": "solar_lentigo",
    **dict.fromkeys(
        ("vascular lesion", "hemangioma", "angioma", "angiokeratoma", "pyogenic granuloma"), "vascular_lesion"
    ),
    **dict.fromkeys(
        ("other", "lentigo simplex", "cafe-au-lait macule", "angiofibroma or fibrous papule", "scar", "neurofibroma"),
        "miscellaneous",
    ),
    # The archive's own class between nevus and melanoma.
    **dict.fromkeys(
        ("atypical melanocytic neoplasm", "atypical melanocytic proliferation", "aimp", "indeterminate", "benign"), ""
    ),
}

CONFIRMED = {
    "histopathology": "histopathology",
    "histo": "histopathology",
    "serial imaging showing no change": "follow_up",
    "follow_up": "follow_up",
    "single image expert consensus": "consensus",
    "single contributor clinical assessment": "clinical",
    "consensus": "consensus",
    "confocal microscopy with consensus dermoscopy": "confocal",
    "confocal": "confocal",
}

VALUES = {
    "diagnosis": DIAGNOSES,
    "age_years": UNKNOWN_AGES,
    "site": {**LOCALIZATIONS, **TORSO},
    "confirmed_by": CONFIRMED,
}
"""For :attr:`skinkit.data.source.Source.values`."""


def with_our_headings(rows: list[TableRow]) -> list[TableRow]:
    """Add the cells under the names of :data:`COLUMNS`, whatever names the table uses."""
    return [
        TableRow(
            number,
            {
                **cells,
                **{
                    ours: next(filter(None, (cells.get(name) for name in names)), "")
                    for ours, names in _HEADINGS.items()
                },
            },
        )
        for number, cells in rows
    ]


SOURCE = Source(
    name="isic-archive",
    title="ISIC archive, a collection as isic-cli downloads it",
    citation="International Skin Imaging Collaboration, the ISIC archive, isic-archive.com",
    licence="CC0, CC BY or CC BY-NC 4.0, as the column copyright_license says of each image",
    parts=(Arrangement(tables=("metadata.csv",)), Arrangement(tables=("**/metadata.csv",))),
    columns={**COLUMNS, "fitzpatrick": "fitzpatrick", "modality": "image_type"},
    values={
        **VALUES,
        "site": {**VALUES["site"], "head and neck": "head/neck", "anogenital region": "oral/genital"},
        "modality": {
            "dermoscopic": "dermoscopic",
            **dict.fromkeys(
                ("clinical: close-up", "clinical: overview", "TBP tile: close-up", "TBP tile: overview"), "clinical"
            ),
        },
    },
    id_space="isic",
    rows=with_our_headings,
)
