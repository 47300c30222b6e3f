"""train: fused cases + split -> a classifier, or cases + split -> a segmenter or a pretraining; fold by fold.

Everything that is fitted is fitted per fold and lies in the fold's folder: encoder and imputer, scalers, signature and
model on the training rows; calibration temperature and Youden thresholds on the validation rows. A model that needs no
validation rows to know when to stop is then fitted once more on both (--no-refit leaves that out). Held-out rows are
not looked at. An external cohort is later scored with that copy, never refitted. A killed run goes on at the next fold,
a network at its next epoch.

Where there is one fold, a network whose settings say so (``final_epochs``, as in the preset ``quick`` of derma_calibra)
is trained a second time, from the beginning and on all rows, with the calibration and thresholds of the fold. That one
answers for other cohorts alone; the held-out rows are scored by the fold's, which has learnt from fewer cases, so that
its figures are on the cautious side.

A pretraining learns from photos alone, labelled or not, and answers a backbone. ``--weights model:NAME`` starts a
network from it, each fold from the same fold; what that fold validates on or holds out, the pretraining may not have
learnt from.

Models are frozen: one that exists is replaced by another configuration only with --replace.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skinkit.artifacts.artifact import Artifact, Recipe, exists, open_artifact
from skinkit.artifacts.builder import Builder
from skinkit.artifacts.files import digest, file_sha256, link_or_copy
from skinkit.artifacts.files import write_atomic as write
from skinkit.errors import ConfigError, InputError, RefusedError, listed
from skinkit.models.parts.protocol import Estimator, Network
from skinkit.models.parts.weights import RANDOM, Start, locate, model_named
from skinkit.options import Help, flat, identity_of
from skinkit.schemas import MODEL, TRAINED_ON
from skinkit.stages import Job, Sources
from skinkit.stats import thresholds
from skinkit.studies.protocols import HALF, LEFT_OUT_FILE
from skinkit.taxonomy import class_set, tasks_of
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.learning.examples import Examples, Photo
    from skinkit.learning.fold_classifier import FoldInputs
    from skinkit.learning.fold_network import Training
    from skinkit.learning.rows import DevelopmentRows

VERSION = 6
SCHEMA = MODEL
MASKS_SPLIT = "masks"
"""Name of the split segmenters are trained on."""
ALL_SPLIT = "all"
"""Name of the split pretrainings are trained on."""


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
            "model's own, if downloaded), or model:NAME, a pretraining of this workspace; none: random initialisation",
            identity=False,
            metavar="PATH",
        ),
    ] = ""
    settings: Annotated[
        tuple[str, ...],
        Help(
            "model setting, repeatable, such as recipe.epochs=5; overrides the preset",
            metavar="NAME=VALUE",
        ),
    ] = ()
    classes: Annotated[
        str, "class set: pad6, wang8, wang4, isic2017, isic2018-7, malignancy or a TOML file (default: the workspace's)"
    ] = ""
    malignant: Annotated[str, "malignant set: pad or wang (default: the class set's own)"] = ""
    tasks: Annotated[
        tuple[str, ...],
        Help(
            "further tasks beside the diagnosis, of a model that answers several: such as pigment_network,streaks; "
            "seven_point: every criterion of the checklist; or [tasks.NAME] of the class-set file",
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
        Literal["auto", "pad81", "pad45", "isic", "isic_ordinal", "none"],
        "encoder of the metadata; auto: pad81 where a development case has a PAD attribute, else isic",
    ] = "auto"
    missing: Annotated[
        Literal["zeros", "indicator", "median"],
        "how an unknown attribute is written: zeros (a category as all zeros, a number as the encoder's fill), "
        "indicator (beside that a column that says so) or median (a number as the training median, a category as one "
        "of its own)",
    ] = "zeros"
    radiomics: Annotated[
        Literal["auto", "none", "signature", "all"], "radiomic features of the model; auto: the model's default"
    ] = "auto"
    split: Annotated[
        str, "name of the split (default: the workspace's; masks for a segmenter, all for a pretraining)"
    ] = ""
    fused: Annotated[str, "name of the fused tables (default: the workspace's segmenter)"] = ""
    folds: Annotated[int, Help("required number of folds of the split; 0: any", identity=False)] = 0
    refit: Annotated[
        bool,
        "after calibrating, fit once more: on training and validation rows what needs none to know when to stop "
        "(frozen_probe, the regressions inside derma_calibra), and with one fold on all rows, for other cohorts, "
        "networks with final_epochs",
    ] = True
    calibration: Annotated[
        Literal["temperature", "isotonic"],
        "what makes scores probabilities; both are fitted on the validation rows and kept, isotonic on top",
    ] = "temperature"
    coverage: Annotated[float, Help("target coverage of prediction sets, 0.5 to 1", rare=True)] = 0.9
    seed: Annotated[int, "seed of the model"] = 0
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Help(
            "arithmetic of a network; auto: bf16 where 'skinkit doctor' measures it faster", identity=False, rare=True
        ),
    ] = "auto"
    devices: Annotated[int, Help("number of GPUs", identity=False, rare=True)] = 1
    cache_mib: Annotated[
        int, Help("memory for decoded photos while a network is trained, MiB", identity=False, rare=True)
    ] = 2048
    replace: Annotated[bool, Help("replace a model of this name that has another configuration", identity=False)] = (
        False
    )
    allow_leakage: Annotated[
        str, Help("reason for training on a split with a patient, lesion or image on both sides", metavar="REASON")
    ] = ""


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One model, learnt from all development cohorts."""
    name = name or config.model or workspace.defaults["model"]
    check_name(name, "name of the model")
    development = workspace.development(cohorts, "a model")
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

    A model that started from a pretraining starts from it again where no other weights are given.
    """
    from skinkit.models import registered, trainable

    name = config.model or (target.name if target.name in registered() else workspace.defaults["model"])
    model = trainable(name)
    config = replace(config, model=name, weights=config.weights or _started_from(target, workspace))
    classes = config.classes or workspace.defaults["classes"]
    tasks = tuple(tasks_of(config.tasks, classes, workspace.root))
    if tasks and not model.TASKS:
        raise ConfigError(
            f"--tasks {','.join(tasks)} for {name}",
            "a model that answers several tasks",
            "leave --tasks out, or choose another model",
        )
    if model.TASK in ("segment", "pretrain"):
        return replace(config, split=config.split or (MASKS_SPLIT if model.TASK == "segment" else ALL_SPLIT))
    return replace(
        config,
        classes=classes,
        tasks=tasks,
        malignant=config.malignant or workspace.defaults["malignant"],
        radiomics=model.RADIOMICS if config.radiomics == "auto" else config.radiomics,
        split=config.split or workspace.defaults["split"],
        fused=config.fused or workspace.defaults["segmenter"],
    )


def _started_from(target: Ref, workspace: Workspace) -> str:
    """``model:NAME`` where the target is there, was trained here and started from a pretraining; else empty."""
    path = workspace.path(target)
    if not exists(path) or (artifact := open_artifact(path)).installed:
        return ""
    return str(artifact.info.get("weights") or "")


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The split, and of every development cohort the fused table, or for a segmenter or a pretraining the cases.

    A classifier that reads a signature needs that too, and a network that starts from a pretraining that model.
    """
    split = Ref("split", name=config.split)
    _check_folds(config, split, workspace)
    development = workspace.with_role("development")
    inputs = {}
    if name := model_named(config.weights):  # first, so that one that is not there is missed before any work
        _check_starts(config, name, target)
        inputs["weights"] = Ref("models", name=name)
    inputs["split"] = split
    if _model(config).TASK != "classify":
        return {**inputs, **{f"cases/{cohort}": Ref("cases", cohort) for cohort in development}}
    inputs |= {**{f"fused/{cohort}": Ref("fused", cohort, config.fused) for cohort in development}}
    if config.radiomics == "signature":
        inputs["signature"] = Ref("signature", name=f"{config.split}/{config.fused}")
    return inputs


