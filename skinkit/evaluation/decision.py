"""Clinical value of the probability of malignancy: decision curves, referral curves and a sweep of veto thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.artifacts.files import json_values
from skinkit.stats.intervals import (
    NONE,
    LeaveOut,
    bounded_interval,
    patients_of,
    proportion_interval,
    unbounded_interval,
)
from skinkit.stats.metrics import Bools, Floats, once, ratio
from skinkit.stats.thresholds import VETO, called_malignant

THRESHOLDS: Floats = np.arange(1, 100) / 100
SWEEP: Floats = np.r_[1, np.arange(5, 100, 5)] / 100
REFERRED: Floats = np.arange(0, 95, 5) / 100


@dataclass(frozen=True)
class Decided:
    """Cases with their probability of malignancy and the call derived from it.

    Attributes:
        malignancy: (n,) probability.
        truth: (n,) malignant in truth.
        called: (n,) called malignant.
        by_class: (n,) the most probable class is malignant.
        cluster: (n,) patient.
        threshold: the veto's threshold; NaN if the cases have several.
        left_out: which leaves out these patients.
    """

    malignancy: Floats
    truth: Bools
    called: Bools
    by_class: Bools
    cluster: npt.NDArray[Any]
    threshold: float
    left_out: LeaveOut

    def weights(self) -> Iterator[Floats]:
        """The cases once, then without each patient."""
        yield once(len(self.truth))
        yield from self.left_out.weights(self.cluster, 4)

    def weighted_sums(self, share_of: npt.NDArray[Any]) -> Floats:
        """Weighted sums of (n, columns): the first row is the estimate, the others its jackknife replicates."""
        return np.concatenate([w @ share_of for w in self.weights()])


def _ends(values: Floats, patients: Sequence[int], *, share: bool = False) -> dict[str, list[float | None]]:
    """Intervals of (1 + replicates, columns), column by column, with the patients behind each; of shares or of any."""
    interval = bounded_interval if share else unbounded_interval
    ends = [interval(float(values[0, c]), values[1:, c], patients[c]) for c in range(values.shape[1])]
    return {side: [None if math.isnan(end[i]) else end[i] for end in ends] for i, side in ((0, "lower"), (1, "upper"))}


def net_benefit(hits: Floats, alarms: Floats, threshold: Floats) -> Floats:
    """Net benefit: hits - alarms * threshold / (1 - threshold), both as shares of all cases.

    Source: Vickers & Elkin, Medical Decision Making 2006, eq. 1.
    """
    benefit: Floats = hits - alarms * threshold / (1 - threshold)
    return benefit


def decision_curve(d: Decided, prevalence: float = float("nan")) -> dict[str, Any]:
    """Net benefit of treating from a threshold on, of treating everybody and of treating nobody (0).

    The curve is that of the threshold alone, as its authors have it; a call by the most probable class is only in
    ``point``.

    Args:
        d: the cases; their malignancy must be calibrated for ``prevalence``.
        prevalence: prevalence of malignancy the curve applies to; NaN for that of the cases.

    Returns:
        ``threshold``, ``model`` with ``lower`` and ``upper``, ``all``, ``gain`` (over the better of all and none) with
        ``gain_lower`` and ``gain_upper``, ``prevalence``, ``rule`` (``threshold``), ``point``: threshold and net
        benefit of the calls made, and ``point_rule`` (``veto``).
    """
    flagged = d.malignancy[:, None] >= THRESHOLDS
    positives, negatives = d.weighted_sums(d.truth[:, None]), d.weighted_sums(~d.truth[:, None])
    share = np.full_like(positives, prevalence)
    if math.isnan(prevalence):
        share = ratio(positives, positives + negatives)
    hits = ratio(d.weighted_sums(flagged & d.truth[:, None]), positives) * share
    alarms = ratio(d.weighted_sums(flagged & ~d.truth[:, None]), negatives) * (1 - share)
    model = net_benefit(hits, alarms, THRESHOLDS)
    everybody = net_benefit(share, 1 - share, THRESHOLDS)
    gain = model - np.maximum(everybody, 0)
    behind = [patients_of(d.cluster, d.truth, ~d.truth)] * len(THRESHOLDS)
    gains = _ends(gain, behind)
    point = None
    if not math.isnan(d.threshold) and 0 < d.threshold < 1:
        outcomes = np.stack([d.called & d.truth, d.called & ~d.truth], axis=1)
        sums = d.weighted_sums(outcomes)[:1]
        at = net_benefit(
            ratio(sums[:, :1], positives[:1]) * share[:1],
            ratio(sums[:, 1:], negatives[:1]) * (1 - share[:1]),
            np.array([d.threshold]),
        )
        point = [d.threshold, float(at[0, 0])] if np.isfinite(at).all() else None
    return {
        "threshold": THRESHOLDS.tolist(),
        "model": json_values(model[0]),
        **_ends(model, behind),
        "all": json_values(everybody[0]),
        "gain": json_values(gain[0]),
        "gain_lower": gains["lower"],
        "gain_upper": gains["upper"],
        "prevalence": float(share[0, 0]),
        "rule": "threshold",
        "point": point,
        "point_rule": VETO,
    }


def referral_curve(d: Decided, right: Bools, uncertainty: Floats, refer: Bools | None) -> dict[str, Any]:
    """Accuracy and sensitivity as the most uncertain cases are referred to a dermatologist.

    Args:
        d: the cases.
        right: (n,) whether the most probable class is the true one.
        uncertainty: (n,) higher is referred first; ties in the order of the cases.
        refer: (n,) referred by the model's own rule, if it has one.

    Returns:
        ``referred`` (share of all cases); ``accuracy`` of the cases that are kept, and ``sensitivity``: the share of
        malignant cases that are called malignant or referred; each with its interval; ``points``: share sent to a
        dermatologist and share of malignant cases among them, of the ``veto`` (every malignant call) and of the
        model's own ``refer`` rule.
    """
    n = len(d.truth)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(-uncertainty, kind="stable")] = np.arange(n)
    kept = rank[:, None] >= np.round(REFERRED * n)
    accuracy = ratio(d.weighted_sums(kept & right[:, None]), d.weighted_sums(kept))
    safe = (d.called[:, None] | ~kept) & d.truth[:, None]
    sensitivity = ratio(d.weighted_sums(safe), d.weighted_sums(d.truth[:, None]))
    points = {"veto": d.called, **({"refer": refer} if refer is not None else {})}
    curve: dict[str, Any] = {"referred": REFERRED.tolist()}
    answered = [patients_of(d.cluster, column) for column in kept.T]
    sick = [patients_of(d.cluster, d.truth)] * len(REFERRED)
    for name, values, patients in (("accuracy", accuracy, answered), ("sensitivity", sensitivity, sick)):
        ends = _ends(values, patients, share=True)
        curve |= {name: json_values(values[0]), f"{name}_lower": ends["lower"], f"{name}_upper": ends["upper"]}
    curve["points"] = {
        name: [float(sent.mean()), float((sent & d.truth).sum() / d.truth.sum()) if d.truth.any() else None]
        for name, sent in points.items()
    }
    return curve


def _swept(d: Decided) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Thresholds (thresholds,), and the cases called malignant at each (n, thresholds)."""
    grid = np.unique(np.r_[SWEEP, d.threshold]) if 0 < d.threshold < 1 else SWEEP
    return grid, called_malignant(d.malignancy[:, None], d.by_class[:, None], grid)


