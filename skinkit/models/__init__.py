"""The registry of models: one paper = one file of this folder. Adding a model adds its file and nothing else.

Third parties register theirs by an entry point of the group ``skinkit.models`` that points to such a module.

Every model's docstring has the sections Paper, Idea, Equations, Shapes and Departures. Its module has ``TASK``
(``segment`` or ``classify``), ``READS`` (named inputs) and a frozen ``Config``. ``skinkit.contract.check_model`` holds
every model to what follows; others can import it.

**Segmenters** have ``draw(rgb, config) -> mask``.

**Estimators** (classifiers fitted at once, such as ``lightgbm``) have

    RADIOMICS   the radiomic features they read unless told otherwise: none, signature or all
    REFITS      whether, after calibrating, they may be fitted once more on training and validation rows
    HEATMAP     how a case is explained unless told otherwise: gradcam or occlusion_of_mask
    BALANCED    whether their loss lets all classes count alike, whatever their numbers
    fit         (config, train, train_labels, validation, validation_labels, n_classes, seed) -> Fitted
    load        folder -> Fitted

and, where they read ``image`` through a network that is not trained,

    default_weights   config -> name of public weights (``skinkit.weights``)
    embedder          (config, state dict) -> Embedder, the network; it runs once per image, whatever the fold
    embedding_key     config -> what decides its result, beside the weights
    explained         (embedder, fitted, offsets, temperatures, positive) -> (module, layer) for Grad-CAM

A fitted estimator may have ``features``, batch -> (n, width): what its last, linear step reads, for maps of its cases.

A batch of an estimator is a mapping of names to arrays whose rows are cases: ``attributes`` (n, columns) and
``radiomics`` (n, features), both standardised by the fold's own scalers, and ``image`` (n, width), the embedder's
answer. That of the training rows also has ``block_hidden`` and ``all_hidden`` (n, columns), the attributes as they are
written where the patient block, or everything, is unknown, for those that are to learn to do without.

**Networks** (segmenters and classifiers trained step by step by ``skinkit.fit``) have ``side_px`` in ``Config``, and

    PRESETS          settings by the name of a preset
    default_weights  config -> name of public weights they may start from (``skinkit.weights``)
    build            (config, sizes) -> Network
    mask_of          segmenters: (probability (H, W), config) -> bool (H, W)
    RADIOMICS        classifiers: as above
    HEATMAP          classifiers: gradcam or, where they read attributes, gfa

A network that classifies takes its answer apart, so that it can be explained (``skinkit.attribution``):

    look      batch -> (n, ...) what ``answer`` makes of the pictures; reads no table
    judge     (that, batch) -> answers; reads no picture. ``judge(look(batch), batch)`` is ``answer(batch)``
    typical   what ``look`` says of the mean training photo, in the place of a photo that is left out
    last      the block whose maps (n, channels, h, w), or (2 n, ...) with the mirrored photos last, Grad-CAM shows

One whose phases ask for snapshots (``Phase.snapshot_every``) also has

    snapshot    batches of validation rows -> what is to be kept of this stage of training, as plain values; entries of
                its list ``cases``, if it has one, name their case by ``index``, its place among these rows

One that works something out of the tables before it is trained has

    prepare     (name -> (n, columns), (n,) class indices, both of the training rows) -> None

One that looks at photos with a part that is not trained may leave that part to be run once per photo. Its answers,
``still``, are given to ``prepare`` among the tables; while it is trained, batches hold them too, under that name, and
``look`` needs not work them out again:

    still     None, or a module with ``answer``: batch of pictures -> ``still``, (n, width) float32

One whose loss does not let every case count alike says for which mix of classes its probabilities hold:

    supposed    (classes,) shares, as a property

One with ``epochs`` and ``final_epochs`` in ``Config`` is trained a second time, for so many epochs and on all rows,
where the split has one fold and ``final_epochs`` is not 0; that one answers for cohorts it was not trained on.

A batch of a network is a mapping of names to tensors: ``image`` float32 (n, 3, side, side), 0 to 1; ``mask`` float32
(n, side, side), 1 where the lesion is; ``attributes`` and ``radiomics`` as above; and for its loss ``class`` int64 (n,)
or ``truth_mask`` float32 (n, side, side), 0 to 1. ``READS`` says which of them it is given. It answers ``diagnosis``
(n, classes) or ``lesion`` (n, side, side), both logits. One that knows how sure it is may answer figures of
:data:`UNCERTAINTIES` beside its diagnosis, (n,) each, at least 0.

Nobody but the model's file knows what it does with them.
"""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from skinkit.errors import ConfigError, did_you_mean
from skinkit.options import make_config

