"""Encoders: attributes of a patient and a lesion as numeric model inputs.

An encoder is fitted on training rows only, is a frozen value, and is saved as JSON inside the fold's model; every other
cohort is encoded with that copy. ``biopsed`` is never an attribute: it reveals the diagnosis (malignant lesions of
PAD-UFES-20 were all biopsied).

    pad81   PAD-UFES-20, 81 columns in the order of MetaBlock's code (Pacheco and Krohling 2021)
    pad45   the 45 of them that MetaBlock's code reads by default
    pad17   17 of them: age, sex and region, PAD-UFES-20's own places
    isic    age / 100, sex (0.5 where unknown), one of six sites: what Wang 2024 reads, without inventing an order
    isic_ordinal    the same in Wang 2024's own width, 3 columns: the site is a number, 0 to 5
    derm7pt    sex, nine locations and three elevations, 14 columns
    derm7pt_leaky    the same with difficulty and management, 20 columns (:data:`LEAKY`)
    none    nothing

What is unknown is written by one of three policies, fitted and saved with the encoder:

    zeros       an unknown category is all zeros, an unknown number the encoder's own fill (PAD: 0; ISIC: median)
    indicator   the same, and one further column per attribute that is 1 where it is unknown
    median      an unknown number is the training median; an unknown category is a category: ``UNK`` where it has one,
                else a further column

Further columns stand after all others, so that the first ones keep their order.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.errors import ConfigError, did_you_mean
from skinkit.schemas import PAD_ATTRIBUTES
from skinkit.stats.metrics import Floats
from skinkit.taxonomy import DERM7PT, SITES

_RADIOMIC = re.compile(r"^(?:[A-Za-z0-9_]+_)?original_")


@dataclass(frozen=True)
class Attribute:
    """One attribute of a case, and the columns that encode it.

    Attributes:
        name: column of the case table.
        label: how the vector calls it; its columns are ``label_value``, or ``label`` for a number.
        values: categories in the order of their columns; empty for a number.
        spelled: value of the case table -> category, where the two differ.
        codes: value of the case table -> number, for a category read as one number.
        unknown: number written where the attribute is unknown; None takes the median of the training rows.
        divisor: the number is divided by it.
    """

    name: str
    label: str
    values: tuple[str, ...] = ()
    spelled: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, float] = field(default_factory=dict)
    unknown: float | None = 0.0
    divisor: float = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns."""
        return tuple(f"{self.label}_{value}" for value in self.values) or (self.label,)

    def encode(self, values: Sequence[Any]) -> Floats:
        """(n,) values of the case table -> (n, columns); an unknown category is all zeros, an unknown number NaN."""
        present = [None if _absent(value) else value for value in values]
        if not self.values:
            numbers = [self.codes.get(str(v)) if self.codes else v for v in present]
            return np.array([[np.nan if v is None else float(v) / self.divisor] for v in numbers]).reshape(-1, 1)
        place = {value: index for index, value in enumerate(self.values)}
        out = np.zeros((len(present), len(self.values)))
        for row, value in enumerate(present):
            text = str(value)
            column = place.get(self.spelled.get(text, text)) if value is not None else None
            if column is not None:
                out[row, column] = 1.0
        return out


