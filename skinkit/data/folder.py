"""folder: a hospital's folder, or any folder of images, described by a ``cohort.toml`` in it instead of code.

``docs/hospital.md`` and ``examples/hospitals/cohort.example.toml`` explain each key;
``skinkit ingest --draft TABLE DIR`` writes a first version from the hospital's own table. Only mapped columns and those
in ``keep`` are taken. The file is optional for an inference cohort: without it every image is a case.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from skinkit.data import words
from skinkit.data.canonical import ALLOWED, COLUMNS, NUMBERS
from skinkit.data.source import Arrangement, Dialect, Join, Source
from skinkit.data.tables import check_encoding
from skinkit.errors import ConfigError, did_you_mean, listed
from skinkit.workspace import SETTINGS_FILE, Cohort, checked_diagnoses

DESCRIPTION = "cohort.toml"
_TEXTS = (
    "title", "citation", "licence", "file", "encoding", "delimiter", "decimal", "sheet", "date_format", "id_space",
    "modality", "view", "confirmed_by", "masks",
)  # fmt: skip
_KEYS = (
    *_TEXTS,
    "hidden_rows",
    "heading_rows",
    "missing",
    "keep",
    "images",
    "columns",
    "values",
    "patterns",
    "icd10",
    "join",
    "expected_counts",
    "diagnoses",
)
_JOIN = ("pattern", "dicom_tag", "separator")


def description(cohort: Cohort) -> Path:
    """Where the cohort's ``cohort.toml`` is, or would be."""
    name = cohort.options.get("description", DESCRIPTION)
    if not isinstance(name, str):
        raise ConfigError(
            f"description = {name!r} in [cohorts.{cohort.name}] of {SETTINGS_FILE}",
            "text in quotes",
            "put it in quotes",
        )
    return cohort.root / name


def _configure(source: Source, cohort: Cohort) -> Source:
    """The source that ``cohort.toml`` describes."""
    file = description(cohort)
    if not file.is_file():
        if cohort.role == "inference" or cohort.options.get("table") == "":
            return source
        raise ConfigError(
            f"cohort {cohort.name!r}: no {file}",
            "a description of the hospital's table",
            f"run 'skinkit ingest --draft TABLE {cohort.root}' to write one, or see docs/hospital.md",
        )
    return described(source, file)


def described(source: Source, file: Path) -> Source:
    """A source as a ``cohort.toml`` describes it.

    Raises:
        ConfigError: naming the file, the key and the closest valid one.
    """
    try:
        description = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: {error}", "a valid UTF-8 TOML file", "correct the file") from None
    _check_keys(file, description, _KEYS, "")
    for key in _TEXTS:
        _text(file, description, key)
    dialect = _dialect(file, description)
    columns = _columns(file, description)
    values = _values(file, description)
    constants = {
        key: _allowed(file, key, description[key], key)
        for key in ("modality", "view", "confirmed_by")
        if key in description
    }
    return replace(
        source,
        title=description.get("title", f"folder {file.parent.name}"),
        citation=description.get("citation", ""),
        licence=description.get("licence", ""),
        parts=(Arrangement(),),
        images=_list(file, description, "images") or source.images,
        masks=_masks(file, description),
        columns=columns,
        required=tuple(columns),
        values=values,
        patterns=_patterns(file, description),
        icd10=_icd10(file, description, words.ICD10),
        constants={name: value for name, value in constants.items() if value},
        extra={f"keep__{name}": name for name in _list(file, description, "keep")},
        id_space=description.get("id_space", ""),
        dialect=dialect,
        join=_join(file, description, columns),
        file=description.get("file", ""),
        files=(file.name,),
        expected=_expected(file, description),
        diagnoses=checked_diagnoses(description.get("diagnoses", []), str(file)),
    )


# ---------------------------------------------------------------------------------------------- one key at a time


