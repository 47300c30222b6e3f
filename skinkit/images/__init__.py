"""Pixels in and out: ``decode`` reads photos and masks, ``identity`` hashes them, ``encode`` writes them.

``quality(image, mask)`` answers whether a photo is fit to be used; the checks are in ``quality_checks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skinkit.images.quality_checks import Quality


def quality(image: Any, mask: Any = None, **options: Any) -> Quality:
    """The ten quality checks of a photo: :func:`skinkit.images.quality_checks.assess`.

    Args:
        image: uint8 (H, W, 3), sRGB, upright.
        mask: bool (H, W) of the lesion, or None for the whole frame.
        options: ``fitzpatrick`` and ``table``.
    """
    from skinkit.images.quality_checks import assess

    return assess(image, mask, **options)
