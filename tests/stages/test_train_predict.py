"""Training and predicting, through the stages, on real files."""

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
from conftest import run_here

from skinkit.artifacts.artifact import Artifact, open_artifact, rehash
from skinkit.artifacts.files import digest, file_sha256
from skinkit.artifacts.tables import read_table
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning.fold_classifier import SPREAD
from skinkit.learning.trained import BACKBONE, batch_of, open_classifier
from skinkit.pipeline import Pipeline
from skinkit.schemas import MODEL, PREDICTIONS
from skinkit.stats import metrics
from skinkit.workspace import Ref, Workspace, load_workspace

QUICK = ("rounds=25", "min_leaf=3")
CODES = ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
P = [f"p__diagnosis__{code}" for code in CODES]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of 36 photos, an external cohort of 8, and a model; made once, copied by every test."""
    folder = tmp_path_factory.mktemp("made") / "w"
    train(small_cohort.make(folder))
    return folder


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(made, tmp_path / "w")
    return load_workspace(tmp_path / "w")


def train(workspace: Workspace, **given: Any) -> tuple[Artifact, str]:
    settings = {"settings": QUICK} if given.get("model", "lightgbm") == "lightgbm" else {}
    (artifact,), said = written.run_stage(workspace, "train", **{**settings, **given})
    return artifact, said


def predict(workspace: Workspace, cohort: str, **given: Any) -> pd.DataFrame:
    (artifact,), _ = written.run_stage(workspace, "predict", cohorts=[cohort], **given)
    return artifact.table()


def fused(workspace: Workspace, cohort: str = "clinic") -> pd.DataFrame:
    return open_artifact(workspace.path(Ref("fused", cohort, "truth"))).table()


def split(workspace: Workspace) -> pd.DataFrame:
    return open_artifact(workspace.path(Ref("split", name="grouped"))).table()


def fold_files(artifact: Artifact) -> dict[str, bytes]:
    return {str(f.relative_to(artifact.path)): f.read_bytes() for f in sorted(artifact.path.glob("fold_*/*"))}


# ------------------------------------------------------------------------------------------------------- train


def test_a_model_is_all_that_predicting_takes(workspace: Workspace) -> None:
    artifact = open_artifact(workspace.path(Ref("models", name="lightgbm")))
    table = artifact.table()
    assert set(MODEL.names) <= set(table.columns)
    assert table["fold"].tolist() == [0, 1]
    assert (table["n_train"] + table["n_validation"] + table["n_held_out"] == 36).all()
    about = artifact.json("model.json")
    assert about["model"] == "lightgbm"
    assert about["classes"]["classes"] == list(CODES)
    assert (about["threshold"], about["segmenter"], about["fused"]) == (0.3, "truth", "truth")
    assert about["radiomics"]["selection"] == "all"
    assert len(about["radiomics"]["features"]) == 102
    assert about["radiomics"]["bin_width"] == 25.0
    assert about["attributes"] == "pad81"
    assert about["split"]["identity"] == open_artifact(workspace.path(Ref("split", name="grouped"))).identity
    for fold in about["folds"]:
        assert fold["temperature"] > 0
        assert fold["class_thresholds"]["ACK"] == {"threshold": None, "source": "validation:youden"}
        assert 0 <= fold["class_thresholds"]["NEV"]["threshold"] <= 1
    trained_on = read_table(artifact.path / "trained_on.parquet")
    merged = split(workspace).merge(trained_on, on=["fold", "cohort", "case_id", "part"])
    assert len(merged) == len(trained_on) == len(split(workspace)) == 72
    source = fused(workspace).set_index("case_id")
    for name in ("image_sha256", "pixel_sha256", "dhash", "group_id", "patient_id", "lesion_id", "diagnosis"):
        assert trained_on[name].tolist() == source.loc[trained_on["case_id"], name].tolist()
    assert rehash(artifact) == []
    assert not [f for f in artifact.path.rglob("*") if f.suffix not in (".json", ".md", ".parquet", ".txt", "")]


def test_what_is_fitted_is_fitted_on_the_training_rows(workspace: Workspace) -> None:
    artifact = open_artifact(workspace.path(Ref("models", name="lightgbm")))
    source = fused(workspace).set_index("case_id")
    model = open_classifier(artifact)
    for fold in model.folds:
        parts = split(workspace).query("fold == @fold.number")
        rows = source.loc[parts.loc[parts["part"] == "train", "case_id"]]
        age = fold.encoder.columns.index("age")
        assert fold.encoder.standardiser.mean[age] == pytest.approx(rows["age_years"].mean())
        name = "original_firstorder_Mean"
        place = fold.radiomics.columns.index(name)
        assert fold.radiomics.mean[place] == pytest.approx(rows[name].mean())
        assert fold.radiomics.scale[place] == pytest.approx(rows[name].std(ddof=0))
        seen = source.loc[parts.loc[parts["part"] == "validation", "case_id"]]
        scores = fold.fitted.predict(batch_of(seen.reset_index(), fold.encoder, fold.radiomics))
        labels = np.array([CODES.index({"nevus": "NEV", "melanoma": "MEL"}.get(d, "BCC")) for d in seen["diagnosis"]])
        even = [code in ("NEV", "MEL", "BCC") for code in CODES]
        expected = metrics.fit_temperature(scores, labels, even, spread=SPREAD)
        assert fold.temperature == pytest.approx(max(1, expected) if (scores.argmax(1) == labels).all() else expected)
        p = metrics.softmax(scores, fold.temperature)
        thresholds = model.about["folds"][fold.number]["class_thresholds"]
        assert thresholds["MEL"]["threshold"] == pytest.approx(metrics.youden_threshold(p[:, 2], labels == 2))


def test_a_second_run_writes_nothing(workspace: Workspace) -> None:
    path = workspace.path(Ref("models", name="lightgbm"))
    before = {f: f.stat().st_mtime_ns for f in path.rglob("*")}
    _, said = train(workspace)
    assert "up to date" in said
    assert {f: f.stat().st_mtime_ns for f in path.rglob("*")} == before


class Interrupted(written.Said):
    """Ctrl-C at the moment a certain line is said."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def info(self, text: str, **values: Any) -> None:
        super().info(text, **values)
        if self.line in text:
            raise KeyboardInterrupt


