"""The networks DermaCalibra is compared with: their equations against plain calculations, and their sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from configured import configured

torch = pytest.importorskip("torch")

import torch.nn.functional as functional  # noqa: E402

from skinkit.errors import ConfigError  # noqa: E402
from skinkit.models import load_model, model_config  # noqa: E402
from skinkit.models.parts.protocol import Sizes  # noqa: E402
from skinkit.models.parts.recipe import FINE_TUNING, LIVE, merged  # noqa: E402
from skinkit.options import flat  # noqa: E402
from skinkit.stats.encoders import column_names  # noqa: E402

PAD6 = ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
SIZES = Sizes(("A", "B", "C"), {"attributes": 5}, (6, 3, 1), ("age_years", "smoke", "smoke", "itch", "itch"))
FUSED = ("metablock", "metanet", "pundhir", "khurshid")
LAST = 512
"""Width of ResNet-18's last maps."""


def built(name: str, sizes: Sizes = SIZES, **settings: Any) -> Any:
    model = load_model(name)
    side = 64 if name == "khurshid" else 32
    torch.manual_seed(0)
    return model.build(configured(model, **{"backbone": "resnet18", "side_px": side, **settings}), sizes).eval()


def batch(side: int, n: int = 3) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.rand(n, 3, side, side, generator=generator),
        "attributes": torch.randn(n, 5, generator=generator),
        "class": torch.arange(n) % 3,
    }


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # ResNet-50 without classes, the paper's own layers, and the classes.
        ("concat", 23_508_032 + (81 * 256 + 256 + 2 * 256) + (2304 * 6 + 6)),
        ("metablock", 23_508_032 + 2 * (81 * 64 + 64 + 2 * 64) + (2048 * 6 + 6)),
        ("metanet", 23_508_032 + (81 * 64 + 64) + (64 * 32 + 32) + (2048 * 6 + 6)),
        ("pundhir", 46_113_350),
    ],
)
def test_sizes_at_the_papers_settings(name: str, parameters: int) -> None:
    model = load_model(name)
    sizes = Sizes(PAD6, {"attributes": len(column_names("pad81"))}, (730, 845, 52, 244, 192, 235))
    with torch.device("meta"):  # nothing is computed
        weights = dict(model.build(model.CONFIG(side_px=32), sizes).named_parameters())
    assert sum(p.numel() for p in weights.values()) == parameters
    if name == "pundhir":
        assert round(parameters / 1e6, 1) == 46.1


def test_metablock_is_equation_3() -> None:
    network = built("metablock")
    seen, given = torch.randn(3, LAST), batch(32)
    f, g = network.scale(given["attributes"]).detach().numpy(), network.shift(given["attributes"]).detach().numpy()
    v = seen.numpy().reshape(3, 64, 8)
    gated = 1 / (1 + np.exp(-(np.tanh(v * f[:, :, None]) + g[:, :, None])))
    expected = gated.reshape(3, LAST) @ network.output.weight.detach().numpy().T + network.output.bias.detach().numpy()
    found = network.head(seen, given)["diagnosis"].detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert f.shape == (3, 64)


def test_metanet_is_two_convolutions_over_one_place() -> None:
    network = built("metanet")
    seen, given = torch.randn(3, LAST), batch(32)
    first, second = network.gate[0], network.gate[2]
    place = given["attributes"][:, :, None, None]
    hidden = functional.relu(functional.conv2d(place, first.weight[:, :, None, None], first.bias))
    gate = torch.sigmoid(functional.conv2d(hidden, second.weight[:, :, None, None], second.bias))
    expected = network.output((gate * seen.view(3, 32, 4, 4)).flatten(1))
    torch.testing.assert_close(network.head(seen, given)["diagnosis"], expected)
    assert tuple(gate.shape) == (3, 32, 1, 1)


def test_pundhirs_attention_is_that_of_the_padded_projection() -> None:
    """The short way against the long one: a padded 1 x 1 convolution, a softmax over all places, border included."""
    from skinkit.models.pundhir import Attention

    torch.manual_seed(3)
    attend, maps, g = Attention(7, 12), torch.randn(2, 7, 5, 4), torch.randn(2, 12)
    weight, bias = attend.project.weight[:, :, None, None], attend.project.bias
    places = functional.conv2d(maps, weight, bias, padding=2).flatten(2)
    assert places.shape == (2, 12, 9 * 8)
    scores = torch.softmax(torch.einsum("ncp,nc->np", places, g), 1)
    torch.testing.assert_close(attend(maps, g), torch.einsum("ncp,np->nc", places, scores))


def test_pundhir_multiplies_by_the_metadata_before_it_looks_about() -> None:
    network = built("pundhir")
    given = batch(32)
    seen = network.encode(given)
    *earlier, pooled = network.unpacked(seen)
    g = pooled * network.metadata(given["attributes"])
    joined = torch.cat([*(a(m, g) for a, m in zip(network.attention, earlier, strict=True)), g], 1)
    assert joined.shape == (3, 4 * LAST)
    torch.testing.assert_close(network.answer(given)["diagnosis"], network.output(joined))
    plain = functional.cross_entropy(
        network(given)["diagnosis"], given["class"], weight=1 / torch.tensor([6.0, 3.0, 1.0])
    )
    torch.testing.assert_close(network.loss(given), plain)
    phase = network.phases()[0]
    assert (phase.schedule, phase.plateau) == ("plateau", 10)


