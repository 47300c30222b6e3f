"""Figures of the same cases predicted twice, as they are and altered, with paired differences over patients.

Each patient is left out of all alterations at once, so that a difference is paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.stats.intervals import LeaveOut, bounded_interval, effective_patients, patients_of
from skinkit.stats.metrics import Bools, Floats, Ints, Ranking, once, ratio
from skinkit.stats.paired import paired_difference
from skinkit.stats.thresholds import called_malignant

BALANCED, MACRO = "balanced_accuracy", "macro_auroc"
AUROC, SENSITIVITY, SPECIFICITY = "malignant_auroc", "malignant_sensitivity", "malignant_specificity"
FIGURES = {
    BALANCED: "balanced accuracy",
    MACRO: "AUROC, macro",
    AUROC: "malignant: AUROC",
    SENSITIVITY: "malignant: sensitivity, veto",
    SPECIFICITY: "malignant: specificity, veto",
}
"""Metrics and their labels."""
Figures = tuple[dict[str, float], dict[str, Floats]]
"""Figure -> its value, and (groups,) its values without each patient."""
SHORT = {
    BALANCED: "balanced accuracy",
    MACRO: "AUROC, macro",
    AUROC: "malignant: AUROC",
    SENSITIVITY: "sensitivity",
    SPECIFICITY: "specificity",
}
"""Headings of columns."""


@dataclass(frozen=True)
class CasesWithTruth:
    """Truth, patients and thresholds that every alteration is scored against.

    Attributes:
        truth: (n,) class indices.
        cluster: (n,) patients.
        malignant: (classes,) which are malignant.
        threshold: (n,) malignancy from which a case is called malignant.
    """

    truth: Ints
    cluster: npt.NDArray[Any]
    malignant: Bools
    threshold: Floats

    def rows(self, chosen: npt.NDArray[Any]) -> CasesWithTruth:
        """Some of the cases."""
        return CasesWithTruth(self.truth[chosen], self.cluster[chosen], self.malignant, self.threshold[chosen])

    def figures(self, probability: Floats, left_out: LeaveOut) -> Figures:
        """The figures of (n, classes) probabilities, and (groups,) values of each without each patient."""
        table = _Metrics(self, probability)
        point = {name: float(value[0]) for name, value in table.values(once(len(self.truth)))}
        replicates: dict[str, list[Floats]] = {name: [] for name in point}
        for weights in left_out.weights(self.cluster, len(self.malignant)):
            for name, value in table.values(weights):
                replicates[name].append(value)
        return point, {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in replicates.items()}

    def against(self, whole: Figures, draws: Sequence[Figures]) -> list[dict[str, Any]]:
        """Rows of the mean of several alterations' figures, with paired differences to the cases as they are.

        Args:
            whole: figures of the cases as they are.
            draws: of each alteration.

        Returns:
            One row a figure: metric, estimate, lower, upper, difference, difference_lower, difference_upper, p, draws,
            n and n_clusters; NaN where a figure is undefined.
        """
        rows = []
        for name, unaltered in whole[0].items():
            estimate = float(np.mean([point[name] for point, _ in draws]))
            without_each = np.mean([values[name] for _, values in draws], axis=0)
            lower, upper = self.interval(name, estimate, without_each)
            patients = patients_of(self.cluster, *self.sides(name))
            apart = paired_difference(estimate - unaltered, without_each - whole[1][name], patients)
            rows.append(
                {
                    "metric": name,
                    "estimate": estimate,
                    "lower": lower,
                    "upper": upper,
                    "difference": apart.estimate,
                    "difference_lower": apart.lower,
                    "difference_upper": apart.upper,
                    "p": apart.p,
                    "draws": len(draws),
                    "n": len(self.truth),
                    "n_clusters": len(np.unique(self.cluster)),
                }
            )
        return rows

    def sides(self, name: str) -> tuple[Bools, ...]:
        """The sides, (n,) cases each, that a figure stands on; the one with the fewest patients limits it."""
        sick = self.malignant[self.truth]
        if name in (SENSITIVITY, SPECIFICITY):
            return (sick if name == SENSITIVITY else ~sick,)
        if name == AUROC:
            return sick, ~sick
        classes = [self.truth == c for c in np.unique(self.truth)]
        return (*classes, *(~of for of in classes if name == MACRO and not of.all()))

    def interval(self, name: str, estimate: float, left_out: Floats) -> tuple[float, float]:
        """The 95 % interval of a figure, by the method of the metrics table."""
        sides = self.sides(name)
        return bounded_interval(
            estimate,
            left_out,
            patients_of(self.cluster, *sides),
            effective=effective_patients(self.cluster, *sides),
            cases=int(sides[0].sum()) if name in (SENSITIVITY, SPECIFICITY) else math.inf,
        )


class _Metrics:
    """The figures of one set of probabilities, for any weights of the cases."""

    def __init__(self, cases: CasesWithTruth, probability: Floats) -> None:
        one_hot = np.eye(probability.shape[1], dtype=bool)[cases.truth]
        present = one_hot.any(axis=0)
        both = present & ~one_hot.all(axis=0)
        predicted = probability.argmax(axis=1)
        malignancy = probability[:, cases.malignant].sum(axis=1)
        self.sick = cases.malignant[cases.truth]
        called = called_malignant(malignancy, cases.malignant[predicted], cases.threshold)
        self.of_class = one_hot[:, present]
        self.hit = self.of_class & (predicted == cases.truth)[:, None]
        self.classes = [Ranking(probability[:, k], one_hot[:, k]) for k in np.flatnonzero(both)]
        self.malignancy = Ranking(malignancy, self.sick) if self.sick.any() and not self.sick.all() else None
        self.right = called == self.sick

    def values(self, w: Floats) -> Iterator[tuple[str, Floats]]:
        """Figure and its value in each replicate of (replicates, n) weights."""
        yield BALANCED, ratio(w @ self.hit, w @ self.of_class).mean(axis=1)
        if self.classes:
            yield MACRO, np.mean([ranking.areas(w)[0] for ranking in self.classes], axis=0)
        if self.malignancy is not None:
            yield AUROC, self.malignancy.areas(w)[0]
            yield SENSITIVITY, ratio(w @ (self.right & self.sick), w @ self.sick)
            yield SPECIFICITY, ratio(w @ (self.right & ~self.sick), w @ ~self.sick)


def cell(row: Mapping[str, Any]) -> str:
    """A figure with its difference in brackets, and * where the 95 % interval of that leaves out 0."""
    apart = row["difference_lower"] > 0 or row["difference_upper"] < 0
    return f"{row['estimate']:.3f} ({row['difference']:+.3f}){'*' if apart else ' '}"


def change(row: Mapping[str, Any]) -> str:
    """A difference with its interval, or without where too few patients stand behind it."""
    if math.isnan(row["difference_lower"]):
        return f"{row['difference']:+.3f} (no interval: too few patients)"
    return f"{row['difference']:+.3f} ({row['difference_lower']:+.3f} to {row['difference_upper']:+.3f})"