def test_an_interrupted_training_goes_on_at_the_next_fold(workspace: Workspace) -> None:
    path = workspace.path(Ref("models", name="lightgbm"))
    whole = open_artifact(path)
    table = (path / "table.parquet").read_bytes()
    shutil.rmtree(path)
    pipeline = Pipeline(workspace, Interrupted("fold 1: training"), upstream=False)
    with pytest.raises(KeyboardInterrupt):
        pipeline.make("train", {"settings": QUICK})
    assert not path.exists()
    again, said = train(workspace)
    assert "fold 0: training" not in said
    assert "fold 1: training" in said
    assert again.identity == whole.identity
    assert (path / "table.parquet").read_bytes() == table


def test_another_configuration_needs_replace(workspace: Workspace) -> None:
    before = open_artifact(workspace.path(Ref("models", name="lightgbm"))).identity
    for other in (
        {"seed": 1},
        {"rounds": 30},
        {"veto": 0.4},
        {"attributes": "isic"},
        {"malignant": "wang"},
    ):
        given = {"settings": ("rounds=30", "min_leaf=3")} if "rounds" in other else other
        with pytest.raises(RefusedError) as error:
            train(workspace, **given)
        assert f"({next(iter(other))} " in error.value.found
        assert "--replace" in error.value.fix
    assert open_artifact(workspace.path(Ref("models", name="lightgbm"))).identity == before
    with pytest.raises(RefusedError) as error:
        train(workspace, settings=("rounds=25", "min_leaf=4"))
    assert "min_leaf 3" in error.value.found
    # Saying a default aloud is the same configuration.
    files = fold_files(open_artifact(workspace.path(Ref("models", name="lightgbm"))))
    assert fold_files(train(workspace, settings=(*QUICK, "l2=20.0"))[0]) == files
    replaced, _ = train(workspace, seed=1, replace=True)
    assert replaced.json("model.json")["seed"] == 1
    kept, _ = train(workspace, name="second")
    assert kept.path.name == "second"
    assert kept.json("model.json")["model"] == "lightgbm"


def test_exit_code_5_on_the_command_line(workspace: Workspace) -> None:
    same = [part for setting in QUICK for part in ("--settings", setting)]
    assert run_here("train", "--no-upstream", *same, cwd=workspace.root).returncode == 0
    refused = run_here("train", "--no-upstream", "--seed", "9", *same, "--json", cwd=workspace.root)
    assert refused.returncode == 5
    assert json.loads(refused.stdout)["error"]["kind"] == "RefusedError"


def changed(workspace: Workspace, cases: list[str]) -> None:
    """Other measurements and attributes for these cases."""
    frame = fused(workspace)
    hit = frame["case_id"].isin(cases)
    assert hit.sum() == len(cases)
    measured = [name for name in frame if "original_" in name]
    frame.loc[hit, measured] = frame.loc[hit, measured] * 3 + 100
    frame.loc[hit, "age_years"] = 7.0
    frame.loc[hit, "bleed"] = "UNK"
    small_cohort.write_fused(workspace, "clinic", frame)