def _check_starts(config: Config, name: str, target: Ref) -> None:
    """Refuse a pretraining for what trains no network, and a model that is to start from itself."""
    if not issubclass(_model(config), Network):
        raise ConfigError(
            f"--weights {config.weights} for {config.model}",
            "a network: this model reads the same weights in every fold",
            "give --weights PATH, or train a network from the pretraining",
        )
    if name == target.name:
        raise ConfigError(
            f"--weights {config.weights} for the model {target.name}",
            "another model to start from",
            f"give --name {name}_2 to train one that starts from {name}",
        )


def _model(config: Config) -> type[Estimator | Network]:
    from skinkit.models import trainable

    return trainable(config.model)


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
    inputs = {"settings": digest(_settings(config))}
    if _model(config).TASK == "classify":
        inputs["classes"] = digest(class_set(config.classes, config.malignant, workspace.root).as_dict())
    if tasks := tasks_of(config.tasks, config.classes, workspace.root):
        inputs["tasks"] = digest({name: of.as_dict() for name, of in tasks.items()})
    weights = _weights(config, workspace)
    if weights is not None:
        try:
            inputs["weights"] = weights().sha256 or RANDOM
        except InputError:
            # A model that is there has its weights inside; asking whether it is up to date needs no other copy.
            path = workspace.path(target)
            if config.weights or not exists(path):
                raise
            inputs["weights"] = str(open_artifact(path).json("model.json")["weights"]["sha256"])
    return Sources(inputs, watch="")


