"""Tables and settings as hospitals have them: read as meant, or refused naming file, row, column and a way out.

Nothing here may end in a traceback, and nothing may be read as something it is not.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import source_tables
from conftest import run_here
from source_tables import cohort, listed, photo

from skinkit.data import find_files, tables
from skinkit.errors import ConfigError, InputError, SkinkitError
from skinkit.taxonomy import class_set
from skinkit.workspace import load_workspace

COLUMNS = {
    "image": "file", "patient_id": "patient", "lesion_id": "lesion", "diagnosis": "dx", "age_years": "age",
    "sex": "sex", "diameter_1_mm": "size", "bleed": "bleeds", "birth_date": "born", "exam_date": "seen",
}  # fmt: skip
HEADER = ",".join(COLUMNS.values())
FIRST = "a.jpg,P1,L1,melanoma,58,female,6.5,yes,,"
SECOND = "b.jpg,P2,L2,nevus,41,male,3,no,,"


def hospital(
    root: Path, data: bytes | str, *, name: str = "t.csv", more: str = "", columns: Sequence[str] = ()
) -> None:
    """A folder of two photos, a table of these bytes, and its description."""
    for index, image in enumerate(("a.jpg", "b.jpg")):
        photo(root / image, index)
    (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    chosen = {ours: theirs for ours, theirs in COLUMNS.items() if not columns or ours in columns}
    lines = "".join(f"{ours} = {json.dumps(theirs)}\n" for ours, theirs in chosen.items())
    (root / "cohort.toml").write_text(f"file = {json.dumps(name)}\n{more}\n[columns]\n{lines}", encoding="utf-8")


def rows_of(root: Path) -> dict[str, dict[str, Any]]:
    return {str(row["image_id"]): row for row in listed(root).rows}


def refusal(root: Path) -> SkinkitError:
    with pytest.raises(SkinkitError) as caught:
        listed(root)
    error = caught.value
    assert error.found
    assert error.expected
    assert error.fix
    return error


def as_lines(*rows: str, end: str = "\n") -> str:
    return end.join((HEADER, *(rows or (FIRST, SECOND)))) + end


def is_as_meant(root: Path) -> bool:
    """Whether the two ordinary rows were read."""
    rows = rows_of(root)
    seen = [
        (r["patient_id"], r["diagnosis"], r["age_years"], r["sex"], r["diameter_1_mm"], r["bleed"], r["status"])
        for r in rows.values()
    ]
    return seen == [
        ("P1", "melanoma", 58.0, "female", 6.5, "True", "ok"),
        ("P2", "nevus", 41.0, "male", 3.0, "False", "ok"),
    ]


# ------------------------------------------------------------------------------------------- written otherwise


@pytest.mark.parametrize(
    ("data", "more"),
    [
        (as_lines().encode("utf-8-sig"), ""),
        (as_lines().encode("utf-16"), 'encoding = "utf-16"'),
        (as_lines().encode("utf-16-le"), 'encoding = "utf-16-le"'),
        (as_lines().encode("gb18030"), 'encoding = "gb18030"'),
        (as_lines(end="\r\n").encode(), ""),
        (as_lines(end="\r").encode(), ""),
        (f"{HEADER}\r\n{FIRST}\n{SECOND}\r".encode(), ""),
        (b"sep=;\r\n" + as_lines(end="\r\n").replace(",", ";").encode(), ""),
        (f"{HEADER}\n{FIRST}\n{HEADER}\n{SECOND}\n".encode(), ""),
        (f"\n\n{HEADER}\n\n{FIRST}\n,,,,,,,,,\n{SECOND}\n\n\n".encode(), ""),
        (as_lines().replace(",", ";").encode(), 'delimiter = ";"'),
        (as_lines().replace(",", "\t").encode(), 'delimiter = "\\t"'),
        (as_lines().replace(",", ";").replace("6.5", "6,5").encode(), 'delimiter = ";"\ndecimal = ","'),
        (as_lines(FIRST.replace("58", "５８岁"), SECOND.replace("41", " 41 years ")).encode(), ""),
        (as_lines(FIRST.replace("P1", "\u200bP1\ufeff"), SECOND.replace("P2", "\u00a0P2 ")).encode(), ""),
        (as_lines(FIRST.replace("58", '"58"'), SECOND.replace("nevus", '"nevus"')).encode(), ""),
        (as_lines(FIRST.rstrip(","), SECOND).encode(), ""),
        (as_lines(FIRST.replace("yes", "TRUE"), SECOND.replace("no", "0")).encode(), ""),
        (as_lines(FIRST.replace("yes", "是"), SECOND.replace("no", "无")).encode(), ""),
        (as_lines(FIRST.replace("yes", "√"), SECOND.replace("no", "F")).encode(), ""),
        (as_lines(FIRST.replace("female", "女"), SECOND.replace("male", "男")).encode(), ""),
        (as_lines().replace(HEADER, HEADER + ",note").replace(FIRST, FIRST + ',"two\nlines, ""quoted"""').encode(), ""),
    ],
    ids=[
        "utf-8 bom", "utf-16", "utf-16 without bom", "gb18030", "crlf", "cr", "mixed ends",
        "sep line", "heading twice", "empty lines",
        "semicolons", "tabs", "decimal comma", "full width", "invisible", "quotes", "short row", "true and 0",
        "chinese yes and no", "tick", "chinese sex", "quoted newline",
    ],
)  # fmt: skip
def test_what_is_written_otherwise_is_read_as_meant(tmp_path: Path, data: bytes, more: str) -> None:
    hospital(tmp_path, data, more=more)
    assert is_as_meant(tmp_path)