def test_held_out_rows_have_no_part_in_the_model(workspace: Workspace) -> None:
    before = fold_files(open_artifact(workspace.path(Ref("models", name="lightgbm"))))
    rows = split(workspace)
    changed(workspace, rows.query("fold == 0 and part == 'held_out'")["case_id"].tolist())
    artifact, said = train(workspace)
    after = fold_files(artifact)
    assert "fold 0: training" not in said  # not even trained again
    assert [k for k in after if k.startswith("fold_0")] == [k for k in before if k.startswith("fold_0")]
    assert all(after[name] == before[name] for name in before if name.startswith("fold_0"))
    # Those rows train the other fold, so the change was one that matters.
    assert after["fold_1/lightgbm.txt"] != before["fold_1/lightgbm.txt"]
    # Trained from nothing, without what was kept, it comes to the same.
    shutil.rmtree(artifact.path)
    assert fold_files(train(workspace)[0]) == after


@pytest.mark.parametrize("part", ["train", "validation"])
def test_training_and_validation_rows_have(part: str, workspace: Workspace) -> None:
    before = fold_files(open_artifact(workspace.path(Ref("models", name="lightgbm"))))
    changed(workspace, split(workspace).query("fold == 0 and part == @part")["case_id"].tolist())
    after = fold_files(train(workspace)[0])
    assert after["fold_0/fold.json"] != before["fold_0/fold.json"]
    fitted = ("fold_0/attributes.json", "fold_0/radiomics.json")
    assert all((after[name] == before[name]) == (part == "validation") for name in fitted)


def test_folds_that_the_split_has_not_are_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as error:
        train(workspace, folds=5, name="five")
    assert "skinkit split --folds 5" in error.value.fix
    assert "up to date" in train(workspace, folds=2)[1]


def test_cases_that_cannot_be_trained_on_are_counted(workspace: Workspace) -> None:
    frame = fused(workspace)
    frame.loc[frame["case_id"] == "clinic-00-1", "diagnosis"] = None
    frame.loc[frame["case_id"] == "clinic-01-1", "diagnosis"] = "dermatofibroma"
    frame = frame[frame["case_id"] != "clinic-02-1"]
    extra = frame.iloc[[4]].assign(
        case_id="new", image_id="new", diagnosis=None, patient_id="new", group_id="clinic:new"
    )
    small_cohort.write_fused(workspace, "clinic", pd.concat([frame, extra]))
    artifact, said = train(workspace)
    assert artifact.info["barred"] == {
        "not in the fused table": 1,
        "their diagnosis has no class in pad6": 2,
        "no diagnosis": 1,
    }
    assert "2 development cases are not trained on: their diagnosis has no class" in said
    table = artifact.table()
    assert ((table["n_train"] + table["n_validation"] + table["n_held_out"]) == 33).all()


def test_classes_the_split_was_not_drawn_for(workspace: Workspace) -> None:
    artifact, said = train(workspace, classes="malignancy", name="two")
    assert artifact.json("model.json")["classes"]["malignant"] == ["malignant"]
    assert "can never answer" not in said
    table = predict(workspace, "jinan", model="two")
    np.testing.assert_allclose(table["malignancy"], table["p__diagnosis__malignant"])
    file = workspace.root / "one.toml"
    file.write_text('malignant = []\n[classes]\nNEV = ["nevus"]\nDF = ["dermatofibroma"]\n')
    with pytest.raises(InputError) as error:
        train(workspace, classes="one.toml", name="one")
    assert "fold 0" in error.value.found
    assert "1 class" in error.value.found


def test_a_leaking_split_is_refused(workspace: Workspace) -> None:
    rows = split(workspace)
    first = (rows["fold"] == 0) & (rows["case_id"] == "clinic-00-1")
    other = (rows["fold"] == 0) & (rows["case_id"] == "clinic-00-2")
    rows.loc[first, "part"], rows.loc[other, "part"] = "train", "held_out"
    info = open_artifact(workspace.path(Ref("split", name="grouped"))).info
    written.write(workspace, Ref("split", name="leaky"), rows, info)
    with pytest.raises(RefusedError, match="P00"):
        train(workspace, split="leaky", name="leaky")
    artifact, _ = train(workspace, split="leaky", name="leaky", allow_leakage="to see what it does")
    assert artifact.json("model.json")["leakage_allowed"] == "to see what it does"
    (made,), _ = written.run_stage(workspace, "predict", cohorts=["clinic"], model="leaky")
    assert made.info["leakage_allowed"] == "to see what it does"


def test_radiomics_of_the_signature_or_none(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "ws", patients=60)  # enough patients for a feature to be significant
    written.run_stage(workspace, "select")
    artifact, _ = train(workspace, radiomics="signature", name="signed")
    chosen = open_artifact(workspace.path(Ref("signature", name="grouped/truth"))).table()
    about = artifact.json("model.json")
    assert about["radiomics"]["features"] is None
    for fold in open_classifier(artifact).folds:
        expected = chosen[(chosen["fold"] == fold.number) & chosen["selected"].astype(bool)].sort_values("rank")
        assert list(fold.radiomics.columns) == expected["feature"].tolist() != []
        assert about["folds"][fold.number]["signature"] == expected["feature"].tolist()
    bare, _ = train(workspace, radiomics="none", name="bare")
    assert all(fold.radiomics.columns == () for fold in open_classifier(bare).folds)
    assert set(predict(workspace, "jinan", model="bare")["status"]) == {"ok"}


