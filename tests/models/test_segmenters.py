"""Networks that draw masks: their weights, losses and answers, and the stage that uses them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from configured import configured
from PIL import Image
from torchvision.models.detection import maskrcnn_resnet50_fpn
from written_artifacts import make_workspace, run_stage, write, write_cases
from written_segmenter import LESION, TINY, write_segmenter

from skinkit.artifacts.artifact import open_artifact
from skinkit.errors import ConfigError, InputError
from skinkit.images.decode import read_mask, read_rgb
from skinkit.images.identity import pixel_sha256
from skinkit.images.masks import agreement, one_region
from skinkit.learning.fold_segmenter import strata
from skinkit.learning.rows import DevelopmentRows
from skinkit.models import deep_unet, mask_rcnn, model_config, unet
from skinkit.models.parts import dual_attention, losses
from skinkit.workspace import Ref, Workspace


def disc(side: int, row: int, column: int, radius: int) -> np.ndarray:
    rows, columns = np.indices((side, side))
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def batch_of(n: int, side: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Dark discs on light skin, and where they are."""
    chance = np.random.default_rng(seed)
    truth = np.stack([disc(side, *chance.integers(side // 3, 2 * side // 3, 2), side // 5) for _ in range(n)])
    light = np.where(truth[:, None], 0.25, 0.75) + chance.normal(0, 0.03, (n, 3, side, side))
    return {
        "image": torch.from_numpy(light.clip(0, 1).astype(np.float32)),
        "truth_mask": torch.from_numpy(truth.astype(np.float32)),
    }


# ------------------------------------------------------------------------------------------------ masks, losses


def test_one_region_is_the_largest_without_holes() -> None:
    ring = disc(40, 12, 12, 9) & ~disc(40, 12, 12, 4)
    mask = ring | disc(40, 33, 33, 4)
    mask[0, :] = True  # thinner than the ring has pixels, and at the border
    np.testing.assert_array_equal(one_region(mask), disc(40, 12, 12, 9))
    bay = disc(40, 20, 20, 10)
    bay[20, 10:20] = False  # open to the outside: no hole
    np.testing.assert_array_equal(one_region(bay), bay)
    assert not one_region(np.zeros((5, 7), bool)).any()
    assert one_region(np.ones((5, 7), bool)).all()


@pytest.mark.parametrize("model", [unet.UNet, mask_rcnn.MaskRCNN])
def test_mask_of_counts_the_threshold_in(model: Any) -> None:
    probability = np.zeros((20, 20))
    probability[2:10, 2:10], probability[4:6, 4:6], probability[15:18, 15:18] = 0.5, 0.1, 0.9
    drawn = model.mask_of(probability, model.CONFIG())
    assert drawn.dtype == bool
    assert drawn.sum() == 64
    assert drawn[4, 4]
    assert model.mask_of(probability, model.CONFIG(threshold=0.6)).sum() == 9


def test_losses_by_hand() -> None:
    truth = torch.zeros(2, 4, 4)
    truth[0, :2] = 1
    logits = torch.where(truth > 0, 20.0, -20.0)
    assert losses.bce_dice(logits, truth) == pytest.approx(0, abs=1e-6)
    assert losses.noise_robust(logits, truth) == pytest.approx(0, abs=1e-6)
    half = torch.zeros(2, 4, 4)  # p = 1/2 everywhere; the second image holds no lesion
    assert losses.dice(half.sigmoid(), truth) == pytest.approx((1 - 9 / 17 + 1 - 1 / 9) / 2)
    assert losses.bce_dice(half, truth) == pytest.approx(np.log(2) + (1 - 9 / 17 + 1 - 1 / 9) / 2)
    expected = (16 * 0.5**1.5 / (4 + 8 + 1) + 16 * 0.5**1.5 / (4 + 1)) / 2 + 0.2 * np.log(2)
    assert losses.noise_robust(half, truth) == pytest.approx(expected)


def test_a_wrong_outline_weighs_less_in_the_noise_robust_loss() -> None:
    """Slopes at a confident prediction: towards a truth that contradicts it, against one that is merely unsure."""
    truth = torch.zeros(1, 8, 8)
    truth[:, 2:6, 2:6] = 1
    wrong = truth.clone()
    wrong[:, 0] = 1
    share = []
    for g in (1.0, 2.0):
        logits = torch.where(truth > 0, 4.0, -4.0).requires_grad_()
        losses.noise_robust(logits, wrong, g=g).backward()
        slopes = logits.grad
        assert slopes is not None
        share.append(float(slopes[:, 0].abs().sum() / slopes.abs().sum()))
    assert share[0] < share[1]


# --------------------------------------------------------------------------------------------------------- unet


def test_unet_learns_discs() -> None:
    torch.manual_seed(0)
    net = unet.UNet.build(unet.Config(**TINY), LESION).train()
    batch = batch_of(8, 32)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    history = []
    for _ in range(40):
        loss = net.loss(batch)
        history.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert history[-1] < 0.5 * history[0]
    net.eval()
    with torch.inference_mode():
        drawn = net.answer(batch)["lesion"].numpy() > 0
    truth = batch["truth_mask"].numpy() > 0
    assert np.mean([agreement(d, t)["iou"] for d, t in zip(drawn, truth, strict=True)]) > 0.6


def test_unet_answers_with_the_mean_over_mirrors() -> None:
    net = unet.UNet.build(unet.Config(**TINY), LESION).eval()
    image = batch_of(2, 32)["image"]
    with torch.inference_mode():
        found = net.answer({"image": image})["lesion"]
        mirrored = net.answer({"image": image.flip(-1)})["lesion"].flip(-1)
        passes = [net({"image": image.flip(a)})["lesion"].flip(a).sigmoid() for a in ((), (-1,), (-2,), (-1, -2))]
        plain = unet.UNet.build(unet.Config(**TINY, mirrored=False), LESION).eval()
        plain.load_state_dict(net.state_dict())
        single = plain.answer({"image": image})["lesion"]
        torch.testing.assert_close(single, net({"image": image})["lesion"])
    assert found.shape == (2, 32, 32)
    torch.testing.assert_close(found, mirrored, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.sigmoid(), torch.stack(passes).mean(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_unet_starts_from_torchvision_weights(name: str) -> None:
    state = getattr(torchvision.models, name)().state_dict()
    net = unet.UNet.build(unet.Config(encoder=name, side_px=32, decoder=16), LESION)
    before = {key: value.clone() for key, value in net.net.decoder.state_dict().items()}
    assert name in net.start(state, "w.safetensors")
    for key, value in net.net.encoder.state_dict().items():
        torch.testing.assert_close(value, state[key])
    for key, value in net.net.decoder.state_dict().items():
        torch.testing.assert_close(value, before[key])


def test_unet_starts_from_timm_weights_and_normalises_as_timm_says() -> None:
    name = "tf_efficientnet_lite0"
    whole = timm.create_model(name)
    net = unet.UNet.build(unet.Config(encoder=f"tu-{name}", side_px=32, decoder=16), LESION)
    assert unet.UNet.default_weights(net.config) == f"timm/{name}"
    state = whole.state_dict()
    assert name in net.start(state, "w.safetensors")
    taken = net.net.encoder.model.state_dict()
    for key, value in taken.items():
        torch.testing.assert_close(value, state[key], msg=key)
    assert set(state) - set(taken) == {key for key in state if key.startswith(("conv_head.", "bn2.", "classifier."))}
    assert net.mean.flatten().tolist() == list(whole.pretrained_cfg["mean"])
    assert net.sd.flatten().tolist() == list(whole.pretrained_cfg["std"])
    for wrong in (
        {key: value for key, value in state.items() if key != "blocks.3.1.bn2.running_var"},
        {**state, "blocks.3.1.conv_pw.weight": torch.zeros(1)},
        torchvision.models.resnet18().state_dict(),
    ):
        with pytest.raises(InputError):
            net.start(wrong, "w.safetensors")
    with pytest.raises(ConfigError):
        unet.UNet.build(unet.Config(encoder="tu-tf_efficientnet_lite9", side_px=32), LESION)


def test_unet_refuses_weights_of_another_encoder() -> None:
    net = unet.UNet.build(unet.Config(**TINY), LESION)
    with pytest.raises(InputError) as error:
        net.start(torchvision.models.resnet18().state_dict(), "w.safetensors")
    assert "resnet18" in error.value.found
    assert "--settings encoder=resnet18" in error.value.fix
    with pytest.raises(InputError):
        net.start({"a": torch.zeros(1)}, "w.safetensors")


@pytest.mark.parametrize("settings", [{"encoder": "resnet19"}, {"side_px": 100}, {"side_px": 16}, {"frozen_stages": 6}])
def test_unet_refuses_what_cannot_be_built(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        unet.UNet.build(configured(unet.UNet, **{**TINY, **settings}), LESION)


@pytest.mark.parametrize(
    ("encoder", "stages", "resting"),
    [
        ("tu-tf_efficientnet_lite0", 2, ("model.conv_stem.", "model.bn1.", "model.blocks.0.", "model.blocks.1.")),
        ("tu-tf_efficientnet_lite0", 1, ("model.conv_stem.", "model.bn1.", "model.blocks.0.")),
        ("resnet18", 2, ("conv1.", "bn1.", "layer1.")),
        ("mobilenet_v2", 1, ("features.0.", "features.1.")),
        ("resnet18", 0, ()),
    ],
)
def test_the_lowest_sizes_of_the_encoder_rest(encoder: str, stages: int, resting: tuple[str, ...]) -> None:
    net = unet.UNet.build(unet.Config(encoder=encoder, side_px=32, decoder=16, frozen_stages=stages), LESION).train()
    net.enter("all")
    rests = {name for name, p in net.net.encoder.named_parameters() if not p.requires_grad}
    assert rests == {name for name, _ in net.net.encoder.named_parameters() if name.startswith(resting) and resting}
    assert all(p.requires_grad for p in net.net.decoder.parameters())
    statistics = next(value for name, value in net.net.encoder.named_buffers() if name.endswith("running_mean"))
    before = statistics.clone()
    net.loss(batch_of(2, 32)).backward()
    assert not torch.equal(before, statistics)


def test_unet_phases_and_presets() -> None:
    assert unet.UNet.default_weights(unet.Config()) == "timm/tf_efficientnet_lite0"
    net = unet.UNet.build(model_config(unet.UNet, {"decoder": 16}, preset="quick"), LESION)
    (phase,) = net.phases()
    names = dict(net.named_parameters())
    assert [n for n in phase.rates if any(name.startswith(n) for name in names)] == list(phase.rates)
    assert unet.UNet.default_weights(net.config) == "resnet18"
    widths = [
        block.conv1[0].out_channels
        for block in unet.UNet.build(model_config(unet.UNet, {}, preset="large"), LESION).net.decoder.blocks
    ]
    assert widths == [256, 128, 64, 32, 16]


def test_unet_may_balance_its_draws_over_cohort_and_modality() -> None:
    (phase,) = unet.UNet.build(model_config(unet.UNet, ["recipe.balanced=0.75"], preset="quick"), LESION).phases()
    assert phase.balanced == 0.75
    frame = pd.DataFrame({"cohort": ["isic", "pad", "pad", "pad"], "modality": ["dermoscopic", None, "clinical", None]})
    assert strata(DevelopmentRows(frame, pd.DataFrame(), {})).tolist() == [0, 1, 2, 1]
    assert strata(DevelopmentRows(frame[["cohort"]], pd.DataFrame(), {})).tolist() == [0, 1, 1, 1]


# ---------------------------------------------------------------------------------------------------- mask r-cnn


@pytest.fixture(scope="module")
def detector() -> mask_rcnn.MaskRCNN:
    torch.manual_seed(0)
    return mask_rcnn.MaskRCNN.build(mask_rcnn.Config(side_px=64, rois=16, proposals=50, score=0.0), LESION)


def test_mask_rcnn_is_the_papers(detector: mask_rcnn.MaskRCNN) -> None:
    assert sum(p.numel() for p in detector.parameters()) == pytest.approx(43.92e6, rel=1e-3)
    paper = model_config(mask_rcnn.MaskRCNN, {}, preset="wang2024")
    assert paper.side_px == 512
    assert mask_rcnn.MaskRCNN.default_weights(paper) == "resnet50"
    net = copy.copy(detector)
    net.config = paper
    (phase,) = net.phases()
    assert (phase.optimiser, phase.learning_rate, phase.schedule) == ("adam", 1e-5, "constant")
    assert (phase.batch, phase.epochs, phase.steps) == (8, 100, 200)
    # The best epoch is kept (the paper's was 86), so nothing may end training before the last.
    assert (phase.patience, phase.averaged, phase.weight_decay) == (0, 0.0, 0.0)


def test_mask_rcnn_starts_from_imagenet_or_coco_and_nothing_else(detector: mask_rcnn.MaskRCNN) -> None:
    backbone = torchvision.models.resnet50().state_dict()
    assert "ResNet-50" in detector.start(backbone, "imagenet.pth")
    torch.testing.assert_close(detector.net.backbone.body.layer4[2].conv3.weight, backbone["layer4.2.conv3.weight"])

    coco = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    predictor = detector.net.roi_heads.box_predictor.cls_score.weight.clone()
    assert "COCO" in detector.start(_named_as_in_the_file(coco), "coco.pth")
    torch.testing.assert_close(detector.net.rpn.head.conv[0][0].weight, coco["rpn.head.conv.0.0.weight"])
    mask_head = detector.net.roi_heads.mask_head
    torch.testing.assert_close(mask_head[3][0].bias, coco["roi_heads.mask_head.3.0.bias"])
    torch.testing.assert_close(detector.net.roi_heads.box_predictor.cls_score.weight, predictor)
    variance = detector.net.backbone.body.bn1.running_var
    torch.testing.assert_close(variance + detector.net.backbone.body.bn1.eps, coco["backbone.body.bn1.running_var"])

    for state in (
        torchvision.models.resnet18().state_dict(),
        {**coco, "roi_heads.box_predictor.cls_score.weight": torch.zeros(2, 1024)},
        {},
    ):
        with pytest.raises(InputError) as error:
            detector.start(state, "other.pth")
        assert "COCO" in error.value.expected or "ResNet" in str(error.value)


def _named_as_in_the_file(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As torchvision's published file calls them."""
    renamed = {}
    for name, value in state.items():
        older = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        if "_blocks." in older:
            older = older.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        if older.startswith("roi_heads.mask_head."):
            number = int(older.split(".")[2])
            older = f"roi_heads.mask_head.mask_fcn{number + 1}.{older.rsplit('.', 1)[1]}"
        if not older.endswith("num_batches_tracked"):
            renamed[older] = value
    assert "backbone.fpn.inner_blocks.0.weight" in renamed
    return renamed


def test_mask_rcnn_learns_with_an_image_without_lesion_and_answers(detector: mask_rcnn.MaskRCNN) -> None:
    batch = batch_of(2, 64)
    batch["truth_mask"][1] = 0
    detector.train()
    loss = detector.loss(batch)
    assert loss.ndim == 0
    loss.backward()
    assert torch.isfinite(loss)
    assert detector.net.roi_heads.mask_predictor.mask_fcn_logits.weight.grad is not None
    detector.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = detector.answer({"image": batch["image"]})["lesion"]
    assert found.shape == (2, 64, 64)
    assert found.dtype == torch.float32
    assert float(found.min()) < -10  # outside the box
    assert not detector.training


def test_mask_rcnn_boxes_every_region_but_specks() -> None:
    truth = torch.zeros(40, 50)
    truth[5:15, 10:30] = 1
    truth[20:30, 35:45] = 1
    truth[38, 0] = 1
    target = mask_rcnn._target(truth)
    assert target["boxes"].tolist() == [[10, 5, 30, 15], [35, 20, 45, 30]]
    assert target["masks"].sum(dim=(1, 2)).tolist() == [200, 100]
    empty = mask_rcnn._target(torch.zeros(40, 50))
    assert empty["boxes"].shape == (0, 4)
    assert empty["masks"].shape == (0, 40, 50)


# ----------------------------------------------------------------------------------------------------- the stage


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two cohorts with four photos of discs each, of different sizes, and with truth masks for all but one."""
    workspace = make_workspace(tmp_path, {"home": "development", "away": "external"})
    for seed, cohort in enumerate(("home", "away")):
        chance = np.random.default_rng(seed)
        rows = []
        for i in range(4):
            height, width = 40 + 4 * i, 56
            lesion = disc(56, 20, 25, 9)[:height]
            rgb = np.where(lesion[..., None], 70, 190) + chance.integers(-9, 9, (height, width, 1))
            root = tmp_path / cohort
            Image.fromarray(np.repeat(rgb, 3, axis=2).astype(np.uint8)).save(root / f"{i}.png")
            Image.fromarray(lesion).save(root / f"{i}_mask.png")
            rows.append(
                {
                    "image_id": f"{cohort}{i}",
                    "patient_id": f"{cohort}-P{i}",
                    "image_path": f"{i}.png",
                    "pixel_sha256": pixel_sha256(read_rgb(root / f"{i}.png")),
                    "truth_mask_path": f"{i}_mask.png" if i < 3 else None,
                    "truth_mask_sha256": f"mask {i}",
                    "width_px": width,
                    "height_px": height,
                    "modality": "clinical" if i else "dermoscopic",
                }
            )
        write_cases(workspace, cohort, rows)
    return workspace


LEARNT = [
    {"home0": "train", "home1": "held_out", "home2": "validation"},
    {"home0": "train", "home1": "validation", "home2": "held_out"},
]


def test_a_photo_is_drawn_by_the_folds_that_do_not_know_it(workspace: Workspace) -> None:
    model = write_segmenter(workspace, LEARNT)
    (home, away), said = run_stage(workspace, "segment", model="tiny")
    rows = home.table().set_index("image_id")
    assert (rows["status"] == "ok").all()
    assert (rows["segmenter"] == "tiny").all()
    assert rows["in_sample"].to_dict() == {"home0": True, "home1": False, "home2": False, "home3": False}
    # Fold 0 calls every pixel lesion and fold 1 none; their mean is one half, which counts.
    assert rows["area_share"].to_dict() == {"home0": 1.0, "home1": 1.0, "home2": 0.0, "home3": 1.0}
    assert rows.loc["home2", "iou"] == 0
    for image, height in (("home0", 40), ("home3", 52)):
        assert read_mask(home.path / rows.loc[image, "mask_file"]).shape == (height, 56)
    assert home.info["segmenter_identity"] == model.identity
    assert "in sample" in said
    (line,) = home.info["agreement"]
    assert (line["n"], line["n_clusters"]) == (2, 2)
    assert line["iou_median"]["estimate"] == pytest.approx(rows.loc["home1", "iou"] / 2)
    assert not away.table()["in_sample"].any()
    assert {line["modality"]: line["n"] for line in away.info["agreement"]} == {
        "all": 3, "clinical": 2, "dermoscopic": 1,
    }  # fmt: skip
    assert "against 3 masks drawn by people: IoU mean" in said


@pytest.mark.parametrize("shared", ["pixel_sha256", "group_id"])
def test_in_sample_elsewhere_by_pixels_or_patient(workspace: Workspace, shared: str) -> None:
    write_segmenter(workspace, [{"home0": "train", "home1": "validation", "home2": "held_out"}])
    paths = [workspace.path(Ref("cases", cohort)) for cohort in ("home", "away")]
    ours, theirs = (open_artifact(path).table() for path in paths)
    theirs[shared] = [*ours[shared][:3], theirs[shared][3]]
    if shared == "pixel_sha256":
        # A picture that was changed after it was ingested would be refused.
        for i in range(3):
            (workspace.root / "away" / f"{i}.png").write_bytes((workspace.root / "home" / f"{i}.png").read_bytes())
    write(workspace, Ref("cases", "away"), theirs)
    (masks,), _ = run_stage(workspace, "segment", cohorts=["away"], name="tiny")
    assert masks.table()["in_sample"].tolist() == [True, True, False, False]


def test_a_photo_that_cannot_be_read_is_a_row_and_others_are_kept(workspace: Workspace) -> None:
    write_segmenter(workspace, LEARNT)
    photo = workspace.root / "home" / "1.png"
    whole = photo.read_bytes()
    photo.write_bytes(whole[: len(whole) // 2])
    (masks,), _ = run_stage(workspace, "segment", cohorts=["home"], name="tiny")
    rows = masks.table().set_index("image_id")
    assert rows.loc["home1", "status"] == "failed"
    assert rows.loc["home1", "reason"].startswith("image_")
    assert (rows["status"] == "ok").sum() == 3
    write_segmenter(workspace, [LEARNT[0]])
    (again,), _ = run_stage(workspace, "segment", cohorts=["home"], name="tiny")
    assert again.manifest["counts"]["kept"] == 0  # another network, other masks


def test_a_segmenter_that_is_not_trained_or_not_there(workspace: Workspace) -> None:
    with pytest.raises(InputError) as untrained:
        run_stage(workspace, "segment", model="unet")
    assert "models/unet" in untrained.value.found
    assert "skinkit train" in untrained.value.fix
    with pytest.raises(ConfigError, match="untet"):
        run_stage(workspace, "segment", model="untet")
    write_segmenter(workspace, LEARNT)
    with pytest.raises(ConfigError, match="threshold"):
        run_stage(workspace, "segment", model="tiny", settings=("threshold=0.4",))


# -------------------------------------------------------------------------------------------------------- deep_unet


def deep(**settings: Any) -> deep_unet.DeepUNet:
    torch.manual_seed(0)
    config = configured(deep_unet.DeepUNet, **{"encoder": "resnet18", "side_px": 64, "decoder": 16, **settings})
    return deep_unet.DeepUNet.build(config, LESION)


def test_a_gate_is_spatial_times_channel() -> None:
    torch.manual_seed(0)
    gate, skip, g = dual_attention.Gate(8, 6, "dual"), torch.rand(2, 8, 5, 5), torch.rand(2, 6, 5, 5)
    with torch.no_grad():
        hidden = torch.relu(
            torch.einsum("oc,nchw->nohw", gate.of_skip.weight[:, :, 0, 0], skip)
            + torch.einsum("oc,nchw->nohw", gate.of_asking.weight[:, :, 0, 0], g)
            + gate.of_asking.bias[:, None, None]
        )
        s = torch.sigmoid(torch.einsum("oc,nchw->nohw", gate.places.weight[:, :, 0, 0], hidden) + gate.places.bias)
        pooled = torch.cat([skip.mean((2, 3)), g.mean((2, 3))], 1)
        c = torch.sigmoid(gate.excite(torch.relu(gate.squeeze(pooled))))
        torch.testing.assert_close(gate(skip, g), skip * s * c[:, :, None, None])
        assert dual_attention.Gate(8, 6, "none")(skip, g) is skip


@pytest.mark.parametrize("kind", ["dual", "spatial", "channel", "none"])
@pytest.mark.parametrize("aspp", [True, False])
def test_every_part_of_deep_unet_can_be_left_out_and_every_weight_learns(kind: str, aspp: bool) -> None:
    network = deep(gates=kind, aspp=aspp, frozen_stages=0).train()
    assert any(isinstance(module, dual_attention.Aspp) for module in network.modules()) is aspp
    names = [name for name, _ in network.named_parameters()]
    assert any(name.endswith("places.weight") for name in names) is (kind in ("dual", "spatial"))
    assert any(name.endswith("excite.weight") for name in names) is (kind in ("dual", "channel"))
    loss = network.loss(batch_of(2, 64))
    loss.backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert network.eval().answer(batch_of(1, 64))["lesion"].shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("side_px", "rates"), [(64, (1, 1, 1)), (192, (1, 2, 3)), (224, (1, 2, 4)), (256, (1, 2, 4)), (512, (2, 4, 8))]
)
def test_the_rates_of_aspp_follow_the_size_of_its_maps(side_px: int, rates: tuple[int, ...]) -> None:
    network = deep(side_px=side_px).eval()
    bottom = network.net.bottom
    assert [conv.dilation[0] for conv, *_ in bottom.branches] == [1, *rates]
    with torch.no_grad():
        for rate, (conv, *_) in zip(rates, bottom.branches[1:], strict=True):
            conv.weight.zero_()
            conv.weight[0, 0] = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0]])  # reads what lies a rate to the right
            seen = torch.rand(1, conv.in_channels, side_px // 32, side_px // 32)
            torch.testing.assert_close(conv(seen)[0, 0, :, :-rate], seen[0, 0, :, rate:])
            assert conv(seen).shape[2:] == seen.shape[2:]


def test_a_deep_unet_that_learnt_with_other_rates_keeps_them() -> None:
    before, after = deep(side_px=512).eval(), deep(side_px=512).eval()
    state = before.state_dict()
    assert any(name.endswith("rates") for name in state)
    assert not any(name.endswith("rates") for name in deep(side_px=256).state_dict())
    older = {name: value for name, value in state.items() if not name.endswith("rates")}
    maps = torch.rand(1, 512, 16, 16)
    with torch.no_grad():
        following = before.net.bottom(maps)
        after.load_state_dict(state)
        assert torch.equal(after.net.bottom(maps), following)
        after.load_state_dict(older)
        assert [conv.dilation[0] for conv, *_ in after.net.bottom.branches] == [1, 1, 2, 4]
        kept = after.net.bottom(maps)
        assert not torch.allclose(kept, following)
        before.load_state_dict(after.state_dict())
        assert torch.equal(before.net.bottom(maps), kept)


def test_the_paper_s_deep_unet_has_the_shapes_of_its_docstring() -> None:
    config = model_config(deep_unet.DeepUNet, [], preset="atiq2025")
    network = deep_unet.DeepUNet.build(config, LESION).eval()
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 15.5
    with torch.no_grad():
        maps = network.net.encoder(torch.zeros(1, 3, 256, 256))
        assert [tuple(m.shape[1:]) for m in maps[1:]] == [
            (24, 128, 128), (32, 64, 64), (48, 32, 32), (136, 16, 16), (384, 8, 8)
        ]  # fmt: skip
        assert network.net.bottom(maps[-1]).shape == (1, 256, 8, 8)
        assert network.answer({"image": torch.rand(1, 3, 256, 256)})["lesion"].shape == (1, 256, 256)


def test_deep_unet_learns_to_draw() -> None:
    network = deep(encoder="tu-test_resnet", frozen_stages=0).train()
    batch, optimiser = batch_of(8, 64), torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        network.loss(batch).backward()
        optimiser.step()
    other = batch_of(4, 64, seed=1)
    with torch.no_grad():
        drawn = network.eval().answer(other)["lesion"] > 0
    truth = other["truth_mask"] > 0.5
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.7