_FALSE_TRUE, _TRUE_FALSE, _SYMPTOM = ("False", "True"), ("True", "False"), ("False", "True", "UNK")
_SEX = Attribute("sex", "gender", ("FEMALE", "MALE"), spelled={"female": "FEMALE", "male": "MALE"})
_PAD81: tuple[Attribute, ...] = (
    Attribute("smoke", "smoke", _FALSE_TRUE),
    Attribute("drink", "drink", _FALSE_TRUE),
    Attribute(
        "background_father",
        "background_father",
        (
            "POMERANIA", "GERMANY", "BRAZIL", "NETHERLANDS", "ITALY", "POLAND", "UNK", "PORTUGAL", "BRASIL", "CZECH",
            "AUSTRIA", "SPAIN", "ISRAEL",
        ),
    ),
    Attribute(
        "background_mother",
        "background_mother",
        (
            "POMERANIA", "ITALY", "GERMANY", "BRAZIL", "UNK", "POLAND", "NORWAY", "PORTUGAL", "NETHERLANDS", "FRANCE",
            "SPAIN",
        ),
    ),
    Attribute("age_years", "age"),
    Attribute("pesticide", "pesticide", _FALSE_TRUE),
    _SEX,
    Attribute("skin_cancer_history", "skin_cancer_history", _TRUE_FALSE),
    Attribute("cancer_history", "cancer_history", _TRUE_FALSE),
    Attribute("has_piped_water", "has_piped_water", _TRUE_FALSE),
    Attribute("has_sewage_system", "has_sewage_system", _TRUE_FALSE),
    Attribute("fitzpatrick", "fitspatrick", ("3.0", "1.0", "2.0", "4.0", "5.0", "6.0")),
    Attribute(
        "region",
        "region",
        (
            "ARM", "NECK", "FACE", "HAND", "FOREARM", "CHEST", "NOSE", "THIGH", "SCALP", "EAR", "BACK", "FOOT",
            "ABDOMEN", "LIP",
        ),
    ),
    Attribute("diameter_1_mm", "diameter_1"),
    Attribute("diameter_2_mm", "diameter_2"),
    *(Attribute(name, name, _SYMPTOM) for name in ("itch", "grew", "hurt", "changed", "bleed", "elevation")),
)  # fmt: skip
"""Hard-coded: the order comes from first appearance in the original CSV; BRASIL and BRAZIL stay apart, as there."""
_LEFT_OUT_OF_45 = {
    "smoke", "drink", "background_father", "background_mother", "pesticide", "has_piped_water", "has_sewage_system",
    "diameter_1_mm", "diameter_2_mm",
}  # fmt: skip
_ISIC: tuple[Attribute, ...] = (
    Attribute("age_years", "age", unknown=None, divisor=100.0),
    Attribute("sex", "sex", codes={"female": 0.0, "male": 1.0}, unknown=0.5),
    Attribute("site", "site", SITES),
)
_ISIC_ORDINAL = (*_ISIC[:2], Attribute("site", "site", codes={s: float(i) for i, s in enumerate(SITES)}, unknown=None))
_DERM7PT: tuple[Attribute, ...] = (
    _SEX,
    *(Attribute(f"derm7pt__{name}", name, DERM7PT[name]) for name in ("location", "elevation")),
)
_DERM7PT_LEAKY: tuple[Attribute, ...] = (
    *_DERM7PT,
    *(Attribute(f"derm7pt__{name}", name, DERM7PT[name]) for name in ("difficulty", "management")),
)
ENCODERS: dict[str, tuple[Attribute, ...]] = {
    "pad81": _PAD81,
    "pad45": tuple(a for a in _PAD81 if a.name not in _LEFT_OUT_OF_45),
    "pad17": tuple(a for a in _PAD81 if a.name in ("age_years", "sex", "region")),
    "isic": _ISIC,
    "isic_ordinal": _ISIC_ORDINAL,
    "derm7pt": _DERM7PT,
    "derm7pt_leaky": _DERM7PT_LEAKY,
    "none": (),
}
"""Encoder name -> its attributes in the order of their columns."""
_OF_SITE = ("site", "region", "derm7pt__location")
SAME: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_OF_SITE, _OF_SITE),
    "elevation": ("derm7pt__elevation",),
    "derm7pt__elevation": ("elevation",),
}
"""Attribute -> others that say the same of a case in other words."""
LEAKY: dict[str, dict[str, Any]] = {
    "derm7pt_leaky": {
        "columns": "derm7pt__difficulty and derm7pt__management",
        "target": "melanoma",
        "auroc": 0.888,
        "n": 395,
        "sentence": "difficulty and management were written down by the expert who made the diagnosis: on the official "
        "test set of 395 cases the metadata with these two alone reach an accuracy of 0.727 and an AUROC of 0.888 for "
        "melanoma, which no picture did. Figures of a model that reads them measure them.",
    }
}
"""Encoder -> what of it is not known before the diagnosis, as ``skinkit.audit.label_attributes`` words it."""
ZEROS, INDICATOR, MEDIAN = POLICIES = ("zeros", "indicator", "median")
"""How what is unknown is written."""
_UNK = "UNK"
PATIENT_ATTRIBUTES = (
    "smoke", "drink", "background_father", "background_mother", "pesticide", "sex", "skin_cancer_history",
    "cancer_history", "has_piped_water", "has_sewage_system", "fitzpatrick", "diameter_1_mm", "diameter_2_mm",
)  # fmt: skip
"""Attributes that PAD-UFES-20 knows of all biopsied lesions and of few others: their absence reveals the class."""


