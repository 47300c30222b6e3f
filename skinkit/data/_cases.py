"""From tables and files to cases: every table row and every image becomes a row in canonical columns.

Nothing is opened here but tables (and DICOM headers, where they are what rows are joined on). What cannot be used is
still a row, with a status and a reason:

    pending   image_absent       the table names an image that is not there
              image_unnamed      the table row names none
              row_absent         the image stands in no table row
    failed    path_outside_root  the name leads out of the cohort's folder
              image_ambiguous    the name fits several files
              duplicate_id       several rows name this image and disagree
              folder_unreadable  a folder that may not be listed; what lies in it is not known
    excluded  duplicate_row      the same row stands there again
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from skinkit.artifact import digest
from skinkit.console import Console
from skinkit.data import EXTENSIONS, Found, Source, TableRow
from skinkit.data import _words as words
from skinkit.data._tables import (
    Table,
    UnreadableError,
    WrongDecimalError,
    age_years,
    date,
    is_missing,
    number,
    read,
)
from skinkit.errors import InputError
from skinkit.file_names import readings
from skinkit.schemas import CASES, EXCLUDED, FAILED, OK, PAD_ATTRIBUTES, PENDING
from skinkit.taxonomy import DIAGNOSES, REGION_SITES, SITES
from skinkit.workspace import Cohort

OLDEST_YEARS = 120.0
YES_NO = (
    "smoke",
    "drink",
    "pesticide",
    "skin_cancer_history",
    "cancer_history",
    "has_piped_water",
    "has_sewage_system",
)
SYMPTOMS = ("itch", "grew", "hurt", "changed", "bleed", "elevation")
BACKGROUNDS = ("background_father", "background_mother")
IDS = ("image", "image_id", "accession", "case_id", "patient_id", "lesion_id")
NUMBERS = ("fitzpatrick", "diameter_1_mm", "diameter_2_mm")
ALLOWED: dict[str, tuple[str, ...]] = {
    "diagnosis": tuple(DIAGNOSES),
    "sex": ("female", "male"),
    "site": SITES,
    "region": tuple(REGION_SITES),
    "modality": ("dermoscopic", "clinical"),
    "view": ("clinical", "dermoscopic"),
    "confirmed_by": ("histopathology", "follow_up", "consensus", "confocal", "clinical"),
    **dict.fromkeys(YES_NO, ("True", "False")),
    **dict.fromkeys(SYMPTOMS, ("True", "False", "UNK")),
}
"""Canonical column -> the values it may have."""

COLUMNS = (
    "image", "image_id", "accession", "mask", "case_id", "view", "patient_id", "lesion_id", "diagnosis", "icd10",
    "age_years", "birth_date", "exam_date", "sex", "site", "modality", "confirmed_by",
    *(column.name for column in PAD_ATTRIBUTES),
)  # fmt: skip
"""What a table's column may be mapped to."""

_SHEET_ERRORS = frozenset(
    {"#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#CALC!", "#BUSY!", "#GETTING_DATA"}
)
_CUT_NUMBER = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d+")
_SERIAL = re.compile(r"[1-6]\d{4}(?:\.\d+)?")
"""Days since 1900, as a spreadsheet counts them: 10000 is 1927, 69999 is 2091."""

_OWN = {name: {words.plain(value): value for value in values} for name, values in ALLOWED.items()}
_SITE_OF = {term: site for term, (site, _) in words.SITES.items()}
_REGION_OF = {term: region for term, (_, region) in words.SITES.items() if region}
_ROMAN = {"i": 1.0, "ii": 2.0, "iii": 3.0, "iv": 4.0, "v": 5.0, "vi": 6.0}


@dataclass
class Listing:
    """The cases of a cohort before their images are opened.

    Attributes:
        rows: one per case image, sorted by image_id; columns of ``schemas.CASES`` plus extra ones.
        flow: counts for a reader: table rows, images, masks.
        unmapped: canonical column -> the table's word -> rows that have it.
        id_space: prefix of every group id.
        source: the source as configured.
    """

    rows: list[dict[str, Any]]
    flow: dict[str, Any]
    unmapped: dict[str, dict[str, int]]
    id_space: str
    source: Source


