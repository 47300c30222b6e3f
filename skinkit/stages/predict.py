"""predict: model + fused cases -> probabilities, malignancy and call, per image, lesion and patient.

An image has the calibrated probabilities of the model: of the fold that held it out in a development cohort, the mean
over the folds elsewhere. A lesion has the mean of its images' probabilities. A patient is its lesion with the highest
malignancy (a case without lesion id counts as a lesion of its own). A development case that no fold held out is absent.

A case is called malignant where its most probable class is malignant, and by the veto where its malignancy reaches the
model's threshold, whatever the most probable class; where a rule chose a threshold for each fold, a case is called at
that of the fold that held it out, elsewhere at their median. Beside the calibrated malignancy stand the raw one, the
conformal prediction set, and, where the cohort states its prevalence, the malignancy at that prevalence; none of them
decides.

One lesion that is in no cohort is predicted by

    skinkit predict --image PHOTO --attribute age_years=63 --attribute sex=female

With --onnx a file of 'skinkit models export' predicts instead of a model of the workspace, without torch: one photo
(--image; no workspace is needed), or cohorts:

    skinkit predict --onnx concat.onnx --cohort jinan --csv jinan.csv

A cohort's answer is no artifact. It is a table with the columns of predictions, one row per case at level image, and
the diagnosis beside them, so that 'skinkit score' reads it. All folds answer every case, so photos the model has learnt
from are left out with the reason in_training_data. Such a file does not tell how unlike its training cases one is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.artifacts.files import digest
from skinkit.artifacts.tables import records
from skinkit.errors import CaseError, ConfigError, RefusedError, listed
from skinkit.learning.pack import fused_name
from skinkit.models.parts.protocol import DIAGNOSIS, UNCERTAINTIES
from skinkit.options import ONE_MODEL, Help, MaskLabel, MaskPolarity
from skinkit.schemas import (
    EXCLUDED,
    FAILED,
    IMAGE,
    LESION,
    OK,
    PATIENT,
    PREDICTIONS,
    PROBABILITY,
    UNTRAINED,
    probability_prefix,
)
from skinkit.stages import Job, Sources
from skinkit.stats.thresholds import called_malignant, threshold_of
from skinkit.workspace import SETTINGS_FILE, Ref, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.learning.onnx_file import Contract, OnnxAnswer
    from skinkit.learning.trained import Classifier
    from skinkit.taxonomy import ClassSet

VERSION = 4
SCHEMA = PREDICTIONS
SHARES = True
OF_MODEL = True
LEVEL_RULE = (
    "image: the fold that held it out, or the mean of the calibrated folds; lesion: mean of its images' probabilities; "
    "patient: its lesion with the highest malignancy"
)
"""Why every case of a model that has learnt nothing is referred."""
_DOUBTS = ("mask_failed", "features_missing", "unlike_training", UNTRAINED)
UNSURE = tuple(f"uncertainty_{name}" for name in UNCERTAINTIES)
"""Columns that only a network that knows how sure it is fills."""
_JOINED = (
    "level", "case_id", "image_id", "group_id", "patient_id", "lesion_id", "fold", "fold_sd", "missing_attributes",
    "unlike_training", *UNSURE, "refer_reason", "malignancy", "malignancy_raw", "status",
)  # fmt: skip
"""Columns of images that lesions and patients are made of."""


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    model: Annotated[str, ONE_MODEL] = ""
    fused: Annotated[str, "name of the fused table (default: the one the model was trained on)"] = ""
    undecided: Annotated[
        float,
        Help("refer cases whose entropy is above this share of ln(classes): 0 is sure, 1 is any guess", rare=True),
    ] = 0.8
    unlike: Annotated[
        float,
        Help(
            "refer cases more unlike the training rows than this share of the validation rows, percent; 101 for none",
            rare=True,
        ),
    ] = 99.0
    allow_segmenter_mismatch: Annotated[
        bool, Help("measure in masks of another segmenter than the model was trained with", rare=True)
    ] = False
    image: Annotated[
        str,
        Help("predict this one photo, which is in no cohort, and print the result", identity=False, metavar="PHOTO"),
    ] = ""
    attribute: Annotated[
        tuple[str, ...],
        Help("with --image: what is known, such as age_years=63; repeatable", identity=False, metavar="NAME=VALUE"),
    ] = ()
    mask: Annotated[str, Help("with --image: mask of the lesion", identity=False, metavar="FILE")] = ""
    label: MaskLabel = None
    mask_polarity: MaskPolarity = ""
    onnx: Annotated[
        str, Help("predict with this file of 'skinkit models export', without torch", identity=False, metavar="FILE")
    ] = ""
    csv: Annotated[
        str,
        Help(
            "with --onnx: file for the table of the cohorts (default: stdout)",
            identity=False,
            metavar="FILE",
            writes="predictions",
        ),
    ] = ""


def check_values(config: Config, workspace: Workspace) -> None:
    """Refuse, with :class:`ConfigError`, options of one photo or of a file where a cohort is predicted by a model."""
    alone = {name: getattr(config, name) for name in ("image", "attribute", "mask", "onnx", "csv")}
    if given := [name for name, value in alone.items() if value]:
        raise ConfigError(
            f"{listed(given)} in the settings of predict",
            "options of the command line: they make no artifact",
            f"remove them from {SETTINGS_FILE}; give --image or --onnx to 'skinkit predict'",
        )


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One table of predictions per cohort."""
    model = name or config.model or workspace.defaults["model"]
    return [Ref("predictions", cohort, model) for cohort in workspace.chosen(cohorts)]


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The model, and the cohort's fused table."""
    return {
        "model": Ref("models", name=target.name),
        "fused": Ref("fused", target.cohort, config.fused or fused_of(target.name, workspace)),
    }


