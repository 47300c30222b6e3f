"""Every registered model keeps the contract, and every check fails for the reason it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from skinkit import contract  # noqa: E402
from skinkit.errors import InputError  # noqa: E402
from skinkit.models import load_model, registered  # noqa: E402
from skinkit.models.parts import backbone  # noqa: E402
from skinkit.models.parts.protocol import Phase  # noqa: E402

SMALL: dict[str, dict[str, Any]] = {
    **{name: {"side_px": 32} for name in ("concat", "metablock", "metanet", "pundhir", "hybrid_resnet50")},
    **{name: {"side_px": 32} for name in ("derma_calibra", "derma_calibra_released")},
    "unet": {"side_px": 64, "encoder": "mobilenet_v2", "decoder": 16},
    "lightgbm": {"rounds": 20, "min_leaf": 2, "feature_fraction": 1.0, "l2": 0.0},
    "frozen_probe": {"c": 1.0},
}
"""Settings under which a model is small; of other networks the side alone is made small."""


SLOW = {"mask_rcnn"}
"""Half a minute on one core."""


class Narrow(nn.Module):
    """A ResNet in its names and its resolutions, with one layer a stage."""

    def __init__(self, widths: tuple[int, ...] = (8, 16, 32, 64), stem: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for number, (narrower, width) in enumerate(pairwise((stem, *widths)), start=1):
            stage = nn.Sequential(
                nn.Conv2d(narrower, width, 1, 1 if number == 1 else 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            self.add_module(f"layer{number}", stage)
        self.fc: nn.Module = nn.Identity()

    def forward(self, x: Any) -> Any:
        for name, module in self.named_children():
            x = module(x.mean((2, 3)) if name == "fc" else x)
        return x


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are built on a backbone of some thousand parameters: the contract is about what stands around it."""
    monkeypatch.setattr(backbone, "_untrained", lambda *_: Narrow())
    monkeypatch.setattr("torchvision.models.resnet50", lambda: Narrow((8, 16, 32, 2048), stem=64))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in registered()])
def test_every_model_keeps_the_contract(name: str) -> None:
    module = load_model(name)
    settings = SMALL.get(name, {"side_px": 64} if hasattr(module, "build") else {})
    contract.check_model(module, module.Config(**settings))


def test_a_preset_is_built_as_small_as_the_network_on_trial() -> None:
    sides = []

    class Noting(Little):
        def __init__(self, config: Settings, sizes: Any) -> None:
            super().__init__(config, sizes)
            sides.append(config.side_px)

    contract.check_model(little(Noting), Settings(side_px=4))
    assert set(sides) == {4}
    contract.check_model(little(Noting))
    assert set(sides) == {4, 8, 16}


# ------------------------------------------------------------------------------------------ a little sound network

DOC = """A little network.

Paper:
    None.
Idea:
    One convolution and one layer.
Equations:
    (1) z = W [GAP(conv(x)); q] + b
Shapes:
    image (n, 3, S, S), mask (n, S, S), attributes (n, a) -> (n, K)
Departures:
    None.
"""


@dataclass(frozen=True)
class Settings:
    """Options of the little networks."""

    side_px: Annotated[int, "side, pixels"] = 8


class Little(nn.Module):
    """Sound; what follows breaks one thing each."""

    def __init__(self, config: Settings, sizes: Any) -> None:
        super().__init__()
        self.config = config
        self.last = nn.Conv2d(4, 6, 3, padding=1)
        self.output = nn.Linear(6 + sizes.columns["attributes"], len(sizes.answers))
        self.register_buffer("typical", torch.zeros(6))

    def start(self, state: Any, source: str) -> str:
        if "last.weight" not in state:
            raise InputError(f"{source} has no 'last.weight'", "weights of a little network", "give others")
        return "nothing"

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("image", 1, rates={"output.": 1e-2}), Phase("all", 2))

    def enter(self, phase: str) -> None:
        self.last.requires_grad_(phase == "all")

    def loss(self, batch: Any) -> Any:
        return nn.functional.cross_entropy(self(batch)["diagnosis"], batch["class"])

    def encode(self, batch: Any) -> Any:
        return torch.relu(self.last(torch.cat([batch["image"], batch["mask"][:, None]], 1))).mean((2, 3))

    def head(self, seen: Any, batch: Any) -> Any:
        return {"diagnosis": self.output(torch.cat([seen, batch["attributes"]], 1))}

    def forward(self, batch: Any) -> Any:
        return self.head(self.encode(batch), batch)

    def answer(self, batch: Any) -> Any:
        return self(batch)


