"""derm7pt: 1,011 cases, each with a clinical and a dermoscopic image and the seven-point checklist.

As downloaded (``release_v0``): ``meta/meta.csv`` and ``images/``. One table row becomes two: the views of a case share
``case_id``, which is the table's ``case_num``. The seven criteria and the score stay as ``seven_point__*``. There is no
age. ``lentigo`` is taken for solar lentigo.
"""

from __future__ import annotations

from skinkit.data.source import Arrangement, Source, TableRow

_NEVI = ("blue", "clark", "combined", "congenital", "dermal", "recurrent", "reed or spitz")
_MELANOMAS = (
    "melanoma",
    "melanoma (in situ)",
    "melanoma (less than 0.76 mm)",
    "melanoma (0.76 to 1.5 mm)",
    "melanoma (more than 1.5 mm)",
    "melanoma metastasis",
)
CRITERIA = (
    "pigment_network",
    "streaks",
    "pigmentation",
    "regression_structures",
    "dots_and_globules",
    "blue_whitish_veil",
    "vascular_structures",
)


def _two_views(rows: list[TableRow]) -> list[TableRow]:
    """Split each case into a row for its clinical and a row for its dermoscopic image."""
    out = []
    for number, cells in rows:
        for column, view in (("clinic", "clinical"), ("derm", "dermoscopic")):
            own = {"image": cells.get(column, ""), "view": view, "image_id": f"{cells['case_num']}-{view}"}
            out.append(TableRow(number, {**cells, **own}))
    return out


SOURCE = Source(
    name="derm7pt",
    title="derm7pt, clinical and dermoscopic image pairs with the seven-point checklist",
    citation=(
        "J. Kawahara, S. Daneshvar, G. Argenziano, G. Hamarneh, Seven-Point Checklist and Skin Lesion Classification "
        "using Multitask Multimodal Neural Nets, IEEE Journal of Biomedical and Health Informatics 23(2), 2019, "
        "doi 10.1109/JBHI.2018.2824327"
    ),
    licence="research and education only, see the data set's own terms",
    parts=(Arrangement(tables=("**/meta/meta.csv",)), Arrangement(tables=("meta.csv",))),
    images=("**/images/**/*",),
    columns={
        "image": "image",
        "image_id": "image_id",
        "case_id": "case_num",
        "lesion_id": "case_num",
        "view": "view",
        "modality": "view",
        "diagnosis": "diagnosis",
        "sex": "sex",
        "site": "location",
        "elevation": "elevation",
    },
    required=("case_id", "diagnosis"),
    rows=_two_views,
    values={
        "diagnosis": {
            "basal cell carcinoma": "basal_cell_carcinoma",
            "seborrheic keratosis": "seborrheic_keratosis",
            "dermatofibroma": "dermatofibroma",
            "lentigo": "solar_lentigo",
            "melanosis": "melanosis",
            "miscellaneous": "miscellaneous",
            "vascular lesion": "vascular_lesion",
            **{f"{name} nevus": "nevus" for name in _NEVI},
            **dict.fromkeys(_MELANOMAS, "melanoma"),
        },
        "site": {
            "abdomen": "torso",
            "acral": "palms/soles",
            "back": "torso",
            "buttocks": "torso",
            "chest": "torso",
            "genital areas": "oral/genital",
            "head neck": "head/neck",
            "lower limbs": "lower extremity",
            "upper limbs": "upper extremity",
        },
        "elevation": {"flat": "False", "palpable": "True", "nodular": "True"},
    },
    extra={"seven_point__score": "seven_point_score", **{f"seven_point__{name}": name for name in CRITERIA}},
)
