"""Draws that are balanced over cohorts, and the mix of classes that they make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written
from written_artifacts import make, run_stage

from skinkit.artifacts.artifact import open_artifact
from skinkit.errors import ConfigError
from skinkit.learning.fold_classifier import FoldInputs, _class_counts
from skinkit.learning.rows import DevelopmentRows, Replay
from skinkit.learning.schedule import groups_of
from skinkit.models.parts.protocol import Phase
from skinkit.taxonomy import ClassSet
from skinkit.workspace import Ref

KEPT = {"allow_untrained": "one epoch, whose mix of classes is looked at"}
TINY = ("backbone=shufflenet_v2_x0_5", "side_px=64", "recipe.epochs=1", "recipe.batch=8", "recipe.class_weights=none")


def test_a_class_that_one_cohort_alone_can_have_counts_as_among_that_cohort() -> None:
    """Of 90 rows that cannot be C and 10 of which one is, C is as frequent as one in ten."""
    frame = pd.DataFrame({"cohort": ["a"] * 90 + ["b"] * 10, "class": ["A"] * 60 + ["B"] * 30 + ["A"] * 9 + ["C"]})
    rows = DevelopmentRows(frame, pd.DataFrame(), {})
    of = ClassSet("abc", ("A", "B", "C"), {c: c for c in "ABC"}, "", frozenset())
    recipe = SimpleNamespace(recipe=SimpleNamespace(balanced=0.0, strata=lambda: "class"))
    material = FoldInputs(rows, of, "none", (), None, absent={"a": ["C"]})
    counts = _class_counts(material, recipe, 1.0, np.arange(100), None)
    assert counts == pytest.approx((69, 30, 10))
    assert _class_counts(replace(material, absent={}), recipe, 1.0, np.arange(100), None) == (69, 30, 1)
    replayed = Replay(tuple(range(90)), 0.5)
    again = _class_counts(material, recipe, 1.0, np.arange(90, 100), replayed)
    # Ten own rows, ten draws of the 90: nine and a third are A of one kind and of the other, C is one in ten that can.
    assert again == pytest.approx((9 + 20 / 3, 10 / 3, 1 / 0.5))


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
