"""Subgroups, and the gap between a subgroup's figures and those of all other cases.

A gap is a subgroup's figure minus that of all other cases. Its standard error leaves out each patient on both sides at
once, so a patient may be on both sides. Where a figure hardly varies between patients (such as a sensitivity of 26 of
26), its variance is at least the one under equal figures on both sides: few cases do not give certainty. p is that
of Student's t with Welch's degrees of freedom; Holm's correction covers all gaps of a cohort.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from skinkit.evaluation.metric_table import Key, Replicated
from skinkit.schemas import Schema
from skinkit.stats.cross_fit import holm
from skinkit.stats.intervals import Spread, jackknife, welch_degrees
from skinkit.stats.metrics import ALL, MALIGNANT, NO_INTERVAL, SIGNIFICANT, Bools
from skinkit.stats.notes import MINIMUM_PATIENTS, TOO_FEW_PATIENTS

AGE_BANDS = ((0, 40, "<40"), (40, 60, "40-59"), (60, 200, "60+"))
SUBGROUPS = (
    "sex", "age_band", "site", "fitzpatrick", "ita_group", "modality", "device", "centre", "cohort", "confirmed_by",
    "half",
)  # fmt: skip
ALWAYS = "confirmed_by=histopathology"
"""The subgroup that is always reported: histopathology is a more reliable truth than clinical diagnosis."""
MOST_VALUES = 25
"""A column with more distinct values is treated as an identifier, not as a subgroup."""

COMPARED: tuple[Key, ...] = (
    (MALIGNANT, "none", "none", "auroc"),
    (MALIGNANT, "none", "veto", "sensitivity"),
    (MALIGNANT, "none", "veto", "specificity"),
    (MALIGNANT, "none", "none", "calibration_intercept"),
    (ALL, "macro", "argmax", "balanced_accuracy"),
)
"""What is compared between a subgroup and the rest."""
PARTS = ("argmax", "malignant")

GAPS = Schema("gaps", 1, ("subgroup", "class", "decision_rule", "metric"), ())


def age_band(age: Any) -> str | None:
    """The band of an age in years; None where it is unknown."""
    has_age = age is not None and not pd.isna(age)
    return next((name for low, high, name in AGE_BANDS if has_age and low <= age < high), None)


def quarters(values: pd.Series) -> pd.Series:
    """The quarter in which each number lies, with its limits, such as ``1 of 4 (0.12 to 0.61)``; null for null."""
    known = values.dropna().astype(float)
    if known.empty:
        return pd.Series(None, values.index, object)
    edges = np.quantile(known, (0, 0.25, 0.5, 0.75, 1))
    names = [f"{i + 1} of 4 ({low:.2f} to {high:.2f})" for i, (low, high) in enumerate(pairwise(edges))]
    which = np.searchsorted(edges[1:-1], known)
    return pd.Series([names[i] for i in which], known.index, object).reindex(values.index)


def named(value: Any) -> str:
    """A value of a subgroup's column as text: whole numbers without a point, ``unknown`` for missing values."""
    if value is None or pd.isna(value) or value == "":
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)


def subgroups(
    table: pd.DataFrame, images: Bools, *, every: bool, by: Sequence[str] = ()
) -> Iterator[tuple[str, str, Bools]]:
    """Column, value and rows of every subgroup of the images.

    Args:
        table: with any of the columns of ``SUBGROUPS``, and ``age_years``.
        images: (n,) rows of level image.
        every: all of them, or the biopsied ones only.
        by: further columns.
    """
    if "age_years" in table:
        table = table.assign(age_band=pd.Series([age_band(a) for a in table["age_years"]], table.index, object))
    for column in dict.fromkeys((*SUBGROUPS, *by)):
        if column not in table:
            continue
        values = np.array([named(value) for value in table[column]], dtype=object)
        present = sorted(set(values[images]))
        for value in present:
            # A column with a single value defines no subgroup.
            reported = every and 1 < len(present) <= MOST_VALUES
            if f"{column}={value}" == ALWAYS or reported:
                yield column, str(value), images & (values == value)


