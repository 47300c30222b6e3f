"""The protocols of ``skinkit split``: patients on one side (``grouped``), and the splits that studies publish."""

from __future__ import annotations

from skinkit.errors import ConfigError
from skinkit.studies import PublishedSplit, all_studies

GROUPED = "grouped"
LEFT_OUT_FILE = "left_out.csv"
"""Cases of development cohorts that are in no part, beside a split and beside the models trained on it."""
HALF = "half"
"""Column of the halves of a test set, if its protocol divides it."""


def published_splits() -> dict[str, PublishedSplit]:
    """Protocol -> the split of the study that publishes it.

    Raises:
        ConfigError: two studies share the name of a protocol, or one takes ``grouped``.
    """
    splits: dict[str, PublishedSplit] = {}
    for study in all_studies():
        for split in study.splits:
            if split.name in splits or split.name == GROUPED:
                raise ConfigError(
                    f"protocol {split.name!r} of {study.name} exists already", "a name of its own", "rename it"
                )
            splits[split.name] = split
    return splits
