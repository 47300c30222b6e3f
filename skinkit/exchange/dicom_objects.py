"""DICOM objects of one photo: the photo itself, the outline as SEG, and its results as SR (TID 1500).

The SEG and the SR lie in the study of their source image and refer to it by its UID. A photo that is no DICOM file
becomes a VL Photographic Image first, with its decoded pixels, upright. Photos have no frame of reference: a SEG then
has the source's pixel grid. Multi-frame sources are refused (a SEG without a frame of reference refers to one frame).

UIDs are UUIDs (PS3.5 B.2) computed from what an object says, so that the same result is the same object, and another
result another one.

Where a code is needed and no standard one says the same, it is of the private scheme ``99SKINKIT``, and its meaning is
skinkit's own name.
"""

from __future__ import annotations

import hashlib
import io
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from skinkit.errors import CaseError
from skinkit.exchange.fhir import Result
from skinkit.exchange.ibsi import CODES, SCHEME
from skinkit.images import decode
from skinkit.images.dicom import is_dicom
from skinkit.radiomics.names import FEATURE_NAMES

OWN_SCHEME = "99SKINKIT"
NOTICE = "Research software: not a diagnosis"
_MANUFACTURER = "skinkit"
_LONGEST_CODE, _LONGEST_MEANING = 16, 64
_SEX = {"female": "F", "male": "M"}
_UNCERTAINTY = ("entropy", "fold_sd", "uncertainty_variance", "uncertainty_entropy", "unlike_training", "threshold")
_SERIES = {"photo": 8001, "seg": 8002, "sr": 8003}


class Subject(NamedTuple):
    """Whose photo it is; a pseudonym where the cohort has pseudonyms.

    Attributes:
        patient: id.
        accession: number of the exam.
        sex: female, male or None.
        age_years: at the exam, or None.
        keep: whether a source's own patient tags stay, rather than being replaced by these.
    """

    patient: str
    accession: str = ""
    sex: str | None = None
    age_years: float | None = None
    keep: bool = True


