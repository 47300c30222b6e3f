"""The vision transformer: its loss against plain loops, rates from block to block, what is left out in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import small_cohort
import torch
import written_artifacts as written
from configured import configured
from written_artifacts import make, model

from skinkit.errors import ConfigError
from skinkit.learning.schedule import optimiser_of
from skinkit.models import load_model
from skinkit.models.parts.protocol import Sizes
from skinkit.models.vit import VisionTransformer, _mixed
from skinkit.workspace import Workspace

SMALL: dict[str, Any] = {"backbone": "timm/vit_patch8_32x4x2", "side_px": 32}
TEXTS = (*(f"{name}={value}" for name, value in SMALL.items()), "recipe.batch=8", "recipe.epochs=1")
SIZES = Sizes(("A", "B", "C"), class_counts=(6, 3, 1), cohorts=("clinic", "synthetic:gan"))


def built(**settings: Any) -> Any:
    torch.manual_seed(0)
    return VisionTransformer.build(configured(VisionTransformer, **{**SMALL, **settings}), SIZES)


def batch(n: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"image": torch.rand(n, 3, 32, 32, generator=generator), "class": torch.arange(n) % 3}


def entropy(logits: torch.Tensor, truth: int, smoothing: float) -> float:
    log_p = logits - logits.exp().sum().log()
    return float(-(1 - smoothing) * log_p[truth] - smoothing * log_p.mean())


def test_it_answers_the_linear_layer_of_the_mean_patch() -> None:
    network = built().eval()
    with torch.no_grad():
        vit = network.backbone.net.model
        h = vit.forward_features((batch()["image"] - network.backbone.mean) / network.backbone.sd)
        expected = network.output(h[:, 1:].mean(1))
        assert torch.allclose(network(batch())["diagnosis"], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "concat"])
def test_rates_fall_from_block_to_block(name: str) -> None:
    kind = load_model(name)
    settings = {**SMALL, "layer_decay": 0.5, "learning_rate": 1.0, "head_learning_rate": 3.0}
    network: Any = kind.build(configured(kind, **settings), SIZES)  # type: ignore[attr-defined]
    network.enter("all")
    (phase,) = network.phases()
    groups = optimiser_of(network, phase).param_groups
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}
    rates = {n: rate_of[id(p)] for n, p in network.named_parameters()}
    before = "backbone.net.model."
    assert rates[f"{before}norm.weight"] == 1.0
    assert [rates[f"{before}blocks.{n}.attn.qkv.weight"] for n in range(4)] == [0.0625, 0.125, 0.25, 0.5]
    assert {rates[f"{before}{n}"] for n in ("cls_token", "pos_embed", "patch_embed.proj.bias")} == {0.03125}
    assert {rate for n, rate in rates.items() if not n.startswith("backbone.")} == {3.0}


def test_of_a_pyramid_the_stages_learn_at_falling_rates() -> None:
    kind = load_model("concat")
    network: Any = kind.build(  # type: ignore[attr-defined]
        configured(kind, backbone="resnet18", side_px=32, layer_decay=0.5, learning_rate=1.0), SIZES
    )
    (phase,) = network.phases()
    assert [phase.rates[f"backbone.net.layer{n}.0.conv1.weight"] for n in (1, 2, 3, 4)] == [0.0625, 0.125, 0.25, 0.5]
    assert phase.rates["backbone.net.conv1.weight"] == 0.0625
    assert phase.learning_rate == 1.0


def test_photos_are_mixed_and_both_truths_count() -> None:
    network = built(mixup=0.4, drop_path=0.0).train()
    torch.manual_seed(2)
    mixed, partners, share = _mixed(batch(), 0.4)
    assert 0 < share < 1
    assert sorted(partners.tolist()) == [0, 1, 2, 3]
    image = batch()["image"]
    for n, j in enumerate(partners.tolist()):
        assert torch.allclose(mixed["image"][n], share * image[n] + (1 - share) * image[j])
    torch.manual_seed(2)
    loss = float(network.loss(batch()).detach())
    with torch.no_grad():
        logits = network(mixed)["diagnosis"]
    truth = batch()["class"].tolist()
    by_hand = [
        share * entropy(logits[n], truth[n], 0.1) + (1 - share) * entropy(logits[n], truth[j], 0.1)
        for n, j in enumerate(partners.tolist())
    ]
    assert loss == pytest.approx(float(np.mean(by_hand)), rel=1e-5)
    network.eval()
    assert float(network.loss(batch()).detach()) == pytest.approx(
        float(built(drop_path=0.0).eval().loss(batch()).detach())
    )


def test_synthetic_photos_count_as_much_as_they_are_given() -> None:
    network = built(synthetic_weight=0.25, class_weights="inverse").eval()
    rows = {**batch(), "cohort": torch.tensor([0, 1, 0, 1])}
    with torch.no_grad():
        logits, loss = network(rows)["diagnosis"], float(network.loss(rows))
    truth, a = rows["class"].tolist(), network.class_weights.tolist()
    weights = [w * a[y] for w, y in zip((1, 0.25, 1, 0.25), truth, strict=True)]
    summed = sum(
        w * (-0.9 * a[y] * float(lp[y]) - 0.1 / 3 * sum(a[k] * float(lp[k]) for k in range(3)))
        for w, y, lp in zip((1, 0.25, 1, 0.25), truth, logits.log_softmax(1), strict=True)
    )
    assert loss == pytest.approx(summed / sum(weights), rel=1e-5)
    alike = built(synthetic_weight=1.0, class_weights="inverse").eval()
    without = {name: value for name, value in rows.items() if name != "cohort"}
    assert float(alike.loss(rows).detach()) == float(alike.loss(without).detach()) != pytest.approx(loss)


def test_blocks_are_left_out_in_training_the_higher_the_more_often() -> None:
    network = built(drop_path=0.3)
    blocks = network.backbone.net.model.blocks
    shares = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    assert shares == pytest.approx([0.0, 0.1, 0.2, 0.3])
    seen = [network.train(mode)(batch())["diagnosis"] for mode in (True, True, False, False)]
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"mixup": -1.0}, "mixup = -1.0"),
        ({"drop_path": 1.0}, "drop_path = 1.0"),
        ({"synthetic_weight": 0.0}, "synthetic_weight = 0.0"),
        ({"layer_decay": 0.0}, "layer_decay = 0.0"),
        ({"synthetic_share": 1.5}, "synthetic_share = 1.5"),
        ({"backbone": "resnet18"}, "resnet18"),
        ({"cached_views": 2, "frozen_stages": 2, "frozen_statistics": True}, "cached_views = 2"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        built(**settings)
    assert found in error.value.found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return small_cohort.make(tmp_path_factory.mktemp("w"), folds=1, patients=24)


def test_a_large_one_teaches_a_small_one_which_predicts_and_is_explained(workspace: Workspace) -> None:
    make(workspace, "train", name="large", model="vit", weights="none", settings=TEXTS)
    narrow = (*TEXTS, "backbone=timm/vit_patch8_16x4x2", "objective.features=0.1")
    options: dict[str, Any] = {"model": "vit", "weights": "none", "teacher": "large"}
    make(workspace, "train", name="small", **options, settings=narrow)
    assert model(workspace, "small").json("model.json")["teacher"]["name"] == "large"
    assert (make(workspace, "predict", name="small", cohorts=["jinan"]).table()["status"] == "ok").all()
    made, _ = written.run_stage(workspace, "explain", name="small", cohorts=["jinan"], limit=2)
    assert len(made) == 1
    with pytest.raises(ConfigError) as error:
        make(workspace, "train", name="mixing", **options, settings=(*narrow, "mixup=0.4"))
    assert "mixes photos" in error.value.found


def test_a_share_of_no_images_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as error:
        make(workspace, "train", name="x", model="vit", weights="none", settings=(*TEXTS, "recipe.synthetic_share=0.5"))
    assert "without --synthetic" in error.value.found
