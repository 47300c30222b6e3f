"""Which rows a step sees, learning rates, optimisers and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from skinkit.errors import ConfigError
from skinkit.learning.rows import Replay
from skinkit.learning.state import Progress, TrainingJob, deciding
from skinkit.models.parts.protocol import Phase

_BETA1 = 0.9
"""Of ``adam`` and ``adamw``."""
_CLIMB_FROM = 25
"""``one_cycle`` begins at this part of the highest rate."""
SCHEDULES = ("constant", "cosine", "one_cycle", "plateau")
_FALL = 0.1
"""What ``plateau`` multiplies the rates by."""
OPTIMISERS: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


# ------------------------------------------------------------------------------------- order, rates, optimiser
def seed_at(*place: int) -> int:
    """A seed of 63 bits for a place in training; unlike for unlike places."""
    return int(np.random.SeedSequence([abs(part) for part in place]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def groups_of(
    rows: Sequence[int],
    phase: Phase,
    place: tuple[int, int, int],
    world_size: int,
    strata: Sequence[int] = (),
    replay: Replay | None = None,
) -> list[list[int]]:
    """The rows of each step of an epoch.

    Args:
        rows: to draw from.
        phase: says how many a step, and how many steps (0: every row once; more than there are rows: again in another
            order).
        place: (seed, phase, epoch), which decide the order.
        world_size: processes; each gets an equal part of every group, and a last group shrinks so that it can. A group
            that leaves a process a single case, of which BatchNorm knows no variance, is left out.
        strata: of each row, where the phase balances its draws.
        replay: rows that are drawn as well; where every own row is seen once the epoch is longer by them.
    """
    generator = np.random.default_rng([abs(part) for part in place])
    again = replay.beside(len(rows)) if replay else 0
    everything = len(rows) + again
    steps = phase.steps or (phase.most_steps if phase.most_steps * phase.batch < everything else 0)
    wanted = steps * phase.batch or everything
    if replay and steps:
        again = round(wanted * replay.share)
    order = _drawn(rows, strata, wanted - again, phase, generator)
    if replay:
        order = [*order[: wanted - again], *_drawn(replay.rows, replay.strata, again, phase, generator)[:again]]
        order = [order[at] for at in generator.permutation(wanted)]
    batch = phase.batch // world_size * world_size
    groups = [order[start : start + batch] for start in range(0, wanted, batch)]
    if steps:
        return groups[:steps]
    groups = [group[: len(group) // world_size * world_size] for group in groups]
    return [group for group in groups if len(group) >= 2 * world_size]


def _drawn(
    rows: Sequence[int], strata: Sequence[int], wanted: int, phase: Phase, generator: np.random.Generator
) -> list[int]:
    """So many draws, at least, balanced as the phase says."""
    if phase.balanced:
        return _balanced(np.asarray(rows, np.int64), np.asarray(strata), wanted, phase, generator)
    return _again(np.asarray(rows, np.int64), wanted, generator)


def _again(rows: npt.NDArray[np.int64], wanted: int, generator: np.random.Generator) -> list[int]:
    """So many draws, at least: every row once before any comes again, each time in another order."""
    draws: list[int] = []
    while len(draws) < wanted:
        draws += rows[generator.permutation(len(rows))].tolist()
    return draws


def _balanced(
    rows: npt.NDArray[np.int64],
    strata: npt.NDArray[np.int64],
    wanted: int,
    phase: Phase,
    generator: np.random.Generator,
) -> list[int]:
    """So many draws: a share of them with every stratum equally often, the rest from the rows as they are."""
    names, sizes = np.unique(strata, return_counts=True)
    balanced = round(phase.balanced * wanted)
    each = generator.permutation(np.arange(balanced) % len(names))  # which one gets a draw more is drawn
    if phase.most_repeats:
        each = np.repeat(np.arange(len(names)), _limited(sizes, balanced, phase.most_repeats))
    draws = _again(rows, wanted, generator)[: wanted - len(each)]
    for place, name in enumerate(names):
        draws += _again(rows[strata == name], int((each == place).sum()), generator)[: int((each == place).sum())]
    return [draws[at] for at in generator.permutation(wanted)]


def _limited(sizes: npt.NDArray[np.int64], draws: int, most: float) -> list[int]:
    """Draws of each stratum, equally many, but at most ``most`` times its share of the rows; the largest get the rest.

    Args:
        sizes: rows of each stratum.
        draws: of all strata.
        most: at least 1, so that all draws find a stratum.
    """
    counts, left = [0] * len(sizes), draws
    for done, place in enumerate(np.argsort(sizes, kind="stable").tolist()):
        equal = left // (len(sizes) - done)
        last = done == len(sizes) - 1
        counts[place] = left if last else min(equal, math.floor(most * draws * sizes[place] / sizes.sum()))
        left -= counts[place]
    return counts


def plateau_factor(phase: Phase, progress: Progress, highest: float) -> float:
    """What ``plateau`` has left of the rates, from the scores of this phase's finished epochs and nothing else."""
    if phase.schedule != "plateau":
        return 1.0
    finished = progress.history[len(progress.history) - (progress.epoch - 1) :]
    falls, waited, best = 0, 0, -math.inf
    for row in finished:
        value = deciding(row)
        best, waited = (value, 0) if value > best else (best, waited + 1)
        if waited > phase.plateau:
            falls, waited = falls + 1, 0
    return max(_FALL**falls, phase.final_rate / highest if highest else 0.0)


