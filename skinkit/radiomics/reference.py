"""PyRadiomics itself, called so that its known faults have no effect.

- As float64: with NumPy 2, 8-bit pixels overflow inside its bin edges once the lesion's levels span more than 205.
- As a 3-D volume of one slice with ``force2D`` along dimension 0: a true 2-D image gets one angle instead of four.
- With spacing 1: a photo's dots per inch are not a pixel spacing.

van Griethuysen et al. 2017, Computational Radiomics System to Decode the Radiographic Phenotype, Cancer Research
77(21), doi:10.1158/0008-5472.CAN-17-0339.
"""

from __future__ import annotations

import logging
import warnings
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from skinkit.errors import ConfigError
from skinkit.radiomics.discretise import Binning
from skinkit.radiomics.names import CLASSES, FEATURE_NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray


def measure(grey: NDArray[np.generic], mask: NDArray[np.bool_], binning: Binning) -> list[float]:
    """The 102 features of one channel, by PyRadiomics.

    Args:
        grey: (H, W), any real type.
        mask: (H, W); must have passed :func:`skinkit.radiomics.lesion.bounding_box`.
        binning: how grey values become levels.
    """
    import SimpleITK as sitk  # noqa: N813 - its usual name

    volume = sitk.GetImageFromArray(np.ascontiguousarray(grey, dtype=np.float64)[np.newaxis])
    label = sitk.GetImageFromArray(np.ascontiguousarray(mask, dtype=np.uint8)[np.newaxis])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a warning turned into an error would become NaN inside PyRadiomics
        values = _extractor(binning).execute(volume, label)
    return [float(values[name]) for name in FEATURE_NAMES]


def installed() -> bool:
    """Whether PyRadiomics is there: it is an extra, which compiles on Python 3.11 alone."""
    return find_spec("radiomics") is not None


def refuse_absence() -> None:
    """Refuse to go on where PyRadiomics is not installed.

    Raises:
        ConfigError: it is not.
    """
    if not installed():
        raise ConfigError(
            "PyRadiomics is asked for and is not installed",
            "Python 3.11 with the extra 'pyradiomics'",
            "leave --engine out: the fast engine has the same values; or install it as README says",
        )


@cache
def _extractor(binning: Binning) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from radiomics.featureextractor import RadiomicsFeatureExtractor

        logging.getLogger("radiomics").setLevel(logging.CRITICAL + 1)
        logging.getLogger("pykwalify").setLevel(logging.CRITICAL + 1)
        extractor = RadiomicsFeatureExtractor(
            binWidth=binning.width,
            binCount=binning.count,
            force2D=True,
            force2Ddimension=0,
            label=1,
            additionalInfo=False,
        )
    extractor.disableAllFeatures()
    for kind in CLASSES:
        extractor.enableFeatureClassByName(kind)
    return extractor
