"""Heatmaps measured against an outline: figures worked by hand, chance, and shuffled weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from skinkit.explain import localisation as loc


def lesion(h: int = 40, w: int = 60, top: int = 0, left: int = 0, side: int = 20) -> Any:
    mask = np.zeros((h, w), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_figures_by_hand() -> None:
    mask, heat = lesion(), np.zeros((40, 60))
    heat[0:10, 0:20] = 2.0  # 200 of the lesion's 400 pixels
    heat[30:40, 0:10] = 1.0  # 100 pixels outside; not above half of the highest
    assert loc.measured(heat, mask) == {"energy": pytest.approx(400 / 500), "pointing": 1.0, "iou": pytest.approx(0.5)}
    heat[39, 59] = 9.0
    assert loc.measured(heat, mask) == {"energy": pytest.approx(400 / 509), "pointing": 0.0, "iou": 0.0}
    assert all(np.isnan(value) for value in loc.measured(np.zeros((40, 60)), mask).values())


def test_a_uniform_map_scores_the_share_of_the_lesion() -> None:
    mask = lesion()
    assert loc.by_chance(mask)["uniform"] == dict.fromkeys(loc.FIGURES, pytest.approx(400 / 2400))
    flat = loc.measured(np.ones(mask.shape), mask)
    assert (flat["energy"], flat["iou"]) == (pytest.approx(400 / 2400), pytest.approx(400 / 2400))


@pytest.mark.parametrize("side", [1, 7, 30, 38])
def test_the_ellipse_has_the_area_of_the_lesion_and_lies_in_the_middle(side: int) -> None:
    mask = lesion(40, 60, 1, 1, side)
    ellipse = loc.ellipse_map(mask) > 0
    assert ellipse.sum() == mask.sum()
    y, x = np.nonzero(ellipse)
    assert (y.mean(), x.mean()) == (pytest.approx(19.5, abs=0.6), pytest.approx(29.5, abs=0.6))
    if side == 30:  # proportions of the photo
        assert np.ptp(x) / np.ptp(y) == pytest.approx(1.5, abs=0.1)
    centred = lesion(40, 60, 10, 20, 20)
    assert loc.by_chance(centred)["ellipse"]["pointing"] == 1.0
    assert loc.by_chance(lesion())["ellipse"]["pointing"] == 0.0


def test_likeness_is_by_rank_and_nothing_where_there_is_no_heat() -> None:
    rng = np.random.default_rng(0)
    heat = rng.random((7, 7))
    assert loc.likeness(heat, heat**3) == pytest.approx(1)
    assert loc.likeness(heat, -heat) == pytest.approx(-1)
    assert loc.likeness(heat, np.zeros((7, 7))) is None
    assert loc.likeness(np.zeros((7, 7)), heat) is None
    assert abs(loc.likeness(heat, rng.random((7, 7))) or 0) < 0.5


def test_another_map_is_one_whose_whole_interval_is_near_0_of_either_sign() -> None:
    rng = np.random.default_rng(0)

    def answers(values: Any) -> Any:
        rows = [{"map": "net", "group_id": f"p{i}", "likeness": value} for i, value in enumerate(values)]
        return loc.alike([*rows, {"map": "uniform", "group_id": "p0"}])[0]

    assert answers(rng.normal(0, 0.1, 40))["collapses"] is True
    assert answers(rng.normal(0.8, 0.1, 40))["collapses"] is False
    assert answers(rng.normal(-0.8, 0.1, 40))["collapses"] is False
    assert answers([0.0])["collapses"] is None  # one photo proves nothing
    empty = answers([None] * 20)
    assert (empty["n"], empty["empty"], empty["collapses"]) == (0, 20, None)


def test_shuffled_weights_are_the_same_numbers_elsewhere_in_a_copy() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(5, 5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    other, again = loc.shuffled(network, 3), loc.shuffled(network, 3)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(other[0].weight, again[0].weight)
    assert not torch.equal(other[0].weight, loc.shuffled(network, 4)[0].weight)
    assert not torch.equal(other[0].weight, before["0.weight"])
    assert torch.equal(other[0].weight.flatten().sort().values, before["0.weight"].flatten().sort().values)


def test_differences_to_chance_are_over_the_same_cases() -> None:
    rng = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for i in range(60):
        about = {"case_id": f"c{i}", "group_id": f"p{i // 2}"}
        blind = float(rng.uniform(0.1, 0.5))
        rows += [{**about, "map": name, "chance": True, **dict.fromkeys(loc.FIGURES, blind)} for name in loc.CHANCE]
        # Without heat in every third case; elsewhere about 0.2 above chance.
        value = np.nan if i % 3 == 0 else blind + 0.2 + float(rng.normal(0, 0.05))
        rows.append({**about, "map": "net", "chance": False, **dict.fromkeys(loc.FIGURES, value)})
    summary = {(row["map"], row["figure"]): row for row in loc.summarised(rows)}
    net = summary["net", "energy"]
    assert (net["n"], net["empty"]) == (40, 20)
    above = net["above"]["ellipse"]
    assert above["estimate"] == pytest.approx(0.2, abs=0.03)
    # The difference varies less than the shares themselves: it is taken case by case.
    assert above["upper"] - above["lower"] < net["upper"] - net["lower"]
    assert 0.1 < above["lower"] < above["estimate"] < above["upper"] < 0.3
    assert net["lower"] < net["estimate"] < net["upper"]
    assert "above" not in summary["uniform", "energy"]
