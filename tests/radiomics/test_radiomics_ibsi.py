"""The digital phantom of the Image Biomarker Standardisation Initiative, and numbers worked by hand.

Zwanenburg et al. 2020, Radiology 295(2), doi:10.1148/radiol.2020191145; reference values of the IBSI reference manual
(arXiv:1612.07003), aggregation "2D, averaged": every slice, and every angle of a slice, gives a matrix, and its
features are averaged. Values are printed there with three digits.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from skinkit.radiomics import ENGINES, extract

# Four slices of five columns and four rows; '.' lies outside the region, 74 voxels lie inside.
PHANTOM = """
14411 14411 144.. 144..
14611 11611 11111 11111
41641 .1311 11.11 11111
44641 44611 11611 11611
"""

TEXTURE_2D = {
    "glcm": {
        "MaximumProbability": 0.519,
        "JointAverage": 2.14,
        "SumSquares": 2.69,  # joint variance
        "JointEntropy": 2.05,
        "DifferenceAverage": 1.42,
        "DifferenceVariance": 2.90,
        "DifferenceEntropy": 1.40,
        "SumAverage": 4.28,
        "SumEntropy": 1.60,
        "JointEnergy": 0.368,  # angular second moment
        "Contrast": 5.28,
        "Id": 0.678,
        "Idn": 0.851,
        "Idm": 0.619,
        "Idmn": 0.899,
        "InverseVariance": 0.0567,
        "Correlation": -0.0121,
        "Autocorrelation": 5.09,
        "ClusterTendency": 5.47,
        "ClusterShade": 7.00,
        "ClusterProminence": 79.1,
        "Imc1": -0.155,
        "Imc2": 0.487,
    },
    "glrlm": {
        "ShortRunEmphasis": 0.641,
        "LongRunEmphasis": 3.78,
        "LowGrayLevelRunEmphasis": 0.604,
        "HighGrayLevelRunEmphasis": 9.82,
        "ShortRunLowGrayLevelEmphasis": 0.294,
        "ShortRunHighGrayLevelEmphasis": 8.57,
        "LongRunLowGrayLevelEmphasis": 3.14,
        "LongRunHighGrayLevelEmphasis": 17.4,
        "GrayLevelNonUniformity": 5.20,
        "GrayLevelNonUniformityNormalized": 0.460,
        "RunLengthNonUniformity": 6.12,
        "RunLengthNonUniformityNormalized": 0.492,
        "RunPercentage": 0.627,
        "GrayLevelVariance": 3.35,
        "RunVariance": 0.761,
        "RunEntropy": 2.17,
    },
    "glszm": {
        "SmallAreaEmphasis": 0.363,
        "LargeAreaEmphasis": 43.9,
        "LowGrayLevelZoneEmphasis": 0.371,
        "HighGrayLevelZoneEmphasis": 16.4,
        "SmallAreaLowGrayLevelEmphasis": 0.0259,
        "SmallAreaHighGrayLevelEmphasis": 10.3,
        "LargeAreaLowGrayLevelEmphasis": 40.4,
        "LargeAreaHighGrayLevelEmphasis": 113,
        "GrayLevelNonUniformity": 1.41,
        "GrayLevelNonUniformityNormalized": 0.323,
        "SizeZoneNonUniformity": 1.49,
        "SizeZoneNonUniformityNormalized": 0.333,
        "ZonePercentage": 0.240,
        "GrayLevelVariance": 3.97,
        "ZoneVariance": 21.0,
        "ZoneEntropy": 1.93,
    },
    "gldm": {  # IBSI: neighbouring grey level dependence, with alpha 0
        "SmallDependenceEmphasis": 0.158,
        "LargeDependenceEmphasis": 19.2,
        "LowGrayLevelEmphasis": 0.702,
        "HighGrayLevelEmphasis": 7.49,
        "SmallDependenceLowGrayLevelEmphasis": 0.0473,
        "SmallDependenceHighGrayLevelEmphasis": 3.06,
        "LargeDependenceLowGrayLevelEmphasis": 17.6,
        "LargeDependenceHighGrayLevelEmphasis": 49.5,
        "GrayLevelNonUniformity": 10.2,
        "DependenceNonUniformity": 3.96,
        "DependenceNonUniformityNormalized": 0.212,
        "GrayLevelVariance": 2.70,
        "DependenceVariance": 2.73,
        "DependenceEntropy": 2.71,
    },
    "ngtdm": {"Coarseness": 0.121, "Contrast": 0.925, "Busyness": 2.99, "Complexity": 10.4, "Strength": 2.88},
}

# Statistics of the grey levels do not ask where a voxel lies, so the slices may stand side by side.
STATISTICS = {
    "Mean": 2.15,
    "Variance": 3.05,
    "Skewness": 1.08,
    "Kurtosis": -0.355 + 3,  # IBSI subtracts 3
    "Median": 1,
    "Minimum": 1,
    "10Percentile": 1,
    "90Percentile": 4,
    "Maximum": 6,
    "InterquartileRange": 3,
    "Range": 5,
    "MeanAbsoluteDeviation": 1.55,
    "RobustMeanAbsoluteDeviation": 1.11,
    "Energy": 567,
    "RootMeanSquared": 2.77,
    "Entropy": 1.27,  # of the intensity histogram
    "Uniformity": 0.512,
}


def phantom_slices() -> list[NDArray[np.uint8]]:
    rows = [row.split() for row in PHANTOM.split("\n") if row]
    return [
        np.array([[0 if voxel == "." else int(voxel) for voxel in row[z]] for row in rows], dtype=np.uint8)
        for z in range(4)
    ]


def of_levels(levels: NDArray[np.uint8], engine: str) -> dict[str, float]:
    """Features of an image of levels 1, 2, ...; 0 is outside."""
    image = np.pad(levels, 1)
    return extract(image, image > 0, bin_width=1, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_texture_of_the_phantom(engine: str) -> None:
    slices = [of_levels(levels, engine) for levels in phantom_slices()]
    for kind, expected in TEXTURE_2D.items():
        for name, value in expected.items():
            mean = np.mean([features[f"original_{kind}_{name}"] for features in slices])
            assert float(f"{mean:.3g}") == pytest.approx(value), f"{kind} {name}"


@pytest.mark.parametrize("engine", ENGINES)
def test_statistics_of_the_phantom(engine: str) -> None:
    levels = np.hstack(phantom_slices())
    assert (levels > 0).sum() == 74
    features = of_levels(levels, engine)
    for name, value in STATISTICS.items():
        assert features[f"original_firstorder_{name}"] == pytest.approx(value, rel=5e-3), name


def test_bins_start_at_zero_not_at_the_minimum() -> None:
    # IBSI's fixed bin size would start at 20 and put both values into one bin of 25.
    image = np.full((6, 6), 20, dtype=np.uint8)
    image[:, 3:] = 30
    mask = np.zeros((6, 6), dtype=bool)
    mask[1:5, 1:5] = True
    assert extract(image, mask)["original_firstorder_Entropy"] == pytest.approx(1)


def test_shape_of_a_square_by_hand() -> None:
    mask = np.zeros((7, 8), dtype=bool)
    mask[2:5, 2:5] = True
    shape = extract(np.full((7, 8), 9, dtype=np.uint8), mask)
    area, perimeter = 9 - 4 / 8, 4 * 2 + 4 * 0.5**0.5  # four corners are cut off, at 45 degrees
    expected = {
        "PixelSurface": 9,
        "MeshSurface": area,
        "Perimeter": perimeter,
        "PerimeterSurfaceRatio": perimeter / area,
        "Sphericity": 2 * (np.pi * area) ** 0.5 / perimeter,
        "MaximumDiameter": (3**2 + 2**2) ** 0.5,  # from (-0.5, 0) to (2.5, 2)
        "MajorAxisLength": 4 * (2 / 3) ** 0.5,  # variance of -1, 0, 1
        "MinorAxisLength": 4 * (2 / 3) ** 0.5,
        "Elongation": 1,
    }
    for name, value in expected.items():
        assert shape[f"original_shape2D_{name}"] == pytest.approx(value), name


def test_a_checkerboard_by_hand() -> None:
    y, x = np.mgrid[:6, :6]
    image = np.where((y + x) % 2, 30, 20).astype(np.uint8)  # levels 2 and 1
    mask = np.zeros((6, 6), dtype=bool)
    mask[1:5, 1:5] = True
    f = extract(image, mask)
    # Along rows and columns every pair is (1, 2), along diagonals every pair is (1, 1) or (2, 2).
    assert f["original_glcm_Contrast"] == pytest.approx((1 + 1 + 0 + 0) / 4)
    assert f["original_glcm_MaximumProbability"] == pytest.approx((0.5 + 0.5 + 5 / 9 + 5 / 9) / 4)
    # Rows and columns: 16 runs of 1. A diagonal: runs of 1, 2, 3, 4, 3, 2, 1, mean square 44 / 7.
    assert f["original_glrlm_LongRunEmphasis"] == pytest.approx((1 + 1 + 44 / 7 + 44 / 7) / 4)
    # Each level is one zone of 8 pixels, for diagonals connect.
    assert f["original_glszm_ZonePercentage"] == pytest.approx(2 / 16)
    assert f["original_glszm_LargeAreaEmphasis"] == pytest.approx(64)
    # 4 pixels have 4 alike neighbours, 8 on the sides 2, 4 in the corners 1: dependence 5, 3, 2.
    assert f["original_gldm_LargeDependenceEmphasis"] == pytest.approx((4 * 25 + 8 * 9 + 4 * 4) / 16)
    # Each level: 2 inner pixels differ by 1/2, 4 on the sides by 3/5, 2 in the corners by 2/3.
    s = 2 / 2 + 4 * 3 / 5 + 2 * 2 / 3
    assert f["original_ngtdm_Coarseness"] == pytest.approx(1 / s)
