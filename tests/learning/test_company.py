"""Training by processes that torchrun or Slurm started: one leads, all learn, one artifact is written."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import small_cohort
import torch
import written_artifacts as written
from safetensors.torch import load_file

import skinkit
from skinkit.artifacts.artifact import open_artifact
from skinkit.learning.trained import NETWORK
from skinkit.workspace import Ref, Workspace

SETTINGS = (
    "backbone=squeezenet1_1",
    "side_px=32",
    "recipe.epochs=2",
    "recipe.steps=2",
    "recipe.batch=8",
    "recipe.learning_rate=0.05",
    "augment.flips=false",
)
# Without attributes the network has no BatchNorm, whose statistics are those of one process.
OF_A_PROCESS = {"reference_embedding", "steps_seen"}
"""Means over the photos that one process has seen."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_cohort.make(tmp_path_factory.mktemp("company") / "w", folds=1).root


def command(workspace: Workspace, name: str, *settings: str) -> list[str]:
    given = [part for setting in (*SETTINGS, *settings) for part in ("--settings", setting)]
    options = [
        "--model",
        "concat",
        "--name",
        name,
        "--weights",
        "none",
        "--precision",
        "fp32",
        "--no-upstream",
        "--attributes",
        "none",
    ]
    return ["-m", "skinkit", "train", "--workspace", str(workspace.root), *options, "--device", "cpu", *given]


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(skinkit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def free_port() -> int:
    with socket.socket() as open_socket:
        open_socket.bind(("127.0.0.1", 0))
        return int(open_socket.getsockname()[1])


def trained(workspace: Workspace, name: str) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    folder = open_artifact(workspace.path(Ref("models", name=name))).path / "fold_0"
    return load_file(folder / NETWORK), pd.read_parquet(folder / "history.parquet")


def nodes(workspace: Workspace, name: str, *settings: str) -> list[subprocess.Popen[str]]:
    """Two nodes of one process each, as two launchers would start them."""
    port, started = free_port(), []
    for rank in (0, 1):
        ranks: Mapping[str, Any] = {"RANK": rank, "WORLD_SIZE": 2, "GROUP_RANK": rank, "MASTER_PORT": port}
        own = {"LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", **ranks}
        started.append(
            subprocess.Popen(
                [sys.executable, *command(workspace, name, *settings), "--nodes", "2", "--json"],
                env=environment(**{key: str(value) for key, value in own.items()}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def test_two_processes_of_torchrun_learn_what_one_does_and_write_it_once(workspace: Workspace) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    run = subprocess.run(
        [*launch, *command(workspace, "together")], env=environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("models/together: train") <= 1
    alone: dict[str, Any] = {"model": "concat", "name": "alone", "weights": "none", "attributes": "none"}
    written.run_stage(workspace, "train", precision="fp32", settings=SETTINGS, **alone)
    (one, history), (both, history_of_both) = (trained(workspace, name) for name in ("alone", "together"))
    assert history_of_both["macro_auroc"].tolist() == pytest.approx(history["macro_auroc"].tolist(), abs=0.02)
    for name in one.keys() - OF_A_PROCESS:
        assert torch.allclose(one[name], both[name], atol=1e-5), name
    assert not (workspace.path(Ref("models", name="together")).with_name("together.partial")).exists()


@pytest.mark.slow
def test_a_lost_node_is_told_and_the_same_command_goes_on(workspace: Workspace) -> None:
    first, second = nodes(workspace, "together", "recipe.epochs=40")
    checkpoint = workspace.path(Ref("models", name="together")).with_name("together.partial") / "fold_0.checkpoint"
    give_up = time.monotonic() + 300
    while not (checkpoint / "checkpoint.json").exists() and first.poll() is None and time.monotonic() < give_up:
        time.sleep(0.1)
    second.send_signal(signal.SIGKILL)
    out, said = first.communicate(timeout=300)
    second.communicate()
    assert first.returncode == 4, said
    assert "another process of the training was lost" in json.loads(out)["error"]["found"]
    epoch = json.loads((checkpoint / "checkpoint.json").read_text())["progress"]["epoch"]
    assert epoch >= 1
    again = nodes(workspace, "together", "recipe.epochs=40")
    spoken = [process.communicate(timeout=600) for process in again]
    assert [process.returncode for process in again] == [0, 0], spoken
    assert f"going on after epoch {epoch}" in spoken[0][1]
    assert len(trained(workspace, "together")[1]) == 40


@pytest.mark.parametrize(("option", "started"), [("--nodes", {}), ("--devices", {"WORLD_SIZE": "2"})])
def test_numbers_that_were_not_started_are_refused(
    workspace: Workspace, option: str, started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from skinkit.cli import main

    ranks = {"RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in {**ranks, **started}.items() if started else ():
        monkeypatch.setenv(name, value)
    _, _, *arguments = command(workspace, "together")
    assert main([*arguments, option, "3"]) == 2
