"""Maps of features: what is read of a model, how pure its neighbours are, and the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written

from skinkit.artifacts.artifact import open_artifact
from skinkit.commands import Context, embed
from skinkit.errors import ConfigError, InputError
from skinkit.evaluation import feature_map
from skinkit.learning import trained
from skinkit.learning.features import features
from skinkit.learning.penultimate import Penultimate
from skinkit.learning.scorer import Scorer
from skinkit.workspace import Ref, Workspace

torch = pytest.importorskip("torch")
QUIET = written.Said()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two folds of 36 photos and a small network that was trained for one epoch."""
    made = small_cohort.make(tmp_path_factory.mktemp("embed") / "w", model="concat")
    settings = ("backbone=mobilenet_v3_small", "side_px=32", "recipe.epochs=1", "recipe.batch=8", "hidden=7")
    written.run_stage(made, "train", settings=settings, weights="none", precision="fp32")
    for stage, options in (("predict", {}), ("evaluate", {"bootstrap": 5, "minimum": 1})):
        for cohort in ("clinic", "jinan"):
            written.run_stage(made, stage, cohorts=[cohort], **options)
    return made


def asked(workspace: Workspace, out: Path, **given: Any) -> dict[str, Any]:
    context = Context(workspace.root, QUIET, jobs=1, device="cpu", upstream=False)
    return dict(embed.run(embed.Config(out=str(out), **given), context))


def test_the_map_shows_the_cases_a_fold_held_out(workspace: Workspace, tmp_path: Path) -> None:
    answer = asked(workspace, tmp_path, fold=1)["embed"]
    table = pd.read_parquet(answer["clinic"]["files"]["parquet"])
    split = open_artifact(workspace.path(Ref("split", name="grouped"))).table()
    held_out = split.query("fold == 1 and part == 'held_out'")
    assert sorted(table["case_id"]) == sorted(held_out["case_id"])
    assert len(pd.read_parquet(answer["jinan"]["files"]["parquet"])) == answer["jinan"]["n"] == 8
    assert answer["clinic"]["width"] == 576 + 7
    predicted = open_artifact(workspace.path(Ref("predictions", "clinic", "concat"))).table()
    top1 = predicted.query("level == 'image'").set_index("case_id")["top1"]
    assert table.set_index("case_id")["top1"].to_dict() == top1.loc[table["case_id"]].to_dict()
    files = {kind: Path(file) for kind, file in answer["clinic"]["files"].items()}
    assert sorted(files) == ["html", "json", "parquet", "png", "svg", "txt"]
    assert json.loads(files["json"].read_text())["neighbours"] == answer["clinic"]["neighbours"]
    again = asked(workspace, tmp_path / "again", fold=1)["embed"]["clinic"]
    assert Path(again["files"]["svg"]).read_bytes() == files["svg"].read_bytes()


def test_features_are_what_the_last_layer_reads(workspace: Workspace) -> None:
    """They, the layer's own weights and the fold's calibration give the probabilities of the prediction."""
    model = trained.open_classifier(open_artifact(workspace.path(Ref("models", name="concat"))))
    frame = open_artifact(workspace.path(Ref("fused", "jinan", "truth"))).table()
    fold = model.folds[0]
    root = workspace.cohort("jinan").root
    found, readable = features(model, fold, frame, root, workspace.root, device="cpu", console=QUIET)
    assert readable.all()
    layer: Any = model.network(fold, "cpu").output[1]  # type: ignore[attr-defined]
    logits = found @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    scorer = Scorer(model, workspace.root, "cpu", QUIET)
    (probability,), _ = scorer.altered([frame], [(fold.number,)] * len(frame), root)
    np.testing.assert_allclose(np.exp(fold.calibrated(logits)), probability[0], atol=1e-2)


def test_several_passes_count_as_their_mean_and_other_ends_are_refused() -> None:
    class Passes(torch.nn.Module):
        answers_in = "fp32"

        def __init__(self) -> None:
            super().__init__()
            self.output = torch.nn.Linear(2, 3)

        def answer(self, batch: Mapping[str, Any]) -> Any:
            return {"diagnosis": self.output(torch.stack([batch["x"], batch["x"] + 2])).mean(0)}

    x = torch.rand(5, 2)
    torch.testing.assert_close(Penultimate(Passes(), 3).answer({"x": x})["features"], x + 1)
    with pytest.raises(InputError) as error:
        Penultimate(Passes(), 4)
    assert "linear layer" in error.value.found
    assert "4 classes" in error.value.found


def test_purity_of_neighbours_by_hand() -> None:
    line = np.array([[0.0], [1.0], [2.1], [10.0], [11.0]])
    found = feature_map.purity(line, ["A", "A", "B", "B", "B"], neighbours=1)
    # The neighbours are 1, 0, 1, 4 and 3: two of two for A, two of three for B.
    assert found["A"] == {"purity": 1.0, "chance": pytest.approx(1 / 4), "n": 2}
    assert found["B"] == {"purity": pytest.approx(2 / 3), "chance": pytest.approx(2 / 4), "n": 3}


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_the_map_keeps_clusters_apart(method: str) -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], 20)
    x = rng.normal(size=(60, 8)) + 12 * np.eye(8)[classes]
    how: dict[str, Any] = {"method": method, "perplexity": 30.0, "seed": 0}
    places = feature_map.mapped(x, **how)
    np.testing.assert_array_equal(places, feature_map.mapped(x, **how))
    pure = feature_map.purity(places, [str(c) for c in classes])
    assert min(row["purity"] for row in pure.values()) > 0.95
    assert feature_map.mapped(x[:, :1], **how).shape == (60, 2)


def test_a_fold_that_is_not_there_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--fold 7"):
        asked(workspace, tmp_path, fold=7)
    with pytest.raises(ConfigError, match="--perplexity"):
        asked(workspace, tmp_path, perplexity=0.0)