def sources(config: Config, target: Ref, workspace: Workspace) -> Sources:
    """The prevalence that ``skinkit.toml`` states for the cohort, and whether the model has learnt nothing."""
    from skinkit.learning import untrained

    prevalence = workspace.cohort(target.cohort).prevalence
    inputs = {} if prevalence is None else {"prevalence": repr(prevalence)}
    path = workspace.path(Ref("models", name=target.name))
    if exists(path) and (found := untrained.of_artifact(open_artifact(path))) is not None and found.diagnoses:
        inputs[UNTRAINED] = "true"  # every case is referred; older predictions of such a model are made anew
    return Sources(inputs=inputs, watch="")


def fused_of(model: str, workspace: Workspace) -> str:
    """Name of the fused tables a model was trained on; the workspace's segmenter while there is no model."""
    path = workspace.path(Ref("models", name=model))
    return fused_name(open_artifact(path)) if exists(path) else workspace.defaults["segmenter"]


def run(config: Config, job: Job) -> Artifact:
    """Predict one cohort."""
    import pandas as pd
    from pandas.util import hash_pandas_object

    from skinkit.learning import untrained
    from skinkit.learning.trained import has_other_temperature, open_classifier

    refuse_share(config.undecided)
    model = open_classifier(job.inputs["model"], job.target.name)
    if has_other_temperature(model.about):
        job.console.warn(
            f"{job.target.name} was calibrated by an older version, for the mix of its validation rows and not for the "
            "one that its probabilities suppose: train it again (--replace) before you read its malignancy"
        )
    if model.untrained is not None:
        job.console.warn(f"{job.target.name} {untrained.sentence(model.untrained)}")
    frame = job.inputs["fused"].table()
    frame = frame[frame["status"] == OK].sort_values("case_id", kind="stable").reset_index(drop=True)
    _refuse_other_masks(config, job, model, frame)
    frame["folds"], developed = model.folds_for(frame, job.target.cohort)
    frame["fold"] = pd.Series([f[0] if developed and len(f) == 1 else None for f in frame["folds"]], dtype=object)
    absent = int((frame["folds"].map(len) == 0).sum())
    if absent:
        job.console.info(f"  {absent} development cases are not predicted: no fold held them out")
    frame = frame[frame["folds"].map(len) > 0].reset_index(drop=True)
    prints = [
        job.recipe.fingerprint(
            model.identity, content, list(folds), job.cohort.prevalence, *([UNTRAINED] if model.knows_nothing else [])
        )
        for content, folds in zip(
            hash_pandas_object(frame.drop(columns=["folds", "fold"]), index=False).astype(str),
            frame["folds"],
            strict=True,
        )
    ]
    members = _members(frame)
    of_case = dict(zip(frame["case_id"], prints, strict=True))
    with job.build() as build:
        fingerprints: dict[tuple[Any, ...], str] = {(IMAGE, case): of_case[case] for case in frame["case_id"]}
        for key, lesions in members.items():
            fingerprints[key] = digest([key, [[of_case[case] for case in lesion] for lesion in lesions]])[:32]
        todo = set(build.plan(fingerprints, together=members))
        chosen = frame[[(IMAGE, case) in todo for case in frame["case_id"]]]
        for row in _image_rows(config, job, model, chosen):
            build.add(row)
        build.finish_share()
        columns = [*_JOINED, *(f"{PROBABILITY}{code}" for code in model.classes.classes), *_task_columns(model)]
        rows = {row["case_id"]: row for row in build.recalled(columns) if row["level"] == IMAGE}
        for key, lesions in members.items():
            if key in todo:
                build.add(_joined_row(key, lesions, rows, model, config, job.cohort.prevalence))
        return build.finish(info=_info(job, model, frame, absent))