def uid(*parts: object) -> str:
    """A UID derived from a UUID: the same parts give the same one."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, chr(0).join(['skinkit dicom', *map(str, parts)])).int}"


def source_image(data: bytes, subject: Subject, study: str) -> Any:
    """The data set of the source image: the file's own, or a VL Photographic Image of the photo.

    Args:
        data: the whole file.
        subject: whose it is.
        study: key of the exam, from which the study of photos without DICOM is derived.

    Raises:
        CaseError: the file cannot be read; ``image_multiframe`` where it has several frames.
    """
    import pydicom

    if not is_dicom(data):
        return _photograph(data, subject, study)
    decode.decode(data)  # refuses what cannot be shown, several frames among it
    with _quiet():
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if "SOPInstanceUID" not in dataset or "StudyInstanceUID" not in dataset:
        raise CaseError("image_unsupported", "a DICOM object without its own UIDs, to which nothing can refer")
    if not subject.keep:
        dataset.PatientName, dataset.PatientID = "", subject.patient
        dataset.AccessionNumber, dataset.PatientBirthDate = subject.accession[:_LONGEST_CODE], ""
        for keyword in ("ReferringPhysicianName", "StudyID"):
            setattr(dataset, keyword, "")
        for keyword in _IDENTIFYING:
            if keyword in dataset:
                delattr(dataset, keyword)
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    return dataset


_TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
           "StudyTime", "ReferringPhysicianName")  # fmt: skip
_IDENTIFYING = ("OtherPatientIDs", "OtherPatientNames", "PatientAddress", "PatientTelephoneNumbers", "PatientComments",
                "OtherPatientIDsSequence", "InstitutionName", "InstitutionAddress", "PatientBirthName",
                "PatientMotherBirthName", "IssuerOfPatientID", "PatientBirthTime", "StudyDescription",
                "EthnicGroup", "Occupation", "AdditionalPatientHistory", "PhysiciansOfRecord",
                "NameOfPhysiciansReadingStudy", "PhysiciansOfRecordIdentificationSequence",
                "ReferringPhysicianIdentificationSequence", "ReferencedPatientSequence",
                "ReferencedStudySequence", "IssuerOfPatientIDQualifiersSequence",
                "IssuerOfAccessionNumberSequence", "AdmissionID", "MedicalAlerts",
                "Allergies")  # fmt: skip
"""Modules of patient and study, which objects made from a source take over."""


def _photograph(data: bytes, subject: Subject, study: str) -> Any:
    """A VL Photographic Image (PS3.3 A.32.4) with the decoded pixels, uncompressed."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import ExplicitVRLittleEndian, VLPhotographicImageStorage

    rgb, _ = decode.decode(data)
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID = VLPhotographicImageStorage
    made.SOPInstanceUID = uid("photo", subject, study, hashlib.sha256(data).hexdigest())
    made.StudyInstanceUID, made.SeriesInstanceUID = uid("study", study), uid("series", "photo", study)
    made.PatientID, made.PatientName, made.PatientBirthDate = subject.patient, "", ""
    made.PatientSex = _SEX.get(subject.sex or "", "")
    if subject.age_years is not None and np.isfinite(subject.age_years):
        made.PatientAge = f"{int(subject.age_years):03d}Y"
    made.AccessionNumber = subject.accession[:_LONGEST_CODE]
    for keyword in ("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(made, keyword, "")
    made.Modality, made.SeriesNumber, made.InstanceNumber = "XC", _SERIES["photo"], 1
    made.Laterality = made.PatientOrientation = ""
    made.Manufacturer = ""
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.AcquisitionContextSequence = Sequence()
    jpeg = data[:2] == b"\xff\xd8"
    made.LossyImageCompression = "01" if jpeg else "00"
    if jpeg:
        made.LossyImageCompressionMethod = "ISO_10918_1"
        made.LossyImageCompressionRatio = f"{rgb.nbytes / len(data):.4g}"
    made.Rows, made.Columns = rgb.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    pixels = rgb.tobytes()
    made.add_new("PixelData", "OB", pixels + b"\0" * (len(pixels) % 2))
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def encoded(dataset: Any) -> bytes:
    """A data set as a file (PS3.10)."""
    stream = io.BytesIO()
    with _quiet():
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings about unusual headers, which quote the patient's values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def segmentation(source: Any, mask: npt.NDArray[np.bool_], segmenter: str, version: str) -> Any:
    """The outline as a binary SEG of one segment, on the pixel grid of the source image.

    Args:
        source: of :func:`source_image`.
        mask: bool (H, W), True is lesion.
        segmenter: what drew it.
        version: of skinkit.

    Raises:
        CaseError: ``mask_size_differs`` from the source's; ``mask_empty``.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    if mask.shape != (source.Rows, source.Columns):
        raise CaseError("mask_size_differs", f"{mask.shape} and {(source.Rows, source.Columns)}")
    if not mask.any():
        raise CaseError("mask_empty", "no pixel is lesion")
    content = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
    by_hand = segmenter == "truth"
    algorithm = hd.AlgorithmIdentificationSequence(
        name=segmenter[:_LONGEST_MEANING], family=codes.DCM.ArtificialIntelligence, version=version, source="skinkit"
    )
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.SkinLesion,
        algorithm_type="MANUAL" if by_hand else "AUTOMATIC",
        algorithm_identification=None if by_hand else algorithm,
        tracking_uid=uid("lesion", source.SOPInstanceUID),
        tracking_id="lesion",
    )
    with _quiet():
        made = hd.seg.Segmentation(
            [source],
            mask[np.newaxis],
            "BINARY",
            [segment],
            uid("series", "seg", source.StudyInstanceUID, source.SOPInstanceUID),
            _SERIES["seg"],
            uid("seg", source.SOPInstanceUID, segmenter, version, content),
            1,
            _MANUFACTURER,
            "skinkit",
            version,
            "0",
            content_label="LESION",
            content_description=NOTICE,
            series_description="Lesion outline",
        )
    made.PatientOrientation = ""  # not known, and required without a frame of reference (PS3.3 C.7.6.1)
    return made


def report(source: Any, outline: Any, result: Result, version: str) -> Any:
    """The results as a Comprehensive SR (TID 1500), preliminary and unverified.

    Args:
        source: of :func:`source_image`.
        outline: of :func:`segmentation`.
        result: of the same photo, with a prediction, features or both.
        version: of skinkit.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    row, prediction = result.row, result.prediction
    model, identity = str(row.get("model") or "none"), str(row.get("model_hash") or "")
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=uid("device", model, identity, version),
        name=model[:_LONGEST_MEANING],
        manufacturer_name=_MANUFACTURER,
        model_name=f"skinkit {version}",
        serial_number=identity[:_LONGEST_MEANING] or None,
    )
    measured = [(name, result.features.get(name)) for name in FEATURE_NAMES]
    numbers = [*(name for name in prediction if name.startswith("p__")), *_UNCERTAINTY]
    measured += [("malignancy", row.get("malignancy")), *((name, prediction.get(name)) for name in numbers)]
    measurements = [
        hd.sr.Measurement(_concept(name, hd), float(value), codes.UCUM.NoUnits)
        for name, value in measured
        if value is not None and np.isfinite(value)
    ]
    said = [("intended_use", hd.sr.CodedConcept("research", OWN_SCHEME, NOTICE))]
    said += [(name, _concept(str(row[name]), hd)) for name in ("call", "top1") if row.get(name)]
    said += [
        (name, hd.sr.CodedConcept.from_code(codes.SCT.Yes if value else codes.SCT.No))
        for name, value in (("veto", prediction.get("veto")), ("refer", row.get("refer")))
        if value is not None
    ]
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid("lesion", source.SOPInstanceUID), "lesion"),
        referenced_segment=hd.sr.ReferencedSegmentationFrame(
            outline.SOPClassUID,
            outline.SOPInstanceUID,
            1,
            1,
            hd.sr.SourceImageForSegmentation(source.SOPClassUID, source.SOPInstanceUID),
        ),
        finding_type=codes.SCT.SkinLesion,
        measurements=measurements,
        qualitative_evaluations=[hd.sr.QualitativeEvaluation(_concept(name, hd), value) for name, value in said],
    )
    for item in group[0].ContentSequence:  # a segment is named by its number or its frames, not by both (PS3.3 10.3)
        for reference in item.get("ReferencedSOPSequence") or ():
            if "ReferencedSegmentNumber" in reference:
                del reference.ReferencedFrameNumber
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=codes.DCM.ExternalCameraPhotography,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=[source],
    )
    says = repr([*measured, *((name, value.value) for name, value in said)])
    with _quiet():
        return hd.sr.ComprehensiveSR(
            [source, outline],
            content,
            uid("series", "sr", source.StudyInstanceUID, source.SOPInstanceUID),
            _SERIES["sr"],
            uid("sr", outline.SOPInstanceUID, identity, version, says),
            1,
            _MANUFACTURER,
            is_complete=True,
            is_final=False,
            series_description="Lesion measurements",
        )


