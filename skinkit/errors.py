"""Error classes. Every error says what was found, what was expected and how to fix it.

Exit codes: 0 done, 1 internal error, 2 usage or configuration, 3 finished with newly failed cases, 4 input or artifact
unusable, 5 refused (leakage, checksum), 6 busy (locked), 129/130/143 interrupted.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Mapping

UNUSABLE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file may not grow so large",
    errno.EROFS: "the file system is read-only",
    errno.EMFILE: "this process may not open more files",
    errno.ENFILE: "this machine may not open more files",
    errno.ESTALE: "the share was taken away",
    errno.ENOTCONN: "the share is not connected",
    errno.ETIMEDOUT: "the share does not answer",
    errno.EHOSTDOWN: "the share's machine is down",
    errno.EHOSTUNREACH: "the share's machine cannot be reached",
}
"""Numbers of system errors that concern a whole run."""
NO_CASE_TO_BLAME = frozenset(UNUSABLE)
_LISTED = 8
"""Names that a message lists before it says how many more there are."""


class SkinkitError(Exception):
    """An error of a whole command, reported as found / expected / fix.

    Args:
        found: what is there, naming file, row or value.
        expected: what should have been there.
        fix: what the reader can do about it, as a command where there is one.
    """

    exit_code = 1
    stage = ""
    """The stage that it is of, where a pipeline ran it: what a fix says of options holds for that command."""

    def __init__(self, found: str, expected: str, fix: str) -> None:
        super().__init__(found, expected, fix)  # all three, so that it survives the way back from a worker
        self.found = found
        self.expected = expected
        self.fix = fix

    def as_dict(self) -> dict[str, str]:
        """The three parts, for ``--json``."""
        return {"kind": type(self).__name__, "found": self.found, "expected": self.expected, "fix": self.fix}

    def __str__(self) -> str:
        return f"found: {self.found}\nexpected: {self.expected}\nfix: {self.fix}"


class ConfigError(SkinkitError):
    """Wrong usage or configuration (exit 2)."""

    exit_code = 2


class InputError(SkinkitError):
    """An input or artifact is missing or unusable (exit 4)."""

    exit_code = 4


class RefusedError(SkinkitError):
    """Possible but wrong: leakage, checksum mismatch, replacing what should not be replaced (exit 5)."""

    exit_code = 5


class BusyError(SkinkitError):
    """Another process is writing the same artifact (exit 6)."""

    exit_code = 6


class CaseError(Exception):
    """One case cannot be processed; ``skinkit.workers`` turns it into a row with this reason.

    Args:
        reason: a stable code, for example ``image_truncated``.
        detail: one sentence for a person; it must name no path outside the cohort and no patient.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def listed(names: Iterable[object], most: int = _LISTED) -> str:
    """Names with commas, cut where there are many; ``none`` where there is none.

    >>> listed("abcdefghij")
    'a, b, c, d, e, f, g, h, … and 2 more'
    """
    every = [str(name) for name in names]
    rest = len(every) - most
    return ", ".join([*every[:most], *([f"… and {rest} more"] if rest > 0 else [])]) or "none"


def did_you_mean(name: str, choices: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """A phrase that lists the choices and puts the closest one first.

    Args:
        name: the unknown name.
        choices: what there is.
        synonyms: other words for a choice, or for what to write instead of one.

    >>> did_you_mean("otzu", ["otsu", "truth"])
    "did you mean 'otsu'? known: otsu, truth"
    >>> did_you_mean("vrsion", ["run"], {"version": "--version"})
    "did you mean '--version'? known: run"
    """
    names = sorted(choices)
    meant = synonyms or {}
    close = [meant.get(word, word) for word in difflib.get_close_matches(name.lower(), [*names, *meant], n=1)]
    return f"did you mean {close[0]!r}? known: {listed(names)}" if close else f"known: {listed(names)}"