# ----------------------------------------------------------------------------------------------------- predict


def scored(workspace: Workspace, cohort: str, cases: list[str], folds: tuple[int, ...]) -> np.ndarray:
    """Probabilities of cases by hand: softmax of each fold's scores over its temperature, averaged."""
    model = open_classifier(open_artifact(workspace.path(Ref("models", name="lightgbm"))))
    frame = fused(workspace, cohort).set_index("case_id").loc[cases].reset_index()
    answers = []
    for fold in model.folds:
        if fold.number in folds:
            z = fold.fitted.predict(batch_of(frame, fold.encoder, fold.radiomics))
            answers.append(metrics.softmax(z, fold.temperature))
    return np.mean(answers, axis=0)


def test_development_cases_are_predicted_by_the_fold_that_held_them_out(workspace: Workspace) -> None:
    table = predict(workspace, "clinic").query("level == 'image'")
    held_out = split(workspace).query("part == 'held_out'").set_index("case_id")["fold"]
    assert table.set_index("case_id")["fold"].to_dict() == held_out.to_dict()
    for fold in (0, 1):
        mine = table[table["fold"] == fold]
        np.testing.assert_allclose(mine[P], scored(workspace, "clinic", mine["case_id"].tolist(), (fold,)))
    assert table["fold_sd"].isna().all()


def test_external_cases_get_the_mean_of_the_calibrated_folds(workspace: Workspace) -> None:
    table = predict(workspace, "jinan").query("level == 'image'")
    cases = table["case_id"].tolist()
    np.testing.assert_allclose(table[P], scored(workspace, "jinan", cases, (0, 1)))
    both = np.stack([scored(workspace, "jinan", cases, (fold,))[:, [1, 2, 4]].sum(axis=1) for fold in (0, 1)])
    np.testing.assert_allclose(table["malignancy"], both.mean(axis=0))
    np.testing.assert_allclose(table["fold_sd"], both.std(axis=0))
    assert table["fold"].isna().all()


@pytest.mark.parametrize("cohort", ["clinic", "jinan"])
def test_every_column_follows_from_the_probabilities(cohort: str, workspace: Workspace) -> None:
    (artifact,), _ = written.run_stage(workspace, "predict", cohorts=[cohort], undecided=0.5)
    table = artifact.table()
    assert set(PREDICTIONS.names) <= set(table.columns)
    source = fused(workspace, cohort)
    source = source[source["sex"].isna()]
    without_sex = {*source["case_id"], *source["lesion_id"], *source["patient_id"]}
    assert without_sex or cohort == "jinan"
    for row in table.to_dict("records"):
        p = np.array([row[c] for c in P])
        order = np.argsort(-p, kind="stable")
        assert p.sum() == pytest.approx(1)
        assert (row["top1"], row["top2"]) == (CODES[order[0]], CODES[order[1]])
        assert (row["top1_p"], row["top2_p"]) == (p[order[0]], p[order[1]])
        assert row["malignancy"] == pytest.approx(p[[1, 2, 4]].sum())
        by_class = row["top1"] in ("BCC", "MEL", "SCC")
        assert row["call"] == ("malignant" if by_class or row["malignancy"] >= 0.3 else "benign")
        assert row["veto"] == (row["malignancy"] >= 0.3 and not by_class)
        assert row["entropy"] == pytest.approx(-(p[p > 0] * np.log(p[p > 0])).sum() / np.log(6))
        reasons = ["malignant_call"] * (row["call"] == "malignant") + ["undecided"] * (row["entropy"] > 0.5)
        reasons += ["untrained"]  # six validation cases a fold
        assert row["refer"]
        assert (row["refer_reason"] or "") == ",".join(reasons)
        assert row["malignant_set"] == "pad"
        # Of the attributes that were known to the training rows only the sex of some patients is missing.
        assert row["missing_attributes"] == ("sex" if row["case_id"] in without_sex else None)
    about = open_artifact(workspace.path(Ref("models", name="lightgbm"))).json("model.json")
    nevus = [fold["class_thresholds"]["NEV"]["threshold"] for fold in about["folds"]]
    assert artifact.info["class_thresholds"]["NEV"]["threshold"] == pytest.approx(np.mean(nevus))
    assert artifact.info["class_thresholds"]["ACK"] == {"threshold": None, "source": "validation:youden"}


def test_the_veto_calls_malignant_whatever_the_top_class(workspace: Workspace) -> None:
    train(workspace, veto=0.0, name="careful")
    table = predict(workspace, "jinan", model="careful")
    assert (table["call"] == "malignant").all()
    assert table.loc[table["top1"] == "NEV", "veto"].all()
    assert (table["top1"] == "NEV").any()


