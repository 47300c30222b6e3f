"""Write a draft ``cohort.toml`` from a hospital's own table: guess what can be guessed and list the rest.

Encoding, delimiter and decimal sign are guessed from the bytes; columns from their English or Chinese headers and from
their cells; words for sex, site and diagnosis from ``words.toml``. Where an age is empty, the dates of birth and visit
give it, if their format is certain. Unmapped words are listed with their counts, and so are the columns that are not
taken, and mapped ones that a model would not read. The draft's first line asks a person to review it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from skinkit.artifacts.files import write_atomic
from skinkit.data import words
from skinkit.data.canonical import ALLOWED, BACKGROUNDS, UNITS, YES_NO
from skinkit.data.diagnoses import guess, said_by_codes
from skinkit.data.files import EXTENSIONS, walk
from skinkit.data.folder import DESCRIPTION
from skinkit.data.ids import look_like_names
from skinkit.data.source import Dialect
from skinkit.data.tables import (
    Table,
    UnreadableError,
    age_years,
    date,
    guess_delimiter,
    guess_encoding,
    is_missing,
    read,
)
from skinkit.errors import ConfigError, InputError, RefusedError, listed
from skinkit.schemas import PAD_ATTRIBUTES
from skinkit.taxonomy import DIAGNOSES, SYMPTOMS

_WORDS = {
    "sex": words.SEX,
    "site": {term: site for term, (site, _) in words.SITES.items()},
    "confirmed_by": words.CONFIRMED,
    "modality": words.MODALITY,
    **dict.fromkeys((*YES_NO, *SYMPTOMS), words.YES_NO),
}
_MOST_WORDS = 400
_DATES = ("birth_date", "exam_date")
_DATE_FORMATS = ("", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
_UNSURE_DATES = 'to take ages from dates, set date_format, such as "%d/%m/%Y", and map birth_date and exam_date'
_PAD = frozenset(column.name for column in PAD_ATTRIBUTES)


@dataclass(frozen=True)
class _Words:
    """The words of one column.

    Attributes:
        mapped: word -> our value.
        guessed: word -> the value that a longer text probably means; the draft has it as a comment.
        unmapped: word -> rows that have it.
    """

    mapped: dict[str, str]
    guessed: dict[str, str]
    unmapped: dict[str, int]


def write_draft(table: Path, folder: Path) -> dict[str, Any]:
    """Write ``cohort.toml`` into the folder of the images.

    Args:
        table: the hospital's table, as a path from here or from the folder.
        folder: folder of its images.

    Returns:
        ``path``, ``encoding``, ``delimiter``, ``decimal``, ``columns``, ``not_taken``, ``not_read``, ``unmapped``,
        ``guesses`` and ``text``.

    Raises:
        RefusedError: there is a ``cohort.toml`` already.
        ConfigError: the folder is absent.
        InputError: the table cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"no folder {folder}", "the folder of the images", "correct the path")
    target = folder / DESCRIPTION
    if target.exists():
        raise RefusedError(f"{target} exists", f"a folder without {DESCRIPTION}", "rename the existing file first")
    table = _found(table, folder)
    dialect = _dialect(table)
    content = read(table, dialect)
    dialect = _with_decimal(dialect, content)
    columns = _columns(content, dialect, folder)
    dialect, unsure_dates = _with_dates(dialect, content, columns)
    vocabulary = {ours: _sorted_words(ours, _counts(content, theirs, dialect)) for ours, theirs in columns.items()}
    vocabulary = {ours: column for ours, column in vocabulary.items() if ours in ("diagnosis", *_WORDS)}
    named = columns.get("patient_id")
    if named is not None and look_like_names(_counts(content, named, dialect)):
        del columns["patient_id"]
    else:
        named = None
    not_taken = [name for name in content.columns if name not in columns.values()]
    not_read = _not_read(content, columns, dialect)
    text = _toml(table, folder, dialect, content, columns, vocabulary, not_taken, named, unsure_dates)
    write_atomic(target, text.encode())
    guesses = {ours: column.guessed for ours, column in vocabulary.items() if column.guessed}
    unmapped = {ours: column.unmapped for ours, column in vocabulary.items() if column.unmapped}
    return {
        "path": str(target),
        "encoding": dialect.encoding,
        "delimiter": dialect.delimiter,
        "decimal": dialect.decimal,
        "columns": dict(columns),
        "not_taken": not_taken,
        "not_read": not_read,
        "unmapped": unmapped,
        "guesses": guesses,
        "text": _summary(target, content, columns, unmapped, guesses, not_taken, named, not_read, unsure_dates),
    }


