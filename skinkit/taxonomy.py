"""Diagnoses, malignant sets, anatomical sites, and the class maps between datasets.

A *diagnosis* is one of the fine codes in ``DIAGNOSES``; every source maps its own labels onto them once, at ingest. A
*class set* (one of ``CLASS_SET_NAMES`` or a file) groups diagnoses into the classes one model distinguishes. A
*malignant set* says which diagnoses count as malignant: actinic keratosis does in Wang 2024 and does not in
PAD-UFES-20, so every malignancy figure names its set.

A *task* is a class set over a column of the cases. The primary task is ``diagnosis``; a model may answer further ones
(:data:`TASKS`, or ``[tasks.NAME]`` of a class-set file), such as the criteria of the seven-point checklist.

Class sets named after a paper or a challenge (``wang8``, ``isic2018-7``) are data here and not in ``skinkit.studies``:
data sources, models and workspaces use them, and those may not import studies. They are shared by every model trained
on such data. A new study needs no entry here: it brings its classes as a TOML file beside it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.errors import ConfigError, did_you_mean, listed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DIAGNOSES: dict[str, str] = {
    "nevus": "melanocytic nevus",
    "melanoma": "melanoma",
    "basal_cell_carcinoma": "basal cell carcinoma",
    "squamous_cell_carcinoma": "squamous cell carcinoma",
    "actinic_keratosis": "actinic keratosis",
    "seborrheic_keratosis": "seborrheic keratosis",
    "benign_keratosis": "benign keratosis (seborrheic, solar lentigo, lichen-planus-like)",
    "solar_lentigo": "solar lentigo",
    "dermatofibroma": "dermatofibroma",
    "vascular_lesion": "vascular lesion",
    "melanosis": "melanosis",
    "miscellaneous": "other named diagnosis",
}

MALIGNANT_SETS: dict[str, frozenset[str]] = {
    "pad": frozenset({"basal_cell_carcinoma", "melanoma", "squamous_cell_carcinoma"}),
    "wang": frozenset({"actinic_keratosis", "basal_cell_carcinoma", "melanoma", "squamous_cell_carcinoma"}),
}

SITES: tuple[str, ...] = (
    "head/neck",
    "oral/genital",
    "lower extremity",
    "palms/soles",
    "torso",
    "upper extremity",
)
"""The six sites of Wang 2024 and ISIC 2020, in the paper's order."""

REGION_SITES: dict[str, str] = {
    "ARM": "upper extremity", "NECK": "head/neck", "FACE": "head/neck", "HAND": "upper extremity",
    "FOREARM": "upper extremity", "CHEST": "torso", "NOSE": "head/neck", "THIGH": "lower extremity",
    "SCALP": "head/neck", "EAR": "head/neck", "BACK": "torso", "FOOT": "lower extremity", "ABDOMEN": "torso",
    "LIP": "head/neck",
}  # fmt: skip
"""PAD-UFES-20 ``region`` to the six sites."""