def guard(config: Config, artifact: Artifact, recipe: Recipe) -> None:
    """Refuse to replace a model of another configuration without --replace."""
    from skinkit.models import present_settings

    if config.replace:
        return
    old, new = artifact.recipe, recipe.as_dict()
    trained = artifact.json("model.json")["settings"]
    before = {**identity_of(Config()), **old["config"]}  # an option that is newer than the model had its default
    pairs = {name: (before.get(name), value) for name, value in new["config"].items() if name != "settings"}
    if old["config"].get("model") == config.model:
        model = _model(config)
        had = {**flat(asdict(model.CONFIG())), **flat(present_settings(model, trained))}
        pairs |= {name: (had.get(name), value) for name, value in flat(_settings(config)).items()}
    differences = [f"{name} {was!r} instead of {value!r}" for name, (was, value) in pairs.items() if was != value]
    differences += [
        f"other {key}" for key in ("weights", "classes", "tasks") if old["inputs"].get(key) != new["inputs"].get(key)
    ]
    if differences:
        raise RefusedError(
            f"the model at {artifact.path} has another configuration ({'; '.join(differences)})",
            "the same configuration, or a name that is free",
            f"give --name {artifact.path.name}_2 to keep both, or --replace to train it anew in its place",
        )


def _settings(config: Config) -> dict[str, Any]:
    """Every setting of the model, those of the preset and defaults too."""
    return asdict(_model_config(config))


def _model_config(config: Config) -> Any:
    from skinkit.models import model_config

    return model_config(_model(config), config.settings, preset=config.preset)


def _weights(config: Config, workspace: Workspace) -> Callable[[], Start] | None:
    """A function that finds the weights file, or None where the model reads none, or those of a pretraining."""
    if model_named(config.weights):
        return None
    model = _model(config)
    default = model.default_weights(_model_config(config))
    if not default:
        if config.weights and not (config.weights == RANDOM and issubclass(model, Network)):
            raise ConfigError(
                f"--weights {config.weights} for {config.model}", "a model that reads weights", "leave --weights out"
            )
        return None
    # In skinkit.toml a path is meant from there, on the command line from where one stands.
    beside = workspace.root / config.weights
    chosen = (
        str(beside) if config.weights and beside.is_file() and not Path(config.weights).is_file() else config.weights
    )

    def find() -> Start:
        if config.weights == RANDOM:
            if not issubclass(model, Network):
                raise ConfigError(
                    f"--weights {RANDOM} for {config.model}",
                    "pretrained weights: it trains no network",
                    "give --weights PATH",
                )
            return Start(None, RANDOM, None)
        path = locate(chosen, default)
        return Start(path, path.name, file_sha256(path))

    return find


