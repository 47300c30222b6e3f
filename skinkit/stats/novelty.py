"""How unlike the training rows a case is, as a percentile of the validation rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from skinkit.artifacts.files import write_atomic
from skinkit.artifacts.tensors import load_tensors
from skinkit.stats.metrics import Floats

MOST_ROWS = 3000
"""Largest number of rows used per side; a larger side is sampled."""
FEWEST = 20


# ------------------------------------------------------------------------------------------------ unlike training
@dataclass(frozen=True)
class Novelty:
    """How unlike the training rows a case is: Mahalanobis distance under probabilistic PCA of the training rows.

    The leading directions are weighted by their variance, everything outside of them by the mean variance left, so a
    case counts as unlike whether it is extreme in a known direction or leaves them. It holds no training row.

    Equations:
        d^2(x) = sum_k ((x - m) . u_k)^2 / l_k + |r|^2 / s^2,   r = the part of x - m outside of the u_k
        percentile(x) = share of the validation rows with a smaller d

    Source: Tipping & Bishop, J. R. Stat. Soc. B 1999 (the covariance); Lee et al., NeurIPS 2018 (the use).

    Attributes:
        mean: (p,).
        scale: (p,) standard deviation by which columns are divided first; 0 for constant columns, which are left out.
        directions: (k, p) unit vectors.
        variances: (k,) along them.
        rest: mean variance in every other direction; 0 where there is none.
        reference: (101,) quantiles 0, 1 ... 100 % of the distances of validation rows.
    """

    mean: Floats
    scale: Floats
    directions: Floats
    variances: Floats
    rest: float
    reference: Floats

    @staticmethod
    def fit(train: npt.ArrayLike, validation: npt.ArrayLike, *, most_directions: int = 32) -> Novelty | None:
        """From training rows, referred to validation rows; None where either has fewer than 20 rows.

        Args:
            train: (n, p), unknown values filled in.
            validation: (m, p) rows the training did not see.
            most_directions: kept at most, and at most a third of the training rows.
        """
        x, held = np.asarray(train, dtype=np.float64), np.asarray(validation, dtype=np.float64)
        if min(len(x), len(held)) < FEWEST or not x.shape[1]:
            return None
        if len(x) > MOST_ROWS:
            x = x[np.sort(np.random.default_rng(0).choice(len(x), MOST_ROWS, replace=False))]
        mean, scale = x.mean(axis=0), x.std(axis=0)
        z = np.divide(x - mean, scale, out=np.zeros_like(x), where=scale > 0)
        variances, directions = _principal(z)
        kept = int(min(most_directions, len(x) // 3, (variances > 1e-9 * variances.max()).sum()))
        if not kept:
            return None
        left = int((scale > 0).sum()) - kept
        rest = float(max(variances[kept:].sum(), 0.0) / left) if left > 0 else 0.0
        blank = Novelty(mean, scale, directions[:kept], variances[:kept], rest, np.zeros(101))
        reference = np.quantile(blank.distance(held), np.linspace(0, 1, 101))
        return Novelty(mean, scale, directions[:kept], variances[:kept], rest, reference)

    def distance(self, rows: npt.ArrayLike) -> Floats:
        """Distance of each row: (n, p) -> (n,)."""
        x = np.asarray(rows, dtype=np.float64) - self.mean
        z = np.divide(x, self.scale, out=np.zeros_like(x), where=self.scale > 0)
        along = z @ self.directions.T
        squared = (along**2 / self.variances).sum(axis=1)
        if self.rest > 0:
            squared += np.maximum((z**2).sum(axis=1) - (along**2).sum(axis=1), 0.0) / self.rest
        out: Floats = np.sqrt(squared)
        return out

    def percentile(self, rows: npt.ArrayLike) -> Floats:
        """Share of validation rows that are more like training than each row, 0 to 100: (n, p) -> (n,)."""
        share = np.searchsorted(self.reference, self.distance(rows), side="right") - 1
        return np.clip(share, 0, 100).astype(np.float64)

    def save(self, folder: Path) -> None:
        """Write ``novelty.safetensors`` and ``novelty.json``."""
        from safetensors.numpy import save

        arrays = {
            "mean": self.mean, "scale": self.scale, "directions": self.directions, "variances": self.variances,
            "reference": self.reference,
        }  # fmt: skip
        write_atomic(folder / "novelty.safetensors", save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        about = {"rest": self.rest, "columns": len(self.mean), "directions": len(self.directions)}
        write_atomic(folder / "novelty.json", json.dumps(about).encode())

    @staticmethod
    def load(folder: Path) -> Novelty | None:
        """What :meth:`save` wrote, or None where it wrote nothing."""
        if not (folder / "novelty.json").is_file():
            return None
        about = json.loads((folder / "novelty.json").read_text(encoding="utf-8"))
        return Novelty(rest=float(about["rest"]), **load_tensors(folder / "novelty.safetensors"))


def _principal(z: Floats) -> tuple[Floats, Floats]:
    """Variances along the principal directions, largest first, and the directions: (k,) and (k, p)."""
    if z.shape[1] <= len(z):
        spread, directions = np.linalg.svd(z, full_matrices=False)[1:]
        return spread**2 / len(z), directions
    # More columns than rows: the small matrix of products has the same directions.
    values, vectors = np.linalg.eigh(z @ z.T)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    length = np.sqrt(np.maximum(values, 1e-12 * max(float(values[0]), 1e-12)))
    return values / len(z), (vectors.T @ z) / length[:, None]


def as_matrix(batch: Mapping[str, npt.ArrayLike]) -> Floats:
    """A model's named inputs side by side, unknown values as 0 (the training rows' mean): (n, p)."""
    parts = [np.asarray(values, dtype=np.float64) for _, values in sorted(batch.items())]
    return np.nan_to_num(np.hstack([part.reshape(len(part), math.prod(part.shape[1:])) for part in parts]))
