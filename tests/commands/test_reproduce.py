"""Papers run again: what is found, what is set side by side, and the whole command on phantoms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_skinkit

import skinkit
from skinkit import cli
from skinkit.commands.reproduce import candidates, find_cohorts
from skinkit.data.phantoms import Hospital, write_cohort
from skinkit.errors import ConfigError, InputError
from skinkit.figures import panels
from skinkit.reporting import reproduction
from skinkit.reporting.reproduction import Run
from skinkit.studies import Exhibit, Published, load_study, selection
from skinkit.studies.reading import read_study
from skinkit.taxonomy import class_set

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
         "--settings=side_px=32,image_epochs=0,recipe.epochs=1,recipe.batch=8,branch_width=8", "--bootstrap", "20",
         "--jobs", "1", "--device", "cpu", "--allow-untrained", "some eight validation cases", "--quiet", *more]
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


def test_the_only_development_cohort_may_be_the_folder_itself(tmp_path: Path) -> None:
    root = tmp_path / "release_v0"
    (root / "meta").mkdir(parents=True)
    (root / "images").mkdir()
    with pytest.raises(InputError):
        find_cohorts(load_study("soft_attention"), str(root))
    (root / "meta" / "meta.csv").write_text("case_num,diagnosis,clinic,derm\n")
    (cohort, path) = find_cohorts(load_study("soft_attention"), str(root))["derm7pt"]
    assert (cohort.source, path) == ("derm7pt", root)


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


def test_the_workspace_takes_no_folder_of_other_files_and_none_of_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, mine = tmp_path / "data" / "PAD-UFES-20", tmp_path / "mine"
    for folder in (photos, mine):
        folder.mkdir(parents=True)
        (folder / "mine.txt").touch()
    for out, found in ((mine, "has files"), (photos / "w", "among the files of pad")):
        assert cli.main(["reproduce", "dermacalibra", "--data", str(tmp_path / "data"), "--out", str(out)]) == 2
        assert found in capsys.readouterr().err
        assert [path.name for folder in (photos, mine) for path in folder.iterdir()] == ["mine.txt"] * 2


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


# ----------------------------------------------------------------------------------------------- a study as a file

STUDY = """
title = "A paper"
citation = "A. Liu, 2030"
classes = "pad6"
malignant = "pad"
preset = "quick"
cohorts = [{ name = "clinic", role = "development", source = "", words = "a clinic" }]
protocols = [{ name = "grouped", words = "patients together" }]
arms = [
  { name = "metadata", words = "metadata", model = "logistic" },
  { name = "trees", words = "trees", model = "lightgbm", extends = ["metadata"] },
]
exhibits = [{ name = "table1", title = "Table 1", kind = "ablation" }]

[selection]
classes = "pad6"
fewest = 7
complete = ["sex"]
paper = { identified = 10, kept = 9 }

[[numbers]]
exhibit = "table1"
unit = "%"
source = "Table 1"
cohort = "clinic"
by = ["figure"]
across = "arm"
columns = ["metadata", "trees"]
rows = [["all auroc macro", "-", [81.0, 2.0]], ["all accuracy @ argmax", 70, { value = 3, of = 4 }]]
"""
STUDY_CODE = """
from skinkit.studies.reading import read_study
from skinkit.taxonomy import class_set
from skinkit.studies.study import PublishedSplit


def divide(labels, share, seed):
    import pandas as pd

    return pd.DataFrame({"folder": [i % 3 for i in range(len(labels))]})