# ------------------------------------------------------------------------------------------------------ the work


def run(config: Config, job: Job) -> Artifact:
    """Train every fold."""
    from skinkit.audit import leakage
    from skinkit.learning.fold_network import BESIDE
    from skinkit.learning.trained import FINAL_FOLDER, FOLD
    from skinkit.reporting import model_card

    thresholds.parse(config.veto)
    if not 0.5 <= config.coverage < 1:
        raise ConfigError(f"--coverage {config.coverage}", "a share from 0.5 to below 1", "0.9 is the default")
    model, settings = _model(config), _model_config(config)
    with job.build() as build:
        work = _WORK[model.TASK](config, job, model, settings, build.partial)
        rows = work.rows
        for reason, n in rows.barred.items():
            job.console.warn(f"{n} development cases are not trained on: {reason}")
        allowed = config.allow_leakage or str(job.inputs["split"].info.get("allow_leakage") or "")
        split = job.inputs["split"].config
        near = {"near_distance_bits": split.get("near_bits", 4), "near_limit": split.get("near_limit", 0)}
        rows.refuse_leakage(allowed, near, leakage.photos_of(job.workspace))
        before = _learnt_before(job, work, model.TASK, allowed, near)
        inputs = dict(job.sources.inputs) if job.sources else {}
        inputs |= {"weights": job.inputs["weights"].identity} if "weights" in job.inputs else {}
        prints = {(fold,): job.recipe.fingerprint(inputs, *work.made_from(fold)) for fold in rows.folds}
        todo = [key[0] for key in build.plan(prints)]
        _carry_over(build, job.workspace.path(job.target), [f for f in rows.folds if f not in todo])
        for fold in todo:
            job.console.info(f"  fold {fold}: training {config.model}")
            build.add(work.train(fold, build.partial / FOLD.format(fold)))
        about = {
            "model": config.model,
            "task": model.TASK,
            "name": job.target.name,
            "settings": asdict(settings),
            "preset": config.preset or None,
            "split": {"name": config.split, "identity": job.inputs["split"].identity},
            "seed": config.seed,
            "leakage_allowed": allowed or None,
            **work.about,
            "folds": [
                json.loads((build.partial / FOLD.format(f) / "fold.json").read_text(encoding="utf-8"))
                for f in rows.folds
            ],
        }
        if model.TASK == "classify":
            about |= thresholds.of_model(config.veto, about["folds"])
        write(build.partial / "model.json", json.dumps(about, indent=1, ensure_ascii=False).encode())
        _write_trained_on(build.partial, rows, job.inputs["split"], before)
        left_out = job.inputs["split"].path / LEFT_OUT_FILE
        if left_out.is_file():
            write(build.partial / LEFT_OUT_FILE, left_out.read_bytes())
        frame = rows.frame.loc[rows.split["row"]].reset_index(drop=True)
        learnt = frame.assign(**{name: rows.split[name].to_numpy() for name in ("fold", "part")})
        model_card.write(build.partial, about, [build.rows[(fold,)] for fold in rows.folds], learnt, model)
        folders = [FOLD.format(fold) for fold in rows.folds]
        beside = [
            f"{folder}/{inner}{name}" for folder in folders for inner in ("", f"{FINAL_FOLDER}/") for name in BESIDE
        ]
        beside += model_card.FILES
        info: dict[str, Any] = {"barred": dict(rows.barred), "leakage_allowed": allowed or None}
        info |= {"weights": config.weights} if before is not None else {}  # for training it again
        return build.finish(info=info, beside=beside)


