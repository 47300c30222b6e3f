"""Every registered model keeps the contract, and every check fails for the reason it names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from configured import configured

torch = pytest.importorskip("torch")

import little_network  # noqa: E402
import two_photos  # noqa: E402
from little_network import Config, Little, Outline  # noqa: E402
from narrow_backbone import Narrow, narrow_resnet50  # noqa: E402
from torch import nn  # noqa: E402
from torchvision.models.detection.backbone_utils import BackboneWithFPN  # noqa: E402

from skinkit import contract  # noqa: E402
from skinkit.errors import InputError  # noqa: E402
from skinkit.models import DrawingRule, Estimator, Labelled, Model, Network, load_model, registered  # noqa: E402
from skinkit.models.logistic import Regression  # noqa: E402
from skinkit.models.otsu import Otsu  # noqa: E402
from skinkit.models.parts import backbone  # noqa: E402
from skinkit.models.parts.protocol import Phase  # noqa: E402

SMALL: dict[str, dict[str, Any]] = {
    **{name: {"side_px": 32} for name in ("concat", "metablock", "metanet", "pundhir", "hybrid_resnet50")},
    **{name: {"side_px": 32} for name in ("derma_calibra", "derma_calibra_released")},
    "latent_diffusion": {
        "side_px": 32,
        "autoencoder": "none",
        "width": 32,
        "levels": "1-2a",
        "blocks": 1,
        "sampling_steps": 5,
    },
    "mae": {
        "backbone": "timm/vit_patch8_32x4x2",
        "side_px": 32,
        "decoder_width": 16,
        "decoder_depth": 1,
        "decoder_heads": 2,
    },
    "vit": {"backbone": "timm/deit_tiny_patch16_224", "side_px": 32},
    "mask_rcnn": {"side_px": 64, "rois": 4, "proposals": 20},
    "soft_attention": {"side_px": 64, "backbone": "resnet18"},  # of a single place attention learns nothing
    "soft_attention_crop": {"side_px": 96, "seen_px": 64, "backbone": "resnet18"},
    "dual_network": {"side_px": 32, "width": 32, "heads": 4, "token_width": 16},
    "deep_unet": {"side_px": 32, "encoder": "mobilenet_v2", "decoder": 16},
    "unet": {"side_px": 32, "encoder": "mobilenet_v2", "decoder": 16},
    "lightgbm": {"rounds": 20, "min_leaf": 2, "feature_fraction": 1.0, "l2": 0.0},
    "frozen_probe": {"c": 1.0},
    "ensemble": {"backbone": "resnet18", "side_px": 32},
}
"""Settings under which a model is small; of other networks the side alone is made small."""


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks are built on a backbone of some thousand parameters: the contract is about what stands around it."""
    monkeypatch.setattr(backbone, "_untrained", lambda *_: Narrow())
    layers = {f"layer{number}": str(number - 1) for number in range(1, 5)}
    monkeypatch.setattr(
        "skinkit.models.mask_rcnn.resnet_fpn_backbone",
        lambda **_: BackboneWithFPN(Narrow(), layers, [8, 16, 32, 64], out_channels=16),
    )
    with narrow_resnet50():
        yield


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", registered())
def test_every_model_keeps_the_contract(name: str) -> None:
    model = load_model(name)
    settings = SMALL.get(name, {"side_px": 64} if issubclass(model, Network) else {})
    contract.check_model(model, configured(model, **settings))


def test_a_preset_is_built_as_small_as_the_network_on_trial() -> None:
    sides = []

    def noting(self: Any, config: Config, sizes: Any) -> None:
        Little.__init__(self, config, sizes)
        sides.append(config.side_px)

    noted = changed(Little, __init__=noting)
    contract.check_model(noted, Config(side_px=4))
    assert set(sides) == {4}
    contract.check_model(noted)
    assert set(sides) == {4, 8, 16}


@pytest.mark.parametrize("model", [Little, Outline, Regression, Otsu])
def test_a_sound_model_passes(model: type[Model]) -> None:
    contract.check_model(model)


def changed(model: type[Any], **names: Any) -> type[Any]:
    """A model of the same file with some of its names replaced."""
    return type(model.__name__, (model,), {"__module__": model.__module__, **names})


