"""The leakage guard: patients, lesions and images that stand on both sides of a line they must not cross.

Two sides are compared as tables with any of the columns ``cohort``, ``case_id``, ``image_id``, ``group_id``,
``patient_id``, ``lesion_id``, ``image_sha256``, ``pixel_sha256`` and ``dhash``; what a side lacks cannot be compared
and is left out of :attr:`Leakage.compared`. Ids of patients and lesions are compared within their id space (the prefix
of ``group_id``, where both sides have one), so two hospitals may both have a patient 17. So are ids of images, where no
patient speaks against it: archives give an image one id in all their releases, in whatever size it comes.

Near-identical images are found by the Hamming distance of their 64-bit difference hashes. Alike photographs of
different patients occur, so they are reported and not refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.errors import RefusedError

REFUSED = {
    "case": "the same case",
    "patient": "the same patient",
    "lesion": "the same lesion",
    "image": "the same image",
    "group": "the same group",
    "file": "an identical file",
    "pixels": "identical pixels",
}
"""Kinds of leakage that are refused, most telling first, in words."""

NEAR = "near_identical"
NEAR_DISTANCE_BITS = 4
"""Difference hashes that differ in at most this many of 64 bits are called near-identical."""

PLAIN_BITS = 8
"""A hash with fewer set, or fewer unset, bits belongs to a picture so even that its neighbours mean nothing."""

PAIR_COLUMNS = ("kind", "cohort", "case_id", "other_cohort", "other_case_id", "shared", "distance_bits")
_SHOWN = 10
_CHUNK_PAIRS = 4_000_000
_GROUP = re.compile(r"(?P<space>.*?):(patient|lesion|image):")
_COLUMNS = {"file": "image_sha256", "pixels": "pixel_sha256", "group": "group_id"}


@dataclass(frozen=True)
class Leakage:
    """What two sides share.

    Attributes:
        pairs: one row per case of the first side and kind, beside the first case of the other side that shares it:
            kind, cohort, case_id, other_cohort, other_case_id, shared, distance_bits.
        counts: kind -> cases of the first side.
        compared: kinds that could be compared, because both sides have what they need.
    """

    pairs: pd.DataFrame
    counts: Mapping[str, int]
    compared: tuple[str, ...]

    @property
    def refused(self) -> pd.DataFrame:
        """The pairs that are refused: all but the near-identical ones."""
        return self.pairs[self.pairs["kind"] != NEAR]

    @property
    def cases(self) -> int:
        """Cases of the first side that leak in any refused way."""
        return len(self.refused[["cohort", "case_id"]].drop_duplicates())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest: the counts, what was compared, and the first pairs."""
        return {
            "cases": self.cases,
            "counts": dict(self.counts),
            "compared": list(self.compared),
            "pairs": [_plain(row) for row in self.pairs.head(100).to_dict("records")],
        }


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def _other_patient(ours: object, theirs: object) -> bool:
    return ours is not None and theirs is not None and ours != theirs


def joined(*parts: Leakage) -> Leakage:
    """Several comparisons as one, for example those of all folds; a case that leaks in two of them counts once."""
    pairs = pd.concat([part.pairs for part in parts], ignore_index=True) if parts else _pairs([])
    pairs = pairs.drop_duplicates(["kind", "cohort", "case_id", "other_cohort", "other_case_id"], ignore_index=True)
    compared = tuple(kind for kind in (*REFUSED, NEAR) if any(kind in part.compared for part in parts))
    return Leakage(pairs, _counts(pairs, compared), compared)


