"""Map a function over cases, in this process or in several; an exception becomes a row, never the end of the run.

This is the only place that turns an exception into a row.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from skinkit.console import Console
from skinkit.errors import CaseError, SkinkitError

Row = dict[str, Any]
Work = Callable[[Mapping[str, Any]], Row]
_IN_FLIGHT_PER_WORKER = 4


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


def _pooled(
    work: Work, items: Sequence[Mapping[str, Any]], key: Sequence[str], workers: int
) -> Iterator[tuple[Row, float]]:
    suspects: list[Mapping[str, Any]] = []
    waiting = list(reversed(items))
    while waiting:
        pool = _Pool.get(workers)
        flying: dict[Future[tuple[Row, float]], Mapping[str, Any]] = {}
        try:
            while waiting or flying:
                while waiting and len(flying) < workers * _IN_FLIGHT_PER_WORKER:
                    item = waiting[-1]
                    flying[pool.submit(_guarded, work, item, key)] = item
                    waiting.pop()
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    del flying[future]
                    yield result
        except BrokenProcessPool:
            # One of these killed its worker (out of memory, a crash in a C library): each gets a worker of its own.
            suspects += flying.values()
            _Pool.drop()
        except BaseException:
            _Pool.drop()
            raise
    for item in suspects:
        with _started(1) as alone:
            try:
                yield alone.submit(_guarded, work, item, key).result()
            except BrokenProcessPool:
                yield _failure(item, key, "worker_died", "its process was killed twice (out of memory?)"), 0.0


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


def _started(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a forked worker would hold the artifact's lock after its parent died.
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_settle_in, initargs=(os.getpid(),)
    )


def _settle_in(parent: int) -> None:
    """What a worker does first."""
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The processes already fill the cores.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = "1"
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this worker when the parent was killed; otherwise it would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
