"""Which lesions a report shows and explains: the most suspicious, those called wrongly, and the most uncertain.

A lesion has one place however many photos it has, that of its most malignant photo. The choice of a smaller number is
part of the choice of a larger one, so that what was explained for many serves a report that shows few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from skinkit.artifacts.tables import records
from skinkit.taxonomy import ClassSet

GROUPS = ("highest", "wrong", "undecided")
MISSED, FALSE_ALARM = "missed", "false_alarm"


def verdict(truth: str | None, call: str | None, classes: ClassSet | None) -> str:
    """``missed``, ``false_alarm``, or empty where the call is right or one of both is unknown.

    Args:
        truth: diagnosis of the case table.
        call: ``malignant`` or ``benign``.
        classes: of the model.
    """
    class_ = classes.to_class(truth or None) if classes is not None else None
    if classes is None or class_ is None or not call:
        return ""
    malignant = class_ in classes.malignant
    return "" if malignant == (call == "malignant") else MISSED if malignant else FALSE_ALARM


def instructive(
    predictions: pd.DataFrame, truth: Mapping[str, str], classes: ClassSet | None, each: int
) -> list[tuple[str, str]]:
    """Group and case of the lesions to show, a group after the other, missed malignant ones first among the wrong.

    Args:
        predictions: rows of level image that are ok.
        truth: case -> diagnosis, where it is known.
        classes: of the model.
        each: lesions of a group at most; 0 for all.
    """
    rows = records(one_photo_per_lesion(predictions))
    verdicts = {row["case_id"]: verdict(truth.get(row["case_id"]), _text(row.get("call")), classes) for row in rows}

    def how_wrong(row: Mapping[str, Any]) -> tuple[Any, ...]:
        missed = verdicts[row["case_id"]] == MISSED
        return not missed, _high(row, "malignancy") * (1 if missed else -1), row["case_id"]

    ordered: dict[str, Sequence[Mapping[str, Any]]] = {
        "highest": sorted(rows, key=lambda row: (-_high(row, "malignancy"), row["case_id"])),
        "wrong": sorted((row for row in rows if verdicts[row["case_id"]]), key=how_wrong),
        "undecided": sorted(rows, key=lambda row: (-_high(row, "entropy"), row["case_id"])),
    }
    chosen: dict[str, str] = {}
    for group in GROUPS:
        fresh = [str(row["case_id"]) for row in ordered[group] if row["case_id"] not in chosen]
        chosen |= dict.fromkeys(fresh[: each or None], group)
    return [(group, case) for case, group in chosen.items()]


def one_photo_per_lesion(predictions: pd.DataFrame) -> pd.DataFrame:
    """The most malignant photo of each lesion, most malignant first; a photo without a lesion counts as one."""
    table = predictions.sort_values(["malignancy", "case_id"], ascending=[False, True], kind="stable")
    patient, lesion = (table[name].astype(object) if name in table else None for name in ("patient_id", "lesion_id"))
    if lesion is None:
        return table
    key = lesion.where(lesion.notna(), "case:" + table["case_id"].astype(str))
    if patient is not None:
        key = key.astype(str) + "|" + patient.fillna("").astype(str)
    return table[~key.duplicated()]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _high(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return -1.0 if value is None or pd.isna(value) else float(value)
