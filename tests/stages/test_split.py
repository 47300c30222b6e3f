"""Splits: grouped, stratified, seeded, equal to scikit-learn's folds, and checked when imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold
from written_artifacts import make_workspace, run_stage, write_cases

from skinkit.artifacts.artifact import Artifact
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.pipeline import Pipeline
from skinkit.taxonomy import ClassSet
from skinkit.workspace import Workspace, load_workspace

DIAGNOSES = ["actinic_keratosis", "basal_cell_carcinoma", "melanoma", "nevus"]
CODES = {"actinic_keratosis": "ACK", "basal_cell_carcinoma": "BCC", "melanoma": "MEL", "nevus": "NEV"}


def many(n: int = 240, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of patients with one to four images, several diagnoses among them."""
    rng = np.random.default_rng(seed)
    return [
        {
            "image_id": f"IMG_{rng.integers(10**9):010d}",
            "patient_id": f"PAT_{rng.integers(n // 2)}",
            "lesion_id": f"L{i}",
            "diagnosis": str(rng.choice(DIAGNOSES, p=[0.4, 0.35, 0.05, 0.2])),
        }
        for i in range(n)
    ]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws", {"pad": "development", "jinan": "external"})


def one(workspace: Workspace, **given: Any) -> tuple[pd.DataFrame, Artifact, str]:
    made, said = run_stage(workspace, "split", **given)
    return made[0].table(), made[0], said


def parts(frame: pd.DataFrame, fold: int = 0) -> dict[str, set[str]]:
    rows = frame[frame["fold"] == fold]
    return {str(part): set(of["case_id"]) for part, of in rows.groupby("part")}


def test_one_fold_divides_everybody_once_and_no_patient_twice(workspace: Workspace) -> None:
    write_cases(workspace, "pad", many())
    frame, artifact, _ = one(workspace)
    assert len(frame) == 240
    assert set(frame["part"]) == {"train", "validation", "held_out"}
    assert frame.groupby("patient_id")["part"].nunique().max() == 1
    share = frame["part"].value_counts(normalize=True)
    assert share["held_out"] == pytest.approx(0.2, abs=0.03)
    assert share["validation"] == pytest.approx(0.16, abs=0.03)
    by_class = frame.groupby("class")["part"].value_counts(normalize=True).unstack()
    for name in ("ACK", "BCC", "NEV"):
        assert by_class.loc[name, "held_out"] == pytest.approx(0.2, abs=0.06)
    counts = pd.DataFrame(artifact.info["counts"])
    assert counts["cases"].sum() == 240
    assert ClassSet.from_dict(artifact.info["classes"]).name == "pad6"


@pytest.mark.parametrize("seed", [0, 8])
def test_held_out_parts_are_those_of_scikit_learn(workspace: Workspace, seed: int) -> None:
    rows = many()
    write_cases(workspace, "pad", rows)
    frame, _, _ = one(workspace, folds=5, seed=seed)
    table = pd.DataFrame(rows).sort_values("image_id").reset_index(drop=True)
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(
        splitter.split(table, table["diagnosis"].map(CODES), table["patient_id"].astype(str))
    ):
        assert parts(frame, fold)["held_out"] == set(table.loc[test, "image_id"])
    held_out = frame[frame["part"] == "held_out"]
    assert sorted(held_out["case_id"]) == sorted(table["image_id"])
    assert frame.groupby(["fold", "patient_id"])["part"].nunique().max() == 1
    assert (frame["part"] == "validation").groupby(frame["fold"]).sum().min() > 20


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_split(workspace: Workspace) -> None:
    rows = many()
    write_cases(workspace, "pad", rows)
    first, again, other = (one(workspace, seed=seed)[1].manifest for seed in (1, 2, 1))
    assert first["files"] == other["files"]
    assert first["files"] != again["files"]


