"""Outputs of commands: one check of where they go.

Every option that names an output says so in its :class:`~skinkit.options.Help` (``writes``), and is checked here before
the command begins. Refused (exit 2) are a folder that is not there (perhaps a share that is not mounted), places among
the cohorts' files or the artifacts, and what skinkit did not write: a table of 'export' is known by its heading, a pack
by its first member, a folder for files by the file :data:`MARK` in it, which lists what skinkit wrote there, with
hashes: a file that it does not list, or that was changed since, is never replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from skinkit.artifacts.files import file_sha256, keeping, write_atomic
from skinkit.commands import Context
from skinkit.data.folder import DESCRIPTION
from skinkit.errors import ConfigError, SkinkitError
from skinkit.options import Writes, options_of
from skinkit.reporting.study_files import Written as Written
from skinkit.reporting.study_files import write_study as write_study
from skinkit.workspace import Workspace, find_workspace, load_workspace

C = TypeVar("C")
MARK = ".skinkit-files"
"""Name of the file that marks a folder as skinkit's to write in: ``files``, name -> SHA-256 of what it wrote. While a
command writes, and after one that was killed, ``kept`` in its place lists the files of others; one of an older version
has neither, and then all files are skinkit's."""
_NOTE = "skinkit wrote the files listed here, and replaces them when it is run again, unless they were changed."
_HEAD_BYTES = 4096


# ------------------------------------------------------------------------------------------------ where it goes


@contextlib.contextmanager
def checked_outputs(config: C, context: Context) -> Iterator[C]:
    """The ``Config`` of a command with its outputs checked; a folder for files is made and marked.

    Meanwhile no file in it that skinkit did not write is replaced. A folder that a failing command leaves empty is as
    it was before.

    Raises:
        ConfigError: as :func:`checked`.
    """
    marked: list[tuple[Path, bool]] = []
    folders: list[Path] = []
    for option in options_of(type(config)):
        if option.help.writes and (value := getattr(config, option.name)):
            path = checked(option.flag, option.help.writes, value, context)
            config = dataclasses.replace(config, **{option.name: str(path)})  # type: ignore[type-var]
            if option.help.writes == "folder":
                folders.append(path)
                marked += [] if (path / MARK).is_file() else [(path, path.exists())]
    if folders:
        with contextlib.suppress(SkinkitError):  # some commands need no workspace
            context.workspace()  # where it is private, so is what this process makes from now on
    try:
        with contextlib.ExitStack() as kept:
            for path in folders:
                kept.enter_context(_marked(path))
            yield config
    except BaseException:
        for path, existed in marked:
            with contextlib.suppress(OSError):
                if [file.name for file in path.iterdir()] == [MARK]:
                    (path / MARK).unlink()
                    if not existed:
                        path.rmdir()
        raise


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[None]:
    """Mark a folder, keep the files of others in it, and list the rest when the command ends."""
    folder.mkdir(exist_ok=True)
    others = _others(folder)
    write_atomic(folder / MARK, json.dumps({"note": _NOTE, "kept": sorted(others)}, ensure_ascii=False).encode())
    try:
        with keeping([folder / name for name in others]):
            yield
    except BaseException:
        with contextlib.suppress(OSError, SkinkitError):  # the disk may be full, or gone
            _list_own(folder, others)
        raise
    _list_own(folder, others)


def _list_own(folder: Path, others: Collection[str]) -> None:
    """Write into the mark of a folder what skinkit wrote there."""
    own = {name: file_sha256(file) for name, file in _inside(folder).items() if name not in others}
    write_atomic(folder / MARK, json.dumps({"note": _NOTE, "files": own}, ensure_ascii=False, indent=1).encode())


def _others(folder: Path) -> set[str]:
    """Files in a marked folder that skinkit did not write, or that were changed since."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        mark = {}
    here = _inside(folder)
    if isinstance(mark, dict) and isinstance(mark.get("kept"), list):
        return {name for name in mark["kept"] if name in here}
    if isinstance(mark, dict) and isinstance(own := mark.get("files"), dict):
        return {name for name, file in here.items() if name not in own or file_sha256(file) != own[name]}
    return set()


def _inside(folder: Path) -> dict[str, Path]:
    """Name -> file below a folder, without its mark."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != MARK)
    return {file.relative_to(folder).as_posix(): file for file in files}


def checked(flag: str, writes: Writes, value: str, context: Context) -> Path:
    """The path of an output, if skinkit may write there.

    Args:
        flag: the option, for the error.
        writes: kind of output.
        value: the path as given.
        context: of the command.

    Raises:
        ConfigError: its folder is absent, it lies among the cohorts' files or the artifacts, or something that skinkit
            did not write would be replaced.
    """
    named = f"{flag} {value}"
    try:
        path = Path(value).expanduser()
        _check(path, named, writes, context)
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, ~nobody, a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{named}: {why}", "a path that this user may write to", "correct the path") from None
    return path


def _check(path: Path, named: str, writes: Writes, context: Context) -> None:
    place = path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()
    if not place.parent.is_dir():
        raise ConfigError(
            f"{named}: no folder {place.parent}",
            "an existing folder; it is not made, because it may be a share that is not mounted",
            "mount the share, make the folder, or correct the path",
        )
    for folder, what in _forbidden(place, context):
        for candidate in (place, place.resolve()):
            if candidate.is_relative_to(folder):
                raise ConfigError(f"{named} is in {folder}, {what}", "a place outside of it", "give another path")
    _KINDS[writes](place, named)


