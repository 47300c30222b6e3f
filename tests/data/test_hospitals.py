"""The hospitals of the papers as templates: they load, a hospital's own table works in them, wrong counts are told."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from source_tables import listed, photo, table

from skinkit.console import Console
from skinkit.data import find_files
from skinkit.errors import ConfigError
from skinkit.pipeline import Pipeline
from skinkit.stages.ingest import _auroc_of_recorded
from skinkit.taxonomy import MALIGNANT_SETS, class_set
from skinkit.workspace import Cohort, load_workspace

HOSPITALS = Path(__file__).parents[2] / "examples" / "hospitals"
TOTALS = {"jinan": 336, "longhua": 706, "changzhou": 20}
WANG = "image,patient_id,lesion_id,diagnosis,age,sex,site"
CHANGZHOU = (
    "img_id,patient_id,lesion_id,diagnostic,biopsed,age,gender,region,smoke,drink,background_father,background_mother,"
    "pesticide,skin_cancer_history,cancer_history,has_piped_water,has_sewage_system,fitspatrick,diameter_1,diameter_2,"
    "itch,grew,hurt,changed,bleed,elevation"
)
ASKED = "True,NECK,True,False,CHINA,CHINA,False,False,True,True,True,3,6,5,True,UNK,False,True,True,False"


def ingest(root: Path, name: str) -> tuple[Pipeline, str]:
    text = f'[cohorts.{name}]\nrole = "external"\nsource = "folder"\npath = "{name}"\n'
    (root / "skinkit.toml").write_text(text, encoding="utf-8")
    stream = io.StringIO()
    pipeline = Pipeline(load_workspace(root), Console(stream=stream))
    pipeline.make("ingest", {})
    return pipeline, stream.getvalue()


def hospital(root: Path, name: str, header: str, rows: list[str]) -> None:
    shutil.copytree(HOSPITALS / name, root / name)
    table(root / name / "lesions.csv", header, *rows)
    for i, row in enumerate(rows):
        photo(root / name / "images" / row.split(",")[0], i)


@pytest.mark.parametrize("name", TOTALS)
def test_the_counts_of_a_template_add_up(name: str, tmp_path: Path) -> None:
    shutil.copytree(HOSPITALS / name, tmp_path / name)
    table(tmp_path / name / "lesions.csv", CHANGZHOU if name == "changzhou" else WANG)
    expected = dict(find_files(Cohort(name, "external", "folder", tmp_path / name)).source.expected)
    assert expected.pop("total") == sum(expected.values()) == TOTALS[name]
    assert "README.md" in {file.name for file in (HOSPITALS / name).iterdir()}


def test_changzhou_with_its_twenty_photos_says_nothing_of_counts(tmp_path: Path) -> None:
    counts = {"BCC": 6, "NEV": 6, "SCC": 3, "SEK": 3, "MEL": 1, "ACK": 1}
    codes = [code for code, n in counts.items() for _ in range(n)]
    rows = [
        f"{i}.jpg,P{i},1,{code},True,61,{ASKED.replace('True,NECK', 'FEMALE,NECK', 1)}" for i, code in enumerate(codes)
    ]
    hospital(tmp_path, "changzhou", CHANGZHOU, rows)
    pipeline, said = ingest(tmp_path, "changzhou")
    row = pipeline.steps[0].artifact.table().iloc[0]
    assert "expected_counts" not in said
    assert [row[n] for n in ("region", "site", "sex", "grew", "fitzpatrick", "modality")] == [
        "NECK", "head/neck", "female", "UNK", 3.0, "clinical",
    ]  # fmt: skip
    assert pipeline.steps[0].artifact.manifest["counts"]["rows"] == 20


@pytest.mark.parametrize("name", ["jinan", "longhua"])
def test_other_counts_are_told_and_never_an_error(tmp_path: Path, name: str) -> None:
    rows = ["a.jpg,P1,1,MM,58岁,女,面部", "b.jpg,P1,2,NV,40,male,torso", "c.jpg,P2,1,AK,71,男,palms/soles"]
    hospital(tmp_path, name, WANG, rows)
    pipeline, said = ingest(tmp_path, name)
    frame = pipeline.steps[0].artifact.table()
    assert frame["diagnosis"].tolist() == ["melanoma", "nevus", "actinic_keratosis"]
    assert frame["site"].tolist() == ["head/neck", "torso", "palms/soles"]
    assert frame["group_id"].tolist() == [f"{name}:patient:P1", f"{name}:patient:P1", f"{name}:patient:P2"]
    assert f"melanoma 1 instead of {28 if name == 'jinan' else 29}" in said
    assert f"total 3 instead of {TOTALS[name]}" in said
    assert "2 images share their patient with another one" in said


@pytest.mark.parametrize(("line", "told"), [("melanom = 3", "melanom"), ('nevus = "3"', "nevus = '3'")])
def test_wrong_expected_counts_name_the_file(tmp_path: Path, line: str, told: str) -> None:
    table(tmp_path / "t.csv", "image", "a.jpg")
    (tmp_path / "cohort.toml").write_text(f'file = "t.csv"\n[columns]\nimage = "image"\n[expected_counts]\n{line}\n')
    with pytest.raises(ConfigError, match=told):
        listed(tmp_path)


def test_who_lacks_the_patient_block_is_told(tmp_path: Path) -> None:
    asked = ASKED.replace("True,NECK", "FEMALE,NECK", 1)
    unasked = "," + "ARM" + "," * 12 + "False,False,False,False,False,False"
    rows = [f"{i}.jpg,P{i},1,{'BCC' if i < 4 else 'NEV'},True,61,{asked}" for i in range(6)]
    rows += [f"{i}.jpg,P{i},1,{'ACK' if i == 6 else 'SEK'},False,50,{unasked}" for i in range(6, 9)]
    hospital(tmp_path, "changzhou", CHANGZHOU, rows)
    pipeline, said = ingest(tmp_path, "changzhou")
    block = pipeline.steps[0].artifact.info["patient_block"]
    assert (block["rows"], block["lacking"]) == (9, 3)
    # pad: 4 of 4 malignant known, 2 of 5 benign known; wang: 4 of 5 malignant known, 2 of 4 benign known.
    assert block["malignant_sets"]["pad"] == {"malignant_lacking": 0, "auroc_of_known_sex": pytest.approx(0.8)}
    assert block["malignant_sets"]["wang"] == {"malignant_lacking": 1, "auroc_of_known_sex": pytest.approx(0.65)}
    assert "3 of 9 labelled rows lack the patient block" in said
    assert "see 'skinkit audit'" in said


@pytest.mark.real
def test_missing_metadata_tell_the_class_in_pad(real_data: Path) -> None:
    rows = listed(real_data / "pad", "pad-ufes-20").rows
    found = {name: _auroc_of_recorded("sex", rows, malignant) for name, malignant in MALIGNANT_SETS.items()}
    assert {name: round(value or 0, 2) for name, value in found.items()} == {"pad": 0.83, "wang": 0.75}


@pytest.mark.parametrize(
    ("name", "classes", "malignant"),
    [
        ("isic2017", ("MEL", "SK", "NV"), {"MEL"}),
        ("wang4", ("NV", "BKL", "MM", "BCC"), {"MM", "BCC"}),
        ("isic2018-7", ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"), {"MEL", "BCC", "AKIEC"}),
        ("wang8", ("NV", "BKL", "DF", "VASC", "AK", "MM", "BCC", "SCC"), {"AK", "MM", "BCC", "SCC"}),
    ],
)
def test_class_sets_of_the_isic_years(name: str, classes: tuple[str, ...], malignant: set[str]) -> None:
    found = class_set(name)
    assert found.classes == classes
    assert found.malignant == malignant
    assert found.malignant_set == "wang"
    assert found.to_class("nevus") == "NV"
    assert found.to_class("seborrheic_keratosis") == ("SK" if name == "isic2017" else "BKL")
    assert class_set(name, "pad").malignant == malignant - {"AK", "AKIEC"}
