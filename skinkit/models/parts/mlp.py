"""Layers that several papers have."""

from __future__ import annotations

from torch import nn

_INNER = 512


def metadata_mlp(columns: int, width: int, dropout: float | None = None) -> nn.Sequential:
    """Attributes (n, columns) -> (n, width) by way of 512; with a dropout layer in between unless it is None."""
    between = [] if dropout is None else [nn.Dropout(dropout)]
    return nn.Sequential(
        nn.Linear(columns, _INNER), nn.BatchNorm1d(_INNER), nn.ReLU(), *between,
        nn.Linear(_INNER, width), nn.BatchNorm1d(width), nn.ReLU(),
    )  # fmt: skip


def classifier_mlp(columns: int, width: int, classes: int, dropout: float) -> nn.Sequential:
    """Features (n, columns) -> logits (n, classes) by way of ``width`` and 512."""
    return nn.Sequential(
        nn.Linear(columns, width), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(width, _INNER), nn.ReLU(), nn.Dropout(dropout), nn.Linear(_INNER, classes),
    )  # fmt: skip
