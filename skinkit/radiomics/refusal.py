"""Why a lesion cannot be measured."""

from __future__ import annotations

from skinkit.errors import CaseError


class RadiomicsRefusal(CaseError):  # noqa: N818 - a refusal, no error of the program
    """This lesion cannot be measured; ``reason`` is one of these.

    ``mask_empty``, ``mask_full_frame`` (no background left), ``mask_single_pixel``, ``mask_line`` (one pixel high or
    wide) and ``mask_size_mismatch`` are refused by PyRadiomics too. Two are ours: ``image_not_finite`` (NaN or infinity
    inside the lesion, for which PyRadiomics returns meaningless values) and ``too_many_levels`` (the bins are too
    narrow for the range of grey values; PyRadiomics runs out of memory).
    """
