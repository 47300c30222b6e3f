"""Which images a study keeps: the selection of a paper, applied to every cohort alike.

``wang2024`` leaves out, in this order (Wang et al. 2024, Fig. 1):

    1. images that are absent or cannot be read, and photos that are not dermoscopic;
    2. images of which age, sex or site is not known;
    3. unconfirmed diagnoses, images that are there already, and classes of fewer than 100 images.

The first two and the unconfirmed diagnoses are a matter of one row, and repeats within a cohort of that cohort:
``ingest`` decides them. Repeats between cohorts and the size of a class are a matter of all development cohorts
together: ``split`` decides them, on what the rows before have left, and ``flow`` counts them by the same function.
Cohorts that a model is only scored on lose no class and no repeat: adding one never changes what a model learns.

The paper does not say what *unconfirmed* is. Here it is a diagnosis that the source does not tell (27,124 images of
ISIC 2020); one that an expert told without a biopsy is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skinkit.schemas import EXCLUDED, OK
from skinkit.taxonomy import class_set

if TYPE_CHECKING:
    import pandas as pd

NOT_DERMOSCOPIC, SUBJECT_UNKNOWN, UNCONFIRMED = "not_dermoscopic", "subject_unknown", "diagnosis_unconfirmed"
REPEATED, CLASS_TOO_SMALL = "repeated_elsewhere", "class_too_small"
SUBJECT = ("age_years", "sex", "site")


@dataclass(frozen=True)
class SelectionRule:
    """The selection of a paper.

    Attributes:
        classes: class set whose classes are counted.
        fewest: images a class must have over all development cohorts.
        paper: the paper's own counts, as it prints them.
    """

    classes: str
    fewest: int
    paper: Mapping[str, int]


RULES: dict[str, SelectionRule] = {
    "wang2024": SelectionRule(
        classes="wang8",
        fewest=100,
        # The paper prints what is left out and what is kept; where it began is their sum.
        paper={
            "identified": 88_085, "image": 10_916, "subject": 8_063, "diagnosis": 26_614, "kept": 42_492,
            "development": 32_384, "external": 10_108,
        },
    )
}  # fmt: skip


def within(rows: Iterable[Mapping[str, Any]], rule: str) -> list[dict[str, Any]]:
    """The rows of one cohort, those that the rule leaves out by themselves marked ``excluded``.

    Args:
        rows: of a cases table; only those that are ``ok`` are judged.
        rule: name of the rule; empty keeps every row.
    """
    if not rule:
        return [dict(row) for row in rows]
    return [{**row, **(_left_out(row) if row["status"] == OK else {})} for row in rows]


def _left_out(row: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in SUBJECT if row[name] is None]
    for reason, detail in (
        (NOT_DERMOSCOPIC, f"a {row['modality']} photo" if row["modality"] not in ("dermoscopic", None) else ""),
        (SUBJECT_UNKNOWN, f"not known: {', '.join(unknown)}" if unknown else ""),
        (UNCONFIRMED, f"the source says {row['diagnosis_source'] or 'nothing'}" if not row["diagnosis"] else ""),
    ):
        if detail:
            return {"status": EXCLUDED, "reason": reason, "detail": detail}
    return {}


def across(cases: pd.DataFrame, rule: str) -> pd.Series:
    """Why rows of the development cohorts are left out when these are looked at together.

    Args:
        cases: usable rows of all development cohorts, with ``cohort``; of a repeated image the first row stays.
        rule: name of the rule.

    Returns:
        :data:`REPEATED`, :data:`CLASS_TOO_SMALL` or null, on the index of ``cases``.
    """
    import pandas as pd

    from skinkit.audit.leakage import joined_groups

    reasons = pd.Series(None, index=cases.index, dtype=object)
    if cases.empty or not rule:
        return reasons
    classes = class_set(RULES[rule].classes)
    reasons[joined_groups(cases, "image").duplicated()] = REPEATED
    codes = cases["diagnosis"].map(classes.to_class)
    sizes = codes[reasons.isna()].value_counts()
    small = codes.map(sizes).fillna(0) < RULES[rule].fewest
    return reasons.mask(reasons.isna() & small, CLASS_TOO_SMALL)