def little(network: type[nn.Module] = Little, **replaced: Any) -> ModuleType:
    """A model's module around a network, with some of its names replaced."""
    module = ModuleType("models.little", DOC)
    values = {
        "TASK": "classify", "READS": ("image", "mask", "attributes"), "RADIOMICS": "none", "REFITS": False,
        "HEATMAP": "gradcam", "Config": Settings, "PRESETS": {"quick": {"side_px": 16}},
        "default_weights": lambda config: "resnet50", "build": network,
    }  # fmt: skip
    module.__dict__.update(values | replaced)
    return module


def broken(**methods: Any) -> ModuleType:
    """A module around a network with some of its methods replaced."""
    return little(type("Broken", (Little,), methods))


def test_a_sound_network_passes() -> None:
    contract.check_model(little())


# ---------------------------------------------------------------------------------------------- one thing broken each


class Unseeded(Little):
    def __init__(self, config: Settings, sizes: Any) -> None:
        super().__init__(config, sizes)
        with torch.no_grad():
            self.output.bias += float(np.random.default_rng().normal())


class Whole(Little):
    """Keeps what it has learnt outside its state dict."""

    def enter(self, phase: str) -> None:
        super().enter(phase)
        self.scale = 2.0

    def encode(self, batch: Any) -> Any:
        return super().encode(batch) * getattr(self, "scale", 1.0)


class Unused(Little):
    def __init__(self, config: Settings, sizes: Any) -> None:
        super().__init__(config, sizes)
        self.spare = nn.Linear(2, 2)


class Shared(Little):
    def __init__(self, config: Settings, sizes: Any) -> None:
        super().__init__(config, sizes)
        self.twin = self.output


def _centred(self: Any, batch: Any) -> Any:
    z = Little.forward(self, batch)["diagnosis"]
    return {"diagnosis": z - 2 * z.mean(0)}


def _taking_all(self: Any, state: Any, source: str) -> str:
    return "taken"


def _taking_then_refusing(self: Any, state: Any, source: str) -> str:
    with torch.no_grad():
        self.output.bias += 1
    raise InputError(f"{source} does not fit", "others", "give others")


def _mumbling(self: Any, state: Any, source: str) -> str:
    raise InputError("weights do not fit", "others", "")


def _piling(self: Any, phase: str) -> None:
    with torch.no_grad():
        self.output.bias += 1


def _peeping(self: Any, batch: Any) -> Any:
    seen = Little.forward(self, batch)["diagnosis"]
    return {"diagnosis": seen + nn.functional.one_hot(batch["class"], 3)}


def _seeing_attributes(self: Any, batch: Any) -> Any:
    return Little.encode(self, batch) + batch["attributes"].mean(1, keepdim=True)


def _judging_pictures(self: Any, seen: Any, batch: Any) -> Any:
    return Little.head(self, seen + batch["image"].mean((1, 2, 3))[:, None], batch)


def _rising(self: Any, batch: Any) -> Any:
    return -Little.loss(self, batch).detach() + 0 * Little.loss(self, batch)


