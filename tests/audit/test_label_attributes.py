"""Attributes that are the label: what was planted is named with its figure, and where nothing was, nothing is named."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts
from sklearn.metrics import roc_auc_score

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.audit import label_attributes
from skinkit.audit.label_attributes import ATTRIBUTE, FEATURE, KEY, LABEL, OPEN, PART
from skinkit.cli import main
from skinkit.stats.separation import Separation
from skinkit.taxonomy import class_set
from skinkit.workspace import Ref

PAD = class_set("pad6", "pad")
N, PATIENTS = 600, 300
CODES = np.array(PAD.classes)


def cases(seed: int = 0, n: int = N, patients: int = PATIENTS) -> tuple[pd.DataFrame, np.ndarray, np.random.Generator]:
    """Cases whose attributes are drawn at random, with malignancy and the generator."""
    rng = np.random.default_rng(seed)
    label = rng.choice(CODES, n, p=[0.3, 0.3, 0.08, 0.12, 0.1, 0.1])
    table = pd.DataFrame(
        {
            "class": label,
            "cluster": [f"P{i % patients}" for i in range(n)],
            "age_years": rng.integers(20, 90, n).astype(float),
            "sex": rng.choice(["female", "male"], n),
            "site": np.where(rng.random(n) < 0.2, None, rng.choice(["trunk", "head", "arm"], n)).tolist(),
            "itch": rng.choice(["True", "False", "UNK"], n),
            "diameter_1_mm": np.round(rng.gamma(3, 3, n), 1),
            "note": [" ".join(rng.choice(["seen", "left", "right", "small", "dark"], 4)) for _ in range(n)],
            "exam": [
                f"{rng.integers(2015, 2022)}-{rng.integers(1, 13):02d}-{rng.integers(1, 28):02d}" for _ in range(n)
            ],
            "image_id": [f"IMG_{rng.integers(10**6):07d}" for _ in range(n)],
        }
    )
    return table, np.isin(label, sorted(PAD.malignant)), rng


def found(table: pd.DataFrame, **more: object) -> label_attributes.AttributeSearch:
    return label_attributes.search(table, PAD, label_attributes.columns_of(table), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_planted_is_nothing_named(seed: int) -> None:
    answer = found(cases(seed)[0], ordered=True)
    assert answer.rows.empty, answer.sentences
    assert "none nearly says the label" in answer.verdict
    assert answer.searched["pairs"] > 20


Plant = Callable[[pd.DataFrame, np.ndarray, np.random.Generator], object]
NUMBER = {code: i + 1 for i, code in enumerate(CODES)}


def _dated(malignant: np.ndarray, rng: np.random.Generator) -> list[str]:
    year = np.where(malignant, rng.integers(2018, 2021, N), rng.integers(2012, 2017, N))
    return [f"{y}-{rng.integers(1, 13):02d}-{rng.integers(1, 28):02d}" for y in year]


PLANTED: dict[str, Plant] = {
    "flag": lambda t, m, r: np.where(t["class"] == "MEL", "True", "False"),
    "code": lambda t, m, r: t["class"].map({"BCC": "C44.1", "MEL": "C43.9", "SCC": "C44.2", "NEV": "D22"}).fillna("L"),
    "number of the class": lambda t, m, r: t["class"].map(NUMBER).astype(float),
    "shuffled number": lambda t, m, r: t["class"].map(dict(zip(CODES, (4, 1, 6, 2, 5, 3), strict=True))),
    "margin": lambda t, m, r: np.where(m, r.uniform(3, 10, N), r.uniform(0, 2, N)),
    "band": lambda t, m, r: np.where(m, r.uniform(4, 6, N), r.choice([-1, 1], N) * r.uniform(2, 6, N) + 5),
    "decimals": lambda t, m, r: [f"{x:.2f}" if y else f"{x:.1f}" for x, y in zip(r.uniform(1, 9, N), m, strict=True)],
    "last digit": lambda t, m, r: 10 * r.integers(100, 999, N) + np.where(m, 7, 3),
    "parity": lambda t, m, r: 2 * r.integers(100, 9999, N) + m,
    "remainder": lambda t, m, r: 6 * r.integers(100, 9999, N) + t["class"].map(NUMBER),
    "unit": lambda t, m, r: [f"{x} mm" if y else f"{x} cm" for x, y in zip(r.integers(1, 9, N), m, strict=True)],
    "case": lambda t, m, r: [w.upper() if y else w for w, y in zip(r.choice(["arm", "leg"], N), m, strict=True)],
    "blank": lambda t, m, r: [w + " " * int(y) for w, y in zip(r.choice(["arm", "leg"], N), m, strict=True)],
    "free text": lambda t, m, r: [
        f"pat {r.integers(999)} {'suspicious' if y else 'harmless'} spot {r.integers(999)}" for y in m
    ],
    "code in a name": lambda t, m, r: [f"{r.integers(10**6)}-{c[:2]}-{r.integers(10**6)}" for c in t["class"]],
    "date": lambda t, m, r: _dated(m, r),
    "weekday": lambda t, m, r: [
        str((pd.Timestamp("2018-01-01") + pd.Timedelta(days=int(7 * r.integers(200) + d))).date())
        for d in np.where(m, 1, r.choice([0, 2, 3, 4], N))
    ],
    "hour": lambda t, m, r: [f"2020-03-{r.integers(1, 28):02d} {9 if y else 15}:{r.integers(60):02d}" for y in m],
    "length": lambda t, m, r: ["".join(r.choice(list("abcdefg"), 9 if y else 6)) for y in m],
    "sign": lambda t, m, r: np.where(m, -1, 1) * r.integers(1, 900, N),
    "mixed": lambda t, m, r: [y if y else int(x) for x, y in zip(r.integers(2, 9, N), m, strict=True)],
    "list": lambda t, m, r: ["; ".join(sorted({"a", "b" if y else "c", str(r.integers(9))})) for y in m],
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_column_is_named(kind: str) -> None:
    table, malignant, rng = cases()
    table["planted"] = pd.Series(list(PLANTED[kind](table, malignant, rng)), dtype=object)  # type: ignore[call-overload]
    rows = found(table).rows
    assert set(rows.loc[rows["verdict"] == LABEL, "columns"]) == {"planted"}, found(table).sentences
    assert rows["auroc"].max() > 0.99
    assert (rows["kind"] == ATTRIBUTE).all()


def _pair(kind: str, malignant: np.ndarray, rng: np.random.Generator) -> dict[str, object]:
    a, b = rng.integers(0, 2, N), rng.random(N)
    later = rng.integers(0, 900, N)
    start = pd.Timestamp("2015-01-01")
    return {
        "xor": {"one": a, "two": a ^ malignant},
        "xor of words": {"one": np.array(["no", "yes"])[a], "two": np.array(["NO", "YES"])[a ^ malignant]},
        "greater": {"one": b, "two": np.where(malignant, b - 0.2 * rng.random(N), b + 0.2 * rng.random(N))},
        "difference": {"one": later, "two": later + np.where(malignant, 2, rng.choice([1, 3, 4, 5], N))},
        "equal": {
            "one": rng.choice(list("abcdefghijklmnopqrstuv"), N),
            "two": None,
        },
        "dates": {
            "one": [str((start + pd.Timedelta(days=int(x))).date()) for x in later],
            "two": [
                str((start + pd.Timedelta(days=int(x + 3 * y))).date()) for x, y in zip(later, malignant, strict=True)
            ],
        },
        "sum": {"one": a + rng.integers(0, 2, N), "two": None},
    }[kind]


@pytest.mark.parametrize("kind", ["xor", "xor of words", "greater", "difference", "equal", "dates", "sum"])
def test_a_label_hidden_in_two_columns_is_named(kind: str) -> None:
    table, malignant, rng = cases()
    pair = _pair(kind, malignant, rng)
    if kind == "equal":
        other = rng.choice(list("abcdefghijklmnopqrstuv"), N)
        pair["two"] = np.where(malignant, pair["one"], other)  # type: ignore[call-overload]
    if kind == "sum":
        pair["two"] = np.where(malignant, 2, 3) - np.asarray(pair["one"])
    table = table.assign(**{name: list(values) for name, values in pair.items()})  # type: ignore[call-overload]
    answer = found(table)
    assert set(answer.rows.loc[answer.rows["verdict"] == LABEL, "columns"]) == {"one and two"}, answer.sentences


def test_a_label_hidden_in_three_flags_is_named_once() -> None:
    table, malignant, rng = cases()
    a, b = rng.integers(0, 2, N), rng.integers(0, 2, N)
    answer = found(table.assign(one=a, two=b, three=a ^ b ^ malignant))
    assert set(answer.rows["columns"]) == {"one and two and three"}
    assert answer.rows.iloc[0]["target"] == "malignant"


def test_features_and_their_pairs_are_searched_and_advised_differently() -> None:
    table, malignant, rng = cases()
    flipped = np.where(malignant, 1, -1) * rng.choice([-1, 1], N)
    side = rng.choice([-1, 1], N)
    planted = {
        "original_firstorder_Mean": np.where(table["class"] == "MEL", 9.0, 0.0) + rng.random(N),
        "original_glcm_Contrast": side * (1 + rng.random(N)),
        "original_glcm_Energy": side * np.where(malignant, 1, -1) * (1 + rng.random(N)),
        "original_glcm_Entropy": flipped * rng.random(N),
    }
    answer = found(table.assign(**planted))
    rows = answer.rows.set_index("columns")
    assert rows.loc["original_firstorder_Mean", "target"] == "MEL"
    assert rows.loc["original_glcm_Contrast and original_glcm_Energy", "target"] == "malignant"
    assert set(answer.rows["kind"]) == {FEATURE}
    assert all("--radiomics none" in sentence for sentence in answer.sentences)


def test_the_pairs_that_were_not_searched_are_counted() -> None:
    answer = found(cases()[0], most_pairs=5)
    assert answer.searched["pairs"] == 5
    assert f"{answer.searched['pairs_left_out']} pairs" in answer.verdict


def test_a_value_of_one_side_only_is_named_as_part() -> None:
    table, malignant, rng = cases()
    table["biopsied"] = np.where(malignant | (rng.random(N) < 0.4), "True", "False")
    answer = found(table)
    (row,) = answer.rows[answer.rows["columns"] == "biopsied"].to_dict("records")
    assert (row["verdict"], row["target"]) == (PART, "malignant")
    levels = {of["level"]: of for of in json.loads(row["levels"])}
    n_false = int((table["biopsied"] == "False").sum())
    assert (levels["false"]["positive"], levels["false"]["n"]) == (0, n_false)
    assert f"0 of {n_false}" in answer.sentences[0]
    assert row["auroc"] == pytest.approx(
        roc_auc_score(malignant, table["biopsied"] == "True"), abs=0.03
    )  # out of fold: a flag's two scores differ a little from fold to fold


def test_few_patients_leave_it_open() -> None:
    table, malignant, _ = cases(n=12, patients=12)
    table["bleed"] = np.where(malignant, "True", "False")
    answer = found(table)
    rows = answer.rows[answer.rows["columns"] == "bleed"]
    assert set(rows["verdict"]) == {OPEN}
    assert "chance" in answer.sentences[0]
    assert answer.not_searched  # classes of one or two patients


def test_names_and_order_of_cases_are_keys() -> None:
    table, malignant, _ = cases()
    table["image_id"] = [f"{'m' if y else 'b'}_{i:05d}" for i, y in enumerate(malignant)]
    table = table.sort_values("class", kind="stable").reset_index(drop=True)
    rows = found(table, ordered=True).rows
    assert set(rows["columns"]) == {"image_id", label_attributes.ORDER}
    assert set(rows["kind"]) == {KEY}
    assert found(table).of_model.empty


def test_a_label_known_by_patient_alone_is_not_learnt_from_that_patient() -> None:
    """A column that is one value per patient says nothing of a patient who was not seen."""
    rng = np.random.default_rng(0)
    malignant = np.repeat(rng.random(200) < 0.5, 5)
    patient = np.repeat([f"P{i}" for i in range(200)], 5)
    table = pd.DataFrame({"class": np.where(malignant, "MEL", "NEV"), "cluster": patient, "doctor": patient})
    assert found(table).rows.empty


def test_the_auroc_of_levels_is_that_of_its_out_of_fold_scores() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    codes = np.where(rng.random(300) < 0.7, label, rng.integers(0, 5, 300))
    folded = Separation.of(label, np.eye(3, dtype=bool), rng.integers(0, 100, 300).astype(str))
    expected = []
    for t in range(3):
        score = np.zeros(300)
        for fold in range(5):
            learnt = folded.fold != fold
            prior = (label[learnt] == t).mean()
            for i in np.flatnonzero(~learnt):
                same = learnt & (codes == codes[i])
                score[i] = ((label[same] == t).sum() + prior) / (same.sum() + 1)
        expected.append(roc_auc_score(label == t, score))
    assert folded.of_levels(codes, 5) == pytest.approx(expected, abs=2e-3)
    for a, b in itertools.combinations(range(5), 2):
        assert not set(folded.cluster[folded.fold == a]) & set(folded.cluster[folded.fold == b])


def test_the_command_names_it_for_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = cases()[0]
    table["bleed"] = np.where(table["class"] == "MEL", "True", "False")
    table["confirmed_by"] = "histopathology"
    table = table.rename(columns={"class": "dx", "cluster": "patient_id"})
    table.to_csv(tmp_path / "cases.csv", index=False)
    command = ["audit", "--table", str(tmp_path / "cases.csv"), "--truth-column", "dx"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "`bleed` alone nearly says the label" in said
    assert re.search(r"--attributes [a-z0-9 ]*\bisic\b", said)
    assert "leaky" not in said
    assert "confirmed_by" in said
    assert "one value" in said
    rows = read_table(tmp_path / "out" / "label_attributes.parquet")
    assert rows.loc[rows["target"] == "MEL", "columns"].tolist() == ["bleed"]
    written = json.loads((tmp_path / "out" / "label_attributes.json").read_text())
    assert written["found"][0]["n_positive"] == int((table["dx"] == "MEL").sum())
    assert main([*command, "--leave-out", "bleed", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["audits"].values()
    assert not any("bleed" in found["columns"] for found in answer["label_attributes"]["found"])
    assert main([*command, "--leave-out", "blood", "--json"]) == 2
    assert "blood" in json.loads(capsys.readouterr().out)["error"]["found"]
    assert main([*command, "--no-values", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["audits"].values()
    assert "label_attributes" not in answer


def test_how_a_diagnosis_was_confirmed_stands_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Even where another cue has the same values in every case."""
    table, malignant, rng = cases()
    table["confirmed_by"] = np.where(malignant, "histopathology", "clinical")
    table["biopsied"] = np.where(malignant, "True", "False")
    table["smoke"] = np.where(malignant, rng.choice(["True", "False"], N), None)
    table = table.rename(columns={"class": "dx", "cluster": "patient_id"})
    table.to_csv(tmp_path / "cases.csv", index=False)
    command = ["audit", "--table", str(tmp_path / "cases.csv"), "--truth-column", "dx"]
    assert main([*command, "--no-values"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("confirmed_by" in line and "strong" in line for line in lines)


@pytest.mark.parametrize("attributes", ["pad81", "isic"])
def test_a_model_that_reads_the_label_carries_a_warning(
    tmp_path: Path, attributes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In training, evaluation, card and report; not where its encoder leaves the attribute out."""
    workspace = written_artifacts.make_workspace(
        tmp_path, {"clinic": "development"}, segmenter="truth", model="lightgbm", classes="pad6"
    )
    frame = small_cohort.write_cohort(workspace, "clinic", 36, seed=1)
    frame["bleed"] = np.where(frame["diagnosis"] == "melanoma", "True", "False")
    frame["age_years"] = np.random.default_rng(0).integers(20, 90, len(frame)).astype(float)
    small_cohort.write_fused(workspace, "clinic", frame)
    where = ["-w", str(tmp_path), "--no-upstream"]
    assert main(["split", "--folds", "2", "--validation", "0.34", *where]) == 0
    assert main(["train", "--attributes", attributes, "--radiomics", "none", *where]) == 0
    said = capsys.readouterr()
    warned = "`bleed` alone" in said.out + said.err
    assert warned == (attributes == "pad81")
    model = open_artifact(workspace.path(Ref("models", name="lightgbm")))
    named = model.json("model.json").get("label_attributes", [])
    assert [(each["columns"], each["target"]) for each in named] == ([("bleed", "MEL")] if warned else [])
    assert ("`bleed` alone" in (model.path / "model_card.md").read_text()) == warned
    for stage in ("predict", "evaluate"):
        assert main([stage, "--no-shortcuts"][: 1 + (stage == "evaluate")] + where) == 0
    assert ("lightgbm reads: `bleed` alone" in capsys.readouterr().out) == warned
    metrics = open_artifact(workspace.path(Ref("metrics", "clinic", "lightgbm")))
    assert metrics.info.get("label_attributes", []) == named
    assert main(["report", *where]) == 0
    page = next((workspace.artifacts / "report").rglob("index.html")).read_text()
    assert ("bleeds (MEL, AUROC 1.00, n = 72)" in page) == warned
    assert main(["audit", *where[:2]]) == 0
    table = read_table(tmp_path / "audit" / "clinic" / "label_attributes.parquet")
    assert FEATURE in set(table["kind"])


def test_warnings_of_many_features_share_a_sentence_and_an_attribute_never_does() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(["MEL", "NEV"], 40)
    tell = (classes == "MEL").astype(float)
    table = pd.DataFrame(
        {"class": classes, "cluster": np.arange(80).astype(str), "bleed": np.where(tell > 0, "yes", "no")}
    )
    for number in range(9):
        table[f"original_glcm_{number}"] = tell + 0.01 * rng.normal(size=80)
    kinds = {"bleed": ATTRIBUTE, **{name: FEATURE for name in table if name.startswith("original")}}
    named = label_attributes.search(table, PAD, kinds, most_pairs=0, most_triples=0)
    assert len(named.worth_a_warning()) == 10
    assert len(named.warnings) < 6
    assert sum("bleed" in sentence for sentence in named.warnings) == 1
