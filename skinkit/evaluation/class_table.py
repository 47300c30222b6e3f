"""A table of classes in three modes: thresholds frozen beforehand, the most probable class, thresholds tuned here.

``frozen_threshold``: each threshold was chosen by Youden's index on the validation rows of a fold and applied as it is.
``argmax``: a case is called its most probable class. ``tuned_on_scored``: the threshold is chosen by Youden's index on
the scored cases themselves, as some papers do. Its sensitivity and specificity are optimistic by construction and are
reported for comparison with such papers only. AUROC needs no threshold and is the same in all three.

Averages over classes are named (macro, weighted, micro), as in ``metric_table``. Where several folds hold cases
out, each figure has its standard deviation over the folds. On an external cohort it is the standard deviation over the
folds' models, each scored alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skinkit.artifacts.files import json_values
from skinkit.evaluation.markdown import markdown_table, with_interval
from skinkit.evaluation.scoring import TRUTH, Answers
from skinkit.schemas import IMAGE, PROBABILITY
from skinkit.stats.metrics import ALL, Floats, Ints, auroc, youden_threshold

FROZEN, ARGMAX, TUNED = "frozen_threshold", "argmax", "tuned_on_scored"
MODES = {
    FROZEN: "thresholds frozen on validation rows",
    ARGMAX: "most probable class, no threshold",
    TUNED: "NOT A RESULT: thresholds chosen on the scored cases themselves, for comparison with papers that do so",
}
AVERAGES = ("macro", "weighted", "micro")
METRICS = ("auroc", "sensitivity", "specificity")


@dataclass(frozen=True)
class Answered:
    """Cases with their true class and the probabilities of one fold or of all folds together.

    Attributes:
        truth: (n,) class indices.
        probability: (n, classes).
        thresholds: (classes,) frozen beforehand; NaN where a fold could fit none.
    """

    truth: Ints
    probability: Floats
    thresholds: Floats

    def rates(self, c: int, mode: str) -> dict[str, float]:
        """AUROC, sensitivity and specificity of class ``c`` in a mode; NaN if undefined or without a threshold."""
        score, positive = self.probability[:, c], self.truth == c
        threshold = youden_threshold(score, positive) if mode == TUNED else float(self.thresholds[c])
        called = self.probability.argmax(axis=1) == c if mode == ARGMAX else score >= threshold
        decided = mode == ARGMAX or not np.isnan(threshold)
        has_positive, has_negative = positive.any() and decided, not positive.all() and decided
        return {
            "auroc": auroc(score, positive) if positive.any() and not positive.all() else float("nan"),
            "sensitivity": float(called[positive].mean()) if has_positive else float("nan"),
            "specificity": float((~called[~positive]).mean()) if has_negative else float("nan"),
        }


def class_table(
    metrics: pd.DataFrame, scored: pd.DataFrame, about: Mapping[str, Any], each_fold: Sequence[Floats] = ()
) -> list[dict[str, Any]]:
    """The table of one model on one cohort.

    Args:
        metrics: the metrics table.
        scored: the predictions behind the metrics table, with their truth (``scored.parquet``).
        about: ``model.json``.
        each_fold: (n, classes) probabilities of each fold's model, in the order of the images, for a cohort that all
            folds predict together; without it the cohort has no standard deviation.

    Returns:
        Rows with ``mode``, ``class``, ``average``, ``n``, ``threshold``, ``threshold_sd``, ``folds``, and for each of
        AUROC, sensitivity and specificity the estimate, ``_lower``, ``_upper`` (over patients; none for tuned
        thresholds) and ``_sd`` (over the folds; None where there is one).
    """
    classes = list(about["classes"]["classes"])
    images = scored[scored["level"] == IMAGE]
    frozen = [_thresholds(fold, classes) for fold in about["folds"]]
    whole = _answered(images, classes, np.full(len(classes), np.nan))
    numbers = [int(fold["fold"]) for fold in about["folds"]]
    held_out = [
        _answered(images[images["fold"] == number], classes, thresholds)
        for number, thresholds in zip(numbers, frozen, strict=True)
        if "fold" in images and (images["fold"] == number).any()
    ]
    if len(each_fold) and not held_out:
        held_out = [Answered(whole.truth, p, thresholds) for p, thresholds in zip(each_fold, frozen, strict=True)]
    answers = Answers(metrics)
    rows: list[dict[str, Any]] = []
    for mode in MODES:
        own = [_row(mode, c, name, answers, whole, held_out, frozen) for c, name in enumerate(classes)]
        rows += own + [
            _average(mode, average, answers, own) for average in AVERAGES if mode != TUNED or average == "macro"
        ]
    return rows


def _thresholds(fold: Mapping[str, Any], classes: Sequence[str]) -> Floats:
    thresholds = [fold["class_thresholds"][name]["threshold"] for name in classes]
    return np.array([np.nan if value is None else value for value in thresholds], dtype=np.float64)


def _answered(images: pd.DataFrame, classes: Sequence[str], thresholds: Floats) -> Answered:
    truth = np.array([classes.index(name) for name in images[TRUTH]], dtype=np.int64)
    return Answered(truth, images[[f"{PROBABILITY}{name}" for name in classes]].to_numpy(dtype=np.float64), thresholds)


def _row(
    mode: str,
    c: int,
    name: str,
    answers: Answers,
    whole: Answered,
    held_out: Sequence[Answered],
    frozen: Sequence[Floats],
) -> dict[str, Any]:
    """One class in one mode."""
    positive = whole.truth == c
    row: dict[str, Any] = {"mode": mode, "class": name, "average": "none", "n": int(positive.sum())}
    if mode == FROZEN:
        fitted = np.array([thresholds[c] for thresholds in frozen])
        fitted = fitted[~np.isnan(fitted)]
        row |= {"threshold": float(fitted.mean()) if len(fitted) else None, "threshold_sd": _sd(fitted)}
    else:
        tuned = youden_threshold(whole.probability[:, c], positive) if mode == TUNED else float("nan")
        row |= {"threshold": None if np.isnan(tuned) else tuned, "threshold_sd": None}
    by_fold = [one.rates(c, mode) for one in held_out] if mode != TUNED else []
    tuned_rates = whole.rates(c, TUNED) if mode == TUNED else {}
    for metric in METRICS:
        measured = answers.get(name, "none" if metric == "auroc" else mode, metric)
        figure = {"estimate": json_values(tuned_rates[metric])} if mode == TUNED and metric != "auroc" else measured
        row |= _figure(metric, figure, [rates[metric] for rates in by_fold])
    return {**row, "folds": len(held_out)}


def _average(mode: str, average: str, answers: Answers, own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The average of a mode; of tuned thresholds the plain mean of the classes that are present."""
    row: dict[str, Any] = {"mode": mode, "class": ALL, "average": average, "n": sum(one["n"] for one in own)}
    row |= {"threshold": None, "threshold_sd": None}
    for metric in METRICS:
        if mode == TUNED and metric != "auroc":
            values = [one[metric] for one in own if one["n"] and one[metric] is not None]
            row |= _figure(metric, {"estimate": float(np.mean(values)) if values else None}, [])
        else:
            row |= _figure(metric, answers.get(ALL, "none" if metric == "auroc" else mode, metric, average), [])
    return {**row, "folds": own[0]["folds"] if own else 0}


