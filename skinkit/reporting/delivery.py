"""What a receiver of 'skinkit export' holds, and what it still has to get: by numbered states, never by the clock.

A delivered row is made from two artifacts (``cases`` and ``predictions``): it changes when a photo is predicted, when
the number of its exam is corrected, or when its photo is gone. So what is numbered is the delivered row itself, not a
row of either artifact. Each cohort has one ledger per model and level, in ``artifacts/COHORT/deliveries/MODEL``. It
holds, for every row that was ever there, digests of its contents and the numbers of the states in which it got them.

*States.* An export takes the ledger's lock, reads the artifacts that are in place, and records what differs from the
last state as the next one: new contents, corrected ones, and rows that are gone. Then it releases the lock. A number is
given to what is in place and only under the lock, so no row can become visible later with a lower number, and an export
that runs during a predict sees the old artifact or the new one. Of two exports at once the second waits; it reads the
artifacts after the first one has recorded its state.

*Tokens.* A token names one recorded state of each cohort. What is delivered is the difference between that state and
the present one: a row that was not there is ``new``, one with other content ``corrected``, one that is gone
``withdrawn``; a row that is as it was is left out, whatever happened in between. So any number of receivers can keep
their own tokens, a delivery that was lost is repeated by its old token, and an artifact that is built again from
scratch with the same content delivers nothing. Where and when a row was made (``time``, ``run``, ``skinkit``) is no
content.

*Crashes.* The ledger is written as a whole before the rows go out, and the token is printed after them. A run killed
anywhere in between leaves the receiver with its old token, which delivers the same again.

*Unknown tokens.* Every state has a random mark that its tokens carry. A ledger that was removed, damaged and removed,
restored from a backup, or begun again because the cohort's ids became pseudonyms does not know the mark. Then every row
is delivered as new, which the command says: rows may come twice, none is lost. Workspaces older than the ledger begin
with their first export.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from skinkit.artifacts.files import digest, sealed, settle_folder, unsealed, write_atomic
from skinkit.artifacts.locks import lock
from skinkit.errors import ConfigError, InputError
from skinkit.reporting.export_table import COLUMNS, IDS, Row
from skinkit.schemas import IMAGE, LEVELS

FOLDER = "deliveries"
NEW, CORRECTED, WITHDRAWN = ("new", "corrected", "withdrawn")
_NO_CONTENT = ("time", "run", "skinkit", "pseudonym", "change", "sequence")
_CONTENT = tuple(name for name in COLUMNS if name not in _NO_CONTENT)
_WAIT_S = 120.0
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HELD = re.compile(rf"({_NAME})/({_NAME})/({'|'.join(LEVELS)})/([1-9][0-9]*)-([0-9a-f]{{8}})")
_DIGITS = 16
"""Hexadecimal digits of a content's digest."""

Key = tuple[str, str]
"""Level of a row, and the id of its case, lesion or patient."""


class Held(NamedTuple):
    """One recorded state of a cohort, as a token names it."""

    cohort: str
    model: str
    level: str
    number: int
    mark: str

    def __str__(self) -> str:
        return f"{self.cohort}/{self.model}/{self.level}/{self.number}-{self.mark}"


def token(held: Iterable[Held]) -> str:
    """The token of what a receiver holds of each cohort."""
    return "+".join(map(str, sorted(held)))


def is_token(text: str) -> bool:
    """Whether a text can be a token; times and ids of runs have no slash."""
    return "/" in text


def parsed_token(text: str) -> dict[str, Held]:
    """Cohort -> what the receiver holds of it.

    Raises:
        ConfigError: no token, or one that names a cohort twice.
    """
    held: dict[str, Held] = {}
    for part in text.strip().split("+"):
        found = _HELD.fullmatch(part)
        if found is None or found[1] in held:
            raise ConfigError(
                f"--since {text!r}",
                "a token as 'skinkit export' prints it, such as ward/lightgbm/image/12-9f3c1a2b",
                "give 'token' of the last export's --json, unchanged; leave --since out to get every row",
            )
        held[found[1]] = Held(found[1], found[2], found[3], int(found[4]), found[5])
    return held


class DeliveredRow(NamedTuple):
    """A row that is or was there.

    Attributes:
        ids: its ids, in the order of :data:`~skinkit.reporting.export_table.IDS`; a withdrawn row has no other content.
        history: number of a state -> digest of the content from then on; None from where it is gone.
    """

    ids: Sequence[str | None]
    history: Sequence[tuple[int, str | None]]

    def at(self, number: int) -> str | None:
        """Digest of the content in a state; None if the row was not there."""
        return next((content for since, content in reversed(self.history) if since <= number), None)


