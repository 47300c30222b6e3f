"""The one training loop: phases one after another, on the CPU, one GPU or several, resumable after every epoch.

A network brings its own loss and phases (:mod:`skinkit.models`); nothing here asks which one it is.

**Choice of weights.** Within a phase the epoch with the best validation score is kept (of its last epochs, where
``Phase.candidates`` says so), and the next phase begins with it; the network ends with the last phase's. Without
validation rows the last epoch is kept. Where a phase averages its weights (``Phase.averaged``), their mean is kept
instead: over the steps of the phase's last share, after which the statistics of every BatchNorm layer that is being
trained are estimated anew, for they belong to other weights, on training pictures that are not varied, for such are the
ones it will see. A phase that ``patience`` ends before that share begins keeps its best epoch.

**Repeatability.** Order of the rows, variation of the pictures and torch's own random numbers are drawn anew for every
epoch from (seed, phase, epoch) and from nothing else. So there is no random state to carry over: a run that is killed
and resumed from its last whole epoch ends, on the CPU, with the same bytes as one that was not.

**Checkpoint.** ``checkpoint.json`` (written last, by renaming) names the safetensors files it belongs to with their
SHA-256; the best weights have a file of their own, written only when they change. One that is damaged or belongs to
another run (seed, phases, rows, shapes) is left aside, which is said.

**Several GPUs.** One process each; each sees its share of every batch, gradients are averaged, the first one
validates, writes and speaks. Network and examples are sent to them through memory; the score is worked out here.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from skinkit import infer
from skinkit.artifact import digest, file_sha256, write_atomic
from skinkit.augment import augment
from skinkit.console import Console, Tick
from skinkit.errors import CaseError, ConfigError, InputError, SkinkitError
from skinkit.examples import Examples, Rows, as_input
from skinkit.models import Network, Phase

Score = Callable[[Mapping[str, np.ndarray], npt.NDArray[np.int64]], Mapping[str, float]]
"""The network's answers on validation rows, name -> (rows, ...), and these rows -> figures by name. The first decides;
higher is better. A figure called ``validation_loss`` is drawn with the losses."""

State = dict[str, torch.Tensor]

CHECKPOINT = "checkpoint.json"
_FORMAT = 1
_CLIMB_FROM = 25
"""``one_cycle`` begins at this part of the highest rate."""
_STATISTICS_BATCHES = 200
"""Training batches that BatchNorm statistics are estimated on, at most."""
SCHEDULES = ("constant", "cosine", "one_cycle", "plateau")
_FALL = 0.1
"""What ``plateau`` multiplies the rates by."""
_OPTIMISERS: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the network's weights.

    Attributes:
        history: one row an epoch: ``phase``, ``epoch``, ``learning_rate``, ``train_loss``, the figures of ``score``,
            ``seconds`` and ``kept``: whether its weights were the ones kept of that phase. Where weights are averaged,
            one more row for the average, whose ``train_loss`` is NaN.
        best: the row whose weights the network holds.
        snapshots: what ``Network.snapshot`` answered, with ``phase`` and ``epoch``; its cases are named by the hash of
            their pixels.
    """

    history: list[dict[str, Any]]
    best: dict[str, Any]
    snapshots: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """What one call of :func:`fit` was asked for."""

    examples: Examples
    train: tuple[int, ...]
    validation: tuple[int, ...]
    score: Score
    seed: int
    device: str
    precision: str
    folder: Path
    label: str
    identity: str
    strata: tuple[int, ...] = ()


@dataclass
class _Progress:
    """How far training is; what a checkpoint holds.

    Attributes:
        phase: which one, from 0.
        epoch: finished epochs of it.
        since_best: epochs since the last better one.
        averaged: steps in the average.
        best_epoch: of this phase, 0 for none yet.
        best_score: its score.
        history: rows.
        snapshots: what the network kept.
        done: whether all phases are over.
        best: best weights of this phase.
        average: mean of the weights so far.
        optimiser: the optimiser's tensors, to be taken over when the phase is resumed.
    """

    phase: int = 0
    epoch: int = 0
    since_best: int = 0
    averaged: int = 0
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False
    best: State = field(default_factory=dict)
    average: State = field(default_factory=dict)
    optimiser: State = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """Everything but tensors."""
        names = ("phase", "epoch", "since_best", "averaged", "best_epoch", "best_score", "history", "snapshots", "done")
        return {name: getattr(self, name) for name in names}


