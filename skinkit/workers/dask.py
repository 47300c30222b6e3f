"""Workers on other machines: the processes of a Dask cluster that runs already, or of jobs that Slurm starts.

A worker is one process with one thread, and every task is bound to one of them. Dask would hand the task of a lost
worker to another by itself, up to three times; bound to a worker that is gone, the task stays where it is, and
:mod:`skinkit.workers` decides what becomes of its cases, as it does for processes of this machine.

Before a worker gets its first task it is asked which versions it has and whether it sees the files of the cohort.
This module loads Dask only when it connects.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import platform
import queue
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from skinkit import __version__
from skinkit.artifacts.provenance import library_versions
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, SkinkitError
from skinkit.options import make_config
from skinkit.privacy import permissions

_ADDRESS = re.compile(r"(tcp|tls)://\S+:\d+")
_CONNECT_S = 10
_PATIENCE_S = 60.0
"""How long a running cluster may be without a worker."""
_POLL_S = 0.25
"""How often the scheduler is asked which workers it has."""
_FETCH_S = 0.5
"""How long to wait for a result at a time: a worker may end, or be busy in C code, before it sends the result."""
_ANSWER_S = 30.0
"""How long an error may take from the scheduler to this process."""


@dataclass(frozen=True)
class Slurm:
    """``[cluster.slurm]`` of ``skinkit.toml``; an empty text leaves it to the site's defaults."""

    queue: Annotated[str, "partition of the jobs"] = ""
    account: Annotated[str, "account that is charged"] = ""
    cores: Annotated[int, "cores of a job; each has one worker"] = 1
    memory: Annotated[str, "memory of a job, shared by its workers"] = "4GB"
    walltime: Annotated[str, "time limit of a job"] = "01:00:00"
    jobs: Annotated[int, "jobs"] = 1
    directives: Annotated[tuple[str, ...], "further options of sbatch, such as --qos=low"] = ()
    prologue: Annotated[tuple[str, ...], "shell lines before a worker starts, such as module load"] = ()
    interface: Annotated[str, "network interface of scheduler and workers, such as ib0"] = ""
    wait_s: Annotated[int, "seconds that the first job may wait in the queue"] = 3600


@dataclass(frozen=True)
class Cluster:
    """Where cases are worked out instead of in processes of this machine.

    Attributes:
        address: of a running Dask scheduler, or ``slurm``.
        slurm: settings of the jobs that ``slurm`` starts.
        shared: files and folders that every worker must see under the same path.
    """

    address: str
    slurm: Slurm = Slurm()
    shared: tuple[Path, ...] = ()

    @classmethod
    def of(cls, text: str, settings: Mapping[str, Any], where: str) -> Cluster:
        """What ``--cluster`` says.

        Args:
            text: its value.
            settings: of ``[cluster]``.
            where: where they stand, for errors.

        Raises:
            ConfigError: neither an address nor ``slurm``, settings that are wrong, or Dask is not installed.
        """
        if text != "slurm" and not _ADDRESS.fullmatch(text):
            raise ConfigError(
                f"--cluster {text}",
                "the address of a Dask scheduler, such as tcp://host:8786, or slurm",
                "start one with 'dask scheduler' and give the address it prints",
            )
        slurm = slurm_settings(settings, where)
        needed = ("distributed", "dask_jobqueue") if text == "slurm" else ("distributed",)
        for package in needed:
            if find_spec(package) is None:
                raise ConfigError(
                    f"--cluster {text}, and {package} is not installed",
                    "the extra 'cluster', here and on every worker",
                    "pip install skinkit[cluster]",
                )
        return cls(text, slurm)

    def workers(self, console: Console) -> DaskWorkers:
        """Connect, or take the connection of an earlier stage.

        Raises:
            InputError: there is no scheduler, or no Slurm.
        """
        patience_s = float(self.slurm.wait_s) if self.address == "slurm" else _PATIENCE_S
        return DaskWorkers(Connection.get(self, console), self.address, _probes(self.shared), patience_s, console)


def slurm_settings(settings: Mapping[str, Any], where: str) -> Slurm:
    """``[cluster]`` of a file.

    Args:
        settings: its values.
        where: the file, for errors.

    Raises:
        ConfigError: another table than ``[cluster.slurm]``, or a setting that is unknown or of the wrong type.
    """
    slurm = settings.get("slurm", {})
    if set(settings) - {"slurm"} or not isinstance(slurm, Mapping):
        raise ConfigError(f"{where}: {', '.join(settings)} in [cluster]", "[cluster.slurm]", "correct the file")
    return make_config(Slurm, slurm, where=f"[cluster.slurm] of {where}")


