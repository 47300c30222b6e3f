"""list: list sources, segmenters, models and artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from skinkit.commands import Context
from skinkit.errors import ConfigError
from skinkit.options import Help

PANEL = "Look", 1


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    what: Annotated[
        Literal[
            "all",
            "sources",
            "segmenters",
            "models",
            "pretrainings",
            "generators",
            "diagnoses",
            "classes",
            "tasks",
            "artifacts",
        ],
        Help(
            "all, sources, segmenters, models, pretrainings, generators, diagnoses, classes, tasks or artifacts",
            positional=True,
        ),
    ] = "all"


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """List names and artifacts."""
    from skinkit.commands.status import on_disk
    from skinkit.data import sources
    from skinkit.models import registered
    from skinkit.taxonomy import CLASS_SET_NAMES, DIAGNOSES, TASK_SETS, TASKS, class_set, tasks_of_file

    answer: dict[str, dict[str, str]] = {
        "sources": dict(sources()),
        "segmenters": dict(registered("segment")),
        "models": dict(registered("classify")),
        "pretrainings": dict(registered("pretrain")),
        "generators": dict(registered("generate")),
        "diagnoses": dict(DIAGNOSES),
        "classes": {name: _class_set_text(class_set(name)) for name in CLASS_SET_NAMES},
        "tasks": {**_task_texts(TASKS), **{name: ", ".join(tasks) for name, tasks in TASK_SETS.items()}},
    }
    try:
        workspace = context.workspace()
    except ConfigError:
        if config.what == "artifacts":
            raise
    else:
        answer["tasks"] |= _task_texts(tasks_of_file(workspace.defaults["classes"], workspace.root))
        answer["artifacts"] = {str(ref): str(workspace.path(ref)) for ref in on_disk(workspace)}
    if config.what != "all":
        answer = {config.what: answer[config.what]}
    lines = []
    for title, entries in answer.items():
        lines.append(title)
        lines += [f"  {name:<24} {text}" for name, text in entries.items()] or ["  none"]
    return {**answer, "text": "\n".join(lines)}


def _task_texts(tasks: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{', '.join(task.classes)}; column {task.column}" for name, task in tasks.items()}


def _class_set_text(classes: Any) -> str:
    return f"{', '.join(classes.classes)}; malignant ({classes.malignant_set}): {', '.join(sorted(classes.malignant))}"
