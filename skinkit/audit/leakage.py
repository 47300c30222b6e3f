"""The leakage guard: patients, lesions and images that occur in two tables, such as training and test rows.

The photos of every view of a case are compared. Columns that one table lacks are not compared and are left out of
:attr:`Leakage.compared`. Ids are compared within
their id space (the prefix of ``group_id``), so two hospitals may both have a patient 17. Image ids match unless the
patients differ, because archives keep an image's id in every release and size.

Near-identical images are candidates by the Hamming distance of their 64-bit difference hashes. A pair counts, and is
refused above a limit, if :func:`look_at` finds the same picture (correlation of thumbnails) or, without the photos, if
the hashes differ in at most ``UNSEEN_BITS``. Other candidates are reported as *alike*.

Measured: of 495,146 pairs of clinical photos of different patients (PAD-UFES-20) none was within 4 bits, the largest
correlation was 0.947; of 329,591 pairs of dermoscopic images (HAM10000, ISIC 2018 test) 20 were within 4 bits, 1 within
2, and the largest correlation was 0.960. Re-encoded, resized, brighter or noisier copies of PAD photos were within 4
bits in 95 to 100 % and correlated at 0.978 or more. Cropped or rotated copies are mostly missed (70 % within 4 bits
after cropping 2 % per edge, 11 % after 5 %).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.artifacts.files import json_values
from skinkit.data.views import every_photo
from skinkit.errors import CaseError, RefusedError
from skinkit.schemas import OK
from skinkit.workspace import Ref, Workspace

REFUSED = {
    "case": "the same case",
    "patient": "the same patient",
    "lesion": "the same lesion",
    "image": "the same image",
    "group": "the same group",
    "file": "an identical file",
    "pixels": "identical pixels",
}
"""Kinds of leakage that are refused, most specific first -> label."""

NEAR, ALIKE = "near_identical", "alike"
"""Pairs that count as the same picture, and pairs with only similar hashes."""
NEAR_DISTANCE_BITS = 4
"""Difference hashes that differ in at most this many of 64 bits make two images candidates."""
UNSEEN_BITS = 2
"""Without the photos, hashes that differ in at most this many bits count as near-identical."""
NEAR_LIMIT = 0
"""Most near-identical cases that are accepted."""
SAME_PICTURE = 0.97
"""Correlation of two grey thumbnails from which two photos count as the same picture."""
THUMBNAIL_PX = 32
_MOST_LOOKED_AT = 2000

KIND_LABELS = {**REFUSED, NEAR: "near-identical images", ALIKE: "alike images"}
"""Kind -> label."""

PLAIN_BITS = 8
"""A hash with fewer set, or fewer unset, bits belongs to a picture too uniform to compare by hash."""

PAIR_COLUMNS = (
    "kind", "cohort", "case_id", "other_cohort", "other_case_id", "shared", "distance_bits", "correlation",
    "other_dhash",
)  # fmt: skip
_SHOWN = 10
_CHUNK_PAIRS = 4_000_000
_GROUP = re.compile(r"(?P<space>.*?):(patient|lesion|image):")
_RESIZED = re.compile(r"_downsampled$")
"""Suffix of ISIC 2019 for a downsampled image of an earlier year; it is the same image."""
_COLUMNS = {"file": "image_sha256", "pixels": "pixel_sha256", "group": "group_id"}


@dataclass(frozen=True)
class Leakage:
    """Cases that two tables share.

    Attributes:
        pairs: one row per kind and case of the first table, with the first matching case of the other table:
            kind, cohort, case_id, other_cohort, other_case_id, shared, distance_bits, correlation (of thumbnails, null
            where not computed), other_dhash.
        counts: kind -> cases of the first table.
        compared: kinds whose columns both tables have.
        near_limit: most near-identical cases that are accepted.
    """

    pairs: pd.DataFrame
    counts: Mapping[str, int]
    compared: tuple[str, ...]
    near_limit: int = NEAR_LIMIT

    @property
    def refused(self) -> pd.DataFrame:
        """The pairs that are refused; near-identical ones only above the limit."""
        kept = {ALIKE} if self.counts.get(NEAR, 0) > self.near_limit else {ALIKE, NEAR}
        return self.pairs[~self.pairs["kind"].isin(kept)]

    @property
    def cases(self) -> int:
        """Number of cases of the first table in refused pairs."""
        return len(self.refused[["cohort", "case_id"]].drop_duplicates())

    def near_remarks(self, where: str) -> list[str]:
        """Remarks on similar images that are not refused: one sentence per kind, with the first pairs.

        Args:
            where: the other table's rows, for example ``"a training image"``.
        """
        words = {NEAR: f"near-identical to {where}", ALIKE: f"like {where} by its hash, which alone is not refused"}
        counts = {kind: self.counts.get(kind, 0) for kind in words}
        return [
            f"{n} case{'s' * (n > 1)} {words[kind]}: {_listing(self.pairs[self.pairs['kind'] == kind])}"
            for kind, n in counts.items()
            if n
        ]

    def listing(self) -> str:
        """The first pairs that are refused, in words."""
        return _listing(self.refused)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest: counts, compared kinds and the first pairs."""
        return {
            "cases": self.cases,
            "counts": dict(self.counts),
            "compared": list(self.compared),
            "near_limit": self.near_limit,
            "pairs": [json_values(row) for row in self.pairs.head(100).to_dict("records")],
        }


