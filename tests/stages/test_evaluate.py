"""The evaluate stage: hand-worked figures, planted leaks, frozen thresholds, and tables made elsewhere."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from written_artifacts import make_workspace, run_stage, write, write_cases

from skinkit import cli
from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.commands import Context
from skinkit.commands import score as outside
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.options import make_config
from skinkit.stages import evaluate
from skinkit.stats.metrics import softmax
from skinkit.taxonomy import class_set
from skinkit.workspace import Ref, Workspace

PAD6 = class_set("pad6")
CODE = {code: next(d for d, c in PAD6.members.items() if c == code) for code in PAD6.classes}
THRESHOLDS = dict.fromkeys(PAD6.classes, 0.25) | {"MEL": 0.15}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws", {"pad": "development", "jinan": "external", "visits": "inference"})


def people(n: int = 120, seed: int = 0) -> list[dict[str, Any]]:
    """Cases of all six classes, two a patient, with subjects."""
    rng = np.random.default_rng(seed)
    return [
        {
            "patient_id": f"P{i // 2}",
            "lesion_id": f"P{i // 2}-L{i}",
            "diagnosis": CODE[PAD6.classes[int(rng.integers(6))]],
            "sex": ["female", "male", None][i % 3],
            "age_years": float(20 + i % 60),
            "site": "torso",
            "modality": "clinical",
            "confirmed_by": "histopathology" if i % 4 else "clinical",
            "dhash": f"{int(rng.integers(2**63)):016x}",
        }
        for i in range(n)
    ]


def probabilities(labels: Sequence[str | None], seed: int = 1, skill: float = 1.5) -> np.ndarray[Any, Any]:
    logits = np.random.default_rng(seed).normal(size=(len(labels), 6))
    for i, label in enumerate(labels):
        if label in PAD6.classes:
            logits[i, PAD6.classes.index(label)] += skill
    return softmax(logits)


def prediction(level: str, name: str, p: np.ndarray[Any, Any], **given: Any) -> dict[str, Any]:
    malignancy = float(sum(p[i] for i, c in enumerate(PAD6.classes) if c in PAD6.malignant))
    return {
        "level": level,
        "case_id": name,
        "malignancy": malignancy,
        "threshold": 0.3,
        "call": "malignant" if malignancy >= 0.3 else "benign",
        "status": "ok",
        "fold": None,
        **{f"p__diagnosis__{c}": float(v) for c, v in zip(PAD6.classes, p, strict=True)},
        **given,
    }


def write_model(
    workspace: Workspace,
    trained: Sequence[dict[str, Any]],
    folds: int = 1,
    own: dict[int, dict[str, float]] | None = None,
) -> None:
    about = {
        "model": "written",
        "task": "classify",
        "fused": "unet",
        "folds": [
            {
                "fold": fold,
                "class_thresholds": {
                    c: {"threshold": t, "source": "validation:youden"}
                    for c, t in {**THRESHOLDS, **(own or {}).get(fold, {})}.items()
                },
            }
            for fold in range(folds)
        ],
    }
    names = ["cohort", "case_id", "group_id", "patient_id", "lesion_id", "image_sha256", "pixel_sha256", "dhash"]
    frame = pd.DataFrame(trained, columns=[*names, "fold", "part", *({"diagnosis"} & {*trained[0]})])
    stream = io.BytesIO()
    frame.to_parquet(stream, index=False)
    write(
        workspace,
        Ref("models", name="frozen_probe"),
        [{"fold": fold} for fold in range(folds)],
        files={"model.json": json.dumps(about).encode(), "trained_on.parquet": stream.getvalue()},
    )


def write_predictions(workspace: Workspace, cohort: str, rows: Sequence[dict[str, Any]], **info: Any) -> None:
    told = {
        "classes": PAD6.as_dict(),
        "threshold": 0.3,
        "class_thresholds": {c: {"threshold": t, "source": "validation:youden"} for c, t in THRESHOLDS.items()},
        "leakage_allowed": None,
        **info,
    }
    write(workspace, Ref("predictions", cohort, "frozen_probe"), rows, told)


def trained_row(cohort: str, case: str, **given: Any) -> dict[str, Any]:
    row = {
        "cohort": cohort,
        "case_id": case,
        "patient_id": f"P{case}",
        "lesion_id": None,
        "group_id": f"{cohort}:P{case}",
        "image_sha256": f"file-{cohort}-{case}",
        "pixel_sha256": f"pixels-{cohort}-{case}",
        "dhash": None,
        "fold": 0,
        "part": "train",
    }
    return {**row, **given}


def external(workspace: Workspace, rows: list[dict[str, Any]] | None = None, **info: Any) -> pd.DataFrame:
    """The cohort jinan with a model trained on others; its predictions as a frame with the truth."""
    rows = people() if rows is None else rows
    cases = write_cases(workspace, "jinan", rows).table()
    labels = [PAD6.to_class(d) for d in cases["diagnosis"]]
    p = probabilities(labels)
    predictions = [
        prediction("image", case, p[i], image_id=case, group_id=cases["group_id"][i], patient_id=cases["patient_id"][i])
        for i, case in enumerate(cases["case_id"])
    ]
    write_predictions(workspace, "jinan", predictions, **info)
    write_model(workspace, [trained_row("pad", f"T{i}") for i in range(20)])
    return pd.DataFrame(predictions).assign(truth=labels)


def one(workspace: Workspace, cohort: str = "jinan", **given: Any) -> tuple[pd.DataFrame, Artifact, str]:
    made, said = run_stage(workspace, "evaluate", cohorts=[cohort], **{"bootstrap": 20, **given})
    return made[0].table(), made[0], said


def figure(
    rows: pd.DataFrame, class_: str, rule: str, metric: str, average: str = "none", subgroup: str = "all"
) -> Any:
    found = rows[
        (rows["subgroup"] == subgroup)
        & (rows["class"] == class_)
        & (rows["decision_rule"] == rule)
        & (rows["metric"] == metric)
        & (rows["average"] == average)
    ]
    assert len(found) == 1
    return found.iloc[0]


# ------------------------------------------------------------------------------------------------------ figures


def test_figures_agree_with_scikit_learn_at_frozen_thresholds_and_after_the_veto(workspace: Workspace) -> None:
    frame = external(workspace)
    rows, artifact, said = one(workspace)
    assert "up to date" not in said
    columns = [f"p__diagnosis__{c}" for c in PAD6.classes]
    p, truth = frame[columns].to_numpy(), frame["truth"]
    index = [PAD6.classes.index(t) for t in truth]
    assert figure(rows, "all", "argmax", "balanced_accuracy", "macro")["estimate"] == pytest.approx(
        sk.balanced_accuracy_score(index, p.argmax(axis=1))
    )
    assert figure(rows, "all", "none", "auroc", "macro")["estimate"] == pytest.approx(
        sk.roc_auc_score(index, p, multi_class="ovr")
    )
    for i, code in enumerate(PAD6.classes):
        row = figure(rows, code, "frozen_threshold", "sensitivity")
        assert row["estimate"] == pytest.approx(sk.recall_score(truth == code, p[:, i] >= THRESHOLDS[code]))
        assert row["threshold"] == THRESHOLDS[code]
        assert row["threshold_source"] == "validation:youden"
        assert row["n_positive"] == (truth == code).sum()
    sick = truth.isin(PAD6.malignant)
    assert figure(rows, "malignant", "none", "auroc")["estimate"] == pytest.approx(
        sk.roc_auc_score(sick, frame["malignancy"])
    )
    veto = figure(rows, "malignant", "veto", "sensitivity")
    assert veto["estimate"] == pytest.approx(sk.recall_score(sick, frame["malignancy"] >= 0.3))
    assert veto["threshold"] == 0.3
    assert veto["lower"] < veto["estimate"] < veto["upper"]
    assert (veto["n"], veto["n_clusters"]) == (120, 60)
    assert artifact.info["headline"]["malignant_sensitivity"]["estimate"] == pytest.approx(veto["estimate"])
    assert artifact.info["malignant_set"] == "pad"
    assert artifact.info["allow_leakage"] is None


def test_the_call_decides_where_it_differs_from_the_threshold(workspace: Workspace) -> None:
    external(workspace)
    predictions = read_table(workspace.path(Ref("predictions", "jinan", "frozen_probe")) / "table.parquet")
    write_predictions(workspace, "jinan", predictions.assign(call="malignant").to_dict("records"))
    rows, _, _ = one(workspace)
    assert figure(rows, "malignant", "veto", "sensitivity")["estimate"] == 1
    assert figure(rows, "malignant", "veto", "specificity")["estimate"] == 0


def test_what_cannot_be_scored_is_counted_and_never_remapped(workspace: Workspace) -> None:
    rows = people()
    rows[0]["diagnosis"] = None
    rows[1]["diagnosis"] = rows[2]["diagnosis"] = "dermatofibroma"
    external(workspace, rows)
    table, artifact, _ = one(workspace)
    assert artifact.info["excluded"] == {"no_class:dermatofibroma": 2, "unlabelled": 1}
    assert artifact.info["n"] == 117
    assert "not scored: no_class:dermatofibroma 2, unlabelled 1" in artifact.info["text"]
    assert figure(table, "all", "argmax", "accuracy")["n"] == 117


def test_failed_and_absent_predictions_are_counted(workspace: Workspace) -> None:
    frame = external(workspace).drop(columns="truth")
    records = frame.iloc[:-3].to_dict("records")
    records[0] |= {"status": "failed", "reason": "image_truncated"}
    write_predictions(workspace, "jinan", records)
    _, artifact, _ = one(workspace)
    assert artifact.info["not_predicted"] == {"image_truncated": 1, "without_row": 3}
    assert artifact.info["n"] == 116


def test_a_class_nobody_has_is_told_and_left_out_of_averages(workspace: Workspace) -> None:
    rows = [row for row in people(200) if row["diagnosis"] != CODE["SCC"]]
    external(workspace, rows)
    table, artifact, _ = one(workspace)
    assert artifact.info["absent_classes"] == ["SCC"]
    assert figure(table, "SCC", "none", "auroc")["note"] == "undefined"
    assert not np.isnan(figure(table, "all", "none", "auroc", "macro")["estimate"])


def test_subgroups_carry_their_numbers(workspace: Workspace) -> None:
    rows = people()
    external(workspace, rows)
    table, _, _ = one(workspace)
    names = set(table["subgroup"])
    assert {"sex=female", "sex=male", "sex=unknown", "age_band=<40", "age_band=40-59", "age_band=60+"} <= names
    assert {"confirmed_by=histopathology", "confirmed_by=clinical"} <= names
    assert not any(name.startswith(("site=", "modality=")) for name in names)
    biopsied = sum(row["confirmed_by"] == "histopathology" for row in rows)
    assert figure(table, "all", "argmax", "accuracy", subgroup="confirmed_by=histopathology")["n"] == biopsied
    young = sum(row["age_years"] < 40 for row in rows)
    assert figure(table, "all", "argmax", "accuracy", subgroup="age_band=<40")["n"] == young
    few = one(workspace, subgroups=False)[0]
    assert set(few["subgroup"]) == {"all", "confirmed_by=histopathology"}


def test_quarters_of_the_agreement_of_masks_are_subgroups(workspace: Workspace) -> None:
    """A segmenter's errors reach a model that reads its outlines: its figures by the IoU of the masks."""
    rows = people(100)
    external(workspace, rows)
    cases = open_artifact(workspace.path(Ref("cases", "jinan"))).table()["image_id"]
    known = {name: i / 80 for i, name in enumerate(cases[:80])}  # nobody drew the others
    masks = [{"image_id": name, "segmenter": "unet", "iou": known.get(name), "status": "ok"} for name in cases]
    write(workspace, Ref("masks", "jinan", "unet"), masks)
    table = one(workspace, by=("mask_iou",))[0]
    names = sorted(name for name in set(table["subgroup"]) if name.startswith("mask_iou"))
    assert names == [
        "mask_iou=1 of 4 (0.00 to 0.25)", "mask_iou=2 of 4 (0.25 to 0.49)", "mask_iou=3 of 4 (0.49 to 0.74)",
        "mask_iou=4 of 4 (0.74 to 0.99)", "mask_iou=unknown",
    ]  # fmt: skip
    assert [figure(table, "all", "argmax", "accuracy", subgroup=name)["n"] for name in names] == [20] * 5
    assert not any(name.startswith("mask_iou") for name in one(workspace)[0]["subgroup"])