def list_cases(cohort: Cohort, found: Found, console: Console | None = None) -> Listing:
    """Every image and table row of a cohort in canonical columns."""
    console = console or Console(quiet=True)
    source = found.source
    own = cohort.name if source.name == "folder" else source.name
    id_space = str(cohort.options.get("id_space") or source.id_space or own)
    tables = [read(path, source.dialect) for path in found.tables]
    reader = _Reader(source, tables)
    if tables:
        reader.check()
        lines = _table_rows(source, tables)
        found = _masks_apart(found, reader, lines)
        rows = _joined_rows(found, reader, lines)
    else:
        rows = _image_rows(found, found.images)
    _with_masks(rows, found)
    rows += [_closed(folder) for folder in found.closed]
    for row in rows:
        row["group_id"] = group_of(id_space, row)
    rows.sort(key=lambda row: str(row["image_id"]))
    for row in rows:
        row["flags"] = ",".join(sorted(set(row["flags"]))) or None
    flow = {
        "tables": [path.name for path in found.tables],
        "table_rows": sum(len(table.rows) for table in tables[:1]),
        "images_found": len(found.images),
        "images_named": sum(1 for row in rows if row["reason"] != "row_absent"),
        "images_used": sum(1 for row in rows if row["status"] == OK),
        "truth_masks": sum(1 for row in rows if row["truth_mask_path"] and row["status"] == OK),
    }
    unmapped = {name: dict(counts.most_common()) for name, counts in sorted(reader.unmapped.items())}
    _tell(cohort, found, rows, flow, unmapped, console)
    return Listing(rows, flow, unmapped, id_space, source)


def _tell(
    cohort: Cohort,
    found: Found,
    rows: Sequence[Mapping[str, Any]],
    flow: Mapping[str, Any],
    unmapped: Mapping[str, Mapping[str, int]],
    console: Console,
) -> None:
    reasons = Counter(row["reason"] for row in rows)
    named = f"{flow['images_named']:,}"
    if flow["tables"]:
        present = flow["images_named"] - reasons["image_absent"] - reasons["image_unnamed"]
        text = f"{flow['table_rows']:,} rows in {', '.join(flow['tables'])}; {present:,} of {named} images found"
    else:
        text = f"no table; {flow['images_found']:,} images found"
    console.info(f"{cohort.name}: {found.source.title}: {text}, {flow['truth_masks']:,} truth masks")
    if reasons["image_absent"]:
        console.info(f"{cohort.name}: waiting for their image (looked for next time): {reasons['image_absent']:,} rows")
    if reasons["row_absent"]:
        console.info(f"{cohort.name}: waiting for a table row (looked for next time): {reasons['row_absent']:,} images")
    if found.archives and not flow["images_used"]:
        console.warn(f"{cohort.name}: no image was found, but {found.archives[0]} is there: unpack it first")
    if several := _written_in_several_ways(row["patient_id"] for row in rows):
        console.warn(
            f"{cohort.name}: patient_id: {several} ids are written in several ways (7, 007, 7.0; p1, P1) and count as "
            "several patients: write each in one way, or photos of one patient may come to both sides of a split"
        )
    for name, counts in unmapped.items():
        shown = ", ".join(f"{word!r} {count}" for word, count in list(counts.items())[:8])
        more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
        if console.is_json:  # what a table says of a patient belongs on a person's screen, not into a log
            shown, more = f"{len(counts)} words in {sum(counts.values())} rows", ""
        console.warn(f"{cohort.name}: {name}: words that are not mapped, with rows: {shown}{more}")


def _written_in_several_ways(ids: Iterable[str | None]) -> int:
    """How many ids differ only in case, width, leading zeros or a ``.0`` behind; none is named, for a log is read."""
    ways: dict[str, set[str]] = defaultdict(set)
    for word in filter(None, ids):
        ways[words.plain(word).removesuffix(".0").lstrip("0")].add(word)
    return sum(len(same) > 1 for same in ways.values())


def group_of(id_space: str, row: Mapping[str, Any]) -> str:
    """What must not be split: the patient where known, else the lesion, else the image."""
    for kind in ("patient", "lesion", "image"):
        if row[f"{kind}_id"]:
            return f"{id_space}:{kind}:{row[f'{kind}_id']}"
    raise AssertionError("every row has an image_id")


# --------------------------------------------------------------------------------------------------- table rows


def _table_rows(source: Source, tables: Sequence[Table]) -> list[TableRow]:
    """The rows of the first table, changed as the source needs it and widened by those of the others."""
    change = source.rows or (lambda rows: rows)
    rows = change(list(tables[0].rows))
    key = source.columns.get("image")
    for table in tables[1:]:
        assert isinstance(key, str)
        others = {}
        for row in change(list(table.rows)):
            if key not in row.cells:
                table.require(key, "the image, on which the tables are joined")
            others[row.cells[key].casefold()] = row.cells
        rows = [_widened(row, others.get(row.cells[key].casefold(), {})) for row in rows]
    if source.one_hot:
        rows = [_with_label(row, source, tables[0].path) for row in rows]
    return rows


