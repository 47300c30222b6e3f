"""The registry of models: one paper = one file of this folder. Adding a model adds its file and nothing else.

Third parties register theirs by an entry point of the group ``skinkit.models`` that points to such a module.

Every model's docstring has the sections Paper, Idea, Equations, Shapes and Departures. A model is a class that derives
from one of the base classes of ``skinkit.models.parts.protocol``, which say what it must have and what it may leave at
its default; the file names it ``MODEL``:

    DrawingRule   a segmenter that is not trained: ``draw(rgb, config) -> mask``
    Estimator     a classifier fitted at once, such as ``lightgbm``: ``fit``, ``load``, ``save``, ``predict``
    Generator     writes images of a class: ``synthesise``; fitted at once, or a network too
    Network       a segmenter, classifier or pretraining that ``skinkit.learning.loop`` trains step by step

``skinkit.contract.check_model`` holds every model to them.

**Batches of an estimator** map names to arrays whose rows are cases: ``attributes`` (n, columns) and ``radiomics`` (n,
features), both standardised by the fold's own scalers, and ``image`` (n, width), the embedder's answers. That of the
training rows also has ``block_hidden`` and ``all_hidden`` (n, columns): the attributes as they are encoded where the
patient block, or everything, is unknown, for models that learn to do without.

**Batches of a network** map names to tensors: ``image`` float32 (n, 3, side, side), 0 to 1; ``mask`` float32 (n, side,
side), 1 where the lesion is; ``attributes`` and ``radiomics`` as above; and for its loss ``class`` int64 (n,) or
``truth_mask`` float32 (n, side, side), 0 to 1. ``READS`` names those it gets. It answers ``diagnosis`` (n, classes) or
``lesion`` (n, side, side), both logits. One whose ``TASKS`` is true is built for the further tasks of ``Sizes.tasks``
and answers each under its name, (n, classes) logits; its loss finds their truth as ``class__<task>`` int64 (n,), -1
where it is unknown, and leaves such rows out (``skinkit.models.parts.losses.cross_entropy_of_known``). One that
estimates its uncertainty may answer figures of :data:`UNCERTAINTIES` beside its diagnosis, (n,) each, at least 0.

**A network that classifies** has two parts, ``encode`` for the pictures and ``head`` for the tables, so that it can be
explained (``skinkit.explain.shapley``), and beside them

    reference_embedding   (...) mean of ``encode`` over training photos, used in place of a photo left out
    last                  the block whose maps (n, channels, h, w) Grad-CAM shows, or (2 n, ...) with the mirrored
                          photos last
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from skinkit.errors import ConfigError, did_you_mean, listed
from skinkit.models.parts.protocol import UNCERTAINTIES as UNCERTAINTIES
from skinkit.models.parts.protocol import Augment as Augment
from skinkit.models.parts.protocol import DrawingRule as DrawingRule
from skinkit.models.parts.protocol import Embedder as Embedder
from skinkit.models.parts.protocol import Estimator as Estimator
from skinkit.models.parts.protocol import Generator as Generator
from skinkit.models.parts.protocol import Labelled as Labelled
from skinkit.models.parts.protocol import LabelledPhotos as LabelledPhotos
from skinkit.models.parts.protocol import Model as Model
from skinkit.models.parts.protocol import Network as Network
from skinkit.models.parts.protocol import Objective as Objective
from skinkit.models.parts.protocol import Phase as Phase
from skinkit.models.parts.protocol import Sizes as Sizes
from skinkit.options import flat, make_config, nested, options_of, renamed_settings

ENTRY_POINTS = "skinkit.models"


_FORMER = {
    "colour_jitter": ("augment.brightness", "augment.contrast", "augment.saturation"),
    "channel_jitter": ("augment.channels",),
    "class_aware": ("recipe.balanced",),
}
"""Former name of a setting of training -> its present names, where more than its place has changed."""


@dataclass(frozen=True)
class RegistryEntry:
    """One registered model: its task, one line of help, and the module that holds it."""

    task: str
    help: str
    module: str


@cache
def own() -> dict[str, RegistryEntry]:
    """The models of this folder; their files are read, not run, so that listing them loads no library."""
    entries = {}
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        constants = (n for n in ast.walk(tree) if isinstance(n, ast.Assign))
        task = next(n.value for n in constants if ast.unparse(n.targets[0]) == "TASK")
        line = (ast.get_docstring(tree) or "").partition("\n")[0].rstrip(".")
        entries[file.stem] = RegistryEntry(ast.literal_eval(task), line, f"{__name__}.{file.stem}")
    return entries


def registered(task: str = "") -> dict[str, str]:
    """Names and one-line helps of the models of a task, or of all."""
    from importlib.metadata import entry_points

    helps = {name: entry.help for name, entry in own().items() if task in ("", entry.task)}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name not in own():
            model = _of_third_party(point)
            if task in ("", model.TASK):
                helps[point.name] = text_of(model).partition("\n")[0]
    return helps


def is_registered(name: str, task: str = "") -> bool:
    """Whether there is a model of that name for the task, or for any; other packages are searched for other names."""
    return task in ("", own()[name].task) if name in own() else name in registered(task)


def load_model(name: str, task: str = "") -> type[Model]:
    """The class of a model.

    Raises:
        ConfigError: no model of that name, or one of another task.
    """
    if not is_registered(name, task):
        names = registered(task)
        other = f"; {name} is there, but not to {task}" if task and is_registered(name) else ""
        raise ConfigError(
            f"no model {name!r} to {task}{other}" if task else f"no model {name!r}",
            did_you_mean(name, names),
            "see 'skinkit list models'",
        )
    if name in own():
        model: type[Model] = importlib.import_module(own()[name].module).MODEL
        return model
    from importlib.metadata import entry_points

    return _of_third_party(next(iter(entry_points(group=ENTRY_POINTS, name=name))))


def _of_third_party(point: EntryPoint) -> type[Model]:
    """What an entry point stands for: a model's class, or a module that names one ``MODEL``."""
    loaded = point.load()
    model = getattr(loaded, "MODEL", loaded)
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise ConfigError(
            f"the entry point {point.name!r} of {ENTRY_POINTS} is no model ({point.value})",
            "a class derived from a base class of skinkit.models, or a module whose MODEL is one",
            "update the package that registers it, or uninstall it",
        )
    return model