def test_a_planted_gap_between_subgroups_is_found(workspace: Workspace) -> None:
    rows = people(400)
    cases = write_cases(workspace, "jinan", rows).table()
    labels = [PAD6.to_class(d) for d in cases["diagnosis"]]
    good, bad = probabilities(labels, skill=6), probabilities(labels, skill=0)
    predictions = [
        prediction("image", case, (good if rows[i]["sex"] == "female" else bad)[i], group_id=cases["group_id"][i])
        for i, case in enumerate(cases["case_id"])
    ]
    write_predictions(workspace, "jinan", predictions)
    write_model(workspace, [trained_row("pad", "T")])
    table, artifact, _ = one(workspace, bootstrap=200)
    female, male = (figure(table, "malignant", "none", "auroc", subgroup=f"sex={s}") for s in ("female", "male"))
    assert female["lower"] > 0.9
    assert male["lower"] < 0.5 < male["upper"]
    gaps = read_table(artifact.path / "gaps.parquet")
    gap = gaps[(gaps["subgroup"] == "sex=male") & (gaps["metric"] == "auroc")].iloc[0]
    assert gap["gap"] == pytest.approx(male["estimate"] - gap["estimate_rest"])
    assert gap["lower"] < gap["gap"] < gap["upper"] < -0.2
    assert gap["flagged"]
    assert "GAP sex=male" in artifact.info["text"]
    # Nothing was planted between the ages.
    assert not gaps[gaps["subgroup"].str.startswith("age_band=")]["flagged"].any()


