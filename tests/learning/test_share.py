"""Training on a share of the patients: nested draws, and nobody left out is taken for a new patient."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written
from written_artifacts import make, run_stage

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.errors import ConfigError
from skinkit.learning.rows import DevelopmentRows
from skinkit.workspace import Ref, Workspace


def of_patients(n: int, classes: int = 3) -> DevelopmentRows:
    """Two cases a patient; the first two thirds train."""
    frame = pd.DataFrame(
        {
            "cohort": "a",
            "case_id": [f"c{i}" for i in range(2 * n)],
            "group_id": [f"p{i // 2}" for i in range(2 * n)],
            "class": [f"k{i // 2 % classes}" for i in range(2 * n)],
        }
    )
    parts = np.where(np.arange(2 * n) < 4 * n // 3, "train", "validation")
    split = pd.concat(
        [frame[["cohort", "case_id"]].assign(fold=fold, part=parts, row=range(2 * n)) for fold in (0, 1)],
        ignore_index=True,
    )
    return DevelopmentRows(frame, split, {})


def test_draws_are_whole_patients_nested_and_other_ones_in_every_fold() -> None:
    rows = of_patients(60)
    drawn = {share: rows.drawn(share, 3) for share in (0.1, 0.5, 1.0)}
    for fold in rows.folds:
        train = {share: set(of.part(fold, "train")) for share, of in drawn.items()}
        assert train[0.1] < train[0.5] < train[1.0] == set(rows.part(fold, "train"))
        assert [len(train[share]) for share in train] == [8, 40, 80]
        assert len({rows.frame["group_id"][row] for row in train[0.1]}) == 4
        assert list(drawn[0.1].part(fold, "validation")) == list(rows.part(fold, "validation"))
        assert set(drawn[0.1].part(fold, "unused")) == train[1.0] - train[0.1]
    assert set(drawn[0.1].part(0, "train")) != set(drawn[0.1].part(1, "train"))
    assert set(rows.drawn(0.1, 4).part(0, "train")) != set(drawn[0.1].part(0, "train"))


def test_two_classes_stay() -> None:
    few = of_patients(30).drawn(0.001, 0)
    assert few.frame["class"].iloc[few.part(0, "train")].nunique() == 2


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = written.make_workspace(tmp_path_factory.mktemp("share") / "w", {"a": "development"}, segmenter="truth")
    small_cohort.write_cohort(made, "a", 30, seed=0)
    make(made, "split", folds=1, held_out=0.3, validation=0.3)
    return made


def test_patients_who_were_not_drawn_are_not_scored_as_new_ones(workspace: Workspace) -> None:
    make(workspace, "train", name="few", model="logistic", share=0.4, refit=False)
    path = workspace.path(Ref("models", name="few"))
    assert open_artifact(path).json("model.json")["share"] == 0.4
    table = read_table(path / "trained_on.parquet").drop_duplicates("case_id").set_index("case_id")["part"]
    assert 0 < (table == "train").sum() < (table == "unused").sum()
    predicted = make(workspace, "predict", name="few").table()
    cases = set(predicted.loc[predicted["level"] == "image", "case_id"])
    assert cases == set(table.index[table == "held_out"])


@pytest.mark.parametrize(("model", "share"), [("logistic", 0.0), ("logistic", 1.5), ("otsu", 0.5)])
def test_a_share_that_cannot_be_is_told(workspace: Workspace, model: str, share: float) -> None:
    with pytest.raises(ConfigError) as error:
        run_stage(workspace, "train", name="wrong", model=model, share=share)
    assert "--share" in error.value.found or "otsu" in error.value.found


def test_all_patients_are_what_a_model_without_the_option_learnt_from(workspace: Workspace) -> None:
    make(workspace, "train", name="every", model="logistic", share=1.0)
    model = open_artifact(workspace.path(Ref("models", name="every")))
    assert "share" not in model.json("model.json")
    assert "share" not in model.recipe["config"]
