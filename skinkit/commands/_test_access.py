"""Lines of the test access log for the commands that measure a model on held-out or external cases."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.files import digest, json_values
from skinkit.audit import test_access_log
from skinkit.errors import ConfigError
from skinkit.schemas import IMAGE
from skinkit.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.audit.test_access_log import Access
    from skinkit.commands import Context

_NO_FIGURE = ("out", "model", "models")


def settings_of(config: Any) -> dict[str, Any]:
    """The options of a command, but for names of models and folders."""
    return {name: value for name, value in json_values(asdict(config)).items() if name not in _NO_FIGURE}


def used(
    workspace: Workspace, command: str, cohort: str, artifact: Artifact, config: Any, *, model: str = "", new: str = ""
) -> Access:
    """Record the use of the cases behind metrics, or behind predictions that are not compared with the truth.

    Args:
        workspace: the workspace, whose log it is.
        command: name of the command.
        cohort: the cohort.
        artifact: the metrics or predictions of the model there.
        config: options of the command.
        model: what is measured, where that is not the model of the metrics, such as both of a comparison.
        new: what makes the answers other ones than those of the artifact; empty: they are the same, and no new access.
    """
    scored = (artifact.path / "scored.parquet").is_file()
    table = artifact.table(file="scored.parquet") if scored else artifact.table()
    use = test_access_log.use_of(
        table,
        command=command,
        cohort=cohort,
        external=workspace.cohort(cohort).role == "external",
        model=model or artifact.path.name,
        settings=settings_of(config),
    )
    use |= {"answers": digest([use["answers"], new])} if new else {"look": False}
    return test_access_log.add(workspace.root, use)


def of_cases(
    workspace: Workspace, command: str, cohort: str, cases: pd.DataFrame, config: Any, *, model: str
) -> Access:
    """Record the scoring of held-out cases by models that are not kept.

    Args:
        workspace: whose log it is.
        command: name of the command.
        cohort: the cohort.
        cases: ``case_id`` and ``class`` of its cases.
        config: options of the command, which decide what is answered.
        model: what was measured.
    """
    table, settings = cases.assign(level=IMAGE), settings_of(config)
    use = test_access_log.use_of(table, command=command, cohort=cohort, external=False, model=model, settings=settings)
    use["answers"] = digest([use["answers"], command, model, settings])
    return test_access_log.add(workspace.root, use)


def of_table(
    context: Context, command: str, file: Path, table: pd.DataFrame, config: Any, **more: Any
) -> Access | None:
    """Record the scoring of a table of other software, in the workspace's log or beside the files of ``--out``.

    Returns:
        The access; None where there is neither a workspace nor ``--out``.
    """
    try:
        root = find_workspace(context.folder)
    except ConfigError:
        if not config.out:
            return None
        root = Path(config.out)
    named = {"model": "given", "run": context.console.run_id, **more}
    use = test_access_log.use_of(
        table, command=command, cohort=file.stem, external=True, settings=settings_of(config), **named
    )
    return test_access_log.add(root, {**use, "content": use["answers"]})


NOT_LOGGED = "in no test access log: there is neither a workspace nor --out"