def _forbidden(place: Path, context: Context) -> Iterator[tuple[Path, str]]:
    """Folders in which nothing may be written, and what they are.

    A workspace may itself lie in a cohort's folder; what is written in it does not count as among the cohort's files.
    """
    roots: list[Path] = []
    for start in (context.folder, place.parent):
        with contextlib.suppress(ConfigError):
            roots.append(find_workspace(start))
    sources = [(folder, f"a cohort's files ({DESCRIPTION})") for folder in (place, *place.parents)]
    sources = [(folder, what) for folder, what in sources if (folder / DESCRIPTION).is_file()]
    for root in dict.fromkeys(roots):
        yield root / "artifacts", "the artifacts of a workspace"
        yield (root / "artifacts").resolve(), "the artifacts of a workspace"
        with contextlib.suppress(SkinkitError):  # the command says what is wrong with the settings
            cohorts = load_workspace(root).cohorts.values()
            sources += [(Path(str(cohort.root)), f"the files of cohort {cohort.name}") for cohort in cohorts]
    around = [root for root in roots if place.is_relative_to(root)]
    yield from ((folder, what) for folder, what in sources if not any(folder in root.parents for root in around))


def _file(is_ours: Callable[[bytes], bool], what: str) -> Callable[[Path, str], None]:
    """The check of a file: absent, empty, or written by skinkit."""

    def check(path: Path, named: str) -> None:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no regular file"
            raise ConfigError(f"{named} is {kind}", "the name of a file", "name a file in an existing folder")
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        if head and not is_ours(head):
            raise ConfigError(
                f"{named} is a file that skinkit did not write",
                f"a new file, or {what}",
                "give another name, or move it",
            )

    return check


def _is_export(head: bytes) -> bool:
    """Whether a file begins with the heading of 'export', of this version or of an earlier one."""
    from skinkit.reporting.export_table import COLUMNS

    columns = head.partition(b"\n")[0].decode("utf-8-sig", "replace").strip().split(",")
    return len(columns) >= _FEWEST_COLUMNS and columns == list(COLUMNS[: len(columns)])


_PRODUCER = b"\x12\x07skinkit"
"""The name of the program that made an ONNX file, as it stands after the version of the format."""
_FEWEST_COLUMNS = 20
"""Columns of the tables of the first version; later ones have more, at their end."""


def _is_predictions(head: bytes) -> bool:
    """Whether a file begins with the heading of 'predict --onnx'."""
    first, *others = head.partition(b"\n")[0].decode("utf-8", "replace").strip().split(",")
    return first == "cohort" and {"case_id", "level", "status", "top1", "malignancy"} <= {*others}


def _is_bundle(head: bytes) -> bool:
    """Whether a file begins as a FHIR bundle of ours."""
    from skinkit.exchange.fhir import is_bundle

    return is_bundle(head)


def _is_pack(head: bytes) -> bool:
    """Whether a file begins as a pack, a ZIP archive whose first member is the index, or as an ONNX file of ours."""
    from skinkit.learning.pack import INDEX

    pack = head.startswith(b"PK\x03\x04") and head[30:].startswith(INDEX.encode())
    return pack or (head.startswith(b"\x08") and _PRODUCER in head[:16])


def _files(path: Path, named: str) -> None:
    """The check of a folder for files: absent, empty, or marked."""
    _folder(path, named)
    if path.is_dir() and not (path / MARK).is_file() and any(path.iterdir()):
        raise ConfigError(
            f"{named} is a folder with files that skinkit did not write",
            f"a new or empty folder, or one that skinkit has written to (it has a file {MARK})",
            f"name another folder; if everything in this one may be replaced: touch '{path / MARK}'",
        )


def _folder(path: Path, named: str) -> None:
    """The check of a folder in which the command itself refuses to replace files."""
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{named} is a file", "a folder", "name a folder, or one that does not exist yet")


def _existing(path: Path, named: str) -> None:
    if not path.is_dir():
        raise ConfigError(f"{named}: no such folder", "an existing folder", "make it, or correct the path")


def _key(path: Path, named: str) -> None:
    if path.exists() and not path.is_file():
        raise ConfigError(f"{named} is no file", "a key file, or the name of a new one", "name a file")


_KINDS: Mapping[Writes, Callable[[Path, str], None]] = {
    "table": _file(_is_export, "an earlier table of 'skinkit export'"),
    "predictions": _file(_is_predictions, "an earlier table of 'skinkit predict --onnx'"),
    "bundle": _file(_is_bundle, "an earlier bundle of 'skinkit export --fhir'"),
    "pack": _file(_is_pack, "an earlier file of 'skinkit models pack' or 'export'"),
    "folder": _files,
    "workspace": _folder,
    "downloads": _folder,
    "scratch": _existing,
    "key": _key,
}
"""Kind of output -> check of what is there already."""


def folder_of(out: str, workspace: Workspace, *inside: str) -> Path:
    """The output folder: ``--out`` replaces the first part, a folder of the workspace."""
    first, *rest = inside
    return (Path(out) if out else workspace.root / first).joinpath(*rest)
