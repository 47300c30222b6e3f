"""What is trained fold by fold for a classifier: attributes, radiomic features, photos, a teacher, members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.files import link_or_copy
from skinkit.errors import ConfigError, InputError, listed
from skinkit.models.parts import protocol
from skinkit.models.parts.protocol import Network
from skinkit.models.parts.weights import Start, model_named
from skinkit.stages import Job
from skinkit.stages.training.config import Config, absent_classes, named_objective, replayed_cohorts, weights_finder
from skinkit.stages.training.work import (
    Work,
    about_objective,
    examples_in,
    first_weights,
    photos_in,
    readable,
    roots_of,
    training_of,
    with_synthetic,
)
from skinkit.stats import thresholds
from skinkit.taxonomy import ClassSet, class_set, tasks_of
from skinkit.workspace import SETTINGS_FILE

if TYPE_CHECKING:
    import numpy as np

    from skinkit.learning.examples import Examples
    from skinkit.learning.fold_classifier import FoldInputs
    from skinkit.learning.rows import DevelopmentRows
    from skinkit.learning.upstream import Upstream


def classifier(config: Config, job: Job, model: type[Any], settings: Any, partial: Path) -> Work:
    """The folds of a classifier, of either kind."""
    from skinkit.data import views
    from skinkit.learning import fold_classifier
    from skinkit.learning.rows import labelled, of_kind
    from skinkit.stats.encoders import ENCODERS, choose_encoder

    fused = of_kind(job.inputs, "fused")
    classes = class_set(config.classes, config.malignant, job.workspace.root)
    rows = labelled(fused, job.inputs["split"], classes)
    again = replayed_cohorts(config, job.workspace)
    rows = rows.replaying(again) if again else rows
    rows = rows.drawn(config.share, config.seed) if config.share < 1 else rows
    rows, synthetic = with_synthetic(config, job, rows, classes)
    is_network = issubclass(model, Network)
    images: np.ndarray | None = None
    examples: Examples | None = None
    start = first_weights(config, job) if is_network or weights_finder(config, job.workspace) is not None else None
    if is_network:
        rows, examples = readable(rows, lambda frame: examples_in(config, job, model, settings, frame), job)
    elif start is not None:
        rows, images = _embedded(job, model, settings, rows, start, partial)
    rows = rows.halved(keep=not is_network and model.JOINS) if config.members else rows
    measured = _measured(fused)
    teacher = _upstream(job, "teacher", config.teacher, rows, classes, config.fused) if config.teacher else None
    objective = named_objective(config)
    encoded = objective is not None and protocol.TEACHER_ENCODING in objective.reads()
    if teacher is not None and encoded:
        teacher.check_encodes("teacher")
    members = [_upstream(job, f"members/{name}", name, rows, classes, config.fused) for name in config.members]
    for member in members:
        _keep_member(member, partial)
    first = _taken_over(config, job, start, classes)
    material = fold_classifier.FoldInputs(
        rows=rows,
        classes=classes,
        encoder=first.encoder or (choose_encoder(rows.frame) if config.attributes == "auto" else config.attributes),
        radiomics=(first.radiomics or measured) if config.radiomics == "all" else (),
        signature=(first.signature or _signature(rows, job)) if config.radiomics == "signature" else None,
        images=images,
        examples=examples,
        missing=config.missing,
        calibration=config.calibration,
        coverage=config.coverage,
        veto=thresholds.parse(config.veto),
        refit=config.refit,
        tasks=tasks_of(config.tasks, config.classes, job.workspace.root),
        objective=objective,
        teacher=_taught(job, teacher, rows, encoded=encoded) if teacher is not None else None,
        members=_answered(job, members, rows) if members else None,
        member_priors={fold: [m.class_prior(fold) for m in members] for fold in rows.folds if members},
        first=first.folders,
        replay=config.replay,
        absent=absent_classes(config, job.workspace),
    )
    if "attributes" in model.READS:
        _say_not_read(material, job)
    _check_classes(material, job)
    material = _checked_absent(material, model, job)
    _check_tasks(material, job)
    _check_validation(material, config)
    training = training_of(config, job, model, settings, partial) if is_network else None

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
        made_from += [] if synthetic is None else [synthetic.content(fold)]
        made_from += [material.replay] if material.replay else []
        return [material.encoder, material.missing, list(material.features(fold)), *made_from]

    segmenters = sorted({str(s) for s in rows.frame["segmenter"].dropna().unique()})
    identities = {str(a.info["masks"]["segmenter_identity"]) for a in fused.values() if _drawn_by_a_network(a)}
    about = {
        "classes": classes.as_dict(),
        **({"tasks": {name: of.as_dict() for name, of in material.tasks.items()}} if material.tasks else {}),
        **({"absent_classes": dict(material.absent)} if material.absent else {}),
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
        "cohorts": [name for name in fused if name not in again],
        **({"replay": {"share": config.replay, "cohorts": again}} if again else {}),
        **({"share": config.share} if config.share < 1 else {}),
        **({"synthetic": synthetic.about()} if synthetic is not None else {}),
        "weights": start.as_dict() if start is not None else None,
        **({"teacher": teacher.as_dict()} if teacher is not None else {}),
        **({protocol.MEMBERS: [member.as_dict() for member in members]} if members else {}),
        **about_objective(config),
        "precision": training.arithmetic.as_dict() if training is not None else None,
        "refitted": (config.refit and model.REFITS) or fold_classifier.trains_finally(model, settings, material),
    }
    reads = [*([teacher] if teacher is not None else []), *members]
    return Work(rows, made_from, train, about, start, reads, synthetic)


def _keep_member(member: Upstream, partial: Path) -> None:
    """Put into the model what predicting needs of a member: it may be replaced, and the model stays what it is."""
    from skinkit.learning.trained import BACKBONE, FOLD

    member.classifier.refuse_members("fuse")
    folder, source = partial / protocol.MEMBERS / member.name, member.artifact.path
    inside = [f"{FOLD.format(fold.number)}/" for fold in member.classifier.folds]
    for name in member.artifact.manifest["files"]:
        if name in ("model.json", BACKBONE) or name.startswith(tuple(inside)):
            (folder / name).unlink(missing_ok=True)
            link_or_copy(source / name, folder / name)


def _answered(job: Job, members: Sequence[Upstream], rows: DevelopmentRows) -> Callable[[int, np.ndarray], np.ndarray]:
    """A function that asks the members; see :class:`FoldInputs`."""
    import numpy as np

    roots = roots_of(rows.frame, job.workspace)

    def answers(fold: int, chosen: np.ndarray) -> np.ndarray:
        asked = rows.not_learnt_by_members(fold, chosen)
        parts = [member.answers(fold, rows.frame, asked, roots)[protocol.DIAGNOSIS] for member in members]
        for member, part in zip(members, parts, strict=True):
            if silent := int(np.isnan(part[asked]).any(axis=1).sum()):
                raise InputError(
                    f"{member.name} cannot read {silent} validation cases of fold {fold}",
                    "photos that every member can read",
                    "leave the member out, or correct the photos and run 'skinkit ingest' again",
                )
        return np.concatenate(parts, axis=1)

    return answers


def _upstream(job: Job, role: str, name: str, rows: DevelopmentRows, classes: ClassSet, fused: str) -> Upstream:
    """A trained model that this one reads, where it can answer for its rows."""
    from skinkit.learning.precision import pick_device
    from skinkit.learning.upstream import Upstream

    model = Upstream(job.inputs[role], name, job.workspace.root, pick_device(job.device), job.console)
    model.check(role.partition("/")[0], rows, classes, fused)
    return model


def _taught(
    job: Job, teacher: Upstream, rows: DevelopmentRows, *, encoded: bool
) -> Callable[[int, np.ndarray], Mapping[str, np.ndarray]]:
    """A function that asks the teacher; see :class:`FoldInputs`."""
    import numpy as np

    roots = roots_of(rows.frame, job.workspace)

    def answers(fold: int, chosen: np.ndarray) -> dict[str, np.ndarray]:
        job.console.info(f"    {len(chosen)} training cases are answered by fold {fold} of {teacher.name}")
        by_task = teacher.answers(fold, rows.frame, chosen, roots, encoded=encoded)
        seen = {protocol.TEACHER_ENCODING: by_task.pop(protocol.SEEN)} if encoded else {}
        for task, of_task in by_task.items():
            silent = int(np.isnan(of_task[chosen]).any(axis=1).sum())
            if silent and task == protocol.DIAGNOSIS:
                job.console.warn(f"{teacher.name} cannot read {silent} training cases: they count by their truth alone")
        return {**{protocol.beside_name(protocol.TEACHER, task): of for task, of in by_task.items()}, **seen}

    return answers


@dataclass(frozen=True)
class _First:
    """What a second training takes from the classifier that it starts from, beside the weights; empty without one.

    Attributes:
        encoder: name of the encoder of the attributes.
        radiomics: features, where every fold reads the same.
        signature: fold -> its features.
        folders: fold -> the folder with its encoder and scalers.
    """

    encoder: str = ""
    radiomics: tuple[str, ...] = ()
    signature: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    folders: Mapping[int, Path] = field(default_factory=dict)


def _taken_over(config: Config, job: Job, start: Start | None, classes: ClassSet) -> _First:
    """What the first training was made for, which the second must be made for too.

    Raises:
        ConfigError: other classes, attributes or radiomic features were asked for.
    """
    if start is None or not start.whole:
        return _First()
    about = job.inputs["weights"].json("model.json")
    measured = about["radiomics"]
    pairs = {
        "classes": (about["classes"]["classes"], list(classes.classes)),
        "attributes": (about["attributes"], about["attributes"] if config.attributes == "auto" else config.attributes),
        "missing": (about.get("missing", "zeros"), config.missing),
        "radiomics": (measured["selection"], config.radiomics),
    }
    different = [f"--{name} {now} instead of {was}" for name, (was, now) in pairs.items() if was != now]
    if different:
        raise ConfigError(
            f"{'; '.join(different)} for a model that starts from {model_named(config.weights)}",
            "what the first training was made for",
            f"leave {' and '.join(words.split()[0] for words in different)} as in the first training",
        )
    return _First(
        encoder=str(about["attributes"]),
        radiomics=tuple(measured["features"] or ()),
        signature={int(fold["fold"]): tuple(fold["signature"] or ()) for fold in about["folds"]},
        folders={fold: file.parent for fold, file in start.of_folds.items()},
    )


def _drawn_by_a_network(fused: Artifact) -> bool:
    return bool((fused.info.get("masks") or {}).get("segmenter_identity"))


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
    photos = photos_in(rows.frame, job.workspace)
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


def _say_not_read(material: FoldInputs, job: Job) -> None:
    """Warn of attributes that cases have, and that another encoder would read.

    One that a case has under another name, too, is read where that is (:data:`skinkit.stats.encoders.SAME`). What leaks
    the label is rightly left out.
    """
    from skinkit.stats.encoders import ENCODERS, LEAKY, SAME

    if material.encoder == "none":
        return
    frame = material.rows.frame.loc[sorted(set(material.rows.split["row"]))]
    reads = {attribute.name for attribute in ENCODERS[material.encoder]}
    others = dict.fromkeys(a.name for encoder, of in ENCODERS.items() if encoder not in LEAKY for a in of)
    said = []
    for name in others:
        if name in reads or name not in frame:
            continue
        known = frame[name].notna()
        for other in SAME.get(name, ()):
            if other in reads and other in frame:
                known &= frame[other].isna()
        if known.any():
            said.append(f"{name} ({int(known.sum())} of {len(frame)} cases)")
            reads.add(name)  # so that it is not said again in other words
    if said:
        job.console.warn(f"the attributes {material.encoder} leave out what these cases have: {listed(said)}")


def _checked_absent(material: FoldInputs, model: type[Any], job: Job) -> FoldInputs:
    """Say which classes are left out of which cohort's loss, and leave none out where the model cannot do that.

    Raises:
        ConfigError: cases of a class that their cohort is said not to have, whatever the model.
    """
    from skinkit.models import name_of

    frame = material.rows.frame
    for cohort, absent in material.absent.items():
        wrong = frame[(frame["cohort"] == cohort) & frame["class"].isin(absent)]
        if len(wrong):
            raise ConfigError(
                f"{len(wrong)} cases of {cohort} are {listed(sorted(set(wrong['class'])))}, which it cannot have: "
                f"{listed(wrong['case_id'])}",
                "every diagnosis of its cases among those that the cohort can have",
                f"list them as diagnoses = [...] under [cohorts.{cohort}] of {SETTINGS_FILE}",
            )
        codes = ", ".join(absent)
        if model.MASKS_CLASSES:
            job.console.info(f"  {cohort} cannot have {codes}: left out of its loss")
        else:
            job.console.warn(f"{cohort} cannot have {codes}, which {name_of(model)} learns from its cases all the same")
    return material if model.MASKS_CLASSES else replace(material, absent={})


def _check_tasks(material: FoldInputs, job: Job) -> None:
    """Count the cases without a truth of a further task; refuse one that a fold cannot learn.

    Raises:
        ConfigError: a task is an attribute that the model reads.
        InputError: fewer than two classes of a task among a fold's training rows.
    """
    import numpy as np

    from skinkit.learning.rows import truth_of
    from skinkit.models.parts.protocol import UNKNOWN
    from skinkit.stats.encoders import ENCODERS

    real = np.unique(material.rows.split["row"])
    read = {attribute.name for attribute in ENCODERS[material.encoder]}
    if given := [name for name, classes in material.tasks.items() if classes.column in read]:
        raise ConfigError(
            f"{listed(given)}: asked for, and among the attributes that {material.encoder} gives the model to read",
            "tasks whose answer the model is not given",
            "give --attributes isic or none, or leave these out of --tasks",
        )
    for name, classes in material.tasks.items():
        truth, unmapped = truth_of(material.rows.frame, classes)
        lacking = int((truth[real] == UNKNOWN).sum())
        if lacking:
            values = (
                f" (values without a class: {listed(unmapped)}, {sum(unmapped.values())} cases)" if unmapped else ""
            )
            job.console.warn(f"{name}: {lacking} of {len(real)} cases have no truth and count for other tasks{values}")
        for fold in material.rows.folds:
            learnt = truth[material.rows.part(fold, "train")]
            present = np.unique(learnt[learnt != UNKNOWN])
            if len(present) < 2:
                raise InputError(
                    f"fold {fold} trains on {len(present)} class of the task {name!r} (column {classes.column})",
                    "at least two classes among its training rows",
                    "leave the task out of --tasks, or add cases with its truth",
                )


def _check_validation(material: FoldInputs, config: Config) -> None:
    """Refuse, before any work, folds whose validation rows are too few to show that anything was learnt.

    Raises:
        RefusedError: there is one, and no reason of ``--allow-untrained``.
    """
    from skinkit.learning import untrained
    from skinkit.models.parts.protocol import DIAGNOSIS, UNKNOWN

    truths = {DIAGNOSIS: (material.labels, material.classes)}
    truths |= {task: (material.truths[task], of) for task, of in material.tasks.items()}
    few = [
        untrained.Finding(fold, task, untrained.FEW)
        for fold in material.rows.folds
        for task, (truth, of) in truths.items()
        if untrained.too_few(
            int((truth[material.rows.part(fold, "validation")] != UNKNOWN).sum()), len(of.classes), material.coverage
        )
    ]
    if few:
        untrained.refuse(untrained.Untrained(tuple(few)), config.model, config.coverage, config.allow_untrained)