def test_identical_pixels_and_shared_lesions_join_patients(workspace: Workspace) -> None:
    rows = many(120)
    for i in range(0, 60, 2):
        rows[i]["pixel_sha256"] = rows[i + 1]["pixel_sha256"] = f"same-{i}"
    rows[100]["lesion_id"] = rows[101]["lesion_id"] = "one lesion, two patients"
    write_cases(workspace, "pad", rows)
    frame, artifact, _ = one(workspace, folds=4)
    where = frame.set_index(["fold", "case_id"])["part"]
    for fold in range(4):
        for i in [*range(0, 60, 2), 100]:
            assert where[fold, rows[i]["image_id"]] == where[fold, rows[i + 1]["image_id"]]
    assert artifact.info["groups_joined"] > 5


def test_what_has_no_class_is_left_out_and_counted(workspace: Workspace) -> None:
    rows = many(100)
    rows[0]["diagnosis"] = None
    rows[1]["diagnosis"] = "dermatofibroma"
    rows[2] |= {"status": "failed", "reason": "image_truncated"}
    rows[3] |= {"status": "pending", "reason": None}
    write_cases(workspace, "pad", rows)
    frame, artifact, _ = one(workspace)
    assert len(frame) == 96
    assert artifact.info["excluded"] == {
        "image_truncated": 1,
        "no_class:dermatofibroma": 1,
        "pending": 1,
        "unlabelled": 1,
    }
    assert len(one(workspace, classes="wang8")[0]) == 97


def test_a_case_with_two_views_is_one_row_with_its_dermoscopic_image(workspace: Workspace) -> None:
    rows = []
    for row in many(60):
        case = row["image_id"]
        rows += [
            {**row, "case_id": case, "image_id": f"{case}-a", "view": "clinical"},
            {**row, "case_id": case, "image_id": f"{case}-b", "view": "dermoscopic"},
        ]
    write_cases(workspace, "pad", rows)
    frame, _, _ = one(workspace)
    assert len(frame) == 60
    assert frame["image_id"].str.endswith("-b").all()


