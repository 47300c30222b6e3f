"""Studies whose arms are made from steps: a pretraining, a generator, its images, a teacher; and the grid of DerMAE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import small_cohort
import third_party

from skinkit import cli
from skinkit.artifacts.artifact import open_artifact
from skinkit.commands import _trainings, ablate
from skinkit.errors import ConfigError, InputError
from skinkit.studies import load_study
from skinkit.studies.reading import read_study
from skinkit.workspace import Ref, Workspace

STUDY = """
title = "A small grid"
citation = "A. Liu, 2032"
classes = "pad6"
malignant = "pad"
preset = "small"
figures = ["macro_f1"]
presets.small = { student = "quick_student" }
cohorts = [{ name = "clinic", role = "development", source = "", words = "a clinic" }]
protocols = [{ name = "grouped", words = "patients together" }]
steps = [
  { name = "generator", words = "colours", model = "class_colours" },
  { name = "images", words = "its images", stage = "synthesise", model = "generator", settings = { per_class = 3.0 } },
  { name = "mae", words = "an autoencoder", model = "mae", preset = "student", synthetic = "images" },
]

[[arms]]
name = "public"
words = "from public weights"
model = "vit"
preset = "b16"
optional = true

[[arms]]
name = "teacher"
words = "the teacher"
model = "vit"
preset = "student"
weights = "none"

[[arms]]
name = "whole"
words = "the taught student"
model = "vit"
preset = "student"
weights = "model:mae"
synthetic = "images"
teacher = "teacher"
settings = { "recipe.synthetic_share" = 0.5, "objective.share" = 0.7 }
extends = ["teacher"]

