"""The primary endpoint: one row of the metrics table, declared before any figure is computed."""

from __future__ import annotations

from collections.abc import Iterable

from skinkit.errors import ConfigError, did_you_mean
from skinkit.stats.metrics import ALL, MALIGNANT

AVERAGES = ("none", "macro", "micro", "weighted")
RULES = ("none", "argmax", "frozen_threshold", "veto", "conformal_set")
_FORM = "CLASS METRIC [AVERAGE] [@ RULE], for example 'malignant sensitivity @ veto' or 'all auroc macro'"

Endpoint = tuple[str, str, str, str]
"""(class, average, decision_rule, metric)"""


def parse(text: str) -> Endpoint:
    """The row that a text such as ``malignant sensitivity @ veto`` names.

    Raises:
        ConfigError: it has another form, or names an unknown average or rule.
    """
    figure, _, rule = (part.strip() for part in text.partition("@"))
    words = figure.split()
    if len(words) not in (2, 3):
        raise ConfigError(f"primary = {text!r}", _FORM, "correct the primary endpoint")
    rule, average = rule or "none", words[2] if len(words) == 3 else "none"
    for word, allowed in ((average, AVERAGES), (rule, RULES)):
        if word not in allowed:
            raise ConfigError(
                f"primary = {text!r}: {word!r}", did_you_mean(word, allowed), "correct the primary endpoint"
            )
    return words[0], average, rule, words[1]


def find(text: str, keys: Iterable[Endpoint]) -> Endpoint:
    """The row that ``text`` names, checked against the available rows.

    Raises:
        ConfigError: there is no such row; the closest ones are named.
    """
    wanted, available = parse(text), set(keys)
    if wanted not in available:
        same = {text_of(key): key for key in available if key[0] in (wanted[0], MALIGNANT, ALL)}
        raise ConfigError(
            f"primary = {text!r}: no such figure in the metrics table",
            did_you_mean(text_of(wanted), same),
            "name a row of the metrics table",
        )
    return wanted


def text_of(key: Endpoint) -> str:
    """An endpoint in the words that :func:`parse` reads."""
    class_, average, rule, metric = key
    parts = [class_, metric, *([average] if average != "none" else []), *([f"@ {rule}"] if rule != "none" else [])]
    return " ".join(parts)
