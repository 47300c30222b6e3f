"""A paper's selection, step by step, and the flow of images drawn from it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import run_here
from PIL import Image
from written_artifacts import make_workspace, run_stage, write, write_cases

from skinkit.errors import InputError
from skinkit.reporting import flow
from skinkit.studies import selection
from skinkit.workspace import Ref, Workspace, load_workspace

KNOWN = {"age_years": 50.0, "sex": "female", "site": "torso", "modality": "dermoscopic", "diagnosis_source": "x"}


def cases(workspace: Workspace, cohort: str, rows: list[dict[str, Any]]) -> None:
    """Cases of a cohort after its own part of the selection."""
    made = write_cases(workspace, cohort, [{**KNOWN, **row} for row in rows])
    table = made.table()
    chosen = selection.within(table.astype(object).where(table.notna(), None).to_dict("records"), "wang2024")
    write(workspace, Ref("cases", cohort), [{k: r[k] for k in table} for r in chosen], info={"selection": "wang2024"})


def many(n: int, diagnosis: str | None, name: str, **given: Any) -> list[dict[str, Any]]:
    return [{"image_id": f"{name}-{i}", "patient_id": None, "diagnosis": diagnosis, **given} for i in range(n)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two years of an archive with something of everything, and a test set."""
    workspace = make_workspace(
        tmp_path / "ws",
        {"isic2017": "development", "isic2019": "development", "isic2018": "external"},
        classes="wang8",
    )
    cases(
        workspace,
        "isic2017",
        [
            *many(60, "nevus", "a"),
            *many(60, "basal_cell_carcinoma", "b"),
            *many(3, "nevus", "c", status="pending", reason="image_absent"),
            *many(4, "nevus", "d", age_years=None),
            *many(2, "nevus", "e", sex=None, site=None),
        ],
    )
    cases(
        workspace,
        "isic2019",
        [
            *many(70, "nevus", "f"),
            *many(100, "melanoma", "g"),
            # Five images of 2017 again, by their pixels: counted twice the class would have 102.
            *(
                {**row, "pixel_sha256": f"pixels-isic2017-b-{i}"}
                for i, row in enumerate(many(5, "basal_cell_carcinoma", "h"))
            ),
            *many(37, "basal_cell_carcinoma", "i"),
            *many(99, "dermatofibroma", "j"),
            *many(6, None, "k", diagnosis_source="unknown"),
            *many(2, "nevus", "l", modality="clinical"),
            *many(1, "miscellaneous", "m"),
        ],
    )
    test = [*many(20, "nevus", "n"), *many(5, "dermatofibroma", "o"), *many(3, "nevus", "p", site=None)]
    cases(workspace, "isic2018", test)
    return workspace


def test_the_split_decides_what_looks_at_all_development_cohorts(workspace: Workspace) -> None:
    made, said = run_stage(workspace, "split")
    assert made[0].info["selection"] == {
        "rule": "wang2024", "left_out": {"class_too_small": 60 + 37 + 99 + 1, "repeated_elsewhere": 5},
    }  # fmt: skip
    assert made[0].table()["class"].value_counts().to_dict() == {"NV": 130, "MM": 100}
    assert "selection wang2024 over all development cohorts leaves out" in said
    write_cases(workspace, "isic2017", many(4, "nevus", "a"))
    with pytest.raises(InputError) as error:
        run_stage(workspace, "split")
    assert "selections" in error.value.found


