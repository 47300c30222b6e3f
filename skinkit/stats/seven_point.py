"""The seven-point checklist: the score that seven criteria add up to, and the rule that it suggests.

With s_c the points of criterion c (2 for an atypical pigment network, a blue-whitish veil and irregular vascular
structures; 1 for the four others) and p_c the probability that it is there,

    score         = sum of s_c over the criteria whose most probable class carries points
    P(score >= k) = the convolution of the seven (1 - p_c, p_c at s_c)     criteria independent of one another

A score of 3 or more suggests melanoma; 1 or more is the sensitive version of the rule.

Sources: G. Argenziano et al., Archives of Dermatology 134, 1998 (score and 3); G. Argenziano et al., British Journal of
Dermatology 164, 2011 (1). That criteria are independent is ours: it holds for no lesion exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from skinkit.stats.metrics import Floats
from skinkit.taxonomy import POINTS

RULES = (1, 3)
"""Scores from which on the rule suggests melanoma: the sensitive version, and the usual one."""
SCORE = "checklist_score"
CHANCES = {rule: f"checklist_p_from_{rule}" for rule in RULES}


def answers_all(tasks: Collection[str]) -> bool:
    """Whether all seven criteria are among the tasks."""
    return POINTS.keys() <= set(tasks)


def checklist(probability: Mapping[str, Floats], classes: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """The columns of one case: :data:`SCORE` and :data:`CHANCES`.

    Args:
        probability: criterion -> (classes,).
        classes: criterion -> its codes in order.
    """
    score, chances = 0, np.ones(1)
    for criterion, (code, points) in POINTS.items():
        place = list(classes[criterion]).index(code)
        score += points * (int(np.argmax(probability[criterion])) == place)
        p = float(probability[criterion][place])
        spread = np.zeros(points + 1)
        spread[0], spread[points] = 1 - p, p
        chances = np.convolve(chances, spread)
    return {SCORE: float(score), **{name: float(chances[rule:].sum()) for rule, name in CHANCES.items()}}
