"""Whether the validation rows show that a classifier has learnt anything, by fold and task.

They show nothing where there are too few of them: fewer than the task has classes, or no more than
1 / (1 - coverage), of which split conformal prediction puts every class into every set. They show that nothing was
learnt where every row gets nearly the same answer, and where every prediction set holds every class though there are
enough rows. How good a model is that has learnt something is not asked here; ``skinkit evaluate`` says that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skinkit.artifacts.artifact import Artifact
from skinkit.errors import RefusedError, listed
from skinkit.models.parts.protocol import DIAGNOSIS
from skinkit.schemas import UNTRAINED
from skinkit.stats.calibration import prediction_sets
from skinkit.stats.metrics import Floats

NEAR_CONSTANT = 0.005
"""Standard deviation, over the validation rows, up to which a class's probability counts as the same for all.

Cards print whole per cents, which round by up to half of one: answers that differ by less are printed alike. Of a
standard deviation one odd row moves little, as it would move a range; a rare class that is found moves it far more.
"""
FEW, CONSTANT, EVERY_CLASS = REASONS = ("few_validation_cases", "constant_answers", "every_set_whole")
"""Stable codes of why a fold counts as untrained."""
"""Key of ``fold.json``, of each of its tasks, and of ``model.json``; absent from what has learnt."""


@dataclass(frozen=True)
class Finding:
    """One fold of a task that has learnt nothing, as far as can be seen.

    Attributes:
        fold: its number.
        task: ``diagnosis`` or a further task.
        reason: one of :data:`REASONS`.
    """

    fold: int
    task: str
    reason: str


@dataclass(frozen=True)
class Untrained:
    """What is known of a model that has learnt nothing.

    Attributes:
        findings: the folds and tasks, in order.
        allowed: the reason of ``--allow-untrained``; empty for models of older versions.
    """

    findings: tuple[Finding, ...]
    allowed: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, each once."""
        return tuple(dict.fromkeys(finding.task for finding in self.findings))

    @property
    def diagnoses(self) -> bool:
        """Whether it is the diagnosis that was not learnt, and with it malignancy."""
        return DIAGNOSIS in self.tasks

    def places(self) -> Iterator[tuple[tuple[str, ...], str, tuple[int, ...]]]:
        """Tasks, reason and folds: tasks of the same reason in the same folds stand together."""
        together: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for task, reason in dict.fromkeys((f.task, f.reason) for f in self.findings):
            folds = tuple(f.fold for f in self.findings if (f.task, f.reason) == (task, reason))
            together.setdefault((reason, folds), []).append(task)
        for (reason, folds), tasks in together.items():
            yield tuple(tasks), reason, folds

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``model.json`` and the manifest of predictions."""
        findings = [{"fold": f.fold, "task": f.task, "reason": f.reason} for f in self.findings]
        return {"allowed": self.allowed or None, "findings": findings}

    @classmethod
    def from_dict(cls, recorded: Mapping[str, Any]) -> Untrained:
        """The inverse of :meth:`as_dict`."""
        findings = (Finding(int(f["fold"]), str(f["task"]), str(f["reason"])) for f in recorded["findings"])
        return cls(tuple(findings), str(recorded.get("allowed") or ""))

    def __str__(self) -> str:
        said = [
            f"{_SAID[reason]} ({'' if tasks == (DIAGNOSIS,) else f'{listed(tasks)}; '}fold {listed(folds)})"
            for tasks, reason, folds in self.places()
        ]
        return "; ".join(said)


_SAID = {
    FEW: "too few validation cases to show anything",
    CONSTANT: "the same answer for every validation case",
    EVERY_CLASS: "no class is ruled out for any validation case",
}


def too_few(n_validation: int, n_classes: int, coverage: float | None) -> bool:
    """Whether so few validation rows cannot show that anything was learnt; see the module's text."""
    return n_validation < n_classes or (coverage is not None and n_validation <= 1 / (1 - coverage))


def reasons_of(probability: Floats, level: float, coverage: float) -> list[str]:
    """Why the answers for the validation rows show no learning; empty where they do.

    Args:
        probability: (rows, classes), calibrated.
        level: from which a class enters the prediction set.
        coverage: that the level was fitted for.
    """
    n, n_classes = probability.shape
    if too_few(n, n_classes, coverage):
        few = [FEW]
        return [*few, CONSTANT] if n > 1 and _constant(probability) else few
    if _constant(probability):
        return [CONSTANT]
    return [EVERY_CLASS] if prediction_sets(probability, level).all() else []


