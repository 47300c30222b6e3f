"""evaluate: predictions + truth -> every metric with a 95 % interval over patients, and figures.

Each task is scored by itself. The truth is mapped onto the model's classes; what has no class there is counted and
left out, and predictions are never remapped or renormalised. Thresholds come frozen from validation rows. A patient,
lesion or identical image that the model was trained or tuned on is refused, unless --allow-leakage gives a reason.

'skinkit score' does the same for a table made elsewhere, without a workspace.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.artifacts.files import digest, json_values
from skinkit.errors import ConfigError, InputError, RefusedError, did_you_mean, listed
from skinkit.options import ONE_MODEL, Help
from skinkit.schemas import (
    DEFAULT_ENDPOINT,
    FAILED,
    IMAGE,
    LEARNT,
    LEARNT_LABEL,
    METRICS,
    OK,
    PRIMARY_TASK,
    TRAINED_ON_FILE,
)
from skinkit.stages import Job, Sources, fuse
from skinkit.stages.predict import fused_of
from skinkit.stats.thresholds import source_of
from skinkit.studies.protocols import HALF, LEFT_OUT_FILE
from skinkit.taxonomy import ClassSet
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.audit.leakage import ComparedPhotos, Leakage
    from skinkit.audit.shortcuts import Audit
    from skinkit.audit.test_access_log import Access
    from skinkit.evaluation.scoring import Evaluation, ScoringSettings

VERSION = 8
SCHEMA = METRICS
OF_MODEL = True

SUBJECT = ("sex", "site", "modality", "confirmed_by", "age_years", "fitzpatrick", "device", "centre", "ita_group")
"""Columns of the cases that make subgroups; device and centre where a source has them."""

_MASK_IOU = "mask_iou"
"""Value of ``--by``: quarters of the agreement of the segmenter's masks with those of people."""

GOES_ON = (RefusedError, InputError)
"""Errors of one cohort that do not keep the others from being scored."""


@dataclass(frozen=True)
class Scoring:
    """Options of whatever scores predictions."""

    bootstrap: Annotated[int, "draws of noise for the interval of the ECE; 0: no intervals"] = 1000
    seed: Annotated[int, "seed of the draws"] = 0
    subgroups: Annotated[
        bool, "report subgroups: sex, age band, site, skin type, modality, device, centre and confirmation"
    ] = True
    minimum: Annotated[int, "minimum positives and negatives to report a class metric"] = 5
    by: Annotated[tuple[str, ...], "additional case columns that define subgroups"] = ()
    primary: Annotated[
        str,
        Help(
            "primary endpoint, CLASS METRIC [AVERAGE] [@ RULE]; declared beforehand if given with the first access",
            metavar="ENDPOINT",
        ),
    ] = ""
    declared: Annotated[
        str,
        Help(
            "who declared the primary endpoint, and when; without it what 'skinkit init' wrote is chosen by default",
            metavar="WHO",
            rare=True,
        ),
    ] = ""
    allow_leakage: Annotated[str, Help("reason to score cases that leak from training", metavar="REASON")] = ""
    near_bits: Annotated[int, "near-identical images: largest Hamming distance of 64-bit hashes; -1: no check"] = 4
    near_limit: Annotated[int, "largest accepted number of cases with a near-identical training image"] = 0
    shortcuts: Annotated[bool, "also audit for shortcuts"] = True


