"""A network that answers several tasks: trained with truth that is partly unknown, calibrated, predicted, scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import torch
from PIL import Image
from source_tables import table
from written_artifacts import Said

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning import forward
from skinkit.learning.examples import Examples
from skinkit.learning.rows import truth_of
from skinkit.learning.trained import Calibration, open_classifier
from skinkit.models.parts.losses import cross_entropy_of_known
from skinkit.pipeline import Pipeline
from skinkit.stages import train
from skinkit.taxonomy import TASKS
from skinkit.workspace import Ref, Workspace, load_workspace

NAMES = {"nevus": "clark nevus", "melanoma": "melanoma (in situ)", "basal_cell_carcinoma": "basal cell carcinoma"}
VEIL, NETWORK = "blue_whitish_veil", "pigment_network"
TOYS = ("two_photos",)
HEADER = (
    "case_num,diagnosis,seven_point_score,pigment_network,streaks,pigmentation,regression_structures,dots_and_globules,"
    "blue_whitish_veil,vascular_structures,level_of_diagnostic_difficulty,elevation,location,sex,management,clinic,derm,"
    "case_id,notes"
)


# ----------------------------------------------------------------------------------------------------- small parts
def test_rows_of_unknown_truth_are_left_out_of_the_loss() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [9.0, -9.0]], requires_grad=True)
    loss = cross_entropy_of_known(logits, torch.tensor([0, 0, -1]))
    assert float(loss.detach()) == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2].tolist() == [0.0, 0.0]
    assert float(cross_entropy_of_known(logits.detach(), torch.tensor([-1, -1, -1]))) == 0.0


def test_truth_without_a_class_is_unknown_and_counted() -> None:
    frame = pd.DataFrame({"seven_point__pigmentation": ["absent", "localized irregular", None, "mottled", "mottled"]})
    truth, unmapped = truth_of(frame, TASKS["pigmentation"])
    assert truth.tolist() == [0, 2, -1, -1, -1]
    assert unmapped == {"mottled": 2}
    assert truth_of(frame, TASKS[VEIL])[0].tolist() == [-1] * 5


def test_batches_hold_the_truth_of_every_task() -> None:
    class Grey:
        pixel_sha256 = "grey"

        def read(self) -> np.ndarray:
            return np.full((8, 8, 3), 90, np.uint8)

    truths = {VEIL: np.array([1, -1, 0])}
    examples = Examples(("image",), 8, [Grey()] * 3).with_arrays({}, classes=np.array([0, 1, 2]), truths=truths)
    batch = examples.batch([1, 2])
    assert batch["class"].tolist() == [1, 2]
    assert batch[f"class__{VEIL}"].tolist() == [-1, 0]
    assert examples.fingerprint([0]) != examples.with_arrays({}, classes=np.array([0, 1, 2])).fingerprint([0])


# ---------------------------------------------------------------------------------------------------- end to end
def write_cohort(folder: Path, n: int, seed: int, management: Mapping[str, str] | None = None) -> None:
    """Drawn pairs of photos; melanomas mostly have a veil, of every sixth case it is not known; two words are odd.

    Args:
        folder: of the archive.
        n: cases.
        seed: of the photos.
        management: diagnosis -> what was done; by default the same for all, in a word that is none of derm7pt.
    """
    rng, lines = np.random.default_rng(seed), []
    (folder / "images").mkdir(parents=True)
    for case in range(n):
        diagnosis = list(NAMES)[case % 3]
        for shot in ("c", "d"):
            Image.fromarray(small_cohort.draw(rng, diagnosis)[0]).save(folder / "images" / f"{case}{shot}.png")
        veil = "" if case % 6 == 5 else "present" if diagnosis == "melanoma" or case == 3 else "absent"
        network = "reticulated" if case in (7, 8) else ("typical", "atypical", "absent")[(case + case // 6) % 3]
        elevation = ("flat", "palpable", "nodular")[(case // 2) % 3]
        notes = "clinic image is a derm image" if case == 2 else ""
        lines.append(
            f"{case},{NAMES[diagnosis]},1,{network},absent,absent,absent,absent,{veil},absent,low,{elevation},back,female,"
            f"{(management or {}).get(diagnosis, 'none')},{case}c.png,{case}d.png,,{notes}"
        )
    table(folder / "meta" / "meta.csv", HEADER, *lines)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A derm7pt-like cohort and a smaller external one; the toy is trained on two criteria beside the diagnosis."""
    root = tmp_path_factory.mktemp("tasks")
    write_cohort(root / "derm7pt" / "release_v0", 36, seed=3)
    write_cohort(root / "other" / "release_v0", 12, seed=4)
    (root / "skinkit.toml").write_text(
        '[workspace]\nsegmenter = "otsu"\nmodel = "two_photos"\nclasses = "pad6"\n'
        '[cohorts.derm]\nrole = "development"\nsource = "derm7pt"\npath = "derm7pt"\n'
        '[cohorts.other]\nrole = "external"\nsource = "derm7pt"\npath = "other"\nid_space = "other"\n'
        # Six validation cases a fold allow prediction sets of a smaller coverage.
        "[stage.train]\ncoverage = 0.7\n"
    )
    workspace = load_workspace(root)
    make(workspace, "ingest")
    make(workspace, "split", folds=2, validation=0.34)
    said = make(workspace, "train", tasks=(f"{VEIL},{NETWORK}",), calibration="isotonic", **HOW)
    assert "blue_whitish_veil: 6 of 36 cases have no truth" in said
    make(workspace, "evaluate", name="two_photos", bootstrap=50, minimum=1, subgroups=False, shortcuts=False)
    return workspace


