"""Find the tables, images and truth masks in a cohort's folder by the patterns of its source.

Only ``cohort.toml`` and possible DICOM files are opened, so checking whether a cohort is up to date is quick.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from skinkit.artifacts.file_names import as_text, on_disk
from skinkit.artifacts.files import digest, file_sha256
from skinkit.data.ids import DIFFERENT, SAME
from skinkit.data.mask_reading import reading_of
from skinkit.data.source import OPTIONS, Arrangement, Source
from skinkit.errors import ConfigError, InputError, did_you_mean, listed
from skinkit.workspace import SETTINGS_FILE, Cohort

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".dicom"})
"""Extensions of image files; DICOM files without an extension are recognised by their content."""


# ----------------------------------------------------------------------------------------------------- the files
class File(NamedTuple):
    """One file below a cohort's folder: relative path, size in bytes and modification time."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class CohortFiles:
    """The files of a cohort.

    Attributes:
        source: the source as this cohort configures it.
        part: the arrangement that was found.
        tables: its tables.
        images: relative path -> image file, sorted.
        masks: relative path -> mask file, sorted.
        mask_keys: (placeholder, value) -> relative path of the mask.
        archives: ZIP and TAR files that may not have been unpacked.
        closed: subfolders that this user has no permission to list.
    """

    source: Source
    part: Arrangement
    root: Path
    tables: tuple[Path, ...]
    images: Mapping[str, File]
    masks: Mapping[str, File]
    mask_keys: Mapping[tuple[str, str], str]
    archives: tuple[str, ...]
    closed: tuple[str, ...] = ()

    @property
    def watch(self) -> str:
        """Digest of path, size and modification time of every relevant file."""
        beside = [*self.tables, *(self.root / name for name in self.source.files)]
        named = [(os.path.relpath(p, self.root), p.stat().st_size, p.stat().st_mtime_ns) for p in beside]
        return digest([list(self.images.values()), list(self.masks.values()), named, *self.closed])

    @cached_property
    def content(self) -> str:
        """Digest of the contents of the description and the tables."""
        files = [self.root / name for name in self.source.files]
        return digest([[path.name, file_sha256(path)] for path in (*self.tables, *files)])


def locate(cohort: Cohort, source: Source) -> CohortFiles:
    """Find a cohort's tables, images and masks in the arrangement of a source.

    Raises:
        ConfigError: unknown option, or several parts and none chosen.
        InputError: the folder or its table is absent.
    """
    check_options(source, cohort)
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
    if source.listed is not None:
        named = {cells.get("mask", "") for cells in source.listed.values()}
        masks = {path: file for path, file in masks.items() if path in named}
    matchers = [translate(pattern) for pattern in part.images or source.images]
    images = {
        file.path: file
        for file in files
        if file.path not in masks
        and (source.listed is None or file.path in source.listed)
        and any(matcher.fullmatch(unicodedata.normalize("NFC", file.path)) for matcher in matchers)
        and _is_image(cohort.root, file)
    }
    archives = tuple(path for path in paths if path.lower().endswith(_ARCHIVES))
    return CohortFiles(source, part, cohort.root, tables, images, masks, keys, archives, tuple(closed))


def other_masks(cohort: Cohort, source: Source, place: str) -> CohortFiles:
    """Masks of the same images by another annotator.

    Args:
        cohort: the cohort.
        source: the cohort's source.
        place: folder below the cohort's folder, or a pattern such as ``masks/{stem}.png``.

    Raises:
        InputError: there is no mask.
    """
    named = replace(cohort, options={**cohort.options, "masks": place})
    masks, keys = _masks(list(walk(cohort.root)), _mask_patterns(named, ()))
    if not masks:
        raise InputError(
            f"no mask at {place!r} in {cohort.root}",
            "a folder of masks with the names of the images, or a pattern with {stem}",
            "correct --settings masks=...",
        )
    return CohortFiles(source, Arrangement(), cohort.root, (), {}, masks, keys, ())


