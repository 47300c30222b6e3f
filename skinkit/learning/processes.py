"""Several training processes, on one machine or on several.

On one machine Lightning Fabric starts one per device, and scores are worked out by their parent
(:func:`in_processes`). Processes that torchrun or Slurm started, on one node or on many, make a company: the first
one does all that the command does, and hands the others each network to train (:func:`company`,
:func:`in_company`). The others read photos and nothing else, and write nothing.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, SkinkitError
from skinkit.learning.state import Progress, Score, TrainingJob
from skinkit.models.parts.protocol import Network

_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun passes to the processes that it starts."""
_WAIT = datetime.timedelta(days=30)
"""How long processes wait for the first one, which may be measuring features; a lost one is noticed at once."""
Train = Callable[[Any, Network, TrainingJob, Console], Progress]
"""The training loop: Fabric, network, job, console -> how it went. A function of a module, so that it can be sent."""


def make_fabric(job: TrainingJob, devices: int, *, nodes: int = 1, plugins: Any = None) -> Any:
    """Lightning Fabric for so many devices of the job's kind on each of so many nodes, in its precision."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    for name in ("lightning.fabric", "lightning_fabric"):  # the loop reports the epochs itself
        logging.getLogger(name).setLevel(logging.ERROR)
    several = devices * nodes > 1
    start: Literal["spawn", "popen"] = "spawn" if plugins is None else "popen"  # popen: they are there
    strategy = DDPStrategy(start_method=start, find_unused_parameters=True) if several else "auto"
    return Fabric(
        accelerator=job.device,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        plugins=plugins or (None if several else [LightningEnvironment()]),
        precision="bf16-mixed" if job.precision == "bf16" else "32-true",
    )


def in_processes(train: Train, network: Network, job: TrainingJob, devices: int, console: Console) -> None:
    """Train in one process per device; what they learn is in the checkpoint afterwards."""
    context = torch.multiprocessing.get_context("spawn")
    line = _Line(context.SimpleQueue(), context.SimpleQueue())
    answering = threading.Thread(target=line.serve, args=(job.score,), daemon=True)
    answering.start()
    voice = {"log_format": console.log_format, "quiet": console.quiet, "run_id": console.run_id}
    try:
        make_fabric(job, devices).launch(
            partial(_in_process, train=train, network=network, job=replace(job, score=line), voice=voice)
        )
    except ProcessRaisedException:
        line.questions.put(None)
        answering.join()
        if line.errors:
            raise line.errors[0] from None
        raise
    line.questions.put(None)
    answering.join()


def _in_process(fabric: Any, train: Train, network: Network, job: TrainingJob, voice: Mapping[str, Any]) -> None:
    try:
        # What came through memory is shared with the other processes: each learns on a copy of its own.
        train(fabric, copy.deepcopy(network), job, Console(**voice))
    except SkinkitError as error:
        job.score.questions.put(error)  # type: ignore[attr-defined]
        raise


# ------------------------------------------------------------------------------- started by torchrun or by Slurm


@contextlib.contextmanager
def company(devices: int, nodes: int, device: str) -> Iterator[bool]:
    """Join the processes that torchrun or Slurm started for one command, if it is one of several.

    The first leads: it does what the command does. The others train what it hands them, inside this call, and are done.

    Args:
        devices: ``--devices``.
        nodes: ``--nodes``.
        device: ``cpu`` or ``cuda``.

    Yields:
        Whether this process does what the command does: the first of a company, or one by itself.

    Raises:
        ConfigError: ``--nodes`` where nobody started the processes, or other numbers than were started.
        InputError: another process was lost.
    """
    world = _world(devices, nodes)
    if world == 1:
        yield True
        return
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    with _noticing_losses(world):
        torch.distributed.init_process_group(backend, timeout=_WAIT)
    _COMPANY.joined = True
    leads = torch.distributed.get_rank() == 0
    try:
        if not leads:
            _follow(world)
        yield leads
        if leads:
            with _noticing_losses(world):
                _broadcast(None)
    except SkinkitError:
        if leads and not _COMPANY.training:  # the others wait for a network
            with contextlib.suppress(RuntimeError):
                _broadcast(None)
        raise
    finally:
        _COMPANY.training = False
        torch.distributed.destroy_process_group()


@dataclass
class _Company:
    """The company of this process.

    Attributes:
        joined: this process was one of several, perhaps is no longer.
        training: they are training together at this moment.
    """

    joined: bool = False
    training: bool = False


_COMPANY = _Company()


def leave_company(exit_code: int) -> None:
    """End this process at once if it was one of a company; what it has printed is written first.

    The threads of a process group outlive it, because DistributedDataParallel keeps it (torch 2.15). Python's own end
    sometimes aborts on them, which the launcher took for a finished training had failed.
    """
    if _COMPANY.joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def company_size() -> int:
    """Processes that train together because torchrun or Slurm started them; 1 where there is none but this."""
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if joined else 1


def in_company(train: Train, network: Network, job: TrainingJob, console: Console) -> None:
    """Train with all processes of the company; what is learnt is in the checkpoint afterwards.

    Raises:
        InputError: another process was lost; the checkpoint is whole.
    """
    world = company_size()
    with _noticing_losses(world):
        _broadcast((train, network, replace(job, score=_unscored)))
        _COMPANY.training = True
        train(_fabric_of_company(job), copy.deepcopy(network), job, console)
        _COMPANY.training = False


def _follow(world: int) -> None:
    """Train whatever the first process hands over, until there is nothing more."""
    with _noticing_losses(world):
        while (order := _broadcast()) is not None:
            train, network, job = order
            train(_fabric_of_company(job), network, job, Console(quiet=True))


def _broadcast(order: Any = None) -> Any:
    """What the first process sends to all of them; the others call it without an order."""
    payload = [order]
    torch.distributed.broadcast_object_list(payload, src=0, device=torch.device("cpu"))
    return payload[0]


def _unscored(answers: Mapping[str, np.ndarray], rows: npt.NDArray[np.int64]) -> Mapping[str, float]:
    raise AssertionError("only the first process scores")


@contextlib.contextmanager
def _noticing_losses(world: int) -> Iterator[None]:
    """Turn what torch says when another process is gone into a sentence."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        signs = ("onnection closed", "onnection reset", "onnection refused", "roken pipe", "imed out", "imeout")
        if not isinstance(error, torch.distributed.DistError) and not any(sign in text for sign in signs):
            raise
        raise InputError(
            f"another process of the training was lost ({text.splitlines()[0][:120]})",
            f"{world} processes until the end",
            "read its last message, then run the same command again: it goes on after the last complete epoch",
        ) from None


