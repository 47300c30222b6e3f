"""The draft of a hospital's cohort.toml: ages from dates, columns no model reads, a table beside the photos."""

from __future__ import annotations

from pathlib import Path

import pytest
import written_artifacts as written
from conftest import run_here
from PIL import Image

from skinkit.artifacts.artifact import open_artifact
from skinkit.data.draft import write_draft
from skinkit.errors import InputError
from skinkit.workspace import load_workspace


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    """A table, and a photo for each of its rows."""
    folder.mkdir(exist_ok=True)
    (folder / "t.csv").write_text(text, encoding=encoding)
    for n in range(len(text.splitlines()) - 1):
        Image.new("RGB", (40, 30), (200, 150 + n, 120)).save(folder / f"{n}.png")
    return folder / "t.csv"


def ages(root: Path) -> list[float | None]:
    """The ages that ``ingest`` reads with the draft of the cohort in ``clinic``."""
    (root / "skinkit.toml").write_text(
        '[cohorts.clinic]\nrole = "development"\nsource = "folder"\npath = "clinic"\n', encoding="utf-8"
    )
    workspace = load_workspace(root)
    (cases,), _ = written.run_stage(workspace, "ingest")
    table = open_artifact(cases.path).table().sort_values("image_id")
    return [None if age != age else age for age in table["age_years"].astype(float)]


@pytest.mark.parametrize("header", ["visit date", "Date of visit", "就诊日期"])
def test_an_empty_age_is_taken_from_the_dates(tmp_path: Path, header: str) -> None:
    rows = ["50,1960-01-01,2020-01-01", ",1960-01-01,2020-01-01", "NA,1990-06-30,2020-07-01", ",,2020-01-01"]
    text = "\n".join([f"image,age,date of birth,{header}", *(f"{n}.png,{row}" for n, row in enumerate(rows))])
    answer = write_draft(write(tmp_path / "clinic", text), tmp_path / "clinic")
    assert answer["columns"]["birth_date"] == "date of birth"
    assert answer["columns"]["exam_date"] == header
    assert ages(tmp_path) == [50.0, pytest.approx(60, abs=0.1), pytest.approx(30, abs=0.1), None]


def test_where_every_age_is_there_no_date_is_read(tmp_path: Path) -> None:
    text = "image,age,dob,visit_date\n0.png,50,1960-01-01,2020-01-01"
    answer = write_draft(write(tmp_path / "clinic", text), tmp_path / "clinic")
    assert not {"birth_date", "exam_date"} & set(answer["columns"])
    assert set(answer["not_taken"]) == {"dob", "visit_date"}


def test_one_format_that_reads_all_dates_is_written_and_an_unclear_one_is_left_to_a_person(tmp_path: Path) -> None:
    certain = "image,age,dob,visit_date\n0.png,,28/02/1960,01/03/2020\n1.png,,01/02/1980,05/06/2020"
    write_draft(write(tmp_path / "clinic", certain), tmp_path / "clinic")
    assert ages(tmp_path) == [pytest.approx(60, abs=0.1), pytest.approx(40.3, abs=0.1)]

    unclear = "image,age,dob,visit_date\n0.png,,02/03/1960,01/03/2020"
    answer = write_draft(write(tmp_path / "other", unclear), tmp_path / "other")
    assert not {"birth_date", "exam_date"} & set(answer["columns"])
    assert "date_format" in answer["text"]
    draft = (tmp_path / "other" / "cohort.toml").read_text(encoding="utf-8")
    assert '# birth_date = "dob"' in draft
    assert "\ndate_format" not in draft


def test_it_says_which_sites_the_encoder_of_these_columns_does_not_read(tmp_path: Path) -> None:
    sites = ["face"] * 5 + ["trunk"] * 28
    rows = [f"{n}.png,{50 + n % 9},{site},{'yes' if n % 2 else 'no'}" for n, site in enumerate(sites)]
    table = write(tmp_path / "clinic", "\n".join(["image,age,location,bleeding", *rows]))
    answer = write_draft(table, tmp_path / "clinic")
    (said,) = answer["not_read"]
    assert "28 of 33" in said
    assert "--attributes isic" in said
    assert said in answer["text"]

    (tmp_path / "clinic" / "cohort.toml").unlink()
    plain = "\n".join(["image,age,location", *(row.rpartition(",")[0] for row in rows)])
    assert write_draft(write(tmp_path / "clinic", plain), tmp_path / "clinic")["not_read"] == []


def test_the_table_is_looked_for_in_the_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "clinic", "image,age\n0.png,50")
    monkeypatch.chdir(tmp_path)
    assert run_here("ingest", "--draft", "t.csv", "clinic", cwd=tmp_path).returncode == 0
    assert 'file = "t.csv"' in (tmp_path / "clinic" / "cohort.toml").read_text(encoding="utf-8")
    with pytest.raises(InputError) as caught:
        write_draft(Path("nowhere.csv"), tmp_path)
    assert "nowhere.csv" in caught.value.found
