"""export: predictions as a CSV table for a hospital information system, one row per case.

Without --csv the table goes to stdout. --since takes a run id (as in --json and in the rows' column 'run') or an ISO
8601 time, and leaves out older rows. Pass 'until' of the output as --since the next time: no row is missed, and only
rows of exactly that time are repeated. Cases without a prediction are included with the reason.

--reidentify restores the original ids of pseudonymised cohorts. They are computed from the cohort's files with the key
and stored nowhere else. Only its owner can read the file.
"""

from __future__ import annotations

import datetime
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.artifacts.files import file_sha256, write_atomic
from skinkit.commands import Context
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning.pack import trained
from skinkit.options import ONE_MODEL, Help
from skinkit.privacy import permissions
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    from skinkit.artifacts.artifact import Artifact
    from skinkit.reporting.export_table import Row

_RUN = re.compile(r"(\d{8}T\d{6})(Z?)-\d+")


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    csv: Annotated[str, Help("file to write (default: stdout)", metavar="<file>")] = ""
    encoding: Annotated[
        Literal["utf-8", "utf-8-sig", "gb18030"],
        "encoding of the file; Excel recognises UTF-8 by the byte order mark of utf-8-sig",
    ] = "utf-8"
    crlf: Annotated[bool, "use Windows line ends"] = False
    since: Annotated[str, Help("only rows that are new since this run or time", metavar="<run|time>")] = ""
    level: Annotated[Literal["image", "lesion", "patient"], "one row per image's case, lesion or patient"] = "image"
    model: Annotated[str, ONE_MODEL] = ""
    reidentify: Annotated[str, Help("key file; exports the cohort's original ids", metavar="<key file>")] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Write the table."""
    from skinkit.artifacts import csv
    from skinkit.reporting import export_table

    moment, run_id = parsed_since(config.since)
    workspace = context.workspace()
    model = config.model or workspace.defaults["model"]
    if config.encoding != "utf-8" and not config.csv:
        raise ConfigError(f"--encoding {config.encoding} on stdout", "a file to write", "add --csv FILE")
    until = datetime.datetime.now().astimezone()
    rows: list[Row] = []
    lost = 0
    for cohort in _chosen(context, workspace, model):
        cases, predictions = (
            open_artifact(workspace.path(ref)) for ref in (Ref("cases", cohort), Ref("predictions", cohort, model))
        )
        cohort_rows = export_table.since(export_table.rows_of(cohort, cases, predictions, config.level), moment, run_id)
        if config.reidentify:
            lost += export_table.rename(cohort_rows, _own_ids(config, workspace, cohort, cases))
        rows += cohort_rows
    if lost:
        context.console.warn(f"{lost} ids stay pseudonyms: what they stood for is no longer in the cohort's files")
    rows.sort(key=lambda row: (row["cohort"], str(row["accession"]), str(row["case"])))
    data = csv.encoded(export_table.COLUMNS, rows, config.encoding, crlf=config.crlf)
    statuses = dict(sorted(Counter(str(row["status"]) for row in rows).items()))
    answer: dict[str, Any] = {
        "rows": len(rows),
        "status": statuses,
        "level": config.level,
        "until": until.isoformat(timespec="microseconds"),
    }
    if not config.csv:
        records = [{name: row.get(name) for name in export_table.COLUMNS} for row in rows]
        return {**answer, "cases": records, "text": data.decode("utf-8").removesuffix("\n")}
    path = Path(config.csv).expanduser()
    with permissions.restored():
        if config.reidentify:
            os.umask(permissions.OWNER_ALONE)
        write_atomic(path, data)
    summary = ", ".join(f"{n} {status}" for status, n in statuses.items()) or "nothing new"
    return {
        **answer,
        "csv": str(path),
        "sha256": file_sha256(path),
        "text": f"{path}: {len(rows)} rows ({summary})",
    }


def parsed_since(text: str) -> tuple[datetime.datetime | None, str]:
    """The time of ``--since``, and the run if it names one.

    A run's id begins with its start time, so the filter also works for a run that produced no rows.

    Raises:
        ConfigError: neither a run id nor a time.
    """
    if not text:
        return None, ""
    if named := _RUN.fullmatch(text):
        began = datetime.datetime.strptime(named[1], "%Y%m%dT%H%M%S")
        return (began.replace(tzinfo=datetime.UTC) if named[2] else began.astimezone()), text
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--since {text!r}",
            "a run id such as 20260131T020000Z-4711, or an ISO 8601 time such as 2026-01-31T02:00:00+08:00",
            "take 'until' of the last export's --json",
        ) from None
    return (moment if moment.tzinfo else moment.astimezone()), ""


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
        for ref in (Ref("cases", cohort), Ref("predictions", cohort, model)):
            if not exists(workspace.path(ref)):
                trained(model, workspace)
                raise InputError(
                    f"no {ref} in {workspace.root}",
                    f"predictions of {model} for {cohort}",
                    f"run 'skinkit predict --cohort {cohort} --model {model}' first",
                )
    return chosen