class _Rising(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return -gradient


def phases(*wrong: Phase) -> Callable[[Any], tuple[Phase, ...]]:
    return lambda _self: wrong


BROKEN: dict[str, tuple[ModuleType, str]] = {
    "no departures": (little(__doc__=DOC.replace("Departures", "Notes")), "no section Departures:"),
    "wrong order": (little(__doc__=DOC.replace("Idea", "X").replace("Shapes", "Idea").replace("X", "Shapes")), "order"),
    "no first line": (little(__doc__=""), "one line"),
    "unknown input": (little(READS=("image", "smell")), "smell, which nothing provides"),
    "undeclared input": (little(READS=("image", "attributes")), "forward reads mask, which READS does not name"),
    "unread input": (little(READS=("image", "mask", "attributes", "radiomics")), "radiomics, which its answer never"),
    "bad preset": (little(PRESETS={"quick": {"sied_px": 8}}), "preset 'quick' is not valid"),
    "unknown weights": (little(default_weights=lambda config: "mine"), "default_weights answers 'mine'"),
    "no phase": (broken(phases=phases()), "no phase"),
    "twin phases": (broken(phases=phases(Phase("all", 1), Phase("all", 1))), "two phases"),
    "no epochs": (broken(phases=phases(Phase("all", 0))), "impossible value of epochs"),
    "optimiser": (broken(phases=phases(Phase("all", 1, optimiser="lion"))), "optimiser 'lion'"),
    "schedule": (broken(phases=phases(Phase("all", 1, schedule="linear"))), "schedule 'linear'"),
    "rate of nothing": (broken(phases=phases(Phase("all", 1, rates={"head.": 1.0}))), "head., which begins no"),
    "final rate": (broken(phases=phases(Phase("all", 1, final_rate=1.0))), "ends at a higher"),
    "all frozen": (broken(enter=lambda self, phase: self.requires_grad_(False)), "trains no parameter"),
    "enter piles up": (broken(enter=_piling), "twice is not the same as once"),
    "the truth": (broken(forward=_peeping), "forward reads 'class', the truth"),
    "no truth": (broken(loss=lambda self, batch: self(batch)["diagnosis"].square().sum()), "never reads 'class'"),
    "other name": (
        broken(answer=lambda self, batch: {"answer": self(batch)["diagnosis"]}), "answers answer and not diagnosis"
    ),
    "other shape": (
        broken(answer=lambda self, batch: {"diagnosis": self(batch)["diagnosis"][:, :2]}), r"shape \(3, 2\) instead"
    ),
    "probabilities": (
        broken(answer=lambda self, batch: {"diagnosis": self(batch)["diagnosis"].softmax(1)}), "not logits"
    ),
    "not finite": (broken(answer=lambda self, batch: {"diagnosis": self(batch)["diagnosis"] / 0}), "finite numbers"),
    "batch statistics": (broken(forward=_centred), "when others are in its batch"),
    "encode reads a table": (broken(encode=_seeing_attributes), "belongs to head"),
    "head reads a picture": (broken(head=_judging_pictures), "pictures belong to encode"),
    "another answer": (
        broken(answer=lambda self, batch: {"diagnosis": 2 * self(batch)["diagnosis"]}), "not what answer says"
    ),
    "takes any weights": (broken(start=_taking_all), "foreign weights without a word"),
    "refuses too late": (broken(start=_taking_then_refusing), "changed the network although it refused"),
    "refuses unclearly": (broken(start=_mumbling), "without naming their file"),
    "unseeded": (little(Unseeded), "different weights"),
    "unseeded loss": (
        broken(loss=lambda self, batch: Little.loss(self, batch) * np.random.default_rng().uniform(0.5, 1.5)),
        "torch's seed does not govern",
    ),
    "unused parameter": (little(Unused), "no finite gradient reaches spare.weight in phase 'image'"),
    "loss is no number": (
        broken(loss=lambda self, batch: Little.loss(self, batch)[None]), r"shape \(1,\), not one number"
    ),
    "loss rises": (
        broken(loss=lambda self, batch: _Rising.apply(Little.loss(self, batch))), "does not fall"
    ),
    "shared tensors": (little(Shared), "cannot be saved"),
    "hidden state": (little(Whole), "saved and read back it answers differently"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_check_fails_for_its_reason(name: str) -> None:
    module, sentence = BROKEN[name]
    with pytest.raises(AssertionError, match=sentence) as error:
        contract.check_model(module)
    assert str(error.value).startswith(("little: ", "models.little: "))


def test_broken_rules_and_estimators_fail_too() -> None:
    from skinkit.models import lightgbm, otsu

    def rule(draw: Any) -> ModuleType:
        return _copy(otsu, draw=draw)

    whole = rule(lambda rgb, config: np.ones(rgb.shape[:2], bool))
    grey = rule(lambda rgb, config: rgb[..., 0])
    for module, sentence in ((whole, "dark disc"), (grey, "not bool")):
        with pytest.raises(AssertionError, match=sentence):
            contract.check_model(module)
    small = lightgbm.Config(**SMALL["lightgbm"])

    def fit(*given: Any) -> Any:
        return _Shifted(lightgbm.fit(*given))

    with pytest.raises(AssertionError, match="do not add up to 1"):
        contract.check_model(_copy(lightgbm, fit=fit), small)
    with pytest.raises(AssertionError, match="radiomics, which READS does not name"):
        contract.check_model(_copy(lightgbm, READS=("attributes",)), small)
    assert replace(small, rounds=1).rounds == 1


class _Shifted:
    def __init__(self, fitted: Any) -> None:
        self.fitted = fitted

    def predict(self, batch: Any) -> Any:
        return self.fitted.predict(batch) + 1


def _copy(module: ModuleType, **replaced: Any) -> ModuleType:
    copied = ModuleType(module.__name__, module.__doc__)
    copied.__dict__.update({**module.__dict__, **replaced})
    return copied
