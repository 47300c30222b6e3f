"""The default workers: processes of this machine, forked from one server and kept between stages."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any

from skinkit.privacy import permissions

_STARTS = 4
"""How often workers are started for a task: what ends them, as a machine without memory does, may end the next too."""
_GONE_S = 5.0
_PAUSE_S = 0.05
"""Before workers are started again, doubled each time."""


class Processes:
    """So many worker processes; see :class:`skinkit.workers.Workers`.

    The first one that ends breaks the pool, so every task that is not finished then counts as lost.
    """

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool, CancelledError, EOFError, ConnectionError)
    """A worker ended, or the process they are forked from did."""
    chunk_s = 0.05
    chunk_cases = 16

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def hands(self) -> int:
        """The processes."""
        return self.jobs

    def alone(self) -> int:
        """One, because every task in hand is lost with the first process that ends."""
        return 1

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        """Have a process work it out; new ones are started where the old ones are gone."""
        for start in range(_STARTS - 1):
            try:
                return _Pool.get(self.jobs).submit(task)
            except self.lost:
                _Pool.drop()
                time.sleep(_PAUSE_S * 2**start)  # the process they are forked from is still taken for alive
        return _Pool.get(self.jobs).submit(task)

    def finished(self, tasks: Collection[Future[Any]]) -> set[Future[Any]]:
        """Wait for the first of them."""
        return wait(tasks, return_when=FIRST_COMPLETED).done

    def drop(self) -> None:
        """End the processes at once."""
        _Pool.drop()


class _Pool:
    """The workers of this process, kept between stages: importing the libraries costs each of them seconds."""

    pool: ProcessPoolExecutor | None = None
    workers = 0
    mask = -1

    @classmethod
    def get(cls, workers: int) -> ProcessPoolExecutor:
        """The kept workers, or as many new ones; a worker starts when there is work for it."""
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
    """End the workers of a pool at once: one that hangs would keep this process from ending."""
    workers = list((getattr(pool, "_processes", None) or {}).values())  # there is no public way before Python 3.14
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.kill()
    for worker in workers:  # what it was writing is there to be removed once it is gone
        worker.join(_GONE_S)


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
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(permissions.umask(),))


def _begin(mask: int) -> None:
    """Make this worker end at a case's time limit and when its parent is killed; else it would wait for work.

    Args:
        mask: umask of the parent; the process that workers are forked from may be older than it.
    """
    os.umask(mask)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_await_end_of_parent, daemon=True).start()


def _await_end_of_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
