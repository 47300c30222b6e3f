"""The whole chain on forty real photos and twenty external dermoscopic images."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import run_here

from skinkit.artifacts.artifact import open_artifact

pytestmark = pytest.mark.real
PER_CLASS = {"BCC": 9, "ACK": 8, "NEV": 8, "SEK": 7, "SCC": 4, "MEL": 4}


@pytest.fixture(scope="module")
def workspace(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a small part of PAD-UFES-20 and of the ISIC 2018 test images; nothing is kept."""
    folder = tmp_path_factory.mktemp("real")
    pad = folder / "pad"
    for name in ("images", "masks"):
        (pad / name).mkdir(parents=True)
    table = pd.read_csv(real_data / "pad" / "metadata.csv", dtype=str)
    stems = table["img_id"].str.removesuffix(".png")
    there = stems.map(lambda s: all((real_data / "pad" / d).exists() for d in (f"images/{s}.jpg", f"masks/{s}.png")))
    chosen = [g.head(PER_CLASS[str(n)]) for n, g in table[there].groupby("diagnostic")]
    pd.concat(chosen).to_csv(pad / "metadata.csv", index=False)
    for stem in pd.concat(chosen)["img_id"].str.removesuffix(".png"):
        shutil.copy(real_data / "pad" / "images" / f"{stem}.jpg", pad / "images")
        shutil.copy(real_data / "pad" / "masks" / f"{stem}.png", pad / "masks")
    ham = folder / "ham"
    (ham / "images").mkdir(parents=True)
    labels = pd.read_csv(real_data / "isic" / "ham_test" / "labels.csv", dtype=str)
    source = real_data / "isic" / "ham_test" / "images"
    labels = labels[[(source / f"{name}.jpg").exists() for name in labels["image"]]].head(20)
    labels.to_csv(ham / "labels.csv", index=False)
    for name in labels["image"]:
        shutil.copy(source / f"{name}.jpg", ham / "images")
    decode = [
        sys.executable,
        str(real_data / "weights" / "decode.py"),
        "resnet18",
        str(folder / "resnet18.safetensors"),
    ]
    subprocess.run(decode, check=True, capture_output=True)
    cohorts = ["--cohort", f"pad=pad-ufes-20:{pad}", "--cohort", f"ham=isic-2018-task3:{ham}:external"]
    made = run_here("init", folder / "work", *cohorts, "--segmenter", "otsu", "--model", "frozen_probe")
    assert made.returncode == 0, made.stderr
    return folder / "work"


@pytest.mark.timeout(900)
def test_from_photo_to_report(workspace: Path) -> None:
    weights = workspace.parent / "resnet18.safetensors"
    backbone = ["--settings", "backbone=resnet18"]
    for command in (
        ["segment"],
        ["radiomics", "--check", "3"],
        ["train", "--weights", weights, *backbone, "--allow-untrained", "forty photos"],
        ["evaluate"],
        ["explain", "--cases", "4"],
        ["report"],
    ):
        answer = run_here(*command, "-w", workspace, "--json")
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["newly_failed"] == 0
    artifacts = workspace / "artifacts"
    masks = open_artifact(artifacts / "pad" / "masks" / "otsu").table()
    assert len(masks) == sum(PER_CLASS.values())
    assert masks["iou"].notna().all()
    features = open_artifact(artifacts / "pad" / "features" / "otsu").table()
    assert (features["status"] == "ok").all()
    predictions = open_artifact(artifacts / "ham" / "predictions" / "frozen_probe").table()
    images = predictions[predictions["level"] == "image"]
    assert len(images) == 20
    probabilities = images.filter(like="p__diagnosis__")
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1.0)
    heatmaps = open_artifact(artifacts / "ham" / "explanations" / "frozen_probe").table()
    assert (heatmaps["status"] == "ok").sum() == 4
    assert (artifacts / "report" / "research" / "index.html").stat().st_size < 20 * 2**20


def test_the_source_is_never_written_to(workspace: Path) -> None:
    assert {p.name for p in (workspace.parent / "pad").iterdir()} == {"images", "masks", "metadata.csv"}
