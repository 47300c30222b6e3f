"""Tables of estimators: named inputs side by side in one matrix, and linear scores taken apart by input again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from skinkit.stats.metrics import Floats


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