@dataclass(frozen=True)
class Standardiser:
    """Fills what is unknown and brings each column to mean 0 and standard deviation 1, as on the training rows.

    Attributes:
        columns: column names.
        fill: written where a value is unknown.
        mean: of the training rows.
        scale: population standard deviation of the training rows; 1 where a column is constant.
    """

    columns: tuple[str, ...]
    fill: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @staticmethod
    def fit(columns: Sequence[str], values: Floats, fill: Sequence[float | None]) -> Standardiser:
        """Fit on training rows.

        Args:
            columns: names.
            values: (n, columns), NaN where unknown.
            fill: value for unknown; None takes the median of the known values (0 where none is known).
        """
        chosen = [_median(values[:, j]) if f is None else f for j, f in enumerate(fill)]
        filled = _filled(values, chosen)
        mean = filled.mean(axis=0) if len(filled) else np.zeros(len(columns))
        spread = filled.std(axis=0) if len(filled) else np.ones(len(columns))
        # A column that is constant up to rounding carries nothing; dividing by its rounding error would invent signal.
        scale = np.where(spread > 1e-12 * np.maximum(1.0, np.abs(mean)), spread, 1.0)
        return Standardiser(tuple(columns), tuple(chosen), tuple(mean.tolist()), tuple(scale.tolist()))

    def apply(self, values: Floats) -> Floats:
        """(n, columns) with NaN for unknown -> filled and standardised."""
        out: Floats = (_filled(values, self.fill) - np.array(self.mean)) / np.array(self.scale)
        return out

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(getattr(self, name)) for name in ("columns", "fill", "mean", "scale")}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Standardiser:
        """The inverse of :meth:`as_dict`."""
        return Standardiser(**{name: tuple(values[name]) for name in ("columns", "fill", "mean", "scale")})


