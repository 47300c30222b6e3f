"""Distillation: a network learns what the same fold of another model says of its training rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pooled_pixels
import pytest
import small_cohort
import torch
import written_artifacts as written
from safetensors.torch import load_file
from written_artifacts import make, model

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning.examples import Photo, resized
from skinkit.learning.trained import NETWORK
from skinkit.learning.upstream import Upstream
from skinkit.models.logistic import Regression
from skinkit.pipeline import Pipeline
from skinkit.schemas import PROBABILITY
from skinkit.workspace import Ref, Workspace, load_workspace

TOYS = ("pooled_pixels", "masked_pixels", "alike_pixels")
STUDENT: dict[str, Any] = {"model": "pooled_pixels", "weights": "none", "teacher": "plain"}
KEY = ["fold", "cohort", "case_id", "image_id"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 photos in two folds, a regression on the metadata and a network that learns from it."""
    root = small_cohort.make(tmp_path_factory.mktemp("chain") / "w").root
    workspace = load_workspace(root)
    make(workspace, "train", model="logistic", name="plain", radiomics="none")
    make(workspace, "train", name="student", **STUDENT)
    return root


def network(workspace: Workspace, name: str, fold: int = 0) -> dict[str, torch.Tensor]:
    return load_file(model(workspace, name).path / f"fold_{fold}" / NETWORK)


def test_the_model_says_who_taught_it_and_how(workspace: Workspace) -> None:
    about = model(workspace, "student").json("model.json")
    assert about["teacher"] == {"name": "plain", "identity": model(workspace, "plain").identity}
    assert about["objective"] == {"name": "distillation", "settings": {"temperature": 4.0, "share": 0.5}}


def test_it_predicts_and_is_scored_without_its_teacher(workspace: Workspace) -> None:
    shutil.rmtree(model(workspace, "plain").path)
    for cohort in ("clinic", "jinan"):
        predictions = make(workspace, "predict", name="student", cohorts=[cohort]).table()
        assert (predictions["status"] == "ok").all()
        scores = make(workspace, "evaluate", name="student", cohorts=[cohort], bootstrap=10, shortcuts=False)
        assert scores.info["leakage"]["cases"] == 0


def test_it_learns_another_thing_from_a_teacher_than_from_the_truth(workspace: Workspace) -> None:
    alone = {name: value for name, value in STUDENT.items() if name != "teacher"}
    make(workspace, "train", name="alone", **alone)
    make(workspace, "train", name="unheard", **STUDENT, settings=("objective.share=0.0",))
    make(workspace, "train", name="taught", **STUDENT, settings=("objective.share=1.0", "recipe.epochs=2"))
    layer = "output.weight"
    weights = {name: network(workspace, name)[layer] for name in ("alone", "unheard", "student", "taught")}
    assert torch.equal(weights["alone"], weights["unheard"])
    assert not torch.equal(weights["alone"], weights["student"])
    assert not torch.equal(weights["student"], weights["taught"])


def test_it_learns_what_its_teacher_makes_of_the_photo_too(workspace: Workspace) -> None:
    """Of one width the two are compared as they are, of another through a map that is no part of the student."""
    teacher = make(
        workspace, "train", model="pooled_pixels", name="seeing", weights="none", settings=("recipe.epochs=2",)
    )
    of_teacher = {**STUDENT, "teacher": "seeing"}
    make(workspace, "train", name="answers", **of_teacher)
    make(workspace, "train", name="features", **of_teacher, settings=("objective.features=0.5",))
    answers, features = network(workspace, "answers"), network(workspace, "features")
    assert answers.keys() == features.keys() == load_file(teacher.path / "fold_0" / NETWORK).keys()
    assert any(not torch.equal(answers[name], features[name]) for name in answers)
    settings = model(workspace, "features").json("model.json")["objective"]["settings"]
    assert settings == {"temperature": 4.0, "share": 0.5, "features": 0.5}
    small = ("backbone=timm/test_resnet", "side_px=32", "recipe.epochs=1", "recipe.batch=8", "objective.features=0.5")
    wider = {"model": "concat", "teacher": "seeing", "weights": "none", "attributes": "none"}
    make(workspace, "train", name="wider", **wider, settings=small)
    assert not [name for name in network(workspace, "wider") if "projection" in name]
    assert (make(workspace, "predict", name="wider", cohorts=["jinan"]).table()["status"] == "ok").all()


