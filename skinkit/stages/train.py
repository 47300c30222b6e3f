"""train: fused cases + split -> a classifier, or cases + split -> a segmenter, a pretraining or a generator.

Everything that is fitted is fitted per fold and lies in the fold's folder: encoder and imputer, scalers, signature and
model on the training rows; calibration temperature and Youden thresholds on the validation rows. A model that needs no
validation rows to know when to stop is then fitted once more on both (--no-refit leaves that out). Held-out rows are
not used. An external cohort is later scored with that copy, never refitted. A killed run resumes at the next fold, a
network at its next epoch.

Where there is one fold, a network whose settings say so (``final_epochs``, as in the preset ``quick`` of derma_calibra)
is trained a second time, from the beginning and on all rows, with the calibration and thresholds of the fold. That one
answers for other cohorts alone; the held-out rows are scored by the fold's, which has learnt from fewer cases, so that
its figures are on the cautious side.

A generator learns from the photos and classes of a fold's training rows alone; ``skinkit synthesise`` lets it write
images. A pretraining learns from photos alone, labelled or not, and gives a backbone. ``--weights model:NAME`` starts a
network from it, each fold from the same fold; what that fold validates on or holds out, the pretraining may not have
learnt from. ``--teacher NAME`` lets a network learn the answers of a trained classifier for its training rows, and
``--synthetic NAME`` adds the images of a generator to the training rows of their fold, under the same rule; they enter
neither validation, calibration nor novelty.

A classifier whose validation rows show that it has learnt nothing, or are too few to show anything, is refused, unless
--allow-untrained gives a reason.

Models are frozen: one that exists is replaced by another configuration only with --replace.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.artifacts.artifact import Artifact, ArtifactRecipe, exists, open_artifact
from skinkit.artifacts.files import digest
from skinkit.artifacts.files import write_atomic as write
from skinkit.errors import ConfigError, InputError, RefusedError, listed
from skinkit.learning.precision import BEGUN
from skinkit.models.parts import protocol
from skinkit.models.parts.protocol import Estimator, Network
from skinkit.models.parts.weights import RANDOM, model_named
from skinkit.options import flat, identity_of, options_of
from skinkit.schemas import (
    LEARNT,
    LEARNT_BEFORE,
    LEARNT_LABEL,
    MODEL,
    REPLAYED,
    TRAINED_ON,
    TRAINED_ON_FILE,
    UNTRAINED,
    UNUSED,
)
from skinkit.stages import Job, Sources, select
from skinkit.stages.split import ALL, MASKS
from skinkit.stages.training.classifier import classifier
from skinkit.stages.training.config import (
    NO_IMAGES,
    OBJECTIVE,
    Config,
    absent_classes,
    all_settings,
    earlier_model,
    kind_of,
    learnt_cohorts,
    model_settings,
    named_objective,
    replayed_cohorts,
    settings_made_from,
    weights_finder,
)
from skinkit.stages.training.work import Work, generator, pretraining, segmenter
from skinkit.stats import thresholds
from skinkit.studies.protocols import HALF, LEFT_OUT_FILE
from skinkit.taxonomy import ClassSet, class_set, tasks_of
from skinkit.workspace import SETTINGS_FILE, Ref, Workspace, check_name

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.audit.leakage import ComparedPhotos
    from skinkit.learning.rows import DevelopmentRows
    from skinkit.learning.synthetic import SyntheticImages
    from skinkit.learning.untrained import Untrained

VERSION = 8
SCHEMA = MODEL


def company(config: Config, device: str) -> contextlib.AbstractContextManager[bool]:
    """The processes that torchrun or Slurm started for this training; see :mod:`skinkit.learning.processes`."""
    for flag, n in (("--nodes", config.nodes), ("--devices", config.devices)):
        if n < 1:
            raise ConfigError(f"{flag} {n}", "1 or more", "leave the option out")
    if config.nodes == 1 and "RANK" not in os.environ:
        return contextlib.nullcontext(True)
    from skinkit.learning import processes
    from skinkit.learning.precision import pick_device

    return processes.company(config.devices, config.nodes, pick_device(device))


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One model, learnt from all development cohorts or from those that ``--cohorts`` names."""
    name = name or config.model or workspace.defaults["model"]
    check_name(name, "name of the model")
    development = workspace.development(cohorts, "a model", "give --cohorts A,B to learn from some of them")
    target = Ref("models", name=name)
    _refuse_installed(config, target, workspace)
    return [target] if development else []