@dataclass(frozen=True)
class Ledger:
    """The recorded states of one cohort, model and level.

    Attributes:
        ids: check value of the key of the ids' pseudonyms; empty for original ids.
        marks: of the states; the first state is number 1.
        entries: of all rows that are or were there.
    """

    ids: str
    marks: Sequence[str] = ()
    entries: Mapping[Key, DeliveredRow] = field(default_factory=dict)

    def knows(self, held: Held) -> bool:
        """Whether that state was recorded here."""
        return held.number <= len(self.marks) and self.marks[held.number - 1] == held.mark

    def state(self, number: int) -> dict[Key, str]:
        """Digest of every row that was there."""
        contents = ((key, entry.at(number)) for key, entry in self.entries.items())
        return {key: content for key, content in contents if content is not None}

    def with_state(self, rows: Mapping[Key, Row]) -> Ledger:
        """The ledger with these rows as its last state; itself if they are that already."""
        number, last = len(self.marks) + 1, self.state(len(self.marks))
        now = {key: _digest(row) for key, row in rows.items()}
        if now == last and self.marks:
            return self
        entries = dict(self.entries)
        for key in [key for key, content in now.items() if last.get(key) != content]:
            history = entries[key].history if key in entries else ()
            entries[key] = DeliveredRow([rows[key][name] for name in IDS], [*history, (number, now[key])])
        for key in last.keys() - now.keys():
            entries[key] = entries[key]._replace(history=[*entries[key].history, (number, None)])
        return Ledger(self.ids, [*self.marks, secrets.token_hex(4)], entries)


class Delivery(NamedTuple):
    """What one cohort delivers.

    Attributes:
        rows: with ``change`` and ``sequence``.
        held: what the receiver holds afterwards; None where nothing can be recorded.
        known: whether the state that the receiver's token names was recorded here.
    """

    rows: list[Row]
    held: Held | None
    known: bool = True


def delivered(
    artifacts: Path, wanted: tuple[str, str, str], read: Callable[[], tuple[Sequence[Row], str]], before: Held | None
) -> Delivery:
    """Record the present state of a cohort, and return what a receiver lacks.

    Args:
        artifacts: folder of all artifacts.
        wanted: cohort, model and level.
        read: gives all present rows, and the check value of the key of their ids; called under the lock.
        before: what the receiver holds; None for nothing.

    Raises:
        BusyError: another export holds the ledger for minutes.
        InputError: the ledger is damaged, or cannot be written although the receiver has a token.
    """
    path = _path(artifacts, *wanted)
    if not os.access(next(p for p in path.parents if p.exists()), os.W_OK):
        return _unrecorded(path, read, before)
    with lock(path, wait_s=_WAIT_S):
        present, ids = read()
        rows = {_key(row): row for row in present}
        ledger = _opened(path)
        ledger = ledger if ledger is not None and ledger.ids == ids else Ledger(ids)
        now = ledger.with_state(rows)
        if now is not ledger:
            _write(path, now)
    # The receiver may hold another level, or the answers of another model.
    source = now if before is None or before[:3] == wanted else _opened(_path(artifacts, *before[:3]))
    known = before is None or (source is not None and source.ids == ids and source.knows(before))
    had: dict[Key, str] = source.state(before.number) if before and known and source else {}
    gone = [_gone(wanted[0], source, key, now) for key in had.keys() - rows.keys()] if source else []
    return Delivery([*_present(now, rows, had), *gone], Held(*wanted, len(now.marks), now.marks[-1]), known)


def _present(now: Ledger, rows: Mapping[Key, Row], had: Mapping[Key, str]) -> Iterable[Row]:
    """The rows that the receiver lacks or holds with other content."""
    for key, row in rows.items():
        number, content = now.entries[key].history[-1]
        if had.get(key) != content:
            yield {**row, "change": CORRECTED if key in had else NEW, "sequence": number}


def _gone(cohort: str, source: Ledger, key: Key, now: Ledger) -> Row:
    """A row that the receiver holds and that is no longer there."""
    entry = now.entries.get(key)
    return {
        **dict.fromkeys(COLUMNS),
        **dict(zip(IDS, source.entries[key].ids, strict=True)),
        "cohort": cohort,
        "level": key[0],
        "status": WITHDRAWN,
        "change": WITHDRAWN,
        "sequence": entry.history[-1][0] if entry else len(now.marks),
    }


def _unrecorded(path: Path, read: Callable[[], tuple[Sequence[Row], str]], before: Held | None) -> Delivery:
    """Every row, where the workspace may only be read; a token needs a ledger that can be written."""
    if before is not None:
        raise InputError(
            f"{path.parent} cannot be written to",
            "a workspace in which this user may record what was delivered",
            "run export as the user who runs predict, or leave --since out to get every row",
        )
    return Delivery([{**row, "change": NEW, "sequence": None} for row in read()[0]], None)


def _path(artifacts: Path, cohort: str, model: str, level: str) -> Path:
    return artifacts / cohort / FOLDER / model / f"{level}.json"


def _key(row: Row) -> Key:
    return row["level"], str(row["case"] if row["level"] == IMAGE else row[row["level"]])


def _digest(row: Row) -> str:
    return digest([row[name] for name in _CONTENT])[:_DIGITS]


def _opened(path: Path) -> Ledger | None:
    """The ledger of a file; None without one.

    Raises:
        InputError: it is not as it was written.
    """
    try:
        record: dict[str, Any] = unsealed(path.read_bytes())
        entries = {
            (level, name): DeliveredRow(ids, [(number, content) for number, content in history])
            for level, name, ids, history in record["rows"]
        }
        return Ledger(record["ids"], record["marks"], entries)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read ({error})",
            "the record of what was delivered, as skinkit wrote it",
            "restore it, or remove it: the next export then delivers every row as new",
        ) from None


def _write(path: Path, ledger: Ledger) -> None:
    rows = [[*key, entry.ids, entry.history] for key, entry in ledger.entries.items()]
    record = {"ids": ledger.ids, "marks": ledger.marks, "rows": rows}
    write_atomic(path, sealed(record))
    settle_folder(path.parent)