def _widened(row: TableRow, other: Mapping[str, str]) -> TableRow:
    """A row with the cells of another table where its own are empty."""
    return TableRow(
        row.number, {**row.cells, **{name: text for name, text in other.items() if not row.cells.get(name)}}
    )


def _with_label(row: TableRow, source: Source, path: Path) -> TableRow:
    """Put the name of the label column that is 1 where the diagnosis is read from, unless it says more already."""
    chosen = []
    for column in source.one_hot:
        text = row.cells.get(column, "")
        try:
            if text and number(text, source.dialect.decimal) > 0.5:
                chosen.append(column)
        except ValueError:
            raise InputError(
                f"{path}, row {row.number}, column {column}: {text!r}", "0 or 1", "correct the table"
            ) from None
    if len(chosen) > 1:
        raise InputError(
            f"{path}, row {row.number}: {' and '.join(chosen)} are both 1", "one label", "correct the table"
        )
    column = str(source.columns["diagnosis"])
    told = row.cells.get(column) or (chosen[0] if chosen else "")
    return TableRow(row.number, {**row.cells, column: told} if told else row.cells)


@dataclass
class _Reader:
    """Turns the cells of a row into canonical values and counts what it could not."""

    source: Source
    tables: Sequence[Table]
    unmapped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def __post_init__(self) -> None:
        self._values = {
            column: {words.plain(theirs): ours for theirs, ours in mapping.items()}
            for column, mapping in self.source.values.items()
        }
        self._patterns = [(re.compile(text, re.IGNORECASE), value) for text, value in self.source.patterns]
        self._icd10 = sorted(
            ((code.upper().replace(".", ""), value) for code, value in self.source.icd10.items()),
            key=lambda pair: -len(pair[0]),
        )

    def check(self) -> None:
        """Refuse tables that lack a mapped column.

        Raises:
            InputError: naming the file, the column and the closest one there is.
        """
        there = {name for table in self.tables for name in table.columns}
        labels = {*self.source.one_hot, str(self.source.columns.get("diagnosis"))}
        if self.source.one_hot and not labels & there:
            self.tables[0].require(self.source.one_hot[0], "one column per label, or the label in one")
        for ours, theirs in [*self.source.columns.items(), *self.source.extra.items()]:
            for column in (theirs,) if isinstance(theirs, str) else theirs:
                if column not in there and (self.source.words or ours in self.source.required):
                    self.tables[0].require(column, f"mapped to {ours}")
                for table in self.tables:
                    if column in table.repeated:
                        table.require(column, f"mapped to {ours}")

    def text(self, cells: Mapping[str, str], ours: str) -> str | None:
        """The table's word for a canonical column; None where nothing is known."""
        theirs = self.source.columns.get(ours)
        if theirs is None:
            return None
        if isinstance(theirs, str):
            word = cells.get(theirs, "")
            return None if is_missing(word, self.source.dialect) else word
        parts = [cells.get(column, "") for column in theirs]
        return None if any(is_missing(part, self.source.dialect) for part in parts) else "|".join(parts)

    def values(self, row: TableRow) -> dict[str, Any]:
        """Canonical values of one table row, with ``flags`` as a list."""
        cells = row.cells
        flags: list[str] = []
        text = {ours: self.text(cells, ours) for ours in self.source.columns}
        self._refuse_spoilt(row, text)
        out: dict[str, Any] = {
            name: text.get(name) or self.source.constants.get(name)
            for name in ("case_id", "patient_id", "lesion_id", "accession", *BACKGROUNDS)
        }
        out |= {name: out[name].upper() for name in BACKGROUNDS if out[name]}
        out["diagnosis_source"] = text.get("diagnosis") or text.get("icd10")
        out["diagnosis"] = self._diagnosis(text, flags)
        out["sex"] = self._word("sex", text.get("sex"), words.SEX, flags)
        out["site_source"] = text.get("site") or text.get("region")
        out["site"], out["region"] = self._place(text, flags)
        out["age_years"] = self._age(row, text, flags)
        out["modality"] = self._word("modality", text.get("modality"), words.MODALITY, flags)
        out["view"] = self._word("view", text.get("view"), words.MODALITY, flags)
        out["confirmed_by"] = self._word("confirmed_by", text.get("confirmed_by"), words.CONFIRMED, flags)
        for name in (*YES_NO, *SYMPTOMS):
            out[name] = self._word(name, text.get(name), words.YES_NO, flags)
        for name in NUMBERS:
            out[name] = self._number(row, name, text.get(name), flags)
        for name, theirs in self.source.extra.items():
            word = cells.get(theirs, "")
            out[name] = None if is_missing(word, self.source.dialect) else word
        out["flags"] = flags
        return out

    def _refuse_spoilt(self, row: TableRow, text: Mapping[str, str | None]) -> None:
        """Refuse what a spreadsheet has made of a value: an error sign, or a long number cut to its first digits.

        Raises:
            InputError: naming row and column.
        """
        for ours, word in text.items():
            if word is None:
                continue
            if word.upper() in _SHEET_ERRORS:
                raise InputError(
                    f"{self._where(row, ours)}: {word!r}, the error of a spreadsheet", "a value", "mend the formula"
                )
            if ours in IDS and any(_CUT_NUMBER.fullmatch(part) for part in word.split("|")):
                raise InputError(
                    f"{self._where(row, ours)}: {word!r}, a long number of which a spreadsheet kept the first digits",
                    "the whole number",
                    "export the table again with this column formatted as text",
                )

    def _miss(self, name: str, word: str, flags: list[str]) -> None:
        self.unmapped[name][word] += 1
        flags.append(f"{name}_unmapped")

    def _word(self, name: str, word: str | None, known: Mapping[str, str], flags: list[str]) -> str | None:
        """One of the values a column may have: told by the source, our own word, or a word hospitals use."""
        if word is None:
            return self.source.constants.get(name)
        plain = words.plain(word)
        given = self._values.get(name, {})
        if plain in given:
            return given[plain] or None
        if plain in _OWN[name]:
            return _OWN[name][plain]
        if self.source.words and plain in known:
            return known[plain]
        if plain not in words.UNKNOWN:
            self._miss(name, word, flags)
        return None

    def _diagnosis(self, text: Mapping[str, str | None], flags: list[str]) -> str | None:
        word, code = text.get("diagnosis"), text.get("icd10")
        if word is not None:
            plain = words.plain(word)
            given = self._values.get("diagnosis", {})
            if plain in given:
                return given[plain] or None
            for pattern, value in self._patterns:
                if pattern.search(unicodedata.normalize("NFKC", word)):
                    return value or None
            if plain in DIAGNOSES:
                return plain
            if self.source.words and plain in words.DIAGNOSES:
                return words.DIAGNOSES[plain]
        for candidate in (code, word):
            named = self._by_code(candidate)
            if named is not None:
                return named or None
        missed = word if word is not None else code
        if missed is None:
            return self.source.constants.get("diagnosis")
        if words.plain(missed) not in words.UNKNOWN:
            self._miss("diagnosis", missed, flags)
        return None

    def _by_code(self, word: str | None) -> str | None:
        """The diagnosis of an ICD-10 code by its longest known prefix; None where it is no known code."""
        code = unicodedata.normalize("NFKC", word or "").strip().upper()
        match = words.ICD10_CODE.match(code)
        if not self._icd10 or not match:
            return None
        bare = match[0].replace(".", "")
        return next((value for prefix, value in self._icd10 if bare.startswith(prefix)), None)

    def _place(self, text: Mapping[str, str | None], flags: list[str]) -> tuple[str | None, str | None]:
        """(one of the six sites, PAD-UFES-20 region)."""
        site, region = text.get("site"), text.get("region")
        named_region = self._word("region", region, _REGION_OF, flags) if region is not None else None
        if site is None:
            return (REGION_SITES[named_region] if named_region else self.source.constants.get("site")), named_region
        named_site = self._word("site", site, _SITE_OF, flags)
        if named_region is None and region is None:
            # A word such as "face" says more than its site; it is kept where both ways agree.
            guess = words.SITES.get(words.plain(site), ("", ""))[1]
            named_region = guess if guess and REGION_SITES[guess] == named_site else None
        return named_site, named_region

    def _age(self, row: TableRow, text: Mapping[str, str | None], flags: list[str]) -> float | None:
        dialect = self.source.dialect
        age: float | None = None
        word = text.get("age_years")
        born, seen = (
            None if when is None or words.plain(when) in words.UNKNOWN else when
            for when in (text.get("birth_date"), text.get("exam_date"))
        )
        if word is not None and self._values.get("age_years", {}).get(words.plain(word)) == "":
            return None
        if word is not None:
            try:
                age = age_years(word, dialect.decimal)
            except WrongDecimalError:
                raise self._wrong_decimal(row, "age_years", word) from None
            except UnreadableError:
                if words.plain(word) not in words.UNKNOWN:
                    sign = re.fullmatch(r"-\s*\d+(?:\.\d+)?\s*\D*", word)
                    if sign:
                        flags.append("age_impossible")
                    else:
                        self._miss("age_years", word, flags)
        elif born is not None and seen is not None:
            days = (self._date(row, "exam_date", seen) - self._date(row, "birth_date", born)).days
            age = round(days / 365.2425, 1)
        if age is not None and not 0 <= age <= OLDEST_YEARS:
            flags.append("age_impossible")
            return None
        return age

    def _date(self, row: TableRow, name: str, word: str) -> Any:
        try:
            return date(word, self.source.dialect.date_format)
        except UnreadableError:
            wanted = self.source.dialect.date_format or "a date written year first, such as 1961-02-28 or 1961年2月28日"
            if _SERIAL.fullmatch(word):
                raise InputError(
                    f"{self._where(row, name)}: {word!r}, a day counted by a spreadsheet",
                    wanted,
                    "format the column as a date (2024-01-31) and export the table again, or save it as XLSX",
                ) from None
            raise InputError(
                f"{self._where(row, name)}: {word!r}",
                wanted,
                'set date_format, for example date_format = "%d.%m.%Y"',
            ) from None

    def _number(self, row: TableRow, name: str, word: str | None, flags: list[str]) -> float | None:
        if word is None:
            return None
        given = self._values.get(name, {}).get(words.plain(word))
        if given is not None:
            return float(given) if given else None
        bare = re.sub(r"\s*(?:mm|毫米|型|级)$", "", word.strip(), flags=re.IGNORECASE)
        try:
            value = number(bare, self.source.dialect.decimal)
        except WrongDecimalError:
            raise self._wrong_decimal(row, name, word) from None
        except UnreadableError:
            roman = _ROMAN.get(words.plain(bare)) if name == "fitzpatrick" else None
            if roman is None and words.plain(word) not in words.UNKNOWN:
                self._miss(name, word, flags)
            return roman
        if value < 0 or (name == "fitzpatrick" and value not in _ROMAN.values()):
            self._miss(name, word, flags)
            return None
        return value

    def _where(self, row: TableRow, name: str) -> str:
        return f"{self.tables[0].path}, row {row.number}, column {self.source.columns[name]!r}"

    def _wrong_decimal(self, row: TableRow, name: str, word: str) -> InputError:
        sign = self.source.dialect.decimal
        other = "," if sign == "." else "."
        return InputError(
            f"{self._where(row, name)}: {word!r}",
            f"a number with the decimal sign {sign!r}",
            f'set decimal = "{other}" where the whole table is written so, or correct the cell',
        )