def test_two_cohorts_are_divided_together(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", {"a": "development", "b": "development"})
    write_cases(workspace, "a", many(80, seed=1))
    shared = {"patient_id": "PAT_1", "space": "a", "diagnosis": "nevus"}
    write_cases(workspace, "b", [*many(80, seed=2), shared])
    frame, _, _ = one(workspace, folds=3)
    assert set(frame["cohort"]) == {"a", "b"}
    assert frame.groupby(["fold", "group_id"])["part"].nunique().max() == 1
    with pytest.raises(ConfigError, match="alone"):
        run_stage(workspace, "split", cohorts=["a"])


def test_a_rare_class_is_warned_about_and_always_trained(workspace: Workspace) -> None:
    rows = [row for row in many() if row["diagnosis"] != "melanoma"]
    rare = [{"diagnosis": "melanoma", "patient_id": f"RARE{i}"} for i in range(3)]
    write_cases(workspace, "pad", rows + rare)
    frame, artifact, said = one(workspace, folds=5)
    assert "class MEL (3 cases of 3 patients) has no held_out row" in said
    assert artifact.info["warnings"]
    trained = frame[frame["part"] == "train"].groupby("fold")["class"].agg(set)
    assert all("MEL" in classes for classes in trained)
    write_cases(workspace, "pad", rows + rare[:1])
    frame, _, said = one(workspace, folds=1)
    assert frame.loc[frame["class"] == "MEL", "part"].tolist() == ["train"]
    with pytest.raises(InputError) as error:
        one(workspace, folds=5)
    assert "class MEL" in error.value.found
    assert "1 cases" in error.value.found


def test_too_little_to_divide_is_told(workspace: Workspace) -> None:
    write_cases(workspace, "pad", many(240)[:6])
    with pytest.raises(InputError, match=r"\d patients"):
        one(workspace, folds=10)
    write_cases(workspace, "pad", [{"diagnosis": "nevus"}] * 1 + [{"diagnosis": "nevus"}])
    with pytest.raises(InputError) as error:
        one(workspace)
    assert "two classes" in error.value.found
    with pytest.raises(ConfigError, match="folds 0"):
        one(workspace, folds=0)
    with pytest.raises(ConfigError, match="held_out = 1"):
        one(workspace, held_out=1.0)


@pytest.mark.parametrize(("share", "low", "high"), [(0.1, 0.05, 0.16), (0.3, 0.24, 0.36), (0.5, 0.44, 0.56)])
def test_shares_are_kept_roughly(workspace: Workspace, share: float, low: float, high: float) -> None:
    write_cases(workspace, "pad", many())
    frame, _, _ = one(workspace, held_out=share)
    assert low <= (frame["part"] == "held_out").mean() <= high


def test_splitting_images_of_one_patient_is_refused_unless_a_reason_is_given(workspace: Workspace) -> None:
    write_cases(workspace, "pad", many())
    with pytest.raises(RefusedError) as refused:
        one(workspace, group="image")
    assert "patient" in refused.value.found
    assert refused.value.exit_code == 5
    _, artifact, said = one(workspace, group="image", allow_leakage="to compare with an image-level split")
    assert "leak between the parts" in said
    assert artifact.info["allow_leakage"] == "to compare with an image-level split"
    assert artifact.info["leakage"]["counts"]["patient"] > 50


def test_near_identical_images_in_two_parts_are_refused_above_the_limit(workspace: Workspace) -> None:
    write_cases(workspace, "pad", [{**row, "dhash": "00000000000000ff"} for row in many(60)])
    with pytest.raises(RefusedError) as error:
        one(workspace)
    assert "near-identical" in error.value.found
    _, artifact, said = one(workspace, near_limit=60)
    assert "near-identical to an image in another part" in said
    assert artifact.info["leakage"]["cases"] == 0
    assert artifact.info["leakage"]["counts"]["near_identical"] > 10


def test_a_few_near_identical_images_are_kept_in_one_part_whoever_they_are_of(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    rows = [{**row, "dhash": f"{int(rng.integers(2**63)):016x}"} for row in many(60)]
    write_cases(workspace, "pad", rows)
    frame, before, _ = one(workspace)
    assert "kept_together" not in before.info
    part = frame.set_index("case_id")["part"]
    held_out, learnt = (next(r for r in rows if part[r["image_id"]] == name) for name in ("held_out", "train"))
    assert held_out["patient_id"] != learnt["patient_id"]
    write_cases(workspace, "pad", [{**r, "dhash": held_out["dhash"]} if r is learnt else r for r in rows])
    frame, artifact, said = one(workspace)
    part, group = (frame.set_index("case_id")[name] for name in ("part", "group_id"))
    both = [held_out["image_id"], learnt["image_id"]]
    assert part[both].nunique() == group[both].nunique() == 1
    assert "kept in one part with it" in said
    assert {tuple(pair[1::2]) for pair in artifact.info["kept_together"]} <= {tuple(both), tuple(both[::-1])}
    assert artifact.info["leakage"]["counts"]["near_identical"] == 0
    # Patients stay whole, and --allow-leakage leaves the parts as they were.
    assert (frame.groupby("patient_id")["part"].nunique() == 1).all()
    frame, artifact, _ = one(workspace, allow_leakage="to see")
    assert frame.set_index("case_id")["part"][both].nunique() == 2


def test_pairs_over_several_folds_are_each_in_one_part_and_every_case_is_held_out_once(workspace: Workspace) -> None:
    rng = np.random.default_rng(1)
    rows = [{**row, "dhash": f"{int(rng.integers(2**63)):016x}"} for row in many(400)]
    write_cases(workspace, "pad", rows)
    before, _, _ = one(workspace, folds=5)
    for first, second in ((0, 200), (10, 210), (20, 220), (30, 230)):
        rows[second]["dhash"] = rows[first]["dhash"]
    write_cases(workspace, "pad", rows)
    frame, artifact, said = one(workspace, folds=5)
    assert "kept in one part with it" in said
    part = frame.pivot(index="case_id", columns="fold", values="part")
    for pair in artifact.info["kept_together"]:
        assert (part.loc[pair[1]] == part.loc[pair[3]]).all()
    assert ((part == "held_out").sum(axis=1) == 1).all()
    assert (frame.groupby(["fold", "group_id"])["part"].nunique() == 1).all()
    # What is near no other photo stays where it was drawn.
    moved = {name for pair in artifact.info["kept_together"] for name in pair[1::2]}
    moved |= set(frame.loc[frame["group_id"].isin(frame.loc[frame["case_id"].isin(moved), "group_id"]), "case_id"])
    was = before.pivot(index="case_id", columns="fold", values="part")
    others = [name for name in part.index if name not in moved]
    assert (part.loc[others] == was.loc[others]).all().all()


# ---------------------------------------------------------------------------------------------------- imported


def imported(workspace: Workspace, text: str, **given: Any) -> tuple[pd.DataFrame, Artifact, str]:
    file = workspace.root / "published.csv"
    file.write_text(text, encoding="utf-8")
    return one(workspace, import_file=str(file), **given)


def by_patient(rows: list[dict[str, Any]]) -> list[str]:
    return [("train", "val", "test")[int(row["patient_id"].removeprefix("PAT_")) % 3] for row in rows]


def test_an_imported_split_is_taken_as_it_is(workspace: Workspace) -> None:
    rows = many()
    write_cases(workspace, "pad", rows)
    lines = [f"{row['image_id']}.png,0,{part}" for row, part in zip(rows, by_patient(rows), strict=True)]
    frame, artifact, _ = imported(workspace, "\n".join(["image_id,fold,part", *lines]))
    theirs = {"train": "train", "val": "validation", "test": "held_out"}
    expected = {row["image_id"]: theirs[part] for row, part in zip(rows, by_patient(rows), strict=True)}
    assert dict(zip(frame["case_id"], frame["part"], strict=True)) == expected
    assert artifact.info["imported"] is True


def test_another_content_of_the_imported_file_makes_another_split(workspace: Workspace) -> None:
    rows = many()
    write_cases(workspace, "pad", rows)
    lines = [f"{row['image_id']},{part}" for row, part in zip(rows, by_patient(rows), strict=True)]
    first = imported(workspace, "\n".join(["case_id,part", *lines]))[1]
    again = imported(workspace, "\n".join(["case_id,part", *lines]))
    assert "up to date" in again[2]
    other = imported(workspace, "\n".join(["case_id,part", *lines[:-3]]))
    assert other[1].identity != first.identity
    assert "3 development cases are not in published.csv" in other[2]


def test_without_validation_rows_a_grouped_part_of_training_becomes_it(workspace: Workspace) -> None:
    rows = many()
    write_cases(workspace, "pad", rows)
    lines = [
        f"{row['image_id']},{'test' if part == 'test' else 'train'}"
        for row, part in zip(rows, by_patient(rows), strict=True)
    ]
    frame, _, said = imported(workspace, "\n".join(["case_id,part", *lines]))
    assert "has no validation row" in said
    assert frame.groupby("patient_id")["part"].nunique().max() == 1
    assert (frame["part"] == "validation").mean() == pytest.approx(0.2 * 2 / 3, abs=0.05)


def test_an_imported_split_with_a_patient_on_both_sides_is_refused(workspace: Workspace) -> None:
    rows = many()
    write_cases(workspace, "pad", rows)
    text = "\n".join(["case_id,part", *(f"{r['image_id']},{'test' if i % 3 else 'train'}" for i, r in enumerate(rows))])
    with pytest.raises(RefusedError) as error:
        imported(workspace, text)
    assert "patient" in error.value.found
    _, artifact, _ = imported(workspace, text, allow_leakage="the published folds, for comparison only")
    assert artifact.info["allow_leakage"] == "the published folds, for comparison only"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case_id,part\nnobody,train\n", "no development cohort has: nobody"),
        ("case_id,part\nA,trian\n", "line 2: part 'trian'"),
        ("case_id,fold,part\nA,first,train\n", "line 2: fold 'first'"),
        ("id,part\nA,train\n", "has columns id, part"),
        ("", "cannot be read"),
        ("case_id,part\nA,train\nA,test\n", "line 3: case 'A' is in train and in held_out"),
        ("case_id,part\nA,test\n", "no training row"),
    ],
)
def test_a_faulty_file_is_told_with_its_line(workspace: Workspace, text: str, message: str) -> None:
    write_cases(workspace, "pad", [{"image_id": "A", "diagnosis": "nevus"}, {"diagnosis": "melanoma"}])
    with pytest.raises(InputError) as told:
        imported(workspace, text)
    assert message in told.value.found


