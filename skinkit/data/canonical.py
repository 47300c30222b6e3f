"""Cells of a source's tables in canonical columns, units and codes."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skinkit.data import words
from skinkit.data.diagnoses import NOTHING, Said, contradict, doubt_of, guess, said_by_codes
from skinkit.data.ids import is_unknown, one_spelling
from skinkit.data.source import Source, TableRow
from skinkit.data.tables import Table, UnreadableError, WrongDecimalError, age_years, date, is_missing, number
from skinkit.errors import InputError
from skinkit.schemas import PAD_ATTRIBUTES
from skinkit.taxonomy import DIAGNOSES, REGION_SITES, SITES, SYMPTOMS

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
BACKGROUNDS = ("background_father", "background_mother")
IDS = ("image", "image_id", "accession", "case_id", "patient_id", "lesion_id")
KEYS = ("patient_id", "lesion_id", "case_id")
"""Ids that hold rows together: words for unknown are no id there, and equal ones need not look alike."""
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
"""Canonical column -> its allowed values."""

COLUMNS = (
    "image", "image_id", "accession", "mask", "case_id", "view", "patient_id", "lesion_id", "diagnosis", "icd10",
    "age_years", "birth_date", "exam_date", "sex", "site", "modality", "confirmed_by",
    *(column.name for column in PAD_ATTRIBUTES),
)  # fmt: skip
"""Canonical columns to which a table's column may be mapped."""

_SHEET_ERRORS = frozenset(
    {"#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#CALC!", "#BUSY!", "#GETTING_DATA"}
)
_CUT_NUMBER = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d+")
_SERIAL = re.compile(r"[1-6]\d{4}(?:\.\d+)?")
"""A spreadsheet's serial date, in days since 1900: 10000 is in 1927, 69999 in 2091."""

_OWN = {name: {words.plain(value): value for value in values} for name, values in ALLOWED.items()}
_SITE_OF = {term: site for term, (site, _) in words.SITES.items()}
_REGION_OF = {term: region for term, (_, region) in words.SITES.items() if region}
UNITS = {"age_years": "age_years", "diameter_1_mm": "length", "diameter_2_mm": "length"}
"""Columns whose heading or cells may name a unit -> the units."""
_ROMAN = {"i": 1.0, "ii": 2.0, "iii": 3.0, "iv": 4.0, "v": 5.0, "vi": 6.0}


def _nearest(ours: str, theirs: str, columns: Iterable[str]) -> str:
    """The column that a canonical column probably is; empty for none."""
    plain = {words.heading(name): name for name in sorted(columns) if name}
    usual = {words.heading(term) for term in (ours, theirs, *words.HEADERS.get(ours, ()))}
    for name in usual & plain.keys():
        return plain[name]
    near = difflib.get_close_matches(words.heading(theirs), plain, 1, 0.7)
    inside = [name for name in plain if words.heading(theirs) in name.split("_")]
    return plain[(near or inside)[0]] if near or inside else ""


