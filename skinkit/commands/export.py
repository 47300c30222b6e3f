"""export: export predictions for a hospital system, as CSV, FHIR or DICOM.

Without --csv the table goes to stdout. With it, the file's folder must exist, and only an earlier table of export is
replaced. Cases without a prediction are included with the reason.

Every export prints a token, also as 'token' in --json. Pass it as --since the next time: then only rows that differ
from that export are written, each once, and the column 'change' says whether a row is new, corrected or withdrawn. No
clock is involved. A token that this workspace does not know gives every row again, with a warning.

--since also takes an ISO 8601 time or a run id (column 'run'). This goes by the machine's clock: if the clock was set
back, rows are missing or come twice, and withdrawn rows are never in it.

--reidentify restores the original ids of pseudonymised cohorts. They are computed from the cohort's files with the key
and stored nowhere else. Only its owner can read the file.

--fhir writes a FHIR transaction Bundle: DiagnosticReport, Observations, ImagingStudy, Patient and Device. It takes
--since too: a corrected row is a corrected report, a withdrawn one is entered in error. --post sends such bundles to a
server, which only gets what changed since the last time. What cannot be sent waits in the workspace and is sent first
the next time (exit code 4). Both are for pseudonymised cohorts; --ids-as-they-are says that the ids name nobody.

--dicom-seg writes the outline of every photo as a DICOM SEG, --dicom-sr its numbers as an SR (TID 1500) with the SEG it
refers to. A photo that is no DICOM file is written as a VL Photographic Image beside them. In a pseudonymised cohort
the patient's tags are replaced by pseudonyms, unless --reidentify is given. Photos without an object are counted with
the reason (exit code 3).
"""

from __future__ import annotations

import datetime
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skinkit import __version__
from skinkit.artifacts.artifact import as_written, exists, open_artifact
from skinkit.artifacts.files import file_sha256, write_atomic
from skinkit.commands import Context
from skinkit.errors import ConfigError, InputError, RefusedError, listed
from skinkit.learning.pack import trained
from skinkit.options import ONE_MODEL, Help
from skinkit.privacy import permissions
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    from skinkit.artifacts.artifact import Artifact
    from skinkit.exchange.fhir import Result
    from skinkit.reporting.delivery import Held
    from skinkit.reporting.export_table import Row

PANEL = "Hand over", 1
SHARED_OPTIONS = ("workspace", "cohort")

