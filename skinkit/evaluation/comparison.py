"""Paired differences and McNemar's test of two models on the same cases; spread of models that differ in seed.

Differences are B minus A. Each patient is left out of both models at once, so the effect of a difficult patient on both
of them cancels (``stats.paired``). An interval that excludes 0, or a small p, shows a difference on these cases; it
does not generalise to other hospitals. Of a model that was trained with several seeds figures are means over them, and
so is what they are without a patient; what a further seed would change shows in the differences of each seed, not in
the interval. An interval that holds 0 does not show that two models are equal: that takes a margin, declared before the
figures are seen, and an interval that lies within it.
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
from skinkit.evaluation.markdown import digits_of
from skinkit.evaluation.metric_table import Key, Replicated, ScoredCases, replicated
from skinkit.evaluation.scoring import TRUTH, Evaluation
from skinkit.stats.intervals import LeaveOut
from skinkit.stats.metrics import ALL, MALIGNANT, PAUC, Bools
from skinkit.stats.notes import MINIMUM_PATIENTS, TOO_FEW_PATIENTS, words_of
from skinkit.stats.paired import PairedDifference, paired_difference, sign_flip_p

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
LOSSES = ("brier", "log_loss", "ece")
"""Metrics of which less is better."""
SHARES = ("sensitivity", "specificity", "accuracy")
_LARGEST = {PAUC: 0.2, "mcc": 2.0, "log_loss": math.inf}
"""Differences that are possible, where it is not 1 (of Brier scores over all classes, 2)."""
IDENTICAL, NO_DIFFERENCE, A_BETTER, B_BETTER, NO_INTERVAL = VERDICTS = (
    "identical", "no_difference_shown", "a_better", "b_better", "no_interval",
)  # fmt: skip
"""What a difference and its interval say; none of them says that two models are equal."""
_CLAIMS = ("equivalent", "b_not_inferior", "a_not_inferior")
WITH_MARGIN = ("margin", *_CLAIMS, *(f"p_{claim}" for claim in _CLAIMS))
"""Fields of a row that are null without a margin."""
PARTS = ("areas", "argmax", "calibration", "malignant")


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models.

    Attributes:
        name: of the model.
        evaluation: its predictions with their truth.
        again: those of the same model trained with other seeds, on the same cases.
    """

    name: str
    evaluation: Evaluation
    again: tuple[Evaluation, ...] = ()

    @property
    def cases(self) -> pd.DataFrame:
        """The rows of level image, indexed by case."""
        return self.evaluation.table[self.evaluation.images].set_index("case_id", drop=False).sort_index()

    def on(self, cases: Sequence[str]) -> Evaluation:
        """The predictions of these cases only, in this order; of the first seed."""
        one = self.evaluation
        table = self.cases.loc[list(cases)].reset_index(drop=True)
        return replace(one, table=table, thresholds={})

    def seeds(self) -> list[ComparedModel]:
        """The model of each seed by itself."""
        return [ComparedModel(self.name, of) for of in (self.evaluation, *self.again)]

    def measured(
        self, cases: Sequence[str], left_out: LeaveOut, cluster: npt.NDArray[Any], parts: Sequence[str]
    ) -> list[Replicated]:
        """The metrics of each seed on these cases, with and without each patient.

        Args:
            cases: all of them predicted by every seed.
            left_out: how patients are left out.
            cluster: (n,) patient of each case.
            parts: families of metrics.
        """
        return [
            replicated(replace(one.on(cases).scored(None), cluster=cluster), left_out, parts) for one in self.seeds()
        ]


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
    sides = [one for side in (a, b) for one in side.seeds()]
    tables = [one.cases for one in sides]
    shared = sorted(set.intersection(*(set(table.index) for table in tables)))
    for side, table in zip(sides, tables, strict=True):
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
    if (otherwise := np.flatnonzero(np.any([truth != truths[0] for truth in truths], axis=0))).size:
        case = shared[int(otherwise[0])]
        raise RefusedError(
            f"case {case} is malignant for one model and benign for the other", "one truth", "correct the tables"
        )
    return shared


