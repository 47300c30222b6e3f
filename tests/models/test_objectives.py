"""Objectives: their equations against numbers worked out by hand, and networks whose loss is one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import alike_pixels
import pooled_pixels
import pytest
import torch
from torch import nn

from skinkit import contract
from skinkit.errors import ConfigError
from skinkit.models import Network, Sizes
from skinkit.models.parts.objectives import (
    Contrastive,
    Distillation,
    Masked,
    SupervisedContrastive,
    contrastive_loss,
    objective_of,
)


class Answering(nn.Module):
    """A stand-in for a network: it answers what the batch holds, and its own loss is 3."""

    READS = ("image",)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {name: batch[f"given_{name}"] for name in ("diagnosis", "veil")}

    def loss(self, batch: Mapping[str, Any]) -> Any:
        self(batch)
        return torch.tensor(3.0)


class Filling(nn.Module):
    """Answers the photo that it sees, half as bright."""

    READS = ("image",)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        self.seen = batch["image"]
        return {"image": batch["image"] / 2}


# ---------------------------------------------------------------------------------------------------- distillation


def test_the_distance_to_a_teacher_is_that_of_the_equation() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(9.0), 0.0]])
    # T = 2: the teacher's 9 : 1 becomes 3 : 1, the student stays at 1 : 1.
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert float(Distillation(temperature=2.0).distance(student, teacher)) == pytest.approx(expected, abs=1e-6)
    assert float(Distillation(temperature=2.0).distance(teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_a_row_without_a_teacher_counts_for_the_truth_alone() -> None:
    student = torch.zeros(2, 2, requires_grad=True)
    teacher = torch.tensor([[math.log(9.0), 0.0], [math.nan, math.nan]])
    distance = Distillation(temperature=2.0).distance(student, teacher)
    expected = Distillation(temperature=2.0).distance(student[:1], teacher[:1])
    assert float(distance.detach()) == pytest.approx(float(expected.detach()))
    distance.backward()
    assert student.grad is not None
    assert torch.equal(student.grad[1], torch.zeros(2))
    assert float(Distillation().distance(student[1:], teacher[1:]).detach()) == 0


def test_distillation_weighs_the_teacher_of_every_shared_task_and_the_own_loss() -> None:
    other = torch.tensor([[math.log(9.0), 0.0]])
    batch = {"given_diagnosis": torch.zeros(1, 2), "given_veil": torch.zeros(1, 2), "teacher": other}
    objective = Distillation(temperature=2.0, share=0.25)
    distance = float(objective.distance(torch.zeros(1, 2), other))
    assert float(objective.loss(Answering(), batch)) == pytest.approx(0.25 * distance + 0.75 * 3, abs=1e-6)
    both = {**batch, "teacher__veil": torch.zeros(1, 2)}  # of the second task they agree
    assert float(objective.loss(Answering(), both)) == pytest.approx(0.25 * distance / 2 + 0.75 * 3, abs=1e-6)


class Encoding(nn.Module):
    """A classifier of two numbers that it makes of a photo, or of maps of them."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.passes = 0
        self.register_buffer("reference_embedding", torch.zeros(width))

    def encode(self, batch: Mapping[str, Any]) -> Any:
        self.passes += 1
        return batch["image"]

    def head(self, seen: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {"diagnosis": seen[:, :2]}

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return self.head(self.encode(batch), batch)

    def loss(self, batch: Mapping[str, Any]) -> Any:
        self(batch)
        return torch.tensor(3.0)


def test_the_feature_term_is_the_squared_distance_of_the_encodings() -> None:
    nan = math.nan
    batch = {
        "image": torch.tensor([[1.0, 2.0], [0.0, 4.0], [9.0, 9.0]]),
        "teacher": torch.zeros(3, 2),
        "teacher_encoding": torch.tensor([[1.0, 5.0], [2.0, 4.0], [nan, nan]]),
    }
    network = Encoding()
    plain, with_features = Distillation(share=0.0), Distillation(share=0.0, features=0.1)
    for objective in (plain, with_features):
        objective.prepare(network, {"teacher_encoding": 2})
    assert not hasattr(network, "projection")  # of one width: P is the identity
    assert float(plain.loss(network, batch)) == 3
    network.passes = 0
    assert float(with_features.loss(network, batch)) == pytest.approx(3 + 0.1 * (9 + 4) / 2)
    assert network.passes == 1
    assert "head" not in vars(network)
    silent = {**batch, "teacher_encoding": torch.full((3, 2), nan)}
    assert float(with_features.loss(network, silent)) == 3
    assert plain.reads() == ("teacher",)
    assert with_features.reads() == ("teacher", "teacher_encoding")


def test_where_the_widths_differ_a_linear_map_is_learnt_beside_the_student() -> None:
    torch.manual_seed(0)
    network, objective = Encoding(), Distillation(share=0.0, features=0.5)
    objective.prepare(network, {"teacher_encoding": 3})
    p: Any = network.projection
    p.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    batch = {"image": torch.tensor([[1.0, 2.0]]), "teacher": torch.zeros(1, 2)}
    batch["teacher_encoding"] = torch.tensor([[1.0, 1.0, 1.0]])
    loss = objective.loss(network, batch)
    assert float(loss.detach()) == pytest.approx(3 + 0.5 * (0 + 1 + 4))
    loss.backward()
    expected = 0.5 * 2 * torch.tensor([[0.0], [1.0], [2.0]]) @ torch.tensor([[1.0, 2.0]])
    assert torch.allclose(p.weight.grad, expected)


def test_maps_are_compared_by_their_mean_over_places() -> None:
    network, objective = Encoding(), Distillation(share=0.0, features=1.0)
    network.register_buffer("reference_embedding", torch.zeros(2, 3, 3))
    objective.prepare(network, {"teacher_encoding": 2})
    maps = torch.zeros(1, 2, 3, 3)
    maps[0, 0, 0, 0] = 9.0
    batch = {"image": maps, "teacher": torch.zeros(1, 2), "teacher_encoding": torch.tensor([[0.0, 2.0]])}
    network.head = lambda seen, _: {"diagnosis": seen.mean((2, 3))}
    assert float(objective.distance(torch.zeros(1, 2), torch.zeros(1, 2))) == 0
    encoded = [maps]
    assert float(objective.feature_distance(network, encoded, batch)) == pytest.approx(1 + 4)


# ---------------------------------------------------------------------------------------------------- contrastive


def test_two_copies_of_two_cases_give_the_number_of_the_equation() -> None:
    embedding = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    # Of length 1 each row equals its copy and is orthogonal to the other case's two rows.
    e = math.exp(1 / 0.5)
    expected = -math.log(e / (e + 2))
    assert float(contrastive_loss(embedding, torch.tensor([0, 1, 0, 1]), 0.5)) == pytest.approx(expected, abs=1e-6)


def test_rows_of_a_class_are_each_others_positives_and_one_alone_is_left_out() -> None:
    embedding = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    e = math.exp(1)
    expected = -math.log(e / (e + 1))  # of each of the first two rows: its one positive against one other
    assert float(contrastive_loss(embedding, torch.tensor([0, 0, 1]), 1.0)) == pytest.approx(expected, abs=1e-6)
    alone = contrastive_loss(embedding.requires_grad_(), torch.tensor([0, 1, -1]), 1.0)
    alone.backward()
    assert float(alone.detach()) == 0
    assert embedding.grad is not None
    assert bool(embedding.grad.isfinite().all())


def test_a_supervised_contrast_stands_beside_the_own_loss_of_a_classifier() -> None:
    torch.manual_seed(0)
    network = pooled_pixels.PooledPixels(pooled_pixels.Config(), Sizes(("a", "b")))
    batch = {"image": torch.rand(4, 3, 16, 16), "class": torch.tensor([0, 1, 0, 1])}
    own, encoded = network.loss(batch), network.encode(batch)
    expected = 0.25 * contrastive_loss(encoded, batch["class"], 0.1) + 0.75 * own
    objective = SupervisedContrastive(share=0.25)
    assert torch.allclose(objective.loss(network, batch), expected)


# --------------------------------------------------------------------------------------------------------- masked


def test_the_error_counts_where_patches_are_hidden() -> None:
    torch.manual_seed(0)
    network, photo = Filling(), torch.full((3, 3, 8, 8), 0.5)
    assert float(Masked(patch_px=4, share=0.5).loss(network, {"image": photo})) == pytest.approx(0.25)
    assert float((network.seen == 0).float().mean()) == pytest.approx(0.5)


def test_every_photo_hides_as_many_patches_each_whole() -> None:
    torch.manual_seed(0)
    hidden = Masked(patch_px=4, share=0.3).hidden(torch.zeros(5, 3, 10, 10))
    assert hidden.shape == (5, 1, 10, 10)
    corners = hidden[:, 0, ::4, ::4]
    assert corners.sum((1, 2)).tolist() == [3.0] * 5  # round(0.3 * 9)
    assert torch.equal(corners.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :10, :10], hidden[:, 0])
    assert len({tuple(corner.flatten().tolist()) for corner in corners}) > 1


