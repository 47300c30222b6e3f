"""Studies of papers as data: one paper = one file of this folder and the TOML beside it.

Adding a study touches nothing else. ``NAME.py`` holds a constant ``STUDY``, made by ``skinkit.studies.reading`` from
``NAME.toml``: cohorts, image selection, protocols, models that are compared (``arms``), tables and figures
(``exhibits``), printed numbers, and what makes two numbers incomparable. Only what is code stands in the Python file:
how a paper drew its split. Third parties register theirs by an entry point of the group ``skinkit.studies`` that
points to such a module.

``skinkit ablate`` trains and compares the arms in any workspace; ``skinkit reproduce`` makes the workspace, runs the
protocols, and writes the page with both sets of numbers. A study's selection and splits are choices of ``skinkit ingest
--selection`` and ``skinkit split --protocol``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from skinkit.errors import ConfigError, did_you_mean
from skinkit.studies.study import Arm as Arm
from skinkit.studies.study import Cited as Cited
from skinkit.studies.study import Exhibit as Exhibit
from skinkit.studies.study import OutlineMethod as OutlineMethod
from skinkit.studies.study import Prerequisite as Prerequisite
from skinkit.studies.study import Protocol as Protocol
from skinkit.studies.study import Published as Published
from skinkit.studies.study import PublishedSplit as PublishedSplit
from skinkit.studies.study import SelectionRule as SelectionRule
from skinkit.studies.study import Study as Study
from skinkit.studies.study import Wanted as Wanted

ENTRY_POINTS = "skinkit.studies"


def studies() -> Sequence[str]:
    """Names of the studies: the files of this folder that define a ``STUDY``, and those of third parties."""
    own = _own()
    return [*own, *(point.name for point in entry_points(group=ENTRY_POINTS) if point.name not in own)]


def load_study(name: str) -> Study:
    """The study of that name.

    Raises:
        ConfigError: there is none, or its entry point gives none.
    """
    if name in _own():
        study: Study = importlib.import_module(f"{__name__}.{name}").STUDY
        return study
    for point in entry_points(group=ENTRY_POINTS, name=name):
        module = point.load()
        theirs = getattr(module, "STUDY", None)
        if not isinstance(theirs, Study):
            raise ConfigError(
                f"entry point {name!r} of {ENTRY_POINTS} has no STUDY",
                "a module with a skinkit.studies.Study called STUDY",
                f"correct the package that declares {point.value}",
            )
        return theirs
    raise ConfigError(
        f"no study {name!r}" if name else "no study was named", did_you_mean(name, studies()), "name one of these"
    )


def all_studies() -> list[Study]:
    """Every study."""
    return [load_study(name) for name in studies()]


def _own() -> list[str]:
    files = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return [file.stem for file in files if "\nSTUDY = " in file.read_text(encoding="utf-8")]
