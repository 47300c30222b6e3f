"""The scripts of examples/ run as they are."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from skinkit.reporting.model_card import TO_WRITE, filled
from skinkit.stages import STAGES

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.parametrize("script", sorted(EXAMPLES.rglob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_valid_shell_and_executable(script: Path) -> None:
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert os.access(script, os.X_OK)


def test_the_whole_chain_as_a_script(demo_copy: Path) -> None:
    script = EXAMPLES / "pipeline.sh"
    named = [line.split()[1] for line in script.read_text().splitlines() if line.startswith("skinkit ")]
    assert named == [stage for stage in STAGES if stage != "synthesise"], "synthesise needs a generator of one's own"
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    command = [str(script), str(demo_copy)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert answer.returncode == 0, answer.stderr
    assert "up to date" in answer.stderr


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script that packs models, and what it would run; its folder has three masks of two sources."""
    spec = importlib.util.spec_from_file_location("release_models", EXAMPLES / "release_models.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for folder in ("images", "masks"):
        (tmp_path / "pad" / folder).mkdir(parents=True)
    for stem in "abc":
        (tmp_path / "pad" / "masks" / f"{stem}.png").write_bytes(b"mask")
    (tmp_path / "pad" / "metadata.csv").write_text("patient_id")
    (tmp_path / "pad" / "manifest.csv").write_text("stem,mask_repo\na,one/masks\nb,one/masks\nc,two/masks\n")
    script.run = []
    monkeypatch.setattr(script, "_skinkit", lambda *command: script.run.append([str(part) for part in command]))
    return script


def called(script: Any, tmp_path: Path, *more: str) -> None:
    build, dist = (str(tmp_path / name) for name in ("build", "dist"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["x", str(tmp_path / "pad"), "--build", build, "--dist", dist, *more])
        script.main()


def test_masks_are_used_where_their_source_gives_a_licence(
    release: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "ENOUGH", 2)
    called(release, tmp_path, "--masks-of", "one/masks=MIT")
    assert sorted(link.name for link in (tmp_path / "build" / "pad" / "masks").iterdir()) == ["a.png", "b.png"]
    assert (tmp_path / "build" / "pad" / "metadata.csv").is_symlink()
    trained = [command[-1] for command in release.run if command[0] == "train"]
    packed = [command[2] for command in release.run if command[0] == "models"]
    assert trained == packed == ["unet", "ensemble"]
    written = tomllib.loads((tmp_path / "build" / "ensemble.toml").read_text())
    masks = "2 lesion masks: one/masks, MIT"
    assert masks in written.pop("segmenter")["training_data"]["sources"]
    assert masks not in written["training_data"]["sources"]
    assert "replay_features" not in tomllib.loads((tmp_path / "build" / "unet.toml").read_text())
    blank: dict[str, Any] = {"replay_features": {"licence": TO_WRITE}}
    blank |= {"ethics": TO_WRITE, "model": {"name": "x", "licence": TO_WRITE}, "training_data": {}}
    blank["intended_use"] = {"use": "research", "users": TO_WRITE}
    assert b"CC BY 4.0" in filled(blank, written, "ensemble.toml")["model_card.md"]
    called(release, tmp_path, "--masks-of", "two/masks=MIT", "--masks-of", "one/masks=MIT")
    assert len(list((tmp_path / "build" / "pad" / "masks").iterdir())) == 3


def test_with_too_few_masks_the_ensemble_alone_is_packed(
    release: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called(release, tmp_path, "--masks-of", "one/masks=MIT")
    assert [command[-1] for command in release.run if command[0] == "train"] == ["ensemble"]
    assert list((tmp_path / "build" / "pad" / "masks").iterdir()) == []
    assert "no U-Net is trained" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        called(release, tmp_path, "--masks-of", "one/masks")
