"""Workbooks as people keep them: sheets, hidden parts, formats and headings that are not in the first row."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from source_tables import cohort, listed, photo, table

from skinkit.console import Console
from skinkit.data import read_cases
from skinkit.data.draft import write_draft
from skinkit.errors import ConfigError, InputError

HEADINGS = ["image", "pid", "dx"]
COLUMNS = {"image": "image", "patient_id": "pid", "diagnosis": "dx"}


def book(root: Path, **sheets: Sequence[Sequence[Any]]) -> Any:
    """A workbook of these sheets, to be changed and saved as ``t.xlsx``."""
    import openpyxl

    made = openpyxl.Workbook()
    made.remove(made.worksheets[0])
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    for number in range(3):
        photo(root / f"a{number}.jpg", number)
    return made


def described(root: Path, more: str = "", columns: Mapping[str, str] = COLUMNS, file: str = "t.xlsx") -> None:
    mapped = "".join(f'{ours} = "{theirs}"\n' for ours, theirs in columns.items())
    (root / "cohort.toml").write_text(f'file = "{file}"\n{more}\n[columns]\n{mapped}', encoding="utf-8")


def diagnoses(root: Path) -> dict[str, str | None]:
    return {row["image_id"]: row["diagnosis"] for row in listed(root).rows if row["reason"] != "row_absent"}


def said(root: Path) -> str:
    stream = io.StringIO()
    read_cases(cohort(root), Console(stream=stream))
    return stream.getvalue()


OLD = [HEADINGS, ["a0", "P0", "nevus"], ["a1", "P1", "nevus"]]
NEW = [HEADINGS, ["a0", "P0", "melanoma"], ["a2", "P2", "melanoma"]]
LEGEND = [["code", "meaning"], ["1", "female"]]


def test_a_hidden_sheet_is_never_taken_unasked(tmp_path: Path) -> None:
    made = book(tmp_path, old=OLD, older=OLD, current=NEW)
    made["old"].sheet_state, made["older"].sheet_state = "hidden", "veryHidden"
    made.active = 2
    made.save(tmp_path / "t.xlsx")
    described(tmp_path)
    assert diagnoses(tmp_path) == {"a0": "melanoma", "a2": "melanoma"}
    assert "sheet 'current' is read; not read: 'old' (hidden), 'older' (hidden)" in said(tmp_path)
    described(tmp_path, 'sheet = "old"')
    assert diagnoses(tmp_path) == {"a0": "nevus", "a1": "nevus"}


def test_the_sheet_that_has_the_columns_is_read_and_several_are_asked_about(tmp_path: Path) -> None:
    book(tmp_path, legend=LEGEND, data=NEW).save(tmp_path / "t.xlsx")
    described(tmp_path)
    assert diagnoses(tmp_path) == {"a0": "melanoma", "a2": "melanoma"}
    book(tmp_path, first=OLD, second=NEW, legend=LEGEND).save(tmp_path / "t.xlsx")
    with pytest.raises(InputError) as refused:
        listed(tmp_path)
    assert "the sheets 'first', 'second' have these columns" in refused.value.found
    described(tmp_path, 'sheet = "second"')
    assert diagnoses(tmp_path) == {"a0": "melanoma", "a2": "melanoma"}
    (tmp_path / "cohort.toml").unlink()
    assert "sheet 'first' is read; not read: 'second', 'legend'" in write_draft(tmp_path / "t.xlsx", tmp_path)["text"]
    assert 'sheet = "first"' in (tmp_path / "cohort.toml").read_text()


def test_hidden_rows_are_read_only_if_asked_for(tmp_path: Path) -> None:
    made = book(tmp_path, data=OLD)
    made["data"].row_dimensions[3].hidden = True
    made.save(tmp_path / "t.xlsx")
    described(tmp_path)
    assert diagnoses(tmp_path) == {"a0": "nevus"}
    assert "1 hidden rows are not read" in said(tmp_path)
    described(tmp_path, "hidden_rows = true")
    assert diagnoses(tmp_path) == {"a0": "nevus", "a1": "nevus"}
    described(tmp_path, 'hidden_rows = "yes"')
    with pytest.raises(ConfigError, match="hidden_rows"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("value", "shown", "text"),
    [
        (7, "00000", "00007"), (7, '"P"000', "P007"), (12345, "000-00", "123-45"), (123456, "00000", "123456"),
        (7, "General", "7"), (7, "0", "7"), (7, "0.00", "7"), (7.0, "000", "007"), ("7", "00000", "7"),
    ],
)  # fmt: skip
def test_a_number_is_read_as_its_format_shows_it(tmp_path: Path, value: Any, shown: str, text: str) -> None:
    made = book(tmp_path, data=[HEADINGS, ["a0", value, "nevus"]])
    made["data"]["B2"].number_format = shown
    made.save(tmp_path / "t.xlsx")
    described(tmp_path)
    assert next(row["patient_id"] for row in listed(tmp_path).rows if row["image_id"] == "a0") == text


def test_true_dates_beside_text_dates_are_read(tmp_path: Path) -> None:
    rows = [["a0", dt.datetime(1961, 2, 28), "28.02.2021"], ["a1", "05.03.1950", dt.datetime(2020, 3, 5)]]
    book(tmp_path, data=[["image", "born", "seen"], *rows]).save(tmp_path / "t.xlsx")
    columns = {"image": "image", "birth_date": "born", "exam_date": "seen"}
    described(tmp_path, 'date_format = "%d.%m.%Y"', columns)
    assert [row["age_years"] for row in listed(tmp_path).rows][:2] == [60.0, 70.0]


TITLED = [["Patient list 2024", None, None], [None, None, None], HEADINGS, ["a0", "P0", "nevus"]]


def test_title_lines_are_passed_over(tmp_path: Path) -> None:
    made = book(tmp_path, data=TITLED)
    made["data"].merge_cells("A1:C1")
    made.save(tmp_path / "t.xlsx")
    described(tmp_path)
    assert diagnoses(tmp_path) == {"a0": "nevus"}
    table(tmp_path / "t.csv", "Patient list 2024", "", "image,pid,dx", "a0,P0,nevus")
    described(tmp_path, file="t.csv")
    assert diagnoses(tmp_path) == {"a0": "nevus"}
    for file in ("t.xlsx", "t.csv"):
        (tmp_path / "cohort.toml").unlink()
        assert write_draft(tmp_path / file, tmp_path)["columns"] == COLUMNS
        assert "heading_rows = [3]" in (tmp_path / "cohort.toml").read_text()
        assert diagnoses(tmp_path) == {"a0": "nevus"}


def test_two_rows_of_headings_are_joined(tmp_path: Path) -> None:
    rows = [["image", "Patient", None, "dx"], [None, "id", "sex", None], ["a0", "P0", "F", "nevus"]]
    made = book(tmp_path, data=rows)
    made["data"].merge_cells("B1:C1")
    made.save(tmp_path / "t.xlsx")
    answer = write_draft(tmp_path / "t.xlsx", tmp_path)
    assert answer["columns"] == {"image": "image", "patient_id": "Patient id", "diagnosis": "dx"}
    assert answer["not_taken"] == ["Patient sex"]
    described(tmp_path, "heading_rows = [1, 2]", {**COLUMNS, "patient_id": "Patient id", "sex": "Patient sex"})
    row = next(row for row in listed(tmp_path).rows if row["image_id"] == "a0")
    assert (row["patient_id"], row["sex"], row["diagnosis"]) == ("P0", "female", "nevus")
    for wrong in ("[2, 1]", "[0]", '"1"'):
        described(tmp_path, f"heading_rows = {wrong}")
        with pytest.raises(ConfigError, match="heading_rows"):
            listed(tmp_path)
    described(tmp_path, "heading_rows = [9]")
    with pytest.raises(InputError, match="row 9"):
        listed(tmp_path)
