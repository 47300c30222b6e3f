"""ISIC 2020: 33,126 training images of 2,056 patients, 584 of them melanomas, and 10,982 test images without labels.

As downloaded: ``ISIC_2020_Training_GroundTruth.csv`` (or ``_v2``, which adds lesions, or Kaggle's ``train.csv``) beside
``train/*.jpg``; ``ISIC_2020_Test_Metadata.csv`` (``test.csv``) beside ``ISIC_2020_Test_Input/*.jpg``. The diagnosis of
27,124 training images is unknown: the challenge labels them benign without a diagnosis. They are predicted, but neither
trained on nor scored.
"""

from __future__ import annotations

from skinkit.data.isic_archive import COLUMNS, VALUES, with_our_headings
from skinkit.data.source import Arrangement, Source

_TRAIN = ("**/train/**/*", "**/ISIC_2020_Training_*/**/*", "images/**/*")
_TEST = ("**/ISIC_2020_Test_Input/**/*", "**/test/**/*", "images/**/*")

SOURCE = Source(
    name="isic-2020",
    title="ISIC 2020, dermoscopic images with patients",
    citation=(
        "V. Rotemberg et al., A patient-centric dataset of images and metadata for identifying melanomas using "
        "clinical context, Scientific Data 8, 34, 2021, doi 10.1038/s41597-021-00815-z; data doi 10.34970/2020-ds01"
    ),
    licence="CC BY-NC 4.0",
    parts=(
        Arrangement("training", tables=("**/ISIC_2020_Training_GroundTruth_v2.csv",), images=_TRAIN),
        Arrangement("training", tables=("**/ISIC_2020_Training_GroundTruth.csv",), images=_TRAIN),
        Arrangement("training", tables=("**/train.csv",), images=_TRAIN),
        Arrangement("test", tables=("**/ISIC_2020_Test_Metadata.csv",), images=_TEST),
        Arrangement("test", tables=("**/test.csv",), images=_TEST),
    ),
    columns=COLUMNS,
    values=VALUES,
    constants={"modality": "dermoscopic"},
    id_space="isic",
    rows=with_our_headings,
)
