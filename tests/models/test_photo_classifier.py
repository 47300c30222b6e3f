"""The scaffold of networks that read photo and attributes: stages, weights, hidden attributes, and the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pandas as pd
import pytest
from configured import configured

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torchvision import models as torchvision_models  # noqa: E402

from skinkit.contract import check_model  # noqa: E402
from skinkit.errors import ConfigError, InputError  # noqa: E402
from skinkit.learning.schedule import optimiser_of  # noqa: E402
from skinkit.models.parts.backbone import Backbone, Maps  # noqa: E402
from skinkit.models.parts.class_weights import class_weights  # noqa: E402
from skinkit.models.parts.photo_classifier import PhotoClassifier, PhotoConfig  # noqa: E402
from skinkit.models.parts.protocol import Presets, Sizes  # noqa: E402
from skinkit.stats.encoders import PATIENT_ATTRIBUTES, Encoder  # noqa: E402

DOC = """One line.

Paper:
Idea:
Equations:
Shapes:
Departures:
"""
SIZES = Sizes(("A", "B", "C"), {"attributes": 3}, (6, 3, 1), ("age_years", "smoke", "itch"), unknown=(0.0, -2.0, -3.0))


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options."""

    backbone: Annotated[str, "network"] = "resnet18"
    side_px: Annotated[int, "side"] = 32
    stages: Annotated[bool, "whether all stages are read"] = False


class Concat(PhotoClassifier):
    TASK = "classify"
    READS = ("image", "attributes")
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {"fast": {"recipe": {"head_learning_rate": 1e-2}}}

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = sum(self.backbone.widths[0 if config.stages else -1 :]) + self.columns
        self.output = nn.Linear(width, len(sizes.answers))

    def keep(self, maps: Maps) -> Maps:
        return maps if self.config.stages else super().keep(maps)

    def head(self, seen: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        pooled = [part.mean((2, 3)) for part in self.unpacked(seen)]
        return {"diagnosis": self.output(torch.cat([*pooled, self.attributes(batch)], 1))}


def network(**settings: Any) -> Concat:
    torch.manual_seed(0)
    return Concat(configured(Concat, **settings), SIZES)


def batch(n: int = 2, side: int = 32) -> dict[str, Any]:
    torch.manual_seed(1)
    return {"image": torch.rand(n, 3, side, side), "attributes": torch.randn(n, 3), "class": torch.arange(n) % 3}


@pytest.mark.parametrize("settings", [{}, {"stages": True, "mirrored": True, "dropped": 0.2, "dropped_block": 0.3}])
def test_a_network_of_ten_lines_keeps_the_contract(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "__doc__", DOC)  # a model's own file begins so
    check_model(Concat, configured(Concat, **settings))


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("resnet18", (64, 128, 256, 512)),
        ("mobilenet_v2", (24, 32, 96, 1280)),
        ("mobilenet_v3_small", (16, 24, 48, 576)),
        ("efficientnet_b0", (24, 40, 112, 1280)),
        ("densenet121", (256, 512, 1024, 1024)),
    ],
)
def test_stages_of_a_backbone_end_with_its_own_features(name: str, widths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name).eval()
    assert backbone.widths == widths
    image = batch(1, 64)["image"]
    with torch.no_grad():
        maps = backbone(image)
        assert [m.shape[1:] for m in maps] == [(w, s, s) for w, s in zip(widths, (16, 8, 4, 2), strict=True)]
        # Without its classes torchvision's own forward ends with the mean over the last maps.
        own = backbone.net((image - backbone.mean) / backbone.sd)
    torch.testing.assert_close(maps[-1].mean((2, 3)), own.flatten(1), rtol=1e-4, atol=1e-4)


def test_public_weights_fit_and_others_are_refused() -> None:
    torch.manual_seed(1)
    state = torchvision_models.resnet18().state_dict()
    backbone = Backbone("resnet18")
    assert "training starts from corrupted weights" in backbone.start(state, "w.pth")
    sound = {name: value + 0.1 if name.endswith("running_mean") else value for name, value in state.items()}
    assert backbone.start(sound, "w.pth") == "resnet18 of w.pth, its classes left out"
    torch.testing.assert_close(backbone.net.get_submodule("layer1.0.conv1").weight, state["layer1.0.conv1.weight"])
    with pytest.raises(InputError) as error:
        backbone.start({name: value for name, value in state.items() if "layer3" not in name}, "w.pth")
    assert "w.pth" in error.value.found
    assert "resnet18" in error.value.found


