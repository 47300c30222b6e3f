"""Tasks beside the diagnosis: those of the seven-point checklist, and those a class-set file defines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import written_artifacts as written

from skinkit.commands import Context
from skinkit.commands import list as list_command
from skinkit.errors import ConfigError
from skinkit.taxonomy import TASKS, ClassSet, class_set, tasks_of

FILE = """
malignant = ["melanoma"]
[classes]
MEL = ["melanoma"]
NEV = ["nevus"]
[tasks.colour]
column = "keep__colour"
[tasks.colour.classes]
dark = ["black", "brown"]
light = ["pink"]
"""


def test_the_seven_point_checklist_is_grouped_as_published() -> None:
    assert {name: of.classes for name, of in tasks_of(["seven_point"]).items()} == {
        "pigment_network": ("absent", "typical", "atypical"),
        "streaks": ("absent", "regular", "irregular"),
        "pigmentation": ("absent", "regular", "irregular"),
        "regression_structures": ("absent", "present"),
        "dots_and_globules": ("absent", "regular", "irregular"),
        "blue_whitish_veil": ("absent", "present"),
        "vascular_structures": ("absent", "regular", "irregular"),
    }
    vessels, score = TASKS["vascular_structures"], TASKS["seven_point_score"]
    assert [vessels.to_class(value) for value in ("wreath", "dotted", "crown")] == ["regular", "irregular", None]
    assert [score.to_class(value) for value in ("2", "3", "10")] == ["below_3", "from_3", "from_3"]


def test_names_are_taken_once_and_the_diagnosis_is_always_there() -> None:
    assert list(tasks_of(["diagnosis,streaks", "streaks", "pigmentation"])) == ["streaks", "pigmentation"]
    assert tasks_of(["diagnosis"]) == tasks_of([]) == {}


def test_a_class_set_file_defines_tasks(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FILE, encoding="utf-8")
    (task,) = tasks_of(["colour"], "mine.toml", tmp_path).values()
    assert (task.column, task.classes, task.to_class("brown")) == ("keep__colour", ("dark", "light"), "dark")
    assert ClassSet.from_dict(task.as_dict()) == task
    assert class_set("mine.toml", folder=tmp_path).classes == ("MEL", "NEV")
    assert "column" not in class_set("pad6").as_dict()


def test_the_class_set_file_of_the_documentation_is_read_and_listed(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "classes-and-tasks.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(malignant.*?)```", page, flags=re.DOTALL)
    workspace = written.make_workspace(tmp_path, {"clinic": "development"}, classes="mine.toml")
    (tmp_path / "mine.toml").write_text(block, encoding="utf-8")
    classes = class_set("mine.toml", folder=tmp_path)
    assert (classes.classes, classes.malignant) == (("MEL", "BCC", "NEV"), {"MEL", "BCC"})
    listing = list_command.run(list_command.Config("tasks"), Context(workspace.root, written.Said()))
    assert listing["tasks"]["colour"] == "dark, light; column keep__colour"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('column = "keep__colour"', "", "[tasks.colour]"),
        ('light = ["pink"]', "", "[tasks.colour]"),
        ('light = ["pink"]', 'light = ["brown"]', "[tasks.colour.classes]"),
        ('light = ["pink"]', "light = 3", "[tasks.colour.classes]"),
        ("tasks.colour", "tasks.diagnosis", "[tasks.diagnosis]"),
        ("tasks.colour", "tasks.a__b", "[tasks.a__b]"),
    ],
)
def test_a_task_that_is_defined_wrongly_is_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FILE.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        tasks_of(["colour"], "mine.toml", tmp_path)
    assert said in error.value.found


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        tasks_of(["streak"])
    assert "streak" in error.value.found
    assert "streaks" in error.value.expected
