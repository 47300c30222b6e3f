"""Faithfulness: on a network whose only inputs that matter are known, and through the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skinkit.explain.faithfulness import STEPS, attribute_names, ranking, summarised, tried  # noqa: E402
from skinkit.explain.integrated_gradients import baseline_of, integrated_gradients  # noqa: E402

SIDE = 10
OWNERS = {"attributes": ("age", "site", "site")}


class TopRow:
    """Rests on the first row of the photo and on the site alone."""

    def answer(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        z = 4 * batch["image"][:, :, 0].sum((1, 2)) / 30 + 2 * batch["attributes"][:, 1:].sum(1) - 1
        return {"diagnosis": torch.stack([z, -z], 1)}


def case() -> dict[str, Any]:
    return {"image": torch.ones(1, 3, SIDE, SIDE), "attributes": torch.tensor([[1.0, 0.5, 0.5]])}


def faithful(heat: Any, strengths: Mapping[str, float]) -> Any:
    order = ranking(heat, strengths, attribute_names(OWNERS))
    return tried(TopRow(), case(), baseline_of(case(), "black"), OWNERS, order, 0, 1.0)


def test_what_is_unnamed_comes_last_and_ties_keep_their_order() -> None:
    order = ranking(np.array([[0.0, 3.0], [1.0, 1.0]]), {"site": 2.0}, ["age", "site"])
    assert order.tolist() == [1, 5, 2, 3, 0, 4]


def test_the_right_ranking_beats_the_wrong_one() -> None:
    right = np.zeros((SIDE, SIDE))
    right[0] = 1.0
    best, worst = faithful(right, {"site": 2.0}), faithful(1 - right, {"age": 0.0})
    ends = [1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2 * 5))]  # empty: z = -1, whole: z = 4 + 2 - 1
    for found in (best, worst):
        assert len(found.inserted) == len(found.deleted) == STEPS + 1
        assert (found.inserted[0], found.inserted[-1]) == pytest.approx(tuple(ends), abs=1e-6)
        assert (found.deleted[0], found.deleted[-1]) == pytest.approx((ends[1], ends[0]), abs=1e-6)
    assert best.figures["insertion"] > worst.figures["insertion"] + 0.5
    assert best.figures["deletion"] < worst.figures["deletion"] - 0.5
    # The strongest tenth of 102 features: the site and nine of the ten pixels of the row.
    assert best.drop == pytest.approx(2 * (2 + 4 * 0.9), abs=1e-5)
    assert worst.drop == pytest.approx(0, abs=1e-6)


def test_integrated_gradients_find_what_it_rests_on() -> None:
    found = integrated_gradients(TopRow(), case(), np.array([True, False]), 1.0, baseline="black")
    assert not found.parts["image"][:, 1:].any()
    strengths = {"age": abs(found.parts["attributes"][0]), "site": abs(found.parts["attributes"][1:].sum())}
    assert faithful(found.heat, strengths).drop == pytest.approx(2 * (2 + 4 * 0.9), abs=1e-5)


def test_differences_are_those_of_the_first_method_and_patients_count_once() -> None:
    ones, twos = {"insertion": np.full(120, 0.8)}, {"insertion": np.tile([0.5, 0.7], 20).repeat(3)}
    first, second = summarised({"gfa": ones, "gradcam": twos}, np.arange(40).repeat(3))
    assert first["mean"] == pytest.approx(0.8)
    assert second["mean"] == pytest.approx(0.6)
    assert second["difference"] == pytest.approx(0.2)
    # Forty patients, 0.1 from their mean: a standard error of 0.1 / sqrt(39), and t of 39 degrees.
    reach = 2.0227 * 0.1 / np.sqrt(39)
    ends = second["difference_lower"], second["difference_upper"]
    assert ends == pytest.approx((0.2 - reach, 0.2 + reach), abs=1e-4)
    few = summarised({"gfa": ones, "gradcam": twos}, np.arange(120) % 4)
    assert np.isnan(few[1]["difference_lower"])