def fit(
    network: Network,
    examples: Examples,
    train_rows: Rows,
    validation_rows: Rows,
    score: Score,
    *,
    seed: int,
    device: str,
    precision: str = "auto",
    devices: int = 1,
    folder: Path,
    console: Console,
    label: str = "training",
    strata: npt.NDArray[np.int64] | None = None,
) -> Trained:
    """Train a network; it holds the kept weights afterwards, on the CPU.

    Args:
        network: built, with its first weights.
        examples: what the rows hold.
        train_rows: learnt from; those that cannot be read are left out, which is said.
        validation_rows: decide which epoch is kept and when to stop; may be empty.
        score: of the answers on the validation rows.
        seed: decides, with the rows and the first weights, everything (on the CPU).
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``bf16`` or ``auto`` (:func:`skinkit.infer.precision_of`).
        devices: processes, one for each GPU; on the CPU more than one is only good for tests.
        folder: of the checkpoint; a run that was killed goes on from it. The caller removes it when the result is safe.
        console: one progress bar over all steps, and a line per epoch.
        label: what they are called.
        strata: (n,) of every row of ``examples``, which a phase may balance its draws over; the classes by default.

    Raises:
        InputError: nothing to train on, a loss that is no number, not enough memory, a photo that went away meanwhile.
        ConfigError: a phase that cannot be run.
    """
    train = _readable(examples, train_rows, "training", console)
    validation = _readable(examples, validation_rows, "validation", console)
    phases = network.phases()
    strata = examples.classes if strata is None else np.asarray(strata, np.int64)
    _check(phases, train, devices, strata is not None)
    # What a checkpoint must agree on with the run that resumes it.
    rows = [examples.fingerprint(part) for part in (train, validation)]
    drawn = tuple(int(strata[row]) for row in train) if strata is not None else ()
    identity = digest([_FORMAT, seed, [asdict(phase) for phase in phases], rows, drawn])
    precision = infer.precision_of(device, precision)
    job = _Job(examples, train, validation, score, seed, device, precision, Path(folder), label, identity, drawn)
    if not validation and not phases[-1].averaged:
        falls = phases[-1].schedule in ("cosine", "one_cycle")  # made to be followed to the end
        say = console.info if falls else console.warn
        say(f"  {label}: no validation rows, so the last epoch is kept")
    if devices > 1:
        _in_processes(network, job, devices, console)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device == "cuda" else ()):
        # After several processes this finds their finished checkpoint and takes its weights.
        progress = _train(_fabric(job, 1), network, job, console)
    _module(network).to("cpu")
    best = next(row for row in reversed(progress.history) if row["kept"])
    return Trained(progress.history, best, progress.snapshots)


def _readable(examples: Examples, rows: Rows, name: str, console: Console) -> tuple[int, ...]:
    with console.progress(len(rows), f"reading {name} photos") as tick:
        failed = examples.unreadable(rows, tick)
    for reason in sorted({error.reason for error in failed.values()}):
        n = sum(error.reason == reason for error in failed.values())
        console.warn(f"{n} {name} cases are left out: {reason}")
    return tuple(int(row) for row in rows if int(row) not in failed)


def _check(phases: Sequence[Phase], train: Sequence[int], devices: int, stratified: bool) -> None:
    if len(train) < 2 * devices:
        raise InputError(
            f"{len(train)} readable training cases", f"at least {2 * devices}", "add cases, or draw another split"
        )
    if not phases:
        raise ConfigError("a network without phases", "at least one", "let its phases() answer one")
    for phase in phases:
        if phase.optimiser not in _OPTIMISERS:
            raise ConfigError(f"optimiser {phase.optimiser!r}", f"one of {', '.join(_OPTIMISERS)}", "correct the phase")
        if phase.schedule not in SCHEDULES:
            raise ConfigError(f"schedule {phase.schedule!r}", f"one of {', '.join(SCHEDULES)}", "correct the phase")
        if not 0 <= phase.balanced <= 1 or (phase.balanced and not stratified):
            raise ConfigError(
                f"phase {phase.name!r}: {phase.balanced:g} of the draws balanced"
                + ("" if stratified else ", and rows of no known class or stratum"),
                "a share from 0 to 1, and classes or strata to balance",
                "leave class_aware out of --settings, or give a share",
            )
        if not 0 < phase.candidates <= 1:
            found = f"phase {phase.name!r}: candidates = {phase.candidates:g}"
            raise ConfigError(found, "a share above 0, to 1", "leave candidates out of --settings, or give a share")
        if phase.batch < 2 * devices or phase.epochs < 1:
            raise ConfigError(
                f"phase {phase.name!r}: {phase.epochs} epochs, batches of {phase.batch} over {devices} devices",
                "at least one epoch, and two cases a step and device",
                "correct --settings batch or epochs",
            )


