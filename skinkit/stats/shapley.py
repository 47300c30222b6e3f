"""Shapley values in full, by the worth of every coalition.

    (1) phi_j = sum_{S without j} |S|! (p - |S| - 1)! / p!  (v(S + j) - v(S))

Source: L. Shapley, A value for n-person games, 1953.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
import numpy.typing as npt

from skinkit.stats.metrics import Floats


def exact_shapley_values(value: Callable[[npt.NDArray[np.bool_]], Floats], players: int) -> Floats:
    """(players,) eq. 1; they sum to v of all players minus v of none.

    Args:
        value: (2^players, players) who takes part -> (2^players,) what they are worth together.
        players: how many there are, a dozen or so at most.
    """
    coalitions = np.arange(2**players)
    present = (coalitions[:, None] >> np.arange(players) & 1).astype(bool)
    worth, size = value(present), present.sum(axis=1)
    share = [1 / (players * comb(players - 1, k)) for k in range(players)]  # |S|! (p - |S| - 1)! / p!
    out = np.zeros(players)
    for j in range(players):
        without = coalitions[~present[:, j]]
        out[j] = (np.array(share)[size[without]] * (worth[without | 1 << j] - worth[without])).sum()
    return out
