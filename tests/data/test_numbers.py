"""Numbers, dates and signs of hospital tables: read in the unit they are written in, or nothing, counted and shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from source_tables import cohort, listed, photo, table

from skinkit.console import Console
from skinkit.data import read_cases
from skinkit.data.draft import write_draft
from skinkit.errors import InputError


def hospital(root: Path, columns: dict[str, str], *rows: str, more: str = "") -> None:
    """A photo for each row of a table with these columns (our name -> heading)."""
    for number in range(len(rows)):
        photo(root / f"{number}.jpg", number)
    lines = [f"{number}|{row}" for number, row in enumerate(rows)]
    table(root / "t.csv", "|".join(["image", *columns.values()]), *lines)
    mapped = "".join(f'{ours} = "{theirs}"\n' for ours, theirs in columns.items())
    text = f'file = "t.csv"\ndelimiter = "|"\n{more}[columns]\nimage = "image"\n{mapped}'
    (root / "cohort.toml").write_text(text, encoding="utf-8")


def column(root: Path, name: str) -> list[Any]:
    return [row[name] for row in listed(root).rows]


@pytest.mark.parametrize(
    ("heading", "cell", "years"),
    [
        ("Age (months)", "18", 1.5), ("age_months", "6", 0.5), ("年龄(月)", "18", 1.5), ("Alter [Monate]", "30", 2.5),
        ("Age in weeks", "104.355", 2.0), ("Age (days)", "365.25", 1.0), ("Age (years)", "58", 58.0), ("Age",
        "58", 58.0),
        ("Age (months)", "3岁", 3.0), ("Age", "18 months", 1.5), ("Age", "018M", 1.5), ("Age", "058Y", 58.0),
        ("Age", "58M", None), ("Age", "62F", None), ("Age", "45 w", None), ("Age", "18m", None), ("Age", ">60", None),
    ],
)  # fmt: skip
def test_an_age_is_in_the_unit_of_its_cell_or_heading(
    tmp_path: Path, heading: str, cell: str, years: float | None
) -> None:
    hospital(tmp_path, {"age_years": heading}, cell)
    assert column(tmp_path, "age_years") == [years]
    assert column(tmp_path, "flags") == ["age_years_unmapped" if years is None else None]


@pytest.mark.parametrize(
    ("heading", "cell", "mm"),
    [
        ("Diameter (cm)", "1.2", 12.0), ("短径(cm)", "0.8", 8.0), ("长径（厘米）", "1", 10.0), ("size_mm", "5", 5.0),
        ("Size in inches", "0.5", 12.7), ("Diameter", "1.2 cm", 12.0), ("Diameter (cm)", "7 mm", 7.0), ("d",
        "7毫米", 7.0),
    ],
)  # fmt: skip
def test_a_size_is_in_the_unit_of_its_cell_or_heading(tmp_path: Path, heading: str, cell: str, mm: float) -> None:
    hospital(tmp_path, {"diameter_1_mm": heading}, cell)
    assert column(tmp_path, "diameter_1_mm") == [pytest.approx(mm)]


@pytest.mark.parametrize(
    ("ours", "heading", "found"),
    [
        ("diameter_1_mm", "size (mm/cm)", "'size (mm/cm)' names several units"),
        ("age_years", "Age (m)", "'Age (m)' names an unclear unit"),
        ("age_years", "Alter [W]", "'Alter [W]' names an unclear unit"),
    ],
)
def test_a_heading_of_two_units_or_an_unclear_one_is_asked_about(
    tmp_path: Path, ours: str, heading: str, found: str
) -> None:
    hospital(tmp_path, {ours: heading}, "5")
    with pytest.raises(InputError) as refused:
        listed(tmp_path)
    assert found in refused.value.found


def test_a_draft_names_the_unit(tmp_path: Path) -> None:
    photo(tmp_path / "0.jpg")
    table(tmp_path / "t.csv", "image|Age (months)|Diameter (cm)", "0|18|1.2")
    assert "months, converted to years" in write_draft(tmp_path / "t.csv", tmp_path)["text"]
    row = listed(tmp_path).rows[0]
    assert (row["age_years"], row["diameter_1_mm"]) == (1.5, 12.0)


def test_a_year_of_two_digits_is_of_the_century_before_the_exam(tmp_path: Path) -> None:
    rows = ["28.02.61|28.02.24", "01.01.45|01.01.20", "29.02.48|01.03.20", "01.06.05|01.06.20"]
    hospital(tmp_path, {"birth_date": "b", "exam_date": "e"}, *rows, more='date_format = "%d.%m.%y"\n')
    assert column(tmp_path, "age_years") == [63.0, 75.0, 72.0, 15.0]


@pytest.mark.parametrize(
    ("signs", "read"),
    [
        (("+", "-", "−", "－", "(+)", "(-)"), ["True", "False", "False", "False", "True", "False"]),
        (("pos", "neg", "neg.", "positiv", "negative", "++"), ["True", "False", "False", "True", "False", "True"]),
        (("ja", "nein", "WAHR", "FALSCH", "sí", "non"), ["True", "False", "True", "False", "True", "False"]),
        (("yes", "-", "no", "–"), ["True", None, "False", None]),
    ],
)  # fmt: skip
def test_signs_of_a_symptom_are_read_both_or_neither(tmp_path: Path, signs: tuple[str, ...], read: list[Any]) -> None:
    hospital(tmp_path, {"itch": "itch"}, *signs)
    assert column(tmp_path, "itch") == read
    assert set(column(tmp_path, "flags")) == {None}


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (("M", "F"), ["male", "female"]), (("M", "H"), [None, None]), (("m", "v"), [None, None]),
        (("Mujer", "Hombre"), ["female", "male"]), (("M", "W"), ["male", "female"]),
    ],
)  # fmt: skip
def test_m_is_no_sex_beside_h(tmp_path: Path, words: tuple[str, ...], read: list[str | None]) -> None:
    hospital(tmp_path, {"sex": "sex"}, *words)
    assert column(tmp_path, "sex") == read
    assert column(tmp_path, "flags") == [None if value else "sex_unmapped" for value in read]


def test_every_value_that_becomes_nothing_is_counted_by_column(tmp_path: Path) -> None:
    columns = {"age_years": "age", "sex": "sex", "diameter_1_mm": "mm", "site": "site", "itch": "itch"}
    rows = ["150|unknown|-3|?|-", "-1|x|wide|nowhere|-", "n.a.|unknown|未知|face|yes"]
    hospital(tmp_path, columns, *rows, more="")
    stream = io.StringIO()
    listing = read_cases(cohort(tmp_path), Console(stream=stream))
    assert listing.unmapped == {
        "age_years": {"150": 1, "-1": 1}, "diameter_1_mm": {"-3": 1, "wide": 1}, "sex": {"x": 1},
        "site": {"nowhere": 1},
    }  # fmt: skip
    assert listing.unknown == {
        "age_years": {"n.a.": 1}, "diameter_1_mm": {"未知": 1}, "itch": {"-": 2}, "sex": {"unknown": 2},
        "site": {"?": 1},
    }  # fmt: skip
    assert "sex: words for unknown, with rows: 'unknown' 2" in stream.getvalue()