def _world(devices: int, nodes: int) -> int:
    """How many processes were started for this command; those of Slurm are described as torchrun does it.

    Raises:
        ConfigError: ``--nodes`` where nobody started them, or other numbers than were started.
    """
    if nodes > 1 and "RANK" not in os.environ and os.environ.get("SLURM_STEP_ID"):
        _as_torchrun()
    started = all(name in os.environ for name in _RANKS)
    world, local = (int(os.environ[name]) if started else 1 for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if world == 1 and nodes > 1:
        raise ConfigError(
            f"--nodes {nodes} in a single process",
            "a process on each device of each node, started by torchrun or by srun",
            "see docs/cluster.md, or leave --nodes out",
        )
    asked = {"--nodes": (nodes, world // local), "--devices": (devices, local)}
    wrong = [
        f"{flag} {n}, but {there} were started" for flag, (n, there) in asked.items() if world > 1 and 1 < n != there
    ]
    if wrong:
        raise ConfigError(", ".join(wrong), "the numbers that torchrun or srun were given", "leave the option out")
    return world


def _as_torchrun() -> None:
    """Describe the processes of a Slurm step as torchrun does."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    slurm = SLURMEnvironment(auto_requeue=False)
    world, nodes = slurm.world_size(), int(os.environ.get("SLURM_NNODES", "1"))
    ranks = {"RANK": slurm.global_rank(), "LOCAL_RANK": slurm.local_rank(), "GROUP_RANK": slurm.node_rank()}
    sizes = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world // nodes}
    place = {"MASTER_ADDR": slurm.main_address, "MASTER_PORT": slurm.main_port}
    os.environ |= {name: str(value) for name, value in {**ranks, **sizes, **place}.items()}


def _fabric_of_company(job: TrainingJob) -> Any:
    """Lightning Fabric in processes that are there already."""
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    local = int(os.environ["LOCAL_WORLD_SIZE"])
    fabric = make_fabric(job, local, nodes=company_size() // local, plugins=[TorchElasticEnvironment()])
    fabric.launch()
    return fabric


@dataclass(frozen=True)
class _Line:
    """A line to the process that started the others: there the score is worked out, and errors are reported.

    So a score may be any function, also one that could not be sent to another process.
    """

    questions: Any
    replies: Any
    errors: list[Exception] = field(default_factory=list)

    def __call__(self, answers: Mapping[str, np.ndarray], rows: npt.NDArray[np.int64]) -> Mapping[str, float]:
        """Ask for a score and wait for it."""
        self.questions.put((answers, rows))
        reply = self.replies.get()
        if isinstance(reply, Exception):
            raise reply
        return dict(reply)

    def serve(self, score: Score) -> None:
        """Answer until there is nothing more to answer."""
        while (question := self.questions.get()) is not None:
            if isinstance(question, Exception):
                self.errors.append(question)
                continue
            try:
                self.replies.put(dict(score(*question)))
            except Exception as error:  # noqa: BLE001 - raised again by the one who asked, who would wait for ever
                self.errors.append(error)
                self.replies.put(RuntimeError(f"{type(error).__name__}: {error}"))
