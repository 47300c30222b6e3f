"""How the values of a drawn mask are meant, where its file alone does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

POLARITIES = ("light", "dark")


@dataclass(frozen=True)
class Reading:
    """How the values of a drawn mask are meant.

    Attributes:
        label: the value that is the lesion, in a mask of several labels; None where there are none.
        polarity: one of :data:`POLARITIES`, whether the higher values are lesion or the lower; empty: the higher, but
            refused where the mask looks inverted.
    """

    label: int | None = None
    polarity: str = ""

    @classmethod
    def of_case(cls, case: Mapping[Any, Any]) -> Reading:
        """How the truth mask of a row of ``cases`` is read."""
        label, polarity = case.get("truth_mask_label"), case.get("truth_mask_polarity")
        known = label is not None and label == label  # not pandas' NaN
        return cls(int(label) if known and label is not None else None, polarity if isinstance(polarity, str) else "")


AS_DRAWN = Reading()
