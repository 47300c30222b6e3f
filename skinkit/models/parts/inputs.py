"""Tables of estimators: named inputs side by side in one matrix, and linear scores taken apart by input again.

Also what other models answer (members), and how often training cases count with hidden attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np

from skinkit.errors import ConfigError
from skinkit.stats.metrics import Floats

HiddenBlock = Annotated[float, "share in which a training case counts without its patient block"]
HiddenAttributes = Annotated[float, "share in which a training case counts without any attribute"]
"""How a ``Config`` says how often training cases count with hidden attributes (:func:`refuse_hidden`)."""


def joined(batch: Mapping[str, np.ndarray], names: Iterable[str]) -> Floats:
    """(n, columns) of the inputs of these names, in order."""
    return np.concatenate([batch[name] for name in names], axis=1)


def widths_of(batch: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, int]:
    """Input name -> its number of columns, in order."""
    return {name: batch[name].shape[1] for name in names}


def by_input(values: np.ndarray, widths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Input name -> its columns of (..., columns)."""
    ends = np.cumsum(list(widths.values()))
    return {
        name: values[..., end - width : end] for (name, width), end in zip(widths.items(), ends.tolist(), strict=True)
    }


def linear_contributions(
    u: Floats, weight: Floats, bias: Floats, widths: Mapping[str, int], summed: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """Scores u weight^T + bias taken apart by column; exact, because they are linear.

    Args:
        u: (n, columns).
        weight: (K, columns).
        bias: (K,).
        widths: columns of each input in u, in order.
        summed: inputs that stay in one piece.

    Returns:
        input name -> (n, K, columns), (n, K, 1) of those in one piece; ``bias`` -> (n, K, 1).
    """
    contributions = {"bias": np.broadcast_to(bias[None, :, None], (len(u), len(bias), 1))}
    columns, weights, whole = by_input(u, widths), by_input(weight, widths), set(summed)
    for name in widths:
        parts = columns[name][:, None, :] * weights[name][None, :, :]
        contributions[name] = parts.sum(axis=2, keepdims=True) if name in whole else parts
    return contributions


def by_member(columns: np.ndarray, n_classes: int) -> Floats:
    """(n, M, K) log-probabilities of (n, M K), one member after the other."""
    return np.asarray(columns, dtype=np.float64).reshape(len(columns), columns.shape[1] // n_classes, n_classes)


def member_contributions(answers: Floats, weights: Floats) -> Floats:
    """(n, K, M K) what each member's answer for a class adds to that class's score.

    Args:
        answers: (n, M, K).
        weights: (M,) by which they are summed.
    """
    n, members, classes = answers.shape
    parts = np.zeros((n, classes, members, classes))
    for k in range(classes):
        parts[:, k, :, k] = weights * answers[:, :, k]
    return parts.reshape(n, classes, members * classes)


def refuse_hidden(block: float, every: float) -> None:
    """Refuse, with :class:`ConfigError`, shares of hidden attributes that leave nothing of the cases as they are."""
    if min(block, every) < 0 or block + every >= 1:
        found = f"hidden_block = {block}, hidden = {every}"
        raise ConfigError(found, "shares that leave something of the cases as they are", "lower one of them")
