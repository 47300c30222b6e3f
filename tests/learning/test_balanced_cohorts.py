"""Draws that are balanced over cohorts, and the mix of classes that they make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_cohort
import written_artifacts as written
from written_artifacts import make, run_stage

from skinkit.artifacts.artifact import open_artifact
from skinkit.errors import ConfigError
from skinkit.learning.schedule import groups_of
from skinkit.models.parts.protocol import Phase
from skinkit.workspace import Ref

KEPT = {"allow_untrained": "one epoch, whose mix of classes is looked at"}
TINY = ("backbone=shufflenet_v2_x0_5", "side_px=64", "recipe.epochs=1", "recipe.batch=8", "recipe.class_weights=none")


def test_both_cohorts_come_equally_often() -> None:
    phase = Phase("all", epochs=1, batch=10, learning_rate=0.1, steps=20, balanced=1.0)
    groups = groups_of(range(100), phase, (0, 0, 0), 1, [0] * 90 + [1] * 10)
    drawn = np.concatenate(groups)
    assert (drawn >= 90).mean() == pytest.approx(0.5, abs=0.01)


def test_probabilities_hold_for_the_mean_of_the_cohorts_mixes(tmp_path: Path) -> None:
    cohorts = {"large": "development", "little": "development"}
    made = written.make_workspace(tmp_path / "w", cohorts, segmenter="truth", classes="pad6")
    for seed, (cohort, n) in enumerate((("large", 30), ("little", 16))):
        small_cohort.write_cohort(made, cohort, n, seed=seed)
    make(made, "split", folds=1, validation=0.4)
    settings = (*TINY, "recipe.balanced=1", "recipe.balanced_by=cohort")
    make(made, "train", name="both", model="concat", settings=settings, weights="none", attributes="none", **KEPT)
    about = open_artifact(made.path(Ref("models", name="both"))).json("model.json")
    split = open_artifact(made.path(Ref("split", name="grouped"))).table()
    train = split[split["part"] == "train"]
    shares = [of["class"].value_counts(normalize=True) for _, of in train.groupby("cohort")]
    prior = about["folds"][0]["effective_class_prior"]
    for code in ("BCC", "MEL", "NEV"):
        assert prior[code] == pytest.approx(np.mean([of.get(code, 0.0) for of in shares]), abs=1e-6)
    with pytest.raises(ConfigError):
        run_stage(
            made, "train", name="w", model="concat", settings=(*TINY, "recipe.balanced_by=centre"), weights="none"
        )
