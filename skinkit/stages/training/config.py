"""What a training was asked for: its options, and what they mean in a workspace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.artifacts.files import file_sha256
from skinkit.errors import ConfigError, InputError, listed
from skinkit.models import can_start_from_lite, preset_without
from skinkit.models.parts.protocol import Estimator, Generator, Network, Objective
from skinkit.models.parts.weights import (
    LITE,
    PUBLIC,
    RANDOM,
    Start,
    in_parts,
    lineage,
    locate,
    model_named,
    package_of,
    trained_further,
)
from skinkit.options import Help, settings_identity
from skinkit.taxonomy import CLASS_SET_HELP, ClassSet, class_set
from skinkit.workspace import Ref, Workspace

OBJECTIVE = "objective"
"""Of ``--settings``: what stands before the settings of ``--objective``."""


NO_IMAGES = "none"
"""``--synthetic none``: a model is trained again without the synthetic images it was trained on."""


ALLOW_LEAKAGE = Help("reason for training on a split with a patient, lesion or image on both sides", metavar="REASON")
"""Help of the option that accepts such a split."""


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    model: Annotated[
        str,
        Help(
            "kind of model to train: one of 'skinkit list' (default: the workspace's model); "
            "--name says what the trained model is called",
            metavar="KIND",
        ),
    ] = ""
    preset: Annotated[str, "named set of network settings, such as quick or wang2024"] = ""
    weights: Annotated[
        str,
        Help(
            "pretrained weights: safetensors, a PyTorch state dict, a name of 'skinkit weights list' (default: the "
            "model's own, if downloaded), or model:NAME, a pretraining of this workspace or a classifier of the same "
            "kind; latent_diffusion: ENCODER,DECODER too; none: random initialisation",
            identity=False,
            metavar="PATH",
        ),
    ] = ""
    synthetic: Annotated[
        str,
        Help(
            "synthetic images ('skinkit synthesise') as further training rows of their fold, of a network that reads "
            "the photo alone; none: leave out those it was trained on",
            identity=False,
            metavar="NAME",
        ),
    ] = ""
    teacher: Annotated[
        str,
        Help(
            "trained classifier whose answers a network learns, each fold from the same fold",
            if_given=True,
            metavar="NAME",
        ),
    ] = ""
    members: Annotated[
        tuple[str, ...],
        Help(
            "trained classifiers whose answers the model reads (late_fusion, ensemble); each fold learns their weights "
            "from half of its validation rows, which they have not learnt from",
            if_given=True,
            metavar="NAME[,NAME]",
        ),
    ] = ()
    objective: Annotated[
        str,
        Help(
            "loss that trains a network in place of its own: distillation (the default with --teacher), "
            "supervised_contrastive, contrastive or masked; --settings objective.NAME=VALUE",
            if_given=True,
            metavar="NAME",
        ),
    ] = ""
    settings: Annotated[
        tuple[str, ...],
        Help(
            "model setting, repeatable, such as recipe.epochs=5; overrides the preset",
            metavar="NAME=VALUE",
        ),
    ] = ()
    classes: Annotated[str, f"{CLASS_SET_HELP} (default: the workspace's)"] = ""
    malignant: Annotated[str, "malignant set: pad or wang (default: the class set's own)"] = ""
    tasks: Annotated[
        tuple[str, ...],
        Help(
            "further tasks beside the diagnosis, of a model that answers several: such as pigment_network,streaks; "
            "seven_point: every criterion of the checklist; or [tasks.NAME] of the class-set file; diagnosis: none",
            identity=False,
            metavar="NAME[,NAME]",
        ),
    ] = ()
    veto: Annotated[
        float | str,
        "malignancy at or above which a lesion is called malignant, 0 to 1; or a rule that chooses it on the "
        "validation rows: sensitivity=SHARE, specificity=SHARE or youden",
    ] = 0.3
    attributes: Annotated[
        Literal["auto", "pad81", "pad45", "pad17", "isic", "isic_ordinal", "derm7pt", "derm7pt_leaky", "none"],
        "encoder of the metadata; auto: derm7pt for that data set, pad81 where a development case has a PAD attribute, "
        "else isic",
    ] = "auto"
    missing: Annotated[
        Literal["auto", "zeros", "indicator", "median"],
        "how an unknown attribute is written: zeros (a category as all zeros, a number as the encoder's fill), "
        "indicator (beside that a column that says so) or median (a number as the training median, a category as one "
        "of its own); auto: the model's default",
    ] = "auto"
    radiomics: Annotated[
        Literal["auto", "none", "signature", "all"], "radiomic features of the model; auto: the model's default"
    ] = "auto"
    split: Annotated[
        str, "name of the split (default: the workspace's; masks for a segmenter, all for a pretraining)"
    ] = ""
    cohorts: Annotated[
        tuple[str, ...],
        Help(
            "development cohorts to learn from (default: all); the others' held-out cases are still scored",
            identity=False,
            metavar="NAME[,NAME]",
        ),
    ] = ()
    share: Annotated[
        float,
        Help(
            "share of the training patients that a classifier learns from, drawn by --seed; validation rows stay",
            if_given=True,
            rare=True,
        ),
    ] = 1.0
    replay: Annotated[
        float,
        Help(
            "with --weights model:NAME of a classifier: share of an epoch's draws that come from its cohorts",
            identity=False,
            metavar="SHARE",
        ),
    ] = 0.0
    fused: Annotated[str, "name of the fused tables (default: the workspace's segmenter)"] = ""
    folds: Annotated[int, Help("required number of folds of the split; 0: any", identity=False)] = 0
    refit: Annotated[
        bool,
        "after calibration, fit once more: frozen_probe and ensemble on training and validation rows; with one fold, "
        "networks with final_epochs on all rows, for other cohorts",
    ] = True
    calibration: Annotated[
        Literal["temperature", "isotonic"],
        "calibration of the probabilities, fitted on the validation rows; isotonic maps come on top of a temperature",
    ] = "temperature"
    coverage: Annotated[float, Help("target coverage of prediction sets, 0.5 to 1", rare=True)] = 0.9
    seed: Annotated[int, "seed of the model"] = 0
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Help("arithmetic of a network; auto: bf16 where it is measured faster", identity=False, rare=True),
    ] = "auto"
    devices: Annotated[int, Help("number of GPUs of each machine", identity=False, rare=True)] = 1
    nodes: Annotated[
        int,
        Help("number of machines, of which torchrun or srun has started a process per GPU", identity=False, rare=True),
    ] = 1
    cache_mib: Annotated[
        int, Help("memory for decoded photos while a network is trained, MiB", identity=False, rare=True)
    ] = 2048
    replace: Annotated[bool, Help("replace a model of this name that has another configuration", identity=False)] = (
        False
    )
    allow_leakage: Annotated[str, ALLOW_LEAKAGE] = ""
    allow_untrained: Annotated[
        str,
        Help(
            "reason for keeping a classifier whose validation cases do not show that it has learnt anything; printed "
            "first in the report and on every card",
            identity=False,
            metavar="REASON",
        ),
    ] = ""


def kind_of(config: Config) -> type[Estimator | Generator | Network]:
    """The class that ``--model`` names."""
    from skinkit.models import trainable

    return trainable(config.model)


def learnt_cohorts(config: Config, workspace: Workspace) -> list[str]:
    """The development cohorts whose cases are trained on."""
    return [name for name in workspace.with_role("development") if name in config.cohorts or not config.cohorts]


def earlier_model(config: Config, workspace: Workspace) -> Mapping[str, Any] | None:
    """``model.json`` of the classifier that a second training starts from; None for other weights, or while absent."""
    path = workspace.path(Ref("models", name=model_named(config.weights)))
    if not model_named(config.weights) or not exists(path):
        return None
    about: Mapping[str, Any] = open_artifact(path).json("model.json")
    return about if trained_further(about) else None


def replayed_cohorts(config: Config, workspace: Workspace) -> list[str]:
    """The cohorts of the classifier it starts from that are replayed; none without ``--replay``.

    Raises:
        ConfigError: nothing there to replay, or no share.
    """
    if not config.replay:
        return []
    asked = f"--replay {config.replay:g}"
    if not 0 < config.replay < 1:
        raise ConfigError(asked, "a share above 0 and below 1", "0.3 draws three of ten cases from earlier cohorts")
    about = earlier_model(config, workspace)
    if about is None:
        weights = f"--weights {config.weights}" if config.weights else "no --weights"
        raise ConfigError(
            f"{asked} with {weights}", "--weights model:NAME of a classifier, whose cohorts are replayed",
            "name the model of the first training, or leave --replay out",
        )  # fmt: skip
    own = learnt_cohorts(config, workspace)
    again = [name for name in lineage(about) if name not in own]
    lost = [name for name in again if name not in workspace.with_role("development")]
    if not again or lost:
        raise ConfigError(
            f"{asked} of {config.weights}, whose cohorts are {listed(lineage(about))}",
            "development cohorts that this training does not learn from itself",
            "name the cohorts of this training with --cohorts"
            if not lost
            else f"bring {listed(lost)} back as development",
        )
    return again


def absent_classes(config: Config, workspace: Workspace) -> dict[str, list[str]]:
    """Cohort -> the classes that it cannot have, though another of the model's cohorts can, in order.

    Its cohorts are also those of the classifier that it starts from. A class that no cohort can have stays in every
    loss: it is learnt that it never occurs.
    """
    from skinkit.data import diagnoses_of

    classes = class_set(config.classes, config.malignant, workspace.root)
    before = lineage(about) if (about := earlier_model(config, workspace)) is not None else ()
    mine = [*learnt_cohorts(config, workspace), *replayed_cohorts(config, workspace)]
    cohorts = [workspace.cohort(name) for name in dict.fromkeys([*mine, *before]) if name in workspace.cohorts]
    absent = _impossible(classes, [(cohort.name, diagnoses_of(cohort)) for cohort in cohorts])
    return {name: codes for name, codes in absent.items() if name in mine}


def _impossible(classes: ClassSet, cohorts: Sequence[tuple[str, frozenset[str] | None]]) -> dict[str, list[str]]:
    """Cohort -> the classes of which it can have no diagnosis, though another cohort can."""
    can = {
        name: {code for diagnosis, code in classes.members.items() if diagnoses is None or diagnosis in diagnoses}
        for name, diagnoses in cohorts
    }
    learnt = set().union(*can.values())
    absent = {name: [code for code in classes.classes if code in learnt - mine] for name, mine in can.items()}
    return {name: codes for name, codes in absent.items() if codes}


def all_settings(config: Config) -> dict[str, Any]:
    """Every setting of the model and of the objective, those of the preset and defaults too."""
    objective = named_objective(config)
    return {**asdict(model_settings(config)), **({OBJECTIVE: asdict(objective)} if objective is not None else {})}


def settings_made_from(config: Config) -> dict[str, Any]:
    """Those of :func:`all_settings` that a trained model's identity counts (``skinkit.options.settings_identity``)."""
    objective = named_objective(config)
    own = settings_identity(model_settings(config))
    return {**own, **({OBJECTIVE: settings_identity(objective)} if objective is not None else {})}


