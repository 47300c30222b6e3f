"""The threshold of the veto: a fixed number, or chosen by a rule on validation rows.

The veto has one meaning, for own models and other software (:func:`called_malignant`): a case is called malignant where
its most probable class is malignant, or where its malignancy reaches the threshold. A rule counts the calls that
result from both:

    sensitivity=0.95    the highest threshold at which at least 95 % of the malignant validation cases are called
    specificity=0.9     the lowest threshold at which at least 90 % of the benign validation cases are not called
    youden              the threshold with the largest sensitivity + specificity; the lowest of equal ones

A threshold lies half-way between two neighbouring malignancies, so it does not depend on a single case. Each fold has
its own threshold for its held-out cases; every other case is called at the median over the folds, because all folds
predict it together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skinkit.errors import ConfigError, InputError, did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    from skinkit.stats.metrics import Bools, Floats

VETO = "veto"
"""Name of the rule in tables."""
SENSITIVITY, SPECIFICITY, YOUDEN = RULES = ("sensitivity", "specificity", "youden")
SOURCE = "validation:{rule}"
_FIX = "0.3 is what Wang 2024 uses; a rule is for example sensitivity=0.95 or youden"
_CALLED = 2.0  # above every probability


def called_malignant(malignancy: Any, by_class: Any, threshold: Any) -> Any:
    """The veto: whether cases are called malignant, by their most probable class or by the threshold.

    Args:
        malignancy: (n,) probability of malignancy, or that of one case.
        by_class: likewise whether the most probable class is malignant.
        threshold: one, or one for each case; arrays that fit by broadcasting give as many columns of calls.

    Source: the veto of Wang et al., Scientific Reports 2024: malignant from the threshold on, whatever the top class; a
    malignant top class stays malignant below it.
    """
    return by_class | (malignancy >= threshold)


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is chosen.

    Attributes:
        name: one of :data:`RULES`.
        target: what the sensitivity or specificity must reach; None for ``youden``.
    """

    name: str
    target: float | None = None

    def __str__(self) -> str:
        return self.name if self.target is None else f"{self.name}={self.target:g}"


def parse(veto: float | str) -> float | ThresholdRule:
    """A threshold, or the rule that chooses it.

    Raises:
        ConfigError: neither a probability nor a known rule with a share as its target.
    """
    name, equals, text = str(veto).partition("=")
    if not equals and _number(name) is not None:
        value = _number(str(veto))
        if value is None or not 0 <= value <= 1:
            raise ConfigError(f"--veto {veto}", "a probability, 0 to 1, or a rule", _FIX)
        return value
    if name not in RULES:
        raise ConfigError(f"--veto {veto}", did_you_mean(name, RULES), _FIX)
    target = _number(text) if equals else None
    if (name == YOUDEN) != (not equals) or (equals and (target is None or not 0 < target <= 1)):
        raise ConfigError(f"--veto {veto}", "sensitivity=SHARE, specificity=SHARE (above 0, at most 1) or youden", _FIX)
    return ThresholdRule(name, target)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def choose(
    rule: ThresholdRule, malignancy: Floats, by_class: Bools, truth: Bools, cluster: npt.NDArray[Any]
) -> dict[str, Any]:
    """The threshold of a rule on some validation cases, with the sensitivity and specificity it reaches there.

    Args:
        rule: the rule.
        malignancy: (n,) calibrated probability of malignancy.
        by_class: (n,) the most probable class is malignant.
        truth: (n,) malignant in truth.
        cluster: (n,) patient.

    Returns:
        ``rule``, ``threshold``, ``reached`` (whether any threshold meets the target), ``n``, ``n_malignant``,
        ``n_clusters``, and ``sensitivity`` and ``specificity`` on these cases: ``estimate``, ``lower`` and ``upper``
        (over patients at this threshold; that it was chosen on these cases is not in the interval).

    Raises:
        InputError: no malignant or no benign case.
    """
    import numpy as np

    if not truth.any() or truth.all():
        raise InputError(
            f"{int(truth.sum())} of {len(truth)} validation cases are malignant",
            "malignant and benign validation cases, to choose a threshold on",
            "give --veto a number, or draw a split with more validation cases",
        )
    score = np.where(by_class, _CALLED, malignancy)
    distinct = np.unique(malignancy)
    middle = (distinct[1:] + distinct[:-1]) / 2
    # Between two floating-point neighbours the middle may round down to the lower one, which must stay below.
    candidates = np.r_[0.0, np.where(middle > distinct[:-1], middle, distinct[1:]), 1.0]
    sensitivity = _share_from(score[truth], candidates)
    specificity = 1 - _share_from(score[~truth], candidates)
    reached = True
    if rule.name == SENSITIVITY:
        assert rule.target is not None
        at = int(np.flatnonzero(sensitivity >= rule.target - 1e-12)[-1])  # every case is called at 0
    elif rule.name == SPECIFICITY:
        assert rule.target is not None
        met = np.flatnonzero(specificity >= rule.target - 1e-12)
        reached, at = bool(len(met)), int(met[0]) if len(met) else len(candidates) - 1
    else:
        at = int(np.argmax(np.round(sensitivity + specificity, 12)))
    called = score >= candidates[at]
    return {
        "rule": str(rule),
        "threshold": float(candidates[at]),
        "reached": reached,
        "n": len(truth),
        "n_malignant": int(truth.sum()),
        "n_clusters": len(np.unique(cluster)),
        "sensitivity": _with_interval(called, truth, cluster),
        "specificity": _with_interval(~called, ~truth, cluster),
    }


