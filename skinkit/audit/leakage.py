"""The leakage guard: patients, lesions and images that occur in two tables, such as training and test rows.

The photos of every view of a case are compared. Columns that one table lacks are not compared and are left out of
:attr:`Leakage.compared`. Ids are compared within
their id space (the prefix of ``group_id``), so two hospitals may both have a patient 17. Image ids match unless the
patients differ, because archives keep an image's id in every release and size.

Near-identical images are candidates by the Hamming distance of their difference hashes, over the eight mirrored and
turned versions. A pair counts, and is refused above a limit, if :func:`verified_on_photos` finds the same picture (see
:mod:`skinkit.audit.alignment`) or, without the photos, if the hashes differ in at most ``UNSEEN_BITS``. Candidates
that may be the same picture are reported as *alike*.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.artifacts.files import json_values
from skinkit.audit import copies
from skinkit.audit.copies import ComparedPhotos as ComparedPhotos
from skinkit.audit.copies import Search
from skinkit.console import Console
from skinkit.data.ids import DIFFERENT, SAME, reported
from skinkit.data.views import every_photo
from skinkit.errors import RefusedError
from skinkit.images.identity import dihedral_hashes
from skinkit.schemas import OK, SYNTHETIC_COHORT
from skinkit.workspace import SETTINGS_FILE, Ref, Workspace

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
"""Pairs that count as the same picture, and pairs that a person should look at."""
NEAR_DISTANCE_BITS = 4
"""Difference hashes that differ in at most this many of 64 bits make two images candidates."""
UNSEEN_BITS = 2
"""Without the photos, hashes that differ in at most this many bits count as near-identical."""
NEAR_LIMIT = 0
"""Most near-identical cases that are accepted."""
FEW = 0.02
"""Share of the cases up to which near-identical ones are kept together, or left out of the scores; with more, a person
must look first."""
_NEAREST = 3
"""Candidates of an image by its hash."""
UNVERIFIED = "unverified"
"""Kind of candidates by embeddings, before :func:`verified_on_photos`."""

KIND_LABELS = {**REFUSED, NEAR: "near-identical images", ALIKE: "alike images"}
"""Kind -> label."""

PLAIN_BITS = 8
"""A hash with fewer set, or fewer unset, bits belongs to a picture too uniform to compare by hash."""

PAIR_COLUMNS = (
    "kind", "cohort", "case_id", "other_cohort", "other_case_id", "shared", "distance_bits", "correlation",
    "pixels", "other_pixels", "cosine",
)  # fmt: skip
_CASE = ["kind", "cohort", "case_id"]
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
            kind, cohort, case_id, other_cohort, other_case_id, shared, distance_bits, correlation (of details of the
            aligned photos, null where they were not looked at), pixels and other_pixels (hashes of near pairs),
            cosine (of embeddings, where they made the pair a candidate).
        counts: kind -> cases of the first table.
        compared: kinds whose columns both tables have.
        near_limit: most near-identical cases that are accepted.
        sheet: picture of near-identical and alike pairs side by side, where their photos are here.
        search: between which photos copies were looked for by embeddings; None where hashes alone were compared.
    """

    pairs: pd.DataFrame
    counts: Mapping[str, int]
    compared: tuple[str, ...]
    near_limit: int = NEAR_LIMIT
    search: Search | None = None
    sheet: Path | None = None

    @property
    def refused(self) -> pd.DataFrame:
        """The pairs that are refused; near-identical ones only above the limit."""
        kept = {ALIKE} if self.counts.get(NEAR, 0) > self.near_limit else {ALIKE, NEAR}
        return self.pairs[~self.pairs["kind"].isin(kept)]

    @property
    def near(self) -> pd.DataFrame:
        """The near-identical pairs."""
        return self.pairs[self.pairs["kind"] == NEAR]

    def tolerating_few(self, cases: int) -> Leakage:
        """The same, where near-identical pairs are not refused if they are few among so many cases.

        Each search verifies the most similar pairs among its own rows, so a later one may find what that of the split
        did not reach. ``evaluate`` leaves such cases out of the scores of a model that has learnt from their likes.
        """
        n = self.counts.get(NEAR, 0)
        return replace(self, near_limit=n) if self.near_limit < n <= max(1.0, FEW * cases) else self

    @property
    def cases(self) -> int:
        """Number of cases of the first table in refused pairs."""
        return len(self.refused[["cohort", "case_id"]].drop_duplicates())

    def near_remarks(self, where: str) -> list[str]:
        """Remarks on similar images that are not refused: one sentence per kind, with the first pairs.

        Args:
            where: the other table's rows, for example ``"a training image"``.
        """
        words = {NEAR: f"near-identical to {where}", ALIKE: f"like {where}, which alone is not refused: look at both"}
        counts = {kind: self.counts.get(kind, 0) for kind in words}
        pairs = {kind: listed_pairs(self.pairs[self.pairs["kind"] == kind]) for kind, n in counts.items() if n}
        return [
            f"{counts[kind]} case{'s' * (counts[kind] > 1)} {words[kind]}: {said}{self._pictured}"
            for kind, said in pairs.items()
        ]

    def limits(self) -> str:
        """Which copies were looked for, how many of planted ones are found, and which cannot be seen."""
        return copies.limits_text(self.search) if NEAR in self.compared else "copies of photos were not looked for"

    @property
    def _pictured(self) -> str:
        return f" (side by side in {self.sheet})" if self.sheet is not None else ""

    def listing(self) -> str:
        """The first pairs that are refused, in words."""
        return listed_pairs(self.refused)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest: counts, compared kinds and the first pairs."""
        return {
            "cases": self.cases,
            "counts": dict(self.counts),
            "compared": list(self.compared),
            "near_limit": self.near_limit,
            "sheet": None if self.sheet is None else self.sheet.name,
            "copies": copies.limits(self.search) if NEAR in self.compared else None,
            "pairs": [json_values(row) for row in self.pairs.head(100).to_dict("records")],
        }


def _other_patient(ours: object, theirs: object) -> bool:
    return ours is not None and theirs is not None and ours != theirs


def joined(*parts: Leakage) -> Leakage:
    """Several comparisons as one, for example of all folds; a case that leaks in two of them counts once."""
    pairs = pd.concat([part.pairs for part in parts], ignore_index=True) if parts else _pairs([])
    pairs = pairs.drop_duplicates([*_CASE, "other_cohort", "other_case_id", "pixels"], ignore_index=True)
    compared = tuple(kind for kind in (*REFUSED, NEAR, ALIKE) if any(kind in part.compared for part in parts))
    limit = max((part.near_limit for part in parts), default=NEAR_LIMIT)
    searches = [part.search for part in parts if part.search is not None]
    search = reduce(Search.joined, searches) if searches else None
    return Leakage(pairs, _counts(pairs, compared), compared, limit, search)


def check(
    left: pd.DataFrame,
    right: pd.DataFrame,
    photos: ComparedPhotos | None = None,
    *,
    near_distance_bits: int = NEAR_DISTANCE_BITS,
    near_limit: int = NEAR_LIMIT,
) -> Leakage:
    """Find rows of one table that share something with another table.

    Args:
        left: table whose cases are listed, for example the scored cohort; any of the columns ``cohort``, ``case_id``,
            ``image_id``, ``group_id``, ``patient_id``, ``lesion_id``, ``image_sha256``, ``pixel_sha256``, ``dhash``.
        right: table that must not share anything with it, for example training rows; the same columns.
        photos: for :func:`verified_on_photos`; then ``pairs`` has every candidate.
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
    search = None
    if near_distance_bits >= 0 and photos is not None:
        more, search = _copied(ours, theirs, photos)
        known = {(row["pixels"], row["other_pixels"]) for row in rows}
        more = [row for row in more if (row["pixels"], row["other_pixels"]) not in known]
        compared += [] if NEAR in compared or not search.photos[0] else [NEAR, ALIKE]
        rows += more
    pairs = _pairs(rows) if photos is not None else _first(_pairs(rows))
    return Leakage(pairs, _counts(pairs, compared), tuple(compared), near_limit, search)


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


