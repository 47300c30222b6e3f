"""``skinkit synthesise --report``: numbers, pictures and the verdict on copies, from real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_synthesis_filters import TOYS as TOYS
from test_synthesis_filters import chain as chain
from written_artifacts import run_stage

from skinkit.audit.identifiers import traces
from skinkit.learning import fidelity
from skinkit.models.parts.backbone import Backbone
from skinkit.stats.domains import frechet_distance
from skinkit.workspace import Workspace


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of another small network, whose numbers are random."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "second.safetensors"
    save_file(Backbone("timm/test_resnet", 128, closing=False).net.state_dict(), file)
    return file


def reported(workspace: Workspace, second: Path | None, **options: Any) -> tuple[Any, dict[str, Any], str]:
    weights = {"report_backbone": "timm/test_resnet", "report_weights": str(second)} if second else {}
    given = {"model": "copies", "per_class": 3, "report": True, **weights, **options}
    (made,), said = run_stage(workspace, "synthesise", **given)
    body = json.loads((workspace.root / "fidelity" / made.path.name / "fidelity.json").read_text())
    return made, body, said


def test_the_report_measures_the_images_and_leaves_the_artifact_as_it_is(workspace: Workspace, second: Path) -> None:
    (before,), _ = run_stage(workspace, "synthesise", model="copies", per_class=3)
    made, body, said = reported(workspace, second)
    assert made.identity == before.identity
    assert "up to date" in said
    folder = workspace.root / "fidelity" / "copies"
    rows = pd.read_parquet(folder / "fidelity.parquet")
    assert set(rows["compared"]) == {"synthetic", "real, other lesions", "noise", "another class"}
    assert set(rows["class"]) == {"BCC", "MEL", "NEV"}
    nearest = pd.read_parquet(folder / "nearest.parquet")
    assert set(nearest["image_id"]) == set(made.table()["image_id"])
    assert (body["asked"], body["images"], body["excluded"]) == tuple(
        made.info[name] for name in ("asked", "images", "excluded")
    )
    page = (folder / "fidelity.html").read_text(encoding="utf-8")
    assert "replace an examination by a physician" in page
    assert "Synthetic images show no patient" in page
    assert page.count("data:image/") >= 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    for code in ("BCC", "MEL", "NEV"):
        with Image.open(folder / f"nearest_{code}.png") as sheet:
            assert sheet.width > 300
    listed = {(trace.file, trace.kind) for trace in traces(workspace)}
    assert ("fidelity/copies/fidelity.html", "photos") in listed
    assert ("fidelity/copies/nearest_MEL.png", "photos") in listed
    assert ("artifacts/synthetic/copies/table.parquet", "ids") in listed


def test_copies_that_are_kept_are_beyond_the_limit_of_the_second_network(workspace: Workspace, second: Path) -> None:
    made, body, said = reported(workspace, second, keep_copies=True)
    copies = body["copies"]
    assert body["network"] == {**body["network"], "backbone": "timm/test_resnet", "second": True}
    assert made.info["copies"] > 0
    assert copies["after"] == copies["before"] >= 1 / 18
    assert copies["within_limit"] is False
    assert "more than the limit of 0.5%" in said
    _, filtered, _ = reported(workspace, second)
    assert filtered["copies"]["after"] < filtered["copies"]["before"]


def test_without_a_second_network_the_copy_rate_counts_as_not_checked(workspace: Workspace) -> None:
    _, body, said = reported(workspace, None)
    assert body["network"]["second"] is False
    assert body["copies"]["within_limit"] is None
    assert "was not checked by a second network" in said


def test_distances_are_those_of_other_implementations() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (40, 5)), rng.normal(0.5, 1.3, (40, 5))
    found = fidelity._compared(a, b)
    assert found["fid"] == pytest.approx(frechet_distance(a, b), rel=1e-3)
    assert found == fidelity._compared(a, b)
    gram = [(x @ y.T / 5 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    within = [(k.sum() - np.trace(k)) / (40 * 39) for k in gram[:2]]
    assert found["kid"] == pytest.approx(within[0] + within[1] - 2 * gram[2].mean(), rel=1e-6)
    assert fidelity._compared(a[:4], b[:4])["kid"] is None