def test_the_old_names_of_densenets_are_read() -> None:
    old = {
        name.replace("norm1", "norm.1").replace("conv2", "conv.2") if "denselayer" in name else name: value
        for name, value in torchvision_models.densenet121().state_dict().items()
    }
    assert any("norm.1" in name for name in old)
    assert "densenet121 of w.pth" in Backbone("densenet121").start(old, "w.pth")


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(ConfigError, match="resnet51"):
        Backbone("resnet51")


@pytest.mark.parametrize("wrong", [{"side_px": 16}, {"epochs": 0}, {"batch": 1}, {"dropped": 1.0}])
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        network(**wrong)


def test_hidden_attributes_look_as_the_encoder_writes_what_is_unknown() -> None:
    frame = pd.DataFrame({"age_years": [30.0, 60.0, None], "smoke": ["False", "True", "True"]})
    encoder = Encoder.fit("pad81", frame)
    columns = len(encoder.columns)
    sizes = Sizes(("A", "B"), {"attributes": columns}, (1, 1), encoder.attributes, encoder.unknown)
    values = torch.from_numpy(encoder.encode(frame)).float()[:1].repeat(400, 1)
    unknown = torch.from_numpy(encoder.encode(pd.DataFrame({"age_years": [None]}))).float()[0]
    assert float(unknown.abs().max()) > 0  # so that zeros would be something else
    torch.manual_seed(0)
    whole = Concat(configured(Concat, dropped=0.25), sizes).train().attributes({"attributes": values})
    hidden = (whole == unknown).all(1)
    assert 0.15 < float(hidden.float().mean()) < 0.35
    torch.testing.assert_close(whole[~hidden], values[~hidden])
    part = Concat(configured(Concat, dropped_block=0.25), sizes).train().attributes({"attributes": values})
    block = torch.tensor([name in PATIENT_ATTRIBUTES for name in encoder.attributes])
    assert int(block.sum()) == 81 - 1 - 14 - 18  # without age, region and the six symptoms
    torch.testing.assert_close(part[:, ~block], values[:, ~block])
    hidden = (part[:, block] == unknown[block]).all(1)
    assert 0.15 < float(hidden.float().mean()) < 0.35
    torch.testing.assert_close(
        Concat(configured(Concat, dropped=0.25), sizes).eval().attributes({"attributes": values}), values
    )


def test_a_loaded_network_knows_what_unknown_looks_like() -> None:
    trained = network(dropped=0.5)
    fresh = Concat(configured(Concat, dropped=0.5), Sizes(SIZES.answers, SIZES.columns))
    fresh.load_state_dict(trained.state_dict())
    assert fresh.unknown.tolist() == [0.0, -2.0, -3.0]
    assert fresh.in_block.tolist() == [False, True, False]


def test_the_mirrored_look_is_the_same_for_a_mirrored_photo() -> None:
    net = network(mirrored=True, side_px=64).eval()
    given = batch(side=64)
    with torch.no_grad():
        maps, mirrored = net.encode(given), net.encode({**given, "image": given["image"].flip(3)})
        torch.testing.assert_close(maps, mirrored.flip(3), rtol=1e-4, atol=1e-5)
        assert (maps - network(side_px=64).eval().encode(given)).abs().max() > 1e-3


def test_several_stages_are_packed_and_unpacked() -> None:
    net = network(stages=True).eval()
    with torch.no_grad():
        seen = net.encode(batch())
        for part, whole in zip(net.unpacked(seen), net.backbone(batch()["image"]), strict=True):
            torch.testing.assert_close(part, whole)
    assert net.reference_embedding.shape == seen.shape[1:]


def test_typical_is_the_mean_of_what_training_saw() -> None:
    net = network().train()
    with torch.no_grad():
        first, second = net.seen(batch()), net.seen(batch(4))
    torch.testing.assert_close(net.reference_embedding, (first.mean(0) + second.mean(0)) / 2, rtol=1e-4, atol=1e-5)


