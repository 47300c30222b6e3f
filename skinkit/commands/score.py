"""score: score predictions from another system.

The table has a column p__diagnosis__CLASS for each class and a column of the truth. No workspace is needed. With
patient_id, intervals are over patients. Rows are checked, never renormalised; an error names the first invalid row.
With --training FILE, a table of the training rows' ids and hashes, patients, lesions and images in both tables are
refused. Files are written to --out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts import csv
from skinkit.artifacts.files import json_values, write_atomic
from skinkit.commands import Context, _test_access
from skinkit.errors import ConfigError, InputError
from skinkit.options import Help
from skinkit.schemas import IMAGE, METRICS, PREDICTIONS, PROBABILITY
from skinkit.stages.evaluate import Scoring, check_by, settings_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.audit.label_attributes import AttributeSearch
    from skinkit.audit.leakage import Leakage
    from skinkit.audit.shortcuts import Audit
    from skinkit.taxonomy import ClassSet

PANEL = "Model study", 2
SHARED_OPTIONS = ()


@dataclass(frozen=True)
class Config(Scoring):
    """Options of the command."""

    file: Annotated[str, Help("CSV, TSV or Parquet table of predictions", positional=True, metavar="FILE")] = ""
    truth_column: Annotated[str, "column of classes or diagnosis codes"] = "diagnosis"
    classes: Annotated[str, "class set, if the columns do not determine it"] = ""
    malignant: Annotated[str, "malignant set (pad, wang), or the malignant classes with commas"] = ""
    threshold: Annotated[
        float, "of the veto: a case is called malignant from this malignancy on, or by its most probable class"
    ] = 0.3
    thresholds: Annotated[str, "class thresholds fixed beforehand, such as MEL=0.2,NEV=0.5"] = ""
    prevalence: Annotated[float, "share of malignant cases where the model is to be used; 0 for unknown"] = 0.0
    trained_prevalence: Annotated[
        float, Help("share of malignant cases among the training rows; 0 for that of the scored rows", rare=True)
    ] = 0.0
    training: Annotated[str, Help("table of the training rows' ids and hashes, to find leakage", metavar="FILE")] = ""
    out: Annotated[str, Help("folder for metrics.csv, metrics.parquet and figures", metavar="DIR", writes="folder")] = (
        ""
    )


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Score the table.

    Raises:
        InputError: a column is missing or a value invalid, naming row and value.
        RefusedError: ``--training`` shares patients, lesions or images with it.
    """
    from skinkit.artifacts.tables import read_table, write_table
    from skinkit.evaluation import outside_predictions, scoring

    if not config.file:
        raise ConfigError(
            "score without a table", "a CSV or Parquet table of predictions", "for example 'skinkit score theirs.csv'"
        )

    settings = settings_of(config, _share(config, "prevalence"))
    file = Path(config.file)
    raw = outside_predictions.read(file)
    check_by(config.by, [str(name) for name in raw.columns], str(file))
    checked = outside_predictions.checked(
        raw,
        truth_column=config.truth_column,
        classes=config.classes,
        malignant=config.malignant,
        threshold=config.threshold,
        file=file,
    )
    thresholds = outside_predictions.class_thresholds(config.thresholds, checked.classes)
    overlap = _against_training(config, checked.table.drop(columns=list(checked.made_up))) if config.training else None
    for text in overlap.near_remarks("a training row") if overlap else ():
        context.console.warn(text)
    evaluation = scoring.Evaluation(
        checked.table,
        checked.classes,
        {name: (value, "given") for name, value in thresholds.items()},
        checked.malignant_set,
        "given",
        _share(config, "trained_prevalence"),
    )
    models = set(raw["model"].dropna()) if "model" in raw else set()
    model = str(models.pop()) if len(models) == 1 else "given"
    scores = evaluation.scores(settings, cohort=file.stem, model=model)
    rows = scores.rows
    info = {
        **evaluation.info(scores, settings),
        "excluded": checked.excluded,
        "remarks": checked.remarks,
        "leakage": overlap.as_dict() if overlap else None,
        "allow_leakage": (config.allow_leakage or None) if overlap else None,
    }
    endpoint = info["primary"]["endpoint"] if info["primary"] else None
    access = _test_access.of_table(
        context, "score", file, checked.table, config, model=model, endpoint=endpoint, declared_by="person"
    )
    info["look"] = access.as_dict() if access else None
    if info["primary"] and access:
        info["primary"] |= access.declaration()
    info["text"] = scoring.text(rows, info)
    info["text"] += f"\n\n  {access.as_dict()['text'] if access else _test_access.NOT_LOGGED}."
    if overlap is not None:
        info["text"] += f"\n  {overlap.limits()}"
    audit = _audit_of_table(config, checked.table, checked.classes) if checked.malignant_set else None
    if audit is not None:
        info |= audit.write(Path(config.out) if config.out else None)
        info["text"] += f"\n\n  {info['shortcuts']['verdict']}"
    labels = _label_attributes(config, checked.table, checked.classes) if config.shortcuts else None
    if labels is not None:
        info["label_attributes"] = json_values(labels.worth_a_warning())
        info["text"] += "".join(f"\n  If the model read it: {sentence}" for sentence in labels.warnings)
        if config.out:
            labels.write(Path(config.out))
    if config.out:
        folder = Path(config.out)
        evaluation.write(folder, scores)
        write_table(folder / "metrics.parquet", METRICS, rows)
        for name in ("metrics", "gaps", *(("veto_sweep", "veto_by_class") if len(scores.sweep) else ())):
            table = read_table(folder / f"{name}.parquet")
            write_atomic(folder / f"{name}.csv", csv.escaped(table).to_csv(index=False).encode())
        info["out"] = str(folder)
        context.console.info(f"metrics and figures are in {folder}")
    return {
        **info,
        "metrics": [scoring.plain(row) for row in rows[list(METRICS.names)].to_dict("records")],
        "gaps_table": [scoring.plain(row) for row in scores.gaps.to_dict("records")],
        "veto_sweep": [scoring.plain(row) for row in scores.sweep.to_dict("records")],
        "veto_by_class": [scoring.plain(row) for row in scores.sweep_by_class.to_dict("records")],
        "shortcut_cues": audit.as_dict()["cues"] if audit is not None else [],
    }