def _figure(metric: str, figure: Mapping[str, Any], by_fold: Sequence[float]) -> dict[str, Any]:
    ends = {f"{metric}_{end}": figure.get(end) for end in ("lower", "upper")}
    return {metric: figure.get("estimate"), **ends, f"{metric}_sd": _sd(np.asarray(by_fold, dtype=np.float64))}


def _sd(values: Floats) -> float | None:
    """Standard deviation (n - 1) of the values that are not NaN; None for fewer than two."""
    defined = values[~np.isnan(values)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else None


def markdown_of(rows: Sequence[Mapping[str, Any]], mode: str) -> str:
    """One mode of the table as Markdown: figures with intervals, and their SD over the folds."""
    lines = []
    for row in rows:
        if row["mode"] == mode:
            name = row["class"] if row["average"] == "none" else row["average"]
            lines.append([str(name), str(row["n"]), *(_cell(row, metric) for metric in METRICS), _threshold(row)])
    return markdown_table(["class", "n", "AUROC", "sensitivity", "specificity", "threshold"], lines)


def _cell(row: Mapping[str, Any], metric: str) -> str:
    figure = {"estimate": row[metric], "lower": row[f"{metric}_lower"], "upper": row[f"{metric}_upper"]}
    sd = row[f"{metric}_sd"]
    return with_interval(figure) + (f", SD {sd:.3f}" if sd is not None else "")


def _threshold(row: Mapping[str, Any]) -> str:
    if row["threshold"] is None:
        return "-"
    return f"{row['threshold']:.4f}" + (f" ± {row['threshold_sd']:.4f}" if row["threshold_sd"] is not None else "")
