"""Heatmaps of trained networks against outlines, through the stages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_cohort
import torch
import written_artifacts as written
from PIL import Image

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.commands import Context, localise
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError
from skinkit.learning import trained
from skinkit.workspace import Ref, Workspace

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


def test_each_map_is_of_its_own_encoder(workspace: Workspace) -> None:
    """What is painted around the lesion reaches the photo's encoder, and not the lesion's."""
    model = trained.open_classifier(open_artifact(workspace.path(Ref("models", name="dual_network"))))
    network = model.network(model.folds[0], "cpu")
    side = model.config.side_px
    mask = torch.zeros(1, side, side)
    mask[:, side // 3 : side // 2, side // 3 : side // 2] = 1
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    painted = image.clone()
    painted[:, :, : side // 8] = 0
    seen = {}
    for name, (_, layer) in network.heat_layers().items():
        layer.register_forward_hook(lambda _, given, out, name=name: seen.setdefault(name, []).append(out))
    columns = network.columns
    for photo in (image, painted):
        network.answer({"image": photo, "mask": mask, "attributes": torch.zeros(1, columns)})
    assert torch.equal(*seen["lesion"])
    assert not torch.allclose(*seen["photo"])


def test_outlines_that_cannot_be_read_are_left_out_and_counted(workspace: Workspace) -> None:
    outlines = sorted((workspace.root / "jinan" / "outlines").glob("*.png"))
    kept = {file: file.read_bytes() for file in outlines[:2]}
    Image.fromarray(np.zeros((small_cohort.HEIGHT, small_cohort.WIDTH), np.uint8)).save(outlines[0])
    outlines[1].unlink()
    answer = localise.run(localise.Config(model="concat", cases=0), asked(workspace))
    for file, content in kept.items():
        file.write_bytes(content)
    assert (answer["localisation"]["jinan"]["n"], answer["localisation"]["jinan"]["failed"]) == (6, 2)
    assert "2 photos left out" in answer["text"]


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
