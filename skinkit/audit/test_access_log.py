"""The test access log: one permanent record of every use of held-out or external cases to measure a model.

A held-out or external set is unbiased only while no choice depends on its results; the log says how often it was used,
by whom, for what, when, with which model and settings. ``test_access_log.jsonl`` of the workspace is append-only with
one JSON object per line. Each line holds its own SHA-256 and that of the previous line, so a changed, moved or removed
line is detected. Lines cut from the end, or a log that was taken away, show in the metrics: each keeps the number and
hash of its access (:func:`add`, ``kept``), and the count goes on from the highest.

An *access* shows new answers: other predictions, or another truth. Scoring the same predictions again, with other
settings or under another name of the model or of the cohort, is a further line but no new access; the same command with
the same settings is no further line. Accesses are counted by test set: cohorts of one name, or with the same cases.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.artifacts.files import digest, write_atomic
from skinkit.artifacts.locks import lock
from skinkit.errors import RefusedError
from skinkit.schemas import DEFAULT_ENDPOINT, IMAGE, probability_columns

if TYPE_CHECKING:
    import pandas as pd

LEDGER, FORMER_LEDGER = "test_access_log.jsonl", "looks.jsonl"
"""Its name, and its name in workspaces of older versions, where it stays."""
HELD_OUT, EXTERNAL = "held_out", "external"
USER = "SKINKIT_USER"
"""Environment variable with the name that the log records instead of the account's; empty: none."""
_START = "0" * 64
_WAIT_S = 30.0
_DIGITS = 9


