"""Records of the photo page: their states, what is written, what is not, and what ingest reads of them."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captured import BAD, GOOD, HOSPITAL_ID, annotation, capture_workspace, photo, sealed, store_of
from conftest import small_disk
from PIL import Image
from written_artifacts import run_stage

from skinkit.data.capture_records import (
    ANNOTATED,
    CAPTURED,
    MOST_RETAKES,
    QC_FAIL,
    QC_PASS,
    REVIEWED,
    SEALED,
    WITHDRAWN,
    NoRecordError,
    StateError,
    Store,
    open_store,
    prepared_photo,
    seal_of,
)
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.images.decode import decode
from skinkit.workspace import Workspace


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return capture_workspace(tmp_path / "w")


@pytest.fixture
def store(work: Workspace) -> Store:
    return store_of(work)


def everything_below(folder: Path) -> bytes:
    return b"".join(file.name.encode() + file.read_bytes() for file in folder.rglob("*") if file.is_file())


# ------------------------------------------------------------------------------------------------------- states


def test_a_record_goes_through_its_states(store: Store) -> None:
    record_id = store.new("test")["record_id"]
    assert store.take(record_id, photo(), {})["state"] == CAPTURED
    assert store.check(record_id, GOOD)["state"] == QC_PASS
    assert store.annotate(record_id, annotation())["state"] == ANNOTATED
    assert store.review(record_id, {"agrees": True, "diagnosis": "MEL", "note": "no"})["state"] == REVIEWED
    record = store.seal(record_id)
    assert record["state"] == SEALED
    assert record["sha256"] == seal_of(record)
    assert store.seal(record_id) == record  # asked for again, after a torn connection
    for change in (
        lambda: store.take(record_id, photo(1), {}),
        lambda: store.annotate(record_id, annotation()),
        lambda: store.override(record_id, "why"),
        lambda: store.review(record_id, {"agrees": True}),
    ):
        with pytest.raises(StateError):
            change()
    assert store.read(record_id) == record
    assert store.log.problems() == []


def test_after_the_last_retake_the_best_photo_is_kept_for_a_reason(store: Store) -> None:
    record_id = store.new("test")["record_id"]
    for number in range(MOST_RETAKES + 1):
        store.take(record_id, photo(number), {})
        worse = {"focus": BAD["checks"]["focus"], "glare": BAD["checks"]["focus"]}  # type: ignore[index]
        record = store.check(record_id, BAD if number == 2 else {"verdict": "fail", "checks": worse})
        assert (record["state"], record["retakes"]) == (QC_FAIL, number)
    with pytest.raises(StateError, match="retakes"):
        store.take(record_id, photo(99), {})
    for reason in ("", None, "  ", "x" * 201, 7):
        with pytest.raises(ConfigError):
            store.override(record_id, reason)
    record = store.override(record_id, "the patient has to leave")
    assert record["state"] == QC_PASS
    assert record["photo"]["file"] == f"{record_id}-3.jpg"
    store.annotate(record_id, annotation())
    store.seal(record_id)
    assert [file.name for file in (store.root / "photos").iterdir()] == [f"{record_id}-3.jpg"]


def test_the_same_bytes_again_are_no_retake(store: Store) -> None:
    record_id = store.new("test")["record_id"]
    for _ in range(3):
        record = store.take(record_id, photo(), {})
    assert (record["retakes"], record["state"]) == (0, CAPTURED)


def test_a_lesion_that_fails_is_sealed_for_a_reason_only(store: Store) -> None:
    record_id = store.new("test")["record_id"]
    store.take(record_id, photo(), {})
    store.check(record_id, GOOD)
    store.annotate(record_id, annotation())
    store.check_region(record_id, BAD)
    with pytest.raises(StateError, match="failed"):
        store.seal(record_id)
    assert store.override(record_id, "no better one")["state"] == ANNOTATED
    assert store.seal(record_id)["qc_override"] == {"reason": "no better one"}


def test_of_a_withdrawn_record_nothing_is_left(store: Store) -> None:
    record = sealed(store)
    left = store.withdraw(record["record_id"])
    assert left.keys() == {"schema", "record_id", "state", "withdrawn_at"}
    assert [*(store.root / "photos").iterdir(), *(store.root / "masks").iterdir()] == []
    assert store.read(record["record_id"])["state"] == WITHDRAWN
    with pytest.raises(NoRecordError):
        store.take(record["record_id"], photo(), {})
    assert store.log.lines()[-1]["patient"] == record["patient_key"]


def test_what_a_killed_withdrawal_left_is_swept(store: Store, work: Workspace) -> None:
    record = sealed(store)
    kept = store.photo_path(record).read_bytes()
    store.withdraw(record["record_id"])
    (store.root / "photos" / record["photo"]["file"]).write_bytes(kept)
    store_of(work)
    assert list((store.root / "photos").iterdir()) == []


# ----------------------------------------------------------------------------------------------- what is written


def test_no_id_is_written_and_others_may_read_nothing(store: Store) -> None:
    sealed(store, age=97, ethnicity="Han")
    kept = everything_below(store.root)
    for word in ("Zhang", "4711", "left arm"):
        assert word.encode() not in kept
    (record,) = store.records()
    assert record["age"] == 90
    assert record["patient_key"] == store.key.pseudonym("patient", "capture", HOSPITAL_ID)
    assert (record["diagnosis"], record["malignancy"]) == ("nevus", "benign")
    assert len(record["captured_at"]) == len("2026-12-01")
    for path in store.root.rglob("*"):
        closed = path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0
        assert closed, path
    assert store.root.stat().st_mode & 0o077 == 0


def test_a_lesion_and_a_patient_have_the_pseudonyms_that_ingest_gives(store: Store) -> None:
    record = sealed(store, patient="Ｐ\u20117", lesion="2")  # as P-7, of other widths
    assert record["patient_key"] == store.key.pseudonym("patient", "capture", "P-7")
    assert record["lesion_key"] == store.key.pseudonym("lesion", "capture", "P-7|2")


def exif() -> Image.Exif:
    """Orientation, camera, serial number, time and place."""
    made = Image.Exif()
    made[0x0112], made[0x010F], made[0x0132] = 6, "SecretCam", "2026:11:30 10:11:12"
    made.get_ifd(0x8825).update({1: "N", 2: (31.0, 14.0, 5.0)})
    made.get_ifd(0x8769)[0xA431] = "SERIAL-4711"
    return made


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_only_the_orientation_of_the_metadata_is_kept(kind: str) -> None:
    options: dict[str, Any] = {"exif": exif()}
    if kind == "JPEG":
        options |= {"comment": b"SecretCam comment", "progressive": True}
    if kind == "WEBP":
        options |= {"lossless": True, "xmp": b"<x>SecretCam</x>"}
    data = photo(kind=kind, **options) + (b"SecretCam video behind the picture" if kind == "JPEG" else b"")
    assert b"SecretCam" in data
    about, clean = prepared_photo(data)
    for word in (b"SecretCam", b"SERIAL", b"2026:11", b"GPS"):
        assert word not in clean
    with Image.open(io.BytesIO(clean)) as image:
        assert dict(image.getexif()) == {0x0112: 6}
    before, after = decode(data, complete=True)[0], decode(clean, thorough=True)[0]
    assert np.array_equal(before, after)
    assert (about["w"], about["h"]) == (64, 96)  # turned upright
    again, twice = prepared_photo(clean)
    assert twice == clean
    assert again == about


@pytest.mark.parametrize("end", [0.3, 0.8, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_half_a_photo_is_refused(kind: str, end: float, store: Store) -> None:
    data = photo(kind=kind)
    record_id = store.new("test")["record_id"]
    with pytest.raises(InputError):
        store.take(record_id, data[: int(len(data) * end)], {})
    assert store.read(record_id)["state"] == "NEW"
    assert list((store.root / "photos").iterdir()) == []


FORMS: list[dict[str, Any]] = [
    {"age": -1}, {"age": 121}, {"age": "old"}, {"age": True}, {"age": float("inf")}, {"sex": "x"}, {"sex": ["female"]},
    {"fitzpatrick": 7}, {"fitzpatrick": "9"}, {"site": "../FACE"}, {"symptoms": {"itch": "yes"}},
    {"symptoms": ["itch"]}, {"symptoms": {"name": True}}, {"diagnosis": "cancer"}, {"diagnosis": {}},
    {"diagnosis_source": "guess"}, {"patient": ""}, {"patient": None}, {"patient": 7}, {"patient": "x" * 121},
    {"patient": "\ud800"}, {"ethnicity": "x" * 61}, {"lesion": []},
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=[str(form)[:40] for form in FORMS])
def test_what_a_form_cannot_say_is_refused_and_not_repeated(form: dict[str, Any], store: Store) -> None:
    record_id = store.new("test")["record_id"]
    store.take(record_id, photo(), {})
    before = store.check(record_id, GOOD)
    with pytest.raises(ConfigError) as refused:
        store.annotate(record_id, annotation(**form))
    assert "xxxx" not in str(refused.value)
    assert HOSPITAL_ID not in str(refused.value)
    assert store.read(record_id) == before


DRAWN: list[dict[str, Any]] = [
    {"centre": None}, {"centre": [1]}, {"centre": ["1", 2]}, {"centre": [float("nan"), 2]}, {"centre": [500, 2]},
    {"box": [5, 5, 5, 9]}, {"box": "abcd"}, {"box": [1, 2, 3]}, {"outline": [[1, 1], [2, 2]]},
    {"outline": [[1, 1]] * 2001}, {"outline": [[1, 1], [1, 1], [1, 1]]}, {"outline": "none"},
    {"consent": {"train": "yes", "share": False}}, {"consent": None}, {"form": None},
    {"consent": {"train": True, "share": True, "expires": "soon"}},
]  # fmt: skip


@pytest.mark.parametrize("given", DRAWN, ids=[str(given)[:40] for given in DRAWN])
def test_what_cannot_be_drawn_or_agreed_to_is_refused(given: dict[str, Any], store: Store) -> None:
    record_id = store.new("test")["record_id"]
    store.take(record_id, photo(), {})
    store.check(record_id, GOOD)
    with pytest.raises(ConfigError):
        store.annotate(record_id, {**annotation(), **given})
    assert store.read(record_id)["state"] == QC_PASS


@pytest.mark.parametrize("record_id", ["", "..", "../store", "x" * 300, "a/b", "%2e%2e", "store.json"])
def test_an_id_that_is_a_path_is_no_record(record_id: str, store: Store) -> None:
    with pytest.raises(NoRecordError):
        store.read(record_id)


def test_records_need_a_key_of_their_own(work: Workspace, tmp_path: Path) -> None:
    sealed(store_of(work))
    other = capture_workspace(tmp_path / "w", key=b"z" * 32)
    with pytest.raises(RefusedError, match="another key"):
        store_of(other)
    file = tmp_path / "w" / "skinkit.toml"
    lines = [line for line in file.read_text("utf-8").splitlines() if "pseudonymise" not in line]
    file.write_text("\n".join(lines), encoding="utf-8")
    from skinkit.workspace import load_workspace

    bare = load_workspace(tmp_path / "w")
    with pytest.raises(ConfigError, match="no key"):
        open_store(bare.cohort("ward"), bare)


# ---------------------------------------------------------------------------------------------------------- log


def test_a_line_that_was_removed_or_changed_is_seen(store: Store) -> None:
    for seed in range(2):
        sealed(store, seed)
    file = store.root / "log.jsonl"
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert store.log.problems() == []
    for changed in (
        [*lines[:3], *lines[4:]],
        lines[:-1],
        lines[:-3],
        [],
        [*lines[:2], lines[3], lines[2], *lines[4:]],
        [*lines[:4], lines[4].replace(b'"action": "', b'"action": "x'), *lines[5:]],
        [*lines, lines[-1]],
        [*lines[:4], b"\n", *lines[4:]],
    ):
        file.write_bytes(b"".join(changed))
        assert store.log.problems(), changed
    file.write_bytes(b"".join(lines[:-2]))
    store.noted("", "later")  # what is added later does not hide it
    assert store.log.problems()
    file.write_bytes(whole)


def test_half_a_line_of_a_killed_process_is_removed(store: Store) -> None:
    sealed(store)
    with (store.root / "log.jsonl").open("ab") as stream:
        stream.write(b'{"n": 99, "action": "ph')
    store.noted("", "later")
    assert store.log.problems() == []
    assert store.log.lines()[-1]["action"] == "later"


# ---------------------------------------------------------------------------------------------- kills and full disks

_TAKE = """
import os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[4]]
from captured import photo, store_of
from skinkit.artifacts import files
from skinkit.data import capture_records
from skinkit.workspace import load_workspace

