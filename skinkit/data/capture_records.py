"""Records of lesions photographed during consultations: one JSON, one photo and one mask each, in a folder of a cohort.

    records/ID.json     what is known of the record, with its state
    photos/ID-N.jpg     its N-th photo: pixels, colour profile and orientation as taken, no other metadata
    masks/ID.png        the lesion as outlined, 8 bit, 0 or 255, at the size of the upright photo
    log.jsonl           every action, by pseudonyms (:class:`Log`)
    store.json          check value of the key that the pseudonyms are made with

States::

    NEW -> CAPTURED -> QC_FAIL (retake, or override with a reason) | QC_PASS -> ANNOTATED (-> REVIEWED) -> SEALED
    any of them -> WITHDRAWN

A sealed record never changes: its hash is over its JSON, its photo and its mask. A withdrawn record keeps its id, its
date of withdrawal and nothing else. Every write is whole and on the disk before the call returns, so what was confirmed
outlives a killed process; a call that fails leaves the record as it was. Files are readable by their owner alone.

Ids of patients, lesions and annotators are never written: their pseudonyms are (:mod:`skinkit.privacy.pseudonyms`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import math
import os
import re
import threading
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinkit.artifacts.files import digest, file_sha256, settle_folder, write_atomic
from skinkit.data.ids import one_spelling
from skinkit.errors import CaseError, ConfigError, InputError, RefusedError, listed
from skinkit.privacy.pseudonyms import LENGTH, Key, read_key
from skinkit.taxonomy import DIAGNOSES, MALIGNANT_SETS, REGION_SITES, SYMPTOMS
from skinkit.workspace import SETTINGS_FILE, Cohort, Workspace

SCHEMA = 1
NEW, CAPTURED, QC_FAIL, QC_PASS, ANNOTATED, REVIEWED, SEALED, WITHDRAWN = STATES = (
    "NEW", "CAPTURED", "QC_FAIL", "QC_PASS", "ANNOTATED", "REVIEWED", "SEALED", "WITHDRAWN",
)  # fmt: skip
UNFINISHED = STATES[:6]
SOURCE_NAME = "capture"
MOST_RETAKES = 5
MOST_PHOTO_BYTES = 24 * 2**20
MOST_PHOTO_PIXELS = 64_000_000
"""Largest photo that is taken in: 192 MB decoded."""
LEAST_SIDE_PX = 32
OLDEST_YEARS = 90
"""Ages from here on are stored as this one: higher ones may identify a person."""
UNKNOWN = "unknown"
SEXES = ("female", "male", "other", UNKNOWN)
FITZPATRICK = (1, 2, 3, 4, 5, 6)
REGIONS = (*REGION_SITES, UNKNOWN)
DIAGNOSIS_SOURCES = ("histology", "consensus", "clinical")
PREMALIGNANT = "actinic_keratosis"
PAD6 = {
    "ACK": "actinic_keratosis", "BCC": "basal_cell_carcinoma", "MEL": "melanoma", "NEV": "nevus",
    "SCC": "squamous_cell_carcinoma", "SEK": "seborrheic_keratosis",
}  # fmt: skip
"""Codes of PAD-UFES-20 that a form may give instead of a diagnosis."""
MOST_POINTS = 2000
_TEXT = {"reason": 200, "note": 1000, "ethnicity": 60, "id": 120, "device": 80}
"""Most characters of a text."""
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_PSEUDONYM = re.compile(rf"[a-z2-7]{{{LENGTH}}}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_FOLDERS = ("records", "photos", "masks")


class NoRecordError(InputError):
    """There is no such record, or none any more."""


class StateError(RefusedError):
    """The record is in a state in which this cannot be done."""


def space_of(cohort: Cohort) -> str:
    """The id space of a cohort's pseudonyms, as ingest uses it."""
    return str(cohort.options.get("id_space") or SOURCE_NAME)


