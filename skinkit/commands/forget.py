"""forget: remove a patient from the workspace, and say what cannot be removed.

    skinkit forget 4711                  lists where the patient stands and what would be done
    skinkit forget 4711 --yes            does it
    skinkit forget --record ID --yes     withdraws the consent of one record of the photo page

PATIENT is the hospital's own id, or a pseudonym. Records of the photo page and what was made of them are removed;
models that have learnt from the patient are marked and named with the command that trains them again; folders of the
hospital, artifacts made of them, deliveries and backups are listed. The log of the records says what was done, by
pseudonyms alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.commands import Context
from skinkit.console import as_lines
from skinkit.errors import ConfigError, InputError
from skinkit.options import Help

if TYPE_CHECKING:
    from skinkit.audit.forgetting import Found
    from skinkit.workspace import Workspace

PANEL = "Hand over", 5

_NOT_YET = "nothing was changed: --yes does it"


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    patient: Annotated[str, Help("the hospital's id of the patient, or a pseudonym", positional=True)] = ""
    record: Annotated[str, Help("withdraw this one record instead", metavar="ID")] = ""
    yes: Annotated[bool, "do it; without, what would be done is listed"] = False


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """List where a patient stands, and with ``--yes`` remove the patient."""
    from skinkit.audit.forgetting import UNREACHABLE, find, forget
    from skinkit.audit.withdrawals import told

    if bool(config.patient.strip()) == bool(config.record):
        raise ConfigError("a patient and a record, or neither", "one of them", "skinkit forget PATIENT, or --record ID")
    workspace = context.workspace()
    if config.record:
        return _record(config, workspace)
    found = find(workspace, config.patient.strip())
    done = forget(workspace, found) if config.yes else []
    return {
        "done": config.yes,
        "found": found.anywhere,
        "pseudonyms": {
            name: own for name, own in found.patients.items() if workspace.cohort(name).key_file is not None
        },
        "records": found.records,
        "artifacts": [{"path": path, **about} for path, about in found.artifacts.items()],
        "models": told(found.models),
        "texts": found.texts,
        "sources": found.sources,
        "packs": found.packs,
        "unknown": found.unknown,
        "unreachable": list(UNREACHABLE),
        "removed": done,
        "text": as_lines(_lines(found, done, UNREACHABLE, did=config.yes)),
    }


def _lines(found: Found, done: list[str], unreachable: tuple[str, ...], *, did: bool) -> list[str]:
    lines = [] if found.anywhere else ["this workspace holds nothing of this patient"]
    for cohort, ids in found.records.items():
        lines.append(f"records of cohort {cohort}: {len(ids)} {'removed' if did else 'to remove'}")
    for path, about in found.artifacts.items():
        what = ("removed" if did else "to remove") if about["removed"] else "stays until it is made anew"
        lines.append(f"  {path}: {what}; {about['remake']}")
    for name, about in found.models.items():
        what = "marked" if did else "to mark"
        lines.append(f"model {name} has learnt from {about['images']} photos: {what}; {about['retrain']}")
    lines += [f"  {name}: names the patient; remove it, or make it anew" for name in found.texts]
    lines += [f"cohort {name}: remove the patient from {path}, then ingest it" for name, path in found.sources.items()]
    lines += [f"cohort {name}: not searched: {why}" for name, why in found.unknown.items()]
    lines += [f"  {name}: a model was packed into it" for name in found.packs]
    lines += ["not within reach:", *(f"  {what}" for what in unreachable)]
    lines += [f"removed: {len(done)}"] if did else [_NOT_YET]
    return lines


def _record(config: Config, workspace: Workspace) -> Mapping[str, Any]:
    """Withdraw one record."""
    from skinkit.audit.withdrawals import models_that_saw, told, withdraw
    from skinkit.data.capture_records import SEALED, SOURCE_NAME, NoRecordError, open_store

    for cohort in workspace.cohorts.values():
        if cohort.source != SOURCE_NAME:
            continue
        store = open_store(cohort, workspace)
        try:
            record = store.read(config.record)
        except NoRecordError:
            continue
        if config.yes:
            answer = withdraw(store, workspace, config.record, "command line")
        else:
            pixels = [record["photo"]["pixel_sha256"]] if record["state"] == SEALED else []
            models = models_that_saw(workspace, pixels=pixels)
            answer = {
                "record_id": config.record,
                "state": record["state"],
                "models": told(models),
            }
        names = ", ".join(model["name"] for model in answer["models"]) or "none"
        lines = [f"record {config.record}: {answer['state']}", f"models that have learnt from it: {names}"]
        lines += [f"'skinkit ingest --cohort {cohort.name}' drops it" if config.yes else _NOT_YET]
        return {"done": config.yes, **answer, "cohort": cohort.name, "text": as_lines(lines)}
    raise InputError(
        "no record of that id in any cohort of this workspace", "the id of a record", "the page and its folder show ids"
    )