# -------------------------------------------------------------------------------------------- rows and their images


def _joined_rows(found: Found, reader: _Reader, table: Sequence[TableRow]) -> list[dict[str, Any]]:
    """One row per (table row, image), then the images that stand in no table row."""
    finder = _finder(found, reader)
    rows: list[dict[str, Any]] = []
    for line in table:
        values = reader.values(line)
        for place in finder(line):
            row = {**_empty(), **values, **place, "flags": [*values["flags"]], "_number": line.number}
            row["case_id"] = values["case_id"] or row["image_id"]
            row["_mask_name"] = reader.text(line.cells, "mask")
            rows.append(row)
    rows = _settle_repeats(rows)
    taken = {row["image_path"] for row in rows}
    alone = {path: file for path, file in found.images.items() if path not in taken}
    strays = _image_rows(found, alone)
    used = {row["image_id"] for row in rows}
    for row in strays:
        while row["image_id"] in used:
            row["image_id"] += "~"
        used.add(row["image_id"])
        detail = f"{row['image_path']} stands in no row of {', '.join(path.name for path in found.tables)}"
        row |= {"case_id": row["image_id"], "status": PENDING, "reason": "row_absent", "detail": detail}
    return rows + strays


def _empty() -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(CASES.names)
    del row["fingerprint"]
    return {**row, "status": OK, "flags": []}


