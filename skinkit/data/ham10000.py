"""HAM10000: 10,015 dermoscopic images of 7,470 lesions in seven classes (Tschandl et al. 2018).

As downloaded: ``HAM10000_metadata`` (or ``.csv``, ``.tab``) beside ``HAM10000_images_part_1`` and ``_2``; masks of
``HAM10000_segmentations_lesion_tschandl`` are used if they are unpacked. Class ``akiec`` is actinic keratosis and
intraepithelial carcinoma; ``bkl`` combines seborrheic keratosis, solar lentigo and lichen-planus-like keratosis. Age 0
means unknown. Where the table has a column ``dataset``, it names the four sources that the photos were taken at.
"""

from __future__ import annotations

from skinkit.data.isic_2019 import UNKNOWN_AGES
from skinkit.data.source import Arrangement, Source

LABELS = {
    "nv": "nevus",
    "mel": "melanoma",
    "bkl": "benign_keratosis",
    "bcc": "basal_cell_carcinoma",
    "akiec": "actinic_keratosis",
    "vasc": "vascular_lesion",
    "df": "dermatofibroma",
}
LOCALIZATIONS = {
    "abdomen": "torso",
    "acral": "palms/soles",
    "back": "torso",
    "chest": "torso",
    "ear": "head/neck",
    "face": "head/neck",
    "foot": "lower extremity",
    "genital": "oral/genital",
    "hand": "upper extremity",
    "lower extremity": "lower extremity",
    "neck": "head/neck",
    "scalp": "head/neck",
    "trunk": "torso",
    "upper extremity": "upper extremity",
}

SOURCE = Source(
    name="ham10000",
    title="HAM10000, dermoscopic images of common pigmented lesions",
    citation=(
        "P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, a large collection of multi-source dermatoscopic "
        "images of common pigmented skin lesions, Scientific Data 5, 180161, 2018, doi 10.1038/sdata.2018.161"
    ),
    licence="CC BY-NC 4.0",
    parts=(
        Arrangement(tables=("**/HAM10000_metadata.csv",)),
        Arrangement(tables=("**/HAM10000_metadata",)),
        Arrangement(tables=("**/HAM10000_metadata.tab",)),
        Arrangement(tables=("metadata.csv",)),
    ),
    images=("**/HAM10000_images_part_*/**/*", "**/images/**/*"),
    masks=("**/{stem}_segmentation.png", "masks/{stem}.*"),
    columns={
        "image": "image_id",
        "lesion_id": "lesion_id",
        "diagnosis": "dx",
        "age_years": "age",
        "sex": "sex",
        "site": "localization",
        "confirmed_by": "dx_type",
    },
    required=("image", "lesion_id", "diagnosis"),
    values={
        "diagnosis": LABELS,
        "age_years": UNKNOWN_AGES,
        "site": LOCALIZATIONS,
        "confirmed_by": {
            "histo": "histopathology",
            "follow_up": "follow_up",
            "consensus": "consensus",
            "confocal": "confocal",
        },
    },
    constants={"modality": "dermoscopic"},
    extra={"centre": "dataset"},
    id_space="isic",
)