def today() -> str:
    """The date in UTC; the time of day is not recorded."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def open_store(cohort: Cohort, workspace: Workspace, *, make: bool = False) -> Store:
    """The records of a cohort ``source = "capture"``.

    Args:
        cohort: the cohort.
        workspace: the workspace.
        make: make its folder if it is not there; the folder above it must be.

    Raises:
        ConfigError: the cohort has another source, or no key for its pseudonyms.
        InputError: the folder is absent, or the key file.
        RefusedError: the records were made with another key.
    """
    if cohort.source != SOURCE_NAME:
        raise ConfigError(
            f"source = {cohort.source!r} of cohort {cohort.name!r}",
            f'a cohort with source = "{SOURCE_NAME}"',
            f"name another cohort, or add one to {workspace.root / SETTINGS_FILE}",
        )
    if cohort.key_file is None:
        raise ConfigError(
            f"no key for the pseudonyms of cohort {cohort.name!r}",
            "a key file outside the workspace: ids of patients are never written",
            f'add pseudonymise = "/secure/NAME.key" to [cohorts.{cohort.name}] of {SETTINGS_FILE}; '
            "head -c 32 /dev/urandom > /secure/NAME.key makes one",
        )
    return Store.open(
        Path(str(cohort.root)), read_key(cohort.key_file, workspace.root), space_of(cohort), cohort.name, make=make
    )


@dataclass(frozen=True)
class Store:
    """The records in a folder. Each call locks the folder, so several processes may share it.

    Attributes:
        root: the folder.
        key: of the pseudonyms.
        space: id space of the pseudonyms.
        name: of the cohort, for messages.
    """

    root: Path
    key: Key
    space: str
    name: str

    @classmethod
    def open(cls, root: Path, key: Key, space: str, name: str, *, make: bool = False) -> Store:
        """Open a folder of records; see :func:`open_store`."""
        if make and root.parent.is_dir():
            root.mkdir(mode=0o700, exist_ok=True)
        if not root.is_dir():
            raise InputError(
                f"cohort {name!r}: no folder {root}",
                "the folder of its records, or one in which it can be made",
                "mount it, or correct path; 'skinkit capture' makes the last folder of the path",
            )
        for folder in _FOLDERS:
            (root / folder).mkdir(mode=0o700, exist_ok=True)
        store = cls(root, key, space, name)
        file = root / "store.json"
        with store.held():
            known = _json(file) if file.exists() else None
            if known is None:
                _write(file, json.dumps({"schema": SCHEMA, "key_check": key.check}).encode())
            elif known.get("key_check") != key.check:
                raise RefusedError(
                    f"the records in {root} were made with another key (check value {known.get('key_check')})",
                    "the key that their pseudonyms were made with",
                    f"give that key as pseudonymise of cohort {name!r}",
                )
            store._sweep()
        return store

    # ------------------------------------------------------------------------------------------------- reading

    @property
    def log(self) -> Log:
        """The log of every action."""
        return Log(self.root / "log.jsonl", self.key)

    def pseudonym(self, kind: str, name: str) -> str:
        """The pseudonym of an id; one that is a pseudonym already stays as it is."""
        return name if _PSEUDONYM.fullmatch(name) else self.key.pseudonym(kind, self.space, one_spelling(name))

    def records(self, *states: str) -> list[dict[str, Any]]:
        """Every record that can be read, in these states or in any, by date and id."""
        found = [record for _, record in read_records(self.root) if record is not None]
        return sorted(
            (record for record in found if not states or record["state"] in states),
            key=lambda record: (record.get("captured_at") or "", record["record_id"]),
        )

    def read(self, record_id: str) -> dict[str, Any]:
        """One record.

        Raises:
            NoRecordError: there is none of that id.
        """
        file = self._file(record_id)
        try:
            record = _json(file)
        except FileNotFoundError:
            raise _no_record() from None
        return record

    def photo_path(self, record: Mapping[str, Any]) -> Path:
        """The file of the record's photo.

        Raises:
            NoRecordError: it has none.
        """
        photo = record.get("photo")
        if not photo:
            raise NoRecordError("no photo of this record", "a record whose photo was taken", "take one first")
        return self.root / "photos" / str(photo["file"])

    def mask_path(self, record: Mapping[str, Any]) -> Path | None:
        """The file of the record's mask; None where the lesion was not outlined."""
        return self.root / record["mask_path"] if record.get("mask_path") else None

    def of_patient(self, *patients: str) -> list[dict[str, Any]]:
        """The records of patients, by their pseudonyms."""
        return [record for record in self.records() if record.get("patient_key") in patients]

    # ------------------------------------------------------------------------------------------------- writing

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder: no other thread and no other process writes meanwhile."""
        with _THREADS, open(self.root / ".lock", "a", opener=_private) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def new(self, app_version: str, by: str = "") -> dict[str, Any]:
        """Begin a record."""
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "record_id": str(uuid.uuid4()),
            "state": NEW,
            "captured_at": today(),
            "app_version": app_version,
            "retakes": 0,
            "attempts": [],
        }
        with self.held():
            self._save(record)
            self.log.append("new", record["record_id"], by)
        return record

    def take(self, record_id: str, data: bytes, device: Mapping[str, Any], by: str = "") -> dict[str, Any]:
        """Store a photo: the record is ``CAPTURED``. The same bytes again, after a torn connection, are no retake.

        Args:
            record_id: the record.
            data: JPEG, PNG or WebP.
            device: ``make``, ``model``, ``os`` and ``lens``, each as text.
            by: pseudonym of the session.

        Raises:
            StateError: it is sealed, or its last retake was used.
            InputError: the photo cannot be used; ``__cause__`` is the :class:`CaseError`.
        """
        device = _checked_device(device)
        photo, clean = prepared_photo(data)
        with self.held():
            record = self._in_state(record_id, NEW, CAPTURED, QC_FAIL, QC_PASS, ANNOTATED)
            attempts = record["attempts"]
            if attempts and attempts[-1]["sha256"] == photo["sha256"]:
                return record
            if len(attempts) > MOST_RETAKES:
                raise StateError(
                    f"{MOST_RETAKES} retakes of this record",
                    f"at most {MOST_RETAKES}",
                    "keep the best photo with a reason, or begin another record",
                )
            number = len(attempts) + 1
            photo["file"] = f"{record_id}-{number}{photo['extension']}"
            _write(self.root / "photos" / photo["file"], clean)
            changed = {
                **record,
                "state": CAPTURED,
                "retakes": number - 1,
                "device": {**device, "w": photo["w"], "h": photo["h"]},
                "photo": photo,
                "attempts": [*attempts, photo],
                **dict.fromkeys(("qc", "verdict", "qc_override", "centre", "roi", "outline", "mask_path")),
            }
            try:
                self._save(changed)
            except (InputError, OSError):
                if self.read(record_id) == record:  # a full disk: give the room back
                    self._drop_photos(record_id, keep=[one["file"] for one in attempts])
                raise
            self._drop_mask(record)
            self.log.append("photo", record_id, by, number=number)
        return changed

    def check(self, record_id: str, quality: Mapping[str, Any], by: str = "") -> dict[str, Any]:
        """Enter what the quality checks say of a ``CAPTURED`` photo: the record is ``QC_PASS`` or ``QC_FAIL``.

        Args:
            record_id: the record.
            quality: ``verdict`` and ``checks``, each with ``value``, ``status`` and ``remedy``.
            by: pseudonym of the session.
        """
        with self.held():
            record = self._in_state(record_id, CAPTURED)
            photo = {**record["photo"], "verdict": quality["verdict"], "worst": _worst(quality)}
            changed = {
                **record,
                "state": QC_FAIL if quality["verdict"] == "fail" else QC_PASS,
                "qc": quality["checks"],
                "verdict": quality["verdict"],
                "photo": photo,
                "attempts": [*record["attempts"][:-1], photo],
            }
            self._save(changed)
            self.log.append("quality", record_id, by, verdict=quality["verdict"])
        return changed

    def override(self, record_id: str, reason: Any, by: str = "") -> dict[str, Any]:
        """Go on with the best of the photos taken, for a stated reason: the record is ``QC_PASS``.

        An annotated record, whose region of interest failed, stays ``ANNOTATED``.
        """
        said = _text(reason, "reason", "reason", required=True)
        with self.held():
            record = self._in_state(record_id, QC_FAIL, QC_PASS, ANNOTATED)
            changed = {**record, "qc_override": {"reason": said}}
            if record["state"] != ANNOTATED:
                best = min(record["attempts"], key=lambda one: (*one.get("worst", (99, 99)), -one["number_px"]))
                changed |= {
                    "state": QC_PASS,
                    "photo": best,
                    "device": {**record["device"], "w": best["w"], "h": best["h"]},
                }
            self._save(changed)
            self.log.append("override", record_id, by)
        return changed

    def annotate(self, record_id: str, given: Mapping[str, Any], by: str = "") -> dict[str, Any]:
        """Enter lesion, form and consent: the record is ``ANNOTATED``.

        Args:
            record_id: the record.
            given: ``centre`` (x, y), ``box`` (x0, y0, x1, y1) or None, ``outline`` of (x, y) or None, in pixels of the
                upright photo; ``form``; ``consent``; ``annotator`` as text, if known.
            by: pseudonym of the session.

        Raises:
            ConfigError: something that cannot be, by its name and never by its value.
            StateError: its photo has not passed.
        """
        from skinkit.images.encode import png_bytes

        with self.held():
            record = self._in_state(record_id, QC_PASS, ANNOTATED)
            w, h = int(record["photo"]["w"]), int(record["photo"]["h"])
            changed = {**record, **self._form(given, by), **_drawn(given, w, h), "state": ANNOTATED}
            changed["review"] = None
            if changed["outline"]:
                changed["mask_path"] = f"masks/{record_id}.png"
                _write(self.root / changed["mask_path"], png_bytes(outlined(changed["outline"], w, h)))
            self._save(changed)
            if not changed["mask_path"]:
                self._drop_mask(record)
            self.log.append("annotation", record_id, by, patient=changed["patient_key"])
        return changed

    def check_region(self, record_id: str, quality: Mapping[str, Any], by: str = "") -> dict[str, Any]:
        """Enter what the quality checks say of the region of interest of an ``ANNOTATED`` record."""
        with self.held():
            record = self._in_state(record_id, ANNOTATED)
            changed = {**record, "qc": quality["checks"], "verdict": quality["verdict"]}
            self._save(changed)
            self.log.append("quality", record_id, by, verdict=quality["verdict"])
        return changed

    def review(self, record_id: str, given: Mapping[str, Any], by: str = "") -> dict[str, Any]:
        """Enter what a second reader says: ``agrees``, ``diagnosis`` and ``note``; the record is ``REVIEWED``."""
        agrees = given.get("agrees")
        if not isinstance(agrees, bool):
            raise ConfigError(f"agrees of type {type(agrees).__name__}", "true or false", "correct it")
        review = {
            "agrees": agrees,
            "diagnosis": checked_diagnosis(given.get("diagnosis")),
            "note": _text(given.get("note"), "note", "note"),
            "reviewer_key": self._person(given, by),
        }
        with self.held():
            record = self._in_state(record_id, ANNOTATED, REVIEWED)
            changed = {**record, "state": REVIEWED, "review": review}
            self._save(changed)
            self.log.append("review", record_id, by, agrees=agrees)
        return changed

    def noted(self, record_id: str, action: str, by: str = "", **values: Any) -> None:
        """Enter an action that changes nothing, such as a classification, into the log."""
        with self.held():
            self.log.append(action, record_id, by, **values)

    def seal(self, record_id: str, by: str = "") -> dict[str, Any]:
        """Close the record for good; photos that were not chosen are removed. A sealed one stays as it is.

        Raises:
            StateError: it is not annotated, or its region of interest failed and no reason was given.
        """
        with self.held():
            record = self.read(record_id)
            if record["state"] == SEALED:
                return record
            record = self._in_state(record_id, ANNOTATED, REVIEWED)
            if record["verdict"] == "fail" and not record.get("qc_override"):
                raise StateError(
                    "the lesion's part of the photo failed the quality checks",
                    "a photo that passes, or a reason to keep this one",
                    "take another photo, or keep it with a reason",
                )
            photo = {name: record["photo"][name] for name in ("file", "format", "sha256", "pixel_sha256", "w", "h")}
            if file_sha256(self.photo_path(record)) != photo["sha256"]:
                raise InputError("the photo is not the one that was taken", "its file unchanged", "take it again")
            mask = self.mask_path(record)
            sealed = {name: value for name, value in record.items() if name != "attempts"}
            sealed |= {"state": SEALED, "sealed_at": today(), "photo": photo}
            sealed["mask_sha256"] = None if mask is None else file_sha256(mask)
            sealed["sha256"] = seal_of(sealed)
            self._save(sealed)
            self._drop_photos(record_id, keep=[photo["file"]])
            self.log.append("seal", record_id, by, patient=sealed["patient_key"], sha256=sealed["sha256"])
        return sealed

    def withdraw(self, record_id: str, by: str = "", action: str = "withdraw") -> dict[str, Any]:
        """Remove a record: its id and the date stay, photo, mask and everything said of the patient go."""
        with self.held():
            record = self.read(record_id)
            if record["state"] == WITHDRAWN:
                return record
            left = {"schema": SCHEMA, "record_id": record_id, "state": WITHDRAWN, "withdrawn_at": today()}
            try:
                self._save(left)
            except (InputError, OSError):  # a full disk, on which what is to go makes room
                self._drop_photos(record_id)
                self._drop_mask(record)
                self._save(left)
            self._drop_photos(record_id)
            self._drop_mask(record)
            self.log.append(action, record_id, by, patient=record.get("patient_key"))
        return left

    # ------------------------------------------------------------------------------------------------- inside

    def _file(self, record_id: str) -> Path:
        if not isinstance(record_id, str) or not _ID.fullmatch(record_id):
            raise _no_record()
        return self.root / "records" / f"{record_id}.json"

    def _in_state(self, record_id: str, *states: str) -> dict[str, Any]:
        record = self.read(record_id)
        if record["state"] == WITHDRAWN:
            raise _no_record()
        if record["state"] not in states:
            raise StateError(
                f"a record in the state {record['state']}", listed(states), "reload the page: it shows where it stands"
            )
        return record

    def _save(self, record: Mapping[str, Any]) -> None:
        _write(self._file(record["record_id"]), json.dumps(record, ensure_ascii=False, indent=1).encode())

    def _drop_photos(self, record_id: str, keep: Collection[str] = ()) -> None:
        for file in (self.root / "photos").glob(f"{record_id}-*"):
            if file.name not in keep:
                file.unlink(missing_ok=True)

    def _drop_mask(self, record: Mapping[str, Any]) -> None:
        (self.root / "masks" / f"{record['record_id']}.png").unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Finish what a killed process began: files of withdrawn records, photos that were not chosen."""
        for _, record in read_records(self.root):
            if record is None or record["state"] not in (SEALED, WITHDRAWN):
                continue
            keep = [str(record["photo"]["file"])] if record["state"] == SEALED else []
            self._drop_photos(record["record_id"], keep=keep)
            if record["state"] == WITHDRAWN:
                self._drop_mask(record)

    def _person(self, given: Mapping[str, Any], by: str) -> str | None:
        name = _text(given.get("annotator"), "annotator", "id")
        return self.pseudonym("annotator", name) if name else by or None

    def _form(self, given: Mapping[str, Any], by: str) -> dict[str, Any]:
        """The fields of the form, checked; ids as pseudonyms."""
        form, consent = _mapping(given, "form"), _mapping(given, "consent")
        patient = str(_text(form.get("patient"), "patient", "id", required=True))
        lesion = _text(form.get("lesion"), "lesion", "id") or "1"
        diagnosis = checked_diagnosis(form.get("diagnosis"))
        source = form.get("diagnosis_source") or None
        _one_of(source, "diagnosis_source", (None, *DIAGNOSIS_SOURCES))
        sex, site = form.get("sex") or UNKNOWN, form.get("site") or UNKNOWN
        _one_of(sex, "sex", SEXES)
        _one_of(site, "site", REGIONS)
        return {
            # With the bar that joins the columns of a key at ingest: the same pseudonym as in a cohort's own table.
            "patient_key": self.pseudonym("patient", patient),
            "lesion_key": self.key.pseudonym("lesion", self.space, f"{one_spelling(patient)}|{one_spelling(lesion)}"),
            "age": _age(form.get("age")),
            "sex": sex,
            "fitzpatrick": _fitzpatrick(form.get("fitzpatrick")),
            "ethnicity": _text(form.get("ethnicity"), "ethnicity", "ethnicity"),
            "site": site,
            "symptoms": _symptoms(form.get("symptoms")),
            "diagnosis": diagnosis,
            "diagnosis_source": source if diagnosis else None,
            "malignancy": malignancy_of(diagnosis),
            "annotator_key": self._person(given, by),
            "consent": _consent(consent),
        }