def _masks(files: Sequence[File], patterns: Sequence[str]) -> tuple[dict[str, File], dict[tuple[str, str], str]]:
    """``masks`` and ``mask_keys`` of :class:`CohortFiles`."""
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


_KINDS: dict[str, tuple[type, str]] = {"phantom": (bool, "true or false"), "label": (int, "a whole number from 0")}
"""Options of a cohort that are no text."""


def check_options(source: Source, cohort: Cohort) -> None:
    """Refuse keys of a cohort in ``skinkit.toml`` that its source does not know, and values of the wrong type.

    Raises:
        ConfigError: naming the first one.
    """
    options = {**OPTIONS, **source.options}
    for key in cohort.options:
        if key not in options:
            raise ConfigError(
                f"unknown key {key!r} in [cohorts.{cohort.name}] of {SETTINGS_FILE}",
                did_you_mean(key, [*options, "role", "source", "path"]),
                "rename or remove it",
            )
    for key, value in cohort.options.items():
        kind, expected = _KINDS.get(key, (str, "text in quotes"))
        if key in OPTIONS and not isinstance(value, kind):
            raise ConfigError(
                f"{key} = {value!r} in [cohorts.{cohort.name}] of {SETTINGS_FILE}", expected, "correct the value"
            )
    reading_of(cohort)
    chosen = cohort.options.get("spellings", "")
    if chosen not in ("", SAME, DIFFERENT):
        raise ConfigError(
            f"spellings = {chosen!r} in [cohorts.{cohort.name}] of {SETTINGS_FILE}",
            f'"{SAME}" or "{DIFFERENT}"',
            "correct it",
        )


def _mask_patterns(cohort: Cohort, usual: Sequence[str]) -> list[str]:
    """The mask patterns set for the cohort in ``skinkit.toml``, else the usual ones."""
    if "masks" not in cohort.options:
        return list(usual)
    chosen = str(cohort.options["masks"]).strip("/")
    if not chosen:
        return []
    return [chosen] if "{" in chosen else [f"{chosen}/{{stem}}.*", f"{chosen}/**/{{stem}}.*"]


def _arrangement(source: Source, cohort: Cohort, paths: Sequence[str]) -> tuple[Arrangement, tuple[Path, ...]]:
    """The part of the source that the folder holds, and its tables."""
    candidates = _candidate_parts(source, cohort)
    table = str(cohort.options.get("table", source.file))
    if table:
        return candidates[0], (_named_table(table, cohort, paths),)
    if "table" in cohort.options:  # set to "": the cohort has no table
        return replace(candidates[0], tables=(), optional=()), ()
    return _complete_part(source, cohort, candidates, paths)


def _candidate_parts(source: Source, cohort: Cohort) -> list[Arrangement]:
    """The part that the cohort names, else every part of the source."""
    part_name = str(cohort.options.get("part", ""))
    names = [part.name for part in source.parts if part.name]
    if part_name and part_name not in names:
        raise ConfigError(
            f"part {part_name!r} of cohort {cohort.name!r}",
            did_you_mean(part_name, set(names)) if names else f"no part: {source.name} has none",
            f"correct part in [cohorts.{cohort.name}] of {SETTINGS_FILE}",
        )
    return [part for part in source.parts if part_name in ("", part.name)]


def _named_table(table: str, cohort: Cohort, paths: Sequence[str]) -> Path:
    path = on_disk(cohort.root / table)
    if path.is_file():
        return path
    setting = f"table in [cohorts.{cohort.name}] of {SETTINGS_FILE}" if "table" in cohort.options else "file"
    near = [name for name in paths if name.lower().endswith(_TABLE_FILES)]
    raise InputError(f"cohort {cohort.name!r}: no table {path}", did_you_mean(table, near), f"correct {setting}")


