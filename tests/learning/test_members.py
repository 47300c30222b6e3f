"""Late fusion: a model that reads what the same fold of other models answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written
from written_artifacts import make, model

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.explain import shapley
from skinkit.learning.rows import DevelopmentRows
from skinkit.learning.trained import open_classifier
from skinkit.models.late_fusion import Config, LateFusion
from skinkit.models.parts.protocol import Labelled
from skinkit.pipeline import Pipeline
from skinkit.schemas import PROBABILITY
from skinkit.workspace import Ref, Workspace, load_workspace

TOYS = ("pooled_pixels",)
FUSION: dict[str, Any] = {"model": "late_fusion", "members": ("plain", "photo")}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression on the metadata, a network on the photo, and the mean of both."""
    root = small_cohort.make(tmp_path_factory.mktemp("chain") / "w").root
    workspace = load_workspace(root)
    make(workspace, "split", folds=2, validation=0.4)
    make(workspace, "train", model="logistic", name="plain", radiomics="none")
    make(workspace, "train", model="pooled_pixels", name="photo", weights="none")
    make(workspace, "train", name="both", **FUSION)
    return root


def probabilities(workspace: Workspace, name: str, cohort: str) -> pd.DataFrame:
    table = make(workspace, "predict", name=name, cohorts=[cohort]).table()
    assert (table["status"] == "ok").all()
    images = table[table["level"] == "image"].set_index("case_id")
    return images[["fold", *(column for column in images if column.startswith(PROBABILITY))]]