def test_ids_are_text(tmp_path: Path) -> None:
    rows = [FIRST.replace("P1", "007").replace("L1", "1e5"), SECOND.replace("P2", "1.0").replace("L2", "=1+1")]
    hospital(tmp_path, as_lines(*rows))
    ids = [(row["patient_id"], row["lesion_id"]) for row in rows_of(tmp_path).values()]
    assert ids == [("007", "007|1e5"), ("1.0", "1.0|=1+1")]


@pytest.mark.parametrize("word", ["", "NA", "n/a", "NULL", "nan", "None", "#N/A", "unknown", "不详", "?"])
def test_words_for_unknown_are_null(tmp_path: Path, word: str) -> None:
    hospital(tmp_path, as_lines(f"a.jpg,P1,L1,{word},{word},{word},{word},{word},{word},{word}", SECOND))
    row = rows_of(tmp_path)["a"]
    assert [row[n] for n in ("diagnosis", "age_years", "sex", "diameter_1_mm", "bleed")] in (
        [None] * 5,
        [None] * 4 + ["UNK"],
    )
    assert row["flags"] is None


@pytest.mark.parametrize(
    ("age", "years", "flag"),
    [
        ("150", None, "age_impossible"), ("-3", None, "age_impossible"), ("1e9", None, "age_impossible"),
        ("018M", 1.5, None), ("18M", None, "age_years_unmapped"), ("6个月", 0.5, None), ("058Y", 58.0, None),
        ("５４", 54.0, None), ("0", 0.0, None),
        ("fifty", None, "age_years_unmapped"), ("50-60", None, "age_years_unmapped"), ("=2024-1960", None,
        "age_years_unmapped"), ("１e999", None, "age_years_unmapped"), ("1961-02-28", None, "age_years_unmapped"),
    ],
)  # fmt: skip
def test_ages_that_cannot_be_are_null_and_flagged(tmp_path: Path, age: str, years: float | None, flag: str) -> None:
    hospital(tmp_path, as_lines(FIRST.replace("58", age), SECOND))
    row = rows_of(tmp_path)["a"]
    assert (row["age_years"], row["flags"]) == (years, flag)


def test_what_cannot_be_a_size_is_null_and_flagged(tmp_path: Path) -> None:
    hospital(tmp_path, as_lines(FIRST.replace("6.5", "1e999"), SECOND.replace(",3,", ",-3,")))
    assert [(row["diameter_1_mm"], row["flags"]) for row in rows_of(tmp_path).values()] == [
        (None, "diameter_1_mm_unmapped")
    ] * 2


