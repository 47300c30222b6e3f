"""Find data in a workspace that identify a person, file by file.

Tables are inspected column by column. Pages, JSON, CSV and other texts are searched for the ids of the cohorts' cases;
for a pseudonymised cohort, for its original ids, if its files and its key are available. Ids of fewer than four
characters are searched for in tables only: a "17" in a text is not evidence of an id.
"""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skinkit.artifacts.artifact import MANIFEST, exists
from skinkit.artifacts.leftovers import INSTALLING, PARTIAL, PREVIOUS
from skinkit.artifacts.tables import TABLE, opened_table
from skinkit.audit import test_access_log
from skinkit.data import read_cases
from skinkit.data.files import EXTENSIONS
from skinkit.errors import InputError, SkinkitError
from skinkit.privacy import permissions, pseudonyms
from skinkit.schemas import EXPLANATIONS
from skinkit.workspace import SETTINGS_FILE, UNFINISHED, Ref, Workspace

NAMED = ("copy_of", "nearest")
"""Columns of synthetic images that name a case of a cohort."""
IDS = ("patient_id", "lesion_id", "case_id", "image_id", "accession", "group_id")
PATHS = ("image_path", "truth_mask_path")
FILES = ("mask_file", *EXPLANATIONS.files)
WORDS = ("diagnosis_source", "site_source")
OLDEST_YEARS = 89
"""Ages above this are rare enough to identify (45 CFR 164.514(b)(2)(i)(C))."""
_PSEUDONYM = re.compile(rf"(?:.*[:/])?(?:keyed-)?[a-z2-7]{{{pseudonyms.LENGTH}}}(?:\.png)?")
_TEXTS = (".json", ".jsonl", ".html", ".csv", ".tsv", ".txt", ".md", ".svg", ".log")
_LOGS = (".log",)
_TOKEN = re.compile(r"""[^\s"'<>,;:=&()\[\]{}|]+""")
_SHORTEST = 4
_CHARTS = frozenset((
    "ablate", "attention", "audit", "compare", "continual", "curves", "drift", "embed", "faithful", "flow", "heatmaps",
    "masks", "metrics", "missing", "models", "signature",
))  # fmt: skip
"""Folders whose pictures are charts, masks or maps. In every other folder a picture counts as a photo of a lesion: a
folder that nobody has thought of is then reported rather than missed."""
_EXPORTED = ("accession", "model_hash")

STAYS = {
    "ids": "artifacts are keyed by them: start a new workspace with --pseudonymise, and remove this one",
    "file_names": "photos are located by them, and masks and heatmaps named after cases; --pseudonymise hides them too",
    "words": "the hospital's own labels, shown beside their mapped values; keep free text out of these columns",
    "kept_columns": "cohort.toml keeps them on purpose: remove them from 'keep' and ingest again",
    "ages": "models use ages; cap the table's ages at 90 if the law requires it",
    "photos": "reports show photos of their lesions, and new files wait to be read: remove files that are not needed",
    "key_place": "contains the path of the key, not the key itself",
    "open": "other users of this machine can read it",
    "exports": "exported for another system",
    "logs": "written by skinkit's runs",
    "leftovers": "unfinished or replaced work of a run that was killed",
    "unreadable": "damaged, so nobody can say what is in it: 'skinkit verify' lists damaged artifacts",
}
"""Kind of finding -> why it exists, or stays."""
REMOVED = ("exports", "logs", "leftovers")
"""Kinds that can be removed without breaking an artifact."""


@dataclass(frozen=True)
class Trace:
    """One finding in one file.

    Attributes:
        file: relative to the workspace.
        kind: of :data:`STAYS`.
        what: the column or the kind of content.
        n: number of distinct ids, words or ages, or number of photos.
    """

    file: str
    kind: str
    what: str
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return asdict(self)


def traces(workspace: Workspace) -> Iterator[Trace]:
    """Everything in a workspace that identifies a person or helps to, sorted by file."""
    sought = _sought(workspace)
    for path in files_of(workspace):
        name = path.relative_to(workspace.root).as_posix()
        if kind := _of_place(path, workspace):
            yield Trace(name, kind, kind, 1)
        elif path.is_file() and path.suffix == ".parquet":
            try:
                yield from list(_in_table(path, name, sought))
            except InputError:
                yield Trace(name, "unreadable", "table", 1)
        elif path.is_file() and path.suffix in _TEXTS:
            yield from _in_text(path, name, sought)
        elif _is_photo(path, set(name.split("/")[:-1])):
            yield Trace(name, "photos", "photo of a lesion", 1)
        if workspace.private and path.exists() and permissions.open_to_others(path):
            yield Trace(name, "open", "may be read by others", 1)