[[exhibits]]
name = "table1"
title = "Table 1"
kind = "ablation"
"""
TINY = ("side_px=32", "recipe.epochs=1", "recipe.batch=8", "decoder_depth=1")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The study, installed as a third party installs one, beside a generator of colours."""
    folder = tmp_path_factory.mktemp("package")
    code = "from skinkit.studies.reading import read_study\n\nSTUDY = read_study(__file__)\n"
    (folder / "liu2032.py").write_text(code, encoding="utf-8")
    (folder / "liu2032.toml").write_text(STUDY, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, third_party.models("class_colours"):
        patch.syspath_prepend(str(folder))
        patch.setattr("skinkit.studies.entry_points", _points)
        yield folder


def _points(**of: str) -> list[EntryPoint]:
    points = [EntryPoint("liu2032", "liu2032", "skinkit.studies")]
    return [point for point in points if of.get("name", point.name) == point.name]


def run(workspace: Workspace, *more: str) -> int:
    settings = [word for text in TINY for word in ("--settings", text)]
    return cli.main(
        ["ablate", "liu2032", "--bootstrap", "20", "--no-upstream", "--jobs", "1", "--device", "cpu",
         "--quiet", "--allow-untrained", small_cohort.FEW, "-w", str(workspace.root), *settings, *more]
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small_cohort.make(tmp_path_factory.mktemp("steps") / "w", folds=1, patients=30)
    assert run(workspace) == 0
    return workspace


def manifests(workspace: Workspace) -> dict[str, int]:
    files = [
        *workspace.artifacts.glob("models/*/manifest.json"),
        *workspace.artifacts.glob("synthetic/*/manifest.json"),
    ]
    return {file.parent.name: file.stat().st_mtime_ns for file in files}


def about(workspace: Workspace, name: str) -> dict[str, Any]:
    content: dict[str, Any] = open_artifact(workspace.path(Ref("models", name=name))).json("model.json")
    return content


def test_arms_are_made_from_their_steps_and_their_teacher(made: Workspace) -> None:
    assert set(manifests(made)) == {f"liu2032-{name}" for name in ("generator", "images", "mae", "teacher", "whole")}
    whole = about(made, "liu2032-whole")
    assert whole["weights"]["name"] == "model:liu2032-mae"
    assert whole["synthetic"]["name"] == "liu2032-images"
    assert whole["synthetic"]["parent"] == "liu2032-generator"
    assert whole["settings"]["recipe"]["synthetic_share"] == 0.5
    recipe = open_artifact(made.path(Ref("models", name="liu2032-whole"))).recipe
    assert recipe["inputs"]["teacher"] == open_artifact(made.path(Ref("models", name="liu2032-teacher"))).identity
    assert "timm/vit_patch8_128x6x4" in {
        about(made, f"liu2032-{name}")["settings"]["backbone"] for name in ("mae", "whole")
    }


def test_the_table_has_the_studys_own_figures_the_teacher_and_what_was_not_run(made: Workspace) -> None:
    told = json.loads((made.root / "ablate" / "liu2032" / "ablation.json").read_text())
    assert list(told["arms"]) == ["teacher", "whole"]
    assert "weights" in told["not_run"]["public"]
    clinic = told["cohorts"]["clinic"]
    assert 0 <= clinic["arms"]["whole"]["macro_f1"]["estimate"] <= 1
    taught = clinic["taught"]["whole"]
    assert taught["teacher"] == "teacher"
    assert 0 <= taught["agreement"]["estimate"] <= 1
    page = (made.root / "ablate" / "liu2032" / "ablation.md").read_text()
    assert "| from public weights | not run |" in page
    assert "F1, macro" in page
    assert "KL divergence" in page


def test_what_is_there_is_kept_and_another_seed_makes_its_own(made: Workspace) -> None:
    before = manifests(made)
    assert run(made, "--seeds", "0,3", "--one-seed", "teacher", "--arms", "teacher,whole") == 0
    after = manifests(made)
    assert {name: after[name] for name in before} == before
    # The student of seed 3 learns from the teacher of seed 3, which is made for it although its row has one seed.
    names = ("generator", "images", "mae", "teacher", "whole")
    assert set(after) - set(before) == {f"liu2032-{name}-s3" for name in names}
    whole = about(made, "liu2032-whole-s3")
    assert (whole["seed"], whole["weights"]["name"]) == (3, "model:liu2032-mae-s3")
    assert whole["synthetic"]["parent"] == "liu2032-generator-s3"
    told = json.loads((made.root / "ablate" / "liu2032" / "seeds" / "ablation.json").read_text())
    assert told["arms"]["teacher"]["models"] == {"0": "liu2032-teacher"}


def test_a_plan_says_what_is_there_and_writes_nothing(made: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path for path in made.root.rglob("*"))
    assert run(made, "--plan", "--json", "--seeds", "0,7", "--arms", "whole") == 0
    plan = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)["plan"]}
    names = ("generator", "images", "mae", "teacher", "whole")
    assert list(plan) == [f"liu2032-{name}{seed}" for seed in ("", "-s7") for name in names]
    assert {state for name, state in plan.items() if not name.endswith("-s7")} == {"there"}
    assert {state for name, state in plan.items() if name.endswith("-s7")} == {"to be made"}
    assert sorted(path for path in made.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--settings", "decoder_dept=1"), "decoder_dept"),
        (("--preset", "smal"), "no preset 'smal'"),
        (("--weights-of", "teachr=x.pth"), "did you mean 'teacher'"),
        (("--weights-of", "images=x.pth"), "--weights-of images=x.pth"),
        (("--weights-of", "mae"), "--weights-of mae"),
    ],
)
def test_what_no_model_of_the_study_has_is_told(
    made: Workspace, arguments: tuple[str, ...], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = manifests(made)
    assert run(made, *arguments) == 2
    assert found in capsys.readouterr().err
    assert manifests(made) == before


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('weights = "model:mae"', 'weights = "model:mea"', "weights of 'mea'"),
        ('weights = "model:mae"', 'weights = "model:images"', "weights of 'images'"),
        ('synthetic = "images"\nteacher', 'synthetic = "mae"\nteacher', "synthetic 'mae'"),
        ('teacher = "teacher"', 'teacher = "whole"', "teacher 'whole'"),
        ('stage = "synthesise", model = "generator"', 'stage = "synthesise", model = "mae"', "model 'mae'"),
        ('stage = "synthesise"', 'stage = "predict"', "stage 'predict'"),
        ('name = "teacher"', 'name = "mae"', "mae: a second"),
        ("optional = true", 'optional = "yes"', "optional = 'yes'"),
        ('presets.small = { student = "quick_student" }', "presets.small = 3", "presets"),
    ],
)
def test_what_is_made_from_nothing_is_a_configuration_error(old: str, new: str, found: str, tmp_path: Path) -> None:
    assert old in STUDY
    (tmp_path / "liu2032.toml").write_text(STUDY.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_study(str(tmp_path / "liu2032.py"))
    assert found in error.value.found


# ------------------------------------------------------------------------------------------------- the grid of DerMAE


def test_every_cell_of_the_grid_differs_from_those_it_extends_in_one_thing() -> None:
    study = load_study("dermae")
    cells = {arm.name: arm for arm in study.arms if arm.name.count("-") == 2}
    assert len(cells) == 2 * 4 * 3
    assert study.whole.name == "kd-mixed-both"
    for name, arm in cells.items():
        places = name.split("-")
        for other in arm.extends:
            apart = [(one, two) for one, two in zip(places, other.split("-"), strict=True) if one != two]
            assert len(apart) == 1, (name, other)
            assert apart[0] in {("mixed", "photos"), ("kd", "student"), *((m, "none") for m in ("real", "syn", "both"))}
        role, images, mae = places
        assert (arm.synthetic == "images") == (images == "mixed")
        assert arm.teacher == (f"teacher-{images}-{mae}" if role == "kd" else "")
        size = "teacher" if role == "teacher" else "student"
        assert arm.weights == ("none" if mae == "none" else f"model:mae_{size}-{mae}")


def test_the_baselines_are_rows_and_the_broken_one_is_named() -> None:
    study = load_study("dermae")
    for name in ("class_weighted", "oversampled", "lite0_probe", "lite0_imagenet", "vit_b_imagenet", "synthetic_only"):
        assert study.arm(name) in study.arms
    assert any("0.32" in remark and ".805" in remark for remark in study.remarks)
    printed = {(number.arm, number.value) for number in study.published}
    assert {("student-photos-none", 0.32), ("kd-mixed-both", 0.78), ("teacher-mixed-both", 0.89)} <= printed
    assert {round(number.value, 6) for number in study.published if number.printed_only} == {0.8915, 0.9051}


@pytest.mark.parametrize("preset", sorted(load_study("dermae").presets))
def test_a_cell_of_each_size_names_trainings_that_can_be_made(preset: str) -> None:
    # Cells without images: the generator is a model of its own.
    config = ablate.Config(paper="dermae", preset=preset, arms=("kd-photos-real", "teacher-photos-none"))
    found = _trainings.works(load_study("dermae"), config, "grouped")
    assert [work.name for work in found] == [
        f"dermae-{name}"
        for name in (
            "teacher-photos-none",
            "mae_student-real",
            "mae_teacher-real",
            "teacher-photos-real",
            "kd-photos-real",
        )
    ]
    teacher, student = (
        work.options for work in found if work.name in ("dermae-kd-photos-real", "dermae-teacher-photos-real")
    )
    assert student["teacher"] == "dermae-teacher-photos-real"
    assert student["preset"] != teacher["preset"]


def test_weights_of_one_arm_or_step_go_before_all_others(tmp_path: Path) -> None:
    study = load_study("dermae")
    file = tmp_path / "b16.safetensors"
    file.touch()
    # The command line divides at commas: the second file belongs to the first.
    given = ("mae_teacher-real=a.pth", "b.pth", f"vit_b_imagenet={file}", "lite0_probe=none")
    config = ablate.Config(
        paper="dermae", preset="quick", arms=("vit_b_imagenet", "teacher-photos-real"), weights_of=given
    )
    found = {work.name: work.options.get("weights") for work in _trainings.works(study, config, "grouped")}
    assert found == {
        "dermae-vit_b_imagenet": str(file),
        "dermae-mae_teacher-real": "a.pth,b.pth",
        "dermae-teacher-photos-real": "model:dermae-mae_teacher-real",
    }
    assert not _trainings.left_out(study, config)
    with pytest.raises(InputError) as error:  # named, and not there: no reason to leave the row out in silence
        _trainings.left_out(study, replace(config, weights_of=("vit_b_imagenet=nowhere.pth",)))
    assert "nowhere.pth" in error.value.found
    without = _trainings.left_out(study, ablate.Config(paper="dermae", preset="quick"))
    assert list(without) == ["vit_b_imagenet"]
