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
from skinkit.figures.training import learning_curve
from skinkit.learning import forward
from skinkit.learning.trained import NETWORK
from skinkit.models.parts.protocol import Network, Sizes
from skinkit.models.parts.weights import Start, read_state

if TYPE_CHECKING:
    from skinkit.learning.examples import Examples
    from skinkit.learning.rows import DevelopmentRows

HISTORY, CURVE, CHECKPOINT = "history.parquet", "curve.png", ".checkpoint"
SNAPSHOTS = "snapshots.json"
"""What the network kept of stages of its training, where its phases ask for that."""
BESIDE = (HISTORY, CURVE)
"""Files of a fold that tell how it went and do not enter its identity (they hold seconds)."""

Score = Callable[[Mapping[str, np.ndarray], np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Training:
    """Where and how training runs; none of it is a matter of the model.

    Attributes:
        seed: of weights, order and variation.
        device: ``cpu`` or ``cuda``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        devices: GPUs at once.
        console: messages and progress.
    """

    seed: int
    device: str
    precision: str
    devices: int
    console: Console

    @property
    def passes(self) -> dict[str, Any]:
        """Arguments of the forward passes of ``skinkit.learning.forward``."""
        return {"device": self.device, "precision": self.precision, "console": self.console}


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
    training: Training,
    folder: Path,
    strata: np.ndarray | None = None,
    checkpoint: Path | None = None,
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
        checkpoint: a name, beside that of the folder, for the checkpoint; the folder's by default.

    Returns:
        The network with its best weights, and what ``fold.json`` says of the training.
    """
    import torch

    from skinkit.learning.loop import fit

    torch.manual_seed(training.seed)
    network = model.build(settings, sizes)
    source = "random numbers" if start.file is None else network.start(read_state(start.file), start.source)
    parameters = sum(p.numel() for p in network.parameters())
    training.console.info(f"    {parameters:,} parameters, which start from {source}")
    _prepare(network, examples, train_rows, training)
    trained = fit(
        network,
        examples,
        train_rows,
        validation_rows,
        score,
        seed=training.seed,
        devices=training.devices,
        folder=_checkpoint(checkpoint or folder),
        **training.passes,
        label=(checkpoint or folder).name,
        strata=strata,
    )
    write_state(folder / NETWORK, network.state_dict())
    history = pd.DataFrame(trained.history)
    history.to_parquet(folder / HISTORY, index=False)
    if trained.snapshots:
        write_atomic(folder / SNAPSHOTS, json.dumps(trained.snapshots, ensure_ascii=False).encode())
    write_atomic(folder / CURVE, learning_curve(trained.history))
    return network, {"starts_from": source, "parameters": parameters, "best": _best(trained.best)}


def refit(network: Network, examples: Examples, rows: np.ndarray, training: Training, folder: Path) -> None:
    """Work out anew, from more rows, what a trained network has from its tables, and write it again.

    Args:
        network: has learnt; nothing happens to one that works nothing out beforehand.
        examples: all cases.
        rows: positions.
        training: where and how.
        folder: where its files are.
    """
    if _prepare(network.cpu(), examples, rows, training):
        write_state(folder / NETWORK, network.state_dict())


def _prepare(network: Network, examples: Examples, rows: np.ndarray, training: Training) -> bool:
    """Fit what a network fits to its tables; whether there is such a thing."""
    tables = {name: values[rows] for name, values in examples.arrays.items()}
    frozen = network.frozen_part()
    if frozen is not None:
        tables["frozen"] = _frozen_features(frozen, examples, training)[rows]
    return network.prepare(tables, None if examples.classes is None else examples.classes[rows])


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


def _frozen_features(frozen: Any, examples: Examples, training: Training) -> np.ndarray:
    """(n, width) what the part that is not trained makes of all photos; the same for every fold, so made once."""
    if examples.frozen_features is None:
        label = "reading photos with the frozen backbone"
        features = forward.answers(frozen, examples, range(len(examples)), label=label, **training.passes)
        examples.keep_frozen_features(features["frozen"])
    assert examples.frozen_features is not None
    return examples.frozen_features


def forget(folder: Path) -> None:
    """Remove the checkpoints of what was trained into a folder, ``NAME.checkpoint`` and ``NAME.*.checkpoint``."""
    for checkpoint in folder.parent.glob(f"{folder.name}.*{CHECKPOINT.removeprefix('.')}"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _checkpoint(folder: Path) -> Path:
    return folder.with_name(folder.name + CHECKPOINT)


def _best(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the history as it enters the model's identity: without seconds, and nothing for what is no number."""
    return {name: None if value != value else value for name, value in row.items() if name != "seconds"}