def _closed(folder: str) -> dict[str, Any]:
    place = f"{folder}/"
    detail = "this user may not list the folder"
    return {**_empty(), "case_id": place, **_failed(place, "folder_unreadable", detail)}


def _image_rows(found: Found, images: Iterable[str]) -> list[dict[str, Any]]:
    """One row per image, named by its path or file name without extension; where that names two, by the whole path."""
    paths = list(images)
    every = set(paths)
    whole = found.source.ids == "path"
    named = {path: _bare(path if whole else PurePosixPath(path).name) for path in paths}
    times = Counter(named.values())
    rows = []
    for path in paths:
        bare = named[path]
        image_id = bare if times[bare] == 1 and bare not in every else path
        constants = {name: value for name, value in found.source.constants.items() if name in CASES.names}
        rows.append({**_empty(), **constants, "image_id": image_id, "case_id": image_id, "image_path": path})
    return rows


def _bare(path: str) -> str:
    """A path without the extension of an image (1.2.840.55 has none)."""
    suffix = PurePosixPath(path).suffix
    return path[: -len(suffix)] if suffix.lower() in EXTENSIONS else path


def _plain_path(path: str) -> str:
    return unicodedata.normalize("NFC", words.visible(path)).casefold()


Place = dict[str, Any]
Finder = Callable[[TableRow], list[Place]]