@dataclass(frozen=True)
class Access:
    """One line of the log, and which access it belongs to.

    Attributes:
        number: of the access to that test set, from 1.
        new: whether this scoring is a new access.
        entry: the line as a mapping.
        first: time of the first access to that test set.
        declared: time of the first line of the test set with this entry's endpoint, as a person declared it; None
            where nobody did.
        declared_first: whether the first access was made with it, so that it was declared before any figure.
        lost: accesses that metrics remember and the log no longer has.
    """

    number: int
    new: bool
    entry: Mapping[str, Any]
    first: str = ""
    declared: str | None = None
    declared_first: bool = False
    lost: int = 0

    def declaration(self) -> dict[str, Any]:
        """How its endpoint was declared: ``beforehand`` (with the first access), ``after`` it, or ``default``."""
        return {
            "declared": "beforehand" if self.declared_first else "after" if self.declared else "default",
            "declared_on": self.declared,
            "first_look": self.first,
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the metrics."""
        return {
            "number": self.number,
            "new": self.new,
            "time": self.entry["time"],
            "own": self.entry["own"],
            "first": self.first,
            "lost": self.lost,
            "text": described(self),
        }


def ledger(root: Path) -> Path:
    """The file of a workspace's log.

    Raises:
        RefusedError: there are two, so that nobody can say how often a test set was used.
    """
    file, former = root / LEDGER, root / FORMER_LEDGER
    if file.is_file() and former.is_file():
        raise RefusedError(
            f"{file} and {former.name} beside it", "one test access log", "keep the one that belongs to this workspace"
        )
    return former if former.is_file() else file


def read(root: Path) -> list[dict[str, Any]]:
    """All lines of a workspace, oldest first.

    Raises:
        RefusedError: a line was changed, removed or is not JSON; the first such line is named.
    """
    file = ledger(root)
    if not file.is_file():
        return []
    entries: list[dict[str, Any]] = []
    before = _START
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            linked = entry["previous"] == before and entry["own"] == _own(entry)
        except (ValueError, KeyError, TypeError):
            linked = False
        if not linked:
            raise RefusedError(
                f"line {number} of {file} does not follow from the previous line",
                "an append-only log",
                "restore the log from a backup; if that is not possible, move it away and report this wherever these "
                "figures are reported",
            )
        entries.append(entry)
        before = hashlib.sha256(line).hexdigest()
    return entries


def _own(entry: Mapping[str, Any]) -> str:
    return digest({name: value for name, value in entry.items() if name != "own"})


def add(root: Path, use: Mapping[str, Any], kept: Sequence[Mapping[str, Any]] = ()) -> Access:
    """Record a use of test cases, unless the same command already measured the same content with the same settings.

    Args:
        root: the workspace, or another folder that holds the log.
        use: cohort, role (``external`` or ``held_out``), model, model_identity, content (identity of predictions and
            truth), endpoint, and declared_by (``person`` or ``default``); where known answers and test_set (of
            :func:`of_scored`), command, settings; and any further fields. ``look: False`` says that no answers are
            compared with the truth, or none that are new (the key of all versions).
        kept: ``number`` and ``own`` of the accesses that metrics of this cohort remember.

    Raises:
        RefusedError: the log was tampered with.
        BusyError: another process is writing it.
    """
    file = ledger(root)
    with lock(file, wait_s=_WAIT_S):  # all cohorts share the log and lock it briefly
        entries = read(root)
        mine = [entry for entry in entries if _same_test_set(entry, use)]
        numbers = _numbers(mine)
        here = {entry["own"] for entry in entries}
        remembered = [int(one["number"]) for one in kept if one.get("own") not in here]
        highest = max([*numbers, *remembered], default=0)
        lost = len(set(remembered) - set(numbers))
        before = next((n for entry, n in zip(mine, numbers, strict=True) if _same_answers(entry, use)), None)
        new = before is None and _compares(use)
        number = highest + 1 if new else before or highest
        again = next((entry for entry in mine if _same_use(entry, use)), None)
        if again is None:
            written = file.read_bytes() if entries else b""
            lines = written.splitlines()
            previous = hashlib.sha256(lines[-1]).hexdigest() if lines else _START
            user = _user()
            again = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                **({"user": user} if user else {}),
                **use,
                "number": number,
                "new": new,
                "previous": previous,
            }
            again["own"] = _own(again)
            # Rewritten atomically: a full disk or a power cut must not leave half a line.
            write_atomic(file, written + json.dumps(again, ensure_ascii=False, sort_keys=True).encode() + b"\n")
            mine.append(again)
    accesses = [entry for entry in mine if _compares(entry)]
    endpoint = use.get("endpoint")
    with_it = [entry for entry in accesses if endpoint and entry.get("endpoint") == endpoint and _by_person(entry)]
    return Access(
        number,
        new,
        again,
        first=str(accesses[0]["time"]) if accesses else "",
        declared=str(with_it[0]["time"]) if with_it else None,
        declared_first=bool(with_it) and with_it[0] is accesses[0] and not lost,
        lost=lost,
    )


def _compares(entry: Mapping[str, Any]) -> bool:
    """Whether an entry compares answers with the truth."""
    return entry.get("look", True) is not False


def _same_test_set(entry: Mapping[str, Any], use: Mapping[str, Any]) -> bool:
    """Whether two entries are about the same cases: by the name of the cohort, or by what is in it."""
    if entry["cohort"] == use["cohort"] and entry["role"] == use["role"]:
        return True
    return bool(use.get("test_set")) and entry.get("test_set") == use.get("test_set")


def _same_answers(entry: Mapping[str, Any], use: Mapping[str, Any]) -> bool:
    """Whether an entry showed the same answers: by their values, or (older entries) by the identities of both."""
    if entry.get("answers") and entry["answers"] == use.get("answers"):
        return True
    return all(entry.get(key) == use.get(key) for key in ("model_identity", "content"))


def _same_use(entry: Mapping[str, Any], use: Mapping[str, Any]) -> bool:
    """Whether a line already says it; older lines have neither command nor settings."""
    if not _same_answers(entry, use):
        return False
    if entry.get("command", "evaluate") != use.get("command", "evaluate"):
        return False
    return all(key not in entry or entry[key] == use.get(key) for key in ("settings", "cohort", "model"))


def _by_person(entry: Mapping[str, Any]) -> bool:
    """Whether a person declared the endpoint of an entry; older entries do not say so of the default one."""
    usual = "default" if entry.get("endpoint") == DEFAULT_ENDPOINT else "person"
    return (entry.get("declared_by") or usual) == "person"


def _numbers(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    """Which access each entry is, counted from 1; older entries, which have no number, are an access each."""
    numbers: list[int] = []
    for entry in entries:
        numbers.append(int(entry.get("number") or max(numbers, default=0) + 1))
    return numbers


def _user() -> str:
    """The name of ``SKINKIT_USER``, else of the account; empty where there is none."""
    if USER in os.environ:
        return os.environ[USER].strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        return ""


def of_scored(table: pd.DataFrame) -> dict[str, str]:
    """What a scored table shows (``answers``) and what it is about (``test_set``), whatever its models are called.

    Args:
        table: with case_id, class, probability columns and, where there are any, level, malignancy and pixel_sha256.
    """
    rows = table[table["level"] == IMAGE] if "level" in table else table
    names = [name for name in ("case_id", "class") if name in rows]
    rows = rows.sort_values(names, kind="stable")
    truth = rows[names].astype(str).to_numpy().tolist()
    shown = [name for name in (*probability_columns([str(n) for n in rows]), "malignancy") if name in rows]
    numbers = rows[shown].to_numpy(dtype=float).round(_DIGITS).tolist()
    return {"answers": digest([truth, shown, json.dumps(numbers)]), "test_set": digest(truth)}


def use_of(
    table: pd.DataFrame,
    *,
    command: str,
    cohort: str,
    external: bool,
    model: str,
    settings: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """A command's use of the cases of a scored table, for :func:`add`.

    Args:
        table: as :func:`of_scored` reads it.
        command: name of the command.
        cohort: the cohort, or the name of the file that was scored.
        external: whether it is external; else its held-out cases were scored.
        model: what was measured.
        settings: options of the command.
        more: further fields, or other values of these.
    """
    return {
        "command": command,
        "cohort": cohort,
        "role": EXTERNAL if external else HELD_OUT,
        "model": model,
        "model_identity": None,
        "content": None,
        **of_scored(table),
        "endpoint": None,
        "settings": settings,
        "cases": int((table["level"] == IMAGE).sum()),
        **more,
    }


def counts(root: Path) -> dict[str, int]:
    """Cohort -> number of accesses."""
    by_cohort: dict[str, list[Mapping[str, Any]]] = {}
    for entry in read(root):
        by_cohort.setdefault(str(entry["cohort"]), []).append(entry)
    return {name: max(_numbers(entries), default=0) for name, entries in by_cohort.items()}


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def described(access: Access) -> str:
    """Which access it is, and what to do about it."""
    entry = access.entry
    what = "the external cohort" if entry["role"] == EXTERNAL else "the held-out rows of"
    again = "" if access.new else " (scored again without a change: no new access)"
    text = f"{ordinal(access.number)} access to {what} {entry['cohort']}{again}"
    if access.number > 1:
        text += (
            f"; the first was on {access.first[:10]}. What was chosen after an access is too good here: report how "
            "many there were, choose on validation rows, and confirm the final model once on cases never used before"
        )
    if access.lost:
        text += (
            f". {access.lost} of the accesses that metrics remember are missing from {LEDGER}: restore it from a backup"
        )
    return text