# ------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "settings", "found"),
    [
        ("distilation", {}, "distilation"),
        ("distillation", {"heat": 1.0}, "heat"),
        ("distillation", {"temperature": 0.0}, "temperature = 0.0"),
        ("distillation", {"share": 1.5}, "share = 1.5"),
        ("distillation", {"features": -0.1}, "features = -0.1"),
        ("contrastive", {"temperature": -1.0}, "temperature = -1.0"),
        ("masked", {"share": 1.0}, "share = 1.0"),
        ("supervised_contrastive", {"share": -0.1}, "share = -0.1"),
    ],
)
def test_impossible_objectives_are_refused(name: str, settings: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        objective_of(name, settings)
    assert found in error.value.found


def test_a_network_may_bring_its_objective() -> None:
    contract.check_model(alike_pixels.AlikePixels)
    assert isinstance(alike_pixels.AlikePixels(alike_pixels.Config(), Sizes(())).objective(), Contrastive)


def _reading_a_class(self: Any) -> Any:
    class Peeping(Contrastive):
        def loss(self, network: Any, batch: Any) -> Any:
            return super().loss(network, batch) + batch["class"].float().mean()

    return Peeping()


@pytest.mark.parametrize(
    ("replaced", "sentence"),
    [
        ({"objective": vars(Network)["objective"]}, "does not write loss"),
        ({"objective": _reading_a_class}, "reads class, but a pretraining has no truth"),
    ],
)
def test_the_contract_looks_at_the_objective(replaced: dict[str, Any], sentence: str) -> None:
    broken = type("Broken", (alike_pixels.AlikePixels,), {"__module__": "alike_pixels", **replaced})
    with pytest.raises(AssertionError, match=sentence):
        contract.check_model(broken)
