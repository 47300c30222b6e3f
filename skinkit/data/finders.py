"""How a table row finds its images: by file name, by pattern or by a DICOM tag."""

from __future__ import annotations

import filecmp
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from skinkit.artifacts.file_names import on_disk, readings
from skinkit.data import words
from skinkit.data.canonical import Reader
from skinkit.data.files import EXTENSIONS, CohortFiles
from skinkit.data.source import TableRow
from skinkit.schemas import FAILED, PENDING


def without_extension(path: str) -> str:
    """A path without its image extension (1.2.840.55 has none)."""
    suffix = PurePosixPath(path).suffix
    return path[: -len(suffix)] if suffix.lower() in EXTENSIONS else path


def folded_path(path: str) -> str:
    """A path normalised for comparison: NFC, no invisible characters, no blanks around a name in it, case folded."""
    trimmed = "/".join(words.visible(part) for part in path.split("/"))
    return unicodedata.normalize("NFC", trimmed).casefold()


def ends_in(name: str, path: str, root: Path) -> bool:
    """Whether a file is in the folder that a name says, if it says one; the extension does not matter.

    Args:
        name: folded path of a table, with or without folder.
        path: path of the file below ``root``.
        root: the cohort's folder, whose own name the table may give too.
    """
    above = root.absolute().as_posix()
    wholes = [f"/{folded_path(f'{above}/{reading}')}" for reading in readings(path)]
    ends = [end for whole in wholes for end in (whole, without_extension(whole))]
    return any(end.endswith(f"/{without_extension(name)}") for end in ends)


Place = dict[str, Any]


class Finder(Protocol):
    """Finds the images of a table row."""

    copies: dict[str, str]

    def __call__(self, row: TableRow) -> list[Place]:
        """One entry for each image of the row."""


def make_finder(files: CohortFiles, reader: Reader) -> Finder:
    """The finder for the source's ``join``."""
    join = files.source.join
    if join.by == "pattern":
        return _PatternFinder(files, reader, join.pattern)
    if join.by == "dicom":
        return _DicomFinder(files, reader, join.tag)
    return _NameFinder(files, reader, join.separator)


def _pending(image_id: str, reason: str, detail: str) -> Place:
    return {"image_id": image_id, "status": PENDING, "reason": reason, "detail": detail}


def failed(image_id: str, reason: str, detail: str) -> Place:
    """The entry of an image that cannot be used, with its reason."""
    return {"image_id": image_id, "status": FAILED, "reason": reason, "detail": detail}


class _NameFinder:
    """Finds images by the file name in the row: with or without folder, with or without extension.

    Attributes:
        copies: path of an image that is a copy of another one, byte by byte -> that one's.
    """

    def __init__(self, files: CohortFiles, reader: Reader, separator: str) -> None:
        self.root, self.reader, self.separator = files.root, reader, separator
        self.sizes = {path: file.size for path, file in files.images.items()}
        self.copies: dict[str, str] = {}
        self.without_zeros: dict[str, str] | None = None
        self.index: dict[str, list[str]] = defaultdict(list)
        for path in files.images:
            for plain in map(folded_path, readings(path)):
                for key in {
                    plain,
                    without_extension(plain),
                    plain.rpartition("/")[2],
                    without_extension(plain.rpartition("/")[2]),
                }:
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
        image_id = own_id or without_extension(inside if inside is not None else name.replace("\\", "/"))
        if inside is None:
            return failed(image_id, "path_outside_root", "the name leads out of the cohort's folder")
        plain = folded_path(inside)
        matches: list[str] = []
        for key in (
            plain,
            without_extension(plain),
            plain.rpartition("/")[2],
            without_extension(plain.rpartition("/")[2]),
        ):
            matches = [path for path in self.index.get(key, []) if ends_in(plain, path, self.root)]
            # A full path takes precedence; a bare name must match a single file.
            exact = [path for path in matches if key in (folded_path(path), without_extension(folded_path(path)))]
            if len(exact) == 1:
                matches = exact
            if matches:
                break
        if not matches:
            return _pending(image_id, "image_absent", f"no file called {inside}{self._hint(plain)}")
        if len(matches) > 1 and len({folded_path(path) for path in matches}) == 1:
            # Two files of one folder whose names differ only in case or in how an accent is encoded. Where they differ
            # in blanks, which a table loses, it is unknown which one is meant.
            blanks = any(path != words.visible(path) or "/ " in path for path in matches)
            spelt = [path for path in matches if path in (inside, f"{inside}{PurePosixPath(path).suffix}")]
            spelt = [] if blanks else spelt
            matches = spelt if len(spelt) == 1 else matches
        if len(matches) > 1 and self._are_copies(matches):
            self.copies |= dict.fromkeys(sorted(matches)[1:], sorted(matches)[0])
            matches = sorted(matches)[:1]
        if len(matches) > 1:
            return failed(image_id, "image_ambiguous", f"{name} fits {', '.join(matches[:4])}")
        return {"image_id": image_id, "image_path": matches[0]}

    def _are_copies(self, paths: list[str]) -> bool:
        """Whether files are the same byte by byte."""
        first, *others = [on_disk(self.root / path) for path in paths]
        try:
            return len({self.sizes[path] for path in paths}) == 1 and all(
                filecmp.cmp(first, other, shallow=False) for other in others
            )
        except OSError:
            return False

    def _hint(self, plain: str) -> str:
        """What a name that no file has may mean: a file in another folder, or one with other leading zeros."""
        if self.without_zeros is None:
            names = {path: without_extension(folded_path(PurePosixPath(path).name)) for path in self.sizes}
            self.without_zeros = {name.lstrip("0"): path for path, name in names.items()}
        bare = without_extension(plain.rpartition("/")[2])
        if same := self.index.get(bare):
            return f"; {same[0]} is in another folder"
        near = self.without_zeros.get(bare.lstrip("0"))
        return f"; {near} has other leading zeros" if near else ""