FEW = "six validation cases a fold, some without a truth of the task"
HOW: dict[str, Any] = {"model": "two_photos", "weights": "none", "attributes": "isic"}


def make(workspace: Workspace, stage: str, *, name: str = "", **options: Any) -> str:
    """A stage and whatever comes before it; what it said."""
    console = Said()
    Pipeline(workspace, console).make(stage, options, cohorts=(), name=name)
    return console.text.getvalue()


def artifact(workspace: Workspace, kind: str, cohort: str = "") -> Artifact:
    return open_artifact(workspace.path(Ref(kind, cohort, "two_photos")))


def images_of(workspace: Workspace, cohort: str) -> pd.DataFrame:
    rows = artifact(workspace, "predictions", cohort).table()
    return rows[rows["level"] == "image"].set_index("case_id")


def test_a_model_says_what_it_answers_and_how_each_task_is_calibrated(workspace: Workspace) -> None:
    about = artifact(workspace, "models").json("model.json")
    assert about["classes"]["name"] == "pad6"
    assert {name: of["classes"] for name, of in about["tasks"].items()} == {
        VEIL: ["absent", "present"],
        NETWORK: ["absent", "typical", "atypical"],
    }
    card = artifact(workspace, "models").json("model_card.json")
    assert card["inputs_and_outputs"]["further_tasks"][VEIL] == "absent, present"
    cases = open_artifact(workspace.path(Ref("fused", "derm", "otsu"))).table().set_index("case_id")
    trained_on = pd.read_parquet(artifact(workspace, "models").path / "trained_on.parquet")
    for fold in about["folds"]:
        veil = fold["tasks"][VEIL]
        assert veil["temperature"] > 0
        assert set(veil["class_thresholds"]) == {"absent", "present"}
        assert 0 <= veil["conformal"]["level"] <= 1
        assert veil["n_validation"] < fold["n_validation"]
        own = trained_on[(trained_on["fold"] == fold["fold"]) & (trained_on["part"] != "held_out")]
        truth = cases.loc[own["case_id"].unique(), "seven_point__blue_whitish_veil"]
        assert veil["class_counts"] == truth.value_counts().to_dict()
        assert (
            json.loads((artifact(workspace, "models").path / f"fold_{fold['fold']}" / "fold.json").read_text()) == fold
        )