def _complete_part(
    source: Source, cohort: Cohort, candidates: Sequence[Arrangement], paths: Sequence[str]
) -> tuple[Arrangement, tuple[Path, ...]]:
    """The first part whose tables all exist; two named parts in one folder are an error."""
    complete: list[tuple[Arrangement, list[str]]] = []
    for part in candidates:
        places = [_first(pattern, paths) for pattern in part.tables]
        if all(place is not None for place in places):
            more = [_first(pattern, paths) for pattern in part.optional]
            complete.append((part, [place for place in (*places, *more) if place is not None]))
    if not complete:
        patterns = sorted({" with ".join(part.tables) for part in candidates})
        raise InputError(
            f"cohort {cohort.name!r}: no table of {source.title} in {cohort.root}",
            " or ".join(patterns),
            "give the folder of the unpacked archive as path, or name the table with table = ...",
        )
    part_names = list(dict.fromkeys(part.name for part, _ in complete if part.tables))
    if len(part_names) > 1:
        raise ConfigError(
            f"cohort {cohort.name!r}: {cohort.root} holds several parts: {listed(part_names)}",
            "one part per cohort",
            f'add part = "{part_names[0]}" to [cohorts.{cohort.name}] of {SETTINGS_FILE}',
        )
    part, chosen = complete[0]
    return part, tuple(cohort.root / place for place in dict.fromkeys(chosen))


def _first(pattern: str, paths: Sequence[str]) -> str | None:
    """The match at the shallowest depth; among several, the first in alphabetical order."""
    matcher = translate(pattern)
    matches = [path for path in paths if matcher.fullmatch(path)]
    return min(matches, key=lambda path: (path.count("/"), path), default=None)


def walk(root: Path, closed: list[str] | None = None) -> Iterator[File]:
    """Every file below a folder in a fixed order; links are followed, hidden files and artifacts skipped.

    A broken link counts as a file, so that its case is reported.

    Args:
        root: the folder.
        closed: receives the folders without permission to list; without it the first of them is an error.

    Raises:
        InputError: there is no permission to list a folder.
    """

    def refuse(error: OSError) -> None:
        folder = os.path.relpath(error.filename, root)
        if closed is None or folder == ".":
            raise InputError(
                f"{as_text(str(error.filename))}: {error.strerror}",
                "a folder that this user has permission to list",
                "grant read permission",
            )
        closed.append(as_text(folder))

    visited: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a folder already walked
            folders.clear()
            continue
        visited.add(real)
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
                    continue  # deleted since the listing
            yield File(as_text(Path(path).relative_to(root).as_posix()), status.st_size, status.st_mtime_ns)


_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def _is_image(root: Path, file: File) -> bool:
    suffix = PurePosixPath(file.path).suffix.lower()
    if suffix in EXTENSIONS:
        return True
    if suffix and not suffix[1:].isdigit():
        return False
    path = on_disk(root / file.path)
    try:  # DICOM archives export files such as IM000001 or 1.2.840.113619.2.55
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # reading a pipe would block
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        return error.errno not in _NOTHING_THERE  # an unreadable file may be an image: keep it, so that it is reported


_PIECES = re.compile(r"\*\*/|\*\*|\*|\?|\{(\w+)\}|[^*?{]+|\{")


def translate(pattern: str) -> re.Pattern[str]:
    """A file pattern as a case-insensitive regular expression over relative paths.

    ``*`` and ``?`` match within a folder, ``**/`` matches any number of folders. ``{name}`` becomes a group that
    matches within a folder (``{path}`` and ``{image_id}`` across folders).
    """
    wide = ("path", "image_id")
    text, named = "", set()
    for piece in _PIECES.finditer(pattern):
        token, name = piece[0], piece[1]
        if token == "**/":
            text += "(?:.+/)?"
        elif token == "**":
            text += ".*"
        elif token == "*":
            text += "[^/]*"
        elif token == "?":
            text += "[^/]"
        elif name:
            text += f"(?P={name})" if name in named else f"(?P<{name}>{'.+' if name in wide else '[^/]+'})"
            named.add(name)
        else:
            text += re.escape(unicodedata.normalize("NFC", token))
    return re.compile(text, re.IGNORECASE | re.DOTALL)  # a file name may contain a newline