def test_lesions_and_patients_follow_their_rule(workspace: Workspace) -> None:
    # One patient gets a second lesion and a case without a lesion id.
    frame = fused(workspace, "jinan")
    frame.loc[frame["patient_id"] == "P01", ["patient_id", "lesion_id"]] = ["P00", "P00-2"]
    frame.loc[frame["case_id"] == "jinan-02-1", ["patient_id", "lesion_id"]] = ["P00", None]
    small_cohort.write_fused(workspace, "jinan", frame)
    table = predict(workspace, "jinan")
    image = table[table["level"] == "image"].set_index("case_id")
    lesion = table[table["level"] == "lesion"].set_index("case_id")
    patient = table[table["level"] == "patient"].set_index("case_id")
    assert sorted(lesion.index) == ["P00-1", "P00-2", "P02-1", "P03-1"]
    assert lesion["n_cases"].to_dict() == {"P00-1": 2, "P00-2": 2, "P02-1": 1, "P03-1": 2}
    np.testing.assert_allclose(lesion.loc["P00-2", P].astype(float), image.loc[["jinan-01-1", "jinan-01-2"], P].mean())
    assert sorted(patient.index) == ["P00", "P02", "P03"]
    assert patient.loc["P00", "n_cases"] == 5
    candidates = pd.concat([lesion.loc[["P00-1", "P00-2"], P], image.loc[["jinan-02-1"], P]]).astype(float)
    worst = candidates[[P[1], P[2], P[4]]].sum(axis=1).idxmax()
    np.testing.assert_allclose(patient.loc["P00", P].astype(float), candidates.loc[worst])
    assert patient.loc["P03", "lesion_id"] == "P03-1"


def test_one_more_case_is_one_case_of_work(workspace: Workspace) -> None:
    predict(workspace, "jinan")
    path = workspace.path(Ref("predictions", "jinan", "lightgbm"))
    before = read_table(path / "table.parquet")
    frame = fused(workspace, "jinan")
    small_cohort.write_fused(
        workspace, "jinan", pd.concat([frame, frame.iloc[[0]].assign(case_id="one", age_years=9.0)])
    )
    after = predict(workspace, "jinan")
    counts = open_artifact(path).manifest["counts"]
    assert counts["rows"] == 19 - 2
    assert counts["made"] == 3  # the case, its lesion and its patient
    old = after.merge(before[["level", "case_id"]]).query("patient_id != 'P00'").reset_index(drop=True)
    pd.testing.assert_frame_equal(old, before.query("patient_id != 'P00'").reset_index(drop=True), check_dtype=False)


def test_a_cohort_whose_ids_changed_since_is_refused(workspace: Workspace) -> None:
    frame = fused(workspace)
    others = [f"pseudonym{n:02d}" for n in range(len(frame))]
    small_cohort.write_fused(workspace, "clinic", frame.assign(case_id=others, group_id=others))
    with pytest.raises(RefusedError) as error:
        predict(workspace, "clinic")
    assert "other ids" in error.value.found
    new = frame.assign(case_id=others, group_id=others, pixel_sha256=others)
    small_cohort.write_fused(workspace, "clinic", new)
    assert len(predict(workspace, "clinic").query("level == 'image'")) == len(frame), "new photos are no known ones"


def test_cases_no_fold_held_out_are_absent(workspace: Workspace) -> None:
    written.run_stage(workspace, "split", name="single", folds=1, validation=0.34)
    train(workspace, split="single", name="single")
    rows = open_artifact(workspace.path(Ref("split", name="single"))).table()
    held_out = rows.loc[rows["part"] == "held_out", "case_id"]
    assert 0 < len(held_out) < 36
    table = predict(workspace, "clinic", model="single").query("level == 'image'")
    assert sorted(table["case_id"]) == sorted(held_out)
    assert set(table["fold"]) == {0}
    assert predict(workspace, "jinan", model="single")["fold"].isna().all()


def test_an_unlabelled_development_case_is_left_to_folds_that_do_not_know_its_patient(workspace: Workspace) -> None:
    frame = fused(workspace)
    known = frame.iloc[[0]].assign(case_id="known", diagnosis=None)
    fresh = frame.iloc[[2]].assign(case_id="fresh", diagnosis=None, patient_id="X", group_id="clinic:X", lesion_id=None)
    small_cohort.write_fused(workspace, "clinic", pd.concat([frame, known, fresh]))
    table = predict(workspace, "clinic").query("level == 'image'").set_index("case_id")
    assert table.loc["known", "fold"] == table.loc[frame["case_id"].iloc[0], "fold"]
    assert pd.isna(table.loc["fresh", "fold"])
    np.testing.assert_allclose(table.loc["fresh", P].astype(float), scored(workspace, "clinic", ["fresh"], (0, 1))[0])