def test_every_step_is_counted_by_cohort_and_reason(workspace: Workspace) -> None:
    answer = run_here("flow", "--json", "--paper", "wang2024", "--workspace", workspace.root)
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    rows = {(row["step"], row["reason"]): row for row in told["flow"]["rows"]}
    cohorts = ("isic2017", "isic2019", "isic2018", "total")

    def counts(step: str, reason: str = "") -> list[int]:
        return [rows[step, reason][name] for name in cohorts]

    assert counts("identified") == [129, 320, 28, 477]
    assert counts("image") == [3, 2, 0, 5]
    assert counts("image", "not_dermoscopic") == [0, 2, 0, 2]
    assert counts("subject") == [6, 0, 3, 9]
    assert counts("diagnosis") == [60, 148, 0, 208]
    assert counts("diagnosis", "diagnosis_unconfirmed") == [0, 6, 0, 6]
    assert counts("diagnosis", "repeated_elsewhere") == [0, 5, 0, 5]
    # A class too small to be learnt is scored all the same where a test cohort has it.
    assert counts("kept") == [60, 170, 25, 255]
    assert (told["flow"]["development"], told["flow"]["external"]) == (230, 25)
    assert told["paper"]["kept"] == 42_492
    assert told["paper"]["identified"] - sum(told["paper"][s] for s in ("image", "subject", "diagnosis")) == 42_492
    with (workspace.root / "flow" / "flow.csv").open(encoding="utf-8") as stream:
        assert list(csv.DictReader(stream))[-1] == {
            "step": "kept", "reason": "", "isic2017": "60", "isic2019": "170", "isic2018": "25", "total": "255",
        }  # fmt: skip
    drawn = (workspace.root / "flow" / "flow.svg").read_text(encoding="utf-8")
    for text in (
        "n = 477",
        "not dermoscopic: 2",
        "n = 208",
        "Analysed",
        "isic2019: 170",
        "identified 88,085 (here 477)",
    ):
        assert text in drawn
    with Image.open(workspace.root / "flow" / "flow.png") as picture:
        assert min(picture.size) > 600


def test_without_a_selection_only_what_cannot_be_used_is_left_out(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", {"a": "development"})
    rows = [*many(5, "nevus", "x"), *many(2, None, "y")]
    table = write_cases(workspace, "a", rows).table()
    found = flow.count({"a": table}, {"a": "development"}, "")
    assert [found.lost(step) for step in flow.STEPS] == [0, 0, 2]
    assert found.analysed("development") == {"a": 5}


@pytest.mark.parametrize("role", ["development", "inference"])
def test_ingest_selects_what_a_study_looks_at_and_no_patient(tmp_path: Path, role: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for shade, name in enumerate(("a", "b", "c", "d")):
        Image.new("RGB", (8, 8), (40 * shade if name != "d" else 0, 20, 0)).save(folder / f"{name}.png")
    lines = ["image,dx,age,sex,site", "a,nevus,,female,back", "b,nevus,50,female,back", "c,,50,male,face"]
    (folder / "t.csv").write_text("\n".join([*lines, "d,nevus,50,female,back"]), encoding="utf-8")
    (folder / "cohort.toml").write_text(
        'file = "t.csv"\nmodality = "dermoscopic"\n[columns]\nimage = "image"\ndiagnosis = "dx"\nage_years = "age"\n'
        'sex = "sex"\nsite = "site"\n',
        encoding="utf-8",
    )
    (tmp_path / "skinkit.toml").write_text(
        f'[cohorts.h]\nrole = "{role}"\nsource = "folder"\npath = "data"\n[stage.ingest]\nselection = "wang2024"\n',
        encoding="utf-8",
    )
    made, _ = run_stage(load_workspace(tmp_path), "ingest")
    outcome = made[0].table().set_index("image_id")["reason"].to_dict()
    if role == "inference":
        assert outcome == {"a": None, "b": None, "c": None, "d": "duplicate_content"}
        return
    # The same pixels as a, which has no age and is out: d stays.
    assert outcome == {"a": "subject_unknown", "b": None, "c": "diagnosis_unconfirmed", "d": None}
    assert made[0].info["selection"] == "wang2024"


def test_the_first_step_that_applies_is_the_one_told() -> None:
    row = {**KNOWN, "status": "ok", "reason": None, "detail": None, "diagnosis": None, "age_years": None}
    told = selection.within([row, {**row, "modality": "clinical"}, {**row, "age_years": 3.0}], "wang2024")
    assert [r["reason"] for r in told] == ["subject_unknown", "not_dermoscopic", "diagnosis_unconfirmed"]
    assert told[0]["detail"] == "not known: age_years"
    assert selection.within([row], "") == [row]