class WorkerLost(Exception):  # noqa: N818 - never shown: it stands for the end of a worker process
    """The worker a task was bound to is gone, or was restarted."""


@dataclass(eq=False)
class _Task:
    """A task in the hands of a worker; ``error`` or ``value`` says how it went."""

    address: str
    future: Any = None
    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        """What it returned, or what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass
class DaskWorkers:
    """The workers of one scheduler; see :class:`skinkit.workers.Workers`.

    Attributes:
        client: the connection.
        address: of the scheduler, for messages.
        probes: path -> size of files that every worker must see.
        patience_s: how long there may be no worker.
        console: says which workers are left out.
    """

    client: Any
    address: str
    probes: Mapping[str, int | None]
    patience_s: float
    console: Console
    lost: tuple[type[BaseException], ...] = (WorkerLost,)
    chunk_s: float = 1.0
    chunk_cases: int = 256
    _ready: dict[str, int] = field(default_factory=dict)  # address -> process id
    _asked: dict[str, Any] = field(default_factory=dict)  # address -> its answer to come
    _refused: set[str] = field(default_factory=set)
    _flying: set[_Task] = field(default_factory=set)
    _load: Counter[str] = field(default_factory=Counter)
    _arrived: queue.SimpleQueue[_Task] = field(default_factory=queue.SimpleQueue)
    _looked: float = float("-inf")
    _last_ready: float = field(default_factory=time.monotonic)
    _begun: bool = False

    def hands(self) -> int:
        """Workers that passed the check; none until all that were there at the start are checked."""
        self._poll()
        return len(self._ready) if self._begun or not self._asked else 0

    def alone(self) -> int:
        """As many: a worker that ends takes only its own tasks with it."""
        return self.hands()

    def submit(self, task: Callable[[], Any]) -> _Task:
        """Bind it to the worker that has least to do."""
        self._begun = True
        address = min(self._ready, key=lambda one: self._load[one])
        handed = _Task(address)
        handed.future = self._bound(address, _run, task, self._ready[address], permissions.umask())
        self._flying.add(handed)
        self._load[address] += 1
        self._await(handed)
        return handed

    def finished(self, tasks: Collection[_Task]) -> list[_Task]:
        """Those that ended, after a short wait at most: meanwhile a worker may have come."""
        arrived: list[_Task] = []
        with contextlib.suppress(queue.Empty):
            arrived.append(self._arrived.get(timeout=_POLL_S))
            while True:
                arrived.append(self._arrived.get_nowait())
        for task in arrived:
            self._settle(task)
        self._poll()
        return [task for task in tasks if task not in self._flying]

    def drop(self) -> None:
        """Cancel what is not begun; a worker ends the chunk it is at."""
        pending = [*(task.future for task in self._flying), *self._asked.values()]
        self._flying.clear()
        self._asked.clear()
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            if pending and self.client.status == "running":
                self.client.cancel(pending, force=True)

    # -- tasks

    def _bound(self, address: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task that runs on that worker or nowhere."""
        return self.client.submit(function, *arguments, workers=[address], allow_other_workers=False, pure=False)

    def _await(self, task: _Task) -> None:
        task.future.add_done_callback(lambda _: self._arrived.put(task))

    def _settle(self, task: _Task) -> None:
        """Take over how a task went; does nothing for one whose worker was found lost before."""
        if task not in self._flying:
            return
        status = task.future.status
        try:
            if status == "finished":
                task.value = task.future.result(timeout=_FETCH_S)
            elif status == "error":
                task.error = task.future.exception(timeout=_ANSWER_S)
            elif status == "pending":  # its worker ended before it sent the result: lost when next looked at
                self._await(task)
                return
            else:
                raise self._gone()
        except CancelledError:
            raise self._gone() from None
        except TimeoutError:
            self._arrived.put(task)
            return
        if isinstance(task.error, WorkerLost) or type(task.error).__name__ == "KilledWorker":
            task.error = WorkerLost(task.address)
            self._ready.pop(task.address, None)  # asked again before it gets more
        self._release(task)

    def _release(self, task: _Task) -> None:
        self._flying.discard(task)
        self._load[task.address] -= 1

    # -- workers

    def _poll(self) -> None:
        """Which workers there are; ask those that are new."""
        now = time.monotonic()
        if now - self._looked < _POLL_S:
            return
        self._looked = now
        threads = self._threads()
        for task in [task for task in self._flying if task.address not in threads]:
            task.error = WorkerLost(task.address)
            task.future.cancel()
            self._release(task)
        for known in (self._ready, self._asked):
            for address in [one for one in known if one not in threads]:
                del known[address]
        for address, count in threads.items():
            if address not in self._ready and address not in self._asked and address not in self._refused:
                self._ask(address, count)
        for address in [one for one, answer in self._asked.items() if answer.done()]:
            self._answered(address, self._asked.pop(address))
        if self._ready and (self._begun or not self._asked):
            self._last_ready = now
        elif now - self._last_ready > self.patience_s:
            raise InputError(
                f"no worker at {self.address} for {self.patience_s:g} s"
                + (f" ({', '.join(self._asked)} does not answer)" if self._asked else ""),
                "at least one worker that answers",
                "start workers ('dask worker ADDRESS --nthreads 1') and run the same command again",
            )

    def _threads(self) -> Mapping[str, int]:
        """Address of every worker -> its threads."""
        try:
            if self.client.status != "running":
                raise self._gone()
            threads: Mapping[str, int] = self.client.nthreads()
        except (OSError, TimeoutError):
            raise self._gone() from None
        return threads

    def _ask(self, address: str, threads: int) -> None:
        if threads != 1:
            error = InputError(
                f"worker {address} has {threads} threads",
                "one thread in a worker, so that a case that hangs or crashes ends alone",
                "start it with 'dask worker ADDRESS --nworkers N --nthreads 1'",
            )
            self._refuse(address, error)
        else:
            self._asked[address] = self._bound(address, _greet, dict(self.probes))

    def _answered(self, address: str, answer: Any) -> None:
        if answer.status in ("cancelled", "lost"):
            return  # it is gone, or will be asked again
        error = answer.exception(timeout=_ANSWER_S)
        if error is not None:
            problem: SkinkitError | None = InputError(
                f"worker {address} cannot run skinkit: {type(error).__name__}: {error}",
                "the same environment as here",
                "start the worker in the environment that skinkit is installed in",
            )
        else:
            greeting: Greeting = answer.result(timeout=_ANSWER_S)
            problem = _problem(address, greeting)
            self._ready[address] = greeting.process
        if problem is not None:
            self._ready.pop(address, None)
            self._refuse(address, problem)

    def _refuse(self, address: str, problem: SkinkitError) -> None:
        """At the start this ends the run; a worker that comes later is left out."""
        if not self._begun:
            raise problem
        self._refused.add(address)
        self.console.warn(f"{problem.found}; it gets no cases")

    def _gone(self) -> InputError:
        return InputError(
            f"the scheduler {self.address} went away",
            "a scheduler that runs until the work is done",
            "start it and run the same command again; finished rows are kept",
        )


