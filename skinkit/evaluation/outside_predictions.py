"""Predictions from other software: a table is read, checked and completed, or refused naming the row and value."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from skinkit.artifacts.tables import read_table
from skinkit.errors import ConfigError, InputError, did_you_mean, listed
from skinkit.evaluation.scoring import TRUTH
from skinkit.schemas import IMAGE, LEVELS, OK, PROBABILITY, probability_columns
from skinkit.stats.metrics import MALIGNANT
from skinkit.stats.thresholds import called_malignant
from skinkit.taxonomy import CLASS_SET_NAMES, DIAGNOSES, MALIGNANT_SETS, ClassSet, class_set

SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class OutsidePredictions:
    """A checked table of predictions, ready to be scored.

    Attributes:
        table: the rows with a known truth, completed for :class:`skinkit.evaluation.scoring.Evaluation`.
        classes: the class set of its columns.
        malignant_set: name of the malignant set; empty if none is known.
        excluded: reason -> number of rows left out.
        remarks: caveats for the reader of the figures.
        made_up: columns that the table lacked and that were filled in.
    """

    table: pd.DataFrame
    classes: ClassSet
    malignant_set: str
    excluded: dict[str, int]
    remarks: list[str]
    made_up: tuple[str, ...]


def read(file: Path) -> pd.DataFrame:
    """A CSV, TSV or Parquet table; CSV columns as text, None where a field is empty."""
    kind = file.suffix.lower()
    if not file.is_file():
        raise InputError(f"no file {file}", "a CSV, TSV or Parquet table", "check the path")
    if kind in (".parquet", ".pq"):
        return read_table(file)
    if kind not in (".csv", ".tsv", ".txt"):
        raise InputError(f"{file} ends in {kind or 'nothing'}", ".csv, .tsv or .parquet", "save it as one of these")
    separator = "\t" if kind == ".tsv" else ","
    _check_delimiter(file, separator)
    try:
        table = pd.read_csv(file, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{file} cannot be read ({error})", "a UTF-8 table with a header", "repair the file") from None
    table.columns = [str(name).strip() for name in table.columns]
    return table.astype(object).map(lambda text: text.strip() or None)


def _check_delimiter(file: Path, separator: str) -> None:
    """Refuse a table whose rows have other numbers of cells than its header, which would shift its columns.

    Raises:
        InputError: naming the row, or the delimiter that the header has instead.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, delimiter=separator)
            header = next(lines, [])
            other = [sign for sign in ",;\t|" if len(header) == 1 and sign in header[0]]
            if other:
                raise InputError(
                    f"{file}: one column; its delimiter looks like {other[0]!r}",
                    f"columns separated by {separator!r}",
                    "save it with commas (and decimal points), or with tabs as .tsv",
                )
            for cells in lines:
                if cells and len(cells) != len(header):
                    trailing = len(cells) > len(header) and not any(cells[len(header) :])
                    raise InputError(
                        f"{file}, row {lines.line_num}: {len(cells)} cells under {len(header)} columns"
                        + (f"; the row ends with the delimiter {separator!r}" if trailing else ""),
                        "as many cells as columns, or the values stand under the wrong ones",
                        "remove the delimiter at the end of the rows" if trailing else "put cells with it in quotes",
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} cannot be read ({error})", "a UTF-8 table with a header", "repair the file") from None