def hidden_versions(encoded: Floats, unknown: Floats, block: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Encoded attributes (n, columns) with the patient block unknown, and with everything unknown.

    Args:
        encoded: (n, columns).
        unknown: (columns,) what is written where nothing is known.
        block: (columns,) which belong to the patient block.
    """
    return np.where(block, unknown, encoded), np.broadcast_to(unknown, encoded.shape).copy()


@dataclass(frozen=True)
class Encoder:
    """A fitted encoder.

    Attributes:
        name: key of :data:`ENCODERS`.
        standardiser: fill, mean and scale of every column.
        reads: the attributes that differed among the training rows; a model can have learnt nothing from the others.
        missing: how what is unknown is written: ``zeros``, ``indicator`` or ``median``.
    """

    name: str
    standardiser: Standardiser
    reads: tuple[str, ...]
    missing: str = ZEROS

    @staticmethod
    def fit(name: str, training: pd.DataFrame, missing: str = ZEROS) -> Encoder:
        """Fit on training rows; an unknown name or policy raises :class:`ConfigError`."""
        raw = encode_raw(name, training, missing)
        fill = [None if missing == MEDIAN and not (a.values or a.codes) else a.unknown for a in _owners(name, missing)]
        standardiser = Standardiser.fit(column_names(name, missing), raw, fill)
        varied = np.ptp(_filled(raw, standardiser.fill), axis=0) > 0 if len(raw) else np.zeros(raw.shape[1], bool)
        read = {a.name for a, v in zip(_owners(name, missing), varied, strict=True) if v}
        reads = tuple(a.name for a in _attributes(name) if a.name in read)
        return Encoder(name, standardiser, reads, missing)

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in order."""
        return self.standardiser.columns

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attribute behind each column."""
        return tuple(a.name for a in _owners(self.name, self.missing))

    def encode(self, frame: pd.DataFrame, *, scaled: bool = True) -> Floats:
        """(n rows) -> (n, columns); unscaled columns are the raw vector with what is unknown filled."""
        raw = encode_raw(self.name, frame, self.missing)
        return self.standardiser.apply(raw) if scaled else _filled(raw, self.standardiser.fill)

    @property
    def unknown(self) -> tuple[float, ...]:
        """What :meth:`encode` writes into each column for a case of which nothing is known."""
        return tuple(self.encode(pd.DataFrame(index=[0]))[0].tolist())

    def hidden(self, encoded: Floats) -> dict[str, Floats]:
        """What :meth:`encode` answered (n, columns), with less known.

        Returns:
            ``block_hidden``, the patient block unknown, and ``all_hidden``, everything; (n, columns) each.
        """
        block = np.array([name in PATIENT_ATTRIBUTES for name in self.attributes], dtype=bool)
        block_hidden, all_hidden = hidden_versions(encoded, np.array(self.unknown), block)
        return {"block_hidden": block_hidden, "all_hidden": all_hidden}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "missing": self.missing,
            "reads": list(self.reads),
            **self.standardiser.as_dict(),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Encoder:
        """The inverse of :meth:`as_dict`."""
        # Models trained before there was a choice do not record it.
        policy = str(values.get("missing", ZEROS))
        return Encoder(str(values["name"]), Standardiser.from_dict(values), tuple(values["reads"]), policy)


def _attributes(name: str) -> tuple[Attribute, ...]:
    if name not in ENCODERS:
        raise ConfigError(
            f"unknown encoder {name!r}", did_you_mean(name, ENCODERS), "give --attributes one of these, or auto"
        )
    return ENCODERS[name]


def _flag(attribute: Attribute, missing: str) -> str:
    """Name of the further column that says an attribute is unknown; empty where it has none."""
    if missing not in POLICIES:
        raise ConfigError(f"missing = {missing!r}", did_you_mean(missing, POLICIES), "give --missing one of these")
    own = missing == MEDIAN and bool(attribute.values) and _UNK not in attribute.values
    return f"{attribute.label}_missing" if missing == INDICATOR else f"{attribute.label}_unknown" if own else ""


def _owners(name: str, missing: str) -> list[Attribute]:
    """The attribute behind each column."""
    attributes = _attributes(name)
    return [a for a in attributes for _ in a.columns] + [a for a in attributes if _flag(a, missing)]


def column_names(name: str, missing: str = ZEROS) -> tuple[str, ...]:
    """Column names of an encoder under a policy."""
    own = [column for attribute in _attributes(name) for column in attribute.columns]
    return (*own, *filter(None, (_flag(attribute, missing) for attribute in _attributes(name))))


def encode_raw(name: str, frame: pd.DataFrame, missing: str = ZEROS) -> Floats:
    """(n, columns): one-hot categories and numbers (NaN where unknown); nothing fitted.

    Args:
        name: of the encoder.
        frame: cases.
        missing: policy; under ``zeros`` an unknown category is all zeros.
    """
    parts, flags = [], []
    for attribute in _attributes(name):
        values = frame[attribute.name].tolist() if attribute.name in frame else [None] * len(frame)
        columns = attribute.encode(values)
        unknown = np.all(columns == 0, axis=1) if attribute.values else np.isnan(columns[:, 0])
        if missing == MEDIAN and _UNK in attribute.values:
            columns[unknown, attribute.values.index(_UNK)] = 1.0
        parts.append(columns)
        if _flag(attribute, missing):
            flags.append(unknown[:, None].astype(np.float64))
    return np.concatenate([*parts, *flags], axis=1) if parts else np.zeros((len(frame), 0))


def missing_attributes(row: Mapping[str, Any], name: str, reads: Container[str] | None = None) -> list[str]:
    """The attributes an encoder reads that a case lacks, or has in words the encoder does not know.

    Args:
        row: a case.
        name: the encoder.
        reads: leave out all but these, for example :attr:`Encoder.reads`.
    """
    lacking = []
    for attribute in _attributes(name):
        if reads is not None and attribute.name not in reads:
            continue
        columns = attribute.encode([row.get(attribute.name)])
        if np.isnan(columns).any() or (attribute.values and not columns.any()):
            lacking.append(attribute.name)
    return lacking


_NEARLY_ALL = 0.9


def choose_encoder(frame: pd.DataFrame) -> str:
    """``derm7pt`` for derm7pt alone, ``pad81`` where any case has a PAD-UFES-20 attribute, else ``isic``."""
    if "derm7pt__location" in frame and frame["derm7pt__location"].notna().mean() > _NEARLY_ALL:
        return "derm7pt"
    has = any(column.name in frame and bool(frame[column.name].notna().any()) for column in PAD_ATTRIBUTES)
    return "pad81" if has else "isic"


def radiomic_columns(names: Iterable[str]) -> list[str]:
    """The radiomic features among these column names, in order."""
    return [name for name in names if _RADIOMIC.match(name)]


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _median(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0


def _filled(values: Floats, fill: Sequence[float]) -> Floats:
    return np.where(np.isfinite(values), values, np.asarray(fill, dtype=np.float64)[None, :])
