"""Progress and messages of a run: progress bars on a terminal, plain lines elsewhere, JSON lines when asked.

Everything here goes to stderr; stdout is kept for results (``--json``, tables). Only ``cli.py`` prints errors.

A JSON log has one object a line, whatever writes it. Each has ``time``, ``level`` (info, warning, error), ``event``,
``run_id``, ``command``, ``stage``, ``artifact``, ``case`` and ``duration_s``, null where they say nothing, and mostly
``message``. Events: ``begin`` and ``end`` of the run, ``started`` and ``finished`` of an artifact, ``case``,
``message``, ``error``, and ``library`` for what libraries print. Cases are named by their id alone.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, ClassVar, Protocol

_PLAIN_EVERY_S = 15.0
_NO_MORE = b"\0skinkit: that is all\n"


class Tick(Protocol):
    """Called once for each finished case."""

    def __call__(self, *, failed: bool = False) -> None:
        """Count one case."""


class Console:
    """Where messages and progress go.

    Args:
        log_format: ``text`` or ``json`` (one object a line).
        quiet: only warnings.
        run_id: stands in every JSON line.
        command: stands in every JSON line.
        stream: stderr unless a test says otherwise.

    Attributes:
        stop: what a signal raised to end the run. Python drops what is raised while it runs a finalizer or a callback
            of the garbage collector, so progress raises it again.
    """

    stop: ClassVar[BaseException | None] = None

    def __init__(
        self,
        *,
        log_format: str = "text",
        quiet: bool = False,
        run_id: str = "",
        command: str = "",
        stream: IO[str] | None = None,
    ) -> None:
        self.log_format = log_format
        self.quiet = quiet
        self.run_id = run_id
        self.command = command
        self.stream = stream or sys.stderr
        self.stage = ""
        self.artifact = ""
        self._lock = threading.Lock()

    @property
    def is_json(self) -> bool:
        """Whether messages are JSON lines for a log."""
        return self.log_format == "json"

    def info(self, text: str, **values: Any) -> None:
        """One line about what is going on; the values are for the log alone."""
        if not self.quiet:
            self._line("info", text, values)

    def warn(self, text: str, **values: Any) -> None:
        """One line that should be read even in quiet runs."""
        self._line("warning", text, values)

    def error(self, text: str, **values: Any) -> None:
        """Why the run ends."""
        self._line("error", text, {"event": "error", **values})

    def event(self, event: str, **values: Any) -> None:
        """One line of the JSON log that is not shown as text."""
        if self.is_json and not self.quiet:
            self._line("info", "", {"event": event, **values})

    def case(self, case: str, status: str, reason: str | None, seconds: float) -> None:
        """One finished case; shown only in JSON logs (ids only, nothing of the patient)."""
        level = "warning" if status == "failed" else "info"
        if self.is_json and not self.quiet:
            values = {"case": case, "status": status, "reason": reason, "duration_s": round(seconds, 4)}
            self._line(level, "", {"event": "case", **values})

    def _line(self, level: str, text: str, values: Mapping[str, Any]) -> None:
        if not self.is_json:
            prefix = "warning: " if level == "warning" else ""
            # Only an error is laid out in several lines.
            lines = text.split("\n") if level == "error" else [text]
            self._write(prefix + as_lines(lines) + "\n")
            return
        entry: dict[str, Any] = {
            "time": datetime.datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "level": level,
            "event": "message",
            "run_id": self.run_id,
            "command": self.command or None,
            "stage": self.stage or None,
            "artifact": self.artifact or None,
            **dict.fromkeys(("case", "duration_s")),
            **({"message": text} if text else {}),
            **values,
        }
        # What the stream's encoding lacks is escaped as JSON does, not as Python would.
        unicode = "utf" in (getattr(self.stream, "encoding", None) or "utf").lower()
        self._write(json_text(entry, ensure_ascii=not unicode, default=str) + "\n")

    def _write(self, line: str) -> None:
        with self._lock:
            try:
                self.stream.write(line)
                self.stream.flush()
            except (
                OSError
            ):  # a closed pipe, a full disk under the log: the run continues and its exit code reports the result
                abandon(self.stream)

    @contextlib.contextmanager
    def whole_stderr(self) -> Iterator[None]:
        """In a JSON log, make lines of the log out of all that is written to stderr meanwhile.

        Warnings and remarks of libraries are caught at the file descriptor, so those of C code and of worker
        processes too.
        """
        if not self.is_json or not _is_descriptor(self.stream, 2):
            yield
            return
        reading, writing = os.pipe()
        saved, before = os.dup(2), self.stream
        self.stream.flush()
        os.dup2(writing, 2)
        os.close(writing)
        with open(saved, "w", encoding="utf-8", errors="backslashreplace", closefd=False) as log:
            self.stream = log
            reader = threading.Thread(target=self._libraries, args=(reading,), daemon=True)
            reader.start()
            try:
                yield
            finally:
                before.flush()
                os.write(2, b"\n" + _NO_MORE)
                reader.join()
                self.stream = before
                os.dup2(saved, 2)
                os.close(saved)

    def _libraries(self, reading: int) -> None:
        """Take over what arrives, until a line says that this is all: workers may hold the other end for longer."""
        with open(reading, "rb") as lines:
            for line in lines:
                if line == _NO_MORE:
                    return
                text = line.decode("utf-8", "replace").rstrip()
                if _is_entry(text):  # written by the console of another process of this run
                    self._write(f"{text}\n")
                elif text:
                    self._line("warning", text, {"event": "library"})

    @contextlib.contextmanager
    def progress(self, total: int, label: str) -> Iterator[Tick]:
        """Progress over ``total`` cases: a bar on a terminal, a line now and then elsewhere.

        A run that a signal is to end ends at the next case.
        """
        with self._counter(total, label) as count:

            def tick(*, failed: bool = False) -> None:
                count(failed=failed)
                if Console.stop is not None:
                    raise Console.stop

            yield tick

    def _counter(self, total: int, label: str) -> contextlib.AbstractContextManager[Tick]:
        if self.quiet or total == 0:
            return contextlib.nullcontext(_silent)
        if self.log_format == "text" and self.stream.isatty():
            return self._bar(total, label)
        return contextlib.nullcontext(self._plain(total, label))

    @contextlib.contextmanager
    def _bar(self, total: int, label: str) -> Iterator[Tick]:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=RichConsole(file=self.stream), transient=True) as bar:
            task = bar.add_task(label, total=total)
            failures = 0

            def tick(*, failed: bool = False) -> None:
                nonlocal failures
                failures += failed
                text = f"{label} ({failures} failed)" if failures else label
                bar.update(task, advance=1, description=text)

            yield tick

    def _plain(self, total: int, label: str) -> Tick:
        done, failures, began, reported_s = 0, 0, time.monotonic(), time.monotonic()

        def tick(*, failed: bool = False) -> None:
            nonlocal done, failures, reported_s
            done += 1
            failures += failed
            now = time.monotonic()
            if now - reported_s >= _PLAIN_EVERY_S and done < total:
                reported_s = now
                left = (now - began) / done * (total - done)
                self.info(f"  {label}: {done}/{total}, {failures} failed, about {left:.0f} s left")

        return tick


def _is_entry(text: str) -> bool:
    """Whether a line is one of a JSON log already."""
    try:
        entry = json.loads(text)
    except ValueError:
        return False
    return isinstance(entry, dict) and {"time", "event", "run_id"} <= entry.keys()


def _is_descriptor(stream: IO[str], number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):  # a stream in memory, or a closed one
        return False


def abandon(stream: IO[str]) -> None:
    """Redirect a stream that cannot be written to the null device."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _silent(*, failed: bool = False) -> None:
    """Count nothing."""


_UNESCAPED = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def as_lines(lines: Iterable[str]) -> str:
    r"""Lines of text, each without control characters, which file names and ids may contain.

    >>> as_lines(["a\nb\x1b[2J", "c"])
    'a\\nb\\x1b[2J\nc'
    """
    return "\n".join(_CONTROL.sub(lambda sign: sign[0].encode("unicode_escape").decode(), line) for line in lines)


def harmless(text: str) -> str:
    """A text of several lines without other control characters."""
    return as_lines(text.split("\n"))


def json_text(value: Any, **options: Any) -> str:
    """A value as JSON, in which control characters that JSON lets pass are escaped too; options of ``json.dumps``."""
    return _UNESCAPED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(value, **options))