def _audit_of_table(config: Config, table: pd.DataFrame, classes: ClassSet) -> Audit | None:
    """The shortcut audit of a table from other software, over all columns except keys and probabilities."""
    from skinkit.audit import shortcuts

    if not config.shortcuts:
        return None
    cases = table[table["level"] == IMAGE].reset_index(drop=True)
    cues = shortcuts.cues_of(cases, shortcuts.attributes_of(cases, config.truth_column))
    return shortcuts.audited(cases, cues, classes, seed=config.seed)


_ANSWERS_BEGIN = ("p__", "prediction_set", "top1", "top2", "uncertainty_", "checklist_")
_AGREE = 0.99
"""Share of rows on which a column says what the model says, or rank correlation."""
_RECORDED, _FEWEST = 0.9, 3
"""Share and number of known values below which a column is taken for an attribute."""


def _label_attributes(config: Config, table: pd.DataFrame, classes: ClassSet) -> AttributeSearch | None:
    """Attributes beside the predictions that nearly are the truth; None where the table has none.

    Columns of predictions, and those that say what the model answers, are no attributes.
    """
    import numpy as np

    from skinkit.audit import label_attributes

    cases = table[table["level"] == IMAGE].reset_index(drop=True)
    scores = cases[[f"{PROBABILITY}{code}" for code in classes.classes]].to_numpy(dtype=float)
    top = np.array(classes.classes)[scores.argmax(axis=1)]
    kinds = label_attributes.columns_of(cases, config.truth_column, *PREDICTIONS.names)
    kinds = {
        name: kind
        for name, kind in kinds.items()
        if kind != label_attributes.KEY
        and not name.startswith(_ANSWERS_BEGIN)
        and not _is_answer(cases[name], top, scores, cases["class"].to_numpy(dtype=str))
    }
    if not kinds:
        return None
    return label_attributes.search(
        cases.assign(cluster=cases["group_id"]),
        classes,
        kinds,
        seed=config.seed,
        most_pairs=label_attributes.FEW_PAIRS,
        most_triples=0,
    )


def _is_answer(column: pd.Series[Any], top: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> bool:
    """Whether a column says what the model says: its most probable class, or a number that ranks as a probability does.

    A column of words does where each word goes with one class of the model and each class with one word, and more so
    than with the truth.
    """
    import numpy as np
    import pandas as pd
    from scipy.stats import spearmanr

    known = column.notna().to_numpy()
    if known.mean() < _RECORDED or known.sum() < _FEWEST:
        return False
    words = column[known].astype(str).to_numpy()
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)[known]
    if not np.isnan(numbers).any() and len(np.unique(numbers)) > 2 * scores.shape[1]:
        ranks = [scores[known].max(axis=1), *scores[known].T]
        return any(abs(float(spearmanr(numbers, p).statistic)) > _AGREE for p in ranks if np.ptp(p) > 0)
    of_top, of_truth = _one_to_one(words, top[known]), _one_to_one(words, truth[known])
    return of_top >= _AGREE and of_top > of_truth


def _one_to_one(words: np.ndarray, classes: np.ndarray) -> float:
    """Share of the rows that remain where each word is read as one class and each class as one word."""
    import pandas as pd

    counts = pd.crosstab(words, classes).to_numpy()
    return float(min(counts.max(axis=1).sum(), counts.max(axis=0).sum()) / counts.sum())


def _share(config: Config, name: str) -> float | None:
    """The value of an option that is a share; None for 0."""
    value = float(getattr(config, name))
    if not 0 <= value < 1:
        raise ConfigError(
            f"--{name.replace('_', '-')} {value:g}", "a share between 0 and 1, such as 0.02", "correct it"
        )
    return value or None


def _against_training(config: Config, table: pd.DataFrame) -> Leakage:
    """Compare the table with its training rows by every id and hash that both have."""
    from skinkit.audit import leakage
    from skinkit.evaluation import outside_predictions

    sides = [
        side.drop(columns="cohort", errors="ignore")
        for side in (table, outside_predictions.read(Path(config.training)))
    ]
    overlap = leakage.check(sides[0], sides[1], near_distance_bits=config.near_bits, near_limit=config.near_limit)
    if not overlap.compared:
        raise InputError(
            f"{config.training} shares no ids or hashes with {config.file}",
            "patient_id, lesion_id, case_id, image_id, group_id, image_sha256, pixel_sha256 or dhash in both",
            "add such a column to both tables",
        )
    leakage.refuse(overlap, config.allow_leakage, f"{config.file} and {config.training}")
    return overlap
