"""What metadata and an untrained backbone say by themselves: their equations, and what they must not be moved by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skinkit.models import Labelled, frozen_probe  # noqa: E402
from skinkit.models.parts.experts import MIDDLE, FrozenBackbone, MetadataExpert, PhotoExpert  # noqa: E402

SIDE = 64


def crossed(n: int = 400) -> tuple[Any, Any]:
    """Two columns of which only the sign of the product tells the class."""
    rows = np.random.default_rng(0).normal(size=(n, 2))
    return rows, (rows.prod(1) > 0).astype(np.int64)


def agreed(expert: MetadataExpert, rows: Any, labels: Any) -> float:
    found = expert(torch.from_numpy(rows).float()).argmax(1).numpy()
    return float((found == labels).mean())


def test_products_of_columns_tell_what_no_column_tells() -> None:
    rows, labels = crossed()
    told = {}
    for rho in (0.0, 0.5):
        expert = MetadataExpert(2, 2, rho)
        expert.fit(rows[None], np.ones(1), labels, c=10.0)
        told[rho] = agreed(expert, rows, labels)
    assert told[0.5] > 0.95
    assert told[0.0] < 0.65


def test_the_expert_of_metadata_is_equation_1() -> None:
    rows, labels = crossed()
    expert = MetadataExpert(2, 2, 0.3)
    expert.fit(rows[None], np.ones(1), labels, c=1.0)
    given = np.random.default_rng(1).normal(size=(5, 2))
    m = 2 * np.tanh((given - rows.mean(0)) / rows.std(0) / 2)
    phi = np.stack([0.3 * m[:, 0] ** 2, 0.3 * m[:, 0] * m[:, 1], 0.3 * m[:, 1] ** 2], 1)
    expected = m @ expert.weight.double().numpy().T + phi @ expert.pairs.double().numpy().T + expert.bias.numpy()
    np.testing.assert_allclose(expert(torch.from_numpy(given).float()), expected, atol=1e-5)


def test_one_outlier_says_no_more_than_a_large_value() -> None:
    rows, labels = crossed()
    expert = MetadataExpert(2, 2, 0.3)
    expert.fit(rows[None], np.ones(1), labels, c=1.0)
    large, absurd = expert(torch.tensor([[6.0, 6.0], [1e6, 1e6]]))
    torch.testing.assert_close(large, absurd, atol=0.1, rtol=0.0)


def test_hidden_metadata_count_as_often_as_they_are_hidden() -> None:
    """A version with share 0 changes nothing, and one with a share pulls what it is told towards the classes' odds."""
    rows = np.random.default_rng(0).normal(size=(200, 1))
    labels = (rows[:, 0] > 0).astype(np.int64)
    hidden = np.zeros_like(rows)
    said = []
    for versions, shares in (([rows], [1.0]), ([rows, hidden + 3], [1.0, 0.0]), ([rows, hidden + 3], [0.5, 0.5])):
        expert = MetadataExpert(1, 2, 0.0)
        expert.fit(np.stack(versions), np.array(shares), labels, c=1.0)
        said.append(expert(torch.tensor([[3.0]])))
    torch.testing.assert_close(said[0], said[1])
    assert said[2].diff().abs() < 0.5 * said[0].diff().abs()


def photos(n: int = 3) -> Any:
    return np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def test_what_the_backbone_sees_is_that_of_the_probe_on_the_same_views() -> None:
    torch.manual_seed(0)
    frozen = FrozenBackbone("resnet18")
    for buffer in frozen.backbone.buffers():
        if buffer.ndim == 1 and buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 1.5)  # statistics, which must be used as they are
    probe = frozen_probe.Probe.embedder(
        frozen_probe.Config(backbone="resnet18", side_px=SIDE), {**frozen.backbone.net.state_dict()}
    )
    rgb = photos()
    kept = round(MIDDLE * SIDE)
    at = (SIDE - kept) // 2
    image = torch.from_numpy(rgb).permute(0, 3, 1, 2).float()
    middle = torch.nn.functional.interpolate(
        image[..., at : at + kept, at : at + kept], size=(SIDE, SIDE), mode="bilinear"
    )
    views = [middle, middle.rot90(1, (2, 3))]
    with torch.no_grad():
        seen = [probe(view.permute(0, 2, 3, 1)).numpy() for view in views]  # the probe adds the mirrored ones
        found = frozen(image / 255).numpy()
    np.testing.assert_allclose(found, np.sqrt(np.mean(seen, 0) + 0.01) - 0.1, atol=1e-3)
    assert found.shape == (3, frozen.width)


