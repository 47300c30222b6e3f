"""Pseudonyms: keyed hashes instead of ids, so that artifacts, logs and reports name no patient.

A pseudonym is the HMAC-SHA256 (RFC 2104) of the id's kind, its id space and the id under a secret key, its first 100
bits in base32. The same id and key always give the same pseudonym, so patients stay together and the leakage guard
works. Without the key pseudonyms cannot be reversed, and guessed ids cannot be tested. No table of ids is stored: with
the key it can be recomputed from the cohort's files.

Photos get pseudonyms too, because a file name often contains a patient's number. :class:`KeyedFolder` finds their
files. Stages that read photos therefore need the key; stages that read only tables do not.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PosixPath
from typing import Any, NamedTuple

from skinkit.artifacts.file_names import as_text
from skinkit.errors import InputError, RefusedError

LENGTH = 20
"""Characters of a pseudonym, 5 bits each: the probability of a collision among a million ids is 4e-19."""
KINDS = ("patient", "lesion", "case", "image", "accession")
FEWEST_BYTES = 32
MEMORY = "pseudonyms.json"
"""Note beside a cohort's artifacts: the check value and the path of its key."""
_FILE = "keyed-"
_MOST_BYTES = 4096
_SHARE_LOOKING = 0.1
"""Largest share of time spent on listing a folder again for missing files."""


@dataclass(frozen=True)
class Key:
    """A secret from which pseudonyms are made; it never leaves the process."""

    secret: bytes = field(repr=False)

    def pseudonym(self, kind: str, space: str, name: str) -> str:
        """The pseudonym of an id: :data:`LENGTH` lower-case letters and digits 2 to 7.

        Args:
            kind: of :data:`KINDS`, or ``file``.
            space: the id space; ids of two spaces never share a pseudonym.
            name: the id.
        """
        message = "\0".join(("skinkit pseudonym 1", kind, space, name))
        hashed = hmac.digest(self.secret, message.encode("utf-8", "surrogateescape"), "sha256")
        return base64.b32encode(hashed)[:LENGTH].decode().lower()

    def file(self, path: str) -> str:
        """The pseudonym of a file, from its path relative to the cohort's folder."""
        return _FILE + self.pseudonym("file", "", path)

    @property
    def check(self) -> str:
        """Check value that identifies a key without revealing it."""
        return self.pseudonym("key", "", "check")


def read_key(path: Path, workspace: Path) -> Key:
    """The key in a file: all its bytes.

    Raises:
        InputError: there is no such file, or it cannot be read.
        RefusedError: it is in the workspace, or too short to be a secret.
    """
    path = path.expanduser()
    if path.resolve().is_relative_to(workspace.resolve()):
        raise RefusedError(
            f"the key file {path} is in the workspace",
            "a key kept apart from the data it protects",
            "move it out of the workspace, where only you can read it",
        )
    try:
        with path.open("rb") as stream:
            secret = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"key file {path}: {error.strerror}",
            "the key this cohort's ids are hashed with",
            f"restore it, correct its path, or make a new one for a new workspace: skinkit init DIR --key {path}",
        ) from None
    if not FEWEST_BYTES <= len(secret) <= _MOST_BYTES:
        raise RefusedError(
            f"key file {path}: {min(len(secret), _MOST_BYTES)} bytes{' or more' if len(secret) > _MOST_BYTES else ''}",
            f"{FEWEST_BYTES} to {_MOST_BYTES} random bytes",
            f"make one: skinkit init DIR --key {path}, or head -c {FEWEST_BYTES} /dev/urandom > {path}",
        )
    return Key(secret)


