"""derm7pt: 1,011 cases, each with a clinical and a dermoscopic image and the seven-point checklist.

As downloaded (``release_v0``): ``meta/meta.csv`` and ``images/``. One table row becomes two: the views of a case share
``case_id``, which is the table's ``case_num``. The seven criteria and the score stay as ``seven_point__*``, with the
table's own values; ``skinkit.taxonomy.TASKS`` groups them. There is no age. ``lentigo`` is taken for solar lentigo.

Location, elevation, difficulty and management stay as ``derm7pt__*``, which the encoders ``derm7pt`` and
``derm7pt_leaky`` read: ``site`` and the attribute ``elevation`` have fewer values.

The clinical image of a few cases is a dermoscopic one, as the column ``notes`` says; its row has the flag
``clinical_is_dermoscopic``.
"""

from __future__ import annotations

from skinkit.data.source import Arrangement, Source, TableRow
from skinkit.taxonomy import DERM7PT, TASK_SETS, TASKS

_NEVI = ("blue", "clark", "combined", "congenital", "dermal", "recurrent", "reed or spitz")
_MELANOMAS = (
    "melanoma",
    "melanoma (in situ)",
    "melanoma (less than 0.76 mm)",
    "melanoma (0.76 to 1.5 mm)",
    "melanoma (more than 1.5 mm)",
    "melanoma metastasis",
)
CRITERIA = TASK_SETS["seven_point"]
_SEVEN_POINT = (*CRITERIA, "seven_point_score")
"""Tasks of the checklist; the table's columns have their names."""
_OWN = {"location": "location", "elevation": "elevation", "level_of_diagnostic_difficulty": "difficulty",
        "management": "management"}  # fmt: skip
"""Column of the table -> its name after ``derm7pt__``."""


def _two_views(rows: list[TableRow]) -> list[TableRow]:
    """Split each case into a row for its clinical and a row for its dermoscopic image."""
    out = []
    for number, cells in rows:
        for column, view in (("clinic", "clinical"), ("derm", "dermoscopic")):
            own = {"image": cells.get(column, ""), "view": view, "image_id": f"{cells['case_num']}-{view}"}
            notes = cells.get("notes", "") if view == "clinical" else ""
            out.append(TableRow(number, {**cells, **own, "notes": notes}))
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
        **{TASKS[name].column: {value: value for value in TASKS[name].members} for name in _SEVEN_POINT},
        **{f"derm7pt__{name}": {value: value for value in values} for name, values in DERM7PT.items()},
    },
    extra={TASKS[name].column: name for name in _SEVEN_POINT} | {f"derm7pt__{ours}": own for own, ours in _OWN.items()},
    flags={"notes": (r"(?=.*\bclinic)(?=.*\bderm)", "clinical_is_dermoscopic")},
    revision=3,
)
