"""Paired differences and McNemar's test of two models on the same cases; spread of models that differ in seed.

Differences are B minus A. Both models are scored on the same bootstrap draws of patients, so the effect of a difficult
patient on both of them cancels. An interval that excludes 0, or a small p, shows a difference on these cases; it does
not generalise to other hospitals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifacts.files import json_values
from skinkit.errors import InputError, RefusedError, listed
from skinkit.evaluation.metric_table import Key, replicated
from skinkit.evaluation.scoring import TRUTH, Evaluation
from skinkit.stats.metrics import ALL, MALIGNANT, PAUC, Bools, Resamples, percentile_interval

COMPARED: dict[Key, str] = {
    (MALIGNANT, "none", "none", "auroc"): "malignant: AUROC",
    (MALIGNANT, "none", "none", "average_precision"): "malignant: average precision",
    (MALIGNANT, "none", "none", PAUC): "malignant: pAUC above 80 % sensitivity",
    (MALIGNANT, "none", "none", "sensitivity_at_95_specificity"): "malignant: sensitivity at 95 % specificity",
    (MALIGNANT, "none", "none", "specificity_at_95_sensitivity"): "malignant: specificity at 95 % sensitivity",
    (MALIGNANT, "none", "veto", "sensitivity"): "malignant: sensitivity, veto",
    (MALIGNANT, "none", "veto", "specificity"): "malignant: specificity, veto",
    (MALIGNANT, "none", "veto", "balanced_accuracy"): "malignant: balanced accuracy, veto",
    (MALIGNANT, "none", "veto", "mcc"): "malignant: MCC, veto",
    (MALIGNANT, "none", "none", "brier"): "malignant: Brier score",
    (MALIGNANT, "none", "none", "log_loss"): "malignant: log loss",
    (MALIGNANT, "none", "none", "ece"): "malignant: ECE",
    (ALL, "macro", "argmax", "balanced_accuracy"): "balanced accuracy",
    (ALL, "none", "argmax", "accuracy"): "accuracy",
    (ALL, "macro", "none", "auroc"): "AUROC, macro",
    (ALL, "macro", "argmax", "f1"): "F1, macro",
    (ALL, "none", "none", "brier"): "Brier score",
    (ALL, "none", "none", "log_loss"): "log loss",
}
"""Compared metrics and their labels."""
PARTS = ("areas", "argmax", "calibration", "malignant")


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models.

    Attributes:
        name: of the model.
        evaluation: its predictions with their truth.
    """

    name: str
    evaluation: Evaluation

    @property
    def cases(self) -> pd.DataFrame:
        """The rows of level image, indexed by case."""
        return self.evaluation.table[self.evaluation.images].set_index("case_id", drop=False).sort_index()

    def on(self, cases: Sequence[str]) -> Evaluation:
        """The predictions of these cases only, in this order."""
        one = self.evaluation
        table = self.cases.loc[list(cases)].reset_index(drop=True)
        return Evaluation(table, one.classes, {}, one.malignant_set, one.veto_source)


def common_cases(a: ComparedModel, b: ComparedModel, *, common: bool) -> list[str]:
    """The cases both models predicted.

    Raises:
        RefusedError: the malignant sets or the truths differ, or the cases do, unless ``common`` is set.
        InputError: no case is common.
    """
    sets = [frozenset(side.evaluation.classes.malignant) for side in (a, b)]
    if sets[0] != sets[1]:
        raise RefusedError(
            f"{a.name} calls {listed(sorted(sets[0]))} malignant, {b.name} {listed(sorted(sets[1]))}",
            "two models with the same malignant set: sensitivities to different diseases cannot be subtracted",
            "compare models of one malignant set, or give tables with --malignant",
        )
    tables = [side.cases for side in (a, b)]
    shared = sorted(set(tables[0].index) & set(tables[1].index))
    for side, table in zip((a, b), tables, strict=True):
        alone = sorted(set(table.index) - set(shared))
        if alone and not common:
            raise RefusedError(
                f"{len(alone)} cases are predicted by {side.name} alone: {listed(alone)}",
                "two models on the same cases",
                "give --common to compare them on the cases both predicted",
            )
    if not shared:
        raise InputError(
            f"{a.name} and {b.name} have no case in common",
            "predictions of the same cases",
            "compare them on one cohort",
        )
    truths = [np.isin(t.loc[shared, TRUTH], list(sets[0])) for t in tables]
    if (truths[0] != truths[1]).any():
        case = shared[int(np.flatnonzero(truths[0] != truths[1])[0])]
        raise RefusedError(
            f"case {case} is malignant for one model and benign for the other", "one truth", "correct the tables"
        )
    return shared