def test_a_teacher_that_reads_no_photo_has_none_to_give(workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as error:
        make(workspace, "train", name="blind", **STUDENT, settings=("objective.features=0.5",))
    assert "plain" in error.value.found
    assert "reads no photo" in error.value.found


def test_what_a_teacher_makes_of_photos_is_what_it_encodes(workspace: Workspace) -> None:
    make(workspace, "train", model="pooled_pixels", name="seeing", weights="none")
    fused = open_artifact(workspace.path(Ref("fused", "clinic", "truth"))).table().assign(cohort="clinic")
    teacher = Upstream(model(workspace, "seeing"), "seeing", workspace.root, "cpu", written.Said())
    roots = [workspace.cohort("clinic").root] * len(fused)
    seen = teacher.answers(1, fused, np.array([1, 4]), roots, encoded=True)["seen"]
    assert np.flatnonzero(~np.isnan(seen).any(axis=1)).tolist() == [1, 4]
    of_fold = teacher.classifier.network(teacher.classifier.folds[1], "cpu").eval()
    photo = np.asarray(
        resized(Photo(fused["pixel_sha256"][4], roots[4] / fused["image_path"][4]).read(), of_fold.config.side_px)
    )
    with torch.no_grad():
        encoded = of_fold.encode({"image": torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255})
    assert np.allclose(seen[4], encoded.flatten().numpy(), atol=1e-5)


def test_a_fold_reads_the_answers_of_the_same_fold_to_the_rows_asked_for(workspace: Workspace) -> None:
    fused = open_artifact(workspace.path(Ref("fused", "clinic", "truth"))).table().assign(cohort="clinic")
    teacher = Upstream(model(workspace, "plain"), "plain", workspace.root, "cpu", written.Said())
    rows, roots = np.array([1, 4, 30]), [workspace.cohort("clinic").root] * len(fused)
    by_fold = [teacher.answers(fold, fused, rows, roots)["diagnosis"] for fold in (0, 1)]
    answered = ~np.isnan(by_fold[0]).any(axis=1)
    assert np.flatnonzero(answered).tolist() == rows.tolist()
    assert np.allclose(np.exp(by_fold[0][rows]).sum(axis=1), 1)
    assert not np.allclose(by_fold[0][rows], by_fold[1][rows])
    predicted = make(workspace, "predict", name="plain", cohorts=["clinic"]).table()
    predicted = predicted[predicted["level"] == "image"].set_index("case_id")
    for row in rows:
        case = predicted.loc[fused.loc[row, "case_id"]]
        columns = [f"{PROBABILITY}{code}" for code in teacher.classifier.classes.classes]
        of_fold = by_fold[int(case["fold"])][row]
        assert np.allclose(np.exp(of_fold), case[columns].to_numpy(float), atol=1e-9)


def test_a_pretraining_with_an_objective_of_its_own_is_one_to_start_from(workspace: Workspace) -> None:
    make(workspace, "split", over="all")
    make(workspace, "train", model="alike_pixels", name="alike", settings=("objective.temperature=0.3",))
    about = model(workspace, "alike").json("model.json")
    assert about["settings"]["objective"] == {"temperature": 0.3}
    assert "objective" not in about
    started = make(workspace, "train", **{**STUDENT, "weights": "model:alike"}, name="both")
    before = read_table(started.path / "trained_on.parquet")
    assert not before.duplicated(KEY).any()


# ---------------------------------------------------------------------------------------------------- leakage


def _swapped(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(fold=1 - frame["fold"])


def _validated_on(frame: pd.DataFrame) -> pd.DataFrame:
    """Training and validation rows exchanged."""
    return frame.assign(part=frame["part"].replace({"train": "validation", "validation": "train"}))


@pytest.mark.parametrize("changed", [_swapped, _validated_on])
def test_a_teacher_that_learnt_from_unseen_cases_is_refused(workspace: Workspace, changed: Any) -> None:
    split = open_artifact(workspace.path(Ref("split", name="grouped")))
    written.write(workspace, Ref("split", name="leaky"), changed(split.table()), split.info)
    make(workspace, "train", model="logistic", name="leaky", radiomics="none", split="leaky")
    options = {**STUDENT, "teacher": "leaky", "name": "other"}
    with pytest.raises(RefusedError) as error:
        make(workspace, "train", **options)
    assert "clinic" in error.value.found
    make(workspace, "train", **options, allow_leakage="a test")
    make(workspace, "predict", name="other", cohorts=["clinic"])
    assert open_artifact(workspace.path(Ref("predictions", "clinic", "other"))).info["leakage_allowed"] == "a test"


def test_a_case_that_only_the_teacher_learnt_from_is_known_to_the_student(workspace: Workspace) -> None:
    """The student's split leaves one patient of training out; a photo of that patient turns up elsewhere."""
    split = open_artifact(workspace.path(Ref("split", name="grouped")))
    table = split.table()
    gone = table.loc[(table["fold"] == 0) & (table["part"] == "train"), "group_id"].iloc[0]
    smaller = table[table["group_id"] != gone]
    written.write(workspace, Ref("split", name="smaller"), smaller, split.info)
    student = make(workspace, "train", **STUDENT, name="other", split="smaller")
    trained_on = read_table(student.path / "trained_on.parquet")
    before = trained_on[trained_on["part"] == "pretrain"]
    assert set(before["group_id"]) == {gone}
    assert not trained_on.duplicated(KEY).any()
    cases = open_artifact(workspace.path(Ref("cases", "clinic"))).table()
    copied = cases[cases["group_id"] == gone].iloc[0]
    fused = open_artifact(workspace.path(Ref("fused", "jinan", "truth"))).table()
    case = fused.loc[0, "case_id"]
    same = {name: copied[name] for name in ("pixel_sha256", "image_sha256")}
    shutil.copy(workspace.root / "clinic" / copied["image_path"], workspace.root / "jinan" / f"{case}.png")
    small_cohort.write_fused(workspace, "jinan", _planted(fused, case, same))
    elsewhere = open_artifact(workspace.path(Ref("cases", "jinan"))).table()
    photos = _planted(elsewhere, case, same).astype(object)
    written.write_cases(workspace, "jinan", photos.where(photos.notna(), None).to_dict("records"))
    make(workspace, "predict", name="other", cohorts=["jinan"])
    with pytest.raises(RefusedError) as error:
        make(workspace, "evaluate", name="other", cohorts=["jinan"], bootstrap=10, shortcuts=False)
    assert case in error.value.found
    clinic = make(workspace, "predict", name="other", cohorts=["clinic"]).table()
    of_gone = clinic[clinic["group_id"] == gone]
    assert set(of_gone["fold"].dropna()) <= set(table.loc[(table["group_id"] == gone), "fold"]) - set(before["fold"])


def _planted(frame: pd.DataFrame, case: str, values: dict[str, Any]) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].mask(frame["case_id"] == case, value) for name, value in values.items()})


