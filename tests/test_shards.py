"""Shares of an artifact worked out at the same time, as a Slurm array does, joined by the next plain run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_cohort
import written_artifacts
from conftest import run_here

from skinkit.artifacts.artifact import open_artifact, rehash
from skinkit.artifacts.builder import Share
from skinkit.artifacts.locks import lock
from skinkit.console import Console
from skinkit.errors import InputError
from skinkit.pipeline import Pipeline
from skinkit.workspace import Ref, Workspace, load_workspace

PHOTOS = 40


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with photos that were read and nothing else."""
    root = tmp_path_factory.mktemp("ward")
    small_cohort.make_ward(root, PHOTOS)
    (root / "ward" / "i03.png").write_bytes(b"no picture")
    answer = run_here("ingest", "-w", root, "--jobs", "1")
    assert answer.returncode == 3
    return root


def start(root: Path, share: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "skinkit", "segment", "-w", str(root), "--jobs", "1", "--json", "--shard", share]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_three_tasks_at_once_one_of_them_killed_make_what_one_run_makes(ward: Path) -> None:
    tasks = [start(ward, f"{n}/3") for n in (1, 2, 3)]
    partial = load_workspace(ward).path(Ref("masks", "ward", "otsu")).with_name("otsu.partial")
    deadline = time.monotonic() + 60
    while not partial.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    tasks[1].send_signal(signal.SIGKILL)
    tasks[1].communicate()
    tasks[1] = start(ward, "2/3")
    for task in tasks:
        said, _ = task.communicate(timeout=120)
        assert task.returncode == 0
        (share,) = json.loads(said)["shares"]
        assert share["counts"]["rows"] == PHOTOS // 3
    assert not list(partial.parent.glob(".*.lock"))

    joined = json.loads(run_here("segment", "-w", ward, "--jobs", "1", "--json").stdout)["steps"][-1]
    assert (joined["counts"]["rows"], joined["counts"]["kept"]) == (PHOTOS - 1, PHOTOS - 1)
    made = open_artifact(partial.with_name("otsu"))
    table = (made.path / "table.parquet").read_bytes()
    assert rehash(made) == []
    made.path.rename(ward / "away")
    assert run_here("segment", "-w", ward, "--jobs", "1").returncode == 0
    at_once = open_artifact(partial.with_name("otsu"))
    assert at_once.identity == made.identity
    assert (at_once.path / "table.parquet").read_bytes() == table


def shared(workspace: Workspace, stage: str, share: Share, **given: object) -> Pipeline:
    pipeline = Pipeline(workspace, Console(quiet=True), share=share, jobs=1)
    pipeline.make(stage, given, cohorts=["jinan"], name="logistic")
    return pipeline


def test_lesions_and_patients_are_joined_from_the_images_of_all_shares(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path, folds=1, patients=12, model="logistic")
    written_artifacts.run_stage(workspace, "train", model="logistic", radiomics="none")
    for stage, ref, each in (
        ("predict", Ref("predictions", "jinan", "logistic"), 4),
        ("explain", Ref("explanations", "jinan", "logistic"), 2),  # one photo of each of four lesions
    ):
        path = workspace.path(ref)
        written_artifacts.run_stage(workspace, stage, cohorts=["jinan"], name="logistic")
        whole = open_artifact(path)
        path.rename(tmp_path / stage)
        for number in (2, 1):
            (step,) = shared(workspace, stage, Share(number, 2)).shared
            assert step.counts.total == each
            assert not path.exists()
        written_artifacts.run_stage(workspace, stage, cohorts=["jinan"], name="logistic")
        assert open_artifact(path).identity == whole.identity
        assert open_artifact(path).manifest["counts"]["kept"] == 2 * each
        assert shared(workspace, stage, Share(1, 2)).shared == []  # nothing is left to do


def test_a_failure_is_told_by_the_run_that_joins(ward: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(ward), str(copy)], check=True)
    (copy / "ward" / "i05.png").write_bytes(b"no picture either")
    shares = [run_here("ingest", "-w", copy, "--jobs", "1", "--shard", f"{n}/2") for n in (1, 2)]
    assert [share.returncode for share in shares] == [0, 0]
    assert [run_here("ingest", "-w", copy, "--jobs", "1").returncode for _ in range(2)] == [3, 0]


def test_a_share_makes_no_input_and_waits_for_no_whole_run(ward: Path, tmp_path: Path) -> None:
    workspace = load_workspace(ward)
    with pytest.raises(InputError, match="--shard was given"):
        Pipeline(workspace, Console(quiet=True), share=Share(1, 2)).make("radiomics", {}, name="otsu2")
    with lock(workspace.path(Ref("cases", "ward"))):
        (ward / "ward" / "new.png").write_bytes(b"x")
        answer = run_here("ingest", "-w", ward, "--shard", "1/2", "--json")
    assert answer.returncode == 6
    assert "is being written by" in json.loads(answer.stdout)["error"]["found"]