def _other_patient(ours: object, theirs: object) -> bool:
    return ours is not None and theirs is not None and ours != theirs


def joined(*parts: Leakage) -> Leakage:
    """Several comparisons as one, for example of all folds; a case that leaks in two of them counts once."""
    pairs = pd.concat([part.pairs for part in parts], ignore_index=True) if parts else _pairs([])
    pairs = pairs.drop_duplicates(["kind", "cohort", "case_id", "other_cohort", "other_case_id"], ignore_index=True)
    compared = tuple(kind for kind in (*REFUSED, NEAR, ALIKE) if any(kind in part.compared for part in parts))
    limit = max((part.near_limit for part in parts), default=NEAR_LIMIT)
    return Leakage(pairs, _counts(pairs, compared), compared, limit)


def check(
    left: pd.DataFrame,
    right: pd.DataFrame,
    *,
    near_distance_bits: int = NEAR_DISTANCE_BITS,
    near_limit: int = NEAR_LIMIT,
) -> Leakage:
    """Find rows of one table that share something with another table.

    Args:
        left: table whose cases are listed, for example the scored cohort; any of the columns ``cohort``, ``case_id``,
            ``image_id``, ``group_id``, ``patient_id``, ``lesion_id``, ``image_sha256``, ``pixel_sha256``, ``dhash``.
        right: table that must not share anything with it, for example training rows; the same columns.
        near_distance_bits: largest Hamming distance of candidates; negative skips that search.
        near_limit: most near-identical cases that :func:`refuse` accepts.
    """
    left, right = every_photo(left), every_photo(right)
    scoped = "group_id" in left and "group_id" in right
    image = "image_id" if "image_id" in left and "image_id" in right else "case_id"
    ours, theirs = _keys(left, scoped, image), _keys(right, scoped, image)
    compared = [kind for kind in REFUSED if ours[kind].notna().any() and theirs[kind].notna().any()]
    rows: list[dict[str, Any]] = []
    listed: set[int] = set()
    for kind in compared:
        first = theirs.dropna(subset=[kind]).drop_duplicates(kind).set_index(kind)
        hits = ours[kind].isin(first.index)
        if kind in ("image", "group"):
            # A shared image or group is reported as its patient or lesion where that is known.
            hits &= ~ours.index.isin(listed)
        for index, row in ours[hits].iterrows():
            other = first.loc[row[kind]]
            if kind == "image" and _other_patient(row["patient"], other["patient"]):
                continue
            rows.append(_pair(kind, row, other, row[f"{kind}_shown"], None))
            listed.add(int(str(index)))
    if near_distance_bits >= 0 and ours["dhash"].notna().any() and theirs["dhash"].notna().any():
        compared += [NEAR, ALIKE]
        rows += _near(ours, theirs, near_distance_bits)
    pairs = _pairs(rows).drop_duplicates(["kind", "cohort", "case_id"], ignore_index=True)
    return Leakage(pairs, _counts(pairs, compared), tuple(compared), near_limit)