def test_masks_of_another_segmenter_are_refused(workspace: Workspace) -> None:
    frame = fused(workspace, "jinan").assign(segmenter="otsu")
    small_cohort.write_fused(workspace, "jinan", frame, "otsu")
    with pytest.raises(RefusedError) as error:
        predict(workspace, "jinan", fused="otsu")
    assert "--allow-segmenter-mismatch" in error.value.fix
    assert set(predict(workspace, "jinan", fused="otsu", allow_segmenter_mismatch=True)["status"]) == {"ok"}


def test_missing_measurements_are_imputed_and_referred(workspace: Workspace) -> None:
    frame = fused(workspace, "jinan")
    measured = [name for name in frame if "original_" in name]
    frame.loc[0, measured] = np.nan
    frame.loc[0, "reason"] = "features_missing"
    frame.loc[2, "mask_failed"] = True
    frame.loc[4, ["mask_failed", "mask_path", "segmenter"]] = None
    small_cohort.write_fused(workspace, "jinan", frame)
    table = predict(workspace, "jinan").query("level == 'image'").reset_index(drop=True)
    assert table.loc[0, "status"] == "ok"
    assert "features_missing" in table.loc[0, "refer_reason"]
    assert "mask_failed" in table.loc[2, "refer_reason"]
    assert not {3, 4} & set(table.index[table["refer_reason"].fillna("").str.contains("mask_failed")])
    small_cohort.write_fused(workspace, "jinan", frame.drop(columns=measured[3]))
    with pytest.raises(InputError, match=measured[3]):
        predict(workspace, "jinan")


def test_a_model_that_is_not_there_is_an_error_that_names_the_command(workspace: Workspace) -> None:
    with pytest.raises(InputError) as error:
        predict(workspace, "jinan", model="absent")
    assert "skinkit train" in error.value.fix


@pytest.mark.parametrize(("policy", "columns"), [("indicator", 81 + 21), ("median", 81 + 10)])
def test_how_unknown_attributes_are_written_is_the_models_own(workspace: Workspace, policy: str, columns: int) -> None:
    artifact, _ = train(workspace, name=policy, attributes="pad81", missing=policy)
    assert artifact.json("model.json")["missing"] == policy
    model = open_classifier(artifact)
    assert {len(fold.encoder.columns) for fold in model.folds} == {columns}
    table = predict(workspace, "jinan", model=policy).query("level == 'image'")
    assert (table["status"] == "ok").all()


def test_a_model_older_than_an_option_is_not_refused(workspace: Workspace) -> None:
    """Its recipe does not name the option, which then had its default."""
    path = workspace.path(Ref("models", name="lightgbm"))
    about = json.loads((path / "model.json").read_text())
    del about["settings"]["threads"]
    (path / "model.json").write_text(json.dumps(about))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["recipe"]["config"]["missing"], manifest["seal"]
    (part,) = (manifest[name] for name in ("files", "beside") if "model.json" in manifest.get(name, {}))
    part["model.json"] = file_sha256(path / "model.json")
    manifest["identity"] = digest([manifest["recipe"], manifest["files"]])
    (path / "manifest.json").write_text(json.dumps(manifest))
    train(workspace)
    with pytest.raises(RefusedError) as error:
        train(workspace, missing="median")
    assert "missing 'zeros'" in error.value.found


# ------------------------------------------------------------------------------------------------- frozen_probe

