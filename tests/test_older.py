"""What the version before wrote: its workspaces open and predict the same numbers, its settings say their new place.

``older/`` holds a workspace with two models and their predictions, a model pack with photos and their predictions, all
written by the version whose settings of training were flat.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from written_artifacts import Said, run_stage

from skinkit.artifacts.artifact import open_artifact
from skinkit.errors import ConfigError
from skinkit.learning.pack import install
from skinkit.learning.trained import open_classifier, open_whole
from skinkit.pipeline import Pipeline
from skinkit.schemas import probability_columns
from skinkit.workspace import Ref, Workspace, load_workspace

OLDER = Path(__file__).parent / "older"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The older workspace; networks answer in fp32, which their model.json names."""
    shutil.copytree(OLDER / "workspace", tmp_path / "workspace")
    (tmp_path / "workspace" / "clinic").mkdir()
    return load_workspace(tmp_path / "workspace")


def assert_same(made: pd.DataFrame, before: pd.DataFrame) -> None:
    """The same rows with the same probabilities."""
    key = ["level", "case_id"]
    made, before = (table.sort_values(key).reset_index(drop=True) for table in (made, before))
    assert made[key].astype(str).equals(before[key].astype(str))
    names = [*probability_columns(list(before)), "malignancy"]
    np.testing.assert_allclose(made[names].to_numpy(float), before[names].to_numpy(float), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["lightgbm", "concat"])
def test_a_model_of_an_older_workspace_predicts_the_same(workspace: Workspace, name: str) -> None:
    (made,), said = run_stage(workspace, "predict", cohorts=["jinan"], name=name)
    assert_same(made.table(), pd.read_parquet(OLDER / f"{name}.parquet"))
    assert "calibrated by an older version" in said  # both let rare classes count more


def test_settings_that_were_flat_are_read_where_they_stand_now(workspace: Workspace) -> None:
    model = open_classifier(open_artifact(workspace.path(Ref("models", name="concat"))))
    assert model.config.backbone == "squeezenet1_1"
    assert model.config.recipe.epochs == 1
    assert model.config.augment.contrast == 0.1
    assert model.config.augment.smallest_scale == 0.9


def test_an_older_pack_predicts_the_same(tmp_path: Path) -> None:
    shutil.copytree(OLDER / "walk_in", tmp_path / "walk_in")
    described = tmp_path / "walk_in" / "cohort.toml"  # that version knew a lesion by its id alone
    described.write_text(described.read_text(encoding="utf-8").replace('"lesion"', '["lesion"]'), encoding="utf-8")
    (tmp_path / "skinkit.toml").write_text(
        '[cohorts.walk_in]\nrole = "inference"\nsource = "folder"\npath = "walk_in"\n', encoding="utf-8"
    )
    install(load_workspace(tmp_path), OLDER / "pack.zip", open_whole)
    workspace = load_workspace(tmp_path)
    steps = Pipeline(workspace, Said()).make("predict", {}, cohorts=["walk_in"], name="lightgbm")
    made = next(step.artifact for step in steps if step.stage == "predict")
    assert_same(open_artifact(made.path).table(), pd.read_parquet(OLDER / "pack.parquet"))


def test_flat_settings_of_skinkit_toml_say_their_new_place(workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as caught:
        run_stage(workspace, "train", name="new", model="concat", weights="none")
    assert "'epochs'" in caught.value.found
    assert caught.value.expected == "recipe.epochs"