def test_every_task_is_predicted_with_its_own_calibration(workspace: Workspace) -> None:
    rows = images_of(workspace, "other")
    columns = [f"p__{VEIL}__absent", f"p__{VEIL}__present"]
    np.testing.assert_allclose(rows[columns].sum(axis=1), 1)
    assert (rows[f"top1__{VEIL}"] == rows[columns].to_numpy().argmax(axis=1).choose(["absent", "present"])).all()
    model = open_classifier(artifact(workspace, "models"))
    frame = open_artifact(workspace.path(Ref("fused", "other", "otsu"))).table().reset_index(drop=True)
    examples = Examples.of_cases(
        model.model_class.READS, model.config.side_px, frame, workspace.cohort("other").root, workspace.root
    )
    expected = []
    for fold in model.folds:
        arrays = {"attributes": fold.encoder.encode(frame)}
        answers = forward.answers(
            model.network(fold, "cpu"),
            examples.with_arrays(arrays),
            range(len(frame)),
            device="cpu",
            console=Console(quiet=True),
        )
        own: Calibration = fold.tasks[VEIL]
        expected.append(own.finished(np.exp(own.calibrated(answers[VEIL]))))
    made = rows.loc[frame["case_id"], columns].to_numpy(float)
    np.testing.assert_allclose(made, np.mean(expected, axis=0), rtol=1e-3, atol=1e-6)


def test_lesions_have_the_mean_of_their_images(workspace: Workspace) -> None:
    rows = artifact(workspace, "predictions", "other").table()
    lesions = rows[rows["level"] == "lesion"]
    assert len(lesions) == 12
    assert lesions[f"p__{VEIL}__present"].notna().all()
    assert lesions[f"prediction_set__{NETWORK}"].notna().all()


def test_the_metrics_of_a_task_are_those_of_its_table(workspace: Workspace) -> None:
    rows = artifact(workspace, "metrics", "other").table()
    assert set(rows["task"]) == {"diagnosis", VEIL, NETWORK}
    predicted = images_of(workspace, "other")
    cases = open_artifact(workspace.path(Ref("cases", "other"))).table().drop_duplicates("case_id").set_index("case_id")
    truth = cases["seven_point__blue_whitish_veil"].dropna()
    called, score = predicted.loc[truth.index, f"top1__{VEIL}"], predicted.loc[truth.index, f"p__{VEIL}__present"]
    veil = rows[(rows["task"] == VEIL) & (rows["subgroup"] == "all")]

    def figure(metric: str, rule: str, of: str = "all", average: str = "none") -> float:
        row = veil[(veil["metric"] == metric) & (veil["decision_rule"] == rule) & (veil["class"] == of)]
        return float(row.loc[row["average"] == average, "estimate"].item())

    assert set(veil["n"]) == {10}
    assert figure("accuracy", "argmax") == pytest.approx((called == truth).mean())
    recalls = [(called[truth == code] == code).mean() for code in ("absent", "present")]
    assert figure("balanced_accuracy", "argmax", average="macro") == pytest.approx(np.mean(recalls))
    positive, negative = score[truth == "present"].to_numpy(), score[truth == "absent"].to_numpy()
    pairs = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    assert figure("auroc", "none", "present") == pytest.approx(pairs)
    sets = predicted.loc[truth.index, f"prediction_set__{VEIL}"].str.split(",")
    covered = [code in chosen for code, chosen in zip(truth, sets, strict=True)]
    assert figure("set_coverage", "conformal_set") == pytest.approx(np.mean(covered))


def test_what_cannot_be_scored_is_counted_by_task(workspace: Workspace) -> None:
    metrics = artifact(workspace, "metrics", "other")
    tasks = metrics.info["tasks"]
    assert (tasks[VEIL]["n"], tasks[VEIL]["excluded"]) == (10, {"unlabelled": 2})
    assert (tasks[NETWORK]["n"], tasks[NETWORK]["excluded"]) == (10, {"unlabelled": 2})
    assert metrics.info["n"] == 12
    assert (metrics.path / "tasks" / VEIL / "figures" / "roc.svg").is_file()
    assert VEIL in metrics.info["text"]