@dataclass(frozen=True)
class Work:
    """What is to be trained.

    Attributes:
        rows: cases and split.
        made_from: fold -> what its files depend on.
        train: (fold, folder) -> its row of the model's table.
        about: what ``model.json`` says of this kind of model.
        start: what a network starts from.
    """

    rows: DevelopmentRows
    made_from: Callable[[int], list[Any]]
    train: Callable[[int, Path], dict[str, Any]]
    about: Mapping[str, Any]
    start: Start | None


def _training(config: Config, job: Job) -> Training:
    from skinkit.learning.fold_network import Training
    from skinkit.learning.precision import pick_device, precision_of

    device = pick_device(job.device)
    return Training(config.seed, device, precision_of(device, config.precision), config.devices, job.console)


def _photos(frame: pd.DataFrame, workspace: Workspace) -> list[Photo]:
    from skinkit.learning.examples import photos_of

    return photos_of(frame, [workspace.cohort(cohort).root for cohort in frame["cohort"]])


def _start(config: Config, job: Job) -> Start:
    from skinkit.learning import fold_pretrain

    if "weights" in job.inputs:
        return fold_pretrain.start_from(job.inputs["weights"], model_named(config.weights))
    find_weights = _weights(config, job.workspace)
    return find_weights() if find_weights is not None else Start(None, RANDOM, None)


def _segmenter(config: Config, job: Job, model: type[Any], settings: Any, partial: Path) -> Work:
    from skinkit.learning.examples import Examples
    from skinkit.learning.fold_segmenter import fit_segmenter
    from skinkit.learning.rows import of_kind, outlined

    start = _start(config, job)
    cases = of_kind(job.inputs, "cases")
    rows = outlined(cases, job.inputs["split"])

    def examples_of(frame: pd.DataFrame) -> Examples:
        truth = [
            job.workspace.cohort(cohort).root / file
            for cohort, file in zip(frame["cohort"], frame["truth_mask_path"], strict=True)
        ]
        return Examples(
            model.READS,
            settings.side_px,
            _photos(frame, job.workspace),
            truth_masks=truth,
            cache_bytes=config.cache_mib << 20,
        )

    rows, examples = _readable(rows, examples_of, job)
    training = _training(config, job)
    balanced = ["modality"] if settings.recipe.balanced and "modality" in rows.frame else []
    return Work(
        rows=rows,
        made_from=lambda fold: rows.content(fold, ["pixel_sha256", "truth_mask_sha256", *balanced]),
        train=lambda fold, folder: fit_segmenter(
            fold, rows, examples, model, settings, start.for_fold(fold), training, folder
        ),
        about={"weights": start.as_dict(), "precision": training.precision, "cohorts": list(cases)},
        start=start,
    )


def _pretraining(config: Config, job: Job, model: type[Any], settings: Any, partial: Path) -> Work:
    from skinkit.data import views
    from skinkit.learning.fold_pretrain import fit_pretraining
    from skinkit.learning.rows import of_kind, pictured

    start = _start(config, job)
    cases = of_kind(job.inputs, "cases")
    by_case = views.read_names(model.READS) != [views.IMAGE]
    rows = pictured(cases, job.inputs["split"], by_case=by_case)
    rows, examples = _readable(rows, lambda frame: _looked_at(config, job, model, settings, frame), job)
    training = _training(config, job)
    columns = ["pixel_sha256", *(name for name in map(str, rows.frame) if name in views.pixel_columns(model.READS))]
    columns += ["modality"] if settings.recipe.balanced and "modality" in rows.frame else []
    return Work(
        rows=rows,
        made_from=lambda fold: rows.content(fold, columns),
        train=lambda fold, folder: fit_pretraining(
            fold, rows, examples, model, settings, start.for_fold(fold), training, folder
        ),
        about={"weights": start.as_dict(), "precision": training.precision, "cohorts": list(cases)},
        start=start,
    )


