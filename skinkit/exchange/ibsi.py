"""Codes of the Image Biomarker Standardisation Initiative for radiomic features.

Source: IBSI reference manual (arXiv 1612.07003), whose features have permanent four-character ids. Listed are features
whose definition is the one in PyRadiomics. Without a code are the shape features (IBSI defines them for volumes),
``TotalEnergy``, and ``Kurtosis``, which is 3 larger than the IBSI's.
"""

from __future__ import annotations

SCHEME, SYSTEM = "IBSI", "https://ibsi.readthedocs.io"
"""The coding scheme as DICOM names it, and as a URI for FHIR."""

CODES: dict[str, str] = {
    f"original_{kind}_{name}": code
    for kind, codes in {
        "firstorder": {
            "10Percentile": "QG58", "90Percentile": "8DWT", "Energy": "N8CA", "Entropy": "TLU2",
            "InterquartileRange": "SALO", "Maximum": "84IY", "MeanAbsoluteDeviation": "4FUA", "Mean": "Q4LE",
            "Median": "Y12H", "Minimum": "1GSF", "Range": "2OJQ", "RobustMeanAbsoluteDeviation": "1128",
            "RootMeanSquared": "5ZWQ", "Skewness": "KE2A", "Uniformity": "BJ5W", "Variance": "ECT3",
        },
        "glcm": {
            "Autocorrelation": "QWB0", "ClusterProminence": "AE86", "ClusterShade": "7NFM", "ClusterTendency": "DG8W",
            "Contrast": "ACUI", "Correlation": "NI2N", "DifferenceAverage": "TF7R", "DifferenceEntropy": "NTRS",
            "DifferenceVariance": "D3YU", "Id": "IB1Z", "Idm": "WF0Z", "Idmn": "1QCO", "Idn": "NDRX", "Imc1": "R8DG",
            "Imc2": "JN9H", "InverseVariance": "E8JP", "JointAverage": "60VM", "JointEnergy": "8ZQL",
            "JointEntropy": "TU9B", "MaximumProbability": "GYBY", "SumAverage": "ZGXS", "SumEntropy": "P6QZ",
            "SumSquares": "UR99",
        },
        "glrlm": {
            "GrayLevelNonUniformity": "R5YN", "GrayLevelNonUniformityNormalized": "OVBL", "GrayLevelVariance": "8CE5",
            "HighGrayLevelRunEmphasis": "G3QZ", "LongRunEmphasis": "W4KF", "LongRunHighGrayLevelEmphasis": "3KUM",
            "LongRunLowGrayLevelEmphasis": "IVPO", "LowGrayLevelRunEmphasis": "V3SW", "RunEntropy": "HJ9O",
            "RunLengthNonUniformity": "W92Y", "RunLengthNonUniformityNormalized": "IC23", "RunPercentage": "9ZK5",
            "RunVariance": "SXLW", "ShortRunEmphasis": "22OV", "ShortRunHighGrayLevelEmphasis": "GD3A",
            "ShortRunLowGrayLevelEmphasis": "HTZT",
        },
        "glszm": {
            "GrayLevelNonUniformity": "JNSA", "GrayLevelNonUniformityNormalized": "Y1RO", "GrayLevelVariance": "BYLV",
            "HighGrayLevelZoneEmphasis": "5GN9", "LargeAreaEmphasis": "48P8", "LargeAreaHighGrayLevelEmphasis": "J17V",
            "LargeAreaLowGrayLevelEmphasis": "YH51", "LowGrayLevelZoneEmphasis": "XMSY",
            "SizeZoneNonUniformity": "4JP3", "SizeZoneNonUniformityNormalized": "VB3A", "SmallAreaEmphasis": "5QRC",
            "SmallAreaHighGrayLevelEmphasis": "HW1V", "SmallAreaLowGrayLevelEmphasis": "5RAI", "ZoneEntropy": "GU8N",
            "ZonePercentage": "P30P", "ZoneVariance": "3NSA",
        },
        "gldm": {
            "DependenceEntropy": "FCBV", "DependenceNonUniformity": "Z87G", "DependenceNonUniformityNormalized": "OKJI",
            "DependenceVariance": "DNX2", "GrayLevelNonUniformity": "FP8K", "GrayLevelVariance": "1PFV",
            "HighGrayLevelEmphasis": "OAE7", "LargeDependenceEmphasis": "IMOQ",
            "LargeDependenceHighGrayLevelEmphasis": "9QMG", "LargeDependenceLowGrayLevelEmphasis": "NBZI",
            "LowGrayLevelEmphasis": "TL9H", "SmallDependenceEmphasis": "SODN",
            "SmallDependenceHighGrayLevelEmphasis": "JA6D", "SmallDependenceLowGrayLevelEmphasis": "EQ3F",
        },
        "ngtdm": {
            "Busyness": "NQ30", "Coarseness": "QCDE", "Complexity": "HDEZ", "Contrast": "65HE", "Strength": "1X9X",
        },
    }.items()
    for name, code in codes.items()
}  # fmt: skip
"""Feature -> id."""
