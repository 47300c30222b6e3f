"""With one fold: a second network that learns from all rows, and answers for other cohorts alone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import torch
import written_artifacts as written
from configured import configured
from conftest import run_here

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.console import Console
from skinkit.errors import RefusedError
from skinkit.learning import forward, trained
from skinkit.learning.examples import Examples, photos_of
from skinkit.models import concat
from skinkit.models.parts.protocol import Sizes
from skinkit.workspace import Ref, Workspace

SETTINGS = (
    "backbone=shufflenet_v2_x0_5",
    "side_px=32",
    "recipe.epochs=1",
    "recipe.batch=8",
    "recipe.optimiser=adamw",
    "recipe.final_epochs=2",
)
P = [f"p__diagnosis__{code}" for code in ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")]


def train(workspace: Workspace, **given: Any) -> Artifact:
    asked = {"model": "concat", "weights": "none", "settings": SETTINGS, **given}
    (artifact,), _ = written.run_stage(workspace, "train", **asked)
    return artifact


def images(artifact: Artifact) -> pd.DataFrame:
    table = artifact.table()
    return table[table["level"] == "image"].set_index("case_id")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = small_cohort.make(tmp_path_factory.mktemp("chain") / "w", folds=1, patients=12)
    train(workspace)
    return workspace.root


def asked_of(workspace: Workspace, cohort: str, network: Any, fold: trained.Fold) -> pd.DataFrame:
    """Calibrated probabilities of a cohort's photos, straight from a network."""
    frame = open_artifact(workspace.path(Ref("fused", cohort, "truth"))).table()
    examples = Examples(("image", "attributes"), 32, photos_of(frame, workspace.root / cohort))
    examples = examples.with_arrays(trained.batch_of(frame, fold.encoder, fold.radiomics))
    found = forward.run(network, examples, range(len(frame)), console=Console(quiet=True))
    logits = np.stack([answer["diagnosis"] for _, answer in found])  # type: ignore[index]
    return pd.DataFrame(np.exp(fold.calibrated(logits)), index=frame["case_id"], columns=P)


def test_other_cohorts_are_answered_by_what_learnt_from_every_row(workspace: Workspace) -> None:
    model = open_artifact(workspace.path(Ref("models", name="concat")))
    split = open_artifact(workspace.path(Ref("split", name="grouped"))).table()
    (about,) = model.json("model.json")["folds"]
    assert about["final"]["rows"] == len(split)
    assert about["final"]["best"]["epoch"] == 2
    assert about["best"]["epoch"] == 1
    opened = trained.open_classifier(model)
    fold, final = opened.folds
    assert (fold.number, final.number, opened.outside) == (0, trained.FINAL, (trained.FINAL,))
    assert fold.temperature == final.temperature
    told = {}
    for cohort, answering in (("jinan", final), ("clinic", fold)):
        (artifact,), _ = written.run_stage(workspace, "predict", name="concat", cohorts=[cohort])
        told[cohort] = images(artifact)[P]
        own = asked_of(workspace, cohort, opened.network(answering, "cpu"), answering).loc[told[cohort].index]
        np.testing.assert_allclose(told[cohort], own, atol=1e-5)
    assert set(told["clinic"].index) == set(split.loc[split["part"] == "held_out", "case_id"])
    other = asked_of(workspace, "jinan", opened.network(fold, "cpu"), fold)
    assert np.abs(told["jinan"] - other.loc[told["jinan"].index]).max().max() > 1e-3
    (explained,), _ = written.run_stage(workspace, "explain", cohorts=["jinan"], model="concat", limit=1)
    assert (explained.table()["status"] == "ok").all()


def test_a_case_elsewhere_that_is_a_held_out_one_leaks(workspace: Workspace) -> None:
    """The final network has seen it, though the only fold held it out."""
    split = open_artifact(workspace.path(Ref("split", name="grouped"))).table()
    held = split.loc[split["part"] == "held_out", "case_id"].str.replace("clinic", "jinan")
    frame = small_cohort.write_cohort(workspace, "jinan", 12, seed=1)  # the photos of clinic under other names
    small_cohort.write_fused(workspace, "jinan", frame[frame["case_id"].isin(held)])
    written.run_stage(workspace, "predict", name="concat", cohorts=["jinan"])
    with pytest.raises(RefusedError, match="trained on"):
        written.run_stage(workspace, "evaluate", name="concat", cohorts=["jinan"], bootstrap=20)