# ------------------------------------------------------------------------------------------------------ the loop


def _train(fabric: Any, network: Network, job: _Job, console: Console) -> _Progress:
    """All phases, from wherever the checkpoint is; every process runs this."""
    if fabric.global_rank:
        console = Console(quiet=True, stream=io.StringIO())
    module = _module(network).to(fabric.device, memory_format=torch.channels_last)
    phases = network.phases()
    progress = _resumed(network, job, phases, console) or _Progress()
    if progress.done:
        return progress
    left = sum(p.epochs * _steps(p, job, fabric.world_size) for p in phases[progress.phase :])
    left -= progress.epoch * _steps(phases[progress.phase], job, fabric.world_size)
    with console.progress(left, job.label) as tick:
        for index in range(progress.phase, len(phases)):
            progress.phase = index
            _run_phase(fabric, network, job, progress, phases[index], tick, console)
            progress.epoch = progress.since_best = progress.averaged = progress.best_epoch = 0
            progress.best_score, progress.best, progress.average, progress.optimiser = -math.inf, {}, {}, {}
    progress.done = True
    if fabric.global_rank == 0:
        _save(module, None, progress, job)
    fabric.barrier()
    return progress


def _run_phase(
    fabric: Any, network: Network, job: _Job, progress: _Progress, phase: Phase, tick: Tick, console: Console
) -> None:
    module = _module(network)
    network.enter(phase.name)
    optimiser = optimiser_of(module, phase)
    highest = [group["lr"] for group in optimiser.param_groups]
    _take_over(optimiser, progress.optimiser)
    model, wrapped = fabric.setup(module, optimiser)
    model.mark_forward_method("loss")
    patient = phase.patience or phase.epochs
    while progress.epoch < phase.epochs and progress.since_best < patient:
        began = time.monotonic()
        progress.epoch += 1
        loss = _epoch(fabric, model, wrapped, highest, job, progress, phase, tick)
        row = {
            "phase": phase.name,
            "epoch": progress.epoch,
            "learning_rate": max(g["lr"] for g in optimiser.param_groups),
        }
        row |= {"train_loss": loss, **_validated(fabric, network, job, console)}
        row |= {"seconds": round(time.monotonic() - began, 2), "kept": False}
        progress.history.append(row)
        _compare(module, job, progress, phase, row)
        if fabric.global_rank == 0:
            console.info(_line(job, phase, row))
            if phase.snapshot_every and (progress.epoch % phase.snapshot_every == 0 or progress.epoch == phase.epochs):
                progress.snapshots.append(_snapshot(network, job, progress, phase))
            _save(module, optimiser, progress, job)
        fabric.barrier()
    _conclude(fabric, network, job, progress, phase, console)


