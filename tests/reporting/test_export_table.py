"""What a hospital information system reads: no case is lost, no cell is run, no sign is replaced."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from written_artifacts import make_workspace, write

from skinkit.artifacts import csv as csv_text
from skinkit.artifacts.artifact import ArtifactRecipe
from skinkit.artifacts.builder import Builder
from skinkit.cli import main
from skinkit.schemas import CASES, PREDICTIONS
from skinkit.workspace import Ref, Workspace

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1+1"]


def write_cases(workspace: Workspace, *rows: dict[str, Any], run: str = "first") -> None:
    """Cases of the cohort ``ward``."""
    recipe = ArtifactRecipe("cases", 1, "ingest", 1, {}, {"of": repr(rows)})
    with Builder(workspace.path(Ref("cases", "ward")), CASES, recipe, run=run) as build:
        build.plan({(row["image_id"],): f"{row}" for row in rows})
        for row in rows:
            build.add({"case_id": row["image_id"], **row})
        build.finish()


def predict(workspace: Workspace, *rows: dict[str, Any], run: str = "first") -> None:
    """Predictions of the cohort ``ward``."""
    recipe = ArtifactRecipe("predictions", 1, "predict", 1, {}, {"of": repr(rows)})
    full = [
        {"level": "image", "image_id": row["case_id"], "model": "m", "model_identity": "hash", **row} for row in rows
    ]
    with Builder(workspace.path(Ref("predictions", "ward", "m")), PREDICTIONS, recipe, run=run) as build:
        todo = set(build.plan({(row["level"], row["case_id"]): f"{row}" for row in full}))
        for row in full:
            if (row["level"], row["case_id"]) in todo:
                build.add(row)
        build.finish()


BENIGN = {"malignancy": 0.125, "call": "benign", "refer": False, "status": "ok"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An inference cohort of which one case was predicted, one failed at each of two stages, one waits."""
    made = make_workspace(tmp_path / "w", {"ward": "inference"}, model="m")
    write_cases(
        made,
        {"image_id": "a", "accession": "ACC1", "patient_id": "P1", "lesion_id": "L1", "status": "ok"},
        {"image_id": "b", "patient_id": "P1", "status": "failed", "reason": "image_truncated"},
        {"image_id": "c", "lesion_id": "L3", "status": "ok"},
        {"image_id": "d", "patient_id": "P4", "lesion_id": "L4", "status": "ok"},
    )
    predict(
        made,
        {"case_id": "a", "patient_id": "P1", "lesion_id": "L1", **BENIGN},
        {"case_id": "c", "lesion_id": "L3", "status": "failed", "reason": "image_changed"},
        {"case_id": "L1", "level": "lesion", "image_id": "a", "patient_id": "P1", "lesion_id": "L1", **BENIGN},
        {"case_id": "P1", "level": "patient", "image_id": "a", "patient_id": "P1", "lesion_id": "L1", **BENIGN},
        {"case_id": "L3", "level": "lesion", "status": "excluded", "reason": "cases_failed"},
    )
    return made


def exported(workspace: Workspace, *options: str | Path) -> list[dict[str, str]]:
    """The rows of the CSV file."""
    file = workspace.root / "out.csv"
    assert main(["export", "-w", str(workspace.root), "--csv", str(file), *map(str, options)]) == 0
    return list(csv.DictReader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline="")))


def test_every_case_is_a_row_with_its_outcome(workspace: Workspace) -> None:
    rows = exported(workspace)
    outcomes = [(row["accession"], row["case"], row["status"], row["reason"]) for row in rows]
    assert outcomes == [
        ("ACC1", "a", "ok", ""),
        ("b", "b", "failed", "image_truncated"),
        ("c", "c", "failed", "image_changed"),
        ("d", "d", "pending", "not_predicted"),
    ]
    first = rows[0]
    assert (first["malignancy"], first["call"], first["refer"]) == ("0.125", "benign", "false")
    assert (first["patient"], first["lesion"], first["model"], first["model_hash"]) == ("P1", "L1", "m", "hash")
    assert first["run"] == "first"
    assert first["time"]


@pytest.mark.parametrize(
    ("level", "found"),
    [
        ("lesion", [("L1", "ok"), ("L3", "excluded"), ("L4", "pending"), ("", "failed")]),
        ("patient", [("P1", "ok"), ("P4", "pending"), ("", "failed")]),
    ],
)
def test_no_case_is_lost_at_other_levels(workspace: Workspace, level: str, found: list[tuple[str, str]]) -> None:
    rows = exported(workspace, "--level", level)
    assert sorted((row[level], row["status"]) for row in rows) == sorted(found)
    alone = next(row for row in rows if row[level] == "")
    assert (alone["level"], alone["case"]) == ("image", {"lesion": "b", "patient": "c"}[level])


