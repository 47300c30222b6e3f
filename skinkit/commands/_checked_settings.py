"""Every key and value of ``skinkit.toml`` against what skinkit knows; nothing is made and no photo is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from skinkit.artifacts.artifact import exists
from skinkit.errors import ConfigError, InputError, SkinkitError, did_you_mean
from skinkit.options import make_config
from skinkit.pipeline import check_values
from skinkit.stages import load_stage
from skinkit.workspace import SETTINGS_FILE, Cohort, Ref, Workspace, check_name


def problems(workspace: Workspace) -> list[SkinkitError]:
    """What is wrong in ``skinkit.toml``, in the order of the file; empty where all of it is understood.

    What keeps any command from opening the workspace is not looked for again.
    """
    checks = (*_defaults(workspace), *_cohorts(workspace), *_stages(workspace), *_cluster(workspace))
    return [problem for check in checks if (problem := _problem(check)) is not None]


def refuse_problems(workspace: Workspace) -> None:
    """Raise the first of :func:`problems`, and say how many more there are."""
    wrong = problems(workspace)
    if not wrong:
        return
    first = wrong[0]
    more = f" (and {len(wrong) - 1} more: see 'skinkit status')" if len(wrong) > 1 else ""
    raise type(first)(f"{first.found}{more}", first.expected, first.fix)


def _problem(check: Callable[[], Any]) -> SkinkitError | None:
    try:
        check()
    except (ConfigError, InputError) as error:
        return error
    return None


def _defaults(workspace: Workspace) -> Iterator[Callable[[], Any]]:
    from skinkit.taxonomy import class_set

    values = workspace.defaults
    yield lambda: _check_model("segmenter", "segment", workspace)
    yield lambda: check_name(values["split"], f"split in [workspace] of {SETTINGS_FILE}")
    yield lambda: _check_model("model", "classify", workspace)
    yield lambda: class_set(values["classes"], values["malignant"], workspace.root)


def _check_model(key: str, task: str, workspace: Workspace) -> None:
    from skinkit.models import registered

    name = workspace.defaults[key]
    known = registered(task)
    if task == "classify" and workspace.stage_settings("train", name).get("model"):
        return  # 'skinkit run' trains that kind under this name
    if name not in known and not exists(workspace.path(Ref("models", name=name))):
        raise ConfigError(
            f"{key} = {name!r} in [workspace] of {SETTINGS_FILE}",
            did_you_mean(name, known),
            f"name one of 'skinkit list', or one that 'skinkit train --name {name}' or 'skinkit models install' made",
        )


def _cohorts(workspace: Workspace) -> Iterator[Callable[[], Any]]:
    for cohort in workspace.cohorts.values():
        yield partial(_check_cohort, cohort)


def _check_cohort(cohort: Cohort) -> None:
    from skinkit.data import load_source
    from skinkit.data.files import check_options

    check_options(load_source(cohort.source), cohort)


def _stages(workspace: Workspace) -> Iterator[Callable[[], Any]]:
    from skinkit.models import is_registered

    for name in workspace.settings:
        shared = workspace.stage_settings(name)
        yield from _table(name, shared, shared, name, workspace)
        for model, values in workspace.model_settings(name).items():
            table = f"{name}.{model}"
            together = {**shared, **values}
            yield partial(_check_named, model, together, table, workspace)
            kind = {"model": model} if is_registered(model) else {}
            yield from _table(name, values, {**kind, **together}, table, workspace)


def _check_named(model: str, values: Mapping[str, Any], table: str, workspace: Workspace) -> None:
    """A table of one model is called after a kind, or says of which kind the model is."""
    from skinkit.models import registered

    check_name(model, f"[stage.{table}] of {SETTINGS_FILE}")
    known = registered()
    if model not in known and not values.get("model") and not exists(workspace.path(Ref("models", name=model))):
        found = f"[stage.{table}] of {SETTINGS_FILE}"
        raise ConfigError(found, did_you_mean(model, known), 'name a kind, or add model = "KIND"')


def _table(
    name: str, own: Mapping[str, Any], together: Mapping[str, Any], table: str, workspace: Workspace
) -> Iterator[Callable[[], Any]]:
    """The keys that a table has, and the values that are in force with them."""
    for key, value in own.items():
        yield partial(_config, name, {key: value}, table)
    yield partial(_check_values, name, together, table, workspace)


def _config(name: str, values: Mapping[str, Any], table: str) -> Any:
    return make_config(load_stage(name).Config, values, where=f"[stage.{table}] of {SETTINGS_FILE}")


def _check_values(name: str, values: Mapping[str, Any], table: str, workspace: Workspace) -> None:
    """What the stage refuses of settings that are of the right type; those of a wrong type are said key by key."""
    if _problem(lambda: _config(name, values, table)) is None:
        check_values(load_stage(name), _config(name, values, table), workspace)


def _cluster(workspace: Workspace) -> Iterator[Callable[[], Any]]:
    from skinkit.workers import slurm_settings

    if workspace.cluster:
        yield lambda: slurm_settings(workspace.cluster, SETTINGS_FILE)
