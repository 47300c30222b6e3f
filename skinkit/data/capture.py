"""capture: records of the photo page ('skinkit capture') that are sealed and may be learnt from.

Other records are counted by the reason why they are not read: not sealed, no consent to train, consent expired,
withdrawn, changed after sealing, damaged. Ids are pseudonyms already, by the cohort's key; a patient has the same one
in every cohort with that key and ``id_space``. Solar lentigo counts as seborrheic keratosis, as in PAD-UFES-20, with a
flag. A record's mask is its truth mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from skinkit.data.capture_records import SOURCE_NAME, UNKNOWN, readable
from skinkit.data.source import Arrangement, Source
from skinkit.taxonomy import SYMPTOMS
from skinkit.workspace import Cohort

SEAL = "seal__photo_sha256"
"""Column of a case with the hash that its photo had when the record was sealed."""
_KEPT = ("device_make", "device_model", "ethnicity", "verdict")


def _configure(source: Source, cohort: Cohort) -> Source:
    """The source with the records that are to be read now."""
    root = Path(str(cohort.root))
    records, left_out = readable(root)
    return replace(
        source,
        listed={path: cells_of(record) for path, record in records.items()},
        left_out=dict(left_out),
        files=tuple(f"records/{record['record_id']}.json" for record in records.values()),
    )


def cells_of(record: Mapping[str, Any]) -> dict[str, str]:
    """A sealed record as the cells of a row; empty for unknown."""
    device = record["device"]
    values: dict[str, Any] = {
        "record": record["record_id"],
        "mask": record["mask_path"],
        "patient": record["patient_key"],
        "lesion": record["lesion_key"],
        "diagnosis": record["diagnosis"],
        "confirmed_by": record["diagnosis_source"],
        "age_years": record["age"],
        "sex": record["sex"] if record["sex"] in ("female", "male") else None,
        "region": None if record["site"] == UNKNOWN else record["site"],
        "fitzpatrick": None if record["fitzpatrick"] == UNKNOWN else record["fitzpatrick"],
        **record["symptoms"],
        "photo_sha256": record["photo"]["sha256"],
        "device_make": device["make"],
        "device_model": device["model"],
        "ethnicity": record["ethnicity"],
        "verdict": record["verdict"],
    }
    return {name: "" if value is None else str(value) for name, value in values.items()}


SOURCE = Source(
    name=SOURCE_NAME,
    title="records of the photo page",
    parts=(Arrangement(),),
    images=("photos/*",),
    columns={
        "image": "image",
        "image_id": "record",
        "mask": "mask",
        "patient_id": "patient",
        "lesion_id": "lesion",
        "diagnosis": "diagnosis",
        "confirmed_by": "confirmed_by",
        "age_years": "age_years",
        "sex": "sex",
        "region": "region",
        "fitzpatrick": "fitzpatrick",
        **{name: name for name in SYMPTOMS},
    },
    values={
        "diagnosis": {"solar_lentigo": "seborrheic_keratosis"},
        "confirmed_by": {"histology": "histopathology"},
    },
    constants={"modality": "clinical"},
    extra={SEAL: "photo_sha256", **{f"keep__{name}": name for name in _KEPT}},
    flags={"diagnosis": ("^solar_lentigo$", "solar_lentigo")},
    masks=("masks/*",),
    configure=_configure,
    pseudonymous=True,
)