def test_an_absent_file_is_told(workspace: Workspace) -> None:
    write_cases(workspace, "pad", many(20))
    with pytest.raises(InputError) as error:
        one(workspace, import_file="nowhere.csv")
    assert "nowhere.csv" in error.value.found


def test_no_development_cohort_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to split"):
        run_stage(make_workspace(tmp_path / "ws", {"jinan": "external"}), "split")


def test_another_class_set_in_the_workspace_makes_the_split_stale(workspace: Workspace) -> None:
    write_cases(workspace, "pad", many())
    one(workspace)
    again = one(workspace)
    assert "up to date" in again[2]
    changed = make_workspace(workspace.root, {"pad": "development", "jinan": "external"}, classes="malignancy")
    assert set(one(changed)[0]["class"]) == {"benign", "malignant"}


@pytest.mark.real
def test_folds_of_real_patients_are_those_of_scikit_learn(
    tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # copies are looked for by hash alone: other tests do by embedding
    file = tmp_path / "skinkit.toml"
    file.write_text(f'[cohorts.pad]\nrole = "development"\nsource = "pad-ufes-20"\npath = "{real_data / "pad"}"\n')
    workspace = load_workspace(tmp_path)
    step = Pipeline(workspace, Console(quiet=True), jobs=2).make("split", {"folds": 5, "seed": 0})[-1]
    frame = step.artifact.table()
    table = pd.read_csv(real_data / "pad" / "metadata.csv")
    table["case_id"] = table["img_id"].str.removesuffix(".png")
    table = table[table["case_id"].isin(frame["case_id"])].sort_values("case_id").reset_index(drop=True)
    assert len(table) > 1000
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for fold, (_, test) in enumerate(splitter.split(table, table["diagnostic"], table["patient_id"])):
        assert parts(frame, fold)["held_out"] == set(table.loc[test, "case_id"])
    assert step.artifact.info["leakage"]["cases"] == 0


# ----------------------------------------------------------------------------------------------------- over masks


def outlined(workspace: Workspace) -> list[dict[str, Any]]:
    """Rows of two cohorts; most have a truth mask, many no diagnosis."""
    rows = many(120)
    for i, row in enumerate(rows):
        row["truth_mask_path"] = None if i % 6 == 0 else f"masks/{i}.png"
        row["diagnosis"] = row["diagnosis"] if i % 3 else None
        row["modality"] = "clinical"
    write_cases(workspace, "pad", rows)
    seen = [
        {"diagnosis": None, "truth_mask_path": "m.png", "modality": "dermoscopic", "image_id": f"S{i}"}
        for i in range(12)
    ]
    write_cases(workspace, "jinan", [*seen, {"status": "failed", "reason": "image_missing", "image_id": "S99"}])
    return rows


def test_the_split_called_masks_is_over_cases_with_truth_masks(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", {"pad": "development", "jinan": "development"})
    rows = outlined(workspace)
    (artifact,), _ = run_stage(workspace, "split", name="masks")
    frame = artifact.table()
    with_mask = {row["image_id"] for row in rows if row["truth_mask_path"]}
    assert set(frame.loc[frame["cohort"] == "pad", "case_id"]) == with_mask
    assert frame["class"].isna().any()
    assert frame["class"].notna().any()
    assert frame.groupby("patient_id")["part"].nunique().max() == 1
    share = frame.groupby("cohort")["part"].value_counts(normalize=True)
    for cohort in ("pad", "jinan"):  # each is in every part, so a small one is not left out of learning
        assert share[cohort]["held_out"] == pytest.approx(0.2, abs=0.08)
        assert 0 < share[cohort]["validation"] < 0.16
    assert artifact.info["over"] == "masks"
    assert artifact.info["excluded"] == {"image_missing": 1, "without_mask": 20}
    counts = pd.DataFrame(artifact.info["counts"])
    assert set(counts["class"]) == {"jinan dermoscopic", "pad clinical"}


def test_any_split_may_be_over_masks_and_one_without_any_is_refused(workspace: Workspace) -> None:
    write_cases(workspace, "pad", [{**row, "truth_mask_path": None} for row in many(60)])
    with pytest.raises(InputError) as error:
        run_stage(workspace, "split", name="other", over="masks")
    assert "mask" in error.value.found
    (labelled,), _ = run_stage(workspace, "split", name="masks", over="diagnosis")
    assert len(labelled.table()) == 60


def of_centres(n: int = 240) -> list[dict[str, Any]]:
    """Rows of three centres; some patients were seen at two, and of some cases the centre is not known."""
    centres = np.random.default_rng(7).choice(["a", "b", "c", None], n, p=[0.5, 0.3, 0.15, 0.05])
    return [{**row, "centre": centre} for row, centre in zip(many(n), centres, strict=True)]


def test_every_value_is_held_out_once_and_its_patients_teach_nothing(workspace: Workspace) -> None:
    rows = of_centres()
    write_cases(workspace, "pad", rows)
    frame, artifact, said = one(workspace, leave_out="centre")
    centre = {row["image_id"]: row["centre"] for row in rows}
    assert artifact.info["leave_out"] == {"column": "centre", "values": ["a", "b", "c"]}
    assert artifact.info["excluded"]["without_centre"] == sum(value is None for value in centre.values())
    assert "without centre b" in said
    for fold, value in enumerate(["a", "b", "c"]):
        of = frame[frame["fold"] == fold]
        held = of[of["part"] == "held_out"]
        assert {centre[image] for image in held["image_id"]} == {value}
        assert len(held) == sum(v == value for v in centre.values())
        others = of[of["part"] != "held_out"]
        assert not set(others["group_id"]) & set(held["group_id"])
        assert value not in {centre[image] for image in others["image_id"]}
        assert of.groupby("group_id")["part"].nunique().max() == 1
        assert set(others["part"]) == {"train", "validation"}
    assert (frame["part"] == "held_out").sum() == sum(value is not None for value in centre.values())


def test_a_near_identical_pair_of_two_centres_teaches_nothing_about_itself(workspace: Workspace) -> None:
    rows = of_centres()
    a = next(row for row in rows if row["centre"] == "a")
    b = next(row for row in rows if row["centre"] == "b" and row["patient_id"] != a["patient_id"])
    a["dhash"] = b["dhash"] = "00ff00ff0f0f0f0f"
    write_cases(workspace, "pad", rows)
    frame, _, _ = one(workspace, leave_out="centre")
    for held, other, fold in ((a, b, 0), (b, a, 1)):
        of = frame[frame["fold"] == fold].set_index("image_id")["part"]
        assert of[held["image_id"]] == "held_out"
        assert other["image_id"] not in of
    assert (frame["part"] == "held_out").sum() == sum(row["centre"] is not None for row in rows)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"leave_out": "center"}, "no such column"),
        ({"leave_out": "image_id"}, "240 values"),
        ({"leave_out": "modality"}, "1 values"),
        ({"leave_out": "centre", "folds": 3}, "with --protocol"),
    ],
)
def test_a_column_that_divides_nothing_is_told(workspace: Workspace, given: dict[str, Any], found: str) -> None:
    write_cases(workspace, "pad", [{**row, "centre": "a", "modality": "clinical"} for row in many()])
    with pytest.raises(ConfigError) as error:
        one(workspace, **given)
    assert found in error.value.found
