"""Heatmaps of trained networks against outlines, through the stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_cohort
import written_artifacts as written

from skinkit.artifacts.tables import read_table
from skinkit.commands import Context, localise
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError
from skinkit.workspace import Workspace

SETTINGS = ("backbone=shufflenet_v2_x0_5", "side_px=96", "recipe.epochs=2", "recipe.batch=8")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = small_cohort.make(tmp_path_factory.mktemp("w"), folds=1, patients=24)
    own = ("width=32", "heads=4", "token_width=16")
    written.run_stage(made, "train", model="dual_network", weights="none", settings=(*SETTINGS, *own))
    written.run_stage(made, "train", model="concat", weights="none", settings=(*SETTINGS, "mirrored=true"))
    written.run_stage(made, "train", model="lightgbm", settings=("rounds=2", "min_leaf=3"))
    for name in ("dual_network", "concat", "lightgbm"):
        written.run_stage(made, "predict", name=name, cohorts=["jinan"])
    return made


def asked(workspace: Workspace) -> Context:
    return Context(workspace.root, Console(quiet=True), device="cpu", cohorts=("jinan",), upstream=False)


def test_each_encoder_is_measured_beside_chance_and_with_shuffled_weights(workspace: Workspace) -> None:
    config = localise.Config(model="dual_network", against="concat", cases=6)
    first = localise.run(config, asked(workspace))
    answer = first["localisation"]["jinan"]
    learnt = ["dual_network: photo", "dual_network: lesion", "concat: photo"]
    maps = {row["map"] for row in answer["summary"]}
    assert maps == {"uniform", "ellipse", *learnt, *(f"{name}, shuffled" for name in learnt)}
    assert answer["n"] == 6
    assert {row["map"] for row in answer["likeness"]} == {f"{name}, shuffled" for name in learnt}
    table = read_table(Path(answer["files"]["parquet"]))
    uniform = table[table["map"] == "uniform"]
    # What is drawn lies in the middle: the blind ellipse is no bad guess, and a uniform map scores the area.
    by_figure = {row["figure"]: row for row in answer["summary"] if row["map"] == "ellipse"}
    assert by_figure["pointing"]["estimate"] == 1
    assert by_figure["iou"]["estimate"] > 0.7 > uniform["iou"].mean()
    assert all(Path(file).is_file() for file in answer["files"].values())
    assert "minus the centred ellipse" in first["text"]
    assert "jinan-" not in json.dumps(answer["summary"])  # no case by name in what is handed on
    again = localise.run(config, asked(workspace))["localisation"]["jinan"]
    assert again["summary"] == answer["summary"]


def test_the_lesion_encoder_sees_nothing_outside_and_the_photo_encoder_does(workspace: Workspace) -> None:
    """The two maps are two: each is of its own encoder."""
    answer = localise.run(localise.Config(model="dual_network", cases=0), asked(workspace))["localisation"]["jinan"]
    table = read_table(Path(answer["files"]["parquet"])).set_index(["map", "case_id"])["energy"]
    photo, lesion = table["dual_network: photo"], table["dual_network: lesion"]
    assert (photo - lesion).abs().max() > 1e-3


def test_what_cannot_be_measured_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="lightgbm"):
        localise.run(localise.Config(model="lightgbm"), asked(workspace))
    with pytest.raises(ConfigError):
        localise.run(localise.Config(model="concat", cases=-1), asked(workspace))
    cases = workspace.artifacts / "jinan" / "cases"
    rows = read_table(cases / "table.parquet").to_dict("records")
    written.write_cases(workspace, "jinan", [{k: v for k, v in row.items() if "truth_mask" not in k} for row in rows])
    with pytest.raises(InputError, match="outline"):
        localise.run(localise.Config(model="concat"), asked(workspace))
