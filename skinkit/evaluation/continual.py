"""A model trained through a sequence of cohorts: what it gains, keeps and forgets.

With R_sd the score on cohort d after step s (of S steps, step d being that on cohort d itself):

    (1) average             mean over d of R_Sd
    (2) forgetting of d     max over s < S of R_sd - R_Sd         of every cohort but the last
    (3) backward transfer   mean over d < S of R_Sd - R_dd

Sources: D. Lopez-Paz and M. Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017 (average, backward
transfer); A. Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018 (forgetting).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skinkit.stats.metrics import Floats


def continual_metrics(scores: Floats, cohorts: Sequence[str]) -> dict[str, Any]:
    """Eqs. 1 to 3.

    Args:
        scores: (steps, cohorts) R; NaN where a cohort was not scored.
        cohorts: in the order in which they are learnt.

    Returns:
        ``average``, ``backward_transfer``, ``forgetting`` (cohort -> value) and its mean ``mean_forgetting``; NaN where
        there is a single step.
    """
    last = scores[-1]
    n = len(cohorts)
    forgetting = {name: float(scores[:-1, d].max() - last[d]) for d, name in enumerate(cohorts[:-1])}
    transfer = [last[d] - scores[d, d] for d in range(n - 1)]
    return {
        "average": float(np.mean(last)),
        "forgetting": forgetting,
        "mean_forgetting": float(np.mean(list(forgetting.values()))) if forgetting else float("nan"),
        "backward_transfer": float(np.mean(transfer)) if transfer else float("nan"),
    }