_RUN = re.compile(r"(\d{8}T\d{6})(Z?)-\d+")
_ATTEMPTS = 5
"""How often artifacts are read that other runs replace meanwhile."""
_NO_TOKEN = "no token: this user may not write to the workspace, so nothing was recorded"


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    csv: Annotated[str, Help("file to write (default: stdout)", metavar="<file>", writes="table")] = ""
    encoding: Annotated[
        Literal["utf-8", "utf-8-sig", "gb18030"],
        "encoding of the file; Excel recognises UTF-8 by the byte order mark of utf-8-sig",
    ] = "utf-8"
    crlf: Annotated[bool, "use Windows line ends"] = False
    since: Annotated[str, Help("only what changed since the export that printed this token", metavar="<token>")] = ""
    level: Annotated[Literal["image", "lesion", "patient"], "one row per image's case, lesion or patient"] = "image"
    model: Annotated[str, ONE_MODEL] = ""
    fhir: Annotated[str, Help("file to write a FHIR transaction Bundle to", metavar="<file>", writes="bundle")] = ""
    fhir_release: Annotated[Literal["R4", "R5"], "of FHIR: R4 (4.0.1) or R5"] = "R4"
    post: Annotated[str, Help("send what changed to this FHIR server", metavar="<url>")] = ""
    ids_as_they_are: Annotated[bool, "with --fhir, --post: the cohort's own ids name no patient; send them"] = False
    dicom_seg: Annotated[str, Help("folder for outlines as DICOM SEG", metavar="<folder>", writes="folder")] = ""
    dicom_sr: Annotated[str, Help("folder for results as DICOM SR, with SEG", metavar="<folder>", writes="folder")] = ""
    reidentify: Annotated[str, Help("key file; exports the cohort's original ids", metavar="<key file>")] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Write the table."""
    from skinkit.artifacts import csv
    from skinkit.exchange import fhir
    from skinkit.reporting import export_table
    from skinkit.reporting.delivery import delivered, token

    held, moment, run_id = _parsed(config.since)
    workspace = context.workspace()
    model = config.model or workspace.defaults["model"]
    _check_together(config)
    if config.post:
        return _posted(config, context, workspace, model)
    if config.dicom_seg or config.dicom_sr:
        return _dicom(config, context, workspace, model)
    if config.encoding != "utf-8" and not config.csv:
        raise ConfigError(f"--encoding {config.encoding} on stdout", "a file to write", "add --csv FILE")
    if moment is not None:
        context.console.warn(
            "--since with a time goes by the clock: rows are missing or come twice if it was set back, and withdrawn "
            "rows are not among them. Next time give the token that this export prints"
        )
    until = datetime.datetime.now().astimezone()
    rows: list[Row] = []
    unknown, lost = [], 0
    results: list[Result] = []
    for cohort in _chosen(context, workspace, model):
        cases = open_artifact(workspace.path(Ref("cases", cohort)))
        wanted = (cohort, model, config.level)
        delivery = delivered(workspace.artifacts, wanted, partial(_present, workspace, wanted), held.get(cohort))
        changed = export_table.since(delivery.rows, moment, run_id)
        if moment is not None:
            changed = [{**row, "change": None} for row in changed]
        if config.reidentify:
            lost += export_table.rename(changed, _own_ids(config, workspace, cohort, cases))
        if config.fhir:
            results += _results(config, workspace, cohort, model, changed)
        rows += changed
        unknown += [] if delivery.known else [cohort]
        held.pop(cohort, None)
        held |= {} if delivery.held is None else {cohort: delivery.held}
    if unknown:
        context.console.warn(
            f"{listed(unknown)}: this workspace has no record of the export that printed this token, so every row is "
            "delivered as new. Rows may come twice, and what was withdrawn since is not among them"
        )
    if lost:
        context.console.warn(f"{lost} ids stay pseudonyms: what they stood for is no longer in the cohort's files")
    rows.sort(key=lambda row: (row["cohort"], str(row["accession"]), str(row["case"])))
    next_token = token(held.values()) or None
    data = csv.encoded(export_table.COLUMNS, rows, config.encoding, crlf=config.crlf)
    statuses = dict(sorted(Counter(str(row["status"]) for row in rows).items()))
    answer: dict[str, Any] = {
        "rows": len(rows),
        "status": statuses,
        "level": config.level,
        "change": dict(sorted(Counter(str(row["change"]) for row in rows if row["change"]).items())),
        "token": next_token,
        "redelivered": unknown,
        "until": until.isoformat(timespec="microseconds"),
    }
    following = f"next time: --since {next_token}" if next_token else _NO_TOKEN
    if config.fhir:
        path = Path(config.fhir).expanduser()
        bundle = fhir.bundle(results, config.fhir_release, __version__)
        write_atomic(path, fhir.encoded(bundle), outside=True)
        text = f"{path}: FHIR {config.fhir_release}, {len(rows)} reports, {len(bundle['entry'])} resources\n{following}"
        return {
            **answer,
            "fhir": str(path),
            "resources": len(bundle["entry"]),
            "sha256": file_sha256(path),
            "text": text,
        }
    if not config.csv:
        context.console.info(following)
        records = [{name: row.get(name) for name in export_table.COLUMNS} for row in rows]
        return {**answer, "cases": records, "text": data.decode("utf-8").removesuffix("\n")}
    path = Path(config.csv).expanduser()
    with permissions.restored():
        if config.reidentify:
            os.umask(permissions.OWNER_ALONE)
        write_atomic(path, data, outside=True)
    summary = ", ".join(f"{n} {status}" for status, n in statuses.items()) or "nothing new"
    return {
        **answer,
        "csv": str(path),
        "sha256": file_sha256(path),
        "text": f"{path}: {len(rows)} rows ({summary})\n{following}",
    }


def _check_together(config: Config) -> None:
    """Refuse options that say two things.

    Raises:
        ConfigError: as above.
    """
    ways = [flag for flag, value in (("--csv", config.csv), ("--fhir", config.fhir), ("--post", config.post)) if value]
    ways += ["--dicom-seg or --dicom-sr"] if config.dicom_seg or config.dicom_sr else []
    if len(ways) > 1:
        raise ConfigError(f"{' and '.join(ways)} at once", "one of them", "run export once for each")
    if config.post and config.since:
        raise ConfigError(
            "--post with --since", "--post alone: what the server holds is kept for it", "leave --since out"
        )
    if (config.dicom_seg or config.dicom_sr) and (config.since or config.level != "image"):
        raise ConfigError("--dicom-seg or --dicom-sr with --since or --level", "objects of every photo", "leave it out")
    if config.reidentify and (config.fhir or config.post):
        raise ConfigError(
            f"--reidentify with {ways[0]}", "patients by their pseudonyms", "leave it out, or use --csv FILE"
        )


def _results(config: Config, workspace: Workspace, cohort: str, model: str, rows: list[Row]) -> list[Result]:
    """What a bundle says of delivered rows.

    Raises:
        RefusedError: the cohort has its own ids, and nobody said that they name no patient.
    """
    from skinkit.exchange.results import results_of

    cases, predictions = (as_written(open_artifact(workspace.path(ref))) for ref in _read_by(cohort, model))
    if not cases.info.get("pseudonyms") and not config.ids_as_they_are:
        raise RefusedError(
            f"cohort {cohort!r} has its own ids, which may name patients",
            "a pseudonymised cohort",
            f"skinkit ingest --cohort {cohort} --pseudonymise KEYFILE; or --ids-as-they-are for ids that name nobody",
        )
    ref = Ref("features", cohort, workspace.defaults["segmenter"])
    features = as_written(open_artifact(workspace.path(ref))) if exists(workspace.path(ref)) else None
    return results_of(rows, predictions, features)


def _posted(config: Config, context: Context, workspace: Workspace, model: str) -> dict[str, Any]:
    """Queue what each cohort's server lacks, and send the queue.

    Raises:
        InputError: the server is away, or refuses a bundle; the rest waits.
    """
    from skinkit.artifacts.locks import lock
    from skinkit.exchange import fhir
    from skinkit.exchange.outbox import Outbox
    from skinkit.reporting.delivery import FOLDER, delivered, parsed_token, token

    rows = sent = 0
    chosen = _chosen(context, workspace, model)
    boxes = [Outbox.of(workspace.artifacts / cohort / FOLDER, config.post) for cohort in chosen]
    for cohort, box in zip(chosen, boxes, strict=True):
        wanted = (cohort, model, config.level)
        box.folder.parent.mkdir(parents=True, exist_ok=True)
        with lock(box.folder):
            before = parsed_token(box.held).get(cohort) if box.held else None
            delivery = delivered(workspace.artifacts, wanted, partial(_present, workspace, wanted), before)
            if not delivery.known:
                context.console.warn(f"{cohort}: no record of what {box.url} holds, so every report is sent again")
            if delivery.rows and delivery.held:
                results = _results(config, workspace, cohort, model, delivery.rows)
                box.add(fhir.bundle(results, config.fhir_release, __version__), token([delivery.held]))
                rows += len(delivery.rows)
    for box in boxes:
        with lock(box.folder):
            sent += box.send()
    text = f"{config.post}: {rows} reports new or changed, {sent} bundles taken"
    return {"posted": config.post, "rows": rows, "bundles": sent, "text": text}


def _dicom(config: Config, context: Context, workspace: Workspace, model: str) -> dict[str, Any]:
    """Write DICOM objects; only their owner can read them."""
    from skinkit.commands._dicom_export import write_objects

    names: dict[str, dict[str, str]] = {}
    for cohort in _chosen(context, workspace, model):
        cases = open_artifact(workspace.path(Ref("cases", cohort)))
        names[cohort] = _own_ids(config, workspace, cohort, cases) if config.reidentify else {}
    with permissions.restored():
        os.umask(permissions.OWNER_ALONE)
        return write_objects(config.dicom_seg, config.dicom_sr, context, workspace, model, names)


def _parsed(text: str) -> tuple[dict[str, Held], datetime.datetime | None, str]:
    """What ``--since`` says the receiver holds; else the time of its older form, and the run if it names one.

    A run's id begins with its start time, so the filter also works for a run that produced no rows.

    Raises:
        ConfigError: neither a token nor a time nor a run id.
    """
    from skinkit.reporting.delivery import is_token, parsed_token

    if is_token(text):
        return parsed_token(text), None, ""
    if not text:
        return {}, None, ""
    if named := _RUN.fullmatch(text):
        began = datetime.datetime.strptime(named[1], "%Y%m%dT%H%M%S")
        return {}, (began.replace(tzinfo=datetime.UTC) if named[2] else began.astimezone()), text
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--since {text!r}",
            "the token of an export (or, by the clock, a run id or a time such as 2026-01-31T02:00:00+08:00)",
            "give 'token' of the last export's --json; leave --since out to get every row",
        ) from None
    return {}, (moment if moment.tzinfo else moment.astimezone()), ""


def _present(workspace: Workspace, wanted: tuple[str, str, str]) -> tuple[list[Row], str]:
    """Every row of a cohort, and the check value of the key of its ids (empty for original ids).

    Read again if another run replaces an artifact meanwhile.

    Raises:
        InputError: an artifact is damaged, or is replaced again and again.
    """
    from skinkit.reporting import export_table

    cohort, model, level = wanted
    for attempt in range(_ATTEMPTS):
        opened = [as_written(open_artifact(workspace.path(ref))) for ref in _read_by(cohort, model)]
        cases, predictions = opened
        try:
            rows = export_table.rows_of(cohort, cases, predictions, level)
        except InputError:
            now = [open_artifact(workspace.path(ref)).manifest for ref in _read_by(cohort, model)]
            if attempt == _ATTEMPTS - 1 or now == [artifact.manifest for artifact in opened]:
                raise
        else:
            return rows, str((cases.info.get("pseudonyms") or {}).get("key_check") or "")
    raise AssertionError  # the last attempt returns or raises


def _read_by(cohort: str, model: str) -> tuple[Ref, Ref]:
    """The artifacts that an export reads."""
    return Ref("cases", cohort), Ref("predictions", cohort, model)


def _own_ids(config: Config, workspace: Workspace, name: str, cases: Artifact) -> dict[str, str]:
    """Pseudonym -> id for all ids in the cohort's files, computed with the key.

    Raises:
        ConfigError: the cohort is not pseudonymised.
        RefusedError: the key is not the cohort's.
    """
    from skinkit.data import read_cases
    from skinkit.privacy import pseudonyms

    made_with = (cases.info.get("pseudonyms") or {}).get("key_check")
    if made_with is None:
        raise ConfigError(
            f"--reidentify, but cohort {name!r} has its own ids", "a pseudonymised cohort", "leave --reidentify out"
        )
    key = pseudonyms.read_key(Path(config.reidentify), workspace.root)
    if key.check != made_with:
        raise RefusedError(
            f"{config.reidentify} is not the key of cohort {name!r}",
            f"the key with the check value {made_with}",
            "give the key the cohort was ingested with; nothing was written",
        )
    listing = read_cases(workspace.cohort(name))
    ids = {(kind, own) for row in listing.rows for kind, own in pseudonyms.ids_of(row)}
    return {key.pseudonym(kind, listing.id_space, own): own for kind, own in ids}


def _chosen(context: Context, workspace: Workspace, model: str) -> list[str]:
    """The named cohorts, else every inference cohort, else the external ones."""
    named = [workspace.cohort(name).name for name in context.cohorts]
    chosen = named or workspace.with_role("inference") or workspace.with_role("external")
    if not chosen:
        raise ConfigError("no cohort to export", "an inference or external cohort", "name one with --cohort")
    for cohort in chosen:
        for ref in _read_by(cohort, model):
            if not exists(workspace.path(ref)):
                trained(model, workspace)
                raise InputError(
                    f"no {ref} in {workspace.root}",
                    f"predictions of {model} for {cohort}",
                    f"run 'skinkit predict --cohort {cohort} --model {model}' first",
                )
    return chosen