def steps_per_epoch(phase: Phase, job: TrainingJob, world_size: int) -> int:
    """Optimiser steps of one epoch of a phase, per process."""
    return phase.steps or len(groups_of(job.train, phase, (0, 0, 0), world_size, job.strata, job.replay))


def rate_share(phase: Phase, step: int, steps: int, highest: float) -> float:
    """The learning rate at a step (from 0) of a phase as a share of its highest."""
    lowest = phase.final_rate / highest if highest else 0.0
    done = step / max(1, steps - 1)
    if phase.schedule in ("constant", "plateau"):
        return 1.0
    if phase.schedule == "one_cycle":
        if done < phase.warm_up:
            return 1 / _CLIMB_FROM + (1 - 1 / _CLIMB_FROM) * (1 - math.cos(math.pi * done / phase.warm_up)) / 2
        done = (done - phase.warm_up) / max(1e-12, 1 - phase.warm_up)
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2


def optimiser_of(module: Any, phase: Phase) -> torch.optim.Optimizer:
    """A phase's optimiser over the parameters that are being trained, grouped by their rates."""
    groups: dict[float, list[Any]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            fitting = [start for start in phase.rates if name.startswith(start)]
            rate = phase.rates[max(fitting, key=len)] if fitting else phase.learning_rate
            groups.setdefault(rate, []).append(parameter)
    if not groups:
        raise ConfigError(f"phase {phase.name!r} trains no parameter", "at least one", "correct the network's enter()")
    extra: dict[str, Any] = (
        {"momentum": phase.momentum} if phase.optimiser == "sgd" else {"betas": (_BETA1, phase.beta2)}
    )
    optimiser: torch.optim.Optimizer = OPTIMISERS[phase.optimiser](
        [{"params": parameters, "lr": rate} for rate, parameters in groups.items()],
        weight_decay=phase.weight_decay,
        fused=True,
        **extra,
    )
    return optimiser


def add_to_average(progress: Progress, module: Any, ema: float = 0.0) -> None:
    """Add these weights to the running mean; counters are taken as they are.

    Args:
        progress: holds it.
        module: the weights.
        ema: share of itself that the mean keeps, and grows to: (1 + n) / (10 + n) at step n; 0: all steps count alike.
    """
    progress.averaged += 1
    state = module.state_dict()
    if progress.averaged == 1:
        progress.average = {name: value.clone() for name, value in state.items()}
        return
    n = progress.averaged
    new = 1 - min(ema, (1 + n) / (10 + n)) if ema else 1 / n
    for name, value in state.items():
        if value.is_floating_point():
            progress.average[name].lerp_(value.to(progress.average[name].dtype), new)
        else:
            progress.average[name].copy_(value)
