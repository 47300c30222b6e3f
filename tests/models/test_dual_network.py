"""The dual network: what it cuts out, who asks whom, and which attributes have a token."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import third_party

torch = pytest.importorskip("torch")

from configured import configured  # noqa: E402
from written_artifacts import run_stage  # noqa: E402

from skinkit.artifacts.artifact import open_artifact  # noqa: E402
from skinkit.errors import ConfigError  # noqa: E402
from skinkit.models import dual_network, model_config, present_settings  # noqa: E402
from skinkit.models.dual_network import DualNetwork, Tokens, dilated, outline_failed, softened  # noqa: E402
from skinkit.models.parts.protocol import Sizes  # noqa: E402
from skinkit.options import settings_identity  # noqa: E402
from skinkit.stats.encoders import Encoder  # noqa: E402
from skinkit.workspace import Ref  # noqa: E402

SIZES = Sizes(
    ("A", "B", "C"),
    {"attributes": 5},
    (6, 3, 1),
    ("age_years", "sex", "sex", "site", "site"),
    unknown=(0.0, -2.0, -3.0, -1.0, -1.0),
)


def built(**settings: Any) -> DualNetwork:
    torch.manual_seed(0)
    small = {"backbone": "timm/test_resnet", "side_px": 64, "width": 32, "heads": 4, "token_width": 16}
    return DualNetwork.build(configured(DualNetwork, **{**small, **settings}), SIZES).eval()


def disc(side: int, radius: float) -> Any:
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (((rows - side / 2) ** 2 + (columns - side / 2) ** 2) < radius**2).float()


def batch(n: int = 2, side: int = 64) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(1)
    return {
        "image": torch.rand(n, 3, side, side, generator=chance),
        "mask": disc(side, side / 5).expand(n, -1, -1).clone(),
        "attributes": torch.rand(n, 5, generator=chance),
        "class": torch.arange(n) % 3,
    }


# ------------------------------------------------------------------------------------------------------ the lesion


def test_a_mask_grows_by_a_twentieth_of_its_diameter_all_around() -> None:
    small, large, none = disc(200, 20), disc(200, 60), torch.zeros(200, 200)
    grown = dilated(torch.stack([small, large, none]), 0.05)
    for mask, out, radius in ((small, grown[0], 2), (large, grown[1], 6)):
        rows, before = (torch.nonzero(m.any(1)).flatten() for m in (out, mask))
        assert (int(before[0] - rows[0]), int(rows[-1] - before[-1])) == (radius, radius)
    assert not grown[2].any()
    assert torch.equal(dilated(torch.stack([small, large]), 0.0), torch.stack([small, large]))
    assert torch.equal(softened(torch.ones(1, 20, 20)), torch.ones(1, 20, 20))  # a whole photo stays whole


def test_outside_of_the_lesion_stands_the_mean_colour() -> None:
    network, given = built(), batch()
    given["mask"][1] = 1.0  # the segmenter failed: the whole photo is looked at
    pictures = network.pictures(given)
    assert torch.equal(pictures[:, :3], given["image"])
    lesion, mean = pictures[:, 3:], network.backbone.mean.flatten()
    torch.testing.assert_close(lesion[0, :, 0, 0], mean)
    torch.testing.assert_close(lesion[0, :, 32, 32], given["image"][0, :, 32, 32])
    torch.testing.assert_close(lesion[1], given["image"][1])


# -------------------------------------------------------------------------------------------------------- who asks


def test_a_full_mask_and_a_failed_one_show_the_whole_photo_and_an_empty_one_no_part_of_it() -> None:
    network = built()
    given = {**batch(1), "mask": torch.ones(1, 64, 64)}  # also what a failed mask is read as
    torch.testing.assert_close(network.pictures(given)[:, 3:], given["image"])
    empty = network.pictures({**given, "mask": torch.zeros(1, 64, 64)})[:, 3:]
    torch.testing.assert_close(empty, network.backbone.mean.expand_as(empty))
    assert torch.isfinite(network.answer({**given, "mask": torch.zeros(1, 64, 64)})["diagnosis"]).all()


def test_every_place_of_the_photo_asks_the_places_of_the_lesion() -> None:
    network = built()
    photo, lesion = torch.rand(2, 4, 32), torch.rand(2, 4, 32)
    mha, w = network.asking.attention, 32
    with torch.no_grad():
        q, k, v = (
            t @ weight.T + bias
            for t, weight, bias in zip(
                (photo, lesion, lesion), mha.in_proj_weight.split(w), mha.in_proj_bias.split(w), strict=True
            )
        )
        q, k, v = (t.view(2, 4, 4, 8).transpose(1, 2) for t in (q, k, v))
        attended = (torch.softmax(q @ k.transpose(2, 3) / math.sqrt(8), 3) @ v).transpose(1, 2).reshape(2, 4, w)
        z = network.asking.norm(photo + mha.out_proj(attended))
        expected = network.asking.last_norm(z + network.asking.feed_forward(z))
        torch.testing.assert_close(network.asking(photo, lesion), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "photo", "lesion", "known"),
    [
        ({}, True, True, True),
        ({"fusion": "both_ways"}, True, True, True),
        ({"fusion": "concat"}, True, True, True),
        ({"streams": "photo"}, True, False, True),
        ({"streams": "lesion"}, False, True, True),
        ({"metadata": "mlp"}, True, True, True),
        ({"metadata": "none"}, True, True, False),
    ],
)
def test_each_part_can_be_left_out(settings: dict[str, Any], photo: bool, lesion: bool, known: bool) -> None:
    network, given = built(**settings), batch()

    def moved(**changes: Any) -> bool:
        with torch.no_grad():
            one, other = (network.answer({**given, **more})["diagnosis"] for more in ({}, changes))
        return not torch.allclose(one, other, atol=1e-6)

    outside = given["image"].clone()
    outside[:, :, :4, :4] = 1 - outside[:, :, :4, :4]
    assert moved(image=outside) is photo
    assert moved(mask=torch.ones_like(given["mask"])) is lesion
    assert moved(attributes=given["attributes"] + 1) is known
    network.train().loss(given).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_both_networks_learn_at_the_rate_of_backbones_and_start_from_the_same_weights() -> None:
    network = built(frozen_stages=1)
    (phase,) = network.phases()
    assert phase.rates == {"backbone.": 1e-4, "lesion_backbone.": 1e-4}
    state = {name: value + 1 for name, value in built().backbone.net.state_dict().items()}
    assert network.start(state, "w.pth").startswith("timm/test_resnet of w.pth")
    assert torch.equal(network.backbone.net.conv1[0].weight, network.lesion_backbone.net.conv1[0].weight)
    network.enter("all")
    assert not any(p.requires_grad for b in network.backbones for p in b.net.layer1.parameters())
    assert all(p.requires_grad for b in network.backbones for p in b.net.layer2.parameters())


# ------------------------------------------------------------------------------------------------------- attributes


def test_what_is_not_known_has_a_token_of_its_own_and_zero_is_known() -> None:
    torch.manual_seed(0)
    tokens = Tokens(("age_years", "sex", "sex"), 16, 8).eval()
    unknown = torch.tensor([5.0, -2.0, -3.0])
    age_zero, no_age = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[5.0, 1.0, 0.0]])
    with torch.no_grad():
        assert not torch.allclose(tokens(age_zero, unknown), tokens(no_age, unknown))
        before = tokens(no_age, unknown)
        tokens.known[0].weight += 1  # the age's own weights
        assert torch.equal(tokens(no_age, unknown), before)
        assert not torch.allclose(tokens(age_zero, unknown), tokens(age_zero + 1, unknown))
        half = torch.tensor([[0.0, -2.0, 0.0]])  # one column of an attribute as if unknown: the attribute is known
        assert not torch.allclose(tokens(half, unknown), tokens(torch.tensor([[0.0, -2.0, -3.0]]), unknown))


def test_its_size_is_that_of_the_docstring() -> None:
    encoder = Encoder.fit("isic", pd.DataFrame({"age_years": [40, 60]}), DualNetwork.MISSING)
    assert len(encoder.columns) == 11
    sizes = Sizes(tuple("ABCDEFG"), {"attributes": 11}, (1,) * 7, encoder.attributes, unknown=encoder.unknown)
    network = DualNetwork.build(configured(DualNetwork), sizes)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 41.2


def test_it_learns_what_only_the_lesion_shows() -> None:
    torch.manual_seed(0)
    network = built(metadata="none", dropout=0.0, side_px=32)
    chance = np.random.default_rng(0)
    labels = torch.tensor([0, 1] * 8)
    image = torch.from_numpy(chance.uniform(0.6, 0.7, (16, 3, 32, 32)).astype(np.float32))
    mask = disc(32, 6).expand(16, -1, -1)
    image[:, 0] -= 0.4 * labels[:, None, None] * mask
    given = {"image": image, "mask": mask, "attributes": torch.zeros(16, 5), "class": labels}
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    network.train()
    for _ in range(15):
        optimiser.zero_grad()
        network.loss(given).backward()
        optimiser.step()
    with torch.no_grad():
        # After so few steps BatchNorm's running statistics lag behind: the batch's own are used.
        assert (network(given)["diagnosis"].argmax(1) == labels).all()


def test_jointly_it_learns_to_outline_what_the_lesion_network_is_shown() -> None:
    """The mask of the batch is its teacher alone: in use, another mask changes nothing."""
    torch.manual_seed(0)
    network = built(joint=True, metadata="none").train()
    centres = torch.tensor([[20, 20], [40, 24], [28, 44], [44, 44]])
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    masks = torch.stack([((rows - r) ** 2 + (columns - c) ** 2 < 12**2).float() for r, c in centres])
    given = {
        "image": (0.75 - 0.5 * masks)[:, None].expand(-1, 3, -1, -1) + 0.05 * torch.rand(4, 3, 64, 64),
        "mask": masks,
        "attributes": torch.zeros(4, 5),
        "class": torch.tensor([0, 1, 2, 0]),
    }
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(40):
        optimiser.zero_grad()
        network.loss(given).backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        _, z = network._outlined(given["image"])
        drawn, true = z > 0, masks.bool()
        assert ((drawn & true).sum() / (drawn | true).sum()) > 0.7
        other = {**given, "mask": torch.ones(4, 64, 64)}
        assert torch.equal(network.answer(given)["diagnosis"], network.answer(other)["diagnosis"])


def test_a_failed_mask_teaches_no_outline() -> None:
    network = built(joint=True)
    network.train()
    failed = {**batch(), "mask": torch.ones(2, 64, 64)}
    network.loss(failed).backward()
    learnt = [p.grad for p in network.outline.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in learnt)
    torch.manual_seed(0)
    before = float(network.loss(failed).detach())
    network.config = configured(DualNetwork, **{**vars(network.config), "mask_share": 100.0})
    torch.manual_seed(0)
    assert float(network.loss(failed).detach()) == pytest.approx(before, rel=1e-3)
    torch.manual_seed(0)
    assert float(network.loss(batch()).detach()) > before + 10


@pytest.mark.parametrize(("bias", "failed"), [(-20.0, True), (20.0, True), (0.0, False)])
def test_jointly_an_outline_of_nothing_or_everything_shows_the_whole_photo(bias: float, failed: bool) -> None:
    network, given = built(joint=True, mirrored=True), batch()
    with torch.no_grad():
        if failed:
            network.outline.output.weight.zero_()
            network.outline.output.bias.fill_(bias)
        else:  # some places are lesion, others are not
            network.outline.output.bias -= network._outlined(given["image"])[1].median()
        shown: list[Any] = []
        network.lesion_backbone.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
        network.answer(given)
        whole = torch.cat([given["image"], given["image"].flip(3)])
        assert torch.equal(shown[0], whole) is failed
        told = network.failed_masks(given)
    assert told is not None
    assert told.tolist() == [failed, failed]
    assert built().failed_masks(given) is None  # the workspace's masks are told by the workspace


def test_a_prediction_says_that_its_joint_outline_failed_whatever_the_workspace_drew(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "ws", folds=1, patients=12)
    small = ("backbone=timm/test_resnet", "side_px=32", "width=32", "heads=4", "token_width=16", "recipe.epochs=1")
    reasons = {}
    with third_party.models("no_outline"):
        for name, more in (("joint", ("joint=true", "mask_share=0")), ("apart", ())):
            how: dict[str, Any] = {"model": "no_outline", "weights": "none", "settings": (*small, *more)}
            run_stage(workspace, "train", name=name, allow_untrained=small_cohort.FEW, **how)
            run_stage(workspace, "predict", name=name, cohorts=["jinan"])
            rows = open_artifact(workspace.path(Ref("predictions", "jinan", name))).table()
            rows = rows[rows["level"] == "image"]
            reasons[name] = rows["refer_reason"].fillna("").str.split(",").map(lambda r: "mask_failed" in r)
    assert reasons["joint"].all()
    assert not reasons["apart"].any()


@pytest.mark.parametrize(("share", "failed"), [(0.0, 1), (0.004, 1), (0.006, 0), (0.97, 0), (0.985, 1), (1.0, 1)])
def test_the_limits_of_a_joint_outline_are_those_of_masks(share: float, failed: int) -> None:
    z = torch.where(torch.arange(10_000) < share * 10_000, 3.0, -3.0).view(1, 100, 100)
    assert outline_failed(z).tolist() == [bool(failed)]


def test_jointly_needs_both_networks_and_maps_that_halve() -> None:
    with pytest.raises(ConfigError, match="streams = photo"):
        built(joint=True, streams="photo")
    with pytest.raises(ConfigError, match="vit"):
        built(joint=True, backbone="timm/vit_patch8_32x4x2")


@pytest.mark.parametrize("settings", [{"heads": 5}, {"token_width": 18}, {"dilation": 1.0}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        built(**settings)
    with pytest.raises(ConfigError, match="no attributes"):
        DualNetwork.build(configured(DualNetwork, backbone="resnet18", side_px=64), Sizes(("A", "B")))
    assert dual_network.MODEL is DualNetwork


def test_the_former_name_of_a_setting_is_read_and_stays_in_the_identity() -> None:
    former = model_config(DualNetwork, ["looks=lesion"])
    assert former == model_config(DualNetwork, {"streams": "lesion"})
    identity = settings_identity(former)
    assert (identity["looks"], "streams" in identity) == ("lesion", False)
    of_older_model = present_settings(DualNetwork, {"looks": "lesion", "recipe": {"epochs": 3}})
    assert of_older_model == {"streams": "lesion", "recipe": {"epochs": 3}}
