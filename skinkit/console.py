"""What a run says while it works: progress bars on a terminal, plain lines elsewhere, JSON lines when asked.

Everything here goes to stderr; stdout is kept for results (``--json``, tables). Only ``cli.py`` prints errors.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import IO, Any, Protocol

_PLAIN_EVERY_S = 15.0


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
        stream: stderr unless a test says otherwise.
    """

    def __init__(
        self, *, log_format: str = "text", quiet: bool = False, run_id: str = "", stream: IO[str] | None = None
    ) -> None:
        self.log_format = log_format
        self.quiet = quiet
        self.run_id = run_id
        self.stream = stream or sys.stderr
        self.stage = ""

    def info(self, text: str, **values: Any) -> None:
        """One line about what is going on."""
        if not self.quiet:
            self._line("info", text, values)

    def warn(self, text: str, **values: Any) -> None:
        """One line that should be read even in quiet runs."""
        self._line("warning", text, values)

    def case(self, case: str, status: str, reason: str | None, seconds: float) -> None:
        """One finished case; shown only in JSON logs (ids only, nothing of the patient)."""
        if self.log_format == "json" and not self.quiet:
            self._line("case", "", {"case": case, "status": status, "reason": reason, "seconds": round(seconds, 4)})

    def _line(self, level: str, text: str, values: dict[str, Any]) -> None:
        if self.log_format == "json":
            entry: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "level": level, "run": self.run_id}
            entry["stage"] = self.stage
            if text:
                entry["message"] = text
            self._write(json.dumps({**entry, **values}, ensure_ascii=False) + "\n")
        else:
            prefix = "warning: " if level == "warning" else ""
            self._write(f"{prefix}{text}\n")

    def _write(self, line: str) -> None:
        try:
            self.stream.write(line)
            self.stream.flush()
        except OSError:  # a closed pipe, a full disk under the log: the work goes on, the exit code will tell
            abandon(self.stream)

    @contextlib.contextmanager
    def progress(self, total: int, label: str) -> Iterator[Tick]:
        """Progress over ``total`` cases: a bar on a terminal, a line now and then elsewhere."""
        if self.quiet or total == 0:
            yield _silent
        elif self.log_format == "text" and self.stream.isatty():
            yield from self._bar(total, label)
        else:
            yield self._plain(total, label)

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
        done, failures, began, said = 0, 0, time.monotonic(), time.monotonic()

        def tick(*, failed: bool = False) -> None:
            nonlocal done, failures, said
            done += 1
            failures += failed
            now = time.monotonic()
            if now - said >= _PLAIN_EVERY_S and done < total:
                said = now
                left = (now - began) / done * (total - done)
                self.info(f"  {label}: {done}/{total}, {failures} failed, about {left:.0f} s left")

        return tick


def abandon(stream: IO[str]) -> None:
    """Let whatever is still written to a stream that cannot be written go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _silent(*, failed: bool = False) -> None:
    """Count nothing."""
