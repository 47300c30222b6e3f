"""Which lesions are shown and explained: groups by hand, one photo a lesion, a smaller choice inside a larger one."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from skinkit.evaluation.instructive import instructive, one_photo_per_lesion, verdict
from skinkit.taxonomy import class_set

CLASSES = class_set("pad6")


def test_groups_by_hand() -> None:
    rows = [
        # case, lesion, malignancy, entropy, call, truth
        ("a", "L1", 0.9, 0.1, "malignant", "melanoma"),
        ("b", "L1", 0.8, 0.9, "malignant", "melanoma"),  # a second photo of the same lesion
        ("c", "L2", 0.1, 0.2, "benign", "melanoma"),  # missed
        ("d", "L3", 0.6, 0.3, "malignant", "nevus"),  # a false alarm
        ("e", None, 0.2, 0.8, "benign", "nevus"),
        ("f", None, 0.05, 0.7, "benign", None),
    ]
    table = pd.DataFrame(rows, columns=["case_id", "lesion_id", "malignancy", "entropy", "call", "truth"])
    truth = dict(table.dropna(subset=["truth"])[["case_id", "truth"]].to_numpy())
    table = table.drop(columns="truth").assign(patient_id="P")
    assert one_photo_per_lesion(table)["case_id"].tolist() == ["a", "d", "e", "c", "f"]
    assert instructive(table, truth, CLASSES, 1) == [("highest", "a"), ("wrong", "c"), ("undecided", "e")]
    two = [("highest", "a"), ("highest", "d"), ("wrong", "c"), ("undecided", "e"), ("undecided", "f")]
    assert instructive(table, truth, CLASSES, 2) == two
    assert verdict("melanoma", "benign", CLASSES) == "missed"
    assert verdict("nevus", "malignant", CLASSES) == "false_alarm"
    assert {verdict("melanoma", "malignant", CLASSES), verdict(None, "benign", CLASSES), verdict("x", "", None)} == {""}


@pytest.mark.parametrize("seed", range(5))
def test_what_few_show_is_among_what_many_show(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 80
    malignancy = rng.random(n).round(1)  # with ties
    table = pd.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(n)],
            "patient_id": "P",
            "lesion_id": [f"L{i // 2}" if i % 3 else None for i in range(n)],
            "malignancy": malignancy,
            "entropy": rng.random(n).round(1),
            "call": np.where(malignancy > 0.4, "malignant", "benign"),
        }
    )
    truth = {case: ["melanoma", "nevus"][int(rng.integers(2))] for case in table["case_id"]}
    chosen = [{case for _, case in instructive(table, truth, CLASSES, each)} for each in range(1, 12)]
    for few, many in itertools.pairwise(chosen):
        assert few < many
    assert {case for _, case in instructive(table, truth, CLASSES, 0)} == set(one_photo_per_lesion(table)["case_id"])
