"""What a monitor reads of a workspace."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skinkit.artifacts.locks import lock, writer_of
from skinkit.cli import main

HOLD = """
import sys, time
from pathlib import Path
from skinkit.artifacts.locks import lock

with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An inference cohort of two photos, one of them torn, that was read."""
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((20, 24, 3), 99, dtype=np.uint8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:50])
    (tmp_path / "w").mkdir()
    text = '[cohorts.ward]\nrole = "inference"\nsource = "folder"\npath = "../in"\n'
    (tmp_path / "w" / "skinkit.toml").write_text(text)
    assert main(["ingest", "-w", str(tmp_path / "w")]) == 3
    return tmp_path / "w"


def status(workspace: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["status", "--failed", "-w", str(workspace), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_a_monitor_is_told_everything(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = status(workspace, capsys)
    cases = next(entry for entry in answer["artifacts"] if entry["artifact"] == "ward/cases")
    assert cases["state"] == "up to date"
    assert (cases["counts"]["rows"], cases["counts"]["ok"], cases["counts"]["failed"]) == (2, 1, 1)
    assert cases["counts"]["newly_failed"] == 1
    assert sum(cases["failed_reasons"].values()) == 1
    assert cases["failed_cases"].keys() == {"b"}
    assert 0 <= cases["age_s"] < 600
    assert cases["made_at"].startswith("20")
    assert cases["run_id"]
    assert cases["busy"] is None
    assert answer["totals"]["failed"] == answer["totals"]["newly_failed"] == 1
    assert answer["totals"]["states"]["up to date"] == 1
    assert answer["totals"]["busy"] == answer["totals"]["unfinished"] == []


def test_a_damaged_artifact_is_told_and_the_rest_too(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = workspace / "artifacts" / "ward" / "cases" / "table.parquet"
    table.write_bytes(table.read_bytes()[:-9])
    answer = status(workspace, capsys)
    states = {entry["artifact"]: entry["state"] for entry in answer["artifacts"]}
    assert states["ward/cases"] == "unusable"
    assert answer["totals"]["states"]["unusable"] == 1


def test_who_writes_is_told_and_never_disturbed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workspace / "artifacts" / "ward" / "cases"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        answer = status(workspace, capsys)
        assert answer["totals"]["busy"] == ["ward/cases"]
        assert f"process {holder.pid} on " in str(writer_of(path))
        holder.kill()
    deadline = time.monotonic() + 10
    while writer_of(path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.with_name(".cases.lock").exists(), "what a killed writer left"
    assert writer_of(path) is None
    with lock(path):
        assert writer_of(path)
