"""Map a function over cases in worker processes; an exception becomes a row, never the end of the run.

This is the only place that turns an exception into a row. Workers are processes even if there is only one: a file that
crashes a decoder, uses all memory or hangs ends only its own worker. The cases of that worker are retried one by one,
and the case that fails again becomes a row: ``worker_died``, ``out_of_memory`` or ``timeout``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any

from skinkit.console import Console
from skinkit.errors import NO_CASE_TO_BLAME, CaseError, SkinkitError
from skinkit.privacy import permissions

Row = dict[str, Any]
Work = Callable[[Mapping[str, Any]], Row]
CASE_SECONDS = 120.0
"""Default time limit of a case, in seconds."""
_CHUNKS_IN_FLIGHT = 2
"""Batches per worker: one in progress, one waiting."""
_CHUNK_SECONDS, _LARGEST_CHUNK = 0.05, 16
"""Most cases per batch; quick cases are batched, because sending each one would cost more than the work."""

_WORKERS_LOST = (BrokenProcessPool, EOFError, ConnectionError)
"""A worker, or the fork server, has died."""


def map_cases(
    work: Work,
    items: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    jobs: int = 1,
    limit_s: float = CASE_SECONDS,
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
        console: shows the progress.
        label: text of the progress bar.
    """
    console = console or Console(quiet=True)
    with console.progress(len(items), label) as tick:
        rows = _pooled(work, items, key, jobs, limit_s) if jobs else _inline(work, items, key)
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


def _pooled(
    work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str], jobs: int, limit_s: float
) -> Iterator[tuple[Row, float]]:
    suspects: list[Mapping[str, Any]] = []
    workers = min(jobs, len(items))
    begun, size = 0, 1
    while begun < len(items):
        pool = _Pool.get(jobs)
        flying: dict[Future[list[tuple[Row, float]]], Sequence[Mapping[str, Any]]] = {}
        try:
            while begun < len(items) or flying:
                while begun < len(items) and len(flying) < workers * _CHUNKS_IN_FLIGHT:
                    chunk = items[begun : begun + size]
                    flying[pool.submit(_guarded_chunk, work, chunk, key, limit_s)] = chunk
                    begun += len(chunk)
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        results = future.result()
                    except MemoryError:
                        suspects += flying.pop(future)
                        continue
                    del flying[future]
                    size = _chunk_size(results, len(items) - begun, workers)
                    yield from results
        except _WORKERS_LOST:
            # One of these cases killed its worker (memory, time limit, a crash in a C library).
            suspects += [item for chunk in flying.values() for item in chunk]
            _Pool.drop()
        except BaseException:
            _Pool.drop()
            raise
    yield from _one_by_one(work, suspects, key, limit_s)


def _chunk_size(results: Sequence[tuple[Row, float]], waiting: int, workers: int) -> int:
    """Cases per batch: about 0.05 s of work, fewer towards the end so that all workers finish together."""
    each = sum(seconds for _, seconds in results) / len(results)
    return max(1, min(int(_CHUNK_SECONDS / max(each, 1e-9)), _LARGEST_CHUNK, waiting // (2 * workers)))


def _one_by_one(
    work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str], limit_s: float
) -> Iterator[tuple[Row, float]]:
    """Run cases one at a time, so that the case that kills a worker is identified."""
    waiting = list(reversed(items))
    while waiting:
        alone, began = _started(1), time.monotonic()
        try:
            while waiting:
                began = time.monotonic()
                try:
                    result = alone.submit(_guarded, work, waiting[-1], key, limit_s).result()
                except MemoryError:
                    result = _out_of_memory(waiting[-1], key), time.monotonic() - began
                waiting.pop()
                yield result
        except _WORKERS_LOST:
            seconds = time.monotonic() - began
            if limit_s and seconds >= limit_s:
                reason = "timeout", f"longer than {limit_s:g} s in two attempts; --case-seconds sets the limit"
            else:
                reason = "worker_died", "its process was killed in two attempts (out of memory?)"
            yield _failure(waiting.pop(), key, *reason), seconds
        finally:
            _end(alone)


class _Pool:
    """The workers of this process, kept between stages because importing the libraries takes seconds."""

    pool: ProcessPoolExecutor | None = None
    workers = 0
    mask = -1

    @classmethod
    def get(cls, workers: int) -> ProcessPoolExecutor:
        """The kept pool, or a new one of this size; a worker starts with its first work."""
        mask = permissions.umask()
        if cls.pool is None or cls.workers < workers or cls.mask != mask:
            cls.drop()
            cls.pool, cls.workers, cls.mask = _started(workers), workers, mask
        return cls.pool

    @classmethod
    def drop(cls) -> None:
        """End the workers."""
        if cls.pool is not None:
            _end(cls.pool)
        cls.pool, cls.workers = None, 0


def _end(pool: ProcessPoolExecutor) -> None:
    """Kill the workers of a pool: one that hangs would keep this process from exiting."""
    workers = list((getattr(pool, "_processes", None) or {}).values())  # there is no public way before Python 3.14
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.kill()


def prepare_workers(modules: Sequence[str]) -> None:
    """Load modules in the background for the workers of a later :func:`map_cases`.

    All workers of this process are forked from one server, which imports the modules once, in parallel to this
    process. Only the first call has an effect; a worker imports any other module when it needs it.

    Args:
        modules: names of modules that start no threads on import.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(["__main__", __name__, *modules])
    _start_server()


def _start_server() -> None:
    """Start the fork server, unless it runs.

    It is a new process, not a fork of this one: a worker that inherited the artifact's lock would hold it after its
    parent died. Workers inherit the environment set here.
    """
    # The processes already fill the cores.
    alone = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _environment(dict.fromkeys(alone, "1")):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes started within the context."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _started(workers: int) -> ProcessPoolExecutor:
    _start_server()
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(permissions.umask(),))


def _begin(mask: int) -> None:
    """Make this worker exit at a case's time limit and when its parent is killed; it would otherwise wait for work.

    Args:
        mask: umask of the parent, which may have changed since the fork server started.
    """
    os.umask(mask)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_await_end_of_parent, daemon=True).start()


def _await_end_of_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