def _epoch(
    fabric: Any,
    model: Any,
    optimiser: Any,
    highest: Sequence[float],
    job: _Job,
    progress: _Progress,
    phase: Phase,
    tick: Tick,
) -> float:
    """One epoch of training; its mean loss per case."""
    place = (job.seed, progress.phase, progress.epoch, fabric.global_rank)
    torch.manual_seed(_drawn(*place, 1))
    generator = torch.Generator().manual_seed(_drawn(*place, 2))
    groups = groups_of(job.train, phase, (job.seed, progress.phase, progress.epoch), fabric.world_size, job.strata)
    fallen = _fallen(phase, progress, max(highest))
    if fabric.world_size > 1:  # losses are each process's own; the rate must be one
        fallen = float(fabric.broadcast(fallen))
    step, last = (progress.epoch - 1) * len(groups), phase.epochs * len(groups)
    total = cases = 0.0
    model.train()
    try:
        for batch in job.examples.batches([group[fabric.global_rank :: fabric.world_size] for group in groups]):
            inputs = augment(as_input(batch, fabric.device), phase.augment, generator)
            for group, rate in zip(optimiser.param_groups, highest, strict=True):
                group["lr"] = rate * fallen * rate_share(phase, step, last, max(highest))
            optimiser.zero_grad(set_to_none=True)
            with fabric.autocast():  # without processes Fabric calls a marked method as it is
                loss = model.loss(inputs)
            fabric.backward(loss)
            if phase.clip:
                fabric.clip_gradients(model, optimiser, max_norm=phase.clip, error_if_nonfinite=False)
            optimiser.step()
            value, step = float(loss.detach()), step + 1
            if not math.isfinite(value):
                raise _diverged(phase, progress, value)
            if step > last * (1 - phase.averaged):
                _average(progress, model.module)
            n = len(next(iter(batch.values())))
            total, cases = total + value * n, cases + n
            tick()
    except CaseError as error:
        raise InputError(
            f"a training photo that could be read can no longer ({error.reason}: {error.detail})",
            "photos that stay as they are while a model learns from them",
            "run 'skinkit ingest', then the same command again",
        ) from None
    except RuntimeError as error:
        if not infer.out_of_memory(error):
            raise
        raise InputError(
            f"not enough memory on {job.device} for a step with {phase.batch} cases",
            "room for the network, its gradients and one batch",
            f"give --settings batch={max(2, phase.batch // 2)}, a smaller side_px, or another --device",
        ) from None
    return total / cases


def _diverged(phase: Phase, progress: _Progress, value: float) -> InputError:
    return InputError(
        f"the loss became {value} in phase {phase.name!r}, epoch {progress.epoch}",
        "a number",
        "lower the learning rate in --settings, set a gradient clip, or train with --precision fp32",
    )


def _validated(fabric: Any, network: Network, job: _Job, console: Console) -> dict[str, float]:
    """The figures of the validation rows, worked out by the first process and told to the others."""
    figures: dict[str, float] = {}
    if job.validation and fabric.global_rank == 0:
        quiet = Console(quiet=True, stream=console.stream)
        found = infer.answers(
            network, job.examples, job.validation, device=job.device, precision=job.precision, console=quiet
        )
        figures = {name: float(value) for name, value in job.score(found, np.array(job.validation)).items()}
    return dict(fabric.broadcast(figures)) if fabric.world_size > 1 else figures


def _snapshot(network: Any, job: _Job, progress: _Progress, phase: Phase) -> dict[str, Any]:
    """What the network keeps of this epoch, its cases named by the hash of their pixels."""
    _module(network).eval()
    rows = job.validation
    groups = [rows[start : start + phase.batch] for start in range(0, len(rows), phase.batch)]
    found = network.snapshot(as_input(batch, job.device) for batch in job.examples.batches(groups))
    for case in found.get("cases", ()):
        case["pixels"] = job.examples.photos[rows[case.pop("index")]].pixels
    return {"phase": phase.name, "epoch": progress.epoch, **found}


def _compare(module: Any, job: _Job, progress: _Progress, phase: Phase, row: Mapping[str, Any]) -> None:
    """Keep this epoch's weights if they are the best so far of this phase; without validation rows the last are."""
    if progress.epoch == math.floor(phase.epochs * (1 - phase.candidates)) + 1:
        progress.best_epoch = 0  # what was kept before is only there in case patience ends the phase early
    value = next((row[name] for name in row if name not in _OWN), math.nan) if job.validation else float(row["epoch"])
    if value > progress.best_score or progress.best_epoch == 0:
        progress.best_score = value if math.isfinite(value) else -math.inf
        progress.best_epoch, progress.since_best = int(row["epoch"]), 0
        progress.best = _copied(module)
    else:
        progress.since_best += 1


_OWN = ("phase", "epoch", "learning_rate", "train_loss", "seconds", "kept")