def _refuse_installed(config: Config, target: Ref, workspace: Workspace) -> None:
    """An installed model is frozen: nothing learnt here takes its name unasked."""
    path = workspace.path(target)
    if exists(path) and open_artifact(path).installed and not config.replace:
        raise RefusedError(
            f"the model at {path} was installed from a pack",
            "a name that is free",
            f"give --name {target.name}_2 to keep both, or --replace to train one in its place",
        )


def resolve(config: Config, target: Ref, workspace: Workspace) -> Config:
    """Fill in what the workspace and the model decide. A model called after a registered one is that one.

    A model that is there is trained anew as what it is: its kind, the pretraining that it started from, its cohorts and
    its further tasks, where nothing else is given; ``--tasks diagnosis`` leaves these out.
    """
    from skinkit.models import is_registered, trainable

    recorded = _recorded(target, workspace)
    own = target.name if is_registered(target.name) else _usual_kind(workspace)
    name = config.model or str(recorded.get("kind") or own)
    model = trainable(name)
    cohorts = _checked_cohorts(config, recorded.get("cohorts") or (), workspace)
    if not config.weights:
        again = config.replay or float(recorded.get("replay") or 0.0)
        config = replace(config, weights=str(recorded.get("weights") or ""), replay=again)
    synthetic = config.synthetic or str(recorded.get("synthetic") or "")
    synthetic = "" if synthetic == NO_IMAGES else synthetic
    config = replace(config, model=name, cohorts=cohorts, synthetic=synthetic)
    if config.missing == "auto":
        first = model_named(config.weights)
        before = recorded if recorded.get("kind") == name else {}
        before = before or (_recorded(Ref("models", name=first), workspace) if first else {})
        config = replace(config, missing=before.get("missing") or model.MISSING)
    if config.teacher and not config.objective and protocol.TEACHER not in model.READS:
        config = replace(config, objective="distillation")
    _check_objective(config)
    _check_synthetic_share(config)
    classes = config.classes or workspace.defaults["classes"]
    tasks = tuple(tasks_of(config.tasks or recorded.get("tasks", ()), classes, workspace.root))
    if tasks and not model.TASKS:
        raise ConfigError(
            f"--tasks {','.join(tasks)} for {name}",
            "a model that answers several tasks",
            "leave --tasks out, or choose another model",
        )
    if model.LABELLED:
        config = replace(config, classes=classes, malignant=config.malignant or workspace.defaults["malignant"])
    if model.TASK in ("segment", "pretrain"):
        return replace(config, split=config.split or (MASKS if model.TASK == "segment" else ALL))
    config = replace(config, classes=classes, malignant=config.malignant or workspace.defaults["malignant"])
    if model.TASK == "generate":
        return replace(config, split=config.split or workspace.defaults["split"])
    return replace(
        config,
        tasks=tasks,
        radiomics=model.RADIOMICS if config.radiomics == "auto" else config.radiomics,
        split=config.split or workspace.defaults["split"],
        fused=config.fused or workspace.defaults["segmenter"],
    )


def _usual_kind(workspace: Workspace) -> str:
    """The kind of the workspace's model, which may be named by its kind or be a trained model."""
    usual = workspace.defaults["model"]
    return str(_recorded(Ref("models", name=usual), workspace).get("kind") or usual)


def _recorded(target: Ref, workspace: Workspace) -> Mapping[str, Any]:
    """What a target that was trained here remembers for training it again: its kind, weights, cohorts and the like."""
    path = workspace.path(target)
    if not exists(path) or (artifact := open_artifact(path)).installed:
        return {}
    kind = artifact.config.get("model")
    about = artifact.json("model.json")
    encoded = {"missing": about.get("missing", "zeros")} if about.get("attributes") else {}
    return {**artifact.info, "kind": kind, "tasks": tuple(about.get("tasks") or ()), **encoded}