@dataclass(frozen=True)
class Config(Scoring):
    """Options of the stage."""

    model: Annotated[str, replace(ONE_MODEL, identity=False)] = ""
    by: Annotated[
        tuple[str, ...],
        "additional case columns that define subgroups; mask_iou: quarters of the agreement of the model's masks with "
        "truth masks",
    ] = ()
    tones: Annotated[
        bool,
        "also subgroups by skin tone (ITA); every scored photo is read once",
    ] = True
    shortcut_files: Annotated[
        int, Help("largest number of image files the shortcut audit reads; 0: none", rare=True)
    ] = 500


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """The metrics of the model on every development and external cohort."""
    model = name or config.model or workspace.defaults["model"]
    return [Ref("metrics", cohort, model) for cohort in workspace.chosen(cohorts, "development", "external")]


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The model, its predictions, the cases that hold the truth, and the masks where their agreement is asked for."""
    refs = {
        "model": Ref("models", name=target.name),
        "predictions": Ref("predictions", target.cohort, target.name),
        "cases": Ref("cases", target.cohort),
    }
    if _MASK_IOU in config.by:
        fused = Ref("fused", target.cohort, fused_of(target.name, workspace))
        refs["masks"] = fuse.needs(fuse.Config(), fused, workspace)["masks"]
    return refs


def sources(config: Config, target: Ref, workspace: Workspace) -> Sources:
    """The prevalence that ``skinkit.toml`` states for the cohort."""
    prevalence = workspace.cohort(target.cohort).prevalence
    return Sources(inputs={} if prevalence is None else {"prevalence": repr(prevalence)}, watch="")


def run(config: Config, job: Job) -> Artifact:
    """Score one cohort."""
    import pandas as pd

    from skinkit.audit import skin_tone, test_access_log
    from skinkit.evaluation import checklist_rule, scoring, task_average
    from skinkit.learning.trained import effective_prevalence

    settings = settings_of(config, job.cohort.prevalence)
    cohort, model = job.target.cohort, job.target.name
    predictions = job.inputs["predictions"]
    classes = ClassSet.from_dict(predictions.info["classes"])
    images = job.inputs["cases"].table().assign(cohort=cohort)
    images = images[images["status"] == OK].sort_values(["case_id", "image_id"], kind="stable")
    if (config.tones and config.subgroups) or skin_tone.TONE in config.by:
        images = _toned(images, predictions.table(["case_id", "status"]), job)
    if "masks" in job.inputs:
        images = _with_agreement(images, predictions, job.inputs["masks"])
    check_by(config.by, [str(name) for name in images.columns], f"the cases of {cohort}")
    table, excluded = _with_truth(*_in_question(predictions.table(), job), images, classes, config.by)
    if not (table["level"] == IMAGE).any():
        if not (predictions.table(["level"])["level"] == IMAGE).any():
            raise InputError(
                f"no case of {cohort} was predicted by {model}: it learnt from all of them",
                "held-out cases, or an external cohort",
                "train with a split that holds cases out, or score another cohort",
            )
        outcomes = predictions.table(["level", "status", "reason"])
        failed = outcomes[(outcomes["level"] == IMAGE) & (outcomes["status"] == FAILED)]
        if len(failed) and not (outcomes["status"] == OK).any():
            reasons = ", ".join(f"{reason} {n}" for reason, n in failed["reason"].value_counts().items())
            raise InputError(
                f"{model} could predict none of the {len(failed)} cases of {cohort} ({reasons})",
                "predicted cases",
                "see 'skinkit status --failed', and docs/input.md for what each reason means",
            )
        raise InputError(
            f"no predicted case of {cohort} has a diagnosis that {model} knows (left out: {excluded or 'nothing'})",
            f"diagnoses among {listed(sorted(classes.members))}",
            "map the diagnoses in the source, or give a cohort without diagnoses the role inference",
        )
    table = _with_half(table, job)
    tasks = _tasks(job, images)
    overlap, reason, learnt = _refuse_leakage(config, job, _scored_once(table, tasks), images)
    if learnt:
        images = images[~images["case_id"].isin(learnt)]
        table, excluded = _with_truth(*_in_question(predictions.table(), job, learnt), images, classes, config.by)
        table, tasks = _with_half(table, job), _tasks(job, images, learnt)
    about = job.inputs["model"].json("model.json")
    evaluation = scoring.Evaluation(
        table,
        classes,
        _thresholds(table, predictions.info["class_thresholds"], about["folds"]),
        classes.malignant_set,
        source_of(about),
        trained_prevalence=effective_prevalence(about, classes.malignant),
    )
    scores = evaluation.scores(settings, cohort=cohort, model=model)
    info = {
        "cohort": cohort,
        "model": model,
        **evaluation.info(scores, settings),
        "excluded": excluded,
        "not_predicted": _not_predicted(predictions.table(["level", "case_id", "status", "reason"]), images, classes),
        "level_rule": predictions.info.get("level_rule"),
        "leakage": overlap.as_dict() if overlap else None,
        "allow_leakage": reason,
    }
    if relabelled := _relabelled(job, classes):
        info["relabelled"] = relabelled
        job.console.warn(_relabelled_text(model, relabelled))
    access = _log_access(config, job, table, info["primary"])
    info["look"] = access.as_dict()
    if info["primary"]:
        info["primary"] |= access.declaration()
    info["text"] = scoring.text(scores.rows, info)
    if job.cohort.role == "external" and (origin := _origin_of_external(job, images, about)):
        info["external"] = origin
        info["text"] += f"\n  {origin['text']}"
    if overlap is not None:
        info["text"] += f"\n  {overlap.limits()}"
    if relabelled:
        info["text"] += f"\n  {_relabelled_text(model, relabelled)}"
    if named := about.get("label_attributes"):
        info["label_attributes"] = named
        info["text"] += "".join(f"\n  {model} reads: {each['sentence']}" for each in named)
    if cohort in about.get("not_trained_on", []):
        info["not_trained_on"] = True
        weights = about.get("weights") or {}
        known = cohort in weights.get("cohorts", ())
        how = f"learnt {cohort} only in {weights['name']}" if known else f"was not trained on {cohort}"
        info["text"] += f"\n  {model} {how}: the cases that the split holds out are scored"
    rows, beside = [scores.rows], ["scored.parquet"]
    with job.build() as build:
        build.clear()
        evaluation.write(build.partial, scores)
        for name, task in tasks.items():
            if task.evaluation is None:
                continue
            of_task = task.evaluation.scores(
                replace(settings, subgroups=False, primary="", by=()), cohort=cohort, model=model
            )
            task.evaluation.write(build.partial / "tasks" / name, of_task)
            rows.append(of_task.rows)
            beside.append(f"tasks/{name}/scored.parquet")
            task.info |= task.evaluation.info(of_task, settings)
        if tasks:
            info["tasks"] = {name: task.info for name, task in tasks.items()}
            info["text"] += scoring.tasks_text(info["tasks"])
            every = {PRIMARY_TASK: evaluation, **{n: t.evaluation for n, t in tasks.items() if t.evaluation}}
            mean = task_average.averaged(every, seed=settings.seed, draws=settings.bootstrap)
            info["average_over_tasks"] = json_values(mean)
            info["text"] += task_average.text(mean)
            if rule := checklist_rule.scored(table, classes):
                info["checklist_rule"] = json_values(rule)
                info["text"] += checklist_rule.text(rule)
        if audited := _audited(config, job, table, images, classes):
            info |= audited.write(build.partial)
            info["text"] += f"\n\n  {info['shortcuts']['verdict']}"
        info["text"] += f"\n\n  {test_access_log.described(access)}."
        return build.finish(pd.concat(rows, ignore_index=True), info=info, beside=beside)


def _toned(images: pd.DataFrame, predicted: pd.DataFrame, job: Job) -> pd.DataFrame:
    """The images with the tone of the skin in the first photo of each predicted case; null elsewhere."""
    import numpy as np

    from skinkit.artifacts.embedding_store import EmbeddingStore
    from skinkit.audit import photo_files, skin_tone

    scored = images["case_id"].isin(predicted.loc[predicted["status"] == OK, "case_id"])
    first = images[scored].drop_duplicates("case_id")
    store = EmbeddingStore(job.workspace.root / "cache" / "skin_tones" / str(skin_tone.VERSION))
    known = store.read(first["pixel_sha256"], job.console)
    todo = first[~first["pixel_sha256"].isin(known)].drop_duplicates("pixel_sha256")
    how: dict[str, Any] = {"label": "reading skin tones", "jobs": job.jobs, "console": job.console}
    angles = photo_files.measured(skin_tone.measure, todo, job.cohort.root, (skin_tone.ANGLE,), **how)
    pairs = zip(todo["pixel_sha256"], angles[skin_tone.ANGLE].astype("float64"), strict=True)
    fresh = {pixels: np.array([angle], np.float16) for pixels, angle in pairs if angle == angle}
    store.write(fresh)
    by_photo = {pixels: float(angle[0]) for pixels, angle in {**known, **fresh}.items()}
    return skin_tone.toned(images, first["pixel_sha256"].map(by_photo))


def _with_agreement(images: pd.DataFrame, predictions: Artifact, masks: Artifact) -> pd.DataFrame:
    """The images with the quarter of their case by the IoU of the predicted photo's mask with a person's."""
    from skinkit.evaluation.subgroups import quarters

    predicted = predictions.table(["level", "case_id", "image_id"])
    image_of = predicted[predicted["level"] == IMAGE].set_index("case_id")["image_id"]
    iou = image_of.map(masks.table(["image_id", "iou"]).set_index("image_id")["iou"])
    return images.assign(**{_MASK_IOU: images["case_id"].map(quarters(iou))})


def summary(artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """The headline figures of every cohort, for the end of the command."""
    return {
        "headline": {str(artifact.info["cohort"]): artifact.info["headline"] for artifact in artifacts},
        "text": "\n\n".join(str(artifact.info["text"]) for artifact in artifacts),
    }


def check_values(config: Config, workspace: Workspace) -> None:
    """Refuse a primary endpoint of another form, and numbers out of range.

    Raises:
        ConfigError: naming the first one.
    """
    from skinkit.evaluation import endpoint

    if config.primary:
        endpoint.parse(config.primary)
    settings_of(config, None)


def settings_of(config: Scoring, prevalence: float | None) -> ScoringSettings:
    """How predictions are scored.

    Raises:
        ConfigError: a negative number of replicates, or no positive or negative needed.
    """
    from skinkit.evaluation.scoring import ScoringSettings

    for name, least in (("bootstrap", 0), ("minimum", 1)):
        if getattr(config, name) < least:
            raise ConfigError(f"--{name} {getattr(config, name)}", f"{least} or more", f"correct --{name}")
    options = (config.bootstrap, config.seed, config.minimum, config.subgroups, config.primary)
    return ScoringSettings(*options, prevalence, config.by)


def check_by(by: Sequence[str], columns: Sequence[str], where: str) -> None:
    """Refuse a column of ``--by`` that is not there."""
    for name in by:
        if name not in columns:
            raise ConfigError(f"--by {name}: {where} has no such column", did_you_mean(name, columns), "name a column")


# ----------------------------------------------------------------------------------------- shortcuts and looks


def _audited(config: Config, job: Job, table: pd.DataFrame, images: pd.DataFrame, classes: ClassSet) -> Audit | None:
    """What tells malignancy of the scored cases without their lesions, beside the model."""
    from skinkit.audit import file_cues, shortcuts

    if not config.shortcuts or not classes.malignant_set:
        return None
    cases = table[table["level"] == IMAGE]
    first = images.drop_duplicates("case_id")
    beside = first[["case_id", *(name for name in first if name not in cases)]]
    joined = cases.merge(beside, on="case_id", how="left").assign(image_id=lambda rows: rows["image_id"].astype(object))
    joined = file_cues.traced(
        joined, job.cohort.root, most=config.shortcut_files, jobs=job.jobs, seed=config.seed, console=job.console
    )
    return shortcuts.audited(joined, shortcuts.cues_of(joined), classes, seed=config.seed)


def _origin_of_external(job: Job, images: pd.DataFrame, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Whether the cohort differs from those that the model learnt from; None where these are not here."""
    import pandas as pd

    from skinkit.audit import external

    learnt = [name for name in about.get("cohorts", []) if name in job.workspace.cohorts]
    cases = [open_artifact(path).table() for name in learnt if exists(path := job.workspace.path(Ref("cases", name)))]
    if not cases:
        return None
    inside = pd.concat(cases, ignore_index=True)
    fused = [job.workspace.path(Ref("fused", name, str(about.get("fused")))) for name in (*learnt, job.target.cohort)]
    measured = None
    if all(exists(path) for path in fused):
        tables = [open_artifact(path).table() for path in fused]
        measured = (pd.concat(tables[:-1], ignore_index=True), tables[-1])
    return external.compared(inside[inside["status"] == OK], images, measured)