def _learnt_before(job: Job, work: Work, task: str, allowed: str, near: Mapping[str, int]) -> pd.DataFrame | None:
    """What the pretraining that the model starts from has learnt from; None where it starts from none.

    A further pretraining may validate on it: the loss there is of no truth, and is reported nowhere.
    """
    from skinkit.audit import leakage
    from skinkit.learning import fold_pretrain

    if work.start is None or "weights" not in job.inputs:
        return None
    before = fold_pretrain.learnt_before(job.inputs["weights"], work.rows.folds)
    photo = leakage.photos_of(job.workspace)
    unseen = ("held_out",) if task == "pretrain" else ("validation", "held_out")
    fold_pretrain.refuse_learnt_before(work.rows, before, work.start, unseen, allowed, near, photo)
    return before


def _readable(
    rows: DevelopmentRows, examples_of: Callable[[pd.DataFrame], Examples], job: Job
) -> tuple[DevelopmentRows, Examples]:
    """The rows whose photo (and truth mask) can be read, and what a network reads of them."""
    examples = examples_of(rows.frame)
    job.console.info(f"  reading the photos of {len(examples)} cases")
    failed = examples.unreadable(range(len(examples)))
    if not failed:
        return rows, examples
    rows = rows.without(failed)
    return rows, examples_of(rows.frame)


def _classifier(config: Config, job: Job, model: type[Any], settings: Any, partial: Path) -> Work:
    from skinkit.data import views
    from skinkit.learning import fold_classifier
    from skinkit.learning.rows import labelled, of_kind
    from skinkit.stats.encoders import ENCODERS, choose_encoder

    fused = of_kind(job.inputs, "fused")
    classes = class_set(config.classes, config.malignant, job.workspace.root)
    rows = labelled(fused, job.inputs["split"], classes)
    is_network = issubclass(model, Network)
    images: np.ndarray | None = None
    examples: Examples | None = None
    start = _start(config, job) if is_network or _weights(config, job.workspace) is not None else None
    if is_network:
        rows, examples = _readable(rows, lambda frame: _looked_at(config, job, model, settings, frame), job)
    elif start is not None:
        rows, images = _embedded(job, model, settings, rows, start, partial)
    measured = _measured(fused)
    material = fold_classifier.FoldInputs(
        rows=rows,
        classes=classes,
        encoder=choose_encoder(rows.frame) if config.attributes == "auto" else config.attributes,
        radiomics=measured if config.radiomics == "all" else (),
        signature=_signature(rows, job) if config.radiomics == "signature" else None,
        images=images,
        examples=examples,
        missing=config.missing,
        calibration=config.calibration,
        coverage=config.coverage,
        veto=thresholds.parse(config.veto),
        refit=config.refit,
        tasks=tasks_of(config.tasks, config.classes, job.workspace.root),
    )
    _check_classes(material, job)
    _check_tasks(material, job)
    training = _training(config, job) if is_network else None

    def train(fold: int, folder: Path) -> dict[str, Any]:
        if training is not None and start is not None:
            return fold_classifier.fit_network(fold, material, model, settings, start.for_fold(fold), training, folder)
        return fold_classifier.fit_estimator(fold, material, model, settings, seed=config.seed, folder=folder)

    def made_from(fold: int) -> list[Any]:
        columns = [a.name for a in ENCODERS[material.encoder] if a.name in rows.frame]
        columns += ["class", "pixel_sha256", *material.features(fold)]
        columns += ["mask_sha256"] if "mask" in model.READS else []
        columns += [of.column for of in material.tasks.values() if of.column in rows.frame]
        columns += [name for name in map(str, rows.frame) if name in views.pixel_columns(model.READS)]
        made_from = rows.content(fold, columns, every=fold_classifier.trains_finally(model, settings, material))
        return [material.encoder, material.missing, list(material.features(fold)), *made_from]

    segmenters = sorted({str(s) for s in rows.frame["segmenter"].dropna().unique()})
    identities = {str(a.info["masks"]["segmenter_identity"]) for a in fused.values() if _drawn_by_a_network(a)}
    about = {
        "classes": classes.as_dict(),
        **({"tasks": {name: of.as_dict() for name, of in material.tasks.items()}} if material.tasks else {}),
        "attributes": material.encoder,
        "missing": material.missing,
        "radiomics": {
            "selection": config.radiomics,
            "features": list(material.radiomics) if material.signature is None else None,
            **dict(next(iter(fused.values())).info.get("radiomics") or {}),
        },
        "fused": config.fused,
        "segmenter": ",".join(segmenters) or None,
        "segmenter_identities": sorted(identities),
        "cohorts": list(fused),
        "weights": start.as_dict() if start is not None else None,
        "precision": training.precision if training is not None else None,
        "refitted": (config.refit and model.REFITS) or fold_classifier.trains_finally(model, settings, material),
    }
    return Work(rows, made_from, train, about, start)