def test_phases_and_class_weights() -> None:
    (phase,) = network(head_learning_rate=0.1, learning_rate=0.01, epochs=3).phases()
    assert (phase.epochs, phase.learning_rate, phase.rates) == (3, 0.1, {"backbone.": 0.01})
    (phase,) = network(learning_rate=0.01).phases()
    assert (phase.learning_rate, phase.rates) == (0.01, {})
    torch.testing.assert_close(class_weights("inverse", SIZES), torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    torch.testing.assert_close(class_weights("square_root", SIZES) ** 2, class_weights("inverse", SIZES))
    assert class_weights("none", SIZES).tolist() == [1, 1, 1]


def test_the_backbone_rests_while_the_head_learns() -> None:
    net = network(head_epochs=2, epochs=3, head_learning_rate=0.1, averaged=0.5)
    head, whole = net.phases()
    assert (head.name, head.epochs, head.averaged, whole.averaged) == ("head", 2, 0, 0.5)
    before = {name: value.clone() for name, value in net.backbone.state_dict().items()}
    for phase, moved in ((head, False), (whole, True)):
        net.enter(phase.name)
        optimiser = optimiser_of(net, phase)
        net.train()
        net.loss({**batch(4), "class": torch.tensor([0, 1, 2, 0])}).backward()
        optimiser.step()
        state = net.backbone.state_dict()
        assert (not torch.equal(state["net.conv1.weight"], before["net.conv1.weight"])) is moved
        assert (not torch.equal(state["net.bn1.running_mean"], before["net.bn1.running_mean"])) is moved


def test_the_lowest_stages_may_rest_throughout() -> None:
    net = network(head_epochs=1, frozen_stages=2)
    for phase, deeper in zip(net.phases(), (False, True), strict=True):
        net.enter(phase.name)
        trained = {name for name, parameter in net.backbone.net.named_parameters() if parameter.requires_grad}
        assert {name.partition(".")[0] for name in trained} == ({"layer3", "layer4"} if deeper else set())
    before = net.backbone.net.bn1.running_mean.clone()
    net.train()
    net.loss({**batch(4), "class": torch.tensor([0, 1, 2, 0])}).backward()
    assert net.backbone.net.layer2[0].conv1.weight.grad is None
    assert net.backbone.net.layer3[0].conv1.weight.grad is not None
    assert not torch.equal(net.backbone.net.bn1.running_mean, before)
    with pytest.raises(ConfigError, match="frozen_stages = 5"):
        network(frozen_stages=5)


def test_resting_stages_may_keep_their_statistics_too() -> None:
    net = network(frozen_stages=2, frozen_statistics=True)
    net.enter("all")
    before = {name: value.clone() for name, value in net.backbone.net.state_dict().items() if "running" in name}
    net.train()
    net.loss({**batch(4), "class": torch.tensor([0, 1, 2, 0])})
    after = net.backbone.net.state_dict()
    moved = {name.partition(".")[0] for name, value in before.items() if not torch.equal(after[name], value)}
    assert moved == {"layer3", "layer4"}
    assert not net.eval().backbone.training


def test_a_snapshot_by_hand() -> None:
    """Of two classes the log odds are linear in the attributes: |weights times input|, summed over an attribute."""
    torch.manual_seed(0)
    sizes = Sizes(("A", "B"), {"attributes": 3}, (1, 1), ("age_years", "smoke", "smoke"))
    net = Concat(Config(), sizes).eval()
    given = {**batch(4), "class": torch.tensor([1, 1, 0, 1])}
    halves = [{name: values[part] for name, values in given.items()} for part in (slice(2), slice(2, 4))]
    told = net.snapshot(halves)
    weights = (net.output.weight[0] - net.output.weight[1])[-3:].detach()
    products = weights * given["attributes"]
    assert told["importance"]["age_years"] == pytest.approx(float(products[:, 0].abs().mean()), rel=1e-4)
    assert told["importance"]["smoke"] == pytest.approx(float(products[:, 1:].sum(1).abs().mean()), rel=1e-4)
    assert [(case["index"], case["class"]) for case in told["cases"]] == [(2, "A"), (0, "B")]
    for case in told["cases"]:
        heat = torch.tensor(case["heat"])
        assert heat.shape == (32, 32)
        assert (int(heat.min()), int(heat.max())) == (0, 255)
    assert told["factors"] == {}


@pytest.mark.parametrize("settings", [{}, {"mirrored": True}, {"turned": True}, {"mirrored": True, "turned": True}])
def test_maps_of_turned_and_mirrored_photos_are_laid_on_one_another(
    settings: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Concat(configured(Concat, **settings), SIZES).eval()
    photos = batch(3, 32)
    looked: list[torch.Tensor] = []
    monkeypatch.setattr(network, "feature_maps", lambda pictures: looked.append(pictures) or (pictures,))
    torch.testing.assert_close(network.encode(photos), photos["image"])
    versions = looked[0].split(3)
    assert len(versions) == 2 ** (2 * settings.get("turned", False) + settings.get("mirrored", False))
    assert all(not torch.equal(a, b) for i, a in enumerate(versions) for b in versions[:i])