def inside_root(name: str, root: Path) -> str | None:
    """A file name of a table as a path relative to the cohort's folder; None where it points outside."""
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
    """Finds every image that matches a pattern filled with the row's values, such as ``{accession}*/*.jpg``."""

    def __init__(self, files: CohortFiles, reader: Reader, pattern: str) -> None:
        self.reader, self.pattern, self.copies = reader, pattern, dict[str, str]()
        self.names = re.findall(r"\{(\w+)\}", pattern)
        self.paths = sorted((folded_path(path), path) for path in files.images)

    def __call__(self, row: TableRow) -> list[Place]:
        from bisect import bisect_left

        values = {name: self.reader.text(row.cells, name) for name in self.names}
        absent = [name for name, value in values.items() if value is None]
        if absent:
            return [_pending(f"row-{row.number}", "image_unnamed", f"row {row.number} has no {absent[0]}")]
        key = "|".join(str(values[name]) for name in self.names)
        if any("/" in str(v) or "\\" in str(v) or str(v) in (".", "..") for v in values.values()):
            return [failed(key, "path_outside_root", "the value would lead into another folder")]
        matcher, prefix = filled(self.pattern, {name: folded_path(str(value)) for name, value in values.items()})
        start = bisect_left(self.paths, (prefix, ""))
        places = []
        for plain, path in self.paths[start:]:
            if not plain.startswith(prefix):
                break
            if matcher.fullmatch(plain):
                places.append({"image_id": without_extension(path), "image_path": path})
        return places or [_pending(key, "image_absent", f"no image fits {self.pattern} for this row")]


def filled(pattern: str, values: Mapping[str, str]) -> tuple[re.Pattern[str], str]:
    """A pattern filled with the row's values, as a regular expression over folded paths, and its literal prefix.

    A value matches whole numbers and words only: ``{accession}*`` with 12 matches ``12_a`` and not ``123``.
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
        literal = values[piece[1:-1]] if piece.startswith("{") and piece != "{" else folded_path(piece)
        edge = piece.startswith("{")
        text += "(?<![0-9a-z])" if edge and after_star else ""
        text += re.escape(literal)
        text += "(?![0-9a-z])" if edge and following.startswith("*") and following != "**/" else ""
        prefix += literal if fixed else ""
        after_star = False
    return re.compile(text, re.DOTALL), prefix


class _DicomFinder:
    """Finds every DICOM file whose tag equals the row's accession number."""

    def __init__(self, files: CohortFiles, reader: Reader, tag: str) -> None:
        from skinkit.errors import CaseError
        from skinkit.images.dicom import dicom_tag

        self.reader, self.tag, self.copies = reader, tag, dict[str, str]()
        self.index: dict[str, list[str]] = defaultdict(list)
        for path in files.images:
            try:
                value = dicom_tag(files.root / path, tag)
            except CaseError:
                continue  # not a DICOM file: it waits for a table row
            if value:
                self.index[value].append(path)

    def __call__(self, row: TableRow) -> list[Place]:
        key = self.reader.text(row.cells, "accession")
        if key is None:
            return [_pending(f"row-{row.number}", "image_unnamed", f"row {row.number} has no accession")]
        places = [{"image_id": without_extension(path), "image_path": path} for path in self.index.get(key, [])]
        return places or [_pending(key, "image_absent", f"no DICOM file has this {self.tag}")]