def model_settings(config: Config) -> Any:
    """The model's settings: preset, ``--settings`` and defaults."""
    from skinkit.models import model_config

    own = [text for text in config.settings if not (config.objective and _of_objective(text))]
    return model_config(kind_of(config), own, preset=config.preset)


def named_objective(config: Config) -> Objective | None:
    """What ``--objective`` names, with its settings; None where the network's own counts."""
    from skinkit.models import parsed_settings
    from skinkit.models.parts.objectives import objective_of

    if not config.objective:
        return None
    texts = [text.strip().removeprefix(f"{OBJECTIVE}.") for text in config.settings if _of_objective(text)]
    return objective_of(config.objective, parsed_settings(texts, f"--settings {OBJECTIVE}"))


def _of_objective(text: str) -> bool:
    return text.strip().startswith(f"{OBJECTIVE}.")


def weights_finder(config: Config, workspace: Workspace) -> Callable[[], Start] | None:
    """A function that finds the weights file, or None where the model reads none, or those of a pretraining."""
    if model_named(config.weights):
        return None
    model = kind_of(config)
    settings = model_settings(config)
    default = model.default_weights(settings)
    of_elsewhere = config.weights and model.TASK == "pretrain"  # it starts from random numbers where none are named
    if not default and not of_elsewhere:
        if config.weights and not (config.weights == RANDOM and issubclass(model, Network)):
            raise ConfigError(
                f"--weights {config.weights} for {config.model}", "a model that reads weights", "leave --weights out"
            )
        return None
    # In skinkit.toml a path is meant from there, on the command line from where one stands.
    chosen = _from_here(config.weights, workspace)
    parts = model.WEIGHTS_OF if issubclass(model, Network) else ()

    def find() -> Start:
        never_trained = issubclass(model, Network) and not model.may_start_at_random(settings)
        if never_trained and (config.weights == RANDOM or not (chosen or default in PUBLIC)):
            raise (ConfigError if config.weights else InputError)(
                f"{f'--weights {RANDOM}' if config.weights else 'no --weights'} for {config.model}",
                f"weights of {default}, which is not trained here",
                "give --weights PATH" + (f", or {','.join(part.upper() for part in parts)} as files" if parts else ""),
            )
        if config.weights == RANDOM:
            if not issubclass(model, Network):
                raise ConfigError(
                    f"--weights {RANDOM} for {config.model}",
                    "pretrained weights: it trains no network",
                    "give --weights PATH",
                )
            return Start(None, RANDOM, None)
        try:
            files = [_from_here(name.strip(), workspace) for name in chosen.split(",")]
            if len(files) > 1 and not Path(chosen).expanduser().is_file():
                return in_parts(files, parts)
            path = locate(chosen, default)
        except InputError as error:
            other = None if chosen else preset_without(model, default)
            or_else = f"; or --preset {other[0]}, which starts from {other[1]}, installed" if other else ""
            if not (chosen or other) and can_start_from_lite(model):
                or_else = f"; or --settings backbone={LITE}, whose weights are installed"
            raise InputError(error.found, error.expected, error.fix + or_else) from None
        return Start(path, path.name, file_sha256(path), package=package_of(path))

    return find


def _from_here(name: str, workspace: Workspace) -> str:
    """A path that ``--weights`` names, from the workspace where it is not there from here."""
    beside = workspace.root / name
    return str(beside) if name and beside.is_file() and not Path(name).is_file() else name