def compare(
    a: ComparedModel,
    b: ComparedModel,
    *,
    seed: int,
    common: bool,
    minimum: int,
    margins: Mapping[str, float] | None = None,
    watched: Sequence[str] = (),
) -> dict[str, Any]:
    """Paired differences of the main metrics with their intervals, and McNemar's test of calls and of classes.

    Args:
        a: one model.
        b: the other.
        seed: of the groups of many patients.
        common: compare the cases both predicted, where they differ.
        minimum: fewest positives and negatives for which a class metric is compared.
        margins: metric -> largest difference that does not matter, declared beforehand.
        watched: classes of both whose AUROC and sensitivity are compared too.

    Returns:
        ``models``, ``n``, ``n_clusters``, ``left_out`` (cases only one model predicted), ``identical`` (every
        probability and call is the same), ``margins``, ``differences`` (rows of :func:`_row`), ``not_compared`` (name
        -> note of ``stats.notes``) and ``mcnemar`` (rows; none where a model has several seeds).
    """
    cases = common_cases(a, b, common=common)
    same_classes = a.evaluation.classes.classes == b.evaluation.classes.classes
    scored = [side.on(cases).scored(None) for side in (a, b)]
    scored[1] = replace(scored[1], cluster=scored[0].cluster)  # the same patients in both
    left_out = LeaveOut(scored[0].cluster, seed)
    of_seeds = [side.measured(cases, left_out, scored[0].cluster, PARTS) for side in (a, b)]
    metrics = [over_seeds(of) for of in of_seeds]
    several = bool(a.again or b.again)
    identical = not several and same_classes and _identical(*scored)
    differences, not_compared = [], {}
    for key, name in {**COMPARED, **of_classes(watched)}.items():
        if key[0] != MALIGNANT and not same_classes:
            continue  # averages over different classes are not comparable
        if not all(key in one.point for one in metrics):
            continue
        if notes := [note for one in metrics if (note := one.note(key, minimum))]:
            not_compared[name] = notes[0]
        else:
            margin = (margins or {}).get(key[3])
            row = _row(key, metrics, identical=identical, margin=margin)
            differences.append({"name": name, **row, **(by_seed(key, of_seeds) if several else {})})
    tests = []
    patients = scored[0].cluster
    if not several and scored[0].called is not None and scored[1].called is not None:
        truth = scored[0].is_malignant
        rights = [np.asarray(one.called == truth, dtype=bool) for one in scored]
        everyone = np.ones(len(truth), dtype=bool)
        for name, rows in (("all", everyone), ("malignant", truth), ("benign", ~truth)):
            answers = mcnemar(rights[0][rows], rights[1][rows], patients[rows])
            tests.append({"name": f"veto call, {name} cases", **answers})
    if same_classes and not several:
        classes = [one.predicted == one.truth for one in scored]
        tests.append({"name": "most probable class", **mcnemar(classes[0], classes[1], patients)})
    alone = {side.name: len(side.cases) - len(cases) for side in (a, b)}
    return {
        "models": {"a": a.name, "b": b.name},
        "n": len(cases),
        "n_clusters": len(np.unique(patients)),
        "left_out": alone,
        "malignant_set": a.evaluation.malignant_set or None,
        "seed": seed,
        "identical": identical,
        "margins": dict(margins or {}),
        "differences": [json_values(row) for row in differences],
        "not_compared": not_compared,
        "mcnemar": [json_values(row) for row in tests],
    }


def of_classes(classes: Sequence[str]) -> dict[Key, str]:
    """Compared metrics of single classes and their labels."""
    return {
        key: label
        for name in classes
        for key, label in (
            ((name, "none", "none", "auroc"), f"{name}: AUROC"),
            ((name, "none", "argmax", "sensitivity"), f"{name}: sensitivity, most probable class"),
        )
    }


def over_seeds(of_seeds: Sequence[Replicated]) -> Replicated:
    """The mean over seeds of every metric that all of them have, and of its value without each patient."""
    first = of_seeds[0]
    if len(of_seeds) == 1:
        return first
    shared = [key for key in first.point if all(key in one.point for one in of_seeds)]
    point = {
        key: (float(np.mean([one.point[key][0] for one in of_seeds])), min(one.point[key][1] for one in of_seeds))
        for key in shared
    }
    without = {key: np.mean([one.replicates[key] for one in of_seeds], axis=0) for key in shared}
    return Replicated(first.table, point, without, first.left_out)


