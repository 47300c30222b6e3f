"""Every stage survives SIGKILL at any moment: run again, it ends with the same identity as if nothing had happened.

Three moments a stage in ``make test``, fifty in ``make test-all``.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL

import pytest
from conftest import run_skinkit

from skinkit.artifact import open_artifact, rehash
from skinkit.stages import STAGES
from skinkit.workspace import Ref, load_workspace

TARGET: dict[str, tuple[Ref, list[str]]] = {
    "ingest": (Ref("cases", "phantoms"), ["--cohort", "phantoms"]),
    "segment": (Ref("masks", "phantoms", "otsu"), ["--cohort", "phantoms"]),
    "radiomics": (Ref("features", "phantoms", "otsu"), ["--cohort", "phantoms"]),
    "fuse": (Ref("fused", "phantoms", "otsu"), ["--cohort", "phantoms"]),
    "split": (Ref("split", name="grouped"), []),
    "select": (Ref("signature", name="grouped/otsu"), []),
    "train": (Ref("models", name="lightgbm"), []),
    "predict": (Ref("predictions", "jinan", "lightgbm"), ["--cohort", "jinan"]),
    "explain": (Ref("explanations", "walk_in", "lightgbm"), ["--cohort", "walk_in"]),
    "evaluate": (Ref("metrics", "jinan", "lightgbm"), ["--external", "jinan"]),
    "report": (Ref("report", name="research"), []),
}


def test_every_stage_is_covered() -> None:
    assert list(TARGET) == list(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_three_kills(stage: str, demo_copy: Path) -> None:
    killed = kill_and_go_on(stage, demo_copy, moments=3, seed=7)
    # At least one kill must have hit the work itself, or the test has shown nothing.
    assert killed


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", STAGES)
def test_fifty_kills(stage: str, demo_copy: Path) -> None:
    assert kill_and_go_on(stage, demo_copy, moments=50, seed=11) > 5


def kill_and_go_on(stage: str, folder: Path, *, moments: int, seed: int) -> int:
    """Remove the stage's artifact, start it, kill it, run it to its end, compare; the number of kills that hit."""
    ref, options = TARGET[stage]
    path = load_workspace(folder).path(ref)
    # What is remade inside the copied workspace, undisturbed, is what every disturbed run must come to.
    shutil.rmtree(path)
    # With workers where images are decoded first, in one process elsewhere: starting workers is most of the time.
    jobs = "2" if stage == "segment" else "1"
    command = [stage, *options, "-w", str(folder), "--no-upstream", "--jobs", jobs, "--json"]
    assert run_skinkit(*command).returncode == 0
    expected = open_artifact(path)
    table = (path / "table.parquet").read_bytes()
    duration = float(expected.manifest["made"]["seconds"])
    chance = random.Random(seed)
    partial = path.with_name(path.name + ".partial")
    hits = 0
    for _ in range(moments):
        shutil.rmtree(path)
        with subprocess.Popen([sys.executable, "-m", "skinkit", *command], stdout=DEVNULL, stderr=DEVNULL) as process:
            while process.poll() is None and not partial.exists():
                time.sleep(0.002)
            time.sleep(chance.uniform(0, duration))
            running = process.poll() is None
            process.send_signal(signal.SIGKILL)
        hits += running
        answer = run_skinkit(*command)
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["exit_code"] == 0
        assert open_artifact(path).identity == expected.identity
        assert (path / "table.parquet").read_bytes() == table
        assert rehash(open_artifact(path)) == []
        assert not partial.exists()
    return hits
