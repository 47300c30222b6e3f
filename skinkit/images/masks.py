"""Lesion masks as arrays: the largest region, the overlap of two masks, and an outline that knows nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
SMALLEST_SHARE, LARGEST_SHARE = 0.005, 0.98
"""Smallest and largest share of the image a drawn mask may cover, else it failed; a person's may cover any."""


def one_region(mask: Mask) -> Mask:
    """The largest connected region of a mask with its holes filled; all False for an empty mask.

    Args:
        mask: bool (H, W).

    Returns:
        bool (H, W); pixels that share an edge are connected, and of equally large regions the first is kept.
    """
    from scipy import ndimage

    labels, n = ndimage.label(mask)
    whole = np.zeros_like(mask)
    if n == 0:
        return whole
    sizes = np.bincount(labels.ravel())
    chosen = int(sizes[1:].argmax()) + 1
    box = ndimage.find_objects(labels)[chosen - 1]
    region = labels[box] == chosen
    # Background not connected to the outside of the bounding box is a hole; the one-pixel border joins the outside.
    outside, _ = ndimage.label(np.pad(~region, 1, constant_values=True))
    whole[box] = (outside != outside[0, 0])[1:-1, 1:-1]
    return whole


def agreement(mask: Mask, truth: Mask) -> dict[str, float]:
    """Dice 2|A.B| / (|A| + |B|) and IoU |A.B| / |A+B|; both 1 where both masks are empty."""
    both, either = int((mask & truth).sum()), int((mask | truth).sum())
    if either == 0:
        return {"dice": 1.0, "iou": 1.0}
    return {"dice": 2 * both / (int(mask.sum()) + int(truth.sum())), "iou": both / either}


def centred_ellipse(shape: tuple[int, int], area_px: int) -> Mask:
    """The ellipse of an area in the middle of a photo, with the photo's proportions: where a lesion mostly lies.

    Args:
        shape: (H, W) of the photo.
        area_px: pixels of the ellipse. One that would reach beyond the photo (of more than pi / 4 of it) is cut, and
            grows until the area is right.

    Returns:
        bool (H, W), True at exactly that many pixels.
    """
    inside = np.zeros(shape[0] * shape[1], bool)
    inside[from_centre(shape).ravel().argsort(kind="stable")[:area_px]] = True
    return inside.reshape(shape)


def from_centre(shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(H, W) squared distance of each pixel from the middle, in sides of the photo."""
    y, x = ((np.arange(side) + 0.5) / side - 0.5 for side in shape)
    squared: npt.NDArray[np.float64] = y[:, None] ** 2 + x[None] ** 2
    return squared
