"""Which images a study keeps: the selection of a paper, applied to every cohort alike.

A rule leaves out, in this order:

    1. images that are absent or cannot be read, and photos of another modality than the rule's;
    2. images of which a column the rule needs, such as age, sex or site, is not known;
    3. unconfirmed diagnoses, images that are there already, and classes with too few images.

The first two and the unconfirmed diagnoses concern one row, and repeats within a cohort that cohort: ``ingest`` decides
them. Repeats between cohorts and the size of a class concern all development cohorts together: ``split`` decides them,
on the rows that are left, and ``flow`` counts them by the same function. Cohorts that a model is only scored on lose no
class and no repeat: adding one never changes what a model learns.

*Unconfirmed* is a diagnosis that the source does not give, such as 27,124 images of ISIC 2020; one that an expert gave
without a biopsy is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from skinkit.errors import ConfigError, did_you_mean
from skinkit.schemas import EXCLUDED, OK
from skinkit.studies import SelectionRule, all_studies
from skinkit.taxonomy import class_set

if TYPE_CHECKING:
    import pandas as pd

SUBJECT_UNKNOWN, UNCONFIRMED = "subject_unknown", "diagnosis_unconfirmed"
REPEATED, CLASS_TOO_SMALL = "repeated_elsewhere", "class_too_small"


def rules() -> dict[str, SelectionRule]:
    """Study -> its rule; studies that keep every image are absent."""
    return {study.name: study.selection for study in all_studies() if study.selection is not None}


if TYPE_CHECKING:
    SelectionName = str
else:
    SelectionName = Literal[("", *rules())]
"""The name of a study with a selection, or empty: the type of an option."""


def load_rule(name: str) -> SelectionRule:
    """The rule of that study.

    Raises:
        ConfigError: there is none.
    """
    if name not in rules():
        raise ConfigError(f"no selection {name!r}", did_you_mean(name, rules()), "name one of these")
    return rules()[name]


def within(rows: Iterable[Mapping[str, Any]], rule: str) -> list[dict[str, Any]]:
    """The rows of one cohort, those that the rule leaves out by themselves marked ``excluded``.

    Args:
        rows: of a cases table; only those that are ``ok`` are judged.
        rule: name of the rule; empty keeps every row.
    """
    if not rule:
        return [dict(row) for row in rows]
    chosen = load_rule(rule)
    return [{**row, **(_left_out(row, chosen) if row["status"] == OK else {})} for row in rows]


def _left_out(row: Mapping[str, Any], rule: SelectionRule) -> dict[str, Any]:
    """Outcome columns of a row that is left out; empty for one that is kept."""
    unknown = [name for name in rule.complete if row[name] is None]
    other = rule.modality and row["modality"] not in (rule.modality, None)
    for reason, detail in (
        (f"not_{rule.modality}", f"a {row['modality']} photo" if other else ""),
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
    chosen = load_rule(rule)
    classes = class_set(chosen.classes)
    reasons[joined_groups(cases, "image").duplicated()] = REPEATED
    codes = cases["diagnosis"].map(classes.to_class)
    sizes = codes[reasons.isna()].value_counts()
    small = codes.map(sizes).fillna(0) < chosen.fewest
    return reasons.mask(reasons.isna() & small, CLASS_TOO_SMALL)
