"""DICOM objects, opened by other programs: dciodvfy, pydicom, SimpleITK and highdicom."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from written_artifacts import make_workspace, write

from skinkit.cli import main
from skinkit.errors import CaseError
from skinkit.exchange import dicom_objects
from skinkit.exchange.dicom_objects import Subject
from skinkit.exchange.fhir import Result
from skinkit.images.dicom import is_dicom
from skinkit.images.encode import png_bytes
from skinkit.radiomics.names import FEATURE_NAMES
from skinkit.workspace import Ref

pytest.importorskip("highdicom", reason="pip install 'skinkit[dicom]'")
VERSION = "1.2.3"
SUBJECT = Subject("pseudonym", "exam", "female", 45.0)
FEATURES = {name: i + 0.5 for i, name in enumerate(FEATURE_NAMES)}
RESULT = Result(
    {"model": "m", "model_hash": "0123abcd", "malignancy": 0.75, "call": "malignant", "top1": "MEL", "refer": True},
    {"veto": False, "entropy": 0.5, "p__diagnosis__MEL": 0.75, "p__diagnosis__NEV": 0.25},
    FEATURES,
)


def photo(kind: str = "JPEG") -> bytes:
    """A photo of odd size, wider than high."""
    rgb = np.random.default_rng(0).integers(0, 255, (41, 63, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, kind)
    return stream.getvalue()


def outline(rows: int = 41, columns: int = 63) -> np.ndarray:
    mask = np.zeros((rows, columns), bool)
    mask[5:20, 30:55] = True
    return mask


def made(data: bytes, subject: Subject = SUBJECT) -> dict[str, bytes]:
    return dicom_objects.objects(data, subject, "exam", (outline(), "unet"), {"result": RESULT, "version": VERSION})


def read(data: bytes) -> Any:
    import pydicom

    return pydicom.dcmread(io.BytesIO(data))


def hospital_file(frames: int = 1) -> bytes:
    """A photo as a hospital's camera stores it, with its patient."""
    source = read(made(photo("PNG"))["photo"])
    source.PatientName, source.PatientID, source.PatientBirthDate = "Li^Hua", "H-7", "19700101"
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    source.StudyInstanceUID, source.InstitutionName = "1.2.3.4", "Ward 3"
    if frames > 1:
        source.NumberOfFrames, source.PixelData = frames, source.PixelData[: 41 * 63 * 3] * frames
        source.PixelData += b"\0" * (len(source.PixelData) % 2)
    return dicom_objects.encoded(source)


@pytest.mark.parametrize("kind", ["photo", "seg", "sr"])
def test_dciodvfy_finds_no_error(tmp_path: Path, kind: str) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy IS MISSING, SO NOTHING BUT OUR OWN LIBRARIES CHECKED THE OBJECTS: install dicom3tools")
    file = tmp_path / f"{kind}.dcm"
    file.write_bytes(made(photo())[kind])
    said = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
    assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_and_its_outline_are_read_by_other_programs(tmp_path: Path, kind: str) -> None:
    import highdicom as hd
    import SimpleITK as sitk  # noqa: N813

    files = made(photo(kind))
    source, drawn = read(files["photo"]), read(files["seg"])
    shown = np.asarray(Image.open(io.BytesIO(photo(kind))))
    assert np.array_equal(source.pixel_array, shown)
    assert (source.PatientID, source.PatientSex, source.PatientAge) == ("pseudonym", "F", "045Y")
    assert source.LossyImageCompression == ("01" if kind == "JPEG" else "00")
    assert drawn.StudyInstanceUID == source.StudyInstanceUID
    assert drawn.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == (
        source.SOPInstanceUID
    )
    assert np.array_equal(drawn.pixel_array.astype(bool).reshape(41, 63), outline())
    (tmp_path / "photo.dcm").write_bytes(files["photo"])
    (tmp_path / "seg.dcm").write_bytes(files["seg"])
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "photo.dcm")).squeeze(), shown)
    again = hd.seg.segread(tmp_path / "seg.dcm")
    pixels = again.get_pixels_by_source_instance([source.SOPInstanceUID])
    assert np.array_equal(pixels[0, :, :, 0].astype(bool), outline())


def test_a_report_holds_every_number() -> None:
    import highdicom as hd

    files = made(photo())
    report = hd.sr.srread(io.BytesIO(files["sr"]))
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.VerificationFlag == "UNVERIFIED"
    (group,) = report.content.get_planar_roi_measurement_groups()
    values = {measurement.name.meaning: measurement.value for measurement in group.get_measurements()}
    assert values["malignancy"] == 0.75
    assert values["p__diagnosis__NEV"] == 0.25
    assert {name: values[name] for name in FEATURES} == FEATURES
    codes = {measurement.name.meaning: measurement.name for measurement in group.get_measurements()}
    mean = codes["original_firstorder_Mean"]
    assert (mean.value, mean.scheme_designator) == ("Q4LE", "IBSI")
    assert codes["original_shape2D_Elongation"].scheme_designator == "99SKINKIT"
    said = {one.name.meaning: one.value.meaning for one in group.get_qualitative_evaluations()}
    assert said == {
        "intended_use": dicom_objects.NOTICE, "call": "malignant", "top1": "MEL", "veto": "No", "refer": "Yes"
    }  # fmt: skip
    referred = group.reference_type
    assert referred is not None
    assert read(files["seg"]).SOPInstanceUID in str(report)