STUDY = read_study(__file__, [PublishedSplit("thirds", "Liu 2030", divide)])
"""


def write_study(folder: Path, name: str = "liu2030") -> None:
    """A study as a third party installs it."""
    (folder / f"{name}.py").write_text(STUDY_CODE, encoding="utf-8")
    (folder / f"{name}.toml").write_text(STUDY, encoding="utf-8")
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[skinkit.studies]\n{name} = {name}\n")


def test_a_study_of_a_third_party_is_known_everywhere_without_another_edit(tmp_path: Path) -> None:
    write_study(tmp_path)
    code = (
        "import sys, json\n"
        "from typing import get_args\n"
        "from skinkit.options import options_of\n"
        "from skinkit.stages import load_stage\n"
        "from skinkit.commands import load_command\n"
        "from skinkit.studies import load_study\n"
        "def option(module, name): return next(o for o in options_of(module.Config) if o.name == name)\n"
        "number = {(n.arm, n.figure): [n.value, n.sd] for n in load_study('liu2030').published}\n"
        "print(json.dumps({'selection': get_args(option(load_stage('ingest'), 'selection').type),\n"
        " 'paper': get_args(option(load_command('flow'), 'paper').type),\n"
        " 'protocol': get_args(option(load_stage('split'), 'protocol').type),\n"
        " 'ablate': option(load_command('ablate'), 'paper').help.text,\n"
        " 'reproduce': option(load_command('reproduce'), 'paper').help.text,\n"
        " 'auroc': number['trees', 'all auroc macro'], 'accuracy': number['trees', 'all accuracy @ argmax'],\n"
        " 'n': len(number)}))"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(skinkit.__file__).parent.parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    choices = json.loads(answer.stdout)
    assert {"", "wang2024", "liu2030"} <= set(choices["selection"])
    assert choices["paper"] == choices["selection"]
    assert {"grouped", "derm7pt", "metablock", "paper", "thirds"} == set(choices["protocol"])
    assert "liu2030" in choices["ablate"]
    assert "liu2030" in choices["reproduce"]
    assert (choices["auroc"], choices["accuracy"], choices["n"]) == ([0.81, 0.02], [0.75, None], 3)


def test_a_study_of_a_third_party_selects_and_is_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    write_study(tmp_path / "package", "liu2031")
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    row = {"status": "ok", "sex": None, "modality": "clinical", "diagnosis": "nevus", "diagnosis_source": None}
    assert [r["reason"] for r in selection.within([row], "liu2031")] == ["subject_unknown"]
    assert "reason" not in selection.within([{**row, "sex": "female"}], "liu2031")[0]
    hospital(tmp_path / "data" / "clinic", "A", 40, seed=1)
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "w"), "--bootstrap", "20", "--jobs", "1"]
    path = os.pathsep.join([str(tmp_path / "package"), str(Path(skinkit.__file__).parents[1])])
    monkeypatch.setenv("PYTHONPATH", path)  # options are made when a command is loaded: in a process of its own
    answer = run_skinkit("reproduce", "liu2031", *arguments, "--only", "table1", "--quiet")
    assert answer.returncode == 5, answer.stderr  # so few lesions show nothing: the reason can stand in skinkit.toml
    assert "under [stage.train] of skinkit.toml" in answer.stderr
    with (tmp_path / "w" / "skinkit.toml").open("a", encoding="utf-8") as settings:
        settings.write('\n[stage.train]\nallow_untrained = "some eight validation cases"\n')
    answer = run_skinkit("reproduce", "liu2031", *arguments, "--only", "table1", "--quiet")
    assert answer.returncode == 0, answer.stderr
    page = json.loads((tmp_path / "w" / "reproduction" / "liu2031.json").read_text())
    numbers = page["parts"]["table1"]["numbers"]
    assert [(n["arm"], n["paper"], sorted(n["ours"])) for n in numbers] == [
        ("trees", 0.81, ["grouped"]),
        ("metadata", 0.7, ["grouped"]),
        ("trees", 0.75, ["grouped"]),
    ]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('title = "A paper"', 'titel = "A paper"', "unknown key 'titel'"),
        ('title = "A paper"', "", "no title"),
        ('exhibit = "table1"', 'exhibit = "table2"', "exhibit 'table2'"),
        ('exhibit = "table1"', "", "no exhibit"),
        ('unit = "%"', 'unit = "per mille"', "unit 'per mille'"),
        ('cohort = "clinic"', 'cohort = "ward"', "cohort 'ward'"),
        ('"metadata", "trees"]', '"metadata", "forest"]', "arm 'forest'"),
        ('kind = "ablation"', 'kind = "ablatoin"', "kind 'ablatoin'"),
        (', kind = "ablation"', "", "no kind"),
        ('by = ["figure"]', 'by = ["colour"]', "'colour'"),
        ("fewest = 7", 'fewest = "seven"', "fewest = 'seven'"),
        ("fewest = 7", "fewest = 7\nmost = 8", "unknown key 'most'"),
        ("[81.0, 2.0]", '"many"', "'many'"),
        ('"-", [81.0, 2.0]', "[81.0, 2.0]", "row 1"),
        ("[selection]", "[selection", "liu2030.toml"),
    ],
)
def test_a_wrong_study_is_a_configuration_error_that_says_where(old: str, new: str, found: str, tmp_path: Path) -> None:
    assert old in STUDY
    (tmp_path / "liu2030.toml").write_text(STUDY.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_study(str(tmp_path / "liu2030.py"))
    assert found in error.value.found


def test_a_study_brings_its_own_classes(tmp_path: Path) -> None:
    text = STUDY.replace('classes = "pad6"', 'classes = "two.toml"')
    (tmp_path / "liu2030.toml").write_text(text, encoding="utf-8")
    (tmp_path / "two.toml").write_text('malignant = ["melanoma"]\n[classes]\nM = ["melanoma"]\nN = ["nevus"]\n')
    study = read_study(str(tmp_path / "liu2030.py"))
    assert class_set(study.classes).classes == ("M", "N")
    assert study.selection is not None
    assert class_set(study.selection.classes).malignant == {"M"}


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
    printed = load_study("wang2024").part("fig4")
    assert {row.comparable for row in reproduction.beside(how(), printed, {})} == {"printed only"}
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
    # Shares of the confusion matrix, thresholds tuned on the scored rows and outlines have their own sources.
    overlap = {n["cohort"]: n["ours"] for n in told["parts"]["fig3"]["numbers"]}
    assert 0 < overlap["jinan"]["otsu"]["estimate"] <= 1
    tuned = [n for n in told["parts"]["table2"]["numbers"] if n["figure"].endswith("threshold @ tuned_on_scored")]
    assert any(n["ours"] for n in tuned if n["cohort"] == "jinan")
    assert all(n["comparable"] == "printed only" for n in told["parts"]["methods"]["numbers"])
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
    looks = (out / "test_access_log.jsonl").read_bytes()
    assert reproduce(data, out, "--arms", "metadata,full") == 0
    assert "0 models trained" in capsys.readouterr().out
    assert (out / "reproduction" / "wang2024.md").read_bytes() == page
    assert (out / "test_access_log.jsonl").read_bytes() == looks


@pytest.mark.slow
def test_one_part_alone_can_be_asked_for(again: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    data, out = again
    assert reproduce(data, out, "--only", "table3", "--protocols", "grouped", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["parts"]) == ["table3"]
