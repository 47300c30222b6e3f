"""Rows, files and tables are joined where they certainly belong together; what does not is said."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from source_tables import cohort, listed, photo, table

from skinkit.console import Console
from skinkit.data import read_cases


def said(root: Path, source: str) -> str:
    stream = io.StringIO()
    read_cases(cohort(root, source), Console(stream=stream))
    return stream.getvalue()


def outcome(root: Path, source: str = "folder") -> dict[str, Any]:
    return {row["image_id"]: (row["image_path"], row["reason"]) for row in listed(root, source).rows}


def hospital(root: Path, *names: str, more: str = "") -> None:
    table(root / "t.csv", "image,mask", *names)
    (root / "cohort.toml").write_text(f'file = "t.csv"\n[columns]\nimage = "image"\nmask = "mask"\n{more}')


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("P1/a.jpg", None), ("P2/a.jpg", "photos/P2/a.jpg"), ("photos/P2/A", "photos/P2/a.jpg"), ("P2\\a.jpg",
        "photos/P2/a.jpg"),
        ("a.jpg", "photos/P2/a.jpg"), ("2/a.jpg", None), ("ward/photos/P2/a.jpg", "photos/P2/a.jpg"),
        ("x/P2/a.jpg", None),
    ],
)  # fmt: skip
def test_a_name_with_a_folder_must_match_the_folder(tmp_path: Path, name: str, found: str | None) -> None:
    root = tmp_path / "ward"
    photo(root / "photos" / "P2" / "a.jpg")
    hospital(root, f"{name},")
    row = next(row for row in listed(root).rows if row["reason"] != "row_absent")
    assert (row["image_path"], row["reason"]) == (found, None if found else "image_absent")
    assert found or "photos/P2/a.jpg is in another folder" in str(row["detail"])


def test_a_mask_with_a_folder_must_match_the_folder(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg", 1)
    photo(tmp_path / "P2" / "m.png", 2)
    hospital(tmp_path, "a.jpg,P1/m.png", "b.jpg,P2/m.png")
    rows = {row["image_id"]: row for row in listed(tmp_path).rows}
    assert (rows["a"]["truth_mask_path"], rows["a"]["flags"]) == (None, "mask_absent")
    assert rows["b"]["truth_mask_path"] == "P2/m.png"


def test_names_that_differ_by_leading_zeros_are_hinted_at(tmp_path: Path) -> None:
    photo(tmp_path / "00007.jpg")
    hospital(tmp_path, "7,")
    assert "00007.jpg has other leading zeros" in str([row["detail"] for row in listed(tmp_path).rows])


@pytest.mark.parametrize("cell", [" a.jpg", "a.jpg", "photos/ a.jpg", "photos/a", "ward /photos/ a.jpg"])
def test_blanks_around_a_file_name_do_not_matter(tmp_path: Path, cell: str) -> None:
    root = tmp_path / "ward "
    photo(root / "photos" / " a.jpg")
    hospital(root, f'"{cell}",')
    assert ("photos/ a.jpg", None) in outcome(root).values()


def test_two_files_that_differ_in_blanks_are_told_apart_by_nobody(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / " a.jpg", 1)
    photo(tmp_path / "b.jpg", 2)
    hospital(tmp_path, '" a.jpg",', "b.jpg,")
    rows = outcome(tmp_path)
    assert rows["a"][1] == "image_ambiguous"
    assert rows["b"] == ("b.jpg", None)


def test_copies_are_one_picture_and_others_of_that_name_are_not(tmp_path: Path) -> None:
    for number in (1, 2):
        photo(tmp_path / "one" / f"ISIC_{number}.jpg", number)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    photo(tmp_path / "two" / "ISIC_2.jpg", 3)
    hospital(tmp_path, "ISIC_1,", "ISIC_2,")
    rows = outcome(tmp_path)
    assert rows["ISIC_1"] == ("one/ISIC_1.jpg", None)
    assert ("two/ISIC_1.jpg", "duplicate_file") in rows.values()
    assert rows["ISIC_2"][1] == "image_ambiguous"


def challenge(root: Path, *labels: str) -> None:
    for number in range(4):
        photo(root / "ISIC_2019_Training_Input" / f"ISIC_{number}.jpg", number)
    table(
        root / "ISIC_2019_Training_Metadata.csv", "image,age_approx,anatom_site_general,lesion_id,sex",
        *(f"ISIC_{number},50,anterior torso,L{number},male" for number in range(3)),
    )  # fmt: skip
    table(root / "ISIC_2019_Training_GroundTruth.csv", "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK", *labels)


MEL, NV = "1,0,0,0,0,0,0,0,0", "0,1,0,0,0,0,0,0,0"


def test_a_second_table_is_checked_for_repeats_leftovers_and_extensions(tmp_path: Path) -> None:
    challenge(tmp_path, f"ISIC_0,{NV}", f"ISIC_0.JPG,{MEL}", f"isic_1.jpg,{MEL}", f"ISIC_1,{MEL}", f"ISIC_3,{MEL}")
    rows = {row["image_id"]: row for row in listed(tmp_path, "isic-2019").rows}
    assert (rows["ISIC_0"]["status"], rows["ISIC_0"]["reason"]) == ("failed", "duplicate_id")
    assert (rows["ISIC_1"]["status"], rows["ISIC_1"]["diagnosis"]) == ("ok", "melanoma")
    assert (rows["ISIC_2"]["status"], rows["ISIC_2"]["diagnosis"]) == ("ok", None)
    assert "only in ISIC_2019_Training_GroundTruth.csv" in rows["ISIC_3"]["detail"]
    assert "GroundTruth.csv lacks 1 rows of the first table and has 1 images" in said(tmp_path, "isic-2019")


def test_mapped_columns_that_are_absent_are_listed(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "PAT_1_1_1.png")
    header = "patient_id,lesion_id,diagnostic,img_id,age_years,sex,fitzpatrick,biopsied,anatomical_region"
    table(tmp_path / "metadata.csv", header, "PAT_1,1,BCC,PAT_1_1_1.png,55,FEMALE,3,True,FACE")
    text = said(tmp_path, "pad-ufes-20")
    near = {"age": "age_years", "gender": "sex", "fitspatrick": "fitzpatrick", "biopsed": "biopsied"}
    for theirs, column in {**near, "region": "anatomical_region"}.items():
        assert f"no column {theirs!r}" in text
        assert f"did you mean {column!r}?" in text
    assert "no column 'smoke' in the table: smoke is unknown\n" in text
