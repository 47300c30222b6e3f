"""The training loop: runs the phases of a network on the CPU, one GPU or several, and resumes after any epoch.

A network defines its own loss and phases (:mod:`skinkit.models`), and an objective beside it may take the loss's place
(:mod:`skinkit.models.parts.objectives`); this module treats all networks alike.

**Choice of weights.** Each phase keeps the epoch with the best validation score (``Phase.candidates`` limits the choice
to its last epochs), and the next phase starts from it. The network ends with the weights of the last phase. Without
validation rows the last epoch is kept. A phase with ``Phase.averaged`` keeps the mean of its weights over its last
steps instead, one with ``Phase.ema`` the moving mean over all steps. The BatchNorm statistics belong to the weights
before averaging, so those of the layers in training are re-estimated, on training pictures without augmentation,
because inference sees none. If ``patience`` ends such a phase
before averaging starts, the best epoch is kept.

**Repeatability.** The order of rows, the augmentation and torch's random numbers of an epoch depend only on
(seed, phase, epoch), so a checkpoint holds no random state. On the CPU, a run that is killed and resumed from its last
complete epoch ends with the same bytes as an uninterrupted one.

**Checkpoint.** ``checkpoint.json`` is written last, by renaming; it lists its safetensors files with their SHA-256.
The best weights have their own file, which is written only when they change. A checkpoint that is damaged or belongs to
another run (seed, phases, rows or shapes differ) is ignored with a warning.

**Several GPUs, several nodes.** One process per GPU trains on its share of every batch, and gradients are averaged. The
first process validates, writes files and logs. How the others come by network and examples, and who computes the score,
is said in :mod:`skinkit.learning.processes`.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from skinkit.artifacts.files import digest
from skinkit.console import Console, Tick
from skinkit.errors import CaseError, ConfigError, InputError
from skinkit.learning import forward
from skinkit.learning.augment import augment
from skinkit.learning.cached_maps import CachedMaps
from skinkit.learning.checkpoint import FORMAT, resumed, save_checkpoint, take_over
from skinkit.learning.examples import Examples, RowIndices, as_input
from skinkit.learning.memory import keep_freed
from skinkit.learning.precision import answers_in, autocast
from skinkit.learning.processes import company_size, in_company, in_processes, make_fabric
from skinkit.learning.rows import Replay
from skinkit.learning.schedule import (
    OPTIMISERS,
    SCHEDULES,
    add_to_average,
    groups_of,
    optimiser_of,
    plateau_factor,
    rate_share,
    seed_at,
    steps_per_epoch,
)
from skinkit.learning.state import OWN, VALIDATION_LOSS, Progress, Score, TrainingJob, as_module, deciding
from skinkit.models.parts.protocol import Augment, Network, Objective, Phase
from skinkit.models.parts.weights import copied_state

_STATISTICS_BATCHES = 200
"""Maximum number of training batches for estimating BatchNorm statistics."""


@dataclass(frozen=True)
class Trained:
    """The result of training, besides the network's weights.

    Attributes:
        history: one row per epoch: ``phase``, ``epoch``, ``learning_rate``, ``train_loss``, the figures of ``score``,
            ``seconds`` and ``kept`` (whether the phase kept the weights of this epoch). Averaged weights have a row of
            their own, whose ``train_loss`` is NaN.
        best: the row whose weights the network holds.
        snapshots: results of ``Network.snapshot``, with ``phase`` and ``epoch``; its cases are named by the hash of
            their pixels.
    """

    history: list[dict[str, Any]]
    best: dict[str, Any]
    snapshots: list[dict[str, Any]] = field(default_factory=list)


def fit(
    network: Network,
    examples: Examples,
    train_rows: RowIndices,
    validation_rows: RowIndices,
    score: Score | None,
    *,
    seed: int,
    device: str,
    precision: str = "fp32",
    devices: int = 1,
    folder: Path,
    console: Console,
    label: str = "training",
    strata: npt.NDArray[np.int64] | None = None,
    objective: Objective | None = None,
    replay: Replay | None = None,
) -> Trained:
    """Train a network in place; afterwards it is on the CPU and holds the kept weights.

    Args:
        network: with its initial weights.
        examples: the inputs of all rows.
        train_rows: rows to train on; unreadable ones are left out with a warning.
        validation_rows: rows that decide which epoch is kept and when to stop; may be empty.
        score: function of the answers on the validation rows; None for a network that answers nothing, whose loss on
            these rows decides.
        seed: on the CPU it determines the result, together with the rows and the initial weights.
        device: ``cpu`` or ``cuda``.
        precision: of the steps, ``fp32`` or ``bf16``; answers are computed in the network's own (``answers_in``).
        devices: number of processes, one per GPU; on the CPU more than one is useful only for tests.
        folder: of the checkpoint, from which a killed run resumes. The caller removes it once the result is saved.
        console: shows one progress bar over all steps and a line per epoch.
        label: name of the run in these messages.
        strata: (n,) stratum of every row of ``examples``, for phases that balance their draws; default: the classes.
        objective: what a step makes small; default: the network's own.
        replay: rows of an earlier training that are drawn beside the training rows; unreadable ones are left out.

    Raises:
        InputError: too few training rows, a loss that is not finite, too little memory, or a
            photo that became unreadable.
        ConfigError: a phase has invalid settings.
    """
    keep_freed()
    train = _readable(examples, train_rows, "training", console)
    validation = _readable(examples, validation_rows, "validation", console)
    phases = network.phases()
    strata = examples.classes if strata is None else np.asarray(strata, np.int64)
    together = company_size()  # started by torchrun or Slurm; else one process per device is started here
    _check(phases, train, max(devices, together), strata is not None, (objective or network.objective()).COPIES)
    # A checkpoint is resumed only by a run with the same identity.
    rows = [examples.fingerprint(part) for part in (train, validation)]
    row_strata = tuple(int(strata[row]) for row in train) if strata is not None else ()
    if replay is not None:
        again = _readable(examples, replay.rows, "replayed", console)
        replay = replace(replay, rows=again, strata=tuple(int(strata[r]) for r in again) if strata is not None else ())
        rows.append(digest([replay.share, replay.strata, examples.fingerprint(again)]))
    chosen = objective or network.objective()
    named = [] if type(chosen) is Objective else [type(chosen).__name__, asdict(chosen)]
    identity = digest([FORMAT, seed, [asdict(phase) for phase in phases], rows, row_strata, *named])
    job = TrainingJob(
        examples,
        train,
        validation,
        score or _no_figures,
        seed,
        device,
        precision,
        Path(folder),
        label,
        identity,
        row_strata,
        scored_by_loss=score is None,
        objective=chosen,
        replay=replay,
    )
    if not validation and not (phases[-1].averaged or phases[-1].ema):
        falls = phases[-1].schedule in ("cosine", "one_cycle")  # such schedules are meant to run to the end
        say = console.info if falls else console.warn
        say(f"  {label}: no validation rows, so the last epoch is kept")
    if together > 1:
        in_company(train_phases, network, job, console)
    elif devices > 1:
        in_processes(train_phases, network, job, devices, console)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device == "cuda" else ()):
        # After training in several processes this only loads the weights of their finished checkpoint.
        progress = train_phases(make_fabric(job, 1), network, job, console)
    as_module(network).to("cpu")
    best = next(row for row in reversed(progress.history) if row["kept"])
    return Trained(progress.history, best, progress.snapshots)


def _no_figures(answers: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64]) -> Mapping[str, float]:
    return {}


def _readable(examples: Examples, rows: RowIndices, name: str, console: Console) -> tuple[int, ...]:
    with console.progress(len(rows), f"reading {name} photos") as tick:
        failed = examples.unreadable(rows, tick)
    for reason in sorted({error.reason for error in failed.values()}):
        n = sum(error.reason == reason for error in failed.values())
        console.warn(f"{n} {name} cases are left out: {reason}")
    return tuple(int(row) for row in rows if int(row) not in failed)


def _check(phases: Sequence[Phase], train: Sequence[int], devices: int, stratified: bool, copies: int) -> None:
    if len(train) < 2 * devices:
        raise InputError(
            f"{len(train)} readable training cases", f"at least {2 * devices}", "add cases, or draw another split"
        )
    if not phases:
        raise ConfigError("a network without phases", "at least one", "let its phases() answer one")
    for phase in phases:
        if phase.optimiser not in OPTIMISERS:
            raise ConfigError(f"optimiser {phase.optimiser!r}", f"one of {', '.join(OPTIMISERS)}", "correct the phase")
        if phase.schedule not in SCHEDULES:
            raise ConfigError(f"schedule {phase.schedule!r}", f"one of {', '.join(SCHEDULES)}", "correct the phase")
        if not 0 <= phase.balanced <= 1 or (phase.balanced and not stratified):
            raise ConfigError(
                f"phase {phase.name!r}: {phase.balanced:g} of the draws balanced"
                + ("" if stratified else ", and rows of no known class or stratum"),
                "a share from 0 to 1, and classes or strata to balance",
                "leave class_aware out of --settings, or give a share",
            )
        if phase.cached_views and (devices > 1 or copies > 1):
            raise ConfigError(
                f"phase {phase.name!r}: cached_views = {phase.cached_views}, "
                + (f"{devices} devices" if devices > 1 else f"{copies} copies of each photo in a step"),
                "one device, and one view of a photo in a step",
                "give --settings recipe.cached_views=0",
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
def train_phases(fabric: Any, network: Network, job: TrainingJob, console: Console) -> Progress:
    """Run all phases, starting from the checkpoint if there is one; every process runs this."""
    if fabric.global_rank:
        console = Console(quiet=True, stream=io.StringIO())
    module = as_module(network).to(fabric.device, memory_format=torch.channels_last)
    phases = network.phases()
    progress = resumed(network, job, phases, console) or Progress()
    if progress.done:
        return progress
    left = sum(p.epochs * steps_per_epoch(p, job, fabric.world_size) for p in phases[progress.phase :])
    left -= progress.epoch * steps_per_epoch(phases[progress.phase], job, fabric.world_size)
    with console.progress(left, job.label) as tick:
        for index in range(progress.phase, len(phases)):
            progress.phase = index
            _run_phase(fabric, network, job, progress, phases[index], tick, console)
            progress.epoch = progress.since_best = progress.averaged = progress.best_epoch = 0
            progress.best_score, progress.best, progress.average, progress.optimiser = -math.inf, {}, {}, {}
    progress.done = True
    if fabric.global_rank == 0:
        save_checkpoint(module, None, progress, job)
    fabric.barrier()
    return progress


def _run_phase(
    fabric: Any, network: Network, job: TrainingJob, progress: Progress, phase: Phase, tick: Tick, console: Console
) -> None:
    module = as_module(network)
    network.enter(phase.name)
    whole, job = job, _with_cached_maps(network, job, progress, phase, console)
    if not progress.phase and not progress.epoch:
        job.examples.show(0)
        rows = [job.train[start : start + phase.batch] for start in range(0, len(job.train), phase.batch)]
        network.measure(as_input(batch, fabric.device) for batch in job.examples.batches(rows))
    optimiser = optimiser_of(module, phase)
    highest = [group["lr"] for group in optimiser.param_groups]
    take_over(optimiser, progress.optimiser)
    model, wrapped = fabric.setup(_Step(network, job.objective), optimiser)
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
                progress.snapshots.append(_snapshot(network, whole, progress, phase))
            save_checkpoint(module, optimiser, progress, job)
        fabric.barrier()
    _conclude(fabric, network, job, progress, phase, console)


def _with_cached_maps(
    network: Network, job: TrainingJob, progress: Progress, phase: Phase, console: Console
) -> TrainingJob:
    """A job that reads what the frozen stages answer, where the phase asks for it."""
    if not phase.cached_views:
        return job
    examples = CachedMaps.of(network, job, phase, progress.phase, answers_in(network, job.device), console)
    return replace(job, examples=examples)


def _epoch(
    fabric: Any,
    model: Any,
    optimiser: Any,
    highest: Sequence[float],
    job: TrainingJob,
    progress: Progress,
    phase: Phase,
    tick: Tick,
) -> float:
    """Train for one epoch; returns the mean loss per case."""
    place = (job.seed, progress.phase, progress.epoch, fabric.global_rank)
    torch.manual_seed(seed_at(*place, 1))
    generator = torch.Generator().manual_seed(seed_at(*place, 2))
    groups = groups_of(
        job.train, phase, (job.seed, progress.phase, progress.epoch), fabric.world_size, job.strata, job.replay
    )
    job.examples.show(progress.epoch)
    fallen = plateau_factor(phase, progress, max(highest))
    if fabric.world_size > 1:  # losses differ between processes; the learning rate must not
        fallen = float(fabric.broadcast(fallen))
    step, last = (progress.epoch - 1) * len(groups), phase.epochs * len(groups)
    total = cases = 0.0
    model.train()
    try:
        for batch in job.examples.batches([group[fabric.global_rank :: fabric.world_size] for group in groups]):
            inputs = _varied(job, batch, fabric.device, phase.augment, generator)
            for group, rate in zip(optimiser.param_groups, highest, strict=True):
                group["lr"] = rate * fallen * rate_share(phase, step, last, max(highest))
            optimiser.zero_grad(set_to_none=True)
            loss = model(inputs)
            fabric.backward(loss)
            if phase.clip:
                fabric.clip_gradients(model, optimiser, max_norm=phase.clip, error_if_nonfinite=False)
            optimiser.step()
            value, step = float(loss.detach()), step + 1
            if not math.isfinite(value):
                raise _diverged(phase, progress, value)
            if phase.ema or step > last * (1 - phase.averaged):
                add_to_average(progress, model.module.network, phase.ema)
            n = len(next(iter(batch.values())))
            total, cases = total + value * n, cases + n
            tick()
    except CaseError as error:
        raise InputError(
            f"a training photo became unreadable during training ({error.reason}: {error.detail})",
            "photos that do not change during training",
            "run 'skinkit ingest', then the same command again",
        ) from None
    except RuntimeError as error:
        if not forward.out_of_memory(error):
            raise
        raise InputError(
            f"not enough memory on {job.device} for a step with {phase.batch} cases",
            "enough memory for the network, its gradients and one batch",
            f"give --settings batch={max(2, phase.batch // 2)}, a smaller side_px, or another --device",
        ) from None
    return total / cases


class _Step(torch.nn.Module):
    """The objective of a step as a module, because several processes share the gradients of a module's forward pass."""

    def __init__(self, network: Network, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, batch: Mapping[str, torch.Tensor]) -> Any:
        return self.objective.loss(self.network, batch)


