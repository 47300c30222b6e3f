"""Where a patient stands in a workspace, and how the patient is removed from it.

A patient is looked for by the id of the hospital, which in pseudonymised cohorts is hashed with their keys, or by a
pseudonym. Found are: records of the photo page, rows of artifacts, texts such as reports, and models that have learnt
from the patient. What is removed: the records, every artifact of cohorts of records that holds the patient, and reports
in which the patient stands; all of these can be made again. Models are marked, not removed. Folders of other cohorts
are the hospital's own and are only named, and so are artifacts made of them, with the command that makes them anew.
"""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skinkit.artifacts.artifact import MANIFEST, exists, open_artifact
from skinkit.artifacts.locks import lock
from skinkit.artifacts.tables import opened_table
from skinkit.audit import test_access_log, withdrawals
from skinkit.audit.identifiers import files_of
from skinkit.data import load_source
from skinkit.data.capture_records import SEALED, SOURCE_NAME, WITHDRAWN, Store, open_store
from skinkit.data.ids import one_spelling
from skinkit.errors import InputError, SkinkitError
from skinkit.privacy.pseudonyms import LENGTH, read_key
from skinkit.schemas import TRAINED_ON_FILE
from skinkit.workspace import SETTINGS_FILE, UNFINISHED, Cohort, Ref, Workspace

UNREACHABLE = (
    "packs, ONNX files, tables and reports that were handed out: tell those who have them",
    "backups, snapshots of disks and copies of this workspace",
    "the memory of phones: the page keeps no photo there, the camera app of a phone may",
    "exports to other systems of the hospital (PACS, records)",
)
"""What no command can reach."""
_MAKER = {
    "cases": "ingest", "masks": "segment", "features": "radiomics", "fused": "fuse", "predictions": "predict",
    "explanations": "explain", "metrics": "evaluate",
}  # fmt: skip
"""Kind of artifact of a cohort -> the command that makes it."""
_KEYS = ("image_id", "case_id")
_TEXTS = (".json", ".jsonl", ".html", ".csv", ".tsv", ".txt", ".md", ".svg", ".log")
_TOKEN = re.compile(r"""[^\s"'<>,;:=&()\[\]{}|]+""")
_SHORTEST = 4
_PACKS = (".skinkit", ".onnx")


@dataclass
class Found:
    """Where a patient stands.

    Attributes:
        patients: cohort -> the ids that the patient goes by there.
        records: cohort -> ids of records.
        artifacts: folder relative to the workspace -> ``rows``, ``cohort``, ``remake`` and whether it is ``removed``.
        texts: further files that name the patient.
        models: models that have learnt from the patient, as :func:`skinkit.audit.withdrawals.models_that_saw`.
        sources: cohort -> folder of the hospital in which the patient stands.
        packs: files in the workspace that may have learnt from the patient.
        unknown: cohorts of which it is not known, and why.
    """

    patients: dict[str, str] = field(default_factory=dict)
    records: dict[str, list[str]] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    packs: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def anywhere(self) -> bool:
        """Whether the patient stands anywhere."""
        return bool(self.records or self.artifacts or self.texts or self.models)


def find(workspace: Workspace, patient: str) -> Found:
    """Where a patient stands in a workspace; nothing is changed.

    Args:
        workspace: the workspace.
        patient: the hospital's own id, or a pseudonym.
    """
    found = Found()
    for cohort in workspace.cohorts.values():
        try:
            found.patients[cohort.name] = _id_in(cohort, workspace, patient)
        except SkinkitError as error:
            found.unknown[cohort.name] = error.found
    own = {*found.patients.values()}
    pixels: set[str] = set()
    for store in _stores(workspace, found):
        records = [record for record in store.of_patient(*own) if record["state"] != WITHDRAWN]
        if records:
            found.records[store.name] = [record["record_id"] for record in records]
        pixels |= {record["photo"]["pixel_sha256"] for record in records if record["state"] == SEALED}
    images = _images(workspace, found)
    _find_tables(workspace, found, images)
    found.models = withdrawals.models_that_saw(workspace, own, pixels)
    _find_texts(workspace, found, own | {image for of in images.values() for image in of})
    return found


def forget(workspace: Workspace, found: Found) -> list[str]:
    """Remove what :func:`find` found and this workspace may remove, and mark the models; what was removed.

    Raises:
        BusyError: an artifact is being written; what was removed before stays removed, and a second call goes on.
    """
    withdrawals.mark(workspace, found.models)  # first: a killed process leaves a mark too many, never one too few
    done = []
    for store in _stores(workspace, found):
        for record_id in found.records.get(store.name, ()):
            store.withdraw(record_id, "command line", "forget")
            done.append(f"record {record_id}")
        store.noted(
            "", "forget", "command line", patient=found.patients[store.name],
            records=len(found.records.get(store.name, ())),
        )  # fmt: skip
    for name, about in found.artifacts.items():
        if about["removed"]:
            path = workspace.root / name
            with lock(path):
                shutil.rmtree(path, ignore_errors=True)
            done.append(name)
    return done


def _id_in(cohort: Cohort, workspace: Workspace, patient: str) -> str:
    """How a patient is called in a cohort."""
    if re.fullmatch(rf"[a-z2-7]{{{LENGTH}}}", patient):
        return patient
    plain = one_spelling(patient)
    if cohort.key_file is None:
        return plain
    key = read_key(cohort.key_file, workspace.root)
    return key.pseudonym("patient", _space_of(cohort, workspace), plain)


