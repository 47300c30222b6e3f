"""Cells of a source's tables in canonical columns, units and codes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skinkit.data import words
from skinkit.data.source import Source, TableRow
from skinkit.data.tables import Table, UnreadableError, WrongDecimalError, age_years, date, is_missing, number
from skinkit.errors import InputError
from skinkit.schemas import PAD_ATTRIBUTES
from skinkit.taxonomy import DIAGNOSES, REGION_SITES, SITES

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
_ROMAN = {"i": 1.0, "ii": 2.0, "iii": 3.0, "iv": 4.0, "v": 5.0, "vi": 6.0}


@dataclass
class Reader:
    """Turns the cells of a row into canonical values and counts the words without a mapping."""

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

    def text(self, cells: Mapping[str, str], ours: str) -> str | None:
        """The table's word for a canonical column; None if the value is missing."""
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
        self._refuse_spreadsheet_damage(row, text)
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
            if word.upper() in _SHEET_ERRORS:
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

    def _word(self, name: str, word: str | None, common_words: Mapping[str, str], flags: list[str]) -> str | None:
        """An allowed value of a column: mapped by the source, our own word, or a word hospitals use."""
        if word is None:
            return self.source.constants.get(name)
        plain = words.plain(word)
        mapping = self._values.get(name, {})
        if plain in mapping:
            return mapping[plain] or None
        if plain in _OWN[name]:
            return _OWN[name][plain]
        if self.source.words and plain in common_words:
            return common_words[plain]
        if plain not in words.UNKNOWN:
            self._miss(name, word, flags)
        return None

    def _kept(self, name: str, word: str, flags: list[str]) -> str | None:
        """A word of a further column: as it is, or mapped if the source lists its values."""
        mapping = self._values.get(name)
        if mapping is None:
            return word
        plain = words.plain(word)
        if plain not in mapping and plain not in words.UNKNOWN:
            self._miss(name, word, flags)
        return mapping.get(plain) or None

    def _diagnosis(self, text: Mapping[str, str | None], flags: list[str]) -> str | None:
        word, code = text.get("diagnosis"), text.get("icd10")
        if word is not None:
            plain = words.plain(word)
            mapping = self._values.get("diagnosis", {})
            if plain in mapping:
                return mapping[plain] or None
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
        """The diagnosis of an ICD-10 code by its longest mapped prefix; None without one."""
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
        elif born is not None and examined is not None:
            days = (self._date(row, "exam_date", examined) - self._date(row, "birth_date", born)).days
            age = round(days / 365.2425, 1)
        if age is not None and not 0 <= age <= OLDEST_YEARS:
            flags.append("age_impossible")
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
            return float(mapped) if mapped else None
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
            f'set decimal = "{other}" if the whole table uses it, or correct the cell',
        )