def test_a_hospitals_own_image_keeps_its_uid_and_its_patient_only_where_that_is_asked_for() -> None:
    data = hospital_file()
    assert is_dicom(data)
    files = made(data)
    assert set(files) == {"seg", "sr"}
    for name in ("seg", "sr"):
        one = read(files[name])
        assert (one.StudyInstanceUID, one.PatientID, str(one.PatientName)) == ("1.2.3.4", "H-7", "Li^Hua")
        assert "1.2.3.4.5" in str(one)
    hidden = made(data, SUBJECT._replace(keep=False))
    for name in ("seg", "sr"):
        assert (read(hidden[name]).PatientID, read(hidden[name]).PatientBirthDate) == ("pseudonym", "")
        assert not [word for word in (b"Li^Hua", b"H-7", b"19700101", b"Ward 3") if word in hidden[name]]


def test_what_cannot_be_outlined_is_refused() -> None:
    with pytest.raises(CaseError) as refused:
        made(hospital_file(frames=3))
    assert refused.value.reason == "image_multiframe"
    placed = read(hospital_file())
    del placed.SeriesInstanceUID
    with pytest.raises(CaseError) as refused:
        made(dicom_objects.encoded(placed))
    assert refused.value.reason == "image_unsupported"
    for mask in (np.zeros((41, 63), bool), outline(63, 70)):
        source = dicom_objects.source_image(photo(), SUBJECT, "exam")
        with pytest.raises(CaseError):
            dicom_objects.segmentation(source, mask, "unet", VERSION)


def test_the_same_result_is_the_same_object_and_another_is_not() -> None:
    first, again = ({kind: read(data).SOPInstanceUID for kind, data in made(photo()).items()} for _ in range(2))
    assert first == again
    changed = Result(RESULT.row, RESULT.prediction, {**FEATURES, FEATURE_NAMES[20]: -1.0})
    other = dicom_objects.objects(
        photo(), SUBJECT, "exam", (outline(), "unet"), {"result": changed, "version": VERSION}
    )
    assert read(other["seg"]).SOPInstanceUID == first["seg"]
    assert read(other["sr"]).SOPInstanceUID != first["sr"]


def test_export_writes_the_objects_of_each_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "w", {"ward": "inference"}, model="m", segmenter="otsu")
    photos = {"a": photo(), "b": hospital_file(), "c": hospital_file(frames=2), "d": photo("PNG")}
    cases, masks, rows, files = [], [], [], {}
    for name, data in photos.items():
        (workspace.root / "ward" / name).write_bytes(data)
        ids = {"image_id": name, "case_id": name, "patient_id": "p", "status": "ok"}
        stated = {"sex": "male", "age_years": None, "image_path": name}
        cases.append({**ids, **stated, "image_sha256": hashlib.sha256(data).hexdigest()})
        files[f"{name}.png"] = png_bytes(outline().astype(np.uint8) * 255)
        drawn = {"mask_file": f"{name}.png", "mask_sha256": hashlib.sha256(files[f"{name}.png"]).hexdigest()}
        masks.append({"image_id": name, "segmenter": "otsu", "status": "ok", **drawn})
        answer = {"malignancy": 0.5, "model": "m", "model_identity": "0123", "top1": "MEL", "top1_p": 0.5}
        rows.append({**ids, "level": "image", **answer})
    write(workspace, Ref("cases", "ward"), cases, info={"pseudonyms": {"key_check": "k"}})
    write(workspace, Ref("masks", "ward", "otsu"), masks, files=files)
    write(workspace, Ref("predictions", "ward", "m"), rows)
    (workspace.root / "ward" / "d").write_bytes(photo("JPEG"))  # not what was ingested
    monkeypatch.chdir(workspace.root)
    capsys.readouterr()
    assert main(["export", "--dicom-seg", "seg", "--dicom-sr", "sr", "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["written"] == {"photo": 1, "seg": 2, "sr": 2}
    assert answer["without"] == {"image_changed": 1, "image_multiframe": 1}
    assert sorted(file.name.partition("-")[0] for file in Path("seg").glob("*.dcm")) == ["photo", "seg", "seg"]
    made = [*Path("sr").glob("*.dcm")]
    assert len(made) == 5
    assert {file.stat().st_mode & 0o077 for file in made} == {0}
    assert {str(read(file.read_bytes()).PatientID) for file in made} == {"p"}
    assert not [file for file in made if b"Li^Hua" in file.read_bytes()]
