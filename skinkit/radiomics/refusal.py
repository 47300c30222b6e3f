"""Why a lesion cannot be measured."""

from __future__ import annotations

from skinkit.errors import CaseError


class RadiomicsRefusal(CaseError):  # noqa: N818 - a refusal, no error of the program
    """This lesion cannot be measured; ``reason`` is one of these.

    ``mask_empty``, ``mask_full_frame`` (no background left), ``mask_single_pixel``, ``mask_line`` (one pixel high or
    wide) and ``mask_size_mismatch`` are refused by PyRadiomics too. Three are ours: ``mask_labels`` (an array of more
    than two values), ``image_not_finite`` (NaN or infinity
    inside the lesion, for which PyRadiomics returns meaningless values) and ``too_many_levels`` (the bins are too
    narrow for the range of grey values; PyRadiomics runs out of memory).
    """


def refuse_unmeasurable(height: int, width: int, *, whole: bool) -> None:
    """Refuse a mask that PyRadiomics cannot measure.

    Args:
        height: rows of the mask's bounding box, 0 for an empty mask.
        width: its columns.
        whole: whether the mask covers the whole picture.

    Raises:
        RadiomicsRefusal: the mask is empty, covers the picture, or is a pixel or a straight line.
    """
    if height == 0:
        raise RadiomicsRefusal("mask_empty", "the mask has no lesion pixel")
    if whole:
        raise RadiomicsRefusal("mask_full_frame", "the mask covers the whole image, so there is no background")
    if height == width == 1:
        raise RadiomicsRefusal("mask_single_pixel", "the mask has one pixel")
    if height == 1 or width == 1:
        raise RadiomicsRefusal("mask_line", f"the mask is a line of {max(height, width)} pixels")
