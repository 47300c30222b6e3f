"""In a private workspace nobody but its owner reads anything, whatever the umask says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinkit.artifacts.artifact import ArtifactRecipe
from skinkit.artifacts.builder import Builder
from skinkit.cli import main
from skinkit.privacy import permissions
from skinkit.schemas import MASKS
from skinkit.workspace import load_workspace


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """The worst case: a shell that lets everybody write."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for n in range(3):
        pixels = rng.integers(60, 200, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{n}.png")
    return tmp_path / "in"


def made(workspace: Path, photos: Path, *options: str) -> None:
    """A workspace whose photos were read and segmented, by two workers."""
    cohort = f"ward=folder:{photos}:inference"
    assert main(["init", str(workspace), "--cohort", cohort, *options]) == 0
    assert main(["segment", "-w", str(workspace), "--jobs", "2"]) == 0


def open_ones(folder: Path) -> list[str]:
    return [str(path) for path in [folder, *folder.rglob("*")] if permissions.open_to_others(path)]


def test_a_private_workspace_is_closed_whatever_the_umask(tmp_path: Path, photos: Path) -> None:
    workspace = tmp_path / "w"
    made(workspace, photos, "--private")
    assert load_workspace(workspace).private
    assert len(list(workspace.rglob("*.png"))) == 3, "workers wrote masks"
    assert open_ones(workspace) == []
    for path in (workspace / "artifacts").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert os.umask(0) == 0, "the caller's umask is as it was"


def test_an_open_workspace_keeps_to_the_umask_and_is_closed_when_it_becomes_private(
    tmp_path: Path, photos: Path
) -> None:
    workspace = tmp_path / "w"
    made(workspace, photos)
    assert len(open_ones(workspace / "artifacts")) > 10
    settings = workspace / "skinkit.toml"
    settings.write_text(settings.read_text().replace("[workspace]", "[workspace]\nprivate = true"))
    Image.fromarray(np.zeros((40, 48, 3), dtype=np.uint8)).save(photos / "later.png")
    assert main(["segment", "-w", str(workspace)]) == 0
    assert len(list(workspace.rglob("*.png"))) == 4, "three masks were linked forward"
    assert open_ones(workspace / "artifacts") == []


def test_unfinished_work_is_closed_too(tmp_path: Path) -> None:
    with permissions.restored():
        permissions.keep_private(tmp_path / "artifacts")
        recipe = ArtifactRecipe("masks", 1, "segment", 1, {}, {})
        path = tmp_path / "artifacts" / "ward" / "masks"
        with pytest.raises(KeyboardInterrupt), Builder(path, MASKS, recipe) as build:  # noqa: PT012
            build.plan({("a",): "1"})
            build.add({"image_id": "a"})
            raise KeyboardInterrupt
    assert [file.name for file in path.parent.rglob("*.parquet")], "what was computed is kept"
    assert open_ones(tmp_path / "artifacts") == []


def test_a_wrong_value_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "skinkit.toml").write_text('[workspace]\nprivate = "yes"\n')
    assert main(["status", "-w", str(tmp_path)]) == 2
    assert "true or false" in capsys.readouterr().err