if TYPE_CHECKING:
    import numpy as np

ENTRY_POINTS = "skinkit.models"
UNCERTAINTIES = ("variance", "entropy", "mutual_information")
"""What a network may answer beside its diagnosis: the mean over classes of the variance over passes, the entropy of the
mean probability, and how much of it the passes disagree about (both in nats)."""


class Fitted(Protocol):
    """An estimator fitted on one fold."""

    def predict(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n, classes) log-probabilities, before calibration."""

    def contributions(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What each input column adds to each class's score.

        Returns:
            input name -> (n, classes, columns), and ``bias`` -> (n, classes, 1). Summed over all of them they are the
            scores whose softmax is the prediction.
        """

    def save(self, folder: Path) -> None:
        """Write it; no pickle."""


class Embedder(Protocol):
    """A network that is not trained; a ``torch.nn.Module`` from uint8 (n, side, side, 3) to float32 (n, width)."""

    def prepare(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) of any size -> uint8 (side, side, 3); runs in the decoding thread."""

    def __call__(self, images: Any) -> Any:
        """uint8 tensor (n, side, side, 3) -> float32 tensor (n, width)."""


@dataclass(frozen=True)
class Augment:
    """How training pictures are varied; photo, lesion mask and truth mask move together.

    Attributes:
        flips: mirror each axis with probability 1/2.
        rotation_deg: turned by up to so many degrees, either way.
        scale: size factor, drawn between these two.
        shift: moved by up to this share of the side.
        brightness: factor drawn from 1 - b to 1 + b; of contrast and saturation likewise.
        contrast: see brightness.
        saturation: see brightness.
        hue: channels are mixed by a rotation of up to this share of the colour circle.
        channels: factor of red, green and blue apart, drawn from 1 - c to 1 + c.
        blur: widest standard deviation of a Gaussian blur, as a share of the side; half of the photos are blurred.
        sharpness: half of the photos are sharpened by up to this factor of what a small blur takes away.
        noise: largest standard deviation of Gaussian noise on the pixels, 0 to 1; half of the photos get some.
    """

    flips: bool = True
    rotation_deg: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    channels: float = 0.0
    blur: float = 0.0
    sharpness: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one optimiser.

    The network is told its name before it begins (``Network.enter``), and begins it with the best weights of the
    phase before.

    Attributes:
        name: of the phase.
        epochs: at most so many.
        batch: cases per step.
        steps: per epoch; 0 sees every training case once.
        optimiser: ``adam``, ``adamw`` or ``sgd``.
        learning_rate: at its highest.
        rates: beginning of a parameter's name -> its own highest rate; the longest beginning that fits counts.
        schedule: ``constant``, ``cosine`` (to ``final_rate``, stepwise), ``one_cycle`` (up over the first
            ``warm_up`` share of the steps, then down along a cosine) or ``plateau`` (a tenth each time that the
            validation score, without validation rows the loss, was not better for more than ``plateau`` epochs).
        final_rate: where ``cosine`` and ``one_cycle`` end, and below which ``plateau`` never falls, for the highest of
            the rates; the others in proportion.
        warm_up: share of the steps that ``one_cycle`` climbs.
        momentum: of ``sgd``.
        weight_decay: as the optimiser has it.
        clip: largest gradient norm; 0 for none.
        patience: stop after so many epochs without a better validation score; 0 for never.
        candidates: share of the phase's last epochs among which the one with the best validation score is kept. Few
            validation rows make scores jump, and an early epoch, at a high rate, may win by chance.
        averaged: share of the phase's last steps whose weights are averaged into the final ones; 0 for none, and then
            the epoch with the best validation score is kept.
        augment: how pictures are varied.
        balanced: share of each epoch's draws in which every stratum (class, or what the training was told) comes
            equally often; the others draw the rows as they are.
        plateau: epochs without a better score that ``plateau`` bears.
        snapshot_every: let the network look at the validation rows for ``Network.snapshot`` after so many epochs, and
            after the last; 0 for never.
    """

    name: str
    epochs: int
    batch: int = 16
    steps: int = 0
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    rates: Mapping[str, float] = field(default_factory=dict)
    schedule: str = "constant"
    final_rate: float = 0.0
    warm_up: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 0.0
    patience: int = 0
    candidates: float = 1.0
    averaged: float = 0.0
    augment: Augment = field(default_factory=Augment)
    balanced: float = 0.0
    plateau: int = 10
    snapshot_every: int = 0