def _checked_cohorts(config: Config, recorded: Sequence[str], workspace: Workspace) -> tuple[str, ...]:
    """The cohorts that are named, here or when the model was trained, in the workspace's order; empty for all.

    Raises:
        ConfigError: an unknown cohort, or one without labels.
        RefusedError: an external cohort, which is there to be scored.
    """
    development = workspace.with_role("development")
    for name in config.cohorts:
        role = workspace.cohort(name).role
        if role != "development":
            raise (RefusedError if role == "external" else ConfigError)(
                f"--cohorts {name}, which has the role {role}",
                f"development cohorts: {listed(development)}",
                f"leave it out, or change its role in {SETTINGS_FILE}",
            )
    named = config.cohorts or recorded
    return tuple(name for name in development if name in named)


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The split, and of every cohort trained on the fused table, or for other models than classifiers the cases.

    A classifier that reads a signature needs that too, and a network that starts from a pretraining that model.
    """
    split = Ref("split", name=config.split)
    _check_folds(config, split, workspace)
    cohorts = learnt_cohorts(config, workspace)
    inputs = {}
    if name := model_named(config.weights):  # first, so that one that is not there is missed before any work
        _check_starts(config, name, target)
        inputs["weights"] = Ref("models", name=name)
    if config.teacher:
        _check_other(config.teacher, target, f"--teacher {config.teacher}")
        inputs["teacher"] = Ref("models", name=config.teacher)
    for member in config.members:
        _check_other(member, target, f"--members {','.join(config.members)}")
        inputs[f"members/{member}"] = Ref("models", name=member)
    if config.synthetic:
        inputs["synthetic"] = _images(config, workspace)
    inputs["split"] = split
    if kind_of(config).TASK != "classify":
        return {**inputs, **{f"cases/{cohort}": Ref("cases", cohort) for cohort in cohorts}}
    if not name or exists(workspace.path(Ref("models", name=name))):
        inputs |= {
            f"fused/{cohort}": Ref("fused", cohort, config.fused) for cohort in replayed_cohorts(config, workspace)
        }
    inputs |= {f"fused/{cohort}": Ref("fused", cohort, config.fused) for cohort in cohorts}
    if config.radiomics == "signature" and earlier_model(config, workspace) is None:
        inputs["signature"] = Ref("signature", name=select.name_of(config.split, config.fused, cohorts, workspace))
    return inputs


def _images(config: Config, workspace: Workspace) -> Ref:
    """The synthetic images of ``--synthetic``.

    Raises:
        ConfigError: the model reads what they lack.
        InputError: there are none of that name, nor a generator that would write them.
    """
    model, images = kind_of(config), Ref("synthetic", name=config.synthetic)
    lacking = [name for name in model.READS if name != "image"]
    if config.attributes == "none" and "attributes" in lacking:
        lacking.remove("attributes")
    if model.TASK not in ("classify", "pretrain") or not issubclass(model, Network) or lacking:
        reads = f", which reads {listed(lacking)}" if lacking else ""
        fix = (
            "give --attributes none" if lacking == ["attributes"] else "give --synthetic none, or choose another model"
        )
        raise ConfigError(
            f"--synthetic {config.synthetic} for {config.model}{reads}",
            "a network that classifies or pretrains and reads the photo alone: nothing else is known of an image, "
            "and what is unknown would give its class away",
            fix,
        )
    if not any(exists(workspace.path(ref)) for ref in (images, Ref("models", name=config.synthetic))):
        raise InputError(
            f"no synthetic images {config.synthetic!r} in {workspace.root}",
            "images of a trained generator",
            f"run 'skinkit synthesise --model GENERATOR --name {config.synthetic}'",
        )
    return images


def _check_starts(config: Config, name: str, target: Ref) -> None:
    """Refuse a pretraining for what trains no network, and a model that is to start from itself."""
    if not issubclass(kind_of(config), Network):
        raise ConfigError(
            f"--weights {config.weights} for {config.model}",
            "a network: this model reads the same weights in every fold",
            "give --weights PATH, or train a network from the pretraining",
        )
    _check_other(name, target, f"--weights {config.weights}")


def _check_other(name: str, target: Ref, what: str) -> None:
    """Refuse a model that is to be made from itself."""
    if name == target.name:
        raise ConfigError(
            f"{what} for the model {target.name}",
            "another model",
            f"give --name {name}_2 to train one that is made from {name}",
        )


def _check_objective(config: Config) -> None:
    """Refuse a teacher or an objective for a model that cannot be trained with it."""
    model, objective = kind_of(config), named_objective(config)
    network = issubclass(model, Network)
    reads = protocol.MEMBERS in model.READS
    may = reads or (issubclass(model, Estimator) and model.JOINS)
    least = 2 if reads else 1
    if (reads and not config.members) or (
        config.members and not (may and len(set(config.members)) == max(least, len(config.members)))
    ):
        expected = "two or more" if reads else "one or more, each once,"
        raise ConfigError(
            f"{'--members ' + ','.join(config.members) if config.members else 'no --members'} for {config.model}",
            f"{expected} trained classifiers"
            if may
            else "a model that reads the answers of others: ensemble, late_fusion",
            "give --members A,B" if may else "leave --members out, or give --model ensemble",
        )
    if config.teacher and not (network and model.TASK == "classify"):
        raise ConfigError(
            f"--teacher {config.teacher} for {config.model}", "a network that classifies", "leave --teacher out"
        )
    if objective is None:
        return
    if not network or model.TASK != objective.TASK:
        raise ConfigError(
            f"--objective {config.objective} for {config.model}",
            f"a network whose task is {objective.TASK}",
            "leave --objective out, or choose another one",
        )
    if protocol.TEACHER in objective.BESIDE and not config.teacher:
        raise ConfigError(
            f"--objective {config.objective} without a teacher", "--teacher NAME, a trained classifier", "give it"
        )
    if protocol.TEACHER in objective.BESIDE and issubclass(model, Network) and model.mixed(model_settings(config)):
        raise ConfigError(
            f"a teacher for {config.model}, which mixes photos, while the teacher answers for photos as they are",
            "photos as they are",
            "give --settings mixup=0",
        )


def _check_synthetic_share(config: Config) -> None:
    """Refuse a share of images that there are none of, or beside a replay, which says otherwise what is drawn."""
    share = all_settings(config).get("recipe", {}).get("synthetic_share", 0.0)
    if share and (config.replay or not config.synthetic):
        raise ConfigError(
            f"recipe.synthetic_share = {share:g} " + ("with --replay" if config.replay else "without --synthetic"),
            "synthetic images, and one share of the draws",
            "give --synthetic NAME and leave --replay out, or leave the setting out",
        )


def _check_folds(config: Config, split: Ref, workspace: Workspace) -> None:
    """Refuse, before any work, a number of folds that the split has not."""
    path = workspace.path(split)
    recorded = open_artifact(path).info.get("folds", 1) if exists(path) else 1
    n_folds = workspace.settings.get("split", {}).get("folds", recorded)
    if config.folds and config.folds != n_folds:
        raise ConfigError(
            f"--folds {config.folds}, but the split {split.name!r} has {n_folds}",
            "a split with as many folds",
            f"run 'skinkit split --folds {config.folds}' first; for a second split with --name "
            f"{split.name}_{config.folds}, and here with --split {split.name}_{config.folds}",
        )


def sources(config: Config, target: Ref, workspace: Workspace) -> Sources:
    """The class set, the model's settings with its defaults, and the pretrained weights, by content."""
    inputs = {"settings": digest(settings_made_from(config))}
    if kind_of(config).TASK in ("classify", "generate") or kind_of(config).LABELLED:
        inputs["classes"] = digest(class_set(config.classes, config.malignant, workspace.root).as_dict())
        inputs |= {"replay": repr(config.replay)} if config.replay else {}
        absent = absent_classes(config, workspace) if kind_of(config).MASKS_CLASSES else {}
        inputs |= {"absent_classes": digest(absent)} if absent else {}
    if tasks := tasks_of(config.tasks, config.classes, workspace.root):
        inputs["tasks"] = digest({name: of.as_dict() for name, of in tasks.items()})
    weights = weights_finder(config, workspace)
    if weights is not None:
        try:
            inputs["weights"] = weights().sha256 or RANDOM
        except InputError:
            # A model that is there has its weights inside; asking whether it is up to date needs no other copy.
            path = workspace.path(target)
            if config.weights or not exists(path):
                raise
            inputs["weights"] = str(open_artifact(path).json("model.json")["weights"]["sha256"] or RANDOM)
    return Sources(inputs, watch="")