def class_set_of(columns: Sequence[str], named: str, malignant: str, file: Path) -> tuple[ClassSet, str]:
    """The class set of the probability columns, and the name of its malignant set (empty if unknown).

    Args:
        columns: all columns of the table.
        named: class set set by the user; if empty, the first built-in one that has all the classes.
        malignant: name of a malignant set, or class codes with commas, or empty for the class set's own.
        file: for messages.
    """
    codes = tuple(name.removeprefix(PROBABILITY) for name in probability_columns(list(columns)))
    if len(codes) < 2:
        raise InputError(
            f"{file} has the columns {listed(columns)}",
            f"two columns or more named {PROBABILITY}CLASS, for example {PROBABILITY}MEL",
            "rename the probability columns",
        )
    set_name = malignant if malignant in MALIGNANT_SETS else ""
    candidates = [class_set(name, set_name) for name in ([named] if named else CLASS_SET_NAMES)]
    base = next((one for one in candidates if set(codes) <= set(one.classes)), None)
    if base is None and named:
        raise InputError(
            f"{file} has probabilities of {listed(codes)}",
            f"classes of {named!r}: {listed(candidates[0].classes)}",
            "rename the columns, or give another --classes",
        )
    if base is None:
        # Classes of no built-in set. If they are diagnosis codes, a named malignant set defines the malignant ones.
        wanted = MALIGNANT_SETS[set_name] if set_name and set(codes) <= set(DIAGNOSES) else frozenset()
        base = ClassSet("given", codes, {code: code for code in codes}, set_name if wanted else "", wanted)
    chosen, malignant_set = base.malignant & set(codes), base.malignant_set
    if malignant and not set_name:
        chosen, malignant_set = frozenset(part.strip() for part in malignant.split(",")), "given"
        for code in sorted(chosen - set(codes)):
            expected = did_you_mean(code, [*codes, *MALIGNANT_SETS])
            raise ConfigError(f"--malignant names {code!r}", expected, "name classes of the table, or a malignant set")
    return replace(
        base,
        classes=codes,
        members={diagnosis: code for diagnosis, code in base.members.items() if code in codes},
        labels={code: base.labels.get(code, code) for code in codes},
        malignant=chosen,
        malignant_set=malignant_set,
    ), malignant_set


def checked(
    predictions: pd.DataFrame, *, truth_column: str, classes: str, malignant: str, threshold: float, file: Path
) -> OutsidePredictions:
    """Check a table row by row and complete it.

    Raises:
        InputError: a column is missing, or a value is out of range; the message names the row (from 1) and the value.
    """
    of, malignant_set = class_set_of([str(name) for name in predictions.columns], classes, malignant, file)
    if truth_column not in predictions:
        others = [str(name) for name in predictions.columns if not str(name).startswith(PROBABILITY)]
        raise InputError(
            f"{file} has no column {truth_column!r}",
            did_you_mean(truth_column, others),
            "name the column of the truth with --truth-column",
        )
    table = predictions.reset_index(drop=True).copy()
    table, skipped = _without_others(table)
    names = [f"{PROBABILITY}{code}" for code in of.classes]
    for name in (*names, "malignancy", "malignancy_raw", "threshold", "age_years", "entropy"):
        if name in table:
            table[name] = _numbers(table[name], name, file)
    if "refer" in table:
        table = table.assign(refer=[str(value).strip().lower() in ("true", "1", "yes") for value in table["refer"]])
    _check_probabilities(table, names, file)
    for name in ("malignancy", "malignancy_raw"):
        if name in table and (name == "malignancy" or table[name].notna().any()):
            _check_range(table[name], name, file)
    table, unscored = _with_truth(table, truth_column, of, file)
    skipped |= unscored
    excluded = {reason: len(rows) for reason, rows in sorted(skipped.items())}
    remarks = [f"not scored ({reason}): rows {listed(rows)}" for reason, rows in sorted(skipped.items())]
    made_up = tuple(name for name in ("case_id", "group_id") if name not in predictions)
    table = _with_keys(table, file, remarks)
    if malignant_set:
        table = _with_calls(table, of, threshold, file, remarks)
    else:
        remarks.append("which classes are malignant is not known: give --malignant pad, wang or CLASS,CLASS")
        table = table.drop(columns=["malignancy", "call"], errors="ignore").assign(threshold=np.nan)
    table = table.assign(several=False).reset_index(drop=True)
    return OutsidePredictions(table, of, malignant_set, excluded, remarks, made_up)


def _without_others(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[int]]]:
    """The rows of a known level with status ok, in any case; and reason -> numbers of the other rows, from 1."""
    skipped: dict[str, list[int]] = {}
    for name, allowed in (("level", LEVELS), ("status", (OK,))):
        if name not in table:
            continue
        words = [None if value is None or pd.isna(value) else str(value).strip() for value in table[name]]
        plain = [(word or allowed[0]).casefold() for word in words]
        for row, word, value in zip(table.index, words, plain, strict=True):
            if value not in allowed:
                skipped.setdefault(f"{name}:{word}", []).append(int(str(row)) + 1)
        table = table.assign(**{name: pd.Series(plain, table.index, dtype=object)})
        table = table[table[name].isin(allowed)]
    return table, skipped