def _constant(probability: Floats) -> bool:
    """Whether all rows get nearly the same answer; answers that are no numbers are no answers."""
    return not bool((probability.std(axis=0) > NEAR_CONSTANT).any())


def of_model(about: Mapping[str, Any]) -> Untrained | None:
    """What ``model.json`` says of a classifier, or, of an older version, what its validation figures allow to say.

    None where it has learnt, or where nothing can be said.
    """
    if about.get("task", "classify") != "classify":
        return None
    if recorded := about.get(UNTRAINED):
        return Untrained.from_dict(recorded)
    sizes = {DIAGNOSIS: len(about["classes"]["classes"])}
    sizes |= {task: len(of["classes"]) for task, of in (about.get("tasks") or {}).items()}
    findings = tuple(finding for fold in about.get("folds") or () for finding in of_fold(fold, sizes))
    return Untrained(findings) if findings else None


def knows_nothing(found: Untrained | None) -> bool:
    """Whether a model has not learnt the diagnosis, so that neither its calls nor their absence mean anything."""
    return found is not None and found.diagnoses


def of_artifact(model: Artifact) -> Untrained | None:
    """The same of a trained model; None also for one whose ``model.json`` is damaged, as is said where it is opened."""
    try:
        return of_model(model.json("model.json"))
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None


def of_fold(fold: Mapping[str, Any], sizes: Mapping[str, int]) -> list[Finding]:
    """The same of one fold's ``fold.json``.

    Args:
        fold: its content.
        sizes: task -> number of its classes.
    """
    parts = {task: fold if task == DIAGNOSIS else fold["tasks"][task] for task in sizes}
    return [Finding(int(fold["fold"]), task, why) for task, n in sizes.items() for why in _of_fold(parts[task], n)]


def _of_fold(part: Mapping[str, Any], n_classes: int) -> list[str]:
    """The recorded reasons of a fold's task, or what its figures show where an older version wrote none."""
    if UNTRAINED in part:
        return list(part[UNTRAINED])
    conformal = part.get("conformal") or {}
    few = "n_validation" in part and too_few(int(part["n_validation"]), n_classes, conformal.get("coverage"))
    found = [FEW] if few else []
    if _constant_knots(part):
        return [*found, CONSTANT]
    return found or ([EVERY_CLASS] if conformal and float(conformal["level"]) <= 0 else [])


def _constant_knots(part: Mapping[str, Any]) -> bool:
    """Whether the isotonic maps were fitted to nearly the same probability of every validation row.

    Their knots begin and end at the lowest and highest probability of a class with validation cases. A standard
    deviation is at most half of a range, and one class without cases has at most the ranges of all others together.
    """
    isotonic = part.get("isotonic")
    if not isotonic:
        return False
    axis: Sequence[Sequence[float]] = isotonic["y" if part.get("calibration") == "isotonic" else "x"]
    unfitted = [list(knots) == [0.0, 1.0] for knots in isotonic["x"]]
    ranges = [max(knots) - min(knots) for knots in itertools.compress(axis, (not one for one in unfitted))]
    most = max(ranges, default=np.inf) if not any(unfitted) else sum(ranges)
    return len(ranges) > 1 and sum(unfitted) <= 1 and most <= 2 * NEAR_CONSTANT


def sentence(found: Untrained) -> str:
    """What is said of a model of this kind, after its name."""
    why = f", kept because: {found.allowed}" if found.allowed else ""
    return f"has learnt nothing that its validation cases could show: {found}{why}"


def refuse(found: Untrained, model: str, coverage: float, allowed: str) -> None:
    """Refuse a model that has learnt nothing, unless a reason is given.

    Args:
        found: what was found.
        model: what is trained, for the message.
        coverage: of its prediction sets.
        allowed: reason of ``--allow-untrained``, or empty.

    Raises:
        RefusedError: there is none.
    """
    if allowed.strip():
        return
    raise RefusedError(
        f"{model} {sentence(found)}",
        f"in each fold and task as many validation cases as classes and more than {math.floor(1 / (1 - coverage))} "
        "(fewer leave every class in every prediction set), and answers that separate some of them",
        "add cases, draw a split with more validation cases ('skinkit split --validation SHARE') or fewer folds, leave "
        "a task out of --tasks, or change the settings; or give --allow-untrained REASON, which is recorded and "
        "printed first in the report and on every card",
    )
