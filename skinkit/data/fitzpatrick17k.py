"""Fitzpatrick17k: 16,577 clinical photos from two atlases with skin types and 114 conditions (Groh et al. 2021).

As downloaded: ``fitzpatrick17k.csv``, whose ``md5hash`` is the name of each photo, which is downloaded from ``url``.
Type -1 means unknown. Diagnoses are those of the atlases, not confirmed; conditions beyond our diagnoses are unknown
and counted.
"""

from __future__ import annotations

from skinkit.data.source import Arrangement, Source

SOURCE = Source(
    name="fitzpatrick17k",
    title="Fitzpatrick17k, clinical photos from atlases with skin types",
    citation=(
        "M. Groh et al., Evaluating Deep Neural Networks Trained on Clinical Images in Dermatology with the "
        "Fitzpatrick 17k Dataset, CVPR Workshops 2021, arXiv:2104.09957"
    ),
    licence="CC BY-NC-SA 3.0",
    parts=(Arrangement(tables=("**/fitzpatrick17k.csv",)),),
    columns={"image": "md5hash", "diagnosis": "label", "fitzpatrick": "fitzpatrick_scale"},
    required=("image", "diagnosis"),
    words=True,
    values={"diagnosis": {"lentigo maligna": "melanoma"}, "fitzpatrick": {"-1": ""}},
    constants={"modality": "clinical"},
)
