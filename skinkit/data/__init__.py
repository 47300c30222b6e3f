"""Where cases come from: one file per public dataset, and ``folder`` for a hospital described by a TOML.

A :class:`Source` describes an archive's tables, images, columns and labels; the same code reads them all. The files of
this folder are the registry: ``pad_ufes_20.py`` is ``pad-ufes-20`` on the command line and defines a constant
``SOURCE``. Third parties register a :class:`Source` by an entry point of the group ``skinkit.sources``.

Nothing here imports pandas, and finding files opens only ``cohort.toml`` and possible DICOM files, so checking whether
a cohort is up to date is quick.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from skinkit.data.files import CohortFiles, locate
from skinkit.data.source import Arrangement as Arrangement
from skinkit.data.source import Dialect as Dialect
from skinkit.data.source import Draw as Draw
from skinkit.data.source import Join as Join
from skinkit.data.source import Source
from skinkit.data.source import TableRow as TableRow
from skinkit.errors import ConfigError, did_you_mean
from skinkit.workspace import Cohort

if TYPE_CHECKING:
    from skinkit.console import Console
    from skinkit.data.cases import Listing


ENTRY_POINTS = "skinkit.sources"


# ------------------------------------------------------------------------------------------------------ registry
@cache
def _modules() -> dict[str, str]:
    """Source name -> module, from the files of this folder that define a ``SOURCE``; none of them is imported."""
    files = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    stems = [file.stem for file in files if "\nSOURCE = " in file.read_text(encoding="utf-8")]
    return {stem.replace("_", "-"): f"{__name__}.{stem}" for stem in stems}


def _third_party() -> dict[str, Source]:
    registered: dict[str, Source] = {}
    for point in entry_points(group=ENTRY_POINTS):
        loaded = point.load()
        source = loaded if isinstance(loaded, Source) else getattr(loaded, "SOURCE", None)
        if not isinstance(source, Source):
            raise ConfigError(
                f"entry point {point.name!r} of {ENTRY_POINTS} gives {type(loaded).__name__}",
                "a skinkit.data.Source, or a module with one called SOURCE",
                f"correct the package that declares {point.value}",
            )
        registered[point.name] = source
    return registered


def sources() -> dict[str, str]:
    """Every source by name, with its title."""
    own = {name: load_source(name).title for name in _modules()}
    return {**own, **{name: source.title for name, source in _third_party().items() if name not in own}}


def load_source(name: str) -> Source:
    """The source of that name.

    Raises:
        ConfigError: there is none.
    """
    modules = _modules()
    if name in modules:
        source: Source = importlib.import_module(modules[name]).SOURCE
        return source
    others = _third_party()
    if name in others:
        return others[name]
    raise ConfigError(
        f"no source {name!r}", did_you_mean(name.replace("_", "-"), [*modules, *others]), "use one of these names"
    )


def find_files(cohort: Cohort) -> CohortFiles:
    """Find a cohort's tables, images and masks; no file is read but ``cohort.toml``.

    Raises:
        ConfigError: unknown source or option, or several parts and none chosen.
        InputError: the folder or its table is absent.
    """
    return locate(cohort, load_source(cohort.source))


def diagnoses_of(cohort: Cohort) -> frozenset[str] | None:
    """The diagnoses that cases of a cohort can have; None where any may occur.

    ``diagnoses`` in the cohort's table of ``skinkit.toml``, else in its ``cohort.toml``, else of an archive what its
    labels stand for. Cases are not counted: a class that is rare is not one that cannot occur.

    Raises:
        ConfigError: an unknown source, or a ``cohort.toml`` that is wrong.
    """
    source = load_source(cohort.source)
    if cohort.diagnoses:
        return frozenset(cohort.diagnoses)
    if source.configure is not None:
        from skinkit.data import folder

        if cohort.source == source.name == "folder" and not folder.description(cohort).is_file():
            return None
        source = source.configure(source, cohort)
    if source.diagnoses:
        return frozenset(source.diagnoses)
    if source.words or source.draw is not None:
        return None
    labels = [*source.values.get("diagnosis", {}).values(), *(value for _, value in source.patterns)]
    labels += [*source.icd10.values(), source.constants.get("diagnosis", "")]
    return frozenset(filter(None, labels)) or None


def read_cases(cohort: Cohort, console: Console | None = None) -> Listing:
    """Every image and table row of a cohort in canonical columns, before any image is opened.

    Args:
        cohort: the cohort.
        console: receives how many images were found and which words were not mapped.

    Raises:
        ConfigError: an option or ``cohort.toml`` is wrong.
        InputError: a table is absent, unreadable or lacks a column.
    """
    from skinkit.data.cases import list_cases

    return list_cases(cohort, find_files(cohort), console)