_WORK: dict[str, Callable[[Config, Job, type[Any], Any, Path], Work]] = {
    "segment": _segmenter,
    "classify": _classifier,
    "pretrain": _pretraining,
}
"""Task -> how a model of it is trained."""


def _drawn_by_a_network(fused: Artifact) -> bool:
    return bool((fused.info.get("masks") or {}).get("segmenter_identity"))


def _looked_at(config: Config, job: Job, model: type[Any], settings: Any, frame: pd.DataFrame) -> Examples:
    """Photos and lesion masks of a network."""
    from skinkit.learning.examples import Examples

    roots = [job.workspace.cohort(cohort).root for cohort in frame["cohort"]]
    return Examples.of_cases(
        model.READS, settings.side_px, frame, roots, job.workspace.root, cache_bytes=config.cache_mib << 20
    )


def _embedded(
    job: Job, model: type[Any], settings: Any, rows: DevelopmentRows, start: Start, partial: Path
) -> tuple[DevelopmentRows, np.ndarray]:
    """The rows whose photo can be read, and (rows, width) what the frozen network says of them."""
    from skinkit.learning import embeddings, scorer
    from skinkit.learning.fold_network import write_state
    from skinkit.learning.precision import pick_device
    from skinkit.learning.trained import BACKBONE
    from skinkit.models.parts.weights import read_state

    device = pick_device(job.device)
    assert start.file is not None  # random numbers were refused
    assert start.sha256 is not None
    network = model.embedder(settings, read_state(start.file), str(start.file))
    write_state(partial / BACKBONE, network.net.state_dict())
    store = embeddings.embedding_store(job.workspace.root, model, settings, start.sha256, device)
    photos = _photos(rows.frame, job.workspace)
    vectors, failed = embeddings.embed(network.to(device), photos, store, device=device, console=job.console)
    images, _ = scorer.stacked(rows.frame, vectors, failed)
    return rows.without(embeddings.failed_rows(photos, failed)), images


def _measured(fused: Mapping[str, Artifact]) -> tuple[str, ...]:
    """The radiomic features of the development cohorts, which must be the same."""
    measured = [artifact.info["features"] for artifact in fused.values()]
    if any(set(names) != set(measured[0]) for names in measured):
        raise InputError(
            f"the development cohorts were measured differently ({listed(str(len(m)) for m in measured)} features)",
            "the same radiomic features in each",
            "run 'skinkit radiomics' for all of them with the same channels",
        )
    return tuple(measured[0])


def _signature(rows: DevelopmentRows, job: Job) -> dict[int, tuple[str, ...]]:
    """Fold -> its radiomic signature."""
    table = job.inputs["signature"].table()
    chosen = table[table["selected"].fillna(value=False).astype(bool)].sort_values("rank", kind="stable")
    signature = {fold: tuple(chosen.loc[chosen["fold"] == fold, "feature"]) for fold in rows.folds}
    for fold in rows.folds:
        if not signature[fold]:
            job.console.warn(f"fold {fold} has an empty signature: it reads no radiomic feature")
    return signature