# -------------------------------------------------------------------------------------------------------- guesses


def _found(table: Path, folder: Path) -> Path:
    """The table as named from here, else from the folder of the images, beside which it usually lies."""
    if table.is_file() or table.is_absolute():
        return table
    if (folder / table).is_file():
        return folder / table
    raise InputError(
        f"no table {table}, here or in {folder}", "the hospital's table", "correct its name, or give its whole path"
    )


def _with_dates(dialect: Dialect, table: Table, columns: dict[str, str]) -> tuple[Dialect, dict[str, str]]:
    """The dialect with the one format that reads all dates; else ``columns`` lose them, and they are the second."""
    dates = {ours: columns[ours] for ours in _DATES if ours in columns}
    cells = [
        cell
        for theirs in dates.values()
        for cell in _counts(table, theirs, dialect)
        if words.plain(cell) not in words.UNKNOWN
    ]
    fitting = [form for form in _DATE_FORMATS if all(_is_date(cell, form) for cell in cells)]
    if not dates or fitting[:1] == [""]:
        return dialect, {}
    if len(fitting) == 1:
        return replace(dialect, date_format=fitting[0]), {}
    for ours in dates:  # day and month may be either way round: a person says which
        del columns[ours]
    return dialect, dates


def _is_date(cell: str, date_format: str) -> bool:
    try:
        date(cell, date_format)
    except UnreadableError:
        return False
    return True


def _not_read(table: Table, columns: Mapping[str, str], dialect: Dialect) -> list[str]:
    """Of the mapped columns that some model could read, what the encoder does not that a training chooses for them."""
    from skinkit.stats.encoders import ENCODERS

    pad = [ours for ours in columns if ours in _PAD]
    encoder = "pad81" if pad else "isic"
    reads = {attribute.name for attribute in ENCODERS[encoder]}
    some = {attribute.name for of in ENCODERS.values() for attribute in of}
    said = []
    for ours in columns:
        if ours not in some or ours in reads:
            continue
        if ours == "site" and "region" in reads:
            counts = Counter(
                {} if "region" in columns else _counts(table, columns[ours], dialect)
            )  # where a table has both, the region is read
            lost = sum(n for word, n in counts.items() if not words.SITES.get(words.plain(word), ("", ""))[1])
            if lost:
                said.append(
                    f"{columns[ours]}: {lost} of {counts.total()} sites, which name no region of PAD-UFES-20. Because "
                    f"{listed(pad)} is mapped, 'skinkit train' chooses {encoder}, which reads regions; "
                    "'skinkit train --attributes isic' reads age, sex and site instead"
                )
        else:
            said.append(f"{columns[ours]}: {ours}, which {encoder} does not read, the encoder of these columns")
    return said


def _dialect(table: Path) -> Dialect:
    if table.suffix.lower() in (".xlsx", ".xlsm", ".parquet", ".pq") or not table.is_file():
        return Dialect()
    data = table.read_bytes()
    encoding = guess_encoding(data)
    return Dialect(encoding=encoding, delimiter=guess_delimiter(data.decode(encoding, errors="replace")))


