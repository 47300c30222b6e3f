"""The seven-point checklist from probabilities of its criteria."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from skinkit.stats.seven_point import answers_all, checklist
from skinkit.taxonomy import POINTS, TASKS

CLASSES = {name: TASKS[name].classes for name in POINTS}


def certain(**present: bool) -> dict[str, np.ndarray]:
    """Criteria that are there or not, without doubt."""
    out = {}
    for name, (code, _) in POINTS.items():
        p = np.zeros(len(CLASSES[name]))
        p[CLASSES[name].index(code) if present.get(name) else 0] = 1
        out[name] = p
    return out


def test_points_are_those_of_argenziano() -> None:
    assert sum(points for _, points in POINTS.values()) == 10
    assert {name for name, (_, points) in POINTS.items() if points == 2} == {
        "pigment_network", "blue_whitish_veil", "vascular_structures",
    }  # fmt: skip
    assert checklist(certain(), CLASSES) == {
        "checklist_score": 0, "checklist_p_from_1": 0, "checklist_p_from_3": 0,
    }  # fmt: skip
    one = checklist(certain(pigment_network=True, streaks=True), CLASSES)
    assert one == {"checklist_score": 3, "checklist_p_from_1": 1, "checklist_p_from_3": 1}
    assert checklist(certain(blue_whitish_veil=True), CLASSES)["checklist_p_from_3"] == 0


def test_the_probability_of_a_score_is_that_of_all_combinations() -> None:
    rng = np.random.default_rng(0)
    probability = {name: rng.dirichlet(np.ones(len(CLASSES[name]))) for name in POINTS}
    p = {name: probability[name][CLASSES[name].index(code)] for name, (code, _) in POINTS.items()}
    expected = dict.fromkeys((1, 3), 0.0)
    for there in itertools.product((False, True), repeat=7):
        chance = np.prod([p[name] if present else 1 - p[name] for name, present in zip(POINTS, there, strict=True)])
        score = sum(points for (_, points), present in zip(POINTS.values(), there, strict=True) if present)
        for rule in expected:
            expected[rule] += chance * (score >= rule)
    got = checklist(probability, CLASSES)
    assert got["checklist_p_from_1"] == pytest.approx(expected[1])
    assert got["checklist_p_from_3"] == pytest.approx(expected[3])


def test_classes_are_found_by_name_whatever_their_order() -> None:
    rng = np.random.default_rng(1)
    probability = {name: rng.dirichlet(np.ones(len(CLASSES[name]))) for name in POINTS}
    turned = {name: p[::-1] for name, p in probability.items()}
    assert checklist(turned, {name: codes[::-1] for name, codes in CLASSES.items()}) == checklist(probability, CLASSES)


def test_all_seven_are_needed() -> None:
    assert answers_all(POINTS)
    assert not answers_all(list(POINTS)[1:])
