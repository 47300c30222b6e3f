"""The hybrid of Wang 2024: its size, its parts by hand, its two phases, and what it may start from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from configured import configured
from PIL import Image

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from skinkit.errors import ConfigError, InputError  # noqa: E402
from skinkit.models import hybrid_resnet50, model_config  # noqa: E402
from skinkit.models.parts.backbone import Backbone  # noqa: E402
from skinkit.models.parts.protocol import Sizes  # noqa: E402
from skinkit.stats.encoders import column_names  # noqa: E402
from skinkit.taxonomy import class_set  # noqa: E402

WANG8 = tuple(class_set("wang8").classes)
SIZES = Sizes(WANG8, {"attributes": 3, "radiomics": 9}, (5,) * 8)


def network(sizes: Sizes = SIZES, seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    return hybrid_resnet50.Hybrid.build(configured(hybrid_resnet50.Hybrid, **{"side_px": 32, **settings}), sizes)


def batch(n: int = 4, side: int = 32, attributes: int = 3, radiomics: int = 9, seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    return {
        "image": torch.rand(n, 3, side, side),
        "mask": (torch.rand(n, side, side) > 0.5).float(),
        "attributes": torch.randn(n, attributes),
        "radiomics": torch.randn(n, radiomics),
        "class": torch.arange(n) % 8,
    }


@pytest.fixture(scope="module")
def hybrid() -> Any:
    return network()


@pytest.fixture(scope="module")
def imagenet() -> dict[str, Any]:
    """A torchvision ResNet-50 whose BatchNorm has statistics."""
    from torchvision.models import resnet50

    torch.manual_seed(1)
    state: dict[str, Any] = resnet50().state_dict()
    return {k: v + 0.1 if k.endswith("running_mean") else v for k, v in state.items()}


def test_it_has_as_many_parameters_as_the_paper_says(hybrid: Any) -> None:
    """12 attributes and 8 classes: ResNet-50 without its classes, the filter of the mask, eq. 2 and eq. 3."""
    count = sum(p.numel() for p in hybrid.parameters())
    assert count == 23_508_032 + 64 * 7 * 7 + 13_312 + 24_584
    assert round(count / 1e6, 2) == 23.55
    assert sum(p.numel() for p in hybrid.branch.parameters()) == 13_312
    assert sum(p.numel() for p in hybrid.output.parameters()) == 24_584


@pytest.mark.parametrize(("encoder", "width"), [("isic_ordinal", 12), ("isic", 17)])
def test_both_encodings_have_the_width_of_the_paper_with_nine_features(encoder: str, width: int) -> None:
    columns = {"attributes": len(column_names(encoder)), "radiomics": 9}
    assert sum(columns.values()) == width
    net = network(Sizes(WANG8, columns))
    assert net.branch.in_features == width
    assert net.eval()(batch(1, attributes=columns["attributes"]))["diagnosis"].shape == (1, 8)


def test_the_answer_is_equations_1_to_3(hybrid: Any) -> None:
    hybrid.eval().enter("all")
    given = batch(2)
    with torch.no_grad():
        mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        colour = (given["image"] - mean.view(1, 3, 1, 1)) / sd.view(1, 3, 1, 1)
        f = hybrid.backbone(torch.cat([colour, given["mask"].unsqueeze(1)], 1))
        q = torch.cat([given["attributes"], given["radiomics"]], 1).numpy()
        h = np.maximum(q @ hybrid.branch.weight.numpy().T + hybrid.branch.bias.numpy(), 0)
        z = np.concatenate([f.numpy(), h], 1) @ hybrid.output.weight.numpy().T + hybrid.output.bias.numpy()
        np.testing.assert_allclose(hybrid(given)["diagnosis"].numpy(), z, atol=1e-4)


def test_the_loss_is_equation_4(hybrid: Any) -> None:
    net = network(Sizes(WANG8, SIZES.columns, (10, 20, 30, 40, 1, 2, 3, 0))).eval()
    given = batch(4)
    with torch.no_grad():
        log_p = torch.log_softmax(net(given)["diagnosis"].double(), 1).numpy()
        loss = float(net.loss(given))
    w = 106 / (8 * np.array([10.0, 20, 30, 40]))
    assert loss == pytest.approx(-(w * log_p[np.arange(4), np.arange(4)]).sum() / w.sum(), rel=1e-5)
    squares = network(Sizes(WANG8, SIZES.columns, (10, 20, 30, 40, 1, 2, 3, 0)), class_weights="square_root")
    np.testing.assert_allclose(squares.class_weights[:4], np.sqrt(w), rtol=1e-6)


def test_in_the_first_phase_the_branch_is_silent_and_frozen(hybrid: Any) -> None:
    first, second = hybrid.phases()
    assert (first.name, first.epochs, second.name, second.epochs) == ("image", 51, "all", 92)
    hybrid.eval().enter("image")
    given, others = batch(2), batch(2)
    others["attributes"] = others["attributes"] + 3
    with torch.no_grad():
        torch.testing.assert_close(hybrid(given)["diagnosis"], hybrid(others)["diagnosis"])
        assert not any(p.requires_grad for p in hybrid.branch.parameters())
        hybrid.enter("all")
        assert (hybrid(given)["diagnosis"] - hybrid(others)["diagnosis"]).abs().max() > 1e-3
    assert all(p.requires_grad for p in hybrid.parameters())


def test_presets() -> None:
    assert hybrid_resnet50.PRESETS["wang2024"] == {}, "the defaults are the paper's"
    paper = network().phases()[1]
    assert (paper.optimiser, paper.learning_rate, paper.momentum, paper.weight_decay) == ("sgd", 0.002, 0.9, 1e-4)
    assert (paper.batch, paper.schedule, paper.final_rate, paper.patience, paper.rates) == (8, "cosine", 1e-5, 15, {})
    assert (paper.augment.rotation_deg, paper.augment.smallest_scale, paper.augment.brightness) == (180, 0.9, 0.1)
    quick = model_config(hybrid_resnet50.Hybrid, hybrid_resnet50.PRESETS["quick"])
    (only,) = hybrid_resnet50.Hybrid.build(quick, SIZES).phases()
    assert (only.name, only.epochs, only.optimiser, only.rates["output."]) == ("all", 14, "adamw", 1e-3)
    for wrong in ({"side_px": 16}, {"epochs": 0}, {"batch": 1}):
        with pytest.raises(ConfigError):
            network(**wrong)


def test_hidden_rows_and_the_mirrored_mean(hybrid: Any) -> None:
    net = network(dropped=0.5, mirrored=True)
    given = batch(40)
    torch.manual_seed(0)
    hidden = (net.train()._quantities(given) == 0).all(1)
    assert 8 < int(hidden.sum()) < 32
    with torch.no_grad():
        assert not (net.eval()._quantities(given) == 0).all(1).any()
        two = {k: v[:2] for k, v in given.items()}
        flipped = {**two, "image": two["image"].flip(3), "mask": two["mask"].flip(2)}
        mean = (net(two)["diagnosis"] + net(flipped)["diagnosis"]) / 2
        torch.testing.assert_close(net.answer(two)["diagnosis"], mean, atol=1e-4, rtol=1e-4)


def test_neither_attributes_nor_features() -> None:
    net = network(Sizes(("a", "b"), {"attributes": 0, "radiomics": 0}))
    given = batch(2, attributes=0, radiomics=0)
    assert net.branch is None
    assert net(given)["diagnosis"].shape == (2, 2)
    net.enter("image")


def test_it_starts_from_imagenet_with_the_mean_filter_for_the_mask(imagenet: dict[str, Any]) -> None:
    net = network()
    told = net.start(imagenet, "w.safetensors")
    assert "w.safetensors" in told
    assert "mask" in told
    assert "statistics" not in told
    filters = net.backbone.conv1.weight
    torch.testing.assert_close(filters[:, :3], imagenet["conv1.weight"])
    torch.testing.assert_close(filters[:, 3], imagenet["conv1.weight"].mean(1))
    torch.testing.assert_close(net.backbone.layer4[2].conv3.weight, imagenet["layer4.2.conv3.weight"])
    flat = {k: torch.zeros_like(v) if k.endswith("running_mean") else v for k, v in imagenet.items()}
    assert "no statistics" in net.start(flat, "w.safetensors")


def test_another_backbone_reads_the_mask_through_the_mean_of_its_colour_filters() -> None:
    """It starts as the backbone that sees colours alone, and a mask moves its answer."""
    name, side = "timm/tf_efficientnet_lite0", 64
    net, plain = network(backbone=name, side_px=side), Backbone(name, side)
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert net.default_weights(net.config) == name
    for each in (net, plain):
        each.start(state, "w.pth")
    net.eval()
    plain.eval()
    given = {**batch(2, side=side), "mask": torch.zeros(2, side, side)}
    with torch.no_grad():
        f = net.encode(given)
        torch.testing.assert_close(f, plain(given["image"])[-1].mean((2, 3)), atol=1e-5, rtol=1e-5)
        marked = net.encode({**given, "mask": torch.ones(2, side, side)})
        assert (marked - f).abs().max() > 1e-2
        twin = network(seed=3, backbone=name, side_px=side).eval()
        twin.load_state_dict(net.state_dict())
        torch.testing.assert_close(twin(given)["diagnosis"], net(given)["diagnosis"])
    filters = net.backbone.maps.net.conv_stem.weight
    torch.testing.assert_close(filters[:, 3], filters[:, :3].mean(1))
    assert net.last is net.backbone.maps.last


def test_backbones_that_there_are_not_are_refused() -> None:
    for name in ("timm/mvitv2_tiny_nothing", "resnet500"):
        with pytest.raises(ConfigError) as error:
            network(backbone=name)
        assert name.removeprefix("timm/") in error.value.found


def test_other_weights_are_refused_and_change_nothing(hybrid: Any, imagenet: dict[str, Any]) -> None:
    from torchvision.models import resnet18

    before = {k: v.clone() for k, v in hybrid.state_dict().items()}
    with pytest.raises(InputError) as error:
        hybrid.start(resnet18().state_dict(), "w")
    assert "ResNet-50" in error.value.found
    assert "'layer1.0.conv3.weight' is missing" in error.value.found
    grey = {**imagenet, "conv1.weight": imagenet["conv1.weight"][:, :1]}
    with pytest.raises(InputError) as error:
        hybrid.start(grey, "w")
    assert "'conv1.weight'" in error.value.found
    assert "(64, 1, 7, 7)" in error.value.found
    assert all(torch.equal(v, before[k]) for k, v in hybrid.state_dict().items())


def test_it_remembers_the_mean_photo() -> None:
    net = network()
    assert not net.reference_embedding.any()
    net.train()
    with torch.no_grad():
        means = []
        for seed in range(3):
            given = batch(4, seed=seed)
            means.append(net.backbone(net._pictures(given)).mean(0))
            net(given)
    torch.testing.assert_close(net.reference_embedding, torch.stack(means).mean(0), atol=1e-4, rtol=1e-4)
    kept = net.reference_embedding.clone()
    net.eval()(batch(4))
    torch.testing.assert_close(net.reference_embedding, kept)


@pytest.mark.real
def test_batch_norm_of_the_real_weights_fits_real_photos(real_data: Path) -> None:
    """Their training-mode features are their evaluation-mode features; with BatchNorm folded away they are not."""
    from safetensors.torch import load_file
    from torchvision.models import resnet50

    spec = importlib.util.spec_from_file_location("decode", real_data / "weights" / "decode.py")
    assert spec is not None
    assert spec.loader is not None
    decode = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(decode)
    folded = decode.pqf(load_file(real_data / "weights" / "resnet50_imagenet_pqf.safetensors"), resnet50())
    photos = [
        np.asarray(Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
        for file in sorted((real_data / "pad" / "images").glob("*.jpg"))[::43][:24]
    ]
    given = {"image": torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2) / 255, "mask": torch.ones(24, 224, 224)}
    net = network(side_px=224)
    assert "no statistics" in net.start(folded, "folded")
    assert hybrid_resnet50.batch_norm_agreement(net, given) < 0.5
    whole = decode.unfold(dict(folded), load_file(real_data / "weights" / "resnet50_bn_pad.safetensors"))
    assert "statistics" not in net.start(whole, "whole")
    assert hybrid_resnet50.batch_norm_agreement(net, given) > 0.9