def by_seed(key: Key, of_seeds: Sequence[Sequence[Replicated]]) -> dict[str, list[float]]:
    """``by_seed``: B minus A of each seed; a side with one seed is the same for all. Else the values of each side."""
    a, b = ([one.point[key][0] for one in side] for side in of_seeds)
    if 1 not in (len(a), len(b)) and len(a) != len(b):
        return {"a_by_seed": a, "b_by_seed": b}
    n = max(len(a), len(b))
    pairs = zip(a * (n // len(a)), b * (n // len(b)), strict=True)
    return {"by_seed": [second - first for first, second in pairs]}


def _identical(a: ScoredCases, b: ScoredCases) -> bool:
    """Whether two models of the same classes give every case the same probabilities and the same call."""
    pairs = ((a.probability, b.probability), (a.malignancy, b.malignancy), (a.called, b.called))
    return all(
        (one is None and other is None) or (one is not None and other is not None and np.array_equal(one, other))
        for one, other in pairs
    )


def _row(key: Key, metrics: Sequence[Replicated], *, identical: bool, margin: float | None) -> dict[str, Any]:
    """The difference of one figure.

    Returns:
        class, average, decision_rule, metric, a, b, difference, lower, upper, p, ``clusters_behind`` (patients behind
        the figure), ``higher_is_better``, ``verdict`` (one of :data:`VERDICTS`) and :data:`WITH_MARGIN`.
    """
    values = [one.point[key][0] for one in metrics]
    patients = metrics[0].table.clusters_behind(key)
    replicates = metrics[1].replicates[key] - metrics[0].replicates[key]
    share = key[3] in SHARES
    unseen = max(one.table.unseen_variance(key, value, patients) for one, value in zip(metrics, values, strict=True))
    found = paired_difference(values[1] - values[0], replicates, patients, share=share, unseen=unseen)
    higher = key[3] not in LOSSES
    if identical:
        verdict, found = IDENTICAL, replace(found, lower=math.nan, upper=math.nan)
    elif math.isnan(found.lower):
        verdict = IDENTICAL if found.same_for_every_patient else NO_INTERVAL
    elif found.lower <= 0 <= found.upper:
        verdict = NO_DIFFERENCE
    else:
        verdict = B_BETTER if (found.estimate > 0) == higher else A_BETTER
    largest = 2.0 if key[0] == ALL and key[3] == "brier" else _LARGEST.get(key[3], 1.0)
    row = {
        **dict(zip(("class", "average", "decision_rule", "metric"), key, strict=True)),
        "a": values[0],
        "b": values[1],
        "difference": found.estimate,
        "lower": max(found.lower, -largest),
        "upper": min(found.upper, largest),
        "p": found.p,
        "clusters_behind": patients,
        "higher_is_better": higher,
        "verdict": verdict,
        "margin": margin,
    }
    return {**row, **_within(found, margin, higher=higher)}


def _within(found: PairedDifference, margin: float | None, *, higher: bool) -> dict[str, Any]:
    """Equivalence and non-inferiority of either side within a margin; null without one, or without an interval."""
    if margin is None or math.isnan(found.lower):
        return dict.fromkeys(name for name in WITH_MARGIN if name != "margin")
    turned = replace(found, estimate=-found.estimate, lower=-found.upper, upper=-found.lower)
    b, a = (found, turned) if higher else (turned, found)  # as gains of B over A, and of A over B
    (b_fine, p_b), (a_fine, p_a) = ((side.lower > -margin, side.p_above(-margin)) for side in (b, a))
    return {
        "equivalent": b_fine and a_fine,
        "p_equivalent": max(p_a, p_b),
        "b_not_inferior": b_fine,
        "p_b_not_inferior": p_b,
        "a_not_inferior": a_fine,
        "p_a_not_inferior": p_a,
    }


def mcnemar(a_right: Bools, b_right: Bools, cluster: npt.ArrayLike) -> dict[str, Any]:
    """McNemar's exact test of correctness, with patients as clusters: cases correct only by A or only by B, and p.

    Args:
        a_right: (n,) whether A is right.
        b_right: (n,) whether B is.
        cluster: (n,) patient of each case; the signs of a patient's cases are flipped together.

    Source: McNemar, Psychometrika 1947; ``stats.paired.sign_flip_p``.
    """
    only_a, only_b = a_right & ~b_right, b_right & ~a_right
    names, patient = np.unique(np.asarray(cluster), return_inverse=True)
    net = np.bincount(patient, only_b.astype(np.float64) - only_a, len(names))
    counts = {"only_a_right": int(only_a.sum()), "only_b_right": int(only_b.sum())}
    return {"n": len(a_right), "n_clusters": len(names), **counts, "p": sign_flip_p(np.round(net))}


def spread(sides: Sequence[ComparedModel], *, common: bool) -> dict[str, Any]:
    """Mean and standard deviation of the main metrics over models that differ only in their seed.

    Raises:
        RefusedError: as :func:`common_cases`, between the first and every other model.
    """
    cases = common_cases(sides[0], sides[1], common=common)
    for other in sides[2:]:
        cases = [case for case in cases if case in set(common_cases(sides[0], other, common=common))]
    nobody = LeaveOut(np.zeros(0), draws=0)
    metrics = [replicated(side.on(cases).scored(None), nobody, PARTS) for side in sides]
    rows = []
    for key, name in COMPARED.items():
        values = [one.point[key][0] for one in metrics if key in one.point]
        if len(values) == len(sides) and not any(map(math.isnan, values)):
            mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
            rows.append({"name": name, **dict(zip(("class", "average", "decision_rule", "metric"), key, strict=True)),
                         "mean": mean, "sd": sd, "values": values})  # fmt: skip
    return {"models": [side.name for side in sides], "n": len(cases), "spread": rows}


_WORDS = {
    IDENTICAL: "identical",
    NO_DIFFERENCE: "no difference shown",
    A_BETTER: "A better",
    B_BETTER: "B better",
    NO_INTERVAL: "no interval",
}


def verdict_of(row: Mapping[str, Any]) -> str:
    """What a difference says, in words: which side is better, and with a margin what lies within it."""
    few = row["verdict"] == NO_INTERVAL and row["clusters_behind"] < MINIMUM_PATIENTS
    said = [words_of(TOO_FEW_PATIENTS) if few else _WORDS[row["verdict"]]]
    if row["margin"] is not None and row["equivalent"] is not None:
        at = f"within {row['margin']:g}"
        if row["equivalent"]:
            said.append(f"equivalent {at}")
        else:
            said += [f"{side.upper()} not inferior {at}" for side in "ab" if row[f"{side}_not_inferior"]]
            said.append(f"equivalence {at} not shown")
    return "; ".join(said)


def text_of(result: Mapping[str, Any]) -> str:
    """A comparison as a plain-text table."""
    a, b = result["models"]["a"], result["models"]["b"]
    lines = [f"{b} (B) minus {a} (A): {result['n']} cases of {result['n_clusters']} patients or groups"]
    for name, n in result["left_out"].items():
        if n:
            lines.append(f"  {n} cases predicted by {name} alone are left out")
    if result["identical"]:
        lines.append("  A and B give every case the same probabilities and the same call: they are identical here")
    lines += ["", f"  {'':44}{'A':>8}{'B':>8}{'B - A':>9}   {'95 % interval':<19} {'p':<7}"]
    for row in result["differences"]:
        digits = digits_of(row["lower"], row["upper"])
        ends = f"{row['lower']:+.{digits}f} to {row['upper']:+.{digits}f}" if digits is not None else "none"
        p = f"{row['p']:.3g}" if row["p"] is not None and row["verdict"] != IDENTICAL else "-"
        name = row["name"] if row["higher_is_better"] else f"{row['name']} (less is better)"
        change = f"{row['difference']:+.{digits or 3}f}" if row["difference"] else "0"
        lines.append(
            f"  {name:44}{row['a']:>8.3f}{row['b']:>8.3f}{change:>9}   {ends:<19} {p:<7} {verdict_of(row)}".rstrip()
        )
        if of_seeds := row.get("by_seed"):
            lines.append(f"  {'':60}{', '.join(f'{value:+.3f}' for value in of_seeds)} by seed")
    lines += [f"  {name:44}not compared: {words_of(note)}" for name, note in result["not_compared"].items()]
    if result["mcnemar"]:
        lines += ["", f"  {'McNemar, exact, over patients':44}{'only A':>8}{'only B':>8}{'cases':>9}   p"]
    lines += [
        f"  {row['name']:44}{row['only_a_right']:>8}{row['only_b_right']:>8}{row['n']:>9}   {row['p']:.3g}"
        for row in result["mcnemar"]
    ]
    lines += ["", "  'no difference shown' does not say that A and B are equal"]
    if margins := result["margins"]:
        shown = ", ".join(f"{margin:g} for {metric}" for metric, margin in margins.items())
        lines.append(
            f"  margins: {shown}; they count only if they were declared before these figures were seen. Not inferior: "
            "the 95 % interval of the gain lies above -margin; equivalent: it lies within the margin on both sides"
        )
    return "\n".join(lines)


def spread_text(result: Mapping[str, Any]) -> str:
    """A spread over seeds as a plain-text table."""
    lines = [f"{len(result['models'])} models ({', '.join(result['models'])}) on {result['n']} cases: mean and SD"]
    lines += [f"  {row['name']:44}{row['mean']:>8.3f}{row['sd']:>8.3f}" for row in result["spread"]]
    return "\n".join(lines)
