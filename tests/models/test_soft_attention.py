"""Soft attention: the module's equations, its three branches and tasks, and the faults of the seed's script."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from configured import configured  # noqa: E402

from skinkit.errors import ConfigError  # noqa: E402
from skinkit.models.parts.backbone import MODIFIED_XCEPTION, Backbone  # noqa: E402
from skinkit.models.parts.protocol import Sizes  # noqa: E402
from skinkit.models.parts.soft_attention import SoftAttention  # noqa: E402
from skinkit.models.soft_attention import SoftAttentionNetwork  # noqa: E402
from skinkit.models.soft_attention_crop import SoftAttentionCrop, boxes, cut, laid_back  # noqa: E402

TASKS = {"pigment_network": ("absent", "typical", "atypical"), "veil": ("absent", "present")}
SIZES = Sizes(
    ("BCC", "NEV", "MEL"), {"attributes": 4}, (5, 3, 2), ("sex", "sex", "site", "site"), (0.0,) * 4, TASKS,
    {name: (1,) * len(classes) for name, classes in TASKS.items()},
)  # fmt: skip


def built(**settings: Any) -> SoftAttentionNetwork:
    torch.manual_seed(0)
    config = configured(SoftAttentionNetwork, **{"backbone": "timm/test_resnet", "side_px": 64, **settings})
    return SoftAttentionNetwork.build(config, SIZES).eval()


def batch(n: int = 4, side: int = 64) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(1)
    return {
        "image_clinical": torch.rand(n, 3, side, side, generator=chance),
        "image_dermoscopic": torch.rand(n, 3, side, side, generator=chance),
        "attributes": torch.rand(n, 4, generator=chance),
        "class": torch.arange(n) % 3,
        "class__pigment_network": torch.arange(n) % 3,
        "class__veil": torch.arange(n) % 2,
    }


# ------------------------------------------------------------------------------------------------------ the module


def test_attention_varies_over_places_and_sums_to_the_number_of_maps() -> None:
    """The seed's script takes its softmax over the maps: alpha is 1 everywhere."""
    torch.manual_seed(0)
    attention, t = SoftAttention(12, 5), torch.randn(3, 12, 9, 7)
    alpha = attention.alpha(t)
    assert alpha.shape == (3, 1, 9, 7)
    torch.testing.assert_close(alpha.sum((1, 2, 3)), torch.full((3,), 5.0))
    assert (alpha > 0).all()
    assert alpha.std() > 0.1 * alpha.mean()
    torch.testing.assert_close(attention(t), t + 0.01 * t * alpha)
    scaled = SoftAttention(12, 5, rescale=True)
    scaled.load_state_dict(attention.state_dict())
    torch.testing.assert_close(scaled(t), t + 0.01 * t * alpha * (63 / 5))


