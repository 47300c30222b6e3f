"""What the arms of a study are made by: which trainings, of which seeds, under which names and with which options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from skinkit.errors import ConfigError, InputError, did_you_mean
from skinkit.models.parts.weights import OF_MODEL
from skinkit.options import Help, options_of
from skinkit.stages.training.config import ALLOW_LEAKAGE
from skinkit.studies import Arm, Prerequisite, Study
from skinkit.studies.study import TRAIN, writes_images

_OBJECTIVE = "objective."
"""Begins the settings of an objective, which are none of the model."""


def settings_for(network: str) -> Help:
    """The help of the settings of a network that a command trains."""
    return Help(f"setting of {network} as NAME=VALUE, repeatable", metavar="NAME=VALUE")


def weights_for(network: str) -> Help:
    """The help of the weights that it starts from."""
    return Help(f"pretrained weights of {network}, as 'skinkit train' takes them", metavar="PATH")


@dataclass(frozen=True)
class TrainingOptions:
    """Options shared by commands that train and compare the arms of a paper."""

    arms: Annotated[tuple[str, ...], "arms to train and compare (default: all)"] = ()
    comparators: Annotated[bool, "include the paper's comparators, if it has any"] = False
    preset: Annotated[str, "preset of every network (default: the paper's); quick for a machine without a GPU"] = ""
    settings: Annotated[tuple[str, ...], settings_for("every network")] = ()
    weights: Annotated[str, weights_for("every network")] = ""
    weights_of: Annotated[
        tuple[str, ...],
        Help(
            "pretrained weights of one arm, or of one step that arms are made from, before --weights; repeatable",
            metavar="NAME=PATH",
        ),
    ] = ()
    folds: Annotated[int, "folds of a newly drawn split (default: the study's)"] = 0
    seed: Annotated[int, "seed of all models and random draws; with --seeds of the draws alone"] = 0
    seeds: Annotated[
        tuple[str, ...],
        Help("train every arm with each of these seeds and report means over them, such as 0,1,2", metavar="N[,N]"),
    ] = ()
    one_seed: Annotated[
        tuple[str, ...],
        Help("with --seeds: arms that are trained with the first of them alone", metavar="ARM[,ARM]"),
    ] = ()
    bootstrap: Annotated[int, "draws of noise for the interval of the ECE"] = 1000
    allow_untrained: Annotated[
        str, Help("reason for comparing arms that have learnt nothing, as 'skinkit train' takes it", metavar="REASON")
    ] = ""
    each_fold: Annotated[
        bool,
        Help("also predict external cohorts with each fold alone, for the SD over folds in by_class", rare=True),
    ] = False


@dataclass(frozen=True)
class AblationOptions(TrainingOptions):
    """Further options of an ablation in a workspace."""

    name: Annotated[str, "prefix of the models' and folder's names (default: the paper's)"] = ""
    replace: Annotated[bool, "retrain arms that exist with another configuration"] = False
    allow_leakage: Annotated[str, ALLOW_LEAKAGE] = ""


@dataclass(frozen=True)
class PlannedArtifact:
    """One artifact that an ablation makes.

    Attributes:
        stage: that makes it.
        name: of it in the workspace.
        options: of the stage.
    """

    stage: str
    name: str
    options: Mapping[str, Any]


def works(study: Study, config: AblationOptions, split: str) -> list[PlannedArtifact]:
    """What is made for the chosen arms, in order: what they are made from, once for each seed, and the arms.

    Raises:
        ConfigError: an unknown arm, wrong seeds, two models of one name, or a model that has no such preset or setting.
    """
    models = seeds_by_arm(study, config)
    # Seed by seed, so that an interrupted run has all arms of the first.
    todo = [
        (one, seed)
        for seed in seeds_of(config)
        for one in _with_what_they_are_made_from(study, [study.arm(arm) for arm, of in models.items() if seed in of])
    ]
    found = [_work(study, one, config, split, seed) for one, seed in todo]
    names = [work.name for work in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two of {study.name} are called {twice[0]}", "a name of its own", "rename an arm")
    _refuse_unread(study, config, [one for one, _ in todo])
    return found


def _with_what_they_are_made_from(study: Study, arms: Sequence[Arm]) -> list[Arm | Prerequisite]:
    """The arms, each after what it is made from; everything once."""
    chosen: dict[str, Arm | Prerequisite] = {}

    def take(one: Arm | Prerequisite) -> None:
        for each in study.made_from(one):
            take(each)
        chosen.setdefault(one.name, one)

    for arm in arms:
        take(arm)
    return list(chosen.values())


def chosen_arms(study: Study, config: AblationOptions) -> list[Arm]:
    """The chosen arms that are trained, in the study's order."""
    absent = left_out(study, config)
    return [arm for arm in _asked(study, config) if arm.name not in absent]