def test_khurshid_learns_to_draw_the_photo_at_twice_the_size_it_sees() -> None:
    network = built("khurshid", class_share=0.5, detail_share=1.0)
    given = batch(64)
    encoded: list[Any] = []
    network.backbone.register_forward_hook(lambda module, inputs, out: encoded.append(inputs[0]))
    loss = network.loss(given)
    assert tuple(encoded[0].shape) == (3, 3, 32, 32)
    torch.testing.assert_close(encoded[0][0, 0, 0, 0], given["image"][0, 0, :2, :2].mean())
    drawn = network.draw(encoded[0], network.backbone(encoded[0]))
    assert drawn.shape == given["image"].shape
    classes = functional.cross_entropy(network(given)["diagnosis"], given["class"], network.class_weights)
    torch.testing.assert_close(loss, 0.5 * classes + (drawn - given["image"]).abs().mean())
    fused = network.encode(given) * network.metadata(given["attributes"])
    torch.testing.assert_close(network.answer(given)["diagnosis"], network.output(fused))
    # It begins as plain interpolation and learns what that lacks.
    plain = functional.interpolate(encoded[0], scale_factor=2.0, mode="bicubic", align_corners=False)
    assert float((drawn - plain).detach().abs().max()) < 0.05
    smooth = {**given, "image": functional.interpolate(given["image"][:, :, ::8, ::8], size=64, mode="bicubic")}
    optimiser = torch.optim.Adam(network.draw.parameters(), lr=3e-3)
    errors = []
    for _ in range(15):
        error = network.loss(smooth)
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0]
    assert built("khurshid", detail_share=0.0).draw is None


def test_concat_without_attributes_is_the_photo_alone() -> None:
    alone = built("concat", Sizes(("A", "B", "C"), {"attributes": 0}, (6, 3, 1)))
    given = {**batch(32), "attributes": torch.zeros(3, 0)}
    torch.testing.assert_close(alone.answer(given)["diagnosis"], alone.output(alone.encode(given)))
    assert alone.metadata is None
    both = built("concat")
    assert not torch.equal(
        both.answer(batch(32))["diagnosis"], both.answer({**batch(32), "attributes": torch.ones(3, 5)})["diagnosis"]
    )


@pytest.mark.parametrize("name", FUSED)
def test_fusion_without_attributes_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        built(name, Sizes(("A", "B", "C"), {"attributes": 0}, (6, 3, 1)))
    assert "attributes" in error.value.found


def test_maps_that_do_not_divide_the_features_are_refused() -> None:
    with pytest.raises(ConfigError, match="maps = 60 of 512"):
        built("metablock", maps=60)
    with pytest.raises(ConfigError, match="multiple of 64"):
        built("khurshid", side_px=96)


def test_costs_weigh_classes_and_unknown_ones_are_refused() -> None:
    assert built("concat", costs="B=2, C=1.5", class_weights="none").class_weights.tolist() == [1.0, 2.0, 1.5]
    weighed = built("concat", costs="C=3", class_weights="inverse").class_weights
    torch.testing.assert_close(weighed, torch.tensor([10 / 18, 10 / 9, 3 * 10 / 3]))
    for wrong, words in (("D=2", "costs of a class 'D'"), ("B=none", "costs = "), ("B=-1", "costs = "), ("B", "costs")):
        with pytest.raises(ConfigError, match=words):
            built("concat", costs=wrong)


def test_costs_and_class_awareness_reach_the_training_loop() -> None:

    model = load_model("concat")
    config = model_config(
        model, ["recipe.costs=A=2,C=3", "recipe.balanced=0.5", "backbone=resnet18", "side_px=32", "augment.blur=0.01"]
    )
    (phase,) = model.build(config, SIZES).phases()
    assert phase.balanced == 0.5
    assert phase.augment.blur == 0.01
    assert config.recipe.costs == "A=2,C=3"
    with pytest.raises(ConfigError, match=r"recipe.balanced = 1\.5"):
        built("concat", class_aware=1.5)


def test_quick_learns_alike_in_every_comparator() -> None:
    presets = [load_model(name).PRESETS["quick"] for name in ("concat", *FUSED)]
    # Some read more of the frozen stages than can be kept of them; all else is alike.
    assert {preset["recipe"]["cached_views"] for preset in presets} == {0, presets[0]["recipe"]["cached_views"]}
    assert all(merged(preset, LIVE) == merged(presets[0], LIVE) for preset in presets)
    for name in ("concat", "derma_calibra", *FUSED):  # what is installed with PyTorch
        model = load_model(name)
        config = model_config(model, {}, preset="quick")
        assert model.default_weights(config) == "timm/tf_efficientnet_lite0"
    hybrid = load_model("hybrid_resnet50").PRESETS["quick"]
    ours, theirs = flat(presets[0]), flat(hybrid)
    same = [name for name in flat(FINE_TUNING) if name not in ("recipe.epochs", "recipe.class_weights")]
    assert {name: theirs[name] for name in same} == {name: ours[name] for name in same}
