"""Papers run again: what is found, what is set side by side, and the whole command on phantoms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinkit import cli
from skinkit.commands.reproduce import candidates, find_cohorts
from skinkit.data.phantoms import Hospital, write_cohort
from skinkit.errors import InputError
from skinkit.figures import panels
from skinkit.reporting import reproduction
from skinkit.reporting.reproduction import Run
from skinkit.studies import Exhibit, Published, load_study

HOSPITAL = """title = "Phantoms"
file = "lesions.csv"
modality = "dermoscopic"
masks = "masks/{stem}.png"

[columns]
image = "file"
patient_id = "patient"
lesion_id = "lesion"
diagnosis = "diagnosis"
age_years = "age"
sex = "sex"
site = "region"
"""
COLUMNS = ("file", "patient", "lesion", "diagnosis", "age", "sex", "region")
OURS = {"age": "age_years"}


def hospital(folder: Path, letter: str, lesions: int, seed: int) -> None:
    """A hospital's folder of drawn lesions."""
    rows = write_cohort(folder, Hospital(letter), lesions, seed=seed)
    lines = [",".join(COLUMNS), *(",".join(str(row[OURS.get(name, name)]) for name in COLUMNS) for row in rows)]
    (folder / "lesions.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "cohort.toml").write_text(HOSPITAL, encoding="utf-8")


def reproduce(data: Path, out: Path, *more: str) -> int:
    return cli.main(
        ["reproduce", "wang2024", "--data", str(data), "--out", str(out), "--weights", "none", "--no-selection",
         "--settings=side_px=32,image_epochs=0,epochs=1,batch=8,branch_width=8", "--bootstrap", "20", "--jobs", "1",
         "--device", "cpu", "--quiet", *more]
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- the data


def test_cohorts_are_found_by_their_names_and_further_hospitals_by_their_description(tmp_path: Path) -> None:
    for name in ("ISIC_2019", "isic 2018", "jinan", "elsewhere", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere" / "cohort.toml").write_text(HOSPITAL)
    found = find_cohorts(load_study("wang2024"), str(tmp_path))
    # Jinan has no public source: without a description of its table it cannot be read.
    assert {name: cohort.role for name, (cohort, _) in found.items()} == {
        "isic-2019": "development",
        "isic-2018": "external",
        "elsewhere": "external",
    }
    (tmp_path / "jinan" / "cohort.toml").write_text(HOSPITAL)
    assert "jinan" in find_cohorts(load_study("wang2024"), str(tmp_path))


def test_the_archive_may_have_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "PAD-UFES-20").mkdir()
    (cohort, path) = find_cohorts(load_study("dermacalibra"), str(tmp_path))["pad"]
    assert (cohort.source, path.name) == ("pad-ufes-20", "PAD-UFES-20")


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_a_wrong_folder_is_exit_4_and_names_the_cohorts(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(tmp_path / name)] if name else []
    assert cli.main(["reproduce", "wang2024", *given, "--out", str(tmp_path / "w")]) == 4
    told = capsys.readouterr().err
    assert "isic-2019 (development)" in told
    assert "--data" in told
    assert not (tmp_path / "w").exists()


def test_a_folder_without_anything_to_learn_from_is_told_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError) as error:
        find_cohorts(load_study("wang2024"), str(tmp_path))
    assert "nothing to learn from" in error.value.found
    assert "photos" in error.value.found


@pytest.mark.parametrize(
    ("arguments", "found"),
    [(["wang"], "did you mean 'wang2024'"), (["wang2024", "--only", "fig77"], "did you mean 'fig7'")],
)
def test_what_is_misspelt_is_exit_2(
    arguments: list[str], found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", *arguments, "--data", str(tmp_path)]) == 2
    assert found in capsys.readouterr().err


def test_a_wrong_preset_is_told_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "isic-2019").mkdir(parents=True)
    assert reproduce(tmp_path / "data", tmp_path / "w", "--preset", "quik") == 2
    assert "did you mean 'quick'" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


# --------------------------------------------------------------------------------------------------- side by side


def how(preset: str = "wang2024", missing: Sequence[str] = ()) -> Run:
    study = load_study("wang2024")
    gone = [cohort for cohort in study.cohorts if cohort.name in missing]
    return Run(study, preset, (), "", "otsu", {}, gone, study.protocols, {})


def test_a_number_of_the_paper_stands_beside_ours_with_the_reasons() -> None:
    part: Exhibit = load_study("wang2024").part("fig7")
    number: Published = load_study("wang2024").numbers("fig7")[0]
    ours = {"estimate": 0.7, "lower": 0.6, "upper": 0.8, "n": 50}
    rows = {r.published: r for r in reproduction.beside(how(missing=["jinan"]), part, {"grouped": {number: ours}})}
    assert rows[number].ours == {"grouped": ours}
    assert rows[number].comparable == "no"  # another protocol than the paper's
    assert any("HAM10000" in text for text in rows[number].why)
    absent = next(row for row in rows.values() if row.published.cohort == "jinan")
    assert absent.why == ["the cohort jinan is not there"]
    same = reproduction.beside(how(), part, {"paper": {number: ours}})[0]
    assert same.comparable == "in part"
    quick = reproduction.beside(how("quick"), part, {"paper": {number: ours}})[0]
    assert quick.comparable == "no"
    assert any("preset quick" in text for text in quick.why)


def test_other_peoples_rows_say_why_they_are_not_comparable() -> None:
    study = load_study("wang2024")
    table = reproduction.cited_table(study.cited, [("skinkit", "here", 6, {"auroc": {"estimate": 0.9}})])
    lines = table.splitlines()
    assert len(lines) == 2 + len(study.cited) + 1
    assert all("| no: " in line for line in lines[2:-1])
    assert "| skinkit | here | 6 | - | - | - | 0.900 | - |" in lines[-1]
    xing = next(line for line in lines if "Xing" in line)
    assert "| 0.846 | 0.860 | 0.846 | 0.922 |" in xing


def case(name: str, sick: bool, call: str, veto: bool, malignancy: float) -> dict[str, Any]:
    return {"case_id": name, "is_malignant": sick, "call": call, "veto": veto, "malignancy": malignancy}


def test_candidates_are_one_of_each_kind_or_those_named() -> None:
    rows = [
        case("a", True, "malignant", False, 0.9), case("b", True, "malignant", False, 0.7),
        case("c", True, "malignant", False, 0.8), case("d", True, "malignant", True, 0.4),
        case("e", True, "benign", False, 0.1), case("f", False, "benign", False, 0.05),
    ]  # fmt: skip
    assert [row["case_id"] for row in candidates(rows, ())] == ["d", "c", "e", "f"]
    assert [row["case_id"] for row in candidates(rows, ("f", "b"))] == ["b", "f"]


def test_candidate_panels_show_classes_malignancy_and_call(tmp_path: Path) -> None:
    row = {
        "class": "MEL", "top1": "NEV", "top1_p": 0.6, "top2": "MEL", "top2_p": 0.35, "malignancy": 0.38,
        "threshold": 0.3, "call": "malignant", "veto": True,
    }  # fmt: skip
    photo = np.full((40, 60, 3), 180, dtype=np.uint8)
    files = panels.candidate_panels([(row, photo)], {"NEV": "nevus", "MEL": "melanoma"}, tmp_path, "six")
    svg = Path(files["svg"]).read_text()
    for text in ("truth: melanoma", "called malignant, by the veto", "malignant (from 0.3)", "0.38"):
        assert text in svg


# ------------------------------------------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("reproduce")
    hospital(folder / "data" / "ISIC-2019", "A", 40, seed=1)
    hospital(folder / "data" / "jinan", "J", 12, seed=2)
    assert reproduce(folder / "data", folder / "w", "--arms", "metadata,full") == 0
    return folder / "data", folder / "w"


@pytest.mark.slow
def test_the_page_holds_every_part_and_says_what_is_missing(again: tuple[Path, Path]) -> None:
    _, out = again
    page = (out / "reproduction" / "wang2024.md").read_text()
    study = load_study("wang2024")
    for part in study.parts:
        assert f"## {part.title}" in page
    assert "longhua: NOT THERE" in page
    assert "could not be learnt from" in page
    assert "NOT A RESULT" in page
    told = json.loads((out / "reproduction" / "wang2024.json").read_text())
    assert told["protocols"] == ["grouped", "paper"]
    assert set(told["missing_cohorts"]) == {"isic-2016", "isic-2017", "isic-2020", "isic-2018", "longhua"}
    numbers = told["parts"]["fig7"]["numbers"]
    full = next(n for n in numbers if (n["cohort"], n["arm"]) == ("jinan", "full"))
    assert full["paper"] == 0.949
    assert set(full["ours"]) == {"grouped", "paper"}
    assert full["comparable"] == "no"
    assert any("random numbers" in why for why in full["why"])
    for picture in ("wang2024/grouped/roc.svg", "wang2024/paper/candidates-jinan.png"):
        assert (out / "reproduction" / picture).is_file()
        assert picture.replace(".png", ".svg") in page


@pytest.mark.slow
def test_a_second_run_trains_nothing_and_writes_the_same_page(
    again: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = again
    page = (out / "reproduction" / "wang2024.md").read_bytes()
    looks = (out / "looks.jsonl").read_bytes()
    assert reproduce(data, out, "--arms", "metadata,full") == 0
    assert "0 models trained" in capsys.readouterr().out
    assert (out / "reproduction" / "wang2024.md").read_bytes() == page
    assert (out / "looks.jsonl").read_bytes() == looks


@pytest.mark.slow
def test_one_part_alone_can_be_asked_for(again: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    data, out = again
    assert reproduce(data, out, "--only", "table3", "--protocols", "grouped", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["parts"]) == ["table3"]
