"""Toy models of the tests, registered as an installed package of a third party would register them."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from written_artifacts import Said

from skinkit.commands import Context
from skinkit.commands import models as models_command
from skinkit.errors import InputError
from skinkit.pipeline import Pipeline
from skinkit.workspace import Workspace

GROUP = "skinkit.models"


@contextlib.contextmanager
def models(*names: str) -> Iterator[None]:
    """Entry points of these names, each of the module of its name, beside those that are installed elsewhere."""
    if not names:
        yield
        return
    others = importlib.metadata.entry_points

    def with_toys(**of: str) -> Any:
        if of.get("group") == GROUP and of.get("name", names[0]) in names:
            return [EntryPoint(name, name, GROUP) for name in names if of.get("name", name) == name]
        return others(**of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.metadata.entry_points", with_toys)
        yield


def assert_no_classifier(workspace: Workspace, name: str, task: str, does: str, folder: Path) -> None:
    """A model of another task is listed with it, is not packed, and neither predicts, explains nor is evaluated."""
    for stage in ("predict", "explain", "evaluate"):
        with pytest.raises(InputError) as error:
            Pipeline(workspace, Said()).make(stage, {}, cohorts=["jinan"], name=name)
        assert error.value.found == f"the model {name!r} {does}", stage
    context = Context(workspace.root, Said())
    listing = models_command.run(models_command.Config(), context)
    assert {row["name"]: row["task"] for row in listing["models"]}[name] == task
    with pytest.raises(InputError) as error:
        models_command.run(models_command.Config("pack", name, output=str(folder / "model.skinkit")), context)
    assert does in error.value.found
