"""Where cases come from: one file per public dataset, and ``folder`` for a hospital described by a TOML.

A :class:`Source` says which tables and images an archive has, what its columns are called and what its labels mean;
the same code reads them all. The files of this folder are the registry: the one named ``pad_ufes_20.py`` is
``pad-ufes-20`` on the command line and holds a constant ``SOURCE``. Third parties register theirs by an entry point of
the group ``skinkit.sources`` that points to a :class:`Source`.

Nothing here imports pandas, and finding files opens none of them but DICOM candidates, so asking whether a cohort is up
to date is quick.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

from skinkit.artifact import digest, file_sha256
from skinkit.errors import ConfigError, InputError, did_you_mean
from skinkit.file_names import as_text, on_disk
from skinkit.workspace import SETTINGS_FILE, Cohort

if TYPE_CHECKING:
    from skinkit.console import Console
    from skinkit.data._cases import Listing

ENTRY_POINTS = "skinkit.sources"
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".dicom"})
"""File names taken for images when a folder is searched; DICOM files without one are recognised by their content."""

OPTIONS = {
    "table": "table to read instead of the usual one, relative to the cohort's folder",
    "part": "which part of an archive with several: training, validation or test",
    "masks": "folder of truth masks, or a pattern such as masks/{stem}.png; empty for none",
    "id_space": "cohorts that share it share their patient and lesion ids",
    "phantom": "the lesions are drawn, not photographed",
}
"""Keys that any cohort of ``skinkit.toml`` may have beside role, source and path."""


class TableRow(NamedTuple):
    """One row of a table as text.

    Attributes:
        number: line of the text file or row of the sheet, from 1.
        cells: column name -> text, stripped; empty where there is none.
    """

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        encoding: of text files.
        delimiter: between cells; empty: tab for .tsv and .tab, otherwise a comma.
        decimal: decimal sign of its numbers.
        sheet: sheet of an XLSX file; empty for the first.
        date_format: ``strptime`` format of its dates; empty for unambiguous ones such as 1961-02-28 or 1961年2月28日.
        missing: words that mean nothing is known, beside the empty cell, NA, nan and null.
        headings: of tables that begin with their first row; it stands for those of just as many columns.
    """

    encoding: str = "utf-8"
    delimiter: str = ""
    decimal: str = "."
    sheet: str = ""
    date_format: str = ""
    missing: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One arrangement in which a source is found.

    Attributes:
        name: training, validation, test, or empty where a source has no such parts.
        tables: patterns of tables that are all needed; they are joined on the image.
        optional: patterns of tables that are joined where they are found.
        images: patterns of its images; empty for the source's own.
        masks: patterns of its truth masks; empty for the source's own.
    """

    name: str = ""
    tables: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Join:
    """How a row finds its images.

    Attributes:
        by: ``name`` (column ``image`` holds a file name, with or without folder and extension), ``pattern`` or
            ``dicom``.
        pattern: for example ``{accession}*/*.jpg``, filled with the row's values; every match is an image of the row.
        tag: DICOM keyword whose value equals column ``accession``.
        separator: splits several file names in one cell.
    """

    by: str = "name"
    pattern: str = ""
    tag: str = ""
    separator: str = ""


@dataclass(frozen=True)
class Draw:
    """A test set drawn from a dataset by class, with the metadata of PAD-UFES-20 drawn for it.

    Attributes:
        n: cases, unless the cohort says otherwise.
        diagnoses: classes that are drawn; the others stay out.
        published: diagnosis -> cases, where a paper tells numbers that are not proportional to the dataset.
    """

    n: int
    diagnoses: tuple[str, ...]
    published: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A dataset, or a hospital, described.

    Patterns use ``*``, ``?`` and ``**/``; in patterns of masks ``{stem}`` stands for the image's file name without
    extension, ``{path}`` for its path without extension and ``{image_id}`` for its id.

    Attributes:
        name: how it is called on the command line.
        title: one line for a reader.
        citation: what to cite.
        licence: licence of the data.
        parts: arrangements in which it is found, the most telling first.
        images: patterns of image files below the cohort's folder.
        masks: patterns of truth masks.
        columns: canonical column -> the table's column, or several that are joined by ``|`` to make a key. ``image``
            is the file name.
        required: canonical columns whose table column must be there.
        values: canonical column -> the table's word -> our value (empty: known to mean unknown).
        words: read the words of ``skinkit.data._words`` (English and Chinese) where ``values`` say nothing.
        one_hot: label columns of which one is 1; the label is that column's name.
        patterns: regular expressions for the diagnosis, as (expression, diagnosis), tried in order.
        icd10: ICD-10 prefix -> diagnosis; the longest prefix decides.
        constants: canonical column -> value of every row that has none of its own.
        extra: further columns to take over as text: our name -> the table's column.
        id_space: default id space; empty for the source's name (``folder``: the cohort's).
        dialect: how the tables are written.
        join: how a row finds its images.
        ids: what names an image that stands in no table: its file ``name``, unique in an archive, or its ``path``.
        rows: changes the rows of a table before they are read (one row into two views, for example).
        options: further cohort options it understands, with their help.
        configure: makes the source from the cohort's own files; ``folder`` reads ``cohort.toml``.
        file: table by its path below the cohort's folder, instead of the patterns of ``parts``.
        files: files beside the tables that decide the result (``cohort.toml``).
        draw: how many cases of each class are drawn, and metadata for them, where the source is made so.
        expected: diagnosis (or ``total``) -> usable images there should be; other counts are told, never an error.
    """

    name: str
    title: str
    citation: str = ""
    licence: str = ""
    parts: tuple[Part, ...] = (Part(),)
    images: tuple[str, ...] = ("**/*",)
    masks: tuple[str, ...] = ()
    columns: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    words: bool = False
    one_hot: tuple[str, ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()
    icd10: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    id_space: str = ""
    dialect: Dialect = field(default_factory=Dialect)
    join: Join = field(default_factory=Join)
    ids: Literal["name", "path"] = "name"
    rows: Callable[[list[TableRow]], list[TableRow]] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    configure: Callable[[Source, Cohort], Source] | None = None
    file: str = ""
    files: tuple[str, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    draw: Draw | None = None


# ------------------------------------------------------------------------------------------------------ registry


def _modules() -> dict[str, str]:
    """Source name -> module, from the files of this folder."""
    stems = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if not file.name.startswith("_"))
    return {stem.replace("_", "-"): f"{__name__}.{stem}" for stem in stems}


def _third_party() -> dict[str, Source]:
    found: dict[str, Source] = {}
    for point in entry_points(group=ENTRY_POINTS):
        loaded = point.load()
        source = loaded if isinstance(loaded, Source) else getattr(loaded, "SOURCE", None)
        if not isinstance(source, Source):
            raise ConfigError(
                f"entry point {point.name!r} of {ENTRY_POINTS} gives {type(loaded).__name__}",
                "a skinkit.data.Source, or a module with one called SOURCE",
                f"mend the package that declares {point.value}",
            )
        found[point.name] = source
    return found


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


def read_cases(cohort: Cohort, console: Console | None = None) -> Listing:
    """Every image and table row of a cohort in canonical columns, before any image is opened.

    Args:
        cohort: the cohort.
        console: told how many of the images were found and what could not be mapped.

    Raises:
        ConfigError: an option or ``cohort.toml`` is wrong.
        InputError: a table is absent, unreadable or lacks a column.
    """
    from skinkit.data._cases import list_cases

    return list_cases(cohort, locate(cohort), console)


# ----------------------------------------------------------------------------------------------------- the files


class File(NamedTuple):
    """One file below a cohort's folder: relative path, bytes and time of change."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Found:
    """What lies in a cohort's folder.

    Attributes:
        source: the source as this cohort configures it.
        part: the arrangement that was found.
        tables: its tables.
        images: relative path -> image file, sorted.
        masks: relative path -> mask file, sorted.
        mask_keys: (placeholder, value) -> relative path of the mask.
        archives: ZIP and TAR files that may not have been unpacked.
        closed: folders below it that this user may not list.
    """

    source: Source
    part: Part
    root: Path
    tables: tuple[Path, ...]
    images: Mapping[str, File]
    masks: Mapping[str, File]
    mask_keys: Mapping[tuple[str, str], str]
    archives: tuple[str, ...]
    closed: tuple[str, ...] = ()

    @property
    def watch(self) -> str:
        """Digest of path, size and time of every file that matters."""
        beside = [*self.tables, *(self.root / name for name in self.source.files)]
        named = [(os.path.relpath(p, self.root), p.stat().st_size, p.stat().st_mtime_ns) for p in beside]
        return digest([list(self.images.values()), list(self.masks.values()), named, *self.closed])

    @cached_property
    def content(self) -> str:
        """Digest of the description and the tables, read whole."""
        files = [self.root / name for name in self.source.files]
        return digest([[path.name, file_sha256(path)] for path in (*self.tables, *files)])