@dataclass(frozen=True)
class Sizes:
    """What a network is built for.

    Attributes:
        answers: class codes in order, or ``("lesion",)``.
        columns: width of ``attributes`` and ``radiomics``, where it reads them.
        class_counts: training cases per class; empty for segmenters.
        attributes: the attribute behind each column of ``attributes``.
        unknown: what stands in each column of ``attributes`` where nothing is known of a case; empty for zeros.
    """

    answers: tuple[str, ...]
    columns: Mapping[str, int] = field(default_factory=dict)
    class_counts: tuple[int, ...] = ()
    attributes: tuple[str, ...] = ()
    unknown: tuple[float, ...] = ()


class Network(Protocol):
    """A ``torch.nn.Module`` trained step by step; normalises its pictures itself."""

    def start(self, state: Mapping[str, Any], source: str) -> str:
        """Take over pretrained weights and say in words which; those that do not fit raise :class:`InputError`."""

    def phases(self) -> tuple[Phase, ...]:
        """How it is trained."""

    def enter(self, phase: str) -> None:
        """Get ready for a phase: freeze what is not trained in it, switch branches. Twice is the same as once."""

    def loss(self, batch: Mapping[str, Any]) -> Any:
        """One number to make small, in training mode."""

    def answer(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What inference uses: the plain forward pass, or the mean over several."""

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One forward pass: answer's name -> logits."""


@dataclass(frozen=True)
class Entry:
    """One registered model: its task, one line of help, and the module that holds it."""

    task: str
    help: str
    module: str


@cache
def own() -> dict[str, Entry]:
    """The models of this folder; their files are read, not run, so that listing them loads no library."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        task = next(n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "TASK")
        line = (ast.get_docstring(tree) or "").partition("\n")[0].rstrip(".")
        found[file.stem] = Entry(ast.literal_eval(task), line, f"{__name__}.{file.stem}")
    return found


def registered(task: str = "") -> dict[str, str]:
    """Names and one-line helps of the models of a task, or of all."""
    from importlib.metadata import entry_points

    found = {name: entry.help for name, entry in own().items() if task in ("", entry.task)}
    for point in entry_points(group=ENTRY_POINTS):
        module = point.load()
        if point.name not in own() and task in ("", module.TASK):
            found[point.name] = (module.__doc__ or "").strip().partition("\n")[0]
    return found


def load_model(name: str, task: str = "") -> Any:
    """The module of a model.

    Raises:
        ConfigError: no model of that name, or one of another task.
    """
    known = registered(task)
    if name not in known:
        other = f"; {name} is there, but not to {task}" if task and name in registered() else ""
        raise ConfigError(
            f"no model {name!r} to {task}{other}" if task else f"no model {name!r}",
            did_you_mean(name, known),
            "see 'skinkit list models'",
        )
    if name in own():
        return importlib.import_module(own()[name].module)
    from importlib.metadata import entry_points

    return next(iter(entry_points(group=ENTRY_POINTS, name=name))).load()


def trainable(name: str) -> Any:
    """The module of a model that ``skinkit train`` can train.

    Raises:
        ConfigError: no model of that name, or a rule such as ``otsu``.
    """
    module = load_model(name)
    if not (hasattr(module, "build") or hasattr(module, "fit")):
        learns = [known for known in own() if hasattr(load_model(known), "build") or hasattr(load_model(known), "fit")]
        raise ConfigError(
            f"{name} is a rule: there is nothing to train", did_you_mean(name, learns), "see 'skinkit list models'"
        )
    return module


def model_config(
    module: Any, settings: Sequence[str] | Mapping[str, Any], where: str = "--settings", *, preset: str = ""
) -> Any:
    """A model's ``Config`` from ``NAME=VALUE`` texts (values as in TOML, bare words as text) or from plain values.

    Args:
        module: the model's module.
        settings: the texts or values; they win over the preset.
        where: what an error names as the place of the settings.
        preset: name of settings of the model that belong together.

    Raises:
        ConfigError: not of that form, an unknown name, or a value of the wrong type.
    """
    presets = getattr(module, "PRESETS", {})
    if preset and preset not in presets:
        raise ConfigError(
            f"no preset {preset!r} of {module.__name__.rpartition('.')[2]}",
            did_you_mean(preset, presets) if presets else "no preset: it has none",
            "leave --preset out, or name another",
        )
    values = settings if isinstance(settings, Mapping) else _parsed(settings, where)
    return make_config(module.Config, presets.get(preset, {}), values, where=where)


def _parsed(settings: Sequence[str], where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in settings:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise ConfigError(f"{text!r} in {where}", "NAME=VALUE", "for example --settings learning_rate=0.05")
        try:
            values[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[name] = value
    return values