def test_rows_that_spell_one_file_in_two_ways_and_disagree_both_fail(tmp_path: Path) -> None:
    hospital(tmp_path, as_lines(FIRST, SECOND.replace("b.jpg", "A.JPG")))
    rows = rows_of(tmp_path)
    assert {name: (row["status"], row["reason"]) for name, row in rows.items()} == {
        "a": ("failed", "duplicate_id"),
        "A": ("failed", "duplicate_id"),
        "b": ("pending", "row_absent"),
    }


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("data", "more", "found", "fix"),
    [
        ("", "", "t.csv is empty", "export"),
        ("\n\n \n", "", "t.csv is empty", "export"),
        (as_lines().encode("utf-16"), "", "row 1: byte 0xff is not utf-8", 'encoding = "utf-16"'),
        (as_lines().encode("utf-16-le"), "", "row 1: a NUL byte", 'encoding = "utf-16-le"'),
        (as_lines().encode("utf-16-be"), "", "row 1: a NUL byte", 'encoding = "utf-16-be"'),
        (as_lines(FIRST.replace("P1", "P\0")), "", "row 2: a NUL byte", "export"),
        (as_lines(FIRST, SECOND.replace("P2", "张三")).encode("gb18030"), "", "row 3: byte", 'encoding = "gb18030"'),
        (as_lines(FIRST, SECOND.replace("P2", "Müller")).encode("latin-1"), "", "row 3: byte", 'encoding = "latin-1"'),
        (as_lines(FIRST.replace("P1", "张三")), 'encoding = "gb18030"', "is UTF-8", 'encoding = "utf-8"'),
        (as_lines(FIRST.replace("P1", "Mül")), 'encoding = "latin-1"', "is UTF-8", 'encoding = "utf-8"'),
        (as_lines().encode("utf-8-sig"), 'encoding = "cp1252"', "is UTF-8", 'encoding = "utf-8"'),
        (as_lines().replace(",", ";"), "", "no column 'file'", 'delimiter = ";"'),
        (as_lines().replace(",", "\t"), "", "no column 'file'", 'delimiter = "\\t"'),
        (as_lines().replace("patient", "pat"), "", "no column 'patient'", "correct"),
        (as_lines().replace("lesion", "patient", 1), "", "two columns are called 'patient'", "rename"),
        (as_lines(FIRST + ",x,y", SECOND), "", "row 2: 12 cells under 10 columns", "quotes"),
        (as_lines(FIRST.replace("L1", '"L1'), SECOND), "", "row 2: unexpected end of data", "quote"),
        (as_lines(FIRST.replace("L1", '"L1'), SECOND.replace("L2", '"L2"')), "", "row 2:", "quote"),
        (f"{HEADER}\n{FIRST}\nb.jpg,P2,L", "", "row 3: the file ends after 3 of 10 cells", "again"),
        (as_lines(FIRST.replace("6.5", '"6,5"'), SECOND), "", "row 2, column 'size': '6,5'", 'decimal = ","'),
        (as_lines(FIRST + "2024-01-31", SECOND).replace(",yes,,", ",yes,22675,").replace(",58,", ",,"), "",
         "row 2, column 'born': '22675', a spreadsheet's serial date", "format the column as a date"),
        (as_lines("a.jpg,P1,L1,nevus,,male,1,no,03/04/1961,2024-01-31", SECOND), "", "row 2, column 'born'", "%d"),
        (as_lines(FIRST.replace("P1", "1.23457E+11"), SECOND), "", "row 2, column 'patient': '1.23457E+11'", "text"),
        (as_lines(FIRST.replace("P1", "#REF!"), SECOND), "", "row 2, column 'patient': '#REF!'", "formula"),
        (as_lines(FIRST, SECOND.replace("41", "#VALUE!")), "", "row 3, column 'age': '#VALUE!'", "formula"),
        ("<html><table><tr><td>file</td></tr></table></html>", "", "is an HTML or XML page", "save it as"),
        ("  \n<?xml version='1.0'?><Workbook/>", "", "is an HTML or XML page", "save it as"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "", "is an old Excel file", "XLSX"),
        (b"\x1f\x8b\x08\0" + bytes(60), "", "is a compressed file", "unpack"),
        (b"PAR1" + bytes(60), "", "is a Parquet file", ".parquet"),
        (b"%PDF-1.7 " + bytes(60), "", "is a PDF", "export"),
        (f"{HEADER}\n{FIRST.replace('L1', 'x' * 200_000)}\n", "", "row 2: field larger than field limit", "quote"),
    ],
)  # fmt: skip
def test_what_is_refused_names_file_row_and_column(
    tmp_path: Path, data: bytes | str, more: str, found: str, fix: str
) -> None:
    hospital(tmp_path, data, more=more)
    error = refusal(tmp_path)
    assert isinstance(error, InputError)
    assert error.exit_code == 4
    assert "t.csv" in error.found
    assert found in error.found
    assert fix in error.fix


def test_a_header_without_rows_is_a_table_without_cases(tmp_path: Path) -> None:
    hospital(tmp_path, HEADER + "\n")
    assert {row["reason"] for row in rows_of(tmp_path).values()} == {"row_absent"}


# ------------------------------------------------------------------------------------------------------- workbooks