def guard(config: Config, artifact: Artifact, recipe: ArtifactRecipe) -> None:
    """Refuse to replace a model of another configuration without --replace."""
    from skinkit.models import present_settings

    if config.replace:
        return
    old, new = artifact.recipe, recipe.as_dict()
    about = artifact.json("model.json")
    defaults = {option.name: option.default for option in options_of(Config)}
    # An option that is newer than the model had its default; unknown attributes were written as zeros.
    before = {**identity_of(Config()), "missing": "zeros", **old["config"]}
    names = [name for name in {**new["config"], **before} if name in defaults and name != "settings"]
    pairs = {name: tuple(of.get(name, defaults[name]) for of in (before, new["config"])) for name in names}
    if old["config"].get("model") == config.model:
        model = kind_of(config)
        had = {**flat(asdict(model.CONFIG())), **flat(present_settings(model, about["settings"]))}
        if (objective := named_objective(config)) is not None:  # its settings are recorded where they are no defaults
            recorded = (about.get(OBJECTIVE) or {}).get("settings")
            had |= flat({OBJECTIVE: {**asdict(type(objective)()), **recorded} if recorded is not None else {}})
        pairs |= {name: (had.get(name), value) for name, value in flat(all_settings(config)).items()}
    differences = [f"{name} {was!r} instead of {value!r}" for name, (was, value) in pairs.items() if was != value]
    differences += [
        f"other {key}"
        for key in ("weights", "teacher", "classes", "tasks", "replay")
        if old["inputs"].get(key) != new["inputs"].get(key)
    ]
    images = str((about.get("synthetic") or {}).get("name") or NO_IMAGES)
    if images != (config.synthetic or NO_IMAGES):
        differences.append(f"synthetic images {config.synthetic or NO_IMAGES} instead of {images}")
    if config.cohorts and sorted(config.cohorts) != sorted(about.get("cohorts", [])):
        differences.append(f"cohorts {','.join(about['cohorts'])} instead of {','.join(config.cohorts)}")
    if differences:
        raise RefusedError(
            f"the model at {artifact.path} has another configuration ({'; '.join(differences)})",
            "the same configuration, or a name that is free",
            f"give --name {artifact.path.name}_2 to keep both, or --replace to train it anew in its place",
        )


