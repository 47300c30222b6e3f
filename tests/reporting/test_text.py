"""The two-language texts of the pages: complete, filled with the same values, used, and part of the package."""

from __future__ import annotations

import ast
import string
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import jinja2.nodes
import pytest
from hatchling.builders.wheel import WheelBuilder

from skinkit.reporting import words
from skinkit.reporting.html import environment
from skinkit.reporting.standards import CHECKLISTS, STANDARDS, load_standard
from skinkit.stages.report import Config

REPORTING = Path(words.__file__).parent
SOURCES = [*sorted(REPORTING.glob("*.py")), REPORTING.parent / "stages" / "report.py"]
SPEAKERS = {"words": "", "self": "", "t": "", "with_set_name": "", "_say": "facts.", "ReportWarning": "warn."}
"""Callable that takes the key of a text first -> what it puts before the key."""
BLANK = {"average.none"}
"""Keys without a text on purpose."""


def entries(file: Path) -> list[tuple[str, str, str]]:
    return list(words.flattened(tomllib.loads(file.read_text(encoding="utf-8"))))


TEXT_FILES = sorted(words.TEXTS.glob("*.toml"))


@pytest.mark.parametrize("file", TEXT_FILES, ids=lambda file: file.stem)
def test_every_entry_has_a_text_in_every_language(file: Path) -> None:
    languages: dict[str, set[str]] = {}
    for key, language, text in entries(file):
        languages.setdefault(key, set()).add(language)
        assert text.strip() or key in BLANK or key in ("comma", "semicolon"), key
    assert {key: found for key, found in languages.items() if found != set(words.LANGUAGES)} == {}


def test_no_key_stands_in_two_files() -> None:
    times = Counter((key, language) for file in TEXT_FILES for key, language, _ in entries(file))
    assert [key for key, n in times.items() if n > 1] == []


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_have_the_same_placeholders() -> None:
    english, chinese = words.catalogue("en"), words.catalogue("zh-CN")
    assert {key for key in english if placeholders(english[key]) != placeholders(chinese[key])} == set()
    assert not any("" in placeholders(text) for text in english.values())  # none without a name


# --------------------------------------------------------------------------------------------------- keys in code


def spoken(node: ast.expr) -> Iterator[tuple[str, bool]]:
    """Keys that an argument names, and whether each is whole or only the beginning of one."""
    match node:
        case ast.Constant(value=str(key)):
            yield key, True
        case ast.IfExp(body=body, orelse=orelse):
            yield from spoken(body)
            yield from spoken(orelse)
        case ast.JoinedStr(values=[ast.Constant(value=str(start)), *_]):
            yield start, False


def keys_in_code() -> Iterator[tuple[str, bool]]:
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if called in SPEAKERS:
                yield from ((SPEAKERS[called] + key, whole) for key, whole in spoken(node.args[0]))
            elif called == "code":
                yield from ((f"{family}.", False) for family, whole in spoken(node.args[0]) if whole)


def keys_in_templates() -> Iterator[str]:
    for file in sorted(REPORTING.glob("templates/*.html")):
        tree = environment().parse(file.read_text(encoding="utf-8"))
        for call in tree.find_all(jinja2.nodes.Call):
            if isinstance(call.node, jinja2.nodes.Name) and call.node.name == "t":
                yield from (constant.value for constant in call.args[0].find_all(jinja2.nodes.Const))
                if isinstance(call.args[0], jinja2.nodes.Const):
                    yield call.args[0].value


def mentioned() -> tuple[set[str], tuple[str, ...]]:
    """Every literal (a key may be passed on before it is looked up), and every beginning of a composed key."""
    trees = [ast.parse(source.read_text(encoding="utf-8")) for source in SOURCES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    literals = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    starts = {start for start, whole in keys_in_code() if not whole}
    starts |= {start for node in nodes if isinstance(node, ast.JoinedStr) for start, _ in spoken(node)}
    for file in REPORTING.glob("templates/*.html"):
        tree = environment().parse(file.read_text(encoding="utf-8"))
        literals |= {node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)}
    return literals, tuple(start for start in starts if "." in start)


def test_every_key_in_code_and_templates_exists() -> None:
    texts, in_code, in_templates = words.catalogue("en"), list(keys_in_code()), list(keys_in_templates())
    assert min(len(in_code), len(in_templates)) > 50  # the search itself works
    assert [key for key, whole in in_code if whole and key not in texts] == []
    assert [start for start, whole in in_code if not whole and not any(key.startswith(start) for key in texts)] == []
    assert [key for key in in_templates if key not in texts] == []


def test_every_text_is_used() -> None:
    literals, starts = mentioned()
    assert [key for key in words.catalogue("en") if key not in literals and not key.startswith(starts)] == []


# ------------------------------------------------------------------------------------------------------ checklists


@pytest.mark.parametrize("name", STANDARDS)
def test_every_item_of_a_checklist_is_written_in_every_language(name: str) -> None:
    standard, texts = load_standard(name), words.catalogue("en")
    assert standard.title
    assert standard.citation
    for item in standard.items:
        assert {language for language, text in item.asks.items() if text.strip()} == set(words.LANGUAGES), item.number
        assert f"standard.section.{item.section}" in texts, item.number
        assert item.facts or not item.complete, item.number


def test_every_standard_of_the_command_line_has_its_file() -> None:
    assert set(get_args(get_type_hints(Config)["standard"])) == {"", *STANDARDS}


def test_the_wheel_holds_every_toml_file() -> None:
    root = REPORTING.parent.parent
    packed = {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}
    kept = {file.relative_to(root).as_posix() for file in REPORTING.parent.rglob("*.toml")}
    assert {file.name for file in [*TEXT_FILES, *CHECKLISTS.glob("*.toml")]} <= {Path(path).name for path in kept}
    assert kept <= packed


def test_criteria_stand_as_a_clinician_writes_them_and_add_up_to_the_score() -> None:
    from skinkit.reporting.cards import Lesion, checklist_score, criteria

    row = {
        "level": "image", "case_id": "1", "top1__pigment_network": "atypical", "top1_p__pigment_network": 0.62,
        "top1__streaks": "absent", "top1_p__streaks": 0.9, "checklist_score": 2.0, "checklist_p_from_1": 0.8,
        "checklist_p_from_3": 0.25,
    }  # fmt: skip
    lesion = Lesion(row, {}, {}, {}, "lesion 1")
    written = {"en": ("pigment network", "atypical (points: 2)"), "zh-CN": ("色素网", "不典型（2 分）")}
    for lang, (network, answer) in written.items():
        rows = criteria(lesion, words.Words(lang))
        assert [rows[0].name, rows[0].answer] == [network, answer]
        assert "62" in rows[0].share
        assert len(rows) == 2
        sentence = checklist_score(lesion, words.Words(lang))
        assert all(figure in sentence for figure in ("2", "10", "25", "80"))
    assert checklist_score(Lesion({"level": "image", "case_id": "1"}, {}, {}, {}, "1"), words.Words("en")) == ""
