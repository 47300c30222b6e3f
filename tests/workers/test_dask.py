"""The executor on a Dask cluster of separate processes: the same rows, and workers and schedulers that die."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small_cohort
import test_workers
from conftest import run_here, run_skinkit

from skinkit.artifacts.artifact import open_artifact
from skinkit.errors import ConfigError, InputError
from skinkit.workers import Cluster, map_cases
from skinkit.workers import dask as dask_workers
from skinkit.workspace import Ref, load_workspace

distributed = pytest.importorskip("distributed", reason="NO DASK: 'pip install skinkit[cluster]' to run these tests")
PHOTOS = 120
QUICK = {
    "distributed.worker.memory.terminate": False,
    "distributed.nanny.environ": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with three workers, each a process of its own."""
    import dask

    with (
        dask.config.set(QUICK),
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as cluster,
    ):
        yield cluster.scheduler_address
        dask_workers.Connection.close()


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose photos are read, outlined and measured by one process."""
    root = tmp_path_factory.mktemp("ward")
    small_cohort.make_ward(root, PHOTOS)
    assert run_here("radiomics", "-w", root, "--jobs", "1").returncode == 0
    return root


def again(ward: Path, folder: Path) -> Path:
    """A copy of the workspace whose lesions are still to be measured."""
    copy = folder / "again"
    shutil.copytree(ward, copy, copy_function=shutil.copy2)
    shutil.rmtree(features(copy))
    return copy


def features(root: Path) -> Path:
    return load_workspace(root).path(Ref("features", "ward", "otsu"))


def table(root: Path) -> bytes:
    return (features(root) / "table.parquet").read_bytes()


def begun(root: Path, *arguments: str, cases: int = 3) -> subprocess.Popen[bytes]:
    """A run that is held after so many cases, the last of which may not be written yet; SIGCONT lets it go on.

    It waits at a full pipe, of a page, until its lines are read: so it cannot be done before it is held.
    """
    command = [sys.executable, "-m", "skinkit", "radiomics", "-w", str(root), "--log-format", "json", "--json"]
    run = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert run.stderr is not None
    fcntl.fcntl(run.stderr, fcntl.F_SETPIPE_SZ, os.sysconf("SC_PAGE_SIZE"))
    while cases:
        cases -= json.loads(run.stderr.readline())["event"] == "case"
    run.send_signal(signal.SIGSTOP)
    return run


def worker_pids(address: str) -> list[int]:
    with distributed.Client(address, set_as_default=False) as client:
        return list(client.run(os.getpid).values())


def test_the_rows_are_those_of_processes(address: str) -> None:
    cluster = Cluster.of(address, {}, "here")
    items = test_workers.items(1, 2, 3, 4, 7, 8, 9)
    here = list(map_cases(test_workers.double, items, key=("id",), jobs=1))
    there = list(map_cases(test_workers.double, items, key=("id",), cluster=cluster))
    assert sorted(there, key=lambda row: row["id"]) == sorted(here, key=lambda row: row["id"])


def test_a_case_that_kills_its_worker_is_tried_twice_and_the_others_survive(address: str) -> None:
    cluster = Cluster.of(address, {}, "here")
    items = test_workers.items(1, 2, 5, 7, 8, 9)
    rows = {row["id"]: row for row in map_cases(test_workers.double, items, key=("id",), cluster=cluster)}
    assert (rows["i5"]["status"], rows["i5"]["reason"]) == ("failed", "worker_died")
    assert {rows[f"i{n}"]["twice"] for n in (1, 2, 7, 8, 9)} == {2, 4, 14, 16, 18}


def test_a_case_that_hangs_ends_at_its_limit_and_the_others_survive(address: str) -> None:
    cluster = Cluster.of(address, {}, "here")
    items = test_workers.items(1, 3, 2, 4)
    rows = {row["id"]: row for row in map_cases(test_workers.deaf, items, key=("id",), cluster=cluster, limit_s=1)}
    assert (rows["i3"]["status"], rows["i3"]["reason"]) == ("failed", "timeout")
    assert {rows[f"i{n}"]["twice"] for n in (1, 2, 4)} == {2, 4, 8}


def test_an_error_of_the_whole_run_ends_it_and_the_cluster_goes_on(address: str) -> None:
    cluster = Cluster.of(address, {}, "here")
    with pytest.raises(InputError) as error:
        list(map_cases(test_workers.double, test_workers.items(1, 6, 2), key=("id",), cluster=cluster))
    assert error.value.found == "six"
    assert len(list(map_cases(test_workers.double, test_workers.items(1, 2), key=("id",), cluster=cluster))) == 2


def test_a_worker_that_does_not_see_the_cohort_ends_the_run_before_any_case(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "photo.png").write_bytes(b"photo")
    monkeypatch.chdir(tmp_path)
    folder = Path("/proc/self/cwd/cohort")  # another folder in every process, as with a share that is not mounted
    cluster = Cluster(address, shared=(folder,))
    rows: list[dict[str, Any]] = []
    with pytest.raises(InputError) as error:
        rows.extend(map_cases(test_workers.double, test_workers.items(1, 2), key=("id",), cluster=cluster))
    assert f"does not see {folder}" in error.value.found
    assert rows == []
    seen = Cluster(address, shared=(tmp_path / "cohort",))
    assert len(list(map_cases(test_workers.double, test_workers.items(1, 2), key=("id",), cluster=seen))) == 2


def test_a_worker_with_other_versions_ends_the_run(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "_versions", lambda: {"numpy": "1.0"})
    with pytest.raises(InputError) as error:
        list(map_cases(test_workers.double, test_workers.items(1), key=("id",), cluster=Cluster(address)))
    assert "has numpy" in error.value.found


def test_a_worker_with_two_threads_ends_the_run() -> None:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", protocol="tcp", silence_logs=50
    ) as threads:
        cluster = Cluster(threads.scheduler_address)
        with pytest.raises(InputError) as error:
            list(map_cases(test_workers.double, test_workers.items(1), key=("id",), cluster=cluster))
        dask_workers.Connection.close()
    assert "has 2 threads" in error.value.found


def test_a_worker_killed_at_work_changes_no_byte(address: str, ward: Path, tmp_path: Path) -> None:
    root = again(ward, tmp_path)
    pid = worker_pids(address)[0]
    run = begun(root, "--cluster", address)
    os.kill(pid, signal.SIGKILL)
    run.send_signal(signal.SIGCONT)
    answer, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert json.loads(answer)["steps"][-1]["counts"]["rows"] == PHOTOS
    assert table(root) == table(ward)
    assert open_artifact(features(root)).identity == open_artifact(features(ward)).identity


def test_after_ctrl_c_a_rerun_goes_on(address: str, ward: Path, tmp_path: Path) -> None:
    root = again(ward, tmp_path)
    run = begun(root, "--cluster", address)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGCONT)
    run.communicate(timeout=60)
    assert run.returncode == 130
    rest = run_here("radiomics", "-w", root, "--cluster", address, "--json")
    assert rest.returncode == 0, rest.stderr
    assert json.loads(rest.stdout)["steps"][-1]["counts"]["kept"] >= 2
    assert table(root) == table(ward)


def started(role: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A scheduler or a worker, each one process."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{role}", "--no-dashboard", *arguments]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def test_when_the_scheduler_goes_away_a_rerun_goes_on(ward: Path, tmp_path: Path) -> None:
    root, file = again(ward, tmp_path), tmp_path / "scheduler.json"
    scheduler = started("scheduler", "--port", "0", "--scheduler-file", str(file))
    worker = None
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        worker = started("worker", address, "--nthreads", "1", "--no-nanny")
        run = begun(root, "--cluster", address)
        scheduler.kill()
        run.send_signal(signal.SIGCONT)
        answer, errors = run.communicate(timeout=120)
    finally:
        for process in filter(None, (worker, scheduler)):
            process.kill()
            process.wait()
    assert run.returncode == 4, errors
    assert "went away" in json.loads(answer)["error"]["found"]
    rest = run_here("radiomics", "-w", root, "--jobs", "1", "--json")
    assert rest.returncode == 0, rest.stderr
    assert json.loads(rest.stdout)["steps"][-1]["counts"]["kept"] >= 2
    assert table(root) == table(ward)


def test_an_address_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "_CONNECT_S", 0.5)
    cluster = Cluster.of("tcp://127.0.0.1:9", {}, "here")
    with pytest.raises(InputError) as error:
        list(map_cases(test_workers.double, test_workers.items(1), key=("id",), cluster=cluster))
    assert "tcp://127.0.0.1:9" in error.value.found


def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as error:
        Cluster.of("host:8786", {}, "here")
    assert error.value.found == "--cluster host:8786"
    with pytest.raises(ConfigError) as error:
        Cluster.of("slurm", {"slurm": {"nodes": 3}}, "here")
    assert "nodes" in error.value.found
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError) as error:
        Cluster.of("tcp://host:8786", {}, "here")
    assert "pip install skinkit[cluster]" in error.value.fix


SBATCH = """#!/bin/sh
# Stands for Slurm: starts the job at once, on this machine.
cp "$1" "$0.job"
setsid sh "$0.job" >/dev/null 2>&1 &
echo $! >> "$0.pids"
echo "Submitted batch job $!"
"""


def test_slurm_jobs_are_started_and_ended(ward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = again(ward, tmp_path)
    with (root / "skinkit.toml").open("a") as settings:
        settings.write('\n[cluster.slurm]\nqueue = "short"\nmemory = "1GB"\ndirectives = ["--qos=low"]\n')
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sbatch").write_text(SBATCH)
    (programs / "scancel").write_text('#!/bin/sh\nfor job in "$@"; do kill -TERM -- -"$job"; done\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    run = run_skinkit("radiomics", "-w", root, "--cluster", "slurm", "--json")
    assert run.returncode == 0, run.stderr
    assert table(root) == table(ward)
    job = (programs / "sbatch.job").read_text()
    assert "#SBATCH -p short" in job
    assert "#SBATCH --qos=low" in job
    test_workers._await_end([int(pid) for pid in (programs / "sbatch.pids").read_text().split()])