_THREADS = threading.RLock()


def _no_record() -> NoRecordError:
    return NoRecordError("no such record", "the id of a record that is not withdrawn", "begin a new one")


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _write(path: Path, data: bytes) -> None:
    """Write a file whole, and its name to the disk."""
    write_atomic(path, data, outside=True)
    settle_folder(path.parent)


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error})", "a record as it was written", "restore it") from None
    if not isinstance(value, dict):
        raise InputError(f"{file} is damaged", "a record as it was written", "restore it")
    return value


def read_records(root: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """File and content of every record below a folder, by id; None for one that is damaged."""
    for file in sorted((root / "records").glob("*.json")):
        if not _ID.fullmatch(file.stem):
            continue
        try:
            record = _json(file)
        except (InputError, FileNotFoundError):
            yield file, None
            continue
        yield file, record if record.get("record_id") == file.stem and record.get("state") in STATES else None


def seal_of(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its own hash; the hashes of photo and mask are among its fields."""
    return digest({name: value for name, value in record.items() if name != "sha256"})


# -------------------------------------------------------------------------------------------------------- ingest


def readable(root: Path, on: str = "") -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    """The sealed records that consent lets be learnt from, by the path of their photo, and how many are left out why.

    Args:
        root: folder of the records.
        on: the day on which consent must hold, ``YYYY-MM-DD``; empty for today.
    """
    records: dict[str, dict[str, Any]] = {}
    left: Counter[str] = Counter()
    for _, record in read_records(root):
        if record is None:
            left["damaged"] += 1
        elif record["state"] != SEALED:
            left["withdrawn" if record["state"] == WITHDRAWN else "not sealed"] += 1
        elif record.get("sha256") != seal_of(record):
            left["changed after sealing"] += 1
        elif not record["consent"]["train"]:
            left["no consent to train"] += 1
        elif (record["consent"]["expires"] or "9999") < (on or today()):
            left["consent expired"] += 1
        else:
            records[f"photos/{record['photo']['file']}"] = record
    return records, left


# ------------------------------------------------------------------------------------------------------ one photo


def prepared_photo(data: bytes) -> tuple[dict[str, Any], bytes]:
    """What is recorded of a photo, and its bytes without metadata; it is decoded whole once.

    Raises:
        InputError: it is too large or too small, cannot be decoded completely, or is of another format.
    """
    from skinkit.images.advice import unusable
    from skinkit.images.decode import decode, opened, orientation_of
    from skinkit.images.identity import pixel_sha256
    from skinkit.images.metadata import KINDS, kind_of, stripped

    kind = kind_of(data)
    try:
        if not kind:
            raise CaseError("image_unsupported", "the photo is no JPEG, PNG or WebP")
        _check_pixels(data)
        with opened(data, [], complete=True) as image:
            orientation = orientation_of(image)
        clean = stripped(data, orientation)
        rgb, _ = decode(clean, thorough=True)
    except CaseError as error:
        raise unusable(error, "the photo", "the photo") from error
    height, width = rgb.shape[:2]
    if min(height, width) < LEAST_SIDE_PX:
        small = CaseError("image_unsupported", f"{width} x {height} px")
        raise InputError(f"a photo of {width} x {height} px", f"{LEAST_SIDE_PX} px or more", "take it again") from small
    about = {
        "format": kind,
        "extension": KINDS[kind],
        "sha256": hashlib.sha256(clean).hexdigest(),
        "pixel_sha256": pixel_sha256(rgb),
        "w": width,
        "h": height,
        "number_px": width * height,
    }
    return about, clean


def _check_pixels(data: bytes) -> None:
    """Refuse a picture of more pixels than are taken in, by its head, before anything is decoded."""
    import io
    import warnings

    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
                width, height = image.size
        except Image.DecompressionBombError:
            raise CaseError("image_too_large", f"more than {MOST_PHOTO_PIXELS:,} pixels") from None
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
            raise CaseError("image_unreadable", "the content is no picture that is known") from None
    if width * height > MOST_PHOTO_PIXELS:
        raise CaseError("image_too_large", f"{width} x {height} px, more than {MOST_PHOTO_PIXELS:,} pixels")


def outlined(outline: Sequence[Sequence[float]], w: int, h: int) -> Any:
    """The mask of an outline, bool (h, w).

    Raises:
        ConfigError: it surrounds nothing.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (w, h))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in outline], fill=1, outline=1)
    mask = np.asarray(canvas).astype(bool)
    if mask.sum() < 16:
        raise ConfigError("an outline that surrounds nothing", "a line around the lesion", "draw it again")
    return mask


