"""What identifies a person stays where it was: not one byte of it reaches an artifact, a log or a report."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from conftest import run_skinkit
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from small_cohort import CLASSES, draw

from skinkit.privacy.pseudonyms import make_key

EMBEDDED = {
    "gps": "GPSAREA-Jinan-7",
    "serial": "BODYSERIAL-0042",
    "lens": "LENSSERIAL-0043",
    "owner": "CAMERAOWNER-Li",
    "artist": "ARTIST-Wang",
    "windows": "XPAUTHOR-Zhao",
    "comment": "USERCOMMENT-Qian",
    "jpeg": "JPEGCOMMENT-Sun",
    "xmp": "XMPCREATOR-Zhou",
    "iptc": "IPTCBYLINE-Wu",
    "png": "PNGTEXT-Zheng",
    "zpng": "PNGZTXT-Feng",
    "tiff": "TIFFHOST-Chen",
    "dicom_name": "DICOMNAME^Chu",
    "dicom_id": "DICOMID-4711",
    "dicom_birth": "19610228",
    "dicom_address": "DICOMADDRESS-Wei",
    "dicom_serial": "DICOMSERIAL-99",
}
"""What photos hold besides their pixels."""
COLUMNS = {"patient_name": "TABLENAME-张三丰", "phone": "+8613912345678", "身份证号": "370102196102281234"}
"""Columns of the hospital's table that nobody mapped."""
IDS = ("PATIENT-77", "LESION-55", "EXAM-9001", "FILENAME-Zhang")
"""Ids and file names; the cohorts are pseudonymised."""
SECRETS = (*EMBEDDED.values(), *COLUMNS.values(), *IDS)
LATITUDE = struct.pack(">L", 366512347), struct.pack("<L", 366512347)
"""Degrees north as EXIF writes them, in either order of bytes."""


def photo(pixels: np.ndarray[Any, Any], kind: str) -> bytes:
    """A photo that tells all a camera, an archive or an editor may write into one of its kind."""
    image, sink = Image.fromarray(pixels), io.BytesIO()
    if kind == "dcm":
        return _dicom(pixels)
    if kind == "jpg":
        exif = image.getexif()
        exif[ExifTags.Base.Artist] = EMBEDDED["artist"]
        exif[ExifTags.Base.XPAuthor] = EMBEDDED["windows"].encode("utf-16-le")
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        inner[ExifTags.Base.BodySerialNumber] = EMBEDDED["serial"]
        inner[ExifTags.Base.LensSerialNumber] = EMBEDDED["lens"]
        inner[ExifTags.Base.CameraOwnerName] = EMBEDDED["owner"]
        inner[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + EMBEDDED["comment"].encode()
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSLatitude] = (TiffImagePlugin.IFDRational(366512347, 10_000_000), 0, 0)
        gps[ExifTags.GPS.GPSAreaInformation] = b"ASCII\0\0\0" + EMBEDDED["gps"].encode()
        xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><creator>{EMBEDDED["xmp"]}</creator></x:xmpmeta>'.encode()
        image.save(sink, "JPEG", quality=95, exif=exif, comment=EMBEDDED["jpeg"].encode(), xmp=xmp)
        line = EMBEDDED["iptc"].encode()
        record = b"\x1c\x02\x50" + struct.pack(">H", len(line)) + line
        block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">L", len(record)) + record
        data = sink.getvalue()
        return data[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + data[2:]
    if kind == "png":
        told = PngImagePlugin.PngInfo()
        told.add_text("Author", EMBEDDED["png"])
        told.add_text("Comment", EMBEDDED["zpng"], zip=True)
        image.save(sink, "PNG", pnginfo=told)
        return sink.getvalue()
    image.save(sink, "TIFF", tiffinfo={316: EMBEDDED["tiff"]})
    return sink.getvalue()


def _dicom(pixels: np.ndarray[Any, Any]) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("1.2.3.4")
    dataset.PatientName, dataset.PatientID = EMBEDDED["dicom_name"], EMBEDDED["dicom_id"]
    dataset.PatientBirthDate, dataset.PatientAddress = EMBEDDED["dicom_birth"], EMBEDDED["dicom_address"]
    dataset.DeviceSerialNumber = EMBEDDED["dicom_serial"]
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PixelRepresentation = 3, 0, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = pixels.tobytes()
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, dataset, enforce_file_format=True)
    return sink.getvalue()


