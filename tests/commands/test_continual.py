"""A network through a sequence of cohorts: the plan, the metrics by hand, and a run of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cohort
import written_artifacts as written
from written_artifacts import make

from skinkit.artifacts.artifact import open_artifact
from skinkit.commands import Context, continual
from skinkit.console import Console
from skinkit.errors import ConfigError
from skinkit.evaluation.continual import continual_metrics
from skinkit.workspace import Ref, Workspace

SMALL = ("backbone=shufflenet_v2_x0_5", "side_px=64", "recipe.epochs=1", "recipe.batch=8")


def test_average_forgetting_and_backward_transfer_are_those_of_the_matrix() -> None:
    scores = np.array([[0.8, 0.2, 0.1], [0.6, 0.7, 0.3], [0.5, 0.9, 0.6]])
    found = continual_metrics(scores, ("a", "b", "c"))
    assert found["average"] == pytest.approx((0.5 + 0.9 + 0.6) / 3)
    assert found["forgetting"] == pytest.approx({"a": 0.3, "b": -0.2})  # b became better
    assert found["mean_forgetting"] == pytest.approx(0.05)
    assert found["backward_transfer"] == pytest.approx(((0.5 - 0.8) + (0.9 - 0.7)) / 2)


def test_each_step_goes_on_from_the_one_before_of_its_own_arm() -> None:
    config = continual.Config(arms=("guided", "alone", "plain", "longer", "joint"), settings=SMALL, weights="none")
    steps = {step.model: step for step in continual.planned(config, ("ham", "pad"))}
    assert list(steps) == [
        "continual-first-ham", "continual-alone-pad", "continual-longer-ham", "continual-longer-pad",
        "continual-plain-pad", "continual-guided-pad", "continual-joint",
    ]  # fmt: skip
    guided = steps["continual-guided-pad"].options
    assert guided["weights"] == "model:continual-first-ham"
    assert guided["teacher"] == "continual-first-ham"
    assert guided["replay"] == 0.1
    assert guided["cohorts"] == ("pad",)
    plain = steps["continual-plain-pad"].options
    assert plain["weights"] == "model:continual-first-ham"
    assert not {"teacher", "replay"} & set(plain)
    assert steps["continual-alone-pad"].options["weights"] == "none"
    assert steps["continual-longer-pad"].options["settings"][-1] == "recipe.epochs=2"
    assert steps["continual-joint"].options["cohorts"] == ("ham", "pad")
    started = continual.planned(continual.Config(arms=("plain",), start="contrast", settings=SMALL), ("ham", "pad"))
    assert started[0].options["weights"] == "model:contrast"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    cohorts = {"clinic": "development", "phone": "development"}
    settings = {"segmenter": "truth", "model": "concat", "classes": "pad6", "allow_untrained": small_cohort.FEW}
    made = written.make_workspace(tmp_path_factory.mktemp("continual") / "w", cohorts, **settings)
    for seed, cohort in enumerate(cohorts):
        small_cohort.write_cohort(made, cohort, 18, seed=seed)
    make(made, "split", folds=1, validation=0.34)
    return made


def asked(workspace: Workspace) -> Context:
    return Context(workspace.root, Console(quiet=True), device="cpu", upstream=False)


def test_a_sequence_is_trained_and_measured_on_every_cohort(workspace: Workspace) -> None:
    config = continual.Config(
        order=("phone", "clinic"), arms=("alone", "plain", "guided"), settings=SMALL, weights="none", bootstrap=20
    )
    first = continual.run(config, asked(workspace))
    arms: dict[str, Any] = first["arms"]
    scores = arms["guided"]["scores"]["balanced_accuracy"]
    assert list(scores) == ["continual-first-phone", "continual-guided-clinic"]
    matrix = np.array([[scores[m][c]["estimate"] for c in ("phone", "clinic")] for m in scores])
    expected = continual_metrics(matrix, ("phone", "clinic"))
    assert arms["guided"]["continual"]["balanced_accuracy"]["average"] == pytest.approx(expected["average"])
    about = open_artifact(workspace.path(Ref("models", name="continual-guided-clinic"))).json("model.json")
    assert about["replay"] == {"share": 0.1, "cohorts": ["phone"]}
    assert about["teacher"]["name"] == "continual-first-phone"
    assert about["objective"]["settings"]["temperature"] == 2.0
    pairs = {(row["cohort"], row["a"], row["b"]) for row in first["differences"]}
    assert {("clinic", "plain", "guided"), ("phone", "alone", "guided")} <= pairs
    assert len(pairs) == len({frozenset(pair) for pair in pairs})
    # The model of alone on the first cohort is the first step of the others: each comparison counts once.
    assert not [pair for pair in pairs if "after" in pair[1]]
    assert all(Path(file).is_file() for file in first["files"].values())
    assert "forgetting of" in first["text"]


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"model": "frozen_probe"}, "frozen_probe"),
        ({"order": ("phone",)}, "phone"),
        ({"order": ("phone", "jinan")}, "jinan"),
        ({"arms": ("guidde",)}, "guidde"),
    ],
)
def test_orders_and_arms_that_cannot_be_are_refused(workspace: Workspace, wrong: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        continual.run(continual.Config(**{"settings": SMALL, **wrong}), asked(workspace))
    assert found in error.value.found
