"""The rule of the seven-point checklist on predicted criteria, against melanoma: how many it finds, how many it spares.

It stands beside the diagnosis, which the same model answers: a reader sees whether the criteria alone would have called
the lesion. The score is of the most probable classes; its AUROC is that of the probability of 3 points or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from skinkit.evaluation.markdown import with_interval
from skinkit.schemas import IMAGE
from skinkit.stats.intervals import proportion_interval
from skinkit.stats.metrics import auroc
from skinkit.stats.notes import TOO_FEW_PATIENTS, words_of
from skinkit.stats.seven_point import CHANCES, RULES, SCORE
from skinkit.taxonomy import ClassSet

if TYPE_CHECKING:
    import pandas as pd


def scored(table: pd.DataFrame, classes: ClassSet) -> dict[str, Any] | None:
    """Sensitivity and specificity of both rules; None without predicted criteria, or without a class of melanoma.

    Args:
        table: predictions with the true ``class`` and ``group_id``.
        classes: the model's classes.

    Returns:
        ``n``, ``n_melanoma``, ``auroc`` and for each rule ``from_1`` and ``from_3``: ``sensitivity`` and
        ``specificity``, each ``estimate``, ``lower`` and ``upper`` over patients (NaN where undefined or too few).
    """
    code = classes.to_class("melanoma")
    if SCORE not in table or code is None:
        return None
    cases = table[(table["level"] == IMAGE) & table[SCORE].notna()]
    if cases.empty:
        return None
    sick, cluster = (cases["class"] == code).to_numpy(), cases["group_id"].to_numpy(dtype=str)
    score = cases[SCORE].to_numpy(dtype=float)
    answer: dict[str, Any] = {"n": len(cases), "n_melanoma": int(sick.sum())}
    answer["auroc"] = auroc(cases[CHANCES[max(RULES)]].to_numpy(dtype=float), sick)
    for rule in RULES:
        called = score >= rule
        sides = {"sensitivity": (called, sick), "specificity": (~called, ~sick)}
        answer[f"from_{rule}"] = {name: _share(right, of, cluster) for name, (right, of) in sides.items()}
    return answer


def _share(right: np.ndarray, of: np.ndarray, cluster: np.ndarray) -> dict[str, float]:
    if not of.any():
        return dict.fromkeys(("estimate", "lower", "upper"), float("nan"))
    lower, upper = proportion_interval(right, of, cluster)
    return {"estimate": float(right[of].mean()), "lower": lower, "upper": upper}


def text(answer: Mapping[str, Any]) -> str:
    """Lines for a terminal."""

    def cell(figure: Mapping[str, float]) -> str:
        unknown = np.isnan(figure["estimate"])
        return "no case" if unknown else with_interval(figure, none=words_of(TOO_FEW_PATIENTS))

    lines = [
        f"\n  seven-point checklist of the predicted criteria, {rule} or more for melanoma: sensitivity "
        f"{cell(answer[f'from_{rule}']['sensitivity'])}, specificity {cell(answer[f'from_{rule}']['specificity'])}"
        for rule in RULES
    ]
    return "".join(lines)
