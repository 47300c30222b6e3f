"""The masked autoencoder: its equations against plain loops, what its encoder never sees, and what starts from it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import small_cohort
import torch
import written_artifacts as written
from configured import configured
from safetensors.torch import load_file

from skinkit.errors import ConfigError, InputError
from skinkit.learning.trained import BACKBONE, NETWORK
from skinkit.models import load_model, model_config, text_of
from skinkit.models.mae import MAE, normalised, positions
from skinkit.models.parts.protocol import Sizes
from skinkit.models.vit import VisionTransformer
from skinkit.workspace import Ref, Workspace

SMALL: dict[str, Any] = {
    "backbone": "timm/vit_patch8_32x4x2",
    "side_px": 32,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
}
OF_VIT: dict[str, Any] = {name: SMALL[name] for name in ("backbone", "side_px")}
DOCS = Path(__file__).parents[2] / "docs"


def built(**settings: Any) -> Any:
    torch.manual_seed(0)
    return MAE.build(configured(MAE, **{**SMALL, **settings}), Sizes(())).eval()


def photos(n: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------------------------------------------- equations


def test_patches_are_cut_row_by_row_and_pixel_by_pixel() -> None:
    network, image = built(), photos()
    patches = network.cut(image)
    for number in range(16):
        top, left = 8 * (number // 4), 8 * (number % 4)
        by_hand = [image[1, c, top + y, left + x] for y in range(8) for x in range(8) for c in range(3)]
        assert torch.equal(patches[1, number], torch.stack(by_hand))


def test_targets_have_mean_0_and_spread_1_in_each_patch() -> None:
    patches = torch.tensor([[[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]]])
    spread = math.sqrt((4 + 1 + 0 + 9) / 3 + 1e-6)
    expected = torch.tensor([[-2 / spread, -1 / spread, 0.0, 3 / spread], [0.0] * 4])
    assert torch.allclose(normalised(patches)[0], expected, atol=1e-6)


def test_positions_are_those_of_the_equation() -> None:
    side, width = 3, 8
    table = positions(width, side)[0]
    assert torch.equal(table[0], torch.zeros(width))
    for row in range(side):
        for column in range(side):
            by_hand = [
                wave(place * 10000 ** (-4 * k / width))
                for place in (column, row)
                for wave in (math.sin, math.cos)
                for k in range(width // 4)
            ]
            assert table[1 + row * side + column].tolist() == pytest.approx(by_hand, abs=1e-6)


def test_only_the_visible_patches_reach_the_encoder() -> None:
    """Changing a hidden patch changes no output of the encoder; changing a seen one changes them all."""
    network, image = built(), photos(1)
    order = torch.tensor([[5, 2, 11, 8, *(p for p in range(16) if p not in (5, 2, 11, 8))]])
    with torch.no_grad():
        before = network.see(image, order[:, :4])
        assert before.shape == (1, 5, 32)
        for patch in range(16):
            top, left = 8 * (patch // 4), 8 * (patch % 4)
            other = image.clone()
            other[:, :, top : top + 8, left : left + 8] = 0.9
            after = network.see(other, order[:, :4])
            assert torch.equal(before, after) == (patch not in (5, 2, 11, 8))


def test_with_nothing_hidden_the_encoder_is_timms_whole_network() -> None:
    network, image = built(), photos()
    everything = torch.arange(16).expand(2, -1)
    with torch.no_grad():
        whole = network.backbone.net.model.forward_features(network.coloured(image))
        assert torch.allclose(network.see(image, everything), whole, atol=1e-5)
        maps = network.backbone(image)[-1]
        in_maps = network.see(image, everything)[:, 1:].transpose(1, 2).view(2, 32, 4, 4)
        assert torch.allclose(maps, in_maps, atol=1e-5)


def test_tokens_come_back_to_their_places_with_the_mask_token_between_them() -> None:
    """The decoder without its blocks: a linear layer of each token at its place."""
    network = built()
    network.decoder = torch.nn.Identity()
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(s)) for s in (2, 3)])
    h = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        filled = network.decode(h, order)
        for n in range(2):
            for patch in range(16):
                at = order[n].tolist().index(patch)
                token = network.narrowed(h[n, 1 + at]) if at < 4 else network.mask_token[0, 0]
                expected = network.drawn(network.norm(token + network.places[0, 1 + patch]))
                assert torch.allclose(filled[n, patch], expected, atol=1e-5)


def test_the_decoder_block_is_that_of_the_equation() -> None:
    block, y = built().decoder[0], torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        q, k, v = block.query_key_value(block.norm1(y))[0].split(16, 1)
        heads = []
        for part in (slice(0, 8), slice(8, 16)):
            scores = torch.tensor([[float(a @ b) / math.sqrt(8) for b in k[:, part]] for a in q[:, part]])
            heads.append(scores.softmax(1) @ v[:, part])
        middle = y[0] + block.joined(torch.cat(heads, 1))
        assert torch.allclose(block(y)[0], middle + block.mlp(block.norm2(middle)), atol=1e-5)


def test_three_of_four_patches_are_hidden_and_the_loss_is_of_them_alone() -> None:
    network, image = built(), photos(3)
    with torch.no_grad():
        torch.manual_seed(6)
        answers = network({"image": image})
        torch.manual_seed(6)
        loss = float(network.loss({"image": image}))
        assert answers["hidden"].sum(1).tolist() == [12] * 3
        target = normalised(network.cut(network.coloured(image)))
        errors = [
            float((answers["filled"][n, i] - target[n, i]).square().mean())
            for n in range(3)
            for i in range(16)
            if answers["hidden"][n, i]
        ]
        assert loss == pytest.approx(sum(errors) / 36, rel=1e-5)
        assert len({tuple(row) for row in answers["hidden"].tolist()}) == 3


def test_what_is_drawn_at_seen_patches_has_no_gradient() -> None:
    network, image = built(), photos(1)
    torch.manual_seed(7)
    answers = network({"image": image})
    filled, hidden = answers["filled"].detach().requires_grad_(), answers["hidden"]
    network.forward = lambda batch: {"filled": filled, "hidden": hidden}
    network.loss({"image": image}).backward()
    assert filled.grad is not None
    assert torch.equal(filled.grad[0].abs().sum(1) > 0, hidden[0])


def test_keeping_no_activations_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        network = built(checkpointing=checkpointing).train()
        torch.manual_seed(8)
        network.loss({"image": photos()}).backward()
        gradients.append(network.backbone.net.model.blocks[0].mlp.fc1.weight.grad)
    assert torch.allclose(*gradients, atol=1e-6)


def test_positions_rest() -> None:
    network = built()
    network.enter("all")
    vit = network.backbone.net.model
    assert not vit.pos_embed.requires_grad
    assert torch.equal(vit.pos_embed, positions(32, 4))


# ------------------------------------------------------------------------------------------------------ presets


@pytest.mark.parametrize("name", MAE.PRESETS)
def test_documentation_counts_the_parameters_of_each_preset(name: str) -> None:
    with torch.device("meta"):
        network: Any = MAE.build(model_config(MAE, {}, preset=name), Sizes(()))
        classifier: Any = VisionTransformer.build(model_config(VisionTransformer, {}, preset=name), Sizes(("a", "b")))
    whole, encoder = (f"{sum(p.numel() for p in m.parameters()):,}" for m in (network, network.backbone))
    (row,) = re.findall(rf"^    {name} .*$", text_of(MAE), flags=re.MULTILINE)
    assert row.split()[-2:] == [whole, encoder]
    assert f"{network.patches}, {network.visible} " in row
    assert sum(p.numel() for p in classifier.backbone.parameters()) == int(encoder.replace(",", ""))
    (row,) = re.findall(rf"^    {name} .*$", text_of(VisionTransformer), flags=re.MULTILINE)
    assert row.split()[-1] == encoder
    page = (DOCS / "pretraining.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{name}` \|.*$", page, flags=re.MULTILINE)
    assert encoder in row
    assert whole in row


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"hidden": 1.0}, "hidden = 1.0"),
        ({"decoder_width": 18}, "decoder_width = 18"),
        ({"decoder_heads": 3}, "decoder_heads = 3"),
        ({"backbone": "resnet18"}, "resnet18"),
        ({"backbone": "timm/vit_patch8_32x2x2"}, "vit_patch8_32x2x2"),
        ({"backbone": "timm/vit_patch8_30x4x4"}, "vit_patch8_30x4x4"),
        ({"backbone": "timm/vit_patch8_30x4x2"}, "vit_patch8_30x4x2"),
        ({"backbone": "timm/vit_patch32_32x4x2"}, "vit_patch32_32x4x2"),
        ({"side_px": 36}, "side_px = 36"),
        ({"recipe": {"beta2": 1.0}}, "beta2 = 1.0"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        built(**settings)
    assert found in error.value.found


# -------------------------------------------------------------------------------------------------- starting from it


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"backbone": "timm/vit_patch16_32x4x2"}, "patches of 16 px"),
        ({"side_px": 64}, "64 places, for photos of 64 px"),
    ],
)
@pytest.mark.parametrize("model", [MAE, VisionTransformer])
def test_other_patches_and_places_are_refused_in_a_sentence(model: Any, other: dict[str, Any], found: str) -> None:
    state = built(**other).backbone_state()
    settings = SMALL if model is MAE else OF_VIT
    network = model.build(configured(model, **settings), Sizes(("a", "b") if model is not MAE else ()))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError) as error:
        network.start(state, "ssl, fold_0")
    assert found in error.value.found
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_other_networks_of_a_vit_do_not_stretch_its_patches_either() -> None:
    concat = load_model("concat")
    network = concat.build(configured(concat, **OF_VIT), Sizes(("a", "b")))
    with pytest.raises(InputError) as error:
        network.start(built(backbone="timm/vit_patch16_32x4x2", side_px=64).backbone_state(), "ssl")
    assert "patch_embed.proj.weight" in error.value.found


def test_it_starts_from_public_weights_with_their_positions() -> None:
    import timm

    whole = timm.create_model("deit_tiny_patch16_224", img_size=32).state_dict()
    network = built(backbone="timm/deit_tiny_patch16_224")
    network.start(whole, "deit.pth")
    assert torch.equal(network.backbone.net.model.pos_embed, whole["pos_embed"])
    assert torch.equal(network.backbone.net.model.blocks[3].attn.qkv.weight, whole["blocks.3.attn.qkv.weight"])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = small_cohort.make(tmp_path_factory.mktemp("w"), folds=1, patients=24)
    written.run_stage(made, "split", name="all", over="all")
    return made


def texts(settings: dict[str, Any], *more: str) -> tuple[str, ...]:
    return (*(f"{name}={value}" for name, value in settings.items()), "recipe.batch=8", "recipe.epochs=1", *more)


def test_a_classifier_starts_from_it(workspace: Workspace) -> None:
    written.make(workspace, "train", name="ssl", model="mae", settings=texts(SMALL))
    ssl = written.model(workspace, "ssl")
    about = ssl.json("model.json")
    assert about["folds"][0]["starts_from"] == "random numbers"
    started = written.make(
        workspace,
        "train",
        name="tuned",
        model="vit",
        weights="model:ssl",
        settings=texts(OF_VIT, "recipe.learning_rate=1e-9"),
    )
    assert started.json("model.json")["weights"]["name"] == "model:ssl"
    mine = load_file(started.path / "fold_0" / NETWORK)
    for name, value in load_file(ssl.path / "fold_0" / BACKBONE).items():
        assert torch.allclose(mine[f"backbone.net.{name}"], value, atol=1e-6)
    for settings, found in (
        (texts(OF_VIT, "side_px=64"), "16 places"),
        (texts(OF_VIT, "backbone=timm/vit_patch4_32x4x2"), "vit_patch8_32x4x2"),
    ):
        with pytest.raises(InputError) as error:
            written.make(workspace, "train", name="other", model="vit", weights="model:ssl", settings=settings)
        assert found in error.value.found


def test_it_starts_from_weights_of_elsewhere(workspace: Workspace, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "vit.safetensors"
    save_file({name: value.contiguous() for name, value in built().backbone_state().items()}, file)
    further = written.make(workspace, "train", name="further", model="mae", weights=str(file), settings=texts(SMALL))
    assert "vit.safetensors" in further.json("model.json")["folds"][0]["starts_from"]
    with pytest.raises(InputError):
        written.make(
            workspace, "train", name="wrong", model="mae", weights=str(file), settings=texts({**SMALL, "side_px": 64})
        )
    assert not workspace.path(Ref("models", name="wrong")).exists()


def test_an_objective_that_it_cannot_answer_is_refused(workspace: Workspace) -> None:
    for objective in ("masked", "contrastive"):
        with pytest.raises(ConfigError) as error:
            written.make(workspace, "train", name="odd", model="mae", objective=objective, settings=texts(SMALL))
        assert objective in error.value.found
        assert "MAE" in error.value.found