def refuse_share(undecided: float) -> None:
    """Refuse, with :class:`ConfigError`, an ``--undecided`` that is no share."""
    if not 0 <= undecided <= 1:
        raise ConfigError(f"--undecided {undecided}", "a share, 0 to 1", "0.8 is the default")


def _refuse_other_masks(config: Config, job: Job, model: Classifier, frame: pd.DataFrame) -> None:
    """What another segmenter outlined is another lesion to a model that reads masks or measurements.

    A network that draws masks is told by its identity, so that one trained anew is another.
    """
    if not model.measures or config.allow_segmenter_mismatch:
        return
    identity = (job.inputs["fused"].info.get("masks") or {}).get("segmenter_identity")
    trained_identities = model.about.get("segmenter_identities", [])
    if identity and identity in trained_identities:
        return  # whatever that network is called here
    trained = model.outlined_by
    segmenters = {str(name) for name in frame["segmenter"].dropna().unique()}
    if segmenters - trained:
        raise RefusedError(
            f"{job.inputs['fused'].path} was measured in masks of {listed(sorted(segmenters))}",
            f"masks of {listed(sorted(trained))}, like those {job.target.name} was trained with",
            "segment this cohort the same way, or give --allow-segmenter-mismatch",
        )
    if identity:
        raise RefusedError(
            f"the masks of {job.inputs['fused'].path} were drawn by a segmenter with the identity {identity[:12]}",
            f"one of those {job.target.name} was trained with: {listed(k[:12] for k in trained_identities)}",
            "train the classifier again with the new masks (--replace), bring the old segmenter back, or give "
            "--allow-segmenter-mismatch",
        )


def _members(frame: pd.DataFrame) -> dict[tuple[str, str], list[list[str]]]:
    """(level, id) -> its lesions, each a list of cases."""
    lesions: dict[str, list[str]] = {}
    patients: dict[str, dict[str, list[str]]] = {}
    rows = zip(frame["case_id"], frame["lesion_id"], frame["patient_id"], strict=True)
    for case, lesion, patient in rows:
        if lesion is not None:
            lesions.setdefault(lesion, []).append(case)
        if patient is not None:
            own = f"lesion {lesion}" if lesion is not None else f"case {case}"
            patients.setdefault(patient, {}).setdefault(own, []).append(case)
    by_level: dict[tuple[str, str], list[list[str]]] = {(LESION, name): [cases] for name, cases in lesions.items()}
    return by_level | {(PATIENT, name): list(own.values()) for name, own in patients.items()}


