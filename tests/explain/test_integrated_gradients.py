"""Integrated gradients: exact where they can be known, complete, and the same as another library's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skinkit.explain.integrated_gradients import PATH_AT_ONCE, TOLERANCE, baseline_of, integrated_gradients  # noqa: E402
from skinkit.explain.shapley import torch_log_odds  # noqa: E402
from skinkit.models.derma_calibra import DermaCalibra  # noqa: E402
from skinkit.models.hybrid_resnet50 import Hybrid  # noqa: E402
from skinkit.models.parts.protocol import Sizes  # noqa: E402

POSITIVE = np.array([True, False, False])
SIDE = 8


class Small(torch.nn.Module):
    """Two classes' logits of a linear or a curved function of photo and attributes; counts what it is given."""

    def __init__(self, *, curved: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.photo = torch.nn.Linear(3 * SIDE * SIDE, 3)
        self.table = torch.nn.Linear(4, 3)
        self.curved = curved
        self.largest = self.given = 0

    def answer(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        self.largest, self.given = max(self.largest, len(batch["image"])), self.given + len(batch["image"])
        z = self.photo(batch["image"].flatten(1)) + self.table(batch["attributes"])
        return {"diagnosis": torch.sin(3 * z) + z * z if self.curved else torch.cat([z[:, :1], z[:, 1:] * 0], 1)}


def case(side: int = SIDE, columns: int = 4) -> dict[str, Any]:
    torch.manual_seed(1)
    return {"image": torch.rand(1, 3, side, side), "attributes": torch.randn(1, columns)}


def odds(network: Any, batch: Mapping[str, Any], temperature: float = 1.0) -> float:
    with torch.no_grad():
        return float(torch_log_odds(network.answer(batch)["diagnosis"] / temperature, POSITIVE)[0])


def test_of_a_linear_function_they_are_the_weights_times_the_way() -> None:
    network, given = Small(curved=False), case()
    found = integrated_gradients(network, given, POSITIVE, 2.0, baseline="black", steps=2)
    weights = network.photo.weight.detach()[0].view(3, SIDE, SIDE).numpy() / 2
    np.testing.assert_allclose(found.parts["image"], weights * given["image"][0].numpy(), atol=1e-6)
    expected = network.table.weight.detach()[0].numpy() / 2 * given["attributes"][0].numpy()
    np.testing.assert_allclose(found.parts["attributes"], expected, atol=1e-6)
    np.testing.assert_allclose(found.heat, np.abs(found.parts["image"]).sum(axis=0))
    assert (found.steps, found.error) == (2, pytest.approx(0, abs=1e-5))


def test_they_are_those_of_captum() -> None:
    from captum.attr import IntegratedGradients

    network, given = Small(curved=True), case()
    found = integrated_gradients(network, given, POSITIVE, 1.0, steps=400)

    def forward(image: Any, attributes: Any) -> Any:
        return torch_log_odds(network.answer({"image": image, "attributes": attributes})["diagnosis"], POSITIVE)

    starts = baseline_of(given, "mean")
    theirs = IntegratedGradients(forward).attribute(
        (given["image"], given["attributes"]), (starts["image"], starts["attributes"]), n_steps=100
    )
    np.testing.assert_allclose(found.parts["image"], theirs[0][0].detach(), atol=2e-4)
    np.testing.assert_allclose(found.parts["attributes"], theirs[1][0].detach(), atol=2e-4)


def test_steps_are_doubled_until_they_add_up_and_known_points_are_kept() -> None:
    network, given = Small(curved=True), case()
    few = integrated_gradients(network, given, POSITIVE, 1.0, steps=2, most_steps=2)
    assert few.steps == 2
    assert few.error > TOLERANCE
    network.given = 0
    found = integrated_gradients(network, given, POSITIVE, 1.0, steps=2)
    assert found.steps > 2
    assert found.error <= TOLERANCE
    assert network.given == found.steps + 1
    assert network.largest <= PATH_AT_ONCE
    total = sum(float(part.sum()) for part in found.parts.values())
    assert total == pytest.approx(found.end - found.start, rel=TOLERANCE)
    assert found.end == pytest.approx(odds(network, given), abs=1e-5)
    assert found.start == pytest.approx(odds(network, baseline_of(given, "mean")), abs=1e-5)
    again = integrated_gradients(network, given, POSITIVE, 1.0, steps=found.steps)
    np.testing.assert_allclose(found.parts["image"], again.parts["image"], atol=1e-6)


def test_baselines() -> None:
    given = case(64)
    assert not baseline_of(given, "black")["image"].any()
    torch.testing.assert_close(baseline_of(given, "mean")["image"][0, :, 5, 5], torch.tensor([0.485, 0.456, 0.406]))
    blurred = baseline_of(given, "blur")["image"]
    assert float(blurred.std()) < 0.2 * float(given["image"].std())
    assert float(blurred.mean()) == pytest.approx(float(given["image"].mean()), abs=0.02)
    for kind in ("black", "mean", "blur"):
        assert not baseline_of(given, kind)["attributes"].any()


@pytest.mark.parametrize("model", [DermaCalibra, Hybrid])
def test_they_add_up_for_the_networks_in_use(model: Any) -> None:
    torch.manual_seed(0)
    small = {"backbone": "timm/test_resnet"} if model is DermaCalibra else {}
    sizes = Sizes(("A", "B", "C"), {"attributes": 4, "radiomics": 0}, (1, 1, 1))
    network = model.build(model.CONFIG(side_px=32, **small), sizes).eval()
    given = case(32)
    if "mask" in model.READS:
        given |= {"mask": torch.ones(1, 32, 32), "radiomics": torch.zeros(1, 0)}
    found = integrated_gradients(network, given, POSITIVE, 1.5, steps=20, most_steps=320)
    assert found.error <= TOLERANCE
    assert found.end == pytest.approx(odds(network, given, 1.5), abs=1e-4)
    assert np.abs(found.parts["attributes"]).sum() > 0