def test_a_teacher_that_was_fitted_again_on_validation_rows_is_refused(workspace: Workspace) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Regression, "REFITS", True)
        with pytest.raises(RefusedError) as error:
            make(workspace, "train", **STUDENT, name="taught")
    assert "plain" in error.value.found


# ------------------------------------------------------------------------------------------- identity and refusals


def test_a_replaced_teacher_makes_the_student_stale(workspace: Workspace) -> None:
    student = Ref("models", name="student")
    pipeline = Pipeline(workspace, written.Said(), upstream=False)
    assert pipeline.staleness(student) is None
    make(workspace, "train", model="logistic", name="plain", radiomics="none", seed=1, replace=True)
    assert "teacher" in str(pipeline.staleness(student))
    with pytest.raises(RefusedError) as error:
        make(workspace, "train", name="student", **STUDENT)
    assert "other teacher" in error.value.found
    again = make(workspace, "train", name="student", **STUDENT, replace=True)
    assert again.json("model.json")["teacher"]["identity"] == model(workspace, "plain").identity
    assert pipeline.staleness(student) is None


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"teacher": ""}, "teacher 'plain' instead of ''"),
        ({"settings": ("objective.temperature=2",)}, "objective.temperature 4.0 instead of 2.0"),
        ({"objective": "supervised_contrastive"}, "objective 'distillation' instead of 'supervised_contrastive'"),
    ],
)
def test_another_way_of_learning_needs_another_name(workspace: Workspace, changed: dict[str, Any], found: str) -> None:
    with pytest.raises(RefusedError) as error:
        make(workspace, "train", name="student", **{**STUDENT, **changed})
    assert found in error.value.found


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"model": "lightgbm", "weights": "", "teacher": "plain"}, "--teacher plain for lightgbm"),
        ({"teacher": "", "objective": "distillation"}, "without a teacher"),
        ({"teacher": "", "objective": "masked"}, "--objective masked for pooled_pixels"),
        ({"classes": "malignancy"}, "the teacher plain answers"),
        ({"settings": ("objective.heat=2",)}, "heat"),
    ],
)
def test_what_cannot_be_learnt_so_is_refused(workspace: Workspace, options: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(workspace, "train", **{**STUDENT, "name": "other", **options})
    assert found in error.value.found


def test_a_teacher_must_be_another_classifier_of_the_workspace_with_the_same_folds(workspace: Workspace) -> None:
    with pytest.raises(ConfigError):
        make(workspace, "train", **{**STUDENT, "teacher": "student"}, name="student", replace=True)
    with pytest.raises(InputError):
        Pipeline(workspace, written.Said()).make("train", {**STUDENT, "teacher": "nobody"}, name="orphan")
    make(workspace, "split", over="all")
    make(workspace, "train", model="masked_pixels", name="ssl")
    with pytest.raises(InputError) as error:
        make(workspace, "train", **{**STUDENT, "teacher": "ssl"}, name="other")
    assert error.value.found == "the model 'ssl' only answers a backbone"
    make(workspace, "split", name="three", folds=3, validation=0.34)
    with pytest.raises(InputError) as lacking:
        make(workspace, "train", **STUDENT, name="other", split="three")
    assert "no fold 2" in lacking.value.found


def test_a_network_may_read_a_teacher_in_a_loss_of_its_own(workspace: Workspace) -> None:
    def loss(self: Any, batch: Any) -> Any:
        student = self(batch)["diagnosis"].log_softmax(1)
        return torch.nn.functional.kl_div(student, batch["teacher"].exp(), reduction="batchmean")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooled_pixels.PooledPixels, "loss", loss)
        patch.setattr(pooled_pixels.PooledPixels, "READS", ("image", "teacher"))
        own = make(workspace, "train", **STUDENT, name="own").json("model.json")
        assert "objective" not in own
        assert own["teacher"]["name"] == "plain"
        make(workspace, "predict", name="own", cohorts=["jinan"])
        with pytest.raises(ConfigError) as error:
            make(workspace, "train", **{**STUDENT, "teacher": ""}, name="other")
        assert "teacher" in error.value.found
