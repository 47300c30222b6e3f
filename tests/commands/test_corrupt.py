"""What models lose where photos are taken otherwise, through the stages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_cohort
import written_artifacts as written
from PIL import Image

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.commands import Context, corrupt
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError
from skinkit.evaluation.altered import BALANCED
from skinkit.stages.predict import fused_of
from skinkit.workspace import Ref, Workspace

SMALL = ("backbone=shufflenet_v2_x0_5", "side_px=64", "recipe.epochs=1", "recipe.batch=8")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = small_cohort.make(tmp_path_factory.mktemp("w"), folds=1, patients=24)
    own = ("width=32", "heads=4", "token_width=16")
    written.run_stage(made, "train", model="dual_network", weights="none", settings=(*SMALL, *own))
    written.run_stage(made, "train", model="lightgbm", settings=("rounds=2", "min_leaf=3"))
    for name in ("dual_network", "lightgbm"):
        written.run_stage(made, "predict", name=name, cohorts=["jinan"])
        written.run_stage(made, "evaluate", name=name, cohorts=["jinan"], bootstrap=20, shortcuts=False)
    return made


def asked(workspace: Workspace) -> Context:
    return Context(workspace.root, Console(quiet=True), device="cpu", cohorts=("jinan",), upstream=False)


def test_every_way_is_measured_against_the_photos_as_they_are(workspace: Workspace) -> None:
    config = corrupt.Config(models=("dual_network",), domains="blur,distance", strengths="0.5,1", cases=6)
    answer = corrupt.run(config, asked(workspace))["corrupt"]["dual_network"]["jinan"]
    table = read_table(Path(answer["files"]["parquet"]))
    ways = {(row["domain"], row["strength"]) for row in table.to_dict("records")}
    assert ways == {(d, s) for d in ("blur", "distance") for s in (0.5, 1.0)} | {("mean", 0.0), ("", 0.0)}
    balanced = table[table["metric"] == BALANCED].set_index(["domain", "strength"])
    single = balanced.drop(index=[("mean", 0.0), ("", 0.0)])
    assert balanced.loc[("mean", 0.0), "estimate"] == pytest.approx(single["estimate"].mean())
    assert balanced.loc[("mean", 0.0), "difference"] == pytest.approx(single["difference"].mean())
    whole = balanced.loc[("", 0.0)]
    assert whole["difference"] == 0
    metrics = open_artifact(workspace.path(Ref("metrics", "jinan", "dual_network")))
    scored = read_table(metrics.path / "scored.parquet")
    assert whole["n"] == 6 <= (scored["level"] == "image").sum()
    assert all(Path(file).is_file() for file in answer["files"].values())
    assert not list((workspace.root / "cache").rglob("*alter*"))
    again = corrupt.run(config, asked(workspace))["corrupt"]["dual_network"]["jinan"]
    assert json.dumps(again["rows"]) == json.dumps(answer["rows"])


def test_what_is_predicted_of_altered_photos_is_what_the_model_says_of_such_photos(workspace: Workspace) -> None:
    """Written to a folder, ingested by nobody: the same pixels as the transform gives, with the mask moved along."""
    import pandas as pd

    frame = open_artifact(workspace.path(Ref("fused", "jinan", fused_of("dual_network", workspace)))).table().head(3)
    folder = workspace.root / "altered"
    folder.mkdir()
    source = corrupt._Altered(workspace.cohort("jinan").root, workspace.root, folder, 7, None, 1)
    seen = source.frame(frame, corrupt.Way("distance", 1.0))
    assert isinstance(seen, pd.DataFrame)
    for place, (row, old) in enumerate(zip(seen.to_dict("records"), frame.to_dict("records"), strict=True)):
        rgb = np.asarray(Image.open(workspace.cohort("jinan").root / old["image_path"]).convert("RGB"))
        mask = np.asarray(Image.open(workspace.root / old["mask_path"])) > 0
        expected, moved = corrupt.altered(rgb, mask, corrupt.Way("distance", 1.0), [7, place, 0], None)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / row["image_path"])), expected)
        assert moved is not None
        np.testing.assert_array_equal(np.asarray(Image.open(row["mask_path"])) > 0, moved)
        assert row["pixel_sha256"] != old["pixel_sha256"]
        assert row["diagnosis"] == old["diagnosis"]


def test_sources_of_real_artefacts_are_left_out(workspace: Workspace, tmp_path: Path) -> None:
    frame = open_artifact(workspace.path(Ref("fused", "jinan", fused_of("dual_network", workspace)))).table()
    name = Path(frame["image_path"].iloc[0]).stem
    for word, level in (("with", 40), ("without", 200)):
        Image.fromarray(np.full((6, 20, 3), level, np.uint8)).save(tmp_path / f"{name}_{word}_01.png")
    config = corrupt.Config(models=("dual_network",), domains="", strengths="1", artefacts=str(tmp_path), cases=0)
    answer = corrupt.run(config, asked(workspace))["corrupt"]["dual_network"]["jinan"]
    assert answer["left_out_as_sources_of_artefacts"] >= 1
    assert {row["domain"] for row in answer["rows"]} == {"real artefact", "mean of real artefacts", ""}


def test_what_cannot_be_measured_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InputError) as measured:
        corrupt.run(corrupt.Config(models=("lightgbm",)), asked(workspace))
    assert "lightgbm" in measured.value.found
    for wrong in ({"strengths": "2"}, {"strengths": "high"}, {"domains": "snow"}, {"domains": ""}, {"cases": -1}):
        with pytest.raises(ConfigError):
            corrupt.run(corrupt.Config(models=("dual_network",), **wrong), asked(workspace))  # type: ignore[arg-type]


def test_a_drop_without_an_interval_is_not_said_to_be_chance() -> None:
    from skinkit.evaluation.corruption import deciding_metric, verdict

    def row(domain: str, strength: float, metric: str, lower: float, upper: float) -> dict[str, object]:
        figures = {"estimate": 0.4, "difference": -0.3, "difference_lower": lower, "difference_upper": upper}
        return {"domain": domain, "strength": strength, "metric": metric, **figures}

    nan = float("nan")
    few = [row(name, s, BALANCED, nan, nan) for name, s in (("mean", 0.0), ("blur", 1.0))]
    assert not any("beyond chance" in sentence or "nan" in sentence for sentence in verdict(few))
    assert any("too few patients" in sentence for sentence in verdict(few))
    known = [row(name, s, "malignant_auroc", -0.4, -0.2) for name, s in (("mean", 0.0), ("blur", 1.0))]
    assert deciding_metric([*few, *known]) == "malignant_auroc"
    assert any("blur -0.300 (-0.400 to -0.200)" in sentence for sentence in verdict([*few, *known]))
