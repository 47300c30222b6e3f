"""The texts of the pages in English and Simplified Chinese, and the format of numbers, diagnoses and attributes.

The texts are in ``text/*.toml``, where each key has its text in every language. Placeholders are in braces. A key is
the path through the tables: ``drift.intro.en`` is the English text of ``drift.intro``.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

from skinkit.errors import ConfigError, did_you_mean
from skinkit.taxonomy import DIAGNOSES

LANGUAGES = ("en", "zh-CN")
TEXTS = Path(__file__).parent / "text"

_RADIOMIC = re.compile(r"^(?:(?P<channel>\w+?)_)?original_(?P<family>[A-Za-z0-9]+)_(?P<stem>\w+)$")
# Labels of the figures that hold numbers.
_LEGEND = re.compile(r"^(?P<label>.+?) {2,}(?P<figures>\S.*)$")
_MALIGNANT_SET = re.compile(r"^malignant \(set: (?P<set>.+)\)$")
_INTERVAL = re.compile(r"^(?P<value>[\d.]+) \((?P<lower>[\d.]+) to (?P<upper>[\d.]+)\)$")
_LESIONS_DRAWN = re.compile(r"^(?P<n>\d+( of \d+)?) lesions, like ones side by side$")
_SUBGROUP_COUNTS = re.compile(r"^\(n = (?P<n>\d+), (?P<malignant>\d+) malignant\)$")
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
# A texture feature without a text of its own gets the text of the first of these words in its name.
_STEM_GROUPS = (
    ("ShortRun", "short"), ("SmallArea", "short"), ("SmallDependence", "short"), ("LongRun", "long"),
    ("LargeArea", "long"), ("LargeDependence", "long"), ("LowGray", "dark"), ("HighGray", "bright"),
    ("GrayLevelNon", "grey_uneven"), ("GrayLevelVariance", "grey_uneven"), ("NonUniformity", "uneven"),
    ("Dependence", "dependence"), ("Cluster", "cluster"), ("Difference", "difference"), ("Joint", "joint"),
    ("Sum", "joint"), ("MaximumProbability", "joint"), ("MCC", "joint"), ("Imc", "joint"),
    ("InverseVariance", "homogeneity"), ("Idm", "homogeneity"), ("Id", "homogeneity"), ("Entropy", "Entropy"),
    ("Percentage", "short"), ("Variance", "Variance"), ("MaximumDiameter", "MaximumDiameter"),
)  # fmt: skip


def flattened(table: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, language and text of every entry of a table of texts."""
    for name, content in table.items():
        if isinstance(content, str):
            yield key, name, content
        else:
            yield from flattened(content, f"{key}.{name}" if key else name)


@cache
def catalogue(lang: str) -> Mapping[str, str]:
    """Every text of one of :data:`LANGUAGES`, by key."""
    tables = [tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(TEXTS.glob("*.toml"))]
    return {key: text for table in tables for key, language, text in flattened(table) if language == lang}


def language_file(root: Path, lang: str) -> Path:
    """Where a workspace keeps a further language: lines ``KEY.LANG = "text"`` with the keys of ``text/*.toml``."""
    return root / "languages" / f"{lang}.toml"


def further_language(file: Path) -> dict[str, str]:
    """The texts of a further language, by key; a text that is absent is English on the page.

    Raises:
        ConfigError: it cannot be read, has a key that no page has, or a text with other placeholders than the English.
    """
    try:
        texts = {
            key: text
            for key, lang, text in flattened(tomllib.loads(file.read_text(encoding="utf-8")))
            if lang == file.stem
        }
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{file}: {error}", f'a TOML file with lines KEY.{file.stem} = "text"', "correct it"
        ) from None
    english = catalogue("en")
    for key, text in texts.items():
        if key not in english:
            raise ConfigError(f"{file}: {key}", did_you_mean(key, english), "correct the key, or leave the line out")
        if placeholders(text) != placeholders(english[key]):
            wanted = ", ".join(sorted(f"{{{name}}}" for name in placeholders(english[key]))) or "none"
            raise ConfigError(f"{file}: placeholders of {key} in {text!r}", wanted, "use those of the English text")
    return texts


def placeholders(text: str) -> set[str]:
    """The names in braces; a text that cannot be filled has one that is empty."""
    try:
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError:
        return {""}


