"""Which models have learnt from a record or a patient whose consent was withdrawn, and the mark that says so.

A model cannot forget; it can be named, so that nobody goes on using it without knowing, and trained again. The mark is
a file beside the models, by the identity of the model: one that is trained again has another identity and no mark.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from skinkit.artifacts.artifact import MANIFEST, Artifact, exists, open_artifact
from skinkit.artifacts.files import digest, write_atomic
from skinkit.artifacts.locks import lock
from skinkit.artifacts.tables import opened_table
from skinkit.data.capture_records import SEALED, Store, today
from skinkit.errors import InputError
from skinkit.schemas import LEARNT, TRAINED_ON_FILE
from skinkit.workspace import UNFINISHED, Ref, Workspace

FILE = "withdrawals.json"
"""Name of the file of marks, in the folder of the artifacts."""
_PHOTOS = "photos"
"""In a mark: digests of the images, so that none is counted twice."""
_COLUMNS = ("part", "patient_id", "image_id", "pixel_sha256")


def models_that_saw(
    workspace: Workspace, patients: Collection[str] = (), pixels: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Name of each model that has learnt from these patients or photos -> what :func:`told` tells, and which photos.

    Args:
        workspace: the workspace.
        patients: ids or pseudonyms, as cases have them.
        pixels: hashes of decoded pixels.

    Models that cannot be read are left out; installed models name photos, but no patients.
    """
    found = {}
    for artifact in _models(workspace):
        images = _learnt(artifact.path / TRAINED_ON_FILE, {*patients}, {*pixels})
        if images:
            name = artifact.path.name
            found[name] = {
                "identity": artifact.identity,
                "images": len(images),
                _PHOTOS: sorted(digest(image)[:16] for image in images),
                "retrain": f"skinkit train --name {name} --replace",
            }
    return found


def told(models: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``name``, ``identity``, number of ``images`` and ``retrain`` of each model of :func:`models_that_saw`."""
    return [{"name": name, **{k: v for k, v in about.items() if k != _PHOTOS}} for name, about in models.items()]


def mark(workspace: Workspace, models: dict[str, dict[str, Any]]) -> None:
    """Enter that these models have learnt from withdrawn records; each photo counts once, whenever it was withdrawn."""
    if not models:
        return
    file = workspace.artifacts / FILE
    with lock(file, wait_s=10):
        marks = _marks(file)
        for name, about in models.items():
            photos = sorted({*marks.get(about["identity"], {}).get(_PHOTOS, ()), *about[_PHOTOS]})
            marks[about["identity"]] = {"model": name, "images": len(photos), _PHOTOS: photos, "last": today()}
        write_atomic(file, json.dumps(marks, indent=1).encode())


def marks(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Identity of a model -> its mark: ``model``, number of withdrawn ``images`` and the ``last`` date."""
    known = _marks(workspace.artifacts / FILE)
    return {identity: {k: v for k, v in of.items() if k != _PHOTOS} for identity, of in known.items()}


def withdrawn_from(workspace: Workspace, model: Path) -> int:
    """Of a model's photos those whose consent was withdrawn after it had learnt from them, by its mark; 0 without one.

    Args:
        workspace: the workspace.
        model: folder of the model; it need not exist.
    """
    known = marks(workspace)
    return int(known.get(open_artifact(model).identity, {}).get("images", 0)) if known and exists(model) else 0


def withdraw(store: Store, workspace: Workspace, record_id: str, by: str = "") -> dict[str, Any]:
    """Withdraw one record, and list and mark the models that have learnt from its photo.

    Returns:
        ``record_id``, ``state`` and ``models``: each ``name``, ``identity``, ``images`` and ``retrain``.
    """
    record = store.read(record_id)
    models: dict[str, dict[str, Any]] = {}
    if record["state"] == SEALED:
        models = models_that_saw(workspace, pixels=[record["photo"]["pixel_sha256"]])
        mark(workspace, models)  # before the record goes: a killed process leaves a mark too many, never one too few
    left = store.withdraw(record_id, by)
    return {
        "record_id": record_id,
        "state": left["state"],
        "models": told(models),
    }


def _models(workspace: Workspace) -> list[Artifact]:
    found = []
    for manifest in sorted((workspace.artifacts / "models").glob(f"*/{MANIFEST}")):
        if manifest.parent.name.endswith(UNFINISHED) or not (manifest.parent / TRAINED_ON_FILE).is_file():
            continue
        try:
            found.append(open_artifact(workspace.path(Ref("models", name=manifest.parent.name))))
        except InputError:  # damaged: 'skinkit verify' says so
            continue
    return found


def _learnt(table: Path, patients: set[str], pixels: set[str]) -> set[str]:
    """Images that a model has learnt from, of these patients or with these pixels."""
    with opened_table(table) as file:
        names = [name for name in _COLUMNS if name in file.schema_arrow.names]
        rows = file.read(columns=names).to_pylist()
    return {
        str(row["image_id"])
        for row in rows
        if row.get("part") in LEARNT and (row.get("patient_id") in patients or row.get("pixel_sha256") in pixels)
    }


def _marks(file: Path) -> dict[str, dict[str, Any]]:
    try:
        value: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error})", "marks of models", "restore it from a backup") from None
    return value