def _with_truth(
    table: pd.DataFrame, column: str, classes: ClassSet, file: Path
) -> tuple[pd.DataFrame, dict[str, list[int]]]:
    """The rows whose truth has a class; and reason -> numbers of the other rows, from 1."""
    values = [None if value is None or pd.isna(value) else str(value) for value in table[column]]
    codes = {_plain(diagnosis): code for diagnosis, code in classes.members.items()}
    codes |= {_plain(code): code for code in classes.classes}
    exact = {**classes.members, **{code: code for code in classes.classes}}
    truth = [None if value is None else exact.get(value) or codes.get(_plain(value)) for value in values]
    skipped: dict[str, list[int]] = {}
    for row, value, code in zip(table.index, values, truth, strict=True):
        if code is None:
            why = "unlabelled" if value is None else f"no_class:{value}"
            skipped.setdefault(why, []).append(int(str(row)) + 1)
    if not any(truth):
        counts = {why: len(rows) for why, rows in skipped.items()}
        raise InputError(
            f"no row of {file} has a known truth (column {column!r}: {counts or 'no rows'})",
            f"classes {listed(classes.classes)}, or diagnoses {listed(sorted(classes.members))}",
            "name the column with --truth-column, or the class set with --classes",
        )
    table = table.assign(**{TRUTH: pd.Series(truth, index=table.index, dtype=object)})
    return table[table[TRUTH].notna()], skipped


def _plain(label: str) -> str:
    """A label for comparison: case, blanks and underscores do not matter."""
    return re.sub(r"[\s_-]+", "_", label.strip().casefold())


def _with_keys(table: pd.DataFrame, file: Path, remarks: list[str]) -> pd.DataFrame:
    """Fill in absent level, case_id and group_id."""
    numbered = pd.Series([f"row {int(str(i)) + 1}" for i in table.index], table.index, object)
    if "level" not in table:
        table = table.assign(level=IMAGE)
    if "case_id" not in table:
        table = table.assign(case_id=table.get("image_id", numbered))
    table = table.assign(case_id=table["case_id"].fillna(numbered).astype(str))
    twice = table.duplicated(["level", "case_id"])
    if twice.any():
        row = int(str(twice.idxmax()))
        case = table["case_id"][row]
        raise InputError(f"{file}, row {row + 1}: case {case!r} occurs twice", "every case once", "remove one of them")
    if "group_id" not in table:
        by = next((name for name in ("patient_id", "lesion_id") if name in table), None)
        if by is None:
            remarks.append("no group_id or patient_id: every row counts as a patient of its own in the intervals")
        table = table.assign(group_id=table["case_id"] if by is None else table[by])
    return table.assign(group_id=table["group_id"].fillna(table["case_id"]).astype(str))


