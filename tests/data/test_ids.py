"""Ids of patients and lesions: what is one id is one, what may be is listed until a person settles it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from source_tables import cohort, listed, photo, table

from skinkit.console import Console
from skinkit.data import read_cases
from skinkit.data.draft import write_draft
from skinkit.data.ids import look_like_names, unsettled
from skinkit.errors import ConfigError, RefusedError
from skinkit.pipeline import Pipeline
from skinkit.workspace import load_workspace


def hospital(
    root: Path, ids: Sequence[tuple[str, str]], lesion: str = '"lid"', words: Sequence[str] = ("nevus", "melanoma")
) -> None:
    """A photo for each (patient, lesion) as the table spells them."""
    rows = [f"{i:02d}|{patient}|{number}|{words[i % len(words)]}" for i, (patient, number) in enumerate(ids)]
    for i in range(len(ids)):
        photo(root / f"{i:02d}.jpg", i)
    table(root / "t.csv", "image|pid|lid|dx", *rows)
    (root / "cohort.toml").write_text(
        'file = "t.csv"\ndelimiter = "|"\n[columns]\nimage = "image"\npatient_id = "pid"\n'
        f'lesion_id = {lesion}\ndiagnosis = "dx"\n'
    )


def keys(root: Path, **options: Any) -> list[tuple[str | None, str | None, str]]:
    rows = listed(root, **options).rows
    return [(row["patient_id"], row["lesion_id"], row["group_id"].removeprefix("h:")) for row in rows]


def said(root: Path, log_format: str = "text") -> str:
    stream = io.StringIO()
    read_cases(cohort(root), Console(stream=stream, log_format=log_format))
    return stream.getvalue()


@pytest.mark.parametrize(
    "word", ["unknown", "?", "-", "/", "未知", "不详", "N/A", "unbekannt", "k.A.", "---", "n.a.", ""]
)
def test_a_word_for_unknown_is_no_patient(tmp_path: Path, word: str) -> None:
    hospital(tmp_path, [(word, "1"), (word, "1"), ("P1", "1"), ("P2", "1")])
    assert [group for _, _, group in keys(tmp_path)] == ["image:00", "image:01", "patient:P1", "patient:P2"]
    if word not in ("", "N/A"):
        assert "patient_id: 2 rows have a word for unknown" in said(tmp_path)


def test_a_lesion_is_known_by_patient_and_number(tmp_path: Path) -> None:
    hospital(tmp_path, [("P1", "1"), ("P1", "2"), ("P2", "1"), ("P2", "1")])
    assert [lesion for _, lesion, _ in keys(tmp_path)] == ["P1|1", "P1|2", "P2|1", "P2|1"]
    assert "lesion_id: 1 ids occur for several patients" in said(tmp_path)
    hospital(tmp_path, [("P1", "1"), ("P1", "2"), ("P2", "1"), ("P2", "1")], lesion='["lid"]')
    assert [lesion for _, lesion, _ in keys(tmp_path)] == ["1", "2", "1", "1"]
    assert "photos of one lesion may be of two patients" in said(tmp_path)


def test_a_lesion_id_of_its_own_holds_without_a_patient(tmp_path: Path) -> None:
    hospital(tmp_path, [("P1", "L1"), ("", "L2"), ("unknown", "L2")])
    assert keys(tmp_path)[1:] == [(None, "L2", "lesion:L2")] * 2


@pytest.mark.parametrize(
    "other", ["Ｐ－１", "P\u20111", " P-1\u00a0", "P\u20131", "P-1_x000D_", "P\u22121", "P-\u200b1"]
)
def test_spellings_that_are_certainly_one_id_are_joined(tmp_path: Path, other: str) -> None:
    hospital(tmp_path, [("P-1", "a"), (other, "a")])
    assert {row[:2] for row in keys(tmp_path)} == {("P-1", "P-1|a")}
    assert listed(tmp_path).spellings == {}


@pytest.mark.parametrize(
    ("ids", "groups"),
    [
        (["p1", "P1", "P2"], [("P1", "p1")]), (["7", "007", "7.0"], [("007", "7", "7.0")]),
        (["P-01", "P1", "P 1"], [("P 1", "P-01", "P1")]), (["3-2", "2024-03-01"], [("2024-03-01",)]),
        (["3-2", "01. Mrz"], [("01. Mrz",)]), (["3-2", "3月1日"], [("3月1日",)]), (["3-2", "Mar-01"], [("Mar-01",)]),
        (["1-1", "11", "111", "P1", "P10", "A1", "B1"], []), (["2024-03-01", "2024-03-02"], []),
        (["IL_0123", "IL_0124"], []),
    ],
)  # fmt: skip
def test_spellings_that_may_be_one_id_are_listed(ids: list[str], groups: list[tuple[str, ...]]) -> None:
    assert unsettled([*ids, None]) == groups


def test_they_are_named_to_people_and_not_in_logs(tmp_path: Path) -> None:
    hospital(tmp_path, [("secret7", "1"), ("Secret7", "1")])
    assert "1 patient ids are written in several ways: 'Secret7' = 'secret7'" in said(tmp_path)
    assert "1 patient ids are written in several ways" in said(tmp_path, "json")
    assert "ecret7" not in said(tmp_path, "json")


def workspace(root: Path, line: str = "") -> Pipeline:
    text = f'[cohorts.h]\nrole = "development"\nsource = "folder"\npath = "data"\n{line}\n'
    (root / "skinkit.toml").write_text(text, encoding="utf-8")
    return Pipeline(load_workspace(root), Console(stream=io.StringIO()))


def test_split_and_train_refuse_until_the_ids_are_settled(tmp_path: Path) -> None:
    hospital(tmp_path / "data", [(f"P{i}", "1") for i in range(23)] + [("p0", "1")])
    with pytest.raises(RefusedError) as refused:
        workspace(tmp_path).make("split", {"folds": 1})
    assert "cohort 'h': 1 patient ids are written in several ways: 'P0' = 'p0'" in refused.value.found
    assert refused.value.exit_code == 5
    for choice, groups in (("same", 23), ("different", 24)):
        pipeline = workspace(tmp_path, f'spellings = "{choice}"')
        pipeline.make("split", {"folds": 1})
        assert pipeline.steps[-1].artifact.table()["group_id"].nunique() == groups
    with pytest.raises(RefusedError):
        workspace(tmp_path).make("train", {"model": "logistic"})
    with pytest.raises(ConfigError, match="spellings"):
        workspace(tmp_path, 'spellings = "maybe"').make("ingest", {})


def test_names_of_people_look_private(tmp_path: Path) -> None:
    assert look_like_names(["Ada Lovelace", "HOPPER GRACE", "Curie, M.", "王小明"])
    assert not look_like_names(["Patient 1", "P 12", "IP_1234567", "患者一", "abc", "A 1 B", ""])
    hospital(tmp_path, [("Ada Lovelace", "1"), ("Grace Hopper", "1")])
    assert "patient_id looks private" in said(tmp_path)
    (tmp_path / "cohort.toml").unlink()
    table(tmp_path / "t.csv", "image|Patient|dx", "00|Ada Lovelace|nevus", "01|Grace Hopper|nevus")
    answer = write_draft(tmp_path / "t.csv", tmp_path)
    assert "patient_id" not in answer["columns"]
    assert "Patient looks private" in answer["text"]
    assert '# patient_id = "Patient"  # looks private' in (tmp_path / "cohort.toml").read_text()
