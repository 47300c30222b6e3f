"""What a model loses where photos are taken under other conditions: the table of drops and what it says.

Rows are those of ``evaluation.altered.CasesWithTruth.against`` with ``domain``, a way of taking photos, and
``strength``. The domain is empty for the photos as they are, and begins with :data:`MEAN` for the mean over all ways
and strengths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from skinkit.evaluation.altered import AUROC, BALANCED, FIGURES, SHORT, cell, change
from skinkit.schemas import Schema

MEAN = "mean"
TABLE = Schema("corrupt", 1, ("domain", "strength", "metric"), ())


def verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on the mean drop and on the ways that cost most."""
    figure = deciding_metric(rows)
    mean = next((row for row in rows if row["domain"] == MEAN and row["metric"] == figure), None)
    sentences = [f"mean over all ways and strengths: {FIGURES[figure]} {change(mean)}"] if mean else []
    single = [r for r in rows if r["metric"] == figure and r["domain"] and not r["domain"].startswith(MEAN)]
    strongest = max((row["strength"] for row in single), default=0.0)
    at_most = [row for row in single if row["strength"] == strongest]
    if all(math.isnan(row["difference_lower"]) for row in at_most):
        return [*sentences, "too few patients to say which ways cost more than chance explains"]
    costly = [row for row in at_most if row["difference_upper"] < 0]
    named = [f"{r['domain']} {change(r)}" for r in sorted(costly, key=lambda row: row["difference"])[:4]]
    words = "; ".join(named) or "none, beyond chance"
    return [*sentences, f"at strength {strongest:g} these cost {FIGURES[figure]}: {words}"]


def deciding_metric(rows: Sequence[Mapping[str, Any]]) -> str:
    """The metric that drops are reported in: balanced accuracy, or malignant AUROC where only that has intervals."""
    with_interval = {row["metric"] for row in rows if row["domain"] and not math.isnan(row["difference_lower"])}
    return AUROC if BALANCED not in with_interval and AUROC in with_interval else BALANCED


def text_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The verdict and the table as plain text."""
    metrics = [name for name in FIGURES if any(row["metric"] == name for row in rows)]
    lines = [*verdict(rows), "", f"  {'':28}" + "".join(f"{SHORT[name]:>19}" for name in metrics)]
    keys = list(dict.fromkeys((row["domain"], row["strength"]) for row in rows))
    for domain, strength in sorted(keys, key=lambda key: (key[0] != "", keys.index(key))):
        here = {r["metric"]: r for r in rows if (r["domain"], r["strength"]) == (domain, strength)}
        label = "as it is" if not domain else domain if domain.startswith(MEAN) else f"{domain}, {strength:g}"
        cells = [f"{here[name]['estimate']:.3f}         " if not domain else cell(here[name]) for name in metrics]
        lines.append(f"  {label:28}" + "".join(f"{text:>19}" for text in cells))
    lines.append("  in brackets the difference to 'as it is', * where its 95 % interval leaves out 0")
    return "\n".join(lines)