@dataclass(frozen=True)
class ClassSet:
    """The classes one model distinguishes.

    Attributes:
        name: how the set is called on the command line.
        classes: class codes in the order of the probability columns.
        members: diagnosis code (or other value of ``column``) -> class code; values not listed cannot be mapped.
        labels: class code -> words for a reader.
        malignant_set: name of the malignant set.
        malignant: class codes counted as malignant under that set.
    """

    name: str
    classes: tuple[str, ...]
    members: Mapping[str, str]
    malignant_set: str
    malignant: frozenset[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    column: str = "diagnosis"

    @property
    def is_malignant(self) -> npt.NDArray[np.bool_]:
        """(classes,) which count as malignant."""
        import numpy as np

        return np.array([code in self.malignant for code in self.classes])

    def to_class(self, diagnosis: str | None) -> str | None:
        """The class of a diagnosis, or None where it has none."""
        return self.members.get(diagnosis) if diagnosis else None

    def as_dict(self) -> dict[str, object]:
        """Plain values for ``model.json``."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "members": dict(self.members),
            "labels": dict(self.labels),
            "malignant_set": self.malignant_set,
            "malignant": sorted(self.malignant),
            **({} if self.column == "diagnosis" else {"column": self.column}),
        }

    @staticmethod
    def from_dict(values: Mapping[str, object]) -> ClassSet:
        """The inverse of :meth:`as_dict`."""
        members, labels = values["members"], values.get("labels") or {}
        classes, malignant = values["classes"], values["malignant"]
        assert isinstance(members, Mapping)
        assert isinstance(labels, Mapping)
        assert isinstance(classes, list)
        assert isinstance(malignant, list)
        return ClassSet(
            name=str(values["name"]),
            classes=tuple(classes),
            members=dict(members),
            labels=dict(labels),
            malignant_set=str(values["malignant_set"]),
            malignant=frozenset(malignant),
            column=str(values.get("column", "diagnosis")),
        )


_PAD6 = {
    "ACK": ("actinic_keratosis",),
    "BCC": ("basal_cell_carcinoma",),
    "MEL": ("melanoma",),
    "NEV": ("nevus",),
    "SCC": ("squamous_cell_carcinoma",),
    "SEK": ("seborrheic_keratosis", "benign_keratosis"),
}
_WANG8 = {
    "NV": ("nevus",),
    "BKL": ("benign_keratosis", "seborrheic_keratosis", "solar_lentigo"),
    "DF": ("dermatofibroma",),
    "VASC": ("vascular_lesion",),
    "AK": ("actinic_keratosis",),
    "MM": ("melanoma",),
    "BCC": ("basal_cell_carcinoma",),
    "SCC": ("squamous_cell_carcinoma",),
}
_BKL = _WANG8["BKL"]
_WANG4 = {"NV": _WANG8["NV"], "BKL": _BKL, "MM": _WANG8["MM"], "BCC": _WANG8["BCC"]}
"""The four classes of ISIC 2016 in Wang 2024, Table 1."""
_ISIC2017 = {"MEL": ("melanoma",), "SK": ("seborrheic_keratosis", "benign_keratosis"), "NV": ("nevus",)}
_ISIC2018_7 = {
    "MEL": ("melanoma",),
    "NV": ("nevus",),
    "BCC": ("basal_cell_carcinoma",),
    "AKIEC": ("actinic_keratosis",),
    "BKL": _BKL,
    "DF": ("dermatofibroma",),
    "VASC": ("vascular_lesion",),
}
_DERM7PT5 = {
    "BCC": ("basal_cell_carcinoma",),
    "NEV": ("nevus",),
    "MEL": ("melanoma",),
    "MISC": ("dermatofibroma", "solar_lentigo", "melanosis", "miscellaneous", "vascular_lesion"),
    "SK": ("seborrheic_keratosis",),
}
"""The diagnoses of derm7pt as Kawahara et al. 2019 group them."""
_LABELS = {
    "AKIEC": "actinic keratosis and intraepithelial carcinoma", "SK": "seborrheic keratosis",
    "ACK": "actinic keratosis", "AK": "actinic keratosis", "BCC": "basal cell carcinoma", "MEL": "melanoma",
    "MM": "melanoma", "NEV": "nevus", "NV": "nevus", "SCC": "squamous cell carcinoma", "SEK": "seborrheic keratosis",
    "BKL": "benign keratosis", "DF": "dermatofibroma", "VASC": "vascular lesion", "benign": "benign",
    "malignant": "malignant", "MISC": "other lesions",
}  # fmt: skip
CLASS_SETS: dict[str, tuple[dict[str, tuple[str, ...]], str]] = {
    "pad6": (_PAD6, "pad"),
    "wang8": (_WANG8, "wang"),
    "wang4": (_WANG4, "wang"),
    "isic2017": (_ISIC2017, "wang"),
    "isic2018-7": (_ISIC2018_7, "wang"),
    "derm7pt5": (_DERM7PT5, "pad"),
}
CLASS_SET_NAMES = ("pad6", "wang8", "malignancy", "wang4", "isic2017", "isic2018-7", "derm7pt5")
"""In the order in which a table of probabilities is recognised by its columns."""
CLASS_SET_HELP = f"class set: {', '.join(CLASS_SET_NAMES)} or a TOML file"
"""How a ``Config`` asks for one."""


# ------------------------------------------------------------------------------------------------------ further tasks


def _task(
    name: str, column: str, groups: Mapping[str, Sequence[str]], labels: Mapping[str, str] | None = None
) -> ClassSet:
    members = {value: code for code, values in groups.items() for value in values}
    words = {code: (labels or {}).get(code, code.replace("_", " ")) for code in groups}
    return ClassSet(name, tuple(groups), members, malignant_set="", malignant=frozenset(), labels=words, column=column)


_PRESENT = {"absent": ("absent",), "present": ("present",)}
_REGULAR = {"absent": ("absent",), "regular": ("regular",), "irregular": ("irregular",)}
_SEVEN_POINT: dict[str, Mapping[str, tuple[str, ...]]] = {
    "pigment_network": {"absent": ("absent",), "typical": ("typical",), "atypical": ("atypical",)},
    "streaks": _REGULAR,
    "pigmentation": {
        "absent": ("absent",),
        "regular": ("diffuse regular", "localized regular"),
        "irregular": ("diffuse irregular", "localized irregular"),
    },
    "regression_structures": {"absent": ("absent",), "present": ("blue areas", "white areas", "combinations")},
    "dots_and_globules": _REGULAR,
    "blue_whitish_veil": _PRESENT,
    "vascular_structures": {
        "absent": ("absent",),
        "regular": ("arborizing", "comma", "hairpin", "within regression", "wreath"),
        "irregular": ("dotted", "linear irregular"),
    },
}
"""Criterion of the seven-point checklist -> class -> values in derm7pt, grouped as in Kawahara et al. 2019, Table I."""
POINTS: dict[str, tuple[str, int]] = {
    "pigment_network": ("atypical", 2),
    "blue_whitish_veil": ("present", 2),
    "vascular_structures": ("irregular", 2),
    "pigmentation": ("irregular", 1),
    "streaks": ("irregular", 1),
    "dots_and_globules": ("irregular", 1),
    "regression_structures": ("present", 1),
}
"""Criterion -> the class that carries points, and how many (Argenziano et al. 1998)."""
_SCORE = {"below_3": tuple(map(str, range(3))), "from_3": tuple(map(str, range(3, 11)))}
"""Argenziano et al. 1998: a score of 3 or more suggests melanoma."""
SYMPTOMS = ("itch", "grew", "hurt", "changed", "bleed", "elevation")
"""What PAD-UFES-20 knows of a lesion beside its picture, as tasks: yes or no, unknown where a patient could not say."""
TASKS: dict[str, ClassSet] = {
    **{name: _task(name, f"seven_point__{name}", groups) for name, groups in _SEVEN_POINT.items()},
    "seven_point_score": _task("seven_point_score", "seven_point__score", _SCORE, {"from_3": "3 or more"}),
    **{name: _task(name, name, {"no": ("False",), "yes": ("True",)}) for name in SYMPTOMS},
}
"""Tasks beside the diagnosis, by name."""
DERM7PT: dict[str, tuple[str, ...]] = {
    "location": (
        "abdomen", "acral", "back", "buttocks", "chest", "genital areas", "head neck", "lower limbs", "upper limbs",
    ),
    "elevation": ("flat", "palpable", "nodular"),
    "difficulty": ("low", "medium", "high"),
    "management": ("clinical follow up", "excision", "no further examination"),
}  # fmt: skip
"""derm7pt's own attributes (columns ``derm7pt__*``) and their values."""
TASK_SETS: dict[str, tuple[str, ...]] = {"seven_point": tuple(_SEVEN_POINT), "symptoms": SYMPTOMS}
"""Name of several tasks -> their names."""


def tasks_of(names: Sequence[str], classes: str = "", folder: Path | None = None) -> dict[str, ClassSet]:
    """The tasks beside the diagnosis, in the order they are named.

    Args:
        names: of :data:`TASKS`, :data:`TASK_SETS` or the class-set file; each may hold several, with commas.
            ``diagnosis`` is always answered and may be named too.
        classes: as ``name`` of :func:`class_set`; a file may define further tasks.
        folder: as of :func:`class_set`.

    Raises:
        ConfigError: an unknown task, or a file that defines one wrongly.
    """
    wanted = [word.strip() for name in names for word in name.split(",")]
    wanted = [task for name in wanted if name not in ("", "diagnosis") for task in TASK_SETS.get(name, (name,))]
    if not wanted:
        return {}
    known = {**TASKS, **tasks_of_file(classes, folder)}
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"no task {name!r}",
                did_you_mean(name, ("diagnosis", *TASK_SETS, *known)),
                "name one of these, or define it as [tasks.NAME] in the file of --classes",
            )
    return {name: known[name] for name in wanted}


