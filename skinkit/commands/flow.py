"""flow: count images step by step and draw the flow diagram.

Counts the labelled cohorts read by 'skinkit ingest' (or those of --cohort; every one where none is labelled), with or
without --selection, and draws the flow diagram of a study. --paper shows the counts printed in a paper beside ours.
Files are written to 'flow' of the workspace: the counts as CSV and JSON, the diagram as SVG and PNG.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts import csv
from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.artifacts.files import write_atomic
from skinkit.commands import Context
from skinkit.commands._output import folder_of, write_study
from skinkit.errors import InputError, listed
from skinkit.options import folder_for_files
from skinkit.studies import selection
from skinkit.workspace import SETTINGS_FILE, Ref

if TYPE_CHECKING:
    from skinkit.reporting.flow import Flow

PANEL = "Look", 4
SHARED_OPTIONS = ("workspace", "cohort")

FOLDER = "flow"


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    paper: Annotated[selection.SelectionName, "show the counts of this paper beside ours"] = ""
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Count every labelled cohort, or every one where none is labelled, and draw the flow."""
    from skinkit.reporting import flow

    workspace = context.workspace()
    chosen = workspace.chosen(context.cohorts, "development", "external") or workspace.chosen(())
    artifacts = {name: open_artifact(path) for name in chosen if exists(path := workspace.path(Ref("cases", name)))}
    if not artifacts:
        raise InputError(f"no cohort of {workspace.root} has been read", "cases to count", "run 'skinkit ingest' first")
    for name in chosen:
        if name not in artifacts:
            context.console.warn(f"{name} has not been read and is not counted: run 'skinkit ingest'")
    roles = {name: workspace.cohort(name).role for name in artifacts}
    rules = {name: str(a.info.get("selection") or "") for name, a in artifacts.items() if roles[name] == "development"}
    if len(set(rules.values())) > 1:
        rules_text = listed(f"{name}: {rule or 'none'}" for name, rule in rules.items())
        raise InputError(
            f"development cohorts of different selections ({rules_text})",
            "one selection for all of them",
            f"run 'skinkit ingest --selection {max(rules.values())}' for all, or set it in [stage.ingest] of "
            f"{SETTINGS_FILE}",
        )
    counts = flow.count({n: a.table() for n, a in artifacts.items()}, roles, next(iter(rules.values()), ""))
    paper = selection.load_rule(config.paper).paper if config.paper else None
    folder = folder_of(config.out, workspace, FOLDER)
    rows = counts.rows()
    write_atomic(folder / "flow.csv", csv.encoded(list(rows[0]), rows))
    files = {"csv": str(folder / "flow.csv"), **flow.write_diagram(counts, folder, paper)}
    body = {"flow": counts.as_dict(), "paper": {"name": config.paper, **paper} if paper else None}
    written = write_study(folder, "flow", body, f"{_table(counts, paper)}\n", files=files)
    return {**written.body, "files": written.files, "text": written.text}


def _table(counts: Flow, paper: Mapping[str, int] | None) -> str:
    """The counts for a terminal."""
    from rich.console import Console
    from rich.table import Table

    from skinkit.reporting.flow import LABELS, PRESENT, READ

    table = Table(title=f"Flow of images (selection: {counts.rule or 'none'})")
    table.add_column("step")
    for name, role in counts.roles.items():
        table.add_column(f"{name} ({role})", justify="right")
    table.add_column("total", justify="right")
    if paper:
        table.add_column("paper", justify="right")
    titles = {PRESENT: "identified", READ: "analysed", **{step: f"- {label}" for step, label in LABELS.items()}}
    for row in counts.rows():
        title = f"    {row['reason'].replace('_', ' ')}" if row["reason"] else titles[row["step"]]
        cells = [f"{row[name]:,}" for name in (*counts.roles, "total")]
        paper_cell = [f"{paper[row['step']]:,}" if not row["reason"] else ""] if paper else []
        table.add_row(title, *cells, *paper_cell)
    stream = io.StringIO()
    Console(file=stream, width=max(80, 40 + 24 * len(counts.roles)), color_system=None).print(table)
    return stream.getvalue().rstrip()
