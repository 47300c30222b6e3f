"""init: a new workspace trains with what is installed, and says with what."""

from __future__ import annotations

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import run_here, run_skinkit, without_torch

from skinkit.models.parts.weights import LITE, PUBLIC, cached
from skinkit.workspace import load_workspace


def settings(folder: Path) -> dict[str, dict[str, object]]:
    return tomllib.loads((folder / "skinkit.toml").read_text(encoding="utf-8"))


@pytest.fixture
def without_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights but those that come with the extra ``torch``."""
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path / "empty"))


@pytest.mark.usefixtures("without_cache")
def test_a_new_workspace_names_a_model_whose_weights_are_here(tmp_path: Path) -> None:
    if cached(PUBLIC[LITE]) is None or find_spec("timm") is None:
        pytest.skip("NO TORCH: the extra 'torch' brings the weights that networks start from")
    from skinkit.stages import train

    answer = run_here("init", tmp_path / "w")
    assert answer.returncode == 0, answer.stderr
    workspace = load_workspace(tmp_path / "w")
    assert f"model: {workspace.defaults['model']}" in answer.stdout
    find = train.weights_finder(train.Config(model=workspace.defaults["model"]), workspace)
    assert find is not None
    assert find().name.startswith("efficientnet-lite0")  # 'no pretrained weights' would be raised here


@pytest.mark.usefixtures("without_cache")
def test_a_model_that_is_named_is_kept_and_says_what_it_starts_from(tmp_path: Path) -> None:
    if cached(PUBLIC[LITE]) is None or find_spec("timm") is None:
        pytest.skip("NO TORCH: the extra 'torch' brings the weights that networks start from")
    answer = run_here("init", tmp_path / "w", "--model", "hybrid_resnet50")
    assert settings(tmp_path / "w")["workspace"]["model"] == "hybrid_resnet50"
    assert f"backbone={LITE}" in answer.stdout
    assert "stage.train" not in (tmp_path / "w" / "skinkit.toml").read_text(encoding="utf-8")


def test_without_torch_it_is_a_model_that_needs_none(tmp_path: Path) -> None:
    answer = run_skinkit("init", tmp_path / "w", **without_torch(tmp_path / "no-torch"))
    assert answer.returncode == 0, answer.stderr
    assert settings(tmp_path / "w")["workspace"]["model"] == "lightgbm"


@pytest.mark.usefixtures("without_cache")
def test_weights_that_are_nowhere_are_said_before_the_first_run(tmp_path: Path) -> None:
    if find_spec("timm") is None:
        pytest.skip("NO TORCH: the extra 'torch' brings the networks")
    answer = run_here("init", tmp_path / "w", "--segmenter", "mask_rcnn")
    assert "no pretrained weights of mask_rcnn" in answer.stdout
    assert "skinkit weights list" in answer.stdout
