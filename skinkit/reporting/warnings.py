"""Warnings derived from the evidence: leakage, cues, drift, small numbers, losses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from skinkit.audit.shortcuts import TOGETHER
from skinkit.learning.untrained import Untrained
from skinkit.reporting.evidence import CohortEvidence, Loss, losses_of
from skinkit.schemas import FAILED, PENDING

FEW = 50
"""With fewer malignant (or benign) cases a sensitivity (or specificity) is called a rough guess."""
COMMON_SHARE = 0.1
"""With a larger share of malignant cases a cohort is called unlike a clinic."""
CHANCE = 0.5
"""AUROC of random predictions."""
DROP = 0.02
"""Drop of the AUROC from development to external cases from which a warning is shown."""
DARK_SHARE = 0.05
"""With a smaller share of Fitzpatrick types V and VI, dark skin is called hardly represented."""
CONFIRMED_SHARE = 0.95
"""With a smaller share of diagnoses from histopathology the truth is called uncertain."""


@dataclass(frozen=True)
class ReportWarning:
    """One warning and the places it applies to.

    Attributes:
        key: key of its text.
        where: values of the placeholders, for each place; values that need translation are codes.
        form: key of the text of one place.
        loud: printed first, in the alarm's colour.
        most: places that are named, 0 for all; of more it says how many.
    """

    key: str
    where: tuple[Mapping[str, Any], ...] = ()
    form: str = "cohort"
    loud: bool = False
    most: int = 0


# ------------------------------------------------------------------------------------------------ finding warnings
def find_warnings(
    cohorts: Sequence[CohortEvidence],
    drift: Mapping[str, Mapping[str, Any]] | None = None,
    untrained: Untrained | None = None,
    *,
    measures: bool = True,
    withdrawn: int = 0,
) -> list[ReportWarning]:
    """All warnings that apply, most important first.

    Args:
        cohorts: all of them.
        drift: external cohort -> result of ``skinkit.audit.drift.compare``.
        untrained: what the model has not learnt; of no interest where that stands before everything else.
        measures: whether the model reads outlines, so that it matters how they were drawn.
        withdrawn: photos it has learnt from whose patients withdrew their consent since.
    """
    scored = [c for c in cohorts if c.has("metrics")]
    labelled = [c for c in cohorts if c.cohort.role != "inference" and not c.is_phantom]
    otsu = [c for c in cohorts if measures and "otsu" in c.segmenter.split(", ")]
    outlined = [c for c in cohorts if measures]
    candidates = [
        *of_untrained(untrained),
        ReportWarning("withdrawn", ({"n": withdrawn},) if withdrawn else (), "withdrawn", loud=True),
        ReportWarning("leakage_allowed", _where(cohorts, _leakage), "leakage_allowed", loud=True),
        ReportWarning("every_class", _where(cohorts, _every_class), "of", loud=True),
        ReportWarning("phantoms", tuple({"cohort": c.name} for c in cohorts if c.is_phantom), loud=True),
        ReportWarning("chance", _where(scored, _chance), "chance", loud=True),
        ReportWarning("shortcuts", _where(scored, lambda c: _cues(c, "strong")), "cues", loud=True),
        ReportWarning("otsu", tuple(map(_otsu, otsu)), "otsu", loud=True),
        ReportWarning(
            "relabelled", _where(scored, lambda c: {"n": c.n_relabelled} if c.n_relabelled else None), "n", loud=True
        ),
        ReportWarning(
            "label_attributes",
            tuple(each for c in scored[:1] for each in c.label_attributes),
            "label_attribute",
            loud=True,
            most=5,
        ),
        ReportWarning("external", _where(scored, lambda c: {} if c.doubtful_external else None), loud=True),
        ReportWarning("near", _where(scored, lambda c: {"n": c.n_near} if c.n_near else None), "n"),
        ReportWarning("gaps", _where(scored, lambda c: {"gaps": c.gaps} if c.gaps else None), "gaps"),
        ReportWarning("shortcuts_some", _where(scored, lambda c: _cues(c, "some")), "cues"),
        ReportWarning("drift", _where(cohorts, lambda c: _drifted((drift or {}).get(c.name))), "drift"),
        ReportWarning(
            "test_access",
            _where(scored, lambda c: {"n": c.test_access_number} if c.test_access_number > 1 else None),
            "test_access",
        ),
        ReportWarning("unlike", _where(cohorts, _unlike), "of"),
        *([ReportWarning("no_external", ({},))] if scored and all(c.cohort.role != "external" for c in scored) else []),
        ReportWarning("missed", _where(scored, _missed), "missed"),
        ReportWarning("few_malignant", _where(scored, _few_malignant), "n"),
        ReportWarning("few_benign", _where(scored, _few_benign), "n"),
        ReportWarning("drop", tuple(_drops(scored)), "drop"),
        ReportWarning("prevalence", _where(scored, _prevalence), "share"),
        ReportWarning("not_scored", _where(scored, lambda c: _by_reason(c.not_scored)), "reasons"),
        ReportWarning("confirmation", _where(scored, lambda c: _cues(c, "strong", "confirmation")), "cues"),
        ReportWarning("histology", _where(labelled, _histology), "share"),
        ReportWarning("skin_types", _where(labelled, _skin_types), "of"),
        ReportWarning("skin_unknown", _where(labelled, _skin_unknown)),
        ReportWarning("failed", _where(cohorts, lambda c: _by_reason(_lost(c, FAILED))), "reasons"),
        ReportWarning("pending", _where(cohorts, lambda c: _by_reason(_lost(c, PENDING))), "reasons"),
        ReportWarning("measured_iou", _where(outlined, _measured_iou), "measured_iou"),
        ReportWarning("mask_failed", _where(outlined, _mask_failed), "n"),
        ReportWarning("flags", _where(cohorts, lambda c: {"flags": c.flags} if c.flags else None), "flags"),
        ReportWarning("attributes", _where(cohorts, _missing_attributes), "attributes"),
    ]
    return [warning for warning in candidates if warning.where]


def of_untrained(untrained: Untrained | None) -> list[ReportWarning]:
    """That the model has learnt nothing, why, and with which reason it was kept."""
    if untrained is None:
        return []
    places = tuple(
        {"tasks": tasks, "untrained": reason, "folds": list(folds)} for tasks, reason, folds in untrained.places()
    )
    key = "untrained" if untrained.diagnoses else "untrained_tasks"
    allowed = ({"reason": untrained.allowed},) if untrained.allowed else ()
    return [
        ReportWarning(key, places, "untrained", loud=True),
        ReportWarning("untrained_allowed", allowed, "untrained_allowed", loud=True),
    ]


Values = dict[str, Any]


def _where(
    cohorts: Sequence[CohortEvidence], ask: Callable[[CohortEvidence], Values | None]
) -> tuple[Mapping[str, Any], ...]:
    """The cohorts with a value, and the value."""
    answers = ((c.name, ask(c)) for c in cohorts)
    return tuple({"cohort": name, **answer} for name, answer in answers if answer is not None)


def _every_class(c: CohortEvidence) -> Values | None:
    n, total = c.whole_sets
    return {"n": n, "total": total} if n else None


def _leakage(c: CohortEvidence) -> Values | None:
    return {"reason": c.allowed_leakage} if c.allowed_leakage else None


_MOST_CUES = 3


def _cues(c: CohortEvidence, verdict: str, family: str = "") -> Values | None:
    """The strongest cues with that verdict; models of several cues are only in their section."""
    cues = [
        row
        for row in (c.shortcuts or {"cues": []})["cues"]
        if row["verdict"] == verdict
        and row["cue"] != TOGETHER
        and not row["same_as"]
        and (row["family"] == family if family else row["family"] != "confirmation")
    ]
    return {"cues": cues[:_MOST_CUES]} if cues else None


def _drifted(answer: Mapping[str, Any] | None) -> Values | None:
    if answer is None or answer["domain"] is None or answer["domain"]["lower"] is None:
        return None
    n = sum(bool(row["shifted"]) for row in answer["inputs"])
    if answer["domain"]["lower"] <= CHANCE or not n:
        return None
    return {"n": n, "total": len(answer["inputs"]), "auroc": float(answer["domain"]["auroc"])}


def _unlike(c: CohortEvidence) -> Values | None:
    n, total = c.n_unlike or (0, 0)
    # By definition one in a hundred ordinary cases is counted.
    return {"n": n, "total": total} if n > max(2, 0.03 * total) else None


def _chance(c: CohortEvidence) -> Values | None:
    figure = c.auroc
    if figure is None or not figure.has_interval or figure.lower > CHANCE:
        return None
    return {"auroc": figure.estimate, "lower": figure.lower, "upper": figure.upper}


def _missed(c: CohortEvidence) -> Values | None:
    counts = c.alarms
    if counts is None or not counts.malignant:
        return None
    return {"missed": counts.missed, "n": counts.malignant, "most": counts.most_missed}


def _scored_counts(c: CohortEvidence) -> tuple[int, int]:
    """Malignant and benign cases that were scored."""
    figure = c.sensitivity or c.auroc
    if figure is None or figure.n_positive is None:
        return 0, 0
    return figure.n_positive, figure.n - figure.n_positive


def _few_malignant(c: CohortEvidence) -> Values | None:
    malignant, benign = _scored_counts(c)
    return {"n": malignant} if malignant + benign and malignant < FEW else None


def _few_benign(c: CohortEvidence) -> Values | None:
    malignant, benign = _scored_counts(c)
    return {"n": benign} if malignant + benign and benign < FEW else None


def _prevalence(c: CohortEvidence) -> Values | None:
    malignant, benign = _scored_counts(c)
    share = malignant / max(malignant + benign, 1)
    return {"share": share} if share > COMMON_SHARE else None


def _drops(scored: Sequence[CohortEvidence]) -> Iterator[Values]:
    inside = [(c.name, c.auroc) for c in scored if c.cohort.role == "development"]
    outside = [(c.name, c.auroc) for c in scored if c.cohort.role == "external"]
    for internal, a in inside:
        for external, b in outside:
            if a is not None and b is not None and a.estimate - b.estimate > DROP:
                yield {"internal": internal, "external": external, "before": a.estimate, "after": b.estimate}


def _by_reason(losses: tuple[Loss, ...]) -> Values | None:
    return {"n": sum(loss.count for loss in losses), "reasons": losses} if losses else None


def _lost(c: CohortEvidence, status: str) -> tuple[Loss, ...]:
    return tuple(loss for loss in losses_of(c.cases) if loss.status == status)


def _measured_iou(c: CohortEvidence) -> Values | None:
    iou = c.iou
    is_segmented = "truth" not in c.segmenter.split(", ")
    return {"n": len(iou), "iou": float(iou.mean())} if len(iou) and is_segmented else None


def _otsu(c: CohortEvidence) -> Values:
    iou = c.iou
    return {"cohort": c.name, "n": len(iou), "iou": float(iou.mean()) if len(iou) else math.nan}


def _mask_failed(c: CohortEvidence) -> Values | None:
    n = c.n_mask_failed
    return {"n": n} if n else None


def _missing_attributes(c: CohortEvidence) -> Values | None:
    if c.predictions is None:
        return None
    images = c.predictions[c.predictions["level"] == "image"]
    lists = [str(text).split(",") for text in images["missing_attributes"].dropna() if str(text)]
    tally = Counter(name for names in lists for name in names)
    top = sorted(tally, key=lambda name: (-tally[name], name))[:3]
    return {"n": len(lists), "total": len(images), "names": top} if lists else None


def _skin_types_of(c: CohortEvidence) -> pd.Series:
    return c.usable["fitzpatrick"].dropna() if "fitzpatrick" in c.usable else pd.Series(dtype=float)


def _skin_types(c: CohortEvidence) -> Values | None:
    types = _skin_types_of(c)
    dark = int((types >= 5).sum())
    return {"n": dark, "total": len(types)} if len(types) and dark < DARK_SHARE * len(types) else None


def _skin_unknown(c: CohortEvidence) -> Values | None:
    return None if len(_skin_types_of(c)) else {}


def _histology(c: CohortEvidence) -> Values | None:
    labelled = c.usable[c.usable["diagnosis"].notna()]
    share = float((labelled["confirmed_by"] == "histopathology").mean()) if len(labelled) else 1.0
    return {"share": share} if share < CONFIRMED_SHARE else None