def _conclude(fabric: Any, network: Network, job: _Job, progress: _Progress, phase: Phase, console: Console) -> None:
    """Put the phase's final weights into the network: the average, or the best epoch."""
    module = _module(network)
    if not progress.averaged:
        module.load_state_dict(progress.best)
        at = len(progress.history) - progress.epoch + progress.best_epoch - 1
        progress.history[at] = progress.history[at] | {"kept": True}
        return
    began = time.monotonic()
    module.load_state_dict(progress.average)
    _estimate_statistics(fabric, network, job, progress, phase)
    row = {**progress.history[-1], "train_loss": math.nan, **_validated(fabric, network, job, console)}
    row |= {"seconds": round(time.monotonic() - began, 2), "kept": True}
    progress.history.append(row)
    if fabric.global_rank == 0:
        console.info(_line(job, phase, row, f"mean of the last {progress.averaged} steps"))


def _estimate_statistics(fabric: Any, network: Network, job: _Job, progress: _Progress, phase: Phase) -> None:
    """Estimate what BatchNorm layers in training know of their inputs, as plain means over training batches."""
    module = _module(network)
    module.train()
    kinds = torch.nn.modules.batchnorm._BatchNorm
    layers = [layer for layer in module.modules() if isinstance(layer, kinds) and layer.training]
    layers = [layer for layer in layers if layer.running_mean is not None]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for a cumulative mean
    torch.manual_seed(_drawn(job.seed, progress.phase, 0, 0, 1))
    groups = groups_of(job.train, phase, (job.seed, progress.phase, 0), 1, job.strata)[:_STATISTICS_BATCHES]
    with torch.no_grad(), infer.autocast(job.device, job.precision):
        for batch in job.examples.batches(groups):
            network.loss(as_input(batch, fabric.device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _line(job: _Job, phase: Phase, row: Mapping[str, Any], what: str = "") -> str:
    figures = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.items() if name not in _OWN]
    loss = [] if what else [f"loss {row['train_loss']:.4g}"]
    said = ", ".join([*loss, *figures, f"{row['seconds']:.0f} s"])
    what = what or f"epoch {row['epoch']}/{phase.epochs}"
    return f"  {job.label}, {phase.name}, {what}: {said}"


# ------------------------------------------------------------------------------------- order, rates, optimiser


def _drawn(*place: int) -> int:
    """A seed of 63 bits for a place in training; unlike for unlike places."""
    return int(np.random.SeedSequence([abs(part) for part in place]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def groups_of(
    rows: Sequence[int], phase: Phase, place: tuple[int, int, int], world_size: int, strata: Sequence[int] = ()
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
    """
    generator = np.random.default_rng([abs(part) for part in place])
    wanted = phase.steps * phase.batch or len(rows)
    if phase.balanced:
        drawn = _balanced(np.asarray(rows, np.int64), np.asarray(strata), wanted, phase.balanced, generator)
    else:
        drawn = _again(np.asarray(rows, np.int64), wanted, generator)
    batch = phase.batch // world_size * world_size
    groups = [drawn[start : start + batch] for start in range(0, wanted, batch)]
    if phase.steps:
        return groups[: phase.steps]
    groups = [group[: len(group) // world_size * world_size] for group in groups]
    return [group for group in groups if len(group) >= 2 * world_size]


def _again(rows: npt.NDArray[np.int64], wanted: int, generator: np.random.Generator) -> list[int]:
    """So many draws, at least: every row once before any comes again, each time in another order."""
    drawn: list[int] = []
    while len(drawn) < wanted:
        drawn += rows[generator.permutation(len(rows))].tolist()
    return drawn


def _balanced(
    rows: npt.NDArray[np.int64],
    strata: npt.NDArray[np.int64],
    wanted: int,
    share: float,
    generator: np.random.Generator,
) -> list[int]:
    """So many draws: a share of them with every stratum equally often, the rest from the rows as they are."""
    names = np.unique(strata)
    each = generator.permutation(np.arange(round(share * wanted)) % len(names))  # which one gets a draw more is drawn
    drawn = _again(rows, wanted, generator)[: wanted - len(each)]
    for place, name in enumerate(names):
        drawn += _again(rows[strata == name], int((each == place).sum()), generator)[: int((each == place).sum())]
    return [drawn[at] for at in generator.permutation(wanted)]


def _fallen(phase: Phase, progress: _Progress, highest: float) -> float:
    """What ``plateau`` has left of the rates, from the scores of this phase's finished epochs and nothing else."""
    if phase.schedule != "plateau":
        return 1.0
    finished = progress.history[len(progress.history) - (progress.epoch - 1) :]
    falls, waited, best = 0, 0, -math.inf
    for row in finished:
        value = next((row[name] for name in row if name not in _OWN), -row["train_loss"])
        best, waited = (value, 0) if value > best else (best, waited + 1)
        if waited > phase.plateau:
            falls, waited = falls + 1, 0
    return max(_FALL**falls, phase.final_rate / highest if highest else 0.0)


def _steps(phase: Phase, job: _Job, world_size: int) -> int:
    return phase.steps or len(groups_of(job.train, phase, (0, 0, 0), world_size, job.strata))


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
    extra = {"momentum": phase.momentum} if phase.optimiser == "sgd" else {}
    made: torch.optim.Optimizer = _OPTIMISERS[phase.optimiser](
        [{"params": parameters, "lr": rate} for rate, parameters in groups.items()],
        weight_decay=phase.weight_decay,
        fused=True,
        **extra,
    )
    return made


def _average(progress: _Progress, module: Any) -> None:
    """Add these weights to the running mean; counters are taken as they are."""
    progress.averaged += 1
    state = module.state_dict()
    if progress.averaged == 1:
        progress.average = {name: value.clone() for name, value in state.items()}
        return
    for name, value in state.items():
        if value.is_floating_point():
            progress.average[name].lerp_(value.to(progress.average[name].dtype), 1 / progress.averaged)
        else:
            progress.average[name].copy_(value)


# ---------------------------------------------------------------------------------------------------- checkpoints


def _save(module: Any, optimiser: torch.optim.Optimizer | None, progress: _Progress, job: _Job) -> None:
    """Write a checkpoint; the one before is removed when this one counts."""
    tensors = {f"network.{name}": value for name, value in module.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in progress.average.items()}
    if optimiser is not None:
        for index, values in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in values.items() if value is not None}
    place = f"{progress.phase}_{progress.epoch}"
    files = {"state": f"state_{place}.safetensors"}
    _write_tensors(job.folder / files["state"], tensors)
    if progress.best:
        files["best"] = f"best_{progress.phase}_{progress.best_epoch}.safetensors"
        if not (job.folder / files["best"]).exists():
            _write_tensors(job.folder / files["best"], progress.best)
    about = {
        "identity": job.identity,
        "files": {kind: [name, file_sha256(job.folder / name)] for kind, name in files.items()},
        "progress": progress.numbers(),
    }
    write_atomic(job.folder / CHECKPOINT, json.dumps(about, indent=1).encode())
    _forget(job.folder, but=[CHECKPOINT, *files.values()])


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    write_atomic(path, save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}))


def _resumed(network: Network, job: _Job, phases: Sequence[Phase], console: Console) -> _Progress | None:
    """Go on from the checkpoint, the network's weights included; None where there is none to go on from."""
    if not (job.folder / CHECKPOINT).exists():
        _forget(job.folder)
        return None
    try:
        progress, state = _read(job)
        for phase in phases[: progress.phase + 1]:
            network.enter(phase.name)
        _module(network).load_state_dict(state)
    except (_NotOursError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        console.warn(f"{job.label}: the checkpoint in {job.folder} is not gone on from ({error}); starting anew")
        _forget(job.folder)
        return None
    if not progress.done:
        # What a killed run wrote and no checkpoint names must not be taken for this run's.
        _forget(job.folder, but=_files(job.folder))
        console.info(f"  {job.label}: going on after epoch {progress.epoch} of {phases[progress.phase].name}")
    return progress


class _NotOursError(Exception):
    """A checkpoint that is damaged or of another run."""


def _read(job: _Job) -> tuple[_Progress, State]:
    from safetensors.torch import load_file

    about = json.loads((job.folder / CHECKPOINT).read_text(encoding="utf-8"))
    if about["identity"] != job.identity:
        raise _NotOursError("it was made with another seed, other phases or other rows")
    files = {}
    for kind, (name, sha256) in about["files"].items():
        path = job.folder / Path(name).name
        if file_sha256(path) != sha256:
            raise _NotOursError(f"{path.name} is damaged")
        files[kind] = load_file(path)
    progress = _Progress(**about["progress"])
    progress.best = files.get("best", {})
    progress.average = _part(files["state"], "average.")
    progress.optimiser = _part(files["state"], "optimiser.")
    return progress, _part(files["state"], "network.")


def _files(folder: Path) -> list[str]:
    """What belongs to the checkpoint, itself included."""
    files = json.loads((folder / CHECKPOINT).read_text(encoding="utf-8"))["files"]
    return [CHECKPOINT, *(name for name, _ in files.values())]


def _forget(folder: Path, but: Sequence[str] = ()) -> None:
    """Remove files of checkpoints, unfinished ones too, except these."""
    for pattern in ("*.safetensors", ".*.safetensors.*.tmp", CHECKPOINT):
        for file in folder.glob(pattern):
            if file.name not in but:
                file.unlink(missing_ok=True)


def _part(tensors: State, start: str) -> State:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _take_over(optimiser: torch.optim.Optimizer, saved: State) -> None:
    """Give the optimiser the tensors of a checkpoint, laid out in memory as its parameters are."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for key, value in saved.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        like = parameter if value.shape == parameter.shape and value.ndim else value
        optimiser.state[parameter][name] = torch.empty_like(like, device=parameter.device).detach().copy_(value)


def _copied(module: Any) -> State:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


# -------------------------------------------------------------------------------------------------------- devices


def _module(network: Network) -> Any:
    """The network as the ``torch.nn.Module`` it is."""
    return network


def _fabric(job: _Job, devices: int) -> Any:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    for name in ("lightning.fabric", "lightning_fabric"):  # the epochs say what is to be said
        logging.getLogger(name).setLevel(logging.ERROR)
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True) if devices > 1 else "auto"
    return Fabric(
        accelerator=job.device,
        devices=devices,
        strategy=strategy,
        precision="bf16-mixed" if job.precision == "bf16" else "32-true",
    )


def _in_processes(network: Network, job: _Job, devices: int, console: Console) -> None:
    """Train in one process per device; what they learn is in the checkpoint afterwards."""
    context = torch.multiprocessing.get_context("spawn")
    line = _Line(context.SimpleQueue(), context.SimpleQueue())
    answering = threading.Thread(target=line.serve, args=(job.score,), daemon=True)
    answering.start()
    voice = {"log_format": console.log_format, "quiet": console.quiet, "run_id": console.run_id}
    try:
        _fabric(job, devices).launch(partial(_in_process, network=network, job=replace(job, score=line), voice=voice))
    except ProcessRaisedException:
        line.asked.put(None)
        answering.join()
        if line.errors:
            raise line.errors[0] from None
        raise
    line.asked.put(None)
    answering.join()


def _in_process(fabric: Any, network: Network, job: _Job, voice: Mapping[str, Any]) -> None:
    try:
        # What came through memory is shared with the other processes: each learns on a copy of its own.
        _train(fabric, copy.deepcopy(network), job, Console(**voice))
    except SkinkitError as error:
        job.score.asked.put(error)  # type: ignore[attr-defined]
        raise


@dataclass(frozen=True)
class _Line:
    """A line to the process that started the others: there the score is worked out, and errors are told.

    So a score may be any function, also one that could not be sent to another process.
    """

    asked: Any
    told: Any
    errors: list[Exception] = field(default_factory=list)

    def __call__(self, answers: Mapping[str, np.ndarray], rows: npt.NDArray[np.int64]) -> Mapping[str, float]:
        """Ask for a score and wait for it."""
        self.asked.put((answers, rows))
        reply = self.told.get()
        if isinstance(reply, Exception):
            raise reply
        return dict(reply)

    def serve(self, score: Score) -> None:
        """Answer until there is nothing more to answer."""
        while (question := self.asked.get()) is not None:
            if isinstance(question, Exception):
                self.errors.append(question)
                continue
            try:
                self.told.put(dict(score(*question)))
            except Exception as error:  # noqa: BLE001 - raised again by the one who asked, who would wait for ever
                self.errors.append(error)
                self.told.put(RuntimeError(f"{type(error).__name__}: {error}"))
