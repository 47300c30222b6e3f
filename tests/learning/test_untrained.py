"""A model that has learnt nothing: refused without a reason, and named first wherever its answers stand."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cohort
import written_artifacts as written
from conftest import run_here

from skinkit.errors import RefusedError
from skinkit.learning import untrained
from skinkit.learning.untrained import CONSTANT, EVERY_CLASS, FEW
from skinkit.schemas import LESION
from skinkit.workspace import Ref, Workspace, load_workspace

OLDER = Path(__file__).parent.parent / "older"
LEARNS = {"settings": ("rounds=25", "min_leaf=3")}
ONE_LEAF = {"settings": ("rounds=6", "min_leaf=500")}
REASON = "to see <b>the</b> cards"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 patients, 14 of whose photos validate; a ward of unlabelled ones. No reason stands in skinkit.toml."""
    root = tmp_path_factory.mktemp("untrained") / "w"
    roles = {"clinic": "development", "ward": "inference"}
    workspace = written.make_workspace(root, roles, segmenter="truth", model="lightgbm", classes="pad6")
    small_cohort.write_cohort(workspace, "clinic", 36, seed=1)
    small_cohort.write_cohort(workspace, "ward", 4, seed=2)
    written.run_stage(workspace, "split", validation=0.25)
    return root