def test_since_gives_what_is_new_and_only_that(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "-w", str(workspace.root), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert len(first["cases"]) == 4
    assert exported(workspace, "--since", first["until"]) == []
    changed = {"patient_id": "P4", "lesion_id": "L4", **BENIGN}
    predict(
        workspace,
        {"case_id": "a", "patient_id": "P1", "lesion_id": "L1", **BENIGN},
        {"case_id": "c", "lesion_id": "L3", "status": "failed", "reason": "image_changed"},
        {"case_id": "d", **changed},
        run="second",
    )
    assert [row["case"] for row in exported(workspace, "--since", first["until"])] == ["d"]
    # A run's id stands for the moment it began, also where it made no row.
    assert [row["case"] for row in exported(workspace, "--since", "20000101T000000Z-1")] == ["a", "b", "c", "d"]
    assert exported(workspace, "--since", "21000101T000000Z-1") == []
    assert exported(workspace, "--since", "2100-01-01") == []


def test_a_wrong_since_is_a_wrong_call(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "-w", str(workspace.root), "--since", "yesterday"]) == 2
    assert "run id" in capsys.readouterr().err


def test_without_predictions_it_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_workspace(tmp_path / "w", {"ward": "inference"}, model="m")
    assert main(["export", "-w", str(made.root)]) == 4
    assert "no model 'm'" in capsys.readouterr().err
    write(made, Ref("models", name="m"), [])
    assert main(["export", "-w", str(made.root)]) == 4
    assert "run 'skinkit predict --cohort ward --model m' first" in capsys.readouterr().err


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_run_is_text(tmp_path: Path, text: str) -> None:
    made = make_workspace(tmp_path / "w", {"ward": "inference"}, model="m")
    write_cases(made, {"image_id": "a", "patient_id": text, "status": "failed", "reason": "image_empty"})
    predict(made)
    (row,) = exported(made)
    assert row["patient"] == f"'{text}"


def test_numbers_stay_numbers_and_odd_signs_do_no_harm() -> None:
    assert csv_text.cell(-0.5) == "-0.5"
    assert csv_text.cell("-12") == "-12"
    assert csv_text.cell("+1e-5") == "+1e-5"
    assert csv_text.cell("a\0b") == "ab"
    assert csv_text.cell(float("nan")) == csv_text.cell(None) == ""
    assert csv_text.cell("\0=1+1") == "'=1+1"
    rows = [{"a": 'line\nbreak, "quoted"', "b": "次"}]
    for crlf in (True, False):
        data = csv_text.encoded(("a", "b"), rows, "gb18030", crlf=crlf)
        assert list(csv.DictReader(io.StringIO(data.decode("gb18030"), newline=""))) == rows
        assert data.endswith(b"\r\n") is crlf


@pytest.mark.parametrize("encoding", csv_text.ENCODINGS)
def test_encodings_hold_every_name(workspace: Workspace, encoding: str) -> None:
    write_cases(workspace, {"image_id": "张三𠮷é", "status": "failed", "reason": "image_empty"})
    file = workspace.root / "out.csv"
    assert main(["export", "-w", str(workspace.root), "--csv", str(file), "--encoding", encoding]) == 0
    data = file.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf") is (encoding == "utf-8-sig")
    assert "张三𠮷é" in data.decode(encoding)


def test_a_sign_the_encoding_lacks_names_its_row_and_writes_nothing(tmp_path: Path) -> None:
    rows = [{"a": "fine", "b": 1}, {"a": "lost \udce9", "b": 2}]
    with pytest.raises(csv_text.InputError, match=r"row 2 .* column 'a': U\+DCE9"):
        csv_text.encoded(("a", "b"), rows, "gb18030")


def test_other_tables_are_harmless_too() -> None:
    frame = pd.DataFrame({"=a": ["=1+1", "fine", None], "n": [-1.5, 2.0, float("nan")]})
    told = csv_text.escaped(frame).to_csv(index=False, lineterminator="\n")
    assert told == "'=a,n\n'=1+1,-1.5\nfine,2.0\n,\n"
    assert frame.loc[0, "=a"] == "=1+1", "the frame itself stays as it was"
