"""The photos of a case: which one represents it, and the others beside it.

A fused table has one row per case, whose ``image_path``, hashes and mask are those of the primary photo. Where cases of
a cohort have several views, each view's photo stands beside it in columns ``view__<view>__<column>``, the primary one's
too. A model reads a view by the name ``image_<view>``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from skinkit.schemas import VIEWS

if TYPE_CHECKING:
    import pandas as pd

PHOTO = ("image_id", "image_path", "image_sha256", "pixel_sha256", "dhash")
MASK = ("mask_path", "mask_sha256", "mask_failed")
"""Columns that each view of a case has."""
IMAGE = "image"
NAMED = tuple(f"{IMAGE}_{view}" for view in VIEWS)
"""Names under which models read a view."""
_PREFIX = "view__"


def column(view: str, name: str) -> str:
    """The fused table's column of a view's photo."""
    return f"{_PREFIX}{view}__{name}"


def is_view_column(name: str) -> bool:
    """Whether a column of a fused table belongs to a view's photo."""
    return name.startswith(_PREFIX)


def primary_images(images: pd.DataFrame) -> pd.DataFrame:
    """One row per case: its dermoscopic photo, else the first by image id; sorted by (cohort, case_id).

    Args:
        images: rows of cases tables (``case_id``, ``image_id``, ``view``), and ``cohort`` where they are of several.
    """
    key = [name for name in ("cohort", "case_id") if name in images]
    order = images["view"].map({"dermoscopic": 0}).fillna(1)
    ordered = images.assign(_order=order).sort_values([*key, "_order", "image_id"], kind="stable")
    return ordered.drop_duplicates(key).drop(columns="_order")


def beside(primary: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """The rows of cases with the photos of their views in columns of their own; unchanged where no case has two views.

    Args:
        primary: one row per case.
        images: one row per image, with ``case_id``, ``view`` and the columns of photo and mask. Of several images of
            one view the first by image id is taken.
    """
    named = images[images["view"].isin(VIEWS)].sort_values("image_id", kind="stable")
    named = named.drop_duplicates(["case_id", "view"])
    if not named.duplicated("case_id").any():
        return primary
    out = primary
    for view in VIEWS:
        columns = {name: column(view, name) for name in (*PHOTO, *MASK) if name in named}
        photos = named.loc[named["view"] == view, ["case_id", *columns]].rename(columns=columns)
        out = out.merge(photos, on="case_id", how="left", validate="one_to_one")
    return out


def of_view(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows with the photo that a model reads under a name; null where a case has no such photo.

    Args:
        frame: fused rows.
        name: ``image`` for the primary photo, or one of ``NAMED``.
    """
    if name == IMAGE:
        return frame
    view = name.removeprefix(f"{IMAGE}_")
    own = frame["view"].fillna(frame["modality"]) == view
    columns = [each for each in (*PHOTO, *MASK) if each in frame]
    values = {each: frame[each].where(own) for each in columns}
    for each in columns:
        if column(view, each) in frame:
            values[each] = frame[column(view, each)].where(frame[column(view, "image_id")].notna(), values[each])
    return frame.assign(**values)


def every_photo(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per photo: the rows, followed by those of the further views of their cases.

    Args:
        frame: any table of photos; one without columns of views is answered as it is.
    """
    import pandas as pd

    views = [view for view in VIEWS if column(view, "pixel_sha256") in frame]
    if not views:
        return frame
    parts = [frame]
    for view in views:
        there = frame[column(view, "pixel_sha256")].notna()
        further = there & (frame[column(view, "pixel_sha256")] != frame["pixel_sha256"])
        parts.append(of_view(frame[further], f"{IMAGE}_{view}"))
    return pd.concat(parts, ignore_index=True)


def read_names(reads: Iterable[str]) -> list[str]:
    """The photos among the inputs that a model reads, in order."""
    return [name for name in reads if name in (IMAGE, *NAMED)]


def pixel_columns(reads: Iterable[str]) -> list[str]:
    """Columns of a fused table with the hashes of the views that a model reads."""
    return [column(name.removeprefix(f"{IMAGE}_"), "pixel_sha256") for name in reads if name in NAMED]