def locate(cohort: Cohort) -> Found:
    """Find a cohort's tables, images and masks; no file is read but ``cohort.toml``.

    Raises:
        ConfigError: unknown source or option, or several parts and none chosen.
        InputError: the folder or its table is absent.
    """
    source = load_source(cohort.source)
    _check_options(source, cohort)
    if not cohort.root.is_dir():
        raise InputError(
            f"cohort {cohort.name!r}: no folder {cohort.root}",
            f"the folder of {source.title}",
            f"correct path in [cohorts.{cohort.name}] of {SETTINGS_FILE}",
        )
    if source.configure is not None:
        source = source.configure(source, cohort)
    closed: list[str] = []
    files = list(walk(cohort.root, closed))
    paths = [file.path for file in files]
    part, tables = _arrangement(source, cohort, paths)
    masks, keys = _masks(files, _mask_patterns(cohort, part.masks or source.masks))
    matchers = [translate(pattern) for pattern in part.images or source.images]
    images = {
        file.path: file
        for file in files
        if file.path not in masks
        and any(matcher.fullmatch(unicodedata.normalize("NFC", file.path)) for matcher in matchers)
        and _is_image(cohort.root, file)
    }
    archives = tuple(
        path for path in paths if path.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"))
    )
    return Found(source, part, cohort.root, tables, images, masks, keys, archives, tuple(closed))