def _finder(found: Found, reader: _Reader) -> Finder:
    join = found.source.join
    if join.by == "pattern":
        return _PatternFinder(found, reader, join.pattern)
    if join.by == "dicom":
        return _DicomFinder(found, reader, join.tag)
    return _NameFinder(found, reader, join.separator)


def _pending(image_id: str, reason: str, detail: str) -> Place:
    return {"image_id": image_id, "status": PENDING, "reason": reason, "detail": detail}


def _failed(image_id: str, reason: str, detail: str) -> Place:
    return {"image_id": image_id, "status": FAILED, "reason": reason, "detail": detail}


class _NameFinder:
    """Finds images by the file name in the row: with or without folder, with or without extension."""

    def __init__(self, found: Found, reader: _Reader, separator: str) -> None:
        self.root, self.reader, self.separator = found.root, reader, separator
        self.index: dict[str, list[str]] = defaultdict(list)
        for path in found.images:
            for plain in map(_plain_path, readings(path)):
                for key in {plain, _bare(plain), plain.rpartition("/")[2], _bare(plain.rpartition("/")[2])}:
                    self.index[key].append(path)

    def __call__(self, row: TableRow) -> list[Place]:
        own_id = self.reader.text(row.cells, "image_id")
        cell = self.reader.text(row.cells, "image") or own_id
        if cell is None:
            return [_pending(f"row-{row.number}", "image_unnamed", f"row {row.number} of the table names no image")]
        names = [name.strip() for name in cell.split(self.separator)] if self.separator else [cell]
        names = [name for name in names if name]
        return [self._one(name, own_id if own_id and len(names) == 1 else None) for name in names]

    def _one(self, name: str, own_id: str | None) -> Place:
        inside = inside_root(name, self.root)
        image_id = own_id or _bare(inside if inside is not None else name.replace("\\", "/"))
        if inside is None:
            return _failed(image_id, "path_outside_root", "the name leads out of the cohort's folder")
        plain = _plain_path(inside)
        matches: list[str] = []
        for key in (plain, _bare(plain), plain.rpartition("/")[2], _bare(plain.rpartition("/")[2])):
            matches = self.index.get(key, [])
            # A whole path decides; a bare name must fit one file only.
            exact = [path for path in matches if key in (_plain_path(path), _bare(_plain_path(path)))]
            if len(exact) == 1:
                matches = exact
            if matches:
                break
        if not matches:
            return _pending(image_id, "image_absent", f"no file called {inside}")
        if len(matches) > 1 and len({_plain_path(path) for path in matches}) == 1:
            # Twins of one folder, told apart by upper and lower case or by how an accent is written.
            spelt = [path for path in matches if path in (inside, f"{inside}{PurePosixPath(path).suffix}")]
            matches = spelt if len(spelt) == 1 else matches
        if len(matches) > 1:
            return _failed(image_id, "image_ambiguous", f"{name} fits {', '.join(matches[:4])}")
        return {"image_id": image_id, "image_path": matches[0]}