def region_of(record: Mapping[str, Any]) -> Any:
    """The region of interest of an annotated record as bool (h, w): its outline, else its box; None without either."""
    import numpy as np

    w, h = int(record["photo"]["w"]), int(record["photo"]["h"])
    if record.get("outline"):
        return outlined(record["outline"], w, h)
    if not record.get("roi"):
        return None
    x0, y0, x1, y1 = record["roi"]
    mask = np.zeros((h, w), dtype=bool)
    mask[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)] = True
    return mask


def _worst(quality: Mapping[str, Any]) -> list[int]:
    """Number of failed checks and of warnings."""
    statuses = [check["status"] for check in quality["checks"].values()]
    return [statuses.count("fail"), statuses.count("warn")]


# ---------------------------------------------------------------------------------------------- values of a form


def checked_diagnosis(value: Any) -> str | None:
    """A diagnosis of :data:`skinkit.taxonomy.DIAGNOSES`, also by its code in PAD-UFES-20; None where unknown."""
    if value in (None, "", UNKNOWN):
        return None
    named = PAD6.get(value, value) if isinstance(value, str) else value
    _one_of(named, "diagnosis", tuple(DIAGNOSES))
    return str(named)


def malignancy_of(diagnosis: str | None) -> str | None:
    """``benign``, ``pre-malignant`` (actinic keratosis) or ``malignant``; None without a diagnosis."""
    if diagnosis is None:
        return None
    if diagnosis in MALIGNANT_SETS["pad"]:
        return "malignant"
    return "pre-malignant" if diagnosis == PREMALIGNANT else "benign"