def check_values(config: Config, workspace: Workspace) -> None:
    """Refuse a rule, a share or settings of the model that are wrong.

    Raises:
        ConfigError: naming the first one.
    """
    thresholds.parse(config.veto)
    if not 0.5 <= config.coverage < 1:
        raise ConfigError(f"--coverage {config.coverage}", "a share from 0.5 to below 1", "0.9 is the default")
    kind = config.model or _usual_kind(workspace)
    if not 0 < config.share <= 1 or (config.share < 1 and kind_of(replace(config, model=kind)).TASK != "classify"):
        raise ConfigError(
            f"--share {config.share:g} of {kind}",
            "above 0 to 1, of a classifier",
            "0.3 learns from three of ten patients",
        )
    if config.settings or config.preset:
        all_settings(replace(config, model=kind))


def check(config: Config, target: Ref, workspace: Workspace) -> None:
    """Refuse, before the inputs are made, settings that the model cannot be built with and weights that do not fit it.

    A model that is there was built once; it is checked again only where it is to be replaced.

    Raises:
        ConfigError: a setting out of range.
        InputError: the weights are missing, unreadable or of another network.
    """
    from skinkit.contract import Trial
    from skinkit.models.parts.weights import read_state

    if exists(workspace.path(target)) and not config.replace:
        return
    model, settings, find = kind_of(config), model_settings(config), weights_finder(config, workspace)
    start = find() if find is not None else None
    file = start.file if start is not None else None
    if issubclass(model, Network):
        network = Trial(model, settings).build()
        network.phases()
        if start is not None and file is not None:
            network.start(start.state(), start.name)
    elif file is not None and issubclass(model, Estimator):
        model.embedder(settings, read_state(file), file.name)


# ------------------------------------------------------------------------------------------------------ the work


