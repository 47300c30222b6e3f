"""Drift from development to external cohorts: the drop of a model's metrics, and the shift of its inputs.

* :func:`drop`: the difference of a metric between two cohorts. The cohorts are independent samples, so the
  interval is that of two independent groups of patients.
* :func:`reweighted`: the internal cases weighted to the external class mix. The drop that
  remains is not explained by a different mix of diagnoses.
* :func:`inputs`: each column of two tables side by side: standardised difference and population stability index of all
  photos, and a test on one photo a patient with Holm's correction.
* :func:`domain`: how well a regression on the inputs separates the cohorts, out of fold (AUROC 0.5: not at all).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifacts.files import json_values
from skinkit.schemas import OK, PAD_ATTRIBUTES
from skinkit.stats.cross_fit import areas, fold_of, holm, out_of_fold
from skinkit.stats.encoders import radiomic_columns
from skinkit.stats.intervals import LeaveOut, independent_difference, patients_of
from skinkit.stats.metrics import SIGNIFICANT, Bools, Floats, Ranking
from skinkit.stats.novelty import FEWEST, MOST_ROWS

LARGE_SMD = 0.5
"""Standardised difference from which a shift is reported (Cohen's medium effect)."""
LARGE_PSI = 0.25
"""Population stability index conventionally called a large shift."""
_BINS = 10
_EXACT = 200  # patients up to whom the Kolmogorov-Smirnov test is exact

Measure = Callable[[Floats], Floats]
"""Weights of the cases (replicates, n) -> the metric of each replicate."""


@dataclass(frozen=True)
class ScoredCohort:
    """Scored cases of one cohort.

    Attributes:
        malignancy: (n,) the model's malignancy.
        malignant: (n,) the truth.
        called: (n,) called malignant.
        label: (n,) true class.
        cluster: (n,) patient.
    """

    malignancy: Floats
    malignant: Bools
    called: Bools
    label: npt.NDArray[np.str_]
    cluster: npt.NDArray[np.str_]

    @staticmethod
    def of(scored: pd.DataFrame, malignant: Sequence[str]) -> ScoredCohort:
        """From ``scored.parquet`` of a metrics artifact (rows of level image)."""
        rows = scored[scored["level"] == "image"]
        label = rows["class"].to_numpy(dtype=str)
        return ScoredCohort(
            malignancy=rows["malignancy"].to_numpy(dtype=np.float64),
            malignant=np.isin(label, list(malignant)),
            called=(rows["call"] == "malignant").to_numpy(dtype=bool),
            label=label,
            cluster=rows["group_id"].to_numpy(dtype=str),
        )

    def measures(self) -> dict[str, Measure]:
        """AUROC, sensitivity and specificity of malignancy under weights."""
        ranking = Ranking(self.malignancy, self.malignant)
        return {
            "auroc": lambda weights: ranking.areas(weights)[0],
            "sensitivity": lambda weights: _share(weights, self.malignant, self.called),
            "specificity": lambda weights: _share(weights, ~self.malignant, ~self.called),
        }

    def patients(self, metric: str) -> int:
        """Patients behind a metric, of the rarer side for the AUROC."""
        sides = {"sensitivity": (self.malignant,), "specificity": (~self.malignant,)}
        return patients_of(self.cluster, *sides.get(metric, (self.malignant, ~self.malignant)))


def _share(weights: Floats, of: Bools, hit: Bools) -> Floats:
    total = weights[:, of].sum(axis=1)
    out: Floats = np.full(len(weights), np.nan)
    np.divide(weights[:, of & hit].sum(axis=1), total, out=out, where=total > 0)
    return out


# ----------------------------------------------------------------------------------------------------- the drop
def drop(inside: ScoredCohort, outside: ScoredCohort, *, seed: int = 0) -> list[dict[str, Any]]:
    """The drop of each metric from the development to the external cohort, unweighted and weighted to its class mix.

    Returns:
        Rows of metric, adjusted (whether the class mix was), inside, outside, difference (inside - outside), lower,
        upper, n_inside, n_outside.
    """
    mix = reweighted(inside.label, outside.label)
    rows = []
    out = _left_out(outside, np.ones(len(outside.label)), seed)
    for adjusted, weights in ((False, np.ones(len(inside.label))), (True, mix)):
        if weights is None:
            continue
        own = _left_out(inside, weights, seed)
        for metric in own:
            (a, a_left_out), (b, b_left_out) = own[metric], out[metric]
            patients = min(side.patients(metric) for side in (inside, outside))
            lower, upper, _ = independent_difference(a, a_left_out, b, b_left_out, patients)
            rows.append(
                {
                    "metric": metric,
                    "adjusted": adjusted,
                    "inside": a,
                    "outside": b,
                    "difference": a - b,
                    "lower": lower,
                    "upper": upper,
                    "n_inside": int((weights > 0).sum()),
                    "n_outside": len(outside.label),
                }
            )
    return rows


def _left_out(side: ScoredCohort, mix: Floats, seed: int) -> dict[str, tuple[float, Floats]]:
    """Each metric's estimate and its values without each patient, of cases weighted to a class mix."""
    measures = side.measures()
    parts: dict[str, list[Floats]] = {name: [] for name in measures}
    for weights in LeaveOut(side.cluster, seed).weights(side.cluster):
        for name, measure in measures.items():
            parts[name].append(measure(weights * mix))
    return {
        name: (float(measure(mix[None, :])[0]), np.concatenate(parts[name]) if parts[name] else np.zeros(0))
        for name, measure in measures.items()
    }


def reweighted(inside: npt.NDArray[np.str_], outside: npt.NDArray[np.str_]) -> Floats | None:
    """Weights that give the development cases the external class mix; None if an external class is absent there.

    A class without external cases gets weight 0.
    """
    share_in = {name: float((inside == name).mean()) for name in np.unique(inside)}
    share_out = {name: float((outside == name).mean()) for name in np.unique(outside)}
    if set(share_out) - set(share_in):
        return None
    return np.array([share_out.get(name, 0.0) / share_in[name] for name in inside])


# --------------------------------------------------------------------------------------------------- the inputs
def inputs(inside: pd.DataFrame, outside: pd.DataFrame, columns: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """The shift of each column between the two tables, largest first.

    Numbers get the standardised difference ((outside - inside) / pooled SD), PSI over the inside's deciles and the
    Kolmogorov-Smirnov test; other columns PSI over their values (including unknown) and a chi-squared test. Photos of a
    patient are alike, so both tests see one photo of each patient, drawn by lot among those where the column is known.

    Args:
        inside: with ``group_id`` and the columns.
        outside: the same.
        columns: those in both are compared.
        seed: of the draw.

    Returns:
        Rows of column, kind (number, category), smd, psi, p, p_holm, missing_inside, missing_outside, shifted.
    """
    sides = [side.sample(frac=1, random_state=seed).set_index("group_id") for side in (inside, outside)]
    rows = [_column(name, *(side[name] for side in sides)) for name in columns if all(name in side for side in sides)]
    frame = pd.DataFrame(
        [row for row in rows if row],
        columns=["column", "kind", "smd", "psi", "p", "missing_inside", "missing_outside"],
    )
    frame["p_holm"] = holm(frame["p"].to_numpy(dtype=float))
    large = (frame["smd"].abs() >= LARGE_SMD) | (frame["psi"] >= LARGE_PSI)
    frame["shifted"] = (frame["p_holm"] < SIGNIFICANT) & large
    return frame.sort_values("psi", ascending=False, kind="stable").reset_index(drop=True)


def recorded_in_both(columns: Iterable[str], inside: pd.DataFrame, outside: pd.DataFrame) -> list[str]:
    """Those of the columns that have a value in both tables."""
    return [name for name in columns if all(name in side and side[name].notna().any() for side in (inside, outside))]


def _column(name: str, inside: pd.Series, outside: pd.Series) -> dict[str, Any] | None:
    """One row of :func:`inputs`, or None with too few values; either index is the patient, in random order."""
    from scipy import stats

    missing = {"missing_inside": float(inside.isna().mean()), "missing_outside": float(outside.isna().mean())}
    if pd.api.types.is_numeric_dtype(inside) and pd.api.types.is_numeric_dtype(outside):
        a, b = (side.dropna().to_numpy(dtype=np.float64) for side in (inside, outside))
        if min(len(a), len(b)) < FEWEST:
            return None
        spread = float(np.sqrt((a.var() + b.var()) / 2))
        edges = np.unique(np.quantile(a, np.linspace(0, 1, _BINS + 1)[1:-1]))
        shares = [np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1) for side in (a, b)]
        smd = float((b.mean() - a.mean()) / spread) if spread > 0 else 0.0
        own, other = (_first_of_each(side.dropna()).to_numpy(dtype=np.float64) for side in (inside, outside))
        p = float(stats.ks_2samp(own, other, method="asymp" if max(len(own), len(other)) > _EXACT else "exact").pvalue)
        return {"column": name, "kind": "number", "smd": smd, "psi": _psi(*shares), "p": p, **missing}
    texts = [side.astype(object).where(side.notna(), "").astype(str) for side in (inside, outside)]
    if min(map(len, texts)) < FEWEST or not (texts[0].ne("").any() and texts[1].ne("").any()):
        return None
    levels = sorted(set(texts[0]) | set(texts[1]))
    counts, drawn = ([_tally(side, levels) for side in of] for of in (texts, map(_first_of_each, texts)))
    seen = np.array(drawn)
    seen = seen[:, seen.sum(axis=0) > 0]
    p = float(stats.chi2_contingency(seen).pvalue) if seen.shape[1] > 1 else 1.0
    return {"column": name, "kind": "category", "smd": float("nan"), "psi": _psi(*counts), "p": p, **missing}


def _first_of_each(column: pd.Series) -> pd.Series:
    return column[~column.index.duplicated()]


def _tally(column: pd.Series, levels: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.array([int((column == level).sum()) for level in levels])


def _psi(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float:
    """Population stability index: the sum of (q - p) ln(q / p) over bins, half a case added to each."""
    p, q = (a + 0.5) / (a + 0.5).sum(), (b + 0.5) / (b + 0.5).sum()
    return float(((q - p) * np.log(q / p)).sum())


def domain(inside: pd.DataFrame, outside: pd.DataFrame, columns: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """How well the inputs separate the cohorts: out-of-fold AUROC of a small regression, patients kept together.

    Args:
        inside: with ``group_id`` and the columns.
        outside: the same.
        columns: numeric ones are standardised, with the mean for unknown values; others are one-hot encoded.
        seed: of sampling and folds; each table is sampled down to 3,000 rows.

    Returns:
        auroc, lower, upper, n_inside, n_outside, n_columns; auroc is None with too few patients or columns.
    """
    parts = [
        side if len(side) <= MOST_ROWS else side.sample(MOST_ROWS, random_state=seed) for side in (inside, outside)
    ]
    both = pd.concat(parts, ignore_index=True)
    is_outside = np.r_[np.zeros(len(parts[0]), bool), np.ones(len(parts[1]), bool)]
    # The same id in two cohorts counts as two patients here; overlap is checked by ``audit.leakage``.
    cluster = np.char.add(np.where(is_outside, "outside ", "inside "), both["group_id"].to_numpy(dtype=str))
    x = _encoded(both, [name for name in columns if name in both])
    fold = fold_of(is_outside, cluster, seed=seed)
    score = out_of_fold(x, is_outside, fold)
    area = areas([score], is_outside, cluster, seed=seed)[0]
    numbers = {name: getattr(area, name) for name in ("auroc", "lower", "upper")}
    return {
        **{name: None if np.isnan(value) else float(value) for name, value in numbers.items()},
        "n_inside": len(parts[0]),
        "n_outside": len(parts[1]),
        "n_columns": x.shape[1],
    }


def _encoded(table: pd.DataFrame, columns: Sequence[str]) -> Floats:
    encoded: list[Floats] = []
    for name in columns:
        column = table[name]
        if pd.api.types.is_numeric_dtype(column):
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            if np.isfinite(values).any():
                low, high = np.nanquantile(values, [0.01, 0.99])  # robust to outliers
                encoded.append(np.where(np.isfinite(values), np.clip(values, low, high), np.nanmean(values)))
            continue
        text = column.astype(object).where(column.notna(), "").astype(str)
        encoded += [(text == level).to_numpy(dtype=np.float64) for level in sorted(text.unique())[1:20]]
    return np.column_stack(encoded) if encoded else np.zeros((len(table), 0))


# ---------------------------------------------------------------------------------------------------- all of it
ATTRIBUTES = ("age_years", "sex", "site", "modality", *(column.name for column in PAD_ATTRIBUTES))


def compare(
    scored: tuple[pd.DataFrame, pd.DataFrame] | None,
    fused: tuple[pd.DataFrame, pd.DataFrame] | None,
    malignant: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare an external cohort (second) with the development cohorts (first).

    Args:
        scored: the two ``scored.parquet``, where both were scored.
        fused: the two fused tables, where both exist.
        malignant: malignant classes.
        seed: of all random draws.

    Returns:
        ``drop`` (rows), ``inputs`` (rows), ``domain`` (mapping or None), ``text``; plain values, None where unknown.
    """
    parts: dict[str, Any] = {"drop": [], "inputs": [], "domain": None}
    if scored is not None:
        sides = [ScoredCohort.of(table, malignant) for table in scored]
        if all(len(side.label) for side in sides):
            parts["drop"] = drop(*sides, seed=seed)
    if fused is not None:
        inside, outside = (table[table["status"] == OK] for table in fused)
        columns = recorded_in_both((*ATTRIBUTES, *radiomic_columns(inside.columns)), inside, outside)
        rows = inputs(inside, outside, columns, seed=seed)
        parts["inputs"] = rows.to_dict("records")
        parts["domain"] = domain(inside, outside, columns, seed=seed)
    plain = {name: json_values(value) for name, value in parts.items()}
    return {**plain, "text": summary(plain)}


def summary(parts: Mapping[str, Any]) -> str:
    """The comparison in plain English, from the parts of :func:`compare`."""
    sentences = [_fall(row) for row in parts["drop"] if row["metric"] == "auroc" and row["difference"] is not None]
    if parts["domain"] is not None and parts["domain"]["auroc"] is not None:
        sentences.append(f"the inputs alone tell the cohorts apart with AUROC {parts['domain']['auroc']:.2f}")
    if parts["inputs"]:
        shifted = [row["column"] for row in parts["inputs"] if row["shifted"]]
        named = f", first of all {', '.join(shifted[:3])}" if shifted else ""
        sentences.append(f"{len(shifted)} of {len(parts['inputs'])} inputs shifted{named}")
    return "; ".join(sentences) or "nothing to compare"


def _fall(row: Mapping[str, Any]) -> str:
    how = "weighted to the mix of diagnoses outside" if row["adjusted"] else "as it is"
    ends = "" if row["lower"] is None else f" (95 % interval of the fall {row['lower']:.3f} to {row['upper']:.3f})"
    return f"AUROC {row['inside']:.3f} inside, {row['outside']:.3f} outside, {how}{ends}"
