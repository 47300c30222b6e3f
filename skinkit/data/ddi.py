"""DDI, the Diverse Dermatology Images: 656 clinical photos, biopsied, with skin tones (Daneshjou et al. 2022).

As downloaded: ``ddi_metadata.csv`` beside the images. ``skin_tone`` is a pair of Fitzpatrick types (12, 34 or 56) and
stays as it is: no single type is known. Diseases beyond those of our diagnoses are unknown and counted.
"""

from __future__ import annotations

from skinkit.data.source import Arrangement, Source

SOURCE = Source(
    name="ddi",
    title="DDI, clinical photos of diverse skin tones",
    citation=(
        "R. Daneshjou et al., Disparities in dermatology AI performance on a diverse, curated clinical image set, "
        "Science Advances 8(32), eabq6147, 2022, doi 10.1126/sciadv.abq6147"
    ),
    licence="Stanford University Dataset Research Use Agreement",
    parts=(Arrangement(tables=("**/ddi_metadata.csv",)),),
    columns={"image": "DDI_file", "diagnosis": "disease"},
    required=("image", "diagnosis"),
    words=True,
    extra={"skin_tone": "skin_tone"},
    constants={"modality": "clinical", "confirmed_by": "histopathology"},
)