store = store_of(load_workspace(Path(sys.argv[1])))
left = int(sys.argv[3])
write = capture_records._write
def counted(path, data):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    write(path, data)
capture_records._write = counted
store.take(sys.argv[2], photo(5), {})
"""


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_process_killed_while_it_takes_a_photo(writes: int, store: Store, work: Workspace) -> None:
    """Before the record says so, the photo was not taken; after, it is there whole. The log goes on in any case."""
    record_id = store.new("test")["record_id"]
    store.take(record_id, photo(1), {})
    before = store.check(record_id, BAD)
    words = [sys.executable, "-c", _TAKE, str(work.root), record_id, str(writes), str(Path(__file__).parent.parent)]
    ended = subprocess.run(words, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    again = store_of(work)
    record = again.read(record_id)
    assert record == before if writes < 2 else record["state"] == CAPTURED
    decode(again.photo_path(record).read_bytes(), thorough=True)
    again.take(record_id, photo(6), {})
    assert again.log.problems() == []


def test_a_full_disk_loses_no_photo_that_was_taken(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "300k") as disk:
        work = capture_workspace(disk / "w")
        store = store_of(work)
        taken = {}
        big = [photo(seed, "PNG", (160, 120)) for seed in range(8)]

        def fill() -> None:
            for seed, data in enumerate(big):
                record_id = store.new("test")["record_id"]
                store.take(record_id, data, {})
                taken[record_id] = seed

        with pytest.raises(InputError, match="full"):
            fill()
        assert taken
        for record_id, seed in taken.items():
            kept = store.photo_path(store.read(record_id)).read_bytes()
            assert np.array_equal(decode(kept)[0], decode(big[seed])[0])
        assert store.log.problems() == []
        store.withdraw(next(iter(taken)))  # there is room again
        assert store.take(store.new("test")["record_id"], big[0], {})["state"] == CAPTURED


# -------------------------------------------------------------------------------------------------------- ingest


def test_ingest_reads_sealed_records_with_consent_and_counts_the_others(store: Store, work: Workspace) -> None:
    read = sealed(store, 1, diagnosis="solar_lentigo", age=95)
    sealed(store, 2, consent={"train": False})
    sealed(store, 3, consent={"expires": "2020-01-01"})
    sealed(store, 4, consent={"expires": "2999-01-01"}, patient="another", diagnosis_source="consensus", sex="other")
    changed = sealed(store, 5)
    file = store.root / "records" / f"{changed['record_id']}.json"
    file.write_text(file.read_text("utf-8").replace('"diagnosis": "nevus"', '"diagnosis": "melanoma"'), "utf-8")
    store.withdraw(sealed(store, 6)["record_id"])
    store.take(store.new("test")["record_id"], photo(7), {})
    (cases,), said = run_stage(work, "ingest")
    rows = cases.table().set_index("image_id")
    assert len(rows) == 2
    assert cases.info["flow"]["left_out"] == {
        "not sealed": 1, "no consent to train": 1, "consent expired": 1, "changed after sealing": 1, "withdrawn": 1,
    }  # fmt: skip
    assert "not sealed 1" in said
    row = rows.loc[read["record_id"]]
    assert row["patient_id"] == read["patient_key"]
    assert row["lesion_id"] == read["lesion_key"]
    assert (row["diagnosis"], row["diagnosis_source"]) == ("seborrheic_keratosis", "solar_lentigo")
    assert "solar_lentigo" in row["flags"]
    assert (row["confirmed_by"], row["age_years"], row["sex"]) == ("histopathology", 90, "female")
    assert (row["region"], row["site"], row["fitzpatrick"]) == ("ARM", "upper extremity", 3)
    assert (row["itch"], row["grew"], row["bleed"]) == ("True", "False", None)
    assert row["truth_mask_path"] == f"masks/{read['record_id']}.png"
    other = rows.drop(read["record_id"]).iloc[0]
    assert (other["confirmed_by"], other["sex"]) == ("consensus", None)
    assert cases.info["pseudonyms"]["key_check"] == store.key.check
    store.withdraw(read["record_id"])
    (cases,), _ = run_stage(work, "ingest")
    assert len(cases.table()) == 1


def test_a_photo_that_was_changed_after_sealing_fails(store: Store, work: Workspace) -> None:
    record, other = sealed(store, 1), sealed(store, 2)
    store.photo_path(record).write_bytes(photo(9))
    (cases,), _ = run_stage(work, "ingest")
    reasons = cases.table().set_index("image_id")["reason"].to_dict()
    assert reasons == {record["record_id"]: "image_not_as_sealed", other["record_id"]: None}


def test_the_mask_of_a_record_is_its_truth_mask(store: Store, work: Workspace) -> None:
    record = sealed(store, 1)
    run_stage(work, "ingest")
    (masks,), _ = run_stage(work, "segment", model="truth")
    (row,) = masks.table().to_dict("records")
    assert row["area_px"] == int((np.asarray(Image.open(store.root / record["mask_path"])) > 0).sum())
