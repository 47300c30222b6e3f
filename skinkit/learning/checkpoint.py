"""Checkpoints of a training, written after every epoch and read when it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from skinkit.artifacts.files import digest, file_sha256, write_atomic
from skinkit.artifacts.tensors import check_tensors
from skinkit.console import Console
from skinkit.learning.state import Progress, State, TrainingJob, as_module
from skinkit.models.parts.protocol import Network, Phase

CHECKPOINT = "checkpoint.json"
FORMAT = 1


# ---------------------------------------------------------------------------------------------------- checkpoints
def save_checkpoint(module: Any, optimiser: torch.optim.Optimizer | None, progress: Progress, job: TrainingJob) -> None:
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
    about["sha256"] = digest(json.loads(json.dumps(about)))
    write_atomic(job.folder / CHECKPOINT, json.dumps(about, indent=1).encode())
    _forget(job.folder, but=[CHECKPOINT, *files.values()])


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    write_atomic(path, save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}))


def resumed(network: Network, job: TrainingJob, phases: Sequence[Phase], console: Console) -> Progress | None:
    """Go on from the checkpoint, the network's weights included; None where there is none to go on from."""
    if not (job.folder / CHECKPOINT).exists():
        _forget(job.folder)
        return None
    try:
        progress, state = _read(job)
        for phase in phases[: progress.phase + 1]:
            network.enter(phase.name)
        as_module(network).load_state_dict(state)
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


def _read(job: TrainingJob) -> tuple[Progress, State]:
    from safetensors.torch import load_file

    about = json.loads((job.folder / CHECKPOINT).read_text(encoding="utf-8"))
    if about.pop("sha256", None) != digest(about):
        raise _NotOursError(f"{CHECKPOINT} is damaged")
    if about["identity"] != job.identity:
        raise _NotOursError("it was made with another seed, other phases or other rows")
    files = {}
    for kind, (name, sha256) in about["files"].items():
        path = job.folder / Path(name).name
        if file_sha256(path) != sha256:
            raise _NotOursError(f"{path.name} is damaged")
        check_tensors(path)
        files[kind] = load_file(path)
    progress = Progress(**about["progress"])
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


def take_over(optimiser: torch.optim.Optimizer, saved: State) -> None:
    """Give the optimiser the tensors of a checkpoint, laid out in memory as its parameters are."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for key, value in saved.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        like = parameter if value.shape == parameter.shape and value.ndim else value
        optimiser.state[parameter][name] = torch.empty_like(like, device=parameter.device).detach().copy_(value)
