"""Map a function over cases, in this process or in several; an exception becomes a row, never the end of the run.

This is the only place that turns an exception into a row.
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
from skinkit.errors import CaseError, SkinkitError

Row = dict[str, Any]
Work = Callable[[Mapping[str, Any]], Row]
_CHUNKS_IN_FLIGHT = 2
"""For each worker: one that it is at, one that waits."""
_CHUNK_SECONDS, _LARGEST_CHUNK = 0.05, 16
"""Quick cases are handed over several at a time, so that handing over does not cost more than the work."""


def map_cases(
    work: Work,
    items: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    jobs: int = 1,
    console: Console | None = None,
    label: str = "cases",
) -> Iterator[Row]:
    """Yield one row per item, in the order they finish.

    Args:
        work: picklable function from an item to its row; raises :class:`CaseError` where a case is not possible.
        items: mappings that hold at least the key columns.
        key: columns copied from the item to a failed row.
        jobs: processes; 1 works in this process.
        console: where progress goes.
        label: what the progress bar says.
    """
    console = console or Console(quiet=True)
    workers = min(jobs, len(items))
    with console.progress(len(items), label) as tick:
        rows = _inline(work, items, key) if workers <= 1 else _pooled(work, items, key, workers)
        for row, seconds in rows:
            tick(failed=row.get("status") == "failed")
            console.case(str(row[key[0]]), str(row.get("status", "ok")), row.get("reason"), seconds)
            yield row


def _guarded(work: Work, item: Mapping[str, Any], key: Sequence[str]) -> tuple[Row, float]:
    began = time.perf_counter()
    try:
        row = work(item)
    except CaseError as error:
        row = _failure(item, key, error.reason, error.detail)
    except (SkinkitError, MemoryError, KeyboardInterrupt):
        raise  # concerns the whole run, not this case
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise
        row = _failure(item, key, "unreadable", f"{type(error).__name__}: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - the case-level boundary
        row = _failure(item, key, "internal_error", f"{type(error).__name__}: {error}")
    return row, time.perf_counter() - began


_DISK_ERRORS = frozenset({28, 30, 122})  # ENOSPC, EROFS, EDQUOT: no case is to blame


def _failure(item: Mapping[str, Any], key: Sequence[str], reason: str, detail: str) -> Row:
    return {**{name: item[name] for name in key}, "status": "failed", "reason": reason, "detail": detail}


def _inline(work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str]) -> Iterator[tuple[Row, float]]:
    for item in items:
        yield _guarded(work, item, key)


def _guarded_chunk(work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str]) -> list[tuple[Row, float]]:
    return [_guarded(work, item, key) for item in items]


def _pooled(
    work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str], workers: int
) -> Iterator[tuple[Row, float]]:
    suspects: list[Mapping[str, Any]] = []
    begun, size = 0, 1
    while begun < len(items):
        pool = _Pool.get(workers)
        flying: dict[Future[list[tuple[Row, float]]], Sequence[Mapping[str, Any]]] = {}
        try:
            while begun < len(items) or flying:
                while begun < len(items) and len(flying) < workers * _CHUNKS_IN_FLIGHT:
                    chunk = items[begun : begun + size]
                    flying[pool.submit(_guarded_chunk, work, chunk, key)] = chunk
                    begun += len(chunk)
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    results = future.result()
                    del flying[future]
                    size = _chunk_size(results, len(items) - begun, workers)
                    yield from results
        except BrokenProcessPool:
            # One of these killed its worker (out of memory, a crash in a C library): each is tried on its own.
            suspects += [item for chunk in flying.values() for item in chunk]
            _Pool.drop()
        except BaseException:
            _Pool.drop()
            raise
    yield from _one_by_one(work, suspects, key)


def _chunk_size(results: Sequence[tuple[Row, float]], waiting: int, workers: int) -> int:
    """Cases to hand over at once: a twentieth of a second of work, less towards the end so that all end together."""
    each = sum(seconds for _, seconds in results) / len(results)
    return max(1, min(int(_CHUNK_SECONDS / max(each, 1e-9)), _LARGEST_CHUNK, waiting // (2 * workers)))


def _one_by_one(work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str]) -> Iterator[tuple[Row, float]]:
    """Cases in a worker that does one at a time, so that it is known which of them kills it."""
    waiting = list(reversed(items))
    while waiting:
        with _started(1) as alone:
            try:
                while waiting:
                    yield alone.submit(_guarded, work, waiting[-1], key).result()
                    waiting.pop()
            except BrokenProcessPool:
                yield _failure(waiting.pop(), key, "worker_died", "its process was killed twice (out of memory?)"), 0.0


class _Pool:
    """The workers of this process, kept between stages: importing the libraries costs each of them seconds."""

    pool: ProcessPoolExecutor | None = None
    workers = 0

    @classmethod
    def get(cls, workers: int) -> ProcessPoolExecutor:
        """The kept workers, or as many new ones."""
        if cls.pool is None or cls.workers < workers:
            cls.drop()
            cls.pool, cls.workers = _started(workers), workers
        return cls.pool

    @classmethod
    def drop(cls) -> None:
        """Let the workers go, after the cases they are at."""
        if cls.pool is not None:
            cls.pool.shutdown(wait=False, cancel_futures=True)
        cls.pool, cls.workers = None, 0


def prepare_workers(modules: Sequence[str]) -> None:
    """Have modules loaded in the background for the workers of a later :func:`map_cases`.

    All workers of this process are forked from one server, which loads modules once, while this process goes on with
    something else. Only the first call has an effect; a worker that lacks a module imports it as it needs it.

    Args:
        modules: names of modules that start no thread when they are imported.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(["__main__", __name__, *modules])
    _start_server()


def _start_server() -> None:
    """Start the process that workers are forked from, unless it runs.

    It is a fresh process and not a fork of this one: a worker that inherited the artifact's lock would hold it after
    its parent died. Workers inherit from it what is set here.
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
    """Environment variables for a process that is started meanwhile."""
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
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("forkserver"), initializer=_end_with_parent
    )


def _end_with_parent() -> None:
    """End this worker when its parent is killed; otherwise it would wait for work for ever."""
    threading.Thread(target=_await_end_of_parent, daemon=True).start()


def _await_end_of_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
