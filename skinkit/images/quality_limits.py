"""Limits of the quality checks from photos that people accepted.

Every limit is put at the same tail share of the accepted photos, the largest at which at most a stated share of them is
refused by any check, in each Fitzpatrick group with enough photos; a limit is the loosest of the groups'. So no group
pays for another's limits. Rejected photos do not move a limit; they say what it catches.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.errors import InputError
from skinkit.images.quality_checks import FAIL, Table, judge

Measured = Mapping[str, float | None]
TARGET = 0.05
"""Share of accepted photos that may be refused, in every group that is large enough."""
FEWEST = 50
"""Accepted photos of a group without which it sets no limit, and nothing is claimed of it."""
_LIMITS = (
    ("focus", "fail_below", "focus"), ("motion", "fail_below", "motion"), ("exposure", "fail_below", "exposure"),
    ("exposure", "fail_above", "exposure"), ("clipping", "fail_above", "clipping"), ("glare", "fail_above", "glare"),
    ("cast", "fail_above", "cast"), ("resolution", "fail_below", "resolution"),
    ("resolution", "region_fail_below", "region_px"), ("framing", "fail_below", "framing"),
    ("framing", "fail_above", "framing"), ("framing", "contact_above", "contact"),
    ("compression", "fail_above", "compression"),
)  # fmt: skip
_STEPS = 12


def group_of(fitzpatrick: str | None) -> str:
    """``I-II``, ``III-IV``, ``V-VI`` or ``unknown``."""
    return {"1": "I-II", "2": "I-II", "3": "III-IV", "4": "III-IV", "5": "V-VI", "6": "V-VI"}.get(
        fitzpatrick or "", "unknown"
    )


def calibrated(
    accepted: Sequence[Measured], types: Sequence[str | None], table: Table, target: float = TARGET
) -> dict[str, Any]:
    """A table whose limits refuse at most this share of the accepted photos of every group that is large enough.

    Args:
        accepted: what ``quality_checks.measure`` answered of each.
        types: Fitzpatrick type of each, ``1`` to ``6`` or None.
        table: the constants that stay.
        target: share that may be refused.

    Raises:
        InputError: no group has enough accepted photos.
    """
    groups: dict[str, list[int]] = {}
    for place, skin in enumerate(types):
        groups.setdefault(group_of(skin), []).append(place)
    large = [places for places in groups.values() if len(places) >= FEWEST]
    if not large:
        raise InputError(
            f"{len(accepted)} accepted photos, fewer than {FEWEST} of every Fitzpatrick group",
            f"at least {FEWEST} accepted photos of one group",
            "calibrate on more photos, or use the constants as they are",
        )
    reference = [float(np.median([one[key] for one in accepted])) for key in ("cast_a", "cast_b")]
    moved = [recast(one, reference) for one in accepted]
    low, high = 0.0, target
    for _ in range(_STEPS):
        middle = (low + high) / 2
        found = _at(middle, moved, large, table, reference)
        refused = [np.mean([judge(moved[at], found, types[at]).verdict == FAIL for at in of]) for of in large]
        low, high = (middle, high) if max(refused) <= target else (low, middle)
    return _at(low, moved, large, table, reference)


def recast(measured: Measured, reference: Sequence[float]) -> dict[str, float | None]:
    """What was measured, with the colour cast from another reference."""
    a, b = measured["cast_a"], measured["cast_b"]
    cast = None if a is None or b is None else float(np.hypot(a - reference[0], b - reference[1]))
    return {**measured, "cast": cast}


def _at(
    tail: float, measured: Sequence[Measured], groups: Sequence[Sequence[int]], table: Table, reference: Sequence[float]
) -> dict[str, Any]:
    """The table with each limit at this tail share of the photos."""
    out: dict[str, Any] = copy.deepcopy(dict(table))
    out["cast"]["reference"] = list(reference)

    def limit(name: str, share: float, *, below: bool) -> float | None:
        values = [np.array([v for at in of if (v := measured[at][name]) is not None]) for of in groups]
        # A limit that a photo touches does not refuse it: the neighbouring value on the outer side.
        how: Any = "lower" if below else "higher"
        found = [_quantile(of, share if below else 1 - share, how) for of in values if len(of) >= FEWEST]
        return None if not found else min(found) if below else max(found)

    for check, key, name in _LIMITS:
        value = limit(name, tail, below="below" in key)
        if value is not None:
            out[check][key] = value
    for check, key, below in (("focus", "warn_below", True), ("hair", "warn_above", False)):
        value = limit(check, TARGET if check == "hair" else max(2 * tail, TARGET), below=below)
        if value is not None:
            out[check][key] = value
    return out


def _quantile(values: npt.NDArray[np.float64], share: float, how: Any) -> float:
    return float(np.quantile(values, share, method=how))