class Words:
    """Texts, numbers and names in one language.

    Args:
        lang: one of :data:`LANGUAGES`, or another one.
        texts: of another language, by key, in place of the English ones.
    """

    def __init__(self, lang: str, texts: Mapping[str, str] | None = None) -> None:
        self.lang = lang
        self._texts = catalogue(lang) if texts is None else {**catalogue("en"), **texts}

    def __call__(self, key: str, **values: Any) -> str:
        """The text of a key with its placeholders filled."""
        text = self._texts[key]
        return text.format(**values) if values else text

    def code(self, family: str, code: object) -> str:
        """The text of a stable code; a code without a text is shown unchanged."""
        name = plain(code)
        text = self._texts.get(f"{family}.{name}")
        return text if text is not None else name.replace("_", " ")

    def reason(self, code: str) -> str:
        """The text of a case's reason; ``code:diagnosis`` also names the diagnosis."""
        head, colon, diagnosis = code.partition(":")
        text = self.code("reason", head)
        return f"{text}: {self.diagnosis(diagnosis)}" if colon else text

    def flag(self, code: str) -> str:
        """The text of a flag; ``NAME_unmapped`` names the attribute."""
        name, unmapped, rest = code.partition("_unmapped")
        if unmapped and not rest:
            return self("flag.unmapped", name=self.attribute(name))
        if f"flag.{code}" not in self._texts and f"reason.{code}" in self._texts:
            return self.reason(code)
        return self.code("flag", code)

    def diagnosis(self, label: object) -> str:
        """A diagnosis by its English label or code; a label without a text is unchanged."""
        name = plain(label)
        return self._texts.get(f"diagnosis.{DIAGNOSES.get(name, name)}") or name

    def listed(self, items: list[str]) -> str:
        """Several items joined by commas."""
        return self("comma").join(items)

    def in_figure(self, text: str) -> str:
        """A label of a figure, which is drawn in English, in this language."""
        translation = self._texts.get(f"figure.{text.strip()}")
        if translation is not None:
            return translation
        if match := _LESIONS_DRAWN.match(text):
            return self("figure.lesions", n=match["n"])
        if match := _LEGEND.match(text):
            if counts := _SUBGROUP_COUNTS.match(match["figures"]):
                return f"{self.subgroup(match['label'])}  {self('figure.subgroup_counts', **counts.groupdict())}"
            return f"{self._legend(match['label'])}  {self._figures(match['figures'])}"
        return self.diagnosis(text)

    def subgroup(self, name: str) -> str:
        """A subgroup of the metrics table, ``column=value``."""
        column, equals, value = name.partition("=")
        if not equals:
            return self("class.all") if name == "all" else plain(name)
        return self("pair", name=self.attribute(column), value=self.value(column, value))

    def _legend(self, label: str) -> str:
        match = _MALIGNANT_SET.match(label)
        return self("figure.malignant", set=match["set"]) if match else self.diagnosis(label)

    def _figures(self, text: str) -> str:
        """The numbers behind a legend's label."""
        if match := _INTERVAL.match(text):
            return self("figure.interval", **match.groupdict())
        return self("figure.few") if text == "too few cases" else text

    def share(self, value: float) -> str:
        """A probability or share in percent, without false certainty (never 0 or 100 %).

        >>> Words("en").share(0.623), Words("en").share(0.9999), Words("zh-CN").share(0.001)
        ('62 %', 'over 99 %', '不足 1%')
        """
        if math.isnan(value):
            return self("unknown")
        if 0.99 < value < 1:
            return self("share.over")
        if 0 < value < 0.01:
            return self("share.under")
        return self("share", value=f"{value * 100:.0f}")

    def probability(self, value: float, digits: int = 0) -> str:
        """What a model answers for one lesion in percent: never certain, however sure it is.

        >>> Words("en").probability(1.0), Words("en").probability(0.0), Words("en").probability(0.2991, 1)
        ('over 99\u00a0%', 'under 1\u00a0%', '29.9\u00a0%')
        """
        if math.isnan(value):
            return self("unknown")
        if value > 0.99:
            return self("share.over")
        if value < 0.01:
            return self("share.under")
        return self("share", value=f"{value * 100:.{digits}f}")

    def estimate(self, value: float, digits: int = 2) -> str:
        """A figure, or a dash without one."""
        return "–" if math.isnan(value) else f"{value:.{digits}f}"

    def attribute(self, name: str) -> str:
        """The name of an attribute or of a radiomic feature."""
        match = _RADIOMIC.match(name)
        if match is None:
            return self.code("attribute", name)
        what = self(f"stem.{self._stem(match['stem'])}")
        text = self("feature", family=self.code("family", match["family"]), what=what)
        channel = match["channel"]
        if channel in (None, "grey"):
            return text
        return self("feature.channel", feature=text, channel=self.code("channel", channel))

    def _stem(self, stem: str) -> str:
        if f"stem.{stem}" in self._texts:
            return stem
        return next((group for part, group in _STEM_GROUPS if part in stem), "other")

    def value(self, attribute: str, value: object) -> str:
        """The value of an attribute as text."""
        if isinstance(value, bool):
            return self("yes") if value else self("no")
        if isinstance(value, (int, float)):
            if math.isnan(value):
                return self("value.missing")
            text = f"{value:g}" if abs(value) >= 1e5 or value == int(value) else f"{value:.3g}"
            return self("value.age_years", value=text) if attribute in ("age_years", "age") else text
        if value is None:
            return self("value.missing")
        name = plain(value)
        shouted = name.isupper() and len(name) > 3  # POMERANIA
        return self._texts.get(f"value.{name.lower()}") or (name.title() if shouted else name)


def is_radiomic(name: str) -> bool:
    """Whether an attribute is a radiomic feature."""
    return _RADIOMIC.match(name) is not None


def plain(value: object) -> str:
    """A table's cell as text, without control and bidirectional characters, which reverse or hide other text."""
    return _HIDDEN.sub(" ", str(value))