def run(config: Config, job: Job) -> Artifact:
    """Train every fold."""
    from skinkit.audit import leakage
    from skinkit.learning import untrained
    from skinkit.learning.fold_network import BESIDE
    from skinkit.learning.trained import FINAL_FOLDER, FOLD
    from skinkit.reporting import model_card

    model, settings = kind_of(config), model_settings(config)
    leakage.refuse_unsettled_ids(job.workspace)
    with job.build() as build:
        work = _WORK[model.TASK](config, job, model, settings, build.partial)
        rows = work.rows
        again = replayed_cohorts(config, job.workspace)
        _check_covered(config, rows, again)
        for reason, n in rows.barred.items():
            job.console.warn(f"{n} development cases are not trained on: {reason}")
        allowed = config.allow_leakage or str(job.inputs["split"].info.get("allow_leakage") or "")
        split = job.inputs["split"].config
        near = {"near_distance_bits": split.get("near_bits", 4), "near_limit": split.get("near_limit", 0)}
        photos = leakage.photos_of(job.workspace, job.console)
        rows.refuse_leakage(allowed, near, photos)
        before = _learnt_before(job, work, model.TASK, allowed, near, photos)
        inputs = dict(job.sources.inputs) if job.sources else {}
        inputs |= {name: a.identity for name, a in job.inputs.items() if a.recipe["kind"] == "models"}
        prints = {(fold,): job.recipe.fingerprint(inputs, *work.made_from(fold)) for fold in rows.folds}
        todo = [key[0] for key in build.plan(prints, folders={(fold,): FOLD.format(fold) for fold in rows.folds})]
        _remove_others(build.partial, [fold for fold in rows.folds if fold not in todo])
        for fold in todo:
            job.console.info(f"  fold {fold}: training {config.model}")
            build.add(work.train(fold, build.partial / FOLD.format(fold)))
            _refuse_untrained(config, work, build.partial, [fold])
        unlearnt = _refuse_untrained(config, work, build.partial, rows.folds)
        if unlearnt is not None:
            job.console.warn(f"{job.target.name} {untrained.sentence(unlearnt)}")
        others = _others(job, rows, model.TASK)
        about = {
            "model": config.model,
            "task": model.TASK,
            "name": job.target.name,
            "settings": asdict(settings),
            "preset": config.preset or None,
            "split": {"name": config.split, "identity": job.inputs["split"].identity},
            "seed": config.seed,
            "leakage_allowed": allowed or None,
            **({UNTRAINED: unlearnt.as_dict()} if unlearnt is not None else {}),
            **work.about,
            **({"not_trained_on": unseen} if (unseen := sorted(set(others) - set(again))) else {}),
            "folds": [_of_fold(build.partial, FOLD.format(fold)) for fold in rows.folds],
        }
        if model.TASK == "classify":
            about |= thresholds.of_model(config.veto, about["folds"])
            if label_attributes := _label_attributes(about, rows, model, job):
                about["label_attributes"] = label_attributes
        write(build.partial / "model.json", json.dumps(about, indent=1, ensure_ascii=False).encode())
        _write_trained_on(build.partial, rows, job.inputs["split"], before, others, work.images)
        if LEFT_OUT_FILE in job.inputs["split"].manifest["files"]:
            write(build.partial / LEFT_OUT_FILE, job.inputs["split"].data(LEFT_OUT_FILE))
        frame = rows.frame.loc[rows.split["row"]].reset_index(drop=True)
        learnt = frame.assign(**{name: rows.split[name].to_numpy() for name in ("fold", "part")})
        model_card.write(build.partial, about, [build.rows[(fold,)] for fold in rows.folds], learnt, model)
        folders = [FOLD.format(fold) for fold in rows.folds]
        beside = [
            f"{folder}/{inner}{name}" for folder in folders for inner in ("", f"{FINAL_FOLDER}/") for name in BESIDE
        ]
        beside += model_card.FILES
        (build.partial / BEGUN).unlink(missing_ok=True)
        info: dict[str, Any] = {"barred": dict(rows.barred), "leakage_allowed": allowed or None}
        info |= {"weights": config.weights} if "weights" in job.inputs else {}  # for training it again
        info |= {"cohorts": list(config.cohorts)} if config.cohorts else {}
        info |= {"synthetic": config.synthetic, "note": work.images.note()} if work.images is not None else {}
        info |= {"replay": config.replay} if config.replay else {}
        return build.finish(info=info, beside=beside)