def _asked(study: Study, config: TrainingOptions) -> list[Arm]:
    """The arms that the command line asks for."""
    if config.arms:
        names = {study.arm(name).name for name in config.arms}
        return [arm for arm in (*study.arms, *study.comparators) if arm.name in names]
    return [*study.arms, *(study.comparators if config.comparators else ())]


def seeds_by_arm(study: Study, config: AblationOptions) -> dict[str, dict[int, str]]:
    """Arm -> seed -> name of its model.

    Raises:
        ConfigError: seeds that are no numbers or stand there twice, or ``--one-seed`` without them or of another arm.
    """
    arms = [arm.name for arm in chosen_arms(study, config)]
    seeds = seeds_of(config)
    if config.one_seed and not config.seeds:
        raise ConfigError(f"--one-seed {','.join(config.one_seed)} without --seeds", "--seeds 0,1,2", "give both")
    for arm in config.one_seed:
        if study.arm(arm).name not in arms:
            raise ConfigError(f"--one-seed {arm}, which --arms leaves out", f"of {', '.join(arms)}", "correct it")
    return {
        arm: {seed: model_name(study, config, arm, seed) for seed in (seeds[:1] if arm in config.one_seed else seeds)}
        for arm in arms
    }


def model_name(study: Study, config: AblationOptions, of: str, seed: int) -> str:
    """The name of an arm's model; of seed 0 that of a run without ``--seeds``, so that it is reused."""
    name = f"{config.name or study.name}-{of}"
    return f"{name}-s{seed}" if config.seeds and seed else name


def seeds_of(config: TrainingOptions) -> tuple[int, ...]:
    """The seeds of the models.

    Raises:
        ConfigError: seeds that are no numbers, one alone, or one twice.
    """
    if not config.seeds:
        return (config.seed,)
    if not all(text.isascii() and text.isdecimal() for text in config.seeds):
        raise ConfigError(f"--seeds {','.join(config.seeds)}", "whole numbers from 0", "for example --seeds 0,1,2")
    seeds = tuple(int(text) for text in config.seeds)
    if len(set(seeds)) < max(2, len(seeds)):
        raise ConfigError(
            f"--seeds {','.join(config.seeds)}", "two or more different seeds", "name each once; --seed takes one"
        )
    return seeds


def left_out(study: Study, config: AblationOptions) -> dict[str, str]:
    """Chosen arm -> why it is not trained: its pretrained weights are optional, and not here.

    Raises:
        InputError: weights were named for it that are not there.
    """
    from skinkit.models import model_config, trainable
    from skinkit.models.parts.weights import RANDOM, locate

    reasons = {}
    named = _named_weights(study, config)
    for arm in _asked(study, config):
        if arm.optional:
            model = trainable(arm.model)
            own = model_config(model, _fixed(arm), preset=study.preset_of(arm, config.preset))
            chosen = named.get(arm.name, config.weights)
            try:
                if chosen == RANDOM:
                    raise InputError("--weights none", "pretrained weights", "give them")
                locate(chosen, model.default_weights(own))
            except InputError as error:
                if chosen not in ("", RANDOM):
                    raise
                reasons[arm.name] = error.found
    return reasons


def _work(study: Study, one: Arm | Prerequisite, config: AblationOptions, split: str, seed: int) -> PlannedArtifact:
    """How an arm or a step of one seed is made.

    Raises:
        ConfigError: its model has no such preset or setting.
    """
    name = model_name(study, config, one.name, seed)
    if writes_images(one):
        parent = model_name(study, config, one.model, seed)
        return PlannedArtifact(one.stage, name, {**one.settings, "model": parent, "seed": seed})
    return PlannedArtifact(TRAIN, name, _training(study, one, config, split, seed))


