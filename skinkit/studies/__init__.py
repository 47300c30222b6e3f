"""Studies of papers as data: one paper = one file of this folder. Adding a study adds its file and nothing else.

Each file holds a constant ``STUDY``: the cohorts the paper used, the models that are set against each other (``arms``),
the tables and figures to be made (``parts``), the paper's own numbers (``published``), and why a number of ours may not
be set beside one of theirs. ``skinkit ablate`` trains and compares the arms in any workspace; ``skinkit reproduce``
makes the workspace, runs the protocols, and writes the page that holds both sets of numbers.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skinkit.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Arm:
    """One model of an ablation.

    Attributes:
        name: the model is called ``<study>-<name>`` in the workspace.
        words: how a legend calls it.
        model: a registered classifier.
        preset: its settings as the paper has them; empty for a model without presets.
        settings: over those of the preset.
        attributes: encoder of the metadata, as ``skinkit train`` takes it.
        radiomics: radiomic features, as ``skinkit train`` takes them.
        extends: arms that lack one thing this one has; it is compared with each of them.
    """

    name: str
    words: str
    model: str
    preset: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    attributes: str = "auto"
    radiomics: str = "auto"
    extends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """One cohort of the paper.

    Attributes:
        name: of the cohort in the workspace, and of its folder (case, ``-`` and ``_`` do not matter).
        role: ``development`` or ``external``.
        source: what reads the folder where it has no ``cohort.toml``; empty: it must have one.
        words: what it is, for a person.
        options: further keys of its table in ``skinkit.toml``.
    """

    name: str
    role: str
    source: str
    words: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """One way to divide the development cases.

    Attributes:
        name: of the split.
        settings: of ``skinkit split``.
        words: what it does, for a person.
        leaks: why it may be used although it leaks; empty for one that does not leak.
    """

    name: str
    settings: Mapping[str, Any]
    words: str
    leaks: str = ""


@dataclass(frozen=True)
class Published:
    """One number of the paper.

    Attributes:
        part: the table or figure it stands in.
        cohort: name of a :class:`Wanted` cohort.
        arm: the arm it is closest to.
        figure: what it is, in the words of ``skinkit.evaluation.endpoint``.
        value: as a share, 0 to 1.
        sd: its standard deviation, where one is printed.
    """

    part: str
    cohort: str
    arm: str
    figure: str
    value: float
    sd: float | None = None


@dataclass(frozen=True)
class Exhibit:
    """One table or figure of the paper.

    Attributes:
        name: as ``--only`` takes it.
        title: what it shows.
        kind: how it is made: ``ablation``, ``by_class``, ``external``, ``confusion``, ``flow``, ``segmentation``,
            ``signature``, ``candidates``, ``explanation``, ``literature`` or ``none`` (nothing can be computed).
        caution: why the paper's numbers and ours differ in kind, whatever the data.
        missing: what a part of kind ``none`` lacks.
    """

    name: str
    title: str
    kind: str
    caution: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Cited:
    """One row of a paper's table of other people's work.

    Attributes:
        who: first author.
        data: what it was tested on.
        classes: how many were told apart.
        values: metric -> value as a share; a metric that is not printed is absent.
        caution: why it cannot be set beside ours.
    """

    who: str
    data: str
    classes: int
    values: Mapping[str, float]
    caution: str


@dataclass(frozen=True)
class Study:
    """A paper, as far as it can be run again.

    Attributes:
        name: as ``--system`` takes it.
        title: of the paper.
        citation: authors, journal, year, identifier.
        classes: class set.
        malignant: malignant set.
        preset: the paper's preset.
        cohorts: what it was trained and scored on.
        protocols: the first is the one without leakage.
        arms: the ablation, from little to much; the last one is the whole system.
        comparators: other models of the same task.
        selection: rule of ``skinkit ingest --selection`` that says which images it kept; empty for all.
        parts: its tables and figures.
        published: its numbers.
        cited: its table of other people's work.
        remarks: what a reader must know before setting two numbers side by side.
    """

    name: str
    title: str
    citation: str
    classes: str
    malignant: str
    preset: str
    cohorts: tuple[Wanted, ...]
    protocols: tuple[Protocol, ...]
    arms: tuple[Arm, ...]
    comparators: tuple[Arm, ...] = ()
    selection: str = ""
    parts: tuple[Exhibit, ...] = ()
    published: tuple[Published, ...] = ()
    cited: tuple[Cited, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def whole(self) -> Arm:
        """The arm that has everything."""
        return self.arms[-1]

    def arm(self, name: str) -> Arm:
        """The arm or comparator of that name.

        Raises:
            ConfigError: there is none.
        """
        known = {arm.name: arm for arm in (*self.arms, *self.comparators)}
        if name not in known:
            raise ConfigError(f"no arm {name!r} of {self.name}", did_you_mean(name, known), "name another with --arms")
        return known[name]

    def part(self, name: str) -> Exhibit:
        """The table or figure of that name.

        Raises:
            ConfigError: there is none.
        """
        known = {part.name: part for part in self.parts}
        if name not in known:
            raise ConfigError(
                f"no table or figure {name!r} of {self.name}", did_you_mean(name, known), "name another with --only"
            )
        return known[name]

    def numbers(self, part: str) -> list[Published]:
        """The paper's numbers of one table or figure."""
        return [number for number in self.published if number.part == part]


def studies() -> Sequence[str]:
    """Names of the studies: the files of this folder that define a ``STUDY``."""
    files = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return [file.stem for file in files if "\nSTUDY = " in file.read_text(encoding="utf-8")]


def load_study(name: str) -> Study:
    """The study of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in studies():
        raise ConfigError(
            f"no study {name!r}" if name else "no study was named", did_you_mean(name, studies()), "name one of these"
        )
    study: Study = importlib.import_module(f"{__name__}.{name}").STUDY
    return study