def test_the_backbone_as_it_came_never_learns() -> None:
    frozen = FrozenBackbone("resnet18")
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    frozen.train()
    frozen(torch.rand(2, 3, SIDE, SIDE))
    assert not frozen.training
    assert not any(module.training for module in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


def test_a_path_from_a_photo_that_says_nothing_is_no_cliff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of 0 have a finite slope, of at most 5."""
    frozen = FrozenBackbone("resnet18")
    maps = torch.zeros(4, 1, 1, 1, requires_grad=True)
    monkeypatch.setattr(frozen.backbone, "forward", lambda _image: (maps,) * 3)
    frozen(torch.rand(1, 3, SIDE, SIDE))[0, 0].backward()
    assert float(maps.grad.sum()) == pytest.approx(5.0)


def test_the_expert_of_photos_is_the_probe_without_metadata() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (30, 20, 10))
    e = np.abs(rng.normal(size=(60, 90)) + labels[:, None] * (np.arange(90) < 5))
    expert = PhotoExpert(90, 3)
    expert.fit(np.sqrt(e), labels, c=0.01, prior=np.full(3, 1 / 3))
    nothing = np.zeros((60, 0))
    cases = Labelled({"image": e, "attributes": nothing, "radiomics": nothing}, labels)
    probe = frozen_probe.Probe.fit(frozen_probe.Config(c=0.01), cases, cases, n_classes=3, seed=0)
    found = expert(torch.from_numpy(np.sqrt(e)).float()).log_softmax(1)
    np.testing.assert_allclose(found, probe.predict(cases.inputs), atol=1e-3)


def test_the_expert_of_photos_holds_for_the_mix_it_is_told() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (30, 20, 10))
    e = rng.normal(size=(60, 4)) + labels[:, None]
    shares = np.array([0.5, 0.3, 0.2])
    said = []
    for supposed in (np.full(3, 1 / 3), shares):
        expert = PhotoExpert(4, 3)
        expert.fit(e, labels, c=1.0, prior=supposed)
        said.append(expert(torch.from_numpy(e).float()))
    moved = (said[1] - said[0]).mean(0).numpy()
    np.testing.assert_allclose(moved - moved[0], np.log(shares / shares[0]), atol=1e-5)


def test_a_class_without_a_photo_is_never_its_answer_and_one_class_is_no_problem() -> None:
    e = np.random.default_rng(0).normal(size=(20, 4))
    labels = np.repeat([0, 2], 10)
    expert = PhotoExpert(4, 3)
    expert.fit(e, labels, c=1.0, prior=np.array([0.5, 0.0, 0.5]))
    assert expert(torch.from_numpy(e).float()).softmax(1)[:, 1].max() == 0
    alone = PhotoExpert(4, 3)
    alone.fit(e, np.zeros(20, dtype=np.int64), c=1.0, prior=np.array([1.0, 0.0, 0.0]))
    assert not alone(torch.from_numpy(e).float()).any()


def test_a_column_that_never_differs_does_no_harm() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 10)
    e = np.concatenate([rng.normal(size=(20, 3)), np.full((20, 1), 7.0)], 1)
    expert = PhotoExpert(4, 2)
    expert.fit(e, labels, c=1.0, prior=np.full(2, 0.5))
    assert bool(expert(torch.from_numpy(e).float()).isfinite().all())