def check(left: pd.DataFrame, right: pd.DataFrame, *, near_distance_bits: int = NEAR_DISTANCE_BITS) -> Leakage:
    """What the rows of one side share with the other side.

    Args:
        left: the side whose cases are listed, for example the scored cohort.
        right: the side it must not share anything with, for example training rows.
        near_distance_bits: largest Hamming distance called near-identical; negative leaves that search out.
    """
    scoped = "group_id" in left and "group_id" in right
    image = "image_id" if "image_id" in left and "image_id" in right else "case_id"
    ours, theirs = _keys(left, scoped, image), _keys(right, scoped, image)
    compared = [kind for kind in REFUSED if ours[kind].notna().any() and theirs[kind].notna().any()]
    rows: list[dict[str, Any]] = []
    told: set[int] = set()
    for kind in compared:
        first = theirs.dropna(subset=[kind]).drop_duplicates(kind).set_index(kind)
        hits = ours[kind].isin(first.index)
        if kind in ("image", "group"):
            # What is shared is told as its patient or lesion where that is known.
            hits &= ~ours.index.isin(told)
        for index, row in ours[hits].iterrows():
            other = first.loc[row[kind]]
            if kind == "image" and _other_patient(row["patient"], other["patient"]):
                continue
            rows.append(_pair(kind, row, other, row[f"{kind}_shown"], None))
            told.add(int(str(index)))
    if near_distance_bits >= 0 and ours["dhash"].notna().any() and theirs["dhash"].notna().any():
        compared.append(NEAR)
        rows += _near(ours, theirs, near_distance_bits)
    pairs = _pairs(rows)
    return Leakage(pairs, _counts(pairs, compared), tuple(compared))


def refuse(leakage: Leakage, allow: str, what: str, fix: str = "") -> None:
    """Refuse what leaks, unless a reason was given.

    Args:
        leakage: what was found.
        allow: the reason of ``--allow-leakage``, or empty.
        what: the two sides, for example ``"jinan and the training rows of frozen_probe"``.
        fix: what to do instead; by default to remove the cases.

    Raises:
        RefusedError: something is shared and no reason was given; the first pairs are listed.
    """
    pairs = leakage.refused
    if not len(pairs) or allow.strip():
        return
    kinds = ", ".join(f"{REFUSED[kind]} {n}" for kind, n in leakage.counts.items() if n and kind in REFUSED)
    # The most telling pair of each case is enough to find it.
    shown = pairs.drop_duplicates(["cohort", "case_id"])
    listing = [
        f"{_name(row.cohort, row.case_id)} and {_name(row.other_cohort, row.other_case_id)} "
        f"({REFUSED[str(row.kind)].removeprefix('the same ').removeprefix('an ')} {row.shared})"
        for row in shown.head(_SHOWN).itertuples()
    ]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    raise RefusedError(
        f"{what} share {leakage.cases} cases ({kinds}): {'; '.join(listing)}{more}",
        "no patient, lesion or image on both sides",
        (fix or "remove these cases from one side")
        + ", or give --allow-leakage REASON, which is recorded and printed first in the report",
    )


def _name(cohort: object, case: object) -> str:
    return f"{cohort}/{case}" if cohort else str(case)


def id_space(group_id: str | None) -> str:
    """The id space of a group, which scopes its ids: what stands before ``:patient:``, ``:lesion:`` or ``:image:``."""
    if not group_id:
        return ""
    named = _GROUP.match(group_id)
    return named["space"] if named else group_id.partition(":")[0]


def _keys(side: pd.DataFrame, scoped: bool, image: str = "image_id") -> pd.DataFrame:
    """One row per row of a side: what it is called, and its value of every kind (None where unknown)."""
    n = len(side)

    def column(name: str) -> list[str | None]:
        if name not in side:
            return [None] * n
        return [None if pd.isna(value) or value == "" else str(value) for value in side[name]]

    spaces = [id_space(group) if scoped else "" for group in column("group_id")]
    cohorts = [cohort or "" for cohort in column("cohort")]
    cases = [case or image for case, image in zip(column("case_id"), column("image_id"), strict=True)]
    out: dict[str, list[str | None]] = {
        "cohort": list(cohorts),
        "called": [case or f"row {i + 1}" for i, case in enumerate(cases)],
        "case": [f"{cohort}\0{case}" if case else None for cohort, case in zip(cohorts, cases, strict=True)],
        "case_shown": list(cases),
        "dhash": column("dhash"),
        "pixel_sha256": column("pixel_sha256"),
    }
    ids_of = {"patient": column("patient_id"), "lesion": column("lesion_id")}
    ids_of["image"] = column(image) if scoped else [None] * n
    for kind, ids in ids_of.items():
        out[kind] = [f"{space}\0{id_}" if id_ else None for space, id_ in zip(spaces, ids, strict=True)]
        out[f"{kind}_shown"] = ids
    for kind, name in _COLUMNS.items():
        out[kind] = column(name)
        out[f"{kind}_shown"] = [value[:16] if value and kind != "group" else value for value in out[kind]]
    return pd.DataFrame(out, dtype=object)