def other_masks(cohort: Cohort, place: str) -> Found:
    """Masks of another annotator than the cohort's own.

    Args:
        cohort: the cohort.
        place: folder below the cohort's, or a pattern such as ``masks/{stem}.png``.

    Raises:
        InputError: there is no mask.
    """
    named = replace(cohort, options={**cohort.options, "masks": place})
    masks, keys = _masks(list(walk(cohort.root)), _mask_patterns(named, ()))
    if not masks:
        raise InputError(
            f"no mask at {place!r} in {cohort.root}",
            "a folder of masks named as the images, or a pattern with {stem}",
            "correct --settings masks=...",
        )
    return Found(load_source(cohort.source), Part(), cohort.root, (), {}, masks, keys, ())


def _masks(files: Sequence[File], patterns: Sequence[str]) -> tuple[dict[str, File], dict[tuple[str, str], str]]:
    """``masks`` and ``mask_keys`` of :class:`Found`."""
    masks: dict[str, File] = {}
    keys: dict[tuple[str, str], str] = {}
    for pattern in patterns:
        matcher = translate(pattern)
        for file in files:
            match = matcher.fullmatch(unicodedata.normalize("NFC", file.path))
            if match and PurePosixPath(file.path).suffix.lower() in EXTENSIONS:
                masks[file.path] = file
                for name, value in match.groupdict().items():
                    keys.setdefault((name, value.casefold()), file.path)
    return masks, keys