def inside_root(name: str, root: Path) -> str | None:
    """A file name of a table as a path relative to the cohort's folder, or None where it leads out of it."""
    name = name.replace("\\", "/").strip()
    if name.startswith("/"):
        prefix = root.as_posix().rstrip("/") + "/"
        if not name.startswith(prefix):
            return None
        name = name[len(prefix) :]
    elif re.match(r"[A-Za-z]:", name):
        return None
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or None


class _PatternFinder:
    """Finds every image that fits a pattern filled with the row's values, such as ``{accession}*/*.jpg``."""

    def __init__(self, found: Found, reader: _Reader, pattern: str) -> None:
        self.reader, self.pattern = reader, pattern
        self.names = re.findall(r"\{(\w+)\}", pattern)
        self.paths = sorted((_plain_path(path), path) for path in found.images)

    def __call__(self, row: TableRow) -> list[Place]:
        from bisect import bisect_left

        values = {name: self.reader.text(row.cells, name) for name in self.names}
        absent = [name for name, value in values.items() if value is None]
        if absent:
            return [_pending(f"row-{row.number}", "image_unnamed", f"row {row.number} has no {absent[0]}")]
        key = "|".join(str(values[name]) for name in self.names)
        if any("/" in str(v) or "\\" in str(v) or str(v) in (".", "..") for v in values.values()):
            return [_failed(key, "path_outside_root", "the value would lead into another folder")]
        matcher, prefix = filled(self.pattern, {name: _plain_path(str(value)) for name, value in values.items()})
        start = bisect_left(self.paths, (prefix, ""))
        places = []
        for plain, path in self.paths[start:]:
            if not plain.startswith(prefix):
                break
            if matcher.fullmatch(plain):
                places.append({"image_id": _bare(path), "image_path": path})
        return places or [_pending(key, "image_absent", f"no image fits {self.pattern} for this row")]