def refuse_unsettled_ids(workspace: Workspace) -> None:
    """Refuse development cohorts with ids that are perhaps one: photos of a patient could be in two parts of a split.

    Raises:
        RefusedError: naming cohort and ids.
    """
    for cohort in workspace.with_role("development"):
        path = workspace.path(Ref("cases", cohort))
        for name, record in ((open_artifact(path).info.get("spellings") if exists(path) else None) or {}).items():
            raise RefusedError(
                f"cohort {cohort!r}: {reported(name, record)}",
                "each id written in one way, so that no patient is in two parts of a split",
                f'correct the table; or add spellings = "{SAME}" (they are one) or spellings = "{DIFFERENT}" '
                f"(they are not) to [cohorts.{cohort}] of {SETTINGS_FILE}",
            )


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


def verified_on_photos(leakage: Leakage, photos: ComparedPhotos) -> Leakage:
    """The comparison with its candidate pairs verified on the photos.

    A pair is near-identical if its photos are one picture (:func:`skinkit.audit.copies.verified`), alike if they may
    be, and is left out if they are not. Pairs without both photos keep their classification by hash.

    Args:
        leakage: of :func:`check`.
        photos: finds the photos.
    """
    pairs = leakage.pairs.copy()
    candidates = pairs[pairs["kind"].isin((NEAR, ALIKE, UNVERIFIED))]
    candidates = candidates.sort_values(["distance_bits", "cosine"], ascending=[True, False], kind="stable")
    places = [_photos(row) for row in candidates.itertuples()]
    for place, correlation in copies.verified(places, photos):
        pairs.loc[candidates.index[place], "correlation"] = correlation
    looked = pairs["kind"].isin((NEAR, ALIKE, UNVERIFIED)) & pairs["correlation"].notna()
    same = pairs["correlation"] >= copies.SAME_PICTURE
    pairs["kind"] = pairs["kind"].mask(looked, np.where(same, NEAR, ALIKE))
    unverified = pairs["kind"] == UNVERIFIED
    search = leakage.search and replace(leakage.search, unverified=int(unverified.sum()))
    pairs = _first(pairs[~unverified & (~looked | (pairs["correlation"] >= copies.PERHAPS))])
    shown = pairs[pairs["correlation"].notna()].sort_values("correlation", ascending=False)
    sheet = copies.sheet([(*_photos(row), _caption(row)) for row in shown.itertuples()], photos)
    return replace(leakage, pairs=pairs, counts=_counts(pairs, leakage.compared), search=search, sheet=sheet)


