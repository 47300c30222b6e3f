"""Pretraining: every photo without a label, a backbone per fold, and what a model that starts from it may see."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import masked_pixels
import numpy as np
import pandas as pd
import pooled_pixels
import pytest
import small_cohort
import third_party
import torch
import written_artifacts as written
from safetensors.torch import load_file
from written_artifacts import make, model

from skinkit import contract
from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.data.views import of_view
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning import rows
from skinkit.learning.trained import BACKBONE, NETWORK
from skinkit.pipeline import Pipeline
from skinkit.workspace import Ref, Workspace, load_workspace

TOYS = ("masked_pixels", "pooled_pixels")


# ---------------------------------------------------------------------------------------------------- the contract


def test_the_toys_keep_the_contract() -> None:
    contract.check_model(masked_pixels.MaskedPixels)
    contract.check_model(pooled_pixels.PooledPixels)


def _reading_the_class(self: Any, batch: Any) -> Any:
    return masked_pixels.MaskedPixels.loss(self, batch) + batch["class"].float().mean()


def _reading_a_mask(self: Any, batch: Any) -> Any:
    return masked_pixels.MaskedPixels.loss(self, batch) + batch["mask"].mean()


def _with_a_counter(self: Any, config: Any, sizes: Any) -> None:
    masked_pixels.MaskedPixels.__init__(self, config, sizes)
    self.register_buffer("steps", torch.zeros(()))


def _counting(self: Any, batch: Any) -> Any:
    self.steps += 1
    return masked_pixels.MaskedPixels.loss(self, batch)


def _diverging_in_eval(self: Any, batch: Any) -> Any:
    return masked_pixels.MaskedPixels.loss(self, batch) * (1.0 if self.training else float("nan"))


def _refusing(self: Any, state: Any, source: str) -> str:
    raise InputError(f"{source} holds weights", "none", "--weights none")


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a truth": ({"loss": _reading_the_class}, "its loss reads class, but a pretraining has no truth"),
    "an input that READS lacks": ({"loss": _reading_a_mask}, "loss reads mask, which READS does not name"),
    "tables": ({"READS": ("image", "attributes")}, "attributes; a pretraining reads photos alone"),
    "an unread view": ({"READS": ("image", "image_clinical")}, "its loss never reads image_clinical"),
    "no backbone": ({"backbone_state": lambda self: {}}, "answers no tensor by name"),
    "not finite": ({"backbone_state": lambda self: {"a": torch.full((2,), torch.nan)}}, "not finite in a"),
    "untrained": ({"backbone_state": lambda self: {"a": torch.zeros(2)}}, "answers nothing that its loss trains"),
    "nothing takes it": ({"start": _refusing}, "start refuses what backbone_state answers"),
    "learns in eval mode": (
        {"__init__": _with_a_counter, "loss": _counting},
        "its loss changes the network in eval mode",
    ),
    "nan in eval mode": ({"loss": _diverging_in_eval}, "in eval mode, in which validation rows are scored"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_pretraining_is_refused_for_its_reason(name: str) -> None:
    replaced, sentence = BROKEN[name]
    broken = type("Broken", (masked_pixels.MaskedPixels,), {"__module__": "masked_pixels", **replaced})
    with pytest.raises(AssertionError, match=sentence):
        contract.check_model(broken)


# ---------------------------------------------------------------------------------------------------- the chain


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 labelled photos and 12 of an archive without labels, pretrained on, and a classifier that starts from that."""
    root = small_cohort.make(tmp_path_factory.mktemp("chain") / "w").root
    with (root / "skinkit.toml").open("a") as stream:
        stream.write('\n[cohorts.archive]\nrole = "development"\nsource = "folder"\npath = "archive"\n')
    (root / "archive").mkdir()
    workspace = load_workspace(root)
    frame = small_cohort.write_cohort(workspace, "archive", patients=6, seed=5).assign(diagnosis=None)
    small_cohort.write_fused(workspace, "archive", frame)
    write_cases(workspace, "archive", open_artifact(workspace.path(Ref("cases", "archive"))).table(), diagnosis=None)
    make(workspace, "split", folds=2, validation=0.34)
    make(workspace, "split", over="all")
    make(workspace, "train", model="masked_pixels", name="ssl")
    make(workspace, "train", model="pooled_pixels", name="pooled", weights="model:ssl")
    return workspace.root