@pytest.fixture(scope="module")
def allowed(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with trees of one leaf, which a reason lets through, and their answers about the ward."""
    workspace = load_workspace(shutil.copytree(chain, tmp_path_factory.mktemp("allowed") / "w"))
    written.make(workspace, "train", **ONE_LEAF, allow_untrained=REASON)
    written.make(workspace, "predict", cohorts=["ward"])
    return workspace.root


@pytest.fixture
def answered(allowed: Path, tmp_path: Path) -> Workspace:
    return load_workspace(shutil.copytree(allowed, tmp_path / "w"))


def refused(workspace: Workspace, **given: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        written.run_stage(workspace, "train", **given)
    assert "--allow-untrained" in caught.value.fix
    return caught.value


def test_a_small_cohort_that_learns_is_trained_as_ever(workspace: Workspace) -> None:
    (model,), said = written.run_stage(workspace, "train", **LEARNS)
    # "bleed" makes it pad81, which reads regions: that no case has.
    assert "the attributes pad81 leave out what these cases have: site (72 of 72 cases)" in said
    _, said = written.run_stage(workspace, "train", name="isic", attributes="isic", **LEARNS)
    assert "leave out what these cases have: bleed (72 of 72 cases)" in said
    about = model.json("model.json")
    assert about["folds"][0]["n_validation"] > 10
    assert untrained.UNTRAINED not in about
    assert untrained.UNTRAINED not in about["folds"][0]
    made = written.make(workspace, "predict", cohorts=["ward"]).table()
    assert not made["refer_reason"].fillna("").str.contains("untrained").any()
    assert untrained.UNTRAINED not in written.make(workspace, "predict", cohorts=["ward"]).info


def test_trees_of_one_leaf_are_refused_and_kept_with_a_reason(workspace: Workspace) -> None:
    error = refused(workspace, **ONE_LEAF)
    assert "the same answer for every validation case (fold 0)" in error.found
    assert not workspace.path(Ref("models", name="lightgbm")).exists()

    (model,), said = written.run_stage(workspace, "train", **ONE_LEAF, allow_untrained=REASON)
    assert "fold 0: training" not in said  # the fold that was refused is there still
    about = model.json("model.json")
    assert about["untrained"] == {
        "allowed": REASON,
        "findings": [{"fold": 0, "task": "diagnosis", "reason": CONSTANT}],
    }
    assert any(REASON in caution for caution in model.json("model_card.json")["cautions"])

    (made,), said = written.run_stage(workspace, "predict", cohorts=["ward"])
    assert "has learnt nothing" in said
    table = made.table()
    assert table["refer"].all()
    assert table["refer_reason"].str.split(",").map(lambda reasons: "untrained" in reasons).all()
    assert set(table["level"]) >= {LESION}


def test_a_reason_that_was_given_is_not_remembered_for_the_next_training(answered: Workspace) -> None:
    assert "has learnt nothing" in refused(answered, **ONE_LEAF, seed=1, replace=True).found


@pytest.mark.parametrize(("lang", "line", "never"), [
    ("en", "THE MODEL HAS LEARNT NOTHING", ("Most likely diagnosis", "Two most likely diagnoses", "Factors for")),
    ("zh-CN", "模型没有学到任何东西", ("最可能的诊断", "两个候选诊断", "支持或反对")),
])  # fmt: skip
def test_it_is_the_first_line_of_report_and_cards_which_lean_to_nothing(
    answered: Workspace, lang: str, line: str, never: tuple[str, ...]
) -> None:
    clinic = written.make(answered, "report", audience="clinic", lang=lang)
    page = (clinic.path / "index.html").read_text(encoding="utf-8")
    cards = re.findall(r'<article class="card.*?</article>', page, flags=re.DOTALL)
    assert len(cards) == 4
    for card in cards:
        first = re.sub(r"<[^>]+>", "", card).strip().splitlines()[0]
        assert line in first
        assert "&lt;b&gt;the&lt;/b&gt;" in first
        assert not [phrase for phrase in never if phrase in card]
    head = re.sub(r"<[^>]+>", "", page[page.index('<section class="worklist-head"') :]).strip()
    assert line in head.splitlines()[0]

    research = written.make(answered, "report", lang=lang)
    page = (research.path / "index.html").read_text(encoding="utf-8")
    answers = re.sub(r"<[^>]+>", "", page[page.index('<section class="answers"') :]).strip()
    assert line in answers.splitlines()[0]


def test_too_few_validation_cases_are_refused_before_any_training(workspace: Workspace) -> None:
    written.run_stage(workspace, "split", name="few", validation=0.1)
    error = refused(workspace, **LEARNS, split="few")
    assert "too few validation cases" in error.found
    assert "more than 10" in error.expected
    assert not list(workspace.artifacts.glob("models/.*/fold_0")) + list(workspace.artifacts.glob("models/*/fold_0"))
    # A smaller coverage can be had of fewer cases; of fewer than there are classes nothing can.
    about = written.make(workspace, "train", **LEARNS, split="few", coverage=0.7).json("model.json")
    assert 6 <= about["folds"][0]["n_validation"] <= 10
    assert untrained.UNTRAINED not in about


def test_the_refusal_has_its_exit_code_and_the_option_is_on_the_command_line(workspace: Workspace) -> None:
    where = ("--no-upstream", "-w", workspace.root, "--settings", "min_leaf=500", "--json")
    answer = run_here("train", *where)
    assert answer.returncode == 5, answer.stderr
    assert "has learnt nothing" in json.loads(answer.stdout)["error"]["found"]
    assert run_here("train", "--allow-untrained", REASON, *where).returncode == 0


def test_a_model_of_an_older_version_is_judged_by_its_figures(tmp_path: Path) -> None:
    shutil.copytree(OLDER / "workspace", tmp_path / "workspace")
    (tmp_path / "workspace" / "clinic").mkdir()
    workspace = load_workspace(tmp_path / "workspace")
    (made,), said = written.run_stage(workspace, "predict", cohorts=["jinan"], name="lightgbm")
    assert "has learnt nothing" in said
    assert made.table()["refer_reason"].str.contains("untrained").all()
    assert [found["reason"] for found in made.info["untrained"]["findings"]] == [FEW]


def answers(*rows: tuple[float, ...], times: int) -> np.ndarray:
    return np.repeat(np.array(rows), times, axis=0)


def test_what_counts_as_the_same_answer() -> None:
    same = answers((0.2, 0.3, 0.5), times=40)
    assert untrained.reasons_of(same, 0.6, 0.9) == [CONSTANT]
    odd = same.copy()
    odd[0] = (0.22, 0.28, 0.5)  # one case in 40 that is answered a little otherwise teaches nobody
    assert untrained.reasons_of(odd, 0.6, 0.9) == [CONSTANT]
    rare = same.copy()
    rare[0] = (0.02, 0.03, 0.95)  # but one that is clearly told apart does
    assert untrained.reasons_of(rare, 0.6, 0.9) == []
    assert untrained.reasons_of(np.full_like(same, np.nan), 0.6, 0.9) == [CONSTANT]


def test_sets_that_hold_every_class_and_too_few_cases() -> None:
    apart = answers((0.5, 0.3, 0.2), (0.2, 0.3, 0.5), times=10)
    assert untrained.reasons_of(apart, 0.4, 0.9) == []
    assert untrained.reasons_of(apart, 0.2, 0.9) == [EVERY_CLASS]
    assert untrained.reasons_of(apart[:10], 0.4, 0.9) == [FEW, CONSTANT]
    assert untrained.reasons_of(apart[5:15], 0.4, 0.9) == [FEW]
    assert untrained.reasons_of(apart[9:11], 0.4, 0.5) == [FEW]  # two cases of three classes
    assert untrained.reasons_of(np.zeros((0, 3)), 0.0, 0.9) == [FEW]


def model(**fold: Any) -> dict[str, Any]:
    """``model.json`` of an older version, with one fold."""
    whole = {"fold": 0, "n_validation": 30, "conformal": {"coverage": 0.9, "level": 0.3}, "tasks": {}, **fold}
    return {"classes": {"classes": ["A", "B", "C"]}, "folds": [whole]}


@pytest.mark.parametrize(("fold", "reasons"), [
    ({}, []),
    ({"n_validation": 2}, [FEW]),
    ({"conformal": {"coverage": 0.9, "level": 0.0}}, [EVERY_CLASS]),
    ({"isotonic": {"x": [[0.2], [0.3, 0.304], [0.5]], "y": [[0.1], [0.3, 0.9], [0.6]]}}, [CONSTANT]),
    ({"isotonic": {"x": [[0.2], [0.3, 0.4], [0.5]], "y": [[0.1], [0.3, 0.9], [0.6]]}}, []),
    ({"isotonic": {"x": [[0.0, 1.0], [0.3], [0.5]], "y": [[0.0, 1.0], [0.3], [0.6]]}}, [CONSTANT]),
    ({"isotonic": {"x": [[0.0, 1.0], [0.0, 1.0], [0.5]], "y": [[0.0, 1.0], [0.0, 1.0], [0.6]]}}, []),
])  # fmt: skip
def test_the_figures_of_an_older_version(fold: dict[str, Any], reasons: list[str]) -> None:
    found = untrained.of_model(model(**fold))
    assert [each.reason for each in (found.findings if found else ())] == reasons


def test_a_further_task_is_judged_by_itself() -> None:
    about = model(tasks={"streaks": {"n_validation": 1, "conformal": {"coverage": 0.9, "level": 0.3}}})
    found = untrained.of_model({**about, "tasks": {"streaks": {"classes": ["absent", "regular", "irregular"]}}})
    assert found is not None
    assert found.tasks == ("streaks",)
    assert not found.diagnoses


def test_an_installed_model_is_judged_when_it_is_installed_listed_and_asked(tmp_path: Path) -> None:
    shutil.copytree(OLDER / "walk_in", tmp_path / "walk_in")
    (tmp_path / "skinkit.toml").write_text(
        '[cohorts.walk_in]\nrole = "inference"\nsource = "folder"\npath = "walk_in"\n', encoding="utf-8"
    )
    installed = run_here("models", "install", OLDER / "pack.zip", "-w", tmp_path)
    assert installed.returncode == 0, installed.stderr
    assert "has learnt nothing" in installed.stderr
    assert "has learnt nothing" in run_here("models", "list", "-w", tmp_path).stdout
    photo = next(path for path in sorted((tmp_path / "walk_in").rglob("*")) if path.suffix in (".png", ".jpg"))
    told = run_here("predict", "--image", photo, "-w", tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[0].startswith("The model has learnt nothing")


def test_blanks_are_no_reason(workspace: Workspace) -> None:
    assert "has learnt nothing" in refused(workspace, **ONE_LEAF, allow_untrained="  ").found