def test_the_report_has_a_line_for_every_task(workspace: Workspace) -> None:
    make(workspace, "report")
    pages = [path.read_text(encoding="utf-8") for path in (workspace.artifacts / "report").rglob("*.html")]
    assert any("blue-whitish veil" in page for page in pages)


def test_a_class_of_a_task_is_explained(workspace: Workspace) -> None:
    make(workspace, "explain", name="two_photos", target=f"{VEIL}:present", limit=1)
    (row,) = artifact(workspace, "explanations", "other").table().to_dict("records")
    parts = [part["contribution"] for part in json.loads(row["attributions_json"])]
    model = open_classifier(artifact(workspace, "models"))
    frame = open_artifact(workspace.path(Ref("fused", "other", "otsu"))).table()
    frame = frame[frame["case_id"] == row["case_id"]].reset_index(drop=True)
    examples = Examples.of_cases(
        model.model_class.READS, model.config.side_px, frame, workspace.cohort("other").root, workspace.root
    )
    odds = []
    for fold in model.folds:
        given = examples.with_arrays({"attributes": fold.encoder.encode(frame)})
        network = model.network(fold, "cpu")
        how: dict[str, Any] = {"device": "cpu", "precision": "fp32", "console": Console(quiet=True)}
        logits = forward.answers(network, given, [0], **how)[VEIL][0]
        odds.append((logits[1] - logits[0]) / fold.tasks[VEIL].temperature)
    assert row["baseline"] + sum(parts) == pytest.approx(np.mean(odds), rel=1e-3, abs=1e-5)


def test_odd_words_and_clinical_photos_that_are_dermoscopic_are_flagged(workspace: Workspace) -> None:
    cases = open_artifact(workspace.path(Ref("cases", "derm")))
    rows = cases.table()
    odd = rows[rows["flags"].fillna("").str.contains("seven_point__pigment_network_unmapped")]
    assert set(odd["case_id"]) == {"7", "8"}
    assert odd["seven_point__pigment_network"].isna().all()
    flagged = rows.loc[rows["flags"].fillna("").str.contains("clinical_is_dermoscopic"), "image_id"]
    assert flagged.tolist() == ["2-clinical"]


def test_other_tasks_are_another_configuration(workspace: Workspace) -> None:
    with pytest.raises(RefusedError) as error:
        make(workspace, "train", tasks=(VEIL,), calibration="isotonic", **HOW)
    assert "tasks" in error.value.found


def test_a_task_that_cannot_be_answered_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as unable:
        make(workspace, "train", name="b", model="concat", weights="none", tasks=(VEIL,))
    assert "concat" in unable.value.found
    with pytest.raises(ConfigError) as unknown:
        make(workspace, "train", name="c", tasks=("blue_veil",), **HOW)
    assert "blue_veil" in unknown.value.found
    with pytest.raises(ConfigError) as unanswered:
        make(workspace, "explain", name="two_photos", target="streaks:absent")
    assert "streaks" in unanswered.value.found
    with pytest.raises(InputError) as constant:
        make(workspace, "train", name="d", tasks=("streaks",), **HOW)
    assert "streaks" in constant.value.found


def test_a_model_with_further_tasks_is_up_to_date_and_trained_again_with_them(workspace: Workspace) -> None:
    model = Ref("models", name="two_photos")
    assert Pipeline(workspace, Said()).staleness(model) is None
    again = train.resolve(train.Config(model="two_photos"), model, workspace)
    assert list(again.tasks) == [VEIL, NETWORK]
    alone = train.resolve(train.Config(model="two_photos", tasks=("diagnosis",)), model, workspace)
    assert alone.tasks == ()