@dataclass
class Reader:
    """Turns the cells of a row into canonical values and counts the words that say nothing.

    Attributes:
        source: the source.
        tables: its tables.
        unmapped: canonical column -> word without a mapping -> rows that have it.
        unknown: canonical column -> word for unknown -> rows that have it.
        lesions_of_several: lesion ids that occur for several patients, by :meth:`scan`.
        absent: (canonical column, the table's column that is not there, the one probably meant), by :meth:`scan`.
    """

    source: Source
    tables: Sequence[Table]
    unmapped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unknown: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    lesions_of_several: int = 0
    absent: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._per: dict[str, float] = {}
        self._beside: dict[str, set[str]] = {}
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
            InputError: naming the file, the column and the closest match.
        """
        present = {name for table in self.tables for name in table.columns}
        labels = {*self.source.one_hot, str(self.source.columns.get("diagnosis"))}
        if self.source.one_hot and not labels & present:
            self.tables[0].require(self.source.one_hot[0], "one column per label, or the label in one")
        for ours, theirs in [*self.source.columns.items(), *self.source.extra.items()]:
            for column in (theirs,) if isinstance(theirs, str) else theirs:
                if column not in present and (self.source.words or ours in self.source.required):
                    self.tables[0].require(column, f"mapped to {ours}")
                for table in self.tables:
                    if column in table.repeated:
                        table.require(column, f"mapped to {ours}")

    def scan(self, rows: Sequence[TableRow]) -> None:
        """Read whole columns, before rows are read: what a word or number means may depend on the others.

        Raises:
            InputError: a heading names two units.
        """
        self._find_absent(rows)
        for name, theirs in self.source.columns.items():
            if not self.source.words or not isinstance(theirs, str):
                continue
            if kind := UNITS.get(name):
                self._per[name] = self._per_unit(theirs, kind)
            if name in words.UNSURE or name in (*YES_NO, *SYMPTOMS):
                self._beside[name] = {words.plain(row.cells.get(theirs, "")) for row in rows}
        self._count_lesions(rows)

    def _find_absent(self, rows: Sequence[TableRow]) -> None:
        """List the mapped columns that no table has, each with the column that probably is meant."""
        present = {name for table in self.tables for name in table.columns} | {*(rows[0].cells if rows else ())}
        wanted, mapped = {**self.source.columns, **self.source.extra}, self.source.mapped_columns
        for ours, theirs in wanted.items():
            if not isinstance(theirs, str) or theirs in present or (self.source.one_hot and ours == "diagnosis"):
                continue
            self.absent.append((ours, theirs, _nearest(ours, theirs, present - mapped)))

    def _per_unit(self, heading: str, kind: str) -> float:
        """How many of the unit that a heading names are one of ours."""
        named = words.unit_of(kind, heading)
        factors = {words.UNITS[kind].get(name, 0.0) for name in named}
        if len(factors) > 1 or 0.0 in factors:
            raise InputError(
                f"{self.tables[0].path}: the heading {heading!r} names "
                + ("several units" if len(factors) > 1 else "an unclear unit"),
                f"one of {', '.join(words.UNITS[kind])}",
                "rename the column in the table, or write the unit into each cell",
            )
        return next(iter(factors), 1.0)

    @property
    def converted(self) -> dict[str, str]:
        """Canonical column -> heading, of the columns whose numbers are in another unit than ours."""
        return {name: str(self.source.columns[name]) for name, per in self._per.items() if per != 1.0}

    def _count_lesions(self, rows: Sequence[TableRow]) -> None:
        """Count the lesion ids that occur for several patients: they are numbers within each patient."""
        lesion = self.source.columns.get("lesion_id")
        if lesion is None or "patient_id" not in self.source.columns:
            return
        bare = lesion if isinstance(lesion, str) else lesion[-1]
        patients: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            patient, number = self.text(row.cells, "patient_id"), self._word_of(row.cells, "lesion_id", bare)
            if patient and number:
                patients[number].add(patient)
        self.lesions_of_several = sum(len(several) > 1 for several in patients.values())

    def text(self, cells: Mapping[str, str], ours: str) -> str | None:
        """The table's word for a canonical column; None if the value is missing, or an id a word for unknown."""
        theirs = self.source.columns.get(ours)
        if theirs is None:
            return None
        if isinstance(theirs, str):
            return self._word_of(cells, ours, theirs)
        parts = [self._word_of(cells, ours, column) for column in theirs]
        if ours == "lesion_id" and parts[-1] and not parts[0] and not self.lesions_of_several:
            return parts[-1]  # without a patient, a lesion id that no two patients share is still a key
        return None if None in parts else "|".join(filter(None, parts))

    def _word_of(self, cells: Mapping[str, str], ours: str, theirs: str) -> str | None:
        word = cells.get(theirs, "")
        if is_missing(word, self.source.dialect):
            return None
        if ours not in KEYS:
            return word
        return None if is_unknown(word) else one_spelling(word)

    def values(self, row: TableRow) -> dict[str, Any]:
        """Canonical values of one table row, with ``flags`` as a list."""
        cells = row.cells
        flags: list[str] = []
        text = {ours: self.text(cells, ours) for ours in self.source.columns}
        self._refuse_spreadsheet_damage(row, text)
        for name in KEYS:
            theirs = self.source.columns.get(name)
            word = cells.get(theirs, "") if isinstance(theirs, str) and text[name] is None else ""
            if not is_missing(word, self.source.dialect):
                self._nothing(name, word)
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
            out[name] = None if is_missing(word, self.source.dialect) else self._kept(name, word, flags)
        for theirs, (pattern, flag) in self.source.flags.items():
            if re.search(pattern, cells.get(theirs, ""), re.IGNORECASE):
                flags.append(flag)
        out["flags"] = flags
        return out

    def _refuse_spreadsheet_damage(self, row: TableRow, text: Mapping[str, str | None]) -> None:
        """Refuse values damaged by a spreadsheet: error values, and long numbers truncated to scientific notation.

        Raises:
            InputError: naming row and column.
        """
        for ours, word in text.items():
            if word is None:
                continue
            if not _SHEET_ERRORS.isdisjoint(word.upper().split("|")):
                raise InputError(
                    f"{self._where(row, ours)}: {word!r}, a spreadsheet error", "a value", "correct the formula"
                )
            if ours in IDS and any(_CUT_NUMBER.fullmatch(part) for part in word.split("|")):
                raise InputError(
                    f"{self._where(row, ours)}: {word!r}, a long number truncated by a spreadsheet",
                    "the whole number",
                    "export the table again with this column formatted as text",
                )

    def _miss(self, name: str, word: str, flags: list[str]) -> None:
        self.unmapped[name][word] += 1
        flags.append(f"{name}_unmapped")

    def _nothing(self, name: str, word: str) -> None:
        """Count a word that means unknown."""
        self.unknown[name][word] += 1

    def _by_others(self, name: str, plain: str) -> str | None:
        """What a word means by the other words of its column; empty where they make it unsure, None where alone."""
        beside = self._beside.get(name, set())
        if plain in words.MINUS and name in (*YES_NO, *SYMPTOMS):
            return None if words.PLUS.isdisjoint(beside) else "False"
        return None if beside.isdisjoint(words.UNSURE.get(name, {}).get(plain, ())) else ""

    def _word(self, name: str, word: str | None, common_words: Mapping[str, str], flags: list[str]) -> str | None:
        """An allowed value of a column: mapped by the source, our own word, or a word hospitals use."""
        if word is None:
            return self.source.constants.get(name)
        plain = words.plain(word)
        mapping = self._values.get(name, {})
        if plain in mapping:
            if not mapping[plain]:
                self._nothing(name, word)
            return mapping[plain] or None
        if plain in _OWN[name]:
            return _OWN[name][plain]
        if (sign := self._by_others(name, plain)) is not None:
            if not sign:
                self._miss(name, word, flags)
            return sign or None
        if self.source.words and plain in common_words:
            return common_words[plain]
        if plain not in words.UNKNOWN:
            self._miss(name, word, flags)
        else:
            self._nothing(name, word)
        return None

    def _kept(self, name: str, word: str, flags: list[str]) -> str | None:
        """A word of a further column: as it is, or mapped if the source lists its values."""
        mapping = self._values.get(name)
        if mapping is None:
            return word
        plain = words.plain(word)
        if plain not in mapping and plain not in words.UNKNOWN:
            self._miss(name, word, flags)
        elif not mapping.get(plain):
            self._nothing(name, word)
        return mapping.get(plain) or None

    def _diagnosis(self, text: Mapping[str, str | None], flags: list[str]) -> str | None:
        """The diagnosis of a row, by its words and its code; None with a flag where they are doubtful or disagree."""
        word, code = text.get("diagnosis"), text.get("icd10")
        if word is None and code is None:
            return self.source.constants.get("diagnosis")
        by_word = NOTHING if word is None else self._said_by_word(word, flags)
        by_code = NOTHING if code is None else self._said_by_code(code)
        if word is None or code is None:
            said, cell = (by_code, code) if word is None else (by_word, word)
            if said.diagnosis is None:
                self._no_diagnosis(str(cell), said.doubt, flags)
            elif not said.diagnosis:
                self._nothing("diagnosis", str(cell))
            return said.diagnosis or None
        if contradict(by_word, by_code, guess(word), code):
            self.unmapped["diagnosis"][f"{word}, but {code}"] += 1
            flags.append("conflicting_diagnosis")
            return None
        if by_word.diagnosis is not None:
            if by_code.doubt == "several" and by_word.diagnosis:
                flags.append("several_diagnoses")
            elif by_code.doubt == "suspected" and by_word.diagnosis:
                self._no_diagnosis(code, by_code.doubt, flags)
                return None
            return by_word.diagnosis or None
        if by_word.doubt or by_code.diagnosis is None:
            cell = word if by_word.doubt or not by_code.doubt else code
            self._no_diagnosis(cell, by_word.doubt or by_code.doubt, flags)
        return by_code.diagnosis or None

    def _said_by_word(self, word: str, flags: list[str]) -> Said:
        plain = words.plain(word)
        mapping = self._values.get("diagnosis", {})
        if plain in mapping:
            if mapping[plain] and self.source.words and (doubt := doubt_of(word)):
                flags.append(f"diagnosis_{doubt}")  # a person decided; another one may want to know
            return Said(mapping[plain])
        normal = unicodedata.normalize("NFKC", word)
        hits = [(match, value) for pattern, value in self._patterns if (match := pattern.search(normal))]
        if hits:
            first, value = hits[0]
            # What the pattern does not mention may deny it; a pattern that names the doubt itself decides.
            if doubt := doubt_of(f"{normal[: first.start()]} {normal[first.end() :]}"):
                return Said(None, doubt)
            if any(other != value and (m.start() >= first.end() or m.end() <= first.start()) for m, other in hits):
                flags.append("several_diagnoses")
            return Said(value)
        if plain in DIAGNOSES:
            return Said(plain)
        if self.source.words and (named := words.diagnosis(word)):
            return Said(named)
        if plain in words.UNKNOWN:
            return NOTHING
        said = self._said_by_code(word)
        return Said(None, doubt_of(word)) if said == NOTHING and self.source.words else said

    def _said_by_code(self, code: str) -> Said:
        return said_by_codes(code, self._icd10) if self._icd10 else NOTHING

    def _no_diagnosis(self, cell: str, doubt: str, flags: list[str]) -> None:
        """Count a cell without a certain diagnosis, unless it is a word for unknown."""
        if doubt:
            self.unmapped["diagnosis"][cell] += 1
            flags.append("several_diagnoses" if doubt == "several" else f"diagnosis_{doubt}")
        elif words.plain(cell) not in words.UNKNOWN:
            self._miss("diagnosis", cell, flags)
        else:
            self._nothing("diagnosis", cell)

    def _place(self, text: Mapping[str, str | None], flags: list[str]) -> tuple[str | None, str | None]:
        """(one of the six sites, PAD-UFES-20 region)."""
        site, region = text.get("site"), text.get("region")
        named_region = self._word("region", region, _REGION_OF, flags) if region is not None else None
        if site is None:
            return (REGION_SITES[named_region] if named_region else self.source.constants.get("site")), named_region
        named_site = self._word("site", site, _SITE_OF, flags)
        if named_region is None and region is None:
            # A word such as "face" is more precise than its site; the region is kept where it agrees with the site.
            guess = words.SITES.get(words.plain(site), ("", ""))[1]
            named_region = guess if guess and REGION_SITES[guess] == named_site else None
        return named_site, named_region

    def _age(self, row: TableRow, text: Mapping[str, str | None], flags: list[str]) -> float | None:
        dialect = self.source.dialect
        age: float | None = None
        word = text.get("age_years")
        born, examined = (
            None if when is None or words.plain(when) in words.UNKNOWN else when
            for when in (text.get("birth_date"), text.get("exam_date"))
        )
        if word is not None and self._values.get("age_years", {}).get(words.plain(word)) == "":
            self._nothing("age_years", word)
            return None
        if word is not None:
            try:
                age = age_years(word, dialect.decimal, self._per.get("age_years", 1.0))
            except WrongDecimalError:
                raise self._wrong_decimal(row, "age_years", word) from None
            except UnreadableError:
                if words.plain(word) in words.UNKNOWN:
                    self._nothing("age_years", word)
                elif re.fullmatch(r"-\s*\d+(?:\.\d+)?\s*\D*", word):
                    age = -1.0
                else:
                    self._miss("age_years", word, flags)
        elif born is not None and examined is not None:
            seen, birth = self._date(row, "exam_date", examined), self._date(row, "birth_date", born)
            if birth > seen and "%y" in dialect.date_format:  # of two digits, the century that makes it a birth
                birth = birth.replace(year=birth.year - 100, day=min(birth.day, 28) if birth.month == 2 else birth.day)
            age = round((seen - birth).days / 365.2425, 1)
        if age is not None and not 0 <= age <= OLDEST_YEARS:
            flags.append("age_impossible")
            self.unmapped["age_years"][word if word is not None else f"{born} to {examined}"] += 1
            return None
        return age

    def _date(self, row: TableRow, name: str, word: str) -> Any:
        try:
            return date(word, self.source.dialect.date_format)
        except UnreadableError:
            expected = self.source.dialect.date_format or "a date, year first, such as 1961-02-28 or 1961年2月28日"
            if _SERIAL.fullmatch(word):
                raise InputError(
                    f"{self._where(row, name)}: {word!r}, a spreadsheet's serial date",
                    expected,
                    "format the column as a date (2024-01-31) and export the table again, or save it as XLSX",
                ) from None
            raise InputError(
                f"{self._where(row, name)}: {word!r}",
                expected,
                'set date_format, for example date_format = "%d.%m.%Y"',
            ) from None

    def _number(self, row: TableRow, name: str, word: str | None, flags: list[str]) -> float | None:
        if word is None:
            return None
        mapped = self._values.get(name, {}).get(words.plain(word))
        if mapped is not None:
            if not mapped:
                self._nothing(name, word)
            return float(mapped) if mapped else None
        bare, per = re.sub(r"\s*[型级]$", "", word.strip()), self._per.get(name, 1.0)
        if name in UNITS and (match := re.fullmatch(r"(.*?\d)\s*([^\W\d_]+)", bare)):
            units = words.UNITS[UNITS[name]]
            bare, per = (match[1], units[words.plain(match[2])]) if words.plain(match[2]) in units else (bare, per)
        try:
            value = number(bare, self.source.dialect.decimal)
            value = value if per == 1.0 else round(value / per, 3)
        except WrongDecimalError:
            raise self._wrong_decimal(row, name, word) from None
        except UnreadableError:
            roman = _ROMAN.get(words.plain(bare)) if name == "fitzpatrick" else None
            if roman is None and words.plain(word) not in words.UNKNOWN:
                self._miss(name, word, flags)
            elif roman is None:
                self._nothing(name, word)
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
            f'set decimal = "{other}" if the whole table uses it, or correct the cell',
        )
