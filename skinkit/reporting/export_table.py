"""The table of a cohort for a hospital information system: one row per case, lesion or patient.

A case without a prediction is included with the reason. Cases without a lesion id (or patient id) are rows of their own
at level lesion (patient).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.row_dates import Dating
from skinkit.artifacts.tables import TABLE, opened_table
from skinkit.schemas import EXCLUDED, FAILED, IMAGE, OK, PENDING
from skinkit.schemas import LEVELS as LEVELS

COLUMNS = (
    "accession", "patient", "lesion", "case", "image", "cohort", "level", "status", "malignancy", "call", "refer",
    "reason", "top1", "top1_p", "model", "model_hash", "time", "run", "skinkit", "pseudonym", "change", "sequence",
)  # fmt: skip
"""``accession`` is the exam's number if the source has one, else the case; ``reason`` is why to refer, or why there is
no prediction; ``time`` is when the row last changed, by the clock of that run; ``pseudonym`` is the name in reports of
a row exported with its original ids; ``change`` is what the receiver has to do with the row; ``sequence`` is the number
of the state in which it became what it is (:mod:`skinkit.reporting.delivery`)."""
IDS = ("accession", "patient", "lesion", "case", "image")
"""Columns that contain an id."""
_CASES = ("image_id", "case_id", "patient_id", "lesion_id", "accession", "view", "status", "reason")
_PREDICTIONS = (
    "level", "case_id", "image_id", "patient_id", "lesion_id", "status", "reason", "malignancy", "call", "refer",
    "refer_reason", "top1", "top1_p", "model", "model_identity",
)  # fmt: skip
_WORST_FIRST = (FAILED, PENDING, OK, EXCLUDED)
Row = dict[str, Any]


def rows_of(cohort: str, cases: Artifact, predictions: Artifact, level: str) -> list[Row]:
    """Every row of a cohort, with its :class:`Dating` under ``dating``.

    Args:
        cohort: its name.
        cases: of ``ingest``.
        predictions: of ``predict``.
        level: of :data:`LEVELS`.
    """
    images = _dated(cases, _CASES)
    exam = {row["image_id"]: row.get("accession") for row in images}
    # What is no longer among the cases is withdrawn, also where predict has not run since.
    there = {name: {row[f"{'case' if name == IMAGE else name}_id"] for row in images} for name in LEVELS}
    answers = [row for row in _dated(predictions, _PREDICTIONS) if row["case_id"] in there[row["level"]]]
    predicted = [_predicted(cohort, row, exam) for row in answers]
    predicted_cases = {row["case"] for row in predicted if row["level"] == "image"}
    rows = [row for row in predicted if row["level"] == "image"] + _without(cohort, images, predicted_cases)
    if level != "image":
        rows = _joined(rows, [row for row in predicted if row["level"] == level], level)
    return rows


def since(rows: Iterable[Row], moment: datetime.datetime | None, run: str = "") -> list[Row]:
    """The rows that changed at or after that time, or in or after that run, by the clocks of the runs."""
    return [
        row
        for row in rows
        if moment is None or row["dating"].moment >= moment or (run and row["dating"].run == run)
    ]  # fmt: skip


def rename(rows: Iterable[Row], names: Mapping[str, str]) -> int:
    """Replace the ids in place; returns the number of ids without a replacement."""
    lost = set()
    for row in rows:
        row["pseudonym"] = row["case"] if row["level"] == "image" else row[row["level"]]
        for column in IDS:
            if row[column] is not None:
                lost |= set() if row[column] in names else {row[column]}
                row[column] = names.get(row[column], row[column])
    return len(lost)


def _dated(artifact: Artifact, columns: Sequence[str]) -> list[Row]:
    """The rows of a table with these columns and their dating."""
    with opened_table(artifact.path / TABLE) as file:
        present = [name for name in columns if name in file.schema_arrow.names]  # an older table may lack one
    dates = artifact.dates()
    # Read after the dates: rows() fails if another run has replaced the artifact in between.
    table = artifact.rows(present)
    return [
        {"dating": dating, **{name: row.get(name) for name in columns}}
        for row, dating in zip(table, dates, strict=True)
    ]


def _predicted(cohort: str, row: Mapping[str, Any], exam: Mapping[str, str | None]) -> Row:
    level, fine = row["level"], row["status"] == OK
    return {
        **_head(cohort, row, level, exam.get(row["image_id"])),
        "case": row["case_id"] if level == "image" else None,
        "lesion": row["case_id"] if level == "lesion" else row["lesion_id"],
        "patient": row["case_id"] if level == "patient" else row["patient_id"],
        **{name: row[name] for name in ("malignancy", "call", "refer", "top1", "top1_p", "model")},
        "model_hash": row["model_identity"],
        "reason": row["refer_reason"] if fine else row["reason"],
    }


def _head(cohort: str, row: Mapping[str, Any], level: str, accession: str | None) -> Row:
    dating: Dating = row["dating"]
    return {
        "accession": accession or row["case_id"],
        "image": row["image_id"],
        "cohort": cohort,
        "level": level,
        "status": row["status"],
        "time": dating.moment.isoformat(timespec="seconds") if dating.at else None,
        "run": dating.run or None,
        "skinkit": dating.skinkit or None,
        "dating": dating,
    }


def _without(cohort: str, images: Iterable[Row], predicted_cases: set[Any]) -> list[Row]:
    """One row per case without a prediction; of several images the one with the worst status."""
    worst: dict[Any, Row] = {}
    for image in sorted(images, key=lambda row: (_WORST_FIRST.index(row["status"]), str(row["image_id"]))):
        if image["case_id"] not in predicted_cases:
            worst.setdefault(image["case_id"], image)
    rows = []
    for case, image in worst.items():
        waiting = image["status"] == OK
        row = {**image, "status": PENDING, "reason": "not_predicted"} if waiting else image
        rows.append(
            {
                **_head(cohort, row, "image", image["accession"]),
                "case": case,
                "lesion": image["lesion_id"],
                "patient": image["patient_id"],
                **dict.fromkeys(("malignancy", "call", "refer", "top1", "top1_p", "model", "model_hash")),
                "reason": row["reason"],
            }
        )
    return rows


def _joined(cases: Sequence[Row], predicted: Sequence[Row], level: str) -> list[Row]:
    """Predicted lesions or patients, those without a predicted case, and the cases without a lesion or patient id."""
    rows = list(predicted)
    predicted_ids = {row[level] for row in predicted}
    of_none: dict[Any, Row] = {}
    for case in sorted(cases, key=lambda row: _WORST_FIRST.index(row["status"])):
        if case[level] is None:
            rows.append(case)
        elif case[level] not in predicted_ids:
            of_none.setdefault(case[level], {**case, "level": level, "case": None})
    return [*rows, *of_none.values()]