def hospital(folder: Path, cases: int, seed: int, *, labelled: bool) -> None:
    """A cohort whose photos and table tell everything; one photo is torn, one is not there."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(cases):
        diagnosis = list(CLASSES)[n % len(CLASSES)]
        kind = ("jpg", "png", "tif", "dcm")[n % 4]
        file = folder / f"FILENAME-Zhang {n // 2}" / f"{n}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        data = photo(draw(rng, diagnosis)[0], kind)
        file.write_bytes(data[: len(data) // 2] if n == cases - 1 else data)
        rows.append(
            {
                "file": file.relative_to(folder).as_posix() if n else "FILENAME-Zhang gone.jpg",
                "patient": f"PATIENT-77{n // 2}",
                "lesion": f"LESION-55{n // 2}",
                "exam": f"EXAM-9001{n}",
                "dx": diagnosis if labelled else "",
                "age": str(40 + n),
                **COLUMNS,
            }
        )
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    mapped = {"image": "file", "patient_id": "patient", "lesion_id": "lesion", "accession": "exam"}
    mapped |= {"diagnosis": "dx", "age_years": "age"}
    told = "\n".join(f'{ours} = "{theirs}"' for ours, theirs in mapped.items())
    (folder / "cohort.toml").write_text(f'file = "t.csv"\n[columns]\n{told}\n', encoding="utf-8")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A pseudonymised workspace after the whole chain, and everything that was said meanwhile."""
    base = tmp_path_factory.mktemp("privacy")
    hospital(base / "ward", 36, 1, labelled=True)
    hospital(base / "night", 6, 2, labelled=False)
    make_key(base / "key")
    workspace = base / "w"
    workspace.mkdir()
    tables = [
        f'[cohorts.{name}]\nrole = "{role}"\nsource = "folder"\npath = "{base / name}"\npseudonymise = "{base / "key"}"'
        for name, role in (("ward", "development"), ("night", "inference"))
    ]
    learnt = '[stage.train]\nallow_untrained = "a few drawn photos"\n'
    quick = learnt + "[stage.evaluate]\nbootstrap = 20\nshortcuts = false\n[stage.explain]\nlimit = 4\n"
    text = '[workspace]\nmodel = "lightgbm"\n' + "\n".join(tables) + "\n" + quick
    (workspace / "skinkit.toml").write_text(text, encoding="utf-8")
    said = ""
    steps = (
        ("run", "--log-format", "json", "--jobs", "1"),
        ("status", "--failed", "--json"),
        ("export", "--csv", workspace / "export.csv"),
        ("show", "night/cases"),
    )
    for step in steps:
        answer = run_skinkit(*step, "-w", workspace)
        assert answer.returncode == (3 if step[0] == "run" else 0), answer.stderr
        said += answer.stdout + answer.stderr
    return workspace, said


_DATA_URI = re.compile(rb"data:[\w/+.-]+;base64,([A-Za-z0-9+/=]+)")


def readings(name: str, data: bytes) -> Iterator[bytes]:
    """Everything the bytes of a file say: themselves, the values of a table, pictures in a page, texts in a picture."""
    yield data
    if data.startswith(b"PAR1"):
        file = pq.ParquetFile(io.BytesIO(data))
        yield repr(file.read().to_pydict()).encode()
        yield repr((file.schema_arrow.metadata, file.metadata.metadata)).encode()
    for uri in _DATA_URI.findall(data):
        yield from readings("picture", base64.b64decode(uri))
    if data.startswith(b"\x89PNG"):
        at = 8
        while at < len(data):
            (length,), kind = struct.unpack(">L", data[at : at + 4]), data[at + 4 : at + 8]
            chunk = data[at + 8 : at + 8 + length]
            if kind == b"zTXt":
                yield zlib.decompress(chunk.partition(b"\0")[2][1:])
            at += 12 + length


def found_in(name: str, data: bytes, secrets: tuple[str, ...] = SECRETS) -> set[str]:
    """The secrets that the bytes hold, in any encoding a program may write them in."""
    wanted = {
        form: secret
        for secret in secrets
        for form in (
            secret.encode(),
            secret.encode("utf-16-le"),
            secret.encode("gb18030"),
            json.dumps(secret)[1:-1].encode(),
            secret.encode("ascii", "xmlcharrefreplace"),
        )
    }
    whole = b"\0\0".join(readings(name, data))
    hits = {secret for form, secret in wanted.items() if form in whole}
    return hits | {"latitude" for form in LATITUDE if form in whole}


def test_the_search_finds_what_is_there(told: tuple[Path, str]) -> None:
    sources = told[0].parent
    files = [file for name in ("ward", "night") for file in (sources / name).rglob("*") if file.is_file()]
    found = set().union(*(found_in(file.name, file.read_bytes() + str(file).encode()) for file in files))
    assert found == {*SECRETS, "latitude"}


def test_no_byte_of_the_workspace_tells_a_person(told: tuple[Path, str]) -> None:
    workspace, _ = told
    files = [file for file in workspace.rglob("*") if file.is_file() and file.name != "skinkit.toml"]
    kinds = {file.suffix for file in files}
    assert {".parquet", ".png", ".json", ".html", ".csv"} <= kinds, "the chain made them all"
    leaks = {
        str(file.relative_to(workspace)): hits for file in files if (hits := found_in(file.name, file.read_bytes()))
    }
    assert leaks == {}
    assert [str(file) for file in files if found_in("", str(file.relative_to(workspace)).encode())] == []


def test_no_word_that_was_said_tells_a_person(told: tuple[Path, str]) -> None:
    assert found_in("log", told[1].encode()) == set()


def test_pictures_that_are_written_hold_nothing_but_pixels(told: tuple[Path, str]) -> None:
    workspace, _ = told
    pictures = [file.read_bytes() for file in workspace.rglob("*.png")]
    for page in workspace.rglob("*.html"):
        pictures += [base64.b64decode(uri) for uri in _DATA_URI.findall(page.read_bytes())]
    assert len(pictures) > 40
    for data in pictures:
        if data[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xdb"):
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                assert not image.getexif()
                assert not {"comment", "photoshop", "xmp", "icc_profile", "exif"} & set(image.info)
                assert not [value for value in image.info.values() if isinstance(value, str)]


def test_columns_nobody_mapped_are_not_taken(told: tuple[Path, str]) -> None:
    workspace, _ = told
    for table in workspace.rglob("*.parquet"):
        assert not set(COLUMNS) & set(pq.read_schema(table).names), table


def test_failed_cases_are_told_by_reason_without_their_names(told: tuple[Path, str]) -> None:
    workspace, _ = told
    with (workspace / "export.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted({row["status"] for row in rows}) == ["failed", "ok", "pending"]
    assert sum(row["status"] == "failed" for row in rows) == 1
