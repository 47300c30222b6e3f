"""compare: compare two models on the same cases.

Name two models of the workspace (compared on every development and external cohort, or those of --cohort), or two
tables in the format of 'skinkit score'. Differences are B minus A, with paired 95 % intervals over
patients, and words on which side is better. An interval that holds 0 does not show that they are equal: declare a
margin beforehand (--margin auroc=0.02) to test equivalence and non-inferiority. Models of different malignant sets are
refused (exit 5), and so are different cases, unless --common restricts them to the shared ones. A side may be one
model trained with several seeds, joined by +: 'skinkit compare a0+a1+a2 b0+b1+b2' compares means over seeds, and gives
the difference of each seed. --seeds reports the mean and standard deviation of models that differ only in their seed.
Models that answer several tasks are also compared by their means over tasks. Files are written to 'compare/<cohort>' of
the workspace, or to --out: JSON and a figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact
from skinkit.commands import MODEL_STUDY, Context, _test_access
from skinkit.commands._output import folder_of, write_study
from skinkit.errors import ConfigError, InputError, did_you_mean
from skinkit.options import MANY_MODELS, MODEL, Help, folder_for_files
from skinkit.workspace import Ref

if TYPE_CHECKING:
    from skinkit.evaluation.comparison import ComparedModel

PANEL = "Model study", 1
SHARED_OPTIONS = MODEL_STUDY

FOLDER = "compare"
_SEEDS = "+"
"""Between models of one side that differ in their seed."""
_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    models: Annotated[
        tuple[str, ...], replace(MANY_MODELS, text=f"{MODEL}, or a table of predictions; two of them")
    ] = ()
    common: Annotated[bool, "compare only the cases predicted by both"] = False
    seeds: Annotated[tuple[str, ...], "models or tables that differ only in their seed: mean and SD"] = ()
    margin: Annotated[
        tuple[str, ...],
        Help(
            "difference of a metric that would not matter, declared beforehand, as METRIC=VALUE, repeatable: "
            "equivalence and non-inferiority are tested",
            metavar="METRIC=VALUE",
        ),
    ] = ()
    seed: Annotated[int, "seed of the random groups of patients, above 500"] = 0
    minimum: Annotated[int, "fewest positives and negatives for which a class metric is compared"] = 5
    truth_column: Annotated[str, Help("of tables: column of classes or diagnosis codes", rare=True)] = "diagnosis"
    classes: Annotated[str, Help("of tables: class set, if the columns do not determine it", rare=True)] = ""
    malignant: Annotated[
        str, Help("of tables: malignant set (pad, wang), or the malignant classes with commas", rare=True)
    ] = ""
    threshold: Annotated[float, Help("of tables: malignancy from which a case is called malignant", rare=True)] = 0.3
    out: Annotated[str, folder_for_files(FOLDER, "none for tables")] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Compare them on every cohort."""
    names = config.seeds or config.models
    if (config.seeds and config.models) or len(names) < 2 or (config.models and len(names) > 2):
        raise ConfigError(
            " ".join(["compare", *config.models, *(("--seeds", ",".join(config.seeds)) if config.seeds else ())]),
            "two models or tables, or two or more with --seeds",
            "for example 'skinkit compare frozen_probe lightgbm'",
        )
    tables = [Path(name).suffix.lower() in _TABLES for name in names]
    if any(tables) != all(tables):
        raise ConfigError(f"{' and '.join(names)}", "two models, or two tables", "compare like with like")
    every = [one for name in names for one in (name.split(_SEEDS) if not all(tables) else [name])]
    if len(set(names)) < len(names) or len(set(every)) < len(every):
        raise ConfigError(f"{', '.join(names)} to compare", "different models", "name each of them once")
    if config.minimum < 1:
        raise ConfigError(f"--minimum {config.minimum}", "1 or more", "correct --minimum")
    if config.margin and config.seeds:
        raise ConfigError("--margin with --seeds", "two models to compare", "leave one of them out")
    _margins(config)
    if all(tables):
        folder = Path(config.out) if config.out else None
        sides = [_table(name, config, context) for name in names]
        answers = {"tables": _compared(config, sides, folder)}
        accesses = [
            _test_access.of_table(context, "compare", Path(side.name), side.evaluation.table, config, model=side.name)
            for side in sides
        ]
        if not all(accesses):
            answers["tables"]["text"] += f"\n\n  {_test_access.NOT_LOGGED}."
    else:
        answers = _on_cohorts(config, names, context)
    text = "\n\n".join(f"{cohort}: {answer.pop('text')}" for cohort, answer in answers.items())
    return {"compare": answers, "text": text}


def _on_cohorts(config: Config, names: Sequence[str], context: Context) -> dict[str, dict[str, Any]]:
    workspace = context.workspace()
    pipeline = context.pipeline(workspace)
    cohorts = context.labelled(workspace)
    answers = {}
    for cohort in cohorts:
        metrics = {name: [pipeline.bring(Ref("metrics", cohort, one)) for one in name.split(_SEEDS)] for name in names}
        sides = [side_of_seeds(name, artifacts) for name, artifacts in metrics.items()]
        tasks = [] if config.seeds else _tasks(config, *metrics.items())
        answers[cohort] = _compared(config, sides, folder_of(config.out, workspace, FOLDER, cohort), tasks)
        _test_access.used(workspace, "compare", cohort, metrics[names[0]][0], config, model=" and ".join(names))
    return answers


