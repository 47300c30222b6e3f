"""The photo that represents a case."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def primary_images(images: pd.DataFrame) -> pd.DataFrame:
    """One row per case: its dermoscopic photo, else the first by image id; sorted by (cohort, case_id).

    Args:
        images: rows of cases tables (``case_id``, ``image_id``, ``view``), and ``cohort`` where they are of several.
    """
    key = [name for name in ("cohort", "case_id") if name in images]
    order = images["view"].map({"dermoscopic": 0}).fillna(1)
    ordered = images.assign(_order=order).sort_values([*key, "_order", "image_id"], kind="stable")
    return ordered.drop_duplicates(key).drop(columns="_order")
