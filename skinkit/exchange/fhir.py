"""Results as FHIR: one transaction Bundle that a server can take as often as it is sent.

Every entry is a PUT under a logical id that is computed from the cohort and the pseudonym. Sent twice, a resource is
what it was; sent with other content, it is a new version of the same resource. Patients go by their pseudonyms alone.

*R4 and R5.* R4 is 4.0.1. R5 differs here in four places: the modality of an ImagingStudy, the studies of a
DiagnosticReport, the name of a Device, and how a Device that is software says so.

*Changes.* A corrected row of a delivery is a report with the status ``corrected``, a withdrawn one has the status
``entered-in-error``, and so have its Observations. A case without a prediction is ``registered`` while it waits, else
``cancelled``; its Observations then say why they have no value.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from skinkit.artifacts.files import digest
from skinkit.exchange.ibsi import CODES, SYSTEM
from skinkit.radiomics.names import FEATURE_NAMES
from skinkit.reporting.delivery import CORRECTED, WITHDRAWN
from skinkit.schemas import IMAGE, OK, PENDING

Release = Literal["R4", "R5"]
Resource = dict[str, Any]
TAG = "skinkit"
NOTICE = "Research software: not a diagnosis, and no medical device. A dermatologist has to look at the lesion."
_SYSTEM = "urn:uuid:{}"
_ID_DIGITS = 40
_UNIT = {"system": "http://unitsofmeasure.org", "code": "1"}
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_PREDICTION, _RADIOMICS = "prediction", "radiomics"
_PROBABILITIES = "p__"
"""Begins the columns of the probabilities of every task."""
_UNCERTAINTY = (
    "entropy", "fold_sd", "uncertainty_variance", "uncertainty_entropy", "uncertainty_mutual_information",
    "unlike_training", "threshold", "malignancy_raw",
)  # fmt: skip


class Result(NamedTuple):
    """What a bundle says of one case, lesion or patient.

    Attributes:
        row: of a delivery.
        prediction: of the predictions table; empty without one.
        features: radiomic feature -> value; empty without any.
    """

    row: Mapping[str, Any]
    prediction: Mapping[str, Any] = {}
    features: Mapping[str, float] = {}


def bundle(results: Iterable[Result], release: Release, version: str) -> Resource:
    """A transaction Bundle: the patients, studies and devices named, then Observations and reports.

    Args:
        results: of one cohort or several.
        release: of FHIR.
        version: of skinkit.
    """
    resources: dict[tuple[str, str], Resource] = {}
    for result in results:
        for resource in _resources(result, release, version):
            resources.setdefault((resource["resourceType"], resource["id"]), resource)
    return {
        "resourceType": "Bundle",
        "meta": {"tag": [{"system": _system("tag"), "code": TAG}]},
        "type": "transaction",
        "entry": [
            {
                "fullUrl": _SYSTEM.format(_uuid(kind, name)),
                "resource": resource,
                "request": {"method": "PUT", "url": f"{kind}/{name}"},
            }
            for (kind, name), resource in sorted(resources.items(), key=lambda item: _ORDER.index(item[0][0]))
        ],
    }


def encoded(resource: Resource) -> bytes:
    """A resource as JSON, without NaN."""
    return json.dumps(resource, ensure_ascii=False, indent=1, allow_nan=False).encode()


def is_bundle(head: bytes) -> bool:
    """Whether a file begins as :func:`bundle` and :func:`encoded` write it."""
    begins = b'{\n "resourceType": "Bundle",\n "meta": {\n  "tag": [\n   {\n    "system": "' + _system("tag").encode()
    return head.startswith(begins)


_ORDER = ("Patient", "Device", "ImagingStudy", "Observation", "DiagnosticReport")


def _uuid(*parts: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, "\0".join(("skinkit", *parts)))


def _system(what: str) -> str:
    """URI of the ids of a kind: a UUID of its own, because nobody has registered one."""
    return _SYSTEM.format(_uuid("system", what))


def _id(*parts: object) -> str:
    """The logical id of a resource: at most 64 letters and digits."""
    return digest([str(part) for part in parts])[:_ID_DIGITS]


def _reference(kind: str, name: str) -> Resource:
    return {"reference": f"{kind}/{name}"}


def _text(text: str) -> Resource:
    return {"text": text}


def _resources(result: Result, release: Release, version: str) -> Iterator[Resource]:
    row = result.row
    cohort, level = str(row["cohort"]), str(row["level"])
    unit = str(row["case"] if level == IMAGE else row[level])
    # A case without a patient is a patient of its own, as everywhere else.
    patient = _id("patient", cohort, row["patient"] or unit)
    study = _id("study", cohort, row["accession"] or unit)
    report, subject = _id("report", cohort, level, unit), _reference("Patient", patient)
    device = _id("device", row["model"], row["model_hash"]) if row.get("model_hash") else ""
    gone = row["change"] == WITHDRAWN
    if not gone:  # of a withdrawn one the patient and the study stay as the server has them: others may share them
        yield {
            "resourceType": "Patient",
            "id": patient,
            "identifier": [{"system": _system(f"patient {cohort}"), "value": str(row["patient"] or unit)}],
        }
        yield _study(study, row, subject, cohort, release)
    if device:
        yield _device(device, row, release, version)
    observations = []
    for kind, components in ((_PREDICTION, _predicted(result)), (_RADIOMICS, _measured(result))):
        name = _id("observation", kind, cohort, level, unit)
        observations.append(_reference("Observation", name))
        yield {
            "resourceType": "Observation",
            "id": name,
            "status": _status(row, with_value=bool(components)),
            "category": [_category("observation-category", "imaging", "Imaging")],
            "code": _text("Lesion classification" if kind == _PREDICTION else "Radiomic features of the lesion"),
            "subject": subject,
            **({"device": _reference("Device", device)} if device else {}),
            **({"component": components} if components else {"dataAbsentReason": _absent(row)}),
            **({} if gone else {"note": [_text(NOTICE)]}),
        }
    yield {
        "resourceType": "DiagnosticReport",
        "id": report,
        "identifier": [{"system": _system(f"{level} {cohort}"), "value": unit}],
        "status": _status(row, with_value=row["status"] == OK),
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "IMG"}]}],
        "code": _text("Skin lesion classification by research software"),
        "subject": subject,
        "study" if release == "R5" else "imagingStudy": [_reference("ImagingStudy", study)],
        "result": observations,
        "conclusion": _conclusion(row),
    }


def _status(row: Mapping[str, Any], *, with_value: bool) -> str:
    if row["change"] == WITHDRAWN:
        return "entered-in-error"
    if not with_value:
        return "registered" if row["status"] == PENDING else "cancelled"
    return "corrected" if row["change"] == CORRECTED else "preliminary"


def _absent(row: Mapping[str, Any]) -> Resource:
    waiting = row["status"] == PENDING
    code = "temp-unknown" if waiting else "error" if row["status"] != OK else "not-performed"
    reason = {"text": str(row["reason"])} if row.get("reason") and row["status"] != OK else {}
    return {"coding": [{"system": _ABSENT, "code": code}], **reason}


def _conclusion(row: Mapping[str, Any]) -> str:
    if row["change"] == WITHDRAWN:
        return f"Withdrawn: the photo or its case is no longer there. {NOTICE}"
    if row["status"] != OK:
        return f"No prediction ({row['status']}: {row['reason']}). {NOTICE}"
    refer = f"; refer to a dermatologist: {row['reason'] or 'yes'}" if row["refer"] else ""
    return (
        f"Malignancy {row['malignancy']:.3f}, called {row['call']}; most probable class {row['top1']} "
        f"({row['top1_p']:.3f}){refer}. {NOTICE}"
    )


def _category(system: str, code: str, display: str) -> Resource:
    uri = f"http://terminology.hl7.org/CodeSystem/{system}"
    return {"coding": [{"system": uri, "code": code, "display": display}]}


def _study(name: str, row: Mapping[str, Any], subject: Resource, cohort: str, release: Release) -> Resource:
    """The photos' study. Photos have no study of their own in FHIR's sense: modality XC, external camera."""
    xc = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "XC"}
    return {
        "resourceType": "ImagingStudy",
        "id": name,
        "identifier": [{"system": _system(f"accession {cohort}"), "value": str(row["accession"] or row["case"])}],
        "status": "available",
        "modality": [{"coding": [xc]}] if release == "R5" else [xc],
        "subject": subject,
    }


def _device(name: str, row: Mapping[str, Any], release: Release, version: str) -> Resource:
    """The model that answered, with the identity of its artifact; its settings and weights follow from that."""
    called = str(row["model"])
    named: Resource = (
        {"name": [{"value": called, "type": "user-friendly-name"}]}
        if release == "R5"
        else {"deviceName": [{"name": called, "type": "user-friendly-name"}]}
    )
    kind = _text("Research software (skinkit model)")
    return {
        "resourceType": "Device",
        "id": name,
        "identifier": [{"system": _system("model"), "value": str(row["model_hash"])}],
        "status": "active",
        **named,
        "type": [kind] if release == "R5" else kind,
        "version": [{"type": _text("skinkit"), "value": str(row.get("skinkit") or version)}],
        "note": [_text(NOTICE)],
    }


def _quantity(code: Resource, value: float) -> Resource:
    return {"code": code, "valueQuantity": {"value": float(value), **_UNIT}}


def _predicted(result: Result) -> list[Resource]:
    """Malignancy, call, veto, probabilities and uncertainty of a prediction."""
    row, prediction = result.row, result.prediction
    if row["status"] != OK or row["change"] == WITHDRAWN:
        return []
    parts = [_quantity(_text("malignancy"), row["malignancy"])]
    parts += [{"code": _text(name), "valueString": str(row[name])} for name in ("call", "top1") if row[name]]
    veto = prediction.get("veto")
    parts += [
        {"code": _text(name), "valueBoolean": bool(value)}
        for name, value in (("veto", veto), ("refer", row["refer"]))
        if value is not None
    ]
    numbers = [*(name for name in prediction if name.startswith(_PROBABILITIES)), *_UNCERTAINTY]
    return parts + [_quantity(_text(name), prediction[name]) for name in numbers if _known(prediction.get(name))]


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _measured(result: Result) -> list[Resource]:
    """Radiomic features, under the IBSI's codes where it has one."""
    if result.row["change"] == WITHDRAWN:
        return []
    return [
        _quantity(
            {"coding": [{"system": SYSTEM, "code": CODES[name]}], "text": name} if name in CODES else _text(name),
            result.features[name],
        )
        for name in FEATURE_NAMES
        if _known(result.features.get(name))
    ]