def test_lesions_and_patients_are_scored_with_the_truth_of_their_cases(workspace: Workspace) -> None:
    rows = [
        {"patient_id": "A", "lesion_id": "A1", "diagnosis": "melanoma"},
        {"patient_id": "A", "lesion_id": "A1", "diagnosis": "melanoma"},
        {"patient_id": "A", "lesion_id": "A2", "diagnosis": "nevus"},
        {"patient_id": "B", "lesion_id": "B1", "diagnosis": "nevus"},
        {"patient_id": "C", "lesion_id": None, "diagnosis": "nevus"},
    ]
    cases = write_cases(workspace, "jinan", rows).table()
    p = np.full(6, 0.02)
    sick, well = p.copy(), p.copy()
    sick[PAD6.classes.index("MEL")], well[PAD6.classes.index("NEV")] = 0.9, 0.9
    predictions = [
        prediction("image", case, sick if "melanoma" in str(d) else well, group_id=g)
        for case, d, g in zip(cases["case_id"], cases["diagnosis"], cases["group_id"], strict=True)
    ]
    for level, names in (("lesion", ["A1", "A2", "B1"]), ("patient", ["A", "B", "C"])):
        predictions += [
            prediction(level, name, sick if name in ("A1", "A") else well, group_id=f"jinan:{name[0]}")
            for name in names
        ]
    write_predictions(workspace, "jinan", predictions)
    write_model(workspace, [trained_row("pad", "T")])
    table, artifact, _ = one(workspace, minimum=1)
    lesions = figure(table, "MEL", "argmax", "sensitivity", subgroup="level=lesion")
    assert (lesions["n"], lesions["n_positive"], lesions["estimate"]) == (3, 1, 1)
    patients = figure(table, "malignant", "veto", "sensitivity", subgroup="level=patient")
    assert (patients["n"], patients["n_positive"], patients["estimate"]) == (3, 1, 1)
    # Patient A has two classes: two patients are left where one class is needed.
    assert figure(table, "all", "argmax", "accuracy", subgroup="level=patient")["n"] == 2
    assert artifact.info["several_classes"] == {"patient": 1}


