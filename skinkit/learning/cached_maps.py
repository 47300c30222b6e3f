"""What the frozen stages of a backbone answer, computed once for a few views of each photo and read in every epoch.

Stages that are not trained, whose BatchNorm statistics rest as well, answer the same to the same picture in every
epoch. With ``Phase.cached_views`` = V their answers to V views of each training photo, the photo as it is and V - 1
varied ones, are computed before the phase begins, and an epoch shows the stages above one view of each photo, in turn.
So a step costs what the upper stages cost, and an epoch needs no picture. What is lost is variety: a network that is
trained for more than V epochs sees views again.

The answers are float16 in files beside the checkpoint, which the system pages in and out: memory bounds neither photos
nor views. A resumed run computes them again; on the CPU they are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from skinkit.console import Console
from skinkit.errors import ConfigError
from skinkit.learning.augment import augment
from skinkit.learning.examples import Examples, Pictures, as_input
from skinkit.learning.precision import autocast
from skinkit.learning.schedule import seed_at
from skinkit.learning.state import TrainingJob, as_module
from skinkit.models.parts.protocol import LOWER, Augment, Network, Phase

_BATCH = 16
_CLOSE = 0.02
"""Largest difference that float16 and bfloat16 may make in what a head reads, as a share of the largest value."""


class CachedMaps(Examples):
    """Examples that give the frozen stages' answers in place of pictures; see the module.

    Attributes:
        epoch: decides which view of a training photo is given.
    """

    epoch: int = 0
    _training: npt.NDArray[np.float16]  # (rows, views, width)
    _validation: npt.NDArray[np.float16]  # (rows, versions, width)
    _training_place: dict[int, int]
    _validation_place: dict[int, int]

    @classmethod
    def of(cls, network: Network, job: TrainingJob, phase: Phase, place: int, precision: str, console: Console) -> Self:
        """Compute them for all rows of a job.

        Args:
            network: on its device, after ``enter``.
            job: its photos, and where its files go.
            phase: how many views, and how they vary.
            place: of the phase among all.
            precision: in which the frozen stages answer.
            console: shows progress.

        Raises:
            ConfigError: the network reads more of its frozen stages than they answer here.
            CaseError: a photo cannot be read.
        """
        self = object.__new__(cls)
        self.__dict__.update(job.examples.__dict__)
        as_module(network).eval()
        _refuse_unlike(network, job, precision)
        replayed = job.replay.rows if job.replay else ()
        rows = list(dict.fromkeys([*job.train, *replayed]))
        self._training_place = {row: at for at, row in enumerate(rows)}
        self._validation_place = {row: at for at, row in enumerate(job.validation)}
        total = phase.cached_views * len(rows) + len(job.validation)
        job.folder.mkdir(parents=True, exist_ok=True)

        def computed(rows: Sequence[int], name: str, views: int, *, versions: bool) -> npt.NDArray[np.float16]:
            out: Any = None
            for start in range(0, len(rows), _BATCH):
                part = rows[start : start + _BATCH]
                batch = as_input(job.examples.batch(part), job.device)
                for view in range(views):
                    generator = torch.Generator().manual_seed(seed_at(job.seed, place, view, start))
                    shown = augment(batch, phase.augment if view else Augment(flips=False), generator)
                    answer = network.lower(shown, versions=versions).half().cpu().numpy()
                    if out is None:
                        shape = (len(rows), views * answer.shape[1], answer.shape[2])
                        out = np.lib.format.open_memmap(
                            job.folder / f"frozen-stages-{name}.npy", "w+", np.float16, shape
                        )
                    out[start : start + len(part), view * answer.shape[1] : (view + 1) * answer.shape[1]] = answer
                    for _ in part:
                        tick()
            return out if out is not None else np.zeros((0, 1, 1), np.float16)

        label = f"{job.label}, {phase.name}: frozen stages"
        with torch.inference_mode(), autocast(job.device, precision), console.progress(total, label) as tick:
            self._training = computed(rows, "training", phase.cached_views, versions=False)
            self._validation = computed(list(job.validation), "validation", 1, versions=True)
        return self

    def show(self, epoch: int) -> None:
        """Give each training photo in this epoch's view; 0 for the photo as it is."""
        self.epoch = epoch

    def pictures(self, row: int) -> Pictures:
        """A training row's view of this epoch, (width,), or all versions of a validation row, (versions, width)."""
        if row in self._validation_place:
            return {LOWER: np.asarray(self._validation[self._validation_place[row]])}
        at, views = self._training_place[row], self._training.shape[1]
        # Each row begins with another view, and has seen all of them before one comes again.
        view = (at + self.epoch - 1) % views if self.epoch else 0
        return {LOWER: np.asarray(self._training[at, view])}


def _refuse_unlike(network: Network, job: TrainingJob, precision: str) -> None:
    """Refuse a network whose answer or loss needs more of a photo than what the frozen stages keep of it."""
    batch = as_input(job.examples.batch(job.train[:2]), job.device)
    without = {name: values for name, values in batch.items() if not name.startswith("image")}
    with torch.inference_mode(), autocast(job.device, precision):
        lower = network.lower(batch, versions=True).half().float()
        above = network.encode({LOWER: lower}).float()
        whole = network.encode(batch).float()
        alike = whole.shape == above.shape and bool((whole - above).abs().max() <= _CLOSE * whole.abs().max())
        try:
            alike = alike and bool(job.objective.loss(network, {**without, LOWER: lower[:, 0]}).isfinite())
        except KeyError:  # it reads the photo
            alike = False
    if not alike:
        raise ConfigError(
            f"cached_views of {type(network).__name__} with this backbone",
            "a network that reads nothing but the means of its frozen stages, and their last maps",
            "give --settings recipe.cached_views=0",
        )