# -------------------------------------------------------------------------------------------------------- rows


def _image_rows(config: Config, job: Job, model: Classifier, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One row per case, predicted in pieces."""
    import numpy as np

    from skinkit.learning import precision
    from skinkit.learning.scorer import Scorer, in_chunks, nan_mean

    if frame.empty:
        return
    needs_device = model.uses_device
    scorer = Scorer(
        model, job.workspace.root, precision.pick_device(job.device) if needs_device else "cpu", job.console
    )
    for part in in_chunks(frame):
        scored = scorer.scored(part, list(part["folds"]), job.cohort.root)
        probability, failed = scored.probability, scored.failed
        readable = np.array([row not in failed for row in range(len(part))], dtype=bool)
        for row, case in zip(sorted(failed), records(part[~readable]), strict=True):
            yield failed_row(case, failed[row])
        unsure = {f"uncertainty_{name}": nan_mean(values) for name, values in scored.uncertainty.items()}
        own = nan_mean(scored.mask_failed)  # of folds that outline the lesion themselves
        mask_failed = part["mask_failed"].where(np.isnan(own), own > 0)
        answered = part.assign(unlike_training=nan_mean(scored.unlike_training), mask_failed=mask_failed, **unsure)[
            readable
        ]
        tasks = {name: of_task[:, readable] for name, of_task in scored.tasks.items()}
        yield from _predicted(config, model, answered, probability[:, readable], tasks, job.cohort.prevalence)


def _failure(error: CaseError) -> dict[str, Any]:
    return {"status": FAILED, "reason": error.reason, "detail": error.detail}


def _keys(case: Mapping[str, Any]) -> dict[str, Any]:
    names = ("case_id", "image_id", "patient_id", "lesion_id", "group_id")
    return {"level": IMAGE, **{name: case[name] for name in names}, "n_cases": 1}


def _predicted(
    config: Config,
    model: Classifier,
    frame: pd.DataFrame,
    scaled: np.ndarray,
    tasks: Mapping[str, np.ndarray],
    prevalence: float | None,
) -> Iterator[dict[str, Any]]:
    """Mean of each case's calibrated folds, (folds, rows, classes) with NaN where a fold did not answer.

    ``scaled`` and ``tasks`` are the probabilities with the folds' temperatures, of the diagnosis and of further tasks.
    """
    import numpy as np

    from skinkit.stats.encoders import missing_attributes

    probability, raw = np.full_like(scaled, np.nan), np.full_like(scaled, np.nan)
    finished = {name: np.full_like(of_task, np.nan) for name, of_task in tasks.items()}
    for index, fold in enumerate(model.folds):
        rows = ~np.isnan(scaled[index]).any(axis=1)
        probability[index, rows] = fold.finished(scaled[index, rows])
        raw[index, rows] = fold.raw(scaled[index, rows])
        for name, of_task in finished.items():
            of_task[index, rows] = fold.tasks[name].finished(tasks[name][index, rows])
    malignancy = probability[:, :, model.malignant].sum(axis=2)
    reads = {name for fold in model.folds for name in fold.encoder.reads}
    for i, case in enumerate(records(frame)):
        mine = ~np.isnan(malignancy[:, i])
        answered = [fold for fold, its in zip(model.folds, mine, strict=True) if its]
        of_tasks = {name: of_task[mine, i].mean(axis=0) for name, of_task in finished.items()}
        yield {
            **_keys(case),
            "fold": case["fold"],
            "fold_sd": float(malignancy[mine, i].std()) if mine.sum() > 1 else None,
            "missing_attributes": ",".join(missing_attributes(case, model.about["attributes"], reads)) or None,
            "unlike_training": case["unlike_training"],
            **{column: case[column] for column in UNSURE},
            **decision(
                probability[mine, i].mean(axis=0),
                _decider(model, case["fold"]),
                config.undecided,
                _doubts(case, model, config),
            ),
            **_beside(
                probability[mine, i].mean(axis=0),
                float(raw[mine, i][:, model.malignant].sum(axis=1).mean()),
                [fold.number for fold in answered],
                model,
                prevalence,
            ),
            **_of_tasks(of_tasks, [fold.number for fold in answered], model),
            "status": OK,
        }


def _doubts(case: Mapping[str, Any], model: Classifier, config: Config) -> list[str]:
    """Why the measurements of a case may mislead a model that reads them, and whether it has seen any like them."""
    unlike = case["unlike_training"]
    strange = ["unlike_training"] if unlike is not None and unlike >= config.unlike else []
    strange += [UNTRAINED] if model.knows_nothing else []
    if not model.measures:
        return strange
    measured = any(fold.radiomics.columns for fold in model.folds)
    doubts = {
        "mask_failed": bool(case["mask_failed"]),
        "features_missing": measured and case["reason"] == "features_missing",
    }
    return [doubt for doubt, present in doubts.items() if present] + strange


@dataclass(frozen=True)
class Decider:
    """What calls cases malignant: a model, or a file made of one.

    Attributes:
        name: of the model.
        identity: of its artifact.
        classes: of the diagnosis.
        threshold: malignancy from which a case is called malignant whatever its most probable class.
    """

    name: str
    identity: str
    classes: ClassSet
    threshold: float


def _decider(model: Classifier, fold: int | None) -> Decider:
    """A model, for cases that one fold answers, or that several do."""
    return Decider(model.name, model.identity, model.classes, threshold_of(model.about, fold))


def decision(probability: np.ndarray, by: Decider, undecided: float, doubts: Sequence[str]) -> dict[str, Any]:
    """Columns with top classes, malignancy, call and referral of one row.

    Args:
        probability: (classes,), calibrated.
        by: what answered.
        undecided: entropy, as a share of the largest, above which a case is referred.
        doubts: further reasons to refer it.
    """
    import numpy as np

    names = by.classes.classes
    is_malignant = by.classes.is_malignant
    first, second = (int(i) for i in np.argsort(-probability, kind="stable")[:2])
    malignancy = float(probability[is_malignant].sum())
    positive = probability[probability > 0]
    entropy = float(-(positive * np.log(positive)).sum() / np.log(len(names)))
    by_class = bool(is_malignant[first])
    malignant = called_malignant(malignancy, by_class, by.threshold)
    reasons = ["malignant_call"] if malignant else []
    reasons += ["undecided"] if entropy > undecided else []
    reasons += doubts
    return {
        "model": by.name,
        "model_identity": by.identity,
        "top1": names[first],
        "top1_p": float(probability[first]),
        "top2": names[second],
        "top2_p": float(probability[second]),
        "malignancy": malignancy,
        "malignant_set": by.classes.malignant_set,
        "threshold": by.threshold,
        "call": "malignant" if malignant else "benign",
        "veto": malignant and not by_class,
        "entropy": entropy,
        "refer": bool(reasons),
        "refer_reason": ",".join(reasons) or None,
        **{f"{PROBABILITY}{name}": float(p) for name, p in zip(names, probability, strict=True)},
    }


def _beside(
    probability: np.ndarray, raw: float, folds: Sequence[int], model: Classifier, prevalence: float | None
) -> dict[str, Any]:
    """:func:`beside` of what these folds of a model answered."""
    import numpy as np

    from skinkit.learning.trained import effective_prevalence

    level = float(np.mean([fold.conformal_level for fold in model.folds if fold.number in folds]))
    source = effective_prevalence(model.about, model.classes.malignant)
    return beside(probability, raw, model.classes, level, source, prevalence)


def beside(
    probability: np.ndarray,
    raw: float,
    classes: ClassSet,
    level: float,
    source: float | None,
    prevalence: float | None,
) -> dict[str, Any]:
    """What stands beside the decision: raw malignancy, prediction set, and malignancy at the stated prevalence.

    Args:
        probability: (classes,), calibrated.
        raw: malignancy before calibration.
        classes: of the diagnosis.
        level: probability from which a class is in the prediction set.
        source: prevalence for which malignancy holds; None where unknown.
        prevalence: that the cohort states; None where it states none.
    """
    from skinkit.stats.calibration import prediction_sets, set_of, shift_malignancy

    is_malignant = classes.is_malignant
    malignancy = probability[is_malignant].sum()
    shifts = prevalence is not None and source is not None and 0 < source < 1
    return {
        "malignancy_raw": raw,
        "prediction_set": set_of(classes.classes, prediction_sets(probability[None], level)[0]),
        "effective_prevalence": source,
        "malignancy_at_prevalence": float(shift_malignancy(malignancy, source or 0, prevalence or 0))
        if shifts
        else None,
    }


def _task_columns(model: Classifier, *names: str) -> list[str]:
    """Probability columns of the further tasks, or of some."""
    return [
        f"{probability_prefix(name)}{code}"
        for name, of in model.tasks.items()
        if not names or name in names
        for code in of.classes
    ]


def _of_tasks(probability: Mapping[str, np.ndarray], folds: Sequence[int], model: Classifier) -> dict[str, Any]:
    """:func:`of_tasks` of what these folds of a model answered."""
    import numpy as np

    answered = [fold for fold in model.folds if fold.number in folds]
    levels = {name: float(np.mean([fold.tasks[name].conformal_level for fold in answered])) for name in probability}
    return of_tasks(probability, model.tasks, levels)


def of_tasks(
    probability: Mapping[str, np.ndarray], tasks: Mapping[str, ClassSet], levels: Mapping[str, float]
) -> dict[str, Any]:
    """Columns of the further tasks of one row.

    Args:
        probability: task -> (classes,).
        tasks: task -> its classes.
        levels: task -> probability from which a class is in the prediction set.
    """
    import numpy as np

    from skinkit.stats import seven_point
    from skinkit.stats.calibration import prediction_sets, set_of

    row: dict[str, Any] = {}
    for name, p in probability.items():
        codes = tasks[name].classes
        first = int(np.argmax(p))
        row |= {f"{probability_prefix(name)}{code}": float(value) for code, value in zip(codes, p, strict=True)}
        row |= {f"top1__{name}": codes[first], f"top1_p__{name}": float(p[first])}
        row[f"prediction_set__{name}"] = set_of(codes, prediction_sets(p[None], levels[name])[0])
    if seven_point.answers_all(probability):
        row |= seven_point.checklist(probability, {name: tasks[name].classes for name in probability})
    return row


def answered_row(
    answer: OnnxAnswer, contract: Contract, case: Mapping[str, Any], undecided: float, prevalence: float | None
) -> dict[str, Any]:
    """What an ONNX file answers for a case, as a row of predictions at level image.

    Args:
        answer: of the file.
        contract: of the file.
        case: row of a cases table, None for what is unknown.
        undecided: as of :func:`decision`.
        prevalence: as of :func:`beside`.
    """
    from skinkit.learning.onnx_file import attributes_present

    p, lacking = answer.probability[DIAGNOSIS], set(contract.reads) - attributes_present(contract.columns, case)
    by = Decider(contract.name, contract.identity, contract.classes, contract.threshold)
    further = {name: of for name, of in contract.tasks.items() if name != DIAGNOSIS}
    return {
        **_keys(case),
        "fold_sd": answer.fold_sd,
        "missing_attributes": ",".join(sorted(lacking)) or None,
        **dict.fromkeys((*UNSURE, "unlike_training")),
        **{f"uncertainty_{name}": value for name, value in answer.uncertainty.items()},
        **decision(p, by, undecided, ()),
        **beside(
            p,
            answer.malignancy_raw,
            contract.classes,
            contract.tasks[DIAGNOSIS].conformal_level,
            contract.effective_prevalence,
            prevalence,
        ),
        **of_tasks(
            {name: answer.probability[name] for name in further},
            {name: of.classes for name, of in further.items()},
            {name: of.conformal_level for name, of in further.items()},
        ),
        "status": OK,
    }


def failed_row(case: Mapping[str, Any], error: CaseError) -> dict[str, Any]:
    """The row of a case whose photo cannot be read."""
    return {**_keys(case), **_failure(error)}


def excluded_row(case: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The row of a case that is not to be predicted."""
    return {**_keys(case), "status": EXCLUDED, "reason": reason}


def _joined_row(
    key: tuple[str, str],
    lesions: Sequence[Sequence[str]],
    rows: Mapping[str, Mapping[str, Any]],
    model: Classifier,
    config: Config,
    prevalence: float | None,
) -> dict[str, Any]:
    """A lesion (the mean of its images) or a patient (its lesion with the highest malignancy).

    ``rows`` are those of the images, by case.
    """
    import numpy as np

    level, name = key
    columns = [f"{PROBABILITY}{code}" for code in model.classes.classes]
    parts = [[row for case in lesion if (row := rows[case])["status"] == OK] for lesion in lesions]
    parts = [part for part in parts if part]
    cases = [row for part in parts for row in part]
    if not cases:
        return {"level": level, "case_id": name, "n_cases": 0, "status": EXCLUDED, "reason": "cases_failed"}
    means = [np.mean([[row[column] for column in columns] for row in part], axis=0) for part in parts]
    worst = int(np.argmax([mean[model.malignant].sum() for mean in means]))
    representative = max(parts[worst], key=_malignancy)
    folds = {row["fold"] for row in cases}
    fold = folds.pop() if len(folds) == 1 else None
    doubts = [d for d in _DOUBTS if any(d in str(row["refer_reason"]) for row in cases)]
    answered = [fold.number for fold in model.folds if all(row["fold"] in (None, fold.number) for row in parts[worst])]
    of_tasks = {
        task: np.mean([[row[column] for column in _task_columns(model, task)] for row in parts[worst]], axis=0)
        for task in model.tasks
    }
    same = {n: representative[n] if len({row[n] for row in cases}) == 1 else None for n in ("patient_id", "lesion_id")}
    return {
        "level": level,
        "case_id": name,
        "image_id": representative["image_id"],
        "group_id": representative["group_id"],
        **same,
        "n_cases": len(cases),
        "fold": fold,
        "fold_sd": representative["fold_sd"] if len(cases) == 1 else None,
        "missing_attributes": representative["missing_attributes"],
        "unlike_training": representative["unlike_training"],
        **{column: _mean([row[column] for row in parts[worst]]) for column in UNSURE},
        **decision(means[worst], _decider(model, fold), config.undecided, doubts),
        **_beside(
            means[worst],
            float(np.mean([row["malignancy_raw"] for row in parts[worst]])),
            answered or model.outside,
            model,
            prevalence,
        ),
        **_of_tasks(of_tasks, answered or model.outside, model),
        "status": OK,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _malignancy(row: Mapping[str, Any]) -> float:
    return float(row["malignancy"])


def _info(job: Job, model: Classifier, frame: pd.DataFrame, absent: int) -> dict[str, Any]:
    """What evaluate and report need beside the table."""
    return {
        **model.described(),
        "level_rule": LEVEL_RULE,
        "model": model.name,
        "segmenter": ",".join(sorted(str(s) for s in frame["segmenter"].dropna().unique())) or None,
        "not_predicted": {"in every fold's training or validation rows": absent} if absent else {},
    }