def test_held_out_rows_count_where_they_are_learnt_from(workspace: Workspace) -> None:
    """A held-out patient who is a year older is another model."""
    split = open_artifact(workspace.path(Ref("split", name="grouped"))).table()
    before = (workspace.path(Ref("models", name="concat")) / "fold_0" / "final" / trained.NETWORK).read_bytes()
    frame = open_artifact(workspace.path(Ref("fused", "clinic", "truth"))).table()
    frame.loc[frame["case_id"].isin(split.loc[split["part"] == "held_out", "case_id"]), "age_years"] = 20.0
    small_cohort.write_fused(workspace, "clinic", frame)
    model = train(workspace, replace=True)
    assert (model.path / "fold_0" / "final" / trained.NETWORK).read_bytes() != before


def test_several_folds_or_no_refit_train_no_final_network(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "w", folds=2, patients=12)
    opened = trained.open_classifier(train(workspace))
    assert opened.outside == (0, 1)
    assert not any("final" in fold for fold in opened.about["folds"])
    alone = small_cohort.make(tmp_path / "alone", folds=1, patients=12)
    plain = trained.open_classifier(train(alone, refit=False))
    assert plain.outside == (0,)
    assert plain.about["refitted"] is False


def test_killed_in_the_second_training_it_ends_with_the_same_bytes(chain: Path, tmp_path: Path) -> None:
    finished = chain / "artifacts" / "models" / "concat"
    shutil.copytree(chain, tmp_path / "w", ignore=shutil.ignore_patterns("concat"))
    command = [sys.executable, "-m", "skinkit", "train", "--model", "concat", "--weights", "none", "--no-upstream"]
    command += [word for setting in SETTINGS for word in ("--settings", setting)]
    partial = tmp_path / "w" / "artifacts" / "models" / "concat.partial"
    with subprocess.Popen(command, cwd=tmp_path / "w", stderr=subprocess.DEVNULL) as process:
        seen, until = partial / "fold_0.final.checkpoint" / "checkpoint.json", time.monotonic() + 120
        while not seen.is_file() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert partial.is_dir(), "it was over before it could be killed"
    ended = run_here(*command[3:], cwd=tmp_path / "w")
    assert ended.returncode == 0, ended.stderr
    assert "going on after epoch" in ended.stderr
    again = tmp_path / "w" / "artifacts" / "models" / "concat"
    for file in ("fold_0/network.safetensors", "fold_0/final/network.safetensors", "fold_0/final/fold.json"):
        if file.endswith(".json"):
            assert json.loads((again / file).read_text()) == json.loads((finished / file).read_text())
        else:
            assert (again / file).read_bytes() == (finished / file).read_bytes(), file
    assert not list(again.glob("*.checkpoint"))


def test_adjusted_logits_answer_as_if_classes_were_equally_frequent() -> None:
    """Menon et al. 2021: the loss of f is the cross-entropy of f + tau log pi."""
    sizes = Sizes(("A", "B"), {"attributes": 2}, (30, 10), ("age_years", "sex"), (0.0, 0.0))
    torch.manual_seed(0)
    config = configured(concat.Concat, backbone="timm/test_resnet", side_px=32, logit_adjustment=1.0)
    network = concat.Concat.build(config, sizes).eval()
    given = {"image": torch.rand(4, 3, 32, 32), "attributes": torch.rand(4, 2), "class": torch.tensor([0, 0, 1, 0])}
    logits = network(given)["diagnosis"].detach()
    shifted = (logits + torch.log(torch.tensor([0.75, 0.25]))).log_softmax(1)
    torch.testing.assert_close(network.loss(given).detach(), -shifted[range(4), given["class"]].mean())


def test_adjusted_logits_never_answer_a_class_without_a_case() -> None:
    sizes = Sizes(("A", "B", "none"), {}, (60_000, 20_000, 0))
    torch.manual_seed(0)
    config = configured(concat.Concat, backbone="timm/test_resnet", side_px=32, logit_adjustment=1.0)
    network = concat.Concat.build(config, sizes).eval()
    with torch.no_grad():
        network.output[1].bias.copy_(torch.tensor([0.0, 0.0, 3.0]))
    given = {"image": torch.rand(8, 3, 32, 32), "class": torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])}
    assert network(given)["diagnosis"].argmax(1).eq(2).all()
    steps = torch.optim.SGD(network.output.parameters(), lr=0.1)
    for _ in range(100):
        steps.zero_grad()
        network.loss(given).backward()
        steps.step()
    assert network(given)["diagnosis"].softmax(1)[:, 2].max() < 0.05
