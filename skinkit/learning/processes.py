"""Several training processes: Lightning Fabric launches one per device, and scores are worked out by their parent."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from skinkit.console import Console
from skinkit.errors import SkinkitError
from skinkit.learning.state import Progress, Score, TrainingJob
from skinkit.models.parts.protocol import Network

Train = Callable[[Any, Network, TrainingJob, Console], Progress]
"""The training loop: Fabric, network, job, console -> how it went. A function of a module, so that it can be sent."""


def make_fabric(job: TrainingJob, devices: int) -> Any:
    """Lightning Fabric for so many devices of the job's kind, in its precision."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    for name in ("lightning.fabric", "lightning_fabric"):  # the loop reports the epochs itself
        logging.getLogger(name).setLevel(logging.ERROR)
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True) if devices > 1 else "auto"
    return Fabric(
        accelerator=job.device,
        devices=devices,
        strategy=strategy,
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


@dataclass(frozen=True)
class _Line:
    """A line to the process that started the others: there the score is worked out, and errors are told.

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
