"""The model card says what the model is made of, and what a person has to write."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from skinkit.models.lightgbm import Trees
from skinkit.reporting import model_card
from skinkit.taxonomy import class_set

ABOUT = {
    "name": "trees",
    "model": "lightgbm",
    "settings": {"learning_rate": 0.05},
    "classes": class_set("pad6").as_dict(),
    "threshold": 0.3,
    "segmenter": "otsu",
    "seed": 7,
    "split": {"name": "grouped", "identity": "abc"},
    "leakage_allowed": "known overlap",
}
TRAINED_ON = pd.DataFrame(
    {
        "fold": [0, 0, 1, 1],
        "cohort": "pad",
        "case_id": ["a", "b", "a", "b"],
        "group_id": ["p1", "p2", "p1", "p2"],
        "part": ["train", "held_out", "held_out", "train"],
        "class": ["MEL", "NEV", "MEL", "NEV"],
    }
)
FOLDS = [{"fold": k, "n_train": 1, "n_validation": 0, "n_held_out": 1, "validation_macro_auroc": None} for k in (0, 1)]


def test_the_card_is_written_twice_and_says_the_same(tmp_path: Path) -> None:
    model_card.write(tmp_path, ABOUT, FOLDS, TRAINED_ON, Trees)
    said = json.loads((tmp_path / "model_card.json").read_text(encoding="utf-8"))
    text = (tmp_path / "model_card.md").read_text(encoding="utf-8")
    assert said["training_data"]["cohorts"] == [
        {"cohort": "pad", "cases": 2, "groups": 2, "cases by class": "MEL 1, NEV 1"}
    ]
    assert said["training_data"]["folds"][1] == {"fold": 1, "n_train": 1, "n_validation": 0, "n_held_out": 1}
    assert said["inputs_and_outputs"]["malignant"] == ["BCC", "MEL", "SCC"]
    assert "Gradient Boosting Decision Tree" in said["model"]["paper"]
    assert any("known overlap" in caution for caution in said["cautions"])
    assert any("Otsu" in caution for caution in said["cautions"])
    assert text.startswith("# Model card: trees\n")
    assert "not a diagnosis" in text
    assert "**to be written by a person**" in text
    for heading in ("Intended use", "Training data", "Validation", "Cautions", "Ethics"):
        assert f"## {heading}\n" in text
    assert "Learning rate: 0.05" in text