def compare(
    a: ComparedModel, b: ComparedModel, *, bootstrap: int, seed: int, common: bool, minimum: int
) -> dict[str, Any]:
    """Paired differences of the main metrics with their intervals, and McNemar's test of calls and of classes.

    Returns:
        ``models``, ``n``, ``n_clusters``, ``left_out`` (cases only one model predicted), ``differences`` (rows with
        name, class, average, decision_rule, metric, a, b, difference, lower, upper, p) and ``mcnemar`` (rows).
    """
    cases = common_cases(a, b, common=common)
    same_classes = a.evaluation.classes.classes == b.evaluation.classes.classes
    scored = [side.on(cases).scored(None) for side in (a, b)]
    scored[1] = replace(scored[1], cluster=scored[0].cluster)  # one set of draws for both
    resamples = Resamples(scored[0].cluster, bootstrap, seed)
    metrics = [replicated(one, resamples, PARTS) for one in scored]
    differences = []
    for key, name in COMPARED.items():
        if key[0] == ALL and not same_classes:
            continue  # averages over different classes are not comparable
        if not all(key in one.point and one.point[key][1] >= minimum for one in metrics):
            continue
        values = [one.point[key][0] for one in metrics]
        replicates = metrics[1].replicates[key] - metrics[0].replicates[key]
        lower, upper = percentile_interval(replicates)
        differences.append(
            {
                "name": name,
                **dict(zip(("class", "average", "decision_rule", "metric"), key, strict=True)),
                "a": values[0],
                "b": values[1],
                "difference": values[1] - values[0],
                "lower": lower,
                "upper": upper,
                "p": bootstrap_p(replicates),
            }
        )
    tests = []
    if scored[0].called is not None and scored[1].called is not None:
        truth = scored[0].is_malignant
        rights = [np.asarray(one.called == truth, dtype=bool) for one in scored]
        everyone = np.ones(len(truth), dtype=bool)
        for name, rows in (("all", everyone), ("malignant", truth), ("benign", ~truth)):
            tests.append({"name": f"veto call, {name} cases", **mcnemar(rights[0][rows], rights[1][rows])})
    if same_classes:
        classes = [one.predicted == one.truth for one in scored]
        tests.append({"name": "most probable class", **mcnemar(*classes)})
    left_out = {side.name: len(side.cases) - len(cases) for side in (a, b)}
    return {
        "models": {"a": a.name, "b": b.name},
        "n": len(cases),
        "n_clusters": len(np.unique(scored[0].cluster)),
        "left_out": left_out,
        "malignant_set": a.evaluation.malignant_set or None,
        "bootstrap": bootstrap,
        "seed": seed,
        "differences": [json_values(row) for row in differences],
        "mcnemar": [json_values(row) for row in tests],
    }


def bootstrap_p(replicates: npt.ArrayLike) -> float:
    """Two-sided p of no difference: twice the smaller share of replicates above or below 0, at least 1 / replicates.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 15.
    """
    values = np.asarray(replicates, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan
    below, above = ((values <= 0).sum() + 1, (values >= 0).sum() + 1)
    return float(min(1.0, 2 * min(below, above) / (len(values) + 1)))


def mcnemar(a_right: Bools, b_right: Bools) -> dict[str, Any]:
    """McNemar's exact test of correctness: cases correct only by A or only by B, and p. It assumes independent cases.

    Source: McNemar, Psychometrika 1947; the exact form is a binomial test of the discordant cases at 1/2.
    """
    from scipy.stats import binomtest

    only_a, only_b = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
    p = float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return {"n": len(a_right), "only_a_right": only_a, "only_b_right": only_b, "p": p}


def spread(sides: Sequence[ComparedModel], *, common: bool) -> dict[str, Any]:
    """Mean and standard deviation of the main metrics over models that differ only in their seed.

    Raises:
        RefusedError: as :func:`common_cases`, between the first and every other model.
    """
    cases = common_cases(sides[0], sides[1], common=common)
    for other in sides[2:]:
        cases = [case for case in cases if case in set(common_cases(sides[0], other, common=common))]
    no_draws = Resamples(np.zeros(0), 0, 0)
    metrics = [replicated(side.on(cases).scored(None), no_draws, PARTS) for side in sides]
    rows = []
    for key, name in COMPARED.items():
        values = [one.point[key][0] for one in metrics if key in one.point]
        if len(values) == len(sides) and not any(map(math.isnan, values)):
            mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
            rows.append({"name": name, **dict(zip(("class", "average", "decision_rule", "metric"), key, strict=True)),
                         "mean": mean, "sd": sd, "values": values})  # fmt: skip
    return {"models": [side.name for side in sides], "n": len(cases), "spread": rows}


def text_of(result: Mapping[str, Any]) -> str:
    """A comparison as a plain-text table."""
    a, b = result["models"]["a"], result["models"]["b"]
    lines = [f"{b} minus {a}: {result['n']} cases of {result['n_clusters']} patients or groups"]
    for name, n in result["left_out"].items():
        if n:
            lines.append(f"  {n} cases predicted by {name} alone are left out")
    lines += ["", f"  {'':44}{'A':>8}{'B':>8}{'B - A':>9}   95 % interval       p"]
    for row in result["differences"]:
        ends = f"{row['lower']:+.3f} to {row['upper']:+.3f}" if row["lower"] is not None else "none"
        p = f"{row['p']:.3g}" if row["p"] is not None else "-"
        lines.append(f"  {row['name']:44}{row['a']:>8.3f}{row['b']:>8.3f}{row['difference']:>+9.3f}   {ends:<19} {p}")
    lines += ["", f"  {'McNemar, exact':44}{'only A':>8}{'only B':>8}{'cases':>9}   p"]
    lines += [
        f"  {row['name']:44}{row['only_a_right']:>8}{row['only_b_right']:>8}{row['n']:>9}   {row['p']:.3g}"
        for row in result["mcnemar"]
    ]
    return "\n".join(lines)


def spread_text(result: Mapping[str, Any]) -> str:
    """A spread over seeds as a plain-text table."""
    lines = [f"{len(result['models'])} models ({', '.join(result['models'])}) on {result['n']} cases: mean and SD"]
    lines += [f"  {row['name']:44}{row['mean']:>8.3f}{row['sd']:>8.3f}" for row in result["spread"]]
    return "\n".join(lines)