def side_of_seeds(name: str, metrics: Sequence[Artifact], task: str = "") -> ComparedModel:
    """One side, of the same model trained with each seed.

    Args:
        name: of the model.
        metrics: its metrics on one cohort, of each seed.
        task: a further task; empty for the diagnosis.
    """
    first, *again = (scored_side(name, artifact, task) for artifact in metrics)
    return replace(first, again=tuple(side.evaluation for side in again))


def _tasks(
    config: Config, a: tuple[str, Sequence[Artifact]], b: tuple[str, Sequence[Artifact]]
) -> list[dict[str, Any]]:
    """Paired differences of means over the tasks that every model of both sides answers; none where it is one."""
    from skinkit.evaluation import task_average

    answered = [
        {task for task, of in artifact.info.get("tasks", {}).items() if "classes" in of}
        for _, artifacts in (a, b)
        for artifact in artifacts
    ]
    tasks = sorted(set.intersection(*answered))
    if not tasks:
        return []
    sides = [{task: side_of_seeds(name, artifacts, task) for task in ("", *tasks)} for name, artifacts in (a, b)]
    return task_average.differences(*sides, seed=config.seed)


def scored_side(name: str, metrics: Artifact, task: str = "") -> ComparedModel:
    """The predictions behind a metrics artifact, with their truth, as one side of a comparison.

    Args:
        name: of the model.
        metrics: its metrics.
        task: a further task; empty for the diagnosis.
    """
    from skinkit.evaluation.comparison import ComparedModel
    from skinkit.evaluation.scoring import Evaluation
    from skinkit.schemas import PRIMARY_TASK
    from skinkit.taxonomy import ClassSet

    info = metrics.info["tasks"][task] if task else metrics.info
    classes = ClassSet.from_dict(info["classes"])
    table = metrics.table(file=f"tasks/{task}/scored.parquet" if task else "scored.parquet")
    asked = task or PRIMARY_TASK
    return ComparedModel(name, Evaluation(table, classes, {}, str(info["malignant_set"] or ""), task=asked))


def _margins(config: Config) -> dict[str, float]:
    """Metric -> margin.

    Raises:
        ConfigError: no such metric is compared, it is named twice, or its margin is no number above 0.
    """
    from skinkit.evaluation.comparison import COMPARED

    metrics = list(dict.fromkeys(key[3] for key in COMPARED))
    margins: dict[str, float] = {}
    for text in config.margin:
        name, _, value = text.partition("=")
        name = name.strip()
        if name not in metrics:
            raise ConfigError(f"--margin {text!r}", did_you_mean(name, metrics), "write it as auroc=0.02")
        try:
            margin = float(value)
        except ValueError:
            margin = math.nan
        if not 0 < margin < math.inf or name in margins:
            raise ConfigError(f"--margin {text!r}", "one number above 0 for each metric", "write it as auroc=0.02")
        margins[name] = margin
    return margins


def _table(name: str, config: Config, context: Context) -> ComparedModel:
    """A table of predictions from other software, as one side of a comparison."""
    from skinkit.evaluation import outside_predictions
    from skinkit.evaluation.comparison import ComparedModel
    from skinkit.evaluation.scoring import Evaluation

    file = Path(name)
    checked = outside_predictions.checked(
        outside_predictions.read(file),
        truth_column=config.truth_column,
        classes=config.classes,
        malignant=config.malignant,
        threshold=config.threshold,
        file=file,
    )
    for reason, rows in checked.excluded.items():
        context.console.warn(f"{file}: {rows} rows are not compared: {reason}")
    if "case_id" in checked.made_up and "image_id" not in checked.table:
        raise InputError(
            f"{file} has no case_id or image_id", "a column that names the cases", "add one to both tables"
        )
    return ComparedModel(name, Evaluation(checked.table, checked.classes, {}, checked.malignant_set, "given"))


def _compared(
    config: Config, sides: Sequence[ComparedModel], folder: Path | None, tasks: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    from skinkit.artifacts.files import json_values
    from skinkit.evaluation import comparison
    from skinkit.evaluation.markdown import with_interval
    from skinkit.figures import curves

    figures: dict[str, str] = {}
    if config.seeds:
        result = comparison.spread(sides, common=config.common)
        text, stem = comparison.spread_text(result), "seeds"
    else:
        result = comparison.compare(
            *sides,
            seed=config.seed,
            common=config.common,
            minimum=config.minimum,
            margins=_margins(config),
        )
        a, b = result["models"]["a"], result["models"]["b"]
        title = f"{Path(b).stem} minus {Path(a).stem}, {result['n']} cases"
        if tasks:
            result["means_over_tasks"] = json_values(list(tasks))
        lines = [
            f"  mean of {row['n_tasks']} tasks, {row['figure'].replace('_', ' ')}: "
            f"{row['a']:.3f} and {row['b']:.3f}, {with_interval(row, 'difference', signed=True)}"
            for row in tasks
        ]
        text, stem = "\n".join([comparison.text_of(result), *lines]), f"{Path(a).stem}-{Path(b).stem}"
        if folder is not None:
            unit = "difference (95 % interval)"
            rows = [{**row, "words": comparison.verdict_of(row)} for row in result["differences"]]
            curves.differences(rows, title=title, unit=unit, into=(folder, stem))
            figures = {kind: str(folder / f"{stem}.{kind}") for kind in ("svg", "png")}
    if folder is None:
        return {**result, "folder": None, "files": {}, "text": text}
    written = write_study(folder, stem, result, text, files=figures)
    return {**written.body, "folder": str(folder), "files": written.files, "text": written.text}