def _check_classes(material: FoldInputs, job: Job) -> None:
    """Say which class cannot be learnt; refuse where fewer than two can."""
    import numpy as np

    labels = material.labels
    for fold in material.rows.folds:
        present = np.unique(labels[material.rows.part(fold, "train")])
        absent = [code for i, code in enumerate(material.classes.classes) if i not in present]
        if len(present) < 2:
            raise InputError(
                f"fold {fold} trains on {len(present)} class of {material.classes.name!r}",
                "at least two classes among its training rows",
                "draw the split for these classes (skinkit split --classes ...), or add cases",
            )
        if absent:
            job.console.warn(f"fold {fold} has no training case of {', '.join(absent)}: it can never answer that")


def _check_tasks(material: FoldInputs, job: Job) -> None:
    """Count the cases without a truth of a further task; refuse one that a fold cannot learn.

    Raises:
        InputError: fewer than two classes of a task among a fold's training rows.
    """
    import numpy as np

    from skinkit.learning.rows import truth_of
    from skinkit.models.parts.protocol import UNKNOWN

    for name, classes in material.tasks.items():
        truth, unmapped = truth_of(material.rows.frame, classes)
        lacking = int((truth == UNKNOWN).sum())
        if lacking:
            values = (
                f" (values without a class: {listed(unmapped)}, {sum(unmapped.values())} cases)" if unmapped else ""
            )
            job.console.warn(f"{name}: {lacking} of {len(truth)} cases have no truth and count for other tasks{values}")
        for fold in material.rows.folds:
            learnt = truth[material.rows.part(fold, "train")]
            present = np.unique(learnt[learnt != UNKNOWN])
            if len(present) < 2:
                raise InputError(
                    f"fold {fold} trains on {len(present)} class of the task {name!r} (column {classes.column})",
                    "at least two classes among its training rows",
                    "leave the task out of --tasks, or add cases with its truth",
                )


def _carry_over(build: Builder, finished: Path, unchanged: list[int]) -> None:
    """Link the files of folds that stay as they are, and remove those of folds that are no more or are made anew."""
    from skinkit.learning.fold_network import CHECKPOINT
    from skinkit.learning.trained import FOLD

    names = {FOLD.format(fold) for fold in unchanged}
    for folder in build.partial.glob(FOLD.format("[0-9]*")):
        if folder.name not in names and not folder.name.endswith(CHECKPOINT):
            shutil.rmtree(folder)
    for name in sorted(names):
        if not (build.partial / name / "fold.json").is_file():
            old = open_artifact(finished).path / name
            for file in sorted(old.rglob("*")):
                if file.is_file():
                    link_or_copy(file, build.partial / name / file.relative_to(old))


def _write_trained_on(partial: Path, rows: DevelopmentRows, split: Artifact, before: pd.DataFrame | None) -> None:
    """The cases of every part, and those that only the pretraining of the same fold has learnt from."""
    import pandas as pd

    from skinkit.artifacts.tables import write_table
    from skinkit.data.views import every_photo
    from skinkit.learning.rows import KEY

    divided_rows = rows.split[["fold", "part"]].reset_index(drop=True)
    table = every_photo(rows.frame.loc[rows.split["row"]].reset_index(drop=True).join(divided_rows))
    table = table[list(TRAINED_ON.names)]
    divided = split.table()
    if HALF in divided:
        table = table.merge(divided[["fold", *KEY, HALF]], on=["fold", *KEY], how="left", validate="many_to_one")
    if before is not None:
        photo = ["fold", *KEY, "image_id"]
        learnt = pd.MultiIndex.from_frame(table.loc[table["part"] != "held_out", photo])
        table = pd.concat([table, before[~pd.MultiIndex.from_frame(before[photo]).isin(learnt)]], ignore_index=True)
    write_table(partial / "trained_on.parquet", TRAINED_ON, table)