def _refuse_untrained(config: Config, work: Work, partial: Path, folds: Sequence[int]) -> Untrained | None:
    """What these folds have not learnt; refused without the reason that is to stand in the model.

    A fold that is refused stays in ``partial``: with the reason, or another split, the training goes on from it.

    Raises:
        RefusedError: a fold of a classifier has learnt nothing, and no reason was given.
    """
    from skinkit.learning import untrained
    from skinkit.learning.trained import FOLD

    if kind_of(config).TASK != "classify":
        return None
    about = {**work.about, "folds": [_of_fold(partial, FOLD.format(fold)) for fold in folds]}
    found = untrained.of_model(about)
    if found is None:
        return None
    untrained.refuse(found, config.model, config.coverage, config.allow_untrained)
    return replace(found, allowed=config.allow_untrained)


def _of_fold(partial: Path, folder: str) -> dict[str, Any]:
    """A fold's ``fold.json``."""
    about: dict[str, Any] = json.loads((partial / folder / "fold.json").read_text(encoding="utf-8"))
    return about


def _label_attributes(
    about: Mapping[str, Any], rows: DevelopmentRows, model: type[Any], job: Job
) -> list[dict[str, Any]]:
    """What the model reads that nearly is the label, among the rows that it learns from; each is warned of."""
    from skinkit.artifacts.files import json_values
    from skinkit.audit import label_attributes
    from skinkit.stats.encoders import ENCODERS, LEAKY

    reads = {a.name: label_attributes.ATTRIBUTE for a in ENCODERS[about["attributes"]] if "attributes" in model.READS}
    measured = about["radiomics"]["features"] or sorted({f for fold in about["folds"] for f in fold["signature"] or ()})
    reads |= dict.fromkeys(measured, label_attributes.FEATURE)
    learnt = sorted(set(rows.split.loc[rows.split["part"].isin(LEARNT), "row"]))
    frame = rows.frame.iloc[learnt].reset_index(drop=True)
    found = label_attributes.search(
        frame.assign(cluster=frame["group_id"]),
        ClassSet.from_dict(about["classes"]),
        {name: kind for name, kind in reads.items() if name in frame},
        most_pairs=label_attributes.FEW_PAIRS,
        most_triples=0,
    )
    named: list[dict[str, Any]] = json_values(found.worth_a_warning())
    said = found.warnings
    if about["attributes"] in LEAKY and "attributes" in model.READS:
        leaky = LEAKY[about["attributes"]]
        said = [f"--attributes {about['attributes']}: {leaky['sentence']}", *said]
        named.insert(0, {**leaky, "kind": label_attributes.ATTRIBUTE, "verdict": label_attributes.LABEL})
    for sentence in said:
        job.console.warn(sentence)
    return named


def _check_covered(config: Config, rows: DevelopmentRows, replayed: Sequence[str]) -> None:
    """Refuse a split that leaves a named or replayed cohort out."""
    covered = set(rows.frame["cohort"].iloc[rows.split["row"]])
    lacking = [name for name in (*config.cohorts, *replayed) if name not in covered]
    if lacking:
        raise InputError(
            f"the split {config.split!r} has no case of {listed(lacking)} to train on",
            "a split that covers every cohort that is trained on",
            "run 'skinkit split', which covers all development cohorts, or leave the cohort out",
        )


def _others(job: Job, rows: DevelopmentRows, task: str) -> list[str]:
    """The cohorts of a classifier's split that it does not learn from."""
    if task != "classify":
        return []
    own = rows.split.loc[rows.split["part"] != REPLAYED, "row"]
    return sorted(set(job.inputs["split"].table(["cohort"])["cohort"]) - set(rows.frame["cohort"].iloc[own]))


