"""The test access log: a permanent record of every scoring of a model on held-out or external cases.

A held-out or external set is unbiased only while no choice depends on its results; the log counts how often it was
used. ``test_access_log.jsonl`` of the workspace is append-only with one JSON object per line. Each line holds its own
SHA-256 and that of the previous line, so a changed, moved or removed line is detected. (Truncation at the end is not
detected from the log alone; each metrics artifact keeps the number of its access.)

An access is the first scoring of one content (predictions and truth) of a cohort by one model. Scoring the same content
again, for example with more bootstrap replicates, is not a new access.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinkit.artifacts.files import digest, write_atomic
from skinkit.artifacts.locks import lock
from skinkit.errors import RefusedError

LEDGER, FORMER_LEDGER = "test_access_log.jsonl", "looks.jsonl"
"""Its name, and its name in workspaces of older versions, where it stays."""
HELD_OUT, EXTERNAL = "held_out", "external"
_START = "0" * 64
_WAIT_S = 30.0
_KEY = ("cohort", "role", "model_identity", "content")


@dataclass(frozen=True)
class Access:
    """One entry.

    Attributes:
        number: of the accesses to that cohort, from 1.
        new: whether this scoring added it.
        entry: the line as a mapping.
    """

    number: int
    new: bool
    entry: Mapping[str, Any]


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
    """All accesses of a workspace, oldest first.

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


def add(root: Path, look: Mapping[str, Any]) -> Access:
    """Record an access, unless the same model already scored the same content.

    Args:
        root: the workspace.
        look: cohort, role (``external`` or ``held_out``), model, model_identity, content (identity of predictions and
            truth), endpoint, and any further fields.

    Raises:
        RefusedError: the log was tampered with.
        BusyError: another process is writing it.
    """
    file = ledger(root)
    with lock(file, wait_s=_WAIT_S):  # all cohorts share the log and lock it briefly
        entries = read(root)
        own = [entry for entry in entries if entry["cohort"] == look["cohort"]]
        for number, entry in enumerate(own, 1):
            if all(entry[key] == look[key] for key in _KEY):
                return Access(number, False, entry)
        written = file.read_bytes() if entries else b""
        lines = written.splitlines()
        previous = hashlib.sha256(lines[-1]).hexdigest() if lines else _START
        entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **look, "previous": previous}
        entry["own"] = _own(entry)
        # Rewritten atomically: a full disk or a power cut must not leave half a line.
        write_atomic(file, written + json.dumps(entry, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return Access(len(own) + 1, True, entry)


def counts(root: Path) -> dict[str, int]:
    """Cohort -> number of accesses."""
    by_cohort: dict[str, int] = {}
    for entry in read(root):
        by_cohort[str(entry["cohort"])] = by_cohort.get(str(entry["cohort"]), 0) + 1
    return by_cohort


def described(look: Access) -> str:
    """One sentence for the console."""
    entry = look.entry
    what = "the external cohort" if entry["role"] == EXTERNAL else "the held-out rows of"
    again = "" if look.new else " (scored again without a change: no new look)"
    return f"look {look.number} at {what} {entry['cohort']}{again}"
