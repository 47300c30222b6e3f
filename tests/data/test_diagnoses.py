"""A diagnosis is taken only where a table states it without doubt: a code is read whole, with all beside it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from source_tables import listed, photo, table

from skinkit.data.diagnoses import guess
from skinkit.data.draft import write_draft


def row_of(root: Path, word: str, code: str = "", more: str = "") -> dict[str, Any]:
    photo(root / "a.jpg")
    table(root / "t.csv", "image|dx|icd", f"a|{word}|{code}")
    columns = 'image = "image"\ndiagnosis = "dx"\nicd10 = "icd"\n'
    (root / "cohort.toml").write_text(f'file = "t.csv"\ndelimiter = "|"\n[columns]\n{columns}{more}', encoding="utf-8")
    return listed(root).rows[0]


@pytest.mark.parametrize(
    ("code", "diagnosis", "flag"),
    [
        ("C43.5", "melanoma", None), ("c43.5 G", "melanoma", None), ("C43.5GR", "melanoma", None),
        ("D22.5 G L", "nevus", None), ("L82.x00x001", "seborrheic_keratosis", None), ("D22.501", "nevus", None),
        ("Ｃ４３．５", "melanoma", None), ("C43.5, C43.6", "melanoma", None), ("C43.5; I10.90", "melanoma", None),
        ("C43.5 Bösartiges Melanom, nicht näher bezeichnet", "melanoma", None),
        ("D22.5 A", None, "diagnosis_excluded"), ("C43.5A", None, "diagnosis_excluded"),
        ("C43.5-V", None, "diagnosis_suspected"), ("C43.5 (Z)", None, "diagnosis_history"),
        ("V C43.5", None, "diagnosis_suspected"), ("C43.5 ruled out", None, "diagnosis_excluded"),
        ("rule out C43.5", None, "diagnosis_suspected"), ("C43.5?", None, "diagnosis_suspected"),
        ("C43.5 待排", None, "diagnosis_suspected"), ("C43.5 排除", None, "diagnosis_excluded"),
        ("C43.5 Z.n. Exzision", None, "diagnosis_history"), ("C43.5 ausgeschlossen", None, "diagnosis_excluded"),
        ("D22.5 / C43.5", None, "several_diagnoses"), ("C43.5 L40.0", None, "several_diagnoses"),
        ("C43.5 V, D22.5", None, "several_diagnoses"), ("D22.5 melanoma", None, "several_diagnoses"),
        ("C43.5XYZ", None, "diagnosis_unmapped"), ("C44.3", None, "diagnosis_unmapped"), ("", None, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("column", ["icd", "dx"])
def test_a_code_is_read_whole(tmp_path: Path, code: str, diagnosis: str | None, flag: str | None, column: str) -> None:
    row = row_of(tmp_path, *((code, "") if column == "dx" else ("", code)))
    assert (row["diagnosis"], row["flags"]) == (diagnosis, flag)


@pytest.mark.parametrize(
    ("word", "code", "diagnosis", "flag"),
    [
        ("nevus", "D22.5", "nevus", None), ("nevus", "C43.5", None, "conflicting_diagnosis"),
        ("melanoma", "D22.5 G", None, "conflicting_diagnosis"), ("bcc", "C44.3", "basal_cell_carcinoma", None),
        ("nevus", "C44.3", None, "conflicting_diagnosis"), ("melanoma", "C44.3", None, "conflicting_diagnosis"),
        ("bkl", "L82", "benign_keratosis", None), ("nevus", "C43.5 A", "nevus", None),
        ("melanoma", "C43.5 A", None, "conflicting_diagnosis"), ("melanoma", "C43.5 V", None, "diagnosis_suspected"),
        ("nevus", "C43.5 V", None, "conflicting_diagnosis"), ("nevus", "D22.5; C43.5", "nevus", "several_diagnoses"),
        ("no melanoma", "C43.5", None, "conflicting_diagnosis"), ("No melanoma", "", None, "diagnosis_excluded"),
        ("V. a. Melanom", "", None, "diagnosis_suspected"), ("既往黑色素瘤", "", None, "diagnosis_history"),
        ("排除黑色素瘤", "", None, "diagnosis_excluded"),
        ("naevus pigmentosus", "C43.5", None, "conflicting_diagnosis"),
        ("naevus pigmentosus", "D22.5", "nevus", None), ("nevus", "I10", "nevus", None),
        ("unknown", "", None, None), ("unknown", "C43.5", "melanoma", None),
    ],
)  # fmt: skip
def test_words_and_code_of_a_row_must_agree(
    tmp_path: Path, word: str, code: str, diagnosis: str | None, flag: str | None
) -> None:
    row = row_of(tmp_path, word, code)
    assert (row["diagnosis"], row["flags"]) == (diagnosis, flag)


def test_doubtful_and_conflicting_diagnoses_are_counted(tmp_path: Path) -> None:
    row_of(tmp_path, "nevus", "C43.5")
    assert listed(tmp_path).unmapped == {"diagnosis": {"nevus, but C43.5": 1}}
    row_of(tmp_path, "", "C43.5 V")
    assert listed(tmp_path).unmapped == {"diagnosis": {"C43.5 V": 1}}


@pytest.mark.parametrize(
    ("word", "diagnosis", "flag"),
    [
        ("nodular melanoma", "melanoma", None), ("nodular melanoma excluded", None, "diagnosis_excluded"),
        ("no melanoma, nevus", None, "diagnosis_excluded"), ("suspected: nevus", "nevus", None),
        ("melanoma and nevus", "melanoma", "several_diagnoses"),
    ],
)  # fmt: skip
def test_a_pattern_is_not_blind_to_what_stands_beside_it(
    tmp_path: Path, word: str, diagnosis: str | None, flag: str | None
) -> None:
    patterns = "".join(
        f"[[patterns.diagnosis]]\nmatch = '{match}'\nvalue = '{value}'\n"
        for match, value in (("melanoma", "melanoma"), ("suspected: nevus", "nevus"), ("nevus", "nevus"))
    )
    row = row_of(tmp_path, word, more=patterns)
    assert (row["diagnosis"], row["flags"]) == (diagnosis, flag)


def test_a_doubtful_word_that_a_person_mapped_is_taken_and_flagged(tmp_path: Path) -> None:
    row = row_of(tmp_path, "melanoma excluded", more='[values.diagnosis]\n"melanoma excluded" = "nevus"\n')
    assert (row["diagnosis"], row["flags"]) == ("nevus", "diagnosis_excluded")


TRAPS = (
    "lentigo maligna", "Basal cell papilloma", "squamous cell papilloma", "no melanoma", "melanoma excluded",
    "history of melanoma", "non-melanoma skin cancer", "naevus flammeus", "nevus sebaceus", "epidermal nevus",
    "benign juvenile melanoma", "keratoacanthoma", "lymphangioma", "angiosarcoma", "dermatofibrosarcoma",
    "basal cell nevus syndrome", "malignant blue nevus", "lentigo simplex", "Kein Melanom", "V.a. Melanom",
    "melanoma or nevus", "nevus and melanoma", "melanoma/nevus", "恶性雀斑样痣", "基底细胞乳头状瘤", "鲜红斑痣",
    "皮脂腺痣", "表皮痣", "太田痣", "角化棘皮瘤", "良性幼年黑色素瘤", "非黑色素瘤皮肤癌", "淋巴管瘤", "血管肉瘤",
    "隆突性皮肤纤维肉瘤", "排除黑色素瘤", "黑色素瘤术后", "黑色素瘤待查",
)  # fmt: skip
PLAIN = {
    "melanoma, ulcerated": "melanoma", "melanoma not otherwise specified": "melanoma", "结节型黑色素瘤": "melanoma",
    "无色素性黑色素瘤": "melanoma", "nodular BCC": "basal_cell_carcinoma", "结节型基底细胞癌": "basal_cell_carcinoma",
    "非典型痣": "nevus", "compound naevus": "nevus", "seborrhoeic wart": "seborrheic_keratosis",
}  # fmt: skip


def test_a_draft_proposes_only_as_comments_and_leaves_traps_to_a_person(tmp_path: Path) -> None:
    words = [*TRAPS, *PLAIN, "nevus", "C43.5", "C43.5 A", "C43.5; D22.5"]
    for number in range(len(words)):
        photo(tmp_path / f"{number}.jpg", number)
    table(tmp_path / "t.csv", "image|diagnosis", *(f"{number}|{word}" for number, word in enumerate(words)))
    answer = write_draft(tmp_path / "t.csv", tmp_path)
    assert answer["guesses"] == {"diagnosis": PLAIN}
    assert {*answer["unmapped"]["diagnosis"]} == {*words} - {"nevus", "C43.5"}
    assert f"for {len(PLAIN)} of them ({len(PLAIN)} rows)" in answer["text"]
    text = (tmp_path / "cohort.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["values"]["diagnosis"] == {"nevus": "nevus"}
    assert '# "nodular BCC" = "basal_cell_carcinoma"' in text
    known = {row["diagnosis_source"]: row["diagnosis"] for row in listed(tmp_path).rows if row["diagnosis"]}
    assert known == {"nevus": "nevus", "C43.5": "melanoma"}


@pytest.mark.parametrize("word", TRAPS)
def test_no_trap_is_guessed(word: str) -> None:
    assert guess(word) == ""