def _with_decimal(dialect: Dialect, table: Table) -> Dialect:
    """The dialect with a decimal comma if more cells use a comma than a point."""
    if dialect.delimiter == "":  # a spreadsheet stores numbers without a decimal sign
        return dialect
    cells = [cell for row in table.rows for cell in row.cells.values()]
    commas = sum(bool(re.fullmatch(r"\d+,\d{1,3}", cell)) for cell in cells)
    points = sum(bool(re.fullmatch(r"\d+\.\d+", cell)) for cell in cells)
    return Dialect(dialect.encoding, dialect.delimiter, "," if commas > points else ".")


def _columns(table: Table, dialect: Dialect, folder: Path) -> dict[str, str]:
    """Canonical column -> header, each header at most once; guessed by header, then by cells."""
    chosen: dict[str, str] = {}
    free = [
        name for name in table.columns if not words.PRIVATE.search(words.heading(name)) or "_id" in words.heading(name)
    ]
    for ours, terms in words.HEADERS.items():
        for term in terms:
            match = next((name for name in free if words.heading(name) == words.heading(term)), None)
            if match is not None and match not in chosen.values():
                chosen[ours] = match
                break
    for ours in ("diagnosis", "site", "sex", "age_years", "patient_id"):
        # 病理诊断(术后) contains 病理诊断; matching substrings is safe in Chinese, not in languages with spaces.
        parts = [words.heading(term) for term in words.HEADERS[ours] if len(term) > 1 and not term.isascii()]
        left = [name for name in free if name not in chosen.values()]
        match = next((name for name in left if any(part in words.heading(name) for part in parts)), None)
        if ours not in chosen and match is not None:
            chosen[ours] = match
    files = {part for file in walk(folder) for part in _names(file.path)}
    if files:
        by_files = {name: _share(table, name, lambda cell: _plain(cell) in files) for name in free}
        best = max(by_files, key=lambda name: by_files[name], default=None)
        named = chosen.get("image")
        if best is not None and by_files[best] > (by_files.get(named, 0.0) if named else 0.0):
            chosen = {ours: theirs for ours, theirs in chosen.items() if theirs != best}
            chosen["image"] = best
    if "age_years" in chosen and _share(table, chosen["age_years"], lambda cell: _is_age(cell, dialect)) < 0.5:
        del chosen["age_years"]
    has_ages = "age_years" in chosen and not any(
        is_missing(row.cells[chosen["age_years"]], dialect) for row in table.rows
    )
    if has_ages or not set(_DATES) <= set(chosen):
        for ours in _DATES:
            chosen.pop(ours, None)
    return {ours: chosen[ours] for ours in words.HEADERS if ours in chosen}


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/")).casefold().strip("/")


def _names(path: str) -> set[str]:
    """The names by which a table may refer to an image: with or without folder and extension."""
    plain = _plain(path)
    if PurePosixPath(plain).suffix not in EXTENSIONS:
        return set()
    return {plain, plain.rpartition("/")[2], plain.rpartition(".")[0], PurePosixPath(plain).stem}


def _share(table: Table, name: str, fits: Any) -> float:
    cells = [row.cells[name] for row in table.rows if row.cells[name]]
    return sum(bool(fits(cell)) for cell in cells) / len(cells) if cells else 0.0


def _is_age(cell: str, dialect: Dialect) -> bool:
    try:
        return 0 <= age_years(cell, dialect.decimal) <= 120
    except (UnreadableError, ValueError):
        return False


def _counts(table: Table, name: str, dialect: Dialect) -> Counter[str]:
    return Counter(row.cells[name] for row in table.rows if not is_missing(row.cells[name], dialect))


def _sorted_words(ours: str, counts: Counter[str]) -> _Words:
    """Sort the words of a column into mapped, guessed and unmapped."""
    mapped: dict[str, str] = {}
    guessed: dict[str, str] = {}
    unmapped: dict[str, int] = {}
    beside = {words.plain(word) for word in counts}
    for word, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        value, likely = _meaning(ours, word)
        if not beside.isdisjoint(words.UNSURE.get(ours, {}).get(words.plain(word), ())):
            value = None
        if ours in (*YES_NO, *SYMPTOMS) and words.plain(word) in words.MINUS and not words.PLUS.isdisjoint(beside):
            value = "False"
        if value is not None:
            mapped |= {word: value} if value else {}  # a code is read by [icd10] and needs no line of its own
        elif words.plain(word) not in words.UNKNOWN:
            unmapped[word] = count
            guessed |= {word: likely} if likely else {}
    return _Words(mapped, guessed, unmapped)