def _with_calls(
    table: pd.DataFrame, classes: ClassSet, threshold: float, file: Path, remarks: list[str]
) -> pd.DataFrame:
    """Fill in absent malignancy, threshold and call; check those that are there.

    Raises:
        InputError: a malignancy is not the sum over the malignant classes, or a call is not that of the veto
            (:func:`skinkit.stats.thresholds.called_malignant`).
    """
    columns = [f"{PROBABILITY}{code}" for code in classes.classes if code in classes.malignant]
    total = table[columns].sum(axis=1).clip(0, 1)
    if "malignancy" not in table:
        table = table.assign(malignancy=total)
    apart = (table["malignancy"] - total).abs() > SUM_TOLERANCE
    if apart.any():
        row = int(str(apart.idxmax()))
        raise InputError(
            f"{file}, row {row + 1}: malignancy = {table['malignancy'][row]:g}, but the probabilities of "
            f"{', '.join(sorted(classes.malignant))} sum to {total[row]:.4f} ({int(apart.sum())} such rows)",
            f"the sum over the malignant classes, within {SUM_TOLERANCE:g}",
            "remove the column or, if it is the truth, rename it; name other malignant classes with --malignant",
        )
    if "threshold" not in table:
        table = table.assign(threshold=threshold)
    benign = [f"{PROBABILITY}{code}" for code in classes.classes if code not in classes.malignant]
    top = table[[f"{PROBABILITY}{code}" for code in classes.classes]].idxmax(axis=1).isin(columns)
    by_rule = called_malignant(table["malignancy"], top, table["threshold"])
    alone = int((top & (table["malignancy"] < table["threshold"])).sum())
    if alone:
        remarks.append(f"{alone} cases are called malignant by their most probable class, below the threshold")
    if "call" not in table:
        return table.assign(call=pd.Series(np.where(by_rule, MALIGNANT, "benign"), table.index, object))
    calls = [_CALLS.get(str(value).strip().lower()) for value in table["call"]]
    for row, call, value in zip(table.index, calls, table["call"], strict=True):
        if call is None:
            where = f"{file}, row {int(str(row)) + 1}: call = {value!r}"
            raise InputError(where, "malignant or benign", "correct the value")
    table = table.assign(call=pd.Series(calls, table.index, object))
    lead = table[columns].max(axis=1) - (table[benign].max(axis=1) if benign else 0.0)
    # Rounded values may cross the threshold, or make a tie of the most probable classes.
    clear = (table["malignancy"] - table["threshold"]).abs() > SUM_TOLERANCE
    high = table["malignancy"] >= table["threshold"]
    surely = (lead > SUM_TOLERANCE) | (clear & high)
    never = (lead < -SUM_TOLERANCE) & clear & ~high
    called = table["call"] == MALIGNANT
    apart = (surely & ~called) | (never & called)
    if apart.any():
        row = int(str(apart.idxmax()))
        raise InputError(
            f"{file}, row {row + 1}: call = {table['call'][row]}, but malignancy is {table['malignancy'][row]:.4f} at "
            f"the threshold {table['threshold'][row]:g} and the most probable class is "
            f"{'malignant' if top[row] else 'benign'} ({int(apart.sum())} such rows)",
            "calls of the veto: malignant where the most probable class is, or malignancy reaches the threshold",
            "remove the column call, so that the veto is scored, or give its threshold as --threshold or as a column"
            + ("" if (clear & (called != high)).any() else "; these calls are those of the threshold alone"),
        )
    return table


_CALLS: dict[str, str] = {
    **dict.fromkeys(("malignant", "true", "1", "yes"), MALIGNANT),
    **dict.fromkeys(("benign", "false", "0", "no"), "benign"),
}


def _numbers(values: pd.Series, name: str, file: Path) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    bad = values.notna() & numbers.isna()
    if bad.any():
        row = int(str(bad.idxmax()))
        raise InputError(f"{file}, row {row + 1}: {name} = {values[row]!r}", "a number", "correct the value")
    return numbers


def _check_range(values: pd.Series, name: str, file: Path) -> None:
    bad = ~values.between(0, 1)
    if bad.any():
        row = int(str(bad.idxmax()))
        raise InputError(
            f"{file}, row {row + 1}: {name} = {values[row]:g} ({int(bad.sum())} such rows)",
            "a probability from 0 to 1 in every row",
            "give probabilities (not per cent or logits), and drop rows that were not predicted",
        )


def _check_probabilities(table: pd.DataFrame, names: Sequence[str], file: Path) -> None:
    for name in names:
        _check_range(table[name], name, file)
    total = table[list(names)].sum(axis=1)
    bad = (total - 1).abs() > SUM_TOLERANCE
    if bad.any():
        row = int(str(bad.idxmax()))
        raise InputError(
            f"{file}, row {row + 1}: the probabilities sum to {total[row]:.4f} ({int(bad.sum())} such rows)",
            f"1, within {SUM_TOLERANCE:g}",
            "give the probabilities of all classes; they are never renormalised here",
        )


def class_thresholds(text: str, classes: ClassSet) -> dict[str, float]:
    """Class -> threshold, from text such as ``MEL=0.2,NEV=0.5``."""
    thresholds: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if name not in classes.classes or not 0 <= value <= 1:
            expected = f"CLASS=NUMBER from 0 to 1; {did_you_mean(name, classes.classes)}"
            raise ConfigError(f"--thresholds {part!r}", expected, "write it as MEL=0.2,NEV=0.5")
        thresholds[name] = value
    return thresholds