def readable_by_others(path: Path) -> bool:
    """Whether other users of the machine may read a file."""
    return bool(path.expanduser().stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def make_key(path: Path) -> None:
    """Write a new key that only its owner can read; an existing file is never touched.

    Raises:
        FileExistsError: there is one already.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(os.urandom(FEWEST_BYTES))
        stream.flush()
        os.fsync(stream.fileno())


# -------------------------------------------------------------------------------------------------- rows of a cohort


def with_pseudonyms(row: Mapping[str, Any], key: Key, space: str) -> dict[str, Any]:
    """A row of cases with pseudonyms for its ids and files; free text is removed, because it may contain names.

    Args:
        row: with ``image_id``, ``case_id``, ``patient_id``, ``lesion_id``, ``accession`` and the paths of its files.
        key: the key.
        space: the cohort's id space.
    """
    changed: dict[str, Any] = {}
    for kind, name in ids_of(row):
        changed[_column(kind)] = key.pseudonym(kind, space, name)
    if row["case_id"] == row["image_id"]:
        changed["case_id"] = changed["image_id"]
    for column in ("image_path", "truth_mask_path"):
        changed[column] = key.file(row[column]) if row[column] else None
    return {**row, **changed, "detail": None}


def ids_of(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and value of every id in a row of cases."""
    for kind in KINDS:
        if name := row.get(_column(kind)):
            yield kind, str(name)


def _column(kind: str) -> str:
    return kind if kind == "accession" else f"{kind}_id"


# ------------------------------------------------------------------------------------------------ what is remembered


class Memory(NamedTuple):
    """How a cohort is pseudonymised: where its key lies, and the key's check value."""

    key_file: Path
    check: str


def remembered(folder: Path) -> Memory | None:
    """The note beside a cohort's artifacts; None if the cohort is not pseudonymised.

    Raises:
        InputError: the note cannot be read.
    """
    file = folder / MEMORY
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return Memory(Path(record["key_file"]), str(record["key_check"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} cannot be read ({error})",
            "where the key of this cohort's pseudonyms lies",
            f"remove it and give --pseudonymise KEYFILE again, or remove {folder}",
        ) from None


def to_remember(memory: Memory) -> bytes:
    """The content of the note."""
    return json.dumps({"key_file": str(memory.key_file), "key_check": memory.check}, indent=1).encode()


# ------------------------------------------------------------------------------------------------------ the files


class KeyedFolder(PosixPath):
    """The folder of a pseudonymised cohort: ``folder / pseudonym`` is the path of that file.

    Any other name is an ordinary path. The object is picklable; other processes read the key themselves.
    """

    key_file: Path | None = None
    workspace: Path | None = None

    @classmethod
    def of(cls, folder: Path, key_file: Path, workspace: Path) -> KeyedFolder:
        """A folder whose files go by pseudonyms under the key in ``key_file``."""
        keyed = cls(folder)
        keyed.key_file, keyed.workspace = key_file, workspace
        return keyed

    def __truediv__(self, name: str | os.PathLike[str]) -> Any:
        """The file of that name or pseudonym; an unknown pseudonym gives a path that does not exist."""
        plain, requested = Path(str(self)), str(name)
        if self.key_file is None or self.workspace is None or not requested.startswith(_FILE):
            return plain / name
        files = _files(str(self), self.key_file, self.workspace)
        return plain / files.name_of(requested)

    def __reduce__(self) -> Any:
        """By the paths alone."""
        if self.key_file is None or self.workspace is None:
            return Path, (str(self),)
        return KeyedFolder.of, (Path(str(self)), self.key_file, self.workspace)


class _Files:
    """The files of a folder by pseudonym; an unknown pseudonym lists the folder again, at a limited rate."""

    def __init__(self, root: Path, key: Key) -> None:
        self.root, self.key = root, key
        self._names: dict[str, str] = {}
        self._not_before = float("-inf")

    def name_of(self, pseudonym: str) -> str:
        """The relative path, or the pseudonym itself where no file has it."""
        began = time.monotonic()
        if pseudonym not in self._names and began >= self._not_before:
            self._names = {self.key.file(name): name for name in _walked(self.root)}
            ended = time.monotonic()
            self._not_before = ended + (ended - began) / _SHARE_LOOKING
        return self._names.get(pseudonym, pseudonym)


@cache
def _files(root: str, key_file: Path, workspace: Path) -> _Files:
    return _Files(Path(root), read_key(key_file, workspace))


def _walked(root: Path) -> Iterator[str]:
    """Relative path of every file below a folder, as text; links are followed."""
    visited: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        for name in names:
            yield as_text(Path(folder, name).relative_to(root).as_posix())