torch = pytest.importorskip("torch")
PROBE = {"model": "frozen_probe", "settings": ("backbone=shufflenet_v2_x0_5", "side_px=64", "c=0.01")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ShuffleNet with fixed random numbers: a legitimate weights file, of no use on skin."""
    from safetensors.torch import save_file
    from torchvision.models import shufflenet_v2_x0_5

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "shufflenet.safetensors"
    save_file(shufflenet_v2_x0_5().state_dict(), path)
    return path


def test_probe_trains_predicts_and_carries_its_weights(workspace: Workspace, weights: Path) -> None:
    elsewhere = workspace.root / "w.safetensors"
    shutil.copy(weights, elsewhere)
    artifact, _ = train(workspace, weights=elsewhere.name, **PROBE)  # as in skinkit.toml, seen from there
    about = artifact.json("model.json")
    import hashlib

    assert about["weights"] == {"name": "w.safetensors", "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert about["radiomics"]["selection"] == "none"
    first = predict(workspace, "jinan", model="frozen_probe")
    assert set(first["status"]) == {"ok"}
    # Without the file it came from and without what was remembered, it answers the same.
    elsewhere.unlink()
    shutil.rmtree(workspace.root / "cache")
    shutil.rmtree(workspace.path(Ref("predictions", "jinan", "frozen_probe")))
    pd.testing.assert_frame_equal(predict(workspace, "jinan", model="frozen_probe"), first)
    assert "up to date" in train(workspace, **PROBE)[1]


def test_probe_is_calibrated_on_validation_rows_and_then_fitted_on_both(workspace: Workspace, weights: Path) -> None:
    both, _ = train(workspace, weights=str(weights), **PROBE)
    once, _ = train(workspace, weights=str(weights), refit=False, name="once", **PROBE)
    # Calibration, thresholds and scores come from the same fit on the training rows ...
    names = ["temperature", "validation_balanced_accuracy", "validation_macro_auroc"]
    pd.testing.assert_frame_equal(both.table()[names], once.table()[names])
    assert (both.path / "fold_0" / "fold.json").read_bytes() == (once.path / "fold_0" / "fold.json").read_bytes()
    # ... and what is kept was fitted on more rows.
    source, rows = fused(workspace).set_index("case_id"), split(workspace).query("fold == 0")
    for artifact, parts in ((both, ["train", "validation"]), (once, ["train"])):
        fold = open_classifier(artifact).folds[0]
        ages = source.loc[rows.loc[rows["part"].isin(parts), "case_id"], "age_years"]
        assert fold.encoder.standardiser.mean[fold.encoder.columns.index("age")] == pytest.approx(ages.mean())
    assert both.json("model.json")["refitted"]
    assert not once.json("model.json")["refitted"]


def test_probe_trained_twice_is_the_same_to_the_byte(workspace: Workspace, weights: Path) -> None:
    one, _ = train(workspace, weights=str(weights), **PROBE)
    shutil.rmtree(workspace.root / "cache")
    two, _ = train(workspace, weights=str(weights), name="again", **PROBE)
    assert fold_files(one) == fold_files(two)
    assert (one.path / BACKBONE).read_bytes() == (two.path / BACKBONE).read_bytes()


def test_probe_interrupted_while_looking_keeps_what_it_saw(workspace: Workspace, weights: Path) -> None:
    class Stopped(written.Said):
        """Ctrl-C after some photos."""

        seen = 0

        def case(self, case: str, status: str, reason: str | None, seconds: float) -> None:
            """Not used by the forward."""

        def progress(self, total: int, label: str) -> Any:
            import contextlib

            @contextlib.contextmanager
            def bar() -> Any:
                def tick(*, failed: bool = False) -> None:
                    self.seen += 1
                    if self.seen == 20:
                        raise KeyboardInterrupt

                yield tick

            return bar()

    pipeline = Pipeline(workspace, Stopped(), upstream=False)
    with pytest.raises(KeyboardInterrupt):
        pipeline.make("train", {"weights": str(weights), **PROBE})
    (store,) = (workspace.root / "cache" / "embeddings").iterdir()
    from safetensors import safe_open

    kept = sum(len(list(safe_open(f, "numpy").keys())) for f in store.iterdir())
    assert 16 <= kept < 36
    stopped, _ = train(workspace, weights=str(weights), **PROBE)
    straight, _ = train(workspace, weights=str(weights), name="straight", **PROBE)
    assert fold_files(stopped) == fold_files(straight)


def test_no_weights_is_an_error_that_says_what_to_do(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(InputError) as error:
        train(workspace, model="frozen_probe", settings=("backbone=resnet18", "side_px=64"))
    assert error.value.exit_code == 4
    assert "--weights PATH" in error.value.fix
    assert "skinkit weights fetch resnet18" in error.value.fix
    assert not workspace.path(Ref("models", name="frozen_probe")).exists()
    with pytest.raises(ConfigError, match="lightgbm"):
        train(workspace, weights="w.safetensors", name="trees")


def test_other_weights_need_replace(workspace: Workspace, weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    train(workspace, weights=str(weights), **PROBE)
    state = load_file(weights)
    save_file({**state, "conv1.0.weight": state["conv1.0.weight"] * 2}, tmp_path / "other.safetensors")
    with pytest.raises(RefusedError, match="weights"):
        train(workspace, weights=str(tmp_path / "other.safetensors"), **PROBE)


def test_a_photo_that_cannot_be_read_is_a_failed_row(workspace: Workspace, weights: Path) -> None:
    train(workspace, weights=str(weights), **PROBE)
    photo = workspace.root / "jinan" / "jinan-01-1.png"
    photo.write_bytes(photo.read_bytes()[:200])
    (artifact,), _ = written.run_stage(workspace, "predict", cohorts=["jinan"], model="frozen_probe")
    table = artifact.table().set_index(["level", "case_id"])
    bad = table.loc[("image", "jinan-01-1")]
    assert (bad["status"], bad["reason"]) == ("failed", "image_truncated")
    assert pd.isna(bad["malignancy"])
    assert artifact.manifest["counts"]["newly_failed"] == 1
    assert table.loc[("lesion", "P01-1"), "n_cases"] == 1
    assert set(table.drop(index=("image", "jinan-01-1"))["status"]) == {"ok"}


def test_a_development_photo_that_cannot_be_read_is_not_trained_on(workspace: Workspace, weights: Path) -> None:
    photo = workspace.root / "clinic" / "clinic-03-2.png"
    photo.unlink()
    artifact, said = train(workspace, weights=str(weights), **PROBE)
    assert artifact.info["barred"] == {"their photo cannot be read (image_missing)": 1}
    assert "image_missing" in said
    assert "clinic-03-2" not in set(read_table(artifact.path / "trained_on.parquet")["case_id"])


def test_damaged_models_are_named(workspace: Workspace) -> None:
    path = workspace.path(Ref("models", name="lightgbm"))
    (path / "fold_1" / "attributes.json").write_text("{")
    with pytest.raises(RefusedError, match=r"attributes\.json"):
        predict(workspace, "jinan")


# ------------------------------------------------------------------------------ calibration, sets and prevalence


def test_calibration_is_kept_in_the_model_and_told_beside_the_decision(workspace: Workspace) -> None:
    model = open_classifier(open_artifact(workspace.path(Ref("models", name="lightgbm"))))
    for fold in model.about["folds"]:
        assert (fold["calibration"], fold["conformal"]["coverage"]) == ("temperature", 0.9)
        assert sum(fold["class_counts"].values()) == fold["n_train"] + fold["n_validation"]
        assert len(fold["isotonic"]["x"]) == len(CODES)
    table = predict(workspace, "jinan").query("level == 'image'").set_index("case_id")
    source = fused(workspace, "jinan").set_index("case_id", drop=False)
    for case in table.index[:3]:
        raw = [
            metrics.softmax(f.fitted.predict(batch_of(source.loc[[case]], f.encoder, f.radiomics)))[0]
            for f in model.folds
        ]
        want = np.mean([p[model.malignant].sum() for p in raw])
        assert table.loc[case, "malignancy_raw"] == pytest.approx(want, abs=1e-9)
        inside = str(table.loc[case, "prediction_set"]).split(",")
        level = np.mean([f.conformal_level for f in model.folds])
        assert table.loc[case, "top1"] in inside
        assert all((table.loc[case, f"p__diagnosis__{c}"] >= level) == (c in inside) for c in CODES if c not in inside)
    assert table["malignancy_at_prevalence"].isna().all()


def test_isotonic_calibration_decides_where_it_was_asked_for(workspace: Workspace) -> None:
    train(workspace, name="steps", calibration="isotonic")
    plain, steps = (predict(workspace, "jinan", **given) for given in ({}, {"model": "steps"}))
    np.testing.assert_allclose(steps[P].sum(axis=1), 1)
    images = steps["level"] == "image"
    np.testing.assert_allclose(steps.loc[images, "malignancy_raw"], plain.loc[images, "malignancy_raw"])
    assert not np.allclose(steps["malignancy"], plain["malignancy"])
    malignant = [f"p__diagnosis__{c}" for c in ("BCC", "MEL", "SCC")]
    np.testing.assert_allclose(steps["malignancy"], steps[malignant].sum(axis=1))
    with pytest.raises(ConfigError, match="coverage"):
        train(workspace, name="wide", coverage=1.0)


def test_the_stated_prevalence_moves_a_column_and_no_decision(workspace: Workspace) -> None:
    before = predict(workspace, "jinan")
    settings = workspace.root / "skinkit.toml"
    text = settings.read_text(encoding="utf-8").replace("[cohorts.jinan]", "[cohorts.jinan]\nprevalence = 0.02")
    settings.write_text(text, encoding="utf-8")
    after = predict(load_workspace(workspace.root), "jinan")
    about = open_artifact(workspace.path(Ref("models", name="lightgbm"))).json("model.json")
    malignant = []
    for fold in about["folds"]:  # its loss lets all classes count alike of which there is a case
        here = [code for code, n in fold["class_counts"].items() if n]
        assert {code: share for code, share in fold["effective_class_prior"].items() if share} == pytest.approx(
            dict.fromkeys(here, 1 / len(here))
        )
        malignant.append(sum(code in ("BCC", "MEL", "SCC") for code in here) / len(here))
    trained = np.mean(malignant)
    odds = after["malignancy"] / (1 - after["malignancy"]) * (0.02 / 0.98) / (trained / (1 - trained))
    np.testing.assert_allclose(after["malignancy_at_prevalence"], odds / (1 + odds), rtol=1e-9)
    assert after["malignancy"].tolist() == before["malignancy"].tolist()
    assert after["call"].tolist() == before["call"].tolist()
    settings.write_text(text.replace("0.02", "2"), encoding="utf-8")
    with pytest.raises(ConfigError, match="prevalence = 2"):
        load_workspace(workspace.root)
