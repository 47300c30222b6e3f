"""Several models on the same cases: which differ, and macro-averaged ROC curves; arrays and tables in, numbers out.

Pairs are compared on the same draws of patients (``evaluation.comparison``). A model that adds one thing is compared
with the model that lacks it, and every model with the whole system. Holm's correction covers the pairs of one figure on
one cohort. Of a model that was trained with several seeds every figure is the mean over them, with the interval of that
mean over patients; the standard deviation over the seeds stands beside it, not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from skinkit.artifacts.files import json_values
from skinkit.errors import InputError, RefusedError
from skinkit.evaluation.comparison import PARTS, WITH_MARGIN, ComparedModel, compare, over_seeds
from skinkit.evaluation.metric_table import rows_of
from skinkit.evaluation.scoring import HEADLINE, HEADLINE_MALIGNANT, Answers
from skinkit.stats.cross_fit import holm
from skinkit.stats.intervals import (
    LeaveOut,
    bounded_interval,
    effective_patients,
    positive_interval,
    ratios_left_out,
)
from skinkit.stats.metrics import EPS, MALIGNANT, Floats, roc_curve

Row = tuple[str, str, str, str, str]
"""Class, rule, metric, average and words of a figure."""
_ROWS: dict[str, Row] = {**HEADLINE, **HEADLINE_MALIGNANT}
SHOWN: dict[str, Row] = {
    **{name: _ROWS[name] for name in ("macro_auroc", "malignant_auroc", "balanced_accuracy")},
    **{name: _ROWS[f"malignant_{name}"] for name in ("sensitivity", "specificity")},
}
"""Columns of the table of arms: name -> class, rule, metric, average and words."""
EXTENDS, WHOLE = "adds one thing", "against the whole system"
OF_SEEDS = ("auroc", "average_precision", "balanced_accuracy", "accuracy", "f1", "mcc", "sensitivity", "specificity")
"""Metrics whose mean over seeds has an interval: it follows from the values without each patient alone."""


def further(names: Sequence[str]) -> dict[str, Row]:
    """Further columns of that table, by their names in ``evaluation.scoring``."""
    return {name: _ROWS[name] for name in names}


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
    watched: Sequence[str] = (),
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], str]]:
    """Paired differences of every pair on the cases both predicted, and the pairs that cannot be compared.

    Args:
        sides: arm -> its predictions of one cohort; arms without any are absent.
        chosen: of :func:`pairs`.
        seed: of the groups of many patients.
        minimum: fewest positives and negatives for which a class metric is compared.
        watched: classes whose AUROC and sensitivity are compared too.

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
            compared = compare(sides[a], sides[b], seed=seed, common=True, minimum=minimum, watched=watched)
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
        sides: cohort -> its predictions there, of the same seeds; cases are identified by cohort and id, patients by
            group.
    """
    first, *again = (
        _joined(name, dict(zip(sides, of, strict=True)))
        for of in zip(*(side.seeds() for side in sides.values()), strict=True)
    )
    return replace(first, again=tuple(side.evaluation for side in again))


def _joined(name: str, sides: Mapping[str, ComparedModel]) -> ComparedModel:
    """:func:`together` of one seed."""
    tables = [side.cases.assign(case_id=f"{cohort}/" + side.cases["case_id"]) for cohort, side in sides.items()]
    one = next(iter(sides.values())).evaluation
    table = pd.concat(tables, ignore_index=True)
    return ComparedModel(name, replace(one, table=table, thresholds={}))


def cases_of(side: ComparedModel) -> list[str]:
    """The cases that every seed of a model predicted, in order."""
    return sorted(set.intersection(*(set(one.cases.index) for one in side.seeds())))


def mean_rows(side: ComparedModel, *, seed: int, minimum: int) -> pd.DataFrame:
    """A metrics table of the means over the seeds of one model, with ``sd``, the standard deviation over them.

    Args:
        side: its predictions of one cohort, of two seeds or more.
        seed: of the groups of many patients.
        minimum: as ``metric_table.rows_of`` takes it.

    Returns:
        Rows as ``metric_table.rows_of`` gives them, of :data:`OF_SEEDS`, for all images.
    """
    cases = cases_of(side)
    cluster = side.on(cases).scored(None).cluster
    of_seeds = side.measured(cases, LeaveOut(cluster, seed), cluster, PARTS)
    rows = []
    for row in rows_of(over_seeds(of_seeds), minimum):
        if row["metric"] in OF_SEEDS:
            key = row["class"], row["average"], row["decision_rule"], row["metric"]
            rows.append({**row, "sd": float(np.std([one.point[key][0] for one in of_seeds], ddof=1))})
    task = side.evaluation.task
    return pd.DataFrame(rows).assign(subgroup="all", task=task).astype({"note": object, "threshold_source": object})


def agreement(teacher: ComparedModel, student: ComparedModel) -> dict[str, Any]:
    """How far a student answers as its teacher, on the cases that both predicted; means over their seeds.

    Args:
        teacher: its predictions; of one seed for all seeds of the student, or of as many.
        student: likewise.

    Returns:
        ``n``; ``agreement``, the share of cases of the same most probable class, and ``divergence``, the mean of
        KL(teacher || student) of the calibrated probabilities in nats, each with its interval over patients.
    """
    cases = sorted(set(cases_of(teacher)) & set(cases_of(student)))
    of_teacher, of_student = ([one.on(cases).scored(None) for one in side.seeds()] for side in (teacher, student))
    n = max(len(of_teacher), len(of_student))
    if n % len(of_teacher) or n % len(of_student):
        n = min(len(of_teacher), len(of_student))  # the seeds that both have, from the first
    pairs_of_seeds = [(of_teacher[i % len(of_teacher)], of_student[i % len(of_student)]) for i in range(n)]
    same = np.mean([t.predicted == s.predicted for t, s in pairs_of_seeds], axis=0)
    divergences = np.mean([_divergence(t.probability, s.probability) for t, s in pairs_of_seeds], axis=0)
    cluster = of_teacher[0].cluster
    patients, cells = len(np.unique(cluster)), {"effective": effective_patients(cluster), "cases": len(cases)}
    answer: dict[str, Any] = {"n": len(cases)}
    for name, values in (("agreement", same), ("divergence", divergences)):
        estimate, without = ratios_left_out(values, np.ones(len(cases)), cluster)
        lower, upper = (
            bounded_interval(estimate, without, patients, **cells)
            if name == "agreement"
            else positive_interval(estimate, without, patients)
        )
        answer[name] = json_values({"estimate": estimate, "lower": lower, "upper": upper})
    return answer


def _divergence(p: Floats, q: Floats) -> Floats:
    """KL(p || q) of each row of two (n, classes) tables of probabilities, nats."""
    p, q = np.clip(p, EPS, 1), np.clip(q, EPS, 1)
    divergence: Floats = (p * np.log(p / q)).sum(axis=1)
    return divergence


def mean_roc(side: ComparedModel, rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Class, or malignant -> its ROC curve, the mean over seeds, with ``auroc``, ``lower`` and ``upper`` of the rows.

    Args:
        side: predictions of one cohort.
        rows: of :func:`mean_rows`.
    """
    cases, answers = cases_of(side), Answers(rows, side.evaluation.task)
    scored = [one.on(cases).scored(None) for one in side.seeds()]
    classes = scored[0].classes
    curves = {
        name: [roc_curve(one.probability[:, i], one.truth == i) for one in scored]
        for i, name in enumerate(classes)
        if 0 < np.count_nonzero(scored[0].truth == i) < len(cases)
    }
    scores = [one.malignancy for one in scored if one.malignancy is not None]
    if len(scores) == len(scored) and 0 < scored[0].is_malignant.sum() < len(cases):
        curves[MALIGNANT] = [roc_curve(score, scored[0].is_malignant) for score in scores]
    areas = {name: answers.get(name, "none", "auroc") for name in curves}
    return {
        name: {
            **macro_roc({str(i): curve for i, curve in enumerate(of)}),
            "auroc": areas[name]["estimate"], "lower": areas[name]["lower"], "upper": areas[name]["upper"],
        }
        for name, of in curves.items()
    }  # fmt: skip


def summary(rows: pd.DataFrame, shown: Mapping[str, Row] = SHOWN) -> dict[str, dict[str, Any]]:
    """The shown figures with their intervals, from a metrics table; of several seeds also ``sd``."""
    answers = Answers(rows)
    figures = {name: answers.get(c, rule, metric, average) for name, (c, rule, metric, average, _) in shown.items()}
    if "sd" in rows:
        keys = ["class", "decision_rule", "metric", "average"]
        sd = {tuple(row[:4]): row[4] for row in rows[[*keys, "sd"]].itertuples(index=False, name=None)}
        figures = {name: {**figure, "sd": _plain(sd.get(shown[name][:4]))} for name, figure in figures.items()}
    return figures


def _plain(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


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