def book(cells: Sequence[Sequence[Any]] = (), merge: str = "") -> bytes:
    """An XLSX file of the two ordinary rows, with other cells written over them: (address, value)."""
    import openpyxl

    made = openpyxl.Workbook()
    sheet: Any = made.active
    for line in csv.reader(io.StringIO(as_lines())):
        sheet.append([float(cell) if cell.replace(".", "").isdigit() else cell or None for cell in line])
    for address, value in cells:
        sheet[address] = value
    if merge:
        sheet.merge_cells(merge)
    sink = io.BytesIO()
    made.save(sink)
    return sink.getvalue()


def test_a_workbook_is_read_with_its_numbers_and_dates(tmp_path: Path) -> None:
    hospital(tmp_path, book(), name="t.xlsx")
    assert is_as_meant(tmp_path)
    dates = [("E2", None), ("I2", dt.datetime(1961, 2, 28)), ("J2", dt.datetime(2024, 2, 28, 9, 30))]
    hospital(tmp_path, book([*dates, ("B2", 110101199003071)]), name="t.xlsx")
    row = rows_of(tmp_path)["a"]
    assert (row["age_years"], row["patient_id"]) == (63.0, "110101199003071")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (book([("B2", "=A1")]), "row 2, column B: a formula without its result"),
        (book([("B2", 1.10101199003071e17)]), "a long number truncated by a spreadsheet"),
        (book([("C2", "#DIV/0!")]), "#DIV/0!', a spreadsheet error"),
        (book(merge="B2:B3"), "the cells B2:B3 are merged"),
        (book()[:2000], "t.xlsx: BadZipFile"),
        (as_lines().encode(), "t.xlsx: BadZipFile"),
        (b"<html></html>", "t.xlsx: BadZipFile"),
    ],
    ids=["formula", "long number", "error", "merged", "cut", "text", "html"],
)
def test_a_workbook_that_lost_values_is_refused(tmp_path: Path, data: bytes, found: str) -> None:
    hospital(tmp_path, data, name="t.xlsx")
    error = refusal(tmp_path)
    assert error.exit_code == 4
    assert "t.xlsx" in error.found
    assert found in error.found


