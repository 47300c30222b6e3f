"""The executor: order-free results, failures as rows, and workers that die."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from skinkit.artifacts.locks import lock
from skinkit.errors import CaseError, InputError
from skinkit.workers import map_cases


def double(item: Mapping[str, Any]) -> dict[str, Any]:
    if item["n"] == 3:
        raise CaseError("three", "is not possible")
    if item["n"] == 4:
        raise ZeroDivisionError("four")
    if item["n"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if item["n"] == 6:
        raise InputError("six", "not six", "leave it out")
    return {"id": item["id"], "twice": item["n"] * 2, "status": "ok"}


def greedy(item: Mapping[str, Any]) -> dict[str, Any]:
    if item["n"] == 3:
        raise MemoryError
    if item["n"] == 4:
        limit = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, limit[1]))
        try:
            return {"id": item["id"], "zeros": len(bytearray(8 << 30))}
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limit)
    return {"id": item["id"], "twice": item["n"] * 2, "pid": os.getpid()}


def deaf(item: Mapping[str, Any]) -> dict[str, Any]:
    if item["n"] == 3:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        re.match(r"(a+)+$", "a" * 60 + "b")  # in C, with the interpreter's lock, for longer than anybody waits
    return {"id": item["id"], "twice": item["n"] * 2}


def items(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"i{n}", "n": n} for n in numbers]


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_every_item_gives_one_row_and_failures_are_rows(jobs: int) -> None:
    rows = {row["id"]: row for row in map_cases(double, items(1, 2, 3, 4), key=("id",), jobs=jobs)}
    assert rows["i1"]["twice"] == 2
    assert rows["i2"]["twice"] == 4
    assert (rows["i3"]["status"], rows["i3"]["reason"], rows["i3"]["detail"]) == ("failed", "three", "is not possible")
    assert (rows["i4"]["reason"], rows["i4"]["detail"]) == ("internal_error", "ZeroDivisionError: four")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_case_that_kills_its_worker_is_tried_twice_and_the_others_survive(jobs: int) -> None:
    rows = {row["id"]: row for row in map_cases(double, items(1, 2, 5, 7, 8, 9), key=("id",), jobs=jobs)}
    assert len(rows) == 6
    assert (rows["i5"]["status"], rows["i5"]["reason"]) == ("failed", "worker_died")
    assert {rows[f"i{n}"]["twice"] for n in (1, 2, 7, 8, 9)} == {2, 4, 14, 16, 18}


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_case_that_needs_too_much_memory_costs_itself(jobs: int) -> None:
    rows = {row["id"]: row for row in map_cases(greedy, items(1, 2, 3, 4, 5), key=("id",), jobs=jobs)}
    assert {(rows[i]["status"], rows[i]["reason"]) for i in ("i3", "i4")} == {("failed", "out_of_memory")}
    assert {rows[f"i{n}"]["twice"] for n in (1, 2, 5)} == {2, 4, 10}
    assert (rows["i1"]["pid"] == os.getpid()) == (jobs == 0)


def test_a_case_that_hangs_ends_at_its_limit_and_the_others_survive() -> None:
    rows = {row["id"]: row for row in map_cases(deaf, items(1, 3, 2, 4), key=("id",), jobs=2, limit_s=1)}
    assert (rows["i3"]["status"], rows["i3"]["reason"]) == ("failed", "timeout")
    assert {rows[f"i{n}"]["twice"] for n in (1, 2, 4)} == {2, 4, 8}


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_an_error_of_the_whole_run_ends_it(jobs: int) -> None:
    with pytest.raises(InputError):
        list(map_cases(double, items(1, 6, 2), key=("id",), jobs=jobs))


def open_files(item: Mapping[str, Any]) -> dict[str, Any]:
    found = [os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.exists()]
    return {"id": item["id"], "found": "\n".join(found), "threads": os.environ["OMP_NUM_THREADS"]}


def test_workers_hold_no_lock_of_their_parent_and_use_one_thread(tmp_path: Path) -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    with lock(tmp_path / "artifact"):
        (file,) = tmp_path.iterdir()
        assert any(os.readlink(f) == str(file) for f in Path("/proc/self/fd").iterdir() if f.exists())
        rows = list(map_cases(open_files, items(*range(100)), key=("id",), jobs=2))
    assert sorted(row["id"] for row in rows) == sorted(f"i{n}" for n in range(100))
    assert all(row["found"] and str(file) not in row["found"] for row in rows)
    assert {row["threads"] for row in rows} == {"1"}
    assert os.environ.get("OMP_NUM_THREADS") == before


PARENT = """
import sys
from pathlib import Path
from skinkit.workers import map_cases
import time, os

def slow(item):
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(30)
    return {"id": item["id"]}

if __name__ == "__main__":
    list(map_cases(slow, [{"id": "a"}, {"id": "b"}], key=("id",), jobs=2))
"""


def _parent_of_two(script: str, folder: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A process that runs the script, and its two workers, each at a case."""
    (folder / "parent.py").write_text(script)
    seen = folder / "seen"
    seen.mkdir()
    parent = subprocess.Popen([sys.executable, str(folder / "parent.py"), str(seen)])
    deadline = time.monotonic() + 60
    while len(list(seen.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [int(p.name) for p in seen.iterdir()]
    assert len(workers) == 2
    return parent, workers


def _await_end(workers: Sequence[int]) -> None:
    deadline = time.monotonic() + 60
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in workers)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent, workers = _parent_of_two(PARENT, tmp_path)
    parent.kill()
    parent.wait()
    _await_end(workers)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_workers_that_hang_end_when_their_parent_is_told_to(number: int, code: int, tmp_path: Path) -> None:
    script = (
        "import re, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))\n"
        + PARENT.replace("time.sleep(30)", 're.match(r"(a+)+$", "a" * 60 + "b")')
        .replace("    list(", "    try:\n        list(")
        .replace("jobs=2))\n", "jobs=2))\n    except KeyboardInterrupt:\n        sys.exit(130)\n")
    )
    parent, workers = _parent_of_two(script, tmp_path)
    parent.send_signal(number)
    assert parent.wait(timeout=30) == code
    _await_end(workers)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
