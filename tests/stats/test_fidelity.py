"""Precision and recall of synthetic images, on points that are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from skinkit.stats.fidelity import precision_recall

LINE = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])


def test_points_of_the_same_places_cover_each_other() -> None:
    assert precision_recall(LINE, LINE + 0.1, k=1) == (1.0, 1.0)


def test_points_far_away_are_neither_precise_nor_recalled() -> None:
    assert precision_recall(LINE, LINE + 100, k=1) == (0.0, 0.0)


def test_a_generator_that_knows_one_place_is_precise_and_recalls_little() -> None:
    narrow = np.array([[0.0], [0.1], [0.2], [0.3], [0.4]])
    precision, recall = precision_recall(LINE, narrow, k=1)
    assert precision == 1.0  # all within 1 of 0 or 1
    assert recall == pytest.approx(1 / 5)  # 0 alone is within 0.1 of one of them


def test_a_generator_that_strays_is_less_precise() -> None:
    wide = np.array([[0.0], [2.0], [50.0], [60.0]])
    precision, recall = precision_recall(LINE, wide, k=1)
    assert precision == pytest.approx(2 / 4)
    assert recall == 1.0  # 2 reaches 0 to 4


def test_too_few_points_say_nothing() -> None:
    assert np.isnan(precision_recall(LINE[:3], LINE, k=3)).all()