def _varied(
    job: TrainingJob, batch: Mapping[str, torch.Tensor], device: Any, how: Augment, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """A batch as the objective reads it: so many copies of each row as it asks for, each varied in its own way."""
    copies = job.objective.COPIES
    inputs = as_input(batch, device)
    if copies > 1:
        inputs = {name: torch.cat([values] * copies) for name, values in inputs.items()}
    return augment(inputs, how, generator, copies=copies)


def _diverged(phase: Phase, progress: Progress, value: float) -> InputError:
    return InputError(
        f"the loss became {value} in phase {phase.name!r}, epoch {progress.epoch}",
        "a finite number",
        "lower the learning rate in --settings, set a gradient clip, or train with --precision fp32",
    )


def _validated(fabric: Any, network: Network, job: TrainingJob, console: Console) -> dict[str, float]:
    """The figures of the validation rows, computed by the first process and broadcast to the others."""
    figures: dict[str, float] = {}
    if job.validation and fabric.global_rank == 0 and job.scored_by_loss:
        figures = {VALIDATION_LOSS: _validation_loss(network, job)}
    elif job.validation and fabric.global_rank == 0:
        quiet = Console(quiet=True, stream=console.stream)
        answers = forward.answers(network, job.examples, job.validation, device=job.device, console=quiet)
        figures = {name: float(value) for name, value in job.score(answers, np.array(job.validation)).items()}
    return dict(fabric.broadcast(figures)) if fabric.world_size > 1 else figures


def _validation_loss(network: Network, job: TrainingJob) -> float:
    """The mean loss per validation row, in eval mode; what it draws at random is the same in every epoch.

    Photos are as they are, but where the objective compares varied copies of them.
    """
    as_module(network).eval()
    how = network.phases()[-1].augment if job.objective.COPIES > 1 else Augment(flips=False)
    generator = torch.Generator().manual_seed(seed_at(job.seed, 0, 0, 0, 2))
    size = max(phase.batch for phase in network.phases())
    # Of even sizes, because some losses compare the cases of a batch and mean nothing for a last one left over.
    groups = np.array_split(np.array(job.validation), math.ceil(len(job.validation) / size))
    total = 0.0
    torch.manual_seed(seed_at(job.seed, 0, 0, 0, 1))
    with torch.no_grad(), autocast(job.device, job.precision):
        for group, batch in zip(groups, job.examples.batches(groups), strict=True):
            inputs = _varied(job, batch, job.device, how, generator)
            total += float(job.objective.loss(network, inputs)) * len(group)
    return total / len(job.validation)


def _snapshot(network: Any, job: TrainingJob, progress: Progress, phase: Phase) -> dict[str, Any]:
    """The network's snapshot of this epoch, with cases identified by their pixel hash."""
    as_module(network).eval()
    rows = job.validation
    groups = [rows[start : start + phase.batch] for start in range(0, len(rows), phase.batch)]
    snapshot = network.snapshot(as_input(batch, job.device) for batch in job.examples.batches(groups))
    for case in snapshot.get("cases", ()):
        case["pixel_sha256"] = job.examples.photos[rows[case.pop("index")]].pixel_sha256
    return {"phase": phase.name, "epoch": progress.epoch, **snapshot}


def _compare(module: Any, job: TrainingJob, progress: Progress, phase: Phase, row: Mapping[str, Any]) -> None:
    """Keep this epoch's weights if they are the best of the phase so far; without validation rows the last are best."""
    if progress.epoch == math.floor(phase.epochs * (1 - phase.candidates)) + 1:
        progress.best_epoch = 0  # epochs before the candidates count only if patience ends the phase early
    value = deciding(row) if job.validation else float(row["epoch"])
    if value > progress.best_score or progress.best_epoch == 0:
        progress.best_score = value if math.isfinite(value) else -math.inf
        progress.best_epoch, progress.since_best = int(row["epoch"]), 0
        progress.best = copied_state(module)
    else:
        progress.since_best += 1


def _conclude(
    fabric: Any, network: Network, job: TrainingJob, progress: Progress, phase: Phase, console: Console
) -> None:
    """Load the phase's final weights into the network: the average, or the best epoch."""
    module = as_module(network)
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
        mean = "moving mean of" if phase.ema else "mean of the last"
        console.info(_line(job, phase, row, f"{mean} {progress.averaged} steps"))


def _estimate_statistics(fabric: Any, network: Network, job: TrainingJob, progress: Progress, phase: Phase) -> None:
    """Re-estimate the statistics of BatchNorm layers in training mode, as means over training batches."""
    module = as_module(network)
    module.train()
    kinds = torch.nn.modules.batchnorm._BatchNorm
    layers = [layer for layer in module.modules() if isinstance(layer, kinds) and layer.training]
    layers = [layer for layer in layers if layer.running_mean is not None]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # None selects torch's cumulative mean
    torch.manual_seed(seed_at(job.seed, progress.phase, 0, 0, 1))
    groups = groups_of(job.train, phase, (job.seed, progress.phase, 0), 1, job.strata, job.replay)
    groups = groups[:_STATISTICS_BATCHES]
    generator = torch.Generator()
    job.examples.show(0)
    with torch.no_grad(), autocast(job.device, job.precision):
        for batch in job.examples.batches(groups):
            job.objective.loss(network, _varied(job, batch, fabric.device, Augment(flips=False), generator))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _line(job: TrainingJob, phase: Phase, row: Mapping[str, Any], what: str = "") -> str:
    figures = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.items() if name not in OWN]
    loss = [] if what else [f"loss {row['train_loss']:.4g}"]
    values = ", ".join([*loss, *figures, f"{row['seconds']:.0f} s"])
    what = what or f"epoch {row['epoch']}/{phase.epochs}"
    return f"  {job.label}, {phase.name}, {what}: {values}"