def gap_row(key: Key, inside: Replicated, outside: Replicated, minimum: int) -> dict[str, Any]:
    """One figure of a subgroup minus that of the rest, with interval and p."""
    class_, average, rule, metric = key
    row: dict[str, Any] = {"class": class_, "average": average, "decision_rule": rule, "metric": metric}
    sides = (inside, outside)
    for name, side in zip(("", "_rest"), sides, strict=True):
        row[f"estimate{name}"] = side.point[key][0] if side.note(key, minimum) is None else math.nan
        row[f"n{name}"] = len(side.table.s)
        row[f"n_positive{name}"] = side.table.n_positive(class_)
    gap = row["estimate"] - row["estimate_rest"]
    unknown = {"gap": gap, "lower": math.nan, "upper": math.nan, "p": math.nan}
    if math.isnan(gap):
        return {**row, **unknown, "note": next(note for side in sides if (note := side.note(key, minimum)))}
    sizes = [side.table.clusters_behind(key) for side in sides]
    if min(sizes) < MINIMUM_PATIENTS:
        return {**row, **unknown, "note": TOO_FEW_PATIENTS}
    left_out = [side.replicates[key] for side in sides]
    gap_spread = jackknife(gap, left_out[0] - left_out[1])
    spreads = [jackknife(side.point[key][0], values) for side, values in zip(sides, left_out, strict=True)]
    if gap_spread is None or None in spreads:
        return {**row, **unknown, "note": NO_INTERVAL}
    known = [spread for spread in spreads if spread is not None]
    floors = _least_variances(key, sides)
    variance = gap_spread.error**2 + sum(max(0.0, f - s.error**2) for f, s in zip(floors, known, strict=True))
    lower, upper, p = _student(gap, variance, [max(s.error**2, f) for s, f in zip(known, floors, strict=True)], known)
    return {**row, "gap": gap, "lower": lower, "upper": upper, "p": p, "note": None}


def _student(gap: float, variance: float, parts: list[float], spreads: list[Spread]) -> tuple[float, float, float]:
    if variance <= 0:
        return math.nan, math.nan, math.nan
    difference = Spread(math.sqrt(variance), welch_degrees(parts, spreads))
    reach = difference.quantile * difference.error
    return gap - reach, gap + reach, difference.p_of(gap)


def _least_variances(key: Key, sides: Sequence[Replicated]) -> list[float]:
    """Variance of a proportion or AUROC on either side, if it were the same on both; 0 for anything else.

    The common figure is that of both sides together after one more success and one more failure.

    Source: the score test of two proportions; for the AUROC Hanley & McNeil, Radiology 1982, eq. 1.
    """
    counts = [side.table.cases_behind(key) for side in sides]
    if not all(counts):
        return [0.0, 0.0]
    weights = [min(of) for of in counts]
    successes = sum(side.point[key][0] * m for side, m in zip(sides, weights, strict=True))
    same = (successes + 1) / (sum(weights) + 2)
    q1, q2 = same / (2 - same) - same**2, 2 * same**2 / (1 + same) - same**2
    return [
        same * (1 - same) / of[0]
        if len(of) == 1
        else (same * (1 - same) + (of[0] - 1) * q1 + (of[1] - 1) * q2) / (of[0] * of[1])
        for of in counts
    ]


def gaps_table(gap_rows: Mapping[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """The gaps of all subgroups with Holm's correction over all of them.

    Args:
        gap_rows: subgroup -> its rows of :func:`gap_row`, with ``column`` and ``against``.
    """
    rows = [{"subgroup": name, **row} for name, of in gap_rows.items() for row in of]
    names = [
        "subgroup", "against", "class", "average", "decision_rule", "metric", "estimate", "estimate_rest", "gap",
        "lower", "upper", "p", "p_holm", "flagged", "n", "n_rest", "n_positive", "n_positive_rest", "note",
    ]  # fmt: skip
    adjusted = holm([row["p"] for row in rows])
    for row, p in zip(rows, adjusted, strict=True):
        row |= {"p_holm": float(p), "flagged": bool(p < SIGNIFICANT)}
    return pd.DataFrame(rows, columns=names).astype({"note": object})
