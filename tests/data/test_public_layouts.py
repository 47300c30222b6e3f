"""Public data sets as people have them: other downloads of the same archive, and tables that a draft should know."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from source_tables import listed, photo, table

from skinkit.data import load_source
from skinkit.data.draft import write_draft
from skinkit.taxonomy import DIAGNOSES

EXPORT = (
    "isic_id,attribution,copyright_license,age_approx,anatom_site_general,diagnosis_1,diagnosis_2,diagnosis_3,"
    "diagnosis_confirm_type,fitzpatrick_skin_type,image_type,lesion_id,patient_id,sex"
)


def collection(root: Path) -> None:
    """What isic-cli downloads: ``metadata.csv`` beside the images."""
    rows = [
        "Benign,Benign melanocytic proliferations,Nevus,single image expert consensus,II,dermoscopic",
        "Malignant,Malignant melanocytic proliferations,Melanoma Invasive,histopathology,III,clinical: close-up",
        "Indeterminate,Indeterminate proliferations,Solar or actinic keratosis,histopathology,,TBP tile: overview",
        "Benign,,,,,dermoscopic",
    ]
    for number in range(len(rows)):
        photo(root / f"ISIC_000000{number}.jpg", number)
    lines = [
        f"ISIC_000000{number},x,CC-0,55,lower extremity,{row},IL_{number},IP_{number},female"
        for number, row in enumerate(rows)
    ]
    table(root / "metadata.csv", EXPORT, *lines)


READ = {
    "diagnosis": ["nevus", "melanoma", "actinic_keratosis", None],
    "modality": ["dermoscopic", "clinical", "clinical", "dermoscopic"],
    "fitzpatrick": [2.0, 3.0, None, None],
    "confirmed_by": ["consensus", "histopathology", "histopathology", None],
    "site": ["lower extremity"] * 4,
    "age_years": [55.0] * 4,
}


def test_a_collection_of_the_isic_archive(tmp_path: Path) -> None:
    collection(tmp_path)
    rows = listed(tmp_path, "isic-archive").rows
    assert {name: [row[name] for row in rows] for name in READ} == READ
    assert [row["lesion_id"] for row in rows] == ["IL_0", "IL_1", "IL_2", "IL_3"]
    assert {row["flags"] for row in rows} == {None}


def test_a_draft_knows_the_export_of_the_isic_archive(tmp_path: Path) -> None:
    collection(tmp_path)
    write_draft(tmp_path / "metadata.csv", tmp_path)
    rows = listed(tmp_path).rows
    assert {name: [row[name] for row in rows] for name in READ} == READ


def test_the_archives_own_diagnoses_are_read_as_benign_or_malignant_as_the_archive_says() -> None:
    hierarchy = pytest.importorskip("isic_metadata.diagnosis_hierarchical").DiagnosisEnum
    known = {word.casefold(): ours for word, ours in load_source("isic-archive").values["diagnosis"].items()}
    known = {**{name: name for name in DIAGNOSES}, **known}
    malignant = {"melanoma", "basal_cell_carcinoma", "squamous_cell_carcinoma"}
    read = set()
    for whole in hierarchy:
        first, _, third = (*whole.value.split(":"), "", "")[:3]
        ours = known.get(third.casefold(), "")
        read.add(ours)
        if ours and first == "Malignant":
            assert ours in malignant, whole
        if ours and first == "Benign":
            assert ours not in {*malignant, "actinic_keratosis"}, whole
    assert read >= {
        *malignant, "actinic_keratosis", "nevus", "seborrheic_keratosis", "benign_keratosis", "solar_lentigo",
        "dermatofibroma", "vascular_lesion",
    }  # fmt: skip


def test_ham10000_as_kaggle_has_it(tmp_path: Path) -> None:
    for number in range(4):
        photo(tmp_path / f"HAM10000_images_part_{1 + number // 2}" / f"ISIC_002000{number}.jpg", number)
    for part in (1, 2):
        shutil.copytree(tmp_path / f"HAM10000_images_part_{part}", tmp_path / f"ham10000_images_part_{part}")
    rows = [f"HAM_{number},ISIC_002000{number},nv,histo,80.0,male,scalp" for number in range(4)]
    table(tmp_path / "HAM10000_metadata.csv", "lesion_id,image_id,dx,dx_type,age,sex,localization", *rows)
    table(tmp_path / "hmnist_8_8_L.csv", "pixel0000,label", "1,2")
    cases = listed(tmp_path, "ham10000").rows
    assert [row["image_id"] for row in cases if row["status"] == "ok"] == [f"ISIC_002000{n}" for n in range(4)]
    assert sum(row["reason"] == "duplicate_file" for row in cases) == 4


def test_ddi(tmp_path: Path) -> None:
    diseases = [
        "melanoma-in-situ",
        "melanocytic-nevi",
        "basal-cell-carcinoma",
        "mycosis-fungoides",
        "nevus-lipomatosus",
    ]
    for number in range(len(diseases)):
        photo(tmp_path / f"00000{number}.png", number)
    lines = [f"{n},{n + 1},00000{n}.png,{(12, 34, 56)[n % 3]},True,{disease}" for n, disease in enumerate(diseases)]
    table(tmp_path / "ddi_metadata.csv", ",DDI_ID,DDI_file,skin_tone,malignant,disease", *lines)
    read = ["melanoma", "nevus", "basal_cell_carcinoma", None, None]
    rows = listed(tmp_path, "ddi").rows
    assert [row["diagnosis"] for row in rows] == read
    assert [row["skin_tone"] for row in rows[:3]] == ["12", "34", "56"]
    answer = write_draft(tmp_path / "ddi_metadata.csv", tmp_path)
    assert answer["columns"] == {"image": "DDI_file", "diagnosis": "disease"}
    rows = listed(tmp_path).rows
    assert [row["diagnosis"] for row in rows] == read
    assert [row["keep__skin_tone"] for row in rows[:3]] == ["12", "34", "56"]


def test_fitzpatrick17k(tmp_path: Path) -> None:
    labels = [
        "malignant melanoma",
        "lentigo maligna",
        "basal cell carcinoma",
        "halo nevus",
        "naevus comedonicus",
        "psoriasis",
    ]
    for number in range(len(labels)):
        photo(tmp_path / "images" / f"{number:032x}.jpg", number)
    lines = [f"{n:032x},{(n + 1) if n else -1},{n},{label},malignant,http://x" for n, label in enumerate(labels)]
    header = "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,three_partition_label,url"
    table(tmp_path / "fitzpatrick17k.csv", header, *lines)
    listing = listed(tmp_path, "fitzpatrick17k")
    read = ["melanoma", "melanoma", "basal_cell_carcinoma", "nevus", None, None]
    assert [row["diagnosis"] for row in listing.rows] == read
    assert [row["fitzpatrick"] for row in listing.rows] == [None, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert listing.unknown == {"fitzpatrick": {"-1": 1}}
    assert listing.unmapped == {"diagnosis": {"naevus comedonicus": 1, "psoriasis": 1}}