def _pair(kind: str, row: pd.Series, other: pd.Series, shared: object, distance: int | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "cohort": row["cohort"],
        "case_id": row["called"],
        "other_cohort": other["cohort"],
        "other_case_id": other["called"],
        "shared": shared,
        "distance_bits": distance,
    }


def _pairs(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS)).astype({"kind": object, "distance_bits": "Int64"})


def _counts(pairs: pd.DataFrame, kinds: tuple[str, ...] | list[str]) -> dict[str, int]:
    cases = pairs.drop_duplicates(["kind", "cohort", "case_id"])["kind"].value_counts()
    return {kind: int(cases.get(kind, 0)) for kind in kinds}


def _near(ours: pd.DataFrame, theirs: pd.DataFrame, limit: int) -> list[dict[str, Any]]:
    """The nearest image of the other side within the limit, for each row that has one; identical pixels left out."""
    ours, theirs = _telling(ours), _telling(theirs)
    a, b = _bits(ours["dhash"]), _bits(theirs["dhash"])
    same = theirs["pixel_sha256"].to_numpy(dtype=object)
    rows = []
    step = max(1, _CHUNK_PAIRS // max(len(b), 1))
    for begin in range(0, len(a) if len(b) else 0, step):
        distance = np.bitwise_count(a[begin : begin + step, None] ^ b[None, :])
        for i in np.flatnonzero((distance <= limit).any(axis=1)):
            row = ours.iloc[begin + int(i)]
            nearby = distance[i].astype(np.int64)
            if row["pixel_sha256"] is not None:
                nearby = np.where(same == row["pixel_sha256"], 65, nearby)
            best = int(np.argmin(nearby))
            if nearby[best] <= limit:
                rows.append(_pair(NEAR, row, theirs.iloc[best], row["dhash"], int(nearby[best])))
    return rows


def _telling(side: pd.DataFrame) -> pd.DataFrame:
    """Rows whose hash says something of the picture."""
    side = side.dropna(subset=["dhash"])
    ones = np.bitwise_count(_bits(side["dhash"])).astype(np.int64)
    return side[np.minimum(ones, 64 - ones) >= PLAIN_BITS].reset_index(drop=True)


def _bits(hashes: pd.Series) -> npt.NDArray[np.uint64]:
    return np.array([int(value, 16) for value in hashes], dtype=np.uint64)


def joined_groups(cases: pd.DataFrame, level: str = "patient") -> pd.Series:
    """What must stay on one side: rows that share a patient, a lesion or an image, joined however long the chain.

    Args:
        cases: with ``group_id`` and any of the other columns a side may have.
        level: ``patient`` joins patients, lesions and images; ``lesion`` lesions and images; ``image`` identical images
            (and the photographs of one case).

    Returns:
        A label per row, on the index of ``cases``: the alphabetically first group id of what was joined.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys = _keys(cases, scoped=True)
    contradicted = keys.groupby("image")["patient"].transform("nunique") > 1
    keys["image"] = keys["image"].where(~contradicted, None)
    kinds = {
        "patient": ("case", "group", "patient", "lesion", "image", "file", "pixels"),
        "lesion": ("case", "lesion", "image", "file", "pixels"),
        "image": ("case", "image", "file", "pixels"),
    }[level]
    n = len(keys)
    left, right, nodes = [], [], n
    for kind in kinds:
        known = np.flatnonzero(keys[kind].notna())
        codes, values = pd.factorize(keys[kind].iloc[known])
        left.append(known)
        right.append(codes + nodes)
        nodes += len(values)
    rows, columns = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(nodes, nodes))
    component = connected_components(graph, directed=False)[1][:n]
    names = (
        keys["group"] if level == "patient" else keys["lesion" if level == "lesion" else "case"].fillna(keys["case"])
    )
    names = names.fillna(keys["case"]).str.replace("\0", ":", regex=False)
    return names.groupby(component).transform("min").set_axis(cases.index)