def _concept(name: str, hd: Any) -> Any:
    """A coded concept: the IBSI's of a feature, else one of the private scheme."""
    if name in CODES:
        return hd.sr.CodedConcept(CODES[name], SCHEME, name[:_LONGEST_MEANING])
    short = name if len(name) <= _LONGEST_CODE else hashlib.sha256(name.encode()).hexdigest()[:_LONGEST_CODE]
    return hd.sr.CodedConcept(short, OWN_SCHEME, name[:_LONGEST_MEANING])


def objects(
    data: bytes, subject: Subject, study: str, outline: tuple[npt.NDArray[np.bool_], str], results: Mapping[str, Any]
) -> dict[str, bytes]:
    """The files of one photo: ``photo`` (unless it is DICOM already), ``seg``, and ``sr`` where results are given.

    Args:
        data: bytes of the photo's file.
        subject: whose it is.
        study: key of the exam.
        outline: mask, and what drew it.
        results: ``result`` for the report or None, ``version`` of skinkit.

    Raises:
        CaseError: as :func:`source_image` and :func:`segmentation`.
    """
    source = source_image(data, subject, study)
    try:
        drawn = segmentation(source, *outline, results["version"])
    except (ValueError, TypeError, AttributeError, KeyError) as error:  # a message may quote the header
        raise CaseError("image_unsupported", f"no SEG can refer to this DICOM object: {type(error).__name__}") from None
    made = {} if is_dicom(data) else {"photo": encoded(source)}
    made["seg"] = encoded(drawn)
    if results.get("result") is not None:
        made["sr"] = encoded(report(source, drawn, results["result"], results["version"]))
    return made