def test_validation_patients_that_cannot_be_halved_are_refused() -> None:
    frame = pd.DataFrame({"group_id": ["a", "b", "c", "d"], "class": ["NEV", "MEL", "NEV", "NEV"]})
    split = pd.DataFrame({"fold": 0, "row": range(4), "part": ["validation", "validation", "held_out", "held_out"]})
    with pytest.raises(InputError) as refused:
        DevelopmentRows(frame, split, {}).halved()
    assert "fold 0 " in refused.value.found
    enough = split.assign(part=["validation", "held_out", "validation", "held_out"])
    assert DevelopmentRows(frame, enough, {}).halved().split["part"].tolist() == [
        "train", "held_out", "validation", "held_out"
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------ the model


def _labelled(answers: Any, labels: Any) -> Labelled:
    log_p = np.log(np.asarray(answers, float))
    return Labelled({"members": log_p.reshape(len(log_p), -1)}, np.asarray(labels))


def test_equal_weights_are_the_geometric_mean() -> None:
    train = _labelled([[[0.9, 0.1], [0.5, 0.5]]], [0])
    fused = LateFusion.fit(Config(), train, train, n_classes=2, seed=0)
    assert np.exp(fused.predict(train.inputs)).tolist() == [pytest.approx([0.75, 0.25])]  # sqrt(9) : 1


def test_fitted_weights_leave_out_a_member_that_is_wrong() -> None:
    right, wrong = [[0.8, 0.2], [0.2, 0.8]], [[0.3, 0.7], [0.7, 0.3]]
    train = _labelled([[right[k], wrong[k]] for k in (0, 1, 0, 1)], [0, 1, 0, 1])
    fused = LateFusion.fit(Config(weights="fitted"), train, train, n_classes=2, seed=0)
    assert fused.weights.sum() == pytest.approx(1)
    assert fused.weights[0] > 0.99


# ------------------------------------------------------------------------------------------------------ the chain


def test_it_learns_from_half_of_the_validation_rows_by_patient(workspace: Workspace) -> None:
    split = open_artifact(workspace.path(Ref("split", name="grouped"))).table()
    trained_on = read_table(model(workspace, "both").path / "trained_on.parquet")
    for fold in (0, 1):
        validation = set(split.loc[(split["fold"] == fold) & (split["part"] == "validation"), "case_id"])
        own = trained_on[(trained_on["fold"] == fold) & trained_on["part"].isin(["train", "validation"])]
        assert set(own["case_id"]) == validation
        assert set(own["part"]) == {"train", "validation"}
        assert (own.groupby("group_id")["part"].nunique() == 1).all()
        before = trained_on[(trained_on["fold"] == fold) & (trained_on["part"] == "pretrain")]
        learnt = split.loc[(split["fold"] == fold) & (split["part"] == "train"), "case_id"]
        assert set(before["case_id"]) == set(learnt), "what its members learnt from is known to it"


def test_a_held_out_case_gets_the_mean_of_the_members_that_held_it_out(workspace: Workspace) -> None:
    tables = {name: probabilities(workspace, name, "clinic") for name in ("plain", "photo", "both")}
    both = tables.pop("both")
    columns = [column for column in both if column != "fold"]
    assert (both["fold"] == tables["plain"]["fold"]).all()
    mean = np.mean([np.log(np.maximum(table[columns].to_numpy(float), 1e-12)) for table in tables.values()], axis=0)
    temperature = {
        int(fold["fold"]): fold["temperature"] for fold in model(workspace, "both").json("model.json")["folds"]
    }
    scores = mean - np.logaddexp.reduce(mean, axis=1, keepdims=True)
    scores = scores / both["fold"].map(temperature).to_numpy(float)[:, None]
    expected = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    assert np.allclose(both[columns].to_numpy(float), expected, atol=1e-6)


def test_its_probabilities_hold_for_the_mix_of_its_members(workspace: Workspace) -> None:
    for both in model(workspace, "both").json("model.json")["folds"]:
        members = [model(workspace, name).json("model.json")["folds"][both["fold"]] for name in ("plain", "photo")]
        mixes = [np.array(list(member["effective_class_prior"].values())) for member in members]
        pooled = np.sqrt(mixes[0] * mixes[1])
        assert list(both["effective_class_prior"].values()) == pytest.approx((pooled / pooled.sum()).tolist())


def test_it_is_scored_elsewhere_after_its_members_are_gone(workspace: Workspace) -> None:
    before = probabilities(workspace, "both", "jinan")
    for name in ("plain", "photo"):
        shutil.rmtree(model(workspace, name).path)
    shutil.rmtree(open_artifact(workspace.path(Ref("predictions", "jinan", "both"))).path)
    assert probabilities(workspace, "both", "jinan").equals(before)
    scores = make(workspace, "evaluate", name="both", cohorts=["jinan"], bootstrap=10, shortcuts=False)
    assert scores.info["leakage"]["cases"] == 0
    opened = open_classifier(model(workspace, "both"))
    assert [member.name for member in opened.members] == ["plain", "photo"]


# ------------------------------------------------------------------------------------------------------- refusals


def test_a_member_that_learnt_from_the_rows_of_the_fusion_is_refused(workspace: Workspace) -> None:
    split = open_artifact(workspace.path(Ref("split", name="grouped")))
    table = split.table()
    swapped = table.assign(part=table["part"].replace({"train": "validation", "validation": "train"}))
    written.write(workspace, Ref("split", name="swapped"), swapped, split.info)
    make(workspace, "train", model="logistic", name="leaky", radiomics="none", split="swapped")
    with pytest.raises(RefusedError) as error:
        make(workspace, "train", model="late_fusion", members=("plain", "leaky"), name="other")
    assert "clinic" in error.value.found


def test_a_replaced_member_makes_it_stale_and_leaves_it_as_it_is(workspace: Workspace) -> None:
    both = Ref("models", name="both")
    pipeline = Pipeline(workspace, written.Said(), upstream=False)
    assert pipeline.staleness(both) is None
    before = probabilities(workspace, "both", "jinan")
    make(workspace, "train", model="logistic", name="plain", radiomics="none", settings=("c=0.01",), replace=True)
    assert "members/plain" in str(pipeline.staleness(both))
    shutil.rmtree(open_artifact(workspace.path(Ref("predictions", "jinan", "both"))).path)
    assert probabilities(workspace, "both", "jinan").equals(before)
    make(workspace, "train", name="both", replace=True, **FUSION)
    assert pipeline.staleness(both) is None
    assert not probabilities(workspace, "both", "jinan").equals(before)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"members": ()}, "no --members"),
        ({"members": ("plain",)}, "--members plain"),
        ({"members": ("plain", "plain")}, "--members plain,plain"),
        ({"model": "logistic"}, "for logistic"),
        ({"classes": "malignancy"}, "the members plain answers"),
        ({"members": ("plain", "other")}, "for the model other"),
    ],
)
def test_members_that_cannot_be_are_refused(workspace: Workspace, options: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(workspace, "train", **{**FUSION, "name": "other", **options})
    assert found in error.value.found


def test_it_is_explained_by_its_members(workspace: Workspace) -> None:
    make(workspace, "predict", name="both", cohorts=["jinan"])
    with pytest.raises(InputError) as error:
        make(workspace, "explain", name="both", cohorts=["jinan"])
    assert error.value.found == "both reads the answers of plain, photo"
    make(
        workspace,
        "train",
        model="late_fusion",
        members=("plain", "photo"),
        name="weighed",
        settings=("weights=fitted",),
    )
    with pytest.raises(InputError):
        make(workspace, "train", model="late_fusion", members=("weighed", "photo"), name="nested")


# --------------------------------------------------------------------------------------------------- the ensemble
JOINED: dict[str, Any] = {"model": "ensemble", "settings": ("side_px=32",)}


def test_an_ensemble_learns_from_the_training_rows_and_weighs_on_half_of_the_others(workspace: Workspace) -> None:
    make(workspace, "train", name="joined", members=("photo",), **JOINED)
    split = open_artifact(workspace.path(Ref("split", name="grouped"))).table()
    trained_on = read_table(model(workspace, "joined").path / "trained_on.parquet")
    for fold in (0, 1):
        of = {
            part: set(split.loc[(split["fold"] == fold) & (split["part"] == part), "case_id"])
            for part in split["part"].unique()
        }
        own = trained_on[trained_on["fold"] == fold]
        assert of["train"] < set(own.loc[own["part"] == "train", "case_id"]) < of["train"] | of["validation"]
        assert set(own.loc[own["part"] == "validation", "case_id"]) < of["validation"]
        assert set(own.loc[own["part"] == "held_out", "case_id"]) == of["held_out"]
        fitted = open_classifier(model(workspace, "joined")).folds[fold].fitted
        assert len(fitted.weights) == len(fitted.experts) + 1
    for cohort in ("clinic", "jinan"):
        assert np.allclose(probabilities(workspace, "joined", cohort).drop(columns="fold").sum(axis=1), 1, atol=1e-6)


def test_an_explanation_holds_the_exact_share_of_each_member(workspace: Workspace) -> None:
    make(workspace, "train", name="joined", members=("photo",), **JOINED)
    scores = probabilities(workspace, "joined", "clinic")
    malignant = [f"{PROBABILITY}{code}" for code in ("BCC", "MEL", "SCC")]
    compared = 0
    for row in make(workspace, "explain", model="joined", cohorts=["clinic"], limit=0).table().to_dict("records"):
        shares = {entry["attribute"]: entry["contribution"] for entry in json.loads(row["attributions_json"])}
        assert shares["photo"] != 0 != shares["image"]
        p = scores.loc[row["case_id"], malignant].astype(float).sum()
        if 1e-6 < p < 1 - 1e-6:  # beyond that rounding has eaten the log odds
            assert row["baseline"] + sum(shares.values()) == pytest.approx(np.log(p / (1 - p)), abs=1e-3)
            compared += 1
    assert compared


def test_its_heatmap_holds_that_of_a_network_with_the_weight_of_the_member(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(workspace, "train", name="joined", members=("photo",), **JOINED)
    make(workspace, "predict", model="joined", cohorts=["jinan"])
    asked = {"model": "joined", "cohorts": ["jinan"], "limit": 1}
    added: list[tuple[np.ndarray, float]] = []

    with monkeypatch.context() as patched:
        real = shapley.mixed
        patched.setattr(shapley, "mixed", lambda maps: added.extend(maps) or real(maps))
        make(workspace, "explain", **asked)
    (own, one), (of_member, weight) = added[:2]
    assert one == 1
    folds = open_classifier(model(workspace, "joined")).folds
    assert weight == pytest.approx(np.mean([fold.fitted.weights[-1] / fold.temperature for fold in folds]))
    assert own.shape != of_member.shape
    assert of_member.max() > 0


def test_a_member_that_has_learnt_from_what_weighs_it_is_refused(workspace: Workspace) -> None:
    make(workspace, "split", name="other", folds=2, validation=0.4, seed=9)
    make(workspace, "train", model="pooled_pixels", name="elsewhere", weights="none", split="other")
    with pytest.raises(RefusedError):
        make(workspace, "train", name="joined", members=("elsewhere",), **JOINED)


def test_members_are_for_models_that_read_them(workspace: Workspace) -> None:
    for given in (
        {"model": "logistic", "members": ("photo",)},
        {**JOINED, "members": ("photo", "photo")},
        {"model": "late_fusion", "members": ("photo",)},
    ):
        with pytest.raises(ConfigError) as refused:
            make(workspace, "train", name="wrong", **given)
        assert refused.value.found.startswith("--members photo")