def sharing(left: pd.DataFrame, right: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both tables that may share something refused, as a prefilter for :func:`check`.

    Fast on large tables that share few or no rows.
    """
    left, right = every_photo(left), every_photo(right)
    scoped = "group_id" in left and "group_id" in right
    image = "image_id" if "image_id" in left and "image_id" in right else "case_id"
    sides = [_keys(side, scoped, image) for side in (left, right)]
    kept = []
    for side, ours, theirs in ((left, *sides), (right, *sides[::-1])):
        hits = [ours[kind].isin(theirs[kind].dropna()) & ours[kind].notna() for kind in REFUSED]
        kept.append(side[np.logical_or.reduce(hits)].reset_index(drop=True))
    return kept[0], kept[1]


def external_overlap(workspace: Workspace) -> Leakage:
    """Overlap of usable development cases with usable cases of the ingested external cohorts."""
    sides = [_read_cases(workspace, workspace.with_role(role)) for role in ("development", "external")]
    return check(*sharing(*sides), near_distance_bits=-1)


def _read_cases(workspace: Workspace, cohorts: Sequence[str]) -> pd.DataFrame:
    columns = [
        "image_id", "case_id", "group_id", "patient_id", "lesion_id", "image_sha256", "pixel_sha256", "status",
    ]  # fmt: skip
    tables = [
        open_artifact(path).table(columns).assign(cohort=cohort)
        for cohort in cohorts
        if exists(path := workspace.path(Ref("cases", cohort)))
    ]
    cases = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*columns, "cohort"], dtype=object)
    return cases[cases["status"] == OK].reset_index(drop=True)


def look_at(leakage: Leakage, photo: Callable[[str, str], Path | None]) -> Leakage:
    """The comparison with its candidate pairs verified on the photos.

    A pair whose thumbnails correlate at ``SAME_PICTURE`` or more is near-identical, any other is alike. Pairs without
    both photos keep their classification by hash; at most 2,000 pairs are verified.

    Args:
        leakage: of :func:`check`.
        photo: ``(cohort, dhash) -> file`` or None.
    """
    candidates = leakage.pairs.index[leakage.pairs["kind"].isin((NEAR, ALIKE))]
    pairs, thumbnail = leakage.pairs.copy(), _Thumbnails(photo)
    for index in candidates[:_MOST_LOOKED_AT]:
        row = pairs.loc[index]
        ours = thumbnail(str(row["cohort"]), str(row["shared"]))
        theirs = thumbnail(str(row["other_cohort"]), str(row["other_dhash"]))
        if ours is None or theirs is None:
            continue
        correlation = float(ours @ theirs)
        pairs.at[index, "kind"] = NEAR if correlation >= SAME_PICTURE else ALIKE
        pairs.at[index, "correlation"] = correlation
    return replace(leakage, pairs=pairs, counts=_counts(pairs, leakage.compared))


def photos_of(workspace: Workspace) -> Callable[[str, str], Path | None]:
    """A function for :func:`look_at` that finds a cohort's photo by its ``dhash``; None if it is unavailable."""
    tables: dict[str, dict[str, Path]] = {}

    def photo(cohort: str, dhash: str) -> Path | None:
        if cohort not in tables:
            place = workspace.path(Ref("cases", cohort))
            if cohort in workspace.cohorts and exists(place):
                root = workspace.cohort(cohort).root
                table = open_artifact(place).table(["dhash", "image_path"]).dropna()
                tables[cohort] = {h: root / p for h, p in zip(table["dhash"], table["image_path"], strict=True)}
        return tables.setdefault(cohort, {}).get(dhash)

    return photo


class _Thumbnails:
    """Grey thumbnails of photos, centred and of unit length, cached."""

    def __init__(self, photo: Callable[[str, str], Path | None]) -> None:
        self._photo = photo
        self._by_photo: dict[tuple[str, str], npt.NDArray[np.float64] | None] = {}

    def __call__(self, cohort: str, dhash: str) -> npt.NDArray[np.float64] | None:
        key = cohort, dhash
        if key not in self._by_photo:
            self._by_photo[key] = self._thumbnail(self._photo(cohort, dhash))
        return self._by_photo[key]

    @staticmethod
    def _thumbnail(path: Path | None) -> npt.NDArray[np.float64] | None:
        from skinkit.images.decode import read_rgb
        from skinkit.images.encode import grey, resize

        if path is None:
            return None
        try:
            small = resize(read_rgb(path), (THUMBNAIL_PX, THUMBNAIL_PX))
        except CaseError:
            return None
        values = np.asarray(grey(small), dtype=np.float64).ravel()
        values -= values.mean()
        unit: npt.NDArray[np.float64] = values / max(float(np.linalg.norm(values)), 1e-9)
        return unit


def refuse(leakage: Leakage, allow: str, what: str, fix: str = "") -> None:
    """Refuse leakage unless a reason to allow it is stated.

    Args:
        leakage: of :func:`check`.
        allow: the reason of ``--allow-leakage``, or empty.
        what: the two tables, for example ``"jinan and the training rows of frozen_probe"``.
        fix: alternative for the error message; by default to remove the cases.

    Raises:
        RefusedError: something is shared and no reason allows it; the first pairs are listed.
    """
    pairs = leakage.refused
    if not len(pairs) or allow.strip():
        return
    kinds = ", ".join(
        f"{KIND_LABELS[kind]} {n}" for kind, n in leakage.counts.items() if n and (pairs["kind"] == kind).any()
    )
    near = ", or raise --near-limit where the photos differ after all" if (pairs["kind"] == NEAR).any() else ""
    raise RefusedError(
        f"{what} share {leakage.cases} cases ({kinds}): {_listing(pairs)}",
        "no patient, lesion or image on both sides",
        (fix or "remove these cases from one side")
        + near
        + ", or give --allow-leakage REASON, which is recorded and printed first in the report",
    )


def _listing(pairs: pd.DataFrame) -> str:
    # The most specific pair of each case is enough to find it.
    first_pairs = pairs.drop_duplicates(["cohort", "case_id"])
    listing = [
        f"{_name(row.cohort, row.case_id)} and {_name(row.other_cohort, row.other_case_id)} "
        f"({KIND_LABELS[str(row.kind)].removeprefix('the same ').removeprefix('an ')} {_shared(row)})"
        for row in first_pairs.head(_SHOWN).itertuples()
    ]
    more = f" and {len(first_pairs) - _SHOWN} more" if len(first_pairs) > _SHOWN else ""
    return "; ".join(listing) + more


def _shared(row: Any) -> str:
    if row.kind not in (NEAR, ALIKE):
        return str(row.shared)
    similarity = "not looked at" if pd.isna(row.correlation) else f"correlation {row.correlation:.2f}"
    return f"{row.distance_bits} of 64 bits apart, {similarity}"


def _name(cohort: object, case: object) -> str:
    return f"{cohort}/{case}" if cohort else str(case)


def id_space(group_id: str | None) -> str:
    """The id space of a group id: the part before ``:patient:``, ``:lesion:`` or ``:image:``."""
    if not group_id:
        return ""
    named = _GROUP.match(group_id)
    return named["space"] if named else group_id.partition(":")[0]


def _keys(side: pd.DataFrame, scoped: bool, image: str = "image_id") -> pd.DataFrame:
    """One row per row of a table: its cohort and case, and its key of every kind (None if unknown)."""
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
    ids_of["image"] = [_RESIZED.sub("", id_) if id_ else id_ for id_ in column(image)] if scoped else [None] * n
    for kind, ids in ids_of.items():
        out[kind] = [f"{space}\0{id_}" if id_ else None for space, id_ in zip(spaces, ids, strict=True)]
        out[f"{kind}_shown"] = ids
    for kind, name in _COLUMNS.items():
        out[kind] = column(name)
        out[f"{kind}_shown"] = [value[:16] if value and kind != "group" else value for value in out[kind]]
    return pd.DataFrame(out, dtype=object)


def _pair(kind: str, row: pd.Series, other: pd.Series, shared: object, distance: int | None) -> dict[str, Any]:
    near = kind in (NEAR, ALIKE)
    return {
        "kind": kind,
        "cohort": row["cohort"],
        "case_id": row["called"],
        "other_cohort": other["cohort"],
        "other_case_id": other["called"],
        "shared": shared,
        "distance_bits": distance,
        "correlation": None,
        "other_dhash": other["dhash"] if near else None,
    }


def _pairs(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    return frame.astype({"kind": object, "other_dhash": object, "distance_bits": "Int64", "correlation": "float64"})


def _counts(pairs: pd.DataFrame, kinds: tuple[str, ...] | list[str]) -> dict[str, int]:
    cases = pairs.drop_duplicates(["kind", "cohort", "case_id"])["kind"].value_counts()
    return {kind: int(cases.get(kind, 0)) for kind in kinds}


def _near(ours: pd.DataFrame, theirs: pd.DataFrame, limit: int) -> list[dict[str, Any]]:
    """The nearest image of the other table within the limit, for each row with one; identical pixels left out."""
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
                kind = NEAR if nearby[best] <= UNSEEN_BITS else ALIKE
                rows.append(_pair(kind, row, theirs.iloc[best], row["dhash"], int(nearby[best])))
    return rows


def _telling(side: pd.DataFrame) -> pd.DataFrame:
    """Rows whose hash is informative (not of a nearly uniform picture)."""
    side = side.dropna(subset=["dhash"])
    ones = np.bitwise_count(_bits(side["dhash"])).astype(np.int64)
    return side[np.minimum(ones, 64 - ones) >= PLAIN_BITS].reset_index(drop=True)


def _bits(hashes: pd.Series) -> npt.NDArray[np.uint64]:
    return np.array([int(value, 16) for value in hashes], dtype=np.uint64)


def joined_groups(cases: pd.DataFrame, level: str = "patient") -> pd.Series:
    """Groups that must not be divided: rows linked by a shared patient, lesion or image, directly or transitively.

    Args:
        cases: with ``group_id`` and any of the other columns of :func:`check`.
        level: ``patient`` joins patients, lesions and images; ``lesion`` lesions and images; ``image`` identical images
            (and the photographs of one case).

    Returns:
        A label per row, on the index of ``cases``: the alphabetically first group id of the linked rows.
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
        with_value = np.flatnonzero(keys[kind].notna())
        codes, values = pd.factorize(keys[kind].iloc[with_value])
        left.append(with_value)
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