# ------------------------------------------------------------------------------------------------- in the worker


@dataclass(frozen=True)
class Greeting:
    """What a worker answers before it gets a task.

    Attributes:
        process: its process id; another one later means that it was restarted.
        host: its machine.
        unseen: paths it does not see as this machine does.
        versions: of skinkit and the libraries that can change a number.
    """

    process: int
    host: str
    unseen: tuple[str, ...]
    versions: Mapping[str, str]


def _greet(probes: Mapping[str, int | None]) -> Greeting:
    unseen = tuple(path for path, size in probes.items() if _size(path) != size)
    return Greeting(os.getpid(), platform.node(), unseen, _versions())


def _run(task: Callable[[], Any], process: int, umask: int) -> Any:
    """A task, in the process it was meant for: one that Dask repeats in a restarted worker is refused."""
    if os.getpid() != process:
        raise WorkerLost
    before = os.umask(umask)
    try:
        return task()
    finally:
        os.umask(before)


def _problem(address: str, greeting: Greeting) -> InputError | None:
    """Why a worker cannot take part."""
    here = _versions()
    different = [name for name in here if greeting.versions.get(name) != here[name]]
    if different:
        name = different[0]
        return InputError(
            f"worker {address} on {greeting.host} has {name} {greeting.versions.get(name)}, here it is {here[name]}",
            "the same versions everywhere, so that every row is the same wherever it is computed",
            "start the worker in the same environment",
        )
    if greeting.unseen:
        return InputError(
            f"worker {address} on {greeting.host} does not see {greeting.unseen[0]} as this machine does",
            "cohort and workspace in a folder that all machines share under one path",
            "mount the folder there, and start the worker as a user who can read it",
        )
    return None