def _space_of(cohort: Cohort, workspace: Workspace) -> str:
    path = workspace.path(Ref("cases", cohort.name))
    if exists(path):
        return str(open_artifact(path).info["id_space"])
    source = load_source(cohort.source)
    own = cohort.name if source.name == "folder" else source.name
    return str(cohort.options.get("id_space") or source.id_space or own)


def _stores(workspace: Workspace, found: Found) -> Iterator[Store]:
    for cohort in workspace.cohorts.values():
        if cohort.source == SOURCE_NAME and cohort.name in found.patients and Path(str(cohort.root)).is_dir():
            yield open_store(cohort, workspace)


# ------------------------------------------------------------------------------------------------------ tables


def _images(workspace: Workspace, found: Found) -> dict[str, set[str]]:
    """Cohort -> ids of the patient's images and cases, by the cohort's cases and records."""
    images: dict[str, set[str]] = {name: {*ids} for name, ids in found.records.items()}
    for name, patient in found.patients.items():
        path = workspace.path(Ref("cases", name))
        if not exists(path):
            continue
        try:
            table = open_artifact(path).table()
        except InputError as error:
            found.unknown[name] = error.found
            continue
        rows = table[table["patient_id"] == patient]
        if rows.empty:
            continue
        images.setdefault(name, set()).update(map(str, rows["image_id"]), map(str, rows["case_id"]))
        if workspace.cohort(name).source != SOURCE_NAME:
            found.sources[name] = str(workspace.cohort(name).root)
    return images


def _find_tables(workspace: Workspace, found: Found, images: dict[str, set[str]]) -> None:
    """Enter the artifacts with rows of the patient."""
    for path in sorted(workspace.artifacts.rglob("*.parquet")):
        if path.name == TRAINED_ON_FILE:
            continue  # of models, which are told apart by what they have learnt
        place = path.relative_to(workspace.artifacts).parts
        try:
            rows = _rows_of(path, place[0], found.patients, images)
        except InputError:
            continue  # damaged: 'skinkit verify' lists it
        if not rows:
            continue
        folder = _artifact_of(path, workspace.artifacts)
        if folder is None:
            found.texts.append(path.relative_to(workspace.root).as_posix())
            continue
        name = folder.relative_to(workspace.root).as_posix()
        about = found.artifacts.setdefault(name, {"rows": 0, **_kind_of(folder, workspace)})
        about["rows"] += rows


def _rows_of(path: Path, cohort: str, patients: dict[str, str], images: dict[str, set[str]]) -> int:
    """Number of rows of a table that are of the patient."""
    with opened_table(path) as file:
        names = file.schema_arrow.names
        wanted = [name for name in ("cohort", "patient_id", "group_id", "lesion_id", *_KEYS) if name in names]
        rows = file.read(columns=wanted).to_pylist()
    everywhere = {*patients.values()}
    count = 0
    for row in rows:
        home = str(row.get("cohort") or cohort)
        here = {patients[home]} if home in patients else everywhere
        own = images.get(home, set())
        group = str(row.get("group_id") or "").rpartition(":patient:")[2]
        named = row.get("patient_id") in here or group in here
        count += named or any(row.get(key) in own or row.get(key) in here for key in _KEYS if row.get(key))
    return count


def _artifact_of(path: Path, top: Path) -> Path | None:
    """The finished or unfinished artifact that a file belongs to."""
    for folder in path.parents:
        if folder == top:
            return None
        if (folder / MANIFEST).is_file() or folder.name.endswith(UNFINISHED):
            return folder
    return None


def _kind_of(folder: Path, workspace: Workspace) -> dict[str, Any]:
    """Cohort, the command that makes an artifact anew, and whether forgetting removes it."""
    kind, *rest = folder.relative_to(workspace.artifacts).parts
    name = folder.name
    if kind in workspace.cohorts:
        maker = _MAKER.get(rest[0], "run")
        of_model = " --model" if maker in ("predict", "explain", "evaluate") else " --name"
        named = f"{of_model} {name}" if len(rest) > 1 else ""
        ours = workspace.cohort(kind).source == SOURCE_NAME
        return {"cohort": kind, "remake": f"skinkit {maker} --cohort {kind}{named}", "removed": ours}
    of = {"splits": f"skinkit split --name {rest[0] if rest else name}", "report": "skinkit report"}
    of |= {"synthetic": f"skinkit synthesise --name {name}", "models": f"skinkit train --name {name} --replace"}
    return {"cohort": None, "remake": of.get(kind, "skinkit run"), "removed": kind == "report"}


# ------------------------------------------------------------------------------------------------------- texts


def _find_texts(workspace: Workspace, found: Found, ids: Collection[str]) -> None:
    """Enter texts that name the patient or one of the patient's images, and files that models were packed into."""
    sought = {tuple(_TOKEN.findall(own)) for own in ids if len(own) >= _SHORTEST}
    for path in files_of(workspace):
        name = path.relative_to(workspace.root).as_posix()
        if path.suffix in _PACKS:
            found.packs.append(name)
        if path.suffix not in _TEXTS or not path.is_file() or path.name in _NOT_SEARCHED:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        there = set(_TOKEN.findall(html.unescape(text) if path.suffix == ".html" else text))
        if not any(words and there.issuperset(words) for words in sought):
            continue
        folder = _artifact_of(path, workspace.artifacts) if path.is_relative_to(workspace.artifacts) else None
        inside = None if folder is None else folder.relative_to(workspace.root).as_posix()
        if folder is None or inside is None:
            found.texts.append(name)
        elif inside not in found.artifacts:
            found.artifacts[inside] = {"rows": 0, **_kind_of(folder, workspace)}


_NOT_SEARCHED = (SETTINGS_FILE, withdrawals.FILE, test_access_log.LEDGER, test_access_log.FORMER_LEDGER)