def test_development_rows_use_the_thresholds_of_the_fold_that_held_them_out(workspace: Workspace) -> None:
    rows = people()
    cases = write_cases(workspace, "pad", rows).table()
    labels = [PAD6.to_class(d) for d in cases["diagnosis"]]
    p = probabilities(labels)
    folds = [int(str(g).removeprefix("pad:P")) % 2 for g in cases["group_id"]]
    predictions = [
        prediction("image", case, p[i], group_id=cases["group_id"][i], fold=folds[i])
        for i, case in enumerate(cases["case_id"])
    ]
    keys = ["case_id", "group_id", "patient_id", "lesion_id", "image_sha256", "pixel_sha256", "dhash"]
    trained = [
        {
            **cases.loc[i, keys].to_dict(),
            "cohort": "pad",
            "fold": fold,
            "part": "held_out" if fold == folds[i] else "train",
        }
        for i in range(len(cases))
        for fold in range(2)
    ]
    write_predictions(workspace, "pad", predictions)
    write_model(workspace, trained, folds=2, own={0: {"NEV": 0.1}, 1: {"NEV": 0.6}})
    table, _, _ = one(workspace, "pad")
    column = PAD6.classes.index("NEV")
    called = p[:, column] >= np.where(np.array(folds) == 0, 0.1, 0.6)
    positive = np.array(labels) == "NEV"
    assert figure(table, "NEV", "frozen_threshold", "specificity")["estimate"] == pytest.approx(
        sk.recall_score(~positive, ~called)
    )
    # The same rows claimed by the fold that was trained on them are in-sample.
    swapped = [{**row, "fold": 1 - row["fold"]} for row in predictions]
    write_predictions(workspace, "pad", swapped)
    with pytest.raises(RefusedError) as error:
        one(workspace, "pad")
    assert "case 120" in error.value.found


def test_files_beside_the_table_can_be_drawn_again(workspace: Workspace) -> None:
    external(workspace)
    _, artifact, _ = one(workspace)
    curves = artifact.json("curves.json")
    assert curves["classes"] == list(PAD6.classes)
    roc = curves["roc"]["malignant"]
    assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(roc["auroc"])
    assert np.sum(curves["confusion"]) == 120
    for name in ("roc", "pr", "confusion"):
        svg = (artifact.path / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert "<svg" in svg
    assert "malignant (set: pad)" in (artifact.path / "figures" / "roc.svg").read_text(encoding="utf-8")
    scored = read_table(artifact.path / "scored.parquet")
    assert len(scored) == 120
    assert {"case_id", "group_id", "class", "malignancy", "p__diagnosis__MEL"} <= set(scored.columns)


def test_the_same_inputs_give_the_same_bytes(workspace: Workspace) -> None:
    external(workspace)
    first = one(workspace)[1].manifest
    workspace.path(Ref("metrics", "jinan", "frozen_probe")).rename(workspace.root / "before")
    assert one(workspace)[1].manifest["files"] == first["files"]


# ------------------------------------------------------------------------------------------------------ leakage


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        ({"group_id": "jinan:P7", "patient_id": "P7"}, "the same patient 2"),
        ({"group_id": "jinan:other", "patient_id": None, "lesion_id": "P7-L15"}, "the same lesion 1"),
        ({"image_sha256": "file-jinan-jinan-0003"}, "an identical file 1"),
        ({"pixel_sha256": "pixels-jinan-jinan-0003"}, "identical pixels 1"),
    ],
)
def test_what_the_model_learnt_from_is_refused(workspace: Workspace, planted: dict[str, Any], kind: str) -> None:
    external(workspace)
    trained = [trained_row("pad", f"T{i}") for i in range(20)]
    # Validation rows chose thresholds and temperature: they are known to the model too.
    part = "validation" if "file" in kind else "train"
    write_model(workspace, [*trained, trained_row("pad", "LEAK", part=part, **planted)])
    with pytest.raises(RefusedError) as refused:
        one(workspace)
    assert refused.value.exit_code == 5
    assert kind in refused.value.found
    assert "pad/LEAK" in refused.value.found
    _, artifact, said = one(workspace, allow_leakage="known overlap of two registries")
    assert artifact.info["allow_leakage"] == "known overlap of two registries"
    assert artifact.info["leakage"]["cases"] >= 1
    assert "allowed because: known overlap of two registries" in said
    assert "LEAKAGE ALLOWED: known overlap of two registries" in artifact.info["text"]


def test_what_was_held_out_is_no_leak_and_alike_images_are_told(workspace: Workspace) -> None:
    rows = people()
    external(workspace, rows)
    write_model(workspace, [trained_row("pad", "H", part="held_out", group_id="jinan:P7", patient_id="P7")])
    assert one(workspace)[1].info["leakage"]["cases"] == 0
    write_model(workspace, [trained_row("pad", "T", dhash=f"{int(rows[3]['dhash'], 16) ^ 7:016x}")])
    _, artifact, said = one(workspace)
    assert "1 case like a training image" in said
    assert artifact.info["leakage"]["counts"]["alike"] == 1


def test_labels_that_changed_after_training_are_told(workspace: Workspace) -> None:
    external(workspace)
    cases = write_cases(workspace, "pad", people()).table()
    labels = dict(zip(cases["case_id"], cases["diagnosis"], strict=True))
    first, second, third, *others = sorted(labels)
    was = {first: "nevus" if PAD6.to_class(labels[first]) != "NEV" else "melanoma", second: labels[second]}
    rows = [trained_row("pad", case, diagnosis=label) for case, label in was.items()]
    rows += [trained_row("pad", third, diagnosis="no longer of a class", part="held_out")]
    rows += [trained_row("pad", case, diagnosis=labels[case]) for case in others]
    write_model(workspace, rows)
    _, artifact, said = one(workspace)
    assert artifact.info["relabelled"] == {
        "n": 1, "of": len(labels) - 1, "cases": [f"pad/{first}: {was[first]}, now {labels[first]}"],
    }  # fmt: skip
    assert "1 of" in said
    assert "have another label than frozen_probe learnt" in said
    assert "have another label than frozen_probe learnt" in artifact.info["text"]
    write_model(workspace, [trained_row("pad", case, diagnosis=label) for case, label in labels.items()])
    assert "relabelled" not in one(workspace)[1].info