def _versions() -> dict[str, str]:
    return {"skinkit": __version__, **library_versions()}


# ------------------------------------------------------------------------------------------------ the shared folder


def _probes(shared: Iterable[Path]) -> dict[str, int | None]:
    """Paths and the sizes of files that a worker must see: an empty folder in place of a share is noticed."""
    return {path: _size(path) for folder in shared for path in _samples(Path(os.fspath(folder)))}


def _samples(path: Path) -> Iterator[str]:
    """The path, and one entry of a folder: listing all of a million would take minutes."""
    yield str(path)
    if path.is_dir():
        with os.scandir(path) as entries:
            yield from islice((entry.path for entry in entries if not entry.name.startswith(".")), 1)


def _size(path: str) -> int | None:
    """Bytes of a file, -1 for a folder, None where there is neither or it cannot be read."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not os.access(path, os.R_OK):
        return None
    return -1 if stat.S_ISDIR(status.st_mode) else status.st_size


# -------------------------------------------------------------------------------------------------- the connection


class Connection:
    """The client of this process, kept between stages: jobs may have waited in a queue for hours."""

    client: Any = None
    jobs: Any = None
    of: tuple[str, Slurm] | None = None

    @classmethod
    def get(cls, cluster: Cluster, console: Console) -> Any:
        """The kept client, or a new one."""
        of = (cluster.address, cluster.slurm)
        if cls.client is None or cls.of != of or cls.client.status != "running":
            cls.close()
            cls._open(cluster, console)
            cls.of = of
        return cls.client

    @classmethod
    def _open(cls, cluster: Cluster, console: Console) -> None:
        from distributed import Client

        for name in ("distributed", "distributed.client", "dask_jobqueue", "tornado"):  # errors are reported here
            logging.getLogger(name).setLevel(logging.CRITICAL)
        atexit.unregister(cls.close)
        atexit.register(cls.close)
        if cluster.address == "slurm":
            cls.jobs = _started(cluster.slurm)
            console.info(f"  waiting for Slurm to start {cluster.slurm.jobs} jobs")
        try:
            where = cls.jobs if cls.jobs is not None else cluster.address
            cls.client = Client(where, timeout=_CONNECT_S, set_as_default=False, name="skinkit")
        except (OSError, TimeoutError) as error:
            raise InputError(
                f"no scheduler answers at {cluster.address}: {error}",
                "a running Dask scheduler",
                "start it with 'dask scheduler', and give --cluster the address it prints",
            ) from None
        except TypeError as error:
            raise ConfigError(
                f"--cluster {cluster.address}: {error}",
                "certificates for tls:// in Dask's configuration (distributed.comm.tls)",
                "see https://distributed.dask.org/en/stable/tls.html",
            ) from None

    @classmethod
    def close(cls) -> None:
        """Disconnect; jobs that Slurm started for this process are ended."""
        client, jobs = cls.client, cls.jobs
        cls.client = cls.jobs = cls.of = None
        for one in (client, jobs):
            with contextlib.suppress(OSError, RuntimeError, TimeoutError):
                if one is not None:
                    one.close()


def _started(settings: Slurm) -> Any:
    """A scheduler in this process, and Slurm jobs that hold its workers."""
    from dask_jobqueue import SLURMCluster

    if shutil.which("sbatch") is None:
        raise InputError("no sbatch on this machine", "a login node of Slurm", "run it there, or give an address")
    jobs = SLURMCluster(
        queue=settings.queue or None,
        account=settings.account or None,
        cores=settings.cores,
        processes=settings.cores,
        memory=settings.memory,
        walltime=settings.walltime,
        job_extra_directives=list(settings.directives),
        job_script_prologue=list(settings.prologue),
        interface=settings.interface or None,
        scheduler_options={"dashboard": False, "dashboard_address": ":0"},  # port 8787 may be another user's
    )
    jobs.scale(jobs=settings.jobs)
    return jobs