def _share_from(score: Floats, thresholds: Floats) -> Floats:
    """Share of the scores at or above each threshold."""
    import numpy as np

    below = np.searchsorted(np.sort(score), thresholds, side="left")
    share: Floats = 1 - below / len(score)
    return share


def _with_interval(right: Bools, of: Bools, cluster: npt.NDArray[Any]) -> dict[str, float | None]:
    """Share of the cases ``of`` that are ``right``, with its interval over patients; None for too few patients."""
    import numpy as np

    from skinkit.stats.intervals import proportion_interval

    lower, upper = (None if np.isnan(end) else float(end) for end in proportion_interval(right, of, cluster))
    return {"estimate": float(right[of].mean()), "lower": lower, "upper": upper}


def of_model(veto: float | str, folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What ``model.json`` says: ``threshold`` (of a rule the median of the folds), and ``veto_rule`` or None."""
    from statistics import median

    parsed = parse(veto)
    if not isinstance(parsed, ThresholdRule):
        return {"threshold": parsed, "veto_rule": None}
    return {"threshold": float(median(fold["veto"]["threshold"] for fold in folds)), "veto_rule": str(parsed)}


def threshold_of(about: Mapping[str, Any], fold: int | None) -> float:
    """The threshold a case is called at: of the fold that held it out, else the model's.

    Args:
        about: ``model.json``.
        fold: the fold, or None where several answer.
    """
    own = {int(one["fold"]): one["veto"]["threshold"] for one in about["folds"] if one.get("veto")}
    return float(about["threshold"] if fold is None else own.get(int(fold), about["threshold"]))


def source_of(about: Mapping[str, Any]) -> str:
    """The source of the threshold: ``model`` (a fixed number), or the rule and its rows."""
    rule = about.get("veto_rule")
    return SOURCE.format(rule=rule) if rule else "model"


def mean_thresholds(classes: Mapping[str, Any], folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Class -> the mean of the folds' thresholds, frozen on validation rows; null where no fold could fit one.

    Args:
        classes: of a task, as in ``model.json``.
        folds: what each fold says of the task.
    """
    means: dict[str, Any] = {}
    for code in classes["classes"]:
        entries = [fold["class_thresholds"][code] for fold in folds]
        values = [entry["threshold"] for entry in entries if entry["threshold"] is not None]
        means[code] = {"threshold": sum(values) / len(values) if values else None, "source": entries[0]["source"]}
    return means