def _learnt_before(
    job: Job, work: Work, task: str, allowed: str, near: Mapping[str, int], photos: ComparedPhotos
) -> pd.DataFrame | None:
    """What the models and the generator that the model is made from learnt from, by part; None without one.

    A further pretraining may validate on it: the loss there is of no truth, and is reported nowhere.
    """
    import pandas as pd

    from skinkit.learning import fold_pretrain
    from skinkit.learning.rows import KEY

    tables = []
    if work.start is not None and "weights" in job.inputs:
        tables.append(fold_pretrain.learnt_before(job.inputs["weights"], work.rows.folds))
        unseen = ("held_out",) if task == "pretrain" else ("validation", "held_out")
        fold_pretrain.refuse_learnt_before(work.rows, tables[0], work.start, unseen, allowed, near, photos)
    for model in work.reads:
        taught = "teacher" in job.inputs and model.artifact is job.inputs["teacher"]
        model.refuse_leakage(work.rows.as_members_see_it(), allowed, near, photos, may_train=taught)
        tables.append(fold_pretrain.learnt_before(model.artifact, work.rows.folds))
    if work.images is not None:
        work.images.refuse_leakage(work.rows, job.inputs["split"], allowed, near, photos)
        tables.append(work.images.learnt)
    if not tables:
        return None
    before = pd.concat(tables, ignore_index=True).drop_duplicates(["fold", *KEY, "image_id"])
    split = job.inputs["split"]
    held = split.table(["fold", *KEY, "part"]).query("part == 'held_out'")
    both = held.merge(before[["fold", *KEY]].drop_duplicates(), on=["fold", *KEY])
    if task == "classify" and len(both) and not allowed:  # of cohorts whose rows are not among those of the work
        raise RefusedError(
            f"{len(both)} cases that a fold of the split {split.path.parent.name!r} holds out and the same fold of a "
            f"model that this one learns from has learnt: {listed(both['case_id'])}",
            "one split of both trainings",
            "train both over one split (--split, --replace)",
        )
    return before


_WORK: dict[str, Callable[[Config, Job, type[Any], Any, Path], Work]] = {
    "segment": segmenter,
    "classify": classifier,
    "pretrain": pretraining,
    "generate": generator,
}
"""Task -> how a model of it is trained."""


def _remove_others(partial: Path, unchanged: list[int]) -> None:
    """Remove the files of folds that are no more or are made anew."""
    from skinkit.learning.fold_network import CHECKPOINT
    from skinkit.learning.trained import FOLD

    names = {FOLD.format(fold) for fold in unchanged}
    for folder in partial.glob(FOLD.format("[0-9]*")):
        if folder.name not in names and not folder.name.endswith(CHECKPOINT):
            shutil.rmtree(folder)


def _write_trained_on(
    partial: Path,
    rows: DevelopmentRows,
    split: Artifact,
    before: pd.DataFrame | None,
    others: Sequence[str],
    images: SyntheticImages | None,
) -> None:
    """The cases of every part, synthetic images, and cases that only what the model is made from has learnt from.

    Of the split's cohorts that are not trained on (``others``) only keys are written: a fold may answer for what it
    holds out of them, as it would if it had learnt from the rest.
    """
    import pandas as pd

    from skinkit.artifacts.tables import write_table
    from skinkit.data.views import every_photo
    from skinkit.learning.rows import KEY

    divided_rows = rows.split[["fold", "part"]].reset_index(drop=True)
    table = every_photo(rows.frame.loc[rows.split["row"]].reset_index(drop=True).join(divided_rows))
    # The diagnosis it learnt, so that evaluate can say where the cohort has another one now; packs leave it out.
    table = table[[*TRAINED_ON.names, *(name for name in (LEARNT_LABEL,) if name in table)]]
    divided = split.table()
    if HALF in divided:
        table = table.merge(divided[["fold", *KEY, HALF]], on=["fold", *KEY], how="left", validate="many_to_one")
    if images is not None:
        table = pd.concat([table, images.trained_on()], ignore_index=True)
    photo, case = ["fold", *KEY, "image_id"], ["fold", *KEY]
    if before is not None:
        learnt = pd.MultiIndex.from_frame(table.loc[~table["part"].isin(("held_out", UNUSED)), photo])
        earlier = before[~pd.MultiIndex.from_frame(before[photo]).isin(learnt)].assign(part=LEARNT_BEFORE)
        again = pd.MultiIndex.from_frame(table[photo]).isin(pd.MultiIndex.from_frame(earlier[photo]))
        table = pd.concat([table[~again | (table["part"] != UNUSED)], earlier], ignore_index=True)
    if others:
        rest = divided[divided["cohort"].isin(others)]
        known = pd.MultiIndex.from_frame(rest[case]).isin(pd.MultiIndex.from_frame(table[case]))
        rest = rest.assign(part=rest["part"].where(rest["part"] == "held_out", UNUSED))
        rest = rest[~known | (rest["part"] == "held_out")]
        table = pd.concat([table, rest.reindex(columns=list(table))], ignore_index=True)
    write_table(partial / TRAINED_ON_FILE, TRAINED_ON, table)
