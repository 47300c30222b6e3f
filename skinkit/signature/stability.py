"""How stable a signature is: chosen again on other rows, how often is each feature in it, how alike are the choices?

Over M choices among d features, with z_if = 1 where choice i holds feature f, p_f = mean_i z_if, k_i = sum_f z_if and
k = mean_i k_i:

    (1) stability = 1 - (mean_f M/(M-1) p_f (1 - p_f)) / (k/d (1 - k/d))
    (2) v_i = (mean_f z_if p_f - k_i k/d^2 + stability/2 (2 k_i k/d^2 - k_i/d - k/d + 1)) / (k/d (1 - k/d))
    (3) variance = 4/M^2 sum_i (v_i - mean_i v_i)^2

1 is the same choice every time, 0 is what drawing k features by lot gives; it can be a little below. 0.75 and more is
called excellent, below 0.4 poor.

Source: Nogueira, Sechidis & Brown, "On the stability of feature selection algorithms", JMLR 18(174), 2018: definition 4
and theorem 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skinkit.console import Console
from skinkit.signature.selection import Bools, SignatureRule, Strings, choose
from skinkit.stats.distributions import normal_quantile
from skinkit.stats.metrics import Floats


@dataclass(frozen=True)
class Stability:
    """Stability of some choices.

    Attributes:
        estimate: eq. 1; NaN where every choice, or none, holds everything, or there are fewer than two.
        lower: of the 95 % interval, from eq. 3 and the normal distribution.
        upper: of the same.
        jaccard: mean over pairs of choices of |A and B| / |A or B|.
        choices: M.
    """

    estimate: float
    lower: float
    upper: float
    jaccard: float
    choices: int


def stability(z: npt.ArrayLike) -> Stability:
    """Eqs. 1 to 3.

    Args:
        z: (M, d), true where a choice holds a feature.
    """
    held = np.asarray(z, dtype=np.float64)
    m, d = held.shape
    nothing = float("nan")
    share = held.sum() / held.size if held.size else 0.0  # k/d
    spread = share * (1 - share)
    if m < 2 or spread == 0:
        return Stability(nothing, nothing, nothing, nothing, m)
    p, k = held.mean(axis=0), held.sum(axis=1)
    estimate = 1 - float(np.mean(m / (m - 1) * p * (1 - p))) / spread  # eq. 1
    v = (held @ p / d - k / d * share + estimate / 2 * (2 * k / d * share - k / d - share + 1)) / spread  # eq. 2
    reach = normal_quantile(0.975) * float(np.sqrt(4 / m**2 * ((v - v.mean()) ** 2).sum()))  # eq. 3
    return Stability(estimate, estimate - reach, min(estimate + reach, 1.0), _jaccard(held), m)


def _jaccard(held: Floats) -> float:
    both = held @ held.T
    sizes = np.diag(both)
    either = sizes[:, None] + sizes[None] - both
    pairs = np.triu_indices(len(held), 1)
    return float(np.mean(np.divide(both, either, out=np.ones_like(both), where=either > 0)[pairs]))


def drawn_again(
    x: npt.ArrayLike,
    labels: Strings,
    cluster: Strings,
    features: Sequence[str],
    rule: SignatureRule,
    *,
    bootstrap: int = 100,
    seed: int = 0,
    console: Console | None = None,
    label: str = "choosing again",
) -> Bools:
    """Choose the signature again and again on as many patients as there are, drawn with replacement.

    Args:
        x: (n, features).
        labels: (n,).
        cluster: (n,) patient of each row; the rows of a patient are drawn together.
        features: names.
        rule: as for the signature.
        bootstrap: how often.
        seed: of the draws.
        console: shows progress.
        label: what it is called.

    Returns:
        (bootstrap, features) bool, true where a choice holds a feature.
    """
    x = np.asarray(x, dtype=np.float64)
    order = np.argsort(cluster, kind="stable")
    rows_of = np.split(order, np.unique(cluster[order], return_index=True)[1][1:])
    generator = np.random.default_rng(seed)
    held = np.zeros((bootstrap, x.shape[1]), dtype=bool)
    with (console or Console(quiet=True)).progress(bootstrap, label) as tick:
        for again in held:
            drawn = [rows_of[i] for i in generator.integers(len(rows_of), size=len(rows_of))]
            rows = np.concatenate(drawn)
            patient = np.repeat(np.arange(len(drawn)), [len(of) for of in drawn])  # drawn twice, it counts as two
            again[choose(x[rows], labels[rows], patient, features, rule).kept] = True
            tick()
    return held