def filled(pattern: str, values: Mapping[str, str]) -> tuple[re.Pattern[str], str]:
    """A pattern with the row's values as a regular expression over plain paths, and its fixed beginning.

    A value ends where the name goes on with something else: ``{accession}*`` with 12 fits ``12_a`` and not ``123``.
    """
    text, prefix, fixed = "", "", True
    after_star = False
    pieces = re.findall(r"\*\*/|\*\*|\*|\?|\{\w+\}|[^*?{]+|\{", pattern)
    for index, piece in enumerate(pieces):
        following = pieces[index + 1] if index + 1 < len(pieces) else ""
        if piece.startswith("*") or piece == "?":
            text += {"**/": "(?:.+/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}[piece]
            fixed, after_star = False, piece in ("*", "**")
            continue
        literal = values[piece[1:-1]] if piece.startswith("{") and piece != "{" else _plain_path(piece)
        edge = piece.startswith("{")
        text += "(?<![0-9a-z])" if edge and after_star else ""
        text += re.escape(literal)
        text += "(?![0-9a-z])" if edge and following.startswith("*") and following != "**/" else ""
        prefix += literal if fixed else ""
        after_star = False
    return re.compile(text, re.DOTALL), prefix


class _DicomFinder:
    """Finds every DICOM file whose tag equals the row's accession number."""

    def __init__(self, found: Found, reader: _Reader, tag: str) -> None:
        from skinkit.errors import CaseError
        from skinkit.images import dicom_tag

        self.reader, self.tag = reader, tag
        self.index: dict[str, list[str]] = defaultdict(list)
        for path in found.images:
            try:
                value = dicom_tag(found.root / path, tag)
            except CaseError:
                continue  # not a DICOM file: it waits for a table row
            if value:
                self.index[value].append(path)

    def __call__(self, row: TableRow) -> list[Place]:
        key = self.reader.text(row.cells, "accession")
        if key is None:
            return [_pending(f"row-{row.number}", "image_unnamed", f"row {row.number} has no accession")]
        places = [{"image_id": _bare(path), "image_path": path} for path in self.index.get(key, [])]
        return places or [_pending(key, "image_absent", f"no DICOM file has this {self.tag}")]


def _settle_repeats(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that name the same image: equal ones are excluded but for the first, others all fail.

    An image is the same where its id is, and where two ids (two spellings of a name) lead to one file.
    """
    by_key: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_key[row["image_id"]].append(row)
    out = []
    for image_id, same in by_key.items():
        first, *others = same
        out.append(first)
        if not others:
            continue
        numbers = ", ".join(str(row["_number"]) for row in same)
        agree = len({_content(row) for row in same}) == 1
        for row in others:
            row["image_id"] = f"{image_id}#row{row['_number']}"
            row["case_id"] = row["image_id"] if row["case_id"] == image_id else row["case_id"]
            while any(row["image_id"] == kept["image_id"] for kept in out[-len(same) :]):
                row["image_id"] += "~"  # the same image twice in one row
            if agree:
                row |= {"status": EXCLUDED, "reason": "duplicate_row", "detail": f"rows {numbers} say the same"}
            out.append(row)
        if not agree:
            for row in same:
                detail = f"rows {numbers} name this image and disagree; keep one of them"
                row |= {"status": FAILED, "reason": "duplicate_id", "detail": detail}
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in out:
        if row["status"] == OK and row["image_path"]:
            by_file[row["image_path"]].append(row)
    for same in by_file.values():
        if len(same) == 1:
            continue
        numbers = ", ".join(str(row["_number"]) for row in same)
        if len({_content(row, "image_id", "case_id") for row in same}) > 1:
            for row in same:
                detail = f"rows {numbers} name this image and disagree; keep one of them"
                row |= {"status": FAILED, "reason": "duplicate_id", "detail": detail}
        else:
            for row in same[1:]:
                row |= {"status": EXCLUDED, "reason": "duplicate_row", "detail": f"rows {numbers} say the same"}
    return out


def _content(row: Mapping[str, Any], *ignored: str) -> str:
    ignored = (*ignored, "_number")
    return digest({name: value for name, value in row.items() if name not in ignored})


# ------------------------------------------------------------------------------------------------------- masks


def _masks_apart(found: Found, reader: _Reader, table: Sequence[TableRow]) -> Found:
    """Files that the column ``mask`` names are masks, wherever they lie, and no images."""
    names = {name for row in table if (name := reader.text(row.cells, "mask"))}
    if not names:
        return found
    index = _MaskIndex([*found.images, *found.masks])
    named = {path for name in names if (path := index.find(inside_root(name, found.root) or ""))}
    masks = {**found.masks, **{path: file for path, file in found.images.items() if path in named}}
    return replace(found, masks=masks, images={p: file for p, file in found.images.items() if p not in named})


def masks_of(images: Mapping[str, str], found: Found) -> dict[str, str]:
    """``image_id`` -> path of its mask among those found by name; images without one are left out.

    Args:
        images: ``image_id`` -> path of the image, relative to the cohort's folder.
        found: of :func:`skinkit.data.other_masks`.
    """
    rows: list[dict[str, Any]] = [
        {"image_id": name, "image_path": path, "truth_mask_path": None, "flags": []} for name, path in images.items()
    ]
    _with_masks(rows, found)
    return {row["image_id"]: row["truth_mask_path"] for row in rows if row["truth_mask_path"]}


class _MaskIndex:
    """Finds a mask by its path, or by its file name where only one file has it."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.by_path = {_plain_path(path): path for path in paths}
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for plain, path in self.by_path.items():
            self.by_name[plain.rpartition("/")[2]].append(path)

    def find(self, name: str) -> str | None:
        """The relative path of the file, or None."""
        plain = _plain_path(name)
        same_name = self.by_name.get(plain, [])
        return self.by_path.get(plain) or (same_name[0] if len(same_name) == 1 else None)


def _with_masks(rows: Sequence[dict[str, Any]], found: Found) -> None:
    """Give each row the mask a person drew, by the column ``mask`` or by the patterns of the source."""
    index = _MaskIndex(list(found.masks))
    images = {row["image_path"] for row in rows if row["image_path"]}
    stems = Counter(_plain_path(PurePosixPath(_bare(path)).name) for path in images)
    for row in rows:
        name, path = row.pop("_mask_name", None), row["image_path"]
        row.pop("_number", None)
        if name:
            inside = inside_root(name, found.root)
            row["truth_mask_path"] = index.find(inside) if inside else None
            if row["truth_mask_path"] is None:
                row["flags"].append("mask_absent" if inside else "mask_outside_root")
            continue
        if not path or not found.mask_keys:
            continue
        bare = unicodedata.normalize("NFC", _bare(path))
        stem = PurePosixPath(bare).name
        keys = (("path", bare), ("image_id", str(row["image_id"])), ("stem", stem))
        for placeholder, value in keys:
            mask = found.mask_keys.get((placeholder, value.casefold()))
            if mask is None:
                continue
            if placeholder == "stem" and stems[_plain_path(stem)] > 1:
                row["flags"].append("mask_ambiguous")
            else:
                row["truth_mask_path"] = mask
            break