def test_attention_moves_with_what_it_attends_to() -> None:
    torch.manual_seed(0)
    attention = SoftAttention(6, 16)
    t = 0.01 * torch.rand(1, 6, 20, 20)
    places = []
    for row, column in ((5, 5), (5, 12), (13, 9)):
        moved = t.clone()
        moved[:, :, row : row + 3, column : column + 3] += 4
        at = int(attention.alpha(moved).flatten().argmax())
        places.append((at // 20 - row, at % 20 - column))
    assert len(set(places)) == 1
    assert all(-1 <= offset <= 3 for offset in places[0])


def test_gamma_is_learnt_and_kept_and_the_maps_learn_from_the_first_step_on() -> None:
    """In the seed's script gamma is 0 and outside of the layer: neither trained nor saved."""
    network = built().train()
    network.loss(batch()).backward()
    gammas = {name: p for name, p in network.named_parameters() if name.endswith("gamma")}
    assert len(gammas) == 6  # after E_1 and E_2 of both photos, and both of the third branch
    assert all(p.grad is not None and p.grad.abs() > 0 for p in gammas.values())
    assert set(gammas) <= set(network.state_dict())
    maps = [p for name, p in network.named_parameters() if "places.weight" in name]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in maps)


def test_the_maps_that_are_shown_are_the_mean_of_both_attentions() -> None:
    network, given = built(), batch()
    for layers in (network.between, network.after):
        for attention in layers.values():
            attention.places.weight.data *= 20
    seen: list[torch.Tensor] = []
    network.after["dermoscopic"].seen.register_forward_hook(lambda _, __, alpha: seen.append(alpha))
    maps = network.attention_maps(given)
    assert set(maps) == {"image_clinical", "image_dermoscopic"}
    for of in maps.values():
        assert of.shape == (4, 4, 4)  # 1/16 of 64 px
        torch.testing.assert_close(of.mean((1, 2)), torch.ones(4), atol=0.1, rtol=0)
        assert of.std() > 0.1
    (after,) = seen
    spread = after.flatten(1).amax(1) / after.flatten(1).mean(1)
    assert (maps["image_dermoscopic"].flatten(1).amax(1) > 0.5).all()
    assert (spread > 1).all()
    assert built(attention=False).attention_maps(given) == {}
    assert set(built(fusion="clinical").attention_maps(given)) == {"image_clinical"}


# ------------------------------------------------------------------------------------------------ tasks and branches


def test_every_task_has_a_softmax_of_its_own_and_the_answer_is_the_mean_of_three() -> None:
    """In the seed's script one softmax runs over all answers, and every task reads an empty slice when it predicts."""
    network, given = built(), batch()
    answers = network.answer(given)
    assert {name: values.shape[1] for name, values in answers.items()} == {
        "diagnosis": 3, "pigment_network": 3, "veil": 2,
    }  # fmt: skip
    branches = network.branches(network.encode(given), given)
    assert set(branches) == {"clinical", "dermoscopic", "joint"}
    for task, answer in answers.items():
        torch.testing.assert_close(answer.exp().sum(1), torch.ones(4))
        mean = sum(of[task].softmax(1) for of in branches.values()) / 3
        torch.testing.assert_close(answer.softmax(1), mean)


def test_tasks_do_not_mix_and_an_unknown_truth_teaches_nothing() -> None:
    network = built()
    given = {**batch(), "class__veil": torch.full((4,), -1)}
    network.loss(given).backward()
    for of in network.outputs.values():
        assert of["veil"].weight.grad.abs().sum() == 0
        assert of["pigment_network"].weight.grad.abs().sum() > 0
    before = {task: of.weight.grad.clone() for task, of in network.outputs["joint"].items()}
    network.zero_grad()
    network.loss({**given, "class__pigment_network": (given["class__pigment_network"] + 1) % 3}).backward()
    after = {task: of.weight.grad for task, of in network.outputs["joint"].items()}
    torch.testing.assert_close(after["diagnosis"], before["diagnosis"])
    assert not torch.allclose(after["pigment_network"], before["pigment_network"])


@pytest.mark.parametrize(
    ("settings", "clinical", "dermoscopic", "known"),
    [
        ({"fusion": "clinical"}, True, False, False),
        ({"fusion": "dermoscopic"}, False, True, False),
        ({"fusion": "concat"}, True, True, True),
        ({"fusion": "concat", "attention": False}, True, True, True),
        ({"fusion": "hybrid", "attention": False}, True, True, True),
        ({"fusion": "hybrid", "share_backbone": True}, True, True, True),
        ({"fusion": "hybrid", "pool": "flatten"}, True, True, True),
    ],
)
def test_each_part_can_be_left_out(settings: dict[str, Any], clinical: bool, dermoscopic: bool, known: bool) -> None:
    network, given = built(**settings), batch()
    answer = network.answer(given)["diagnosis"]
    assert torch.isfinite(network.loss(given))
    for name, matters in (("image_clinical", clinical), ("image_dermoscopic", dermoscopic), ("attributes", known)):
        other = network.answer({**given, name: torch.zeros_like(given[name])})["diagnosis"]
        assert (not torch.allclose(answer, other)) is matters, name
    assert any(isinstance(module, SoftAttention) for module in network.modules()) is settings.get("attention", True)


def test_each_photo_has_a_network_of_its_own_unless_it_is_shared() -> None:
    apart, shared = built(), built(share_backbone=True)
    count = {name: sum(p.numel() for p in network.parameters()) for name, network in (("2", apart), ("1", shared))}
    assert count["2"] - count["1"] == sum(p.numel() for p in shared.backbone.parameters())
    assert set(apart.blocks()) == {"image_clinical", "image_dermoscopic"}
    assert apart.blocks()["image_clinical"] is not apart.blocks()["image_dermoscopic"]


@pytest.mark.parametrize(
    "settings",
    [
        {"snapshot_every": 5},
        {"cached_views": 4, "frozen_stages": 3, "frozen_statistics": True},
        {"maps": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        built(**settings)


def test_a_backbone_that_does_more_than_its_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="vit_b_16"):
        built(backbone="vit_b_16", side_px=224)


# -------------------------------------------------------------------------------------------------------- Xception


@pytest.fixture(scope="module")
def xception() -> Backbone:
    torch.manual_seed(0)
    return Backbone(MODIFIED_XCEPTION, 299).eval()


def test_the_modified_xception_has_the_places_and_layers_of_the_paper(xception: Backbone) -> None:
    with torch.no_grad():
        maps = xception(torch.rand(1, 3, 299, 299))
    assert [tuple(m.shape[1:]) for m in maps] == [(128, 75, 75), (256, 38, 38), (728, 19, 19), (2048, 10, 10)]
    depthwise = [m for m in xception.block("block4").modules() if isinstance(m, torch.nn.Conv2d) and m.groups == 728]
    assert len(depthwise) == 3  # of 24 in the whole Xception
    assert not any(name.startswith("block5") for name, _ in xception.net.named_children())


def test_weights_of_the_whole_xception_fit_what_is_left(xception: Backbone) -> None:
    import timm

    torch.manual_seed(1)
    whole = timm.create_model("legacy_xception", num_classes=10)
    assert "its classes left out" in xception.start(whole.state_dict(), "file")
    for name in ("block4.rep.1.pointwise.weight", "conv4.pointwise.weight", "conv1.weight"):
        assert torch.equal(xception.net.state_dict()[name], whole.state_dict()[name])


def test_its_size_is_that_of_the_docstring() -> None:
    tasks = {f"t{i}": tuple("abc"[:n]) for i, n in enumerate((3, 2, 3, 3, 3, 3, 2))}
    sizes = Sizes(tuple("ABCDE"), {"attributes": 17}, (1,) * 5, ("sex",) * 17, (0.0,) * 17, tasks, {})
    network = SoftAttentionNetwork.build(configured(SoftAttentionNetwork), sizes)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 23.7


def test_further_tasks_are_adjusted_where_that_is_asked_for() -> None:
    """The loss sees logits plus tau log shares: balanced logits cost what the shares themselves cost."""
    counts = {"pigment_network": (2, 2, 2), "veil": (9, 1)}
    sizes = replace(SIZES, task_counts=counts)
    given, losses, priors = batch(), [], []
    for tau in (0.0, 1.0):
        torch.manual_seed(0)
        config = configured(SoftAttentionNetwork, backbone="timm/test_resnet", side_px=64, task_adjustment=tau)
        network = SoftAttentionNetwork.build(config, sizes).eval()
        for of in network.outputs.values():
            for layer in of.values():
                torch.nn.init.zeros_(layer.weight)
                torch.nn.init.zeros_(layer.bias)
        losses.append(float(network.loss(given).detach()))
        priors.append(network.effective_task_prior("veil"))
    plain, adjusted = (-torch.tensor(shares).log().mean() for shares in ((0.5, 0.5), (0.9, 0.1)))
    assert losses[1] - losses[0] == pytest.approx(float(adjusted - plain), abs=1e-5)  # two rows of either class
    torch.testing.assert_close(priors[0], torch.tensor([0.9, 0.1]))
    torch.testing.assert_close(priors[1], torch.tensor([0.5, 0.5]))


# -------------------------------------------------------------------------------------------- a photo and its lesion
def test_the_crop_is_the_square_around_the_outline() -> None:
    mask = torch.zeros(4, 100, 100)
    mask[0, 40:60, 30:70] = 1  # 40 wide: 56 px around (50, 50)
    mask[1, 0:10, 90:100] = 1  # in a corner: 14 px, moved into the photo
    mask[2] = 1
    shares = boxes(mask)
    expected = torch.tensor([[0.22, 0.22, 0.78, 0.78], [0.86, 0.0, 1.0, 0.14], [0, 0, 1, 1], [0, 0, 1, 1]])
    torch.testing.assert_close(shares, expected)
    ramp = torch.arange(100.0).expand(4, 3, 100, 100) / 100
    seen = cut(ramp, shares, 50)
    assert seen.shape == (4, 3, 50, 50)
    assert seen[0, 0].min() == pytest.approx(0.22, abs=0.01)
    assert seen[0, 0].max() == pytest.approx(0.77, abs=0.01)


def test_the_crop_sees_the_lesion_in_more_pixels_than_the_whole_photo() -> None:
    torch.manual_seed(0)
    settings = {"backbone": "timm/test_resnet", "side_px": 128, "seen_px": 64}
    config = configured(SoftAttentionCrop, **settings)
    network = SoftAttentionCrop.build(config, SIZES).eval()
    given = batch()
    stripes = (torch.arange(128) % 2).float().expand(4, 3, 128, 128).clone()
    mask = torch.zeros(4, 128, 128)
    mask[:, 42:86, 42:86] = 1
    pictures = network.pictures({**given, "image": stripes, "mask": mask})
    assert pictures.shape == (4, 6, 64, 64)
    whole, lesion = pictures[:, :3, 8:-8, 8:-8], pictures[:, 3:, 8:-8, 8:-8]
    assert whole.std() < 0.05 < 0.2 < lesion.std()  # shrunk by half the stripes are grey
    changed = mask.clone()
    changed[:, 20:110, 20:110] = 1
    both = [network.answer({**given, "image": stripes, "mask": m})["diagnosis"] for m in (mask, changed)]
    assert not torch.allclose(*both)
    alone = SoftAttentionCrop.build(configured(SoftAttentionCrop, **settings, fusion="photo"), SIZES).eval()
    same = [alone.answer({**given, "image": stripes, "mask": m})["diagnosis"] for m in (mask, changed)]
    torch.testing.assert_close(*same)


def test_attention_over_the_crop_is_laid_back_to_its_place() -> None:
    shares = torch.tensor([[0.5, 0.25, 1.0, 0.75]])
    whole = laid_back(torch.ones(1, 3, 3), shares, 40)
    expected = torch.zeros(40, 40)
    expected[10:30, 20:40] = 1
    torch.testing.assert_close(whole[0], expected)
    config = configured(SoftAttentionCrop, backbone="timm/test_resnet", side_px=96, seen_px=64)
    network = SoftAttentionCrop.build(config, SIZES).eval()
    mask = torch.zeros(4, 96, 96)
    mask[:, 60:80, 60:80] = 1
    (seen,) = network.attention_maps({**batch(), "image": torch.rand(4, 3, 96, 96), "mask": mask}).values()
    assert seen.shape == (4, 96, 96)
    torch.testing.assert_close(seen, torch.ones_like(seen), atol=0.6, rtol=0)  # untrained, it attends to nothing
    alone = SoftAttentionCrop.build(
        configured(SoftAttentionCrop, backbone="timm/test_resnet", side_px=96, seen_px=64, fusion="crop"), SIZES
    )
    (seen,) = alone.eval().attention_maps({**batch(), "image": torch.rand(4, 3, 96, 96), "mask": mask}).values()
    assert float(seen[:, :50, :50].abs().max()) == 0
    assert float(seen[:, 65:75, 65:75].mean()) == pytest.approx(1, abs=0.25)


def test_a_crop_cannot_see_more_than_is_read() -> None:
    with pytest.raises(ConfigError) as error:
        SoftAttentionCrop.build(
            configured(SoftAttentionCrop, backbone="timm/test_resnet", side_px=64, seen_px=128), SIZES
        )
    assert "seen_px = 128" in error.value.found