def tasks_of_file(classes: str, folder: Path | None) -> dict[str, ClassSet]:
    """The tables ``[tasks.NAME]`` of a class-set file; none where ``classes`` names no file."""
    if not classes or classes in CLASS_SET_NAMES:
        return {}
    path = folder / classes if folder is not None and (folder / classes).is_file() else Path(classes)
    tables = _toml(path).get("tasks", {})
    tasks = {}
    for name, value in tables.items() if isinstance(tables, dict) else [("", tables)]:
        table = value if isinstance(value, dict) else {}
        groups, column = table.get("classes"), table.get("column")
        named = name.isidentifier() and "__" not in name and name not in _TAKEN
        if not named or not isinstance(groups, dict) or len(groups) < 2 or not isinstance(column, str):
            raise ConfigError(
                f"{path}: [tasks.{name}]",
                'a new name, column = "COLUMN" of the cases, and [tasks.NAME.classes] with two classes or more',
                "correct the file",
            )
        lists = [members if isinstance(members, list) else [] for members in groups.values()]
        values = [str(each) for members in lists for each in members]
        if not all(lists) or len(set(values)) < len(values):
            raise ConfigError(
                f"{path}: [tasks.{name}.classes]", "lists of values, each in one class at most", "correct the file"
            )
        tasks[name] = _task(name, column, {code: list(map(str, m)) for code, m in zip(groups, lists, strict=True)})
    return tasks