_ICD10 = sorted(((code.replace(".", ""), value) for code, value in words.ICD10.items()), key=lambda pair: -len(pair[0]))


def _meaning(ours: str, word: str) -> tuple[str | None, str]:
    """(our value of a word that is certain, else None; what it probably means, or empty)."""
    plain = words.plain(word)
    if ours == "diagnosis":
        if named := words.diagnosis(word) or (plain if plain in DIAGNOSES else ""):
            return named, ""
        if said_by_codes(word, _ICD10).diagnosis:
            return "", ""
        return None, guess(word)
    own = {words.plain(value): value for value in ALLOWED.get(ours, ())}
    return own.get(plain) or _WORDS.get(ours, {}).get(plain), ""


# ----------------------------------------------------------------------------------------------------------- text


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'


def _remark(text: str) -> str:
    """Text that fits into a one-line TOML comment."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


def _toml(
    table: Path,
    folder: Path,
    dialect: Dialect,
    content: Table,
    columns: Mapping[str, str],
    vocabulary: Mapping[str, _Words],
    not_taken: Sequence[str],
    named: str | None,
    unsure_dates: Mapping[str, str],
) -> str:
    kept = [name for name in not_taken if words.heading(name) in words.KEPT]
    file = Path(os.path.relpath(table.resolve(), folder.resolve())).as_posix()
    lines = [
        "# A draft: read it, correct it, and confirm every diagnosis. docs/hospital.md explains each key.",
        "",
        f"title = {_quoted(folder.resolve().name)}",
        f"file = {_quoted(file)}  # {len(content.rows)} rows",
    ]
    if content.sheet:
        lines.append(f"sheet = {_quoted(content.sheet)}{''.join(f'  # {_remark(note)}' for note in content.notes)}")
    if len(content.heading_rows) > 1 or content.heading_rows[0] > 1:
        lines.append(f"heading_rows = {list(content.heading_rows)}  # the rows of the headings, from 1")
    if dialect.delimiter:
        lines += [
            f"encoding = {_quoted(dialect.encoding)}",
            f"delimiter = {_quoted(dialect.delimiter)}",
            f"decimal = {_quoted(dialect.decimal)}",
        ]
    lines += [f"date_format = {_quoted(dialect.date_format)}"] if dialect.date_format else []
    lines += [
        '# modality = "clinical"  # or "dermoscopic": how the photos were taken',
        '# confirmed_by = "histopathology"  # where all diagnoses were confirmed in one way',
        '# id_space = "hospital"  # shared by cohorts of one hospital, so that a split never divides a patient',
        '# masks = "masks/{stem}.png"  # where a person outlined the lesions',
        f"keep = [{', '.join(map(_quoted, kept))}]  # further columns to take over as they are",
        "",
        "[columns]",
    ]
    lines += [f"{ours} = {_quoted(theirs)}{_unit_note(ours, theirs)}" for ours, theirs in columns.items()]
    if "image" not in columns and "accession" not in columns:
        lines.append('# image = "..."  # the column that holds the file name')
    if named is not None:
        lines.append(f"# patient_id = {_quoted(named)}  # looks private (names of people): only with pseudonymise")
    lines += [f"# {ours} = {_remark(_quoted(theirs))}  # {_UNSURE_DATES}" for ours, theirs in unsure_dates.items()]
    if not_taken:
        left = [name for name in not_taken if name not in kept]
        lines += ["# not taken:", *(f"#   {_remark(name)}{_private_note(name)}" for name in left)]
    if "accession" in columns and "image" not in columns:
        lines += [
            "",
            "[join]",
            'pattern = "{accession}*/*.jpg"  # every image in folders whose name starts with the number',
            '# dicom_tag = "AccessionNumber"  # or: DICOM files with this tag',
        ]
    for ours, column in vocabulary.items():
        lines += ["", *_value_lines(ours, column)]
    if "icd10" in columns or "diagnosis" in columns:
        lines += ["", "[icd10]  # defaults to confirm; further prefixes may be added"]
        lines += [f"{_quoted(code)} = {_quoted(value)}" for code, value in words.ICD10.items()]
    return "\n".join(lines) + "\n"


def _unit_note(ours: str, theirs: str) -> str:
    kind, ours_is = {"age_years": ("age_years", "years")}.get(ours, ("length", "mm"))
    named = words.unit_of(kind, theirs) if ours in UNITS else set()
    if unclear := sorted(named - words.UNITS[kind].keys()):
        return f"  # an unclear unit ({unclear[0]}): rename the column"
    other = sorted(name for name in named if words.UNITS[kind][name] != 1.0)
    return f"  # {other[0]}, converted to {ours_is}: check" if other else ""


def _private_note(name: str) -> str:
    return "  (looks private)" if words.PRIVATE.search(words.heading(name)) else ""


def _value_lines(ours: str, column: _Words) -> list[str]:
    """The table ``[values.<column>]``: mapped words, then the unmapped ones as comments."""
    lines = [f"[values.{ours}]"]
    lines += [f"{_quoted(word)} = {_quoted(value)}" for word, value in list(column.mapped.items())[:_MOST_WORDS]]
    if column.unmapped:
        allowed = ", ".join(ALLOWED.get(ours, BACKGROUNDS))
        lines.append(f"# not mapped, with number of rows; map each to one of {allowed}, or leave it out:")
        unmapped = list(column.unmapped.items())
        for word, count in unmapped[:_MOST_WORDS]:
            likely = column.guessed.get(word, "")
            note = f"{count}; a guess: remove the # to confirm it" if likely else str(count)
            lines.append(f"# {_remark(_quoted(word))} = {_quoted(likely)}  # {note}")
        if len(unmapped) > _MOST_WORDS:
            lines.append(f"# and {len(unmapped) - _MOST_WORDS} further words")
    return lines


def _summary(
    target: Path,
    content: Table,
    columns: Mapping[str, str],
    unmapped: Mapping[str, Mapping[str, int]],
    guesses: Mapping[str, Mapping[str, str]],
    not_taken: Sequence[str],
    named: str | None,
    not_read: Sequence[str],
    unsure_dates: Mapping[str, str],
) -> str:
    lines = [f"wrote {target} for {len(content.rows)} rows", *content.notes, "", "columns"]
    lines += [f"  {ours:<16} {theirs}{_unit_note(ours, theirs)}" for ours, theirs in columns.items()]
    lines.append(f"  {'not taken':<16} {', '.join(not_taken) or 'none'}")
    if named is not None:
        lines += [
            "",
            f"patient_id: {named} looks private (names of people) and is not taken. Without patient ids, photos of one "
            "patient may be in two parts of a split: use study numbers, or this column with pseudonymise = KEYFILE",
        ]
    if unsure_dates:
        lines += ["", f"{', '.join(unsure_dates.values())}: dates, not taken: {_UNSURE_DATES}"]
    if not_read:
        lines += ["", "mapped, but not read by a model with metadata:", *(f"  {each}" for each in not_read)]
    for ours, counts in unmapped.items():
        lines += ["", f"{ours}: {len(counts)} words are not mapped"]
        lines += [f"  {count:>6}  {word}" for word, count in list(counts.items())[:20]]
        if len(counts) > 20:
            lines.append(f"  and {len(counts) - 20} more, all in the file")
        if likely := guesses.get(ours):
            lines.append(
                f"  for {len(likely)} of them ({sum(counts[word] for word in likely)} rows) the file has a guess as a "
                "comment: remove its # to confirm it"
            )
    lines += ["", 'Review and correct it, then set path of a cohort with source = "folder" to this folder.']
    return "\n".join(lines)