def broken(**names: Any) -> type[Any]:
    """The little network with some of its names replaced."""
    return changed(Little, **names)


def without(name: str) -> type[Any]:
    """The little network, of whose class one name is missing."""
    names = {key: value for key, value in vars(Little).items() if key not in (name, "__dict__", "__weakref__")}
    return type("Little", Little.__bases__, names)


# ------------------------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (lambda text: text.replace("Departures", "Notes"), "no section Departures:"),
        (lambda text: text.replace("Idea", "X").replace("Shapes", "Idea").replace("X", "Shapes"), "order"),
        (lambda text: "", "one line"),
    ],
)
def test_the_docstring_of_the_file_is_checked(
    text: Callable[[str], str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(little_network, "__doc__", text(little_network.__doc__ or ""))
    with pytest.raises(AssertionError, match=sentence):
        contract.check_model(Little)


@dataclass
class Unfrozen:
    side_px: Annotated[int, "side, pixels"] = 8


@dataclass(frozen=True)
class Unexplained:
    side_px: int = 8


@dataclass(frozen=True)
class Silent:
    side_px: Annotated[int, " "] = 8


@dataclass(frozen=True)
class Sideless:
    width: Annotated[int, "width, pixels"] = 8


def test_a_module_is_no_model() -> None:
    with pytest.raises(AssertionError, match=r"little_network.*is no class"):
        contract.check_model(little_network)  # type: ignore[arg-type]


class Homeless:
    """Has all that a network has, and derives from no base."""

    __module__ = Little.__module__
    TASK, READS, CONFIG = Little.TASK, Little.READS, Little.CONFIG


# ----------------------------------------------------------------------------------------------------- networks


class Unseeded(Little):
    __module__ = Little.__module__

    def __init__(self, config: Config, sizes: Any) -> None:
        super().__init__(config, sizes)
        with torch.no_grad():
            self.output.bias += float(np.random.default_rng().normal())


class Whole(Little):
    """Keeps what it has learnt outside its state dict."""

    __module__ = Little.__module__

    def enter(self, phase: str) -> None:
        super().enter(phase)
        self.scale = 2.0

    def encode(self, batch: Any) -> Any:
        return super().encode(batch) * getattr(self, "scale", 1.0)


class Unused(Little):
    __module__ = Little.__module__

    def __init__(self, config: Config, sizes: Any) -> None:
        super().__init__(config, sizes)
        self.spare = nn.Linear(2, 2)


class Shared(Little):
    __module__ = Little.__module__

    def __init__(self, config: Config, sizes: Any) -> None:
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


def _attributes_in_encode(self: Any, batch: Any) -> Any:
    return Little.encode(self, batch) + batch["attributes"].mean(1, keepdim=True)


def _pictures_in_head(self: Any, seen: Any, batch: Any) -> Any:
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


def _with_typical(self: Any, config: Any, sizes: Any) -> None:
    Little.__init__(self, config, sizes)
    self.reference_embedding = torch.zeros(3)


def _with_other_last(self: Any, config: Any, sizes: Any) -> None:
    Little.__init__(self, config, sizes)
    vars(self)["last"] = nn.Conv2d(4, 6, 3, padding=1)  # a plain attribute: no module of the network


def _uncertain(self: Any, batch: Any) -> Any:
    answers = self(batch)
    return {**answers, "variance": answers["diagnosis"].square()}


def phases(*wrong: Phase) -> Callable[[Any], tuple[Phase, ...]]:
    return lambda _self: wrong


BROKEN: dict[str, tuple[Any, str]] = {
    "no task": (without("TASK"), "does not declare TASK"),
    "no inputs": (without("READS"), "does not declare READS"),
    "no settings": (without("CONFIG"), "does not declare CONFIG"),
    "no base": (Homeless, "derives from none of DrawingRule, Estimator, Generator and Network"),
    "unknown task": (broken(TASK="paint"), "TASK is not one of"),
    "no input": (broken(READS=()), "READS names no input"),
    "unknown radiomics": (broken(RADIOMICS="some"), "RADIOMICS is 'some'"),
    "unknown heatmap": (broken(HEATMAP="arrows"), "HEATMAP is 'arrows'"),
    "refits oddly": (broken(REFITS="never"), "REFITS is neither"),
    "refits": (broken(REFITS=True), "needs validation rows"),
    "settings of a class": (broken(CONFIG=dict), "CONFIG is no dataclass"),
    "settings that change": (broken(CONFIG=Unfrozen), "CONFIG is not frozen"),
    "settings without help": (broken(CONFIG=Unexplained), "cannot be shown"),
    "settings with empty help": (broken(CONFIG=Silent), "without a word of help: side_px"),
    "no side": (broken(CONFIG=Sideless, PRESETS={}), "no side_px"),
    "unknown input": (broken(READS=("image", "smell")), "smell, which nothing provides"),
    "undeclared input": (broken(READS=("image", "attributes")), "forward reads mask, which READS does not name"),
    "unread input": (broken(READS=(*Little.READS, "radiomics")), "radiomics, which its answer never"),
    "bad preset": (broken(PRESETS={"quick": {"sied_px": 8}}), "preset 'quick' is not valid"),
    "unknown weights": (broken(default_weights=classmethod(lambda *_: "mine")), "default_weights answers 'mine'"),
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
    "encode reads a table": (broken(encode=_attributes_in_encode), "belongs to head"),
    "head reads a picture": (broken(head=_pictures_in_head), "pictures belong to encode"),
    "another answer": (
        broken(answer=lambda self, batch: {"diagnosis": 2 * self(batch)["diagnosis"]}), "not what answer says"
    ),
    "takes any weights": (broken(start=_taking_all), "foreign weights without a word"),
    "refuses too late": (broken(start=_taking_then_refusing), "changed the network although it refused"),
    "refuses unclearly": (broken(start=_mumbling), "without naming their file"),
    "unseeded": (Unseeded, "different weights"),
    "unseeded loss": (
        broken(loss=lambda self, batch: Little.loss(self, batch) * np.random.default_rng().uniform(0.5, 1.5)),
        "torch's seed does not govern",
    ),
    "unused parameter": (Unused, "no finite gradient reaches spare.weight in phase 'image'"),
    "loss is no number": (
        broken(loss=lambda self, batch: Little.loss(self, batch)[None]), r"shape \(1,\), not one number"
    ),
    "loss rises": (
        broken(loss=lambda self, batch: _Rising.apply(Little.loss(self, batch))), "does not fall"
    ),
    "last elsewhere": (broken(__init__=_with_other_last), "the block of image is no module inside"),
    "reference_embedding of another shape": (broken(__init__=_with_typical), r"reference_embedding has shape \(3,\)"),
    "uncertainty of classes": (broken(answer=_uncertain), "a variance that is not one number"),
    "outline of numbers": (changed(Outline, mask_of=staticmethod(lambda p, config: p)), "not bool"),
    "outline of another size": (changed(Outline, mask_of=staticmethod(lambda p, config: p[1:] > 0.5)), "answers shape"),
    "outline of nothing": (changed(Outline, mask_of=staticmethod(lambda p, config: p > 2)), "find a clear disc"),
    "outline of everything": (changed(Outline, mask_of=staticmethod(lambda p, config: p >= 0)), "find"),
    "segmenter without masks": (changed(Outline, mask_of=vars(Network)["mask_of"]), "does not write mask_of"),
    "classifier without a loss": (broken(loss=Network.loss), "does not write loss"),
    "shared tensors": (Shared, "cannot be saved"),
    "hidden state": (Whole, "saved and read back it answers differently"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_check_of_a_network_fails_for_its_reason(name: str) -> None:
    model, sentence = BROKEN[name]
    with pytest.raises(AssertionError, match=sentence) as error:
        contract.check_model(model)
    assert str(error.value).startswith("little_network: ")


# ------------------------------------------------------------------------------------------------- further tasks


def several(**names: Any) -> type[Any]:
    """The network of two photos and several tasks with some of its names replaced."""
    return changed(two_photos.TwoPhotos, **names)


def _answer_with(change: Callable[[str, Any], dict[str, Any]]) -> Callable[[Any, Any], dict[str, Any]]:
    """Answers that are changed one by one."""
    return lambda self, batch: {
        key: value for name, logits in self(batch).items() for key, value in change(name, logits).items()
    }


def _loss_with(of_task: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The loss of the diagnosis and another one of the further tasks."""

    def loss(self: Any, batch: Any) -> Any:
        answers = self(batch)
        main = nn.functional.cross_entropy(answers["diagnosis"], batch["class"])
        return main + sum(of_task(answers[name], batch[f"class__{name}"]) for name in self.tasks)

    return loss


BROKEN_TASKS: dict[str, tuple[Any, str]] = {
    "unanswered": (
        several(answer=_answer_with(lambda name, logits: {} if name == "veil" else {name: logits})),
        "answers diagnosis, streaks and not diagnosis, veil, streaks alone",
    ),
    "other shape": (
        several(answer=_answer_with(lambda name, logits: {name: logits[:, :1] if name == "veil" else logits})),
        r"for the task veil shape \(3, 1\) instead of \(3, 2\)",
    ),
    "probabilities": (
        several(answer=_answer_with(lambda name, logits: {name: logits.softmax(1) if name == "veil" else logits})),
        "for the task veil probabilities, not logits",
    ),
    "always several": (
        several(answer=_answer_with(lambda name, logits: {name: logits, "veil": logits[:, :2]})),
        "and not diagnosis alone",
    ),
    "unread truth": (
        several(loss=lambda self, batch: self(batch)["diagnosis"].square().sum()),
        "never reads 'class', 'class__streaks', 'class__veil', the truth",
    ),
    "unknown as a class": (
        several(loss=_loss_with(lambda logits, truth: nn.functional.cross_entropy(logits, truth.clamp(min=0)))),
        "takes an unknown truth of the task veil for one of its classes",
    ),
    "mean over nothing": (
        several(loss=_loss_with(lambda logits, truth: nn.functional.cross_entropy(logits, truth, ignore_index=-1))),
        "not finite where no truth of the task veil is known",
    ),
    "neither": (several(TASKS="many"), "TASKS is neither true nor false"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_TASKS)
def test_each_check_of_further_tasks_fails_for_its_reason(name: str) -> None:
    model, sentence = BROKEN_TASKS[name]
    with pytest.raises(AssertionError, match=sentence):
        contract.check_model(model)


def _cross_entropy_of_masked(network: Any, batch: Any) -> Any:
    """Smoothed labels of classes whose logits are minus infinity."""
    logits, possible = network(batch)["diagnosis"], batch.get("possible")
    masked = logits if possible is None else logits.masked_fill(~possible, float("-inf"))
    return nn.functional.cross_entropy(masked, batch["class"], label_smoothing=0.1)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({"MASKS_CLASSES": "some"}, "MASKS_CLASSES is neither true nor false"),
        ({"MASKS_CLASSES": True}, "counts classes that a row's cohort cannot have"),
        (
            {"MASKS_CLASSES": True, "loss": _cross_entropy_of_masked},
            "not finite where a class is not possible",
        ),
    ],
)
def test_each_check_of_masked_classes_fails_for_its_reason(names: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        contract.check_model(broken(**names))


def test_only_classifiers_that_read_no_others_answers_answer_several_tasks() -> None:
    contract.check_model(changed(Regression, TASKS=True))
    for model in (changed(Regression, JOINS=True), Outline):
        with pytest.raises(AssertionError, match="only classifiers that read no other's answers"):
            contract.check_model(changed(model, TASKS=True))


# ---------------------------------------------------------------------------------------------------- estimators


def _fit_of_a_photo(cls: Any, config: Any, train: Labelled, validation: Labelled, **options: Any) -> Any:
    assert train.inputs["image"].size
    return Regression.fit.__func__(cls, config, train, validation, **options)  # type: ignore[attr-defined]


def _fit_at_random(cls: Any, config: Any, train: Labelled, validation: Labelled, **options: Any) -> Any:
    fitted = Regression.fit.__func__(cls, config, train, validation, **options)  # type: ignore[attr-defined]
    return replace(fitted, bias=fitted.bias + np.random.default_rng().normal(size=fitted.bias.shape))


def _fit_of_nothing(cls: Any, config: Any, train: Labelled, validation: Labelled, **options: Any) -> Any:
    fitted = Regression.fit.__func__(cls, config, train, validation, **options)  # type: ignore[attr-defined]
    return replace(fitted, weight=0 * fitted.weight, bias=0 * fitted.bias)


def _centred_scores(self: Any, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    scores = Regression.predict(self, batch)
    scores = scores - scores.mean(axis=0)
    return np.asarray(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))


def _one_class_more(self: Any, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    scores = Regression.predict(self, batch)
    return np.hstack([scores, scores[:, :1]])


def _half_contributions(self: Any, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values / 2 for name, values in Regression.contributions(self, batch).items()}


def _foreign_contributions(self: Any, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"image": np.zeros((1, 1, 1)), **Regression.contributions(self, batch)}


def _save_pickled(self: Any, folder: Path) -> None:
    Regression.save(self, folder)
    (folder / "model.pkl").write_bytes(b"")


def _load_shifted(cls: Any, folder: Path) -> Any:
    read = Regression.load(folder)
    return replace(read, bias=read.bias + np.array([1, 0, 0]))


BROKEN_ESTIMATORS: dict[str, tuple[dict[str, Any], str]] = {
    "log-odds": ({"predict": lambda self, batch: Regression.predict(self, batch) + 1}, "do not add up to 1"),
    "other shape": ({"predict": _one_class_more}, r"shape \(20, 4\) instead"),
    "statistics of the batch": ({"predict": _centred_scores}, "when others are beside it"),
    "undeclared input": ({"fit": classmethod(_fit_of_a_photo)}, "fit reads image, which READS does not name"),
    "unseeded": ({"fit": classmethod(_fit_at_random)}, "fitted twice with one seed"),
    "learns nothing": ({"fit": classmethod(_fit_of_nothing)}, "has not learnt"),
    "half contributions": ({"contributions": _half_contributions}, "do not add up to its scores"),
    "foreign contributions": ({"contributions": _foreign_contributions}, "contributions name image"),
    "pickled": ({"save": _save_pickled}, "saved as model.pkl"),
    "read back otherwise": ({"load": classmethod(_load_shifted)}, "saved and read back it answers differently"),
    "never saved": ({"save": Estimator.save}, "does not write save"),
    "unknown input": ({"READS": ("attributes", "smell")}, "smell, which nothing provides"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_ESTIMATORS)
def test_each_check_of_an_estimator_fails_for_its_reason(name: str) -> None:
    names, sentence = BROKEN_ESTIMATORS[name]
    with pytest.raises(AssertionError, match=sentence) as error:
        contract.check_model(changed(Regression, **names), Regression.CONFIG(c=0.1))
    assert str(error.value).startswith("logistic: ")


# --------------------------------------------------------------------------------------------------------- rules


def _writing(rgb: np.ndarray, config: Any) -> np.ndarray:
    mask = Otsu.draw(rgb, config)
    rgb[:] = 0
    return mask


def _guessing(rgb: np.ndarray, config: Any) -> np.ndarray:
    return np.random.default_rng().random(rgb.shape[:2]) > 0.5


BROKEN_RULES: dict[str, tuple[dict[str, Any], str]] = {
    "everything": ({"draw": staticmethod(lambda rgb, config: np.ones(rgb.shape[:2], bool))}, "dark disc"),
    "grey": ({"draw": staticmethod(lambda rgb, config: rgb[..., 0])}, "not bool"),
    "other size": ({"draw": staticmethod(lambda rgb, config: Otsu.draw(rgb, config)[1:])}, "for a photo of"),
    "writes": ({"draw": staticmethod(_writing)}, "writes into the photo"),
    "guesses": ({"draw": staticmethod(_guessing)}, "differently twice"),
    "classifies": ({"TASK": "classify"}, "can only segment"),
    "hands on whose": ({"READS": ("truth_mask",)}, "CONFIG has no masks"),
    "draws nothing": ({"draw": vars(DrawingRule)["draw"]}, "does not write draw"),
}


@pytest.mark.parametrize("name", BROKEN_RULES)
def test_each_check_of_a_rule_fails_for_its_reason(name: str) -> None:
    names, sentence = BROKEN_RULES[name]
    with pytest.raises(AssertionError, match=sentence) as error:
        contract.check_model(changed(Otsu, **names))
    assert str(error.value).startswith("otsu: ")


def test_the_network_of_the_documentation_is_the_one_that_is_tested() -> None:
    page = (Path(__file__).parent.parent / "docs" / "adding-a-model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert Path(two_photos.__file__).read_text(encoding="utf-8") == blocks[0]