def veto_by_class(d: Decided, truth: npt.NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The share of each true class that is called malignant at other veto thresholds.

    Args:
        d: the cases.
        truth: (n,) class indices.
        classes: class codes.

    Returns:
        Rows with ``threshold``, ``rule`` (``veto``), ``in_use``, ``class``, ``n``, ``called`` and its interval
        ``lower``, ``upper``.
    """
    grid, called = _swept(d)
    rows: list[dict[str, Any]] = []
    for c, name in enumerate(classes):
        of = truth == c
        if not of.any():
            continue
        for i, threshold in enumerate(grid):
            lower, upper = proportion_interval(called[:, i], of, d.cluster) if d.left_out.groups else NONE
            rows.append(
                {
                    "threshold": float(threshold),
                    "rule": VETO,
                    "in_use": bool(threshold == d.threshold),
                    "class": name,
                    "n": int(of.sum()),
                    "called": float(called[of, i].mean()),
                    "lower": lower,
                    "upper": upper,
                }
            )
    return rows


def veto_sweep(d: Decided) -> list[dict[str, Any]]:
    """Metrics at a grid of veto thresholds, one row per threshold, including the model's own.

    A case is called malignant by its most probable class or by the threshold, whatever the threshold is.
    """
    grid, called = _swept(d)
    everyone = np.ones(len(d.truth), dtype=bool)
    truth = d.truth[:, None]
    tp, fp = d.weighted_sums(called & truth), d.weighted_sums(called & ~truth)
    total = d.weighted_sums(everyone[:, None])
    benefit = net_benefit(ratio(tp, total), ratio(fp, total), grid)
    behind = patients_of(d.cluster, *(side for side in (d.truth, ~d.truth) if side.any()))
    rows: list[dict[str, Any]] = []
    for i, threshold in enumerate(grid):
        row: dict[str, Any] = {"threshold": float(threshold), "rule": VETO, "in_use": bool(threshold == d.threshold)}
        now = called[:, i]
        shares = {
            "sensitivity": (now, d.truth, 1),
            "specificity": (~now, ~d.truth, 1),
            "referrals_per_100": (now, everyone, 100),
            "ppv": (d.truth, now, 1),
            "npv": (~d.truth, ~now, 1),
        }
        for name, (right, of, factor) in shares.items():
            ends = proportion_interval(right, of, d.cluster) if d.left_out.groups and of.any() else NONE
            value = factor * float(right[of].mean()) if of.any() else math.nan
            row |= {name: value, f"{name}_lower": factor * ends[0], f"{name}_upper": factor * ends[1]}
        ends = unbounded_interval(float(benefit[0, i]), benefit[1:, i], behind)
        rows.append(
            row | {"net_benefit": float(benefit[0, i]), "net_benefit_lower": ends[0], "net_benefit_upper": ends[1]}
        )
    return rows
