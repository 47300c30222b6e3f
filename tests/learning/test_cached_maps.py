"""Frozen stages run once for a few views of each photo: the same network is learnt, faster, or it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from configured import configured
from toy_network import dark_squares

from skinkit.console import Console
from skinkit.errors import ConfigError
from skinkit.learning import cached_maps, loop
from skinkit.learning.examples import Examples
from skinkit.learning.loop import Trained, fit
from skinkit.models import concat, derma_calibra, khurshid, pundhir
from skinkit.models.parts.backbone import Backbone
from skinkit.models.parts.objectives import SupervisedContrastive
from skinkit.models.parts.protocol import Network, Sizes

KEPT = {
    "backbone": "timm/test_resnet", "side_px": 32, "frozen_stages": 3, "frozen_statistics": True, "batch": 8,
    "clip": 1.0,
}  # fmt: skip
SIZES = Sizes(("A", "B"), {"attributes": 2}, (8, 8), ("age_years", "itch"), unknown=(0.0, -1.0))


def network(model: Any = concat.Concat, **settings: Any) -> Network:
    torch.manual_seed(3)
    built: Network = model.build(configured(model, **{**KEPT, "epochs": 3, **settings}), SIZES)
    for module in built.modules():  # statistics that are not those of an untrained layer
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
    return built


def photos(folder: Path) -> Examples:
    squares = dark_squares(folder, 24)
    attributes = np.random.default_rng(1).normal(size=(24, 2))
    return Examples(
        ("image", "attributes"), 32, squares.photos, arrays={"attributes": attributes}, classes=squares.classes
    )


def learn(net: Network, examples: Examples, folder: Path, **more: Any) -> Trained:
    def right(answers: Any, rows: np.ndarray) -> dict[str, float]:
        return {"accuracy": float((answers["diagnosis"].argmax(1) == examples.classes[rows]).mean())}  # type: ignore[index]

    given = {"seed": 0, "device": "cpu", "folder": folder, "console": Console(quiet=True), **more}
    return fit(net, examples, range(16), range(16, 24), right, **given)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "timm/tf_efficientnet_lite0", "densenet121"])
@pytest.mark.parametrize("frozen", [1, 3])
def test_lower_and_upper_stages_are_the_whole_backbone(name: str, frozen: int) -> None:
    torch.manual_seed(0)
    backbone, image = Backbone(name, 64).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        whole, parts = backbone(image), backbone.upper(backbone.lower(image, frozen), frozen)
    for stage in range(frozen - 1, 4):
        torch.testing.assert_close(parts[stage], whole[stage], rtol=1e-4, atol=1e-5)
    for stage in range(frozen - 1):
        torch.testing.assert_close(parts[stage][:, :, 0, 0], whole[stage].mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "settings"), [(concat.Concat, {}), (derma_calibra.DermaCalibra, {"multi_scale": True})]
)
def test_with_a_single_view_it_learns_what_it_learns_from_the_photos(
    model: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    examples = photos(tmp_path / "p")
    one = network(model, mirrored=True, turned=True, **settings)
    other = network(model, mirrored=True, turned=True, cached_views=1, **settings)
    plain, cached = (learn(net, examples, tmp_path / str(i)) for i, net in enumerate((one, other)))
    losses = [[row["train_loss"] for row in trained.history] for trained in (plain, cached)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert [row["accuracy"] for row in plain.history] == [row["accuracy"] for row in cached.history]
    batch = loop.as_input(examples.batch(range(24)), "cpu")
    with torch.no_grad():
        answers = [net.eval().answer(batch)["diagnosis"] for net in (one, other)]
    torch.testing.assert_close(answers[1], answers[0], rtol=0.05, atol=0.05)


def test_every_epoch_shows_another_view_and_no_photo_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, shown = photos(tmp_path / "p"), []
    pictures = cached_maps.CachedMaps.pictures

    def recorded(self: cached_maps.CachedMaps, row: int) -> Any:
        answer = pictures(self, row)
        shown.append((self.epoch, row, answer["lower"].copy()))
        return answer

    monkeypatch.setattr(cached_maps.CachedMaps, "pictures", recorded)
    net = network(cached_views=3, rotation_deg=40.0, epochs=4, averaged=0.5)
    computed, lower = [], concat.Concat.lower
    monkeypatch.setattr(concat.Concat, "lower", lambda self, *a, **k: computed.append(1) or lower(self, *a, **k))
    learn(net, examples, tmp_path / "c")
    seen = {(epoch, row): answer for epoch, row, answer in shown if row < 16}
    assert {epoch for epoch, _ in seen} == {0, 1, 2, 3, 4}  # 0: statistics of the averaged weights
    for row in range(16):
        views = [seen[epoch, row] for epoch in range(1, 5)]
        assert all(not np.array_equal(views[0], other) for other in views[1:3])
        assert np.array_equal(views[0], views[3])
        assert any(np.array_equal(seen[0, row], view) for view in views[:3])
    assert len(computed) == 1 + 3 + 1  # the check, three views of 16 photos, and the photos that validate
    validated = [answer for _, row, answer in shown if row >= 16]
    assert {answer.ndim for answer in validated} == {2}


def test_what_needs_more_of_a_photo_is_refused(tmp_path: Path) -> None:
    examples = photos(tmp_path / "p")
    whole_maps = network(pundhir.Pundhir, cached_views=2)
    draws = network(khurshid.Khurshid, cached_views=2, side_px=64, detail_share=0.1)
    for net in (whole_maps, draws):
        with pytest.raises(ConfigError, match="cached_views of"):
            learn(net, examples, tmp_path / "c")
    with pytest.raises(ConfigError, match="2 devices"):
        learn(network(cached_views=2), examples, tmp_path / "c", devices=2)
    with pytest.raises(ConfigError, match="2 copies"):
        learn(network(cached_views=2), examples, tmp_path / "c", objective=SupervisedContrastive())
    with pytest.raises(ConfigError, match="cached_views = 2"):
        network(cached_views=2, frozen_statistics=False)
    with pytest.raises(ConfigError, match="cached_views = 2"):
        network(cached_views=2, frozen_stages=0)