def test_a_few_photos_near_to_those_learnt_from_are_not_scored(workspace: Workspace) -> None:
    """Of the cohort that was split; of another one, and if they are many, they are refused."""
    rows = people()
    cases = write_cases(workspace, "pad", rows).table()
    p = probabilities([PAD6.to_class(d) for d in cases["diagnosis"]])
    near = [
        trained_row("pad", f"T{i}", dhash=f"{int(cases['dhash'][i], 16) ^ 1:016x}", group_id=f"pad:T{i}")
        for i in (0, 6, 9)
    ]
    images = [
        prediction("image", c, p[i], group_id=cases["group_id"][i], fold=0) for i, c in enumerate(cases["case_id"])
    ]
    patients = [prediction("patient", f"P{i}", p[2 * i], fold=0) for i in range(60)]
    write_predictions(workspace, "pad", images + patients)
    write_model(workspace, near[:2])
    _, artifact, said = one(workspace, "pad")
    left_out = {cases["patient_id"][0], cases["patient_id"][6]}
    assert artifact.info["excluded"] == {"near_a_training_photo": 4}  # with the other case of each patient
    assert "4 cases are not scored" in said
    scored = artifact.table(file="scored.parquet")
    assert (scored["level"] == "image").sum() == 116
    assert not set(scored.loc[scored["level"] == "patient", "case_id"]) & left_out
    assert artifact.info["leakage"]["counts"]["near_identical"] == 2
    write_model(workspace, near)  # more than 2 % of 120
    with pytest.raises(RefusedError) as refused:
        one(workspace, "pad")
    assert "near-identical images 3" in refused.value.found
    external(workspace, rows)
    write_model(workspace, near[:1])
    with pytest.raises(RefusedError):
        one(workspace)


def test_patients_of_another_hospital_with_the_same_number_are_no_leak(workspace: Workspace) -> None:
    external(workspace)
    write_model(workspace, [trained_row("pad", "T", patient_id="P7", group_id="pad:P7")])
    assert one(workspace)[1].info["leakage"]["cases"] == 0


def test_a_leak_that_was_allowed_for_the_split_is_allowed_and_said_for_its_cohort(workspace: Workspace) -> None:
    cases = write_cases(workspace, "pad", people()).table()
    p = probabilities([PAD6.to_class(d) for d in cases["diagnosis"]])
    predictions = [
        prediction("image", c, p[i], group_id=cases["group_id"][i], fold=0) for i, c in enumerate(cases["case_id"])
    ]
    leak = trained_row("pad", "LEAK", patient_id="P7", group_id="pad:P7")
    write_model(workspace, [leak])
    write_predictions(workspace, "pad", predictions)
    with pytest.raises(RefusedError):
        one(workspace, "pad")
    write_predictions(workspace, "pad", predictions, leakage_allowed="published image-level folds")
    assert one(workspace, "pad")[1].info["allow_leakage"] == "published image-level folds"
    external(workspace, leakage_allowed="published image-level folds")
    write_model(workspace, [trained_row("pad", "LEAK", patient_id="P7", group_id="jinan:P7")])
    with pytest.raises(RefusedError):
        one(workspace)


def test_a_cohort_without_labels_is_told(workspace: Workspace) -> None:
    external(workspace, [{**row, "diagnosis": None} for row in people()])
    with pytest.raises(InputError) as error:
        one(workspace)
    assert "case of jinan" in error.value.found
    assert "diagnosis" in error.value.found


def test_a_cohort_whose_photos_all_failed_is_told_why(workspace: Workspace) -> None:
    predicted = external(workspace).drop(columns="truth")
    write_predictions(workspace, "jinan", predicted.assign(status="failed", reason="view_missing").to_dict("records"))
    with pytest.raises(InputError) as error:
        one(workspace)
    assert "none of the 120 cases of jinan (view_missing 120)" in error.value.found


def test_bare_evaluate_scores_development_and_external_cohorts(workspace: Workspace) -> None:
    names = evaluate.targets(evaluate.Config(), workspace, [], "")
    assert [ref.cohort for ref in names] == ["pad", "jinan"]
    assert {ref.name for ref in names} == {"frozen_probe"}


# ---------------------------------------------------------------------------------------- tables made elsewhere