def _declared_by(config: Config, workspace: Workspace) -> str:
    """Whether a person chose the primary endpoint, or it is what ``skinkit init`` wrote."""
    written = workspace.settings.get("evaluate", {}).get("primary")
    return "default" if not config.declared and written == config.primary == DEFAULT_ENDPOINT else "person"


NOT_IN_LOG = ("allow_leakage", "shortcut_files", "model", "tones")
"""Options that change no figure."""


def _log_access(config: Config, job: Job, table: pd.DataFrame, primary: Any) -> Access:
    """Record this access to the test cases."""
    from skinkit.audit import test_access_log

    truth = table.loc[table["level"] == IMAGE, ["case_id", "class"]].astype(str).sort_values("case_id")
    settings = {name: value for name, value in asdict(config).items() if name not in NOT_IN_LOG}
    return test_access_log.add(
        job.workspace.root,
        test_access_log.use_of(
            table,
            command="evaluate",
            cohort=job.target.cohort,
            external=job.cohort.role == "external",
            model=job.target.name,
            settings=json_values(settings),
            model_identity=job.inputs["model"].identity,
            content=digest([job.inputs["predictions"].identity, truth.to_numpy().tolist()]),
            endpoint=primary["endpoint"] if primary else None,
            declared_by=_declared_by(config, job.workspace) if primary else None,
            run=job.console.run_id,
        ),
        _accesses_kept(job.workspace, job.target.cohort),
    )