def text_of(model: type[Model]) -> str:
    """The docstring of a model's file."""
    return inspect.cleandoc(sys.modules[model.__module__].__doc__ or "")


def name_of(model: type[Model]) -> str:
    """A model's name: that of its file."""
    return model.__module__.rpartition(".")[2]


def trainable(name: str) -> type[Estimator | Generator | Network]:
    """The class of a model that ``skinkit train`` can train.

    Raises:
        ConfigError: no model of that name, or a rule such as ``otsu``.
    """
    model = load_model(name)
    if issubclass(model, (Estimator, Generator, Network)):
        return model
    learns = [each for each in own() if not issubclass(load_model(each), DrawingRule)]
    raise ConfigError(
        f"{name} is a rule: there is nothing to train", did_you_mean(name, learns), "see 'skinkit list models'"
    )


def model_config(
    model: type[Model], settings: Sequence[str] | Mapping[str, Any], where: str = "--settings", *, preset: str = ""
) -> Any:
    """A model's ``Config`` from ``NAME=VALUE`` texts (values as in TOML, bare words as text) or from plain values.

    Args:
        model: the model's class.
        settings: the texts or values; they win over the preset.
        where: what an error names as the place of the settings.
        preset: name of settings of the model that belong together.

    Raises:
        ConfigError: not of that form, an unknown name, or a value of the wrong type.
    """
    presets = model.PRESETS
    if preset and preset not in presets:
        raise ConfigError(
            f"no preset {preset!r} of {name_of(model)}",
            did_you_mean(preset, presets) if presets else "no preset: it has none",
            "leave --preset out, or name another",
        )
    values = settings if isinstance(settings, Mapping) else parsed_settings(settings, where)
    for name in flat(values):
        if name in model.REMOVED:
            expected = f"a setting of {name_of(model)}: {listed(option.name for option in options_of(model.CONFIG))}"
            raise ConfigError(f"{name!r} in {where}", expected, f"instead: {model.REMOVED[name].instead}")
        places = present_names(model, name)
        if places != (name,):
            raise ConfigError(
                f"{name!r} in {where}", listed(places), f"write {places[0]}=VALUE: settings of training are nested"
            )
    return make_config(model.CONFIG, presets.get(preset, {}), values, where=where)


def preset_without(model: type[Model], lacking: str) -> tuple[str, str] | None:
    """A preset that starts from other public weights, which are here, and their name; None where there is none.

    Args:
        model: the model's class.
        lacking: name of the public weights to do without.
    """
    from skinkit.models.parts.weights import PUBLIC, cached

    for name in model.PRESETS:
        weights = model.default_weights(model_config(model, {}, preset=name))
        if weights != lacking and weights in PUBLIC and cached(PUBLIC[weights]) is not None:
            return name, weights
    return None


def can_start_from_lite(model: type[Model]) -> bool:
    """Whether a model may read the backbone whose weights come with PyTorch, and they are here."""
    from skinkit.models.parts.weights import LITE, PUBLIC, cached

    return "backbone" in {option.name for option in options_of(model.CONFIG)} and cached(PUBLIC[LITE]) is not None


def present_names(model: type[Model], name: str) -> tuple[str, ...]:
    """Where a setting stands now; a name that is neither a present nor a former one is answered as it is."""
    if name in model.FORMER:
        return model.FORMER[name]
    options = {option.name: option for option in options_of(model.CONFIG)}
    if "recipe" not in options or name in options:
        return (name,)
    if name in _FORMER:
        return _FORMER[name]
    return next(
        ((f"{outer}.{name}",) for outer, option in options.items() if name in {o.name for o in option.nested}), (name,)
    )


def present_settings(model: type[Model], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model of an older version, as they stand now.

    Raises:
        ConfigError: it was trained with the effect of a setting that the model no longer has.
    """
    for name, removed in model.REMOVED.items():
        if removed.neutral is not None and settings.get(name, removed.neutral) != removed.neutral:
            found = f"{name} = {settings[name]} of {name_of(model)}"
            raise ConfigError(found, "a model without it, which is now one of its own", f"train: {removed.instead}")
    settings = {name: value for name, value in settings.items() if name not in model.REMOVED}
    settings = renamed_settings(model.CONFIG, settings)
    if any(isinstance(value, Mapping) for value in settings.values()):
        return dict(settings)
    return nested({place: value for name, value in settings.items() for place in present_names(model, name)})


def parsed_settings(settings: Sequence[str], where: str) -> dict[str, Any]:
    """The values of ``NAME=VALUE`` texts; see :func:`model_config`."""
    values: dict[str, Any] = {}
    for text in settings:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise ConfigError(f"{text!r} in {where}", "NAME=VALUE", "for example --settings recipe.epochs=5")
        try:
            values[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[name] = value
    return nested(values)