def _mapping(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = given.get(name)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} of type {type(value).__name__}", "an object", "correct it")
    return value


def _text(value: Any, name: str, kind: str, *, required: bool = False) -> str | None:
    """A short text without control characters; None where it is empty. Errors do not repeat it."""
    if value is None or value == "":
        if required:
            raise ConfigError(f"no {name}", "a text", "fill it in")
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{name} of type {type(value).__name__}", "a text", "correct it")
    text = _CONTROL.sub("", value).strip()
    if len(text) > _TEXT[kind]:
        raise ConfigError(f"{name} of {len(text)} characters", f"at most {_TEXT[kind]}", "shorten it")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ConfigError(f"{name} with half a character", "valid Unicode", "correct it")
    if not text and required:
        raise ConfigError(f"no {name}", "a text", "fill it in")
    return text or None


def _one_of(value: Any, name: str, choices: Sequence[Any]) -> None:
    if not isinstance(value, (str, int, type(None))) or isinstance(value, bool) or value not in choices:
        raise ConfigError(f"a {name} that is not known", listed([c for c in choices if c], most=20), "choose one")


def _age(value: Any) -> int | None:
    if value in (None, ""):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 120:
        raise ConfigError("an age that cannot be", "whole years from 0 to 120, or empty", "correct it")
    return min(int(value), OLDEST_YEARS)