def test_a_name_stands_for_all_criteria(workspace: Workspace) -> None:
    config = train.resolve(
        train.Config(model="two_photos", tasks=("diagnosis,seven_point",)), Ref("models", name="e"), workspace
    )
    assert len(config.tasks) == 7
    assert "seven_point_score" not in config.tasks


def test_the_mean_over_tasks_stands_beside_always_the_most_frequent_class(workspace: Workspace) -> None:
    info = artifact(workspace, "metrics", "derm").info
    mean = info["average_over_tasks"]
    assert mean["tasks"] == ["diagnosis", VEIL, NETWORK]
    heads = [info["headline"], *(info["tasks"][name]["headline"] for name in (VEIL, NETWORK))]
    for name in ("accuracy", "balanced_accuracy", "macro_auroc"):
        assert mean[name]["estimate"] == pytest.approx(np.mean([head[name]["estimate"] for head in heads]))
        assert mean[name]["n_tasks"] == 3
    shares = [max(of["n_by_class"].values()) / of["n"] for of in (info, *info["tasks"].values())]
    assert mean["majority_accuracy"] == pytest.approx(np.mean(shares))
    one = [head["accuracy"]["upper"] - head["accuracy"]["lower"] for head in heads]
    assert 0 < mean["accuracy"]["upper"] - mean["accuracy"]["lower"] < max(one)
    assert "of always the most frequent class" in info["text"]


def test_soft_attention_answers_the_tasks_and_says_that_management_leaks(workspace: Workspace) -> None:
    small = ("backbone=shufflenet_v2_x0_5", "side_px=64", "recipe.epochs=1", "recipe.batch=8", "maps=4")
    given = {"model": "soft_attention", "weights": "none", "tasks": (f"{VEIL},{NETWORK}",), "settings": small}
    given["allow_untrained"] = "one epoch"
    said = make(workspace, "train", name="leaky", attributes="derm7pt_leaky", **given)
    assert "written down by the expert who made the diagnosis" in said
    about = open_artifact(workspace.path(Ref("models", name="leaky"))).json("model.json")
    assert about["missing"] == "indicator"
    assert about["label_attributes"][0]["columns"] == "derm7pt__difficulty and derm7pt__management"
    said = make(workspace, "train", name="soft", **given)
    assert "written down by the expert" not in said
    about = open_artifact(workspace.path(Ref("models", name="soft"))).json("model.json")
    assert about["attributes"] == "derm7pt"
    make(workspace, "predict", name="soft")
    rows = open_artifact(workspace.path(Ref("predictions", "other", "soft"))).table()
    rows = rows[rows["level"] == "image"]
    for task, classes in ((VEIL, ("absent", "present")), (NETWORK, ("absent", "typical", "atypical"))):
        shares = rows[[f"p__{task}__{code}" for code in classes]].to_numpy()
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    make(workspace, "explain", name="soft", limit=2)
    explained = open_artifact(workspace.path(Ref("explanations", "other", "soft")))
    rows_of_files = explained.table().filter(like="heatmap_").to_dict("records")
    for row in rows_of_files:  # both photos have a heatmap
        files = {file for file in row.values() if isinstance(file, str)}
        assert len(files) == 2
        assert all((explained.path / file).is_file() for file in files)


PLANTED = {"nevus": "no further examination", "melanoma": "excision", "basal_cell_carcinoma": "clinical follow up"}


