"""Quality of photos: one photo, a cohort with its page, and limits from accepted photos."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts
from PIL import Image

from skinkit.cli import main
from skinkit.commands import Context, quality
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError
from skinkit.images import quality_checks, quality_limits
from skinkit.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("quality") / "ws"
    workspace = written_artifacts.make_workspace(root, {"clinic": "development"}, segmenter="truth")
    small_cohort.write_cohort(workspace, "clinic", patients=4, seed=1)
    return workspace


def context(workspace: Workspace) -> Context:
    return Context(workspace.root, Console(quiet=True))


def test_one_photo_is_checked_without_a_workspace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "dark.png"
    Image.fromarray(np.zeros((40, 40, 3), dtype=np.uint8)).save(photo)
    assert main(["quality", "--image", str(photo), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "fail"
    assert told["checks"]["exposure"] == {"value": 0.0, "status": "fail", "remedy": "exposure_low"}
    assert main(["quality", "--image", str(tmp_path / "none.png")]) == 4


def test_a_cohort_has_a_table_and_a_page_of_what_is_refused(workspace: Workspace) -> None:
    told = quality.run(quality.Config(), context(workspace))["quality"]["clinic"]
    frame = pd.read_parquet(told["files"]["parquet"])
    assert len(frame) == told["photos"] == sum(group["photos"] for group in told["groups"])
    # Small drawn photos have too few pixels: every one is refused, for the resolution.
    assert (frame["resolution_status"] == "fail").all()
    assert told["refused"] == len(frame)
    assert all(group["share"] is None for group in told["groups"])
    page = Path(told["files"]["html"]).read_text(encoding="utf-8")
    assert "data:image/png" in page
    assert "no claim" in page


def test_limits_refuse_at_most_the_stated_share_of_each_group_of_accepted_photos() -> None:
    rng = np.random.default_rng(0)
    measured, types = [], []
    for at in range(400):
        dark = at % 4 == 0
        one = {name: float(rng.normal(50, 10)) for name in (*quality_checks.CHECKS, "region_px", "cast_a", "cast_b")}
        one |= {name: float(rng.uniform(0, 0.1)) for name in ("clipping", "glare", "compression", "hair", "contact")}
        measured.append(one | {"exposure": float(rng.normal(30 if dark else 60, 5))})
        types.append("3" if dark else "2")
    table = quality_limits.calibrated(measured, types, quality_checks.default_table())
    refused = 0
    for skin in ("2", "3"):
        verdicts = [
            quality_checks.judge(quality_limits.recast(one, table["cast"]["reference"]), table, skin).verdict
            for one, own in zip(measured, types, strict=True)
            if own == skin
        ]
        assert verdicts.count("fail") / len(verdicts) <= quality_limits.TARGET
        refused += verdicts.count("fail")
    assert refused > 0
    assert table["exposure"]["fail_below"] < 30
    with pytest.raises(InputError):
        quality_limits.calibrated(measured[:20], types[:20], quality_checks.default_table())


def test_calibration_writes_a_table_that_the_command_reads(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_limits, "FEWEST", 1)
    told = quality.run(quality.Config(calibrate=True), context(workspace))["quality"]["clinic"]
    file = told["files"]["toml"]
    assert tomllib.loads(Path(file).read_text(encoding="utf-8")) == told["table"]
    checked = quality.run(quality.Config(table=file), context(workspace))["quality"]["clinic"]
    assert checked["refused"] < checked["photos"]
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,accepted\nclinic-00-1,maybe\n", encoding="utf-8")
    with pytest.raises(InputError):
        quality.run(quality.Config(calibrate=True, labels=str(labels)), context(workspace))


@pytest.mark.parametrize(
    "config",
    [
        quality.Config(cases=0),
        quality.Config(fitzpatrick=7),
        quality.Config(labels="x.csv"),
        quality.Config(table="missing.toml"),
        quality.Config(image="x.png", calibrate=True),
    ],
)
def test_options_that_do_not_go_together_are_refused(config: quality.Config, workspace: Workspace) -> None:
    with pytest.raises(ConfigError):
        quality.run(config, context(workspace))
