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

    default_weights   config -> name of public weights (``skinkit.models.parts.weights``)
    embedder          (config, state dict) -> Embedder, the network; it runs once per image, whatever the fold
    embedding_key     config -> what decides its result, beside the weights
    explained         (embedder, fitted, offsets, temperatures, positive) -> (module, layer) for Grad-CAM

A fitted estimator may have ``features``, batch -> (n, width): what its last, linear step reads, for maps of its cases.

A batch of an estimator is a mapping of names to arrays whose rows are cases: ``attributes`` (n, columns) and
``radiomics`` (n, features), both standardised by the fold's own scalers, and ``image`` (n, width), the embedder's
answer. That of the training rows also has ``block_hidden`` and ``all_hidden`` (n, columns), the attributes as they are
written where the patient block, or everything, is unknown, for those that are to learn to do without.

**Networks** (segmenters and classifiers that ``skinkit.learning.loop`` trains) have ``side_px`` in ``Config``, and

    PRESETS          settings by the name of a preset
    default_weights  config -> name of public weights they may start from (``skinkit.models.parts.weights``)
    build            (config, sizes) -> Network
    mask_of          segmenters: (probability (H, W), config) -> bool (H, W)
    RADIOMICS        classifiers: as above
    HEATMAP          classifiers: gradcam or, where they read attributes, gfa

A network that classifies has two parts, so that it can be explained (``skinkit.explain.shapley``):

    encode    batch -> (n, ...) features of the pictures; reads no table
    head      (features, batch) -> answers; reads no picture. ``head(encode(batch), batch)`` is ``answer(batch)``
    typical   (...) reference embedding: mean of ``encode`` over training photos, in the place of a photo left out
    last      the block whose maps (n, channels, h, w), or (2 n, ...) with the mirrored photos last, Grad-CAM shows

One whose phases ask for snapshots (``Phase.snapshot_every``) also has

    snapshot    batches of validation rows -> what is to be kept of this stage of training, as plain values; entries of
                its list ``cases``, if it has one, name their case by ``index``, its place among these rows

One that fits something to the tables before it is trained has

    prepare     (name -> (n, columns), (n,) class indices, both of the training rows) -> None

One that reads photos with a frozen part as well may have that part run once per photo. Its frozen features, ``still``,
are given to ``prepare`` among the tables; while the network is trained, batches hold them too, under that name, and
``encode`` need not compute them again:

    still     None, or a module with ``answer``: batch of pictures -> ``still``, (n, width) float32

One whose loss does not weigh every case alike says for which mix of classes its probabilities hold:

    supposed    (classes,) effective class prior, as a property

One with ``epochs`` and ``final_epochs`` in ``Config`` is trained a second time, for so many epochs and on all rows,
where the split has one fold and ``final_epochs`` is not 0; that one answers for cohorts it was not trained on.

A batch of a network is a mapping of names to tensors: ``image`` float32 (n, 3, side, side), 0 to 1; ``mask`` float32
(n, side, side), 1 where the lesion is; ``attributes`` and ``radiomics`` as above; and for its loss ``class`` int64 (n,)
or ``truth_mask`` float32 (n, side, side), 0 to 1. ``READS`` says which of them it is given. It answers ``diagnosis``
(n, classes) or ``lesion`` (n, side, side), both logits. One that estimates its uncertainty may answer figures of
:data:`UNCERTAINTIES` beside its diagnosis, (n,) each, at least 0.
"""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from skinkit.errors import ConfigError, did_you_mean
from skinkit.models.parts.protocol import UNCERTAINTIES as UNCERTAINTIES
from skinkit.models.parts.protocol import Augment as Augment
from skinkit.models.parts.protocol import Embedder as Embedder
from skinkit.models.parts.protocol import Fitted as Fitted
from skinkit.models.parts.protocol import Network as Network
from skinkit.models.parts.protocol import Phase as Phase
from skinkit.models.parts.protocol import Sizes as Sizes
from skinkit.options import make_config

ENTRY_POINTS = "skinkit.models"


@dataclass(frozen=True)
class Entry:
    """One registered model: its task, one line of help, and the module that holds it."""

    task: str
    help: str
    module: str


@cache
def own() -> dict[str, Entry]:
    """The models of this folder; their files are read, not run, so that listing them loads no library."""
    entries = {}
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        task = next(n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "TASK")
        line = (ast.get_docstring(tree) or "").partition("\n")[0].rstrip(".")
        entries[file.stem] = Entry(ast.literal_eval(task), line, f"{__name__}.{file.stem}")
    return entries


def registered(task: str = "") -> dict[str, str]:
    """Names and one-line helps of the models of a task, or of all."""
    from importlib.metadata import entry_points

    helps = {name: entry.help for name, entry in own().items() if task in ("", entry.task)}
    for point in entry_points(group=ENTRY_POINTS):
        module = point.load()
        if point.name not in own() and task in ("", module.TASK):
            helps[point.name] = (module.__doc__ or "").strip().partition("\n")[0]
    return helps


def load_model(name: str, task: str = "") -> Any:
    """The module of a model.

    Raises:
        ConfigError: no model of that name, or one of another task.
    """
    names = registered(task)
    if name not in names:
        other = f"; {name} is there, but not to {task}" if task and name in registered() else ""
        raise ConfigError(
            f"no model {name!r} to {task}{other}" if task else f"no model {name!r}",
            did_you_mean(name, names),
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
        learns = [each for each in own() if hasattr(load_model(each), "build") or hasattr(load_model(each), "fit")]
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