def rezipped(data: bytes, member: str, content: bytes) -> bytes:
    """A workbook with one of its parts replaced."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, content if name == member else old.read(name))
    return sink.getvalue()


@pytest.mark.parametrize(
    "member", ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "[Content_Types].xml", "xl/_rels/workbook.xml.rels"]
)
@pytest.mark.parametrize("content", [b"", b"<not closed", b"\xff\xfe\x00", b"<a xmlns='x'/>"])
def test_a_workbook_with_a_broken_part_is_read_or_refused(tmp_path: Path, member: str, content: bytes) -> None:
    hospital(tmp_path, rezipped(book(), member, content), name="t.xlsx")
    with pytest.raises(InputError, match=r"t\.xlsx"):
        listed(tmp_path)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


def test_a_workbook_that_multiplies_a_word_without_end_is_refused(tmp_path: Path) -> None:
    sheet = f'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY l0 "lol">{LAUGHS}]><worksheet>&l11;</worksheet>'
    hospital(tmp_path, rezipped(book(), "xl/worksheets/sheet1.xml", sheet.encode()), name="t.xlsx")
    assert "t.xlsx" in refusal(tmp_path).found


def test_a_workbook_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_LARGEST_BOOK", 1 << 20)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes((1 << 20) + 1))
    hospital(tmp_path, packed.getvalue(), name="t.xlsx")
    assert "unpacks to more than" in refusal(tmp_path).found


def test_a_parquet_table_keeps_columns_of_one_name_apart(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["other", "other", *COLUMNS.values()]
    columns = [["x", "y"], ["v", "w"], *([FIRST.split(",")[i], SECOND.split(",")[i]] for i in range(len(COLUMNS)))]
    hospital(tmp_path, b"", name="t.parquet")
    pq.write_table(pa.table([pa.array(c) for c in columns], names=names), tmp_path / "t.parquet")
    assert is_as_meant(tmp_path)
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:300])
    assert "t.parquet" in refusal(tmp_path).found


# -------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "text",
    [
        "[cohorts", "workspace = 3", "cohorts = 5", "stage = 1", "[stage]\nx = 1", "[[cohorts]]\nx = 1",
        "[workspaces]", '[workspace]\nsegmentor = "otsu"', "[workspace]\nmodel = 3", "[cohorts]\na = 1",
        "[cohorts.a]\nrole = 1", '[cohorts.a]\nrole = "extern"\nsource = "folder"\npath = "."',
        '[cohorts.a]\nrole = "external"\nsource = "folder"\npath = "~nobody-of-that-name/x"',
        '[cohorts.a]\nrole = "external"\nsource = "folder"\npath = "a\\u0000b"',
        '[cohorts."a\\n"]\nrole = "external"\nsource = "folder"\npath = "."',
        '[cohorts."../a"]\nrole = "external"\nsource = "folder"\npath = "."',
        '[cohorts.a]\nrole = "external"\nsource = "folder"\npath = "."\nprevalence = "x"',
        f"x = {'[' * 20_000}", "a = \x00", "\u00ff\ufffe",
    ],
)  # fmt: skip
def test_settings_that_are_wrong_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "skinkit.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"skinkit\.toml"):
        load_workspace(tmp_path)


def test_settings_with_a_mark_of_utf_8_are_read_and_others_told(tmp_path: Path) -> None:
    text = '[cohorts.a]\nrole = "external"\nsource = "folder"\npath = "."\n'
    (tmp_path / "skinkit.toml").write_bytes(text.encode("utf-8-sig"))
    assert list(load_workspace(tmp_path).cohorts) == ["a"]
    for encoding in ("utf-16", "gb18030"):
        (tmp_path / "skinkit.toml").write_bytes(f"# 皮肤科\n{text}".encode(encoding))
        with pytest.raises(ConfigError, match=r"skinkit\.toml"):
            load_workspace(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "file = 3", "file = [", "columns = 3", "[columns]\nimage = 3", '[columns]\nimages = "file"', "values = 1",
        '[values.sex]\nf = "woman"', "[values]\nsex = 1", '[values.fitzpatrick]\nIII = "three"', "patterns = 2",
        "[patterns]\ndiagnosis = 3", '[[patterns.diagnosis]]\nmatch = "("\nvalue = "nevus"', "[patterns]\nsex = []",
        "icd10 = true", '[icd10]\nX = "nevus"', "[join]\npattern = 3", '[join]\ndicom_tag = "NoSuchTag"',
        'encoding = "utf-7"', 'delimiter = "::"', 'delimiter = "\\n"', 'delimiter = "\\""', 'decimal = "\'"',
        "missing = 3", "keep = [1]", 'masks = "masks/all.png"', "[expected_counts]\ntotal = -1",
        f"x = {'[' * 20_000}", "file = \"t.csv\"\nfile = \"t.csv\"",
    ],
)  # fmt: skip
def test_descriptions_that_are_wrong_are_told(tmp_path: Path, text: str) -> None:
    hospital(tmp_path, as_lines())
    (tmp_path / "cohort.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cohort\.toml"):
        find_files(cohort(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "[classes", "classes = 3",
        '[classes]\nA = "melanoma"\nB = ["nevus"]', '[classes]\nA = ["melanom"]\nB = ["nevus"]',
        '[classes]\nA = ["nevus"]\nB = ["nevus"]', '[classes]\nA = ["melanoma"]', "[classes]\nA = 1\nB = 2",
        'malignant = 3\n[classes]\nA = ["melanoma"]\nB = ["nevus"]',
        'labels = 3\n[classes]\nA = ["melanoma"]\nB = ["nevus"]', f"x = {'[' * 20_000}",
    ],
)  # fmt: skip
def test_class_files_that_are_wrong_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"classes\.toml"):
        class_set(str(tmp_path / "classes.toml"))


# --------------------------------------------------------------------------------------- the command, and the size


def test_the_command_ends_with_4_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    hospital(tmp_path / "data", as_lines(FIRST.replace("P1", "#REF!"), SECOND))
    (tmp_path / "skinkit.toml").write_text(
        '[cohorts.a]\nrole = "development"\nsource = "folder"\npath = "data"\n', encoding="utf-8"
    )
    answer = run_here("ingest", "-w", tmp_path, "--json")
    assert answer.returncode == 4
    assert "Traceback" not in answer.stderr
    error = json.loads(answer.stdout)["error"]
    assert "t.csv, row 2, column 'patient'" in error["found"]


MANY = """
import resource, sys, time
from pathlib import Path
from source_tables import listed
began = time.process_time()
rows = listed(Path(sys.argv[1])).rows
print(len(rows), time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20))
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_rows_take_time_and_memory_in_proportion(tmp_path: Path) -> None:
    hospital(tmp_path, HEADER + "\n")
    with (tmp_path / "t.csv").open("a", encoding="utf-8") as stream:
        for number in range(1_000_000):
            stream.write(f"n{number}.jpg,P{number // 3},L{number},nevus,41,male,3,no,,\n")
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(source_tables.__file__).parent
    )
    assert answer.returncode == 0, answer.stderr
    rows, seconds, gibibytes = answer.stdout.split()
    assert rows == "1000002"
    assert float(seconds) < 300
    assert float(gibibytes) < 6
