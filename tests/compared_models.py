"""Predictions of two models on the same drawn cases, as a comparison reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skinkit.evaluation import comparison, outside_predictions, scoring
from skinkit.stats.metrics import softmax

CLASSES = ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
MALIGNANT = np.array([False, True, True, False, True, False])


def cases(n: int = 240, seed: int = 0, skill: float | np.ndarray = 2.0, model: int = 1, **columns: Any) -> pd.DataFrame:
    """Predictions of ``n`` cases, two a patient; another ``model`` answers otherwise about the same cases."""
    truth = np.random.default_rng(seed).integers(6, size=n)
    logits = np.random.default_rng([seed, model]).normal(size=(n, 6))
    logits[np.arange(n), truth] += skill
    p = softmax(logits)
    frame = pd.DataFrame({f"p__diagnosis__{c}": p[:, i] for i, c in enumerate(CLASSES)})
    return frame.assign(
        case_id=[f"C{i:04d}" for i in range(n)],
        patient_id=[f"P{i // 2:04d}" for i in range(n)],
        diagnosis=[CLASSES[t] for t in truth],
        **columns,
    )


def side(name: str, table: pd.DataFrame, malignant: str = "") -> comparison.ComparedModel:
    read = outside_predictions.checked(
        table, truth_column="diagnosis", classes="", malignant=malignant, threshold=0.3, file=Path(f"{name}.csv")
    )
    return comparison.ComparedModel(name, scoring.Evaluation(read.table, read.classes, {}, read.malignant_set, "given"))