_TAKEN = ("diagnosis", "lesion", "seen", "variance", "entropy", "mutual_information")
"""Names of what networks answer otherwise."""


def class_set(name: str, malignant: str = "", folder: Path | None = None) -> ClassSet:
    """The class set of that name, or the one described by a TOML file of that path.

    Args:
        name: one of :data:`CLASS_SET_NAMES` or the path of a TOML file with a table ``[classes]`` (class =
            list of diagnosis codes) and ``malignant = [diagnosis codes]``.
        malignant: ``pad``, ``wang`` or empty for the set's own choice (``pad`` for ``pad6`` and ``malignancy``).
        folder: where a file of that name is looked for first.

    Raises:
        ConfigError: unknown name, unknown diagnosis, or a class that holds both kinds.
    """
    if folder is not None and name not in CLASS_SET_NAMES and (folder / name).is_file():
        name = str(folder / name)
    labels: dict[str, str] = dict(_LABELS)
    file_malignant: frozenset[str] | None = None
    if name in CLASS_SETS:
        groups, default_malignant = CLASS_SETS[name]
    elif name == "malignancy":
        default_malignant = "pad"
        chosen = malignant_set(malignant or default_malignant)
        groups = {
            "benign": tuple(d for d in DIAGNOSES if d not in chosen and d != "miscellaneous"),
            "malignant": tuple(d for d in DIAGNOSES if d in chosen),
        }
    elif name.endswith(".toml") or Path(name).is_file():
        groups, file_malignant, labels = _read_class_file(Path(name))
        default_malignant = Path(name).stem
    else:
        raise ConfigError(
            f"unknown class set {name!r}",
            f"{did_you_mean(name, CLASS_SET_NAMES)}, or a TOML file",
            "give --classes one of these, or a file with [classes] and malignant = [...]",
        )
    chosen_name = malignant or default_malignant
    chosen = file_malignant if file_malignant is not None and not malignant else malignant_set(chosen_name)
    members = {diagnosis: code for code, diagnoses in groups.items() for diagnosis in diagnoses}
    malignant_classes = set()
    for code, diagnoses in groups.items():
        hits = [d for d in diagnoses if d in chosen]
        if hits and len(hits) < len(diagnoses):
            raise ConfigError(
                f"class {code!r} of {name!r} mixes malignant ({listed(hits)}) and benign diagnoses under the "
                f"malignant set {chosen_name!r}",
                "classes that are wholly malignant or wholly benign",
                "choose another --malignant set or split the class",
            )
        if hits:
            malignant_classes.add(code)
    return ClassSet(
        name=name if name in CLASS_SET_NAMES else Path(name).stem,
        classes=tuple(groups),
        members=members,
        labels={code: labels.get(code, code) for code in groups},
        malignant_set=chosen_name,
        malignant=frozenset(malignant_classes),
    )