def write_cases(workspace: Workspace, cohort: str, frame: pd.DataFrame, **columns: Any) -> None:
    photos = frame.assign(**columns).astype(object)
    written.write_cases(workspace, cohort, photos.where(photos.notna(), None).to_dict("records"))


def split(workspace: Workspace, name: str) -> pd.DataFrame:
    return open_artifact(workspace.path(Ref("split", name=name))).table()


def test_the_split_covers_every_photo_and_holds_out_what_the_other_split_does(workspace: Workspace) -> None:
    every, grouped = split(workspace, "all"), split(workspace, "grouped")
    assert every.groupby("fold").size().to_dict() == {0: 48, 1: 48}
    both = every.merge(grouped, on=["fold", "cohort", "case_id"], suffixes=("", "_grouped"))
    assert len(both) == len(grouped) == 72
    assert set(both.loc[both["part_grouped"] != "train", "part"]) == {"held_out"}
    assert set(both.loc[both["part_grouped"] == "train", "part"]) <= {"train", "validation"}
    added = every[every["case_id"].str.startswith("archive")]
    assert set(added["part"]) <= {"train", "validation"}
    assert (every.groupby(["fold", "group_id"])["part"].nunique() == 1).all()


def test_a_split_over_all_photos_has_the_folds_of_the_workspaces(workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as error:
        make(workspace, "split", over="all", folds=3)
    assert "--folds 3" in error.value.found


def test_a_pretraining_answers_a_backbone_per_fold(workspace: Workspace) -> None:
    pretrained = model(workspace, "ssl")
    about = pretrained.json("model.json")
    assert (about["task"], about["split"]["name"]) == ("pretrain", "all")
    assert {"classes", "threshold"}.isdisjoint(about)
    folds = [load_file(pretrained.path / f"fold_{fold}" / BACKBONE) for fold in (0, 1)]
    assert set(folds[0]) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert not torch.equal(folds[0]["0.weight"], folds[1]["0.weight"])
    network = load_file(pretrained.path / "fold_0" / NETWORK)
    assert torch.equal(network["backbone.0.weight"], folds[0]["0.weight"])
    history = pd.read_parquet(pretrained.path / "fold_0" / "history.parquet")
    assert history.loc[history["kept"], "validation_loss"].item() == history["validation_loss"].min()


def test_a_pretraining_that_reads_views_has_a_row_per_case(tmp_path: Path) -> None:
    workspace = written.make_workspace(tmp_path, {"clinic": "development"})
    photos = [
        {"image_id": f"{case}-{view}", "case_id": case, "view": view, "diagnosis": None}
        for case in ("a", "b")
        for view in ("clinical", "dermoscopic")
    ]
    cases = written.write_cases(workspace, "clinic", [*photos, {"image_id": "c", "case_id": "c"}])
    parts = [{"fold": 0, "cohort": "clinic", "case_id": case, "part": "train"} for case in ("a", "b")]
    split = written.write(workspace, Ref("split", name="all"), parts)
    by_photo = rows.pictured({"clinic": cases}, split, by_case=False)
    assert by_photo.frame["image_id"].tolist() == ["a-clinical", "a-dermoscopic", "b-clinical", "b-dermoscopic"]
    assert by_photo.part(0, "train").tolist() == [0, 1, 2, 3]
    assert by_photo.barred == {"in no part of the split": 1}
    by_case = rows.pictured({"clinic": cases}, split, by_case=True)
    assert by_case.frame["image_id"].tolist() == ["a-dermoscopic", "b-dermoscopic"]
    assert of_view(by_case.frame, "image_clinical")["image_id"].tolist() == ["a-clinical", "b-clinical"]


def test_the_last_epoch_is_kept_without_validation_rows(workspace: Workspace) -> None:
    every = open_artifact(workspace.path(Ref("split", name="all")))
    table = every.table().replace({"part": {"validation": "train"}})
    written.write(workspace, Ref("split", name="unvalidated"), table, every.info)
    pretrained = make(workspace, "train", model="masked_pixels", name="last", split="unvalidated")
    history = pd.read_parquet(pretrained.path / "fold_0" / "history.parquet")
    assert history["kept"].tolist() == [False, False, True]
    assert "validation_loss" not in history


def test_each_fold_starts_from_the_same_fold(workspace: Workspace) -> None:
    about = model(workspace, "pooled").json("model.json")
    identity = model(workspace, "ssl").identity
    assert about["weights"] == {"name": "model:ssl", "sha256": None, "identity": identity}
    for fold in about["folds"]:
        assert fold["starts_from"] == f"the backbone of model:ssl, fold_{fold['fold']}"


def test_a_pretraining_starts_from_another(workspace: Workspace) -> None:
    further = make(workspace, "train", model="masked_pixels", name="further", weights="model:ssl")
    assert further.json("model.json")["folds"][0]["starts_from"] == "the backbone of model:ssl, fold_0"


def test_the_model_knows_what_the_pretraining_learnt_from(workspace: Workspace) -> None:
    trained_on = read_table(model(workspace, "pooled").path / "trained_on.parquet")
    before = trained_on[trained_on["part"] == "pretrain"]
    pretrained = read_table(model(workspace, "ssl").path / "trained_on.parquet")
    learnt = pretrained[pretrained["part"] != "held_out"]
    key = ["fold", "cohort", "case_id", "image_id"]
    assert set(map(tuple, before[key].to_numpy())) <= set(map(tuple, learnt[key].to_numpy()))
    assert before["case_id"].str.startswith("archive").all(), "what both learnt from has one row"
    assert len(before) == 24
    assert not trained_on.duplicated(key).any()


def test_it_predicts_and_is_scored_on_held_out_cases_and_elsewhere(workspace: Workspace) -> None:
    for cohort in ("clinic", "jinan"):
        predictions = make(workspace, "predict", name="pooled", cohorts=[cohort]).table()
        assert (predictions["status"] == "ok").all()
        scores = make(workspace, "evaluate", name="pooled", cohorts=[cohort], bootstrap=10, shortcuts=False)
        assert scores.info["leakage"]["cases"] == 0


# ---------------------------------------------------------------------------------------------------- leakage


def test_an_external_copy_of_a_photo_seen_in_pretraining_alone_is_refused(workspace: Workspace) -> None:
    cases = open_artifact(workspace.path(Ref("cases", "archive"))).table().set_index("image_id")
    fused = open_artifact(workspace.path(Ref("fused", "jinan", "truth"))).table()
    copied, case = cases.loc["archive-00-1"], fused.loc[0, "case_id"]
    same = {name: copied[name] for name in ("pixel_sha256", "image_sha256")}
    shutil.copy(workspace.root / "archive" / "archive-00-1.png", workspace.root / "jinan" / f"{case}.png")
    small_cohort.write_fused(workspace, "jinan", planted(fused, case, same))
    elsewhere = open_artifact(workspace.path(Ref("cases", "jinan"))).table()
    write_cases(workspace, "jinan", planted(elsewhere, case, same))
    make(workspace, "predict", name="pooled", cohorts=["jinan"])
    with pytest.raises(RefusedError) as error:
        make(workspace, "evaluate", name="pooled", cohorts=["jinan"], bootstrap=10, shortcuts=False)
    assert case in error.value.found
    assert "archive-00-1" in error.value.found


def planted(frame: pd.DataFrame, case: str, values: dict[str, Any]) -> pd.DataFrame:
    """The rows, that of one case with other values."""
    return frame.assign(**{name: frame[name].mask(frame["case_id"] == case, value) for name, value in values.items()})


def _all_in_training(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(part=np.where(frame["part"] == "held_out", "train", frame["part"]))


def _swapped(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(fold=1 - frame["fold"])


@pytest.mark.parametrize("changed", [_all_in_training, _swapped])
def test_a_pretraining_that_learnt_from_held_out_cases_is_refused(
    workspace: Workspace, changed: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    every = open_artifact(workspace.path(Ref("split", name="all")))
    written.write(workspace, Ref("split", name="leaky"), changed(every.table()), every.info)
    make(workspace, "train", model="masked_pixels", name="leaky", split="leaky", settings=("recipe.epochs=1",))
    options = {"model": "pooled_pixels", "name": "other", "weights": "model:leaky"}
    with pytest.raises(RefusedError) as error:
        make(workspace, "train", **options)
    assert "clinic" in error.value.found
    make(workspace, "train", **options, allow_leakage="a test")
    make(workspace, "predict", name="other", cohorts=["clinic"])
    predictions = open_artifact(workspace.path(Ref("predictions", "clinic", "other")))
    assert predictions.info["leakage_allowed"] == "a test"


def test_a_split_with_other_folds_is_refused(workspace: Workspace) -> None:
    make(workspace, "split", name="three", folds=3, validation=0.34)
    with pytest.raises(InputError) as error:
        make(workspace, "train", model="pooled_pixels", name="other", weights="model:ssl", split="three")
    assert "no fold 2" in error.value.found


def test_an_unlabelled_case_is_predicted_by_no_fold_that_was_pretrained_on_its_patient(workspace: Workspace) -> None:
    labelled = open_artifact(workspace.path(Ref("fused", "clinic", "truth"))).table()
    held = split(workspace, "grouped").query("fold == 0 and part == 'held_out'").iloc[0]
    patient = labelled[labelled["case_id"] == held["case_id"]]
    further = patient.assign(case_id="further", image_id="further", diagnosis=None)
    small_cohort.write_fused(workspace, "clinic", pd.concat([labelled, further], ignore_index=True))
    clinic = make(workspace, "predict", name="pooled", cohorts=["clinic"]).table().set_index("case_id")
    assert clinic.loc["further", "fold"] == 0
    archive = make(workspace, "predict", name="pooled", cohorts=["archive"]).table()
    assert archive.empty


# ------------------------------------------------------------------------------------------- identity and refusals


def test_a_replaced_pretraining_makes_the_model_stale(workspace: Workspace) -> None:
    pooled = Ref("models", name="pooled")
    pipeline = Pipeline(workspace, written.Said(), upstream=False)
    assert pipeline.staleness(pooled) is None
    make(workspace, "train", model="masked_pixels", name="ssl", seed=1, replace=True)
    assert "weights" in str(pipeline.staleness(pooled))
    before = load_file(model(workspace, "pooled").path / "fold_0" / NETWORK)
    with pytest.raises(RefusedError):
        make(workspace, "train", model="pooled_pixels", name="pooled")
    again = make(workspace, "train", model="pooled_pixels", name="pooled", replace=True)
    assert again.json("model.json")["weights"]["identity"] == model(workspace, "ssl").identity
    assert not torch.equal(load_file(again.path / "fold_0" / NETWORK)["output.weight"], before["output.weight"])
    assert pipeline.staleness(pooled) is None


def test_a_pretraining_is_no_classifier(workspace: Workspace, tmp_path: Path) -> None:
    third_party.assert_no_classifier(workspace, "ssl", "pretrain", "only answers a backbone", tmp_path)


def test_only_a_network_starts_from_a_pretraining(workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as error:
        make(workspace, "train", model="lightgbm", name="trees", weights="model:ssl")
    assert "lightgbm" in error.value.found
    with pytest.raises(InputError) as other:
        make(workspace, "train", model="concat", name="second", weights="model:pooled")
    assert "pooled is a pooled_pixels" in other.value.found
    with pytest.raises(ConfigError):
        make(workspace, "train", model="masked_pixels", name="ssl", weights="model:ssl", replace=True)
    with pytest.raises(InputError):
        Pipeline(workspace, written.Said()).make(
            "train", {"model": "pooled_pixels", "weights": "model:nobody"}, name="orphan"
        )