@pytest.mark.parametrize(("management", "named"), [(PLANTED, True), (None, False)])
def test_a_label_planted_in_management_is_called_out(
    management: Mapping[str, str] | None, named: bool, tmp_path: Path
) -> None:
    write_cohort(tmp_path / "derm7pt", 60, seed=7, management=management)
    (tmp_path / "skinkit.toml").write_text(
        '[workspace]\nsegmenter = "otsu"\nclasses = "pad6"\n'
        '[cohorts.derm]\nrole = "development"\nsource = "derm7pt"\npath = "derm7pt"\n'
    )
    workspace = load_workspace(tmp_path)
    make(workspace, "split", folds=2, validation=0.34)
    how: dict[str, Any] = {"model": "logistic", "attributes": "derm7pt_leaky", "radiomics": "none"}
    said = make(workspace, "train", name="planted", allow_untrained=FEW, **how)
    found = open_artifact(workspace.path(Ref("models", name="planted"))).json("model.json")["label_attributes"]
    own = [each for each in found[1:] if each["columns"] == "derm7pt__management"]  # the first is the fixed sentence
    assert [each["verdict"] for each in own] == ["label"] * named
    assert all(each["sentence"] in said for each in own)


def test_what_is_read_in_derm7pt_s_own_words_is_not_called_left_out(workspace: Workspace) -> None:
    settings = ("c=0.1",)
    how: dict[str, Any] = {"model": "logistic", "settings": settings, "radiomics": "none", "allow_untrained": FEW}
    assert "leave out" not in make(workspace, "train", name="own", attributes="derm7pt", **how)
    said = make(workspace, "train", name="isic", attributes="isic", **how)
    assert "the attributes isic leave out what these cases have: elevation (36 of 36 cases)\n" in said


def test_attention_and_criteria_of_soft_attention_stand_on_the_card(workspace: Workspace) -> None:
    explained = open_artifact(workspace.path(Ref("explanations", "other", "soft")))
    for row in explained.table().to_dict("records"):
        for name in ("attention_file", "attention_clinical_file"):  # the primary photo is the dermoscopic one
            grey = np.asarray(Image.open(explained.path / row[name]))
            # 255 is four times the mean, and one epoch has not taught it to look anywhere.
            assert grey.astype(float) == pytest.approx(255 / 4, abs=2)
    make(workspace, "report", model="soft", audience="clinic")
    (page,) = (workspace.artifacts / "report" / "clinic-other").rglob("*.html")
    card = page.read_text(encoding="utf-8").partition('<article class="card')[2]
    assert card.count("Where the program attends to") >= 2
    about = open_artifact(workspace.path(Ref("models", name="soft"))).json("model.json")
    assert "diagnosis" in {found["task"] for found in about["untrained"]["findings"]}
    assert "Further answers of the program" not in card  # nor does it answer anything
    make(workspace, "report", model="two_photos", audience="clinic")
    card = page.read_text(encoding="utf-8").partition('<article class="card')[2]
    assert "blue-whitish veil" in card.partition("Further answers of the program")[2]


# ------------------------------------------------------------------------------------------------------ estimators
def test_of_an_estimator_one_more_is_fitted_for_each_task_on_the_rows_whose_truth_is_known(
    workspace: Workspace,
) -> None:
    import warnings

    from sklearn.linear_model import LogisticRegression

    how: dict[str, Any] = {"model": "logistic", "attributes": "derm7pt", "settings": ("c=0.1",), "refit": False}
    how["allow_untrained"] = FEW
    make(workspace, "train", name="alone", **how)
    make(workspace, "train", name="several", tasks=(f"{VEIL},{NETWORK}",), **how)
    model, alone = (
        open_classifier(open_artifact(workspace.path(Ref("models", name=name)))) for name in ("several", "alone")
    )
    frame = open_artifact(workspace.path(Ref("fused", "derm", "otsu"))).table()
    trained_on = pd.read_parquet(model.path / "trained_on.parquet")
    for fold, other in zip(model.folds, alone.folds, strict=True):
        learnt = trained_on.loc[(trained_on["fold"] == fold.number) & (trained_on["part"] == "train"), "case_id"]
        rows = frame[frame["case_id"].isin(learnt)]
        inputs = {"attributes": fold.encoder.encode(frame), "radiomics": np.zeros((len(frame), 0))}
        assert fold.fitted is not None
        assert other.fitted is not None
        np.testing.assert_array_equal(fold.fitted.predict(inputs), other.fitted.predict(inputs))  # the diagnosis
        truth, _ = truth_of(rows, model.tasks[VEIL])
        known = truth >= 0
        assert 0 < known.sum() < len(rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=5000)
            peer.fit(fold.encoder.encode(rows)[known], truth[known])
        ours = np.exp(fold.further[VEIL].predict(inputs))
        np.testing.assert_allclose(ours, peer.predict_proba(inputs["attributes"]), atol=0.02)
        assert fold.for_task(VEIL).temperature == fold.tasks[VEIL].temperature