def malignant_set(name: str) -> frozenset[str]:
    """The diagnoses of a named malignant set; unknown names raise :class:`ConfigError`."""
    if name not in MALIGNANT_SETS:
        raise ConfigError(
            f"unknown malignant set {name!r}", did_you_mean(name, MALIGNANT_SETS), "give --malignant one of these"
        )
    return MALIGNANT_SETS[name]


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"no class file {path}", "an existing TOML file", "check the path given to --classes"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, IsADirectoryError) as error:
        raise ConfigError(f"{path}: {error}", "a valid UTF-8 TOML file", "correct the file") from None


def _read_class_file(path: Path) -> tuple[dict[str, tuple[str, ...]], frozenset[str], dict[str, str]]:
    text = _toml(path)
    classes = text.get("classes")
    if not isinstance(classes, dict) or len(classes) < 2:
        raise ConfigError(
            f"{path} has no table [classes] with two classes or more",
            'for example [classes] with MEL = ["melanoma"] and NEV = ["nevus"]',
            "add the table",
        )
    for name, value in [*classes.items(), ("malignant", text.get("malignant", []))]:
        if not isinstance(value, list):
            raise ConfigError(f"{path}: {name} = {value!r}", "a list of diagnoses", "correct the file")
    if not isinstance(text.get("labels", {}), dict):
        raise ConfigError(f"{path}: labels = {text['labels']!r}", "a table [labels]", "correct the file")
    groups = {str(code): tuple(str(d) for d in members) for code, members in classes.items()}
    malignant = [str(d) for d in text.get("malignant", [])]
    class_of: dict[str, str] = {}
    for code, members in [*groups.items(), ("malignant", tuple(malignant))]:
        for diagnosis in members:
            if diagnosis not in DIAGNOSES:
                raise ConfigError(
                    f"{path}: unknown diagnosis {diagnosis!r} in {code!r}",
                    did_you_mean(diagnosis, DIAGNOSES),
                    "use these diagnosis codes",
                )
            if code != "malignant":
                if diagnosis in class_of:
                    raise ConfigError(
                        f"{path}: {diagnosis!r} stands in {class_of[diagnosis]!r} and {code!r}",
                        "every diagnosis in one class at most",
                        "remove it from one of them",
                    )
                class_of[diagnosis] = code
    labels = {str(k): str(v) for k, v in text.get("labels", {}).items()}
    return groups, frozenset(malignant), labels