def elsewhere(n: int = 200, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = [PAD6.classes[int(i)] for i in rng.integers(6, size=n)]
    p = probabilities(labels)
    frame = pd.DataFrame({f"p__diagnosis__{c}": p[:, i] for i, c in enumerate(PAD6.classes)})
    return frame.assign(
        image_id=[f"I{i}" for i in range(n)],
        patient_id=[f"P{i // 2}" for i in range(n)],
        diagnosis=[CODE[label] if i % 2 else label for i, label in enumerate(labels)],
        sex=["female", "male"] * (n // 2),
    )


def score(table: pd.DataFrame, folder: Path, name: str = "theirs.csv", **given: Any) -> dict[str, Any]:
    file = folder / name
    table.to_parquet(file) if name.endswith("parquet") else table.to_csv(
        file, index=False, sep="\t" if "tsv" in name else ","
    )
    config = make_config(outside.Config, {"file": str(file), "bootstrap": 30, **given})
    return dict(outside.run(config, Context(folder, Console(quiet=True))))


@pytest.mark.parametrize("name", ["theirs.csv", "theirs.tsv", "theirs.parquet"])
def test_a_table_made_elsewhere_is_scored(tmp_path: Path, name: str) -> None:
    table = elsewhere()
    answer = score(table, tmp_path, name)
    truth = [d if d in PAD6.classes else PAD6.to_class(d) for d in table["diagnosis"]]
    p = table[[f"p__diagnosis__{c}" for c in PAD6.classes]].to_numpy()
    index = [PAD6.classes.index(str(t)) for t in truth]
    head = answer["headline"]
    assert head["balanced_accuracy"]["estimate"] == pytest.approx(sk.balanced_accuracy_score(index, p.argmax(axis=1)))
    malignancy = p[:, [i for i, c in enumerate(PAD6.classes) if c in PAD6.malignant]].sum(axis=1)
    sick = np.isin(truth, list(PAD6.malignant))
    assert head["malignant_auroc"]["estimate"] == pytest.approx(sk.roc_auc_score(sick, malignancy))
    assert head["malignant_sensitivity"]["estimate"] == pytest.approx(sk.recall_score(sick, malignancy >= 0.3))
    assert head["accuracy"]["n_clusters"] == 100
    assert {row["subgroup"] for row in answer["metrics"]} == {"all", "sex=female", "sex=male"}
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert "balanced accuracy" in answer["text"]
    assert "confirmed by histopathology alone: no case" in answer["text"]
    assert f"{head['accuracy']['estimate']:.3f}" in answer["text"]


def test_attributes_that_are_the_label_are_named_and_answers_are_not(tmp_path: Path) -> None:
    table = elsewhere()
    truth = [d if d in PAD6.classes else PAD6.to_class(d) for d in table["diagnosis"]]
    # Answers nearly as good as the truth, so that only being answers keeps them from being named.
    skilled = probabilities(truth, skill=4.0)
    table = table.assign(
        **dict(zip([f"p__diagnosis__{c}" for c in PAD6.classes], skilled.T, strict=True)),
        their_top=[PAD6.classes[k] for k in skilled.argmax(axis=1)],
        predicted=[f"class {k}" if i % 40 else None for i, k in enumerate(skilled.argmax(axis=1))],
        surest=skilled.max(axis=1).round(2),
        logit_of_melanoma=np.log(skilled[:, PAD6.classes.index("MEL")]),
        percent=(100 * skilled[:, PAD6.classes.index("NEV")]).round(3),
        prediction_set=[PAD6.classes[k] for k in skilled.argmax(axis=1)],
        excised=[{"MEL": "wide margin", "SCC": "4 mm"}.get(str(code), "") for code in truth],
    )
    answer = score(table, tmp_path, out=str(tmp_path / "out"))
    assert {each["columns"] for each in answer["label_attributes"]} == {"excised"}
    assert "If the model read it: `excised` alone nearly says the label" in answer["text"]
    assert "excised" in set(read_table(tmp_path / "out" / "label_attributes.parquet")["columns"])
    assert "label_attributes" not in score(table, tmp_path, shortcuts=False)
    bare = table[[name for name in table if name.startswith("p__") or name == "diagnosis"]]
    assert "label_attributes" not in score(bare, tmp_path)


def test_malignancy_call_and_thresholds_of_the_table_are_used(tmp_path: Path) -> None:
    table = elsewhere()
    malignancy = table[[f"p__diagnosis__{c}" for c in PAD6.classes if c in PAD6.malignant]].sum(axis=1)
    thresholds = np.where(np.arange(200) % 2, 0.6, 0.2)
    top = table[[f"p__diagnosis__{c}" for c in PAD6.classes]].to_numpy().argmax(axis=1)
    by_class = np.array([PAD6.classes[k] in PAD6.malignant for k in top])
    calls = np.where(by_class | (malignancy >= thresholds), "Malignant", "benign")
    table = table.assign(malignancy=malignancy.round(3), threshold=thresholds, call=calls)
    answer = score(table, tmp_path, thresholds="MEL=0.1,NEV=0.9")
    truth = pd.Series([d if d in PAD6.classes else PAD6.to_class(d) for d in table["diagnosis"]])
    sick = truth.isin(PAD6.malignant)
    head = answer["headline"]
    assert head["malignant_auroc"]["estimate"] == pytest.approx(sk.roc_auc_score(sick, table["malignancy"]))
    assert head["malignant_sensitivity"]["estimate"] == pytest.approx(
        sk.recall_score(sick, table["call"] == "Malignant")
    )
    frozen = [
        r for r in answer["metrics"]
        if (r["class"], r["metric"], r["subgroup"]) == ("MEL", "sensitivity", "all")
        and r["decision_rule"] == "frozen_threshold"
    ]  # fmt: skip
    assert frozen[0]["estimate"] == pytest.approx(sk.recall_score(truth == "MEL", table["p__diagnosis__MEL"] >= 0.1))
    assert frozen[0]["threshold_source"] == "given"


def test_the_veto_is_one_rule_for_tables_made_elsewhere(tmp_path: Path) -> None:
    table = elsewhere()
    columns = [f"p__diagnosis__{c}" for c in PAD6.classes]
    malignancy = table[[c for c in columns if c.removeprefix("p__diagnosis__") in PAD6.malignant]].sum(axis=1)
    by_class = np.array([PAD6.classes[k] in PAD6.malignant for k in table[columns].to_numpy().argmax(axis=1)])
    truth = pd.Series([d if d in PAD6.classes else PAD6.to_class(d) for d in table["diagnosis"]])
    sick = truth.isin(PAD6.malignant)
    answer = score(table, tmp_path, threshold=0.6)
    head = answer["headline"]["malignant_sensitivity"]
    assert head["estimate"] == pytest.approx(sk.recall_score(sick, by_class | (malignancy >= 0.6)))
    alone = int((by_class & (malignancy < 0.6)).sum())
    assert alone
    assert any(remark.startswith(f"{alone} cases ") for remark in answer["remarks"])
    (row,) = [row for row in answer["veto_sweep"] if row["in_use"]]
    assert (row["rule"], row["sensitivity"]) == ("veto", pytest.approx(head["estimate"]))
    assert {row["rule"] for row in answer["veto_by_class"]} == {"veto"}
    by_threshold = table.assign(call=np.where(malignancy >= 0.6, "malignant", "benign"))
    with pytest.raises(InputError) as told:
        score(by_threshold, tmp_path, threshold=0.6)
    assert "most probable class is malignant" in told.value.found
    assert "threshold alone" in told.value.fix


def test_another_threshold_and_malignant_set(tmp_path: Path) -> None:
    table = elsewhere()
    answer = score(table, tmp_path, threshold=0.6, malignant="wang")
    assert answer["malignant_set"] == "wang"
    assert answer["classes"]["malignant"] == ["ACK", "BCC", "MEL", "SCC"]
    assert answer["headline"]["malignant_sensitivity"]["threshold"] == 0.6
    assert score(table, tmp_path, malignant="MEL,SCC")["classes"]["malignant"] == ["MEL", "SCC"]
    with pytest.raises(ConfigError, match="'MELA'"):
        score(table, tmp_path, malignant="MELA")


def test_classes_of_their_own_need_to_be_told_what_is_malignant(tmp_path: Path) -> None:
    names = {"p__diagnosis__ACK": "p__diagnosis__akiec", "p__diagnosis__BCC": "p__diagnosis__bcc"}
    table = elsewhere().rename(columns=names)
    table["diagnosis"] = [
        {"ACK": "akiec", "BCC": "bcc"}.get(PAD6.to_class(d) or d, "nevus") for d in table["diagnosis"]
    ]
    table["p__diagnosis__nevus"] = table[
        [c for c in table if str(c).startswith("p__") and c not in names.values()]
    ].sum(axis=1)
    table = table.drop(columns=[f"p__diagnosis__{c}" for c in ("MEL", "NEV", "SCC", "SEK")])
    answer = score(table, tmp_path)
    assert answer["malignant_set"] is None
    assert "malignant_auroc" not in answer["headline"]
    assert any("--malignant" in remark for remark in answer["remarks"])
    assert score(table, tmp_path, malignant="bcc")["headline"]["malignant_auroc"]["estimate"] is not None


def test_planted_miscalibration_and_a_gap_in_a_column_of_their_own_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    n = 600
    x = rng.normal(0, 1.5, n)
    ward = np.repeat(rng.choice(["east", "west"], n // 2), 2)
    noise = np.where(ward == "east", 0.3, 2.5) * rng.normal(size=n)
    sick = rng.random(n) < 1 / (1 + np.exp(-x))
    p = 1 / (1 + np.exp(-(2 * (x + noise) - 1.5)))
    table = pd.DataFrame(
        {
            "p__diagnosis__benign": 1 - p,
            "p__diagnosis__malignant": p,
            "patient_id": [f"P{i // 2}" for i in range(n)],
            "diagnosis": np.where(sick, "malignant", "benign"),
            "ward": ward,
        }
    )
    answer = score(table, tmp_path, malignant="malignant", bootstrap=100, by=("ward",))
    assert len(answer["miscalibrated"]) == 2
    assert "too extreme" in answer["text"]
    assert "too low on the whole" in answer["text"]
    assert {gap["subgroup"] for gap in answer["gaps"]} == {
        min(("ward=east", "ward=west"), key=lambda w: sum(ward == w[5:]))
    }
    assert "auroc" in {gap["metric"] for gap in answer["gaps"]}
    with pytest.raises(ConfigError, match="--by wards"):
        score(table, tmp_path, malignant="malignant", by=("wards",))


def test_leakage_from_a_training_table_is_refused(tmp_path: Path) -> None:
    training = tmp_path / "training.csv"
    pd.DataFrame({"patient_id": ["P3", "Q1"], "image_id": ["J1", "J2"]}).to_csv(training, index=False)
    with pytest.raises(RefusedError) as error:
        score(elsewhere(), tmp_path, training=str(training))
    assert "patient 2" in error.value.found
    answer = score(elsewhere(), tmp_path, training=str(training), allow_leakage="two registries")
    assert answer["leakage"]["counts"]["patient"] == 2
    assert "LEAKAGE ALLOWED: two registries" in answer["text"]
    pd.DataFrame({"patient_id": ["Q1"]}).to_csv(training, index=False)
    assert score(elsewhere(), tmp_path, training=str(training))["leakage"]["cases"] == 0
    pd.DataFrame({"somebody": ["Q1"]}).to_csv(training, index=False)
    with pytest.raises(InputError) as error:
        score(elsewhere(), tmp_path, training=str(training))
    assert "no ids" in error.value.found


def test_files_are_written_where_asked(tmp_path: Path) -> None:
    answer = score(elsewhere(), tmp_path, out=str(tmp_path / "out"))
    rows = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert len(rows) == len(answer["metrics"])
    assert len(read_table(tmp_path / "out" / "metrics.parquet")) == len(rows)
    assert (tmp_path / "out" / "figures" / "roc.svg").is_file()


def broken(table: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    table = table.astype({column: object})
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (elsewhere().drop(columns="diagnosis"), "no column 'diagnosis'"),
        (elsewhere()[["diagnosis", "image_id"]], "has the columns diagnosis, image_id"),
        (broken(elsewhere(), 4, "p__diagnosis__MEL", 1.2), "row 5: p__diagnosis__MEL = 1.2 (1 such rows)"),
        (broken(elsewhere(), 4, "p__diagnosis__MEL", None), "row 5: p__diagnosis__MEL = nan"),
        (broken(elsewhere(), 4, "p__diagnosis__MEL", "high"), "row 5: p__diagnosis__MEL = 'high'"),
        (broken(elsewhere(), 6, "p__diagnosis__MEL", 0.99), "row 7: the probabilities sum to 1."),
        (broken(elsewhere(), 9, "image_id", "I3"), "row 10: case 'I3' occurs twice"),
        (elsewhere().assign(call="perhaps"), "row 1: call = 'perhaps'"),
        (elsewhere().assign(diagnosis="eczema"), "has a known truth (column 'diagnosis': {'no_class:eczema': 200})"),
        (elsewhere().assign(malignancy=50.0), "row 1: malignancy = 50"),
        (elsewhere().assign(malignancy=lambda t: t["diagnosis"].isin(["MEL", "melanoma"]) * 1.0), ": malignancy = "),
        (elsewhere().assign(call="benign"), "call = benign, but malignancy is 0."),
        (elsewhere().assign(call="benign", threshold=0.0), "row 1: call = benign, but malignancy is 0."),
    ],
)
def test_a_faulty_table_is_told_with_row_and_value(tmp_path: Path, table: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError) as told:
        score(table, tmp_path)
    assert message in told.value.found


@pytest.mark.parametrize(
    ("end", "separator", "found"),
    [
        (",", ",", "row 2: 11 cells under 10 columns; the row ends with the delimiter ','"),
        (",x", ",", "row 2: 11 cells under 10 columns"),
        ("", ";", "its delimiter looks like ';'"),
    ],
)
def test_a_table_whose_columns_would_shift_is_told(tmp_path: Path, end: str, separator: str, found: str) -> None:
    lines = elsewhere().to_csv(index=False, sep=separator).splitlines()
    assert len(elsewhere().columns) == 10
    (tmp_path / "t.csv").write_text("\n".join([lines[0], *(line + end for line in lines[1:])]) + "\n")
    with pytest.raises(InputError) as told:
        outside.run(outside.Config(file=str(tmp_path / "t.csv")), Context(tmp_path, Console(quiet=True)))
    assert found in told.value.found


def test_every_row_that_is_not_scored_is_counted_and_named(tmp_path: Path) -> None:
    status = ["OK", "ok", " Ok "] + ["failed"] * 2 + ["ok"] * 195
    table = elsewhere().assign(status=status, level=["Image"] * 198 + ["slide", "image"])
    table = broken(broken(table, 7, "diagnosis", "eczema"), 8, "diagnosis", str(table["diagnosis"][8]).swapcase())
    answer = score(table, tmp_path)
    assert answer["excluded"] == {"level:slide": 1, "no_class:eczema": 1, "status:failed": 2}
    assert answer["headline"]["accuracy"]["n"] == 196
    for told in ("status:failed): rows 4, 5", "level:slide): rows 199", "no_class:eczema): rows 8"):
        assert any(told in remark for remark in answer["remarks"])


def test_misuse_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        outside.run(outside.Config(file=str(tmp_path / "nothing.csv")), Context(tmp_path, Console(quiet=True)))
    assert "no file" in error.value.found
    with pytest.raises(ConfigError) as error:
        outside.run(outside.Config(out="x"), Context(tmp_path, Console(quiet=True)))
    assert "without a table" in error.value.found
    with pytest.raises(ConfigError, match="MELA"):
        score(elsewhere(), tmp_path, thresholds="MELA=0.3")
    with pytest.raises(ConfigError, match="minimum 0"):
        score(elsewhere(), tmp_path, minimum=0)
    (tmp_path / "table.docx").write_bytes(b"x")
    with pytest.raises(InputError) as error:
        outside.run(outside.Config(file=str(tmp_path / "table.docx")), Context(tmp_path, Console(quiet=True)))
    assert ".docx" in error.value.found


def test_unlabelled_rows_are_counted_and_rows_without_patients_are_said_to_be_independent(tmp_path: Path) -> None:
    table = broken(elsewhere(), 0, "diagnosis", None).drop(columns=["patient_id", "image_id"])
    answer = score(table, tmp_path)
    assert answer["excluded"] == {"unlabelled": 1}
    assert answer["n_clusters"] == 199
    assert any("counts as a patient of its own" in remark for remark in answer["remarks"])


def test_from_the_command_line_without_a_workspace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere().to_csv("theirs.csv", index=False)
    assert cli.main(["score", "theirs.csv", "--bootstrap", "20", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 0
    assert answer["headline"]["accuracy"]["n"] == 200
    assert cli.main(["score", "theirs.csv", "--bootstrap", "0"]) == 0
    assert "balanced accuracy" in capsys.readouterr().out


def test_a_refused_cohort_does_not_keep_the_others_from_being_scored(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    external(workspace)
    cases = write_cases(workspace, "pad", people()).table()
    p = probabilities([PAD6.to_class(d) for d in cases["diagnosis"]])
    write_predictions(
        workspace,
        "pad",
        [prediction("image", c, p[i], group_id=cases["group_id"][i], fold=0) for i, c in enumerate(cases["case_id"])],
    )
    write_model(workspace, [trained_row("pad", "LEAK", patient_id="P7", group_id="pad:P7")])
    asked = ["evaluate", "--workspace", str(workspace.root), "--no-upstream", "--bootstrap", "0", "--no-subgroups"]
    assert cli.main([*asked, "--json"]) == 5
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["kind"] == "RefusedError"
    assert [step["artifact"] for step in answer["steps"] if step["stage"] == "evaluate"] == [
        "jinan/metrics/frozen_probe"
    ]
    assert "malignant_auroc" in answer["result"]["headline"]["jinan"]