_TABLE_FILES = (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm", ".parquet", ".pq")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def _check_options(source: Source, cohort: Cohort) -> None:
    known = {**OPTIONS, **source.options}
    for key in cohort.options:
        if key not in known:
            raise ConfigError(
                f"unknown key {key!r} in [cohorts.{cohort.name}] of {SETTINGS_FILE}",
                did_you_mean(key, [*known, "role", "source", "path"]),
                "rename or remove it",
            )
    for key in ("table", "part", "masks", "id_space"):
        if not isinstance(cohort.options.get(key, ""), str):
            raise ConfigError(
                f"{key} = {cohort.options[key]!r} in [cohorts.{cohort.name}] of {SETTINGS_FILE}",
                "text in quotes",
                "put it in quotes",
            )


def _mask_patterns(cohort: Cohort, usual: Sequence[str]) -> list[str]:
    """The masks named in the cohort's table of ``skinkit.toml``, else the usual ones."""
    if "masks" not in cohort.options:
        return list(usual)
    chosen = str(cohort.options["masks"]).strip("/")
    if not chosen:
        return []
    return [chosen] if "{" in chosen else [f"{chosen}/{{stem}}.*", f"{chosen}/**/{{stem}}.*"]


def _arrangement(source: Source, cohort: Cohort, paths: Sequence[str]) -> tuple[Part, tuple[Path, ...]]:
    """The part that is there and its tables."""
    part_name = str(cohort.options.get("part", ""))
    names = [part.name for part in source.parts if part.name]
    if part_name and part_name not in names:
        raise ConfigError(
            f"part {part_name!r} of cohort {cohort.name!r}",
            did_you_mean(part_name, set(names)) if names else f"no part: {source.name} has none",
            f"correct part in [cohorts.{cohort.name}] of {SETTINGS_FILE}",
        )
    candidates = [part for part in source.parts if part_name in ("", part.name)]
    table = str(cohort.options.get("table", source.file))
    if table:
        path = on_disk(cohort.root / table)
        if not path.is_file():
            told = f"table in [cohorts.{cohort.name}] of {SETTINGS_FILE}" if "table" in cohort.options else "file"
            near = [name for name in paths if name.lower().endswith(_TABLE_FILES)]
            raise InputError(f"cohort {cohort.name!r}: no table {path}", did_you_mean(table, near), f"correct {told}")
        return candidates[0], (path,)
    if "table" in cohort.options:
        return replace(candidates[0], tables=(), optional=()), ()
    complete: list[tuple[Part, list[str]]] = []
    for part in candidates:
        places = [_first(pattern, paths) for pattern in part.tables]
        if all(place is not None for place in places):
            more = [_first(pattern, paths) for pattern in part.optional]
            complete.append((part, [place for place in (*places, *more) if place is not None]))
    if not complete:
        wanted = sorted({" with ".join(part.tables) for part in candidates})
        raise InputError(
            f"cohort {cohort.name!r}: no table of {source.title} in {cohort.root}",
            " or ".join(wanted),
            "give the folder of the unpacked archive as path, or name the table with table = ...",
        )
    there = list(dict.fromkeys(part.name for part, _ in complete if part.tables))
    if len(there) > 1:
        raise ConfigError(
            f"cohort {cohort.name!r}: {cohort.root} holds several parts: {', '.join(there)}",
            "one part per cohort",
            f'add part = "{there[0]}" to [cohorts.{cohort.name}] of {SETTINGS_FILE}',
        )
    part, chosen = complete[0]
    return part, tuple(cohort.root / place for place in dict.fromkeys(chosen))


def _first(pattern: str, paths: Sequence[str]) -> str | None:
    """The match nearest to the cohort's folder, in alphabetical order."""
    matcher = translate(pattern)
    matches = [path for path in paths if matcher.fullmatch(path)]
    return min(matches, key=lambda path: (path.count("/"), path), default=None)


def walk(root: Path, closed: list[str] | None = None) -> Iterator[File]:
    """Every file below a folder in a fixed order; links are followed, hidden files and artifacts passed over.

    A link to nothing is a file all the same: its case must not vanish.

    Args:
        root: the folder.
        closed: takes the folders that may not be listed; without it the first of them is an error.

    Raises:
        InputError: a folder may not be listed.
    """

    def refuse(error: OSError) -> None:
        folder = os.path.relpath(error.filename, root)
        if closed is None or folder == ".":
            raise InputError(
                f"{as_text(str(error.filename))}: {error.strerror}", "a folder this user may list", "let it be read"
            )
        closed.append(as_text(folder))

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        own = "artifacts" if SETTINGS_FILE in names else None
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in (own, "__MACOSX"))
        for name in sorted(names):
            if name[0] == ".":
                continue
            path = os.path.join(folder, name)
            try:
                status = os.stat(path)
            except OSError:
                try:
                    status = os.lstat(path)
                except FileNotFoundError:
                    continue  # taken away meanwhile
            yield File(as_text(Path(path).relative_to(root).as_posix()), status.st_size, status.st_mtime_ns)


_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def _is_image(root: Path, file: File) -> bool:
    suffix = PurePosixPath(file.path).suffix.lower()
    if suffix in EXTENSIONS:
        return True
    if suffix and not suffix[1:].isdigit():
        return False
    path = on_disk(root / file.path)
    try:  # IM000001 or 1.2.840.113619.2.55: a DICOM file as archives export it
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # a pipe would keep its reader waiting for ever
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        return error.errno not in _NOTHING_THERE  # what it holds cannot be told: it is not passed over


_PIECES = re.compile(r"\*\*/|\*\*|\*|\?|\{(\w+)\}|[^*?{]+|\{")


def translate(pattern: str) -> re.Pattern[str]:
    """A file pattern as a regular expression over relative paths, without regard to upper and lower case.

    ``*`` and ``?`` stay within a folder, ``**/`` stands for any number of folders; ``{name}`` becomes a group that
    matches within a folder (``{path}`` and ``{image_id}`` across folders).
    """
    wide = ("path", "image_id")
    text, named = "", set()
    for piece in _PIECES.finditer(pattern):
        found, name = piece[0], piece[1]
        if found == "**/":
            text += "(?:.+/)?"
        elif found == "**":
            text += ".*"
        elif found == "*":
            text += "[^/]*"
        elif found == "?":
            text += "[^/]"
        elif name:
            text += f"(?P={name})" if name in named else f"(?P<{name}>{'.+' if name in wide else '[^/]+'})"
            named.add(name)
        else:
            text += re.escape(unicodedata.normalize("NFC", found))
    return re.compile(text, re.IGNORECASE | re.DOTALL)  # a name may hold a line end
