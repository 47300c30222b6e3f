"""What an export in a hospital's format says of each delivered row: the row, its prediction, its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skinkit.artifacts.artifact import Artifact
from skinkit.errors import InputError
from skinkit.exchange.fhir import Result
from skinkit.radiomics.names import FEATURE_NAMES
from skinkit.reporting.export_table import Row
from skinkit.schemas import IMAGE, OK


def results_of(rows: Sequence[Row], predictions: Artifact, features: Artifact | None) -> list[Result]:
    """The results of delivered rows of one cohort.

    Args:
        rows: of a delivery.
        predictions: of the same cohort and model.
        features: of its images; None without any.

    Raises:
        InputError: another run has replaced the predictions since the rows were read.
    """
    answers: dict[Any, Mapping[str, Any]] = {(row["level"], row["case_id"]): row for row in predictions.rows()}
    measured: dict[Any, Mapping[str, float]] = {}
    if features is not None:
        measured = {row["image_id"]: row for row in features.rows() if row["status"] == OK}
    results = []
    for row in rows:
        if row["status"] != OK:
            results.append(Result(row))
            continue
        answer = answers.get((row["level"], row["case"] if row["level"] == IMAGE else row[row["level"]]), {})
        if (answer.get("malignancy"), answer.get("model_identity")) != (row["malignancy"], row["model_hash"]):
            raise InputError(
                "the predictions were replaced during the export", "predictions that stay", "run the command again"
            )
        values = measured.get(row["image"], {}) if row["level"] == IMAGE else {}
        results.append(Result(row, answer, {name: values[name] for name in FEATURE_NAMES if name in values}))
    return results
