"""The masks a person drew, where the cohort has them.

Paper:
    None: this passes on what the source folder holds.

Idea:
    Measuring inside an expert's outline separates what the classifier can do from what the segmenter gets wrong.

Equations:
    (1) mask(x) = truth(x)

Shapes:
    truth bool (H, W) -> bool (H, W).

Departures:
    A case without a truth mask fails with ``truth_mask_absent`` instead of borrowing another segmenter's mask.
    ``masks`` names those of a second annotator; Dice and IoU then say how far two people agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from skinkit.models.parts.protocol import DrawingRule


@dataclass(frozen=True)
class Config:
    """Whose masks are handed on."""

    masks: Annotated[
        str, "folder of masks in the cohort's, or a pattern such as masks/{stem}.png (default: the cohort's own)"
    ] = ""
    label: Annotated[int | None, "value that is the lesion (default: the cohort's)"] = None
    polarity: Annotated[
        str, "dark: lower values are lesion; light: higher, however they look (default: the cohort's)"
    ] = ""


class Truth(DrawingRule):
    """Eq. 1: a model that reads ``truth_mask`` draws nothing; the stage hands that mask on."""

    TASK = "segment"
    READS = ("truth_mask",)
    CONFIG = Config


MODEL = Truth
