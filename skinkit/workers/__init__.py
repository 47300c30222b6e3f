"""Map a function over cases in worker processes; an exception becomes a row, never the end of the run.

This is the only place that turns an exception into a row. Workers are processes even if there is only one: a file that
crashes a decoder, uses all memory or hangs ends only its own worker. The cases of that worker are retried one by one,
and the case that fails again becomes a row: ``worker_died``, ``out_of_memory`` or ``timeout``.

Where the workers are is decided by a :class:`Workers`, one file each: :mod:`skinkit.workers.processes` on this machine,
:mod:`skinkit.workers.dask` on a cluster. The rules are the same for both.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from skinkit.console import Console
from skinkit.errors import NO_CASE_TO_BLAME, CaseError, SkinkitError
from skinkit.workers.dask import Cluster, slurm_settings
from skinkit.workers.processes import Processes, prepare_workers

__all__ = ["CASE_SECONDS", "Cluster", "Workers", "map_cases", "prepare_workers", "slurm_settings"]

Row = dict[str, Any]
Work = Callable[[Mapping[str, Any]], Row]
CASE_SECONDS = 120.0
"""Default time limit of a case, in seconds."""
_CHUNKS_IN_FLIGHT = 2
"""Batches per worker: one in progress, one waiting."""


class Workers(Protocol):
    """Where tasks run.

    Attributes:
        lost: errors of a task whose worker ended before the task did.
        chunk_s: seconds of work to hand over at once, so that handing over costs less than the work.
        chunk_cases: cases to hand over at once at most.
    """

    lost: tuple[type[BaseException], ...]
    chunk_s: float
    chunk_cases: int

    def hands(self) -> int:
        """How many tasks can run at the same time; 0 while there is no worker."""

    def alone(self) -> int:
        """How many tasks can be in hand at once so that one that ends its worker does not take others with it."""

    def submit(self, task: Callable[[], Any]) -> Any:
        """Hand a task over; it is picklable."""

    def finished(self, tasks: Collection[Any]) -> Collection[Any]:
        """Wait until some of the tasks have ended, and return these; may be none after a while."""

    def drop(self) -> None:
        """Give up everything in hand."""


def map_cases(
    work: Work,
    items: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    jobs: int = 1,
    limit_s: float = CASE_SECONDS,
    cluster: Cluster | None = None,
    console: Console | None = None,
    label: str = "cases",
) -> Iterator[Row]:
    """Yield one row per item, in the order they finish.

    Args:
        work: picklable function from an item to its row; raises :class:`CaseError` for a case it cannot process.
        items: mappings that hold at least the key columns.
        key: columns copied from the item to a failed row.
        jobs: worker processes. 0 works in this process, for objects that cannot be pickled (a network); a case that
            hangs is then not ended.
        limit_s: time limit of a case in a worker, in seconds; 0 for none.
        cluster: the workers to use instead of processes of this machine, unless ``jobs`` is 0.
        console: shows the progress.
        label: text of the progress bar.
    """
    console = console or Console(quiet=True)
    with console.progress(len(items), label) as tick:
        if not jobs or not items:
            rows = _inline(work, items, key)
        else:
            workers: Workers = Processes(jobs) if cluster is None else cluster.workers(console)
            rows = _handed_out(work, items, key, workers, limit_s)
        for row, seconds in rows:
            tick(failed=row.get("status") == "failed")
            console.case(str(row[key[0]]), str(row.get("status", "ok")), row.get("reason"), seconds)
            yield row


def _guarded(work: Work, item: Mapping[str, Any], key: Sequence[str], limit_s: float = 0) -> tuple[Row, float]:
    """One case; in a worker the kernel ends the process at the limit, even inside a decoder in C."""
    began = time.perf_counter()
    if limit_s:
        signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        row = work(item)
    except CaseError as error:
        row = _failure(item, key, error.reason, error.detail)
    except (SkinkitError, MemoryError):
        raise  # the former concerns the whole run; the caller decides about the latter
    except OSError as error:
        if error.errno in NO_CASE_TO_BLAME:
            raise
        row = _failure(item, key, "unreadable", f"{type(error).__name__}: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - the case-level boundary
        row = _failure(item, key, "internal_error", f"{type(error).__name__}: {error}")
    finally:
        if limit_s:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return row, time.perf_counter() - began


def _failure(item: Mapping[str, Any], key: Sequence[str], reason: str, detail: str) -> Row:
    return {**{name: item[name] for name in key}, "status": "failed", "reason": reason, "detail": detail}


def _out_of_memory(item: Mapping[str, Any], key: Sequence[str]) -> Row:
    return _failure(item, key, "out_of_memory", "out of memory in two attempts")


def _inline(work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str]) -> Iterator[tuple[Row, float]]:
    for item in items:
        for last in (False, True):
            try:
                yield _guarded(work, item, key)
                break
            except MemoryError:
                if last:
                    yield _out_of_memory(item, key), 0.0


def _guarded_chunk(
    work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str], limit_s: float
) -> list[tuple[Row, float]]:
    return [_guarded(work, item, key, limit_s) for item in items]


def _handed_out(
    work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str], workers: Workers, limit_s: float
) -> Iterator[tuple[Row, float]]:
    """Hand out the cases in chunks, then those of lost chunks one by one."""
    suspects: list[Mapping[str, Any]] = []
    flying: dict[Any, Sequence[Mapping[str, Any]]] = {}
    begun, size = 0, 1
    lost: tuple[type[BaseException], ...] = (MemoryError, *workers.lost)
    try:
        while begun < len(items) or flying:
            hands = workers.hands()
            while begun < len(items) and len(flying) < hands * _CHUNKS_IN_FLIGHT:
                chunk = items[begun : begun + size]
                flying[workers.submit(partial(_guarded_chunk, work, chunk, key, limit_s))] = chunk
                begun += len(chunk)
            for task in workers.finished(flying):
                chunk = flying.pop(task)
                try:
                    results = task.result()
                except lost:
                    # One of these ended its worker (out of memory, out of time, a crash in a C library).
                    suspects += chunk
                    continue
                size = _chunk_size(results, len(items) - begun, max(hands, 1), workers)
                yield from results
        yield from _one_by_one(work, suspects, key, workers, limit_s)
    except BaseException:
        workers.drop()
        raise


def _chunk_size(results: Sequence[tuple[Row, float]], waiting: int, hands: int, workers: Workers) -> int:
    """Cases to hand over at once: fewer towards the end, so that all workers end together."""
    each = sum(seconds for _, seconds in results) / len(results)
    return max(1, min(int(workers.chunk_s / max(each, 1e-9)), workers.chunk_cases, waiting // (2 * hands)))


def _one_by_one(
    work: Work, suspects: Sequence[Mapping[str, Any]], key: Sequence[str], workers: Workers, limit_s: float
) -> Iterator[tuple[Row, float]]:
    """Cases in workers that have nothing else in hand, so that it is known which of them ends its worker."""
    waiting = list(reversed(suspects))
    flying: dict[Any, tuple[Mapping[str, Any], float]] = {}
    while waiting or flying:
        while waiting and len(flying) < workers.alone():
            item = waiting.pop()
            flying[workers.submit(partial(_guarded, work, item, key, limit_s))] = item, time.monotonic()
        for task in workers.finished(flying):
            item, began = flying.pop(task)
            seconds = time.monotonic() - began
            try:
                yield task.result()
            except MemoryError:
                yield _out_of_memory(item, key), seconds
            except workers.lost:
                if limit_s and seconds >= limit_s:
                    reason = "timeout", f"longer than {limit_s:g} s in two attempts; --case-seconds sets the limit"
                else:
                    reason = "worker_died", "its process was killed in two attempts (out of memory?)"
                yield _failure(item, key, *reason), seconds
