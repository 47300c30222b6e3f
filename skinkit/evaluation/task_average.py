"""Figures averaged over the tasks that a model answers, as papers on several labels print them.

The average accuracy of K tasks is the mean of their accuracies, each over the cases whose truth is known; likewise
balanced accuracy and macro AUROC. Intervals leave out the same patients in every task, so that what tasks share is
accounted for. Beside the accuracy stands that of always answering each task's most frequent class, which is high where
classes are uneven: on the official test set of derm7pt it is 0.618 over eight tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skinkit.evaluation.comparison import PARTS, ComparedModel, common_cases, over_seeds
from skinkit.evaluation.markdown import with_interval
from skinkit.evaluation.metric_table import Key, Replicated, ScoredCases, replicated
from skinkit.evaluation.scoring import HEADLINE, Evaluation
from skinkit.stats.intervals import LeaveOut, bounded_interval
from skinkit.stats.notes import TOO_FEW_PATIENTS, words_of
from skinkit.stats.paired import paired_difference

FIGURES = {
    name: (class_, average, rule, metric)
    for name in ("accuracy", "balanced_accuracy", "macro_auroc")
    for class_, rule, metric, average, _ in [HEADLINE[name]]
}
"""Headline figures that are averaged -> their key in a table of metrics."""


def averaged(
    evaluations: Mapping[str, Evaluation],
    *,
    again: Sequence[Mapping[str, Evaluation]] = (),
    seed: int = 0,
    draws: int = 1,
) -> dict[str, Any]:
    """Means over tasks with 95 % intervals over patients.

    Args:
        evaluations: task -> its predictions and truth; the diagnosis is one of them.
        again: those of the same model trained with other seeds, on the same cases: the figures are means over all.
        seed: of the groups of many patients.
        draws: 0 gives no intervals.

    Returns:
        ``tasks``, their names; ``majority_accuracy``; figure of :data:`FIGURES` -> ``estimate``, ``lower``, ``upper``
        (NaN where there are too few patients) and ``n_tasks``, those in which it is defined.
    """
    cases = {task: of.scored(None).take(of.images) for task, of in evaluations.items()}
    left_out = LeaveOut(np.concatenate([of.cluster for of in cases.values()]), seed, draws=draws)
    others = [{task: of.scored(None).take(of.images) for task, of in one.items()} for one in again]
    measured = {task: over_seeds([replicated(of[task], left_out) for of in (cases, *others)]) for task in cases}
    shares = [np.bincount(of.truth).max() / len(of) for of in cases.values()]
    answer: dict[str, Any] = {"tasks": list(cases), "majority_accuracy": float(np.mean(shares))}
    for name, key in FIGURES.items():
        defined = _defined(measured, key)
        ends = float("nan"), float("nan")
        estimate = float(np.mean([measured[task].point[key][0] for task in defined])) if defined else float("nan")
        if defined and left_out.groups:
            without = np.mean([measured[task].replicates[key] for task in defined], axis=0)
            ends = bounded_interval(estimate, without, _patients_behind(cases, name))
        answer[name] = {"estimate": estimate, "lower": ends[0], "upper": ends[1], "n_tasks": len(defined)}
    return answer


def differences(
    a: Mapping[str, ComparedModel], b: Mapping[str, ComparedModel], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Paired differences, B minus A, of means over the tasks that both models answer, on cases that both predicted.

    Args:
        a: task -> predictions of one model.
        b: of the other.
        seed: of the groups of many patients.

    Returns:
        A row for each of :data:`FIGURES`: ``figure``, ``a``, ``b``, ``difference``, ``lower``, ``upper``, ``p`` and
        ``n_tasks``; none where the models share no task with a case of both.

    Raises:
        RefusedError: the truths of a task differ.
    """
    tasks = [task for task in a if task in b and set(a[task].cases.index) & set(b[task].cases.index)]
    if not tasks:
        return []
    shared = {task: common_cases(a[task], b[task], common=True) for task in tasks}
    cases = {task: a[task].on(shared[task]).scored(None) for task in tasks}
    left_out = LeaveOut(np.concatenate([of.cluster for of in cases.values()]), seed)
    first, second = (
        {task: over_seeds(of[task].measured(shared[task], left_out, cases[task].cluster, PARTS)) for task in tasks}
        for of in (a, b)
    )
    rows = []
    for name, key in FIGURES.items():
        defined = [task for task in _defined(first, key) if task in _defined(second, key)]
        if not defined:
            continue
        means = [float(np.mean([of[task].point[key][0] for task in defined])) for of in (first, second)]
        without = np.mean([second[task].replicates[key] - first[task].replicates[key] for task in defined], axis=0)
        found = paired_difference(means[1] - means[0], without, _patients_behind(cases, name))
        rows.append(
            {"figure": name, "a": means[0], "b": means[1], "difference": found.estimate, "lower": found.lower,
             "upper": found.upper, "p": found.p, "n_tasks": len(defined)}
        )  # fmt: skip
    return rows


def _defined(measured: Mapping[str, Replicated], key: Key) -> list[str]:
    """Tasks in which a figure has a value."""
    return [task for task, of in measured.items() if key in of.point and not np.isnan(of.point[key][0])]


def _patients_behind(cases: Mapping[str, ScoredCases], figure: str) -> int:
    """Patients of the task with fewest; of the rarest class but for the accuracy."""
    if figure == "accuracy":
        return min(len(np.unique(of.cluster)) for of in cases.values())
    return min(len(np.unique(of.cluster[of.truth == k])) for of in cases.values() for k in np.unique(of.truth))


def text(answer: Mapping[str, Any]) -> str:
    """One line for a terminal."""
    accuracy, balanced, area = (with_interval(answer[name], none=words_of(TOO_FEW_PATIENTS)) for name in FIGURES)
    return (
        f"\n  mean of {len(answer['tasks'])} tasks: accuracy {accuracy}, of always the most frequent class "
        f"{answer['majority_accuracy']:.3f}; balanced accuracy {balanced}; AUROC, macro {area}"
    )