def _fitzpatrick(value: Any) -> int | str:
    if value in (None, "", UNKNOWN):
        return UNKNOWN
    number = int(value) if isinstance(value, str) and value.isdecimal() and value.isascii() else value
    _one_of(number, "skin type", FITZPATRICK)
    return int(number)


def _symptoms(value: Any) -> dict[str, bool | None]:
    given = {} if value is None else value
    if not isinstance(given, Mapping) or not set(given) <= {*SYMPTOMS}:
        raise ConfigError("symptoms that are not known", listed(SYMPTOMS), "correct them")
    if any(answer is not None and not isinstance(answer, bool) for answer in given.values()):
        raise ConfigError("a symptom that is neither yes nor no", "true, false or null", "correct it")
    return {name: given.get(name) for name in SYMPTOMS}


def _consent(value: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("train", "share"):
        if not isinstance(value.get(name), bool):
            raise ConfigError(f"consent to {name} is not said", "true or false", "ask the patient")
    expires = value.get("expires") or None
    if expires is not None:
        try:
            expires = dt.date.fromisoformat(expires).isoformat()
        except (TypeError, ValueError):
            raise ConfigError("a date until which consent holds", "YYYY-MM-DD, or empty", "correct it") from None
    return {"train": value["train"], "share": value["share"], "expires": expires}


def _checked_device(device: Mapping[str, Any]) -> dict[str, str | None]:
    if not isinstance(device, Mapping):
        raise ConfigError("a device that is no object", "make, model, os and lens", "correct it")
    return {name: _text(device.get(name), name, "device") for name in ("make", "model", "os", "lens")}


def _drawn(given: Mapping[str, Any], w: int, h: int) -> dict[str, Any]:
    """Centre, box and outline, inside the picture."""
    centre = _points([given.get("centre")], "centre", w, h)[0]
    box = given.get("box")
    if box is not None:
        if not isinstance(box, Sequence) or isinstance(box, str) or len(box) != 4:
            raise ConfigError("a box that is no box", "[x0, y0, x1, y1]", "draw it again")
        (x0, y0), (x1, y1) = _points([box[:2], box[2:]], "box", w, h)
        if x1 - x0 < 1 or y1 - y0 < 1:
            raise ConfigError("a box that holds nothing", "x0 < x1 and y0 < y1", "draw it again")
        box = [x0, y0, x1, y1]
    outline = given.get("outline")
    if outline is not None:
        if not isinstance(outline, Sequence) or isinstance(outline, str) or not 3 <= len(outline) <= MOST_POINTS:
            raise ConfigError("an outline that is none", f"3 to {MOST_POINTS} points", "draw it again")
        outline = _points(outline, "outline", w, h)
        xs, ys = [x for x, _ in outline], [y for _, y in outline]
        box = box or [min(xs), min(ys), max(xs), max(ys)]
    return {"centre": centre, "roi": box, "outline": outline, "mask_path": None}


def _points(points: Sequence[Any], name: str, w: int, h: int) -> list[list[float]]:
    out = []
    for point in points:
        if not isinstance(point, Sequence) or isinstance(point, str) or len(point) != 2:
            raise ConfigError(f"{name} without x and y", "[x, y] in pixels of the upright photo", "draw it again")
        if any(isinstance(v, bool) or not isinstance(v, (int, float)) or not math.isfinite(v) for v in point):
            raise ConfigError(f"{name} that is no number", "[x, y] in pixels of the upright photo", "draw it again")
        x, y = (round(float(v), 1) for v in point)
        if not (-1 <= x <= w + 1 and -1 <= y <= h + 1):
            raise ConfigError(f"{name} outside of the photo", f"0 to {w} and 0 to {h}", "draw it again")
        out.append([min(max(x, 0.0), float(w)), min(max(y, 0.0), float(h))])
    return out


# --------------------------------------------------------------------------------------------------------- the log


@dataclass(frozen=True)
class Log:
    """An append-only log: one JSON object a line, each chained to the one before it by a keyed hash.

    A line that was changed, added or removed breaks the chain; lines removed from the end are noticed by the file
    beside it, which holds the number and the hash of the last line. It names records and pseudonyms only.
    """

    file: Path
    key: Key

    @property
    def _head(self) -> Path:
        return self.file.with_name(f"{self.file.stem}.head.json")

    def append(self, action: str, record: str = "", by: str = "", **values: Any) -> None:
        """Add a line and flush it to the disk; the caller holds the store.

        Raises:
            InputError: it cannot be written; the log is as before.
        """
        number, before = self._last()
        head = _json(self._head) if self._head.exists() else {"n": 0}
        if head["n"] > number:  # lines are missing: what follows must not hide that
            number, before = int(head["n"]), str(head["mac"])
        line = {
            "n": number + 1,
            "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "action": action,
            "record": record or None,
            "by": by or None,
            **{name: value for name, value in values.items() if value is not None},
            "before": before,
        }
        line["mac"] = self._mac(line)
        text = json.dumps(line, ensure_ascii=True).encode() + b"\n"
        with open(self.file, "ab", opener=_private) as stream:
            size = stream.seek(0, os.SEEK_END)
            try:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(stream.fileno(), size)
                raise InputError(
                    f"{self.file} cannot be written: {error.strerror}", "room for the log", "free some space"
                ) from error
        _write(self._head, json.dumps({"n": line["n"], "mac": line["mac"]}).encode())

    def lines(self) -> list[dict[str, Any]]:
        """Every whole line."""
        return [json.loads(line) for line in self._raw()]

    def problems(self) -> list[str]:
        """What is wrong with the log, in sentences; none where it is whole."""
        found, before, number = [], "", 0
        for place, raw in enumerate(self._raw(), 1):
            try:
                line = json.loads(raw)
                mac = line.pop("mac")
                own = int(line["n"])
            except (ValueError, KeyError, TypeError, AttributeError):
                found.append(f"line {place} is damaged")
                number += 1
                continue
            if own != number + 1 or line.get("before") != before:
                found.append(f"line {place}, number {own}, does not follow number {number}")
            if mac != self._mac(line):
                found.append(f"line {place}, number {own}, was changed")
            number, before = own, mac
        if self._head.exists():
            head = _json(self._head)
            if head["n"] > number:
                found.append(f"{head['n'] - number} lines are missing at the end")
        elif number:
            found.append("the file beside the log is missing")
        return found

    def _raw(self) -> list[bytes]:
        return self.file.read_bytes().splitlines() if self.file.exists() else []

    def _mac(self, line: Mapping[str, Any]) -> str:
        return self.key.pseudonym("log", "", json.dumps(line, sort_keys=True, ensure_ascii=True))

    def _last(self) -> tuple[int, str]:
        """Number and hash of the last line; half a line, which a killed process left, is removed."""
        if not self.file.exists():
            return 0, ""
        with self.file.open("r+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 65536))
            tail = stream.read()
            whole = tail.rfind(b"\n") + 1
            if whole < len(tail):
                stream.truncate(size - len(tail) + whole)
        lines = tail[:whole].splitlines()
        if not lines:
            return 0, ""
        try:
            last = json.loads(lines[-1])
            return int(last["n"]), str(last["mac"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.file}: its last line is damaged", "a log as it was written", "restore it from a backup"
            ) from error
