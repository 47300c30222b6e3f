"""Several models on the same cases: which differ, and macro-averaged ROC curves; arrays and tables in, numbers out.

Pairs are compared on the same draws of patients (``evaluation.comparison``). A model that adds one thing is compared
with the model that lacks it, and every model with the whole system. Holm's correction covers the pairs of one figure on
one cohort.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from skinkit.errors import InputError, RefusedError
from skinkit.evaluation.comparison import WITH_MARGIN, ComparedModel, compare
from skinkit.evaluation.scoring import HEADLINE, HEADLINE_MALIGNANT, Answers
from skinkit.stats.cross_fit import holm
from skinkit.stats.metrics import MALIGNANT

_ROWS = {**HEADLINE, **HEADLINE_MALIGNANT}
SHOWN = {
    **{name: _ROWS[name] for name in ("macro_auroc", "malignant_auroc", "balanced_accuracy")},
    **{name: _ROWS[f"malignant_{name}"] for name in ("sensitivity", "specificity")},
}
"""Columns of the table of arms: name -> class, rule, metric, average and words."""
EXTENDS, WHOLE = "adds one thing", "against the whole system"


def pairs(arms: Mapping[str, Sequence[str]], whole: str) -> dict[tuple[str, str], str]:
    """The compared pairs of arms, the smaller arm first, and the reason.

    Args:
        arms: arm -> the arms it extends, from small to large; arms that were left out are skipped.
        whole: the arm of the whole system.

    Returns:
        (smaller arm, larger arm) -> :data:`EXTENDS` or :data:`WHOLE`; each pair once.
    """
    chosen = {(poorer, arm): EXTENDS for arm, extended in arms.items() for poorer in extended if poorer in arms}
    if whole in arms:
        chosen |= {(arm, whole): WHOLE for arm in arms if arm != whole and (arm, whole) not in chosen}
    return chosen


def compare_pairs(
    sides: Mapping[str, ComparedModel],
    chosen: Mapping[tuple[str, str], str],
    *,
    seed: int,
    minimum: int,
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], str]]:
    """Paired differences of every pair on the cases both predicted, and the pairs that cannot be compared.

    Args:
        sides: arm -> its predictions of one cohort; arms without any are absent.
        chosen: of :func:`pairs`.
        seed: of the groups of many patients.
        minimum: fewest positives and negatives for which a class metric is compared.

    Returns:
        Rows with ``a``, ``b`` (arms; the difference is b minus a), ``why``, ``n``, ``n_clusters``, ``left_out`` and the
        columns of ``comparison.compare``, with ``p_holm``; and pair -> why it was not compared.
    """
    rows: list[dict[str, Any]] = []
    refused: dict[tuple[str, str], str] = {}
    for (a, b), why in chosen.items():
        if a not in sides or b not in sides:
            continue
        try:
            compared = compare(sides[a], sides[b], seed=seed, common=True, minimum=minimum)
        except (RefusedError, InputError) as error:
            refused[a, b] = error.found
            continue
        about = {
            "why": why,
            "n": compared["n"],
            "n_clusters": compared["n_clusters"],
            "left_out": sum(compared["left_out"].values()),
        }
        for row in compared["differences"]:
            values = {"figure": row["name"], "value_a": row["a"], "value_b": row["b"]}
            rest = {name: row[name] for name in row if name not in ("name", "a", "b", *WITH_MARGIN)}
            rows.append({"a": a, "b": b, **about, **values, **rest})
    return with_holm(rows), refused


def with_holm(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ``p_holm``: their p after Holm's correction over all rows of the same figure; None where none."""
    for figure in dict.fromkeys(row["figure"] for row in rows):
        same = [row for row in rows if row["figure"] == figure]
        adjusted = holm([np.nan if row["p"] is None else row["p"] for row in same])
        for row, p in zip(same, adjusted, strict=True):
            row["p_holm"] = None if np.isnan(p) else float(p)
    return rows


def together(name: str, sides: Mapping[str, ComparedModel]) -> ComparedModel:
    """One model's images of several cohorts as one side.

    Args:
        name: of the model.
        sides: cohort -> its predictions there; cases are identified by cohort and id, patients by group.
    """
    tables = [side.cases.assign(case_id=f"{cohort}/" + side.cases["case_id"]) for cohort, side in sides.items()]
    one = next(iter(sides.values())).evaluation
    table = pd.concat(tables, ignore_index=True)
    return ComparedModel(name, replace(one, table=table, thresholds={}))


def summary(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The figures of :data:`SHOWN` with their intervals, from a metrics table."""
    answers = Answers(rows)
    return {name: answers.get(c, rule, metric, average) for name, (c, rule, metric, average, _) in SHOWN.items()}


def macro_roc(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """The mean of the classes' ROC curves at equal false positive rates: ``fpr`` and ``tpr``.

    Its area is the mean of their areas: where some of them rise vertically, so does the mean.

    Args:
        curves: class -> ``fpr`` and ``tpr``, both rising from 0 to 1.

    Source: vertical averaging, Fawcett, Pattern Recognition Letters 2006, algorithm 3.
    """
    sides = [
        [np.asarray(curve[side], dtype=np.float64) for side in ("fpr", "tpr")]
        for name, curve in curves.items()
        if name != MALIGNANT
    ]
    if not sides:
        return {"fpr": [], "tpr": []}
    grid = np.unique(np.concatenate([fpr for fpr, _ in sides]))
    # At a vertical step np.interp returns the last of the equal points: the upper end, or reversed the lower end.
    upper = np.mean([np.interp(grid, fpr, tpr) for fpr, tpr in sides], axis=0)
    lower = np.mean([np.interp(-grid, -fpr[::-1], tpr[::-1]) for fpr, tpr in sides], axis=0)
    return {"fpr": np.repeat(grid, 2).tolist(), "tpr": np.stack([lower, upper], axis=1).ravel().tolist()}
