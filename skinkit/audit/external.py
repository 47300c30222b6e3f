"""Whether anything tells an external cohort from the development cohorts.

A cohort is external because ``skinkit.toml`` says so. Where it is a part of the same collection under another name,
its figures are internal. Two kinds of evidence can tell the cohorts apart: columns of origin (centre, device, kind of
photo), and the inputs themselves (attributes, image sizes and, where these do not, radiomic features), by the domain
classifier of :mod:`skinkit.audit.drift`. How files and patients are named is said beside it but proves nothing: a copy
is easily renamed. Copies, shared patients and shared lesions are refused by the leakage guard.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from skinkit.audit import drift
from skinkit.audit.shortcuts import ORIGINS
from skinkit.stats.encoders import radiomic_columns

APART = 0.65
"""AUROC of the domain classifier from which the inputs tell the cohorts apart, where its interval lies above 0.5."""
OTHER_ORIGIN = 0.5
"""Total variation distance of a column of origin from which it tells the cohorts apart."""
_SIZES = ("width_px", "height_px")
_NAMES = {"image_path": "file names", "patient_id": "patient ids"}
_INSIDE = 0.9


def compared(
    inside: pd.DataFrame,
    outside: pd.DataFrame,
    measured: tuple[pd.DataFrame, pd.DataFrame] | None = None,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """What tells the cohorts apart, and what does not.

    Args:
        inside: usable cases of the development cohorts.
        outside: usable cases of the external cohort.
        measured: the fused tables of both, where there are any.
        seed: of the domain classifier.

    Returns:
        questioned (nothing tells them apart), apart and same (sentences), auroc of the domain classifier, text.
    """
    apart: list[str] = []
    same: list[str] = []
    for name in ORIGINS:
        if name != "cohort" and name in inside and name in outside:
            distance = _distance(inside[name], outside[name])
            if distance is not None:
                values = ", ".join(sorted(outside[name].dropna().astype(str).unique())[:3])
                (apart if distance >= OTHER_ORIGIN else same).append(f"{name} ({values})")
    columns = drift.recorded_in_both((*drift.ATTRIBUTES, *_SIZES), inside, outside)
    domain = drift.domain(inside, outside, columns, seed=seed) if columns else None
    if not apart and not _separates(domain) and measured is not None:
        features = drift.recorded_in_both(radiomic_columns(map(str, measured[0])), *measured)
        of_features = drift.domain(*measured, features, seed=seed) if features else None
        if domain is None or _separates(of_features):
            domain = of_features
    if domain is not None and domain["auroc"] is not None:
        ends = f" ({domain['lower']:.2f} to {domain['upper']:.2f})" if domain["lower"] is not None else ""
        said = f"{domain['n_columns']} inputs, AUROC {domain['auroc']:.2f}{ends}"
        (apart if _separates(domain) else same).append(said)
    named = [said for name, what in _NAMES.items() if (said := _named_alike(inside, outside, name, what))]
    return {
        "questioned": not apart,
        "apart": apart,
        "same": [*same, *named],
        "auroc": None if domain is None else domain["auroc"],
        "text": _text(apart, [*same, *named], len(outside)),
    }


def _text(apart: list[str], same: list[str], n: int) -> str:
    if apart:
        return f"external; it differs from development in {'; '.join(apart)}"
    alike = f"the same: {'; '.join(same)}" if same else "no input or column of origin is recorded in both"
    return (
        f"external, but nothing distinguishes it from development ({n} cases): {alike}. If both come from one "
        "collection, these figures are internal: say where and when the photos of each were taken"
    )


def _separates(domain: Mapping[str, Any] | None) -> bool:
    if domain is None or domain["auroc"] is None or domain["lower"] is None:
        return False
    return bool(domain["auroc"] >= APART and domain["lower"] > 0.5)


def _distance(inside: pd.Series, outside: pd.Series) -> float | None:
    """Total variation distance of the values; None where one side has none."""
    shares = [side.dropna().astype(str).value_counts(normalize=True) for side in (inside, outside)]
    if not all(len(share) for share in shares):
        return None
    levels = sorted({*shares[0].index, *shares[1].index})
    a, b = (share.reindex(levels, fill_value=0.0).to_numpy(dtype=float) for share in shares)
    return float(np.abs(a - b).sum() / 2)


def _named_alike(inside: pd.DataFrame, outside: pd.DataFrame, column: str, what: str) -> str:
    """What the names have in common: their form, and whether their numbers interleave; empty where nothing."""
    if column not in inside or column not in outside:
        return ""
    names = [[PurePosixPath(str(value)).name for value in side[column].dropna()] for side in (inside, outside)]
    if not all(names):
        return ""
    forms = [pd.Series([re.sub(r"\d+", "9", name) for name in of]).mode().iloc[0] for of in names]
    if forms[0] != forms[1]:
        return ""
    numbers = [[int(found[-1][:15]) for name in of if (found := re.findall(r"\d+", name))] for of in names]
    within = ""
    if all(numbers):
        low, high = min(numbers[0]), max(numbers[0])
        if np.mean([low <= number <= high for number in numbers[1]]) >= _INSIDE:
            within = ", numbered within the same range"
    return f"form of {what} ({forms[0]}{within})"