def _training(study: Study, one: Arm | Prerequisite, config: AblationOptions, split: str, seed: int) -> dict[str, Any]:
    """Options of ``skinkit train`` for an arm, or for a step that is trained."""
    from skinkit.models import Network, model_config, trainable

    model = trainable(one.model)
    is_network = issubclass(model, Network)
    options: dict[str, Any] = {
        "model": one.model,
        "split": split,
        "seed": seed,
        "replace": config.replace,
        "allow_leakage": config.allow_leakage,
    }
    if isinstance(one, Arm):
        options |= {"attributes": one.attributes, "radiomics": one.radiomics}
        options |= {"tasks": one.tasks} if one.tasks else {}
        options |= {"teacher": model_name(study, config, one.teacher, seed)} if one.teacher else {}
        options |= (
            {"members": tuple(model_name(study, config, arm, seed) for arm in one.members)} if one.members else {}
        )
    if config.folds:
        options["folds"] = config.folds
    if config.allow_untrained:
        options["allow_untrained"] = config.allow_untrained
    asked = [text for text in config.settings if not study.steps or _has(model, text)]
    options["settings"] = (*(asked if is_network else ()), *_fixed(one))
    options["preset"] = study.preset_of(one, config.preset) if is_network or one.preset else ""
    own = [text for text in options["settings"] if not text.startswith(_OBJECTIVE)]
    model_config(model, own, preset=options["preset"])
    if one.synthetic:
        options["synthetic"] = model_name(study, config, one.synthetic, seed)
    reads_weights = is_network or ("image" in model.READS and config.weights != "none")
    if own_weights := _named_weights(study, config).get(one.name):
        options["weights"] = own_weights
    elif one.weights.startswith(OF_MODEL):
        options["weights"] = OF_MODEL + model_name(study, config, one.weights.removeprefix(OF_MODEL), seed)
    elif one.weights:
        options["weights"] = one.weights
    elif config.weights and reads_weights and isinstance(one, Arm):
        options["weights"] = config.weights
    return options


def _named_weights(study: Study, config: TrainingOptions) -> dict[str, str]:
    """Arm or step -> its weights of ``--weights-of``; files of the parts of one network are joined by commas.

    Raises:
        ConfigError: no NAME=PATH, or no such arm or step that is trained.
    """
    known = [one.name for one in study.everything if not writes_images(one)]
    found: dict[str, str] = {}
    last = ""
    for text in config.weights_of:
        name, equals, path = text.partition("=")
        if last and (not equals or name not in known):  # a further file: the command line divides at commas
            found[last] += f",{text}"
            continue
        if name not in known or not path:
            raise ConfigError(f"--weights-of {text}", did_you_mean(name, known), "write it as NAME=PATH")
        found[name], last = path, name
    return found


def shared_settings(config: Any, other: type[Any]) -> list[str]:
    """The settings of a model that another kind of model has too, where they differ from that one's own.

    Args:
        config: of the first.
        other: ``CONFIG`` of the second.

    Returns:
        Texts ``NAME=VALUE``, as ``--settings`` takes them.
    """
    found, own = [], other()
    names = {option.name for option in options_of(type(config))}
    for option in options_of(other):
        if option.name in names:
            one, usual = getattr(config, option.name), getattr(own, option.name)
            inner = {f"{option.name}.{each.name}": (getattr(one, each.name), getattr(usual, each.name))
                     for each in option.nested}  # fmt: skip
            pairs = inner or {option.name: (one, usual)}
            found += [f"{name}={_toml(value)}" for name, (value, before) in pairs.items() if value != before]
    return found


def _fixed(one: Arm | Prerequisite) -> list[str]:
    return [f"{key}={_toml(value)}" for key, value in one.settings.items()]


def _has(model: type[Any], text: str) -> bool:
    """Whether a model has the setting of a text ``NAME=VALUE``."""
    first, _, inner = text.partition("=")[0].strip().partition(".")
    nested = {option.name: [each.name for each in option.nested] for option in options_of(model.CONFIG)}
    return first in nested and (not inner or inner in nested[first])


def _refuse_unread(study: Study, config: AblationOptions, made: Sequence[Arm | Prerequisite]) -> None:
    """Refuse a setting of the command line that no network of a study with steps has.

    Raises:
        ConfigError: naming one that is alike.
    """
    from skinkit.models import Network, trainable

    kinds = {one.model: trainable(one.model) for one in made if not writes_images(one)}
    networks = [model for model in kinds.values() if issubclass(model, Network)]
    for text in config.settings if study.steps else ():
        if not any(_has(model, text) for model in networks):
            named = [o.name for model in networks for o in options_of(model.CONFIG)]
            inner = [f"{o.name}.{i.name}" for model in networks for o in options_of(model.CONFIG) for i in o.nested]
            raise ConfigError(
                f"unknown setting {text!r} of every network of {study.name}",
                did_you_mean(text.partition("=")[0].strip(), sorted({*named, *inner})),
                "rename or remove it",
            )


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