def _accesses_kept(workspace: Workspace, cohort: str) -> list[Mapping[str, Any]]:
    """The accesses that the metrics of a cohort remember, whatever the model."""
    folder = workspace.path(Ref("metrics", cohort, "any")).parent
    kept = [open_artifact(path).info.get("look") for path in sorted(folder.glob("*")) if exists(path)]
    return [access for access in kept if access and access.get("own")]


# ------------------------------------------------------------------------------------------------------ truth


def _in_question(
    predictions: pd.DataFrame, job: Job, learnt: frozenset[str] = frozenset()
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The predictions of cases that count, and why others do not: the model's split left them out, or ``learnt``."""
    import pandas as pd

    model, names = job.inputs["model"], frozenset[str]()
    if (model.path / LEFT_OUT_FILE).is_file():
        left_out = pd.read_csv(io.BytesIO(model.data(LEFT_OUT_FILE)), dtype=str)
        names = frozenset(left_out.loc[left_out["cohort"] == job.target.cohort, "case_id"])
    image = predictions["level"] == IMAGE
    outside = {
        "left_out_of_the_split": image & predictions["case_id"].isin(names),
        "near_a_training_photo": image & predictions["case_id"].isin(learnt - names),
    }
    counts = {why: int(rows.sum()) for why, rows in outside.items() if rows.any()}
    return predictions[~outside["left_out_of_the_split"] & ~outside["near_a_training_photo"]], counts


def _with_truth(
    predictions: pd.DataFrame,
    left_out: Mapping[str, int],
    images: pd.DataFrame,
    classes: ClassSet,
    by: Sequence[str] = (),
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Predictions that can be scored, with class and subject; and why predicted cases cannot be.

    A lesion or patient has the classes of its scored cases. Where they differ, ``several`` is true and ``class`` is a
    malignant one if there is any: a patient with a melanoma and a nevus has cancer.
    """
    import pandas as pd

    rows = predictions[predictions["status"] == OK]
    truths = _truths(images, classes.column)
    several = "several_diagnoses" if classes.column == "diagnosis" else "several_values"
    first = images.drop_duplicates("case_id").set_index("case_id")
    excluded = dict(left_out)
    truth: dict[str, str] = {}
    for case in rows.loc[rows["level"] == IMAGE, "case_id"]:
        names = truths.get(case, [])
        code = classes.to_class(names[0]) if len(names) == 1 else None
        if code is not None:
            truth[case] = code
            continue
        why = "unlabelled" if not names else several if len(names) > 1 else f"no_class:{names[0]}"
        excluded[why] = excluded.get(why, 0) + 1
    scored = first.loc[list(truth)]
    members: dict[tuple[str, str], list[str]] = {(IMAGE, case): [code] for case, code in truth.items()}
    for level in ("lesion", "patient"):
        for case, name in scored[f"{level}_id"].dropna().items():
            members.setdefault((level, str(name)), []).append(truth[str(case)])
    keys = list(zip(rows["level"], rows["case_id"], strict=True))
    table = rows.loc[[key in members for key in keys]].reset_index(drop=True)  # without loc an empty list is no column
    of = [sorted(set(members[key])) for key in keys if key in members]
    worst = [next((code for code in codes if code in classes.malignant), codes[0]) for codes in of]
    columns: dict[str, Any] = {
        "class": pd.Series(worst, dtype=object),
        "several": pd.Series([len(c) > 1 for c in of], dtype=bool),
    }
    subjects = first.reindex(table["case_id"].where(table["level"] == IMAGE))
    for name in dict.fromkeys((*SUBJECT, *by)):
        if name in subjects:
            columns[name] = subjects[name].reset_index(drop=True)
    return table.assign(**columns), dict(sorted(excluded.items()))


@dataclass
class _FurtherTask:
    """A further task to be scored; ``evaluation`` is None where no predicted case has a truth."""

    evaluation: Evaluation | None
    info: dict[str, Any]


def _tasks(job: Job, images: pd.DataFrame, learnt: frozenset[str] = frozenset()) -> dict[str, _FurtherTask]:
    """The further tasks of the predictions, with their truth."""
    from skinkit.evaluation.scoring import Evaluation

    predictions, tasks = job.inputs["predictions"], {}
    about = job.inputs["model"].json("model.json")
    for name, of in (predictions.info.get("tasks") or {}).items():
        classes = ClassSet.from_dict(of["classes"])
        table, excluded = _with_truth(*_in_question(predictions.table(), job, learnt), images, classes)
        evaluation = None
        if (table["level"] == IMAGE).any():
            thresholds = _thresholds(table, of["class_thresholds"], about["folds"], name)
            evaluation = Evaluation(table, classes, thresholds, malignant_set="", task=name)
        else:
            job.console.warn(f"{job.target.cohort}: no predicted case has a class of {name} (column {classes.column})")
        tasks[name] = _FurtherTask(evaluation, {"classes": of["classes"], "n": 0, "excluded": excluded})
    return tasks


def _scored_once(table: pd.DataFrame, tasks: Mapping[str, _FurtherTask]) -> pd.DataFrame:
    """Every row that is scored in any task."""
    import pandas as pd

    tables = [table, *(task.evaluation.table for task in tasks.values() if task.evaluation is not None)]
    return pd.concat([each[["level", "case_id", "fold"]] for each in tables]).drop_duplicates(["level", "case_id"])


def _trained_on(job: Job) -> pd.DataFrame | None:
    """The rows that the model learnt from and was held back from; None where it does not record them."""
    model = job.inputs["model"]
    return model.table(file=TRAINED_ON_FILE) if (model.path / TRAINED_ON_FILE).is_file() else None


def _with_half(table: pd.DataFrame, job: Job) -> pd.DataFrame:
    """The predictions with the half of the test set they are in, where the model's split has halves."""
    trained = _trained_on(job)
    if trained is None or HALF not in trained:
        return table
    halves = trained[(trained["cohort"] == job.target.cohort) & trained[HALF].notna()].drop_duplicates("case_id")
    images = table["case_id"].where(table["level"] == IMAGE)
    return table.assign(**{HALF: images.map(halves.set_index("case_id")[HALF]).astype(object)})


def _relabelled(job: Job, classes: ClassSet) -> dict[str, Any] | None:
    """How many cases the model learnt from under another class than they have now, and which; None for none.

    Every cohort that it learnt from is looked at, whichever is scored. Models that do not record their labels are
    passed over.
    """
    trained = _trained_on(job)
    if trained is None or LEARNT_LABEL not in trained:
        return None
    learnt = trained[trained["part"].isin(LEARNT) & trained[LEARNT_LABEL].notna()]
    changed: list[str] = []
    for cohort, rows in learnt.drop_duplicates(["cohort", "case_id"]).groupby("cohort"):
        path = job.workspace.path(Ref("cases", str(cohort)))
        if str(cohort) not in job.workspace.cohorts or not exists(path):
            continue
        cases = open_artifact(path).table(["case_id", "status", "diagnosis"])
        cases = cases[cases["status"] == OK]
        now, there = _truths(cases), set(cases["case_id"])
        for case, was in zip(rows["case_id"], rows[LEARNT_LABEL], strict=True):
            if case in there and classes.to_class(str(was)) not in {
                classes.to_class(each) for each in now.get(case, [""])
            }:
                changed.append(f"{cohort}/{case}: {was}, now {', '.join(now.get(case, [])) or 'unknown'}")
    of = len(learnt.drop_duplicates(["cohort", "case_id"]))
    return {"n": len(changed), "of": of, "cases": changed} if changed else None


def _relabelled_text(model: str, relabelled: Mapping[str, Any]) -> str:
    return (
        f"{relabelled['n']} of {relabelled['of']} cases have another label than {model} learnt "
        f"({listed(relabelled['cases'], 3)}): train it again, or its figures mix both"
    )


def _truths(images: pd.DataFrame, column: str = "diagnosis") -> dict[str, list[str]]:
    """Case -> its different diagnoses, or other values of a column."""
    by_case: dict[str, set[str]] = {}
    if column in images:
        stated = images[images[column].notna()]
        for case, value in zip(stated["case_id"], stated[column], strict=True):
            by_case.setdefault(case, set()).add(str(value))
    return {case: sorted(values) for case, values in by_case.items()}


def _not_predicted(predictions: pd.DataFrame, images: pd.DataFrame, classes: ClassSet) -> dict[str, int]:
    """Why cases with a class have no prediction, and how many."""
    rows = predictions[predictions["level"] == IMAGE]
    failed = rows.loc[rows["status"] != OK, "reason"].value_counts().sort_index()
    counts = {str(reason): int(n) for reason, n in failed.items()}
    labelled = {case for case, diagnoses in _truths(images).items() if any(classes.to_class(d) for d in diagnoses)}
    absent = len(labelled - set(rows["case_id"]))
    return {**counts, "without_row": absent} if absent else counts


# ---------------------------------------------------------------------------------------------------- leakage


def _refuse_leakage(
    config: Config, job: Job, table: pd.DataFrame, images: pd.DataFrame
) -> tuple[Leakage | None, str | None, frozenset[str]]:
    """Compare every scored case with what its model learnt from.

    Returns:
        What was found; the reason in force; and cases of a development cohort that are not scored, because the model
        has learnt from a near-identical photo, which the search of the split did not reach, with all of their patients.
    """
    from skinkit.audit import leakage

    trained = _trained_on(job)
    if trained is None:
        job.console.warn(f"{job.target.name} does not say what it was trained on: leakage cannot be looked for")
        return None, config.allow_leakage or None, frozenset()
    development = bool((trained["cohort"] == job.target.cohort).any())
    cases = table[table["level"] == IMAGE].set_index("case_id")["fold"]
    scored = images[images["case_id"].isin(cases.index)]
    scored = scored.assign(fold=scored["case_id"].map(cases))
    about = job.inputs["model"].json("model.json")
    # What learnt from all rows learnt from the held-out ones too, but not from those of cohorts it was not trained on.
    every = ~trained["cohort"].isin(about.get("not_trained_on", [])) & any("final" in fold for fold in about["folds"])
    trained = trained.assign(known=trained["part"].isin(LEARNT) | every)
    photos = leakage.photos_of(job.workspace, job.console)
    overlap = leakage.joined(*_comparisons(config, scored, trained, photos, development=development))
    overlap = leakage.verified_on_photos(overlap, photos)
    # Where the split itself was allowed to leak, the reason given then covers the cohort that was split.
    inherited = str(job.inputs["predictions"].info.get("leakage_allowed") or "") if development else ""
    reason = config.allow_leakage or inherited
    tolerant, learnt = overlap.tolerating_few(len(scored)), frozenset[str]()
    if development and not reason and tolerant is not overlap:
        groups = scored.loc[scored["case_id"].isin(overlap.near["case_id"]), "group_id"]
        learnt = frozenset(scored.loc[scored["group_id"].isin(groups), "case_id"])
        if len(learnt) < scored["case_id"].nunique():
            overlap = tolerant
            job.console.warn(
                f"{len(learnt)} cases are not scored: the model has learnt from photos nearly identical to theirs"
            )
    leakage.refuse(
        overlap,
        reason,
        f"{job.target.cohort} and the cases {job.target.name} was trained on",
        "leave these cases out of one side (a cohort that the model was trained on is scored on held-out rows only)",
    )
    if overlap.cases:
        job.console.warn(f"{overlap.cases} scored cases leak from training, allowed because: {reason}")
    for text in overlap.near_remarks("a training image"):
        job.console.warn(text)
    return overlap, (reason or None) if overlap.cases or config.allow_leakage else None, learnt


def _comparisons(
    config: Config, scored: pd.DataFrame, trained: pd.DataFrame, photos: ComparedPhotos, *, development: bool
) -> Iterator[Leakage]:
    """Every scored case against the rows of the folds, or of the final model (``known``), that predicted it."""
    from skinkit.audit import leakage

    near = {"near_distance_bits": config.near_bits, "near_limit": config.near_limit}
    learnt_from = trained[trained["part"].isin(LEARNT)]
    if not development:
        key = [name for name in ("cohort", "case_id", "image_id") if name in trained]  # older models name no image
        yield leakage.check(scored, trained[trained["known"]].drop_duplicates(key), photos, **near)
        return
    for fold, learnt in learnt_from.groupby("fold"):
        # A development case without a fold was held out by several, or was in no part: then only folds that never met
        # its patient predicted it.
        held_out = trained[(trained["fold"] == fold) & (trained["part"] == "held_out")]
        mine = scored["case_id"].isin(held_out.loc[held_out["cohort"].isin(scored["cohort"]), "case_id"])
        met = scored["fold"].isna() & (mine | ~scored["group_id"].isin(learnt["group_id"]))
        yield leakage.check(scored[(scored["fold"] == fold).fillna(False).astype(bool) | met], learnt, photos, **near)


def _thresholds(
    table: pd.DataFrame, means: Mapping[str, Any], of_folds: Sequence[Mapping[str, Any]], task: str = ""
) -> dict[str, tuple[list[float], str]]:
    """Class thresholds of every row: those of the fold that predicted it, else the mean over the folds.

    In cross-validation the mean would be tuned, a little, on the scored rows: what one fold holds out, another
    validates on.
    """
    import pandas as pd

    of_fold = {int(fold["fold"]): (fold["tasks"][task] if task else fold)["class_thresholds"] for fold in of_folds}
    folds = [None if pd.isna(fold) else int(fold) for fold in table["fold"]]
    thresholds = {}
    for name, mean in means.items():
        if mean["threshold"] is None:
            continue
        own = {fold: entry[name]["threshold"] for fold, entry in of_fold.items() if name in entry}
        values = [own.get(fold) if fold is not None else None for fold in folds]
        thresholds[name] = (
            [float(mean["threshold"] if value is None else value) for value in values],
            str(mean["source"]),
        )
    return thresholds