def _check_keys(file: Path, table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            raise ConfigError(f"{file}: unknown key {key!r}{where}", did_you_mean(key, keys), "rename or remove it")


def _text(file: Path, table: Mapping[str, Any], key: str) -> None:
    if key in table and not isinstance(table[key], str):
        raise ConfigError(f"{file}: {key} = {table[key]!r}", "text in quotes", "put it in quotes")


def _list(file: Path, description: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = description.get(key, [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ConfigError(f"{file}: {key} = {value!r}", "a list of texts", f'write {key} = ["...", "..."]')
    return tuple(value)


def _table(file: Path, description: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = description.get(key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: {key} = {value!r}", f"a table [{key}]", "correct the file")
    return value


def _dialect(file: Path, description: Mapping[str, Any]) -> Dialect:
    dialect = Dialect(
        encoding=description.get("encoding", "utf-8"),
        delimiter=description.get("delimiter", ""),
        decimal=description.get("decimal", "."),
        sheet=description.get("sheet", ""),
        hidden_rows=_hidden_rows(file, description),
        heading_rows=_heading_rows(file, description),
        date_format=description.get("date_format", ""),
        missing=_list(file, description, "missing"),
    )
    check_encoding(dialect.encoding, str(file))
    if dialect.decimal not in (".", ","):
        raise ConfigError(f"{file}: decimal = {dialect.decimal!r}", '"." or ","', "correct decimal")
    if len(dialect.delimiter) > 1 or dialect.delimiter in ('"', "\n", "\r", " "):
        raise ConfigError(
            f"{file}: delimiter = {dialect.delimiter!r}", 'one character, such as ";" or "\\t"', "correct it"
        )
    return dialect


def _hidden_rows(file: Path, description: Mapping[str, Any]) -> bool:
    value = description.get("hidden_rows", False)
    if not isinstance(value, bool):
        raise ConfigError(f"{file}: hidden_rows = {value!r}", "true or false", "correct it")
    return value


def _heading_rows(file: Path, description: Mapping[str, Any]) -> tuple[int, ...]:
    value = description.get("heading_rows", [])
    rows = value if isinstance(value, list) else [value]
    if any(not isinstance(row, int) or isinstance(row, bool) or row < 1 for row in rows) or sorted(set(rows)) != rows:
        raise ConfigError(f"{file}: heading_rows = {value!r}", "numbers of rows, such as [3] or [1, 2]", "correct it")
    return tuple(rows)


def _masks(file: Path, description: Mapping[str, Any]) -> tuple[str, ...]:
    masks = description.get("masks", "")
    if masks and not re.search(r"\{(stem|path|image_id)\}", masks):
        raise ConfigError(
            f"{file}: masks = {masks!r}",
            "a pattern with {stem}, {path} or {image_id}",
            'for example "masks/{stem}.png"',
        )
    return (masks,) if masks else ()


def _columns(file: Path, description: Mapping[str, Any]) -> dict[str, str | tuple[str, ...]]:
    table = _table(file, description, "columns")
    _check_keys(file, table, COLUMNS, " in [columns]")
    columns: dict[str, str | tuple[str, ...]] = {}
    for ours, theirs in table.items():
        if isinstance(theirs, list) and theirs and all(isinstance(name, str) for name in theirs):
            columns[ours] = tuple(theirs)
        elif isinstance(theirs, str) and theirs:
            columns[ours] = theirs
        elif theirs != "":
            raise ConfigError(
                f"{file}: {ours} = {theirs!r} in [columns]", "the name of a column, or a list of names", "correct it"
            )
    patient, lesion = columns.get("patient_id"), columns.get("lesion_id")
    if isinstance(patient, str) and isinstance(lesion, str):  # lesions may be numbered within each patient
        columns["lesion_id"] = (patient, lesion)
    return columns


def _allowed(file: Path, ours: str, value: Any, where: str) -> str:
    """A canonical value, checked; empty means unknown."""
    text = str(value)
    if ours in NUMBERS:
        if text == "" or re.fullmatch(r"\d+(\.\d+)?", text):
            return text
        raise ConfigError(f"{file}: {text!r} in {where}", "a number", "correct it, or leave it empty")
    if text == "" or text in ALLOWED[ours]:
        return text
    raise ConfigError(
        f"{file}: {text!r} in {where}", did_you_mean(text, ALLOWED[ours]), "use one of these, or leave empty"
    )


def _values(file: Path, description: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    table = _table(file, description, "values")
    _check_keys(file, table, (*ALLOWED, *NUMBERS), " in [values]")
    return {
        ours: {
            theirs: _allowed(file, ours, value, f"[values.{ours}]")
            for theirs, value in _table(file, table, ours).items()
        }
        for ours in table
    }


def _patterns(file: Path, description: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    table = _table(file, description, "patterns")
    _check_keys(file, table, ("diagnosis",), " in [patterns]")
    pairs = []
    entries = table.get("diagnosis", [])
    if not isinstance(entries, list):
        raise ConfigError(
            f"{file}: diagnosis = {entries!r} in [patterns]", "[[patterns.diagnosis]]", "correct the file"
        )
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {"match", "value"}:
            raise ConfigError(f"{file}: {entry!r}", "[[patterns.diagnosis]] with match and value", "correct the file")
        try:
            re.compile(str(entry["match"]))
        except re.error as error:
            raise ConfigError(
                f"{file}: match = {entry['match']!r}: {error}", "a regular expression", "correct it"
            ) from None
        pairs.append((str(entry["match"]), _allowed(file, "diagnosis", entry["value"], "[[patterns.diagnosis]]")))
    return tuple(pairs)


def _icd10(file: Path, description: Mapping[str, Any], usual: Mapping[str, str]) -> dict[str, str]:
    if description.get("icd10") is False:
        return {}
    table = _table(file, description, "icd10")
    for code in table:
        if not re.fullmatch(r"[A-Za-z]\d{2}(\.?\w*)?", code):
            raise ConfigError(
                f"{file}: {code!r} in [icd10]", "an ICD-10 code or its beginning, such as C43", "correct it"
            )
    return {**usual, **{code: _allowed(file, "diagnosis", value, "[icd10]") for code, value in table.items()}}


def _expected(file: Path, description: Mapping[str, Any]) -> dict[str, int]:
    table = _table(file, description, "expected_counts")
    _check_keys(file, table, ("total", *ALLOWED["diagnosis"]), " in [expected_counts]")
    for name, n in table.items():
        if not isinstance(n, int) or isinstance(n, bool) or n < 0:
            raise ConfigError(f"{file}: {name} = {n!r} in [expected_counts]", "a number of images", "correct it")
    return dict(table)


def _join(file: Path, description: Mapping[str, Any], columns: Mapping[str, Any]) -> Join:
    table = _table(file, description, "join")
    _check_keys(file, table, _JOIN, " in [join]")
    for key in _JOIN:
        _text(file, table, key)
    pattern, tag = table.get("pattern", ""), table.get("dicom_tag", "")
    if pattern and tag:
        raise ConfigError(f"{file}: pattern and dicom_tag in [join]", "one of them", "remove the other")
    if pattern:
        names = re.findall(r"\{(\w+)\}", pattern)
        for name in names:
            if name not in columns:
                raise ConfigError(
                    f"{file}: {{{name}}} in pattern of [join]",
                    did_you_mean(name, columns) if columns else f"one of {listed(COLUMNS)}, mapped in [columns]",
                    f"map {name} in [columns]",
                )
        if not names:
            raise ConfigError(f"{file}: pattern = {pattern!r}", "a pattern such as {accession}*/*.jpg", "correct it")
        return Join("pattern", pattern=pattern)
    if tag:
        from pydicom.datadict import tag_for_keyword

        if tag_for_keyword(tag) is None:
            raise ConfigError(
                f"{file}: dicom_tag = {tag!r}", "a DICOM keyword such as AccessionNumber", "see PS3.6 for its spelling"
            )
        if "accession" not in columns:
            raise ConfigError(f"{file}: dicom_tag without a column", "accession in [columns]", "map it")
        return Join("dicom", tag=tag)
    if description.get("file") and not {"image", "image_id"} & set(columns):
        raise ConfigError(
            f"{file}: no key defines which images a row has",
            "image in [columns], or pattern or dicom_tag in [join]",
            "map the column that holds the file name",
        )
    return Join("name", separator=table.get("separator", ""))


SOURCE = Source(
    name="folder",
    title="a hospital's folder, described by its cohort.toml",
    words=True,
    ids="path",
    options={"description": "name of the TOML file that describes the folder (cohort.toml)"},
    configure=_configure,
)
