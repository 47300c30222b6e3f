"""PAD-UFES-20: 2,298 phone photos of 1,373 patients with 21 attributes (Pacheco et al. 2020).

As downloaded: ``metadata.csv`` beside ``images/imgs_part_1..3/*.png``. ``lesion_id`` alone is not unique (250 ids occur
for two patients): the key is the pair (patient_id, lesion_id). Whether a lesion was biopsied (``biopsed``) defines how
the diagnosis was confirmed and is never an attribute: like missing attributes, it would leak the diagnosis.

Masks by third parties are read from ``masks`` beside the images; ``masks = "masks_2023"`` in the cohort's table of
``skinkit.toml`` chooses another folder.
"""

from __future__ import annotations

from skinkit.data.source import Arrangement, Source
from skinkit.schemas import PAD_ATTRIBUTES

_RENAMED = {"fitzpatrick": "fitspatrick", "diameter_1_mm": "diameter_1", "diameter_2_mm": "diameter_2"}

SOURCE = Source(
    name="pad-ufes-20",
    title="PAD-UFES-20, phone photos with patient data",
    citation=(
        "A.G.C. Pacheco et al., PAD-UFES-20: a skin lesion dataset composed of patient data and clinical images "
        "collected from smartphones, Data in Brief 32, 106221, 2020, doi 10.1016/j.dib.2020.106221; "
        "data doi 10.17632/zr7vgbcyr2.1"
    ),
    licence="CC BY 4.0",
    parts=(Arrangement(tables=("**/metadata.csv",)),),
    images=("**/images/**/*", "**/imgs_part_*/**/*"),
    masks=("**/masks/{stem}.*",),
    columns={
        "image": "img_id",
        "patient_id": "patient_id",
        "lesion_id": ("patient_id", "lesion_id"),
        "diagnosis": "diagnostic",
        "age_years": "age",
        "sex": "gender",
        "confirmed_by": "biopsed",
        **{column.name: _RENAMED.get(column.name, column.name) for column in PAD_ATTRIBUTES},
    },
    required=("image", "patient_id", "lesion_id", "diagnosis"),
    values={
        "diagnosis": {
            "ACK": "actinic_keratosis",
            "BCC": "basal_cell_carcinoma",
            "MEL": "melanoma",
            "NEV": "nevus",
            "SCC": "squamous_cell_carcinoma",
            "SEK": "seborrheic_keratosis",
        },
        "confirmed_by": {"True": "histopathology", "False": "clinical"},
    },
    constants={"modality": "clinical"},
)
