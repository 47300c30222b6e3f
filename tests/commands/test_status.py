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


def tree(folder: Path) -> dict[str, int]:
    """Every file and folder -> when it was changed."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def learn(workspace: Path) -> None:
    """Add a cohort to learn from, which was not read."""
    with (workspace / "skinkit.toml").open("a") as file:
        file.write('[cohorts.learn]\nrole = "development"\nsource = "folder"\npath = "../in"\n')


def plan(workspace: Path, capsys: pytest.CaptureFixture[str], *given: str) -> dict[str, str]:
    """Artifact -> why a run would make it, in order; nothing is written."""
    before = tree(workspace)
    capsys.readouterr()
    assert main(["run", "--plan", *given, "-w", str(workspace), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert tree(workspace) == before
    assert not set(answer["up_to_date"]) & {step["artifact"] for step in answer["plan"]}
    return {step["artifact"]: step["why"] for step in answer["plan"]}


def test_a_plan_names_what_is_absent_before_what_needs_it(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(workspace)
    found = plan(workspace, capsys)
    assert set(found.values()) == {"absent"}
    order = ["learn/cases", "learn/masks/otsu", "learn/features/otsu", "learn/fused/otsu", "split/grouped"]
    order += ["models/frozen_probe", "learn/predictions/frozen_probe", "report/research"]
    assert [name for name in found if name in order] == order
    assert "ward/cases" not in found


def test_a_plan_says_which_settings_sources_and_inputs_changed(
    demo_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(demo_copy, capsys) == {}
    file = demo_copy / "skinkit.toml"
    settings = file.read_text()
    file.write_text(settings + "[stage.explain]\nlimit = 3\n")
    found = plan(demo_copy, capsys)
    assert found["jinan/explanations/lightgbm"] == "changed: config (limit)"
    assert found["report/research"] == "input phantoms/explanations/lightgbm will be remade"
    assert not [name for name in found if "predictions" in name or "cases" in name]
    file.write_text(settings)
    photo = next((demo_copy / "sources" / "jinan" / "images").iterdir())
    photo.write_bytes(photo.read_bytes() + b" ")
    found = plan(demo_copy, capsys)
    assert list(found)[:4] == ["jinan/cases", "jinan/masks/otsu", "jinan/features/otsu", "jinan/fused/otsu"]
    assert "source" in found["jinan/cases"]
    assert found["jinan/masks/otsu"] == "input jinan/cases will be remade"
    assert "models/lightgbm" not in found
    assert plan(demo_copy, capsys, "--retrain").keys() >= found.keys()


def test_a_plan_tries_failed_rows_again_only_when_asked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(workspace)
    assert "ward/cases" not in plan(workspace, capsys)
    assert plan(workspace, capsys, "--retry-failed")["ward/cases"] == "1 failed rows are tried again"