def _photos(row: Any) -> tuple[copies.Key, copies.Key]:
    return (str(row.cohort), row.pixels), (str(row.other_cohort), row.other_pixels)


def _caption(row: Any) -> str:
    names = f"{_name(row.cohort, row.case_id)}   {_name(row.other_cohort, row.other_case_id)}"
    return f"{names}   {KIND_LABELS[str(row.kind)].removesuffix(' images')}, correlation {row.correlation:.2f}"


def _first(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per kind and case: the first, of near pairs the most similar."""
    order = pairs["correlation"].fillna(-1.0)
    ordered = pairs.assign(_order=-order).sort_values("_order", kind="stable").drop(columns="_order")
    first = pairs.loc[ordered.drop_duplicates(_CASE).index.sort_values()]
    known = first.loc[first["kind"] == NEAR, ["cohort", "case_id"]].apply(tuple, axis=1)
    again = (first["kind"] == ALIKE) & first[["cohort", "case_id"]].apply(tuple, axis=1).isin(set(known))
    return first[~again].reset_index(drop=True)


def photos_of(workspace: Workspace, console: Console | None = None) -> ComparedPhotos:
    """The photos of the cohorts, found by cohort and hash of their pixels.

    Synthetic images are found as those of the cohort ``synthetic:<name>``.
    """
    tables: dict[str, dict[str, Path]] = {}

    def photo(cohort: str, pixels: str) -> Path | None:
        if cohort not in tables:
            place = workspace.path(Ref("cases", cohort))
            images = workspace.path(Ref("synthetic", name=cohort.removeprefix(SYNTHETIC_COHORT)))
            if cohort.startswith(SYNTHETIC_COHORT) and exists(images):
                artifact = open_artifact(images)
                root, table = artifact.path, artifact.table(["pixel_sha256", "image_file"])
            elif cohort in workspace.cohorts and exists(place):
                root, table = workspace.cohort(cohort).root, open_artifact(place).table(["pixel_sha256", "image_path"])
            else:
                return tables.setdefault(cohort, {}).get(pixels)
            tables[cohort] = {h: root / p for h, p in table.dropna().itertuples(index=False)}
        return tables[cohort].get(pixels)

    return ComparedPhotos(photo, workspace.root / "cache" / "copies", console)


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
    where = "split anew with a higher --near-limit" if fix else "raise --near-limit"  # training takes the split's
    near = ""
    if (pairs["kind"] == NEAR).any():
        near = f", or {where} where the photos differ after all{leakage._pictured}"
    raise RefusedError(
        f"{what} share {leakage.cases} cases ({kinds}): {listed_pairs(pairs)}",
        "no patient, lesion or image on both sides",
        (fix or "remove these cases from one side")
        + near
        + ", or give --allow-leakage REASON, which is recorded and printed first in the report",
    )


def listed_pairs(pairs: pd.DataFrame) -> str:
    """The first pairs in words, and how many more."""
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
    if pd.isna(row.correlation):
        return f"{row.distance_bits} of 64 bits apart, not looked at"
    return f"correlation {row.correlation:.2f}"


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
    near = kind in (NEAR, ALIKE, UNVERIFIED)
    return {
        "kind": kind,
        "cohort": row["cohort"],
        "case_id": row["called"],
        "other_cohort": other["cohort"],
        "other_case_id": other["called"],
        "shared": shared,
        "distance_bits": distance,
        "correlation": None,
        "pixels": row["pixel_sha256"] if near else None,
        "other_pixels": other["pixel_sha256"] if near else None,
        "cosine": None,
    }


def _pairs(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    texts = dict.fromkeys(("kind", "pixels", "other_pixels"), object)
    return frame.astype({**texts, "distance_bits": "Int64", "correlation": "float64", "cosine": "float64"})


def _counts(pairs: pd.DataFrame, kinds: tuple[str, ...] | list[str]) -> dict[str, int]:
    cases = pairs.drop_duplicates(["kind", "cohort", "case_id"])["kind"].value_counts()
    return {kind: int(cases.get(kind, 0)) for kind in kinds}


def _near(ours: pd.DataFrame, theirs: pd.DataFrame, limit: int) -> list[dict[str, Any]]:
    """The nearest images of the other table within the limit, for each row with one; identical pixels left out.

    The eight turned and mirrored versions of our images are compared with theirs. A distance is the mean of the hashes
    along rows and columns, rounded up, or that along rows where one side knows no other.
    """
    ours, theirs = _telling(ours), _telling(theirs)
    versions, our_whole = dihedral_hashes(ours["dhash"])
    hashes, their_whole = dihedral_hashes(theirs["dhash"])
    b = hashes[:, 0]
    same = theirs["pixel_sha256"].to_numpy(dtype=object)
    rows = []
    step = max(1, _CHUNK_PAIRS // max(len(b), 1))
    for begin in range(0, len(ours) if len(b) else 0, step):
        part = slice(begin, begin + step)
        both = our_whole[part, None] & their_whole[None]
        distance = np.full(both.shape, 65, dtype=np.uint8)
        for version in np.moveaxis(versions[part], 1, 0):
            across, along = (np.bitwise_count(version[:, None, i] ^ b[None, :, i]) for i in (0, 1))
            distance = np.minimum(distance, np.where(both, (across + along + 1) // 2, across))
        for i in np.flatnonzero((distance <= limit).any(axis=1)):
            row = ours.iloc[begin + int(i)]
            nearby = distance[i].astype(np.int64)
            if row["pixel_sha256"] is not None:
                nearby = np.where(same == row["pixel_sha256"], 65, nearby)
            for best in np.argsort(nearby, kind="stable")[:_NEAREST]:
                if nearby[best] <= limit:
                    kind = NEAR if nearby[best] <= UNSEEN_BITS else ALIKE
                    rows.append(_pair(kind, row, theirs.iloc[int(best)], row["dhash"][:16], int(nearby[best])))
    return rows


def _copied(ours: pd.DataFrame, theirs: pd.DataFrame, photos: ComparedPhotos) -> tuple[list[dict[str, Any]], Search]:
    """Candidates by embeddings, of other patients and with other pixels, and what was compared."""

    def keys(side: pd.DataFrame) -> list[copies.Key]:
        return list(zip(side["cohort"].astype(str), side["pixel_sha256"], strict=True))

    columns = [(ours[name].to_numpy(object), theirs[name].to_numpy(object)) for name in ("pixels", "patient", "group")]

    def same(row: int) -> Any:
        alike = [b == a[row] for a, b in columns if a[row] is not None]
        return np.logical_or.reduce(alike) if alike else np.zeros(len(theirs), dtype=bool)

    found, search = copies.nearest(photos, keys(ours), keys(theirs), same)
    rows = []
    for i, j, cosine in found:
        row, other = ours.iloc[i], theirs.iloc[j]
        rows.append({**_pair(UNVERIFIED, row, other, str(row["pixel_sha256"])[:16], None), "cosine": cosine})
    return rows, search


def _telling(side: pd.DataFrame) -> pd.DataFrame:
    """Rows whose hash is informative (not of a nearly uniform picture)."""
    side = side.dropna(subset=["dhash"])
    ones = np.bitwise_count(dihedral_hashes(side["dhash"])[0][:, 0, 0]).astype(np.int64)
    return side[np.minimum(ones, 64 - ones) >= PLAIN_BITS].reset_index(drop=True)


CaseKey = tuple[str, str]
"""Cohort and case id."""


def joined_groups(
    cases: pd.DataFrame, level: str = "patient", together: Sequence[tuple[CaseKey, CaseKey]] = ()
) -> pd.Series:
    """Groups that must not be divided: rows linked by a shared patient, lesion or image, directly or transitively.

    Args:
        cases: with ``group_id`` and any of the other columns of :func:`check`.
        level: ``patient`` joins patients, lesions and images; ``lesion`` lesions and images; ``image`` identical images
            (and the photographs of one case).
        together: pairs of cases that are linked besides.

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
    for pair in together:
        rows_of_pair = np.flatnonzero(keys["case"].isin(["\0".join(case) for case in pair]))
        left.append(rows_of_pair)
        right.append(np.full(len(rows_of_pair), nodes))
        nodes += 1
    rows, columns = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(nodes, nodes))
    component = connected_components(graph, directed=False)[1][:n]
    names = (
        keys["group"] if level == "patient" else keys["lesion" if level == "lesion" else "case"].fillna(keys["case"])
    )
    names = names.fillna(keys["case"]).str.replace("\0", ":", regex=False)
    return names.groupby(component).transform("min").set_axis(cases.index)
