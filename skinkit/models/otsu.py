"""Otsu threshold, central component: a lesion mask without weights.

Paper:
    N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Transactions on Systems, Man, and
    Cybernetics 9(1), 1979, doi 10.1109/TSMC.1979.4310076. Computed by SimpleITK.

Idea:
    Pigment absorbs blue light, so a lesion is darker than skin in the blue channel. Split the smoothed channel into two
    classes and keep the connected dark region that is large and near the middle of the photo.

Equations:
    (1) t* = argmax_t  w0(t) w1(t) (m0(t) - m1(t))^2                      between-class variance, over the inner disc
    (2) score(R) = sum_{x in R} exp(-|x - c|^2 / (2 (s L)^2))             c image centre, L half its shorter side

Shapes:
    rgb uint8 (H, W, 3) -> bool (H, W).

Departures:
    The threshold is taken over the disc inscribed in the photo, so that the dark corners of a dermatoscope do not
    decide it; components are ranked by eq. 2 instead of by area alone. Holes are filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from skinkit.models.parts.protocol import DrawingRule

if TYPE_CHECKING:
    import numpy as np

CAUTION = (
    "Masks were drawn by Otsu's threshold, a baseline without training: a plain version of it reached a mean IoU of "
    "0.67 on dermoscopic images and 0.25 on phone photos. Look at the outlines before trusting what is measured inside."
)


@dataclass(frozen=True)
class Config:
    """Options of the threshold."""

    work_px: Annotated[int, "longer side while thresholding, pixels"] = 256
    sigma_share: Annotated[float, "Gaussian smoothing, share of the longer side"] = 0.012
    centre_share: Annotated[float, "s of eq. 2: how strongly the middle of the photo is preferred"] = 0.35


class Otsu(DrawingRule):
    """Eqs. 1 and 2."""

    TASK = "segment"
    READS = ("image",)
    CONFIG = Config
    CAUTION = CAUTION

    @staticmethod
    def draw(rgb: np.ndarray, config: Config) -> np.ndarray:
        """The lesion mask of one photo.

        Args:
            rgb: uint8 (H, W, 3).
            config: options.

        Returns:
            bool (H, W); all False where no dark region was found.
        """
        import numpy as np
        import SimpleITK as sitk  # noqa: N813
        from PIL import Image

        height, width = rgb.shape[:2]
        scale = min(1.0, config.work_px / max(height, width))
        small_size = max(8, round(width * scale)), max(8, round(height * scale))
        blue = np.asarray(Image.fromarray(rgb).resize(small_size, Image.Resampling.BOX))[..., 2]
        sigma = config.sigma_share * max(small_size)
        smooth = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(blue.astype(np.float32)), sigma)

        rows, columns = np.indices(blue.shape)
        centre_row, centre_column = (blue.shape[0] - 1) / 2, (blue.shape[1] - 1) / 2
        half = min(blue.shape) / 2
        distance2 = ((rows - centre_row) ** 2 + (columns - centre_column) ** 2) / half**2
        disc = sitk.GetImageFromArray((distance2 <= 1.0).astype(np.uint8))
        otsu = sitk.OtsuThresholdImageFilter()
        otsu.SetInsideValue(1)
        otsu.SetOutsideValue(0)
        otsu.SetMaskOutput(False)
        otsu.SetMaskValue(1)
        otsu.Execute(smooth, disc)  # eq. 1
        # Outside the dermatoscope's field the picture is black: such corners are not skin and not lesion.
        dark = (sitk.GetArrayFromImage(smooth) <= otsu.GetThreshold()) & ~_black_corners(blue)

        opened = sitk.BinaryMorphologicalOpening(sitk.GetImageFromArray(dark.astype(np.uint8)), [2, 2])
        labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(opened))
        if labels.max() == 0:
            return np.zeros((height, width), bool)
        weight = np.exp(-distance2 / (2 * config.centre_share**2))
        scores = np.bincount(labels.ravel(), weights=weight.ravel())  # eq. 2
        scores[0] = 0
        chosen = sitk.GetImageFromArray((labels == scores.argmax()).astype(np.uint8))
        filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(chosen, [3, 3])))
        grown = Image.fromarray(filled * np.uint8(255)).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(grown) > 127


def _black_corners(blue: np.ndarray) -> np.ndarray:
    """Nearly black regions that touch a corner of the picture."""
    import numpy as np
    import SimpleITK as sitk  # noqa: N813

    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray((blue < 30).astype(np.uint8))))
    corners = {int(labels[r, c]) for r in (0, -1) for c in (0, -1)} - {0}
    return np.isin(labels, list(corners))


MODEL = Otsu
