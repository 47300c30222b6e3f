"""Which segmenter a workspace uses where its file names none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import run_here

from skinkit.workspace import load_workspace


def made(root: Path, name: str, task: object = "segment", *, finished: bool = True) -> None:
    folder = root / "artifacts" / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(task if task == "{" else json.dumps({"task": task}))  # type: ignore[arg-type]
    if finished:
        (folder / "manifest.json").write_text("{}")


def segmenter(root: Path) -> str:
    return load_workspace(root).defaults["segmenter"]


def test_the_trained_segmenter_is_the_default_outline_once_there_is_one(tmp_path: Path) -> None:
    assert run_here("init", tmp_path).returncode == 0
    made(tmp_path, "lightgbm", "classify")
    made(tmp_path, "unet.partial")
    made(tmp_path, "begun", finished=False)
    made(tmp_path, "damaged", "{")
    assert segmenter(tmp_path) == "otsu"
    made(tmp_path, "deep")
    assert segmenter(tmp_path) == "deep"
    made(tmp_path, "another")
    assert segmenter(tmp_path) == "otsu"  # which of the two is not for skinkit to choose
    made(tmp_path, "unet")
    assert segmenter(tmp_path) == "unet"


@pytest.mark.parametrize("stated", ["otsu", "truth"])
def test_a_segmenter_that_the_file_names_stays(stated: str, tmp_path: Path) -> None:
    assert run_here("init", tmp_path, "--segmenter", stated).returncode == 0
    made(tmp_path, "unet")
    assert segmenter(tmp_path) == stated


def test_a_file_that_names_none_means_auto(tmp_path: Path) -> None:
    (tmp_path / "skinkit.toml").write_text("")
    made(tmp_path, "unet")
    assert segmenter(tmp_path) == "unet"
