"""One network, trained from pretrained weights (or, when asked for, from random numbers) and written to a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skinkit.artifacts.files import write_atomic
from skinkit.console import Console
from skinkit.errors import ConfigError, listed
from skinkit.figures.training import learning_curve
from skinkit.learning.precision import Arithmetic
from skinkit.learning.trained import NETWORK, present_tensors
from skinkit.models.parts.protocol import TEACHER, Network, Objective, Sizes
from skinkit.models.parts.weights import Start, load_into

if TYPE_CHECKING:
    from skinkit.learning.examples import Examples
    from skinkit.learning.rows import DevelopmentRows, Replay

HISTORY, CURVE, CHECKPOINT = "history.parquet", "curve.png", ".checkpoint"
SNAPSHOTS = "snapshots.json"
"""What the network kept of stages of its training, where its phases ask for that."""
BESIDE = (HISTORY, CURVE)
"""Files of a fold that record its course and do not enter its identity (they hold seconds)."""

Score = Callable[[Mapping[str, np.ndarray], np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Runtime:
    """Where and how training runs; none of it is a matter of the model.

    Attributes:
        seed: of weights, order and variation.
        device: ``cpu`` or ``cuda``.
        arithmetic: of its steps and of its answers.
        devices: GPUs at once.
        console: messages and progress.
    """

    seed: int
    device: str
    arithmetic: Arithmetic
    devices: int
    console: Console

    @property
    def passes(self) -> dict[str, Any]:
        """Arguments of the forward passes of ``skinkit.learning.forward``."""
        return {"device": self.device, "console": self.console}


def train(
    model: type[Network],
    settings: Any,
    sizes: Sizes,
    examples: Examples,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    score: Score | None,
    *,
    start: Start,
    training: Runtime,
    folder: Path,
    strata: np.ndarray | None = None,
    checkpoint: Path | None = None,
    objective: Objective | None = None,
    replay: Replay | None = None,
) -> tuple[Network, dict[str, Any]]:
    """Build, start, fit and write a network; :func:`forget` its checkpoint when everything made of it is safe.

    Args:
        model: the model's class.
        settings: its ``Config``.
        sizes: what it is built for.
        examples: all cases.
        train_rows: positions it learns from.
        validation_rows: positions that choose the epoch.
        score: answers and positions of the validation rows -> figures, the first decides; None: the loss on these
            rows decides.
        start: pretrained weights.
        training: where and how.
        folder: where its files go; a killed run left its checkpoint beside it.
        strata: (n,) of all cases, what a phase balances its draws over; the classes by default.
        replay: rows of an earlier training that are drawn beside the training rows.
        checkpoint: a name, beside that of the folder, for the checkpoint; the folder's by default.
        objective: what a step makes small; the network's own by default.

    Returns:
        The network with its best weights, and what ``fold.json`` says of the training.
    """
    import torch

    from skinkit.learning.loop import fit

    torch.manual_seed(training.seed)
    network = model.build(settings, sizes)
    network.answers_in = training.arithmetic.answers
    source = _started(network, start)
    chosen = objective or network.objective()
    _refuse_lacking(network, chosen, examples)
    parameters = sum(p.numel() for p in network.parameters())
    training.console.info(f"    {parameters:,} parameters, which start from {source}")
    chosen.prepare(network, {name: values.shape[1] for name, values in examples.beside.items()})
    trained = fit(
        network,
        examples,
        train_rows,
        validation_rows,
        score,
        seed=training.seed,
        devices=training.devices,
        precision=training.arithmetic.training,
        folder=_checkpoint(checkpoint or folder),
        **training.passes,
        label=(checkpoint or folder).name,
        strata=strata,
        objective=objective,
        replay=replay,
    )
    chosen.finish(network)
    write_state(folder / NETWORK, network.state_dict())
    history = pd.DataFrame(trained.history)
    history.to_parquet(folder / HISTORY, index=False)
    if trained.snapshots:
        write_atomic(folder / SNAPSHOTS, json.dumps(trained.snapshots, ensure_ascii=False).encode())
    write_atomic(folder / CURVE, learning_curve(trained.history))
    precision = training.arithmetic.as_dict()
    return network, {
        "starts_from": source, "parameters": parameters, "precision": precision, "best": _best(trained.best)
    }  # fmt: skip


def _refuse_lacking(network: Network, objective: Objective, examples: Examples) -> None:
    """Refuse, with :class:`ConfigError`, a loss that reads what no other model was named for."""
    read = {*objective.reads(), *({TEACHER} & {*network.READS})}
    if lacking := sorted(read - {*examples.beside}):
        raise ConfigError(
            f"a loss that reads {listed(lacking)}",
            "the trained model that answers it",
            f"give --{TEACHER} NAME, and --objective where the loss reads more than its answers",
        )


def with_replay(rows: np.ndarray, replay: Replay | None) -> np.ndarray:
    """Rows that a network learns from, with those of an earlier training that it draws again, in order."""
    return rows if replay is None else np.sort(np.concatenate([rows, np.array(replay.rows, dtype=rows.dtype)]))


def _started(network: Network, start: Start) -> str:
    """Give a network the weights it starts from, and say which."""
    if start.file is None:
        return "random numbers"
    state = start.state()
    if not start.whole:
        return network.start(state, start.source)
    load_into(network, present_tensors(state, network.FORMER_TENSORS), start.source)
    return f"all weights of {start.source}"


def write_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write tensors under their names, in alphabetical order."""
    from safetensors.torch import save

    write_atomic(file, save({name: value.detach().cpu().contiguous() for name, value in sorted(state.items())}))


def write_fold(folder: Path, fold: int, rows: DevelopmentRows, course: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``fold.json`` of a network that is not calibrated, forget its checkpoints, and count its rows by part."""
    about = {"fold": fold, **{f"n_{part}": len(rows.part(fold, part)) for part in ("train", "validation", "held_out")}}
    write_atomic(folder / "fold.json", json.dumps({**about, **course}, indent=1, ensure_ascii=False).encode())
    forget(folder)
    return about


def forget(folder: Path) -> None:
    """Remove the checkpoints of what was trained into a folder, ``NAME.checkpoint`` and ``NAME.*.checkpoint``."""
    for checkpoint in folder.parent.glob(f"{folder.name}.*{CHECKPOINT.removeprefix('.')}"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _checkpoint(folder: Path) -> Path:
    return folder.with_name(folder.name + CHECKPOINT)


def _best(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the history as it enters the model's identity: without seconds, and nothing for what is no number."""
    return {name: None if value != value else value for name, value in row.items() if name != "seconds"}