def test_the_tasks_of_an_estimator_are_predicted_scored_and_explained(workspace: Workspace) -> None:
    how: dict[str, Any] = {"attributes": "derm7pt", "radiomics": "none", "tasks": (VEIL,), "allow_untrained": FEW}
    make(workspace, "train", name="regression", model="logistic", **how)
    make(workspace, "evaluate", name="regression", bootstrap=50, minimum=1, subgroups=False, shortcuts=False)
    rows = open_artifact(workspace.path(Ref("predictions", "other", "regression"))).table()
    columns = [f"p__{VEIL}__{name}" for name in ("absent", "present")]
    assert rows[columns].sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert rows[columns[1]].nunique() > 1
    metrics = open_artifact(workspace.path(Ref("metrics", "derm", "regression")))
    assert metrics.info["average_over_tasks"]["tasks"] == ["diagnosis", VEIL]
    make(workspace, "explain", name="regression", target=f"{VEIL}:present", limit=1)
    (row,) = open_artifact(workspace.path(Ref("explanations", "other", "regression"))).table().to_dict("records")
    parts = [part["contribution"] for part in json.loads(row["attributions_json"])]
    model = open_classifier(open_artifact(workspace.path(Ref("models", name="regression")))).for_task(VEIL)
    frame = open_artifact(workspace.path(Ref("fused", "other", "otsu"))).table()
    frame = frame[frame["case_id"] == row["case_id"]]
    odds = []
    for fold in model.folds:
        scores = fold.scores({"attributes": fold.encoder.encode(frame), "radiomics": np.zeros((1, 0))})[0]
        odds.append(scores[1] - scores[0])
    assert row["baseline"] + sum(parts) == pytest.approx(np.mean(odds), abs=1e-6)


def test_means_over_tasks_are_compared_patient_by_patient(workspace: Workspace) -> None:
    from skinkit.commands.compare import scored_side
    from skinkit.evaluation import task_average

    for name, attributes in (("several", "derm7pt"), ("blind", "none")):
        how: dict[str, Any] = {"replace": True, "tasks": (VEIL, NETWORK), "attributes": attributes}
        how["allow_untrained"] = FEW
        make(workspace, "train", name=name, model="logistic", **how)
        make(workspace, "evaluate", name=name, bootstrap=50, minimum=1, subgroups=False, shortcuts=False)
    found = {name: open_artifact(workspace.path(Ref("metrics", "derm", name))) for name in ("several", "blind")}
    sides = {name: {task: scored_side(name, of, task) for task in ("", VEIL, NETWORK)} for name, of in found.items()}
    means = {name: of.info["average_over_tasks"] for name, of in found.items()}
    for row in task_average.differences(sides["blind"], sides["several"]):
        figure = row["figure"]
        assert row["a"] == pytest.approx(means["blind"][figure]["estimate"])
        assert row["b"] == pytest.approx(means["several"][figure]["estimate"])
        assert row["difference"] == pytest.approx(row["b"] - row["a"])
        assert row["n_tasks"] == 3
        assert row["lower"] < row["difference"] < row["upper"]
    none = task_average.differences({"": sides["blind"][""]}, {VEIL: sides["several"][VEIL]})
    assert none == []


def test_a_task_that_the_model_is_given_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as error:
        make(workspace, "train", name="told", model="logistic", attributes="pad81", tasks=("symptoms",))
    assert "itch" in error.value.found
    assert "pad81" in error.value.found