def files_of(workspace: Workspace) -> Iterator[Path]:
    """Files of a workspace and leftover folders, without the cohorts' own files and hidden folders."""
    sources = {Path(str(cohort.root)) for cohort in workspace.cohorts.values()}

    def below(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                if _is_left_over(path):
                    yield path
                elif path not in sources and not path.name.startswith("."):
                    yield from below(path)
            else:
                yield path

    yield from below(workspace.root)


def _of_place(path: Path, workspace: Workspace) -> str:
    """The kind of a file by its path alone."""
    inside = path.is_relative_to(workspace.artifacts)
    if _is_left_over(path):
        return "leftovers"
    if path.name == pseudonyms.MEMORY and inside:
        return "key_place"
    if path.suffix in _LOGS or (not inside and path.parent.name == "logs"):
        return "logs"
    return "exports" if path.suffix == ".csv" and _is_export(path) else ""


def _is_photo(path: Path, folders: set[str]) -> bool:
    """Whether a file is a photo of a lesion, or may show some; charts and masks are PNG, in folders of their own."""
    suffix = path.suffix.lower()
    return suffix in EXTENSIONS and (suffix != ".png" or not folders & _CHARTS)


def _is_left_over(path: Path) -> bool:
    name = path.name
    if path.is_symlink():
        return name.endswith(UNFINISHED)  # skinkit makes none
    if path.is_dir():
        replaced = name.endswith(PREVIOUS) and (path.with_suffix("") / MANIFEST).is_file()
        return replaced or name.endswith((PARTIAL, INSTALLING))
    return name.startswith(".") and name.endswith(".tmp")


def _is_export(path: Path) -> bool:
    """Whether a CSV file was written by 'skinkit export'."""
    with path.open("rb") as stream:
        head = stream.readline(4096).decode("utf-8-sig", "replace")
    return set(_EXPORTED) <= set(head.strip().split(","))


# ------------------------------------------------------------------------------------------------------- contents


def _sought(workspace: Workspace) -> set[tuple[str, ...]]:
    """The ids to search for in texts, each as its tokens."""
    ids: set[str] = set()
    for cohort in workspace.cohorts.values():
        if cohort.key_file is not None:
            ids |= _own_ids(workspace, cohort.name)
            continue
        path = workspace.path(Ref("cases", cohort.name))
        if exists(path):
            with contextlib.suppress(InputError):  # damaged: that is listed as well
                for column in (*IDS[:-1], *PATHS):
                    ids |= {value for value in _values(path / TABLE, column) if not _PSEUDONYM.fullmatch(value)}
    ids |= {part for own in ids for part in own.split("|")}  # a key of several columns
    return {tuple(_TOKEN.findall(own)) for own in ids if len(own) >= _SHORTEST}


def _own_ids(workspace: Workspace, name: str) -> set[str]:
    """Ids and file names from the cohort's own files; empty if the files or the key are unavailable."""
    try:
        rows = read_cases(workspace.cohort(name)).rows
    except SkinkitError:
        return set()
    ids = {own for row in rows for _, own in pseudonyms.ids_of(row)}
    return ids | {str(row[column]) for row in rows for column in PATHS if row[column]}


def _values(table: Path, column: str) -> set[str]:
    """The distinct values of a column, as text; empty without the column."""
    values: set[str] = set()
    with opened_table(table) as file:
        if column in file.schema_arrow.names:
            for group in range(file.num_row_groups):
                held = file.read_row_group(group, columns=[column]).column(0).to_pylist()
                values |= {str(value) for value in held if value is not None}
    return values


def _in_table(path: Path, name: str, sought: set[tuple[str, ...]]) -> Iterator[Trace]:
    with opened_table(path) as file:
        columns: Sequence[str] = file.schema_arrow.names
    for column in columns:
        kind = _of_column(column)
        if not kind:
            continue
        values = _values(path, column)
        if kind == "ages":
            values = {value for value in values if float(value) > OLDEST_YEARS}
        elif column == "detail":
            values = {value for value in values if _named_in(value, sought)}
        elif kind in ("ids", "file_names"):
            values = {value for value in values if not _PSEUDONYM.fullmatch(value)}
        if values:
            yield Trace(name, kind, column, len(values))


def _of_column(column: str) -> str:
    if column in (*IDS, *NAMED, "detail"):
        return "ids"
    if column in (*PATHS, *FILES):
        return "file_names"
    if column in WORDS:
        return "words"
    if column == "age_years":
        return "ages"
    return "kept_columns" if column.startswith("keep__") else ""


def _in_text(path: Path, name: str, sought: set[tuple[str, ...]]) -> Iterator[Trace]:
    if path.name in (SETTINGS_FILE, test_access_log.LEDGER, test_access_log.FORMER_LEDGER):
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    photos = text.count("data:image/jpeg")
    if not photos and not set(name.split("/")[:-1]) & _CHARTS:
        photos = text.count("data:image/png")
    if photos:
        yield Trace(name, "photos", "photos of lesions", photos)
    if hits := _named_in(html.unescape(text) if path.suffix == ".html" else text, sought):
        yield Trace(name, "ids", "in the text", hits)


def _named_in(text: str, sought: set[tuple[str, ...]]) -> int:
    """The number of ids all of whose tokens occur in a text."""
    there = set(_TOKEN.findall(text))
    return sum(1 for words in sought if words and there.issuperset(words))
